//! The rows of the vocabulary, in the order of help. What the columns mean stands in `table`. An option whose key the
//! file does not have yet has no row, so it is refused like any unknown one.

use super::Role::{Admin, User};
use super::table::Kind::{Bool, Flag, List, Number, Text};
use super::table::{Kind, Need, Opt, Parameter, Row, Subject, Verb};

const fn one(name: &'static str) -> Parameter {
    Parameter { name, need: Need::One, secret: false }
}

const fn maybe(name: &'static str) -> Parameter {
    Parameter { name, need: Need::Maybe, secret: false }
}

const fn rest(name: &'static str) -> Parameter {
    Parameter { name, need: Need::Rest, secret: false }
}

const fn secret(parameter: Parameter) -> Parameter {
    Parameter { secret: true, ..parameter }
}

/// An option that stands for a key of the configuration.
const fn key(name: &'static str, value: &'static str, kind: Kind, key: &'static str, summary: &'static str) -> Opt {
    Opt { name, value, kind, key, required: false, secret: false, role: User, summary }
}

/// An option of the verb itself.
const fn own(name: &'static str, value: &'static str, kind: Kind, summary: &'static str) -> Opt {
    key(name, value, kind, "", summary)
}

const fn required(option: Opt) -> Opt {
    Opt { required: true, ..option }
}

const fn hidden(option: Opt) -> Opt {
    Opt { secret: true, ..option }
}

const fn for_admins(option: Opt) -> Opt {
    Opt { role: Admin, ..option }
}

const ON_NETWORK: Opt = own("network", "NETWORK", Text, "the network that is meant, if not the current one");
const ADDR: Opt = key("addr", "URL", List, "servers", "a server: ircs://HOST[:PORT], or irc+insecure:// for clear text; say it again for the next one");
const NICK: Opt = key("nick", "NICK", Text, "nick", "the wanted nick");
const ALTERNATIVE_NICK: Opt = key("alternative-nick", "NICK", List, "alternative_nicks", "tried when the nick is taken; may be repeated");
const USERNAME: Opt = key("username", "NAME", Text, "username", "the user name servers are told");
const REALNAME: Opt = key("realname", "TEXT", Text, "realname", "the real name servers are told");
const PASS: Opt = hidden(key("pass", "PASSWORD", Text, "password", "the server password"));
const FAMILY: Opt = key("family", "FAMILY", Text, "family", "prefer-ipv6, prefer-ipv4, ipv6 or ipv4");
const SOURCE: Opt = key("source", "ADDRESS", List, "source", "the address to connect from; once for each family");
const TIMEOUT: Opt = key("timeout", "TIME", Text, "timeout", "how long one address may take: 15s");
const CONNECT_COMMAND: Opt = hidden(key("connect-command", "LINE", List, "on_connect", "a line for the server after each welcome; may be repeated"));
const ENABLED: Opt = key("enabled", "BOOL", Bool, "enabled", "whether to be connected");
const FOLLOW_NICK: Opt = key("follow-nick", "BOOL", Bool, "follow_nick", "whether a nick change becomes the wanted nick");
const KEEP_NICK: Opt = key("keep-nick", "BOOL", Bool, "keep_nick", "whether the wanted nick is taken back when it is free");
const AUTO_AWAY: Opt = key("auto-away", "BOOL", Bool, "auto_away", "whether to be away while no client is attached");
const AWAY_MESSAGE: Opt = key("away-message", "TEXT", Text, "away_message", "what is said then");
const AWAY_NICK: Opt = key("away-nick", "NICK", Text, "away_nick", "the nick while no client is attached");
const REJOIN: Opt = key("rejoin", "BOOL", Bool, "rejoin_on_kick", "whether a kick is followed by a rejoin");
const PROXY: Opt = key("proxy", "URL", Text, "proxy", "go through this proxy: socks5://HOST:PORT");
const VERIFY: Opt = key("verify", "HOW", Text, "tls.verify", "how the server's certificate is judged: ca, pin or none");
const PIN: Opt = key("pin", "FINGERPRINT", List, "tls.pins", "a certificate or key that is accepted: sha256:HEX or spki-sha256:HEX; may be repeated");
const REPLAY: Opt = key("replay", "WHAT", Text, "history.replay", "what is replayed at attach: unseen, last or none");
const LINES: Opt = key("lines", "N", Number, "history.lines", "at most so many lines of each channel; 0: all");
const CHANNEL_KEY: Opt = hidden(key("key", "KEY", Text, "key", "the channel's key"));
const CHANNEL_LINES: Opt = key("lines", "N", Number, "history.lines", "at most so many lines of it; 0: all");
const DETACHED: Opt = key("detached", "BOOL", Bool, "detached", "whether the channel is kept from your clients");
const RELAY_DETACHED: Opt = key("relay-detached", "WHICH", Text, "relay_detached", "what of a detached channel *carom tells you: message, highlight (the default) or none");
const REATTACH_ON: Opt = key("reattach-on", "WHICH", Text, "reattach_on", "what brings a detached channel back: message, highlight or none (the default)");
const DETACH_AFTER: Opt = key("detach-after", "TIME", Text, "detach_after", "the channel is detached after so long a silence: 12h; 0: never");
const DETACH_ON: Opt = key("detach-on", "WHICH", Text, "detach_on", "what breaks that silence: message (the default), highlight or none");
const HIGHLIGHT: Opt = key("highlight", "WORD", List, "highlights", "a word that is meant for the user, beside the nick; may be repeated");
const OWN_MESSAGES: Opt = key("own-messages", "BOOL", Bool, "own_messages", "whether clients that know no own messages are sent the user's private ones as they stand");
const AFTER: Opt = own("after", "TIME", Text, "later than this: 2026-11-22, 2026-11-22T08:00:00Z, or 2h for two hours ago");
const BEFORE: Opt = own("before", "TIME", Text, "earlier than this");
const USER_PASSWORD: Opt = hidden(own("password", "PASSWORD", Text, "the password; without it one is made and told"));
const NEW_PASSWORD: Opt = hidden(own("password", "PASSWORD", Text, "another password"));
const ADMIN: Opt = key("admin", "BOOL", Bool, "admin", "whether the user administers carom");
const MAX_NETWORKS: Opt = key("max-networks", "N", Number, "max_networks", "how many networks the user may have; 0: no limit");
const USER_ENABLED: Opt = key("enabled", "BOOL", Bool, "enabled", "whether the user may log in and the networks run");

