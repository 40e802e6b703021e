//! What the daemon runs by, and how it goes over to something else: new networks are started and running ones told
//! before the directory is published, what is gone is stopped after it. Who is not concerned never notices.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{error, warn};

use crate::auth::Hasher;
use crate::chatlog::ChatLogs;
use crate::config::made::Made;
use crate::config::{Config, LogLevel, User};
use crate::directory::{self, Directory};
use crate::history::History;
use crate::mailbox::NetworkHandle;
use crate::net::resolve::System;

use super::changes::Ready;
use super::control::Control;
use super::door::Door;
use super::listeners::Listeners;
use super::networks::Networks;
use super::users::Accounts;

/// Said to clients whose user was deleted or disabled.
const CLOSED: &str = "This account was closed";
/// Said to clients and servers of a network that is no more.
const REMOVED: &str = "This network was removed";

/// Sets how much the log tells.
pub type SetLevel = Box<dyn Fn(LogLevel) + Send>;

/// Everything that can be changed while carom runs.
pub(super) struct Bouncer {
    /// What the file says.
    pub(super) declared: Arc<Config>,
    /// What was made beside it.
    pub(super) made: Made,
    /// What holds.
    pub(super) config: Arc<Config>,
    pub(super) accounts: Accounts,
    pub(super) listeners: Listeners,
    pub(super) resolver: Arc<System>,
    pub(super) door: watch::Sender<Arc<Door>>,
    pub(super) networks: Networks,
    pub(super) publish: watch::Sender<Arc<Directory>>,
    pub(super) history: History,
    pub(super) hasher: Hasher,
    pub(super) control: Control,
    pub(super) chat_logs: ChatLogs,
    pub(super) set_level: SetLevel,
    /// Changes whose passwords are being looked at.
    pub(super) preparing: JoinSet<Ready>,
    /// What is made is not what is stored, as far as anybody knows.
    pub(super) unsure: bool,
    /// Deleted things being forgotten.
    pub(super) purging: Option<JoinHandle<()>>,
}

impl Bouncer {
    /// Goes over to another configuration of users and networks. `everybody`: networks are told although nothing of
    /// theirs changed.
    pub(super) async fn adopt(&mut self, config: Arc<Config>, everybody: bool) {
        let before = self.publish.borrow().clone();
        let deleted = self.deleted();
        let after = self.accounts.directory(&config, &before, deleted);
        for user in after.users() {
            let old = before.user(&user.name);
            self.begin(user, old.map(Arc::as_ref), everybody).await;
        }
        self.config = config;
        let after = Arc::new(after);
        self.publish.send_replace(Arc::clone(&after));
        for old in before.users() {
            self.end(old, after.user(&old.name).map(Arc::as_ref));
        }
    }

    /// The same where one user is all that changed.
    pub(super) async fn adopt_user(&mut self, name: &str, user: Option<User>) {
        let mut config = Config::clone(&self.config);
        match (config.users.iter_mut().find(|old| old.name == name), user) {
            (Some(old), Some(user)) => *old = user,
            (None, Some(user)) => config.users.push(user),
            (_, None) => config.users.retain(|old| old.name != name),
        }
        self.config = Arc::new(config);
        let user = self.config.users.iter().find(|user| user.name == name);
        let before = self.publish.borrow().clone();
        let old = before.user(name).cloned();
        let user = user.filter(|user| user.enabled);
        let user = user.map(|user| self.accounts.user(user, old.as_deref()));
        if let Some(user) = &user {
            self.begin(user, old.as_deref(), false).await;
        }
        let mut after = before.with(Arc::clone(&self.config), name, user);
        after.deleted = self.deleted();
        let after = Arc::new(after);
        self.publish.send_replace(Arc::clone(&after));
        if let Some(old) = old {
            self.end(&old, after.user(name).map(Arc::as_ref));
        }
    }

