//! The networks of a user as clients list, make and change them (soju.im/bouncer-networks): what is asked is understood here,
//! and answered by the client's writer, which may wait for the bouncer. Being bound to one is `login`'s.

use crate::config::Secret;
use crate::wire::{Cap, LineBuilder, Tags, tags};

use super::Network;
use super::feature::{Answer, Asked, Feature, NOTHING, Offer, Rule, Source};
use super::turn::{Action, Ask, ClientId, Item, Turn};

pub(super) static NETWORKS: Feature = Feature {
    offers: &[
        Offer(Cap::BouncerNetworks, Source::Ours),
        Offer(Cap::BouncerNetworksNotify, Source::Ours),
    ],
    client: &[Rule::new(b"BOUNCER", 1, Network::ask_bouncer)],
    ..NOTHING
};

/// What is asked about the user's networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworksAsk {
    /// All of them.
    List,
    /// All of them, and every change from then on.
    Follow,
    /// A new one.
    Add(Attributes),
    /// Other attributes for one.
    Change(u64, Attributes),
    /// One ends.
    Delete(u64),
}

impl NetworksAsk {
    /// About how many bytes it takes while it waits.
    pub fn weight(&self) -> usize {
        match self {
            Self::Add(given) | Self::Change(_, given) => {
                given.iter().map(|(_, v)| v.reveal().len()).sum()
            }
            Self::List | Self::Follow | Self::Delete(_) => 0,
        }
    }
}

/// Attributes and their values, unescaped; an empty one takes its default. One of them is a password.
pub type Attributes = Vec<(Attribute, Secret)>;

/// What a client may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Attribute {
    Name,
    Host,
    Port,
    Tls,
    Nickname,
    Username,
    Realname,
    Pass,
}

impl Attribute {
    /// As it stands in lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Host => "host",
            Self::Port => "port",
            Self::Tls => "tls",
            Self::Nickname => "nickname",
            Self::Username => "username",
            Self::Realname => "realname",
            Self::Pass => "pass",
        }
    }

    const ALL: [Self; 8] = [
        Self::Name,
        Self::Host,
        Self::Port,
        Self::Tls,
        Self::Nickname,
        Self::Username,
        Self::Realname,
        Self::Pass,
    ];

    /// Whether a value makes sense.
    fn takes(self, value: &str) -> bool {
        match self {
            Self::Port => value.is_empty() || value.parse::<u16>().is_ok_and(|port| port > 0),
            Self::Tls => matches!(value, "" | "0" | "1"),
            Self::Host => !value.is_empty() && !value.contains(['/', ' ', '@']),
            _ => true,
        }
    }
}

/// Why a request is refused: the code of a FAIL, what it is about, and words for people.
struct Fault(&'static [u8], Vec<u8>, &'static [u8]);

impl Network {
    /// Has a client told all networks, and then what changes.
    pub(super) fn follow_networks(&self, to: ClientId, turn: &mut Turn) {
        let follows = |caps: crate::wire::CapSet| caps.has(Cap::BouncerNetworksNotify);
        if self
            .clients
            .get(&to)
            .is_some_and(|client| follows(client.caps))
        {
            self.put_networks(to, NetworksAsk::Follow, turn);
        }
    }

    fn put_networks(&self, to: ClientId, ask: NetworksAsk, turn: &mut Turn) {
        let item = Item::Ask {
            ask: Ask::Networks(Box::new(ask)),
            label: None,
            after: self.head(),
        };
        turn.push(Action::Put(to, item));
    }

    fn ask_bouncer(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let line = &asked.line;
        let word = line.param(0).unwrap_or_default().to_ascii_uppercase();
        let netid = line.param(1).unwrap_or_default();
        let understood = match word.as_slice() {
            b"LISTNETWORKS" => Ok(NetworksAsk::List),
            b"ADDNETWORK" => attributes(netid, b"*").and_then(|attributes| {
                let has_host = attributes.iter().any(|(a, _)| *a == Attribute::Host);
                let missing = || {
                    Fault(
                        b"NEED_ATTRIBUTE",
                        b"* host".to_vec(),
                        b"Missing required attribute",
                    )
                };
                has_host
                    .then_some(NetworksAsk::Add(attributes))
                    .ok_or_else(missing)
            }),
            b"CHANGENETWORK" => number(netid).and_then(|id| {
                let given = line.param(2).unwrap_or_default();
                Ok(NetworksAsk::Change(id, attributes(given, netid)?))
            }),
            b"DELNETWORK" => number(netid).map(NetworksAsk::Delete),
            b"BIND" => Err(Fault(
                b"REGISTRATION_IS_COMPLETED",
                Vec::new(),
                b"Cannot bind to a network after registration",
            )),
            _ => return self.unknown_word(asked, &word, turn),
        };
        match understood {
            Ok(ask) => self.put_networks(asked.from, ask, turn),
            Err(Fault(code, context, text)) => {
                let context = context
                    .split(|b| *b == b' ')
                    .filter(|word| !word.is_empty());
                let line = self.fail(b"BOUNCER", code).param(&word).params(context);
                turn.tell(asked.from, line.trailing(text).build());
            }
        }
        Answer::Now
    }

    fn unknown_word(&self, asked: &Asked<'_>, word: &[u8], turn: &mut Turn) -> Answer {
        let line = self.fail(b"BOUNCER", b"UNKNOWN_COMMAND").param(word);
        turn.tell(asked.from, line.trailing(b"Unknown subcommand").build());
        Answer::Now
    }

    /// Which network it is, for clients that know that there are others.
    pub(super) fn netid_line(&self, to: ClientId) -> Option<bytes::Bytes> {
        let client = self.clients.get(&to)?;
        let wanted = self.is_bound() && client.caps.has(Cap::BouncerNetworks);
        let token = format!("BOUNCER_NETID={}", self.settings.netid);
        let line = || -> LineBuilder { self.numeric(5).param(token.as_bytes()) };
        wanted.then(|| line().trailing(b"are supported by this server").build())
    }
}

fn number(netid: &[u8]) -> Result<u64, Fault> {
    let id = std::str::from_utf8(netid)
        .ok()
        .and_then(|id| id.parse().ok());
    id.ok_or_else(|| {
        Fault(
            b"INVALID_NETID",
            netid.to_vec(),
            b"There is no such network",
        )
    })
}

/// `name=value;...`, written as message tags are.
fn attributes(text: &[u8], netid: &[u8]) -> Result<Attributes, Fault> {
    let mut found = Attributes::new();
    for (key, raw) in Tags::new(text) {
        let about = || [netid, b" ", key].concat();
        let known = Attribute::ALL
            .into_iter()
            .find(|a| a.name().as_bytes() == key);
        let Some(attribute) = known else {
            return Err(match key {
                b"state" | b"error" => {
                    Fault(b"READ_ONLY_ATTRIBUTE", about(), b"That cannot be set")
                }
                _ => Fault(b"UNKNOWN_ATTRIBUTE", about(), b"Unknown attribute"),
            });
        };
        let value = String::from_utf8_lossy(&tags::unescape(raw)).into_owned();
        if !attribute.takes(&value) {
            return Err(Fault(
                b"INVALID_ATTRIBUTE",
                about(),
                b"That is no value for it",
            ));
        }
        found.retain(|(other, _)| *other != attribute);
        found.push((attribute, Secret::new(value)));
    }
    Ok(found)
}
