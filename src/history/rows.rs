//! How entries become rows: several with one statement, each filed under the number of its target. When they go in, and
//! what becomes of one that cannot be stored, is `writer`'s.

use std::collections::HashMap;
use std::sync::LazyLock;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Statement, params};

use super::entry::Entry;
use super::query;
use super::queue::LogState;
use crate::wire::Name;

/// Of so many targets number and spelling are kept in memory.
const TARGETS: usize = 16_384;

/// Rows that one statement stores: the cursors of table and index stay where they are from one to the next.
const TOGETHER: usize = 16;
const COLUMNS: usize = 8;

/// Entries on their way into the store, in order.
pub(super) struct Rows<'a> {
    db: &'a Connection,
    waiting: Vec<(i64, i64, &'a Entry)>,
    together: usize,
    /// Kept from one use to the next, and with it the room for what is bound.
    many: Option<CachedStatement<'a>>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(db: &'a Connection, singly: bool) -> Self {
        let together = if singly { 1 } else { TOGETHER };
        Self {
            db,
            waiting: Vec::with_capacity(together),
            together,
            many: None,
        }
    }

    /// Adds a row.
    pub(super) fn add(
        &mut self,
        targets: &mut Targets,
        log: &LogState,
        entry: &'a Entry,
    ) -> rusqlite::Result<()> {
        let target = targets.number(self.db, log.network, &entry.target)?;
        let key = query::key(log.network, entry.id);
        self.waiting.push((key, target, entry));
        if self.waiting.len() < self.together {
            return Ok(());
        }
        self.end()
    }

    /// Stores what was added.
    pub(super) fn end(&mut self) -> rusqlite::Result<()> {
        let stored = match self.waiting.len() {
            0 => Ok(()),
            TOGETHER => self.store_many(),
            _ => self.store_one_by_one(),
        };
        self.waiting.clear();
        stored
    }

    fn store_many(&mut self) -> rusqlite::Result<()> {
        let many = match &mut self.many {
            Some(many) => many,
            none => none.insert(self.db.prepare_cached(many())?),
        };
        bind(many, &self.waiting)?;
        many.raw_execute().map(drop)
    }

    fn store_one_by_one(&self) -> rusqlite::Result<()> {
        let mut one = self.db.prepare_cached(ONE)?;
        for row in self.waiting.chunks(1) {
            bind(&mut one, row)?;
            one.raw_execute()?;
        }
        Ok(())
    }
}

const ONE: &str = "INSERT INTO entry (key, target, time, kind, again, msgid, tags, line) \
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)";

/// For [`TOGETHER`] rows. What fails undoes the whole transaction, so that SQLite need not keep copies of pages to undo
/// one statement.
fn many() -> &'static str {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let more = ", (?, ?, ?, ?, ?, ?, ?, ?)".repeat(TOGETHER - 1);
        ONE.replacen("INSERT", "INSERT OR ROLLBACK", 1) + &more
    });
    &SQL
}

fn bind(statement: &mut Statement<'_>, rows: &[(i64, i64, &Entry)]) -> rusqlite::Result<()> {
    for (n, (key, target, entry)) in rows.iter().enumerate() {
        let first = n * COLUMNS + 1;
        statement.raw_bind_parameter(first, key)?;
        statement.raw_bind_parameter(first + 1, target)?;
        statement.raw_bind_parameter(first + 2, entry.time.millis())?;
        statement.raw_bind_parameter(first + 3, entry.kind as u8)?;
        statement.raw_bind_parameter(first + 4, entry.again)?;
        statement.raw_bind_parameter(first + 5, entry.msgid.as_deref())?;
        statement.raw_bind_parameter(first + 6, &entry.tags[..])?;
        statement.raw_bind_parameter(first + 7, &entry.line[..])?;
    }
    Ok(())
}

/// Numbers of targets that were met lately.
#[derive(Default)]
pub(super) struct Targets {
    /// By network and folded name: number, and last spelling.
    ids: HashMap<Vec<u8>, (i64, Box<[u8]>)>,
    scratch: Vec<u8>,
}

impl Targets {
    /// What was made in a transaction that failed is not there.
    pub(super) fn forget(&mut self) {
        self.ids.clear();
    }

    /// The number of a target, which is made when it is new.
    fn number(&mut self, db: &Connection, network: i64, name: &Name) -> rusqlite::Result<i64> {
        self.scratch.clear();
        self.scratch.extend_from_slice(&network.to_be_bytes());
        self.scratch.extend(name.folded());
        let spelled = name.as_bytes();
        if let Some((number, last)) = self.ids.get_mut(&self.scratch) {
            if **last != *spelled {
                spell(db, *number, spelled)?;
                *last = spelled.into();
            }
            return Ok(*number);
        }
        let number = find_or_make(db, network, &self.scratch[8..], spelled)?;
        if self.ids.len() >= TARGETS {
            self.ids.clear();
        }
        self.ids
            .insert(self.scratch.clone(), (number, spelled.into()));
        Ok(number)
    }
}

fn find_or_make(
    db: &Connection,
    network: i64,
    folded: &[u8],
    spelled: &[u8],
) -> rusqlite::Result<i64> {
    let known: Option<(i64, bool)> = db
        .prepare_cached("SELECT id, name = ?3 FROM target WHERE network = ?1 AND folded = ?2")?
        .query_row(params![network, folded, spelled], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    match known {
        Some((number, true)) => Ok(number),
        Some((number, false)) => spell(db, number, spelled).map(|()| number),
        None => db
            .prepare_cached(
                "INSERT INTO target (network, folded, name) VALUES (?1, ?2, ?3) RETURNING id",
            )?
            .query_row(params![network, folded, spelled], |row| row.get(0)),
    }
}

fn spell(db: &Connection, target: i64, spelled: &[u8]) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE target SET name = ?2 WHERE id = ?1")?
        .execute(params![target, spelled])
        .map(drop)
}
