//! Everything known about one network and the clients attached to it, as one value. Pure: no socket,
//! clock, file or `async`; time comes in as an argument, effects go out as `Action`s, and between two
//! inputs all of it can be written as JSON and read back.
//!
//! This file holds the type and its inputs. What lines mean is in the features, one file each.

mod accounts;
mod away;
mod backoff;
mod batches;
mod burst;
mod capabilities;
mod channels;
mod chathistory;
mod clients;
mod compound;
mod configure;
pub mod conformance;
mod coverage;
mod ctcp;
mod detach;
mod face;
mod families;
mod feature;
pub mod forms;
mod highlights;
mod identity;
mod invite;
mod joins;
mod labels;
mod liveness;
pub mod login;
pub mod login_name;
mod messages;
mod metadata;
mod modes;
mod monitor;
mod multiline;
mod names;
mod networks;
mod nicks;
pub mod orders;
mod outgoing;
mod own_talks;
mod pending;
mod people;
mod playback;
mod positions;
mod read_marker;
mod record;
mod redaction;
mod registration;
mod relayed;
mod rename;
mod replies;
mod routing;
mod sasl;
mod saved;
mod scram;
mod search;
pub mod service;
mod status;
mod storage;
mod sts;
mod support;
mod timers;
mod topics;
pub mod turn;
mod upstream;
mod who;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config;
use crate::history::{EntryId, Remembered, Write};
use crate::wire::{CapSet, CaseMapping, Line, LineBuilder, Name};

pub use capabilities::{offered_at_login, requested};
pub use clients::Newcomer;
pub use compound::unfolded;
pub use detach::{Hidden, Why};
pub use networks::{Attribute, Attributes, NetworksAsk};
pub use positions::{Page, Proof};
pub use record::{is_said_by, sifted};
pub use scram::{Salted, salt};
pub use status::{ClientStatus, LinkStatus, NetworkStatus};
pub use storage::StorageStatus;
pub use turn::{
    Action, Ask, Audience, ClientId, Dial, Item, LinkEnd, NewAccount, Now, Plan, Play, Renamed,
    Shown, Ticks, Turn, View, Wish, Worn,
};
pub use upstream::{Facts, Loss};

use backoff::Backoff;
use clients::Attached;
use detach::Detached;
use face::Face;
use feature::{Answer, Asked, Received};
use labels::Replies;
use outgoing::Outgoing;
use pending::Pending;
use positions::Positions;
use read_marker::Markers;
use record::Recent;
use relayed::Relayed;
use saved::SavedChannels;
use storage::Storage;
use sts::Policies;
use timers::{Timer, Timers};
use upstream::{Link, Outage, Upstream};

/// What a network is run by. Not state: whoever restores a network brings it along.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What the configuration says about it.
    pub network: config::Network,
    /// The name clients know carom by.
    pub server: String,
    /// The message of the day.
    pub motd: Vec<String>,
    /// Tells the message ids of one network from those of another.
    pub id: u64,
    /// The network's number, which no other one ever has; 0 for a lobby.
    pub netid: u64,
}

/// One network of one user; a lobby when it has no servers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Network {
    #[serde(skip)]
    settings: Settings,
    mapping: CaseMapping,
    next: EntryId,
    recent: Recent,
    clients: BTreeMap<ClientId, Attached>,
    face: Face,
    positions: Positions,
    markers: Markers,
    saved: SavedChannels,
    detached: Detached,
    #[serde(with = "crate::wire::latin1")]
    wanted_nick: Bytes,
    #[serde(with = "crate::wire::latin1::option")]
    away: Option<Bytes>,
    /// The real name the user chose, instead of the configured one.
    #[serde(with = "crate::wire::latin1::option")]
    realname: Option<Bytes>,
    policies: Policies,
    outgoing: Outgoing,
    pending: Pending,
    replies: Replies,
    relayed: Relayed,
    ctcp: ctcp::Questions,
    timers: Timers,
    upstream: Upstream,
    backoff: Backoff,
    /// The user said to stay away.
    offline: bool,
    /// Services may not know our certificate yet.
    new_certificate: bool,
    /// The server a jump went to last, by its place in the list.
    jumped_to: usize,
    storage: Storage,
}

