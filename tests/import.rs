//! `carom import`, from outside: configurations with every key, configurations and logs that the programs wrote themselves,
//! and what a client gets of them.

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rusqlite::Connection;

fn corpus(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/import")
        .join(path)
}

fn import(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_carom"))
        .arg("import")
        .args(arguments)
        .env("TZ", "UTC")
        .output();
    output.expect("carom can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace(env!("CARGO_MANIFEST_DIR"), "ROOT")
}

/// Compares with the file that says what is expected; `BLESS=1` writes it.
fn expect(path: &Path, found: &str) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, found).unwrap();
    }
    assert_eq!(
        found,
        fs::read_to_string(path).unwrap_or_default(),
        "{}",
        path.display()
    );
}

fn golden(origin: &str, source: &str, expected: &str) {
    let output = import(&[origin, corpus(source).to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    expect(&corpus(&format!("{expected}.toml")), &text(&output.stdout));
    expect(&corpus(&format!("{expected}.notes")), &text(&output.stderr));
}

#[test]
fn every_key_of_bip_is_carried_over_or_told() {
    golden("bip", "bip/everything.conf", "bip/everything");
}

#[test]
fn every_key_of_znc_is_carried_over_or_told() {
    golden("znc", "znc/everything.conf", "znc/everything");
}

#[test]
fn what_bip_and_znc_wrote_themselves_is_read() {
    golden("bip", "real/bip", "real/bip");
    golden("znc", "real/znc", "real/znc");
}

/// soju's tables, as far as they matter, with two users.
fn soju(folder: &Path) -> PathBuf {
    let path = folder.join("main.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "CREATE TABLE User (id INTEGER PRIMARY KEY, username TEXT, password TEXT, admin INTEGER, realname TEXT, nick TEXT, enabled INTEGER, max_networks INTEGER);
         CREATE TABLE DeviceCertificate (id INTEGER PRIMARY KEY, user INTEGER, label TEXT, fingerprint BLOB);
         CREATE TABLE Network (id INTEGER PRIMARY KEY, name TEXT, user INTEGER, addr TEXT, nick TEXT, username TEXT, realname TEXT, certfp TEXT,
             pass TEXT, connect_commands TEXT, sasl_mechanism TEXT, sasl_plain_username TEXT, sasl_plain_password TEXT, auto_away INTEGER, enabled INTEGER);
         CREATE TABLE Channel (id INTEGER PRIMARY KEY, network INTEGER, name TEXT, key TEXT, detached INTEGER, relay_detached INTEGER,
             reattach_on INTEGER, detach_after INTEGER, detach_on INTEGER);
         CREATE TABLE MessageTarget (id INTEGER PRIMARY KEY, network INTEGER, target TEXT);
         CREATE TABLE Message (id INTEGER PRIMARY KEY, target INTEGER, raw TEXT, time TEXT, sender TEXT, text TEXT);
         INSERT INTO User VALUES (1, 'alice', '$2a$10$CwTycUXWue0Thq9StjUM0uJ8Q1Ykq1J5p1C0u3m0cO0S7u9F1Zp6e', 1, 'Alice', 'al', 1, -1), (2, 'gone', NULL, 0, NULL, NULL, 0, 3), (3, 'bob', NULL, 0, NULL, NULL, 1, 0);
         INSERT INTO DeviceCertificate VALUES (1, 1, 'laptop', zeroblob(32)), (2, 1, 'phone', zeroblob(64));
         INSERT INTO Network VALUES
             (1, NULL, 1, 'irc.libera.chat', NULL, NULL, NULL, 'sha-256:AA', NULL, NULL, 'PLAIN', 'al', 'secret', 1, 1),
             (2, 'local', 1, 'irc+insecure://[::1]:16667', 'al2', 'a', 'A', NULL, 'pw', 'MODE al2 +i' || char(13, 10) || 'JOIN #x', 'EXTERNAL', NULL, NULL, 0, 0);
         INSERT INTO Channel VALUES (1, 2, '#one', NULL, 0, 0, 0, 0, 0), (2, 2, '#two', 'k', 1, 3, 2, 5400, 1);
         INSERT INTO MessageTarget VALUES (1, 2, 'carol');
         INSERT INTO Message VALUES
             (1, 1, '@time=2026-01-02T03:04:05.000Z;msgid=m1 :carol!c@h PRIVMSG al2 :first', '2026-01-02T03:04:05.000Z', 'carol', 'first'),
             (2, 1, ':al2!a@h PRIVMSG carol :second', '2026-01-02T03:04:06.000Z', 'al2', 'second'),
             (3, 1, '', 'nonsense', '', '');",
    )
    .unwrap();
    path
}

#[test]
fn the_database_of_soju_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = soju(folder.path());
    let output = import(&["soju", path.to_str().unwrap()]);
    let clean = |bytes: &[u8]| text(bytes).replace(folder.path().to_str().unwrap(), "FOLDER");
    assert!(output.status.success(), "{}", clean(&output.stderr));
    fs::create_dir_all(corpus("soju")).unwrap();
    expect(&corpus("soju/everything.toml"), &clean(&output.stdout));
    expect(&corpus("soju/everything.notes"), &clean(&output.stderr));
}

/// What the store has of a talk.
fn stored(database: &Path, target: &str) -> Vec<String> {
    let db = Connection::open(database).unwrap();
    let mut lines = db
        .prepare("SELECT e.line FROM entry e JOIN target t ON t.id = e.target WHERE t.name = CAST(?1 AS BLOB) ORDER BY e.key")
        .unwrap();
    let lines = lines
        .query_map([target], |row| row.get::<_, Vec<u8>>(0))
        .unwrap();
    lines
        .map(|line| String::from_utf8_lossy(&line.unwrap()).into_owned())
        .collect()
}

#[test]
fn logs_become_history_once() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let output = folder.path().join("carom.toml");
    let run = |origin: &str, source: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_carom"));
        command
            .args(["import", origin])
            .arg(source)
            .arg("--output")
            .arg(&output);
        command
            .env("TZ", "UTC")
            .env("STATE_DIRECTORY", &state)
            .env_remove("RUNTIME_DIRECTORY");
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", text(&done.stderr));
        text(&done.stdout)
    };
    // Logs that grow between two runs.
    let source = folder.path().join("bip");
    let log = source.join("logs/apw/tn/2026-11");
    fs::create_dir_all(&log).unwrap();
    fs::copy(corpus("real/bip/bip.conf"), source.join("bip.conf")).unwrap();
    let old = fs::read_to_string(corpus("real/bip/logs/apw/tn/2026-11/bob.22.log")).unwrap();
    fs::write(log.join("bob.22.log"), &old).unwrap();
    let said = run("bip", &source);
    assert!(
        said.contains("lines brought in 3, there already 0"),
        "{said}"
    );
    let database = state.join("carom.db");
    let lines = stored(&database, "bob");
    assert_eq!(lines[0], ":bob!~bob@[0::1] PRIVMSG apw :private hi");
    assert_eq!(lines.len(), 3);
    let said = run("bip", &source);
    assert!(
        said.contains("is there already, and left as it is"),
        "{said}"
    );
    assert!(
        said.contains("lines brought in 0, there already 3"),
        "{said}"
    );
    fs::write(
        log.join("bob.22.log"),
        old + "22-11-2026 02:42:48 < bob!b@h: one more\n",
    )
    .unwrap();
    let said = run("bip", &source);
    assert!(
        said.contains("lines brought in 1, there already 3"),
        "{said}"
    );
    assert_eq!(
        stored(&database, "bob").last().unwrap(),
        ":bob!b@h PRIVMSG apw :one more"
    );
}

