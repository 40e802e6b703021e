//! Getting into channels and out of them: what clients ask for, joining again what was lost, and channels
//! that do not let us back in.

use std::time::Duration;

use bytes::Bytes;

use crate::wire::{LineBuilder, Name};

use super::feature::{Answer, Asked, Feature, NOTHING, Received, Rule};
use super::outgoing::Lane;
use super::turn::{Audience, Turn};
use super::{Network, REPLY_TIMEOUT, Timer};

pub(super) static JOINS: Feature = Feature {
    server: &[
        Rule::new(b"470", 3, Network::on_forwarded),
        Rule::new(b"403", 2, Network::on_join_refused),
        Rule::new(b"405", 2, Network::on_join_refused),
        Rule::new(b"442", 2, Network::on_part_refused),
        Rule::new(b"471", 2, Network::on_join_refused),
        Rule::new(b"473", 2, Network::on_join_refused),
        Rule::new(b"474", 2, Network::on_join_refused),
        Rule::new(b"475", 2, Network::on_join_refused),
        Rule::new(b"476", 2, Network::on_join_refused),
        Rule::new(b"477", 2, Network::on_join_refused),
    ],
    client: &[
        Rule::new(b"JOIN", 1, Network::ask_join),
        Rule::new(b"PART", 1, Network::ask_part),
    ],
    ..NOTHING
};

/// First wait before a channel is joined again; it doubles.
const REJOIN: Duration = Duration::from_secs(3);
/// The longest such wait.
const MAX_REJOIN: Duration = Duration::from_secs(300);
/// The reason of a PART that leaves only for clients.
const DETACH: &[u8] = b"detach";
/// Room for channels and keys in one JOIN.
const JOIN_BYTES: usize = 400;

impl Network {
    /// The server sent us elsewhere: the other channel is the one we want (470).
    fn on_forwarded(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let from = self.name(received.line.param(1).unwrap_or_default());
        let to = self.name(received.line.param(2).unwrap_or_default());
        let asked = self.pending.joins.remove(&from).is_some();
        if self.is_wanted(&from) {
            self.rename_detached(&from, &to, turn);
            self.save_parted(&from, turn);
            self.save_joined(&to, None, turn);
        } else if asked {
            self.pending.joins.insert(to, None);
        }
        if self.face.channels.contains(&from) && !self.is_member(&from) {
            self.show_parted(&from, b"forwarded to another channel", turn);
        }
        self.on_numeric(received, turn);
    }

    /// A join that is refused: told to whoever asked; a channel that clients still show is parted.
    fn on_join_refused(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let channel = self.name(received.line.param(1).unwrap_or_default());
        let parts = self.pending.parts.remove(&channel).is_some();
        let asked = self.pending.joins.remove(&channel).is_some();
        let retried = self.pending.is_rejoining(&channel);
        // Some servers refuse messages so.
        let may_be_message = matches!(received.line.numeric(), Some(403 | 477));
        if may_be_message && !parts && !asked && !retried && self.message_refused(received, turn) {
            return;
        }
        if !self.is_member(&channel) && self.face.channels.contains(&channel) {
            let why = received.line.last().unwrap_or_default().to_vec();
            self.show_parted(&channel, &why, turn);
        }
        if !self.route(received, turn) && !retried {
            self.pass_on(received, Audience::All, turn);
        }
        let may_pass = matches!(received.line.numeric(), Some(471 | 473 | 474 | 475 | 477));
        if may_pass && !asked && !self.is_member(&channel) && self.is_wanted(&channel) {
            self.rejoin_later(channel, turn);
        }
    }

    fn on_part_refused(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let channel = self.name(received.line.param(1).unwrap_or_default());
        self.pending.parts.remove(&channel);
        self.on_numeric(received, turn);
    }

    /// Clients have a window for a channel we are not on.
    pub(super) fn show_parted(&mut self, channel: &Name, why: &[u8], turn: &mut Turn) {
        self.face.channels.remove(channel);
        let line = LineBuilder::from(&self.own_source(), b"PART").param(channel.as_bytes());
        turn.deliver(Audience::All, line.trailing(why).build());
    }

    /// A JOIN that the server never answered, or whose names never end.
    pub(super) fn joining_timed_out(&mut self, channel: &Name, turn: &mut Turn) {
        if let Some(known) = self.channel_mut(channel) {
            known.complete = true;
            self.channel_complete(channel, turn);
        } else if self.face.channels.contains(channel) {
            self.show_parted(channel, b"the server did not let us back in", turn);
        }
    }

    pub(super) fn rejoin_later(&mut self, channel: Name, turn: &Turn) {
        let tries = self.pending.next_rejoin(&channel, turn.now.ticks);
        let wait = REJOIN.saturating_mul(1 << tries.min(10)).min(MAX_REJOIN);
        self.timers
            .set(Timer::Rejoin(channel), turn.now.ticks.plus(wait));
    }

    /// A fresh link: joins everything that is wanted, keyed channels first so that keys line up.
    pub(super) fn join_saved(&mut self, turn: &mut Turn) {
        if !self.face.channels.is_empty() {
            self.timers
                .set(Timer::Regain, turn.now.ticks.plus(REPLY_TIMEOUT));
        }
        let wanted = self.wanted_channels();
        if wanted.is_empty() {
            return;
        }
        let most = self
            .isupport()
            .max_targets(b"JOIN")
            .unwrap_or(usize::MAX)
            .max(1);
        let mut line = JoinLine::default();
        for (name, key) in wanted {
            let full = line.count() >= most || line.bytes + name.as_bytes().len() > JOIN_BYTES;
            if full && line.count() > 0 {
                self.queue(None, Lane::Bulk, std::mem::take(&mut line).build(), turn);
            }
            line.add(name.as_bytes(), key.as_deref());
        }
        self.queue(None, Lane::Bulk, line.build(), turn);
    }

