//! The mock server and the raw client are what other tests believe. Here they talk to each other.

mod support;

use std::net::{IpAddr, Ipv6Addr};

use support::talk::Chunks;
use support::tls::Identity;
use support::{Account, Client, Greeting, Link, MockIrcd, Script};

async fn connected(ircd: &MockIrcd) -> (Client, Link) {
    tokio::join!(Client::connect(ircd.addr()), ircd.accept())
}

async fn registered(script: Script) -> (Client, Link) {
    let ircd = MockIrcd::start(script).await;
    let (mut client, mut link) = connected(&ircd).await;
    client.login("whatever").await;
    link.registered().await;
    (client, link)
}

#[tokio::test]
async fn a_client_registers_joins_and_talks() {
    let (mut client, mut link) = registered(Script {
        topic: Some("Topic text"),
        ..Script::default()
    })
    .await;
    assert_eq!(link.nick(), "zed");
    client.send("JOIN #a,#b").await;
    assert_eq!(
        client.until("366").await,
        [
            ":zed!user@host.test JOIN #a",
            ":irc.test 332 zed #a :Topic text",
            ":irc.test 333 zed #a op!u@host.test 1767200000",
            ":irc.test 353 zed = #a :zed @op +voice other",
            ":irc.test 366 zed #a :End of /NAMES list",
        ]
    );
    client.expect("366 zed #b").await;
    link.expect("JOIN #a,#b").await;
    for text in ["one", "two", ": three"] {
        link.privmsg("bob", "#a", text).await;
    }
    link.privmsg("bob", "zed", "end").await;
    assert_eq!(client.texts_until("end").await, ["one", "two", ": three"]);
    client.send("PRIVMSG #a :hello").await;
    assert_eq!(link.expect("PRIVMSG #a").await, "PRIVMSG #a :hello");
    client.send("PART #a").await;
    client.expect(":zed!user@host.test PART #a").await;
    assert!(client.sync().await.is_empty());
    client.send("QUIT :bye").await;
    client.expect("ERROR").await;
    client.ended().await;
}

#[tokio::test]
async fn capabilities_come_on_several_lines() {
    let caps = vec!["a", "b=1", "c", "sasl=PLAIN", "echo-message"];
    let ircd = MockIrcd::start_v4(Script {
        caps: Some(caps),
        caps_a_line: 2,
        account: Some(Account::Plain("apw", "hunter2")),
        ..Script::default()
    })
    .await;
    let (mut client, link) = connected(&ircd).await;
    client.send("CAP LS 302").await;
    let last = ":irc.test CAP * LS :echo-message";
    let lines = client.until(last).await;
    assert_eq!(
        lines[..2],
        [
            ":irc.test CAP * LS * :a b=1",
            ":irc.test CAP * LS * :c sasl=PLAIN"
        ]
    );
    client.send("CAP REQ :b nonsense").await;
    client.expect("CAP * NAK :b nonsense").await;
    client.login_sasl("apw", "hunter2", &["echo-message"]).await;
    assert_eq!(link.session().account.as_deref(), Some("apw"));
    client.send("PRIVMSG #a :hello").await;
    client.expect(":zed!user@host.test PRIVMSG #a :hello").await;
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let caps = Some(vec!["sasl"]);
    let account = Some(Account::Plain("apw", "hunter2"));
    let ircd = MockIrcd::start(Script {
        caps,
        account,
        ..Script::default()
    })
    .await;
    let (mut client, _link) = connected(&ircd).await;
    client.send("CAP REQ sasl").await;
    client.authenticate("apw", &"x".repeat(900)).await;
    client.expect("904").await;
    client.authenticate("apw", "hunter2").await;
    client.expect("903").await;

    let password = Some("open sesame");
    let ircd = MockIrcd::start(Script {
        password,
        ..Script::default()
    })
    .await;
    let (mut client, _link) = connected(&ircd).await;
    client.register("wrong").await;
    client.expect("464").await;
    assert_eq!(client.ended().await, ["ERROR :Bad password"]);
}

#[tokio::test]
async fn an_old_server_knows_no_caps_and_takes_not_every_nick() {
    let taken = vec!["Zed"];
    let ircd = MockIrcd::start(Script {
        caps: None,
        taken,
        ..Script::default()
    })
    .await;
    let (mut client, link) = connected(&ircd).await;
    client.send("CAP LS 302").await;
    client.expect(":irc.test 421 * CAP").await;
    client.register("x").await;
    client.expect("433 * zed").await;
    client.send("NICK zed_").await;
    client.welcomed().await;
    assert_eq!(link.nick(), "zed_");
}

