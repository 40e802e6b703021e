//! What clients are told when the store does not keep up: how many lines were shown before they were stored, and which were
//! never stored. That it does not keep up, and what is done then, is `history`'s and the shell's.

use serde::{Deserialize, Serialize};

use crate::history::Lost;
use crate::wire::Timestamp;

use super::Network;
use super::turn::{ClientId, Turn};

/// How the store kept up with a network, since carom was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StorageStatus {
    /// Lines that were shown before they were stored.
    pub early: u64,
    /// Lines that were shown and never stored.
    pub lost: u64,
}

/// The same, and what nobody has been told yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Storage {
    pub(super) status: StorageStatus,
    untold: Option<Lost>,
}

impl Network {
    /// So many lines were shown before they were stored.
    pub fn shown_early(&mut self, lines: u64, turn: &mut Turn) {
        self.storage.status.early += lines;
        self.publish(turn);
    }

    /// Storing works again, but these lines are missing. It is told once, to whoever is attached or attaches next.
    pub fn lost(&mut self, lost: Lost, turn: &mut Turn) {
        self.storage.status.lost += lost.count;
        self.publish(turn);
        match &mut self.storage.untold {
            Some(untold) => untold.add(&lost),
            untold => *untold = Some(lost),
        }
        if self.has_clients()
            && let Some(lost) = self.storage.untold.take()
        {
            self.announce(&text_of(&lost), turn);
        }
    }

    /// Tells a new client what nobody has been told yet.
    pub(super) fn tell_lost(&mut self, to: ClientId, turn: &mut Turn) {
        if let Some(lost) = self.storage.untold.take() {
            turn.tell(to, self.notice(&text_of(&lost)));
        }
    }
}

fn text_of(lost: &Lost) -> String {
    let (lines, are) = match lost.count {
        1 => ("line", "is"),
        _ => ("lines", "are"),
    };
    format!(
        "{} {lines} between {} and {} could not be stored and {are} missing from the history",
        lost.count,
        time(lost.since),
        time(lost.until)
    )
}

fn time(time: Timestamp) -> String {
    let mut text = Vec::new();
    time.write(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_count_and_times() {
        let mut lost = Lost {
            count: 1,
            since: Timestamp::from_millis(1_700_000_000_000),
            until: Timestamp::from_millis(1_700_000_000_000),
        };
        assert_eq!(
            text_of(&lost),
            "1 line between 2023-11-14T22:13:20.000Z and 2023-11-14T22:13:20.000Z could not be stored and is missing \
             from the history"
        );
        lost.add(&Lost {
            count: 903,
            until: Timestamp::from_millis(1_700_000_060_000),
            ..lost
        });
        let text = text_of(&lost);
        assert!(
            text.starts_with(
                "904 lines between 2023-11-14T22:13:20.000Z and 2023-11-14T22:14:20.000Z"
            ),
            "{text}"
        );
    }
}
