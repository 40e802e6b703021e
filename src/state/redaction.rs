//! REDACT: a message is taken back. The log loses it, so nobody who asks later is shown it; who was shown it
//! and knows of redaction is told, now or with the events of the target. Who may redact is the server's to
//! say.

use bytes::Bytes;

use crate::history::{Kind, Write};
use crate::wire::Cap;

use super::Network;
use super::feature::{Feature, Form, NOTHING, Offer, Received, Rule, Source};
use super::messages::Place;
use super::turn::Turn;

pub(super) static REDACTION: Feature = Feature {
    offers: &[Offer(Cap::MessageRedaction, Source::Server)],
    server: &[Rule::new(b"REDACT", 2, Network::on_redact)],
    forms: &[Form {
        command: b"REDACT",
        unless: Cap::MessageRedaction,
        write: |_, _, _| {},
    }],
    ..NOTHING
};

impl Network {
    fn on_redact(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let Place::Buffer(target) = self.place(&received.line) else {
            return;
        };
        let msgid = Bytes::copy_from_slice(received.line.param(1).unwrap_or_default());
        let write = Write::Redact {
            target: target.clone(),
            msgid,
        };
        self.remember(write, turn);
        self.record_line(received, &target, Kind::Event, turn);
    }
}
