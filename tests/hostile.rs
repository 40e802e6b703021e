//! Lines nobody sends: every command and numeric with any number of parameters, in every state, from both
//! sides. Nothing panics, tables stay bounded, every line of a client returns its credit.

mod transcript_runner;

use std::time::Duration;

use bytes::Bytes;
use carom::state::{Action, Audience, Facts, LinkStatus, Network, Turn};
use carom::wire::CapSet;
use proptest::prelude::*;

use transcript_runner::config::settings;
use transcript_runner::world::World;

const COMMANDS: &[&str] = &[
    "ACCOUNT",
    "ADMIN",
    "AUTHENTICATE",
    "AWAY",
    "BATCH",
    "CAP",
    "CAROM",
    "CHGHOST",
    "ERROR",
    "FAIL",
    "FOO",
    "INFO",
    "INVITE",
    "ISON",
    "JOIN",
    "KICK",
    "KILL",
    "LINKS",
    "LIST",
    "LUSERS",
    "MAP",
    "MODE",
    "MOTD",
    "NAMES",
    "NICK",
    "NOTICE",
    "PART",
    "PASS",
    "PING",
    "PONG",
    "PRIVMSG",
    "QUIT",
    "SETNAME",
    "STATS",
    "TAGMSG",
    "TIME",
    "TOPIC",
    "TRACE",
    "USER",
    "USERHOST",
    "VERSION",
    "WALLOPS",
    "WHO",
    "WHOIS",
    "WHOWAS",
];

const WORDS: &[&str] = &[
    "alice",
    "#rust",
    "*",
    "bob",
    "+o-v",
    "LS",
    "#new",
    "alice,bob,#rust",
    "@#rust",
    "=",
    "ACK",
    "sasl",
    "0",
    "#",
    "DEL",
    "NEW",
    "&",
    "PREFIX=(qaohv)~&@%+",
    "CASEMAPPING=ascii",
    "-CASEMAPPING",
    "\x01VERSION\x01",
    "+bklov",
    "REQ",
    "+x",
    "-x",
    "+y",
    "-y",
    "netsplit",
    "NickServ",
    "*carom",
    "detach",
    "",
];

const SOURCES: &[&str] = &[
    "",
    ":irc.test ",
    ":alice!al@host ",
    ":bob!b@h ",
    ":* ",
    ":!@ ",
    "@batch=x ",
    "@batch=y :irc.test ",
    "@batch=x :bob!b@h ",
    "@batch=y :alice!al@host ",
];

/// A network in one of its states, with two clients.
fn world(state: usize) -> World {
    let login = if state == 1 {
        "sasl=plain:a:b"
    } else {
        "flood=5/2s"
    };
    let settings = settings(["alternatives=alice_", login].into_iter());
    let mut world = World::new(settings);
    world.turn(Network::start);
    for (name, version) in [("a", 0), ("b", 302)] {
        let caps = transcript_runner::capabilities("echo-message,server-time,batch").expect("caps");
        let caps = if version == 302 {
            caps
        } else {
            CapSet::default()
        };
        world.attach(name, name, caps, version, b"zed");
    }
    if state >= 1 {
        world.turn(|network, turn| network.linked(Facts::default(), turn));
    }
    let welcome: &[&str] = match state {
        0 | 1 => &[],
        2 => &[":irc.test 001 alice :Welcome"],
        3 => &[
            ":irc.test 001 alice :W",
            ":irc.test 422 alice :No",
            ":alice!al@h JOIN #rust",
        ],
        _ => &[
            ":irc.test CAP * LS :message-tags account-tag",
            ":irc.test CAP * ACK :message-tags account-tag",
            ":irc.test 001 alice :W",
            ":irc.test 422 alice :No",
            ":alice!al@h JOIN #rust",
            ":irc.test 353 alice = #rust :@alice bob",
            ":irc.test 366 alice #rust :End",
        ],
    };
    welcome.iter().for_each(|line| receive(&mut world, line));
    let up = matches!(world.network.status().link, LinkStatus::Connected { .. });
    assert_eq!(up, state >= 2);
    world
}

fn receive(world: &mut World, line: &str) {
    let raw = Bytes::copy_from_slice(line.as_bytes());
    world.turn(|network, turn| network.receive(&raw, turn));
}

/// Whatever was under way is over after an hour and the end of the link: nobody is owed a credit.
fn settle(world: &mut World) {
    world.pass(Duration::from_secs(3600));
    world.turn(|network, turn| {
        network.unlinked(carom::state::Loss::Closed("over".to_owned()), turn);
    });
    for client in world.clients.values() {
        assert!(client.dismissed || client.owed == 0, "{client:?}");
        assert!(client.batches.is_empty(), "{client:?}");
    }
}

