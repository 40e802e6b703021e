//! Which addresses are internal: where a user who does not administer this host must not make us connect to. Judged on
//! the very address that is dialled, after the look-up, so that no spelling and no name gets around it. Fail closed:
//! what is not known to be out in the Internet is internal.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::nat64::Prefix;

/// Ports below 1024 that IRC has.
const IRC_PORTS: [u16; 2] = [194, 994];

/// Why an address must not be reached, if so. `translators` are the NAT64 prefixes that this network is known to have:
/// an address in one of them is the IPv4 host behind it.
pub fn refusal(addr: SocketAddr, translators: &[Prefix]) -> Option<&'static str> {
    if addr.port() < 1024 && !IRC_PORTS.contains(&addr.port()) {
        return Some("the port is reserved for other services");
    }
    internal(addr.ip(), translators)
}

/// What kind of internal address this is; `None`: it is out in the Internet.
pub fn internal(ip: IpAddr, translators: &[Prefix]) -> Option<&'static str> {
    match ip.to_canonical() {
        IpAddr::V4(v4) => internal_v4(v4),
        IpAddr::V6(v6) => internal_v6(v6, translators),
    }
}

fn internal_v4(ip: Ipv4Addr) -> Option<&'static str> {
    Some(match ip.octets() {
        [0, ..] => "\"this network\"",
        [127, ..] => "loopback",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "private",
        [100, 64..=127, ..] => "shared by a provider",
        [169, 254, ..] => "link-local",
        [192, 0, 0, _] => "for protocols",
        [192, 88, 99, _] => "a relay",
        [198, 18 | 19, ..] => "for benchmarks",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "for documentation",
        [224..=239, ..] => "multicast",
        [240..=255, ..] => "reserved",
        _ => return None,
    })
}

fn internal_v6(ip: Ipv6Addr, translators: &[Prefix]) -> Option<&'static str> {
    if let Some(behind) = translators.iter().find_map(|prefix| prefix.extract(ip)) {
        return internal_v4(behind);
    }
    let bits = u128::from(ip);
    Some(match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => "unspecified",
        [0, 0, 0, 0, 0, 0, 0, 1] => "loopback",
        // IPv4 in the low half: translators that everybody may have.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => return internal_v4(Ipv4Addr::from(bits as u32)),
        [0x64, 0xff9b, 1, ..] => return behind_local_translator(ip),
        [0x2002, ..] => return internal_v4(Ipv4Addr::from((bits >> 80) as u32)),
        [0xfc00..=0xfdff, ..] => "private",
        [0xfe80..=0xfebf, ..] => "link-local",
        [0xfec0..=0xfeff, ..] => "site-local",
        [0xff00..=0xffff, ..] => "multicast",
        [0x2001, 0, ..] => "Teredo, which may lead anywhere",
        [0x2001, 0x1..=0x1ff, ..] => "for protocols",
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => "for documentation",
        [0x2000..=0x3fff, ..] => return None,
        _ => "not global",
    })
}

