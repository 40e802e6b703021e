//! carom between programs that others wrote: IRC servers of Debian on one side, clients of Debian on the other. A test
//! whose programs are not installed says so and passes; with CI=true it fails.

// What fails in a helper fails the test.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub
)]

mod support;

#[path = "real/mod.rs"]
mod real;

use std::fs;
use std::path::Path;

use real::clients::{Catgirl, Door, Irssi, Program, Said, Weechat};
use real::program::{are_installed, command, until};
use real::recorder::Recorder;
use real::servers::{Kind, Server};
use rusqlite::{Connection, OpenFlags};
use support::daemon::{channel, config};
use support::{Client, Daemon};

/// How carom reaches the server.
#[derive(Clone, Copy)]
enum Way {
    Clear,
    Tls,
}

#[tokio::test]
async fn weechat_misses_nothing_on_ngircd() {
    nothing_is_missed::<Weechat>(Kind::Ngircd, Way::Clear).await;
}

#[tokio::test]
async fn irssi_misses_nothing_on_ngircd() {
    nothing_is_missed::<Irssi>(Kind::Ngircd, Way::Tls).await;
}

#[tokio::test]
async fn weechat_misses_nothing_on_inspircd() {
    nothing_is_missed::<Weechat>(Kind::Inspircd, Way::Tls).await;
}

#[tokio::test]
async fn irssi_misses_nothing_on_inspircd() {
    nothing_is_missed::<Irssi>(Kind::Inspircd, Way::Clear).await;
}

#[tokio::test]
async fn catgirl_misses_nothing_on_ngircd() {
    nothing_is_missed::<Catgirl>(Kind::Ngircd, Way::Tls).await;
}

#[tokio::test]
async fn catgirl_misses_nothing_on_inspircd() {
    nothing_is_missed::<Catgirl>(Kind::Inspircd, Way::Clear).await;
}

#[tokio::test]
async fn weechat_is_granted_what_it_asks_for() {
    is_granted::<Weechat>(
        "account-notify away-notify chghost extended-join invite-notify message-tags multi-prefix \
         server-time setname userhost-in-names",
    )
    .await;
}

#[tokio::test]
async fn irssi_is_granted_what_it_asks_for() {
    is_granted::<Irssi>(
        "account-notify away-notify chghost extended-join invite-notify multi-prefix server-time \
         setname znc.in/self-message",
    )
    .await;
}

/// It speaks TLS alone, and writes down itself what is said. It ends when anything that it asks for is refused.
#[tokio::test]
async fn catgirl_is_granted_what_it_asks_for() {
    if !are_installed(&[&["inspircd"], Catgirl::NEEDS].concat()) {
        return;
    }
    let mut scene = Scene::<Catgirl>::new(Kind::Inspircd, Way::Tls).await;
    let door = Door::Tls(scene.daemon.addr_of(1));
    scene.client.attach(door, "#carom").await;
    scene.talk("one").await;
    let caps = "invite-notify message-tags multi-prefix sasl server-time znc.in/self-message";
    grants(&scene.client.spoken(), caps);
}

/// A client attaches and talks; all that it asks for it is granted.
async fn is_granted<P: Program>(caps: &str) {
    if !are_installed(&[&["inspircd"], P::NEEDS].concat()) {
        return;
    }
    let mut scene = Scene::<P>::new(Kind::Inspircd, Way::Clear).await;
    let recorder = Recorder::start(scene.daemon.addr_of(0)).await;
    scene
        .client
        .attach(Door::Clear(recorder.addr), "#carom")
        .await;
    scene.talk("one").await;
    grants(&recorder.said(), caps);
}

fn grants(said: &str, caps: &str) {
    for cap in caps.split_whitespace() {
        let is_granted = |line: &str| {
            let granted = line.split_once(" ACK :").map(|(_, list)| list);
            granted.is_some_and(|list| list.split_whitespace().any(|granted| granted == cap))
        };
        assert!(
            said.lines().any(is_granted),
            "{cap} is not granted:\n{said}"
        );
    }
    assert!(!said.contains(" NAK "), "{said}");
}

