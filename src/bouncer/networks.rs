//! The tasks of networks and lobbies: started, watched, started anew after a fault, told of another configuration,
//! stopped. What a network does is `upstream`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::error;

use crate::chatlog::ChatLogs;
use crate::config::{self, Config};
use crate::directory::{Board, User};
use crate::history::{Error, History, Keep};
use crate::mailbox::{MAILBOX, NetworkHandle, Running, ToNetwork};
use crate::metrics::Counters;
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
    history: History,
    dialer: Dialer,
    chat_logs: ChatLogs,
    counters: Arc<Counters>,
    units: Mutex<Units>,
}

/// What clients are told of carom on every network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sign {
    server: String,
    motd: Vec<String>,
}

impl Sign {
    /// Reads the message of the day.
    pub(super) fn of(config: &Config) -> Self {
        let path = config.server.motd.as_ref();
        let text = path.and_then(|path| std::fs::read(path).ok());
        let text = text.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        Self {
            server: config.server.name.clone(),
            motd: text.lines().map(str::to_owned).collect(),
        }
    }
}

/// Everything that runs or was told to stop.
#[derive(Default)]
struct Units {
    sign: Arc<Sign>,
    running: BTreeMap<Key, Unit>,
    /// Told to stop, and not known to have. Who starts one anew waits for it.
    ending: BTreeMap<Key, JoinHandle<()>>,
    /// Users whose lobbies are not started any more.
    barred: BTreeSet<String>,
}

/// Which network it is: its number, or whose lobby.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Network(u64),
    Lobby(String),
}

impl Key {
    fn of(user: &str, handle: &NetworkHandle) -> Self {
        match handle.id {
            0 => Self::Lobby(user.to_owned()),
            id => Self::Network(id),
        }
    }
}

/// A network that runs, and how it is told what.
struct Unit {
    word: watch::Sender<Word>,
    opened: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

/// What a unit is to do.
#[derive(Clone)]
struct Word {
    config: Arc<config::Network>,
    sign: Arc<Sign>,
    stop: Option<Arc<str>>,
}

impl Networks {
    pub(super) fn new(
        sign: Sign,
        history: History,
        dialer: Dialer,
        chat_logs: ChatLogs,
        counters: Arc<Counters>,
    ) -> Self {
        let units = Units {
            sign: Arc::new(sign),
            ..Units::default()
        };
        let units = Mutex::new(units);
        Self {
            common: Arc::new(Common {
                history,
                dialer,
                chat_logs,
                counters,
                units,
            }),
        }
    }

    fn units(&self) -> MutexGuard<'_, Units> {
        let units = self.common.units.lock();
        units.unwrap_or_else(PoisonError::into_inner)
    }

    /// Networks are told another name or message of the day when they are configured next. Whether it is another.
    pub(super) fn set_sign(&self, sign: Sign) -> bool {
        let mut units = self.units();
        let differs = *units.sign != sign;
        units.sign = Arc::new(sign);
        differs
    }

    /// The lobby of a user, started when it is first needed.
    pub(super) async fn lobby(&self, user: &User) -> Option<Running> {
        if let Some(running) = user.lobby.running() {
            return Some(running);
        }
        self.begin(user, &user.lobby).await;
        user.lobby.running()
    }

    /// The lobbies of a user may be started, or not any more.
    pub(super) fn bar(&self, user: &str, barred: bool) {
        let mut units = self.units();
        if barred {
            units.barred.insert(user.to_owned());
        } else {
            units.barred.remove(user);
        }
    }

    /// Starts a network, if it does not run, and watches over it. Returns when its log is open.
    pub(super) async fn begin(&self, user: &User, handle: &NetworkHandle) {
        let Some(mut opened) = self.spawn(user, handle) else {
            return;
        };
        // It ends when the log cannot be opened, which has been told.
        _ = opened.wait_for(|opened| *opened).await;
    }

    fn spawn(&self, user: &User, handle: &NetworkHandle) -> Option<watch::Receiver<bool>> {
        let key = Key::of(&user.name, handle);
        let mut units = self.units();
        if let Some(unit) = units.running.get(&key)
            && !unit.task.is_finished()
        {
            return Some(unit.opened.clone());
        }
        if handle.id == 0 && units.barred.contains(&user.name) {
            return None;
        }
        let (word, words) = watch::channel(Word {
            config: Arc::clone(&handle.config),
            sign: Arc::clone(&units.sign),
            stop: None,
        });
        let (tell, opened) = watch::channel(false);
        let supervised = Supervised {
            common: Arc::clone(&self.common),
            user: user.name.clone(),
            board: user.board.clone(),
            handle: handle.clone(),
            words,
        };
        let before = units.ending.remove(&key);
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                _ = before.await;
            }
            supervised.run(tell).await;
        });
        let unit = Unit {
            word,
            opened: opened.clone(),
            task,
        };
        units.running.insert(key, unit);
        Some(opened)
    }

    /// Has a network run by the configuration of this handle. One that does not run is started.
    pub(super) async fn configure(&self, user: &User, handle: &NetworkHandle) {
        let key = Key::of(&user.name, handle);
        let settings = {
            let units = self.units();
            match units.running.get(&key).filter(|u| !u.task.is_finished()) {
                Some(unit) => {
                    let word = Word {
                        config: Arc::clone(&handle.config),
                        sign: Arc::clone(&units.sign),
                        stop: None,
                    };
                    let settings = settings(&user.name, handle.id, &word);
                    // Whoever starts it anew from here on reads this; who runs already gets it as a message.
                    unit.word.send_replace(word);
                    Some(settings)
                }
                None => None,
            }
        };
        match (settings, handle.running()) {
            (Some(settings), Some(running)) => {
                let message = ToNetwork::Configure(Box::new(settings));
                // A network that is gone is started again by what was said above.
                _ = running.mailbox.send(message).await;
            }
            (Some(_), None) => {}
            (None, _) if handle.id == 0 => {}
            (None, _) => self.begin(user, handle).await,
        }
    }

    /// Has a network stop: its clients are closed, its server is told. Does not wait for it.
    pub(super) fn end(&self, user: &str, handle: &NetworkHandle, reason: &str) {
        let key = Key::of(user, handle);
        let mut units = self.units();
        units.ending.retain(|_, task| !task.is_finished());
        if let Some(unit) = units.running.remove(&key) {
            unit.stop(reason);
            units.ending.insert(key, unit.task);
        }
    }

    /// Tells all networks to stop, and waits until their servers have been told.
    pub(super) async fn stop(&self, reason: &str) {
        let (running, ending) = {
            let mut units = self.units();
            let running = std::mem::take(&mut units.running);
            (running, std::mem::take(&mut units.ending))
        };
        running.values().for_each(|unit| unit.stop(reason));
        let running = running.into_values().map(|unit| unit.task);
        for task in running.chain(ending.into_values()) {
            // A fault of the supervision has been told.
            _ = task.await;
        }
    }
}

