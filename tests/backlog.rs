//! What was missed is replayed, once and in order, and nothing a client has seen is ever missing: positions, proofs,
//! forms of replay, and the daemon killed at random moments.

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

#[path = "e2e/detached.rs"]
mod detached;
#[path = "e2e/on_request.rs"]
mod on_request;
mod support;

use support::client::text_of;
use support::daemon::{channel, config, network, user};
use support::{Client, Daemon, Link, MockIrcd, Script};

/// One network with a channel, and keys for `[history]`.
async fn on_channel(history: &str) -> (Daemon, MockIrcd, Link) {
    let ircd = MockIrcd::start(Script::default()).await;
    let networks = network("net", &ircd.url()) + &channel("#a");
    let history = format!("\n[history]\n{history}\n");
    let daemon = Daemon::start(&(config(&networks) + &history)).await;
    let link = joined(&ircd).await;
    (daemon, ircd, link)
}

async fn joined(ircd: &MockIrcd) -> Link {
    let mut link = ircd.accept().await;
    link.registered().await;
    link.expect("JOIN #a").await;
    link
}

async fn say(link: &Link, from: usize, to: usize) {
    for n in from..to {
        link.privmsg("bob", "#a", &format!("line {n}")).await;
    }
}

/// Waits until the server's lines have reached the clients, and a proof of them the store.
async fn caught_up(daemon: &Daemon, link: &mut Link, last: &str) {
    let mut watcher = daemon.login("apw/net@watcher:secret").await;
    link.privmsg("eve", "apw", last).await;
    watcher
        .expect_where(last, |line| {
            text_of(line).is_some_and(|text| text.ends_with(last))
        })
        .await;
    watcher.send("QUIT").await;
    watcher.ended().await;
}

/// Attaches and returns what is replayed of the channel.
async fn replayed(daemon: &Daemon, name: &str) -> (Client, Vec<String>) {
    let mut client = daemon.connect().await;
    client
        .login_sasl(&format!("apw/net@{name}"), "secret", &["server-time"])
        .await;
    let heard = client.sync().await;
    (client, lines_of(&heard))
}

/// The numbered lines among these.
fn lines_of(heard: &[String]) -> Vec<String> {
    heard
        .iter()
        .filter(|line| line.contains(" PRIVMSG #a :"))
        .filter_map(|line| text_of(line))
        .map(str::to_owned)
        .collect()
}

fn numbered(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("line {n}")).collect()
}

#[tokio::test]
async fn each_client_name_is_replayed_what_it_missed_itself() {
    let (daemon, _ircd, mut link) = on_channel("").await;
    for name in ["one", "two"] {
        let (client, lines) = replayed(&daemon, name).await;
        assert!(lines.is_empty());
        leave(client).await;
    }
    say(&link, 0, 5).await;
    caught_up(&daemon, &mut link, "first").await;
    let (client, lines) = replayed(&daemon, "one").await;
    assert_eq!(lines, numbered(0, 5));
    leave(client).await;
    say(&link, 5, 9).await;
    caught_up(&daemon, &mut link, "second").await;
    let (client, lines) = replayed(&daemon, "one").await;
    assert_eq!(lines, numbered(5, 9));
    leave(client).await;
    let (_client, lines) = replayed(&daemon, "one").await;
    assert_eq!(lines, [""; 0]);
    let (_client, lines) = replayed(&daemon, "two").await;
    assert_eq!(lines, numbered(0, 9));
}

async fn leave(mut client: Client) {
    client.send("QUIT").await;
    client.expect("ERROR").await;
    client.ended().await;
}

#[tokio::test]
async fn a_client_without_pongs_is_replayed_everything_again() {
    let (daemon, _ircd, mut link) = on_channel("").await;
    let (client, _) = replayed(&daemon, "mute").await;
    client.set_pongs(false);
    say(&link, 0, 20).await;
    let mut client = client;
    client
        .expect_where("the last line", |line| line.ends_with(":line 19"))
        .await;
    client.reset().await;
    for _ in 0..2 {
        caught_up(&daemon, &mut link, "mark").await;
        let mut client = daemon.connect().await;
        client.set_pongs(false);
        client
            .login_sasl("apw/net@mute", "secret", &["server-time"])
            .await;
        let heard = client.sync().await;
        assert_eq!(lines_of(&heard), numbered(0, 20));
        client.reset().await;
    }
    let (client, lines) = replayed(&daemon, "mute").await;
    assert_eq!(lines, numbered(0, 20));
    leave(client).await;
    let (_client, lines) = replayed(&daemon, "mute").await;
    assert_eq!(lines, [""; 0], "by QUIT it proved all");
}

