//! Changing a running daemon: by words, by the file, under traffic and under kills.

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

#[path = "e2e/accounts.rs"]
mod accounts;
#[path = "e2e/bip.rs"]
mod bip;
#[path = "e2e/certificates.rs"]
mod certificates;
mod changes_support;
#[path = "e2e/kills.rs"]
mod kills;
mod support;
#[path = "e2e/users.rs"]
mod users;

use std::collections::BTreeSet;
use std::time::Duration;

use changes_support::{Administrator, Random, invalid_mutants};
use support::daemon::{PASSWORD, channel, config, network, user};
use support::{Client, Daemon, Link, MockIrcd, Script};
use tokio::time::timeout;

async fn registered(ircd: &MockIrcd) -> Link {
    let mut link = ircd.accept().await;
    link.registered().await;
    link
}

#[tokio::test]
async fn what_is_made_takes_effect_at_once_and_survives_a_kill() {
    let ircd = MockIrcd::start(Script::default()).await;
    let mut daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    admin
        .does(&["network", "create", "-name", "net", "-addr", &ircd.url()])
        .await;
    let mut link = registered(&ircd).await;
    admin
        .does(&["channel", "create", "#a", "-network", "net", "-key", "k"])
        .await;
    link.expect("JOIN #a k").await;
    let mut client = daemon.login(&format!("apw/net:{PASSWORD}")).await;
    client.expect("366").await;
    admin
        .does(&["network", "update", "net", "-nick", "other"])
        .await;
    link.expect("NICK other").await;
    client.expect(":apw!").await;
    // One user beside him: himself, as the file knows him, is refused.
    let told = admin
        .says(&["user", "create", "-username", "bob", "-password", "hunter2"])
        .await;
    assert_eq!(told.code, 0, "{told:?}");
    daemon.login("bob:hunter2").await;
    let refused = admin.says(&["user", "update", "apw", "-nick", "x"]).await;
    assert_eq!(refused.code, 1);
    assert!(
        refused.lines[0].contains("carom.toml (user.nick)"),
        "{refused:?}"
    );
    let before = admin.dump().await;
    daemon.kill().await;
    daemon.restart().await;
    assert_eq!(admin.dump().await, before);
    let mut link = registered(&ircd).await;
    link.expect("JOIN #a k").await;
    assert_eq!(link.nick(), "other");
    let mut client = daemon.login(&format!("apw/net:{PASSWORD}")).await;
    client.expect("366").await;
    daemon.login("bob:hunter2").await;
    admin
        .does(&["user", "run", "apw", "network", "delete", "net"])
        .await;
    link.expect("QUIT").await;
    client.expect("ERROR").await;
    let mut client = daemon.connect().await;
    client.register(&format!("apw/net:{PASSWORD}")).await;
    assert!(client.expect("ERROR").await.contains("no network \"net\""));
}

#[tokio::test]
async fn a_deleted_user_is_out_at_once_and_comes_back_with_all_he_had() {
    let ircd = MockIrcd::start(Script::default()).await;
    let mut daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    admin
        .does(&["user", "create", "-username", "bob", "-password", "hunter2"])
        .await;
    admin
        .does(&[
            "user",
            "run",
            "bob",
            "network",
            "create",
            "-name",
            "net",
            "-addr",
            &ircd.url(),
        ])
        .await;
    let mut link = registered(&ircd).await;
    let mut clients = Vec::new();
    for login in ["bob/net:hunter2", "bob/net@other:hunter2"] {
        clients.push(daemon.login(login).await);
    }
    admin.does(&["user", "delete", "bob"]).await;
    for client in &mut clients {
        assert!(
            client
                .expect("ERROR")
                .await
                .contains("This account was closed")
        );
    }
    link.expect("QUIT").await;
    let mut client = daemon.connect().await;
    client.register("bob/net:hunter2").await;
    client.expect("464").await;
    daemon.kill().await;
    daemon.restart().await;
    admin.does(&["user", "restore", "bob"]).await;
    registered(&ircd).await;
    daemon.login("bob/net:hunter2").await;
    // Another password is the only one at once; who is attached stays.
    admin
        .does(&["user", "run", "bob", "password", "other"])
        .await;
    daemon.login("bob/net:other").await;
    let mut client = daemon.connect().await;
    client.register("bob/net:hunter2").await;
    client.expect("464").await;
    admin.does(&["user", "delete", "bob", "-purge"]).await;
    let told = admin.says(&["user", "restore", "bob"]).await;
    assert_eq!(told.code, 1, "{told:?}");
}

