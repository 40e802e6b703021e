//! What is written about carom agrees with carom: every command, option and key is in its man page and in the example,
//! nothing else is, and each default that the example shows is the real one.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use carom::config::{self, Config, Findings, Purpose, Surroundings, keys};
use carom::state::conformance::{Offered, conformance};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tables of the file as the page and the example write them, and their keys, those of inline tables included.
fn tables() -> Vec<(&'static str, BTreeSet<&'static str>)> {
    let all = keys::tables();
    let keys_of = |wanted: &str| {
        all.iter()
            .find(|(name, _)| *name == wanted)
            .unwrap()
            .1
            .clone()
    };
    let headers = [
        ("[server]", &["server"] as &[_]),
        ("[tls]", &["tls"]),
        ("[storage]", &["storage"]),
        ("[history]", &["history"]),
        ("[log]", &["log"]),
        ("[limits]", &["limits"]),
        ("[dial]", &["dial"]),
        ("[[user]]", &["user"]),
        (
            "[[user.network]]",
            &[
                "user.network",
                "user.network.sasl",
                "user.network.tls",
                "user.network.flood",
            ],
        ),
        ("[[user.network.channel]]", &["user.network.channel"]),
    ];
    let tables: Vec<(_, BTreeSet<_>)> = headers
        .iter()
        .map(|(header, names)| {
            (
                *header,
                names.iter().flat_map(|name| keys_of(name)).collect(),
            )
        })
        .collect();
    let told: usize = headers.iter().map(|(_, names)| names.len()).sum();
    // Beside these there are the root and the table that stands for a secret.
    assert_eq!(told + 2, all.len(), "a table is not told of here");
    tables
}

#[test]
fn every_key_is_in_the_manual_and_nothing_else() {
    let page = read("man/carom.toml.5");
    for (header, keys) in tables() {
        let start = page.find(&format!(".Ss {header}\\&\n")).expect(header);
        let section = &page[start + 1..];
        let ends = ["\n.Ss ", "\n.Sh "].map(|next| section.find(next));
        let end = ends.into_iter().flatten().min().unwrap_or(section.len());
        let told: BTreeSet<_> = section[..end]
            .lines()
            .filter_map(|line| line.strip_prefix(".It Cm "))
            .collect();
        assert_eq!(told, keys, "man/carom.toml.5, {header}");
    }
    assert!(page.contains("{ file = "));
}

#[test]
fn every_key_is_in_the_example() {
    let example = read("config.example.toml");
    let mut rest = &*example;
    for (header, keys) in tables() {
        let start = rest
            .find(&format!("\n{header}"))
            .unwrap_or_else(|| panic!("no {header}"));
        rest = &rest[start + 1..];
        let section = &rest[..rest.find("\n[").unwrap_or(rest.len())];
        for key in keys
            .into_iter()
            .filter(|key| !["network", "channel"].contains(key))
        {
            // In one of the ways a key is written: on a line of its own, commented, or in an inline table.
            let written = ["\n", "#", "{ ", ", "].map(|before| format!("{before}{key} = "));
            assert!(
                written.iter().any(|written| section.contains(written)),
                "config.example.toml does not show {key} in {header}"
            );
        }
    }
    assert!(example.contains("{ file = "));
}

/// Loads a text as a file that is the same for all.
fn load(text: &str) -> Result<(Config, Findings), Findings> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("carom.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let surroundings = Surroundings {
        state: Some("/var/lib/carom".into()),
        runtime: None,
        host: "host.example.org".into(),
    };
    let (mut config, warnings) = config::load_in(&path, Purpose::Run, &surroundings)?;
    config.path = "carom.toml".into();
    Ok((config, warnings))
}

/// The lines of the example that give a key, with their number, without the mark of a comment.
fn given(example: &str, commented: bool) -> Vec<(usize, &str)> {
    let is_key =
        |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(" = ");
    example
        .lines()
        .enumerate()
        .filter_map(|(number, line)| match line.strip_prefix('#') {
            Some(line) if commented => Some((number, line)),
            None if !commented => Some((number, line)),
            _ => None,
        })
        .filter(|(_, line)| is_key(line))
        .collect()
}

fn with_line(example: &str, number: usize, line: &str) -> String {
    let mut lines: Vec<_> = example.lines().collect();
    lines[number] = line;
    lines.join("\n")
}

