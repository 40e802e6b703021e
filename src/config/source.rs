//! Where connections to servers come from and through what: source addresses, at most one address or prefix of each
//! family, and a SOCKS proxy. Parsed into values that cannot be wrong; using them is `net`'s.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::Scheme;
use super::host::{Host, Place};
use super::reader::{Reader, Value};
use super::{Family, Network};

/// The shortest and the longest prefix, of IPv6 and of IPv4. An IPv6 prefix has room for so many users that no two of
/// them meet.
const LENGTHS: [(u8, u8); 2] = [(16, 80), (8, 30)];

/// `source`: which addresses connections come from. A family that is not named is not used, once one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Sources {
    /// The IPv6 one.
    pub v6: Option<Source>,
    /// The IPv4 one.
    pub v4: Option<Source>,
}

/// One address for all, or a prefix out of which each user has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Exactly this one.
    Address(IpAddr),
    /// One of these; host bits are zero.
    Prefix(IpAddr, u8),
}

/// `source_kind`: which of the host's own IPv6 addresses is taken when `source` names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SourceKind {
    /// Not one of those that change daily.
    #[default]
    Stable,
    /// One of those that change daily.
    Temporary,
    /// Whichever the system takes.
    System,
}

/// `proxy`: a SOCKS5 proxy, which looks names up itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why a text is no source or proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Neither an address nor a prefix.
    #[error("\"{0}\" is neither an address nor a prefix")]
    NoAddress(String),
    /// Nothing can come from there.
    #[error("{0} is {1}, and nothing can come from there")]
    Useless(IpAddr, &'static str),
    /// Bits behind the prefix.
    #[error("{written} has bits behind its prefix")]
    HostBits {
        /// As written.
        written: String,
        /// Without them.
        meant: String,
    },
    /// Too long or too short.
    #[error("a prefix of {0} bits is of no use")]
    Length(u8, IpAddr),
    /// Not a SOCKS5 proxy.
    #[error("\"{0}\" is no SOCKS5 proxy")]
    NoProxy(String),
    /// A name or password in front of the host.
    #[error("the proxy has a login in its address, and only proxies without one are supported")]
    Login,
}

impl SourceError {
    fn remedy(&self) -> String {
        match self {
            Self::NoAddress(_) | Self::Useless(..) => {
                "write an address of this host as \"2001:db8::7\", or a prefix as \"2001:db8:bb::/64\"".into()
            }
            Self::HostBits { meant, .. } => format!("write \"{meant}\""),
            Self::Length(_, ip) => {
                let (least, most) = LENGTHS[usize::from(ip.is_ipv4())];
                format!("write one of {least} to {most} bits, or a single address")
            }
            Self::NoProxy(_) | Self::Login => "write \"socks5://host:port\"".into(),
        }
    }
}

impl Sources {
    /// Whether none is named: the system chooses.
    pub fn is_empty(&self) -> bool {
        self.v6.is_none() && self.v4.is_none()
    }

    /// Which families are left of those that are wanted; `None`: none of them.
    pub fn leave(&self, wanted: Family) -> Option<Family> {
        match (self.v6.is_some(), self.v4.is_some()) {
            (true, false) => (wanted != Family::Ipv4).then_some(Family::Ipv6),
            (false, true) => (wanted != Family::Ipv6).then_some(Family::Ipv4),
            _ => Some(wanted),
        }
    }
}

