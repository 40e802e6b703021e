//! What a user tells a network to do, beside what clients say to it: connect, disconnect, jump to the next
//! server, say a line, send a client away, count history as seen; and what may be asked of it. How it is
//! said, and who may, is `command`'s and the service's.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::{Detaching, HistoryRules, ResetOnTalk};
use crate::history::{EntryId, Fact, Write};
use crate::wire::{Cap, Line, LineBuilder, Name, Timestamp};

use super::detach::Hidden;
use super::feature::Received;
use super::outgoing::Lane;
use super::turn::{Action, ClientId, Dial, LinkEnd, Turn};
use super::upstream::{Facts, Outage, Upstream};
use super::{Network, NetworkStatus};

/// The longest line for a server, without its end.
const MAX_LINE: usize = 510;
/// What a PING that measures says.
const LAG: &[u8] = b"carom-lag";

/// What a network is told or asked. Names are as people write them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Connects at once, whatever wait is on.
    Connect,
    /// Leaves the server and stays away until [`Order::Connect`], also over a restart.
    Disconnect,
    /// Goes to the next server of the list; with one server, connects to it anew.
    Jump,
    /// Says a line to the server.
    Quote(Bytes),
    /// Sends a client away.
    Dismiss(ClientId),
    /// Counts all lines of a target, or of all, as seen by every client name.
    ResetHistory(Option<Bytes>),
    /// Asks the server how long an answer takes; the status has it when it comes.
    MeasureLag,
    /// There is a new certificate to log in with: until a login with it has worked, one that is refused ends nothing.
    NewCertificate,
    /// Tells all its clients something.
    Notice(String),
    /// Keeps a channel from clients.
    Detach(Bytes),
    /// Shows it to them again.
    Attach(Bytes),
    /// How is it doing?
    Status,
    /// The channels we are on or want to be on, or one of them.
    Channels(Option<Bytes>),
    /// How does the network compare this name, and which rules of history does it have?
    Target(Bytes),
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done; in words.
    Done(String),
    /// It is not, and why.
    Refused(String),
    /// To [`Order::Status`].
    Status(Box<Details>),
    /// To [`Order::Channels`].
    Channels(Vec<ChannelStatus>),
    /// To [`Order::Target`].
    Target(TargetStatus),
}

/// More about a network than is published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// What is published.
    pub status: NetworkStatus,
    /// The link, when there is one.
    pub facts: Facts,
    /// The wanted nick.
    pub wanted_nick: String,
    /// Our user modes.
    pub modes: String,
    /// The account we are logged in to.
    pub account: Option<String>,
    /// Capabilities of the link.
    pub caps: Vec<&'static str>,
    /// Lines that wait to be sent.
    pub waiting: usize,
    /// What went to and fro; whoever runs the network counts it.
    pub traffic: Traffic,
}

/// What went to and fro since the network runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Traffic {
    pub lines_received: u64,
    pub bytes_received: u64,
    pub lines_sent: u64,
    pub bytes_sent: u64,
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelStatus {
    /// Its name.
    pub name: String,
    /// Whether we are on it.
    pub joined: bool,
    /// Whether it is joined on every link.
    pub wanted: bool,
    /// Whether the configuration has it.
    pub declared: bool,
    /// Whether it is joined with a key.
    pub keyed: bool,
    /// How many are on it, if we are.
    pub members: usize,
    /// Its rules of history.
    pub rules: HistoryRules,
    /// Whether it is kept from clients.
    pub detached: Option<Hidden>,
    /// When it is.
    pub detaching: Detaching,
}

/// A name as the network sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetStatus {
    /// The name, with the network's way to compare names.
    pub name: Name,
    /// Its rules of history.
    pub rules: HistoryRules,
    /// The last line of the log.
    pub head: EntryId,
    /// In a private talk: our nick.
    pub own: Option<Bytes>,
}

/// How long the server took to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// In milliseconds.
    pub millis: u64,
    /// When that was measured.
    pub at: Timestamp,
}

impl Network {
    /// Does as it is told.
    pub fn order(&mut self, order: Order, turn: &mut Turn) -> Outcome {
        let done = match order {
            Order::Connect => self.connect(turn),
            Order::Disconnect => self.disconnect(turn),
            Order::Jump => self.jump(turn),
            Order::Quote(line) => self.quote(&line, turn),
            Order::Dismiss(id) => self.dismiss(id, turn),
            Order::ResetHistory(target) => Ok(self.reset(target.as_deref(), turn)),
            Order::MeasureLag => self.measure_lag(turn),
            Order::NewCertificate => {
                self.set_new_certificate(true, turn);
                Ok("noted".to_owned())
            }
            Order::Notice(text) => {
                self.announce(&text, turn);
                Ok("told".to_owned())
            }
            Order::Detach(channel) => self.order_detached(&channel, true, turn),
            Order::Attach(channel) => self.order_detached(&channel, false, turn),
            Order::Status => return Outcome::Status(Box::new(self.details())),
            Order::Channels(name) => return self.channels(name.as_deref()),
            Order::Target(name) => {
                let name = self.name(&name);
                let (rules, head) = (self.rules(&name).clone(), self.head());
                let own = self.nick_within(&name);
                let status = TargetStatus {
                    name,
                    rules,
                    head,
                    own,
                };
                return Outcome::Target(status);
            }
        };
        match done {
            Ok(text) => Outcome::Done(text),
            Err(text) => Outcome::Refused(text),
        }
    }

