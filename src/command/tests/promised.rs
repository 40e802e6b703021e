//! What everybody may rely on: each verb with all of its options, as it is promised, said once. Nothing of it is taken out of
//! the vocabulary, which may have more.

use super::super::parse_line;

type Promise = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The words of verbs, what stands behind them, and the options with a value that each takes; without one it is a flag.
static PROMISED: &[Promise] = &[
    ("help", "", &[]),
    ("status", "", &[]),
    ("network create", "", &[
        ("name", "n"), ("addr", "ircs://irc.test"), ("addr", "ircs://irc2.test"), ("nick", "a"), ("username", "a"), ("realname", "A B"),
        ("pass", "p"), ("family", "ipv6"), ("source", "::1"), ("connect-command", "MODE a +i"), ("connect-command", "MODE a +B"),
        ("auto-away", "true"), ("enabled", "false"),
    ]),
    ("network update", "n", &[
        ("name", "m"), ("addr", "ircs://irc.test"), ("nick", "a"), ("username", "a"), ("realname", "A B"), ("pass", "p"), ("family", "ipv4"),
        ("source", "192.0.2.1"), ("connect-command", "MODE a +i"), ("auto-away", "false"), ("enabled", "true"),
    ]),
    ("network delete", "n", &[]),
    ("network status", "n", &[]),
    ("network connect", "n", &[]),
    ("network disconnect", "n", &[]),
    ("network jump", "n", &[]),
    ("network explain", "n", &[]),
    ("network quote", "n MODE a :+i x", &[]),
    ("channel create", "#a", &[
        ("network", "n"), ("key", "k"), ("replay", "last"), ("lines", "20"),
        ("detached", "true"), ("relay-detached", "message"), ("reattach-on", "highlight"), ("detach-after", "1h"), ("detach-on", "none"),
    ]),
    ("channel update", "#a", &[
        ("network", "n"), ("key", "k"), ("replay", "none"), ("lines", "0"),
        ("detached", "false"), ("relay-detached", "none"), ("reattach-on", "message"), ("detach-after", "0s"), ("detach-on", "highlight"),
    ]),
    ("channel attach", "#a", &[("network", "n")]),
    ("channel detach", "#a", &[("network", "n")]),
    ("channel delete", "#a", &[("network", "n")]),
    ("channel status", "#a", &[("network", "n")]),
    ("history reset", "#a", &[]),
    ("history reset", "", &[]),
    ("history export", "#a", &[("format", "text")]),
    ("history export", "#a", &[("format", "jsonl")]),
    ("history search", "some words", &[("in", "#a"), ("from", "bob"), ("after", "2h")]),
    ("history replay", "#a", &[]),
    ("history replay", "#a 20", &[]),
    ("history replay", "#a 2h", &[]),
    ("history size", "", &[]),
    ("password", "old new", &[]),
    ("password", "new", &[]),
    ("certificate add", "", &[]),
    ("certificate add", PIN, &[]),
    ("certificate delete", PIN, &[]),
    ("certificate status", "", &[]),
    ("certfp generate", "", &[("network", "n"), ("key-type", "ecdsa")]),
    ("certfp generate", "", &[("key-type", "ed25519")]),
    ("certfp generate", "", &[("key-type", "rsa")]),
    ("certfp fingerprint", "", &[]),
    ("sasl set-plain", "apw p", &[("network", "n")]),
    ("sasl reset", "", &[("network", "n")]),
    ("sasl status", "", &[("network", "n")]),
    ("trust", "", &[("network", "n")]),
    ("trust", PIN, &[("network", "n")]),
    ("client status", "", &[]),
    ("client disconnect", "7", &[]),
    ("user create", "", &[
        ("username", "bob"), ("password", "p"), ("admin", "true"), ("nick", "b"), ("realname", "B"), ("max-networks", "3"), ("enabled", "true"),
    ]),
    ("user update", "", &[("nick", "b"), ("username", "b"), ("realname", "B"), ("highlight", "word")]),
    ("user update", "bob", &[
        ("password", "p"), ("admin", "false"), ("nick", "b"), ("realname", "B"), ("max-networks", "3"), ("enabled", "false"),
    ]),
    ("user delete", "bob", &[]),
    ("user delete", "bob", &[("purge", "")]),
    ("user restore", "bob", &[]),
    ("user status", "bob", &[]),
    ("user run", "bob network status", &[]),
    ("server status", "", &[]),
    ("server notice", "some words", &[]),
    ("server reload", "", &[("dry-run", "")]),
    ("server debug", "on", &[]),
    ("server debug", "off", &[]),
    ("server dump", "", &[("secrets", "")]),
];

const PIN: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn what_is_promised_can_be_said() {
    for (words, behind, options) in PROMISED {
        let one = |dash: &str, (name, value): &(&str, &str)| match *value {
            "" => format!(" {dash}{name}"),
            value => format!(" {dash}{name} '{value}'"),
        };
        // All at once, and each alone, with either dash.
        let all: String = options.iter().map(|option| one("-", option)).collect();
        let mut lines = vec![format!("{words}{all} {behind}")];
        let required = ["name", "addr", "username"];
        let needed: String = options
            .iter()
            .filter(|(name, _)| words.ends_with("create") && required.contains(name))
            .map(|option| one("--", option))
            .collect();
        let is_other = |name: &str| !needed.contains(&format!("--{name} "));
        // Which network it is changes nothing about a channel.
        let is_change = |name: &str| name != "network" || *words != "channel update";
        let others = options.iter().filter(|(name, _)| is_other(name) && is_change(name));
        lines.extend(others.map(|option| format!("{words}{needed}{} {behind}", one("--", option))));
        for line in lines {
            let request = parse_line(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(request.row.words.join(" "), *words, "{line}");
        }
    }
}
