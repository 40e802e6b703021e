//! What waits of one log, within budgets: entries beyond them are counted as a gap, which keeps its place in the order;
//! positions and facts are never refused, but of many only the last word is kept.

use std::collections::{HashSet, VecDeque};
use std::mem;

use bytes::Bytes;

use super::entry::{EntryId, Fact, Write};
use super::queue::Batch;
use crate::wire::Timestamp;

/// What may wait for the writer, of one log and of all.
const LOG_ENTRIES: usize = 4096;
const LOG_BYTES: usize = 8 << 20;
const ALL_BYTES: usize = 64 << 20;

/// Beyond so many, positions, floors and facts that a later one replaces are dropped.
const LOOSE: usize = 4096;

/// A queue that has grown beyond this gives its memory back when it is empty.
const KEPT: usize = 128;

/// Entries that were not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) first: EntryId,
    pub(super) last: EntryId,
    pub(super) count: u64,
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
}

impl Gap {
    /// Counts one more. Times of different targets need not grow.
    fn add(&mut self, other: &Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.count += other.count;
        self.since = self.since.min(other.since);
        self.until = self.until.max(other.until);
    }
}

/// What is to be stored, in order.
#[derive(Debug)]
pub(super) enum Item {
    Write(Write),
    Gap(Gap),
}

impl Item {
    pub(super) const fn is_entry(&self) -> bool {
        matches!(self, Self::Write(Write::Entry(_)))
    }

    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Write(Write::Entry(entry)) => entry.weight(),
            _ => 0,
        }
    }
}

/// What waits of one log.
#[derive(Default)]
pub(super) struct Backlog {
    items: VecDeque<Item>,
    /// Stands behind `items`, and in front of the next entry that is admitted.
    gap: Option<Gap>,
    /// Entries that wait or are being stored, and their bytes.
    entries: usize,
    bytes: usize,
    /// What else waits.
    loose: usize,
    /// At how many of those it is time to drop some; at least at [`LOOSE`].
    loose_limit: usize,
    refusing: bool,
    pub(super) in_turn: bool,
    /// Whether all of it must become one commit.
    pub(super) whole: bool,
}

impl Backlog {
    /// How many rows wait.
    pub(super) fn waiting(&self) -> usize {
        self.items.len() + usize::from(self.gap.is_some())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.gap.is_none()
    }

    /// Takes a write, or counts it as lost; how much it weighs.
    pub(super) fn push(&mut self, write: Write, all_bytes: usize) -> usize {
        let Write::Entry(entry) = &write else {
            self.push_loose(write);
            return 0;
        };
        let weight = entry.weight();
        if self.refuses(weight, all_bytes) {
            let (id, time) = (entry.id, entry.time);
            let one = Gap {
                first: id,
                last: id,
                count: 1,
                since: time,
                until: time,
            };
            match &mut self.gap {
                Some(gap) => gap.add(&one),
                None => self.gap = Some(one),
            }
            return 0;
        }
        if let Some(gap) = self.gap.take() {
            self.items.push_back(Item::Gap(gap));
        }
        self.entries += 1;
        self.bytes += weight;
        self.items.push_back(Item::Write(write));
        weight
    }

    /// Gives budget back: this has left memory; how much it weighed.
    pub(super) fn release(&mut self, item: &Item) -> usize {
        let weight = item.weight();
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(weight);
        weight
    }

    /// A queue that was full admits nothing before it is half empty: one gap instead of many.
    fn refuses(&mut self, weight: usize, all_bytes: usize) -> bool {
        let part = if self.refusing { 2 } else { 1 };
        self.refusing = self.entries >= LOG_ENTRIES / part
            || self.bytes + weight > LOG_BYTES / part
            || all_bytes + weight > ALL_BYTES / part;
        self.refusing
    }

    /// Positions, floors and facts are never refused.
    fn push_loose(&mut self, write: Write) {
        // An entry that is taken back although it was not admitted needs no row. When it was, it stays: better a line
        // too many than a queue without limit.
        let takes_back = matches!(write, Write::Withdraw(_) | Write::Redact { .. });
        if takes_back && (self.refusing || self.loose > LOG_ENTRIES) {
            return;
        }
        self.items.push_back(Item::Write(write));
        self.loose += 1;
        if self.loose > self.loose_limit.max(LOOSE) {
            self.drop_replaced();
        }
    }

    /// Keeps of positions, floors and facts the last word on each. What is dropped could have been between two others
    /// that mean something only together, so from now on all of this log goes into one commit.
    fn drop_replaced(&mut self) {
        let mut seen = HashSet::new();
        let mut kept: VecDeque<Item> = VecDeque::with_capacity(self.items.len());
        while let Some(item) = self.items.pop_back() {
            if Subject::of(&item).is_none_or(|subject| seen.insert(subject)) {
                kept.push_front(item);
            }
        }
        self.items = kept;
        self.loose = self
            .items
            .iter()
            .filter(|item| matches!(item, Item::Write(w) if !matches!(w, Write::Entry(_))))
            .count();
        self.loose_limit = self.loose * 2;
        self.whole = true;
    }

    /// Gives about `most` items, or all if they belong together. What stands before an entry goes with what is before it:
    /// a turn's positions are one commit.
    pub(super) fn give(&mut self, slot: usize, most: usize, batch: &mut Batch) {
        let most = if self.whole { usize::MAX } else { most };
        batch.whole |= mem::take(&mut self.whole);
        let mut given = 0;
        while let Some(item) = self.items.pop_front() {
            if given >= most && item.is_entry() {
                self.items.push_front(item);
                break;
            }
            if matches!(&item, Item::Write(write) if !matches!(write, Write::Entry(_))) {
                self.loose = self.loose.saturating_sub(1);
            }
            batch.items.push((slot, item));
            given += 1;
        }
        if self.items.is_empty() {
            batch
                .items
                .extend(self.gap.take().map(|gap| (slot, Item::Gap(gap))));
            self.loose_limit = 0;
            if self.items.capacity() > KEPT {
                self.items = VecDeque::new();
            }
        }
    }
}

/// What a write that replaces earlier ones is about.
#[derive(PartialEq, Eq, Hash)]
enum Subject {
    Position(String, Option<Vec<u8>>),
    Floor(Vec<u8>),
    Fact(Fact, Bytes),
    Withdraw(EntryId),
}

impl Subject {
    fn of(item: &Item) -> Option<Self> {
        let Item::Write(write) = item else {
            return None;
        };
        match write {
            Write::Entry(_) => None,
            Write::Position { client, target, .. } => Some(Self::Position(
                client.clone(),
                target.as_ref().map(|t| t.folded().collect()),
            )),
            Write::Floor { target, .. } => Some(Self::Floor(target.folded().collect())),
            Write::Fact { fact, name, .. } => Some(Self::Fact(*fact, name.clone())),
            Write::Withdraw(id) => Some(Self::Withdraw(*id)),
            // What is said of lines holds for those that stand before it.
            Write::Redact { .. } | Write::Rename(..) => None,
        }
    }
}
