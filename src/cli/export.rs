//! `carom export`: a copy of the database, whether carom runs or not. How it is made is `history`'s; this finds the
//! database and tells how far it is.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::config;
use crate::history::{self, Progress};

use super::{Exit, SYSTEM_FILE, complain, say};

/// Where the database of the system's service is: systemd tells $STATE_DIRECTORY to the service, but not to us.
const SYSTEM_DATABASE: &str = "/var/lib/carom/carom.db";

/// How much the daemon's processor time comes before ours.
const POLITE: i32 = 10;

/// Copies the database of a configuration to `output`.
pub(super) fn export(path: &Path, output: &Path) -> Exit {
    let database = match config::database(path) {
        Ok(Some(database)) => database,
        Ok(None) => {
            complain(format_args!(
                "error: {}: storage.path is \":memory:\", so there is nothing to export",
                path.display()
            ));
            return Exit::Failed;
        }
        Err(findings) => {
            let _ = write!(io::stderr(), "{findings}");
            return Exit::Refused;
        }
    };
    let database = of_system(path, database, Path::is_file);
    // A daemon that is at work comes first. Without this it is only less polite.
    _ = rustix::process::nice(POLITE);
    let mut meter = Meter::new(io::stderr().is_terminal());
    let exported = history::export(&database, output, |progress| meter.show(progress));
    meter.end();
    match exported {
        Ok(()) => {
            say(format_args!(
                "{} is a copy of {}, as it was when the copying began",
                output.display(),
                database.display()
            ));
            Exit::Done
        }
        Err(error) => {
            complain(format_args!("error: {error}"));
            Exit::Failed
        }
    }
}

/// The service's database, if its file is the one that is used and says nothing else.
fn of_system(file: &Path, database: PathBuf, exists: impl Fn(&Path) -> bool) -> PathBuf {
    let system = Path::new(SYSTEM_DATABASE);
    let is_used = file == Path::new(SYSTEM_FILE) && !exists(&database) && exists(system);
    if is_used { system.into() } else { database }
}

/// One line on a terminal that says how far the copy is; nothing elsewhere.
struct Meter {
    on: bool,
    shown: Option<u64>,
}

impl Meter {
    const fn new(on: bool) -> Self {
        Self { on, shown: None }
    }

    fn show(&mut self, progress: Progress) {
        let percent = progress.percent();
        if self.on && self.shown != Some(percent) {
            self.shown = Some(percent);
            // Who does not see it misses nothing.
            let _ = write!(io::stderr(), "\r{}", line(progress));
        }
    }

    fn end(&self) {
        if self.shown.is_some() {
            complain("");
        }
    }
}

fn line(progress: Progress) -> String {
    // Tenths of a MiB; a page has 4 KiB.
    let mib = |pages: u64| format!("{}.{}", pages / 256, pages % 256 * 10 / 256);
    format!(
        "{:3} %  {} of {} MiB",
        progress.percent(),
        mib(progress.done),
        mib(progress.total)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_in_percent_and_mib() {
        let at = |done| line(Progress { done, total: 2624 });
        assert_eq!(at(0), "  0 %  0.0 of 10.2 MiB");
        assert_eq!(at(1312), " 50 %  5.1 of 10.2 MiB");
        assert_eq!(at(2624), "100 %  10.2 of 10.2 MiB");
        assert_eq!(Progress { done: 0, total: 0 }.percent(), 100);
    }

    #[test]
    fn the_services_database_is_found_without_its_environment() {
        let own = PathBuf::from("/root/.local/state/carom/carom.db");
        let found = |file: &str, there: &[&str]| {
            let exists = |path: &Path| there.iter().any(|p| Path::new(p) == path);
            of_system(Path::new(file), own.clone(), exists)
        };
        assert_eq!(
            found(SYSTEM_FILE, &[SYSTEM_DATABASE]),
            Path::new(SYSTEM_DATABASE)
        );
        assert_eq!(found("carom.toml", &[SYSTEM_DATABASE]), own);
        assert_eq!(found(SYSTEM_FILE, &[]), own);
    }
}
