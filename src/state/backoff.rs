//! How long to wait between attempts to connect: doubling with jitter after failures, short after a link that was lost.
//! When to connect is `upstream`'s.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest wait between attempts.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// A link that lasted so long was a good one.
const GOOD_LINK: Duration = Duration::from_secs(600);
/// So many short links in a row are still regained quickly.
const QUICK_REGAINS: u32 = 3;

/// How long to wait before the next attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Backoff {
    pub(super) failures: u32,
    short_links: u32,
    seed: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            failures: 0,
            short_links: 0,
            seed,
        }
    }

    /// The next number of a sequence that needs to be even, not secret (splitmix64).
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from((most.saturating_sub(least)).as_millis()).unwrap_or(u64::MAX);
        least + Duration::from_millis(self.random() % span.saturating_add(1))
    }

    /// After a cycle that never registered: doubling from `first`, with jitter.
    pub(super) fn failed(&mut self, first: Duration) -> Duration {
        let wait = first
            .saturating_mul(1 << self.failures.min(16))
            .min(MAX_WAIT);
        self.failures = self.failures.saturating_add(1);
        self.between(wait / 2, wait)
    }

    /// After a registered link was lost. Earlier failures to get one do not count, links that did not last do.
    pub(super) fn lost(&mut self, lasted: Duration, first: Duration) -> Duration {
        if lasted >= GOOD_LINK {
            self.short_links = 0;
        }
        let short = self.short_links;
        self.short_links = short.saturating_add(1);
        self.failures = short.saturating_sub(QUICK_REGAINS);
        if short >= QUICK_REGAINS {
            return self.failed(first);
        }
        self.between(Duration::from_secs(2), Duration::from_secs(7))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_with_jitter_up_to_ten_minutes() {
        let mut backoff = Backoff::new(7);
        let first = Duration::from_secs(15);
        for n in 0..12 {
            let most = (first * (1 << n)).min(MAX_WAIT);
            let wait = backoff.failed(first);
            assert!(wait >= most / 2 && wait <= most, "{n}: {wait:?}");
        }
    }

    #[test]
    fn a_lost_link_is_regained_within_seconds_but_not_for_ever() {
        let mut backoff = Backoff::new(1);
        let first = Duration::from_secs(15);
        for _ in 0..QUICK_REGAINS {
            let wait = backoff.lost(Duration::from_secs(5), first);
            assert!((2..=7).contains(&wait.as_secs()), "{wait:?}");
        }
        assert!(backoff.lost(Duration::from_secs(5), first) > Duration::from_secs(7));
        assert!(backoff.lost(GOOD_LINK, first) <= Duration::from_secs(7));
        for _ in 0..6 {
            backoff.failed(first);
        }
        assert!(backoff.lost(GOOD_LINK, first) <= Duration::from_secs(7));
    }
}
