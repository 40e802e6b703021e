//! History on request, from the store through the writer to the socket: pages, batches, labels.

use std::collections::BTreeSet;

use super::support::client::text_of;
use super::support::{Client, Daemon};
use super::{caught_up, numbered, on_channel, say};

const CAPS: &[&str] = &[
    "batch",
    "labeled-response",
    "message-tags",
    "server-time",
    "draft/chathistory",
    "soju.im/search",
    "znc.in/playback",
];

async fn attached(daemon: &Daemon, caps: &[&str]) -> Client {
    let mut client = daemon.connect().await;
    client.login_sasl("apw/net@modern", "secret", caps).await;
    let unasked = client.sync().await;
    let said = unasked.iter().filter(|line| line.contains(" PRIVMSG "));
    assert_eq!(said.count(), 0, "nothing is replayed unasked: {unasked:?}");
    client
}

/// The answer to a question under a label: everything up to the end of its batch, which is checked.
async fn answer(client: &mut Client, label: &str, question: &str) -> Vec<String> {
    client.send(&format!("@label={label} {question}")).await;
    let lines = client.sync().await;
    assert_eq!(tag(&lines[0], "label"), label, "{}", lines[0]);
    let opened = lines[0].split(" BATCH +").nth(1).expect("a batch");
    let reference = opened.split(' ').next().expect("its reference");
    let last = lines.last().expect("its end");
    assert!(last.ends_with(&format!(" BATCH -{reference}")), "{last}");
    lines
}

fn texts(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .filter_map(|line| text_of(line))
        .map(str::to_owned)
        .collect()
}

fn tag(line: &str, key: &str) -> String {
    let tags = line
        .trim_start_matches('@')
        .split(' ')
        .next()
        .unwrap_or_default();
    let tag = tags
        .split(';')
        .find_map(|tag| tag.strip_prefix(key)?.strip_prefix('='));
    tag.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn rule_32_pages_in_both_directions_hold_every_line_once() {
    let (daemon, _ircd, mut link) = on_channel("").await;
    say(&link, 0, 600).await;
    caught_up(&daemon, &mut link, "stored").await;
    let mut client = attached(&daemon, CAPS).await;
    // More than the writer reads at a time.
    let lines = answer(&mut client, "all", "CHATHISTORY LATEST #a * 1000").await;
    assert_eq!(texts(&lines), numbered(0, 600));
    assert!(lines[0].ends_with(" chathistory #a"), "{}", lines[0]);
    // Backwards by time, forwards by time: exclusive bounds lose and repeat nothing.
    for (word, first) in [
        ("BEFORE", "2036-01-01T00:00:00.000Z"),
        ("AFTER", "1990-01-01T00:00:00.000Z"),
    ] {
        let (mut bound, mut seen) = (first.to_owned(), BTreeSet::new());
        loop {
            let question = format!("CHATHISTORY {word} #a timestamp={bound} 50");
            let lines = answer(&mut client, "p", &question).await;
            let said: Vec<_> = lines
                .iter()
                .filter(|line| text_of(line).is_some())
                .collect();
            let Some(edge) = (if word == "BEFORE" {
                said.first()
            } else {
                said.last()
            }) else {
                break;
            };
            bound = tag(edge, "time");
            assert!(said.len() <= 50);
            for line in said {
                assert!(
                    seen.insert(text_of(line).map(str::to_owned)),
                    "{line} came twice"
                );
            }
        }
        assert_eq!(seen.len(), 600, "{word}");
    }
}

#[tokio::test]
async fn questions_are_answered_in_order_each_under_its_label() {
    let (daemon, _ircd, mut link) = on_channel("").await;
    say(&link, 0, 20).await;
    caught_up(&daemon, &mut link, "stored").await;
    let mut client = attached(&daemon, CAPS).await;
    for (label, question) in [
        ("1", "CHATHISTORY LATEST #a * 3"),
        ("2", "CHATHISTORY LATEST #nowhere * 3"),
        (
            "3",
            "CHATHISTORY TARGETS timestamp=1990-01-01T00:00:00.000Z timestamp=2036-01-01T00:00:00.000Z 10",
        ),
        ("4", "CHATHISTORY LATEST #a msgid=gone 3"),
        ("5", "SEARCH text=17;in=#a"),
        ("6", "PRIVMSG *playback :PLAY #a 0"),
        ("7", "CAROM help"),
        ("8", "PING x"),
    ] {
        client.send(&format!("@label={label} {question}")).await;
    }
    let lines = client.sync().await;
    let labels: Vec<_> = lines
        .iter()
        .map(|line| tag(line, "label"))
        .filter(|l| !l.is_empty())
        .collect();
    assert_eq!(
        labels,
        ["1", "2", "3", "4", "5", "6", "7", "8"],
        "{lines:?}"
    );
    let of = |label: &str| {
        let first = lines
            .iter()
            .position(|line| tag(line, "label") == label)
            .expect("it");
        let rest = lines[first + 1..]
            .iter()
            .position(|line| !tag(line, "label").is_empty());
        &lines[first..rest.map_or(lines.len(), |n| first + 1 + n)]
    };
    assert_eq!(texts(of("1")), numbered(17, 20));
    assert_eq!(of("2").len(), 2, "an empty batch: {:?}", of("2"));
    assert!(
        of("3")
            .iter()
            .any(|line| line.contains(" CHATHISTORY TARGETS #a 2")),
        "{:?}",
        of("3")
    );
    assert!(of("3")[0].ends_with(" draft/chathistory-targets"));
    assert!(
        of("4")[0].contains(" FAIL CHATHISTORY MESSAGE_ERROR LATEST #a :"),
        "{:?}",
        of("4")
    );
    assert_eq!(texts(of("5")), numbered(17, 18));
    assert!(of("5")[0].ends_with(" soju.im/search"));
    assert_eq!(texts(of("6")), numbered(0, 20));
    assert!(of("6")[1].contains(" znc.in/playback #a"), "{:?}", of("6"));
    assert!(
        of("7").len() > 3 && of("7")[0].ends_with(" labeled-response"),
        "{:?}",
        of("7")
    );
    assert!(of("8")[0].contains(" PONG "), "{:?}", of("8"));
}

#[tokio::test]
async fn rule_36_who_asks_for_much_and_reads_nothing_delays_nobody() {
    let (daemon, _ircd, mut link) = on_channel("").await;
    say(&link, 0, 1000).await;
    caught_up(&daemon, &mut link, "stored").await;
    let greedy = attached(&daemon, CAPS).await;
    // Some 50 MB in all.
    for _ in 0..400 {
        greedy.send("CHATHISTORY LATEST #a * 1000").await;
    }
    let mut other = daemon.connect().await;
    other
        .login_sasl("apw/net@other", "secret", &["draft/chathistory"])
        .await;
    link.privmsg("bob", "#a", "live").await;
    other
        .expect_where("live", |line| line.ends_with(" :live"))
        .await;
    let rss = daemon.rss();
    assert!(rss < 200 * 1024 * 1024, "{rss} bytes");
}
