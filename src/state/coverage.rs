//! What one connection was given of each target, and so what a proof from it covers: everything that stood
//! in its queue before the line that is proved.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::history::EntryId;
use crate::wire::{CaseMapping, Name};

/// Target by target; one that is not here was given live since the client attached.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Coverage(BTreeMap<Name, Given>);

/// What was given of one target: every line after `from`, live but for some stretches.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Given {
    /// Whether it was introduced yet.
    introduced: bool,
    from: EntryId,
    /// Lines that were kept back, and replayed when the head of the log was where the stretch ends. `MAX`:
    /// they are still kept back.
    late: Vec<(EntryId, EntryId)>,
}

impl Given {
    /// The entry before the first line that is kept back.
    fn kept_back(&self) -> Option<EntryId> {
        let last = self.late.last().filter(|(_, end)| *end == EntryId::MAX);
        last.map(|(start, _)| *start)
    }
}

impl Coverage {
    /// A line is kept back until its target is introduced. `attached`: where the log ended when the client
    /// came.
    pub(super) fn withhold(&mut self, target: &Name, line: EntryId, attached: EntryId) {
        let given = self.0.entry(target.clone()).or_insert_with(|| Given {
            introduced: false,
            from: attached,
            late: Vec::new(),
        });
        if given
            .late
            .last()
            .is_none_or(|(_, end)| *end != EntryId::MAX)
        {
            given.late.push((line.before(), EntryId::MAX));
        }
    }

    /// The target is introduced: after which entry its lines are due. `position` is its name's, if that is
    /// behind. What was kept back comes in any case; what the connection was given already does not come
    /// again, though it may not be proved yet. `None`: none are due.
    pub(super) fn introduce(
        &mut self,
        target: &Name,
        position: Option<EntryId>,
        head: EntryId,
        attached: EntryId,
    ) -> Option<EntryId> {
        let given = self.0.get_mut(target);
        let kept_back = given.as_ref().and_then(|given| given.kept_back());
        if let Some(given) = given.filter(|given| given.introduced) {
            if let Some((_, end)) = given.late.last_mut().filter(|_| kept_back.is_some()) {
                *end = head;
            }
            return kept_back;
        }
        let after = match (position, kept_back) {
            (Some(position), Some(kept_back)) => Some(position.min(kept_back)),
            (position, kept_back) => position.or(kept_back),
        };
        let first = Given {
            introduced: true,
            from: position.map_or(attached, |position| position.min(attached)),
            late: after.map(|after| (after, head)).into_iter().collect(),
        };
        self.0.insert(target.clone(), first);
        after
    }

    /// Whether lines of the target were replayed, or still are to be, that no proof has covered.
    pub(super) fn has_late(&self, target: &Name) -> bool {
        self.0
            .get(target)
            .is_some_and(|given| !given.late.is_empty())
    }

    /// What was to be replayed of a target and is not proved; nothing is kept back any more.
    pub(super) fn late(&self, target: &Name) -> Vec<(EntryId, EntryId)> {
        let late = self.0.get(target).map(|given| given.late.clone());
        late.unwrap_or_default()
    }

    /// Whether lines of a target were given.
    pub(super) fn knows(&self, target: &Name) -> bool {
        self.0.contains_key(target)
    }

    /// Everything after `from` is given, or about to be: `late` is replayed.
    pub(super) fn replay(&mut self, target: &Name, from: EntryId, late: (EntryId, EntryId)) {
        let given = Given {
            introduced: true,
            from,
            late: vec![late],
        };
        self.0.insert(target.clone(), given);
    }

    /// Up to where a proof covers a target whose position is `behind`. `proved`: every live line up to its
    /// start, and the client's own lines up to its end.
    pub(super) fn covered(
        &self,
        target: &Name,
        behind: EntryId,
        proved: &RangeInclusive<EntryId>,
        attached: EntryId,
    ) -> Option<EntryId> {
        let (live, own) = (*proved.start(), *proved.end());
        let (from, upto) = match self.0.get(target) {
            None => (attached, own),
            Some(given) => {
                let late = given.late.iter().find(|(_, end)| live <= *end);
                (given.from, late.map_or(own, |(start, _)| live.min(*start)))
            }
        };
        (behind >= from && upto > behind).then_some(upto)
    }

    /// Every live line up to `live` is proved: stretches replayed before it are done with.
    pub(super) fn proved(&mut self, live: EntryId) {
        for given in self.0.values_mut() {
            given.late.retain(|(_, end)| *end >= live);
        }
    }

    /// A target has another name.
    pub(super) fn rename(&mut self, old: &Name, new: &Name) {
        if let Some(given) = self.0.remove(old) {
            self.0.insert(new.clone(), given);
        }
    }

    pub(super) fn refold(&mut self, mapping: CaseMapping) {
        self.0 = std::mem::take(&mut self.0)
            .into_iter()
            .map(|(name, given)| (name.refold(mapping), given))
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        Name::new(b"#x", CaseMapping::Rfc1459)
    }

    #[test]
    fn a_live_line_proves_what_stood_before_it_in_the_queue() {
        let mut coverage = Coverage::default();
        let id = EntryId;
        // Attached at 10, behind from 4: the lines 5 to 10 are replayed.
        assert_eq!(
            coverage.introduce(&name(), Some(id(4)), id(10), id(10)),
            Some(id(4))
        );
        assert_eq!(
            coverage.covered(&name(), id(4), &(id(10)..=id(10)), id(10)),
            None
        );
        assert_eq!(
            coverage.covered(&name(), id(4), &(id(12)..=id(12)), id(10)),
            Some(id(12))
        );
        // 13 and 14 are kept back, 15 is another target's.
        coverage.withhold(&name(), id(13), id(10));
        coverage.withhold(&name(), id(14), id(10));
        assert_eq!(
            coverage.covered(&name(), id(4), &(id(15)..=id(15)), id(10)),
            Some(id(12))
        );
        assert_eq!(
            coverage.introduce(&name(), Some(id(4)), id(15), id(10)),
            Some(id(12))
        );
        assert_eq!(
            coverage.covered(&name(), id(4), &(id(15)..=id(15)), id(10)),
            Some(id(12))
        );
        assert_eq!(
            coverage.covered(&name(), id(4), &(id(16)..=id(16)), id(10)),
            Some(id(16))
        );
        // Introduced again with nothing kept back.
        assert_eq!(
            coverage.introduce(&name(), Some(id(4)), id(16), id(10)),
            None
        );
    }

    #[test]
    fn a_connection_proves_nothing_from_before_its_time() {
        let coverage = Coverage::default();
        let id = EntryId;
        assert_eq!(
            coverage.covered(&name(), id(9), &(id(12)..=id(12)), id(10)),
            None
        );
        assert_eq!(
            coverage.covered(&name(), id(10), &(id(12)..=id(12)), id(10)),
            Some(id(12))
        );
    }
}
