//! Carries out what the race orders: look-ups, attempts, their end, the winner. What is kept and learned of them is
//! `records`'s.

use tokio::time::Instant;

use super::{Cycle, Dialed, Event, Running, Stage, Start, Teller, Winner};
use crate::config::{Family, ServerAddr};
use crate::net::attempt::{Guard, Target};
use crate::net::clock::Frozen;
use crate::net::fault::no_answer;
use crate::net::ident::Idents;
use crate::net::lookup::Lookup;
use crate::net::peer::{IpVersion, is_loopback};
use crate::net::race::{Address, AttemptId, Cancelled, Fault, FaultKind, Input};
use crate::net::trace::{Outcome, Phase, why};

impl Cycle {
    pub(super) fn look_up(&mut self, server: usize, version: IpVersion) {
        let Some((host, port)) = self.place(server) else {
            let ServerAddr::Unix(path) = &self.servers[server] else {
                return;
            };
            // Any family asked for will do: the race knows the path once.
            let result = Ok(vec![Address::Unix(path.clone())]);
            return self.tell(Input::Answer {
                server,
                version,
                result,
            });
        };
        let (host, port) = (host.to_owned(), port);
        let lookup = Lookup {
            resolver: self.dialer.resolver.clone(),
            routes: self.dialer.routes.clone(),
            host,
            port,
            version,
            origins: self.origins.clone(),
            translator: (self.settings.family != Family::Ipv4)
                .then(|| self.dialer.translator.clone()),
            follow: self.role(server),
        };
        let events = self.events_in.clone();
        self.tasks.spawn(async move {
            let found = lookup.run().await;
            // The cycle is gone when nobody listens.
            let _ = events.send(Event::Answer(server, version, found)).await;
        });
    }

    /// Begins an attempt, or first waits for a turn at the server's host, with the clock standing still.
    pub(super) fn start(&mut self, start: Start) {
        if let (ServerAddr::Tcp { host, .. }, Address::Ip(addr)) =
            (&self.servers[start.server], &start.address)
            && (self.proxy.is_some() || !is_loopback(addr.ip()))
            && self.paced.insert(start.server)
        {
            let wait = self.dialer.pace.reserve(host, self.dial.pace);
            if !wait.is_zero() && self.clock.frozen.is_none() {
                tracing::debug!(%host, ?wait, "waiting for a turn at this server");
                let since = Instant::now();
                self.waiting.insert(start.id, start.server);
                self.clock.frozen = Some(Frozen {
                    since,
                    until: since + wait,
                    waits: start.id,
                });
                return;
            }
        }
        self.begin(start);
    }

    /// Where it is told whose a connection is. What comes from a proxy, the proxy answers for.
    fn ident(&self) -> Option<(Idents, String)> {
        let idents = self.dialer.idents.clone().filter(|_| self.proxy.is_none());
        idents.map(|idents| (idents, self.username.clone()))
    }

    pub(super) fn begin(&mut self, start: Start) {
        let Start {
            id,
            server,
            version,
            address,
        } = start;
        let record = self.record(server, Some(address.clone()), address.version());
        self.attempts.push(record);
        let target = Target {
            address,
            server: self.servers[server].clone(),
            proxy: self.proxy.clone(),
            connector: self.connector.clone(),
            origins: self.origins.clone(),
            mss: self.dial.ipv6_mss,
            ident: self.ident(),
            guard: (!self.is_trusted).then(|| Guard {
                routes: self.dialer.routes.clone(),
                resolver: self.dialer.resolver.clone(),
                translator: self.dialer.translator.clone(),
            }),
        };
        let events = self.events_in.clone();
        let task = self.tasks.spawn(async move {
            let teller = Teller { id, events };
            let event = match target.dial(&teller).await {
                Ok(stream) => Event::Ready(id, Box::new(stream)),
                Err(fault) => Event::Failed(id, fault),
            };
            // The cycle is gone when nobody listens.
            let _ = teller.events.send(event).await;
        });
        let running = Running {
            server,
            version,
            record: self.attempts.len() - 1,
            task,
            since: Instant::now(),
            up: None,
        };
        self.running.insert(id, running);
    }

    pub(super) fn cancel(&mut self, id: AttemptId, why: Cancelled) {
        // It may be waiting for its turn still.
        self.clock.give_up(id);
        self.waiting.remove(&id);
        let Some(running) = self.running.get(&id) else {
            return;
        };
        running.task.abort();
        self.learn_from(running, why);
        let outcome = match why {
            Cancelled::Outrun => Outcome::Outrun,
            Cancelled::TimedOut => {
                let text = no_answer(
                    running.up.is_some(),
                    self.settings.is_proxied,
                    self.settings.attempt_timeout,
                );
                Outcome::Failed(Fault::new(FaultKind::TimedOut, text))
            }
            Cancelled::CycleOver => {
                let text = "given up: all servers together took too long";
                Outcome::Failed(Fault::new(FaultKind::TimedOut, text))
            }
        };
        self.finish(id, outcome);
    }

    pub(super) fn win(&mut self, id: AttemptId) -> Option<Dialed> {
        let (ready, stream) = self.ready.take()?;
        debug_assert_eq!(ready, id, "the race chooses who was ready last");
        let running = self.running.get(&id)?;
        let (server, version) = (running.server, running.version);
        if running.up.is_none() {
            let rtt = running.since.elapsed();
            self.remember(server, |health, host, _| {
                health.measured(host, version, rtt);
            });
        }
        // Whoever waits for this may go on.
        self.leads.remove(&server);
        let record = self.finish(id, Outcome::Won)?;
        let others = self.attempts[..].iter().filter(|a| a.address.is_some());
        let count = |is: fn(&Outcome) -> bool| others.clone().filter(|a| is(&a.outcome)).count();
        let why = why(
            count(|outcome| matches!(outcome, Outcome::Failed(_))),
            count(|outcome| *outcome == Outcome::Outrun),
        );
        let attempt = &mut self.attempts[record];
        attempt.phase = Phase::Ready;
        attempt.why = why;
        tracing::debug!("{attempt}");
        let address = attempt.address.clone()?;
        self.stage = Stage::Won(Winner {
            server,
            version,
            record,
        });
        Some(Dialed {
            stream: *stream,
            server: self.servers[server].clone(),
            address,
        })
    }
}
