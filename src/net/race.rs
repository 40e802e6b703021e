//! Which address is tried when: the race over TCP, TLS and certificate as a pure state machine. Events and the time come in,
//! orders come out; `dial` has the sockets. Registering is not raced: whoever drives this calls a winner that stays silent
//! or closes `Rejected`, and the race goes on with what is left.

use std::time::Duration;

use super::fault::{no_answer, note};
use super::peer::IpVersion;

pub use super::fault::{Address, Fault, FaultKind};
pub use super::settings::{Advice, Settings};

/// The time of everything here: since the cycle began.
pub type At = Duration;

/// One attempt at one address; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(pub u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The cycle begins.
    Begin,
    /// One family's answer for a server arrived.
    Answer {
        /// Its place in the list of servers.
        server: usize,
        /// Of which family.
        version: IpVersion,
        /// The addresses, or why there are none.
        result: Result<Vec<Address>, Fault>,
    },
    /// TCP is up; TLS begins.
    TcpUp(AttemptId),
    /// The connection is ready for its first line.
    Ready(AttemptId),
    /// The attempt failed.
    Failed(AttemptId, Fault),
    /// The attempt has had to wait for its turn and has not begun: what is best now?
    Again(AttemptId),
    /// The winner said nothing or closed before registration: go on without it.
    Rejected(Fault),
    /// The armed timer went off.
    Timer,
}

/// Why an attempt is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// Another address was faster.
    Outrun,
    /// It took longer than an attempt may.
    TimedOut,
    /// The whole cycle took too long.
    CycleOver,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Look a server up in one family.
    Resolve {
        /// Its place in the list of servers.
        server: usize,
        /// In which family.
        version: IpVersion,
    },
    /// Begin an attempt.
    Start {
        /// Under this number.
        id: AttemptId,
        /// At an address of this server.
        server: usize,
        /// Of this family.
        version: IpVersion,
        /// This one.
        address: Address,
    },
    /// Close an attempt.
    Cancel(AttemptId, Cancelled),
    /// Send `Timer` at this time; replaces the one armed before.
    ArmTimer(At),
    /// Use this connection.
    Winner(AttemptId),
    /// Nothing is left to try.
    Exhausted(Fault),
}

#[derive(Debug)]
struct Candidate {
    server: usize,
    version: IpVersion,
    address: Address,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// `is_up`: TCP stands, TLS is under way.
    Connecting {
        id: AttemptId,
        since: At,
        is_up: bool,
    },
    Won,
    Failed,
    Rejected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Running,
    Won,
    Over,
}

/// The last start: when, and of which server and family.
#[derive(Debug, Clone, Copy, Default)]
struct Started {
    at: Option<At>,
    last: Option<(usize, IpVersion)>,
}

/// What a race would try next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Upcoming {
    /// When, if nothing else happens before.
    pub at: Option<At>,
    /// The addresses, with their servers.
    pub addresses: Vec<(usize, Address)>,
    /// The servers whose turn comes after those.
    pub servers: std::ops::Range<usize>,
}

/// One cycle over all addresses of all servers of a network.
#[derive(Debug)]
pub struct Race {
    settings: Settings,
    servers: usize,
    /// The server whose turn it is, and since when.
    current: usize,
    asked_at: At,
    /// Look-ups not answered yet.
    unanswered: Vec<(usize, IpVersion)>,
    /// Until when the current server's other family waits for the preferred one.
    held_until: At,
    candidates: Vec<Candidate>,
    /// What is known of each server.
    advice: Vec<Advice>,
    started: Started,
    /// The same before the last start, should that have to be taken back.
    before: Started,
    due: At,
    next_id: u64,
    outcome: Outcome,
    best: Option<Fault>,
}

