//! Drives the race with real sockets: looks names up, connects, does TLS, and hands out the first connection that is ready
//! for its first line. What happened to every address is kept for whoever asks. When to dial again is `upstream`'s.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::pending;
use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::Stream;
use super::attempt::OnPhase;
use super::clock::Clock;
use super::dialer::{By, Dialer};
use super::health::Lead;
use super::lookup::Found;
use super::peer::IpVersion;
use super::race::{Address, At, AttemptId, Fault, FaultKind, Input, Output, Race, Settings};
use super::source::Origins;
use super::tls::Connector;
use super::trace::{Attempt, Outcome, Phase, Trace};
use crate::config::{Dial, Network, Proxy, Scheme, ServerAddr, Trust};

mod orders;
mod records;

/// Events of attempts that may wait; attempts wait beyond it.
const EVENTS: usize = 64;

/// A connection that is ready for its first line.
#[derive(Debug)]
pub struct Dialed {
    /// The connection.
    pub stream: Stream,
    /// The server it is to, as configured.
    pub server: ServerAddr,
    /// The address it is to.
    pub address: Address,
}

/// Nothing worked: the most telling failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", fault.text)]
pub struct DialReport {
    /// The most telling failure, with its address.
    pub fault: Fault,
    /// Everything that was tried, in order.
    pub attempts: Vec<Attempt>,
}

/// An attempt about to begin.
struct Start {
    id: AttemptId,
    server: usize,
    version: IpVersion,
    address: Address,
}

/// An attempt under way.
struct Running {
    server: usize,
    version: IpVersion,
    /// Its place in `attempts`.
    record: usize,
    task: AbortHandle,
    since: Instant,
    /// When TCP came up.
    up: Option<Instant>,
}

/// What tasks tell the cycle.
enum Event {
    Answer(usize, IpVersion, Found),
    Phase(AttemptId, Phase),
    Ready(AttemptId, Box<Stream>),
    Failed(AttemptId, Fault),
}

/// Tells the cycle how far an attempt is.
struct Teller {
    id: AttemptId,
    events: mpsc::Sender<Event>,
}

impl OnPhase for Teller {
    async fn begins(&self, phase: Phase) {
        // The cycle is gone when nobody listens.
        let _ = self.events.send(Event::Phase(self.id, phase)).await;
    }
}

enum Stage {
    New,
    Running,
    Won(Winner),
    Over(Fault),
}

#[derive(Clone, Copy)]
struct Winner {
    server: usize,
    version: IpVersion,
    /// Its place in `attempts`.
    record: usize,
}

/// One cycle over all addresses of all servers. Dropping it closes whatever is under way.
pub struct Cycle {
    dialer: Dialer,
    servers: Vec<ServerAddr>,
    dial: Dial,
    proxy: Option<Proxy>,
    trust: Trust,
    client_certificate: Option<PathBuf>,
    origins: Origins,
    username: String,
    is_trusted: bool,
    /// Made at the first need.
    connector: Option<Result<Connector, Fault>>,
    race: Race,
    settings: Settings,
    stage: Stage,
    clock: Clock,
    timer: Option<At>,
    outputs: VecDeque<Output>,
    events_in: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    tasks: JoinSet<()>,
    running: HashMap<AttemptId, Running>,
    ready: Option<(AttemptId, Box<Stream>)>,
    /// Servers whose turn was taken in this cycle.
    paced: HashSet<usize>,
    /// The server of the attempt that waits for its turn.
    waiting: HashMap<AttemptId, usize>,
    /// Servers where others wait for what this cycle finds out.
    leads: HashMap<usize, Lead>,
    /// By server and family: whether its addresses are worth less than the other's.
    weak: HashMap<usize, [bool; 2]>,
    /// The winner that proved to be of no use, until it is clear that the next address is wanted.
    rejected: Option<Winner>,
    attempts: Vec<Attempt>,
    trace: Trace,
}

impl Cycle {
    pub(super) fn new(dialer: Dialer, network: &Network, by: &By, settings: Settings) -> Self {
        let (events_in, events) = mpsc::channel(EVENTS);
        let settings = Settings {
            is_proxied: network.proxy.is_some(),
            ..settings
        };
        Self {
            origins: Origins::of(&network.dial, &by.user, dialer.key.as_ref()),
            is_trusted: by.is_trusted || network.dial.allow_internal,
            dialer,
            servers: network.servers.clone(),
            username: network.username.clone(),
            dial: network.dial.clone(),
            proxy: network.proxy.clone(),
            trust: network.trust.clone(),
            client_certificate: network.client_certificate.clone(),
            connector: None,
            race: Race::new(settings, network.servers.len()),
            settings,
            stage: Stage::New,
            clock: Clock::new(),
            timer: None,
            outputs: VecDeque::new(),
            events_in,
            events,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            ready: None,
            paced: HashSet::new(),
            waiting: HashMap::new(),
            leads: HashMap::new(),
            weak: HashMap::new(),
            rejected: None,
            attempts: Vec::new(),
            trace: Trace::default(),
        }
    }

    /// The next connection that is ready for its first line. Called again, the one before counts as rejected, and what is
    /// left is tried. May be given up half way and called again: nothing is lost.
    pub async fn next(&mut self) -> Result<Dialed, DialReport> {
        self.open_connector().await;
        if let Stage::Won(_) = self.stage {
            self.reject("closed before registration");
        }
        if let Some(Winner {
            server, version, ..
        }) = self.rejected.take()
        {
            self.remember(server, |health, host, now| {
                health.stalled(host, version, now);
            });
        }
        if let Stage::New = self.stage {
            self.stage = Stage::Running;
            self.clock = Clock::new();
            self.tell(Input::Begin);
        }
        loop {
            while let Some(output) = self.outputs.pop_front() {
                if let Some(dialed) = self.perform(output) {
                    self.show();
                    return Ok(dialed);
                }
            }
            self.show();
            if let Stage::Over(fault) = &self.stage {
                return Err(self.report(fault));
            }
            let event = self.wait().await;
            self.on_event(event);
        }
    }

