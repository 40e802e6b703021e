//! How far each client has got: a mark per client name, how far behind it each target is, and floors
//! that hold for all names. Positions move on proof of receipt alone. Every change is also a `Write`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::history::{EntryId, Write};
use crate::wire::{CaseMapping, Name, Timestamp};

/// At most so many client names are remembered; the longest unused gives way.
const MAX_NAMES: usize = 256;

/// The positions of one network.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Positions {
    names: BTreeMap<String, Position>,
    floors: BTreeMap<Name, EntryId>,
}

/// How far the clients of one name have got.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Position {
    mark: EntryId,
    behind: BTreeMap<Name, EntryId>,
    used: Timestamp,
}

/// What a proof of live lines means for a target that is behind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Covered {
    /// The proof covers it up to here.
    pub(super) upto: EntryId,
    /// Its last line.
    pub(super) newest: EntryId,
    /// Whether a client of the name still lacks lines that it is not given live.
    pub(super) late: bool,
}

/// What a client has proved to have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof {
    /// Every live line up to here.
    pub live: Option<EntryId>,
    /// Replayed lines, target by target.
    pub pages: Vec<Page>,
}

/// Replayed lines of one target that a client has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The target.
    pub target: Name,
    /// Up to here.
    pub through: EntryId,
}

impl Proof {
    /// Whether it proves nothing.
    pub fn is_empty(&self) -> bool {
        self.live.is_none() && self.pages.is_empty()
    }
}

impl Positions {
    /// What the store remembers.
    pub(super) fn restore(
        &mut self,
        client: String,
        target: Option<Name>,
        id: EntryId,
        used: Timestamp,
    ) {
        let position = self.names.entry(client).or_default();
        match target {
            Some(target) => _ = position.behind.insert(target, id),
            None => (position.mark, position.used) = (id, used),
        }
    }

    pub(super) fn restore_floor(&mut self, target: Name, id: EntryId) {
        self.floors.insert(target, id);
    }

    /// Whether the name was ever attached.
    pub(super) fn knows(&self, client: &str) -> bool {
        self.names.contains_key(client)
    }

    /// The last entry of `target` that the clients of this name have.
    pub(super) fn get(&self, client: &str, target: &Name) -> EntryId {
        let floor = self.floor(target);
        let position = self.names.get(client);
        let own = position.map(|p| p.behind.get(target).copied().unwrap_or(p.mark));
        floor.max(own.unwrap_or_default())
    }

    /// Nobody is replayed anything of this target up to here.
    pub(super) fn floor(&self, target: &Name) -> EntryId {
        self.floors.get(target).copied().unwrap_or_default()
    }

    /// How far the clients of this name have got where they are not behind.
    pub(super) fn mark(&self, client: &str) -> EntryId {
        self.names.get(client).map(|p| p.mark).unwrap_or_default()
    }

    /// The clients of this name have everything up to here.
    pub(super) fn lowest(&self, client: &str) -> EntryId {
        let behind = self
            .names
            .get(client)
            .and_then(|p| p.behind.values().min().copied());
        self.mark(client).min(behind.unwrap_or(EntryId::MAX))
    }

    /// Targets of which the clients of this name lack lines.
    pub(super) fn behind(&self, client: &str) -> impl Iterator<Item = &Name> {
        self.names
            .get(client)
            .into_iter()
            .flat_map(|p| p.behind.keys())
    }

    pub(super) fn is_behind(&self, client: &str, target: &Name) -> bool {
        self.names
            .get(client)
            .is_some_and(|p| p.behind.contains_key(target))
    }

    /// A client attaches: from here on the mark is `head`, and `missed` says from where each target is
    /// behind.
    pub(super) fn attach(
        &mut self,
        client: &str,
        head: EntryId,
        missed: BTreeMap<Name, EntryId>,
        time: Timestamp,
    ) -> Vec<Write> {
        let mut writes = self.make_room(client, time);
        let position = self.names.entry(client.to_owned()).or_default();
        let gone = position
            .behind
            .keys()
            .filter(|t| !missed.contains_key(*t))
            .cloned();
        writes.extend(gone.map(|target| row(client, Some(target), None, time)));
        for (target, id) in &missed {
            if position.behind.get(target) != Some(id) {
                writes.push(row(client, Some(target.clone()), Some(*id), time));
            }
        }
        *position = Position {
            mark: head,
            behind: missed,
            used: time,
        };
        writes.push(row(client, None, Some(head), time));
        writes
    }

