//! Names and server addresses of the file, made of what others call so: another bouncer's configuration, or a client that
//! gives host, port and protection apart. What comes of it is judged like anything else.

use std::net::IpAddr;

/// A name that a user may have: `[a-z0-9_-]{1,32}`.
pub(crate) fn user_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    let name = name.to_lowercase();
    let name: String = name
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .take(32)
        .collect();
    if name.is_empty() { "user".into() } else { name }
}

/// A name that a network may have: up to 64 bytes without space, `/`, `@`, `:` or controls.
pub(crate) fn network_name(name: &str) -> String {
    let refused = |c: char| c.is_whitespace() || c.is_control() || "/@:".contains(c);
    let mut out = String::new();
    for c in name.chars().map(|c| if refused(c) { '_' } else { c }) {
        if out.len() + c.len_utf8() > 64 {
            break;
        }
        out.push(c);
    }
    if out.is_empty() {
        "network".into()
    } else {
        out
    }
}

/// A server's URL. An IPv6 address may stand with or without brackets; without a port it is the usual one.
pub(crate) fn server_url(tls: bool, host: &str, port: Option<&str>) -> String {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_local = bare == "localhost"
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|a| a.to_canonical().is_loopback());
    let scheme = match (tls, is_local) {
        (true, _) => "ircs",
        (false, true) => "irc",
        (false, false) => "irc+insecure",
    };
    let port = port.unwrap_or(if tls { "6697" } else { "6667" });
    if bare.contains(':') {
        format!("{scheme}://[{bare}]:{port}")
    } else {
        format!("{scheme}://{bare}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{ServerAddr, texts};
    use super::*;

    #[test]
    fn a_url_is_made_of_its_parts() {
        for (tls, host, port, url) in [
            (true, "irc.test", None, "ircs://irc.test:6697"),
            (false, "irc.test", None, "irc+insecure://irc.test:6667"),
            (false, "localhost", Some("7000"), "irc://localhost:7000"),
            (
                true,
                "2001:db8::1",
                Some("7000"),
                "ircs://[2001:db8::1]:7000",
            ),
            (false, "[::1]", None, "irc://[::1]:6667"),
            (
                false,
                "::ffff:127.0.0.1",
                None,
                "irc://[::ffff:127.0.0.1]:6667",
            ),
        ] {
            let made = server_url(tls, host, port);
            assert_eq!(made, url, "{host}");
            assert!(ServerAddr::parse(&made).is_ok(), "{made}");
        }
        // Nothing is lost that makes it wrong.
        assert!(ServerAddr::parse(&server_url(true, "a b", None)).is_err());
        assert!(ServerAddr::parse(&server_url(true, "a", Some("x"))).is_err());
    }

    proptest! {
        #[test]
        fn names_can_be_names_whatever_they_were(name in any::<String>()) {
            prop_assert_eq!(texts::user_name(&user_name(&name)), Ok(()));
            prop_assert_eq!(texts::network_name(&network_name(&name)), Ok(()));
        }
    }
}
