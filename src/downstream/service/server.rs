//! Words about the daemon as a whole: how it is doing, what it is run by, a word to everybody. What is changed, the
//! bouncer changes.

use serde_json::json;

use crate::clock;
use crate::state::LinkStatus;
use crate::state::orders::Order;

use super::out::{Out, Table, fields};
use super::scope::Scope;
use super::{Done, Refused, order_of, text};

/// How carom is doing.
pub(super) async fn status(scope: &Scope<'_>, out: &mut Out) -> Done {
    let (mut users, mut clients) = (0, 0);
    let (mut networks, mut connected, mut ipv6, mut ipv4) = (0, 0, 0, 0);
    for user in scope.directory.users() {
        users += 1;
        networks += user.networks.len();
        for status in user.board.lines() {
            clients += status.clients.len();
            if matches!(status.link, LinkStatus::Connected { .. }) {
                connected += 1;
                ipv6 += usize::from(status.family == "IPv6");
                ipv4 += usize::from(status.family == "IPv4");
            }
        }
    }
    let up = clock().ticks.0 / 1000;
    let version = env!("CARGO_PKG_VERSION");
    let mut table = Table::default();
    let mut add = |what: &str, told: String, value: serde_json::Value| {
        table.add([format!("{what}:"), told], fields([(what, value)]));
    };
    let span = text::seconds(i64::try_from(up).unwrap_or(i64::MAX));
    add(
        "server",
        scope.shared.server.clone(),
        json!(scope.shared.server),
    );
    add("version", version.to_owned(), json!(version));
    add(
        "process",
        std::process::id().to_string(),
        json!(std::process::id()),
    );
    add("running", format!("for {span}"), json!(up));
    add("users", users.to_string(), json!(users));
    let told = format!("{networks}, {connected} connected ({ipv6} over IPv6, {ipv4} over IPv4)");
    let value = json!({"all": networks, "connected": connected, "ipv6": ipv6, "ipv4": ipv4});
    add("networks", told, value);
    add("clients", clients.to_string(), json!(clients));
    out.table(table).await;
    Ok(())
}

/// Tells something to all clients.
pub(super) async fn notice(scope: &Scope<'_>, notice: &str, out: &mut Out) -> Done {
    let mut clients = 0;
    for user in scope.directory.users() {
        for network in user.networks.iter().chain([&user.lobby]) {
            let line = user.board.line(&network.config.name);
            let attached = line.map_or(0, |status| status.clients.len());
            let order = Order::Notice(notice.to_owned());
            if attached > 0 && order_of(network, order).await.is_ok() {
                clients += attached;
            }
        }
    }
    let told = text::count(clients as u64, "client");
    out.say(format!("told {told}")).await;
    Ok(())
}

/// Reads the file again, or tells what that would do.
pub(super) async fn reload(scope: &Scope<'_>, dry: bool, out: &mut Out) -> Done {
    let reloaded = match scope.shared.bouncer.reload(dry).await {
        Ok(reloaded) => reloaded,
        Err(mut wrong) => {
            let last = wrong.pop().unwrap_or_default();
            out.say_all(wrong).await;
            return Err(Refused(format!("{last}; nothing was changed")));
        }
    };
    let tense = if dry { "would be " } else { "" };
    for change in &reloaded.changes {
        let values = fields([("change", change.clone().into())]);
        out.row(change.clone(), values).await;
    }
    for network in &reloaded.reconnects {
        let values = fields([("reconnects", network.clone().into())]);
        out.row(format!("{network}: {tense}connected anew"), values)
            .await;
    }
    for key in &reloaded.restart {
        let values = fields([("restart", key.clone().into())]);
        out.row(format!("{key}: {tense}applied at the next start"), values)
            .await;
    }
    for warning in &reloaded.warnings {
        out.say(format!("note: {}", warning.without_level())).await;
    }
    out.say(match (dry, out.is_empty()) {
        (true, true) => "nothing would change",
        (true, false) => "nothing was changed: this was a dry run",
        (false, true) => "the configuration was read again; nothing changed",
        (false, false) => "the configuration was read again and applied",
    })
    .await;
    Ok(())
}

/// Has the log tell everything, or what it told before.
pub(super) async fn debug(scope: &Scope<'_>, on: bool, out: &mut Out) -> Done {
    scope.shared.bouncer.debug(on).await;
    out.say(match on {
        true => "the log tells everything",
        false => "the log tells what the configuration says",
    })
    .await;
    Ok(())
}

/// The whole configuration in force.
pub(super) async fn dump(scope: &Scope<'_>, secrets: bool, out: &mut Out) -> Done {
    let Some(text) = scope.shared.bouncer.dump(secrets).await else {
        return Err(Refused("carom is stopping".to_owned()));
    };
    out.say_all(text.lines().map(str::to_owned)).await;
    Ok(())
}
