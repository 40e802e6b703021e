//! What all tasks may read without asking anybody: users, their networks, and how those are doing. The
//! bouncer publishes users; each network writes its own line on its user's board.

mod names;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::config::{Config, Pin};
use crate::mailbox::NetworkHandle;
use crate::net::{Attempt, Fault, FaultKind, Outcome, Phase, Trace};
use crate::state::NetworkStatus;
use crate::wire::Timestamp;

pub use names::{ClientNames, Here};

/// So many attempts to connect are remembered of each network.
const ATTEMPTS: usize = 32;

/// All users that may come in and their networks, as published last, with everything that holds.
#[derive(Debug, Default)]
pub struct Directory {
    users: BTreeMap<String, Arc<User>>,
    /// The effective configuration; disabled users are here alone.
    pub config: Arc<Config>,
    /// Users that can be restored, and since when they are deleted.
    pub deleted: Vec<(String, Timestamp)>,
}

/// A user, and all that leads to his networks.
#[derive(Debug)]
pub struct User {
    /// The name.
    pub name: String,
    /// Whether the user administers carom.
    pub admin: bool,
    /// The hash of the password.
    pub hash: String,
    /// Where the file gives the hash; `None`: the database does.
    pub hash_line: Option<usize>,
    /// Client certificates that may log in.
    pub certificates: Vec<Pin>,
    /// The networks: declared ones in the file's order, then others in the order in which they were made.
    pub networks: Vec<NetworkHandle>,
    /// For connections that are bound to no network.
    pub lobby: NetworkHandle,
    /// How the networks are doing.
    pub board: Board,
    /// How many clients are attached.
    pub clients: Arc<AtomicUsize>,
    /// When a client last came or went.
    pub seen: Arc<Seen>,
}

/// When a user was last there. Clones of it are one.
#[derive(Debug, Default)]
pub struct Seen(AtomicI64);

impl Seen {
    /// It was then.
    pub fn note(&self, time: Timestamp) {
        self.0.fetch_max(time.millis(), Ordering::Relaxed);
    }

    /// `None`: never, as far as anybody knows.
    pub fn get(&self) -> Option<Timestamp> {
        let millis = self.0.load(Ordering::Relaxed);
        (millis > 0).then(|| Timestamp::from_millis(millis))
    }
}

/// How the networks of one user are doing, by name.
#[derive(Debug, Clone)]
pub struct Board {
    /// In the order of names. A list: a tree would have room for eleven where most users have one or two.
    lines: watch::Sender<Vec<NetworkStatus>>,
    names: ClientNames,
    dialling: Arc<Mutex<BTreeMap<String, Dialling>>>,
}

/// What came of dialling: cycles that are over, and the last one.
#[derive(Debug, Default)]
struct Dialling {
    past: VecDeque<Attempt>,
    current: Trace,
}

/// How a network was dialled lately.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explain {
    /// The addresses tried, the newest last.
    pub attempts: Vec<Attempt>,
    /// What would be tried next in the cycle under way.
    pub next: Vec<String>,
    /// When the first of that would be.
    pub at: Option<Timestamp>,
}

impl Explain {
    /// What somebody may know who must not learn what answers where: which servers failed, and when.
    #[must_use]
    pub fn hidden(self) -> Self {
        let hide = |attempt: Attempt| match attempt.outcome {
            Outcome::Failed(fault) => Attempt {
                address: None,
                version: None,
                source: None,
                phase: Phase::Resolve,
                outcome: Outcome::Failed(Fault::new(fault.kind, "could not connect")),
                millis: 0,
                tcp_millis: None,
                why: String::new(),
                ..attempt
            },
            _ => attempt,
        };
        Self {
            attempts: self.attempts.into_iter().map(hide).collect(),
            ..Self::default()
        }
    }
}

impl Directory {
    /// A directory of these users.
    pub fn new(users: impl IntoIterator<Item = User>) -> Self {
        Self {
            users: users
                .into_iter()
                .map(|u| (u.name.clone(), Arc::new(u)))
                .collect(),
            ..Self::default()
        }
    }

    /// The same users under another configuration, but for one, who is another or gone.
    #[must_use]
    pub fn with(&self, config: Arc<Config>, name: &str, user: Option<User>) -> Self {
        let mut users = self.users.clone();
        match user {
            Some(user) => _ = users.insert(name.to_owned(), Arc::new(user)),
            None => _ = users.remove(name),
        }
        Self {
            users,
            config,
            deleted: self.deleted.clone(),
        }
    }

    /// A user by name.
    pub fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// All users.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values()
    }
}

impl User {
    /// A network by name.
    pub fn network(&self, name: &str) -> Option<&NetworkHandle> {
        self.networks
            .iter()
            .find(|network| network.config.name == name)
    }

