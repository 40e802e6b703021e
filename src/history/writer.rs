//! The one thread that writes: it takes what all logs have, stores it in one commit, and says how far each log is settled.
//! A disk that fails is tried again and again while the queue's budgets fill; nobody is kept waiting, nothing ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, params};

use super::backlog::{Gap, Item};
use super::deriving::Deriving;
use super::entry::{EntryId, Fact, Lost, Write};
use super::error::Error;
use super::forget;
use super::keeper::Bell;
use super::queue::{BATCH, Batch, LogState, Opened, Order, Queue, Task};
use super::retention::Sweeper;
use super::rows::{Rows, Targets};
use super::schema::{self, Use};
use super::{Remembered, moves, query};
use crate::clock;
use crate::config::Durability;
use crate::wire::{Name, Timestamp};

/// A commit that has taken this long in storing rows is ended, so that those who wait for its first lines get them.
const LONGEST: Duration = Duration::from_millis(20);

/// Waits between attempts to store.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// When the store is closed while the disk fails, attempts go on for so long.
const LAST_ATTEMPTS: Duration = Duration::from_secs(2);

/// After so many bytes the WAL is looked at.
const LOOK_EVERY: usize = 128 << 10;

/// What a line that is forgotten adds to the WAL, about.
const SWEPT: usize = 512;

/// Sizes of the WAL in pages [4 KiB each]: how much the keeper is told to copy at a time; from where on this thread copies
/// the rest, because while it does the WAL cannot grow; and from where on it waits for the keeper to let it.
const WAL_COPY: i64 = 1024;
const WAL_LIMIT: i64 = 4096;
const WAL_STOP: i64 = 3 * WAL_LIMIT;

/// Networks have numbers below this: 23 bits beside the 40 of an id.
const NETWORKS: i64 = 1 << 23;

/// Where the writer's database is; `None` in memory.
pub(super) type Place = Option<(PathBuf, Durability)>;

/// The writer.
pub(super) struct Writer {
    queue: Arc<Queue>,
    bell: Option<Arc<Bell>>,
    place: Place,
    connection: Connection,
    logs: Vec<Arc<LogState>>,
    targets: Targets,
    deriving: Deriving,
    sweeper: Sweeper,
    /// Bytes written since the WAL was looked at.
    unlooked: usize,
    trouble: Option<Trouble>,
    /// A row cannot be stored: to find out which, each goes in by itself.
    singly: bool,
}

