//! The counts behind `gate`: connections, their rate and wrong passwords, per address and per the prefixes it lies in.
//! Pure: time comes in as ticks, and nothing here waits.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use super::bucket::{Record, widened};
use super::prefix::{Prefix, is_local, prefixes};
use crate::config::{Limits, Rate};
use crate::state::Ticks;

/// Prefixes remembered at most; the idle ones are forgotten long before.
const CAPACITY: usize = 65_536;
/// Whoever would have to wait longer before a try is told to come back instead.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `limits.per_address` are waiting already.
    #[error("too many connections from your address that have not logged in")]
    TooMany,
    /// `limits.connects_per_address` is used up.
    #[error("connecting too fast, try again in {} s", seconds(*retry_in))]
    TooFast {
        /// When the next one is welcome.
        retry_in: Duration,
    },
}

/// Whole seconds, rounded up: as a person is told to wait.
pub(super) fn seconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// Whether a password may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// At once; the try is counted as running.
    Now,
    /// Ask again after this long.
    After(Duration),
    /// Ask again when one of the tries that run for this address has ended.
    Busy,
    /// Not on this connection.
    Refuse { retry_in: Duration },
}

/// How a connection stopped being one that has not logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    LoggedIn,
    Gone,
}

/// A connection that was let in, and which other one gives way to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) id: u64,
    pub(super) ousted: Option<u64>,
}

/// Everything counted. `from` is always the peer's address, or `None` for a unix socket.
pub(super) struct Tally {
    unauthenticated: usize,
    per_address: usize,
    connects: Rate,
    failures: Rate,
    /// Connections that have not logged in, oldest first.
    open: BTreeMap<u64, Option<IpAddr>>,
    next_id: u64,
    records: HashMap<Prefix, Record>,
    /// So many records make the next sweep due: twice what the last one left, so that sweeping stays cheap.
    sweep_at: usize,
}

impl Tally {
    pub(super) fn new(limits: &Limits) -> Self {
        let mut tally = Self {
            unauthenticated: 0,
            per_address: 0,
            connects: Rate::default(),
            failures: Rate::default(),
            open: BTreeMap::new(),
            next_id: 0,
            records: HashMap::new(),
            sweep_at: 1024,
        };
        tally.set_limits(limits);
        tally
    }

    /// What is counted stays counted.
    pub(super) fn set_limits(&mut self, limits: &Limits) {
        self.unauthenticated = limits.unauthenticated.max(1);
        self.per_address = limits.per_address;
        self.connects = limits.connects_per_address;
        self.failures = limits.login_failures;
    }