#[tokio::test]
async fn quit_and_fin_prove_and_a_reset_does_not() {
    for (how, expected) in [("QUIT", 0), ("FIN", 0), ("RST", 10)] {
        let (daemon, _ircd, mut link) = on_channel("").await;
        let mut client = daemon.connect().await;
        client.set_pongs(false);
        client.login("apw/net@c:secret").await;
        say(&link, 0, 10).await;
        all_heard(&mut client, ":line 9").await;
        match how {
            "QUIT" => leave(client).await,
            "FIN" => client.close().await,
            _ => client.reset().await,
        }
        daemon_saw_it_go(&daemon).await;
        caught_up(&daemon, &mut link, "mark").await;
        let (_client, lines) = replayed(&daemon, "c").await;
        assert_eq!(lines, numbered(10 - expected, 10), "{how}");
    }
}

#[tokio::test]
async fn a_fin_proves_in_tls_too_with_or_without_a_word() {
    for with_a_word in [true, false] {
        let ircd = MockIrcd::start(Script::default()).await;
        let networks = network("net", &ircd.url()) + &channel("#a");
        let listen = "\"ircs://[::1]:0\", \"irc://[::1]:0\"";
        let config = config(&networks).replace("\"irc://[::1]:0\"", listen);
        let daemon = Daemon::start(&config).await;
        let mut link = joined(&ircd).await;
        let mut client = Client::connect_tls(daemon.addr(), None).await;
        client.set_pongs(false);
        client.login("apw/net@c:secret").await;
        say(&link, 0, 10).await;
        all_heard(&mut client, ":line 9").await;
        if with_a_word {
            client.close().await;
        } else {
            client.abandon().await;
        }
        daemon_saw_it_go(&daemon).await;
        link.privmsg("bob", "#a", "line 10").await;
        link.send("PING :read").await;
        link.expect("PONG").await;
        let mut client = Client::connect(daemon.addr_of(1)).await;
        client
            .login_sasl("apw/net@c", "secret", &["server-time"])
            .await;
        let heard = client.sync().await;
        assert_eq!(lines_of(&heard), numbered(10, 11), "{with_a_word}");
    }
}

/// Waits for the last line, and for the one PING that a client without PONGs is sent: nothing can come after them.
async fn all_heard(client: &mut Client, last: &str) {
    client
        .expect_where("the last line", |line| line.ends_with(last))
        .await;
    let is_ping = |line: &String| line.starts_with("PING :carom-");
    if !client.heard().iter().any(is_ping) {
        client.expect("PING :carom-").await;
    }
}

async fn daemon_saw_it_go(daemon: &Daemon) {
    daemon
        .tells(&["client", "status"], "no clients attached")
        .await;
}

#[tokio::test]
async fn a_pong_proves_what_came_before_its_ping() {
    let (mut daemon, ircd, mut link) = on_channel("").await;
    let (mut client, _) = replayed(&daemon, "c").await;
    say(&link, 0, 10).await;
    client
        .expect_where("the last line", |line| line.ends_with(":line 9"))
        .await;
    client.expect("PING :carom-").await;
    client.has_said("PONG").await;
    // A later PING is only sent once the PONG has come.
    say(&link, 10, 11).await;
    client
        .expect_where("the next line", |line| line.ends_with(":line 10"))
        .await;
    client.expect("PING :carom-").await;
    client.set_pongs(false);
    say(&link, 11, 20).await;
    client
        .expect_where("the last line", |line| line.ends_with(":line 19"))
        .await;
    caught_up(&daemon, &mut link, "mark").await;
    daemon.kill().await;
    daemon.restart().await;
    let _link = joined(&ircd).await;
    let mut client = daemon.login("apw/net@c:secret").await;
    client.expect("366").await;
    let lines: Vec<_> = lines_of(&client.sync().await)
        .iter()
        .map(|line| line.split_once("] ").unwrap().1.to_owned())
        .collect();
    let first: usize = lines[0].strip_prefix("line ").unwrap().parse().unwrap();
    assert!((10..=11).contains(&first), "{lines:?}");
    assert_eq!(lines, numbered(first, 20));
}

