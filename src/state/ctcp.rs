//! CTCP and DCC: to one client, never stored. And cutting long text so that nothing of it is lost.
//! What people say is `messages`'.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

use crate::wire::{Name, latin1};

use super::Network;
use super::feature::Received;
use super::turn::{Audience, ClientId, Ticks, Turn};

const ACTION: &[u8] = b"\x01ACTION ";
/// So long an answer is expected.
const PATIENCE: Duration = Duration::from_secs(60);
/// At most so many questions wait; beyond that the oldest is forgotten.
const MAX_QUESTIONS: usize = 64;
/// So many bytes behind a place tell whether a grapheme cluster goes on there.
const CLUSTER: usize = 64;

/// What our clients asked others by CTCP.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Questions(VecDeque<Question>);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Question {
    asker: ClientId,
    /// A nick, or a channel.
    whom: Name,
    is_channel: bool,
    /// VERSION, PING and the like.
    #[serde(with = "latin1")]
    what: bytes::Bytes,
    at: Ticks,
}

impl Questions {
    fn add(&mut self, question: Question) {
        if self.0.len() >= MAX_QUESTIONS {
            self.0.pop_front();
        }
        self.0.push_back(question);
    }

    /// Who waits for this answer, the first one first. A nick answers once, a channel may have many.
    fn asker(&mut self, nick: &Name, what: &[u8], now: Ticks) -> Option<ClientId> {
        self.0.retain(|asked| now.since(asked.at) <= PATIENCE);
        let is_it = |asked: &Question| {
            let same = asked.what.eq_ignore_ascii_case(what);
            same && (asked.is_channel || asked.whom == *nick)
        };
        let at = self.0.iter().position(is_it)?;
        let asked = self.0.get(at)?;
        let asker = asked.asker;
        if !asked.is_channel {
            self.0.remove(at);
        }
        Some(asker)
    }
}

/// The first word of a CTCP text.
fn word(text: &[u8]) -> &[u8] {
    let text = text.strip_prefix(b"\x01").unwrap_or(text);
    let end = text.iter().position(|b| matches!(b, b' ' | b'\x01'));
    &text[..end.unwrap_or(text.len())]
}

/// Whether a text is CTCP other than an ACTION, which is something people say.
pub(super) fn is_ctcp(text: &[u8]) -> bool {
    let action = text == b"\x01ACTION\x01" || text.starts_with(ACTION);
    text.starts_with(b"\x01") && !action
}

impl Network {
    /// A client asks somebody by CTCP.
    pub(super) fn asks_by_ctcp(&mut self, asker: ClientId, target: &[u8], text: &[u8], now: Ticks) {
        let whom = self.isupport().strip_status(target);
        let question = Question {
            asker,
            is_channel: self.isupport().is_channel(whom),
            whom: self.name(whom),
            what: bytes::Bytes::copy_from_slice(word(text)),
            at: now,
        };
        self.ctcp.add(question);
    }

    /// A request goes to the client that was active last, so that one answers; an answer to whoever asked, to all where
    /// that is not known. A request that meets nobody is ignored.
    pub(super) fn on_ctcp(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let line = &received.line;
        if line.is(b"NOTICE") {
            let nick = self.name(line.nick());
            let what = word(line.param(1).unwrap_or_default());
            let asker = self.ctcp.asker(&nick, what, turn.now.ticks);
            let asker = asker.filter(|asker| self.clients.contains_key(asker));
            let to = asker.map_or(Audience::All, Audience::One);
            return self.pass_on(received, to, turn);
        }
        let latest = self
            .clients
            .iter()
            .max_by_key(|(_, client)| (client.counts_for_presence(), client.active_at));
        if let Some((id, _)) = latest {
            self.pass_on(received, Audience::One(*id), turn);
        }
    }
}

/// Cuts a text into pieces of at most `room` bytes: at spaces where possible, never inside what a reader sees as one
/// character if it fits, an ACTION wrapped anew. Joined, the pieces are the text.
pub(super) fn split(text: &[u8], room: usize) -> Vec<Vec<u8>> {
    let action = text
        .strip_prefix(ACTION)
        .map(|rest| rest.strip_suffix(b"\x01").unwrap_or(rest));
    let (mut rest, wrap) = match action {
        Some(rest) => (rest, ACTION.len() + 1),
        None => (text, 0),
    };
    let room = room.saturating_sub(wrap).max(1);
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(cut(rest, room));
        pieces.push(match wrap {
            0 => piece.to_vec(),
            _ => [ACTION, piece, b"\x01"].concat(),
        });
        rest = after;
    }
    pieces
}