impl Network {
    /// A network as the store remembers it. `seed` feeds the jitter of its waits.
    pub fn new(settings: Settings, remembered: Remembered, seed: u64) -> Self {
        let mapping = saved::mapping(&remembered.facts);
        let mut network = Self {
            mapping,
            next: remembered.head.next(),
            recent: Recent::since(remembered.head, remembered.newest),
            clients: BTreeMap::new(),
            face: Face::new(&settings),
            positions: Positions::default(),
            markers: Markers::default(),
            saved: SavedChannels::default(),
            detached: Detached::default(),
            wanted_nick: Bytes::from(settings.network.nick.clone()),
            away: None,
            realname: None,
            policies: Policies::default(),
            outgoing: Outgoing::new(settings.network.flood),
            pending: Pending::default(),
            replies: Replies::default(),
            relayed: Relayed::default(),
            ctcp: ctcp::Questions::default(),
            timers: Timers::default(),
            upstream: Upstream::Down(Outage::default()),
            backoff: Backoff::new(seed),
            offline: false,
            new_certificate: false,
            jumped_to: 0,
            storage: Storage::default(),
            settings,
        };
        for row in remembered.positions {
            let target = row.target.map(|t| Name::new(&t, mapping));
            network
                .positions
                .restore(row.client, target, row.id, row.time);
        }
        for (target, id) in remembered.floors {
            network
                .positions
                .restore_floor(Name::new(&target, mapping), id);
        }
        network.detach_configured();
        network.restore_facts(&remembered.facts);
        network.storage.restore_gaps(remembered.gaps);
        network
    }

    /// The same network run by other settings, after it was read back.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Begins: dials when there is something to dial.
    pub fn start(&mut self, turn: &mut Turn) {
        // Whatever promises of servers were still open when the last run ended.
        self.count_policies(turn);
        if self.settings.network.enabled && !self.settings.network.servers.is_empty() {
            self.dial_afresh(turn);
        }
        self.publish(turn);
    }

    /// Takes one line from the server, without its line end.
    pub fn receive(&mut self, raw: &Bytes, turn: &mut Turn) {
        let Ok(line) = Line::parse(raw) else { return };
        self.heard(turn);
        let received = Received {
            line,
            raw,
            lines: None,
        };
        match &self.upstream {
            Upstream::Down(_) => {}
            Upstream::Registering(_) => self.on_registering(&received, turn),
            Upstream::Up(_) => self.on_link_line(&received, turn),
        }
    }

    fn on_line(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let tagged = !received.line.raw_tags().is_empty();
        if (tagged || received.line.is(b"BATCH")) && self.gather_line(received, turn) {
            return;
        }
        match feature::said(received.line.command()) {
            Some(rule) if received.line.param_count() < rule.least => {}
            Some(rule) => (rule.run)(self, received, turn),
            None if received.line.numeric().is_some() => self.on_numeric(received, turn),
            None => self.pass_on(received, self.audience_of(turn), turn),
        }
    }

    /// Takes one line from an attached client, without its line end.
    pub fn relay(&mut self, from: ClientId, raw: &Bytes, turn: &mut Turn) {
        if !self.clients.contains_key(&from) {
            return;
        }
        let Ok(line) = Line::parse(raw) else {
            let line = self.numeric(421).param(b"*").trailing(b"Not a command");
            turn.tell(from, line.build());
            return turn.push(Action::Credit(from, 1));
        };
        if let Some(client) = self.clients.get_mut(&from)
            && is_activity(&line)
        {
            client.active_at = turn.now.ticks;
        }
        let reply = self.begin_reply(from, &line);
        let asked = Asked { from, line, reply };
        let start = turn.actions.len();
        turn.holding = true;
        let refused = self.refuse_bytes(&asked, turn);
        let refused = refused.or_else(|| self.draft_line(&asked, turn));
        let answer = match (refused, feature::asked(line.command())) {
            (Some(answer), _) => answer,
            (None, Some(rule)) if line.param_count() < rule.least => {
                self.need_more_params(&asked, turn)
            }
            (None, Some(rule)) => (rule.run)(self, &asked, turn),
            (None, None) => self.forward(&asked, turn),
        };
        turn.holding = false;
        if let Some(reply) = reply {
            self.label_answer(reply, start, turn);
        }
        if answer == Answer::Now {
            turn.push(Action::Credit(from, 1));
        }
        self.pump_queued(turn);
    }

