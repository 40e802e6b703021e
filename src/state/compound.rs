//! A message of several lines (draft/multiline) as one line of the log: the first line is its text, the others
//! stand in a tag of ours, which no server and no client gets to see. Here they are written: as a batch
//! for clients that know such messages, as one line after the other for all others.

use bytes::Bytes;

use crate::wire::{Cap, Line, LineBuilder, Tags, tags};

use super::forms::{self, Dress};
use super::own_talks;
use super::record;
use super::turn::{Shown, View};

/// The tag with the other lines.
pub(super) const LINES: &[u8] = crate::history::OTHER_LINES;

/// The tag of a line that goes on where the one before it ended.
pub(super) const JOINED: &[u8] = b"draft/multiline-concat";

/// One line of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Whether it goes on where the one before it ended, in the same line of text.
    pub(super) joined: bool,
    pub(super) text: Vec<u8>,
}

/// The value of the tag for all pieces but the first, escaped.
pub(super) fn packed(pieces: &[Piece]) -> Vec<u8> {
    let mut value = Vec::new();
    for piece in pieces.iter().skip(1) {
        value.push(if piece.joined { b'\r' } else { b'\n' });
        value.extend_from_slice(&piece.text);
    }
    let mut escaped = Vec::with_capacity(value.len() + 8);
    tags::escape(&value, &mut escaped);
    escaped
}

/// The other lines of a message, if it has any.
fn others(stored: &[u8]) -> Option<Vec<Piece>> {
    if stored.is_empty() {
        return None;
    }
    let value = Tags::new(stored).get(LINES)?;
    let mut pieces: Vec<Piece> = Vec::new();
    for &byte in value.iter() {
        match byte {
            b'\n' | b'\r' => pieces.push(Piece {
                joined: byte == b'\r',
                text: Vec::new(),
            }),
            _ => {
                if let Some(piece) = pieces.last_mut() {
                    piece.text.push(byte);
                }
            }
        }
    }
    Some(pieces)
}

/// The lines of a message, for whoever knows no messages of several lines: one for nearly all. Those that say nothing are
/// left out.
pub fn unfolded(shown: &Shown) -> Vec<Bytes> {
    let (Some(others), Ok(line)) = (others(&shown.tags), Line::parse(&shown.line)) else {
        return vec![shown.line.clone()];
    };
    let (source, command) = (line.source(), line.command());
    let target = line.param(0).unwrap_or_default();
    let others = others.into_iter().filter(|piece| !piece.text.is_empty());
    let built = others.map(|piece| {
        let line = LineBuilder::from(source, command).param(target);
        line.trailing(&piece.text).build()
    });
    std::iter::once(shown.line.clone()).chain(built).collect()
}

/// Appends a message of several lines. False: it is an ordinary one.
pub(super) fn encode(shown: &Shown, view: View, dress: Dress<'_>, out: &mut Vec<u8>) -> bool {
    let Some(others) = others(&shown.tags) else {
        return false;
    };
    let Ok(line) = Line::parse(&shown.line) else {
        return false;
    };
    let first = Piece {
        joined: false,
        text: line.param(1).unwrap_or_default().to_vec(),
    };
    let pieces = std::iter::once(first).chain(others);
    let batched = view.caps.has(Cap::Multiline) && view.caps.has(Cap::Batch);
    if batched && !own_talks::is_for_words(shown, view) {
        write_batch(shown, &line, pieces, view, dress, out);
    } else {
        write_lines(shown, &line, pieces, view, dress, out);
    }
    true
}

fn message(line: &Line<'_>, text: &[u8]) -> Bytes {
    LineBuilder::from(line.source(), line.command())
        .param(line.param(0).unwrap_or_default())
        .trailing(text)
        .build()
}

/// What makes the message one stands at the batch; its lines have but their time.
fn write_batch(
    shown: &Shown,
    line: &Line<'_>,
    pieces: impl Iterator<Item = Piece>,
    view: View,
    dress: Dress<'_>,
    out: &mut Vec<u8>,
) {
    // Nothing stands between its lines, so no other batch of that name is ever open.
    let name = format!("m{:x}", shown.time.millis()).into_bytes();
    let opening = LineBuilder::from(line.source(), b"BATCH").param(&[b"+", &name[..]].concat());
    let opening = opening
        .param(b"draft/multiline")
        .param(line.param(0).unwrap_or_default());
    let whole = Shown {
        line: opening.build(),
        ..shown.clone()
    };
    forms::encode_one(
        &whole,
        view,
        Dress {
            stamp: b"",
            ..dress
        },
        out,
    );
    let plain = |tags: &'static [u8], line| Shown {
        time: shown.time,
        msgid: None,
        tags: Bytes::from_static(tags),
        line,
    };
    let inner = Dress {
        batch: Some(&name),
        ..Dress::default()
    };
    for piece in pieces {
        let tags = if piece.joined { JOINED } else { b"" };
        let one = plain(tags, message(line, &piece.text));
        forms::encode_one(&one, view, inner, out);
    }
    let closing = LineBuilder::new(b"BATCH").param(&[b"-", &name[..]].concat());
    let outer = Dress {
        batch: dress.batch,
        ..Dress::default()
    };
    forms::encode_one(&plain(b"", closing.build()), view, outer, out);
}

