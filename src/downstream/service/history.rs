//! Readings of the log that are asked for in words: search, size, export, replay. Long answers are read page by page, as
//! fast as whoever asked takes them.

use std::time::Duration;

use tokio::time::timeout;

use crate::clock;
use crate::command::{Back, Export, Find};
use crate::config::HistoryRules;
use crate::history::{Anchor, Entry, EntryId, Ids, Log, Only, Search, Selected, Selection, Span};
use crate::mailbox::NetworkHandle;
use crate::state::Plan;
use crate::state::orders::{Order, Outcome, TargetStatus};
use crate::wire::Timestamp;

use super::super::pages::{self, LINES};
use super::out::{Out, Table, fields};
use super::scope::Scope;
use super::{Done, Refused, order_of, text};

/// So long may it take to store what was said last.
const PATIENCE: Duration = Duration::from_secs(5);
/// More targets are not replayed at a time.
const TARGETS: usize = 500;
/// More lines than a log has.
const ALL: usize = 1 << 40;

/// A network's log, with everything in it that was said until now.
async fn log(network: &NetworkHandle, target: &str) -> Result<(Log, TargetStatus), Refused> {
    let order = Order::Target(target.as_bytes().to_vec().into());
    let (Some(running), Outcome::Target(target)) =
        (network.running(), order_of(network, order).await?)
    else {
        return Err(Refused("the network is not running".to_owned()));
    };
    let mut settled = running.log.settled();
    let stored = settled.wait_for(|settled| *settled >= target.head);
    match timeout(PATIENCE, stored).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => return Err(Refused("the network is stopping".to_owned())),
        Err(_) => return Err(Refused("the store is not keeping up: try again".to_owned())),
    }
    drop(settled);
    Ok((running.log, target))
}

/// The lines that are found, the newest last.
pub(super) async fn search(scope: &Scope<'_>, find: Find, out: &mut Out) -> Done {
    let (log, _) = log(scope.network()?, "").await?;
    let now = clock().time;
    let search = Search {
        words: find.text,
        target: find.target.map(Into::into),
        from: find.from.map(Into::into),
        after: find.after.map(|after| after.since(now)),
        before: find.before.map(|before| before.since(now)),
        limit: find.limit,
    };
    let found = log.search(search).await?;
    if found.is_empty() {
        out.say("nothing was found").await;
    }
    for entry in &found {
        say(entry, out).await;
    }
    Ok(())
}

/// A stored line, with its time and target.
async fn say(entry: &Entry, out: &mut Out) {
    let (time, target) = (text::time(entry.time), entry.target.to_text());
    let said = text::said(entry);
    out.row(format!("[{time}] {target} {said}"), text::entry(entry))
        .await;
}

/// How much each network holds.
pub(super) async fn size(scope: &Scope<'_>, out: &mut Out) -> Done {
    let mut table = Table::default();
    let (mut entries, mut bytes) = (0, 0);
    let user = scope.user()?;
    for network in &user.networks {
        let Some(running) = network.running() else {
            continue;
        };
        let size = running.log.size().await?;
        entries += size.entries;
        bytes += size.bytes;
        let name = &network.config.name;
        let span = match (size.oldest, size.newest) {
            (Some(oldest), Some(newest)) => {
                format!("{} to {} UTC", text::time(oldest), text::time(newest))
            }
            _ => "nothing yet".to_owned(),
        };
        let cells = [
            format!("{name}:"),
            text::count(size.entries, "line") + ",",
            format!("about {},", text::bytes(size.bytes)),
            span,
        ];
        let time = |at: Option<Timestamp>| at.map(text::exact).into();
        let values = fields([
            ("user", user.name.clone().into()),
            ("network", name.clone().into()),
            ("lines", size.entries.into()),
            ("bytes", size.bytes.into()),
            ("oldest", time(size.oldest)),
            ("newest", time(size.newest)),
        ]);
        table.add(cells, values);
    }
    out.table(table).await;
    let (lines, bytes) = (text::count(entries, "line"), text::bytes(bytes));
    out.say(format!("in all: {lines}, about {bytes}")).await;
    Ok(())
}

/// All lines of a target.
pub(super) async fn export(scope: &Scope<'_>, export: Export, out: &mut Out) -> Done {
    let (log, target) = log(scope.network()?, &export.target).await?;
    let now = clock().time;
    let bounds = Bounds {
        after: export.after.map(|after| after.since(now)),
        before: export.before.map(|before| before.since(now)),
    };
    let window = Ids {
        first: first_after(&log, &target, bounds.after).await?,
        last: target.head,
    };
    let told = read(
        &log,
        &target,
        window,
        Only::All,
        bounds,
        |entry| match export.json {
            true => Form::Json(entry),
            false => Form::Text(entry),
        },
    );
    if told.run(out).await? == 0 {
        out.say(format!("{}: nothing is stored", export.target))
            .await;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Bounds {
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

enum Form {
    Text(Entry),
    Json(Entry),
}

/// A reading under way.
struct Reading<'a, F> {
    log: &'a Log,
    target: &'a TargetStatus,
    window: Ids,
    kinds: Only,
    bounds: Bounds,
    form: F,
}

fn read<'a, F: Fn(Entry) -> Form>(
    log: &'a Log,
    target: &'a TargetStatus,
    window: Ids,
    kinds: Only,
    bounds: Bounds,
    form: F,
) -> Reading<'a, F> {
    Reading {
        log,
        target,
        window,
        kinds,
        bounds,
        form,
    }
}

