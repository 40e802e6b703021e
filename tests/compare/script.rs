//! Conversations as text. A file holds several:
//!
//! ```text
//! == a topic is set [word ...]       its name; the words: `plain` or `modern` alone, `single`: never two clients
//!                                    for a person; somebody's name: there too, saying nothing
//! alice: JOIN #room                  somebody says something, and all hear what comes of it
//! alice: PRIVMSG bob :\x01VERSION\x01 {400*x}    escapes, and something many times
//! ~ 366 why                          what follows a step: its lines of this command are not compared; the reason.
//!                                    `~ 366,353 double why`: only where two clients are one person; `~ * why`: none is
//! # A comment.
//! ```
//!
//! `alice`, `bob` and the like are people, `#room` is a channel: each play has its own.

use std::path::Path;

use super::play::Play;

/// Names that are people's, whatever their case.
const PEOPLE: &[&str] = &["alice", "bob", "carol", "dave", "alicia", "bobby"];

/// A conversation.
#[derive(Debug)]
pub struct Conversation {
    /// What it shows.
    pub name: String,
    /// The file and the line where it stands.
    place: String,
    words: Vec<String>,
    /// What is said.
    pub steps: Vec<Step>,
}

/// One thing said.
#[derive(Debug)]
pub struct Step {
    /// By whom.
    pub who: String,
    /// What, with names as they stand in the file.
    pub line: String,
    /// What is not compared.
    pub excuses: Vec<Excuse>,
}

/// A difference that is meant.
#[derive(Debug)]
pub struct Excuse {
    commands: Vec<String>,
    word: Option<String>,
}

impl Excuse {
    /// Whether a line of this command is not compared in such a play.
    pub fn is_for(&self, command: &str, play: Play) -> bool {
        self.word.as_deref().is_none_or(|word| play.is(word))
            && self.commands.iter().any(|c| c == "*" || c == command)
    }
}

impl Conversation {
    /// All that a file holds.
    pub fn read(path: &Path) -> Vec<Self> {
        let text = std::fs::read_to_string(path).unwrap();
        let file = path.file_name().unwrap().to_string_lossy();
        let mut read: Vec<Self> = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let place = format!("tests/compare/{file}:{}", n + 1);
            if let Some(title) = line.strip_prefix("== ") {
                let (name, words) = title.split_once(" [").unwrap_or((title, ""));
                let words = words.trim_end_matches(']').split(' ');
                read.push(Self {
                    name: name.to_owned(),
                    place,
                    words: words.filter(|w| !w.is_empty()).map(str::to_owned).collect(),
                    steps: Vec::new(),
                });
            } else if !line.is_empty() && !line.starts_with('#') {
                let conversation = read.last_mut().expect("a title before the first step");
                conversation
                    .add(line)
                    .unwrap_or_else(|| panic!("{place}: what is {line:?}?"));
            }
        }
        read
    }

    fn add(&mut self, line: &str) -> Option<()> {
        if let Some(excuse) = line.strip_prefix("~ ") {
            let (commands, why) = excuse.split_once(' ')?;
            let word = why
                .split(' ')
                .next()
                .filter(|word| Play::WORDS.contains(word));
            let excuse = Excuse {
                commands: commands.split(',').map(str::to_owned).collect(),
                word: word.map(str::to_owned),
            };
            self.steps.last_mut()?.excuses.push(excuse);
            return Some(());
        }
        let (who, line) = line.split_once(": ")?;
        self.steps.push(Step {
            who: who.to_owned(),
            line: expand(line),
            excuses: Vec::new(),
        });
        Some(())
    }

    /// Whether it is played so.
    pub fn is_played(&self, play: Play) -> bool {
        let has = |word: &str| self.words.iter().any(|w| w == word);
        !(has("plain") && play.is("modern")
            || has("modern") && play.is("plain")
            || has("single") && play.is("double"))
    }

    /// Who takes part, in the order of their first words.
    pub fn people(&self) -> Vec<&str> {
        let mut people: Vec<&str> = Vec::new();
        let silent = self.words.iter().filter(|w| PEOPLE.contains(&w.as_str()));
        for who in self.steps.iter().map(|step| &step.who).chain(silent) {
            if !people.contains(&who.as_str()) {
                people.push(who);
            }
        }
        people
    }

    /// Its name and place.
    pub fn title(&self) -> String {
        format!("{}: {}", self.place, self.name)
    }
}

/// `\x01` and `{3*ab}`.
fn expand(line: &str) -> String {
    let controls = [("\\x01", "\x01"), ("\\x02", "\x02"), ("\\x03", "\x03")];
    let mut line = controls
        .iter()
        .fold(line.to_owned(), |line, (escape, control)| {
            line.replace(escape, control)
        });
    while let Some((before, rest)) = line.split_once('{') {
        let (inner, after) = rest.split_once('}').expect("a closing brace");
        let (times, text) = inner.split_once('*').expect("{3*ab}");
        let times = times.parse().expect("a number");
        line = [before, &text.repeat(times), after].concat();
    }
    line
}

/// A line as it is said in a play: people and channels have its suffix behind their names.
pub fn localised(line: &str, suffix: &str) -> String {
    let mut out = String::with_capacity(line.len() + 32);
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '*' | '?');
        let channel = first == '#';
        let skip = usize::from(channel);
        let end = rest[skip..]
            .find(|c| !is_name(c))
            .map_or(rest.len(), |n| n + skip);
        if end == skip {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(end);
        out.push_str(word);
        if channel || PEOPLE.contains(&word.to_ascii_lowercase().as_str()) {
            out.push_str(suffix);
        }
        rest = after;
    }
    out
}

#[test]
fn people_and_channels_belong_to_a_play() {
    assert_eq!(
        localised("MODE #room +ob ALICE bob!*@x :alice's {#} éa", "_1"),
        "MODE #room_1 +ob ALICE_1 bob_1!*@x :alice_1's {#} éa"
    );
    assert_eq!(expand("a {3*xy} \\x01"), "a xyxyxy \x01");
}
