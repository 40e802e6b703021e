//! The host and port in an address as the file writes it. What the address is for, and so which hosts make sense, is
//! `address`'s.

use std::net::{IpAddr, Ipv6Addr};

use super::address::{AddressError, Scheme};
use super::manner::Manner;

/// What stands behind `scheme://`.
pub(super) struct Place<'a> {
    pub(super) host: Host,
    pub(super) port: u16,
    /// Path, query or fragment.
    pub(super) extra: Option<&'a str>,
}

/// Where: a name, an address (canonical), or all of IPv4.
pub(super) enum Host {
    /// `*`
    Star,
    Address {
        ip: IpAddr,
        scope: Option<String>,
    },
    Name(String),
}

impl<'a> Place<'a> {
    pub(super) fn parse(text: &'a str, manner: Manner) -> Result<Self, AddressError> {
        let end = text.find(['/', '?', '#']).unwrap_or(text.len());
        let (place, extra) = text.split_at(end);
        let (host, port) = split_port(place)?;
        let host = Host::parse(host)?;
        let port = match port {
            None => manner.default_port(),
            Some(port) => parse_port(port)?,
        };
        if manner.scheme == Scheme::Local && !host.may_be_local() {
            return Err(manner.clear_text(place));
        }
        Ok(Self {
            host,
            port,
            extra: (!extra.is_empty()).then_some(extra),
        })
    }
}

/// The host (with its brackets, if any) and the text of the port.
fn split_port(place: &str) -> Result<(&str, Option<&str>), AddressError> {
    if place.starts_with('[') {
        let close = place
            .find(']')
            .ok_or_else(|| AddressError::Host(place.into()))?;
        let (host, rest) = place.split_at(close + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(AddressError::Host(place.into())),
        };
    }
    if place.matches(':').count() > 1 {
        return Err(
            match place.split('%').next().unwrap_or(place).parse::<Ipv6Addr>() {
                Ok(_) => AddressError::Brackets(place.into()),
                Err(_) => AddressError::Host(place.into()),
            },
        );
    }
    Ok(match place.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (place, None),
    })
}

/// 0 is for listeners alone, which take any free port then.
fn parse_port(text: &str) -> Result<u16, AddressError> {
    match text.parse::<u16>() {
        Ok(port) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(AddressError::Port(text.into())),
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::Host(text.into());
        if text == "*" {
            return Ok(Self::Star);
        }
        if let Some(inner) = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
        {
            let (ip, scope) = match inner.split_once('%') {
                Some((ip, scope)) => (ip, Some(scope)),
                None => (inner, None),
            };
            let ip: Ipv6Addr = ip.parse().map_err(|_| wrong())?;
            if scope.is_some_and(|scope| !is_interface(scope)) {
                return Err(wrong());
            }
            return Ok(Self::Address {
                ip: ip.to_canonical(),
                scope: scope.map(str::to_owned),
            });
        }
        if let Ok(ip) = text.parse() {
            return Ok(Self::Address {
                ip: IpAddr::V4(ip),
                scope: None,
            });
        }
        if is_host_name(text) {
            Ok(Self::Name(text.to_ascii_lowercase()))
        } else {
            Err(wrong())
        }
    }

    /// Whether clear text to here stays on this machine. Names other than `localhost` may lead anywhere; wildcards are
    /// judged by the listener, which can say more.
    fn may_be_local(&self) -> bool {
        match self {
            Self::Star => true,
            Self::Address { ip, .. } => ip.is_loopback() || ip.is_unspecified(),
            Self::Name(name) => name == "localhost",
        }
    }
}

fn is_interface(scope: &str) -> bool {
    (1..=15).contains(&scope.len()) && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'%')
}

fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let labels = name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    });
    // What ends in a number is an IPv4 address that went wrong.
    let numeric = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    labels && !numeric && name.len() <= 253
}
