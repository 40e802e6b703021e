//! What can be dialled, and why it failed: the words that `race` and all that carries out its orders share. Which failure
//! leads to what is left to them.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::peer::IpVersion;
use super::trust::Fingerprint;

/// What can be dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Ip(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The family; `None` for unix sockets.
    pub fn version(&self) -> Option<IpVersion> {
        match self {
            Self::Ip(addr) => Some(IpVersion::of(addr.ip())),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Kinds of failure; when all fails, the greatest is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// The name has no such address.
    NoAddress,
    /// The name could not be looked up.
    Lookup,
    /// No route, forbidden by the host.
    NoRoute,
    /// The address to come from cannot be used.
    Source,
    /// No answer in time.
    TimedOut,
    /// The host said no.
    Refused,
    /// Connected, then silent or closed before registration.
    Silent,
    /// TLS failed.
    Tls,
    /// The certificate is not acceptable.
    Certificate,
    /// Our own rules or files forbid it.
    Policy,
}

impl FaultKind {
    /// One word for it, for counting.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoAddress => "no_address",
            Self::Lookup => "lookup",
            Self::NoRoute => "no_route",
            Self::Source => "source",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::Policy => "policy",
        }
    }
}

/// Why something failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// For choosing among failures.
    pub kind: FaultKind,
    /// For people.
    pub text: String,
    /// The certificate that was refused, if that is what failed.
    pub certificate: Option<Fingerprint>,
}

impl Fault {
    /// A failure with its text.
    pub fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            certificate: None,
        }
    }

    /// The same, about this certificate.
    pub(super) fn of(self, certificate: Option<Fingerprint>) -> Self {
        Self {
            certificate,
            ..self
        }
    }
}

/// What is said of an attempt that took too long.
pub(super) fn no_answer(is_up: bool, is_proxied: bool, timeout: Duration) -> String {
    match (is_up, is_proxied) {
        (false, _) => format!("no TCP answer within {timeout:?}"),
        (true, true) => format!("no answer through the proxy within {timeout:?}"),
        (true, false) => format!("no TLS answer within {timeout:?} (path MTU?)"),
    }
}

/// Keeps the more telling of two failures; of equals the first.
pub(super) fn note(best: &mut Option<Fault>, fault: Fault) {
    if best.as_ref().is_none_or(|known| fault.kind > known.kind) {
        *best = Some(fault);
    }
}
