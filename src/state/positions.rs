//! How far each client has got: a mark per client name, how far behind it each target is, and floors
//! that hold for all names. Positions move on proof of receipt alone. Every change is also a `Write`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::history::{EntryId, Write};
use crate::wire::{CaseMapping, Name, Timestamp};

use super::turn::{Now, Ticks};

/// A client name that was not used for so long is forgotten. Only the time in which carom runs counts for certain; of the
/// time before it was started, as the wall clock tells it, no more than this: a clock that is wrong costs nobody his position.
const UNUSED: Duration = Duration::from_secs(90 * 86_400);
const BEFORE: Duration = Duration::from_secs(60 * 86_400);

/// At most so many client names are remembered; the longest unused gives way. A user has no more in all (`directory`),
/// so it is the last resort.
const MAX_NAMES: usize = 256;

/// The positions of one network.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Positions {
    names: BTreeMap<String, Position>,
    floors: BTreeMap<Name, EntryId>,
    /// The floor of all targets.
    floor: EntryId,
}

/// How far the clients of one name have got.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Position {
    mark: EntryId,
    behind: BTreeMap<Name, EntryId>,
    used: Timestamp,
    idle: Option<Idle>,
}

/// For how long a name has not been used, as far as was seen.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Idle {
    /// It was used then, last.
    used: Timestamp,
    /// Seen unused since.
    since: Ticks,
    /// And so long before.
    before: Duration,
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

    /// An empty target stands for all.
    pub(super) fn restore_floor(&mut self, target: Name, id: EntryId) {
        if target.as_bytes().is_empty() {
            self.floor = id;
        } else {
            self.floors.insert(target, id);
        }
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
        let own = self.floors.get(target).copied();
        own.unwrap_or_default().max(self.floor)
    }

    /// All floors of targets.
    pub(super) fn floors(&self) -> Vec<(Name, EntryId)> {
        let floors = self.floors.iter();
        floors.map(|(name, id)| (name.clone(), *id)).collect()
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
            idle: None,
        };
        writes.push(row(client, None, Some(head), time));
        writes
    }

    /// Forgets client names that were not used for long.
    pub(super) fn forget_unused(
        &mut self,
        now: Now,
        is_attached: impl Fn(&str) -> bool,
    ) -> Vec<Write> {
        let mut unused = Vec::new();
        for (name, position) in &mut self.names {
            let used = position.used;
            let begin = |before| Idle {
                used,
                since: now.ticks,
                before,
            };
            let idle = match position.idle {
                Some(idle) if idle.used == used && !is_attached(name) => idle,
                Some(_) => begin(Duration::ZERO),
                None => begin(age(used, now.time).min(BEFORE)),
            };
            position.idle = Some(idle);
            if idle.before + now.ticks.since(idle.since) > UNUSED {
                unused.push(name.clone());
            }
        }
        let forget = |name: String| self.forget(&name, now.time);
        unused.into_iter().flat_map(forget).collect()
    }

    /// Forgets a client name.
    fn forget(&mut self, name: &str, time: Timestamp) -> Vec<Write> {
        let position = self.names.remove(name).unwrap_or_default();
        let targets = position.behind.into_keys().map(Some).chain([None]);
        targets
            .map(|target| row(name, target, None, time))
            .collect()
    }

    /// Forgets a client name, if it is known.
    pub(super) fn give_way(&mut self, name: &str, time: Timestamp) -> Vec<Write> {
        if self.knows(name) {
            self.forget(name, time)
        } else {
            Vec::new()
        }
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
        longest_unused.map_or_else(Vec::new, |name| self.forget(&name, time))
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

    /// A target has another name. Where there was one of that name, whoever lacks lines of either is behind.
    pub(super) fn rename(&mut self, old: &Name, new: &Name, time: Timestamp) -> Vec<Write> {
        let mut writes = Vec::new();
        for (client, position) in &mut self.names {
            if let Some(id) = position.behind.remove(old) {
                let behind = position.behind.entry(new.clone()).or_insert(id);
                *behind = id.min(*behind);
                writes.push(row(client, Some(old.clone()), None, time));
                writes.push(row(client, Some(new.clone()), Some(*behind), time));
            }
        }
        if let Some(id) = self.floors.get(old).copied() {
            let floor = self.floors.get(new).map_or(id, |other| id.min(*other));
            self.floors.insert(new.clone(), floor);
            writes.push(Write::Floor {
                target: new.clone(),
                id: floor,
            });
        }
        writes
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

fn age(of: Timestamp, now: Timestamp) -> Duration {
    let millis = now.millis().saturating_sub(of.millis());
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn row(client: &str, target: Option<Name>, id: Option<EntryId>, time: Timestamp) -> Write {
    Write::Position {
        client: client.to_owned(),
        target,
        id,
        time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn day(n: u64) -> Now {
        let millis = 1_700_000_000_000 + i64::try_from(n * DAY).unwrap();
        Now {
            ticks: Ticks(n * DAY),
            time: Timestamp::from_millis(millis),
        }
    }

    fn with_names(names: &[(&str, u64)]) -> Positions {
        let mut positions = Positions::default();
        for (name, used) in names {
            let behind = BTreeMap::from([(Name::new(b"#a", CaseMapping::Ascii), EntryId(1))]);
            positions.attach(name, EntryId(9), behind, day(*used).time);
        }
        positions
    }

    fn known(positions: &Positions) -> Vec<&str> {
        positions.names.keys().map(String::as_str).collect()
    }

    #[test]
    fn names_unused_for_90_days_are_forgotten_but_not_those_attached() {
        let mut positions = with_names(&[("laptop", 0), ("phone", 50), ("desk", 0)]);
        for n in 51..=90 {
            let writes = positions.forget_unused(day(n), |name| name == "desk");
            assert_eq!(writes, [], "day {n}");
        }
        let writes = positions.forget_unused(day(91), |name| name == "desk");
        assert_eq!(known(&positions), ["desk", "phone"]);
        let is_gone = |write: &Write| matches!(write, Write::Position { client, id: None, .. } if client == "laptop");
        assert!(
            writes.len() == 2 && writes.iter().all(is_gone),
            "{writes:?}"
        );
        // It has not been idle, so it begins anew.
        for n in 92..=140 {
            positions.forget_unused(day(n), |_| false);
        }
        assert_eq!(known(&positions), ["desk", "phone"]);
        positions.forget_unused(day(141), |_| false);
        assert_eq!(known(&positions), ["desk"]);
    }

    #[test]
    fn a_clock_that_jumps_makes_nobody_forgotten() {
        let at = |ticks, time| Now {
            ticks: day(ticks).ticks,
            time: day(time).time,
        };
        let mut positions = with_names(&[("laptop", 400), ("phone", 401)]);
        for now in [at(1, 401), at(2, 2000), at(3, 0), at(4, 404)] {
            positions.forget_unused(now, |_| false);
            positions.attach("phone", EntryId(9), BTreeMap::new(), now.time);
        }
        assert_eq!(known(&positions), ["laptop", "phone"]);
        // A clock that is wrong when carom starts.
        let mut positions = with_names(&[("laptop", 0), ("phone", 1)]);
        for n in 366..=395 {
            positions.forget_unused(day(n), |_| false);
        }
        assert_eq!(known(&positions), ["laptop", "phone"]);
        positions.forget_unused(day(397), |_| false);
        assert_eq!(known(&positions), [""; 0]);
    }

    #[test]
    fn of_too_many_names_the_longest_unused_gives_way() {
        let mut positions = with_names(&[]);
        for n in 0..=MAX_NAMES {
            let time = day(0).time.plus_millis(i64::try_from(n).unwrap());
            positions.attach(&n.to_string(), EntryId(9), BTreeMap::new(), time);
        }
        assert_eq!(positions.names.len(), MAX_NAMES);
        assert!(!positions.knows("0") && positions.knows("1"));
    }
}
