//! Two clients, labels on all they say, and a server of any kind: one that knows labels and echoes or not, that answers,
//! answers with errors, answers in part, answers late or not at all, and that is lost. Each label is answered exactly
//! once, and nobody is told what another asked.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use carom::state::{Facts, Loss, Network};
use carom::wire::{Line, Tags};
use proptest::prelude::*;

use super::transcript_runner::{capabilities, config::settings, world::World};

/// What clients say. `%` is a nick that nobody else asks about.
const SAID: [&str; 22] = [
    "WHOIS %",
    "WHOWAS %",
    "WHO %",
    "LIST",
    "NAMES #far",
    "MODE #far",
    "MODE #rust",
    "MODE #rust +b",
    "JOIN #go",
    "PART #go",
    "TOPIC #rust :%",
    "NICK %",
    "AWAY :%",
    "KICK #rust %",
    "INVITE % #rust",
    "PRIVMSG #rust :%",
    "PRIVMSG #rust,%,*carom :%",
    "PRIVMSG NickServ :IDENTIFY %",
    "FOO %",
    "PING %",
    "CHATHISTORY LATEST #rust * 10",
    "MARKREAD % timestamp=2026-01-02T07:00:00.000Z",
];

#[derive(Debug, Clone, Copy)]
enum How {
    /// As it should be.
    Well,
    /// By an error that names what it is about.
    Error,
    /// Something, but no end.
    Part,
    Never,
}

#[derive(Debug, Clone)]
enum Event {
    Say(bool, usize),
    /// The server comes to the next line.
    Answer(How),
    /// The server has no time for the next line yet.
    Postpone,
    Pass(u64),
    /// A client goes and comes again.
    Return(bool),
    /// The link is lost, and won to a server of another kind.
    Relink(usize),
    /// It stays lost for now.
    Drop,
    /// The server takes back, or offers, what it knows.
    Caps(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let how = prop_oneof![
        6 => Just(How::Well),
        2 => Just(How::Error),
        1 => Just(How::Part),
        1 => Just(How::Never),
    ];
    prop_oneof![
        12 => (any::<bool>(), 0..SAID.len()).prop_map(|(who, what)| Event::Say(who, what)),
        12 => how.prop_map(Event::Answer),
        1 => Just(Event::Postpone),
        2 => (1u64..40).prop_map(Event::Pass),
        1 => any::<bool>().prop_map(Event::Return),
        1 => (0..KINDS.len()).prop_map(Event::Relink),
        1 => Just(Event::Drop),
        1 => any::<bool>().prop_map(Event::Caps),
    ]
}

/// What servers know.
const KINDS: [&str; 4] = [
    "",
    "message-tags",
    "batch labeled-response message-tags",
    "batch echo-message labeled-response message-tags",
];

struct Model {
    world: World,
    /// What the server was sent and has not come to.
    sent: VecDeque<Vec<u8>>,
    next: u64,
    batches: u64,
    /// The server answers everything, in order and in time: then nobody is told what another asked.
    honest: bool,
}

fn client(second: bool) -> &'static str {
    if second { "b" } else { "a" }
}

impl Model {
    fn new(kind: usize, honest: bool) -> Self {
        let mut model = Self {
            world: World::new(settings(["flood=6/500ms"].into_iter())),
            sent: VecDeque::new(),
            next: 0,
            batches: 0,
            honest,
        };
        model.world.turn(Network::start);
        model.link(kind);
        model.attach(false);
        model.attach(true);
        model
    }

    fn attach(&mut self, second: bool) {
        let echo = if second { ",echo-message" } else { "" };
        let caps = format!("batch,labeled-response,draft/chathistory{echo}");
        let caps = capabilities(&caps).expect("they are known");
        let label = client(second);
        self.world.attach(label, label, caps, 302, b"zed");
        self.world.told.clear();
    }

    fn receive(&mut self, line: &str) {
        let raw = Bytes::copy_from_slice(line.as_bytes());
        self.world.turn(|network, turn| network.receive(&raw, turn));
    }

