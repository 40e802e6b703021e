//! The link to a server: down, registering or up; how it is won, lost and won again. Everything one
//! link taught us is one value, dropped whole with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::history::EntryId;
use crate::wire::{CapSet, CaseMapping, Isupport, Name, Timestamp, latin1};

use super::channels::Channel;
use super::registration::Registration;
use super::turn::{Action, ClientId, Dial, LinkEnd, Ticks, Turn};
use super::{LinkStatus, Network, Timer};

/// The longest wait between attempts.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// The least wait after a throttle, or an ERROR before 001.
const THROTTLED: Duration = Duration::from_secs(60);
/// The least wait after a ban or a refused login.
const BANNED: Duration = Duration::from_secs(30 * 60);
/// A link that lasted so long was a good one.
const GOOD_LINK: Duration = Duration::from_secs(600);
/// So many short links in a row are still regained quickly.
const QUICK_REGAINS: u32 = 3;
/// So many members are kept over all channels of a network.
const MAX_MEMBERS: usize = 100_000;
/// So long may the server take from 001 to the end of the message of the day.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);

/// Where the network stands.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Upstream {
    Down(Outage),
    Registering(Box<Registration>),
    Up(Box<Link>),
}

/// Why and until when there is no link.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Outage {
    pub(super) reason: String,
    pub(super) until: Option<Ticks>,
}

/// What the shell knows of a link that has just come up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// For people: `irc.example.org [2001:db8::1]:6697, TLSv1.3`.
    pub via: String,
}

/// Why a link ended, or never came up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// No address of the cycle led to a link.
    NotReached(String),
    /// The connection ended.
    Closed(String),
}

/// Everything one link to a server taught us.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) facts: Facts,
    pub(super) nick: Name,
    #[serde(with = "latin1")]
    pub(super) server: Bytes,
    pub(super) isupport: Isupport,
    pub(super) caps: CapSet,
    pub(super) channels: BTreeMap<Name, Channel>,
    pub(super) modes: BTreeSet<u8>,
    pub(super) server_modes: [Vec<u8>; 3],
    /// What 396 said during the welcome.
    #[serde(with = "latin1::option")]
    pub(super) user: Option<Bytes>,
    #[serde(with = "latin1::option")]
    pub(super) host: Option<Bytes>,
    #[serde(with = "latin1::option")]
    pub(super) account: Option<Bytes>,
    /// Whether the welcome is over: clients have been shown the network.
    pub(super) welcomed: bool,
    pub(super) since: Ticks,
    pub(super) up_since: Timestamp,
    pub(super) heard_at: Ticks,
    /// A PING of ours is unanswered.
    pub(super) pinged: bool,
    /// What the server said before it hung up.
    pub(super) error: Option<String>,
    /// Own messages that may still be refused.
    pub(super) unrefused: VecDeque<Sent>,
    /// It put us on more channels than are kept.
    pub(super) overflowed: bool,
    /// PINGs of this second: since when, and how many.
    pub(super) pings: (Ticks, u32),
}

/// An own message that the server may still refuse.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) at: Ticks,
    pub(super) from: ClientId,
    pub(super) target: Name,
    pub(super) entry: Option<EntryId>,
}

impl Link {
    /// Whether more members may be kept, over all channels.
    pub(super) fn has_room(&self) -> bool {
        let members = self
            .channels
            .values()
            .map(|c| c.members.len() + c.gathering.len());
        members.sum::<usize>() < MAX_MEMBERS
    }

    pub(super) fn refold(&mut self, mapping: CaseMapping) {
        self.nick = self.nick.refold(mapping);
        self.channels = std::mem::take(&mut self.channels)
            .into_iter()
            .map(|(name, mut channel)| {
                channel.refold(mapping);
                (name.refold(mapping), channel)
            })
            .collect();
    }
}

