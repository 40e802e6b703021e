//! How networks are reached and kept: addresses, silent and refusing servers, certificates, logins, nicks, joins, pace.

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use support::daemon::{config, network};
use support::mock_ircd::nowhere;
use support::talk::Chunks;
use support::tls::Identity;
use support::{Account, Daemon, Greeting, Link, MockIrcd, Script};

/// A network's table with these servers and keys, and further tables.
fn servers(urls: &[String], keys: &str) -> String {
    let urls: Vec<_> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    format!(
        "[[user.network]]\nname = \"net\"\nservers = [{}]\n{keys}\n",
        urls.join(", ")
    )
}

/// Short waits between attempts.
const QUICK: &str = "\n[dial]\nreconnect = \"100ms\"\nsilence = \"1s\"\n";

async fn registered(ircd: &MockIrcd) -> Link {
    let mut link = ircd.accept().await;
    link.registered().await;
    link
}

/// `localhost` with the port of a server, which has both families.
fn localhost(ircd: &MockIrcd) -> String {
    let scheme = ircd.url();
    let scheme = scheme.split("://").next().unwrap();
    format!("{scheme}://localhost:{}", ircd.addr().port())
}

/// A daemon for which `localhost` has both families. Where the machine's own has one, the daemon gets a mount namespace
/// with another `/etc/hosts`. `None`, and a word about it, where that is not allowed either.
async fn on_both_families(config: &str) -> Option<Daemon> {
    const NAMESPACE: &str = "printf '::1 localhost\\n127.0.0.1 localhost\\n' > \"$HOME/hosts\"; \
        exec unshare -rm /bin/sh -c 'mount --bind \"$HOME/hosts\" /etc/hosts && exec \"$0\" \"$@\"' \"$0\" \"$@\"";
    let own: Vec<_> = ("localhost", 0).to_socket_addrs().unwrap().collect();
    if own.iter().any(SocketAddr::is_ipv4) && own.iter().any(SocketAddr::is_ipv6) {
        return Some(Daemon::start(config).await);
    }
    let may = std::process::Command::new("unshare")
        .args(["-rm", "true"])
        .status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped: localhost has one family here, and unshare(1) cannot change that");
        return None;
    }
    Some(Daemon::start_after(NAMESPACE, config).await)
}

/// Two servers on one port, one for each family.
async fn pair(v6: Script, v4: Script) -> (MockIrcd, MockIrcd) {
    for _ in 0..100 {
        let first = MockIrcd::start(v6.clone()).await;
        let addr = (Ipv4Addr::LOCALHOST, first.addr().port());
        if let Ok(socket) = std::net::TcpListener::bind(addr) {
            drop(socket);
            return (first, MockIrcd::start_at(addr.into(), v4).await);
        }
    }
    panic!("no port is free on both addresses");
}

#[tokio::test]
async fn ipv6_comes_first() {
    let (v6, v4) = pair(Script::default(), Script::default()).await;
    let Some(daemon) = on_both_families(&config(&network("net", &localhost(&v6)))).await else {
        return;
    };
    let link = registered(&v6).await;
    assert_eq!(link.peer.ip(), IpAddr::from(Ipv6Addr::LOCALHOST));
    daemon
        .tells(&["status"], &format!("([::1]:{})", v4.addr().port()))
        .await;
}

