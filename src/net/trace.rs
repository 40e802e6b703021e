//! What is kept of each address tried, for the log and for `network explain`: how far it got, how it ended and how long
//! that took. Written by `dial` while it works; whoever holds a `Trace` sees how far it is.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::fault::{Address, Fault};
use super::peer::IpVersion;
use crate::wire::Timestamp;

/// How far an attempt got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Looking the name up.
    Resolve,
    /// TCP (or a unix socket).
    Connect,
    /// Asking a proxy to connect.
    Proxy,
    /// TLS and the certificate.
    Tls,
    /// Ready for the first line.
    Ready,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolve",
            Self::Connect => "tcp",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Ready => "ready",
        })
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has not.
    Pending,
    /// It was the first to be ready.
    Won,
    /// Another address was faster.
    Outrun,
    /// It failed, or won and was rejected.
    Failed(Fault),
}

/// One address tried, or one look-up that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub at: Timestamp,
    /// The server as configured, `irc.example.org:6697`.
    pub server: String,
    /// The address; `None` for look-ups.
    pub address: Option<Address>,
    /// The family; `None` for unix sockets.
    pub version: Option<IpVersion>,
    /// The address it came from, if the configuration names it.
    pub source: Option<IpAddr>,
    /// How far it got.
    pub phase: Phase,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// How much of that was TCP, once it was up.
    pub tcp_millis: Option<u64>,
    /// Why it won.
    pub why: String,
}

impl fmt::Display for Attempt {
    /// `irc.example.org:6697 [2001:db8::1]:6697 IPv6 tls 750 ms: no TLS answer within 15s (path MTU?)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.server)?;
        if let Some(address) = self.address.as_ref().map(ToString::to_string)
            && address != self.server
        {
            write!(f, " {address}")?;
        }
        if let Some(version) = self.version {
            write!(f, " {version}")?;
        }
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        write!(f, " {} {} ms", self.phase, self.millis)?;
        if let (Phase::Proxy | Phase::Tls | Phase::Ready, Some(tcp)) = (self.phase, self.tcp_millis)
        {
            write!(f, " (tcp {tcp} ms)")?;
        }
        f.write_str(": ")?;
        match &self.outcome {
            Outcome::Pending => f.write_str("under way"),
            Outcome::Won if self.why.is_empty() => f.write_str("connected"),
            Outcome::Won => write!(f, "connected, {}", self.why),
            Outcome::Outrun => {
                let missing = match self.phase {
                    Phase::Proxy => "the proxy",
                    Phase::Tls => "TLS",
                    _ => "TCP",
                };
                write!(f, "another address was ready before {missing} was")
            }
            Outcome::Failed(fault) => f.write_str(&fault.text),
        }
    }
}

/// Why a winner won, from what became of the others: so many failed, so many were still under way.
pub(super) fn why(failed: usize, outrun: usize) -> String {
    let addresses = |n: usize| match n {
        1 => "1 address".to_owned(),
        n => format!("{n} addresses"),
    };
    match (failed, outrun) {
        (0, 0) => "the first one tried".to_owned(),
        (failed, 0) => format!("after {} failed", addresses(failed)),
        (0, outrun) => format!("faster than {}", addresses(outrun)),
        (failed, outrun) => {
            format!(
                "after {} failed, faster than {outrun} more",
                addresses(failed)
            )
        }
    }
}

/// How far a cycle is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// What was tried, in order.
    pub attempts: Vec<Attempt>,
    /// What would be tried next, in order.
    pub next: Vec<String>,
    /// When the first of that would be.
    pub at: Option<Timestamp>,
}

/// Shows how far a cycle is, also while it works and when it is over.
#[derive(Debug, Clone, Default)]
pub struct Trace(Arc<Mutex<Progress>>);

impl Trace {
    /// How far it is now.
    pub fn progress(&self) -> Progress {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn show(&self, progress: Progress) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::FaultKind;
    use super::*;

    #[test]
    fn a_record_is_one_line_with_all_there_is_to_know() {
        let text = "no TLS answer within 15s (path MTU?)";
        let mut attempt = Attempt {
            at: Timestamp::from_millis(0),
            server: "irc.test:6697".to_owned(),
            address: Some(Address::Ip("[2001:db8::1]:6697".parse().unwrap())),
            version: Some(IpVersion::V6),
            source: None,
            phase: Phase::Tls,
            outcome: Outcome::Failed(Fault::new(FaultKind::TimedOut, text)),
            millis: 15_000,
            tcp_millis: Some(21),
            why: String::new(),
        };
        let line =
            format!("irc.test:6697 [2001:db8::1]:6697 IPv6 tls 15000 ms (tcp 21 ms): {text}");
        assert_eq!(attempt.to_string(), line);
        attempt.outcome = Outcome::Outrun;
        let line = attempt.to_string();
        assert!(
            line.ends_with(": another address was ready before TLS was"),
            "{line}"
        );
        attempt.server = "[2001:db8::1]:6697".to_owned();
        attempt.source = Some("2001:db8::7".parse().unwrap());
        attempt.outcome = Outcome::Won;
        attempt.phase = Phase::Ready;
        attempt.why = why(1, 0);
        let line = "[2001:db8::1]:6697 IPv6 from 2001:db8::7 ready 15000 ms (tcp 21 ms): connected, \
                    after 1 address failed";
        assert_eq!(attempt.to_string(), line, "a literal is said once");
    }

    #[test]
    fn a_winner_says_why() {
        assert_eq!(why(0, 0), "the first one tried");
        assert_eq!(why(2, 0), "after 2 addresses failed");
        assert_eq!(why(0, 1), "faster than 1 address");
        assert_eq!(why(1, 2), "after 1 address failed, faster than 2 more");
    }
}
