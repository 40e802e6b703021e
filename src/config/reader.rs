//! Walks the TOML of one file with typed getters: each takes a value into its place, or notes what is wrong with it and
//! leaves the place as it was, so that one pass finds everything. Which keys there are stands in `keys`.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::{Purpose, Surroundings};
use super::keys::{self, Key, Need};
use super::nearest::nearest;
use super::{Finding, Findings, Level, Rate, Secret, units};

/// What stands in place of a secret in `server dump`.
pub(super) const HIDDEN: &str = "<hidden>";

/// The most a file with a secret may hold.
const LARGEST_SECRET: u64 = 64 * 1024;

/// One value of the file, with its place.
#[derive(Clone, Copy)]
pub(super) struct Value<'t>(pub(super) &'t Spanned<DeValue<'t>>);

impl<'t> Value<'t> {
    /// The value under a key, if this is a table that has it.
    pub(super) fn get(self, key: &str) -> Option<Self> {
        self.0.get_ref().as_table()?.get(key).map(Self)
    }
}

/// Reads one file and keeps what it found.
pub(super) struct Reader<'t> {
    file: &'t Path,
    line_starts: Vec<usize>,
    purpose: Purpose,
    pub(super) surroundings: &'t Surroundings,
    /// The key being read, as `user.network.flood`.
    key: String,
    pub(super) findings: Findings,
    /// Whether a secret stands in the file itself.
    pub(super) has_secrets: bool,
    /// Whether this is no file, but something that was made at run time.
    is_made: bool,
}

impl<'t> Reader<'t> {
    pub(super) fn new(
        file: &'t Path,
        text: &str,
        purpose: Purpose,
        surroundings: &'t Surroundings,
    ) -> Self {
        let ends = memchr::memchr_iter(b'\n', text.as_bytes()).map(|end| end + 1);
        Self {
            file,
            line_starts: std::iter::once(0).chain(ends).collect(),
            purpose,
            surroundings,
            key: String::new(),
            findings: Findings::default(),
            has_secrets: false,
            is_made: false,
        }
    }

    /// What is read was made at run time: findings tell the key below these tables, and no place.
    pub(super) fn is_made(&mut self, under: &[&str]) {
        self.is_made = true;
        self.key = under.join(".");
    }

    // -- findings

    /// The line a value begins on, from 1.
    pub(super) fn line(&self, value: Value<'_>) -> usize {
        self.line_at(value.0.span().start)
    }

