//! From words to a row of the vocabulary, and to what was said with it: parameters and options, still as text. What
//! they mean for each verb is `build`'s.

use std::fmt;

use super::rows::ROWS;
use super::split::{Scan, scan};
use super::table::{Kind, Need, Opt, Row};
use crate::config::nearest::nearest;

/// Why words are no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing was said.
    #[error("nothing was said; \"help\" lists the commands")]
    Empty,
    /// No command begins like this.
    #[error("there is no \"{said}\"{}; \"help\" lists the commands", meant(.nearest.as_deref()))]
    Unknown {
        /// The words up to the one that is not known.
        said: String,
        /// What was perhaps meant.
        nearest: Option<String>,
    },
    /// The abbreviation stands for more than one word.
    #[error("\"{said}\" may be {}", .choices.join(" or "))]
    Ambiguous {
        /// The words up to the abbreviation.
        said: String,
        /// What it may stand for.
        choices: Vec<String>,
    },
    /// A word more is needed.
    #[error("\"{said}\" needs another word: {}", .choices.join(", "))]
    Incomplete {
        /// The words so far.
        said: String,
        /// What may follow.
        choices: Vec<String>,
    },
    /// The words are a command; what follows them does not fit.
    #[error("{problem}; it is said like this: {usage}")]
    Usage {
        /// What does not fit.
        problem: String,
        /// How the command is said.
        usage: String,
    },
    /// A quote that is never closed, or the like.
    #[error("{0}")]
    Broken(String),
}

fn meant(nearest: Option<&str>) -> String {
    nearest
        .map(|word| format!(", did you mean \"{word}\"?"))
        .unwrap_or_default()
}

/// What was said, in words, and the line they were taken from when there was one.
#[derive(Clone, Default)]
pub(super) struct Said {
    words: Vec<String>,
    /// The line, and where each word begins in it.
    line: Option<(String, Vec<usize>)>,
    broken: Option<String>,
}

/// Words may be secret.
impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Said({} words)", self.words.len())
    }
}

impl Said {
    /// A line as a person types it.
    pub(super) fn line(line: &str) -> Self {
        let Scan { words, broken } = scan(line);
        let (starts, words) = words.into_iter().unzip();
        Self {
            words,
            line: Some((line.to_owned(), starts)),
            broken,
        }
    }

    /// Words that somebody else has taken apart.
    pub(super) fn words(words: &[String]) -> Self {
        Self {
            words: words.to_vec(),
            ..Self::default()
        }
    }

    /// What is wrong with the last word, if it breaks off.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    pub(super) fn list(&self) -> &[String] {
        &self.words
    }

    /// Everything from a word on: as it stands in the line, but for quotes around the whole.
    pub(super) fn from(&self, n: usize) -> Self {
        match &self.line {
            Some((_, starts)) if starts.len() == n + 1 && self.broken.is_none() => Self {
                words: vec![self.words[n].clone()],
                line: Some((self.words[n].clone(), vec![0])),
                broken: None,
            },
            Some((line, starts)) => match starts.get(n) {
                Some(start) => Self::line(&line[*start..]),
                None => Self::default(),
            },
            None => Self::words(self.words.get(n..).unwrap_or_default()),
        }
    }

    /// The text of it.
    pub(super) fn text(&self) -> String {
        match &self.line {
            Some((line, _)) => line.trim_end().to_owned(),
            None => self.words.join(" "),
        }
    }
}

