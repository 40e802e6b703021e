//! CHATHISTORY: what a client asks of the log, understood here and answered by its writer, page by page
//! (`downstream::answers`). A client that can ask is replayed nothing unasked.

use bytes::Bytes;

use crate::history::{Anchor, Only, Selection, Span};
use crate::wire::{Cap, CapSet, LineBuilder, Name, Timestamp};

use super::Network;
use super::feature::{Answer, Asked, Feature, NOTHING, Offer, Rule, Source};
use super::turn::{Action, Ask, ClientId, Item, Turn, Wish};

pub(super) static CHATHISTORY: Feature = Feature {
    offers: &[
        Offer(Cap::Chathistory, Source::OursWhenBound),
        Offer(Cap::EventPlayback, Source::OursWhenBound),
    ],
    client: &[Rule::new(b"CHATHISTORY", 0, Network::ask_chathistory)],
    ..NOTHING
};

/// Clients that can ask for what they want.
pub(super) const ON_REQUEST: CapSet = CapSet::of(&[Cap::Chathistory, Cap::Playback]);
/// At most so many lines are given at a time.
pub(super) const LIMIT: usize = 1000;
/// What 005 says of it.
const TOKENS: [&[u8]; 2] = [b"CHATHISTORY=1000", b"MSGREFTYPES=msgid,timestamp"];
/// No buffer has a longer name.
const MAX_TARGET: usize = 200;

/// Why a question is not understood: the code of a FAIL, and words for people.
struct Fault(&'static [u8], &'static [u8]);

const MISSING: Fault = Fault(b"INVALID_PARAMS", b"Not enough parameters");
const BAD_TIME: Fault = Fault(b"INVALID_PARAMS", b"That is not a time");
const BAD_LIMIT: Fault = Fault(b"INVALID_PARAMS", b"The limit is not a number above 0");
const BAD_REFERENCE: Fault = Fault(
    b"INVALID_MSGREFTYPE",
    b"Lines are referred to by msgid= or timestamp=",
);
const BAD_TARGET: Fault = Fault(b"INVALID_TARGET", b"No messages can be had of that target");
const UNKNOWN: Fault = Fault(b"INVALID_PARAMS", b"Unknown subcommand");

impl Network {
    /// Whether there is a network behind it: a lobby has no history.
    pub(super) fn is_bound(&self) -> bool {
        !self.settings.network.servers.is_empty()
    }

    /// Tells a client that can ask how much it may ask for.
    pub(super) fn tell_history_limits(&self, to: ClientId, turn: &mut Turn) {
        let caps = self.clients.get(&to).map(|client| client.caps);
        if self.is_bound() && caps.is_some_and(|caps| caps.has(Cap::Chathistory)) {
            for line in self.support_lines(&TOKENS.map(<[u8]>::to_vec)) {
                turn.tell(to, line);
            }
        }
    }

    fn ask_chathistory(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        match self.understood(asked) {
            Ok(ask) => {
                let item = Item::Ask {
                    ask,
                    label: None,
                    after: self.head(),
                };
                turn.push(Action::Put(asked.from, item));
            }
            Err(Fault(code, text)) => {
                let context = asked.line.params().take(2).filter(|p| !p.is_empty());
                let line = self.fail(b"CHATHISTORY", code).params(context);
                turn.tell(asked.from, line.trailing(text).build());
            }
        }
        Answer::Now
    }

    /// `FAIL command code`, to be gone on with.
    pub(super) fn fail(&self, command: &[u8], code: &[u8]) -> LineBuilder {
        LineBuilder::from(self.settings.server.as_bytes(), b"FAIL")
            .param(command)
            .param(code)
    }

    fn understood(&self, asked: &Asked<'_>) -> Result<Ask, Fault> {
        let line = &asked.line;
        let word = line.param(0).ok_or(MISSING)?.to_ascii_uppercase();
        let anchor = |n| anchor(line.param(n).ok_or(MISSING)?);
        let limit = |n| limit(line.param(n).ok_or(MISSING)?);
        let (span, limit) = match word.as_slice() {
            b"TARGETS" => {
                let (from, to) = (anchor(1)?, anchor(2)?);
                let limit = limit(3)?;
                let (Anchor::Time(from), Anchor::Time(to)) = (from, to) else {
                    return Err(BAD_REFERENCE);
                };
                if !self.is_bound() {
                    return Err(BAD_TARGET);
                }
                return Ok(Ask::Targets { from, to, limit });
            }
            b"LATEST" if line.param(2) == Some(b"*") => (Span::Latest(None), limit(3)?),
            b"LATEST" => (Span::Latest(Some(anchor(2)?)), limit(3)?),
            b"BEFORE" => (Span::Before(anchor(2)?), limit(3)?),
            b"AFTER" => (Span::After(anchor(2)?), limit(3)?),
            b"AROUND" => (Span::Around(anchor(2)?), limit(3)?),
            b"BETWEEN" => (Span::Between(anchor(2)?, anchor(3)?), limit(4)?),
            _ => return Err(UNKNOWN),
        };
        let target = line.param(1).ok_or(MISSING)?;
        if target.is_empty() || target.len() > MAX_TARGET || !self.is_bound() {
            return Err(BAD_TARGET);
        }
        let caps = self.clients.get(&asked.from).map(|client| client.caps);
        let events = caps.is_some_and(|caps| caps.has(Cap::EventPlayback));
        let kinds = if events { Only::All } else { Only::Messages };
        Ok(Ask::History(Box::new(self.wish(
            word.into(),
            target,
            span,
            limit,
            kinds,
        ))))
    }

    fn wish(&self, word: Bytes, target: &[u8], span: Span, limit: usize, kinds: Only) -> Wish {
        let target = self.canonical(target);
        let selection = Selection {
            target: target.folded().collect::<Vec<u8>>().into(),
            span,
            limit,
            kinds,
        };
        Wish {
            word,
            own: self.nick_within(&target),
            target,
            selection,
        }
    }

    /// A target as the network spells it, where it is known.
    pub(super) fn canonical(&self, target: &[u8]) -> Name {
        let name = self.name(target);
        let channel = self.link().and_then(|link| link.channels.get(&name));
        channel.map_or(name, |channel| channel.name.clone())
    }

    /// Our nick, for what was said to and by us under another: in a private talk clients tell by it whose window
    /// a line belongs into.
    pub(super) fn nick_within(&self, target: &Name) -> Option<Bytes> {
        let private = !self.isupport().is_channel(target.as_bytes());
        private.then(|| Bytes::copy_from_slice(self.nick()))
    }
}

/// `msgid=...` or `timestamp=...`
fn anchor(text: &[u8]) -> Result<Anchor, Fault> {
    if let Some(msgid) = text.strip_prefix(b"msgid=").filter(|id| !id.is_empty()) {
        return Ok(Anchor::Msgid(Bytes::copy_from_slice(msgid)));
    }
    let time = text.strip_prefix(b"timestamp=").ok_or(BAD_REFERENCE)?;
    Timestamp::parse(time).map(Anchor::Time).ok_or(BAD_TIME)
}

/// Too much is not refused: it is as much as there may be.
fn limit(text: &[u8]) -> Result<usize, Fault> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits);
    let number = text.ok_or(BAD_LIMIT)?.parse().unwrap_or(LIMIT).min(LIMIT);
    if number == 0 {
        Err(BAD_LIMIT)
    } else {
        Ok(number)
    }
}
