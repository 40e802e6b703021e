//! Strict transport security (IRCv3 `sts`): a server that was met in clear text and can do TLS is left at once and dialled
//! anew, and one that asked for it over TLS is never dialled in clear text while that holds. Never for addresses:
//! only a name says who a server is.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use irc_proto::Command;
use serde::{Deserialize, Serialize};

use crate::config::address::is_name;
use crate::config::{self, Scheme, ServerAddr};
use crate::history::{Fact, Write};
use crate::wire::Timestamp;

use super::Network;
use super::registration::say;
use super::turn::{Action, LinkEnd, Turn};
use super::upstream::{Outage, Upstream};

/// So long a server in clear text may take to list its capabilities before it is told who we are.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Nothing is promised for longer.
const MAX_DURATION: u64 = 100 * 365 * 24 * 60 * 60;

/// Hosts that are to be reached over TLS alone, and the ports for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Policies {
    kept: BTreeMap<String, Policy>,
    /// Met in clear text in this run. What was said in clear text is not kept.
    met: BTreeMap<String, u16>,
}

/// What a server said over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Policy {
    port: u16,
    /// Seconds from the end of the last connection.
    duration: u64,
    until: Timestamp,
    /// Whether that connection has not ended yet: `until` is counted anew when it does.
    open: bool,
}

impl Policy {
    fn counted_from(&mut self, now: Timestamp) {
        let millis = self.duration.min(MAX_DURATION) * 1000;
        self.until = now.plus_millis(i64::try_from(millis).unwrap_or(i64::MAX));
    }
}

impl Policies {
    fn port(&self, host: &str, now: Timestamp) -> Option<u16> {
        let kept = self.kept.get(host).filter(|p| p.open || p.until > now);
        kept.map(|policy| policy.port)
            .or_else(|| self.met.get(host).copied())
    }
}

/// The keys of `sts=`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    port: Option<u16>,
    duration: Option<u64>,
}

impl Said {
    fn parse(value: &str) -> Self {
        let mut said = Self::default();
        for (key, value) in value.split(',').filter_map(|word| word.split_once('=')) {
            match key {
                "port" => said.port = value.parse().ok().filter(|port| *port != 0),
                "duration" => said.duration = value.parse().ok(),
                _ => {}
            }
        }
        said
    }
}

impl Network {
    /// What is dialled: the servers as configured, those over TLS that want it so.
    pub fn to_dial(&self, now: Timestamp) -> config::Network {
        let mut network = self.settings.network.clone();
        let mut servers: Vec<ServerAddr> = Vec::new();
        for server in network.servers {
            let server = match server {
                ServerAddr::Tcp {
                    scheme: Scheme::Insecure,
                    host,
                    port,
                } => match self.policies.port(&host, now).filter(|_| is_name(&host)) {
                    Some(port) => ServerAddr::Tcp {
                        scheme: Scheme::Tls,
                        host,
                        port,
                    },
                    None => ServerAddr::Tcp {
                        scheme: Scheme::Insecure,
                        host,
                        port,
                    },
                },
                other => other,
            };
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        network.servers = servers;
        network
    }

    /// The server says how it wants to be reached. True: it is left for that.
    pub(super) fn heed_sts(&mut self, value: &str, turn: &mut Turn) -> bool {
        let facts = match &self.upstream {
            Upstream::Down(_) => return false,
            Upstream::Registering(registration) => &registration.facts,
            Upstream::Up(link) => &link.facts,
        };
        if !is_name(&facts.host) {
            return false;
        }
        let (host, port, is_tls) = (facts.host.clone(), facts.port, facts.is_tls);
        let said = Said::parse(value);
        match (is_tls, said) {
            (true, Said { duration, .. }) => {
                if let Some(duration) = duration {
                    self.keep_policy(&host, port, duration, turn);
                }
                false
            }
            (false, Said { port: None, .. }) => false,
            (
                false,
                Said {
                    port: Some(port), ..
                },
            ) => {
                self.leave_for_tls(host, port, turn);
                true
            }
        }
    }

    fn keep_policy(&mut self, host: &str, port: u16, duration: u64, turn: &mut Turn) {
        self.policies.met.remove(host);
        if duration == 0 {
            if self.policies.kept.remove(host).is_some() {
                self.save_policy(host, turn);
            }
            return;
        }
        let mut policy = Policy {
            port,
            duration,
            until: turn.now.time,
            open: true,
        };
        policy.counted_from(turn.now.time);
        self.policies.kept.insert(host.to_owned(), policy);
        self.save_policy(host, turn);
    }

    fn leave_for_tls(&mut self, host: String, port: u16, turn: &mut Turn) {
        let name = &self.settings.network.name;
        let text = format!("{name}: {host} wants TLS: connecting to port {port}");
        self.announce(&text, turn);
        let is_up = matches!(self.upstream, Upstream::Up(_));
        if is_up {
            say(turn, &Command::QUIT(None));
        }
        self.policies.met.insert(host, port);
        self.drop_link(turn);
        self.upstream = Upstream::Down(Outage::default());
        let end = if is_up { LinkEnd::Flush } else { LinkEnd::Drop };
        turn.push(Action::Unlink(end));
        self.dial_afresh(turn);
    }

    /// A server that no longer says it over TLS need not be met that way because it said so in clear text.
    pub(super) fn heed_no_sts(&mut self) {
        if let Upstream::Registering(registration) = &self.upstream
            && registration.facts.is_tls
        {
            self.policies.met.remove(&registration.facts.host);
        }
    }

    /// The connection over which a policy was said has ended: from now on it is counted.
    pub(super) fn count_policies(&mut self, turn: &mut Turn) {
        let open = self.policies.kept.iter().filter(|(_, p)| p.open);
        for host in open.map(|(host, _)| host.clone()).collect::<Vec<_>>() {
            if let Some(policy) = self.policies.kept.get_mut(&host) {
                policy.open = false;
                policy.counted_from(turn.now.time);
            }
            self.save_policy(&host, turn);
        }
    }

    fn save_policy(&self, host: &str, turn: &mut Turn) {
        let policy = self.policies.kept.get(host);
        let value = policy.and_then(|policy| serde_json::to_vec(policy).ok());
        let write = Write::Fact {
            fact: Fact::Sts,
            name: Bytes::copy_from_slice(host.as_bytes()),
            value: value.map(Bytes::from),
        };
        self.remember(write, turn);
    }

    pub(super) fn restore_policy(&mut self, host: &[u8], value: &[u8]) {
        if let (Ok(host), Ok(policy)) = (std::str::from_utf8(host), serde_json::from_slice(value)) {
            self.policies.kept.insert(host.to_owned(), policy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_others_left() {
        let said = |port, duration| Said { port, duration };
        assert_eq!(Said::parse("port=6697"), said(Some(6697), None));
        assert_eq!(
            Said::parse("duration=2592000,preload,port=6697,x=y"),
            said(Some(6697), Some(2_592_000))
        );
        assert_eq!(Said::parse("port=0,duration=-1"), said(None, None));
        assert_eq!(Said::parse("port=65536"), said(None, None));
        assert_eq!(Said::parse(""), said(None, None));
    }

    #[test]
    fn no_duration_is_too_long() {
        let mut policy = Policy {
            port: 1,
            duration: u64::MAX,
            until: Timestamp::default(),
            open: false,
        };
        policy.counted_from(Timestamp::from_millis(0));
        assert!(policy.until > Timestamp::from_millis(0));
    }
}