    fn link(&mut self, kind: usize) {
        self.sent.clear();
        let facts = Facts::default();
        self.world.turn(|network, turn| network.linked(facts, turn));
        let caps = KINDS[kind];
        self.receive(&format!(":irc.test CAP * LS :{caps}"));
        self.receive(&format!(":irc.test CAP * ACK :{caps}"));
        self.receive(":irc.test 001 alice :Welcome");
        self.receive(":irc.test 005 alice CHANTYPES=# PREFIX=(ov)@+ :are supported");
        self.receive(":irc.test 422 alice :No MOTD");
        self.receive(":alice!al@host JOIN #rust");
        self.receive(":irc.test 353 alice = #rust :alice bob");
        self.receive(":irc.test 366 alice #rust :End of /NAMES list");
        self.world.told.clear();
    }

    fn play(&mut self, event: &Event) {
        match event {
            Event::Say(second, what) => {
                let Some(id) = self.world.id_of(client(*second)) else {
                    return;
                };
                self.next += 1;
                let nick = format!("{}{}x", client(*second), self.next);
                let line = format!("@label=l{} {}", self.next, SAID[*what].replace('%', &nick));
                self.world.say(id, line.as_bytes());
            }
            Event::Answer(how) => {
                let how = match how {
                    How::Part | How::Never if self.honest => How::Well,
                    how => *how,
                };
                if let Some(line) = self.sent.pop_front() {
                    self.answer(&line, how);
                }
            }
            Event::Postpone | Event::Pass(_) if self.honest => {}
            Event::Postpone => {
                if let Some(line) = self.sent.pop_front() {
                    self.sent.push_back(line);
                }
            }
            Event::Pass(seconds) => self.world.pass(Duration::from_secs(*seconds)),
            Event::Return(second) => {
                if let Some(id) = self.world.id_of(client(*second)) {
                    self.world.detach(id, true);
                }
                self.read();
                self.attach(*second);
            }
            Event::Relink(kind) => {
                self.drop_link();
                self.read();
                self.link(*kind);
            }
            Event::Drop => self.drop_link(),
            Event::Caps(true) => self.receive(":irc.test CAP alice DEL :echo-message"),
            Event::Caps(false) => {
                self.receive(":irc.test CAP alice DEL :echo-message labeled-response");
            }
        }
        self.read();
    }

    fn drop_link(&mut self) {
        let loss = Loss::Closed("x".into());
        self.world
            .turn(|network, turn| network.unlinked(loss, turn));
        self.sent.clear();
    }

