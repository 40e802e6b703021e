//! Whose reply is this? One question of a family is under way at a time, the rest wait; each ends once,
//! by its last reply, an error, a time-out or the loss of the link. Errors of other commands go to
//! whoever sent the command.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::{Line, Name, latin1};

use super::families::{self, Family};
use super::feature::{Asked, Received};
use super::outgoing::Lane;
use super::record::shown;
use super::turn::{Action, Audience, ClientId, Ticks, Turn};
use super::{Network, REPLY_TIMEOUT, Timer};

/// So long an error may follow a command.
const MEMORY: Duration = Duration::from_secs(10);
/// At most so many sent commands are remembered.
const MAX_SENT: usize = 64;
/// Channels asked for and not answered, at most.
const MAX_WISHES: usize = 1000;

/// Questions that wait for answers, and what clients asked for lately.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Pending {
    under_way: BTreeMap<Family, Question>,
    waiting: BTreeMap<Family, VecDeque<Question>>,
    /// Who asked last, for replies that come after the end.
    last: BTreeMap<Family, ClientId>,
    sent: VecDeque<Command>,
    /// Channels that clients asked to join, with the key they gave.
    pub(super) joins: Wishes,
    /// Channels that clients asked to part.
    pub(super) parts: Wishes,
    /// A client asked for another nick.
    pub(super) nick_asked: bool,
    /// How often the wanted nick was tried on this link.
    pub(super) nick_tries: u32,
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

/// A question to the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Question {
    /// Nobody, once the asker is gone: the answer is swallowed.
    asker: Option<ClientId>,
    #[serde(with = "latin1")]
    key: Bytes,
    #[serde(with = "latin1")]
    line: Bytes,
    since: Ticks,
}

/// A command that was sent for a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Command {
    at: Ticks,
    from: ClientId,
    #[serde(with = "latin1")]
    command: Bytes,
    /// Its first two parameters, each split at commas.
    about: Vec<Vec<u8>>,
}

impl Command {
    fn new(asked: &Asked<'_>, at: Ticks) -> Self {
        let parameters = asked
            .line
            .params()
            .take(2)
            .flat_map(|p| p.split(|b| *b == b','));
        Self {
            at,
            from: asked.from,
            command: asked.line.command().to_ascii_uppercase().into(),
            about: parameters.take(8).map(<[u8]>::to_vec).collect(),
        }
    }

    /// Whether a reply is about this command: it names it, or what it was about.
    fn is_meant_by(&self, line: &Line<'_>) -> bool {
        line.params().skip(1).take(2).any(|p| {
            p.eq_ignore_ascii_case(&self.command)
                || self.about.iter().any(|about| about.eq_ignore_ascii_case(p))
        })
    }
}

