//! The listeners that run, each with its accepting task, and how they become others: what stays is left alone, the new
//! is opened before the old is closed, and what cannot stand side by side is swapped. Connections live on in any case.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

use crate::config::{Listen, Manner};
use crate::net::open::{self, Options};
use crate::net::plan::{Place, Planned};
use crate::net::{ListenError, Listener, Peer, Stream};

/// How often interfaces are looked for that came back under another number.
const ZONES: Duration = Duration::from_secs(5);

/// What becomes of a connection.
pub(super) type Welcome = Arc<dyn Fn(Stream, Peer, Manner) + Send + Sync>;

/// All listeners of the daemon.
pub(super) struct Listeners {
    /// What was asked for. Where a host has no IPv6, an entry may have no listener.
    plan: Vec<Planned>,
    running: Vec<Running>,
    welcome: Welcome,
    /// Listeners whose interface is not there now, as written.
    missing: BTreeSet<String>,
}

/// A listener in its task, which gives it back when it is told to stop.
struct Running {
    planned: Planned,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Listener>,
}

impl Running {
    fn start(listener: Listener, welcome: &Welcome) -> Self {
        let (stop, stopped) = oneshot::channel();
        let planned = listener.planned().clone();
        let task = tokio::spawn(accept(listener, stopped, Arc::clone(welcome)));
        Self {
            planned,
            stop,
            task,
        }
    }

    async fn stop(self) -> Option<Listener> {
        // A task that is gone has no listener to give back.
        _ = self.stop.send(());
        self.task.await.ok()
    }

    /// Closes the socket. Whoever waited to be accepted is let in before.
    async fn close(self, welcome: &Welcome) {
        let Some(listener) = self.stop().await else {
            return;
        };
        for (stream, peer) in listener.waiting() {
            welcome(stream, peer, listener.manner());
        }
        info!("no longer listening on {listener}");
    }
}

/// Takes connections until it is told to stop.
async fn accept(
    listener: Listener,
    mut stopped: oneshot::Receiver<()>,
    welcome: Welcome,
) -> Listener {
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => return listener,
            (stream, peer) = listener.accept() => welcome(stream, peer, listener.manner()),
        }
    }
}

/// What is in `all` and not in `others`; of what is there twice, one is left when the other has it once.
fn without(all: &[Planned], others: &[Planned]) -> Vec<Planned> {
    let mut others = others.to_vec();
    let is_new = |one: &&Planned| match others.iter().position(|other| other == *one) {
        Some(at) => {
            others.swap_remove(at);
            false
        }
        None => true,
    };
    all.iter().filter(is_new).cloned().collect()
}

/// What has to be done to get from one plan to another.
#[derive(Debug, Default, PartialEq, Eq)]
struct Steps {
    /// Opened beside everything that is open.
    opened: Vec<Planned>,
    /// Closed at the end.
    closed: Vec<Planned>,
    /// Closed before `swapped_in` can be opened.
    swapped_out: Vec<Planned>,
    /// Opened in their place.
    swapped_in: Vec<Planned>,
    /// The same socket, spoken on otherwise: before and after.
    changed: Vec<(Planned, Planned)>,
}

impl Steps {
    fn between(old: &[Planned], new: &[Planned]) -> Self {
        let mut going = without(old, new);
        let mut changed = Vec::new();
        let mut coming = without(new, old);
        coming.retain(|new| {
            let Some(at) = going.iter().position(|old| old.place == new.place) else {
                return true;
            };
            changed.push((going.swap_remove(at), new.clone()));
            false
        });
        let collide = |a: &Planned, b: &Planned| a.place.collides(&b.place);
        let (swapped_in, opened) = coming
            .into_iter()
            .partition(|new| going.iter().any(|old| collide(old, new)));
        let swapped_in: Vec<Planned> = swapped_in;
        let (swapped_out, closed) = going
            .into_iter()
            .partition(|old| swapped_in.iter().any(|new| collide(old, new)));
        Self {
            opened,
            closed,
            swapped_out,
            swapped_in,
            changed,
        }
    }
}

impl Listeners {
    /// None yet.
    pub(super) fn closed(welcome: Welcome) -> Self {
        Self {
            plan: Vec::new(),
            running: Vec::new(),
            welcome,
            missing: BTreeSet::new(),
        }
    }

    /// Begins to accept on open sockets.
    pub(super) fn accept_on(&mut self, plan: Vec<Planned>, listeners: Vec<Listener>) {
        let running = listeners
            .into_iter()
            .map(|listener| Running::start(listener, &self.welcome));
        self.running = running.collect();
        self.plan = plan;
    }

