//! In which order addresses are worth trying: RFC 6724 section 6, with a policy of our own for what leads to broken
//! paths. Pure: the source address of each destination is found out before. When each is tried is `race`'s.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// An address to dial, and the one we would come from; `None`: there is no way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    /// Where to.
    pub addr: SocketAddr,
    /// From where.
    pub source: Option<IpAddr>,
}

/// Sorts the best to the front. Equals stay as they are: whoever calls has shuffled them, so that many users of one name
/// do not gather at one server. For that, too, the rule of the longest common prefix is left out.
pub fn sort(list: &mut [Destination]) {
    list.sort_by_key(|destination| Reverse(worth(destination)));
}

/// Whether an address is worth less than an ordinary one of the other family: it is tried after that, whichever family
/// is preferred.
pub fn is_weak(destination: &Destination) -> bool {
    let ordinary = Destination {
        addr: (Ipv4Addr::new(192, 0, 2, 1), 0).into(),
        source: Some(Ipv4Addr::new(192, 0, 2, 2).into()),
    };
    match destination.addr.ip().to_canonical() {
        IpAddr::V4(_) => destination.source.is_none(),
        IpAddr::V6(_) => worth(destination) < worth(&ordinary),
    }
}

/// Greater is better: reachable, scopes agree (rule 2), labels agree (5), precedence (6), smaller scope (8).
fn worth(destination: &Destination) -> (bool, bool, bool, u8, Reverse<u8>) {
    let to = destination.addr.ip().to_canonical();
    let Some(from) = destination.source else {
        return (false, false, false, 0, Reverse(u8::MAX));
    };
    let from = from.to_canonical();
    (
        true,
        scope(to) == scope(from),
        label(to) == label(from),
        precedence(to, from),
        Reverse(scope(to)),
    )
}

/// RFC 6724 section 3.1 and 3.2: 2 is the link, 5 the site, 14 the world. What is unspecified leads to loopback.
fn scope(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(v4) if matches!(v4.octets(), [0 | 127, ..] | [169, 254, ..]) => 2,
        IpAddr::V6(v6) => match v6.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] | [0xfe80..=0xfebf, ..] => 2,
            [0xfec0..=0xfeff, ..] => 5,
            _ => 14,
        },
        IpAddr::V4(_) => 14,
    }
}

/// RFC 6724 section 2.1.
fn label(ip: IpAddr) -> u8 {
    let IpAddr::V6(v6) = ip else { return 4 };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => 0,
        [0, 0, 0, 0, 0, 0, ..] => 3,
        [0x2002, ..] => 2,
        [0x2001, 0, ..] => 5,
        [0xfc00..=0xfdff, ..] => 13,
        [0xfec0..=0xfeff, ..] => 11,
        _ => 1,
    }
}

/// Ours: native IPv6 before IPv4, IPv4 before what goes through relays, and local IPv6 first where it is our own site's
/// and last where it is somebody else's.
fn precedence(to: IpAddr, from: IpAddr) -> u8 {
    let IpAddr::V6(v6) = to else { return 35 };
    match (v6.segments(), from) {
        ([0, 0, 0, 0, 0, 0, 0, 0 | 1], _) => 50,
        ([0, 0, 0, 0, 0, 0, ..] | [0xfec0..=0xfeff, ..], _) => 1,
        ([0x2002, ..], _) => 30,
        ([0x2001, 0, ..], _) => 5,
        ([0xfc00..=0xfdff, ..], IpAddr::V6(from)) if from.octets()[..6] == v6.octets()[..6] => 45,
        ([0xfc00..=0xfdff, ..], _) => 3,
        _ => 40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(to: &str, from: &str) -> Destination {
        Destination {
            addr: SocketAddr::new(to.parse().unwrap(), 6697),
            source: from.parse().ok(),
        }
    }

    fn sorted(pairs: &[(&str, &str)]) -> Vec<String> {
        let mut list: Vec<_> = pairs
            .iter()
            .map(|(to, from)| destination(to, from))
            .collect();
        sort(&mut list);
        list.iter().map(|d| d.addr.ip().to_string()).collect()
    }

    /// The IPv4 address of an ordinary host behind NAT.
    const V4: (&str, &str) = ("198.51.100.1", "192.168.0.2");

    #[test]
    fn a18_local_ipv6_is_first_at_its_own_site_and_last_elsewhere() {
        let foreign = ("fd00:1::1", "2001:db8::2");
        assert_eq!(sorted(&[foreign, V4]), ["198.51.100.1", "fd00:1::1"]);
        let other_site = ("fd00:1::1", "fd00:2::2");
        assert_eq!(sorted(&[other_site, V4]), ["198.51.100.1", "fd00:1::1"]);
        let own = ("fd00:1:0:7::1", "fd00:1:0:8::2");
        let native = ("2001:db8::1", "2001:db8::2");
        assert_eq!(
            sorted(&[V4, native, own]),
            ["fd00:1:0:7::1", "2001:db8::1", "198.51.100.1"]
        );
        for (pair, weak) in [
            (foreign, true),
            (other_site, true),
            (own, false),
            (native, false),
        ] {
            assert_eq!(is_weak(&destination(pair.0, pair.1)), weak, "{pair:?}");
        }
    }

    #[test]
    fn what_goes_through_relays_comes_after_ipv4() {
        let relayed = [
            ("2001::1", "2001:0:1::2"),
            ("2002:c000:201::1", "2002:c000:202::1"),
        ];
        assert_eq!(
            sorted(&[relayed[0], relayed[1], V4]),
            ["198.51.100.1", "2002:c000:201::1", "2001::1"]
        );
        for (to, from) in relayed {
            assert!(is_weak(&destination(to, from)), "{to}");
        }
        // From a native address a relay's has another label.
        assert!(is_weak(&destination("2002:c000:201::1", "2001:db8::2")));
    }

    #[test]
    fn what_cannot_be_reached_is_last_but_stays() {
        let gone = ("2001:db8::1", "");
        assert_eq!(sorted(&[gone, V4]), ["198.51.100.1", "2001:db8::1"]);
        assert!(is_weak(&destination("2001:db8::1", "")));
        assert!(is_weak(&destination("198.51.100.1", "")));
        assert!(!is_weak(&destination(V4.0, V4.1)));
    }

    #[test]
    fn scopes_that_differ_come_last_and_small_ones_first() {
        let link = ("fe80::1", "fe80::2");
        let native = ("2001:db8::1", "2001:db8::2");
        let crooked = ("2001:db8::3", "fe80::2");
        assert_eq!(
            sorted(&[crooked, native, link]),
            ["fe80::1", "2001:db8::1", "2001:db8::3"]
        );
        let here = ("::1", "::1");
        assert_eq!(sorted(&[native, here]), ["::1", "2001:db8::1"]);
        assert!(!is_weak(&destination("::1", "::1")));
    }

    #[test]
    fn equals_stay_as_they_were_shuffled() {
        let pairs = [
            ("2001:db8:2::1", "2001:db8::2"),
            ("2001:db8::1", "2001:db8::2"),
            ("2001:db8:1::1", "2001:db8::2"),
        ];
        let given = pairs.map(|(to, _)| to.to_owned());
        assert_eq!(sorted(&pairs), given);
    }
}
