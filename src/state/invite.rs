//! INVITE: ours to all clients, others' (invite-notify) to those that asked for them. Joining is
//! `channels`'.

use crate::wire::Cap;

use super::Network;
use super::feature::{Feature, NOTHING, Offer, Received, Rule, Source};
use super::turn::{Audience, Turn};

pub(super) static INVITE: Feature = Feature {
    offers: &[Offer(Cap::InviteNotify, Source::Ours)],
    server: &[Rule::new(b"INVITE", 2, Network::on_invite)],
    ..NOTHING
};

impl Network {
    /// An invitation to a channel that is wanted is followed.
    fn on_invite(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if !self.is_me(received.line.param(0).unwrap_or_default()) {
            let listeners = self
                .clients
                .iter()
                .filter(|(_, c)| c.caps.has(Cap::InviteNotify));
            let listeners = listeners.map(|(id, _)| *id).collect();
            return self.pass_on(received, Audience::Only(listeners), turn);
        }
        self.pass_on(received, Audience::All, turn);
        let channel = self.name(received.line.param(1).unwrap_or_default());
        self.rejoin(&channel, turn);
    }
}
