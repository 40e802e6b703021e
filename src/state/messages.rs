//! What people say: PRIVMSG, NOTICE, TAGMSG. From the server into the log and to everybody; from a
//! client to the server, and once it has left, into the log and to the other clients.

use std::time::Duration;

use bytes::Bytes;

use crate::history::{Kind, Write};
use crate::wire::{Cap, Line, Name};

use super::feature::{Asked, Feature, Form, Offer, Received, Rule, Source};
use super::record::client_tags;
use super::turn::{Action, Audience, ClientId, Shown, Turn};
use super::upstream::Sent;
use super::{Network, ctcp};

pub(super) static MESSAGES: Feature = Feature {
    offers: &[
        Offer(Cap::MessageTags, Source::Ours),
        Offer(Cap::ServerTime, Source::Ours),
        Offer(Cap::ServerTimeIso, Source::Ours),
        Offer(Cap::EchoMessage, Source::Ours),
        Offer(Cap::SelfMessage, Source::Ours),
        Offer(Cap::AccountTag, Source::Server),
    ],
    server: &[
        Rule::new(b"PRIVMSG", 2, Network::on_message),
        Rule::new(b"NOTICE", 2, Network::on_message),
        Rule::new(b"TAGMSG", 1, Network::on_tagmsg),
        Rule::new(b"401", 2, Network::on_refused),
        Rule::new(b"404", 2, Network::on_refused),
        Rule::new(b"407", 2, Network::on_refused),
        Rule::new(b"415", 2, Network::on_refused),
        Rule::new(b"486", 2, Network::on_refused),
        Rule::new(b"531", 2, Network::on_refused),
        Rule::new(b"716", 2, Network::on_refused),
    ],
    client: &[
        Rule::new(b"PRIVMSG", 0, Network::ask_message),
        Rule::new(b"NOTICE", 0, Network::ask_message),
        Rule::new(b"TAGMSG", 1, Network::ask_tagmsg),
    ],
    forms: &[Form {
        command: b"TAGMSG",
        unless: Cap::MessageTags,
        write: |_, _, _| {},
    }],
};

/// So long after it was sent may a message be refused.
const REFUSAL: Duration = Duration::from_secs(5);
/// A line on the wire, without its end (RFC 2812 section 2.3).
const LINE: usize = 510;
/// User and host take so much when they are not known (RFC 2812 section 1.2.1 and 2.3.1).
const UNKNOWN_MASK: usize = 20 + 63;
/// A buffer's name is at most so long: what is longer is shown, not stored.
const MAX_TARGET: usize = 200;
/// At most so many messages are watched for a refusal.
const MAX_UNREFUSED: usize = 64;

/// Where a line from the server belongs.
enum Place {
    /// Into the buffer of a channel or person.
    Buffer(Name),
    /// To all, unstored: the server speaks.
    Server,
    /// Nowhere: somebody poses as our service.
    Nowhere,
}

impl Network {
    fn place(&self, line: &Line<'_>) -> Place {
        let target = line.param(0).unwrap_or_default();
        let bare = self.isupport().strip_status(target);
        if bare.len().max(line.nick().len()) > MAX_TARGET {
            return Place::Server;
        }
        if self.isupport().is_channel(bare) {
            return Place::Buffer(self.name(bare));
        }
        let source = line.nick();
        if source.eq_ignore_ascii_case(b"*carom") {
            return Place::Nowhere;
        }
        if self.is_me(source) && !self.is_me(target) && line.user_host().is_some() {
            return Place::Buffer(self.name(target));
        }
        match is_server(line) || !self.is_me(target) {
            true => Place::Server,
            false => Place::Buffer(self.name(source)),
        }
    }

    fn on_message(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let line = &received.line;
        if ctcp::is_ctcp(line.param(1).unwrap_or_default()) {
            return self.on_ctcp(received, turn);
        }
        match self.place(line) {
            Place::Buffer(target) => self.record_line(received, &target, Kind::Message, turn),
            Place::Server => self.pass_on(received, Audience::All, turn),
            Place::Nowhere => {}
        }
    }

    fn on_tagmsg(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if !matches!(self.place(&received.line), Place::Nowhere) {
            self.pass_on(received, Audience::All, turn);
        }
    }

