//! Limits that hurt only whoever reaches them: lines, time to log in, connections, clients, descriptors, memory.

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use support::daemon::{PASSWORD, channel, network, user};
use support::{Client, Daemon, Link, MockIrcd, Script};
use tokio::net::TcpStream;

/// One user with one network and one channel, both families on one socket.
async fn attached_to(more: &str) -> (Daemon, MockIrcd, Link) {
    let ircd = MockIrcd::start(Script::default()).await;
    let daemon = Daemon::start(&config(&ircd, more)).await;
    let link = joined(&ircd).await;
    (daemon, ircd, link)
}

fn config(ircd: &MockIrcd, more: &str) -> String {
    format!(
        "[server]\nname = \"bnc.test\"\nlisten = [\"irc+insecure://[::]:0\"]\n\n{}{}{}{more}",
        user("apw"),
        network("net", &ircd.url()),
        channel("#a")
    )
}

async fn joined(ircd: &MockIrcd) -> Link {
    let mut link = ircd.accept().await;
    link.registered().await;
    link.expect("JOIN #a").await;
    link
}

const LOGIN: &str = "apw/net:secret";

#[tokio::test]
async fn a_long_line_is_refused_and_the_next_one_read() {
    let (daemon, _ircd, mut link) = attached_to("").await;
    for addr in [daemon.addr(), daemon.addr_v4()] {
        let mut client = Client::connect(addr).await;
        // Before login.
        client.send(&format!("NICK {}", "x".repeat(600))).await;
        client.expect("417 * :").await;
        client.login(LOGIN).await;
        let fits = "y".repeat(510 - "PRIVMSG #a :".len());
        client.send(&format!("PRIVMSG #a :{fits}")).await;
        client.send(&format!("PRIVMSG #a :{fits}z")).await;
        client.expect("417 apw :").await;
        client.send("PRIVMSG #a :after").await;
        client.sync().await;
        // What does not fit with our source in front is split, and nothing of it is lost.
        let said = link
            .expect_lines("the line after it", |line| line == "PRIVMSG #a :after")
            .await;
        let texts: Vec<_> = said
            .iter()
            .filter_map(|line| line.strip_prefix("PRIVMSG #a :"))
            .collect();
        assert_eq!(texts[..texts.len() - 1].concat(), fits);
        assert!(said.iter().all(|line| line.len() <= 510));
        // An endless one.
        client.send_bytes(&vec![b'z'; 100_000]).await.unwrap();
        client.send_bytes(b"\r\n").await.unwrap();
        client.expect("417 apw :").await;
        client
            .send(&format!("@+x={} PRIVMSG #a :tags", "t".repeat(5000)))
            .await;
        client.expect("417 apw :").await;
        client.sync().await;
    }
}

#[tokio::test]
async fn lines_with_nul_or_bare_cr_are_refused_and_the_third_is_the_last() {
    let (daemon, _ircd, mut link) = attached_to("").await;
    let bad: [&[u8]; 2] = [
        b"PRIVMSG #a :nul \0 here\r\n",
        b"PRIVMSG #a :cr \r here\r\n",
    ];
    let mut client = daemon.login(LOGIN).await;
    for line in bad {
        client.send_bytes(line).await.unwrap();
        client.sync().await;
    }
    client.send("PRIVMSG #a :clean").await;
    link.expect("PRIVMSG #a :clean").await;
    assert!(link.heard().iter().all(|line| !line.contains("here")));
    client.send_bytes(bad[0]).await.unwrap();
    client.expect("ERROR :").await;
    client.ended().await;
    let mut stranger = daemon.connect().await;
    for line in [bad[0], bad[1], bad[0]] {
        stranger.send_bytes(line).await.unwrap();
    }
    stranger.expect("ERROR :").await;
    stranger.ended().await;
}

#[tokio::test]
async fn strangers_have_so_many_lines_and_http_has_none() {
    let (daemon, _ircd, _link) = attached_to("").await;
    let mut client = daemon.connect().await;
    for _ in 0..64 {
        client.send("NICK zed").await;
    }
    client.send("PING :still here").await;
    client.expect("ERROR :").await;
    client.ended().await;
    for verb in [
        "GET / HTTP/1.1",
        "POST / HTTP/1.1",
        "CONNECT irc.test:6667 HTTP/1.1",
    ] {
        let mut client = daemon.connect().await;
        client.send(verb).await;
        // What follows is not looked at.
        _ = client.send_bytes(b"Host: x\r\n\r\nNICK zed\r\n").await;
        let said = client.ended().await;
        assert!(said.len() <= 1, "{said:?}");
    }
}

