//! One input's effects: time goes in with it, `Action`s come out. Whoever performs them decides
//! nothing; whoever decides here performs nothing.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::{Secret, TimeStyle};
use crate::history::{EntryId, Ids, Only, Search, Selection, Write};
use crate::wire::{CapSet, CaseMapping, Line, Name, Timestamp};

use super::routing::Answers;
use super::status::NetworkStatus;

/// Milliseconds on the monotonic clock. All deadlines are in ticks, so that a jump of the wall
/// clock fires no timer.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Ticks(pub u64);

impl Ticks {
    /// This much later; the far future for spans without end.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// How long after `earlier`; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For deadlines.
    pub ticks: Ticks,
    /// For stamps.
    pub time: Timestamp,
}

/// An attached client, never reused while the process lives.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ClientId(pub u64);

/// A line on its way to clients, as the log would hold it: no client's form yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// When it happened.
    pub time: Timestamp,
    /// Its message id.
    pub msgid: Option<Bytes>,
    /// The tags that are kept: never time, msgid, batch or label.
    pub tags: Bytes,
    /// The line without tags and line end.
    pub line: Bytes,
}

/// What a line that answers a client's question wears beside its own content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Worn {
    /// The label of the question, as the client wrote it.
    pub label: Option<Bytes>,
    /// The batch of the answer.
    pub batch: Option<Bytes>,
}

/// What decides the form in which a client gets a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct View {
    /// The capabilities it has enabled.
    pub caps: CapSet,
    /// What its user writes to people is told in words.
    pub own_in_words: bool,
}

impl View {
    /// Of a client with these capabilities.
    pub fn of(caps: CapSet) -> Self {
        Self {
            caps,
            own_in_words: false,
        }
    }
}

/// Which clients of the network get a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// All that are admitted.
    All,
    /// One.
    One(ClientId),
    /// All but one.
    Except(ClientId),
    /// These.
    Only(Box<[ClientId]>),
}

/// A stretch of a target's log to be replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The channel or person.
    pub target: Name,
    /// After this entry.
    pub after: EntryId,
    /// Up to and with this one.
    pub through: EntryId,
    /// Of these at most so many, the newest; 0: all.
    pub newest: u64,
    /// Whether events are left out.
    pub only_messages: bool,
    /// For clients without server-time.
    pub timestamps: TimeStyle,
    /// In a private talk: our nick, which stands in all of its lines whatever it was then.
    pub own: Option<Bytes>,
    /// What clients of this name said themselves is left out.
    pub not_by: Option<String>,
    /// The target had another name a moment ago.
    pub renamed: Option<Renamed>,
}

/// What a client lacks of a target that goes by another name since: whether a replay under the old name found its lines
/// is known to the client's writer alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The old name.
    pub old: Name,
    /// What was to be replayed under it: after one entry, up to another.
    pub late: Vec<(EntryId, EntryId)>,
    /// After this entry it lacks what was said under the new name before.
    pub own_after: Option<EntryId>,
}

impl Renamed {
    /// Whether a line is due. `given`: the last one that was replayed under the old name.
    pub fn is_due(&self, id: EntryId, line: &[u8], new: &Name, given: EntryId) -> bool {
        let own = self.own_after.is_some_and(|after| id > after);
        let is_late = |(after, through): &(EntryId, EntryId)| id > *after && id <= *through;
        let late = id > given && self.late.iter().any(is_late);
        match of_channel(line) {
            // QUIT and NICK name no channel.
            None => own || late,
            Some(name) if is_channel(name, new) => own,
            Some(_) => late,
        }
    }
}

fn of_channel(line: &[u8]) -> Option<&[u8]> {
    let line = Line::parse(line).ok()?;
    let names_none = line.is(b"QUIT") || line.is(b"NICK");
    line.param(0).filter(|_| !names_none)
}

/// `@#c` is one of `#c`.
fn is_channel(name: &[u8], channel: &Name) -> bool {
    channel.is(name)
        || name
            .split_first()
            .is_some_and(|(sigil, name)| b"~&!@%+".contains(sigil) && is_channel(name, channel))
}

/// Lines of a target that a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The word after CHATHISTORY.
    pub word: Bytes,
    /// The channel or person.
    pub target: Name,
    /// Which of its lines.
    pub selection: Selection,
    /// In a private talk: our nick, which stands in all of its lines whatever it was then.
    pub own: Option<Bytes>,
}

/// What is played back to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Play {
    /// These targets; all when there are none.
    pub targets: Vec<Name>,
    /// Later than this.
    pub from: Timestamp,
    /// Earlier than this.
    pub to: Option<Timestamp>,
    /// Which lines count.
    pub kinds: Only,
    /// Of these targets nothing up to these entries.
    pub floors: Vec<(Name, EntryId)>,
    /// For clients without server-time.
    pub timestamps: TimeStyle,
    /// How names compare.
    pub mapping: CaseMapping,
    /// What begins the name of a channel.
    pub channels: Bytes,
    /// Our nick.
    pub nick: Bytes,
}

/// What a client's writer finds out for itself, in the place where it stands in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Stored lines.
    Replay(Plan),
    /// Stored lines that the client asked for.
    History(Box<Wish>),
    /// Which targets have lines between two times, at most so many of them.
    Targets {
        /// One end of the time, excluded.
        from: Timestamp,
        /// The other.
        to: Timestamp,
        /// At most so many.
        limit: usize,
    },
    /// Stored lines that say something.
    Search(Box<Search>),
    /// Lines from some time on.
    Play(Box<Play>),
    /// From when to when there are lines to be played.
    List(Box<Play>),
    /// The user's networks.
    Networks(Box<super::networks::NetworksAsk>),
    /// A service command; its words as typed, which may hold a password.
    Command(Secret),
    /// The server made this account: it is to be logged in to from now on.
    Account(Box<NewAccount>),
}

