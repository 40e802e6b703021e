//! Why a listener cannot be opened, in words that name the family and say what to do. When which of them applies is
//! `open`'s to find out.

use std::io;

use super::peer::{IpVersion, is_loopback};
use super::plan::{Place, PlanError};

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The listeners do not go together; all problems at once.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Plan(Vec<PlanError>),
    /// The whole port is taken.
    #[error(
        "cannot listen on {place}: the port is in use by another process; stop it, or choose another port"
    )]
    InUse {
        /// What was to be bound.
        place: Place,
    },
    /// One family's side of the port is taken.
    #[error(
        "cannot listen on {place}: the {taken} side of the port is in use by another process (the {} side is free); \
         stop it, choose another port, or listen on one family: {}",
        taken.other(), alone(place, taken.other())
    )]
    SideInUse {
        /// What was to be bound.
        place: Place,
        /// The side that is taken.
        taken: IpVersion,
    },
    /// The address is not this host's.
    #[error(
        "cannot listen on {place}: the address is not configured on any interface (yet); set dial.freebind = true to bind \
         it beforehand"
    )]
    NotOurs {
        /// What was to be bound.
        place: Place,
    },
    /// IPv6 is turned off.
    #[error(
        "cannot listen on {place}: IPv6 is disabled on this host (net.ipv6.conf.all.disable_ipv6 = 1)"
    )]
    Disabled {
        /// What was to be bound.
        place: Place,
    },
    /// The port is privileged.
    #[error(
        "cannot listen on {place}: port {} needs privileges: use CAP_NET_BIND_SERVICE or systemd socket activation",
        port(place)
    )]
    Privileged {
        /// What was to be bound.
        place: Place,
    },
    /// The host has no IPv6.
    #[error("cannot listen on {place}: this system has no IPv6 (address family not supported)")]
    NoIpv6 {
        /// What was to be bound.
        place: Place,
    },
    /// Another process answers at the path.
    #[error("cannot listen on {place}: another process listens there")]
    Alive {
        /// What was to be bound.
        place: Place,
    },
    /// What is at the path is no socket.
    #[error("cannot listen on {place}: there is a file that is not a socket; move it away")]
    NotASocket {
        /// What was to be bound.
        place: Place,
    },
    /// Anything else.
    #[error("cannot listen on {place}: {source}")]
    Other {
        /// What was to be bound.
        place: Place,
        /// What the system said.
        source: io::Error,
    },
}

/// How a listener of one family alone is written.
fn alone(place: &Place, version: IpVersion) -> String {
    let port = port(place);
    match version {
        IpVersion::V6 => format!("[::]:{port}?v6only"),
        IpVersion::V4 => format!("*:{port}"),
    }
}

/// The port in it; 0 for unix sockets.
pub(super) fn port(place: &Place) -> u16 {
    place.addr().map_or(0, |addr| addr.port())
}

impl ListenError {
    /// Whether it is about an address that may come yet.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::NotOurs { place } => place.addr().is_some_and(|addr| !is_loopback(addr.ip())),
            // The interface was there when it was asked for its number.
            Self::Other { source, .. } => {
                rustix::io::Errno::from_io_error(source) == Some(rustix::io::Errno::NODEV)
            }
            _ => false,
        }
    }
}
