//! What is noted about lines some time after they were stored, so that they are found by msgid, by what they say and by
//! who said it: a posting list for each term, and a few figures about each stretch of a log. All of it follows from the
//! lines, and is made anew when it is damaged. When it is made is `deriving`'s, how it is used `search`'s.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::Size;
use super::entry::{EntryId, Kind};
use super::past::FIRST_OWN;
use super::query::{self, bytes, id, integer, key};
use super::words::{each_word, whole_text};
use crate::wire::{CaseMapping, Line, Timestamp};

/// Schema version 2, in order.
pub(super) const VERSION_2: [&str; 2] = [LINES, NOTES];

/// Lines that are messages lie apart from the others in the index, so that a page of messages costs the same however many
/// people come and go in between.
const LINES: &str = "
    DROP INDEX entry_target;
    CREATE INDEX entry_target ON entry (target, kind);
";

/// The rows of `term` count the entries of each [`Part`] of a log. Which one is in the terms, so that each has lists of
/// its own, and no search reads another network's. It keeps no texts and no positions, so an entry that goes must take back
/// exactly the terms it brought. `stretch` counts the lines that lie after the stretch before it, up to the key `last`, none
/// of which is earlier than `oldest` or later than `newest`; the last one of a part tells how far its lines are noted. `moved` has targets that went
/// by another name.
const NOTES: &str = "
    CREATE VIRTUAL TABLE term USING fts5 (
        terms, content = '', columnsize = 0, detail = none, tokenize = \"ascii tokenchars ':#@!'\"
    );
    CREATE TABLE stretch (
        last INTEGER PRIMARY KEY, entries INTEGER NOT NULL, bytes INTEGER NOT NULL, oldest INTEGER NOT NULL, newest INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE moved (old INTEGER NOT NULL, target INTEGER NOT NULL, PRIMARY KEY (target, old)) STRICT, WITHOUT ROWID;
";

/// Version 3: what was noted before knows the first lines of messages alone, and could not be taken back any more. It is noted
/// again.
pub(super) fn to_3(db: &Connection) -> rusqlite::Result<()> {
    start_again(db)
}

/// What `term` consists of.
const PARTS: [&str; 3] = ["term_data", "term_idx", "term_config"];

/// Whether a table may be missing or damaged, because it is made again.
pub(super) fn is_part(table: &str) -> bool {
    matches!(table, "term" | "stretch" | "moved") || PARTS.contains(&table)
}

/// The bytes of a row's texts; and what it takes beside them, its part of the index and of `term` included.
const TEXTS: &str = "length(line) + length(tags) + coalesce(length(msgid), 0)";
const AROUND: i64 = 90;

/// A word is found by its first so many bytes.
const WORD: usize = 40;

/// What is noted by itself, in order: the lines of before that were brought into a network's log, or its own. Both only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    network: i64,
    past: bool,
    /// Its keys, the second one excluded.
    pub(super) first: i64,
    pub(super) end: i64,
}

impl Part {
    /// The parts of a network, the earlier one first.
    pub(super) fn of(network: i64) -> [Self; 2] {
        let ((first, end), own) = (keys(network), key(network, EntryId(FIRST_OWN)));
        let part = |past, first, end| Self {
            network,
            past,
            first,
            end,
        };
        [part(true, first, own), part(false, own, end)]
    }

    /// The part of a key.
    fn around(key: i64) -> Self {
        let [past, own] = Self::of(key >> 40);
        if key < past.end { past } else { own }
    }

    /// The row of `term` for one of its keys.
    pub(super) const fn row(&self, key: i64) -> i64 {
        key - self.first
    }

    /// The key that a row of `term` stands for.
    pub(super) const fn key(&self, row: i64) -> i64 {
        self.first.saturating_add(row)
    }

    /// The last key that is noted; below all others when none is.
    pub(super) fn through(&self, db: &Connection) -> rusqlite::Result<i64> {
        let last = db
            .prepare_cached(
                "SELECT last FROM stretch WHERE last >= ?1 AND last < ?2 ORDER BY last DESC LIMIT 1",
            )?
            .query_row([self.first, self.end], |row| row.get(0))
            .optional()?;
        Ok(last.unwrap_or(self.first - 1))
    }

