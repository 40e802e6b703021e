//! The store on a disk that fails at every possible call, and on one that loses power at any: nothing that was settled is
//! missing, nothing is there twice, the database is intact, and later ids are above all that were given out.
//!
//! More of it, and how much it was:
//!
//!     CAROM_TEST_CUTS=10000 CAROM_TEST_FAULTS=5000 cargo test --test faults -- --nocapture

// What fails in a helper fails the test; how much was done is told.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub
)]

#[path = "support/vfs.rs"]
mod vfs;

use std::env;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use carom::config::Durability;
use carom::history::{Entry, EntryId, History, Ids, Kind, Log, Remembered, Write};
use carom::wire::{CaseMapping, Name, Timestamp};
use rusqlite::Connection;
use tempfile::TempDir;
use vfs::{Disk, Image};

/// Calls that fail, one after the other; `CAROM_TEST_FAULTS` says how many instead.
const FAULTS: u64 = 500;

/// Cuts of the power; `CAROM_TEST_CUTS` says how many instead.
const CUTS: u64 = 1000;

/// Of these, in one run of the store.
const CUTS_A_RUN: u64 = 50;

/// Stores that are run at once: most of their time they wait for another attempt.
const PARALLEL: usize = 12;

/// Lines of each log.
const LINES: u64 = 60;

const LOGS: [&str; 2] = ["oftc", "libera"];

fn how_many(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).map_or(otherwise, |number| number.parse().unwrap())
}

/// Memory is a disk that is quick to make folders on.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn entry(log: usize, id: u64) -> Entry {
    let target = format!("#{}", id % 3);
    Entry {
        id: EntryId(id),
        target: Name::new(target.as_bytes(), CaseMapping::Rfc1459),
        time: Timestamp::from_millis(1_700_000_000_000 + i64::try_from(id).unwrap()),
        msgid: Some(Bytes::from(format!("{log}.{id}"))),
        kind: Kind::Message,
        again: false,
        tags: Bytes::new(),
        // Some lines need pages of their own.
        line: Bytes::from(format!(
            ":a!b@c PRIVMSG {target} :{id} {}",
            "x".repeat(usize::try_from(id % 7 * 900).unwrap())
        )),
    }
}

fn position(id: u64) -> Write {
    Write::Position {
        client: "laptop".into(),
        target: None,
        id: Some(EntryId(id)),
        time: Timestamp::from_millis(7),
    }
}

/// Opens the store, in as many attempts as it takes; each that fails says why.
async fn open(folder: &Path, durability: Durability) -> (History, Vec<(Log, Remembered)>) {
    for _ in 0..50 {
        let history = match History::open(Some(&folder.join("carom.db")), durability) {
            Ok(history) => history,
            Err(error) => {
                let text = error.to_string();
                assert!(text.len() > 10 && !text.contains("damaged"), "{text}");
                continue;
            }
        };
        let mut logs = Vec::new();
        for name in LOGS {
            if let Ok(log) = history.open_log("apw", name).await {
                logs.push(log);
            }
        }
        if logs.len() == LOGS.len() {
            return (history, logs);
        }
        history.close().await;
    }
    panic!("the store cannot be opened");
}

async fn settled(log: &Log, id: u64) {
    let mut settled = log.settled();
    let stored = settled.wait_for(|settled| settled.0 >= id);
    tokio::time::timeout(Duration::from_secs(30), stored)
        .await
        .expect("it is stored at last")
        .unwrap();
}

/// Two runs of a store, each with half of the lines, so that the way from the WAL into the database is part of it.
async fn story(folder: &Path, durability: Durability, disk: &Disk) {
    for half in [1..=LINES / 2, LINES / 2 + 1..=LINES] {
        let (history, logs) = open(folder, durability).await;
        let watched: Vec<_> = logs.iter().map(|(log, _)| log.settled()).collect();
        disk.floor(move || watched.iter().map(|settled| settled.borrow().0).collect());
        for (log, remembered) in &logs {
            assert_eq!(remembered.head.0 + 1, *half.start());
            _ = log;
        }
        for id in half {
            for (n, (log, _)) in logs.iter().enumerate() {
                log.append_all([Write::Entry(entry(n, id)), position(id)]);
            }
            if id % 4 == 0 || id == LINES / 2 || id == LINES {
                for (log, _) in &logs {
                    settled(log, id).await;
                }
            }
        }
        history.close().await;
    }
}

/// What the store holds now, after whatever happened: the number of lines of each log, which are the first ones.
fn examine(folder: &Path, what: &str) -> Vec<u64> {
    let path = folder.join("carom.db");
    let lines = block_on(async {
        let (history, logs) = open(folder, Durability::Process).await;
        let mut lines = Vec::new();
        for (n, (log, remembered)) in logs.iter().enumerate() {
            let all = Ids {
                first: EntryId(0),
                last: EntryId::MAX,
            };
            let found = log.by_id(all, usize::MAX).await.unwrap();
            let count = found.len() as u64;
            let expected: Vec<_> = (1..=count).map(|id| entry(n, id)).collect();
            assert!(
                found == expected,
                "{what}: a hole, a double or another line"
            );
            assert!(remembered.head.0 >= count, "{what}: ids begin again");
            let proved = remembered.positions.first().map_or(0, |p| p.id.0);
            assert!(
                proved <= remembered.head.0,
                "{what}: {proved} is proved and not there"
            );
            assert_eq!(
                proved, count,
                "{what}: a line and its position are one commit"
            );
            lines.push(count);
        }
        history.close().await;
        lines
    });
    let verdict: String = Connection::open(path)
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok", "{what}");
    lines
}

