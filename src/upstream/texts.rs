//! Lines on their way into the text logs: each waits here until the store has it, or counts it as lost, so that no file
//! tells what the log does not. Memory is bounded; who writes the files, and when, is `chatlog`'s.

use std::collections::VecDeque;

use crate::chatlog::ChatLogs;
use crate::history::{Entry, EntryId};
use crate::state::{Shown, unfolded};

/// So much may wait: more than the store admits, which counts what comes then as lost.
const LINES: usize = 8192;
const BYTES: usize = 16 << 20;

/// What waits, in order.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// Lines, and whether we said them ourselves.
    waiting: VecDeque<(bool, Entry)>,
    bytes: usize,
}

impl Texts {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The last line that waits.
    pub(super) fn last(&self) -> EntryId {
        self.waiting
            .back()
            .map_or(EntryId(0), |(_, entry)| entry.id)
    }

    /// Takes a line that was handed to the store. False: too many wait, and it is left out.
    pub(super) fn push(&mut self, own: bool, entry: &Entry) -> bool {
        let weight = weight(entry);
        if self.waiting.len() >= LINES || self.bytes + weight > BYTES {
            return false;
        }
        self.bytes += weight;
        self.waiting.push_back((own, entry.clone()));
        true
    }

    /// Passes on the lines up to this one.
    pub(super) fn write(&mut self, through: EntryId, user: &str, network: &str, files: &ChatLogs) {
        let is_due = |(_, entry): &(bool, Entry)| entry.id <= through;
        while self.waiting.front().is_some_and(is_due)
            && let Some((own, entry)) = self.waiting.pop_front()
        {
            self.bytes -= weight(&entry);
            let message = Shown {
                time: entry.time,
                msgid: None,
                tags: entry.tags.clone(),
                line: entry.line.clone(),
            };
            for line in unfolded(&message) {
                let entry = Entry {
                    line,
                    ..entry.clone()
                };
                files.write(user, network, own, &entry);
            }
        }
        if self.waiting.is_empty() {
            // Room for a burst would be kept by every idle network.
            self.waiting = VecDeque::new();
        }
    }
}

fn weight(entry: &Entry) -> usize {
    size_of::<(bool, Entry)>() + entry.tags.len() + entry.line.len()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytes::Bytes;

    use super::*;
    use crate::config::ChatLog;
    use crate::history::Kind;
    use crate::wire::{CaseMapping, Name, Timestamp};

    fn entry(id: u64, text: &str) -> Entry {
        Entry {
            id: EntryId(id),
            target: Name::new(b"#a", CaseMapping::Rfc1459),
            time: Timestamp::from_millis(1_700_000_000_000),
            msgid: None,
            kind: Kind::Message,
            again: false,
            tags: Bytes::new(),
            line: Bytes::from(format!(":bob!b@h PRIVMSG #a :{text}")),
        }
    }

    #[test]
    fn lines_are_written_in_order_up_to_what_is_settled() {
        let folder = tempfile::tempdir().unwrap();
        let config = ChatLog {
            root: folder.path().to_owned(),
            format: "%c".into(),
        };
        let files = ChatLogs::start(&config).unwrap();
        let mut texts = Texts::default();
        for id in 1..=5 {
            assert!(texts.push(false, &entry(id, &id.to_string())));
        }
        texts.write(EntryId(0), "u", "n", &files);
        texts.write(EntryId(2), "u", "n", &files);
        texts.write(EntryId(4), "u", "n", &files);
        assert!(!texts.is_empty(), "the fifth is not stored yet");
        files.end();
        let text = fs::read_to_string(folder.path().join("#a")).unwrap();
        let said: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split(' ').next_back())
            .collect();
        assert_eq!(said, ["1", "2", "3", "4"]);
    }

    #[test]
    fn what_waits_is_bounded_by_lines_and_by_bytes() {
        let files = ChatLogs::start(&ChatLog::default()).unwrap();
        let mut texts = Texts::default();
        let taken = |texts: &mut Texts, size: usize| {
            let text = "x".repeat(size);
            (1..)
                .take_while(|&id| texts.push(false, &entry(id, &text)))
                .count()
        };
        assert_eq!(taken(&mut texts, 10), LINES);
        texts.write(EntryId::MAX, "u", "n", &files);
        assert!(texts.is_empty() && texts.bytes == 0);
        assert!(taken(&mut texts, 1 << 20) < 16);
    }
}
