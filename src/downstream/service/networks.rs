//! What there is to say of networks and channels: how they are connected, what was tried, what comes next. The words
//! about attempts are `explain`'s.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::clock;
use crate::config::{Detaching, Replay, Sasl, Which};
use crate::control::Fields;
use crate::directory::{Explain, User};
use crate::mailbox::NetworkHandle;
use crate::state::orders::{ChannelStatus, Details, Order, Outcome};
use crate::state::{Hidden, LinkStatus, NetworkStatus, StorageStatus, Why};

use super::out::{Out, Table, fields};
use super::scope::Scope;
use super::{Done, Refused, explain as attempts, order_of, text};

/// So long may a server take to answer a PING before the status is told without.
const LAG: Duration = Duration::from_secs(2);

/// The networks, a row each. One that is named, in full.
pub(super) async fn status(scope: &Scope<'_>, in_full: bool, out: &mut Out) -> Done {
    let mut table = Table::default();
    for user in &scope.users {
        for network in meant(scope, user) {
            let status = user.board.line(&network.config.name);
            let whose = scope.whose_is(user);
            let cells = cells(&whose, network, status.as_ref());
            table.add(cells, values(user, network, status.as_ref()));
        }
    }
    if table.is_empty() {
        out.say("no networks").await;
    }
    out.table(table).await;
    if scope.named.is_none() || !in_full {
        return Ok(());
    }
    for user in &scope.users {
        for network in meant(scope, user) {
            details(scope, user, network, out).await;
        }
    }
    Ok(())
}

/// The networks of a user that are meant.
fn meant<'a>(scope: &'a Scope<'_>, user: &'a User) -> impl Iterator<Item = &'a NetworkHandle> {
    let wanted = scope.named.as_deref();
    let networks = user.networks.iter();
    networks.filter(move |network| wanted.is_none_or(|name| network.config.name == name))
}

fn cells(whose: &str, network: &NetworkHandle, status: Option<&NetworkStatus>) -> Vec<String> {
    let name = &network.config.name;
    let state = status.map_or_else(|| "not running; the log says why".to_owned(), state);
    vec![format!("{whose}{name}:"), state]
}

/// How a network is doing, in a line.
pub(super) fn state(status: &NetworkStatus) -> String {
    format!("{}{}", link(status), storage(status.storage))
}

/// What there is to say about storing; nothing when all is well.
fn storage(storage: StorageStatus) -> String {
    let told = |lines: u64, what: &str| match lines {
        0 => String::new(),
        lines => format!("; {} {what}", text::count(lines, "line")),
    };
    told(storage.early, "shown before being stored") + &told(storage.lost, "never stored")
}

fn link(status: &NetworkStatus) -> String {
    let now = clock();
    match &status.link {
        LinkStatus::Lobby => "no servers".to_owned(),
        LinkStatus::Disabled => "disabled".to_owned(),
        LinkStatus::Offline => "not connected until \"network connect\"".to_owned(),
        LinkStatus::Connecting { last } if last.is_empty() => "connecting".to_owned(),
        LinkStatus::Connecting { last } => format!("connecting (before: {last})"),
        LinkStatus::Waiting { reason, until } => {
            let wait = until.since(now.ticks).as_secs();
            format!("not connected ({reason}); next try in {wait} s")
        }
        LinkStatus::Connected { via, since } => format!(
            "connected to {via} as {} for {}, on {}",
            status.nick,
            text::span(*since, now.time),
            text::count(status.channels as u64, "channel"),
        ),
    }
}

/// The same for programs.
fn values(user: &User, network: &NetworkHandle, status: Option<&NetworkStatus>) -> Fields {
    let mut values = fields([
        ("user", user.name.clone().into()),
        ("network", network.config.name.clone().into()),
    ]);
    let mut put = |name: &str, value: Value| _ = values.insert(name.to_owned(), value);
    let Some(status) = status else {
        put("state", "stopped".into());
        return values;
    };
    put("nick", status.nick.clone().into());
    put("channels", status.channels.into());
    put("clients", status.clients.len().into());
    let state = match &status.link {
        LinkStatus::Lobby => "lobby",
        LinkStatus::Disabled => "disabled",
        LinkStatus::Offline => "offline",
        LinkStatus::Connecting { last } => {
            put("reason", last.clone().into());
            "connecting"
        }
        LinkStatus::Waiting { reason, until } => {
            put("reason", reason.clone().into());
            let wait = until.since(clock().ticks).as_secs();
            put("next_try_seconds", wait.into());
            "waiting"
        }
        LinkStatus::Connected { via, since } => {
            put("via", via.clone().into());
            put("family", status.family.clone().into());
            put("since", text::exact(*since).into());
            "connected"
        }
    };
    put("state", state.into());
    put("lines_early", status.storage.early.into());
    put("lines_lost", status.storage.lost.into());
    put("lag_ms", json!(status.lag.map(|lag| lag.millis)));
    values
}

