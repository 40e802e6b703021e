//! Certificates between the daemon and servers: made and shown to them, and theirs refused and pinned.

use super::changes_support::Administrator;
use super::registered;
use super::support::daemon::{PASSWORD, carom, config, network};
use super::support::script::Account;
use super::support::{Daemon, Link, MockIrcd, Script, in_time};

#[tokio::test]
async fn a_certificate_for_servers_is_made_and_shown() {
    let ircd = MockIrcd::start_tls(Script::default()).await;
    let old = network("old", "irc://[::1]:1");
    let daemon = Daemon::start(&config(&old)).await;
    let admin = Administrator::of(&daemon);
    let url = ircd.url();
    let create = ["network", "create", "-name", "net", "-addr", &url];
    admin
        .does(&[&create[..], &["-verify", "none"]].concat())
        .await;
    let link = registered(&ircd).await;
    assert_eq!(link.session().fingerprint, None);
    let told = admin
        .says(&["certfp", "fingerprint", "-network", "net"])
        .await;
    assert_eq!(told.code, 1, "{told:?}");
    let made = admin.does(&["certfp", "generate", "-network", "net"]).await;
    assert_eq!(made.lines[0], "net: certificate made; it connects anew");
    let shown = |link: &Link| {
        let print = link.session().fingerprint.clone().unwrap();
        print.replace("sha256:", "net: sha256 ")
    };
    let link = registered(&ircd).await;
    assert_eq!(made.lines[1], shown(&link));
    let ask = ["certfp", "fingerprint", "-network", "net"];
    assert_eq!(admin.does(&ask).await.lines, made.lines[1..3]);
    // Users may, too, although they name no files. The same file holds another certificate then.
    let mut client = daemon.login(&format!("apw/net:{PASSWORD}")).await;
    client.send("CAROM certfp generate -key-type ed25519").await;
    let then = "servers are shown it from the next connection on";
    client.expect_where(then, |line| line.contains(then)).await;
    let told = admin.does(&ask).await;
    assert_ne!(told.lines, made.lines[1..3]);
    admin.does(&["network", "jump", "net"]).await;
    let link = registered(&ircd).await;
    assert_eq!(told.lines[0], shown(&link));
    // What the file declares is changed there, and nothing is left lying about.
    let told = admin.says(&["certfp", "generate", "-network", "old"]).await;
    assert_eq!(told.code, 1);
    let key = "carom.toml (user.network.client_certificate)";
    assert!(told.lines[0].contains(key), "{told:?}");
    let told = admin
        .says(&["sasl", "set-external", "-network", "old"])
        .await;
    assert!(
        told.lines[0].contains("carom.toml (user.network.sasl)"),
        "{told:?}"
    );
    let folder = daemon.path("certificates").join("apw");
    let files = std::fs::read_dir(folder).map_or(0, Iterator::count);
    assert_eq!(files, 1);
}

/// The next connection whose handshake works: an attempt that was under way before may be refused yet.
async fn taken(ircd: &MockIrcd) -> Link {
    loop {
        if let Ok(link) = ircd.try_accept().await {
            return link;
        }
    }
}

#[tokio::test]
async fn a_refused_certificate_is_told_and_can_be_pinned() {
    let ircd = MockIrcd::start_tls(Script::default()).await;
    let daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    admin
        .does(&["network", "create", "-name", "net", "-addr", &ircd.url()])
        .await;
    let print = ircd.identity().fingerprint();
    assert!(ircd.try_accept().await.is_err(), "it is refused");
    let told = daemon.tells(&["trust", "-network", "net"], &print).await;
    assert!(told.contains("unknown authority"), "{told}");
    let word = format!("\"trust -network net {print}\" takes it from now on");
    assert!(told.contains(&word), "{told}");
    admin.does(&["trust", "-network", "net", &print]).await;
    let mut link = in_time("a connection that is taken", taken(&ircd)).await;
    link.registered().await;
    // The next one may be pinned before the server shows it, and either is taken.
    let next = format!("sha256:{}", "ab".repeat(32));
    admin.does(&["trust", "-network", "net", &next]).await;
    let mut link = in_time("a connection that is taken", taken(&ircd)).await;
    link.registered().await;
    let dump = admin.dump().await;
    let pins = format!("pins = [\"{print}\", \"{next}\"], verify = \"pin\"");
    assert!(dump.contains(&pins), "{dump}");
    let ask = ["trust", "-network", "net"];
    daemon.tells(&ask, "no certificate is refused").await;
    // As users of bip say it, without the fingerprint that they were shown.
    let mut client = daemon.login(&format!("apw/net:{PASSWORD}")).await;
    client.send("BIP TRUST OK").await;
    client
        .expect_where("that there is none", |line| {
            line.contains("no certificate is refused")
        })
        .await;
    let url = ircd.url();
    admin
        .does(&["network", "create", "-name", "bip", "-addr", &url])
        .await;
    assert!(ircd.try_accept().await.is_err(), "it is refused");
    let mut client = daemon.login(&format!("apw/bip:{PASSWORD}")).await;
    daemon.tells(&["trust", "-network", "bip"], &print).await;
    client.send("BIP TRUST OK").await;
    client
        .expect_where("that it is changed", |line| {
            line.contains("network bip: changed")
        })
        .await;
    in_time("a connection that is taken", taken(&ircd)).await;
}

