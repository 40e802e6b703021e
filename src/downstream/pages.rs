//! Readings of the log as a client gets them: replayed lines in a batch or with the time in their text,
//! late lines just as live ones.

use bytes::Bytes;

use crate::history::{Entry, EntryId, Ids, Kind, Only};
use crate::state::forms::{self, Dress};
use crate::state::{Page, Plan, Shown, View, is_said_by};
use crate::wire::{Cap, Line, LineBuilder, Name, Timestamp};

use super::labelled::{write_line, write_own};
use super::stamp::Stamper;

/// So many lines are read at a time.
pub(super) const LINES: usize = 256;

/// What a reading is for, and so what stands around its lines.
pub(super) enum Style {
    /// What the client missed. Events are told in words: as lines they would change the roster that the client has
    /// just been given.
    Missed,
    /// The answer to CHATHISTORY and its label: one batch, also when it is empty.
    History(Option<Bytes>),
    /// Playback, within a batch or not.
    Playback(Option<String>),
}

/// A line in the form of a live one.
pub(super) fn write_dressed(entry: Entry, view: View, dress: Dress<'_>, out: &mut Vec<u8>) {
    forms::encode(&shown(entry), view, dress, out);
}

/// Whether a name begins with one of these bytes.
pub(super) fn begins_with(name: &Name, sigils: &[u8]) -> bool {
    name.as_bytes().first().is_some_and(|b| sigils.contains(b))
}

/// A line of a private talk as it would be now: clients tell by our nick whose window it belongs into.
fn under_nick(line: &Bytes, target: &Name, own: &[u8]) -> Option<Bytes> {
    let parsed = Line::parse(line).ok()?;
    let whom = parsed.param(0)?;
    if target.is(own) {
        return None;
    }
    let (source, whom) = if target.is(parsed.nick()) {
        (parsed.source().to_vec(), own)
    } else {
        let rest = &parsed.source()[parsed.nick().len()..];
        ([own, rest].concat(), whom)
    };
    let head = [b":", &source[..], b" ", parsed.command(), b" ", whom];
    let mut out = head.concat();
    if parsed.param_count() > 1 {
        out.push(b' ');
        out.extend_from_slice(parsed.rest(1));
    }
    Some(out.into())
}

/// A message of several lines as several entries; any other as it is.
pub(super) fn unfolded(entry: Entry) -> impl Iterator<Item = Entry> {
    let lines = crate::state::unfolded(&shown(entry.clone()));
    lines.into_iter().map(move |line| Entry {
        line,
        ..entry.clone()
    })
}

fn shown(entry: Entry) -> Shown {
    Shown {
        time: entry.time,
        msgid: entry.msgid,
        tags: entry.tags,
        line: entry.line,
    }
}

/// A replay under way.
pub(super) struct Replay<'a> {
    pub(super) plan: Plan,
    view: View,
    server: &'a [u8],
    batch: String,
    style: Style,
    next: Option<Ids>,
    begun: bool,
}

impl<'a> Replay<'a> {
    pub(super) fn new(plan: Plan, view: View, server: &'a [u8], number: u64, style: Style) -> Self {
        let range = Ids {
            first: plan.after.next(),
            last: plan.through,
        };
        Self {
            plan,
            view,
            server,
            batch: format!("replay{number}"),
            style,
            next: Some(range),
            begun: false,
        }
    }

    pub(super) fn kinds(&self) -> Only {
        if self.plan.only_messages {
            Only::Messages
        } else {
            Only::All
        }
    }

    /// The next range to read.
    pub(super) fn next(&self) -> Option<Ids> {
        self.next
    }

    /// Writes a page. Returns what the client has once it has read it.
    pub(super) fn write(&mut self, page: Vec<Entry>, now: Timestamp, out: &mut Vec<u8>) -> Page {
        let last = page.last().filter(|_| page.len() == LINES);
        let last = last.map(|entry| entry.id);
        self.write_page(page, last, now, out)
    }

    /// The same, when more may follow after `last`.
    pub(super) fn write_page(
        &mut self,
        mut page: Vec<Entry>,
        last: Option<EntryId>,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) -> Page {
        if let Some(name) = &self.plan.not_by {
            page.retain(|entry| !is_said_by(&entry.tags, name));
        }
        if !page.is_empty() || matches!(self.style, Style::History(_)) {
            self.begin(now, out);
        }
        // A client with server-time needs no times in its text.
        let plain = !self.view.caps.has(Cap::ServerTime);
        let mut stamper = plain.then(|| Stamper::new(&self.plan.timestamps, now));
        for entry in page {
            let stamp = stamper.as_mut().map_or("", |s| s.text(entry.time));
            self.write_entry(entry, stamp, out);
        }
        self.next = last.filter(|id| *id < self.plan.through).map(|id| Ids {
            first: id.next(),
            last: self.plan.through,
        });
        let through = match self.next {
            Some(rest) => rest.first.before(),
            None => {
                self.end(now, out);
                self.plan.through
            }
        };
        Page {
            target: self.plan.target.clone(),
            through,
        }
    }