    /// How many lines are not noted; at most `most`.
    pub(super) fn behind(&self, db: &Connection, most: usize) -> rusqlite::Result<usize> {
        db.prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM entry WHERE key > ?1 AND key < ?2 LIMIT ?3)",
        )?
        .query_row(
            params![self.through(db)?, self.end, query::count(most)],
            |row| Ok(usize::try_from(integer(row.get_ref(0)?)).unwrap_or(0)),
        )
    }

    /// A key below which no line is later than that.
    pub(super) fn first_after(&self, db: &Connection, time: Timestamp) -> rusqlite::Result<i64> {
        let found: Option<i64> = db
            .prepare_cached(
                "SELECT last FROM stretch WHERE last >= ?1 AND last < ?2 AND newest > ?3 ORDER BY last LIMIT 1",
            )?
            .query_row(params![self.first, self.end, time.millis()], |row| row.get(0))
            .optional()?;
        let before: Option<i64> = db
            .prepare_cached("SELECT max(last) FROM stretch WHERE last >= ?1 AND last < ?2")?
            .query_row([self.first, found.unwrap_or(self.end)], |row| row.get(0))?;
        Ok(before.map_or(self.first, |last| last + 1))
    }

    /// A key above which no line that is noted is earlier than that.
    pub(super) fn last_before(&self, db: &Connection, time: Timestamp) -> rusqlite::Result<i64> {
        let found = db
            .prepare_cached(
                "SELECT last FROM stretch WHERE last >= ?1 AND last < ?2 AND oldest < ?3
                 ORDER BY last DESC LIMIT 1",
            )?
            .query_row(params![self.first, self.end, time.millis()], |row| {
                row.get(0)
            })
            .optional()?;
        Ok(found.unwrap_or(self.first - 1))
    }
}

/// The keys of a network, the second one excluded.
pub(super) fn keys(network: i64) -> (i64, i64) {
    (key(network, EntryId(0)), key(network, EntryId::MAX) + 1)
}

/// The keys, the second one excluded, of the stretch in `within` that has the first line of that time or later, if times
/// grow from stretch to stretch; else what comes after all stretches.
pub(super) fn around(
    db: &Connection,
    time: i64,
    within: (i64, i64),
) -> rusqlite::Result<(i64, i64)> {
    let one = |order: &str, from: i64, to: i64| -> rusqlite::Result<Option<(i64, i64)>> {
        db.prepare_cached(&format!(
            "SELECT last, newest FROM stretch WHERE last >= ?1 AND last < ?2 ORDER BY last {order} LIMIT 1"
        ))?
        .query_row([from, to], |row| row.try_into())
        .optional()
    };
    let ends = (
        one("ASC", within.0, within.1)?,
        one("DESC", within.0, within.1)?,
    );
    let (mut earlier, mut found) = match ends {
        (Some(first), Some(_)) if first.1 >= time => return Ok((within.0, first.0 + 1)),
        (Some(first), Some(last)) if last.1 >= time => (first, last),
        (_, last) => return Ok((last.map_or(within.0, |last| last.0 + 1), within.1)),
    };
    // It comes after `earlier`; it is `found`, or comes before that.
    let mut guess = true;
    while earlier.0 + 1 < found.0 {
        // Lines come at one pace, nearly; every other time in the middle, because they do not.
        let middle = if guess {
            proportional(earlier, found, time).clamp(earlier.0 + 1, found.0 - 1)
        } else {
            earlier.0 + (found.0 - earlier.0) / 2
        };
        guess = !guess;
        match one("ASC", middle, found.0)? {
            Some(stretch) if stretch.1 < time => earlier = stretch,
            Some(stretch) => found = stretch,
            None => match one("DESC", earlier.0 + 1, middle)? {
                Some(stretch) if stretch.1 < time => earlier = stretch,
                Some(stretch) => found = stretch,
                None => break,
            },
        }
    }
    Ok((earlier.0 + 1, found.0 + 1))
}

/// The key that something of that time would have, if from one to the other key and time grew together.
pub(super) fn proportional(low: (i64, i64), high: (i64, i64), time: i64) -> i64 {
    let (keys, span) = (
        i128::from(high.0) - i128::from(low.0),
        i128::from(high.1) - i128::from(low.1),
    );
    let part = i128::from(time) - i128::from(low.1);
    let offset = if span > 0 { keys * part / span } else { 0 };
    i64::try_from(i128::from(low.0) + offset).unwrap_or(low.0)
}

