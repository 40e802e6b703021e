//! Which rows a change makes of those that were made at run time, or why it may not: what the file declares is the file's,
//! everybody changes his own, and values are held to the rules of the file. Pure: nothing is changed by asking.

use toml::Table;

use super::made::{Edit, Made, MadeChannel, MadeNetwork, MadeUser};
use super::merge;
use super::overlay::{Authority, Change, Options, Refusal, Thing, is_under};
use super::{Config, Finding, Findings, Level, Network, Pin, User, toml_text};
use crate::wire::Timestamp;

/// What a user may change of himself.
const OWN_OPTIONS: [&str; 6] = [
    "nick",
    "username",
    "realname",
    "history",
    "highlights",
    "own_messages",
];
/// What decides where a network leads.
const WHERE: [&str; 2] = ["servers", "proxy"];
/// Keys, on any level, under which files of the host are named.
const FILES: [&str; 3] = ["file", "ca", "client_certificate"];

/// What a change is held against.
#[derive(Clone, Copy)]
pub struct Present<'a> {
    /// What the file says.
    pub declared: &'a Config,
    /// What holds.
    pub effective: &'a Config,
    /// The time.
    pub now: Timestamp,
}

/// What a change leads to, if it can be stored.
#[derive(Clone, PartialEq)]
pub struct Step {
    /// The rows after it.
    pub made: Made,
    /// How the store gets there.
    pub edits: Vec<Edit>,
    /// Whom it is about.
    pub user: String,
    /// The network it is about, by its new name.
    pub network: Option<String>,
    /// A channel that is left on that network.
    pub leave: Option<String>,
    /// What should be looked at although it can be used.
    pub warnings: Findings,
}

impl Made {
    /// What a change would lead to. `hash`: of the password it gives. Nothing is changed by asking.
    pub fn after(
        &self,
        present: &Present<'_>,
        by: &Authority,
        change: &Change,
        hash: Option<String>,
    ) -> Result<Step, Refusal> {
        may(by, change)?;
        let asked = Asked { present, by, hash };
        let step = Step {
            made: self.clone(),
            edits: Vec::new(),
            user: change.user().to_owned(),
            network: None,
            leave: None,
            warnings: Findings::default(),
        };
        let mut step = asked.work(step, change)?;
        step.made
            .networks
            .retain(|_, networks| !networks.is_empty());
        step.made
            .channels
            .retain(|_, channels| !channels.is_empty());
        Ok(step)
    }
}

/// A change on its way.
struct Asked<'a> {
    present: &'a Present<'a>,
    by: &'a Authority,
    hash: Option<String>,
}

type Worked = Result<Step, Refusal>;

