//! What people say: PRIVMSG, NOTICE, TAGMSG. From the server into the log and to everybody; from a
//! client to the server, and once it has left, into the log and to the other clients.

use std::time::Duration;

use bytes::Bytes;

use crate::history::{EntryId, Kind, Write};
use crate::wire::{Cap, Line, Name, Tags};

use super::feature::{Answer, Asked, Feature, Form, Offer, Received, Rule, Source};
use super::pending::{Request, RequestId, Stage, What};
use super::record::{Reach, client_tags, own_tags, shown, tagged_by};
use super::routing::Answers;
use super::turn::{Action, Audience, ClientId, Shown, Turn};
use super::upstream::Sent;
use super::{Network, ctcp, playback, service};

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
        Rule::new(b"408", 2, Network::on_refused),
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
pub(super) enum Place {
    /// Into the buffer of a channel or person.
    Buffer(Name),
    /// To all, unstored: the server speaks.
    Server,
    /// Nowhere: somebody poses as our service.
    Nowhere,
}

/// Who of our clients said something.
#[derive(Debug, Default)]
pub(super) struct Speaker {
    pub(super) client: Option<ClientId>,
    /// The name of one that left since, and knows what it said.
    pub(super) gone: Option<String>,
}

impl Speaker {
    pub(super) fn new(client: Option<ClientId>, gone: Option<String>) -> Self {
        Self { client, gone }
    }
}

