//! What was asked of the server and is not answered: each request ends once, by its last reply, an error, a time-out
//! or the loss of the link. Where the server knows labels each line sent for a client has one of ours. Where it does
//! not, one question of a family is under way at a time and the rest wait. Whose reply a line is, is `routing`'s.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::{Cap, Line, LineBuilder, Name, latin1};

use super::families::{self, Family};
use super::feature::{Answer, Asked};
use super::labels::ReplyId;
use super::messages::Speaker;
use super::turn::{Action, ClientId, Ticks, Turn};
use super::{Network, REPLY_TIMEOUT, Timer};

/// So long an error may follow a command that nothing else ends.
pub(super) const MEMORY: Duration = Duration::from_secs(10);
/// At most so many requests are remembered; the oldest gives way.
const MAX_REQUESTS: usize = 2048;
/// At most so many of those that nothing ends.
const MAX_MEMORIES: usize = 64;
/// Channels asked for and not answered, at most.
const MAX_WISHES: usize = 1000;

/// One line sent, or to be sent, to the server.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub(super) struct RequestId(pub(super) u64);

/// What waits for answers, and what clients asked for lately.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Pending {
    last_id: u64,
    pub(super) requests: BTreeMap<RequestId, Request>,
    /// By family, where the server knows no labels.
    pub(super) under_way: BTreeMap<Family, RequestId>,
    waiting: BTreeMap<Family, VecDeque<RequestId>>,
    /// A WHO that waits for the answer of another one of the same channel.
    followers: Vec<RequestId>,
    /// Who asked last, for replies that come after the end.
    pub(super) last: BTreeMap<Family, ClientId>,
    /// Channels that clients asked to join, with the key they gave.
    pub(super) joins: Wishes,
    /// Channels that clients asked to part.
    pub(super) parts: Wishes,
    rejoins: BTreeMap<Name, (u32, Ticks)>,
}

/// Channels and keys, so many at most.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Wishes(BTreeMap<Name, Option<Vec<u8>>>);

impl Wishes {
    pub(super) fn insert(&mut self, channel: Name, key: Option<Vec<u8>>) {
        if self.0.len() < MAX_WISHES {
            self.0.insert(channel, key);
        }
    }

    pub(super) fn remove(&mut self, channel: &Name) -> Option<Option<Vec<u8>>> {
        self.0.remove(channel)
    }
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Another of its family is under way.
    Waiting,
    /// In `Outgoing`.
    Queued,
    /// With the server.
    Sent,
}

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// A question with replies of its own.
    Question(Family),
    /// Anything else that a client asks.
    Command,
    /// Something people say, whose echo is awaited.
    Said,
    /// Something people say, which was shown already: an error may follow.
    Memory,
}

/// A line for the server and what is to become of its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Request {
    /// Nobody, once the asker is gone: the answer is swallowed.
    pub(super) asker: Option<ClientId>,
    /// The client name of who said it and left before it came back: it knows what it said.
    pub(super) gone: Option<String>,
    /// The asker's label.
    pub(super) reply: Option<ReplyId>,
    pub(super) what: What,
    pub(super) stage: Stage,
    /// What a question is about.
    #[serde(with = "latin1")]
    pub(super) key: Bytes,
    #[serde(with = "latin1")]
    pub(super) command: Bytes,
    /// Its first two parameters, each split at commas.
    pub(super) about: Vec<Vec<u8>>,
    #[serde(with = "latin1")]
    pub(super) line: Bytes,
    /// When it was sent, or last answered.
    pub(super) at: Ticks,
    /// It was sent with a label of ours.
    pub(super) labelled: bool,
    /// A PING of ours stands behind it: with the PONG all has come that will.
    pub(super) fenced: bool,
    /// An error came.
    pub(super) refused: bool,
    /// Its last reply, or its echo, came.
    pub(super) done: bool,
}

