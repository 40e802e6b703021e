//! Starts, supervises and stops everything else: the data folder and its lock, the store, listeners,
//! networks, the control socket, signals. Touches no message.

mod door;
mod listeners;
mod networks;
mod passwords;
mod reload;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info};

use crate::auth::Auth;
use crate::config::Config;
use crate::control::{self, Answer};
use crate::directory::Directory;
use crate::downstream::{self, Caller, Shared};
use crate::history::History;
use crate::net::open::{self, Options};
use crate::net::plan::Planned;
use crate::net::resolve::System;
use crate::net::systemd::Sockets;
use crate::net::{Access, Dialer, ListenError, Listener, SourceKey};

use door::Door;
use listeners::{Listeners, Welcome};
use networks::Networks;
use reload::Reload;

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
pub async fn run(config: Config) -> Result<(), Failure> {
    // Before anything of ours listens: a number that was passed must not be taken for one of ours.
    Sockets::of_process();
    let mut signals = Signals::new()?;
    let lock = lock_folder(&config.storage.folder)?;
    let resolver =
        Arc::new(System::new().map_err(|e| Failure::new(format!("starting threads: {e}")))?);
    let acceptor = reload::acceptor(&config).map_err(|error| Failure::new(error.to_string()))?;
    let opened = tokio::select! {
        opened = open_listeners(&config, &resolver) => opened,
        // An address may be waited for.
        () = signals.stop() => return Ok(()),
    };
    let (plan, sockets) = opened.map_err(|error| Failure::new(error.to_string()))?;
    let history = History::open(
        config.storage.database.as_deref(),
        config.storage.durability,
    )
    .map_err(|error| Failure::new(error.to_string()))?;
    let auth = Auth::start(&config.limits)
        .map_err(|error| Failure::new(format!("starting threads: {error}")))?;
    let hashes = passwords::of_users(&config, &history, &auth.hasher).await?;
    let dialer =
        Dialer::new(Arc::clone(&resolver) as _).with_key(source_key(&config.storage.folder)?);
    let networks = Networks::new(&config, history.clone(), dialer);
    let (publish, directory) = watch::channel(Arc::new(Directory::default()));
    let users = networks.users(&config, hashes);
    publish.send_replace(Arc::new(Directory::new(users)));
    let lobbies = networks.clone();
    let shared = Shared {
        server: config.server.name.clone(),
        admin_contact: config.server.admin_contact.clone(),
        directory: directory.clone(),
        auth,
        limits: config.limits.clone(),
        acceptor,
        lobbies: Arc::new(move |user| {
            let lobbies = lobbies.clone();
            Box::pin(async move { lobbies.lobby(&user).await })
        }),
        present: watch::Sender::new(0),
    };
    let mut present = shared.present.subscribe();
    let mut tasks = JoinSet::new();
    serve_control(&config, &Arc::new(shared.clone()), &mut tasks)?;
    let (door, current) = watch::channel(Arc::new(Door::new(Access::new(&config.server), shared)));
    let mut reload = Reload {
        listeners: Listeners::start(plan, sockets, welcome(current)),
        config,
        resolver,
        door,
    };
    let all = directory.borrow().clone();
    networks.start(&all).await;
    info!("ready");
    signals.wait(&mut reload).await;
    // In this order: nobody comes in any more, servers and clients are told, everything is stored.
    let Reload {
        config, listeners, ..
    } = reload;
    drop(listeners);
    tasks.abort_all();
    if let Some(socket) = &config.server.control {
        _ = std::fs::remove_file(socket);
    }
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
    drop(lock);
    info!("stopped");
    Ok(())
}

/// Makes the data folder when it is missing, and locks it: one daemon per folder.
fn lock_folder(folder: &Path) -> Result<File, Failure> {
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

async fn open_listeners(
    config: &Config,
    resolver: &System,
) -> Result<(Vec<Planned>, Vec<Listener>), ListenError> {
    let plan = open::plan_all(&config.server.listen, resolver).await?;
    let sockets = open::open(&plan, &[], Options::new(&config.dial)).await?;
    Ok((plan, sockets))
}

/// Each connection has a task of its own, so that a panic ends that one alone.
fn welcome(door: watch::Receiver<Arc<Door>>) -> Welcome {
    Arc::new(move |stream, peer, scheme| {
        let door = door.borrow().clone();
        tokio::spawn(door.welcome(stream, peer, scheme));
    })
}

fn serve_control(
    config: &Config,
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
) -> Result<(), Failure> {
    let Some(path) = &config.server.control else {
        return Ok(());
    };
    let listener = control::listen(path).map_err(|error| {
        Failure::new(format!(
            "control socket {}: {error}; set server.control to another path",
            path.display()
        ))
    })?;
    let shared = Arc::clone(shared);
    let handler: control::Handler = Arc::new(move |words| {
        let shared = Arc::clone(&shared);
        Box::pin(async move { say(&words, &shared) })
    });
    tasks.spawn(control::serve(listener, handler));
    Ok(())
}

/// Whoever reaches the control socket acts as an administrator.
fn say(words: &[String], shared: &Shared) -> Answer {
    let caller = Caller {
        admin: true,
        ..Caller::default()
    };
    downstream::run_command(words, &caller, shared)
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

    /// Returns when it is time to stop; a second word ends the process at once.
    async fn wait(mut self, reload: &mut Reload) {
        loop {
            let is_reload = tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hang_up.recv() => true,
                () = Listeners::zones_are_due(&reload.config.server.listen) => false,
            };
            let work = async {
                if is_reload {
                    reload.run().await;
                } else {
                    reload.follow_zones().await;
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
