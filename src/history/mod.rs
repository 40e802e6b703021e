//! The log of each network on disk: append, read back, positions. This is the interface; no SQL, row or connection crosses
//! it. `queue` and `writer` store, `readers` and `query` answer, `schema` owns the file, `keeper` syncs it. What lines mean,
//! and who has seen them, is `state`'s.

mod ahead;
mod backlog;
mod copy;
mod derive;
mod deriving;
mod entry;
mod error;
mod export;
mod figures;
mod forget;
mod keeper;
mod migrate;
mod moves;
mod overlay;
mod past;
mod query;
mod queue;
mod readers;
mod retention;
mod rows;
mod schema;
mod search;
mod select;
mod words;
mod writer;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::config::Durability;
use crate::wire::{Name, Timestamp};
use ahead::Ahead;
pub use copy::Progress;
pub use entry::{Entry, EntryId, Fact, Ids, Kind, Lost, OTHER_LINES, Write};
pub use error::{Cause, Error};
pub use export::export;
pub use figures::Figures;
use keeper::{Bell, Keeper};
pub use past::{Added, Past};
use queue::{LogState, Order, Queue};
use readers::Desk;
pub use retention::Keep;
use schema::Use;
use search::Reach;
pub use search::Search;
pub use select::{Anchor, Selected, Selection, Span};
use writer::{Place, Writer};

/// A question that has no answer by then is given up.
const DEADLINE: Duration = Duration::from_secs(5);

/// One of them takes questions that may be slow: pages for clients wait for none.
const READERS: usize = 2;

/// The store of all networks.
#[derive(Clone)]
pub struct History {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Arc<Queue>,
    desk: Desk,
    bell: Option<Arc<Bell>>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    writer: Option<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
}

/// What the store remembers of a network's log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remembered {
    /// The highest id that was ever given out, as far as anything stored tells: ids start above it.
    pub head: EntryId,
    /// The newest time of an entry: times start above it.
    pub newest: Timestamp,
    /// How far clients are, marks and targets.
    pub positions: Vec<StoredPosition>,
    /// What counts as seen by all, by folded target.
    pub floors: Vec<(Bytes, EntryId)>,
    /// Facts: what about, whom about, what.
    pub facts: Vec<(Fact, Bytes, Bytes)>,
    /// Lines that are missing, in order.
    pub gaps: Vec<Lost>,
}

/// How far a client name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPosition {
    /// The client name; empty for clients that give none.
    pub client: String,
    /// The folded target; `None`: the mark.
    pub target: Option<Bytes>,
    /// The last entry the client is known to have.
    pub id: EntryId,
    /// When this was learnt.
    pub time: Timestamp,
}

/// Which lines count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// What people say.
    Messages,
    /// Joins, parts and the like too.
    All,
}

/// In which targets are there lines in `after..=through`, the first excluded?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Lines above this do not count.
    pub through: EntryId,
    /// Targets whose newest line is not above this are left out.
    pub after: EntryId,
    /// Which lines count.
    pub kinds: Only,
    /// Where do the newest so many lines of a target begin? 0: not asked.
    pub newest: u64,
    /// Targets, folded, with a number and kinds of their own.
    pub overrides: Vec<(Bytes, u64, Only)>,
}

/// A target with missed lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissedTarget {
    /// The target, as it was last spelled.
    pub target: Bytes,
    /// Its newest line.
    pub last: EntryId,
    /// The id before the first of its newest lines, as many as were asked for; 0 when it has no more than those, or when
    /// that was not asked.
    pub nth: EntryId,
    /// When the newest line happened.
    pub time: Timestamp,
}

/// How much a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// So many entries; a line filed under several targets counts for each.
    pub entries: u64,
    /// About so many bytes on disk, what is noted about the lines included.
    pub bytes: u64,
    /// When its first line happened.
    pub oldest: Option<Timestamp>,
    /// When its last one did.
    pub newest: Option<Timestamp>,
    /// So far lines are indexed. Later ones are few; searches look at each.
    pub noted: EntryId,
}

impl History {
    /// Opens the database, or makes it; `None`: one in memory, which keeps nothing.
    pub fn open(database: Option<&Path>, durability: Durability) -> Result<Self, Error> {
        let connection = match database {
            Some(path) => schema::open(path, durability)?,
            None => schema::open_in_memory()?,
        };
        let queue = Arc::<Queue>::default();
        // Dropped on an error below, it ends the threads that run already.
        let shared = Arc::new(Shared {
            desk: Desk::new(Arc::clone(&queue), database.is_some()),
            bell: database.map(|_| Arc::default()),
            queue,
            threads: Mutex::default(),
        });
        shared.start(connection, database, durability)?;
        Ok(Self { shared })
    }

