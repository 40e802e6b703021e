//! When lines are noted: which logs have lines of which nothing is noted, and whether that can wait until there is nothing
//! else to do. It is the writer's work; what is noted is `derive`'s.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::derive;
use super::queue::LogState;

/// From so many lines on they are noted when there is nothing else to do.
const LAZY: usize = 256;

/// From so many on, between two commits.
const PRESSING: usize = 1000;

/// At most so many go into one transaction, which ends when it has taken so long.
const SLICE: usize = 1000;
const LONGEST: Duration = Duration::from_millis(12);

/// After a failure it is not tried again for so long.
const PAUSE: Duration = Duration::from_secs(5);

/// What is noted is not made again more often than this.
const SELDOM: Duration = Duration::from_secs(600);

/// Whether lines are to be noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing is to be done.
    Nothing,
    /// When there is nothing else to do.
    Idle,
    /// Soon.
    Soon,
}

/// How far noting is behind.
#[derive(Default)]
pub(super) struct Deriving {
    /// Lines of each log, by slot, of which nothing is noted: exact up to [`PRESSING`].
    behind: Vec<usize>,
    /// Logs that are at least [`LAZY`] behind.
    due: VecDeque<usize>,
    /// How many of them are at least [`PRESSING`] behind.
    pressing: usize,
    paused: Option<Instant>,
    failing: bool,
    started_again: Option<Instant>,
}

impl Deriving {
    /// So many more lines of a log are stored.
    pub(super) fn add(&mut self, slot: usize, lines: usize) {
        let before = self.behind.get(slot).copied().unwrap_or(0);
        self.set(slot, before.saturating_add(lines));
    }

    /// So many lines of a log are not noted.
    fn set(&mut self, slot: usize, lines: usize) {
        if self.behind.len() <= slot {
            self.behind.resize(slot + 1, 0);
        }
        let before = mem::replace(&mut self.behind[slot], lines);
        match (before >= LAZY, lines >= LAZY) {
            (false, true) => self.due.push_back(slot),
            (true, false) => self.due.retain(|&due| due != slot),
            _ => {}
        }
        self.pressing += usize::from(lines >= PRESSING);
        self.pressing -= usize::from(before >= PRESSING);
    }

    /// Looks how far a log that was opened is behind.
    pub(super) fn look(&mut self, db: &Connection, log: &LogState) -> rusqlite::Result<()> {
        let lines = derive::behind(db, log.network, PRESSING)?;
        self.set(log.slot, lines);
        Ok(())
    }

    /// What is to be done.
    pub(super) fn wish(&self) -> Wish {
        let paused = self.paused.is_some_and(|since| since.elapsed() < PAUSE);
        if paused || self.due.is_empty() {
            Wish::Nothing
        } else if self.pressing > 0 {
            Wish::Soon
        } else {
            Wish::Idle
        }
    }

    /// Notes lines of the log that waits longest.
    pub(super) fn work(&mut self, db: &Connection, logs: &[Arc<LogState>]) {
        let presses = |&slot: &usize| self.pressing == 0 || self.behind[slot] >= PRESSING;
        let Some(at) = self.due.iter().position(presses) else {
            return;
        };
        let Some(log) = self.due.remove(at).and_then(|slot| logs.get(slot)) else {
            return;
        };
        self.due.push_back(log.slot);
        let noted = derive::note(db, log.network, SLICE, LONGEST).and_then(|_| self.look(db, log));
        match noted {
            Ok(()) => {
                self.paused = None;
                if mem::take(&mut self.failing) {
                    tracing::info!("the history is being indexed again");
                }
            }
            Err(error) => self.fail(db, logs, &error),
        }
    }

    /// What cannot be noted now is noted later; what is noted and damaged is dropped, once, and made again. Lines are
    /// stored all the same.
    fn fail(&mut self, db: &Connection, logs: &[Arc<LogState>], error: &rusqlite::Error) {
        self.paused = Some(Instant::now());
        if mem::replace(&mut self.failing, true) {
            return;
        }
        tracing::warn!(%error, "the history cannot be indexed now: searches may be slow");
        if derive::is_damage(error) {
            self.start_again(db, logs);
        }
    }

    /// Drops all that is noted, because it cannot be used, and has it made again.
    pub(super) fn start_again(&mut self, db: &Connection, logs: &[Arc<LogState>]) {
        // When that did not help, the damage is somewhere else.
        if self
            .started_again
            .is_some_and(|last| last.elapsed() < SELDOM)
        {
            return;
        }
        self.started_again = Some(Instant::now());
        tracing::warn!("the index of the history is damaged and made again; no line is lost");
        let started = derive::start_again(db)
            .and_then(|()| logs.iter().try_for_each(|log| self.look(db, log)));
        match started {
            Ok(()) => self.paused = None,
            Err(error) => {
                tracing::error!(%error, "the index of the history cannot be made again: searches may be slow or fail");
            }
        }
    }
}