    /// Channels that clients show and that were not regained are parted.
    pub(super) fn give_up_channels(&mut self, turn: &mut Turn) {
        if self.outgoing.has_bulk() {
            // Some were not even asked for yet.
            return self
                .timers
                .set(Timer::Regain, turn.now.ticks.plus(REPLY_TIMEOUT));
        }
        let Some(link) = self.link() else { return };
        let shown = self
            .face
            .channels
            .iter()
            .filter(|name| !link.channels.contains_key(*name));
        for channel in shown.cloned().collect::<Vec<_>>() {
            self.show_parted(
                &channel,
                b"not regained after the connection was lost",
                turn,
            );
        }
    }

    pub(super) fn rejoin(&mut self, channel: &Name, turn: &mut Turn) {
        if self.link().is_none() || self.is_member(channel) || !self.is_wanted(channel) {
            return;
        }
        let mut line = JoinLine::default();
        line.add(channel.as_bytes(), self.key_of(channel).as_deref());
        self.queue(None, Lane::Bulk, line.build(), turn);
    }

    /// Channels that would not let us in before may do so now.
    pub(super) fn rejoin_after_login(&mut self, turn: &mut Turn) {
        for (channel, _) in self.wanted_channels() {
            let timer = Timer::Rejoin(channel.clone());
            if self.timers.is_set(&timer) {
                self.timers.cancel(&timer);
                self.rejoin(&channel, turn);
            }
        }
    }

    /// Channels we are on already are not joined again; the rest goes to the server.
    fn ask_join(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let list = asked.line.param(0).unwrap_or_default();
        if list == b"0" {
            return self.ask_part_all(turn);
        }
        let mut keys = asked
            .line
            .param(1)
            .unwrap_or_default()
            .split(|b| *b == b',');
        let mut line = JoinLine::default();
        for channel in list.split(|b| *b == b',').filter(|c| !c.is_empty()) {
            let key = keys.next().filter(|key| !key.is_empty());
            let name = self.name(channel);
            if self.is_member(&name) {
                self.attach_channel(&name, turn);
                continue;
            }
            let key = key.map(<[u8]>::to_vec).or_else(|| self.key_of(&name));
            line.add(channel, key.as_deref());
            if self.link().is_some() {
                self.pending.joins.insert(name, key);
            }
        }
        if line.count() == 0 {
            return Answer::Now;
        }
        self.send_for(asked, line.build(), turn)
    }

    /// JOIN 0 leaves every channel that clients are shown.
    fn ask_part_all(&mut self, turn: &mut Turn) -> Answer {
        let link = self.link();
        let channels = link.into_iter().flat_map(|link| link.channels.keys());
        let shown = channels.filter(|channel| !self.is_detached(channel));
        for channel in shown.cloned().collect::<Vec<_>>() {
            self.pending.parts.insert(channel.clone(), None);
            let part = LineBuilder::new(b"PART").param(channel.as_bytes()).build();
            self.queue(None, Lane::Interactive, part, turn);
        }
        Answer::Now
    }

    /// A channel that is wanted but not joined is given up without a word to the server.
    fn ask_part(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let list = asked.line.param(0).unwrap_or_default();
        let mut at_server = false;
        let reason = asked.line.param(1).unwrap_or_default();
        let detaches = reason.eq_ignore_ascii_case(DETACH);
        for channel in list.split(|b| *b == b',').filter(|c| !c.is_empty()) {
            let name = self.name(channel);
            if detaches {
                self.ask_detach(&name, asked, turn);
            } else if self.is_member(&name) || !self.is_wanted(&name) {
                if self.link().is_some() {
                    self.pending.parts.insert(name, None);
                }
                at_server = true;
            } else {
                self.timers.cancel(&Timer::Rejoin(name.clone()));
                self.save_parted(&name, turn);
                self.show_parted(&name, b"", turn);
            }
        }
        match at_server {
            true => self.forward(asked, turn),
            false => Answer::Now,
        }
    }
}

impl Network {
    /// `PART #channel :detach`
    fn ask_detach(&mut self, channel: &Name, asked: &Asked<'_>, turn: &mut Turn) {
        if self.order_detached(channel.as_bytes(), true, turn).is_err() {
            let line = self.numeric(442).param(channel.as_bytes());
            turn.tell(
                asked.from,
                line.trailing(b"You are not on that channel").build(),
            );
        }
    }
}

/// A JOIN of several channels. Keys belong to channels by their place, so channels with keys come first.
#[derive(Default)]
struct JoinLine {
    keyed: Vec<(Vec<u8>, Vec<u8>)>,
    open: Vec<Vec<u8>>,
    bytes: usize,
}

impl JoinLine {
    fn count(&self) -> usize {
        self.keyed.len() + self.open.len()
    }

    fn add(&mut self, channel: &[u8], key: Option<&[u8]>) {
        self.bytes += channel.len() + key.map_or(0, <[u8]>::len) + 2;
        match key {
            Some(key) => self.keyed.push((channel.to_vec(), key.to_vec())),
            None => self.open.push(channel.to_vec()),
        }
    }

    fn build(self) -> Bytes {
        let (mut channels, keys): (Vec<_>, Vec<_>) = self.keyed.into_iter().unzip();
        channels.extend(self.open);
        let line = LineBuilder::new(b"JOIN").param(&channels.join(&b','));
        if keys.is_empty() {
            line.build()
        } else {
            line.param(&keys.join(&b',')).build()
        }
    }
}