/// Everything about one network.
async fn details(scope: &Scope<'_>, user: &User, network: &NetworkHandle, out: &mut Out) {
    let name = &network.config.name;
    let lag = lag(user, network).await;
    let Ok(Outcome::Status(details)) = order_of(network, Order::Status).await else {
        return;
    };
    let mut table = Table::default();
    let mut add = |what: &str, told: String| {
        if !told.is_empty() {
            let cells = [format!("  {what}"), told.clone()];
            let key = what.replace(' ', "_");
            table.add(
                cells,
                fields([("network", name.clone().into()), (&key, told.into())]),
            );
        }
    };
    about_link(&details, lag, &mut add);
    let next = user.board.line(name).map(|status| {
        let known = known(scope, user, network);
        let next = attempts::next(&network.config, &status, &known, clock());
        next.trim_start_matches("next: ").to_owned()
    });
    add("next", next.unwrap_or_default());
    out.table(table).await;
}

fn about_link(details: &Details, lag: Option<u64>, add: &mut impl FnMut(&str, String)) {
    let facts = &details.facts;
    add("server", facts.server.clone());
    add("address", facts.address.clone());
    add("family", facts.family.clone());
    add("protection", facts.protection.clone());
    let nick = &details.status.nick;
    let wanted = match nick == &details.wanted_nick {
        true => String::new(),
        false => format!(" (wanted: {})", details.wanted_nick),
    };
    add("nick", format!("{nick}{wanted}"));
    add("modes", details.modes.clone());
    add("account", details.account.clone().unwrap_or_default());
    if let LinkStatus::Connected { since, .. } = &details.status.link {
        let told = match lag {
            Some(millis) => format!("{millis} ms"),
            None => format!("no answer within {} s", LAG.as_secs()),
        };
        add("lag", told);
        let span = text::span(*since, clock().time);
        add(
            "connected",
            format!("for {span}, since {} UTC", text::time(*since)),
        );
        add("capabilities", details.caps.join(" "));
    }
    add("channels", details.status.channels.to_string());
    add("clients", details.status.clients.len().to_string());
    let traffic = &details.traffic;
    let amount = |lines, bytes| format!("{}, {}", text::count(lines, "line"), text::bytes(bytes));
    add(
        "received",
        amount(traffic.lines_received, traffic.bytes_received),
    );
    add("sent", amount(traffic.lines_sent, traffic.bytes_sent));
    if details.waiting > 0 {
        add(
            "waiting",
            format!("{} to be sent", text::count(details.waiting as u64, "line")),
        );
    }
}

/// How long the server takes to answer just now.
async fn lag(user: &User, network: &NetworkHandle) -> Option<u64> {
    let asked = clock().time;
    let mut lines = user.board.subscribe();
    let Ok(Outcome::Done(_)) = order_of(network, Order::MeasureLag).await else {
        return None;
    };
    let name = &network.config.name;
    let measured = |lines: &Vec<NetworkStatus>| {
        let lag = lines.iter().find(|line| &line.name == name)?.lag?;
        Some(lag.millis).filter(|_| lag.at >= asked)
    };
    let answer = timeout(LAG, lines.wait_for(|lines| measured(lines).is_some())).await;
    answer.ok()?.ok().and_then(|lines| measured(&lines))
}

/// How a network was dialled lately, as far as the caller may know.
pub(super) fn known(scope: &Scope<'_>, user: &User, network: &NetworkHandle) -> Explain {
    let known = user.board.explain(&network.config.name).unwrap_or_default();
    if network.config.trusted || scope.caller.admin {
        known
    } else {
        known.hidden()
    }
}

/// The last attempts, and what is next.
pub(super) async fn explain(scope: &Scope<'_>, out: &mut Out) -> Done {
    for user in &scope.users {
        let whose = scope.whose_is(user);
        for network in meant(scope, user) {
            let name = &network.config.name;
            let status = user.board.line(name);
            out.say(cells(&whose, network, status.as_ref()).join(" "))
                .await;
            let Some(status) = status else { continue };
            let known = known(scope, user, network);
            let told = attempts::lines(&network.config, &status, &known, clock());
            let told = told
                .into_iter()
                .map(|line| format!("{whose}{name}: {line}"));
            out.say_all(told).await;
        }
    }
    if out.is_empty() {
        out.say("no networks").await;
    }
    Ok(())
}

/// The channels of the network, or one.
pub(super) async fn channels(scope: &Scope<'_>, name: Option<String>, out: &mut Out) -> Done {
    let network = scope.network()?;
    let channels = match order_of(network, Order::Channels(name.map(Into::into))).await? {
        Outcome::Channels(channels) => channels,
        Outcome::Refused(why) => return Err(Refused(why)),
        _ => Vec::new(),
    };
    if channels.is_empty() {
        out.say(format!("{}: no channels", network.config.name))
            .await;
    }
    let mut table = Table::default();
    for channel in channels {
        let values = channel_values(&network.config.name, &channel);
        table.add(channel_cells(&channel), values);
    }
    out.table(table).await;
    Ok(())
}

