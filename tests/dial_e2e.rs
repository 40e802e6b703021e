//! From where and through what the daemon connects, and what it says about it.

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use support::daemon::{config, network};
use support::mock_ircd::nowhere;
use support::{Daemon, MockIrcd, Script};

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