impl Network {
    pub(super) fn place(&self, line: &Line<'_>) -> Place {
        let target = line.param(0).unwrap_or_default();
        let bare = self.isupport().strip_status(target);
        if bare.len().max(line.nick().len()) > MAX_TARGET {
            return Place::Server;
        }
        if self.isupport().is_channel(bare) {
            return Place::Buffer(self.name(bare));
        }
        let source = line.nick();
        if service::is_meant(source) {
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

    pub(super) fn on_message(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let line = &received.line;
        if self.is_me(line.nick()) && self.on_own_message(received, turn) {
            return;
        }
        let place = self.place(line);
        if ctcp::is_ctcp(line.param(1).unwrap_or_default()) {
            return match place {
                Place::Buffer(target) if self.is_detached(&target) => {}
                _ => self.on_ctcp(received, turn),
            };
        }
        match place {
            Place::Buffer(target) => self.record_message(received, &target, turn),
            Place::Server => self.pass_on(received, self.audience_of(turn), turn),
            Place::Nowhere => {}
        }
    }

    fn on_tagmsg(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if self.is_me(received.line.nick()) && self.on_own_message(received, turn) {
            return;
        }
        match self.place(&received.line) {
            Place::Nowhere => {}
            Place::Buffer(target) if is_reaction(received.line.tags()) => {
                self.record_line(received, &target, Kind::Event, turn);
            }
            Place::Buffer(target) if self.is_detached(&target) => {}
            _ => self.pass_on(received, Audience::All, turn),
        }
    }

    pub(super) fn ask_message(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let targets = asked.line.param(0).unwrap_or_default();
        let text = asked.line.param(1).unwrap_or_default();
        if (targets.is_empty() || text.is_empty()) && self.server_labels() {
            // The server says in its own words what is wrong, to whoever it is told.
            return self.forward(asked, turn);
        }
        if targets.is_empty() {
            let text = [b"No recipient given (", asked.line.command(), b")"].concat();
            return self.answer(asked, self.numeric(411).trailing(&text).build(), turn);
        }
        if text.is_empty() {
            let line = self.numeric(412).trailing(b"No text to send").build();
            return self.answer(asked, line, turn);
        }
        let mut lines = Vec::new();
        for target in targets.split(|b| *b == b',').filter(|t| !t.is_empty()) {
            if self.ask_service(target, asked, turn) {
                continue;
            }
            if target.eq_ignore_ascii_case(playback::NAME) {
                self.ask_playback(asked.line.param(1).unwrap_or_default(), asked, turn);
            } else if self.link().is_none() {
                let text = self.outage_text(turn.now.ticks);
                let line = self.numeric(404).param(target);
                turn.tell(asked.from, line.trailing(text.as_bytes()).build());
            } else {
                self.message_lines(target, asked, &mut lines);
            }
        }
        if !lines.is_empty() && !self.server_echoes() {
            self.note_sent(asked, turn.now.ticks);
        }
        self.queue_said(asked, lines, turn)
    }

    /// The lines that bring a message to one target: one, unless the network would cut it.
    fn message_lines(&self, target: &[u8], asked: &Asked<'_>, lines: &mut Vec<Bytes>) {
        let command = asked.line.command().to_ascii_uppercase();
        let head = [command.as_slice(), b" ", target, b" "].concat();
        let room = self.room_for(&head[..head.len() - 1]);
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

    /// How much text fits behind a command and its target, as others will get it.
    pub(super) fn room_for(&self, head: &[u8]) -> usize {
        LINE.saturating_sub(self.mask_length() + head.len() + 2)
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

    fn ask_tagmsg(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let tags = client_tags(asked.line.tags());
        if !self.caps_of_link().has(Cap::MessageTags) {
            return Answer::Now;
        }
        if tags.is_empty() && !self.server_labels() {
            return Answer::Now;
        }
        let target = asked.line.param(0).unwrap_or_default();
        let line = said(&tags, b"TAGMSG ", target);
        self.queue_said(asked, vec![line], turn)
    }

    /// Something a client said has left: it is stored and shown, as it will be to everybody else.
    pub(super) fn said(&mut self, by: &Speaker, raw: &Bytes, turn: &mut Turn) {
        let Ok(line) = Line::parse(raw) else { return };
        let own = [b":", self.own_source().as_slice(), b" ", line.body()].concat();
        let shown = Shown {
            time: turn.now.time,
            msgid: None,
            tags: self.under_account(own_tags(&line)),
            line: own.into(),
        };
        let recorded = self.show_own(by, shown, turn);
        if let Some((buffer, id)) = recorded {
            self.watch_refusal(by.client, buffer, id, turn);
        }
    }

    /// The tags of what we say, as a server that tells accounts would give them.
    fn under_account(&self, tags: Bytes) -> Bytes {
        let told = self.caps_of_link().has(Cap::AccountTag);
        let Some(account) = self.face.account.as_ref().filter(|_| told) else {
            return tags;
        };
        let mut out = b"account=".to_vec();
        crate::wire::tags::escape(account, &mut out);
        if !tags.is_empty() {
            out.push(b';');
            out.extend_from_slice(&tags);
        }
        out.into()
    }

    /// Shows what one of our clients said, and stores it if it belongs into a buffer: which, and its number there.
    fn show_own(
        &mut self,
        by: &Speaker,
        mut shown: Shown,
        turn: &mut Turn,
    ) -> Option<(Name, EntryId)> {
        let from = by.client;
        let bytes = shown.line.clone();
        let line = Line::parse(&bytes).ok()?;
        let target = line.param(0).unwrap_or_default();
        let text = line.param(1).unwrap_or_default();
        let echoes = |id: &ClientId| {
            let client = self.clients.get(id);
            client.is_some_and(|client| client.caps.has(Cap::EchoMessage))
        };
        let except = from.filter(|id| !echoes(id));
        let is_tagmsg = line.is(b"TAGMSG");
        // What is sent to ourselves comes back once more: that is the copy for all. CTCP and passwords are nobody
        // else's business. The echo is the sender's own.
        let is_ctcp = !is_tagmsg && ctcp::is_ctcp(text);
        if let Some(from) = from.filter(|_| is_ctcp && line.is(b"PRIVMSG")) {
            self.asks_by_ctcp(from, target, text, turn.now.ticks);
        }
        let own_only = is_ctcp || (!is_tagmsg && is_secret(target, text));
        if own_only || self.is_me(target) {
            if let Some(from) = from.filter(|_| except.is_none()) {
                deliver(Audience::One(from), shown, turn);
            }
            return None;
        }
        let kind = match is_tagmsg {
            true => Kind::Event,
            false => Kind::Message,
        };
        if is_tagmsg && !is_reaction(Tags::new(&shown.tags)) {
            if self.is_detached(&self.name(target)) {
                return None;
            }
            deliver(except.map_or(Audience::All, Audience::Except), shown, turn);
            return None;
        }
        if shown.msgid.is_none() {
            shown.msgid = Some(self.own_msgid());
        }
        let name = match except.and_then(|id| self.clients.get(&id)) {
            Some(client) => Some(client.name.clone()),
            None => by.gone.clone(),
        };
        if let Some(name) = &name {
            shown.tags = tagged_by(&shown.tags, name);
        }
        let buffer = self.name(self.isupport().strip_status(target));
        let targets = std::slice::from_ref(&buffer);
        let reach = except.map_or(Reach::Watchers, Reach::Others);
        let ids = self.record(shown, targets, kind, reach, turn);
        match (from, &by.gone) {
            (Some(from), _) => self.own_line(from, turn),
            (None, Some(name)) => self.own_line_of_gone(name, ids.last, turn),
            (None, None) => {}
        }
        if kind == Kind::Message {
            self.heard_in(&buffer, turn.now.ticks);
            self.reset_on_talk(&buffer, turn);
        }
        Some((buffer, ids.last))
    }

    /// A line of ours comes from the server. True: it is dealt with, as the echo of what a client said, or as one
    /// that nobody waits for.
    fn on_own_message(&mut self, received: &Received<'_>, turn: &mut Turn) -> bool {
        let line = &received.line;
        let echo = match turn.answers {
            Some(answers) if answers.labelled => answers.request,
            _ => self.echo_without_label(line),
        };
        let said = |request: &Request| request.what == What::Said && !request.done;
        let request = echo.and_then(|id| self.pending.requests.get_mut(&id));
        if let Some(request) = request.filter(|request| said(request)) {
            request.done = true;
            let (asker, gone) = (request.asker, request.gone.take());
            turn.answers.get_or_insert(Answers {
                request: echo,
                ends: true,
                labelled: true,
            });
            let by = Speaker::new(asker, gone);
            self.show_own(&by, shown(received, turn.now), turn);
            return true;
        }
        if turn.answers.is_some_and(|answers| answers.labelled) {
            // Its echo was given up, and it was shown.
            return true;
        }
        let target = line.param(0).unwrap_or_default();
        let echoing = self.caps_of_link().has(Cap::EchoMessage);
        let is_echo = echoing && !self.server_labels() && !self.is_me(target);
        is_echo || is_secret(target, line.param(1).unwrap_or_default())
    }

    /// The server was asked for labels, and gives none any more.
    fn echo_without_label(&self, line: &Line<'_>) -> Option<RequestId> {
        let is_it = |request: &Request| {
            let sent = Line::parse(&request.line).ok();
            let same = |sent: Line<'_>| {
                sent.is(line.command())
                    && sent.param(0) == line.param(0)
                    && sent.param(1) == line.param(1)
            };
            request.what == What::Said && !request.done && sent.is_some_and(same)
        };
        let requests = self.pending.requests.iter();
        if self.server_labels() {
            return None;
        }
        let mut requests = requests.filter(|(_, request)| is_it(request));
        requests.next().map(|(id, _)| *id)
    }

    /// The answer to what somebody said ends. When it was neither echoed nor refused it counts as said.
    pub(super) fn say_if_unheard(&mut self, id: RequestId, turn: &mut Turn) {
        let request = self.pending.requests.get(&id);
        if request.is_some_and(|r| r.what == What::Said && !r.done && !r.refused) {
            self.count_as_said(id, turn);
        }
    }

    /// Shows what somebody said though its echo did not come.
    pub(super) fn count_as_said(&mut self, id: RequestId, turn: &mut Turn) {
        let Some(request) = self.pending.requests.get_mut(&id) else {
            return;
        };
        request.done = true;
        let by = Speaker::new(request.asker, request.gone.take());
        let line = request.line.clone();
        self.said(&by, &line, turn);
    }

    /// A message id nobody else gives out: the network's number and the entry's.
    pub(super) fn own_msgid(&self) -> Bytes {
        format!("carom-{:x}-{:x}", self.settings.id, self.next.0).into()
    }

    fn watch_refusal(&mut self, from: Option<ClientId>, target: Name, id: EntryId, turn: &Turn) {
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
            entry: id,
            fence: None,
        });
    }

    /// A message of several lines has left. FAIL does not say which one it is about: a PING behind each tells.
    pub(super) fn fence_said(&mut self, by: &Speaker, raw: &Bytes, turn: &mut Turn) {
        let Ok(line) = Line::parse(raw) else { return };
        let mut request = Request::new(&line, What::Memory, Bytes::new(), turn.now.ticks);
        (request.asker, request.stage) = (by.client, Stage::Sent);
        let id = self.pending.add(request);
        self.fence(id, turn);
        let last = self.link_mut().and_then(|link| link.unrefused.back_mut());
        if let Some(sent) = last {
            sent.fence = Some(id);
        }
    }

    /// What was said before this PING was not refused.
    pub(super) fn taken_before(&mut self, fence: RequestId) {
        if let Some(link) = self.link_mut() {
            link.unrefused.retain(|sent| sent.fence != Some(fence));
        }
    }

    /// FAIL BATCH: the first message of several lines that may be meant. True: it was one, and its sender was told.
    pub(super) fn on_batch_refused(&mut self, received: &Received<'_>, turn: &mut Turn) -> bool {
        let refused = self.link_mut().and_then(|link| {
            let unrefused = &mut link.unrefused;
            let n = unrefused.iter().position(|sent| sent.fence.is_some())?;
            unrefused.remove(n)
        });
        let Some(sent) = refused else { return false };
        self.withdraw(&sent, received, turn);
        true
    }

    /// FAIL PRIVMSG and NOTICE, when they name to whom something was said.
    pub(super) fn on_fail_named(&mut self, received: &Received<'_>, turn: &mut Turn) -> bool {
        let now = turn.now.ticks;
        let named: Vec<Name> = received
            .line
            .params()
            .skip(2)
            .map(|p| self.name(p))
            .collect();
        let refused = self.link_mut().and_then(|link| {
            let unrefused = &mut link.unrefused;
            let is_it = |sent: &Sent| named.contains(&sent.target) && now.since(sent.at) <= REFUSAL;
            let n = unrefused.iter().position(is_it)?;
            unrefused.remove(n)
        });
        let Some(sent) = refused else { return false };
        self.withdraw(&sent, received, turn);
        true
    }

    /// It is taken back from the log, and its sender is told.
    fn withdraw(&mut self, sent: &Sent, received: &Received<'_>, turn: &mut Turn) {
        self.remember(Write::Withdraw(sent.entry), turn);
        if let Some(from) = sent.from {
            self.pass_on(received, Audience::One(from), turn);
        }
    }

    /// A message did not get through: it is taken back from the log, and its sender is told.
    fn on_refused(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if !self.message_refused(received, turn) {
            self.on_numeric(received, turn);
        }
    }

    /// True: it was one that was said a moment ago.
    pub(super) fn message_refused(&mut self, received: &Received<'_>, turn: &mut Turn) -> bool {
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
        let Some(sent) = refused else { return false };
        self.withdraw(&sent, received, turn);
        true
    }
}

fn deliver(to: Audience, line: Shown, turn: &mut Turn) {
    turn.push(Action::Deliver {
        to,
        line,
        entries: None,
    });
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

/// Whether tags say something that is kept: a reaction, or that it is taken back. Typing is not.
fn is_reaction(mut tags: Tags<'_>) -> bool {
    const REACTIONS: [&[u8]; 4] = [b"+draft/react", b"+react", b"+draft/unreact", b"+unreact"];
    tags.any(|(key, _)| REACTIONS.contains(&key))
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
