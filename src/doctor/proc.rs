//! The kernel's tables under `/proc/net`, taken apart. Pure: texts come in; where they come from is `host`'s and
//! `sockets`'s. A line that is not understood is left out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One address of `/proc/net/if_inet6`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inet6 {
    pub(super) ip: Ipv6Addr,
    pub(super) device: String,
    /// How many bits it shares with all on its link.
    prefix: u8,
    flags: u8,
}

impl Inet6 {
    /// Made by privacy extensions (RFC 8981): it goes away within days.
    pub(super) fn is_temporary(&self) -> bool {
        // Of the loopback and of addresses given by hand the bit cannot be set.
        self.flags & 0x01 != 0
    }

    /// Duplicate address detection found somebody else with it.
    pub(super) fn is_duplicate(&self) -> bool {
        self.flags & 0x08 != 0
    }

    /// No longer to be used for new connections.
    pub(super) fn is_deprecated(&self) -> bool {
        self.flags & 0x20 != 0
    }

    /// Whether another address is one of its link.
    pub(super) fn has_on_link(&self, ip: Ipv6Addr) -> bool {
        let differ = (u128::from(self.ip) ^ u128::from(ip)).leading_zeros();
        self.prefix > 0 && differ >= u32::from(self.prefix)
    }

    /// Not usable yet.
    pub(super) fn is_tentative(&self) -> bool {
        self.flags & 0x40 != 0
    }
}

/// `/proc/net/if_inet6`: address, interface number, prefix length, scope, flags, interface.
pub(super) fn if_inet6(text: &str) -> Vec<Inet6> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let ip = hex_ipv6(words.next()?)?;
        let prefix = u8::from_str_radix(words.nth(1)?, 16).ok()?;
        let flags = u8::from_str_radix(words.nth(1)?, 16).ok()?;
        let device = words.next()?.to_owned();
        Some(Inet6 {
            ip,
            device,
            prefix,
            flags,
        })
    };
    text.lines().filter_map(line).collect()
}

/// A default route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) device: String,
    /// Nothing on a tunnel or a link without routers.
    pub(super) gateway: Option<IpAddr>,
    metric: u32,
}

/// The best default route of `/proc/net/ipv6_route`, those that refuse left out.
pub(super) fn default_ipv6(text: &str) -> Option<Route> {
    const REJECT: u32 = 0x0200;
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [
            destination,
            length,
            _,
            _,
            gateway,
            metric,
            _,
            _,
            flags,
            device,
        ] = words[..]
        else {
            return None;
        };
        let number = |text| u32::from_str_radix(text, 16).ok();
        let everywhere = hex_ipv6(destination)?.is_unspecified() && number(length)? == 0;
        let gateway = hex_ipv6(gateway)?;
        (everywhere && number(flags)? & REJECT == 0).then_some(Route {
            device: device.to_owned(),
            gateway: (!gateway.is_unspecified()).then_some(gateway.into()),
            metric: number(metric)?,
        })
    };
    text.lines()
        .filter_map(line)
        .min_by_key(|route| route.metric)
}

/// The IPv6 prefixes of `/proc/net/ipv6_route` that are this host's as a whole (`ip -6 route add local PREFIX dev lo`).
pub(super) fn local_prefixes(text: &str) -> Vec<(Ipv6Addr, u8)> {
    const REJECT: u32 = 0x0200;
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [destination, length, _, _, _, _, _, _, flags, "lo"] = words[..] else {
            return None;
        };
        let length = u8::from_str_radix(length, 16).ok()?;
        let usable = u32::from_str_radix(flags, 16).ok()? & REJECT == 0;
        (usable && length < 128).then_some((hex_ipv6(destination)?, length))
    };
    text.lines().filter_map(line).collect()
}

/// The best default route of `/proc/net/route`.
pub(super) fn default_ipv4(text: &str) -> Option<Route> {
    const UP: u32 = 0x0001;
    const REJECT: u32 = 0x0200;
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [device, destination, gateway, flags, _, _, metric, mask, ..] = words[..] else {
            return None;
        };
        let number = |text| u32::from_str_radix(text, 16).ok();
        let flags = number(flags)?;
        let everywhere = number(destination)? == 0 && number(mask)? == 0;
        let gateway = hex_ipv4(gateway)?;
        (everywhere && flags & UP != 0 && flags & REJECT == 0).then_some(Route {
            device: device.to_owned(),
            gateway: (!gateway.is_unspecified()).then_some(gateway.into()),
            metric: metric.parse().ok()?,
        })
    };
    text.lines()
        .filter_map(line)
        .min_by_key(|route| route.metric)
}

/// The host's own IPv4 addresses of `/proc/net/fib_trie`: leaves of which the next line says that they are local hosts.
pub(super) fn local_ipv4(text: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(ip) = line.strip_prefix("|-- ") {
            leaf = ip.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(leaf);
        }
    }
    found.sort();
    found.dedup();
    found
}

/// A socket that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) addr: SocketAddr,
    pub(super) uid: u32,
    pub(super) inode: u64,
}

/// `/proc/net/tcp` or `/proc/net/tcp6`, what listens.
pub(super) fn listening(text: &str) -> Vec<Listening> {
    const LISTEN: &str = "0A";
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (local, state) = (words.get(1)?, words.get(3)?);
        let (uid, inode) = (words.get(7)?, words.get(9)?);
        let (ip, port) = local.split_once(':')?;
        let ip: IpAddr = match ip.len() {
            8 => hex_ipv4(ip)?.into(),
            _ => hex_ipv6_words(ip)?.into(),
        };
        (*state == LISTEN).then_some(Listening {
            addr: SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?),
            uid: uid.parse().ok()?,
            inode: inode.parse().ok()?,
        })
    };
    text.lines().filter_map(line).collect()
}

