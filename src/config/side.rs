//! Places beside those for clients where something listens, as `server.metrics`: addresses without a scheme, because there is
//! no choice.

use super::address::AddressError;
use super::reader::{Reader, Value};
use super::{Listen, Server};

/// The port of [`Server::metrics`](super::Server::metrics) unless another is said.
pub(super) const METRICS: u16 = 9194;

/// The port of [`Server::ident`], which servers ask at.
const IDENT: u16 = 113;
/// An entry of `server.ident` that is a file begins so.
pub(super) const OIDENTD: &str = "oidentd:";

/// Takes `server.ident`: addresses, and files of oidentd.
pub(super) fn ident(server: &mut Server, value: Value<'_>, reader: &mut Reader<'_>) {
    let Some(list) = reader.list(value, "[\"[::]:113\"]") else {
        return;
    };
    for item in list {
        let Some(text) = reader.text(item) else {
            continue;
        };
        match text.strip_prefix(OIDENTD) {
            None => address(text, item, reader, IDENT, &mut server.ident),
            Some("") => {
                let remedy = "write \"oidentd:/home/carom/.oidentd.conf\"";
                reader.error(item, "says no file", remedy);
            }
            Some(path) => server.oidentd.push(reader.folder().join(path)),
        }
    }
}

/// Takes a list of addresses; those without a port have this one.
pub(super) fn listen(value: Value<'_>, reader: &mut Reader<'_>, port: u16, into: &mut Vec<Listen>) {
    let example = format!("[\"[::1]:{port}\"]");
    let Some(list) = reader.list(value, &example) else {
        return;
    };
    let mut listens = Vec::new();
    for item in list {
        let Some(text) = reader.text(item) else {
            continue;
        };
        address(text, item, reader, port, &mut listens);
    }
    *into = listens;
}

fn address(
    text: &str,
    item: Value<'_>,
    reader: &mut Reader<'_>,
    port: u16,
    into: &mut Vec<Listen>,
) {
    match parse(text, port) {
        Ok(listen) => into.push(listen.under(reader.folder())),
        Err(error) => {
            let remedy = format!("write an address as [::1]:{port}");
            reader.error(item, error.to_string(), remedy);
        }
    }
}

fn parse(text: &str, port: u16) -> Result<Listen, AddressError> {
    let is_port = |(_, port): (&str, &str)| port.bytes().all(|byte| byte.is_ascii_digit());
    let has_port = text.rsplit_once(':').is_some_and(is_port);
    let is_named = ["unix:", "systemd:"]
        .iter()
        .any(|word| text.starts_with(word));
    let whole = match (is_named, has_port) {
        (true, _) if text.starts_with("unix:") => text.to_owned(),
        (true, _) | (false, true) => format!("irc+insecure://{text}"),
        (false, false) => format!("irc+insecure://{text}:{port}"),
    };
    if text.contains("://") {
        return Err(AddressError::Extra(text.to_owned()));
    }
    let listen = Listen::parse(&whole)?;
    Ok(Listen {
        written: text.to_owned(),
        ..listen
    })
}

#[cfg(test)]
mod tests {
    use super::super::ListenHost;
    use super::*;

    #[test]
    fn an_address_has_a_port_of_its_own_or_the_usual_one() {
        let host = |text: &str| parse(text, 9194).map(|listen| listen.host);
        let at = |ip: &str, port| ListenHost::Address {
            ip: ip.parse().unwrap(),
            scope: None,
            port,
        };
        assert_eq!(host("[::1]:9100"), Ok(at("::1", 9100)));
        assert_eq!(host("[::1]"), Ok(at("::1", 9194)));
        assert_eq!(host("127.0.0.1"), Ok(at("127.0.0.1", 9194)));
        let both = ListenHost::AnyIpv6 {
            port: 113,
            only: false,
        };
        assert_eq!(host("[::]:113"), Ok(both));
        assert_eq!(host("*"), Ok(ListenHost::AnyIpv4 { port: 9194 }));
        assert_eq!(
            host("systemd:metrics"),
            Ok(ListenHost::Systemd("metrics".into()))
        );
        assert_eq!(host("unix:/a"), Ok(ListenHost::Unix("/a".into())));
        for wrong in ["http://[::1]:9194", "[::1]:x", "::1", "[::1]:99999", ""] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse("[::1]", 1).unwrap().written, "[::1]");
    }
}
