//! BOUNCER, answered: a client is told its user's networks and what becomes of them, and has them made, changed and ended by the
//! bouncer, as the words of the service have. What was asked is `state`'s to understand.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::config::overlay::{Change, Options, Refusal};
use crate::config::parts::{network_name, server_url};
use crate::config::{Scheme, ServerAddr};
use crate::directory::{Directory, User};
use crate::mailbox::NetworkHandle;
use crate::state::{Attribute, Attributes, LinkStatus, NetworkStatus, NetworksAsk};
use crate::wire::{Cap, LineBuilder, tags};

use super::writer::{Gone, Writer};

/// The type of the batch that holds the list.
const BATCH: &str = "soju.im/bouncer-networks";

/// Attributes of a network, by name.
type Told = BTreeMap<&'static str, String>;

/// A client that is told of changes: what it knows of each network, by number, and what says that there is more.
pub(super) struct Following {
    told: BTreeMap<u64, Told>,
    directory: watch::Receiver<Arc<Directory>>,
    board: watch::Receiver<Vec<NetworkStatus>>,
}

/// Returns when there may be something to tell; never while nobody follows.
pub(super) async fn changed(following: &mut Option<Box<Following>>) {
    let Some(following) = following else {
        return std::future::pending().await;
    };
    let Following {
        directory, board, ..
    } = &mut **following;
    let changed = tokio::select! {
        changed = directory.changed() => changed,
        changed = board.changed() => changed,
    };
    if changed.is_err() {
        // Nothing will change any more.
        std::future::pending::<()>().await;
    }
}

