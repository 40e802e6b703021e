//! Deadlines as data: what is due when, at most one of each kind. What is done then is in
//! `Network::tick`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::wire::Name;

use super::turn::Ticks;

/// What falls due.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Timer {
    /// The next attempt to connect.
    Dial,
    /// The server has said nothing since we began to register.
    Silence,
    /// CAP negotiation takes too long.
    Negotiation,
    /// No 001 yet.
    Registration,
    /// No end of the message of the day since 001.
    Welcome,
    /// The server is silent: ask, or give up.
    Liveness,
    /// Lines wait for their turn.
    Outgoing,
    /// Replies that never came.
    Pending,
    /// A channel to join again.
    Rejoin(Name),
    /// A join that was never answered.
    Joining(Name),
    /// A channel that may have been silent for long enough to be detached.
    Detach(Name),
    /// Channels not regained since the link came back.
    Regain,
    /// The next try for a nick.
    Nick,
    /// A login on a link that is up takes too long.
    Login,
}

/// The deadlines of one network.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Timers(BTreeSet<(Ticks, Timer)>);

impl Timers {
    /// Sets a deadline, in place of an earlier one of the same kind.
    pub(super) fn set(&mut self, timer: Timer, at: Ticks) {
        self.cancel(&timer);
        self.0.insert((at, timer));
    }

    /// Forgets a deadline.
    pub(super) fn cancel(&mut self, timer: &Timer) {
        self.0.retain(|(_, t)| t != timer);
    }

    /// Forgets all that belong to a link.
    pub(super) fn cancel_all(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_set(&self, timer: &Timer) -> bool {
        self.0.iter().any(|(_, t)| t == timer)
    }

    /// The next deadline.
    pub(super) fn next(&self) -> Option<Ticks> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes one that is due.
    pub(super) fn due(&mut self, now: Ticks) -> Option<Timer> {
        let (at, _) = self.0.first()?;
        if *at > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }
}
