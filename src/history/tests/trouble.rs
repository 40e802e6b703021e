//! What happens when the disk does not keep up, others hold the database, questions take too long or the process is killed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

/// Where the child of the kill test finds its database.
const CHILD: &str = "CAROM_TEST_HISTORY";

#[tokio::test]
async fn a_locked_database_costs_what_the_budget_does_not_hold_and_says_so() {
    let place = Place::new();
    let history = place.open();
    let (log, _) = history.open_log("apw", "oftc").await.unwrap();
    let stranger = place.stranger();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    for id in 1..=5000 {
        log.append(Write::Entry(entry(id, "#a", "x")));
    }
    log.append(mark("laptop", 5000));
    assert_eq!(*log.settled().borrow(), EntryId(0));
    stranger.execute_batch("ROLLBACK").unwrap();
    settled(&log, 5000).await;
    log.append(Write::Entry(entry(5001, "#a", "x")));
    settled(&log, 5001).await;
    let expected: Vec<u64> = (1..=4096).chain([5001]).collect();
    assert_eq!(numbers(&log.by_id(ALL, 9999).await.unwrap()), expected);
    let gap: (i64, i64, i64, i64, i64) = stranger
        .query_row(
            "SELECT first, last, count, since, until FROM gap",
            [],
            |row| row.try_into(),
        )
        .unwrap();
    let time = |id| entry(id, "", "").time.millis();
    assert_eq!(gap, (4097, 5000, 904, time(4097), time(5000)));
    let (_, remembered) = history.open_log("apw", "oftc").await.unwrap();
    assert_eq!(remembered.positions[0].id, EntryId(5000));
}

#[tokio::test]
async fn a_commit_that_failed_half_way_is_made_again() {
    let place = Place::new();
    let history = place.open();
    let (log, _) = history.open_log("apw", "oftc").await.unwrap();
    let stranger = place.stranger();
    stranger
        .execute_batch("ALTER TABLE floor RENAME TO hidden")
        .unwrap();
    // The target is new: its row is rolled back together with the line.
    log.append_all([
        Write::Entry(entry(1, "#a", "x")),
        Write::Floor {
            target: name("#a"),
            id: EntryId(1),
        },
    ]);
    let early = tokio::time::timeout(Duration::from_millis(100), settled(&log, 1)).await;
    assert!(early.is_err());
    stranger
        .execute_batch("ALTER TABLE hidden RENAME TO floor")
        .unwrap();
    settled(&log, 1).await;
    assert_eq!(
        numbers(&log.by_target(&name("#a"), ALL, Only::All, 9).await.unwrap()),
        [1]
    );
}

#[tokio::test]
async fn an_id_that_is_given_out_twice_costs_one_line() {
    for (_place, _history, log) in everywhere().await {
        for (id, text) in [(1, "first"), (1, "second"), (2, "third")] {
            log.append(Write::Entry(entry(id, "#a", text)));
        }
        settled(&log, 2).await;
        let found = log.by_id(ALL, 9).await.unwrap();
        assert_eq!(found, [entry(1, "#a", "first"), entry(2, "#a", "third")]);
    }
}

#[tokio::test]
async fn a_line_that_cannot_be_stored_costs_none_of_those_stored_together_with_it() {
    for (_place, history, log) in everywhere().await {
        let ids = (1..=20).chain([7]).chain(21..=50);
        let mut writes: Vec<Write> = ids.map(|id| Write::Entry(entry(id, "#a", "x"))).collect();
        writes.push(mark("laptop", 50));
        log.append_all(writes);
        log.append(Write::Entry(entry(51, "#a", "x")));
        settled(&log, 51).await;
        let found = log.by_id(ALL, 99).await.unwrap();
        assert_eq!(numbers(&found), (1..=51).collect::<Vec<u64>>());
        let (_, remembered) = history.open_log("apw", "oftc").await.unwrap();
        assert_eq!(remembered.positions[0].id, EntryId(50));
    }
}

#[tokio::test]
async fn a_database_that_stays_locked_does_not_stop_us_from_stopping() {
    let place = Place::new();
    let history = place.open();
    let (log, _) = history.open_log("apw", "oftc").await.unwrap();
    let stranger = place.stranger();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    log.append(Write::Entry(entry(1, "#a", "x")));
    tokio::time::timeout(Duration::from_secs(4), history.close())
        .await
        .unwrap();
    assert_eq!(*log.settled().borrow(), EntryId(0));
}

