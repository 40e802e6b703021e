//! What waits for the writer: the backlog of each log, served in turns, and the orders of those who wait for an answer.
//! Appending takes a short lock and nothing else. What a backlog admits is `backlog`'s, what is done with it `writer`'s.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use super::backlog::{Backlog, Item};
use super::deriving::Wish;
use super::entry::{EntryId, Lost, Write};
use super::figures::Done;
use super::{Error, Keep, Remembered};
use crate::wire::CaseMapping;

/// One commit stores about this many rows, taken in turns of [`SLICE`] from each log.
pub(super) const BATCH: usize = 1000;
const SLICE: usize = 64;

/// What all handles of a log and the writer know about it.
#[derive(Debug)]
pub(super) struct LogState {
    /// Its place in the queue.
    pub(super) slot: usize,
    /// Its number in the store.
    pub(super) network: i64,
    /// Whose it is, for messages.
    pub(super) user: String,
    /// Its name, for messages.
    pub(super) name: String,
    /// Every entry up to here is stored, or counted as lost.
    pub(super) settled: watch::Sender<EntryId>,
    /// Lines that were not stored, until somebody takes note of them.
    pub(super) lost: watch::Sender<Option<Lost>>,
    mapping: AtomicU8,
    keep: Mutex<Keep>,
}

impl LogState {
    pub(super) fn new(slot: usize, network: i64, user: &str, name: &str) -> Self {
        Self {
            slot,
            network,
            user: user.into(),
            name: name.into(),
            settled: watch::Sender::new(EntryId(0)),
            lost: watch::Sender::new(None),
            mapping: AtomicU8::new(number_of(CaseMapping::default())),
            keep: Mutex::default(),
        }
    }

    /// Raises `settled`.
    pub(super) fn settle(&self, id: EntryId) {
        self.settled.send_if_modified(|settled| {
            let grows = id > *settled;
            *settled = id.max(*settled);
            grows
        });
    }

    /// How long its lines are kept.
    pub(super) fn keep(&self) -> Keep {
        self.keep
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_keep(&self, keep: Keep) {
        *self.keep.lock().unwrap_or_else(PoisonError::into_inner) = keep;
    }

    /// The case mapping of the newest entry: under it names are given back.
    pub(super) fn mapping(&self) -> CaseMapping {
        let number = self.mapping.load(Ordering::Relaxed);
        MAPPINGS
            .into_iter()
            .find(|&m| number_of(m) == number)
            .unwrap_or_default()
    }
}

const MAPPINGS: [CaseMapping; 3] = [
    CaseMapping::Ascii,
    CaseMapping::Rfc1459,
    CaseMapping::StrictRfc1459,
];

const fn number_of(mapping: CaseMapping) -> u8 {
    mapping as u8
}

/// Things done by the writer for somebody who waits.
pub(super) enum Order {
    /// Finds or makes a log and tells what is remembered of it.
    Open {
        user: String,
        network: String,
        answer: oneshot::Sender<Result<Opened, Error>>,
    },
    /// Drops what is noted about lines, because a reader found it damaged.
    StartAgain(oneshot::Sender<()>),
    /// What a log keeps is another matter now.
    Keep,
    /// Anything else.
    Work(Work),
}

/// What [`Order::Open`] yields.
pub(super) type Opened = (Arc<LogState>, Remembered);

/// Something to do with a connection.
pub(super) type Work = Box<dyn FnOnce(&Connection) + Send>;

/// What the writer is to do next.
pub(super) enum Task {
    /// Store what the batch holds.
    Store,
    /// Serve somebody.
    Serve(Order),
    /// Note lines that are stored.
    Derive,
    /// Forget something of what is not kept.
    Sweep,
    /// Nothing is left, and nothing will come.
    Stop,
}

/// Items to be stored, each with the slot of its log.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) items: Vec<(usize, Item)>,
    /// Whether it must become one commit, whatever its size.
    pub(super) whole: bool,
}

/// What waits for the writer.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    /// What the writer did, for whoever asks.
    pub(super) done: Done,
}