impl Pending {
    /// A client is gone: its questions are nobody's.
    pub(super) fn forget(&mut self, client: ClientId) {
        let under_way = self.under_way.values_mut();
        under_way
            .filter(|q| q.asker == Some(client))
            .for_each(|q| q.asker = None);
        for questions in self.waiting.values_mut() {
            questions.retain(|q| q.asker != Some(client));
        }
        self.waiting.retain(|_, questions| !questions.is_empty());
        self.sent.retain(|command| command.from != client);
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
    /// Passes a client's line to the server; answers come back to it alone.
    pub(super) fn forward(&mut self, asked: &Asked<'_>, turn: &mut Turn) {
        let mut line = asked.line.command().to_vec();
        if asked.line.param_count() > 0 {
            line.push(b' ');
            line.extend_from_slice(asked.line.rest(0));
        }
        self.send_for(asked, line.into(), turn);
    }

    /// Sends a line in answer to what a client asked.
    pub(super) fn send_for(&mut self, asked: &Asked<'_>, line: Bytes, turn: &mut Turn) {
        let family = families::asked(&asked.line, self.isupport());
        let Some(link) = self.link_mut() else {
            return self.refuse_while_down(asked, turn);
        };
        debug_assert!(link.since <= turn.now.ticks);
        let Some(family) = family else {
            self.note_sent(asked, turn.now.ticks);
            return self.queue(Some(asked.from), Lane::Interactive, line, turn);
        };
        let key = Bytes::copy_from_slice(families::key(&asked.line));
        let question = Question {
            asker: Some(asked.from),
            key,
            line,
            since: turn.now.ticks,
        };
        if self.pending.under_way.contains_key(&family) {
            return self
                .pending
                .waiting
                .entry(family)
                .or_default()
                .push_back(question);
        }
        self.ask(family, question, turn);
    }

    fn ask(&mut self, family: Family, mut question: Question, turn: &mut Turn) {
        question.since = turn.now.ticks;
        let (asker, line) = (question.asker, question.line.clone());
        self.pending.under_way.insert(family, question);
        if !self.timers.is_set(&Timer::Pending) {
            self.timers
                .set(Timer::Pending, turn.now.ticks.plus(REPLY_TIMEOUT));
        }
        self.queue(asker, Lane::Interactive, line, turn);
    }

    /// Remembers who sent a command.
    pub(super) fn note_sent(&mut self, asked: &Asked<'_>, now: Ticks) {
        if self.pending.sent.len() >= MAX_SENT {
            self.pending.sent.pop_front();
        }
        self.pending.sent.push_back(Command::new(asked, now));
    }

    /// Gives a reply to whoever asked. False: nobody did.
    pub(super) fn route(&mut self, received: &Received<'_>, turn: &mut Turn) -> bool {
        let Some(numeric) = received.line.numeric() else {
            return false;
        };
        for replies in families::with(numeric) {
            let family = replies.family;
            if let Some(question) = self.pending.under_way.get(&family)
                && (is_about(&received.line, question) || !is_shared(numeric))
            {
                let asker = question.asker;
                self.give(asker, received, turn);
                if replies.ends.contains(&numeric) {
                    self.finish(family, turn);
                }
                return true;
            }
            if replies.after.contains(&numeric)
                && let Some(asker) = self.pending.last.get(&family)
            {
                self.give(Some(*asker), received, turn);
                return true;
            }
        }
        self.route_error(received, turn) || self.route_to_sender(received, turn)
    }

    /// An error that ends a question: it names the command, or what was asked about.
    fn route_error(&mut self, received: &Received<'_>, turn: &mut Turn) -> bool {
        let numeric = received.line.numeric().unwrap_or_default();
        if !(400..600).contains(&numeric) && numeric != 263 {
            return false;
        }
        let about = received.line.param(1).unwrap_or_default();
        let ended = self.pending.under_way.iter().find(|(family, question)| {
            about.eq_ignore_ascii_case(families::of(**family).command)
                || is_about(&received.line, question)
        });
        let Some((family, asker)) = ended.map(|(family, question)| (*family, question.asker))
        else {
            return false;
        };
        self.give(asker, received, turn);
        self.finish(family, turn);
        true
    }

    /// A reply about a command that was sent lately.
    fn route_to_sender(&mut self, received: &Received<'_>, turn: &mut Turn) -> bool {
        let now = turn.now.ticks;
        self.pending
            .sent
            .retain(|command| now.since(command.at) < MEMORY);
        let sent = &self.pending.sent;
        let Some(from) = sent
            .iter()
            .rev()
            .find(|c| c.is_meant_by(&received.line))
            .map(|c| c.from)
        else {
            return false;
        };
        self.give(Some(from), received, turn);
        true
    }

    fn give(&self, asker: Option<ClientId>, received: &Received<'_>, turn: &mut Turn) {
        if let Some(asker) = asker {
            let mut line = shown(received, turn.now);
            line.line = self.reply_form(asker, received);
            turn.push(Action::Deliver {
                to: Audience::One(asker),
                line,
                entries: None,
            });
        }
    }

    /// The question is answered: the next one of its family is asked.
    fn finish(&mut self, family: Family, turn: &mut Turn) {
        let ended = self.pending.under_way.remove(&family);
        if let Some(asker) = ended.and_then(|question| question.asker) {
            self.pending.last.insert(family, asker);
        }
        let Some(waiting) = self.pending.waiting.get_mut(&family) else {
            return;
        };
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.pending.waiting.remove(&family);
        }
        if let Some(question) = next {
            self.ask(family, question, turn);
        }
    }

