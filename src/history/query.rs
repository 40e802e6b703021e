//! The questions the store answers, as SQL: lines by id and by target, what a client has missed, what is remembered of a
//! log. Works on any connection; who runs it, and for how long, is `readers`' and `writer`'s. Stored data is not trusted:
//! a damaged row may give nonsense, never a panic.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::ahead::{self, Pace};
use super::entry::{Entry, EntryId, Fact, Ids, Kind, Lost};
use super::past::FIRST_OWN;
use super::{Missed, MissedTarget, Only, Remembered, StoredPosition};
use crate::wire::{CaseMapping, Name, Timestamp};

/// The store's key of an entry.
pub(super) fn key(network: i64, id: EntryId) -> i64 {
    network << 40 | i64::try_from(id.0.min(EntryId::MAX.0)).unwrap_or(0)
}

/// The id within a key.
pub(super) fn id(key: i64) -> EntryId {
    EntryId(u64::try_from(key & ((1 << 40) - 1)).unwrap_or(0))
}

/// The number of the target of that name, folded.
pub(super) fn target(
    db: &Connection,
    network: i64,
    folded: &[u8],
) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM target WHERE network = ?1 AND folded = ?2")?
        .query_row(params![network, folded], |row| row.get(0))
        .optional()
}

/// What [`Page::read`] takes.
pub(super) const COLUMNS: &str = "key, target, time, kind, again, msgid, tags, line";

/// A question about lines of the target `?1`; `end` puts them in the order of keys, which are among `columns`.
pub(super) fn lines(columns: &str, condition: &str, kinds: Only, end: &str) -> String {
    let kinds = match kinds {
        Only::Messages => &[Kind::Message][..],
        Only::All => &Kind::ALL,
    };
    // Without INDEXED BY the planner may prefer to walk all lines of the range, whatever their target.
    let parts: Vec<String> = kinds
        .iter()
        .map(|&kind| {
            format!(
                "SELECT {columns} FROM entry INDEXED BY entry_target
                 WHERE target = ?1 AND kind = {} AND {condition}",
                kind as u8
            )
        })
        .collect();
    // Each part has that order, so that they are merged, not sorted.
    format!("{} {end}", parts.join(" UNION ALL "))
}

/// Lines of one target, in order.
pub(super) fn by_target(
    db: &Connection,
    network: i64,
    name: &Name,
    range: Ids,
    kinds: Only,
    limit: usize,
) -> rusqlite::Result<Vec<Entry>> {
    let folded: Vec<u8> = name.folded().collect();
    let Some(target) = target(db, network, &folded)? else {
        return Ok(Vec::new());
    };
    let mut statement = db.prepare_cached(&lines(
        COLUMNS,
        "key BETWEEN ?2 AND ?3",
        kinds,
        "ORDER BY key LIMIT ?4",
    ))?;
    let mut rows = statement.query(params![
        target,
        key(network, range.first),
        key(network, range.last),
        count(limit)
    ])?;
    let (mut page, mut pace) = (Page::default(), Pace::begin());
    while let Some(row) = rows.next()? {
        page.read(row)?;
        if pace.is_slow() {
            let rest = (page.last_key(network) + 1, key(network, range.last));
            ahead::fetch(db, || keys(db, target, rest, kinds, limit))?;
        }
    }
    Ok(page.entries(|_| name.clone()))
}

/// The first `limit` keys of lines of a target in a range, from the index alone.
pub(super) fn keys(
    db: &Connection,
    target: i64,
    range: (i64, i64),
    kinds: Only,
    limit: usize,
) -> rusqlite::Result<Vec<i64>> {
    let mut statement = db.prepare_cached(&lines(
        "key",
        "key BETWEEN ?2 AND ?3",
        kinds,
        "ORDER BY key LIMIT ?4",
    ))?;
    statement
        .query_map(params![target, range.0, range.1, count(limit)], |row| {
            row.get(0)
        })?
        .collect()
}

/// Lines of all targets, in order; of a line that is filed under several, the first.
pub(super) fn by_id(
    db: &Connection,
    network: i64,
    range: Ids,
    limit: usize,
    mapping: CaseMapping,
) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM entry WHERE key BETWEEN ?1 AND ?2 AND again = 0 ORDER BY key LIMIT ?3"
    ))?;
    let mut rows = statement.query(params![
        key(network, range.first),
        key(network, range.last),
        count(limit)
    ])?;
    let mut page = Page::default();
    while let Some(row) = rows.next()? {
        page.read(row)?;
    }
    page.named(db, mapping)
}

