//! The effective configuration: everything the file (and later the database) says, with defaults filled in and checked, so
//! that the rest of the program cannot meet a wrong value. `file` reads TOML and finds what is wrong; this is what it
//! yields. Values are plain data.

pub mod address;
pub mod change;
mod chat;
mod check;
mod detaching;
pub mod diff;
pub mod dump;
pub mod file;
pub mod finding;
mod host;
mod keeping;
#[rustfmt::skip] // a table: one row on one line
pub mod keys;
pub mod made;
pub mod manner;
mod merge;
pub(crate) mod nearest;
pub mod origin;
pub mod overlay;
pub(crate) mod parts;
mod pins;
pub mod ranges;
mod reader;
pub mod secret;
mod side;
pub mod source;
mod texts;
pub(crate) mod toml_text;
pub mod units;

use std::path::PathBuf;
use std::time::Duration;

pub use address::{Listen, ListenHost, Scheme, ServerAddr};
pub use detaching::{Detaching, Which};
pub use file::{Purpose, Surroundings, control_socket, database, load, load_in};
pub use finding::{Finding, Findings, Level};
pub use manner::Manner;
pub use origin::Origins;
pub use ranges::Ranges;
pub use secret::Secret;
pub use source::{Proxy, Source, SourceKind, Sources};
pub use units::Rate;

/// Everything the daemon runs by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// The file it came from.
    pub path: PathBuf,
    /// `[server]`
    pub server: Server,
    /// `[tls]`
    pub tls: Tls,
    /// `[storage]`
    pub storage: Storage,
    /// `[log]`
    pub log: Log,
    /// `[limits]`
    pub limits: Limits,
    /// `[dial]`: what networks begin with.
    pub dial: Dial,
    /// `[history]`: what users begin with.
    pub history: HistoryRules,
    /// `[[user]]`
    pub users: Vec<User>,
}

/// `[server]`: what clients see and where they come in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Server {
    /// The server name in everything carom itself says.
    pub name: String,
    /// Where clients come in.
    pub listen: Vec<Listen>,
    /// The message of the day.
    pub motd: Option<PathBuf>,
    /// The control socket; `None`: none.
    pub control: Option<PathBuf>,
    /// Addresses clients may come from; empty: from all.
    pub allow: Ranges,
    /// Addresses clients may not come from, whatever `allow` says.
    pub deny: Ranges,
    /// Proxies that tell in a PROXY header whom they speak for.
    pub proxies: Ranges,
    /// Where pages may come from that speak to `wss://` and `ws://` listeners.
    pub websocket_origins: Origins,
    /// Whom users may turn to.
    pub admin_contact: String,
    /// Where it is told how carom is doing.
    pub metrics: Vec<Listen>,
    /// Where it is told whose connections to servers are.
    pub ident: Vec<Listen>,
    /// Files where oidentd is told instead.
    pub oidentd: Vec<PathBuf>,
}

/// `[tls]`: certificate and key for `ircs://` listeners. Both or neither are in the file; when neither is, `made` is true,
/// the paths point into the data folder and the first run makes them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
    /// Whether carom makes them itself.
    pub made: bool,
}

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Storage {
    /// The database; `None` for `:memory:`.
    pub database: Option<PathBuf>,
    /// Where database, made certificate and lock live.
    pub folder: PathBuf,
    /// What a stored line survives.
    pub durability: Durability,
}

/// What a stored line survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The end of the process at any moment; of a power cut at most the last second is lost.
    #[default]
    Process,
    /// A power cut: every commit is synced before delivery.
    Power,
}

/// `[log]`: the daemon's own log on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// How much is told.
    pub level: LogLevel,
    /// `format = "json"`.
    pub json: bool,
    /// Where the text logs of what is said go; no root: nowhere.
    pub chat: ChatLog,
}

/// `log.chat_root` and `log.chat_format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatLog {
    /// The folder; empty: no text logs.
    pub root: PathBuf,
    /// The path of a file in it, with `%u %n %c %Y %m %d %h`.
    pub format: String,
}

impl Default for ChatLog {
    fn default() -> Self {
        Self {
            root: PathBuf::new(),
            format: "%u/%n/%Y-%m/%c.%d.log".into(),
        }
    }
}

/// How much the log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// `[limits]`; where the file says 0 (no limit) a count is `usize::MAX`, a duration `Duration::MAX`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Limits {
    pub unauthenticated: usize,
    pub per_address: usize,
    pub connects_per_address: Rate,
    pub login_failures: Rate,
    pub register_timeout: Duration,
    pub clients_per_user: usize,
    pub networks_per_user: usize,
    pub channels_per_network: usize,
    pub client_queue: usize,
    pub client_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unauthenticated: 512,
            per_address: 8,
            connects_per_address: Rate {
                burst: 20,
                every: Duration::from_secs(5),
            },
            login_failures: Rate {
                burst: 5,
                every: Duration::from_secs(12),
            },
            register_timeout: Duration::from_secs(30),
            clients_per_user: 64,
            networks_per_user: 64,
            channels_per_network: 500,
            client_queue: 256 * 1024,
            client_timeout: Duration::from_secs(150),
        }
    }
}

