//! Nicks: ours and others', the one that is wanted, and getting it back. The first nick of a link
//! is `registration`'s.

use std::time::Duration;

use bytes::Bytes;

use crate::history::Kind;
use crate::wire::{LineBuilder, Name};

use super::feature::{Asked, Feature, NOTHING, Received, Rule};
use super::outgoing::Lane;
use super::turn::{Action, Turn};
use super::{Network, Timer};

pub(super) static NICKS: Feature = Feature {
    server: &[
        Rule::new(b"NICK", 1, Network::on_nick),
        Rule::new(b"432", 2, Network::on_nick_taken),
        Rule::new(b"433", 2, Network::on_nick_taken),
        Rule::new(b"436", 2, Network::on_nick_taken),
        Rule::new(b"437", 2, Network::on_nick_taken),
        Rule::new(b"438", 2, Network::on_nick_taken),
    ],
    client: &[Rule::new(b"NICK", 1, Network::ask_nick)],
    ..NOTHING
};

/// First wait before the wanted nick is tried again; it doubles.
const RETRY: Duration = Duration::from_secs(60);
/// The longest such wait.
const MAX_RETRY: Duration = Duration::from_secs(600);

impl Network {
    fn on_nick(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let old = self.name(received.line.nick());
        let new = self.name(received.line.param(0).unwrap_or_default());
        let own = self.is_me(received.line.nick());
        let Some(link) = self.link_mut() else { return };
        let mut shared = Vec::new();
        for channel in link.channels.values_mut() {
            if let Some(modes) = channel.members.remove(&old) {
                channel.members.insert(new.clone(), modes);
                shared.push(channel.name.clone());
            }
        }
        if own {
            link.nick = new.clone();
        }
        let line = super::record::shown(received, turn.now);
        if shared.is_empty() {
            turn.push(Action::Deliver {
                to: super::Audience::All,
                line,
                entries: None,
            });
        } else {
            self.record(line, &shared, Kind::Event, None, turn);
        }
        if own {
            self.own_nick_changed(&new, turn);
        } else if old.is(&self.wanted_nick) {
            self.retry_nick(turn);
        }
    }

    fn own_nick_changed(&mut self, new: &Name, turn: &mut Turn) {
        self.face.nick = Bytes::copy_from_slice(new.as_bytes());
        let asked = std::mem::take(&mut self.pending.nick_asked);
        if asked && self.settings.network.follow_nick {
            self.save_nick(new.as_bytes(), turn);
        }
        if new.is(&self.wanted_nick) {
            self.timers.cancel(&Timer::Nick);
        }
        self.publish(turn);
    }

    /// The refusal of a nick that nobody asked for now is nobody's.
    fn on_nick_taken(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if std::mem::take(&mut self.pending.nick_asked) || !self.timers.is_set(&Timer::Nick) {
            self.on_numeric(received, turn);
        }
    }

    /// Registered under another nick than the wanted one: it is tried again from time to time.
    pub(super) fn watch_nick(&mut self, turn: &Turn) {
        if !self.is_me(&self.wanted_nick) {
            let wait = RETRY.saturating_mul(1 << self.pending.nick_tries.min(10));
            let at = turn.now.ticks.plus(wait.min(MAX_RETRY));
            self.timers.set(Timer::Nick, at);
        }
    }

    pub(super) fn retry_nick(&mut self, turn: &mut Turn) {
        if self.link().is_none() || self.is_me(&self.wanted_nick) {
            return;
        }
        let line = LineBuilder::new(b"NICK").param(&self.wanted_nick).build();
        self.queue(None, Lane::Bulk, line, turn);
        self.pending.nick_tries = self.pending.nick_tries.saturating_add(1);
        self.watch_nick(turn);
    }

    /// While the network is down the wish is remembered and shown.
    fn ask_nick(&mut self, asked: &Asked<'_>, turn: &mut Turn) {
        let nick = asked.line.param(0).unwrap_or_default();
        if nick.is_empty() || nick.contains(&b' ') || nick.starts_with(b"*") {
            let line = self
                .numeric(432)
                .param(nick)
                .trailing(b"Erroneous nickname")
                .build();
            return self.answer(asked, line, turn);
        }
        if self.link().is_some() {
            self.pending.nick_asked = true;
            return self.forward(asked, turn);
        }
        let line = LineBuilder::from(&self.own_source(), b"NICK")
            .trailing(nick)
            .build();
        turn.deliver(super::Audience::All, line);
        self.save_nick(nick, turn);
        self.face.nick = self.wanted_nick.clone();
        turn.push(Action::Credit(asked.from, 1));
        self.publish(turn);
    }
}
