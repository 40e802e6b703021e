//! Reading ahead: rows of one buffer lie scattered, and a disk that is asked for one page after the other takes its time
//! for each. Here the system is told of all pages that the next rows are in, so that the disk fetches them together. Nothing
//! that is found here is believed: a page that was not the right one costs a little time, and SQLite reads for itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::fs::{Advice, fadvise};

/// So long take the first rows of a reading when their pages are in memory [40 us], and a few times that.
const QUICK: Duration = Duration::from_micros(100);
const FIRST_ROWS: u32 = 8;

/// With fewer rows to come it is not worth it.
const FEW: usize = 4;

/// Pages that lie no further apart are fetched in one go, with those in between.
const NEAR: u32 = 4;

/// No tree is deeper: with so many levels it would hold more rows than there are keys.
const DEEPEST: usize = 8;

/// The database as a file, beside SQLite. Closing it drops all locks that the process has on the database, so each thread with
/// a connection holds one of these until that connection is closed.
pub(super) struct Ahead {
    file: File,
    page_size: u64,
}

thread_local! {
    /// What the readings of this thread are helped by.
    static HELP: RefCell<Option<Arc<Ahead>>> = const { RefCell::new(None) };
}

/// Has the readings of this thread helped while it works.
pub(super) fn with<T>(ahead: Option<&Arc<Ahead>>, work: impl FnOnce() -> T) -> T {
    HELP.set(ahead.cloned());
    let done = work();
    HELP.set(None);
    done
}

/// How fast the first rows of a reading come.
pub(super) struct Pace {
    begun: Instant,
    rows: u32,
}

impl Pace {
    pub(super) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            rows: 0,
        }
    }

    /// A row has come. True, once at most: it took so long that others are likely to be on the disk alone.
    pub(super) fn is_slow(&mut self) -> bool {
        if self.rows >= FIRST_ROWS {
            return false;
        }
        self.rows += 1;
        let slow = self.begun.elapsed() > QUICK;
        if slow {
            self.rows = FIRST_ROWS;
        }
        slow
    }
}

/// Has the disk fetch the rows with these keys, which are in order.
pub(super) fn fetch(
    db: &Connection,
    keys: impl FnOnce() -> rusqlite::Result<Vec<i64>>,
) -> rusqlite::Result<()> {
    let Some(ahead) = HELP.with_borrow(Clone::clone) else {
        return Ok(());
    };
    let root: u32 = db
        .prepare_cached("SELECT rootpage FROM sqlite_schema WHERE name = 'entry'")?
        .query_row([], |row| row.get(0))?;
    let keys = keys()?;
    if keys.len() >= FEW {
        ahead.tell(&ahead.pages(root, &keys));
    }
    Ok(())
}

impl Ahead {
    /// `None`: there is no such help for this database.
    pub(super) fn open(path: &Path, db: &Connection) -> Option<Self> {
        let page_size: u32 = db
            .query_row("PRAGMA page_size", [], |row| row.get(0))
            .ok()?;
        Some(Self {
            file: File::open(path).ok()?,
            page_size: page_size.into(),
        })
    }

    /// The pages of these keys, in order, each once.
    fn pages(&self, root: u32, keys: &[i64]) -> Vec<u32> {
        let mut known = HashMap::new();
        let mut depth = None;
        let mut pages: Vec<u32> = Vec::with_capacity(keys.len());
        for &key in keys {
            let (page, levels) = self.page(root, key, depth, &mut known);
            // The first one is gone after to its end: all others are as deep.
            depth.get_or_insert(levels);
            if pages.last() != Some(&page) {
                pages.push(page);
            }
        }
        pages
    }

    /// The page of a key, and how many lie above it.
    fn page(
        &self,
        root: u32,
        key: i64,
        depth: Option<usize>,
        known: &mut HashMap<u32, Option<Vec<u8>>>,
    ) -> (u32, usize) {
        let (mut page, most) = (root, depth.unwrap_or(DEEPEST));
        for level in 0..most {
            let bytes = known.entry(page).or_insert_with(|| self.read(page));
            match bytes.as_deref().and_then(|bytes| child(bytes, key)) {
                Some(child) => page = child,
                None => return (page, level),
            }
        }
        (page, most)
    }

    fn read(&self, page: u32) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.page_size).ok()?];
        let offset = self.offset(page)?;
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    fn offset(&self, page: u32) -> Option<u64> {
        Some(u64::from(page.checked_sub(1)?) * self.page_size)
    }

    fn tell(&self, pages: &[u32]) {
        let is_near = |a: &u32, b: &u32| b.checked_sub(*a).is_some_and(|gap| gap <= NEAR);
        for together in pages.chunk_by(is_near) {
            let (Some(first), Some(last)) = (together.first(), together.last()) else {
                continue;
            };
            let length = u64::from(last - first + 1) * self.page_size;
            let Some(offset) = self.offset(*first) else {
                continue;
            };
            // Without this help it is slower, and nothing else.
            _ = fadvise(
                &self.file,
                offset,
                NonZeroU64::new(length),
                Advice::WillNeed,
            );
        }
    }
}

