//! Notes about lines: made as lines come, made again when they are damaged, and never in the way of others.

use super::*;

fn msgid(id: u64) -> Bytes {
    Bytes::from(format!("m{id}"))
}

/// A log of many lines, as the writer notes them by itself.
async fn busy(history: &History, lines: u64) -> Log {
    let (log, _) = history.open_log("apw", "oftc").await.unwrap();
    for id in 1..=lines {
        let text = format!(
            "number{id} {}",
            if id % 100 == 0 { "hundred" } else { "other" }
        );
        log.append(Write::Entry(Entry {
            msgid: Some(msgid(id)),
            ..entry(id, ["#a", "#b"][usize::from(id % 2 == 0)], &text)
        }));
        if id % 1000 == 0 {
            settled(&log, id).await;
        }
    }
    settled(&log, lines).await;
    log
}

/// Waits until less than `LAZY` lines are not noted.
async fn noted(log: &Log, lines: u64) {
    while log.size().await.unwrap().noted.0 + 256 <= lines {
        tokio::task::yield_now().await;
    }
}

fn words(words: &str) -> Search {
    Search {
        words: words.into(),
        limit: 5,
        ..Search::default()
    }
}

#[tokio::test]
async fn lines_are_noted_as_they_come_and_after_a_start() {
    let place = Place::new();
    let history = place.open();
    let log = busy(&history, 3000).await;
    noted(&log, 3000).await;
    assert_eq!(
        numbers(&log.search(words("hundred")).await.unwrap()),
        [2600, 2700, 2800, 2900, 3000]
    );
    history.close().await;
    // As a database of before there were notes.
    let stranger = place.stranger();
    stranger
        .execute_batch("DELETE FROM stretch; INSERT INTO term (term) VALUES ('delete-all')")
        .unwrap();
    drop(stranger);
    let history = place.open();
    let (log, _) = history.open_log("apw", "oftc").await.unwrap();
    noted(&log, 3000).await;
    assert_eq!(
        numbers(&log.search(words("number1234")).await.unwrap()),
        [1234]
    );
    assert_eq!(
        log.by_msgid(msgid(77)).await.unwrap().unwrap().id,
        EntryId(77)
    );
}

#[tokio::test]
async fn notes_that_are_damaged_are_made_again() {
    let damages = [
        "DROP TABLE stretch",
        "DROP TABLE term",
        "DELETE FROM term_data",
        "UPDATE term_data SET block = zeroblob(200) WHERE id > 1000",
        "UPDATE term_data SET block = x'0000000105050505050505' WHERE id = 10",
        "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'term'",
        "DROP TABLE term_config",
        "DROP TABLE term_data; DROP TABLE term_idx",
    ];
    for damage in damages {
        for running in [true, false] {
            let place = Place::new();
            let mut history = place.open();
            let mut log = busy(&history, 1500).await;
            noted(&log, 1500).await;
            if !running {
                history.close().await;
            }
            place.stranger().execute_batch(damage).unwrap();
            if !running {
                history = place.open();
                log = history.open_log("apw", "oftc").await.unwrap().0;
            }
            let found = log.search(words("number123")).await;
            assert_eq!(numbers(&found.unwrap()), [123], "{damage}, {running}");
            let found = log.by_msgid(msgid(321)).await.unwrap();
            assert_eq!(found.unwrap().id, EntryId(321), "{damage}, {running}");
            // Lines are stored all the same, and noted.
            for id in 1501..=3500 {
                log.append(Write::Entry(entry(id, "#a", "later")));
            }
            settled(&log, 3500).await;
            noted(&log, 3500).await;
            assert_eq!(
                numbers(&log.search(words("number123")).await.unwrap()),
                [123]
            );
            history.close().await;
            // What could not be seen while it was open shows at the next start.
            let history = place.open();
            let (log, _) = history.open_log("apw", "oftc").await.unwrap();
            assert_eq!(
                numbers(&log.search(words("number123")).await.unwrap()),
                [123]
            );
            history.close().await;
            let check: String = place
                .stranger()
                .query_row("PRAGMA integrity_check", [], |row| row.get(0))
                .unwrap();
            assert_eq!(check, "ok", "{damage}, {running}");
        }
    }
}

#[tokio::test]
async fn pages_do_not_wait_for_a_slow_search() {
    let place = Place::new();
    let history = place.open();
    let log = busy(&history, 10).await;
    let slow =
        "WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n) SELECT count(*) FROM n";
    let searches = (0..2).map(|_| {
        let desk = log.desk.clone();
        tokio::spawn(async move {
            desk.ask_slowly(move |db| db.query_row(slow, [], |row| row.get::<_, i64>(0)))
                .await
        })
    });
    let searches: Vec<_> = searches.collect();
    tokio::task::yield_now().await;
    for _ in 0..10 {
        let page = tokio::time::timeout(Duration::from_secs(2), log.by_id(ALL, 5));
        assert_eq!(page.await.unwrap().unwrap().len(), 5);
    }
    for search in searches {
        search.abort();
    }
    assert_eq!(log.search(words("hundred")).await.unwrap(), []);
}