impl Race {
    /// A race over so many servers; `Begin` starts it.
    pub fn new(settings: Settings, servers: usize) -> Self {
        Self {
            settings,
            servers,
            current: 0,
            asked_at: At::ZERO,
            unanswered: Vec::new(),
            held_until: At::ZERO,
            candidates: Vec::new(),
            advice: vec![Advice::default(); servers],
            started: Started::default(),
            before: Started::default(),
            due: At::ZERO,
            next_id: 0,
            outcome: Outcome::Running,
            best: None,
        }
    }

    /// Says what is known of a server; what has begun goes on.
    pub fn advise(&mut self, server: usize, advice: Advice) {
        if let Some(known) = self.advice.get_mut(server) {
            *known = advice;
        }
    }

    /// What would be tried next; nothing once there is a winner or an end.
    pub fn upcoming(&self) -> Upcoming {
        if self.outcome != Outcome::Running {
            return Upcoming::default();
        }
        let next = self.next_start();
        let first = next.map(|(index, _)| index);
        let mut order: Vec<usize> = self.waiting().map(|(index, _)| index).collect();
        order.sort_by_key(|index| (Some(*index) != first, self.candidates[*index].server));
        let addresses = order.into_iter().map(|index| {
            let candidate = &self.candidates[index];
            (candidate.server, candidate.address.clone())
        });
        Upcoming {
            at: next.map(|(_, at)| at),
            addresses: addresses.collect(),
            servers: (self.current + 1).min(self.servers)..self.servers,
        }
    }

