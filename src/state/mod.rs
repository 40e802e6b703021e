//! Everything known about one network and the clients attached to it, as one value. Pure: no socket,
//! clock, file or `async`; time comes in as an argument, effects go out as `Action`s, and between two
//! inputs all of it can be written as JSON and read back.
//!
//! This file holds the type and its inputs. What lines mean is in the features, one file each.

mod away;
mod batches;
mod burst;
mod capabilities;
mod channels;
mod clients;
mod coverage;
mod ctcp;
mod face;
mod families;
mod feature;
pub mod forms;
mod identity;
mod invite;
mod joins;
mod liveness;
pub mod login;
pub mod login_name;
mod messages;
mod modes;
mod names;
mod nicks;
mod outgoing;
mod pending;
mod positions;
mod record;
mod registration;
mod sasl;
mod saved;
mod service;
mod status;
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
pub use positions::{Page, Proof};
pub use status::{ClientStatus, LinkStatus, NetworkStatus};
pub use turn::{
    Action, Ask, Audience, ClientId, Dial, Item, LinkEnd, Now, Plan, Shown, Ticks, Turn, View,
};
pub use upstream::{Facts, Loss};

use clients::Attached;
use face::Face;
use feature::{Asked, Received};
use outgoing::Outgoing;
use pending::Pending;
use positions::Positions;
use record::Recent;
use saved::SavedChannels;
use timers::{Timer, Timers};
use upstream::{Backoff, Link, Outage, Upstream};

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
    saved: SavedChannels,
    #[serde(with = "crate::wire::latin1")]
    wanted_nick: Bytes,
    #[serde(with = "crate::wire::latin1::option")]
    away: Option<Bytes>,
    outgoing: Outgoing,
    pending: Pending,
    timers: Timers,
    upstream: Upstream,
    backoff: Backoff,
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
            saved: SavedChannels::default(),
            wanted_nick: Bytes::from(settings.network.nick.clone()),
            away: None,
            outgoing: Outgoing::new(settings.network.flood),
            pending: Pending::default(),
            timers: Timers::default(),
            upstream: Upstream::Down(Outage::default()),
            backoff: Backoff::new(seed),
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
        network.restore_facts(&remembered.facts);
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
        if self.settings.network.enabled && !self.settings.network.servers.is_empty() {
            self.dial_afresh(turn);
        }
        self.publish(turn);
    }

    /// Takes one line from the server, without its line end.
    pub fn receive(&mut self, raw: &Bytes, turn: &mut Turn) {
        let Ok(line) = Line::parse(raw) else { return };
        self.heard(turn);
        let received = Received { line, raw };
        match &self.upstream {
            Upstream::Down(_) => {}
            Upstream::Registering(_) => self.on_registering(&received, turn),
            Upstream::Up(_) => self.on_line(&received, turn),
        }
    }

    fn on_line(&mut self, received: &Received<'_>, turn: &mut Turn) {
        match feature::said(received.line.command()) {
            Some(rule) if received.line.param_count() < rule.least => {}
            Some(rule) => (rule.run)(self, received, turn),
            None if received.line.numeric().is_some() => self.on_numeric(received, turn),
            None => self.pass_on(received, Audience::All, turn),
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
            && !line.is(b"PING")
            && !line.is(b"PONG")
        {
            client.active_at = turn.now.ticks;
        }
        let asked = Asked { from, line };
        match feature::asked(line.command()) {
            Some(rule) if line.param_count() < rule.least => self.need_more_params(&asked, turn),
            Some(rule) => (rule.run)(self, &asked, turn),
            None => self.forward(&asked, turn),
        }
    }

    /// Does whatever has fallen due.
    pub fn tick(&mut self, turn: &mut Turn) {
        while let Some(timer) = self.timers.due(turn.now.ticks) {
            match timer {
                Timer::Dial => self.dial_afresh(turn),
                Timer::Silence => self.silent(turn),
                Timer::Negotiation => self.end_negotiation(turn),
                Timer::Registration => self.registration_timed_out(turn),
                Timer::Welcome => self.welcomed(turn),
                Timer::Liveness => self.check_liveness(turn),
                Timer::Outgoing => self.pump(turn),
                Timer::Pending => self.expire_pending(turn),
                Timer::Rejoin(channel) => self.rejoin(&channel, turn),
                Timer::Joining(channel) => self.joining_timed_out(&channel, turn),
                Timer::Regain => self.give_up_channels(turn),
                Timer::Nick => self.retry_nick(turn),
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

    fn caps_of_link(&self) -> CapSet {
        self.link().map(|link| link.caps).unwrap_or_default()
    }

    /// A numeric of our own, addressed to us.
    fn numeric(&self, number: u16) -> LineBuilder {
        LineBuilder::numeric(self.settings.server.as_bytes(), number, self.nick())
    }

    /// A word from the service, as a NOTICE.
    fn notice(&self, text: &str) -> Bytes {
        let source = format!("*carom!carom@{}", self.settings.server);
        LineBuilder::from(source.as_bytes(), b"NOTICE")
            .param(self.nick())
            .trailing(text.as_bytes())
            .build()
    }

    /// Tells all clients something about the network.
    fn announce(&self, text: &str, turn: &mut Turn) {
        turn.deliver(Audience::All, self.notice(text));
    }

    fn need_more_params(&self, asked: &Asked<'_>, turn: &mut Turn) {
        let line = self.numeric(461).param(asked.line.command());
        turn.tell(asked.from, line.trailing(b"Not enough parameters").build());
        turn.push(Action::Credit(asked.from, 1));
    }

    /// Answers a client from what is known; its line is dealt with.
    fn answer(&self, asked: &Asked<'_>, line: Bytes, turn: &mut Turn) {
        turn.tell(asked.from, line);
        turn.push(Action::Credit(asked.from, 1));
    }

    fn remember(&self, write: Write, turn: &mut Turn) {
        turn.push(Action::Record(write));
    }

    /// What is published about the network.
    pub fn status(&self) -> NetworkStatus {
        NetworkStatus {
            name: self.settings.network.name.clone(),
            link: self.link_status(),
            nick: String::from_utf8_lossy(self.nick()).into_owned(),
            channels: self.link().map_or(0, |link| link.channels.len()),
            clients: self
                .clients
                .iter()
                .map(|(id, client)| client.status(*id))
                .collect(),
        }
    }

    fn publish(&self, turn: &mut Turn) {
        turn.push(Action::Status(Box::new(self.status())));
    }
}

/// So long may a reply take, or a join.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