    /// Questions that were not answered in time end with words of ours.
    pub(super) fn expire_pending(&mut self, turn: &mut Turn) {
        let now = turn.now.ticks;
        let under_way = &self.pending.under_way;
        let late = under_way
            .iter()
            .filter(|(_, q)| now.since(q.since) >= REPLY_TIMEOUT);
        for family in late.map(|(family, _)| *family).collect::<Vec<_>>() {
            if let Some(question) = self.pending.under_way.get(&family) {
                self.end_question(family, question, "the network did not answer", turn);
            }
            self.finish(family, turn);
        }
        let next = self
            .pending
            .under_way
            .values()
            .map(|q| q.since.plus(REPLY_TIMEOUT))
            .min();
        if let Some(next) = next {
            self.timers.set(Timer::Pending, next);
        }
    }

    /// The link is gone: every question ends.
    pub(super) fn abort_pending(&mut self, turn: &mut Turn) {
        let pending = std::mem::take(&mut self.pending);
        for (family, question) in &pending.under_way {
            self.end_question(*family, question, "aborted: the connection was lost", turn);
        }
        for (family, questions) in &pending.waiting {
            for question in questions {
                self.end_question(*family, question, "aborted: the connection was lost", turn);
                if let Some(asker) = question.asker {
                    turn.push(Action::Credit(asker, 1));
                }
            }
        }
    }

    fn end_question(&self, family: Family, question: &Question, text: &str, turn: &mut Turn) {
        if let Some(asker) = question.asker {
            turn.tell(asker, self.end_of(family, &question.key, text));
        }
    }

    /// The last reply of a family, in words of ours. Where it would be read as an answer it says nothing,
    /// or that we are not there.
    fn end_of(&self, family: Family, key: &[u8], text: &str) -> Bytes {
        let end = self.numeric(families::of(family).ends[0]);
        match family {
            Family::Ison | Family::Userhost => end.trailing(b"").build(),
            Family::Modes => self
                .numeric(442)
                .param(key)
                .trailing(text.as_bytes())
                .build(),
            _ if key.is_empty() => end.trailing(text.as_bytes()).build(),
            _ => end.param(key).trailing(text.as_bytes()).build(),
        }
    }

    /// Without a link a message is refused as undeliverable, a channel command as from outside.
    fn refuse_while_down(&self, asked: &Asked<'_>, turn: &mut Turn) {
        let target = asked.line.param(0).unwrap_or_default();
        let text = self.outage_text(turn.now.ticks);
        let line = match families::asked(&asked.line, self.isupport()) {
            Some(family) => self.end_of(family, families::key(&asked.line), &text),
            None if self.isupport().is_channel(target) => self
                .numeric(442)
                .param(target)
                .trailing(text.as_bytes())
                .build(),
            None => self.notice(&text),
        };
        self.answer(asked, line, turn);
    }
}

/// Numerics that answer more than one command.
fn is_shared(numeric: u16) -> bool {
    matches!(numeric, 301 | 312 | 330 | 338 | 353 | 366 | 401 | 402 | 406)
}

/// Whether a reply names what a question was about.
fn is_about(line: &Line<'_>, question: &Question) -> bool {
    let key = &question.key[..];
    line.params()
        .skip(1)
        .any(|p| !p.is_empty() && p.eq_ignore_ascii_case(key))
}
