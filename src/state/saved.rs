//! What the user wants on this network, beside what the file declares: channels, keys, the nick.
//! Remembered as facts in the store.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
    #[serde(default)]
    declaration: Option<String>,
    /// Facts of carom 0.1 told the declaration by a number that means nothing now.
    #[serde(default, skip_serializing)]
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
                        self.restore_channel(self.name(name), saved);
                    }
                }
                Fact::Detached => self.restore_detached(name, value),
                Fact::Nick => self.restore_nick(value),
                Fact::Told => self.storage.restore_told(name, value),
                Fact::Marker => self.restore_marker(name, value),
                Fact::CaseMapping => {}
                Fact::Offline => self.offline = true,
                Fact::Sts => self.restore_policy(name, value),
                Fact::Away => self.away = Some(value.clone()),
                Fact::Realname => self.restore_realname(value),
                Fact::NewCertificate => self.new_certificate = true,
            }
        }
    }

    /// What was left while it was declared is taken to be declared as it is now.
    fn restore_channel(&mut self, channel: Name, mut saved: Saved) {
        if saved.declared.take().is_some() && saved.declaration.is_none() {
            saved.declaration = self.declared(&channel);
        }
        self.saved.0.insert(channel, saved);
    }

    /// The real name of an earlier day, unless the file has come to want another since.
    fn restore_realname(&mut self, value: &[u8]) {
        let Ok((declared, name)) = serde_json::from_slice::<(String, String)>(value) else {
            return;
        };
        if declared == self.settings.network.realname {
            self.realname = latin1::from_str(&name).map(Bytes::from);
        }
    }

    pub(super) fn save_realname(&mut self, name: &[u8], turn: &mut Turn) {
        if self.realname() == name {
            return;
        }
        self.realname = Some(Bytes::copy_from_slice(name));
        let value = (&self.settings.network.realname, latin1::to_string(name));
        let value = serde_json::to_vec(&value).unwrap_or_default().into();
        let write = Write::Fact {
            fact: Fact::Realname,
            name: Bytes::new(),
            value: Some(value),
        };
        self.remember(write, turn);
    }

    /// The real name: chosen by the user, or configured.
    pub(super) fn realname(&self) -> &[u8] {
        let configured = self.settings.network.realname.as_bytes();
        self.realname.as_deref().unwrap_or(configured)
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

    /// The configuration names another nick: what was chosen before is over, even if the old one is named again.
    pub(super) fn forget_nick(&mut self, turn: &mut Turn) {
        let forget = Write::Fact {
            fact: Fact::Nick,
            name: Bytes::new(),
            value: None,
        };
        self.remember(forget, turn);
        self.wanted_nick = Bytes::from(self.settings.network.nick.clone());
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
            declaration: declared,
            declared: None,
        };
        if old != Some(&saved) {
            self.save(channel, Some(saved), turn);
        }
    }

    /// The user left a channel: it is forgotten, or when it is declared, remembered as left.
    pub(super) fn save_parted(&mut self, channel: &Name, turn: &mut Turn) {
        let declared = self.declared(channel);
        let left = declared.map(|declaration| Saved {
            wanted: false,
            key: None,
            order: 0,
            declaration: Some(declaration),
            declared: None,
        });
        self.save(channel, left, turn);
        if !self.is_member(channel) {
            self.forget_detached(channel, turn);
        }
    }

    /// A channel is declared anew: that an earlier declaration was parted does not count.
    pub(super) fn forget_parting(&mut self, channel: &Name, turn: &mut Turn) {
        if self.saved.0.get(channel).is_some_and(|saved| !saved.wanted) {
            self.save(channel, None, turn);
        }
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
            Some(saved) if saved.wanted || saved.declaration == self.declared(channel) => {
                saved.wanted
            }
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

    /// A word for what the file declares of a channel.
    fn declared(&self, channel: &Name) -> Option<String> {
        let channels = &self.settings.network.channels;
        let declared = channels.iter().find(|c| channel.is(c.name.as_bytes()))?;
        let key = declared.key.as_ref().map(|key| key.reveal());
        let mut hasher = Sha256::new().chain_update(&declared.name);
        if let Some(key) = key {
            hasher = hasher.chain_update([0]).chain_update(key);
        }
        Some(STANDARD.encode(&hasher.finalize()[..9]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Secret};
    use crate::history::Remembered;
    use crate::state::Settings;

    fn network(fact: &str, key: Option<&str>) -> Network {
        let mut settings = Settings::default();
        settings.network.channels.push(config::Channel {
            name: "#rust".into(),
            key: key.map(|key| Secret::new(key.into())),
            ..config::Channel::default()
        });
        let remembered = Remembered {
            facts: vec![(
                Fact::Channel,
                Bytes::from_static(b"#rust"),
                Bytes::copy_from_slice(fact.as_bytes()),
            )],
            ..Remembered::default()
        };
        Network::new(settings, remembered, 1)
    }

    /// A change of these words would join channels again that their user has left.
    #[test]
    fn declarations_are_told_apart_by_words_that_stay() {
        let rust = |network: &Network| network.declared(&network.name(b"#rust"));
        let (open, keyed) = (network("", None), network("", Some("sesame")));
        assert_eq!(rust(&open).as_deref(), Some("IpQXx1UJT2oo"));
        assert_eq!(rust(&keyed).as_deref(), Some("N81timVtso90"));
        assert_eq!(open.declared(&open.name(b"#go")), None);
    }

    #[test]
    fn a_channel_that_was_left_stays_so_until_its_declaration_changes() {
        let is_wanted = |fact: &str, key| {
            let network = network(fact, key);
            network.is_wanted(&network.name(b"#rust"))
        };
        let word = network("", None).declared(&Name::new(b"#rust", CaseMapping::default()));
        let left = format!(
            r##"{{"wanted":false,"key":null,"order":0,"declaration":"{}"}}"##,
            word.unwrap()
        );
        assert!(!is_wanted(&left, None));
        assert!(is_wanted(&left, Some("sesame")));
        // As carom 0.1 wrote it.
        let old = r##"{"wanted":false,"key":null,"order":0,"declared":1234567890}"##;
        assert!(!is_wanted(old, None));
        assert!(is_wanted("", None));
    }
}
