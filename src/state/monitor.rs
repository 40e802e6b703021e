//! MONITOR: each client has a list, the server has one, their union (and our wanted nick). What the server
//! says of a nick is told to the clients that list it, once. extended-monitor: changes of people we share
//! no channel with go to the same clients.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::{Cap, CapSet, CaseMapping, LineBuilder, Name, latin1};

use super::Network;
use super::feature::{Answer, Asked, Feature, NOTHING, Offer, Received, Rule, Source};
use super::outgoing::Lane;
use super::record::shown;
use super::turn::{Action, Audience, ClientId, Turn};

pub(super) static MONITOR: Feature = Feature {
    offers: &[
        Offer(Cap::ExtendedMonitor, Source::Server),
        Offer(Cap::ExtendedMonitorDraft, Source::Server),
    ],
    server: &[
        Rule::new(b"730", 2, Network::on_online),
        Rule::new(b"731", 2, Network::on_offline),
        Rule::new(b"734", 3, Network::on_monitor_full),
    ],
    client: &[Rule::new(b"MONITOR", 1, Network::ask_monitor)],
    ..NOTHING
};

/// Where the server sets no limit there is this one.
const MAX_MONITORED: usize = 1000;
/// Room for nicks in one line.
const LIST_BYTES: usize = 400;
/// No nick is longer.
const MAX_NICK: usize = 128;

/// Either name of extended-monitor.
pub(super) const EXTENDED: CapSet = CapSet::of(&[Cap::ExtendedMonitor, Cap::ExtendedMonitorDraft]);

/// What the server was asked to watch, and what it said.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Monitor(BTreeMap<Name, Presence>);

/// Whether somebody is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Presence {
    /// The server has not said, and neither have we.
    Unknown,
    /// Not there; after a new link also: not known, and clients were told that it is not there.
    Offline,
    /// There, with this mask.
    Online(#[serde(with = "latin1")] Bytes),
}

impl Monitor {
    pub(super) fn refold(&mut self, mapping: CaseMapping) {
        self.0 = std::mem::take(&mut self.0)
            .into_iter()
            .map(|(nick, presence)| (nick.refold(mapping), presence))
            .collect();
    }
}

fn nicks(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|b| *b == b',').filter(|nick| !nick.is_empty())
}

/// Words joined by commas into as few texts as there is room for.
fn packed<'a>(words: impl IntoIterator<Item = &'a [u8]>, most: usize) -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = Vec::new();
    let mut count = 0;
    for word in words {
        match texts.last_mut() {
            Some(text) if count < most && text.len() + 1 + word.len() <= LIST_BYTES => {
                text.push(b',');
                text.extend_from_slice(word);
                count += 1;
            }
            _ => {
                texts.push(word.to_vec());
                count = 1;
            }
        }
    }
    texts
}

impl Network {
    fn ask_monitor(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let down = self.link().is_none();
        if !down && !self.isupport().has(b"MONITOR") {
            return self.forward(asked, turn);
        }
        let list = asked.line.param(1).unwrap_or_default();
        match asked.line.param(0).unwrap_or_default() {
            b"+" => self.monitor_more(asked.from, list, turn),
            b"-" => self.monitor_less(asked.from, Some(list), turn),
            b"C" | b"c" => self.monitor_less(asked.from, None, turn),
            b"L" | b"l" => self.tell_monitored(asked.from, turn),
            b"S" | b"s" => self.tell_presence(asked.from, turn),
            _ => {
                let line = self.numeric(461).param(b"MONITOR");
                return self.answer(asked, line.trailing(b"Not enough parameters").build(), turn);
            }
        }
        Answer::Now
    }

    fn monitor_limit(&self) -> usize {
        let value = self.isupport().value(b"MONITOR").unwrap_or_default();
        let number = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
        number
            .filter(|n| *n > 0)
            .unwrap_or(MAX_MONITORED)
            .min(MAX_MONITORED)
    }

    /// All that is on any client's list.
    fn monitored(&self) -> BTreeSet<Name> {
        let lists = self.clients.values().flat_map(|client| &client.monitor);
        lists.cloned().collect()
    }

    fn monitor_more(&mut self, from: ClientId, list: &[u8], turn: &mut Turn) {
        let limit = self.monitor_limit();
        let mut all = self.monitored();
        let (mut added, mut refused) = (Vec::new(), Vec::new());
        for nick in nicks(list).filter(|nick| nick.len() <= MAX_NICK) {
            let name = self.name(nick);
            if !all.contains(&name) && all.len() >= limit {
                refused.push(nick);
                continue;
            }
            all.insert(name.clone());
            if let Some(client) = self.clients.get_mut(&from)
                && client.monitor.insert(name.clone())
            {
                added.push(name);
            }
        }
        self.tell_full(from, limit, refused, turn);
        self.tell_presence_of(from, &added, turn);
        self.monitor_upstream(turn);
    }

