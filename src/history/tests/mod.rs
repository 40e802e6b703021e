//! The history through its interface: what comes back and what survives.

use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::wire::CaseMapping;

mod missed;
mod moves;
mod noting;
mod readings;
mod trouble;

fn name(name: &str) -> Name {
    Name::new(name.as_bytes(), CaseMapping::Rfc1459)
}

fn entry(id: u64, target: &str, text: &str) -> Entry {
    Entry {
        id: EntryId(id),
        target: name(target),
        time: Timestamp::from_millis(1_700_000_000_000 + i64::try_from(id).unwrap()),
        msgid: None,
        kind: Kind::Message,
        again: false,
        tags: Bytes::new(),
        line: Bytes::from(format!(":a!b@c PRIVMSG {target} :{text}")),
    }
}

fn mark(client: &str, id: u64) -> Write {
    Write::Position {
        client: client.into(),
        target: None,
        id: Some(EntryId(id)),
        time: Timestamp::from_millis(7),
    }
}

fn behind(client: &str, target: &str, id: Option<u64>) -> Write {
    let (target, id) = (Some(name(target)), id.map(EntryId));
    Write::Position {
        client: client.into(),
        target,
        id,
        time: Timestamp::from_millis(8),
    }
}

fn ids(first: u64, last: u64) -> Ids {
    Ids {
        first: EntryId(first),
        last: EntryId(last),
    }
}

const ALL: Ids = Ids {
    first: EntryId(0),
    last: EntryId::MAX,
};

fn numbers(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.id.0).collect()
}

