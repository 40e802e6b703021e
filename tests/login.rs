//! Who gets in, and how: every form of a login, in any order and over both families; what a wrong one is told, and how
//! guessing is slowed down.

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use std::time::{Duration, Instant};

use base64::engine::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use support::daemon::{PASSWORD, network, user};
use support::tls::Identity;
use support::{Client, Daemon, Link, MockIrcd, Script};

/// One user, two networks, both families on one socket.
async fn two_networks() -> (Daemon, [MockIrcd; 2], [Link; 2]) {
    let ircds = [
        MockIrcd::start(Script::default()).await,
        MockIrcd::start_v4(Script::default()).await,
    ];
    let networks = network("one", &ircds[0].url()) + &network("two", &ircds[1].url());
    let daemon = Daemon::start(&both_families(&format!("{}{networks}", user("apw")))).await;
    let mut links = [ircds[0].accept().await, ircds[1].accept().await];
    for link in &mut links {
        link.registered().await;
    }
    for network in ["one", "two"] {
        let connected = format!("{network}: connected to");
        daemon.tells(&["status"], &connected).await;
    }
    (daemon, ircds, links)
}

fn both_families(users: &str) -> String {
    format!("[server]\nname = \"bnc.test\"\nlisten = [\"irc+insecure://[::]:0\"]\n\n{users}")
}

/// What `client status` says about the newest client.
async fn attached(daemon: &Daemon) -> String {
    let status = daemon.ctl(&["client", "status"]).await;
    assert_eq!(status.code, Some(0), "{status:?}");
    // Among several users, each line says first whose it is.
    let clients = status.stdout.lines().filter_map(|line| {
        let (_, line) = line.split_once("client ")?;
        let (id, what) = line.split_once(": ")?;
        Some((
            id.parse::<u64>().ok()?,
            what.split(" from ").next()?.to_owned(),
        ))
    });
    clients.max().unwrap().1
}

/// PASS, NICK and USER with these words.
async fn register(client: &Client, pass: &str, user: &str) {
    client.send(&format!("PASS {pass}")).await;
    client.send("NICK zed").await;
    client.send(&format!("USER {user} 0 * :Zed")).await;
}

#[tokio::test]
async fn every_form_of_pass_and_user_leads_to_its_network_over_both_families() {
    let (daemon, _ircds, _links) = two_networks().await;
    for (pass, username, expected) in [
        ("apw/one@laptop:secret", "zed", "laptop on one"),
        ("apw/two:secret", "zed", "(no name) on two"),
        ("apw@laptop/one:secret", "zed", "laptop on one"),
        ("apw:secret:two", "zed", "(no name) on two"),
        ("secret", "apw/one@phone", "phone on one"),
        ("secret", "apw@phone/two", "phone on two"),
        ("apw:secret", "apw/two@tv", "tv on two"),
        ("apw@tv:secret:one", "zed", "tv on one"),
        ("apw:secret", "zed", "(no name) on no network"),
        ("secret", "APW/one", "(no name) on one"),
    ] {
        for addr in [daemon.addr(), daemon.addr_v4()] {
            let mut client = Client::connect(addr).await;
            register(&client, pass, username).await;
            client.welcomed().await;
            assert_eq!(attached(&daemon).await, expected, "{pass} {username}");
            client.send("QUIT").await;
            client.expect("ERROR").await;
        }
    }
}

#[tokio::test]
async fn every_form_of_sasl_leads_to_its_network_over_both_families() {
    let (daemon, _ircds, _links) = two_networks().await;
    for (account, expected) in [
        ("apw/one@laptop", "laptop on one"),
        ("apw@laptop/two", "laptop on two"),
        ("apw/two", "(no name) on two"),
        ("apw", "(no name) on no network"),
    ] {
        for addr in [daemon.addr(), daemon.addr_v4()] {
            let mut client = Client::connect(addr).await;
            client.login_sasl(account, PASSWORD, &[]).await;
            assert_eq!(attached(&daemon).await, expected, "{account}");
            client.send("QUIT").await;
            client.expect("ERROR").await;
        }
    }
}

