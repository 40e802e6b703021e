//! Databases of earlier versions become ours: whole, with a copy kept, and never by half.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::super::schema;
use super::*;
use crate::config::Durability;

/// Where the child of the kill test finds its database.
const CHILD: &str = "CAROM_TEST_MIGRATE";

/// A database as version 1 made it: the statements of that version, copied here once and for all, and some of everything.
fn version_1(path: &Path, lines: i64) {
    let db = Connection::open(path).unwrap();
    db.execute_batch("PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;")
        .unwrap();
    db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
        .unwrap();
    db.execute_batch(
        "BEGIN EXCLUSIVE;
         CREATE TABLE network (
             id INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL, name TEXT NOT NULL, head INTEGER NOT NULL DEFAULT 0,
             UNIQUE (user, name)
         ) STRICT;
         CREATE TABLE target (
             id INTEGER PRIMARY KEY, network INTEGER NOT NULL, folded BLOB NOT NULL, name BLOB NOT NULL,
             UNIQUE (network, folded)
         ) STRICT;
         CREATE TABLE entry (
             key INTEGER PRIMARY KEY, target INTEGER NOT NULL, time INTEGER NOT NULL, kind INTEGER NOT NULL,
             again INTEGER NOT NULL, msgid BLOB, tags BLOB NOT NULL, line BLOB NOT NULL
         );
         CREATE INDEX entry_target ON entry (target);
         CREATE TABLE position (
             network INTEGER NOT NULL, client TEXT NOT NULL, target BLOB NOT NULL, id INTEGER NOT NULL, time INTEGER NOT NULL,
             PRIMARY KEY (network, client, target)
         ) STRICT, WITHOUT ROWID;
         CREATE TABLE floor (
             network INTEGER NOT NULL, target BLOB NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (network, target)
         ) STRICT, WITHOUT ROWID;
         CREATE TABLE fact (
             network INTEGER NOT NULL, fact INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL,
             PRIMARY KEY (network, fact, name)
         ) STRICT, WITHOUT ROWID;
         CREATE TABLE gap (
             network INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL,
             since INTEGER NOT NULL, until INTEGER NOT NULL
         ) STRICT;
         CREATE INDEX gap_network ON gap (network);
         CREATE TABLE password (user TEXT PRIMARY KEY, hash TEXT NOT NULL) STRICT, WITHOUT ROWID;
         PRAGMA application_id = 1667330671;
         PRAGMA user_version = 1;
         COMMIT;
         INSERT INTO network (user, name, head) VALUES ('apw', 'oftc', 7);
         INSERT INTO target (network, folded, name) VALUES (1, CAST('#a' AS BLOB), CAST('#A' AS BLOB));
         INSERT INTO position VALUES (1, 'laptop', x'', 3, 5);
         INSERT INTO floor VALUES (1, CAST('#a' AS BLOB), 2);
         INSERT INTO fact VALUES (1, 1, x'', CAST('apw_' AS BLOB));
         INSERT INTO gap VALUES (1, 4, 5, 2, 6, 7);
         INSERT INTO password VALUES ('apw', '$1');",
    )
    .unwrap();
    db.execute(
        "WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < ?1)
         INSERT INTO entry SELECT 1 << 40 | id, 1, 1000 + id, 0, 0, NULL, x'', CAST(':a PRIVMSG #a :' || id AS BLOB) FROM n",
        [lines],
    )
    .unwrap();
}

fn fixture(lines: i64) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("carom.db");
    version_1(&path, lines);
    (folder, path)
}

fn number(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Everything in the tables of version 1, as text.
fn contents(path: &Path) -> Vec<String> {
    let db = Connection::open(path).unwrap();
    let mut found = Vec::new();
    for table in objects(1).unwrap() {
        let Ok(mut rows) = db.prepare(&format!("SELECT * FROM {table}")) else {
            continue; // an index
        };
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<_> = (0..columns).map(|n| row.get_ref(n).unwrap()).collect();
            found.push(format!("{table} {values:?}"));
        }
    }
    found
}

fn schema_of(db: &Connection) -> Vec<String> {
    db.prepare("SELECT name || ': ' || coalesce(sql, '') FROM sqlite_schema ORDER BY name")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<rusqlite::Result<_>>()
        .unwrap()
}

#[test]
fn a_database_of_version_1_becomes_ours_with_all_that_is_in_it() {
    let (folder, path) = fixture(3000);
    let before = contents(&path);
    assert_eq!(before.len(), 3007);
    let db = schema::open(&path, Durability::Process).unwrap();
    assert_eq!(number(&db, "PRAGMA user_version"), VERSION);
    assert_eq!(number(&db, "PRAGMA application_id"), APPLICATION_ID);
    let new = schema::open(&folder.path().join("new.db"), Durability::Process).unwrap();
    let plain = |schema: Vec<String>| -> Vec<String> {
        let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        schema.into_iter().map(words).collect()
    };
    assert_eq!(
        plain(schema_of(&db)),
        plain(schema_of(&new)),
        "upgraded is as new"
    );
    drop(db);
    assert_eq!(contents(&path), before);

    let copy = kept(&path, 1);
    assert_eq!(copy, folder.path().join("carom.db.schema-1"));
    assert_eq!(contents(&copy), before);
    let db = Connection::open(&copy).unwrap();
    assert_eq!(number(&db, "PRAGMA user_version"), 1);
    let verdict: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
    // The copy can be put back, and is upgraded like any other.
    drop(db);
    fs::rename(&copy, &path).unwrap();
    schema::open(&path, Durability::Process).unwrap();
    assert_eq!(contents(&path), before);
}