    /// Why there is never a link, if so.
    fn never_linked(&self) -> Option<String> {
        let network = &self.settings.network;
        if network.servers.is_empty() {
            return Some("it has no servers".to_owned());
        }
        let remedy = "it is disabled: set enabled to true first";
        (!network.enabled).then(|| format!("{}: {remedy}", network.name))
    }

    /// Connects now, whatever wait is on.
    pub fn connect(&mut self, turn: &mut Turn) -> Result<String, String> {
        if let Some(why) = self.never_linked() {
            return Err(why);
        }
        let name = self.settings.network.name.clone();
        let waiting = matches!(&self.upstream, Upstream::Down(outage) if outage.until.is_some());
        if !waiting && !self.offline {
            let state = match self.upstream {
                Upstream::Up(_) => "connected",
                _ => "connecting",
            };
            return Ok(format!("{name}: {state} already"));
        }
        self.set_offline(false, turn);
        self.dial_afresh(turn);
        Ok(format!("{name}: connecting"))
    }

    fn disconnect(&mut self, turn: &mut Turn) -> Result<String, String> {
        if let Some(why) = self.never_linked() {
            return Err(why);
        }
        let name = self.settings.network.name.clone();
        if self.offline {
            return Ok(format!("{name}: not connected already"));
        }
        self.set_offline(true, turn);
        self.hang_up("Disconnected", turn);
        turn.push(Action::Dial(Dial::Stop));
        self.announce(&self.outage_text(turn.now.ticks), turn);
        self.publish(turn);
        Ok(format!("{name}: disconnected"))
    }

    fn jump(&mut self, turn: &mut Turn) -> Result<String, String> {
        if let Some(why) = self.never_linked() {
            return Err(why);
        }
        let servers = &self.settings.network.servers;
        let facts = match &self.upstream {
            Upstream::Down(_) => None,
            Upstream::Registering(registration) => Some(&registration.facts),
            Upstream::Up(link) => Some(&link.facts),
        };
        let is_current = |facts: &Facts| servers.iter().position(|s| s.to_string() == facts.server);
        let current = facts.and_then(is_current).unwrap_or(self.jumped_to);
        let next = (current + 1) % servers.len();
        let text = format!("{}: going to {}", self.settings.network.name, servers[next]);
        self.jumped_to = next;
        self.set_offline(false, turn);
        self.hang_up("Jumping to another server", turn);
        turn.push(Action::Dial(Dial::From(next)));
        self.publish(turn);
        Ok(text)
    }

    /// Ends the link, or what is under way to one, without a next attempt.
    pub(super) fn hang_up(&mut self, words: &str, turn: &mut Turn) {
        if !matches!(self.upstream, Upstream::Down(_)) {
            turn.send(LineBuilder::new(b"QUIT").trailing(words.as_bytes()).build());
            turn.push(Action::Unlink(LinkEnd::Flush));
        }
        self.drop_link(turn);
        self.upstream = Upstream::Down(Outage {
            reason: words.to_lowercase(),
            until: None,
        });
    }

    fn set_offline(&mut self, offline: bool, turn: &mut Turn) {
        if std::mem::replace(&mut self.offline, offline) != offline {
            let value = offline.then(|| Bytes::from_static(b"true"));
            let (fact, name) = (Fact::Offline, Bytes::new());
            self.remember(Write::Fact { fact, name, value }, turn);
        }
    }

    fn quote(&mut self, line: &Bytes, turn: &mut Turn) -> Result<String, String> {
        if self.link().is_none() {
            return Err(self.outage_text(turn.now.ticks));
        }
        if line.iter().any(|byte| b"\r\n\0".contains(byte)) || Line::parse(line).is_err() {
            return Err("this is no line of IRC: say a command and its parameters".to_owned());
        }
        if line.len() > MAX_LINE {
            let len = line.len();
            return Err(format!("the line has {len} bytes: {MAX_LINE} are the most"));
        }
        self.queue(None, Lane::Bulk, line.clone(), turn);
        // What was said may be a password.
        Ok(format!("{}: said", self.settings.network.name))
    }

