//! CAP after login, in both directions: what a client switches on and off, what a server comes to offer
//! or takes away.

use crate::wire::{Cap, CapSet, LineBuilder};

use super::feature::{self, Asked, Feature, NOTHING, Offer, Received, Rule, Source};
use super::turn::{Action, Turn};
use super::{Network, registration};

pub(super) static CAPABILITIES: Feature = Feature {
    offers: &[Offer(Cap::CapNotify, Source::Ours)],
    server: &[Rule::new(b"CAP", 3, Network::on_cap)],
    client: &[
        Rule::new(b"CAP", 1, Network::ask_cap),
        Rule::new(b"AUTHENTICATE", 0, Network::already_registered),
        Rule::new(b"PASS", 0, Network::already_registered),
        Rule::new(b"USER", 0, Network::already_registered),
    ],
    ..NOTHING
};

/// What clients are offered of a server's capabilities.
pub(super) fn passed_on(link: CapSet) -> CapSet {
    feature::offered(Source::Server).intersection(link)
}

/// What a client is offered before its network is known: everything that may come to be true, or without
/// CAP 302, which could not be told otherwise later, what is always true. `sasl` is the login's.
pub fn offered_at_login(version: u16) -> CapSet {
    let ours = feature::offered(Source::Ours);
    if version >= 302 {
        ours.union(feature::offered(Source::Server))
    } else {
        ours
    }
}

/// The outcome of a REQ: the new set, or `None` when any of it is not to be had (all or nothing).
pub fn requested(list: &[u8], enabled: CapSet, offered: CapSet, version: u16) -> Option<CapSet> {
    let mut caps = enabled;
    for token in list.split(|b| *b == b' ').filter(|t| !t.is_empty()) {
        match token.strip_prefix(b"-") {
            Some(name) => {
                let cap = Cap::parse(name)?;
                // With 302 it is implied, and cannot be switched off.
                if cap == Cap::CapNotify && version >= 302 {
                    return None;
                }
                caps.remove(cap);
            }
            None => {
                caps.insert(Cap::parse(token).filter(|cap| offered.has(*cap))?);
            }
        }
    }
    Some(with_implied(caps))
}

/// The older name of server-time means the same.
fn with_implied(mut caps: CapSet) -> CapSet {
    if caps.has(Cap::ServerTimeIso) {
        caps.insert(Cap::ServerTime);
    }
    caps
}

impl Network {
    fn offered(&self) -> CapSet {
        feature::offered(Source::Ours).union(self.face.caps)
    }

    fn ask_cap(&mut self, asked: &Asked<'_>, turn: &mut Turn) {
        let word = asked.line.param(0).unwrap_or_default().to_ascii_uppercase();
        let list = asked.line.param(1).unwrap_or_default();
        turn.push(Action::Credit(asked.from, 1));
        let Some(client) = self.clients.get_mut(&asked.from) else {
            return;
        };
        match word.as_slice() {
            b"LS" => {
                let version = std::str::from_utf8(list).ok().and_then(|v| v.parse().ok());
                client.version = client.version.max(version.unwrap_or(0));
                let offered = self.offered();
                self.tell_caps(asked.from, b"LS", offered, turn);
            }
            b"LIST" => {
                let caps = client.caps;
                self.tell_caps(asked.from, b"LIST", caps, turn);
            }
            b"REQ" => self.ask_req(asked, list, turn),
            b"END" => {}
            _ => {
                let line = self
                    .numeric(410)
                    .param(&word)
                    .trailing(b"Invalid CAP command");
                turn.tell(asked.from, line.build());
            }
        }
    }

    /// The change of view leaves right behind the answer, so no line follows it in the old form.
    fn ask_req(&mut self, asked: &Asked<'_>, list: &[u8], turn: &mut Turn) {
        let offered = self.offered();
        let Some(client) = self.clients.get_mut(&asked.from) else {
            return;
        };
        let granted = requested(list, client.caps, offered, client.version);
        let word: &[u8] = if granted.is_some() { b"ACK" } else { b"NAK" };
        if let Some(caps) = granted {
            client.caps = caps;
        }
        let view = client.view();
        let line = LineBuilder::from(self.settings.server.as_bytes(), b"CAP")
            .param(self.nick())
            .param(word)
            .trailing(list);
        turn.tell(asked.from, line.build());
        turn.push(Action::View(asked.from, view));
    }

    fn already_registered(&mut self, asked: &Asked<'_>, turn: &mut Turn) {
        let line = self.numeric(462).trailing(b"You may not reregister");
        self.answer(asked, line.build(), turn);
    }

    /// A server comes to offer something, grants it, or takes it away.
    fn on_cap(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let word = received
            .line
            .param(1)
            .unwrap_or_default()
            .to_ascii_uppercase();
        let list = received.line.last().unwrap_or_default();
        let names = list
            .split(|b| *b == b' ')
            .map(|t| t.split(|b| *b == b'=').next().unwrap_or(t));
        let caps: CapSet = names.filter_map(Cap::parse).collect();
        let Some(link) = self.link_mut() else { return };
        match word.as_slice() {
            b"NEW" => {
                let wanted = caps
                    .intersection(registration::wanted())
                    .difference(link.caps);
                if !wanted.is_empty() {
                    let names: Vec<&str> = wanted.iter().map(Cap::name).collect();
                    let line = LineBuilder::new(b"CAP").param(b"REQ");
                    turn.send(line.trailing(names.join(" ").as_bytes()).build());
                }
            }
            b"ACK" => link.caps = link.caps.union(caps),
            b"DEL" => link.caps = link.caps.difference(caps),
            _ => {}
        }
        if let Some(link) = self.link().filter(|link| link.welcomed) {
            let caps = passed_on(link.caps);
            self.show_caps(caps, turn);
        }
    }
}
