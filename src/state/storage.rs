//! What clients are told when the store does not keep up: how many lines were shown before they were stored, and which were
//! never stored. That it does not keep up, and what is done then, is `history`'s and the shell's.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::history::{EntryId, Fact, Lost, Write};
use crate::wire::Timestamp;

use super::Network;
use super::turn::{ClientId, Turn};

/// Of so many gaps each is remembered by itself.
const MOST: usize = 1000;

/// How the store kept up with a network, since carom was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StorageStatus {
    /// Lines that were shown before they were stored.
    pub early: u64,
    /// Lines that were shown and never stored.
    pub lost: u64,
}

/// The same, what is missing from the log, and who knows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Storage {
    pub(super) status: StorageStatus,
    /// In order.
    missing: Vec<Lost>,
    /// Up to which entry client names were told.
    told: BTreeMap<String, EntryId>,
}

impl Storage {
    pub(super) fn restore_gaps(&mut self, gaps: Vec<Lost>) {
        self.missing = gaps;
    }

    pub(super) fn restore_told(&mut self, client: &[u8], upto: &[u8]) {
        let upto = std::str::from_utf8(upto)
            .ok()
            .and_then(|id| id.parse().ok());
        if let (Ok(client), Some(id)) = (std::str::from_utf8(client), upto) {
            self.told.insert(client.to_owned(), EntryId(id));
        }
    }

    /// What a client name was not told, in one sum.
    fn untold(&self, client: &str) -> Option<Lost> {
        let told = self.told.get(client).copied().unwrap_or_default();
        let mut untold = self.missing.iter().filter(|lost| lost.last > told);
        let mut sum = *untold.next()?;
        untold.for_each(|lost| sum.add(lost));
        Some(sum)
    }
}

impl Network {
    /// So many lines were shown before they were stored.
    pub fn shown_early(&mut self, lines: u64, turn: &mut Turn) {
        self.storage.status.early += lines;
        self.publish(turn);
    }

    /// Storing works again, but these lines are missing. Each client name is told once: now, or when it attaches next.
    pub fn lost(&mut self, lost: Lost, turn: &mut Turn) {
        self.storage.status.lost += lost.count;
        self.publish(turn);
        // What an earlier run of this network was told of may have been restored already.
        let missing = &mut self.storage.missing;
        if missing.last().is_none_or(|last| last.last < lost.last) {
            if missing.len() >= MOST {
                let first = missing.remove(0);
                missing[0].add(&first);
            }
            missing.push(lost);
        }
        let clients: Vec<_> = self.clients.keys().copied().collect();
        for &client in &clients {
            self.tell_lost(client, turn);
        }
        for client in clients {
            self.note_told(client, turn);
        }
    }

    /// A client name comes: one that is new lacks nothing of what is missing, one that was forgotten counts as new.
    pub(super) fn begin_telling(&mut self, client: &str, turn: &mut Turn) {
        let names = self.storage.told.keys();
        let gone: Vec<String> = names
            .filter(|name| !self.positions.knows(name))
            .cloned()
            .collect();
        for name in gone {
            self.storage.told.remove(&name);
            self.remember(told(&name, None), turn);
        }
        if !self.positions.knows(client) {
            self.set_told(client.to_owned(), turn);
        }
    }

    /// A client attaches: it is told what its name was not.
    pub(super) fn tell_missing(&mut self, to: ClientId, turn: &mut Turn) {
        self.tell_lost(to, turn);
        self.note_told(to, turn);
    }

    /// A client is let in without what it missed.
    pub(super) fn tell_unread(&self, to: ClientId, why: &str, turn: &mut Turn) {
        if !why.is_empty() {
            let text = format!(
                "what you missed cannot be read now ({why}): you get it, and what follows, when you attach again"
            );
            turn.tell(to, self.notice(&text));
        }
    }

    fn tell_lost(&self, to: ClientId, turn: &mut Turn) {
        let client = self.clients.get(&to);
        if let Some(lost) = client.and_then(|client| self.storage.untold(&client.name)) {
            turn.tell(to, self.notice(&text_of(&lost)));
        }
    }

    fn note_told(&mut self, client: ClientId, turn: &mut Turn) {
        if let Some(client) = self.clients.get(&client)
            && self.storage.untold(&client.name).is_some()
        {
            self.set_told(client.name.clone(), turn);
        }
    }

    fn set_told(&mut self, client: String, turn: &mut Turn) {
        let Some(last) = self.storage.missing.last() else {
            return;
        };
        let upto = last.last;
        self.remember(told(&client, Some(upto)), turn);
        self.storage.told.insert(client, upto);
    }
}

fn told(client: &str, upto: Option<EntryId>) -> Write {
    Write::Fact {
        fact: Fact::Told,
        name: Bytes::copy_from_slice(client.as_bytes()),
        value: upto.map(|id| id.0.to_string().into()),
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
            last: EntryId(7),
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
