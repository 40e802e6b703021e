//! What a client asked of the log: CHATHISTORY, SEARCH and playback, read and written a page at a time, so that
//! nothing is collected and a client that reads slowly waits for itself alone. What was asked is `state`'s to
//! understand.

use bytes::Bytes;
use tracing::warn;

use crate::clock;
use crate::config::TimeStyle;
use crate::history::{Anchor, EntryId, Error, Ids, Only, Search, Selected, Selection, Span};
use crate::state::forms::Dress;
use crate::state::{Plan, Play, Wish};
use crate::wire::{Cap, LineBuilder, Name, Timestamp};

use super::pages::{Replay, Style};
use super::writer::{Gone, Writer};
use super::{labelled, pages};

/// At most so many targets are played back at once.
const MAX_TARGETS: usize = 10_000;
/// Nothing of a target is earlier or later.
const ALL_TIMES: (i64, i64) = (-1, 1 << 52);

impl Writer<'_> {
    /// The lines of a target that were asked for: all in one batch, which is there also when it is empty.
    pub(super) async fn history(&mut self, wish: Wish, label: Option<Bytes>) -> Result<(), Gone> {
        let only_messages = wish.selection.kinds == Only::Messages;
        let ids = match self.log().select(wish.selection).await {
            Ok(Selected::Window(ids)) => ids,
            // Nothing is behind its own end.
            Ok(Selected::Nothing) => Ids {
                first: EntryId::MAX.next(),
                last: EntryId::MAX,
            },
            Ok(Selected::UnknownMsgid) => {
                let context = [&wish.word[..], wish.target.as_bytes()];
                let text = "No line with that msgid is kept there";
                self.fail("CHATHISTORY", &context, text, label.as_ref());
                return Ok(());
            }
            Err(error) => {
                let context = [&wish.word[..], wish.target.as_bytes()];
                self.unanswered("CHATHISTORY", &context, label.as_ref(), &error);
                return Ok(());
            }
        };
        let plan = Plan {
            target: wish.target,
            after: ids.first.before(),
            through: ids.last,
            newest: 0,
            only_messages,
            timestamps: TimeStyle::None,
            own: wish.own,
            not_by: None,
            renamed: None,
        };
        self.read(plan, Style::History(label)).await
    }

    /// Targets and when something was said there last.
    pub(super) async fn targets(
        &mut self,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
        label: Option<Bytes>,
    ) -> Result<(), Gone> {
        let found = self.log().targets(from, to, limit, Only::Messages).await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                self.unanswered("CHATHISTORY", &[b"TARGETS"], label.as_ref(), &error);
                return Ok(());
            }
        };
        let batch = self.open_batch("draft/chathistory-targets", label.as_ref());
        for (target, time) in found {
            let mut at = Vec::new();
            time.write(&mut at);
            let line = self.own_line(b"CHATHISTORY").param(b"TARGETS");
            self.write_in(line.param(&target).param(&at), batch.as_deref());
        }
        self.close_batch(batch.as_deref());
        self.write_if_full().await
    }

    /// Lines that say something.
    pub(super) async fn search(
        &mut self,
        search: Search,
        label: Option<Bytes>,
    ) -> Result<(), Gone> {
        let found = match self.log().search(search).await {
            Ok(found) => found,
            Err(error) => {
                self.unanswered("SEARCH", &[], label.as_ref(), &error);
                return Ok(());
            }
        };
        let batch = self.open_batch("soju.im/search", label.as_ref());
        for entry in found {
            let dress = Dress {
                batch: batch.as_deref().map(str::as_bytes),
                ..Dress::default()
            };
            pages::write_dressed(entry, self.view, dress, &mut self.buffer);
        }
        self.close_batch(batch.as_deref());
        self.write_if_full().await
    }

    /// What was said from some time on, target by target, up to where the log ended when it was asked for: what
    /// follows was given live.
    pub(super) async fn play(
        &mut self,
        play: &Play,
        label: Option<Bytes>,
        head: EntryId,
    ) -> Result<(), Gone> {
        let outer = label.map(|label| self.open_batch("labeled-response", Some(&label)));
        let outer = outer.flatten();
        for target in self.played(play).await {
            let Some(ids) = self.played_ids(play, &target, head).await else {
                continue;
            };
            let private = !pages::begins_with(&target, &play.channels);
            let plan = Plan {
                after: ids.first.before(),
                through: ids.last,
                newest: 0,
                only_messages: play.kinds == Only::Messages,
                timestamps: play.timestamps.clone(),
                own: private.then(|| play.nick.clone()),
                not_by: None,
                renamed: None,
                target,
            };
            let style = Style::Playback(outer.clone());
            self.read(plan, style).await?;
        }
        self.close_batch(outer.as_deref());
        self.write_if_full().await
    }

    /// When there is something to be played: a line for each target, as the module of that name has it.
    pub(super) async fn list(
        &mut self,
        play: &Play,
        label: Option<Bytes>,
        head: EntryId,
    ) -> Result<(), Gone> {
        let mut answer = Vec::new();
        for target in self.played(play).await {
            let Some(ids) = self.played_ids(play, &target, head).await else {
                continue;
            };
            let ends = [ids.first, ids.last];
            let mut line = target.as_bytes().to_vec();
            for id in ends {
                let range = Ids {
                    first: id,
                    last: id,
                };
                let page = self.log().by_target(&target, range, play.kinds, 1).await;
                let time = page.ok().and_then(|page| page.first().map(|e| e.time));
                let millis = time.unwrap_or_default().millis();
                let seconds = format!(" {}.{:03}", millis / 1000, millis % 1000);
                line.extend_from_slice(seconds.as_bytes());
            }
            let notice = LineBuilder::from(b"*playback!playback@znc.in", b"PRIVMSG");
            let notice = notice.param(&play.nick).trailing(&line);
            labelled::encode(notice, self.view, Dress::default(), &mut answer);
        }
        self.write_answer(&answer, label.as_ref());
        self.write_if_full().await
    }

    /// The targets that are meant.
    async fn played(&self, play: &Play) -> Vec<Name> {
        if !play.targets.is_empty() {
            return play.targets.clone();
        }
        let (from, to) = ALL_TIMES;
        let (from, to) = (Timestamp::from_millis(from), Timestamp::from_millis(to));
        match self.log().targets(from, to, MAX_TARGETS, play.kinds).await {
            Ok(found) => {
                let names = found.into_iter();
                names
                    .map(|(name, _)| Name::new(&name, play.mapping))
                    .collect()
            }
            Err(error) => {
                warn!(%error, "a client was played nothing back");
                Vec::new()
            }
        }
    }

    /// The first and the last line of a target that are played.
    async fn played_ids(&self, play: &Play, target: &Name, head: EntryId) -> Option<Ids> {
        let after = Anchor::Time(play.from);
        let first = self.end_of(play, target, Span::After(after)).await?;
        let last = match play.to {
            None => self.end_of(play, target, Span::Latest(None)).await?,
            Some(to) => {
                let before = Span::Before(Anchor::Time(to));
                self.end_of(play, target, before).await?
            }
        };
        let floor = play.floors.iter().find(|(name, _)| name == target);
        let floor = floor.map(|(_, id)| *id).unwrap_or_default();
        let ids = Ids {
            first: first.max(floor.next()),
            last: last.min(head),
        };
        (ids.first <= ids.last).then_some(ids)
    }

    /// The one line nearest to an anchor.
    async fn end_of(&self, play: &Play, target: &Name, span: Span) -> Option<EntryId> {
        let selection = Selection {
            target: target.folded().collect::<Vec<u8>>().into(),
            span,
            limit: 1,
            kinds: play.kinds,
        };
        match self.log().select(selection).await {
            Ok(Selected::Window(ids)) => Some(ids.first),
            Ok(Selected::Nothing | Selected::UnknownMsgid) => None,
            Err(error) => {
                warn!(%error, "a client was not played what it asked for");
                None
            }
        }
    }

    /// Writes the lines of a plan, page by page.
    async fn read(&mut self, plan: Plan, style: Style) -> Result<(), Gone> {
        self.batches += 1;
        let server = self.shared.server.as_bytes();
        let mut reading = Replay::new(plan, self.view, server, self.batches, style);
        while let Some(range) = reading.next() {
            let log = &self.running.log;
            let page = log
                .by_target(&reading.plan.target, range, reading.kinds(), pages::LINES)
                .await;
            match page {
                Ok(page) => _ = reading.write(page, clock().time, &mut self.buffer),
                Err(error) => return self.unreadable(&error),
            }
            self.write_if_full().await?;
        }
        Ok(())
    }

    pub(super) fn own_line(&self, command: &[u8]) -> LineBuilder {
        LineBuilder::from(self.shared.server.as_bytes(), command)
    }

    pub(super) fn write_labelled(&mut self, line: LineBuilder, label: Option<&Bytes>) {
        let dress = Dress {
            label: label.map(|label| &label[..]),
            ..Dress::default()
        };
        labelled::encode(line, self.view, dress, &mut self.buffer);
    }

    pub(super) fn write_in(&mut self, line: LineBuilder, batch: Option<&str>) {
        let dress = Dress {
            batch: batch.map(str::as_bytes),
            ..Dress::default()
        };
        labelled::encode(line, self.view, dress, &mut self.buffer);
    }

    /// `None`: the client has no batches, and gets the lines bare.
    pub(super) fn open_batch(&mut self, kind: &str, label: Option<&Bytes>) -> Option<String> {
        if !self.view.caps.has(Cap::Batch) {
            return None;
        }
        self.batches += 1;
        let batch = format!("a{}", self.batches);
        let line = self
            .own_line(b"BATCH")
            .param(format!("+{batch}").as_bytes());
        let dress = Dress {
            label: label.map(|label| &label[..]),
            ..Dress::default()
        };
        let line = line.param(kind.as_bytes());
        labelled::encode(line, self.view, dress, &mut self.buffer);
        Some(batch)
    }

    pub(super) fn close_batch(&mut self, batch: Option<&str>) {
        if let Some(batch) = batch {
            let line = self
                .own_line(b"BATCH")
                .param(format!("-{batch}").as_bytes());
            labelled::encode(line, self.view, Dress::default(), &mut self.buffer);
        }
    }

    /// The log cannot be read: the client is told, and may ask again.
    fn unanswered(
        &mut self,
        command: &str,
        context: &[&[u8]],
        label: Option<&Bytes>,
        error: &Error,
    ) {
        warn!(%error, "a client was not told what it asked of the log");
        self.fail(command, context, "The messages cannot be read now", label);
    }

    fn fail(&mut self, command: &str, context: &[&[u8]], text: &str, label: Option<&Bytes>) {
        let code: &[u8] = match command {
            "SEARCH" => b"INTERNAL_ERROR",
            _ => b"MESSAGE_ERROR",
        };
        let line = self.own_line(b"FAIL").param(command.as_bytes()).param(code);
        let line = line.params(context).trailing(text.as_bytes());
        let dress = Dress {
            label: label.map(|label| &label[..]),
            ..Dress::default()
        };
        labelled::encode(line, self.view, dress, &mut self.buffer);
    }
}