#[tokio::test]
async fn networks_of_others_than_administrators_do_not_reach_this_host() {
    let ircd = MockIrcd::start(Script::default()).await;
    let daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    admin
        .does(&["user", "create", "-username", "bob", "-password", "hunter2"])
        .await;
    let mut bob = daemon.login("bob:hunter2").await;
    let port = ircd.addr().port();
    bob.send(&format!(
        "CAROM network create -name spy -addr irc+insecure://localhost:{port}"
    ))
    .await;
    bob.expect(":*carom").await;
    daemon.tells(&["network", "explain"], "internal").await;
    bob.send("CAROM network explain spy").await;
    let told = bob.sync().await.join("\n");
    assert!(told.contains("could not connect"), "{told}");
    for secret in ["::1", "127.0.0.1", "internal", "loopback"] {
        assert!(!told.contains(secret), "{secret} is told: {told}");
    }
    bob.send("CAROM network update spy -addr unix:/run/ircd.sock")
        .await;
    let told = bob.sync().await.join("\n");
    assert!(told.contains("only administrators"), "{told}");
    // An administrator's word is enough.
    let url = format!("irc+insecure://[::1]:{port}");
    admin
        .does(&[
            "user", "run", "bob", "network", "update", "spy", "-addr", &url,
        ])
        .await;
    registered(&ircd).await;
}

