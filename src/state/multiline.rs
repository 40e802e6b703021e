//! draft/multiline: messages of several lines. A client's batch is gathered, within limits, and goes out as one
//! where the server takes such, else line by line. A server's batch is gathered too, and is one message from
//! then on; how clients get it is `compound`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::{Cap, CapSet, Line, LineBuilder, latin1};

use super::compound::{JOINED, Piece, packed};
use super::feature::{Answer, Asked, Feature, NOTHING, Offer, Received, Rule, Source};
use super::labels::ReplyId;
use super::record::client_tags;
use super::turn::{Action, ClientId, Ticks, Turn};
use super::{Network, ctcp, service};

pub(super) static MULTILINE: Feature = Feature {
    offers: &[Offer(Cap::Multiline, Source::Ours)],
    client: &[Rule::new(b"BATCH", 1, Network::ask_batch)],
    ..NOTHING
};

/// What clients are told of our limits.
pub(super) const LIMITS_TEXT: &str = "max-bytes=16384,max-lines=100";
/// What clients may say at a time.
const LIMITS: Limits = Limits {
    bytes: 16_384,
    lines: 100,
};
/// More of one message of the server's is not gathered: what follows is another one.
const MOST: Limits = Limits {
    bytes: 65_536,
    lines: 1000,
};
/// At most so many batches of the server are gathered at a time.
const MAX_OPEN: usize = 16;
/// So long may a client's batch be open.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How much one message may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    bytes: usize,
    lines: usize,
}

impl Limits {
    /// `max-bytes=4096,max-lines=24`
    fn parse(value: &[u8]) -> Option<Self> {
        let number = |key: &[u8]| {
            let mut items = value.split(|b| *b == b',');
            let text = items.find_map(|i| i.strip_prefix(key)?.strip_prefix(b"="))?;
            std::str::from_utf8(text).ok()?.parse().ok()
        };
        Some(Self {
            bytes: number(b"max-bytes")?,
            lines: number(b"max-lines").unwrap_or(usize::MAX),
        })
    }

    fn hold(self, pieces: &[Piece]) -> bool {
        pieces.len() <= self.lines && length(pieces) <= self.bytes
    }
}

/// Bytes of the whole text; each line feed in it counts.
fn length(pieces: &[Piece]) -> usize {
    let feeds = pieces.iter().skip(1).filter(|piece| !piece.joined).count();
    pieces.iter().map(|piece| piece.text.len()).sum::<usize>() + feeds
}

/// A client's batch that is open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Draft {
    #[serde(with = "latin1")]
    reference: Bytes,
    #[serde(with = "latin1")]
    target: Bytes,
    #[serde(with = "latin1")]
    tags: Bytes,
    /// The label of the whole.
    reply: Option<ReplyId>,
    /// PRIVMSG or NOTICE, once a line was seen.
    #[serde(with = "latin1")]
    command: Bytes,
    lines: Vec<(bool, Vec<u8>)>,
    since: Ticks,
    /// Something was wrong, and its client was told: the rest is left out.
    failed: bool,
}

impl Draft {
    fn pieces(&self) -> Vec<Piece> {
        let lines = self.lines.iter().cloned();
        lines.map(|(joined, text)| Piece { joined, text }).collect()
    }
}

/// A server's batch that is open.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Gathered {
    /// The line that opened it.
    #[serde(with = "latin1")]
    opening: Bytes,
    /// Source, command and target of its lines, once one was seen.
    #[serde(with = "latin1")]
    head: Bytes,
    lines: Vec<(bool, Vec<u8>)>,
    bytes: usize,
}

/// The server's batches that are open.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Gathering(BTreeMap<String, Gathered>);

impl Network {
    fn fail_batch(&self, asked: &Asked<'_>, words: &[&[u8]], text: &str, turn: &mut Turn) {
        let line = LineBuilder::from(self.settings.server.as_bytes(), b"FAIL").param(b"BATCH");
        let line = words.iter().fold(line, |line, word| line.param(word));
        turn.tell(asked.from, line.trailing(text.as_bytes()).build());
    }

    fn speaks_multiline(&self, client: ClientId) -> bool {
        let client = self.clients.get(&client);
        client.is_some_and(|c| c.caps.has(Cap::Multiline) && c.caps.has(Cap::Batch))
    }

    fn ask_batch(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let reference = asked.line.param(0).unwrap_or_default();
        match reference.split_first() {
            Some((b'+', reference)) => self.open_draft(asked, reference, turn),
            Some((b'-', reference)) => return self.close_draft(asked, reference, turn),
            _ => self.fail_batch(asked, &[b"INVALID_REFTAG", reference], "No reference", turn),
        }
        Answer::Now
    }

