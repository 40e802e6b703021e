//! What can be said to carom: the table of verbs, and the way from words to a `Command`, which cannot be wrong. The
//! service, `CAROM`, `BIP` and `carom ctl` share it. Pure: to carry a command out is left to others.

mod bip;
mod build;
pub mod help;
mod parse;
pub mod permit;
#[rustfmt::skip] // a table: one column on one line
mod rows;
mod split;
pub mod table;

use std::time::Duration;

use crate::config::overlay::Options;
use crate::config::{Pin, Secret};
use crate::wire::Timestamp;

pub use parse::ParseError;
pub use rows::ROWS;
pub use split::split;
pub use table::{Row, Subject, Verb};

use parse::Said;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Anybody with an account.
    User,
    /// Administrators.
    Admin,
    /// Whoever reaches the control socket: an administrator who is no user.
    Control,
}

/// Something to be done, understood and complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Its row in the table.
    pub row: &'static Row,
    /// Who may.
    pub role: Role,
    /// The network that was named.
    pub network: Option<String>,
    /// What is to be done.
    pub command: Command,
}

/// Rows are told apart by their verbs.
impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.verb == other.verb
    }
}

/// What is to be done. The network it is about stands in the [`Request`].
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Lists what can be said, or explains what these words say.
    Help(Option<String>),
    /// Networks and clients.
    Status,
    /// A new network of this name.
    NetworkCreate(String, Options),
    /// Other options.
    NetworkUpdate(Options),
    /// No more.
    NetworkDelete,
    /// The state of networks; whether those of all users are meant.
    NetworkStatus {
        /// Not only the caller's.
        everybody: bool,
    },
    /// The last attempts to connect.
    NetworkExplain,
    /// Connects at once.
    NetworkConnect,
    /// Leaves.
    NetworkDisconnect,
    /// Goes to the next server.
    NetworkJump,
    /// Says a line.
    NetworkQuote(Secret),
    /// A channel to be on.
    ChannelCreate(String, Options),
    /// Other options for it.
    ChannelUpdate(String, Options),
    /// Leaves it.
    ChannelDelete(String),
    /// Keeps it from clients.
    ChannelDetach(String),
    /// Shows it to them again.
    ChannelAttach(String),
    /// The channels, or one.
    ChannelStatus(Option<String>),
    /// The attached clients.
    ClientStatus,
    /// Sends one away.
    ClientDisconnect(u64),
    /// Finds what was said.
    HistorySearch(Find),
    /// Tells again what was said; without a target, everywhere.
    HistoryReplay(Option<String>, Back),
    /// Counts what was said as seen.
    HistoryReset {
        /// Where; `None`: everywhere.
        target: Option<String>,
        /// Nothing is answered when it is done.
        quiet: bool,
    },
    /// How much is stored.
    HistorySize,
    /// Writes out what is stored.
    HistoryExport(Export),
    /// Another password.
    Password {
        /// The one that has to be the present one.
        old: Option<Secret>,
        /// The new one.
        new: Secret,
    },
    /// A certificate that may log in; `None`: the one the caller shows.
    CertificateAdd(Option<Pin>),
    /// No more.
    CertificateDelete(Pin),
    /// Which may.
    CertificateStatus,
    /// A new certificate to show to the network's servers.
    CertfpGenerate(KeyType),
    /// What it is told by.
    CertfpFingerprint,
    /// The server's certificate that was refused; or that this one is taken from now on.
    Trust(Option<Pin>),
    /// The server's certificate that was refused last is taken from now on.
    TrustRefused,
    /// How to log in to services: account and password.
    SaslSetPlain(String, Secret),
    /// How to log in to services: by the certificate that servers are shown.
    SaslSetExternal,
    /// Not at all.
    SaslReset,
    /// How it is done.
    SaslStatus,
    /// A new user.
    UserCreate(String, Option<Secret>, Options),
    /// Another password, other options.
    UserUpdate(Option<String>, Option<Secret>, Options),
    /// Deletes a user.
    UserDelete {
        /// Whom.
        user: String,
        /// For ever.
        purge: bool,
    },
    /// Brings a user back.
    UserRestore(String),
    /// All users, or one.
    UserStatus(Option<String>),
    /// Does something as a user.
    UserRun(String, Box<Request>),
    /// How carom is doing.
    ServerStatus,
    /// Tells all clients something.
    ServerNotice(String),
    /// Reads the file again.
    ServerReload {
        /// Only tells what would happen.
        dry: bool,
    },
    /// Whether the log tells everything.
    ServerDebug(bool),
    /// The configuration in force.
    ServerDump {
        /// With passwords.
        secrets: bool,
    },
    /// Nothing is to be done, and this says why.
    Told(&'static str),
}

/// What to search for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Find {
    /// What it says.
    pub text: String,
    /// Where.
    pub target: Option<String>,
    /// Who said it.
    pub from: Option<String>,
    /// Later than this.
    pub after: Option<When>,
    /// Earlier than this.
    pub before: Option<When>,
    /// At most so many.
    pub limit: usize,
}

/// What kind of key is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA on the curve P-256.
    Ecdsa,
    /// Ed25519.
    Ed25519,
    /// RSA of 3072 bits.
    Rsa,
}

/// What to write out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Whose lines.
    pub target: String,
    /// JSON, not text.
    pub json: bool,
    /// Later than this.
    pub after: Option<When>,
    /// Earlier than this.
    pub before: Option<When>,
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This one.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

/// How far to go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// So many lines.
    Lines(usize),
    /// Lines of this time.
    For(Duration),
}

impl When {
    /// The moment that is meant.
    pub fn since(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(span) => {
                now.plus_millis(-i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
            }
        }
    }
}

/// Understands a line as a person types it.
pub fn parse_line(line: &str) -> Result<Request, ParseError> {
    let said = Said::line(line);
    let request = build::request(&said, 0);
    match (said.broken(), &request) {
        // What breaks off may have been meant to be something else.
        (Some(problem), Err(ParseError::Unknown { .. })) => {
            Err(ParseError::Broken(problem.to_owned()))
        }
        _ => request,
    }
}

/// Understands words that a shell has taken apart. Each word of a command may be abbreviated as long as it stands for one
/// word only.
pub fn parse(words: &[String]) -> Result<Request, ParseError> {
    build::request(&Said::words(words), 0)
}

#[cfg(test)]
mod tests;
