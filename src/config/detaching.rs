//! What is configured of detached channels, and the words that are meant for the user. What it means is `state`'s
//! (`detach`, `highlights`).

use std::time::Duration;

use super::check::UserDraft;
use super::reader::{Reader, Value};

/// At most so many words are looked for in each line.
const MAX_WORDS: usize = 100;
/// The longest of them.
const MAX_WORD: usize = 100;

/// Which messages of a channel are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    Messages,
    /// Those that name the user.
    Highlights,
    /// None.
    None,
}

/// The options of a channel that are about detaching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detaching {
    /// Whether it is kept from clients, until its user has it otherwise.
    pub detached: bool,
    /// What of a detached channel is told all the same.
    pub relay: Which,
    /// What brings a detached channel back.
    pub reattach: Which,
    /// After so long without a message of `on` it is detached; `None`: never.
    pub after: Option<Duration>,
    /// What counts for that.
    pub on: Which,
}

impl Default for Detaching {
    fn default() -> Self {
        Self {
            detached: false,
            relay: Which::Highlights,
            reattach: Which::None,
            after: None,
            on: Which::Messages,
        }
    }
}

impl Which {
    const WORDS: [(&str, Self); 3] = [
        ("message", Self::Messages),
        ("highlight", Self::Highlights),
        ("none", Self::None),
    ];

    /// As the file says it.
    pub fn word(self) -> &'static str {
        let mut words = Self::WORDS.into_iter();
        words
            .find(|(_, which)| *which == self)
            .map_or("none", |(word, _)| word)
    }
}

/// One of the words; `default` stands for what holds when the key is left out.
pub(super) fn which(value: Value<'_>, reader: &mut Reader<'_>, default: Which, into: &mut Which) {
    let [messages, highlights, none] = Which::WORDS;
    let words = [messages, highlights, none, ("default", default)];
    reader.word(value, &words, into);
}

/// 0 is never.
pub(super) fn after(value: Value<'_>, reader: &mut Reader<'_>, into: &mut Option<Duration>) {
    if let Some(span) = reader.duration(value) {
        *into = Some(span).filter(|span| !span.is_zero());
    }
}

/// Words that are meant for the user, beside the nick.
pub(super) fn highlights(draft: &mut UserDraft, value: Value<'_>, reader: &mut Reader<'_>) {
    let Some(items) = reader.list(value, "highlights = [\"word\"]") else {
        return;
    };
    if items.len() > MAX_WORDS {
        let message = format!("has {} words", items.len());
        return reader.error(value, message, format!("write at most {MAX_WORDS}"));
    }
    let mut words = Vec::with_capacity(items.len());
    for item in items {
        let Some(word) = reader.text(item) else {
            continue;
        };
        let word = word.trim();
        if word.is_empty() || word.len() > MAX_WORD {
            let remedy = format!("write words of 1 to {MAX_WORD} bytes, or leave it out");
            reader.error(item, format!("\"{word}\" is no word to look for"), remedy);
        } else {
            words.push(word.to_owned());
        }
    }
    draft.user.highlights = words;
}