#[test]
fn numerics_of_any_arity_are_borne_in_every_state() {
    for state in 0..5 {
        let mut world = world(state);
        for numeric in 0..1000 {
            for arity in 0..=16 {
                let words = (0..arity).map(|n| WORDS[(numeric + n * n) % 20]);
                let line = format!(
                    ":irc.test {numeric:03} {}",
                    words.collect::<Vec<_>>().join(" ")
                );
                let raw = Bytes::from(line);
                let mut turn = Turn::new(world.now);
                world.network.receive(&raw, &mut turn);
            }
        }
        settle(&mut world);
    }
}

fn line() -> impl Strategy<Value = String> {
    let numeric = (0u16..1000).prop_map(|n| format!("{n:03}"));
    let command = prop_oneof![
        4 => prop::sample::select(COMMANDS).prop_map(str::to_owned),
        1 => numeric,
        1 => prop::sample::select(&["001", "005", "353", "366", "433", "404", "470", "324", "376"][..]).prop_map(str::to_owned),
    ];
    let words = prop::collection::vec(prop::sample::select(WORDS), 0..17);
    (prop::sample::select(SOURCES), command, words, "\\PC{0,20}").prop_map(
        |(source, command, words, text)| {
            let words = words.into_iter().filter(|word| !word.is_empty());
            let words: String = words.map(|word| format!(" {word}")).collect();
            format!("{source}{command}{words} :{text}")
        },
    )
}

/// One input in a row of any.
#[derive(Debug, Clone)]
enum Input {
    Server(String),
    Client(usize, String),
    Wait(u64),
    Attach,
    Detach,
    Link,
    Drop,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        8 => line().prop_map(Input::Server),
        8 => (0usize..2, line()).prop_map(|(n, line)| Input::Client(n, line)),
        2 => (0u64..100_000).prop_map(Input::Wait),
        1 => Just(Input::Attach),
        1 => Just(Input::Detach),
        1 => Just(Input::Link),
        1 => Just(Input::Drop),
    ]
}