#[tokio::test]
async fn two_programs_are_one_person() {
    if !are_installed(&[&["inspircd"], Weechat::NEEDS, Irssi::NEEDS].concat()) {
        return;
    }
    let mut desk = Scene::<Weechat>::new(Kind::Inspircd, Way::Tls).await;
    let mut lap = Irssi::new("apw/net@lap");
    let (clear, tls) = (desk.daemon.addr_of(0), desk.daemon.addr_of(1));
    desk.client.attach(Door::Tls(tls), "#carom").await;
    lap.attach(Door::Clear(clear), "#carom").await;

    desk.client.type_in("/msg #carom from the desk").await;
    lap.sees("#carom", "apw", "from the desk").await;
    lap.type_in("/msg bob from the lap").await;
    desk.client.sees("bob", "apw", "from the lap").await;
    lap.quit().await;
    desk.talk("still here").await;

    let shown = |said: &[Said]| {
        said.iter()
            .map(|said| said.text.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&lap.shown("#carom")), ["from the desk"]);
    assert_eq!(
        shown(&desk.client.shown("#carom")),
        [
            "from the desk",
            "bob says still here",
            "apw says still here"
        ]
    );
    let quits = |line: &String| line.starts_with(":apw!") && line.contains(" QUIT ");
    assert!(!desk.bob.heard().iter().any(quits), "apw has not left");
}

