//! Keeps a line out of the log that would come again and again, and counts how often it was kept out. What the line says
//! is the caller's.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A line is told once in so long.
pub(super) const SPAN: Duration = Duration::from_secs(10);

/// Something that is told now and then.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<(Option<Instant>, u64)>);

/// What to put behind the line: how often it was not told since the last time.
#[derive(Debug, PartialEq, Eq)]
pub struct Untold(u64);

impl Seldom {
    /// Whether it is time to tell; else it is counted.
    pub fn may_tell(&self) -> Option<Untold> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, untold) = &mut *state;
        if told.is_some_and(|at| at.elapsed() < SPAN) {
            *untold += 1;
            return None;
        }
        *told = Some(Instant::now());
        Some(Untold(std::mem::take(untold)))
    }
}

impl fmt::Display for Untold {
    /// Nothing, or ` (and 7 more like it)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " (and {n} more like it)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_told_is_counted() {
        let seldom = Seldom::default();
        assert_eq!(seldom.may_tell().unwrap().to_string(), "");
        for _ in 0..7 {
            assert_eq!(seldom.may_tell(), None);
        }
        tokio::time::advance(SPAN).await;
        let untold = seldom.may_tell().unwrap();
        assert_eq!(untold.to_string(), " (and 7 more like it)");
        tokio::time::advance(SPAN).await;
        assert_eq!(seldom.may_tell(), Some(Untold(0)));
    }
}
