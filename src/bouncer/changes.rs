//! Changes that users ask for, one at a time: judged, stored, applied, answered, in this order. Killed before it is
//! stored a change has not happened; after it, it comes back whole. Passwords are hashed beside, so that nobody waits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tracing::{error, info};

use crate::clock;
use crate::config::change::{Present, Step};
use crate::config::made::Edit;
use crate::config::overlay::{Authority, Change, Outcome, Refusal};
use crate::config::{Config, Network, Secret};
use crate::history::{self, History};
use crate::mailbox::ToNetwork;
use crate::net::certfp;
use crate::wire::Timestamp;

use super::apply::Bouncer;
use super::passwords;

/// What was deleted can be restored for so long.
const RESTORABLE: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest password.
const LONGEST: usize = 512;

/// Where the answer to a change goes.
pub(super) type Reply = oneshot::Sender<Result<Outcome, Refusal>>;

/// A change whose password has been looked at.
pub(super) struct Ready {
    by: Authority,
    change: Change,
    /// Of the password it gives, or why there is none.
    hash: Result<Option<String>, Refusal>,
    /// A password that was made for it.
    made: Option<Secret>,
    reply: Reply,
}

impl Bouncer {
    /// Takes a request to change something.
    pub(super) async fn asked(&mut self, by: Authority, change: Change, reply: Reply) {
        let needs_hash = matches!(
            change,
            Change::CreateUser { .. } | Change::SetPassword { .. }
        );
        if !needs_hash {
            let hash = Ok(None);
            let made = None;
            let ready = Ready {
                by,
                change,
                hash,
                made,
                reply,
            };
            return self.work(ready).await;
        }
        // What cannot be is refused before anything is looked at: not everybody may try passwords.
        if let Err(refusal) = self.after(&by, &change, Some(String::new())) {
            // Whoever asked and is gone needs no answer.
            _ = reply.send(Err(refusal));
            return;
        }
        let directory = self.publish.borrow().clone();
        let present = directory.user(change.user()).map(|user| user.hash.clone());
        let hasher = self.hasher.clone();
        self.preparing.spawn(async move {
            let made = match change.password() {
                Some(_) => None,
                None => passwords::made().map(Secret::new),
            };
            let old = match &change {
                Change::SetPassword { old, .. } => old.clone(),
                _ => None,
            };
            let new = change.password().or(made.as_ref());
            let hash = hash(&hasher, old.as_ref(), present.as_deref(), new).await;
            let hash = hash.map(Some);
            Ready {
                by,
                change,
                hash,
                made,
                reply,
            }
        });
    }

    /// Makes a change that has all it needs.
    pub(super) async fn work(&mut self, ready: Ready) {
        let Ready {
            by,
            change,
            hash,
            made,
            reply,
        } = ready;
        let done = match hash {
            Ok(hash) => self.change(&by, &change, hash).await,
            Err(refusal) => Err(refusal),
        };
        let by = by.user.as_deref().unwrap_or("the control socket");
        let (what, user) = (change.name(), change.user());
        match &done {
            Ok(_) => info!(by, user, "{what}: done"),
            Err(refusal) => info!(by, user, "{what}: {refusal}"),
        }
        let done = done.map(|outcome| Outcome {
            password: made,
            ..outcome
        });
        // Whoever asked and is gone needs no answer.
        _ = reply.send(done);
    }

    fn after(
        &self,
        by: &Authority,
        change: &Change,
        hash: Option<String>,
    ) -> Result<Step, Refusal> {
        let present = Present {
            declared: &self.declared,
            effective: &self.config,
            now: clock().time,
        };
        self.made.after(&present, by, change, hash)
    }

    async fn change(
        &mut self,
        by: &Authority,
        change: &Change,
        hash: Option<String>,
    ) -> Result<Outcome, Refusal> {
        if self.unsure {
            self.make_sure().await.map_err(Refusal::Store)?;
        }
        let step = self.after(by, change, hash)?;
        let mut problems = Vec::new();
        let user = step.made.user(&self.declared, &step.user, &mut problems);
        let networks = user.iter().flat_map(|user| &user.networks);
        let networks = networks.map(|network| (step.user.clone(), network.name.clone()));
        let networks: Vec<(String, String)> = networks.collect();
        let stored = self
            .history
            .edit(step.edits.clone(), networks.clone())
            .await;
        let numbers = match stored {
            Ok(numbers) => numbers,
            Err(error) => {
                if let Err(error) = self.make_sure().await {
                    error!("what is stored is not known: {error}");
                }
                return Err(Refusal::Store(error.to_string()));
            }
        };
        let before = self.network(&step).cloned();
        let accounts = &mut self.accounts;
        accounts.numbers.retain(|(user, _), _| *user != step.user);
        accounts.numbers.extend(networks.into_iter().zip(numbers));
        for edit in &step.edits {
            match edit {
                Edit::Password { user, hash } => {
                    accounts.hashes.insert(user.clone(), hash.clone());
                }
                Edit::PurgeUser { name } => {
                    accounts.hashes.remove(name);
                    accounts.seen.remove(name);
                }
                _ => {}
            }
        }
        let (name, leave) = (step.user.clone(), step.leave.clone());
        self.made = step.made.clone();
        self.adopt_user(&name, user).await;
        if let Some(channel) = leave {
            self.leave(&step, channel).await;
        }
        if matches!(change, Change::DeleteUser { purge: true, .. }) {
            self.purge();
        }
        Ok(self.outcome(&step, before.as_ref()))
    }