impl Request {
    pub(super) fn new(line: &Line<'_>, what: What, sent: Bytes, at: Ticks) -> Self {
        let parameters = line.params().take(2);
        let parameters = parameters.flat_map(|p| p.split(|b| *b == b','));
        Self {
            asker: None,
            gone: None,
            reply: None,
            what,
            stage: Stage::Queued,
            key: Bytes::copy_from_slice(families::key(line)),
            command: line.command().to_ascii_uppercase().into(),
            about: parameters.take(8).map(<[u8]>::to_vec).collect(),
            line: sent,
            at,
            labelled: false,
            fenced: false,
            refused: false,
            done: false,
        }
    }

    /// Whether nothing ends it: it is only remembered, for an error that may come.
    fn is_memory(&self) -> bool {
        match self.what {
            What::Memory => true,
            What::Command => !self.labelled && self.reply.is_none(),
            What::Question(_) | What::Said => false,
        }
    }

    /// Whether no reply of the server's is its last: then a PING goes behind it.
    fn ends_unseen(&self) -> bool {
        match self.what {
            What::Command => self.reply.is_some(),
            What::Question(family) => family == Family::Metadata,
            What::Said | What::Memory => false,
        }
    }

    fn family(&self) -> Option<Family> {
        match self.what {
            What::Question(family) => Some(family),
            _ => None,
        }
    }

    /// Whether it is forgotten or given up at this time.
    pub(super) fn is_late(&self, now: Ticks) -> bool {
        let patience = if self.is_memory() {
            MEMORY
        } else {
            REPLY_TIMEOUT
        };
        self.stage == Stage::Sent && now.since(self.at) >= patience
    }
}

impl Pending {
    /// Remembers a request.
    pub(super) fn add(&mut self, request: Request) -> RequestId {
        self.last_id += 1;
        let id = RequestId(self.last_id);
        self.requests.insert(id, request);
        id
    }

    /// A client is gone: its questions are nobody's, and those that wait are not asked.
    pub(super) fn forget(&mut self, client: ClientId, name: Option<&str>) {
        let (requests, followers) = (&mut self.requests, &self.followers);
        // A question that others wait for is asked all the same.
        let is_followed = |id: &RequestId, r: &Request| {
            r.what == What::Question(Family::Who)
                && !followers.is_empty()
                && !followers.contains(id)
        };
        requests.retain(|id, r| {
            r.asker != Some(client) || r.stage != Stage::Waiting || is_followed(id, r)
        });
        for request in requests.values_mut().filter(|r| r.asker == Some(client)) {
            (request.asker, request.reply) = (None, None);
            request.gone = name
                .filter(|_| request.what == What::Said)
                .map(str::to_owned);
        }
        for waiting in self.waiting.values_mut() {
            waiting.retain(|id| requests.contains_key(id));
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        self.followers.retain(|id| requests.contains_key(id));
        self.last.retain(|_, asker| *asker != client);
    }

    /// How often this channel was joined anew lately.
    pub(super) fn next_rejoin(&mut self, channel: &Name, now: Ticks) -> u32 {
        self.rejoins
            .retain(|_, (_, at)| now.since(*at) < Duration::from_secs(900));
        let (tries, at) = self.rejoins.entry(channel.clone()).or_default();
        *tries += 1;
        *at = now;
        *tries - 1
    }

    pub(super) fn is_rejoining(&self, channel: &Name) -> bool {
        self.rejoins.contains_key(channel)
    }
}

impl Network {
    /// Whether the server answers under labels.
    pub(super) fn server_labels(&self) -> bool {
        let caps = self.caps_of_link();
        caps.has(Cap::LabeledResponse) && caps.has(Cap::Batch)
    }

    /// Whether what people say comes back, under its label.
    pub(super) fn server_echoes(&self) -> bool {
        self.server_labels() && self.caps_of_link().has(Cap::EchoMessage)
    }

    /// Passes a client's line to the server; answers come back to it alone.
    pub(super) fn forward(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let mut line = asked.line.command().to_vec();
        if asked.line.param_count() > 0 {
            line.push(b' ');
            line.extend_from_slice(asked.line.rest(0));
        }
        self.send_for(asked, line.into(), turn)
    }

