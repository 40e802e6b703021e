//! Server and listener addresses as the file writes them (a URL), parsed into values that cannot
//! be wrong. Hosts and ports are `host`'s, opening and dialling `net`'s.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::host::{Host, Place};
use super::manner::Manner;

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    /// `ircs://`: TLS.
    #[default]
    Tls,
    /// `irc://`: clear text, loopback and unix sockets only.
    Local,
    /// `irc+insecure://`: clear text to anywhere, said on purpose.
    Insecure,
}

/// A server of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddr {
    /// `scheme://host:port`
    Tcp {
        /// How it is protected.
        scheme: Scheme,
        /// A name, or an address without brackets (canonical: never a mapped one).
        host: String,
        /// The port.
        port: u16,
    },
    /// `unix:/path`, clear text.
    Unix(PathBuf),
}

/// Where clients come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// As the file writes it, for messages.
    pub written: String,
    /// What is spoken there.
    pub manner: Manner,
    /// Where.
    pub host: ListenHost,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenHost {
    /// `[::]`: both families, or IPv6 alone with `?v6only`.
    AnyIpv6 {
        /// The port.
        port: u16,
        /// `?v6only`
        only: bool,
    },
    /// `*` or `0.0.0.0`: all of IPv4.
    AnyIpv4 {
        /// The port.
        port: u16,
    },
    /// One address; the scope is an interface's name or number.
    Address {
        /// The address, canonical.
        ip: IpAddr,
        /// `%eth0`
        scope: Option<String>,
        /// The port.
        port: u16,
    },
    /// A name: every address it has.
    Name {
        /// The name.
        name: String,
        /// The port.
        port: u16,
    },
    /// `unix:/path`
    Unix(PathBuf),
    /// `systemd:NAME`: every socket that systemd passed under that name, as it is.
    Systemd(String),
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A server without `scheme://`.
    #[error("\"{0}\" does not say how to connect")]
    NoScheme(String),
    /// A scheme we do not speak.
    #[error("\"{0}\" is no known scheme")]
    UnknownScheme(String),
    /// `irc://` to or on something that is not this machine.
    #[error("irc:// is clear text and \"{0}\" is not this machine")]
    ClearText(String),
    /// The same for `ws://`.
    #[error("ws:// is clear text and \"{0}\" is not this machine")]
    ClearWeb(String),
    /// Neither a name nor an address.
    #[error("\"{0}\" is neither a host name nor an address")]
    Host(String),
    /// An IPv6 address without brackets.
    #[error("the IPv6 address \"{0}\" has no brackets")]
    Brackets(String),
    /// Not a port.
    #[error("\"{0}\" is no port")]
    Port(String),
    /// A path, query or fragment.
    #[error("\"{0}\" means nothing here")]
    Extra(String),
    /// A link-local address on no link.
    #[error("{0} is link-local and says no interface")]
    NoScope(IpAddr),
    /// `unix:` and nothing.
    #[error("the unix socket has no path")]
    NoPath,
    /// `systemd:` and nothing that could be a name.
    #[error("\"{0}\" is no name of a socket from systemd")]
    SocketName(String),
}

impl AddressError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoScheme(text) => format!("write ircs://{text}"),
            Self::UnknownScheme(_) => {
                "use ircs:// for TLS, irc+insecure:// for clear text, irc:// for clear text on this machine, or unix:/path".into()
            }
            Self::ClearText(host) => {
                format!("use ircs://{host}, or irc+insecure://{host} if it must be")
            }
            Self::ClearWeb(host) => {
                format!("use wss://{host}, or ws+insecure://{host} if it must be")
            }
            Self::Host(_) => {
                "a name has letters, digits, dots and hyphens; other scripts are written as xn--...".into()
            }
            Self::Brackets(address) => format!("write [{address}]"),
            Self::Port(_) => "a port is a number from 1 to 65535".into(),
            Self::Extra(_) => "end the address after the port".into(),
            Self::NoScope(ip) => format!("write [{ip}%eth0], with the interface's name"),
            Self::NoPath => "write unix:/path/to/socket".into(),
            Self::SocketName(_) => {
                "write systemd:NAME, with the FileDescriptorName= of the socket unit".into()
            }
        }
    }
}

impl Scheme {
    /// As it is written in front of `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "ircs",
            Self::Local => "irc",
            Self::Insecure => "irc+insecure",
        }
    }

    /// The port when none is written.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Tls => 6697,
            Self::Local | Self::Insecure => 6667,
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, AddressError> {
        [Self::Tls, Self::Local, Self::Insecure]
            .into_iter()
            .find(|scheme| scheme.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| AddressError::UnknownScheme(text.into()))
    }
}

