//! Reading the configuration again: all of it is judged first, and where anything is wrong everything stays as it was.
//! Then it is applied as a whole, but for what a running daemon cannot go over to, which is told.

use std::path::Path;
use std::sync::Arc;

use tracing::{error, info, warn};

use crate::config::diff::Diff;
use crate::config::{self, Config, Findings, Purpose, Scheme};
use crate::downstream::Shared;
use crate::mailbox::Reloaded;
use crate::net::open::{self, Options};
use crate::net::plan::Planned;
use crate::net::{Acceptor, Access, TlsError};

use super::apply::Bouncer;
use super::networks::Sign;
use super::passwords;

/// The certificate, when a listener needs one.
pub(super) fn acceptor(config: &Config) -> Result<Option<Acceptor>, TlsError> {
    let mut listens = config.server.listen.iter();
    if !listens.any(|listen| listen.manner.scheme == Scheme::Tls) {
        return Ok(None);
    }
    Acceptor::open(&config.tls, &config.server.name).map(Some)
}

/// A file that was read and holds, with what was made at run time.
struct Coming {
    declared: Arc<Config>,
    config: Arc<Config>,
    diff: Diff,
    warnings: Findings,
}

impl Bouncer {
    /// Reads the configuration again and applies it, or says everything that is wrong. `dry`: says what would happen.
    pub(super) async fn reload(&mut self, dry: bool) -> Result<Reloaded, Vec<String>> {
        let done = self.try_reload(dry).await;
        match &done {
            Err(errors) => {
                errors.iter().for_each(|error| error!("{error}"));
                error!("the configuration is not applied: nothing was changed");
            }
            Ok(_) if dry => {}
            Ok(reloaded) => {
                for finding in &reloaded.warnings {
                    warn!("{}", finding.without_level());
                }
                reloaded.changes.iter().for_each(|line| info!("{line}"));
                if reloaded.restart.is_empty() {
                    info!("the configuration was read again and applied");
                } else {
                    let waiting = reloaded.restart.join(", ");
                    warn!(
                        "the configuration was read again; restart to apply what changed in {waiting}"
                    );
                }
            }
        }
        done
    }

    async fn try_reload(&mut self, dry: bool) -> Result<Reloaded, Vec<String>> {
        if self.unsure {
            self.make_sure().await.map_err(|error| vec![error])?;
        }
        let coming = self.read_again()?;
        let told = Reloaded {
            changes: coming.diff.lines(),
            reconnects: coming.diff.reconnects(),
            restart: coming.diff.at_start(),
            warnings: coming.warnings.iter().cloned().collect(),
        };
        if !dry {
            self.go_over_to(coming).await.map_err(|error| vec![error])?;
        }
        Ok(told)
    }

    fn read_again(&self) -> Result<Coming, Vec<String>> {
        let (mut declared, warnings) = match config::load(&self.declared.path, Purpose::Run) {
            Ok(loaded) => loaded,
            Err(findings) => {
                let errors = findings.iter().map(config::Finding::without_level);
                return Err(errors.collect());
            }
        };
        // What waits for a restart is told, and what depends on it is as it was.
        let storage = std::mem::replace(&mut declared.storage, self.declared.storage.clone());
        let folder = &declared.storage.folder;
        if declared.tls.made {
            declared.tls.certificate = folder.join("certificate.pem");
            declared.tls.key = folder.join("key.pem");
        }
        let control = declared.server.control.as_deref();
        if storage.folder != *folder && control.and_then(Path::parent) == Some(&storage.folder) {
            declared.server.control = self.declared.server.control.clone();
        }
        let declared = Arc::new(declared);
        let (config, problems) = self.merged(&declared);
        problems.iter().for_each(|problem| warn!("{problem}"));
        let shown = Config {
            storage,
            ..Config::clone(&config)
        };
        Ok(Coming {
            diff: Diff::between(&self.config, &shown),
            declared,
            config,
            warnings,
        })
    }

    /// What can fail comes first, and leaves everything as it was.
    async fn go_over_to(&mut self, coming: Coming) -> Result<(), String> {
        let Coming {
            declared, config, ..
        } = coming;
        self.number(&config).await?;
        let hashes = &mut self.accounts.hashes;
        passwords::make_missing(&config, &self.history, &self.hasher, hashes)
            .await
            .map_err(|failure| failure.message)?;
        let plan = open::plan_all(&config.server.listen, self.resolver.as_ref());
        let plan = plan.await.map_err(|error| error.to_string())?;
        self.open_door(&config, plan).await?;
        let sign = Sign::of(&config);
        let everybody = self.networks.set_sign(sign);
        if config.log.level != self.config.log.level {
            (self.set_level)(config.log.level);
        }
        if config.log.chat != self.config.log.chat {
            self.chat_logs.configure(&config.log.chat);
        }
        self.declared = declared;
        self.adopt(config, everybody).await;
        Ok(())
    }

    /// Listeners, certificate, limits, the control socket: all of them or none.
    async fn open_door(&mut self, new: &Config, plan: Vec<Planned>) -> Result<(), String> {
        let acceptor =
            acceptor(new).map_err(|error| format!("the certificate stays as it was: {error}"))?;
        let certificate = acceptor.as_ref().map(Acceptor::fingerprint);
        let control = self.control.prepare(new)?;
        let door = self.door.borrow().clone();
        let next = door.replaced(
            Access::new(&new.server),
            Shared {
                server: new.server.name.clone(),
                admin_contact: new.server.admin_contact.clone(),
                limits: new.limits.clone(),
                acceptor,
                origins: new.server.websocket_origins.clone(),
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
        self.control.take(control, new, self.door.subscribe());
        match certificate {
            Some(fingerprint) => info!("certificate read again: {fingerprint}"),
            None => info!("no listener needs a certificate"),
        }
        Ok(())
    }

    /// Looks whether interfaces came back.
    pub(super) async fn follow_zones(&mut self) {
        let options = Options::new(&self.config.dial);
        let listens = &self.config.server.listen;
        self.listeners.follow_zones(listens, options).await;
    }
}
