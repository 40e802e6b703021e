//! Nicks: ours and others', the one that is wanted, and getting it back. The first nick of a link
//! is `registration`'s.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::history::Kind;
use crate::wire::{LineBuilder, Name, latin1};

use super::feature::{Answer, Asked, Feature, NOTHING, Received, Rule};
use super::outgoing::Lane;
use super::record::Reach;
use super::registration::Registration;
use super::turn::{Action, Audience, Turn};
use super::{Network, Timer};

pub(super) static NICKS: Feature = Feature {
    server: &[
        Rule::new(b"NICK", 1, Network::on_nick),
        Rule::new(b"432", 2, Network::on_nick_refused),
        Rule::new(b"433", 2, Network::on_nick_refused),
        Rule::new(b"436", 2, Network::on_nick_refused),
        Rule::new(b"437", 2, Network::on_nick_refused),
        Rule::new(b"438", 2, Network::on_nick_refused),
        Rule::new(b"447", 2, Network::on_nick_refused),
    ],
    client: &[Rule::new(b"NICK", 1, Network::ask_nick)],
    ..NOTHING
};

/// First wait before the wanted nick is tried again; it doubles.
const RETRY: Duration = Duration::from_secs(15);
/// The longest such wait.
const MAX_RETRY: Duration = Duration::from_secs(600);
/// After so many nicks that were forced on us the network means it, until we log in.
const MAX_FORCED: u32 = 3;

/// What the server was told of the nick and of being away, beside what clients say.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Tending {
    /// The nick a client asked for.
    #[serde(with = "latin1::option")]
    pub(super) asked: Option<Bytes>,
    /// The nick we asked for by ourselves.
    #[serde(with = "latin1::option")]
    pub(super) tried: Option<Bytes>,
    /// How often.
    pub(super) tries: u32,
    /// How often another nick was forced on us.
    pub(super) forced: u32,
    /// The wanted nick is not to be tried any more.
    pub(super) resigned: bool,
    /// Why we are away, as it was told.
    #[serde(with = "latin1::option")]
    pub(super) away: Option<Bytes>,
    /// How many answers to that are to come.
    pub(super) away_answers: u32,
}

impl Tending {
    /// At 001: what the server cut short is as good as what was asked for.
    pub(super) fn begun(registration: &Registration, wanted: &[u8], nick: &[u8]) -> Self {
        let asked = &registration.nick;
        let is_cut = asked.len() > nick.len() && asked.starts_with(nick);
        Self {
            resigned: registration.nick_refused || (asked == wanted && is_cut),
            ..Self::default()
        }
    }
}

impl Network {
    fn on_nick(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let old = self.name(received.line.nick());
        let new = self.name(received.line.param(0).unwrap_or_default());
        let own = self.is_me(received.line.nick());
        let Some(link) = self.link_mut() else { return };
        let mut shared = Vec::new();
        for channel in link.channels.values_mut() {
            if channel.rename(&old, &new) {
                shared.push(channel.name.clone());
            }
        }
        link.people.rename(&old, &new);
        if own {
            link.nick = new.clone();
        }
        let line = super::record::shown(received, turn.now);
        if shared.is_empty() {
            turn.push(Action::Deliver {
                to: Audience::All,
                line,
                entries: None,
            });
        } else {
            let reach = if own {
                Reach::Everybody
            } else {
                Reach::Watchers
            };
            self.record(line, &shared, Kind::Event, reach, turn);
        }
        if own {
            self.own_nick_changed(&new, turn);
        } else {
            self.nick_is_free(old.as_bytes(), turn);
        }
    }

    /// By a client's wish, by our own, or neither: then it was forced on us.
    fn own_nick_changed(&mut self, new: &Name, turn: &mut Turn) {
        self.face.nick = Bytes::copy_from_slice(new.as_bytes());
        // Servers cut what is too long.
        let is = |nick: Option<Bytes>| {
            nick.is_some_and(|nick| new.is(&nick) || nick.starts_with(new.as_bytes()))
        };
        let Some(link) = self.link_mut() else { return };
        let (asked, tried) = (is(link.tending.asked.take()), is(link.tending.tried.take()));
        if asked && self.settings.network.follow_nick {
            self.save_nick(new.as_bytes(), turn);
        } else if asked && let Some(link) = self.link_mut() {
            // For now the user wants to be called so.
            link.tending.resigned = true;
        } else if !tried && let Some(link) = self.link_mut() {
            link.tending.forced += 1;
        }
        self.timers.cancel(&Timer::Nick);
        self.watch_nick(turn);
        self.monitor_upstream(turn);
        self.publish(turn);
    }

