//! What the history would remember, in memory: takes writes, answers questions as `history` does.

use std::collections::BTreeMap;

use bytes::Bytes;
use carom::history::{
    Entry, EntryId, Fact, Kind, Missed, MissedTarget, Only, Remembered, StoredPosition, Write,
};
use carom::state::Plan;
use carom::wire::{Name, Timestamp};

/// A client name and a target, or its mark.
type Place = (String, Option<Vec<u8>>);

/// The store of one network.
#[derive(Debug, Default)]
pub struct Store {
    pub entries: BTreeMap<EntryId, Entry>,
    positions: BTreeMap<Place, (EntryId, Timestamp)>,
    floors: BTreeMap<Vec<u8>, EntryId>,
    facts: BTreeMap<(Fact, Bytes), Bytes>,
}

fn folded(name: &Name) -> Vec<u8> {
    name.folded().collect()
}

impl Store {
    /// Takes one write.
    pub fn append(&mut self, write: Write) {
        match write {
            Write::Entry(entry) => {
                assert!(
                    entry.line.iter().all(|b| !b"\r\n\0".contains(b)),
                    "one line: {entry:?}"
                );
                let last = self.entries.last_key_value().map(|(id, _)| *id);
                assert!(
                    last < Some(entry.id),
                    "ids only grow: {entry:?} after {last:?}"
                );
                self.check_time(&entry);
                self.entries.insert(entry.id, entry);
            }
            Write::Position {
                client,
                target,
                id,
                time,
            } => {
                let key = (client, target.as_ref().map(folded));
                match id {
                    Some(id) => _ = self.positions.insert(key, (id, time)),
                    None => _ = self.positions.remove(&key),
                }
            }
            Write::Floor { target, id } => _ = self.floors.insert(folded(&target), id),
            Write::Fact {
                fact,
                name,
                value: Some(value),
            } => {
                self.facts.insert((fact, name), value);
            }
            Write::Fact {
                fact,
                name,
                value: None,
            } => _ = self.facts.remove(&(fact, name)),
            Write::Withdraw(id) => _ = self.entries.remove(&id),
            Write::Redact { target, msgid } => {
                let is_meant = |e: &Entry| e.target == target && e.msgid.as_ref() == Some(&msgid);
                self.entries.retain(|_, e| !is_meant(e));
            }
            Write::Rename(old, new) => {
                let moved = self.entries.values_mut().filter(|e| e.target == old);
                moved.for_each(|e| e.target = new.clone());
            }
        }
    }

    /// Within a target ids and times have one order.
    fn check_time(&self, entry: &Entry) {
        let last = self
            .entries
            .values()
            .rev()
            .find(|e| e.target == entry.target);
        let earlier = last.is_none_or(|last| last.time < entry.time);
        assert!(earlier, "{entry:?} is not later than {last:?}");
    }

    /// What a network is told when it starts.
    pub fn remembered(&self) -> Remembered {
        let ids = self.entries.keys().copied();
        let positions = self.positions.values().map(|(id, _)| *id);
        let head = ids
            .chain(positions)
            .chain(self.floors.values().copied())
            .max();
        let stored = |((client, target), (id, time)): (&Place, &(_, _))| {
            let target = target.clone().map(Bytes::from);
            StoredPosition {
                client: client.clone(),
                target,
                id: *id,
                time: *time,
            }
        };
        Remembered {
            head: head.unwrap_or_default(),
            newest: self
                .entries
                .values()
                .map(|e| e.time)
                .max()
                .unwrap_or_default(),
            positions: self.positions.iter().map(stored).collect(),
            floors: self
                .floors
                .iter()
                .map(|(t, id)| (Bytes::from(t.clone()), *id))
                .collect(),
            gaps: Vec::new(),
            facts: self
                .facts
                .iter()
                .map(|((f, n), v)| (*f, n.clone(), v.clone()))
                .collect(),
        }
    }

    /// The targets with missed lines.
    pub fn missed(&self, ask: &Missed) -> Vec<MissedTarget> {
        let mut targets: BTreeMap<Vec<u8>, Vec<&Entry>> = BTreeMap::new();
        for entry in self.entries.values() {
            targets
                .entry(folded(&entry.target))
                .or_default()
                .push(entry);
        }
        let mut found = Vec::new();
        for (target, entries) in targets {
            let own = ask
                .overrides
                .iter()
                .find(|(name, ..)| name[..] == target[..]);
            let (newest, kinds) = own.map_or((ask.newest, ask.kinds), |o| (o.1, o.2));
            let counts = |e: &&&Entry| e.id <= ask.through && is_wanted(e, kinds);
            let lines: Vec<&Entry> = entries.iter().filter(counts).copied().collect();
            let Some(last) = lines.last().filter(|last| last.id > ask.after) else {
                continue;
            };
            let nth = match usize::try_from(newest).unwrap_or(usize::MAX) {
                0 => EntryId(0),
                n if lines.len() <= n => EntryId(0),
                n => lines[lines.len() - n].id.before(),
            };
            let target = Bytes::copy_from_slice(last.target.as_bytes());
            found.push(MissedTarget {
                target,
                last: last.id,
                nth,
                time: last.time,
            });
        }
        found
    }

    /// The lines of a replay.
    pub fn replay(&self, plan: &Plan, given: EntryId) -> Vec<&Entry> {
        let kinds = if plan.only_messages {
            Only::Messages
        } else {
            Only::All
        };
        let range = self.entries.range(plan.after.next()..);
        let range = range.map(|(_, e)| e).take_while(|e| e.id <= plan.through);
        let mut lines: Vec<&Entry> = range
            .filter(|e| is_wanted(e, kinds))
            .filter(|e| match &plan.renamed {
                None => e.target == plan.target,
                Some(renamed) => {
                    let is_of_either = e.target == plan.target || e.target == renamed.old;
                    is_of_either && renamed.is_due(e.id, &e.line, &plan.target, given)
                }
            })
            .filter(|e| {
                let own = |name: &String| carom::state::is_said_by(&e.tags, name);
                !plan.not_by.as_ref().is_some_and(own)
            })
            .collect();
        let newest = usize::try_from(plan.newest).expect("a small number");
        if newest > 0 && lines.len() > newest {
            lines.drain(..lines.len() - newest);
        }
        lines
    }
}

pub fn is_wanted(entry: &Entry, kinds: Only) -> bool {
    kinds == Only::All || entry.kind == Kind::Message
}
