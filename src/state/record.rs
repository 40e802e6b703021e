//! Lines into the log and to clients: numbers, times, and who is given an entry at once. A line that an
//! attached client is not given at once puts its target behind; nothing else does.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::history::{Entry, EntryId, Ids, Kind, Write};
use crate::wire::{Line, Name, Tags, Timestamp};

use super::Network;
use super::compound::LINES;
use super::feature::Received;
use super::own_talks::OWN;
use super::turn::{Action, Audience, ClientId, Now, Shown, Turn};

/// At most so many targets are remembered; beyond that the older half is forgotten.
const MAX_TARGETS: usize = 4096;
/// Longer message ids are nobody's.
const MAX_MSGID: usize = 256;
/// How old a server's time may be to be believed.
const MAX_AGE_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// The tag with the name of the client that said a line, and has seen it with that: of ours, nobody gets to see it.
pub(super) const BY: &[u8] = b"carom/by";

/// Whom a stored line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Whoever is shown one of its targets.
    Watchers,
    /// The same without its sender, who has it already.
    Others(ClientId),
    /// Everybody: it is about ourselves.
    Everybody,
}

/// The last line of each target of this run. `floor` stands for all others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Recent {
    targets: BTreeMap<Name, Last>,
    floor: Timestamp,
    /// No target that is not here has a later line.
    forgotten: EntryId,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Last {
    id: EntryId,
    message: EntryId,
    time: Timestamp,
}

impl Recent {
    /// Nothing yet; times go on from the newest that is stored.
    pub(super) fn since(head: EntryId, newest: Timestamp) -> Self {
        Self {
            targets: BTreeMap::new(),
            floor: newest,
            forgotten: head,
        }
    }

    /// The earliest time a next line of this target may have.
    fn earliest(&self, target: &Name) -> Timestamp {
        let last = self
            .targets
            .get(target)
            .map_or(self.floor, |last| last.time.max(self.floor));
        last.plus_millis(1)
    }

    fn note(&mut self, target: &Name, id: EntryId, kind: Kind, time: Timestamp) {
        if self.targets.len() >= MAX_TARGETS && !self.targets.contains_key(target) {
            self.forget_half();
        }
        let last = self.targets.entry(target.clone()).or_default();
        (last.id, last.time) = (id, time);
        if kind == Kind::Message {
            last.message = id;
        }
    }

    fn forget_half(&mut self) {
        let mut ids: Vec<_> = self.targets.values().map(|last| last.id).collect();
        ids.sort_unstable();
        let middle = ids[ids.len() / 2];
        self.forgotten = middle;
        let floor = &mut self.floor;
        self.targets.retain(|_, last| {
            let kept = last.id > middle;
            if !kept {
                *floor = (*floor).max(last.time);
            }
            kept
        });
    }

    /// The last line of a target, or one after it.
    pub(super) fn newest(&self, target: &Name) -> EntryId {
        self.targets
            .get(target)
            .map_or(self.forgotten, |last| last.id)
    }

    /// A target has another name.
    pub(super) fn rename(&mut self, old: &Name, new: &Name) {
        if let Some(last) = self.targets.remove(old) {
            let known = self.targets.entry(new.clone()).or_default();
            known.id = known.id.max(last.id);
            known.message = known.message.max(last.message);
            known.time = known.time.max(last.time);
        }
    }

    /// Targets with lines after `id`, and their newest.
    pub(super) fn after(
        &self,
        id: EntryId,
        only_messages: impl Fn(&Name) -> bool,
    ) -> impl Iterator<Item = (&Name, EntryId)> {
        self.targets
            .iter()
            .map(move |(name, last)| {
                (
                    name,
                    if only_messages(name) {
                        last.message
                    } else {
                        last.id
                    },
                )
            })
            .filter(move |(_, newest)| *newest > id)
    }

    pub(super) fn refold(&mut self, mapping: crate::wire::CaseMapping) {
        self.targets = std::mem::take(&mut self.targets)
            .into_iter()
            .map(|(n, l)| (n.refold(mapping), l))
            .collect();
    }
}

/// A line of the server as it is shown: its time believed or replaced, its tags sifted.
pub(super) fn shown(received: &Received<'_>, now: Now) -> Shown {
    let mut shown = Shown {
        time: now.time,
        msgid: None,
        tags: Bytes::new(),
        line: received.body(),
    };
    if received.line.raw_tags().is_empty() && received.lines.is_none() {
        return shown;
    }
    let mut kept = Vec::new();
    for (key, value) in received.line.tags() {
        match key {
            b"time" => shown.time = believed(value, now.time),
            b"msgid" if value.len() <= MAX_MSGID && !value.is_empty() => {
                shown.msgid = Some(crate::wire::tags::unescape(value).into_owned().into());
            }
            b"msgid" | b"batch" | b"label" | LINES | BY | OWN => {}
            // A value that is not UTF-8 would end the connection of a strict client.
            _ if std::str::from_utf8(value).is_err() => {}
            _ => push_tag(&mut kept, key, value),
        }
    }
    if let Some(lines) = received.lines {
        push_tag(&mut kept, LINES, lines);
    }
    shown.tags = kept.into();
    shown
}

pub(super) fn push_tag(tags: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if !tags.is_empty() {
        tags.push(b';');
    }
    tags.extend_from_slice(key);
    if !value.is_empty() {
        tags.push(b'=');
        tags.extend_from_slice(value);
    }
}

/// The tags a client may send on: client-only ones.
pub(super) fn client_tags(tags: Tags<'_>) -> Bytes {
    let mut kept = Vec::new();
    for (key, value) in tags {
        if key.starts_with(b"+") && std::str::from_utf8(value).is_ok() {
            push_tag(&mut kept, key, value);
        }
    }
    kept.into()
}