/// How long to wait before the next attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Backoff {
    failures: u32,
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

    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from((most.saturating_sub(least)).as_millis()).unwrap_or(u64::MAX);
        least + Duration::from_millis(self.random() % span.saturating_add(1))
    }

    /// After a cycle that never registered: doubling from `first`, with jitter.
    fn failed(&mut self, first: Duration) -> Duration {
        let wait = first
            .saturating_mul(1 << self.failures.min(16))
            .min(MAX_WAIT);
        self.failures = self.failures.saturating_add(1);
        self.between(wait / 2, wait)
    }

    /// After a registered link was lost. Earlier failures to get one do not count, links that did not last do.
    fn lost(&mut self, lasted: Duration, first: Duration) -> Duration {
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

/// What a server's parting words mean for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ordinary,
    Throttled,
    Banned,
}

/// Reads an ERROR, 465 or the like. Whatever it says, another address is no answer to it.
pub(super) fn verdict(text: &str) -> Verdict {
    let text = text.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&[
        "throttl",
        "too fast",
        "too many",
        "try again later",
        "reconnecting",
    ]) {
        Verdict::Throttled
    } else if has(&[
        "banned",
        "-lined",
        "-line",
        "akill",
        "dnsbl",
        "not welcome",
        "blacklist",
    ]) {
        Verdict::Banned
    } else {
        Verdict::Ordinary
    }
}

impl Network {
    /// Begins a new cycle over all addresses.
    pub(super) fn dial_afresh(&mut self, turn: &mut Turn) {
        if let Upstream::Down(outage) = &mut self.upstream {
            outage.until = None;
        }
        self.timers.cancel(&Timer::Dial);
        turn.push(Action::Dial(Dial::Afresh));
        self.publish(turn);
    }

    /// Connects now, whatever wait is on.
    pub fn connect(&mut self, turn: &mut Turn) {
        if matches!(&self.upstream, Upstream::Down(outage) if outage.until.is_some()) {
            self.dial_afresh(turn);
        }
    }

    /// The shell has a connection: registration begins.
    pub fn linked(&mut self, facts: Facts, turn: &mut Turn) {
        self.timers.cancel_all();
        self.begin_registration(facts, turn);
        self.publish(turn);
    }

    /// The link ended without our doing, or none came up.
    pub fn unlinked(&mut self, loss: Loss, turn: &mut Turn) {
        let first = self.settings.network.dial.reconnect;
        let (reason, wait) = match (&self.upstream, loss) {
            (Upstream::Down(_), Loss::NotReached(why) | Loss::Closed(why)) => {
                (why, self.backoff.failed(first))
            }
            (Upstream::Registering(registration), Loss::NotReached(why) | Loss::Closed(why)) => {
                let Some(error) = registration.error.clone() else {
                    // Nothing was said: the next address of this cycle may be alive.
                    return self.next_address(why, turn);
                };
                self.after_refusal(error)
            }
            (Upstream::Up(link), Loss::NotReached(why) | Loss::Closed(why)) => {
                let lasted = turn.now.ticks.since(link.since);
                let error = link.error.clone();
                let verdict = error.as_deref().map_or(Verdict::Ordinary, verdict);
                let wait = self.backoff.lost(lasted, first);
                (error.unwrap_or(why), at_least(wait, verdict))
            }
        };
        self.outage(reason, wait, turn);
    }

    /// The wait after a server turned us away before 001.
    fn after_refusal(&mut self, error: String) -> (String, Duration) {
        let first = self.settings.network.dial.reconnect;
        let wait = self.backoff.failed(first).max(THROTTLED);
        let wait = at_least(wait, verdict(&error));
        (error, wait)
    }

    /// We end the attempt ourselves: the login was refused.
    pub(super) fn refuse(&mut self, reason: String, least: Verdict, turn: &mut Turn) {
        turn.push(Action::Unlink(LinkEnd::Flush));
        let first = self.settings.network.dial.reconnect;
        let wait = at_least(self.backoff.failed(first), least);
        self.outage(reason, wait, turn);
    }