#[test]
fn the_example_works_as_it_stands() {
    let example = read("config.example.toml");
    let (config, warnings) = load(&example).unwrap_or_else(|findings| panic!("{findings}"));
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!(config.server.listen.len(), 1);
    assert_eq!(config.server.listen[0].written, "ircs://[::]:6697");
    assert_eq!(config.users.len(), 1);
    assert_eq!(config.users[0].password, None);
    let networks = &config.users[0].networks;
    assert!(
        networks
            .iter()
            .flat_map(|network| &network.servers)
            .all(|server| { server.to_string().starts_with("ircs://") })
    );
}

#[test]
fn the_defaults_in_the_example_are_the_real_ones() {
    let example = read("config.example.toml");
    let (expected, _) = load(&example).unwrap();
    let lines = given(&example, true);
    assert!(lines.len() > 50);
    let (examples, defaults): (Vec<_>, Vec<_>) = lines
        .into_iter()
        .partition(|(_, line)| line.contains("default:"));
    for (number, line) in defaults {
        match load(&with_line(&example, number, line)) {
            Ok((config, _)) => assert_eq!(config, expected, "{line}"),
            Err(findings) => panic!("{line}\n{findings}"),
        }
    }
    for (number, line) in examples {
        let Err(findings) = load(&with_line(&example, number, line)) else {
            continue;
        };
        // Files and hashes of an example are not there.
        let known = ["cannot be read", "is a damaged", "stands without"];
        for finding in findings.iter() {
            assert!(
                known.iter().any(|known| finding.message.contains(known)),
                "{line}\n{finding}"
            );
        }
    }
    // What stands there without being required is the default too.
    for (number, line) in given(&example, false) {
        if !["name = ", "servers = "]
            .iter()
            .any(|required| line.starts_with(required))
        {
            assert_eq!(
                load(&with_line(&example, number, "")).unwrap().0,
                expected,
                "{line}"
            );
        }
    }
}

#[test]
fn every_command_and_option_is_in_the_manual_and_nothing_else() {
    let page = read("man/carom.1");
    let synopsis = &page[page.find(".Sh SYNOPSIS").unwrap()..page.find(".Sh DESCRIPTION").unwrap()];
    let command = carom::cli::command();
    let mut options = BTreeSet::from(["help".to_owned(), "version".to_owned()]);
    let mut commands = BTreeSet::new();
    for sub in command.get_subcommands() {
        commands.insert(sub.get_name().to_owned());
        assert!(
            sub.get_long_about().is_some(),
            "{}: no long help",
            sub.get_name()
        );
        assert!(
            sub.get_after_help().is_some(),
            "{}: no examples",
            sub.get_name()
        );
        for option in sub
            .get_arguments()
            .filter_map(|argument| argument.get_long())
        {
            options.insert(option.to_owned());
            assert!(
                synopsis.contains(&format!("Fl Fl {option}")),
                "no --{option} in SYNOPSIS"
            );
        }
        assert!(
            synopsis.contains(&format!(".Cm {}\n", sub.get_name())),
            "{}",
            sub.get_name()
        );
    }
    let description =
        &page[page.find(".Sh DESCRIPTION").unwrap()..page.find(".Sh ATTACHING").unwrap()];
    let items = |prefix: &str| -> BTreeSet<String> {
        let items = description
            .lines()
            .filter_map(|line| Some(line.strip_prefix(".It ")?.split_once(prefix)?.1));
        items
            .map(|item| item.split(' ').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(items("Cm "), commands);
    assert_eq!(items("Fl Fl "), options);
}

#[test]
fn the_help_and_the_manual_name_the_same_exit_codes() {
    let help = carom::cli::command().render_long_help().to_string();
    let (_, codes) = help.split_once("Exit codes:\n").unwrap();
    let codes: Vec<_> = codes
        .lines()
        .map_while(|line| line.split_whitespace().next()?.parse::<u8>().ok())
        .collect();
    let page = read("man/carom.1");
    let (_, status) = page.split_once(".Sh EXIT STATUS").unwrap();
    let told: Vec<_> = status
        .lines()
        .take_while(|line| !line.starts_with(".Sh "))
        .filter_map(|line| line.strip_prefix(".It ")?.parse::<u8>().ok())
        .collect();
    assert_eq!(told, codes);
    assert_eq!(codes, [0, 1, 2, 64, 69, 75, 78]);
}

/// The part of the page that is made from the table; with `BLESS=1` it is made.
#[test]
fn every_word_is_in_the_manual_as_in_the_help() {
    let name = "man/carom-commands.7";
    let (begin, end) = ("cargo test --test manual\n", ".\\\" End of what is made.\n");
    let page = read(name);
    let (before, rest) = page.split_once(begin).unwrap();
    let (made, after) = rest.split_once(end).unwrap();
    let expected = carom::command::help::manual();
    if std::env::var_os("BLESS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        return fs::write(path, format!("{before}{begin}{expected}{end}{after}")).unwrap();
    }
    assert_eq!(made, expected, "{name}: BLESS=1 makes it anew");
}

#[test]
fn the_man_pages_are_sound() {
    let mut lint = Command::new("mandoc");
    lint.args(["-T", "lint", "man/carom.1", "man/carom.toml.5"])
        .arg("man/carom-commands.7");
    let output = match lint.current_dir(env!("CARGO_MANIFEST_DIR")).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: mandoc cannot be run: {error}");
            return;
        }
    };
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // Which other pages are installed is not the fault of these.
    let faults: Vec<_> = told
        .lines()
        .filter(|line| !line.contains("referenced manual not found") && !line.contains("mandoc.db"))
        .collect();
    assert_eq!(faults, [""; 0], "mandoc -T lint");
}

