//! The file and what was made at run time become what holds. Rows are read by the same keys and checks as the file; one
//! that cannot be used any more is left out and told, and its row stays.

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table};

use super::check;
use super::file::{Purpose, Surroundings};
use super::made::{Made, MadeChannel, MadeNetwork};
use super::reader::{Reader, Value};
use super::{Channel, Config, Findings, Level, Network, User, toml_text};

impl Made {
    /// Everything that holds, and what does not although it was made.
    pub fn merge(&self, declared: &Config) -> (Config, Vec<String>) {
        let mut problems = Vec::new();
        let mut config = Config {
            users: Vec::new(),
            ..declared.clone()
        };
        let names = declared.users.iter().map(|user| &user.name);
        let made = self.users.keys();
        let made = made.filter(|name| !names.clone().any(|declared| declared == *name));
        let users = names.clone().chain(made);
        let users = users.filter_map(|name| self.user(declared, name, &mut problems));
        config.users = users.collect();
        (config, problems)
    }

    /// A user as it holds. `None`: there is none, or it is deleted.
    pub fn user(&self, declared: &Config, name: &str, problems: &mut Vec<String>) -> Option<User> {
        let mut user = match declared.users.iter().find(|user| user.name == name) {
            Some(user) => user.clone(),
            None => {
                let row = self.users.get(name).filter(|row| row.deleted.is_none())?;
                let (user, findings) = user(declared, name, &row.options);
                is_sound(&findings, &format!("user \"{name}\""), problems).then_some(user)?
            }
        };
        for row in self.networks(name) {
            let what = format!("network \"{name}/{}\"", row.name);
            let same = |network: &Network| network.name.eq_ignore_ascii_case(&row.name);
            if user.networks.iter().any(same) {
                problems.push(format!(
                    "{what}, made at run time, is declared now: that holds"
                ));
                continue;
            }
            let (network, findings) = network(declared, &user, row);
            if is_sound(&findings, &what, problems) {
                user.networks.push(network);
            }
        }
        for network in &mut user.networks {
            self.add_channels(declared, name, network, problems);
        }
        Some(user)
    }

    fn add_channels(
        &self,
        declared: &Config,
        user: &str,
        network: &mut Network,
        problems: &mut Vec<String>,
    ) {
        for row in self.channels(user, &network.name) {
            let mut known = network.channels.iter();
            if known.any(|channel| channel.name.eq_ignore_ascii_case(&row.name)) {
                continue;
            }
            let what = format!("channel \"{}\" of {user}/{}", row.name, network.name);
            let (channel, findings) = channel(declared, network, row);
            if is_sound(&findings, &what, problems) {
                network.channels.push(channel);
            }
        }
    }
}

/// Whether a row can be used; else it is told why not.
fn is_sound(findings: &Findings, what: &str, problems: &mut Vec<String>) -> bool {
    let errors = findings.iter().filter(|f| f.level == Level::Error);
    let errors: Vec<String> = errors.map(super::overlay::told).collect();
    if !errors.is_empty() {
        let errors = errors.join("; ");
        problems.push(format!("{what}, made at run time, is left out: {errors}"));
    }
    errors.is_empty()
}

/// A user made at run time.
pub(super) fn user(declared: &Config, name: &str, options: &Table) -> (User, Findings) {
    let (mut user, findings) = read(declared, &["user"], name, options, |table, reader| {
        check::user(declared, table, reader)
    });
    user.declared = false;
    (user, findings)
}

/// A network made at run time.
pub(super) fn network(declared: &Config, user: &User, row: &MadeNetwork) -> (Network, Findings) {
    let under = ["user", "network"];
    let (mut network, findings) = read(
        declared,
        &under,
        &row.name,
        &row.options,
        |table, reader| check::network(user, &declared.dial, &declared.limits, table, reader),
    );
    network.declared = false;
    network.trusted = row.trusted || user.admin;
    (network, findings)
}

/// A channel made at run time.
pub(super) fn channel(
    declared: &Config,
    network: &Network,
    row: &MadeChannel,
) -> (Channel, Findings) {
    let under = ["user", "network", "channel"];
    read(
        declared,
        &under,
        &row.name,
        &row.options,
        |table, reader| check::channel(network, table, reader),
    )
}

/// Has a row read as if it stood in the file. It has neither file nor line to be told.
fn read<T>(
    declared: &Config,
    under: &[&str],
    name: &str,
    options: &Table,
    take: impl FnOnce(Value<'_>, &mut Reader<'_>) -> T,
) -> (T, Findings) {
    let mut options = options.clone();
    options.insert("name".to_owned(), name.into());
    let text = toml_text::lines(&options);
    let (document, _) = DeTable::parse_recoverable(&text);
    let span = document.span();
    let document = Spanned::new(span, DeValue::Table(document.into_inner()));
    let surroundings = Surroundings::default();
    let mut reader = Reader::new(&declared.path, &text, Purpose::Run, &surroundings);
    reader.is_made(under);
    let taken = take(Value(&document), &mut reader);
    (taken, reader.findings)
}