    /// Goes over to another plan, or leaves everything as it is. `before_accepting` runs when nothing can fail any more.
    pub(super) async fn change(
        &mut self,
        plan: Vec<Planned>,
        options: Options,
        before_accepting: impl FnOnce(),
    ) -> Result<(), ListenError> {
        let steps = Steps::between(&self.plan, &plan);
        // What may take long, or fail without harm, comes first.
        let mut opened = open::open(&steps.opened, &plan, options).await?;
        open::probe(&steps.swapped_in, options).await?;
        let at_once = options.at_once();
        if !steps.swapped_in.is_empty() {
            self.close(&steps.swapped_out).await;
            match open::open(&steps.swapped_in, &plan, at_once).await {
                Ok(swapped) => opened.extend(swapped),
                Err(error) => {
                    self.go_back(&steps.swapped_out, at_once).await;
                    return Err(error);
                }
            }
        }
        before_accepting();
        self.close(&steps.closed).await;
        for (old, new) in &steps.changed {
            self.speak(old, new.manner).await;
        }
        let started = opened
            .into_iter()
            .map(|listener| Running::start(listener, &self.welcome));
        self.running.extend(started);
        self.plan = plan;
        self.missing.clear();
        Ok(())
    }

    /// Opens again what was closed in vain.
    async fn go_back(&mut self, places: &[Planned], options: Options) {
        for planned in places {
            let list = std::slice::from_ref(planned);
            match open::open(list, &self.plan, options).await {
                Ok(again) => {
                    let again = again.into_iter();
                    let started = again.map(|listener| Running::start(listener, &self.welcome));
                    self.running.extend(started);
                }
                Err(error) => {
                    error!("a listener is lost: {error}");
                    self.plan = without(&self.plan, list);
                }
            }
        }
    }

    /// Stops and closes the listeners of these entries. The plan still has them.
    async fn close(&mut self, places: &[Planned]) {
        let mut places = places.to_vec();
        for running in self.take(&mut places) {
            running.close(&self.welcome).await;
        }
    }

    /// The running listeners of these entries. A pair for one entry is taken as one; entries that are equal are taken
    /// one by one.
    fn take(&mut self, places: &mut Vec<Planned>) -> Vec<Running> {
        let mut taken: Vec<Running> = Vec::new();
        let mut kept = Vec::new();
        for running in std::mem::take(&mut self.running) {
            let wanted = places.iter().position(|one| *one == running.planned);
            let has_port =
                |planned: &Planned| planned.place.addr().is_none_or(|addr| addr.port() != 0);
            match wanted {
                Some(at) => {
                    if !has_port(&places[at]) {
                        places.swap_remove(at);
                    }
                    taken.push(running);
                }
                None => kept.push(running),
            }
        }
        self.running = kept;
        taken
    }

    /// Goes on with the same socket, on which something else is spoken.
    async fn speak(&mut self, old: &Planned, manner: Manner) {
        for running in self.take(&mut vec![old.clone()]) {
            if let Some(listener) = running.stop().await {
                let listener = listener.with_manner(manner);
                info!("listening on {listener}");
                self.running.push(Running::start(listener, &self.welcome));
            }
        }
    }

    /// Returns when it is time to look at the interfaces of `listens` again; never, when none is given by name.
    pub(super) async fn zones_are_due(listens: &[Listen]) {
        if open::plan_zoned(listens).is_empty() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(ZONES).await;
    }

    /// An interface that went away and came back has another number: its listeners are bound again.
    pub(super) async fn follow_zones(&mut self, listens: &[Listen], options: Options) {
        for (listen, planned) in open::plan_zoned(listens) {
            let Some(planned) = planned else {
                if self.missing.insert(listen.written.clone()) {
                    warn!("{}: its interface is gone, waiting for it", listen.written);
                }
                continue;
            };
            if self.plan.contains(&planned) {
                self.missing.remove(&listen.written);
                continue;
            }
            let Some(at) = self
                .plan
                .iter()
                .position(|old| only_zone_differs(old, &planned))
            else {
                continue;
            };
            let list = std::slice::from_ref(&planned);
            match open::open(list, &self.plan, options.at_once()).await {
                Ok(listeners) => {
                    let old = std::mem::replace(&mut self.plan[at], planned);
                    self.close(&[old]).await;
                    let started = listeners
                        .into_iter()
                        .map(|listener| Running::start(listener, &self.welcome));
                    self.running.extend(started);
                    self.missing.remove(&listen.written);
                }
                // The interface has no such address yet.
                Err(error) => debug!("{error}"),
            }
        }
    }
}

fn only_zone_differs(old: &Planned, new: &Planned) -> bool {
    let (Place::Ip(a), Place::Ip(b)) = (&old.place, &new.place) else {
        return false;
    };
    old.manner == new.manner && (a.ip(), a.port()) == (b.ip(), b.port())
}

#[cfg(test)]
#[path = "listeners_tests.rs"]
mod tests;
