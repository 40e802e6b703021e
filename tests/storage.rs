//! The daemon and its database when something is wrong with the disk: locked, full, read-only, damaged. Relaying goes on,
//! what is missing is counted and told once, and storing resumes by itself; what cannot be used is refused in clear words.
//! And `carom export`, under load.

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;
#[path = "e2e/trouble.rs"]
mod trouble;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use carom::config::Durability;
use carom::history::{self, Entry, EntryId, History, Ids, Kind, Only, Write};
use carom::wire::{CaseMapping, Name, Timestamp};
use rusqlite::Connection;
use support::client::text_of;
use support::daemon::{carom, channel, config, network, write_config};
use support::{Client, Daemon, Link, MockIrcd, Script};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

/// Long enough for the longest wait between two attempts to store.
const RESUMES: Duration = Duration::from_secs(9);

/// So many lines of a log wait in memory.
const WAITING: usize = 4096;

/// A daemon on one network, somebody on `#a`, and a client.
struct Scene {
    _ircd: MockIrcd,
    daemon: Daemon,
    link: Link,
    client: Client,
    said: usize,
}

fn settings(url: &str) -> String {
    config(&(network("net", url) + &channel("#a"))) + "\n[history]\nfirst_lines = 1000000\n"
}

async fn joined(ircd: &MockIrcd) -> Link {
    let mut link = ircd.accept().await;
    link.registered().await;
    link.expect("JOIN #a").await;
    link
}

async fn attach(daemon: &Daemon, name: &str) -> Client {
    let mut client = daemon.connect().await;
    let login = format!("apw/net@{name}");
    client.login_sasl(&login, "secret", &["server-time"]).await;
    client.expect("366").await;
    client
}

impl Scene {
    async fn new() -> Self {
        let ircd = MockIrcd::start(Script::default()).await;
        let daemon = Daemon::start(&settings(&ircd.url())).await;
        Self::with(ircd, daemon).await
    }

    async fn with(ircd: MockIrcd, daemon: Daemon) -> Self {
        let link = joined(&ircd).await;
        let client = attach(&daemon, "laptop").await;
        Self {
            _ircd: ircd,
            daemon,
            link,
            client,
            said: 0,
        }
    }

    /// Somebody says so many lines, numbered on, and the client hears all of them: portions that its queue takes.
    async fn says(&mut self, lines: usize) {
        let all = self.said + lines;
        while self.said < all {
            let portion = self.said..all.min(self.said + 500);
            self.said = portion.end;
            let text: String = portion
                .map(|n| format!(":bob!bob@host.test PRIVMSG #a :{n} {}\r\n", "x".repeat(100)))
                .collect();
            self.link.send_bytes(text.as_bytes()).await.unwrap();
            let last = format!("PRIVMSG #a :{} ", self.said - 1);
            self.client
                .expect_where("the line said last", |line| line.contains(&last))
                .await;
        }
        assert_eq!(numbers(&self.client), (0..self.said).collect::<Vec<_>>());
    }

    /// The store is locked until three lines more were said than can wait for it. Its client goes before it could be told.
    async fn loses_three_lines_unheard(&mut self) {
        let stranger = Connection::open(self.database()).unwrap();
        stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
        self.says(WAITING + 3).await;
        self.client.close().await;
        self.daemon
            .tells(&["client", "status"], "no clients attached")
            .await;
        stranger.execute_batch("ROLLBACK").unwrap();
        self.daemon.tells(&["status"], "3 lines never stored").await;
    }

    /// What carom tells the client of lines that are missing; how many.
    async fn told_of_lost(&mut self) -> usize {
        let told = self.client.expect_where("what is missing", |line| {
            line.contains("missing from the history")
        });
        let line = timeout(RESUMES, told).await.expect("storing works again");
        let (_, text) = line.rsplit_once(" :").unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    }

    /// What a client that was never here is given.
    async fn stored(&self) -> Vec<usize> {
        let mut auditor = attach(&self.daemon, "auditor").await;
        auditor.sync().await;
        numbers(&auditor)
    }