/// How many lines of a network are not noted; at most about `most`.
pub(super) fn behind(db: &Connection, network: i64, most: usize) -> rusqlite::Result<usize> {
    let [past, own] = Part::of(network);
    Ok(past.behind(db, most)? + own.behind(db, most)?)
}

/// How much a log holds: what is known of its stretches, and what a look at the rest of its lines tells.
pub(super) fn size(db: &Connection, network: i64) -> rusqlite::Result<Size> {
    let db = &*db.unchecked_transaction()?;
    let figures = |sql: &str, from: i64, end: i64| {
        db.prepare_cached(sql)?.query_row([from, end], |row| {
            Ok((integer(row.get_ref(0)?), integer(row.get_ref(1)?)))
        })
    };
    let (mut entries, mut bytes, mut noted) = (0, 0, EntryId(0));
    for part in Part::of(network) {
        let through = part.through(db)?;
        let known = figures(
            "SELECT sum(entries), sum(bytes) FROM stretch WHERE last >= ?1 AND last < ?2",
            part.first,
            part.end,
        )?;
        let rest = figures(
            &format!(
                "SELECT count(*), sum({TEXTS} + {AROUND}) FROM entry WHERE key >= ?1 AND key < ?2"
            ),
            through + 1,
            part.end,
        )?;
        entries += known.0 + rest.0;
        bytes += known.1 + rest.1;
        if through >= part.first {
            noted = id(through);
        }
    }
    let (first, end) = keys(network);
    let time_of = |order: &str| {
        db.prepare_cached(&format!(
            "SELECT time FROM entry WHERE key >= ?1 AND key < ?2 ORDER BY key {order} LIMIT 1"
        ))?
        .query_row([first, end], |row| row.get(0))
        .optional()
    };
    Ok(Size {
        entries: entries.unsigned_abs(),
        bytes: bytes.unsigned_abs(),
        oldest: time_of("ASC")?.map(Timestamp::from_millis),
        newest: time_of("DESC")?.map(Timestamp::from_millis),
        noted,
    })
}

/// Figures about the lines of a slice.
#[derive(Default)]
struct Stretch {
    entries: i64,
    bytes: i64,
    oldest: i64,
    newest: i64,
}

impl Stretch {
    fn add(&mut self, row: &Noted<'_>) {
        if self.entries == 0 {
            (self.oldest, self.newest) = (row.time, row.time);
        }
        self.entries += 1;
        self.bytes += row.bytes + AROUND;
        self.oldest = self.oldest.min(row.time);
        self.newest = self.newest.max(row.time);
    }
}

/// A row, as far as something is noted about it.
struct Noted<'a> {
    key: i64,
    time: i64,
    /// Of its texts.
    bytes: i64,
    target: i64,
    kind: Kind,
    msgid: &'a [u8],
    line: &'a [u8],
    tags: &'a [u8],
}

const NOTED_COLUMNS: &str = "key, time, length(line) + length(tags) + coalesce(length(msgid), 0), target, kind, msgid, line, tags";

impl<'a> Noted<'a> {
    fn read(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let number = |column| Ok::<_, rusqlite::Error>(integer(row.get_ref(column)?));
        Ok(Self {
            key: number(0)?,
            time: number(1)?,
            bytes: number(2)?,
            target: number(3)?,
            kind: Kind::stored(number(4)?),
            msgid: bytes(row.get_ref(5)?),
            line: bytes(row.get_ref(6)?),
            tags: bytes(row.get_ref(7)?),
        })
    }

    /// The terms under which it is found.
    fn terms(&self, terms: &Terms, out: &mut String) {
        out.clear();
        if !self.msgid.is_empty() {
            terms.msgid(self.msgid, out);
        }
        if self.kind != Kind::Message {
            return;
        }
        let Ok(line) = Line::parse(self.line) else {
            return;
        };
        let Some(text) = whole_text(&line, self.tags) else {
            return;
        };
        terms.target(self.target, out);
        terms.sender(line.nick(), out);
        each_word(&text, |word| terms.word(word, out));
    }
}

