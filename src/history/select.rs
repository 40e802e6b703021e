//! Which lines of a target a question about its history means: where anchors lie, and the window of ids around or between
//! them. Within a target, ids and times have one order, so that times are found by bisection. Lines themselves are read
//! by `query`, page by page; msgids and words are found by `search`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::ahead::{self, Pace};
use super::derive::Part;
use super::entry::Ids;
use super::query::{self, id};
use super::{Only, derive, search};
use crate::wire::Timestamp;

/// A place in the history of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anchor {
    /// A time. Lines that happened just then are neither before nor after it.
    Time(Timestamp),
    /// The line with this id, which belongs to the target that is asked about.
    Msgid(Bytes),
}

/// Which part of a target's history. All bounds are exclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span {
    /// The newest lines, or the newest of those after the anchor.
    Latest(Option<Anchor>),
    /// The newest of the lines before it.
    Before(Anchor),
    /// The oldest of the lines after it.
    After(Anchor),
    /// The lines between the two, counted from the first one, whichever is earlier.
    Between(Anchor, Anchor),
    /// Half of the lines before it, and from its own line on as many as there is room for.
    Around(Anchor),
}

/// A question about the history of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The target, folded.
    pub target: Bytes,
    /// Which part of its lines.
    pub span: Span,
    /// At most so many of them.
    pub limit: usize,
    /// Which lines count.
    pub kinds: Only,
}

/// The answer to a [`Selection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selected {
    /// The lines of that target and those kinds that have these ids: [`Log::by_target`](super::Log::by_target) reads them.
    Window(Ids),
    /// There are none.
    Nothing,
    /// The target has no line with that id.
    UnknownMsgid,
}

/// Finds the window that a selection means.
pub(super) fn select(
    db: &Connection,
    network: i64,
    selection: &Selection,
    reach: search::Reach,
) -> rusqlite::Result<Option<Selected>> {
    // One snapshot for all steps.
    let db = &*db.unchecked_transaction()?;
    let Some(target) = query::target(db, network, &selection.target)? else {
        return Ok(Some(match selection.span.needs_msgid() {
            true => Selected::UnknownMsgid,
            false => Selected::Nothing,
        }));
    };
    let lines = Lines {
        db,
        network,
        target,
        kinds: selection.kinds,
        reach,
        begun: Instant::now(),
    };
    match lines.window(&selection.span, selection.limit) {
        Ok(Some((first, last))) => Ok(Some(Selected::Window(Ids {
            first: id(first),
            last: id(last),
        }))),
        Ok(None) => Ok(Some(Selected::Nothing)),
        Err(Miss::Msgid) => Ok(Some(Selected::UnknownMsgid)),
        Err(Miss::TooFar) => Ok(None),
        Err(Miss::Store(error)) => Err(error),
    }
}

impl Span {
    /// Whether a line has to be found by its id.
    fn needs_msgid(&self) -> bool {
        let by_msgid = |anchor: &Anchor| matches!(anchor, Anchor::Msgid(_));
        match self {
            Self::Latest(anchor) => anchor.as_ref().is_some_and(by_msgid),
            Self::Before(anchor) | Self::After(anchor) | Self::Around(anchor) => by_msgid(anchor),
            Self::Between(from, to) => by_msgid(from) || by_msgid(to),
        }
    }
}

/// Why there is no window.
enum Miss {
    Msgid,
    /// The line would have to be looked for in too many places.
    TooFar,
    Store(rusqlite::Error),
}

impl From<rusqlite::Error> for Miss {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error)
    }
}

/// An anchor, when its line is found.
#[derive(Clone, Copy)]
enum Place {
    /// Milliseconds.
    Time(i64),
    Key(i64),
}

/// The first and the last key of a window.
type Window = Option<(i64, i64)>;

/// The lines of one target that count.
struct Lines<'a> {
    db: &'a Connection,
    network: i64,
    target: i64,
    kinds: Only,
    reach: search::Reach,
    begun: Instant,
}