    fn outage(&mut self, reason: String, wait: Duration, turn: &mut Turn) {
        let was_up = matches!(self.upstream, Upstream::Up(_));
        self.drop_link(turn);
        let until = turn.now.ticks.plus(wait);
        self.timers.set(Timer::Dial, until);
        self.upstream = Upstream::Down(Outage {
            reason,
            until: Some(until),
        });
        // A cycle that fails like the one before says nothing new.
        if was_up || self.backoff.failures <= 1 || wait >= BANNED {
            self.announce(&self.outage_text(turn.now.ticks), turn);
        }
        self.publish(turn);
    }

    /// The server of this address is no good: the next one of the cycle.
    fn next_address(&mut self, why: String, turn: &mut Turn) {
        self.drop_link(turn);
        self.upstream = Upstream::Down(Outage {
            reason: why,
            until: None,
        });
        turn.push(Action::Unlink(LinkEnd::Drop));
        turn.push(Action::Dial(Dial::NextAddress));
        self.publish(turn);
    }

    /// What belonged to the link goes with it; what clients were shown stays.
    fn drop_link(&mut self, turn: &mut Turn) {
        self.timers.cancel_all();
        self.drop_outgoing(turn);
        self.abort_pending(turn);
    }

    /// No octet since we began to register.
    pub(super) fn silent(&mut self, turn: &mut Turn) {
        if matches!(&self.upstream, Upstream::Registering(registration) if !registration.heard) {
            let silence = self.settings.network.dial.silence.as_secs();
            self.next_address(format!("the server said nothing for {silence} s"), turn);
        }
    }

    pub(super) fn registration_timed_out(&mut self, turn: &mut Turn) {
        let timeout = self.settings.network.dial.register_timeout.as_secs();
        self.refuse(
            format!("not welcomed within {timeout} s"),
            Verdict::Ordinary,
            turn,
        );
    }

    /// A line came in.
    pub(super) fn heard(&mut self, turn: &Turn) {
        match &mut self.upstream {
            Upstream::Down(_) => {}
            Upstream::Registering(registration) => registration.heard = true,
            Upstream::Up(link) => (link.heard_at, link.pinged) = (turn.now.ticks, false),
        }
    }

    /// 001: the registration becomes a link.
    pub(super) fn up(&mut self, nick: &[u8], server: &[u8], turn: &mut Turn) {
        let now = turn.now;
        let Upstream::Registering(registration) = &mut self.upstream else {
            return;
        };
        let link = Link {
            facts: std::mem::take(&mut registration.facts),
            nick: Name::new(nick, self.mapping),
            server: Bytes::copy_from_slice(server),
            isupport: Isupport::default(),
            caps: registration.acked,
            channels: BTreeMap::new(),
            modes: BTreeSet::new(),
            server_modes: self.face.server_modes.clone(),
            user: None,
            host: None,
            account: registration.account.take(),
            welcomed: false,
            since: now.ticks,
            up_since: now.time,
            heard_at: now.ticks,
            pinged: false,
            error: None,
            unrefused: VecDeque::new(),
            overflowed: false,
            pings: (now.ticks, 0),
        };
        self.upstream = Upstream::Up(Box::new(link));
        self.timers.cancel_all();
        self.timers
            .set(Timer::Welcome, now.ticks.plus(WELCOME_TIMEOUT));
        self.watch_liveness(turn);
    }

    /// The server has said what it had to say: clients are shown the network, channels are joined.
    pub(super) fn welcomed(&mut self, turn: &mut Turn) {
        self.timers.cancel(&Timer::Welcome);
        let Some(link) = self.link_mut() else { return };
        link.welcomed = true;
        let (mapping, via) = (link.isupport.casemapping(), link.facts.via.clone());
        self.refold(mapping, turn);
        self.face_link(turn);
        self.announce(
            &format!("{}: connected to {via}", self.settings.network.name),
            turn,
        );
        self.say_on_connect(turn);
        self.join_saved(turn);
        self.watch_nick(turn);
        self.publish(turn);
    }

