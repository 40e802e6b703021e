//! Lines on their way to the server: paced as the network bears it, fair between clients. What is urgent
//! (PONG, registration) does not come here.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::Rate;
use crate::wire::{Line, latin1};

use super::feature::{Answer, Asked};
use super::labels::ReplyId;
use super::messages::Speaker;
use super::pending::{RequestId, Stage};
use super::turn::{Action, ClientId, Ticks, Turn};
use super::{Network, Timer};

/// Which lines go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Somebody is waiting for it.
    Interactive,
    /// Rejoins and the like: when nobody else wants to send.
    Bulk,
}

/// What one line of a client comes to: one line for the server or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Part {
    /// Others follow.
    More,
    /// With it the client's line is dealt with.
    Last,
}

/// What waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum What {
    /// A line whose answer nobody waits for.
    Line(#[serde(with = "latin1")] Bytes),
    /// Something people say, and the sender's label: stored and shown when it leaves, or when it comes back.
    Said(#[serde(with = "latin1")] Bytes, Option<ReplyId>),
    /// A message of several lines: what is said, as it is kept, and the lines that say it, one after the other.
    Compound(
        #[serde(with = "latin1")] Bytes,
        Vec<Vec<u8>>,
        Option<ReplyId>,
    ),
    /// What `pending` knows.
    Request(RequestId),
}

/// A line that waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Queued {
    what: What,
    /// Whether the client's line is dealt with when it leaves.
    part: Part,
    /// The name of the client that said it and left since; it knows what it said.
    gone: Option<String>,
}

impl Queued {
    fn new(what: What, part: Part) -> Self {
        Self {
            what,
            part,
            gone: None,
        }
    }
}

/// The queues and their pace.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Outgoing {
    rate: Rate,
    /// When the next line would be due if there were no burst (GCRA).
    due: Ticks,
    clients: BTreeMap<ClientId, VecDeque<Queued>>,
    /// Whose turn was last.
    last: ClientId,
    bulk: VecDeque<Queued>,
}

