//! What the history costs: storing lines by the number of lines a commit, the round trip from a task to `settled` and back,
//! reading by target and by id; and questions to a large log. Figures are microseconds, of questions milliseconds; CPU is
//! that of the whole process, its threads included. `cargo bench --bench history [-- store|round-trip|read|start|upgrade|large]`;
//! `BENCH_ROWS=10000000` makes the log as large, which takes some minutes and four gigabytes; `BENCH_KEEP=FILE` keeps its
//! database there, and asks that one in later runs; `BENCH_FORMS=before,after` asks only what is so named.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/large.rs"]
mod large;

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use carom::config::Durability;
use carom::history::{Entry, EntryId, History, Ids, Kind, Log, Missed, Only, Write};
use carom::wire::{CaseMapping, Name, Timestamp};

/// Lines of so many channels come mixed.
const CHANNELS: u64 = 30;

/// A line of the usual length: 118 bytes.
fn entry(id: u64) -> Entry {
    let channel = format!("#channel{}", id * 7 % CHANNELS);
    let text = "the quick brown fox jumps over the lazy dog, again";
    Entry {
        id: EntryId(id),
        target: Name::new(channel.as_bytes(), CaseMapping::Rfc1459),
        time: Timestamp::from_millis(1_700_000_000_000 + i64::try_from(id).unwrap()),
        msgid: Some(Bytes::from(format!("{id:016x}"))),
        kind: if id.is_multiple_of(20) {
            Kind::Event
        } else {
            Kind::Message
        },
        again: false,
        tags: Bytes::new(),
        line: Bytes::from(format!(
            ":nickname!~user@host.example.org PRIVMSG {channel} :{text}"
        )),
    }
}

/// CPU time of this process: the kernel counts it in hundredths of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn micros(span: Duration, count: u64) -> f64 {
    span.as_secs_f64() * 1e6 / count as f64
}

async fn open(path: &Path, network: &str) -> (History, Log, u64) {
    open_as(path, network, Durability::Process).await
}

async fn open_as(path: &Path, network: &str, durability: Durability) -> (History, Log, u64) {
    let history = History::open(Some(path), durability).unwrap();
    let (log, remembered) = history.open_log("user", network).await.unwrap();
    (history, log, remembered.head.0)
}

async fn settled(log: &Log, id: u64) {
    log.settled()
        .wait_for(|settled| settled.0 >= id)
        .await
        .unwrap();
}

/// Appends bursts of `burst` lines, each as soon as the one before it is settled.
async fn store(path: &Path, burst: u64, count: u64, durability: Durability) {
    let (history, log, head) = open_as(path, &format!("store{burst}"), durability).await;
    let entries: Vec<Entry> = (head + 1..=head + count).map(entry).collect();
    let (started, cpu_before) = (Instant::now(), cpu());
    for entries in entries.chunks(usize::try_from(burst).unwrap()) {
        log.append_all(entries.iter().cloned().map(Write::Entry));
        settled(&log, entries.last().unwrap().id.0).await;
    }
    let (wall, used) = (started.elapsed(), cpu() - cpu_before);
    println!(
        "store, {durability:?}, {burst:>4} a commit: {:>7.2} CPU, {:>7.2} wall, a line",
        micros(used, count),
        micros(wall, count)
    );
    history.close().await;
}

/// From a task to `settled` and back, one line at a time with pauses: how late a lone line is delivered.
async fn round_trip(path: &Path) {
    let (history, log, head) = open(path, "round-trip").await;
    let mut took = Vec::new();
    for id in head + 1..=head + 2000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let started = Instant::now();
        log.append(Write::Entry(entry(id)));
        settled(&log, id).await;
        took.push(started.elapsed());
    }
    took.sort();
    let at = |percent: usize| micros(took[took.len() * percent / 100], 1);
    println!(
        "append to settled: {:.0} median, {:.0} at 90 %, {:.0} at 99 %",
        at(50),
        at(90),
        at(99)
    );
    history.close().await;
}

async fn read(path: &Path, count: u64) {
    let (history, log, head) = open(path, "read").await;
    for id in head + 1..=head + count {
        log.append(Write::Entry(entry(id)));
        if id % 1000 == 0 {
            settled(&log, id).await;
        }
    }
    let last = EntryId(head + count);
    settled(&log, last.0).await;
    for page in [256, 1000] {
        let target = entry(last.0).target;
        let (mut range, mut lines, started) = (
            Ids {
                first: EntryId(1),
                last,
            },
            0,
            Instant::now(),
        );
        while let Some(line) = log
            .by_target(&target, range, Only::All, page)
            .await
            .unwrap()
            .last()
        {
            range.first = line.id.next();
            lines += 1;
        }
        let lines = lines * u64::try_from(page).unwrap();
        println!(
            "by target, pages of {page:>4}: {:.2} wall a line",
            micros(started.elapsed(), lines)
        );
        let (mut range, mut lines, started) = (
            Ids {
                first: EntryId(1),
                last,
            },
            0,
            Instant::now(),
        );
        while let Some(line) = log.by_id(range, page).await.unwrap().last() {
            range.first = line.id.next();
            lines += 1;
        }
        let lines = lines * u64::try_from(page).unwrap();
        println!(
            "by id, pages of {page:>4}: {:.2} wall a line",
            micros(started.elapsed(), lines)
        );
    }
    for (newest, after) in [(0, last.0 - 1000), (50, 0)] {
        let (rounds, started) = (200, Instant::now());
        for _ in 0..rounds {
            let ask = Missed {
                through: last,
                after: EntryId(after),
                kinds: Only::Messages,
                newest,
                overrides: Vec::new(),
            };
            assert_eq!(log.missed(ask).await.unwrap().len() as u64, CHANNELS);
        }
        println!(
            "missed, newest {newest}: {:.1} wall a target",
            micros(started.elapsed(), rounds * CHANNELS)
        );
    }
    history.close().await;
    println!(
        "{:.0} bytes a line in the file",
        std::fs::metadata(path).unwrap().len() as f64 / count as f64
    );
}

