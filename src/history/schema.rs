//! The database file: how it is made, recognised, checked and opened. What its tables mean is said here; who reads and
//! writes them is `query` and `writer`. Nothing else in the process may open the file or its `-shm`, not even to look:
//! closing any descriptor of a file drops all POSIX locks the process holds on it, SQLite's among them.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::derive;
use super::error::{Cause, Error};
use super::migrate::{self, APPLICATION_ID, VERSION};
use crate::config::Durability;

/// Older versions can corrupt a database in WAL mode while one connection writes and another one checkpoints.
const LEAST_SQLITE: i32 = 3_051_003;

/// Databases up to this many bytes are checked whole at each start [about 10 ms]; of larger ones the small tables.
const CHECK_WHOLE: i64 = 8 << 20;

/// How long a connection waits for another process, a backup say, before it reports that the database is locked.
const BUSY: Duration = Duration::from_millis(500);

/// Tables and indexes that grow with every line, and may be too large to be checked at each start.
const LARGE: [&str; 2] = ["entry", "entry_target"];

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The one that writes.
    Writing(Durability),
    /// Answers questions.
    Reading,
    /// Copies the WAL into the database.
    Keeping,
    /// Copies the database, in a process of its own.
    Copying,
}

/// Makes the database when it is missing, and refuses what is not ours, too new or damaged. The writer's connection.
pub(super) fn open(path: &Path, durability: Durability) -> Result<Connection, Error> {
    check_sqlite()?;
    create_file(path)?;
    let connection = raw(path, Use::Writing(durability)).map_err(|error| judge(path, error))?;
    if connection
        .is_readonly("main")
        .map_err(|error| judge(path, error))?
    {
        return Err(Error::ReadOnly { path: path.into() });
    }
    match version(&connection, path)? {
        Some(found) => {
            check(&connection, path, found)?;
            migrate::upgrade(&connection, path, found)?;
            if !derive::is_sound(&connection) {
                derive::start_again(&connection).map_err(|error| judge(path, error))?;
            }
        }
        None => create(&connection).map_err(|error| judge(path, error))?,
    }
    set_up(&connection, Use::Writing(durability)).map_err(|error| judge(path, error))?;
    Ok(connection)
}

/// A database that ends with its connection.
pub(super) fn open_in_memory() -> Result<Connection, Error> {
    check_sqlite()?;
    let connection = Connection::open_in_memory()?;
    create(&connection)?;
    set_up(&connection, Use::Writing(Durability::Process))?;
    Ok(connection)
}

/// Another connection to a database that [`open`] has accepted.
pub(super) fn connect(path: &Path, purpose: Use) -> Result<Connection, Error> {
    let connection = raw(path, purpose).map_err(|error| judge(path, error))?;
    set_up(&connection, purpose).map_err(|error| judge(path, error))?;
    Ok(connection)
}

fn check_sqlite() -> Result<(), Error> {
    if rusqlite::version_number() < LEAST_SQLITE {
        return Err(Error::OldSqlite {
            found: rusqlite::version(),
        });
    }
    Ok(())
}

/// SQLite gives `-wal` and `-shm` the mode of the database, so the mode of the first file decides about all three.
fn create_file(path: &Path) -> Result<(), Error> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(Error::Create {
            path: path.into(),
            source,
        }),
    }
}

fn raw(path: &Path, purpose: Use) -> rusqlite::Result<Connection> {
    let access = match purpose {
        Use::Reading => OpenFlags::SQLITE_OPEN_READ_ONLY,
        // Even who only reads may have to make the files beside it.
        Use::Writing(_) | Use::Keeping | Use::Copying => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;",
    )?;
    Ok(connection)
}

