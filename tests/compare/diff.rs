//! What was heard directly and through carom, side by side: who spoke hears the same as on a direct connection; the other
//! clients of the same person hear all but the answers to what they did not ask.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::play::{Heard, Play, every};
use super::script::{Conversation, Step};

/// The command of a normalised line.
fn command(line: &str) -> &str {
    let mut words = line.split(' ');
    let first = words.next().unwrap_or_default();
    if first.starts_with('@') {
        words.next();
    }
    words.next().unwrap_or_default()
}

fn untagged(line: &str) -> &str {
    match line.strip_prefix('@') {
        Some(rest) => rest.split_once(' ').map_or("", |(_, line)| line),
        None => line,
    }
}

fn is_from(line: &str, who: &str) -> bool {
    let source = untagged(line).split(' ').next().unwrap_or_default();
    // The nick may be another by now, the user name is not.
    source.contains(&format!("!{who}@"))
}

/// What of the lines that a person hears on a direct connection, as an answer and as news, his other client hears.
fn for_companion(lines: &[String]) -> Vec<String> {
    // What is told of a channel comes to all who come to see it.
    let joined = lines.iter().any(|line| command(line) == "JOIN");
    let is_news = |line: &&String| match command(line) {
        "332" | "333" | "353" | "366" => joined,
        // Whether the person is away, and what he is called, is true of all of his clients.
        "305" | "306" | "396" | "900" | "901" => true,
        // The server answers in words, too.
        "NOTICE" if untagged(line).starts_with("SERVER ") => false,
        "PONG" | "CAP" | "FAIL" | "WARN" | "NOTE" | "ACK" | "BATCH" => false,
        number => number.parse::<u16>().is_err(),
    };
    // A label is the asker's.
    lines
        .iter()
        .filter(is_news)
        .map(|line| without_label(line))
        .collect()
}

fn without_label(line: &str) -> String {
    let Some((tags, rest)) = line.strip_prefix('@').and_then(|line| line.split_once(' ')) else {
        return line.to_owned();
    };
    let tags: Vec<_> = tags
        .split(';')
        .filter(|tag| !tag.starts_with("label="))
        .collect();
    match tags.is_empty() {
        true => rest.to_owned(),
        false => format!("@{} {rest}", tags.join(";")),
    }
}

/// All that differs in all plays, for people; empty when nothing does.
pub fn compare(conversation: &Conversation, heard: &[(Play, Heard)]) -> String {
    // The same in several plays is told once.
    let mut complaints: BTreeMap<(usize, String), BTreeSet<String>> = BTreeMap::new();
    let of = |play: Play| {
        heard
            .iter()
            .find(|(one, _)| *one == play)
            .map(|(_, heard)| heard)
    };
    let mut needed = vec![false; conversation.steps.len()];
    for (play, through) in heard.iter().filter(|(play, _)| !play.is_direct()) {
        let direct = of(play.model()).expect("the direct play");
        for (n, step) in conversation.steps.iter().enumerate() {
            let spoke_before = conversation.steps[..n].iter().filter(|s| s.who == step.who);
            let speaker = if play.is("double") {
                spoke_before.count() % 2
            } else {
                0
            };
            for ((who, client), got) in &through[n] {
                let expected = &direct[n][&(who.clone(), 0)];
                let companion = *who == step.who && *client != speaker;
                let (expected, got) = match companion {
                    true => (for_companion(expected), heard_of_own(got, who, *play)),
                    false => (expected.clone(), got.clone()),
                };
                let excused = |lines: &[String]| -> Vec<String> {
                    let is_excused = |line: &&String| {
                        step.excuses.iter().any(|e| e.is_for(command(line), *play))
                    };
                    lines
                        .iter()
                        .filter(|line| !is_excused(line))
                        .cloned()
                        .collect()
                };
                let (rest, got_rest) = (excused(&expected), excused(&got));
                needed[n] |= expected != got;
                if rest != got_rest {
                    let which = if companion { "other client" } else { "client" };
                    let mut text =
                        format!("  {}: {}\n    {who}'s {which}:\n", step.who, shown(step));
                    text += &diff(&rest, &got_rest);
                    complaints
                        .entry((n, text))
                        .or_default()
                        .insert(play.title());
                }
            }
        }
    }
    let mut complaint = String::new();
    for ((_, text), plays) in complaints {
        let plays: Vec<_> = plays.into_iter().collect();
        _ = writeln!(complaint, "  [{}]\n{text}", plays.join(" | "));
    }
    for (step, needed) in conversation.steps.iter().zip(needed) {
        if every() && !step.excuses.is_empty() && !needed {
            _ = writeln!(
                complaint,
                "  {}: {}: nothing differs: take its ~ out",
                step.who,
                shown(step)
            );
        }
    }
    complaint
}

fn shown(step: &Step) -> String {
    step.line
        .chars()
        .take(80)
        .collect::<String>()
        .escape_debug()
        .to_string()
}

/// What one client says the other one of the same person is shown, which a direct connection has nothing like unless it
/// asks for echoes.
fn heard_of_own(lines: &[String], who: &str, play: Play) -> Vec<String> {
    let is_own = |line: &&String| {
        let said = ["PRIVMSG", "NOTICE", "TAGMSG"].contains(&command(line));
        let answer = command(line) == "NOTICE" && untagged(line).starts_with("SERVER ");
        answer || play.is("plain") && is_from(line, who) && said
    };
    lines.iter().filter(|line| !is_own(line)).cloned().collect()
}

/// Line by line: ` ` the same, `-` heard directly alone, `+` heard through carom alone.
fn diff(expected: &[String], got: &[String]) -> String {
    let (rows, columns) = (expected.len(), got.len());
    let mut common = vec![vec![0usize; columns + 1]; rows + 1];
    for i in (0..rows).rev() {
        for j in (0..columns).rev() {
            common[i][j] = match expected[i] == got[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < rows || j < columns {
        let (sign, line) = if i < rows && j < columns && expected[i] == got[j] {
            i += 1;
            j += 1;
            (' ', &got[j - 1])
        } else if j < columns && (i == rows || common[i][j + 1] > common[i + 1][j]) {
            j += 1;
            ('+', &got[j - 1])
        } else {
            i += 1;
            ('-', &expected[i - 1])
        };
        _ = writeln!(out, "    {sign} {}", line.escape_debug());
    }
    out
}
