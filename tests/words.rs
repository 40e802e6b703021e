//! What can be said to carom, said to the running daemon: in IRC and at the control socket, and what comes of it.

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::daemon::{PASSWORD, config, network, user};
use support::{Client, Daemon, Link, MockIrcd, Script};

/// A daemon with a network that is connected and a client on it.
async fn connected() -> (Daemon, MockIrcd, Link, Client) {
    let ircd = MockIrcd::start(Script::default()).await;
    let daemon = Daemon::start(&config(&network("net", &ircd.url()))).await;
    let mut link = ircd.accept().await;
    link.registered().await;
    daemon.tells(&["status"], "net: connected to").await;
    let client = daemon.login(&format!("apw/net@laptop:{PASSWORD}")).await;
    (daemon, ircd, link, client)
}

/// Says words by `CAROM`, and returns the texts of the answer.
async fn ask(client: &mut Client, words: &str) -> Vec<String> {
    client.sync().await;
    client.send(&format!("CAROM {words}")).await;
    let lines = client.sync().await;
    let notices = lines.iter().filter(|line| line.contains(":*carom!"));
    let text = |line: &String| {
        line.split_once(" NOTICE ")?
            .1
            .split_once(" :")
            .map(|t| t.1.to_owned())
    };
    notices.filter_map(text).collect()
}

fn has(lines: &[String], part: &str) -> bool {
    lines.iter().any(|line| line.contains(part))
}

#[tokio::test]
async fn every_reading_verb_is_answered_in_irc_and_at_the_control_socket() {
    let (daemon, _ircd, link, mut client) = connected().await;
    client.send("JOIN #c").await;
    client
        .expect_where("names", |line| line.contains(" 366 "))
        .await;
    link.privmsg("bob", "#c", "hello  from bob").await;
    link.privmsg("bob", "#c", "\u{1}ACTION waves\u{1}").await;
    client
        .expect_where("waving", |line| line.contains("waves"))
        .await;
    for (words, expected) in [
        ("help", "network create -name NAME -addr URL [OPTIONS]"),
        (
            "help network create",
            "for example: network create -name oftc",
        ),
        ("status", "net: connected to irc://"),
        ("network status", "net: connected to irc://"),
        ("network status net", "lag"),
        ("network status net", "IPv6"),
        ("network status net", "if the connection is lost"),
        ("network explain", "net: next: if the connection is lost"),
        ("channel status", "#c:"),
        ("channel status #C", "replay unseen"),
        ("client status", "laptop on net from [::1]:"),
        ("history size", "in all: "),
        ("history search hello", "#c <bob> hello  from bob"),
        (
            "history search -in #c -from BOB -after 1h wav*",
            "#c * bob waves",
        ),
        ("history search nothing-like-it", "nothing was found"),
        ("history export #C", "<bob> hello  from bob"),
        (
            "history export #c -format jsonl",
            "\"params\":[\"#c\",\"hello  from bob\"]",
        ),
        ("history export #none", "nothing is stored"),
        ("sasl status", "net: SASL is not set; not logged in"),
        ("certificate status", "no certificates"),
        ("bip LIST connections", "net: connected to irc://"),
        ("BIP IGNORE_FIRST_NICK true", "it is always so"),
        ("netwrok", "did you mean \"network\"?"),
        (
            "network status nowhere",
            "there is no network \"nowhere\", only net",
        ),
        ("client disconnect 99999", "you have no client 99999"),
        ("channel status #none", "there is no channel #none"),
    ] {
        let answer = ask(&mut client, words).await;
        assert!(has(&answer, expected), "{words}: {answer:#?}");
        let split: Vec<&str> = words.split(' ').collect();
        let ended = daemon.ctl(&split).await;
        assert!(ended.stdout.contains(expected), "{words}: {ended:?}");
    }
}

