//! Users, networks and channels that were made at run time, as the database has them. What they come to together with
//! the file is `merge`'s, which rows a change makes of them is `change`'s.

use std::collections::BTreeMap;
use std::fmt;

use toml::Table;

use crate::wire::Timestamp;

/// Everything that was made at run time, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// Users: name, options, and when they were deleted.
    pub users: Vec<(String, String, Option<Timestamp>)>,
    /// Networks: user, name, options, and whether an administrator chose where they lead. In the order in which they
    /// were made.
    pub networks: Vec<(String, String, String, bool)>,
    /// Channels: user, network, name, options.
    pub channels: Vec<(String, String, String, String)>,
    /// Hashes of passwords, by user.
    pub passwords: BTreeMap<String, String>,
    /// When users were last there.
    pub seen: BTreeMap<String, Timestamp>,
}

/// One row more, less, or another one.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Edit {
    /// A user, whole.
    User {
        name: String,
        options: String,
        deleted: Option<Timestamp>,
    },
    /// A user and all he had are forgotten.
    PurgeUser { name: String },
    /// The hash of a password.
    Password { user: String, hash: String },
    /// A network, whole.
    Network {
        user: String,
        name: String,
        options: String,
        trusted: bool,
    },
    /// A network has another name.
    Rename {
        user: String,
        from: String,
        to: String,
    },
    /// A network is no more; its log is kept for a while.
    Retire {
        user: String,
        name: String,
        now: Timestamp,
    },
    /// A channel, whole.
    Channel {
        user: String,
        network: String,
        name: String,
        options: String,
    },
    /// A channel is no more.
    DropChannel {
        user: String,
        network: String,
        name: String,
    },
}

/// Options may hold secrets, and hashes are secrets.
impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User { .. } => "User",
            Self::PurgeUser { .. } => "PurgeUser",
            Self::Password { .. } => "Password",
            Self::Network { .. } => "Network",
            Self::Rename { .. } => "Rename",
            Self::Retire { .. } => "Retire",
            Self::Channel { .. } => "Channel",
            Self::DropChannel { .. } => "DropChannel",
        })
    }
}

/// All rows, read.
#[derive(Clone, PartialEq, Default)]
pub struct Made {
    pub(super) users: BTreeMap<String, MadeUser>,
    /// By user, in the order in which they were made.
    pub(super) networks: BTreeMap<String, Vec<MadeNetwork>>,
    /// By user and network.
    pub(super) channels: BTreeMap<(String, String), Vec<MadeChannel>>,
}

#[derive(Clone, PartialEq)]
pub(super) struct MadeUser {
    pub(super) options: Table,
    pub(super) deleted: Option<Timestamp>,
}

#[derive(Clone, PartialEq)]
pub(super) struct MadeNetwork {
    pub(super) name: String,
    pub(super) options: Table,
    pub(super) trusted: bool,
}

#[derive(Clone, PartialEq)]
pub(super) struct MadeChannel {
    pub(super) name: String,
    pub(super) options: Table,
}

impl Made {
    /// Reads what is stored. What cannot be read is left out and told.
    pub fn read(stored: &Stored) -> (Self, Vec<String>) {
        let (mut made, mut problems) = (Self::default(), Vec::new());
        let mut options = |text: &str, what: String| match toml::from_str::<Table>(text) {
            Ok(table) => Some(table),
            Err(_) => {
                problems.push(format!("{what} is stored in a form that cannot be read"));
                None
            }
        };
        for (name, text, deleted) in &stored.users {
            if let Some(options) = options(text, format!("user \"{name}\"")) {
                let deleted = *deleted;
                let user = MadeUser { options, deleted };
                made.users.insert(name.clone(), user);
            }
        }
        for (user, name, text, trusted) in &stored.networks {
            if let Some(options) = options(text, format!("network \"{user}/{name}\"")) {
                made.networks_of(user).push(MadeNetwork {
                    name: name.clone(),
                    options,
                    trusted: *trusted,
                });
            }
        }
        for (user, network, name, text) in &stored.channels {
            let what = format!("channel \"{name}\" of {user}/{network}");
            if let Some(options) = options(text, what) {
                let name = name.clone();
                made.channels_of(user, network)
                    .push(MadeChannel { name, options });
            }
        }
        (made, problems)
    }

    pub(super) fn networks_of(&mut self, user: &str) -> &mut Vec<MadeNetwork> {
        self.networks.entry(user.to_owned()).or_default()
    }

    pub(super) fn channels_of(&mut self, user: &str, network: &str) -> &mut Vec<MadeChannel> {
        let key = (user.to_owned(), network.to_owned());
        self.channels.entry(key).or_default()
    }

    pub(super) fn networks(&self, user: &str) -> &[MadeNetwork] {
        self.networks.get(user).map_or(&[], Vec::as_slice)
    }

    pub(super) fn channels(&self, user: &str, network: &str) -> &[MadeChannel] {
        let key = (user.to_owned(), network.to_owned());
        self.channels.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Users that can be restored, and since when they are deleted.
    pub fn deleted(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        self.users
            .iter()
            .filter_map(|(name, user)| Some((name.as_str(), user.deleted?)))
    }

    /// Forgets users that were deleted before a moment. Who they were.
    pub fn forget_deleted(&mut self, before: Timestamp) -> Vec<String> {
        let gone: Vec<String> = self
            .deleted()
            .filter(|(_, at)| *at < before)
            .map(|(name, _)| name.to_owned())
            .collect();
        gone.iter().for_each(|name| self.forget(name));
        gone
    }

    pub(super) fn forget(&mut self, user: &str) {
        self.users.remove(user);
        self.networks.remove(user);
        self.channels.retain(|(whose, _), _| whose != user);
    }
}