/// Terms of one part, as they stand in `term`: the network, which part, what it is, and its value.
pub(super) struct Terms {
    /// Before each of them: whose it is.
    head: String,
}

impl Terms {
    pub(super) fn new(part: &Part) -> Self {
        let past = if part.past { "p" } else { "" };
        Self {
            head: format!("{:x}{past}", part.network),
        }
    }

    pub(super) fn word(&self, word: &str, out: &mut String) {
        let mut end = word.len().min(WORD);
        while !word.is_char_boundary(end) {
            end -= 1;
        }
        self.add(out, ':', &word[..end]);
    }

    pub(super) fn target(&self, target: i64, out: &mut String) {
        self.add(out, '#', &format!("{target:x}"));
    }

    /// A nick under the mapping that takes most of them for the same.
    pub(super) fn sender(&self, nick: &[u8], out: &mut String) {
        let folded = nick.iter().map(|&byte| CaseMapping::Rfc1459.fold(byte));
        self.add(out, '@', &short(folded));
    }

    pub(super) fn msgid(&self, msgid: &[u8], out: &mut String) {
        self.add(out, '!', &short(msgid.iter().copied()));
    }

    fn add(&self, out: &mut String, class: char, value: &str) {
        out.push_str(&self.head);
        out.push(class);
        out.push_str(value);
        out.push(' ');
    }
}

/// Forty bits in eight characters. What they lead to is looked at, so that two values may share them.
fn short(value: impl Iterator<Item = u8>) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in value {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..8)
        .map(|n| {
            char::from(b"0123456789abcdefghijklmnopqrstuv"[(hash >> (24 + 5 * n)) as usize % 32])
        })
        .collect()
}

/// Notes the next lines of a network, at most `most` of them, and no more once it has taken `longest`; how many. All or
/// nothing, in a transaction of its own.
pub(super) fn note(
    db: &Connection,
    network: i64,
    most: usize,
    longest: Duration,
) -> rusqlite::Result<usize> {
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let [past, own] = Part::of(network);
    let noted = note_within(db, &own, most, longest)
        .and_then(|noted| match noted {
            0 => note_within(db, &past, most, longest),
            noted => Ok(noted),
        })
        .and_then(|noted| {
            db.prepare_cached("COMMIT")?.execute([])?;
            Ok(noted)
        });
    if noted.is_err() && !db.is_autocommit() {
        drop(db.execute_batch("ROLLBACK"));
    }
    noted
}

fn note_within(
    db: &Connection,
    part: &Part,
    most: usize,
    longest: Duration,
) -> rusqlite::Result<usize> {
    let started = Instant::now();
    let mut statement = db.prepare_cached(&format!(
        "SELECT {NOTED_COLUMNS} FROM entry WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3"
    ))?;
    let mut add = db.prepare_cached("INSERT INTO term (rowid, terms) VALUES (?1, ?2)")?;
    let mut rows = statement.query(params![part.through(db)?, part.end, query::count(most)])?;
    let (mut stretch, mut last, mut text) = (Stretch::default(), None, String::new());
    let terms = Terms::new(part);
    let mut noted = 0;
    while let Some(row) = rows.next()? {
        let row = Noted::read(row)?;
        row.terms(&terms, &mut text);
        if !text.is_empty() {
            add.execute(params![part.row(row.key), text])?;
        }
        stretch.add(&row);
        last = Some(row.key);
        noted += 1;
        if noted % 32 == 0 && started.elapsed() > longest {
            break;
        }
    }
    if let Some(last) = last {
        db.prepare_cached(
            "INSERT INTO stretch (last, entries, bytes, oldest, newest) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            last,
            stretch.entries,
            stretch.bytes,
            stretch.oldest,
            stretch.newest
        ])?;
    }
    Ok(noted)
}

/// Takes back what is noted about a line that is about to be deleted, within the same transaction. Whoever files a line
/// elsewhere does the same, and has it noted again.
pub(super) fn forget(db: &Connection, key: i64) -> rusqlite::Result<()> {
    let part = Part::around(key);
    if key > part.through(db)? {
        return Ok(());
    }
    match take_back(db, &part, key) {
        // Terms that lead to nothing do no harm.
        Err(error) if is_damage(&error) => Ok(()),
        done => done,
    }
}