    /// For people: why there is no link and what comes next.
    pub(super) fn outage_text(&self, now: Ticks) -> String {
        let name = &self.settings.network.name;
        match &self.upstream {
            _ if self.settings.network.servers.is_empty() => {
                "you are attached to no network: log in as user/network".to_owned()
            }
            Upstream::Up(_) => format!("{name}: connected"),
            Upstream::Down(_) if !self.settings.network.enabled => {
                format!("{name}: not connected, it is disabled")
            }
            Upstream::Down(Outage {
                reason,
                until: Some(until),
            }) => {
                let wait = until.since(now).as_secs();
                format!("{name}: not connected ({reason}); next try in {wait} s")
            }
            Upstream::Down(_) | Upstream::Registering(_) => format!("{name}: connecting"),
        }
    }

    pub(super) fn link_status(&self) -> LinkStatus {
        let network = &self.settings.network;
        match &self.upstream {
            _ if network.servers.is_empty() => LinkStatus::Lobby,
            Upstream::Up(link) => LinkStatus::Connected {
                via: link.facts.via.clone(),
                since: link.up_since,
            },
            Upstream::Down(_) if !network.enabled => LinkStatus::Disabled,
            Upstream::Down(Outage {
                reason,
                until: Some(until),
            }) => LinkStatus::Waiting {
                reason: reason.clone(),
                until: *until,
            },
            Upstream::Down(outage) => LinkStatus::Connecting {
                last: outage.reason.clone(),
            },
            Upstream::Registering(_) => LinkStatus::Connecting {
                last: String::new(),
            },
        }
    }

    /// The daemon stops: the server is told, and clients are. The shell closes the link when this is said.
    pub fn stop(&mut self, reason: &str, turn: &mut Turn) {
        if !matches!(self.upstream, Upstream::Down(_)) {
            let quit = crate::wire::LineBuilder::new(b"QUIT").trailing(reason.as_bytes());
            turn.send(quit.build());
        }
        self.timers.cancel_all();
        for id in self.clients.keys() {
            turn.push(Action::Dismiss(*id, reason.to_owned()));
        }
    }
}

fn at_least(wait: Duration, verdict: Verdict) -> Duration {
    match verdict {
        Verdict::Ordinary => wait,
        Verdict::Throttled => wait.max(THROTTLED),
        Verdict::Banned => wait.max(BANNED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::history::Remembered;
    use crate::state::Settings;

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

    #[test]
    fn the_outage_of_a_lobby_or_a_disabled_network_promises_nothing() {
        let text = |network| {
            let settings = Settings {
                network,
                ..Settings::default()
            };
            let network = Network::new(settings, Remembered::default(), 1);
            network.outage_text(Ticks(0))
        };
        let lobby = config::Network::default();
        assert_eq!(
            text(lobby),
            "you are attached to no network: log in as user/network"
        );
        let disabled = config::Network {
            name: "oftc".into(),
            enabled: false,
            servers: vec![config::ServerAddr::parse("ircs://irc.test").unwrap()],
            ..config::Network::default()
        };
        assert_eq!(text(disabled), "oftc: not connected, it is disabled");
    }

    #[test]
    fn parting_words_are_understood() {
        for (text, expected) in [
            ("Closing Link: (Ping timeout)", Verdict::Ordinary),
            (
                "Your host is trying to (re)connect too fast -- throttled",
                Verdict::Throttled,
            ),
            ("Too many connections from your IP", Verdict::Throttled),
            ("You are banned from this server", Verdict::Banned),
            ("Closing Link: x (K-Lined)", Verdict::Banned),
        ] {
            assert_eq!(verdict(text), expected, "{text}");
        }
    }
}
