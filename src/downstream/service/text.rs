//! How times, spans, sizes and stored lines are written, for people and for programs. What is written, the other files
//! decide.

use serde_json::Value;

use crate::control::Fields;
use crate::history::Entry;
use crate::wire::{Line, Timestamp};

use super::super::pages;
use super::out::fields;

/// How long ago, in the two largest units.
pub(super) fn span(since: Timestamp, now: Timestamp) -> String {
    seconds((now.millis() - since.millis()).max(0) / 1000)
}

/// A span in the two largest units.
pub(super) fn seconds(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// `1 channel`, `2 channels`
pub(super) fn count(n: u64, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// In the largest unit that it fills.
pub(super) fn bytes(n: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(size, _)| n >= *size) {
        Some((size, unit)) => format!("{}.{} {unit}", n / size, n % size * 10 / size),
        None => format!("{n} bytes"),
    }
}

/// `2026-11-22 08:00:00`, in UTC.
pub(super) fn time(time: Timestamp) -> String {
    exact(time)[..19].replace('T', " ")
}

/// `2026-11-22T08:00:00.000Z`
pub(super) fn exact(time: Timestamp) -> String {
    let mut written = Vec::new();
    time.write(&mut written);
    String::from_utf8_lossy(&written).into_owned()
}

/// A stored line as people read it, without time and target.
pub(super) fn said(entry: &Entry) -> String {
    let Ok(line) = Line::parse(&entry.line) else {
        return String::new();
    };
    let nick = lossy(line.nick());
    let text = line.param(1).unwrap_or_default();
    let action = text.strip_prefix(b"\x01ACTION ");
    match (line.command().to_ascii_uppercase().as_slice(), action) {
        (b"PRIVMSG", Some(action)) => {
            let action = action.strip_suffix(b"\x01").unwrap_or(action);
            format!("* {nick} {}", lossy(action))
        }
        (b"PRIVMSG", None) => format!("<{nick}> {}", lossy(text)),
        (b"NOTICE", _) => format!("-{nick}- {}", lossy(text)),
        _ => match pages::in_words(&line) {
            Some(words) => format!("*** {words}"),
            None => lossy(line.body()),
        },
    }
}

/// A stored line for programs.
pub(super) fn entry(entry: &Entry) -> Fields {
    let mut values = fields([
        ("time", exact(entry.time).into()),
        ("target", entry.target.to_text().into()),
    ]);
    let mut put = |name: &str, value: Value| _ = values.insert(name.to_owned(), value);
    if let Some(msgid) = &entry.msgid {
        put("msgid", lossy(msgid).into());
    }
    if let Ok(line) = Line::parse(&entry.line) {
        put("source", lossy(line.source()).into());
        put("command", lossy(line.command()).into());
        let params: Vec<String> = line.params().map(lossy).collect();
        put("params", params.into());
    }
    let tags = crate::state::sifted(&entry.tags);
    if !tags.is_empty() {
        put("tags", lossy(&tags).into());
    }
    values
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{EntryId, Kind};
    use crate::wire::{CaseMapping, Name};

    #[test]
    fn spans_sizes_and_counts_are_short() {
        for (n, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min"),
            (3_700, "1 h 1 min"),
            (200_000, "2 d 7 h"),
        ] {
            assert_eq!(seconds(n), text);
        }
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
        assert_eq!(
            (count(1, "line"), count(0, "line")),
            ("1 line".into(), "0 lines".into())
        );
        let at = Timestamp::parse(b"2026-11-22T08:09:10.123Z").unwrap();
        assert_eq!(time(at), "2026-11-22 08:09:10");
    }

    #[test]
    fn stored_lines_are_told_as_clients_show_them() {
        for (line, told) in [
            (":bob!b@h PRIVMSG #c :hello  there", "<bob> hello  there"),
            (":bob!b@h PRIVMSG #c :\x01ACTION waves\x01", "* bob waves"),
            (":bob!b@h NOTICE #c :psst", "-bob- psst"),
            (":bob!b@h JOIN #c", "*** bob joined"),
            (":bob!b@h QUIT :gone", "*** bob quit (gone)"),
            (":bob!b@h TAGMSG #c", ":bob!b@h TAGMSG #c"),
        ] {
            let stored = Entry {
                id: EntryId(1),
                target: Name::new(b"#c", CaseMapping::default()),
                time: Timestamp::from_millis(0),
                msgid: Some("m1".into()),
                kind: Kind::Message,
                again: false,
                tags: "+typing=done".into(),
                line: line.as_bytes().to_vec().into(),
            };
            assert_eq!(said(&stored), told);
            let values = entry(&stored);
            assert_eq!(values["time"], "1970-01-01T00:00:00.000Z");
            assert_eq!(values["source"], "bob!b@h");
            assert_eq!(values["msgid"], "m1");
            assert_eq!(values["tags"], "+typing=done");
        }
    }
}