    fn open_draft(&mut self, asked: &Asked<'_>, reference: &[u8], turn: &mut Turn) {
        let kind = asked.line.param(1).unwrap_or_default();
        let valid = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-';
        let open = self.clients.get(&asked.from).map(|c| c.draft.is_some());
        if reference.is_empty() || reference.len() > 64 || !reference.iter().all(valid) {
            let words: &[&[u8]] = &[b"INVALID_REFTAG", reference];
            return self.fail_batch(asked, words, "Not a reference", turn);
        }
        if kind != b"draft/multiline" || !self.speaks_multiline(asked.from) {
            let words: &[&[u8]] = &[b"UNKNOWN_TYPE", reference, kind];
            return self.fail_batch(asked, words, "No such batches are taken", turn);
        }
        let target = asked.line.param(2).unwrap_or_default();
        if target.is_empty() || target.contains(&b',') || open != Some(false) {
            let text = "One message at a time, to one target";
            return self.fail_batch(asked, &[b"MULTILINE_INVALID"], text, turn);
        }
        self.replies.expect(asked.reply, 1);
        let draft = Draft {
            reference: Bytes::copy_from_slice(reference),
            target: Bytes::copy_from_slice(target),
            tags: client_tags(asked.line.tags()),
            reply: asked.reply,
            command: Bytes::new(),
            lines: Vec::new(),
            since: turn.now.ticks,
            failed: false,
        };
        if let Some(client) = self.clients.get_mut(&asked.from) {
            client.draft = Some(Box::new(draft));
        }
    }

