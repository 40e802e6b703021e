//! What differs between two effective configurations, and whom it disturbs: told by the entries that `dump` writes. Pure;
//! the bouncer applies it.

use super::dump::{self, Entries, Secrets};
use super::{Config, Network, User};

/// Keys of the file that a running daemon cannot go over to.
const AT_START: [&str; 5] = [
    "storage.path",
    "storage.durability",
    "log.format",
    "server.metrics",
    "server.ident",
];

/// The keys whose change takes a new link, of those that differ.
pub fn needs_new_link(old: &Network, new: &Network) -> Vec<&'static str> {
    let differing = [
        ("servers", old.servers != new.servers),
        ("tls", old.trust != new.trust),
        ("source", old.dial.source != new.dial.source),
        ("family", old.dial.family != new.dial.family),
        ("proxy", old.proxy != new.proxy),
        ("username", old.username != new.username),
        ("password", old.password != new.password),
        ("sasl", old.sasl != new.sasl),
        (
            "client_certificate",
            old.client_certificate != new.client_certificate,
        ),
    ];
    let differing = differing.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(key, _)| key).collect()
}

/// Everything that differs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    /// Keys outside users, as `limits.per_address`.
    pub keys: Vec<String>,
    /// Users that come.
    pub users_added: Vec<String>,
    /// Users that go.
    pub users_removed: Vec<String>,
    /// Users that change, with the keys.
    pub users_changed: Vec<(String, Vec<&'static str>)>,
    /// Networks that come: user, network.
    pub networks_added: Vec<(String, String)>,
    /// Networks that go.
    pub networks_removed: Vec<(String, String)>,
    /// Networks that change.
    pub networks_changed: Vec<NetworkDiff>,
}

/// What differs about a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkDiff {
    /// Whose.
    pub user: String,
    /// Its name.
    pub network: String,
    /// The keys; `channel` for channels.
    pub keys: Vec<&'static str>,
    /// Those of them for which it connects anew.
    pub reconnects: Vec<&'static str>,
}

impl Diff {
    /// What differs between two configurations.
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut diff = Self::default();
        let tables = [
            (
                "server",
                dump::server(&old.server),
                dump::server(&new.server),
            ),
            ("tls", dump::tls(&old.tls), dump::tls(&new.tls)),
            (
                "storage",
                dump::storage(&old.storage),
                dump::storage(&new.storage),
            ),
            (
                "history",
                dump::history(&old.history),
                dump::history(&new.history),
            ),
            ("log", dump::log(&old.log), dump::log(&new.log)),
            (
                "limits",
                dump::limits(&old.limits),
                dump::limits(&new.limits),
            ),
            ("dial", dump::dial(&old.dial), dump::dial(&new.dial)),
        ];
        for (table, old, new) in tables {
            let keys = differing(&old, &new).into_iter();
            diff.keys.extend(keys.map(|key| format!("{table}.{key}")));
        }
        for user in &old.users {
            if !new.users.iter().any(|other| other.name == user.name) {
                diff.users_removed.push(user.name.clone());
            }
        }
        for user in &new.users {
            match old.users.iter().find(|other| other.name == user.name) {
                Some(before) => diff.add_user(before, user),
                None => diff.users_added.push(user.name.clone()),
            }
        }
        diff
    }

    fn add_user(&mut self, old: &User, new: &User) {
        let told = Secrets::Told;
        let keys = differing(&dump::user(old, told), &dump::user(new, told));
        if !keys.is_empty() {
            self.users_changed.push((new.name.clone(), keys));
        }
        let name = |network: &Network| (new.name.clone(), network.name.clone());
        for network in &old.networks {
            if !new.networks.iter().any(|other| other.name == network.name) {
                self.networks_removed.push(name(network));
            }
        }
        for network in &new.networks {
            let Some(before) = old.networks.iter().find(|n| n.name == network.name) else {
                self.networks_added.push(name(network));
                continue;
            };
            let keys = network_keys(before, network);
            if keys.is_empty() {
                continue;
            }
            let runs = before.enabled && network.enabled && old.enabled && new.enabled;
            let (user, network_name) = name(network);
            self.networks_changed.push(NetworkDiff {
                user,
                network: network_name,
                keys,
                reconnects: if runs {
                    needs_new_link(before, network)
                } else {
                    Vec::new()
                },
            });
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The keys that are applied at the next start.
    pub fn at_start(&self) -> Vec<String> {
        let keys = self.keys.iter();
        let later = keys.filter(|key| AT_START.contains(&key.as_str()));
        later.cloned().collect()
    }

    /// The networks that connect anew: `user/network`.
    pub fn reconnects(&self) -> Vec<String> {
        let networks = self.networks_changed.iter();
        let networks = networks.filter(|network| !network.reconnects.is_empty());
        networks
            .map(|network| format!("{}/{}", network.user, network.network))
            .collect()
    }

    /// For people: one line for each thing that changes.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.keys.is_empty() {
            lines.push(format!("changes: {}", self.keys.join(", ")));
        }
        let users = self.users_removed.iter();
        lines.extend(users.map(|user| format!("user {user}: removed, its clients are closed")));
        let users = self.users_added.iter();
        lines.extend(users.map(|user| format!("user {user}: new")));
        let users = self.users_changed.iter();
        lines.extend(users.map(|(user, keys)| format!("user {user}: {}", keys.join(", "))));
        let networks = self.networks_removed.iter();
        lines.extend(networks.map(|(user, network)| {
            format!("network {user}/{network}: removed, its clients are closed")
        }));
        let networks = self.networks_added.iter();
        lines.extend(networks.map(|(user, network)| format!("network {user}/{network}: new")));
        lines.extend(self.networks_changed.iter().map(NetworkDiff::line));
        lines
    }
}

impl NetworkDiff {
    fn line(&self) -> String {
        let keys = self.keys.join(", ");
        let line = format!("network {}/{}: {keys}", self.user, self.network);
        if self.reconnects.is_empty() {
            line
        } else {
            format!("{line}; it connects anew")
        }
    }
}

fn network_keys(old: &Network, new: &Network) -> Vec<&'static str> {
    let told = Secrets::Told;
    let mut keys = differing(&dump::network(old, told), &dump::network(new, told));
    let channels = |network: &Network| {
        let channels = network.channels.iter();
        let channels = channels.map(|channel| dump::channel(channel, told));
        channels.collect::<Vec<_>>()
    };
    if channels(old) != channels(new) {
        keys.push("channel");
    }
    keys
}

/// The keys whose values differ, or that one has and the other has not.
fn differing(old: &Entries, new: &Entries) -> Vec<&'static str> {
    let other = |entries: &Entries, key: &str| {
        let mut entries = entries.iter();
        let found = entries.find(|(name, _)| *name == key);
        found.map(|(_, value)| value.clone())
    };
    let gone = old.iter().filter(|(key, _)| other(new, key).is_none());
    let gone = gone.map(|(key, _)| *key);
    let changed = new
        .iter()
        .filter(|(key, value)| other(old, key).as_ref() != Some(value));
    gone.chain(changed.map(|(key, _)| *key)).collect()
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