impl Source {
    /// Reads `2001:db8::7` or `2001:db8:bb::/64`.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let wrong = || SourceError::NoAddress(text.into());
        let (ip, length) = match text.split_once('/') {
            Some((ip, length)) => (ip, Some(length.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let written: IpAddr = ip.parse().map_err(|_| wrong())?;
        let ip = written.to_canonical();
        if let Some(why) = useless(ip) {
            return Err(SourceError::Useless(ip, why));
        }
        let Some(mut length) = length else {
            return Ok(Self::Address(ip));
        };
        if ip != written {
            length = length.checked_sub(96).ok_or_else(wrong)?;
        }
        Self::prefix(ip, length, text)
    }

    fn prefix(ip: IpAddr, length: u8, written: &str) -> Result<Self, SourceError> {
        let bits: u8 = if ip.is_ipv6() { 128 } else { 32 };
        if length == bits {
            return Ok(Self::Address(ip));
        }
        let (least, most) = LENGTHS[usize::from(ip.is_ipv4())];
        if !(least..=most).contains(&length) {
            return Err(SourceError::Length(length, ip));
        }
        let kept: IpAddr = match ip {
            IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & (u128::MAX << (128 - length))).into(),
            IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) & (u32::MAX << (32 - length))).into(),
        };
        if kept == ip {
            return Ok(Self::Prefix(ip, length));
        }
        Err(SourceError::HostBits {
            written: written.into(),
            meant: format!("{kept}/{length}"),
        })
    }

    fn is_ipv6(self) -> bool {
        match self {
            Self::Address(ip) | Self::Prefix(ip, _) => ip.is_ipv6(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Prefix(ip, length) => write!(f, "{ip}/{length}"),
        }
    }
}

fn useless(ip: IpAddr) -> Option<&'static str> {
    match ip {
        _ if ip.is_unspecified() => Some("no address"),
        _ if ip.is_multicast() => Some("a multicast address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("a broadcast address"),
        _ => None,
    }
}

impl Proxy {
    /// Reads `socks5://host:port`; the port is 1080 when none is written.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let wrong = || SourceError::NoProxy(text.into());
        // A login may be a secret: it is not repeated.
        if text.contains('@') {
            return Err(SourceError::Login);
        }
        let (scheme, place) = text.split_once("://").ok_or_else(wrong)?;
        if !scheme.eq_ignore_ascii_case("socks5") {
            return Err(wrong());
        }
        let has_port = place
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.contains(']'));
        let place = Place::parse(place, Scheme::Insecure.into()).map_err(|_| wrong())?;
        let host = match place.host {
            Host::Address { ip, .. } if ip.is_unspecified() => return Err(wrong()),
            Host::Address {
                ip,
                scope: Some(scope),
            } => format!("{ip}%{scope}"),
            Host::Address { ip, scope: None } => ip.to_string(),
            Host::Name(name) => name,
            Host::Star => return Err(wrong()),
        };
        match (place.extra, if has_port { place.port } else { 1080 }) {
            (Some(_), _) | (_, 0) => Err(wrong()),
            (None, port) => Ok(Self { host, port }),
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { host, port } if host.contains(':') => write!(f, "socks5://[{host}]:{port}"),
            Self { host, port } => write!(f, "socks5://{host}:{port}"),
        }
    }
}

// -- the keys

/// `source`: replaces what stands above it, so that no address of another level is used by surprise.
pub(super) fn sources(value: Value<'_>, reader: &mut Reader<'_>, into: &mut Sources) {
    let Some(list) = reader.list(value, "[\"2001:db8::7\", \"192.0.2.7\"]") else {
        return;
    };
    *into = Sources::default();
    for item in list {
        let Some(text) = reader.text(item) else {
            continue;
        };
        match Source::parse(text) {
            Ok(source) => {
                let (place, family) = match source.is_ipv6() {
                    true => (&mut into.v6, "IPv6"),
                    false => (&mut into.v4, "IPv4"),
                };
                if let Some(before) = place.replace(source) {
                    let message = format!("{before} and {source} are both {family}");
                    reader.error(item, message, "leave one of them: one for each family");
                }
            }
            Err(error) => reader.error(item, error.to_string(), error.remedy()),
        }
    }
}

pub(super) fn source_kind(value: Value<'_>, reader: &mut Reader<'_>, into: &mut SourceKind) {
    let words = [
        ("stable", SourceKind::Stable),
        ("temporary", SourceKind::Temporary),
        ("system", SourceKind::System),
    ];
    reader.word(value, &words, into);
}

