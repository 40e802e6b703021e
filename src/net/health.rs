//! What is remembered of the way to each server host, by family, in memory and for minutes: whether it works and how far
//! it is. All users share it, so that one of them finds out and the others need not: the first leads, the rest follow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::peer::IpVersion;
use super::settings::Advice;

/// How long a family that stalled goes last, and how long one that works need not be tried out.
const TEN_MINUTES: Duration = Duration::from_secs(600);
/// The same for a family whose SYN was lost: it costs little to try again, but not all users need to at once.
const LOST: Duration = Duration::from_secs(10);
/// The longest that anyone waits for what the first one finds out.
const PATIENCE: Duration = Duration::from_secs(1);
/// Hosts remembered before those of which nothing is known any more are forgotten.
const HOSTS: usize = 1024;

/// What is remembered; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<HashMap<String, Host>>>);

/// By family, in the order of `IpVersion`.
#[derive(Debug, Default)]
struct Host {
    families: [Way; 2],
    /// Open while somebody is finding out.
    leading: Option<watch::Receiver<()>>,
}

#[derive(Debug, Default)]
struct Way {
    trouble: Option<Trouble>,
    works_until: Option<Instant>,
    rtt: Option<Duration>,
}

/// It failed so that it goes last, and from when on somebody finds out whether it still does.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    until: Instant,
    length: Duration,
}

/// What a cycle is at a host.
#[derive(Debug)]
pub enum Role {
    /// It is known how things are.
    Informed,
    /// The first: the others wait until this is dropped.
    Leader(Lead),
    /// Somebody is finding out.
    Follower(Follow),
}

/// Held by the one who finds out how a family is doing.
#[derive(Debug)]
pub struct Lead {
    version: IpVersion,
    /// Until when others hold to what is tried again here, to tell it from later trouble.
    again: Option<Instant>,
    _open: watch::Sender<()>,
}

/// Waits for the one who finds out.
#[derive(Debug)]
pub struct Follow(watch::Receiver<()>);

impl Follow {
    /// Until something is known, or for a second.
    pub async fn wait(mut self) {
        // Nothing is ever sent: the end of the channel is the news.
        let _ = timeout(PATIENCE, self.0.changed()).await;
    }
}

impl Health {
    /// Begins a cycle at a host whose addresses of one family go first.
    pub fn enter(&self, host: &str, first: IpVersion, now: Instant) -> Role {
        let mut hosts = self.lock();
        if hosts.len() >= HOSTS {
            hosts.retain(|_, host| host.is_of_use(now));
        }
        let host = hosts.entry(host.to_owned()).or_default();
        let way = &mut host.families[first as usize];
        if way.works_until.is_some_and(|until| now < until)
            || way.trouble.is_some_and(|trouble| now < trouble.until)
        {
            return Role::Informed;
        }
        if let Some(leading) = host
            .leading
            .as_ref()
            .filter(|open| open.has_changed().is_ok())
        {
            return Role::Follower(Follow(leading.clone()));
        }
        // For everybody else it is as bad as it was until there are news.
        if let Some(trouble) = &mut way.trouble {
            trouble.until = now + trouble.length;
        }
        let again = way.trouble.map(|trouble| trouble.until);
        let (open, leading) = watch::channel(());
        host.leading = Some(leading);
        Role::Leader(Lead {
            version: first,
            again,
            _open: open,
        })
    }

    /// What a race at a host should know. Whoever leads tries what did not work.
    pub fn advice(&self, host: &str, lead: Option<&Lead>, now: Instant) -> Advice {
        let hosts = self.lock();
        let Some(host) = hosts.get(host) else {
            return Advice::default();
        };
        let is_weak = |version: IpVersion| {
            let trouble = host.families[version as usize].trouble;
            trouble.is_some_and(|trouble| {
                let is_tried =
                    |lead: &Lead| lead.version == version && lead.again == Some(trouble.until);
                now < trouble.until && !lead.is_some_and(is_tried)
            })
        };
        Advice {
            is_weak: [is_weak(IpVersion::V6), is_weak(IpVersion::V4)],
            rtt: [host.families[0].rtt, host.families[1].rtt],
        }
    }

    /// TCP came up after so long.
    pub fn measured(&self, host: &str, version: IpVersion, rtt: Duration) {
        self.change(host, version, |way| {
            // RFC 6298 section 2.
            way.rtt = Some(way.rtt.map_or(rtt, |known| known * 7 / 8 + rtt / 8));
        });
    }

    /// A server welcomed us.
    pub fn works(&self, host: &str, version: IpVersion, now: Instant) {
        self.change(host, version, |way| {
            way.trouble = None;
            way.works_until = Some(now + TEN_MINUTES);
        });
    }

    /// It connected, and then TLS or the server was silent: who tries it loses seconds.
    pub fn stalled(&self, host: &str, version: IpVersion, now: Instant) {
        self.trouble(host, version, now, TEN_MINUTES);
    }

    /// TCP did not come up while the other family did.
    pub fn lost(&self, host: &str, version: IpVersion, now: Instant) {
        self.trouble(host, version, now, LOST);
    }

    fn trouble(&self, host: &str, version: IpVersion, now: Instant, length: Duration) {
        self.change(host, version, |way| {
            let until = now + length;
            if way.trouble.is_none_or(|known| known.until <= until) {
                way.trouble = Some(Trouble { until, length });
            }
            way.works_until = None;
        });
    }

