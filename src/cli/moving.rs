//! `carom import`: another bouncer's configuration and logs become ours. What is read is `import`'s; here files are written,
//! and it is said what became of everything.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{Exit, complain, say};
use crate::bouncer;
use crate::config::{self, Config, Purpose};
use crate::import::{self, Carried, Found, Origin};

pub(super) const EXAMPLES: &str = "\
Examples:
  carom import bip ~/.bip --output ~/.config/carom/carom.toml
  carom import znc ~/.znc
  carom import soju /var/lib/soju/main.db --output carom.toml";

#[derive(Args)]
pub(super) struct Import {
    /// Whose configuration it is
    origin: From,
    /// The configuration file, or the folder it is in; for soju the database
    path: PathBuf,
    /// Write the configuration to this file, and bring the logs into the history of that configuration
    ///
    /// A file that is there already is left as it is: then only the history is brought in. Doing it again adds only lines
    /// that are new. Without it the configuration is printed, and the logs stay where they are.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum From {
    Bip,
    Znc,
    Soju,
}

impl From {
    fn origin(self) -> Origin {
        match self {
            Self::Bip => Origin::Bip,
            Self::Znc => Origin::Znc,
            Self::Soju => Origin::Soju,
        }
    }
}

pub(super) fn import(wanted: &Import) -> ExitCode {
    let origin = wanted.origin.origin();
    let found = match origin.read(&wanted.path) {
        Ok(found) => found,
        Err(error) => {
            complain(format_args!("error: {error}"));
            return Exit::Failed.into();
        }
    };
    report(origin, &found);
    let text = found.to_toml(origin, &wanted.path);
    let Some(output) = &wanted.output else {
        say(text.trim_end());
        if !found.logs.is_empty() {
            complain("note: with --output FILE the logs are brought into the history too");
        }
        return Exit::Done.into();
    };
    match written(output, &text) {
        Ok(true) => say(format_args!("{}: written", output.display())),
        Ok(false) => say(format_args!(
            "{}: is there already, and left as it is",
            output.display()
        )),
        Err(error) => {
            complain(format_args!("error: {}: {error}", output.display()));
            return Exit::Failed.into();
        }
    }
    let config = match config::load(output, Purpose::Check) {
        Ok((config, findings)) => {
            let _ = write!(io::stderr(), "{findings}");
            config
        }
        Err(findings) => {
            let _ = write!(io::stderr(), "{findings}");
            complain("mend these in the file, then say the same again to bring the logs in");
            return Exit::Refused.into();
        }
    };
    history(&found, &config)
}

fn report(origin: Origin, found: &Found) {
    for note in &found.notes {
        complain(format_args!("note: {note}"));
    }
    let (users, networks) = found.counts();
    complain(format_args!(
        "{}: users {users}, networks {networks}, not carried over as they were {}",
        origin.name(),
        found.notes.len()
    ));
}

/// Writes a file that only we can read. False: it is there already.
fn written(path: &Path, text: &str) -> io::Result<bool> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match file {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn history(found: &Found, config: &Config) -> ExitCode {
    let Some(database) = config
        .storage
        .database
        .as_ref()
        .filter(|_| !found.logs.is_empty())
    else {
        return Exit::Done.into();
    };
    let _lock = match bouncer::lock_folder(&config.storage.folder) {
        Ok(lock) => lock,
        Err(failure) => {
            complain(format_args!("error: {}", failure.message));
            return ExitCode::from(failure.code);
        }
    };
    let bar = io::stderr().is_terminal();
    let mut progress = |carried: &Carried| {
        if bar {
            show(carried);
        }
    };
    let carried = import::carry(&found.logs, config, database, &mut progress);
    if bar {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    match carried {
        Ok(carried) => {
            tell(&carried, database);
            Exit::Done.into()
        }
        Err(error) => {
            complain(format_args!(
                "error: {error}; what was brought in so far is kept: say the same again to go on"
            ));
            Exit::Failed.into()
        }
    }
}

/// One line that is written over and over.
fn show(carried: &Carried) {
    let _ = write!(io::stderr(), "\r{}", bar(carried));
}

fn bar(carried: &Carried) -> String {
    const WIDTH: u64 = 30;
    let (read, all) = carried.read;
    let done = (read.min(all) * WIDTH).checked_div(all).unwrap_or(WIDTH);
    let bar: String = (0..WIDTH)
        .map(|n| if n < done { '#' } else { '.' })
        .collect();
    let percent = (read.min(all) * 100).checked_div(all).unwrap_or(100);
    let lines = carried.added + carried.known;
    format!("[{bar}] {percent:3} %  lines {lines}")
}

fn tell(carried: &Carried, database: &Path) {
    say(format_args!(
        "{}: lines brought in {}, there already {}",
        database.display(),
        carried.added,
        carried.known
    ));
    if carried.later > 0 {
        say(format_args!(
            "lines left out because carom had begun to keep that talk itself: {}",
            carried.later
        ));
    }
    if carried.skipped > 0 {
        say(format_args!(
            "lines of the logs that nobody said, as the log's own remarks: {}",
            carried.skipped
        ));
    }
    for (network, files) in &carried.strangers {
        complain(format_args!(
            "note: {network}: the configuration has no such network; files left out: {files}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_how_far_it_is_and_how_much_it_was() {
        let carried = |read, added, known| Carried {
            read,
            added,
            known,
            ..Carried::default()
        };
        for (carried, expected) in [
            (
                carried((0, 300), 0, 0),
                "[..............................]   0 %  lines 0",
            ),
            (
                carried((150, 300), 5, 7),
                "[###############...............]  50 %  lines 12",
            ),
            (
                carried((400, 300), 9, 0),
                "[##############################] 100 %  lines 9",
            ),
            (
                carried((0, 0), 0, 0),
                "[##############################] 100 %  lines 0",
            ),
        ] {
            assert_eq!(bar(&carried), expected);
        }
    }
}
