//! From a configuration to what all may read of it: users with handles to their networks, which stay the same handles
//! as long as the networks are the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{self, Config};
use crate::directory::{Board, Directory, Seen, User};
use crate::mailbox::NetworkHandle;
use crate::wire::Timestamp;

use super::networks::lobby;

/// What users have beside their configuration.
#[derive(Debug, Clone, Default)]
pub(super) struct Accounts {
    /// Hashes of passwords that the database holds, by user.
    pub(super) hashes: BTreeMap<String, String>,
    /// Numbers of networks, by user and name.
    pub(super) numbers: BTreeMap<(String, String), u64>,
    /// When users were last there, when carom started.
    pub(super) seen: BTreeMap<String, Timestamp>,
}

impl Accounts {
    /// A user who may come in. `before`: as he was published last.
    pub(super) fn user(&self, config: &config::User, before: Option<&User>) -> User {
        let password = config.password.as_ref();
        let hash = password.map(|hash| hash.reveal().to_owned());
        let networks = config.networks.iter();
        let networks = networks.map(|network| self.handle(config, network, before));
        let lobby = Arc::new(lobby(config));
        User {
            name: config.name.clone(),
            admin: config.admin,
            hash: hash
                .or_else(|| self.hashes.get(&config.name).cloned())
                .unwrap_or_default(),
            hash_line: password.map(|_| config.password_line),
            certificates: config.certificates.clone(),
            networks: networks.collect(),
            lobby: match before {
                Some(before) if *before.lobby.config == *lobby => before.lobby.clone(),
                Some(before) => before.lobby.with(lobby),
                None => NetworkHandle::new(0, lobby),
            },
            board: before.map_or_else(Board::default, |before| before.board.clone()),
            clients: before.map_or_else(Arc::default, |before| Arc::clone(&before.clients)),
            seen: before.map_or_else(
                || self.seen_before(&config.name),
                |before| Arc::clone(&before.seen),
            ),
        }
    }

    fn seen_before(&self, user: &str) -> Arc<Seen> {
        let seen = Seen::default();
        if let Some(time) = self.seen.get(user) {
            seen.note(*time);
        }
        Arc::new(seen)
    }

    fn handle(
        &self,
        user: &config::User,
        network: &config::Network,
        before: Option<&User>,
    ) -> NetworkHandle {
        let key = (user.name.clone(), network.name.clone());
        let id = self.numbers.get(&key).copied().unwrap_or_default();
        let mut known = before.iter().flat_map(|before| &before.networks);
        match known.find(|handle| handle.id == id) {
            Some(handle) if *handle.config == *network => handle.clone(),
            Some(handle) => handle.with(Arc::new(network.clone())),
            None => NetworkHandle::new(id, Arc::new(network.clone())),
        }
    }

    /// Everybody who may come in.
    pub(super) fn directory(
        &self,
        config: &Arc<Config>,
        before: &Directory,
        deleted: Vec<(String, Timestamp)>,
    ) -> Directory {
        let enabled = config.users.iter().filter(|user| user.enabled);
        let users = enabled.map(|user| self.user(user, before.user(&user.name).map(Arc::as_ref)));
        let mut directory = Directory::new(users);
        directory.config = Arc::clone(config);
        directory.deleted = deleted;
        directory
    }

    /// The networks whose numbers have to be asked for.
    pub(super) fn unnumbered(&self, config: &Config) -> Vec<(String, String)> {
        let networks = config.users.iter().flat_map(|user| {
            let networks = user.networks.iter();
            networks.map(|network| (user.name.clone(), network.name.clone()))
        });
        networks
            .filter(|network| !self.numbers.contains_key(network))
            .collect()
    }
}