    /// How it is doing.
    pub fn figures(&self) -> Figures {
        let queue = &self.shared.queue;
        queue.done.with(queue.waiting())
    }

    /// Makes the log of a network when it is new, and leaves room below its ids for lines of the past, which may be brought
    /// in later.
    pub async fn begin_log(&self, user: &str, network: &str) -> Result<(), Error> {
        let (user, network) = (user.to_owned(), network.to_owned());
        self.shared
            .desk
            .change(move |db| query::begin(db, &user, &network))
            .await
    }

    /// Opens the log of a network, which is made when it is new. Waits until all that was appended to it before is stored,
    /// as long as that may take.
    pub async fn open_log(&self, user: &str, network: &str) -> Result<(Log, Remembered), Error> {
        let (answer, answered) = oneshot::channel();
        let order = Order::Open {
            user: user.into(),
            network: network.into(),
            answer,
        };
        self.shared.queue.order(order).map_err(|_| Error::Closed)?;
        let (state, remembered) = answered.await.map_err(|_| Error::Closed)??;
        let log = Log {
            state,
            queue: Arc::clone(&self.shared.queue),
            desk: self.shared.desk.clone(),
        };
        Ok((log, remembered))
    }

    /// Stores the hash of a user's password.
    pub async fn set_password(&self, user: &str, hash: &str) -> Result<(), Error> {
        let (user, hash) = (user.to_owned(), hash.to_owned());
        self.shared
            .desk
            .change(move |db| query::set_password(db, &user, &hash))
            .await
    }

    /// Stores what is queued, syncs, copies the WAL into the database and ends the threads. Later writes are dropped, later
    /// questions refused.
    pub async fn close(&self) {
        let shared = Arc::clone(&self.shared);
        let ended = tokio::task::spawn_blocking(move || shared.end()).await;
        if ended.is_err() {
            tracing::error!("closing the history ended in a panic");
        }
    }
}

impl Shared {
    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(
        &self,
        connection: Connection,
        database: Option<&Path>,
        durability: Durability,
    ) -> Result<(), Error> {
        let mut threads = self.threads();
        let ahead = database.and_then(|path| Ahead::open(path, &connection).map(Arc::new));
        if let (Some(path), Some(bell)) = (database, &self.bell) {
            let keeper = schema::connect(path, Use::Keeping)?;
            let keeper = Keeper::new(Arc::clone(bell), keeper, durability);
            let keep = move || keeper.run();
            threads.keeper = Some(spawn("history-keeper", ahead.clone(), keep)?);
            for n in 0..READERS {
                let (connection, desk) = (schema::connect(path, Use::Reading)?, self.desk.clone());
                let help = ahead.clone();
                threads
                    .readers
                    .push(spawn("history-reader", ahead.clone(), move || {
                        ahead::with(help.as_ref(), || desk.serve(&connection, n + 1 == READERS));
                    })?);
            }
        }
        let place: Place = database.map(|path| (path.to_owned(), durability));
        let writer = Writer::new(
            Arc::clone(&self.queue),
            self.bell.clone(),
            place,
            connection,
        );
        threads.writer = Some(spawn("history-writer", ahead, move || writer.run())?);
        Ok(())
    }

    fn end(&self) {
        let mut threads = self.threads();
        self.queue.close();
        self.desk.close();
        join(threads.writer.take());
        threads
            .readers
            .drain(..)
            .for_each(|reader| join(Some(reader)));
        // Last: it can empty the WAL only when nobody uses it.
        if let Some(bell) = &self.bell {
            bell.close();
        }
        join(threads.keeper.take());
    }
}

/// Without [`History::close`] the threads end by themselves, a little later.
impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
        self.desk.close();
        if let Some(bell) = &self.bell {
            bell.close();
        }
    }
}

/// The work takes a connection with it; the file stays open until that is closed.
fn spawn(
    name: &str,
    file: Option<Arc<Ahead>>,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(move || {
        work();
        drop(file);
    })
}

fn join(thread: Option<JoinHandle<()>>) {
    if thread.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("a thread of the history ended in a panic");
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("History")
    }
}

/// The log of one network. Whoever opened it gives out its ids; they only grow.
#[derive(Clone)]
pub struct Log {
    state: Arc<LogState>,
    queue: Arc<Queue>,
    desk: Desk,
}

impl Log {
    /// Queues one write. Never waits: an entry that the budgets do not admit is counted as lost.
    pub fn append(&self, write: Write) {
        self.append_all([write]);
    }

    /// Queues writes that become part of one commit, but for entries, between which a commit may end.
    pub fn append_all(&self, writes: impl IntoIterator<Item = Write>) {
        self.queue.append(&self.state, writes);
    }