    /// What a server of some kind does about a line.
    fn answer(&mut self, raw: &[u8], how: How) {
        let Ok(line) = Line::parse(raw) else { return };
        let label = Tags::new(line.raw_tags()).find(|(key, _)| *key == b"label");
        let label = label.map(|(_, label)| String::from_utf8_lossy(label).into_owned());
        let command = String::from_utf8_lossy(line.command()).into_owned();
        let about = String::from_utf8_lossy(line.param(0).unwrap_or_default()).into_owned();
        let body = String::from_utf8_lossy(line.body()).into_owned();
        let me = self.world.network.status().nick;
        let mut lines: Vec<String> = match (command.as_str(), how) {
            (_, How::Never) => return,
            ("PING", _) => vec![format!(":irc.test PONG irc.test :{about}")],
            (_, How::Error) => vec![format!(":irc.test 401 {me} {about} :No such nick")],
            ("WHOIS", _) => vec![
                format!(":irc.test 311 {me} {about} u h * :{about}"),
                format!(":irc.test 318 {me} {about} :End of /WHOIS list"),
            ],
            ("WHOWAS", _) => vec![
                format!(":irc.test 312 {me} {about} irc.test :x"),
                format!(":irc.test 369 {me} {about} :End of WHOWAS"),
            ],
            ("WHO", _) => vec![
                format!(":irc.test 352 {me} * u h irc.test {about} H :0 {about}"),
                format!(":irc.test 315 {me} {about} :End of /WHO list"),
            ],
            ("LIST", _) => vec![
                format!(":irc.test 322 {me} #rust 5 :Topic"),
                format!(":irc.test 323 {me} :End of /LIST"),
            ],
            ("NAMES", _) => vec![
                format!(":irc.test 353 {me} = {about} :bob"),
                format!(":irc.test 366 {me} {about} :End of /NAMES list"),
            ],
            ("MODE", _) if body.ends_with("+b") => vec![
                format!(":irc.test 367 {me} {about} x!*@*"),
                format!(":irc.test 368 {me} {about} :End of channel ban list"),
            ],
            ("MODE", _) => vec![
                format!(":irc.test 324 {me} {about} +n"),
                format!(":irc.test 329 {me} {about} 1767200000"),
            ],
            ("JOIN", _) => vec![
                format!(":{me}!al@host JOIN {about}"),
                format!(":irc.test 353 {me} = {about} :{me}"),
                format!(":irc.test 366 {me} {about} :End of /NAMES list"),
            ],
            ("AWAY", _) => vec![format!(":irc.test 306 {me} :You are away")],
            ("INVITE", _) => vec![format!(":irc.test 341 {me} {about} #rust")],
            ("PART" | "TOPIC" | "NICK", _) => vec![format!(":{me}!al@host {body}")],
            ("KICK", _) => vec![format!(":irc.test 441 {me} {body} :They are not there")],
            ("PRIVMSG", _) if label.is_some() => vec![format!(":{me}!al@host {body}")],
            ("PRIVMSG", _) => Vec::new(),
            _ => vec![format!(":irc.test 421 {me} {command} :Unknown command")],
        };
        let part = matches!(how, How::Part);
        if part {
            lines.pop();
        }
        let Some(label) = label else {
            lines.iter().for_each(|line| self.receive(line));
            return;
        };
        match lines.as_slice() {
            [] if !part => self.receive(&format!("@label={label} :irc.test ACK")),
            [] => {}
            [line] if !part => self.receive(&format!("@label={label} {line}")),
            lines => {
                self.batches += 1;
                let batch = format!("s{}", self.batches);
                let head = format!("@label={label} :irc.test BATCH +{batch} labeled-response");
                self.receive(&head);
                lines
                    .iter()
                    .for_each(|line| self.receive(&format!("@batch={batch} {line}")));
                if !part {
                    self.receive(&format!(":irc.test BATCH -{batch}"));
                }
            }
        }
    }

    /// What the network said since. That each label is answered once is the world's to see.
    fn read(&mut self) {
        for told in std::mem::take(&mut self.world.told) {
            if told.to == ">" {
                self.sent.push_back(told.line);
                continue;
            }
            let Some(to) = told.to.strip_suffix('>') else {
                continue;
            };
            let line = Line::parse(&told.line).expect("a line");
            let numeric = line.numeric().unwrap_or_default();
            let replies = matches!(numeric, 311 | 312 | 315 | 318 | 352 | 369);
            if !replies || !self.honest {
                continue;
            }
            let of = |p: &[u8]| p.ends_with(b"x") && p.starts_with(b"a") || p.starts_with(b"b");
            let whose = line
                .params()
                .skip(1)
                .find(|p| of(p) && p.iter().any(u8::is_ascii_digit));
            let whose = whose.map(|p| if p[0] == b'a' { "a" } else { "b" });
            assert!(whose.is_none_or(|whose| whose == to), "{}", told.text());
        }
    }

    fn end(&mut self) {
        self.world.pass(Duration::from_secs(600));
        self.read();
        for client in self.world.clients.values() {
            let owed = client.labels.iter().find(|(_, owed)| **owed > 0);
            assert_eq!(owed, None, "every label of {} is answered", client.label);
            assert_eq!(
                client.owed, 0,
                "every line of {} returned credit",
                client.label
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn rule_43_each_label_is_answered_once_whatever_the_server_does(
        kind in 0..KINDS.len(),
        honest in any::<bool>(),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut model = Model::new(kind, honest);
        for event in &events {
            model.play(event);
        }
        model.end();
    }
}
