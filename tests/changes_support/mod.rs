//! An administrator at the control socket, files with mistakes, and a model of users and networks.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use carom::config::{self, Level, Purpose};
use carom::control::{self, Answer};

use super::support::{Daemon, in_time};

/// Whoever may reach the control socket.
pub struct Administrator(PathBuf);

impl Administrator {
    pub fn of(daemon: &Daemon) -> Self {
        Self(daemon.path("control.sock"))
    }

    pub fn at(socket: PathBuf) -> Self {
        Self(socket)
    }

    pub async fn try_says(&self, words: &[&str]) -> std::io::Result<Answer> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        in_time(
            &format!("the answer to {words:?}"),
            control::say(&self.0, &words),
        )
        .await
    }

    pub async fn says(&self, words: &[&str]) -> Answer {
        self.try_says(words).await.unwrap()
    }

    /// Says what is to be done.
    pub async fn does(&self, words: &[&str]) -> Answer {
        let told = self.says(words).await;
        assert_eq!(told.code, 0, "{words:?}: {told:?}");
        told
    }

    /// Everything the daemon runs by.
    pub async fn dump(&self) -> String {
        self.does(&["server", "dump"]).await.lines.join("\n")
    }

    /// Says words, and returns after so many microseconds whatever became of them.
    pub async fn begin(&self, words: &[String], micros: u64) {
        let (socket, words) = (self.0.clone(), words.to_vec());
        let saying = tokio::spawn(async move { control::say(&socket, &words).await });
        let until = Instant::now() + Duration::from_micros(micros);
        while Instant::now() < until && !saying.is_finished() {
            tokio::task::yield_now().await;
        }
        saying.abort();
    }
}

/// Numbers that need to be even, not secret (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// Files that are refused, each with some of the errors that must be told.
pub fn invalid_mutants(base: &str, count: usize) -> Vec<(String, Vec<String>)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("carom.toml");
    let mut random = Random(3);
    let mut mutants = Vec::new();
    let mut seen = BTreeSet::new();
    while mutants.len() < count {
        let text = mutant(base, &mut random);
        if !seen.insert(text.clone()) {
            continue;
        }
        std::fs::write(&path, &text).unwrap();
        let Err(findings) = config::load(&path, Purpose::Run) else {
            continue;
        };
        let errors = findings
            .iter()
            .filter(|finding| finding.level == Level::Error);
        let errors = errors.map(|finding| finding.message.clone()).collect();
        mutants.push((text, errors));
    }
    mutants
}

fn mutant(base: &str, random: &mut Random) -> String {
    let mut lines: Vec<String> = base.lines().map(str::to_owned).collect();
    for _ in 0..=random.below(2) {
        let at = usize::try_from(random.below(lines.len() as u64)).unwrap();
        let length = lines[at].chars().count() as u64;
        match random.below(6) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 if length > 0 => {
                let gone = usize::try_from(random.below(length)).unwrap();
                lines[at] = lines[at]
                    .chars()
                    .enumerate()
                    .filter(|(n, _)| *n != gone)
                    .map(|(_, c)| c)
                    .collect();
            }
            3 => {
                let extra = random.one_of(&[
                    "nope = 1",
                    "name = 5",
                    "servers = []",
                    "[[",
                    "enabled = \"yes\"",
                    "= 3",
                    "nick = \"1\"",
                ]);
                lines.insert(at, extra.to_owned());
            }
            4 => {
                let from =
                    random.one_of(&["irc://", "\"", "[[user", "name", "=", "::1", "argon2id"]);
                lines[at] =
                    lines[at].replace(from, random.one_of(&["", "ftp://", "x", "[", "\u{7}"]));
            }
            _ => {
                let cut = usize::try_from(random.below(length + 1)).unwrap();
                lines[at] = lines[at].chars().take(cut).collect();
            }
        }
        if lines.is_empty() {
            lines.push("nothing".to_owned());
        }
    }
    lines.join("\n") + "\n"
}

/// Users and their networks as they should be.
pub struct World {
    url: String,
    users: BTreeMap<String, Model>,
    nicks: u64,
}

#[derive(Default)]
struct Model {
    deleted: bool,
    networks: BTreeMap<String, Net>,
}

#[derive(Clone)]
struct Net {
    nick: String,
    enabled: bool,
}

/// What a dump tells of what the model knows.
pub fn told(dump: &str) -> Vec<String> {
    let (mut user, mut network, mut all) = (String::new(), None::<String>, Vec::new());
    let (mut in_user, mut in_network) = (false, false);
    for line in dump.lines() {
        let value = |key: &str| {
            let rest = line.strip_prefix(key)?.strip_prefix(" = ")?;
            Some(rest.trim_matches('"').to_owned())
        };
        match line {
            "[[user]]" => (in_user, in_network) = (true, false),
            "[[user.network]]" => in_network = true,
            line if line.starts_with('[') => (in_user, in_network) = (false, false),
            _ => {}
        }
        if let Some(name) = value("name") {
            if in_network {
                network = Some(name);
            } else if in_user {
                user = name;
                all.push(user.clone());
            }
        }
        if let (true, Some(name), Some(nick)) = (in_network, &network, value("nick")) {
            all.push(format!("{user}/{name}: {nick}"));
        }
    }
    all.sort();
    all
}

