//! Attach, detach and be killed at any moment, while the clock goes as it likes: whatever happens, each client name is
//! given every line, and none twice that it has acknowledged. Held against a model that only keeps lists. More of it:
//!
//!     CAROM_TEST_SCHEDULES=100000 cargo test --test attach

#[path = "properties/labels.rs"]
mod labels;
mod transcript_runner;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use carom::state::orders::Order;
use carom::state::{ClientId, Facts, LinkStatus, Loss};
use carom::wire::{CapSet, Line};
use proptest::prelude::*;

use transcript_runner::config::settings;
use transcript_runner::world::World;

const CHANNELS: [&str; 2] = ["#a", "#b"];
const TARGETS: [&str; 4] = ["#a", "#b", "bob", "carol"];
const NAMES: [&str; 3] = ["phone", "desk", ""];

/// What happens.
#[derive(Debug, Clone)]
enum Event {
    /// Somebody says something to a channel or to us.
    Said(usize),
    /// One of our clients says something.
    Own(usize, usize),
    Attach(usize),
    /// A connection ends, in order or not.
    Detach(usize, bool),
    /// A connection proves the first so many of its lines.
    Prove(usize, usize),
    /// The link is lost and regained; channels are joined, their names come later.
    Relink,
    /// The names of a channel come to an end.
    Names(usize),
    /// A channel is detached, or attached again.
    Hide(usize, bool),
    /// The store is slow from here on.
    Hold,
    Commit,
    /// kill -9
    Kill,
    /// So many minutes pass.
    Pass(u64),
    /// The wall clock is set to another time, by so many minutes.
    Jump(i64),
}

/// Schedules that are played; `CAROM_TEST_SCHEDULES` says how many instead.
const SCHEDULES: u32 = 2000;

/// A leap second, a change of time zone, a wrong year, and 1970.
const JUMPS: [i64; 6] = [1, -1, -60, 366 * 1440, -366 * 1440, -60 * 366 * 1440];

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..TARGETS.len()).prop_map(Event::Said),
        2 => (0usize..4, 0..TARGETS.len()).prop_map(|(from, to)| Event::Own(from, to)),
        4 => (0..NAMES.len()).prop_map(Event::Attach),
        2 => (0usize..4, any::<bool>()).prop_map(|(who, proved)| Event::Detach(who, proved)),
        4 => (0usize..4, 0usize..6).prop_map(|(who, most)| Event::Prove(who, most)),
        1 => Just(Event::Relink),
        2 => (0..CHANNELS.len()).prop_map(Event::Names),
        2 => (0..CHANNELS.len(), any::<bool>()).prop_map(|(channel, hide)| Event::Hide(channel, hide)),
        1 => Just(Event::Hold),
        1 => Just(Event::Commit),
        1 => Just(Event::Kill),
        1 => (0u64..10).prop_map(Event::Pass),
        1 => (0..JUMPS.len()).prop_map(|n| Event::Jump(JUMPS[n])),
    ]
}

/// A connection as the model sees it.
#[derive(Debug, Default)]
struct Connection {
    id: ClientId,
    name: usize,
    /// What its name had acknowledged when it came.
    had: BTreeSet<u64>,
    got: Vec<u64>,
}

struct Model {
    world: World,
    /// Every line that was said and not lost with the process: its target, and which name said it.
    lines: BTreeMap<u64, (String, Option<usize>)>,
    next: u64,
    /// By name: acknowledged, for good.
    had: [BTreeSet<u64>; NAMES.len()],
    /// Acknowledged, and said, since the last commit.
    unstored: (Vec<(usize, u64)>, Vec<u64>),
    holding: bool,
    connections: Vec<Connection>,
    /// By name: everything it was ever given.
    given: [BTreeSet<u64>; NAMES.len()],
}

impl Model {
    fn new() -> Self {
        let settings = settings(["first_lines=1000000", "channel=#a", "channel=#b"].into_iter());
        let mut model = Self {
            world: World::new(settings),
            lines: BTreeMap::new(),
            next: 1,
            had: Default::default(),
            unstored: Default::default(),
            holding: false,
            connections: Vec::new(),
            given: Default::default(),
        };
        // Transcripts have one after each turn.
        model.world.hand_overs = 11;
        model.world.turn(carom::state::Network::start);
        model.link();
        model
    }