    fn database(&self) -> PathBuf {
        self.daemon.path("carom.db")
    }
}

/// The numbers of the lines that a client has heard.
fn numbers(client: &Client) -> Vec<usize> {
    let lines = client.heard().into_iter();
    lines
        .filter(|line| line.contains("PRIVMSG #a"))
        .filter_map(|line| text_of(&line)?.split(' ').next()?.parse().ok())
        .collect()
}

fn verdict(database: &Path) -> String {
    Connection::open(database)
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap()
}

#[tokio::test]
async fn a_locked_database_delays_nobody_and_what_is_missing_is_told_once() {
    let mut scene = Scene::new().await;
    scene.says(10).await;
    let stranger = Connection::open(scene.database()).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    scene.says(WAITING + 500).await;
    scene.client.sync().await;
    scene
        .daemon
        .tells(&["status"], " lines shown before being stored")
        .await;
    scene.daemon.logged("the history cannot be stored").await;
    stranger.execute_batch("ROLLBACK").unwrap();
    assert_eq!(scene.told_of_lost().await, 500);
    scene
        .daemon
        .tells(&["status"], "500 lines never stored")
        .await;
    scene
        .daemon
        .logged("the history is being stored again")
        .await;
    scene.says(10).await;
    let stored = scene.stored().await;
    let expected: Vec<_> = (0..scene.said)
        .filter(|n| !(WAITING + 10..WAITING + 510).contains(n))
        .collect();
    assert_eq!(stored, expected);
    let gap: (i64, i64) = stranger
        .query_row("SELECT count(*), sum(count) FROM gap", [], |row| {
            row.try_into()
        })
        .unwrap();
    assert_eq!(gap, (1, 500));
    // Whoever comes later hears nothing of it.
    let mut later = attach(&scene.daemon, "phone").await;
    let heard = later.sync().await;
    assert!(!heard.iter().any(|line| line.contains("missing from")));
}

#[tokio::test]
async fn what_is_missing_is_told_to_the_first_who_comes_when_nobody_was_there() {
    let mut scene = Scene::new().await;
    scene.loses_three_lines_unheard().await;
    scene.client = attach(&scene.daemon, "laptop").await;
    assert_eq!(scene.told_of_lost().await, 3);
}

#[tokio::test]
async fn who_attaches_while_nothing_can_be_stored_waits_a_while_and_loses_nothing() {
    let mut scene = Scene::new().await;
    scene.says(10).await;
    let mut phone = attach(&scene.daemon, "phone").await;
    phone.sync().await;
    phone.close().await;
    scene.daemon.tells(&["client", "status"], "laptop").await;
    let stranger = Connection::open(scene.database()).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    scene.says(20).await;
    let mut phone = attach(&scene.daemon, "phone").await;
    phone
        .expect("NOTICE * :some lines cannot be shown now")
        .await;
    // What is said from here on he hears.
    scene.says(5).await;
    phone
        .expect_where("the last line", |line| line.contains("PRIVMSG #a :34 "))
        .await;
    assert_eq!(numbers(&phone), (30..35).collect::<Vec<_>>());
    stranger.execute_batch("ROLLBACK").unwrap();
    scene
        .daemon
        .logged("the history is being stored again")
        .await;
    phone.sync().await;
    phone.close().await;
    let mut phone = attach(&scene.daemon, "phone").await;
    phone.sync().await;
    assert_eq!(numbers(&phone), (10..35).collect::<Vec<_>>());
}

/// Why mounts of our own cannot be made here; in CI they have to be.
fn why_not() -> Option<&'static str> {
    let root = rustix::process::geteuid().is_root();
    let tried = std::process::Command::new("unshare")
        .args(["--mount", "true"])
        .output();
    let reason = match (root, tried) {
        (false, _) => Some("only root may mount"),
        (true, Ok(output)) if output.status.success() => None,
        (true, _) => Some("unshare --mount does not work"),
    };
    let in_ci = std::env::var("CI").as_deref() == Ok("true");
    assert!(
        reason.is_none() || !in_ci,
        "in CI these tests have to run: {reason:?}"
    );
    if let Some(reason) = reason {
        eprintln!("skipped: {reason}");
    }
    reason
}

