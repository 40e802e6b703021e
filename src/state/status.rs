//! What others may know about a network: published whenever it changes. How it is told to people
//! is the service's.

use serde::{Deserialize, Serialize};

use crate::wire::Timestamp;

use super::orders::Lag;
use super::storage::StorageStatus;
use super::turn::{ClientId, Ticks};

/// How a network is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Its number, which no other network ever has; 0 for a lobby.
    #[serde(default)]
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its link.
    pub link: LinkStatus,
    /// Our nick there.
    pub nick: String,
    /// How many channels we are on.
    pub channels: usize,
    /// `IPv6` or `IPv4` while there is a link over it.
    pub family: String,
    /// How long the server took to answer when it was last asked.
    pub lag: Option<Lag>,
    /// Who is attached.
    pub clients: Vec<ClientStatus>,
    /// How the store kept up.
    pub storage: StorageStatus,
}

/// The link to the server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LinkStatus {
    /// There are no servers: a lobby.
    #[default]
    Lobby,
    /// Down, because the configuration says so.
    Disabled,
    /// Down, because the user said so.
    Offline,
    /// Being dialled or registering.
    Connecting {
        /// Why the last link or attempt ended.
        last: String,
    },
    /// Waiting before the next attempt.
    Waiting {
        /// Why.
        reason: String,
        /// Until then.
        until: Ticks,
    },
    /// Registered.
    Connected {
        /// The server, its address and how the line is protected.
        via: String,
        /// Since when.
        since: Timestamp,
    },
}

/// One attached client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    /// Its number.
    pub id: ClientId,
    /// Its client name, empty when it gave none.
    pub name: String,
    /// Where it comes from.
    pub address: String,
    /// Since when.
    pub since: Timestamp,
}
