//! CAP after login, in both directions: what a client switches on and off, what a server comes to offer
//! or takes away.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::caps::{items, pack};
use crate::wire::{Cap, CapSet, LineBuilder};

use super::feature::{self, Answer, Asked, Feature, NOTHING, Offer, Received, Rule, Source};
use super::monitor::EXTENDED;
use super::multiline::LIMITS_TEXT;
use super::registration::{groups, require, wanted};
use super::turn::{Action, ClientId, Turn};
use super::{Network, sasl};

pub(super) static CAPABILITIES: Feature = Feature {
    offers: &[Offer(Cap::CapNotify, Source::Ours)],
    server: &[Rule::new(b"CAP", 3, Network::on_cap)],
    client: &[
        Rule::new(b"CAP", 1, Network::ask_cap),
        Rule::new(b"PASS", 0, Network::already_registered),
        Rule::new(b"USER", 0, Network::already_registered),
        Rule::new(b"WEBIRC", 0, Network::already_registered),
        Rule::new(b"PROTOCTL", 0, Network::never_passed_on),
        Rule::new(b"STARTTLS", 0, Network::never_passed_on),
    ],
    ..NOTHING
};

/// So much of a list goes into one line.
const LIST_BYTES: usize = 400;
/// Longer values are not kept.
const MAX_VALUE: usize = 400;

/// What stands behind `=` in a server's capabilities. Those that are told to clients are here as they are told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Values(BTreeMap<String, String>);

impl Values {
    pub(super) fn get(&self, cap: Cap) -> Option<&str> {
        self.0.get(cap.name()).map(String::as_str)
    }

    /// Takes a value; an empty one is none.
    pub(super) fn set(&mut self, cap: Cap, value: String) {
        if value.is_empty() || value.len() > MAX_VALUE {
            self.0.remove(cap.name());
        } else {
            self.0.insert(cap.name().to_owned(), value);
        }
    }

    /// As clients are told them.
    fn for_clients(&self, caps: CapSet) -> Self {
        let mut told = Self::default();
        for cap in caps.iter() {
            if let Some(value) = self.get(cap) {
                told.set(cap, sasl::for_clients(cap, value));
            }
        }
        told
    }
}

/// The capabilities of a list that we know, with their values.
pub(super) fn heard(list: &[u8]) -> impl Iterator<Item = (Cap, String)> {
    items(list).filter_map(|item| {
        let value = item.value.unwrap_or_default();
        Some((
            Cap::parse(item.name)?,
            String::from_utf8_lossy(value).into_owned(),
        ))
    })
}

/// What clients are offered of a server's capabilities.
pub(super) fn passed_on(link: CapSet) -> CapSet {
    let has = |caps: CapSet| !link.intersection(caps).is_empty();
    // Under either of its names.
    let extended = if has(EXTENDED) {
        EXTENDED
    } else {
        CapSet::EMPTY
    };
    feature::offered(Source::Server).intersection(link.union(extended))
}

/// What a client is offered before its network is known: everything that may come to be true, or without
/// CAP 302, which could not be told otherwise later, what is always true. `sasl` is the login's.
pub fn offered_at_login(version: u16) -> CapSet {
    let ours = feature::offered(Source::Ours);
    if version >= 302 {
        ours.union(feature::offered(Source::OursWhenBound))
            .union(feature::offered(Source::Server))
    } else {
        without_values(ours)
    }
}

/// What can be offered to a client that takes no values: a capability that means nothing without one is left out.
fn without_values(caps: CapSet) -> CapSet {
    caps.difference(CapSet::of(&[Cap::Multiline]))
}

/// What stands behind `=` in a capability of our own.
pub(super) fn own_value(cap: Cap) -> Option<&'static str> {
    (cap == Cap::Multiline).then_some(LIMITS_TEXT)
}

