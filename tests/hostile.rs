//! Lines nobody sends: every command and numeric with any number of parameters, in every state, from both
//! sides. Nothing panics, tables stay bounded, every line of a client returns its credit.

mod transcript_runner;

use std::time::Duration;

use bytes::Bytes;
use carom::state::{Facts, LinkStatus, Network};
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
    "NickServ",
    "*carom",
    "",
];

const SOURCES: &[&str] = &[
    "",
    ":irc.test ",
    ":alice!al@host ",
    ":bob!b@h ",
    ":* ",
    ":!@ ",
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
                let mut turn = carom::state::Turn::new(world.now);
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
            world.attach(&format!("n{n}"), "n", CapSet::default(), 302, b"zed");
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
