//! The tasks of networks and lobbies: started, watched, started anew after a fault, stopped. What
//! a network does is `upstream`'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tracing::error;

use crate::config::{self, Config};
use crate::directory::{Board, Directory, User};
use crate::history::{Error, History};
use crate::mailbox::{MAILBOX, NetworkHandle, Running, ToNetwork};
use crate::net::Dialer;
use crate::state::{Network, Settings};
use crate::upstream::{self, Setup};

/// A network that fails so often is not started again.
const MAX_FAULTS: usize = 5;
/// In so long.
const FAULT_WINDOW: Duration = Duration::from_secs(600);
/// Before it is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts and stops networks. Clones are the same.
#[derive(Clone)]
pub(super) struct Networks {
    common: Arc<Common>,
}

struct Common {
    server: String,
    motd: Vec<String>,
    history: History,
    dialer: Dialer,
    /// Everything that was started, for the stop; and one lobby is started at a time.
    started: Mutex<Vec<NetworkHandle>>,
}

impl Networks {
    pub(super) fn new(config: &Config, history: History, dialer: Dialer) -> Self {
        let motd = config
            .server
            .motd
            .as_ref()
            .and_then(|path| std::fs::read(path).ok());
        let motd = motd
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default();
        let common = Common {
            server: config.server.name.clone(),
            motd: motd.lines().map(str::to_owned).collect(),
            history,
            dialer,
            started: Mutex::default(),
        };
        Self {
            common: Arc::new(common),
        }
    }

    /// The users of a configuration, their networks not running yet.
    pub(super) fn users(&self, config: &Config, mut hashes: BTreeMap<String, String>) -> Vec<User> {
        let user = |user: &config::User| User {
            name: user.name.clone(),
            admin: user.admin,
            hash: hashes.remove(&user.name).unwrap_or_default(),
            hash_line: user.password.as_ref().map(|_| user.password_line),
            networks: user
                .networks
                .iter()
                .map(|network| NetworkHandle::new(Arc::new(network.clone())))
                .collect(),
            lobby: NetworkHandle::new(Arc::new(lobby(user))),
            board: Board::default(),
            clients: Arc::default(),
        };
        config.users.iter().map(user).collect()
    }

    /// Starts all networks of all users.
    pub(super) async fn start(&self, directory: &Directory) {
        for user in directory.users() {
            for network in &user.networks {
                self.begin(user, network).await;
            }
        }
    }

    /// The lobby of a user, started when it is first needed.
    pub(super) async fn lobby(&self, user: &User) -> Option<Running> {
        if let Some(running) = user.lobby.running() {
            return Some(running);
        }
        self.begin(user, &user.lobby).await;
        user.lobby.running()
    }

    /// Starts a network and watches over it.
    async fn begin(&self, user: &User, network: &NetworkHandle) {
        let mut started = self.common.started.lock().await;
        if network.running().is_some() {
            return;
        }
        let supervised = Supervised {
            common: Arc::clone(&self.common),
            user: user.name.clone(),
            board: user.board.clone(),
            handle: network.clone(),
        };
        match supervised.open().await {
            Ok(setup) => {
                tokio::spawn(supervised.run(setup));
                started.push(network.clone());
            }
            Err(error) => {
                error!(user = user.name, network = network.config.name, %error, "its log cannot be opened");
            }
        }
    }

    /// Tells all networks to stop, and waits until their servers have been told.
    pub(super) async fn stop(&self, reason: &str) {
        let started = self.common.started.lock().await;
        let mut stopping = Vec::new();
        for running in started.iter().filter_map(NetworkHandle::running) {
            let (done, stopped) = oneshot::channel();
            let message = ToNetwork::Stop(reason.to_owned(), done);
            stopping.push(tokio::spawn(async move {
                if running.mailbox.send(message).await.is_ok() {
                    _ = stopped.await;
                }
            }));
        }
        for stopped in stopping {
            _ = stopped.await;
        }
    }
}

/// One network and what it takes to start it, again if need be.
struct Supervised {
    common: Arc<Common>,
    user: String,
    board: Board,
    handle: NetworkHandle,
}

impl Supervised {
    /// Opens the log and makes the network from what it remembers.
    async fn open(&self) -> Result<Setup, Error> {
        let config = Arc::clone(&self.handle.config);
        let (log, remembered) = self
            .common
            .history
            .open_log(&self.user, &config.name)
            .await?;
        let settings = Settings {
            network: (*config).clone(),
            server: self.common.server.clone(),
            motd: self.common.motd.clone(),
            id: number(&self.user, &config.name),
        };
        let (mailbox, inbox) = mpsc::channel(MAILBOX);
        self.handle.set(Some(Running {
            mailbox,
            log: log.clone(),
        }));
        let network = Network::new(settings, remembered, seed());
        Ok(Setup {
            network: Box::new(network),
            config,
            log,
            inbox,
            dialer: self.common.dialer.clone(),
            board: self.board.clone(),
            user: self.user.clone(),
        })
    }

    /// Runs the network; a fault of ours ends its clients and its link, and it starts again.
    async fn run(self, mut setup: Setup) {
        let mut faults: Vec<Instant> = Vec::new();
        let name = self.handle.config.name.clone();
        loop {
            let ended = tokio::spawn(upstream::run(setup)).await;
            self.handle.set(None);
            if ended.is_ok() {
                return;
            }
            let now = Instant::now();
            faults.retain(|at| now.duration_since(*at) < FAULT_WINDOW);
            faults.push(now);
            if faults.len() >= MAX_FAULTS {
                return error!(
                    user = self.user,
                    network = name,
                    "failed too often: it stays stopped"
                );
            }
            error!(
                user = self.user,
                network = name,
                "a fault in carom: the network is started again"
            );
            tokio::time::sleep(PAUSE).await;
            setup = match Box::pin(self.open()).await {
                Ok(setup) => setup,
                Err(error) => {
                    return error!(user = self.user, network = name, %error, "its log cannot be opened");
                }
            };
        }
    }
}

/// A network without servers, for connections that are bound to none.
fn lobby(user: &config::User) -> config::Network {
    config::Network {
        nick: user.nick.clone(),
        username: user.username.clone(),
        realname: user.realname.clone(),
        history: user.history.clone(),
        ..config::Network::default()
    }
}

/// Tells the message ids of one network from those of another. The same in every version of carom, as
/// ids that clients remember must not be given out again.
fn number(user: &str, network: &str) -> u64 {
    let digest = Sha256::digest(format!("{user}/{network}"));
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without random numbers waits are the same everywhere: a pity, not a fault.
    _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
