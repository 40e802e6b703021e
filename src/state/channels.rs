//! Channels we are on, as the server tells of them: JOIN, PART, KICK, QUIT. What clients ask for, and
//! getting back in, is `joins`'; topics are `topics`'.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::history::Kind;
use crate::wire::{Cap, CaseMapping, Line, MemberModes, Name, latin1};

use super::feature::{Feature, Form, NOTHING, Offer, Received, Rule, Source};
use super::record::Reach;
use super::topics::Topic;
use super::turn::{Action, Audience, Turn, View};
use super::upstream::{Link, Loss};
use super::{Network, REPLY_TIMEOUT, Timer};

pub(super) static CHANNELS: Feature = Feature {
    offers: &[Offer(Cap::ExtendedJoin, Source::Server)],
    server: &[
        Rule::new(b"JOIN", 1, Network::on_join),
        Rule::new(b"PART", 1, Network::on_part),
        Rule::new(b"KICK", 2, Network::on_kick),
        Rule::new(b"QUIT", 0, Network::on_quit),
    ],
    forms: &[Form {
        command: b"JOIN",
        unless: Cap::ExtendedJoin,
        write: plain_join,
    }],
    ..NOTHING
};

/// Members beyond this are not kept; NAMES of such a channel is the server's.
pub(super) const MAX_MEMBERS: usize = 150_000;
/// No nick is so long; one that is would only cost memory.
pub(super) const MAX_NICK: usize = 128;

/// A channel we are on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Channel {
    pub(super) name: Name,
    pub(super) members: BTreeMap<Name, MemberModes>,
    /// Names of a 353 whose 366 is still to come.
    pub(super) gathering: Vec<(Name, MemberModes)>,
    /// Members of whom the server showed one rank of perhaps several.
    pub(super) veiled: BTreeSet<Name>,
    /// Its names were asked for by ourselves.
    pub(super) refreshing: bool,
    /// All of its names were told once: it can be introduced.
    pub(super) complete: bool,
    /// `=`, `*` or `@`.
    pub(super) symbol: u8,
    pub(super) topic: Option<Topic>,
    /// Modes and their parameters; `None` while nobody has asked the server.
    pub(super) modes: Option<BTreeMap<u8, Vec<u8>>>,
    /// 329
    #[serde(with = "latin1::option")]
    pub(super) created: Option<Bytes>,
}

impl Channel {
    fn new(name: Name) -> Self {
        Self {
            name,
            members: BTreeMap::new(),
            gathering: Vec::new(),
            veiled: BTreeSet::new(),
            refreshing: false,
            complete: false,
            symbol: b'=',
            topic: None,
            modes: None,
            created: None,
        }
    }

    pub(super) fn refold(&mut self, mapping: CaseMapping) {
        self.name = self.name.refold(mapping);
        let veiled = std::mem::take(&mut self.veiled);
        self.veiled = veiled.iter().map(|name| name.refold(mapping)).collect();
        let members = std::mem::take(&mut self.members).into_iter();
        self.members = members
            .map(|(name, modes)| (name.refold(mapping), modes))
            .collect();
    }

    /// Somebody is gone, also from the names that are being told.
    pub(super) fn remove(&mut self, nick: &Name) -> Option<MemberModes> {
        self.gathering.retain(|(gathered, _)| gathered != nick);
        self.veiled.remove(nick);
        self.members.remove(nick)
    }

    /// Somebody goes by another name. Whether it is a member.
    pub(super) fn rename(&mut self, old: &Name, new: &Name) -> bool {
        for (gathered, _) in self.gathering.iter_mut().filter(|(nick, _)| nick == old) {
            *gathered = new.clone();
        }
        if self.veiled.remove(old) {
            self.veiled.insert(new.clone());
        }
        let modes = self.members.remove(old);
        modes.is_some_and(|modes| {
            self.members.insert(new.clone(), modes);
            true
        })
    }

    fn add(&mut self, nick: Name) {
        if self.members.len() < MAX_MEMBERS && nick.as_bytes().len() <= MAX_NICK {
            self.members.entry(nick).or_default();
        }
    }
}

/// A JOIN for clients without extended-join: the channel alone.
fn plain_join(line: &Line<'_>, _: View, out: &mut Vec<u8>) {
    out.push(b':');
    for part in [line.source(), b" JOIN ", line.param(0).unwrap_or_default()] {
        out.extend_from_slice(part);
    }
}

impl Network {
    /// Whether a target's lines may be given live: a channel only once all its names are known, and while it is not
    /// detached.
    pub(super) fn is_introducible(&self, target: &Name) -> bool {
        if self.is_detached(target) {
            return false;
        }
        let channel = self.link().and_then(|link| link.channels.get(target));
        channel.is_none_or(|channel| channel.complete)
    }

    pub(super) fn is_member(&self, target: &Name) -> bool {
        self.link()
            .is_some_and(|link| link.channels.contains_key(target))
    }