fn play(world: &mut World, input: &Input, n: usize) {
    let ids: Vec<_> = world.clients.keys().copied().collect();
    match input {
        Input::Server(line) => receive(world, line),
        Input::Client(n, line) => {
            if let Some(id) = ids
                .get(n % ids.len().max(1))
                .filter(|id| !world.clients[id].dismissed)
            {
                world.say(*id, line.as_bytes());
            }
        }
        Input::Wait(millis) => world.pass(Duration::from_millis(*millis)),
        Input::Attach if ids.len() < 4 => {
            let caps = transcript_runner::capabilities("batch").expect("caps");
            world.attach(&format!("n{n}"), "n", caps, 302, b"zed");
        }
        Input::Attach => {}
        Input::Detach => {
            if let Some(id) = ids.first() {
                world.detach(*id, true);
            }
        }
        // The shell links and unlinks only where the network stands for it.
        Input::Link => {
            if world.is_dialling() {
                world.turn(|network, turn| network.linked(Facts::default(), turn));
            }
        }
        Input::Drop => world.turn(|network, turn| {
            network.unlinked(carom::state::Loss::Closed("gone".to_owned()), turn);
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn any_lines_in_any_order_are_borne(state in 0usize..5, inputs in prop::collection::vec(input(), 1..60)) {
        let mut world = world(state);
        for (n, input) in inputs.iter().enumerate() {
            play(&mut world, input, n);
        }
        settle(&mut world);
    }
}

/// Takes lines as they come, without the hand-over between them that a transcript has. What is delivered.
fn receive_all(world: &mut World, lines: impl Iterator<Item = String>) -> Vec<(Audience, Bytes)> {
    let mut turn = Turn::new(world.now);
    for line in lines {
        world.network.receive(&Bytes::from(line), &mut turn);
    }
    let delivered = turn.actions.into_iter().filter_map(|action| match action {
        Action::Deliver { to, line, .. } => Some((to, line.line)),
        _ => None,
    });
    delivered.collect()
}

/// A network with ten clients, on one channel with these others.
fn crowd(channels: &[&str], members: usize) -> World {
    let mut world = world(4);
    for n in 2..10 {
        let name = format!("c{n}");
        world.attach(&name, &name, CapSet::default(), 302, b"zed");
    }
    for channel in channels {
        let names: Vec<String> = (0..members).map(|n| format!("user{n}")).collect();
        let lines = names
            .chunks(20)
            .map(|names| format!(":irc.test 353 alice = {channel} :{}", names.join(" ")));
        let join = format!(":alice!al@h JOIN {channel}");
        let end = format!(":irc.test 366 alice {channel} :End");
        receive_all(&mut world, std::iter::once(join).chain(lines).chain([end]));
    }
    world
}

fn names_of(world: &mut World, channel: &str) -> Vec<String> {
    let id = *world.clients.keys().next().expect("a client");
    let mut turn = Turn::new(world.now);
    let line = Bytes::from(format!("NAMES {channel}"));
    world.network.relay(id, &line, &mut turn);
    let mut names = Vec::new();
    for action in turn.actions {
        let Action::Deliver { line, .. } = action else {
            continue;
        };
        let text = String::from_utf8_lossy(&line.line).into_owned();
        if let Some((head, list)) = text[1..].split_once(" :")
            && head.contains(" 353 ")
        {
            names.extend(list.split(' ').map(str::to_owned));
        }
    }
    names
}

#[test]
fn rule_51_a_netsplit_of_five_thousand_is_told_once_to_each() {
    let mut world = crowd(&["#one", "#two", "#three"], 5000);
    let split = (0..5000).map(|n| format!(":user{n}!u@h QUIT :hub.test leaf.test"));
    let told = receive_all(&mut world, split);
    assert_eq!(told.len(), 5000, "each QUIT is one line");
    assert!(told.iter().all(|(to, _)| *to == Audience::All));
    for channel in ["#one", "#two", "#three"] {
        assert_eq!(names_of(&mut world, channel), ["alice"]);
    }
    let join = (0..5000).map(|n| format!(":user{n}!u@h JOIN #two"));
    assert_eq!(receive_all(&mut world, join).len(), 5000);
    let modes = (0..5000).map(|n| format!(":hub.test MODE #two +v user{n}"));
    receive_all(&mut world, modes);
    let names = names_of(&mut world, "#two");
    assert_eq!(names.len(), 5001);
    assert_eq!(
        names.iter().filter(|name| name.starts_with('+')).count(),
        5000
    );
    settle(&mut world);
}

#[test]
fn rule_51_a_netsplit_in_a_batch_is_one_batch_to_each() {
    let mut world = crowd(&["#one", "#two"], 5000);
    let batch = transcript_runner::capabilities("batch").expect("caps");
    for name in ["d1", "d2", "d3"] {
        world.attach(name, name, batch, 302, b"zed");
    }
    world.told.clear();
    world.hand_overs = 1_000_000;
    receive(&mut world, "BATCH +x netsplit hub.test leaf.test");
    for n in 0..5000 {
        let quit = format!("@batch=x :user{n}!u@h QUIT :hub.test leaf.test");
        receive(&mut world, &quit);
    }
    receive(&mut world, "BATCH -x");
    let told = std::mem::take(&mut world.told);
    for (name, lines) in [("a", 5000), ("c9", 5000), ("b", 5002), ("d3", 5002)] {
        let to = format!("{name}>");
        let own = told.iter().filter(|told| told.to == to).count();
        assert_eq!(own, lines, "{name}");
    }
    let within = told.iter().filter(|t| t.to == "d1>");
    let tagged = within.filter(|t| t.line.starts_with(b"@batch=up1 :user"));
    assert_eq!(tagged.count(), 5000);
    settle(&mut world);
}

#[test]
fn a_channel_of_a_hundred_thousand_is_told_whole() {
    let mut world = crowd(&["#big"], 100_000);
    let names = names_of(&mut world, "#big");
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len(), distinct.len()), (100_001, 100_001));
    // Who attaches now is told as much, a portion at a time.
    world.attach("late", "late", CapSet::default(), 0, b"zed");
    let late: usize = (world.told.iter())
        .filter(|told| told.to == "late>" && told.line.windows(9).any(|w| w == b" = #big :"))
        .map(|told| told.line.iter().filter(|b| **b == b' ').count() - 4)
        .sum();
    assert_eq!(late, 100_001);
}

#[test]
fn rule_32_lines_of_one_millisecond_have_times_of_their_own() {
    let mut world = world(4);
    for n in 0..300 {
        receive(&mut world, &format!(":bob!b@h PRIVMSG #rust :{n}"));
    }
    let times: Vec<_> = world
        .store
        .entries
        .values()
        .map(|entry| entry.time)
        .collect();
    assert_eq!(times.len(), 300);
    assert!(times.is_sorted_by(|a, b| a < b));
}