#[tokio::test]
async fn an_older_database_is_brought_up_to_date() {
    let place = Place::new();
    let history = place.open();
    busy(&history, 600).await;
    history.close().await;
    let stranger = place.stranger();
    stranger
        .execute_batch(
            "DROP TABLE term; DROP TABLE stretch; DROP TABLE size; DROP TABLE moved; DROP INDEX entry_target;
             DROP TABLE made_user; DROP TABLE made_network; DROP TABLE made_channel; DROP TABLE retired; DROP TABLE seen;
             CREATE INDEX entry_target ON entry (target); PRAGMA user_version = 1;",
        )
        .unwrap();
    drop(stranger);
    let history = place.open();
    let (log, _) = history.open_log("apw", "oftc").await.unwrap();
    noted(&log, 600).await;
    assert_eq!(numbers(&log.search(words("number3")).await.unwrap()), [3]);
    let lines = log.by_target(&name("#a"), ALL, Only::All, 3).await.unwrap();
    assert_eq!(numbers(&lines), [1, 3, 5]);
    let plan: Vec<String> = place
        .stranger()
        .prepare(&format!(
            "EXPLAIN QUERY PLAN {}",
            query::lines("key", "key > ?2", Only::All, "ORDER BY key DESC LIMIT 5")
        ))
        .unwrap()
        .query_map([1, 1], |row| row.get(3))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(
        !plan.iter().any(|step| step.contains("TEMP B-TREE")),
        "{plan:?}"
    );
}

#[tokio::test]
async fn lines_are_found_under_the_name_their_target_has_now() {
    let (history, log) = in_memory().await;
    for (id, target) in [(1, "#a"), (2, "#b"), (3, "#c"), (4, "#a")] {
        log.append(Write::Entry(entry(id, target, "tea")));
    }
    settled(&log, 4).await;
    let network = log.state.network;
    let note = move |db: &Connection| derive::note(db, network, 3, DEADLINE);
    log.desk.change(note).await.unwrap();
    let within = |target: &'static str| Search {
        target: Some(Bytes::from(target)),
        ..words("tea")
    };
    for (old, new, found) in [("#a", "#b", vec![1, 2, 4]), ("#b", "#C", vec![1, 2, 3, 4])] {
        log.append(Write::Rename(name(old), name(new)));
        history.open_log("apw", "oftc").await.unwrap();
        assert_eq!(numbers(&log.search(within(new)).await.unwrap()), found);
        assert_eq!(log.search(within(old)).await.unwrap(), []);
    }
    log.append(Write::Withdraw(EntryId(1)));
    history.open_log("apw", "oftc").await.unwrap();
    assert_eq!(numbers(&log.search(within("#c")).await.unwrap()), [2, 3, 4]);
}

/// A message of several lines.
fn folded(id: u64, first: &str, others: &'static str) -> Write {
    Write::Entry(Entry {
        tags: Bytes::from(others),
        ..entry(id, "#a", first)
    })
}

#[tokio::test]
async fn all_lines_of_a_message_are_found_noted_or_not() {
    let (history, log) = in_memory().await;
    log.append(folded(
        1,
        "first",
        "account=bob;carom/lines=\\nsecond\\nthi\\rrd",
    ));
    log.append(folded(2, "other", "+draft/reply=second"));
    settled(&log, 2).await;
    let found = async |typed| numbers(&log.search(words(typed)).await.unwrap());
    for noted in [false, true] {
        for typed in ["first", "second", "third", "\"first second\"", "sec* third"] {
            assert_eq!(found(typed).await, [1], "{typed}, noted: {noted}");
        }
        for typed in ["rd", "account", "bob", "lines", "other second"] {
            assert_eq!(found(typed).await, [0; 0], "{typed}, noted: {noted}");
        }
        let network = log.state.network;
        let note = move |db: &Connection| derive::note(db, network, 9, DEADLINE);
        log.desk.change(note).await.unwrap();
    }
    // What it brought is taken back with it.
    log.append(Write::Withdraw(EntryId(1)));
    history.open_log("apw", "oftc").await.unwrap();
    let left = |db: &Connection| {
        db.execute_batch("INSERT INTO term (term, rank) VALUES ('integrity-check', 0)")?;
        db.query_row(
            "SELECT count(*) FROM term WHERE term MATCH '\"1:second\" OR \"1:third\"'",
            [],
            |row| row.get::<_, i64>(0),
        )
    };
    assert_eq!(log.desk.change(left).await.unwrap(), 0);
}

#[tokio::test]
async fn what_version_2_noted_is_noted_again() {
    let place = Place::new();
    let history = place.open();
    let log = busy(&history, 300).await;
    log.append(folded(301, "first", "carom/lines=\\nsecond"));
    settled(&log, 301).await;
    history.close().await;
    // As it was: of a message of several lines the first one alone.
    let stranger = place.stranger();
    stranger
        .execute_batch(
            "DELETE FROM stretch; INSERT INTO term (term) VALUES ('delete-all');
             INSERT INTO term (rowid, terms) SELECT key - (1 << 40), '1:first' FROM entry ORDER BY key DESC LIMIT 1;
             INSERT INTO stretch SELECT max(key), 301, 30000, 0, 1 << 50 FROM entry;
             PRAGMA user_version = 2;",
        )
        .unwrap();
    drop(stranger);
    let history = place.open();
    let (log, _) = history.open_log("apw", "oftc").await.unwrap();
    noted(&log, 301).await;
    for typed in ["second", "number7"] {
        assert_eq!(log.search(words(typed)).await.unwrap().len(), 1, "{typed}");
    }
}