#[tokio::test]
async fn replay_takes_the_form_the_client_asked_for() {
    let (daemon, _ircd, mut link) = on_channel("").await;
    let names = ["plain", "timed", "batched"];
    for name in names {
        leave(replayed(&daemon, name).await.0).await;
    }
    say(&link, 0, 3).await;
    link.send(":bob!bob@host.test PRIVMSG #a :\x01ACTION waves\x01")
        .await;
    caught_up(&daemon, &mut link, "mark").await;
    for (name, caps) in
        names
            .into_iter()
            .zip([&[][..], &["server-time"], &["server-time", "batch"]])
    {
        let mut client = daemon.connect().await;
        client
            .login_sasl(&format!("apw/net@{name}"), "secret", caps)
            .await;
        let heard = client.sync().await;
        let lines: Vec<_> = heard
            .iter()
            .filter(|line| line.contains(" PRIVMSG #a :") && !line.ends_with(":live"))
            .collect();
        assert_eq!(lines.len(), 4, "{name}: {heard:?}");
        for (n, line) in lines[..3].iter().enumerate() {
            assert!(line.ends_with(&format!("line {n}")), "{line}");
            assert_eq!(line.contains("time="), name != "plain", "{line}");
            assert_eq!(line.contains("batch="), name == "batched", "{line}");
        }
        // [HH:MM:SS] stands before the text, inside an ACTION too.
        let text = text_of(lines[0]).unwrap();
        let is_stamp = |text: &str| text.as_bytes()[0] == b'[' && &text[9..11] == "] ";
        assert_eq!(is_stamp(text), name == "plain", "{text}");
        let action = text_of(lines[3])
            .unwrap()
            .strip_prefix("\x01ACTION ")
            .unwrap();
        assert_eq!(
            action.strip_suffix('\x01').unwrap().len() > "waves".len(),
            name == "plain"
        );
        let batches: Vec<_> = heard
            .iter()
            .filter(|line| line.contains(" BATCH "))
            .collect();
        let of_channel = batches
            .iter()
            .filter(|line| line.ends_with(" chathistory #a"));
        assert_eq!(
            of_channel.count(),
            usize::from(name == "batched"),
            "{heard:?}"
        );
        link.privmsg("bob", "#a", "live").await;
        let live = client
            .expect_where("a live line", |line| line.ends_with("PRIVMSG #a :live"))
            .await;
        assert_eq!(live.starts_with("@time="), name != "plain", "{live}");
    }
}

#[tokio::test]
async fn timestamps_are_as_configured() {
    for (format, expected) in [
        ("none", ""),
        ("datetime", "[dddd-dd-dd dd:dd:dd] "),
        ("<%H.%M>", "<dd.dd> "),
    ] {
        let (daemon, _ircd, mut link) = on_channel(&format!("timestamps = \"{format}\"")).await;
        leave(daemon.login("apw/net@c:secret").await).await;
        say(&link, 0, 1).await;
        caught_up(&daemon, &mut link, "mark").await;
        let mut client = daemon.login("apw/net@c:secret").await;
        let heard = client.sync().await;
        let stamped: Vec<String> = lines_of(&heard)
            .iter()
            .map(|text| {
                text.strip_suffix("line 0")
                    .unwrap()
                    .replace(|c: char| c.is_ascii_digit(), "d")
            })
            .collect();
        assert_eq!(stamped, [expected]);
    }
}

#[tokio::test]
async fn replay_none_last_lines_and_first_lines_do_as_they_say() {
    // What a new name gets, then what a known one gets that missed 30 lines, then the same at once again.
    for (rules, new, missed, again) in [
        ("", (0, 30), (30, 60), (60, 60)),
        ("first_lines = 5", (25, 30), (30, 60), (60, 60)),
        ("first_lines = 0", (30, 30), (30, 60), (60, 60)),
        ("lines = 10", (20, 30), (50, 60), (60, 60)),
        ("replay = \"none\"", (30, 30), (60, 60), (60, 60)),
        ("replay = \"last\"\nlines = 7", (23, 30), (53, 60), (53, 60)),
        ("replay = \"last\"", (0, 30), (0, 60), (0, 60)),
    ] {
        let (daemon, _ircd, mut link) = on_channel(rules).await;
        say(&link, 0, 30).await;
        caught_up(&daemon, &mut link, "mark").await;
        let (client, lines) = replayed(&daemon, "c").await;
        assert_eq!(lines, numbered(new.0, new.1), "new: {rules}");
        leave(client).await;
        say(&link, 30, 60).await;
        caught_up(&daemon, &mut link, "mark").await;
        for (when, expected) in [("missed", missed), ("again", again)] {
            let (client, lines) = replayed(&daemon, "c").await;
            assert_eq!(lines, numbered(expected.0, expected.1), "{when}: {rules}");
            leave(client).await;
        }
    }
}

/// The end of a table, with so many `lines` of history if that is said there.
fn rule(lines: Option<usize>) -> String {
    lines.map_or(String::new(), |n| {
        format!("history = {{ lines = {n} }}\n\n")
    })
}