    pub(super) fn admit(&mut self, from: Option<IpAddr>, now: Ticks) -> Result<Admitted, Refusal> {
        if !is_local(from) {
            self.count_connection(from, now)?;
        }
        let ousted = if self.open.len() >= self.unauthenticated {
            self.open.first_key_value().map(|(id, _)| *id)
        } else {
            None
        };
        if let Some(id) = ousted {
            self.leave(id, Leaving::Gone);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.open.insert(id, from);
        Ok(Admitted { id, ousted })
    }

    fn count_connection(&mut self, from: Option<IpAddr>, now: Ticks) -> Result<(), Refusal> {
        let mut retry_in = Duration::ZERO;
        for (prefix, share) in prefixes(from) {
            let Some(record) = self.records.get(&prefix) else {
                continue;
            };
            if record.open >= self.per_address.saturating_mul(share as usize) {
                return Err(Refusal::TooMany);
            }
            retry_in = retry_in.max(record.connects.wait(widened(self.connects, share), now));
        }
        if !retry_in.is_zero() {
            return Err(Refusal::TooFast { retry_in });
        }
        for (prefix, share) in prefixes(from) {
            let rate = widened(self.connects, share);
            let record = self.record(prefix, now);
            record.open += 1;
            record.connects.take(rate, now);
        }
        Ok(())
    }

    /// A second call for the same connection does nothing.
    pub(super) fn leave(&mut self, id: u64, how: Leaving) {
        let Some(from) = self.open.remove(&id) else {
            return;
        };
        if is_local(from) {
            return;
        }
        for (prefix, share) in prefixes(from) {
            let Some(record) = self.records.get_mut(&prefix) else {
                continue;
            };
            record.open = record.open.saturating_sub(1);
            if how == Leaving::LoggedIn {
                record.connects.give_back(widened(self.connects, share));
            }
        }
    }

    /// Asks to try a password, having `waited` for it already. As many tries run at a time as would be within the limit if
    /// all of them failed.
    pub(super) fn begin_try(
        &mut self,
        from: Option<IpAddr>,
        waited: Duration,
        now: Ticks,
    ) -> Verdict {
        let mut pause = Duration::ZERO;
        let mut busy = false;
        for (prefix, share) in prefixes(from) {
            let Some(record) = self.records.get(&prefix) else {
                continue;
            };
            pause = pause.max(record.shut_until.since(now));
            // A pause that was sat out buys one try, whatever the bucket says.
            let room = record
                .failures
                .tokens(widened(self.failures, share), now)
                .max(1);
            busy |= record.trying >= room;
        }
        if self.failures.burst > 0 && waited + pause > PATIENCE {
            return Verdict::Refuse { retry_in: pause };
        }
        if self.failures.burst > 0 && !pause.is_zero() {
            return Verdict::After(pause);
        }
        if busy {
            return Verdict::Busy;
        }
        for (prefix, _) in prefixes(from) {
            self.record(prefix, now).trying += 1;
        }
        Verdict::Now
    }

    /// A try has ended, one way or the other.
    pub(super) fn end_try(&mut self, from: Option<IpAddr>) {
        for (prefix, _) in prefixes(from) {
            let Some(record) = self.records.get_mut(&prefix) else {
                continue;
            };
            record.trying = record.trying.saturating_sub(1);
        }
    }

    /// The password of a try that still runs was wrong.
    pub(super) fn count_failure(&mut self, from: Option<IpAddr>, now: Ticks) {
        if self.failures.burst == 0 {
            return;
        }
        for (prefix, share) in prefixes(from) {
            let rate = widened(self.failures, share);
            self.record(prefix, now).fail(rate, now);
        }
    }

    fn record(&mut self, prefix: Prefix, now: Ticks) -> &mut Record {
        if self.records.len() >= self.sweep_at {
            self.records.retain(|_, record| !record.is_idle(now));
            if self.records.len() >= CAPACITY {
                // Somebody has that many networks. To forget what they did costs less than to refuse everybody else.
                self.records
                    .retain(|_, record| record.open > 0 || record.trying > 0);
            }
            self.sweep_at = (self.records.len() * 2).clamp(1024, CAPACITY);
        }
        self.records.entry(prefix).or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOME: &str = "192.0.2.7";

    fn limits() -> Limits {
        let seconds = Duration::from_secs;
        Limits {
            unauthenticated: 512,
            per_address: 8,
            connects_per_address: Rate {
                burst: 20,
                every: seconds(5),
            },
            login_failures: Rate {
                burst: 5,
                every: seconds(12),
            },
            register_timeout: seconds(30),
            clients_per_user: 64,
            networks_per_user: 64,
            channels_per_network: 500,
            client_queue: 256 << 10,
            client_timeout: seconds(150),
        }
    }

    fn addr(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn at(seconds: u64) -> Ticks {
        Ticks(seconds * 1000)
    }

    /// How many of `count` connections get in; none of them logs in or leaves.
    fn let_in<'a>(tally: &mut Tally, from: impl IntoIterator<Item = &'a str>) -> usize {
        from.into_iter()
            .filter(|from| tally.admit(addr(from), at(0)).is_ok())
            .count()
    }

    fn fail(tally: &mut Tally, from: Option<IpAddr>, now: Ticks) {
        assert_eq!(
            tally.begin_try(from, Duration::ZERO, now),
            Verdict::Now,
            "{now:?}"
        );
        tally.count_failure(from, now);
        tally.end_try(from);
    }

    #[test]
    fn an_address_has_its_share_of_connections() {
        let mut tally = Tally::new(&limits());
        assert_eq!(let_in(&mut tally, [HOME; 20]), 8);
        assert_eq!(tally.admit(addr(HOME), at(0)), Err(Refusal::TooMany));
        assert_eq!(
            let_in(&mut tally, ["192.0.2.8"; 20]),
            8,
            "others are not concerned"
        );
        assert_eq!(
            let_in(&mut tally, ["::ffff:192.0.2.7"]),
            0,
            "the same address in disguise"
        );
    }

    #[test]
    fn ipv6_is_counted_by_prefix() {
        let mut tally = Tally::new(&limits());
        let within = |template: &str| -> Vec<String> {
            (0..250)
                .map(|n| template.replace('N', &format!("{n:02x}")))
                .collect()
        };
        let mut try_all = |template: &str| {
            let all = within(template);
            let_in(&mut tally, all.iter().map(String::as_str))
        };
        assert_eq!(try_all("2001:db8:1:100::N"), 8, "a /64");
        assert_eq!(try_all("2001:db8:1:1N::1"), 24, "the rest of its /56");
        assert_eq!(try_all("2001:db8:1:N01::1"), 96, "the rest of its /48");
        assert_eq!(try_all("2001:db8:N::1"), 249, "other /48s");
    }

    #[test]
    fn a_place_is_free_when_its_connection_ends() {
        let mut tally = Tally::new(&limits());
        let id = tally.admit(addr(HOME), at(0)).unwrap().id;
        assert_eq!(let_in(&mut tally, [HOME; 20]), 7);
        tally.leave(id, Leaving::Gone);
        tally.leave(id, Leaving::Gone);
        assert_eq!(let_in(&mut tally, [HOME; 20]), 1);
    }

    #[test]
    fn connecting_has_a_rate_that_logins_do_not_use_up() {
        let mut tally = Tally::new(&limits());
        let mut connect = |how, now| {
            let admitted = tally.admit(addr(HOME), now)?;
            tally.leave(admitted.id, how);
            Ok(())
        };
        for _ in 0..100 {
            assert_eq!(connect(Leaving::LoggedIn, at(0)), Ok(()));
        }
        for _ in 0..20 {
            assert_eq!(connect(Leaving::Gone, at(0)), Ok(()));
        }
        let refused = Refusal::TooFast {
            retry_in: Duration::from_secs(5),
        };
        assert_eq!(connect(Leaving::Gone, at(0)), Err(refused));
        assert_eq!(connect(Leaving::Gone, at(5)), Ok(()));
        assert!(connect(Leaving::Gone, at(5)).is_err());
        assert_eq!(refused.to_string(), "connecting too fast, try again in 5 s");
    }

    #[test]
    fn local_peers_have_no_share_but_count_in_all() {
        let mut tally = Tally::new(&Limits {
            unauthenticated: 100,
            ..limits()
        });
        for from in [
            None,
            addr("::1"),
            addr("127.0.0.9"),
            addr("::ffff:127.0.0.1"),
        ] {
            for _ in 0..25 {
                assert_eq!(tally.admit(from, at(0)).unwrap().ousted, None);
            }
        }
        assert_eq!(tally.admit(None, at(0)).unwrap().ousted, Some(0));
    }

    #[test]
    fn the_oldest_gives_way_and_its_place_with_it() {
        let mut tally = Tally::new(&Limits {
            unauthenticated: 2,
            per_address: 1,
            ..limits()
        });
        let first = tally.admit(addr(HOME), at(0)).unwrap();
        let second = tally.admit(addr("192.0.2.8"), at(0)).unwrap();
        let third = tally.admit(addr("192.0.2.9"), at(0)).unwrap();
        assert_eq!((second.ousted, third.ousted), (None, Some(first.id)));
        tally.leave(first.id, Leaving::Gone);
        assert_eq!(
            tally.admit(addr(HOME), at(0)).unwrap().ousted,
            Some(second.id)
        );
    }

    #[test]
    fn zero_in_the_file_means_no_limit() {
        let none = Rate::default();
        let limits = Limits {
            unauthenticated: usize::MAX,
            per_address: usize::MAX,
            connects_per_address: none,
            login_failures: none,
            ..limits()
        };
        let mut tally = Tally::new(&limits);
        assert_eq!(let_in(&mut tally, ["2001:db8::1"; 3000]), 3000);
        for _ in 0..1000 {
            fail(&mut tally, addr(HOME), at(0));
        }
    }

    #[test]
    fn wrong_passwords_are_answered_later_and_later() {
        let mut tally = Tally::new(&limits());
        let home = addr(HOME);
        for _ in 0..5 {
            fail(&mut tally, home, at(0));
        }
        let mut now = at(0);
        for pause in [1, 2, 4, 8].map(Duration::from_secs) {
            let asked = tally.begin_try(home, Duration::ZERO, now);
            assert_eq!(asked, Verdict::After(pause));
            now = now.plus(pause);
            fail(&mut tally, home, now);
        }
        for pause in [16, 32, 64, 128, 256, 512, 900, 900, 900].map(Duration::from_secs) {
            let asked = tally.begin_try(home, Duration::ZERO, now);
            assert_eq!(asked, Verdict::Refuse { retry_in: pause });
            now = now.plus(pause);
            fail(&mut tally, home, now);
        }
        fail(&mut tally, addr("192.0.2.8"), now);
        let forgiven = now.plus(Duration::from_secs(900 + 60));
        for _ in 0..5 {
            fail(&mut tally, home, forgiven);
        }
        let asked = tally.begin_try(home, Duration::ZERO, forgiven);
        assert_eq!(asked, Verdict::After(Duration::from_secs(1)));
    }

    #[test]
    fn local_peers_are_told_apart_by_address_when_they_fail() {
        let mut tally = Tally::new(&limits());
        for _ in 0..5 {
            fail(&mut tally, addr("127.0.0.1"), at(0));
        }
        assert_ne!(
            tally.begin_try(addr("127.0.0.1"), Duration::ZERO, at(0)),
            Verdict::Now
        );
        for other in [None, addr("::1"), addr("127.0.0.2")] {
            fail(&mut tally, other, at(0));
        }
    }

    #[test]
    fn patience_counts_what_was_waited_before() {
        let mut tally = Tally::new(&limits());
        for _ in 0..5 {
            fail(&mut tally, None, at(0));
        }
        fail(&mut tally, None, at(1));
        let waited = Duration::from_secs(9);
        let retry_in = Duration::from_secs(2);
        assert_eq!(
            tally.begin_try(None, waited, at(1)),
            Verdict::Refuse { retry_in }
        );
    }

    #[test]
    fn tries_side_by_side_stay_within_the_limit() {
        let mut tally = Tally::new(&limits());
        for _ in 0..5 {
            assert_eq!(tally.begin_try(None, Duration::ZERO, at(0)), Verdict::Now);
        }
        assert_eq!(tally.begin_try(None, Duration::ZERO, at(0)), Verdict::Busy);
        // One was right after all, so there is room for another.
        tally.end_try(None);
        assert_eq!(tally.begin_try(None, Duration::ZERO, at(0)), Verdict::Now);
        for _ in 0..5 {
            tally.count_failure(None, at(0));
            tally.end_try(None);
        }
        let later = at(1);
        assert_eq!(tally.begin_try(None, Duration::ZERO, later), Verdict::Now);
        assert_eq!(
            tally.begin_try(None, Duration::ZERO, later),
            Verdict::Busy,
            "one a pause"
        );
    }

    #[test]
    fn a_prefix_of_many_failures_is_slowed_down_as_a_whole() {
        let mut tally = Tally::new(&limits());
        let one = |n: u32| addr(&format!("2001:db8:0:{n:x}::1"));
        for n in 0..4 {
            for _ in 0..5 {
                fail(&mut tally, one(n), at(0));
            }
        }
        assert_ne!(
            tally.begin_try(one(9), Duration::ZERO, at(0)),
            Verdict::Now,
            "same /56"
        );
        fail(&mut tally, one(0x100), at(0));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut tally = Tally::new(&Limits {
            unauthenticated: 10,
            ..limits()
        });
        let host = |n: u32| Some(IpAddr::V4(n.into()));
        for n in 0..200_000 {
            tally.admit(host(0x0a00_0000 + n), at(0)).unwrap();
            assert!(tally.records.len() <= CAPACITY);
        }
        // An hour later all of them are idle, and forgotten as soon as there is reason to look.
        for n in 0..70_000 {
            tally.admit(host(0x0b00_0000 + n), at(3600)).unwrap();
        }
        assert!(tally.records.len() < CAPACITY);
        assert!(tally.open.len() <= 10);
    }

    proptest! {
        #[test]
        fn nobody_gets_more_tries_than_the_rate(waits in prop::collection::vec(0u64..40_000, 1..200)) {
            let mut tally = Tally::new(&limits());
            let home = addr(HOME);
            let (mut now, mut tries) = (Ticks(0), 0);
            for wait in waits {
                now = now.plus(Duration::from_millis(wait));
                while tally.begin_try(home, Duration::ZERO, now) == Verdict::Now {
                    tally.count_failure(home, now);
                    tally.end_try(home);
                    tries += 1;
                    // The burst, the rate, and one for each pause that was sat out.
                    prop_assert!(tries <= 5 + now.0 / 12_000 + 11, "{tries} by {now:?}");
                }
            }
        }

        #[test]
        fn whoever_leaves_leaves_nothing_behind(
            steps in prop::collection::vec((0u8..6, 0u64..3, any::<bool>(), 0u64..2000), 1..200),
        ) {
            let mut tally = Tally::new(&Limits { unauthenticated: 12, ..limits() });
            let (mut now, mut inside) = (Ticks(0), Vec::new());
            for (from, leave, logged_in, wait) in steps {
                now = now.plus(Duration::from_millis(wait));
                let from = addr(&format!("2001:db8:0:{from}::1"));
                if let Ok(admitted) = tally.admit(from, now) {
                    inside.retain(|id| Some(*id) != admitted.ousted);
                    inside.push(admitted.id);
                }
                for _ in 0..leave.min(inside.len() as u64) {
                    let how = if logged_in { Leaving::LoggedIn } else { Leaving::Gone };
                    tally.leave(inside.remove(0), how);
                }
                prop_assert_eq!(tally.open.len(), inside.len());
            }
            inside.into_iter().for_each(|id| tally.leave(id, Leaving::Gone));
            let idle = now.plus(Duration::from_secs(20 * 5));
            prop_assert!(tally.records.values().all(|record| record.is_idle(idle)));
        }
    }
}