#[tokio::test]
async fn a_password_may_hold_colons_and_spaces() {
    let users: String = ["pa:ss:word", "a:one", ":one", "two words"]
        .iter()
        .enumerate()
        .map(|(n, password)| {
            let hash = carom::auth::hash(password.as_bytes());
            let servers = "servers = [\"irc://[::1]:1\"]\nenabled = false";
            format!(
                "[[user]]\nname = \"u{n}\"\npassword = \"{hash}\"\n\n[[user.network]]\nname = \"one\"\n{servers}\n\n"
            )
        })
        .collect();
    let daemon = Daemon::start(&both_families(&users)).await;
    for (pass, username) in [
        ("u0:pa:ss:word", "zed"),
        ("u0:pa:ss:word:one", "zed"),
        ("pa:ss:word", "u0"),
        ("u1/one:a:one", "zed"),
        ("u1:a:one:one", "zed"),
        ("a:one", "u1/one"),
        (":u3/one@c:two words", "zed"),
        (":two words", "u3"),
    ] {
        let mut client = daemon.connect().await;
        register(&client, pass, username).await;
        client.welcomed().await;
        assert!(attached(&daemon).await.ends_with("on one"), "{pass}");
    }
    for (name, password) in [
        ("u0/one", "pa:ss:word"),
        ("u2", ":one"),
        ("u3", "two words"),
    ] {
        let mut client = daemon.connect().await;
        client.login_sasl(name, password, &[]).await;
    }
}

#[tokio::test]
async fn without_a_network_the_only_one_is_meant_else_the_lobby() {
    let ircd = MockIrcd::start(Script::default()).await;
    let single = user("single") + &network("only", &ircd.url());
    let daemon = Daemon::start(&both_families(&(single + &user("none")))).await;
    let mut link = ircd.accept().await;
    link.registered().await;
    let mut client = daemon.login("single:secret").await;
    assert_eq!(attached(&daemon).await, "(no name) on only");
    client.sync().await;
    let mut lobby = daemon.login("none:secret").await;
    assert_eq!(attached(&daemon).await.trim(), "(no name) on no network");
    lobby.send("CAROM help").await;
    lobby.expect("NOTICE none :").await;
    lobby.send("PRIVMSG *carom :help").await;
    lobby
        .expect_where("help", |line| line.contains("network status"))
        .await;
    lobby.send("JOIN #a").await;
    lobby.send("PRIVMSG #a :nobody there").await;
    lobby.sync().await;
}

#[tokio::test]
async fn the_lobby_of_several_networks_answers_the_service() {
    let (daemon, _ircds, _links) = two_networks().await;
    let mut lobby = daemon.login("apw:secret").await;
    lobby.send("CAROM network status").await;
    lobby.send("PING :after").await;
    let lines = lobby.until("PONG").await;
    for name in ["one", "two"] {
        let start = format!(":*carom!carom@bnc.test NOTICE apw :{name}: connected to ");
        assert!(
            lines.iter().any(|line| line.starts_with(&start)),
            "{lines:?}"
        );
    }
    lobby.send("CAROM help").await;
    lobby.expect("NOTICE").await;
}