    /// Says how long lines are kept, from now on; until then, for ever. What is older, or too much for
    /// the user, is forgotten little by little.
    pub fn keep(&self, keep: Keep) {
        self.state.set_keep(keep);
        // A store that is closed forgets nothing.
        drop(self.queue.order(Order::Keep));
    }

    /// Every id up to this one is stored, or counted as lost. It only grows.
    pub fn settled(&self) -> watch::Receiver<EntryId> {
        self.state.settled.subscribe()
    }

    /// Wakes when lines turn out to be lost; [`take_lost`](Self::take_lost) says how many.
    pub fn losing(&self) -> watch::Receiver<Option<Lost>> {
        self.state.lost.subscribe()
    }

    /// The lines that were lost since this was asked last.
    pub fn take_lost(&self) -> Option<Lost> {
        let mut taken = None;
        self.state.lost.send_if_modified(|lost| {
            taken = lost.take();
            false
        });
        taken
    }

    /// The first `limit` lines of a target in a range, in order.
    pub async fn by_target(
        &self,
        target: &Name,
        range: Ids,
        kinds: Only,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let (network, target) = (self.state.network, target.clone());
        self.desk
            .ask(move |db| query::by_target(db, network, &target, range, kinds, limit))
            .await
    }

    /// The first `limit` lines in a range, of all targets, in order. A line filed under several targets comes once.
    pub async fn by_id(&self, range: Ids, limit: usize) -> Result<Vec<Entry>, Error> {
        let (network, mapping) = (self.state.network, self.state.mapping());
        self.desk
            .ask(move |db| query::by_id(db, network, range, limit, mapping))
            .await
    }

    /// The targets with missed lines, in no order.
    pub async fn missed(&self, ask: Missed) -> Result<Vec<MissedTarget>, Error> {
        let network = self.state.network;
        self.desk
            .ask(move |db| query::missed(db, network, &ask))
            .await
    }

    /// Which ids of a target are meant: [`by_target`](Self::by_target) with the same kinds reads the lines, page by page.
    pub async fn select(&self, selection: Selection) -> Result<Selected, Error> {
        let (network, selection) = (self.state.network, Arc::new(selection));
        let found = self
            .look(move |db, reach| select::select(db, network, &selection, reach))
            .await?;
        Ok(found.unwrap_or(Selected::UnknownMsgid))
    }

    /// The targets, as they were last spelled, whose newest line of these kinds happened between two times, both excluded;
    /// the first `limit` of them, counted and ordered from `from` on, which may be the later one.
    pub async fn targets(
        &self,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
        kinds: Only,
    ) -> Result<Vec<(Bytes, Timestamp)>, Error> {
        let network = self.state.network;
        self.desk
            .ask(move |db| select::targets(db, network, from, to, limit, kinds))
            .await
    }

    /// The newest messages that a search finds, in order.
    pub async fn search(&self, search: Search) -> Result<Vec<Entry>, Error> {
        let (network, mapping) = (self.state.network, self.state.mapping());
        let search = Arc::new(search);
        let question = move || {
            let search = Arc::clone(&search);
            move |db: &Connection| search::search(db, network, &search, mapping)
        };
        match self.desk.ask_slowly(question()).await {
            Err(error) if self.mend(&error).await? => self.desk.ask_slowly(question()).await,
            answer => answer,
        }
    }

    /// The line with that msgid; the first, if it is filed under several targets.
    pub async fn by_msgid(&self, msgid: Bytes) -> Result<Option<Entry>, Error> {
        let (network, mapping) = (self.state.network, self.state.mapping());
        let found = self
            .look(move |db, reach| search::by_msgid(db, network, &msgid, mapping, reach))
            .await?;
        Ok(found.flatten())
    }

    /// Asks something that is answered at once, unless little is indexed yet: then it must not keep pages waiting.
    async fn look<T: Send + 'static>(
        &self,
        question: impl Fn(&Connection, Reach) -> rusqlite::Result<Option<T>> + Clone + Send + 'static,
    ) -> Result<Option<T>, Error> {
        let near = question.clone();
        match self.desk.ask(move |db| near(db, Reach::Near)).await {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(error) if self.mend(&error).await? => {}
            Err(error) => return Err(error),
        }
        self.desk
            .ask_slowly(move |db| question(db, Reach::Far))
            .await
    }

    /// Whether an error comes from a damaged index, which is made again then.
    async fn mend(&self, error: &Error) -> Result<bool, Error> {
        match error {
            Error::Refused(cause) if derive::is_damage(&cause.0) => {
                self.desk.start_again().await.map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// How much the log holds.
    pub async fn size(&self) -> Result<Size, Error> {
        let network = self.state.network;
        self.desk.ask(move |db| derive::size(db, network)).await
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({}/{})", self.state.user, self.state.name)
    }
}

#[cfg(test)]
mod tests;