/// The shell begins anew where mounts are its own, and puts a small disk in the folder of the database.
const SMALL_DISK: &str = "mkdir -p data; exec unshare --mount /bin/sh -c \
     'mount -t tmpfs -o size=8m,mode=700 none data && exec \"$0\" \"$@\"' \"$0\" \"$@\"";

/// Fills the disk of a file to the last byte.
fn fill(path: &Path) {
    let file = fs::File::create(path).unwrap();
    let mut at = 0;
    for size in [1 << 16, 512, 1] {
        while let Ok(written) = file.write_at(&vec![b'x'; size], at) {
            at += written as u64;
        }
    }
}

#[tokio::test]
async fn a_full_disk_costs_what_memory_does_not_hold_and_nothing_else() {
    if why_not().is_some() {
        return;
    }
    let ircd = MockIrcd::start(Script::default()).await;
    let storage = "\n[storage]\npath = \"data/carom.db\"\n";
    let daemon = Daemon::start_after(SMALL_DISK, &(settings(&ircd.url()) + storage)).await;
    let mut scene = Scene::with(ircd, daemon).await;
    scene.says(10).await;
    let data = PathBuf::from(format!("/proc/{}/root", scene.daemon.pid()))
        .join(scene.daemon.path("data").strip_prefix("/").unwrap());
    fill(&data.join("filler"));
    // More than the rest of the WAL takes, and more than may wait.
    scene.says(2 * WAITING).await;
    scene.client.sync().await;
    let log = scene.daemon.logged("the history cannot be stored").await;
    assert!(log.contains("full"), "{log}");
    fs::remove_file(data.join("filler")).unwrap();
    let lost = scene.told_of_lost().await;
    scene.says(10).await;
    let stored = scene.stored().await;
    assert_eq!(
        stored.len() + lost,
        scene.said,
        "each line is stored, or counted as lost"
    );
    assert!(
        lost > 0 && stored.len() > WAITING,
        "{lost} lost, {} stored",
        stored.len()
    );
    assert!(stored.is_sorted());
    assert!(stored.ends_with(&[scene.said - 2, scene.said - 1]));
    // The disk goes with the daemon, so it is looked at before.
    assert_eq!(verdict(&data.join("carom.db")), "ok");
    assert!(scene.daemon.stop().await.success());
}

#[tokio::test]
async fn a_read_only_disk_is_refused_with_what_to_do() {
    if why_not().is_some() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let settings = config("") + "\n[storage]\npath = \"data/carom.db\"\n";
    write_config(folder.path(), &settings);
    let mut daemon = Daemon::start_in(folder).await;
    daemon.stop().await;
    let script = "mount --bind data data && mount -o remount,ro,bind data && exec \"$0\" run";
    let running = Command::new("unshare")
        .args([
            "--mount",
            "/bin/sh",
            "-c",
            script,
            env!("CARGO_BIN_EXE_carom"),
        ])
        .env("CAROM_CONFIG", daemon.path("carom.toml"))
        .current_dir(daemon.path("."))
        .kill_on_drop(true)
        .output();
    let output = timeout(support::DEADLINE, running).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("data") && text.to_lowercase().contains("read-only"),
        "{text}"
    );
}