/// Where below an inner page of a table a key is. `None`: it is not such a page.
fn child(page: &[u8], key: i64) -> Option<u32> {
    if page.first() != Some(&5) {
        return None;
    }
    let half = |at: usize| Some(u16::from_be_bytes(page.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_be_bytes(page.get(at..at + 4)?.try_into().ok()?));
    let cell = |n: usize| half(12 + 2 * n).map(usize::from);
    // In order: a child, and the last key in it.
    let (mut low, mut high) = (0, usize::from(half(3)?));
    while low < high {
        let middle = low.midpoint(high);
        if number(page.get(cell(middle)? + 4..)?)? < key {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if low < usize::from(half(3)?) {
        word(cell(low)?)
    } else {
        word(8)
    }
}

/// A number as SQLite writes it: seven bits in each byte but the ninth, the highest first.
fn number(bytes: &[u8]) -> Option<i64> {
    let mut number: i64 = 0;
    for (n, &byte) in bytes.iter().take(9).enumerate() {
        if n == 8 {
            return Some(number << 8 | i64::from(byte));
        }
        number = number << 7 | i64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Durability;
    use crate::history::schema;

    /// A database with these keys, each in a row of its own size.
    fn database(folder: &Path, keys: impl Iterator<Item = i64>) -> (Connection, Ahead) {
        let path = folder.join("x.db");
        let db = schema::open(&path, Durability::Process).unwrap();
        db.execute_batch("BEGIN").unwrap();
        for key in keys {
            let size = key % 7 * 100;
            db.execute(
                "INSERT INTO entry VALUES (?1, 1, 0, 0, 0, NULL, x'', zeroblob(?2))",
                [key, size],
            )
            .unwrap();
        }
        db.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")
            .ok();
        let ahead = Ahead::open(&path, &db).unwrap();
        (db, ahead)
    }

    fn root(db: &Connection) -> u32 {
        db.query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'entry'",
            [],
            |row| row.get(0),
        )
        .unwrap()
    }

    /// The first key of a leaf.
    fn first_key(leaf: &[u8]) -> Option<i64> {
        assert_eq!(leaf[0], 13, "it is a leaf of a table");
        let cell = usize::from(u16::from_be_bytes([leaf[8], leaf[9]]));
        let length = leaf[cell..].iter().position(|byte| *byte < 0x80)? + 1;
        number(&leaf[cell + length..])
    }

    #[test]
    fn the_pages_of_keys_are_those_they_are_in() {
        let folder = tempfile::tempdir().unwrap();
        let base = 3 << 40;
        let (db, ahead) = database(folder.path(), (0..60_000).map(|n| base + n * 3));
        let keys: Vec<i64> = (0..600).map(|n| base + n * 300).collect();
        let pages = ahead.pages(root(&db), &keys);
        assert!(pages.len() > 500, "{}", pages.len());
        let mut rest = keys.as_slice();
        for (n, page) in pages.iter().enumerate() {
            let leaf = ahead.read(*page).unwrap();
            let next = pages
                .get(n + 1)
                .map(|next| first_key(&ahead.read(*next).unwrap()).unwrap());
            let here = rest.partition_point(|key| next.is_none_or(|next| *key < next));
            assert!(here > 0, "each page has a key that was asked for");
            assert!(first_key(&leaf).unwrap() <= rest[0]);
            rest = &rest[here..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn small_tables_and_what_is_no_database_do_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let (db, ahead) = database(folder.path(), 0..2);
        assert_eq!(ahead.pages(root(&db), &[0, 1, 2, 3]), [root(&db)]);
        assert!(ahead.pages(u32::MAX, &[1]) == [u32::MAX]);
        assert!(ahead.pages(0, &[1]) == [0]);
        ahead.tell(&[0, u32::MAX, 1, 2, 3]);
        let ahead = Arc::new(ahead);
        with(Some(&ahead), || fetch(&db, || Ok((0..100).collect()))).unwrap();
        fetch(&db, || unreachable!("nobody helps here")).unwrap();
    }

    #[test]
    fn only_the_first_rows_tell_that_a_reading_is_slow() {
        let mut pace = Pace::begin();
        let begun = pace.begun;
        pace.begun = begun.checked_sub(QUICK * 2).unwrap();
        assert!(pace.is_slow());
        assert!(!pace.is_slow(), "once");
        let mut pace = Pace::begin();
        pace.begun += Duration::from_secs(3600);
        assert!((0..FIRST_ROWS).all(|_| !pace.is_slow()));
        pace.begun = begun.checked_sub(QUICK * 2).unwrap();
        assert!(!pace.is_slow());
    }

    proptest! {
        #[test]
        fn no_page_is_too_strange(mut page in prop::collection::vec(any::<u8>(), 0..300), key in any::<i64>()) {
            _ = child(&page, key);
            if let Some(first) = page.first_mut() {
                *first = 5;
            }
            _ = child(&page, key);
            _ = number(&page);
        }
    }
}
