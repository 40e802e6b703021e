//! Labels of clients (labeled-response): each is answered exactly once, by one line, a batch or ACK. Features tell
//! clients what they have to tell and know nothing of it: what an input led to is labelled here, afterwards.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::{Cap, Line, LineBuilder, Tags, latin1, tags};

use super::Network;
use super::feature::{Feature, NOTHING, Offer, Source};
use super::forms::{self, Dress};
use super::turn::{Action, Ask, Audience, ClientId, Item, Shown, Turn, View, Worn};

pub(super) static LABELS: Feature = Feature {
    offers: &[Offer(Cap::LabeledResponse, Source::Ours)],
    server: &[],
    ..NOTHING
};

/// No label is longer; one that is is none.
const MAX_LABEL: usize = 64;

/// A label that waits for its answer.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub(super) struct ReplyId(u64);

/// The labels that wait for their answers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Replies {
    last: u64,
    open: BTreeMap<ReplyId, Reply>,
}

/// The answer to one labelled line, as far as it has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Reply {
    to: ClientId,
    /// As the client wrote it.
    #[serde(with = "latin1")]
    label: Bytes,
    /// So many lines for the server are still to be dealt with.
    parts: u32,
    begun: Begun,
    /// The type of the batch, and what it is about, where the server gave it one of its own.
    #[serde(with = "latin1::option")]
    named: Option<Bytes>,
}

/// What the client has seen of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Begun {
    Nothing,
    /// A batch, which is to be closed.
    Batch,
    /// All of it.
    Line,
}

impl Replies {
    /// A client is gone, and nobody waits for its answers.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.open.retain(|_, reply| reply.to != client);
    }

    /// So many more lines for the server belong to the answer.
    pub(super) fn expect(&mut self, id: Option<ReplyId>, parts: usize) {
        if let Some(reply) = id.and_then(|id| self.open.get_mut(&id)) {
            reply.parts += u32::try_from(parts).unwrap_or(u32::MAX);
        }
    }

    /// The answer is a batch of this type: all of it, or none.
    pub(super) fn name(&mut self, id: Option<ReplyId>, about: &[u8]) {
        if let Some(reply) = id.and_then(|id| self.open.get_mut(&id))
            && reply.begun == Begun::Nothing
            && reply.parts <= 1
            && !about.is_empty()
        {
            reply.named = Some(Bytes::copy_from_slice(about));
        }
    }

    /// Whether nobody waits for any.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether nothing but what is at hand is still to come.
    pub(super) fn is_last_part(&self, id: ReplyId) -> bool {
        self.open.get(&id).is_some_and(|reply| reply.parts <= 1)
    }
}

/// The label of a line, when it is one: bytes that could be no tag's value are none.
fn label_of(line: &Line<'_>) -> Option<Bytes> {
    if line.raw_tags().is_empty() {
        return None;
    }
    let (_, label) = Tags::new(line.raw_tags())
        .filter(|(key, _)| *key == b"label")
        .last()?;
    let fits = (1..=MAX_LABEL).contains(&tags::unescape(label).len());
    (fits && std::str::from_utf8(label).is_ok()).then(|| Bytes::copy_from_slice(label))
}

fn batch_of(id: ReplyId) -> Bytes {
    format!("l{}", id.0).into()
}

impl Network {
    /// A client's line comes in: whether its label is to be answered.
    pub(super) fn begin_reply(&mut self, from: ClientId, line: &Line<'_>) -> Option<ReplyId> {
        let caps = self.clients.get(&from)?.caps;
        // An answer of several lines could not be labelled without batches.
        if !caps.has(Cap::LabeledResponse) || !caps.has(Cap::Batch) {
            return None;
        }
        let label = label_of(line)?;
        self.replies.last += 1;
        let id = ReplyId(self.replies.last);
        let reply = Reply {
            to: from,
            label,
            parts: 0,
            begun: Begun::Nothing,
            named: None,
        };
        self.replies.open.insert(id, reply);
        Some(id)
    }

    /// Labels what a rule led to. Unless something went to the server for it, that is the whole answer.
    pub(super) fn label_answer(&mut self, id: ReplyId, start: usize, turn: &mut Turn) {
        let whole = self.replies.open.get(&id).is_some_and(|r| r.parts == 0);
        if whole && self.label_item(id, start, turn) {
            return;
        }
        self.label_lines(id, start, whole, turn);
        if whole {
            self.end_reply(id, turn);
        }
    }

    /// A question that the client's writer answers takes the label with it. True: there is one.
    fn label_item(&mut self, id: ReplyId, start: usize, turn: &mut Turn) -> bool {
        let Some(reply) = self.replies.open.get(&id) else {
            return false;
        };
        let question = turn.actions[start..].iter_mut().find_map(|action| {
            let Action::Put(to, Item::Ask { ask, label, .. }) = action else {
                return None;
            };
            (*to == reply.to && !matches!(ask, Ask::Replay(_))).then_some(label)
        });
        let Some(label) = question else { return false };
        *label = Some(reply.label.clone());
        self.replies.open.remove(&id);
        true
    }

