//! A line and a view become bytes. The only place that writes tags towards clients, used for live lines
//! and for lines read back from the log alike: late is byte-equal to live.

use crate::wire::{Cap, Line, Tags};

use super::turn::{Shown, View};
use super::{compound, feature, own_talks, record};

/// All tags of a line take so much at most, with `@` and the space behind them.
const MAX_TAGS: usize = 8191;

/// What a line wears beside its own content.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dress<'a> {
    /// The label of the question it answers, escaped.
    pub label: Option<&'a [u8]>,
    /// The batch it belongs to.
    pub batch: Option<&'a [u8]>,
    /// Text put before what is said, for clients without server-time.
    pub stamp: &'a [u8],
}

/// Appends the line with its line end, or the lines of a message that has several; appends nothing when it is
/// not for such a client.
pub fn encode(shown: &Shown, view: View, dress: Dress<'_>, out: &mut Vec<u8>) {
    if !compound::encode(shown, view, dress, out) {
        encode_one(shown, view, dress, out);
    }
}

/// Appends one line.
pub(super) fn encode_one(shown: &Shown, view: View, dress: Dress<'_>, out: &mut Vec<u8>) {
    let Ok(line) = Line::parse(&shown.line) else {
        return;
    };
    let start = out.len();
    write_tags(shown, &line, view, dress, out);
    let body = out.len();
    let words = own_talks::in_words(shown, &line, view);
    let line = match words.as_deref().map(Line::parse) {
        Some(Ok(told)) => told,
        _ => line,
    };
    match feature::form(line.command(), view) {
        Some(form) => (form.write)(&line, view, out),
        None if dress.stamp.is_empty() => out.extend_from_slice(line.raw()),
        None => write_stamped(&line, dress.stamp, out),
    }
    if out.len() == body {
        out.truncate(start);
    } else {
        out.extend_from_slice(b"\r\n");
    }
}

fn write_tags(shown: &Shown, line: &Line<'_>, view: View, dress: Dress<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    if let Some(label) = dress.label
        && view.caps.has(Cap::LabeledResponse)
    {
        write_tag(b"label", label, start, out);
    }
    if let Some(batch) = dress.batch
        && view.caps.has(Cap::Batch)
    {
        write_tag(b"batch", batch, start, out);
    }
    // A numeric is an answer, not an event: nobody needs to know when it happened.
    if view.caps.has(Cap::ServerTime) && line.numeric().is_none() {
        open_tag(b"time", start, out);
        shown.time.write(out);
    }
    if view.caps.has(Cap::MessageTags)
        && let Some(msgid) = &shown.msgid
    {
        open_tag(b"msgid", start, out);
        crate::wire::tags::escape(msgid, out);
    }
    for (key, value) in Tags::new(&shown.tags) {
        let wanted = match key {
            b"account" => view.caps.has(Cap::AccountTag),
            compound::LINES | record::BY | own_talks::OWN => false,
            compound::JOINED => view.caps.has(Cap::Multiline),
            _ => view.caps.has(Cap::MessageTags),
        };
        // Whole tags are left out, never cut.
        let fits = out.len() - start + key.len() + value.len() + 3 <= MAX_TAGS;
        if wanted && fits {
            write_tag(key, value, start, out);
        }
    }
    if out.len() > start {
        out.push(b' ');
    }
}

fn open_tag(key: &[u8], start: usize, out: &mut Vec<u8>) {
    out.push(if out.len() == start { b'@' } else { b';' });
    out.extend_from_slice(key);
    out.push(b'=');
}

/// `value` is escaped already. A missing value must not become an empty one.
fn write_tag(key: &[u8], value: &[u8], start: usize, out: &mut Vec<u8>) {
    open_tag(key, start, out);
    if value.is_empty() {
        out.pop();
    }
    out.extend_from_slice(value);
}