    /// Sends a line in answer to what a client asked.
    pub(super) fn send_for(&mut self, asked: &Asked<'_>, line: Bytes, turn: &mut Turn) -> Answer {
        if self.link().is_none() {
            return self.refuse_while_down(asked, turn);
        }
        let family = families::asked(&asked.line, self.isupport());
        let what = family.map_or(What::Command, What::Question);
        let follows = family == Some(Family::Who) && self.is_asked_about(&asked.line);
        let mut request = Request::new(&asked.line, what, line, turn.now.ticks);
        request.asker = Some(asked.from);
        request.reply = asked.reply;
        self.replies.expect(asked.reply, 1);
        let id = self.pending.add(request);
        if follows {
            self.follow(id);
        } else {
            self.queue_request(id, turn);
        }
        Answer::Later
    }

    /// Whether a WHO of the same channel is on its way.
    fn is_asked_about(&self, line: &Line<'_>) -> bool {
        let name = self.name(families::key(line));
        let mut requests = self.pending.requests.iter();
        requests.any(|(id, request)| {
            request.what == What::Question(Family::Who)
                && !self.pending.followers.contains(id)
                && name.is(&request.key)
        })
    }

    fn follow(&mut self, id: RequestId) {
        if let Some(request) = self.pending.requests.get_mut(&id) {
            request.stage = Stage::Waiting;
            self.pending.followers.push(id);
        }
    }

    /// Those that wait for the answer about this channel.
    pub(super) fn followers_of(&self, channel: &[u8]) -> Vec<RequestId> {
        let name = self.name(channel);
        let requests = &self.pending.requests;
        let about = |id: &RequestId| requests.get(id).is_some_and(|r| name.is(&r.key));
        let followers = self.pending.followers.iter().copied();
        followers.filter(about).collect()
    }

    /// The answer to a question that waits has become known.
    pub(super) fn answer_follower(&mut self, id: RequestId, lines: Vec<Bytes>, turn: &mut Turn) {
        self.pending.followers.retain(|other| *other != id);
        let asker = self.pending.requests.get(&id).and_then(|r| r.asker);
        let start = turn.actions.len();
        if let Some(asker) = asker {
            lines.into_iter().for_each(|line| turn.tell(asker, line));
            turn.push(Action::Credit(asker, 1));
        }
        self.answered(id, start, true, turn);
    }

    /// Remembers who said something, for errors that name it.
    pub(super) fn note_sent(&mut self, asked: &Asked<'_>, now: Ticks) {
        let mut request = Request::new(&asked.line, What::Memory, Bytes::new(), now);
        request.asker = Some(asked.from);
        request.stage = Stage::Sent;
        self.pending.add(request);
        self.forget_memories(now);
    }

    fn forget_memories(&mut self, now: Ticks) {
        let requests = &mut self.pending.requests;
        requests.retain(|_, r| !r.is_memory() || !r.is_late(now));
        let is_memory = |r: &Request| r.stage == Stage::Sent && r.is_memory();
        let memories = requests.iter().filter(|(_, r)| is_memory(r));
        let memories: Vec<_> = memories.map(|(id, _)| *id).collect();
        let many = memories.len().saturating_sub(MAX_MEMORIES);
        for id in &memories[..many] {
            requests.remove(id);
        }
    }

    /// The request's turn to leave has come. `None`: another of its family is under way, and it waits.
    pub(super) fn send_request(&mut self, id: RequestId, turn: &mut Turn) -> Option<()> {
        let (now, labels) = (turn.now.ticks, self.server_labels());
        let Some(request) = self.pending.requests.get_mut(&id) else {
            return Some(());
        };
        let labels = labels && !request.changes_our_mask();
        if let Some(family) = request.family().filter(|_| !labels) {
            let slot = family.slot();
            let other = self.pending.under_way.get(&slot);
            if other.is_some_and(|other| *other != id) {
                request.stage = Stage::Waiting;
                let waiting = self.pending.waiting.entry(slot).or_default();
                waiting.push_back(id);
                return None;
            }
            self.pending.under_way.insert(slot, id);
        }
        (request.stage, request.at, request.labelled) = (Stage::Sent, now, labels);
        let mut line = request.line.clone();
        let (fence, memory) = (!labels && request.ends_unseen(), request.is_memory());
        if request.family() == Some(Family::Who) {
            line = self.who_for_server(&line);
        }
        if labels {
            line = under_label(id, &line);
        }
        turn.send(line);
        if fence {
            self.fence(id, turn);
        }
        if memory {
            self.forget_memories(now);
        } else {
            self.watch_requests(turn);
        }
        Some(())
    }

