//! CTCP and DCC: to one client, never stored. And cutting long text so that nothing of it is lost.
//! What people say is `messages`'.

use super::Network;
use super::feature::Received;
use super::turn::{Audience, Turn};

const ACTION: &[u8] = b"\x01ACTION ";

/// Whether a text is CTCP other than an ACTION, which is something people say.
pub(super) fn is_ctcp(text: &[u8]) -> bool {
    let action = text == b"\x01ACTION\x01" || text.starts_with(ACTION);
    text.starts_with(b"\x01") && !action
}

impl Network {
    /// A request goes to the client that was active last, so that one answers; an answer to all. With
    /// nobody attached it is ignored.
    pub(super) fn on_ctcp(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if received.line.is(b"NOTICE") {
            return self.pass_on(received, Audience::All, turn);
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

/// Cuts a text into pieces of at most `room` bytes: at spaces where possible, never inside a character,
/// an ACTION wrapped anew. Joined, the pieces are the text.
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
    (room.saturating_sub(3)..=room)
        .rev()
        .find(is_start)
        .filter(|n| *n > 0)
        .unwrap_or(room)
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
