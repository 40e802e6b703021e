//! What attached clients have been shown of us and the network. It stays during an outage, so that a
//! flap says nothing; when a link is up again the difference is told.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::history::{Fact, Write};
use crate::wire::{Cap, CapSet, CaseMapping, Isupport, LineBuilder, Name, latin1};

use super::capabilities::Values;
use super::clients::Attached;
use super::turn::{Action, Audience, Turn};
use super::{Network, Settings};

/// Tells clients that no tag of theirs is passed on.
pub(super) const TAGS_DENIED: &[u8] = b"CLIENTTAGDENY=*";

/// Whether a token is about tags of clients: theirs, when there is one, holds where tags are passed on.
pub(super) fn is_tags_denied(token: &[u8]) -> bool {
    let key = token.strip_prefix(b"-").unwrap_or(token);
    key.split(|b| *b == b'=').next() == Some(b"CLIENTTAGDENY")
}

/// What clients take for true.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Face {
    #[serde(with = "latin1")]
    pub(super) nick: Bytes,
    #[serde(with = "latin1::option")]
    pub(super) user: Option<Bytes>,
    #[serde(with = "latin1::option")]
    pub(super) host: Option<Bytes>,
    #[serde(with = "latin1::option")]
    pub(super) account: Option<Bytes>,
    /// The user's modes.
    pub(super) modes: BTreeSet<u8>,
    /// 004: user modes, channel modes, channel modes with a parameter.
    pub(super) server_modes: [Vec<u8>; 3],
    pub(super) isupport: Isupport,
    /// Whether the server passes on tags of clients.
    pub(super) takes_tags: bool,
    /// Capabilities of the server's that are on offer.
    pub(super) caps: CapSet,
    /// What stands behind `=` in them.
    pub(super) values: Values,
    /// Channels that clients have windows for.
    pub(super) channels: BTreeSet<Name>,
}

impl Face {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            nick: Bytes::from(settings.network.nick.clone()),
            user: None,
            host: None,
            account: None,
            modes: BTreeSet::new(),
            server_modes: [b"i".to_vec(), b"biklmnopstv".to_vec(), Vec::new()],
            isupport: Isupport::default(),
            takes_tags: false,
            caps: CapSet::default(),
            values: Values::default(),
            channels: BTreeSet::new(),
        }
    }

    /// `+iw`
    pub(super) fn modes_text(&self) -> Vec<u8> {
        std::iter::once(b'+')
            .chain(self.modes.iter().copied())
            .collect()
    }
}

impl Network {
    /// The link is up and the server has told what it can do: whoever is attached learns the difference.
    pub(super) fn face_link(&mut self, turn: &mut Turn) {
        let Some(link) = self.link() else { return };
        let new_caps = super::capabilities::passed_on(link.caps);
        let (nick, isupport) = (link.nick.clone(), link.isupport.clone());
        let server_modes = link.server_modes.clone();
        self.show_nick(&nick, turn);
        let mut changes = Isupport::changes(&self.face.isupport, &isupport);
        let takes_tags = self.caps_of_link().has(Cap::MessageTags);
        let changed = takes_tags != std::mem::replace(&mut self.face.takes_tags, takes_tags);
        if changed || !takes_tags {
            changes.retain(|token| !is_tags_denied(token));
        }
        if changed {
            let own = isupport.tokens().into_iter().find(|t| is_tags_denied(t));
            let none = || b"-CLIENTTAGDENY".to_vec();
            changes.push(match takes_tags {
                true => own.unwrap_or_else(none),
                false => TAGS_DENIED.to_vec(),
            });
        }
        // Where this server sets no limit, ours holds again.
        for change in changes.iter_mut().filter(|c| c[..] == b"-NAMELEN"[..]) {
            *change = super::identity::namelen_token();
        }
        self.face.isupport = isupport;
        self.face.server_modes = server_modes;
        for line in self.support_lines(&changes) {
            turn.deliver(Audience::All, line);
        }
        self.show_host(turn);
        self.show_modes(turn);
        self.show_caps(new_caps, turn);
        let link_account = self.link().and_then(|link| link.account.clone());
        self.show_account(link_account, turn);
    }

    /// A change of our nick, if clients do not know it yet.
    fn show_nick(&mut self, nick: &Name, turn: &mut Turn) {
        let new = Bytes::copy_from_slice(nick.as_bytes());
        if self.face.nick == new {
            return;
        }
        let old = std::mem::replace(&mut self.face.nick, new);
        let mut source = self.own_source();
        let user_host = source.iter().position(|&b| b == b'!').unwrap_or(0);
        source.splice(..user_host, old);
        turn.deliver(
            Audience::All,
            LineBuilder::from(&source, b"NICK")
                .trailing(nick.as_bytes())
                .build(),
        );
    }

