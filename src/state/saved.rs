//! What the user wants on this network, beside what the file declares: channels, keys, the nick.
//! Remembered as facts in the store.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::history::{Fact, Write};
use crate::wire::{CaseMapping, Name, latin1};

use super::Network;
use super::turn::Turn;

/// Channels that were joined or parted by the user.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct SavedChannels(BTreeMap<Name, Saved>);

/// What is remembered of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    /// Whether to be there.
    wanted: bool,
    #[serde(with = "latin1::option")]
    key: Option<Bytes>,
    /// Channels are joined in the order in which the user joined them.
    order: u64,
    /// The declaration it overrides; another one in the file wins again.
    declared: Option<u64>,
}

impl SavedChannels {
    pub(super) fn refold(&mut self, mapping: CaseMapping) {
        self.0 = std::mem::take(&mut self.0)
            .into_iter()
            .map(|(n, s)| (n.refold(mapping), s))
            .collect();
    }
}

/// How names compared when the network was last seen.
pub(super) fn mapping(facts: &[(Fact, Bytes, Bytes)]) -> CaseMapping {
    facts
        .iter()
        .find(|(fact, ..)| *fact == Fact::CaseMapping)
        .and_then(|(.., value)| serde_json::from_slice(value).ok())
        .unwrap_or_default()
}

impl Network {
    pub(super) fn restore_facts(&mut self, facts: &[(Fact, Bytes, Bytes)]) {
        for (fact, name, value) in facts {
            match fact {
                Fact::Channel => {
                    if let Ok(saved) = serde_json::from_slice(value) {
                        self.saved.0.insert(self.name(name), saved);
                    }
                }
                Fact::Nick => self.restore_nick(value),
                Fact::CaseMapping => {}
            }
        }
    }

    /// The nick of an earlier day, unless the file has come to want another since.
    fn restore_nick(&mut self, value: &[u8]) {
        let Ok((declared, nick)) = serde_json::from_slice::<(String, String)>(value) else {
            return;
        };
        if declared == self.settings.network.nick
            && let Some(nick) = latin1::from_str(&nick)
        {
            self.wanted_nick = nick.into();
            self.face.nick = self.wanted_nick.clone();
        }
    }

    pub(super) fn save_nick(&mut self, nick: &[u8], turn: &mut Turn) {
        self.wanted_nick = Bytes::copy_from_slice(nick);
        let value = (&self.settings.network.nick, latin1::to_string(nick));
        let value = serde_json::to_vec(&value).unwrap_or_default().into();
        self.remember(
            Write::Fact {
                fact: Fact::Nick,
                name: Bytes::new(),
                value: Some(value),
            },
            turn,
        );
    }

    /// The user joined a channel: it is joined again on every link.
    pub(super) fn save_joined(&mut self, channel: &Name, key: Option<&[u8]>, turn: &mut Turn) {
        let order = self
            .saved
            .0
            .values()
            .map(|saved| saved.order + 1)
            .max()
            .unwrap_or(0);
        let declared = self.declared(channel);
        let old = self.saved.0.get(channel);
        let saved = Saved {
            wanted: true,
            key: key
                .map(Bytes::copy_from_slice)
                .or_else(|| old.and_then(|o| o.key.clone())),
            order: old.filter(|o| o.wanted).map_or(order, |o| o.order),
            declared,
        };
        if old != Some(&saved) {
            self.save(channel, Some(saved), turn);
        }
    }

    /// The user left a channel: it is forgotten, or when it is declared, remembered as left.
    pub(super) fn save_parted(&mut self, channel: &Name, turn: &mut Turn) {
        let declared = self.declared(channel);
        let left = declared.map(|_| Saved {
            wanted: false,
            key: None,
            order: 0,
            declared,
        });
        self.save(channel, left, turn);
    }

    /// A key that was learnt from the channel itself.
    pub(super) fn save_key(&mut self, channel: &Name, key: Option<&[u8]>, turn: &mut Turn) {
        let Some(old) = self.saved.0.get(channel).filter(|saved| saved.wanted) else {
            return;
        };
        let key = key.map(Bytes::copy_from_slice);
        if old.key != key {
            let saved = Saved { key, ..old.clone() };
            self.save(channel, Some(saved), turn);
        }
    }

    fn save(&mut self, channel: &Name, saved: Option<Saved>, turn: &mut Turn) {
        let name = Bytes::copy_from_slice(channel.as_bytes());
        let value = saved
            .as_ref()
            .and_then(|s| serde_json::to_vec(s).ok())
            .map(Bytes::from);
        match saved {
            Some(saved) => _ = self.saved.0.insert(channel.clone(), saved),
            None => _ = self.saved.0.remove(channel),
        }
        self.remember(
            Write::Fact {
                fact: Fact::Channel,
                name,
                value,
            },
            turn,
        );
    }

    /// Whether to be on a channel.
    pub(super) fn is_wanted(&self, channel: &Name) -> bool {
        match self.saved.0.get(channel) {
            Some(saved) if saved.wanted || saved.declared == self.declared(channel) => saved.wanted,
            _ => self.declared(channel).is_some(),
        }
    }

    /// The channels to join, with their keys: declared ones in the file's order, then saved ones.
    pub(super) fn wanted_channels(&self) -> Vec<(Name, Option<Vec<u8>>)> {
        let declared = self
            .settings
            .network
            .channels
            .iter()
            .map(|c| self.name(c.name.as_bytes()));
        let declared: Vec<Name> = declared.filter(|name| self.is_wanted(name)).collect();
        let mut saved: Vec<_> = self
            .saved
            .0
            .iter()
            .filter(|(n, s)| s.wanted && !declared.contains(n))
            .collect();
        saved.sort_by_key(|(_, saved)| saved.order);
        let saved = saved.into_iter().map(|(name, _)| name.clone());
        declared
            .iter()
            .cloned()
            .chain(saved)
            .map(|name| (name.clone(), self.key_of(&name)))
            .collect()
    }

    /// The key to join a channel with: the one last used, else the declared one.
    pub(super) fn key_of(&self, channel: &Name) -> Option<Vec<u8>> {
        let saved = self
            .saved
            .0
            .get(channel)
            .and_then(|saved| saved.key.clone());
        let declared = || {
            let channels = &self.settings.network.channels;
            let declared = channels.iter().find(|c| channel.is(c.name.as_bytes()))?;
            declared
                .key
                .as_ref()
                .map(|key| key.reveal().as_bytes().to_vec())
        };
        saved.map(|key| key.to_vec()).or_else(declared)
    }

    /// A number for what the file declares of a channel.
    fn declared(&self, channel: &Name) -> Option<u64> {
        let channels = &self.settings.network.channels;
        let declared = channels.iter().find(|c| channel.is(c.name.as_bytes()))?;
        let mut hasher = DefaultHasher::new();
        declared.name.hash(&mut hasher);
        declared
            .key
            .as_ref()
            .map(|key| key.reveal())
            .hash(&mut hasher);
        Some(hasher.finish())
    }
}