impl Lines<'_> {
    fn window(&self, span: &Span, limit: usize) -> Result<Window, Miss> {
        let all = derive::keys(self.network);
        Ok(match span {
            Span::Latest(None) => self.newest(all.0, all.1, limit)?,
            Span::Latest(Some(anchor)) => {
                self.newest(self.after(self.place(anchor)?)?, all.1, limit)?
            }
            Span::Before(anchor) => self.newest(all.0, self.before(self.place(anchor)?)?, limit)?,
            Span::After(anchor) => self.oldest(self.after(self.place(anchor)?)?, all.1, limit)?,
            Span::Between(from, to) => {
                let (from, to) = (self.place(from)?, self.place(to)?);
                if self.is_in_order(from, to)? {
                    self.oldest(self.after(from)?, self.before(to)?, limit)?
                } else {
                    self.newest(self.after(to)?, self.before(from)?, limit)?
                }
            }
            Span::Around(anchor) => {
                let middle = self.before(self.place(anchor)?)?;
                let before = self.newest(all.0, middle, limit / 2)?;
                let from = self.oldest(middle, all.1, limit - limit / 2)?;
                match (before, from) {
                    (Some((first, _)), Some((_, last))) => Some((first, last)),
                    (before, from) => before.or(from),
                }
            }
        })
    }

    fn place(&self, anchor: &Anchor) -> Result<Place, Miss> {
        match anchor {
            Anchor::Time(time) => Ok(Place::Time(time.millis())),
            Anchor::Msgid(msgid) => {
                let within = Some(self.target);
                match search::find_msgid(self.db, self.network, within, msgid, self.reach)? {
                    search::Found::Key(key) => Ok(Place::Key(key)),
                    search::Found::Nowhere => Err(Miss::Msgid),
                    search::Found::TooFar => Err(Miss::TooFar),
                }
            }
        }
    }

    fn is_in_order(&self, from: Place, to: Place) -> rusqlite::Result<bool> {
        match (from, to) {
            (Place::Time(from), Place::Time(to)) => Ok(from <= to),
            (from, to) => Ok(self.before(from)? <= self.before(to)?),
        }
    }

    /// Lines before that place have keys below this.
    fn before(&self, place: Place) -> rusqlite::Result<i64> {
        match place {
            Place::Time(time) => self.edge(time),
            Place::Key(key) => Ok(key),
        }
    }

    /// Lines after that place have this key or a higher one.
    fn after(&self, place: Place) -> rusqlite::Result<i64> {
        match place {
            Place::Time(time) => self.edge(time.saturating_add(1)),
            Place::Key(key) => Ok(key + 1),
        }
    }

    /// The first key of a line that happened then or later; the end when there is none.
    fn edge(&self, time: i64) -> rusqlite::Result<i64> {
        let within = derive::keys(self.network);
        first_since(self.db, self.target, self.kinds, time, within)
    }

    /// The oldest `limit` lines with keys in `from..to`.
    fn oldest(&self, from: i64, to: i64, limit: usize) -> rusqlite::Result<Window> {
        self.walk("ASC", from, to, limit)
    }

    /// The newest `limit` lines with keys in `from..to`.
    fn newest(&self, from: i64, to: i64, limit: usize) -> rusqlite::Result<Window> {
        let window = self.walk("DESC", from, to, limit)?;
        Ok(window.map(|(last, first)| (first, last)))
    }

    fn walk(&self, order: &str, from: i64, to: i64, limit: usize) -> rusqlite::Result<Window> {
        if from >= to || limit == 0 {
            return Ok(None);
        }
        let mut statement = self.db.prepare_cached(&query::lines(
            "key",
            "key >= ?2 AND key < ?3",
            self.kinds,
            &format!("ORDER BY key {order} LIMIT ?4"),
        ))?;
        let mut rows = statement.query(params![self.target, from, to, query::count(limit)])?;
        let mut keys: Vec<i64> = Vec::new();
        while let Some(row) = rows.next()? {
            keys.push(row.get(0)?);
        }
        let ends = keys.first().copied().zip(keys.last().copied());
        if self.begun.elapsed() > QUICK {
            // Whatever is not in memory here is not for the lines themselves either, which are asked for next.
            ahead::fetch(self.db, || {
                keys.sort_unstable();
                Ok(keys)
            })?;
        }
        Ok(ends)
    }
}

