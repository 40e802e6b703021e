//! draft/metadata-2, where the server has it: questions go there and answers to who asked. Each client has its
//! own subscriptions, the server those of all; what it tells of a key goes to whoever subscribed to it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::{Cap, Line, LineBuilder, latin1};

use super::Network;
use super::families::Family;
use super::feature::{Answer, Asked, Feature, Form, Offer, Received, Rule, Source};
use super::outgoing::Lane;
use super::turn::{Audience, ClientId, Turn, Worn};

pub(super) static METADATA: Feature = Feature {
    offers: &[Offer(Cap::Metadata, Source::Server)],
    server: &[
        Rule::new(b"METADATA", 4, Network::on_metadata),
        Rule::new(b"770", 2, Network::on_subscribed),
        Rule::new(b"771", 2, Network::on_subscribed),
    ],
    client: &[Rule::new(b"METADATA", 2, Network::ask_metadata)],
    forms: &[Form {
        command: b"METADATA",
        unless: Cap::Metadata,
        write: |_, _, _| {},
    }],
};

/// At most so many keys are a client's, or ours.
const MAX_KEYS: usize = 200;
/// No key is longer.
const MAX_KEY: usize = 100;
/// A longer value is passed on, not kept.
const MAX_VALUE: usize = 400;
/// Room for keys in one line.
const LIST_BYTES: usize = 400;

/// Keys, in small letters: case does not count.
pub(super) type Keys = BTreeSet<Vec<u8>>;

/// What the server says of ourselves: visibility and value by key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct OwnMetadata(BTreeMap<String, (Vec<u8>, Vec<u8>)>);

/// The keys of a list: several parameters, or several words in one.
fn keys<'a>(line: &Line<'a>, first: usize) -> impl Iterator<Item = &'a [u8]> {
    let words = line.params().skip(first);
    let keys = words.flat_map(|p| p.split(|b| *b == b' '));
    keys.filter(|key| !key.is_empty() && key.len() <= MAX_KEY)
}

impl Network {
    fn ask_metadata(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        match asked.line.param(1).unwrap_or_default().to_ascii_uppercase()[..] {
            ref word if word == b"UNSUB" => self.unsubscribe(asked, turn),
            ref word if word == b"SUB" && self.link().is_none() => {
                self.subscribe_later(asked, turn)
            }
            ref word if word == b"SUBS" => {
                let client = self.clients.get(&asked.from);
                let own = client.map(|c| c.subscriptions.clone()).unwrap_or_default();
                self.tell_keys(asked.from, 772, own.iter().map(|key| &key[..]), turn);
                Answer::Now
            }
            _ => self.forward(asked, turn),
        }
    }

    /// Without a link: the next one is told.
    fn subscribe_later(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let wanted: Keys = keys(&asked.line, 2)
            .map(<[u8]>::to_ascii_lowercase)
            .collect();
        if let Some(client) = self.clients.get_mut(&asked.from) {
            let room = MAX_KEYS.saturating_sub(client.subscriptions.len());
            client
                .subscriptions
                .extend(wanted.iter().take(room).cloned());
        }
        self.tell_keys(asked.from, 770, wanted.iter().map(|key| &key[..]), turn);
        Answer::Now
    }

