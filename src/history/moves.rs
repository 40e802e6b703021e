//! What becomes of lines after they were stored, because the network says so: one is taken back, or a target goes by
//! another name. Retention is another matter.

use rusqlite::{Connection, OptionalExtension, params};

use super::derive;
use super::entry::EntryId;
use super::query::{self, id};
use super::search::{Found, Reach, find_msgid};
use crate::wire::Name;

/// The line of that target with that message id.
pub(super) fn find(
    db: &Connection,
    network: i64,
    target: &Name,
    msgid: &[u8],
) -> rusqlite::Result<Option<EntryId>> {
    let folded: Vec<u8> = target.folded().collect();
    let Some(target) = query::target(db, network, &folded)? else {
        return Ok(None);
    };
    Ok(
        match find_msgid(db, network, Some(target), msgid, Reach::Far)? {
            Found::Key(key) => Some(id(key)),
            Found::Nowhere | Found::TooFar => None,
        },
    )
}

/// All lines of `old` are `new`'s. Where nothing was ever said under the new name only the name changes.
pub(super) fn rename(
    db: &Connection,
    network: i64,
    old: &Name,
    new: &Name,
) -> rusqlite::Result<()> {
    let folded = |name: &Name| name.folded().collect::<Vec<u8>>();
    let Some(from) = query::target(db, network, &folded(old))? else {
        return Ok(());
    };
    let to = query::target(db, network, &folded(new))?.filter(|to| *to != from);
    let Some(to) = to else {
        return db
            .prepare_cached("UPDATE target SET folded = ?2, name = ?3 WHERE id = ?1")?
            .execute(params![from, folded(new), new.as_bytes()])
            .map(drop);
    };
    let used: Option<i64> = db
        .prepare_cached("SELECT key FROM entry WHERE target = ?1 LIMIT 1")?
        .query_row([to], |row| row.get(0))
        .optional()?;
    if used.is_none() {
        db.prepare_cached("DELETE FROM target WHERE id = ?1")?
            .execute([to])?;
        return rename(db, network, old, new);
    }
    db.prepare_cached("UPDATE entry SET target = ?2 WHERE target = ?1")?
        .execute([from, to])?;
    derive::moved(db, from, to)
}