/// Since when, and how often, storing has failed.
struct Trouble {
    since: Instant,
    pause: Duration,
    closing: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        queue: Arc<Queue>,
        bell: Option<Arc<Bell>>,
        place: Place,
        connection: Connection,
    ) -> Self {
        Self {
            queue,
            bell,
            place,
            connection,
            logs: Vec::new(),
            targets: Targets::default(),
            deriving: Deriving::default(),
            sweeper: Sweeper::default(),
            unlooked: 0,
            trouble: None,
            singly: false,
        }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut batch = Batch::default();
        loop {
            let (due, wish) = (self.sweeper.due(), self.deriving.wish());
            let task = self.queue.next(&mut batch, due, wish);
            if matches!(task, Task::Stop) {
                return;
            }
            // A mistake of ours in one task must not silence the history of everybody.
            if catch_unwind(AssertUnwindSafe(|| self.work(task, &mut batch))).is_err() {
                tracing::error!(
                    lines = entries(&batch.items),
                    "storing lines ended in a panic: some may be lost"
                );
                self.queue.release(&batch.items);
                batch = Batch::default();
            }
        }
    }

    fn work(&mut self, task: Task, batch: &mut Batch) {
        match task {
            Task::Store => self.store(batch),
            Task::Serve(Order::Work(work)) => work(&self.connection),
            Task::Serve(Order::StartAgain(done)) => {
                self.deriving.start_again(&self.connection, &self.logs);
                // An asker that has gone needs no answer.
                let _ = done.send(());
            }
            Task::Derive => {
                self.deriving.work(&self.connection, &self.logs);
                self.copy_wal(LOOK_EVERY);
            }
            Task::Serve(Order::Keep) => self.sweeper.told(),
            Task::Sweep => self.sweep(),
            Task::Serve(Order::Open {
                user,
                network,
                answer,
            }) => {
                // An asker that has gone needs no answer.
                drop(answer.send(self.open(&user, &network)));
            }
            Task::Stop => {}
        }
    }

    /// Forgets a few lines that are not kept any more.
    fn sweep(&mut self) {
        let swept = self
            .sweeper
            .step(&self.connection, &self.logs, clock().time);
        if swept.targets {
            self.targets.forget();
        }
        if swept.lines > 0 {
            tracing::debug!(lines = swept.lines, "old lines are forgotten");
            if let Some(bell) = &self.bell {
                bell.written();
            }
            self.copy_wal(SWEPT * usize::try_from(swept.lines).unwrap_or_default());
        }
    }

    fn open(&mut self, user: &str, name: &str) -> Result<Opened, Error> {
        let network = query::network(&self.connection, user, name)?;
        if network >= NETWORKS {
            return Err(Error::TooManyNetworks);
        }
        let log = match self.logs.iter().find(|log| log.network == network) {
            Some(log) => Arc::clone(log),
            None => self.add(network, user, name),
        };
        // What an earlier holder of the log has appended is part of what is remembered.
        let mut batch = Batch::default();
        self.queue.take_log(log.slot, &mut batch);
        self.store(&mut batch);
        let mut remembered: Remembered = query::remembered(&self.connection, network)?;
        remembered.head = remembered.head.max(*log.settled.borrow());
        log.settle(remembered.head);
        // Without the notes searches are slow, but nothing is missing.
        if let Err(error) = self.deriving.look(&self.connection, &log) {
            tracing::warn!(%error, user, network = name, "the index of the history cannot be read");
            self.deriving.start_again(&self.connection, &self.logs);
        }
        Ok((log, remembered))
    }

    fn add(&mut self, network: i64, user: &str, name: &str) -> Arc<LogState> {
        let log = Arc::new(LogState::new(self.logs.len(), network, user, name));
        self.queue.add_log();
        self.logs.push(Arc::clone(&log));
        log
    }

    /// Stores a batch, in as many commits and attempts as it takes, and empties it.
    fn store(&mut self, batch: &mut Batch) {
        let mut rest = batch.items.as_slice();
        while !rest.is_empty() {
            match self.commit(rest, batch.whole) {
                Ok(done) => {
                    let (stored, left) = rest.split_at(done);
                    self.settle(stored);
                    self.queue.release(stored);
                    self.stored(stored);
                    rest = left;
                }
                Err(error) if !self.singly && concerns_row(&error) => self.singly = true,
                Err(error) => {
                    if !self.try_again(&error) {
                        tracing::error!(%error, lines = entries(rest), "the history ends with lines that were not stored");
                        self.queue.release(rest);
                        break;
                    }
                }
            }
        }
        self.singly = false;
        batch.items.clear();
        batch.items.shrink_to(2 * BATCH);
        batch.whole = false;
    }

    /// One commit; how many items are in it.
    fn commit(&mut self, items: &[(usize, Item)], whole: bool) -> rusqlite::Result<usize> {
        let begun = Instant::now();
        let result = self.transaction(items, whole);
        match &result {
            Ok(_) => self.queue.done.committed(begun.elapsed()),
            Err(_) => self.queue.done.failed(),
        }
        if result.is_err() {
            // Targets that were made in it are gone.
            self.targets.forget();
            if !self.connection.is_autocommit() {
                drop(self.connection.execute_batch("ROLLBACK"));
            }
        }
        result
    }

    fn transaction(&mut self, items: &[(usize, Item)], whole: bool) -> rusqlite::Result<usize> {
        let db = &self.connection;
        db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let started = Instant::now();
        let mut done = 0;
        let mut rows = Rows::new(db, self.singly);
        for (slot, item) in items {
            // Asking for the time costs less than a row, but not nothing.
            let long = done % 32 == 31 && started.elapsed() > LONGEST;
            if long && !whole && item.is_entry() {
                break;
            }
            done += 1;
            let Some(log) = self.logs.get(*slot) else {
                continue;
            };
            let written = match item {
                Item::Write(Write::Entry(entry)) => rows.add(&mut self.targets, log, entry),
                Item::Write(write @ Write::Rename(..)) => rows.end().and_then(|()| {
                    // What is known of names is not so any more.
                    self.targets.forget();
                    write_one(db, log, write)
                }),
                Item::Write(write) => rows.end().and_then(|()| write_one(db, log, write)),
                Item::Gap(gap) => rows.end().and_then(|()| write_gap(db, log, gap)),
            };
            self.bear(log, written)?;
        }
        rows.end()?;
        drop(rows);
        db.prepare_cached("COMMIT")?.execute([])?;
        Ok(done)
    }

    /// When rows go in one by one, one that cannot be stored is left out; else all of them are tried again.
    fn bear(&self, log: &LogState, written: rusqlite::Result<()>) -> rusqlite::Result<()> {
        match written {
            Err(error) if self.singly && concerns_row(&error) => {
                tracing::error!(user = log.user, network = log.name, %error, "a line cannot be stored");
                Ok(())
            }
            written => written,
        }
    }

    /// Tells how far the logs of these items are settled.
    fn settle(&mut self, stored: &[(usize, Item)]) {
        if let Some(trouble) = self.trouble.take() {
            let seconds = trouble.since.elapsed().as_secs();
            tracing::info!(seconds, "the history is being stored again");
        }
        if let Some(bell) = &self.bell {
            bell.written();
        }
        // One notice per run of a log's items, not per item.
        let mut last: Option<(usize, EntryId)> = None;
        for (slot, item) in stored {
            let id = match item {
                Item::Write(Write::Entry(entry)) => {
                    self.deriving.add(*slot, 1);
                    entry.id
                }
                Item::Gap(gap) => {
                    self.tell(*slot, gap);
                    gap.last
                }
                Item::Write(_) => continue,
            };
            if let Some((before, settled)) = last
                && before != *slot
            {
                self.notify(before, settled);
            }
            last = Some((*slot, id));
        }
        if let Some((slot, settled)) = last {
            self.notify(slot, settled);
        }
    }

    fn notify(&self, slot: usize, settled: EntryId) {
        if let Some(log) = self.logs.get(slot) {
            log.settle(settled);
        }
    }

    fn tell(&self, slot: usize, gap: &Gap) {
        if let Some(log) = self.logs.get(slot) {
            let lost = Lost {
                count: gap.count,
                last: gap.last,
                since: gap.since,
                until: gap.until,
            };
            log.lost.send_modify(|before| match before {
                Some(before) => before.add(&lost),
                before => *before = Some(lost),
            });
            tracing::error!(
                user = log.user,
                network = log.name,
                lines = gap.count,
                since = gap.since.millis(),
                until = gap.until.millis(),
                "lines were relayed but not stored, because storage did not keep up"
            );
        }
    }

    /// Waits until it is time for another attempt; false when there will be none.
    fn try_again(&mut self, error: &rusqlite::Error) -> bool {
        let now = Instant::now();
        if self.trouble.is_none() {
            tracing::error!(%error, "the history cannot be stored; lines are relayed, and kept in memory as far as limits allow");
        }
        let trouble = self.trouble.get_or_insert(Trouble {
            since: now,
            pause: FIRST_PAUSE,
            closing: None,
        });
        if trouble
            .closing
            .is_some_and(|since| now.duration_since(since) > LAST_ATTEMPTS)
        {
            return false;
        }
        if trouble.closing.is_some() {
            thread::sleep(FIRST_PAUSE);
        } else if self.queue.pause(trouble.pause) {
            trouble.closing = Some(Instant::now());
        }
        trouble.pause = (trouble.pause * 2).min(LONGEST_PAUSE);
        self.reopen(error);
        true
    }

    /// After a failed sync the system may believe pages to be written that are not: what we hold is written again, through
    /// a connection that knows nothing of the failed attempt.
    fn reopen(&mut self, error: &rusqlite::Error) {
        let broken = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::DatabaseCorrupt)
        );
        if broken
            && let Some((path, durability)) = &self.place
            && let Ok(connection) = schema::connect(path, Use::Writing(*durability))
        {
            self.connection = connection;
        }
    }

    fn stored(&mut self, items: &[(usize, Item)]) {
        let bytes = items.iter().map(|(_, item)| 256 + item.weight()).sum();
        self.sweeper.stored(bytes);
        self.copy_wal(bytes);
    }

    /// Has the WAL copied into the database when it is large.
    fn copy_wal(&mut self, written: usize) {
        let Some(bell) = &self.bell else { return };
        self.unlooked += written;
        if self.unlooked < LOOK_EVERY {
            return;
        }
        self.unlooked = 0;
        // What is wrong shows at the next commit.
        let Ok((pages, copied)) = schema::wal_pages(&self.connection, "NOOP") else {
            return;
        };
        if pages > WAL_LIMIT && pages > copied {
            let _turn = (pages > WAL_STOP).then(|| bell.keep_from_copying());
            drop(schema::wal_pages(&self.connection, "PASSIVE"));
        } else if pages - copied > WAL_COPY {
            bell.copy();
        }
    }
}