/// The page as it would be written now.
fn conformance_page() -> String {
    let all = conformance();
    let mut page = String::from(
        "# Conformance\n\n\
         What carom speaks. This page is written by a test from the tables in `src/state` and `src/wire/caps.rs`; \
         `BLESS=1 cargo test --test manual` writes it anew.\n\n\
         Clients are spoken to in lines, over TCP, TLS and unix sockets, or in the messages of a WebSocket \
         (https://ircv3.net/specs/extensions/websocket: `text.ircv3.net`, `binary.ircv3.net`); servers in lines.\n\n\
         ## Capabilities\n\n\
         *Always*: clients are offered it whatever the server can. *Passed*: they are offered it while the server has \
         it. *Used*: carom asks servers for it, itself.\n\n\
         | capability | clients | servers | specification |\n|---|---|---|---|\n",
    );
    for cap in &all.capabilities {
        let offered = match cap.offered {
            Offered::Always => "always",
            Offered::Passed => "passed",
            Offered::No => "no",
        };
        let used = if cap.used { "used" } else { "no" };
        let _ = writeln!(
            page,
            "| `{}` | {offered} | {used} | {} |",
            cap.name, cap.specification
        );
    }
    page += "\n## Commands\n\nWhat is not in this table is passed on as it is, in both directions, and its answers go \
             to whoever asked.\n\n| command | from clients | from servers | specification |\n|---|---|---|---|\n";
    for command in &all.commands {
        let asked = if command.asked {
            "dealt with"
        } else {
            "passed"
        };
        let said = if command.said { "understood" } else { "passed" };
        let _ = writeln!(
            page,
            "| `{}` | {asked} | {said} | {} |",
            command.name, command.specification
        );
    }
    page += "\n## Numerics that are understood\n\nAll others are passed on.\n\n";
    page += &all.numerics.join(" ");
    page += "\n\n## Questions\n\nTheir answers go to the client that asked, by its label where the server has \
             `labeled-response`, else by this table.\n\n| command | replies | last reply |\n|---|---|---|\n";
    let numbers = |numbers: &[u16]| {
        let all: Vec<_> = numbers.iter().map(|n| format!("{n:03}")).collect();
        all.join(" ")
    };
    for question in &all.questions {
        let (replies, ends) = (numbers(&question.replies), numbers(&question.ends));
        let _ = writeln!(page, "| `{}` | {replies} | {ends} |", question.command);
    }
    page
}

#[test]
fn the_conformance_page_says_what_the_tables_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/conformance.md");
    let page = conformance_page();
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, page).unwrap();
        return;
    }
    assert!(
        fs::read_to_string(path).is_ok_and(|written| written == page),
        "contrib/conformance.md is out of date: BLESS=1 cargo test --test manual"
    );
}
