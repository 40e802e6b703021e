//! The task of one client: TLS, login, then two halves under one roof. The reader passes lines on to the
//! network, the writer works the client's queue. After login the task is a pipe that knows no IRC but
//! PONG.

mod account;
mod answers;
mod enter;
mod explain;
mod labelled;
mod ledger;
mod networks;
mod pages;
mod reader;
mod service;
mod stamp;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::auth::{Auth, Refusal};
use crate::config::{Limits, Manner, Origins, Pin};
use crate::directory::{Counted, Directory, Here, User};
use crate::history::{self, EntryId, MissedTarget};
use crate::mailbox::{Arrival, BouncerHandle, CREDIT, NetworkHandle, Running, ToNetwork};
use crate::metrics::Counters;
use crate::net::seldom::Seldom;
use crate::net::{Acceptor, Peer, Stream};
use crate::outbox::Outbox;
use crate::state::login::Login;
use crate::state::{ClientId, Newcomer, Proof};

use enter::Connection;
use ledger::Ledger;
use reader::Reader;
use writer::Writer;

pub use enter::{handshakes, refuse};
pub use service::{Caller, run as run_command};

/// Said to who comes when the log is closed.
const STOPPED: &str = "The network has stopped";
/// After QUIT the client may take so long to close.
const FAREWELL: Duration = Duration::from_secs(2);

/// What every client's task needs of the daemon. A reload makes another one for those who come later.
#[derive(Clone)]
pub struct Shared {
    /// The name clients know carom by.
    pub server: String,
    /// Whom users may turn to.
    pub admin_contact: String,
    /// Who is there.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// Passwords and limits on strangers.
    pub auth: Auth,
    /// Limits on clients.
    pub limits: Limits,
    /// For listeners with TLS.
    pub acceptor: Option<Acceptor>,
    /// Whose pages may talk to web listeners.
    pub origins: Origins,
    /// Of pages that may not.
    pub complaints: Arc<Seldom>,
    /// Starts a lobby that does not run yet.
    pub lobbies: Lobbies,
    /// Changes what is configured.
    pub bouncer: BouncerHandle,
    /// How many clients are attached.
    pub present: watch::Sender<usize>,
    /// What all clients count.
    pub counters: Arc<Counters>,
}

/// Starts the lobby of a user.
pub type Lobbies = Arc<
    dyn Fn(Arc<User>) -> std::pin::Pin<Box<dyn Future<Output = Option<Running>> + Send>>
        + Send
        + Sync,
>;

/// How a client's connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By QUIT or FIN: what the client's side took, the client has.
    Orderly,
    /// Anything else.
    Broken,
}

/// A client that has logged in: who, where, and in what form.
struct Entered {
    user: Arc<User>,
    network: NetworkHandle,
    running: Running,
    client: String,
    login: Login,
    counted: Counted,
    certificate: Option<Pin>,
}

fn next_client() -> ClientId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    ClientId(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Serves one connection until it ends.
pub async fn serve(stream: Stream, peer: Peer, manner: Manner, shared: Arc<Shared>) {
    let ticket = match shared.auth.gate.admit(peer.ip(), crate::clock().ticks) {
        Ok(ticket) => ticket,
        Err(refusal) => {
            shared.counters.refused.add(match refusal {
                Refusal::TooMany => "too_many",
                Refusal::TooFast { .. } => "too_fast",
            });
            return refuse(stream, manner, &refusal.to_string()).await;
        }
    };
    // From now on, however much is said.
    let deadline = timeout(shared.limits.register_timeout, std::future::pending::<()>());
    let must_go = async {
        let (word, reason) = tokio::select! {
            _ = deadline => ("too_slow", "You took too long to log in"),
            () = ticket.ousted() => ("gave_way", "Others wait to log in"),
        };
        shared.counters.refused.add(word);
        reason
    };
    let entered = enter::enter(stream, peer, manner, &shared, must_go).await;
    let Some((connection, entered)) = entered else {
        return debug!(%peer, "gone before login");
    };
    ticket.logged_in();
    let present = Present::new(&shared.present);
    attached(connection, peer, entered, &shared).await;
    drop(present);
}

/// An attached client, for whoever waits until all are gone.
struct Present<'a>(&'a watch::Sender<usize>);

impl<'a> Present<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|present| *present += 1);
        Self(count)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|present| *present -= 1);
    }
}

