//! What is forgotten, and what is not.

use std::path::Path;

use rusqlite::params;

use super::super::forget::{BYTES, FREE, GAPS, STRETCH};
use super::super::schema;
use super::*;
use crate::config::Durability;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const DAY: Duration = Duration::from_secs(86_400);

/// A store with a user's two networks and another user's one, each with these targets.
struct Store {
    db: Connection,
    logs: Vec<Arc<LogState>>,
    sweeper: Sweeper,
}

impl Store {
    fn new(db: Connection) -> Self {
        let logs: Vec<_> = [("apw", "oftc"), ("apw", "libera"), ("bob", "oftc")]
            .into_iter()
            .enumerate()
            .map(|(slot, (user, name))| {
                let network = query::network(&db, user, name).unwrap();
                for (n, target) in ["#a", "#b", "bob"].into_iter().enumerate() {
                    let id = network * 10 + i64::try_from(n).unwrap();
                    db.execute(
                        "INSERT INTO target (id, network, folded, name) VALUES (?1, ?2, ?3, ?3)",
                        params![id, network, target.as_bytes()],
                    )
                    .unwrap();
                }
                Arc::new(LogState::new(slot, network, user, name))
            })
            .collect();
        Self {
            db,
            logs,
            sweeper: Sweeper::default(),
        }
    }

    fn in_memory() -> Self {
        Self::new(schema::open_in_memory().unwrap())
    }

    /// `ids` of a log, in its targets by turns, one each ten minutes, the last one now; each of so many bytes.
    fn fill(&self, log: usize, ids: std::ops::RangeInclusive<i64>, bytes: i64) {
        let network = self.logs[log].network;
        let last = *ids.end();
        self.db.execute_batch("BEGIN").unwrap();
        for id in ids {
            self.db
                .prepare_cached(
                    "INSERT INTO entry VALUES (?1, ?2, ?3, 0, 0, NULL, x'', zeroblob(?4))",
                )
                .unwrap()
                .execute(params![
                    network << 40 | id,
                    network * 10 + id % 3,
                    NOW.millis() - (last - id) * 600_000,
                    bytes
                ])
                .unwrap();
        }
        self.db.execute_batch("COMMIT").unwrap();
    }

    fn keep(&mut self, log: usize, keep: Keep) {
        self.logs[log].set_keep(keep);
        self.sweeper.told();
    }

    /// One whole pass; how many lines went, and how long each step took.
    fn sweep(&mut self, time: Timestamp) -> (u64, Vec<Duration>) {
        let (mut lines, mut steps) = (0, Vec::new());
        loop {
            let started = Instant::now();
            lines += self.sweeper.step(&self.db, &self.logs, time).lines;
            steps.push(started.elapsed());
            if self.sweeper.jobs.is_empty() {
                return (lines, steps);
            }
        }
    }

    fn ids(&self, log: usize) -> Vec<i64> {
        let network = self.logs[log].network;
        self.db
            .prepare("SELECT key & ((1 << 40) - 1) FROM entry WHERE key >> 40 = ?1 ORDER BY key")
            .unwrap()
            .query_map([network], |row| row.get(0))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap()
    }

