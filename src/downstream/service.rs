//! Carries out what is said to carom: by `/msg *carom`, `CAROM` or the control socket. Words and their
//! parsing are `command`'s.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock;
use crate::command::{self, Authority, Command, help};
use crate::config;
use crate::control::Answer;
use crate::directory::{Directory, User};
use crate::state::forms::{self, Dress};
use crate::state::{ClientStatus, LinkStatus, NetworkStatus, Shown, View};
use crate::wire::{LineBuilder, Timestamp};

use super::{Shared, explain};

/// Who says something.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The user he is; `None`: whoever may reach the control socket.
    pub user: Option<Arc<User>>,
    /// The network he is attached to.
    pub network: Option<String>,
    /// Whether he administers carom.
    pub admin: bool,
}

/// Writes the answer to a line of words, as NOTICEs in the form the client gets lines.
pub(super) fn answer(words: &str, caller: &Caller, shared: &Shared, view: View, out: &mut Vec<u8>) {
    let lines = match command::split(words) {
        Ok(words) => run(&words, caller, shared).lines,
        Err(problem) => vec![problem],
    };
    let source = format!("*carom!carom@{}", shared.server);
    let network = caller.network.as_deref().unwrap_or_default();
    let status = caller
        .user
        .as_ref()
        .and_then(|user| user.board.line(network));
    let nick = status.map_or_else(|| "*".to_owned(), |status| status.nick);
    for line in lines {
        let notice = LineBuilder::from(source.as_bytes(), b"NOTICE").param(nick.as_bytes());
        let line = notice.trailing(line.as_bytes()).build();
        let tags = Bytes::new();
        let shown = Shown {
            time: clock().time,
            msgid: None,
            tags,
            line,
        };
        forms::encode(&shown, view, Dress::default(), out);
    }
}

/// Does what the words say. Every command is answered by at least one line.
pub fn run(words: &[String], caller: &Caller, shared: &Shared) -> Answer {
    let command = match command::parse(words) {
        Ok(command) => command,
        Err(error) => {
            return Answer {
                code: Answer::NOT_UNDERSTOOD,
                lines: vec![error.to_string()],
            };
        }
    };
    let authority = if caller.admin {
        Authority::Admin
    } else {
        Authority::User
    };
    if command.verb().row().authority > authority {
        return refused("only administrators may do that".to_owned());
    }
    match command {
        Command::Help(None) => done(help_list(authority, &shared.admin_contact)),
        Command::Help(Some(words)) => match help::about(&words, authority) {
            Ok(lines) => done(lines),
            Err(error) => Answer {
                code: Answer::NOT_UNDERSTOOD,
                lines: vec![error.to_string()],
            },
        },
        command => match meant(caller, &shared.directory.borrow())
            .and_then(|users| about(&command, &users))
        {
            Ok(lines) => done(lines),
            Err(problem) => refused(problem),
        },
    }
}

/// The verbs, and whom to ask when they are not enough.
fn help_list(authority: Authority, contact: &str) -> Vec<String> {
    let mut lines = help::list(authority);
    if !contact.is_empty() {
        lines.push(format!("your administrator: {contact}"));
    }
    lines
}

fn done(lines: Vec<String>) -> Answer {
    Answer {
        code: Answer::DONE,
        lines,
    }
}

fn refused(line: String) -> Answer {
    Answer {
        code: Answer::REFUSED,
        lines: vec![line],
    }
}

/// Whose networks are meant: the caller's own, or at the control socket everybody's.
fn meant(caller: &Caller, directory: &Directory) -> Result<Vec<Arc<User>>, String> {
    let users: Vec<_> = match &caller.user {
        Some(user) => vec![Arc::clone(user)],
        None => directory.users().cloned().collect(),
    };
    if users.is_empty() {
        return Err("there are no users; add one with [[user]] to the configuration".to_owned());
    }
    Ok(users)
}