/// A client from its login to its end.
async fn attached(mut connection: Connection, peer: Peer, entered: Entered, shared: &Shared) {
    let Entered {
        user,
        network,
        running,
        client,
        login,
        counted,
        certificate,
    } = entered;
    let id = next_client();
    let name = network.config.name.clone();
    let here = come(&user, &client).await;
    user.seen.note(crate::clock().time);
    info!(user = user.name, network = name, client, %peer, "attached");
    let outbox = outbox(shared);
    let credit = Arc::new(Semaphore::new(CREDIT));
    let ledger = Ledger::default();
    let missed = match missed(&running, &client).await {
        Err(history::Error::Closed) => return connection.close(STOPPED, login.caps).await,
        read => read.unwrap_or_else(|error| {
            // It is let in. What it proves would cover what it missed, so that nothing of it may count.
            warn!(%error, user = user.name, network = name, client, "missed lines cannot be read");
            ledger.close();
            Missed::unread(&error)
        }),
    };
    let newcomer = Newcomer {
        id,
        name: client.clone(),
        address: peer.to_string(),
        caps: login.caps,
        version: login.version,
        nick: login.nick.clone().unwrap_or_default(),
        away: login.away.clone(),
        missed: missed.targets,
        through: missed.through,
        unread: missed.unread,
    };
    let arrival = Arrival {
        newcomer,
        outbox: Arc::clone(&outbox),
        credit: Arc::clone(&credit),
    };
    let mailbox = running.mailbox.clone();
    let attach = ToNetwork::Attach(Box::new(arrival));
    if mailbox.send(attach).await.is_err() {
        return;
    }
    connection.put_back(login.early);
    let caller = Caller {
        user: Some(user.clone()),
        network: Some(name.clone()),
        admin: user.admin,
        certificate,
    };
    let (lines, write) = connection.into_halves();
    let patience = shared.limits.client_timeout;
    let mut reader = Reader::new(lines, id, &mailbox, &outbox, &credit, &ledger, patience);
    let mut writer = Writer::new(write, id, &running, &outbox, &ledger, shared, caller);
    let mut end = tokio::select! {
        end = reader.run() => Some(end),
        end = writer.run() => Some(end).filter(|end| *end == End::Broken),
    };
    if end.is_none() {
        end = Some(reader.drain().await);
    }
    // Nothing unacknowledged in the kernel: what was written, the client's side has.
    let proof = match end {
        Some(End::Orderly) if writer.unsent() == Some(0) => ledger.everything(),
        _ => Proof::default(),
    };
    drop((counted, here));
    user.seen.note(crate::clock().time);
    info!(user = user.name, network = name, client, %peer, "detached");
    // A network that is gone needs no farewell.
    _ = mailbox.send(ToNetwork::Detach(id, proof)).await;
}

/// The queue of a client, counted among all.
fn outbox(shared: &Shared) -> Arc<Outbox> {
    let counters = Arc::clone(&shared.counters);
    Arc::new(Outbox::new(shared.limits.client_queue, counters))
}

/// A client of this name comes. Names for which there is no room any more are forgotten by all networks.
async fn come(user: &User, client: &str) -> Here {
    let (here, gone) = user.board.names().attach(client);
    for name in gone {
        for handle in user.networks.iter().chain([&user.lobby]) {
            if let Some(running) = handle.running() {
                // One that is not running tells of the name when it runs again.
                _ = running.mailbox.send(ToNetwork::Forget(name.clone())).await;
            }
        }
    }
    here
}

/// What the store knows that a client name may have missed.
struct Missed {
    targets: Vec<MissedTarget>,
    /// Up to which line it looked.
    through: EntryId,
    /// Why it could not.
    unread: String,
}

impl Missed {
    fn unread(why: &history::Error) -> Self {
        Self {
            targets: Vec::new(),
            through: EntryId::default(),
            unread: why.to_string(),
        }
    }
}

async fn missed(running: &Running, client: &str) -> Result<Missed, history::Error> {
    let (answer, answered) = oneshot::channel();
    let question = ToNetwork::Question(client.to_owned(), answer);
    let asked = running.mailbox.send(question).await;
    let ask = answered.await.ok().filter(|_| asked.is_ok());
    let mut ask = ask.ok_or(history::Error::Closed)?;
    // What is not stored yet, the network still knows by itself.
    ask.through = ask.through.min(*running.log.settled().borrow());
    Ok(Missed {
        through: ask.through,
        targets: running.log.missed(ask).await?,
        unread: String::new(),
    })
}