    fn number(&self, sql: &str) -> i64 {
        self.db.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

fn age(days: u32) -> Keep {
    Keep {
        age: Some(DAY * days),
        ..Keep::default()
    }
}

fn size(bytes: u64) -> Keep {
    Keep {
        size: Some(bytes),
        ..Keep::default()
    }
}

#[test]
fn old_lines_go_target_by_target() {
    let mut store = Store::in_memory();
    store.fill(0, 1..=1440, 50); // ten days
    store.fill(1, 1..=1440, 50);
    let keep = Keep {
        targets: vec![("#B".into(), None), ("BOB".into(), Some(DAY))],
        ..age(5)
    };
    store.keep(0, keep);
    store.sweep(NOW);
    let in_days = |id: i64, days: i64| id > 1440 - days * 144 - 1;
    let expected: Vec<i64> = (1..=1440)
        .filter(|id| match id % 3 {
            0 => in_days(*id, 5),
            1 => true,
            _ => in_days(*id, 1),
        })
        .collect();
    assert_eq!(store.ids(0), expected);
    assert_eq!(store.ids(1).len(), 1440, "nobody spoke of that network");
}

#[test]
fn an_empty_log_still_knows_its_ids_and_nothing_of_its_targets() {
    let mut store = Store::in_memory();
    store.fill(0, 1..=100, 50);
    store.keep(0, age(1));
    let later = after(NOW, DAY * 2);
    // The clock says two days more, and the sweeper has not seen it jump.
    let (lines, _) = store.sweep(later);
    assert_eq!((lines, store.ids(0).len()), (100, 0));
    let remembered = query::remembered(&store.db, store.logs[0].network).unwrap();
    assert_eq!(remembered.head, EntryId(100));
    assert_eq!(store.number("SELECT count(*) FROM target"), 6);
}

#[test]
fn a_clock_that_jumps_costs_nothing() {
    let mut store = Store::in_memory();
    store.fill(0, 1..=1000, 50);
    store.keep(0, age(30));
    let year = DAY * 365;
    assert_eq!(store.sweep(NOW).0, 0);
    assert_eq!(store.sweep(after(NOW, year)).0, 0, "while running");
    assert_eq!(
        store.sweep(after(NOW, year)).0,
        0,
        "not a moment later either"
    );
    store.sweeper = Sweeper::default();
    assert_eq!(store.sweep(after(NOW, year)).0, 0, "between two runs");
    // A day of even running makes it true.
    store.sweeper.clock.believed_from = Instant::now();
    assert_eq!(store.sweep(after(NOW, year)).0, 1000);
}

#[test]
fn of_a_user_who_has_too_much_the_oldest_lines_go() {
    let mut store = Store::in_memory();
    store.fill(0, 1..=9000, 136); // 200 bytes with what is around it
    store.fill(1, 1..=3000, 136); // as far apart, so all of it younger
    store.fill(2, 1..=9000, 136);
    for log in 0..2 {
        store.keep(log, size(5000 * 200));
    }
    assert_eq!(store.sweep(NOW).0, 7000);
    // Both go on in step once the first has no older lines.
    assert_eq!(store.ids(1).len() + store.ids(0).len(), 5000);
    assert!(store.ids(0).len() >= 2400 && store.ids(1).len() >= 2400);
    assert!(store.ids(0).ends_with(&[8999, 9000]));
    assert_eq!(store.ids(2).len(), 9000, "bob has room of his own");
    // What was measured stays right while lines come and go.
    store.fill(0, 9001..=12_000, 136);
    assert_eq!(store.sweep(NOW).0, 3000);
    assert_eq!(store.sweep(NOW).0, 0);
    let newest = store.number("SELECT max(stretch) FROM size");
    let measured = store.number("SELECT sum(bytes) FROM size");
    let is = store.number(&format!(
        "SELECT sum({BYTES}) FROM entry WHERE key >> 40 IN (1, 2)
         AND (key & ((1 << 40) - 1)) >> {STRETCH} <=
             (SELECT max(stretch) FROM size WHERE network = key >> 40)"
    ));
    assert_eq!(measured, is, "up to stretch {newest}");
}

#[test]
fn what_is_no_more_than_allowed_stays() {
    let mut store = Store::in_memory();
    store.fill(0, 1..=3000, 136);
    store.keep(0, size(3000 * 200));
    assert_eq!(store.sweep(NOW).0, 0);
    store.keep(0, Keep::default());
    assert_eq!(store.sweep(NOW).0, 0);
}

#[test]
fn no_step_takes_long_and_the_file_shrinks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("carom.db");
    let db = schema::open(Path::new(&path), Durability::Process).unwrap();
    let mut store = Store::new(db);
    for log in 0..3 {
        store.fill(log, 1..=15_000, 150);
    }
    let before = store.number("PRAGMA page_count");
    store.keep(0, size(1_000_000));
    store.keep(2, age(20));
    let (lines, mut steps) = store.sweep(NOW);
    assert!(lines > 30_000, "{lines}");
    steps.sort_unstable();
    let (median, longest) = (steps[steps.len() / 2], steps[steps.len() - 1]);
    println!(
        "{lines} lines in {} steps, median {median:?}, longest {longest:?}",
        steps.len()
    );
    // Of most of them the other work of this machine has its share.
    let undisturbed = steps[steps.len() / 4];
    assert!(undisturbed < Duration::from_millis(40), "{undisturbed:?}");
    let (pages, free) = (
        store.number("PRAGMA page_count"),
        store.number("PRAGMA freelist_count"),
    );
    assert!(pages < before / 2, "{pages} of {before} pages");
    assert!(
        free <= FREE.max(pages / 8),
        "{free} of {pages} pages are free"
    );
    let verdict: String = store
        .db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
}

#[test]
fn of_many_gaps_the_newest_are_remembered() {
    let mut store = Store::in_memory();
    for n in 0..3000 {
        store
            .db
            .execute(
                "INSERT INTO gap VALUES (1, ?1, ?1, 1, ?2, ?2)",
                [n, NOW.millis()],
            )
            .unwrap();
    }
    store.keep(0, age(30));
    store.sweep(NOW);
    assert_eq!(store.number("SELECT count(*) FROM gap"), GAPS);
    assert_eq!(store.number("SELECT min(first) FROM gap"), 2000);
}
