//! What is kept, and for how long: lines beyond the age or the size that a user wants are forgotten, a few at a time, by
//! the writer between its commits. Here is when, whose and how much; `forget` does it. Who decides how long is `config`'s.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::entry::EntryId;
use super::forget::{
    STEP, Swept, bytes_of, end_of, forget_before, forget_gaps, forget_keys, give_back, key_of,
    newest_of, oldest_of, stretch_of,
};
use super::query;
use super::queue::LogState;
use crate::config;
use crate::wire::{CaseMapping, Name, Timestamp};

/// Between two steps.
const PAUSE: Duration = Duration::from_millis(100);

/// From one pass to the next, and after so many bytes were stored.
const PASS: Duration = Duration::from_secs(600);
const PASS_BYTES: usize = 8 << 20;

/// When somebody says what to keep, more of that may follow at once.
const SOON: Duration = Duration::from_millis(300);

/// The clock is believed when it agrees with what was stored last, or has run evenly for so long.
const STEADY: Duration = Duration::from_secs(86_400);
const LONG_AGO: Duration = Duration::from_secs(30 * 86_400);

/// How long lines of a network are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keep {
    /// `None`: for ever.
    pub age: Option<Duration>,
    /// Targets with an age of their own.
    pub targets: Vec<(String, Option<Duration>)>,
    /// How many bytes the user's history may have, all networks together; `None`: any number.
    pub size: Option<u64>,
}

impl From<&config::Network> for Keep {
    fn from(network: &config::Network) -> Self {
        let age = network.history.retention;
        let own = network
            .channels
            .iter()
            .filter(|channel| channel.history.retention != age);
        Self {
            age,
            targets: own
                .map(|channel| (channel.name.clone(), channel.history.retention))
                .collect(),
            size: network.history.max_size,
        }
    }
}

impl Keep {
    /// How long lines of a target are kept. Names are compared in the loosest way: better that two share an age than that
    /// one loses lines because we do not know yet how its network compares names.
    fn age_of(&self, target: &[u8]) -> Option<Duration> {
        let target = Name::new(target, CaseMapping::Rfc1459);
        let own = self
            .targets
            .iter()
            .find(|(name, _)| target.is(name.as_bytes()));
        own.map_or(self.age, |(_, age)| *age)
    }

    fn forgets_by_age(&self) -> bool {
        self.age.is_some() || self.targets.iter().any(|(_, age)| age.is_some())
    }
}

/// Something to do in a pass.
#[derive(Debug)]
enum Job {
    /// Lines of a target before a time.
    Age {
        network: i64,
        target: i64,
        before: Timestamp,
    },
    /// Gaps before a time.
    Gaps { network: i64, before: Timestamp },
    /// The bytes of a network, from a stretch on, are counted among its user's.
    Measure {
        network: i64,
        user: usize,
        from: i64,
    },
    /// A user's oldest lines, until he has no more bytes than he may.
    Size { user: usize },
    /// Free pages.
    Pages,
}

/// What a user has in a pass.
#[derive(Debug)]
struct Usage {
    networks: Vec<i64>,
    bytes: i64,
    most: i64,
}

/// Forgets what is not kept.
pub(super) struct Sweeper {
    jobs: VecDeque<Job>,
    users: Vec<Usage>,
    due: Option<Instant>,
    /// Stored since the last pass.
    stored: usize,
    clock: Clock,
}

/// Whether the wall clock can be believed: one that jumped a year ahead must not cost a year of history.
#[derive(Debug)]
struct Clock {
    seen: Option<(Instant, Timestamp)>,
    believed_from: Instant,
}

impl Clock {
    /// `newest`: when the newest line was stored, as far as is known.
    fn is_believed(&mut self, now: Instant, time: Timestamp, newest: Option<Timestamp>) -> bool {
        let jumped = match self.seen {
            Some((instant, before)) => {
                let expected = after(before, now.saturating_duration_since(instant));
                apart(expected, time) > STEADY
            }
            None => newest.is_some_and(|newest| apart(newest, time) > LONG_AGO),
        };
        self.seen = Some((now, time));
        if jumped {
            self.believed_from = now + STEADY;
        }
        now >= self.believed_from
    }
}

