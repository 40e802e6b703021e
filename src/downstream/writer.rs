//! The half that writes: works the client's queue, item by item, in order. What must be waited for (the
//! disk, the client's socket) is waited for here, at nobody else's cost.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tracing::warn;

use crate::clock;
use crate::history::{Entry, EntryId, Error, Ids, Log, Only, Selected, Selection, Span};
use crate::mailbox::{Running, ToNetwork};
use crate::net::WriteHalf;
use crate::outbox::{self, Outbox};
use crate::state::forms::{self, Dress};
use crate::state::service::mask;
use crate::state::{Ask, ClientId, Item, Plan, Shown, View};
use crate::wire::{LineBuilder, Name};

use super::ledger::Ledger;
use super::networks::{self, Following};
use super::pages::Style;
use super::{Caller, End, Shared, labelled, pages};

/// A client that takes no byte for so long is gone.
const STALLED: Duration = Duration::from_secs(60);
/// The store may take so long before a client goes on without what it cannot be shown.
const PATIENCE: Duration = Duration::from_secs(5);
/// So much is gathered before it is written.
const CHUNK: usize = 64 * 1024;

pub(super) struct Writer<'a> {
    half: WriteHalf,
    id: ClientId,
    pub(super) running: &'a Running,
    outbox: &'a Outbox,
    ledger: &'a Ledger,
    pub(super) shared: &'a Shared,
    pub(super) caller: Caller,
    pub(super) view: View,
    /// Bytes of the items at hand.
    pub(super) buffer: Vec<u8>,
    /// How many batches it has begun.
    pub(super) batches: u64,
    /// The last line that was replayed of each target.
    replayed: BTreeMap<Name, EntryId>,
    /// What it was told of its networks, if it follows them.
    pub(super) following: Option<Box<Following>>,
}

/// The client is gone, or goes.
pub(super) struct Gone(pub(super) End);

impl<'a> Writer<'a> {
    pub(super) fn new(
        half: WriteHalf,
        id: ClientId,
        running: &'a Running,
        outbox: &'a Outbox,
        ledger: &'a Ledger,
        shared: &'a Shared,
        caller: Caller,
    ) -> Self {
        Self {
            half,
            id,
            running,
            outbox,
            ledger,
            shared,
            caller,
            view: View::default(),
            buffer: Vec::new(),
            batches: 0,
            replayed: BTreeMap::new(),
            following: None,
        }
    }

    /// Bytes the client's side has not taken.
    pub(super) fn unsent(&self) -> Option<usize> {
        self.half.unsent()
    }

    /// Works until the client is gone or sent away.
    pub(super) async fn run(&mut self) -> End {
        loop {
            let items = tokio::select! {
                items = self.outbox.take() => items,
                () = proof_due(self.ledger) => Default::default(),
                () = networks::changed(&mut self.following) => {
                    self.tell_networks();
                    Default::default()
                }
            };
            for item in items {
                if let Err(Gone(end)) = self.work(item).await {
                    return end;
                }
            }
            if let Err(Gone(end)) = self.write_out().await {
                return end;
            }
        }
    }

    async fn work(&mut self, item: Item) -> Result<(), Gone> {
        match item {
            Item::Bytes { run, through } => {
                if self.buffer.is_empty() {
                    self.buffer = run;
                } else {
                    self.buffer.extend_from_slice(&run);
                }
                if let Some(through) = through {
                    self.ledger.gather(through);
                }
                self.write_if_full().await
            }
            Item::View(view) => {
                self.view = view;
                Ok(())
            }
            Item::Ping => {
                self.write_own(LineBuilder::new(b"PING").trailing(b"carom"));
                Ok(())
            }
            Item::Stored(ids) => self.stored(ids, None).await,
            Item::StoredWithin(ids, batch) => self.stored(ids, Some(&batch)).await,
            Item::More => {
                self.write_out().await?;
                let more = self.running.mailbox.send(ToNetwork::More(self.id));
                more.await.map_err(|_| Gone(End::Broken))
            }
            Item::Ask { ask, label, after } => {
                let is_stored = matches!(ask, Ask::Command(_) | Ask::Networks(_) | Ask::Account(_))
                    || self.settled(after).await?;
                // What was asked for is answered with what there is.
                if !is_stored && matches!(ask, Ask::Replay(_)) {
                    return Ok(());
                }
                self.answer(ask, label, after).await
            }
            Item::Close(reason) => {
                self.shared.counters.dismissed.add(match reason.as_str() {
                    outbox::READS_TOO_SLOWLY => "reads_too_slowly",
                    outbox::ASKS_TOO_FAST => "asks_too_fast",
                    _ => "other",
                });
                let why = format!("Closing link: {reason}");
                self.write_own(LineBuilder::new(b"ERROR").trailing(why.as_bytes()));
                self.write(None).await?;
                _ = timeout(STALLED, self.half.shutdown()).await;
                Err(Gone(End::Orderly))
            }
        }
    }

