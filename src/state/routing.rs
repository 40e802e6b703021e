//! Whose reply is this? By label or batch where the server has them, else by family, by the command that an error
//! names, or by what came true of what was asked. What a line answers is known before it is dispatched or while
//! it is; what it then tells the asker is labelled afterwards.

use bytes::Bytes;

use crate::wire::{Line, Tags};

use super::families::{self, Family};
use super::feature::{Answer, Asked, Received};
use super::pending::{FENCE, LABEL, Request, RequestId, Stage, What};
use super::record::shown;
use super::turn::{Action, Audience, ClientId, Turn};
use super::{Network, Upstream};

/// What the line at hand answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answers {
    /// `None`: a request that is given up already.
    pub(super) request: Option<RequestId>,
    /// Nothing of the answer follows.
    pub(super) ends: bool,
    /// The server says so itself.
    pub(super) labelled: bool,
}

impl Network {
    /// Takes a line of the link: what it answers, what it means, and the label of what it told.
    pub(super) fn on_link_line(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let start = turn.actions.len();
        turn.holding = true;
        turn.answers = self.answers(received);
        self.on_line(received, turn);
        self.show_within(received, start, turn);
        turn.holding = false;
        if let Some(answers) = turn.answers.take()
            && let Some(id) = answers.request
        {
            if answers.ends {
                self.say_if_unheard(id, turn);
            }
            self.answered(id, start, answers.ends, turn);
        }
        self.pump_queued(turn);
    }

    /// What the server itself says the line answers, or what it makes true.
    fn answers(&mut self, received: &Received<'_>) -> Option<Answers> {
        // A line of which nothing is known costs nothing.
        let tagged = !received.line.raw_tags().is_empty() || received.line.is(b"BATCH");
        if tagged && (self.server_labels() || !self.pending.requests.is_empty()) {
            let answers = self.answers_by_tags(&received.line);
            if answers.is_some() {
                return answers;
            }
        }
        self.came_true(&received.line)
    }

    fn answers_by_tags(&mut self, line: &Line<'_>) -> Option<Answers> {
        let (mut label, mut batch) = (None, None);
        for (key, value) in Tags::new(line.raw_tags()) {
            match key {
                b"label" => label = Some(value),
                b"batch" => batch = Some(value),
                _ => {}
            }
        }
        let requests = &self.pending.requests;
        let of_label = label.and_then(ours).map(|id| {
            let known = requests.get(&id).is_some_and(|request| request.labelled);
            known.then_some(id)
        });
        let Upstream::Up(link) = &mut self.upstream else {
            return None;
        };
        let outer = batch.and_then(|reference| link.batches.of(reference));
        let whose = of_label.or(outer);
        if !line.is(b"BATCH") {
            return whose.map(|request| Answers {
                request,
                ends: of_label.is_some(),
                labelled: true,
            });
        }
        let reference = line.param(0).unwrap_or_default();
        match reference.split_first() {
            Some((b'+', reference)) => {
                let request = whose?;
                link.batches.open(reference, request, outer.is_none());
                Some(Answers {
                    request,
                    ends: false,
                    labelled: true,
                })
            }
            Some((b'-', reference)) => {
                let (request, outermost) = link.batches.close(reference)?;
                Some(Answers {
                    request,
                    ends: outermost,
                    labelled: true,
                })
            }
            _ => None,
        }
    }

    /// A labelled line of ours comes true: without labels of the server that is its answer. PONG ends it.
    fn came_true(&self, line: &Line<'_>) -> Option<Answers> {
        if self.replies.is_empty() {
            return None;
        }
        let (command, about) = match line.numeric() {
            Some(366) => (&b"JOIN"[..], line.param(1)?),
            Some(305 | 306) => (&b"AWAY"[..], &b""[..]),
            Some(_) => return None,
            None if self.is_me(line.nick()) => (line.command(), line.param(0).unwrap_or_default()),
            None => return None,
        };
        let is_it = |request: &Request| {
            let named = about.is_empty() || request.names(about);
            request.awaits() && named && request.command.eq_ignore_ascii_case(command)
        };
        let mut requests = self.pending.requests.iter();
        let (id, request) = requests.find(|(_, request)| is_it(request))?;
        // Of a join the names are still to come.
        let ends = request.is_of_one() && !line.is(b"JOIN");
        Some(Answers {
            request: Some(*id),
            ends,
            labelled: false,
        })
    }