    /// The network that a step is about, as it is now.
    fn network(&self, step: &Step) -> Option<&Network> {
        let mut users = self.config.users.iter();
        let user = users.find(|user| user.name == step.user)?;
        let name = step.network.as_ref()?;
        user.networks.iter().find(|network| network.name == *name)
    }

    fn outcome(&self, step: &Step, before: Option<&Network>) -> Outcome {
        let key = step.network.clone().map(|name| (step.user.clone(), name));
        let after = self.network(step);
        let reconnects = match (before, after) {
            (Some(before), Some(after)) => {
                before.enabled && after.enabled && !after.reached_as(before)
            }
            _ => false,
        };
        Outcome {
            network: key.and_then(|key| self.accounts.numbers.get(&key).copied()),
            password: None,
            reconnects,
            warnings: step.warnings.iter().cloned().collect(),
        }
    }

    async fn leave(&self, step: &Step, channel: String) {
        let directory = self.publish.borrow().clone();
        let user = directory.user(&step.user);
        let network = step.network.as_deref().unwrap_or_default();
        let handle = user.and_then(|user| user.network(network));
        if let Some(running) = handle.and_then(crate::mailbox::NetworkHandle::running) {
            // A network that is gone is on no channel.
            _ = running.mailbox.send(ToNetwork::Leave(channel)).await;
        }
    }

    /// Forgets what was deleted more than seven days ago, beside everything else.
    pub(super) async fn expire(&mut self) {
        let before = before_that(clock().time, RESTORABLE);
        let mut made = self.made.clone();
        let gone = made.forget_deleted(before);
        if !gone.is_empty() {
            let edits = gone
                .iter()
                .map(|name| Edit::PurgeUser { name: name.clone() });
            if let Err(error) = self.history.edit(edits.collect(), Vec::new()).await {
                error!(%error, "deleted users are not forgotten yet");
                self.unsure = true;
                return;
            }
            for name in &gone {
                info!(user = name, "deleted 7 days ago: forgotten");
                self.accounts.hashes.remove(name);
                self.accounts.seen.remove(name);
            }
            self.made = made;
            let config: Arc<Config> = Arc::clone(&self.config);
            self.adopt(config, false).await;
        }
        self.purge();
    }

    /// Removes the certificates and the logs of what is forgotten, a little at a time.
    fn purge(&mut self) {
        if self
            .purging
            .as_ref()
            .is_some_and(|task| !task.is_finished())
        {
            return;
        }
        let history = self.history.clone();
        let before = before_that(clock().time, RESTORABLE);
        let folder = certfp::folder(&self.config.storage.folder);
        self.purging = Some(tokio::spawn(async move {
            if let Err(error) = forget(&history, before, folder).await {
                error!(%error, "deleted networks are not forgotten yet");
            }
        }));
    }
}

/// Forgets the networks that were deleted before a moment. Files go first: as long as the store knows of the network, they
/// are found again.
async fn forget(
    history: &History,
    before: Timestamp,
    folder: PathBuf,
) -> Result<(), history::Error> {
    while let Some(network) = history.retired(before).await? {
        let folder = folder.clone();
        let removed = spawn_blocking(move || certfp::remove(&folder, network)).await;
        if let Ok(Err(error)) = removed {
            error!(%error, network, "the certificate of a deleted network stays");
        }
        while history.purge_some(network).await? {}
    }
    Ok(())
}

fn before_that(now: Timestamp, span: Duration) -> Timestamp {
    let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.millis().saturating_sub(millis))
}

async fn hash(
    hasher: &crate::auth::Hasher,
    old: Option<&Secret>,
    present: Option<&str>,
    new: Option<&Secret>,
) -> Result<String, Refusal> {
    let new = new.ok_or(Refusal::BadPassword)?.reveal();
    if new.is_empty() || new.len() > LONGEST {
        return Err(Refusal::BadPassword);
    }
    if let Some(old) = old
        && !hasher.verify(old.reveal().as_bytes(), present).await
    {
        return Err(Refusal::WrongPassword);
    }
    let hash = hasher.hash(new.as_bytes()).await;
    hash.ok_or_else(|| Refusal::Store("the password could not be hashed".to_owned()))
}