/// The outcome of a REQ: the new set, or `None` when any of it is not to be had (all or nothing).
pub fn requested(list: &[u8], enabled: CapSet, offered: CapSet, version: u16) -> Option<CapSet> {
    let mut caps = enabled;
    for token in list.split(|b| *b == b' ').filter(|t| !t.is_empty()) {
        match token.strip_prefix(b"-") {
            Some(name) => {
                let cap = Cap::parse(name)?;
                // With 302 it is implied, and cannot be switched off.
                if cap == Cap::CapNotify && version >= 302 {
                    return None;
                }
                caps.remove(cap);
            }
            None => {
                caps.insert(Cap::parse(token).filter(|cap| offered.has(*cap))?);
            }
        }
    }
    Some(with_implied(caps))
}

/// The older names of server-time and batch mean the same.
fn with_implied(mut caps: CapSet) -> CapSet {
    if caps.has(Cap::ZncBatch) {
        caps.insert(Cap::Batch);
    }
    if caps.has(Cap::ServerTimeIso) {
        caps.insert(Cap::ServerTime);
    }
    caps
}

impl Network {
    fn offered(&self) -> CapSet {
        let ours = feature::offered(Source::Ours).union(self.face.caps);
        match self.is_bound() {
            true => ours.union(feature::offered(Source::OursWhenBound)),
            false => ours,
        }
    }

    fn ask_cap(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let word = asked.line.param(0).unwrap_or_default().to_ascii_uppercase();
        let list = asked.line.param(1).unwrap_or_default();
        let Some(client) = self.clients.get_mut(&asked.from) else {
            return Answer::Now;
        };
        match word.as_slice() {
            b"LS" => {
                let version = cap_version(list);
                client.version = client.version.max(version);
                // The lower form is answered in that, whatever was said before: with what stays as it is.
                let offered = match version < 302 {
                    true => without_values(self.offered().difference(self.face.caps)),
                    false => self.offered(),
                };
                self.tell_cap_lists(asked.from, b"LS", offered, version, turn);
            }
            b"LIST" => {
                let caps = client.caps;
                self.tell_caps(asked.from, b"LIST", caps, turn);
            }
            b"REQ" => self.ask_req(asked, list, turn),
            b"END" => {}
            _ => {
                let line = self
                    .numeric(410)
                    .param(&word)
                    .trailing(b"Invalid CAP subcommand");
                turn.tell(asked.from, line.build());
            }
        }
        Answer::Now
    }

    /// The change of view leaves right behind the answer, so no line follows it in the old form.
    fn ask_req(&mut self, asked: &Asked<'_>, list: &[u8], turn: &mut Turn) {
        let offered = self.offered();
        let Some(client) = self.clients.get_mut(&asked.from) else {
            return;
        };
        let granted = requested(list, client.caps, offered, client.version);
        let word: &[u8] = if granted.is_some() { b"ACK" } else { b"NAK" };
        let had = client.caps;
        if let Some(caps) = granted {
            client.caps = caps;
        }
        let view = client.view();
        let line = LineBuilder::from(self.settings.server.as_bytes(), b"CAP")
            .param(self.nick())
            .param(word)
            .trailing(list.trim_ascii_end());
        turn.tell(asked.from, line.build());
        turn.push(Action::View(asked.from, view));
        if !had.has(Cap::Chathistory) {
            self.tell_history_limits(asked.from, turn);
        }
        if !had.has(Cap::BouncerNetworksNotify) {
            self.follow_networks(asked.from, turn);
        }
    }

    fn already_registered(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let line = self.numeric(462).trailing(b"You may not reregister");
        self.answer(asked, line.build(), turn)
    }

    /// It would change how the server speaks with us, or is for servers alone.
    pub(super) fn never_passed_on(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let line = self.numeric(421).param(asked.line.command());
        self.answer(asked, line.trailing(b"Unknown command").build(), turn)
    }

    /// For operators, who are not spoken to through others (RFC 2812 section 3.1.8).
    pub(super) fn on_squit(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let text = b"Permission Denied- You're not an IRC operator";
        self.answer(asked, self.numeric(481).trailing(text).build(), turn)
    }