#[derive(Default)]
struct State {
    logs: Vec<Backlog>,
    /// Logs with something to store, in the order in which they are served.
    turn: VecDeque<usize>,
    orders: VecDeque<Order>,
    /// Of all entries that wait or are being stored.
    bytes: usize,
    asleep: bool,
    served_last: bool,
    derived_last: bool,
    closing: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many rows wait, and the bytes of lines that wait or are being stored.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        let rows = state.logs.iter().map(Backlog::waiting).sum();
        (rows, state.bytes)
    }

    /// Makes room for a log in the next slot.
    pub(super) fn add_log(&self) {
        self.lock().logs.push(Backlog::default());
    }

    /// Queues writes of one log; what lies together stays together.
    pub(super) fn append(&self, log: &LogState, writes: impl IntoIterator<Item = Write>) {
        let mut state = self.lock();
        if state.closing {
            return;
        }
        for write in writes {
            if let Write::Entry(entry) = &write {
                log.mapping
                    .store(number_of(entry.target.mapping()), Ordering::Relaxed);
            }
            state.push(log.slot, write);
        }
        self.wake(state);
    }

    /// Queues an order. It comes back when the writer has ended.
    pub(super) fn order(&self, order: Order) -> Result<(), Order> {
        let mut state = self.lock();
        if state.closing {
            return Err(order);
        }
        state.orders.push_back(order);
        self.wake(state);
        Ok(())
    }

    /// Nothing more is taken. The writer ends when it has done what is queued.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        state.asleep = true;
        self.wake(state);
    }

    /// Wakes the writer if it sleeps: when it does not, it will look before it does.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if mem::take(&mut state.asleep) {
            drop(state);
            self.wake.notify_all();
        }
    }

    /// Waits for something to do; `due`: when it is time to sweep, whatever else there is.
    pub(super) fn next(&self, batch: &mut Batch, due: Option<Instant>, wish: Wish) -> Task {
        let mut state = self.lock();
        loop {
            let rest = due.map(|due| due.saturating_duration_since(Instant::now()));
            if rest == Some(Duration::ZERO) && !state.closing {
                return Task::Sweep;
            }
            if let Some(task) = state.next(batch, wish) {
                return task;
            }
            state.asleep = true;
            // A year without anything to do is as good as none.
            let rest = rest.unwrap_or(Duration::from_secs(365 * 86_400));
            (state, _) = self
                .wake
                .wait_timeout(state, rest)
                .unwrap_or_else(PoisonError::into_inner);
            state.asleep = false;
        }
    }

    /// Takes what waits of one log.
    pub(super) fn take_log(&self, slot: usize, batch: &mut Batch) {
        let mut state = self.lock();
        if let Some(backlog) = state.logs.get_mut(slot) {
            backlog.give(slot, usize::MAX, batch);
        }
    }

    /// Gives budget back: these have left memory.
    pub(super) fn release(&self, items: &[(usize, Item)]) {
        let mut state = self.lock();
        for (slot, item) in items {
            if item.is_entry()
                && let Some(backlog) = state.logs.get_mut(*slot)
            {
                let weight = backlog.release(item);
                state.bytes = state.bytes.saturating_sub(weight);
            }
        }
    }

    /// Waits before a failed commit is tried again; whether the queue is being closed.
    pub(super) fn pause(&self, span: Duration) -> bool {
        let state = self.lock();
        let (state, _) = self
            .wake
            .wait_timeout_while(state, span, |state| !state.closing)
            .unwrap_or_else(PoisonError::into_inner);
        state.closing
    }
}

impl State {
    fn next(&mut self, batch: &mut Batch, wish: Wish) -> Option<Task> {
        if wish == Wish::Soon && !self.closing && !mem::replace(&mut self.derived_last, true) {
            return Some(Task::Derive);
        }
        self.derived_last = false;
        let stores = !self.turn.is_empty();
        if !(stores && self.served_last)
            && let Some(order) = self.orders.pop_front()
        {
            self.served_last = true;
            return Some(Task::Serve(order));
        }
        self.served_last = false;
        if stores {
            self.fill(batch);
            return Some(Task::Store);
        }
        match wish {
            _ if self.closing => Some(Task::Stop),
            Wish::Nothing => None,
            Wish::Idle | Wish::Soon => Some(Task::Derive),
        }
    }