    /// Says that the last connection was of no use: silent, or closed before registration. `next` goes on without it.
    pub fn reject(&mut self, why: &str) {
        let Stage::Won(winner) = self.stage else {
            return;
        };
        self.stage = Stage::Running;
        self.rejected = Some(winner);
        let fault = Fault::new(FaultKind::Silent, why);
        self.attempts[winner.record].outcome = Outcome::Failed(fault.clone());
        let fault = self.with_address(winner.record, &fault);
        self.tell(Input::Rejected(fault));
        self.show();
    }

    /// Says that the last connection has proved its use: a server has welcomed us. The cycle is over.
    pub fn confirm(self) {
        if let Stage::Won(winner) = self.stage {
            let version = winner.version;
            self.remember(winner.server, |health, host, now| {
                health.works(host, version, now);
            });
        }
    }

    /// What has been tried until now, in order.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// Shows how far this is to somebody else.
    pub fn trace(&self) -> Trace {
        self.trace.clone()
    }

    fn report(&self, fault: &Fault) -> DialReport {
        let mut fault = fault.clone();
        if !self.is_trusted {
            // What answers where, and what names lead to, is nothing for those who must not know.
            fault.text = match fault.kind {
                FaultKind::Policy => "not allowed: an administrator can see why".to_owned(),
                _ => "could not connect".to_owned(),
            };
        }
        DialReport {
            fault,
            attempts: self.attempts.clone(),
        }
    }

    async fn open_connector(&mut self) {
        let is_tls = |server: &ServerAddr| {
            matches!(
                server,
                ServerAddr::Tcp {
                    scheme: Scheme::Tls,
                    ..
                }
            )
        };
        if self.connector.is_some() || !self.servers.iter().any(is_tls) {
            return;
        }
        let own = self.client_certificate.as_deref();
        let opened = Connector::open(&self.trust, own, &self.dialer.roots).await;
        let fault = |error: super::TlsError| Fault::new(FaultKind::Policy, error.to_string());
        self.connector = Some(opened.map_err(fault));
    }

    /// The next event of a task; `None` when the timer went off.
    async fn wait(&mut self) -> Option<Event> {
        while self.tasks.try_join_next().is_some() {}
        let timer = match &self.clock.frozen {
            Some(frozen) => Some(frozen.until),
            None => self.timer.map(|at| self.clock.origin + at),
        };
        let timer = async {
            match timer {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            event = self.events.recv() => event,
            () = timer => None,
        }
    }

    fn on_event(&mut self, event: Option<Event>) {
        let Some(event) = event else {
            let Some(id) = self.clock.thaw() else {
                return self.tell(Input::Timer);
            };
            // While it waited others may have found out what works.
            if let Some(server) = self.waiting.remove(&id) {
                self.advise(server);
            }
            return self.tell(Input::Again(id));
        };
        let input = match event {
            Event::Answer(server, version, found) => self.on_answer(server, version, found),
            Event::Phase(id, phase) => match self.on_phase(id, phase) {
                Some(input) => input,
                None => return,
            },
            Event::Ready(id, stream) => {
                self.ready = Some((id, stream));
                Input::Ready(id)
            }
            Event::Failed(id, fault) => match self.finish(id, Outcome::Failed(fault.clone())) {
                Some(record) => Input::Failed(id, self.with_address(record, &fault)),
                None => return,
            },
        };
        self.tell(input);
    }

    fn on_answer(&mut self, server: usize, version: IpVersion, found: Found) -> Input {
        if let Err(fault) = &found.result {
            self.record_look_up(server, version, fault, found.millis);
        }
        self.weak.entry(server).or_default()[version as usize] = found.is_weak;
        self.advise(server);
        Input::Answer {
            server,
            version,
            result: found.result,
        }
    }

    /// TCP is up, or the proxy has connected.
    fn on_phase(&mut self, id: AttemptId, phase: Phase) -> Option<Input> {
        let running = self.running.get_mut(&id)?;
        let attempt = &mut self.attempts[running.record];
        attempt.phase = phase;
        if running.up.is_some() {
            return None;
        }
        running.up = Some(Instant::now());
        let rtt = running.since.elapsed();
        attempt.tcp_millis = Some(millis(running.since));
        let (server, version) = (running.server, running.version);
        self.remember(server, |health, host, _| {
            health.measured(host, version, rtt);
        });
        Some(Input::TcpUp(id))
    }

    fn tell(&mut self, input: Input) {
        let now = self.clock.now();
        self.outputs.extend(self.race.step(now, input));
    }

    fn perform(&mut self, output: Output) -> Option<Dialed> {
        match output {
            Output::Resolve { server, version } => self.look_up(server, version),
            Output::Start {
                id,
                server,
                version,
                address,
            } => {
                self.start(Start {
                    id,
                    server,
                    version,
                    address,
                });
            }
            Output::Cancel(id, why) => self.cancel(id, why),
            Output::ArmTimer(at) => self.timer = Some(at),
            Output::Winner(id) => return self.win(id),
            Output::Exhausted(fault) => {
                tracing::debug!(error = %fault.text, "no address worked");
                self.stage = Stage::Over(fault);
            }
        }
        None
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "dial_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "dial_ways_tests.rs"]
mod ways_tests;