impl Asked<'_> {
    fn work(self, step: Step, change: &Change) -> Worked {
        match change {
            Change::CreateUser { options, .. } => self.create_user(step, options),
            Change::UpdateUser { options, .. } => self.update_user(step, options),
            Change::DeleteUser { purge, .. } => self.delete_user(step, *purge),
            Change::RestoreUser { .. } => self.restore_user(step),
            Change::SetPassword { .. } => self.set_password(step),
            Change::AddCertificate { pin, .. } => self.certificate(step, pin, true),
            Change::DeleteCertificate { pin, .. } => self.certificate(step, pin, false),
            Change::CreateNetwork { name, options, .. } => self.create_network(step, name, options),
            Change::UpdateNetwork { name, options, .. } => self.update_network(step, name, options),
            Change::DeleteNetwork { name, .. } => self.delete_network(step, name),
            Change::CreateChannel {
                network,
                name,
                options,
                ..
            } => self.put_channel(step, (network, name), options, true),
            Change::UpdateChannel {
                network,
                name,
                options,
                ..
            } => self.put_channel(step, (network, name), options, false),
            Change::DeleteChannel { network, name, .. } => self.drop_channel(step, network, name),
        }
    }

    fn declared(&self, user: &str) -> Option<&User> {
        let mut users = self.present.declared.users.iter();
        users.find(|declared| declared.name == user)
    }

    fn is_declared(&self, thing: Thing, name: &str, key: &str) -> Refusal {
        Refusal::Declared {
            thing,
            name: name.to_owned(),
            file: self.present.declared.path.clone(),
            key: key.to_owned(),
        }
    }

    fn effective(&self, user: &str) -> Result<&User, Refusal> {
        let mut users = self.present.effective.users.iter();
        let found = users.find(|effective| effective.name == user);
        found.ok_or_else(|| unknown(Thing::User, user))
    }

    // -- users

    fn create_user(self, step: Step, options: &Options) -> Worked {
        let name = step.user.clone();
        if self.declared(&name).is_some() {
            return Err(exists(Thing::User, &name));
        }
        match step.made.users.get(&name).map(|user| user.deleted) {
            Some(Some(_)) => return Err(Refusal::Restorable(name)),
            Some(None) => return Err(exists(Thing::User, &name)),
            None => {}
        }
        let hash = self.hash.clone();
        let mut step = self.put_user(step, options, Table::new())?;
        if let Some(hash) = hash {
            step.edits.push(Edit::Password { user: name, hash });
        }
        Ok(step)
    }

    fn update_user(self, step: Step, options: &Options) -> Worked {
        let name = step.user.clone();
        let before = self.made_user(&step, &first_key("user", options))?;
        let own = |key: &str| OWN_OPTIONS.iter().any(|own| is_under(key, own));
        if !self.by.admin && !options.keys().all(own) {
            return Err(Refusal::NotAllowed(format!("user update {name}")));
        }
        self.put_user(step, options, before)
    }

    /// The options of a user that can be changed.
    fn made_user(&self, step: &Step, key: &str) -> Result<Table, Refusal> {
        if self.declared(&step.user).is_some() {
            return Err(self.is_declared(Thing::User, &step.user, key));
        }
        let user = step.made.users.get(&step.user);
        let user = user.filter(|user| user.deleted.is_none());
        let user = user.ok_or_else(|| unknown(Thing::User, &step.user))?;
        Ok(user.options.clone())
    }

    fn put_user(&self, mut step: Step, options: &Options, before: Table) -> Worked {
        fixed(options, "user", &["name", "password", "network"])?;
        self.no_files(options)?;
        let options = options.onto(before);
        let (_, findings) = merge::user(self.present.declared, &step.user, &options);
        step.warnings.append(sound(findings)?);
        step.edits.push(Edit::User {
            name: step.user.clone(),
            options: toml_text::lines(&options),
            deleted: None,
        });
        let deleted = None;
        let user = MadeUser { options, deleted };
        step.made.users.insert(step.user.clone(), user);
        Ok(step)
    }

    fn delete_user(self, mut step: Step, purge: bool) -> Worked {
        let name = step.user.clone();
        if self.declared(&name).is_some() {
            return Err(self.is_declared(Thing::User, &name, "user.name"));
        }
        let known = step.made.users.get_mut(&name);
        let user = known.filter(|user| purge || user.deleted.is_none());
        let user = user.ok_or_else(|| unknown(Thing::User, &name))?;
        if purge {
            step.made.forget(&name);
            step.edits.push(Edit::PurgeUser { name });
            return Ok(step);
        }
        user.deleted = Some(self.present.now);
        step.edits.push(Edit::User {
            options: toml_text::lines(&user.options),
            deleted: user.deleted,
            name,
        });
        Ok(step)
    }

    fn restore_user(self, mut step: Step) -> Worked {
        let name = step.user.clone();
        let user = step.made.users.get_mut(&name);
        let user = user.ok_or_else(|| unknown(Thing::User, &name))?;
        if user.deleted.take().is_none() || self.declared(&name).is_some() {
            return Err(exists(Thing::User, &name));
        }
        let user = step.made.users.get(&name);
        let options = user.map(|user| toml_text::lines(&user.options));
        step.edits.push(Edit::User {
            options: options.unwrap_or_default(),
            deleted: None,
            name,
        });
        Ok(step)
    }

    /// The password of a declared user is the file's when the file gives one, else the database's.
    fn set_password(self, mut step: Step) -> Worked {
        let name = step.user.clone();
        match self.declared(&name) {
            Some(user) if user.password.is_some() => {
                return Err(self.is_declared(Thing::User, &name, "user.password"));
            }
            Some(_) => {}
            None => drop(self.made_user(&step, "user.password")?),
        }
        let hash = self.hash.ok_or(Refusal::BadPassword)?;
        step.edits.push(Edit::Password { user: name, hash });
        Ok(step)
    }

    fn certificate(self, step: Step, pin: &Pin, add: bool) -> Worked {
        let before = self.made_user(&step, "user.certificates")?;
        let text = pin.to_string();
        let list = before.get("certificates").and_then(|list| list.as_array());
        let mut list = list.cloned().unwrap_or_default();
        let at = list.iter().position(|item| item.as_str() == Some(&text));
        match (at, add) {
            (Some(_), true) => return Err(exists(Thing::Certificate, &text)),
            (None, false) => return Err(unknown(Thing::Certificate, &text)),
            (None, true) => list.push(text.into()),
            (Some(at), false) => drop(list.remove(at)),
        }
        let options = Options::new().set("certificates", list);
        self.put_user(step, &options, before)
    }

    // -- networks

    fn create_network(self, mut step: Step, name: &str, options: &Options) -> Worked {
        let user = self.effective(&step.user)?.clone();
        self.is_new_network(&user, name)?;
        let most = user.most_networks(&self.present.effective.limits);
        if user.networks.len() >= most {
            let user = user.name;
            return Err(Refusal::TooMany { user, most });
        }
        self.may_lead_there(options)?;
        let options = options.without("name").onto(Table::new());
        let network = MadeNetwork {
            name: name.to_owned(),
            options,
            trusted: self.by.admin,
        };
        step = self.put_network(step, &user, &network)?;
        step.made.networks_of(&user.name).push(network);
        Ok(step)
    }

    fn is_new_network(&self, user: &User, name: &str) -> Result<(), Refusal> {
        let same = |network: &&Network| network.name.eq_ignore_ascii_case(name);
        match user.networks.iter().find(same) {
            Some(network) => Err(exists(Thing::Network, &network.name)),
            None => Ok(()),
        }
    }

    /// Where the row of a network is that can be changed.
    fn made_network(&self, step: &Step, name: &str, key: &str) -> Result<usize, Refusal> {
        let user = self.effective(&step.user)?;
        let declared = self.declared(&user.name).map(|user| &user.networks);
        let is_it = |network: &Network| network.name == name;
        if declared.is_some_and(|networks| networks.iter().any(is_it)) {
            return Err(self.is_declared(Thing::Network, name, key));
        }
        let mut made = step.made.networks(&user.name).iter();
        made.position(|network| network.name == name)
            .ok_or_else(|| unknown(Thing::Network, name))
    }

    fn update_network(self, mut step: Step, name: &str, options: &Options) -> Worked {
        let key = first_key("user.network", options);
        let at = self.made_network(&step, name, &key)?;
        self.may_lead_there(options)?;
        let user = self.effective(&step.user)?.clone();
        let mut network = step.made.networks(&user.name)[at].clone();
        if let Some(new) = options.get("name") {
            let new = new.as_str().unwrap_or_default();
            if !new.eq_ignore_ascii_case(name) {
                self.is_new_network(&user, new)?;
            }
            if new != name {
                step.edits.push(Edit::Rename {
                    user: user.name.clone(),
                    from: name.to_owned(),
                    to: new.to_owned(),
                });
                network.name = new.to_owned();
            }
        }
        let options = options.without("name");
        let leads = |key: &str| WHERE.iter().any(|part| is_under(key, part));
        if options.keys().any(leads) {
            network.trusted = self.by.admin;
        }
        network.options = options.onto(network.options);
        step = self.put_network(step, &user, &network)?;
        if network.name != name {
            let channels = step
                .made
                .channels
                .remove(&(user.name.clone(), name.to_owned()));
            step.made.channels.extend(
                channels.map(|channels| ((user.name.clone(), network.name.clone()), channels)),
            );
        }
        step.made.networks_of(&user.name)[at] = network;
        Ok(step)
    }

    fn put_network(&self, mut step: Step, user: &User, network: &MadeNetwork) -> Worked {
        let (_, findings) = merge::network(self.present.declared, user, network);
        step.warnings.append(sound(findings)?);
        step.edits.push(Edit::Network {
            user: user.name.clone(),
            name: network.name.clone(),
            options: toml_text::lines(&network.options),
            trusted: network.trusted,
        });
        step.network = Some(network.name.clone());
        Ok(step)
    }

    fn delete_network(self, mut step: Step, name: &str) -> Worked {
        let at = self.made_network(&step, name, "user.network.name")?;
        let user = step.user.clone();
        step.made.networks_of(&user).remove(at);
        step.made.channels.remove(&(user.clone(), name.to_owned()));
        step.edits.push(Edit::Retire {
            user,
            name: name.to_owned(),
            now: self.present.now,
        });
        Ok(step)
    }

    /// What others than administrators may not say about where a network leads.
    fn may_lead_there(&self, options: &Options) -> Result<(), Refusal> {
        self.no_files(options)?;
        let servers = options.get("servers").and_then(|list| list.as_array());
        let is_socket = |server: &toml::Value| {
            let url = server.as_str().unwrap_or_default();
            url.get(..5)
                .is_some_and(|start| start.eq_ignore_ascii_case("unix:"))
        };
        if !self.by.admin && servers.is_some_and(|servers| servers.iter().any(is_socket)) {
            return Err(Refusal::NotAllowed("a server on a unix socket".into()));
        }
        Ok(())
    }

    /// Files of the host are read with the rights of the daemon.
    fn no_files(&self, options: &Options) -> Result<(), Refusal> {
        match options.find_name(&FILES) {
            Some(key) if !self.by.admin => {
                Err(Refusal::NotAllowed(format!("a file of this host ({key})")))
            }
            _ => Ok(()),
        }
    }

    // -- channels

    fn put_channel(
        self,
        mut step: Step,
        (network, name): (&str, &str),
        options: &Options,
        is_new: bool,
    ) -> Worked {
        fixed(options, "user.network.channel", &["name"])?;
        self.no_files(options)?;
        let key = first_key("user.network.channel", options);
        let network = self
            .network_of_channel(&step.user, network, name, &key)?
            .clone();
        let user = step.user.clone();
        let channels = step.made.channels_of(&user, &network.name);
        let at = channels
            .iter()
            .position(|channel| same(&channel.name, name));
        if is_new && at.is_some() {
            return Err(exists(Thing::Channel, name));
        }
        if at.is_none() && network.channels.len() >= network.max_channels {
            let most = network.max_channels;
            let message = format!("there are {most}, and limits.channels_per_network is that");
            return Err(Refusal::Invalid(vec![finding(
                "user.network.channel",
                message,
                "raise the limit or delete others",
            )]));
        }
        let before = at.map(|at| channels[at].options.clone());
        let channel = MadeChannel {
            name: at.map_or_else(|| name.to_owned(), |at| channels[at].name.clone()),
            options: options.onto(before.unwrap_or_default()),
        };
        let (_, findings) = merge::channel(self.present.declared, &network, &channel);
        step.edits.push(Edit::Channel {
            user: user.clone(),
            network: network.name.clone(),
            name: channel.name.clone(),
            options: toml_text::lines(&channel.options),
        });
        match at {
            Some(at) => channels[at] = channel,
            None => channels.push(channel),
        }
        step.warnings.append(sound(findings)?);
        step.network = Some(network.name);
        Ok(step)
    }

    fn network_of_channel(
        &self,
        user: &str,
        network: &str,
        channel: &str,
        key: &str,
    ) -> Result<&Network, Refusal> {
        let declared = self.declared(user).map(|user| user.networks.as_slice());
        let mut declared = declared.unwrap_or_default().iter();
        if let Some(declared) = declared.find(|declared| declared.name == network)
            && declared.channels.iter().any(|c| same(&c.name, channel))
        {
            return Err(self.is_declared(Thing::Channel, channel, key));
        }
        let mut networks = self.effective(user)?.networks.iter();
        networks
            .find(|known| known.name == network)
            .ok_or_else(|| unknown(Thing::Network, network))
    }

    /// A channel without a row may be one that was merely joined: whether it is there, its network knows.
    fn drop_channel(self, mut step: Step, network: &str, name: &str) -> Worked {
        let user = step.user.clone();
        let key = "user.network.channel.name";
        self.network_of_channel(&user, network, name, key)?;
        let channels = step.made.channels_of(&user, network);
        if let Some(at) = channels
            .iter()
            .position(|channel| same(&channel.name, name))
        {
            let channel = channels.remove(at);
            step.edits.push(Edit::DropChannel {
                user,
                network: network.to_owned(),
                name: channel.name,
            });
        }
        step.network = Some(network.to_owned());
        step.leave = Some(name.to_owned());
        Ok(step)
    }
}

