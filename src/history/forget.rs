//! Forgetting as SQL: lines by age or in order, with whatever is derived from them, and the sizes that say when. Pages that
//! become free are used again; when they are more than an eighth of the file they are given back to the system, a few at a
//! time. What is to be forgotten, and when, is `retention`'s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};

use super::derive;
use super::entry::EntryId;
use super::query;
use super::queue::LogState;
use crate::wire::Timestamp;

/// Bytes of stretches of a log that get no more lines. Derived: what has no row is measured when it is needed.
pub(super) const TABLES: &str = "
    CREATE TABLE size (
        network INTEGER NOT NULL, stretch INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (network, stretch)
    ) STRICT, WITHOUT ROWID;
";

/// What a row of `entry` takes, with its part of the indexes: what is stored, and about so much around it.
pub(super) const BYTES: &str = "length(line) + length(tags) + coalesce(length(msgid), 0) + 64";

/// A stretch has `1 << STRETCH` ids.
pub(super) const STRETCH: u32 = 10;

/// Of so many gaps in a log the store remembers when they were.
pub(super) const GAPS: i64 = 1000;

/// Pages that are given back at a time, and from how many free ones on.
const PAGES: i64 = 32;
pub(super) const FREE: i64 = 256;

/// The key at which a stretch of a network begins.
pub(super) fn key_of(network: i64, stretch: i64) -> i64 {
    query::key(network, EntryId(0)) + (stretch << STRETCH)
}

/// The stretch of a key.
pub(super) fn stretch_of(key: i64) -> i64 {
    (key & ((1 << 40) - 1)) >> STRETCH
}

pub(super) fn end_of(
    db: &Connection,
    from: i64,
    to: i64,
    order: &str,
) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached(&format!(
        "SELECT key FROM entry WHERE key BETWEEN ?1 AND ?2 ORDER BY key {order} LIMIT 1"
    ))?
    .query_row([from, to], |row| row.get(0))
    .optional()
}

/// The bytes of a stretch of a network, which are kept if it gets no more lines.
pub(super) fn bytes_of(
    db: &Connection,
    network: i64,
    stretch: i64,
    is_full: bool,
) -> rusqlite::Result<i64> {
    let known = db
        .prepare_cached("SELECT bytes FROM size WHERE network = ?1 AND stretch = ?2")?
        .query_row([network, stretch], |row| row.get(0))
        .optional()?;
    if let Some(bytes) = known {
        return Ok(bytes);
    }
    let range = [key_of(network, stretch), key_of(network, stretch + 1) - 1];
    let bytes = db
        .prepare_cached(&format!(
            "SELECT coalesce(sum({BYTES}), 0) FROM entry WHERE key BETWEEN ?1 AND ?2"
        ))?
        .query_row(range, |row| row.get(0))?;
    if is_full {
        db.prepare_cached("INSERT INTO size (network, stretch, bytes) VALUES (?1, ?2, ?3)")?
            .execute([network, stretch, bytes])?;
    }
    Ok(bytes)
}

/// When the newest line of these logs was stored.
pub(super) fn newest_of(
    db: &Connection,
    logs: &[Arc<LogState>],
) -> rusqlite::Result<Option<Timestamp>> {
    let mut newest = None;
    for log in logs {
        let range = [
            query::key(log.network, EntryId(0)),
            query::key(log.network, EntryId::MAX),
        ];
        let time: Option<i64> = db
            .prepare_cached(
                "SELECT time FROM entry WHERE key BETWEEN ?1 AND ?2 ORDER BY key DESC LIMIT 1",
            )?
            .query_row(range, |row| row.get(0))
            .optional()?;
        newest = newest.max(time.map(Timestamp::from_millis));
    }
    Ok(newest)
}