    /// A question, in its place in the queue. `after`: where the log ended when it was asked.
    async fn answer(&mut self, ask: Ask, label: Option<Bytes>, after: EntryId) -> Result<(), Gone> {
        match ask {
            Ask::Replay(plan) => self.replay(plan).await,
            Ask::History(wish) => self.history(*wish, label).await,
            Ask::Targets { from, to, limit } => self.targets(from, to, limit, label).await,
            Ask::Search(search) => self.search(*search, label).await,
            Ask::Play(play) => self.play(&play, label, after).await,
            Ask::List(play) => self.list(&play, label, after).await,
            // Boxed, as it is rare.
            Ask::Networks(ask) => Box::pin(self.networks(*ask, label.as_ref())).await,
            Ask::Command(words) => {
                // Boxed, as it is rare.
                Box::pin(self.command(words.reveal(), label.as_ref())).await
            }
            Ask::Account(account) => Box::pin(self.keep_account(*account)).await,
        }
    }

    pub(super) fn log(&self) -> &Log {
        &self.running.log
    }

    /// The lines of an answer that was made here.
    pub(super) fn write_answer(&mut self, answer: &[u8], label: Option<&Bytes>) {
        let Some(label) = label else {
            return self.buffer.extend_from_slice(answer);
        };
        self.batches += 1;
        let (batch, server) = (format!("answer{}", self.batches), &self.shared.server);
        labelled::write(answer, label, &batch, server, self.view, &mut self.buffer);
    }

    pub(super) async fn write_if_full(&mut self) -> Result<(), Gone> {
        if self.buffer.len() >= CHUNK {
            self.write_out().await
        } else {
            Ok(())
        }
    }

    fn write_own(&mut self, line: LineBuilder) {
        labelled::write_own(&line.build(), self.view, clock().time, &mut self.buffer);
    }

    /// Writes what is gathered, and behind it the PING that asks for proof when it is time for one.
    async fn write_out(&mut self) -> Result<(), Gone> {
        let token = self.ledger.ask(clock().ticks);
        self.write(token).await
    }

    async fn write(&mut self, token: Option<String>) -> Result<(), Gone> {
        if let Some(token) = token {
            self.write_own(LineBuilder::new(b"PING").trailing(token.as_bytes()));
        }
        if self.buffer.is_empty() {
            self.ledger.wrote();
            return Ok(());
        }
        let mut rest = &self.buffer[..];
        while !rest.is_empty() {
            let written = timeout(STALLED, self.half.write(rest)).await;
            match written {
                Ok(Ok(taken)) if taken > 0 => rest = &rest[taken..],
                Ok(_) => return Err(Gone(End::Broken)),
                Err(_) => {
                    self.shared.counters.dismissed.add("stalled");
                    return Err(Gone(End::Broken));
                }
            }
        }
        self.shared.counters.to_clients.add_text(&self.buffer);
        // The next item may bring a buffer of its own: none is kept.
        self.buffer = Vec::new();
        match timeout(STALLED, self.half.flush()).await {
            Ok(Ok(())) => {
                self.ledger.wrote();
                Ok(())
            }
            _ => Err(Gone(End::Broken)),
        }
    }

