//! Which lines of a target a question about its history means: where anchors lie, and the window of ids around or between
//! them. Within a target, ids and times have one order, so that times are found by bisection. Lines themselves are read
//! by `query`, page by page; msgids and words are found by `search`.

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

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

/// Where an anchor lies among the keys of a target.
#[derive(Clone, Copy)]
struct Place {
    /// Lines before the anchor have keys below this.
    before: i64,
    /// Lines after it have this key or a higher one.
    after: i64,
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
}

impl Lines<'_> {
    fn window(&self, span: &Span, limit: usize) -> Result<Window, Miss> {
        let all = derive::keys(self.network);
        Ok(match span {
            Span::Latest(None) => self.newest(all.0, all.1, limit)?,
            Span::Latest(Some(anchor)) => self.newest(self.place(anchor)?.after, all.1, limit)?,
            Span::Before(anchor) => self.newest(all.0, self.place(anchor)?.before, limit)?,
            Span::After(anchor) => self.oldest(self.place(anchor)?.after, all.1, limit)?,
            Span::Between(from, to) => {
                let (from, to) = (self.place(from)?, self.place(to)?);
                if from.before <= to.before {
                    self.oldest(from.after, to.before, limit)?
                } else {
                    self.newest(to.after, from.before, limit)?
                }
            }
            Span::Around(anchor) => {
                let middle = self.place(anchor)?.before;
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
            Anchor::Time(time) => Ok(Place {
                before: self.edge(time.millis())?,
                after: self.edge(time.millis().saturating_add(1))?,
            }),
            Anchor::Msgid(msgid) => {
                let within = Some(self.target);
                match search::find_msgid(self.db, self.network, within, msgid, self.reach)? {
                    search::Found::Key(key) => Ok(Place {
                        before: key,
                        after: key + 1,
                    }),
                    search::Found::Nowhere => Err(Miss::Msgid),
                    search::Found::TooFar => Err(Miss::TooFar),
                }
            }
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
        let mut ends = None;
        while let Some(row) = rows.next()? {
            let key = row.get(0)?;
            ends = Some((ends.map_or(key, |(first, _)| first), key));
        }
        Ok(ends)
    }
}

/// The first key in `within` of a line of that target and those kinds that happened at `time` or later; the end of
/// `within` when there is none.
pub(super) fn first_since(
    db: &Connection,
    target: i64,
    kinds: Only,
    time: i64,
    within: (i64, i64),
) -> rusqlite::Result<i64> {
    let mut statement = db.prepare_cached(&query::lines(
        "key, time",
        "key >= ?2 AND key < ?3",
        kinds,
        "ORDER BY key LIMIT 1",
    ))?;
    let mut at = |from: i64, to: i64| {
        statement
            .query_row(params![target, from, to], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })
            .optional()
    };
    // Where it probably is; only probably, because other targets' clocks count there too.
    let around = derive::around(db, time, within)?;
    let before = newest_line(&mut newest_lines(db, kinds)?, target, (within.0, around.0))?;
    // The answer is `found`, or a line with a key in `low..high`; `earlier` is a line before it.
    let (mut low, mut high, mut earlier, mut found) = match before {
        Some(line) if line.1 >= time => (within.0, line.0, None, Some(line)),
        _ => match at(around.1, within.1)? {
            Some(line) if line.1 < time => (line.0 + 1, within.1, Some(line), None),
            line => (around.0, around.1, before, line),
        },
    };
    let mut guess = true;
    while low < high {
        // Where it would be if lines came at one pace; every other time in the middle, because they do not.
        let middle = match (earlier, found) {
            (Some(earlier), Some(found)) if guess => {
                between(earlier, found, time).clamp(low, high - 1)
            }
            _ => low + (high - low) / 2,
        };
        guess = !guess;
        match at(middle, high)? {
            Some(line) if line.1 < time => {
                low = line.0 + 1;
                earlier = Some(line);
            }
            line => {
                high = middle;
                found = line.or(found);
            }
        }
    }
    Ok(found.map_or(within.1, |line| line.0))
}

/// The key that a line of that time would have, if from one line to the other time and keys grew together.
fn between(low: (i64, i64), high: (i64, i64), time: i64) -> i64 {
    let (keys, span) = (
        i128::from(high.0) - i128::from(low.0),
        i128::from(high.1) - i128::from(low.1),
    );
    let part = i128::from(time) - i128::from(low.1);
    let offset = if span > 0 { keys * part / span } else { 0 };
    i64::try_from(i128::from(low.0) + offset).unwrap_or(low.0)
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
