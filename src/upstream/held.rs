//! What is for clients and waits until the lines it follows are stored. Released strictly in order; after
//! a while also unstored, so that a stalled disk delays nobody for long.

use std::collections::VecDeque;
use std::time::Duration;

use crate::history::EntryId;
use crate::state::{Action, Now, Ticks};

/// A commit may take so long before delivery goes ahead.
const PATIENCE: Duration = Duration::from_millis(250);
/// So many bytes may wait.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Turns that wait.
#[derive(Debug, Default)]
pub(super) struct Held {
    turns: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    /// The last line it stored, if any.
    last: EntryId,
    due: Ticks,
    bytes: usize,
    actions: Vec<Action>,
}

/// What may be delivered now.
pub(super) struct Released {
    pub(super) actions: Vec<Action>,
    /// How many lines are shown before they are stored.
    pub(super) unstored: u64,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Takes the actions of a turn that stored lines up to `last` (or none: 0).
    pub(super) fn push(&mut self, actions: Vec<Action>, last: EntryId, now: Now) {
        let bytes = actions.iter().map(size).sum();
        self.bytes += bytes;
        self.turns.push_back(Waiting {
            last,
            due: now.ticks.plus(PATIENCE),
            bytes,
            actions,
        });
    }

    /// When the first turn leaves whatever the store does.
    pub(super) fn due(&self) -> Option<Ticks> {
        self.turns.front().map(|turn| turn.due)
    }

    /// The next turn that may be delivered.
    pub(super) fn pop(&mut self, settled: EntryId, now: Ticks) -> Option<Released> {
        let first = self.turns.front()?;
        let stored = first.last <= settled;
        if !stored && now < first.due && self.bytes <= MAX_BYTES {
            return None;
        }
        let turn = self.turns.pop_front()?;
        self.bytes -= turn.bytes;
        let unstored = if stored {
            0
        } else {
            lines(&turn.actions, settled)
        };
        Some(Released {
            actions: turn.actions,
            unstored,
        })
    }
}

/// How many of these are lines that are not stored yet.
fn lines(actions: &[Action], settled: EntryId) -> u64 {
    let is_early = |action: &&Action| {
        matches!(action, Action::Deliver { entries: Some(ids), .. } | Action::Within { entries: Some(ids), .. }
            if ids.last > settled)
    };
    actions.iter().filter(is_early).count() as u64
}

fn size(action: &Action) -> usize {
    let line = match action {
        Action::Deliver { line, .. } | Action::Reply { line, .. } | Action::Within { line, .. } => {
            line.line.len() + line.tags.len()
        }
        _ => 0,
    };
    size_of::<Action>() + line
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    use crate::history::Ids;
    use crate::state::{Audience, ClientId, Shown};
    use crate::wire::Timestamp;

    fn now(ticks: u64) -> Now {
        Now {
            ticks: Ticks(ticks),
            ..Now::default()
        }
    }

    fn turn(id: u64) -> Vec<Action> {
        let line = |entries| Action::Deliver {
            to: Audience::All,
            line: Shown {
                time: Timestamp::default(),
                msgid: None,
                tags: Bytes::new(),
                line: Bytes::from("PING"),
            },
            entries,
        };
        let ids = |first, last| Ids {
            first: EntryId(first),
            last: EntryId(last),
        };
        vec![
            Action::Admit(ClientId(id)),
            line(None),
            line(Some(ids(5, 5))),
            line(Some(ids(6, 7))),
        ]
    }

    #[test]
    fn turns_leave_in_order_when_stored_or_due() {
        let mut held = Held::default();
        held.push(turn(1), EntryId(5), now(0));
        held.push(turn(2), EntryId(0), now(10));
        held.push(turn(3), EntryId(7), now(20));
        assert!(
            held.pop(EntryId(4), Ticks(100)).is_none(),
            "the second waits behind the first"
        );
        let first = held.pop(EntryId(5), Ticks(100)).unwrap();
        assert!(first.unstored == 0 && first.actions == turn(1));
        assert!(
            held.pop(EntryId(5), Ticks(100))
                .is_some_and(|t| t.actions == turn(2))
        );
        assert!(held.pop(EntryId(5), Ticks(269)).is_none());
        assert_eq!(held.due(), Some(Ticks(270)));
        assert!(
            held.pop(EntryId(5), Ticks(270))
                .is_some_and(|t| t.unstored == 1)
        );
        assert!(held.is_empty());
    }
}
