//! Web clients: WebSockets over both families, with TLS and without, in both kinds; what their browsers and proxies say of
//! them, and what becomes of those who do not keep to the rules.

use support::client::text_of;
use support::daemon::{channel, network};
use support::web::{self, CLOSE, PING, PONG, TEXT};
use support::{Link, MockIrcd, Script};
use tokio::net::UnixStream;

use super::*;

const KINDS: [&str; 2] = ["text.ircv3.net", "binary.ircv3.net"];
const CLEAR: &str = "[\"ws+insecure://[::]:0\"]";

/// One user on a network with a channel, these listeners, and more lines of `[server]`.
async fn on_channel(listen: &str, server: &str) -> (Daemon, MockIrcd, Link) {
    let ircd = MockIrcd::start(Script::default()).await;
    let networks = network("net", &ircd.url()) + "flood = { burst = 0 }\n" + &channel("#a");
    let daemon = Daemon::start(&(config(listen, server) + &networks)).await;
    let mut link = ircd.accept().await;
    link.registered().await;
    link.expect("JOIN #a").await;
    (daemon, ircd, link)
}

/// As a browser connects.
fn browser() -> std::sync::Arc<rustls::ClientConfig> {
    let mut config = rustls::ClientConfig::clone(&support::tls::client(None));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.into()
}

async fn attached(mut client: Client, name: &str) -> Client {
    client.login(&format!("apw/net@{name}:{PASSWORD}")).await;
    client.expect("366").await;
    client.sync().await;
    client
}

#[tokio::test]
async fn web_clients_attach_talk_and_are_replayed_what_they_missed() {
    let listen = "[\"ws+insecure://[::]:0\", \"wss://[::]:0\"]";
    let (mut daemon, _ircd, mut link) = on_channel(listen, "").await;
    daemon
        .logged("(IPv6 and IPv4), clear text, WebSocket")
        .await;
    daemon.logged("(IPv6 and IPv4), TLS, WebSocket").await;
    let clear = daemon.addr();
    let tls = daemon.addr_of(1);
    let mut ways = Vec::new();
    for addr in [clear, v4(clear.port()), tls, v4(tls.port())] {
        ways.extend(KINDS.map(|kind| (addr, kind, (addr.port() == tls.port()).then(browser))));
    }
    let mut clients = Vec::new();
    for (n, (addr, kind, tls)) in ways.iter().enumerate() {
        let client = Client::connect_web(*addr, kind, tls.clone()).await;
        clients.push(attached(client, &format!("c{n}")).await);
    }
    link.privmsg("bob", "#a", "hello").await;
    for (n, client) in clients.iter_mut().enumerate() {
        client.expect(":bob!bob@host.test PRIVMSG #a :hello").await;
        client.send(&format!("PRIVMSG #a :from {n}")).await;
        link.expect(&format!("PRIVMSG #a :from {n}")).await;
    }
    let last = clients.len() - 1;
    for (n, client) in clients.iter_mut().enumerate() {
        // The last that somebody else has said.
        let marker = if n == last { last - 1 } else { last };
        client.texts_until(&format!("from {marker}")).await;
        client.sync().await;
        client.close().await;
    }
    daemon.logged_times("detached", ways.len()).await;
    link.privmsg("bob", "#a", "missed").await;
    link.privmsg("bob", "#a", "end").await;
    for (n, (addr, kind, tls)) in ways.iter().enumerate() {
        let mut client = Client::connect_web(*addr, kind, tls.clone()).await;
        client.login(&format!("apw/net@c{n}:{PASSWORD}")).await;
        let replayed = client.expect_lines("the end", |line| line.ends_with("] end"));
        let mut lines = replayed.await;
        lines.retain(|line| text_of(line).is_some());
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].ends_with("] missed"), "{lines:?}");
    }
}

#[tokio::test]
async fn bytes_are_exact_in_binary_and_made_utf_8_in_text() {
    let (daemon, _ircd, link) = on_channel(CLEAR, "").await;
    let [text, binary] = KINDS.map(|kind| Client::connect_web(daemon.addr(), kind, None));
    let mut text = attached(text.await, "text").await;
    let mut binary = attached(binary.await, "binary").await;
    let said = b":bob!b@host.test PRIVMSG #a :caf\xe9 \xff \xe2\x82\xac";
    link.send_bytes(&[said, &b"\r\n"[..]].concat())
        .await
        .unwrap();
    text.expect(":bob!b@host.test PRIVMSG #a :caf\u{fffd} \u{fffd} \u{20ac}")
        .await;
    binary.expect(":bob!b@host.test PRIVMSG #a :").await;
    assert!(binary.heard_bytes().iter().any(|line| line == said));
}

