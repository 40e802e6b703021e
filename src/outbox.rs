//! The queue of one client: a channel of our own, whose lock is hidden in it and never held across an
//! await. A network puts things in without waiting; the client's writer takes everything at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::history::{EntryId, Ids};
use crate::metrics::Counters;
use crate::state::{Ask, Item};

/// Answers a client asked for may be so many times as much as its queue's limit.
const ANSWERS: usize = 32;

/// Said to a client that leaves too many lines unread.
pub const READS_TOO_SLOWLY: &str = "You read too slowly";
/// Said to a client that leaves too many answers unread.
pub const ASKS_TOO_FAST: &str = "You ask faster than you read";

/// What is on its way to one client, in order.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    limit: usize,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    /// Nothing more is taken: the client is going.
    closed: bool,
}

impl Outbox {
    /// An empty queue; so many bytes may wait in it. How many do is counted.
    pub fn new(limit: usize, counters: Arc<Counters>) -> Self {
        Self {
            queue: Mutex::default(),
            filled: Notify::new(),
            limit,
            counters,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether stored lines should be left in the log: with `more` bytes the client has enough to read.
    pub fn is_full(&self, more: usize) -> bool {
        self.lock().bytes.saturating_add(more) >= self.limit
    }

    /// Adds lines. False: even for answers it is too much, the client cannot be served.
    pub fn push_bytes(&self, run: &[u8], through: Option<EntryId>) -> bool {
        self.push_run(run.to_vec(), through)
    }

    /// The same of lines that nobody else needs: into an empty queue they move without being copied.
    pub fn push_run(&self, run: Vec<u8>, through: Option<EntryId>) -> bool {
        let mut queue = self.lock();
        if queue.closed {
            return true;
        }
        if queue.bytes.saturating_add(run.len()) > self.limit.saturating_mul(ANSWERS) {
            return false;
        }
        self.weigh(&mut queue, |bytes| bytes + run.len());
        match queue.items.back_mut() {
            Some(Item::Bytes {
                run: last,
                through: last_through,
            }) => {
                last.extend_from_slice(&run);
                *last_through = through.or(*last_through);
            }
            _ => queue.items.push_back(Item::Bytes { run, through }),
        }
        drop(queue);
        self.filled.notify_one();
        true
    }

    /// Adds entries that are to be read back from the log; a range that goes on grows.
    pub fn push_stored(&self, ids: Ids) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        match queue.items.back_mut() {
            Some(Item::Stored(last)) if last.last.next() == ids.first => last.last = ids.last,
            _ => queue.items.push_back(Item::Stored(ids)),
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// The same of lines of a batch.
    pub fn push_stored_within(&self, ids: Ids, batch: &Bytes) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        match queue.items.back_mut() {
            Some(Item::StoredWithin(last, same))
                if same == batch && last.last.next() == ids.first =>
            {
                last.last = ids.last;
            }
            _ => queue
                .items
                .push_back(Item::StoredWithin(ids, batch.clone())),
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// Adds anything else. After a [`Item::Close`] nothing is taken any more. False: the client asks
    /// faster than it reads.
    pub fn push(&self, item: Item) -> bool {
        let mut queue = self.lock();
        if queue.closed {
            return true;
        }
        queue.closed = matches!(item, Item::Close(_));
        self.weigh(&mut queue, |bytes| bytes + weight(&item));
        if !queue.closed && queue.bytes > self.limit.saturating_mul(ANSWERS) {
            return false;
        }
        queue.items.push_back(item);
        drop(queue);
        self.filled.notify_one();
        true
    }

    /// Takes everything, waiting for something to be there. Cancel safe.
    pub async fn take(&self) -> VecDeque<Item> {
        loop {
            let filled = self.filled.notified();
            let items = self.take_now();
            if !items.is_empty() {
                return items;
            }
            filled.await;
        }
    }

    /// Takes what is there.
    pub fn take_now(&self) -> VecDeque<Item> {
        let mut queue = self.lock();
        self.weigh(&mut queue, |_| 0);
        std::mem::take(&mut queue.items)
    }

    fn weigh(&self, queue: &mut Queue, now: impl FnOnce(usize) -> usize) {
        let now = now(queue.bytes);
        self.counters.client_queues.moved(queue.bytes, now);
        queue.bytes = now;
    }
}

/// What nobody takes any more does not wait.
impl Drop for Outbox {
    fn drop(&mut self) {
        self.take_now();
    }
}

/// What a question takes while it waits for its answer.
fn weight(item: &Item) -> usize {
    match item {
        Item::Ask { ask, .. } => {
            let words = match ask {
                Ask::Command(words) => words.reveal().len(),
                Ask::Account(account) => account.name.len() + account.password.reveal().len(),
                Ask::Search(search) => search.words.len(),
                Ask::Play(play) | Ask::List(play) => {
                    size_of_val(&play.targets[..]) + size_of_val(&play.floors[..])
                }
                // Introductions come a portion at a time.
                Ask::Replay(_) => return 0,
                Ask::Networks(ask) => ask.weight(),
                Ask::History(_) | Ask::Targets { .. } => 0,
            };
            size_of::<Item>() + words
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::state::{Attribute, NetworksAsk, NewAccount};

    fn ids(first: u64, last: u64) -> Ids {
        Ids {
            first: EntryId(first),
            last: EntryId(last),
        }
    }

    #[test]
    fn runs_and_ranges_grow_at_the_tail_and_order_stays() {
        let outbox = Outbox::new(10, Arc::default());
        assert!(outbox.push_bytes(b"a\r\n", None));
        assert!(outbox.push_bytes(b"b\r\n", Some(EntryId(1))));
        outbox.push_stored(ids(2, 2));
        outbox.push_stored(ids(3, 4));
        outbox.push_stored(ids(6, 6));
        assert!(outbox.push_bytes(b"c\r\n", None));
        let items: Vec<_> = outbox.take_now().into();
        assert_eq!(
            items,
            [
                Item::Bytes {
                    run: b"a\r\nb\r\n".to_vec(),
                    through: Some(EntryId(1))
                },
                Item::Stored(ids(2, 4)),
                Item::Stored(ids(6, 6)),
                Item::Bytes {
                    run: b"c\r\n".to_vec(),
                    through: None
                },
            ]
        );
    }

    #[test]
    fn a_full_queue_says_so_and_has_an_end() {
        let outbox = Outbox::new(10, Arc::default());
        assert!(!outbox.is_full(0));
        assert!(outbox.push_bytes(&[b'x'; 10], None));
        assert!(outbox.is_full(0));
        assert!(!outbox.push_bytes(&[b'x'; 10 * ANSWERS], None));
        outbox.take_now();
        assert!(!outbox.is_full(0));
    }

    #[test]
    fn questions_nobody_reads_the_answers_of_have_an_end() {
        let outbox = Outbox::new(100, Arc::default());
        let ask = || Item::Ask {
            ask: Ask::Command(Secret::new("status".into())),
            label: None,
            after: EntryId(0),
        };
        let taken = (0..1000).take_while(|_| outbox.push(ask())).count();
        assert!(taken > 0 && taken < 100, "{taken}");
    }

    #[test]
    fn what_waits_in_all_queues_is_counted_until_it_is_taken_or_nobody_is_there() {
        let counters = Arc::<Counters>::default();
        let [one, two] = [(); 2].map(|()| Outbox::new(10, Arc::clone(&counters)));
        one.push_bytes(b"PING :a\r\n", None);
        two.push_bytes(b"PING :b\r\n", None);
        assert_eq!(counters.client_queues.get(), 18);
        two.push(Item::Close("bye".into()));
        two.push_bytes(b"nobody reads this", None);
        one.take_now();
        assert_eq!(counters.client_queues.get(), 9);
        drop(two);
        assert_eq!(counters.client_queues.get(), 0);
    }

    #[test]
    fn nothing_follows_the_end() {
        let outbox = Outbox::new(10, Arc::default());
        outbox.push(Item::Close("bye".into()));
        outbox.push(Item::More);
        outbox.push_stored(ids(1, 1));
        assert!(outbox.push_bytes(b"a", None));
        assert_eq!(outbox.take_now(), [Item::Close("bye".into())]);
    }

    #[tokio::test]
    async fn taking_waits_for_something() {
        let outbox = Arc::new(Outbox::new(10, Arc::default()));
        let other = outbox.clone();
        let taken = tokio::spawn(async move { other.take().await });
        tokio::task::yield_now().await;
        outbox.push(Item::More);
        assert_eq!(taken.await.unwrap(), [Item::More]);
    }

    #[test]
    fn what_may_hold_a_password_is_not_printed() {
        let secret = || Secret::new("hunter2".into());
        let account = NewAccount {
            name: "apw".into(),
            password: secret(),
        };
        let attributes = vec![(Attribute::Pass, secret())];
        for ask in [
            Ask::Command(secret()),
            Ask::Account(Box::new(account)),
            Ask::Networks(Box::new(NetworksAsk::Add(attributes.clone()))),
            Ask::Networks(Box::new(NetworksAsk::Change(1, attributes))),
        ] {
            let item = Item::Ask {
                ask,
                label: None,
                after: EntryId(0),
            };
            let shown = format!("{item:?}");
            assert!(shown.contains("<hidden>"), "{shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
            // It counts all the same for what may wait.
            assert!(weight(&item) > size_of::<Item>());
        }
    }
}
