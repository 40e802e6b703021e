//! What is made at run time: users, networks and channels that no file declares, passwords, and when users were last
//! there. A change of it is one transaction, on the disk before it is answered. What options mean is the configuration's.

use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, params};

use super::forget::{STEP, forget_keys};
use super::{Error, History, query};
use crate::config::made::{Edit, Stored};
use crate::wire::Timestamp;

/// `made_network.network`, `made_channel.network` and `retired.network` are ids of `network`, which are never given out
/// again. Options are TOML as the file could have it. A retired network has a name that none can have.
pub(super) const TABLES: &str = "
    CREATE TABLE made_user (
        name TEXT PRIMARY KEY, options TEXT NOT NULL, deleted INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE made_network (
        network INTEGER PRIMARY KEY, options TEXT NOT NULL, trusted INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE made_channel (
        id INTEGER PRIMARY KEY, network INTEGER NOT NULL, name TEXT NOT NULL, options TEXT NOT NULL, UNIQUE (network, name)
    ) STRICT;
    CREATE TABLE retired (network INTEGER PRIMARY KEY, since INTEGER NOT NULL) STRICT;
    CREATE TABLE seen (user TEXT PRIMARY KEY, time INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

impl History {
    /// Everything that was made at run time.
    pub async fn stored(&self) -> Result<Stored, Error> {
        self.shared.desk.change(stored).await
    }

    /// Makes all of these edits or none, and gives the numbers of these networks of users afterwards: one that has none
    /// yet gets one, which no other network ever has.
    pub async fn edit(
        &self,
        edits: Vec<Edit>,
        networks: Vec<(String, String)>,
    ) -> Result<Vec<u64>, Error> {
        let work = move |db: &Connection| {
            edits.iter().try_for_each(|edit| apply(db, edit))?;
            let numbers = networks
                .iter()
                .map(|(user, name)| network(db, user, name).map(i64::cast_unsigned));
            numbers.collect()
        };
        let done = move |db: &Connection| in_transaction(db, work);
        self.shared.desk.change(done).await
    }

    /// The numbers of these networks of users.
    pub async fn numbers(&self, networks: Vec<(String, String)>) -> Result<Vec<u64>, Error> {
        self.edit(Vec::new(), networks).await
    }

    /// Notes when users were last there.
    pub async fn note_seen(&self, seen: Vec<(String, Timestamp)>) -> Result<(), Error> {
        let note = move |db: &Connection| {
            transaction(db, |db| {
                let mut row = db.prepare_cached(
                    "INSERT INTO seen (user, time) VALUES (?1, ?2)
                     ON CONFLICT (user) DO UPDATE SET time = excluded.time",
                )?;
                for (user, time) in &seen {
                    row.execute(params![user, time.millis()])?;
                }
                Ok(())
            })
        };
        self.shared.desk.change(note).await
    }

    /// A network that was deleted before a moment, if one is left.
    pub async fn retired(&self, before: Timestamp) -> Result<Option<u64>, Error> {
        let ask = move |db: &Connection| {
            db.prepare_cached("SELECT network FROM retired WHERE since < ?1 LIMIT 1")?
                .query_row([before.millis()], |row| row.get(0))
                .optional()
        };
        let network: Option<i64> = self.shared.desk.change(ask).await?;
        Ok(network.map(i64::cast_unsigned))
    }

    /// Forgets a little of a network that was deleted. False: that was the last of it.
    pub async fn purge_some(&self, network: u64) -> Result<bool, Error> {
        let network = network.cast_signed();
        let purge = move |db: &Connection| transaction(db, |db| purge_some(db, network));
        self.shared.desk.change(purge).await
    }
}

/// All of some work or nothing, on the disk before this returns: it is rare and must not be lost.
fn in_transaction<T>(
    db: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let before: i64 = db.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
    db.execute_batch("PRAGMA synchronous = FULL")?;
    let done = transaction(db, work);
    db.execute_batch(&format!("PRAGMA synchronous = {before}"))?;
    done
}

fn transaction<T>(
    db: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    db.execute_batch("BEGIN IMMEDIATE")?;
    let done = work(db).and_then(|value| db.execute_batch("COMMIT").map(|()| value));
    if done.is_err() && !db.is_autocommit() {
        // The error that is told is the first one.
        drop(db.execute_batch("ROLLBACK"));
    }
    done
}

fn stored(db: &Connection) -> rusqlite::Result<Stored> {
    let time = Timestamp::from_millis;
    let mut stored = Stored::default();
    let mut rows = db.prepare("SELECT name, options, deleted FROM made_user ORDER BY name")?;
    let users = rows.query_map([], |row| {
        Ok((
            row.get(0)?,
            row.get(1)?,
            row.get::<_, Option<i64>>(2)?.map(time),
        ))
    })?;
    stored.users = users.collect::<Result<_, _>>()?;
    // In the order in which they were made.
    let mut rows = db.prepare(
        "SELECT user, name, options, trusted FROM made_network JOIN network ON network = id ORDER BY id",
    )?;
    let networks = rows.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    stored.networks = networks.collect::<Result<_, _>>()?;
    let mut rows = db.prepare(
        "SELECT user, network.name, made_channel.name, options FROM made_channel JOIN network ON network = network.id
         ORDER BY made_channel.id",
    )?;
    let channels = rows.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    stored.channels = channels.collect::<Result<_, _>>()?;
    let mut rows = db.prepare("SELECT user, hash FROM password")?;
    let hashes = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    stored.passwords = hashes.collect::<Result<_, _>>()?;
    let mut rows = db.prepare("SELECT user, time FROM seen")?;
    let seen = rows.query_map([], |row| Ok((row.get(0)?, time(row.get(1)?))))?;
    stored.seen = seen.collect::<Result<_, _>>()?;
    Ok(stored)
}

fn known(db: &Connection, user: &str, name: &str) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM network WHERE user = ?1 AND name = ?2")?
        .query_row([user, name], |row| row.get(0))
        .optional()
}

/// The number of a network, which is made as a log that begins when it is not there.
fn network(db: &Connection, user: &str, name: &str) -> rusqlite::Result<i64> {
    query::begin(db, user, name)?;
    query::network(db, user, name)
}

fn apply(db: &Connection, edit: &Edit) -> rusqlite::Result<()> {
    match edit {
        Edit::User {
            name,
            options,
            deleted,
        } => db
            .prepare_cached(
                "INSERT OR REPLACE INTO made_user (name, options, deleted) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![name, options, deleted.map(Timestamp::millis)])
            .map(drop),
        Edit::PurgeUser { name } => purge_user(db, name),
        Edit::Password { user, hash } => query::set_password(db, user, hash),
        Edit::Network {
            user,
            name,
            options,
            trusted,
        } => {
            let network = network(db, user, name)?;
            db.prepare_cached(
                "INSERT OR REPLACE INTO made_network (network, options, trusted) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![network, options, trusted])
            .map(drop)
        }
        Edit::Rename { user, from, to } => {
            // What is left of a network of that name is not this one's.
            if let Some(other) = known(db, user, to)? {
                retire(db, other, Timestamp::from_millis(0))?;
            }
            db.prepare_cached("UPDATE network SET name = ?3 WHERE user = ?1 AND name = ?2")?
                .execute([user, from, to])
                .map(drop)
        }
        Edit::Retire { user, name, now } => match known(db, user, name)? {
            Some(network) => retire(db, network, *now),
            None => Ok(()),
        },
        Edit::Channel {
            user,
            network,
            name,
            options,
        } => {
            let network = self::network(db, user, network)?;
            db.prepare_cached(
                "INSERT INTO made_channel (network, name, options) VALUES (?1, ?2, ?3)
                 ON CONFLICT (network, name) DO UPDATE SET options = excluded.options",
            )?
            .execute(params![network, name, options])
            .map(drop)
        }
        Edit::DropChannel {
            user,
            network,
            name,
        } => {
            let network = self::network(db, user, network)?;
            db.prepare_cached("DELETE FROM made_channel WHERE network = ?1 AND name = ?2")?
                .execute(params![network, name])
                .map(drop)
        }
    }
}

/// Its rows stay until they are purged, under a name that nobody asks for: networks have no `/` in theirs.
fn retire(db: &Connection, network: i64, now: Timestamp) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM made_network WHERE network = ?1",
        "DELETE FROM made_channel WHERE network = ?1",
        "UPDATE network SET name = name || '/' || id, user = user || '/' || id WHERE id = ?1",
    ] {
        db.prepare_cached(sql)?.execute([network])?;
    }
    db.prepare_cached("INSERT OR REPLACE INTO retired (network, since) VALUES (?1, ?2)")?
        .execute(params![network, now.millis()])
        .map(drop)
}

fn purge_user(db: &Connection, name: &str) -> rusqlite::Result<()> {
    let mut rows = db.prepare_cached("SELECT id FROM network WHERE user = ?1")?;
    let networks: Vec<i64> = rows
        .query_map([name], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for network in networks {
        retire(db, network, Timestamp::from_millis(0))?;
    }
    for sql in [
        "DELETE FROM made_user WHERE name = ?1",
        "DELETE FROM password WHERE user = ?1",
        "DELETE FROM seen WHERE user = ?1",
    ] {
        db.prepare_cached(sql)?.execute([name])?;
    }
    Ok(())
}

fn purge_some(db: &Connection, network: i64) -> rusqlite::Result<bool> {
    if forget_lines(db, network)? {
        return Ok(true);
    }
    // The notes of lines have gone with the lines.
    for sql in [
        "DELETE FROM moved WHERE target IN (SELECT id FROM target WHERE network = ?1)",
        "DELETE FROM stretch WHERE last >= ?1 << 40 AND last < (?1 + 1) << 40",
    ] {
        db.prepare_cached(sql)?.execute([network])?;
    }
    for table in [
        "target", "position", "floor", "fact", "gap", "size", "retired",
    ] {
        let sql = format!("DELETE FROM {table} WHERE network = ?1");
        db.prepare_cached(&sql)?.execute([network])?;
    }
    db.prepare_cached("DELETE FROM network WHERE id = ?1")?
        .execute([network])?;
    Ok(false)
}

/// Forgets lines of a network for as long as a step may take. Whether there may be more.
fn forget_lines(db: &Connection, network: i64) -> rusqlite::Result<bool> {
    let started = Instant::now();
    while started.elapsed() < STEP {
        let keys = db
            .prepare_cached(
                "SELECT key FROM entry WHERE key >= ?1 << 40 AND key < (?1 + 1) << 40 LIMIT 64",
            )?
            .query_map([network], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        if keys.is_empty() {
            return Ok(false);
        }
        forget_keys(db, network, &keys, |_| true)?;
    }
    Ok(true)
}

#[cfg(test)]
#[path = "tests/overlay.rs"]
mod tests;