    /// Sends what somebody says under a label of ours, by `lines` when it has several; its echo is awaited.
    pub(super) fn await_echo(
        &mut self,
        by: &Speaker,
        reply: Option<ReplyId>,
        raw: &Bytes,
        lines: &[Vec<u8>],
        turn: &mut Turn,
    ) {
        let Ok(line) = Line::parse(raw) else { return };
        let mut request = Request::new(&line, What::Said, raw.clone(), turn.now.ticks);
        (request.asker, request.gone) = (by.client, by.gone.clone());
        request.reply = reply;
        (request.stage, request.labelled) = (Stage::Sent, true);
        let id = self.pending.add(request);
        let (first, rest) = lines
            .split_first()
            .map_or((&raw[..], lines), |(l, r)| (l, r));
        turn.send(under_label(id, first));
        rest.iter().for_each(|line| turn.send(line.clone().into()));
        self.watch_requests(turn);
    }

    /// A PING behind a request whose end cannot be known otherwise.
    pub(super) fn fence(&mut self, id: RequestId, turn: &mut Turn) {
        let Some(request) = self.pending.requests.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut request.fenced, true) {
            let token = format!("{FENCE}{}", id.0);
            let ping = LineBuilder::new(b"PING").trailing(token.as_bytes());
            turn.send(ping.build());
            self.outgoing.charge();
        }
    }

    fn watch_requests(&mut self, turn: &mut Turn) {
        if !self.timers.is_set(&Timer::Pending) {
            let at = turn.now.ticks.plus(REPLY_TIMEOUT);
            self.timers.set(Timer::Pending, at);
        }
        while self.pending.requests.len() > MAX_REQUESTS {
            let sent = |(_, r): &(&RequestId, &Request)| r.stage == Stage::Sent;
            let Some((&oldest, _)) = self.pending.requests.iter().find(sent) else {
                return;
            };
            self.give_up(oldest, "too much is under way", turn);
        }
    }

    /// What the turn told since `start` answers a request; `ends`: nothing of the answer follows.
    pub(super) fn answered(&mut self, id: RequestId, start: usize, ends: bool, turn: &mut Turn) {
        let Some(request) = self.pending.requests.get_mut(&id) else {
            return;
        };
        request.at = turn.now.ticks;
        if let Some(reply) = request.reply {
            let last = ends && self.replies.is_last_part(reply);
            self.label_lines(reply, start, last, turn);
        }
        if ends {
            self.finish(id, turn);
        }
    }

    /// The request has its answer: the next one of its family is asked.
    fn finish(&mut self, id: RequestId, turn: &mut Turn) {
        let Some(mut request) = self.pending.requests.remove(&id) else {
            return;
        };
        if let Some(reply) = request.reply.take() {
            self.part_done(reply, turn);
            if request.what == What::Command && !request.labelled {
                // Something may still follow it, until the PONG or for a while.
                self.pending.requests.insert(id, request);
                return;
            }
        }
        let Some(family) = request.family() else {
            return;
        };
        if let Some(asker) = request.asker {
            self.pending.last.insert(family, asker);
        }
        if family == Family::Who && request.stage == Stage::Sent {
            // Only one of them: the others go on to wait for it.
            let next = self.followers_of(&request.key).first().copied();
            if let Some(next) = next {
                self.pending.followers.retain(|other| *other != next);
                self.queue_request(next, turn);
            }
        }
        let slot = family.slot();
        if self.pending.under_way.get(&slot) == Some(&id) {
            self.pending.under_way.remove(&slot);
            let waiting = self.pending.waiting.get_mut(&slot);
            if let Some(next) = waiting.and_then(VecDeque::pop_front) {
                self.queue_request(next, turn);
            }
        }
    }

