//! Lines from before carom stored any by itself: put into the ids that every network keeps free below its own, so that within
//! a target ids and times keep one order. Done while no daemon runs, on a connection of its own; done again, it adds only what
//! is new.

use std::path::Path;

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::derive;
use super::error::Error;
use super::query;
use super::{EntryId, Kind, schema};
use crate::config::Durability;
use crate::wire::{Name, Timestamp};

/// The ids below this one are kept for what was said before: [`super::History::begin_log`] makes networks that give out ids from here on.
pub(super) const FIRST_OWN: u64 = 1 << 32;

/// So many lines go into one transaction.
const TOGETHER: u32 = 5_000;

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is stored now.
    New,
    /// It was stored before.
    Known,
    /// carom stored lines of this talk by itself by then.
    Later,
}

/// A database that takes in lines of the past.
pub struct Past {
    db: Connection,
    talk: Option<Talk>,
    open: u32,
}

/// The talk whose lines are told.
struct Talk {
    network: i64,
    target: i64,
    /// The next free id.
    next: i64,
    /// The newest line that was brought in before.
    newest: i64,
    /// The oldest line that carom stored by itself.
    own: i64,
    /// The last line told.
    last: i64,
}

impl Past {
    /// Opens the database, or makes it. No daemon may be running on it.
    pub fn open(database: &Path) -> Result<Self, Error> {
        let db = schema::open(database, Durability::Process)?;
        Ok(Self {
            db,
            talk: None,
            open: 0,
        })
    }

    /// From here on lines of this talk are told, from the oldest on.
    pub fn talk(&mut self, user: &str, network: &str, target: &[u8]) -> Result<(), Error> {
        self.begin()?;
        query::begin(&self.db, user, network)?;
        let network = query::network(&self.db, user, network)?;
        let mapping = query::mapping(&self.db, network)?.unwrap_or_default();
        let target = self.target(network, &Name::new(target, mapping))?;
        let bound = |id| query::key(network, EntryId(id));
        let one = |sql: &str, from: i64, to: i64| -> rusqlite::Result<Option<i64>> {
            self.db
                .prepare_cached(sql)?
                .query_row(params![target, from, to], |row| row.get(0))
                .optional()
        };
        const NEWEST: &str = "SELECT time FROM entry INDEXED BY entry_target WHERE target = ?1 AND key BETWEEN ?2 AND ?3 ORDER BY key DESC LIMIT 1";
        const OLDEST: &str = "SELECT time FROM entry INDEXED BY entry_target WHERE target = ?1 AND key BETWEEN ?2 AND ?3 ORDER BY key LIMIT 1";
        let newest = one(NEWEST, bound(0), bound(FIRST_OWN - 1))?;
        let own = one(OLDEST, bound(FIRST_OWN), bound(EntryId::MAX.0))?;
        let highest: Option<i64> = self
            .db
            .prepare_cached("SELECT max(key) FROM entry WHERE key BETWEEN ?1 AND ?2")?
            .query_row([bound(0), bound(FIRST_OWN - 1)], |row| row.get(0))?;
        let noted = derive::Part::of(network)[0].through(&self.db)?;
        self.talk = Some(Talk {
            network,
            target,
            // What is noted may reach further, when the last lines are gone.
            next: highest.unwrap_or_else(|| bound(0)).max(noted) + 1,
            newest: newest.unwrap_or(i64::MIN),
            own: own.unwrap_or(i64::MAX),
            last: i64::MIN,
        });
        Ok(())
    }

    fn target(&self, network: i64, name: &Name) -> rusqlite::Result<i64> {
        let folded: Vec<u8> = name.folded().collect();
        if let Some(target) = query::target(&self.db, network, &folded)? {
            return Ok(target);
        }
        self.db
            .prepare_cached(
                "INSERT INTO target (network, folded, name) VALUES (?1, ?2, ?3) RETURNING id",
            )?
            .query_row(params![network, folded, name.as_bytes()], |row| row.get(0))
    }

    /// Tells a line. Several of one second are told in their order; that gives each a time of its own, the same one each time.
    pub fn add(
        &mut self,
        time: Timestamp,
        kind: Kind,
        msgid: Option<&[u8]>,
        line: &[u8],
    ) -> Result<Added, Error> {
        let Some(talk) = &mut self.talk else {
            return Ok(Added::Known);
        };
        let time = time.millis().max(talk.last.saturating_add(1));
        talk.last = time;
        if time <= talk.newest {
            return Ok(Added::Known);
        }
        if time >= talk.own || talk.next >= query::key(talk.network, EntryId(FIRST_OWN)) {
            return Ok(Added::Later);
        }
        let (key, target) = (talk.next, talk.target);
        talk.next += 1;
        let mut insert: CachedStatement<'_> = self.db.prepare_cached(
            "INSERT INTO entry (key, target, time, kind, again, msgid, tags, line) VALUES (?1, ?2, ?3, ?4, 0, ?5, x'', ?6)",
        )?;
        insert.execute(params![key, target, time, kind as u8, msgid, line])?;
        drop(insert);
        self.open += 1;
        if self.open >= TOGETHER {
            self.commit()?;
            self.begin()?;
        }
        Ok(Added::New)
    }

    fn begin(&self) -> Result<(), Error> {
        if self.db.is_autocommit() {
            self.db.execute_batch("BEGIN IMMEDIATE")?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.open = 0;
        if !self.db.is_autocommit() {
            self.db.execute_batch("COMMIT")?;
        }
        Ok(())
    }

    /// Stores what is left.
    pub fn close(mut self) -> Result<(), Error> {
        self.commit()?;
        self.db.close().map_err(|(_, error)| error)?;
        Ok(())
    }
}
