//! Who is on a channel: 353 and 366 into state, NAMES out of it. Who comes and goes later is
//! `channels`'.

use bytes::Bytes;

use crate::wire::{Cap, CapSet, Isupport, LineBuilder, MemberModes, Name};

use super::Network;
use super::channels::{Channel, MAX_MEMBERS, MAX_NICK};
use super::families::Family;
use super::feature::{Answer, Asked, Feature, NOTHING, Offer, Received, Rule, Source};
use super::people::{Person, kept};
use super::turn::{ClientId, Turn};

pub(super) static NAMES: Feature = Feature {
    offers: &[
        Offer(Cap::MultiPrefix, Source::Ours),
        Offer(Cap::NoImplicitNames, Source::Ours),
        Offer(Cap::NoImplicitNamesDraft, Source::Ours),
        Offer(Cap::NoImplicitNamesSoju, Source::Ours),
        Offer(Cap::UserhostInNames, Source::Server),
    ],
    server: &[
        Rule::new(b"353", 3, Network::on_names),
        Rule::new(b"366", 2, Network::on_end_of_names),
    ],
    client: &[Rule::new(b"NAMES", 0, Network::ask_names)],
    ..NOTHING
};

/// A line is at most so long, without its end (RFC 2812 section 2.3).
const LINE: usize = 510;

/// The names of no-implicit-names.
const NO_IMPLICIT_NAMES: CapSet = CapSet::of(&[
    Cap::NoImplicitNames,
    Cap::NoImplicitNamesDraft,
    Cap::NoImplicitNamesSoju,
]);

impl Channel {
    /// Where the server shows the highest rank alone, whoever has one that is not the lowest may have others.
    fn veil(&mut self, isupport: &Isupport) {
        let may_have_more = |modes: &MemberModes| {
            let highest = modes.highest();
            highest.is_some_and(|rank| isupport.prefix_letter(rank + 1).is_some())
        };
        let veiled = self
            .gathering
            .iter()
            .filter(|(_, modes)| may_have_more(modes));
        self.veiled.extend(veiled.map(|(nick, _)| nick.clone()));
    }

    /// Names that we asked for anew: ranks that are others than was thought are as they are told.
    fn refresh(&mut self) {
        self.refreshing = false;
        for (nick, told) in std::mem::take(&mut self.gathering) {
            if let Some(modes) = self.members.get_mut(&nick)
                && modes.highest() != told.highest()
            {
                *modes = told;
            }
        }
    }
}

impl Network {
    fn on_names(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let Some((symbol, name, names)) = self.parts_of_names(received) else {
            return self.on_numeric(received, turn);
        };
        let name = self.name(name);
        let mapping = self.mapping;
        if self.caps_of_link().has(Cap::UserhostInNames) && self.is_member(&name) {
            self.learn_masks(names);
        }
        let asked = self.question_at_hand(Family::Names, turn).is_some();
        let Some(link) = self.link_mut() else { return };
        let room = link.has_room();
        let isupport = &link.isupport;
        let is_ours = |c: &&mut Channel| !c.complete || c.refreshing && !asked;
        let Some(channel) = link.channels.get_mut(&name).filter(is_ours) else {
            return self.on_numeric(received, turn);
        };
        channel.symbol = symbol;
        for member in names.split(|b| *b == b' ').filter(|m| !m.is_empty()) {
            let (modes, mask) = isupport.split_prefixes(member);
            let nick = mask.split(|b| *b == b'!').next().unwrap_or_default();
            if room && channel.gathering.len() < MAX_MEMBERS && nick.len() <= MAX_NICK {
                channel.gathering.push((Name::new(nick, mapping), modes));
            }
        }
    }

