//! Sockets that systemd opened and passed on (sd_listen_fds(3)). They are taken as they come: what they are is read, and
//! nothing of it is changed. Which listener takes which of them is `plan`'s, accepting on them `listen`'s.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::LazyLock;

use socket2::{SockRef, Type};

use super::sys;

/// The first descriptor that is passed.
const FIRST: i32 = 3;
/// What a socket is called when systemd says no names.
const UNNAMED: &str = "unknown";

/// A socket that was passed, as the plan sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Its place in the list.
    pub number: usize,
    /// Its `FileDescriptorName=`.
    pub name: String,
    /// Its address, a mapped one made canonical; `None` for a unix socket.
    pub addr: Option<SocketAddr>,
    /// Whether IPv4 clients reach it too, though its address is IPv6.
    pub is_dual: bool,
}

/// All sockets that were passed to this process. They stay open as long as it lives, because systemd has them too: a
/// reload that takes one again finds it here.
#[derive(Debug, Default)]
pub struct Sockets {
    list: Vec<(Passed, OwnedFd)>,
}

impl Sockets {
    /// Those of this process.
    pub fn of_process() -> &'static Self {
        static TAKEN: LazyLock<Sockets> = LazyLock::new(|| {
            let variable = |name: &str| env::var(name).ok();
            let Some(names) = names(variable, rustix::process::getpid().as_raw_nonzero().get())
            else {
                return Sockets::default();
            };
            let first = FIRST;
            let fds = (first..).zip(names);
            // A descriptor that is no listening socket is somebody else's and stays alone.
            Sockets::new(fds.filter_map(|(fd, name)| Some((name, sys::passed_socket(fd)?))))
        });
        &TAKEN
    }

    /// These, with their names.
    pub fn new(sockets: impl Iterator<Item = (String, OwnedFd)>) -> Self {
        let mut list: Vec<(Passed, OwnedFd)> = Vec::new();
        for (name, fd) in sockets {
            let socket = SockRef::from(&fd);
            if !socket.r#type().is_ok_and(|kind| kind == Type::STREAM) {
                tracing::warn!("the socket \"{name}\" from systemd is no stream: it is left alone");
                continue;
            }
            let addr = socket.local_addr().ok().and_then(|addr| addr.as_socket());
            let passed = Passed {
                number: list.len(),
                name,
                addr: addr.map(canonical),
                // Where it is another system's socket or a unix one, the option cannot be read.
                is_dual: addr.is_some_and(|addr| takes_both(addr, &socket)),
            };
            list.push((passed, fd));
        }
        Self { list }
    }

    /// What was passed.
    pub fn all(&self) -> impl Iterator<Item = &Passed> {
        self.list.iter().map(|(passed, _)| passed)
    }

    /// A descriptor of one of them, beside the one that is kept.
    pub fn take(&self, number: usize) -> io::Result<OwnedFd> {
        let (_, fd) = self.list.get(number).ok_or(io::ErrorKind::NotFound)?;
        fd.as_fd().try_clone_to_owned()
    }
}

/// Only a wildcard can stand for both families; a mapped address is IPv4 alone.
fn takes_both(addr: SocketAddr, socket: &SockRef<'_>) -> bool {
    addr.is_ipv6() && addr.ip().is_unspecified() && socket.only_v6().is_ok_and(|only| !only)
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(addr.ip().to_canonical(), addr.port())
        }
        other => other,
    }
}

/// The names of what was passed to the process `pid`; `None`: nothing was, or not to this one.
fn names(variable: impl Fn(&str) -> Option<String>, pid: i32) -> Option<Vec<String>> {
    if variable("LISTEN_PID")?.parse() != Ok(pid) {
        return None;
    }
    let count: u16 = variable("LISTEN_FDS")?.parse().ok()?;
    let told = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = told.split(':').filter(|_| !told.is_empty());
    let name = |_| names.next().unwrap_or(UNNAMED).to_owned();
    Some((0..count).map(name).collect())
}

impl Passed {
    /// Whether it goes by a name: its own, or that of its socket unit, whose ending may be left out.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.name.strip_suffix(".socket") == Some(name)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use socket2::{Domain, SockAddr, Socket};

    use super::*;

    fn names_of(variables: &[(&str, &str)]) -> Option<Vec<String>> {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        names(find, 42)
    }

    #[test]
    fn only_what_was_passed_to_this_process_is_taken() {
        let (pid, fds) = (("LISTEN_PID", "42"), ("LISTEN_FDS", "2"));
        let both = Some(vec!["irc".to_owned(), "local".to_owned()]);
        assert_eq!(names_of(&[pid, fds, ("LISTEN_FDNAMES", "irc:local")]), both);
        let unnamed = Some(vec!["unknown".to_owned(); 2]);
        assert_eq!(names_of(&[pid, fds]), unnamed);
        assert_eq!(names_of(&[pid, fds, ("LISTEN_FDNAMES", "")]), unnamed);
        for wrong in [
            &[fds][..],
            &[pid],
            &[("LISTEN_PID", "41"), fds],
            &[("LISTEN_PID", "me"), fds],
            &[pid, ("LISTEN_FDS", "-1")],
            &[pid, ("LISTEN_FDS", "99999999")],
        ] {
            assert_eq!(names_of(wrong), None, "{wrong:?}");
        }
    }

    fn wildcard(only_v6: bool) -> OwnedFd {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(only_v6).unwrap();
        let addr: SocketAddr = "[::]:0".parse().unwrap();
        socket.bind(&SockAddr::from(addr)).unwrap();
        socket.listen(1).unwrap();
        socket.into()
    }

    #[test]
    fn what_a_socket_is_is_read_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(folder.path().join("a")).unwrap();
        let datagram = UnixDatagram::bind(folder.path().join("b")).unwrap();
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let mapped = TcpListener::bind("[::ffff:127.0.0.1]:0").unwrap();
        let sockets: [(&str, OwnedFd); 6] = [
            ("dual", wildcard(false)),
            ("six", wildcard(true)),
            ("datagram", datagram.into()),
            ("unix", unix.into()),
            ("four", v4.into()),
            ("mapped", mapped.into()),
        ];
        let sockets = Sockets::new(sockets.into_iter().map(|(name, fd)| (name.to_owned(), fd)));
        let seen: Vec<_> = sockets
            .all()
            .map(|one| {
                let ip = one.addr.map(|addr| addr.ip().to_string());
                (one.name.as_str(), ip.unwrap_or_default(), one.is_dual)
            })
            .collect();
        let expected = [
            ("dual", "::", true),
            ("six", "::", false),
            ("unix", "", false),
            ("four", "127.0.0.1", false),
            ("mapped", "127.0.0.1", false),
        ];
        assert_eq!(
            seen,
            expected.map(|(name, ip, dual)| (name, ip.to_owned(), dual))
        );
        assert!(sockets.take(4).is_ok() && sockets.take(5).is_err());
    }

    #[test]
    fn the_ending_of_a_units_name_may_be_left_out() {
        let passed = Passed {
            number: 0,
            name: "carom.socket".into(),
            addr: None,
            is_dual: false,
        };
        assert!(passed.is_called("carom") && passed.is_called("carom.socket"));
        assert!(!passed.is_called("caro") && !passed.is_called("socket"));
    }
}
