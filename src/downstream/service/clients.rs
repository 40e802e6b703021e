//! The attached clients: who they are, and sending them away. What a network knows of them is on the board; that one
//! goes is the network's doing.

use crate::clock;
use crate::control::Fields;
use crate::directory::User;
use crate::state::orders::{Order, Outcome};
use crate::state::{ClientId, ClientStatus, NetworkStatus};

use super::out::{Out, Table, fields};
use super::scope::Scope;
use super::{Done, Refused, order_of, text};

/// All of them, a row each.
pub(super) async fn status(scope: &Scope<'_>, out: &mut Out) -> Done {
    let mut table = Table::default();
    for user in &scope.users {
        let whose = scope.whose_is(user);
        for status in user.board.lines() {
            for client in &status.clients {
                table.add(
                    cells(&whose, &status, client),
                    values(user, &status, client),
                );
            }
        }
    }
    if table.is_empty() {
        out.say("no clients attached").await;
    }
    out.table(table).await;
    Ok(())
}

fn cells(whose: &str, status: &NetworkStatus, client: &ClientStatus) -> Vec<String> {
    let or = |name: &str, none: &str| match name {
        "" => none.to_owned(),
        name => name.to_owned(),
    };
    let since = text::span(client.since, clock().time);
    vec![
        format!("{whose}client {}:", client.id.0),
        or(&client.name, "(no name)"),
        format!("on {}", or(&status.name, "no network")),
        format!("from {}", client.address),
        format!("for {since}"),
    ]
}

fn values(user: &User, status: &NetworkStatus, client: &ClientStatus) -> Fields {
    fields([
        ("user", user.name.clone().into()),
        ("id", client.id.0.into()),
        ("client", client.name.clone().into()),
        ("network", status.name.clone().into()),
        ("address", client.address.clone().into()),
        ("since", text::exact(client.since).into()),
    ])
}

/// Sends one away.
pub(super) async fn dismiss(scope: &Scope<'_>, id: u64, out: &mut Out) -> Done {
    let user = scope.user()?;
    let mut networks = user.networks.iter().chain([&user.lobby]);
    let has = |name: &str| {
        let status = user.board.line(name);
        status.is_some_and(|status| status.clients.iter().any(|client| client.id.0 == id))
    };
    let Some(network) = networks.find(|network| has(&network.config.name)) else {
        return Err(Refused(format!(
            "you have no client {id}; \"client status\" lists them"
        )));
    };
    match order_of(network, Order::Dismiss(ClientId(id))).await? {
        Outcome::Refused(why) => Err(Refused(why)),
        _ => {
            out.say(format!("client {id}: sent away")).await;
            Ok(())
        }
    }
}
