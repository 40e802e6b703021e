//! Read markers: up to where the user has read each buffer, the same for all of his clients. They only move
//! forward, outlive everything, and are told behind each JOIN.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::history::{Fact, Write};
use crate::wire::{Cap, CaseMapping, LineBuilder, Name, Timestamp};

use super::Network;
use super::feature::{Answer, Asked, Feature, NOTHING, Offer, Rule, Source};
use super::turn::{ClientId, Turn};

pub(super) static READ_MARKERS: Feature = Feature {
    offers: &[
        Offer(Cap::ReadMarker, Source::OursWhenBound),
        Offer(Cap::Read, Source::OursWhenBound),
    ],
    client: &[
        Rule::new(b"MARKREAD", 0, Network::ask_marker),
        Rule::new(b"READ", 0, Network::ask_marker),
    ],
    ..NOTHING
};

/// Markers of at most so many buffers are kept; the one that is furthest back gives way.
const MAX_MARKERS: usize = 4096;
/// No buffer has a longer name.
const MAX_TARGET: usize = 200;

/// Up to where each buffer has been read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Markers(BTreeMap<Name, Timestamp>);

impl Markers {
    pub(super) fn refold(&mut self, mapping: CaseMapping) {
        let mut markers = BTreeMap::new();
        for (name, time) in std::mem::take(&mut self.0) {
            let marker: &mut Timestamp = markers.entry(name.refold(mapping)).or_insert(time);
            *marker = time.max(*marker);
        }
        self.0 = markers;
    }
}

impl Network {
    /// A marker of an earlier run.
    pub(super) fn restore_marker(&mut self, name: &[u8], value: &[u8]) {
        if let Some(time) = Timestamp::parse(value) {
            let marker = self
                .markers
                .0
                .entry(Name::new(name, self.mapping))
                .or_default();
            *marker = time.max(*marker);
        }
    }

    fn ask_marker(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let command = asked.line.command().to_ascii_uppercase();
        let target = asked.line.param(0).unwrap_or_default();
        let fail = |code: &[u8], text: &[u8]| {
            let context = asked.line.params().filter(|p| !p.is_empty()).take(2);
            self.fail(&command, code).params(context).trailing(text)
        };
        if target.is_empty() {
            let line = fail(b"NEED_MORE_PARAMS", b"Not enough parameters");
            return self.answer(asked, line.build(), turn);
        }
        if target.len() > MAX_TARGET || !self.is_bound() {
            let line = fail(b"INVALID_PARAMS", b"There is no such buffer");
            return self.answer(asked, line.build(), turn);
        }
        let name = self.name(target);
        let Some(value) = asked.line.param(1) else {
            let line = self.marker_line(&command, target, &name);
            return self.answer(asked, line, turn);
        };
        let time = value.strip_prefix(b"timestamp=").and_then(Timestamp::parse);
        let Some(time) = time else {
            let line = fail(b"INVALID_PARAMS", b"That is not a time");
            return self.answer(asked, line.build(), turn);
        };
        let time = time.min(turn.now.time);
        if self.markers.0.get(&name).is_some_and(|old| *old >= time) {
            let line = self.marker_line(&command, target, &name);
            return self.answer(asked, line, turn);
        }
        self.set_marker(&name, time, turn);
        let others: Vec<ClientId> = self.clients.keys().copied().collect();
        for id in others {
            if id == asked.from {
                turn.tell(id, self.marker_line(&command, target, &name));
            } else {
                self.tell_marker(id, &name, turn);
            }
        }
        Answer::Now
    }

    fn set_marker(&mut self, name: &Name, time: Timestamp, turn: &mut Turn) {
        if self.markers.0.len() >= MAX_MARKERS && !self.markers.0.contains_key(name) {
            let oldest = self.markers.0.iter().min_by_key(|(_, time)| **time);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.forget_marker(&oldest, turn);
            }
        }
        self.markers.0.insert(name.clone(), time);
        let mut value = Vec::new();
        time.write(&mut value);
        self.remember(write(name, Some(value.into())), turn);
    }

    fn forget_marker(&mut self, name: &Name, turn: &mut Turn) -> Option<Timestamp> {
        let time = self.markers.0.remove(name)?;
        self.remember(write(name, None), turn);
        Some(time)
    }

    /// A buffer has another name: what was read stays read.
    pub(super) fn rename_marker(&mut self, from: &Name, to: &Name, turn: &mut Turn) {
        if let Some(time) = self.forget_marker(from, turn)
            && self.markers.0.get(to).is_none_or(|old| *old < time)
        {
            self.set_marker(to, time, turn);
        }
    }

    /// Tells a client that keeps markers where it stands.
    pub(super) fn tell_marker(&self, to: ClientId, name: &Name, turn: &mut Turn) {
        let Some(client) = self.clients.get(&to) else {
            return;
        };
        let commands = [(Cap::ReadMarker, &b"MARKREAD"[..]), (Cap::Read, b"READ")];
        for (cap, command) in commands {
            if client.caps.has(cap) {
                let line = self.marker_line(command, name.as_bytes(), name);
                return turn.tell(to, line);
            }
        }
    }

    fn marker_line(&self, command: &[u8], target: &[u8], name: &Name) -> Bytes {
        let line = LineBuilder::from(self.settings.server.as_bytes(), command).param(target);
        let Some(time) = self.markers.0.get(name) else {
            return line.param(b"*").build();
        };
        let mut value = b"timestamp=".to_vec();
        time.write(&mut value);
        line.param(&value).build()
    }
}

fn write(name: &Name, value: Option<Bytes>) -> Write {
    Write::Fact {
        fact: Fact::Marker,
        name: name.folded().collect::<Vec<u8>>().into(),
        value,
    }
}
