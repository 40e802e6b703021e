//! `carom check` on the machine the tests run on: what it finds about its own listeners and networks, which are the tests'.
//! Hosts made for the purpose are in `netns.rs`.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::net::SocketAddr;

use serde_json::Value;
use support::daemon;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Runs `check --json` on a configuration: exit code and findings.
async fn check(config: &str) -> (i32, Vec<Value>) {
    let folder = TempDir::new().unwrap();
    daemon::write_config(folder.path(), config);
    let before = files(folder.path());
    let ended = daemon::carom(folder.path(), &["check", "--json"]).await;
    assert_eq!(ended.stderr, "");
    assert_eq!(files(folder.path()), before, "nothing is changed");
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    let findings = told["findings"].as_array().unwrap().clone();
    (ended.code.unwrap(), findings)
}

fn files(folder: &std::path::Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

/// Level and message of each finding of a topic.
fn of(findings: &[Value], topic: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    findings
        .iter()
        .filter(|finding| finding["topic"] == topic)
        .map(|finding| format!("{}: {}", text(&finding["level"]), text(&finding["message"])))
        .collect()
}

fn listening_at(addr: SocketAddr, networks: &str) -> String {
    let user = daemon::user("apw");
    format!("[server]\nname = \"bnc.test\"\nlisten = [\"irc://{addr}\"]\n\n{user}{networks}")
}

/// An address where nobody listens, held until it is dropped.
async fn closed() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v6().unwrap();
    socket.bind("[::1]:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

#[tokio::test]
async fn somebody_elses_listener_is_an_error() {
    let taken = TcpListener::bind("[::1]:0").await.unwrap();
    let addr = taken.local_addr().unwrap();
    let (code, findings) = check(&listening_at(addr, "")).await;
    let sockets = of(&findings, "sockets");
    let expected = format!("error: {addr} is wanted, and ");
    assert!(sockets[0].starts_with(&expected), "{sockets:?}");
    let pid = format!("(process {})", std::process::id());
    assert!(sockets[0].contains(&pid), "{sockets:?}");
    assert_eq!(code, 2);
}

#[tokio::test]
async fn each_server_is_tried_without_a_word_of_irc() {
    let server = TcpListener::bind("[::1]:0").await.unwrap();
    let (_held, refused) = closed().await;
    let networks = daemon::network("good", &format!("irc://{}", server.local_addr().unwrap()))
        + &daemon::network("bad", &format!("irc://{refused}"));
    let (_held, free) = closed().await;
    let heard = tokio::spawn(async move {
        let (mut stream, _) = server.accept().await.unwrap();
        let mut heard = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut heard)
            .await
            .unwrap();
        heard
    });
    let (code, findings) = check(&listening_at(free, &networks)).await;
    assert_eq!(heard.await.unwrap(), b"");
    let networks = of(&findings, "networks");
    assert!(
        networks[0].starts_with("info: good: ") && networks[0].contains("1 of 1 IPv6 ok ("),
        "{networks:?}"
    );
    assert!(
        networks[1].starts_with("error: bad: ") && networks[1].ends_with("connection refused"),
        "{networks:?}"
    );
    let sockets = of(&findings, "sockets");
    assert!(
        sockets[0].starts_with("info: nothing listens on"),
        "{sockets:?}"
    );
    assert_eq!(code, 2);
}

#[tokio::test]
async fn every_topic_has_its_word() {
    let (_held, free) = closed().await;
    let (_, findings) = check(&listening_at(free, "")).await;
    for topic in [
        "kernel",
        "sockets",
        "addresses",
        "routes",
        "firewall",
        "dns",
        "limits",
    ] {
        assert!(!of(&findings, topic).is_empty(), "{topic}: {findings:?}");
    }
    let offline = ["check", "--json", "--offline"];
    let folder = TempDir::new().unwrap();
    daemon::write_config(folder.path(), &listening_at(free, ""));
    let ended = daemon::carom(folder.path(), &offline).await;
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    let findings = told["findings"].as_array().unwrap();
    let about_the_file = |finding: &Value| finding["topic"] == "configuration";
    assert!(findings.iter().all(about_the_file), "{findings:?}");
    assert_eq!(ended.code, Some(0));
}
