//! Every key of the file, one row each: its name and how its value is taken. A key whose function does not exist yet has
//! no row, so it is an error like any unknown one. Rows are read in this order, so what others inherit stands first.

use std::path::PathBuf;

use super::chat;
use super::check;
use super::detaching;
use super::keeping;
use super::origin;
use super::pins;
use super::ranges;
use super::reader::{Reader, Value};
use super::side;
use super::source;
use super::{
    Channel, Config, Dial, Durability, Family, HistoryRules, Level, Limits, Log, LogLevel, Network,
    Rate, Replay, ResetOnTalk, Server, Storage, Tls, Trust, Verify, Which,
};

/// What is said of a required key that is not there.
pub(super) const MISSING: &str = "is missing";

/// Whether a key has to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Required,
    Optional,
}

/// One key of a table that fills a `T`.
pub(super) struct Key<T: 'static> {
    pub(super) name: &'static str,
    pub(super) need: Need,
    /// How it may look, for a required key.
    pub(super) example: &'static str,
    pub(super) read: fn(&mut T, Value<'_>, &mut Reader<'_>),
}

const fn key<T>(name: &'static str, read: fn(&mut T, Value<'_>, &mut Reader<'_>)) -> Key<T> {
    Key {
        name,
        need: Need::Optional,
        example: "",
        read,
    }
}

const fn required<T>(
    name: &'static str,
    example: &'static str,
    read: fn(&mut T, Value<'_>, &mut Reader<'_>),
) -> Key<T> {
    Key {
        name,
        need: Need::Required,
        example,
        read,
    }
}

/// The tables of the file and the keys of each, for the manual and for completion: `("server", ["name", ...])`. Nested
/// tables have their full name; what may stand on several levels is listed once, under the outermost.
pub fn tables() -> Vec<(&'static str, Vec<&'static str>)> {
    fn names<T>(keys: &[Key<T>]) -> Vec<&'static str> {
        keys.iter().map(|key| key.name).collect()
    }
    vec![
        ("", names(ROOT)),
        ("server", names(SERVER)),
        ("tls", names(TLS)),
        ("storage", names(STORAGE)),
        ("history", names(HISTORY)),
        ("log", names(LOG)),
        ("limits", names(LIMITS)),
        ("dial", names(DIAL)),
        ("user", names(USER)),
        ("user.network", names(NETWORK)),
        ("user.network.sasl", names(SASL)),
        ("user.network.tls", names(TRUST)),
        ("user.network.flood", names(RATE)),
        ("user.network.channel", names(CHANNEL)),
        ("user.network.password", names(SECRET)),
    ]
}

pub(super) static ROOT: &[Key<Config>] = &[
    key("storage", |config, v, r| {
        r.table(v, STORAGE, &mut config.storage);
        config.server.control = r.surroundings.control(&config.storage.folder);
    }),
    key("history", |config, v, r| r.table(v, HISTORY, &mut config.history)),
    key("dial", |config, v, r| r.table(v, DIAL, &mut config.dial)),
    key("limits", |config, v, r| r.table(v, LIMITS, &mut config.limits)),
    key("log", |config, v, r| r.table(v, LOG, &mut config.log)),
    key("tls", check::tls),
    key("server", |config, v, r| r.table(v, SERVER, &mut config.server)),
    key("user", check::users),
];

static SERVER: &[Key<Server>] = &[
    key("name", |server, v, r| check::server_name(v, r, &mut server.name)),
    key("listen", |server, v, r| check::listen(v, r, &mut server.listen)),
    key("motd", |server, v, r| r.readable(v, Level::Warning, &mut server.motd)),
    key("control", |server, v, r| check::control(v, r, &mut server.control)),
    key("allow", |server, v, r| ranges::read(v, r, &mut server.allow)),
    key("deny", |server, v, r| ranges::read(v, r, &mut server.deny)),
    key("proxies", |server, v, r| ranges::read(v, r, &mut server.proxies)),
    key("websocket_origins", |server, v, r| origin::read(v, r, &mut server.websocket_origins)),
    key("admin_contact", |server, v, r| check::free_text(v, r, 300, &mut server.admin_contact)),
    key("metrics", |server, v, r| side::listen(v, r, side::METRICS, &mut server.metrics)),
    key("ident", side::ident),
];

pub(super) static TLS: &[Key<Tls>] = &[
    key("certificate", |tls, v, r| check::pem(v, r, &mut tls.certificate)),
    key("key", |tls, v, r| check::pem(v, r, &mut tls.key)),
];

static STORAGE: &[Key<Storage>] = &[
    key("path", check::storage_path),
    key("durability", |storage, v, r| {
        let words = [
            ("process", Durability::Process),
            ("power", Durability::Power),
        ];
        r.word(v, &words, &mut storage.durability);
    }),
];

