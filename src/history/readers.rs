//! Questions, and the threads that answer them, each on a connection of its own that cannot write. A question has a
//! deadline; when it passes, or the asker goes away, the work on it ends. In memory there is only the writer's connection,
//! so the writer answers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, InterruptHandle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::DEADLINE;
use super::error::Error;
use super::queue::{Order, Queue, Work};

/// So many questions may wait; whoever has another one waits to ask it.
const QUESTIONS: usize = 64;

/// So many of them may be slow.
const SLOW: usize = 8;

/// A reader that was asked nothing for so long gives its memory back.
const WHILE: Duration = Duration::from_secs(2);

/// Where questions are handed in.
#[derive(Clone)]
pub(super) struct Desk {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    room_for_slow: Arc<Semaphore>,
    writer: Arc<Queue>,
    /// Whether there are readers.
    staffed: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    questions: VecDeque<Work>,
    /// Those that may take long.
    slow: VecDeque<Work>,
    slow_last: bool,
    closing: bool,
}

/// How far a question has got. Only while it is being worked on may its connection be interrupted: a moment later that
/// would hit the next question.
enum Progress {
    Waiting,
    Running(InterruptHandle),
    Over,
}

/// Ends the work on a question when its asker goes away.
struct Asker(Arc<Mutex<Progress>>);

impl Drop for Asker {
    fn drop(&mut self) {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Progress::Running(handle) = &*progress {
            handle.interrupt();
        }
        *progress = Progress::Over;
    }
}

impl Desk {
    /// `staffed`: whether threads will [`serve`](Self::serve) it; else the writer does.
    pub(super) fn new(writer: Arc<Queue>, staffed: bool) -> Self {
        Self {
            shared: Arc::default(),
            room: Arc::new(Semaphore::new(QUESTIONS)),
            room_for_slow: Arc::new(Semaphore::new(SLOW)),
            writer,
            staffed,
        }
    }

    /// Asks a reader.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let hand_in = |work: Work| match self.staffed {
            true => self.shared.push(work, false),
            false => self.give_writer(work),
        };
        self.put(&self.room, hand_in, question).await
    }

    /// Asks a reader something that may take long: it does not keep those waiting who [`ask`](Self::ask).
    pub(super) async fn ask_slowly<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let hand_in = |work: Work| match self.staffed {
            true => self.shared.push(work, true),
            false => self.give_writer(work),
        };
        self.put(&self.room_for_slow, hand_in, question).await
    }

    /// Has what is noted about lines dropped, to be made again.
    pub(super) async fn start_again(&self) -> Result<(), Error> {
        let (done, answered) = oneshot::channel();
        self.writer
            .order(Order::StartAgain(done))
            .map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)
    }

    /// Has the writer do something.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.put(&self.room, |work| self.give_writer(work), change)
            .await
    }

    async fn put<T: Send + 'static>(
        &self,
        room: &Arc<Semaphore>,
        hand_in: impl FnOnce(Work) -> Result<(), Error>,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let asked = async {
            let permit = Arc::clone(room)
                .acquire_owned()
                .await
                .map_err(|_| Error::Closed)?;
            let (answer, answered) = oneshot::channel();
            let progress = Arc::new(Mutex::new(Progress::Waiting));
            let _asker = Asker(Arc::clone(&progress));
            hand_in(Box::new(move |connection| {
                work_on(connection, question, &progress, answer, permit);
            }))?;
            answered
                .await
                .map_err(|_| Error::Closed)?
                .map_err(Error::from)
        };
        timeout(DEADLINE, asked)
            .await
            .unwrap_or(Err(Error::Deadline))
    }

    fn give_writer(&self, work: Work) -> Result<(), Error> {
        self.writer
            .order(Order::Work(work))
            .map_err(|_| Error::Closed)
    }

    /// Answers questions until the desk is closed; slow ones only if `slow`.
    pub(super) fn serve(&self, connection: &Connection, slow: bool) {
        // Lines of many targets lie mixed, so each page is needed many times: a large cache, for as long as it is of use.
        let rest = || drop(connection.execute_batch("PRAGMA shrink_memory"));
        while let Some(work) = self.shared.next(slow, rest) {
            // A question that meets a mistake of ours must not silence all others.
            if catch_unwind(AssertUnwindSafe(|| work(connection))).is_err() {
                tracing::error!("a question to the history ended in a panic");
            }
        }
    }

    /// Ends the threads; questions that still wait get [`Error::Closed`].
    pub(super) fn close(&self) {
        self.room.close();
        self.room_for_slow.close();
        let mut waiting = self.shared.lock();
        waiting.closing = true;
        waiting.questions.clear();
        waiting.slow.clear();
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, work: Work, slow: bool) -> Result<(), Error> {
        let mut waiting = self.lock();
        if waiting.closing {
            return Err(Error::Closed);
        }
        if slow {
            waiting.slow.push_back(work);
            drop(waiting);
            // Not everybody takes it.
            self.wake.notify_all();
        } else {
            waiting.questions.push_back(work);
            drop(waiting);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// The next question, slow ones included if `slow`. `rest` is called once when none comes for a while.
    fn next(&self, slow: bool, rest: impl FnOnce()) -> Option<Work> {
        let nothing = |waiting: &mut Waiting| {
            let none = waiting.questions.is_empty() && (!slow || waiting.slow.is_empty());
            none && !waiting.closing
        };
        let (mut waiting, waited) = self
            .wake
            .wait_timeout_while(self.lock(), WHILE, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            drop(waiting);
            rest();
            waiting = self
                .wake
                .wait_while(self.lock(), nothing)
                .unwrap_or_else(PoisonError::into_inner);
        }
        waiting.pop(slow)
    }
}

impl Waiting {
    /// The next question. Whoever takes slow ones takes both in turns.
    fn pop(&mut self, slow: bool) -> Option<Work> {
        let its_turn = !self.slow_last || self.questions.is_empty();
        if slow
            && its_turn
            && let Some(work) = self.slow.pop_front()
        {
            self.slow_last = true;
            return Some(work);
        }
        self.slow_last = false;
        self.questions.pop_front()
    }
}

fn work_on<T>(
    connection: &Connection,
    question: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    progress: &Mutex<Progress>,
    answer: oneshot::Sender<rusqlite::Result<T>>,
    permit: OwnedSemaphorePermit,
) {
    let set = |next: Progress| {
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        let over = matches!(*progress, Progress::Over);
        *progress = next;
        over
    };
    let result = connection
        .prepare_cached("VALUES (1), (2)")
        .and_then(|mut held| {
            // SQLite forgets an interruption that comes while no statement runs. This one runs, reading nothing, until the
            // question is done.
            let mut rows = held.query([])?;
            rows.next()?;
            if set(Progress::Running(connection.get_interrupt_handle())) {
                return Err(rusqlite::Error::QueryReturnedNoRows);
            }
            question(connection)
        });
    set(Progress::Over);
    drop(permit);
    // Nobody may be waiting any more.
    drop(answer.send(result));
}
