//! A network with its clients, its store and its clocks, without sockets: performs what turns ask for, as
//! plainly as it can be done, and writes down what the server and the clients are told. Between any two
//! inputs the network is written as JSON and read back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use carom::config::TimeStyle;
use carom::history::{EntryId, Ids, Write};
use carom::state::forms::{Dress, encode};
use carom::state::{
    self, Action, Ask, Audience, ClientId, Dial, Item, LinkEnd, LinkStatus, Network, Newcomer, Now,
    Page, Plan, Proof, Salted, Settings, Shown, Ticks, Turn, View,
};
use carom::wire::{Cap, CapSet, Name, Timestamp};

use super::asks::as_now;
use super::escape::escape;
use super::store::Store;

/// 2026-01-02T08:00:00.000Z
const START: i64 = 1_767_340_800_000;

/// A client as its writer sees it.
#[derive(Debug, Default)]
pub struct Client {
    pub label: String,
    view: View,
    admitted: bool,
    pub dismissed: bool,
    /// Lines it has said that were not returned as credit.
    pub owed: u32,
    /// What its writer has not come to, while it is not to go on.
    pub waiting: Option<VecDeque<super::late::Late>>,
    /// The last line that was replayed of each target.
    replayed: BTreeMap<Name, EntryId>,
    /// Batches that are open.
    pub batches: BTreeSet<Vec<u8>>,
    /// Labels it gave that were not answered, and how often it gave each.
    pub labels: BTreeMap<Vec<u8>, u32>,
    /// What was written since its last proof, in order.
    pub unproved: VecDeque<Given>,
}

/// Something a client was given, and what it proves when it is the last that is proved.
#[derive(Debug)]
pub struct Given {
    /// The stored line, if it is one.
    pub line: Bytes,
    live: Option<EntryId>,
    page: Option<Page>,
}

/// A line that went out: to whom (`>`, `a>`, `!`) and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub to: String,
    pub line: Vec<u8>,
}

impl Told {
    /// As it stands in a transcript.
    pub fn text(&self) -> String {
        format!("{} {}", self.to, escape(&self.line))
            .trim_end()
            .to_owned()
    }
}

/// Everything around one network.
pub struct World {
    pub settings: Settings,
    pub network: Network,
    pub store: Store,
    pub clients: BTreeMap<ClientId, Client>,
    pub now: Now,
    pub told: Vec<Told>,
    /// While the store is slow: what waits for it.
    held: Option<Vec<Action>>,
    next_client: u64,
    /// What the next client said by AWAY before it attaches.
    pub away: Option<Bytes>,
    /// The writer of the next client does nothing at first.
    pub slow: bool,
    batches: u64,
    portions: VecDeque<ClientId>,
    /// One turn in so many is followed by a hand-over.
    pub hand_overs: u32,
    turns: u32,
    /// A password was hashed.
    salted: Option<Salted>,
}

impl World {
    pub fn new(settings: Settings) -> Self {
        let store = Store::default();
        let now = Now {
            ticks: Ticks(1_000),
            time: Timestamp::from_millis(START),
        };
        Self {
            network: Network::new(settings.clone(), store.remembered(), 1),
            settings,
            store,
            clients: BTreeMap::new(),
            now,
            told: Vec::new(),
            held: None,
            next_client: 0,
            away: None,
            slow: false,
            batches: 0,
            portions: VecDeque::new(),
            hand_overs: 1,
            turns: 0,
            salted: None,
        }
    }

    /// One input, all of its effects, and a hand-over.
    pub fn turn(&mut self, input: impl FnOnce(&mut Network, &mut Turn)) {
        let mut turn = Turn::new(self.now);
        input(&mut self.network, &mut turn);
        self.perform(turn.actions);
        self.go_on();
        self.turns += 1;
        if self.turns.is_multiple_of(self.hand_overs) {
            self.hand_over();
        }
    }

    /// Where it goes is told when that is not as configured.
    fn dial(&mut self) {
        let servers = self.network.to_dial(self.now.time).servers;
        let told = match servers == self.settings.network.servers {
            true => "dial".to_owned(),
            false => {
                let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
                format!("dial {}", servers.join(" "))
            }
        };
        self.tell("!", told.as_bytes());
    }

    fn go_on(&mut self) {
        if let Some(salted) = self.salted.take() {
            let mut turn = Turn::new(self.now);
            self.network.salted(&salted, &mut turn);
            self.perform(turn.actions);
        }
        while let Some(id) = self.portions.pop_front() {
            let mut turn = Turn::new(self.now);
            self.network.more(id, &mut turn);
            self.perform(turn.actions);
        }
    }

    /// Whether the network waits for a connection that the shell is to make.
    pub fn is_dialling(&self) -> bool {
        matches!(self.network.status().link, LinkStatus::Connecting { .. })
    }