impl Unit {
    fn stop(&self, reason: &str) {
        self.word
            .send_modify(|word| word.stop = Some(Arc::from(reason)));
    }
}

fn settings(user: &str, id: u64, word: &Word) -> Settings {
    Settings {
        network: (*word.config).clone(),
        server: word.sign.server.clone(),
        motd: word.sign.motd.clone(),
        id: number(user, id),
        netid: id,
    }
}

/// One network and what it takes to start it, again if need be.
struct Supervised {
    common: Arc<Common>,
    user: String,
    board: Board,
    handle: NetworkHandle,
    words: watch::Receiver<Word>,
}

impl Supervised {
    /// Opens the log and makes the network from what it remembers.
    async fn open(&self) -> Result<Setup, Error> {
        let name = self.words.borrow().config.name.clone();
        let history = &self.common.history;
        history.begin_log(&self.user, &name).await?;
        let (log, remembered) = history.open_log(&self.user, &name).await?;
        log.keep(Keep::from(&*self.words.borrow().config));
        let (mailbox, inbox) = mpsc::channel(MAILBOX);
        self.handle.set(Some(Running {
            mailbox,
            log: log.clone(),
        }));
        // Not before: what is said after this reaches the inbox.
        let word = self.words.borrow().clone();
        let settings = settings(&self.user, self.handle.id, &word);
        for row in remembered
            .positions
            .iter()
            .filter(|row| row.target.is_none())
        {
            self.board.names().note(&row.client, row.time);
        }
        let network = Network::new(settings, remembered, seed());
        Ok(Setup {
            network: Box::new(network),
            config: word.config,
            log,
            inbox,
            dialer: self.common.dialer.clone(),
            chat_logs: self.common.chat_logs.clone(),
            board: self.board.clone(),
            counters: Arc::clone(&self.common.counters),
            user: self.user.clone(),
        })
    }

    /// Runs the network until it is told to stop, and takes it off the board.
    async fn run(mut self, opened: watch::Sender<bool>) {
        self.keep_running(opened).await;
        self.handle.set(None);
        let name = self.words.borrow().config.name.clone();
        if self.words.borrow().stop.is_some() {
            self.board.remove(&name);
        }
    }

    /// A fault of ours ends the network's clients and its link, and it starts again.
    async fn keep_running(&mut self, opened: watch::Sender<bool>) {
        let mut faults: Vec<Instant> = Vec::new();
        loop {
            if self.words.borrow().stop.is_some() {
                return;
            }
            let setup = match Box::pin(self.open()).await {
                Ok(setup) => setup,
                Err(error) => return self.complain(&format!("its log cannot be opened: {error}")),
            };
            opened.send_replace(true);
            if self.run_once(setup).await {
                return;
            }
            self.handle.set(None);
            let now = Instant::now();
            faults.retain(|at| now.duration_since(*at) < FAULT_WINDOW);
            faults.push(now);
            if faults.len() >= MAX_FAULTS {
                return self.complain("failed too often: it stays stopped");
            }
            self.complain("a fault in carom: the network is started again");
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = self.words.wait_for(|word| word.stop.is_some()) => return,
            }
        }
    }

    /// True: it has ended because it was told to.
    async fn run_once(&mut self, setup: Setup) -> bool {
        let mut task = tokio::spawn(upstream::run(setup));
        let stop = async {
            let word = self.words.wait_for(|word| word.stop.is_some()).await;
            word.ok().and_then(|word| word.stop.clone())
        };
        let reason = tokio::select! {
            ended = &mut task => return ended.is_ok(),
            reason = stop => reason.unwrap_or_else(|| Arc::from("Shutting down")),
        };
        if let Some(running) = self.handle.running() {
            // Nobody new finds it.
            self.handle.set(None);
            let (done, _) = oneshot::channel();
            _ = running
                .mailbox
                .send(ToNetwork::Stop(reason.as_ref().to_owned(), done))
                .await;
        }
        _ = task.await;
        true
    }

    fn complain(&self, what: &str) {
        let network = &self.words.borrow().config.name;
        error!(user = self.user, network, "{what}");
    }
}

/// A network without servers, for connections that are bound to none.
pub(super) fn lobby(user: &config::User) -> config::Network {
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
fn number(user: &str, network: u64) -> u64 {
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
