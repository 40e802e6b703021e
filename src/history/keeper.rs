//! The thread that keeps slow work off the commits: it syncs the WAL within a second of a write (durability `process`),
//! and copies the WAL into the database on its own connection. Commits never sync and never checkpoint, but for what
//! `writer` does when this thread does not keep up.

use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::schema;
use crate::config::Durability;

/// How long after a first write the WAL is synced; with the time that takes, no write waits much more than a second.
const SYNC_AFTER: Duration = Duration::from_millis(900);

/// How the writer calls the keeper.
#[derive(Default)]
pub(super) struct Bell {
    calls: Mutex<Calls>,
    wake: Condvar,
    /// Held by the keeper while it copies.
    copying: Mutex<()>,
}

#[derive(Default)]
struct Calls {
    /// When the oldest write happened that may not be synced.
    written: Option<Instant>,
    copy: bool,
    closing: bool,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was written.
    pub(super) fn written(&self) {
        let mut calls = self.lock();
        if calls.written.is_none() {
            calls.written = Some(Instant::now());
            drop(calls);
            self.wake.notify_all();
        }
    }

    /// The WAL is large.
    pub(super) fn copy(&self) {
        self.lock().copy = true;
        self.wake.notify_all();
    }

    /// Waits until the keeper does not copy, and keeps it from that: only one at a time can.
    pub(super) fn keep_from_copying(&self) -> MutexGuard<'_, ()> {
        self.copying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more is written.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_all();
    }

    /// Waits for something to do. Idle, it sleeps without end.
    fn next(&self, durability: Durability) -> Calls {
        let mut calls = self.lock();
        loop {
            if calls.closing {
                return Calls {
                    written: calls.written.take(),
                    copy: true,
                    closing: true,
                };
            }
            if calls.copy {
                return Calls {
                    copy: std::mem::take(&mut calls.copy),
                    ..Calls::default()
                };
            }
            // With durability `power` each commit has synced itself.
            let due = calls.written.filter(|_| durability == Durability::Process);
            calls = match due.map(|written| SYNC_AFTER.saturating_sub(written.elapsed())) {
                Some(Duration::ZERO) => {
                    return Calls {
                        written: calls.written.take(),
                        ..Calls::default()
                    };
                }
                Some(span) => {
                    self.wake
                        .wait_timeout(calls, span)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .wake
                    .wait(calls)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// The keeper.
pub(super) struct Keeper {
    bell: Arc<Bell>,
    connection: Connection,
    durability: Durability,
    failing: bool,
}

impl Keeper {
    pub(super) fn new(bell: Arc<Bell>, connection: Connection, durability: Durability) -> Self {
        Self {
            bell,
            connection,
            durability,
            failing: false,
        }
    }

    /// Works until the bell is closed; then leaves a WAL of length 0.
    pub(super) fn run(mut self) {
        loop {
            let calls = self.bell.next(self.durability);
            if calls.written.is_some() && self.durability == Durability::Process {
                self.sync();
            }
            if calls.closing {
                drop(schema::wal_pages(&self.connection, "TRUNCATE"));
                return;
            }
            if calls.copy {
                self.copy();
            }
        }
    }

    /// What cannot be copied now, because somebody reads, is copied later. This syncs by itself.
    fn copy(&self) {
        let _copying = self.bell.keep_from_copying();
        drop(schema::wal_pages(&self.connection, "PASSIVE"));
    }

    fn sync(&mut self) {
        match self.sync_wal() {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("the history is being synced again");
            }
            Ok(()) => {}
            Err(error) => {
                // The system may now take the pages for written. Copying reads them back and syncs another file.
                self.copy();
                if !self.failing {
                    self.failing = true;
                    tracing::error!(%error, "the history cannot be synced: a power cut now may lose lines");
                }
                self.bell.written();
            }
        }
    }

    /// SQLite has no call that syncs the WAL alone. It holds its locks on the database and the `-shm`, none on the WAL,
    /// so that opening and closing this file drops none of them.
    fn sync_wal(&self) -> io::Result<()> {
        let Some(path) = schema::wal_of(&self.connection) else {
            return Ok(());
        };
        match File::open(path).and_then(|wal| wal.sync_data()) {
            // Without a WAL everything is in the database, which is synced before the WAL is removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}