/// The oldest line of these networks: its key and its network.
pub(super) fn oldest_of(db: &Connection, networks: &[i64]) -> rusqlite::Result<Option<(i64, i64)>> {
    let mut oldest: Option<(i64, i64, i64)> = None;
    for &network in networks {
        let range = [
            query::key(network, EntryId(0)),
            query::key(network, EntryId::MAX),
        ];
        let first: Option<(i64, i64)> = db
            .prepare_cached(
                "SELECT time, key FROM entry WHERE key BETWEEN ?1 AND ?2 ORDER BY key LIMIT 1",
            )?
            .query_row(range, |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((time, key)) = first
            && oldest.is_none_or(|(before, ..)| time < before)
        {
            oldest = Some((time, key, network));
        }
    }
    Ok(oldest.map(|(_, key, network)| (key, network)))
}

/// Forgets lines of a target; whether none is left that is too old. Within a target ids and times have one order.
pub(super) fn forget_before(
    db: &Connection,
    network: i64,
    target: i64,
    before: Timestamp,
    started: Instant,
    swept: &mut Swept,
) -> rusqlite::Result<bool> {
    while started.elapsed() < STEP {
        let rows = db
            .prepare_cached(
                "SELECT key, time FROM entry INDEXED BY entry_target WHERE target = ?1 ORDER BY key LIMIT 64",
            )?
            .query_map([target], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
        if rows.is_empty() {
            db.prepare_cached("DELETE FROM target WHERE id = ?1")?
                .execute([target])?;
            swept.targets = true;
            return Ok(true);
        }
        let old = rows.iter().take_while(|(_, time)| *time < before.millis());
        let keys: Vec<i64> = old.map(|(key, _)| *key).collect();
        swept.lines += forget_keys(db, network, &keys, |_| true)?.lines;
        if keys.len() < rows.len() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn forget_gaps(
    db: &Connection,
    network: i64,
    before: Timestamp,
) -> rusqlite::Result<bool> {
    db.prepare_cached(
        "DELETE FROM gap WHERE network = ?1 AND (until < ?2 OR rowid <=
             (SELECT rowid FROM gap WHERE network = ?1 ORDER BY rowid DESC LIMIT 1 OFFSET ?3))",
    )?
    .execute(params![network, before.millis(), GAPS])
    .map(|_| true)
}

/// A step works so long, and then there is none for a while: lines wait at most this and one commit.
pub(super) const STEP: Duration = Duration::from_millis(8);

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Swept {
    /// Lines that are gone.
    pub(super) lines: u64,
    /// Whether targets are gone, so that their numbers mean nothing any more.
    pub(super) targets: bool,
}

/// What [`forget_keys`] took away.
#[derive(Default)]
pub(super) struct Gone {
    pub(super) lines: u64,
    pub(super) bytes: i64,
}

/// Forgets these lines, in order, for as long as `more` says so of the bytes that are gone.
pub(super) fn forget_keys(
    db: &Connection,
    network: i64,
    keys: &[i64],
    more: impl Fn(i64) -> bool,
) -> rusqlite::Result<Gone> {
    let mut gone = Gone::default();
    let mut last = None;
    for &key in keys {
        if !more(gone.bytes) {
            break;
        }
        let Some(bytes) = erase(db, key)? else {
            continue;
        };
        gone.lines += 1;
        gone.bytes += bytes;
        last = Some(key);
        db.prepare_cached(
            "UPDATE size SET bytes = max(0, bytes - ?3) WHERE network = ?1 AND stretch = ?2",
        )?
        .execute([network, stretch_of(key), bytes])?;
    }
    if let Some(last) = last {
        // Its id must not be given out again, should it have been the newest.
        db.prepare_cached("UPDATE network SET head = ?2 WHERE id = ?1 AND head < ?2")?
            .execute([network, last & ((1 << 40) - 1)])?;
    }
    Ok(gone)
}

/// Takes a line out of the log, with whatever is derived from it; how many bytes it had. The only place where a line is
/// deleted.
pub(super) fn erase(db: &Connection, key: i64) -> rusqlite::Result<Option<i64>> {
    derive::forget(db, key)?;
    db.prepare_cached(&format!(
        "DELETE FROM entry WHERE key = ?1 RETURNING {BYTES}"
    ))?
    .query_row([key], |row| row.get(0))
    .optional()
}

/// Gives a few free pages back; whether there are more to give.
pub(super) fn give_back(db: &Connection) -> rusqlite::Result<bool> {
    let number = |pragma: &str| db.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let (free, all) = (
        number("PRAGMA freelist_count")?,
        number("PRAGMA page_count")?,
    );
    if free <= FREE.max(all / 8) {
        return Ok(false);
    }
    let mut statement = db.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(true)
}