/// 32 digits in the order of the address.
fn hex_ipv6(text: &str) -> Option<Ipv6Addr> {
    (text.len() == 32)
        .then(|| u128::from_str_radix(text, 16).ok().map(Ipv6Addr::from))
        .flatten()
}

/// 8 digits: the four bytes as a number of this machine.
fn hex_ipv4(text: &str) -> Option<Ipv4Addr> {
    let number = u32::from_str_radix(text, 16).ok()?;
    (text.len() == 8).then(|| number.to_ne_bytes().into())
}

/// Four times 8 digits, each four bytes as a number of this machine.
fn hex_ipv6_words(text: &str) -> Option<Ipv6Addr> {
    let mut bytes = [0; 16];
    if text.len() != 32 {
        return None;
    }
    for (n, word) in bytes.chunks_exact_mut(4).enumerate() {
        let digits = text.get(n * 8..n * 8 + 8)?;
        word.copy_from_slice(&u32::from_str_radix(digits, 16).ok()?.to_ne_bytes());
    }
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_their_flags() {
        let text = "\
20010db8000000000000000000000005 02 40 00 80     eth0
20010db80000000012345678abcdef01 02 40 00 21     eth0
fe8000000000000000fc00fffe000001 02 40 20 c0     eth0
00000000000000000000000000000001 01 80 10 80       lo
nonsense
";
        let found = if_inet6(text);
        let ips: Vec<_> = found.iter().map(|one| one.ip.to_string()).collect();
        assert_eq!(
            ips,
            [
                "2001:db8::5",
                "2001:db8::1234:5678:abcd:ef01",
                "fe80::fc:ff:fe00:1",
                "::1"
            ]
        );
        assert!(!found[0].is_temporary() && !found[0].is_tentative());
        assert!(found[1].is_temporary() && found[1].is_deprecated());
        assert!(found[2].is_tentative() && !found[2].is_duplicate());
        assert_eq!(found[3].device, "lo");
    }

    const ZERO: &str = "00000000000000000000000000000000";

    #[test]
    fn the_best_default_route_of_ipv6() {
        let reject =
            format!("{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo\n");
        assert_eq!(default_ipv6(&reject), None);
        let route = |gateway: &str, metric: &str, device: &str| {
            format!("{ZERO} 00 {ZERO} 00 {gateway} {metric} 00000002 00000000 00000003 {device}\n")
        };
        let gateway = "fe800000000000000000000000000001";
        let text = route(ZERO, "00000500", "sit1") + &route(gateway, "00000400", "eth0") + &reject;
        let best = default_ipv6(&text).unwrap();
        assert_eq!(best.device, "eth0");
        assert_eq!(best.gateway, Some("fe80::1".parse().unwrap()));
        let only = default_ipv6(&route(ZERO, "00000500", "sit1")).unwrap();
        assert_eq!((only.device.as_str(), only.gateway), ("sit1", None));
    }

    #[test]
    fn prefixes_that_are_local_as_a_whole() {
        let text = format!(
            "20010db800bb00000000000000000000 40 {ZERO} 00 {ZERO} 00000400 00000001 00000000 80000001 lo\n\
             20010db8000000000000000000000005 80 {ZERO} 00 {ZERO} 00000000 00000003 00000000 80200001 eth0\n\
             {ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200 lo\n"
        );
        let expected = ("2001:db8:bb::".parse().unwrap(), 64);
        assert_eq!(local_prefixes(&text), [expected]);
    }

    #[test]
    fn the_best_default_route_of_ipv4() {
        let word = |ip: &str| {
            let ip: Ipv4Addr = ip.parse().unwrap();
            format!("{:08X}", u32::from_ne_bytes(ip.octets()))
        };
        let gateway = word("192.0.2.1");
        let text = format!(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
             eth0\t00000000\t{gateway}\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
             wg0\t00000000\t00000000\t0001\t0\t0\t900\t00000000\t0\t0\t0\n\
             eth0\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n",
            word("192.0.2.0"),
            word("255.255.255.0"),
        );
        let best = default_ipv4(&text).unwrap();
        assert_eq!(best.device, "eth0");
        assert_eq!(best.gateway, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(default_ipv4(text.lines().next().unwrap()), None);
    }

    #[test]
    fn own_ipv4_addresses_once() {
        let text = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
           |-- 127.0.0.1
              /32 host LOCAL
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 192.0.2.2
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
Local:
           |-- 192.0.2.2
              /32 host LOCAL
";
        let ips = ["127.0.0.1", "192.0.2.2"].map(|ip| ip.parse::<Ipv4Addr>().unwrap());
        assert_eq!(local_ipv4(text), ips);
    }

    #[test]
    fn what_listens() {
        let loopback = u32::from_ne_bytes([127, 0, 0, 1]);
        let one = u32::from_ne_bytes([0, 0, 0, 1]);
        let text = format!(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: {loopback:08X}:1A29 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100\n   \
             1: {loopback:08X}:1A29 {loopback:08X}:9999 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1\n   \
             2: 000000000000000000000000{one:08X}:1A29 {ZERO}:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4713 1\n"
        );
        let found = listening(&text);
        assert_eq!(found.len(), 2, "the connection is left out");
        assert_eq!(found[0].addr, "127.0.0.1:6697".parse().unwrap());
        assert_eq!((found[0].uid, found[0].inode), (1000, 4711));
        assert_eq!(found[1].addr, "[::1]:6697".parse().unwrap());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(text in "[0-9A-Fa-f:|/. \n-]{0,300}") {
            let _ = (if_inet6(&text), default_ipv6(&text), default_ipv4(&text), local_ipv4(&text), local_prefixes(&text), listening(&text));
        }
    }
}
