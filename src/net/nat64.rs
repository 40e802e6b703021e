//! IPv4 servers from hosts that have IPv6 alone: finding the translator's prefix by DNS (RFC 7050) and putting IPv4
//! addresses into it (RFC 6052). Whether that is called for is `lookup`'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::peer::IpVersion;
use super::resolve::Resolve;

/// The name that has IPv4 addresses alone: an IPv6 one can only come from a translator.
const WELL_KNOWN: &str = "ipv4only.arpa";
/// Its addresses.
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];
/// The lengths a prefix may have, the usual one first.
const LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];
/// How long an answer, also that there is none, is good for.
const GOOD_FOR: Duration = Duration::from_secs(600);

/// How long an answer is waited for. Where there is a translator, its name servers are near.
const PATIENCE: Duration = Duration::from_secs(5);

/// A translator's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    bits: u128,
    length: u8,
}

impl Prefix {
    /// The prefix of an address; the length is one that RFC 6052 knows.
    pub fn of(ip: Ipv6Addr, length: u8) -> Self {
        let bits = u128::from(ip) & u128::MAX << (128 - u32::from(length));
        Self { bits, length }
    }

    /// The prefix by which the well-known name's addresses were translated.
    pub fn find(answers: &[Ipv6Addr]) -> Option<Self> {
        let mut all = answers
            .iter()
            .flat_map(|ip| LENGTHS.map(|length| (*ip, Self::of(*ip, length))));
        all.find(|(ip, prefix)| ADDRESSES.contains(&prefix.read(*ip)))
            .map(|(_, prefix)| prefix)
    }

    /// The IPv6 address of an IPv4 host. `None` for hosts that no translator leads to.
    pub fn embed(self, v4: Ipv4Addr) -> Option<Ipv6Addr> {
        if matches!(
            v4.octets(),
            [0 | 127, ..] | [169, 254, ..] | [255, 255, 255, 255]
        ) {
            return None;
        }
        let mut octets = self.bits.to_be_bytes();
        for (place, octet) in self.places().into_iter().zip(v4.octets()) {
            octets[place] = octet;
        }
        Some(octets.into())
    }

    /// The IPv4 host behind an address; `None`: it is not of this prefix.
    pub fn extract(self, ip: Ipv6Addr) -> Option<Ipv4Addr> {
        (Self::of(ip, self.length) == self).then(|| self.read(ip))
    }

    /// What stands where the prefix has its IPv4 address.
    pub(super) fn read(self, ip: Ipv6Addr) -> Ipv4Addr {
        self.places().map(|place| ip.octets()[place]).into()
    }

    /// RFC 6052 section 2.2: behind the prefix, but octet 8 stays zero.
    fn places(self) -> [usize; 4] {
        let first = usize::from(self.length / 8);
        [0, 1, 2, 3].map(|n| {
            let place = first + n;
            place + usize::from(first <= 8 && place >= 8)
        })
    }
}

/// The prefix of the network that this host is on, looked up when it is first needed.
#[derive(Debug, Clone, Default)]
pub(super) struct Translator(Arc<Mutex<Option<Known>>>);

/// What the name servers said, and when.
#[derive(Debug, Clone, Copy)]
struct Known {
    since: Instant,
    prefix: Option<Prefix>,
}

impl Translator {
    /// The prefix, if there is a translator.
    pub(super) async fn prefix(&self, resolver: &dyn Resolve) -> Option<Prefix> {
        let known = *self.lock();
        if let Some(known) = known.filter(|known| known.since.elapsed() < GOOD_FOR) {
            return known.prefix;
        }
        let lookup = resolver.lookup(WELL_KNOWN, IpVersion::V6);
        let answer = timeout(PATIENCE, lookup).await.unwrap_or(Ok(Vec::new()));
        let answers: Vec<_> = answer
            .unwrap_or_default()
            .iter()
            .filter_map(|addr| match addr.ip() {
                IpAddr::V6(v6) => Some(v6),
                IpAddr::V4(_) => None,
            })
            .collect();
        let prefix = Prefix::find(&answers);
        *self.lock() = Some(Known {
            since: Instant::now(),
            prefix,
        });
        prefix
    }

    fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::resolve::Fixed;
    use super::*;

    /// RFC 6052 section 2.4: 192.0.2.33 behind prefixes of each length.
    const TABLE: [(u8, &str); 6] = [
        (32, "2001:db8:c000:221::"),
        (40, "2001:db8:1c0:2:21::"),
        (48, "2001:db8:122:c000:2:2100::"),
        (56, "2001:db8:122:3c0:0:221::"),
        (64, "2001:db8:122:344:c0:2:2100::"),
        (96, "2001:db8:122:344::192.0.2.33"),
    ];

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_stand_where_the_rfc_puts_them() {
        let v4 = Ipv4Addr::new(192, 0, 2, 33);
        for (length, text) in TABLE {
            let prefix = Prefix::of(ip("2001:db8:122:344::"), length);
            assert_eq!(prefix.embed(v4), Some(ip(text)), "/{length}");
            assert_eq!(prefix.extract(ip(text)), Some(v4), "/{length}");
        }
    }

    #[test]
    fn a_prefix_is_found_by_the_well_known_addresses() {
        let well_known = Prefix::of(ip("64:ff9b::"), 96);
        assert_eq!(
            Prefix::find(&[ip("64:ff9b::192.0.0.171")]),
            Some(well_known)
        );
        let both = [ip("2001:db8::1"), ip("2001:db8:64::c0:0:aa00:0")];
        assert_eq!(
            Prefix::find(&both),
            Some(Prefix::of(ip("2001:db8:64::"), 64))
        );
        assert_eq!(Prefix::find(&[ip("64:ff9b::192.0.0.172")]), None);
    }

    #[test]
    fn hosts_of_this_link_are_never_translated() {
        let prefix = Prefix::of(ip("64:ff9b::"), 96);
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "169.254.1.1",
            "255.255.255.255",
        ] {
            assert_eq!(prefix.embed(text.parse().unwrap()), None, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_ten_minutes() {
        let translator = Translator::default();
        let there = Fixed::default().with(WELL_KNOWN, &[ip("64:ff9b::192.0.0.170").into()]);
        assert_eq!(translator.prefix(&Fixed::default()).await, None);
        assert_eq!(
            translator.prefix(&there).await,
            None,
            "that there is none is known, too"
        );
        tokio::time::advance(GOOD_FOR).await;
        let prefix = translator.prefix(&there).await;
        assert_eq!(prefix, Some(Prefix::of(ip("64:ff9b::"), 96)));
    }

    proptest! {
        #[test]
        fn what_is_put_in_comes_out(bits: u128, which in 0..6_usize, v4: u32) {
            let prefix = Prefix::of(Ipv6Addr::from(bits), LENGTHS[which]);
            // Octet 8 is zero in every prefix that leads anywhere.
            prop_assume!(prefix.bits >> 56 & 0xff == 0);
            if let Some(ip) = prefix.embed(v4.into()) {
                prop_assert_eq!(prefix.extract(ip), Some(v4.into()));
                prop_assert_eq!(ip.octets()[8], 0);
            }
        }
    }
}