#[tokio::test]
async fn a_database_damaged_while_in_use_stops_nobody() {
    let mut scene = Scene::new().await;
    scene.says(2000).await;
    let file = fs::File::options()
        .write(true)
        .open(scene.database())
        .unwrap();
    let stranger = Connection::open(scene.database()).unwrap();
    stranger
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        .unwrap();
    drop(stranger);
    let pages = file.metadata().unwrap().len() / 4096;
    for page in 1..pages {
        file.write_all_at(&[0xa5; 4096], page * 4096).unwrap();
    }
    scene.says(WAITING * 2).await;
    scene.client.sync().await;
    assert!(
        scene
            .daemon
            .ctl(&["status"])
            .await
            .stdout
            .contains("connected")
    );
    scene.daemon.stop().await;
    let ended = carom(&scene.daemon.path("."), &["run"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("is damaged"), "{}", ended.stderr);
    assert!(ended.stderr.contains("put back a copy"), "{}", ended.stderr);
}

// -- without the daemon

fn entry(id: u64, size: usize) -> Entry {
    Entry {
        id: EntryId(id),
        target: Name::new(format!("#{}", id % 5).as_bytes(), CaseMapping::Rfc1459),
        time: Timestamp::from_millis(1_700_000_000_000 + i64::try_from(id).unwrap()),
        msgid: None,
        kind: Kind::Message,
        again: false,
        tags: Bytes::new(),
        line: Bytes::from(format!(":a!b@c PRIVMSG #a :{id} {}", "x".repeat(size))),
    }
}

const ALL: Ids = Ids {
    first: EntryId(0),
    last: EntryId::MAX,
};

/// A database with so many lines.
async fn filled(path: &Path, lines: u64, size: usize) {
    let history = History::open(Some(path), Durability::Process).unwrap();
    let (log, _) = history.open_log("apw", "net").await.unwrap();
    for id in 1..=lines {
        log.append(Write::Entry(entry(id, size)));
        if id % 2000 == 0 || id == lines {
            let mut settled = log.settled();
            settled.wait_for(|settled| settled.0 >= id).await.unwrap();
        }
    }
    history.close().await;
}

/// splitmix64
fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[tokio::test]
async fn a_database_with_flipped_bits_is_refused_or_survived() {
    const FLIPS: u64 = 200;
    const LINES: u64 = 500;
    let folder = TempDir::new().unwrap();
    let original = folder.path().join("original.db");
    filled(&original, LINES, 60).await;
    let whole = fs::read(&original).unwrap();
    let (mut refused, mut survived) = (0, 0);
    for flip in 0..FLIPS {
        let mut bytes = whole.clone();
        let bit = random(flip) % (bytes.len() as u64 * 8);
        bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        let path = folder.path().join(format!("{flip}.db"));
        fs::write(&path, &bytes).unwrap();
        match History::open(Some(&path), Durability::Process) {
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                let clear = ["is damaged", "another program", "has schema", "copying"];
                assert!(
                    clear.iter().any(|part| text.contains(part)),
                    "bit {bit}: {text}"
                );
            }
            Ok(history) => {
                survived += 1;
                let what = format!("bit {bit} of byte {}", bit / 8);
                let (log, _) = history.open_log("apw", "net").await.expect(&what);
                let found = log.by_id(ALL, usize::MAX).await.expect(&what);
                // Somebody's words may have changed, or that they are the first copy of a line, which alone is read here;
                // nobody else's are gone.
                assert!(found.len() as u64 + 1 >= LINES, "{what}: {}", found.len());
                let target = Name::new(b"#1", CaseMapping::Rfc1459);
                _ = log.by_target(&target, ALL, Only::All, 10).await;
                log.append(Write::Entry(entry(LINES + 1, 60)));
                history.close().await;
            }
        }
        fs::remove_file(&path).unwrap();
    }
    eprintln!("{FLIPS} flipped bits: {refused} refused, {survived} survived");
    assert!(refused > 0 && survived > 0);
}

// -- export

