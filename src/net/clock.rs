//! The clock of one cycle of dialling. It stands still while a turn at a server's host is waited for, so that the wait
//! takes no time of the cycle.

use tokio::time::Instant;

use super::race::{At, AttemptId};

/// Time since the cycle began.
pub(super) struct Clock {
    pub(super) origin: Instant,
    pub(super) frozen: Option<Frozen>,
}

/// The clock stands still: since when, until when, and for which attempt.
pub(super) struct Frozen {
    pub(super) since: Instant,
    pub(super) until: Instant,
    pub(super) waits: AttemptId,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            frozen: None,
        }
    }

    pub(super) fn now(&self) -> At {
        self.frozen
            .as_ref()
            .map_or_else(Instant::now, |frozen| frozen.since)
            - self.origin
    }

    /// Whose turn has come; the clock goes on.
    pub(super) fn thaw(&mut self) -> Option<AttemptId> {
        self.go_on_if(|frozen| Instant::now() >= frozen.until)
    }

    /// Waits no longer for the turn of an attempt.
    pub(super) fn give_up(&mut self, id: AttemptId) {
        self.go_on_if(|frozen| frozen.waits == id);
    }

    fn go_on_if(&mut self, may: impl FnOnce(&mut Frozen) -> bool) -> Option<AttemptId> {
        let frozen = self.frozen.take_if(may)?;
        self.origin += frozen.since.elapsed();
        Some(frozen.waits)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_turn_takes_no_time_of_the_cycle() {
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        let freeze = || Frozen {
            since: Instant::now(),
            until: Instant::now() + Duration::from_secs(3600),
            waits: AttemptId(0),
        };
        let mut clock = Clock::new();
        pass(3).await;
        clock.frozen = Some(freeze());
        pass(3599).await;
        assert_eq!((clock.now().as_secs(), clock.thaw().is_some()), (3, false));
        pass(1).await;
        assert!(clock.thaw().is_some());
        pass(4).await;
        clock.frozen = Some(freeze());
        pass(100).await;
        clock.give_up(AttemptId(1));
        assert_eq!(clock.now().as_secs(), 7, "somebody else's turn");
        clock.give_up(AttemptId(0));
        pass(1).await;
        assert_eq!((clock.now().as_secs(), clock.thaw().is_some()), (8, false));
    }
}