#[tokio::test]
async fn status_tells_how_a_network_is_reached() {
    let ircd = MockIrcd::start_tls(Script::default()).await;
    let clear = MockIrcd::start_v4(Script::default()).await;
    let daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    for (name, ircd, verify) in [("net", &ircd, "none"), ("old", &clear, "ca")] {
        let url = ircd.url().replace("irc://", "irc+insecure://");
        let create = ["network", "create", "-name", name, "-addr", &url];
        admin
            .does(&[&create[..], &["-verify", verify]].concat())
            .await;
    }
    let _links = (registered(&ircd).await, registered(&clear).await);
    for (name, ircd, family, protection) in [
        ("net", &ircd, "IPv6", "TLS 1.3"),
        ("old", &clear, "IPv4", "clear text"),
    ] {
        let connected = format!("{name}: connected to");
        let short = daemon.tells(&["status"], &connected).await;
        assert!(short.contains(protection), "{short}");
        let told = admin.does(&["network", "status", name]).await.lines;
        let told: Vec<Vec<&str>> = told
            .iter()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let is_told = |key: &str, value: &str| {
            let found = told.iter().find(|line| line.first() == Some(&key));
            let found = found.unwrap_or_else(|| panic!("no {key} in {told:?}"));
            assert!(found[1..].join(" ").starts_with(value), "{found:?}");
        };
        is_told("family", family);
        is_told("protection", protection);
        is_told("address", &ircd.addr().to_string());
        for key in ["lag", "connected", "next"] {
            is_told(key, "");
        }
    }
}

#[tokio::test]
async fn a_certificate_may_have_a_key_of_each_kind() {
    let ircd = MockIrcd::start_tls(Script::default()).await;
    let daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    let url = ircd.url();
    let create = ["network", "create", "-name", "net", "-addr", &url];
    admin
        .does(&[&create[..], &["-verify", "none"]].concat())
        .await;
    let mut link = registered(&ircd).await;
    for kind in ["rsa", "ed25519", "ecdsa"] {
        let made = admin.does(&["certfp", "generate", "-key-type", kind]).await;
        // With the first one it connects anew by itself.
        if kind != "rsa" {
            admin.does(&["network", "jump"]).await;
        }
        link.expect("QUIT").await;
        link = registered(&ircd).await;
        let print = link.session().fingerprint.clone().unwrap();
        let told = admin.does(&["certfp", "fingerprint"]).await;
        assert_eq!(told.lines[0], print.replace("sha256:", "net: sha256 "));
        assert_eq!(told.lines, made.lines[1..3], "{kind}");
    }
}

