//! Lines by what they say, who said it, and by msgid. What `derive` has noted leads to lines that may be meant; each is
//! looked at before it is given, and those of which nothing is noted yet are all looked at. So both parts answer alike.

use bytes::Bytes;
use rusqlite::{Connection, params};

use super::ahead::{self, Pace};
use super::derive::{self, Part, Terms};
use super::entry::{Entry, Kind};
use super::query::{self, COLUMNS, Names, Page, bytes, integer};
use super::words::{Wanted, whole_text};
use super::{Only, select};
use crate::wire::{CaseMapping, Line, Name, Timestamp};

/// Lines that are noted under what is looked for are looked at in groups of so many.
const TOGETHER: usize = 64;

/// A page for a client may look through so many lines of which nothing is noted.
const NEAR: usize = 20_000;

/// A search in the messages of a network. What is left out does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Search {
    /// What they say: words, `"words in a row"`, and `beginnings*`, all of which must be there.
    pub words: String,
    /// The buffer, in any spelling.
    pub target: Option<Bytes>,
    /// The nick of who said it, in any spelling.
    pub from: Option<Bytes>,
    /// Later than this.
    pub after: Option<Timestamp>,
    /// Earlier than this.
    pub before: Option<Timestamp>,
    /// The newest so many of them.
    pub limit: usize,
}

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Not through more lines than a page for a client may take.
    Near,
    /// As far as it takes.
    Far,
}

/// Where a msgid is.
pub(super) enum Found {
    Key(i64),
    Nowhere,
    /// There is more to look through than was allowed.
    TooFar,
}

/// The first line with that msgid, in one target or in all.
pub(super) fn find_msgid(
    db: &Connection,
    network: i64,
    target: Option<i64>,
    msgid: &[u8],
    reach: Reach,
) -> rusqlite::Result<Found> {
    if msgid.is_empty() {
        return Ok(Found::Nowhere);
    }
    let is_it = |line: &rusqlite::Row<'_>| -> rusqlite::Result<bool> {
        let in_target = target.is_none_or(|target| integer_of(line, 0) == target);
        Ok(in_target && bytes(line.get_ref(1)?) == msgid)
    };
    let mut noted =
        db.prepare_cached("SELECT rowid FROM term WHERE term MATCH ?1 ORDER BY rowid")?;
    let mut look = db.prepare_cached("SELECT target, msgid FROM entry WHERE key = ?1")?;
    let mut rest = db.prepare_cached(
        "SELECT target, msgid, key FROM entry WHERE key > ?1 AND key < ?2 ORDER BY key",
    )?;
    let mut looked = 0;
    for part in Part::of(network) {
        let through = part.through(db)?;
        if through >= part.first {
            let mut term = String::new();
            Terms::new(&part).msgid(msgid, &mut term);
            let mut rows = noted.query([quoted(&term, "")])?;
            while let Some(row) = rows.next()? {
                let key = part.key(integer_of(row, 0));
                let mut lines = look.query([key])?;
                if let Some(line) = lines.next()?
                    && is_it(line)?
                {
                    return Ok(Found::Key(key));
                }
            }
        }
        let mut lines = rest.query([through, part.end])?;
        while let Some(line) = lines.next()? {
            if is_it(line)? {
                return Ok(Found::Key(integer_of(line, 2)));
            }
            looked += 1;
            if looked > NEAR && reach == Reach::Near {
                return Ok(Found::TooFar);
            }
        }
    }
    Ok(Found::Nowhere)
}

fn integer_of(row: &rusqlite::Row<'_>, column: usize) -> i64 {
    row.get_ref(column).map_or(0, integer)
}

/// A term as a query says it, with what follows it there.
fn quoted(term: &str, suffix: &str) -> String {
    format!("\"{}\"{suffix}", term.trim_end())
}