/// A person with an account here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// `[a-z0-9_-]{1,32}`
    pub name: String,
    /// Whether the file declares it; else it was made at run time.
    pub declared: bool,
    /// Whether the user may log in, and his networks run.
    pub enabled: bool,
    /// How many networks he may have; `None`: what `[limits]` says.
    pub max_networks: Option<usize>,
    /// Client certificates that may log in.
    pub certificates: Vec<Pin>,
    /// The hash of the password; `None`: one is made at first start.
    pub password: Option<Secret>,
    /// Where the file gives it, for the log line about an old hash.
    pub password_line: usize,
    /// Whether the user administers carom.
    pub admin: bool,
    /// Networks in the file's order.
    pub networks: Vec<Network>,
    /// What networks begin with; for a lobby: the nick a client without a network is known by.
    pub nick: String,
    /// What networks begin with.
    pub username: String,
    /// What networks begin with.
    pub realname: String,
    /// Words that are meant for him, beside his nick.
    pub highlights: Vec<String>,
    /// Whether what he writes to people is shown as it stands to clients that know no lines of their own; else in words.
    pub own_messages: bool,
    /// What networks begin with.
    pub history: HistoryRules,
}

impl Default for User {
    fn default() -> Self {
        Self {
            name: String::new(),
            declared: true,
            enabled: true,
            max_networks: None,
            certificates: Vec::new(),
            password: None,
            password_line: 0,
            admin: false,
            networks: Vec::new(),
            nick: String::new(),
            username: String::new(),
            realname: String::new(),
            highlights: Vec::new(),
            own_messages: true,
            history: HistoryRules::default(),
        }
    }
}

impl User {
    /// How many networks he may have.
    pub fn most_networks(&self, limits: &Limits) -> usize {
        self.max_networks.unwrap_or(limits.networks_per_user)
    }
}

/// One IRC network of one user, everything inherited from user, `[dial]` and `[history]` filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name, unique per user.
    pub name: String,
    /// Whether the file declares it; else it was made at run time.
    pub declared: bool,
    /// Whether it may reach internal addresses, and its user be told why it cannot: what the file declares and what
    /// administrators make may.
    pub trusted: bool,
    /// Whether to be connected.
    pub enabled: bool,
    /// In order, then again.
    pub servers: Vec<ServerAddr>,
    /// How servers are reached.
    pub dial: Dial,
    /// Through what servers are reached; `None`: directly.
    pub proxy: Option<Proxy>,
    /// The wanted nick.
    pub nick: String,
    /// Tried in order when it is taken.
    pub alternative_nicks: Vec<String>,
    /// USER's first parameter.
    pub username: String,
    /// USER's last parameter.
    pub realname: String,
    /// The server password.
    pub password: Option<Secret>,
    /// How to log in to services.
    pub sasl: Option<Sasl>,
    /// PEM with certificate and key shown to servers.
    pub client_certificate: Option<PathBuf>,
    /// How a server proves who it is.
    pub trust: Trust,
    /// Lines said after registration, before channels are joined.
    pub on_connect: Vec<Secret>,
    /// A nick change becomes the wanted nick.
    pub follow_nick: bool,
    /// Whether the wanted nick is tried again when another was to be had.
    pub keep_nick: bool,
    /// The nick to have while no client is attached.
    pub away_nick: Option<String>,
    /// Why the user is away while no client is attached; empty: a text of ours.
    pub away_message: String,
    /// Whether the user is away while no client is attached.
    pub auto_away: bool,
    /// Whether a kick is followed by a rejoin.
    pub rejoin_on_kick: bool,
    /// Lines towards the server.
    pub flood: Rate,
    /// History of targets that have no own rules.
    pub history: HistoryRules,
    /// The user's.
    pub highlights: Vec<String>,
    /// The user's.
    pub own_messages: bool,
    /// Declared channels.
    pub channels: Vec<Channel>,
    /// `[limits] channels_per_network`, here because the network's task holds to it.
    pub max_channels: usize,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            name: String::new(),
            declared: true,
            trusted: true,
            enabled: true,
            servers: Vec::new(),
            dial: Dial::default(),
            proxy: None,
            nick: String::new(),
            alternative_nicks: Vec::new(),
            username: String::new(),
            realname: String::new(),
            password: None,
            sasl: None,
            client_certificate: None,
            trust: Trust::default(),
            on_connect: Vec::new(),
            follow_nick: true,
            keep_nick: true,
            away_nick: None,
            away_message: String::new(),
            auto_away: true,
            rejoin_on_kick: true,
            flood: Rate {
                burst: 10,
                every: Duration::from_secs(2),
            },
            history: HistoryRules::default(),
            highlights: Vec::new(),
            own_messages: true,
            channels: Vec::new(),
            max_channels: Limits::default().channels_per_network,
        }
    }
}

impl Network {
    /// Whether a link that was made by `other` would be made the same way by this: if not, it is made anew.
    pub fn reached_as(&self, other: &Self) -> bool {
        diff::needs_new_link(other, self).is_empty()
    }
}