    /// Who is told about a line that is nobody's own: the asker when it answers something, else all.
    pub(super) fn audience_of(&self, turn: &Turn) -> Audience {
        let Some(answers) = turn.answers.filter(|answers| answers.labelled) else {
            return Audience::All;
        };
        match self.asker(answers) {
            Some(asker) => Audience::One(asker),
            None => Audience::Only(Box::default()),
        }
    }

    fn asker(&self, answers: Answers) -> Option<ClientId> {
        self.pending.requests.get(&answers.request?)?.asker
    }

    /// Gives a reply to whoever asked. False: nobody did.
    pub(super) fn route(&mut self, received: &Received<'_>, turn: &mut Turn) -> bool {
        let Some(numeric) = received.line.numeric() else {
            return false;
        };
        if let Some(answers) = turn.answers {
            self.note_refusal(answers.request, numeric);
            self.give(self.asker(answers), received, turn);
            return true;
        }
        for replies in families::with(numeric) {
            let question = self.pending.question(replies.family);
            if let Some((id, question)) = question
                && (is_about(&received.line, question) || !is_shared(numeric))
            {
                let asker = question.asker;
                self.give(asker, received, turn);
                let ends = replies.ends.contains(&numeric);
                self.on_reply_of(id, replies.family, numeric, ends, turn);
                return true;
            }
            if replies.after.contains(&numeric)
                && let Some(asker) = self.pending.last.get(&replies.family)
            {
                self.give(Some(*asker), received, turn);
                return true;
            }
        }
        self.route_error(received, turn) || self.route_to_sender(received, turn)
    }

    /// A reply of the question of a family that is under way.
    fn on_reply_of(
        &mut self,
        id: RequestId,
        family: Family,
        numeric: u16,
        ends: bool,
        turn: &mut Turn,
    ) {
        let Some(request) = self.pending.requests.get_mut(&id) else {
            return;
        };
        // What comes after the end belongs under the label too.
        let trails = ends && request.reply.is_some() && !families::of(family).after.is_empty();
        request.done |= ends;
        let refused = matches!(numeric, 401 | 402 | 406) && !ends;
        request.refused |= refused;
        if trails || refused {
            self.fence(id, turn);
        }
        self.answers_request(id, ends && !trails, turn);
    }

    fn answers_request(&mut self, id: RequestId, ends: bool, turn: &mut Turn) {
        turn.answers = Some(Answers {
            request: Some(id),
            ends,
            labelled: false,
        });
    }

    fn note_refusal(&mut self, id: Option<RequestId>, numeric: u16) {
        let request = id.and_then(|id| self.pending.requests.get_mut(&id));
        // 716: who is written to wants to be asked first.
        let refuses = (400..600).contains(&numeric) || numeric == 716;
        if let Some(request) = request.filter(|_| refuses) {
            request.refused = true;
        }
    }

    /// An error for a question: it names the command, which ends it, or what was asked about, and then the last
    /// reply may follow.
    fn route_error(&mut self, received: &Received<'_>, turn: &mut Turn) -> bool {
        let numeric = received.line.numeric().unwrap_or_default();
        if !(400..600).contains(&numeric) && numeric != 263 {
            return false;
        }
        let about = received.line.param(1).unwrap_or_default();
        let requests = &self.pending.requests;
        let questions = self.pending.under_way.values();
        let mut questions = questions.filter_map(|id| Some((*id, requests.get(id)?)));
        let meant = questions.find(|(_, question)| {
            about.eq_ignore_ascii_case(&question.command) || is_about(&received.line, question)
        });
        let Some((id, question)) = meant else {
            return false;
        };
        let ends = about.eq_ignore_ascii_case(&question.command);
        self.give(question.asker, received, turn);
        self.note_refusal(Some(id), numeric);
        if !ends {
            self.fence(id, turn);
        }
        self.answers_request(id, ends, turn);
        true
    }

