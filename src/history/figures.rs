//! How the store is doing, in numbers: what waits, and what commits took. It is counted by the
//! writer as it goes, and read by whoever asks (`metrics`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How the store is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Rows that wait to be stored.
    pub waiting: usize,
    /// Bytes of lines that wait or are being stored.
    pub bytes: usize,
    /// Commits.
    pub commits: u64,
    /// Commits that failed.
    pub failed: u64,
    /// How long all commits took together.
    pub spent: Duration,
    /// How long the last one took.
    pub last: Duration,
}

/// What the writer did.
#[derive(Debug, Default)]
pub(super) struct Done {
    commits: AtomicU64,
    failed: AtomicU64,
    /// Microseconds, as is `last`.
    spent: AtomicU64,
    last: AtomicU64,
}

impl Done {
    pub(super) fn committed(&self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.spent.fetch_add(micros, Ordering::Relaxed);
        self.last.store(micros, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn with(&self, (waiting, bytes): (usize, usize)) -> Figures {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Figures {
            waiting,
            bytes,
            commits: get(&self.commits),
            failed: get(&self.failed),
            spent: Duration::from_micros(get(&self.spent)),
            last: Duration::from_micros(get(&self.last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted_and_timed() {
        let done = Done::default();
        done.committed(Duration::from_millis(3));
        done.committed(Duration::from_micros(2));
        done.failed();
        let figures = done.with((4, 5));
        assert_eq!((figures.waiting, figures.bytes), (4, 5));
        assert_eq!((figures.commits, figures.failed), (2, 1));
        assert_eq!(figures.spent, Duration::from_micros(3002));
        assert_eq!(figures.last, Duration::from_micros(2));
    }
}