impl World {
    pub fn new(url: &str) -> Self {
        let users = BTreeMap::from([("apw".to_owned(), Model::default())]);
        Self {
            url: url.to_owned(),
            users,
            nicks: 0,
        }
    }

    /// The words of a change, and whether it can be made. What can be, is.
    pub fn change(&mut self, random: &mut Random) -> (Vec<String>, bool) {
        let name = random.one_of(&["apw", "bob", "eve"]).to_owned();
        let network = random.one_of(&["one", "two", "three"]).to_owned();
        let exists = self.users.get(&name).is_some_and(|user| !user.deleted);
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        match random.below(13) {
            0 | 1 => {
                let works = !self.users.contains_key(&name);
                if works {
                    self.users.insert(name.clone(), Model::default());
                }
                (
                    words(&["user", "create", "-username", &name, "-password", "secret"]),
                    works,
                )
            }
            2 => {
                let purge = random.below(2) == 0;
                let known = self.users.get(&name);
                let works = name != "apw" && known.is_some_and(|user| purge || !user.deleted);
                if works && purge {
                    self.users.remove(&name);
                } else if let (true, Some(user)) = (works, self.users.get_mut(&name)) {
                    user.deleted = true;
                }
                let mut all = words(&["user", "delete", &name]);
                all.extend(purge.then(|| "-purge".to_owned()));
                (all, works)
            }
            3 => {
                let known = self.users.get_mut(&name).filter(|user| user.deleted);
                let works = known.map(|user| user.deleted = false).is_some();
                (words(&["user", "restore", &name]), works)
            }
            10 => {
                let detached = (random.below(2) == 0).to_string();
                let networks = self.users.get(&name).map(|user| &user.networks);
                let works = exists && networks.is_some_and(|all| all.contains_key(&network));
                let all = [
                    "user",
                    "run",
                    &name,
                    "channel",
                    "update",
                    "#x",
                    "-network",
                    &network,
                    "-detached",
                    &detached,
                ];
                (words(&all), works)
            }
            kind => self.change_network(kind, &name, &network, exists, random),
        }
    }

    fn change_network(
        &mut self,
        kind: u64,
        name: &str,
        network: &str,
        exists: bool,
        random: &mut Random,
    ) -> (Vec<String>, bool) {
        self.nicks += 1;
        let nick = format!("nick{}", self.nicks);
        let url = self.url.clone();
        let none = &mut Model::default();
        let networks = &mut self
            .users
            .get_mut(name)
            .filter(|_| exists)
            .unwrap_or(none)
            .networks;
        let known = networks.get(network).cloned();
        let words = |words: &[&str]| {
            let all = ["user", "run", name]
                .into_iter()
                .chain(words.iter().copied());
            all.map(str::to_owned).collect::<Vec<_>>()
        };
        let works = exists && known.is_some();
        match kind {
            4..7 => {
                let works = exists && known.is_none();
                if works {
                    let enabled = true;
                    networks.insert(
                        network.to_owned(),
                        Net {
                            nick: nick.clone(),
                            enabled,
                        },
                    );
                }
                let all = [
                    "network", "create", "-name", network, "-addr", &url, "-nick", &nick,
                ];
                (words(&all), works)
            }
            7 => {
                networks.remove(network);
                (words(&["network", "delete", network]), works)
            }
            8 => {
                let new = random.one_of(&["one", "two", "three"]);
                let works = works && (new == network || !networks.contains_key(new));
                if let (true, Some(net)) = (works, networks.remove(network).filter(|_| works)) {
                    networks.insert(new.to_owned(), net);
                } else if let Some(net) = known {
                    networks.insert(network.to_owned(), net);
                }
                (words(&["network", "update", network, "-name", new]), works)
            }
            9 => {
                let enabled = random.below(2) == 0;
                if let Some(net) = networks.get_mut(network) {
                    net.enabled = enabled;
                }
                (
                    words(&[
                        "network",
                        "update",
                        network,
                        "-enabled",
                        &enabled.to_string(),
                    ]),
                    works,
                )
            }
            _ => {
                if let Some(net) = networks.get_mut(network) {
                    net.nick.clone_from(&nick);
                }
                (
                    words(&["network", "update", network, "-nick", &nick]),
                    works,
                )
            }
        }
    }

    /// Somebody who may attach, or may have been able to.
    pub fn login(&self, random: &mut Random) -> Option<String> {
        let name = random.one_of(&["apw", "bob", "eve"]);
        let network = random.one_of(&["one", "two", "three"]);
        self.users
            .contains_key(name)
            .then(|| format!("{name}/{network}:secret"))
    }

    /// The nicks of all networks that should be connected.
    pub fn running(&self) -> Vec<String> {
        let users = self.users.values().filter(|user| !user.deleted);
        let networks = users.flat_map(|user| user.networks.values());
        let nicks = networks
            .filter(|net| net.enabled)
            .map(|net| net.nick.clone());
        let mut nicks: Vec<String> = nicks.collect();
        nicks.sort();
        nicks
    }

    /// As [`told`] of a dump.
    pub fn told(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (name, user) in self.users.iter().filter(|(_, user)| !user.deleted) {
            all.push(name.clone());
            let networks = user.networks.iter();
            all.extend(networks.map(|(network, net)| format!("{name}/{network}: {}", net.nick)));
        }
        all.sort();
        all
    }
}