#[test]
fn what_is_ours_already_is_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("carom.db");
    drop(schema::open(&path, Durability::Process).unwrap());
    drop(schema::open(&path, Durability::Process).unwrap());
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(files.len(), 1, "{files:?}");
}

#[test]
fn without_room_for_a_copy_nothing_is_changed() {
    let (folder, path) = fixture(10);
    let before = contents(&path);
    // A folder is where the copy is to be made.
    let part = folder.path().join("carom.db.schema-1.part");
    fs::create_dir(&part).unwrap();
    let error = schema::open(&path, Durability::Process).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("carom.db.schema-1: "), "{text}");
    assert_eq!(contents(&path), before);
    fs::remove_dir(&part).unwrap();
    schema::open(&path, Durability::Process).unwrap();
}

#[test]
fn a_step_that_fails_leaves_the_old_version() {
    fn half(db: &Connection) -> rusqlite::Result<()> {
        db.execute_batch("CREATE TABLE half (a); DELETE FROM entry; CREATE TABLE entry (b);")
    }
    let (_folder, path) = fixture(10);
    let before = contents(&path);
    let db = Connection::open(&path).unwrap();
    let error = upgrade_by(&db, &path, 1, &[half]).unwrap_err().to_string();
    assert!(
        error.contains("from schema 1 to 2: table entry already exists"),
        "{error}"
    );
    assert!(error.ends_with("nothing in it was changed"), "{error}");
    drop(db);
    assert_eq!(contents(&path), before);
}

/// Two steps that take their time: each line is touched.
fn slow() -> [Step; 2] {
    [
        |db| {
            db.execute_batch(
                "CREATE TABLE more (key, line); INSERT INTO more SELECT key, line FROM entry;",
            )
        },
        |db| {
            db.execute_batch(
                "CREATE INDEX more_line ON more (line, key); UPDATE entry SET time = time + 1;",
            )
        },
    ]
}

/// Upgrades and upgrades again; runs in a process of its own, see below.
#[test]
fn child_that_upgrades() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let path = PathBuf::from(path);
    let db = Connection::open(&path).unwrap();
    println!("\nready");
    upgrade_by(&db, &path, 1, &slow()).unwrap();
    println!("done");
}

/// How often it is killed; `CAROM_TEST_UPGRADES` says how often instead.
const KILLS: u32 = 12;

#[test]
fn killed_in_the_middle_it_is_old_or_new() {
    let kills = std::env::var("CAROM_TEST_UPGRADES").map_or(KILLS, |n| n.parse().unwrap());
    let (folder, original) = fixture(20_000);
    let before = contents(&original);
    let path = folder.path().join("x.db");
    let (mut old, mut new, mut longest) = (0, 0, std::time::Duration::from_millis(300));
    for round in 0..kills {
        for ending in ["", "-wal", "-shm", ".schema-1", ".schema-1.part"] {
            _ = fs::remove_file(format!("{}{ending}", path.display()));
        }
        fs::copy(&original, &path).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "history::migrate::tests::child_that_upgrades",
                "--nocapture",
            ])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        assert!(lines.any(|line| line == "ready"));
        let started = std::time::Instant::now();
        if round == 0 {
            // So long does it take: the others are killed at a moment within.
            assert!(lines.any(|line| line == "done"));
            longest = started.elapsed();
        } else {
            let until = longest * round / kills;
            while started.elapsed() < until {
                std::thread::yield_now();
            }
        }
        _ = child.kill();
        child.wait().unwrap();

        let db = Connection::open(&path).unwrap();
        let verdict: String = db
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok");
        let more = "SELECT count(*) FROM sqlite_schema WHERE name IN ('more', 'more_line')";
        match number(&db, "PRAGMA user_version") {
            1 => {
                old += 1;
                assert_eq!(number(&db, more), 0);
                drop(db);
                assert_eq!(contents(&path), before);
            }
            3 => {
                new += 1;
                assert_eq!(number(&db, more), 2);
                assert_eq!(number(&db, "SELECT count(*) FROM more"), 20_000);
                assert_eq!(number(&db, "SELECT min(time) FROM entry"), 1002);
                let kept = kept(&path, 1);
                assert_eq!(
                    contents(&kept),
                    before,
                    "the copy is whole before anything changes"
                );
            }
            other => panic!("version {other}"),
        }
    }
    println!("killed {kills} times: {old} old, {new} new");
    assert!(old > 0 && new > 0, "{old} old, {new} new");
}
