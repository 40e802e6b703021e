//! The program as it is called: what it prints, where, and the code it ends with.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs carom in a folder of its own: exit code, standard output, standard error.
fn carom(folder: &Path, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_carom"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A folder with a `carom.toml`.
fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("carom.toml"), text).unwrap();
    folder
}

const GOOD: &str = "[storage]\npath = \"carom.db\"\n[[user]]\nname = \"apw\"\n";
const HIDDEN: &str = "[[user]]\nname = \"apw\"\npassword = \"<hidden>\"\n";
const WRONG: &str = "[server]\nlisen = \"*\"\n";

#[test]
fn check_ends_by_the_worst() {
    let check = |text: &str, options: &[&str]| {
        let arguments = [&["check", "--config", "carom.toml"], options].concat();
        let (code, out, err) = carom(folder(text).path(), &arguments, b"");
        assert_eq!(err, "");
        (code, out)
    };
    let good = check(GOOD, &["--offline"]);
    assert_eq!(good, (0, "carom.toml: good\n".into()));
    let (code, out) = check(HIDDEN, &["--offline"]);
    assert!(
        out.ends_with("carom.toml: can be used, 1 warning\n"),
        "{out}"
    );
    assert_eq!(code, 0);
    // What the host is like decides the rest; a warning about the file is one all the same.
    let (code, out) = check(HIDDEN, &[]);
    assert!(code == 1 || code == 2, "{out}");
    let wrong = "error: carom.toml:2: server.lisen: unknown key (did you mean listen?)\n\
                 carom.toml: refused, 1 error\n";
    assert_eq!(check(WRONG, &[]), (78, wrong.into()));
    assert_eq!(check(WRONG, &["--offline"]), (78, wrong.into()));
}

#[test]
fn check_speaks_json() {
    let arguments = ["check", "--config", "carom.toml", "--json"];
    let (code, out, _) = carom(folder(WRONG).path(), &arguments, b"");
    assert_eq!(code, 78);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let expected = serde_json::json!({"findings": [{
        "level": "error", "topic": "configuration", "message": "unknown key",
        "remedy": "did you mean listen?", "file": "carom.toml", "line": 2, "key": "server.lisen",
    }]});
    assert_eq!(told, expected);
    let arguments = [&arguments[..], &["--offline"]].concat();
    let (code, out, _) = carom(folder(GOOD).path(), &arguments, b"");
    assert_eq!((code, out.as_str()), (0, "{\n  \"findings\": []\n}\n"));
}

#[test]
fn run_refuses_what_check_refuses_and_hidden_secrets() {
    let run = ["run", "--config", "carom.toml"];
    let (code, out, err) = carom(folder(WRONG).path(), &run, b"");
    let expected = "error: carom.toml:2: server.lisen: unknown key (did you mean listen?)\n";
    assert_eq!((code, out.as_str(), err.as_str()), (78, "", expected));
    let (code, _, err) = carom(folder(HIDDEN).path(), &run, b"");
    assert_eq!(code, 78);
    assert!(
        err.contains("carom.toml:3: user.password: the secret is hidden here"),
        "{err}"
    );
    // Nothing of the kind is there, not even in the folder that is looked at last.
    let (code, _, err) = carom(folder(GOOD).path(), &["run", "--config", "other.toml"], b"");
    assert_eq!(code, 78);
    assert!(
        err.starts_with("error: other.toml: cannot be read: "),
        "{err}"
    );
}

#[test]
fn wrong_usage_is_64_and_help_is_0() {
    let folder = folder(GOOD);
    for arguments in [
        &[] as &[&str],
        &["walk"],
        &["run", "--no"],
        &["check", "x"],
        &["ctl"],
    ] {
        let (code, out, err) = carom(folder.path(), arguments, b"");
        assert_eq!((code, out.as_str()), (64, ""), "{arguments:?}");
        assert!(err.contains("Usage: carom"), "{err}");
    }
    for arguments in [&["--help"] as &[&str], &["--version"], &["ctl", "--help"]] {
        let (code, out, err) = carom(folder.path(), arguments, b"");
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
        assert!(!out.is_empty());
    }
}

#[test]
fn passwd_prints_the_hash_alone() {
    let folder = folder(GOOD);
    let hash = |input: &[u8]| {
        let (code, out, err) = carom(folder.path(), &["passwd"], input);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(
            out.starts_with("$argon2id$") && out.lines().count() == 1,
            "{out}"
        );
        out
    };
    // What it prints is what the file wants.
    let text = format!(
        "{GOOD}password = \"{}\"\n",
        hash("geh\u{e4}kelt\n".as_bytes()).trim_end()
    );
    let checked = self::folder(&text);
    let (code, out, _) = carom(
        checked.path(),
        &["check", "--offline", "--config", "carom.toml"],
        b"",
    );
    assert_eq!(code, 0, "{out}");
    hash(b"without an end of line");
    hash(&[b'x'; 512]);
    for (input, complaint) in [
        (
            &b"\n"[..],
            "error: the password is empty: write one of 1 to 512 bytes\n",
        ),
        (
            b"\xff\n",
            "error: the password is not UTF-8: invalid utf-8 sequence of 1 bytes from index 0\n",
        ),
        (
            &[b'x'; 513],
            "error: the password has 513 bytes: 512 is the most\n",
        ),
    ] {
        let (code, out, err) = carom(folder.path(), &["passwd"], input);
        assert_eq!((code, out.as_str(), err.as_str()), (1, "", complaint));
    }
}

#[test]
fn ctl_says_when_nobody_answers() {
    let folder = folder(GOOD);
    let (code, out, err) = carom(
        folder.path(),
        &["ctl", "--config", "carom.toml", "status"],
        b"",
    );
    assert_eq!((code, out.as_str()), (69, ""));
    assert!(
        err.starts_with("error: no daemon answers on ./control.sock: "),
        "{err}"
    );
    assert!(err.contains("carom run"), "{err}");
    let none = self::folder("[server]\ncontrol = \"\"\n");
    let (code, _, err) = carom(
        none.path(),
        &["ctl", "--config", "carom.toml", "status"],
        b"",
    );
    assert_eq!(code, 69);
    assert!(err.contains("server.control is \"\""), "{err}");
}