fn take_back(db: &Connection, part: &Part, key: i64) -> rusqlite::Result<()> {
    let mut statement =
        db.prepare_cached(&format!("SELECT {NOTED_COLUMNS} FROM entry WHERE key = ?1"))?;
    let mut rows = statement.query([key])?;
    let Some(row) = rows.next()? else {
        return Ok(());
    };
    let row = Noted::read(row)?;
    let mut text = String::new();
    row.terms(&Terms::new(part), &mut text);
    if !text.is_empty() {
        db.prepare_cached("INSERT INTO term (term, rowid, terms) VALUES ('delete', ?1, ?2)")?
            .execute(params![part.row(key), text])?;
    }
    // Its times stay: no other line of the stretch is earlier or later.
    let (stretch, left): (i64, i64) = db
        .prepare_cached(
            "UPDATE stretch SET entries = entries - 1, bytes = bytes - ?2
             WHERE last = (SELECT min(last) FROM stretch WHERE last >= ?1) RETURNING last, entries",
        )?
        .query_row([key, row.bytes + AROUND], |row| row.try_into())?;
    // The last one of a part stays: it tells how far lines are noted.
    if left <= 0 && stretch != part.through(db)? {
        db.prepare_cached("DELETE FROM stretch WHERE last = ?1")?
            .execute([stretch])?;
    }
    Ok(())
}

/// All lines of one target are another one's now. Those that are noted are still found under the old one, too.
pub(super) fn moved(db: &Connection, from: i64, to: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE OR REPLACE moved SET target = ?2 WHERE target = ?1")?
        .execute([from, to])?;
    db.prepare_cached("INSERT OR IGNORE INTO moved (old, target) VALUES (?1, ?2)")?
        .execute([from, to])
        .map(drop)
}

/// The targets whose lines may be noted as another one's, which they were once.
pub(super) fn formerly(db: &Connection, target: i64) -> rusqlite::Result<Vec<i64>> {
    db.prepare_cached("SELECT old FROM moved WHERE target = ?1")?
        .query_map([target], |row| row.get(0))?
        .collect()
}

/// Whether an error means that what is noted is of no use. Only for what was done with `term` or `stretch`.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt) => true,
        // A table that is not there, or cannot be opened.
        Some(ErrorCode::Unknown) => true,
        _ => false,
    }
}

/// Whether everything noted can be used, as far as a quick look shows.
pub(super) fn is_sound(db: &Connection) -> bool {
    let looks = [
        "SELECT old, target FROM moved LIMIT 1",
        "SELECT rowid FROM term WHERE term MATCH '\"0!\"'",
        "SELECT last, entries, bytes, oldest, newest FROM stretch LIMIT 1",
        "SELECT id FROM term_data LIMIT 1",
        "SELECT segid FROM term_idx LIMIT 1",
    ];
    looks
        .iter()
        .all(|sql| db.prepare(sql).and_then(|mut look| look.exists([])).is_ok())
}

/// Drops all that is noted; it will be made again, slice by slice.
pub(super) fn start_again(db: &Connection) -> rusqlite::Result<()> {
    let own = db.is_autocommit();
    if own {
        db.execute_batch("BEGIN IMMEDIATE")?;
    }
    let done = drop_all(db).and_then(|()| db.execute_batch(NOTES));
    match (&done, own) {
        (Ok(()), true) => db.execute_batch("COMMIT"),
        (Err(_), true) => {
            drop(db.execute_batch("ROLLBACK"));
            done
        }
        _ => done,
    }
}

fn drop_all(db: &Connection) -> rusqlite::Result<()> {
    if db.execute_batch("DROP TABLE IF EXISTS term").is_err() {
        // A table that cannot be opened cannot be dropped. Its parts can, once it is not known any more.
        db.execute_batch(
            "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'term';
             PRAGMA writable_schema = RESET;",
        )?;
    }
    for part in PARTS {
        db.execute_batch(&format!("DROP TABLE IF EXISTS {part}"))?;
    }
    db.execute_batch("DROP TABLE IF EXISTS stretch; DROP TABLE IF EXISTS moved")
}