    /// Takes one event and says what follows from it.
    pub fn step(&mut self, now: At, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Begin if self.servers > 0 => self.ask(0, now, &mut out),
            Input::Begin | Input::Timer => {}
            Input::Answer {
                server,
                version,
                result,
            } => self.on_answer(now, server, version, result),
            Input::TcpUp(id) => self.on_tcp_up(now, id),
            Input::Ready(id) => self.on_ready(id, &mut out),
            Input::Failed(id, fault) => self.on_failed(now, id, fault),
            Input::Again(id) => self.on_again(now, id),
            Input::Rejected(fault) => self.on_rejected(now, fault),
        }
        if self.outcome == Outcome::Running {
            self.go_on(now, &mut out);
        }
        out
    }

    fn on_answer(
        &mut self,
        now: At,
        server: usize,
        version: IpVersion,
        result: Result<Vec<Address>, Fault>,
    ) {
        let Some(at) = self
            .unanswered
            .iter()
            .position(|asked| *asked == (server, version))
        else {
            return;
        };
        self.unanswered.swap_remove(at);
        match result {
            Ok(addresses) => {
                for address in addresses {
                    self.enter(server, version, address);
                }
            }
            Err(fault) => self.note(fault),
        }
        let preferred = self.preferred(server);
        if self.unanswered.contains(&(server, preferred)) {
            self.held_until = now.saturating_add(self.settings.resolution_delay);
        }
    }

    fn enter(&mut self, server: usize, version: IpVersion, address: Address) {
        let is_shared = !self.settings.is_proxied;
        let known = self.candidates.iter().any(|other| {
            other.address == address
                && (other.server == server || is_shared && other.state == State::Rejected)
        });
        if !known {
            self.candidates.push(Candidate {
                server,
                version,
                address,
                state: State::Waiting,
            });
        }
    }

    fn on_tcp_up(&mut self, now: At, id: AttemptId) {
        let Some((index, since)) = self.active(id) else {
            return;
        };
        self.candidates[index].state = State::Connecting {
            id,
            since,
            is_up: true,
        };
        self.due = self.due.max(now + self.settings.grace(now - since));
    }

    fn on_ready(&mut self, id: AttemptId, out: &mut Vec<Output>) {
        let Some((winner, _)) = self.active(id) else {
            return;
        };
        if self.outcome != Outcome::Running {
            return;
        }
        self.candidates[winner].state = State::Won;
        self.outcome = Outcome::Won;
        let winner = &self.candidates[winner];
        self.started.last = Some((winner.server, winner.version));
        // Whoever was outrun is as good as new, should the winner turn out to be silent.
        self.cancel_all(Cancelled::Outrun, out);
        out.push(Output::Winner(id));
    }

    fn on_failed(&mut self, now: At, id: AttemptId, fault: Fault) {
        let Some((failed, _)) = self.active(id) else {
            return;
        };
        self.candidates[failed].state = State::Failed;
        self.note(fault);
        self.due = now;
    }

    fn on_again(&mut self, now: At, id: AttemptId) {
        let Some((index, _)) = self.active(id) else {
            return;
        };
        self.candidates[index].state = State::Waiting;
        self.started = self.before;
        self.due = now;
    }

    fn on_rejected(&mut self, now: At, fault: Fault) {
        let Some(winner) = self.candidates.iter_mut().find(|c| c.state == State::Won) else {
            return;
        };
        winner.state = State::Rejected;
        let address = winner.address.clone();
        if !self.settings.is_proxied {
            // The same address under another server's name is the same silent host.
            self.candidates
                .retain(|c| c.state != State::Waiting || c.address != address);
        }
        self.note(fault);
        self.outcome = Outcome::Running;
        self.due = now;
    }

    /// Everything that follows from the time alone.
    fn go_on(&mut self, now: At, out: &mut Vec<Output>) {
        if now >= self.settings.cycle {
            self.cancel_all(Cancelled::CycleOver, out);
            return self.end(out);
        }
        self.expire(now, out);
        if self.is_spent(now) && self.current + 1 < self.servers {
            self.ask(self.current + 1, now, out);
        }
        while let Some((next, start_at)) = self.next_start() {
            if now < start_at {
                break;
            }
            self.start(next, now, out);
        }
        let idle = self.next_start().is_none() && self.count_active() == 0;
        if idle && self.unanswered.is_empty() {
            return self.end(out);
        }
        out.push(Output::ArmTimer(self.next_timer(now)));
    }

    fn ask(&mut self, server: usize, now: At, out: &mut Vec<Output>) {
        self.current = server;
        self.asked_at = now;
        self.held_until = now;
        for &version in self.settings.versions() {
            self.unanswered.push((server, version));
            out.push(Output::Resolve { server, version });
        }
    }

    /// The family that goes first at a server: the wanted one, unless only the other one is any good.
    fn preferred(&self, server: usize) -> IpVersion {
        let is_weak = |version: IpVersion| self.advice[server].is_weak[version as usize];
        match *self.settings.versions() {
            [first, second] if is_weak(first) && !is_weak(second) => second,
            [first, ..] => first,
            [] => IpVersion::V6,
        }
    }

    /// Whether the current server has had its chance: all of it failed, or its share of the cycle is used up.
    fn is_spent(&self, now: At) -> bool {
        let waits = self
            .unanswered
            .iter()
            .any(|(server, _)| *server == self.current)
            || self.candidates.iter().any(|c| c.state == State::Waiting)
            || self.count_active() > 0;
        !waits || now >= self.share_end()
    }

    fn share_end(&self) -> At {
        let left = self.settings.cycle.saturating_sub(self.asked_at);
        let servers = u32::try_from(self.servers - self.current).unwrap_or(u32::MAX);
        self.asked_at + left / servers.max(1)
    }

    fn expire(&mut self, now: At, out: &mut Vec<Output>) {
        let timeout = self.settings.attempt_timeout;
        for candidate in &mut self.candidates {
            let State::Connecting { id, since, is_up } = candidate.state else {
                continue;
            };
            if now < since.saturating_add(timeout) {
                continue;
            }
            candidate.state = State::Failed;
            self.due = now;
            out.push(Output::Cancel(id, Cancelled::TimedOut));
            let said = no_answer(is_up, self.settings.is_proxied, timeout);
            let text = format!("{}: {said}", candidate.address);
            note(&mut self.best, Fault::new(FaultKind::TimedOut, text));
        }
    }

    /// The candidate whose turn is next, and when.
    fn next_start(&self) -> Option<(usize, At)> {
        if self.count_active() >= self.settings.max_parallel {
            return None;
        }
        // The current server first; what is left of earlier ones has had its time.
        let server = self.waiting().map(|(_, c)| c.server).max()?;
        let preferred = self.preferred(server);
        let wanted = match self.started.last {
            Some((last_server, version)) if last_server == server => version.other(),
            _ => preferred,
        };
        let mut of_server = self.waiting().filter(|(_, c)| c.server == server);
        let next = of_server
            .clone()
            .find(|(_, c)| c.version == wanted)
            .or_else(|| of_server.next())?;
        let begun = self
            .started
            .last
            .is_some_and(|(last_server, _)| last_server == server);
        let awaited =
            !begun && next.1.version != preferred && self.unanswered.contains(&(server, preferred));
        let held = if awaited { self.held_until } else { At::ZERO };
        let spaced = self
            .started
            .at
            .map_or(At::ZERO, |at| at + self.settings.spacing);
        Some((next.0, self.due.max(held).max(spaced)))
    }

    fn start(&mut self, next: usize, now: At, out: &mut Vec<Output>) {
        let id = AttemptId(self.next_id);
        self.next_id += 1;
        self.before = self.started;
        let candidate = &mut self.candidates[next];
        candidate.state = State::Connecting {
            id,
            since: now,
            is_up: false,
        };
        let (server, version) = (candidate.server, candidate.version);
        let rtt = self.advice[server].rtt[version as usize];
        self.due = now.saturating_add(self.settings.delay(rtt));
        self.started = Started {
            at: Some(now),
            last: Some((server, version)),
        };
        out.push(Output::Start {
            id,
            server,
            version,
            address: candidate.address.clone(),
        });
    }

    fn next_timer(&self, now: At) -> At {
        let mut at = self.settings.cycle;
        for candidate in &self.candidates {
            if let State::Connecting { since, .. } = candidate.state {
                at = at.min(since.saturating_add(self.settings.attempt_timeout));
            }
        }
        if let Some((_, start_at)) = self.next_start() {
            at = at.min(start_at);
        }
        if self.current + 1 < self.servers {
            at = at.min(self.share_end());
        }
        at.max(now)
    }

    fn cancel_all(&mut self, why: Cancelled, out: &mut Vec<Output>) {
        for candidate in &mut self.candidates {
            if let State::Connecting { id, .. } = candidate.state {
                candidate.state = State::Waiting;
                out.push(Output::Cancel(id, why));
            }
        }
    }

    fn end(&mut self, out: &mut Vec<Output>) {
        self.outcome = Outcome::Over;
        let fault = self.best.clone().unwrap_or_else(|| {
            let text = format!("nothing answered within {:?}", self.settings.cycle);
            Fault::new(FaultKind::TimedOut, text)
        });
        out.push(Output::Exhausted(fault));
    }

    fn waiting(&self) -> impl Iterator<Item = (usize, &Candidate)> + Clone {
        self.candidates
            .iter()
            .enumerate()
            .filter(|(_, c)| c.state == State::Waiting)
    }

    /// The candidate of an attempt under way, and when it began.
    fn active(&self, wanted: AttemptId) -> Option<(usize, At)> {
        self.candidates
            .iter()
            .enumerate()
            .find_map(|(index, c)| match c.state {
                State::Connecting { id, since, .. } if id == wanted => Some((index, since)),
                _ => None,
            })
    }

    fn count_active(&self) -> usize {
        self.candidates
            .iter()
            .filter(|c| matches!(c.state, State::Connecting { .. }))
            .count()
    }

    fn note(&mut self, fault: Fault) {
        note(&mut self.best, fault);
    }
}

#[cfg(test)]
#[path = "race_advice_tests.rs"]
mod advice_tests;
#[cfg(test)]
#[path = "race_properties_tests.rs"]
mod properties;
#[cfg(test)]
#[path = "race_tests.rs"]
mod tests;