/// What is whose: everybody changes his own, administrators everything.
fn may(by: &Authority, change: &Change) -> Result<(), Refusal> {
    use Change::{CreateUser, DeleteUser, RestoreUser};
    let own = by.user.as_deref() == Some(change.user());
    let for_admins = matches!(
        change,
        CreateUser { .. } | DeleteUser { .. } | RestoreUser { .. }
    );
    if by.admin || own && !for_admins {
        Ok(())
    } else {
        Err(Refusal::NotAllowed(change.name().to_owned()))
    }
}

fn unknown(thing: Thing, name: &str) -> Refusal {
    let name = name.to_owned();
    Refusal::Unknown { thing, name }
}

fn exists(thing: Thing, name: &str) -> Refusal {
    let name = name.to_owned();
    Refusal::Exists { thing, name }
}

/// Names of channels, as far as that can be told without asking the network.
fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn first_key(table: &str, options: &Options) -> String {
    let key = options.keys().next().unwrap_or("name");
    format!("{table}.{key}")
}

/// Keys that a change cannot give.
fn fixed(options: &Options, table: &str, keys: &[&str]) -> Result<(), Refusal> {
    let wrong = keys
        .iter()
        .find(|key| options.keys().any(|k| is_under(k, key)));
    wrong.map_or(Ok(()), |key| {
        let message = "cannot be changed like this".to_owned();
        let remedy = "leave it out";
        let finding = finding(&format!("{table}.{key}"), message, remedy);
        Err(Refusal::Invalid(vec![finding]))
    })
}

fn finding(key: &str, message: String, remedy: &str) -> Finding {
    Finding {
        level: Level::Error,
        topic: "configuration",
        message,
        remedy: remedy.to_owned(),
        file: None,
        line: None,
        key: Some(key.to_owned()),
    }
}

/// Warnings are let through, errors refuse.
fn sound(findings: Findings) -> Result<Findings, Refusal> {
    if findings.worst() == Some(Level::Error) {
        let errors = findings.iter().filter(|f| f.level == Level::Error);
        return Err(Refusal::Invalid(errors.cloned().collect()));
    }
    Ok(findings)
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