/// RFC 8215: a prefix of 48 to 96 bits, which we cannot know. Whatever could be meant is judged; a host in 0.0.0.0/8
/// cannot be meant.
fn behind_local_translator(ip: Ipv6Addr) -> Option<&'static str> {
    let mut meant = [48, 56, 64, 96]
        .into_iter()
        .map(|length| Prefix::of(ip, length).read(ip))
        .filter(|v4| v4.octets()[0] != 0)
        .peekable();
    if meant.peek().is_none() {
        return Some("\"this network\"");
    }
    meant.find_map(internal_v4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REFUSED: &[&str] = &[
        // Loopback, unspecified, and what IPv4 spells them as.
        "127.0.0.1",
        "127.1.2.3",
        "127.255.255.255",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
        "::127.0.0.1",
        "::2",
        "::8.8.8.8",
        // Private, shared, link-local.
        "10.0.0.1",
        "10.255.255.255",
        "172.16.0.1",
        "172.31.255.254",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.255.255",
        "169.254.169.254",
        "fc00::1",
        "fd12:3456:789a::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "feff::1",
        "::ffff:10.0.0.1",
        "::ffff:192.168.0.1",
        "::ffff:169.254.169.254",
        "::ffff:100.64.0.1",
        "fd00:ec2::254",
        // Protocols, benchmarks, documentation, multicast, reserved.
        "192.0.0.1",
        "192.0.0.170",
        "192.88.99.1",
        "198.18.0.1",
        "198.19.255.255",
        "192.0.2.1",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.1.2.3",
        "240.0.0.1",
        "255.255.255.255",
        "2001:db8::1",
        "3fff::1",
        "3fff:fff::1",
        "ff02::1",
        "ff0e::1",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "100::1",
        "5f00::1",
        "4000::1",
        "::ffff:0:127.0.0.1",
        // IPv4 inside of IPv6.
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::192.168.0.1",
        "64:ff9b:1:a00:0:100::",
        "64:ff9b:1:7f00:0:100:808:808",
        "64:ff9b:1::",
        "2002:7f00:1::1",
        "2002:a00:1::",
        "2002:c0a8:101::1",
        "2002::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001::1",
        "64:ff9b:2::1",
        // Behind the translator of this network.
        "2a00:64::127.0.0.1",
        "2a00:64::192.168.7.7",
    ];
    const ALLOWED: &[&str] = &[
        "8.8.8.8",
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.1.1",
        "172.15.255.255",
        "172.32.0.1",
        "192.0.1.1",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.1",
        "223.255.255.255",
        "2000::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2a00:1450::1",
        "2003::1",
        "3ffe::1",
        "3fff:1000::1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::8.8.8.8",
        "64:ff9b:1:808:8:800::",
        "2002:808:808::1",
        "::ffff:8.8.8.8",
        "2a00:64::8.8.8.8",
    ];

    fn translator() -> Prefix {
        Prefix::of("2a00:64::".parse().unwrap(), 96)
    }

    #[test]
    fn internal_addresses_are_refused_in_every_form() {
        assert!(REFUSED.len() >= 60);
        for text in REFUSED {
            let ip = text.parse().unwrap();
            assert!(internal(ip, &[translator()]).is_some(), "{text}");
        }
        for text in ALLOWED {
            let ip = text.parse().unwrap();
            assert_eq!(internal(ip, &[translator()]), None, "{text}");
        }
    }

    #[test]
    fn ports_of_other_services_are_refused() {
        let with = |port| refusal(SocketAddr::new("8.8.8.8".parse().unwrap(), port), &[]);
        for port in [0, 1, 22, 25, 80, 443, 993, 995, 1023] {
            assert!(with(port).is_some(), "{port}");
        }
        for port in [194, 994, 1024, 6667, 6697, 65535] {
            assert_eq!(with(port), None, "{port}");
        }
    }

    proptest! {
        #[test]
        fn ipv4_is_judged_alike_however_it_is_wrapped(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let bare = internal(v4.into(), &[]).is_some();
            let low = u128::from(bits);
            let wrapped = [
                0xffff_u128 << 32 | low,
                0x64_ff9b_u128 << 96 | low,
                0x2002_u128 << 112 | low << 80,
            ];
            for bits in wrapped {
                prop_assert_eq!(internal(Ipv6Addr::from(bits).into(), &[]).is_some(), bare);
            }
            let translated = translator().embed(v4).map(|ip| internal(ip.into(), &[translator()]).is_some());
            prop_assert!(translated.is_none_or(|refused| refused == bare));
        }

        #[test]
        fn outside_of_global_unicast_there_is_only_the_well_known_translator(bits: u128) {
            let ip = Ipv6Addr::from(bits);
            if internal(ip.into(), &[]).is_none() {
                let [first, second, ..] = ip.segments();
                let mapped = ip.to_ipv4_mapped().is_some();
                prop_assert!(mapped || (0x2000..=0x3fff).contains(&first) || (first, second) == (0x64, 0xff9b));
            }
        }
    }
}