    pub(super) fn channel_mut(&mut self, name: &Name) -> Option<&mut Channel> {
        self.link_mut()?.channels.get_mut(name)
    }

    fn on_join(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let channel = self.name(received.line.param(0).unwrap_or_default());
        if self.is_me(received.line.nick()) {
            return self.on_own_join(&channel, received, turn);
        }
        let nick = self.name(received.line.nick());
        if self.link().is_some_and(Link::has_room)
            && let Some(known) = self.channel_mut(&channel)
        {
            known.add(nick);
        }
        self.met(&received.line);
        self.record_line(received, &channel, Kind::Event, turn);
    }

    /// We are in. Clients are told when the names are complete, so that everybody gets the same story.
    fn on_own_join(&mut self, channel: &Name, received: &Received<'_>, turn: &mut Turn) {
        self.learn_own_source(received, turn);
        let max = self.settings.network.max_channels;
        let full = self.link().is_some_and(|link| link.channels.len() >= max);
        if full && !self.is_member(channel) {
            let told = self
                .link_mut()
                .map(|link| std::mem::replace(&mut link.overflowed, true));
            if told == Some(false) {
                let text = format!("more than {max} channels: {channel} is passed on, not kept");
                self.announce(&text, turn);
            }
            return self.pass_on(received, Audience::All, turn);
        }
        self.timers.cancel(&Timer::Rejoin(channel.clone()));
        self.timers.set(
            Timer::Joining(channel.clone()),
            turn.now.ticks.plus(REPLY_TIMEOUT),
        );
        let own = self.name(self.nick());
        let Some(link) = self.link_mut() else { return };
        let fresh = Channel::new(channel.clone());
        link.channels
            .entry(channel.clone())
            .or_insert(fresh)
            .add(own);
        // A join that nobody here asked for is the server's wish, not the user's.
        if let Some(key) = self.pending.joins.remove(channel) {
            self.save_joined(channel, key.as_deref(), turn);
            self.join_attached(channel, turn);
        }
    }

    /// Every name of a channel is known: it is introduced to all, unless it is detached.
    pub(super) fn channel_complete(&mut self, channel: &Name, turn: &mut Turn) {
        self.timers.cancel(&Timer::Joining(channel.clone()));
        if !self.is_detached(channel) {
            self.show_channel(channel, turn);
        }
        self.publish(turn);
    }

    fn on_part(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let channel = self.name(received.line.param(0).unwrap_or_default());
        self.record_line(received, &channel, Kind::Event, turn);
        if self.is_me(received.line.nick()) {
            self.left(&channel, turn);
            if self.pending.parts.remove(&channel).is_some() {
                self.save_parted(&channel, turn);
            }
            if !self.is_wanted(&channel) {
                self.forget_detached(&channel, turn);
            }
        } else {
            self.forget_member(&channel, received.line.nick());
        }
    }

    fn on_kick(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let channel = self.name(received.line.param(0).unwrap_or_default());
        let victim = received.line.param(1).unwrap_or_default();
        self.record_line(received, &channel, Kind::Event, turn);
        if !self.is_me(victim) {
            return self.forget_member(&channel, victim);
        }
        self.tell_kicked(received, &channel, turn);
        self.left(&channel, turn);
        if self.settings.network.rejoin_on_kick {
            self.rejoin_later(channel, turn);
        }
    }

    /// We are no longer there; what is saved is another matter.
    fn left(&mut self, channel: &Name, turn: &mut Turn) {
        self.face.channels.remove(channel);
        self.timers.cancel(&Timer::Joining(channel.clone()));
        self.timers.cancel(&Timer::Detach(channel.clone()));
        if let Some(link) = self.link_mut() {
            link.channels.remove(channel);
        }
        for client in self.clients.values_mut() {
            client.arriving.remove(channel);
        }
        self.forget_strangers();
        self.publish(turn);
    }

    fn forget_member(&mut self, channel: &Name, nick: &[u8]) {
        let name = self.name(nick);
        if let Some(channel) = self.channel_mut(channel) {
            channel.remove(&name);
        }
        self.lost_sight(nick);
    }

    /// One line, filed under every channel the person was on.
    fn on_quit(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if self.is_me(received.line.nick()) {
            let why =
                String::from_utf8_lossy(received.line.last().unwrap_or_default()).into_owned();
            turn.push(Action::Unlink(super::LinkEnd::Drop));
            return self.unlinked(Loss::Closed(why), turn);
        }
        let nick = self.name(received.line.nick());
        let Some(link) = self.link_mut() else { return };
        let shared: Vec<Name> = link
            .channels
            .values_mut()
            .filter_map(|channel| channel.remove(&nick).map(|_| channel.name.clone()))
            .collect();
        link.people.forget(&nick);
        if shared.is_empty() {
            self.pass_on(received, Audience::All, turn);
        } else {
            let line = super::record::shown(received, turn.now);
            self.record(line, &shared, Kind::Event, Reach::Watchers, turn);
        }
        self.nick_is_free(nick.as_bytes(), turn);
    }
}