#[tokio::test]
async fn registration_may_come_in_any_order_and_in_single_bytes() {
    let (daemon, _ircds, _links) = two_networks().await;
    let pass = "PASS apw/one:secret";
    let (nick, user) = ("NICK zed", "USER zed 0 * :Zed");
    for lines in [
        vec![nick, user, pass],
        vec![user, pass, nick],
        vec![pass, user, nick],
        vec!["CAP LS 302", nick, user, pass, "CAP END"],
        vec![
            "CAP LS 302",
            "CAP REQ :server-time",
            "CAP END",
            pass,
            user,
            nick,
        ],
        vec![pass, "CAP LS", nick, user, "CAP REQ server-time", "CAP END"],
        vec!["JOIN :", "MODE zed +i", nick, pass, "WHOIS zed", user],
        vec!["PING :early", pass, nick, "PONG :x", user],
        vec![pass, nick, "NICK zod", user, "PING :last"],
    ] {
        for in_bytes in [false, true] {
            for addr in [daemon.addr(), daemon.addr_v4()] {
                let mut client = Client::connect(addr).await;
                if in_bytes {
                    client = client.in_bytes();
                }
                for line in &lines {
                    client.send(line).await;
                }
                client.welcomed().await;
                let early = client.heard();
                if lines[0].starts_with("JOIN") {
                    for word in ["JOIN", "MODE", "WHOIS"] {
                        let start = format!(":bnc.test 451 * {word} ");
                        let later = format!(":bnc.test 451 zed {word} ");
                        assert!(
                            early
                                .iter()
                                .any(|l| l.starts_with(&start) || l.starts_with(&later)),
                            "{word}: {early:?}"
                        );
                    }
                }
                client.sync().await;
            }
        }
    }
}

#[tokio::test]
async fn everything_may_come_in_one_piece() {
    let (daemon, _ircds, _links) = two_networks().await;
    let plain = "AUTHENTICATE AGFwdy9vbmVAYwBzZWNyZXQ=";
    let flight = format!(
        "CAP LS 302\r\nNICK zed\r\nUSER zed 0 * :Zed\r\nCAP REQ :sasl\r\nCAP REQ :server-time\r\nAUTHENTICATE PLAIN\r\n{plain}\r\nAWAY\r\nCAP END\r\nPING :end\r\n"
    );
    let mut client = daemon.connect().await;
    client.send_bytes(flight.as_bytes()).await.unwrap();
    client.welcomed().await;
    client
        .expect_where("the last PONG", |line| line.ends_with("PONG bnc.test :end"))
        .await;
    assert_eq!(attached(&daemon).await, "c on one");
}

#[tokio::test]
async fn a_late_password_is_asked_for_and_taken() {
    let (daemon, _ircds, _links) = two_networks().await;
    let mut client = daemon.connect().await;
    client.send("NICK zed").await;
    client.send("USER zed 0 * :Zed").await;
    client.expect("464 zed").await;
    client.expect("NOTICE zed :").await;
    client.send("PASS apw/two@late:secret").await;
    client.welcomed().await;
    assert_eq!(attached(&daemon).await, "late on two");
}

/// Everything that a login was told until it was turned away, apart from what depends on the connection.
async fn told(daemon: &Daemon, pass: &str) -> Vec<String> {
    let mut client = daemon.connect().await;
    client.register(pass).await;
    client.ended().await
}

#[tokio::test]
async fn a_hash_of_another_bouncer_serves_and_the_one_to_put_there_is_told() {
    // "hunter2", as bip and ZNC hash it.
    let hashes = [
        "0453f401c7fee71e1ed7fc5ddf2ac9619ebca242",
        "sha256#9f1b9552f5219401a95e6639e821979ad323b8bcb3751df097163d924efc711b#Jq,-:Vu)!I?.h8ep8?Xx#",
    ];
    for old in hashes {
        let users = format!("[[user]]\nname = \"apw\"\npassword = \"{old}\"\n");
        let mut daemon = Daemon::start(&both_families(&users)).await;
        daemon.login("apw:hunter2").await;
        let told = daemon
            .logged("the password's hash is of an older kind")
            .await;
        assert!(!told.contains("hunter2"), "{told}");
        let (_, new) = told.split_once("put in line 7: password = \"").unwrap();
        let (new, _) = new.split_once('"').unwrap();
        daemon.configure(&both_families(&users.replace(old, new)));
        let reloaded = daemon.ctl(&["server", "reload"]).await;
        assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
        daemon.login("apw:hunter2").await;
        // What follows in the log would follow a second warning.
        daemon.stop().await;
        let times = daemon.log();
        let times = times.iter().filter(|line| line.contains("older kind"));
        assert_eq!(times.count(), 1);
    }
}