    fn deleted(&self) -> Vec<(String, crate::wire::Timestamp)> {
        let deleted = self.made.deleted();
        deleted.map(|(name, at)| (name.to_owned(), at)).collect()
    }

    /// Starts what is new of a user and tells the rest what changed.
    async fn begin(&self, user: &directory::User, old: Option<&directory::User>, everybody: bool) {
        self.networks.bar(&user.name, false);
        for handle in user.networks.iter().chain([&user.lobby]) {
            let known = old.and_then(|old| same(old, handle));
            let changed = known.is_none_or(|known| known.config != handle.config);
            match known {
                Some(_) if !changed && !everybody => {}
                Some(_) => self.networks.configure(user, handle).await,
                None if handle.id == 0 => {}
                None => self.networks.begin(user, handle).await,
            }
        }
    }

    /// Stops what is gone of a user.
    fn end(&self, old: &directory::User, new: Option<&directory::User>) {
        let Some(new) = new else {
            self.networks.bar(&old.name, true);
            for handle in old.networks.iter().chain([&old.lobby]) {
                self.networks.end(&old.name, handle, CLOSED);
            }
            return;
        };
        for handle in &old.networks {
            if same(new, handle).is_none() {
                self.networks.end(&old.name, handle, REMOVED);
            }
        }
    }

    /// Asks for the numbers of networks that have none yet.
    pub(super) async fn number(&mut self, config: &Config) -> Result<(), String> {
        let networks = self.accounts.unnumbered(config);
        if networks.is_empty() {
            return Ok(());
        }
        let numbers = self.history.numbers(networks.clone()).await;
        let numbers = numbers.map_err(|error| format!("the database: {error}"))?;
        self.accounts
            .numbers
            .extend(networks.into_iter().zip(numbers));
        Ok(())
    }

    /// Everything that was made, as it is stored now.
    pub(super) async fn read_made(&mut self) -> Result<(), String> {
        let stored = self.history.stored().await;
        let stored = stored.map_err(|error| format!("the database: {error}"))?;
        let (made, problems) = Made::read(&stored);
        problems.iter().for_each(|problem| warn!("{problem}"));
        self.made = made;
        self.accounts.hashes = stored.passwords;
        Ok(())
    }

    /// The file and what was made, as they hold together. One value when nothing was made.
    pub(super) fn merged(&self, declared: &Arc<Config>) -> (Arc<Config>, Vec<String>) {
        if self.made == Made::default() {
            return (Arc::clone(declared), Vec::new());
        }
        let (config, problems) = self.made.merge(declared);
        (Arc::new(config), problems)
    }

    /// After an answer of the store that leaves open what it holds: what it holds is what counts.
    pub(super) async fn make_sure(&mut self) -> Result<(), String> {
        self.unsure = true;
        self.read_made().await?;
        self.accounts.numbers.clear();
        let declared = Arc::clone(&self.declared);
        let (config, _) = self.merged(&declared);
        self.number(&config).await?;
        self.adopt(config, false).await;
        self.unsure = false;
        Ok(())
    }

    /// Notes in the store when users were last there.
    pub(super) async fn note_seen(&mut self) {
        let directory = self.publish.borrow().clone();
        let seen = directory.users().filter_map(|user| {
            let time = user.seen.get()?;
            let known = self.accounts.seen.get(&user.name);
            (known != Some(&time)).then(|| (user.name.clone(), time))
        });
        let seen: Vec<_> = seen.collect();
        if seen.is_empty() {
            return;
        }
        match self.history.note_seen(seen.clone()).await {
            Ok(()) => self.accounts.seen.extend(seen),
            Err(error) => error!(%error, "when users were last there is not stored"),
        }
    }
}

/// The handle of the same network.
fn same<'a>(user: &'a directory::User, handle: &NetworkHandle) -> Option<&'a NetworkHandle> {
    let mut handles = user.networks.iter().chain([&user.lobby]);
    handles.find(|known| known.id == handle.id)
}