    fn change(&self, host: &str, version: IpVersion, change: impl FnOnce(&mut Way)) {
        let mut hosts = self.lock();
        change(&mut hosts.entry(host.to_owned()).or_default().families[version as usize]);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Host>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host {
    fn is_of_use(&self, now: Instant) -> bool {
        let is_led = self
            .leading
            .as_ref()
            .is_some_and(|open| open.has_changed().is_ok());
        let is_known = |way: &Way| {
            way.works_until.is_some_and(|until| now < until)
                || way.trouble.is_some_and(|trouble| now < trouble.until)
        };
        is_led || self.families.iter().any(is_known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V6: IpVersion = IpVersion::V6;

    fn is_weak(health: &Health, lead: Option<&Lead>, now: Instant) -> bool {
        let advice = health.advice("irc.test", lead, now);
        assert!(!advice.is_weak[1], "nobody complained about IPv4");
        advice.is_weak[0]
    }

    #[tokio::test(start_paused = true)]
    async fn a15_a_family_that_stalled_goes_last_for_ten_minutes_and_then_one_tries() {
        let (health, now) = (Health::default(), Instant::now());
        health.stalled("irc.test", V6, now);
        let just_before = now + TEN_MINUTES - Duration::from_millis(1);
        for at in [now, just_before] {
            assert!(matches!(health.enter("irc.test", V6, at), Role::Informed));
            assert!(is_weak(&health, None, at));
        }
        let then = now + TEN_MINUTES;
        let Role::Leader(lead) = health.enter("irc.test", V6, then) else {
            panic!("nobody tries")
        };
        assert!(!is_weak(&health, Some(&lead), then));
        assert!(is_weak(&health, None, then), "one is enough");
        health.stalled("irc.test", V6, then + Duration::from_millis(1));
        assert!(
            is_weak(&health, Some(&lead), then),
            "it has failed once more"
        );
        drop(lead);
        let Role::Informed = health.enter("irc.test", V6, then + Duration::from_secs(1)) else {
            panic!("two try in ten minutes")
        };
        health.works("irc.test", V6, then);
        assert!(
            !is_weak(&health, None, then),
            "a success restores the order"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a16_of_500_users_one_leads_and_the_rest_wait_for_news() {
        let (health, now) = (Health::default(), Instant::now());
        let mut followers = Vec::new();
        let Role::Leader(lead) = health.enter("irc.test", V6, now) else {
            panic!("nobody leads")
        };
        for _ in 1..500 {
            let Role::Follower(follow) = health.enter("irc.test", V6, now) else {
                panic!("a second one leads")
            };
            followers.push(tokio::spawn(follow.wait()));
        }
        assert!(matches!(
            health.enter("other.test", V6, now),
            Role::Leader(_)
        ));
        tokio::time::advance(Duration::from_millis(300)).await;
        tokio::task::yield_now().await;
        assert!(followers.iter().all(|follower| !follower.is_finished()));
        health.stalled("irc.test", V6, Instant::now());
        drop(lead);
        for follower in followers {
            follower.await.unwrap();
        }
        assert_eq!(
            now.elapsed(),
            Duration::from_millis(300),
            "nobody waits longer"
        );
        assert!(is_weak(&health, None, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_a_second() {
        let (health, now) = (Health::default(), Instant::now());
        let _lead = health.enter("irc.test", V6, now);
        let Role::Follower(follow) = health.enter("irc.test", V6, now) else {
            panic!("a second one leads")
        };
        follow.wait().await;
        assert_eq!(now.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_syn_is_forgotten_soon_and_hides_nothing_worse() {
        let (health, now) = (Health::default(), Instant::now());
        health.lost("irc.test", V6, now);
        assert!(is_weak(&health, None, now));
        assert!(!is_weak(&health, None, now + LOST));
        health.stalled("irc.test", V6, now);
        health.lost("irc.test", V6, now);
        assert!(is_weak(&health, None, now + LOST));
    }

    #[tokio::test(start_paused = true)]
    async fn what_works_is_not_tried_out_again_for_ten_minutes() {
        let (health, now) = (Health::default(), Instant::now());
        health.works("irc.test", V6, now);
        assert!(matches!(health.enter("irc.test", V6, now), Role::Informed));
        let later = now + TEN_MINUTES;
        assert!(matches!(
            health.enter("irc.test", V6, later),
            Role::Leader(_)
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn distances_are_smoothed() {
        let (health, now) = (Health::default(), Instant::now());
        let rtt = || health.advice("irc.test", None, now).rtt[0].map(|rtt| rtt.as_millis());
        assert_eq!(rtt(), None);
        health.measured("irc.test", V6, Duration::from_millis(400));
        assert_eq!(rtt(), Some(400));
        health.measured("irc.test", V6, Duration::from_millis(800));
        assert_eq!(rtt(), Some(450));
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_of_which_nothing_is_known_are_forgotten() {
        let (health, now) = (Health::default(), Instant::now());
        for n in 0..HOSTS {
            let _dropped = health.enter(&format!("{n}.test"), V6, now);
        }
        health.stalled("bad.test", V6, now);
        let _lead = health.enter("irc.test", V6, now);
        assert_eq!(health.lock().len(), 2);
    }
}
