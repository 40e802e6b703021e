//! How often something may happen: what one prefix did and what it may do now. Which prefixes
//! there are, `tally` knows.

use std::time::Duration;

use crate::config::Rate;
use crate::state::Ticks;

/// The longest wait between two tries at a password.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// What is known about one prefix.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Connections that have not logged in.
    pub(super) open: usize,
    pub(super) connects: Bucket,
    pub(super) failures: Bucket,
    /// Passwords being checked.
    pub(super) trying: u32,
    /// No password is tried before.
    pub(super) shut_until: Ticks,
    /// Pauses so far; each is twice as long as the one before.
    pub(super) strikes: u32,
}

impl Record {
    /// The bucket refills from the end of the pause only, so that a long one does not forgive itself. It is forgiven when
    /// the bucket is full again.
    pub(super) fn fail(&mut self, rate: Rate, now: Ticks) {
        if self.failures.full_at <= now {
            self.strikes = 0;
        }
        self.failures.take(rate, now);
        if self.failures.tokens(rate, now) == 0 {
            let pause = Duration::from_secs(1 << self.strikes.min(16)).min(LONGEST_PAUSE);
            self.strikes += 1;
            self.shut_until = now.plus(pause);
            self.failures.full_at = self.shut_until.plus(rate.every.saturating_mul(rate.burst));
        }
    }

    pub(super) fn is_idle(&self, now: Ticks) -> bool {
        self.open == 0
            && self.trying == 0
            && self.connects.full_at <= now
            && self.failures.full_at <= now
            && self.shut_until <= now
    }
}

/// A token bucket, as the time at which it is full.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    full_at: Ticks,
}

impl Bucket {
    pub(super) fn tokens(&self, rate: Rate, now: Ticks) -> u32 {
        let every = rate.every.as_millis();
        if rate.burst == 0 || every == 0 {
            return u32::MAX;
        }
        let used = self.full_at.since(now).as_millis().div_ceil(every);
        rate.burst
            .saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// Until there is a token.
    pub(super) fn wait(&self, rate: Rate, now: Ticks) -> Duration {
        if self.tokens(rate, now) > 0 {
            return Duration::ZERO;
        }
        let full_in = self.full_at.since(now);
        full_in.saturating_sub(rate.every.saturating_mul(rate.burst - 1))
    }

    pub(super) fn take(&mut self, rate: Rate, now: Ticks) {
        self.full_at = self.full_at.max(now).plus(rate.every);
    }

    pub(super) fn give_back(&mut self, rate: Rate) {
        let every = u64::try_from(rate.every.as_millis()).unwrap_or(u64::MAX);
        self.full_at = Ticks(self.full_at.0.saturating_sub(every));
    }
}

/// What holds for one address, for a prefix that stands for `share` of them.
pub(super) fn widened(rate: Rate, share: u32) -> Rate {
    Rate {
        burst: rate.burst.saturating_mul(share),
        every: rate.every / share,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        every: Duration::from_secs(2),
    };

    #[test]
    fn tokens_come_back_one_by_one() {
        let mut bucket = Bucket::default();
        let now = Ticks(10_000);
        for left in [2, 1, 0] {
            bucket.take(RATE, now);
            assert_eq!(bucket.tokens(RATE, now), left);
        }
        assert_eq!(bucket.wait(RATE, now), Duration::from_secs(2));
        assert_eq!(bucket.wait(RATE, Ticks(11_500)), Duration::from_millis(500));
        assert_eq!(bucket.tokens(RATE, Ticks(12_000)), 1);
        assert_eq!(
            bucket.tokens(RATE, Ticks(99_000)),
            3,
            "it does not overflow"
        );
        bucket.give_back(RATE);
        assert_eq!(bucket.tokens(RATE, now), 1);
    }

    #[test]
    fn a_prefix_has_the_tokens_of_its_share() {
        let rate = widened(RATE, 4);
        assert_eq!(
            rate,
            Rate {
                burst: 12,
                every: Duration::from_millis(500)
            }
        );
        let mut bucket = Bucket::default();
        (0..12).for_each(|_| bucket.take(rate, Ticks(0)));
        assert_eq!(bucket.wait(rate, Ticks(0)), Duration::from_millis(500));
    }

    proptest! {
        #[test]
        fn the_rate_is_kept_over_any_time(waits in prop::collection::vec(0u64..5000, 1..100)) {
            let (mut bucket, mut now, mut taken) = (Bucket::default(), Ticks(0), 0);
            for wait in waits {
                now = now.plus(Duration::from_millis(wait));
                while bucket.wait(RATE, now).is_zero() {
                    bucket.take(RATE, now);
                    taken += 1;
                }
                prop_assert!(taken <= 3 + now.0 / 2000);
            }
        }
    }
}