static NETWORK_OPTIONS: &[Opt] = &[
    required(own("name", "NAME", Text, "what you call it")), required(ADDR), NICK, ALTERNATIVE_NICK, USERNAME, REALNAME, PASS,
    FAMILY, SOURCE, TIMEOUT, CONNECT_COMMAND, ENABLED, FOLLOW_NICK, KEEP_NICK, AUTO_AWAY, AWAY_MESSAGE, AWAY_NICK,
    REJOIN, PROXY, VERIFY, PIN, REPLAY, LINES,
];

static NETWORK_CHANGES: &[Opt] = &[
    key("name", "NAME", Text, "name", "what you call it from now on"), ADDR, NICK, ALTERNATIVE_NICK, USERNAME, REALNAME, PASS,
    FAMILY, SOURCE, TIMEOUT, CONNECT_COMMAND, ENABLED, FOLLOW_NICK, KEEP_NICK, AUTO_AWAY, AWAY_MESSAGE, AWAY_NICK,
    REJOIN, PROXY, VERIFY, PIN, REPLAY, LINES,
];

static CHANNEL_OPTIONS: &[Opt] = &[
    ON_NETWORK, CHANNEL_KEY, DETACHED, RELAY_DETACHED, REATTACH_ON, DETACH_AFTER, DETACH_ON, REPLAY, CHANNEL_LINES,
];