    /// Requests that were not answered in time end with words of ours.
    pub(super) fn expire_pending(&mut self, turn: &mut Turn) {
        let now = turn.now.ticks;
        let late = self.pending.requests.iter().filter(|(_, r)| r.is_late(now));
        let late: Vec<_> = late.map(|(id, _)| *id).collect();
        for id in late {
            self.time_out(id, turn);
        }
        let sent = self.pending.requests.values();
        let sent = sent.filter(|r| r.stage == Stage::Sent && !r.is_memory());
        if let Some(next) = sent.map(|r| r.at.plus(REPLY_TIMEOUT)).min() {
            self.timers.set(Timer::Pending, next);
        }
    }

    /// Nothing came for long. The answer of a question may still come, and is nobody's then: it keeps its place
    /// until a PONG says that nothing follows, or for as long again.
    fn time_out(&mut self, id: RequestId, turn: &mut Turn) {
        const TEXT: &str = "the network did not answer";
        let request = self.pending.requests.get(&id);
        let keeps = |r: &Request| matches!(r.what, What::Question(_)) && !r.labelled && !r.fenced;
        if !request.is_some_and(keeps) {
            return self.give_up(id, TEXT, turn);
        }
        let start = turn.actions.len();
        self.tell_end(id, TEXT, turn);
        let request = self.pending.requests.get_mut(&id);
        let reply = request.and_then(|request| {
            (request.asker, request.at) = (None, turn.now.ticks);
            request.reply.take()
        });
        if let Some(reply) = reply {
            let last = self.replies.is_last_part(reply);
            self.label_lines(reply, start, last, turn);
            self.part_done(reply, turn);
        }
        self.fence(id, turn);
    }

    /// No answer comes any more: a question gets its end, what was said counts as said.
    pub(super) fn give_up(&mut self, id: RequestId, text: &str, turn: &mut Turn) {
        let start = turn.actions.len();
        self.tell_end(id, text, turn);
        self.answered(id, start, true, turn);
    }

    fn tell_end(&mut self, id: RequestId, text: &str, turn: &mut Turn) {
        let Some(request) = self.pending.requests.get(&id) else {
            return;
        };
        match (request.what, request.asker) {
            _ if request.done => {}
            (What::Question(family), Some(asker)) => {
                turn.tell(asker, self.end_of(family, &request.key, text));
            }
            (What::Said, _) if !request.refused => self.count_as_said(id, turn),
            _ => {}
        }
    }

    /// The link is gone: every request ends.
    pub(super) fn abort_pending(&mut self, turn: &mut Turn) {
        const TEXT: &str = "aborted: the connection was lost";
        let pending = std::mem::take(&mut self.pending);
        self.pending.last_id = pending.last_id;
        for request in pending.requests.into_values() {
            let Some(asker) = request.asker else { continue };
            let start = turn.actions.len();
            match request.what {
                _ if request.done || request.refused => {}
                What::Question(family) => {
                    turn.tell(asker, self.end_of(family, &request.key, TEXT));
                }
                What::Said => turn.tell(asker, self.unsaid(&request.key)),
                What::Command if request.reply.is_some() => turn.tell(asker, self.notice(TEXT)),
                What::Command | What::Memory => {}
            }
            if let Some(reply) = request.reply {
                let last = self.replies.is_last_part(reply);
                self.label_lines(reply, start, last, turn);
                self.part_done(reply, turn);
            }
            if request.stage == Stage::Waiting {
                turn.push(Action::Credit(asker, 1));
            }
        }
        self.end_replies(turn);
    }
}

/// What the token of a fence begins with.
pub(super) const FENCE: &str = "carom-fence-";
/// What our labels begin with.
pub(super) const LABEL: &str = "c";

/// A line with our label before its other tags.
fn under_label(id: RequestId, line: &[u8]) -> Bytes {
    let label = format!("@label={LABEL}{}", id.0);
    let mut out = label.into_bytes();
    match line.strip_prefix(b"@") {
        Some(rest) => {
            out.push(b';');
            out.extend_from_slice(rest);
        }
        None => {
            out.push(b' ');
            out.extend_from_slice(line);
        }
    }
    out.into()
}
