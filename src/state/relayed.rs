//! Batches of the server that stand for themselves (netsplit, netjoin, a list, others): their lines are shown as they
//! come, in a batch of ours to clients that know batches. It is opened for a client with the first line that it gets
//! of it, so that nobody sees a reference that he does not know, and closed with the link at the latest.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::{Cap, Line, LineBuilder, latin1};

use super::Network;
use super::families::Family;
use super::feature::Received;
use super::turn::{Action, Audience, ClientId, Turn};

/// At most so many are passed on at a time; the lines of others come without a batch.
const MAX_OPEN: usize = 64;
/// No reference is so long, and no type with what it is about.
const MAX_TEXT: usize = 256;
/// Batches within batches, at most.
const MAX_DEPTH: usize = 8;

/// Those that are open, by the server's references.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Relayed {
    last: u64,
    open: BTreeMap<String, Batch>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Batch {
    /// Its reference for clients.
    #[serde(with = "latin1")]
    name: Bytes,
    /// Who speaks in it.
    #[serde(with = "latin1")]
    source: Bytes,
    /// Its type and what it is about.
    #[serde(with = "latin1")]
    about: Bytes,
    /// The server's reference of the one around it.
    outer: Option<String>,
    /// For whom it was opened.
    told: BTreeSet<ClientId>,
}

/// The batch of a line, as the server calls it.
fn batch_of(line: &Line<'_>) -> Option<String> {
    let reference = line.tags().get(b"batch")?;
    Some(latin1::to_string(&reference))
}

impl Relayed {
    /// Itself and those around it, the outermost first.
    fn around(&self, reference: &str) -> Vec<&Batch> {
        let mut found = Vec::new();
        let mut next = self.open.get(reference);
        while let Some(batch) = next.filter(|_| found.len() <= MAX_DEPTH) {
            found.push(batch);
            next = batch.outer.as_ref().and_then(|outer| self.open.get(outer));
        }
        found.reverse();
        found
    }

    fn outer_of(&self, batch: &Batch) -> Option<&Batch> {
        self.open.get(batch.outer.as_ref()?)
    }
}

impl Network {
    /// BATCH of the server, but for messages of several lines.
    pub(super) fn on_batch(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let line = &received.line;
        let Some((sign, reference)) = line.param(0).unwrap_or_default().split_first() else {
            return;
        };
        let reference = latin1::to_string(reference);
        match (sign, line.param(1)) {
            (b'+', Some(kind)) if kind != b"labeled-response" => {
                self.open_relayed(reference, received, turn);
            }
            (b'-', _) => self.close_relayed(&reference, true, turn),
            _ => {}
        }
    }

    fn open_relayed(&mut self, reference: String, received: &Received<'_>, turn: &mut Turn) {
        let line = &received.line;
        let about = line.rest(1);
        if self.is_under_label(turn) {
            let is_outermost = line.tags().get(b"label").is_some();
            if is_outermost {
                self.name_answer(about, turn);
            }
            return;
        }
        // A reference that is used again names another batch from now on.
        self.close_relayed(&reference, false, turn);
        let outer = batch_of(line).filter(|outer| self.relayed.open.contains_key(outer));
        let depth = outer.as_deref().map(|o| self.relayed.around(o).len());
        let full = self.relayed.open.len() >= MAX_OPEN || depth.unwrap_or(0) >= MAX_DEPTH;
        if full || reference.len() > MAX_TEXT || about.len() > MAX_TEXT {
            return;
        }
        let source = match line.source() {
            b"" => self.settings.server.as_bytes(),
            source => source,
        };
        self.relayed.last += 1;
        let batch = Batch {
            name: format!("up{}", self.relayed.last).into(),
            source: Bytes::copy_from_slice(source),
            about: Bytes::copy_from_slice(about),
            outer,
            told: BTreeSet::new(),
        };
        self.relayed.open.insert(reference, batch);
    }

    /// Whether the line at hand answers a line of a client that has a label: that answer has a batch of its own.
    fn is_under_label(&self, turn: &Turn) -> bool {
        let request = turn.answers.and_then(|answers| answers.request);
        let request = request.and_then(|id| self.pending.requests.get(&id));
        request.is_some_and(|request| request.reply.is_some())
    }

    /// Where the server's answer to a labelled line is a batch with a type of its own ours has that type.
    fn name_answer(&mut self, about: &[u8], turn: &Turn) {
        let request = turn.answers.and_then(|answers| answers.request);
        let request = request.and_then(|id| self.pending.requests.get(&id));
        let reply = request.and_then(|request| request.reply);
        if about.len() <= MAX_TEXT {
            self.replies.name(reply, about);
        }
    }

    /// Those within it end first. `whole`: the server says so itself.
    fn close_relayed(&mut self, reference: &str, whole: bool, turn: &mut Turn) {
        let open = &self.relayed.open;
        let within = open
            .iter()
            .filter(|(_, b)| b.outer.as_deref() == Some(reference));
        let within: Vec<String> = within.map(|(name, _)| name.clone()).collect();
        for inner in within {
            self.close_relayed(&inner, false, turn);
        }
        if whole {
            self.show_empty_list(reference, turn);
        }
        let Some(batch) = self.relayed.open.remove(reference) else {
            return;
        };
        let end =
            LineBuilder::from(&batch.source, b"BATCH").param(&[b"-", &batch.name[..]].concat());
        self.tell_within(&batch, &batch.told, end.build(), turn);
    }

