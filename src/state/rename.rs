//! RENAME: a channel has another name from now on. Everything kept under the old one moves: state, history,
//! positions, what is saved. Clients that do not know of renaming see a PART and a JOIN.

use std::collections::BTreeMap;

use crate::history::Write;
use crate::wire::{Cap, LineBuilder, Name};

use super::feature::{Feature, NOTHING, Offer, Received, Rule, Source};
use super::record::shown;
use super::turn::{Action, Audience, ClientId, Renamed, Turn};
use super::{Network, Timer};

pub(super) static RENAME: Feature = Feature {
    offers: &[Offer(Cap::ChannelRename, Source::Server)],
    server: &[Rule::new(b"RENAME", 2, Network::on_rename)],
    ..NOTHING
};

impl Network {
    fn on_rename(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let old = self.name(received.line.param(0).unwrap_or_default());
        let new = self.name(received.line.param(1).unwrap_or_default());
        let Some(link) = self.link_mut() else { return };
        let Some(mut channel) = link.channels.remove(&old) else {
            return;
        };
        channel.name = new.clone();
        let complete = channel.complete;
        link.channels.insert(new.clone(), channel);
        if self.timers.is_set(&Timer::Joining(old.clone())) {
            self.timers.cancel(&Timer::Joining(old.clone()));
            let limit = turn.now.ticks.plus(super::REPLY_TIMEOUT);
            self.timers.set(Timer::Joining(new.clone()), limit);
        }
        if self.face.channels.remove(&old) {
            self.face.channels.insert(new.clone());
        }
        // Whoever is still to be introduced to it will be, by its new name.
        let shown = complete && !self.is_detached(&old);
        let told: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, client)| shown && !client.arriving.contains(&old))
            .map(|(id, _)| *id)
            .collect();
        let mut lacks = BTreeMap::new();
        if old != new {
            lacks = self.lacking(&told, &old, &new);
            self.move_target(&old, &new, turn);
            self.rename_saved(&old, &new, turn);
        }
        for id in told {
            self.tell_rename(id, &old, &new, received, turn);
            if let Some(renamed) = lacks.remove(&id) {
                self.replay_renamed(id, &new, renamed, turn);
            }
        }
        self.publish(turn);
    }

    /// Who lacks lines of either.
    fn lacking(&self, of: &[ClientId], old: &Name, new: &Name) -> BTreeMap<ClientId, Renamed> {
        let lacks = of.iter().filter_map(|id| {
            let client = self.clients.get(id)?;
            let behind = self.positions.is_behind(&client.name, new);
            let after = behind.then(|| self.positions.get(&client.name, new));
            let lacks = client.lacks(old, new, after);
            let any = !lacks.late.is_empty() || lacks.own_after.is_some();
            any.then_some((*id, lacks))
        });
        lacks.collect()
    }

    fn tell_rename(
        &mut self,
        to: ClientId,
        old: &Name,
        new: &Name,
        received: &Received<'_>,
        turn: &mut Turn,
    ) {
        let client = self.clients.get(&to);
        if client.is_some_and(|c| c.caps.has(Cap::ChannelRename)) {
            let line = shown(received, turn.now);
            return turn.push(Action::Deliver {
                to: Audience::One(to),
                line,
                entries: None,
            });
        }
        // In another spelling it is the same channel to everybody.
        if old == new {
            return;
        }
        let part = LineBuilder::from(&self.own_source(), b"PART").param(old.as_bytes());
        let why = received.line.param(2).unwrap_or_default();
        turn.tell(to, part.trailing(why).build());
        self.tell_channel(to, new, turn);
    }

    /// What is kept by the name of a target.
    fn move_target(&mut self, old: &Name, new: &Name, turn: &mut Turn) {
        self.remember(Write::Rename(old.clone(), new.clone()), turn);
        self.recent.rename(old, new);
        self.rename_marker(old, new, turn);
        self.rename_detached(old, new, turn);
        for client in self.clients.values_mut() {
            client.rename(old, new);
        }
        let writes = self.positions.rename(old, new, turn.now.time);
        turn.actions.extend(writes.into_iter().map(Action::Record));
    }

    /// `FAIL JOIN CHANNEL_RENAMED #old #new` on getting back in: the new one is the one we want. To a client
    /// that asked it is told as it knows it. True: it was nobody else's.
    pub(super) fn on_join_renamed(&mut self, received: &Received<'_>, turn: &mut Turn) -> bool {
        let line = &received.line;
        let renamed = line.param(0) == Some(b"JOIN") && line.param(1) == Some(b"CHANNEL_RENAMED");
        if !renamed || line.param_count() < 5 {
            return false;
        }
        let old = self.name(line.param(2).unwrap_or_default());
        let new = self.name(line.param(3).unwrap_or_default());
        if self.pending.joins.remove(&old).is_some() || !self.is_wanted(&old) {
            return false;
        }
        self.timers.cancel(&Timer::Joining(old.clone()));
        if self.face.channels.contains(&old) {
            let why = [b"renamed to ", new.as_bytes()].concat();
            self.show_parted(&old, &why, turn);
        }
        let key = self.key_of(&old);
        self.move_target(&old, &new, turn);
        self.rename_saved(&old, &new, turn);
        let mut join = LineBuilder::new(b"JOIN").param(new.as_bytes());
        if let Some(key) = key {
            join = join.param(&key);
        }
        self.queue(None, super::outgoing::Lane::Bulk, join.build(), turn);
        true
    }

    /// The saved channel, under its new name.
    fn rename_saved(&mut self, old: &Name, new: &Name, turn: &mut Turn) {
        if self.is_wanted(old) {
            let key = self.key_of(old);
            self.save_joined(new, key.as_deref(), turn);
            self.save_parted(old, turn);
        }
    }
}
