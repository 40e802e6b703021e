//! AWAY: others' (away-notify) and ours, which is told to the server again on every link. Whether
//! somebody in a WHO is away is the server's to say.

use crate::wire::{Cap, LineBuilder};

use super::Network;
use super::feature::{Asked, Feature, Form, Offer, Received, Rule, Source};
use super::outgoing::Lane;
use super::turn::{Audience, Turn};

pub(super) static AWAY: Feature = Feature {
    offers: &[Offer(Cap::AwayNotify, Source::Server)],
    server: &[
        Rule::new(b"AWAY", 0, Network::on_away),
        Rule::new(b"305", 1, Network::on_own_away),
        Rule::new(b"306", 1, Network::on_own_away),
    ],
    client: &[Rule::new(b"AWAY", 0, Network::ask_away)],
    forms: &[Form {
        command: b"AWAY",
        unless: Cap::AwayNotify,
        write: |_, _, _| {},
    }],
};

impl Network {
    /// Nobody is told of his own away by AWAY: 305 and 306 do that.
    fn on_away(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if !self.is_me(received.line.nick()) {
            self.pass_on(received, Audience::All, turn);
        }
    }

    /// All clients are one user: all learn whether he is away.
    fn on_own_away(&mut self, received: &Received<'_>, turn: &mut Turn) {
        self.pass_on(received, Audience::All, turn);
    }

    fn ask_away(&mut self, asked: &Asked<'_>, turn: &mut Turn) {
        let text = asked.line.param(0).filter(|text| !text.is_empty());
        self.away = text.map(bytes::Bytes::copy_from_slice);
        if self.link().is_some() {
            return self.forward(asked, turn);
        }
        let (number, text) = match self.away {
            Some(_) => (306, "You have been marked as being away"),
            None => (305, "You are no longer marked as being away"),
        };
        let line = self.numeric(number).trailing(text.as_bytes()).build();
        self.answer(asked, line, turn);
    }

    /// A fresh link knows nothing of it.
    pub(super) fn say_away(&mut self, turn: &mut Turn) {
        if let Some(text) = self.away.clone() {
            let line = LineBuilder::new(b"AWAY").trailing(&text).build();
            self.queue(None, Lane::Bulk, line, turn);
        }
    }
}