    fn monitor_less(&mut self, from: ClientId, list: Option<&[u8]>, turn: &mut Turn) {
        let names: Option<Vec<Name>> = list.map(|l| nicks(l).map(|n| self.name(n)).collect());
        if let Some(client) = self.clients.get_mut(&from) {
            match names {
                Some(names) => names
                    .iter()
                    .for_each(|name| _ = client.monitor.remove(name)),
                None => client.monitor.clear(),
            }
        }
        self.monitor_upstream(turn);
    }

    fn tell_full(&self, to: ClientId, limit: usize, nicks: Vec<&[u8]>, turn: &mut Turn) {
        for text in packed(nicks, usize::MAX) {
            let line = self
                .numeric(734)
                .param(limit.to_string().as_bytes())
                .param(&text);
            turn.tell(to, line.trailing(b"Monitor list is full.").build());
        }
    }

    fn tell_monitored(&self, to: ClientId, turn: &mut Turn) {
        let list = self.clients.get(&to).into_iter().flat_map(|c| &c.monitor);
        for text in packed(list.map(Name::as_bytes), usize::MAX) {
            turn.tell(to, self.numeric(732).trailing(&text).build());
        }
        let end = self.numeric(733).trailing(b"End of MONITOR list");
        turn.tell(to, end.build());
    }

    fn tell_presence(&self, to: ClientId, turn: &mut Turn) {
        let Some(client) = self.clients.get(&to) else {
            return;
        };
        let names: Vec<Name> = client.monitor.iter().cloned().collect();
        self.tell_presence_of(to, &names, turn);
    }

    /// 730 and 731, of those of whom it is known. While the network is down nobody is there.
    fn tell_presence_of(&self, to: ClientId, names: &[Name], turn: &mut Turn) {
        let (mut there, mut gone): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
        for name in names {
            let known = self.link().and_then(|link| link.monitor.0.get(name));
            match known {
                Some(Presence::Online(mask)) => there.push(mask),
                Some(Presence::Offline) => gone.push(name.as_bytes()),
                Some(Presence::Unknown) => {}
                None if self.link().is_none_or(|link| !link.welcomed) => {
                    gone.push(name.as_bytes());
                }
                None => {}
            }
        }
        for (number, list) in [(730, there), (731, gone)] {
            for text in packed(list, usize::MAX) {
                turn.tell(to, self.numeric(number).trailing(&text).build());
            }
        }
    }

    /// Brings the server's list into line with ours: all that clients list, and the nick we wait for.
    pub(super) fn monitor_upstream(&mut self, turn: &mut Turn) {
        let mut wanted = self.monitored();
        if let Some(nick) = self
            .awaited_nick()
            .filter(|_| wanted.len() < self.monitor_limit())
        {
            wanted.insert(self.name(nick));
        }
        let most = self.isupport().max_targets(b"MONITOR");
        let Some(link) = self.link_mut() else { return };
        if !link.welcomed || !link.isupport.has(b"MONITOR") {
            return;
        }
        let known = &mut link.monitor.0;
        let gone: Vec<Name> = known
            .keys()
            .filter(|n| !wanted.contains(n))
            .cloned()
            .collect();
        gone.iter().for_each(|name| _ = known.remove(name));
        let new: Vec<Name> = wanted
            .into_iter()
            .filter(|n| !known.contains_key(n))
            .collect();
        for name in &new {
            known.insert(name.clone(), Presence::Unknown);
        }
        for (sign, names) in [(b"-", gone), (b"+", new)] {
            let words = names.iter().map(Name::as_bytes);
            for text in packed(words, most.unwrap_or(usize::MAX)) {
                let line = LineBuilder::new(b"MONITOR").param(sign).param(&text);
                self.queue(None, Lane::Bulk, line.build(), turn);
            }
        }
    }

    /// A fresh link watches nobody yet; clients were told that nobody is there. Lists that are too long for
    /// this server are cut.
    pub(super) fn monitor_again(&mut self, turn: &mut Turn) {
        if !self.isupport().has(b"MONITOR") {
            return;
        }
        let limit = self.monitor_limit();
        let all = self.monitored();
        let refused: BTreeSet<Name> = all.into_iter().skip(limit).collect();
        if !refused.is_empty() {
            self.monitor_refused(&refused, limit, turn);
        }
        self.monitor_upstream(turn);
        if let Some(link) = self.link_mut() {
            let watched = link.monitor.0.values_mut();
            watched.for_each(|presence| *presence = Presence::Offline);
        }
    }

    fn monitor_refused(&mut self, refused: &BTreeSet<Name>, limit: usize, turn: &mut Turn) {
        let ids: Vec<ClientId> = self.clients.keys().copied().collect();
        for id in ids {
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            let own: Vec<Name> = client.monitor.intersection(refused).cloned().collect();
            own.iter().for_each(|name| _ = client.monitor.remove(name));
            self.tell_full(id, limit, own.iter().map(Name::as_bytes).collect(), turn);
        }
    }