/// A web client of which nothing is done by itself.
struct Raw(TcpStream);

impl Raw {
    async fn connect(addr: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let answer = web::ask(&mut stream, &web::request("")).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        Self(stream)
    }

    async fn login(addr: SocketAddr, name: &str) -> Self {
        let mut raw = Self::connect(addr).await;
        raw.say(&format!("PASS apw/net@{name}:{PASSWORD}")).await;
        raw.say("NICK zed").await;
        raw.say("USER zed 0 * :Zed").await;
        raw.until(" 366 ").await;
        raw
    }

    async fn send(&mut self, opcode: u8, payload: &[u8]) {
        let frame = web::frame(opcode, true, payload);
        self.0.write_all(&frame).await.unwrap();
    }

    async fn say(&mut self, line: &str) {
        self.send(TEXT, line.as_bytes()).await;
    }

    async fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        in_time("a frame", web::read(&mut self.0)).await
    }

    /// Messages up to the one with these words.
    async fn until(&mut self, words: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while !lines
            .last()
            .is_some_and(|line: &String| line.contains(words))
        {
            let (opcode, line) = self.hear().await.unwrap();
            assert_eq!(opcode, TEXT, "{line:?} after {lines:?}");
            lines.push(String::from_utf8(line).unwrap());
        }
        lines
    }
}

#[tokio::test]
async fn a_close_frame_proves_and_a_lost_connection_does_not() {
    let (mut daemon, _ircd, link) = on_channel(CLEAR, "").await;
    // Neither answers the PING that asks for proof.
    let mut closes = Raw::login(daemon.addr(), "closes").await;
    let mut vanishes = Raw::login(daemon.addr(), "vanishes").await;
    link.privmsg("bob", "#a", "hello").await;
    closes.until("hello").await;
    vanishes.until("hello").await;
    // With the PING everything has come: nothing is unread, and what is told next goes with an acknowledgement.
    closes.until("PING :carom-").await;
    vanishes.until("PING :carom-").await;
    closes.send(CLOSE, &1000u16.to_be_bytes()).await;
    while closes
        .hear()
        .await
        .is_some_and(|(opcode, _)| opcode != CLOSE)
    {}
    drop(vanishes);
    // A page that says QUIT, and closes without waiting.
    let mut quits = Raw::login(daemon.addr(), "quits").await;
    link.privmsg("bob", "#a", "hello").await;
    quits.until("PRIVMSG #a :hello").await;
    let last = [
        web::frame(TEXT, true, b"QUIT :bye"),
        web::frame(CLOSE, true, &1001u16.to_be_bytes()),
    ];
    quits.0.write_all(&last.concat()).await.unwrap();
    while quits.hear().await.is_some() {}
    daemon.logged_times("detached", 3).await;
    link.privmsg("bob", "#a", "end").await;
    for name in ["closes", "quits"] {
        let mut closed = Raw::login(daemon.addr(), name).await;
        let again = closed.until("end").await;
        let hello = again.iter().filter(|line| line.contains("hello")).count();
        // The second came when the first client had gone.
        let expected = usize::from(name == "closes");
        assert_eq!(hello, expected, "{name}: {again:?}");
    }
    let mut vanished = Raw::login(daemon.addr(), "vanishes").await;
    let again = vanished.until("end").await;
    assert!(again.iter().any(|line| line.contains("hello")), "{again:?}");
}

#[tokio::test]
async fn what_was_said_before_a_close_is_said() {
    const LINES: usize = 200;
    let (daemon, _ircd, mut link) = on_channel(CLEAR, "").await;
    let mut raw = Raw::login(daemon.addr(), "c").await;
    let mut all = Vec::new();
    for n in 0..LINES {
        // Each second line is answered at once, when there is nobody to take the answer.
        let line = format!("PRIVMSG #a :line {n}");
        all.extend(web::frame(TEXT, true, line.as_bytes()));
        all.extend(web::frame(TEXT, true, b"PING :there?"));
    }
    all.extend(web::frame(CLOSE, true, &1000u16.to_be_bytes()));
    raw.0.write_all(&all).await.unwrap();
    let last = format!("PRIVMSG #a :line {}", LINES - 1);
    let said = link.until(&last).await;
    let said = said.iter().filter(|line| line.contains("#a :line "));
    assert_eq!(said.count(), LINES);
}

#[tokio::test]
async fn quit_is_answered_with_words_and_a_close_frame() {
    let (mut daemon, _ircd, _link) = on_channel(CLEAR, "").await;
    let mut raw = Raw::login(daemon.addr(), "c").await;
    raw.say("QUIT :bye").await;
    raw.until("ERROR :").await;
    assert_eq!(
        raw.hear().await,
        Some((CLOSE, 1000u16.to_be_bytes().into()))
    );
    raw.send(CLOSE, &1000u16.to_be_bytes()).await;
    assert_eq!(raw.hear().await, None);
    daemon.logged("detached").await;
}