pub(super) static HISTORY: &[Key<HistoryRules>] = &[
    key("replay", |history, v, r| {
        let words = [
            ("unseen", Replay::Unseen),
            ("last", Replay::Last),
            ("none", Replay::None),
        ];
        r.word(v, &words, &mut history.replay);
    }),
    key("lines", |history, v, r| history.lines = r.number(v).unwrap_or(history.lines)),
    key("first_lines", |history, v, r| {
        history.first_lines = r.number(v).unwrap_or(history.first_lines);
    }),
    key("only_messages", |history, v, r| r.flag(v, &mut history.only_messages)),
    key("timestamps", |history, v, r| check::timestamps(v, r, &mut history.timestamps)),
    key("reset_on_talk", |history, v, r| {
        let words = [
            ("none", ResetOnTalk::None),
            ("target", ResetOnTalk::Target),
            ("network", ResetOnTalk::Network),
        ];
        r.word(v, &words, &mut history.reset_on_talk);
    }),
    key("retention", |history, v, r| keeping::retention(v, r, &mut history.retention)),
    key("max_size", |history, v, r| keeping::max_size(v, r, &mut history.max_size)),
];

static LOG: &[Key<Log>] = &[
    key("level", |log, v, r| {
        let words = [
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ];
        r.word(v, &words, &mut log.level);
    }),
    key("format", |log, v, r| r.word(v, &[("text", false), ("json", true)], &mut log.json)),
    key("chat_root", |log, v, r| chat::root(&mut log.chat.root, v, r)),
    key("chat_format", |log, v, r| chat::format(&mut log.chat.format, v, r)),
];

static LIMITS: &[Key<Limits>] = &[
    key("unauthenticated", |limits, v, r| r.count(v, &mut limits.unauthenticated)),
    key("per_address", |limits, v, r| r.count(v, &mut limits.per_address)),
    key("connects_per_address", |limits, v, r| r.rate(v, &mut limits.connects_per_address)),
    key("login_failures", |limits, v, r| r.rate(v, &mut limits.login_failures)),
    key("register_timeout", |limits, v, r| r.deadline(v, &mut limits.register_timeout)),
    key("clients_per_user", |limits, v, r| r.count(v, &mut limits.clients_per_user)),
    key("networks_per_user", |limits, v, r| r.count(v, &mut limits.networks_per_user)),
    key("channels_per_network", |limits, v, r| r.count(v, &mut limits.channels_per_network)),
    key("client_queue", |limits, v, r| r.size(v, &mut limits.client_queue)),
    key("client_timeout", |limits, v, r| r.deadline(v, &mut limits.client_timeout)),
];

static DIAL: &[Key<Dial>] = &[
    key("family", |dial, v, r| family(v, r, &mut dial.family)),
    key("attempt_delay", |dial, v, r| r.wait(v, &mut dial.attempt_delay)),
    key("resolution_delay", |dial, v, r| {
        dial.resolution_delay = r.duration(v).unwrap_or(dial.resolution_delay);
    }),
    key("timeout", |dial, v, r| r.wait(v, &mut dial.timeout)),
    key("silence", |dial, v, r| r.wait(v, &mut dial.silence)),
    key("register_timeout", |dial, v, r| r.wait(v, &mut dial.register_timeout)),
    key("source", |dial, v, r| source::sources(v, r, &mut dial.source)),
    key("source_kind", |dial, v, r| source::source_kind(v, r, &mut dial.source_kind)),
    key("allow_internal", |dial, v, r| r.flag(v, &mut dial.allow_internal)),
    key("freebind", |dial, v, r| r.flag(v, &mut dial.freebind)),
    key("ipv6_mss", |dial, v, r| check::mss(v, r, &mut dial.ipv6_mss)),
    key("reconnect", |dial, v, r| r.wait(v, &mut dial.reconnect)),
    key("pace", |dial, v, r| r.rate(v, &mut dial.pace)),
];

fn family(value: Value<'_>, reader: &mut Reader<'_>, into: &mut Family) {
    let words = [
        ("prefer-ipv6", Family::PreferIpv6),
        ("prefer-ipv4", Family::PreferIpv4),
        ("ipv6", Family::Ipv6),
        ("ipv4", Family::Ipv4),
    ];
    reader.word(value, &words, into);
}

pub(super) static RATE: &[Key<Rate>] = &[
    key("burst", |rate, v, r| r.within(v, (0, 1_000_000), &mut rate.burst)),
    key("every", |rate, v, r| r.wait(v, &mut rate.every)),
];

/// `{ file = "path" }` instead of a secret.
pub(super) static SECRET: &[Key<PathBuf>] = &[required("file", "file = \"path\"", |path, v, r| {
    match r.path(v) {
        Some(Some(file)) => *path = file,
        Some(None) => r.error(v, "has no path in it", "write { file = \"path\" }"),
        None => {}
    }
})];