/// What a start costs: the file, then the logs of a thousand networks.
async fn start(path: &Path) {
    for kind in ["new", "known"] {
        let started = Instant::now();
        let (history, _, _) = open(path, "0").await;
        let opened = started.elapsed();
        for network in 1..1000 {
            history
                .open_log("user", &network.to_string())
                .await
                .unwrap();
        }
        let logs = started.elapsed() - opened;
        println!(
            "start, {kind} networks: {:.1} ms the file, {:.1} ms 1,000 logs",
            micros(opened, 1000),
            micros(logs, 1000)
        );
        history.close().await;
    }
}

/// What the first start with a database of version 1 costs.
async fn upgrade(path: &Path, count: u64) {
    let (history, ..) = open(path, "upgrade").await;
    history.close().await;
    let db = rusqlite::Connection::open(path).unwrap();
    // What version 1 did not have, and a log in it.
    db.execute_batch(
        "DROP TABLE term; DROP TABLE stretch; DROP TABLE size; DROP TABLE moved; DROP INDEX entry_target;
         DROP TABLE made_user; DROP TABLE made_network; DROP TABLE made_channel; DROP TABLE retired; DROP TABLE seen;
         CREATE INDEX entry_target ON entry (target); PRAGMA user_version = 1; BEGIN;",
    )
    .unwrap();
    for id in 1..=count {
        let entry = entry(id);
        db.prepare_cached("INSERT INTO entry VALUES ((SELECT id << 40 FROM network) | ?1, ?2, ?3, ?4, 0, ?5, x'', ?6)")
            .unwrap()
            .execute(rusqlite::params![
                i64::try_from(id).unwrap(),
                i64::try_from(id * 7 % CHANNELS + 1).unwrap(),
                entry.time.millis(),
                entry.kind as u8,
                entry.msgid.as_deref(),
                &entry.line[..]
            ])
            .unwrap();
    }
    db.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")
        .ok();
    drop(db);
    let (started, cpu_before) = (Instant::now(), cpu());
    let (history, log, head) = open(path, "upgrade").await;
    let (opened, used) = (started.elapsed(), cpu() - cpu_before);
    assert_eq!(head, count);
    let noted = Instant::now();
    while log.size().await.unwrap().noted.0 + 256 < count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!(
        "upgrade of {count} lines: {:.2} s until it is open ({:.2} s CPU), {:.1} s more until all is noted",
        opened.as_secs_f64(),
        used.as_secs_f64(),
        noted.elapsed().as_secs_f64()
    );
    history.close().await;
}

fn main() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = |name: &str| folder.path().join(name);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let named: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let is_wanted = |name: &str| named.is_empty() || named.iter().any(|arg| *arg == name);
    // `cargo test --benches` only asks whether it works.
    let part = if args.iter().any(|arg| arg == "--bench") {
        1
    } else {
        50
    };
    let rows = std::env::var("BENCH_ROWS").map_or(200_000 / part, |rows| rows.parse().unwrap());
    runtime.block_on(async {
        if is_wanted("store") {
            for (burst, count) in [(1, 10_000), (10, 50_000), (120, 200_000), (400, 200_000)] {
                for (durability, part) in
                    [(Durability::Process, part), (Durability::Power, part * 5)]
                {
                    store(&path("store.db"), burst, count / part, durability).await;
                }
            }
        }
        if is_wanted("round-trip") {
            round_trip(&path("round-trip.db")).await;
        }
        if is_wanted("read") {
            read(&path("read.db"), 200_000 / part).await;
        }
        if is_wanted("start") {
            start(&path("start.db")).await;
        }
        if is_wanted("upgrade") {
            upgrade(&path("upgrade.db"), 1_000_000 / part).await;
        }
        if is_wanted("large") {
            let kept = std::env::var_os("BENCH_KEEP").map(std::path::PathBuf::from);
            let is_there = kept.as_ref().is_some_and(|kept| kept.exists());
            let path = kept.unwrap_or_else(|| path("large.db"));
            large::large(&path, rows, is_there).await;
        }
    });
}
