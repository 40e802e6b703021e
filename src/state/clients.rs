//! Attached clients: coming, proving what they have, going. What a client is told when it comes is
//! `burst`'s.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::config::{HistoryRules, Replay};
use crate::history::{EntryId, Missed, MissedTarget, Only};
use crate::wire::{Cap, CapSet, CaseMapping, Name, Timestamp};

use super::Network;
use super::away::Reason;
use super::chathistory::ON_REQUEST;
use super::coverage::Coverage;
use super::metadata::Keys;
use super::multiline::Draft;
use super::positions::{Covered, Proof};
use super::status::ClientStatus;
use super::turn::{Action, ClientId, Renamed, Ticks, Turn};

/// A client that has logged in and wants to attach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newcomer {
    /// Its number.
    pub id: ClientId,
    /// Its client name, empty when it gave none.
    pub name: String,
    /// Where it comes from.
    pub address: String,
    /// Capabilities it has enabled.
    pub caps: CapSet,
    /// The CAP version it speaks; 0: none.
    pub version: u16,
    /// The nick it registered with.
    #[serde(with = "crate::wire::latin1")]
    pub nick: bytes::Bytes,
    /// What it said by AWAY before it attached; empty: that its user is there.
    #[serde(with = "crate::wire::latin1::option")]
    pub away: Option<bytes::Bytes>,
    /// What the store knows that it may have missed, up to `through`.
    #[serde(skip)]
    pub missed: Vec<MissedTarget>,
    /// Up to here `missed` looked.
    pub through: EntryId,
    /// Why the store could not be asked; empty when it was.
    pub unread: String,
}

/// An attached client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Attached {
    pub(super) name: String,
    address: String,
    since: Timestamp,
    pub(super) caps: CapSet,
    pub(super) version: u16,
    /// The head of the log when it attached: it was given every later line.
    head: EntryId,
    /// What it was given of each target.
    coverage: Coverage,
    /// Targets still to be introduced; their lines are not given live.
    pub(super) arriving: Arriving,
    /// Channels among them that were detached while it was here: of what was said meanwhile it is given no more than at
    /// an attach.
    pub(super) attached_again: BTreeSet<Name>,
    /// The last stored line it was given live.
    pub(super) given: EntryId,
    /// The last line of its own, which needs no proof.
    pub(super) own: EntryId,
    /// When it last did anything but PING and PONG.
    pub(super) active_at: Ticks,
    /// Whom it wants to know of (MONITOR).
    pub(super) monitor: BTreeSet<Name>,
    /// The metadata it wants to be told.
    pub(super) subscriptions: Keys,
    /// The message of several lines that it is saying.
    pub(super) draft: Option<Box<Draft>>,
    /// It is here without its user (`AWAY *`).
    pub(super) absent: bool,
    /// It logged in here by SASL: what it hears of `sasl` it would take for ours, and send our password to the network.
    own_sasl: bool,
    /// Why its user is away.
    pub(super) away: Option<Reason>,
    /// What its user writes to people is shown as it stands.
    pub(super) own_messages: bool,
}

/// Targets to be introduced, in order. Emptiness is asked for each line, membership only when not empty.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Arriving {
    order: VecDeque<Name>,
    members: BTreeSet<Name>,
}

impl Arriving {
    pub(super) fn contains(&self, target: &Name) -> bool {
        !self.members.is_empty() && self.members.contains(target)
    }