impl ServerAddr {
    /// Reads `ircs://host[:port]` and its like.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = unix_path(text) {
            return Ok(Self::Unix(path?));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(match text.split_once(':') {
                Some((scheme, rest)) if rest.parse::<u16>().is_err() && !scheme.contains('.') => {
                    AddressError::UnknownScheme(scheme.into())
                }
                _ => AddressError::NoScheme(text.into()),
            });
        };
        let scheme = Scheme::parse(scheme)?;
        let place = Place::parse(rest, scheme.into())?;
        if place.port == 0 {
            return Err(AddressError::Port("0".into()));
        }
        if let Some(extra) = place.extra {
            return Err(AddressError::Extra(extra.into()));
        }
        let host = match place.host {
            Host::Address { ip, .. } if ip.is_unspecified() => {
                return Err(AddressError::Host(ip.to_string()));
            }
            Host::Address {
                ip,
                scope: Some(scope),
            } => format!("{ip}%{scope}"),
            Host::Address { ip, scope: None } => ip.to_string(),
            Host::Name(name) => name,
            Host::Star => return Err(AddressError::Host("*".into())),
        };
        Ok(Self::Tcp {
            scheme,
            host,
            port: place.port,
        })
    }

    /// The same with a relative path of a unix socket taken from `folder`.
    #[must_use]
    pub fn under(self, folder: &Path) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(folder.join(path)),
            other => other,
        }
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { scheme, host, port } if host.contains(':') => {
                write!(f, "{}://[{host}]:{port}", scheme.as_str())
            }
            Self::Tcp { scheme, host, port } => write!(f, "{}://{host}:{port}", scheme.as_str()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Listen {
    /// Reads `[scheme://]host[:port]`; without a scheme it is `ircs`. In the place of the host `systemd:NAME` may stand.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let written = text.to_owned();
        let in_messages = text
            .strip_prefix("ws+")
            .filter(|rest| rest.starts_with("unix:"));
        if let Some(path) = unix_path(in_messages.unwrap_or(text)) {
            return Ok(Self {
                written,
                manner: Manner {
                    scheme: Scheme::Local,
                    web: in_messages.is_some(),
                },
                host: ListenHost::Unix(path?),
            });
        }
        let (manner, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Manner::parse(scheme)?, rest),
            None => (Manner::default(), text),
        };
        // A host of that name has a port or nothing behind it.
        let name = rest
            .strip_prefix("systemd:")
            .filter(|name| !text.contains("://") || !name.bytes().all(|b| b.is_ascii_digit()));
        if let Some(name) = name {
            return Ok(Self {
                written,
                manner,
                host: ListenHost::Systemd(socket_name(name)?),
            });
        }
        let Place { host, port, extra } = Place::parse(rest, manner)?;
        let any_ipv6 = matches!(host, Host::Address { ip, .. } if ip == Ipv6Addr::UNSPECIFIED);
        match extra {
            None => {}
            Some("?v6only") if any_ipv6 => {}
            Some(extra) => return Err(AddressError::Extra(extra.into())),
        }
        let host = match host {
            Host::Star => ListenHost::AnyIpv4 { port },
            Host::Address { .. } if any_ipv6 => ListenHost::AnyIpv6 {
                port,
                only: extra.is_some(),
            },
            Host::Address { ip, .. } if ip.is_unspecified() => ListenHost::AnyIpv4 { port },
            Host::Address {
                ip: IpAddr::V6(ip),
                scope: None,
            } if ip.is_unicast_link_local() => {
                return Err(AddressError::NoScope(ip.into()));
            }
            Host::Address { ip, scope } => ListenHost::Address { ip, scope, port },
            Host::Name(name) => ListenHost::Name { name, port },
        };
        if manner.scheme == Scheme::Local
            && matches!(
                host,
                ListenHost::AnyIpv6 { .. } | ListenHost::AnyIpv4 { .. }
            )
        {
            return Err(manner.clear_text(rest));
        }
        Ok(Self {
            written,
            manner,
            host,
        })
    }

    /// The same with a relative path of a unix socket taken from `folder`.
    #[must_use]
    pub fn under(mut self, folder: &Path) -> Self {
        if let ListenHost::Unix(path) = &mut self.host {
            *path = folder.join(&*path);
        }
        self
    }
}