#[test]
fn messages_of_soju_become_history_once() {
    let folder = tempfile::tempdir().unwrap();
    let source = soju(folder.path());
    let output = folder.path().join("carom.toml");
    for (added, known) in [(2, 0), (0, 2)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_carom"));
        command
            .args(["import", "soju"])
            .arg(&source)
            .arg("--output")
            .arg(&output);
        let done = command
            .env("STATE_DIRECTORY", folder.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", text(&done.stderr));
        let said = text(&done.stdout);
        assert!(
            said.contains(&format!("lines brought in {added}, there already {known}")),
            "{said}"
        );
    }
    let lines = stored(&folder.path().join("carom.db"), "carol");
    assert_eq!(
        lines,
        [
            ":carol!c@h PRIVMSG al2 :first",
            ":al2!a@h PRIVMSG carol :second"
        ]
    );
}

/// Runs `carom init` with these answers on its standard input.
fn init(folder: &Path, arguments: &[&str], answers: &str) -> Output {
    use std::io::Write;
    let mut command = Command::new(env!("CARGO_BIN_EXE_carom"));
    command
        .arg("init")
        .args(arguments)
        .args(["--config", "carom.toml"])
        .current_dir(folder)
        .env_remove("STATE_DIRECTORY")
        .env("XDG_STATE_HOME", folder.join("state"));
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have refused before it asked anything.
    _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn a_first_configuration_is_written_and_can_be_used() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let done = init(
        folder.path(),
        &[
            "--yes",
            "--user",
            "apw",
            "--network",
            "ircs://irc.oftc.net",
            "--channel",
            "#bip",
        ],
        "",
    );
    assert!(done.status.success(), "{}", text(&done.stderr));
    let said = text(&done.stdout);
    let password = said
        .lines()
        .find_map(|line| line.strip_prefix("password for apw: "))
        .unwrap();
    for needed in [
        "/server add bnc ",
        "apw/oftc@weechat",
        "apw/oftc@irssi",
        "apw/oftc@hexchat",
        "[servers.oftc]",
        password,
    ] {
        assert!(said.contains(needed), "{needed}: {said}");
    }
    let certificate = fs::read(folder.path().join("state/carom/certificate.pem")).unwrap();
    let der = rustls_pemfile::certs(&mut &certificate[..])
        .next()
        .unwrap()
        .unwrap();
    let digits: Vec<String> = <sha2::Sha256 as sha2::Digest>::digest(&der)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    for pin in [
        format!("tls_fingerprint {}\n", digits.concat()),
        format!("-tls_pinned_cert {} ", digits.join(":").to_uppercase()),
    ] {
        assert!(said.contains(&pin), "{pin}: {said}");
    }
    let path = folder.path().join("carom.toml");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let check = Command::new(env!("CARGO_BIN_EXE_carom"))
        .args(["check", "--offline", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", text(&check.stdout));
    let written = fs::read_to_string(&path).unwrap();
    let hash = written
        .lines()
        .find_map(|line| line.strip_prefix("password = "))
        .unwrap();
    assert!(carom::auth::hash::verify(
        password.as_bytes(),
        hash.trim_matches('"')
    ));
    // Not twice, unless that is wanted.
    let again = init(folder.path(), &["--yes"], "");
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("--force"));
    assert_eq!(fs::read_to_string(&path).unwrap(), written);
    assert!(
        init(folder.path(), &["--yes", "--force"], "")
            .status
            .success()
    );
    assert_ne!(fs::read_to_string(&path).unwrap(), written);
}

#[test]
fn what_is_not_given_is_asked_and_nonsense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let done = init(
        folder.path(),
        &["--nick", "ap"],
        "bob\nsecret word\nircs://[2001:db8::1]:7000\nhome\n",
    );
    assert!(done.status.success(), "{}", text(&done.stderr));
    let written = fs::read_to_string(folder.path().join("carom.toml")).unwrap();
    for line in [
        "name = \"bob\"",
        "nick = \"ap\"",
        "name = \"home\"",
        "servers = [\"ircs://[2001:db8::1]:7000\"]",
    ] {
        assert!(written.contains(line), "{line}: {written}");
    }
    assert!(!text(&done.stdout).contains("secret word"));
    for (answers, why) in [
        ("Bob!\n", "1 to 32 of a-z"),
        ("bob\n\nirc.oftc.net\n", "does not say how to connect"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let done = init(folder.path(), &["--nick", "ap"], answers);
        assert_eq!(done.status.code(), Some(1));
        assert!(text(&done.stderr).contains(why), "{}", text(&done.stderr));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
