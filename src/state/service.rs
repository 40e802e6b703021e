//! Words for carom itself: `/msg *carom WORDS`, `CAROM WORDS`. They are answered by the client's own task,
//! in the place where they stand in its queue, so before the PONG of a later PING.

use super::Network;
use super::feature::{Asked, Feature, NOTHING, Rule};
use super::turn::{Action, Ask, Item, Turn};

pub(super) static SERVICE: Feature = Feature {
    // bip's users say BIP: the words that both know mean the same.
    client: &[
        Rule::new(b"CAROM", 0, Network::ask_carom),
        Rule::new(b"BIP", 0, Network::ask_carom),
    ],
    ..NOTHING
};

impl Network {
    fn ask_carom(&mut self, asked: &Asked<'_>, turn: &mut Turn) {
        // The rest of the line as it stands, but for the colon of a client that quotes its last parameter.
        let words = asked.line.rest(0);
        let words = if asked.line.param_count() == 1 {
            words.strip_prefix(b":").unwrap_or(words)
        } else {
            words
        };
        self.ask_words(words, asked, turn);
        turn.push(Action::Credit(asked.from, 1));
    }

    /// A message to the service; its credit is the message's.
    pub(super) fn ask_service(&mut self, asked: &Asked<'_>, turn: &mut Turn) {
        self.ask_words(asked.line.param(1).unwrap_or_default(), asked, turn);
    }

    fn ask_words(&self, words: &[u8], asked: &Asked<'_>, turn: &mut Turn) {
        let words = String::from_utf8_lossy(words).into_owned();
        let item = Item::Ask {
            ask: Ask::Command(words),
            after: self.head(),
        };
        turn.push(Action::Put(asked.from, item));
    }

    /// What the user wants said to every server first.
    pub(super) fn say_on_connect(&mut self, turn: &mut Turn) {
        let lines = self.settings.network.on_connect.clone();
        for line in lines {
            turn.send(bytes::Bytes::copy_from_slice(line.reveal().as_bytes()));
        }
        self.say_away(turn);
    }
}