    fn tell_keys<'a>(
        &self,
        to: ClientId,
        number: u16,
        keys: impl Iterator<Item = &'a [u8]>,
        turn: &mut Turn,
    ) {
        for list in crate::wire::caps::pack(keys, LIST_BYTES) {
            if !list.is_empty() {
                turn.tell(to, self.numeric(number).trailing(&list).build());
            }
        }
    }

    /// What others still want stays the server's to tell.
    fn unsubscribe(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let mut gone: Vec<Vec<u8>> = Vec::new();
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for key in keys(&asked.line, 2) {
            let key = key.to_ascii_lowercase();
            let mut others = self.clients.iter().filter(|(id, _)| **id != asked.from);
            let wanted = others.any(|(_, c)| c.subscriptions.contains(&key));
            if wanted { &mut kept } else { &mut gone }.push(key);
        }
        if let Some(client) = self.clients.get_mut(&asked.from) {
            let all = gone.iter().chain(&kept);
            all.for_each(|key| _ = client.subscriptions.remove(key));
        }
        self.tell_keys(asked.from, 771, kept.iter().map(|key| &key[..]), turn);
        if gone.is_empty() {
            return Answer::Now;
        }
        let line = [b"METADATA * UNSUB ", &gone.join(&b' ')[..]].concat();
        self.send_for(asked, line.into(), turn)
    }

    /// 770 and 771: whose question it was has them from now on, or no more. Our own are nobody's to see.
    fn on_subscribed(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let question = self.question_at_hand(Family::Metadata, turn);
        let Some(asker) = question.map(|(_, request)| request.asker) else {
            return;
        };
        if let Some(client) = asker.and_then(|id| self.clients.get_mut(&id)) {
            for key in keys(&received.line, 1) {
                let key = key.to_ascii_lowercase();
                if received.line.numeric() == Some(771) {
                    client.subscriptions.remove(&key);
                } else if client.subscriptions.len() < MAX_KEYS {
                    client.subscriptions.insert(key);
                }
            }
        }
        self.on_numeric(received, turn);
    }

    fn on_metadata(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let line = &received.line;
        let text = |n| line.param(n).unwrap_or_default();
        let key = text(1).to_ascii_lowercase();
        let own = self.is_me(text(0)) || text(0) == b"*";
        if own && let Some(link) = self.link_mut() {
            let known = &mut link.metadata.0;
            let key = latin1::to_string(&key);
            let fits = key.len() <= MAX_KEY && text(2).len() + text(3).len() <= MAX_VALUE;
            if text(3).is_empty() {
                known.remove(&key);
            } else if fits && (known.len() < MAX_KEYS || known.contains_key(&key)) {
                known.insert(key, (text(2).to_vec(), text(3).to_vec()));
            }
        }
        let to = match self.audience_of(turn) {
            Audience::All => {
                let listeners = self.clients.iter();
                let listeners = listeners.filter(|(_, c)| own || c.subscriptions.contains(&key));
                Audience::Only(listeners.map(|(id, _)| *id).collect())
            }
            asker => asker,
        };
        self.pass_on(received, to, turn);
    }

    fn subscriptions(&self) -> Keys {
        let all = self.clients.values().flat_map(|c| &c.subscriptions);
        all.take(MAX_KEYS).cloned().collect()
    }

    /// A fresh link knows of no subscription.
    pub(super) fn subscribe_again(&mut self, turn: &mut Turn) {
        if self.caps_of_link().has(Cap::Metadata) {
            let keys = self.subscriptions();
            self.say_keys(b"SUB", &keys, turn);
        }
    }

    /// A client is gone: what it alone subscribed to is no longer asked for.
    pub(super) fn unsubscribe_for(&mut self, gone: &Keys, turn: &mut Turn) {
        if self.caps_of_link().has(Cap::Metadata) {
            let left = self.subscriptions();
            let keys: Keys = gone.difference(&left).cloned().collect();
            self.say_keys(b"UNSUB", &keys, turn);
        }
    }

    fn say_keys(&mut self, word: &[u8], keys: &Keys, turn: &mut Turn) {
        for list in crate::wire::caps::pack(keys, LIST_BYTES) {
            if !list.is_empty() {
                let line = [b"METADATA * ", word, b" ", &list].concat();
                self.queue(None, Lane::Bulk, line.into(), turn);
            }
        }
    }

    /// What is known of ourselves, be it nothing, in a batch: part of the welcome of a client that knows of it.
    pub(super) fn tell_own_metadata(&self, to: ClientId, turn: &mut Turn) {
        let client = self.clients.get(&to);
        let knows = |cap| client.is_some_and(|c| c.caps.has(cap));
        if !knows(Cap::Metadata) || !knows(Cap::Batch) {
            return;
        }
        let server = self.settings.server.as_bytes();
        let batch = |sign: &[u8]| {
            let reference = [sign, b"metadata"].concat();
            LineBuilder::from(server, b"BATCH").param(&reference)
        };
        turn.tell(to, batch(b"+").param(b"metadata").build());
        let known = self.link().into_iter().flat_map(|link| &link.metadata.0);
        for (key, (visibility, value)) in known {
            let line = LineBuilder::from(server, b"METADATA")
                .param(self.nick())
                .param(&latin1::from_str(key).unwrap_or_default())
                .param(visibility);
            let worn = Worn {
                label: None,
                batch: Some(Bytes::from_static(b"metadata")),
            };
            turn.reply(to, line.trailing(value).build(), worn);
        }
        turn.tell(to, batch(b"-").build());
    }
}
