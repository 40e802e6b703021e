//! Who may come in how fast: connections that have not logged in, in all and per address, and tries at a password. A
//! login gives back what its connection took, so this limits strangers, not users. The counting itself is `tally`'s;
//! whether a password is right is `hash`'s.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::tally::{Admitted, Leaving, Refusal, Tally, Verdict, seconds};
use crate::config::Limits;
use crate::state::Ticks;

/// Too many wrong passwords came from this address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many failed logins from your address, try again in {} s", seconds(*retry_in))]
pub struct TooManyFailures {
    /// When the next try is welcome.
    pub retry_in: Duration,
}

/// Every connection passes it before a byte is read, and every password before it is checked. The lock is hidden in
/// here and never held while anything waits.
pub struct Gate {
    inner: Mutex<Inner>,
    /// A try has ended.
    tried: Notify,
}

struct Inner {
    tally: Tally,
    /// How to tell those who have not logged in that they give way.
    waiting: HashMap<u64, Arc<Notify>>,
}

impl Gate {
    /// A gate that has seen nobody.
    pub fn new(limits: &Limits) -> Arc<Self> {
        let inner = Inner {
            tally: Tally::new(limits),
            waiting: HashMap::new(),
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            tried: Notify::new(),
        })
    }

    /// Takes other limits from now on.
    pub fn set_limits(&self, limits: &Limits) {
        self.lock().tally.set_limits(limits);
    }

    /// Lets a connection in or not; `from` is `None` for unix sockets. When too many wait in all, the oldest gives way.
    pub fn admit(self: &Arc<Self>, from: Option<IpAddr>, now: Ticks) -> Result<Ticket, Refusal> {
        let mut inner = self.lock();
        let Admitted { id, ousted } = inner.tally.admit(from, now)?;
        if let Some(told) = ousted.and_then(|id| inner.waiting.remove(&id)) {
            told.notify_one();
        }
        let told = Arc::new(Notify::new());
        inner.waiting.insert(id, Arc::clone(&told));
        Ok(Ticket {
            gate: Arc::clone(self),
            id,
            told,
        })
    }

    /// Waits until a password may be tried from there. Whoever would have to wait for more than ten seconds is told when
    /// to come back instead.
    pub async fn attempt(
        self: &Arc<Self>,
        from: Option<IpAddr>,
    ) -> Result<Attempt, TooManyFailures> {
        let mut waited = Duration::ZERO;
        let mut now = crate::clock().ticks;
        loop {
            // Listening begins before asking, so that no end of a try falls between the two.
            let mut tried = std::pin::pin!(self.tried.notified());
            tried.as_mut().enable();
            let verdict = self.lock().tally.begin_try(from, waited, now);
            match verdict {
                Verdict::Now => {
                    return Ok(Attempt {
                        gate: Arc::clone(self),
                        from,
                    });
                }
                Verdict::Refuse { retry_in } => return Err(TooManyFailures { retry_in }),
                Verdict::Busy => {
                    tried.await;
                    now = now.max(crate::clock().ticks);
                }
                Verdict::After(pause) => {
                    tokio::time::sleep(pause).await;
                    waited += pause;
                    now = now.plus(pause).max(crate::clock().ticks);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that has not logged in. Dropping it gives back its place.
pub struct Ticket {
    gate: Arc<Gate>,
    id: u64,
    told: Arc<Notify>,
}

impl Ticket {
    /// Returns when this connection has to give way to another one.
    pub async fn ousted(&self) {
        self.told.notified().await;
    }

    /// Gives back all that the connection took, its share of the rate too.
    pub fn logged_in(self) {
        self.leave(Leaving::LoggedIn);
    }

    fn leave(&self, how: Leaving) {
        let mut inner = self.gate.lock();
        inner.waiting.remove(&self.id);
        inner.tally.leave(self.id, how);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave(Leaving::Gone);
    }
}

/// A password being tried. Dropping it ends the try, and says nothing against whoever tried.
pub struct Attempt {
    gate: Arc<Gate>,
    from: Option<IpAddr>,
}

impl Attempt {
    /// It was the wrong one.
    pub fn failed(self, now: Ticks) {
        // Counted before the drop ends the try, so that nobody who waits for its end slips in between.
        self.gate.lock().tally.count_failure(self.from, now);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.gate.lock().tally.end_try(self.from);
        self.gate.tried.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::config::Rate;

    fn gate(unauthenticated: usize) -> Arc<Gate> {
        let none = Rate::default();
        Gate::new(&Limits {
            unauthenticated,
            per_address: 1,
            connects_per_address: none,
            login_failures: Rate {
                burst: 1,
                every: Duration::from_secs(12),
            },
            register_timeout: Duration::MAX,
            clients_per_user: 0,
            networks_per_user: 0,
            channels_per_network: 0,
            client_queue: 0,
            client_timeout: Duration::MAX,
        })
    }

    fn addr(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[tokio::test]
    async fn a_ticket_is_told_to_give_way_whenever_it_listens() {
        let gate = gate(1);
        let first = gate.admit(addr(1), Ticks(0)).unwrap();
        let second = gate.admit(addr(2), Ticks(0)).unwrap();
        first.ousted().await;
        drop(first);
        let nobody = tokio::time::timeout(Duration::from_millis(1), second.ousted()).await;
        assert!(nobody.is_err());
    }

    #[test]
    fn a_dropped_ticket_gives_back_its_place() {
        let gate = gate(10);
        let ticket = gate.admit(addr(1), Ticks(0)).unwrap();
        assert!(gate.admit(addr(1), Ticks(0)).is_err());
        drop(ticket);
        gate.admit(addr(1), Ticks(0)).unwrap().logged_in();
        let _ticket = gate.admit(addr(1), Ticks(0)).unwrap();
        assert_eq!(gate.lock().waiting.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_waits_for_its_pause_or_is_refused() {
        let gate = gate(10);
        let began = Instant::now();
        // Sleeping takes no time here, the rest does: a pause that began a little earlier is the same pause.
        let seconds = |since: Instant| (since.elapsed() + Duration::from_millis(500)).as_secs();
        for (n, pause) in [0, 1, 2, 4, 8].into_iter().enumerate() {
            let before = Instant::now();
            let attempt = gate.attempt(addr(1)).await.unwrap();
            assert_eq!(seconds(before), pause, "try {n}");
            attempt.failed(crate::clock().ticks);
        }
        let refused = gate.attempt(addr(1)).await.map(drop).unwrap_err();
        assert_eq!(seconds(began), 15, "a refusal comes at once");
        assert!(refused.retry_in > Duration::from_secs(15), "{refused}");
        gate.attempt(addr(2)).await.unwrap();
        assert_eq!(seconds(began), 15, "others do not wait");
    }

    #[tokio::test]
    async fn a_try_waits_for_the_one_before_it() {
        let gate = gate(10);
        let first = gate.attempt(None).await.unwrap();
        let second = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.attempt(None).await.is_ok() }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap());
    }
}