/// `proxy`; an empty text is none.
pub(super) fn proxy(network: &mut Network, value: Value<'_>, reader: &mut Reader<'_>) {
    let Some(text) = reader.text(value) else {
        return;
    };
    network.proxy = None;
    if text.is_empty() {
        return;
    }
    match Proxy::parse(text) {
        Ok(proxy) => network.proxy = Some(proxy),
        Err(error) => reader.error(value, error.to_string(), error.remedy()),
    }
}

/// A network whose family and source exclude each other could never be reached.
pub(super) fn can_be_reached(network: &Network, table: Value<'_>, reader: &mut Reader<'_>) {
    let dial = &network.dial;
    if dial.source.leave(dial.family).is_some() {
        return;
    }
    let (wanted, other) = match dial.family {
        Family::Ipv6 => ("ipv6", "IPv6"),
        _ => ("ipv4", "IPv4"),
    };
    let (name, value) = match (table.get("source"), table.get("family")) {
        (None, Some(family)) => ("family", family),
        (source, _) => ("source", source.unwrap_or(table)),
    };
    reader.under(name, |reader| {
        let message = format!("family is \"{wanted}\", and source names no {other} address");
        reader.error(
            value,
            message,
            format!("name an {other} address, or change family"),
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_addresses_or_prefixes() {
        for (text, canonical) in [
            ("2001:db8::7", "2001:db8::7"),
            ("2001:DB8:bb::/64", "2001:db8:bb::/64"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("198.51.100.0/24", "198.51.100.0/24"),
            ("::1", "::1"),
        ] {
            assert_eq!(
                Source::parse(text).unwrap().to_string(),
                canonical,
                "{text}"
            );
        }
        for wrong in [
            "",
            "eth0",
            "irc.test",
            "[2001:db8::7]",
            "::",
            "0.0.0.0",
            "fe80::1",
            "ff02::1",
            "224.0.0.1",
            "255.255.255.255",
            "2001:db8::7/64",
            "192.0.2.7/24",
            "2001:db8::/96",
            "192.0.2.0/31",
            "2001:db8::/x",
            "2001:db8::/129",
            "::ffff:192.0.2.0/24",
            "2000::/3",
        ] {
            assert!(Source::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_named_family_leaves_the_other_unused() {
        let v6 = Some(Source::Address("::1".parse().unwrap()));
        let v4 = Some(Source::Address("127.0.0.1".parse().unwrap()));
        for (v6, v4, wanted, left) in [
            (None, None, Family::PreferIpv4, Some(Family::PreferIpv4)),
            (v6, v4, Family::PreferIpv4, Some(Family::PreferIpv4)),
            (v6, None, Family::PreferIpv4, Some(Family::Ipv6)),
            (v6, None, Family::Ipv4, None),
            (None, v4, Family::PreferIpv6, Some(Family::Ipv4)),
            (None, v4, Family::Ipv6, None),
        ] {
            assert_eq!(Sources { v6, v4 }.leave(wanted), left);
        }
    }

    #[test]
    fn proxies_are_socks5_without_login() {
        for (text, canonical) in [
            ("socks5://localhost:9050", "socks5://localhost:9050"),
            ("SOCKS5://[::1]", "socks5://[::1]:1080"),
            ("socks5://192.0.2.1:1", "socks5://192.0.2.1:1"),
        ] {
            assert_eq!(Proxy::parse(text).unwrap().to_string(), canonical, "{text}");
        }
        for wrong in [
            "localhost:9050",
            "http://localhost",
            "socks5://",
            "socks5://*",
            "socks5://[::]:1",
            "socks5://a:0",
            "socks5://a:b:c",
            "socks5://a/b",
            "socks5://u:p@a",
        ] {
            assert!(Proxy::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(bits: u128, length in 16_u8..=80) {
            let ip = Ipv6Addr::from(0x2000 << 112 | bits >> 3 & u128::MAX << (128 - length));
            let source = Source::Prefix(ip.into(), length);
            proptest::prop_assert_eq!(Source::parse(&source.to_string()), Ok(source));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,60}") {
            let _ = (Source::parse(&text), Proxy::parse(&text), Proxy::parse(&format!("socks5://{text}")));
        }
    }
}
