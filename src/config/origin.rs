//! Where pages may come from that talk to web listeners (`server.websocket_origins`). A browser says of every page whose it
//! is, so that the page of a stranger cannot reach, through its reader's browser, what the stranger himself cannot.

use std::fmt;

use super::reader::{Reader, Value};

/// Which pages are let in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins(Vec<Origin>);

/// One of them, as the file writes it but in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// `*`
    Any,
    /// `https://chat.example.org`, `null`
    Page(String),
    /// `https://*.example.org`: scheme, and what the host ends with (`.example.org`, with the port if any).
    Below(String, String),
}

/// Why a text is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no origin of pages")]
pub struct OriginError {
    text: String,
}

impl Origin {
    fn parse(text: &str) -> Result<Self, OriginError> {
        let wrong = || OriginError { text: text.into() };
        match text {
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Page(text.into())),
            _ => {}
        }
        let lower = text.to_ascii_lowercase();
        let (scheme, place) = lower.split_once("://").ok_or_else(wrong)?;
        let is_scheme = !scheme.is_empty()
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let (below, host) = match place.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, place),
        };
        if !is_scheme || !is_place(host) {
            return Err(wrong());
        }
        let host = without_default_port(scheme, host);
        Ok(match below {
            true => Self::Below(scheme.into(), format!(".{host}")),
            false => Self::Page(format!("{scheme}://{host}")),
        })
    }

    fn admits(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Page(page) => page == origin,
            Self::Below(scheme, end) => origin
                .split_once("://")
                .is_some_and(|(of, host)| of == scheme && host.ends_with(end.as_str())),
        }
    }
}

/// A host, and perhaps a port.
fn is_place(place: &str) -> bool {
    let host = host_of(place);
    let name = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .map_or(host, |inner| inner.trim_matches(':'));
    let port = place[host.len()..].strip_prefix(':');
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let inside = if host.starts_with('[') { "" } else { ":[]" };
    !name.is_empty()
        && is_port
        && host.len() + port.map_or(0, |port| port.len() + 1) == place.len()
        && name
            .chars()
            .all(|c| c.is_ascii_graphic() && !"/?#*@\\,".contains(c) && !inside.contains(c))
}

/// A browser leaves out the port that a scheme has anyway.
fn without_default_port<'a>(scheme: &str, place: &'a str) -> &'a str {
    let port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return place,
    };
    place.strip_suffix(port).unwrap_or(place)
}

/// The host of `host`, `host:port`, `[host]` or `[host]:port`.
fn host_of(place: &str) -> &str {
    match (place.rfind(']'), place.rfind(':')) {
        (Some(end), _) => &place[..=end],
        (None, Some(colon)) => &place[..colon],
        (None, None) => place,
    }
}

impl Origins {
    /// Whether a page from `origin` may talk to what it calls `host`. Programs that are no browsers say no origin and
    /// may. Where none is configured, pages may that come from the same host, on any port.
    pub fn admit(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        let origin = origin.to_ascii_lowercase();
        if !self.0.is_empty() {
            return self.0.iter().any(|one| one.admits(&origin));
        }
        let page = origin.split_once("://").map(|(_, place)| host_of(place));
        let host = host.map(|host| host_of(host).to_ascii_lowercase());
        page.is_some_and(|page| !page.is_empty() && Some(page) == host.as_deref())
    }

    /// As they are written.
    pub fn iter(&self) -> impl Iterator<Item = impl fmt::Display> {
        self.0.iter()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Page(page) => f.write_str(page),
            Self::Below(scheme, end) => write!(f, "{scheme}://*{end}"),
        }
    }
}

/// Takes `server.websocket_origins`.
pub(super) fn read(value: Value<'_>, reader: &mut Reader<'_>, into: &mut Origins) {
    let example = "[\"https://chat.example.org\"]";
    let Some(list) = reader.list(value, example) else {
        return;
    };
    let mut origins = Vec::new();
    for item in list {
        let Some(text) = reader.text(item) else {
            continue;
        };
        match Origin::parse(text) {
            Ok(origin) => origins.push(origin),
            Err(error) => {
                let remedy = "write it as https://chat.example.org, without a path; https://*.example.org is all below, \
                              * is any";
                reader.error(item, error.to_string(), remedy);
            }
        }
    }
    *into = Origins(origins);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origins(list: &[&str]) -> Origins {
        Origins(
            list.iter()
                .map(|text| Origin::parse(text).unwrap())
                .collect(),
        )
    }

    /// Each row: the list, what the browser says, whether it may.
    #[rustfmt::skip] // a table: one row on one line
    const TABLE: &[(&[&str], Option<&str>, bool)] = &[
        (&[], None, true),
        (&[], Some("https://bnc.test"), true),
        (&[], Some("https://BNC.test"), true),
        (&[], Some("http://bnc.test:3000"), true),
        (&[], Some("https://evil.test"), false),
        (&[], Some("https://bnc.test.evil.test"), false),
        (&[], Some("https://evil-bnc.test"), false),
        (&[], Some("null"), false),
        (&[], Some(""), false),
        (&[], Some("https://"), false),
        (&["*"], Some("https://evil.test"), true),
        (&["*"], Some("null"), true),
        (&["https://chat.test"], None, true),
        (&["https://chat.test"], Some("https://chat.test"), true),
        (&["https://Chat.test"], Some("https://chat.TEST"), true),
        (&["https://chat.test:443"], Some("https://chat.test"), true),
        (&["http://chat.test:80"], Some("http://chat.test"), true),
        (&["https://chat.test"], Some("http://chat.test"), false),
        (&["https://chat.test"], Some("https://chat.test:8443"), false),
        (&["https://chat.test"], Some("https://bnc.test"), false),
        (&["https://chat.test:8443"], Some("https://chat.test:8443"), true),
        (&["https://chat.test", "null"], Some("null"), true),
        (&["https://*.test"], Some("https://a.b.test"), true),
        (&["https://*.test"], Some("https://test"), false),
        (&["https://*.test"], Some("https://atest"), false),
        (&["https://*.test"], Some("http://a.test"), false),
        (&["https://[::1]:8443"], Some("https://[::1]:8443"), true),
        (&["app://gamja"], Some("app://gamja"), true),
    ];

    #[test]
    fn who_may() {
        for (list, origin, expected) in TABLE {
            let admitted = origins(list).admit(*origin, Some("bnc.test:8443"));
            assert_eq!(admitted, *expected, "{list:?} {origin:?}");
        }
        let same = origins(&[]);
        assert!(same.admit(Some("http://[::1]:8000"), Some("[::1]:80")));
        assert!(same.admit(Some("http://127.0.0.1"), Some("127.0.0.1")));
        assert!(!same.admit(Some("http://[::1]:8000"), Some("[::2]:80")));
        assert!(!same.admit(Some("http://bnc.test"), None));
    }

    #[test]
    fn what_is_no_origin() {
        for text in [
            "",
            "chat.test",
            "https://",
            "https://a/",
            "https://a/b",
            "://a",
            "https://a*",
            "https://*",
            "a b://c",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(text in "[a-z*:/.\\[\\]0-9]{0,20}", origin in ".{0,20}") {
            if let Ok(one) = Origin::parse(&text) {
                prop_assert_eq!(Origin::parse(&one.to_string()), Ok(one));
            }
            origins(&[]).admit(Some(&origin), Some(&text));
        }
    }
}