    /// An answer that is an empty batch is an answer.
    fn show_empty_list(&mut self, reference: &str, turn: &mut Turn) {
        let Some(batch) = self.relayed.open.get(reference) else {
            return;
        };
        let is_list = batch.about.starts_with(b"metadata") && batch.told.is_empty();
        let question = self.question_at_hand(Family::Metadata, turn);
        let about = batch.about.split(|b| *b == b' ').nth(1).unwrap_or_default();
        let Some((_, request)) = question.filter(|(_, request)| is_list && request.names(about))
        else {
            return;
        };
        let (asker, reply, about) = (request.asker, request.reply, batch.about.clone());
        self.replies.name(reply, &about);
        let knows = |id: &ClientId| self.clients.get(id).is_some_and(|c| c.caps.has(Cap::Batch));
        if let Some(asker) = asker.filter(|id| reply.is_none() && knows(id)) {
            self.open_for(reference, &[asker], turn);
        }
    }

    /// BATCH itself, to clients for whom the batch is open or is to be; in the one around it.
    fn tell_within(&self, batch: &Batch, to: &BTreeSet<ClientId>, line: Bytes, turn: &mut Turn) {
        let outer = self.relayed.outer_of(batch);
        let is_inside = |id: &ClientId| outer.is_some_and(|outer| outer.told.contains(id));
        let here = to
            .iter()
            .filter(|id| self.clients.contains_key(id))
            .copied();
        let (inside, outside): (Vec<ClientId>, Vec<ClientId>) = here.partition(is_inside);
        if let Some(outer) = outer.filter(|_| !inside.is_empty()) {
            turn.within(inside.into(), line.clone(), outer.name.clone());
        }
        if !outside.is_empty() {
            turn.deliver(Audience::Only(outside.into()), line);
        }
    }

    /// Opens a batch, and those around it, for clients for whom it is not open yet.
    fn open_for(&mut self, reference: &str, clients: &[ClientId], turn: &mut Turn) {
        let Some(batch) = self.relayed.open.get(reference) else {
            return;
        };
        let new = clients.iter().filter(|id| !batch.told.contains(id));
        let new: BTreeSet<ClientId> = new.copied().collect();
        if new.is_empty() {
            return;
        }
        if let Some(outer) = batch.outer.clone() {
            let all: Vec<ClientId> = new.iter().copied().collect();
            self.open_for(&outer, &all, turn);
        }
        let Some(batch) = self.relayed.open.get(reference) else {
            return;
        };
        let head =
            LineBuilder::from(&batch.source, b"BATCH").param(&[b"+", &batch.name[..]].concat());
        let line = [&head.build()[..], b" ", &batch.about].concat();
        self.tell_within(batch, &new, line.into(), turn);
        if let Some(batch) = self.relayed.open.get_mut(reference) {
            batch.told.extend(new);
        }
    }

    /// What a line of a batch led to since `start`: the line itself is shown in the batch.
    pub(super) fn show_within(&mut self, received: &Received<'_>, start: usize, turn: &mut Turn) {
        if self.relayed.open.is_empty() || received.line.raw_tags().is_empty() {
            return;
        }
        let known = |name: &String| self.relayed.open.contains_key(name);
        let Some(reference) = batch_of(&received.line).filter(known) else {
            return;
        };
        if self.is_under_label(turn) {
            let about = self.relayed.open.get(&reference).map(|b| b.about.clone());
            return self.name_answer(&about.unwrap_or_default(), turn);
        }
        let (source, command) = (received.line.source(), received.line.command());
        let is_it = |line: &[u8]| {
            let line = Line::parse(line).ok();
            line.is_some_and(|line| line.source() == source && line.is(command))
        };
        for action in turn.actions.split_off(start) {
            let Action::Deliver { to, line, entries } = action else {
                turn.push(action);
                continue;
            };
            let inside = match is_it(&line.line) {
                true => self.insiders(&reference, &to, &line),
                false => Vec::new(),
            };
            if inside.is_empty() {
                turn.push(Action::Deliver { to, line, entries });
                continue;
            }
            self.open_for(&reference, &inside, turn);
            let outside = self.clients.keys().copied();
            let outside = outside.filter(|id| to.reaches(*id) && !inside.contains(id));
            let outside: Box<[ClientId]> = outside.collect();
            if !outside.is_empty() {
                turn.push(Action::Deliver {
                    to: Audience::Only(outside),
                    line: line.clone(),
                    entries,
                });
            }
            let Some(batch) = self.relayed.open.get(&reference) else {
                continue;
            };
            turn.push(Action::Within {
                to: inside.into(),
                line,
                entries,
                batch: batch.name.clone(),
            });
        }
    }

    /// Who of these gets the line in a batch: who knows batches. For a line that is not for it none is opened.
    fn insiders(&self, reference: &str, to: &Audience, line: &super::Shown) -> Vec<ClientId> {
        let Some(batch) = self.relayed.open.get(reference) else {
            return Vec::new();
        };
        let clients = self.clients.iter().filter(|(id, client)| {
            to.reaches(**id)
                && client.caps.has(Cap::Batch)
                && (batch.told.contains(id) || super::labels::is_visible(line, client.view()))
        });
        clients.map(|(id, _)| *id).collect()
    }

    /// The link is gone: what is open is closed.
    pub(super) fn end_relayed(&mut self, turn: &mut Turn) {
        while let Some(reference) = self.relayed.open.keys().next().cloned() {
            self.close_relayed(&reference, false, turn);
        }
    }

    /// A client is gone.
    pub(super) fn forget_relayed(&mut self, client: ClientId) {
        for batch in self.relayed.open.values_mut() {
            batch.told.remove(&client);
        }
    }
}
