//! Single changes of a file, and whom each may disturb.

use super::*;
use crate::config::{Purpose, Surroundings, load_in};

const FILE: &str = r##"
[server]
name = "bnc.test"
listen = ["irc://[::1]:7000"]

[storage]
path = "/data/carom.db"

[history]
lines = 10

[dial]
timeout = "9s"

[[user]]
name = "apw"
nick = "apw"

[[user.network]]
name = "one"
servers = ["ircs://irc.test"]
nick = "one"
on_connect = ["MODE one +x"]

[[user.network.channel]]
name = "#a"

[[user.network]]
name = "two"
servers = ["ircs://irc2.test"]

[[user]]
name = "bob"
"##;

fn load(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("carom.toml");
    std::fs::write(&path, text).unwrap();
    let surroundings = Surroundings {
        host: "host.test".into(),
        ..Surroundings::default()
    };
    let (mut config, _) =
        load_in(&path, Purpose::Run, &surroundings).unwrap_or_else(|f| panic!("{f}"));
    config.path = "carom.toml".into();
    config
}

/// What is replaced, by what, and what is told of it.
#[rustfmt::skip] // a table: one row on one line
const MATRIX: &[(&str, &str, &[&str])] = &[
    ("name = \"#a\"\n", "name = \"#a\"\ndetached = true\n", &["network apw/one: channel"]),
    ("name = \"#a\"\n", "name = \"#a\"\ndetach_after = \"2h\"\nreattach_on = \"highlight\"\n", &["network apw/one: channel"]),
    ("nick = \"apw\"\n", "nick = \"apw\"\nhighlights = [\"carom\"]\n", &["user apw: highlights"]),
    ("nick = \"apw\"\n", "nick = \"apw\"\nown_messages = false\n", &["user apw: own_messages"]),
    ("name = \"bnc.test\"", "name = \"other.test\"", &["changes: server.name"]),
    ("[::1]:7000", "[::1]:7001", &["changes: server.listen"]),
    ("lines = 10", "lines = 20", &["changes: history.lines", "user apw: history", "user bob: history", "network apw/one: history, channel", "network apw/two: history"]),
    ("timeout = \"9s\"", "timeout = \"8s\"", &["changes: dial.timeout", "network apw/one: timeout", "network apw/two: timeout"]),
    ("timeout = \"9s\"", "timeout = \"9000ms\"", &[]),
    ("timeout = \"9s\"", "timeout = \"9s\"\nfamily = \"ipv4\"", &["changes: dial.family", "network apw/one: family; it connects anew", "network apw/two: family; it connects anew"]),
    ("timeout = \"9s\"", "timeout = \"9s\"\nreconnect = \"20s\"", &["changes: dial.reconnect"]),
    ("path = \"/data/carom.db\"", "path = \"/other/carom.db\"", &["changes: server.control, storage.path"]),
    ("nick = \"apw\"", "nick = \"zed\"", &["user apw: nick", "network apw/two: nick"]),
    ("nick = \"apw\"", "nick = \"apw\"\nadmin = true", &["user apw: admin"]),
    ("nick = \"apw\"", "nick = \"apw\"\nenabled = false", &["user apw: enabled"]),
    ("nick = \"apw\"", "nick = \"apw\"\nusername = \"u\"", &["user apw: username", "network apw/one: username; it connects anew", "network apw/two: username; it connects anew"]),
    ("nick = \"one\"", "nick = \"uno\"", &["network apw/one: nick"]),
    ("nick = \"one\"", "nick = \"one\"\nrealname = \"One\"", &["network apw/one: realname"]),
    ("nick = \"one\"", "nick = \"one\"\nenabled = false", &["network apw/one: enabled"]),
    ("nick = \"one\"", "nick = \"one\"\nenabled = false\npassword = \"x\"", &["network apw/one: enabled, password"]),
    ("nick = \"one\"", "nick = \"one\"\npassword = \"x\"", &["network apw/one: password; it connects anew"]),
    ("nick = \"one\"", "nick = \"one\"\nsource = [\"2001:db8::7\"]", &["network apw/one: source; it connects anew"]),
    ("nick = \"one\"", "nick = \"one\"\nproxy = \"socks5://[::1]:1080\"", &["network apw/one: proxy; it connects anew"]),
    ("nick = \"one\"", "nick = \"one\"\ntls = { verify = \"none\" }", &["network apw/one: tls; it connects anew"]),
    ("nick = \"one\"", "nick = \"one\"\nsasl = { account = \"a\", password = \"b\" }", &["network apw/one: sasl; it connects anew"]),
    ("nick = \"one\"", "nick = \"one\"\nflood = { burst = 3 }", &["network apw/one: flood"]),
    ("+x", "+y", &["network apw/one: on_connect"]),
    ("name = \"#a\"", "name = \"#b\"", &["network apw/one: channel"]),
    ("name = \"#a\"", "name = \"#a\"\nkey = \"k\"", &["network apw/one: channel"]),
    ("ircs://irc2.test", "ircs://irc2.test:7000", &["network apw/two: servers; it connects anew"]),
    ("name = \"two\"", "name = \"three\"", &["network apw/two: removed, its clients are closed", "network apw/three: new"]),
    ("name = \"bob\"", "name = \"eve\"", &["user bob: removed, its clients are closed", "user eve: new"]),
    ("[[user]]\nname = \"bob\"", "# nobody", &["user bob: removed, its clients are closed"]),
];

#[test]
fn each_change_disturbs_whom_it_must_and_nobody_else() {
    let old = load(FILE);
    for (from, to, told) in MATRIX {
        assert_eq!(FILE.matches(from).count(), 1, "{from}");
        let new = load(&FILE.replace(from, to));
        let diff = Diff::between(&old, &new);
        assert_eq!(diff.lines(), *told, "{from} -> {to}");
        let anew = told.iter().filter(|line| line.ends_with("anew"));
        assert_eq!(diff.reconnects().len(), anew.count(), "{from} -> {to}");
        assert_eq!(diff.is_empty(), told.is_empty());
        // And back.
        assert_eq!(Diff::between(&new, &old).is_empty(), told.is_empty());
    }
}

#[test]
fn where_things_stand_in_the_file_is_no_difference() {
    let old = load(FILE);
    let new = load(&format!("# A comment.\n\n\n{FILE}"));
    assert!(Diff::between(&old, &new).is_empty());
}

#[test]
fn what_waits_for_the_next_start_is_named() {
    let old = load(FILE);
    let text = FILE
        .replace("/data", "/other")
        .replace("bnc.test", "new.test");
    let diff = Diff::between(&old, &load(&text));
    assert_eq!(diff.at_start(), ["storage.path"]);
}