    /// Waits until everything up to an entry is in the log. False: that takes too long, and the client goes on without.
    async fn settled(&mut self, id: EntryId) -> Result<bool, Gone> {
        let mut settled = self.running.log.settled();
        if *settled.borrow() >= id {
            return Ok(true);
        }
        self.write_out().await?;
        // One that has lost patience before does not wait again for each of its targets.
        let patience = if self.ledger.is_closed() {
            Duration::ZERO
        } else {
            PATIENCE
        };
        match timeout(patience, settled.wait_for(|s| *s >= id)).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(_)) => Err(Gone(End::Broken)),
            Err(_) => {
                self.leave_out(&"they are not stored yet");
                Ok(false)
            }
        }
    }

    /// Lines that were left in the log because the client had enough to read: in the form of live lines.
    async fn stored(&mut self, ids: Ids, batch: Option<&Bytes>) -> Result<(), Gone> {
        let dress = Dress {
            batch: batch.map(|batch| &batch[..]),
            ..Dress::default()
        };
        if !self.settled(ids.last).await? {
            return Ok(());
        }
        let mut first = ids.first;
        while first <= ids.last {
            let range = Ids {
                first,
                last: ids.last,
            };
            let page = match self.running.log.by_id(range, pages::LINES).await {
                Ok(page) => page,
                Err(error) => return self.unreadable(&error),
            };
            let through = match page.last() {
                Some(entry) if page.len() == pages::LINES => entry.id,
                _ => ids.last,
            };
            page.into_iter()
                .for_each(|entry| pages::write_dressed(entry, self.view, dress, &mut self.buffer));
            self.ledger.gather(through);
            self.write_if_full().await?;
            first = through.next();
        }
        Ok(())
    }

    /// A target's lines, page by page.
    pub(super) async fn replay(&mut self, mut plan: Plan) -> Result<(), Gone> {
        if let Err(error) = self.limit(&mut plan).await {
            return self.unreadable(&error);
        }
        self.batches += 1;
        let server = self.shared.server.as_bytes();
        let mut replay = pages::Replay::new(plan, self.view, server, self.batches, Style::Missed);
        while let Some(range) = replay.next() {
            let (page, more) = match self.replayed_page(&replay, range).await {
                Ok(read) => read,
                Err(error) => return self.unreadable(&error),
            };
            if let Some(last) = page.last() {
                self.replayed.insert(replay.plan.target.clone(), last.id);
            }
            let proves = replay.write_page(page, more, clock().time, &mut self.buffer);
            self.ledger.gather_page(proves);
            self.write_if_full().await?;
        }
        Ok(())
    }

    /// A page of lines, and the last line that was looked at if more may follow. A target that was renamed a moment
    /// ago is read under both names: the log may not know of it yet.
    async fn replayed_page(
        &self,
        replay: &pages::Replay<'_>,
        range: Ids,
    ) -> Result<(Vec<Entry>, Option<EntryId>), Error> {
        let (log, kinds) = (&self.running.log, replay.kinds());
        let read = |target| log.by_target(target, range, kinds, pages::LINES);
        let ends = |page: &[Entry]| {
            page.last()
                .filter(|_| page.len() == pages::LINES)
                .map(|e| e.id)
        };
        let new = &replay.plan.target;
        let Some(renamed) = &replay.plan.renamed else {
            let page = read(new).await?;
            let more = ends(&page);
            return Ok((page, more));
        };
        // The old name first: what moves in between is found twice, not never.
        let mut page = read(&renamed.old).await?;
        let rest = read(new).await?;
        let more = ends(&page).into_iter().chain(ends(&rest)).min();
        page.extend(rest);
        page.sort_by_key(|entry| entry.id);
        page.dedup_by_key(|entry| entry.id);
        let given = self.replayed.get(&renamed.old).copied();
        page.retain(|entry| {
            let is_read = more.is_none_or(|last| entry.id <= last);
            is_read && renamed.is_due(entry.id, &entry.line, new, given.unwrap_or_default())
        });
        Ok((page, more))
    }

    /// Of more lines than are wanted the older ones are left out.
    async fn limit(&self, plan: &mut Plan) -> Result<(), Error> {
        if plan.newest == 0 {
            return Ok(());
        }
        let selection = Selection {
            target: plan.target.folded().collect::<Vec<u8>>().into(),
            span: Span::Latest(None),
            limit: usize::try_from(plan.newest).unwrap_or(usize::MAX),
            kinds: match plan.only_messages {
                true => Only::Messages,
                false => Only::All,
            },
        };
        if let Selected::Window(ids) = self.log().select(selection).await? {
            plan.after = plan.after.max(ids.first.before());
        }
        Ok(())
    }

    /// The log cannot be read.
    pub(super) fn unreadable(&mut self, error: &Error) -> Result<(), Gone> {
        match error {
            Error::Closed => Err(Gone(End::Broken)),
            error => {
                self.leave_out(error);
                Ok(())
            }
        }
    }

    /// The client goes on without lines that it cannot be shown now. Whatever it proves from here on does not count, as
    /// that would cover them too: at its next attach it gets them, and what came after them.
    fn leave_out(&mut self, why: &dyn std::fmt::Display) {
        if !self.ledger.close() {
            return;
        }
        let client = self.id.0;
        warn!(%why, client, "a client is not shown stored lines");
        let source = mask(&self.shared.server);
        let told =
            "some lines cannot be shown now; you get them, and what follows, when you attach again";
        let line = LineBuilder::from(source.as_bytes(), b"NOTICE")
            .param(b"*")
            .trailing(told.as_bytes());
        let shown = Shown {
            time: clock().time,
            msgid: None,
            tags: Bytes::new(),
            line: line.build(),
        };
        forms::encode(&shown, self.view, Dress::default(), &mut self.buffer);
    }
}