#[test]
fn systemd_understands_the_unit_and_finds_it_safe() {
    if !are_installed(&["systemd-analyze"]) {
        return;
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = fs::read_to_string(repository.join("contrib/systemd/carom.service")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("carom.service");
    // The program is not installed where the unit says.
    let here = unit.replace(
        "ExecStart=/usr/bin/carom",
        concat!("ExecStart=", env!("CARGO_BIN_EXE_carom")),
    );
    assert_ne!(here, unit);
    fs::write(&path, here).unwrap();
    let words = [
        ["verify", "--man=no", "--recursive-errors=no"],
        // In tenths, of the ten that a unit has that gives nothing up.
        ["security", "--offline=true", "--threshold=20"],
    ];
    for words in words {
        let mut analyze = command("systemd-analyze", folder.path());
        let output = analyze.args(words).arg(&path).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !told.contains("carom.service:"),
            "{words:?}: {told}"
        );
    }
}

/// A client attaches, talks, leaves, comes back by another door, vanishes, and comes back once more to a carom that was
/// killed and started again. It shows each line once, whatever happened.
async fn nothing_is_missed<P: Program>(kind: Kind, way: Way) {
    if !are_installed(&[&[kind.program()], P::NEEDS].concat()) {
        return;
    }
    let mut scene = Scene::<P>::new(kind, way).await;
    let door = scene.first_door();
    scene.client.attach(door, "#carom").await;
    scene.talk("one").await;

    scene.client.quit().await;
    let missed = scene.miss("two").await;
    scene
        .client
        .attach(Door::Tls(scene.daemon.addr_of(1)), "#carom")
        .await;
    scene.sees_missed(&missed).await;
    scene.talk("three").await;

    // What a client that vanishes has not proved to have, it is shown again.
    scene.has_proved_all().await;
    scene.client.kill();
    let missed = scene.miss("four").await;
    scene.daemon.kill().await;
    scene.daemon.restart().await;
    joins(&scene.bob, "apw", 2).await;
    let door = scene.first_door();
    scene.client.attach(door, "#carom").await;
    scene.sees_missed(&missed).await;
    scene.talk("five").await;

    scene.shows_each_line_once(&["one", "two", "three", "four", "five"]);
}

/// What was said while the client was away.
struct Missed {
    word: &'static str,
    /// When, in seconds since 1970: from and through.
    times: (i64, i64),
}

/// A server with `bob` on it, and carom with a client of `apw` and with another one, who sees what she misses.
struct Scene<P> {
    _server: Server,
    daemon: Daemon,
    bob: Client,
    phone: Client,
    client: P,
}

impl<P: Program> Scene<P> {
    async fn new(kind: Kind, way: Way) -> Self {
        let server = Server::start(kind).await;
        let bob = server.guest("bob", &["#carom"]).await;
        let network = match way {
            Way::Clear => server.network("net"),
            Way::Tls => server.network_with_tls("net"),
        };
        let config = config(&(network + &channel("#carom")));
        let both = "listen = [\"irc://[::1]:0\", \"ircs://[::1]:0\"]";
        let daemon = Daemon::start(&config.replace("listen = [\"irc://[::1]:0\"]", both)).await;
        joins(&bob, "apw", 1).await;
        let phone = daemon.login("apw/net@phone:secret").await;
        Self {
            _server: server,
            daemon,
            bob,
            phone,
            client: P::new("apw/net@desk"),
        }
    }

    fn first_door(&self) -> Door {
        P::first_door(self.daemon.addr_of(0), self.daemon.addr_of(1))
    }

    /// Each says something, in the channel and in private, and the other sees it.
    async fn talk(&mut self, word: &str) {
        let (theirs, ours) = (format!("bob says {word}"), format!("apw says {word}"));
        let (their_secret, our_secret) = (
            format!("bob whispers {word}"),
            format!("apw whispers {word}"),
        );
        self.bob.send(&format!("PRIVMSG #carom :{theirs}")).await;
        self.client.sees("#carom", "bob", &theirs).await;
        self.client.type_in(&format!("/msg #carom {ours}")).await;
        hears(&self.bob, "apw", "#carom", &ours).await;
        self.bob.send(&format!("PRIVMSG apw :{their_secret}")).await;
        self.client.sees("bob", "bob", &their_secret).await;
        self.client.type_in(&format!("/msg bob {our_secret}")).await;
        hears(&self.bob, "apw", "bob", &our_secret).await;
    }

    /// The same while the client is away: `apw` speaks with another client.
    async fn miss(&mut self, word: &'static str) -> Missed {
        let from = now();
        let (theirs, ours) = (format!("bob says {word}"), format!("apw says {word}"));
        let (their_secret, our_secret) = (
            format!("bob whispers {word}"),
            format!("apw whispers {word}"),
        );
        self.bob.send(&format!("PRIVMSG #carom :{theirs}")).await;
        hears(&self.phone, "bob", "#carom", &theirs).await;
        self.phone.send(&format!("PRIVMSG #carom :{ours}")).await;
        hears(&self.bob, "apw", "#carom", &ours).await;
        self.bob.send(&format!("PRIVMSG apw :{their_secret}")).await;
        hears(&self.phone, "bob", "apw", &their_secret).await;
        self.phone.send(&format!("PRIVMSG bob :{our_secret}")).await;
        hears(&self.bob, "apw", "bob", &our_secret).await;
        let through = now();
        // A log shows seconds. The client must not come back in the same one, or its times would prove nothing.
        until("the next second", async || {
            (now() > through + 1).then_some(())
        })
        .await;
        Missed {
            word,
            times: (from, through),
        }
    }

    /// Waits until the store says that the client has everything.
    async fn has_proved_all(&self) {
        let store = self.daemon.path("carom.db");
        let store = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let mark = "SELECT min(id) FROM position WHERE client = 'desk'";
        // The upper bits of the key are the network.
        let newest = "SELECT max(key) & 0xffffffffff FROM entry";
        let sql = format!("SELECT ({mark}) = ({newest})");
        until("the proof", async || {
            let all = store.query_row(&sql, [], |row| row.get::<_, bool>(0));
            all.unwrap().then_some(())
        })
        .await;
    }

    /// The client shows what it missed, with the times when it was said.
    async fn sees_missed(&mut self, missed: &Missed) {
        let (from, through) = missed.times;
        for (nick, buffer, verb) in [
            ("bob", "#carom", "says"),
            ("apw", "#carom", "says"),
            ("bob", "bob", "whispers"),
            ("apw", "bob", "whispers"),
        ] {
            let text = format!("{nick} {verb} {}", missed.word);
            let said = self.client.sees(buffer, nick, &text).await;
            assert!(
                (from..=through).contains(&said.time),
                "{said:?} was said from {from} through {through}"
            );
        }
    }

    /// All that the client ever showed is what was said, in that order.
    fn shows_each_line_once(&self, words: &[&str]) {
        for (buffer, verb) in [("#carom", "says"), ("bob", "whispers")] {
            let expected: Vec<_> = words
                .iter()
                .flat_map(|word| {
                    ["bob", "apw"].map(|nick| (nick.to_owned(), format!("{nick} {verb} {word}")))
                })
                .collect();
            let shown = self.client.shown(buffer).into_iter();
            let shown: Vec<_> = shown.map(|Said { nick, text, .. }| (nick, text)).collect();
            assert_eq!(shown, expected, "{buffer}");
        }
    }
}

/// In seconds since 1970.
fn now() -> i64 {
    carom::clock().time.millis().div_euclid(1000)
}

/// Waits until somebody is in the channel for the `n`th time.
async fn joins(bob: &Client, nick: &str, n: usize) {
    let source = format!(":{nick}!");
    let is_join = |line: &&String| line.starts_with(&source) && line.contains(" JOIN ");
    let what = format!("{nick} joins");
    until(&what, async || {
        (bob.heard().iter().filter(is_join).count() >= n).then_some(())
    })
    .await;
}

/// Waits for a message, however slow the server is to let it through.
async fn hears(client: &Client, nick: &str, target: &str, text: &str) {
    let (source, message) = (format!(":{nick}!"), format!(" PRIVMSG {target} :{text}"));
    let is_it = |line: &String| line.starts_with(&source) && line.ends_with(&message);
    let what = format!("{nick} says {text:?} to {target}");
    until(&what, async || {
        client.heard().iter().any(is_it).then_some(())
    })
    .await;
}
