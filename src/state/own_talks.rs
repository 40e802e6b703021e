//! What the user writes to people. Old clients take such a line for one of somebody who is called like their user: where
//! he wants it, they are told of it in words instead.

use bytes::Bytes;

use crate::wire::{Cap, Line, LineBuilder, Tags};

use super::clients::Attached;
use super::turn::{Action, Shown, Turn, View};
use super::{Network, ctcp, service};

/// The tag of such a line: of ours, nobody gets to see it. Its value is the server in the mask of who tells of it.
pub(super) const OWN: &[u8] = b"carom/own";

/// A client with one of these knows whose line it is.
const KNOWING: [Cap; 3] = [Cap::EchoMessage, Cap::SelfMessage, Cap::Chathistory];

impl Network {
    /// A message of ours to somebody else gets its tag.
    pub(super) fn mark_own_talk(&self, shown: &mut Shown) {
        let Ok(line) = Line::parse(&shown.line) else {
            return;
        };
        let whom = line.param(0).unwrap_or_default();
        if self.is_me(line.nick()) && !self.is_me(whom) {
            let mut tags = shown.tags.to_vec();
            let mut server = Vec::new();
            crate::wire::tags::escape(self.settings.server.as_bytes(), &mut server);
            super::record::push_tag(&mut tags, OWN, &server);
            shown.tags = tags.into();
        }
    }

    /// The user wants it otherwise from here on.
    pub(super) fn configure_own_talks(&mut self, turn: &mut Turn) {
        let as_lines = self.settings.network.own_messages;
        for (id, client) in &mut self.clients {
            if client.own_messages != as_lines {
                client.own_messages = as_lines;
                turn.push(Action::View(*id, client.view()));
            }
        }
    }
}

impl Attached {
    /// In which form it gets lines.
    pub(super) fn view(&self) -> View {
        let knows = KNOWING.into_iter().any(|cap| self.caps.has(cap));
        View {
            caps: self.caps,
            own_in_words: !self.own_messages && !knows,
        }
    }
}

/// Whether a client that is told in words gets this line so.
pub(super) fn is_for_words(shown: &Shown, view: View) -> bool {
    view.own_in_words && Tags::new(&shown.tags).any(|(key, _)| key == OWN)
}

/// What was said to whom, for a client that is told in words.
pub(super) fn in_words(shown: &Shown, line: &Line<'_>, view: View) -> Option<Bytes> {
    let server = Tags::new(&shown.tags)
        .get(OWN)
        .filter(|_| view.own_in_words)?;
    let (nick, whom) = (line.nick(), line.param(0).unwrap_or_default());
    let text = line.param(1).unwrap_or_default();
    let said = match ctcp::action(text) {
        Some(does) => [b"to ", whom, b": * ", nick, b" ", does].concat(),
        None => [b"to ", whom, b": ", text].concat(),
    };
    let source = service::mask(&String::from_utf8_lossy(&server));
    let notice = LineBuilder::from(source.as_bytes(), b"NOTICE").param(nick);
    Some(notice.trailing(&said).build())
}
