//! What can go wrong with the store, as its callers see it. Errors while storing lines are not among them: the writer
//! deals with those alone, because nobody waits for it.

use std::io;
use std::path::PathBuf;

/// Why the store could not be opened or asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The SQLite that was linked can corrupt a WAL.
    #[error("SQLite {found} can corrupt the database: link 3.51.3 or newer")]
    OldSqlite {
        /// Its version.
        found: &'static str,
    },
    /// The file could not be made.
    #[error("making the database {path}: {source}")]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be opened.
    #[error("opening the database {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: Cause,
    },
    /// The file may be read but not written.
    #[error(
        "the database {path} cannot be written: give carom's user the right to write it and its folder"
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The file is a database, but not ours.
    #[error(
        "{path} is a database of another program: name another file in storage.path, or move this one away"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer carom.
    #[error(
        "the database {path} has schema {found}, this carom knows up to {known}: \
         run the newer carom again, or put back the copy made before it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The file is no intact database.
    #[error(
        "the database {path} is damaged ({detail}): put back a copy, or move it away together with its -wal and -shm \
         files and rescue what is left with `sqlite3 {path} .recover`"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// There is no database, or an empty one.
    #[error(
        "there is nothing in the database {path}: carom makes it when it runs for the first time"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A copy of the database could not be made.
    #[error("copying the database to {path}: {detail}")]
    Copy {
        /// The copy.
        path: PathBuf,
        /// What was in the way.
        detail: String,
    },
    /// The tables of an older version could not be brought to ours.
    #[error(
        "upgrading the database {path} from schema {found} to {newest}: {source}; nothing in it was changed"
    )]
    Upgrade {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        newest: i64,
        /// What SQLite said.
        source: Cause,
    },
    /// A thread could not be started.
    #[error("starting a thread of the history: {0}")]
    Thread(#[from] io::Error),
    /// A question or change was refused by the store.
    #[error("the database: {0}")]
    Refused(#[from] Cause),
    /// No answer in time.
    #[error("the database gave no answer within {} s: its disk is slow or blocked", super::DEADLINE.as_secs())]
    Deadline,
    /// More networks were ever made than there are numbers for.
    #[error("the database has no number left for another network: start a new one")]
    TooManyNetworks,
    /// The store has been closed.
    #[error("the history is closed")]
    Closed,
}

/// What the store's engine said. Which engine that is, is nobody's business outside.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Cause(pub(super) rusqlite::Error);

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Refused(Cause(error))
    }
}
