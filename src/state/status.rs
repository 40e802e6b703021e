//! What others may know about a network: published whenever it changes. How it is told to people
//! is the service's.

use serde::{Deserialize, Serialize};

use crate::wire::Timestamp;

use super::turn::{ClientId, Ticks};

/// How a network is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Its name.
    pub name: String,
    /// Its link.
    pub link: LinkStatus,
    /// Our nick there.
    pub nick: String,
    /// How many channels we are on.
    pub channels: usize,
    /// Who is attached.
    pub clients: Vec<ClientStatus>,
}

/// The link to the server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LinkStatus {
    /// There are no servers: a lobby.
    #[default]
    Lobby,
    /// Down on purpose.
    Disabled,
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