impl ListenHost {
    /// The port; 0: any that is free. `None`: a unix socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::AnyIpv6 { port, .. }
            | Self::AnyIpv4 { port }
            | Self::Address { port, .. }
            | Self::Name { port, .. } => Some(*port),
            Self::Unix(_) | Self::Systemd(_) => None,
        }
    }
}

/// A name as systemd.socket(5) allows it in `FileDescriptorName=`.
fn socket_name(text: &str) -> Result<String, AddressError> {
    let fits =
        (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b':');
    if fits {
        Ok(text.into())
    } else {
        Err(AddressError::SocketName(text.into()))
    }
}

/// Whether the host of a server is known by a name, not an address.
pub fn is_name(host: &str) -> bool {
    let address = host.split('%').next().unwrap_or(host);
    !host.is_empty() && address.parse::<IpAddr>().is_err()
}

/// The path of `unix:/path` or `unix:///path`; `None` for another scheme.
fn unix_path(text: &str) -> Option<Result<PathBuf, AddressError>> {
    let path = text.strip_prefix("unix:")?;
    let name = path.trim_start_matches('/');
    Some(match name {
        "" => Err(AddressError::NoPath),
        _ if name == path => Ok(name.into()),
        _ => Ok(Path::new("/").join(name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> String {
        match ServerAddr::parse(text) {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        }
    }

    fn listen(text: &str) -> Result<(Scheme, ListenHost), AddressError> {
        Listen::parse(text).map(|listen| (listen.manner.scheme, listen.host))
    }

    #[test]
    fn an_address_is_no_name() {
        for (host, expected) in [
            ("irc.test", true),
            ("localhost", true),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
            ("fe80::1%eth0", false),
            ("", false),
        ] {
            assert_eq!(is_name(host), expected, "{host}");
        }
    }

    #[test]
    fn servers() {
        assert_eq!(server("ircs://irc.OFTC.net"), "ircs://irc.oftc.net:6697");
        assert_eq!(
            server("IRC+insecure://irc4.oftc.net:7000"),
            "irc+insecure://irc4.oftc.net:7000"
        );
        assert_eq!(server("irc://localhost"), "irc://localhost:6667");
        assert_eq!(server("irc://127.1.2.3"), "irc://127.1.2.3:6667");
        assert_eq!(server("ircs://[2001:DB8::1]:7"), "ircs://[2001:db8::1]:7");
        assert_eq!(
            server("ircs://[fe80::1%eth0]"),
            "ircs://[fe80::1%eth0]:6697"
        );
        assert_eq!(server("unix:/run/ircd.sock"), "unix:/run/ircd.sock");
        assert_eq!(server("unix:///run/ircd.sock"), "unix:/run/ircd.sock");
    }

    #[test]
    fn an_address_is_canonical_the_moment_it_enters() {
        assert_eq!(server("ircs://[::ffff:192.0.2.1]"), "ircs://192.0.2.1:6697");
        assert_eq!(server("irc://[::ffff:127.0.0.1]"), "irc://127.0.0.1:6667");
        let ip = "192.0.2.1".parse().unwrap();
        let expected = ListenHost::Address {
            ip,
            scope: None,
            port: 6697,
        };
        assert_eq!(listen("[::ffff:192.0.2.1]"), Ok((Scheme::Tls, expected)));
        let any = ListenHost::AnyIpv4 { port: 6697 };
        assert_eq!(listen("[::ffff:0.0.0.0]"), Ok((Scheme::Tls, any)));
    }

    #[test]
    fn wrong_servers() {
        let cases = [
            (
                "irc.oftc.net",
                "\"irc.oftc.net\" does not say how to connect",
            ),
            (
                "irc.oftc.net:6697",
                "\"irc.oftc.net:6697\" does not say how to connect",
            ),
            ("http://irc.oftc.net", "\"http\" is no known scheme"),
            ("mailto:me@example.org", "\"mailto\" is no known scheme"),
            (
                "irc://irc.oftc.net",
                "irc:// is clear text and \"irc.oftc.net\" is not this machine",
            ),
            (
                "irc://[2001:db8::1]",
                "irc:// is clear text and \"[2001:db8::1]\" is not this machine",
            ),
            (
                "ircs://2001:db8::1",
                "the IPv6 address \"2001:db8::1\" has no brackets",
            ),
            (
                "ircs://[2001:db8::1",
                "\"[2001:db8::1\" is neither a host name nor an address",
            ),
            (
                "ircs://a:b:c",
                "\"a:b:c\" is neither a host name nor an address",
            ),
            ("ircs://", "\"\" is neither a host name nor an address"),
            ("ircs://*", "\"*\" is neither a host name nor an address"),
            (
                "ircs://[::]",
                "\"::\" is neither a host name nor an address",
            ),
            (
                "ircs://999.0.2.1",
                "\"999.0.2.1\" is neither a host name nor an address",
            ),
            (
                "ircs://me@irc.oftc.net",
                "\"me@irc.oftc.net\" is neither a host name nor an address",
            ),
            ("ircs://irc.oftc.net:0", "\"0\" is no port"),
            ("ircs://irc.oftc.net:+6697", "\"+6697\" is no port"),
            ("ircs://irc.oftc.net:70000", "\"70000\" is no port"),
            ("ircs://irc.oftc.net/#bip", "\"/#bip\" means nothing here"),
            ("unix:", "the unix socket has no path"),
        ];
        for (text, error) in cases {
            assert_eq!(server(text), error, "{text}");
        }
    }

    #[test]
    fn listeners() {
        let both = ListenHost::AnyIpv6 {
            port: 6697,
            only: false,
        };
        assert_eq!(listen("[::]"), Ok((Scheme::Tls, both.clone())));
        assert_eq!(listen("ircs://[::]:6697"), Ok((Scheme::Tls, both)));
        let only = ListenHost::AnyIpv6 {
            port: 7000,
            only: true,
        };
        assert_eq!(
            listen("irc+insecure://[::]:7000?v6only"),
            Ok((Scheme::Insecure, only))
        );
        let v4 = ListenHost::AnyIpv4 { port: 6667 };
        assert_eq!(
            listen("irc+insecure://*"),
            Ok((Scheme::Insecure, v4.clone()))
        );
        assert_eq!(listen("irc+insecure://0.0.0.0"), Ok((Scheme::Insecure, v4)));
        let name = ListenHost::Name {
            name: "localhost".into(),
            port: 6667,
        };
        assert_eq!(listen("irc://localhost"), Ok((Scheme::Local, name)));
        let ip = "fe80::1".parse().unwrap();
        let scoped = ListenHost::Address {
            ip,
            scope: Some("eth0".into()),
            port: 6697,
        };
        assert_eq!(listen("[fe80::1%eth0]"), Ok((Scheme::Tls, scoped)));
        let unix = ListenHost::Unix("/run/carom.sock".into());
        assert_eq!(listen("unix:/run/carom.sock"), Ok((Scheme::Local, unix)));
    }

    #[test]
    fn sockets_from_systemd_have_a_name_in_place_of_a_host() {
        let named = |name: &str| ListenHost::Systemd(name.into());
        assert_eq!(listen("systemd:irc"), Ok((Scheme::Tls, named("irc"))));
        assert_eq!(listen("systemd:6697"), Ok((Scheme::Tls, named("6697"))));
        let socket = named("carom.socket");
        assert_eq!(listen("systemd:carom.socket"), Ok((Scheme::Tls, socket)));
        assert_eq!(
            listen("irc+insecure://systemd:irc"),
            Ok((Scheme::Insecure, named("irc")))
        );
        assert_eq!(
            listen("irc://systemd:local"),
            Ok((Scheme::Local, named("local")))
        );
        let host = ListenHost::Name {
            name: "systemd".into(),
            port: 6697,
        };
        assert_eq!(listen("ircs://systemd:6697"), Ok((Scheme::Tls, host)));
    }

    #[test]
    fn wrong_listeners() {
        let clear = |text: &str| Err(AddressError::ClearText(text.into()));
        assert_eq!(listen("irc://[::]"), clear("[::]"));
        assert_eq!(listen("irc://*:6667"), clear("*:6667"));
        assert_eq!(listen("irc://192.0.2.1"), clear("192.0.2.1"));
        for name in ["", "a b", "a:b", "s\u{f6}ckel"] {
            let error = AddressError::SocketName(name.into());
            assert_eq!(listen(&format!("systemd:{name}")), Err(error));
        }
        assert_eq!(
            listen("[fe80::1]"),
            Err(AddressError::NoScope("fe80::1".parse().unwrap()))
        );
        assert_eq!(
            listen("*?v6only"),
            Err(AddressError::Extra("?v6only".into()))
        );
        assert_eq!(listen(":6697"), Err(AddressError::Host(String::new())));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in "[\\[\\]:./%*?a-z0-9+]{0,40}") {
            if let Ok(address) = ServerAddr::parse(&text) {
                assert_eq!(ServerAddr::parse(&address.to_string()), Ok(address));
            }
            let _ = Listen::parse(&text);
        }
    }
}
