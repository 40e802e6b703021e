//! What a cycle keeps and what it learns: the record of each attempt for people, and for the cycles to come what works at
//! a host.

use std::time::Duration;

use tokio::time::Instant;

use super::{Cycle, Running, millis};
use crate::config::{Proxy, ServerAddr};
use crate::net::attempt::written;
use crate::net::health::{Follow, Health, Role};
use crate::net::peer::IpVersion;
use crate::net::race::{Address, Advice, At, AttemptId, Cancelled, Fault};
use crate::net::resolve::literal;
use crate::net::source::Bind;
use crate::net::trace::{Attempt, Outcome, Phase, Progress};

/// The race's clock and ours read differently by so much at most.
const SLACK: Duration = Duration::from_millis(10);

impl Cycle {
    /// Where a server's addresses come from: the server itself, or the proxy.
    pub(super) fn place(&self, server: usize) -> Option<(&str, u16)> {
        match (&self.servers[server], &self.proxy) {
            (ServerAddr::Unix(_), _) => None,
            (ServerAddr::Tcp { .. }, Some(Proxy { host, port }))
            | (ServerAddr::Tcp { host, port, .. }, None) => Some((host, *port)),
        }
    }

    /// The name under which is remembered what works. Literals have one family, and through a proxy nothing is learned
    /// of the way.
    pub(super) fn memory(&self, server: usize) -> Option<&str> {
        match &self.servers[server] {
            ServerAddr::Tcp { host, .. } if self.proxy.is_none() && literal(host).is_none() => {
                Some(host)
            }
            _ => None,
        }
    }

    pub(super) fn remember(&self, server: usize, what: impl FnOnce(&Health, &str, Instant)) {
        if let Some(host) = self.memory(server) {
            what(&self.dialer.health, host, Instant::now());
        }
    }

    /// Tells the race what is known of a server by now.
    pub(super) fn advise(&mut self, server: usize) {
        let lead = self.leads.get(&server);
        let mut advice = self.memory(server).map_or_else(Advice::default, |host| {
            self.dialer.health.advice(host, lead, Instant::now())
        });
        let weak = self.weak.get(&server).copied().unwrap_or_default();
        for (known, weak) in advice.is_weak.iter_mut().zip(weak) {
            *known |= weak;
        }
        self.race.advise(server, advice);
    }

    /// Whether others wait for this cycle at a server, or it waits for others.
    pub(super) fn role(&mut self, server: usize) -> Option<Follow> {
        let [first, _] = self.settings.versions() else {
            return None;
        };
        if self.leads.contains_key(&server) {
            return None;
        }
        let host = self.memory(server)?;
        match self.dialer.health.enter(host, *first, Instant::now()) {
            Role::Informed => None,
            Role::Leader(lead) => {
                self.leads.insert(server, lead);
                None
            }
            Role::Follower(follow) => Some(follow),
        }
    }

    /// An attempt that had all the time it may take and was not ready says something about its family.
    pub(super) fn learn_from(&self, running: &Running, why: Cancelled) {
        let version = running.version;
        let is_late = |since: Instant, limit: Duration| {
            why == Cancelled::TimedOut
                || why == Cancelled::Outrun && since.elapsed() + SLACK >= limit
        };
        self.remember(running.server, |health, host, now| match running.up {
            Some(up) if is_late(up, self.settings.grace(up - running.since)) => {
                health.stalled(host, version, now);
            }
            None if is_late(running.since, self.settings.attempt_delay) => {
                health.lost(host, version, now);
            }
            _ => {}
        });
    }

    /// Brings what others see up to date.
    pub(super) fn show(&self) {
        let upcoming = self.race.upcoming();
        let address = |(server, address): &(usize, Address)| match (
            written(&self.servers[*server]),
            address.to_string(),
        ) {
            (server, address) if server == address => server,
            (server, address) => format!("{server} {address}"),
        };
        let addresses = upcoming.addresses.iter().map(address);
        let now = self.clock.now();
        let time = crate::clock().time;
        let later = |at: At| i64::try_from(at.saturating_sub(now).as_millis()).unwrap_or(i64::MAX);
        self.trace.show(Progress {
            attempts: self.attempts.clone(),
            next: addresses
                .chain(
                    upcoming
                        .servers
                        .map(|server| written(&self.servers[server])),
                )
                .collect(),
            at: upcoming.at.map(|at| time.plus_millis(later(at))),
        });
    }

    pub(super) fn record_look_up(
        &mut self,
        server: usize,
        version: IpVersion,
        fault: &Fault,
        millis: u64,
    ) {
        let is_literal = |(host, _)| literal(host).is_some();
        if self.place(server).is_none_or(is_literal) {
            return;
        }
        let attempt = Attempt {
            phase: Phase::Resolve,
            outcome: Outcome::Failed(fault.clone()),
            millis,
            ..self.record(server, None, Some(version))
        };
        tracing::debug!("{attempt}");
        self.attempts.push(attempt);
    }

    /// A record of what begins now.
    pub(super) fn record(
        &self,
        server: usize,
        address: Option<Address>,
        version: Option<IpVersion>,
    ) -> Attempt {
        let mut name = written(&self.servers[server]);
        if let (Some(proxy), ServerAddr::Tcp { .. }) = (&self.proxy, &self.servers[server]) {
            name = format!("{name} via {proxy}");
        }
        let source = match version
            .filter(|_| address.is_some())
            .map(|v| self.origins.bind(v))
        {
            Some(Bind::Only(ip)) => Some(*ip),
            _ => None,
        };
        Attempt {
            at: crate::clock().time,
            server: name,
            address,
            version,
            source,
            phase: Phase::Connect,
            outcome: Outcome::Pending,
            millis: 0,
            tcp_millis: None,
            why: String::new(),
        }
    }

    /// Closes the record of an attempt; its place, if it was under way.
    pub(super) fn finish(&mut self, id: AttemptId, outcome: Outcome) -> Option<usize> {
        let running = self.running.remove(&id)?;
        let attempt = &mut self.attempts[running.record];
        attempt.millis = millis(running.since);
        attempt.outcome = outcome;
        if attempt.outcome != Outcome::Won {
            tracing::debug!("{attempt}");
        }
        Some(running.record)
    }

    /// A failure as the race reports it: with name and address in front.
    pub(super) fn with_address(&self, record: usize, fault: &Fault) -> Fault {
        let attempt = &self.attempts[record];
        let address = attempt
            .address
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let text = match &attempt.server {
            server if *server == address => format!("{address}: {}", fault.text),
            server => format!("{server} {address}: {}", fault.text),
        };
        Fault {
            kind: fault.kind,
            text,
            certificate: fault.certificate,
        }
    }
}