    /// 396, when the welcome held one that clients do not know.
    fn show_host(&mut self, turn: &mut Turn) {
        let Some(link) = self.link_mut() else { return };
        let (user, host) = (link.user.take(), link.host.take());
        let known = &mut self.face.user;
        *known = user.or_else(|| known.take());
        if host.is_none() || host == self.face.host {
            return;
        }
        self.face.host = host;
        if let Some(line) = self.visible_host_line() {
            turn.deliver(Audience::All, line);
        }
    }

    /// 396, when our host is known.
    pub(super) fn visible_host_line(&self) -> Option<Bytes> {
        let line = self.numeric(396).param(self.face.host.as_deref()?);
        Some(line.trailing(b"is now your visible host").build())
    }

    /// A fresh link has no user modes until the server says so.
    fn show_modes(&mut self, turn: &mut Turn) {
        let Some(link) = self.link() else { return };
        let modes = link.modes.clone();
        let gone: Vec<u8> = self.face.modes.difference(&modes).copied().collect();
        let new: Vec<u8> = modes.difference(&self.face.modes).copied().collect();
        self.face.modes = modes;
        let mut text = Vec::new();
        for (sign, letters) in [(b'+', new), (b'-', gone)] {
            if !letters.is_empty() {
                text.push(sign);
                text.extend(letters);
            }
        }
        if !text.is_empty() {
            let line = LineBuilder::from(&self.own_source(), b"MODE")
                .param(self.nick())
                .trailing(&text);
            turn.deliver(Audience::All, line.build());
        }
    }

    /// CAP NEW and DEL for what this server has more or less than the one before.
    pub(super) fn show_caps(&mut self, caps: CapSet, turn: &mut Turn) {
        let old = std::mem::replace(&mut self.face.caps, caps);
        let (new, gone) = (caps.difference(old), old.difference(caps));
        let new = new.union(self.take_new_values(caps));
        let hears = |c: &Attached| c.version >= 302 || c.caps.has(Cap::CapNotify);
        let listeners = self.clients.iter().filter(|(_, c)| hears(c));
        let told = listeners.map(|(id, c)| (*id, c.follows(new), c.follows(gone)));
        for (id, new, gone) in told.collect::<Vec<_>>() {
            if !new.is_empty() {
                self.tell_caps(id, b"NEW", new, turn);
            }
            if gone.is_empty() {
                continue;
            }
            self.tell_caps(id, b"DEL", gone, turn);
            if let Some(client) = self.clients.get_mut(&id) {
                client.caps = client.caps.difference(gone);
                turn.push(Action::View(id, client.view()));
            }
        }
    }

    /// 900 or 901 when the account of the link is another than clients know.
    pub(super) fn show_account(&mut self, account: Option<Bytes>, turn: &mut Turn) {
        if self.face.account == account {
            return;
        }
        self.face.account = account;
        let line = self.logged_in_line().unwrap_or_else(|| {
            let line = self.numeric(901).param(&self.own_source());
            line.trailing(b"You are now logged out").build()
        });
        turn.deliver(Audience::All, line);
    }

    /// 900, when we are logged in.
    pub(super) fn logged_in_line(&self) -> Option<Bytes> {
        let account = self.face.account.as_deref()?;
        let text = [b"You are now logged in as ", account].concat();
        Some(
            self.numeric(900)
                .param(&self.own_source())
                .param(account)
                .trailing(&text)
                .build(),
        )
    }

    /// The network compares names in another way: everything kept by name is kept anew.
    pub(super) fn refold(&mut self, mapping: CaseMapping, turn: &mut Turn) {
        if mapping == self.mapping {
            return;
        }
        self.mapping = mapping;
        self.recent.refold(mapping);
        self.clients
            .values_mut()
            .for_each(|client| client.refold(mapping));
        self.positions.refold(mapping);
        self.saved.refold(mapping);
        self.detached.refold(mapping);
        self.markers.refold(mapping);
        self.face.channels = std::mem::take(&mut self.face.channels)
            .iter()
            .map(|n| n.refold(mapping))
            .collect();
        if let Some(link) = self.link_mut() {
            link.refold(mapping);
        }
        let value = serde_json::to_vec(&mapping).unwrap_or_default().into();
        let write = Write::Fact {
            fact: Fact::CaseMapping,
            name: Bytes::new(),
            value: Some(value),
        };
        turn.push(Action::Record(write));
    }
}