/// A line's key, and when it happened.
type Moment = (i64, i64);

/// The first key in `within` of a line of that target and those kinds that happened at `time` or later; the end of
/// `within` when there is none.
pub(super) fn first_since(
    db: &Connection,
    target: i64,
    kinds: Only,
    time: i64,
    within: (i64, i64),
) -> rusqlite::Result<i64> {
    // Where it probably is; only probably, because other targets' clocks count there too.
    let around = derive::around(db, time, within)?;
    let keys = query::keys(db, target, (around.0, around.1 - 1), kinds, MANY)?;
    let hunt = Hunt {
        db,
        target,
        kinds,
        time,
    };
    if keys.len() >= MANY {
        return hunt.through(within, around);
    }
    let first = hunt.first_of(&keys)?;
    // What is found in there is found when the line before it is known to be earlier.
    if first == 0
        && let Some(line) = hunt.newest(within.0, around.0)?
        && line.1 >= time
    {
        return hunt.between(within.0, line.0, None, Some(line), within.1);
    }
    if let Some(&key) = keys.get(first) {
        return Ok(key);
    }
    match hunt.next(around.1, within.1)? {
        Some(line) if line.1 < time => {
            hunt.between(line.0 + 1, within.1, Some(line), None, within.1)
        }
        line => Ok(line.map_or(within.1, |line| line.0)),
    }
}

/// So long takes a question of which all is in memory [80 us], and a few times that.
const QUICK: Duration = Duration::from_micros(250);

/// So many lines of a target are too many to be gone through by their keys [in a stretch there are no more than this].
const MANY: usize = if cfg!(test) { 8 } else { 1024 };

/// The search for the first line of a target that happened at a time or later. Each line that is looked at may be a read of the
/// disk.
struct Hunt<'a> {
    db: &'a Connection,
    target: i64,
    kinds: Only,
    time: i64,
}