    fn fill(&mut self, batch: &mut Batch) {
        while batch.items.len() < BATCH && !batch.whole {
            let Some(slot) = self.turn.pop_front() else {
                return;
            };
            let Some(backlog) = self.logs.get_mut(slot) else {
                continue;
            };
            if backlog.whole && !batch.items.is_empty() {
                self.turn.push_front(slot);
                return;
            }
            backlog.give(slot, SLICE, batch);
            if backlog.is_empty() {
                backlog.in_turn = false;
            } else {
                self.turn.push_back(slot);
            }
        }
    }

    fn push(&mut self, slot: usize, write: Write) {
        let Some(backlog) = self.logs.get_mut(slot) else {
            return;
        };
        self.bytes += backlog.push(write, self.bytes);
        if !backlog.in_turn {
            backlog.in_turn = true;
            self.turn.push_back(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::history::{Entry, Kind};
    use crate::wire::{Name, Timestamp};

    fn entry(id: u64, size: usize) -> Write {
        Write::Entry(Entry {
            id: EntryId(id),
            target: Name::new(b"#a", CaseMapping::Ascii),
            time: Timestamp::from_millis(i64::try_from(id).unwrap()),
            msgid: None,
            kind: Kind::Message,
            again: false,
            tags: Bytes::new(),
            line: Bytes::from(vec![b'x'; size]),
        })
    }

    fn mark(client: &str, id: u64) -> Write {
        let id = Some(EntryId(id));
        Write::Position {
            client: client.into(),
            target: None,
            id,
            time: Timestamp::default(),
        }
    }

    struct Fixture {
        queue: Queue,
        logs: Vec<LogState>,
    }

    impl Fixture {
        fn new(logs: usize) -> Self {
            let queue = Queue::default();
            (0..logs).for_each(|_| queue.add_log());
            Self {
                queue,
                logs: (0..logs)
                    .map(|slot| LogState::new(slot, 1, "u", "n"))
                    .collect(),
            }
        }

        fn append(&self, slot: usize, writes: impl IntoIterator<Item = Write>) {
            self.queue.append(&self.logs[slot], writes);
        }

        /// One batch, each item as `log:text`.
        fn batch(&self) -> Vec<String> {
            let mut batch = Batch::default();
            if self.queue.lock().turn.is_empty() {
                return Vec::new();
            }
            assert!(matches!(
                self.queue.next(&mut batch, None, Wish::Nothing),
                Task::Store
            ));
            self.queue.release(&batch.items);
            batch
                .items
                .iter()
                .map(|(slot, item)| format!("{slot}:{}", text(item)))
                .collect()
        }

        fn all(&self) -> Vec<String> {
            std::iter::from_fn(|| Some(self.batch()).filter(|batch| !batch.is_empty()))
                .flatten()
                .collect()
        }
    }

    fn text(item: &Item) -> String {
        match item {
            Item::Write(Write::Entry(entry)) => entry.id.0.to_string(),
            Item::Write(Write::Position { client, id, .. }) => {
                format!("{client}={}", id.unwrap().0)
            }
            Item::Write(other) => format!("{other:?}"),
            Item::Gap(gap) => format!("gap {}-{} {}", gap.first.0, gap.last.0, gap.count),
        }
    }

    #[test]
    fn what_is_refused_is_a_gap_in_its_place() {
        let fixture = Fixture::new(1);
        fixture.append(0, (1..=5000).map(|id| entry(id, 10)));
        fixture.append(0, [mark("a", 5000)]);
        // Taken out, but not stored yet: it still counts.
        let mut batch = Batch::default();
        fixture.queue.next(&mut batch, None, Wish::Nothing);
        fixture.append(0, [entry(5001, 10)]);
        fixture.queue.release(&batch.items);
        // Above half, a queue that was full stays closed.
        fixture.append(0, [entry(5002, 10)]);
        fixture.batch();
        fixture.batch();
        fixture.append(0, [entry(5003, 10)]);
        let rest = fixture.all();
        let last = &rest[rest.len() - 4..];
        assert_eq!(
            last,
            ["0:4096", "0:a=5000", "0:gap 4097-5002 906", "0:5003"]
        );
    }

    #[test]
    fn bytes_are_a_budget_of_a_log_and_of_all() {
        let fixture = Fixture::new(10);
        fixture.append(0, (1..=9).map(|id| entry(id, 1 << 20)));
        assert_eq!(
            fixture.all(),
            [
                "0:1",
                "0:2",
                "0:3",
                "0:4",
                "0:5",
                "0:6",
                "0:7",
                "0:gap 8-9 2"
            ]
        );
        for slot in 0..10 {
            fixture.append(slot, (1..=7).map(|id| entry(id, 1 << 20)));
        }
        let lost = fixture
            .all()
            .iter()
            .filter(|item| item.contains("gap 1-7 7"))
            .count();
        assert_eq!(lost, 1, "nine logs of seven entries fit into 64 MiB");
        fixture.append(9, [entry(9, 10)]);
        assert_eq!(fixture.all(), ["9:9"]);
    }

    #[test]
    fn logs_take_turns() {
        let fixture = Fixture::new(3);
        fixture.append(0, (1..=3000).map(|id| entry(id, 10)));
        fixture.append(2, [entry(1, 10)]);
        let batch = fixture.batch();
        assert_eq!(batch.iter().position(|item| item == "2:1"), Some(SLICE));
        assert!(
            (BATCH..BATCH + SLICE).contains(&batch.len()),
            "{}",
            batch.len()
        );
        assert_eq!(batch.len() + fixture.all().len(), 3001);
    }

    #[test]
    fn what_is_appended_together_beside_entries_is_not_parted() {
        let fixture = Fixture::new(1);
        let positions = || (1..=3000).map(|id| mark(&id.to_string(), 1));
        fixture.append(
            0,
            [entry(1, 10)]
                .into_iter()
                .chain(positions())
                .chain([entry(2, 10)]),
        );
        assert_eq!(fixture.batch().len(), 3001);
        assert_eq!(fixture.batch(), ["0:2"]);
    }

    #[test]
    fn positions_without_end_keep_the_last_word() {
        let fixture = Fixture::new(1);
        for id in 1..=20_000 {
            fixture.append(0, [mark("a", id), mark("b", id)]);
        }

        fixture.append(0, (1..=100).map(|id| entry(id, 10)));
        let mut batch = Batch::default();
        fixture.queue.next(&mut batch, None, Wish::Nothing);
        assert!(
            batch.whole,
            "what was dropped could have stood between two that belong together"
        );
        let items: Vec<String> = batch.items.iter().map(|(_, item)| text(item)).collect();
        assert_eq!(items[items.len() - 102..][..3], ["a=20000", "b=20000", "1"]);
    }

    #[test]
    fn orders_and_lines_alternate() {
        let fixture = Fixture::new(1);
        fixture.append(0, (1..=1500).map(|id| entry(id, 10)));
        for _ in 0..3 {
            assert!(fixture.queue.order(Order::Work(Box::new(|_| ()))).is_ok());
        }
        let mut served = String::new();
        let mut batch = Batch::default();
        fixture.queue.close();
        loop {
            match fixture.queue.next(&mut batch, None, Wish::Nothing) {
                Task::Store => served.push('s'),
                Task::Serve(_) => served.push('o'),
                Task::Derive => served.push('d'),
                Task::Sweep => served.push('w'),
                Task::Stop => break,
            }
            batch.items.clear();
        }
        assert_eq!(served, "ososo");
        assert!(fixture.queue.order(Order::Work(Box::new(|_| ()))).is_err());
    }
}
