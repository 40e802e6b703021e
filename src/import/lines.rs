//! A line of a text log becomes the IRC line it was written from, as far as the log still tells: notices that the log does not
//! tell from messages are messages. What is no line of a talk is skipped.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use crate::history::Kind;
use crate::wire::Timestamp;

/// How the lines of a log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `DD-MM-YYYY HH:MM:SS < nick!user@host: text`
    Bip,
    /// `[HH:MM:SS] <nick> text`; soju's files have it too.
    Znc,
}

/// A line that was said before carom was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// To the second.
    pub(super) time: Timestamp,
    pub(super) kind: Kind,
    pub(super) line: Vec<u8>,
}

/// Whose talk a file is.
#[derive(Debug)]
pub(super) struct Talk<'a> {
    /// The channel or the other person.
    pub(super) target: &'a [u8],
    /// Our nick, for lines to us.
    pub(super) me: &'a [u8],
    /// The day in the file's name.
    pub(super) day: (i16, i8, i8),
    pub(super) zone: &'a TimeZone,
}

impl Talk<'_> {
    /// Reads one line of a file.
    pub(super) fn read(&self, form: Form, raw: &[u8]) -> Option<Said> {
        let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
        let (seconds, rest) = match form {
            Form::Bip => self.bip_time(raw)?,
            Form::Znc => self.znc_time(raw)?,
        };
        let (kind, line) = match form {
            Form::Bip => self.bip(rest)?,
            Form::Znc => self.znc(rest)?,
        };
        let line: Vec<u8> = line
            .into_iter()
            .filter(|b| !matches!(b, 0 | b'\r' | b'\n'))
            .collect();
        let time = Timestamp::from_millis(seconds.checked_mul(1000)?);
        Some(Said { time, kind, line })
    }

    fn is_channel(&self) -> bool {
        self.target.first().is_some_and(|b| b"#&!+".contains(b))
    }

    fn bip_time<'l>(&self, raw: &'l [u8]) -> Option<(i64, &'l [u8])> {
        let (stamp, rest) = (raw.get(..20)?, raw.get(20..)?);
        let stamp = std::str::from_utf8(stamp).ok()?;
        let number = |at: usize, n: usize| stamp.get(at..at + n)?.parse::<i16>().ok();
        let small = |at: usize| i8::try_from(number(at, 2)?).ok();
        let date = Date::new(number(6, 4)?, small(3)?, small(0)?).ok()?;
        Some((self.instant(date, clock(stamp.get(11..19)?)?)?, rest))
    }

    fn znc_time<'l>(&self, raw: &'l [u8]) -> Option<(i64, &'l [u8])> {
        let stamp = raw.strip_prefix(b"[")?.get(..8)?;
        let rest = raw.get(9..)?.strip_prefix(b"] ")?;
        let (year, month, day) = self.day;
        let date = Date::new(year, month, day).ok()?;
        Some((
            self.instant(date, clock(std::str::from_utf8(stamp).ok()?)?)?,
            rest,
        ))
    }

    /// An hour that a change to summer time left out counts from before it; one that comes twice is the first.
    fn instant(&self, date: Date, time: Time) -> Option<i64> {
        let zoned = self
            .zone
            .to_ambiguous_zoned(date.to_datetime(time))
            .compatible()
            .ok()?;
        Some(zoned.timestamp().as_second())
    }

    fn bip(&self, rest: &[u8]) -> Option<(Kind, Vec<u8>)> {
        if let Some(event) = rest.strip_prefix(b"-!- ") {
            return Some((Kind::Event, self.bip_event(event)?));
        }
        let own = rest.starts_with(b"> ");
        let said = rest
            .strip_prefix(b"< ")
            .or_else(|| rest.strip_prefix(b"> "))?;
        let (source, text) = match said.strip_prefix(b"* ") {
            Some(action) => {
                let (source, text) = cut(action, b" ")?;
                (source, action_of(text))
            }
            // A host may have colons in it, a space it may not.
            None => {
                let (source, text) =
                    cut(said, b": ").or_else(|| Some((said.strip_suffix(b":")?, &b""[..])))?;
                (source, text.to_vec())
            }
        };
        Some((Kind::Message, self.message(source, own, b"PRIVMSG", &text)))
    }

    fn bip_event(&self, event: &[u8]) -> Option<Vec<u8>> {
        let target = self.target;
        let (source, rest) = cut(event, b" ")?;
        let reason = |tail: &[u8]| -> Vec<u8> {
            let inner = tail.strip_prefix(b" [").and_then(|t| t.strip_suffix(b"]"));
            inner.map_or_else(Vec::new, |reason| [b" :", reason].concat())
        };
        if rest.strip_prefix(b"has joined ").is_some() {
            return Some(event_of(source, &[b"JOIN ", target]));
        }
        if let Some(tail) = rest.strip_prefix(b"has left ") {
            let tail = tail.strip_prefix(target).unwrap_or_default();
            return Some(event_of(source, &[b"PART ", target, &reason(tail)]));
        }
        if let Some(tail) = rest.strip_prefix(b"has quit") {
            return Some(event_of(source, &[b"QUIT", &reason(tail)]));
        }
        if let Some(nick) = rest.strip_prefix(b"is now known as ") {
            return Some(event_of(source, &[b"NICK :", nick]));
        }
        if let Some(tail) = rest.strip_prefix(b"has been kicked by ") {
            let (by, tail) = cut(tail, b" ").unwrap_or((tail, b""));
            let why = reason(&[b" ", tail].concat());
            return Some(event_of(by, &[b"KICK ", target, b" ", source, &why]));
        }
        if let Some(tail) = rest.strip_prefix(b"changed topic of ") {
            let (_, topic) = cut(tail, b" to: ")?;
            return Some(event_of(source, &[b"TOPIC ", target, b" :", topic]));
        }
        if source.starts_with(b"mode/") {
            let (modes, by) = cut(rest.strip_prefix(b"[")?, b"] by ")?;
            return Some(event_of(by, &[b"MODE ", target, b" ", modes]));
        }
        None
    }

    fn znc(&self, rest: &[u8]) -> Option<(Kind, Vec<u8>)> {
        if let Some(event) = rest.strip_prefix(b"*** ") {
            return Some((Kind::Event, self.znc_event(event)?));
        }
        let (source, command, text): (&[u8], &[u8], Vec<u8>) =
            if let Some(said) = rest.strip_prefix(b"<") {
                let (nick, text) =
                    cut(said, b"> ").or_else(|| Some((said.strip_suffix(b">")?, &b""[..])))?;
                (nick, b"PRIVMSG", text.to_vec())
            } else if let Some(action) = rest.strip_prefix(b"* ") {
                let (nick, text) = cut(action, b" ")?;
                (nick, b"PRIVMSG", action_of(text))
            } else {
                let (nick, text) = cut(rest.strip_prefix(b"-")?, b"- ")?;
                (nick, b"NOTICE", text.to_vec())
            };
        let own = !self.is_channel() && !source.eq_ignore_ascii_case(self.target);
        Some((Kind::Message, self.message(source, own, command, &text)))
    }

    fn znc_event(&self, event: &[u8]) -> Option<Vec<u8>> {
        let target = self.target;
        for (word, command) in [
            (&b"Joins: "[..], &b"JOIN"[..]),
            (b"Parts: ", b"PART"),
            (b"Quits: ", b"QUIT"),
        ] {
            let Some(who) = event.strip_prefix(word) else {
                continue;
            };
            let (nick, tail) = cut(who, b" (")?;
            let (mask, tail) = cut(tail, b")")?;
            let source = [nick, b"!", mask].concat();
            let reason = tail
                .strip_prefix(b" (")
                .and_then(|t| t.strip_suffix(b")"))
                .filter(|r| !r.is_empty());
            let reason = reason.map_or_else(Vec::new, |reason| [b" :", reason].concat());
            return Some(match command {
                b"QUIT" => event_of(&source, &[b"QUIT", &reason]),
                b"JOIN" => event_of(&source, &[b"JOIN ", target]),
                _ => event_of(&source, &[command, b" ", target, &reason]),
            });
        }
        let (nick, rest) = cut(event, b" ")?;
        if let Some(new) = rest.strip_prefix(b"is now known as ") {
            return Some(event_of(nick, &[b"NICK :", new]));
        }
        if let Some(tail) = rest.strip_prefix(b"was kicked by ") {
            let (by, tail) = cut(tail, b" (").unwrap_or((tail, b")"));
            let reason = tail.strip_suffix(b")").unwrap_or(tail);
            return Some(event_of(by, &[b"KICK ", target, b" ", nick, b" :", reason]));
        }
        if let Some(modes) = rest.strip_prefix(b"sets mode: ") {
            let modes = modes.trim_ascii();
            return (modes != b"+" && !modes.is_empty())
                .then(|| event_of(nick, &[b"MODE ", target, b" ", modes]));
        }
        let topic = rest.strip_prefix(b"changes topic to '")?;
        Some(event_of(
            nick,
            &[
                b"TOPIC ",
                target,
                b" :",
                topic.strip_suffix(b"'").unwrap_or(topic),
            ],
        ))
    }

    fn message(&self, source: &[u8], own: bool, command: &[u8], text: &[u8]) -> Vec<u8> {
        let to = if self.is_channel() || own {
            self.target
        } else {
            self.me
        };
        [b":", source, b" ", command, b" ", to, b" :", text].concat()
    }
}

fn event_of(source: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    [b":", source, b" ", parts.concat().as_slice()].concat()
}

fn action_of(text: &[u8]) -> Vec<u8> {
    [b"\x01ACTION ", text, b"\x01"].concat()
}

fn clock(text: &str) -> Option<Time> {
    let number = |at: usize| text.get(at..at + 2)?.parse::<i8>().ok();
    // A leap second is the last one before it.
    Time::new(number(0)?, number(3)?, number(6)?.min(59), 0).ok()
}

/// What stands before and after the first `by`.
fn cut<'a>(text: &'a [u8], by: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = memchr::memmem::find(text, by)?;
    Some((&text[..at], &text[at + by.len()..]))
}