#[tokio::test]
async fn labels_are_answered() {
    let caps = Some(vec!["batch", "labeled-response", "echo-message"]);
    let ircd = MockIrcd::start(Script {
        caps,
        ..Script::default()
    })
    .await;
    let (mut client, _link) = connected(&ircd).await;
    client
        .send("CAP REQ :batch labeled-response echo-message")
        .await;
    client.register("x").await;
    client.send("CAP END").await;
    client.welcomed().await;
    client.send("@label=1 PRIVMSG #a :hello").await;
    client
        .expect("@label=1 :zed!user@host.test PRIVMSG #a :hello")
        .await;
    client.send("@label=2 WHOIS bob").await;
    client
        .expect("@label=2 :irc.test BATCH +l labeled-response")
        .await;
    client.expect("@batch=l :irc.test 311").await;
    client.expect(":irc.test BATCH -l").await;
    client.send("@label=3 PONG x").await;
    client.expect("@label=3 :irc.test ACK").await;
}

#[tokio::test]
async fn tls_shows_certificates_both_ways() {
    let identity = Identity::new("apw");
    let account = Some(Account::External("apw", identity.fingerprint()));
    let caps = Some(vec!["sasl=EXTERNAL"]);
    let ircd = MockIrcd::start_tls(Script {
        caps,
        account,
        ..Script::default()
    })
    .await;
    assert!(ircd.url().starts_with("ircs://[::1]:"));
    assert_ne!(ircd.identity().fingerprint(), identity.fingerprint());
    for (shown, answer) in [(Some(&identity), "903"), (None, "904")] {
        let (mut client, _link) =
            tokio::join!(Client::connect_tls(ircd.addr(), shown), ircd.accept());
        client.send("CAP REQ sasl").await;
        client.send("AUTHENTICATE EXTERNAL").await;
        client.expect("AUTHENTICATE +").await;
        client.send("AUTHENTICATE +").await;
        client.expect(answer).await;
    }
}

#[tokio::test]
async fn links_break_in_every_way() {
    let ircd = MockIrcd::start(Script::default()).await;
    let (mut client, mut link) = connected(&ircd).await;
    link.send("NOTICE * :last words").await;
    link.close().await;
    assert_eq!(client.ended().await, ["NOTICE * :last words"]);

    let (mut client, link) = connected(&ircd).await;
    link.kill_link().await;
    client.ended().await;
    let why = client.why_ended().unwrap();
    assert!(why.contains("reset"), "{why}");

    let (mut client, ()) = tokio::join!(Client::connect(ircd.addr()), ircd.accept_and_close());
    client.ended().await;

    ircd.change(|script| script.greeting = Greeting::Error("go away".to_owned()));
    let (mut client, _link) = connected(&ircd).await;
    client.send("NICK zed").await;
    assert_eq!(client.ended().await, ["ERROR :go away"]);

    ircd.change(|script| script.greeting = Greeting::Silence);
    let (mut client, mut link) = connected(&ircd).await;
    client.register("x").await;
    link.expect("USER").await;
    assert_eq!(link.heard().len(), 3);
    link.send("NOTICE * :only what the test says").await;
    assert_eq!(client.until("NOTICE").await.len(), 1);
}

#[tokio::test]
async fn pings_are_answered_or_not() {
    let (mut client, mut link) = registered(Script::default()).await;
    link.send("PING :one").await;
    assert_eq!(link.expect("PONG").await, "PONG :one");
    client.set_pongs(false);
    link.send(":irc.test PING two").await;
    client.expect("PING two").await;
    client.send("NOTICE x :after").await;
    assert_eq!(link.until("NOTICE").await, ["NOTICE x :after"]);
    link.fall_silent();
    client.send("PING three").await;
    link.expect("PING three").await;
    link.send("NOTICE zed :nothing else").await;
    assert_eq!(client.until("NOTICE").await.len(), 1);
}

#[tokio::test]
async fn bytes_arrive_one_by_one_and_as_they_were() {
    let (client, mut link) = registered(Script::default()).await;
    let mut client = client.in_bytes();
    client
        .send_bytes(b"PRIVMSG #a :caf\xe9\r\nPRIVMSG #a :bare\n")
        .await
        .unwrap();
    link.expect("PRIVMSG #a :bare").await;
    assert!(
        link.heard_bytes()
            .contains(&b"PRIVMSG #a :caf\xe9".to_vec())
    );
    link.set_chunks(Chunks::Bytes);
    link.send("NOTICE zed :byte by byte").await;
    client.expect("NOTICE zed :byte by byte").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_hears_later() {
    let (mut client, link) = registered(Script::default()).await;
    client.set_reading(false);
    link.send("NOTICE zed :one").await;
    client.set_reading(true);
    client.expect("NOTICE zed :one").await;
}

#[tokio::test]
#[should_panic(expected = "expected a line like \"NOTICE\", got:\n  -> PASS")]
async fn what_does_not_come_is_shown_with_what_did() {
    let (mut client, mut link) = registered(Script::default()).await;
    link.close().await;
    client.expect("NOTICE").await;
}

#[tokio::test]
async fn nobody_is_nowhere() {
    let addr = support::mock_ircd::nowhere(IpAddr::V6(Ipv6Addr::LOCALHOST));
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}