fn about(command: &Command, users: &[Arc<User>]) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    if let Command::NetworkStatus(Some(name)) | Command::NetworkExplain(Some(name)) = command
        && !users.iter().any(|user| user.network(name).is_some())
    {
        return Err(format!("there is no network \"{name}\""));
    }
    for user in users {
        // Among several, each line says whose it is.
        let whose = if users.len() > 1 {
            format!("{}: ", user.name)
        } else {
            String::new()
        };
        let told = match command {
            Command::NetworkStatus(Some(name)) | Command::NetworkExplain(Some(name))
                if user.network(name).is_none() =>
            {
                continue;
            }
            Command::NetworkExplain(name) => explain_networks(user, name.as_deref()),
            Command::NetworkStatus(name) => networks(user, name.as_deref()),
            Command::ClientStatus => clients(user),
            _ => networks(user, None)
                .into_iter()
                .chain(clients(user))
                .collect(),
        };
        lines.extend(told.into_iter().map(|line| format!("{whose}{line}")));
    }
    Ok(lines)
}

fn networks(user: &User, name: Option<&str>) -> Vec<String> {
    let lines: Vec<String> = user
        .networks
        .iter()
        .filter(|network| name.is_none_or(|name| network.config.name == name))
        .map(|network| match user.board.line(&network.config.name) {
            Some(status) => network_line(&status),
            None => format!("{}: not running; the log says why", network.config.name),
        })
        .collect();
    if lines.is_empty() {
        vec!["no networks".to_owned()]
    } else {
        lines
    }
}

fn explain_networks(user: &User, name: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    let wanted = |config: &config::Network| name.is_none_or(|name| config.name == name);
    for network in user.networks.iter().filter(|n| wanted(&n.config)) {
        let name = &network.config.name;
        lines.extend(networks(user, Some(name)));
        let Some(status) = user.board.line(name) else {
            continue;
        };
        let known = user.board.explain(name).unwrap_or_default();
        let told = explain::lines(&network.config, &status, &known, clock());
        lines.extend(told.into_iter().map(|line| format!("{name}: {line}")));
    }
    if lines.is_empty() {
        lines.push("no networks".to_owned());
    }
    lines
}

fn network_line(status: &NetworkStatus) -> String {
    let now = clock();
    let state = match &status.link {
        LinkStatus::Lobby => "no servers".to_owned(),
        LinkStatus::Disabled => "disabled".to_owned(),
        LinkStatus::Connecting { last } if last.is_empty() => "connecting".to_owned(),
        LinkStatus::Connecting { last } => format!("connecting (before: {last})"),
        LinkStatus::Waiting { reason, until } => {
            let wait = until.since(now.ticks).as_secs();
            format!("not connected ({reason}); next try in {wait} s")
        }
        LinkStatus::Connected { via, since } => {
            let channels = status.channels;
            format!(
                "connected to {via} as {} for {}, on {channels} channel{}",
                status.nick,
                span(*since, now.time),
                if channels == 1 { "" } else { "s" }
            )
        }
    };
    format!("{}: {state}", status.name)
}

fn clients(user: &User) -> Vec<String> {
    let boards = user.board.lines();
    let lines: Vec<String> = boards
        .iter()
        .flat_map(|status| {
            status
                .clients
                .iter()
                .map(move |client| client_line(status, client))
        })
        .collect();
    if lines.is_empty() {
        vec!["no clients attached".to_owned()]
    } else {
        lines
    }
}

fn client_line(status: &NetworkStatus, client: &ClientStatus) -> String {
    let name = if client.name.is_empty() {
        "(no name)"
    } else {
        &client.name
    };
    let network = if status.name.is_empty() {
        "no network"
    } else {
        &status.name
    };
    let since = span(client.since, clock().time);
    format!(
        "client {}: {name} on {network} from {} for {since}",
        client.id.0, client.address
    )
}

/// How long ago, in the two largest units.
fn span(since: Timestamp, now: Timestamp) -> String {
    let seconds = (now.millis() - since.millis()).max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}