fn entries(items: &[(usize, Item)]) -> usize {
    items.iter().filter(|(_, item)| item.is_entry()).count()
}

/// Whether an error is about what was to be stored and not about the store: trying again would not help.
fn concerns_row(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig
        ),
        None => true,
    }
}

/// One write that is not an entry, within a transaction.
fn write_one(db: &Connection, log: &LogState, write: &Write) -> rusqlite::Result<()> {
    let network = log.network;
    match write {
        // Entries go in as `Rows`.
        Write::Entry(_) => Ok(()),
        Write::Position {
            client,
            target,
            id,
            time,
        } => {
            let target = target.as_ref().map_or_else(Vec::new, folded);
            write_position(db, network, client, &target, *id, *time)
        }
        Write::Floor { target, id } => db
            .prepare_cached(
                "INSERT INTO floor (network, target, id) VALUES (?1, ?2, ?3)
                 ON CONFLICT (network, target) DO UPDATE SET id = excluded.id",
            )?
            .execute(params![network, folded(target), number(*id)])
            .map(drop),
        Write::Fact { fact, name, value } => write_fact(db, network, *fact, name, value.as_deref()),
        Write::Redact { target, msgid } => match moves::find(db, network, target, msgid)? {
            Some(id) => write_one(db, log, &Write::Withdraw(id)),
            None => Ok(()),
        },
        Write::Rename(old, new) => moves::rename(db, network, old, new),
        Write::Withdraw(id) => {
            forget::erase(db, query::key(network, *id))?;
            raise_head(db, network, *id)
        }
    }
}