    fn batched(&self) -> bool {
        self.view.caps.has(Cap::Batch)
    }

    /// A client without either has no other way of telling old lines from new ones.
    fn needs_banner(&self) -> bool {
        let missed = matches!(self.style, Style::Missed);
        missed && !self.batched() && !self.view.caps.has(Cap::ServerTime)
    }

    fn begin(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        if self.batched() {
            let line = LineBuilder::from(self.server, b"BATCH")
                .param(format!("+{}", self.batch).as_bytes());
            let kind: &[u8] = match &self.style {
                Style::Missed | Style::History(_) => b"chathistory",
                Style::Playback(_) => b"znc.in/playback",
            };
            let line = line.param(kind).param(self.plan.target.as_bytes());
            let line = self.own(line, now);
            match &self.style {
                Style::History(Some(label)) => write_line(b"label=", label, &line, out),
                Style::Playback(Some(outer)) => write_line(b"batch=", outer.as_bytes(), &line, out),
                _ => out.extend(line),
            }
        } else if self.needs_banner() {
            self.banner(b"-- missed lines --", out);
        }
    }

    fn end(&self, now: Timestamp, out: &mut Vec<u8>) {
        if !self.begun {
            return;
        }
        if self.batched() {
            let line = LineBuilder::from(self.server, b"BATCH")
                .param(format!("-{}", self.batch).as_bytes());
            let line = self.own(line, now);
            match &self.style {
                Style::Playback(Some(outer)) => write_line(b"batch=", outer.as_bytes(), &line, out),
                _ => out.extend(line),
            }
        } else if self.needs_banner() {
            self.banner(b"-- end of missed lines --", out);
        }
    }

    fn own(&self, line: LineBuilder, now: Timestamp) -> Vec<u8> {
        let mut out = Vec::new();
        write_own(&line.build(), self.view, now, &mut out);
        out
    }

    /// A word of ours in the target's window. For a person's it would open one of the server's: none there.
    fn banner(&self, text: &[u8], out: &mut Vec<u8>) {
        let target = self.plan.target.as_bytes();
        if target.first().is_some_and(|b| !b.is_ascii_alphanumeric()) {
            out.extend(finished(
                LineBuilder::from(self.server, b"NOTICE")
                    .param(target)
                    .trailing(text),
            ));
        }
    }

    fn write_entry(&self, entry: Entry, stamp: &str, out: &mut Vec<u8>) {
        let kind = entry.kind;
        let mut shown = shown(entry);
        if let Some(own) = &self.plan.own
            && let Some(line) = under_nick(&shown.line, &self.plan.target, own)
        {
            shown.line = line;
        }
        if kind == Kind::Event
            && matches!(self.style, Style::Missed)
            && !is_about_messages(&shown.line)
        {
            let Some(told) = tell(&shown.line, self.server, self.plan.target.as_bytes()) else {
                return;
            };
            shown.line = told.into();
        }
        let batch = self.batched().then_some(self.batch.as_bytes());
        forms::encode(
            &shown,
            self.view,
            Dress {
                batch,
                stamp: stamp.as_bytes(),
                ..Dress::default()
            },
            out,
        );
    }
}

/// A line of ours in the form of bytes to write.
fn finished(line: LineBuilder) -> Vec<u8> {
    let mut bytes = line.build().to_vec();
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Whether an event belongs to messages, not to the roster: it is replayed as it is, to whoever knows of it.
fn is_about_messages(line: &[u8]) -> bool {
    let about = |line: Line<'_>| line.is(b"TAGMSG") || line.is(b"REDACT");
    Line::parse(line).is_ok_and(about)
}

/// An event of the past in words. As a line it would change the roster that the client has just been given.
fn tell(line: &[u8], server: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let told = in_words(&Line::parse(line).ok()?)?;
    Some(
        LineBuilder::from(server, b"NOTICE")
            .param(target)
            .trailing(told.as_bytes())
            .build()
            .to_vec(),
    )
}

/// What an event was, for people.
pub(super) fn in_words(line: &Line<'_>) -> Option<String> {
    let nick = String::from_utf8_lossy(line.nick()).into_owned();
    let text = |n| String::from_utf8_lossy(line.param(n).unwrap_or_default()).into_owned();
    let reason = |n| {
        Some(text(n))
            .filter(|r| !r.is_empty())
            .map_or(String::new(), |r| format!(" ({r})"))
    };
    let told = match line.command().to_ascii_uppercase().as_slice() {
        b"JOIN" => format!("{nick} joined"),
        b"PART" => format!("{nick} left{}", reason(1)),
        b"QUIT" => format!("{nick} quit{}", reason(0)),
        b"NICK" => format!("{nick} is now {}", text(0)),
        b"KICK" => format!("{nick} kicked {}{}", text(1), reason(2)),
        b"TOPIC" => format!("{nick} changed the topic to: {}", text(1)),
        b"MODE" => {
            let modes = line
                .params()
                .skip(1)
                .map(String::from_utf8_lossy)
                .collect::<Vec<_>>();
            format!("{nick} set modes {}", modes.join(" "))
        }
        _ => return None,
    };
    Some(told)
}