    /// Symbol, channel and members. Some servers leave out the symbol, others write it and the channel as one.
    pub(super) fn parts_of_names<'a>(
        &self,
        received: &Received<'a>,
    ) -> Option<(u8, &'a [u8], &'a [u8])> {
        let mut params = received.line.params().skip(1);
        let (first, second, third) = (params.next()?, params.next()?, params.next());
        if let Some(names) = third {
            let symbol = first.first().copied().unwrap_or(b'=');
            return Some((symbol, second, names));
        }
        let is_channel = |name: &[u8]| self.isupport().is_channel(name);
        match first.split_first()? {
            _ if is_channel(first) => Some((b'=', first, second)),
            (symbol @ (b'=' | b'*' | b'@'), name) if is_channel(name) => {
                Some((*symbol, name, second))
            }
            _ => None,
        }
    }

    /// userhost-in-names: who they are is known at once.
    fn learn_masks(&mut self, members: &[u8]) {
        if self.clients.is_empty() {
            return;
        }
        for member in members.split(|b| *b == b' ') {
            let (_, mask) = self.isupport().split_prefixes(member);
            let mut parts = mask.splitn(2, |b| *b == b'!');
            let (nick, user_host) = (parts.next().unwrap_or_default(), parts.next());
            let mut parts = user_host.unwrap_or_default().splitn(2, |b| *b == b'@');
            if let (Some(user), Some(host)) = (parts.next(), parts.next()) {
                let person = Person {
                    user: kept(user),
                    host: kept(host),
                    ..Person::UNKNOWN
                };
                self.learn_listed(nick, person);
            }
        }
    }

    /// Whether a client that comes to a channel is told who is there.
    pub(super) fn wants_names(&self, client: ClientId) -> bool {
        let client = self.clients.get(&client);
        client.is_some_and(|c| c.caps.intersection(NO_IMPLICIT_NAMES).is_empty())
    }

    fn on_end_of_names(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let name = self.name(received.line.param(1).unwrap_or_default());
        let asked = self.question_at_hand(Family::Names, turn).is_some();
        let Some(link) = self.link_mut() else { return };
        let veils = !link.caps.has(Cap::MultiPrefix);
        let isupport = &link.isupport;
        let is_ours = |c: &&mut Channel| !c.complete || c.refreshing && !asked;
        let Some(channel) = link.channels.get_mut(&name).filter(is_ours) else {
            return self.on_numeric(received, turn);
        };
        if veils {
            channel.veil(isupport);
        }
        if channel.complete {
            return channel.refresh();
        }
        // Built at once from a sorted list, the tree is a third smaller than one grown name by name.
        // Who joined meanwhile stays, unless the list has him with his modes.
        let mut names = std::mem::take(&mut channel.gathering);
        names.extend(std::mem::take(&mut channel.members));
        names.sort_by(|a, b| a.0.cmp(&b.0));
        names.dedup_by(|a, b| a.0 == b.0);
        channel.members = names.into_iter().collect();
        channel.complete = true;
        self.channel_complete(&name, turn);
    }

    /// 353 and 366 from state. Clients rely on at least one 353.
    pub(super) fn tell_names(&self, to: ClientId, channel: &Channel, turn: &mut Turn) {
        for line in self.names_lines(to, channel) {
            turn.tell(to, line);
        }
        turn.tell(to, self.end_of_names(channel.name.as_bytes()));
    }

    fn end_of_names(&self, name: &[u8]) -> Bytes {
        self.numeric(366)
            .param(name)
            .trailing(b"End of /NAMES list")
            .build()
    }

    fn names_lines(&self, to: ClientId, channel: &Channel) -> Vec<Bytes> {
        let has = |cap| self.clients.get(&to).is_some_and(|c| c.caps.has(cap));
        let (all, masks) = (has(Cap::MultiPrefix), has(Cap::UserhostInNames));
        let head = || -> LineBuilder {
            self.numeric(353)
                .param(&[channel.symbol])
                .param(channel.name.as_bytes())
        };
        let room = LINE - head().trailing(b"").build().len();
        let mut lines = Vec::new();
        let mut names: Vec<u8> = Vec::with_capacity(room);
        for (nick, modes) in &channel.members {
            let before = names.len();
            self.write_member(nick, *modes, all, &mut names);
            if masks {
                self.write_mask(nick, &mut names);
            }
            if names.len() > room && before > 0 {
                let next = names.split_off(before);
                lines.push(head().trailing(names.trim_ascii()).build());
                names = next;
            }
        }
        lines.push(head().trailing(names.trim_ascii()).build());
        lines
    }

    fn write_member(&self, nick: &Name, modes: MemberModes, all: bool, out: &mut Vec<u8>) {
        out.push(b' ');
        self.isupport().write_prefixes(modes, all, out);
        out.extend_from_slice(nick.as_bytes());
    }

    /// `!user@host`, where it is known.
    fn write_mask(&self, nick: &Name, out: &mut Vec<u8>) {
        let person = self.person(nick);
        let mask = person.and_then(|p| Some((p.user.as_deref()?, p.host.as_deref()?)));
        if let Some((user, host)) = mask {
            for part in [b"!", user, b"@", host] {
                out.extend_from_slice(part);
            }
        }
    }

    /// Whether all is known of a channel's members that a client asked to be told of them.
    fn knows_names(&self, to: ClientId, channel: &Channel) -> bool {
        let has = |caps: CapSet| caps.has(Cap::UserhostInNames);
        let masks = self.clients.get(&to).is_some_and(|c| has(c.caps));
        let mut nicks = channel.members.keys();
        !masks
            || !has(self.caps_of_link())
            || nicks.all(|nick| self.person(nick).is_some_and(|p| p.host.is_some()))
    }

    /// Of a channel we are on, from state; of another, from the server.
    fn ask_names(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let list = asked.line.param(0).unwrap_or_default();
        let names: Vec<Name> = list
            .split(|b| *b == b',')
            .filter(|n| !n.is_empty())
            .map(|n| self.name(n))
            .collect();
        let link = self.link();
        let known = |name: &Name| {
            let channel = link?.channels.get(name).filter(|c| c.complete)?;
            self.knows_names(asked.from, channel).then_some(channel)
        };
        let channels: Option<Vec<&Channel>> = names.iter().map(known).collect();
        match channels {
            Some(channels) if !channels.is_empty() => {
                channels
                    .into_iter()
                    .for_each(|channel| self.tell_names(asked.from, channel, turn));
                Answer::Now
            }
            _ => self.forward(asked, turn),
        }
    }
}
