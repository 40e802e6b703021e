//! What is stored: lines of a network's log, and what moves along with them. Pure data; how it is
//! stored is the rest of `history`'s.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::{Name, Timestamp};

/// The number of an entry in the log of its network: given out by `state`, growing, never reused. 0 stands before all.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct EntryId(pub u64);

impl EntryId {
    /// The largest number: the store's key is `network << 40 | id`.
    pub const MAX: Self = Self((1 << 40) - 1);

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number before this one; 0 stays 0.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// Entries `first..=last` of one network's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// The first of them.
    pub first: EntryId,
    /// The last of them.
    pub last: EntryId,
}

/// What a stored line is. The number is what the store holds: never change one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// PRIVMSG, NOTICE and what else people say: always replayed.
    Message = 0,
    /// JOIN, PART, QUIT, NICK, KICK, MODE, TOPIC: replayed when `only_messages` is off.
    Event = 1,
}

impl Kind {
    /// Each of them.
    pub(super) const ALL: [Self; 2] = [Self::Message, Self::Event];

    /// The kind that is stored as `number`.
    pub(super) const fn stored(number: i64) -> Self {
        if number == Self::Message as i64 {
            Self::Message
        } else {
            Self::Event
        }
    }
}

/// The tag of ours that holds the other lines of a message of several: each behind a line feed, or a carriage return when it goes
/// on where the one before it ended.
pub const OTHER_LINES: &[u8] = b"carom/lines";

/// One stored line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the log.
    pub id: EntryId,
    /// The buffer it belongs to: a channel, or the other person.
    pub target: Name,
    /// When it happened; within a target ids and times have one order.
    pub time: Timestamp,
    /// The server's message id, or ours.
    pub msgid: Option<Bytes>,
    /// What it is.
    pub kind: Kind,
    /// Whether the line before it in the log is the same line filed under another target. Readings by id skip it.
    pub again: bool,
    /// The tags that are kept, as they stand on the wire without `@`: never time, msgid, batch or label.
    pub tags: Bytes,
    /// The line without tags and line end, as it arrived.
    pub line: Bytes,
}

impl Entry {
    /// About how many bytes of memory it takes while it waits to be stored.
    pub(super) fn weight(&self) -> usize {
        let msgid = self.msgid.as_ref().map_or(0, Bytes::len);
        size_of::<Self>() + self.target.as_bytes().len() + msgid + self.tags.len() + self.line.len()
    }
}

/// What is remembered about a network beside its lines. The number is what the store holds: never change one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Fact {
    /// A saved channel; the name is the channel.
    Channel = 0,
    /// The wanted nick; the name is empty.
    Nick = 1,
    /// How names compare; the name is empty.
    CaseMapping = 2,
    /// The user said to stay away from the network; the name is empty.
    Offline = 16,
    /// That a server is reached over TLS alone (STS); the name is its host.
    Sts = 10,
    /// Why the user said to be away; the name is empty.
    Away = 11,
    /// The real name the user chose; the name is empty.
    Realname = 12,
    /// Services may not know our certificate yet; the name is empty.
    NewCertificate = 13,
    /// Up to where a buffer is read; the name is the buffer.
    Marker = 20,
    /// Whether the user detached a channel; the name is the channel.
    Detached = 21,
    /// Up to which entry a client name was told of lines that are missing; the name is the client name.
    Told = 22,
}

impl Fact {
    /// The fact that is stored as `number`.
    pub(super) const fn stored(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Channel),
            1 => Some(Self::Nick),
            2 => Some(Self::CaseMapping),
            16 => Some(Self::Offline),
            10 => Some(Self::Sts),
            11 => Some(Self::Away),
            12 => Some(Self::Realname),
            13 => Some(Self::NewCertificate),
            20 => Some(Self::Marker),
            21 => Some(Self::Detached),
            22 => Some(Self::Told),
            _ => None,
        }
    }
}

/// Lines that were not stored, because storing did not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// How many.
    pub count: u64,
    /// The last of them.
    pub last: EntryId,
    /// When the first of them happened.
    pub since: Timestamp,
    /// When the last of them happened.
    pub until: Timestamp,
}

impl Lost {
    /// Counts more of them.
    pub fn add(&mut self, more: &Self) {
        self.count += more.count;
        self.last = self.last.max(more.last);
        self.since = self.since.min(more.since);
        self.until = self.until.max(more.until);
    }
}

/// One change of a network's log. All of a network's writes are one ordered stream and share commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Stores a line.
    Entry(Entry),
    /// Moves the position of a client name. Without a target it is the name's mark, else how far behind the mark it is in
    /// that target; `id: None` forgets it. `time` says when the name was last in use.
    Position {
        /// The client name; empty for clients that give none.
        client: String,
        /// The target, or the mark.
        target: Option<Name>,
        /// The last entry the client is known to have.
        id: Option<EntryId>,
        /// When this was learnt.
        time: Timestamp,
    },
    /// Nobody is replayed anything of this target up to here.
    Floor {
        /// The target.
        target: Name,
        /// The last entry that counts as seen by all.
        id: EntryId,
    },
    /// Remembers or (`None`) forgets a fact.
    Fact {
        /// What it is about.
        fact: Fact,
        /// Whom it is about.
        name: Bytes,
        /// What is remembered, in `state`'s own form.
        value: Option<Bytes>,
    },
    /// Takes back a line that never reached anybody (the server refused it).
    Withdraw(EntryId),
    /// Takes back what was said under a message id, if the log has it.
    Redact {
        /// The buffer it belongs to.
        target: Name,
        /// The message id.
        msgid: Bytes,
    },
    /// A target has another name from now on: its lines move there.
    Rename(Name, Name),
}
