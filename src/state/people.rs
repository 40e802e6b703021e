//! What is known of the people we share channels with: hosts, accounts, real names, who is away. Learnt
//! from WHO, NAMES and JOIN while somebody is attached, kept true by what the server tells of changes, and
//! forgotten with the last channel shared. Asking is `who`'s.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::{Cap, CapSet, CaseMapping, Line, Name, latin1};

use super::Network;

/// At most so many people are known.
const MAX_PEOPLE: usize = 20_000;
/// A longer text about a person is not kept.
const MAX_TEXT: usize = 400;

/// Something that is known of a person; the letter is WHOX's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    User,
    Host,
    Server,
    Flags,
    Hops,
    Account,
    Realname,
}

impl Field {
    pub(super) const ALL: [Self; 7] = [
        Self::User,
        Self::Host,
        Self::Server,
        Self::Flags,
        Self::Hops,
        Self::Account,
        Self::Realname,
    ];

    pub(super) const fn letter(self) -> u8 {
        match self {
            Self::User => b'u',
            Self::Host => b'h',
            Self::Server => b's',
            Self::Flags => b'f',
            Self::Hops => b'd',
            Self::Account => b'a',
            Self::Realname => b'r',
        }
    }

    /// Whether the server tells of every change. Server and distance change only with the connection; and
    /// where nobody is told of real names they cannot be changed.
    const fn is_kept(self, caps: CapSet) -> bool {
        match self {
            Self::User | Self::Host => caps.has(Cap::Chghost),
            Self::Flags => caps.has(Cap::AwayNotify),
            Self::Account => caps.has(Cap::AccountNotify),
            Self::Server | Self::Hops | Self::Realname => true,
        }
    }
}

/// Whether the server tells of every change of these fields.
pub(super) fn are_kept(fields: &[Field], caps: CapSet) -> bool {
    fields.iter().all(|field| field.is_kept(caps))
}

/// One person, as far as known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Person {
    #[serde(with = "latin1::option")]
    pub(super) user: Option<Bytes>,
    #[serde(with = "latin1::option")]
    pub(super) host: Option<Bytes>,
    #[serde(with = "latin1::option")]
    pub(super) server: Option<Bytes>,
    #[serde(with = "latin1::option")]
    pub(super) hops: Option<Bytes>,
    /// `0`: logged in nowhere.
    #[serde(with = "latin1::option")]
    pub(super) account: Option<Bytes>,
    #[serde(with = "latin1::option")]
    pub(super) realname: Option<Bytes>,
    pub(super) away: Option<bool>,
    /// The letters of a WHO's flags that are neither about being away nor about a channel.
    #[serde(with = "latin1::option")]
    pub(super) marks: Option<Bytes>,
}

/// A copy of its own: what is kept must not hold on to the bytes of a whole read.
pub(super) fn kept(text: &[u8]) -> Option<Bytes> {
    (text.len() <= MAX_TEXT).then(|| Bytes::copy_from_slice(text))
}

impl Person {
    /// Of whom nothing is known.
    pub(super) const UNKNOWN: Self = Self {
        user: None,
        host: None,
        server: None,
        hops: None,
        account: None,
        realname: None,
        away: None,
        marks: None,
    };

    fn of(line: &Line<'_>) -> Self {
        let mut person = Self::default();
        if let Some((user, host)) = line.user_host() {
            (person.user, person.host) = (kept(user), kept(host));
        }
        person
    }

    pub(super) fn knows(&self, field: Field) -> bool {
        match field {
            Field::User => self.user.is_some(),
            Field::Host => self.host.is_some(),
            Field::Server => self.server.is_some(),
            Field::Flags => self.away.is_some() && self.marks.is_some(),
            Field::Hops => self.hops.is_some(),
            Field::Account => self.account.is_some(),
            Field::Realname => self.realname.is_some(),
        }
    }

    /// What is newly known takes the place of what was.
    fn learn(&mut self, new: Self) {
        let texts = [
            (&mut self.user, new.user),
            (&mut self.host, new.host),
            (&mut self.server, new.server),
            (&mut self.hops, new.hops),
            (&mut self.account, new.account),
            (&mut self.realname, new.realname),
            (&mut self.marks, new.marks),
        ];
        for (old, new) in texts {
            if new.is_some() {
                *old = new;
            }
        }
        self.away = new.away.or(self.away);
    }
}

/// The people that are known.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct People(BTreeMap<Name, Person>);

impl People {
    pub(super) fn get(&self, nick: &Name) -> Option<&Person> {
        self.0.get(nick)
    }

    fn learn(&mut self, nick: Name, person: Person) {
        if let Some(known) = self.0.get_mut(&nick) {
            known.learn(person);
        } else if self.0.len() < MAX_PEOPLE {
            self.0.insert(nick, person);
        }
    }

    pub(super) fn forget(&mut self, nick: &Name) {
        self.0.remove(nick);
    }

    pub(super) fn rename(&mut self, old: &Name, new: &Name) {
        if let Some(person) = self.0.remove(old) {
            self.0.insert(new.clone(), person);
        }
    }

    pub(super) fn refold(&mut self, mapping: CaseMapping) {
        self.0 = std::mem::take(&mut self.0)
            .into_iter()
            .map(|(nick, person)| (nick.refold(mapping), person))
            .collect();
    }
}

impl Network {
    /// What is known of somebody.
    pub(super) fn person(&self, nick: &Name) -> Option<&Person> {
        self.link()?.people.get(nick)
    }