/// The tags that are kept with what a client of ours said: those, and the other lines of a message that has several.
pub(super) fn own_tags(line: &Line<'_>) -> Bytes {
    let mut kept = client_tags(line.tags()).to_vec();
    if let Some((_, lines)) = line.tags().find(|(key, _)| *key == LINES) {
        push_tag(&mut kept, LINES, lines);
    }
    kept.into()
}

/// The same tags, with who said the line. The empty name is one as well.
pub(super) fn tagged_by(tags: &Bytes, name: &str) -> Bytes {
    let mut out = tags.to_vec();
    push_tag(&mut out, BY, format!("@{name}").as_bytes());
    out.into()
}

/// Whether clients of this name said the line and know it.
pub fn is_said_by(tags: &[u8], name: &str) -> bool {
    let said = |value: &[u8]| value.strip_prefix(b"@") == Some(name.as_bytes());
    !tags.is_empty() && Tags::new(tags).any(|(key, value)| key == BY && said(value))
}

/// Tags as people may see them: without those that are ours.
pub fn sifted(tags: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let seen = Tags::new(tags).filter(|(key, _)| !key.starts_with(b"carom/"));
    seen.for_each(|(key, value)| push_tag(&mut kept, key, value));
    kept
}

/// A server's time is believed from one day ago to now.
fn believed(value: &[u8], now: Timestamp) -> Timestamp {
    Timestamp::parse(value)
        .filter(|time| *time <= now && now.millis() - time.millis() <= MAX_AGE_MILLIS)
        .unwrap_or(now)
}

impl Network {
    /// Shows a line of the server that is not stored.
    pub(super) fn pass_on(&self, received: &Received<'_>, to: Audience, turn: &mut Turn) {
        let line = shown(received, turn.now);
        turn.push(Action::Deliver {
            to,
            line,
            entries: None,
        });
    }

    /// Shows a line about ourselves. What comes before the end of the welcome is part of the difference that
    /// is told then.
    pub(super) fn pass_on_welcomed(&self, received: &Received<'_>, turn: &mut Turn) {
        if self.link().is_some_and(|link| link.welcomed) {
            self.pass_on(received, Audience::All, turn);
        }
    }

    /// Stores a line of the server under one target and shows it.
    pub(super) fn record_line(
        &mut self,
        received: &Received<'_>,
        target: &Name,
        kind: Kind,
        turn: &mut Turn,
    ) {
        let line = shown(received, turn.now);
        self.record(
            line,
            std::slice::from_ref(target),
            kind,
            Reach::Watchers,
            turn,
        );
    }

    /// Stores a line under its targets (the same line, `again` on all but the first) and shows it once. Returns where it
    /// stands.
    pub(super) fn record(
        &mut self,
        mut line: Shown,
        targets: &[Name],
        kind: Kind,
        reach: Reach,
        turn: &mut Turn,
    ) -> Ids {
        let first = self.next;
        if kind == Kind::Message
            && !targets
                .iter()
                .any(|t| self.isupport().is_channel(t.as_bytes()))
        {
            self.mark_own_talk(&mut line);
        }
        for target in targets {
            line.time = line.time.max(self.recent.earliest(target));
        }
        for (n, target) in targets.iter().enumerate() {
            let id = self.next;
            self.next = id.next();
            self.recent.note(target, id, kind, line.time);
            turn.push(Action::Record(Write::Entry(Entry {
                id,
                target: target.clone(),
                time: line.time,
                msgid: line.msgid.clone(),
                kind,
                again: n > 0,
                tags: line.tags.clone(),
                line: line.line.clone(),
            })));
        }
        let ids = Ids {
            first,
            last: self.head(),
        };
        let to = self.audience(targets, kind, ids, reach, turn);
        turn.push(Action::Deliver {
            to,
            line,
            entries: Some(ids),
        });
        ids
    }

    /// Who is given an entry at once: whoever is shown one of its targets. In those that a client is not shown it falls
    /// behind.
    fn audience(
        &mut self,
        targets: &[Name],
        kind: Kind,
        ids: Ids,
        reach: Reach,
        turn: &mut Turn,
    ) -> Audience {
        let closed: Vec<&Name> = targets
            .iter()
            .filter(|t| !self.is_introducible(t))
            .collect();
        let (mut late, mut missed) = (Vec::new(), Vec::new());
        for (id, client) in &mut self.clients {
            let start = late.len();
            for target in targets {
                if closed.contains(&target) || client.arriving.contains(target) {
                    client.withhold(target, ids.first);
                    late.push((client.name.clone(), target));
                }
            }
            if late.len() - start == targets.len() && reach != Reach::Everybody {
                missed.push(*id);
            } else if reach == Reach::Others(*id) {
                client.own = ids.last;
            } else {
                client.given = ids.last;
            }
        }
        for (name, target) in late {
            self.leave_behind(&name, target, kind, ids, turn);
        }
        if missed.is_empty() {
            return match reach {
                Reach::Others(sender) => Audience::Except(sender),
                Reach::Watchers | Reach::Everybody => Audience::All,
            };
        }
        // Rare, so that a list of clients is not made for every line.
        let is_given = |id: &ClientId| reach != Reach::Others(*id) && !missed.contains(id);
        Audience::Only(self.clients.keys().copied().filter(is_given).collect())
    }

    fn leave_behind(&mut self, client: &str, target: &Name, kind: Kind, ids: Ids, turn: &mut Turn) {
        if kind == Kind::Event && self.rules(target).only_messages {
            return;
        }
        let time = turn.now.time;
        let write = self.positions.fall_behind(client, target, ids.first, time);
        turn.actions.extend(write.map(Action::Record));
    }
}
