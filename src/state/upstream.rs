//! The link to a server: down, registering or up; how it is won, lost and won again. Everything one
//! link taught us is one value, dropped whole with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use sha2::{Digest, Sha256};

use crate::history::EntryId;
use crate::wire::{CapSet, CaseMapping, Isupport, Name, Timestamp, latin1};

use super::accounts::Making;
use super::batches::Batches;
use super::capabilities::Values;
use super::channels::Channel;
use super::metadata::OwnMetadata;
use super::monitor::Monitor;
use super::multiline::Gathering;
use super::nicks::Tending;
use super::orders::Lag;
use super::pending::RequestId;
use super::people::People;
use super::registration::Registration;
use super::sasl::{Applicant, Exchange};
use super::turn::{Action, ClientId, Dial, LinkEnd, Ticks, Turn};
use super::{LinkStatus, Network, Timer};

/// The least wait after a throttle, or an ERROR before 001.
const THROTTLED: Duration = Duration::from_secs(60);
/// The least wait after a ban or a refused login.
const BANNED: Duration = Duration::from_secs(30 * 60);
/// So many members are kept over all channels of a network.
const MAX_MEMBERS: usize = 250_000;
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
    /// The server as configured.
    pub server: String,
    /// The address it was reached at.
    pub address: String,
    /// `IPv6` or `IPv4`; empty for a unix socket.
    pub family: String,
    /// `TLSv1.3`, or `clear text`.
    pub protection: String,
    /// The name of the server, which is checked over TLS; empty where there is no wire: unix sockets, `irc://`.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether TLS protects it.
    pub is_tls: bool,
    /// Nobody else knows it.
    pub seed: [u8; 16],
}

impl Facts {
    /// A word that nobody can guess and that is used once.
    pub(super) fn nonce(&self, n: u8) -> String {
        let digest = Sha256::new().chain_update(self.seed).chain_update([n]);
        STANDARD.encode(&digest.finalize()[..18])
    }
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
    pub(super) values: Values,
    pub(super) channels: BTreeMap<Name, Channel>,
    pub(super) people: People,
    pub(super) monitor: Monitor,
    pub(super) gathering: Gathering,
    pub(super) metadata: OwnMetadata,
    pub(super) modes: BTreeSet<u8>,
    pub(super) server_modes: [Vec<u8>; 3],
    /// What 396 said during the welcome.
    #[serde(with = "latin1::option")]
    pub(super) user: Option<Bytes>,
    #[serde(with = "latin1::option")]
    pub(super) host: Option<Bytes>,
    #[serde(with = "latin1::option")]
    pub(super) account: Option<Bytes>,
    /// Our own login, when it comes later than the link.
    pub(super) sasl: Option<Exchange>,
    /// The client that logs in to the network.
    pub(super) authenticating: Option<Applicant>,
    /// The client that asked for an account there.
    pub(super) applicant: Option<Applicant>,
    /// That account. It may hold a secret, which is for no other process.
    #[serde(skip)]
    pub(super) making: Making,
    pub(super) tending: Tending,
    /// Whether the welcome is over: clients have been shown the network.
    pub(super) welcomed: bool,
    pub(super) since: Ticks,
    pub(super) up_since: Timestamp,
    pub(super) heard_at: Ticks,
    /// A PING of ours is unanswered.
    pub(super) pinged: bool,
    /// What the server said before it hung up.
    pub(super) error: Option<String>,
    /// Batches that answer something.
    pub(super) batches: Batches,
    /// Own messages that may still be refused.
    pub(super) unrefused: VecDeque<Sent>,
    /// It put us on more channels than are kept.
    pub(super) overflowed: bool,
    /// PINGs of this second: since when, and how many.
    pub(super) pings: (Ticks, u32),
    /// When a PING that measures was sent, if it is unanswered.
    pub(super) lag_asked: Option<Ticks>,
    /// What was measured last.
    pub(super) lag: Option<Lag>,
}

/// An own message that the server may still refuse.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) at: Ticks,
    /// `None`: a client that left since.
    pub(super) from: Option<ClientId>,
    pub(super) target: Name,
    pub(super) entry: EntryId,
    /// The PING behind a message of several lines: with the PONG it is not refused any more.
    pub(super) fence: Option<RequestId>,
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
        self.people.refold(mapping);
        self.monitor.refold(mapping);
        self.channels = std::mem::take(&mut self.channels)
            .into_iter()
            .map(|(name, mut channel)| {
                channel.refold(mapping);
                (name.refold(mapping), channel)
            })
            .collect();
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
        // Whoever left wants to stay away, whatever else changes.
        if !self.offline {
            turn.push(Action::Dial(Dial::Afresh));
        }
        self.publish(turn);
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
    pub(super) fn drop_link(&mut self, turn: &mut Turn) {
        self.timers.cancel_all();
        self.end_gathering(turn);
        self.end_relayed(turn);
        self.count_policies(turn);
        self.monitor_lost(turn);
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
        let tending = Tending::begun(registration, &self.wanted_nick, nick);
        let link = Link {
            facts: std::mem::take(&mut registration.facts),
            nick: Name::new(nick, self.mapping),
            server: Bytes::copy_from_slice(server),
            isupport: Isupport::default(),
            caps: registration.acked,
            values: std::mem::take(&mut registration.values),
            channels: BTreeMap::new(),
            people: People::default(),
            monitor: Monitor::default(),
            gathering: Gathering::default(),
            metadata: OwnMetadata::default(),
            modes: BTreeSet::new(),
            server_modes: self.face.server_modes.clone(),
            user: None,
            host: None,
            account: registration.account.take(),
            sasl: None,
            authenticating: None,
            applicant: None,
            making: Making::default(),
            tending,
            welcomed: false,
            since: now.ticks,
            up_since: now.time,
            heard_at: now.ticks,
            pinged: false,
            error: None,
            batches: Batches::default(),
            unrefused: VecDeque::new(),
            overflowed: false,
            pings: (now.ticks, 0),
            lag_asked: None,
            lag: None,
        };
        self.upstream = Upstream::Up(Box::new(link));
        self.pace();
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
        self.pace();
        self.face_link(turn);
        self.announce(
            &format!("{}: connected to {via}", self.settings.network.name),
            turn,
        );
        self.say_on_connect(turn);
        self.join_saved(turn);
        self.settle_nick(turn);
        self.monitor_again(turn);
        self.subscribe_again(turn);
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
            Upstream::Down(_) if self.offline => {
                format!("{name}: not connected until you say \"network connect {name}\"")
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
            Upstream::Down(_) if self.offline => LinkStatus::Offline,
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
#[path = "upstream_tests.rs"]
mod tests;