    /// The store takes its time: nothing is stored, and so nothing told, until `commit`.
    pub fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    pub fn commit(&mut self) {
        if let Some(held) = self.held.take() {
            self.perform(held);
            self.go_on();
        }
    }

    fn hand_over(&mut self) {
        let written = serde_json::to_string(&self.network).expect("the network can be written");
        let read: Network = serde_json::from_str(&written).expect("the network can be read back");
        let again = serde_json::to_string(&read).expect("the network can be written again");
        assert_eq!(
            written, again,
            "nothing is lost between writing and reading"
        );
        self.network = read.with_settings(self.settings.clone());
    }

    /// Time passes; whatever falls due on the way is done when it does.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now.ticks.plus(span);
        let mut ticks = 0;
        while let Some(due) = self.network.deadline().filter(|due| *due <= end) {
            self.set_clock(due.max(self.now.ticks));
            self.turn(Network::tick);
            ticks += 1;
            assert!(ticks < 100_000, "the network ticks without end");
        }
        self.set_clock(end);
    }

    fn set_clock(&mut self, ticks: Ticks) {
        let span = i64::try_from(ticks.since(self.now.ticks).as_millis()).expect("a short time");
        self.now = Now {
            ticks,
            time: self.now.time.plus_millis(span),
        };
    }

    /// Attaches a client; the store is asked what it missed.
    pub fn attach(&mut self, label: &str, name: &str, caps: CapSet, version: u16, nick: &[u8]) {
        self.next_client += 1;
        let id = ClientId(self.next_client);
        let ask = self.network.question(name);
        let newcomer = Newcomer {
            id,
            name: name.to_owned(),
            address: "[::1]:5".to_owned(),
            caps,
            version,
            nick: Bytes::copy_from_slice(nick),
            away: self.away.take(),
            missed: self.store.missed(&ask),
            through: ask.through,
            unread: String::new(),
        };
        let client = Client {
            label: label.to_owned(),
            waiting: std::mem::take(&mut self.slow).then(VecDeque::new),
            ..Client::default()
        };
        self.clients.insert(id, client);
        self.turn(|network, turn| network.attach(newcomer, turn));
    }

    /// The client of this label.
    pub fn id_of(&self, label: &str) -> Option<ClientId> {
        self.clients
            .iter()
            .find(|(_, c)| c.label == label)
            .map(|(id, _)| *id)
    }

    pub fn say(&mut self, from: ClientId, line: &[u8]) {
        let raw = Bytes::copy_from_slice(line);
        if let Some(client) = self.clients.get_mut(&from) {
            client.owed += 1;
            let caps = client.view.caps;
            if let Some(label) = label_of(line)
                && caps.has(Cap::LabeledResponse)
                && caps.has(Cap::Batch)
                && label.len() <= 64
            {
                *client.labels.entry(label).or_default() += 1;
            }
        }
        self.turn(|network, turn| network.relay(from, &raw, turn));
    }

    /// A client goes; `proved`: as an orderly close proves it. The lines it proved.
    pub fn detach(&mut self, id: ClientId, proved: bool) -> Vec<Bytes> {
        let (proof, lines) = self.take_proof(id, if proved { usize::MAX } else { 0 });
        self.clients.remove(&id);
        self.turn(|network, turn| network.detach(id, &proof, turn));
        lines
    }

    /// The client proves the first so many of the lines it was given. Which they are.
    pub fn prove(&mut self, id: ClientId, most: usize) -> Vec<Bytes> {
        let (proof, lines) = self.take_proof(id, most);
        self.turn(|network, turn| network.proved(id, &proof, turn));
        lines
    }

    fn take_proof(&mut self, id: ClientId, most: usize) -> (Proof, Vec<Bytes>) {
        let (mut proof, mut lines) = (Proof::default(), Vec::new());
        let Some(client) = self.clients.get_mut(&id) else {
            return (proof, lines);
        };
        for given in client.unproved.drain(..most.min(client.unproved.len())) {
            proof.live = given.live.or(proof.live);
            if let Some(page) = given.page {
                proof.pages.retain(|earlier| earlier.target != page.target);
                proof.pages.push(page);
            }
            lines.push(given.line);
        }
        lines.retain(|line| !line.is_empty());
        (proof, lines)
    }

    /// The process was killed: what the store holds is all that is left.
    pub fn restart(&mut self) {
        self.clients.clear();
        self.held = self.held.take().map(|_| Vec::new());
        self.network = Network::new(self.settings.clone(), self.store.remembered(), 2);
        self.turn(Network::start);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        use Action::{Admit, Deliver, Dismiss, Put, Record, Reply, View, Within};
        for action in actions {
            let waits = matches!(
                action,
                Record(_)
                    | Deliver { .. }
                    | Reply { .. }
                    | Within { .. }
                    | Put(..)
                    | Admit(_)
                    | View(..)
                    | Dismiss(..)
            );
            if waits && let Some(held) = &mut self.held {
                held.push(action);
                continue;
            }
            match action {
                Action::Send(line) => self.tell(">", &line),
                Record(write) => self.record(write),
                Deliver { to, line, entries } => self.deliver(&to, &line, entries),
                Reply {
                    to,
                    line,
                    entries,
                    worn,
                } => {
                    let dress = Dress {
                        label: worn.label.as_deref(),
                        batch: worn.batch.as_deref(),
                        ..Dress::default()
                    };
                    self.give(to, &line, entries, dress);
                }
                Within {
                    to,
                    line,
                    entries,
                    batch,
                } => {
                    for id in &to {
                        let dress = Dress {
                            batch: Some(&batch),
                            ..Dress::default()
                        };
                        self.give(*id, &line, entries, dress);
                    }
                }
                Put(id, item) => self.put(id, item),
                Admit(id) => self.with(id, |client| client.admitted = true),
                View(id, view) => self.put(id, Item::View(view)),
                Dismiss(id, why) => self.dismiss(id, &why),
                Action::Credit(id, lines) => self.with(id, |client| {
                    assert!(
                        client.owed >= lines,
                        "{}: more credit than lines",
                        client.label
                    );
                    client.owed -= lines;
                }),
                Action::Status(_) => {}
                Action::Unlink(LinkEnd::Flush) => self.tell("!", b"unlink after flush"),
                Action::Unlink(LinkEnd::Drop) => self.tell("!", b"unlink"),
                Action::Dial(Dial::Afresh) => self.dial(),
                Action::Salt {
                    password,
                    salt,
                    iterations,
                } => self.salted = Some(state::salt(password.reveal(), &salt, iterations)),
                Action::Dial(Dial::NextAddress) => self.tell("!", b"dial next address"),
                Action::Dial(Dial::From(n)) => self.tell("!", format!("dial from {n}").as_bytes()),
                Action::Dial(Dial::Stop) => self.tell("!", b"dial no more"),
            }
        }
    }

    fn with(&mut self, id: ClientId, change: impl FnOnce(&mut Client)) {
        if let Some(client) = self.clients.get_mut(&id) {
            change(client);
        }
    }

    fn tell(&mut self, to: &str, line: &[u8]) {
        assert!(
            line.iter().all(|b| !b"\r\n\0".contains(b)),
            "one line: {:?}",
            escape(line)
        );
        if let Some(label) = to.strip_suffix('>').filter(|label| !label.is_empty()) {
            self.batched(label, line);
        }
        self.told.push(Told {
            to: to.to_owned(),
            line: line.to_vec(),
        });
    }

    fn record(&mut self, write: Write) {
        self.store.append(write);
    }

    fn dismiss(&mut self, id: ClientId, why: &str) {
        self.with(id, |client| client.dismissed = true);
        if let Some(label) = self.clients.get(&id).map(|c| c.label.clone()) {
            self.tell(&format!("{label}!"), why.as_bytes());
        }
    }

    fn deliver(&mut self, to: &Audience, line: &Shown, entries: Option<Ids>) {
        let meant = |id: ClientId| match to {
            Audience::All => true,
            Audience::One(one) => id == *one,
            Audience::Except(one) => id != *one,
            Audience::Only(some) => some.contains(&id),
        };
        let ids: Vec<_> = self
            .clients
            .iter()
            .filter(|(_, c)| c.admitted)
            .map(|(id, _)| *id)
            .collect();
        for id in ids.into_iter().filter(|id| meant(*id)) {
            self.give(id, line, entries, Dress::default());
        }
    }

    pub fn give(&mut self, id: ClientId, line: &Shown, entries: Option<Ids>, dress: Dress<'_>) {
        if self.is_late(id, || super::late::Late::line(line, entries, dress)) {
            return;
        }
        self.write(id, line, dress);
        let Some(ids) = entries else { return };
        let given = Given {
            line: line.line.clone(),
            live: Some(ids.last),
            page: None,
        };
        self.with(id, |client| client.unproved.push_back(given));
    }

    /// Writes a line in the client's form, if it has one for it.
    pub fn write(&mut self, id: ClientId, line: &Shown, dress: Dress<'_>) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let mut out = Vec::new();
        encode(line, client.view, dress, &mut out);
        let to = format!("{}>", client.label);
        // A message may have several lines.
        for line in out.split_inclusive(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\r\n").unwrap_or(line);
            self.tell(&to, line);
            self.labelled(id, line);
        }
    }

    /// A line that carries a label answers it: each is answered once.
    fn labelled(&mut self, id: ClientId, line: &[u8]) {
        let Some(label) = label_of(line) else { return };
        self.with(id, |client| {
            let owed = client.labels.get_mut(&label);
            let owed = owed.filter(|owed| **owed > 0);
            *owed.expect("a label is answered that was not given, or a second time") -= 1;
        });
    }

    pub fn put(&mut self, id: ClientId, item: Item) {
        if self.is_late(id, || super::late::Late::Item(item.clone())) {
            return;
        }
        match item {
            Item::More => self.portions.push_back(id),
            Item::Ask {
                ask: Ask::Command(words),
                label: tag,
                ..
            } => {
                let label = self
                    .clients
                    .get(&id)
                    .map(|c| c.label.clone())
                    .unwrap_or_default();
                let tag = tag.map_or_else(Vec::new, |tag| [b"@label=", &tag[..], b" "].concat());
                let words = [&tag[..], words.reveal().as_bytes()].concat();
                self.tell(&format!("{label}?"), &words);
                self.labelled(id, &words);
            }
            Item::Ask { ask, label, after } => self.answer(id, ask, label.as_ref(), after),
            Item::View(view) => self.with(id, |client| client.view = view),
            Item::Close(why) => self.dismiss(id, &why),
            other => panic!("a network does not put {other:?}"),
        }
    }

    pub fn next_batch(&mut self) -> String {
        self.batches += 1;
        format!("r{}", self.batches)
    }

    pub fn view(&self, id: ClientId) -> View {
        self.clients.get(&id).map_or_else(View::default, |c| c.view)
    }

    /// What the client's writer does with a plan.
    pub fn replay(&mut self, id: ClientId, plan: &Plan) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let caps = client.view.caps;
        let given = plan
            .renamed
            .as_ref()
            .and_then(|r| client.replayed.get(&r.old));
        let lines = self.store.replay(plan, given.map_or(EntryId(0), |id| *id));
        let lines: Vec<(EntryId, Shown)> = lines.into_iter().map(shown).collect();
        let batched = caps.has(Cap::Batch) && !lines.is_empty();
        let batch = batched.then(|| self.next_batch());
        let server = self.settings.server.clone();
        if let Some(batch) = &batch {
            let start = format!(":{server} BATCH +{batch} chathistory {}", plan.target);
            self.own_line(id, start.as_bytes(), Dress::default());
        }
        if let Some((last, _)) = lines.last() {
            let last = *last;
            self.with(id, |client| {
                _ = client.replayed.insert(plan.target.clone(), last);
            });
        }
        let page = |through| Page {
            target: plan.target.clone(),
            through,
        };
        for (entry, mut line) in lines {
            as_now(&mut line, &plan.target, plan.own.as_deref());
            let stamp = match caps.has(Cap::ServerTime) {
                true => String::new(),
                false => stamp(&plan.timestamps, line.time, self.now.time),
            };
            let batch = batch.as_deref().map(str::as_bytes);
            self.write(
                id,
                &line,
                Dress {
                    batch,
                    stamp: stamp.as_bytes(),
                    ..Dress::default()
                },
            );
            let page = Some(page(entry));
            let given = Given {
                line: line.line,
                live: None,
                page,
            };
            self.with(id, |client| client.unproved.push_back(given));
        }
        if let Some(batch) = &batch {
            let end = format!(":{server} BATCH -{batch}");
            self.own_line(id, end.as_bytes(), Dress::default());
        }
        let end = Given {
            line: Bytes::new(),
            live: None,
            page: Some(page(plan.through)),
        };
        self.with(id, |client| client.unproved.push_back(end));
    }
}

