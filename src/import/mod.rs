//! Moving in: what another bouncer's configuration says, as a configuration of ours, and its logs as history. A file for each
//! origin; each takes what it knows out of a [`section::Section`], and what nobody took is reported. `history` is what is
//! done with the logs, `document` how the configuration is written.

mod bip;
mod document;
mod layout;
mod lines;
mod past;
mod section;
mod soju;
mod znc;
mod znc_file;
#[rustfmt::skip] // tables: one row on one line
mod znc_known;

use std::fmt;
use std::path::{Path, PathBuf};

pub use past::{Carried, carry};

use document::Keys;

/// Whose configuration is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A `bip.conf`, or the folder it is in.
    Bip,
    /// A `znc.conf`, or the folder with `configs/znc.conf`.
    Znc,
    /// The SQLite database, or the folder with `main.db` or `soju.db`.
    Soju,
}

/// Why nothing can be imported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there or cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}:{line}: {what}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// The database is not what it should be.
    #[error("{}: {source}", path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// There is nothing to be imported here.
    #[error("{}: {what}", path.display())]
    Nothing {
        /// Where.
        path: PathBuf,
        /// What was looked for.
        what: String,
    },
}

/// Something that could not be carried over as it was, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The file.
    pub file: String,
    /// The line in it, where it has lines.
    pub line: Option<usize>,
    /// What it is.
    pub about: String,
    /// Why it was left behind, or what became of it.
    pub why: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, about, why) = (&self.file, &self.about, &self.why);
        match self.line {
            Some(line) => write!(f, "{file}:{line}: {about}: {why}"),
            None => write!(f, "{file}: {about}: {why}"),
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    sections: Vec<(&'static str, Keys)>,
    users: Vec<User>,
    /// What could not be carried over, in the order of the source.
    pub notes: Vec<Note>,
    /// Where lines were kept.
    pub logs: Vec<Logs>,
}

/// A user of the source.
#[derive(Debug, Default)]
struct User {
    keys: Keys,
    networks: Vec<Network>,
}

/// A network of a user.
#[derive(Debug, Default)]
struct Network {
    keys: Keys,
    channels: Vec<Keys>,
}

/// Where lines were kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logs {
    /// Text files.
    Text {
        /// The folder.
        root: PathBuf,
        /// Where in it which talk of which day is, with bip's `%u %n %c %Y %m %d %h`.
        format: String,
        /// How a line looks.
        form: lines::Form,
        /// The user, where the path does not say.
        user: Option<String>,
        /// The network, where the path does not say.
        network: Option<String>,
    },
    /// soju's database.
    Soju(PathBuf),
}

impl Found {
    /// How many users and networks there are.
    pub fn counts(&self) -> (usize, usize) {
        let networks = self.users.iter().map(|user| user.networks.len()).sum();
        (self.users.len(), networks)
    }

    fn note(
        &mut self,
        file: &str,
        line: Option<usize>,
        about: impl Into<String>,
        why: impl Into<String>,
    ) {
        let (file, about, why) = (file.to_owned(), about.into(), why.into());
        self.notes.push(Note {
            file,
            line,
            about,
            why,
        });
    }

    /// What was noted, in the order of the source, each once.
    fn in_order(mut self) -> Self {
        self.notes.sort_by_key(|note| note.line);
        self.notes.dedup();
        self
    }

    /// The configuration, as TOML with a word at its head about where it comes from.
    pub fn to_toml(&self, origin: Origin, path: &Path) -> String {
        document::write(self, origin, path)
    }
}

impl Origin {
    /// The name of the program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bip => "bip",
            Self::Znc => "ZNC",
            Self::Soju => "soju",
        }
    }

    /// Reads what is at `path`.
    pub fn read(self, path: &Path) -> Result<Found, Error> {
        let found = match self {
            Self::Bip => bip::read(path),
            Self::Znc => znc::read(path),
            Self::Soju => soju::read(path),
        };
        found.map(Found::in_order)
    }
}

/// `path` itself when it is a file, else the first of these in it.
fn file_in(path: &Path, names: &[&str]) -> Result<PathBuf, Error> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let found = names
        .iter()
        .map(|name| path.join(name))
        .find(|file| file.is_file());
    found.ok_or_else(|| Error::Nothing {
        path: path.to_owned(),
        what: format!("there is no {} in this folder", names.join(" or ")),
    })
}

/// The text of a configuration. Bytes that are not UTF-8 are shown as U+FFFD: nothing in it needs them.
fn text_of(path: &Path) -> Result<String, Error> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(source) => Err(Error::Unreadable {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests;
