//! A copy of a database while it is in use: as it was at one moment, whatever is written meanwhile. It is made a few pages
//! at a time under another name, synced, and only then put in place: there is a whole copy or none.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::error::Error;

/// Pages copied at a time [4 KiB each].
const PAGES: i32 = 1024;
const FEW_PAGES: i32 = 256;

/// However slow the disk is, a rest is not longer.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// How a copy is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    /// Nobody is served meanwhile.
    Quick,
    /// Whoever works on the same disk comes first: half of the time nothing is done, and little is ever left to be synced, because
    /// while a lot is, others wait to write.
    Gentle,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Pages that are copied.
    pub done: u64,
    /// Pages in all.
    pub total: u64,
}

impl Progress {
    /// In hundredths.
    pub fn percent(self) -> u64 {
        (self.done * 100).checked_div(self.total).unwrap_or(100)
    }
}

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// It is kept, and no copy is made.
    Keep,
    /// The copy takes its place.
    Replace,
}

/// Copies what a connection sees now to `to`, telling how far it is.
pub(super) fn copy(
    from: &Connection,
    to: &Path,
    existing: Existing,
    haste: Haste,
    told: impl FnMut(Progress),
) -> Result<(), Error> {
    let failed = |detail: String| Error::Copy {
        path: to.into(),
        detail,
    };
    if existing == Existing::Keep && fs::symlink_metadata(to).is_ok() {
        return Err(failed("it is there already: name another file".into()));
    }
    let part = part_of(to);
    let made = make(&part)
        .map_err(|error| error.to_string())
        .and_then(|file| fill(from, &part, &file, haste, told).map_err(|error| error.to_string()))
        .and_then(|()| put_in_place(&part, to).map_err(|error| error.to_string()));
    made.map_err(|error| {
        // Half a copy is of no use, and may be what fills the disk.
        _ = fs::remove_file(&part);
        failed(error)
    })
}

/// Where the copy is while it is not whole.
fn part_of(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Nobody else may read what people said.
fn make(part: &Path) -> io::Result<File> {
    match fs::remove_file(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(part)
}

fn fill(
    from: &Connection,
    part: &Path,
    file: &File,
    haste: Haste,
    mut told: impl FnMut(Progress),
) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut to = Connection::open_with_flags(part, flags)?;
    // While a transaction reads, what others commit does not make the copy begin anew.
    let reading = from.unchecked_transaction()?;
    reading.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let backup = Backup::new(&reading, &mut to)?;
    let pages = match haste {
        Haste::Quick => PAGES,
        Haste::Gentle => FEW_PAGES,
    };
    loop {
        let begun = Instant::now();
        let step = backup.step(pages)?;
        if haste == Haste::Gentle {
            // Whether it works is asked at the end.
            _ = file.sync_data();
            thread::sleep(begun.elapsed().min(LONGEST_REST));
        }
        let progress = backup.progress();
        let total = u64::try_from(progress.pagecount).unwrap_or_default();
        let rest = u64::try_from(progress.remaining).unwrap_or_default();
        told(Progress {
            done: total.saturating_sub(rest),
            total,
        });
        match step {
            StepResult::Done => break,
            StepResult::More => {}
            // Somebody holds the new file: it is ours alone, so that this does not last.
            _ => thread::sleep(Duration::from_millis(10)),
        }
    }
    drop(backup);
    // The copy is one file: without this its first reader would make two more beside it.
    to.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    to.close().map_err(|(_, error)| error)
}

/// The copy is on the disk before it has its name, and the name before anybody relies on it.
fn put_in_place(part: &Path, to: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    fs::rename(part, to)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
