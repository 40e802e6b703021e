//! What may be said, and what it means; mistakes, and how they are answered: one row on one line.

use super::*;

/// What is said, which network it names, and what it means.
type Sentence = (&'static str, Option<&'static str>, Command);

/// Each verb at least once.
pub(super) fn sentences() -> Vec<Sentence> {
    [networks(), channels_and_history(), users_and_server()].concat()
}

fn networks() -> Vec<Sentence> {
    let created = options()
        .set("enabled", false)
        .set("servers", vec!["ircs://a.test", "b.test"]);
    vec![
        ("help", None, Command::Help(None)),
        ("help network create", None, Command::Help(Some("network create".into()))),
        ("status", None, Command::Status),
        ("network create -addr ircs://a.test --name oftc -enabled no --addr b.test", None, Command::NetworkCreate("oftc".into(), created)),
        ("network update oftc -nick '' -lines 20 -pass p", Some("oftc"), Command::NetworkUpdate(options().unset("nick").set("history.lines", 20).set("password", "p"))),
        ("network update -connect-command 'MODE x +i' -connect-command 'A B'", None, Command::NetworkUpdate(options().set("on_connect", vec!["MODE x +i", "A B"]))),
        ("network delete oftc", Some("oftc"), Command::NetworkDelete),
        ("network status", None, Command::NetworkStatus { everybody: false }),
        ("net stat OFTC", Some("OFTC"), Command::NetworkStatus { everybody: false }),
        ("network status -all", None, Command::NetworkStatus { everybody: true }),
        ("n con", None, Command::NetworkConnect),
        ("network disconnect oftc", Some("oftc"), Command::NetworkDisconnect),
        ("network jump", None, Command::NetworkJump),
        ("network quote oftc PRIVMSG nickserv :don't \\ \"worry", Some("oftc"), Command::NetworkQuote(secret("PRIVMSG nickserv :don't \\ \"worry"))),
        ("network quote oftc 'MODE a  +i'", Some("oftc"), Command::NetworkQuote(secret("MODE a  +i"))),
        ("network explain oftc", Some("oftc"), Command::NetworkExplain),
    ]
}

fn channels_and_history() -> Vec<Sentence> {
    let hour = Duration::from_secs(3600);
    vec![
        ("channel create #a -key k -network oftc", Some("oftc"), Command::ChannelCreate("#a".into(), options().set("key", "k"))),
        ("channel update #a -replay last", None, Command::ChannelUpdate("#a".into(), options().set("history.replay", "last"))),
        ("channel delete #a", None, Command::ChannelDelete("#a".into())),
        ("channel update #a -detached yes -relay-detached none -reattach-on highlight -detach-after 12h -detach-on message", None, Command::ChannelUpdate("#a".into(), options().set("detached", true).set("relay_detached", "none").set("reattach_on", "highlight").set("detach_after", "12h").set("detach_on", "message"))),
        ("channel detach #a -network oftc", Some("oftc"), Command::ChannelDetach("#a".into())),
        ("channel attach #a", None, Command::ChannelAttach("#a".into())),
        ("channel status", None, Command::ChannelStatus(None)),
        ("ch st #a", None, Command::ChannelStatus(Some("#a".into()))),
        ("client status", None, Command::ClientStatus),
        ("client disconnect 7", None, Command::ClientDisconnect(7)),
        ("history search -in #a -from bob -after 2026-11-22 -before 1h -limit 9 it's \"a b\"", None, Command::HistorySearch(Find { text: "it's \"a b\"".into(), target: Some("#a".into()), from: Some("bob".into()), after: Some(When::At(Timestamp::parse(b"2026-11-22T00:00:00Z").unwrap())), before: Some(When::Ago(hour)), limit: 9 })),
        ("history replay bob", None, Command::HistoryReplay(Some("bob".into()), Back::Lines(50))),
        ("hi repl #a 7", None, Command::HistoryReplay(Some("#a".into()), Back::Lines(7))),
        ("history replay #a 1h", None, Command::HistoryReplay(Some("#a".into()), Back::For(hour))),
        ("history reset", None, Command::HistoryReset { target: None, quiet: false }),
        ("history reset #a -network x", Some("x"), Command::HistoryReset { target: Some("#a".into()), quiet: false }),
        ("history size", None, Command::HistorySize),
        ("history export #a -format jsonl -after 2026-11-22T08:30", None, Command::HistoryExport(Export { target: "#a".into(), json: true, after: Some(When::At(Timestamp::parse(b"2026-11-22T08:30:00Z").unwrap())), before: None })),
    ]
}