    /// Does whatever has fallen due.
    pub fn tick(&mut self, turn: &mut Turn) {
        while let Some(timer) = self.timers.due(turn.now.ticks) {
            match timer {
                Timer::Dial => self.dial_afresh(turn),
                Timer::Silence => self.silent(turn),
                Timer::Negotiation => self.negotiation_timed_out(turn),
                Timer::Registration => self.registration_timed_out(turn),
                Timer::Welcome => self.welcomed(turn),
                Timer::Liveness => self.check_liveness(turn),
                Timer::Outgoing => self.pump(turn),
                Timer::Pending => self.expire_pending(turn),
                Timer::Rejoin(channel) => self.rejoin(&channel, turn),
                Timer::Joining(channel) => self.joining_timed_out(&channel, turn),
                Timer::Regain => self.give_up_channels(turn),
                Timer::Nick => self.retry_nick(turn),
                Timer::Detach(channel) => self.silence_over(&channel, turn),
                Timer::Login => self.login_timed_out(turn),
            }
        }
    }

    /// When [`Network::tick`] next wants to run.
    pub fn deadline(&self) -> Option<Ticks> {
        self.timers.next()
    }

    /// Whether anybody is attached.
    pub fn has_clients(&self) -> bool {
        !self.clients.is_empty()
    }

    /// Highest number given out so far.
    fn head(&self) -> EntryId {
        self.next.before()
    }

    fn link(&self) -> Option<&Link> {
        match &self.upstream {
            Upstream::Up(link) => Some(link),
            _ => None,
        }
    }

    fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.upstream {
            Upstream::Up(link) => Some(link),
            _ => None,
        }
    }

    /// A name as this network compares names; what the last link said holds until the next one says
    /// otherwise.
    fn name(&self, name: &[u8]) -> Name {
        Name::new(name, self.mapping)
    }

    /// Our nick, as clients know it.
    fn nick(&self) -> &[u8] {
        self.link()
            .map_or(&self.face.nick[..], |link| link.nick.as_bytes())
    }

    fn is_me(&self, nick: &[u8]) -> bool {
        self.link().is_some_and(|link| link.nick.is(nick))
    }

    /// Whether we said this line ourselves.
    pub fn is_own_line(&self, line: &[u8]) -> bool {
        Line::parse(line).is_ok_and(|line| self.is_me(line.nick()))
    }

    fn caps_of_link(&self) -> CapSet {
        self.link().map(|link| link.caps).unwrap_or_default()
    }

    /// A numeric of our own, addressed to us.
    fn numeric(&self, number: u16) -> LineBuilder {
        LineBuilder::numeric(self.settings.server.as_bytes(), number, self.nick())
    }

    /// A word from the service, as a NOTICE.
    fn notice(&self, text: &str) -> Bytes {
        self.notice_of(text.as_bytes())
    }

    /// The same of what others said.
    fn notice_of(&self, text: &[u8]) -> Bytes {
        let source = service::mask(&self.settings.server);
        LineBuilder::from(source.as_bytes(), b"NOTICE")
            .param(self.nick())
            .trailing(text)
            .build()
    }

    /// Tells all clients something about the network.
    fn announce(&self, text: &str, turn: &mut Turn) {
        turn.deliver(Audience::All, self.notice(text));
    }

    fn need_more_params(&self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let line = self.numeric(461).param(asked.line.command());
        self.answer(asked, line.trailing(b"Not enough parameters").build(), turn)
    }

    /// Answers a client from what is known; its line is dealt with.
    fn answer(&self, asked: &Asked<'_>, line: Bytes, turn: &mut Turn) -> Answer {
        turn.tell(asked.from, line);
        Answer::Now
    }

    fn remember(&self, write: Write, turn: &mut Turn) {
        turn.push(Action::Record(write));
    }

    /// What is published about the network.
    pub fn status(&self) -> NetworkStatus {
        NetworkStatus {
            id: self.settings.netid,
            name: self.settings.network.name.clone(),
            link: self.link_status(),
            nick: String::from_utf8_lossy(self.nick()).into_owned(),
            channels: self.link().map_or(0, |link| link.channels.len()),
            family: self
                .link()
                .map_or_else(String::new, |link| link.facts.family.clone()),
            lag: self.link().and_then(|link| link.lag),
            clients: self
                .clients
                .iter()
                .map(|(id, client)| client.status(*id))
                .collect(),
            storage: self.storage.status,
        }
    }

    fn publish(&self, turn: &mut Turn) {
        turn.push(Action::Status(Box::new(self.status())));
    }
}

/// Whether a line says that somebody is there: typing is not yet saying anything.
fn is_activity(line: &Line<'_>) -> bool {
    let typing = || line.tags().all(|(key, _)| key == b"+typing");
    !(line.is(b"PING") || line.is(b"PONG") || line.is(b"TAGMSG") && typing())
}

/// So long may a reply take, or a join.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