/// The version of our schema; `None`: the file is empty, and will be ours.
pub(super) fn version(connection: &Connection, path: &Path) -> Result<Option<i64>, Error> {
    let number = |pragma: &str| {
        connection
            .query_row(pragma, [], |row| row.get::<_, i64>(0))
            .map_err(|error| judge(path, error))
    };
    let (id, version) = (
        number("PRAGMA application_id")?,
        number("PRAGMA user_version")?,
    );
    let objects = number("SELECT count(*) FROM sqlite_schema")?;
    match (id, version) {
        (0, 0) if objects == 0 => Ok(None),
        (APPLICATION_ID, 1..=VERSION) => Ok(Some(version)),
        (APPLICATION_ID, found) if found > VERSION => Err(Error::Newer {
            path: path.into(),
            found,
            known: VERSION,
        }),
        (APPLICATION_ID, found) => Err(Error::Damaged {
            path: path.into(),
            detail: format!("schema number {found}"),
        }),
        _ => Err(Error::Foreign { path: path.into() }),
    }
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    // Neither can be changed once there are tables, but by copying the whole file.
    connection.execute_batch("PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;")?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    migrate::create(connection)
}

/// Finds what would otherwise be found when it is needed, in a database of this version.
fn check(connection: &Connection, path: &Path, version: i64) -> Result<(), Error> {
    let damaged = |detail: String| Error::Damaged {
        path: path.into(),
        detail,
    };
    let failed = |error| judge(path, error);
    let objects = migrate::objects(version).map_err(failed)?;
    for table in objects.iter().filter(|name| !derive::is_part(name)) {
        let found: i64 = connection
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE name = ?1",
                [table],
                |row| row.get(0),
            )
            .map_err(failed)?;
        if found != 1 {
            return Err(damaged(format!("{table} is missing")));
        }
    }
    let bytes: i64 = connection
        .query_row(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
            [],
            |row| row.get(0),
        )
        .map_err(failed)?;
    let whole = vec!["1".to_owned()];
    let parts = if bytes <= CHECK_WHOLE {
        whole
    } else {
        small(connection).map_err(failed)?
    };
    let look = || {
        parts
            .iter()
            .try_for_each(|part| quick_check(connection, path, part))
    };
    look().or_else(|found| match version {
        1 => Err(found),
        _ => heal(connection, look).map_err(|_| found),
    })
}

fn quick_check(connection: &Connection, path: &Path, part: &str) -> Result<(), Error> {
    let found: String = connection
        .query_row(&format!("PRAGMA quick_check({part})"), [], |row| row.get(0))
        .map_err(|error| judge(path, error))?;
    if found == "ok" {
        return Ok(());
    }
    Err(Error::Damaged {
        path: path.into(),
        detail: found.replace('\n', "; "),
    })
}

/// What can be made again is no loss: whether everything is well without it.
fn heal(connection: &Connection, look: impl Fn() -> Result<(), Error>) -> Result<(), Error> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let healed = derive::start_again(connection)
        .map_err(Error::from)
        .and_then(|()| look());
    let end = if healed.is_ok() { "COMMIT" } else { "ROLLBACK" };
    connection.execute_batch(end)?;
    healed
}

/// The tables that may be checked at each start.
fn small(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut tables = connection.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND sql NOT LIKE '%VIRTUAL%'",
    )?;
    let names = tables.query_map([], |row| row.get::<_, String>(0))?;
    let is_small = |name: &rusqlite::Result<String>| {
        name.as_ref().map_or(true, |name| {
            !LARGE.contains(&name.as_str()) && !derive::is_part(name)
        })
    };
    names.filter(is_small).collect()
}

fn set_up(connection: &Connection, purpose: Use) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(32);
    let own = match purpose {
        Use::Writing(Durability::Process) => "PRAGMA synchronous = NORMAL;",
        Use::Writing(Durability::Power) => "PRAGMA synchronous = FULL;",
        Use::Keeping => "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -64;",
        Use::Copying => "PRAGMA query_only = ON;",
        Use::Reading => "PRAGMA query_only = ON; PRAGMA cache_size = -16384;",
    };
    connection.execute_batch(own)?;
    connection.execute_batch("PRAGMA temp_store = MEMORY;")?;
    for pragma in [
        "PRAGMA wal_autocheckpoint = 0",
        "PRAGMA journal_size_limit = 16777216",
    ] {
        connection.query_row(pragma, [], |_| Ok(()))?;
    }
    Ok(())
}