/// The line with that msgid.
pub(super) fn by_msgid(
    db: &Connection,
    network: i64,
    msgid: &[u8],
    mapping: CaseMapping,
    reach: Reach,
) -> rusqlite::Result<Option<Option<Entry>>> {
    let db = &*db.unchecked_transaction()?;
    match find_msgid(db, network, None, msgid, reach)? {
        Found::Key(key) => Ok(Some(query::by_keys(db, &[key], mapping)?.pop())),
        Found::Nowhere => Ok(Some(None)),
        Found::TooFar => Ok(None),
    }
}

/// The newest messages that are meant, in order.
pub(super) fn search(
    db: &Connection,
    network: i64,
    search: &Search,
    mapping: CaseMapping,
) -> rusqlite::Result<Vec<Entry>> {
    // One snapshot for all parts.
    let db = &*db.unchecked_transaction()?;
    let target = match &search.target {
        None => None,
        Some(name) => {
            let folded: Vec<u8> = Name::new(name, mapping).folded().collect();
            let Some(target) = query::target(db, network, &folded)? else {
                return Ok(Vec::new());
            };
            Some(target)
        }
    };
    let mut hunt = Hunt {
        db,
        search,
        target,
        wanted: Wanted::parse(&search.words),
        from: search.from.as_ref().map(|nick| Name::new(nick, mapping)),
        names: Names::new(db, mapping)?,
        found: Vec::new(),
    };
    for part in Part::of(network).iter().rev() {
        let through = part.through(db)?;
        let (first, last) = hunt.range(part)?;
        hunt.walk(first.max(through + 1), last)?;
        // Of lines that are noted it is known when a part of the log was over.
        let last = match search.before {
            Some(before) => last.min(part.last_before(db, before)?),
            None => last.min(through),
        };
        match hunt.terms(part)? {
            // Nothing to look up: whatever is there is likely to be meant.
            None => hunt.walk(first, last)?,
            Some(terms) => hunt.look_up(part, &terms, first, last)?,
        }
    }
    let mut found = hunt.found;
    found.reverse();
    Ok(found)
}

/// A search on its way back in time.
struct Hunt<'a> {
    db: &'a Connection,
    search: &'a Search,
    target: Option<i64>,
    wanted: Wanted,
    from: Option<Name>,
    names: Names<'a>,
    /// The newest first.
    found: Vec<Entry>,
}