#[tokio::test]
async fn a_family_can_be_wanted_first() {
    let (v6, v4) = pair(Script::default(), Script::default()).await;
    let family = "family = \"prefer-ipv4\"";
    let Some(_daemon) = on_both_families(&config(&servers(&[localhost(&v6)], family))).await else {
        return;
    };
    let link = registered(&v4).await;
    assert_eq!(link.peer.ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
}

#[tokio::test]
async fn ipv4_comes_at_once_when_ipv6_is_refused() {
    let v4 = MockIrcd::start_v4(Script::default()).await;
    let began = Instant::now();
    let Some(daemon) = on_both_families(&config(&network("net", &localhost(&v4)))).await else {
        return;
    };
    let link = registered(&v4).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(link.peer.ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
    daemon
        .tells(&["status"], &format!("(127.0.0.1:{})", v4.addr().port()))
        .await;
}

#[tokio::test]
async fn a_silent_server_is_left_for_the_next_address() {
    let silent = Script {
        greeting: Greeting::Silence,
        ..Script::default()
    };
    let (v6, v4) = pair(silent, Script::default()).await;
    let began = Instant::now();
    let Some(_daemon) = on_both_families(&(config(&network("net", &localhost(&v6))) + QUICK)).await
    else {
        return;
    };
    let mut first = v6.accept().await;
    registered(&v4).await;
    first.ended().await;
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_hangs_up_without_a_word_is_left_for_the_next_address() {
    let close = Script {
        greeting: Greeting::Close,
        ..Script::default()
    };
    let (v6, v4) = pair(close, Script::default()).await;
    let Some(_daemon) = on_both_families(&config(&network("net", &localhost(&v6)))).await else {
        return;
    };
    v6.accept().await;
    registered(&v4).await;
}

#[tokio::test]
async fn an_error_is_never_evaded_by_the_other_family() {
    for text in [
        "Closing link: you are banned",
        "Throttled: reconnecting too fast",
        "Go away",
    ] {
        let error = Script {
            greeting: Greeting::Error(text.to_owned()),
            ..Script::default()
        };
        let (v6, v4) = pair(error, Script::default()).await;
        let Some(mut daemon) =
            on_both_families(&(config(&network("net", &localhost(&v6))) + QUICK)).await
        else {
            return;
        };
        let mut link = v6.accept().await;
        link.ended().await;
        let mut client = daemon.login("apw/net:secret").await;
        client.sync().await;
        let status = daemon.tells(&["network", "status"], "next try in").await;
        assert!(status.contains(text), "{status}");
        let seconds: u64 = status
            .split("next try in ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .unwrap()
            .parse()
            .unwrap();
        let least = if text.contains("banned") { 1700 } else { 50 };
        assert!(seconds >= least, "{status}");
        assert!(
            daemon
                .log()
                .iter()
                .all(|line| !line.contains("connected to irc://localhost")
                    || !line.contains("127.0.0.1"))
        );
        // Nobody came to the other address.
        daemon.stop().await;
        let other = tokio::time::timeout(Duration::ZERO, v4.try_accept()).await;
        assert!(other.is_err(), "{text}: it came by IPv4");
    }
}

#[tokio::test]
async fn servers_are_tried_in_their_order() {
    let last = MockIrcd::start_v4(Script::default()).await;
    let close = MockIrcd::start(Script {
        greeting: Greeting::Close,
        ..Script::default()
    })
    .await;
    let urls = [
        format!("irc://{}", nowhere(Ipv6Addr::LOCALHOST.into())),
        close.url(),
        last.url(),
    ];
    let _daemon = Daemon::start(&config(&servers(&urls, ""))).await;
    close.accept().await;
    registered(&last).await;
}

#[tokio::test]
async fn a_certificate_must_be_trusted_or_pinned() {
    let identity = Identity::new("irc.test");
    let folder = tempfile::TempDir::new().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &identity.certificate_pem).unwrap();
    let other = folder.path().join("other.pem");
    std::fs::write(&other, &Identity::new("irc.test").certificate_pem).unwrap();
    let pin = identity.fingerprint();
    let hex = pin.strip_prefix("sha256:").unwrap();
    let upper = format!("sha256:{}", hex.to_uppercase());
    let colons: Vec<String> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| String::from_utf8_lossy(pair).into_owned())
        .collect();
    let key = rcgen::KeyPair::from_pem(&identity.key_pem).unwrap();
    let spki: String = Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let wrong = format!("sha256:{}", "0".repeat(64));
    for (tls, is_taken) in [
        (String::new(), false),
        (format!("tls = {{ ca = \"{}\" }}", ca.display()), true),
        (format!("tls = {{ ca = \"{}\" }}", other.display()), false),
        (
            format!("tls = {{ verify = \"pin\", pins = [\"{pin}\"] }}"),
            true,
        ),
        (
            format!("tls = {{ verify = \"pin\", pins = [\"{wrong}\", \"{upper}\"] }}"),
            true,
        ),
        (
            format!(
                "tls = {{ verify = \"pin\", pins = [\"sha256:{}\"] }}",
                colons.join(":")
            ),
            true,
        ),
        (
            format!("tls = {{ verify = \"pin\", pins = [\"spki-sha256:{spki}\"] }}"),
            true,
        ),
        (
            format!("tls = {{ verify = \"pin\", pins = [\"{wrong}\"] }}"),
            false,
        ),
        (
            format!(
                "tls = {{ verify = \"pin\", pins = [\"spki-sha256:{}\"] }}",
                "1".repeat(64)
            ),
            false,
        ),
        ("tls = { verify = \"none\" }".to_owned(), true),
    ] {
        for ip in [
            IpAddr::from(Ipv6Addr::LOCALHOST),
            Ipv4Addr::LOCALHOST.into(),
        ] {
            let ircd = MockIrcd::start_at((ip, 0).into(), Script::default())
                .await
                .with_tls(identity.clone());
            let mut daemon = Daemon::start(&config(&servers(&[ircd.url()], &tls))).await;
            if is_taken {
                let _link = registered(&ircd).await;
                daemon.tells(&["status"], "TLS 1.").await;
            } else {
                assert!(
                    support::in_time("a handshake", ircd.try_accept())
                        .await
                        .is_err(),
                    "{tls}"
                );
                daemon.logged("not reached").await;
            }
        }
    }
}

#[tokio::test]
async fn sasl_plain_and_external_and_a_server_password_log_in() {
    let plain = MockIrcd::start(Script {
        caps: Some(vec!["sasl=PLAIN,EXTERNAL", "multi-prefix"]),
        caps_a_line: 1,
        account: Some(Account::Plain("acct", "hunter2")),
        ..Script::default()
    })
    .await;
    let sasl = "sasl = { mechanism = \"plain\", account = \"acct\", password = \"hunter2\" }";
    let _daemon = Daemon::start(&config(&servers(&[plain.url()], sasl))).await;
    let link = registered(&plain).await;
    assert_eq!(link.session().account.as_deref(), Some("acct"));

    let ours = Identity::new("client.test");
    let folder = tempfile::TempDir::new().unwrap();
    let pem = folder.path().join("client.pem");
    std::fs::write(&pem, format!("{}{}", ours.certificate_pem, ours.key_pem)).unwrap();
    std::fs::set_permissions(&pem, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let external = MockIrcd::start_tls(Script {
        caps: Some(vec!["sasl"]),
        account: Some(Account::External("acct", ours.fingerprint())),
        ..Script::default()
    })
    .await;
    let keys = format!(
        "sasl = {{ mechanism = \"external\" }}\nclient_certificate = \"{}\"\ntls = {{ verify = \"none\" }}",
        pem.display()
    );
    let _daemon = Daemon::start(&config(&servers(&[external.url()], &keys))).await;
    let link = registered(&external).await;
    assert_eq!(link.session().account.as_deref(), Some("acct"));
    assert_eq!(link.session().fingerprint, Some(ours.fingerprint()));

    let pass = MockIrcd::start_v4(Script {
        password: Some("open sesame"),
        ..Script::default()
    })
    .await;
    let _daemon = Daemon::start(&config(&servers(
        &[pass.url()],
        "password = \"open sesame\"",
    )))
    .await;
    registered(&pass).await;
}

#[tokio::test]
async fn scram_proves_both_sides() {
    let ircd = MockIrcd::start_tls(Script {
        caps: Some(vec!["sasl=SCRAM-SHA-256"]),
        account: Some(Account::Scram("acct", "hunter2")),
        ..Script::default()
    })
    .await;
    let keys = |password| {
        format!(
            "sasl = {{ mechanism = \"scram-sha-256\", account = \"acct\", password = \"{password}\" }}\n\
             tls = {{ verify = \"none\" }}"
        )
    };
    let right = Daemon::start(&config(&servers(&[ircd.url()], &keys("hunter2")))).await;
    let link = registered(&ircd).await;
    assert_eq!(link.session().account.as_deref(), Some("acct"));
    let mut client = right.connect().await;
    client.register("apw/net:secret").await;
    client
        .expect_where("the account", |line| {
            line.contains(" 900 ") && line.contains("acct")
        })
        .await;
    drop(right);

    let mut wrong = Daemon::start(&config(&servers(&[ircd.url()], &keys("hunter3")))).await;
    let mut link = ircd.accept().await;
    link.ended().await;
    assert!(!link.session().is_registered);
    assert!(!wrong.log().join("\n").contains("hunter3"));
    wrong.kill().await;
}

#[tokio::test]
async fn a_server_that_wants_tls_is_never_met_in_clear_text_again() {
    let tls = MockIrcd::start_tls(Script {
        caps: Some(vec!["sts=duration=3600", "batch"]),
        password: Some("open sesame"),
        ..Script::default()
    })
    .await;
    let sts = format!("sts=port={}", tls.addr().port());
    let clear = MockIrcd::start(Script {
        caps: Some(vec!["batch", sts.leak()]),
        ..Script::default()
    })
    .await;
    let folder = tempfile::TempDir::new().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &tls.identity().certificate_pem).unwrap();
    let url = format!("irc+insecure://localhost:{}", clear.addr().port());
    let keys = format!(
        "family = \"ipv6\"\npassword = \"open sesame\"\ntls = {{ ca = \"{}\" }}",
        ca.display()
    );
    let Some(mut daemon) = on_both_families(&(config(&servers(&[url], &keys)) + QUICK)).await
    else {
        return;
    };
    let mut link = clear.accept().await;
    let heard = link.ended().await;
    assert!(
        !heard.iter().any(|line| line.contains("sesame")),
        "{heard:?}"
    );
    let link = registered(&tls).await;
    drop(link);
    // Another connection, and another run, go to the same place.
    drop(registered(&tls).await);
    daemon.kill().await;
    daemon.restart().await;
    let _link = registered(&tls).await;
    let met = tokio::time::timeout(Duration::from_millis(1), clear.try_accept()).await;
    assert!(met.is_err(), "met in clear text again");
}

#[tokio::test]
async fn who_has_no_client_there_is_away() {
    let ircd = MockIrcd::start(Script::default()).await;
    let keys = "away_message = \"Gone fishing\"\naway_nick = \"apw-away\"";
    let mut daemon = Daemon::start(&config(&servers(&[ircd.url()], keys))).await;
    let mut link = registered(&ircd).await;
    link.expect("AWAY :Gone fishing").await;
    link.expect("NICK apw-away").await;
    let mut client = daemon.login("apw/net:secret").await;
    link.expect("AWAY").await;
    link.expect("NICK apw").await;
    client.send("AWAY :lunch").await;
    link.expect("AWAY :lunch").await;
    // What is stored behind it has been shown.
    link.send(":bob!b@h PRIVMSG apw :stored").await;
    client.expect("PRIVMSG apw :stored").await;
    drop(client);
    link.expect("NICK apw-away").await;
    daemon.kill().await;
    daemon.restart().await;
    let mut link = registered(&ircd).await;
    link.expect("AWAY :lunch").await;
}

#[tokio::test]
async fn a_refused_login_is_not_tried_again_soon() {
    let ircd = MockIrcd::start(Script {
        caps: Some(vec!["sasl"]),
        account: Some(Account::Plain("acct", "other")),
        ..Script::default()
    })
    .await;
    let sasl = "sasl = { mechanism = \"plain\", account = \"acct\", password = \"hunter2\" }";
    let daemon = Daemon::start(&(config(&servers(&[ircd.url()], sasl)) + QUICK)).await;
    let mut link = ircd.accept().await;
    link.ended().await;
    let mut client = daemon.login("apw/net:secret").await;
    client
        .expect_where("what is the matter", |line| {
            line.contains("NOTICE") && line.contains("next try")
        })
        .await;
    assert!(!daemon.log().join("\n").contains("hunter2"));
}

#[tokio::test]
async fn servers_without_cap_and_nicks_in_use_are_taken_as_they_are() {
    let ircd = MockIrcd::start(Script {
        caps: None,
        taken: vec!["apw", "apw_"],
        ..Script::default()
    })
    .await;
    let nicks = "alternative_nicks = [\"apw_\", \"apw-away\"]";
    let daemon = Daemon::start(&config(&servers(&[ircd.url()], nicks))).await;
    let link = registered(&ircd).await;
    assert_eq!(link.nick(), "apw-away");
    let mut client = daemon.connect().await;
    client.register("apw/net:secret").await;
    client.expect("001 apw-away ").await;
}

#[tokio::test]
async fn channels_are_joined_with_keys_and_again_after_a_lost_link() {
    let ircd = MockIrcd::start(Script::default()).await;
    let channels = "[[user.network.channel]]\nname = \"#open\"\n\n[[user.network.channel]]\nname = \"#closed\"\nkey = \"sesame\"\n";
    let mut daemon = Daemon::start(&(config(&servers(&[ircd.url()], channels)) + QUICK)).await;
    let mut client = daemon.login("apw/net:secret").await;
    for n in 0..3 {
        let mut link = registered(&ircd).await;
        let joins = joined(&mut link, 2).await;
        assert!(
            joins.contains(&("#closed".to_owned(), Some("sesame".to_owned()))),
            "{joins:?}"
        );
        assert!(joins.contains(&("#open".to_owned(), None)), "{joins:?}");
        link.privmsg("bob", "#closed", &format!("after {n}")).await;
        client
            .expect(&format!(":bob!bob@host.test PRIVMSG #closed :after {n}"))
            .await;
        let began = Instant::now();
        match n {
            0 => link.kill_link().await,
            1 => link.close().await,
            _ => {
                daemon.kill().await;
                daemon.restart().await;
                let mut link = registered(&ircd).await;
                joined(&mut link, 2).await;
                return;
            }
        }
        // Within 7 s by design; `accept` gives up after 10.
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}

/// So many channels joined by a link, with their keys.
async fn joined(link: &mut Link, many: usize) -> Vec<(String, Option<String>)> {
    let mut joins = Vec::new();
    while joins.len() < many {
        let line = link.expect("JOIN ").await;
        let mut words = line.split(' ').skip(1);
        let names: Vec<_> = words.next().unwrap().split(',').collect();
        let keys: Vec<_> = words.next().unwrap_or_default().split(',').collect();
        for (n, name) in names.iter().enumerate() {
            let key = keys.get(n).filter(|key| !key.is_empty());
            joins.push(((*name).to_owned(), key.map(|key| (*key).to_owned())));
        }
    }
    joins
}

#[tokio::test]
async fn pings_are_answered_in_both_directions() {
    let ircd = MockIrcd::start(Script::default()).await;
    let daemon = Daemon::start(&config(&network("net", &ircd.url()))).await;
    let mut link = registered(&ircd).await;
    for token in ["plain", "with spaces in it", ":colon"] {
        link.send(&format!("PING :{token}")).await;
        let pong = link.expect("PONG").await;
        assert!(pong.ends_with(token), "{pong}");
    }
    let mut client = daemon.login("apw/net:secret").await;
    client.send("PING one two").await;
    client.expect("PONG").await;
    client.sync().await;
    link.send("PING :nothing else").await;
    let said = link.until("PONG").await;
    assert_eq!(said.len(), 1, "a client's PING is ours to answer: {said:?}");
}

#[tokio::test]
async fn what_is_said_on_connecting_comes_before_the_joins() {
    let ircd = MockIrcd::start(Script::default()).await;
    let keys = "on_connect = [\"PRIVMSG NickServ :IDENTIFY hunter2\", \"MODE apw +B\"]\n\n[[user.network.channel]]\nname = \"#a\"\n";
    let daemon = Daemon::start(&config(&servers(&[ircd.url()], keys))).await;
    let mut link = registered(&ircd).await;
    let said = link.until("JOIN #a").await;
    let at = |start: &str| said.iter().position(|line| line.starts_with(start));
    let identify = at("PRIVMSG NickServ :IDENTIFY hunter2");
    assert!(
        identify.is_some() && identify < at("MODE apw +B"),
        "{said:?}"
    );
    let mut client = daemon.login("apw/net:secret").await;
    client.sync().await;
    assert!(client.heard().iter().all(|line| !line.contains("hunter2")));
    assert!(!daemon.log().join("\n").contains("hunter2"));
}

#[tokio::test]
async fn a_server_may_speak_in_single_bytes() {
    let identity = Identity::new("irc.test");
    let keys = "tls = { verify = \"none\" }\n\n[[user.network.channel]]\nname = \"#a\"\n";
    for ip in [
        IpAddr::from(Ipv6Addr::LOCALHOST),
        Ipv4Addr::LOCALHOST.into(),
    ] {
        for in_tls in [false, true] {
            let mut ircd = MockIrcd::start_at((ip, 0).into(), Script::default()).await;
            if in_tls {
                ircd = ircd.with_tls(identity.clone());
            }
            let daemon = Daemon::start(&config(&servers(&[ircd.url()], keys))).await;
            let mut link = ircd.accept().await;
            link.set_chunks(Chunks::Bytes);
            link.registered().await;
            link.expect("JOIN #a").await;
            let mut client = daemon.connect().await.in_bytes();
            client.login("apw/net:secret").await;
            client.expect("366").await;
            link.privmsg("bob", "#a", "byte by byte").await;
            let line = ":bob!bob@host.test PRIVMSG #a :byte by byte";
            assert_eq!(client.expect(":bob").await, line);
            client.send("PRIVMSG #a :and back").await;
            link.expect("PRIVMSG #a :and back").await;
        }
    }
}

#[tokio::test]
async fn many_networks_are_reached_side_by_side() {
    let ircd = MockIrcd::start(Script::default()).await;
    let names: String = (0..20)
        .map(|n| network(&format!("n{n}"), &ircd.url()))
        .collect();
    let pace = "\n[dial]\npace = { burst = 1, every = \"1h\" }\n";
    let began = Instant::now();
    let _daemon = Daemon::start(&(config(&names) + pace)).await;
    let mut links = Vec::new();
    for _ in 0..20 {
        links.push(ircd.accept().await);
    }
    for link in &mut links {
        link.registered().await;
    }
    // Loopback is exempt from the pace.
    assert!(began.elapsed() < Duration::from_secs(60));
}