async fn settled(log: &Log, id: u64) {
    log.settled()
        .wait_for(|settled| settled.0 >= id)
        .await
        .unwrap();
}

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("carom.db")
    }

    fn open(&self) -> History {
        History::open(Some(&self.path()), Durability::Process).unwrap()
    }

    /// A connection of somebody else, as `sqlite3` would open it.
    fn stranger(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

async fn in_memory() -> (History, Log) {
    let history = History::open(None, Durability::Process).unwrap();
    let (log, _) = history.open_log("apw", "oftc").await.unwrap();
    (history, log)
}

/// Both kinds of database, each with an open log.
async fn everywhere() -> Vec<(Option<Place>, History, Log)> {
    let mut found = Vec::new();
    for durability in [Durability::Process, Durability::Power] {
        let place = Place::new();
        let history = History::open(Some(&place.path()), durability).unwrap();
        let (log, _) = history.open_log("apw", "oftc").await.unwrap();
        found.push((Some(place), history, log));
    }
    let (history, log) = in_memory().await;
    found.push((None, history, log));
    found
}

#[tokio::test]
async fn every_byte_comes_back() {
    let bytes: Vec<u8> = (0..=255).collect();
    for (_place, _history, log) in everywhere().await {
        let stored = Entry {
            msgid: Some(Bytes::from(bytes.clone())),
            kind: Kind::Event,
            tags: Bytes::from(bytes.clone()),
            line: Bytes::from(bytes.repeat(64)),
            target: Name::new(b"#\xff\x00{", CaseMapping::StrictRfc1459),
            ..entry(1, "", "")
        };
        let plain = Entry {
            target: stored.target.clone(),
            ..entry(2, "", "")
        };
        log.append(Write::Entry(stored.clone()));
        log.append(Write::Entry(plain.clone()));
        settled(&log, 2).await;
        let by_target = log
            .by_target(&stored.target, ALL, Only::All, 10)
            .await
            .unwrap();
        let by_id = log.by_id(ALL, 10).await.unwrap();
        assert_eq!(by_target, [stored.clone(), plain.clone()]);
        assert_eq!(by_id, [stored, plain]);
        assert!(
            by_id
                .iter()
                .all(|entry| entry.target.mapping() == CaseMapping::StrictRfc1459)
        );
    }
}

#[tokio::test]
async fn readings_keep_to_range_kind_limit_and_target() {
    for (_place, history, log) in everywhere().await {
        let (other, _) = history.open_log("apw", "libera").await.unwrap();
        for id in 1..=20 {
            let kind = if id % 5 == 0 {
                Kind::Event
            } else {
                Kind::Message
            };
            let target = if id % 2 == 0 { "#Foo[" } else { "#bar" };
            log.append(Write::Entry(Entry {
                kind,
                again: id == 7,
                ..entry(id, target, "x")
            }));
            other.append(Write::Entry(entry(id, target, "other")));
        }
        settled(&log, 20).await;
        let all = log.by_id(ALL, 100).await.unwrap();
        assert_eq!(
            numbers(&all),
            (1..=20).filter(|&id| id != 7).collect::<Vec<_>>()
        );
        assert_eq!(
            numbers(&log.by_id(ids(3, 9), 4).await.unwrap()),
            [3, 4, 5, 6]
        );
        let foo = name("#fOO{");
        let lines = log
            .by_target(&foo, ids(3, 18), Only::All, 100)
            .await
            .unwrap();
        assert_eq!(numbers(&lines), [4, 6, 8, 10, 12, 14, 16, 18]);
        let lines = log
            .by_target(&foo, ids(3, 18), Only::Messages, 3)
            .await
            .unwrap();
        assert_eq!(numbers(&lines), [4, 6, 8]);
        let lines = log
            .by_target(&name("#bar"), ids(6, 9), Only::All, 3)
            .await
            .unwrap();
        assert_eq!(numbers(&lines), [7, 9]);
        assert_eq!(
            log.by_target(&name("#nobody"), ALL, Only::All, 3)
                .await
                .unwrap(),
            []
        );
    }
}

#[tokio::test]
async fn what_is_remembered_survives() {
    let place = Place::new();
    let history = place.open();
    let (log, remembered) = history.open_log("apw", "oftc").await.unwrap();
    assert_eq!(remembered, Remembered::default());
    assert_eq!(*log.settled().borrow(), EntryId(0));
    log.append_all([
        Write::Entry(entry(1, "#a", "x")),
        Write::Entry(entry(2, "#b", "x")),
        mark("laptop", 1),
        mark("laptop", 2),
        behind("laptop", "#A", Some(1)),
        behind("phone", "#a", Some(1)),
        behind("phone", "#A", None),
        mark("", 2),
        Write::Floor {
            target: name("#B"),
            id: EntryId(2),
        },
        Write::Fact {
            fact: Fact::Channel,
            name: Bytes::from("#a"),
            value: Some(Bytes::from("{}")),
        },
        Write::Fact {
            fact: Fact::Nick,
            name: Bytes::new(),
            value: Some(Bytes::from("apw")),
        },
        Write::Fact {
            fact: Fact::Nick,
            name: Bytes::new(),
            value: Some(Bytes::from("apw_")),
        },
        Write::Fact {
            fact: Fact::Channel,
            name: Bytes::from("#a"),
            value: None,
        },
    ]);
    history.close().await;

    let (log, remembered) = place.open().open_log("apw", "oftc").await.unwrap();
    let position = |client: &str, target: Option<&'static str>, id, time| StoredPosition {
        client: client.into(),
        target: target.map(Bytes::from),
        id: EntryId(id),
        time: Timestamp::from_millis(time),
    };
    assert_eq!(
        remembered,
        Remembered {
            head: EntryId(2),
            newest: entry(2, "", "").time,
            positions: vec![
                position("", None, 2, 7),
                position("laptop", None, 2, 7),
                position("laptop", Some("#a"), 1, 8),
            ],
            floors: vec![(Bytes::from("#b"), EntryId(2))],
            facts: vec![(Fact::Nick, Bytes::new(), Bytes::from("apw_"))],
            gaps: Vec::new(),
        }
    );
    assert_eq!(*log.settled().borrow(), EntryId(2));
}

