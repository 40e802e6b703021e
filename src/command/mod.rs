//! What can be said to carom: the table of verbs, and the way from words to a `Command`. The service, `CAROM` and
//! `carom ctl` share it. Pure: to carry a command out is left to others.

pub mod help;
mod split;

pub use split::split;

/// Who may say something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authority {
    /// Everybody, about what is theirs.
    User,
    /// Administrators.
    Admin,
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verb {
    Help,
    Status,
    NetworkStatus,
    NetworkExplain,
    ClientStatus,
}

/// One line of the vocabulary.
#[derive(Debug)]
pub struct Row {
    /// What is done.
    pub verb: Verb,
    /// The words that say so.
    pub words: &'static [&'static str],
    /// What follows them, as help shows it.
    pub parameters: &'static str,
    /// What it is for, in a line.
    pub summary: &'static str,
    /// Who may.
    pub authority: Authority,
}

/// The vocabulary, in the order of help.
pub static ROWS: &[Row] = &[
    Row {
        verb: Verb::Help,
        words: &["help"],
        parameters: "[WORDS]",
        summary: "lists the commands, or explains one",
        authority: Authority::User,
    },
    Row {
        verb: Verb::Status,
        words: &["status"],
        parameters: "",
        summary: "shows your networks and clients",
        authority: Authority::User,
    },
    Row {
        verb: Verb::NetworkStatus,
        words: &["network", "status"],
        parameters: "[NAME]",
        summary: "shows the state of your networks, or of one",
        authority: Authority::User,
    },
    Row {
        verb: Verb::NetworkExplain,
        words: &["network", "explain"],
        parameters: "[NAME]",
        summary: "shows which addresses were tried, what came of it, and what is next",
        authority: Authority::User,
    },
    Row {
        verb: Verb::ClientStatus,
        words: &["client", "status"],
        parameters: "",
        summary: "shows your attached clients",
        authority: Authority::User,
    },
];

impl Row {
    /// How it is said, parameters and all.
    pub fn usage(&self) -> String {
        let mut usage = self.words.join(" ");
        if !self.parameters.is_empty() {
            usage.push(' ');
            usage.push_str(self.parameters);
        }
        usage
    }
}

impl Verb {
    /// Its row in the table.
    pub fn row(self) -> &'static Row {
        ROWS.iter()
            .find(|row| row.verb == self)
            .expect("each verb has a row, as a test holds")
    }
}

/// Something to be done, understood and complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Lists what can be said, or explains what these words say.
    Help(Option<String>),
    /// Networks and clients of the user.
    Status,
    /// The state of all networks or of one.
    NetworkStatus(Option<String>),
    /// The last attempts to connect of all networks or of one.
    NetworkExplain(Option<String>),
    /// The attached clients.
    ClientStatus,
}

impl Command {
    /// What kind it is; whoever carries it out looks up in the verb's row who may.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Help(_) => Verb::Help,
            Self::Status => Verb::Status,
            Self::NetworkStatus(_) => Verb::NetworkStatus,
            Self::NetworkExplain(_) => Verb::NetworkExplain,
            Self::ClientStatus => Verb::ClientStatus,
        }
    }
}

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
}

fn meant(nearest: Option<&str>) -> String {
    nearest
        .map(|word| format!(", did you mean \"{word}\"?"))
        .unwrap_or_default()
}

/// Understands words. Each word of a command may be abbreviated as long as it stands for one word only.
pub fn parse(words: &[String]) -> Result<Command, ParseError> {
    let row = find(words)?;
    let arguments = &words[row.words.len()..];
    let at_most = |count: usize| match arguments.get(count) {
        Some(extra) => Err(ParseError::Usage {
            problem: format!("\"{extra}\" is a word too many"),
            usage: row.usage(),
        }),
        None => Ok(()),
    };
    match row.verb {
        Verb::Help => {
            let about = arguments.join(" ");
            Ok(Command::Help(Some(about).filter(|about| !about.is_empty())))
        }
        Verb::Status => at_most(0).map(|()| Command::Status),
        Verb::NetworkStatus => {
            at_most(1).map(|()| Command::NetworkStatus(arguments.first().cloned()))
        }
        Verb::NetworkExplain => {
            at_most(1).map(|()| Command::NetworkExplain(arguments.first().cloned()))
        }
        Verb::ClientStatus => at_most(0).map(|()| Command::ClientStatus),
    }
}

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
fn narrow(words: &[String]) -> Result<(Vec<&'static Row>, usize), ParseError> {
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
                nearest: nearest.map(|nearest| joined(&rows, depth, &nearest)),
            },
        })?;
        rows.retain(|row| row.words.get(depth) == Some(&chosen.as_str()));
        depth += 1;
    }
    Ok((rows, depth))
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

enum Mistake {
    Ambiguous(Vec<String>),
    Unknown(Option<String>),
}