fn write_gap(db: &Connection, log: &LogState, gap: &Gap) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO gap (network, first, last, count, since, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        log.network,
        number(gap.first),
        number(gap.last),
        i64::try_from(gap.count).unwrap_or(i64::MAX),
        gap.since.millis(),
        gap.until.millis()
    ])?;
    raise_head(db, log.network, gap.last)
}

fn write_position(
    db: &Connection,
    network: i64,
    client: &str,
    target: &[u8],
    id: Option<EntryId>,
    time: Timestamp,
) -> rusqlite::Result<()> {
    let done = match id {
        Some(id) => db
            .prepare_cached(
                "INSERT INTO position (network, client, target, id, time) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (network, client, target) DO UPDATE SET id = excluded.id, time = excluded.time",
            )?
            .execute(params![network, client, target, number(id), time.millis()]),
        None => db
            .prepare_cached(
                "DELETE FROM position WHERE network = ?1 AND client = ?2 AND target = ?3",
            )?
            .execute(params![network, client, target]),
    };
    done.map(drop)
}

fn write_fact(
    db: &Connection,
    network: i64,
    fact: Fact,
    name: &[u8],
    value: Option<&[u8]>,
) -> rusqlite::Result<()> {
    let done = match value {
        Some(value) => db
            .prepare_cached(
                "INSERT INTO fact (network, fact, name, value) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (network, fact, name) DO UPDATE SET value = excluded.value",
            )?
            .execute(params![network, fact as u8, name, value]),
        None => db
            .prepare_cached("DELETE FROM fact WHERE network = ?1 AND fact = ?2 AND name = ?3")?
            .execute(params![network, fact as u8, name]),
    };
    done.map(drop)
}

/// Ids without a row must not be given out again either.
fn raise_head(db: &Connection, network: i64, id: EntryId) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE network SET head = ?2 WHERE id = ?1 AND head < ?2")?
        .execute([network, number(id)])
        .map(drop)
}

fn number(id: EntryId) -> i64 {
    i64::try_from(id.0.min(EntryId::MAX.0)).unwrap_or(0)
}

fn folded(name: &Name) -> Vec<u8> {
    name.folded().collect()
}