/// A message with its time in its text: before it, or inside an ACTION.
fn write_stamped(line: &Line<'_>, stamp: &[u8], out: &mut Vec<u8>) {
    const ACTION: &[u8] = b"\x01ACTION ";
    let Some(text) = line
        .param(1)
        .filter(|_| line.is(b"PRIVMSG") || line.is(b"NOTICE"))
    else {
        return out.extend_from_slice(line.raw());
    };
    let (before, after) = match text.strip_prefix(ACTION) {
        Some(after) => (ACTION, after),
        None => (&b""[..], text),
    };
    let tail = line.rest(1).len();
    out.extend_from_slice(&line.raw()[..line.raw().len() - tail]);
    for part in [b":", before, stamp, after] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{CapSet, Timestamp};
    use bytes::Bytes;

    fn form(line: &str, tags: &str, caps: &[Cap], stamp: &str) -> String {
        let shown = Shown {
            time: Timestamp::from_millis(1_767_340_805_010),
            msgid: Some(Bytes::from_static(b"m1")),
            tags: Bytes::copy_from_slice(tags.as_bytes()),
            line: Bytes::copy_from_slice(line.as_bytes()),
        };
        let view = View::of(caps.iter().copied().collect::<CapSet>());
        let mut out = Vec::new();
        encode(
            &shown,
            view,
            Dress {
                stamp: stamp.as_bytes(),
                ..Dress::default()
            },
            &mut out,
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_client_gets_the_tags_it_asked_for_and_no_other() {
        let line = ":a!b@c PRIVMSG #x :hi";
        let tags = "account=bob;+draft/reply=q;bot";
        assert_eq!(form(line, tags, &[], ""), ":a!b@c PRIVMSG #x :hi\r\n");
        assert_eq!(
            form(line, tags, &[Cap::ServerTime], ""),
            "@time=2026-01-02T08:00:05.010Z :a!b@c PRIVMSG #x :hi\r\n"
        );
        assert_eq!(
            form(line, tags, &[Cap::AccountTag], ""),
            "@account=bob :a!b@c PRIVMSG #x :hi\r\n"
        );
        assert_eq!(
            form(line, tags, &[Cap::MessageTags], ""),
            "@msgid=m1;+draft/reply=q;bot :a!b@c PRIVMSG #x :hi\r\n"
        );
    }

    #[test]
    fn rule_47_tags_that_do_not_fit_are_left_out_whole() {
        let long = format!("+a={};+b={};+c=c", "x".repeat(4000), "y".repeat(4200));
        let told = form("PING", &long, &[Cap::MessageTags, Cap::ServerTime], "");
        assert!(told.contains(";+a=xx") && told.ends_with("x;+c=c PING\r\n"));
        // To the last byte.
        let room = MAX_TAGS - "@time=2026-01-02T08:00:05.010Z;msgid=m1;+a= ".len();
        for (more, is_there) in [(0, true), (1, false)] {
            let tags = format!("+a={}", "x".repeat(room + more));
            let told = form("PING", &tags, &[Cap::MessageTags, Cap::ServerTime], "");
            assert_eq!(told.contains("+a="), is_there);
            assert!(told.len() <= MAX_TAGS + "PING\r\n".len());
        }
    }

    #[test]
    fn lines_without_their_capability_are_left_out_or_cut() {
        assert_eq!(form(":a!b@c AWAY :gone", "", &[], ""), "");
        assert_eq!(
            form(":a!b@c AWAY :gone", "", &[Cap::AwayNotify], ""),
            ":a!b@c AWAY :gone\r\n"
        );
        assert_eq!(
            form(":a!b@c JOIN #x acc :Real", "", &[], ""),
            ":a!b@c JOIN #x\r\n"
        );
        assert_eq!(form("@+typing=active :a!b@c TAGMSG #x", "", &[], ""), "");
    }

    #[test]
    fn a_stamp_stands_before_the_text_and_inside_an_action() {
        assert_eq!(
            form(":a!b@c PRIVMSG #x hi", "", &[], "[1] "),
            ":a!b@c PRIVMSG #x :[1] hi\r\n"
        );
        assert_eq!(
            form(":a!b@c PRIVMSG #x :\x01ACTION waves\x01", "", &[], "[1] "),
            ":a!b@c PRIVMSG #x :\x01ACTION [1] waves\x01\r\n"
        );
    }
}