    /// A reply about a command that was sent lately.
    fn route_to_sender(&mut self, received: &Received<'_>, turn: &mut Turn) -> bool {
        let now = turn.now.ticks;
        let is_meant = |r: &Request| {
            let open = r.stage == Stage::Sent && !r.labelled && !r.is_late(now);
            open && r.is_meant_by(&received.line)
        };
        // Of those that wait the server answers the first, else it means the last.
        let requests = || self.pending.requests.iter().filter(|(_, r)| is_meant(r));
        let waits = requests().find(|(_, request)| request.awaits());
        let Some((id, request)) = waits.or_else(|| requests().next_back()) else {
            return false;
        };
        let (id, asker) = (*id, request.asker);
        let numeric = received.line.numeric().unwrap_or_default();
        let about = received.line.param(1).unwrap_or_default();
        let refused = (400..600).contains(&numeric) || numeric == 341;
        let ends = about.eq_ignore_ascii_case(&request.command) || refused && request.is_of_one();
        let ends = ends && request.awaits();
        self.give(asker, received, turn);
        self.answers_request(id, ends, turn);
        true
    }

    /// FAIL, WARN and NOTE name the command they are about.
    pub(super) fn route_standard(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if self.on_join_renamed(received, turn) {
            return;
        }
        let line = &received.line;
        let about = line.param(0).unwrap_or_default();
        if line.is(b"FAIL") && turn.answers.is_none() {
            let dealt_with = match about {
                b"BATCH" => self.on_batch_refused(received, turn),
                b"PRIVMSG" | b"NOTICE" => self.on_fail_named(received, turn),
                _ => false,
            };
            if dealt_with {
                return;
            }
        }
        let requests = self.pending.requests.iter().rev();
        let is_meant = |r: &Request| about.eq_ignore_ascii_case(&r.command);
        let sent = requests.filter(|(_, r)| r.stage == Stage::Sent && !r.labelled && is_meant(r));
        // Who named what it names comes first.
        let named = sent
            .clone()
            .find(|(_, r)| line.params().skip(2).any(|p| r.names(p)));
        if turn.answers.is_none()
            && let Some((id, _)) = named.or_else(|| sent.clone().next())
        {
            let id = *id;
            self.answers_request(id, false, turn);
        }
        let Some(answers) = turn.answers else {
            return self.give_all(received, turn);
        };
        self.give(self.asker(answers), received, turn);
        if let Some(id) = answers.request.filter(|_| line.is(b"FAIL")) {
            self.note_refusal(Some(id), 400);
            let question = self.pending.requests.get(&id);
            if question.is_some_and(|r| !r.labelled && matches!(r.what, What::Question(_))) {
                self.fence(id, turn);
            }
        }
    }

    /// To all, each in its form.
    fn give_all(&self, received: &Received<'_>, turn: &mut Turn) {
        for id in self.clients.keys() {
            self.give(Some(*id), received, turn);
        }
    }

    /// The question that the line at hand answers, as its asker put it.
    pub(super) fn question_at_hand(
        &self,
        family: Family,
        turn: &Turn,
    ) -> Option<(RequestId, &Request)> {
        let Some(answers) = turn.answers else {
            return self.pending.question(family);
        };
        let request = self.pending.requests.get(&answers.request?)?;
        (request.what == What::Question(family)).then_some((answers.request?, request))
    }

    /// The line at hand is a reply of that question, and was told in a form of ours.
    pub(super) fn on_reply_in_our_form(&mut self, id: RequestId, turn: &mut Turn) {
        if turn.answers.is_none() {
            self.answers_request(id, false, turn);
        }
    }

    fn give(&self, asker: Option<ClientId>, received: &Received<'_>, turn: &mut Turn) {
        if let Some(asker) = asker {
            let mut line = shown(received, turn.now);
            line.line = self.reply_form(asker, received, turn);
            turn.push(Action::Deliver {
                to: Audience::One(asker),
                line,
                entries: None,
            });
        }
    }