/// Where to cut: after a space in the second half, else before a character, else anywhere.
fn cut(text: &[u8], room: usize) -> usize {
    if text.len() <= room {
        return text.len();
    }
    let space = text[..room].iter().rposition(|b| *b == b' ').map(|n| n + 1);
    if let Some(n) = space.filter(|n| *n > room / 2) {
        return n;
    }
    let is_start = |n: &usize| text[*n] & 0b1100_0000 != 0b1000_0000;
    // A UTF-8 character is at most four bytes: further back it is not UTF-8.
    let character = (room.saturating_sub(3)..=room)
        .rev()
        .find(is_start)
        .filter(|n| *n > 0)
        .unwrap_or(room);
    cluster(text, character).unwrap_or(character)
}

/// The last end of a grapheme cluster (UAX 29) up to `most`, where the text around is UTF-8.
fn cluster(text: &[u8], most: usize) -> Option<usize> {
    let beyond = text.get(..most + CLUSTER).unwrap_or(text);
    let valid = match std::str::from_utf8(beyond) {
        Ok(valid) => valid,
        Err(error) => std::str::from_utf8(&beyond[..error.valid_up_to()]).ok()?,
    };
    let starts = valid.grapheme_indices(true).map(|(n, _)| n);
    starts.take_while(|n| *n <= most).last().filter(|n| *n > 0)
}

/// The text of an ACTION.
pub(super) fn action(text: &[u8]) -> Option<&[u8]> {
    let text = text.strip_prefix(b"\x01ACTION")?;
    let text = text.strip_suffix(b"\x01").unwrap_or(text);
    Some(text.strip_prefix(b" ").unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_fit_and_lose_nothing(text in prop::collection::vec(any::<u8>(), 1..2000), room in 1usize..600) {
            prop_assume!(!text.starts_with(ACTION));
            let pieces = split(&text, room);
            prop_assert!(pieces.iter().all(|p| !p.is_empty() && p.len() <= room));
            prop_assert_eq!(pieces.concat(), text);
        }

        #[test]
        fn characters_stay_whole(text in "\\PC{1,600}", room in 4usize..200) {
            for piece in split(text.as_bytes(), room) {
                prop_assert!(std::str::from_utf8(&piece).is_ok());
            }
        }
    }

    #[test]
    fn rule_46_families_and_flags_stay_whole() {
        let family = "\u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f467}";
        let text = [family, "e\u{301}", "\u{1f1eb}\u{1f1f7}"]
            .concat()
            .repeat(20);
        let pieces = split(text.as_bytes(), 60);
        assert_eq!(pieces.concat(), text.as_bytes());
        let clusters = |text: &str| text.graphemes(true).count();
        let told: usize = pieces
            .iter()
            .map(|piece| clusters(std::str::from_utf8(piece).unwrap()))
            .sum();
        assert_eq!(told, clusters(&text));
        // What is longer than a line has no place to be cut but inside.
        let tall = format!("e{}", "\u{301}".repeat(100));
        assert_eq!(split(tall.as_bytes(), 50).concat(), tall.as_bytes());
    }

    #[test]
    fn every_piece_of_an_action_is_an_action() {
        let text = [ACTION, b"waves and waves and waves\x01"].concat();
        let pieces = split(&text, 24);
        assert!(pieces.len() > 1);
        assert!(
            pieces
                .iter()
                .all(|p| p.starts_with(ACTION) && p.ends_with(b"\x01") && p.len() <= 24)
        );
    }

    #[test]
    fn ctcp_of_any_shape_is_told_from_text() {
        for (text, expected) in [
            (&b"\x01VERSION\x01"[..], true),
            (b"\x01", true),
            (b"\x01\x01", true),
            (b"\x01ACTION\x01", false),
            (b"\x01ACTION waves", false),
            (b"hi", false),
        ] {
            assert_eq!(is_ctcp(text), expected);
        }
    }
}
