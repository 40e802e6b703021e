//! Sets of addresses as the file writes them: CIDRs, single addresses and names of sets. A range is of one family and
//! canonical, so that `::ffff:127.0.0.0/104` and `127.0.0.0/8` are the same. Who is let in by them is `net::acl`'s.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::reader::{Reader, Value};

/// The mapped addresses, `::ffff:0:0/96`: as ranges they are IPv4.
const MAPPED: u128 = 0xffff_0000_0000;
const MAPPED_LENGTH: u8 = 96;

/// The addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Its first address; canonical, host bits are zero.
    first: IpAddr,
    /// How many bits are the same.
    length: u8,
}

/// Addresses of both families. Empty, it contains none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges(Vec<Range>);

/// Something in a pattern that may be meant otherwise than it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It takes in all mapped addresses, which never arrive as such: IPv4 is not in it.
    NativeOnly,
    /// Bits behind the prefix are set.
    HostBits(Range),
}

/// Why a text is no set of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Neither an address nor the name of a set.
    #[error("\"{0}\" is neither an address nor loopback, private, link-local or all")]
    Address(String),
    /// Not the length of a prefix.
    #[error("\"{length}\" is no prefix length of {family}")]
    Length {
        /// What stands behind the slash.
        length: String,
        /// `IPv6` or `IPv4`
        family: &'static str,
    },
    /// An interface, which ranges do not know.
    #[error("\"{0}\" names an interface, and ranges are the same on all of them")]
    Scope(String),
}

impl RangeError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Address(_) => "write it as 192.0.2.0/24, 2001:db8::/32 or ::1".into(),
            Self::Length { family, .. } => {
                let most = if *family == "IPv4" { 32 } else { 128 };
                format!("write a number from 0 to {most}")
            }
            Self::Scope(text) => {
                let (address, rest) = text.split_once('%').unwrap_or((text, ""));
                let length = rest.find('/').map_or("", |at| &rest[at..]);
                format!("write {address}{length}")
            }
        }
    }
}

impl Doubt {
    /// What is to be looked at, and what to do about it.
    pub fn words(self, text: &str) -> (String, String) {
        match self {
            Self::NativeOnly => (
                format!("\"{text}\" is IPv6 alone: IPv4 clients are never in it"),
                "write \"all\" for both, or add \"0.0.0.0/0\"".into(),
            ),
            Self::HostBits(range) => (
                format!("\"{text}\" has bits behind its prefix and is taken as {range}"),
                format!("write \"{range}\""),
            ),
        }
    }
}

impl Range {
    /// The range of `length` bits that an address lies in.
    fn around(ip: IpAddr, length: u8) -> Self {
        let first = match ip {
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & high_bits_v4(length)).into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & high_bits(length)).into(),
        };
        Self { first, length }
    }

    /// Whether a canonical address lies in it; the mapped form of one is taken as IPv4 all the same.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv6() == self.first.is_ipv6() && Self::around(ip, self.length).first == self.first
    }

    /// Reads `address` or `address/length`.
    fn parse(text: &str) -> Result<(Self, Option<Doubt>), RangeError> {
        let wrong = || RangeError::Address(text.into());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        if address.contains('%') {
            return Err(RangeError::Scope(text.into()));
        }
        let ip: IpAddr = address.parse().map_err(|_| wrong())?;
        let (most, family) = match ip {
            IpAddr::V4(_) => (32, "IPv4"),
            IpAddr::V6(_) => (128, "IPv6"),
        };
        let length = match length {
            None => most,
            Some(text) => prefix_length(text, most).ok_or_else(|| RangeError::Length {
                length: text.into(),
                family,
            })?,
        };
        let range = Self::around(ip, length);
        let doubt = if range.contains_mapped() {
            Some(Doubt::NativeOnly)
        } else {
            (range.first != ip).then(|| Doubt::HostBits(range.canonical()))
        };
        Ok((range.canonical(), doubt))
    }

    /// Whether all mapped addresses would lie in it, were there any.
    fn contains_mapped(&self) -> bool {
        self.length < MAPPED_LENGTH
            && self.first == IpAddr::from(Ipv6Addr::from_bits(MAPPED & high_bits(self.length)))
    }

    /// A range of mapped addresses is one of IPv4.
    fn canonical(self) -> Self {
        match self.first {
            IpAddr::V6(v6) if self.length >= MAPPED_LENGTH && v6.to_bits() >> 32 == 0xffff => {
                Self {
                    first: v6.to_canonical(),
                    length: self.length - MAPPED_LENGTH,
                }
            }
            _ => self,
        }
    }
}