    /// The link is lost: nobody is there any more.
    pub(super) fn monitor_lost(&mut self, turn: &mut Turn) {
        let Some(link) = self.link_mut() else { return };
        let watched = std::mem::take(&mut link.monitor.0).into_iter();
        let gone = watched.filter(|(_, presence)| matches!(presence, Presence::Online(_)));
        let gone: Vec<(Name, Bytes)> = gone
            .map(|(name, _)| {
                let nick = Bytes::copy_from_slice(name.as_bytes());
                (name, nick)
            })
            .collect();
        self.tell_changes(731, &gone, turn);
    }

    /// Each client that lists somebody of these is told, of those it lists.
    fn tell_changes(&self, number: u16, changes: &[(Name, Bytes)], turn: &mut Turn) {
        if changes.is_empty() {
            return;
        }
        for (id, client) in &self.clients {
            let own = changes.iter().filter(|(n, _)| client.monitor.contains(n));
            for text in packed(own.map(|(_, word)| &word[..]), usize::MAX) {
                turn.tell(*id, self.numeric(number).trailing(&text).build());
            }
        }
    }

    fn on_online(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let mut changes = Vec::new();
        for mask in nicks(received.line.last().unwrap_or_default()) {
            let nick = mask.split(|b| *b == b'!').next().unwrap_or(mask);
            let name = self.name(nick);
            let mask = Bytes::copy_from_slice(mask);
            let Some(link) = self.link_mut() else { return };
            if let Some(presence) = link.monitor.0.get_mut(&name) {
                if !matches!(presence, Presence::Online(_)) {
                    changes.push((name, mask.clone()));
                }
                *presence = Presence::Online(mask);
            }
        }
        self.tell_changes(730, &changes, turn);
    }

    /// Nobody wears the nick we want: now it is ours.
    fn on_offline(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let mut changes = Vec::new();
        let mut free = None;
        for nick in nicks(received.line.last().unwrap_or_default()) {
            let nick = nick.split(|b| *b == b'!').next().unwrap_or(nick);
            let name = self.name(nick);
            if self.awaited_nick().is_some_and(|awaited| name.is(awaited)) {
                free = Some(name.clone());
            }
            let Some(link) = self.link_mut() else { return };
            if let Some(presence) = link.monitor.0.get_mut(&name) {
                if *presence != Presence::Offline {
                    changes.push((name, Bytes::copy_from_slice(nick)));
                }
                *presence = Presence::Offline;
            }
        }
        self.tell_changes(731, &changes, turn);
        if let Some(nick) = free {
            self.nick_is_free(nick.as_bytes(), turn);
        }
    }

    /// The server takes no more, for all that it promised: whoever listed these is told, and lists them no
    /// more.
    fn on_monitor_full(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let limit = received.line.param(1).unwrap_or_default();
        let limit = std::str::from_utf8(limit).ok().and_then(|n| n.parse().ok());
        let list = nicks(received.line.param(2).unwrap_or_default());
        let refused: BTreeSet<Name> = list.map(|nick| self.name(nick)).collect();
        if let Some(link) = self.link_mut() {
            link.monitor.0.retain(|name, _| !refused.contains(name));
        }
        self.monitor_refused(&refused, limit.unwrap_or(0), turn);
    }

    /// Shows a change of somebody. Of people whom clients are shown in no channel only those hear that list them.
    pub(super) fn pass_on_about(&mut self, received: &Received<'_>, turn: &mut Turn) {
        self.note_change(&received.line);
        let nick = received.line.nick();
        let extended = !self.caps_of_link().intersection(EXTENDED).is_empty();
        let is_strange = !extended && !self.shares_channel(nick);
        if is_strange || self.is_me(nick) || self.is_seen(nick) {
            return self.pass_on(received, Audience::All, turn);
        }
        let name = self.name(nick);
        let listeners = self.clients.iter().filter(|(_, client)| {
            client.monitor.contains(&name) && !client.caps.intersection(EXTENDED).is_empty()
        });
        let listeners: Box<[ClientId]> = listeners.map(|(id, _)| *id).collect();
        if !listeners.is_empty() {
            turn.push(Action::Deliver {
                to: Audience::Only(listeners),
                line: shown(received, turn.now),
                entries: None,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_packed_into_lines() {
        let words = vec![&b"abcdefghi"[..]; 100];
        let texts = packed(words.clone(), usize::MAX);
        assert!(texts.iter().all(|text| text.len() <= LIST_BYTES));
        let back: usize = texts.iter().map(|text| nicks(text).count()).sum();
        assert_eq!(back, 100);
        assert_eq!(packed(words, 30).len(), 4);
        assert!(packed([], usize::MAX).is_empty());
    }
}