#[tokio::test]
async fn the_nearest_rule_holds_of_channel_network_user_and_all() {
    for (all, of_user, of_network, of_channel, expected) in [
        (20, None, None, None, 20),
        (20, Some(15), None, None, 15),
        (20, Some(15), Some(10), None, 10),
        (20, Some(15), Some(10), Some(12), 12),
        (20, None, None, Some(5), 5),
    ] {
        let ircd = MockIrcd::start(Script::default()).await;
        let parts = [
            (user("apw"), rule(of_user)),
            (network("net", &ircd.url()), rule(of_network)),
            (channel("#a"), rule(of_channel)),
        ];
        let tables: String = parts
            .into_iter()
            .map(|(table, rule)| format!("{}\n{rule}", table.trim_end()))
            .collect();
        let head = "[server]\nname = \"bnc.test\"\nlisten = [\"irc://[::1]:0\"]\n";
        let daemon = Daemon::start(&format!("{head}[history]\nlines = {all}\n{tables}")).await;
        let mut link = joined(&ircd).await;
        say(&link, 0, 30).await;
        caught_up(&daemon, &mut link, "mark").await;
        let (client, lines) = replayed(&daemon, "c").await;
        assert_eq!(lines, numbered(30 - expected, 30));
        leave(client).await;
    }
}

#[tokio::test]
async fn events_are_told_when_wanted() {
    for (only_messages, is_told) in [(true, false), (false, true)] {
        let (daemon, _ircd, mut link) =
            on_channel(&format!("only_messages = {only_messages}")).await;
        leave(replayed(&daemon, "c").await.0).await;
        link.send(":new!n@host.test JOIN #a").await;
        link.privmsg("new", "#a", "hello").await;
        link.send(":new!n@host.test TOPIC #a :news").await;
        link.send(":new!n@host.test PART #a :bye").await;
        caught_up(&daemon, &mut link, "mark").await;
        let mut client = daemon.connect().await;
        client
            .login_sasl("apw/net@c", "secret", &["server-time"])
            .await;
        let heard = client.sync().await;
        for word in ["joined", "topic", "bye"] {
            let told = heard
                .iter()
                .any(|line| line.contains(" NOTICE #a :") && line.contains(word));
            assert_eq!(told, is_told, "{word}: {heard:?}");
        }
        // Never as lines that would change who is there.
        let changes = heard
            .iter()
            .filter(|line| line.starts_with(":new!") && !line.contains("PRIVMSG"));
        assert_eq!(changes.count(), 0, "{heard:?}");
        assert_eq!(lines_of(&heard), ["hello"]);
    }
}

#[tokio::test]
async fn many_targets_and_pages_are_replayed_whole() {
    let (daemon, _ircd, mut link) = on_channel("first_lines = 10000").await;
    let paste: String = (0..3000)
        .flat_map(|n| {
            let channel = format!(":bob!b@h PRIVMSG #a :line {n}\r\n");
            let private = format!(":nick{}!b@h PRIVMSG apw :private {n}\r\n", n % 50);
            [channel, private]
        })
        .collect();
    link.send_bytes(paste.as_bytes()).await.unwrap();
    caught_up(&daemon, &mut link, "mark").await;
    let mut client = daemon.connect().await.in_bytes();
    client
        .login_sasl("apw/net@c", "secret", &["server-time", "batch"])
        .await;
    let heard = client.sync().await;
    assert_eq!(lines_of(&heard), numbered(0, 3000));
    for nick in 0..50 {
        let start = format!(":nick{nick}!b@h PRIVMSG apw :private ");
        let numbers: Vec<usize> = heard
            .iter()
            .filter_map(|line| line.split_once(&start).map(|(_, n)| n.parse().unwrap()))
            .collect();
        assert_eq!(numbers, (nick..3000).step_by(50).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_clients_say_is_in_the_backlog_of_the_others() {
    let (daemon, _ircd, mut link) = on_channel("").await;
    leave(replayed(&daemon, "other").await.0).await;
    let (mut client, _) = replayed(&daemon, "talker").await;
    for n in 0..5 {
        client.send(&format!("PRIVMSG #a :line {n}")).await;
        link.expect(&format!("PRIVMSG #a :line {n}")).await;
    }
    client.sync().await;
    leave(client).await;
    caught_up(&daemon, &mut link, "mark").await;
    let (_client, lines) = replayed(&daemon, "other").await;
    assert_eq!(lines, numbered(0, 5));
    let (_client, lines) = replayed(&daemon, "talker").await;
    assert_eq!(lines, [""; 0], "nobody misses what he said himself");
}
