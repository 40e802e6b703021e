//! Detached channels: joined and stored like any other, and kept from clients until somebody joins them again. To detach
//! is to take an introduction back, to attach is to give it anew; between them a client gets nothing of the channel but
//! what is relayed. How it is with each channel is the configuration's to say, unless the user did something else: that is
//! remembered.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::{Detaching, Replay, Which};
use crate::history::{Fact, Kind, Write};
use crate::wire::{CaseMapping, LineBuilder, Name, Timestamp};

use super::chathistory::ON_REQUEST;
use super::feature::Received;
use super::record::Reach;
use super::turn::{Audience, ClientId, Shown, Ticks, Turn};
use super::{Network, Timer, config, ctcp};

/// A line on the wire, without its end (RFC 2812 section 2.3).
const LINE: usize = 510;
/// Behind the longest of names there is room for so much text, though the line becomes longer than that.
const LEAST: usize = 100;

/// The channels that are kept from clients, and those that may come to be.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Detached {
    hidden: BTreeMap<Name, Hidden>,
    /// When something that counts was last heard, of channels that are to be detached after a silence.
    heard: BTreeMap<Name, Ticks>,
}

/// A channel is detached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden {
    /// Why.
    pub why: Why,
    /// Since when; `None`: as long as is known.
    pub since: Option<Timestamp>,
}

/// Why a channel is detached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// The configuration says so.
    Configured,
    /// The user said so.
    Asked,
    /// It was silent for long.
    Silent,
}

/// What the user did, as it is stored. It holds where the configuration has it otherwise: `None` is attached.
#[derive(Serialize, Deserialize)]
struct Done {
    hidden: Option<Hidden>,
}

impl Detached {
    pub(super) fn refold(&mut self, mapping: CaseMapping) {
        let hidden = std::mem::take(&mut self.hidden).into_iter();
        self.hidden = hidden.map(|(n, h)| (n.refold(mapping), h)).collect();
        let heard = std::mem::take(&mut self.heard).into_iter();
        self.heard = heard.map(|(n, at)| (n.refold(mapping), at)).collect();
    }

    pub(super) fn hides(&self, channel: &Name) -> bool {
        self.hidden.contains_key(channel)
    }

    /// Whether no message means anything here.
    fn is_idle(&self) -> bool {
        self.hidden.is_empty() && self.heard.is_empty()
    }
}

impl Why {
    /// Behind the PART that clients are shown.
    fn reason(self) -> &'static [u8] {
        match self {
            Self::Configured => b"detached, as configured; /join shows it again",
            Self::Asked => b"detached; /join shows it again",
            Self::Silent => b"detached, as it was silent; /join shows it again",
        }
    }
}

impl Network {
    // -- what holds

    /// Whether a channel is kept from clients.
    pub(super) fn is_detached(&self, channel: &Name) -> bool {
        self.detached(channel).is_some()
    }

    pub(super) fn detached(&self, channel: &Name) -> Option<Hidden> {
        self.detached.hidden.get(channel).copied()
    }

    /// The options of a channel.
    pub(super) fn detaching(&self, channel: &Name) -> Detaching {
        detaching_in(&self.settings.network, channel)
    }

    /// What is configured holds until what was done is known.
    pub(super) fn detach_configured(&mut self) {
        let channels = self.settings.network.channels.iter();
        let detached = channels.filter(|channel| channel.detaching.detached);
        let names = detached.map(|channel| self.name(channel.name.as_bytes()));
        let hidden = names.map(|name| (name, CONFIGURED)).collect();
        self.detached.hidden = hidden;
    }

    /// What the user did in an earlier run, unless the file has come to want the same since.
    pub(super) fn restore_detached(&mut self, channel: &[u8], value: &[u8]) {
        let channel = self.name(channel);
        let Ok(done) = serde_json::from_slice::<Done>(value) else {
            return;
        };
        if done.hidden.is_some() == self.detaching(&channel).detached {
            return;
        }
        match done.hidden {
            Some(hidden) => _ = self.detached.hidden.insert(channel, hidden),
            None => _ = self.detached.hidden.remove(&channel),
        }
    }