/// The label of a line, of either side.
fn label_of(line: &[u8]) -> Option<Vec<u8>> {
    let line = carom::wire::Line::parse(line).ok()?;
    let tags = carom::wire::Tags::new(line.raw_tags());
    let labels = tags.filter(|(key, value)| *key == b"label" && !value.is_empty());
    labels.last().map(|(_, value)| value.to_vec())
}

pub fn shown(entry: &carom::history::Entry) -> (EntryId, Shown) {
    let line = Shown {
        time: entry.time,
        msgid: entry.msgid.clone(),
        tags: entry.tags.clone(),
        line: entry.line.clone(),
    };
    (entry.id, line)
}

/// The time of a line as text, in UTC.
fn stamp(style: &TimeStyle, time: Timestamp, now: Timestamp) -> String {
    let text = |time: Timestamp| {
        let mut out = Vec::new();
        time.write(&mut out);
        String::from_utf8(out).expect("a time is ASCII")
    };
    let (time, now) = (text(time), text(now));
    let (date, clock) = (&time[..10], &time[11..19]);
    match style {
        TimeStyle::None => String::new(),
        TimeStyle::Time if date == &now[..10] => format!("[{clock}] "),
        TimeStyle::Time | TimeStyle::DateTime => format!("[{date} {clock}] "),
        TimeStyle::Strftime(format) => format!("{format} "),
    }
}