    /// Something about somebody. Kept while somebody is attached who may ask, of people who share a channel
    /// with us: of others no change would be told.
    pub(super) fn learn(&mut self, nick: &[u8], person: Person) {
        if !self.clients.is_empty() && self.shares_channel(nick) {
            self.learn_listed(nick, person);
        }
    }

    /// The same of somebody who is on a list of a channel's members.
    pub(super) fn learn_listed(&mut self, nick: &[u8], person: Person) {
        let nick = self.name(nick);
        if !self.clients.is_empty()
            && person != Person::default()
            && let Some(link) = self.link_mut()
        {
            link.people.learn(nick, person);
        }
    }

    /// What is known already is brought up to date; who is not known stays so.
    fn correct(&mut self, nick: &[u8], change: impl FnOnce(&mut Person)) {
        let nick = self.name(nick);
        if let Some(link) = self.link_mut()
            && let Some(person) = link.people.0.get_mut(&nick)
        {
            change(person);
        }
    }

    /// Whether somebody is on a channel with us.
    pub(super) fn shares_channel(&self, nick: &[u8]) -> bool {
        let nick = self.name(nick);
        let channels = self.link().into_iter().flat_map(|l| l.channels.values());
        let mut channels = channels;
        channels.any(|channel| channel.members.contains_key(&nick))
    }

    /// Whether clients are shown this nick in a channel.
    pub(super) fn is_seen(&self, nick: &[u8]) -> bool {
        let nick = self.name(nick);
        let channels = self.link().into_iter().flat_map(|l| &l.channels);
        let mut with = channels.filter(|(_, channel)| channel.members.contains_key(&nick));
        with.any(|(channel, _)| !self.is_detached(channel))
    }

    /// JOIN, with account and real name where extended-join is on. Who is away is told right behind it.
    pub(super) fn met(&mut self, line: &Line<'_>) {
        if self.clients.is_empty() {
            return;
        }
        let caps = self.caps_of_link();
        let mut person = Person::of(line);
        let nick = self.name(line.nick());
        if caps.has(Cap::ExtendedJoin) && line.param_count() >= 3 {
            let account = line.param(1).unwrap_or_default();
            person.account = kept(if account == b"*" { b"0" } else { account });
            person.realname = kept(line.param(2).unwrap_or_default());
        }
        if caps.has(Cap::AwayNotify) && self.person(&nick).is_none() {
            person.away = Some(false);
        }
        self.learn(line.nick(), person);
    }

    /// Somebody left a channel.
    pub(super) fn lost_sight(&mut self, nick: &[u8]) {
        let name = self.name(nick);
        if self.person(&name).is_some()
            && !self.shares_channel(nick)
            && let Some(link) = self.link_mut()
        {
            link.people.forget(&name);
        }
    }

    /// We left a channel, or nobody is here to ask: only whom we still see is known.
    pub(super) fn forget_strangers(&mut self) {
        let nobody = self.clients.is_empty();
        let Some(link) = self.link_mut() else { return };
        let channels = &link.channels;
        let seen = |nick: &Name| channels.values().any(|c| c.members.contains_key(nick));
        link.people.0.retain(|nick, _| !nobody && seen(nick));
    }

    /// AWAY, ACCOUNT, CHGHOST or SETNAME of somebody.
    pub(super) fn note_change(&mut self, line: &Line<'_>) {
        let text = |n| line.param(n).unwrap_or_default();
        if line.is(b"AWAY") {
            let away = !text(0).is_empty();
            self.correct(line.nick(), |person| person.away = Some(away));
        } else if line.is(b"ACCOUNT") {
            let account = if text(0) == b"*" { b"0" } else { text(0) };
            self.correct(line.nick(), |person| person.account = kept(account));
        } else if line.is(b"CHGHOST") {
            let (user, host) = (kept(text(0)), kept(text(1)));
            self.correct(line.nick(), |person| {
                (person.user, person.host) = (user, host);
            });
        } else if line.is(b"SETNAME") {
            let realname = kept(text(0));
            self.correct(line.nick(), |person| person.realname = realname);
        }
    }

    /// Of ourselves the server tells in other words: 305 and 306, 396, 900 and 901, MODE.
    pub(super) fn note_own_change(&mut self, change: impl FnOnce(&mut Person)) {
        let nick = self.nick().to_vec();
        self.correct(&nick, change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_people_are_known_than_there_is_room_for() {
        let mut people = People::default();
        let person = || Person {
            away: Some(false),
            ..Person::default()
        };
        for n in 0..=MAX_PEOPLE {
            let nick = format!("n{n}");
            people.learn(Name::new(nick.as_bytes(), CaseMapping::Ascii), person());
        }
        assert_eq!(people.0.len(), MAX_PEOPLE);
        assert_eq!(kept(&[b'x'; MAX_TEXT + 1]), None);
    }

    #[test]
    fn what_is_told_again_replaces_only_what_it_tells() {
        let mut person = Person {
            user: kept(b"u"),
            host: kept(b"old"),
            ..Person::default()
        };
        person.learn(Person {
            host: kept(b"new"),
            away: Some(true),
            ..Person::default()
        });
        assert_eq!(person.user.as_deref(), Some(&b"u"[..]));
        assert_eq!(person.host.as_deref(), Some(&b"new"[..]));
        assert!(!person.knows(Field::Flags), "marks are not known");
    }
}
