//! Loads the file: reads it, has every key taken by the rows of `keys`, fills in what depends on the surroundings, and
//! returns either a `Config` that cannot be wrong or everything that is wrong with it at once.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, fs};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::check::LONGEST_SOCKET;
use super::keys::{MISSING, ROOT};
use super::reader::{Reader, Value};
use super::{Config, Findings, Level, Listen, Server, Storage, Tls, texts};

/// What the file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To run by it: a hidden secret is an error.
    Run,
    /// To judge it: a hidden secret is a warning.
    Check,
}

/// Reads a file: the configuration and warnings, or everything that is wrong.
pub fn load(path: &Path, purpose: Purpose) -> Result<(Config, Findings), Findings> {
    load_in(path, purpose, &Surroundings::of_process())
}

/// As [`load`], with given surroundings.
pub fn load_in(
    path: &Path,
    purpose: Purpose,
    surroundings: &Surroundings,
) -> Result<(Config, Findings), Findings> {
    let (config, findings) = read(path, purpose, surroundings);
    match config {
        Some(config) if findings.worst() != Some(Level::Error) => Ok((config, findings)),
        _ => Err(findings),
    }
}

/// The control socket that a file names, even if the rest of it is wrong: the daemon that listens there runs by what the
/// file said before. `Ok(None)`: the file wants none.
pub fn control_socket(path: &Path) -> Result<Option<PathBuf>, Findings> {
    let (config, findings) = read(path, Purpose::Check, &Surroundings::of_process());
    config.map(|config| config.server.control).ok_or(findings)
}

/// The database that a file names, even if the rest of it is wrong. `Ok(None)`: it is kept in memory.
pub fn database(path: &Path) -> Result<Option<PathBuf>, Findings> {
    let (config, findings) = read(path, Purpose::Check, &Surroundings::of_process());
    config.map(|config| config.storage.database).ok_or(findings)
}

fn read(path: &Path, purpose: Purpose, surroundings: &Surroundings) -> (Option<Config>, Findings) {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes),
        Err(error) => return (None, unreadable(path, purpose, surroundings, &error)),
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
            let mut reader = Reader::new(path, &before, purpose, surroundings);
            let remedy = "save the file as UTF-8";
            reader.about_file(
                Level::Error,
                Some(valid),
                "is not UTF-8 from here on",
                remedy,
            );
            return (None, reader.findings);
        }
    };
    let mut reader = Reader::new(path, &text, purpose, surroundings);
    let config = parse(path, &text, &mut reader);
    if reader.has_secrets && open_to_others(path) {
        let message = "holds secrets, and others can read it";
        let remedy = format!("chmod 600 {}", path.display());
        reader.about_file(Level::Warning, None, message, remedy);
    }
    reader.findings.sort();
    (config, reader.findings)
}

fn unreadable(
    path: &Path,
    purpose: Purpose,
    surroundings: &Surroundings,
    error: &io::Error,
) -> Findings {
    let mut reader = Reader::new(path, "", purpose, surroundings);
    let message = format!("cannot be read: {error}");
    let remedy = "name another with --config, or write one as in config.example.toml";
    reader.about_file(Level::Error, None, message, remedy);
    reader.findings
}

fn parse(path: &Path, text: &str, reader: &mut Reader<'_>) -> Option<Config> {
    let (sound, broken) = sound_lines(text, reader);
    // Behind a broken header keys stand in the wrong table: what is said of them would be wrong.
    let is_header = |line: &usize| {
        text.lines()
            .nth(line - 1)
            .is_some_and(|line| line.trim().starts_with('['))
    };
    if broken.iter().any(is_header) {
        return None;
    }
    let (document, twice) = DeTable::parse_recoverable(&sound);
    for error in &twice {
        note_syntax(error, &sound, reader);
    }
    let span = document.span();
    let document = Spanned::new(span, DeValue::Table(document.into_inner()));
    let mut config = defaults(path, reader.surroundings);
    reader.table(Value(&document), ROOT, &mut config);
    if !broken.is_empty() {
        // What stood on a broken line is not missing.
        reader.findings.remove(|finding| finding.message == MISSING);
        return None;
    }
    settle(&mut config, reader);
    Some(config)
}