#[tokio::test]
async fn a_wrong_login_tells_nothing_about_what_was_wrong() {
    let limits = "\n[limits]\nlogin_failures = { burst = 0, every = \"1s\" }\n";
    let daemon = Daemon::start(&both_families(
        &(user("apw") + &network("one", "irc://[::1]:1") + limits),
    ))
    .await;
    let wrong = told(&daemon, "apw/one:wrong").await;
    assert!(
        wrong.iter().any(|line| line.contains(" 464 zed ")),
        "{wrong:?}"
    );
    assert!(wrong.last().unwrap().starts_with("ERROR :"), "{wrong:?}");
    for pass in [
        "nobody/one:wrong",
        "nobody/one:secret",
        "apw/nowhere:wrong",
        "apw:wrong",
        "apw:wrong:one",
        "apw:wrong:nowhere",
        "apw/one@c:wrong",
        "apw/one/two:secret",
        "apw/one@bad!name:secret",
        ":",
        "x",
    ] {
        assert_eq!(told(&daemon, pass).await, wrong, "{pass}");
    }
    let sasl = async |name: &str, password: &str| {
        let mut client = daemon.connect().await;
        client.send("CAP REQ :sasl").await;
        client.authenticate(name, password).await;
        client.expect("904").await;
        client.send("PING :x").await;
        client.until("PONG").await;
        client.heard()
    };
    let wrong = sasl("apw/one", "wrong").await;
    for (name, password) in [
        ("nobody/one", "wrong"),
        ("nobody", "secret"),
        ("apw/nowhere", "wrong"),
        ("apw/one/two", "secret"),
        ("apw@bad!name", "secret"),
    ] {
        assert_eq!(sasl(name, password).await, wrong, "{name}");
    }
    // With the right password more may be said.
    let right = told(&daemon, "apw/nowhere:secret").await;
    assert!(
        right
            .iter()
            .any(|line| line.contains("nowhere") && line.contains("one")),
        "{right:?}"
    );
}

#[tokio::test]
async fn sasl_failures_end_the_connection_after_three() {
    let (daemon, _ircds, _links) = two_networks().await;
    let mut client = daemon.connect().await;
    client.send("CAP REQ :sasl").await;
    client.send("AUTHENTICATE EXTERNAL").await;
    client.expect("908").await;
    client.expect("904").await;
    client.authenticate("apw/one", "wrong").await;
    client.expect("904").await;
    client.authenticate("apw/one", "wrong").await;
    client.expect("904").await;
    client.expect("ERROR :").await;
    client.ended().await;
    let mut client = daemon.connect().await;
    client.send("CAP REQ :sasl").await;
    client.send("AUTHENTICATE PLAIN").await;
    client.expect("AUTHENTICATE +").await;
    client.send("AUTHENTICATE *").await;
    client.expect("906").await;
    client.authenticate("apw/one", "wrong").await;
    client.expect("904").await;
    client.authenticate("apw/one", PASSWORD).await;
    client.expect("900").await;
    client.expect("903").await;
    client.send("NICK zed").await;
    client.send("USER zed 0 * :Zed").await;
    client.send("CAP END").await;
    client.welcomed().await;
}