/// Returns when a PING is to be sent.
async fn proof_due(ledger: &Ledger) {
    loop {
        let proved = ledger.proved.notified();
        match ledger.due() {
            Some(due) => return tokio::time::sleep(due.since(clock().ticks)).await,
            None => proved.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;
    use tokio::sync::{mpsc, watch};
    use tokio::time::Instant;

    use super::*;
    use crate::auth::Auth;
    use crate::config::{Durability, Limits};
    use crate::history::History;
    use crate::net::Stream;

    async fn running() -> (Running, mpsc::Receiver<ToNetwork>) {
        let history = History::open(None, Durability::Process).unwrap();
        let (log, _) = history.open_log("apw", "net").await.unwrap();
        let (mailbox, inbox) = mpsc::channel(1);
        (Running { mailbox, log }, inbox)
    }

    fn shared() -> Shared {
        let limits = Limits::default();
        Shared {
            server: "bnc.test".into(),
            admin_contact: String::new(),
            directory: watch::Sender::default().subscribe(),
            auth: Auth::start(&limits).unwrap(),
            limits,
            acceptor: None,
            origins: Default::default(),
            complaints: Arc::default(),
            lobbies: Arc::new(|_| Box::pin(std::future::ready(None))),
            bouncer: crate::mailbox::BouncerHandle::new().0,
            present: watch::Sender::new(0),
            counters: Arc::default(),
        }
    }

    #[tokio::test]
    async fn who_takes_no_byte_for_a_minute_is_gone_and_proves_nothing() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (_, half) = Stream::Unix(ours).split();
        let ((running, _inbox), shared) = (running().await, shared());
        let (outbox, ledger) = (Outbox::new(1024, Arc::default()), Ledger::default());
        let caller = Caller::default();
        let mut writer = Writer::new(
            half,
            ClientId(1),
            &running,
            &outbox,
            &ledger,
            &shared,
            caller,
        );
        // From here on time passes only while everybody waits.
        tokio::time::pause();
        let began = Instant::now();
        let megabytes = vec![b'x'; 4 * 1024 * 1024];
        outbox.push(Item::Bytes {
            run: megabytes,
            through: Some(EntryId(7)),
        });
        // Half way something is taken: only a whole minute without a byte counts.
        let slow = async {
            tokio::time::sleep(STALLED / 2).await;
            let mut taken = vec![0; 1024 * 1024];
            theirs.read_exact(&mut taken).await.unwrap();
            std::future::pending::<()>().await;
        };
        let end = tokio::select! {
            end = writer.run() => end,
            () = slow => unreachable!("it waits for ever"),
        };
        assert_eq!(end, End::Broken);
        assert!(
            began.elapsed() >= STALLED / 2 + STALLED,
            "{:?}",
            began.elapsed()
        );
        assert!(ledger.everything().is_empty());
    }
}
