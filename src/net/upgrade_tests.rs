//! Requests of all kinds, and what is answered.

use proptest::prelude::*;
use tokio::net::UnixStream;

use super::*;
use crate::config::{Purpose, Surroundings, load_in};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const UPGRADE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";

/// A request that is fine, with these headers more.
fn request(more: &str) -> String {
    format!("GET /any/path?q HTTP/1.1\r\nHost: bnc.test:8443\r\n{UPGRADE}{VERSION}{KEY}{more}\r\n")
}

/// What is answered to these bytes, and what came of them.
async fn ask_with(bytes: &[u8], origins: &Origins) -> (String, Result<Upgraded, UpgradeError>) {
    let (here, mut peer) = UnixStream::pair().unwrap();
    let asking = async {
        // It may not be read to its end.
        _ = peer.write_all(bytes).await;
        _ = peer.shutdown().await;
        let mut answer = Vec::new();
        _ = peer.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    let answering = async {
        let upgraded = accept(Stream::Unix(here), origins).await;
        upgraded.map(|upgraded| Upgraded {
            // Dropped here, so that the peer sees an end.
            stream: Stream::Unix(UnixStream::pair().unwrap().0),
            ..upgraded
        })
    };
    tokio::join!(asking, answering)
}

async fn ask(text: &str) -> (String, Result<Upgraded, UpgradeError>) {
    ask_with(text.as_bytes(), &Origins::default()).await
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

#[tokio::test]
async fn the_key_of_the_specification_has_the_answer_of_the_specification() {
    let (answer, upgraded) = ask(&request("")).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let accept = header(&answer, "Sec-WebSocket-Accept");
    assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(header(&answer, "Sec-WebSocket-Protocol"), None);
    // No compression, whatever is offered.
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let (answer, _) = ask(&request(offer)).await;
    assert_eq!(header(&answer, "Sec-WebSocket-Extensions"), None);
    assert!(upgraded.unwrap().forwarded.is_empty());
}

#[tokio::test]
async fn the_first_sub_protocol_that_is_ours_is_taken() {
    let rows = [
        (&["text.ircv3.net"][..], Some("text.ircv3.net")),
        (&["binary.ircv3.net"], Some("binary.ircv3.net")),
        (
            &["binary.ircv3.net, text.ircv3.net"],
            Some("binary.ircv3.net"),
        ),
        (&["text.ircv3.net,binary.ircv3.net"], Some("text.ircv3.net")),
        (&["irc", "binary.ircv3.net"], Some("binary.ircv3.net")),
        (&["chat, irc"], None),
        (&["TEXT.ircv3.net"], None),
    ];
    for (asked, expected) in rows {
        let more: String = asked
            .iter()
            .map(|list| format!("Sec-WebSocket-Protocol: {list}\r\n"))
            .collect();
        let (answer, _) = ask(&request(&more)).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert_eq!(
            header(&answer, "Sec-WebSocket-Protocol"),
            expected,
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn whoever_does_not_speak_websocket_is_told_so_in_http() {
    let long = format!("GET / HTTP/1.1\r\nCookie: {}", "x".repeat(LONGEST + 1));
    let many = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(200));
    let short = KEY.replace("dGhl", "");
    let rows: &[(&str, String)] = &[
        ("400", "NICK a\r\nUSER a 0 * :a\r\n".into()),
        ("400", "CAP LS 302\r\n".into()),
        ("400", "\x16\x03\x01\x02\0\x01\0\x01".into()),
        ("400", "\r\n\r\n\0\r\nQUIT\n".into()),
        ("400", "GET / HTTP/3.7\r\n\r\n".into()),
        ("400", request("").replace(KEY, "")),
        ("400", request("").replace(KEY, &short)),
        ("400", request("").replace("Host", "Ho st")),
        ("405", "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n".into()),
        (
            "426",
            "GET /favicon.ico HTTP/1.1\r\nHost: bnc.test\r\n\r\n".into(),
        ),
        (
            "426",
            request("").replace(UPGRADE, "Upgrade: websocket\r\n"),
        ),
        ("426", request("").replace("WebSocket\r\n", "h2c\r\n")),
        ("426", request("").replace("Version: 13", "Version: 8")),
        ("431", long),
        ("431", many),
        ("403", request("Origin: https://evil.test\r\n")),
        ("403", request("Origin: null\r\n")),
        ("101", request("Origin: https://bnc.test\r\n")),
    ];
    for (status, text) in rows {
        let (answer, upgraded) = ask(text).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{text:.200?}: {answer}");
        assert_eq!(upgraded.is_ok(), *status == "101");
        if upgraded.is_ok() {
            continue;
        }
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let length = header(&answer, "Content-Length").unwrap();
        assert_eq!(length, body.len().to_string());
        assert!(header(&answer, "Connection").unwrap().ends_with("close"));
    }
}

#[tokio::test]
async fn pages_come_from_where_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("carom.toml");
    let file = "[storage]\npath = \"carom.db\"\n[server]\nwebsocket_origins = [\"https://chat.test\", \"https://*.example.org\"]\n";
    std::fs::write(&path, file).unwrap();
    let surroundings = Surroundings::default();
    let (config, _) = load_in(&path, Purpose::Check, &surroundings).unwrap();
    let origins = config.server.websocket_origins;
    for (origin, status) in [
        ("https://chat.test", "101"),
        ("https://a.example.org", "101"),
        ("https://bnc.test", "403"),
        ("http://chat.test", "403"),
    ] {
        let text = request(&format!("Origin: {origin}\r\n"));
        let (answer, _) = ask_with(text.as_bytes(), &origins).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{origin}"
        );
    }
    let (answer, _) = ask_with(request("").as_bytes(), &origins).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "no browser, no origin");
}

#[tokio::test]
async fn whom_a_proxy_speaks_for_is_canonical() {
    let rows: &[(&str, &[&str])] = &[
        ("", &[]),
        ("X-Forwarded-For: 192.0.2.1\r\n", &["192.0.2.1"]),
        ("X-Forwarded-For: ::ffff:192.0.2.1\r\n", &["192.0.2.1"]),
        (
            "X-Forwarded-For: 192.0.2.1, 2001:db8::1\r\nx-forwarded-for: [2001:db8::2]:80,[2001:db8::3],192.0.2.2:80\r\n",
            &[
                "192.0.2.1",
                "2001:db8::1",
                "2001:db8::2",
                "2001:db8::3",
                "192.0.2.2",
            ],
        ),
        ("X-Forwarded-For: 192.0.2.1, unknown\r\n", &[]),
        ("X-Forwarded-For: 192.0.2.1,\r\n", &[]),
    ];
    for (more, expected) in rows {
        let (_, upgraded) = ask(&request(more)).await;
        let forwarded = upgraded.unwrap().forwarded;
        let told: Vec<_> = forwarded.iter().map(ToString::to_string).collect();
        assert_eq!(told, *expected, "{more}");
    }
}

#[tokio::test]
async fn who_has_gone_is_lost() {
    for text in ["", "GET / HT"] {
        let (answer, upgraded) = ask(text).await;
        assert_eq!(answer, "");
        assert!(matches!(upgraded, Err(UpgradeError::Lost(_))), "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_come_to_an_end_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..200, real in any::<bool>()) {
        let mut text = if real { request("").into_bytes() } else { Vec::new() };
        let at = at.min(text.len());
        text.splice(at..at, bytes);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (answer, upgraded) = runtime.block_on(ask_with(&text, &Origins::default()));
        prop_assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "));
        prop_assert!(upgraded.is_err() || answer.starts_with("HTTP/1.1 101 "));
    }
}