/// What the parser says of a key that stands twice, the one error that leaves the rest of the text as it is.
const TWICE: &str = "duplicate key";

/// How often a broken text is parsed at most: what is still wrong then is not TOML at all.
const PASSES: usize = 50;

/// The text with blanks in place of the lines that are no TOML, and the numbers of those lines. The parser gives up at some
/// errors, so it is asked again without them until it finds no more.
fn sound_lines(text: &str, reader: &mut Reader<'_>) -> (String, Vec<usize>) {
    let mut sound = text.to_owned();
    let mut broken = Vec::new();
    for _ in 0..PASSES {
        let (_, errors) = DeTable::parse_recoverable(&sound);
        let before = broken.len();
        for error in errors.iter().filter(|error| error.message() != TWICE) {
            let line = line_of(error, text);
            if !broken.contains(&line) {
                broken.push(line);
                note_syntax(error, text, reader);
            }
        }
        if broken.len() == before {
            break;
        }
        let lines = sound.split_inclusive('\n').enumerate();
        sound = lines
            .map(|(index, line)| match line.strip_suffix('\n') {
                Some(line) if broken.contains(&(index + 1)) => " ".repeat(line.len()) + "\n",
                None if broken.contains(&(index + 1)) => " ".repeat(line.len()),
                _ => line.to_owned(),
            })
            .collect();
    }
    (sound, broken)
}