#[tokio::test]
async fn control_frames_and_long_messages_are_answered() {
    let (daemon, _ircd, _link) = on_channel(CLEAR, "").await;
    let mut raw = Raw::login(daemon.addr(), "c").await;
    raw.say("PING :sync").await;
    raw.until("PONG bnc.test :sync").await;
    raw.send(PING, b"there?").await;
    loop {
        match raw.hear().await.unwrap() {
            (PONG, payload) => break assert_eq!(payload, b"there?"),
            (opcode, line) => assert_eq!(opcode, TEXT, "{line:?}"),
        }
    }
    // In parts, with a ping between them.
    let parts = [
        web::frame(TEXT, false, b"PING "),
        web::frame(PING, true, b""),
        web::frame(web::MORE, true, b":parts"),
    ];
    raw.0.write_all(&parts.concat()).await.unwrap();
    while raw.hear().await.unwrap().0 != PONG {}
    raw.until("PONG bnc.test :parts").await;
    raw.say(&format!("PRIVMSG #a :{}", "x".repeat(9000))).await;
    raw.until(" 417 ").await;
    raw.say(&"x".repeat(20_000)).await;
    let closed = loop {
        match raw.hear().await.unwrap() {
            (CLOSE, payload) => break payload,
            (opcode, line) => assert_eq!(opcode, TEXT, "{line:?}"),
        }
    };
    assert_eq!(closed, 1009u16.to_be_bytes());
}

#[tokio::test]
async fn what_is_no_websocket_gets_an_answer_in_http_and_never_stays() {
    let limits = "[limits]\nregister_timeout = \"1s\"\n";
    let daemon = Daemon::start(&format!("{limits}{}", config(CLEAR, ""))).await;
    let get = "GET / HTTP/1.1\r\nHost: bnc.test\r\n\r\n";
    for (says, expected) in [
        (&b"CAP LS 302\r\nNICK a\r\n"[..], "HTTP/1.1 400 "),
        (b"\x16\x03\x01\x02\0\x01\0", "HTTP/1.1 400 "),
        (get.as_bytes(), "HTTP/1.1 426 "),
        (get.replace("GET", "POST").as_bytes(), "HTTP/1.1 405 "),
        (
            &[&b"GET / HTTP/1.1\r\n"[..], &b"a: b\r\n".repeat(5000)].concat(),
            "HTTP/1.1 431 ",
        ),
    ] {
        for addr in [daemon.addr(), daemon.addr_v4()] {
            let answer = answer(addr, says).await;
            let shown = String::from_utf8_lossy(says);
            assert!(answer.starts_with(expected), "{shown:.60}: {answer}");
        }
    }
    // These could become one, and are given up.
    let slow = async |says: &[u8]| {
        let answers = tokio::join!(answer(daemon.addr(), says), answer(daemon.addr_v4(), says));
        assert_eq!(answers, (String::new(), String::new()));
    };
    tokio::join!(slow(b""), slow(b"GET / HTTP/1.1\r\nHost:"));
    // After the handshake the time goes on.
    let mut raw = Raw::connect(daemon.addr()).await;
    raw.until("ERROR :Closing link: You took too long to log in")
        .await;
    assert!(matches!(raw.hear().await, Some((CLOSE, _))));
}

