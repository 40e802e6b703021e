//! What there is to say of users, and of the certificates they log in with. They are changed in
//! `changes`.

use std::sync::atomic::Ordering;

use crate::clock;
use crate::control::Fields;
use crate::directory::User;
use crate::state::LinkStatus;

use super::Done;
use super::out::{Out, Table, fields};
use super::scope::Scope;
use super::{changes, networks, text};

/// All users, or one in full.
pub(super) async fn status(scope: &Scope<'_>, name: Option<String>, out: &mut Out) -> Done {
    let is_meant = |user: &str| name.as_deref().is_none_or(|name| name == user);
    let users = scope.directory.users().filter(|user| is_meant(&user.name));
    let users: Vec<_> = users.cloned().collect();
    let mut table = Table::default();
    for user in &users {
        table.add(cells(user), values(user));
    }
    add_absent(scope, is_meant, &mut table);
    if let Some(name) = name.as_deref().filter(|_| table.is_empty()) {
        return scope.named_user(name).map(drop);
    }
    if table.is_empty() {
        out.say("no users").await;
    }
    out.table(table).await;
    let in_full = name.is_some();
    for user in users.iter().filter(|_| in_full) {
        let mut table = Table::default();
        for status in user.board.lines().iter().filter(|s| !s.name.is_empty()) {
            let cells = [format!("  {}:", status.name), networks::state(status)];
            let values = fields([
                ("user", user.name.clone().into()),
                ("network", status.name.clone().into()),
                ("state", networks::state(status).into()),
            ]);
            table.add(cells, values);
        }
        out.table(table).await;
    }
    Ok(())
}

/// So many networks, and so many of them connected.
fn networks_of(user: &User) -> (usize, usize) {
    let lines = user.board.lines();
    let is_up = |link: &LinkStatus| matches!(link, LinkStatus::Connected { .. });
    let connected = lines.iter().filter(|status| is_up(&status.link)).count();
    (user.networks.len(), connected)
}

fn cells(user: &User) -> Vec<String> {
    let (networks, connected) = networks_of(user);
    let clients = user.clients.load(Ordering::Relaxed);
    let networks = text::count(networks as u64, "network");
    vec![
        format!("{}:", user.name),
        if user.admin {
            "administrator,"
        } else {
            "user,"
        }
        .to_owned(),
        format!("{networks}, {connected} connected,"),
        text::count(clients as u64, "client"),
        seen(user),
    ]
}

/// When a client was last there; nothing while one is.
fn seen(user: &User) -> String {
    match user.seen.get() {
        _ if user.clients.load(Ordering::Relaxed) > 0 => String::new(),
        Some(at) => format!("(last seen {} ago)", text::span(at, clock().time)),
        None => "(never seen)".to_owned(),
    }
}

/// Users that cannot log in: disabled, or deleted and to be restored.
fn add_absent(scope: &Scope<'_>, is_meant: impl Fn(&str) -> bool, table: &mut Table) {
    let state = |name: &str, state: &str| fields([("user", name.into()), ("state", state.into())]);
    for user in scope
        .directory
        .config
        .users
        .iter()
        .filter(|user| !user.enabled && is_meant(&user.name))
    {
        let cells = [format!("{}:", user.name), "disabled".to_owned()];
        table.add(cells, state(&user.name, "disabled"));
    }
    let deleted = scope.directory.deleted.iter();
    for (name, since) in deleted.filter(|(name, _)| is_meant(name)) {
        let since = text::time(*since);
        let told = format!("deleted at {since} UTC; \"user restore {name}\"");
        table.add([format!("{name}:"), told], state(name, "deleted"));
    }
}

fn values(user: &User) -> Fields {
    let (networks, connected) = networks_of(user);
    fields([
        ("user", user.name.clone().into()),
        ("admin", user.admin.into()),
        ("networks", networks.into()),
        ("connected", connected.into()),
        ("clients", user.clients.load(Ordering::Relaxed).into()),
        ("seen", user.seen.get().map(text::exact).into()),
    ])
}

/// The certificates that may log in as the user.
pub(super) async fn certificates(scope: &Scope<'_>, out: &mut Out) -> Done {
    let user = scope.user()?;
    if user.certificates.is_empty() {
        out.say(format!("{}: no certificates", user.name)).await;
    }
    for pin in &user.certificates {
        let written = changes::written(pin);
        let values = fields([
            ("user", user.name.clone().into()),
            ("certificate", written.clone().into()),
        ]);
        out.row(format!("{}: {written}", user.name), values).await;
    }
    Ok(())
}