    fn receive(&mut self, line: &str) {
        let raw = Bytes::copy_from_slice(line.as_bytes());
        self.world.turn(|network, turn| network.receive(&raw, turn));
    }

    fn link(&mut self) {
        self.world
            .turn(|network, turn| network.linked(Facts::default(), turn));
        self.receive(":irc.test 001 alice :Welcome");
        self.receive(":irc.test 005 alice CHANTYPES=# PREFIX=(ov)@+ :are supported");
        self.receive(":irc.test 422 alice :No MOTD");
        for channel in CHANNELS {
            self.receive(&format!(":alice!al@host JOIN {channel}"));
            self.receive(&format!(":irc.test 353 alice = {channel} :alice bob"));
        }
    }

    fn names(&mut self, channel: &str) {
        self.receive(&format!(
            ":irc.test 366 alice {channel} :End of /NAMES list"
        ));
    }

    fn hide(&mut self, channel: &'static str, hide: bool) {
        let channel = Bytes::from_static(channel.as_bytes());
        let order = match hide {
            true => Order::Detach(channel),
            false => Order::Attach(channel),
        };
        self.world
            .turn(|network, turn| _ = network.order(order, turn));
    }

    fn say(&mut self, target: &str, own_of: Option<usize>) -> u64 {
        let n = self.next;
        self.next += 1;
        self.lines.insert(n, (target.to_owned(), own_of));
        if self.holding {
            self.unstored.1.push(n);
        }
        n
    }

    fn play(&mut self, event: &Event) {
        let connections = self.connections.len();
        let chosen = |n: usize| (connections > 0).then(|| n % connections);
        match event {
            Event::Said(target) => {
                let target = TARGETS[*target];
                let n = self.say(target, None);
                match target.starts_with('#') {
                    true => self.receive(&format!(":bob!b@h PRIVMSG {target} :{n}")),
                    false => self.receive(&format!(":{target}!x@h PRIVMSG alice :{n}")),
                }
            }
            Event::Own(who, target) => {
                let Some(who) = chosen(*who) else { return };
                let Connection { id, name, .. } = self.connections[who];
                let n = self.say(TARGETS[*target], Some(name));
                self.world
                    .say(id, format!("PRIVMSG {} :{n}", TARGETS[*target]).as_bytes());
            }
            Event::Attach(name) if connections < 4 => self.attach(*name),
            Event::Attach(_) => {}
            Event::Detach(who, proved) => {
                let Some(who) = chosen(*who) else { return };
                let connection = self.connections.remove(who);
                let proved = self.world.detach(connection.id, *proved);
                self.acknowledged(connection.name, &proved);
            }
            Event::Prove(who, most) => {
                let Some(who) = chosen(*who) else { return };
                let Connection { id, name, .. } = self.connections[who];
                let proved = self.world.prove(id, *most);
                self.acknowledged(name, &proved);
            }
            Event::Relink => {
                self.world
                    .turn(|network, turn| network.unlinked(Loss::Closed("x".into()), turn));
                self.link();
            }
            Event::Names(channel) => self.names(CHANNELS[*channel]),
            Event::Hide(channel, hide) => self.hide(CHANNELS[*channel], *hide),
            Event::Hold => {
                self.world.hold();
                self.holding = true;
            }
            Event::Commit => self.commit(),
            Event::Kill => self.kill(),
            Event::Pass(minutes) => self.pass(*minutes),
            Event::Jump(minutes) => {
                let time = &mut self.world.now.time;
                *time = time.plus_millis(minutes * 60_000);
            }
        }
        self.read();
    }

    fn attach(&mut self, name: usize) {
        // The store is asked what was missed: it answers when everything before is stored.
        self.commit();
        self.read();
        let label = format!("c{}", self.next);
        self.next += 1;
        self.world
            .attach(&label, NAMES[name], CapSet::default(), 0, b"zed");
        let id = self.world.id_of(&label).expect("it is attached");
        let had = self.had[name].clone();
        self.connections.push(Connection {
            id,
            name,
            had,
            got: Vec::new(),
        });
    }

    fn acknowledged(&mut self, name: usize, lines: &[Bytes]) {
        for n in lines.iter().map(|line| number(line)) {
            match self.holding {
                true => self.unstored.0.push((name, n)),
                false => _ = self.had[name].insert(n),
            }
        }
    }