fn channel_cells(channel: &ChannelStatus) -> Vec<String> {
    let here = match (channel.joined, channel.wanted) {
        (true, _) => text::count(channel.members as u64, "member"),
        (false, true) => "not joined, but wanted".to_owned(),
        (false, false) => "left".to_owned(),
    };
    let mut notes = Vec::new();
    if channel.joined && !channel.wanted {
        notes.push("not kept".to_owned());
    }
    if channel.declared {
        notes.push("configured".to_owned());
    }
    if channel.keyed {
        notes.push("with a key".to_owned());
    }
    notes.push(format!("replay {}", replay(channel)));
    notes.extend(channel.detached.map(hidden));
    notes.extend(detaching(&channel.detaching));
    vec![format!("{}:", channel.name), here + ",", notes.join(", ")]
}

/// That a channel is detached, since when and why.
fn hidden(hidden: Hidden) -> String {
    let why = match hidden.why {
        Why::Configured => "as configured",
        Why::Asked => "by you",
        Why::Silent => "it was silent",
    };
    match hidden.since {
        Some(at) => format!("detached since {} UTC ({why})", text::time(at)),
        None => format!("detached ({why})"),
    }
}

/// What of its options is not as usual.
fn detaching(options: &Detaching) -> Vec<String> {
    let usual = Detaching::default();
    let mut notes = Vec::new();
    if let Some(after) = options.after {
        let on = match options.on {
            Which::Messages => "of silence",
            Which::Highlights => "without a highlight",
            Which::None => "in any case",
        };
        let after = text::seconds(i64::try_from(after.as_secs()).unwrap_or(i64::MAX));
        notes.push(format!("detached after {after} {on}"));
    }
    if options.reattach != usual.reattach {
        notes.push(format!("attached by a {}", options.reattach.word()));
    }
    match options.relay {
        Which::Messages => notes.push("all is relayed".to_owned()),
        Which::Highlights => {}
        Which::None => notes.push("nothing is relayed".to_owned()),
    }
    notes
}

fn replay(channel: &ChannelStatus) -> String {
    let rules = &channel.rules;
    let what = match rules.replay {
        Replay::Unseen => "unseen",
        Replay::Last => "last",
        Replay::None => return "none".to_owned(),
    };
    match rules.lines {
        0 => what.to_owned(),
        n => format!("{what}, at most {}", text::count(n, "line")),
    }
}

fn channel_values(network: &str, channel: &ChannelStatus) -> Fields {
    let since = channel.detached.and_then(|hidden| hidden.since);
    let since = since.map(text::exact);
    fields([
        ("network", network.into()),
        ("channel", channel.name.clone().into()),
        ("joined", channel.joined.into()),
        ("wanted", channel.wanted.into()),
        ("declared", channel.declared.into()),
        ("keyed", channel.keyed.into()),
        ("members", channel.members.into()),
        ("replay", replay(channel).into()),
        ("detached", channel.detached.is_some().into()),
        (
            "detached_why",
            json!(channel.detached.map(|hidden| hidden.why)),
        ),
        ("detached_since", json!(since)),
    ])
}

/// How one logs in to the network's services.
pub(super) async fn sasl(scope: &Scope<'_>, out: &mut Out) -> Done {
    let network = scope.network()?;
    let name = &network.config.name;
    let configured = match &network.config.sasl {
        None => "SASL is not set".to_owned(),
        Some(sasl) => {
            let (mechanism, account) = mechanism(sasl);
            match account.is_empty() {
                true => format!("SASL {mechanism}"),
                false => format!("SASL {mechanism} as {account}"),
            }
        }
    };
    let account = match order_of(network, Order::Status).await? {
        Outcome::Status(details) => details.account,
        _ => None,
    };
    let now = match &account {
        Some(account) => format!("logged in as {account}"),
        None => "not logged in".to_owned(),
    };
    let values = fields([
        ("network", name.clone().into()),
        (
            "sasl",
            json!(network.config.sasl.as_ref().map(|sasl| mechanism(sasl).0)),
        ),
        ("account", json!(account)),
    ]);
    out.row(format!("{name}: {configured}; {now}"), values)
        .await;
    Ok(())
}

/// How the file calls it, and as whom.
fn mechanism(sasl: &Sasl) -> (&'static str, &str) {
    match sasl {
        Sasl::Plain { account, .. } => ("plain", account),
        Sasl::ScramSha256 { account, .. } => ("scram-sha-256", account),
        Sasl::External { account } => ("external", account),
    }
}