/// Says of a damaged file that it is damaged, whatever we were doing when it showed.
fn judge(path: &Path, error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Damaged {
            path: path.into(),
            detail: error.to_string(),
        },
        Some(ErrorCode::ReadOnly) => Error::ReadOnly { path: path.into() },
        _ => Error::Open {
            path: path.into(),
            source: Cause(error),
        },
    }
}

/// The write-ahead log of an open database. SQLite has followed symbolic links, so it is asked for the name.
pub(super) fn wal_of(connection: &Connection) -> Option<PathBuf> {
    connection
        .path()
        .filter(|path| !path.is_empty())
        .map(|path| PathBuf::from(format!("{path}-wal")))
}

/// Copies the WAL as `mode` says (`NOOP`: not at all); how many pages it holds, and how many of them are copied.
pub(super) fn wal_pages(connection: &Connection, mode: &str) -> rusqlite::Result<(i64, i64)> {
    connection
        .prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?
        .query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// A database with something in it, closed.
    fn database() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("carom.db");
        let db = open(&path, Durability::Process).unwrap();
        db.execute("INSERT INTO network (user, name) VALUES ('u', 'n')", [])
            .unwrap();
        for key in 0..2000 {
            db.execute(
                "INSERT INTO entry VALUES (?1, 1, 0, 0, 0, NULL, x'', randomblob(100))",
                [key],
            )
            .unwrap();
        }
        (folder, path)
    }

    fn refusal(path: &Path) -> String {
        open(path, Durability::Process)
            .unwrap_err()
            .to_string()
            .replace(path.to_str().unwrap(), "FILE")
    }

    #[test]
    fn ours_opens_again() {
        let (_folder, path) = database();
        let db = open(&path, Durability::Power).unwrap();
        let count: i64 = db
            .query_row("SELECT count(*) FROM entry", [], |row| row.get(0))
            .unwrap();
        assert_eq!(count, 2000);
    }

    #[test]
    fn a_newer_schema_is_refused_by_number() {
        let (_folder, path) = database();
        Connection::open(&path)
            .unwrap()
            .execute_batch("PRAGMA user_version = 99")
            .unwrap();
        assert_eq!(
            refusal(&path),
            format!(
                "the database FILE has schema 99, this carom knows up to {VERSION}: run the newer carom again, or put \
                 back the copy made before it"
            )
        );
    }

    #[test]
    fn a_database_of_another_program_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let theirs = Connection::open(&path).unwrap();
        theirs.execute_batch("CREATE TABLE t (a)").unwrap();
        drop(theirs);
        let before = fs::read(&path).unwrap();
        assert!(refusal(&path).starts_with("FILE is a database of another program"));
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn what_is_no_database_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let text = "remember the milk\n".repeat(100);
        fs::write(&path, &text).unwrap();
        assert!(
            refusal(&path).contains("is damaged (file is not a database)"),
            "{}",
            refusal(&path)
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let missing = folder.path().join("none").join("x.db");
        assert!(refusal(&missing).starts_with("making the database FILE: No such file"));
    }

    #[test]
    fn a_truncated_or_overwritten_database_is_refused() {
        let (_folder, path) = database();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(refusal(&path).contains("is damaged"), "{}", refusal(&path));
        // Each page but the first, whose loss makes it no database at all, and the maps of pages, which only matter when
        // the file shrinks.
        for page in (2..whole.len() / 4096).step_by(7) {
            let mut broken = whole.clone();
            broken[page * 4096..][..4096].fill(0xa5);
            fs::write(&path, &broken).unwrap();
            let verdict = refusal(&path);
            assert!(verdict.contains("is damaged"), "page {page}: {verdict}");
        }
    }

    #[test]
    fn a_lost_table_is_named() {
        let (_folder, path) = database();
        Connection::open(&path)
            .unwrap()
            .execute_batch("DROP TABLE fact")
            .unwrap();
        assert!(refusal(&path).contains("is damaged (fact is missing)"));
    }

    #[test]
    fn an_interrupted_creation_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        fs::write(&path, "").unwrap();
        open(&path, Durability::Process).unwrap();
        let db = Connection::open(folder.path().join("y.db")).unwrap();
        db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
            .unwrap();
        drop(db);
        open(&folder.path().join("y.db"), Durability::Process).unwrap();
    }
}
