//! Who may come in by address (`server.allow`, `server.deny`) and whose word about others is believed
//! (`server.proxies`). Pure: it judges peers, canonical as they are; how many come how fast is `auth`'s.

use std::net::IpAddr;

use super::peer::Peer;
use crate::config::{Ranges, Server};

/// The lists of one configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    allow: Ranges,
    deny: Ranges,
    proxies: Ranges,
}

/// What is done with a connection before anything is read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It is closed.
    Refused,
    /// It is who it is.
    Direct,
    /// It must say in a PROXY header, or as a web client's proxy in HTTP, whom it speaks for.
    Proxied,
}

impl Access {
    /// As the configuration has it.
    pub fn new(server: &Server) -> Self {
        Self {
            allow: server.allow.clone(),
            deny: server.deny.clone(),
            proxies: server.proxies.clone(),
        }
    }

    /// Judges the address that a connection came from. A proxy need not be in `allow`: whom it speaks for has to be.
    pub fn entry(&self, peer: &Peer) -> Entry {
        let is_proxy = peer.ip().is_some_and(|ip| self.proxies.contains(ip));
        match (is_proxy, self.admits(peer)) {
            (true, _) if !self.denies(peer) => Entry::Proxied,
            (false, true) => Entry::Direct,
            _ => Entry::Refused,
        }
    }

    /// Whether a client may come in. Unix sockets always may: their mode says who.
    pub fn admits(&self, peer: &Peer) -> bool {
        let Some(ip) = peer.ip() else { return true };
        !self.denies(peer) && (self.allow.is_empty() || self.allow.contains(ip))
    }

    /// Whom the nearest proxy speaks for, when each of a row of them has added whom it had before it: the last who is
    /// no proxy of ours. What stands in front of it, anybody could have written.
    pub fn client_of(&self, forwarded: &[IpAddr]) -> Option<IpAddr> {
        let is_client = |ip: &&IpAddr| !self.proxies.contains(**ip);
        let client = forwarded.iter().rev().find(is_client);
        client.or_else(|| forwarded.first()).copied()
    }

    fn denies(&self, peer: &Peer) -> bool {
        peer.ip()
            .is_some_and(|ip| is_compatible(ip) || self.deny.contains(ip))
    }
}

