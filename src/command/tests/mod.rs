//! Every verb as it is said, every mistake as it is answered, and who may say what.

use std::time::Duration;

use proptest::prelude::*;

use super::permit::{Denied, Which, Whose, permit};
use super::table::{Kind, Need};
use super::*;
use crate::config::keys;
use crate::config::overlay::Options;

#[rustfmt::skip] // tables: one row on one line
mod promised;
#[rustfmt::skip] // tables: one row on one line
mod sentences;

use sentences::{MISTAKES, PERMISSIONS, of_bip, sentences};

fn said(line: &str) -> Result<Command, String> {
    let request = parse_line(line).map_err(|error| error.to_string())?;
    Ok(request.command)
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn options() -> Options {
    Options::new()
}

#[test]
fn every_verb_can_be_said() {
    let sentences = sentences();
    for (line, network, command) in &sentences {
        let request = parse_line(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(&request.command, command, "{line}");
        assert_eq!(request.network.as_deref(), *network, "{line}");
    }
    for row in ROWS {
        let begins = |line: &str| split(line).is_ok_and(|w| w.starts_with(&words_of(row)));
        let said = sentences.iter().any(|(line, ..)| begins(line));
        let exempt = [
            Verb::NetworkQuote,
            Verb::NetworkConnect,
            Verb::ServerNotice,
            Verb::HistorySearch,
        ];
        assert!(
            said || exempt.contains(&row.verb),
            "{:?} is not tested",
            row.words
        );
    }
}

fn words_of(row: &Row) -> Vec<String> {
    row.words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn words_of_a_shell_are_not_split_again() {
    let words = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        parse(&words).unwrap().command
    };
    assert_eq!(
        words(&["password", "it's two words"]),
        Command::Password {
            old: None,
            new: secret("it's two words")
        }
    );
    assert_eq!(
        words(&["network", "quote", "oftc", "MODE", "a", "+i"]),
        Command::NetworkQuote(secret("MODE a +i"))
    );
    assert_eq!(
        words(&["history", "reset", "--", "-odd"]),
        Command::HistoryReset {
            target: Some("-odd".into()),
            quiet: false
        }
    );
}

#[test]
fn mistakes_are_explained() {
    for (line, answer) in MISTAKES {
        assert_eq!(said(line), Err((*answer).to_owned()), "{line}");
    }
}

#[test]
fn the_words_of_bip_say_ours() {
    for (line, network, command) in of_bip() {
        let request = parse_line(&format!("bip {line}")).unwrap();
        assert_eq!(
            (request.network, request.command),
            (network, command),
            "{line}"
        );
    }
    let everybody = parse_line("bip LIST all_connections").unwrap();
    assert_eq!(everybody.role, Role::Admin);
}

#[test]
fn secrets_are_never_said_again() {
    for line in [
        "password a b hunter2",
        "sasl set-plain apw",
        "sasl set-plain apw hunter2 hunter2",
        "network update x -pass hunter2 -pass hunter2",
        "network update x hunter2 -pass y",
        "network create -name x -addr y -connect-command hunter2 hunter2",
        "user create -username bob -password hunter2 hunter2",
        "user run bob password a b hunter2",
    ] {
        let answer = said(line).unwrap_err();
        assert!(!answer.contains("hunter2"), "{line}: {answer}");
    }
    for line in [
        "password hunter2",
        "sasl set-plain apw hunter2",
        "network quote x PASS hunter2",
        "network update x -pass hunter2 -connect-command hunter2",
        "channel create #x -key hunter2",
        "user create -username bob -password hunter2",
        "user run bob password hunter2",
    ] {
        let shown = format!("{:?}", parse_line(line).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn roles_and_networks_decide_what_may_be_said() {
    let judge = |line: &str, role, whose| -> String {
        let request = parse_line(line).unwrap();
        let whose = match &request.command {
            Command::UserUpdate(Some(_), ..) => Whose::Other,
            _ => whose,
        };
        [Which::None, Which::Down, Which::Up]
            .map(|which| match permit(&request, role, whose, which) {
                Ok(()) => '+',
                Err(Denied::Admins(_)) => 'A',
                Err(Denied::Others(_)) => 'O',
                Err(Denied::NoUsers) => '0',
                Err(Denied::WhichUser(_)) => 'U',
                Err(Denied::WhichNetwork(_)) => 'N',
                Err(Denied::Down) => 'D',
            })
            .iter()
            .collect()
    };
    for (line, user, admin, control, several) in PERMISSIONS {
        assert_eq!(judge(line, Role::User, Whose::One), *user, "{line}, user");
        assert_eq!(
            judge(line, Role::Admin, Whose::One),
            *admin,
            "{line}, administrator"
        );
        assert_eq!(
            judge(line, Role::Control, Whose::One),
            *control,
            "{line}, control socket"
        );
        assert_eq!(
            judge(line, Role::Control, Whose::Several),
            *several,
            "{line}, several users"
        );
        let none = several.replace('U', "0").replace(
            "+++",
            match parse_line(line).unwrap().row.subject {
                Subject::Everybody => "000",
                _ => "+++",
            },
        );
        assert_eq!(
            judge(line, Role::Control, Whose::None),
            none,
            "{line}, no users"
        );
    }
}

#[test]
fn who_is_refused_is_told_what_to_do() {
    let refusal = |line: &str, role, whose| {
        let request = parse_line(line).unwrap();
        permit(&request, role, whose, Which::None)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refusal("server dump", Role::User, Whose::One),
        "only administrators may say \"server dump\""
    );
    assert_eq!(
        refusal("user update bob -nick b", Role::User, Whose::Other),
        "only administrators may say \"user update\" of others; without a name it is about you"
    );
    assert_eq!(
        refusal("network jump", Role::Control, Whose::Several),
        "there are several users: say \"user run USER network jump\""
    );
    assert_eq!(
        refusal("network jump", Role::User, Whose::One),
        "which network? it is said like this: network jump NETWORK"
    );
    assert_eq!(
        refusal("history reset", Role::User, Whose::One),
        "which network? add -network NETWORK"
    );
}

#[test]
fn the_table_is_consistent() {
    let known: Vec<&str> = keys::tables()
        .into_iter()
        .flat_map(|(_, keys)| keys)
        .collect();
    for row in ROWS {
        assert_eq!(row.verb.row().words, row.words);
        let begun = ROWS
            .iter()
            .filter(|other| other.words.starts_with(row.words));
        assert_eq!(begun.count(), 1, "{:?}", row.words);
        assert!(
            !row.summary.ends_with('.') && !row.examples.is_empty(),
            "{:?}",
            row.words
        );
        for example in row.examples {
            // What is left out with dots is no value.
            let request = parse_line(&example.replace("0123...", &"01".repeat(32)));
            let request = request.unwrap_or_else(|error| panic!("{example}: {error}"));
            assert!(request.row == row || row.verb == Verb::Bip, "{example}");
        }
        let takes_rest = |need: Need| matches!(need, Need::Rest | Need::MaybeRest);
        let rest = row.parameters.iter().position(|p| takes_rest(p.need));
        assert!(
            rest.is_none_or(|at| at + 1 == row.parameters.len()),
            "{:?}",
            row.words
        );
        for option in row.options {
            let key = option.key.rsplit('.').next().unwrap_or_default();
            assert!(
                key.is_empty() || known.contains(&key),
                "{} is no key",
                option.key
            );
            assert!(row.options.iter().filter(|o| o.name == option.name).count() == 1);
            assert!(option.kind == Kind::Flag || !option.value.is_empty());
        }
    }
}

#[test]
fn help_lists_what_one_may_say() {
    let all = help::list(Role::Admin);
    assert_eq!(all.len(), ROWS.len() + 1);
    let mine = help::list(Role::User);
    assert!(mine.len() < all.len() && mine.iter().all(|line| !line.starts_with("server ")));
    let words: Vec<_> = all[0].split_whitespace().collect();
    assert_eq!(
        words.join(" "),
        "help [WORDS] lists the commands, or explains one"
    );
}

#[test]
fn help_explains_one_command_or_a_group() {
    let group = help::about("network", Role::User).unwrap();
    assert!(group.len() > 5 && group[0].starts_with("network create -name NAME -addr URL"));
    for words in ["network create", "net cr", "network create oftc"] {
        let lines = help::about(words, Role::User).unwrap();
        assert_eq!(
            lines[0],
            "network create -name NAME -addr URL [OPTIONS]: makes a network and connects to it"
        );
        let has = |part: &str| lines.iter().any(|line| line.contains(part));
        assert!(has("  -family FAMILY") && has("for example: network create -name oftc"));
    }
    let answer = help::about("sttaus", Role::User).unwrap_err().to_string();
    assert!(answer.contains("did you mean \"status\""), "{answer}");
    let hidden = help::about("server dump", Role::User)
        .unwrap_err()
        .to_string();
    assert_eq!(
        hidden,
        "there is no \"server dump\"; \"help\" lists the commands"
    );
    assert!(
        help::about("network status", Role::Admin)
            .unwrap()
            .iter()
            .any(|l| l.contains("-all"))
    );
    assert!(
        !help::about("network status", Role::User)
            .unwrap()
            .iter()
            .any(|l| l.contains("-all"))
    );
}

proptest! {
    #[test]
    fn any_words_are_answered(words in prop::collection::vec(".{0,12}", 0..5)) {
        if let Err(error) = parse(&words) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn any_line_after_a_verb_is_answered(row in 0..ROWS.len(), rest in "[-a-z#'\" \\\\0-9]{0,40}") {
        let line = format!("{} {rest}", ROWS[row].words.join(" "));
        if let Err(error) = parse_line(&line) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn a_suggestion_is_a_command(said in "[a-z]{1,9}") {
        if let Err(ParseError::Unknown { nearest: Some(word), .. }) = parse(&[said]) {
            prop_assert!(ROWS.iter().any(|row| row.words[0] == word || row.words.join(" ") == word));
        }
    }
}