impl Hunt<'_> {
    /// Which of these lines it is, if it is one of them; else their number.
    fn first_of(&self, keys: &[i64]) -> rusqlite::Result<usize> {
        let mut time_of = self
            .db
            .prepare_cached("SELECT time FROM entry WHERE key = ?1")?;
        let (mut low, mut high) = (0, keys.len());
        let (mut earlier, mut found): (Option<Moment>, Option<Moment>) = (None, None);
        let (mut guess, mut pace) = (true, Pace::begin());
        while low < high {
            let mut middle = low.midpoint(high);
            if let (Some(earlier), Some(found)) = (earlier, found)
                && guess
            {
                let key = derive::proportional(earlier, found, self.time);
                middle = keys.partition_point(|k| *k < key).clamp(low, high - 1);
            }
            guess = !guess;
            let line = (
                keys[middle],
                time_of.query_row([keys[middle]], |row| row.get(0))?,
            );
            if pace.is_slow() {
                ahead::fetch(self.db, || Ok(keys[low..high].to_vec()))?;
            }
            if line.1 < self.time {
                (low, earlier) = (middle + 1, Some(line));
            } else {
                (high, found) = (middle, Some(line));
            }
        }
        Ok(low)
    }

    /// The same among lines that are too many, or of which nothing is noted.
    fn through(&self, within: (i64, i64), around: (i64, i64)) -> rusqlite::Result<i64> {
        let before = self.newest(within.0, around.0)?;
        let (low, high, earlier, found) = match before {
            Some(line) if line.1 >= self.time => (within.0, line.0, None, Some(line)),
            _ => match self.next(around.1, within.1)? {
                Some(line) if line.1 < self.time => (line.0 + 1, within.1, Some(line), None),
                line => (around.0, around.1, before, line),
            },
        };
        self.between(low, high, earlier, found, within.1)
    }

    /// It is `found`, or a line with a key in `low..high`, or none, which is `end`; `earlier` is a line before it.
    fn between(
        &self,
        mut low: i64,
        mut high: i64,
        mut earlier: Option<Moment>,
        mut found: Option<Moment>,
        end: i64,
    ) -> rusqlite::Result<i64> {
        let mut guess = true;
        while low < high {
            // Where it would be if lines came at one pace; every other time in the middle, because they do not.
            let middle = match (earlier, found) {
                (Some(earlier), Some(found)) if guess => {
                    derive::proportional(earlier, found, self.time).clamp(low, high - 1)
                }
                _ => low + (high - low) / 2,
            };
            guess = !guess;
            match self.next(middle, high)? {
                Some(line) if line.1 < self.time => {
                    low = line.0 + 1;
                    earlier = Some(line);
                }
                line => {
                    high = middle;
                    found = line.or(found);
                }
            }
        }
        Ok(found.map_or(end, |line| line.0))
    }

    /// The first line with a key in a range.
    fn next(&self, from: i64, to: i64) -> rusqlite::Result<Option<Moment>> {
        self.db
            .prepare_cached(&query::lines(
                "key, time",
                "key >= ?2 AND key < ?3",
                self.kinds,
                "ORDER BY key LIMIT 1",
            ))?
            .query_row(params![self.target, from, to], |row| row.try_into())
            .optional()
    }

    /// The last one.
    fn newest(&self, from: i64, to: i64) -> rusqlite::Result<Option<Moment>> {
        newest_line(
            &mut newest_lines(self.db, self.kinds)?,
            self.target,
            (from, to),
        )
    }
}

/// Asks for key and time of the newest line of a target with a key in a range.
fn newest_lines(db: &Connection, kinds: Only) -> rusqlite::Result<CachedStatement<'_>> {
    db.prepare_cached(&query::lines(
        "key, time",
        "key >= ?2 AND key < ?3",
        kinds,
        "ORDER BY key DESC LIMIT 1",
    ))
}

fn newest_line(
    lines: &mut CachedStatement<'_>,
    target: i64,
    within: (i64, i64),
) -> rusqlite::Result<Option<(i64, i64)>> {
    lines
        .query_row(params![target, within.0, within.1], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
}

/// The targets whose newest line happened between the two times, from the first one on.
pub(super) fn targets(
    db: &Connection,
    network: i64,
    from: Timestamp,
    to: Timestamp,
    limit: usize,
    kinds: Only,
) -> rusqlite::Result<Vec<(Bytes, Timestamp)>> {
    let db = &*db.unchecked_transaction()?;
    let (earlier, later) = (from.min(to), from.max(to));
    // Of a target that has been silent for longer not even the time is read.
    let [past, own] = Part::of(network);
    let within = [
        (own.first_after(db, earlier)?, own.end),
        (past.first_after(db, earlier)?, past.end),
    ];
    let mut known = db.prepare_cached("SELECT id, name FROM target WHERE network = ?1")?;
    let mut rows = known.query([network])?;
    let mut newest = newest_lines(db, kinds)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let target = row.get(0)?;
        let line = match newest_line(&mut newest, target, within[0])? {
            Some(line) => Some(line),
            None => newest_line(&mut newest, target, within[1])?,
        };
        let Some((key, time)) = line else {
            continue;
        };
        let time = Timestamp::from_millis(time);
        if time > earlier && time < later {
            let name = Bytes::copy_from_slice(query::bytes(row.get_ref(1)?));
            found.push((time, key, name));
        }
    }
    found.sort_unstable();
    if from > to {
        found.reverse();
    }
    found.truncate(limit);
    Ok(found
        .into_iter()
        .map(|(time, _, name)| (name, time))
        .collect())
}