fn prefix_length(text: &str, most: u8) -> Option<u8> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let length = text.parse().ok().filter(|_| digits)?;
    (length <= most).then_some(length)
}

fn high_bits(length: u8) -> u128 {
    u128::MAX
        .checked_shl(128 - u32::from(length))
        .unwrap_or_default()
}

fn high_bits_v4(length: u8) -> u32 {
    u32::MAX
        .checked_shl(32 - u32::from(length))
        .unwrap_or_default()
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

impl Ranges {
    /// The ranges of a named set.
    fn named(name: &str) -> Option<&'static [&'static str]> {
        Some(match name {
            "loopback" => &["::1/128", "127.0.0.0/8"],
            "private" => &[
                "fc00::/7",
                "fe80::/10",
                "10.0.0.0/8",
                "172.16.0.0/12",
                "192.168.0.0/16",
            ],
            "link-local" => &["fe80::/10", "169.254.0.0/16"],
            "all" => &["::/0", "0.0.0.0/0"],
            _ => return None,
        })
    }

    /// Adds an address, a CIDR or a named set, and says what may be meant otherwise.
    pub fn add(&mut self, text: &str) -> Result<Option<Doubt>, RangeError> {
        if let Some(set) = Self::named(text) {
            let ranges = set.iter().filter_map(|text| Range::parse(text).ok());
            self.0.extend(ranges.map(|(range, _)| range));
            return Ok(None);
        }
        let (range, doubt) = Range::parse(text)?;
        self.0.push(range);
        Ok(doubt)
    }

    /// Whether an address is in one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(ip))
    }

    /// Each of them; shown, it can be read again.
    pub fn iter(&self) -> impl Iterator<Item = &Range> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Takes a list of CIDRs, addresses and named sets.