    /// The refusal of a nick that nobody asked for now is nobody's.
    fn on_nick_refused(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let about = received.line.param(1).unwrap_or_default();
        let number = received.line.numeric();
        let Some(link) = self.link_mut() else { return };
        let tending = &mut link.tending;
        let ours = tending.tried.as_deref() == Some(about)
            // Those may name something else, or nothing.
            || (tending.tried.is_some() && matches!(number, Some(438 | 447)));
        if tending.asked.is_some() && !(ours && tending.asked.as_deref() != Some(about)) {
            tending.asked = None;
            return self.on_numeric(received, turn);
        }
        if !ours {
            return self.on_numeric(received, turn);
        }
        tending.tried = None;
        if number == Some(432) {
            tending.resigned = true;
            self.timers.cancel(&Timer::Nick);
        }
    }

    /// The nick to have: another one while the user is away.
    fn desired_nick(&self) -> &[u8] {
        match &self.settings.network.away_nick {
            Some(nick) if !self.is_attended() => nick.as_bytes(),
            _ => &self.wanted_nick,
        }
    }

    /// The nick we would take as soon as it is free.
    pub(super) fn sought_nick(&self) -> Option<&[u8]> {
        let nick = self.desired_nick();
        let tending = &self.link()?.tending;
        let gave_up = tending.resigned || tending.forced > MAX_FORCED;
        (self.settings.network.keep_nick && !gave_up && !self.is_me(nick)).then_some(nick)
    }

    /// The same, where it may be taken in the moment it is free: not where the server forced another nick on us, which
    /// would only do so again.
    pub(super) fn awaited_nick(&self) -> Option<&[u8]> {
        let forced = self.link()?.tending.forced;
        self.sought_nick().filter(|_| forced == 0)
    }

    /// Under another nick than the one to have: it is tried again from time to time.
    fn watch_nick(&mut self, turn: &Turn) {
        if self.sought_nick().is_none() {
            return;
        }
        let tries = self.link().map_or(0, |link| link.tending.tries);
        let wait = RETRY.saturating_mul(1 << tries.min(10)).min(MAX_RETRY);
        let wait = self.backoff.between(wait * 3 / 4, wait);
        self.timers.set(Timer::Nick, turn.now.ticks.plus(wait));
    }

    /// Somebody gave up a nick: it may be ours to take.
    pub(super) fn nick_is_free(&mut self, nick: &[u8], turn: &mut Turn) {
        if self
            .awaited_nick()
            .is_some_and(|awaited| self.name(awaited).is(nick))
        {
            self.retry_nick(turn);
        }
    }

    /// The welcome is over. What was refused a moment ago is tried again later.
    pub(super) fn settle_nick(&mut self, turn: &mut Turn) {
        if self.desired_nick() == self.wanted_nick {
            self.watch_nick(turn);
        } else {
            self.retry_nick(turn);
        }
    }

    /// A client came or went: another nick may be the one to have.
    pub(super) fn change_nick(&mut self, turn: &mut Turn) {
        let has_other = self.settings.network.away_nick.is_some();
        if has_other && self.link().is_some_and(|link| link.welcomed) {
            self.retry_nick(turn);
        }
    }

    /// We are somebody for the network's services now: what they kept from us may be had.
    pub(super) fn nick_after_login(&mut self, turn: &mut Turn) {
        let Some(link) = self.link_mut().filter(|link| link.welcomed) else {
            return;
        };
        link.tending.forced = 0;
        if self.sought_nick().is_some() {
            self.retry_nick(turn);
        }
    }

    /// Another nick is wanted: what became of the one before says nothing.
    pub(super) fn want_nick_anew(&mut self, turn: &mut Turn) {
        if let Some(link) = self.link_mut() {
            (link.tending.resigned, link.tending.tries) = (false, 0);
        }
        self.retry_nick(turn);
    }

    /// Asks for the nick to have, now.
    pub(super) fn retry_nick(&mut self, turn: &mut Turn) {
        let nick = Bytes::copy_from_slice(self.desired_nick());
        if self.is_me(&nick) {
            return self.timers.cancel(&Timer::Nick);
        }
        let Some(link) = self.link_mut() else { return };
        link.tending.tried = Some(nick.clone());
        link.tending.tries = link.tending.tries.saturating_add(1);
        let line = LineBuilder::new(b"NICK").param(&nick).build();
        self.queue(None, Lane::Bulk, line, turn);
        self.watch_nick(turn);
    }

    /// While the network is down the wish is remembered and shown.
    fn ask_nick(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let nick = asked.line.param(0).unwrap_or_default();
        if nick.is_empty() {
            let line = self.numeric(431).trailing(b"No nickname given");
            return self.answer(asked, line.build(), turn);
        }
        if nick.contains(&b' ') || nick.starts_with(b"*") {
            let line = self
                .numeric(432)
                .param(nick)
                .trailing(b"Erroneous nickname")
                .build();
            return self.answer(asked, line, turn);
        }
        if let Some(link) = self.link_mut() {
            link.tending.asked = Some(Bytes::copy_from_slice(nick));
            return self.forward(asked, turn);
        }
        let line = LineBuilder::from(&self.own_source(), b"NICK")
            .trailing(nick)
            .build();
        turn.deliver(Audience::All, line);
        self.save_nick(nick, turn);
        self.face.nick = self.wanted_nick.clone();
        self.publish(turn);
        Answer::Now
    }
}