#[tokio::test]
async fn pages_of_strangers_stay_outside_until_they_are_listed() {
    let mut daemon = Daemon::start(&config(CLEAR, "")).await;
    let addr = daemon.addr();
    let from = async |origin: &str| {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = web::request(&format!("Origin: {origin}\r\n"));
        let answer = web::ask(&mut stream, &request).await;
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(from("https://bnc.test:8443").await, "101");
    assert_eq!(from("https://chat.test").await, "403");
    let told =
        "pages from \"https://chat.test\" may not connect here: see server.websocket_origins";
    daemon.logged(told).await;
    let listed = "websocket_origins = [\"https://chat.test\"]";
    daemon.configure(&config(CLEAR, listed));
    daemon.reload();
    reloaded(&mut daemon, 1).await;
    assert_eq!(from("https://chat.test").await, "101");
    assert_eq!(from("https://bnc.test:8443").await, "403");
}

#[tokio::test]
async fn a_listener_goes_over_to_websocket_and_back() {
    let port = free_port();
    let lines = format!("[\"irc+insecure://[::]:{port}\"]");
    let web = format!("[\"ws+insecure://[::]:{port}\"]");
    let mut daemon = Daemon::start(&config(&lines, "")).await;
    let mut old = login(v6(port)).await;
    for n in 1..=2 {
        daemon.configure(&config(if n == 1 { &web } else { &lines }, ""));
        daemon.reload();
        reloaded(&mut daemon, n).await;
        old.sync().await;
        if n == 1 {
            old = Client::connect_web(v4(port), KINDS[0], None).await;
            old.login(&format!("apw:{PASSWORD}")).await;
        } else {
            login(v4(port)).await;
        }
    }
}

#[tokio::test]
async fn proxies_of_web_clients_say_it_in_http_or_before_it() {
    let server = "proxies = [\"loopback\"]\ndeny = [\"198.51.100.0/24\"]";
    let (mut daemon, _ircd, _link) = on_channel(CLEAR, server).await;
    let rows = [
        (
            "",
            "X-Forwarded-For: 203.0.113.9, 192.0.2.1\r\n",
            "192.0.2.1:0",
        ),
        (
            "",
            "X-Forwarded-For: ::ffff:192.0.2.2, ::1\r\n",
            "192.0.2.2:0",
        ),
        ("", "X-Forwarded-For: 2001:db8::1\r\n", "[2001:db8::1]:0"),
        (
            "PROXY TCP6 2001:db8::2 ::1 4002 80\r\n",
            "X-Forwarded-For: 192.0.2.3\r\n",
            "[2001:db8::2]:4002",
        ),
    ];
    for (n, (header, more, shown)) in rows.into_iter().enumerate() {
        for addr in [daemon.addr(), daemon.addr_v4()] {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(header.as_bytes()).await.unwrap();
            let client = Client::over_web(Box::new(stream), KINDS[0], more).await;
            drop(attached(client, &format!("c{n}")).await);
        }
        daemon.logged_times(&format!("peer={shown}"), 4).await;
    }
    assert!(!daemon.log().join("\n").contains("::ffff:"));
    // Whoever is refused hears it as an IRC client, as he is one by then.
    let mut stream = TcpStream::connect(daemon.addr()).await.unwrap();
    let request = web::request("X-Forwarded-For: 198.51.100.7\r\n");
    web::ask(&mut stream, &request).await;
    let mut raw = Raw(stream);
    raw.until("ERROR :Closing link: your address may not connect here")
        .await;
    assert!(matches!(raw.hear().await, Some((CLOSE, _))));
}

#[tokio::test]
async fn nobody_else_is_believed_whom_he_speaks_for() {
    let (mut daemon, _ircd, _link) = on_channel(CLEAR, "deny = [\"198.51.100.0/24\"]").await;
    let stream = TcpStream::connect(daemon.addr()).await.unwrap();
    let own = stream.local_addr().unwrap();
    let more = "X-Forwarded-For: 198.51.100.7\r\n";
    let client = Client::over_web(Box::new(stream), KINDS[1], more).await;
    attached(client, "c").await;
    daemon.logged(&format!("peer={own}")).await;
    let log = daemon.log().join("\n");
    assert!(!log.contains("198.51.100.7"), "{log}");
}

#[tokio::test]
async fn a_web_client_comes_by_a_unix_socket() {
    let (daemon, _ircd, mut link) = on_channel("[\"ws+unix:web.sock\"]", "").await;
    let stream = UnixStream::connect(daemon.path("web.sock")).await.unwrap();
    let client = Client::over_web(Box::new(stream), KINDS[0], "").await;
    let client = attached(client, "c").await;
    client.send("PRIVMSG #a :hello").await;
    link.expect("PRIVMSG #a :hello").await;
}

#[tokio::test]
async fn a_browser_is_asked_for_no_certificate() {
    let daemon = Daemon::start(&config("[\"wss://[::]:0\", \"ircs://[::]:0\"]", "")).await;
    let identity = support::tls::Identity::new("apw");
    let config = support::tls::client(Some(&identity));
    let mut web = Client::connect_web(daemon.addr(), KINDS[0], Some(config)).await;
    web.send("CAP LS 302").await;
    let told = web
        .expect_where("CAP LS", |line| {
            line.contains(" LS ") && line.contains("sasl=")
        })
        .await;
    assert!(
        told.contains("sasl=PLAIN") && !told.contains("EXTERNAL"),
        "{told}"
    );
    let mut other = Client::connect_tls(daemon.addr_of(1), Some(&identity)).await;
    other.send("CAP LS 302").await;
    let told = other
        .expect_where("CAP LS", |line| {
            line.contains(" LS ") && line.contains("sasl=")
        })
        .await;
    assert!(told.contains("EXTERNAL"), "{told}");
}