pub(super) fn read(value: Value<'_>, reader: &mut Reader<'_>, into: &mut Ranges) {
    let Some(list) = reader.list(value, "[\"192.0.2.0/24\", \"2001:db8::/32\"]") else {
        return;
    };
    let mut ranges = Ranges::default();
    for item in list {
        let Some(text) = reader.text(item) else {
            continue;
        };
        match ranges.add(text) {
            Ok(None) => {}
            Ok(Some(doubt)) => {
                let (message, remedy) = doubt.words(text);
                reader.warning(item, message, remedy);
            }
            Err(error) => reader.error(item, error.to_string(), error.remedy()),
        }
    }
    *into = ranges;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(text: &str) -> Ranges {
        let mut ranges = Ranges::default();
        ranges.add(text).unwrap();
        ranges
    }

    /// Each row: a pattern, what is in it, what is not.
    #[rustfmt::skip] // a table: one row on one line
    const TABLE: &[(&str, &[&str], &[&str])] = &[
        ("127.0.0.0/8", &["127.0.0.1", "127.255.255.255", "::ffff:127.0.0.1"], &["126.255.255.255", "128.0.0.0", "::1"]),
        ("::ffff:127.0.0.0/104", &["127.0.0.1", "127.255.255.255", "::ffff:127.9.9.9"], &["126.255.255.255", "128.0.0.0", "::1"]),
        ("::ffff:7f00:0/104", &["127.0.0.1"], &["128.0.0.1", "::7f00:1"]),
        ("::ffff:0:0/96", &["0.0.0.0", "192.0.2.1", "255.255.255.255"], &["::1", "::", "2001:db8::1"]),
        ("::ffff:192.0.2.1", &["192.0.2.1"], &["192.0.2.2", "192.0.2.0"]),
        ("::ffff:192.0.2.1/128", &["192.0.2.1"], &["192.0.2.2"]),
        ("0.0.0.0/0", &["0.0.0.0", "8.8.8.8", "255.255.255.255", "::ffff:8.8.8.8"], &["::", "::1", "2001:db8::1"]),
        ("::/0", &["::1", "::", "2001:db8::1", "64:ff9b::8.8.8.8"], &["8.8.8.8", "127.0.0.1", "::ffff:8.8.8.8"]),
        ("::/8", &["::1", "64:ff9b::1"], &["100::1", "1.2.3.4", "::ffff:1.2.3.4"]),
        ("::fffe:0:0/95", &["::fffe:1.2.3.4"], &["1.2.3.4", "::ffff:1.2.3.4", "::1"]),
        ("192.0.2.0/24", &["192.0.2.0", "192.0.2.255"], &["192.0.1.255", "192.0.3.0"]),
        ("192.0.2.77/24", &["192.0.2.0", "192.0.2.255"], &["192.0.3.0"]),
        ("192.0.2.1", &["192.0.2.1"], &["192.0.2.0", "192.0.2.2"]),
        ("192.0.2.1/32", &["192.0.2.1"], &["192.0.2.0"]),
        ("192.0.2.0/31", &["192.0.2.0", "192.0.2.1"], &["192.0.2.2", "192.0.1.255"]),
        ("128.0.0.0/1", &["128.0.0.0", "255.255.255.255"], &["127.255.255.255"]),
        ("2001:db8::/32", &["2001:db8::", "2001:db8:ffff:ffff::1"], &["2001:db7:ffff::1", "2001:db9::"]),
        ("2001:db8::1", &["2001:db8::1"], &["2001:db8::", "2001:db8::2"]),
        ("2001:db8::1/128", &["2001:db8::1"], &["2001:db8::2"]),
        ("2001:db8:0:8::/63", &["2001:db8:0:8::1", "2001:db8:0:9::1"], &["2001:db8:0:a::1", "2001:db8:0:7::1"]),
        ("fe80::/10", &["fe80::1", "febf::1"], &["fec0::1", "fe7f::1"]),
        ("8000::/1", &["8000::", "ffff::"], &["7fff::", "255.0.0.1"]),
        ("::1", &["::1"], &["::", "127.0.0.1", "::2"]),
        ("64:ff9b::/96", &["64:ff9b::127.0.0.1"], &["127.0.0.1", "64:ff9b:1::"]),
        ("loopback", &["::1", "127.0.0.1", "127.8.8.8", "::ffff:127.0.0.1"], &["::", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"]),
        ("private", &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd00::1", "fc00::1", "fe80::1"], &["172.32.0.0", "11.0.0.1", "192.169.0.1", "fe00::1", "::1", "127.0.0.1", "169.254.1.1"]),
        ("link-local", &["fe80::1", "169.254.255.255"], &["169.255.0.0", "fec0::", "fd00::1"]),
        ("all", &["::1", "127.0.0.1", "2001:db8::1", "::ffff:1.2.3.4", "255.255.255.255"], &[]),
    ];

    #[test]
    fn patterns_take_in_what_they_say_in_either_notation() {
        for (pattern, inside, outside) in TABLE {
            let ranges = ranges(pattern);
            for ip in *inside {
                assert!(ranges.contains(ip.parse().unwrap()), "{ip} in {pattern}");
            }
            for ip in *outside {
                assert!(!ranges.contains(ip.parse().unwrap()), "{ip} in {pattern}");
            }
        }
    }

    #[test]
    fn patterns_are_shown_in_their_canonical_form() {
        let rows = [
            ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
            ("::ffff:127.0.0.1", "127.0.0.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("2001:DB8:0:0::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
        ];
        for (written, shown) in rows {
            assert_eq!(Range::parse(written).unwrap().0.to_string(), shown);
        }
        assert_eq!(ranges("::ffff:127.0.0.0/104"), ranges("127.0.0.0/8"));
    }

    #[test]
    fn what_may_be_meant_otherwise_is_said() {
        let doubt = |text: &str| Ranges::default().add(text).unwrap();
        for text in ["::/0", "::/8", "::/80", "::ffff:0:0/95", "::1/0"] {
            assert_eq!(doubt(text), Some(Doubt::NativeOnly), "{text}");
        }
        for text in [
            "all",
            "loopback",
            "0.0.0.0/0",
            "::1",
            "2001:db8::/32",
            "::/96",
            "::ffff:0:0/96",
            "8000::/1",
        ] {
            assert_eq!(doubt(text), None, "{text}");
        }
        let words = |text: &str| doubt(text).unwrap().words(text);
        assert_eq!(
            words("::/0").0,
            "\"::/0\" is IPv6 alone: IPv4 clients are never in it"
        );
        assert_eq!(words("192.0.2.7/24").1, "write \"192.0.2.0/24\"");
        assert_eq!(words("::ffff:127.0.0.1/104").1, "write \"127.0.0.0/8\"");
        assert_eq!(words("2001:db8::1/32").1, "write \"2001:db8::/32\"");
    }

    #[test]
    fn what_is_no_range_is_refused_with_a_remedy() {
        let address = |text: &str| RangeError::Address(text.into());
        let length = |length: &str, family| RangeError::Length {
            length: length.into(),
            family,
        };
        let rows = [
            ("", address("")),
            ("localhost", address("localhost")),
            ("127/8", address("127/8")),
            ("127.1", address("127.1")),
            ("010.0.0.1", address("010.0.0.1")),
            ("[::1]", address("[::1]")),
            ("*", address("*")),
            ("192.0.2.1:80", address("192.0.2.1:80")),
            ("Loopback", address("Loopback")),
            ("loopback/8", address("loopback/8")),
            ("10.0.0.0/255.0.0.0", length("255.0.0.0", "IPv4")),
            ("10.0.0.0/33", length("33", "IPv4")),
            ("10.0.0.0/", length("", "IPv4")),
            ("10.0.0.0/+8", length("+8", "IPv4")),
            ("10.0.0.0/8/8", length("8/8", "IPv4")),
            ("10.0.0.0/-1", length("-1", "IPv4")),
            ("::/129", length("129", "IPv6")),
            ("::1/999", length("999", "IPv6")),
            ("fe80::1%eth0", RangeError::Scope("fe80::1%eth0".into())),
            ("fe80::%1/64", RangeError::Scope("fe80::%1/64".into())),
        ];
        for (text, error) in rows {
            let found = Ranges::default().add(text).unwrap_err();
            assert_eq!(found, error, "{text}");
            assert!(!found.remedy().is_empty());
        }
    }

    #[test]
    fn an_interface_is_to_be_left_out() {
        let remedy = |text: &str| Ranges::default().add(text).unwrap_err().remedy();
        assert_eq!(remedy("fe80::1%eth0"), "write fe80::1");
        assert_eq!(remedy("fe80::%eth0/64"), "write fe80::/64");
    }

    proptest! {
        #[test]
        fn an_address_is_in_every_range_around_it(bits: u128, length in 0u8..=128) {
            let ip = IpAddr::from(Ipv6Addr::from_bits(bits)).to_canonical();
            let length = if ip.is_ipv4() { length / 4 } else { length };
            let written = format!("{ip}/{length}");
            let around = ranges(&written);
            prop_assert!(around.contains(ip), "{}", written);
            // What is shown means the same.
            let shown = around.0[0].to_string();
            prop_assert_eq!(ranges(&shown), around);
        }

        #[test]
        fn mapped_notation_never_makes_a_difference(ip: u32, pattern: u32, length in 0u8..=32) {
            let (ip, pattern) = (Ipv4Addr::from(ip), Ipv4Addr::from(pattern));
            let plain = ranges(&format!("{pattern}/{length}"));
            let mapped = ranges(&format!("{}/{}", pattern.to_ipv6_mapped(), length + 96));
            prop_assert_eq!(&plain, &mapped);
            prop_assert_eq!(plain.contains(ip.into()), mapped.contains(ip.to_ipv6_mapped().into()));
        }

        #[test]
        fn any_text_is_a_range_or_an_error(text in "[0-9a-f:./%]{0,30}") {
            let _ = Ranges::default().add(&text);
        }
    }
}
