//! Starts, supervises and stops everything else: the data folder and its lock, the store, listeners,
//! networks, the control socket, signals. Touches no message.

mod apply;
mod changes;
mod control;
mod door;
mod listeners;
mod networks;
mod passwords;
mod reload;
mod scrape;
mod side;
mod users;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, timeout};
use tracing::{error, info, warn};

use crate::auth::Auth;
pub use passwords::made as first_password;

use crate::chatlog::ChatLogs;
use crate::config::dump::{Secrets, dump};
use crate::config::made::Made;
use crate::config::{Config, LogLevel};
use crate::directory::Directory;
use crate::downstream::Shared;
use crate::history::History;
use crate::mailbox::{BouncerHandle, ToBouncer};
use crate::metrics::Counters;
use crate::net::open::{self, Options};
use crate::net::plan::Planned;
use crate::net::resolve::System;
use crate::net::systemd::Sockets;
use crate::net::{Acceptor, Access, Dialer, Idents, ListenError, Listener, SourceKey};

pub use apply::SetLevel;

use apply::Bouncer;
use changes::Ready;
use control::Control;
use door::Door;
use listeners::{Listeners, Welcome};
use networks::{Networks, Sign};
use scrape::Scrape;
use side::Doors;
use users::Accounts;

/// How often it is stored when users were last there.
const NOTE_SEEN: Duration = Duration::from_secs(60);
/// How often what was deleted is looked at.
const EXPIRE: Duration = Duration::from_secs(3600);
/// So long may the stop take.
const STOP: Duration = Duration::from_secs(5);
/// What remains of it for the last commit.
const LAST_COMMIT: Duration = Duration::from_secs(1);

/// Why the daemon does not run.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What was wrong, where, and what to do.
    pub message: String,
}

impl Failure {
    /// Something outside failed.
    const RUN_TIME: u8 = 1;
    /// Another instance has the data folder (EX_TEMPFAIL).
    const OCCUPIED: u8 = 75;

    fn new(message: impl Into<String>) -> Self {
        Self {
            code: Self::RUN_TIME,
            message: message.into(),
        }
    }
}

/// Runs the daemon until it is told to stop.
pub async fn run(config: Config, set_level: SetLevel) -> Result<(), Failure> {
    // Before anything of ours listens: a number that was passed must not be taken for one of ours.
    Sockets::of_process();
    let mut signals = Signals::new()?;
    let lock = lock_folder(&config.storage.folder)?;
    let failed = |error: String| Failure::new(error);
    let resolver = Arc::new(System::new().map_err(|e| failed(format!("starting threads: {e}")))?);
    let acceptor = reload::acceptor(&config).map_err(|error| failed(error.to_string()))?;
    let opened = tokio::select! {
        opened = open_listeners(&config, &resolver) => opened,
        // An address may be waited for.
        () = signals.stop() => return Ok(()),
    };
    let opened = opened.map_err(|error| failed(error.to_string()))?;
    let database = config.storage.database.as_deref();
    let history = History::open(database, config.storage.durability)
        .map_err(|error| failed(error.to_string()))?;
    let auth = Auth::start(&config.limits).map_err(|e| failed(format!("starting threads: {e}")))?;
    let (dialer, idents) = dialer(&config, &resolver, !opened.ident.is_empty()).await?;
    let chat_logs =
        ChatLogs::start(&config.log.chat).map_err(|e| failed(format!("starting threads: {e}")))?;
    let counters = Arc::<Counters>::default();
    let networks = Networks::new(
        Sign::of(&config),
        history.clone(),
        dialer,
        chat_logs.clone(),
        Arc::clone(&counters),
    );
    let (handle, requests) = BouncerHandle::new();
    let publish = watch::Sender::new(Arc::new(Directory::default()));
    let scrape = Scrape {
        directory: publish.subscribe(),
        history: history.clone(),
        chat_logs: chat_logs.clone(),
        counters: Arc::clone(&counters),
        started: crate::clock().time,
    };
    let shared = shared(
        &config, &publish, auth, acceptor, &networks, handle, counters,
    );
    let mut present = shared.present.subscribe();
    let hasher = shared.auth.hasher.clone();
    let access = Access::new(&config.server);
    let door = watch::Sender::new(Arc::new(Door::new(access, shared)));
    let declared = Arc::new(config);
    let mut bouncer = Bouncer {
        config: Arc::clone(&declared),
        declared,
        made: Made::default(),
        accounts: Accounts::default(),
        listeners: Listeners::closed(welcome(door.subscribe())),
        resolver,
        door,
        networks,
        publish,
        history,
        hasher,
        control: Control::default(),
        chat_logs: chat_logs.clone(),
        set_level,
        preparing: JoinSet::new(),
        unsure: false,
        purging: None,
    };
    let mut doors = Doors::default();
    // Before a server is dialled.
    doors.identify(opened.ident, idents);
    bouncer.begin_work(opened.plan, opened.sockets).await?;
    scrape.serve_on(opened.metrics, &mut doors);
    info!("ready");
    signals.serve(&mut bouncer, requests).await;
    bouncer.stop(&mut present).await;
    chat_logs.end();
    drop(lock);
    info!("stopped");
    Ok(())
}

