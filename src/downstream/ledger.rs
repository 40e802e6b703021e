//! What was written to a client and not proved yet. One PING at a time asks for proof; the PONG, or an
//! orderly close, gives it. The two halves of the task share it; its lock is never held across an await.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::history::EntryId;
use crate::state::{Page, Proof, Ticks};

/// Between two PINGs at least.
const PAUSE: Duration = Duration::from_millis(250);

/// The books of one client.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    books: Mutex<Books>,
    /// A PONG came: the next PING may go.
    pub(super) proved: Notify,
}

#[derive(Debug, Default)]
struct Books {
    /// About to be written since the last PING.
    gathered: Proof,
    /// Written since the last PING.
    written: Proof,
    /// Covered by the PING that is not answered.
    asked: Option<Asked>,
    serial: u64,
    earliest: Ticks,
    /// Nothing more is noted.
    closed: bool,
}

#[derive(Debug)]
struct Asked {
    serial: u64,
    proof: Proof,
    /// Whether the PING, and with it all that it covers, has been written.
    sent: bool,
}

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Live lines up to here are about to be written.
    pub(super) fn gather(&self, through: EntryId) {
        let mut books = self.books();
        if !books.closed {
            books.gathered.live = books.gathered.live.max(Some(through));
        }
    }

    /// Replayed lines of a target are about to be written.
    pub(super) fn gather_page(&self, page: Page) {
        let mut books = self.books();
        if !books.closed {
            add_page(&mut books.gathered.pages, page);
        }
    }

    /// Lines are left out: what is written from here on proves nothing. Whether that is new.
    pub(super) fn close(&self) -> bool {
        !std::mem::replace(&mut self.books().closed, true)
    }

    /// Whether lines were left out.
    pub(super) fn is_closed(&self) -> bool {
        self.books().closed
    }

    /// Everything gathered so far has been written, the PING too.
    pub(super) fn wrote(&self) {
        let mut books = self.books();
        let gathered = std::mem::take(&mut books.gathered);
        add(&mut books.written, gathered);
        if let Some(asked) = &mut books.asked {
            asked.sent = true;
        }
    }

    /// When the next PING is to be sent; `None`: nothing is to be proved, or a PING is on its way.
    pub(super) fn due(&self) -> Option<Ticks> {
        let books = self.books();
        (books.asked.is_none() && books.has_unproved()).then_some(books.earliest)
    }

    /// The token of a PING that asks about everything gathered and written so far, if one is due.
    pub(super) fn ask(&self, now: Ticks) -> Option<String> {
        let mut books = self.books();
        if books.asked.is_some() || !books.has_unproved() || now < books.earliest {
            return None;
        }
        books.serial += 1;
        books.earliest = now.plus(PAUSE);
        let mut proof = std::mem::take(&mut books.written);
        add(&mut proof, std::mem::take(&mut books.gathered));
        let serial = books.serial;
        books.asked = Some(Asked {
            serial,
            proof,
            sent: false,
        });
        Some(format!("carom-{serial}"))
    }

    /// A PONG came. What it proves, if its PING was ours and the last one.
    pub(super) fn answered(&self, token: &[u8]) -> Option<Proof> {
        let serial = token.strip_prefix(b"carom-")?;
        let serial: u64 = std::str::from_utf8(serial).ok()?.parse().ok()?;
        let mut books = self.books();
        let asked = books.asked.take_if(|asked| asked.serial == serial)?;
        drop(books);
        self.proved.notify_one();
        Some(asked.proof)
    }

    /// Everything that was written: an orderly close proves it. What was still to be written when the client closed
    /// is not in it.
    pub(super) fn everything(&self) -> Proof {
        let mut books = self.books();
        let asked = books.asked.take().filter(|asked| asked.sent);
        let mut all = asked.map(|asked| asked.proof).unwrap_or_default();
        add(&mut all, std::mem::take(&mut books.written));
        all
    }
}

impl Books {
    fn has_unproved(&self) -> bool {
        !self.written.is_empty() || !self.gathered.is_empty()
    }
}

fn add(to: &mut Proof, later: Proof) {
    to.live = to.live.max(later.live);
    for page in later.pages {
        add_page(&mut to.pages, page);
    }
}

/// A later page of a target stands for the earlier ones.
fn add_page(pages: &mut Vec<Page>, page: Page) {
    match pages.iter_mut().find(|p| p.target == page.target) {
        Some(earlier) => *earlier = page,
        None => pages.push(page),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gathered and written.
    fn wrote(ledger: &Ledger, id: u64) {
        ledger.gather(EntryId(id));
        ledger.wrote();
    }

    #[test]
    fn one_ping_at_a_time_covers_what_was_written_before_it() {
        let ledger = Ledger::default();
        assert_eq!(ledger.ask(Ticks(0)), None);
        wrote(&ledger, 3);
        assert_eq!(ledger.ask(Ticks(0)).as_deref(), Some("carom-1"));
        wrote(&ledger, 5);
        assert_eq!(ledger.ask(Ticks(1000)), None, "one outstanding");
        assert_eq!(ledger.answered(b"carom-7"), None);
        assert_eq!(ledger.answered(b"other"), None);
        assert_eq!(ledger.answered(b"carom-1").unwrap().live, Some(EntryId(3)));
        assert_eq!(ledger.answered(b"carom-1"), None);
        assert_eq!(ledger.ask(Ticks(100)), None, "four a second");
        assert_eq!(ledger.ask(Ticks(250)).as_deref(), Some("carom-2"));
        wrote(&ledger, 9);
        assert_eq!(ledger.everything().live, Some(EntryId(9)));
        assert!(ledger.everything().is_empty());
    }

    #[test]
    fn a_close_proves_nothing_that_was_still_to_be_written() {
        let ledger = Ledger::default();
        wrote(&ledger, 3);
        ledger.gather(EntryId(5));
        assert_eq!(ledger.everything().live, Some(EntryId(3)));
        let ledger = Ledger::default();
        ledger.gather(EntryId(5));
        assert!(
            ledger.ask(Ticks(0)).is_some(),
            "the PING goes out with its lines"
        );
        ledger.gather(EntryId(7));
        assert!(ledger.everything().is_empty(), "neither was written");
    }
}
