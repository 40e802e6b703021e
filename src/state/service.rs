//! Words for carom itself: `/msg *carom WORDS`, `CAROM WORDS`. They are answered by the client's own task,
//! in the place where they stand in its queue, so before the PONG of a later PING.

use crate::config::Secret;
use crate::wire;

use super::Network;
use super::feature::{Answer, Asked, Feature, NOTHING, Rule};
use super::turn::{Action, Ask, Item, Turn};

pub(super) static SERVICE: Feature = Feature {
    client: &[
        Rule::new(b"CAROM", 0, Network::ask_carom),
        Rule::new(b"BIP", 0, Network::ask_bip),
    ],
    ..NOTHING
};

/// Whose word it is, when a server of this name tells it.
pub fn mask(server: &str) -> String {
    format!("{}!carom@{server}", wire::SERVICE)
}

/// Whether this is a name for carom.
pub(super) fn is_meant(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(wire::SERVICE.as_bytes())
}

/// Stands before the words of bip's users.
const BIP: &str = "bip ";

impl Network {
    fn ask_carom(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        self.ask_rest("", asked, turn)
    }

    /// bip's users say BIP: its own words are understood as those of the verb `bip`.
    fn ask_bip(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        self.ask_rest(BIP, asked, turn)
    }

    fn ask_rest(&mut self, verb: &str, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        // The rest of the line as it stands, but for the colon of a client that quotes its last parameter.
        let words = asked.line.rest(0);
        let words = if asked.line.param_count() == 1 {
            words.strip_prefix(b":").unwrap_or(words)
        } else {
            words
        };
        self.ask_words(verb, words, asked, turn);
        Answer::Now
    }

    /// A message to the service, if it is one; its credit is the message's.
    pub(super) fn ask_service(&self, target: &[u8], asked: &Asked<'_>, turn: &mut Turn) -> bool {
        let verb = match () {
            () if is_meant(target) => "",
            () if target.eq_ignore_ascii_case(b"-bip") => BIP,
            () => return false,
        };
        let words = asked.line.param(1).unwrap_or_default();
        self.ask_words(verb, words, asked, turn);
        true
    }

    fn ask_words(&self, verb: &str, words: &[u8], asked: &Asked<'_>, turn: &mut Turn) {
        let words = format!("{verb}{}", String::from_utf8_lossy(words));
        let item = Item::Ask {
            ask: Ask::Command(Secret::new(words)),
            label: None,
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
