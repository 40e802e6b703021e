//! Detached channels, from words, the file and the store to the socket: kept over kills, given back once, told of by
//! *carom.

use super::support::daemon::{channel, config, network};
use super::support::{Client, Daemon, Link};
use super::{caught_up, joined, leave, lines_of, numbered, on_channel, replayed, say};

/// The words of *carom about a channel.
fn relayed(heard: &[String]) -> Vec<&str> {
    let notices = heard.iter().filter(|line| line.contains(":*carom!"));
    let texts = notices.filter_map(|line| line.split_once(" NOTICE apw :").map(|parts| parts.1));
    texts.filter(|text| text.contains(" in #")).collect()
}

/// What the client gets of the channel when it joins it.
async fn join(client: &mut Client, channel: &str) -> Vec<String> {
    client.sync().await;
    client.send(&format!("JOIN {channel}")).await;
    let heard = client.sync().await;
    let own = format!(":apw!user@host.test JOIN {channel}");
    let joins = heard.iter().filter(|line| line.ends_with(&own));
    assert_eq!(joins.count(), 1, "{heard:?}");
    lines_of(&heard)
}

#[tokio::test]
async fn what_is_said_in_a_detached_channel_comes_once_whatever_happens() {
    let (mut daemon, ircd, mut link) = on_channel("").await;
    let (mut client, _) = replayed(&daemon, "one").await;
    say(&link, 0, 3).await;
    client.expect("PRIVMSG #a :line 2").await;
    client.send("PART #a :detach").await;
    client.expect("PART #a :detached; /join").await;
    client.sync().await;
    say(&link, 3, 300).await;
    link.privmsg("bob", "#a", "Apw: look").await;
    client
        .expect("NOTICE apw :highlight in #a: <bob> Apw: look")
        .await;
    link.privmsg("bob", "#a", "line 300").await;
    caught_up(&daemon, &mut link, "before the kill").await;
    let heard = client.sync().await;
    assert_eq!(lines_of(&heard), [""; 0]);
    daemon.kill().await;
    daemon.restart().await;
    let mut link = joined(&ircd).await;
    say(&link, 301, 304).await;
    link.privmsg("bob", "#a", "apw, again").await;
    caught_up(&daemon, &mut link, "stored").await;
    // Nothing of it is told unasked but what names the user.
    let mut client = daemon.connect().await;
    client.login_sasl("apw/net@one", "secret", &[]).await;
    let heard = client.sync().await;
    assert!(
        heard.iter().all(|line| !line.contains(" JOIN #a")),
        "{heard:?}"
    );
    assert_eq!(lines_of(&heard), [""; 0]);
    let told = relayed(&heard);
    let last = told.last().expect("it is told");
    assert!(
        last.ends_with("highlight in #a: <bob> apw, again"),
        "{told:?}"
    );
    let lines = join(&mut client, "#a").await;
    let mut expected = numbered(3, 300);
    expected.push("Apw: look".to_owned());
    expected.extend(numbered(300, 304));
    expected.push("apw, again".to_owned());
    let untimed = |line: &String| {
        line.split_once("] ")
            .map_or_else(|| line.clone(), |p| p.1.to_owned())
    };
    let lines: Vec<String> = lines.iter().map(untimed).collect();
    // What it had before may not have been proved before the kill.
    let (before, lines) = lines.split_at(lines.len().saturating_sub(expected.len()));
    assert_eq!(lines, expected);
    assert!(numbered(0, 3).ends_with(before), "{before:?}");
    say(&link, 400, 402).await;
    client.expect("PRIVMSG #a :line 401").await;
    leave(client).await;
    let mut client = daemon.connect().await;
    client.login_sasl("apw/net@one", "secret", &[]).await;
    let heard = client.sync().await;
    assert!(heard.iter().any(|line| line.contains(" JOIN #a")));
    assert_eq!(lines_of(&heard), [""; 0]);
    assert_eq!(relayed(&heard), [""; 0]);
}

/// Two channels: one of the file, one that was joined.
async fn two_channels() -> (Daemon, super::MockIrcd, Link, Client) {
    let (daemon, ircd, mut link) = on_channel("").await;
    let (mut client, _) = replayed(&daemon, "one").await;
    client.send("JOIN #b").await;
    link.expect("JOIN #b").await;
    client.expect("366 apw #b").await;
    (daemon, ircd, link, client)
}