#[tokio::test]
async fn who_does_not_log_in_in_time_is_sent_away() {
    let (daemon, _ircd, _link) = attached_to("\n[limits]\nregister_timeout = \"1s\"\n").await;
    let began = Instant::now();
    let mut silent = daemon.connect().await;
    let mut chatty = Client::connect(daemon.addr_v4()).await;
    let mut negotiating = daemon.connect().await;
    negotiating.send("CAP LS 302").await;
    chatty.send("NICK zed").await;
    let mut served = daemon.login(LOGIN).await;
    for client in [&mut silent, &mut chatty, &mut negotiating] {
        client.expect("ERROR :").await;
        client.ended().await;
    }
    assert!(began.elapsed() >= Duration::from_secs(1));
    served.sync().await;
}

#[tokio::test]
async fn the_oldest_stranger_gives_way_and_never_a_client() {
    let (daemon, _ircd, _link) = attached_to("\n[limits]\nunauthenticated = 3\n").await;
    let mut served = daemon.login(LOGIN).await;
    let mut strangers = Vec::new();
    for n in 0..4 {
        let mut stranger = daemon.connect().await;
        // Only when it is answered has it been let in.
        stranger.send(&format!("PING :{n}")).await;
        stranger.expect("PONG").await;
        strangers.push(stranger);
    }
    strangers[0].expect("ERROR :").await;
    strangers[0].ended().await;
    for stranger in &mut strangers[1..] {
        stranger.sync().await;
    }
    let mut second = daemon.login(LOGIN).await;
    strangers[1].ended().await;
    second.sync().await;
    served.sync().await;
}

#[tokio::test]
async fn a_user_has_so_many_clients() {
    let (daemon, _ircd, link) = attached_to("\n[limits]\nclients_per_user = 3\n").await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(daemon.login(LOGIN).await);
    }
    let mut fourth = daemon.connect().await;
    fourth.register(LOGIN).await;
    fourth.expect("ERROR :").await;
    fourth.ended().await;
    clients[0].send("QUIT").await;
    clients[0].ended().await;
    // The place is free when the daemon has seen the end, too.
    let mut fifth = loop {
        let mut client = daemon.connect().await;
        client.register(LOGIN).await;
        let answer = |line: &str| line.starts_with("ERROR") || line.contains(" 001 ");
        if client
            .expect_where("an answer", answer)
            .await
            .contains(" 001 ")
        {
            break client;
        }
    };
    link.privmsg("bob", "#a", "to all").await;
    for client in clients[1..].iter_mut().chain([&mut fifth]) {
        client.expect(":bob!bob@host.test PRIVMSG #a :to all").await;
    }
}

#[tokio::test]
async fn who_gives_no_sign_of_life_is_gone() {
    let (daemon, _ircd, link) = attached_to("\n[limits]\nclient_timeout = \"2s\"\n").await;
    let mut dead = daemon.login(LOGIN).await;
    let mut quiet = Client::connect(daemon.addr_v4()).await;
    quiet.login(LOGIN).await;
    dead.set_pongs(false);
    dead.expect("PING :carom").await;
    dead.ended().await;
    // Whoever answers may be as quiet as he likes.
    quiet.expect("PING :carom").await;
    quiet.has_said("PONG").await;
    link.privmsg("bob", "#a", "still there?").await;
    quiet
        .expect(":bob!bob@host.test PRIVMSG #a :still there?")
        .await;
}

