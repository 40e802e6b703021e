//! Who is at the other end: one type whose address is canonical from the moment it enters the program, and the keys under
//! which its connections are counted. Access lists and the counting itself are `auth`'s.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One of the two versions of IP. Which of them is wanted first is `config::Family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    /// IPv6
    V6,
    /// IPv4
    V4,
}

impl IpVersion {
    /// Of an address; a mapped one is IPv4.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::V6 => Self::V4,
            Self::V4 => Self::V6,
        }
    }
}

impl fmt::Display for IpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6 => "IPv6",
            Self::V4 => "IPv4",
        })
    }
}

/// The other end of an accepted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// TCP.
    Ip {
        /// The address, canonical: never a mapped one.
        ip: IpAddr,
        /// The interface of a link-local address, else 0.
        scope: u32,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Unix {
        /// The user at the other end, where the system tells.
        uid: Option<u32>,
    },
}

impl Peer {
    /// The peer of an accepted TCP connection.
    pub fn from_accept(addr: SocketAddr) -> Self {
        let ip = addr.ip().to_canonical();
        let scope = match addr {
            SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => v6.scope_id(),
            _ => 0,
        };
        Self::Ip {
            ip,
            scope,
            port: addr.port(),
        }
    }

    /// The address of a TCP peer.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip { ip, .. } => Some(*ip),
            Self::Unix { .. } => None,
        }
    }

    /// Whether the peer is on this machine: loopback or a unix socket.
    pub fn is_local(&self) -> bool {
        self.ip().is_none_or(is_loopback)
    }

    /// Under which keys the peer's connections count, each with the factor its limit is multiplied by: IPv4 by address,
    /// IPv6 by /64 (1), /56 (4) and /48 (16). Nothing for unix sockets.
    pub fn limit_keys(&self) -> impl Iterator<Item = (LimitKey, usize)> + use<> {
        let keys = match self.ip().map(counted_as) {
            None => [None; 3],
            Some(IpAddr::V4(ip)) => [
                Some((
                    LimitKey {
                        prefix: ip.into(),
                        length: 32,
                    },
                    1,
                )),
                None,
                None,
            ],
            Some(IpAddr::V6(ip)) => {
                [(64, 1), (56, 4), (48, 16)].map(|(length, n)| Some((LimitKey::of(ip, length), n)))
            }
        };
        keys.into_iter().flatten()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ip {
                ip: IpAddr::V6(ip),
                scope,
                port,
            } if scope != 0 => {
                write!(f, "[{ip}%{scope}]:{port}")
            }
            Self::Ip { ip, port, .. } => SocketAddr::new(ip, port).fmt(f),
            Self::Unix { uid: Some(uid) } => write!(f, "unix:uid={uid}"),
            Self::Unix { uid: None } => f.write_str("unix"),
        }
    }
}

/// A prefix that counts as one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitKey {
    /// Its address; host bits are zero.
    pub prefix: IpAddr,
    /// Its length in bits.
    pub length: u8,
}

impl LimitKey {
    fn of(ip: Ipv6Addr, length: u8) -> Self {
        let kept = u128::MAX << (128 - u32::from(length));
        Self {
            prefix: Ipv6Addr::from(u128::from(ip) & kept).into(),
            length,
        }
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.prefix, self.length)
    }
}

/// Whether an address is this machine's, in either family and also when mapped.
pub fn is_loopback(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip == Ipv6Addr::LOCALHOST,
    }
}

/// The IPv4 host behind a translator, 6to4 or Teredo address, for counting alone: nothing is ever granted by it.
pub fn counted_as(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let bits = u128::from(v6);
    let low = Ipv4Addr::from(bits as u32);
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => low.into(),
        // RFC 6052 section 2.2: with a /48 prefix the address is split around bits 64 to 71 and the rest is zero.
        [0x64, 0xff9b, 1, ..] if bits & ((1 << 40) - 1) == 0 => {
            Ipv4Addr::from(((bits >> 64) as u32) << 16 | ((bits >> 40) as u32 & 0xffff)).into()
        }
        [0x64, 0xff9b, 1, ..] => low.into(),
        [0x2002, ..] => Ipv4Addr::from((bits >> 80) as u32).into(),
        [0x2001, 0, ..] => Ipv4Addr::from(!u32::from(low)).into(),
        _ => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(addr: &str) -> Peer {
        Peer::from_accept(addr.parse().unwrap())
    }

    fn keys(addr: &str) -> Vec<String> {
        peer(&format!("[{addr}]:1"))
            .limit_keys()
            .map(|(key, n)| format!("{key} x{n}"))
            .collect()
    }

    #[test]
    fn a_mapped_address_becomes_ipv4_at_the_door() {
        let peer = peer("[::ffff:192.0.2.1]:4000");
        assert_eq!(peer.ip(), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(peer.to_string(), "192.0.2.1:4000");
    }

    #[test]
    fn the_scope_is_kept_for_link_local_addresses_only() {
        assert_eq!(peer("[fe80::1%3]:5").to_string(), "[fe80::1%3]:5");
        assert_eq!(peer("[2001:db8::1%3]:5").to_string(), "[2001:db8::1]:5");
    }

    #[test]
    fn only_true_loopback_is_local() {
        for local in [
            "[::1]:1",
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(peer(local).is_local(), "{local}");
        }
        let strangers = [
            "[64:ff9b::7f00:1]:1",
            "[2002:7f00:1::]:1",
            "[::127.0.0.1]:1",
            "10.0.0.1:1",
            "[::]:1",
        ];
        for stranger in strangers {
            assert!(!peer(stranger).is_local(), "{stranger}");
        }
        assert!(Peer::Unix { uid: None }.is_local());
    }

    #[test]
    fn ipv6_counts_by_nested_prefixes() {
        let expected = [
            "2001:db8:1:2345::/64 x1",
            "2001:db8:1:2300::/56 x4",
            "2001:db8:1::/48 x16",
        ];
        assert_eq!(keys("2001:db8:1:2345:6789:abcd:ef01:2345"), expected);
        assert_eq!(Peer::Unix { uid: Some(0) }.limit_keys().count(), 0);
    }

    #[test]
    fn embedded_ipv4_counts_as_the_ipv4_host() {
        for addr in [
            "::ffff:192.0.2.1",
            "64:ff9b::192.0.2.1",
            "64:ff9b:1::192.0.2.1",
            "64:ff9b:1:c000:2:100::",
            "2002:c000:201::5",
            "2001:0:1:2:3:4:3fff:fdfe",
        ] {
            assert_eq!(keys(addr), ["192.0.2.1/32 x1"], "{addr}");
        }
    }

    proptest! {
        #[test]
        fn nobody_ever_sees_a_mapped_address(bits: u128, port: u16) {
            let peer = Peer::from_accept(SocketAddr::new(Ipv6Addr::from(bits).into(), port));
            let ip = peer.ip().unwrap();
            prop_assert_eq!(ip, ip.to_canonical());
        }

        #[test]
        fn addresses_of_one_64_share_every_key(high: u64, a: u64, b: u64) {
            // Prefixes that embed IPv4 in their lower half are counted by that instead.
            prop_assume!(high >> 48 != 0x64 && high >> 32 != 0x2001_0000 && high != 0);
            let of = |low: u64| {
                let ip = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
                Peer::from_accept(SocketAddr::new(ip.into(), 1)).limit_keys().collect::<Vec<_>>()
            };
            prop_assert_eq!(of(a), of(b));
        }
    }
}
