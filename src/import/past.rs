//! The logs of another bouncer become history: read file by file, put below what carom has stored itself. What is there
//! already is left alone, so that it can be done again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use crate::config::Config;
use crate::history::{self, Past};

use super::layout::{self, Place};
use super::lines::{Form, Said, Talk};
use super::{Error, Logs, soju};
use crate::config::parts::{network_name, user_name};

/// A line of a log is read up to this length; nobody can have said more.
const LONGEST: u64 = 64 * 1024;

/// How far the import is, and in the end what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Carried {
    /// Bytes read, and of how many.
    pub read: (u64, u64),
    /// Lines that are in the history now and were not before.
    pub added: u64,
    /// Lines that were there already.
    pub known: u64,
    /// Lines from after carom began to store by itself: it has its own.
    pub later: u64,
    /// Lines that are no lines of a talk.
    pub skipped: u64,
    /// Talks of users or networks that the configuration does not have, with the number of their files.
    pub strangers: BTreeMap<String, u64>,
}

/// Why history could not be brought in.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] Error),
    /// The database cannot be written.
    #[error(transparent)]
    Store(#[from] history::Error),
}

/// Brings the lines of these logs into the database of a configuration. `progress` is told now and then.
pub fn carry(
    logs: &[Logs],
    config: &Config,
    database: &Path,
    progress: &mut dyn FnMut(&Carried),
) -> Result<Carried, Failure> {
    let mut carrying = Carrying {
        config,
        past: Past::open(database)?,
        zone: TimeZone::system(),
        carried: Carried::default(),
        progress,
    };
    let talks: Vec<(&Logs, Vec<(Place, PathBuf)>)> =
        logs.iter().map(|logs| (logs, talks_of(logs))).collect();
    let files = talks.iter().flat_map(|(_, files)| files);
    carrying.carried.read.1 = files.map(|(_, path)| size(path)).sum();
    for (logs, files) in talks {
        match logs {
            Logs::Text { form, .. } => carrying.text(*form, &files)?,
            Logs::Soju(path) => carrying.soju(path)?,
        }
    }
    let Carrying { past, carried, .. } = carrying;
    past.close()?;
    Ok(carried)
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |m| m.len())
}

/// The files of text logs, in the order of talks and days.
fn talks_of(logs: &Logs) -> Vec<(Place, PathBuf)> {
    let Logs::Text {
        root,
        format,
        user,
        network,
        ..
    } = logs
    else {
        return Vec::new();
    };
    let mut files = layout::files(root, format);
    for (place, _) in &mut files {
        place.user = place.user.take().or_else(|| user.clone());
        place.network = place.network.take().or_else(|| network.clone());
    }
    files
}

struct Carrying<'a> {
    config: &'a Config,
    past: Past,
    zone: TimeZone,
    carried: Carried,
    progress: &'a mut dyn FnMut(&Carried),
}

impl Carrying<'_> {
    /// Our nick on a network of the configuration; `None`: there is no such network.
    fn nick(&mut self, user: &str, network: &str) -> Option<String> {
        let found = self.config.users.iter().find(|u| u.name == user);
        let found = found.and_then(|u| u.networks.iter().find(|n| n.name == network));
        if found.is_none() {
            *self
                .carried
                .strangers
                .entry(format!("{user}/{network}"))
                .or_default() += 1;
        }
        found.map(|network| network.nick.clone())
    }

    fn text(&mut self, form: Form, files: &[(Place, PathBuf)]) -> Result<(), Failure> {
        let zone = self.zone.clone();
        let mut talk = None;
        for (place, path) in files {
            let (Some(user), Some(network), Some(target)) =
                (&place.user, &place.network, &place.target)
            else {
                continue;
            };
            // ZNC's own window.
            if form == Form::Znc && target == "status" {
                continue;
            }
            let (user, network) = (user_name(user), network_name(network));
            let Some(me) = self.nick(&user, &network) else {
                self.carried.read.0 += size(path);
                continue;
            };
            let this = (user, network, target.clone());
            if talk.as_ref() != Some(&this) {
                self.past.talk(&this.0, &this.1, target.as_bytes())?;
                talk = Some(this);
            }
            let talk = Talk {
                target: target.as_bytes(),
                me: me.as_bytes(),
                day: place.day,
                zone: &zone,
            };
            self.file(&talk, form, path)?;
        }
        Ok(())
    }

    fn file(&mut self, talk: &Talk<'_>, form: Form, path: &Path) -> Result<(), Failure> {
        let unreadable = |source| Error::Unreadable {
            path: path.to_owned(),
            source,
        };
        let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let taken = std::io::Read::take(&mut reader, LONGEST)
                .read_until(b'\n', &mut line)
                .map_err(unreadable)?;
            if taken == 0 {
                return Ok(());
            }
            self.carried.read.0 += taken as u64;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            match talk.read(form, &line) {
                Some(said) => self.add(&said, None)?,
                None => self.carried.skipped += 1,
            }
        }
    }

    fn soju(&mut self, path: &Path) -> Result<(), Failure> {
        let mut source = soju::Messages::open(path)?;
        self.carried.read.1 += source.count()?;
        for talk in source.talks()? {
            if self.nick(&talk.user, &talk.network).is_none() {
                continue;
            }
            self.past
                .talk(&talk.user, &talk.network, talk.target.as_bytes())?;
            let mut failed = Ok(());
            source.each(talk.id, &mut |said, msgid| {
                self.carried.read.0 += 1;
                failed = match said {
                    Some(said) => self.add(&said, msgid.as_deref()),
                    None => {
                        self.carried.skipped += 1;
                        Ok(())
                    }
                };
                failed.is_ok()
            })?;
            failed?;
        }
        Ok(())
    }

    fn add(&mut self, said: &Said, msgid: Option<&[u8]>) -> Result<(), Failure> {
        let counter = match self.past.add(said.time, said.kind, msgid, &said.line)? {
            history::Added::New => &mut self.carried.added,
            history::Added::Known => &mut self.carried.known,
            history::Added::Later => &mut self.carried.later,
        };
        *counter += 1;
        if (self.carried.added + self.carried.known + self.carried.later).is_multiple_of(2_000) {
            (self.progress)(&self.carried);
        }
        Ok(())
    }
}