impl Outgoing {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            ..Self::default()
        }
    }

    /// Another pace, from the next line on.
    pub(super) fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
    }

    /// Whether a line may leave; if so it is counted.
    fn admit(&mut self, now: Ticks) -> bool {
        if self.rate.burst == 0 || self.rate.every.is_zero() {
            return true;
        }
        let slack = self.rate.every * (self.rate.burst - 1);
        if self.due > now.plus(slack) {
            return false;
        }
        self.due = self.due.max(now).plus(self.rate.every);
        true
    }

    /// When the next line may leave.
    fn ready_at(&self) -> Ticks {
        let slack = self.rate.every * self.rate.burst.saturating_sub(1);
        Ticks(
            self.due
                .0
                .saturating_sub(u64::try_from(slack.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// A line left that did not wait for its turn.
    pub(super) fn charge(&mut self) {
        if self.rate.burst > 0 {
            self.due = self.due.plus(self.rate.every);
        }
    }

    /// A line that was counted did not leave.
    fn refund(&mut self) {
        if self.rate.burst > 0 {
            let every = u64::try_from(self.rate.every.as_millis()).unwrap_or(u64::MAX);
            self.due = Ticks(self.due.0.saturating_sub(every));
        }
    }

    /// Whether joins and the like still wait for their turn.
    pub(super) fn has_bulk(&self) -> bool {
        !self.bulk.is_empty()
    }

    /// How many lines wait.
    pub(super) fn len(&self) -> usize {
        self.bulk.len() + self.clients.values().map(VecDeque::len).sum::<usize>()
    }

    fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.bulk.is_empty()
    }

    /// The next line: clients in turn, then bulk.
    fn next(&mut self) -> Option<(Option<ClientId>, Queued)> {
        let after = self
            .clients
            .range(ClientId(self.last.0 + 1)..)
            .next()
            .map(|(id, _)| *id);
        let Some(id) = after.or_else(|| self.clients.keys().next().copied()) else {
            return self.bulk.pop_front().map(|queued| (None, queued));
        };
        self.last = id;
        let queue = self.clients.get_mut(&id)?;
        let queued = queue.pop_front();
        if queue.is_empty() {
            self.clients.remove(&id);
        }
        queued.map(|queued| (Some(id), queued))
    }

    /// A client is gone: what it had said goes out all the same, as everything a user sent. `name`: by which it
    /// knows what it said.
    pub(super) fn forget(&mut self, client: ClientId, name: Option<&str>) {
        let queue = self.clients.remove(&client).unwrap_or_default();
        self.bulk.extend(queue.into_iter().map(|queued| Queued {
            gone: name.map(str::to_owned),
            ..queued
        }));
    }
}

impl Network {
    /// Queues a line for the server.
    pub(super) fn queue(
        &mut self,
        from: Option<ClientId>,
        lane: Lane,
        line: Bytes,
        turn: &mut Turn,
    ) {
        self.enqueue(from, lane, Queued::new(What::Line(line), Part::Last), turn);
    }

    /// Queues what a client asked.
    pub(super) fn queue_request(&mut self, id: RequestId, turn: &mut Turn) {
        let Some(request) = self.pending.requests.get_mut(&id) else {
            return;
        };
        request.stage = Stage::Queued;
        let asker = request.asker;
        let queued = Queued::new(What::Request(id), Part::Last);
        self.enqueue(asker, Lane::Interactive, queued, turn);
    }

    /// Queues what one line of a client says to people: one line, or several when there are several targets
    /// or it is too long for one.
    pub(super) fn queue_said(
        &mut self,
        asked: &Asked<'_>,
        mut lines: Vec<Bytes>,
        turn: &mut Turn,
    ) -> Answer {
        let from = asked.from;
        let Some(last) = lines.pop() else {
            return Answer::Now;
        };
        self.replies.expect(asked.reply, lines.len() + 1);
        let parts = lines.into_iter().map(|line| (line, Part::More));
        for (line, part) in parts.chain([(last, Part::Last)]) {
            let queued = Queued::new(What::Said(line, asked.reply), part);
            self.enqueue(Some(from), Lane::Interactive, queued, turn);
        }
        Answer::Later
    }

    /// Queues a message of several lines, to leave as one.
    pub(super) fn queue_compound(
        &mut self,
        from: ClientId,
        reply: Option<ReplyId>,
        said: Bytes,
        lines: Vec<Vec<u8>>,
        turn: &mut Turn,
    ) {
        self.replies.expect(reply, 1);
        let queued = Queued::new(What::Compound(said, lines, reply), Part::Last);
        self.enqueue(Some(from), Lane::Interactive, queued, turn);
    }

    fn enqueue(&mut self, from: Option<ClientId>, lane: Lane, queued: Queued, turn: &mut Turn) {
        match (lane, from) {
            (Lane::Interactive, Some(id)) => {
                self.outgoing
                    .clients
                    .entry(id)
                    .or_default()
                    .push_back(queued);
            }
            _ => self.outgoing.bulk.push_back(queued),
        }
        turn.queued = true;
        if !turn.holding {
            self.pump_queued(turn);
        }
    }

    /// Sends what was queued by this input, as far as it may be sent.
    pub(super) fn pump_queued(&mut self, turn: &mut Turn) {
        if std::mem::take(&mut turn.queued) {
            self.pump(turn);
        }
    }

    /// Sends what may be sent now.
    pub(super) fn pump(&mut self, turn: &mut Turn) {
        while !self.outgoing.is_empty() {
            if !self.outgoing.admit(turn.now.ticks) {
                return self.timers.set(Timer::Outgoing, self.outgoing.ready_at());
            }
            let Some((from, queued)) = self.outgoing.next() else {
                return;
            };
            match queued.what {
                What::Line(line) => turn.send(line),
                What::Said(line, reply) => {
                    let by = Speaker::new(from, queued.gone);
                    self.leave_said(&by, reply, &line, &[], turn);
                }
                What::Compound(said, lines, reply) => {
                    let by = Speaker::new(from, queued.gone);
                    self.leave_said(&by, reply, &said, &lines, turn);
                }
                What::Request(id) => {
                    if self.send_request(id, turn).is_none() {
                        // It comes back when its turn has come, and brings its credit then.
                        self.outgoing.refund();
                        continue;
                    }
                }
            }
            if let Some(from) = from.filter(|_| queued.part == Part::Last) {
                turn.push(Action::Credit(from, 1));
            }
        }
    }

    /// Something people say leaves, by `lines` when it has several. Where its echo comes back it is shown then, else now: decided line by line.
    fn leave_said(
        &mut self,
        by: &Speaker,
        reply: Option<ReplyId>,
        line: &Bytes,
        lines: &[Vec<u8>],
        turn: &mut Turn,
    ) {
        if self.server_echoes() {
            return self.await_echo(by, reply, line, lines, turn);
        }
        if lines.is_empty() {
            turn.send(line.clone());
        }
        lines.iter().for_each(|line| turn.send(line.clone().into()));
        let start = turn.actions.len();
        self.said(by, line, turn);
        if !lines.is_empty() {
            self.fence_said(by, line, turn);
        }
        if let Some(reply) = reply {
            let last = self.replies.is_last_part(reply);
            self.label_lines(reply, start, last, turn);
            self.part_done(reply, turn);
        }
    }

    /// The link is gone, and with it what was to be sent: the senders are told.
    pub(super) fn drop_outgoing(&mut self, turn: &mut Turn) {
        let outgoing = std::mem::take(&mut self.outgoing);
        self.outgoing.rate = outgoing.rate;
        for (id, queue) in outgoing.clients {
            let lost = queue.iter().filter(|queued| queued.part == Part::Last);
            let lost = u32::try_from(lost.count()).unwrap_or(u32::MAX);
            let text =
                format!("the connection was lost; lines of yours that were not sent: {lost}");
            turn.tell(id, self.notice(&text));
            turn.push(Action::Credit(id, lost));
            for queued in queue {
                if let What::Said(line, Some(reply)) | What::Compound(line, _, Some(reply)) =
                    queued.what
                {
                    self.not_said(id, &line, reply, turn);
                }
            }
        }
    }
}

impl Network {
    /// A labelled line was not sent, and never will be.
    fn not_said(&mut self, to: ClientId, line: &[u8], reply: ReplyId, turn: &mut Turn) {
        let start = turn.actions.len();
        let line = Line::parse(line).ok();
        let target = line.and_then(|line| line.param(0)).unwrap_or_default();
        turn.tell(to, self.unsaid(target));
        let last = self.replies.is_last_part(reply);
        self.label_lines(reply, start, last, turn);
        self.part_done(reply, turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        #[test]
        fn pacing_never_exceeds_its_rate(
            burst in 1u32..20,
            every in 1u64..3000,
            steps in prop::collection::vec(0u64..5000, 1..200),
        ) {
            let every = Duration::from_millis(every);
            let mut outgoing = Outgoing::new(Rate { burst, every });
            let mut now = Ticks(0);
            let mut left: Vec<Ticks> = Vec::new();
            for step in steps {
                now = Ticks(now.0 + step);
                while outgoing.admit(now) {
                    left.push(now);
                }
                prop_assert!(outgoing.ready_at() > now);
            }
            // Any burst + n lines take at least n intervals.
            for window in left.windows(burst as usize + 1) {
                prop_assert!(window[burst as usize].since(window[0]) >= every);
            }
        }
    }

    #[test]
    fn clients_take_turns() {
        let mut outgoing = Outgoing::default();
        for (id, text) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (2, "b2")] {
            let line = What::Line(Bytes::from_static(text.as_bytes()));
            let line = Queued::new(line, Part::Last);
            outgoing
                .clients
                .entry(ClientId(id))
                .or_default()
                .push_back(line);
        }
        let order: Vec<_> = std::iter::from_fn(|| outgoing.next())
            .map(|(_, q)| match q.what {
                What::Line(line) => line,
                other => unreachable!("{other:?}"),
            })
            .collect();
        assert_eq!(order, ["a1", "b1", "a2", "b2", "a3"]);
    }
}
