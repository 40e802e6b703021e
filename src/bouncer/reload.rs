//! Reading the configuration again: all of it is judged first, and where anything is wrong everything stays as it was.
//! Listeners, lists of addresses, limits and the certificate are applied at once; the rest is told to need a restart.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::{self, Config, Purpose, Scheme, User};
use crate::downstream::Shared;
use crate::net::open::{self, Options};
use crate::net::resolve::System;
use crate::net::{Acceptor, Access, TlsError};

use super::door::Door;
use super::listeners::Listeners;

/// Everything that a reload may change.
pub(super) struct Reload {
    /// What the daemon runs by: parts that need a restart are as they were at the start.
    pub(super) config: Config,
    pub(super) listeners: Listeners,
    pub(super) resolver: Arc<System>,
    pub(super) door: watch::Sender<Arc<Door>>,
}

/// The certificate, when a listener needs one.
pub(super) fn acceptor(config: &Config) -> Result<Option<Acceptor>, TlsError> {
    let mut listens = config.server.listen.iter();
    if !listens.any(|listen| listen.scheme == Scheme::Tls) {
        return Ok(None);
    }
    Acceptor::open(&config.tls, &config.server.name).map(Some)
}

impl Reload {
    /// Reads the configuration again and applies it, or says everything that is wrong.
    pub(super) async fn run(&mut self) {
        let (new, warnings) = match config::load(&self.config.path, Purpose::Run) {
            Ok(loaded) => loaded,
            Err(findings) => {
                for finding in findings.iter() {
                    error!("{}", finding.without_level());
                }
                return error!("the configuration is not applied: nothing was changed");
            }
        };
        for finding in warnings.iter() {
            warn!("{}", finding.without_level());
        }
        match self.apply(&new).await {
            Ok(()) => self.remember(new),
            Err(error) => {
                error!("{error}");
                error!("the configuration is not applied: nothing was changed");
            }
        }
    }

    async fn apply(&mut self, new: &Config) -> Result<(), String> {
        let listens = &new.server.listen;
        let plan = open::plan_all(listens, self.resolver.as_ref());
        let plan = plan.await.map_err(|error| error.to_string())?;
        let acceptor =
            acceptor(new).map_err(|error| format!("the certificate stays as it was: {error}"))?;
        let certificate = acceptor.as_ref().map(Acceptor::fingerprint);
        let door = self.door.borrow().clone();
        let next = door.replaced(
            Access::new(&new.server),
            Shared {
                limits: new.limits.clone(),
                acceptor,
                ..door.shared().clone()
            },
        );
        let publish = || {
            next.shared().auth.gate.set_limits(&new.limits);
            self.door.send_replace(Arc::new(next));
        };
        let changed = self
            .listeners
            .change(plan, Options::new(&new.dial), publish);
        changed.await.map_err(|error| error.to_string())?;
        match certificate {
            Some(fingerprint) => info!("certificate read again: {fingerprint}"),
            None => info!("no listener needs a certificate"),
        }
        Ok(())
    }

    /// Takes over what was applied, and tells what was not.
    fn remember(&mut self, new: Config) {
        let waiting = needs_restart(&self.config, &new);
        self.config.server.listen = new.server.listen;
        self.config.server.allow = new.server.allow;
        self.config.server.deny = new.server.deny;
        self.config.server.proxies = new.server.proxies;
        self.config.tls = new.tls;
        self.config.limits = new.limits;
        self.config.dial.freebind = new.dial.freebind;
        self.config.dial.ipv6_mss = new.dial.ipv6_mss;
        if waiting.is_empty() {
            info!("the configuration was read again and applied");
        } else {
            let waiting = waiting.join(", ");
            warn!("the configuration was read again; restart to apply what changed in {waiting}");
        }
    }

    /// Looks whether interfaces came back.
    pub(super) async fn follow_zones(&mut self) {
        let options = Options::new(&self.config.dial);
        let listens = &self.config.server.listen;
        self.listeners.follow_zones(listens, options).await;
    }
}

/// The parts of the configuration that differ and are not applied to a running daemon.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (before, after) = (&old.server, &new.server);
    let differences = [
        ("server.name", before.name != after.name),
        ("server.motd", before.motd != after.motd),
        ("server.control", before.control != after.control),
        (
            "server.admin_contact",
            before.admin_contact != after.admin_contact,
        ),
        ("storage", old.storage != new.storage),
        ("history", old.history != new.history),
        ("log", old.log != new.log),
        ("dial", old.dial != new.dial),
        ("user", users(old) != users(new)),
    ];
    let differing = differences.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(name, _)| name).collect()
}

/// The users, wherever in the file they stand.
fn users(config: &Config) -> Vec<User> {
    let moved = |user: &User| User {
        password_line: 0,
        ..user.clone()
    };
    config.users.iter().map(moved).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_named() {
        let old = Config::default();
        assert!(needs_restart(&old, &old).is_empty());
        let mut new = old.clone();
        new.server.allow.add("all").unwrap();
        new.limits.per_address = 1;
        assert!(needs_restart(&old, &new).is_empty());
        let (mut above, mut below) = (old.clone(), old.clone());
        for (config, password_line) in [(&mut above, 3), (&mut below, 30)] {
            config.users.push(User {
                password_line,
                ..User::default()
            });
        }
        assert!(needs_restart(&above, &below).is_empty());
        new.server.name = "other.test".into();
        new.dial.silence *= 2;
        new.users.push(User::default());
        assert_eq!(needs_restart(&old, &new), ["server.name", "dial", "user"]);
    }
}
