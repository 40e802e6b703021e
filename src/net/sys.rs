//! What only some systems have. The one file of the program that may hold `unsafe`, and all it uses that for is to say
//! which kernel request and which socket option has which C type, and which descriptors were passed to us.

#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::SockRef;

use crate::config::SourceKind;

/// Bytes in the socket's send queue: for TCP what the peer has not acknowledged. `None` where the system has no such
/// request.
#[cfg(all(
    target_os = "linux",
    not(any(
        target_arch = "mips",
        target_arch = "mips64",
        target_arch = "powerpc",
        target_arch = "powerpc64",
        target_arch = "sparc64"
    ))
))]
pub(super) fn unsent(socket: BorrowedFd<'_>) -> Option<usize> {
    use rustix::ioctl::{Getter, Opcode, ioctl};
    const SIOCOUTQ: Opcode = 0x5411;
    // SAFETY: SIOCOUTQ (linux/sockios.h) writes one C int, which is what the getter holds.
    let queued: i32 = unsafe { ioctl(socket, Getter::<SIOCOUTQ, i32>::new()) }.ok()?;
    usize::try_from(queued).ok()
}

/// Bytes in the socket's send queue: this system has no request for it that we know.
#[cfg(not(all(
    target_os = "linux",
    not(any(
        target_arch = "mips",
        target_arch = "mips64",
        target_arch = "powerpc",
        target_arch = "powerpc64",
        target_arch = "sparc64"
    ))
)))]
pub(super) fn unsent(_socket: BorrowedFd<'_>) -> Option<usize> {
    None
}

/// The largest packet that is known to fit the path of a connected IPv6 socket.
pub(super) fn path_mtu(socket: BorrowedFd<'_>) -> Option<u32> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return rustix::net::sockopt::ipv6_mtu(socket).ok();
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = socket;
        None
    }
}

/// How long data may stay unacknowledged before the connection counts as dead; keepalive does not run meanwhile. Systems
/// without the option have their own, longer limits.
pub(super) fn set_user_timeout(socket: &SockRef<'_>, timeout: Duration) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_user_timeout(Some(timeout));
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (socket, timeout);
}

/// Lets an address be bound that no interface has. An error where the system has no such option, for the address would
/// not be bound.
pub(super) fn set_freebind(socket: &SockRef<'_>, is_ipv6: bool) -> std::io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return match is_ipv6 {
        true => socket.set_freebind_v6(true),
        false => socket.set_freebind_v4(true),
    };
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (socket, is_ipv6);
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// Leaves the choice of the port to `connect`, which knows the other end, so that ports do not run out. Without the option
/// they last for less connections.
pub(super) fn bind_address_no_port(socket: &SockRef<'_>) {
    #[cfg(target_os = "linux")]
    {
        const IPPROTO_IP: i32 = 0;
        const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
        // Also for IPv6 sockets.
        let _ = linux::set(socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// Which of the host's own IPv6 addresses the system is to take (RFC 5014). Where there is no such option it takes what it
/// likes.
pub(super) fn prefer_source(socket: &SockRef<'_>, kind: SourceKind) {
    #[cfg(target_os = "linux")]
    {
        const IPPROTO_IPV6: i32 = 41;
        const IPV6_ADDR_PREFERENCES: i32 = 72;
        const TEMPORARY: i32 = 1;
        const PUBLIC: i32 = 2;
        let preference = match kind {
            SourceKind::Stable => PUBLIC,
            SourceKind::Temporary => TEMPORARY,
            SourceKind::System => return,
        };
        let _ = linux::set(socket, IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, preference);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, kind);
}

/// Socket options that no crate knows.
#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::{c_int, c_void};
    use std::io;
    use std::os::fd::{AsFd, AsRawFd};

    use socket2::SockRef;

    unsafe extern "C" {
        // socklen_t is 32 bits wide on all Linux systems.
        fn setsockopt(
            fd: c_int,
            level: c_int,
            name: c_int,
            value: *const c_void,
            len: u32,
        ) -> c_int;
        #[cfg(test)]
        fn getsockopt(
            fd: c_int,
            level: c_int,
            name: c_int,
            value: *mut c_void,
            len: *mut u32,
        ) -> c_int;
    }

    const LEN: u32 = size_of::<c_int>() as u32;

    /// Sets an option whose value is one C int.
    pub(super) fn set(
        socket: &SockRef<'_>,
        level: c_int,
        name: c_int,
        value: c_int,
    ) -> io::Result<()> {
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the kernel reads `LEN` bytes from `value`, which lives until the call returns.
        match unsafe { setsockopt(fd, level, name, (&raw const value).cast(), LEN) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The same, read.
    #[cfg(test)]
    pub(super) fn get(socket: &SockRef<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
        let fd = socket.as_fd().as_raw_fd();
        let (mut value, mut len) = (0, LEN);
        // SAFETY: the kernel writes at most `len` bytes to `value`, which is as large.
        match unsafe { getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len) } {
            0 => Ok(value),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// The number of an interface given by name.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn interface_index(name: &str) -> Option<u32> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None).ok()?;
    rustix::net::netdevice::name_to_index(&socket, name).ok()
}

/// The number of an interface given by name: here it must be given by number.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn interface_index(_name: &str) -> Option<u32> {
    None
}

/// The listening socket that a descriptor is which was passed to this process, closed from now on in programs that it
/// starts. `None` when there is none of that number, or it is something else: whatever the environment says, no
/// descriptor of our own is taken for a passed one, because nothing listens yet when this is called.
pub(super) fn passed_socket(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: only asked what it is; a number that is no descriptor gives an error.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    if !SockRef::from(&borrowed).is_listener().ok()? {
        return None;
    }
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is open and a listening socket. This process has not made one yet, so it was passed, nobody else here
    // knows its number, and `systemd::Sockets` asks for each number once.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn options_that_no_crate_knows_arrive() {
        for domain in [Domain::IPV6, Domain::IPV4] {
            let Ok(socket) = Socket::new(domain, Type::STREAM, None) else {
                continue;
            };
            let socket = SockRef::from(&socket);
            bind_address_no_port(&socket);
            assert_eq!(linux::get(&socket, 0, 24).unwrap(), 1, "{domain:?}");
            if domain == Domain::IPV6 {
                for (kind, set) in [(SourceKind::Stable, 2), (SourceKind::Temporary, 1)] {
                    prefer_source(&socket, kind);
                    assert_eq!(linux::get(&socket, 41, 72).unwrap() & 3, set);
                }
            }
        }
    }
}