fn users_and_server() -> Vec<Sentence> {
    let pin = Pin::parse(&format!("sha256:{}", "ab".repeat(32))).unwrap();
    vec![
        ("password new", None, Command::Password { old: None, new: secret("new") }),
        ("password 'old one' new", None, Command::Password { old: Some(secret("old one")), new: secret("new") }),
        ("certificate add", None, Command::CertificateAdd(None)),
        ("certificate status", None, Command::CertificateStatus),
        ("certfp generate", None, Command::CertfpGenerate(KeyType::Ecdsa)),
        ("certfp generate -network oftc -key-type ed25519", Some("oftc"), Command::CertfpGenerate(KeyType::Ed25519)),
        ("certfp fingerprint", None, Command::CertfpFingerprint),
        ("sasl set-plain apw secret -network oftc", Some("oftc"), Command::SaslSetPlain("apw".into(), secret("secret"))),
        ("sasl set-external -network oftc", Some("oftc"), Command::SaslSetExternal),
        ("sasl reset", None, Command::SaslReset),
        ("sasl status", None, Command::SaslStatus),
        ("trust", None, Command::Trust(None)),
        (&*Box::leak(format!("trust -network oftc sha256:{}", "AB".repeat(32)).into_boxed_str()), Some("oftc"), Command::Trust(Some(pin))),
        ("user create -username bob -password p -admin true", None, Command::UserCreate("bob".into(), Some(secret("p")), options().set("admin", true))),
        ("user update bob -password p", None, Command::UserUpdate(Some("bob".into()), Some(secret("p")), options())),
        ("user update bob -nick b", None, Command::UserUpdate(Some("bob".into()), None, options().set("nick", "b"))),
        ("user update -highlight a -highlight b -username u", None, Command::UserUpdate(None, None, options().set("username", "u").set("highlights", vec!["a", "b"]))),
        ("user delete bob", None, Command::UserDelete { user: "bob".into(), purge: false }),
        ("user delete bob -purge", None, Command::UserDelete { user: "bob".into(), purge: true }),
        ("user restore bob", None, Command::UserRestore("bob".into())),
        ("user status", None, Command::UserStatus(None)),
        ("user run bob network status", None, Command::UserRun("bob".into(), Box::new(parse_line("network status").unwrap()))),
        ("server status", None, Command::ServerStatus),
        ("server notice it's  late", None, Command::ServerNotice("it's  late".into())),
        ("server reload", None, Command::ServerReload { dry: false }),
        ("server reload -dry", None, Command::ServerReload { dry: true }),
        ("server debug on", None, Command::ServerDebug(true)),
        ("server debug off", None, Command::ServerDebug(false)),
        ("server dump -secrets", None, Command::ServerDump { secrets: true }),
        ("bip JUMP", None, Command::NetworkJump),
        (&*Box::leak(format!("certificate delete sha256:{}", "AB".repeat(32)).into_boxed_str()), None, Command::CertificateDelete(pin)),
    ]
}