    pub(super) fn push(&mut self, target: Name) {
        if self.members.insert(target.clone()) {
            self.order.push_back(target);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Name> {
        let target = self.order.pop_front()?;
        self.members.remove(&target);
        Some(target)
    }

    pub(super) fn remove(&mut self, target: &Name) {
        self.members.remove(target);
        self.order.retain(|t| t != target);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl Attached {
    fn new(newcomer: Newcomer, head: EntryId, turn: &Turn) -> Self {
        Self {
            own_sasl: newcomer.caps.has(Cap::Sasl),
            name: newcomer.name,
            address: newcomer.address,
            since: turn.now.time,
            caps: newcomer.caps,
            version: newcomer.version,
            head,
            coverage: Coverage::default(),
            arriving: Arriving::default(),
            attached_again: BTreeSet::new(),
            given: head,
            own: EntryId::default(),
            active_at: turn.now.ticks,
            monitor: BTreeSet::new(),
            subscriptions: Keys::new(),
            draft: None,
            absent: newcomer.away.as_deref() == Some(b"*"),
            away: None,
            own_messages: true,
        }
    }

    /// Which of the server's capabilities it is told of as they come and go.
    pub(super) fn follows(&self, caps: CapSet) -> CapSet {
        let mut caps = caps;
        if self.own_sasl {
            caps.remove(Cap::Sasl);
        }
        caps
    }

    /// Whether its being attached says that the user is there.
    pub(super) fn counts_for_presence(&self) -> bool {
        !self.absent
    }

    pub(super) fn status(&self, id: ClientId) -> ClientStatus {
        ClientStatus {
            id,
            name: self.name.clone(),
            address: self.address.clone(),
            since: self.since,
        }
    }

    /// A line of this target is kept from it for now.
    pub(super) fn withhold(&mut self, target: &Name, first: EntryId) {
        self.coverage.withhold(target, first, self.head);
    }

    /// A target is introduced: after which entry its lines are due, if any are.
    pub(super) fn introduce(
        &mut self,
        target: &Name,
        position: Option<EntryId>,
        head: EntryId,
    ) -> Option<EntryId> {
        self.coverage.introduce(target, position, head, self.head)
    }

    /// What it lacks when a channel gets another name, that it will not be given of itself.
    pub(super) fn lacks(&self, old: &Name, new: &Name, new_after: Option<EntryId>) -> Renamed {
        Renamed {
            old: old.clone(),
            late: self.coverage.late(old),
            own_after: new_after.filter(|_| !self.coverage.knows(new)),
        }
    }

    pub(super) fn replay_anew(&mut self, target: &Name, from: EntryId, late: (EntryId, EntryId)) {
        self.coverage.replay(target, from, late);
    }

    /// A channel has another name.
    pub(super) fn rename(&mut self, old: &Name, new: &Name) {
        self.coverage.rename(old, new);
        if self.attached_again.remove(old) {
            self.attached_again.insert(new.clone());
        }
        if self.arriving.contains(old) {
            self.arriving.remove(old);
            self.arriving.push(new.clone());
        }
    }

    /// The network compares names in another way from now on.
    pub(super) fn refold(&mut self, mapping: CaseMapping) {
        self.coverage.refold(mapping);
        for names in [&mut self.monitor, &mut self.attached_again] {
            let refolded = std::mem::take(names);
            *names = refolded.iter().map(|name| name.refold(mapping)).collect();
        }
        let arriving = std::mem::take(&mut self.arriving).order.into_iter();
        arriving.for_each(|target| self.arriving.push(target.refold(mapping)));
    }
}

impl Network {
    /// Admits a client: tells it everything and gives it every later line.
    pub fn attach(&mut self, newcomer: Newcomer, turn: &mut Turn) {
        self.forget_unused(&newcomer.name, turn);
        // Who can ask for what it wants is told nothing unasked.
        let asks = !newcomer.caps.intersection(ON_REQUEST).is_empty();
        let missed = match asks && self.is_bound() {
            true => Some(BTreeMap::new()),
            false if newcomer.unread.is_empty() => Some(self.missed_by(&newcomer)),
            false => None,
        };
        let head = self.head();
        self.begin_telling(&newcomer.name, turn);
        // Without knowing what was missed its position stays where it is: all after that is due when it comes again.
        if let Some(missed) = missed {
            let time = turn.now.time;
            let writes = self.positions.attach(&newcomer.name, head, missed, time);
            turn.actions.extend(writes.into_iter().map(Action::Record));
        }
        let unread = newcomer.unread.clone();
        let (id, away) = (newcomer.id, newcomer.away.clone());
        let mut client = Attached::new(newcomer, head, turn);
        client.own_messages = self.settings.network.own_messages;
        turn.push(Action::Admit(id));
        turn.push(Action::View(id, client.view()));
        self.clients.insert(id, client);
        match away {
            Some(text) => self.set_away(id, &text, turn),
            None => self.come_back(id, turn),
        }
        self.burst(id, turn);
        self.tell_unread(id, &unread, turn);
        self.publish(turn);
    }

    /// Client names that nobody has used for long are forgotten when another client comes.
    fn forget_unused(&mut self, newcomer: &str, turn: &mut Turn) {
        let clients = &self.clients;
        let writes = self.positions.forget_unused(turn.now, |name| {
            name == newcomer || clients.values().any(|client| client.name == name)
        });
        turn.actions.extend(writes.into_iter().map(Action::Record));
    }

    /// A client name gives way to others of the user. One that is in use after all stays.
    pub fn forget_name(&mut self, name: &str, turn: &mut Turn) {
        if self.clients.values().any(|client| client.name == name) {
            return;
        }
        let writes = self.positions.give_way(name, turn.now.time);
        turn.actions.extend(writes.into_iter().map(Action::Record));
    }

    /// What the store is to be asked for a client of this name that wants to attach. The answer and
    /// `through` go into its [`Newcomer`].
    pub fn question(&self, client: &str) -> Missed {
        let network = &self.settings.network;
        let known = self.positions.knows(client);
        let own = network.channels.iter().map(|channel| {
            let target = self
                .name(channel.name.as_bytes())
                .folded()
                .collect::<Vec<_>>();
            (
                target.into(),
                newest(&channel.history, known),
                kinds(&channel.history),
            )
        });
        let all = network.channels.iter().map(|channel| &channel.history);
        let always = all
            .chain([&network.history])
            .any(|rules| rules.replay == Replay::Last);
        Missed {
            through: self.head(),
            after: if always {
                EntryId::default()
            } else {
                self.positions.lowest(client)
            },
            kinds: kinds(&network.history),
            newest: newest(&network.history, known),
            overrides: own.collect(),
        }
    }

    /// From where each target is behind for a client that attaches now.
    fn missed_by(&self, newcomer: &Newcomer) -> BTreeMap<Name, EntryId> {
        let known = self.positions.knows(&newcomer.name);
        let mut newest: BTreeMap<Name, (EntryId, EntryId)> = newcomer
            .missed
            .iter()
            .map(|m| (self.name(&m.target), (m.last, m.nth)))
            .collect();
        let only_messages = |target: &Name| self.rules(target).only_messages;
        for (target, last) in self.recent.after(newcomer.through, only_messages) {
            newest.entry(target.clone()).or_default().0 = last;
        }
        newest
            .into_iter()
            .filter_map(|(target, (last, nth))| {
                let rules = self.rules(&target);
                let position = match rules.replay {
                    Replay::Last => self.positions.floor(&target),
                    _ => self.positions.get(&newcomer.name, &target),
                };
                let from = start_of(rules, known, position, nth)?;
                (last > from).then_some((target, from))
            })
            .collect()
    }

    /// The history rules of a target.
    pub(super) fn rules(&self, target: &Name) -> &HistoryRules {
        let network = &self.settings.network;
        let channel = network
            .channels
            .iter()
            .find(|c| target.is(c.name.as_bytes()));
        channel.map_or(&network.history, |c| &c.history)
    }

    /// A client proved what it has.
    pub fn proved(&mut self, from: ClientId, proof: &Proof, turn: &mut Turn) {
        let Some(client) = self.clients.get(&from) else {
            return;
        };
        let time = turn.now.time;
        let pages = proof.pages.iter().filter_map(|page| {
            let newest = self.recent.newest(&page.target);
            self.positions.prove_page(&client.name, page, newest, time)
        });
        turn.actions
            .extend(pages.map(Action::Record).collect::<Vec<_>>());
        let Some(live) = proof.live else { return };
        // Own lines that follow the last line given need no proof of their own.
        let own = if live >= client.given {
            client.own
        } else {
            live
        };
        let proved = live..=live.max(own);
        let Some(client) = self.clients.get_mut(&from) else {
            return;
        };
        client.coverage.proved(live);
        let Some(client) = self.clients.get(&from) else {
            return;
        };
        let covered = |target: &Name, behind| {
            let upto = client
                .coverage
                .covered(target, behind, &proved, client.head)?;
            let newest = self.recent.newest(target);
            let mut same = self.clients.values().filter(|c| c.name == client.name);
            let late = same.any(|c| c.coverage.has_late(target));
            Some(Covered { upto, newest, late })
        };
        let mark = *proved.end();
        let writes = self.positions.prove_live(&client.name, mark, time, covered);
        turn.actions.extend(writes.into_iter().map(Action::Record));
    }

    /// The client's own line is in the log: with nothing outstanding its position moves at once.
    pub(super) fn own_line(&mut self, from: ClientId, turn: &mut Turn) {
        let Some(client) = self.clients.get(&from) else {
            return;
        };
        let (name, own, given) = (client.name.clone(), client.own, client.given);
        let mark = self.positions.mark(&name);
        if own > given && mark >= given && self.has_all(&name) {
            let writes = self
                .positions
                .prove_live(&name, own, turn.now.time, |_, _| None);
            turn.actions.extend(writes.into_iter().map(Action::Record));
        }
    }

    /// Whether nothing is under way to the clients of this name. What is detached is not.
    fn has_all(&self, name: &str) -> bool {
        let mut behind = self.positions.behind(name);
        behind.all(|target| self.is_detached(target))
    }

    /// What a client of this name said last came back when it was gone. Had it everything before, it has this too.
    pub(super) fn own_line_of_gone(&mut self, name: &str, id: EntryId, turn: &mut Turn) {
        if self.has_all(name) && self.positions.mark(name) == id.before() {
            let time = turn.now.time;
            let writes = self.positions.prove_live(name, id, time, |_, _| None);
            turn.actions.extend(writes.into_iter().map(Action::Record));
        }
    }

    /// A client said more than fits in a line; nothing of it is taken.
    pub fn too_long(&mut self, from: ClientId, turn: &mut Turn) {
        turn.tell(
            from,
            self.numeric(417)
                .trailing(b"Input line was too long")
                .build(),
        );
    }

    /// The client is gone. `proof`: what an orderly close proves.
    pub fn detach(&mut self, from: ClientId, proof: &Proof, turn: &mut Turn) {
        self.proved(from, proof, turn);
        if let Some(client) = self.clients.remove(&from) {
            // With echo-message it has seen what it said once that came back.
            let knows_own = !client.caps.has(Cap::EchoMessage);
            let name = Some(client.name.as_str()).filter(|_| knows_own);
            self.outgoing.forget(from, name);
            self.pending.forget(from, name);
            self.forget_applicant(from, turn);
            self.leave_behind_away(turn);
            self.forget_strangers();
            self.monitor_upstream(turn);
            self.unsubscribe_for(&client.subscriptions, turn);
            self.replies.forget(from);
            self.forget_relayed(from);
            self.publish(turn);
        }
    }
}

/// How many of a target's newest lines are replayed at most; 0: no limit.
fn newest(rules: &HistoryRules, known: bool) -> u64 {
    match (rules.replay, known) {
        (Replay::Unseen, false) if rules.lines > 0 => rules.first_lines.min(rules.lines),
        (Replay::Unseen, false) => rules.first_lines,
        (Replay::Unseen | Replay::Last, _) => rules.lines,
        (Replay::None, _) => 0,
    }
}

fn kinds(rules: &HistoryRules) -> Only {
    if rules.only_messages {
        Only::Messages
    } else {
        Only::All
    }
}

/// After which entry a target is replayed; `None`: not at all. `nth` is the entry before the newest N.
fn start_of(rules: &HistoryRules, known: bool, position: EntryId, nth: EntryId) -> Option<EntryId> {
    match (rules.replay, known) {
        (Replay::None, _) => None,
        (Replay::Unseen, true) if rules.lines > 0 => Some(position.max(nth)),
        (Replay::Unseen, true) => Some(position),
        (Replay::Unseen, false) if rules.first_lines == 0 => None,
        (Replay::Unseen, false) | (Replay::Last, _) => Some(position.max(nth)),
    }
}