    fn dismiss(&mut self, id: ClientId, turn: &mut Turn) -> Result<String, String> {
        if !self.clients.contains_key(&id) {
            return Err(format!("there is no client {}", id.0));
        }
        turn.push(Action::Dismiss(id, "Sent away by its user".to_owned()));
        Ok(format!("client {}: sent away", id.0))
    }

    fn reset(&mut self, target: Option<&[u8]>, turn: &mut Turn) -> String {
        let name = target.map(|target| self.name(target));
        let of = target.map_or_else(|| "all targets".into(), String::from_utf8_lossy);
        let text = format!("{of}: nothing that was said until now is replayed any more");
        self.reset_history(name, turn);
        text
    }

    /// Everything until now counts as seen by every client name: lines of a target, or all.
    pub(super) fn reset_history(&mut self, target: Option<Name>, turn: &mut Turn) {
        // A name that no target has stands for all of them.
        let target = target.unwrap_or_else(|| self.name(b""));
        let id = self.head();
        self.positions.restore_floor(target.clone(), id);
        self.remember(Write::Floor { target, id }, turn);
    }

    /// The user said something there, which was the last line: whoever answers has read what was said before.
    pub(super) fn reset_on_talk(&mut self, target: &Name, turn: &mut Turn) {
        match self.rules(target).reset_on_talk {
            ResetOnTalk::None => {}
            ResetOnTalk::Target => self.reset_history(Some(target.clone()), turn),
            ResetOnTalk::Network => self.reset_history(None, turn),
        }
    }

    fn measure_lag(&mut self, turn: &mut Turn) -> Result<String, String> {
        let now = turn.now.ticks;
        let Some(link) = self.link_mut() else {
            return Err(self.outage_text(now));
        };
        if link.lag_asked.is_none() {
            link.lag_asked = Some(now);
            turn.send(LineBuilder::new(b"PING").trailing(LAG).build());
        }
        Ok("asked".to_owned())
    }

    /// The server answered a PING of ours, perhaps the one that measures.
    pub(super) fn measured(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if received.line.last() != Some(LAG) {
            return;
        }
        let now = turn.now;
        let Some(link) = self.link_mut() else { return };
        let Some(asked) = link.lag_asked.take() else {
            return;
        };
        let millis = u64::try_from(now.ticks.since(asked).as_millis()).unwrap_or(u64::MAX);
        link.lag = Some(Lag {
            millis,
            at: now.time,
        });
        self.publish(turn);
    }

    fn details(&self) -> Details {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut details = Details {
            status: self.status(),
            wanted_nick: text(&self.wanted_nick),
            waiting: self.outgoing.len(),
            ..Details::default()
        };
        if let Upstream::Registering(registration) = &self.upstream {
            details.facts = registration.facts.clone();
        }
        if let Some(link) = self.link() {
            details.facts = link.facts.clone();
            details.modes = self
                .face
                .modes_text()
                .iter()
                .map(|m| char::from(*m))
                .collect();
            details.account = link.account.as_deref().map(text);
            details.caps = link.caps.iter().map(Cap::name).collect();
        }
        details
    }

    fn channels(&self, name: Option<&[u8]>) -> Outcome {
        let mut names: Vec<Name> = match name {
            Some(name) => vec![self.name(name)],
            None => self.wanted_channels().into_iter().map(|(n, _)| n).collect(),
        };
        if name.is_none() {
            let joined = self.link().into_iter().flat_map(|l| l.channels.keys());
            let others: Vec<Name> = joined.filter(|n| !names.contains(n)).cloned().collect();
            names.extend(others);
        }
        let declared = &self.settings.network.channels;
        let channels = names.into_iter().map(|name| {
            let known = self.link().and_then(|link| link.channels.get(&name));
            let spelled = known.map_or(&name, |known| &known.name);
            ChannelStatus {
                name: String::from_utf8_lossy(spelled.as_bytes()).into_owned(),
                joined: known.is_some(),
                wanted: self.is_wanted(&name),
                declared: declared.iter().any(|c| name.is(c.name.as_bytes())),
                keyed: self.key_of(&name).is_some(),
                members: known.map_or(0, |known| known.members.len()),
                rules: self.rules(&name).clone(),
                detached: self.detached(&name),
                detaching: self.detaching(&name),
            }
        });
        let channels: Vec<_> = channels.collect();
        match (name, &channels[..]) {
            (Some(name), [one]) if !one.joined && !one.wanted => {
                let name = String::from_utf8_lossy(name);
                Outcome::Refused(format!("there is no channel {name}: /join it"))
            }
            _ => Outcome::Channels(channels),
        }
    }
}