#[tokio::test]
async fn a_certificate_that_was_made_is_logged_in_with() {
    let script = Script {
        caps: Some(vec!["sasl"]),
        ..Script::default()
    };
    let ircd = MockIrcd::start_tls(script).await;
    let daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    let url = ircd.url();
    let create = ["network", "create", "-name", "net", "-addr", &url];
    admin
        .does(&[&create[..], &["-verify", "none"]].concat())
        .await;
    let mut link = registered(&ircd).await;
    let without = admin.says(&["sasl", "set-external"]).await;
    assert_eq!(
        without.lines,
        ["net: no certificate; \"certfp generate\" makes one"]
    );
    // Services do not know it yet, and the user learns what to tell them.
    let made = admin.does(&["certfp", "generate"]).await;
    link.expect("QUIT").await;
    let mut link = registered(&ircd).await;
    assert!(
        link.heard()
            .iter()
            .any(|line| line == "AUTHENTICATE EXTERNAL")
    );
    assert_eq!(link.session().account, None);
    let print = link.session().fingerprint.clone().unwrap();
    let word = format!(
        "/msg NickServ CERT ADD {} (or",
        print.replace("sha256:", "")
    );
    assert!(made.lines[3].contains(&word), "{made:?}");
    ircd.change(|script| script.account = Some(Account::External("apw", print)));
    let account = |link: &Link| link.session().account.clone();
    for (words, expected) in [
        (&["network", "jump"][..], Some("apw")),
        (&["sasl", "reset"], None),
        (&["sasl", "set-external"], Some("apw")),
    ] {
        admin.does(words).await;
        link.expect("QUIT").await;
        link = registered(&ircd).await;
        assert_eq!(account(&link).as_deref(), expected, "{words:?}");
    }
    // All that was made is what a file could say.
    for words in [&["server", "dump"][..], &["server", "dump", "-secrets"]] {
        let dump = admin.does(words).await.lines.join("\n");
        assert!(dump.contains("mechanism = \"external\""), "{dump}");
        std::fs::write(daemon.path("dump.toml"), dump).unwrap();
        let check = ["check", "--offline", "--config", "dump.toml"];
        let ended = carom(&daemon.path(""), &check).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    // Who logs in by password goes on doing so.
    ircd.change(|script| script.account = Some(Account::Plain("apw", "hunter2")));
    admin.does(&["sasl", "set-plain", "apw", "hunter2"]).await;
    link.expect("QUIT").await;
    link = registered(&ircd).await;
    let made = admin.does(&["certfp", "generate"]).await;
    assert!(
        made.lines[4].contains("goes on logging in as apw with the password"),
        "{made:?}"
    );
    admin.does(&["network", "jump"]).await;
    link.expect("QUIT").await;
    assert_eq!(account(&registered(&ircd).await).as_deref(), Some("apw"));
}

#[tokio::test]
async fn the_certificate_of_a_network_goes_when_the_network_is_forgotten() {
    let ircd = MockIrcd::start_tls(Script::default()).await;
    let mut daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    let url = ircd.url();
    let create = ["user", "create", "-username", "bob", "-password", "hunter2"];
    admin.does(&create).await;
    for (user, network) in [("apw", "one"), ("bob", "two"), ("bob", "three")] {
        let as_user = ["user", "run", user];
        let create = ["network", "create", "-name", network, "-addr", &url];
        admin.does(&[&as_user[..], &create].concat()).await;
        let generate = ["certfp", "generate", "-network", network];
        admin.does(&[&as_user[..], &generate].concat()).await;
    }
    let folder = daemon.path("certificates");
    let files = || {
        let users = ["apw", "bob"].map(|user| std::fs::read_dir(folder.join(user)));
        let files = users.into_iter().flatten().flatten().flatten();
        let names = files.map(|file| file.file_name().into_string().unwrap());
        let mut names: Vec<String> = names
            .map(|name| name.split('-').next().unwrap().into())
            .collect();
        names.sort();
        names
    };
    assert_eq!(files(), ["one", "three", "two"]);
    // One that is renamed keeps its own, whatever the file is called.
    let print = ["user", "run", "apw", "certfp", "fingerprint"];
    let before = admin.does(&print).await.lines;
    let rename = ["network", "update", "one", "-name", "uno"];
    admin
        .does(&[&["user", "run", "apw"], &rename[..]].concat())
        .await;
    let after = admin.does(&print).await.lines;
    assert_eq!(after[0], before[0].replace("one:", "uno:"));
    // What can be brought back keeps its own too.
    let delete = ["user", "run", "bob", "network", "delete", "two"];
    admin.does(&delete).await;
    admin.does(&["user", "delete", "bob"]).await;
    daemon.kill().await;
    daemon.restart().await;
    assert_eq!(files(), ["one", "three", "two"]);
    admin.does(&["user", "restore", "bob"]).await;
    admin.does(&["user", "delete", "bob", "-purge"]).await;
    let gone = async {
        while files().contains(&"three".to_owned()) {
            admin.does(&["status"]).await;
        }
    };
    in_time("the file to go", gone).await;
    // The network that was deleted before is kept for seven days.
    assert_eq!(files(), ["one", "two"]);
}