/// Lines that say nothing are left out; what makes the message one stands at its first.
fn write_lines(
    shown: &Shown,
    line: &Line<'_>,
    pieces: impl Iterator<Item = Piece>,
    view: View,
    dress: Dress<'_>,
    out: &mut Vec<u8>,
) {
    let mut rest = Shown {
        msgid: None,
        tags: of_each(&shown.tags),
        ..shown.clone()
    };
    let mut first = true;
    for piece in pieces.filter(|piece| !piece.text.is_empty()) {
        let text = message(line, &piece.text);
        if std::mem::replace(&mut first, false) {
            let one = Shown {
                line: text,
                ..shown.clone()
            };
            forms::encode_one(&one, view, dress, out);
        } else {
            rest.line = text;
            let dress = Dress {
                label: None,
                ..dress
            };
            forms::encode_one(&rest, view, dress, out);
        }
    }
}

/// The tags that each of the lines has: whose they are.
fn of_each(stored: &[u8]) -> Bytes {
    let mut kept = Vec::new();
    for (key, value) in Tags::new(stored) {
        if key == b"account" || key == own_talks::OWN {
            record::push_tag(&mut kept, key, value);
        }
    }
    kept.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{CapSet, Timestamp};
    use proptest::prelude::*;

    fn piece(joined: bool, text: &str) -> Piece {
        Piece {
            joined,
            text: text.into(),
        }
    }

    fn written(pieces: &[Piece], caps: &[Cap], dress: Dress<'_>) -> String {
        let mut tags = b"account=bob;+draft/reply=q;carom/lines=".to_vec();
        tags.extend(packed(pieces));
        let shown = Shown {
            time: Timestamp::from_millis(0x1234),
            msgid: Some(Bytes::from_static(b"m1")),
            tags: tags.into(),
            line: message(
                &Line::parse(b":a!b@c PRIVMSG #x x").unwrap(),
                &pieces[0].text,
            ),
        };
        let view = View::of(caps.iter().copied().collect::<CapSet>());
        let mut out = Vec::new();
        forms::encode(&shown, view, dress, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_message_of_several_lines_is_a_batch_or_lines() {
        let pieces = [
            piece(false, ""),
            piece(false, "hello"),
            piece(false, "how is "),
            piece(true, "everyone?"),
        ];
        let caps = [Cap::Multiline, Cap::Batch, Cap::MessageTags];
        let dress = Dress {
            batch: Some(b"h1"),
            ..Dress::default()
        };
        assert_eq!(
            written(&pieces, &caps, dress),
            "@batch=h1;msgid=m1;+draft/reply=q :a!b@c BATCH +m1234 draft/multiline #x\r\n\
             @batch=m1234 :a!b@c PRIVMSG #x :\r\n\
             @batch=m1234 :a!b@c PRIVMSG #x :hello\r\n\
             @batch=m1234 :a!b@c PRIVMSG #x :how is \r\n\
             @batch=m1234;draft/multiline-concat :a!b@c PRIVMSG #x :everyone?\r\n\
             @batch=h1 BATCH -m1234\r\n"
        );
        let stamped = Dress {
            stamp: b"[1] ",
            ..Dress::default()
        };
        let caps = [Cap::AccountTag, Cap::MessageTags];
        assert_eq!(
            written(&pieces, &caps, stamped),
            "@msgid=m1;account=bob;+draft/reply=q :a!b@c PRIVMSG #x :[1] hello\r\n\
             @account=bob :a!b@c PRIVMSG #x :[1] how is \r\n\
             @account=bob :a!b@c PRIVMSG #x :[1] everyone?\r\n"
        );
    }

    proptest! {
        #[test]
        fn what_is_packed_is_read_back(
            pieces in prop::collection::vec((any::<bool>(), "[^\r\n\0]{0,9}"), 2..9)
        ) {
            let mut pieces: Vec<_> = pieces.iter().map(|(j, t)| piece(*j, t)).collect();
            pieces[0].joined = false;
            let tags = [LINES, b"=", &packed(&pieces)].concat();
            prop_assert_eq!(others(&tags).unwrap(), &pieces[1..]);
        }
    }
}
