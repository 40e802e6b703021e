//! What is made at run time, beside the file: who asks for which change, and how it is answered. Options are those of the
//! file, under the same keys, and are held to the same rules. How they are kept is the history's, how they take effect
//! the bouncer's.

use std::fmt;
use std::path::PathBuf;

use toml::{Table, Value};

use super::{Finding, Pin, Secret};

/// Options of a user, network or channel, under the keys of the file. They may hold secrets, so they cannot be printed.
#[derive(Clone, PartialEq, Default)]
pub struct Options(Vec<(String, Option<Value>)>);

impl Options {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an option, of which the last word counts. A dot leads into a table: `sasl.account`, `history.replay`, `tls.pins`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.push((key.to_owned(), Some(value.into())));
        self
    }

    /// Gives an option its default back; of a table, all in it.
    #[must_use]
    pub fn unset(mut self, key: &str) -> Self {
        self.0.push((key.to_owned(), None));
        self
    }

    /// What is set under a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let mut found = self.0.iter().rev().filter(|(name, _)| name == key);
        found.next()?.1.as_ref()
    }

    /// The keys, as they were given.
    pub fn keys(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All but one.
    pub(super) fn without(&self, key: &str) -> Self {
        let others = self.0.iter().filter(|(name, _)| name != key);
        Self(others.cloned().collect())
    }

    /// What a table becomes by these options.
    pub(super) fn onto(&self, mut table: Table) -> Table {
        for (key, value) in &self.0 {
            match value {
                Some(value) => put(&mut table, key, value.clone()),
                None => take(&mut table, key),
            }
        }
        table
    }

    /// The first of these names that stands anywhere in a key or, in a table, below one.
    pub(super) fn find_name(&self, names: &[&'static str]) -> Option<&'static str> {
        let mut set = self.0.iter().filter_map(|(k, v)| Some((k, v.as_ref()?)));
        set.find_map(|(key, value)| {
            let mut parts = key.split('.');
            let part = parts.find_map(|part| names.iter().find(|name| **name == part));
            part.copied().or_else(|| find_name(value, names))
        })
    }
}

fn find_name(value: &Value, names: &[&'static str]) -> Option<&'static str> {
    match value {
        Value::Table(table) => table.iter().find_map(|(key, value)| {
            let name = names.iter().find(|name| *name == key).copied();
            name.or_else(|| find_name(value, names))
        }),
        Value::Array(items) => items.iter().find_map(|item| find_name(item, names)),
        _ => None,
    }
}

/// Whether a key is a table or option, or stands in it.
pub(super) fn is_under(key: &str, table: &str) -> bool {
    key.strip_prefix(table)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Their values may be secrets.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys()).finish()
    }
}

/// The tables that a dotted key leads through, and its last part.
fn path(key: &str) -> (impl Iterator<Item = &str>, &str) {
    let (tables, last) = key.rsplit_once('.').unwrap_or(("", key));
    (tables.split('.').filter(|name| !name.is_empty()), last)
}

fn put(table: &mut Table, key: &str, value: Value) {
    let (tables, last) = path(key);
    let mut table = table;
    for name in tables {
        let entry = table
            .entry(name)
            .or_insert_with(|| Value::Table(Table::new()));
        if !entry.is_table() {
            *entry = Value::Table(Table::new());
        }
        let Value::Table(inner) = entry else { return };
        table = inner;
    }
    table.insert(last.to_owned(), value);
}

fn take(table: &mut Table, key: &str) {
    let (tables, last) = path(key);
    let mut table = table;
    for name in tables {
        match table.get_mut(name) {
            Some(Value::Table(inner)) => table = inner,
            _ => return,
        }
    }
    table.remove(last);
}

/// One thing to change.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A new user. Without a password one is made, which the outcome tells.
    CreateUser {
        /// The name.
        name: String,
        /// In clear.
        password: Option<Secret>,
        /// Keys of `[[user]]`.
        options: Options,
    },
    /// Other options for a user.
    UpdateUser {
        /// The name.
        name: String,
        /// Keys of `[[user]]`.
        options: Options,
    },
    /// Takes effect at once. What the user had can be restored for seven days, unless it is purged. A user that was
    /// deleted before can still be purged.
    DeleteUser {
        /// The name.
        name: String,
        /// At once and for ever.
        purge: bool,
    },
    /// A deleted user comes back with all it had.
    RestoreUser {
        /// The name.
        name: String,
    },
    /// Another password. With `old`, only if that is the present one.
    SetPassword {
        /// Whose.
        user: String,
        /// The present one, in clear.
        old: Option<Secret>,
        /// In clear.
        new: Secret,
    },
    /// A certificate that may log in.
    AddCertificate {
        /// Whose.
        user: String,
        /// Its fingerprint.
        pin: Pin,
    },
    /// No more.
    DeleteCertificate {
        /// Whose.
        user: String,
        /// Its fingerprint.
        pin: Pin,
    },
    /// A new network.
    CreateNetwork {
        /// Whose.
        user: String,
        /// Its name.
        name: String,
        /// Keys of `[[user.network]]`.
        options: Options,
    },
    /// Other options for a network; `name` among them renames it.
    UpdateNetwork {
        /// Whose.
        user: String,
        /// Its name.
        name: String,
        /// Keys of `[[user.network]]`.
        options: Options,
    },
    /// Ends a network. Its history is kept for seven days, for whoever has to find something in it.
    DeleteNetwork {
        /// Whose.
        user: String,
        /// Its name.
        name: String,
    },
    /// A channel to be on.
    CreateChannel {
        /// Whose.
        user: String,
        /// On which network, declared or not.
        network: String,
        /// Its name.
        name: String,
        /// Keys of `[[user.network.channel]]`.
        options: Options,
    },
    /// Other options for a channel. One that was merely joined gets its first.
    UpdateChannel {
        /// Whose.
        user: String,
        /// On which network.
        network: String,
        /// Its name.
        name: String,
        /// Keys of `[[user.network.channel]]`.
        options: Options,
    },
    /// Leaves a channel and forgets its options.
    DeleteChannel {
        /// Whose.
        user: String,
        /// On which network.
        network: String,
        /// Its name.
        name: String,
    },
}

impl Change {
    /// Whom it is about.
    pub fn user(&self) -> &str {
        match self {
            Self::CreateUser { name, .. }
            | Self::UpdateUser { name, .. }
            | Self::DeleteUser { name, .. }
            | Self::RestoreUser { name } => name,
            Self::SetPassword { user, .. }
            | Self::AddCertificate { user, .. }
            | Self::DeleteCertificate { user, .. }
            | Self::CreateNetwork { user, .. }
            | Self::UpdateNetwork { user, .. }
            | Self::DeleteNetwork { user, .. }
            | Self::CreateChannel { user, .. }
            | Self::UpdateChannel { user, .. }
            | Self::DeleteChannel { user, .. } => user,
        }
    }

    /// The password it gives, in clear.
    pub fn password(&self) -> Option<&Secret> {
        match self {
            Self::CreateUser { password, .. } => password.as_ref(),
            Self::SetPassword { new, .. } => Some(new),
            _ => None,
        }
    }

    /// What it does, in few words.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateUser { .. } => "user create",
            Self::UpdateUser { .. } => "user update",
            Self::DeleteUser { .. } => "user delete",
            Self::RestoreUser { .. } => "user restore",
            Self::SetPassword { .. } => "password",
            Self::AddCertificate { .. } => "certificate add",
            Self::DeleteCertificate { .. } => "certificate delete",
            Self::CreateNetwork { .. } => "network create",
            Self::UpdateNetwork { .. } => "network update",
            Self::DeleteNetwork { .. } => "network delete",
            Self::CreateChannel { .. } => "channel create",
            Self::UpdateChannel { .. } => "channel update",
            Self::DeleteChannel { .. } => "channel delete",
        }
    }
}