    /// A line of a batch. `None`: it is none. What is gathered keeps its credit until the whole is dealt with.
    pub(super) fn draft_line(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Option<Answer> {
        if asked.line.raw_tags().is_empty() || !self.speaks_multiline(asked.from) {
            return None;
        }
        let reference = asked.line.tags().get(b"batch")?;
        let draft = self.clients.get_mut(&asked.from)?.draft.as_deref_mut();
        let Some(draft) = draft.filter(|draft| draft.reference[..] == reference[..]) else {
            let words: &[&[u8]] = &[b"INVALID_REFTAG", &reference];
            self.fail_batch(asked, words, "No such batch is open", turn);
            return Some(Answer::Now);
        };
        if draft.failed {
            return Some(Answer::Now);
        }
        let Err((words, text)) = gather(draft, &asked.line, turn.now.ticks) else {
            return Some(Answer::Later);
        };
        draft.failed = true;
        let kept = u32::try_from(draft.lines.len()).unwrap_or(u32::MAX);
        draft.lines = Vec::new();
        let reply = draft.reply.take();
        let start = turn.actions.len();
        let words: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
        self.fail_batch(asked, &words, text, turn);
        self.end_draft(reply, start, turn);
        turn.push(Action::Credit(asked.from, kept));
        Some(Answer::Now)
    }

    /// Nothing more comes under the label of a batch.
    fn end_draft(&mut self, reply: Option<ReplyId>, start: usize, turn: &mut Turn) {
        if let Some(reply) = reply {
            let last = self.replies.is_last_part(reply);
            self.label_lines(reply, start, last, turn);
            self.part_done(reply, turn);
        }
    }

    fn close_draft(&mut self, asked: &Asked<'_>, reference: &[u8], turn: &mut Turn) -> Answer {
        let client = self.clients.get_mut(&asked.from);
        let draft = client.and_then(|c| c.draft.take_if(|d| d.reference == reference));
        let Some(draft) = draft else {
            let words: &[&[u8]] = &[b"INVALID_REFTAG", reference];
            self.fail_batch(asked, words, "No such batch is open", turn);
            return Answer::Now;
        };
        if draft.failed {
            return Answer::Now;
        }
        let start = turn.actions.len();
        let mut owed = draft.lines.len();
        if draft.lines.iter().all(|(_, text)| text.is_empty()) {
            let text = "A message says something";
            self.fail_batch(asked, &[b"MULTILINE_INVALID"], text, turn);
        } else if let Some((said, lines)) = self.as_one(&draft) {
            self.queue_compound(asked.from, draft.reply, said, lines, turn);
            owed -= 1;
        } else {
            owed -= self.say_line_by_line(asked.from, &draft, turn);
        }
        self.end_draft(draft.reply, start, turn);
        turn.push(Action::Credit(
            asked.from,
            u32::try_from(owed).unwrap_or(u32::MAX),
        ));
        Answer::Now
    }

    /// Each line as if it were said by itself; how many of them bring their credit back themselves.
    fn say_line_by_line(&mut self, from: ClientId, draft: &Draft, turn: &mut Turn) -> usize {
        let mut later = 0;
        let mut tags = &draft.tags[..];
        for (_, text) in draft.lines.iter().filter(|(_, text)| !text.is_empty()) {
            let head = LineBuilder::new(&draft.command).param(&draft.target);
            let mut raw = Vec::new();
            if !tags.is_empty() {
                raw = [b"@", tags, b" "].concat();
            }
            raw.extend_from_slice(&head.trailing(text).build());
            tags = b"";
            let Ok(line) = Line::parse(&raw) else {
                continue;
            };
            let asked = Asked {
                from,
                line,
                reply: draft.reply,
            };
            if self.ask_message(&asked, turn) == Answer::Later {
                later += 1;
            }
        }
        later
    }

    /// The message as the server takes it, and as we keep it: what is said, and the lines that say it. `None`: it
    /// goes out line by line.
    fn as_one(&self, draft: &Draft) -> Option<(Bytes, Vec<Vec<u8>>)> {
        let link = self.link()?;
        let caps = CapSet::of(&[Cap::Batch, Cap::MessageTags, Cap::Multiline]);
        if !caps.difference(link.caps).is_empty() || service::is_meant(&draft.target) {
            return None;
        }
        let head = [&draft.command, &b" "[..], &draft.target].concat();
        let room = self.room_for(&head);
        let mut pieces = Vec::new();
        for piece in draft.pieces() {
            if ctcp::is_ctcp(&piece.text) {
                return None;
            }
            let joined = piece.joined;
            let mut parts = ctcp::split(&piece.text, room).into_iter();
            let text = parts.next().unwrap_or_default();
            pieces.push(Piece { joined, text });
            pieces.extend(parts.map(|text| Piece { joined: true, text }));
        }
        let limits = link.values.get(Cap::Multiline)?;
        if !Limits::parse(limits.as_bytes())?.hold(&pieces) {
            return None;
        }
        let reference = self.next.0.to_string().into_bytes();
        let batch = |sign: &[u8]| [b"BATCH ", sign, &reference].concat();
        let tags = |tags: &[u8]| match tags {
            b"" => Vec::new(),
            tags => [b"@", tags, b" "].concat(),
        };
        let opening = [&tags(&draft.tags), &batch(b"+")[..], b" draft/multiline "].concat();
        let mut lines = vec![[&opening[..], &draft.target].concat()];
        for piece in &pieces {
            let mut own = [b"batch=", &reference[..]].concat();
            if piece.joined {
                own.push(b';');
                own.extend_from_slice(JOINED);
            }
            lines.push([&tags(&own), &head[..], b" :", &piece.text].concat());
        }
        lines.push(batch(b"-"));
        let mut kept = draft.tags.to_vec();
        if !kept.is_empty() {
            kept.push(b';');
        }
        kept.extend([super::compound::LINES, b"=", &packed(&pieces)].concat());
        let said = [&tags(&kept), &head[..], b" :", &pieces.first()?.text].concat();
        Some((said.into(), lines))
    }

    /// A line of the server that belongs to a batch that is gathered, or opens or closes one. True: it is dealt
    /// with.
    pub(super) fn gather_line(&mut self, received: &Received<'_>, turn: &mut Turn) -> bool {
        let line = &received.line;
        if line.is(b"BATCH") {
            return self.gather_batch(received, turn);
        }
        let Some(link) = self.link_mut().filter(|link| !link.gathering.0.is_empty()) else {
            return false;
        };
        let Some(reference) = line.tags().get(b"batch") else {
            return false;
        };
        let said = line.is(b"PRIVMSG") || line.is(b"NOTICE");
        let open = link.gathering.0.get_mut(&latin1::to_string(&reference));
        let Some(gathered) = open.filter(|_| said) else {
            return false;
        };
        let text = line.param(1).unwrap_or_default();
        if gathered.head.is_empty() {
            let head = LineBuilder::from(line.source(), line.command());
            gathered.head = head.param(line.param(0).unwrap_or_default()).build();
        }
        gathered.bytes += text.len() + 1;
        let joined = line.tags().any(|(key, _)| key == JOINED);
        gathered.lines.push((joined, text.to_vec()));
        if gathered.lines.len() >= MOST.lines || gathered.bytes >= MOST.bytes {
            let full = Gathered {
                head: gathered.head.clone(),
                opening: gathered.opening.clone(),
                lines: std::mem::take(&mut gathered.lines),
                bytes: std::mem::take(&mut gathered.bytes),
            };
            self.show_gathered(full, turn);
        }
        true
    }

    fn gather_batch(&mut self, received: &Received<'_>, turn: &mut Turn) -> bool {
        let line = &received.line;
        let kind = line.param(1);
        let Some(link) = self.link_mut() else {
            return false;
        };
        let open = &mut link.gathering.0;
        match line.param(0).unwrap_or_default().split_first() {
            Some((b'+', name)) if kind == Some(b"draft/multiline") && open.len() < MAX_OPEN => {
                let gathered = Gathered {
                    opening: Bytes::copy_from_slice(received.raw),
                    head: Bytes::new(),
                    lines: Vec::new(),
                    bytes: 0,
                };
                open.insert(latin1::to_string(name), gathered);
                true
            }
            Some((b'-', name)) => match open.remove(&latin1::to_string(name)) {
                Some(gathered) => {
                    self.show_gathered(gathered, turn);
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    /// The message is complete, or as complete as it gets: what was said is shown like any other message.
    fn show_gathered(&mut self, gathered: Gathered, turn: &mut Turn) {
        let lines = gathered.lines.into_iter();
        let pieces: Vec<Piece> = lines.map(|(joined, text)| Piece { joined, text }).collect();
        let Some(first) = pieces.first() else { return };
        let mut raw = Vec::new();
        let opening = Line::parse(&gathered.opening).ok();
        if let Some(tags) = opening
            .map(|line| line.raw_tags())
            .filter(|t| !t.is_empty())
        {
            raw = [b"@", tags, b" "].concat();
        }
        raw.extend_from_slice(&[&gathered.head[..], b" :", &first.text].concat());
        let raw = Bytes::from(raw);
        let Ok(line) = Line::parse(&raw) else { return };
        let lines = (pieces.len() > 1).then(|| packed(&pieces));
        let received = Received {
            line,
            raw: &raw,
            lines: lines.as_deref(),
        };
        self.on_message(&received, turn);
    }

    /// The link is gone: batches that were open end with what was said of them.
    pub(super) fn end_gathering(&mut self, turn: &mut Turn) {
        let Some(link) = self.link_mut() else { return };
        let open = std::mem::take(&mut link.gathering).0;
        for gathered in open.into_values() {
            self.show_gathered(gathered, turn);
        }
    }
}

/// Takes a line into a draft. `Err`: what is wrong, in the words of FAIL and in plain ones.
fn gather(
    draft: &mut Draft,
    line: &Line<'_>,
    now: Ticks,
) -> Result<(), (Vec<Vec<u8>>, &'static str)> {
    let fail = |words: &[&[u8]], text| Err((words.iter().map(|w| w.to_vec()).collect(), text));
    let target = line.param(0).unwrap_or_default();
    let text = line.param(1).unwrap_or_default();
    let joined = line.tags().any(|(key, _)| key == JOINED);
    let said = line.is(b"PRIVMSG") || line.is(b"NOTICE");
    let same = draft.command.is_empty() || line.is(&draft.command);
    let mut tags = line.tags();
    if now.since(draft.since) > TIMEOUT {
        return fail(&[b"TIMEOUT", &draft.reference], "The batch took too long");
    }
    if !said || !same {
        let text = "All lines are PRIVMSG, or all are NOTICE";
        return fail(&[b"MULTILINE_INVALID"], text);
    }
    if target != draft.target {
        let words: &[&[u8]] = &[b"MULTILINE_INVALID_TARGET", &draft.target, target];
        return fail(words, "All lines go to the target of the batch");
    }
    if tags.any(|(key, _)| key != b"batch" && key != JOINED) {
        return fail(
            &[b"MULTILINE_INVALID"],
            "Tags belong to the batch, not to its lines",
        );
    }
    if joined && (text.is_empty() || draft.lines.is_empty()) {
        return fail(&[b"MULTILINE_INVALID"], "Nothing there to go on with");
    }
    draft.command = line.command().to_ascii_uppercase().into();
    draft.lines.push((joined, text.to_vec()));
    let pieces = draft.pieces();
    if LIMITS.hold(&pieces) {
        return Ok(());
    }
    // The line that was too much brings back its own credit.
    draft.lines.pop();
    if pieces.len() > LIMITS.lines {
        let limit = LIMITS.lines.to_string();
        return fail(
            &[b"MULTILINE_MAX_LINES", limit.as_bytes()],
            "Too many lines",
        );
    }
    let limit = LIMITS.bytes.to_string();
    fail(&[b"MULTILINE_MAX_BYTES", limit.as_bytes()], "Too much text")
}