/// The lines with these keys, in that order, as far as they are there.
pub(super) fn by_keys(
    db: &Connection,
    keys: &[i64],
    mapping: CaseMapping,
) -> rusqlite::Result<Vec<Entry>> {
    let mut statement =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM entry WHERE key = ?1"))?;
    let mut page = Page::default();
    for key in keys {
        let mut rows = statement.query([key])?;
        if let Some(row) = rows.next()? {
            page.read(row)?;
        }
    }
    page.named(db, mapping)
}

/// Names of targets by number, as they come up.
pub(super) struct Names<'a> {
    name_of: CachedStatement<'a>,
    known: HashMap<i64, Name>,
    mapping: CaseMapping,
}

impl<'a> Names<'a> {
    pub(super) fn new(db: &'a Connection, mapping: CaseMapping) -> rusqlite::Result<Self> {
        Ok(Self {
            name_of: db.prepare_cached("SELECT name FROM target WHERE id = ?1")?,
            known: HashMap::new(),
            mapping,
        })
    }

    pub(super) fn of(&mut self, target: i64) -> rusqlite::Result<Name> {
        if let Some(name) = self.known.get(&target) {
            return Ok(name.clone());
        }
        let mapping = self.mapping;
        let name = self
            .name_of
            .query_row([target], |row| {
                Ok(Name::new(bytes(row.get_ref(0)?), mapping))
            })
            .optional()?
            .unwrap_or_else(|| Name::new(b"*", mapping));
        self.known.insert(target, name.clone());
        Ok(name)
    }
}

/// Rows as they are read: the bytes of all of them lie in one block, which the entries then share.
#[derive(Default)]
pub(super) struct Page {
    block: Vec<u8>,
    rows: Vec<Found>,
}

struct Found {
    id: EntryId,
    target: i64,
    time: Timestamp,
    kind: Kind,
    again: bool,
    msgid: Option<Range<usize>>,
    tags: Range<usize>,
    line: Range<usize>,
}

impl Page {
    /// Takes a row of [`COLUMNS`]; its target.
    pub(super) fn read(&mut self, row: &Row<'_>) -> rusqlite::Result<i64> {
        let target = integer(row.get_ref(1)?);
        let msgid = match row.get_ref(5)? {
            ValueRef::Null => None,
            value => Some(self.keep(value)),
        };
        let found = Found {
            id: id(integer(row.get_ref(0)?)),
            target,
            time: Timestamp::from_millis(integer(row.get_ref(2)?)),
            kind: Kind::stored(integer(row.get_ref(3)?)),
            again: integer(row.get_ref(4)?) != 0,
            msgid,
            tags: self.keep(row.get_ref(6)?),
            line: self.keep(row.get_ref(7)?),
        };
        self.rows.push(found);
        Ok(target)
    }

    /// The key of the row that was taken last.
    fn last_key(&self, network: i64) -> i64 {
        self.rows.last().map_or(0, |row| key(network, row.id))
    }

    fn keep(&mut self, value: ValueRef<'_>) -> Range<usize> {
        let start = self.block.len();
        self.block.extend_from_slice(bytes(value));
        start..self.block.len()
    }

    /// The entries, their targets looked up.
    fn named(self, db: &Connection, mapping: CaseMapping) -> rusqlite::Result<Vec<Entry>> {
        let mut names = Names::new(db, mapping)?;
        let found: Vec<Name> = self
            .rows
            .iter()
            .map(|row| names.of(row.target))
            .collect::<rusqlite::Result<_>>()?;
        let mut found = found.into_iter();
        Ok(self.entries(|_| found.next().unwrap_or_else(|| Name::new(b"*", mapping))))
    }

    pub(super) fn entries(self, mut name: impl FnMut(i64) -> Name) -> Vec<Entry> {
        let block = Bytes::from(self.block);
        let entry = |row: Found| Entry {
            id: row.id,
            target: name(row.target),
            time: row.time,
            msgid: row.msgid.map(|range| block.slice(range)),
            kind: row.kind,
            again: row.again,
            tags: block.slice(row.tags),
            line: block.slice(row.line),
        };
        self.rows.into_iter().map(entry).collect()
    }
}