/// Who asks for a change. The control socket is an administrator without a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Authority {
    /// The user.
    pub user: Option<String>,
    /// Whether he may change what others have.
    pub admin: bool,
}

impl Authority {
    /// Whoever may reach the control socket.
    pub fn control() -> Self {
        Self {
            user: None,
            admin: true,
        }
    }
}

/// What a change came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The number of the network that was made or changed.
    pub network: Option<u64>,
    /// The password that was made for a user.
    pub password: Option<Secret>,
    /// Whether the network has to connect anew.
    pub reconnects: bool,
    /// What should be looked at although it can be used.
    pub warnings: Vec<Finding>,
}

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Thing {
    User,
    Network,
    Channel,
    Certificate,
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Network => "network",
            Self::Channel => "channel",
            Self::Certificate => "certificate",
        })
    }
}

/// Why a change is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The file owns it.
    #[error("{thing} \"{name}\" is declared in {} ({key}): change it there, then reload", file.display())]
    Declared {
        /// What.
        thing: Thing,
        /// Its name.
        name: String,
        /// The file.
        file: PathBuf,
        /// The key: `user.network.nick`.
        key: String,
    },
    /// It does not exist.
    #[error("there is no {thing} \"{name}\"")]
    Unknown {
        /// What.
        thing: Thing,
        /// Its name.
        name: String,
    },
    /// It exists already.
    #[error("there is a {thing} \"{name}\" already")]
    Exists {
        /// What.
        thing: Thing,
        /// Its name.
        name: String,
    },
    /// A user of that name was deleted and can still be restored.
    #[error("user \"{0}\" was deleted less than 7 days ago: restore it, or delete it with -purge")]
    Restorable(String),
    /// Values that the file could not have either.
    #[error("{}", texts(.0))]
    Invalid(Vec<Finding>),
    /// There are enough.
    #[error("user \"{user}\" has {most} networks, and that is the most")]
    TooMany {
        /// Who.
        user: String,
        /// How many there may be.
        most: usize,
    },
    /// Only an administrator may.
    #[error("{0}: only administrators may do that")]
    NotAllowed(String),
    /// The password given as the present one is not.
    #[error("the old password is not right")]
    WrongPassword,
    /// A password that cannot be.
    #[error("a password has 1 to 512 bytes")]
    BadPassword,
    /// Nothing was changed, because it could not be stored.
    #[error("the database did not take it, nothing was changed: {0}")]
    Store(String),
    /// The daemon stops.
    #[error("carom is stopping")]
    Stopping,
}

fn texts(findings: &[Finding]) -> String {
    let texts: Vec<String> = findings.iter().map(told).collect();
    texts.join("; ")
}

/// A finding about something that no file says.
pub(super) fn told(finding: &Finding) -> String {
    let text = finding.without_level();
    let rest = text.strip_prefix("configuration: ");
    rest.map_or_else(|| text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::toml_text;
    use super::*;

    #[test]
    fn options_are_set_below_tables_and_taken_back() {
        let options = Options::new()
            .set("sasl.account", "a")
            .set("sasl.password", "b")
            .set("nick", "n")
            .unset("nick");
        let table = options.onto(Table::new());
        assert_eq!(
            toml_text::lines(&table),
            "sasl = { account = \"a\", password = \"b\" }\n"
        );
        let mut whole = Table::new();
        whole.insert("mechanism".into(), "external".into());
        // A whole table replaces what was there.
        let table = Options::new().set("sasl", whole).onto(table);
        assert_eq!(
            toml_text::lines(&table),
            "sasl = { mechanism = \"external\" }\n"
        );
        assert!(Options::new().unset("sasl").onto(table).is_empty());
    }
}
