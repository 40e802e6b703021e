//! What attached clients are told, and what reaches the server: the welcome, each other's words once, answers to the
//! asker alone, carom's own words, and bytes as they are.

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use support::daemon::{channel, network, user};
use support::talk::command_of;
use support::{Client, Daemon, Link, MockIrcd, Script};

/// One user on one network with a channel, both families on one socket.
async fn on_channel(script: Script) -> (Daemon, MockIrcd, Link) {
    on_channel_with(script, "").await
}

/// The same with more in the file.
async fn on_channel_with(script: Script, more: &str) -> (Daemon, MockIrcd, Link) {
    let ircd = MockIrcd::start(script).await;
    let config = format!(
        "[server]\nname = \"bnc.test\"\nlisten = [\"irc+insecure://[::]:0\"]\n\n{more}{}{}{}",
        user("apw"),
        network("net", &ircd.url()),
        channel("#a")
    );
    let daemon = Daemon::start(&config).await;
    let mut link = ircd.accept().await;
    link.registered().await;
    link.expect("JOIN #a").await;
    (daemon, ircd, link)
}

/// Clients over both families, whole lines and single bytes.
async fn clients(daemon: &Daemon) -> Vec<Client> {
    let mut clients = Vec::new();
    for (n, addr) in [
        daemon.addr(),
        daemon.addr_v4(),
        daemon.addr(),
        daemon.addr_v4(),
    ]
    .into_iter()
    .enumerate()
    {
        let client = Client::connect(addr).await;
        let mut client = if n < 2 { client } else { client.in_bytes() };
        client.login(&format!("apw/net@c{n}:secret")).await;
        client.expect("366").await;
        client.sync().await;
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn attaching_says_nothing_to_the_server() {
    let (daemon, _ircd, mut link) = on_channel(Script {
        topic: Some("Topic text"),
        taken: vec!["apw"],
        ..Script::default()
    })
    .await;
    let nick = link.nick();
    assert_ne!(nick, "apw");
    link.send("PING :quiet").await;
    link.expect("PONG").await;
    let mut client = daemon.connect().await;
    client.login("apw/net@c:secret").await;
    client.send("PING :end").await;
    let lines = client.until("PONG").await;
    let burst: Vec<_> = lines.iter().map(|line| command_of(line)).collect();
    let own = format!(":{nick}!user@host.test JOIN #a");
    assert!(lines.contains(&own), "{lines:?}");
    let names: Vec<&str> = burst
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let after_motd: Vec<_> = names.iter().filter(|n| **n != "PING").collect();
    assert_eq!(
        after_motd,
        [&"JOIN", &"332", &"333", &"353", &"366", &"PONG"],
        "{lines:?}"
    );
    assert!(client.heard()[0].starts_with(&format!(":bnc.test 001 {nick} :")));
    link.send("PING :still quiet").await;
    assert_eq!(link.until("PONG").await.len(), 1, "nothing but the PONG");
}

#[tokio::test]
async fn each_hears_the_others_once_and_itself_never() {
    let (daemon, _ircd, mut link) = on_channel(Script::default()).await;
    let mut clients = clients(&daemon).await;
    for n in 0..clients.len() {
        clients[n].send(&format!("PRIVMSG #a :from {n}")).await;
        link.expect(&format!("PRIVMSG #a :from {n}")).await;
        clients[n]
            .send(&format!("PRIVMSG bob :private from {n}"))
            .await;
        link.expect(&format!("PRIVMSG bob :private from {n}")).await;
        for (other, client) in clients.iter_mut().enumerate() {
            if other == n {
                let heard = client.sync().await;
                assert!(heard.is_empty(), "no echo unasked: {heard:?}");
                continue;
            }
            let start = format!(":apw!user@host.test PRIVMSG #a :from {n}");
            assert_eq!(client.expect(&start).await, start);
            // A private one of one's own only comes to those who know how to show it; nothing comes twice.
            let heard = client.sync().await;
            assert!(!heard.iter().any(|line| line.contains("#a")), "{heard:?}");
        }
    }
    link.privmsg("bob", "#a", "hello").await;
    link.privmsg("bob", "apw", "hello, you").await;
    for client in &mut clients {
        client.expect(":bob!bob@host.test PRIVMSG #a :hello").await;
        client
            .expect(":bob!bob@host.test PRIVMSG apw :hello, you")
            .await;
        let heard = client.sync().await;
        assert!(heard.is_empty(), "once: {heard:?}");
    }
}

#[tokio::test]
async fn own_messages_come_back_to_who_asks_for_echoes() {
    let (daemon, _ircd, mut link) = on_channel(Script::default()).await;
    let mut client = daemon.connect().await;
    client
        .login_sasl("apw/net", "secret", &["echo-message"])
        .await;
    let mut other = daemon.connect().await;
    other
        .login_sasl("apw/net", "secret", &["znc.in/self-message"])
        .await;
    client.sync().await;
    other.sync().await;
    for line in ["PRIVMSG #a :echo", "PRIVMSG bob :echo", "NOTICE bob :echo"] {
        client.send(line).await;
        link.expect(line).await;
        for client in [&mut client, &mut other] {
            client.expect(&format!(":apw!user@host.test {line}")).await;
            let heard = client.sync().await;
            assert!(heard.is_empty(), "{line}: {heard:?}");
        }
    }
}

#[tokio::test]
async fn answers_come_to_the_asker_alone() {
    let (daemon, _ircd, _link) = on_channel(Script::default()).await;
    let mut clients = clients(&daemon).await;
    for (ask, end) in [
        ("WHO #a", "315"),
        ("WHOIS bob", "318"),
        ("NAMES #a", "366"),
        ("MODE #a", "324"),
        ("TOPIC #a", "331"),
        ("MOTD", "4"),
        ("NONSENSE", "421"),
    ] {
        clients[0].send(ask).await;
        clients[0].expect(end).await;
        for client in &mut clients[1..] {
            let heard = client.sync().await;
            assert!(heard.is_empty(), "{ask}: {heard:?}");
        }
    }
}

#[tokio::test]
async fn quit_only_detaches() {
    let (daemon, _ircd, mut link) = on_channel(Script::default()).await;
    let mut client = daemon.login("apw/net:secret").await;
    let mut other = Client::connect(daemon.addr_v4()).await;
    other.login("apw/net:secret").await;
    other.expect("366").await;
    client.send("QUIT :gone").await;
    client.expect("ERROR :").await;
    client.ended().await;
    let heard = other.sync().await;
    assert!(heard.iter().all(|line| !line.contains("QUIT")), "{heard:?}");
    other.send("QUIT").await;
    other.ended().await;
    link.send("PING :still there").await;
    let said = link.until("PONG").await;
    assert!(
        said.iter().all(|line| !line.starts_with("QUIT")),
        "{said:?}"
    );
    let mut again = daemon.login("apw/net:secret").await;
    again.expect("366").await;
}

#[tokio::test]
async fn carom_answers_before_the_pong_of_a_later_ping() {
    let (daemon, _ircd, mut link) = on_channel(Script::default()).await;
    for in_bytes in [false, true] {
        let client = daemon.connect().await;
        let mut client = if in_bytes { client.in_bytes() } else { client };
        client.login("apw/net@laptop:secret").await;
        client.sync().await;
        for (words, expected) in [
            ("PRIVMSG *carom :help", "network status"),
            ("CAROM help", "network status"),
            ("PRIVMSG *carom :status", "net: connected to "),
            ("CAROM status", "net: connected to "),
            ("CAROM network status net", "net: connected to "),
            ("privmsg *CAROM :net st", "net: connected to "),
            ("CAROM client status", "laptop on net from "),
            ("CAROM cl st", "laptop on net from "),
            ("CAROM nonsense :with words", "nonsense"),
            ("CAROM", "help"),
            ("CAROM \"open", "never closed"),
        ] {
            client
                .send_bytes(format!("{words}\r\nPING :{words}\r\n").as_bytes())
                .await
                .unwrap();
            let lines = client
                .expect_lines("the PONG", |line| command_of(line).starts_with("PONG"))
                .await;
            let start = ":*carom!carom@bnc.test NOTICE apw :";
            let told: Vec<_> = lines
                .iter()
                .filter_map(|line| line.strip_prefix(start))
                .collect();
            assert!(
                told.iter().any(|line| line.contains(expected)),
                "{words}: {lines:?}"
            );
        }
    }
    link.send("PING :nothing of it").await;
    // That a status asks for the lag is all the server hears of it.
    let mut said = link.until("PONG").await;
    said.retain(|line| line != "PING :carom-lag");
    assert_eq!(said.len(), 1, "{said:?}");
}

/// Every byte that may stand in a line, as a text. With \x01 in front it would be CTCP, which one client gets.
fn all_bytes() -> Vec<u8> {
    let all = (1..=255).filter(|byte| !matches!(byte, b'\r' | b'\n'));
    b"all: ".iter().copied().chain(all).collect()
}

#[tokio::test]
async fn bytes_are_bytes_in_both_directions_live_and_replayed() {
    let (daemon, _ircd, mut link) = on_channel(Script::default()).await;
    let mut absent = daemon.login("apw/net@absent:secret").await;
    absent.send("QUIT").await;
    absent.ended().await;
    let mut clients = clients(&daemon).await;
    let latin = b"caf\xe9 \xa4 na\xefve \xff\xfe".to_vec();
    for text in [all_bytes(), latin] {
        let line = [b":bob!bob@host.test PRIVMSG #a :", &text[..]].concat();
        link.send_bytes(&[&line[..], b"\r\n"].concat())
            .await
            .unwrap();
        for client in &mut clients {
            client.expect(":bob!bob@host.test PRIVMSG #a :").await;
            assert_eq!(
                client
                    .heard_bytes()
                    .iter()
                    .filter(|heard| **heard == line)
                    .count(),
                1
            );
        }
        let line = [b"PRIVMSG #a :", &text[..]].concat();
        for client in &clients {
            let already = link.heard_bytes().len();
            client
                .send_bytes(&[&line[..], b"\r\n"].concat())
                .await
                .unwrap();
            link.expect("PRIVMSG #a :").await;
            assert!(link.heard_bytes()[already..].contains(&line));
        }
    }
    // Replayed, to a client with server-time and to one without.
    for caps in [&["server-time"][..], &[]] {
        let mut client = daemon.connect().await;
        let name = if caps.is_empty() {
            "apw/net@plain"
        } else {
            "apw/net@absent"
        };
        client.login_sasl(name, "secret", caps).await;
        client.sync().await;
        for text in [all_bytes(), b"caf\xe9 \xa4 na\xefve \xff\xfe".to_vec()] {
            for source in [&b":bob!bob@host.test "[..], b":apw!user@host.test "] {
                let heard = client.heard_bytes();
                let found = heard.iter().filter(|line| {
                    let from = line.windows(source.len()).any(|part| part == source);
                    from && line.ends_with(&text)
                        && line.windows(12).any(|part| part == b"PRIVMSG #a :")
                });
                assert!(found.count() >= 1, "{caps:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_name_of_its_own_is_no_condition() {
    let (daemon, _ircd, link) = on_channel(Script::default()).await;
    let mut first = daemon.login("apw/net:secret").await;
    let mut second = daemon.login("apw/net:secret").await;
    first.sync().await;
    second.sync().await;
    link.privmsg("bob", "#a", "hello").await;
    first.expect(":bob!bob@host.test PRIVMSG #a :hello").await;
    second.expect(":bob!bob@host.test PRIVMSG #a :hello").await;
}

#[tokio::test]
async fn subscriptions_before_the_login_are_made_after_it() {
    let script = Script {
        caps: Some(vec!["batch", "draft/metadata-2"]),
        ..Script::default()
    };
    let (daemon, _ircd, mut link) = on_channel(script).await;
    let mut client = daemon.connect().await;
    for line in [
        "CAP LS 302",
        "CAP REQ batch",
        "CAP REQ draft/metadata-2",
        "METADATA * SUB soju.im/pinned soju.im/muted",
        "METADATA * SUB url",
    ] {
        client.send(line).await;
    }
    client.register("apw/net@laptop:secret").await;
    client.send("CAP END").await;
    client.send("METADATA * SUB colour").await;
    client.welcomed().await;
    link.expect("METADATA * SUB soju.im/pinned soju.im/muted")
        .await;
    let said = link.until("METADATA * SUB colour").await;
    assert!(
        said.iter().any(|line| line == "METADATA * SUB url"),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_renamed_channel_brings_what_was_said_under_its_new_name() {
    let script = Script {
        caps: Some(vec!["draft/channel-rename"]),
        ..Script::default()
    };
    let (daemon, _ircd, mut link) = on_channel(script).await;
    let mut client = daemon.login("apw/net@phone:secret").await;
    client.expect("366").await;
    client.sync().await;
    client.send("QUIT").await;
    client.ended().await;
    for n in 0..300 {
        link.send(&format!(":bob!b@h PRIVMSG #a :new {n}")).await;
    }
    for line in [
        ":apw!u@h PART #a",
        ":apw!u@h JOIN #b",
        ":irc.test 353 apw = #b :apw bob",
        ":irc.test 366 apw #b :End",
        ":bob!b@h PRIVMSG #b :old",
        "PING :stored",
    ] {
        link.send(line).await;
    }
    link.until("PONG").await;
    let mut client = daemon.login("apw/net@phone:secret").await;
    client
        .expect_where("what was said", |line| line.ends_with("] old"))
        .await;
    link.send(":bob!b@h RENAME #b #a :why").await;
    link.send(":bob!b@h PRIVMSG #a :end").await;
    let told = client.texts_until("end").await;
    let new = told.iter().filter(|text| text.contains("] new "));
    assert_eq!(new.count(), 300, "{told:?}");
    assert!(!told.iter().any(|text| text.contains("old")), "{told:?}");
}

#[tokio::test]
async fn every_line_but_numerics_has_its_time_for_who_asked() {
    let limits = "[limits]\nclient_timeout = \"2s\"\n\n";
    let (daemon, _ircd, link) = on_channel_with(Script::default(), limits).await;
    let caps = ["server-time", "batch"];
    let mut client = daemon.connect().await;
    client.login_sasl("apw/net@p", "secret", &caps).await;
    client.expect("366").await;
    client.send("QUIT").await;
    client.ended().await;
    let mut other = daemon.login("apw/net@other:secret").await;
    other.expect("366").await;
    link.privmsg("bob", "#a", "missed").await;
    other.expect(":bob!bob@host.test PRIVMSG #a :missed").await;
    // Missed lines in a batch, proof, a sign of life, last words.
    client = daemon.connect().await;
    client.login_sasl("apw/net@p", "secret", &caps).await;
    for told in ["BATCH -", "PING :carom-"] {
        let is_it = |line: &str| command_of(line).starts_with(told);
        client.expect_where(told, is_it).await;
    }
    client.has_said("PONG").await;
    client
        .expect_where("life", |line| command_of(line) == "PING :carom")
        .await;
    client.send("QUIT").await;
    client
        .expect_where("ERROR", |line| command_of(line).starts_with("ERROR "))
        .await;
    let heard = client.heard();
    let acked = heard
        .iter()
        .position(|line| line.contains(" ACK "))
        .unwrap();
    let is_numeric = |line: &str| {
        command_of(line).as_bytes()[..3]
            .iter()
            .all(u8::is_ascii_digit)
    };
    let has_time =
        |line: &str| line.starts_with('@') && line.split(' ').next().unwrap().contains("time=20");
    let bare = |line: &&String| !has_time(line) && !is_numeric(line);
    let without: Vec<_> = heard[acked + 1..].iter().filter(bare).collect();
    assert!(without.is_empty(), "{without:?}");
}