/// A row and what was said with it.
#[derive(Debug)]
pub(super) struct Arguments {
    pub(super) row: &'static Row,
    values: Vec<(&'static str, String)>,
    /// What takes the rest of the line.
    pub(super) rest: Option<Said>,
    options: Vec<(&'static Opt, String)>,
}

impl Arguments {
    /// Finds the row and takes apart what follows.
    pub(super) fn of(said: &Said) -> Result<Self, ParseError> {
        let row = find(&said.words)?;
        let mut arguments = Self {
            row,
            values: Vec::new(),
            rest: None,
            options: Vec::new(),
        };
        let mut plain = Vec::new();
        let takes_rest = |need| matches!(need, Need::Rest | Need::MaybeRest);
        let rest_at = row.parameters.iter().position(|p| takes_rest(p.need));
        let (mut at, mut options_end) = (row.words.len(), row.options.is_empty());
        while let Some(word) = said.words.get(at) {
            let option = word.strip_prefix('-').filter(|name| !name.is_empty());
            match option {
                Some("-") if !options_end => options_end = true,
                Some(name) if !options_end => at = arguments.take_option(name, said, at)?,
                _ if rest_at == Some(plain.len()) => {
                    arguments.rest = Some(said.from(at));
                    break;
                }
                _ => plain.push(word.clone()),
            }
            at += 1;
        }
        if let (Some(problem), None) = (&said.broken, &arguments.rest) {
            return Err(ParseError::Broken(problem.clone()));
        }
        arguments.assign(plain)?;
        arguments.check_required()?;
        Ok(arguments)
    }

    /// Takes an option whose name stands at `at`. Returns where its value ends.
    fn take_option(&mut self, name: &str, said: &Said, at: usize) -> Result<usize, ParseError> {
        let name = name.strip_prefix('-').unwrap_or(name);
        let option = self.find_option(name)?;
        if option.kind != Kind::List && self.has(option.name) {
            return Err(self.usage(format!("-{} is said twice", option.name)));
        }
        if option.kind == Kind::Flag {
            self.options.push((option, String::new()));
            return Ok(at);
        }
        let Some(value) = said.words.get(at + 1) else {
            let problem = format!("-{} needs a value: {}", option.name, option.usage());
            return Err(self.usage(problem));
        };
        self.options.push((option, value.clone()));
        Ok(at + 1)
    }

    fn find_option(&self, name: &str) -> Result<&'static Opt, ParseError> {
        let lower = name.to_ascii_lowercase();
        if let Some(option) = self.row.option(&lower) {
            return Ok(option);
        }
        let names = self.row.options.iter().map(|option| option.name);
        let begun: Vec<&str> = names.clone().filter(|n| n.starts_with(&lower)).collect();
        match (&begun[..], nearest(&lower, names)) {
            ([one], _) => Ok(self.row.option(one).expect("it was found there")),
            ([], Some(near)) => {
                Err(self.usage(format!("there is no option -{name}, did you mean -{near}?")))
            }
            ([], None) => {
                let names: Vec<_> = self.row.options.iter().map(|o| o.name).collect();
                let names = names.join(", -");
                Err(self.usage(format!("there is no option -{name}, only -{names}")))
            }
            (several, _) => {
                let several = several.join(" or -");
                Err(self.usage(format!("-{name} may be -{several}")))
            }
        }
    }

    /// Which word is which parameter: those that must be there come first.
    fn assign(&mut self, plain: Vec<String>) -> Result<(), ParseError> {
        let single = |need| matches!(need, Need::One | Need::Maybe);
        let parameters: Vec<_> = self
            .row
            .parameters
            .iter()
            .filter(|p| single(p.need))
            .collect();
        let required = parameters.iter().filter(|p| p.need == Need::One).count();
        if plain.len() > parameters.len() {
            // What is secret is not repeated, and where something is, anything may be.
            let problem = if self.row.has_secrets() {
                "there is a word too many (quotes hold words together)".to_owned()
            } else {
                format!("\"{}\" is a word too many", plain[parameters.len()])
            };
            return Err(self.usage(problem));
        }
        let mut spare = plain.len().saturating_sub(required);
        let mut plain = plain.into_iter();
        for parameter in parameters {
            if parameter.need == Need::Maybe {
                if spare == 0 {
                    continue;
                }
                spare -= 1;
            }
            let Some(value) = plain.next() else {
                return Err(self.usage(format!("{} is missing", parameter.name)));
            };
            self.values.push((parameter.name, value));
        }
        let last = self.row.parameters.last();
        match last.filter(|p| p.need == Need::Rest && self.rest.is_none()) {
            Some(missing) => Err(self.usage(format!("{} is missing", missing.name))),
            None => Ok(()),
        }
    }

    fn check_required(&self) -> Result<(), ParseError> {
        let missing = |option: &&Opt| option.required && !self.has(option.name);
        match self.row.options.iter().find(missing) {
            Some(option) => Err(self.usage(format!("{} is missing", option.usage()))),
            None => Ok(()),
        }
    }

    /// What was said does not fit.
    pub(super) fn usage(&self, problem: String) -> ParseError {
        ParseError::Usage {
            problem,
            usage: self.row.usage(),
        }
    }

    /// Takes a parameter.
    pub(super) fn value(&mut self, name: &str) -> Option<String> {
        let at = self.values.iter().position(|(n, _)| *n == name)?;
        Some(self.values.remove(at).1)
    }

    /// Takes a parameter that was held to be there.
    pub(super) fn required(&mut self, name: &str) -> String {
        self.value(name).unwrap_or_default()
    }

    /// Takes the value of an option.
    pub(super) fn option(&mut self, name: &str) -> Option<String> {
        let at = self.options.iter().position(|(o, _)| o.name == name)?;
        Some(self.options.remove(at).1)
    }

    /// Whether an option was said.
    pub(super) fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(option, _)| option.name == name)
    }

    /// The options that are left.
    pub(super) fn options(&self) -> &[(&'static Opt, String)] {
        &self.options
    }

    /// The text to the end of the line.
    pub(super) fn rest_text(&self) -> String {
        self.rest.as_ref().map(Said::text).unwrap_or_default()
    }
}

