//! The daemon is killed at random moments while people talk. Afterwards each client has every line that was ever stored,
//! in order, and is told again only what it had not acknowledged. More of it, and how much it was:
//!
//!     CAROM_TEST_KILLS=1000 cargo test --test kill -- --nocapture

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use rusqlite::Connection;
use support::client::text_of;
use support::daemon::{channel, config, network};
use support::talk::command_of;
use support::{Client, Daemon, Link, MockIrcd, Script};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// So many times.
const CYCLES: u64 = 20;

/// So many times under load; `CAROM_TEST_KILLS` says how many instead.
const KILLS: u64 = 50;

/// Users under load. Each has a network, on which somebody says 50 lines a second.
const USERS: usize = 10;
const BETWEEN: Duration = Duration::from_millis(20);

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
    attach_as(daemon.addr(), &format!("apw/net@{name}"), answers).await
}

async fn attach_as(addr: SocketAddr, login: &str, answers: bool) -> Client {
    let mut client = Client::connect(addr).await;
    client.set_pongs(answers);
    client.login_sasl(login, "secret", &["server-time"]).await;
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
    name: String,
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
                let asks = |line: &str| command_of(line).starts_with("PING :carom-");
                client.expect_where("PING :carom-", asks).await;
            }
        }
    }
    next
}

/// How often the client was asked for proof.
fn pings(client: &Client) -> usize {
    let is_ping = |line: &&String| command_of(line).starts_with("PING :carom-");
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
            name: name.into(),
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
                Some(attach(&daemon, &story.name, story.answers).await)
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
        let mut client = attach(&daemon, &story.name, story.answers).await;
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

/// The hash of the password, as weak as argon2id can be: a login costs no time.
fn weak_hash() -> String {
    let (salt, mut output) = ([7; 16], [0; 32]);
    let params = Params::new(8, 1, 1, None).unwrap();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(b"secret", &salt, &mut output)
        .unwrap();
    let (salt, output) = (BASE64.encode(salt), BASE64.encode(output));
    format!("$argon2id$v=19$m=8,t=1,p=1${salt}${output}")
}

/// Users with one network each.
fn many_users(url: &str) -> String {
    let hash = weak_hash();
    let mut text = String::from("[server]\nname = \"bnc.test\"\nlisten = [\"irc://[::1]:0\"]\n");
    for n in 0..USERS {
        text += &format!("\n[[user]]\nname = \"u{n}\"\npassword = \"{hash}\"\n\n");
        text += &(network("net", url) + &channel("#a"));
    }
    text + "\n[history]\nfirst_lines = 1000000\n[dial]\nreconnect = \"100ms\"\npace = { burst = 0 }\n"
}

/// Somebody talks on each of the links, by numbers from `next` on, until the link ends; returns the next number of each.
fn talk_on_all(links: Vec<(usize, Link)>, next: &[u64]) -> JoinSet<(usize, u64)> {
    let mut talking = JoinSet::new();
    for (user, link) in links {
        let mut number = next[user];
        talking.spawn(async move {
            let mut beat = tokio::time::interval(BETWEEN);
            beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
            loop {
                beat.tick().await;
                let line = format!(":bob!bob@host.test PRIVMSG #a :{number}\r\n");
                if link.why_ended().is_some() || link.send_bytes(line.as_bytes()).await.is_err() {
                    return (user, number);
                }
                number += 1;
            }
        });
    }
    talking
}

/// All users' links, when they have joined.
async fn all_joined(ircd: &MockIrcd) -> Vec<(usize, Link)> {
    let mut joining = JoinSet::new();
    for _ in 0..USERS {
        let mut link = ircd.accept().await;
        joining.spawn(async move {
            link.registered().await;
            link.expect("JOIN #a").await;
            let user = link.nick().trim_start_matches('u').parse().unwrap();
            (user, link)
        });
    }
    joining.join_all().await
}

async fn all_attached(daemon: &Daemon, stories: &[Story]) -> Vec<Client> {
    let mut attaching = JoinSet::new();
    for (user, story) in stories.iter().enumerate() {
        let (addr, answers) = (daemon.addr(), story.answers);
        attaching.spawn(async move {
            let login = format!("u{user}/net@client");
            (user, attach_as(addr, &login, answers).await)
        });
    }
    let mut clients = attaching.join_all().await;
    clients.sort_by_key(|(user, _)| *user);
    clients.into_iter().map(|(_, client)| client).collect()
}

/// What a killed daemon has left, looked at in a copy, so that the next one finds it as it was.
fn check_database(daemon: &Daemon) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["carom.db", "carom.db-wal"] {
        // The log may not be there yet.
        _ = std::fs::copy(daemon.path(name), folder.path().join(name));
    }
    let verdict: String = Connection::open(folder.path().join("carom.db"))
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_again_and_again_no_user_misses_anything() {
    let kills = std::env::var("CAROM_TEST_KILLS").map_or(KILLS, |number| number.parse().unwrap());
    let started = Instant::now();
    let ircd = Arc::new(MockIrcd::start(Script::default()).await);
    let mut daemon = Daemon::start(&many_users(&ircd.url())).await;
    let mut next = vec![0; USERS];
    let mut stories: Vec<_> = (0..USERS)
        .map(|user| Story {
            name: format!("u{user}"),
            // One of them never says what it has.
            answers: user + 1 < USERS,
            connections: Vec::new(),
        })
        .collect();
    for kill in 0..kills {
        let talking = talk_on_all(all_joined(&ircd).await, &next);
        let clients = all_attached(&daemon, &stories).await;
        // In the midst of replay or of what comes after it.
        let moment = Duration::from_millis(random(kill) % 500);
        tokio::time::sleep(moment).await;
        daemon.kill().await;
        for (user, number) in talking.join_all().await {
            next[user] = number;
        }
        for (story, mut client) in stories.iter_mut().zip(clients) {
            client.ended().await;
            story.connections.push(heard(&client, story.answers));
        }
        check_database(&daemon);
        daemon.restart().await;
    }
    let _links = all_joined(&ircd).await;
    let clients = all_attached(&daemon, &stories).await;
    let mut lines = 0;
    for (user, (story, mut client)) in stories.iter_mut().zip(clients).enumerate() {
        client.sync().await;
        story.connections.push(heard(&client, story.answers));
        let mut auditor = attach_as(daemon.addr(), &format!("u{user}/net@auditor"), true).await;
        auditor.sync().await;
        let stored = heard(&auditor, true).numbers;
        assert!(
            stored.windows(2).all(|pair| pair[0] < pair[1]),
            "the log is in order"
        );
        lines += stored.len();
        story.check(&stored);
    }
    assert!(daemon.stop().await.success());
    check_database(&daemon);
    eprintln!(
        "{kills} kills, {lines} lines of {USERS} users, {:.0} s: 0 missed, 0 told twice, 0 databases damaged",
        started.elapsed().as_secs_f64()
    );
}