impl Hunt<'_> {
    /// Keys of a part outside of which no line has the right time.
    fn range(&self, part: &Part) -> rusqlite::Result<(i64, i64)> {
        let (mut first, mut last) = (part.first, part.end - 1);
        if let Some(target) = self.target {
            let since = |time| {
                select::first_since(
                    self.db,
                    target,
                    Only::Messages,
                    time,
                    (part.first, part.end),
                )
            };
            if let Some(before) = self.search.before {
                last = since(before.millis())? - 1;
            }
            if let Some(after) = self.search.after {
                first = since(after.millis().saturating_add(1))?;
            }
            return Ok((first, last));
        }
        if let Some(after) = self.search.after {
            first = part.first_after(self.db, after)?;
        }
        Ok((first, last))
    }

    /// What all lines that are meant are noted under.
    fn terms(&self, part: &Part) -> rusqlite::Result<Option<String>> {
        let terms = Terms::new(part);
        let mut all: Vec<String> = Vec::new();
        let mut add = |suffix: &str, write: &dyn Fn(&mut String)| {
            let mut term = String::new();
            write(&mut term);
            all.push(quoted(&term, suffix));
        };
        if let Some(from) = &self.from {
            add("", &|term| terms.sender(from.as_bytes(), term));
        }
        for phrase in &self.wanted.phrases {
            let last = phrase.words.len() - 1;
            for (n, word) in phrase.words.iter().enumerate() {
                let suffix = if phrase.open && n == last { "*" } else { "" };
                add(suffix, &|term| terms.word(word, term));
            }
        }
        all.sort_unstable();
        all.dedup();
        if let Some(target) = self.target {
            let mut names = derive::formerly(self.db, target)?;
            names.push(target);
            let names = names.iter().map(|&name| {
                let mut term = String::new();
                terms.target(name, &mut term);
                quoted(&term, "")
            });
            all.push(format!("({})", names.collect::<Vec<_>>().join(" OR ")));
        }
        Ok((!all.is_empty()).then(|| all.join(" AND ")))
    }

    fn is_done(&self) -> bool {
        self.found.len() >= self.search.limit
    }

    /// Looks at each line.
    fn walk(&mut self, first: i64, last: i64) -> rusqlite::Result<()> {
        if first > last || self.is_done() {
            return Ok(());
        }
        let order = "ORDER BY key DESC";
        let mut statement = match self.target {
            Some(_) => self.db.prepare_cached(&query::lines(
                COLUMNS,
                "key BETWEEN ?2 AND ?3",
                Only::Messages,
                order,
            ))?,
            None => self.db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM entry WHERE ?1 IS NULL AND key BETWEEN ?2 AND ?3 {order}"
            ))?,
        };
        let mut rows = statement.query(params![self.target, first, last])?;
        while !self.is_done()
            && let Some(row) = rows.next()?
        {
            self.look_at(row)?;
        }
        Ok(())
    }

    /// Looks at the lines that are noted under all these terms.
    fn look_up(&mut self, part: &Part, terms: &str, first: i64, last: i64) -> rusqlite::Result<()> {
        if first > last || self.is_done() {
            return Ok(());
        }
        let mut noted = self.db.prepare_cached(
            "SELECT rowid FROM term WHERE term MATCH ?1 AND rowid BETWEEN ?2 AND ?3 ORDER BY rowid DESC",
        )?;
        let mut rows = noted.query(params![terms, part.row(first), part.row(last)])?;
        let mut line = self
            .db
            .prepare_cached(&format!("SELECT {COLUMNS} FROM entry WHERE key = ?1"))?;
        let mut keys: Vec<i64> = Vec::with_capacity(TOGETHER);
        loop {
            keys.clear();
            while keys.len() < TOGETHER
                && let Some(row) = rows.next()?
            {
                keys.push(part.key(integer_of(row, 0)));
            }
            let mut pace = Pace::begin();
            for (n, key) in keys.iter().enumerate() {
                if self.is_done() {
                    return Ok(());
                }
                let mut lines = line.query([key])?;
                if let Some(row) = lines.next()? {
                    self.look_at(row)?;
                }
                if pace.is_slow() {
                    let rest = keys[n + 1..].iter().rev().copied();
                    ahead::fetch(self.db, || Ok(rest.collect()))?;
                }
            }
            if keys.len() < TOGETHER {
                return Ok(());
            }
        }
    }

    /// Takes a line if it is meant.
    fn look_at(&mut self, row: &rusqlite::Row<'_>) -> rusqlite::Result<()> {
        let mut page = Page::default();
        let target = page.read(row)?;
        if self.target.is_some_and(|wanted| wanted != target) {
            return Ok(());
        }
        let name = self.names.of(target)?;
        let found = page.entries(|_| name.clone());
        self.found.extend(
            found
                .into_iter()
                .filter(|entry| is_meant(self.search, &self.wanted, self.from.as_ref(), entry)),
        );
        Ok(())
    }
}

/// Whether a line is meant, its target apart. A line that is filed under several targets comes once, or for the target that
/// is asked for.
fn is_meant(search: &Search, wanted: &Wanted, from: Option<&Name>, entry: &Entry) -> bool {
    let in_time = search.after.is_none_or(|after| entry.time > after)
        && search.before.is_none_or(|before| entry.time < before);
    let once = search.target.is_some() || !entry.again;
    if entry.kind != Kind::Message || !in_time || !once {
        return false;
    }
    let Ok(line) = Line::parse(&entry.line) else {
        return false;
    };
    from.is_none_or(|from| from.is(line.nick()))
        && whole_text(&line, &entry.tags).is_some_and(|text| wanted.is_in(&text))
}