/// The row that words begin with.
fn find(words: &[String]) -> Result<&'static Row, ParseError> {
    let (rows, depth) = narrow(words)?;
    let choices = choices(&rows, depth);
    match rows[..] {
        [row] if choices.is_empty() => Ok(row),
        _ if depth == 0 => Err(ParseError::Empty),
        _ => Err(ParseError::Incomplete {
            said: so_far(&rows, depth),
            choices,
        }),
    }
}

/// The rows that agree with `words` as far as these go (what comes after a complete command is not looked at), and how
/// many words they have in common. There is one row at least.
pub(super) fn narrow(words: &[String]) -> Result<(Vec<&'static Row>, usize), ParseError> {
    let mut rows: Vec<&'static Row> = ROWS.iter().collect();
    let mut depth = 0;
    for word in words {
        let choices = choices(&rows, depth);
        if choices.is_empty() {
            break;
        }
        let chosen = choose(word, &choices).map_err(|mistake| match mistake {
            Mistake::Ambiguous(choices) => ParseError::Ambiguous {
                said: joined(&rows, depth, word),
                choices,
            },
            Mistake::Unknown(nearest) => ParseError::Unknown {
                said: joined(&rows, depth, word),
                nearest: match nearest {
                    Some(nearest) => Some(joined(&rows, depth, &nearest)),
                    None => with_a_first_word(word).filter(|_| depth == 0),
                },
            },
        })?;
        rows.retain(|row| row.words.get(depth) == Some(&chosen.as_str()));
        depth += 1;
    }
    Ok((rows, depth))
}

/// The only command that has this word in second place, whose first one was perhaps forgotten.
fn with_a_first_word(word: &str) -> Option<String> {
    let is_second = |row: &&Row| {
        let second = row.words.get(1);
        second.is_some_and(|second| second.eq_ignore_ascii_case(word))
    };
    let mut rows = ROWS.iter().filter(is_second);
    let only = rows.next().filter(|_| rows.next().is_none())?;
    Some(only.words.join(" "))
}

fn so_far(rows: &[&'static Row], depth: usize) -> String {
    rows.first()
        .map(|row| row.words[..depth].join(" "))
        .unwrap_or_default()
}

fn joined(rows: &[&'static Row], depth: usize, word: &str) -> String {
    let mut said = so_far(rows, depth);
    if depth > 0 {
        said.push(' ');
    }
    said + word
}

/// What may stand at `depth`. Nothing when the command is complete, for no command is the beginning of another one.
fn choices(rows: &[&'static Row], depth: usize) -> Vec<String> {
    let mut choices: Vec<String> = Vec::new();
    for word in rows.iter().filter_map(|row| row.words.get(depth)) {
        if choices.last().is_none_or(|last| last != word) {
            choices.push((*word).to_owned());
        }
    }
    choices
}

pub(super) enum Mistake {
    Ambiguous(Vec<String>),
    Unknown(Option<String>),
}

pub(super) fn choose(said: &str, choices: &[String]) -> Result<String, Mistake> {
    let said = said.to_ascii_lowercase();
    if choices.contains(&said) {
        return Ok(said);
    }
    let begun: Vec<&String> = choices
        .iter()
        .filter(|word| !said.is_empty() && word.starts_with(&said))
        .collect();
    let near = || nearest(&said, choices.iter().map(String::as_str)).map(str::to_owned);
    match begun[..] {
        [word] => Ok(word.clone()),
        [] => Err(Mistake::Unknown(near())),
        _ => Err(Mistake::Ambiguous(begun.into_iter().cloned().collect())),
    }
}