impl Writer<'_> {
    /// The user as he is now.
    fn user_now(&self) -> Option<Arc<User>> {
        let name = &self.caller.user.as_ref()?.name;
        self.shared.directory.borrow().user(name).cloned()
    }

    pub(super) async fn networks(
        &mut self,
        ask: NetworksAsk,
        label: Option<&Bytes>,
    ) -> Result<(), Gone> {
        match ask {
            NetworksAsk::List => self.list_networks(label),
            NetworksAsk::Follow => {
                self.follow_networks();
                self.list_networks(label);
            }
            NetworksAsk::Add(attributes) => self.add_network(&attributes, label).await,
            NetworksAsk::Change(id, attributes) => {
                self.change_network(id, &attributes, label).await;
            }
            NetworksAsk::Delete(id) => self.delete_network(id, label).await,
        }
        self.write_if_full().await
    }

    /// From here on changes are told. What changes while it is asked for is told twice rather than not.
    fn follow_networks(&mut self) {
        let Some(user) = self.user_now() else { return };
        let mut directory = self.shared.directory.clone();
        directory.mark_unchanged();
        let following = Following {
            directory,
            board: user.board.subscribe(),
            told: networks_of(&user),
        };
        self.following = Some(Box::new(following));
    }

    fn networks_now(&self) -> BTreeMap<u64, Told> {
        let user = self.user_now();
        user.map(|user| networks_of(&user)).unwrap_or_default()
    }

    fn list_networks(&mut self, label: Option<&Bytes>) {
        let networks = self.networks_now();
        let batch = self.open_batch(BATCH, label);
        for (id, attributes) in networks {
            let line = self.network_line(id, &attributes);
            self.write_in(line, batch.as_deref());
        }
        self.close_batch(batch.as_deref());
    }

    fn network_line(&self, id: u64, attributes: &Told) -> LineBuilder {
        let words: Vec<Vec<u8>> = attributes
            .iter()
            .map(|(name, value)| {
                let mut word = name.as_bytes().to_vec();
                if !value.is_empty() {
                    word.push(b'=');
                    tags::escape(value.as_bytes(), &mut word);
                }
                word
            })
            .collect();
        self.own_line(b"BOUNCER")
            .param(b"NETWORK")
            .param(id.to_string().as_bytes())
            .param(&words.join(&b';'))
    }

    /// Tells a client that follows what has changed since it was told last.
    pub(super) fn tell_networks(&mut self) {
        if self.following.is_none() {
            return;
        }
        let now = self.networks_now();
        let Some(following) = &mut self.following else {
            return;
        };
        let before = std::mem::replace(&mut following.told, now.clone());
        if self.view.caps.has(Cap::BouncerNetworksNotify) {
            for (id, attributes) in &now {
                let old = before.get(id);
                let mut changed: Told = attributes
                    .iter()
                    .filter(|(name, value)| old.and_then(|old| old.get(*name)) != Some(value))
                    .map(|(n, v)| (*n, v.clone()))
                    .collect();
                // One without a value is gone.
                let gone = old
                    .into_iter()
                    .flat_map(|old| old.keys())
                    .filter(|name| !attributes.contains_key(*name));
                changed.extend(gone.map(|name| (*name, String::new())));
                if !changed.is_empty() {
                    let line = self.network_line(*id, &changed);
                    self.write_in(line, None);
                }
            }
            for id in before.keys().filter(|id| !now.contains_key(*id)) {
                let line = self
                    .own_line(b"BOUNCER")
                    .param(b"NETWORK")
                    .param(id.to_string().as_bytes())
                    .param(b"*");
                self.write_in(line, None);
            }
        }
    }

    async fn add_network(&mut self, given: &Attributes, label: Option<&Bytes>) {
        let Some(user) = self.user_now() else { return };
        let value = |wanted| value(given, wanted).filter(|text| !text.is_empty());
        let host = value(Attribute::Host).unwrap_or_default();
        let tls = value(Attribute::Tls) != Some("0");
        let url = server_url(tls, host, value(Attribute::Port));
        let options = Options::new().set("servers", vec![url]);
        let change = Change::CreateNetwork {
            user: user.name.clone(),
            // Without a name it is called as its server.
            name: value(Attribute::Name).map_or_else(|| network_name(host), str::to_owned),
            options: named(given, options),
        };
        self.change("ADDNETWORK", None, change, label).await;
    }

    async fn change_network(&mut self, id: u64, given: &Attributes, label: Option<&Bytes>) {
        let Some((user, network)) = self.network_of(id) else {
            return self.no_such("CHANGENETWORK", id, label);
        };
        let mut options = Options::new();
        let server = [Attribute::Host, Attribute::Port, Attribute::Tls];
        if server.iter().any(|part| value(given, *part).is_some()) {
            let now = shown(&user, &network);
            let value = |wanted: Attribute| match value(given, wanted) {
                Some(text) => Some(text).filter(|text| !text.is_empty()),
                None => now.get(wanted.name()).map(String::as_str),
            };
            let tls = value(Attribute::Tls) != Some("0");
            let host = value(Attribute::Host).unwrap_or_default();
            let url = server_url(tls, host, value(Attribute::Port));
            options = options.set("servers", vec![url]);
        }
        if let Some(name) = value(given, Attribute::Name).filter(|name| !name.is_empty()) {
            options = options.set("name", name);
        }
        let change = Change::UpdateNetwork {
            user: user.name.clone(),
            name: network.config.name.clone(),
            options: named(given, options),
        };
        self.change("CHANGENETWORK", Some(id), change, label).await;
    }

    async fn delete_network(&mut self, id: u64, label: Option<&Bytes>) {
        let Some((user, network)) = self.network_of(id) else {
            return self.no_such("DELNETWORK", id, label);
        };
        let change = Change::DeleteNetwork {
            user: user.name.clone(),
            name: network.config.name.clone(),
        };
        self.change("DELNETWORK", Some(id), change, label).await;
    }

    /// Has the bouncer change something and answers what came of it. `id`: of the network, unless it is new.
    async fn change(&mut self, word: &str, id: Option<u64>, change: Change, label: Option<&Bytes>) {
        let by = self.caller.authority();
        match self.shared.bouncer.change(by, change).await {
            Ok(outcome) => self.done(word, id.or(outcome.network).unwrap_or_default(), label),
            Err(refusal) => {
                let id = id.map_or_else(|| "*".to_owned(), |id| id.to_string());
                self.refused(word, id.as_bytes(), &refusal, label);
            }
        }
    }

    fn network_of(&self, id: u64) -> Option<(Arc<User>, NetworkHandle)> {
        let user = self.user_now()?;
        let network = user
            .networks
            .iter()
            .find(|network| network.id == id)?
            .clone();
        Some((user, network))
    }

    /// What has changed is told before it is said that it has.
    fn done(&mut self, word: &str, id: u64, label: Option<&Bytes>) {
        self.tell_networks();
        let line = self
            .own_line(b"BOUNCER")
            .param(word.as_bytes())
            .param(id.to_string().as_bytes());
        self.write_labelled(line, label);
    }

    fn refused(&mut self, word: &str, netid: &[u8], refusal: &Refusal, label: Option<&Bytes>) {
        let code: &[u8] = match refusal {
            Refusal::Declared { .. } => b"READ_ONLY_ATTRIBUTE",
            Refusal::Invalid(_) | Refusal::Exists { .. } => b"INVALID_ATTRIBUTE",
            Refusal::Unknown { .. } => b"INVALID_NETID",
            _ => b"INTERNAL_ERROR",
        };
        let line = self
            .own_line(b"FAIL")
            .param(b"BOUNCER")
            .param(code)
            .param(word.as_bytes())
            .param(netid);
        let line = match code {
            b"READ_ONLY_ATTRIBUTE" | b"INVALID_ATTRIBUTE" => line.param(b"*"),
            _ => line,
        };
        self.write_labelled(line.trailing(refusal.to_string().as_bytes()), label);
    }

    fn no_such(&mut self, word: &str, id: u64, label: Option<&Bytes>) {
        let line = self
            .own_line(b"FAIL")
            .param(b"BOUNCER")
            .param(b"INVALID_NETID")
            .param(word.as_bytes());
        let line = line.param(id.to_string().as_bytes());
        self.write_labelled(line.trailing(b"There is no such network"), label);
    }
}