/// An account that was made on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: Secret,
}

/// One thing in the queue of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Bytes to write. `through`: the last entry that is given with them.
    Bytes {
        /// Whole lines.
        run: Vec<u8>,
        /// The last stored line among them.
        through: Option<EntryId>,
    },
    /// Entries to read back from the log, in the form of the view in force.
    Stored(Ids),
    /// The same, as lines of a batch that is open.
    StoredWithin(Ids, Bytes),
    /// From here on the client sees lines so.
    View(View),
    /// A sign of life is asked for.
    Ping,
    /// Introductions go on when the writer comes here.
    More,
    /// A question, answered once everything up to `after` is stored.
    Ask {
        /// What is asked.
        ask: Ask,
        /// The label that the answer carries, as the client wrote it.
        label: Option<Bytes>,
        /// What must be in the log first.
        after: EntryId,
    },
    /// The end: an ERROR with this reason, then the connection is closed.
    Close(String),
}

/// How a link to a server ends by our own doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkEnd {
    /// After what has been written is sent.
    Flush,
    /// At once.
    Drop,
}

/// Which address is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dial {
    /// From the first candidate on.
    Afresh,
    /// The candidates that are left of this cycle.
    NextAddress,
    /// From the first candidate of this server on, by its place in the list.
    From(usize),
    /// No more: what is under way is given up.
    Stop,
}

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A line to the server, without line end. At once.
    Send(Bytes),
    /// Into the log. At once; what is for clients in this and later turns waits for it.
    Record(Write),
    /// A line to clients. `entries`: where it stands in the log, if it does.
    Deliver {
        /// Who gets it.
        to: Audience,
        /// What.
        line: Shown,
        /// Its places in the log.
        entries: Option<Ids>,
    },
    /// A line to a client as the answer to what it asked.
    Reply {
        /// Who gets it.
        to: ClientId,
        /// What.
        line: Shown,
        /// Its places in the log. It is never read back from there: there it has no label.
        entries: Option<Ids>,
        /// Its label or batch.
        worn: Worn,
    },
    /// A line to clients, as one of a batch that was opened for them.
    Within {
        /// Who gets it.
        to: Box<[ClientId]>,
        /// What.
        line: Shown,
        /// Its places in the log.
        entries: Option<Ids>,
        /// Their reference of the batch.
        batch: Bytes,
    },
    /// Something else into the queue of a client.
    Put(ClientId, Item),
    /// From here on the client belongs to [`Audience::All`].
    Admit(ClientId),
    /// From here on the client's lines have another form.
    View(ClientId, View),
    /// The client is told to go.
    Dismiss(ClientId, String),
    /// So many lines of the client are dealt with: it may send as many more. At once.
    Credit(ClientId, u32),
    /// The network's status changed. At once.
    Status(Box<NetworkStatus>),
    /// Ends the link to the server. At once.
    Unlink(LinkEnd),
    /// Dials. At once.
    Dial(Dial),
    /// Hashes a password, which takes its time, for [`super::Network::salted`]. At once.
    Salt {
        /// The password.
        password: Secret,
        /// What it is hashed with.
        salt: Bytes,
        /// How many rounds.
        iterations: u32,
    },
}

/// One input's effects.
#[derive(Debug)]
pub struct Turn {
    /// When it came.
    pub now: Now,
    /// What it led to, in order.
    pub actions: Vec<Action>,
    /// Lines for the server wait until what the input led to is labelled.
    pub(super) holding: bool,
    /// Lines for the server were queued while they had to wait.
    pub(super) queued: bool,
    /// What the line at hand answers.
    pub(super) answers: Option<Answers>,
}

impl Turn {
    /// An empty turn.
    pub fn new(now: Now) -> Self {
        Self {
            now,
            actions: Vec::new(),
            holding: false,
            queued: false,
            answers: None,
        }
    }

    pub(super) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn send(&mut self, line: Bytes) {
        self.push(Action::Send(line));
    }

    /// A line of ours, to be shown now.
    pub(super) fn deliver(&mut self, to: Audience, line: Bytes) {
        let line = Shown {
            time: self.now.time,
            msgid: None,
            tags: Bytes::new(),
            line,
        };
        self.push(Action::Deliver {
            to,
            line,
            entries: None,
        });
    }

    /// A line of ours in a batch that is open.
    pub(super) fn within(&mut self, to: Box<[ClientId]>, line: Bytes, batch: Bytes) {
        let line = Shown {
            time: self.now.time,
            msgid: None,
            tags: Bytes::new(),
            line,
        };
        self.push(Action::Within {
            to,
            line,
            entries: None,
            batch,
        });
    }

    pub(super) fn tell(&mut self, to: ClientId, line: Bytes) {
        self.deliver(Audience::One(to), line);
    }

    /// The same with a label or in a batch.
    pub(super) fn reply(&mut self, to: ClientId, line: Bytes, worn: Worn) {
        let line = Shown {
            time: self.now.time,
            msgid: None,
            tags: Bytes::new(),
            line,
        };
        self.push(Action::Reply {
            to,
            line,
            entries: None,
            worn,
        });
    }
}