    fn make_room(&mut self, client: &str, time: Timestamp) -> Vec<Write> {
        if self.names.len() < MAX_NAMES || self.names.contains_key(client) {
            return Vec::new();
        }
        let longest_unused = self
            .names
            .iter()
            .min_by_key(|(_, p)| p.used)
            .map(|(n, _)| n.clone());
        let Some(name) = longest_unused else {
            return Vec::new();
        };
        let targets = self
            .names
            .remove(&name)
            .unwrap_or_default()
            .behind
            .into_keys();
        let mut writes: Vec<_> = targets
            .map(|target| row(&name, Some(target), None, time))
            .collect();
        writes.push(row(&name, None, None, time));
        writes
    }

    /// A stored line was not given to an attached client: its target falls behind.
    pub(super) fn fall_behind(
        &mut self,
        client: &str,
        target: &Name,
        line: EntryId,
        time: Timestamp,
    ) -> Option<Write> {
        let position = self.names.get_mut(client)?;
        if position.behind.contains_key(target) {
            return None;
        }
        // Earlier lines of the target may be given and not yet proved.
        let from = position.mark.min(line.before());
        position.behind.insert(target.clone(), from);
        Some(row(client, Some(target.clone()), Some(from), time))
    }

    /// Every live line up to `id` is proved. `covered` says what that means for a target that is behind.
    pub(super) fn prove_live(
        &mut self,
        client: &str,
        id: EntryId,
        time: Timestamp,
        covered: impl Fn(&Name, EntryId) -> Option<Covered>,
    ) -> Vec<Write> {
        let Some(position) = self.names.get_mut(client) else {
            return Vec::new();
        };
        let mut writes = Vec::new();
        let mark = position.mark.max(id);
        position.behind.retain(|target, behind| {
            let Some(Covered { upto, newest, late }) = covered(target, *behind) else {
                return true;
            };
            *behind = upto;
            let caught_up = newest <= upto || (mark <= upto && !late);
            let id = (!caught_up).then_some(upto);
            writes.push(row(client, Some(target.clone()), id, time));
            !caught_up
        });
        if mark > position.mark {
            (position.mark, position.used) = (mark, time);
            writes.push(row(client, None, Some(mark), time));
        }
        writes
    }

    /// A replayed page is proved. `newest` is the target's last line: with it the target has caught up.
    pub(super) fn prove_page(
        &mut self,
        client: &str,
        page: &Page,
        newest: EntryId,
        time: Timestamp,
    ) -> Option<Write> {
        let position = self.names.get_mut(client)?;
        let behind = position.behind.get_mut(&page.target)?;
        if newest <= page.through.min(position.mark) {
            position.behind.remove(&page.target);
            return Some(row(client, Some(page.target.clone()), None, time));
        }
        if page.through <= *behind {
            return None;
        }
        *behind = page.through;
        Some(row(
            client,
            Some(page.target.clone()),
            Some(page.through),
            time,
        ))
    }

    /// The network compares names in another way from now on.
    pub(super) fn refold(&mut self, mapping: CaseMapping) {
        let refold = |map: &mut BTreeMap<Name, EntryId>| {
            *map = std::mem::take(map)
                .into_iter()
                .map(|(n, id)| (n.refold(mapping), id))
                .collect();
        };
        refold(&mut self.floors);
        self.names
            .values_mut()
            .for_each(|position| refold(&mut position.behind));
    }
}

fn row(client: &str, target: Option<Name>, id: Option<EntryId>, time: Timestamp) -> Write {
    Write::Position {
        client: client.to_owned(),
        target,
        id,
        time,
    }
}
