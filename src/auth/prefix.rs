//! Which addresses are counted together: an IPv4 address alone, an IPv6 address with its /64. What
//! is counted is `tally`'s.

use std::net::IpAddr;

use crate::net::peer::counted_as;

/// An address or what lies around it; `width` tells families and widths apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Prefix {
    width: u8,
    bits: u128,
}

/// What an address is counted under, and how many addresses' worth each may have. An IPv6 subscriber has a /64 at least
/// and a /48 at most (RFC 6177), an IPv4 one a single address, also when a translator or tunnel stands in between.
pub(super) fn prefixes(from: Option<IpAddr>) -> impl Iterator<Item = (Prefix, u32)> {
    let (bits, widths): (u128, &'static [(u8, u32)]) =
        match from.map(|addr| counted_as(addr.to_canonical())) {
            None => (0, &[(0, 1)]),
            Some(IpAddr::V4(addr)) => (addr.to_bits().into(), &[(32, 1)]),
            Some(IpAddr::V6(addr)) => (addr.to_bits(), &[(64, 1), (56, 4), (48, 16)]),
        };
    widths.iter().map(move |&(width, share)| {
        let bits = if width > 32 {
            bits >> (128 - u32::from(width))
        } else {
            bits
        };
        (Prefix { width, bits }, share)
    })
}

/// Loopback and unix peers may be proxies that many people stand behind.
pub(super) fn is_local(from: Option<IpAddr>) -> bool {
    from.is_none_or(|addr| addr.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(addr: &str) -> Vec<(Prefix, u32)> {
        prefixes(Some(addr.parse().unwrap())).collect()
    }

    #[test]
    fn whoever_comes_through_a_translator_counts_as_the_ipv4_host() {
        for addr in [
            "::ffff:192.0.2.1",
            "64:ff9b::192.0.2.1",
            "2002:c000:201::7",
            "2001::3fff:fdfe",
        ] {
            assert_eq!(of(addr), of("192.0.2.1"), "{addr}");
        }
        assert_ne!(of("64:ff9b::192.0.2.1"), of("64:ff9b::192.0.2.2"));
    }

    #[test]
    fn nobody_is_local_by_what_an_address_embeds() {
        for addr in ["64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1"] {
            assert!(!is_local(Some(addr.parse().unwrap())), "{addr}");
        }
    }
}