fn line_of(error: &toml::de::Error, text: &str) -> usize {
    let offset = error.span().map_or(0, |span| span.start.min(text.len()));
    text.as_bytes()[..offset]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

fn note_syntax(error: &toml::de::Error, text: &str, reader: &mut Reader<'_>) {
    let span = error.span().unwrap_or_default();
    let at = text.get(span.clone()).unwrap_or_default();
    let (message, remedy) = match error.message() {
        TWICE => (
            format!("{at} stands here for the second time"),
            "leave one of them out",
        ),
        message => (message.replace('\n', ", "), ""),
    };
    reader.about_file(
        Level::Error,
        Some(span.start.min(text.len())),
        message,
        remedy,
    );
}

/// What holds when the file says nothing.
fn defaults(path: &Path, surroundings: &Surroundings) -> Config {
    let state = surroundings.state.clone();
    Config {
        path: path.into(),
        server: Server {
            name: surroundings.server_name(),
            listen: Listen::parse("ircs://[::]:6697").into_iter().collect(),
            control: surroundings.control(state.as_deref().unwrap_or_else(|| Path::new(""))),
            ..Server::default()
        },
        storage: Storage {
            database: state.as_ref().map(|state| state.join("carom.db")),
            folder: state.unwrap_or_default(),
            ..Storage::default()
        },
        ..Config::default()
    }
}

/// Fills in and checks what depends on several keys.
fn settle(config: &mut Config, reader: &mut Reader<'_>) {
    if config.storage.folder.as_os_str().is_empty() {
        reader.under("storage", |reader| {
            reader.under("path", |reader| {
                let message =
                    "is missing, and none of STATE_DIRECTORY, XDG_STATE_HOME and HOME is set";
                reader.about_file(
                    Level::Error,
                    None,
                    message,
                    "write path = \"/path/to/carom.db\"",
                );
            });
        });
    }
    if let Some(socket) = &config.server.control
        && socket.as_os_str().len() > LONGEST_SOCKET
    {
        reader.under("server", |reader| {
            reader.under("control", |reader| {
                let message = format!("the path {} is too long for a socket", socket.display());
                let remedy =
                    format!("write a path of at most {LONGEST_SOCKET} bytes, or \"\" for none");
                reader.about_file(Level::Error, None, message, remedy);
            });
        });
    }
    let Tls {
        certificate,
        key,
        made,
    } = &mut config.tls;
    if certificate.as_os_str().is_empty() && key.as_os_str().is_empty() {
        *made = true;
        *certificate = config.storage.folder.join("certificate.pem");
        *key = config.storage.folder.join("key.pem");
    }
    if config.users.is_empty() && reader.findings.worst() != Some(Level::Error) {
        let message = "declares no user, so nobody can attach";
        reader.about_file(Level::Warning, None, message, "add a [[user]]");
    }
}

/// Whether users other than the owner and the group can read a file.
fn open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

/// What the file leaves to the process and its host.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The folder for state when `storage.path` names none.
    pub state: Option<PathBuf>,
    /// The folder for the control socket.
    pub runtime: Option<PathBuf>,
    /// The host's name.
    pub host: String,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self::from(
            |name| env::var_os(name),
            dns_lookup::get_hostname().unwrap_or_default(),
        )
    }

    /// Those of an environment; an empty variable counts as unset, and so does an XDG folder that is not absolute.
    fn from(variable: impl Fn(&str) -> Option<OsString>, host: String) -> Self {
        let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        // systemd separates several folders by colons.
        let first = |name: &str| {
            let all = variable(name)?.into_string().ok()?;
            all.split(':')
                .next()
                .filter(|first| !first.is_empty())
                .map(PathBuf::from)
        };
        let xdg = path("XDG_STATE_HOME").filter(|path| path.is_absolute());
        let state = first("STATE_DIRECTORY")
            .or_else(|| xdg.map(|folder| folder.join("carom")))
            .or_else(|| path("HOME").map(|home| home.join(".local/state/carom")));
        Self {
            state,
            runtime: first("RUNTIME_DIRECTORY"),
            host,
        }
    }

    /// The control socket when the file names none; `folder` is where the database lives.
    pub(super) fn control(&self, folder: &Path) -> Option<PathBuf> {
        Some(
            self.runtime
                .as_deref()
                .unwrap_or(folder)
                .join("control.sock"),
        )
    }

    /// The host's name, if clients can be told it.
    fn server_name(&self) -> String {
        if texts::server_name(&self.host).is_ok() {
            self.host.clone()
        } else {
            "localhost".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(variables: &[(&str, &str)]) -> Option<PathBuf> {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v.into())
        };
        Surroundings::from(find, String::new()).state
    }

    #[test]
    fn state_goes_where_the_system_wants_it() {
        let home = ("HOME", "/home/apw");
        assert_eq!(state(&[]), None);
        assert_eq!(state(&[home]), Some("/home/apw/.local/state/carom".into()));
        assert_eq!(
            state(&[home, ("XDG_STATE_HOME", "/x")]),
            Some("/x/carom".into())
        );
        assert_eq!(state(&[("XDG_STATE_HOME", "x")]), None);
        let all = [
            home,
            ("XDG_STATE_HOME", "/x"),
            ("STATE_DIRECTORY", "/var/lib/carom:/b"),
        ];
        assert_eq!(state(&all), Some("/var/lib/carom".into()));
        let empty = [home, ("XDG_STATE_HOME", ""), ("STATE_DIRECTORY", "")];
        assert_eq!(state(&empty), Some("/home/apw/.local/state/carom".into()));
    }

    #[test]
    fn the_control_socket_is_beside_the_database_or_in_the_runtime_folder() {
        let folder = Path::new("/var/lib/carom");
        let mut surroundings = Surroundings::default();
        assert_eq!(
            surroundings.control(folder),
            Some("/var/lib/carom/control.sock".into())
        );
        surroundings.runtime = Some("/run/carom".into());
        assert_eq!(
            surroundings.control(folder),
            Some("/run/carom/control.sock".into())
        );
    }

    #[test]
    fn a_host_name_that_cannot_be_a_source_is_not_used() {
        let host = |host: &str| Surroundings {
            host: host.into(),
            ..Surroundings::default()
        };
        assert_eq!(host("bnc.example.org").server_name(), "bnc.example.org");
        assert_eq!(host("my host").server_name(), "localhost");
        assert_eq!(host("").server_name(), "localhost");
    }
}