#[tokio::test]
async fn rows_that_make_no_sense_are_read_all_the_same() {
    let place = Place::new();
    let history = place.open();
    let (log, _) = history.open_log("apw", "oftc").await.unwrap();
    place
        .stranger()
        .execute(
            "INSERT INTO entry VALUES ((SELECT id FROM network) << 40 | 1, 4711, ?1, 99, -3, NULL, x'', x'00')",
            [i64::MIN],
        )
        .unwrap();
    assert_eq!(log.by_id(ALL, 9).await.unwrap(), []);
    place
        .stranger()
        .execute("UPDATE entry SET again = 0", [])
        .unwrap();
    let found = log.by_id(ALL, 9).await.unwrap();
    assert_eq!(
        (found[0].kind, found[0].target.as_bytes()),
        (Kind::Event, &b"*"[..])
    );
    let (_, remembered) = history.open_log("apw", "oftc").await.unwrap();
    assert_eq!(remembered.head, EntryId(1));
}

fn endless(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row(
        "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c",
        [],
        |row| row.get(0),
    )
}

/// Time is paused, so that the deadline passes as soon as nothing else happens.
#[tokio::test(start_paused = true)]
async fn a_question_has_a_deadline_and_leaves_the_reader_to_others() {
    let place = Place::new();
    let history = place.open();
    for _ in 0..2 * READERS {
        assert!(matches!(
            history.shared.desk.ask(endless).await,
            Err(Error::Deadline)
        ));
    }
    // All readers answer: each waits here for the other.
    let meet = Arc::new(std::sync::Barrier::new(READERS));
    let mut answers = Vec::new();
    for _ in 0..READERS {
        let (meet, desk) = (Arc::clone(&meet), history.shared.desk.clone());
        answers.push(tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            runtime.block_on(desk.ask(move |_| Ok(meet.wait().is_leader())))
        }));
    }
    let mut leaders = 0;
    for answer in answers {
        leaders += usize::from(answer.await.unwrap().unwrap());
    }
    assert_eq!(leaders, 1);
}

#[tokio::test]
async fn a_large_wal_is_copied_while_lines_arrive() {
    let place = Place::new();
    let history = place.open();
    let (log, _) = history.open_log("apw", "oftc").await.unwrap();
    let text = "x".repeat(8000);
    // Three pages a line, 190 MiB in all; without a copy the WAL would hold them.
    for id in 1..=16_000 {
        log.append(Write::Entry(entry(id, "#a", &text)));
        if id % 500 == 0 {
            settled(&log, id).await;
        }
    }
    let wal = std::fs::metadata(place.folder.path().join("carom.db-wal"))
        .unwrap()
        .len();
    assert!(wal < 80 << 20, "{wal}");
}

/// Appends to the log for ever and tells what is settled; runs in a process of its own, see below.
#[test]
fn child_that_appends() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let history = History::open(Some(Path::new(&path)), Durability::Process).unwrap();
        let (log, remembered) = history.open_log("apw", "oftc").await.unwrap();
        let mut next = remembered.head.0 + 1;
        println!("\nhead {}", remembered.head.0);
        loop {
            let burst = 1 + next % 97;
            for id in next..next + burst {
                log.append(Write::Entry(entry(
                    id,
                    &format!("#{}", id % 7),
                    &id.to_string(),
                )));
            }
            next += burst;
            settled(&log, next - 1).await;
            log.append(mark("x", next - 1));
            println!("settled {}", next - 1);
        }
    });
}

#[test]
fn a_process_killed_at_any_moment_has_kept_what_was_settled() {
    let place = Place::new();
    let mut seen = 0;
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "history::tests::trouble::child_that_appends",
                "--nocapture",
            ])
            .env(CHILD, place.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let head: u64 = lines
            .find_map(|line| line.strip_prefix("head ")?.parse().ok())
            .unwrap();
        assert!(head >= seen, "{head} < {seen}");
        let mut settled = lines.filter_map(|line| line.strip_prefix("settled ")?.parse().ok());
        seen = settled.nth(20 + round * 13).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        seen = settled.last().unwrap_or(seen);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let history = place.open();
        let (log, remembered) = history.open_log("apw", "oftc").await.unwrap();
        assert!(remembered.head.0 >= seen);
        assert!(remembered.positions[0].id <= remembered.head);
        let found = log.by_id(ids(1, seen), usize::MAX).await.unwrap();
        let expected: Vec<Entry> = (1..=seen)
            .map(|id| entry(id, &format!("#{}", id % 7), &id.to_string()))
            .collect();
        assert_eq!(found, expected);
    });
    let verdict: String = place
        .stranger()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
}