impl<F: Fn(Entry) -> Form> Reading<'_, F> {
    /// Reads on as whoever asked takes it. Returns how many lines there were.
    async fn run(mut self, out: &mut Out) -> Result<usize, Refused> {
        let mut count = 0;
        while self.window.first <= self.window.last && !out.is_closed() {
            let page = self
                .log
                .by_target(&self.target.name, self.window, self.kinds, LINES);
            let page = page.await?;
            let Some(last) = page.last().map(|entry| entry.id) else {
                break;
            };
            for entry in page {
                if self
                    .bounds
                    .before
                    .is_some_and(|before| entry.time >= before)
                {
                    return Ok(count);
                }
                if self.bounds.after.is_none_or(|after| entry.time > after) {
                    tell((self.form)(entry), out).await;
                    count += 1;
                }
            }
            self.window.first = last.next();
        }
        Ok(count)
    }
}

async fn tell(form: Form, out: &mut Out) {
    match form {
        Form::Text(entry) => {
            for entry in pages::unfolded(entry) {
                let (time, said) = (text::time(entry.time), text::said(&entry));
                let line = format!("[{time}] {said}");
                out.row(line, text::entry(&entry)).await;
            }
        }
        Form::Json(entry) => {
            for entry in pages::unfolded(entry) {
                let values = text::entry(&entry);
                let line = serde_json::Value::Object(values.clone()).to_string();
                out.row(line, values).await;
            }
        }
    }
}

/// The first line of a target after a time.
async fn first_after(
    log: &Log,
    target: &TargetStatus,
    after: Option<Timestamp>,
) -> Result<EntryId, Refused> {
    let Some(after) = after else {
        return Ok(EntryId(1));
    };
    let selection = Selection {
        target: target.name.folded().collect::<Vec<_>>().into(),
        span: Span::After(Anchor::Time(after)),
        limit: 1,
        kinds: Only::All,
    };
    Ok(match log.select(selection).await? {
        Selected::Window(ids) => ids.first,
        Selected::Nothing | Selected::UnknownMsgid => target.head.next(),
    })
}

/// What was said in a target, or in all, once more.
pub(super) async fn replay(
    scope: &Scope<'_>,
    target: Option<String>,
    back: Back,
    out: &mut Out,
) -> Done {
    let network = scope.network()?;
    let targets = match target {
        Some(target) => vec![target],
        None => all_targets(network, back).await?,
    };
    let mut told = false;
    for name in targets {
        told |= replay_one(network, &name, back, out).await?;
    }
    if told {
        return Ok(());
    }
    out.say("nothing was said there").await;
    Ok(())
}

async fn all_targets(network: &NetworkHandle, back: Back) -> Result<Vec<String>, Refused> {
    let (log, target) = log(network, "").await?;
    let now = clock().time;
    let since = match back {
        Back::For(span) => crate::command::When::Ago(span).since(now),
        Back::Lines(_) => Timestamp::from_millis(0),
    };
    let kinds = kinds(&target.rules);
    let found = log
        .targets(since, now.plus_millis(1000), TARGETS, kinds)
        .await?;
    Ok(found
        .into_iter()
        .map(|(target, _)| text::lossy(&target))
        .collect())
}

fn kinds(rules: &HistoryRules) -> Only {
    match rules.only_messages {
        true => Only::Messages,
        false => Only::All,
    }
}

/// False: there is nothing.
async fn replay_one(
    network: &NetworkHandle,
    name: &str,
    back: Back,
    out: &mut Out,
) -> Result<bool, Refused> {
    let (log, target) = log(network, name).await?;
    let kinds = kinds(&target.rules);
    let (after, limit) = match back {
        Back::Lines(lines) => (None, lines),
        Back::For(span) => {
            let since = crate::command::When::Ago(span).since(clock().time);
            (Some(Anchor::Time(since)), ALL)
        }
    };
    let selection = Selection {
        target: target.name.folded().collect::<Vec<_>>().into(),
        span: Span::Latest(after),
        limit,
        kinds,
    };
    let Selected::Window(window) = log.select(selection).await? else {
        return Ok(false);
    };
    let plan = Plan {
        target: target.name.clone(),
        after: window.first.before(),
        through: window.last,
        newest: 0,
        only_messages: target.rules.only_messages,
        timestamps: target.rules.timestamps.clone(),
        own: target.own.clone(),
        not_by: None,
        renamed: None,
    };
    if !out.replay(plan).await {
        let bounds = Bounds {
            after: None,
            before: None,
        };
        read(&log, &target, window, kinds, bounds, Form::Text)
            .run(out)
            .await?;
    }
    Ok(true)
}
