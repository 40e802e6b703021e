//! The text of `help` and of the manual, made from the table of verbs. A verb explains itself in its row; nothing is
//! written here twice.

use std::fmt::Write as _;

use super::parse::{ParseError, narrow};
use super::split::scan;
use super::table::{Kind, Need, Opt, Parameter, Row};
use super::{ROWS, Role};

/// The longest line of the manual.
const LINE: usize = 78;

/// Everything that may be said by those of this role, a line each.
pub fn list(role: Role) -> Vec<String> {
    let mut lines = summaries(&ROWS.iter().collect::<Vec<_>>(), role);
    lines.push("\"help COMMAND\" has its options and examples; words may be cut short".to_owned());
    lines
}

/// What the commands are for that begin with these words; of a single one everything there is to know.
pub fn about(words: &str, role: Role) -> Result<Vec<String>, ParseError> {
    let found: Vec<String> = scan(words)
        .words
        .into_iter()
        .map(|(_, word)| word)
        .collect();
    let (rows, _) = narrow(&found)?;
    let mut allowed = rows.iter().filter(|row| row.role <= role);
    match (allowed.next(), allowed.next()) {
        // As if it did not exist: what administrators may do is theirs to know.
        (None, _) => Err(ParseError::Unknown {
            said: words.to_owned(),
            nearest: None,
        }),
        (Some(row), None) => Ok(all_about(row, role)),
        _ => Ok(summaries(&rows, role)),
    }
}

fn summaries(rows: &[&Row], role: Role) -> Vec<String> {
    let rows: Vec<_> = rows.iter().filter(|row| row.role <= role).collect();
    let width = rows.iter().map(|row| row.usage().len()).max().unwrap_or(0);
    rows.iter()
        .map(|row| format!("{:width$}  {}", row.usage(), row.summary))
        .collect()
}

fn all_about(row: &Row, role: Role) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", row.usage(), row.summary)];
    if !row.about.is_empty() {
        lines.push(row.about.to_owned());
    }
    let options: Vec<_> = row.options.iter().filter(|o| o.role <= role).collect();
    let width = options.iter().map(|o| o.usage().len()).max().unwrap_or(0);
    let told = options
        .iter()
        .map(|o| format!("  {:width$}  {}", o.usage(), o.summary));
    lines.extend(told);
    let examples = row.examples.iter();
    lines.extend(examples.map(|example| format!("for example: {example}")));
    lines
}

/// The list of commands for carom-commands(7), in mdoc(7).
pub fn manual() -> String {
    let mut page = String::new();
    let mut group = "";
    for row in ROWS {
        if row.words[0] != group {
            if !group.is_empty() {
                page += ".El\n";
            }
            group = row.words[0];
            _ = writeln!(page, ".Ss {group}\n.Bl -tag -width Ds");
        }
        write_row(row, &mut page);
    }
    page + ".El\n"
}

fn write_row(row: &Row, page: &mut String) {
    _ = write!(page, ".It Ic {}", row.words.join(" "));
    for option in row.options.iter().filter(|option| option.required) {
        _ = write!(page, " {}", flag(option));
    }
    if row.options.iter().any(|option| !option.required) {
        page.push_str(" Oo Ar options Oc");
    }
    row.parameters
        .iter()
        .for_each(|p| _ = write!(page, " {}", parameter(p)));
    _ = writeln!(page, "\n{}.", sentence(row.summary));
    if row.role == Role::Admin {
        page.push_str("Administrators only.\n");
    }
    if !row.about.is_empty() {
        let about = row.about.trim_end_matches('.');
        page.push_str(&escaped(&about.replace(". ", ".\n")));
        page.push_str(".\n");
    }
    if !row.options.is_empty() {
        page.push_str(".Pp\n.Bl -tag -width Ds -compact\n");
        for option in row.options {
            let who = match option.role {
                Role::User => "",
                Role::Admin | Role::Control => " (administrators)",
            };
            let summary = escaped(option.summary);
            _ = writeln!(page, ".It {}\n{summary}{who}", flag(option));
        }
        page.push_str(".El\n");
    }
    page.push_str(".Pp\n");
    for example in row.examples {
        _ = writeln!(page, ".Dl {}", plain(example));
    }
}

fn flag(option: &Opt) -> String {
    match option.kind {
        Kind::Flag => format!("Fl {}", option.name),
        _ => format!("Fl {} Ar {}", option.name, option.value.to_lowercase()),
    }
}

fn parameter(parameter: &Parameter) -> String {
    let name = parameter.name.to_lowercase();
    match parameter.need {
        Need::One | Need::Rest => format!("Ar {name}"),
        Need::Maybe | Need::MaybeRest => format!("Oo Ar {name} Oc"),
    }
}

/// With a capital letter.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    escaped(&first.into_iter().chain(chars).collect::<String>())
}

/// As roff takes text: quotes and backslashes stand for themselves, lines are short, none begins with a control character.
fn escaped(text: &str) -> String {
    let text = plain(text);
    let mut lines: Vec<String> = Vec::new();
    for sentence in text.lines() {
        let mut line = String::new();
        for word in sentence.split(' ') {
            if !line.is_empty() && line.len() + word.len() >= LINE {
                lines.push(std::mem::take(&mut line));
            }
            line += if line.is_empty() { "" } else { " " };
            line += if line.is_empty() && word.starts_with('.') {
                "\\&"
            } else {
                ""
            };
            line += word;
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// The same within a line.
fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\e");
    text.replace('"', "\\(dq").replace('\'', "\\(aq")
}