/// What is said wrong, and the answer.
pub(super) static MISTAKES: &[(&str, &str)] = &[
    ("", "nothing was said; \"help\" lists the commands"),
    ("netwrok status", "there is no \"netwrok\", did you mean \"network\"?; \"help\" lists the commands"),
    ("network satus", "there is no \"network satus\", did you mean \"network status\"?; \"help\" lists the commands"),
    ("detach #a", "there is no \"detach\", did you mean \"channel detach\"?; \"help\" lists the commands"),
    ("create", "there is no \"create\"; \"help\" lists the commands"),
    ("frobnicate", "there is no \"frobnicate\"; \"help\" lists the commands"),
    ("''", "there is no \"\"; \"help\" lists the commands"),
    ("sasl", "\"sasl\" needs another word: set-plain, set-external, reset, status"),
    ("s", "\"s\" may be status or sasl or server"),
    ("network d x", "\"network d\" may be delete or disconnect"),
    ("status now", "\"now\" is a word too many; it is said like this: status"),
    ("network status a b", "\"b\" is a word too many; it is said like this: network status [OPTIONS] [NETWORK]"),
    ("network delete", "NETWORK is missing; it is said like this: network delete NETWORK"),
    ("network quote oftc", "LINE is missing; it is said like this: network quote NETWORK LINE"),
    ("network create -name x", "-addr URL is missing; it is said like this: network create -name NAME -addr URL [OPTIONS]"),
    ("network update x", "nothing is to be changed; \"help network update\" lists the options; it is said like this: network update [OPTIONS] [NETWORK]"),
    ("network update x -nik y", "there is no option -nik, did you mean -nick?; it is said like this: network update [OPTIONS] [NETWORK]"),
    ("network update x -re y", "-re may be -realname or -rejoin or -replay; it is said like this: network update [OPTIONS] [NETWORK]"),
    ("network update x -nick", "-nick needs a value: -nick NICK; it is said like this: network update [OPTIONS] [NETWORK]"),
    ("network update x -nick a -nick b", "-nick is said twice; it is said like this: network update [OPTIONS] [NETWORK]"),
    ("network update x -enabled maybe", "-enabled: \"maybe\" is neither true nor false; it is said like this: network update [OPTIONS] [NETWORK]"),
    ("network update x -lines -1", "-lines: \"-1\" is no number; it is said like this: network update [OPTIONS] [NETWORK]"),
    ("channel status -foo", "there is no option -foo, only -network; it is said like this: channel status [OPTIONS] [CHANNEL]"),
    ("client disconnect laptop", "\"laptop\" is no number; \"client status\" has them; it is said like this: client disconnect ID"),
    ("history replay #a soon", "\"soon\" is neither a number of lines nor a time: 100, or 2h; it is said like this: history replay [OPTIONS] TARGET [N|TIME]"),
    ("history search", "TEXT is missing; it is said like this: history search [OPTIONS] TEXT"),
    ("history search -after soon x", "-after: \"soon\" is no time: 2026-11-22, 2026-11-22T08:00:00Z, or 2h for two hours ago; it is said like this: history search [OPTIONS] TEXT"),
    ("history export #a -format xml", "-format: \"xml\" is neither text nor jsonl; it is said like this: history export [OPTIONS] TARGET"),
    ("certfp generate -key-type dsa", "-key-type: \"dsa\" is none of ecdsa, ed25519 and rsa; it is said like this: certfp generate [OPTIONS]"),
    ("server debug perhaps", "\"perhaps\" is neither on nor off; it is said like this: server debug on|off"),
    ("password 'x", "a ' is opened and never closed; \\' stands for itself"),
    ("bip bip bip jump", "commands stand too deep in each other; it is said like this: bip WORDS"),
    ("bip LIST nothing", "LIST does not fit so; it is said like this: BIP LIST networks|users|connections|all_links|all_connections"),
    ("bip ADD_CONN home oftc", "ADD_CONN does not fit so; it is said like this: BIP ADD_CONN NAME URL"),
    ("user run bob frob", "there is no \"frob\"; \"help\" lists the commands"),
];

/// bip's words.
pub(super) fn of_bip() -> Vec<(&'static str, Option<String>, Command)> {
    let of = |network: &str| Some(network.to_owned());
    let day = Duration::from_secs(24 * 3600);
    let update = |options| Command::NetworkUpdate(options);
    let reset = |target: Option<&str>, quiet| Command::HistoryReset {
        target: target.map(str::to_owned),
        quiet,
    };
    let told = Command::Told("it is always so: the nick a client comes with is not the network's");
    vec![
        ("HELP", None, Command::Help(None)),
        ("RELOAD", None, Command::ServerReload { dry: false }),
        ("LIST networks", None, Command::NetworkStatus { everybody: false }),
        ("list Connections", None, Command::NetworkStatus { everybody: false }),
        ("LIST all_links", None, Command::NetworkStatus { everybody: true }),
        ("LIST users", None, Command::UserStatus(None)),
        ("INFO USER bob", None, Command::UserStatus(of("bob"))),
        ("ADD_CONN home irc.test", None, Command::NetworkCreate("home".into(), options().set("servers", vec!["irc.test"]))),
        ("DEL_CONN home", of("home"), Command::NetworkDelete),
        ("JUMP", None, Command::NetworkJump),
        ("BLRESET", None, reset(None, false)),
        ("BLRESET -q", None, reset(None, true)),
        ("BLRESET -q #a", None, reset(Some("#a"), true)),
        ("BACKLOG", None, Command::HistoryReplay(None, Back::For(day))),
        ("BACKLOG 48", None, Command::HistoryReplay(None, Back::For(2 * day))),
        ("FOLLOW_NICK TRUE", None, update(options().set("follow_nick", true))),
        ("IGNORE_FIRST_NICK false", None, told),
        ("ON_CONNECT_SEND PRIVMSG x :it's", None, update(options().set("on_connect", vec!["PRIVMSG x :it's"]))),
        ("ON_CONNECT_SEND", None, update(options().unset("on_connect"))),
        ("AWAY_NICK zzz", None, update(options().set("away_nick", "zzz"))),
        ("TRUST", None, Command::Trust(None)),
        ("TRUST OK", None, Command::TrustRefused),
        ("LIST all_connections", None, Command::NetworkStatus { everybody: true }),
        ("AWAY_NICK", None, update(options().unset("away_nick"))),
        ("network status", None, Command::NetworkStatus { everybody: false }),
    ]
}