#[tokio::test]
async fn descriptors_may_run_out() {
    let ircd = MockIrcd::start(Script::default()).await;
    let daemon = Daemon::start_after("ulimit -n 64", &config(&ircd, "")).await;
    let mut link = joined(&ircd).await;
    let mut client = daemon.login(LOGIN).await;
    let mut flood = Vec::new();
    for n in 0..100 {
        let addr: SocketAddr = if n % 2 == 0 {
            daemon.addr()
        } else {
            daemon.addr_v4()
        };
        flood.push(TcpStream::connect(addr).await.unwrap());
    }
    // The live session is served all the while, and what is said is stored.
    let mut daemon = daemon;
    daemon.logged("cannot accept").await;
    for n in 0..10 {
        link.privmsg("bob", "#a", &format!("line {n}")).await;
        client
            .expect(&format!(":bob!bob@host.test PRIVMSG #a :line {n}"))
            .await;
        client.send(&format!("PRIVMSG #a :answer {n}")).await;
        link.expect(&format!("PRIVMSG #a :answer {n}")).await;
    }
    drop(flood);
    let mut second = daemon.login("apw/net@new:secret").await;
    second.sync().await;
    client.sync().await;
    let complaints = daemon
        .log()
        .iter()
        .filter(|line| line.contains("cannot accept"))
        .count();
    assert!(complaints < 10, "{complaints} complaints");
    assert_eq!(daemon.ctl(&["status"]).await.code, Some(0));
}

/// Twenty megabytes, and who gets what of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_36_a_client_that_does_not_read_costs_nobody_anything() {
    const LINES: usize = 50_000;
    let (daemon, _ircd, link) = attached_to("").await;
    let mut good = daemon.login("apw/net@good:secret").await;
    let mut slow = daemon.login("apw/net@slow:secret").await;
    good.sync().await;
    slow.sync().await;
    slow.set_reading(false);
    let before = daemon.rss();
    let text = |n: usize| format!("{n} {}", "x".repeat(380));
    let mut most = 0;
    for start in (0..LINES).step_by(500) {
        let lines: String = (start..start + 500)
            .map(|n| format!(":bob!bob@host.test PRIVMSG #a :{}\r\n", text(n)))
            .collect();
        link.send_bytes(lines.as_bytes()).await.unwrap();
        // The good one keeps up.
        let last = text(start + 499);
        let came = good
            .expect_lines("the last of these", |line| line.ends_with(&last))
            .await;
        assert_eq!(
            came.iter().filter(|line| line.contains("PRIVMSG")).count(),
            500
        );
        most = most.max(daemon.rss());
    }
    let grown = most.saturating_sub(before) / (1024 * 1024);
    assert!(grown < 64, "the daemon grew by {grown} MiB");
    good.send("PING :alive").await;
    good.expect("PONG").await;
    slow.set_reading(true);
    let mut next = 0;
    while next < LINES {
        let line = slow
            .expect_where("a line", |line| line.contains("PRIVMSG"))
            .await;
        let (_, rest) = line.split_once(" PRIVMSG #a :").unwrap();
        let number: usize = rest.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(number, next, "in order, none left out");
        next += 1;
    }
    slow.sync().await;
    let grown = daemon.rss().saturating_sub(before) / (1024 * 1024);
    assert!(grown < 64, "the daemon grew by {grown} MiB");
}

#[tokio::test]
async fn rule_50_two_thousand_pasted_lines_all_reach_the_server_in_order() {
    let ircd = MockIrcd::start(Script::default()).await;
    let fast = config(&ircd, "").replace("servers =", "flood = { burst = 0 }\nservers =");
    let daemon = Daemon::start(&fast).await;
    let mut link = joined(&ircd).await;
    let mut client = daemon.login(LOGIN).await;
    let mut other = daemon.login("apw/net@other:secret").await;
    let paste: String = (0..2000)
        .map(|n| format!("PRIVMSG #a :pasted {n}\r\n"))
        .collect();
    client.send_bytes(paste.as_bytes()).await.unwrap();
    for n in 0..2000 {
        let line = link.expect("PRIVMSG").await;
        assert_eq!(line, format!("PRIVMSG #a :pasted {n}"));
    }
    for n in 0..2000 {
        let line = other
            .expect_where("a line", |line| line.contains("PRIVMSG"))
            .await;
        assert!(
            line.ends_with(&format!(" PRIVMSG #a :pasted {n}")),
            "{line}"
        );
    }
    client.sync().await;
}