/// The targets in which there are lines above `after` and up to `through`.
pub(super) fn missed(
    db: &Connection,
    network: i64,
    ask: &Missed,
) -> rusqlite::Result<Vec<MissedTarget>> {
    // One snapshot for all targets.
    let db = db.unchecked_transaction()?;
    let mut targets =
        db.prepare_cached("SELECT id, folded, name FROM target WHERE network = ?1")?;
    let mut rows = targets.query([network])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let folded = bytes(row.get_ref(1)?);
        let own = ask.overrides.iter().find(|(target, ..)| target == folded);
        let (newest, kinds) = own.map_or((ask.newest, ask.kinds), |&(_, newest, kinds)| {
            (newest, kinds)
        });
        let target = row.get(0)?;
        let Some((last, time)) = newest_line(&db, network, target, kinds, ask)? else {
            continue;
        };
        let nth = match newest {
            0 => EntryId(0),
            newest => before_newest(&db, network, target, kinds, last, newest)?,
        };
        found.push(MissedTarget {
            target: Bytes::copy_from_slice(bytes(row.get_ref(2)?)),
            last,
            nth,
            time,
        });
    }
    Ok(found)
}

/// The newest line of these kinds, if it lies in `ask`'s range.
fn newest_line(
    db: &Connection,
    network: i64,
    target: i64,
    kinds: Only,
    ask: &Missed,
) -> rusqlite::Result<Option<(EntryId, Timestamp)>> {
    db.prepare_cached(&lines(
        "key, time",
        "key > ?2 AND key <= ?3",
        kinds,
        "ORDER BY key DESC LIMIT 1",
    ))?
    .query_row(
        params![target, key(network, ask.after), key(network, ask.through)],
        |row| {
            Ok((
                id(row.get(0)?),
                Timestamp::from_millis(integer(row.get_ref(1)?)),
            ))
        },
    )
    .optional()
}

/// The id before the `newest`-th line up to `last`; 0 when there are not more lines than that.
fn before_newest(
    db: &Connection,
    network: i64,
    target: i64,
    kinds: Only,
    last: EntryId,
    newest: u64,
) -> rusqlite::Result<EntryId> {
    let mut statement = db.prepare_cached(&lines(
        "key",
        "key <= ?2",
        kinds,
        "ORDER BY key DESC LIMIT 2 OFFSET ?3",
    ))?;
    let skipped = i64::try_from(newest - 1).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![target, key(network, last), skipped])?;
    let Some(nth) = rows.next()?.map(|row| row.get(0)).transpose()? else {
        return Ok(EntryId(0));
    };
    let more = rows.next()?.is_some();
    Ok(if more { id(nth).before() } else { EntryId(0) })
}

/// What is remembered of a log.
pub(super) fn remembered(db: &Connection, network: i64) -> rusqlite::Result<Remembered> {
    let positions = positions(db, network)?;
    let floors = floors(db, network)?;
    let given: i64 = db
        .prepare_cached("SELECT head FROM network WHERE id = ?1")?
        .query_row([network], |row| row.get(0))?;
    let newest_key: Option<i64> = db
        .prepare_cached(
            "SELECT key FROM entry WHERE key BETWEEN ?1 AND ?2 ORDER BY key DESC LIMIT 1",
        )?
        .query_row(
            params![key(network, EntryId(0)), key(network, EntryId::MAX)],
            |row| row.get(0),
        )
        .optional()?;
    let newest = newest_time(db, network)?;
    let ids = positions
        .iter()
        .map(|position| position.id)
        .chain(floors.iter().map(|&(_, id)| id));
    let head = ids
        .chain([id(given), newest_key.map_or(EntryId(0), id)])
        .max()
        .unwrap_or_default();
    Ok(Remembered {
        head,
        newest: newest.map_or_else(Timestamp::default, Timestamp::from_millis),
        positions,
        floors,
        facts: facts(db, network)?,
        gaps: gaps(db, network)?,
    })
}

/// When the newest line of any target happened.
fn newest_time(db: &Connection, network: i64) -> rusqlite::Result<Option<i64>> {
    let of_kind = |kind: Kind| {
        db.prepare_cached(
            "SELECT max((SELECT time FROM entry INDEXED BY entry_target
                         WHERE entry.target = target.id AND kind = ?2 ORDER BY key DESC LIMIT 1))
             FROM target WHERE network = ?1",
        )?
        .query_row(params![network, kind as u8], |row| {
            row.get::<_, Option<i64>>(0)
        })
    };
    Ok(of_kind(Kind::Message)?.max(of_kind(Kind::Event)?))
}