/// Command x role x network: who is let through, and who is told what. `A`: only administrators, `U`: which user,
/// `N`: which network, `D`: not connected, `O`: not of others, `+`: allowed. Columns: what is said, user, administrator, control
/// socket with one user, and with several; in each, without a network, with one that is down, and with one that is up.
pub(super) static PERMISSIONS: &[(&str, &str, &str, &str, &str)] = &[
    ("help", "+++", "+++", "+++", "+++"),
    ("status", "+++", "+++", "+++", "+++"),
    ("network create -name a -addr b", "+++", "+++", "+++", "UUU"),
    ("network update -nick a", "N++", "N++", "N++", "UUU"),
    ("network delete a", "N++", "N++", "N++", "UUU"),
    ("network status", "+++", "+++", "+++", "+++"),
    ("network status -all", "AAA", "+++", "+++", "+++"),
    ("network connect", "N++", "N++", "N++", "UUU"),
    ("network disconnect", "N++", "N++", "N++", "UUU"),
    ("network jump", "N++", "N++", "N++", "UUU"),
    ("network quote a b", "ND+", "ND+", "ND+", "UUU"),
    ("network explain", "+++", "+++", "+++", "+++"),
    ("channel create #a", "N++", "N++", "N++", "UUU"),
    ("channel update #a -key b", "N++", "N++", "N++", "UUU"),
    ("channel delete #a", "N++", "N++", "N++", "UUU"),
    ("channel detach #a", "N++", "N++", "N++", "UUU"),
    ("channel attach #a", "N++", "N++", "N++", "UUU"),
    ("channel status", "N++", "N++", "N++", "UUU"),
    ("client status", "+++", "+++", "+++", "+++"),
    ("client disconnect 1", "+++", "+++", "+++", "UUU"),
    ("history search a", "N++", "N++", "N++", "UUU"),
    ("history replay #a", "N++", "N++", "N++", "UUU"),
    ("history reset", "N++", "N++", "N++", "UUU"),
    ("history size", "+++", "+++", "+++", "UUU"),
    ("history export #a", "N++", "N++", "N++", "UUU"),
    ("password a", "+++", "+++", "+++", "UUU"),
    ("certificate add", "+++", "+++", "+++", "UUU"),
    ("certificate status", "+++", "+++", "+++", "UUU"),
    ("certfp generate", "N++", "N++", "N++", "UUU"),
    ("certfp fingerprint", "N++", "N++", "N++", "UUU"),
    ("sasl set-plain a b", "N++", "N++", "N++", "UUU"),
    ("sasl set-external", "N++", "N++", "N++", "UUU"),
    ("sasl reset", "N++", "N++", "N++", "UUU"),
    ("sasl status", "N++", "N++", "N++", "UUU"),
    ("trust", "N++", "N++", "N++", "UUU"),
    ("user create -username a", "AAA", "+++", "+++", "+++"),
    ("user update a -nick b", "OOO", "+++", "+++", "+++"),
    ("user update -nick b -username b -realname b -highlight b", "+++", "+++", "+++", "UUU"),
    ("user update -password b", "AAA", "+++", "+++", "UUU"),
    ("user update -admin true", "AAA", "+++", "+++", "UUU"),
    ("user update -max-networks 0", "AAA", "+++", "+++", "UUU"),
    ("user update -enabled true", "AAA", "+++", "+++", "UUU"),
    ("user delete a", "AAA", "+++", "+++", "+++"),
    ("user restore a", "AAA", "+++", "+++", "+++"),
    ("user status", "AAA", "+++", "+++", "+++"),
    ("user run a status", "AAA", "+++", "+++", "+++"),
    ("server status", "AAA", "+++", "+++", "+++"),
    ("server notice a", "AAA", "+++", "+++", "+++"),
    ("server reload", "AAA", "+++", "+++", "+++"),
    ("server debug on", "AAA", "+++", "+++", "+++"),
    ("server dump", "AAA", "+++", "+++", "+++"),
    ("bip RELOAD", "AAA", "+++", "+++", "+++"),
    ("bip LIST all_links", "AAA", "+++", "+++", "+++"),
    ("bip JUMP", "N++", "N++", "N++", "UUU"),
    ("bip IGNORE_FIRST_NICK true", "+++", "+++", "+++", "+++"),
];