    fn ask_message(&mut self, asked: &Asked<'_>, turn: &mut Turn) {
        let targets = asked.line.param(0).unwrap_or_default();
        if targets.is_empty() {
            let text = [b"No recipient given (", asked.line.command(), b")"].concat();
            return self.answer(asked, self.numeric(411).trailing(&text).build(), turn);
        }
        if asked.line.param(1).unwrap_or_default().is_empty() {
            let line = self.numeric(412).trailing(b"No text to send").build();
            return self.answer(asked, line, turn);
        }
        let mut lines = Vec::new();
        for target in targets.split(|b| *b == b',').filter(|t| !t.is_empty()) {
            if target.eq_ignore_ascii_case(b"*carom") {
                self.ask_service(asked, turn);
            } else if self.link().is_none() {
                let text = self.outage_text(turn.now.ticks);
                let line = self.numeric(404).param(target);
                turn.tell(asked.from, line.trailing(text.as_bytes()).build());
            } else {
                self.message_lines(target, asked, &mut lines);
            }
        }
        if !lines.is_empty() {
            self.note_sent(asked, turn.now.ticks);
        }
        self.queue_said(asked.from, lines, turn);
    }

    /// The lines that bring a message to one target: one, unless the network would cut it.
    fn message_lines(&self, target: &[u8], asked: &Asked<'_>, lines: &mut Vec<Bytes>) {
        let command = asked.line.command().to_ascii_uppercase();
        let head = [command.as_slice(), b" ", target, b" "].concat();
        let room = LINE.saturating_sub(self.mask_length() + head.len() + 1);
        let text = asked.line.param(1).unwrap_or_default();
        let tags = match self.caps_of_link().has(Cap::MessageTags) {
            true => client_tags(asked.line.tags()),
            false => Bytes::new(),
        };
        if text.len() <= room {
            return lines.push(said(&tags, &head, asked.line.rest(1)));
        }
        for piece in ctcp::split(text, room) {
            lines.push(said(&tags, &head, &[b":", piece.as_slice()].concat()));
        }
    }

    /// `:nick!user@host ` as others will get it, in bytes.
    fn mask_length(&self) -> usize {
        let known = self.face.user.is_some() && self.face.host.is_some();
        let mask = if known {
            self.own_source().len()
        } else {
            self.nick().len() + 2 + UNKNOWN_MASK
        };
        mask + 2
    }

    fn ask_tagmsg(&mut self, asked: &Asked<'_>, turn: &mut Turn) {
        let tags = client_tags(asked.line.tags());
        if tags.is_empty() || !self.caps_of_link().has(Cap::MessageTags) {
            return turn.push(Action::Credit(asked.from, 1));
        }
        let target = asked.line.param(0).unwrap_or_default();
        let line = said(&tags, b"TAGMSG ", target);
        self.queue_said(asked.from, vec![line], turn);
    }

    /// Something a client said has left: it is stored and shown, as it will be to everybody else.
    pub(super) fn said(&mut self, from: Option<ClientId>, raw: &Bytes, turn: &mut Turn) {
        let Ok(line) = Line::parse(raw) else { return };
        let target = line.param(0).unwrap_or_default();
        let text = line.param(1).unwrap_or_default();
        if ctcp::is_ctcp(text) || is_secret(target, text) {
            return;
        }
        let own = [b":", self.own_source().as_slice(), b" ", line.body()].concat();
        let tags = client_tags(line.tags());
        let mut shown = Shown {
            time: turn.now.time,
            msgid: None,
            tags,
            line: own.into(),
        };
        let echoes = |id: &ClientId| {
            self.clients
                .get(id)
                .is_some_and(|client| client.caps.has(Cap::EchoMessage))
        };
        let except = from.filter(|id| !echoes(id));
        if self.is_me(target) {
            // The server sends it back to us: that is the copy for all. The echo is the sender's own.
            if let Some(from) = from.filter(|_| except.is_none()) {
                let to = Audience::One(from);
                turn.push(Action::Deliver {
                    to,
                    line: shown,
                    entries: None,
                });
            }
            return;
        }
        if line.is(b"TAGMSG") {
            let to = except.map_or(Audience::All, Audience::Except);
            return turn.push(Action::Deliver {
                to,
                line: shown,
                entries: None,
            });
        }
        shown.msgid = Some(self.own_msgid());
        let buffer = self.name(self.isupport().strip_status(target));
        let ids = self.record(
            shown,
            std::slice::from_ref(&buffer),
            Kind::Message,
            except,
            turn,
        );
        if let Some(from) = from {
            self.own_line(from, turn);
            self.watch_refusal(from, buffer, ids.last, turn);
        }
    }

