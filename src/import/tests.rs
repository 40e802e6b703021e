//! Lines of logs as the programs write them, and configurations that are not whole.

use jiff::tz::TimeZone;

use super::lines::{Form, Talk};
use super::*;

fn read(form: Form, target: &str, raw: &str) -> Option<String> {
    let talk = Talk {
        target: target.as_bytes(),
        me: b"me",
        day: (2026, 11, 22),
        zone: &TimeZone::UTC,
    };
    let said = talk.read(form, raw.as_bytes())?;
    let line = String::from_utf8(said.line).unwrap();
    let mut time = Vec::new();
    said.time.write(&mut time);
    assert_eq!(&time[..10], b"2026-11-22");
    Some(line)
}

#[test]
fn lines_of_bip_become_what_they_were() {
    let cases = [
        (
            "#c",
            "< bob!~b@[0::1]: a: b",
            ":bob!~b@[0::1] PRIVMSG #c :a: b",
        ),
        (
            "#c",
            "< * bob!~b@h waves",
            ":bob!~b@h PRIVMSG #c :\x01ACTION waves\x01",
        ),
        ("#c", "> apw: own", ":apw PRIVMSG #c :own"),
        ("#c", "> * apw owns", ":apw PRIVMSG #c :\x01ACTION owns\x01"),
        ("bob", "< bob!b@h: hi", ":bob!b@h PRIVMSG me :hi"),
        ("bob", "> apw: ho", ":apw PRIVMSG bob :ho"),
        ("#c", "-!- bob!b@h has joined #c", ":bob!b@h JOIN #c"),
        (
            "#c",
            "-!- bob!b@h has left #c [bye]",
            ":bob!b@h PART #c :bye",
        ),
        ("#c", "-!- bob!b@h has left #c", ":bob!b@h PART #c"),
        (
            "#c",
            "-!- bob!b@h has quit [\"gone\"]",
            ":bob!b@h QUIT :\"gone\"",
        ),
        ("#c", "-!- bob is now known as bobby", ":bob NICK :bobby"),
        (
            "#c",
            "-!- bob has been kicked by al!a@h [out]",
            ":al!a@h KICK #c bob :out",
        ),
        (
            "#c",
            "-!- al!a@h changed topic of #c to: new: topic",
            ":al!a@h TOPIC #c :new: topic",
        ),
        (
            "#c",
            "-!- mode/#c [+o bob] by al!a@h",
            ":al!a@h MODE #c +o bob",
        ),
    ];
    for (target, raw, line) in cases {
        let raw = format!("22-11-2026 02:42:45 {raw}");
        assert_eq!(
            read(Form::Bip, target, &raw).as_deref(),
            Some(line),
            "{raw}"
        );
    }
    for raw in [
        "",
        "22-11-2026",
        "22-13-2026 02:42:45 < bob: x",
        "22-11-2026 02:42:45 -!- Topic for #c: x",
    ] {
        assert_eq!(read(Form::Bip, "#c", raw), None, "{raw}");
    }
}

#[test]
fn lines_of_znc_become_what_they_were() {
    let cases = [
        ("#c", "<bob> a> b", ":bob PRIVMSG #c :a> b"),
        ("#c", "* bob waves", ":bob PRIVMSG #c :\x01ACTION waves\x01"),
        ("#c", "-bob- notice", ":bob NOTICE #c :notice"),
        ("bob", "<bob> hi", ":bob PRIVMSG me :hi"),
        ("bob", "<apw> ho", ":apw PRIVMSG bob :ho"),
        ("#c", "*** Joins: bob (~b@[0::1])", ":bob!~b@[0::1] JOIN #c"),
        ("#c", "*** Parts: bob (b@h) (bye)", ":bob!b@h PART #c :bye"),
        (
            "#c",
            "*** Quits: bob (b@h) (\"gone\")",
            ":bob!b@h QUIT :\"gone\"",
        ),
        ("#c", "*** bob is now known as bobby", ":bob NICK :bobby"),
        (
            "#c",
            "*** bob was kicked by al (out)",
            ":al KICK #c bob :out",
        ),
        ("#c", "*** al sets mode: +o bob", ":al MODE #c +o bob"),
        ("#c", "*** al changes topic to 'it's'", ":al TOPIC #c :it's"),
    ];
    for (target, raw, line) in cases {
        let raw = format!("[02:42:45] {raw}");
        assert_eq!(
            read(Form::Znc, target, &raw).as_deref(),
            Some(line),
            "{raw}"
        );
    }
    for raw in [
        "[02:43:48] Connected to IRC (::1 16667)",
        "[02:43:53] *** Server sets mode: + ",
        "02:43",
    ] {
        assert_eq!(read(Form::Znc, "#c", raw), None, "{raw}");
    }
}

#[test]
fn what_is_wrong_with_a_configuration_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("conf");
    let error = |origin: Origin, text: &str| {
        std::fs::write(&path, text).unwrap();
        let error = origin.read(&path).unwrap_err().to_string();
        error
            .replace(folder.path().to_str().unwrap(), "")
            .trim_start_matches('/')
            .to_owned()
    };
    assert_eq!(
        error(Origin::Bip, "port = 1;\nuser {\n"),
        "conf:2: the section user that begins here never ends"
    );
    assert_eq!(error(Origin::Bip, "port = ;"), "conf:1: port has no value");
    assert_eq!(
        error(Origin::Bip, "};"),
        "conf:1: there is no section that this } could end"
    );
    assert_eq!(
        error(Origin::Bip, "x = \"a\nb"),
        "conf:1: a string that begins here never ends"
    );
    assert_eq!(
        error(Origin::Znc, "<User a>\n"),
        "conf:1: the section <User a> that begins here never ends"
    );
    assert!(error(Origin::Znc, "<User a>\n</Network>").starts_with("conf:2:"));
    assert!(error(Origin::Znc, "nonsense").contains("neither a section nor key = value"));
    assert!(error(Origin::Soju, "nonsense").contains("not a database"));
}
