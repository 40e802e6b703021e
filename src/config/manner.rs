//! How clients talk on a listener: how the connection is protected, and whether lines of IRC stand in it as they are or in
//! the messages of a WebSocket. Servers are always spoken to in lines.

use super::address::{AddressError, Scheme};

/// What is said in front of a listener's `://`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    /// How connections are protected.
    pub scheme: Scheme,
    /// `ws`: web clients, by WebSocket.
    pub web: bool,
}

impl Manner {
    /// As it is written in front of `://`.
    pub fn as_str(self) -> &'static str {
        match (self.web, self.scheme) {
            (false, scheme) => scheme.as_str(),
            (true, Scheme::Tls) => "wss",
            (true, Scheme::Local) => "ws",
            (true, Scheme::Insecure) => "ws+insecure",
        }
    }

    /// The port when none is written.
    pub fn default_port(self) -> u16 {
        match (self.web, self.scheme) {
            (false, scheme) => scheme.default_port(),
            (true, Scheme::Tls) => 443,
            (true, Scheme::Local | Scheme::Insecure) => 80,
        }
    }

    /// Reads what stands in front of `://`.
    pub(super) fn parse(text: &str) -> Result<Self, AddressError> {
        let web = [Scheme::Tls, Scheme::Local, Scheme::Insecure]
            .map(|scheme| Self { scheme, web: true })
            .into_iter()
            .find(|manner| manner.as_str().eq_ignore_ascii_case(text));
        match web {
            Some(manner) => Ok(manner),
            None => Scheme::parse(text).map(Self::from),
        }
    }

    /// The error of a clear-text listener that others reach.
    pub(super) fn clear_text(self, place: &str) -> AddressError {
        if self.web {
            AddressError::ClearWeb(place.into())
        } else {
            AddressError::ClearText(place.into())
        }
    }
}

impl From<Scheme> for Manner {
    /// Lines as they are.
    fn from(scheme: Scheme) -> Self {
        Self { scheme, web: false }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::address::{Listen, ListenHost};
    use super::*;

    fn listen(text: &str) -> Result<(&'static str, ListenHost), AddressError> {
        Listen::parse(text).map(|listen| (listen.manner.as_str(), listen.host))
    }

    fn at(ip: &str, port: u16) -> ListenHost {
        let ip: IpAddr = ip.parse().unwrap();
        ListenHost::Address {
            ip,
            scope: None,
            port,
        }
    }

    #[test]
    fn web_listeners() {
        let any = |port| ListenHost::AnyIpv6 { port, only: false };
        assert_eq!(listen("wss://[::]"), Ok(("wss", any(443))));
        assert_eq!(listen("WSS://[::]:8443"), Ok(("wss", any(8443))));
        assert_eq!(listen("ws://[::1]"), Ok(("ws", at("::1", 80))));
        assert_eq!(listen("ws://127.0.0.1:0"), Ok(("ws", at("127.0.0.1", 0))));
        assert_eq!(
            listen("ws://[::ffff:127.0.0.1]:8080"),
            Ok(("ws", at("127.0.0.1", 8080)))
        );
        assert_eq!(
            listen("ws+insecure://192.0.2.1"),
            Ok(("ws+insecure", at("192.0.2.1", 80)))
        );
        let name = ListenHost::Name {
            name: "localhost".into(),
            port: 80,
        };
        assert_eq!(listen("ws://localhost"), Ok(("ws", name)));
        let only = ListenHost::AnyIpv6 {
            port: 443,
            only: true,
        };
        assert_eq!(listen("wss://[::]?v6only"), Ok(("wss", only)));
    }

    #[test]
    fn web_listeners_on_sockets_that_are_no_addresses() {
        let unix = |path: &str| ListenHost::Unix(path.into());
        assert_eq!(listen("ws+unix:/run/web"), Ok(("ws", unix("/run/web"))));
        assert_eq!(listen("ws+unix:///run/web"), Ok(("ws", unix("/run/web"))));
        assert_eq!(listen("ws+unix:web"), Ok(("ws", unix("web"))));
        assert_eq!(listen("ws+unix:"), Err(AddressError::NoPath));
        let named = ListenHost::Systemd("web".into());
        assert_eq!(listen("wss://systemd:web"), Ok(("wss", named)));
    }

    #[test]
    fn clear_text_stays_on_this_machine() {
        for place in ["[::]", "*:80", "192.0.2.1", "[2001:db8::1]:80", "irc.test"] {
            let error = AddressError::ClearWeb(place.into());
            assert_eq!(listen(&format!("ws://{place}")), Err(error));
        }
        let error = AddressError::ClearWeb("[::]".into());
        assert_eq!(
            error.to_string(),
            "ws:// is clear text and \"[::]\" is not this machine"
        );
        assert_eq!(
            error.remedy(),
            "use wss://[::], or ws+insecure://[::] if it must be"
        );
    }

    #[test]
    fn other_words_are_no_schemes() {
        for scheme in ["http", "https", "wsss", "wss+insecure", "ircs+ws"] {
            let error = AddressError::UnknownScheme(scheme.into());
            assert_eq!(listen(&format!("{scheme}://[::1]")), Err(error));
        }
    }
}