    /// What is stored of a channel follows what holds: nothing where that is as configured.
    fn remember_detached(&self, channel: &Name, turn: &mut Turn) {
        let hidden = self.detached(channel);
        let done =
            (hidden.is_some() != self.detaching(channel).detached).then_some(Done { hidden });
        let value = done.and_then(|done| serde_json::to_vec(&done).ok());
        let write = Write::Fact {
            fact: Fact::Detached,
            name: Bytes::copy_from_slice(channel.as_bytes()),
            value: value.map(Bytes::from),
        };
        self.remember(write, turn);
    }

    /// The channel was left for good: what was done about it is over.
    pub(super) fn forget_detached(&mut self, channel: &Name, turn: &mut Turn) {
        self.detached.heard.remove(channel);
        let configured = self.detaching(channel).detached;
        if self.is_detached(channel) == configured {
            return;
        }
        match configured {
            true => _ = self.detached.hidden.insert(channel.clone(), CONFIGURED),
            false => _ = self.unhide(channel),
        }
        self.remember_detached(channel, turn);
    }

    /// A channel has another name.
    pub(super) fn rename_detached(&mut self, old: &Name, new: &Name, turn: &mut Turn) {
        if let Some(at) = self.detached.heard.remove(old) {
            self.detached.heard.insert(new.clone(), at);
        }
        let was = self.detached(new);
        match self.detached(old) {
            Some(hidden) => _ = self.detached.hidden.insert(new.clone(), hidden),
            None => _ = self.detached.hidden.remove(new),
        }
        if was.is_some() != self.is_detached(new) {
            self.remember_detached(new, turn);
        }
        self.forget_detached(old, turn);
        self.timers.cancel(&Timer::Detach(old.clone()));
        self.watch_silence(new, turn);
    }

    /// The user joined a channel: he wants to see it.
    pub(super) fn join_attached(&mut self, channel: &Name, turn: &mut Turn) {
        self.detached.heard.remove(channel);
        let was = self.unhide(channel);
        if was || self.detaching(channel).detached {
            self.remember_detached(channel, turn);
        }
    }

    // -- detaching and attaching

    /// From here on a channel is kept from clients. False: it is already.
    pub(super) fn detach_channel(&mut self, channel: &Name, why: Why, turn: &mut Turn) -> bool {
        if self.is_detached(channel) {
            return false;
        }
        let since = Some(turn.now.time);
        let hidden = Hidden { why, since };
        self.detached.hidden.insert(channel.clone(), hidden);
        self.remember_detached(channel, turn);
        self.timers.cancel(&Timer::Detach(channel.clone()));
        self.take_back(channel, why.reason(), turn);
        true
    }

    /// Whoever was introduced to it is shown that it is gone; whoever was to be is not any more.
    fn take_back(&mut self, channel: &Name, why: &[u8], turn: &mut Turn) {
        let mut shown = Vec::new();
        for (id, client) in &mut self.clients {
            if client.arriving.contains(channel) {
                client.arriving.remove(channel);
            } else {
                shown.push(*id);
            }
        }
        if self.face.channels.remove(channel) {
            let spelled = self.spelled(channel);
            let line = LineBuilder::from(&self.own_source(), b"PART").param(spelled.as_bytes());
            turn.deliver(Audience::Only(shown.into()), line.trailing(why).build());
        }
    }

    /// As the server spells it, where we are there.
    fn spelled(&self, channel: &Name) -> Name {
        let known = self.link().and_then(|link| link.channels.get(channel));
        known.map_or_else(|| channel.clone(), |known| known.name.clone())
    }

    /// From here on a channel is shown again, with what was said meanwhile. False: it is already.
    pub(super) fn attach_channel(&mut self, channel: &Name, turn: &mut Turn) -> bool {
        if !self.unhide(channel) {
            return false;
        }
        self.remember_detached(channel, turn);
        self.detached.heard.remove(channel);
        if self.is_member(channel) && self.is_introducible(channel) {
            self.show_channel(channel, turn);
        }
        true
    }

    /// The channel may be introduced from here on. False: it was not detached.
    fn unhide(&mut self, channel: &Name) -> bool {
        let was = self.detached.hidden.remove(channel).is_some();
        if was {
            self.limit_missed(channel);
        }
        was
    }