/// `[[user.network.channel]]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// Its key.
    pub key: Option<Secret>,
    /// Its history rules.
    pub history: HistoryRules,
    /// Whether and when it is detached.
    pub detaching: Detaching,
}

/// `[history]` as it holds for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRules {
    /// What is replayed at attach.
    pub replay: Replay,
    /// At most so many lines; 0: no limit.
    pub lines: u64,
    /// For a client name that was never seen before.
    pub first_lines: u64,
    /// Whether joins, parts and the like are left out.
    pub only_messages: bool,
    /// For clients without server-time.
    pub timestamps: TimeStyle,
    /// What counts as seen by all clients of the user when one of them says something.
    pub reset_on_talk: ResetOnTalk,
    /// How long lines are kept; `None`: for ever.
    pub retention: Option<Duration>,
    /// How many bytes of history a user may have; `None`: any number.
    pub max_size: Option<u64>,
}

impl Default for HistoryRules {
    fn default() -> Self {
        Self {
            replay: Replay::Unseen,
            lines: 0,
            first_lines: 50,
            only_messages: true,
            timestamps: TimeStyle::Time,
            reset_on_talk: ResetOnTalk::None,
            retention: None,
            max_size: Some(1 << 30),
        }
    }
}

/// What is replayed at attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Replay {
    /// What this client name has not acknowledged.
    #[default]
    Unseen,
    /// The newest lines, each time.
    Last,
    /// Nothing.
    None,
}

/// What counts as seen by all clients of a user when one of them says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetOnTalk {
    /// Nothing.
    #[default]
    None,
    /// What was said before in that channel or private talk.
    Target,
    /// What was said before in the whole network.
    Network,
}

/// How replayed lines show their time to clients without server-time.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum TimeStyle {
    /// Not at all.
    None,
    /// `[HH:MM:SS] `, with the date when the day differs.
    #[default]
    Time,
    /// `[YYYY-MM-DD HH:MM:SS] `
    DateTime,
    /// A strftime string, followed by one space.
    Strftime(String),
}

/// `[dial]` as it holds for one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    /// Which family first, or alone.
    pub family: Family,
    /// RFC 8305 connection attempt delay.
    pub attempt_delay: Duration,
    /// RFC 8305 resolution delay.
    pub resolution_delay: Duration,
    /// One address: TCP and TLS.
    pub timeout: Duration,
    /// No octet from the server after we began to register.
    pub silence: Duration,
    /// Until 001.
    pub register_timeout: Duration,
    /// Where connections come from.
    pub source: Sources,
    /// Which of the host's own addresses, when that names none.
    pub source_kind: SourceKind,
    /// Whether users who are not administrators may reach internal addresses.
    pub allow_internal: bool,
    /// Whether addresses are bound that no interface has; for listeners too.
    pub freebind: bool,
    /// MSS of IPv6 sockets; 0: left alone.
    pub ipv6_mss: u32,
    /// First wait after a failed cycle.
    pub reconnect: Duration,
    /// New connections to one server host, all users together.
    pub pace: Rate,
}

impl Default for Dial {
    fn default() -> Self {
        Self {
            family: Family::PreferIpv6,
            attempt_delay: Duration::from_millis(250),
            resolution_delay: Duration::from_millis(50),
            timeout: Duration::from_secs(15),
            silence: Duration::from_secs(10),
            register_timeout: Duration::from_secs(60),
            source: Sources::default(),
            source_kind: SourceKind::Stable,
            allow_internal: false,
            freebind: false,
            ipv6_mss: 1220,
            reconnect: Duration::from_secs(15),
            pace: Rate {
                burst: 10,
                every: Duration::from_secs(1),
            },
        }
    }
}

/// Which address family to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Family {
    #[default]
    PreferIpv6,
    PreferIpv4,
    Ipv6,
    Ipv4,
}

/// Logging in to a network's services (IRCv3 SASL).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sasl {
    /// RFC 4616
    Plain {
        /// The services account.
        account: String,
        /// Its password.
        password: Secret,
    },
    /// RFC 7677: the server does not learn the password, and proves that it knows it.
    ScramSha256 {
        /// The services account.
        account: String,
        /// Its password.
        password: Secret,
    },
    /// RFC 4422 appendix A, with the client certificate.
    External {
        /// The account to act as; empty: whose certificate it is.
        account: String,
    },
}

/// How a server's certificate is judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    /// What is checked.
    pub verify: Verify,
    /// Accepted certificates or keys.
    pub pins: Vec<Pin>,
    /// A PEM file of accepted authorities, instead of the system's.
    pub ca: Option<PathBuf>,
}

/// What is checked of a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// The chain, the name, and a pin when there are any.
    #[default]
    Ca,
    /// A pin alone.
    Pin,
    /// Nothing.
    None,
}

/// A SHA-256 fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// `sha256:` of the certificate (DER).
    Certificate([u8; 32]),
    /// `spki-sha256:` of its public key.
    Key([u8; 32]),
}
