//! Every message and handle that crosses a task boundary, and nothing else: this page is the whole
//! conversation between tasks. Clients may wait for networks; networks wait for nobody.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::config;
use crate::config::Finding;
use crate::config::overlay::{Authority, Change, Outcome, Refusal};
use crate::history::{Log, Missed};
use crate::outbox::Outbox;
use crate::state::orders::{self, Order};
use crate::state::{ClientId, Newcomer, Proof, Settings};

/// So many messages may wait for a network. Clients wait when it is full.
pub const MAILBOX: usize = 64;
/// So many requests may wait for the bouncer, which takes one at a time.
pub const REQUESTS: usize = 64;
/// So many lines of one client may be under way.
pub const CREDIT: usize = 500;

/// To the task of a network.
#[derive(Debug)]
pub enum ToNetwork {
    /// What is the store to be asked for a client of this name, before it attaches?
    Question(String, oneshot::Sender<Missed>),
    /// A client wants to attach.
    Attach(Box<Arrival>),
    /// A line of an attached client. It has cost a permit of its credit.
    Line(ClientId, Bytes),
    /// A line of an attached client was too long to be read.
    TooLong(ClientId),
    /// A client proved what it has.
    Proved(ClientId, Proof),
    /// A client's writer wants more introductions.
    More(ClientId),
    /// A client is gone.
    Detach(ClientId, Proof),
    /// A client name gives way to others of its user.
    Forget(String),
    /// Its user tells or asks it something.
    Order(Order, oneshot::Sender<orders::Outcome>),
    /// The network is run by something else from now on.
    Configure(Box<Settings>),
    /// A channel is left and not joined again.
    Leave(String),
    /// The daemon stops, with these words; the answer comes when the server has been told.
    Stop(String, oneshot::Sender<()>),
}

/// To the bouncer, which serves one request at a time. Clients and the control socket may wait for it.
#[derive(Debug)]
pub enum ToBouncer {
    /// Something is to be changed.
    Change {
        /// Who asks.
        by: Authority,
        /// What.
        change: Change,
        /// What came of it, once it is stored and takes effect.
        reply: oneshot::Sender<Result<Outcome, Refusal>>,
    },
    /// The file is to be read again.
    Reload {
        /// Only what would happen is to be told.
        dry: bool,
        /// What happened, or everything that is wrong.
        reply: oneshot::Sender<Result<Reloaded, Vec<String>>>,
    },
    /// The whole effective configuration as a file would say it.
    Dump {
        /// Whether secrets are told.
        secrets: bool,
        /// The text.
        reply: oneshot::Sender<String>,
    },
    /// The log is to tell everything, or what it told before.
    Debug(bool),
}

/// What came of reading the file again, or would come of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloaded {
    /// What changed, one line each.
    pub changes: Vec<String>,
    /// Networks that connect anew: `user/network`.
    pub reconnects: Vec<String>,
    /// Keys that are applied at the next start.
    pub restart: Vec<String>,
    /// What should be looked at although it can be used.
    pub warnings: Vec<Finding>,
}

/// How to reach the bouncer.
#[derive(Debug, Clone)]
pub struct BouncerHandle(mpsc::Sender<ToBouncer>);

impl BouncerHandle {
    /// A bouncer, and where it takes requests.
    pub fn new() -> (Self, mpsc::Receiver<ToBouncer>) {
        let (sender, requests) = mpsc::channel(REQUESTS);
        (Self(sender), requests)
    }

    /// Has something changed.
    pub async fn change(&self, by: Authority, change: Change) -> Result<Outcome, Refusal> {
        let (reply, answer) = oneshot::channel();
        let request = ToBouncer::Change { by, change, reply };
        _ = self.0.send(request).await;
        answer.await.unwrap_or(Err(Refusal::Stopping))
    }

    /// Has the file read again.
    pub async fn reload(&self, dry: bool) -> Result<Reloaded, Vec<String>> {
        let (reply, answer) = oneshot::channel();
        _ = self.0.send(ToBouncer::Reload { dry, reply }).await;
        answer
            .await
            .unwrap_or_else(|_| Err(vec![Refusal::Stopping.to_string()]))
    }

    /// The whole effective configuration. `None`: carom is stopping.
    pub async fn dump(&self, secrets: bool) -> Option<String> {
        let (reply, answer) = oneshot::channel();
        _ = self.0.send(ToBouncer::Dump { secrets, reply }).await;
        answer.await.ok()
    }

    /// Has the log tell everything, or what it told before.
    pub async fn debug(&self, everything: bool) {
        _ = self.0.send(ToBouncer::Debug(everything)).await;
    }
}

/// A client that has logged in, and how to reach it.
#[derive(Debug)]
pub struct Arrival {
    /// What the network must know of it.
    pub newcomer: Newcomer,
    /// Its queue.
    pub outbox: Arc<Outbox>,
    /// Permits for its lines.
    pub credit: Arc<Semaphore>,
}

/// How to reach a network, which may be started anew at any time.
#[derive(Clone)]
pub struct NetworkHandle {
    /// Its number, which no other network ever has; 0 for a lobby.
    pub id: u64,
    /// What it is run by.
    pub config: Arc<config::Network>,
    running: Arc<Mutex<Option<Running>>>,
}

/// A network's task.
#[derive(Clone)]
pub struct Running {
    /// Where it takes messages.
    pub mailbox: mpsc::Sender<ToNetwork>,
    /// Its log.
    pub log: Log,
}

impl NetworkHandle {
    /// A network that does not run yet.
    pub fn new(id: u64, config: Arc<config::Network>) -> Self {
        Self {
            id,
            config,
            running: Arc::default(),
        }
    }

    /// The same network run by something else.
    #[must_use]
    pub fn with(&self, config: Arc<config::Network>) -> Self {
        Self {
            id: self.id,
            config,
            running: Arc::clone(&self.running),
        }
    }

    /// The task that runs it now; `None`: it is not running.
    pub fn running(&self) -> Option<Running> {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A task has begun to run it, or none does any more.
    pub fn set(&self, running: Option<Running>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }
}

impl fmt::Debug for NetworkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkHandle({})", self.config.name)
    }
}
