//! The daemon is killed at random moments while people talk. Afterwards each client has every line that was ever stored,
//! in order, and is told again only what it had not acknowledged.

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use support::client::text_of;
use support::daemon::{channel, config, network};
use support::talk::command_of;
use support::{Client, Daemon, Link, MockIrcd, Script};

/// So many times.
const CYCLES: u64 = 20;

/// What one connection of a client heard, in order: numbers of lines, and where it acknowledged.
#[derive(Debug, Default)]
struct Heard {
    numbers: Vec<u64>,
    /// The last line before each PING that asks for proof, and was answered.
    acknowledged: Vec<Option<u64>>,
}

fn heard(client: &Client, answers: bool) -> Heard {
    let mut heard = Heard::default();
    for line in client.heard() {
        if command_of(&line).starts_with("PING :carom-") && answers {
            heard.acknowledged.push(heard.numbers.last().copied());
        }
        let text = text_of(&line).filter(|_| line.contains("PRIVMSG #a"));
        heard
            .numbers
            .extend(text.and_then(|text| text.parse::<u64>().ok()));
    }
    heard
}

/// Even enough, and the same in each run (splitmix64).
fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

async fn attach(daemon: &Daemon, name: &str, answers: bool) -> Client {
    let mut client = daemon.connect().await;
    client.set_pongs(answers);
    client
        .login_sasl(&format!("apw/net@{name}"), "secret", &["server-time"])
        .await;
    client.expect("366").await;
    client
}

async fn joined(ircd: &MockIrcd) -> Link {
    let mut link = ircd.accept().await;
    link.registered().await;
    link.expect("JOIN #a").await;
    link
}

/// What each client heard on each of its connections.
struct Story {
    name: &'static str,
    answers: bool,
    connections: Vec<Heard>,
}

impl Story {
    /// Every connection begins behind what was acknowledged before, and not behind what was not.
    fn check(&self, stored: &[u64]) {
        let position = |number: u64| {
            stored
                .binary_search(&number)
                .unwrap_or_else(|_| panic!("{}: {number} was seen and is not stored", self.name))
        };
        let (mut surely, mut maybe, mut last_heard) = (None, None, None);
        for (n, heard) in self.connections.iter().enumerate() {
            let what = format!("{}, connection {n}", self.name);
            if let (Some(first), Some(last)) = (heard.numbers.first(), heard.numbers.last()) {
                let expected = &stored[position(*first)..=position(*last)];
                assert_eq!(
                    heard.numbers, expected,
                    "{what}: a gap, a double or the wrong order"
                );
                let at = position(*first);
                let least = surely.map_or(0, |number| position(number) + 1);
                let most = maybe.map_or(0, |number| position(number) + 1);
                assert!(
                    at <= most,
                    "{what}: it begins with {first}, but {maybe:?} was the last acknowledged"
                );
                assert!(
                    at >= least,
                    "{what}: it begins with {first}, but {surely:?} was acknowledged"
                );
                last_heard = last_heard.max(Some(*last));
            }
            // When the daemon was killed the last PONG of a connection may not have arrived, and the one before it not
            // have been stored; before the PING after them, the earlier ones were.
            let acknowledged = &heard.acknowledged;
            let sure = acknowledged.len().saturating_sub(2);
            surely = surely.max(acknowledged[..sure].iter().copied().max().flatten());
            maybe = maybe.max(acknowledged.iter().copied().max().flatten());
        }
        assert_eq!(
            last_heard,
            stored.last().copied(),
            "{}: it has everything",
            self.name
        );
    }
}

/// Somebody says lines, numbered from `next` on, in bursts and one by one; the kill comes in the midst of them, now and
/// then after a while of rest. Returns the number after the last.
async fn talk(link: &Link, client: &mut Client, mut next: u64, cycle: u64) -> u64 {
    let lines = 1 + random(cycle) % 400;
    let mut said = 0;
    while said < lines {
        let burst = (1 + random(cycle * 1000 + said) % 50).min(lines - said);
        let text: String = (next..next + burst)
            .map(|n| format!(":bob!bob@host.test PRIVMSG #a :{n}\r\n"))
            .collect();
        link.send_bytes(text.as_bytes()).await.unwrap();
        (next, said) = (next + burst, said + burst);
        // Now and then all of it is waited for, so that PINGs and PONGs come between.
        if random(cycle * 7 + said).is_multiple_of(4) {
            has_heard(client, next - 1).await;
        }
    }
    if random(cycle + 1000).is_multiple_of(3) {
        // Long enough for proofs that are stored for certain; the line after the last of them is not acknowledged.
        for _ in 0..3 {
            let pings = pings(client);
            link.privmsg("bob", "#a", &next.to_string()).await;
            has_heard(client, next).await;
            next += 1;
            while self::pings(client) == pings {
                client.expect("PING :carom-").await;
            }
        }
    }
    next
}

/// How often the client was asked for proof.
fn pings(client: &Client) -> usize {
    let is_ping = |line: &&String| line.starts_with("PING :carom-");
    client.heard().iter().filter(is_ping).count()
}

async fn has_heard(client: &mut Client, number: u64) {
    let last = format!("PRIVMSG #a :{number}");
    if !client.heard().iter().any(|line| line.ends_with(&last)) {
        client
            .expect_where("the line said last", |line| line.ends_with(&last))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_nothing_is_lost_and_nothing_told_twice() {
    let ircd = MockIrcd::start(Script::default()).await;
    let networks = network("net", &ircd.url()) + &channel("#a");
    let rules = "\n[history]\nfirst_lines = 1000000\n[dial]\nreconnect = \"100ms\"\n";
    let mut daemon = Daemon::start(&(config(&networks) + rules)).await;
    let mut link = joined(&ircd).await;
    let mut stories =
        [("answers", true), ("mute", false), ("late", true)].map(|(name, answers)| Story {
            name,
            answers,
            connections: Vec::new(),
        });
    let mut next = 0;
    for cycle in 0..CYCLES {
        let mut clients = Vec::new();
        for story in &stories {
            // One of them is there only now and then.
            let is_there = story.name != "late" || cycle.is_multiple_of(3);
            let client = if is_there {
                Some(attach(&daemon, story.name, story.answers).await)
            } else {
                None
            };
            clients.push(client);
        }
        next = talk(&link, clients[0].as_mut().unwrap(), next, cycle).await;
        daemon.kill().await;
        for (story, client) in stories.iter_mut().zip(&mut clients) {
            if let Some(client) = client {
                client.ended().await;
                story.connections.push(heard(client, story.answers));
            }
        }
        daemon.restart().await;
        link = joined(&ircd).await;
    }
    for story in &mut stories {
        let mut client = attach(&daemon, story.name, story.answers).await;
        client.sync().await;
        story.connections.push(heard(&client, story.answers));
    }
    let mut auditor = attach(&daemon, "auditor", true).await;
    auditor.sync().await;
    let stored = heard(&auditor, true).numbers;
    assert!(
        stored.windows(2).all(|pair| pair[0] < pair[1]),
        "the log is in order"
    );
    assert!(
        stored.len() > 500,
        "{} lines are enough to tell",
        stored.len()
    );
    let proofs = |heard: &Heard| heard.acknowledged.len();
    let most = stories[0].connections.iter().map(proofs).max();
    assert!(most > Some(2), "some proofs are certain");
    for story in &stories {
        story.check(&stored);
    }
}
