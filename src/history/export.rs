//! A copy of a database that another process may be using: read through a connection of its own, as any program may that
//! is not the daemon itself. How a copy is made is `copy`'s.

use std::path::Path;

use super::copy::{self, Existing, Haste, Progress};
use super::error::Error;
use super::schema::{self, Use};

/// Copies a database to a new file, as it is at this moment, telling how far it is. Not for the process that has the
/// database open as a [`History`](super::History).
pub fn export(database: &Path, to: &Path, told: impl FnMut(Progress)) -> Result<(), Error> {
    if !database.exists() {
        return Err(Error::Missing {
            path: database.into(),
        });
    }
    let connection = schema::connect(database, Use::Copying)?;
    if schema::version(&connection, database)?.is_none() {
        return Err(Error::Missing {
            path: database.into(),
        });
    }
    copy::copy(&connection, to, Existing::Keep, Haste::Gentle, told)
}