    /// Counts a client until the guard is dropped. `None`: there are `most` already.
    pub fn count_client(&self, most: usize) -> Option<Counted> {
        let admitted = self
            .clients
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < most).then_some(n + 1)
            });
        admitted.ok().map(|_| Counted(Arc::clone(&self.clients)))
    }
}

/// One attached client of a user.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Board {
    fn default() -> Self {
        Self {
            lines: watch::Sender::new(Vec::new()),
            names: ClientNames::default(),
            dialling: Arc::default(),
        }
    }
}

impl Board {
    /// The client names of the user.
    pub fn names(&self) -> &ClientNames {
        &self.names
    }

    /// A network writes its line.
    pub fn write(&self, status: NetworkStatus) {
        self.lines
            .send_if_modified(|lines| match place(lines, &status.name) {
                Ok(at) if lines[at] == status => false,
                Ok(at) => {
                    lines[at] = status;
                    true
                }
                Err(at) => {
                    lines.reserve_exact(1);
                    lines.insert(at, status);
                    true
                }
            });
    }

    /// A network has another name from now on: its line has the new one when it is written next.
    pub fn renamed(&self, from: &str, to: &str) {
        self.remove(from);
        let mut dialling = self.dialling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = dialling.remove(from) {
            dialling.insert(to.to_owned(), known);
        }
    }

    /// A network is no more.
    pub fn remove(&self, network: &str) {
        self.lines
            .send_if_modified(|lines| match place(lines, network) {
                Ok(at) => {
                    lines.remove(at);
                    true
                }
                Err(_) => false,
            });
    }

    /// One line.
    pub fn line(&self, network: &str) -> Option<NetworkStatus> {
        let lines = self.lines.borrow();
        place(&lines, network).ok().map(|at| lines[at].clone())
    }

    /// All lines, whenever one changes.
    pub fn subscribe(&self) -> watch::Receiver<Vec<NetworkStatus>> {
        self.lines.subscribe()
    }

    /// All lines, by name.
    pub fn lines(&self) -> Vec<NetworkStatus> {
        self.lines.borrow().clone()
    }

    /// A network begins to dial; the trace shows how far it is.
    pub fn follow(&self, network: &str, trace: Trace) {
        let mut dialling = self.dialling.lock().unwrap_or_else(PoisonError::into_inner);
        let dialling = dialling.entry(network.to_owned()).or_default();
        let before = std::mem::replace(&mut dialling.current, trace).progress();
        dialling.past.extend(before.attempts.into_iter().map(ended));
        let surplus = dialling.past.len().saturating_sub(ATTEMPTS);
        dialling.past.drain(..surplus);
    }

    /// How a network was dialled lately; `None`: never.
    pub fn explain(&self, network: &str) -> Option<Explain> {
        let dialling = self.dialling.lock().unwrap_or_else(PoisonError::into_inner);
        let dialling = dialling.get(network)?;
        let current = dialling.current.progress();
        let mut attempts: Vec<_> = dialling.past.iter().cloned().collect();
        attempts.extend(current.attempts);
        let surplus = attempts.len().saturating_sub(ATTEMPTS);
        attempts.drain(..surplus);
        Some(Explain {
            attempts,
            next: current.next,
            at: current.at,
        })
    }
}

/// Where a network's line is, or would be.
fn place(lines: &[NetworkStatus], network: &str) -> Result<usize, usize> {
    lines.binary_search_by(|line| line.name.as_str().cmp(network))
}

/// An attempt of a cycle that was given up is not under way any more.
fn ended(mut attempt: Attempt) -> Attempt {
    if attempt.outcome == Outcome::Pending {
        attempt.outcome = Outcome::Failed(Fault::new(FaultKind::TimedOut, "given up"));
    }
    attempt
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Network, ServerAddr};
    use crate::net::resolve::Fixed;
    use crate::net::{By, Dialer};

    #[tokio::test]
    async fn the_last_attempts_of_all_cycles_are_remembered() {
        let board = Board::default();
        assert_eq!(board.explain("net"), None);
        let server = |n| ServerAddr::parse(&format!("ircs://host{n}.test")).unwrap();
        let network = Network {
            servers: (0..5).map(server).collect(),
            ..Network::default()
        };
        let dialer = Dialer::new(Arc::new(Fixed::default()));
        for _ in 0..5 {
            let mut cycle = dialer.cycle(&network, &By::trusted("apw"));
            board.follow("net", cycle.trace());
            cycle.next().await.unwrap_err();
        }
        let explain = board.explain("net").unwrap();
        assert_eq!(explain.attempts.len(), ATTEMPTS);
        // Each cycle looked five names up in two families.
        let last = &explain.attempts[ATTEMPTS - 1];
        assert_eq!(last.server, "host4.test:6697");
        assert_eq!((explain.next.len(), explain.at), (0, None));
        assert_eq!(board.explain("other"), None);
    }
}