/// The vocabulary.
pub static ROWS: &[Row] = &[
    Row {
        verb: Verb::Help, words: &["help"], parameters: &[Parameter { name: "WORDS", need: Need::MaybeRest, secret: false }], options: &[],
        role: User, subject: Subject::Nobody,
        summary: "lists the commands, or explains one",
        about: "Words may be cut short as long as they are unambiguous. Quotes ('...' and \"...\") hold words together.",
        examples: &["help", "help network create"],
    },
    Row {
        verb: Verb::Status, words: &["status"], parameters: &[], options: &[],
        role: User, subject: Subject::Everybody,
        summary: "shows your networks and clients",
        about: "", examples: &["status"],
    },
    Row {
        verb: Verb::NetworkCreate, words: &["network", "create"], parameters: &[], options: NETWORK_OPTIONS,
        role: User, subject: Subject::User,
        summary: "makes a network and connects to it",
        about: "It is kept over restarts. An empty value stands for the default.",
        examples: &["network create -name oftc -addr ircs://irc.oftc.net", "network create -name libera -addr ircs://irc.libera.chat -nick apw -connect-command 'PRIVMSG NickServ :IDENTIFY ...'"],
    },
    Row {
        verb: Verb::NetworkUpdate, words: &["network", "update"], parameters: &[maybe("NETWORK")], options: NETWORK_CHANGES,
        role: User, subject: Subject::Network,
        summary: "changes a network",
        about: "What can be changed without a new connection is; an empty value gives an option its default back. A network of the configuration file is changed there.",
        examples: &["network update oftc -nick apw2", "network update -family ipv4"],
    },
    Row {
        verb: Verb::NetworkDelete, words: &["network", "delete"], parameters: &[one("NETWORK")], options: &[],
        role: User, subject: Subject::Network,
        summary: "leaves a network for good",
        about: "", examples: &["network delete oftc"],
    },
    Row {
        verb: Verb::NetworkStatus, words: &["network", "status"], parameters: &[maybe("NETWORK")], options: &[for_admins(own("all", "", Flag, "the networks of all users"))],
        role: User, subject: Subject::Everybody,
        summary: "shows the state of your networks, or of one in full",
        about: "Of one network: server, address, family, TLS, lag, how long it has been connected, what is next and how much was sent and received.",
        examples: &["network status", "network status oftc"],
    },
    Row {
        verb: Verb::NetworkConnect, words: &["network", "connect"], parameters: &[maybe("NETWORK")], options: &[],
        role: User, subject: Subject::Network,
        summary: "connects at once, whatever wait is on",
        about: "", examples: &["network connect oftc"],
    },
    Row {
        verb: Verb::NetworkDisconnect, words: &["network", "disconnect"], parameters: &[maybe("NETWORK")], options: &[],
        role: User, subject: Subject::Network,
        summary: "leaves the server and stays away until \"network connect\"",
        about: "Also over a restart.", examples: &["network disconnect oftc"],
    },
    Row {
        verb: Verb::NetworkJump, words: &["network", "jump"], parameters: &[maybe("NETWORK")], options: &[],
        role: User, subject: Subject::Network,
        summary: "goes to the next server of the network",
        about: "Behind the last one comes the first. With one server, it is connected to anew.", examples: &["network jump oftc"],
    },
    Row {
        verb: Verb::NetworkQuote, words: &["network", "quote"], parameters: &[one("NETWORK"), secret(rest("LINE"))], options: &[],
        role: User, subject: Subject::Link,
        summary: "says a line to the server as it stands",
        about: "It is neither stored nor logged. What the server answers goes to all attached clients.", examples: &["network quote oftc MODE apw +i"],
    },
    Row {
        verb: Verb::NetworkExplain, words: &["network", "explain"], parameters: &[maybe("NETWORK")], options: &[],
        role: User, subject: Subject::Everybody,
        summary: "shows which addresses were tried, what came of it, and what is next",
        about: "", examples: &["network explain oftc"],
    },
    Row {
        verb: Verb::ChannelCreate, words: &["channel", "create"], parameters: &[one("CHANNEL")], options: CHANNEL_OPTIONS,
        role: User, subject: Subject::Network,
        summary: "joins a channel, with options for it",
        about: "/join does the same without options: channels that were joined are kept, too.", examples: &["channel create #rust", "channel create #secret -key hush -network oftc"],
    },
    Row {
        verb: Verb::ChannelUpdate, words: &["channel", "update"], parameters: &[one("CHANNEL")], options: CHANNEL_OPTIONS,
        role: User, subject: Subject::Network,
        summary: "changes the options of a channel",
        about: "An empty value gives an option its default back.", examples: &["channel update #rust -replay last -lines 20", "channel update #noisy -detach-after 1d -reattach-on highlight"],
    },
    Row {
        verb: Verb::ChannelDelete, words: &["channel", "delete"], parameters: &[one("CHANNEL")], options: &[ON_NETWORK],
        role: User, subject: Subject::Network,
        summary: "leaves a channel and forgets its options",
        about: "", examples: &["channel delete #rust"],
    },
    Row {
        verb: Verb::ChannelDetach, words: &["channel", "detach"], parameters: &[one("CHANNEL")], options: &[ON_NETWORK],
        role: User, subject: Subject::Network,
        summary: "keeps a channel from your clients without leaving it",
        about: "What is said there is stored, and *carom tells you when you are named. /part CHANNEL detach does the same.", examples: &["channel detach #noisy"],
    },
    Row {
        verb: Verb::ChannelAttach, words: &["channel", "attach"], parameters: &[one("CHANNEL")], options: &[ON_NETWORK],
        role: User, subject: Subject::Network,
        summary: "shows a detached channel again, with what was said meanwhile",
        about: "/join CHANNEL does the same.", examples: &["channel attach #noisy"],
    },
    Row {
        verb: Verb::ChannelStatus, words: &["channel", "status"], parameters: &[maybe("CHANNEL")], options: &[ON_NETWORK],
        role: User, subject: Subject::Network,
        summary: "shows the channels of a network, or one",
        about: "", examples: &["channel status", "channel status #rust -network oftc"],
    },
    Row {
        verb: Verb::ClientStatus, words: &["client", "status"], parameters: &[], options: &[],
        role: User, subject: Subject::Everybody,
        summary: "shows your attached clients",
        about: "", examples: &["client status"],
    },
    Row {
        verb: Verb::ClientDisconnect, words: &["client", "disconnect"], parameters: &[one("ID")], options: &[],
        role: User, subject: Subject::User,
        summary: "sends a client away; \"client status\" has its number",
        about: "", examples: &["client disconnect 7"],
    },
    Row {
        verb: Verb::HistorySearch, words: &["history", "search"], parameters: &[rest("TEXT")],
        options: &[ON_NETWORK, own("in", "TARGET", Text, "in this channel, or with this person"), own("from", "NICK", Text, "said by this person"), AFTER, BEFORE, own("limit", "N", Number, "at most so many, the newest; 50 when not said")],
        role: User, subject: Subject::Network,
        summary: "finds what was said",
        about: "All words have to be there; \"words in a row\" and beginnings* may be asked for, too.", examples: &["history search release", "history search -in #rust -from bob -after 7d borrow*"],
    },
    Row {
        verb: Verb::HistoryReplay, words: &["history", "replay"], parameters: &[one("TARGET"), maybe("N|TIME")], options: &[ON_NETWORK],
        role: User, subject: Subject::Network,
        summary: "tells again what was said",
        about: "The newest N lines (50 when not said), or those of the last hours: 2h.", examples: &["history replay #rust 100", "history replay bob 2h"],
    },
    Row {
        verb: Verb::HistoryReset, words: &["history", "reset"], parameters: &[maybe("TARGET")], options: &[ON_NETWORK],
        role: User, subject: Subject::Network,
        summary: "counts what was said until now as seen by all of your clients",
        about: "In one channel or with one person, or everywhere on the network. Nothing is deleted.", examples: &["history reset #rust", "history reset"],
    },
    Row {
        verb: Verb::HistorySize, words: &["history", "size"], parameters: &[], options: &[],
        role: User, subject: Subject::User,
        summary: "shows how much is stored of each network",
        about: "", examples: &["history size"],
    },
    Row {
        verb: Verb::HistoryExport, words: &["history", "export"], parameters: &[one("TARGET")],
        options: &[ON_NETWORK, own("format", "FORMAT", Text, "text (the default), or jsonl: a JSON object a line"), AFTER, BEFORE],
        role: User, subject: Subject::Network,
        summary: "writes out all that is stored of a channel or person",
        about: "", examples: &["history export #rust -format jsonl", "history export bob -after 30d"],
    },
    Row {
        verb: Verb::Password, words: &["password"], parameters: &[secret(maybe("OLD")), secret(one("NEW"))], options: &[],
        role: User, subject: Subject::User,
        summary: "changes your password",
        about: "With the old one before it, only if that is right.", examples: &["password 'correct horse' 'battery staple'"],
    },
    Row {
        verb: Verb::CertificateAdd, words: &["certificate", "add"], parameters: &[maybe("FINGERPRINT")], options: &[],
        role: User, subject: Subject::User,
        summary: "lets a client certificate log in",
        about: "sha256:HEX of the certificate, or spki-sha256:HEX of its key; without one, the certificate that you are connected with.", examples: &["certificate add"],
    },
    Row {
        verb: Verb::CertificateDelete, words: &["certificate", "delete"], parameters: &[one("FINGERPRINT")], options: &[],
        role: User, subject: Subject::User,
        summary: "does not let it log in any more",
        about: "", examples: &["certificate delete sha256:0123..."],
    },
    Row {
        verb: Verb::CertificateStatus, words: &["certificate", "status"], parameters: &[], options: &[],
        role: User, subject: Subject::User,
        summary: "shows which client certificates may log in",
        about: "", examples: &["certificate status"],
    },
    Row {
        verb: Verb::CertfpGenerate, words: &["certfp", "generate"], parameters: &[],
        options: &[ON_NETWORK, own("key-type", "TYPE", Text, "ecdsa (the default), ed25519 or rsa")],
        role: User, subject: Subject::Network,
        summary: "makes a certificate that the network's servers are shown, and tells its fingerprint",
        about: "It replaces the one before it. It is logged in with from then on, unless a password is set (\"sasl set-plain\"). Services have to know it: mostly by /msg NickServ CERT ADD FINGERPRINT.", examples: &["certfp generate -network libera", "certfp generate -key-type ed25519"],
    },
    Row {
        verb: Verb::CertfpFingerprint, words: &["certfp", "fingerprint"], parameters: &[], options: &[ON_NETWORK],
        role: User, subject: Subject::Network,
        summary: "shows the fingerprint of the certificate that the network's servers are shown",
        about: "", examples: &["certfp fingerprint -network libera"],
    },
    Row {
        verb: Verb::SaslSetPlain, words: &["sasl", "set-plain"], parameters: &[one("ACCOUNT"), secret(one("PASSWORD"))], options: &[ON_NETWORK],
        role: User, subject: Subject::Network,
        summary: "logs in to the network's services with account and password",
        about: "", examples: &["sasl set-plain -network libera apw 'correct horse'"],
    },
    Row {
        verb: Verb::SaslSetExternal, words: &["sasl", "set-external"], parameters: &[], options: &[ON_NETWORK],
        role: User, subject: Subject::Network,
        summary: "logs in to the network's services with the certificate of \"certfp generate\"",
        about: "Services have to know it. Until a login with it has worked, one that is refused is told and nothing else.", examples: &["sasl set-external -network libera"],
    },
    Row {
        verb: Verb::SaslReset, words: &["sasl", "reset"], parameters: &[], options: &[ON_NETWORK],
        role: User, subject: Subject::Network,
        summary: "logs in to the network's services no more",
        about: "", examples: &["sasl reset -network libera"],
    },
    Row {
        verb: Verb::SaslStatus, words: &["sasl", "status"], parameters: &[], options: &[ON_NETWORK],
        role: User, subject: Subject::Network,
        summary: "shows how you log in to the network's services",
        about: "", examples: &["sasl status"],
    },
    Row {
        verb: Verb::Trust, words: &["trust"], parameters: &[maybe("FINGERPRINT")], options: &[ON_NETWORK],
        role: User, subject: Subject::Network,
        summary: "shows the server's certificate that was refused last and why, or takes one from now on",
        about: "With a fingerprint it is pinned, beside those that are pinned already: whatever else there is to say of these certificates, they are taken, and no others. Compare it with what the network publishes first.", examples: &["trust -network oftc", "trust -network oftc sha256:0123..."],
    },
    Row {
        verb: Verb::UserCreate, words: &["user", "create"], parameters: &[],
        options: &[required(own("username", "USER", Text, "the name to log in with")), USER_PASSWORD, ADMIN, NICK, REALNAME, HIGHLIGHT, OWN_MESSAGES, MAX_NETWORKS, USER_ENABLED],
        role: Admin, subject: Subject::Nobody,
        summary: "makes a user",
        about: "", examples: &["user create -username bob -password 'correct horse'"],
    },
    Row {
        verb: Verb::UserUpdate, words: &["user", "update"], parameters: &[maybe("USER")],
        options: &[NICK, USERNAME, REALNAME, HIGHLIGHT, OWN_MESSAGES, for_admins(NEW_PASSWORD), for_admins(ADMIN), for_admins(MAX_NETWORKS), for_admins(USER_ENABLED)],
        role: User, subject: Subject::User,
        summary: "changes a user, yourself if none is named",
        about: "Others are changed by administrators. A user of the configuration file is changed there.", examples: &["user update -highlight carom -highlight bouncer", "user update bob -admin true"],
    },
    Row {
        verb: Verb::UserDelete, words: &["user", "delete"], parameters: &[one("USER")], options: &[own("purge", "", Flag, "at once and for ever")],
        role: Admin, subject: Subject::Nobody,
        summary: "deletes a user; it can be restored for 7 days",
        about: "", examples: &["user delete bob"],
    },
    Row {
        verb: Verb::UserRestore, words: &["user", "restore"], parameters: &[one("USER")], options: &[],
        role: Admin, subject: Subject::Nobody,
        summary: "brings a deleted user back, with networks and history",
        about: "", examples: &["user restore bob"],
    },
    Row {
        verb: Verb::UserStatus, words: &["user", "status"], parameters: &[maybe("USER")], options: &[],
        role: Admin, subject: Subject::Nobody,
        summary: "shows all users, or one in full",
        about: "", examples: &["user status", "user status bob"],
    },
    Row {
        verb: Verb::UserRun, words: &["user", "run"], parameters: &[one("USER"), rest("COMMAND")], options: &[],
        role: Admin, subject: Subject::Nobody,
        summary: "does something as this user",
        about: "", examples: &["user run bob network status"],
    },
    Row {
        verb: Verb::ServerStatus, words: &["server", "status"], parameters: &[], options: &[],
        role: Admin, subject: Subject::Nobody,
        summary: "shows how carom is doing",
        about: "", examples: &["server status"],
    },
    Row {
        verb: Verb::ServerNotice, words: &["server", "notice"], parameters: &[rest("TEXT")], options: &[],
        role: Admin, subject: Subject::Nobody,
        summary: "tells something to all attached clients of all users",
        about: "", examples: &["server notice carom restarts in five minutes"],
    },
    Row {
        verb: Verb::ServerReload, words: &["server", "reload"], parameters: &[], options: &[own("dry-run", "", Flag, "only tell what would happen")],
        role: Admin, subject: Subject::Nobody,
        summary: "reads the configuration file again",
        about: "If anything is wrong with it, everything stays as it is.", examples: &["server reload -dry-run", "server reload"],
    },
    Row {
        verb: Verb::ServerDebug, words: &["server", "debug"], parameters: &[one("on|off")], options: &[],
        role: Admin, subject: Subject::Nobody,
        summary: "has the log tell everything, or what it told before",
        about: "", examples: &["server debug on"],
    },
    Row {
        verb: Verb::ServerDump, words: &["server", "dump"], parameters: &[], options: &[own("secrets", "", Flag, "passwords too; without it they are \"<hidden>\"")],
        role: Admin, subject: Subject::Nobody,
        summary: "prints the whole configuration in force, as a file would say it",
        about: "", examples: &["server dump"],
    },
    Row {
        verb: Verb::Bip, words: &["bip"], parameters: &[rest("WORDS")], options: &[],
        role: User, subject: Subject::Nobody,
        summary: "takes the words of bip, as raw BIP does",
        about: "RELOAD, LIST networks|users|connections|all_links|all_connections, INFO USER, ADD_CONN, DEL_CONN, JUMP, BLRESET [-q] [TARGET], BACKLOG [HOURS], FOLLOW_NICK, IGNORE_FIRST_NICK, ON_CONNECT_SEND, AWAY_NICK, TRUST [OK]; anything else is one of the words above.",
        examples: &["bip JUMP", "bip LIST networks"],
    },
];