    /// Who can ask for what it wants is told nothing unasked, nor who wants nothing told again: what was kept from them
    /// counts as given. The others are given what they would be if they attached now.
    fn limit_missed(&mut self, channel: &Name) {
        let unwanted = self.rules(channel).replay == Replay::None;
        let head = self.head();
        for client in self.clients.values_mut() {
            if unwanted || !client.caps.intersection(ON_REQUEST).is_empty() {
                client.introduce(channel, None, head);
            } else {
                client.attached_again.insert(channel.clone());
            }
        }
    }

    /// Introduces a channel to all.
    pub(super) fn show_channel(&mut self, channel: &Name, turn: &mut Turn) {
        self.watch_silence(channel, turn);
        self.face.channels.insert(channel.clone());
        let clients: Vec<ClientId> = self.clients.keys().copied().collect();
        for id in clients {
            if let Some(client) = self.clients.get_mut(&id) {
                let idle = client.arriving.is_empty();
                client.arriving.push(channel.clone());
                if idle {
                    self.introduce(id, turn);
                }
            }
        }
    }

    // -- what is said there

    /// Stores what somebody said to a target and shows it. A detached channel it may bring back, or it is relayed; in any
    /// other it may break a silence.
    pub(super) fn record_message(
        &mut self,
        received: &Received<'_>,
        target: &Name,
        turn: &mut Turn,
    ) {
        if self.detached.is_idle() || self.is_me(received.line.nick()) {
            return self.record_line(received, target, Kind::Message, turn);
        }
        let options = self.detaching(target);
        let hidden = self.is_detached(target);
        if hidden && self.is_meant(options.reattach, received, turn) {
            self.attach_channel(target, turn);
            return self.record_line(received, target, Kind::Message, turn);
        }
        self.record_line(received, target, Kind::Message, turn);
        if hidden && self.is_meant(options.relay, received, turn) {
            self.relay_detached(received, target, turn);
        } else if self.is_meant(options.on, received, turn) {
            self.heard_in(target, turn.now.ticks);
        }
    }

    fn is_meant(&self, which: Which, received: &Received<'_>, turn: &Turn) -> bool {
        match which {
            Which::Messages => true,
            Which::None => false,
            Which::Highlights => {
                let shown = super::record::shown(received, turn.now);
                let lines = super::unfolded(&shown);
                let text = |line: &Bytes| {
                    let line = crate::wire::Line::parse(line).ok();
                    line.is_some_and(|line| self.is_highlight(line.param(1).unwrap_or_default()))
                };
                lines.iter().any(text)
            }
        }
    }

    /// Tells by *carom what was said: stored, so that each client is told once, whenever it comes.
    fn relay_detached(&mut self, received: &Received<'_>, channel: &Name, turn: &mut Turn) {
        let line = &received.line;
        let shown = super::record::shown(received, turn.now);
        let texts: Vec<Bytes> = super::unfolded(&shown);
        let channel = self.spelled(channel);
        for raw in texts {
            let Ok(said) = crate::wire::Line::parse(&raw) else {
                continue;
            };
            let text = said.param(1).unwrap_or_default();
            let what: &[u8] = match self.is_highlight(text) {
                true => b"highlight in ",
                false => b"message in ",
            };
            let head = [what, channel.as_bytes(), b": "].concat();
            let who = line.nick();
            let (who, text) = match ctcp::action(text) {
                Some(text) => ([b"* ", who, b" "].concat(), text),
                None if line.is(b"NOTICE") => ([b"-", who, b"- "].concat(), text),
                None => ([b"<", who, b"> "].concat(), text),
            };
            self.tell_stored(&[head, who].concat(), text, turn);
        }
    }

    /// Nobody would notice otherwise.
    pub(super) fn tell_kicked(&mut self, received: &Received<'_>, channel: &Name, turn: &mut Turn) {
        if self.is_detached(channel) && self.detaching(channel).relay != Which::None {
            let channel = self.spelled(channel);
            let (by, why) = (received.line.nick(), received.line.param(2));
            let head = [b"kicked from ", channel.as_bytes(), b" by ", by, b": "].concat();
            self.tell_stored(&head, why.filter(|w| !w.is_empty()).unwrap_or(by), turn);
        }
    }

