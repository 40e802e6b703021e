//! From where and through what the daemon connects, and what it says about it.

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use support::daemon::{config, network};
use support::mock_ircd::nowhere;
use support::{Daemon, MockIrcd, Script, in_time};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A network's table with these servers and keys.
fn servers(urls: &[String], keys: &str) -> String {
    let urls: Vec<_> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    format!(
        "[[user.network]]\nname = \"net\"\nservers = [{}]\n{keys}\n",
        urls.join(", ")
    )
}

/// A server at an address that refuses.
fn refusing() -> String {
    format!("irc://{}", nowhere(IpAddr::from(Ipv6Addr::LOCALHOST)))
}

async fn explained(daemon: &Daemon) -> Vec<String> {
    let ended = daemon.ctl(&["network", "explain", "net"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn explain_tells_each_address_and_what_comes_next() {
    let ircd = MockIrcd::start(Script::default()).await;
    let networks = servers(&[refusing(), ircd.url()], "");
    let mut daemon = Daemon::start(&config(&networks)).await;
    let mut link = ircd.accept().await;
    link.registered().await;
    daemon.tells(&["status"], "net: connected to ").await;
    let lines = explained(&daemon).await;
    assert!(lines[0].starts_with("net: connected to "), "{lines:#?}");
    let has = |words: &[&str]| {
        lines
            .iter()
            .any(|line| words.iter().all(|word| line.contains(word)))
    };
    assert!(has(&["IPv6 tcp ", " ms: connection refused"]), "{lines:#?}");
    let addr = ircd.addr().to_string();
    assert!(
        has(&[
            &addr,
            "IPv6 ready ",
            " ms: connected, after 1 address failed"
        ]),
        "{lines:#?}"
    );
    let last = lines.last().unwrap();
    assert!(
        last.starts_with("net: next: if the connection is lost"),
        "{last}"
    );
    assert!(last.ends_with("IPv6 first"), "{last}");
    daemon.stop().await;
}

#[tokio::test]
async fn explain_says_when_the_next_try_is() {
    let networks = servers(&[refusing()], "family = \"ipv6\"");
    let mut daemon = Daemon::start(&config(&networks)).await;
    daemon.tells(&["status"], "next try in ").await;
    let lines = explained(&daemon).await;
    let last = lines.last().unwrap();
    assert!(last.starts_with("net: next: in "), "{lines:#?}");
    assert!(last.ends_with(", IPv6 alone"), "{lines:#?}");
    let unknown = daemon.ctl(&["network", "explain", "nowhere"]).await;
    assert_eq!(unknown.code, Some(1));
    daemon.stop().await;
}

#[tokio::test]
async fn b18_a_source_address_is_what_the_server_sees() {
    let ircd = MockIrcd::start_v4(Script::default()).await;
    let networks = servers(&[ircd.url()], "source = [\"127.0.0.9\"]");
    let mut daemon = Daemon::start(&config(&networks)).await;
    let mut link = ircd.accept().await;
    assert_eq!(link.peer.ip().to_string(), "127.0.0.9");
    link.registered().await;
    daemon
        .tells(&["network", "explain"], " IPv4 from 127.0.0.9 ready ")
        .await;
    daemon.stop().await;
}

#[tokio::test]
async fn users_keep_their_address_out_of_a_prefix_when_the_daemon_starts_again() {
    let ircd = MockIrcd::start_v4(Script::default()).await;
    let networks = servers(&[ircd.url()], "source = [\"127.8.0.0/16\"]");
    let mut daemon = Daemon::start(&config(&networks)).await;
    let first = ircd.accept().await.peer.ip();
    assert!(first.to_string().starts_with("127.8."), "{first}");
    let key = daemon.path("source.key");
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    daemon.stop().await;
    daemon.restart().await;
    assert_eq!(ircd.accept().await.peer.ip(), first);
    daemon.stop().await;
}

#[tokio::test]
async fn a_source_that_is_not_there_is_said_and_nothing_else_is_used() {
    let ircd = MockIrcd::start(Script::default()).await;
    let networks = network("net", &ircd.url());
    let config = format!("{}[dial]\nsource = [\"2001:db8::7\"]\n", config(&networks));
    let mut daemon = Daemon::start(&config).await;
    daemon
        .tells(
            &["status"],
            "the source address 2001:db8::7 is on no interface of this host",
        )
        .await;
    let untouched = tokio::time::timeout(Duration::ZERO, ircd.try_accept()).await;
    assert!(untouched.is_err());
    daemon.stop().await;
}

/// Asks who holds the connection between these ports.
async fn ident(at: std::net::SocketAddr, question: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_server_is_told_whose_a_connection_is_before_tls_begins() {
    for (ip, scheme) in [("[::1]", "ircs"), ("127.0.0.1", "irc")] {
        let server = TcpListener::bind(format!("{ip}:0")).await.unwrap();
        let at = server.local_addr().unwrap();
        let networks = servers(&[format!("{scheme}://{at}")], "username = \"zed\"");
        let ident_keys = "ident = [\"[::]:0\", \"oidentd:oidentd.conf\"]\nlisten";
        let text = config(&networks).replacen("listen", ident_keys, 1);
        let mut daemon = Daemon::start(&text).await;
        let (stream, peer) = in_time("a connection", server.accept()).await.unwrap();
        // The first byte of the handshake, or of CAP, is on its way: by then it has to be noted.
        let first = in_time("a byte", stream.peek(&mut [0])).await;
        assert_eq!(first.unwrap(), 1);
        let file = std::fs::read_to_string(daemon.path("oidentd.conf")).unwrap();
        let line = format!(
            "to {} fport {} from {} lport {} {{ reply \"zed\" }}",
            at.ip(),
            at.port(),
            peer.ip(),
            peer.port(),
        );
        assert!(file.lines().any(|one| one == line), "{line} in {file}");
        let told = daemon.logged("whose connections are").await;
        let port = told.split("told at [::]:").nth(1).unwrap();
        let port: u16 = port.split(' ').next().unwrap().parse().unwrap();
        let here = std::net::SocketAddr::new(at.ip(), port);
        let ports = format!("{}, {}", peer.port(), at.port());
        let answer = ident(here, &format!("{ports}\r\n")).await;
        assert_eq!(answer, format!("{ports} : USERID : UNIX : zed\r\n"));
        let others = ident(here, "1, 2\r\n").await;
        assert_eq!(others, "1, 2 : ERROR : NO-USER\r\n");
        if scheme == "irc" {
            let mut lines = BufReader::new(stream).lines();
            while !lines
                .next_line()
                .await
                .unwrap()
                .unwrap()
                .starts_with("USER zed ")
            {}
        }
    }
}