    fn commit(&mut self) {
        self.world.commit();
        self.holding = false;
        let (acknowledged, _) = std::mem::take(&mut self.unstored);
        for (name, n) in acknowledged {
            self.had[name].insert(n);
        }
    }

    /// Time passes; a server that says nothing for so long is left, and found again.
    fn pass(&mut self, minutes: u64) {
        self.world.pass(Duration::from_secs(minutes * 60));
        while !matches!(
            self.world.network.status().link,
            LinkStatus::Connected { .. }
        ) {
            if self.world.is_dialling() {
                self.link();
            } else {
                self.world.pass(Duration::from_secs(30));
            }
        }
    }

    fn kill(&mut self) {
        let (_, said) = std::mem::take(&mut self.unstored);
        said.iter().for_each(|n| _ = self.lines.remove(n));
        self.connections.clear();
        self.world.restart();
        self.world.commit();
        self.holding = false;
        self.link();
    }

    /// What the clients were told since.
    fn read(&mut self) {
        for told in std::mem::take(&mut self.world.told) {
            let Some(label) = told.to.strip_suffix('>').filter(|label| !label.is_empty()) else {
                continue;
            };
            if !Line::parse(&told.line).is_ok_and(|line| line.is(b"PRIVMSG")) {
                continue;
            }
            let n = number(&told.line);
            let id = self
                .world
                .id_of(label)
                .expect("only attached clients are told anything");
            let connection = self
                .connections
                .iter_mut()
                .find(|c| c.id == id)
                .expect("a connection");
            assert!(
                !connection.got.contains(&n),
                "{n} came twice on one connection"
            );
            assert!(
                !connection.had.contains(&n),
                "{n} came though {connection:?} had it"
            );
            let target = &self.lines[&n].0;
            let later = connection
                .got
                .iter()
                .find(|m| **m > n && self.lines[m].0 == *target);
            assert!(later.is_none(), "{n} came after {later:?}");
            connection.got.push(n);
            self.given[connection.name].insert(n);
        }
    }

    /// Everybody comes once more and proves everything.
    fn end(&mut self) {
        self.commit();
        for channel in CHANNELS {
            self.names(channel);
            self.hide(channel, false);
        }
        self.read();
        self.connections.clear();
        let ids: Vec<_> = self.world.clients.keys().copied().collect();
        ids.into_iter()
            .for_each(|id| _ = self.world.detach(id, false));
        for (name, spelled) in NAMES.iter().enumerate() {
            let lacks: BTreeSet<u64> = self
                .lines
                .keys()
                .copied()
                .filter(|n| !self.had[name].contains(n))
                .collect();
            let last = self.last_visit(name);
            assert!(
                last.is_subset(&lacks),
                "{spelled:?} was given {last:?} of {lacks:?}",
            );
            let missing = lacks
                .difference(&last)
                .find(|n| self.lines[n].1 != Some(name));
            assert_eq!(missing, None, "{spelled:?} lacked {lacks:?}, got {last:?}",);
            assert_eq!(
                self.last_visit(name),
                BTreeSet::new(),
                "{spelled:?} has everything",
            );
        }
    }

    fn last_visit(&mut self, name: usize) -> BTreeSet<u64> {
        self.attach(name);
        self.read();
        let connection = self.connections.pop().expect("it is attached");
        let proved = self.world.detach(connection.id, true);
        self.acknowledged(name, &proved);
        connection.got.into_iter().collect()
    }
}

/// The number that is a line's text, whatever time stands before it.
fn number(line: &[u8]) -> u64 {
    let text = Line::parse(line)
        .ok()
        .and_then(|line| line.last())
        .unwrap_or_default();
    let digits = text.rsplit(|b| *b == b' ').next().unwrap_or_default();
    std::str::from_utf8(digits)
        .ok()
        .and_then(|n| n.parse().ok())
        .expect("a numbered line")
}

fn schedules() -> u32 {
    std::env::var("CAROM_TEST_SCHEDULES")
        .map_or(SCHEDULES, |number| number.parse().expect("a number"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(schedules()) })]

    #[test]
    fn rule_35_every_name_is_given_every_line_and_none_twice(events in prop::collection::vec(event(), 1..60)) {
        let mut model = Model::new();
        for event in &events {
            model.play(event);
        }
        model.end();
    }
}