#[tokio::test]
async fn ids_start_above_everything_that_names_one() {
    let floor = Write::Floor {
        target: name("#a"),
        id: EntryId(9),
    };
    for write in [
        mark("x", 9),
        behind("x", "#a", Some(9)),
        floor,
        Write::Withdraw(EntryId(9)),
    ] {
        let (history, log) = in_memory().await;
        log.append(Write::Entry(entry(3, "#a", "x")));
        log.append(write.clone());
        let (_, remembered) = history.open_log("apw", "oftc").await.unwrap();
        assert_eq!(remembered.head, EntryId(9), "{write:?}");
        let (_, remembered) = history.open_log("apw", "libera").await.unwrap();
        assert_eq!(remembered.head, EntryId(0), "{write:?}");
    }
}

#[tokio::test]
async fn a_line_taken_back_is_gone() {
    for (_place, _history, log) in everywhere().await {
        for id in 1..=3 {
            log.append(Write::Entry(entry(id, "#a", "x")));
        }
        log.append(Write::Withdraw(EntryId(2)));
        log.append(Write::Entry(entry(4, "#a", "x")));
        settled(&log, 4).await;
        assert_eq!(numbers(&log.by_id(ALL, 9).await.unwrap()), [1, 3, 4]);
        assert_eq!(
            numbers(&log.by_target(&name("#a"), ALL, Only::All, 9).await.unwrap()),
            [1, 3, 4]
        );
    }
}

#[tokio::test]
async fn a_log_opened_again_knows_what_its_first_holder_appended() {
    for (_place, history, log) in everywhere().await {
        for id in 1..=3000 {
            log.append(Write::Entry(entry(id, "#a", "x")));
        }
        log.append(mark("x", 17));
        let (again, remembered) = history.open_log("apw", "oftc").await.unwrap();
        assert_eq!(
            (remembered.head, remembered.positions.len()),
            (EntryId(3000), 1)
        );
        again.append(Write::Entry(entry(3001, "#a", "x")));
        settled(&log, 3001).await;
    }
}

#[tokio::test]
async fn closing_stores_what_is_queued_and_refuses_what_comes_later() {
    let place = Place::new();
    let history = place.open();
    let (log, _) = history.open_log("apw", "oftc").await.unwrap();
    for id in 1..=2500 {
        log.append(Write::Entry(entry(id, "#a", "x")));
    }
    history.close().await;
    assert_eq!(*log.settled().borrow(), EntryId(2500));
    log.append(Write::Entry(entry(2501, "#a", "x")));
    assert!(matches!(log.by_id(ALL, 1).await, Err(Error::Closed)));
    assert!(matches!(
        history.open_log("apw", "x").await,
        Err(Error::Closed)
    ));
    history.close().await;
    // The last connection leaves no WAL behind.
    let files: Vec<_> = std::fs::read_dir(place.folder.path())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(files, ["carom.db"]);
    let (_, remembered) = place.open().open_log("apw", "oftc").await.unwrap();
    assert_eq!(remembered.head, EntryId(2500));
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let place = Place::new();
    let history = place.open();
    let (log, _) = history.open_log("apw", "oftc").await.unwrap();
    log.append(Write::Entry(entry(1, "#a", "x")));
    settled(&log, 1).await;
    let files: Vec<_> = std::fs::read_dir(place.folder.path())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(files.len(), 3);
    for file in files {
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{file:?}"
        );
    }
}

#[tokio::test]
async fn passwords_are_kept() {
    for (place, history, _) in everywhere().await {
        assert_eq!(history.stored().await.unwrap().passwords.len(), 0);
        history.set_password("apw", "$1").await.unwrap();
        history.set_password("apw", "$2").await.unwrap();
        history.set_password("bob", "$3").await.unwrap();
        let kept = [("apw", "$2"), ("bob", "$3")].map(|(user, hash)| (user.into(), hash.into()));
        let kept = std::collections::BTreeMap::from(kept);
        assert_eq!(history.stored().await.unwrap().passwords, kept);
        history.close().await;
        if let Some(place) = place {
            assert_eq!(place.open().stored().await.unwrap().passwords, kept);
        }
    }
}