    /// A word of the service that is stored like a message. What is too long for one line is told in several.
    fn tell_stored(&mut self, head: &[u8], text: &[u8], turn: &mut Turn) {
        let room = LINE.saturating_sub(self.notice_of(head).len()).max(LEAST);
        let texts = ctcp::split(text, room);
        let lines: Vec<Bytes> = texts
            .iter()
            .map(|text| self.notice_of(&[head, text].concat()))
            .collect();
        // A talk of its own: what is told there is stored, and each client is given it once.
        let service = self.name(crate::wire::SERVICE.as_bytes());
        for line in lines {
            let shown = Shown {
                time: turn.now.time,
                msgid: Some(self.own_msgid()),
                tags: Bytes::new(),
                line,
            };
            let targets = std::slice::from_ref(&service);
            self.record(shown, targets, Kind::Message, Reach::Watchers, turn);
        }
    }

    // -- silence

    /// Something that counts was heard in a channel, or said there by us.
    pub(super) fn heard_in(&mut self, channel: &Name, now: Ticks) {
        if let Some(at) = self.detached.heard.get_mut(channel) {
            *at = now;
        }
    }

    /// A channel that clients are shown may be detached after a silence. That a link was lost breaks none.
    fn watch_silence(&mut self, channel: &Name, turn: &Turn) {
        let timer = Timer::Detach(channel.clone());
        let after = self.detaching(channel).after;
        let Some(after) = after.filter(|_| self.is_member(channel) && !self.is_detached(channel))
        else {
            if after.is_none() {
                self.detached.heard.remove(channel);
            }
            return self.timers.cancel(&timer);
        };
        let heard = self.detached.heard.entry(channel.clone());
        let at = *heard.or_insert(turn.now.ticks);
        self.timers.set(timer, at.plus(after));
    }

    /// A channel may have been silent for long enough.
    pub(super) fn silence_over(&mut self, channel: &Name, turn: &mut Turn) {
        let after = self.detaching(channel).after;
        let heard = self.detached.heard.get(channel).copied();
        let (Some(after), Some(heard)) = (after, heard) else {
            return;
        };
        if turn.now.ticks < heard.plus(after) || !self.is_member(channel) {
            return self.watch_silence(channel, turn);
        }
        self.detach_channel(channel, Why::Silent, turn);
    }

    // -- what the user wants

    /// Another configuration: what changes there holds at once, whatever was done before.
    pub(super) fn configure_detached(&mut self, old: &config::Network, turn: &mut Turn) {
        let both = old.channels.iter().chain(&self.settings.network.channels);
        let mut names: Vec<Name> = both.map(|c| self.name(c.name.as_bytes())).collect();
        names.sort();
        names.dedup();
        for channel in names {
            let before = detaching_in(old, &channel);
            let after = self.detaching(&channel);
            if before == after || !self.is_wanted(&channel) {
                continue;
            }
            if before.detached != after.detached {
                match after.detached {
                    true => _ = self.detach_channel(&channel, Why::Configured, turn),
                    false => _ = self.attach_channel(&channel, turn),
                }
                self.remember_detached(&channel, turn);
            }
            self.detached.heard.remove(&channel);
            self.watch_silence(&channel, turn);
        }
    }

    /// By the user's word. `Err`: there is no such channel.
    pub(super) fn order_detached(
        &mut self,
        channel: &[u8],
        detach: bool,
        turn: &mut Turn,
    ) -> Result<String, String> {
        let name = self.name(channel);
        let is_known = self.is_member(&name) || self.is_wanted(&name) || self.is_detached(&name);
        if !is_known {
            let channel = String::from_utf8_lossy(channel);
            return Err(format!("there is no channel {channel}: /join it"));
        }
        let changed = match detach {
            true => self.detach_channel(&name, Why::Asked, turn),
            false => self.attach_channel(&name, turn),
        };
        let state = if detach { "detached" } else { "attached" };
        let already = if changed { "" } else { " already" };
        Ok(format!("{}: {state}{already}", self.spelled(&name)))
    }
}

const CONFIGURED: Hidden = Hidden {
    why: Why::Configured,
    since: None,
};

fn detaching_in(network: &config::Network, channel: &Name) -> Detaching {
    let mut channels = network.channels.iter();
    let declared = channels.find(|c| channel.is(c.name.as_bytes()));
    declared.map(|c| c.detaching).unwrap_or_default()
}