    /// A message id nobody else gives out: the network's number and the entry's.
    fn own_msgid(&self) -> Bytes {
        format!("carom-{:x}-{:x}", self.settings.id, self.next.0).into()
    }

    fn watch_refusal(
        &mut self,
        from: ClientId,
        target: Name,
        id: crate::history::EntryId,
        turn: &Turn,
    ) {
        let at = turn.now.ticks;
        let Some(link) = self.link_mut() else { return };
        link.unrefused.retain(|sent| at.since(sent.at) <= REFUSAL);
        if link.unrefused.len() >= MAX_UNREFUSED {
            link.unrefused.pop_front();
        }
        link.unrefused.push_back(Sent {
            at,
            from,
            target,
            entry: Some(id),
        });
    }

    /// A message did not get through: it is taken back from the log, and its sender is told.
    fn on_refused(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let now = turn.now.ticks;
        let about = self
            .isupport()
            .strip_status(received.line.param(1).unwrap_or_default());
        let target = self.name(about);
        let refused = self.link_mut().and_then(|link| {
            let unrefused = &mut link.unrefused;
            let n = unrefused
                .iter()
                .position(|sent| sent.target == target && now.since(sent.at) <= REFUSAL)?;
            unrefused.remove(n)
        });
        let Some(sent) = refused else {
            return self.on_numeric(received, turn);
        };
        if let Some(id) = sent.entry {
            self.remember(Write::Withdraw(id), turn);
        }
        self.pass_on(received, Audience::One(sent.from), turn);
    }
}

/// A line for the server.
fn said(tags: &[u8], head: &[u8], tail: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(tags.len() + head.len() + tail.len() + 2);
    if !tags.is_empty() {
        line.push(b'@');
        line.extend_from_slice(tags);
        line.push(b' ');
    }
    line.extend_from_slice(head);
    line.extend_from_slice(tail);
    line.into()
}

/// Whether a server speaks, not a person.
fn is_server(line: &Line<'_>) -> bool {
    let source = line.source();
    source.is_empty() || (line.user_host().is_none() && source.contains(&b'.'))
}

/// Whether a line to network services carries a password: it is neither stored nor shown to others.
fn is_secret(target: &[u8], text: &[u8]) -> bool {
    const WORDS: &[&[u8]] = &[
        b"IDENTIFY",
        b"ID",
        b"LOGIN",
        b"AUTH",
        b"REGISTER",
        b"GHOST",
        b"RECOVER",
        b"RELEASE",
        b"REGAIN",
        b"SET",
        b"SETPASS",
        b"RESETPASS",
        b"SENDPASS",
        b"CONFIRM",
        b"VERIFY",
        b"GROUP",
        b"DROP",
        b"OPER",
        b"NEWPASS",
        b"CHALLENGEAUTH",
    ];
    let target = target.to_ascii_uppercase();
    let nick = target.split(|b| *b == b'@').next().unwrap_or_default();
    let is_service = nick.ends_with(b"SERV") || matches!(nick, b"Q" | b"X" | b"L");
    let word = text
        .split(|b| *b == b' ')
        .find(|w| !w.is_empty())
        .unwrap_or_default();
    is_service && WORDS.contains(&word.to_ascii_uppercase().as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_passwords_are_secret() {
        assert!(is_secret(b"NickServ", b"IDENTIFY hunter2"));
        assert!(is_secret(b"nickserv@services.example", b" identify a b"));
        assert!(is_secret(b"Q", b"AUTH a b"));
        assert!(!is_secret(b"NickServ", b"HELP IDENTIFY"));
        assert!(!is_secret(b"bob", b"identify yourself"));
    }
}
