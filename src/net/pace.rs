//! Pacing of new connections to one server host, all users together, so that a start with hundreds of networks does not
//! look like an attack. Waiting is the caller's: a turn is given out at once, with the moment it begins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::peer;
use crate::config::Rate;

/// Hosts remembered before those that are idle are forgotten.
const HOSTS: usize = 1024;
/// A longer interval is as good as this one.
const SLOWEST: Duration = Duration::from_secs(24 * 3600);

/// One token bucket per server host, shared by all who hold a clone.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// When each host's bucket is full again.
    full_at: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Pace {
    /// Buckets that are full.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next turn at `host` and says how long it is until then. Loopback hosts never wait.
    pub fn reserve(&self, host: &str, rate: Rate) -> Duration {
        if rate.burst == 0 || is_local(host) {
            return Duration::ZERO;
        }
        let every = rate.every.min(SLOWEST);
        let now = Instant::now();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= HOSTS {
            full_at.retain(|_, at| *at > now);
        }
        let at = full_at.entry(host.to_ascii_lowercase()).or_insert(now);
        let spent = (*at).max(now) + every;
        *at = spent;
        // A bucket may lack `burst` tokens before anyone has to wait.
        let allowed = every.saturating_mul(rate.burst);
        spent.saturating_duration_since(now).saturating_sub(allowed)
    }

    /// Waits for the next turn at `host`. Given up half way, the turn is lost.
    pub async fn wait(&self, host: &str, rate: Rate) {
        let wait = self.reserve(host, rate);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Whether a host is this machine by its spelling.
fn is_local(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(peer::is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        every: Duration::from_secs(1),
    };

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_the_rest_one_by_one() {
        let pace = Pace::new();
        let waits: Vec<u64> = (0..6)
            .map(|_| pace.reserve("irc.test", RATE).as_secs())
            .collect();
        assert_eq!(waits, [0, 0, 0, 1, 2, 3]);
        assert_eq!(
            pace.reserve("IRC.TEST", RATE).as_secs(),
            4,
            "case does not make another host"
        );
        assert_eq!(pace.reserve("other.test", RATE), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_bucket_fills_up_again() {
        let pace = Pace::new();
        for _ in 0..3 {
            pace.wait("irc.test", RATE).await;
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        let waits: Vec<u64> = (0..3)
            .map(|_| pace.reserve("irc.test", RATE).as_secs())
            .collect();
        assert_eq!(waits, [0, 0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn loopback_and_no_limit_never_wait() {
        let pace = Pace::new();
        for _ in 0..100 {
            for host in ["::1", "127.0.0.1", "localhost"] {
                assert_eq!(pace.reserve(host, RATE), Duration::ZERO);
            }
            let unlimited = Rate {
                burst: 0,
                every: Duration::from_secs(1),
            };
            assert_eq!(pace.reserve("irc.test", unlimited), Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn idle_hosts_are_forgotten() {
        let pace = Pace::new();
        for n in 0..HOSTS {
            pace.reserve(&format!("{n}.test"), RATE);
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        pace.reserve("one-more.test", RATE);
        assert_eq!(pace.full_at.lock().unwrap().len(), 1);
    }
}