#[tokio::test]
async fn a_reload_changes_what_changed_and_nobody_else_notices() {
    let (one, two) = (
        MockIrcd::start(Script::default()).await,
        MockIrcd::start(Script::default()).await,
    );
    let base = config(&(network("one", &one.url()) + &channel("#a")));
    let mut daemon = Daemon::start(&base).await;
    let admin = Administrator::of(&daemon);
    let mut link = registered(&one).await;
    link.expect("JOIN #a").await;
    let mut client = daemon.login(&format!("apw/one:{PASSWORD}")).await;
    client.expect("366").await;
    // A channel, a network, a user, a limit; what was there is where it was.
    let more = format!(
        "{base}{}{}{}",
        channel("#b"),
        network("two", &two.url()),
        user("bob")
    );
    let more = more.replace(
        "[[user]]\nname = \"apw\"",
        "[limits]\nclients_per_user = 2\n\n[[user]]\nname = \"apw\"",
    );
    daemon.configure(&more);
    let told = admin
        .says(&["server", "reload", "-dry-run"])
        .await
        .lines
        .join("\n");
    for part in [
        "limits.clients_per_user",
        "user bob: new",
        "network apw/two: new",
        "network apw/one: channel",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert!(!told.contains("connects anew"), "{told}");
    daemon.reload();
    link.expect("JOIN #b").await;
    let mut link_two = registered(&two).await;
    daemon.logged("read again and applied").await;
    let mut bob = daemon.login(&format!("bob:{PASSWORD}")).await;
    let _second = daemon.login(&format!("apw/two:{PASSWORD}")).await;
    let mut third = daemon.connect().await;
    third.register(&format!("apw/two:{PASSWORD}")).await;
    third.expect("ERROR").await;
    client.expect("366").await;
    // What leads to a server takes a new link to that one, and is told beforehand.
    let anew = more.replacen("name = \"two\"", "name = \"two\"\nusername = \"u\"", 1);
    daemon.configure(&anew);
    let told = admin
        .says(&["server", "reload", "-dry-run"])
        .await
        .lines
        .join("\n");
    assert!(
        told.contains("apw/two") && !told.contains("apw/one"),
        "{told}"
    );
    daemon.reload();
    link_two.expect("QUIT").await;
    let mut link_two = registered(&two).await;
    // Gone from the file, gone from the world; the first link has not heard of any of it.
    daemon.configure(&base);
    daemon.reload();
    link.expect("PART #b").await;
    link_two.expect("QUIT").await;
    bob.expect("ERROR").await;
    let mut bob = daemon.connect().await;
    bob.register(&format!("bob:{PASSWORD}")).await;
    bob.expect("464").await;
    assert_eq!(link.why_ended(), None);
    assert!(link.heard().iter().all(|line| !line.starts_with("QUIT")));
    assert_eq!(client.why_ended(), None);
}

#[tokio::test]
async fn two_hundred_broken_files_change_nothing() {
    let ircd = MockIrcd::start(Script::default()).await;
    let base = config(&(network("net", &ircd.url()) + &channel("#a")));
    let daemon = Daemon::start(&base).await;
    let admin = Administrator::of(&daemon);
    let link = registered(&ircd).await;
    let mut client = daemon.login(&format!("apw/net:{PASSWORD}")).await;
    client.expect("366").await;
    let (before, heard) = (admin.dump().await, link.heard().len());
    let mutants = invalid_mutants(&format!("{base}\n[storage]\npath = \"carom.db\"\n"), 200);
    for (text, errors) in &mutants {
        std::fs::write(daemon.path("carom.toml"), text).unwrap();
        let told = admin.says(&["server", "reload"]).await;
        assert_eq!(told.code, 1, "{text}\n{told:?}");
        let lines = told.lines.join("\n");
        // Every error is told.
        for error in errors {
            assert!(lines.contains(error), "{error:?} is not in {lines}\n{text}");
        }
    }
    assert_eq!(admin.dump().await, before);
    assert_eq!(client.sync().await, Vec::<String>::new());
    assert_eq!((link.why_ended(), link.heard().len()), (None, heard));
    link.privmsg("bob", "#a", "still there").await;
    client.expect(":bob!").await;
    daemon.configure(&base);
    admin.does(&["server", "reload"]).await;
}

#[tokio::test]
async fn what_needs_a_restart_is_told_and_not_done() {
    let mut daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    daemon.configure(&format!(
        "{}\n[storage]\npath = \"other/carom.db\"\n",
        config("")
    ));
    let told = admin.says(&["server", "reload"]).await.lines.join("\n");
    assert!(told.contains("storage.path"), "{told}");
    daemon
        .logged("restart to apply what changed in storage.path")
        .await;
    assert!(!daemon.path("other").exists());
    // The log and the control socket go on without one.
    daemon.configure(&format!("{}\n[log]\nlevel = \"debug\"\n", config("")));
    admin.does(&["server", "reload"]).await;
    drop(daemon.connect().await);
    daemon.logged("DEBUG").await;
    let socket = daemon.path("elsewhere.sock");
    let text = config("").replace(
        "[server]",
        &format!("[server]\ncontrol = \"{}\"", socket.display()),
    );
    daemon.configure(&text);
    admin.says(&["server", "reload"]).await;
    let moved = Administrator::at(socket);
    moved.does(&["server", "status"]).await;
    assert!(admin.try_says(&["server", "status"]).await.is_err());
}

/// The rounds of a test that kills.
const KILLS: u64 = 14;

#[tokio::test]
async fn killed_in_the_middle_a_change_is_whole_or_absent() {
    let mut daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    admin
        .does(&[
            "network",
            "create",
            "-name",
            "a",
            "-addr",
            "ircs://nowhere.invalid",
            "-enabled",
            "false",
            "-nick",
            "nick-a",
        ])
        .await;
    admin
        .does(&["user", "create", "-username", "bob", "-password", "hunter2"])
        .await;
    let mut random = Random(7);
    let (mut name, mut changed, mut bob) = ('a', 0, true);
    for round in 0..KILLS {
        let next = if name == 'a' { 'b' } else { 'a' };
        // Each is several rows.
        let words: Vec<String> = if round % 2 == 0 {
            [
                "network",
                "update",
                &name.to_string(),
                "-name",
                &next.to_string(),
                "-nick",
                &format!("nick-{next}"),
            ]
            .map(str::to_owned)
            .to_vec()
        } else if bob {
            ["user", "delete", "bob", "-purge"]
                .map(str::to_owned)
                .to_vec()
        } else {
            ["user", "create", "-username", "bob", "-password", "hunter2"]
                .map(str::to_owned)
                .to_vec()
        };
        // Hashing a password takes its time.
        let slow = round % 2 == 1 && !bob;
        admin
            .begin(&words, random.below(if slow { 400_000 } else { 6_000 }))
            .await;
        daemon.kill().await;
        daemon.restart().await;
        let dump = admin.dump().await;
        let has = |name: char, nick: char| {
            dump.contains(&format!("name = \"{name}\""))
                && dump.contains(&format!("nick = \"nick-{nick}\""))
        };
        assert!(has('a', 'a') != has('b', 'b'), "half a change:\n{dump}");
        assert!(!has('a', 'b') && !has('b', 'a'), "half a change:\n{dump}");
        if !has(name, name) {
            (name, changed) = (next, changed + 1);
        }
        let has_bob = dump.contains("name = \"bob\"");
        changed += u64::from(has_bob != bob);
        bob = has_bob;
        let hashes = dump.matches("password = \"<hidden>\"").count();
        assert_eq!(
            hashes,
            1 + usize::from(bob),
            "a user with his password, or neither:\n{dump}"
        );
        if bob {
            daemon.login("bob:hunter2").await;
        }
    }
    eprintln!("{changed} of {KILLS} changes were whole, the others absent");
}

#[tokio::test]
async fn any_administration_under_traffic_ends_as_the_model_says() {
    let ircd = MockIrcd::start(Script::default()).await;
    let daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    let mut world = changes_support::World::new(&ircd.url());
    let mut random = Random(11);
    let mut links: Vec<Link> = Vec::new();
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..120 {
        match random.below(10) {
            0..6 => {
                let (words, works) = world.change(&mut random);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let told = admin.says(&words).await;
                assert_eq!(told.code == 0, works, "{words:?}: {told:?}");
            }
            6 => {
                if let Some(login) = world.login(&mut random) {
                    let client = daemon.connect().await;
                    client.register(&login).await;
                    clients.push(client);
                }
            }
            7 if !links.is_empty() => {
                let at = random.below(links.len() as u64);
                links
                    .swap_remove(usize::try_from(at).unwrap())
                    .kill_link()
                    .await;
            }
            8 => {
                for link in &links {
                    link.privmsg("somebody", "#x", "hello").await;
                }
            }
            _ => drop(clients.pop()),
        }
        while let Ok(link) = timeout(Duration::ZERO, ircd.try_accept()).await {
            links.push(link.unwrap());
        }
        links.retain(|link| link.why_ended().is_none());
    }
    settle(&ircd, &admin, &mut links, &world.running()).await;
    let dump = admin.dump().await;
    assert_eq!(world.told(), changes_support::told(&dump), "{dump}");
    let log = daemon.log();
    let faults: BTreeSet<_> = log
        .iter()
        .filter(|line| line.contains("panicked") || line.contains("a fault in"))
        .collect();
    assert!(faults.is_empty(), "{faults:?}");
}

/// Waits until there is one link for each of these nicks, and no other.
async fn settle(ircd: &MockIrcd, admin: &Administrator, links: &mut Vec<Link>, wanted: &[String]) {
    let more = Duration::from_millis(20);
    let settled = async {
        loop {
            while let Ok(link) = timeout(more, ircd.try_accept()).await {
                links.push(link.unwrap());
            }
            links.retain(|link| link.why_ended().is_none());
            let mut nicks = nicks(links);
            nicks.sort();
            if nicks == wanted {
                return;
            }
            // It goes on while it is asked.
            admin.does(&["network", "status"]).await;
        }
    };
    let settled = timeout(support::DEADLINE * 2, settled).await;
    assert!(
        settled.is_ok(),
        "links of {:?}, and the model has {wanted:?}",
        nicks(links)
    );
}

fn nicks(links: &[Link]) -> Vec<String> {
    let nicks = links.iter().filter_map(|link| link.session().nick.clone());
    nicks.collect()
}