    /// The fence behind a request: whatever has not come does not come. Lists that clients wait for are ended.
    pub(super) fn on_pong(&mut self, received: &Received<'_>, turn: &mut Turn) {
        self.measured(received, turn);
        let mut tokens = received.line.params();
        let Some(id) = tokens.find_map(|token| number(token, FENCE)) else {
            return;
        };
        self.taken_before(id);
        let Some(request) = self.pending.requests.get(&id).filter(|r| r.fenced) else {
            return;
        };
        if let (What::Question(family @ (Family::Whois | Family::Whowas)), Some(asker), false) =
            (request.what, request.asker, request.done)
        {
            let text = if family == Family::Whois {
                "End of /WHOIS list."
            } else {
                "End of WHOWAS"
            };
            turn.tell(asker, self.end_of(family, &request.key, text));
        }
        self.answers_request(id, true, turn);
    }

    /// Whether a message arrived is not known.
    pub(super) fn unsaid(&self, target: &[u8]) -> Bytes {
        let text = b"The connection was lost before the network took this";
        self.numeric(404).param(target).trailing(text).build()
    }

    /// The last reply of a family, in words of ours. Where it would be read as an answer it says nothing,
    /// or that we are not there.
    pub(super) fn end_of(&self, family: Family, key: &[u8], text: &str) -> Bytes {
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
    pub(super) fn refuse_while_down(&self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
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
        self.answer(asked, line, turn)
    }
}

/// The request of one of our labels or tokens.
fn number(text: &[u8], prefix: &str) -> Option<RequestId> {
    let digits = text.strip_prefix(prefix.as_bytes())?;
    let digits = std::str::from_utf8(digits).ok()?;
    digits.parse().ok().map(RequestId)
}

fn ours(label: &[u8]) -> Option<RequestId> {
    number(label, LABEL)
}

impl Request {
    /// Whether it was sent under a client's label to a server that knows none.
    fn awaits(&self) -> bool {
        self.stage == Stage::Sent && !self.labelled && self.reply.is_some()
    }

    /// Whether one line is all of its answer.
    fn is_of_one(&self) -> bool {
        const OF_ONE: &[&[u8]] = &[
            b"AWAY", b"INVITE", b"JOIN", b"KICK", b"NICK", b"PART", b"SETNAME", b"TOPIC",
        ];
        let parameter = Line::parse(&self.line).ok();
        let target = parameter.and_then(|line| line.param(0)).unwrap_or_default();
        OF_ONE.contains(&&self.command[..]) && !target.contains(&b',')
    }

    /// Whether one of its first parameters is this.
    pub(super) fn names(&self, what: &[u8]) -> bool {
        self.about
            .iter()
            .any(|about| about.eq_ignore_ascii_case(what))
    }

    /// Whether it may change what stands before our lines. Servers write what they tell under a label when all is
    /// done, and then our NICK would come from the new nick.
    pub(super) fn changes_our_mask(&self) -> bool {
        const COMMANDS: [&[u8]; 5] = [b"CHGHOST", b"CHGIDENT", b"NICK", b"SETHOST", b"SETIDENT"];
        COMMANDS.contains(&&self.command[..])
    }

    /// Whether a reply is about this command: it names it, or what it was about.
    fn is_meant_by(&self, line: &Line<'_>) -> bool {
        let is_nick = self.command.eq_ignore_ascii_case(b"NICK");
        // Not all refusals of a nick name it.
        if is_nick && matches!(line.numeric(), Some(431..=438 | 447)) {
            return true;
        }
        line.params()
            .skip(1)
            .take(2)
            .any(|p| p.eq_ignore_ascii_case(&self.command) || self.names(p))
    }
}

impl super::pending::Pending {
    /// The question of this family that is under way.
    fn question(&self, family: Family) -> Option<(RequestId, &Request)> {
        let id = self.under_way.get(&family.slot())?;
        let request = self.requests.get(id)?;
        (request.what == What::Question(family)).then_some((*id, request))
    }
}

/// Numerics that answer more than one command.
fn is_shared(numeric: u16) -> bool {
    matches!(numeric, 301 | 312 | 330 | 338 | 353 | 366 | 401 | 402 | 406)
}

/// Whether a reply names what a question was about.
fn is_about(line: &Line<'_>, question: &Request) -> bool {
    let mut parameters = line.params().skip(1).filter(|p| !p.is_empty());
    parameters.any(|p| {
        let mut keys = question.key.split(|b| *b == b',');
        p.eq_ignore_ascii_case(&question.key) || keys.any(|key| p.eq_ignore_ascii_case(key))
    })
}
