//! Lines on their way to the server: paced as the network bears it, fair between clients. What is urgent
//! (PONG, registration) does not come here.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::Rate;
use crate::wire::latin1;

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

/// A line that waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Queued {
    #[serde(with = "latin1")]
    line: Bytes,
    /// Something people say: stored and shown when it leaves.
    said: bool,
    /// Whether what the client asked is dealt with when it leaves.
    part: Part,
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

    /// Whether joins and the like still wait for their turn.
    pub(super) fn has_bulk(&self) -> bool {
        !self.bulk.is_empty()
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

    /// A client is gone: what it had said goes out all the same, as everything a user sent.
    pub(super) fn forget(&mut self, client: ClientId, _: &mut Turn) {
        if let Some(queue) = self.clients.remove(&client) {
            self.bulk.extend(queue);
        }
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
        let (said, part) = (false, Part::Last);
        self.enqueue(from, lane, Queued { line, said, part }, turn);
    }

    /// Queues what one line of a client says to people: one line, or several when there are several targets
    /// or it is too long for one.
    pub(super) fn queue_said(&mut self, from: ClientId, mut lines: Vec<Bytes>, turn: &mut Turn) {
        let Some(last) = lines.pop() else {
            return turn.push(Action::Credit(from, 1));
        };
        let parts = lines.into_iter().map(|line| (line, Part::More));
        for (line, part) in parts.chain([(last, Part::Last)]) {
            let queued = Queued {
                line,
                said: true,
                part,
            };
            self.enqueue(Some(from), Lane::Interactive, queued, turn);
        }
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
        self.pump(turn);
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
            turn.send(queued.line.clone());
            if queued.said {
                self.said(from, &queued.line, turn);
            }
            if let Some(from) = from.filter(|_| queued.part == Part::Last) {
                turn.push(Action::Credit(from, 1));
            }
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
        }
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
            let line = Queued {
                line: Bytes::from_static(text.as_bytes()),
                said: false,
                part: Part::Last,
            };
            outgoing
                .clients
                .entry(ClientId(id))
                .or_default()
                .push_back(line);
        }
        let order: Vec<_> = std::iter::from_fn(|| outgoing.next())
            .map(|(_, q)| q.line)
            .collect();
        assert_eq!(order, ["a1", "b1", "a2", "b2", "a3"]);
    }
}
