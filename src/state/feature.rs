//! The table of what carom speaks. A feature is one subject of the protocol; whatever knows about it
//! stands in one file and is listed here by one word. Dispatch, capabilities and forms are made from
//! this table.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;

use crate::wire::{Cap, CapSet, Line};

use super::labels::{self, ReplyId};
use super::turn::{ClientId, Turn, View};
use super::{
    Network, accounts, away, batches, capabilities, channels, chathistory, identity, invite, joins,
    liveness, messages, metadata, modes, monitor, multiline, names, networks, nicks, playback,
    read_marker, redaction, rename, replies, sasl, search, service, support, topics, who,
};

/// One subject of the protocol.
pub(super) struct Feature {
    /// Capabilities, and where they come from.
    pub(super) offers: &'static [Offer],
    /// What a server may say.
    pub(super) server: &'static [Rule<OnServer>],
    /// What a client may ask.
    pub(super) client: &'static [Rule<OnClient>],
    /// Its lines as a client without the capability gets them.
    pub(super) forms: &'static [Form],
}

/// A feature that is neither offered, nor said, nor asked: to be filled in from.
pub(super) const NOTHING: Feature = Feature {
    offers: &[],
    server: &[],
    client: &[],
    forms: &[],
};

/// A capability that clients are offered.
pub(super) struct Offer(pub(super) Cap, pub(super) Source);

/// Where a capability comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// carom has it whatever the server can: offered always.
    Ours,
    /// carom has it wherever there is a network: not in a lobby.
    OursWhenBound,
    /// carom passes it on: offered while the server has it.
    Server,
}

/// What is done about a command.
pub(super) struct Rule<H> {
    /// The command or numeric, in capitals.
    pub(super) name: &'static [u8],
    /// With fewer parameters it is nonsense: ignored from a server, 461 to a client.
    pub(super) least: usize,
    /// What is done.
    pub(super) run: H,
}

impl<H> Rule<H> {
    pub(super) const fn new(name: &'static [u8], least: usize, run: H) -> Self {
        Self { name, least, run }
    }
}

pub(super) type OnServer = fn(&mut Network, &Received<'_>, &mut Turn);
pub(super) type OnClient = fn(&mut Network, &Asked<'_>, &mut Turn) -> Answer;

/// When a client's line is dealt with: its credit comes back, and its label has its answer. A rule tells the
/// client what it has to tell; that it is labelled, and how, is not its business.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// What this turn told the client, or put into its queue, is the answer.
    Now,
    /// It was handed to [`Network::forward`], [`Network::send_for`] or [`Network::queue_said`], which end it.
    Later,
}

/// The form of a command's lines for clients that lack its capability. Writes the line without tags;
/// writes nothing when the line is not for such a client.
pub(super) struct Form {
    pub(super) command: &'static [u8],
    pub(super) unless: Cap,
    pub(super) write: fn(&Line<'_>, View, &mut Vec<u8>),
}

/// A line from the server.
pub(super) struct Received<'a> {
    /// The view of it.
    pub(super) line: Line<'a>,
    /// Its bytes, to be shared.
    pub(super) raw: &'a Bytes,
    /// The other lines of the message, when it has several: the value of `compound`'s tag.
    pub(super) lines: Option<&'a [u8]>,
}

impl Received<'_> {
    /// The line without tags, sharing its bytes.
    pub(super) fn body(&self) -> Bytes {
        self.raw.slice_ref(self.line.body())
    }
}

/// A line from a client.
pub(super) struct Asked<'a> {
    /// Who asks.
    pub(super) from: ClientId,
    /// The view of it.
    pub(super) line: Line<'a>,
    /// Its label, if it has one.
    pub(super) reply: Option<ReplyId>,
}

static FEATURES: &[&Feature] = &[
    &accounts::ACCOUNTS,
    &away::AWAY,
    &batches::BATCHES,
    &capabilities::CAPABILITIES,
    &channels::CHANNELS,
    &chathistory::CHATHISTORY,
    &identity::IDENTITY,
    &invite::INVITE,
    &joins::JOINS,
    &labels::LABELS,
    &liveness::LIVENESS,
    &messages::MESSAGES,
    &metadata::METADATA,
    &modes::MODES,
    &monitor::MONITOR,
    &multiline::MULTILINE,
    &names::NAMES,
    &networks::NETWORKS,
    &nicks::NICKS,
    &playback::PLAYBACK,
    &read_marker::READ_MARKERS,
    &redaction::REDACTION,
    &rename::RENAME,
    &replies::REPLIES,
    &sasl::SASL,
    &search::SEARCH,
    &service::SERVICE,
    &support::SUPPORT,
    &topics::TOPICS,
    &who::WHO,
];

/// All of them.
pub(super) fn features() -> &'static [&'static Feature] {
    FEATURES
}

type Table<H> = BTreeMap<&'static [u8], &'static Rule<H>>;

static SAID: LazyLock<Table<OnServer>> = LazyLock::new(|| {
    FEATURES
        .iter()
        .flat_map(|f| f.server)
        .map(|r| (r.name, r))
        .collect()
});

static ASKED: LazyLock<Table<OnClient>> = LazyLock::new(|| {
    FEATURES
        .iter()
        .flat_map(|f| f.client)
        .map(|r| (r.name, r))
        .collect()
});

static FORMS: LazyLock<Vec<&'static Form>> =
    LazyLock::new(|| FEATURES.iter().flat_map(|f| f.forms).collect());

/// A command in capitals, without a heap block. Longer ones are nobody's.
fn capitals(command: &[u8], buffer: &mut [u8; 16]) -> usize {
    let len = command.len().min(buffer.len());
    buffer[..len].copy_from_slice(&command[..len]);
    buffer[..len].make_ascii_uppercase();
    len
}

fn rule<H>(table: &Table<H>, command: &[u8]) -> Option<&'static Rule<H>> {
    let mut buffer = [0; 16];
    let len = capitals(command, &mut buffer);
    table.get(&buffer[..len]).copied()
}

/// What is done about a line of the server.
pub(super) fn said(command: &[u8]) -> Option<&'static Rule<OnServer>> {
    rule(&SAID, command)
}

/// What is done about a line of a client.
pub(super) fn asked(command: &[u8]) -> Option<&'static Rule<OnClient>> {
    rule(&ASKED, command)
}

/// The form of a command's lines for this view, when it is not the line itself.
pub(super) fn form(command: &[u8], view: View) -> Option<&'static Form> {
    FORMS
        .iter()
        .copied()
        .find(|f| !view.caps.has(f.unless) && command.eq_ignore_ascii_case(f.command))
}

/// What is offered by one kind of source.
pub(super) fn offered(source: Source) -> CapSet {
    FEATURES
        .iter()
        .flat_map(|f| f.offers)
        .filter(|o| o.1 == source)
        .map(|o| o.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_features_claim_a_name() {
        let mut said: Vec<_> = FEATURES
            .iter()
            .flat_map(|f| f.server)
            .map(|r| r.name)
            .collect();
        let mut asked: Vec<_> = FEATURES
            .iter()
            .flat_map(|f| f.client)
            .map(|r| r.name)
            .collect();
        let mut caps: Vec<_> = FEATURES
            .iter()
            .flat_map(|f| f.offers)
            .map(|o| o.0.name())
            .collect();
        for names in [&mut said, &mut asked] {
            let before = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(before, names.len());
            assert!(
                names
                    .iter()
                    .all(|n| n.len() <= 16 && n.to_ascii_uppercase() == *n)
            );
        }
        let before = caps.len();
        caps.sort_unstable();
        caps.dedup();
        assert_eq!(before, caps.len());
    }
}
