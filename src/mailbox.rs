//! Every message and handle that crosses a task boundary, and nothing else: this page is the whole
//! conversation between tasks. Clients may wait for networks; networks wait for nobody.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::config;
use crate::history::{Log, Missed};
use crate::outbox::Outbox;
use crate::state::{ClientId, Newcomer, Proof};

/// So many messages may wait for a network. Clients wait when it is full.
pub const MAILBOX: usize = 64;
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
    /// The daemon stops, with these words; the answer comes when the server has been told.
    Stop(String, oneshot::Sender<()>),
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
    pub fn new(config: Arc<config::Network>) -> Self {
        Self {
            config,
            running: Arc::default(),
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