fn after(time: Timestamp, span: Duration) -> Timestamp {
    time.plus_millis(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}

fn ago(time: Timestamp, span: Duration) -> Timestamp {
    let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(time.millis().saturating_sub(millis))
}

fn apart(a: Timestamp, b: Timestamp) -> Duration {
    Duration::from_millis(a.millis().abs_diff(b.millis()))
}

impl Default for Sweeper {
    fn default() -> Self {
        Self {
            jobs: VecDeque::new(),
            users: Vec::new(),
            due: None,
            stored: 0,
            clock: Clock {
                seen: None,
                believed_from: Instant::now(),
            },
        }
    }
}

impl Sweeper {
    /// When there is something to do.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Somebody has said what to keep.
    pub(super) fn told(&mut self) {
        self.due = Some(Instant::now() + SOON);
        self.jobs.clear();
    }

    /// So many bytes were stored.
    pub(super) fn stored(&mut self, bytes: usize) {
        self.stored += bytes;
        if self.stored > PASS_BYTES && self.due.is_some() && self.jobs.is_empty() {
            self.due = Some(Instant::now());
        }
    }

    /// Works for a few milliseconds. What fails is tried again in the next pass.
    pub(super) fn step(
        &mut self,
        db: &Connection,
        logs: &[Arc<LogState>],
        time: Timestamp,
    ) -> Swept {
        let worked = self.work(db, logs, time);
        if !db.is_autocommit() {
            drop(db.execute_batch("ROLLBACK"));
        }
        let pause = if self.jobs.is_empty() { PASS } else { PAUSE };
        self.due = Some(Instant::now() + pause);
        worked.unwrap_or_else(|error| {
            tracing::debug!(%error, "old lines could not be forgotten now");
            self.jobs.clear();
            self.due = Some(Instant::now() + PASS);
            // Whatever was made or dropped in the transaction is undone.
            Swept {
                lines: 0,
                targets: true,
            }
        })
    }

    fn work(
        &mut self,
        db: &Connection,
        logs: &[Arc<LogState>],
        time: Timestamp,
    ) -> rusqlite::Result<Swept> {
        let started = Instant::now();
        let mut swept = Swept::default();
        if self.jobs.is_empty() {
            self.plan(db, logs, time)?;
        }
        if matches!(self.jobs.front(), Some(Job::Pages)) {
            // In a transaction of its own.
            if !give_back(db)? {
                self.jobs.pop_front();
            }
            return Ok(swept);
        }
        db.execute_batch("BEGIN IMMEDIATE")?;
        while started.elapsed() < STEP {
            if matches!(self.jobs.front(), Some(Job::Pages)) {
                break;
            }
            let Some(mut job) = self.jobs.pop_front() else {
                break;
            };
            let done = match &mut job {
                Job::Age {
                    network,
                    target,
                    before,
                } => forget_before(db, *network, *target, *before, started, &mut swept)?,
                Job::Gaps { network, before } => forget_gaps(db, *network, *before)?,
                Job::Measure {
                    network,
                    user,
                    from,
                } => self.measure(db, (*network, *user), from, started)?,
                Job::Size { user } => self.shrink(db, *user, started, &mut swept)?,
                Job::Pages => true,
            };
            if !done {
                self.jobs.push_front(job);
            }
        }
        db.execute_batch("COMMIT")?;
        Ok(swept)
    }

    /// What there is to do in a pass.
    fn plan(
        &mut self,
        db: &Connection,
        logs: &[Arc<LogState>],
        time: Timestamp,
    ) -> rusqlite::Result<()> {
        self.stored = 0;
        self.users.clear();
        let newest = newest_of(db, logs)?;
        let by_age = self.clock.is_believed(Instant::now(), time, newest);
        let mut most: HashMap<&str, u64> = HashMap::new();
        for log in logs {
            let keep = log.keep();
            if by_age && keep.forgets_by_age() {
                self.plan_ages(db, log.network, &keep, time)?;
            }
            if let Some(size) = keep.size {
                let least = most.entry(&log.user).or_insert(size);
                *least = size.min(*least);
            }
        }
        for (name, most) in most {
            let networks = db
                .prepare_cached("SELECT id FROM network WHERE user = ?1")?
                .query_map([name], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<i64>>>()?;
            let user = self.users.len();
            let measured = networks.iter().map(|&network| Job::Measure {
                network,
                user,
                from: 0,
            });
            self.jobs.extend(measured);
            self.jobs.push_back(Job::Size { user });
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            self.users.push(Usage {
                networks,
                bytes: 0,
                most,
            });
        }
        self.jobs.push_back(Job::Pages);
        Ok(())
    }

    fn plan_ages(
        &mut self,
        db: &Connection,
        network: i64,
        keep: &Keep,
        time: Timestamp,
    ) -> rusqlite::Result<()> {
        let mut targets = db.prepare_cached("SELECT id, folded FROM target WHERE network = ?1")?;
        let mut rows = targets.query([network])?;
        while let Some(row) = rows.next()? {
            let folded: Vec<u8> = row.get(1)?;
            if let Some(age) = keep.age_of(&folded) {
                let (target, before) = (row.get(0)?, ago(time, age));
                self.jobs.push_back(Job::Age {
                    network,
                    target,
                    before,
                });
            }
        }
        let before = keep
            .age
            .map_or(Timestamp::from_millis(i64::MIN), |age| ago(time, age));
        self.jobs.push_back(Job::Gaps { network, before });
        Ok(())
    }

    /// Counts the stretches of a network, from one on; whether that were the last ones. What gets no more lines is measured
    /// once.
    fn measure(
        &mut self,
        db: &Connection,
        (network, user): (i64, usize),
        from: &mut i64,
        started: Instant,
    ) -> rusqlite::Result<bool> {
        let end = query::key(network, EntryId::MAX);
        let Some(newest) = end_of(db, key_of(network, 0), end, "DESC")? else {
            return Ok(true);
        };
        let head = stretch_of(newest);
        while started.elapsed() < STEP {
            let Some(first) = end_of(db, key_of(network, *from), end, "ASC")? else {
                return Ok(true);
            };
            let stretch = stretch_of(first);
            let bytes = bytes_of(db, network, stretch, stretch < head)?;
            if let Some(usage) = self.users.get_mut(user) {
                usage.bytes += bytes;
            }
            if stretch >= head {
                return Ok(true);
            }
            *from = stretch + 1;
        }
        Ok(false)
    }

    /// Forgets a user's oldest lines; whether no more need to go.
    fn shrink(
        &mut self,
        db: &Connection,
        user: usize,
        started: Instant,
        swept: &mut Swept,
    ) -> rusqlite::Result<bool> {
        let Some(usage) = self.users.get_mut(user) else {
            return Ok(true);
        };
        while usage.bytes > usage.most {
            if started.elapsed() > STEP {
                return Ok(false);
            }
            let Some(oldest) = oldest_of(db, &usage.networks)? else {
                return Ok(true);
            };
            let end = query::key(oldest.1, EntryId::MAX);
            let keys = db
                .prepare_cached(
                    "SELECT key FROM entry WHERE key BETWEEN ?1 AND ?2 ORDER BY key LIMIT 64",
                )?
                .query_map([oldest.0, end], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<i64>>>()?;
            let excess = usage.bytes - usage.most;
            let gone = forget_keys(db, oldest.1, &keys, |gone| gone < excess)?;
            usage.bytes -= gone.bytes;
            swept.lines += gone.lines;
            if gone.lines == 0 {
                return Ok(true);
            }
            db.prepare_cached("DELETE FROM size WHERE network = ?1 AND stretch < ?2")?
                .execute([oldest.1, stretch_of(oldest.0)])?;
        }
        Ok(true)
    }
}

#[cfg(test)]
#[path = "tests/retention.rs"]
mod tests;