fn positions(db: &Connection, network: i64) -> rusqlite::Result<Vec<StoredPosition>> {
    db.prepare_cached("SELECT client, target, id, time FROM position WHERE network = ?1")?
        .query_map([network], |row| {
            let target = bytes(row.get_ref(1)?);
            Ok(StoredPosition {
                client: row.get(0)?,
                target: (!target.is_empty()).then(|| Bytes::copy_from_slice(target)),
                id: id(row.get(2)?),
                time: Timestamp::from_millis(row.get(3)?),
            })
        })?
        .collect()
}

fn floors(db: &Connection, network: i64) -> rusqlite::Result<Vec<(Bytes, EntryId)>> {
    db.prepare_cached("SELECT target, id FROM floor WHERE network = ?1")?
        .query_map([network], |row| {
            Ok((
                Bytes::copy_from_slice(bytes(row.get_ref(0)?)),
                id(row.get(1)?),
            ))
        })?
        .collect()
}

fn facts(db: &Connection, network: i64) -> rusqlite::Result<Vec<(Fact, Bytes, Bytes)>> {
    let mut statement =
        db.prepare_cached("SELECT fact, name, value FROM fact WHERE network = ?1")?;
    let mut rows = statement.query([network])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if let Some(fact) = Fact::stored(row.get(0)?) {
            let value = |column| {
                Ok::<_, rusqlite::Error>(Bytes::copy_from_slice(bytes(row.get_ref(column)?)))
            };
            found.push((fact, value(1)?, value(2)?));
        }
    }
    Ok(found)
}

fn gaps(db: &Connection, network: i64) -> rusqlite::Result<Vec<Lost>> {
    db.prepare_cached("SELECT count, last, since, until FROM gap WHERE network = ?1 ORDER BY last")?
        .query_map([network], |row| {
            Ok(Lost {
                count: integer(row.get_ref(0)?).unsigned_abs(),
                last: id(row.get(1)?),
                since: Timestamp::from_millis(row.get(2)?),
                until: Timestamp::from_millis(row.get(3)?),
            })
        })?
        .collect()
}

/// How names of a network compare, as far as a server said.
pub(super) fn mapping(db: &Connection, network: i64) -> rusqlite::Result<Option<CaseMapping>> {
    let stored: Option<Vec<u8>> = db
        .prepare_cached("SELECT value FROM fact WHERE network = ?1 AND fact = ?2")?
        .query_row(params![network, Fact::CaseMapping as u8], |row| row.get(0))
        .optional()?;
    Ok(stored.and_then(|text| serde_json::from_slice(&text).ok()))
}

/// Stores the hash of a user's password.
pub(super) fn set_password(db: &Connection, user: &str, hash: &str) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO password (user, hash) VALUES (?1, ?2) ON CONFLICT (user) DO UPDATE SET hash = excluded.hash",
    )?
    .execute([user, hash])
    .map(drop)
}

/// Makes a network that is not there, with room for the past below its own ids.
pub(super) fn begin(db: &Connection, user: &str, name: &str) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO network (user, name, head) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?
    .execute(params![user, name, key(0, EntryId(FIRST_OWN - 1))])
    .map(drop)
}

/// The number of a network, which is made when it is not there.
pub(super) fn network(db: &Connection, user: &str, name: &str) -> rusqlite::Result<i64> {
    let known = db
        .prepare_cached("SELECT id FROM network WHERE user = ?1 AND name = ?2")?
        .query_row([user, name], |row| row.get(0))
        .optional()?;
    match known {
        Some(network) => Ok(network),
        None => db
            .prepare_cached("INSERT INTO network (user, name) VALUES (?1, ?2) RETURNING id")?
            .query_row([user, name], |row| row.get(0)),
    }
}

/// Whatever stands in a column, as bytes.
pub(super) fn bytes(value: ValueRef<'_>) -> &[u8] {
    match value {
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => bytes,
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => &[],
    }
}

/// The number that stands in a column.
pub(super) fn integer(value: ValueRef<'_>) -> i64 {
    match value {
        ValueRef::Integer(number) => number,
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Text(_) | ValueRef::Blob(_) => 0,
    }
}

/// A limit, as SQL takes it.
pub(super) fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