#[tokio::test]
async fn words_detach_attach_and_tell() {
    let (mut daemon, ircd, link, mut client) = two_channels().await;
    daemon
        .tells(&["channel", "detach", "#A"], "#a: detached")
        .await;
    client.expect("PART #a").await;
    daemon
        .tells(&["channel", "detach", "#a"], "#a: detached already")
        .await;
    daemon.tells(&["channel", "status"], "(by you)").await;
    let refused = daemon.ctl(&["channel", "attach", "#none"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    // What the file declares is changed there, what was joined is not.
    let update = ["channel", "update", "#a", "-detached", "true"];
    let refused = daemon.ctl(&update).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stdout.contains("user.network.channel.detached"),
        "{refused:?}"
    );
    let wrong = daemon
        .ctl(&["channel", "update", "#b", "-reattach-on", "always"])
        .await;
    assert!(wrong.stdout.contains("reattach_on"), "{wrong:?}");
    let mut update = vec!["channel", "update", "#b", "-detached", "true"];
    update.extend(["-reattach-on", "message", "-detach-after", "30d"]);
    daemon.tells(&update, "#b: changed").await;
    client.expect("PART #b").await;
    let told = daemon
        .tells(&["channel", "status", "#b"], "(as configured)")
        .await;
    assert!(
        told.contains("attached by a message") && told.contains("30 d 0 h of silence"),
        "{told}"
    );
    link.privmsg("bob", "#b", "hello").await;
    client.expect("JOIN #b").await;
    client.expect("PRIVMSG #b :hello").await;
    // It says so already, and is meant all the same.
    daemon.tells(&update[..5], "#b: changed").await;
    client.expect("PART #b").await;
    let dump = daemon.ctl(&["server", "dump"]).await.stdout;
    for line in [
        "detached = true",
        "reattach_on = \"message\"",
        "detach_after = \"2592000s\"",
    ] {
        assert!(dump.contains(line), "{line} is not in {dump}");
    }
    daemon.kill().await;
    daemon.restart().await;
    let mut link = joined(&ircd).await;
    assert!(link.heard().iter().any(|line| line.contains("#b")));
    caught_up(&daemon, &mut link, "there").await;
    let told = daemon.tells(&["channel", "status"], "#b: ").await;
    assert!(told.contains("(by you)") && told.contains("detached (as configured)"));
    daemon
        .tells(&["channel", "attach", "#a"], "#a: attached")
        .await;
    let mut client = daemon.login("apw/net@one:secret").await;
    let heard = client.sync().await;
    let shown = |name: &str| {
        heard
            .iter()
            .any(|line| line.ends_with(&format!(" JOIN {name}")))
    };
    assert!(shown("#a") && !shown("#b"), "{heard:?}");
}

#[tokio::test]
async fn a_reload_detaches_and_looks_for_other_words_without_a_new_link() {
    let (daemon, ircd, link, mut client) = two_channels().await;
    link.privmsg("bob", "#a", "about carom").await;
    client.expect("PRIVMSG #a :about carom").await;
    let networks = network("net", &ircd.url()) + channel("#a").trim_end();
    let text = config(&(networks + "\ndetached = true\n"));
    let words = "name = \"apw\"\nhighlights = [\"carom\"]";
    daemon.configure(&text.replace("name = \"apw\"", words));
    let told = daemon.ctl(&["server", "reload", "-dry-run"]).await.stdout;
    assert!(told.contains("user apw: highlights"), "{told}");
    assert!(!told.contains("anew"), "{told}");
    daemon.tells(&["server", "reload"], "user apw").await;
    client.expect("PART #a :detached, as configured").await;
    link.privmsg("bob", "#a", "about carom").await;
    client
        .expect("NOTICE apw :highlight in #a: <bob> about carom")
        .await;
    link.privmsg("bob", "#b", "here still").await;
    client.expect("PRIVMSG #b :here still").await;
    assert!(link.heard().iter().all(|line| !line.starts_with("QUIT")));
    assert_eq!(join(&mut client, "#a").await, ["about carom"]);
}