/// Does something for each of these numbers, several at once.
fn for_each(numbers: u64, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= numbers {
                        return;
                    }
                    work(n);
                }
            });
        }
    });
}

fn durability(n: u64) -> Durability {
    if n.is_multiple_of(2) {
        Durability::Power
    } else {
        Durability::Process
    }
}

/// How many calls a story takes when nothing fails.
fn calls_of(durability: Durability) -> u64 {
    let folder = folder();
    let disk = Disk::new(folder.path(), 1);
    block_on(story(folder.path(), durability, &disk));
    assert_eq!(examine(folder.path(), "without faults"), [LINES; 2]);
    vfs::remove(folder.path());
    disk.calls()
}

#[test]
fn whatever_call_fails_nothing_is_lost() {
    let faults = how_many("CAROM_TEST_FAULTS", FAULTS);
    let calls = [0, 1].map(|n| calls_of(durability(n)));
    let started = Instant::now();
    for_each(faults, |n| {
        let folder = folder();
        let disk = Disk::new(folder.path(), n);
        // One call after the other; then again, a few of them together.
        let range = calls[usize::try_from(n % 2).unwrap()];
        let (call, together) = (1 + n % range, 1 + n / range);
        disk.fail(call..call + together);
        block_on(story(folder.path(), durability(n), &disk));
        disk.fail(0..0);
        let what = format!("calls {call}..{} failed", call + together);
        assert_eq!(examine(folder.path(), &what), [LINES; 2], "{what}");
        vfs::remove(folder.path());
    });
    eprintln!(
        "{faults} faults in stories of {calls:?} calls, {:.1} s: 0 lines lost, 0 twice, 0 databases damaged",
        started.elapsed().as_secs_f64()
    );
}

/// What is left of a run with many cuts.
fn images(n: u64) -> Vec<Image> {
    let folder = folder();
    let disk = Disk::new(folder.path(), n);
    // Each run is cut at other calls, which are spread over all of it.
    let calls = 700;
    let step = calls / CUTS_A_RUN;
    let cuts = (0..CUTS_A_RUN).map(|cut| 1 + cut * step + (n * 7 + cut) % step);
    disk.cut(cuts);
    block_on(story(folder.path(), durability(n), &disk));
    vfs::remove(folder.path());
    disk.take_images()
}

#[test]
fn wherever_the_power_is_cut_what_was_synced_is_there() {
    let cuts = how_many("CAROM_TEST_CUTS", CUTS);
    let started = Instant::now();
    let (checked, lost) = (AtomicU64::new(0), AtomicU64::new(0));
    for_each(cuts.div_ceil(CUTS_A_RUN), |n| {
        for image in images(n) {
            let folder = folder();
            image.write(folder.path());
            let what = format!("run {n}, cut at call {}", image.call);
            let lines = examine(folder.path(), &what);
            for (lines, floor) in lines.iter().zip(&image.floor) {
                // What an earlier run has stored was synced when it ended.
                let earlier = (LINES / 2).min(*floor);
                assert!(
                    *floor <= LINES / 2 || *lines >= earlier,
                    "{what}: {lines} lines"
                );
                if durability(n) == Durability::Power {
                    assert!(
                        lines >= floor,
                        "{what}: {lines} lines, {floor} were settled"
                    );
                }
                lost.fetch_add(floor.saturating_sub(*lines), Ordering::Relaxed);
            }
            checked.fetch_add(1, Ordering::Relaxed);
        }
    });
    eprintln!(
        "{} cuts, {:.1} s: with durability \"power\" 0 settled lines lost, with \"process\" {} of those not synced yet; \
         0 databases damaged",
        checked.into_inner(),
        started.elapsed().as_secs_f64(),
        lost.into_inner()
    );
}

#[test]
fn a_slow_disk_keeps_nobody_waiting() {
    let folder = folder();
    let disk = Disk::new(folder.path(), 1);
    block_on(async {
        let (history, logs) = open(folder.path(), Durability::Power).await;
        disk.delay(Duration::from_millis(30));
        let started = Instant::now();
        for id in 1..=LINES {
            for (n, (log, _)) in logs.iter().enumerate() {
                log.append_all([Write::Entry(entry(n, id)), position(id)]);
            }
        }
        assert!(started.elapsed() < Duration::from_millis(500));
        for (log, _) in &logs {
            settled(log, LINES).await;
        }
        assert!(started.elapsed() > Duration::from_millis(60));
        disk.delay(Duration::ZERO);
        history.close().await;
    });
    assert_eq!(examine(folder.path(), "slow"), [LINES; 2]);
    vfs::remove(folder.path());
}