#[tokio::test]
async fn guessing_is_slowed_down_and_never_for_others() {
    let limits = "\n[limits]\nlogin_failures = { burst = 3, every = \"1h\" }\n";
    let config = both_families(&(user("apw") + limits));
    let daemon = Daemon::start(&config).await;
    let from = |last: u8, pass: &'static str| {
        let addr = daemon.addr_v4();
        async move {
            let mut client = Client::connect_from([127, 0, 0, last].into(), addr).await;
            let began = Instant::now();
            client.register(pass).await;
            let answer = |line: &str| line.starts_with("ERROR") || line.contains(" 001 ");
            let line = client.expect_where("an answer", answer).await;
            (line, began.elapsed())
        }
    };
    // After three wrong ones each waits twice as long as the one before, 1 + 2 + 4 s, until the wait would be too long.
    let guesses: Vec<_> = (0..8).map(|_| tokio::spawn(from(2, "apw:wrong"))).collect();
    for last in [3, 4] {
        let (line, took) = from(last, "apw:secret").await;
        assert!(line.contains(" 001 "), "{line}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    daemon.login("apw:secret").await;
    let mut refused = 0;
    let mut longest = Duration::ZERO;
    for guess in guesses {
        let (line, took) = guess.await.unwrap();
        assert!(!line.contains(" 001 "), "{line}");
        longest = longest.max(took);
        if line.contains("Too many failed logins, try again in") {
            refused += 1;
        }
    }
    assert!((1..=5).contains(&refused), "{refused} of 8 are refused");
    assert!(longest >= Duration::from_secs(1), "{longest:?}");
}

/// Connects with TLS, showing this, and says for whom; USER may add something.
async fn by_certificate(daemon: &Daemon, shown: &Identity, name: &str, user: &str) -> Client {
    let mut client = Client::connect_tls(daemon.addr(), Some(shown)).await;
    client.send("CAP LS 302").await;
    client.send("NICK zed").await;
    client.send(&format!("USER {user} 0 * :Zed")).await;
    client.send("CAP REQ :sasl").await;
    client
        .expect_where("sasl=PLAIN,EXTERNAL", |line| {
            line.contains(" sasl=PLAIN,EXTERNAL ")
        })
        .await;
    client.send("AUTHENTICATE EXTERNAL").await;
    client.expect("AUTHENTICATE +").await;
    let payload = match name {
        "" => "+".to_owned(),
        name => BASE64.encode(name),
    };
    client.send(&format!("AUTHENTICATE {payload}")).await;
    client
}

#[tokio::test]
async fn a_client_certificate_logs_in_by_its_fingerprint() {
    let [known, other] = ["apw.test", "other.test"].map(Identity::new);
    let listen = "[server]\nname = \"bnc.test\"\nlisten = [\"ircs://[::]:0\"]\n\n";
    let certificates = format!("certificates = [\"{}\"]\n", known.fingerprint());
    let networks = ["one", "two"].map(|name| network(name, "irc+insecure://[::1]:1"));
    let config = format!("{listen}{}{certificates}{}", user("apw"), networks.concat());
    let daemon = Daemon::start(&config).await;
    for (name, username, expected) in [
        ("", "zed", "(no name) on no network"),
        ("apw/one@laptop", "zed", "laptop on one"),
        ("apw/two", "apw@tv", "tv on two"),
        ("", "apw/two@phone", "phone on two"),
    ] {
        let mut client = by_certificate(&daemon, &known, name, username).await;
        client.expect("900").await;
        client.expect("903").await;
        client.send("CAP END").await;
        client.welcomed().await;
        assert_eq!(attached(&daemon).await, expected, "{name} {username}");
    }
    // A certificate of nobody, and one of somebody else.
    for (shown, name) in [(&other, "apw"), (&other, ""), (&known, "bob")] {
        let mut client = by_certificate(&daemon, shown, name, "zed").await;
        client.expect("904").await;
    }
    // Bob's own is added over the connection that shows it.
    let made = daemon
        .ctl(&["user", "create", "-username", "bob", "-password", "hush"])
        .await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let mut client = Client::connect_tls(daemon.addr(), Some(&other)).await;
    client.login("bob:hush").await;
    client.send("PRIVMSG *carom :certificate add").await;
    let added = format!("{} may log in", other.fingerprint());
    client
        .expect_where(&added, |line| line.contains(&added))
        .await;
    let mut client = by_certificate(&daemon, &other, "", "zed").await;
    let line = client.expect("900").await;
    assert!(line.contains("logged in as bob"), "{line}");
}