#[tokio::test]
async fn a_paste_is_paced_and_nobody_else_waits_behind_it() {
    let ircd = MockIrcd::start(Script::default()).await;
    let paced = config(&ircd, "").replace(
        "servers =",
        "flood = { burst = 5, every = \"200ms\" }\nservers =",
    );
    let daemon = Daemon::start(&paced).await;
    let mut link = joined(&ircd).await;
    let mut client = daemon.login(LOGIN).await;
    let other = daemon.login("apw/net@other:secret").await;
    let began = Instant::now();
    let paste: String = (0..20)
        .map(|n| format!("PRIVMSG #a :pasted {n}\r\n"))
        .collect();
    client.send_bytes(paste.as_bytes()).await.unwrap();
    link.expect("PRIVMSG #a :pasted 4").await;
    other.send("PRIVMSG #a :between").await;
    let lines = link.until("PRIVMSG #a :between").await;
    assert!(lines.len() < 10, "clients take turns: {lines:?}");
    // A PING from the server is answered out of turn.
    link.send("PING :urgent").await;
    let lines = link.until("PONG").await;
    assert!(
        lines.iter().all(|line| !line.contains("pasted 19")),
        "{lines:?}"
    );
    link.expect("PRIVMSG #a :pasted 19").await;
    assert!(
        began.elapsed() >= Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    client.sync().await;
}

#[tokio::test]
async fn many_clients_come_and_go() {
    let (daemon, _ircd, link) = attached_to("").await;
    let mut clients = Vec::new();
    for n in 0..40 {
        let addr: SocketAddr = if n % 2 == 0 {
            daemon.addr()
        } else {
            daemon.addr_v4()
        };
        let mut client = Client::connect(addr).await;
        client.login(&format!("apw/net@c{n}:{PASSWORD}")).await;
        clients.push(client);
    }
    link.privmsg("bob", "#a", "to all").await;
    for client in &mut clients {
        client.expect(":bob!bob@host.test PRIVMSG #a :to all").await;
    }
    // Half of them leave in any way there is.
    for (n, mut client) in clients.drain(..20).enumerate() {
        match n % 3 {
            0 => client.send("QUIT").await,
            1 => client.close().await,
            _ => client.reset().await,
        }
    }
    link.privmsg("bob", "#a", "to the rest").await;
    for client in &mut clients {
        client
            .expect(":bob!bob@host.test PRIVMSG #a :to the rest")
            .await;
        let again = client.sync().await;
        assert!(again.is_empty(), "once: {again:?}");
    }
    assert_eq!(daemon.addr().ip(), Ipv6Addr::LOCALHOST);
}

#[tokio::test]
async fn client_names_are_limited_for_each_user_over_all_networks() {
    let networks = ["one", "two"].map(|name| network(name, "irc://[::1]:1"));
    let config = support::daemon::config(&networks.concat());
    let mut daemon = Daemon::start(&config).await;
    // Their rows are there once they were attached to.
    for name in ["one", "two"] {
        let mut client = daemon.login(&format!("apw/{name}@first:{PASSWORD}")).await;
        client.sync().await;
    }
    daemon.stop().await;
    let path = daemon.path("carom.db");
    let names = || {
        let db = rusqlite::Connection::open(&path).unwrap();
        let sql = "SELECT DISTINCT client FROM position ORDER BY client";
        let mut rows = db.prepare(sql).unwrap();
        let names = rows.query_map([], |row| row.get::<_, String>(0)).unwrap();
        names.collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(names(), ["first"]);
    {
        // One network remembers the older ones, the other the newer ones: no network has too many.
        let db = rusqlite::Connection::open(&path).unwrap();
        let ids = db
            .prepare("SELECT id FROM network ORDER BY id")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<Vec<i64>, _>>()
            .unwrap();
        for n in 0..255 {
            let (id, name) = (ids[usize::from(n >= 128)], format!("n{n:03}"));
            let copy = "INSERT INTO position SELECT network, ?2, target, id, time - 1000000 + ?3 FROM position WHERE network = ?1 AND client = 'first'";
            db.execute(copy, rusqlite::params![id, name, n]).unwrap();
        }
    }
    assert_eq!(names().len(), 256);
    daemon.restart().await;
    for login in ["apw/one@first", "apw/two@first", "apw/two@new"] {
        let mut client = daemon.login(&format!("{login}:{PASSWORD}")).await;
        client.sync().await;
    }
    daemon.stop().await;
    let after = names();
    assert_eq!(after.len(), 256);
    assert!(!after.contains(&"n000".to_owned()) && after.contains(&"new".to_owned()));
}