pub(super) static USER: &[Key<check::UserDraft>] = &[
    required("name", "name = \"apw\"", check::user_name),
    key("password", check::user_password),
    key("admin", |draft, v, r| r.flag(v, &mut draft.user.admin)),
    key("enabled", |draft, v, r| r.flag(v, &mut draft.user.enabled)),
    key("max_networks", |draft, v, r| {
        let mut most = 0;
        r.count(v, &mut most);
        draft.user.max_networks = Some(most);
    }),
    key("certificates", pins::certificates),
    key("nick", |draft, v, r| check::nick(v, r, &mut draft.user.nick)),
    key("username", |draft, v, r| check::username(v, r, &mut draft.user.username)),
    key("realname", |draft, v, r| check::free_text(v, r, 150, &mut draft.user.realname)),
    key("highlights", detaching::highlights),
    key("own_messages", |draft, v, r| r.flag(v, &mut draft.user.own_messages)),
    key("history", |draft, v, r| r.table(v, HISTORY, &mut draft.user.history)),
    key("network", check::networks),
];

pub(super) static NETWORK: &[Key<Network>] = &[
    required("name", "name = \"oftc\"", check::network_name),
    required(
        "servers",
        "servers = [\"ircs://irc.example.org\"]",
        check::servers,
    ),
    key("enabled", |network, v, r| r.flag(v, &mut network.enabled)),
    key("family", |network, v, r| family(v, r, &mut network.dial.family)),
    key("source", |network, v, r| source::sources(v, r, &mut network.dial.source)),
    key("timeout", |network, v, r| r.wait(v, &mut network.dial.timeout)),
    key("nick", |network, v, r| check::nick(v, r, &mut network.nick)),
    key("username", |network, v, r| check::username(v, r, &mut network.username)),
    key("realname", |network, v, r| check::free_text(v, r, 150, &mut network.realname)),
    key("alternative_nicks", check::alternative_nicks),
    key("password", |network, v, r| check::password(v, r, &mut network.password)),
    key("client_certificate", |network, v, r| {
        r.readable(v, Level::Error, &mut network.client_certificate);
    }),
    key("sasl", check::sasl),
    key("tls", check::trust),
    key("on_connect", check::on_connect),
    key("follow_nick", |network, v, r| r.flag(v, &mut network.follow_nick)),
    key("keep_nick", |network, v, r| r.flag(v, &mut network.keep_nick)),
    key("away_nick", check::away_nick),
    key("away_message", |network, v, r| check::free_text(v, r, 300, &mut network.away_message)),
    key("auto_away", |network, v, r| r.flag(v, &mut network.auto_away)),
    key("rejoin_on_kick", |network, v, r| r.flag(v, &mut network.rejoin_on_kick)),
    key("history", |network, v, r| keeping::of_part(v, r, &mut network.history)),
    key("proxy", source::proxy),
    key("flood", |network, v, r| r.rate(v, &mut network.flood)),
    key("channel", check::channels),
];

pub(super) static SASL: &[Key<check::SaslDraft>] = &[
    key("mechanism", |sasl, v, r| {
        let words = [
            ("plain", check::Mechanism::Plain),
            ("external", check::Mechanism::External),
            ("scram-sha-256", check::Mechanism::ScramSha256),
        ];
        r.word(v, &words, &mut sasl.mechanism);
    }),
    key("account", |sasl, v, r| check::free_text(v, r, 300, &mut sasl.account)),
    key("password", |sasl, v, r| check::password(v, r, &mut sasl.password)),
];

pub(super) static TRUST: &[Key<Trust>] = &[
    key("verify", |trust, v, r| {
        let words = [
            ("ca", Verify::Ca),
            ("pin", Verify::Pin),
            ("none", Verify::None),
        ];
        r.word(v, &words, &mut trust.verify);
    }),
    key("pins", pins::pins),
    key("ca", |trust, v, r| r.readable(v, Level::Error, &mut trust.ca)),
];

pub(super) static CHANNEL: &[Key<Channel>] = &[
    required("name", "name = \"#channel\"", check::channel_name),
    key("key", check::channel_key),
    key("history", |channel, v, r| keeping::of_part(v, r, &mut channel.history)),
    key("detached", |channel, v, r| r.flag(v, &mut channel.detaching.detached)),
    key("relay_detached", |channel, v, r| {
        detaching::which(v, r, Which::Highlights, &mut channel.detaching.relay);
    }),
    key("reattach_on", |channel, v, r| {
        detaching::which(v, r, Which::None, &mut channel.detaching.reattach);
    }),
    key("detach_after", |channel, v, r| detaching::after(v, r, &mut channel.detaching.after)),
    key("detach_on", |channel, v, r| {
        detaching::which(v, r, Which::Messages, &mut channel.detaching.on);
    }),
];