/// What clients' tasks need.
fn shared(
    config: &Config,
    publish: &watch::Sender<Arc<Directory>>,
    auth: Auth,
    acceptor: Option<Acceptor>,
    networks: &Networks,
    bouncer: BouncerHandle,
    counters: Arc<Counters>,
) -> Shared {
    let lobbies = networks.clone();
    Shared {
        server: config.server.name.clone(),
        admin_contact: config.server.admin_contact.clone(),
        directory: publish.subscribe(),
        auth,
        limits: config.limits.clone(),
        acceptor,
        origins: config.server.websocket_origins.clone(),
        complaints: Arc::default(),
        lobbies: Arc::new(move |user| {
            let lobbies = lobbies.clone();
            Box::pin(async move { lobbies.lobby(&user).await })
        }),
        bouncer,
        present: watch::Sender::new(0),
        counters,
    }
}

impl Bouncer {
    /// Everything that was there before: users, networks, sockets.
    async fn begin_work(
        &mut self,
        plan: Vec<Planned>,
        sockets: Vec<Listener>,
    ) -> Result<(), Failure> {
        self.read_made().await.map_err(Failure::new)?;
        let declared = Arc::clone(&self.declared);
        let (config, problems) = self.merged(&declared);
        problems.iter().for_each(|problem| warn!("{problem}"));
        let hashes = &mut self.accounts.hashes;
        passwords::make_missing(&config, &self.history, &self.hasher, hashes).await?;
        self.number(&config).await.map_err(Failure::new)?;
        let control = Control::prepare(&self.control, &config).map_err(Failure::new)?;
        self.adopt(Arc::clone(&config), false).await;
        // Not before everybody is known who may come in.
        self.control.take(control, &config, self.door.subscribe());
        self.listeners.accept_on(plan, sockets);
        Ok(())
    }

    /// In this order: nobody comes in any more, servers and clients are told, everything is stored.
    async fn stop(mut self, present: &mut watch::Receiver<usize>) {
        self.preparing.abort_all();
        if let Some(purging) = self.purging.take() {
            purging.abort();
        }
        self.note_seen().await;
        let Self {
            listeners,
            mut control,
            networks,
            history,
            ..
        } = self;
        drop(listeners);
        control.close();
        let stopped = timeout(STOP - LAST_COMMIT, async {
            networks.stop("Shutting down").await;
            _ = present.wait_for(|present| *present == 0).await;
        });
        if stopped.await.is_err() {
            error!("some networks or clients did not go in time");
        }
        if timeout(LAST_COMMIT, history.close()).await.is_err() {
            error!("the store did not take its last lines in time");
        }
    }

    /// Does what somebody asks for.
    async fn serve(&mut self, request: ToBouncer) {
        // Whoever asked and is gone needs no answer.
        match request {
            ToBouncer::Change { by, change, reply } => self.asked(by, change, reply).await,
            ToBouncer::Reload { dry, reply } => _ = reply.send(self.reload(dry).await),
            ToBouncer::Dump { secrets, reply } => {
                let secrets = if secrets {
                    Secrets::Told
                } else {
                    Secrets::Hidden
                };
                _ = reply.send(dump(&self.config, &self.accounts.hashes, secrets));
            }
            ToBouncer::Debug(everything) => {
                let level = if everything {
                    LogLevel::Debug
                } else {
                    self.config.log.level
                };
                (self.set_level)(level);
            }
        }
    }
}