#[tokio::test]
async fn administrators_alone_are_told_of_others() {
    let (daemon, _ircd, _link, mut client) = connected().await;
    for (words, expected) in [
        ("user status", "apw: user, 1 network, 1 connected, 1 client"),
        ("user status apw", "net: connected to"),
        ("user run apw client status", "laptop on net"),
        ("network status -all", "net: connected to"),
        (
            "server status",
            "networks: 1, 1 connected (1 over IPv6, 0 over IPv4)",
        ),
        ("server notice it's late", "told 1 client"),
    ] {
        let answer = ask(&mut client, words).await;
        assert!(
            has(&answer, "only administrators may say"),
            "{words}: {answer:?}"
        );
        let split: Vec<&str> = words.split(' ').collect();
        let stdout = daemon.ctl(&split).await.stdout;
        let squeezed = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed.contains(expected), "{words}: {stdout}");
    }
    client
        .expect_where("the notice", |line| line.ends_with(":it's late"))
        .await;
    assert!(!has(&ask(&mut client, "help").await, "server dump"));
}

#[tokio::test]
async fn with_several_users_the_control_socket_asks_which() {
    let ircd = MockIrcd::start(Script::default()).await;
    let networks = network("net", &ircd.url());
    let users = format!("{}{networks}", user("bob"));
    let daemon = Daemon::start(&config(&(networks + &users))).await;
    let ended = daemon.ctl(&["network", "jump"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stdout
            .contains("there are several users: say \"user run USER network jump\"")
    );
    let ended = daemon
        .ctl(&["user", "run", "bob", "network", "disconnect"])
        .await;
    assert!(ended.stdout.contains("net: disconnected"), "{ended:?}");
    daemon
        .tells(&["status"], "bob: net: not connected until")
        .await;
    let ended = daemon.ctl(&["user", "run", "eve", "status"]).await;
    assert!(
        ended.stdout.contains("there is no user \"eve\""),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_network_is_left_connected_and_moved_on_from() {
    let ircds = [
        MockIrcd::start(Script::default()).await,
        MockIrcd::start(Script::default()).await,
    ];
    let urls = format!("{}\", \"{}", ircds[0].url(), ircds[1].url());
    let mut daemon = Daemon::start(&config(&network("net", &urls))).await;
    let mut link = ircds[0].accept().await;
    link.registered().await;
    let mut client = daemon.login(&format!("apw/net@laptop:{PASSWORD}")).await;
    daemon.tells(&["status"], "net: connected").await;
    // The next server, and then the first one again.
    let answer = ask(&mut client, "network jump").await;
    assert!(
        has(&answer, &format!("net: going to {}", ircds[1].url())),
        "{answer:?}"
    );
    link.expect("QUIT").await;
    let mut link = ircds[1].accept().await;
    link.registered().await;
    daemon.tells(&["status"], "net: connected").await;
    assert_eq!(daemon.ctl(&["bip", "JUMP"]).await.code, Some(0));
    link.expect("QUIT").await;
    let mut link = ircds[0].accept().await;
    link.registered().await;
    daemon.tells(&["status"], "net: connected").await;
    // A line as it stands; what is said is not said again.
    let answer = ask(
        &mut client,
        "network quote net PRIVMSG nickserv :it's  hunter2",
    )
    .await;
    assert_eq!(answer, ["net: said"]);
    link.expect("PRIVMSG nickserv :it's  hunter2").await;
    // Away until the word to come back, over a restart too.
    let answer = ask(&mut client, "network disconnect").await;
    assert!(has(&answer, "net: disconnected"), "{answer:?}");
    link.expect("QUIT").await;
    let ended = daemon.ctl(&["network", "quote", "net", "MOTD"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stdout.contains("the network is not connected"),
        "{ended:?}"
    );
    daemon.stop().await;
    daemon.restart().await;
    daemon
        .tells(&["network", "status"], "net: not connected until")
        .await;
    assert!(
        daemon
            .ctl(&["network", "connect"])
            .await
            .stdout
            .contains("net: connecting")
    );
    let mut link = ircds[0].accept().await;
    link.registered().await;
    daemon.tells(&["network", "status"], "net: connected").await;
    assert!(!daemon.log().iter().any(|line| line.contains("hunter2")));
}

#[tokio::test]
async fn history_is_replayed_in_place_and_counted_as_seen() {
    let (daemon, _ircd, link, mut client) = connected().await;
    client.send("JOIN #c").await;
    client
        .expect_where("names", |line| line.contains(" 366 "))
        .await;
    for n in 1..=300 {
        link.privmsg("bob", "#c", &format!("line {n}")).await;
    }
    client
        .expect_where("the last", |line| line.ends_with(":line 300"))
        .await;
    // Before the PONG of a later PING, in order.
    client.send("PRIVMSG *carom :history replay #C 290").await;
    let replayed = client.sync().await;
    let texts: Vec<_> = replayed
        .iter()
        .filter_map(|line| line.rsplit_once("line "))
        .collect();
    assert_eq!(texts.len(), 290, "{replayed:#?}");
    assert_eq!((texts[0].1, texts[289].1), ("11", "300"));
    client.send("BIP BACKLOG 1").await;
    let replayed = client.sync().await;
    assert_eq!(
        replayed
            .iter()
            .filter(|line| line.contains("line "))
            .count(),
        300
    );
    client.send("PRIVMSG *carom :history replay #C 2h").await;
    let replayed = client.sync().await;
    let lines = replayed.iter().filter(|line| line.contains("line "));
    assert_eq!(lines.count(), 300);
    let answer = ask(&mut client, "history replay #none 5").await;
    assert_eq!(answer, ["nothing was said there"]);
    // In a shell it is text.
    let ended = daemon.ctl(&["history", "replay", "#c", "2"]).await;
    assert_eq!(ended.stdout.lines().count(), 2, "{ended:?}");
    // A name that never was here is told nothing of what was reset.
    assert!(
        daemon
            .ctl(&["history", "reset"])
            .await
            .stdout
            .contains("all targets")
    );
    link.privmsg("bob", "#c", "fresh").await;
    client
        .expect_where("it", |line| line.ends_with(":fresh"))
        .await;
    let mut phone = daemon.login(&format!("apw/net@phone:{PASSWORD}")).await;
    let told = phone.sync().await;
    assert!(has(&told, "fresh") && !has(&told, "line 300"), "{told:#?}");
    // Quiet is quiet.
    client.send("BIP BLRESET -q").await;
    assert!(!has(&client.sync().await, "*carom!"));
}

#[tokio::test]
async fn a_client_is_sent_away() {
    let (daemon, _ircd, _link, mut client) = connected().await;
    let mut other = daemon.login(&format!("apw/net@phone:{PASSWORD}")).await;
    let answer = ask(&mut client, "client status").await;
    let phone = answer.iter().find(|line| line.contains("phone")).unwrap();
    let id = phone
        .strip_prefix("client ")
        .unwrap()
        .split(':')
        .next()
        .unwrap()
        .to_owned();
    let answer = ask(&mut client, &format!("client disconnect {id}")).await;
    assert_eq!(answer, [format!("client {id}: sent away")]);
    assert!(has(&other.ended().await, "Sent away by its user"));
    daemon.tells(&["user", "status"], "1 client").await;
    assert!(!has(&ask(&mut client, "client status").await, "phone"));
}

#[tokio::test]
async fn an_answer_has_its_label_once() {
    let (_daemon, _ircd, _link, _) = connected().await;
    let mut client = _daemon.connect().await;
    client
        .login_sasl("apw/net@tablet", PASSWORD, &["batch", "labeled-response"])
        .await;
    client
        .send("@label=one CAROM bip IGNORE_FIRST_NICK false")
        .await;
    let line = client
        .expect_where("the answer", |line| line.contains("it is always so"))
        .await;
    assert!(line.starts_with("@label=one "), "{line}");
    client.send("@label=many CAROM help").await;
    let lines = client.sync().await;
    let opening = lines
        .iter()
        .find(|line| line.contains("label=many"))
        .unwrap();
    assert!(opening.contains("labeled-response"), "{opening}");
    assert_eq!(
        lines.iter().filter(|line| line.contains("label=")).count(),
        1
    );
    let batched = lines
        .iter()
        .filter(|line| line.starts_with("@batch="))
        .count();
    assert!(batched > 20, "{lines:#?}");
    client.send("@label=none CAROM bip BLRESET -q").await;
    client
        .expect_where("ACK", |line| {
            line.starts_with("@label=none ") && line.ends_with(" ACK")
        })
        .await;
}

#[tokio::test]
async fn programs_get_json() {
    let (daemon, _ircd, _link, _client) = connected().await;
    let json = |ended: support::daemon::Ended| -> serde_json::Value {
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    };
    let ended = support::daemon::carom(
        daemon.path("").as_path(),
        &["ctl", "--json", "network", "status"],
    )
    .await;
    assert_eq!(ended.code, Some(0));
    let status = json(ended);
    assert_eq!(status["code"], 0);
    assert_eq!(status["rows"][0]["network"], "net");
    assert_eq!(status["rows"][0]["state"], "connected");
    assert_eq!(status["rows"][0]["user"], "apw");
    assert_eq!(status["rows"][0]["family"], "IPv6");
    let ended =
        support::daemon::carom(daemon.path("").as_path(), &["ctl", "--json", "nonsense"]).await;
    assert_eq!(ended.code, Some(64));
    let refused = json(ended);
    assert_eq!(refused["code"], 64);
    assert_eq!(refused["rows"], serde_json::json!([]));
    assert!(
        refused["lines"][0]
            .as_str()
            .unwrap()
            .contains("there is no \"nonsense\"")
    );
}

#[tokio::test]
async fn every_changing_verb_takes_effect_at_once() {
    let ircd = MockIrcd::start(Script::default()).await;
    // Users who are no administrators may not have carom look around in the host's own networks.
    let internal = "[dial]\nallow_internal = true\n";
    let mut daemon = Daemon::start(&config(internal)).await;
    let mut client = daemon.login(&format!("apw:{PASSWORD}")).await;
    // A network, changed, with a channel, with a login, and gone.
    let answer = ask(
        &mut client,
        &format!("network create -name net -addr {}", ircd.url()),
    )
    .await;
    assert_eq!(answer, ["network net: made"]);
    let mut link = ircd.accept().await;
    link.registered().await;
    daemon.tells(&["status"], "net: connected").await;
    let answer = ask(&mut client, "network update -nick other -follow-nick false").await;
    assert!(has(&answer, "network net: changed"), "{answer:?}");
    link.expect("NICK other").await;
    let answer = ask(&mut client, "channel create #c -key k -network net").await;
    assert_eq!(answer, ["#c: joined"]);
    link.expect("JOIN #c k").await;
    daemon.tells(&["channel", "status"], "with a key").await;
    assert_eq!(
        ask(&mut client, "channel update #c -replay none").await,
        ["#c: changed"]
    );
    daemon
        .tells(&["channel", "status", "#c"], "replay none")
        .await;
    assert_eq!(ask(&mut client, "channel delete #c").await, ["#c: left"]);
    link.expect("PART #c").await;
    let answer = ask(&mut client, "sasl set-plain account hunter2").await;
    assert!(
        has(&answer, "network net: changed; it connects anew"),
        "{answer:?}"
    );
    daemon
        .tells(&["sasl", "status"], "SASL plain as account")
        .await;
    assert!(has(
        &ask(&mut client, "sasl reset").await,
        "network net: changed"
    ));
    daemon.tells(&["sasl", "status"], "SASL is not set").await;
    let wrong = ask(&mut client, "network update -family ipv5").await;
    assert!(has(&wrong, "family"), "{wrong:?}");
    assert_eq!(
        ask(&mut client, "network delete net").await,
        ["network net: deleted"]
    );
    daemon.tells(&["status"], "no networks").await;
    assert!(!daemon.log().iter().any(|line| line.contains("hunter2")));
    daemon.stop().await;
}

#[tokio::test]
async fn users_come_change_and_go() {
    let mut daemon = Daemon::start(&config("")).await;
    let said = async |words: &str, code, expected: &str| {
        let split: Vec<&str> = words.split(' ').collect();
        let ended = daemon.ctl(&split).await;
        assert_eq!(ended.code, Some(code), "{words}: {ended:?}");
        assert!(ended.stdout.contains(expected), "{words}: {ended:?}");
        ended.stdout
    };
    let made = said("user create -username bob", 0, "password: ").await;
    let password = made.split("password: ").nth(1).unwrap().trim().to_owned();
    let mut bob = daemon.login(&format!("bob:{password}")).await;
    assert_eq!(
        ask(&mut bob, "password wrong new").await,
        ["the old password is not right"]
    );
    let answer = ask(&mut bob, &format!("password {password} hunter2")).await;
    assert_eq!(answer, ["the password of bob is changed"]);
    daemon.login("bob:hunter2").await;
    let pin = format!("sha256:{}", "ab".repeat(32));
    assert_eq!(
        ask(&mut bob, &format!("certificate add {pin}")).await,
        [format!("{pin} may log in")]
    );
    assert_eq!(
        ask(&mut bob, "certificate status").await,
        [format!("bob: {pin}")]
    );
    let answer = ask(&mut bob, &format!("certificate delete {pin}")).await;
    assert_eq!(answer, [format!("{pin} may not log in any more")]);
    assert_eq!(
        ask(&mut bob, "certificate status").await,
        ["bob: no certificates"]
    );
    let answer = ask(&mut bob, "certificate add").await;
    assert_eq!(answer, ["you show no certificate: say its fingerprint"]);
    for (words, expected) in [
        ("user update -nick bobby", "user bob: changed"),
        ("user update bob -highlight carom", "user bob: changed"),
        ("user update apw -nick bobby", "\"user update\" of others"),
        ("user update -admin true", "only administrators may say"),
        ("user update bob -max-networks 0", "only administrators may"),
        ("user update -password hunter4", "only administrators may"),
    ] {
        let answer = ask(&mut bob, words).await;
        assert!(has(&answer, expected), "{words}: {answer:?}");
    }
    let dump = daemon.ctl(&["server", "dump"]).await.stdout;
    assert!(dump.contains("nick = \"bobby\""), "{dump}");
    assert!(dump.contains("highlights = [\"carom\"]"), "{dump}");
    said(
        "user update bob -admin true -password hunter3",
        0,
        "user bob: changed",
    )
    .await;
    said("user status bob", 0, "administrator").await;
    daemon.login("bob:hunter3").await;
    said("user update apw -nick x", 1, "user.nick").await;
    said("user delete bob", 0, "within 7 days").await;
    said("user status", 0, "bob: deleted").await;
    said("user create -username bob", 1, "restore it").await;
    said("user restore bob", 0, "user bob: restored").await;
    daemon.login("bob:hunter3").await;
    said("user delete bob -purge", 0, "deleted for ever").await;
    said("user restore bob", 1, "there is no user \"bob\"").await;
    assert!(!daemon.log().iter().any(|line| line.contains("hunter")));
    daemon.stop().await;
}

#[tokio::test]
async fn the_file_is_read_again_and_dumped_by_word() {
    let mut daemon = Daemon::start(&config(&network("net", "irc+insecure://[::1]:1"))).await;
    let ended = daemon.ctl(&["server", "dump"]).await;
    assert!(ended.stdout.contains("name = \"net\"") && ended.stdout.contains("<hidden>"));
    let secrets = daemon.ctl(&["server", "dump", "-secrets"]).await.stdout;
    assert!(secrets.contains("$argon2id$") && !secrets.contains("<hidden>"));
    daemon.configure(&config(&network("other", "irc+insecure://[::1]:1")));
    let ended = daemon.ctl(&["server", "reload", "-dry-run"]).await;
    assert!(
        ended.stdout.contains("other") && ended.stdout.contains("dry run"),
        "{ended:?}"
    );
    daemon.tells(&["status"], "net:").await;
    let ended = daemon.ctl(&["bip", "RELOAD"]).await;
    assert!(ended.stdout.contains("read again and applied"), "{ended:?}");
    daemon.tells(&["status"], "other:").await;
    daemon.configure(&config(&network("bad", "gopher://x")));
    let ended = daemon.ctl(&["server", "reload"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.contains("nothing was changed"), "{ended:?}");
    assert_eq!(daemon.ctl(&["server", "debug", "on"]).await.code, Some(0));
    daemon.ctl(&["network", "connect", "other"]).await;
    daemon.logged(" DEBUG ").await;
    assert_eq!(daemon.ctl(&["server", "debug", "off"]).await.code, Some(0));
    daemon.stop().await;
}

const NETWORKS: &str = "soju.im/bouncer-networks";
const NOTIFY: &str = "soju.im/bouncer-networks-notify";

/// The number in a line `BOUNCER WORD id ...`.
fn netid(lines: &[String], word: &str) -> String {
    let tail = |line: &String| Some(line.split_once(&format!(" BOUNCER {word} "))?.1.to_owned());
    let tail = lines.iter().find_map(tail).unwrap();
    tail.split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn networks_are_listed_made_changed_and_ended_over_irc() {
    let (daemon, _ircd, _link, _client) = connected().await;
    // Whoever knows of several networks and names none is bound to none, although there is one only.
    let mut control = Client::connect(daemon.addr()).await;
    control
        .login_sasl("apw", PASSWORD, &["batch", NETWORKS, NOTIFY])
        .await;
    let first = control.sync().await;
    assert!(
        has(&first, "BATCH +") && has(&first, " soju.im/bouncer-networks"),
        "{first:?}"
    );
    assert!(
        has(&first, "name=net") && has(&first, "state=connected"),
        "{first:?}"
    );
    let declared = netid(&first, "NETWORK");
    control
        .send("BOUNCER ADDNETWORK name=two;host=::1;port=1;tls=0;nickname=al")
        .await;
    let made = control.sync().await;
    let id = netid(&made, "ADDNETWORK");
    let told = made
        .iter()
        .position(|line| line.contains(&format!("BOUNCER NETWORK {id} ")));
    let done = made
        .iter()
        .position(|line| line.contains("BOUNCER ADDNETWORK"));
    assert!(told.is_some() && told < done, "{made:?}");
    assert!(
        has(&made, "host=::1") && has(&made, "port=1") && has(&made, "tls=0"),
        "{made:?}"
    );
    control
        .send(&format!("BOUNCER CHANGENETWORK {id} nickname=alice"))
        .await;
    let changed = control.sync().await;
    assert!(
        has(&changed, &format!("BOUNCER NETWORK {id} ")) && has(&changed, "nickname=alice"),
        "{changed:?}"
    );
    assert!(
        has(&changed, &format!("BOUNCER CHANGENETWORK {id}")),
        "{changed:?}"
    );
    // What the file declares is the file's.
    control
        .send(&format!("BOUNCER CHANGENETWORK {declared} nickname=x"))
        .await;
    let refused = control.sync().await;
    assert!(
        has(&refused, "FAIL BOUNCER READ_ONLY_ATTRIBUTE CHANGENETWORK"),
        "{refused:?}"
    );
    assert!(has(&refused, "carom.toml"), "{refused:?}");

    is_bound(&daemon, &declared).await;
    control.send(&format!("BOUNCER DELNETWORK {id}")).await;
    let ended = control.sync().await;
    assert!(has(&ended, &format!("BOUNCER NETWORK {id} *")), "{ended:?}");
    assert!(
        has(&ended, &format!("BOUNCER DELNETWORK {id}")),
        "{ended:?}"
    );
    control.send("BOUNCER LISTNETWORKS").await;
    let left = control.sync().await;
    assert!(
        has(&left, "name=net") && !has(&left, "name=two"),
        "{left:?}"
    );
}

/// A connection for one of the networks, by its number.
async fn is_bound(daemon: &Daemon, netid: &str) {
    let mut bound = Client::connect(daemon.addr()).await;
    bound.send("CAP LS 302").await;
    bound.send("NICK zed").await;
    bound.send("USER zed 0 * :Zed").await;
    bound.send(&format!("CAP REQ :sasl {NETWORKS}")).await;
    bound.authenticate("apw", PASSWORD).await;
    bound.expect("903").await;
    bound.send("BOUNCER BIND 987").await;
    bound.expect("FAIL BOUNCER INVALID_NETID BIND 987").await;
    bound.send(&format!("BOUNCER BIND {netid}")).await;
    bound.send("CAP END").await;
    bound
        .expect_where("the number in 005", |line| {
            line.contains(&format!("BOUNCER_NETID={netid} "))
        })
        .await;
}
