//! The tables of the database, version by version, and the way from an older version to the newest. What the file is, and
//! whether it may be opened at all, is `schema`'s.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::copy;
use super::derive;
use super::error::{Cause, Error};
use super::{forget, overlay};

/// "caro", so that `file` and we can tell the file from any other database.
pub(super) const APPLICATION_ID: i64 = 0x6361_726f;

/// What leads from one version to the next, within the transaction of an upgrade.
pub(super) type Step = fn(&Connection) -> rusqlite::Result<()>;

/// `STEPS[n]` leads from version `n + 1` to version `n + 2`.
///
/// A version is never edited once it was released. A change of the tables is another step at the end: it gets a connection
/// within a transaction and does what leads from the version before it to its own. Nothing else needs to be told: `VERSION`
/// counts the steps, a new database takes the same steps as an old one, and which tables a database must have is found by
/// making an empty one. Several subjects may add their tables in one step, each by a constant in its own file. What takes
/// long (filling an index) does not belong in a step but is done later, in slices.
pub(super) const STEPS: &[Step] = &[to_2, derive::to_3];

/// The schema this program writes.
pub(super) const VERSION: i64 = version_after(STEPS);

/// Version 1. An entry's key is `network << 40 | id`, and its index entry is (target, key): lines of a network and lines of
/// a target lie in the order of ids, and within a target times have that order too, so that both are found by bisection.
/// Names that are compared are stored folded; `target.name` is how a target was last spelled. `network.head` stands for
/// ids that were given out although no row has them. An empty `position.target` is the mark.
/// `entry` is not STRICT, because checking types costs a seventh of storing a line.
const FIRST: &str = "
    CREATE TABLE network (
        id INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL, name TEXT NOT NULL, head INTEGER NOT NULL DEFAULT 0,
        UNIQUE (user, name)
    ) STRICT;
    CREATE TABLE target (
        id INTEGER PRIMARY KEY, network INTEGER NOT NULL, folded BLOB NOT NULL, name BLOB NOT NULL,
        UNIQUE (network, folded)
    ) STRICT;
    CREATE TABLE entry (
        key INTEGER PRIMARY KEY, target INTEGER NOT NULL, time INTEGER NOT NULL, kind INTEGER NOT NULL,
        again INTEGER NOT NULL, msgid BLOB, tags BLOB NOT NULL, line BLOB NOT NULL
    );
    CREATE INDEX entry_target ON entry (target);
    CREATE TABLE position (
        network INTEGER NOT NULL, client TEXT NOT NULL, target BLOB NOT NULL, id INTEGER NOT NULL, time INTEGER NOT NULL,
        PRIMARY KEY (network, client, target)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE floor (
        network INTEGER NOT NULL, target BLOB NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (network, target)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE fact (
        network INTEGER NOT NULL, fact INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (network, fact, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE gap (
        network INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL,
        since INTEGER NOT NULL, until INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX gap_network ON gap (network);
    CREATE TABLE password (user TEXT PRIMARY KEY, hash TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

/// Version 2: sizes of stretches of a log; messages apart from other lines; notes by which lines are found; what is made
/// at run time.
fn to_2(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(forget::TABLES)?;
    db.execute_batch(&derive::VERSION_2.concat())?;
    db.execute_batch(overlay::TABLES)
}

const fn version_after(steps: &[Step]) -> i64 {
    // Ever so many versions fit.
    1 + steps.len() as i64
}

/// Makes the tables in an empty database. All or nothing: a process that is killed in here leaves it empty.
pub(super) fn create(db: &Connection) -> rusqlite::Result<()> {
    create_with(db, STEPS)
}

/// Makes the tables as they are after these steps.
pub(super) fn create_with(db: &Connection, steps: &[Step]) -> rusqlite::Result<()> {
    let first = format!("{FIRST} PRAGMA application_id = {APPLICATION_ID};");
    take(db, &first, steps, version_after(steps))
}

/// Brings an older database to the newest version, in one transaction, after a copy of it was made beside it. Nothing is
/// done to one that is not older.
pub(super) fn upgrade(db: &Connection, path: &Path, found: i64) -> Result<(), Error> {
    upgrade_by(db, path, found, STEPS)
}

fn upgrade_by(db: &Connection, path: &Path, found: i64, steps: &[Step]) -> Result<(), Error> {
    let newest = version_after(steps);
    let taken = usize::try_from(found - 1).unwrap_or_default();
    let Some(rest) = steps.get(taken..).filter(|rest| !rest.is_empty()) else {
        return Ok(());
    };
    let kept = kept(path, found);
    tracing::info!(
        database = %path.display(), from = found, to = newest, copy = %kept.display(),
        "upgrading the database; a copy of the old one is kept"
    );
    let (existing, haste) = (copy::Existing::Replace, copy::Haste::Quick);
    copy::copy(db, &kept, existing, haste, |_| {})?;
    take(db, "", rest, newest).map_err(|error| Error::Upgrade {
        path: path.into(),
        found,
        newest,
        source: Cause(error),
    })?;
    tracing::info!(version = newest, "the database is upgraded");
    Ok(())
}

/// Where the copy of a database is kept that was upgraded from this version.
pub(super) fn kept(path: &Path, version: i64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".schema-{version}"));
    name.into()
}

fn take(db: &Connection, first: &str, steps: &[Step], version: i64) -> rusqlite::Result<()> {
    db.execute_batch("BEGIN EXCLUSIVE")?;
    let taken = db
        .execute_batch(first)
        .and_then(|()| steps.iter().try_for_each(|step| step(db)))
        .and_then(|()| db.execute_batch(&format!("PRAGMA user_version = {version}; COMMIT;")));
    if taken.is_err() && !db.is_autocommit() {
        // The error that is told is the first one.
        drop(db.execute_batch("ROLLBACK"));
    }
    taken
}

/// The names of tables and indexes that a database of this version has, in the order in which they are made.
pub(super) fn objects(version: i64) -> rusqlite::Result<Vec<String>> {
    let taken = usize::try_from(version - 1).unwrap_or_default();
    let db = Connection::open_in_memory()?;
    create_with(&db, STEPS.get(..taken).unwrap_or(STEPS))?;
    db.prepare("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")?
        .query_map([], |row| row.get(0))?
        .collect()
}

#[cfg(test)]
#[path = "tests/migrate.rs"]
mod tests;
