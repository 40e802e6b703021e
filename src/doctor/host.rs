//! What this host is, as the kernel tells it to anybody: addresses, default routes, switches, and the source address that
//! each family would use. Judging it is the topics'.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use super::proc::{self, Inet6, Route};

/// Addresses far away (a root name server's), to ask the kernel how it would get there. Nothing is sent.
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0x7fd, 0, 0, 0, 0, 0, 1);
const FAR_V4: Ipv4Addr = Ipv4Addr::new(193, 0, 14, 129);

/// The facts.
#[derive(Debug, Clone, Default)]
pub(super) struct Host {
    /// Whether this is a system whose tables we can read.
    pub(super) has_proc: bool,
    pub(super) v6: Vec<Inet6>,
    pub(super) v4: Vec<Ipv4Addr>,
    /// IPv6 prefixes that are its own as a whole.
    pub(super) local_v6: Vec<(Ipv6Addr, u8)>,
    pub(super) default_v6: Option<Route>,
    pub(super) default_v4: Option<Route>,
    /// Where connections to far away come from.
    pub(super) source_v6: Option<Ipv6Addr>,
    pub(super) source_v4: Option<Ipv4Addr>,
}

impl Host {
    /// Looks.
    pub(super) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            has_proc: Path::new("/proc/net/tcp").exists(),
            v6: proc::if_inet6(&read("/proc/net/if_inet6")),
            v4: proc::local_ipv4(&read("/proc/net/fib_trie")),
            local_v6: proc::local_prefixes(&read("/proc/net/ipv6_route")),
            default_v6: proc::default_ipv6(&read("/proc/net/ipv6_route")),
            default_v4: proc::default_ipv4(&read("/proc/net/route")),
            source_v6: match source_towards(FAR_V6.into()) {
                Some(IpAddr::V6(ip)) => Some(ip),
                _ => None,
            },
            source_v4: match source_towards(FAR_V4.into()) {
                Some(IpAddr::V4(ip)) => Some(ip),
                _ => None,
            },
        }
    }

    /// Whether an address is this host's.
    pub(super) fn has(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V6(ip) => self.v6.iter().any(|own| own.ip == ip),
            IpAddr::V4(ip) => self.v4.contains(&ip),
        }
    }

    /// Whether an address is in a prefix that is this host's as a whole.
    pub(super) fn has_whole(&self, ip: Ipv6Addr) -> bool {
        self.local_v6.iter().any(|(prefix, length)| {
            let rest = 128 - u32::from(*length).min(128);
            let cut = |ip: Ipv6Addr| u128::from(ip).checked_shr(rest).unwrap_or(0);
            cut(ip) == cut(*prefix)
        })
    }

    /// The interface on whose link all of a prefix is: its neighbours ask there for each address of it.
    pub(super) fn link_of(&self, ip: Ipv6Addr) -> Option<&str> {
        let on_link = |own: &&Inet6| own.device != "lo" && own.has_on_link(ip);
        self.v6.iter().find(on_link).map(|own| own.device.as_str())
    }

    /// Addresses by which others can reach it: not loopback, not link-local, ready for use.
    pub(super) fn reachable(&self) -> Vec<IpAddr> {
        let v6 = self
            .v6
            .iter()
            .filter(|own| is_routed_v6(own.ip) && !own.is_tentative() && !own.is_duplicate())
            .map(|own| IpAddr::V6(own.ip));
        let v4 = self
            .v4
            .iter()
            .filter(|ip| !ip.is_loopback() && !ip.is_link_local())
            .map(|ip| IpAddr::V4(*ip));
        v6.chain(v4).collect()
    }
}

/// The source address the kernel would take.
pub(super) fn source_towards(far: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match far {
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(far, 53)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Whether an IPv6 address leads beyond the link: global or unique local.
pub(super) fn is_routed_v6(ip: Ipv6Addr) -> bool {
    is_global_v6(ip) || ip.is_unique_local()
}

/// Whether an IPv6 address is global unicast.
pub(super) fn is_global_v6(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xe000 == 0x2000
}

/// Whether an IPv4 address is of no use on the Internet: private (RFC 1918), shared (RFC 6598), link-local or loopback.
pub(super) fn is_inner_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    ip.is_private() || ip.is_loopback() || ip.is_link_local() || (a == 100 && b & 0xc0 == 64)
}

/// A number or word that the kernel shows in one file, as `/proc/sys` does.
pub(super) fn switch(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_addresses() {
        let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        assert!(is_global_v6(v6("2001:db8::1")) && is_routed_v6(v6("2001:db8::1")));
        assert!(!is_global_v6(v6("fd00::1")) && is_routed_v6(v6("fd00::1")));
        for ip in ["fe80::1", "::1", "ff02::1", "::"] {
            assert!(!is_routed_v6(v6(ip)), "{ip}");
        }
        let inner = |text: &str| is_inner_v4(text.parse().unwrap());
        for ip in [
            "10.1.2.3",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.1.1",
        ] {
            assert!(inner(ip), "{ip}");
        }
        for ip in ["100.63.0.1", "100.128.0.1", "192.0.2.1", "8.8.8.8"] {
            assert!(!inner(ip), "{ip}");
        }
    }

    #[test]
    fn a_whole_prefix() {
        let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        let host = Host {
            local_v6: vec![(v6("2001:db8:bb::"), 64)],
            ..Host::default()
        };
        assert!(host.has_whole(v6("2001:db8:bb::1234:5678")));
        assert!(!host.has_whole(v6("2001:db8:bc::1")));
    }

    #[test]
    fn loopback_is_reached_from_loopback() {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert_eq!(source_towards(ip), Some(ip));
    }
}