/// `::192.0.2.1`, long deprecated: no host has such an address, so whoever comes from one hides something.
fn is_compatible(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V6(ip) => ip.to_bits() >> 32 == 0 && ip.to_bits() > 1,
        IpAddr::V4(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;

    fn ranges(words: &str) -> Ranges {
        let mut ranges = Ranges::default();
        for word in words.split_whitespace() {
            ranges.add(word).unwrap();
        }
        ranges
    }

    fn access(allow: &str, deny: &str, proxies: &str) -> Access {
        Access {
            allow: ranges(allow),
            deny: ranges(deny),
            proxies: ranges(proxies),
        }
    }

    fn peer(ip: &str) -> Peer {
        Peer::from_accept(SocketAddr::new(ip.parse().unwrap(), 4000))
    }

    /// Each row: allow, deny, who comes, whether he gets in.
    #[rustfmt::skip] // a table: one row on one line
    const TABLE: &[(&str, &str, &str, bool)] = &[
        ("", "", "192.0.2.1", true),
        ("", "", "2001:db8::1", true),
        ("", "", "::ffff:192.0.2.1", true),
        ("all", "", "192.0.2.1", true),
        ("all", "", "2001:db8::1", true),
        ("::ffff:127.0.0.0/104", "", "127.0.0.1", true),
        ("::ffff:127.0.0.0/104", "", "::ffff:127.0.0.1", true),
        ("::ffff:127.0.0.0/104", "", "::1", false),
        ("::ffff:127.0.0.0/104", "", "128.0.0.1", false),
        ("127.0.0.0/8", "", "127.0.0.1", true),
        ("127.0.0.0/8", "", "::ffff:127.3.2.1", true),
        ("127.0.0.0/8", "", "::1", false),
        ("127.0.0.0/8", "", "192.0.2.1", false),
        ("127.0.0.0/8 ::1", "", "::1", true),
        ("::/0", "", "2001:db8::1", true),
        ("::/0", "", "192.0.2.1", false),
        ("::/0", "", "::ffff:192.0.2.1", false),
        ("0.0.0.0/0", "", "192.0.2.1", true),
        ("0.0.0.0/0", "", "::ffff:192.0.2.1", true),
        ("0.0.0.0/0", "", "2001:db8::1", false),
        ("::ffff:0:0/96", "", "192.0.2.1", true),
        ("::ffff:0:0/96", "", "2001:db8::1", false),
        ("loopback", "", "::1", true),
        ("loopback", "", "127.9.9.9", true),
        ("loopback", "", "64:ff9b::7f00:1", false),
        ("loopback", "", "2002:7f00:1::", false),
        ("private", "", "10.1.2.3", true),
        ("private", "", "fd12::1", true),
        ("private", "", "192.0.2.1", false),
        ("private", "", "::1", false),
        ("link-local", "", "fe80::1", true),
        ("link-local", "", "169.254.1.1", true),
        ("link-local", "", "10.0.0.1", false),
        ("", "192.0.2.0/24", "192.0.2.1", false),
        ("", "192.0.2.0/24", "::ffff:192.0.2.1", false),
        ("", "192.0.2.0/24", "192.0.3.1", true),
        ("", "::ffff:192.0.2.0/120", "192.0.2.1", false),
        ("", "2001:db8::/32", "2001:db8::1", false),
        ("", "2001:db8::/32", "2001:db9::1", true),
        ("", "::/0", "192.0.2.1", true),
        ("", "::/0", "::1", false),
        ("", "0.0.0.0/0", "2001:db8::1", true),
        ("", "0.0.0.0/0", "192.0.2.1", false),
        ("", "all", "192.0.2.1", false),
        ("", "all", "::1", false),
        ("192.0.2.0/24", "192.0.2.128/25", "192.0.2.127", true),
        ("192.0.2.0/24", "192.0.2.128/25", "192.0.2.128", false),
        ("192.0.2.128/25", "192.0.2.0/24", "192.0.2.128", false),
        ("192.0.2.1", "192.0.2.1", "192.0.2.1", false),
        ("all", "all", "192.0.2.1", false),
        ("192.0.2.0/24 2001:db8::/32", "", "2001:db8::7", true),
        ("192.0.2.0/24 2001:db8::/32", "", "192.0.2.7", true),
        ("192.0.2.0/24 2001:db8::/32", "", "198.51.100.7", false),
        ("", "", "::192.0.2.1", false),
        ("all", "", "::127.0.0.1", false),
        ("loopback", "", "::2", false),
    ];

    #[test]
    fn lists_let_in_and_keep_out_and_deny_wins() {
        for (allow, deny, who, gets_in) in TABLE {
            let access = access(allow, deny, "");
            assert_eq!(
                access.admits(&peer(who)),
                *gets_in,
                "{allow:?} {deny:?} {who}"
            );
            let expected = if *gets_in {
                Entry::Direct
            } else {
                Entry::Refused
            };
            assert_eq!(
                access.entry(&peer(who)),
                expected,
                "{allow:?} {deny:?} {who}"
            );
        }
    }

    #[test]
    fn unix_sockets_are_always_let_in() {
        let nobody = access("192.0.2.1", "all", "all");
        for uid in [None, Some(1000)] {
            assert!(nobody.admits(&Peer::Unix { uid }));
            assert_eq!(nobody.entry(&Peer::Unix { uid }), Entry::Direct);
        }
    }

    #[test]
    fn a_proxy_has_to_be_listed_and_must_not_be_denied() {
        let rows = [
            ("", "", "192.0.2.1", "192.0.2.1", Entry::Proxied),
            ("", "", "192.0.2.1", "192.0.2.2", Entry::Direct),
            ("", "", "loopback", "::1", Entry::Proxied),
            ("", "", "::ffff:127.0.0.0/104", "127.0.0.1", Entry::Proxied),
            (
                "2001:db8::/32",
                "",
                "192.0.2.1",
                "192.0.2.1",
                Entry::Proxied,
            ),
            (
                "2001:db8::/32",
                "",
                "192.0.2.1",
                "192.0.2.2",
                Entry::Refused,
            ),
            ("", "192.0.2.0/24", "192.0.2.1", "192.0.2.1", Entry::Refused),
        ];
        for (allow, deny, proxies, who, expected) in rows {
            assert_eq!(
                access(allow, deny, proxies).entry(&peer(who)),
                expected,
                "{who}"
            );
        }
    }

    #[test]
    fn a_client_is_the_last_that_is_no_proxy() {
        let access = access("", "", "loopback 10.0.0.0/8");
        let rows: [(&[&str], Option<&str>); 6] = [
            (&[], None),
            (&["192.0.2.1"], Some("192.0.2.1")),
            (&["192.0.2.1", "10.0.0.1", "::1"], Some("192.0.2.1")),
            (
                &["203.0.113.9", "2001:db8::1", "10.0.0.1"],
                Some("2001:db8::1"),
            ),
            (&["192.0.2.1", "203.0.113.9"], Some("203.0.113.9")),
            (&["10.0.0.2", "10.0.0.1"], Some("10.0.0.2")),
        ];
        for (forwarded, expected) in rows {
            let ips: Vec<IpAddr> = forwarded.iter().map(|ip| ip.parse().unwrap()).collect();
            let client = access.client_of(&ips).map(|ip| ip.to_string());
            assert_eq!(client.as_deref(), expected, "{forwarded:?}");
        }
    }

    proptest! {
        #[test]
        fn nobody_who_is_denied_gets_in(ip: u128, length in 96u32..=128) {
            let ip = std::net::Ipv6Addr::from_bits(ip);
            let who = Peer::from_accept(SocketAddr::new(ip.into(), 1));
            let range = format!("{ip}/{length}");
            prop_assert!(!access("all", &range, "").admits(&who));
            prop_assert!(!access(&range, &range, "").admits(&who));
            prop_assert_eq!(access("", &range, &range).entry(&who), Entry::Refused);
        }
    }
}