/// Makes the data folder when it is missing, and locks it: one daemon per folder.
pub fn lock_folder(folder: &Path) -> Result<File, Failure> {
    let at = |error: io::Error| Failure::new(format!("data folder {}: {error}", folder.display()));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(at)?;
    let path = folder.join("carom.lock");
    let mut options = OpenOptions::new();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(at)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| Failure {
        code: Failure::OCCUPIED,
        message: format!(
            "another carom runs on the data folder {}: stop it, or set storage.path to another folder",
            folder.display()
        ),
    })?;
    Ok(file)
}

/// The secret behind the addresses of users out of a prefix. A damaged one is not replaced: all would have new addresses.
fn source_key(folder: &Path) -> Result<SourceKey, Failure> {
    SourceKey::open(folder).map_err(|error| {
        let path = folder.join("source.key");
        let remedy = "restore it, or remove it so that users get new source addresses";
        Failure::new(format!("{}: {error}; {remedy}", path.display()))
    })
}

/// What networks dial with, and whom it tells whose their connections are.
async fn dialer(
    config: &Config,
    resolver: &Arc<System>,
    is_asked: bool,
) -> Result<(Dialer, Idents), Failure> {
    let files = &config.server.oidentd;
    let idents = Idents::new(files.clone());
    // What was written by the last run holds no more.
    idents.write_files().await;
    let resolver = Arc::clone(resolver);
    let dialer = Dialer::new(resolver as _).with_key(source_key(&config.storage.folder)?);
    if is_asked || !files.is_empty() {
        return Ok((dialer.with_idents(idents.clone()), idents));
    }
    Ok((dialer, idents))
}

/// All sockets that listen.
struct Opened {
    plan: Vec<Planned>,
    sockets: Vec<Listener>,
    metrics: Vec<Listener>,
    ident: Vec<Listener>,
}

async fn open_listeners(config: &Config, resolver: &System) -> Result<Opened, ListenError> {
    let plan = open::plan_all(&config.server.listen, resolver).await?;
    let sockets = open::open(&plan, &[], Options::new(&config.dial)).await?;
    let mut whole = plan.clone();
    let server = &config.server;
    let metrics = side::open(config, &server.metrics, resolver, &mut whole).await?;
    let ident = side::open(config, &server.ident, resolver, &mut whole).await?;
    for passed in open::untaken(&whole) {
        warn!(
            "systemd passed a socket named \"{0}\" that nothing accepts on: add \"systemd:{0}\" to server.listen",
            passed.name
        );
    }
    Ok(Opened {
        plan,
        sockets,
        metrics,
        ident,
    })
}

/// Each connection has a task of its own, so that a panic ends that one alone.
fn welcome(door: watch::Receiver<Arc<Door>>) -> Welcome {
    Arc::new(move |stream, peer, manner| {
        let door = door.borrow().clone();
        tokio::spawn(door.welcome(stream, peer, manner));
    })
}

/// What the daemon is told from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|e| Failure::new(format!("listening for signals: {e}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Returns when it is time to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Serves until it is time to stop; a second word ends the process at once.
    async fn serve(mut self, bouncer: &mut Bouncer, mut requests: mpsc::Receiver<ToBouncer>) {
        let mut minutes = interval(NOTE_SEEN);
        let mut hours = interval(EXPIRE);
        loop {
            let task = tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hang_up.recv() => Task::Reload,
                Some(request) = requests.recv() => Task::Serve(request),
                Some(Ok(ready)) = bouncer.preparing.join_next() => Task::Work(Box::new(ready)),
                _ = minutes.tick() => Task::NoteSeen,
                _ = hours.tick() => Task::Expire,
                () = Listeners::zones_are_due(&bouncer.config.server.listen) => Task::Zones,
            };
            let work = async {
                match task {
                    // Told in the log.
                    Task::Reload => drop(bouncer.reload(false).await),
                    Task::Serve(request) => bouncer.serve(request).await,
                    Task::Work(ready) => bouncer.work(*ready).await,
                    Task::NoteSeen => bouncer.note_seen().await,
                    Task::Expire => bouncer.expire().await,
                    Task::Zones => bouncer.follow_zones().await,
                }
            };
            // It may wait for an address, and the stop must not.
            tokio::select! {
                () = work => {}
                () = self.stop() => break,
            }
        }
        info!("stopping");
        tokio::spawn(async move {
            self.stop().await;
            std::process::exit(i32::from(Failure::RUN_TIME));
        });
    }
}

/// What the bouncer does next.
enum Task {
    Reload,
    Serve(ToBouncer),
    Work(Box<Ready>),
    NoteSeen,
    Expire,
    Zones,
}

/// Ticks in so long, and not at once.
fn interval(span: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + span, span);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