fn choose(said: &str, choices: &[String]) -> Result<String, Mistake> {
    let said = said.to_ascii_lowercase();
    if choices.contains(&said) {
        return Ok(said);
    }
    let begun: Vec<&String> = choices
        .iter()
        .filter(|word| !said.is_empty() && word.starts_with(&said))
        .collect();
    match begun[..] {
        [word] => Ok(word.clone()),
        [] => Err(Mistake::Unknown(nearest(&said, choices))),
        _ => Err(Mistake::Ambiguous(begun.into_iter().cloned().collect())),
    }
}

/// The word that was perhaps meant: up to a third of its letters may be wrong.
fn nearest(said: &str, words: &[String]) -> Option<String> {
    let near = |word: &&String| distance(said, word) <= word.len().div_ceil(3);
    words
        .iter()
        .filter(near)
        .min_by_key(|word| distance(said, word))
        .cloned()
}

/// How many letters have to be added, taken away, changed or swapped with the next one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut above = vec![usize::MAX; b.len() + 1];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1];
        for j in 0..b.len() {
            let mut least = (row[j] + usize::from(a[i] != b[j]))
                .min(row[j + 1] + 1)
                .min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(above[j - 1] + 1);
            }
            next.push(least);
        }
        above = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(line: &str) -> Result<Command, String> {
        parse(&split(line).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn words_become_commands() {
        for (line, command) in [
            ("help", Command::Help(None)),
            (
                "help network status",
                Command::Help(Some("network status".into())),
            ),
            ("status", Command::Status),
            ("network status", Command::NetworkStatus(None)),
            (
                "Network STATUS OFTC",
                Command::NetworkStatus(Some("OFTC".into())),
            ),
            (
                "network explain oftc",
                Command::NetworkExplain(Some("oftc".into())),
            ),
            ("client status", Command::ClientStatus),
        ] {
            assert_eq!(said(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn words_may_be_cut_short() {
        assert_eq!(said("n s"), Ok(Command::NetworkStatus(None)));
        assert_eq!(
            said("net stat x"),
            Ok(Command::NetworkStatus(Some("x".into())))
        );
        assert_eq!(said("c s"), Ok(Command::ClientStatus));
        assert_eq!(said("h"), Ok(Command::Help(None)));
    }

    #[test]
    fn mistakes_are_explained() {
        for (line, answer) in [
            ("", "nothing was said; \"help\" lists the commands"),
            (
                "netwrok status",
                "there is no \"netwrok\", did you mean \"network\"?; \"help\" lists the commands",
            ),
            (
                "network satus",
                "there is no \"network satus\", did you mean \"network status\"?; \"help\" lists \
                 the commands",
            ),
            (
                "frobnicate",
                "there is no \"frobnicate\"; \"help\" lists the commands",
            ),
            ("''", "there is no \"\"; \"help\" lists the commands"),
            ("network", "\"network\" needs another word: status, explain"),
            (
                "network status a b",
                "\"b\" is a word too many; it is said like this: network status [NAME]",
            ),
        ] {
            assert_eq!(said(line), Err(answer.to_owned()), "{line}");
        }
    }

    #[test]
    fn an_abbreviation_of_several_words_is_ambiguous() {
        let words = ["status", "sasl", "server"].map(str::to_owned);
        let Err(Mistake::Ambiguous(meant)) = choose("s", &words) else {
            panic!("one was chosen")
        };
        assert_eq!(meant, words);
        assert!(matches!(choose("sa", &words), Ok(word) if word == "sasl"));
        // A whole word is itself, also where it begins another one.
        let words = ["run", "runs"].map(str::to_owned);
        assert!(matches!(choose("run", &words), Ok(word) if word == "run"));
    }

    #[test]
    fn distances_are_counted_in_letters() {
        for (a, b, apart) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("stats", "status", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), apart, "{a} {b}");
            assert_eq!(distance(b, a), apart, "{b} {a}");
        }
    }

    #[test]
    fn each_row_can_be_said_and_none_is_the_beginning_of_another() {
        for row in ROWS {
            let words: Vec<String> = row.words.iter().map(|word| (*word).to_owned()).collect();
            let command = parse(&words).unwrap();
            assert_eq!(command.verb(), row.verb);
            assert_eq!(command.verb().row().words, row.words);
            let begun = ROWS
                .iter()
                .filter(|other| other.words.starts_with(row.words));
            assert_eq!(begun.count(), 1, "{:?}", row.words);
        }
    }

    proptest! {
        #[test]
        fn any_words_are_answered(words in prop::collection::vec(".{0,12}", 0..5)) {
            if let Err(error) = parse(&words) {
                prop_assert!(!error.to_string().is_empty());
            }
        }

        #[test]
        fn a_suggestion_is_a_command(said in "[a-z]{1,9}") {
            if let Err(ParseError::Unknown { nearest: Some(word), .. }) = parse(&[said]) {
                prop_assert!(ROWS.iter().any(|row| row.words[0] == word));
            }
        }
    }
}