/// Tables and indexes, as they were made.
fn schema(database: &Path) -> Vec<String> {
    Connection::open(database)
        .unwrap()
        .prepare("SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema ORDER BY name")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<rusqlite::Result<_>>()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_under_load_is_the_database_of_one_moment() {
    let folder = TempDir::new().unwrap();
    filled(&folder.path().join("carom.db"), 10_000, 1500).await;
    let ircd = MockIrcd::start(Script::default()).await;
    write_config(folder.path(), &settings(&ircd.url()));
    let daemon = Daemon::start_in(folder).await;
    let mut scene = Scene::with(ircd, daemon).await;
    scene.says(100).await;
    // Five times, while people talk all the time.
    let folder = scene.daemon.path(".");
    let exporting = tokio::spawn(async move {
        for n in 0..5 {
            let output = format!("copy-{n}.db");
            let ended = carom(&folder, &["export", "--output", &output]).await;
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            assert!(
                ended.stdout.starts_with(&format!("{output} is a copy of ")),
                "{}",
                ended.stdout
            );
            assert_eq!(ended.stderr, "", "progress is for terminals");
        }
    });
    while !exporting.is_finished() {
        scene.says(20).await;
    }
    exporting.await.unwrap();
    let mut before = 10_100;
    for n in 0..5 {
        let copy = scene.daemon.path(&format!("copy-{n}.db"));
        assert_eq!(
            fs::metadata(&copy).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(verdict(&copy), "ok");
        assert_eq!(schema(&copy), schema(&scene.database()));
        let db = Connection::open(&copy).unwrap();
        let (count, last): (i64, i64) = db
            .query_row(
                "SELECT count(*), max(key & 0xffffffffff) FROM entry",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        assert_eq!(count, last, "no line is missing before the last one");
        assert!(
            (before..=10_000 + i64::try_from(scene.said).unwrap()).contains(&count),
            "{count}"
        );
        before = count;
        let left: Vec<_> = fs::read_dir(scene.daemon.path("."))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| {
                name.ends_with(".part") || name.starts_with("copy-") && !name.ends_with(".db")
            })
            .collect();
        assert_eq!(left, [""; 0]);
    }
}

#[tokio::test]
async fn an_export_without_a_daemon_works_and_never_overwrites() {
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), &config(""));
    let export = async |output: &str| carom(folder.path(), &["export", "--output", output]).await;
    let ended = export("copy.db").await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("there is nothing in the database"),
        "{}",
        ended.stderr
    );

    let database = folder.path().join("carom.db");
    filled(&database, 100, 10).await;
    assert_eq!(export("copy.db").await.code, Some(0));
    let copied = fs::read(folder.path().join("copy.db")).unwrap();
    for (output, reason) in [
        ("copy.db", "it is there already"),
        ("carom.db", "it is there already"),
        ("no/where.db", "No such file"),
    ] {
        let ended = export(output).await;
        assert_eq!(ended.code, Some(1), "{output}");
        assert!(ended.stderr.contains(reason), "{output}: {}", ended.stderr);
    }
    assert_eq!(fs::read(folder.path().join("copy.db")).unwrap(), copied);
    // The copy is a database like any other.
    let history = History::open(Some(&folder.path().join("copy.db")), Durability::Process).unwrap();
    let (log, _) = history.open_log("apw", "net").await.unwrap();
    assert_eq!(log.by_id(ALL, 1000).await.unwrap().len(), 100);
    history.close().await;

    write_config(
        folder.path(),
        &(config("") + "\n[storage]\npath = \":memory:\"\n"),
    );
    let ended = export("more.db").await;
    assert!(
        ended.stderr.contains("nothing to export"),
        "{}",
        ended.stderr
    );
    Connection::open(&database)
        .unwrap()
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    write_config(folder.path(), &config(""));
    let ended = export("more.db").await;
    assert!(ended.stderr.contains("has schema 99"), "{}", ended.stderr);
}

#[test]
fn progress_ends_with_everything() {
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("carom.db");
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(filled(&database, 3000, 3000));
    let mut told = Vec::new();
    history::export(&database, &folder.path().join("copy.db"), |progress| {
        told.push(progress);
    })
    .unwrap();
    assert!(told.len() > 1 && told.is_sorted_by_key(|progress| progress.done));
    assert_eq!(told.last().unwrap().percent(), 100);
}