/// What is told of all networks, by number.
fn networks_of(user: &User) -> BTreeMap<u64, Told> {
    let networks = user.networks.iter();
    networks
        .map(|network| (network.id, shown(user, network)))
        .collect()
}

/// What is told of a network. What has no value is not there.
fn shown(user: &User, network: &NetworkHandle) -> Told {
    let config = &network.config;
    let mut told = Told::new();
    told.insert("name", config.name.clone());
    match config.servers.first() {
        Some(ServerAddr::Tcp { scheme, host, port }) => {
            told.insert("host", host.clone());
            told.insert("port", port.to_string());
            told.insert(
                "tls",
                if *scheme == Scheme::Tls { "1" } else { "0" }.to_owned(),
            );
        }
        Some(ServerAddr::Unix(path)) => _ = told.insert("host", path.display().to_string()),
        None => {}
    }
    told.insert("nickname", config.nick.clone());
    told.insert("username", config.username.clone());
    told.insert("realname", config.realname.clone());
    let (state, error) = match user.board.line(&config.name).map(|line| line.link) {
        Some(LinkStatus::Connected { .. }) => ("connected", String::new()),
        Some(LinkStatus::Connecting { last }) => ("connecting", last),
        Some(LinkStatus::Waiting { reason, .. }) => ("disconnected", reason),
        _ => ("disconnected", String::new()),
    };
    told.insert("state", state.to_owned());
    told.insert("error", error);
    told.retain(|_, value| !value.is_empty());
    told
}

/// Attributes that are options under another name.
fn named(given: &Attributes, options: Options) -> Options {
    let keys = [
        (Attribute::Nickname, "nick"),
        (Attribute::Username, "username"),
        (Attribute::Realname, "realname"),
        (Attribute::Pass, "password"),
    ];
    keys.into_iter().fold(options, |options, (attribute, key)| {
        match value(given, attribute) {
            Some("") => options.unset(key),
            Some(value) => options.set(key, value),
            None => options,
        }
    })
}

/// What is given for an attribute.
fn value(given: &Attributes, wanted: Attribute) -> Option<&str> {
    let mut values = given.iter().filter(|(attribute, _)| *attribute == wanted);
    values.next().map(|(_, value)| value.reveal())
}