    /// A server comes to offer something, grants it, or takes it away.
    fn on_cap(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let word = received
            .line
            .param(1)
            .unwrap_or_default()
            .to_ascii_uppercase();
        let list = received.line.last().unwrap_or_default();
        let caps: CapSet = heard(list).map(|(cap, _)| cap).collect();
        let Some(link) = self.link_mut() else { return };
        match word.as_slice() {
            b"NEW" => return self.on_cap_new(list, turn),
            b"ACK" => link.caps = link.caps.union(caps),
            b"NAK" if caps.len() > 1 => caps
                .iter()
                .for_each(|cap| require(turn, [cap].into_iter().collect())),
            b"DEL" => {
                link.caps = link.caps.difference(caps);
                if caps.has(Cap::Sasl) {
                    (link.sasl, link.authenticating) = (None, None);
                }
            }
            _ => {}
        }
        self.caps_changed(turn);
        if word == b"ACK" && caps.has(Cap::Sasl) {
            self.log_in_late(turn);
        }
    }

    fn on_cap_new(&mut self, list: &[u8], turn: &mut Turn) {
        for (cap, value) in heard(list) {
            if cap == Cap::Sts {
                if self.heed_sts(&value, turn) {
                    return;
                }
            } else if let Some(link) = self.link_mut() {
                link.values.set(cap, value);
            }
        }
        let caps: CapSet = heard(list).map(|(cap, _)| cap).collect();
        let had = self.caps_of_link();
        for group in groups(wanted(caps.union(had)).difference(had)) {
            require(turn, group);
        }
        self.caps_changed(turn);
        if caps.has(Cap::Sasl) && had.has(Cap::Sasl) {
            self.log_in_late(turn);
        }
    }

    fn caps_changed(&mut self, turn: &mut Turn) {
        if self.link().is_some_and(|link| link.welcomed) {
            self.face_link(turn);
        }
    }

    /// Capabilities whose values clients have not been told. They are told them with the next NEW.
    pub(super) fn take_new_values(&mut self, caps: CapSet) -> CapSet {
        let values = self.link().map(|link| link.values.for_clients(caps));
        let values = values.unwrap_or_default();
        let old = std::mem::replace(&mut self.face.values, values);
        let is_new = |cap: &Cap| old.get(*cap) != self.face.values.get(*cap);
        caps.iter().filter(is_new).collect()
    }

    /// `CAP nick NEW` or `DEL`, and other lists. Values stand in LS and NEW alone, for who can read them.
    pub(super) fn tell_caps(&self, to: ClientId, word: &[u8], caps: CapSet, turn: &mut Turn) {
        let version = self.clients.get(&to).map_or(0, |client| client.version);
        self.tell_cap_lists(to, word, caps, version, turn);
    }

    fn tell_cap_lists(
        &self,
        to: ClientId,
        word: &[u8],
        caps: CapSet,
        version: u16,
        turn: &mut Turn,
    ) {
        let is_new = version >= 302;
        let with_values = is_new && matches!(word, b"LS" | b"NEW");
        let value = |cap| own_value(cap).or_else(|| self.face.values.get(cap));
        let words = caps.iter().map(|cap| match value(cap) {
            Some(value) if with_values => format!("{}={value}", cap.name()),
            _ => cap.name().to_owned(),
        });
        let head = LineBuilder::from(self.settings.server.as_bytes(), b"CAP").param(self.nick());
        let is_list = matches!(word, b"LS" | b"LIST");
        for line in cap_lists(&head.param(word), words, is_new || !is_list, is_list) {
            turn.tell(to, line);
        }
    }
}

/// The number behind CAP LS; 0: none.
pub(super) fn cap_version(text: &[u8]) -> u16 {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| digits);
    number.map_or(0, |n| n.parse().unwrap_or(u16::MAX))
}

/// `head` with these words behind it, in several lines if they may be `split`; `marked`: with `*` in those that others
/// follow.
pub(super) fn cap_lists(
    head: &LineBuilder,
    words: impl Iterator<Item = impl AsRef<[u8]>>,
    split: bool,
    marked: bool,
) -> Vec<Bytes> {
    let texts = pack(words, if split { LIST_BYTES } else { usize::MAX });
    let last = texts.len().saturating_sub(1);
    let lines = texts.iter().enumerate().map(|(n, text)| {
        let line = head.clone();
        let line = if marked && n < last {
            line.param(b"*")
        } else {
            line
        };
        line.trailing(text).build()
    });
    lines.collect()
}