    /// Labels the lines since `start` that reach the asker. `last`: none of the answer follows them.
    pub(super) fn label_lines(&mut self, id: ReplyId, start: usize, last: bool, turn: &mut Turn) {
        let Some(reply) = self.replies.open.get(&id) else {
            return;
        };
        let Some(client) = self.clients.get(&reply.to) else {
            return;
        };
        let (to, view, begun) = (reply.to, client.view(), reply.begun);
        let is_told = |action: &Action| match action {
            Action::Deliver { to: all, line, .. } => all.reaches(to) && is_visible(line, view),
            _ => false,
        };
        let told = turn.actions[start..].iter().filter(|a| is_told(a)).count();
        if told == 0 {
            return;
        }
        let label = Some(reply.label.clone()).filter(|_| begun == Begun::Nothing);
        let named = reply.named.clone();
        let single = last && told == 1 && begun == Begun::Nothing && named.is_none();
        let (mut opening, worn) = if single {
            let worn = Worn { label, batch: None };
            (None, worn)
        } else {
            let batch = Some(batch_of(id));
            (label, Worn { label: None, batch })
        };
        for action in turn.actions.split_off(start) {
            if !is_told(&action) {
                turn.push(action);
                continue;
            }
            if let Some(label) = opening.take() {
                self.open_batch(id, to, label, named.as_deref(), turn);
            }
            if let Action::Deliver {
                to: all,
                line,
                entries,
            } = action
            {
                let (line, worn) = (line, worn.clone());
                if let Some(others) = self.without(all, to) {
                    turn.push(Action::Deliver {
                        to: others,
                        line: line.clone(),
                        entries,
                    });
                }
                turn.push(Action::Reply {
                    to,
                    line,
                    entries,
                    worn,
                });
            }
        }
        if let Some(reply) = self.replies.open.get_mut(&id) {
            reply.begun = if single { Begun::Line } else { Begun::Batch };
        }
    }

    /// An audience but for one client; `None`: nobody else is in it.
    fn without(&self, all: Audience, client: ClientId) -> Option<Audience> {
        let rest: Box<[ClientId]> = match all {
            Audience::All => return Some(Audience::Except(client)),
            Audience::One(_) => return None,
            Audience::Except(other) => {
                let rest = self.clients.keys().filter(|id| **id != other);
                rest.copied().filter(|id| *id != client).collect()
            }
            Audience::Only(some) => some.iter().copied().filter(|id| *id != client).collect(),
        };
        (!rest.is_empty()).then_some(Audience::Only(rest))
    }

    fn open_batch(
        &self,
        id: ReplyId,
        to: ClientId,
        label: Bytes,
        named: Option<&[u8]>,
        turn: &mut Turn,
    ) {
        let reference = [b"+", &batch_of(id)[..]].concat();
        let line = LineBuilder::from(self.settings.server.as_bytes(), b"BATCH").param(&reference);
        let worn = Worn {
            label: Some(label),
            batch: None,
        };
        let about = named.unwrap_or(b"labeled-response");
        turn.reply(to, [&line.build()[..], b" ", about].concat().into(), worn);
    }

    fn close_batch(&self, id: ReplyId, to: ClientId, turn: &mut Turn) {
        let reference = [b"-", &batch_of(id)[..]].concat();
        let line = LineBuilder::from(self.settings.server.as_bytes(), b"BATCH").param(&reference);
        turn.tell(to, line.build());
    }

    /// One of the lines for the server is dealt with; with the last of them the answer ends.
    pub(super) fn part_done(&mut self, id: ReplyId, turn: &mut Turn) {
        let Some(reply) = self.replies.open.get_mut(&id) else {
            return;
        };
        reply.parts = reply.parts.saturating_sub(1);
        if reply.parts == 0 {
            self.end_reply(id, turn);
        }
    }

    /// Nothing follows: the batch is closed; an answer that says nothing is an ACK.
    fn end_reply(&mut self, id: ReplyId, turn: &mut Turn) {
        let Some(reply) = self.replies.open.remove(&id) else {
            return;
        };
        match (reply.begun, reply.named) {
            (Begun::Line, _) => {}
            (Begun::Batch, _) => self.close_batch(id, reply.to, turn),
            (Begun::Nothing, Some(named)) => {
                self.open_batch(id, reply.to, reply.label, Some(&named), turn);
                self.close_batch(id, reply.to, turn);
            }
            (Begun::Nothing, None) => {
                let worn = Worn {
                    label: Some(reply.label),
                    batch: None,
                };
                let server = self.settings.server.as_bytes();
                turn.reply(reply.to, LineBuilder::from(server, b"ACK").build(), worn);
            }
        }
    }

    /// Whatever is left has its end.
    pub(super) fn end_replies(&mut self, turn: &mut Turn) {
        let left: Vec<ReplyId> = self.replies.open.keys().copied().collect();
        left.into_iter().for_each(|id| self.end_reply(id, turn));
    }
}

/// Whether a line has a form for such a client.
pub(super) fn is_visible(line: &Shown, view: View) -> bool {
    let mut out = Vec::new();
    forms::encode(line, view, Dress::default(), &mut out);
    !out.is_empty()
}

impl Audience {
    /// Whether a client that is admitted is among them.
    pub(super) fn reaches(&self, client: ClientId) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => *one == client,
            Self::Except(other) => *other != client,
            Self::Only(some) => some.contains(&client),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(tags: &str) -> Option<String> {
        let line = format!("{tags} PING x");
        let label = label_of(&Line::parse(line.as_bytes()).unwrap());
        label.map(|l| String::from_utf8(l.to_vec()).unwrap())
    }

    #[test]
    fn a_label_is_one_to_64_bytes_and_the_last_one_counts() {
        assert_eq!(label("@label=x1").as_deref(), Some("x1"));
        assert_eq!(label("@label=a;label=b").as_deref(), Some("b"));
        assert_eq!(label("@label=a\\sb").as_deref(), Some("a\\sb"));
        assert_eq!(label("@label="), None);
        assert_eq!(label("@label"), None);
        assert_eq!(label("@Label=x"), None);
        assert!(label(&format!("@label={}", "x".repeat(64))).is_some());
        assert_eq!(label(&format!("@label={}", "x".repeat(65))), None);
    }
}
