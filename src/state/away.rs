//! AWAY: others' (away-notify) and ours. Each client is there, away with a reason, or (`AWAY *`) does not count; the network
//! is told that we are away when no client that counts is there, on every link again. Whether somebody in a WHO is
//! away is the server's to say.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::history::{Fact, Write};
use crate::wire::{Cap, LineBuilder, latin1};

use super::Network;
use super::clients::Attached;
use super::feature::{Answer, Asked, Feature, Form, Offer, Received, Rule, Source};
use super::outgoing::Lane;
use super::turn::{Audience, ClientId, Ticks, Turn};

pub(super) static AWAY: Feature = Feature {
    offers: &[
        Offer(Cap::AwayNotify, Source::Server),
        Offer(Cap::PreAway, Source::Ours),
    ],
    server: &[
        Rule::new(b"AWAY", 0, Network::on_away),
        Rule::new(b"305", 1, Network::on_own_away),
        Rule::new(b"306", 1, Network::on_own_away),
    ],
    client: &[Rule::new(b"AWAY", 0, Network::ask_away)],
    forms: &[Form {
        command: b"AWAY",
        unless: Cap::AwayNotify,
        write: |_, _, _| {},
    }],
};

/// Why nobody is there, when nothing else is configured.
const NOBODY: &[u8] = b"Not here";

/// What a client said by AWAY.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reason {
    #[serde(with = "latin1")]
    text: Bytes,
    at: Ticks,
}

impl Network {
    /// Nobody is told of his own away by AWAY: 305 and 306 do that.
    fn on_away(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if !self.is_me(received.line.nick()) {
            self.pass_on_about(received, turn);
        }
    }

    /// Whoever said AWAY has been answered; what comes unasked is for all.
    fn on_own_away(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let away = received.line.numeric() == Some(306);
        self.note_own_change(|person| person.away = Some(away));
        let Some(link) = self.link_mut() else { return };
        match link.tending.away_answers.checked_sub(1) {
            Some(rest) => link.tending.away_answers = rest,
            None => self.pass_on(received, Audience::All, turn),
        }
    }

    fn ask_away(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let text = asked.line.param(0).unwrap_or_default();
        self.set_away(asked.from, text, turn);
        let counts = self
            .clients
            .get(&asked.from)
            .is_some_and(Attached::counts_for_presence);
        let (number, text) = match text {
            b"" => (305, "You are no longer marked as being away"),
            _ if !counts => (306, "This connection does not count as your being there"),
            _ => (306, "You have been marked as being away"),
        };
        let line = self.numeric(number).trailing(text.as_bytes()).build();
        self.answer(asked, line, turn)
    }

    /// A client says whether its user is there: `*`, that it does not count; nothing, that he is.
    pub(super) fn set_away(&mut self, from: ClientId, text: &[u8], turn: &mut Turn) {
        let Some(client) = self.clients.get_mut(&from) else {
            return;
        };
        client.absent = text == b"*" && client.caps.has(Cap::PreAway);
        let reason = (!text.is_empty() && !client.absent).then(|| Reason {
            text: Bytes::copy_from_slice(text),
            at: turn.now.ticks,
        });
        client.away = reason.clone();
        if !client.absent {
            self.save_away(reason.map(|reason| reason.text), turn);
        }
        self.presence_changed(turn);
    }

    /// Whether somebody is there to read, away or not.
    pub(super) fn is_attended(&self) -> bool {
        self.clients.values().any(|c| c.counts_for_presence())
    }

    /// Why we are away, if we are.
    fn reason(&self) -> Option<Bytes> {
        let mut last: Option<&Reason> = None;
        for client in self.clients.values().filter(|c| c.counts_for_presence()) {
            let reason = client.away.as_ref()?;
            last = last.filter(|l| l.at > reason.at).or(Some(reason));
        }
        match last {
            Some(reason) => Some(reason.text.clone()),
            None => self.away.clone().or_else(|| self.automatic()),
        }
    }

    /// Why we are away while nobody is there.
    fn automatic(&self) -> Option<Bytes> {
        let network = &self.settings.network;
        if !network.auto_away {
            return None;
        }
        Some(match network.away_message.as_bytes() {
            // This connection does not say where the user is: others may.
            b"" if self.caps_of_link().has(Cap::PreAway) => Bytes::from_static(b"*"),
            b"" => Bytes::from_static(NOBODY),
            text => Bytes::copy_from_slice(text),
        })
    }

    /// A client came: what its user said before he left goes on, what we said for him does not.
    pub(super) fn come_back(&mut self, to: ClientId, turn: &mut Turn) {
        let others = self.clients.iter().filter(|(id, _)| **id != to);
        let is_attended = others
            .map(|(_, c)| c)
            .any(|c| c.counts_for_presence() && c.away.is_none());
        let text = self.away.clone().filter(|_| !is_attended);
        if let Some(client) = self.clients.get_mut(&to)
            && client.counts_for_presence()
        {
            let at = turn.now.ticks;
            client.away = text.map(|text| Reason { text, at });
        }
        self.presence_changed(turn);
    }

    /// 306, for a client that comes to a user who is away.
    pub(super) fn tell_own_away(&self, to: ClientId, turn: &mut Turn) {
        if self.clients.get(&to).is_some_and(|c| c.away.is_some()) {
            let line = self.numeric(306);
            let text = b"You have been marked as being away";
            turn.tell(to, line.trailing(text).build());
        }
    }

    /// A client went. What it said goes with it when its user is elsewhere.
    pub(super) fn leave_behind_away(&mut self, turn: &mut Turn) {
        let mut rest = self.clients.values().filter(|c| c.counts_for_presence());
        if self.away.is_some() && rest.any(|client| client.away.is_none()) {
            self.save_away(None, turn);
        }
        self.presence_changed(turn);
    }

    /// Tells the network what follows from who is there now.
    pub(super) fn presence_changed(&mut self, turn: &mut Turn) {
        if self.link().is_some_and(|link| link.welcomed) {
            self.say_away(turn);
            self.change_nick(turn);
        }
    }

    /// Tells the network whether we are away, unless it has been told so.
    pub(super) fn say_away(&mut self, turn: &mut Turn) {
        let reason = self.reason();
        let utf8_only = self.isupport().has(b"UTF8ONLY");
        let Some(link) = self.link_mut() else { return };
        if link.tending.away == reason {
            return;
        }
        link.tending.away.clone_from(&reason);
        link.tending.away_answers += 1;
        let line = match reason {
            Some(text) if utf8_only => {
                let text = String::from_utf8_lossy(&text).into_owned();
                LineBuilder::new(b"AWAY").trailing(text.as_bytes())
            }
            Some(text) => LineBuilder::new(b"AWAY").trailing(&text),
            None => LineBuilder::new(b"AWAY"),
        };
        self.queue(None, Lane::Interactive, line.build(), turn);
    }

    fn save_away(&mut self, text: Option<Bytes>, turn: &mut Turn) {
        if self.away == text {
            return;
        }
        self.away.clone_from(&text);
        let write = Write::Fact {
            fact: Fact::Away,
            name: Bytes::new(),
            value: text,
        };
        self.remember(write, turn);
    }
}