    fn line_at(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// Notes that the value of the key being read is wrong.
    pub(super) fn error(
        &mut self,
        value: Value<'_>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let line = self.line(value);
        self.note(Level::Error, Some(line), message.into(), remedy.into());
    }

    /// Notes that the value of the key being read can be used but should be looked at.
    pub(super) fn warning(
        &mut self,
        value: Value<'_>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let line = self.line(value);
        self.note(Level::Warning, Some(line), message.into(), remedy.into());
    }

    /// Notes something about the file as a whole, or about its text at an offset.
    pub(super) fn about_file(
        &mut self,
        level: Level,
        offset: Option<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let line = offset.map(|offset| self.line_at(offset));
        self.note(level, line, message.into(), remedy.into());
    }

    fn note(&mut self, level: Level, line: Option<usize>, message: String, remedy: String) {
        self.findings.push(Finding {
            level,
            topic: "configuration",
            message,
            remedy,
            file: (!self.is_made).then(|| self.file.into()),
            line: line.filter(|_| !self.is_made),
            key: (!self.key.is_empty()).then(|| self.key.clone()),
        });
    }

    fn wrong_type(&mut self, value: Value<'_>, wanted: &str, example: &str) {
        let found = match value.0.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(
            value,
            format!("wants {wanted}, not {found}"),
            format!("write {example}"),
        );
    }

    // -- tables

    /// Reads all keys of a table into `into`, in the order of `keys`; what is not among them is an error.
    pub(super) fn table<T>(&mut self, value: Value<'_>, keys: &[Key<T>], into: &mut T) {
        match value.0.get_ref().as_table() {
            Some(table) => self.entries(table, value, keys, into),
            None => self.wrong_type(value, "a table", "it as { key = value, ... }"),
        }
    }

    fn entries<T>(&mut self, table: &DeTable<'_>, value: Value<'_>, keys: &[Key<T>], into: &mut T) {
        for key in keys {
            match table.get(key.name) {
                Some(found) => {
                    self.under(key.name, |reader| (key.read)(into, Value(found), reader));
                }
                None if key.need == Need::Required => self.under(key.name, |reader| {
                    reader.error(value, keys::MISSING, format!("write {}", key.example));
                }),
                None => {}
            }
        }
        for (name, _) in table {
            if !keys.iter().any(|key| key.name == name.get_ref()) {
                self.unknown_key(name.get_ref(), name.span().start, keys);
            }
        }
    }

    fn unknown_key<T>(&mut self, name: &str, offset: usize, keys: &[Key<T>]) {
        let remedy = match nearest(name, keys.iter().map(|key| key.name)) {
            Some(near) => format!("did you mean {near}?"),
            None => {
                let known: Vec<_> = keys.iter().map(|key| key.name).collect();
                format!("known here: {}", known.join(", "))
            }
        };
        self.under(name, |reader| {
            reader.about_file(Level::Error, Some(offset), "unknown key", remedy);
        });
    }

    /// Does something below a key.
    pub(super) fn under(&mut self, name: &str, read: impl FnOnce(&mut Self)) {
        let outer = self.key.len();
        if outer > 0 {
            self.key.push('.');
        }
        self.key.push_str(name);
        read(self);
        self.key.truncate(outer);
    }

    /// The tables written as `[[name]]`.
    pub(super) fn tables<'v>(&mut self, value: Value<'v>) -> Vec<Value<'v>> {
        let header = format!("[[{}]]", self.key);
        let Some(array) = value.0.get_ref().as_array() else {
            self.wrong_type(value, "a list of tables", &header);
            return Vec::new();
        };
        array.iter().map(Value).collect()
    }

    // -- values

    /// A text; control characters are refused, because most texts end up on a line of IRC.
    pub(super) fn text<'v>(&mut self, value: Value<'v>) -> Option<&'v str> {
        let Some(text) = value.0.get_ref().as_str() else {
            self.wrong_type(value, "a text", "it in \"quotes\"");
            return None;
        };
        if text.chars().any(char::is_control) {
            self.error(
                value,
                "has control characters or line ends in it",
                "write it on one line",
            );
            return None;
        }
        Some(text)
    }

    /// A text that may be given only in certain words.
    pub(super) fn word<T: Clone>(&mut self, value: Value<'_>, words: &[(&str, T)], into: &mut T) {
        let Some(text) = self.text(value) else { return };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => *into = meaning.clone(),
            None => self.unknown_word(value, text, words.iter().map(|(word, _)| *word)),
        }
    }

    /// Notes that a text is none of the words it may be.
    pub(super) fn unknown_word<'a>(
        &mut self,
        value: Value<'_>,
        text: &str,
        words: impl Iterator<Item = &'a str> + Clone,
    ) {
        let remedy = match nearest(text, words.clone()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => {
                let words: Vec<_> = words.map(|word| format!("\"{word}\"")).collect();
                format!("write one of {}", words.join(", "))
            }
        };
        self.error(value, format!("\"{text}\" is not known"), remedy);
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, value: Value<'_>, into: &mut bool) {
        match value.0.get_ref().as_bool() {
            Some(flag) => *into = flag,
            None => self.wrong_type(value, "true or false", "it without quotes"),
        }
    }

    /// A whole number from 0.
    pub(super) fn number(&mut self, value: Value<'_>) -> Option<u64> {
        let DeValue::Integer(integer) = value.0.get_ref() else {
            self.wrong_type(value, "a whole number", "it as 50, without quotes");
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix());
        if number.is_err() {
            self.error(
                value,
                format!("{integer} is out of range"),
                "write a number from 0",
            );
        }
        number.ok()
    }

    /// A number that counts how many there may be; 0 is no limit.
    pub(super) fn count(&mut self, value: Value<'_>, into: &mut usize) {
        match self.number(value) {
            Some(0) => *into = usize::MAX,
            Some(number) => *into = usize::try_from(number).unwrap_or(usize::MAX),
            None => {}
        }
    }

    /// A number within bounds.
    pub(super) fn within(&mut self, value: Value<'_>, bounds: (u32, u32), into: &mut u32) {
        let Some(number) = self.number(value) else {
            return;
        };
        match u32::try_from(number) {
            Ok(number) if (bounds.0..=bounds.1).contains(&number) => *into = number,
            _ => self.error(
                value,
                format!("{number} is out of range"),
                format!("write a number from {} to {}", bounds.0, bounds.1),
            ),
        }
    }

    /// A duration, 0 included.
    pub(super) fn duration(&mut self, value: Value<'_>) -> Option<Duration> {
        const REMEDY: &str = "write a number and ms, s, m, h or d, as \"15s\"";
        match value.0.get_ref() {
            DeValue::String(text) => match units::duration(text) {
                Ok(duration) => return Some(duration),
                Err(error) => self.error(value, error.to_string(), REMEDY),
            },
            DeValue::Integer(number) if number.as_str() == "0" => return Some(Duration::ZERO),
            DeValue::Integer(number) => self.error(value, format!("{number} has no unit"), REMEDY),
            _ => self.wrong_type(value, "a duration", "it as \"15s\""),
        }
        None
    }

    /// A duration that must not be 0.
    pub(super) fn wait(&mut self, value: Value<'_>, into: &mut Duration) {
        match self.duration(value) {
            Some(Duration::ZERO) => {
                self.error(value, "must be more than 0", "write a duration as \"15s\"");
            }
            Some(duration) => *into = duration,
            None => {}
        }
    }

    /// A duration that limits; 0 is no limit.
    pub(super) fn deadline(&mut self, value: Value<'_>, into: &mut Duration) {
        match self.duration(value) {
            Some(Duration::ZERO) => *into = Duration::MAX,
            Some(duration) => *into = duration,
            None => {}
        }
    }

    /// A size that limits; 0 is no limit.
    pub(super) fn size(&mut self, value: Value<'_>, into: &mut usize) {
        const REMEDY: &str = "write a number and B, KiB, MiB, GiB or TiB, as \"256KiB\"";
        let size = match value.0.get_ref() {
            DeValue::String(text) => units::size(text),
            DeValue::Integer(number) if number.as_str() == "0" => Ok(0),
            DeValue::Integer(number) => {
                return self.error(value, format!("{number} has no unit"), REMEDY);
            }
            _ => return self.wrong_type(value, "a size", "it as \"256KiB\""),
        };
        match size {
            Ok(0) => *into = usize::MAX,
            Ok(size) => *into = usize::try_from(size).unwrap_or(usize::MAX),
            Err(error) => self.error(value, error.to_string(), REMEDY),
        }
    }

    /// A rate; what is left out keeps what it had.
    pub(super) fn rate(&mut self, value: Value<'_>, into: &mut Rate) {
        if value.0.get_ref().is_table() {
            self.table(value, keys::RATE, into);
        } else {
            self.wrong_type(value, "a rate", "it as { burst = 10, every = \"2s\" }");
        }
    }

    /// The elements of a list.
    pub(super) fn list<'v>(&mut self, value: Value<'v>, example: &str) -> Option<Vec<Value<'v>>> {
        let Some(array) = value.0.get_ref().as_array() else {
            self.wrong_type(value, "a list", example);
            return None;
        };
        Some(array.iter().map(Value).collect())
    }

    // -- files

    /// A path as the file means it: relative to the file.
    pub(super) fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder().join(path)
    }

    /// The folder of the file.
    pub(super) fn folder(&self) -> &'t Path {
        self.file.parent().unwrap_or_else(|| Path::new(""))
    }

    /// A path of a file; an empty text is none.
    pub(super) fn path(&mut self, value: Value<'_>) -> Option<Option<PathBuf>> {
        match self.text(value)? {
            "" => Some(None),
            path => Some(Some(self.resolve(path))),
        }
    }

    /// A path of a file that can be read now; an empty text is none.
    pub(super) fn readable(&mut self, value: Value<'_>, level: Level, into: &mut Option<PathBuf>) {
        let Some(path) = self.path(value) else { return };
        if let Some(path) = &path
            && let Err(error) = readable(path)
        {
            let line = self.line(value);
            let message = format!("{} cannot be read: {error}", path.display());
            self.note(
                level,
                Some(line),
                message,
                "make it readable, or change the path".into(),
            );
        }
        *into = path;
    }

    /// A secret: a text, or `{ file = "path" }`. `None` when something is wrong with it; it may be empty only when it
    /// stands in the file.
    pub(super) fn secret(&mut self, value: Value<'_>) -> Option<Secret> {
        if value.0.get_ref().is_table() {
            let mut path = PathBuf::new();
            self.table(value, keys::SECRET, &mut path);
            return if path.as_os_str().is_empty() {
                None
            } else {
                self.secret_file(value, &path)
            };
        }
        if !value.0.get_ref().is_str() {
            self.wrong_type(value, "a text", "it in \"quotes\", or { file = \"path\" }");
            return None;
        }
        let text = self.text(value)?;
        if text == HIDDEN {
            match self.purpose {
                Purpose::Run => {
                    self.error(
                        value,
                        "the secret is hidden here",
                        "put the secret itself in",
                    );
                    return None;
                }
                Purpose::Check => {
                    self.warning(
                        value,
                        "the secret is hidden here",
                        "put the secret itself in",
                    );
                }
            }
        }
        self.has_secrets |= !text.is_empty() && text != HIDDEN;
        Some(Secret::new(text.into()))
    }

    fn secret_file(&mut self, value: Value<'_>, path: &Path) -> Option<Secret> {
        let shown = path.display();
        match read_secret(path) {
            Ok(secret) if secret.reveal().is_empty() => {
                self.error(value, format!("{shown} is empty"), "put the secret into it");
            }
            Ok(secret) if secret.reveal().chars().any(char::is_control) => self.error(
                value,
                format!("{shown} has more than one line, or control characters"),
                "leave only the secret in it",
            ),
            Ok(secret) => return Some(secret),
            Err(error) => self.error(
                value,
                format!("{shown} cannot be read: {error}"),
                "make it readable, or change the path",
            ),
        }
        None
    }
}

/// Whether a file can be read now.
fn readable(path: &Path) -> io::Result<()> {
    match fs::File::open(path)?.metadata()?.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(()),
    }
}

/// The text of a file without the line ends that close it.
fn read_secret(path: &Path) -> io::Result<Secret> {
    readable(path)?;
    let mut text = String::new();
    let file = fs::File::open(path)?;
    let read = io::Read::read_to_string(&mut io::Read::take(file, LARGEST_SECRET + 1), &mut text)?;
    if read as u64 > LARGEST_SECRET {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(Secret::new(text))
}
