//! The life of the daemon as its administrator sees it: starts, first passwords and certificates, files, signals, exit
//! codes, the control socket.

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use support::daemon::{Ended, PASSWORD, carom, channel, config, network, user, write_config};
use support::tls::{Identity, certificate_of};
use support::{Client, Daemon, MockIrcd, Script};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A daemon that stops orderly does so within this time.
const STOP: Duration = Duration::from_secs(5);

/// One user without a password and without networks.
const NEW_USER: &str =
    "[server]\nname = \"bnc.test\"\nlisten = [\"irc://[::1]:0\"]\n\n[[user]]\nname = \"apw\"\n";

/// Both families on one socket, with TLS and a certificate that is made.
fn both_families() -> String {
    format!(
        "[server]\nname = \"bnc.test\"\nlisten = [\"ircs://[::]:0\"]\n\n{}",
        user("apw")
    )
}

/// The modes of all files below a folder.
fn modes(folder: &Path, found: &mut BTreeMap<String, u32>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let name = entry.path().display().to_string();
        found.insert(name, metadata.permissions().mode() & 0o777);
        if metadata.is_dir() {
            modes(&entry.path(), found);
        }
    }
}

/// Starts a daemon that is to fail.
async fn fails(folder: &Path) -> Ended {
    carom(folder, &["run"]).await
}

#[tokio::test]
async fn a_first_start_prints_a_password_that_works_and_a_second_none() {
    let mut daemon = Daemon::start(NEW_USER).await;
    let told = daemon.stdout();
    let [line] = told.as_slice() else {
        panic!("one line on standard output, not {told:?}");
    };
    let password = line.strip_prefix("password for apw: ").unwrap().to_owned();
    assert!(daemon.log().iter().all(|line| !line.contains(&password)));
    daemon.login(&format!("apw:{password}")).await;
    assert_eq!(daemon.stop().await.code(), Some(0));
    daemon.restart().await;
    daemon.login(&format!("apw:{password}")).await;
    daemon.stop().await;
    assert_eq!(daemon.stdout(), Vec::<String>::new());
}

#[tokio::test]
async fn it_listens_for_both_families_with_tls_on_one_socket() {
    let mut daemon = Daemon::start(&both_families()).await;
    let made = daemon.logged("certificate made").await;
    let fingerprint = certificate_of(daemon.addr()).await;
    assert!(
        made.contains(fingerprint.strip_prefix("sha256:").unwrap()),
        "{made}"
    );
    assert_eq!(certificate_of(daemon.addr_v4()).await, fingerprint);
    let mut clients = Vec::new();
    for (addr, shown) in [(daemon.addr(), "::1"), (daemon.addr_v4(), "127.0.0.1")] {
        let mut client = Client::connect_tls(addr, None).await;
        client.login(&format!("apw:{PASSWORD}")).await;
        let line = daemon.logged_where("the client's address", |line| {
            line.contains("attached") && line.contains(shown)
        });
        assert!(!line.await.contains("::ffff:"));
        clients.push(client);
    }
    let status = daemon.ctl(&["client", "status"]).await;
    assert_eq!(status.code, Some(0));
    assert!(status.stdout.contains("from [::1]:"), "{}", status.stdout);
    assert!(
        status.stdout.contains("from 127.0.0.1:"),
        "{}",
        status.stdout
    );
    assert!(!status.stdout.contains("ffff"), "{}", status.stdout);
    daemon.stop().await;
    daemon.restart().await;
    assert_eq!(
        certificate_of(daemon.addr()).await,
        fingerprint,
        "made once"
    );
    assert!(
        !daemon
            .log()
            .iter()
            .any(|line| line.contains("certificate made"))
    );
}

#[tokio::test]
async fn no_file_can_be_read_by_others_whatever_the_umask() {
    for words in ["umask 000", "umask 022"] {
        let config = format!("{}\n[storage]\npath = \"data/carom.db\"\n", both_families());
        let mut daemon = Daemon::start_after(words, &config).await;
        let mut client = Client::connect_tls(daemon.addr(), None).await;
        client.login(&format!("apw:{PASSWORD}")).await;
        let mut found = BTreeMap::new();
        modes(&daemon.path("data"), &mut found);
        assert!(found.len() >= 5, "{found:?}");
        let open: Vec<_> = found
            .iter()
            .filter(|(_, mode)| **mode & 0o077 != 0)
            .collect();
        assert!(open.is_empty(), "{words}: {open:?}");
        let folder = std::fs::metadata(daemon.path("data"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(folder & 0o777, 0o700, "{words}");
        daemon.stop().await;
    }
}

#[tokio::test]
async fn what_it_cannot_start_with_has_an_exit_code() {
    let folder = TempDir::new().unwrap();
    let ended = fails(folder.path()).await;
    assert_eq!(ended.code, Some(78), "no configuration: {ended:?}");
    write_config(
        folder.path(),
        "[server]\nlisten = [\"irc://[::]:0\"]\nnope = 1\n",
    );
    let ended = fails(folder.path()).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    for said in ["nope", "carom.toml:2", "carom.toml:3"] {
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
    for ip in ["[::1]", "127.0.0.1"] {
        let taken = tokio::net::TcpListener::bind(format!("{ip}:0"))
            .await
            .unwrap();
        let port = taken.local_addr().unwrap().port();
        let config = NEW_USER.replace("[::1]:0", &format!("{ip}:{port}"));
        write_config(folder.path(), &config);
        let ended = fails(folder.path()).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(&port.to_string()), "{}", ended.stderr);
        assert_eq!(
            ended.stdout, "",
            "nobody is told a password that may never serve"
        );
    }
}

#[tokio::test]
async fn a_second_instance_on_the_data_folder_gives_up_at_once() {
    let daemon = Daemon::start(NEW_USER).await;
    let began = Instant::now();
    let ended = fails(daemon.path("carom.toml").parent().unwrap()).await;
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert!(
        ended.stderr.contains("another carom runs"),
        "{}",
        ended.stderr
    );
    let status = daemon.ctl(&["status"]).await;
    assert_eq!(
        status.code,
        Some(0),
        "the first one is unharmed: {status:?}"
    );
}

#[tokio::test]
async fn sigterm_says_goodbye_to_everybody() {
    let ircd = MockIrcd::start(Script::default()).await;
    let ircd_v4 = MockIrcd::start_v4(Script::default()).await;
    let networks = network("one", &ircd.url()) + &network("two", &ircd_v4.url());
    let mut daemon = Daemon::start(&config(&networks)).await;
    let mut links = [ircd.accept().await, ircd_v4.accept().await];
    for link in &mut links {
        link.registered().await;
    }
    let mut client = daemon.login(&format!("apw/one:{PASSWORD}")).await;
    let mut lobby = daemon.login(&format!("apw:{PASSWORD}")).await;
    let began = Instant::now();
    let status = daemon.stop().await;
    assert!(began.elapsed() < STOP, "{:?}", began.elapsed());
    assert_eq!(status.code(), Some(0));
    for link in &mut links {
        link.expect("QUIT").await;
        link.ended().await;
    }
    for client in [&mut client, &mut lobby] {
        client.expect("ERROR :").await;
        client.ended().await;
    }
    assert!(!daemon.path("control.sock").exists());
}

#[tokio::test]
async fn sigterm_waits_for_nobody_who_does_not_answer() {
    let ircd = MockIrcd::start(Script::default()).await;
    let networks = network("one", &ircd.url()) + &channel("#a");
    let mut daemon = Daemon::start(&config(&networks)).await;
    let mut link = ircd.accept().await;
    link.registered().await;
    let client = daemon.login(&format!("apw/one:{PASSWORD}")).await;
    client.set_reading(false);
    link.fall_silent();
    link.set_reading(false);
    let _stranger = daemon.connect().await;
    let began = Instant::now();
    let status = daemon.stop().await;
    assert!(began.elapsed() < STOP, "{:?}", began.elapsed());
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn sighup_reads_the_certificate_again_and_a_broken_one_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let put = |identity: &Identity| {
        std::fs::write(folder.path().join("cert.pem"), &identity.certificate_pem).unwrap();
        let key = folder.path().join("key.pem");
        std::fs::write(&key, &identity.key_pem).unwrap();
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    };
    let (old, new) = (Identity::new("old.test"), Identity::new("new.test"));
    put(&old);
    let tls = format!(
        "\n[tls]\ncertificate = \"{0}/cert.pem\"\nkey = \"{0}/key.pem\"\n",
        folder.path().display()
    );
    let mut daemon = Daemon::start(&(both_families() + &tls)).await;
    assert_eq!(certificate_of(daemon.addr()).await, old.fingerprint());
    let mut client = Client::connect_tls(daemon.addr(), None).await;
    client.login(&format!("apw:{PASSWORD}")).await;
    put(&new);
    daemon.reload();
    daemon.logged("certificate read again").await;
    assert_eq!(certificate_of(daemon.addr()).await, new.fingerprint());
    assert_eq!(certificate_of(daemon.addr_v4()).await, new.fingerprint());
    std::fs::write(folder.path().join("cert.pem"), "-----BEGIN nonsense").unwrap();
    daemon.reload();
    daemon.logged("the certificate stays as it was").await;
    assert_eq!(certificate_of(daemon.addr()).await, new.fingerprint());
    // A key that belongs to another certificate.
    std::fs::write(folder.path().join("cert.pem"), &old.certificate_pem).unwrap();
    daemon.reload();
    daemon.logged_times("stays as it was", 2).await;
    assert_eq!(certificate_of(daemon.addr()).await, new.fingerprint());
    client.sync().await;
}

#[tokio::test]
async fn ctl_answers_and_its_exit_codes_tell_what_became_of_it() {
    let ircd = MockIrcd::start(Script::default()).await;
    let networks = network("one", &ircd.url());
    let mut daemon = Daemon::start(&config(&networks)).await;
    let mut link = ircd.accept().await;
    link.registered().await;
    let _client = daemon.login(&format!("apw/one@laptop:{PASSWORD}")).await;
    let connected = format!("one: connected to irc://{} ", ircd.addr());
    daemon.tells(&["status"], &connected).await;
    for (words, expected) in [
        (&["help"][..], "network status"),
        (&["he"][..], "network status"),
        (&["status"][..], connected.as_str()),
        (&["network", "status"][..], connected.as_str()),
        (&["net", "stat", "one"][..], connected.as_str()),
        (&["client", "status"][..], "laptop on one from [::1]:"),
        (&["cl", "st"][..], "laptop on one from [::1]:"),
    ] {
        let ended = daemon.ctl(words).await;
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
        assert!(
            ended.stdout.contains(expected),
            "{words:?}: {}",
            ended.stdout
        );
        assert_eq!(ended.stderr, "", "{words:?}");
    }
    assert_eq!(daemon.ctl(&["nonsense"]).await.code, Some(64));
    assert_eq!(daemon.ctl(&["network", "nonsense"]).await.code, Some(64));
    assert_eq!(daemon.ctl(&[]).await.code, Some(64));
    assert_eq!(
        daemon.ctl(&["network", "status", "nowhere"]).await.code,
        Some(1)
    );
    daemon.stop().await;
    assert_eq!(daemon.ctl(&["status"]).await.code, Some(69));
}

#[tokio::test]
async fn it_starts_without_ipv6_too_and_within_a_second() {
    let began = Instant::now();
    let config = NEW_USER.replace(
        "[\"irc://[::1]:0\"]",
        "\"irc://127.0.0.1:0, irc://[::1]:0, unix:irc.sock\"",
    );
    let daemon = Daemon::start(&config).await;
    // Generous: the machine may be busy, and a password is hashed.
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    for n in [0, 1] {
        let mut client = Client::connect(daemon.addr_of(n)).await;
        client.send("PING :a").await;
        client.expect("PONG").await;
    }
    let mut client = Client::connect_unix(&daemon.path("irc.sock")).await;
    client.send("PING :a").await;
    client.expect("PONG").await;
}

/// Asks over HTTP.
async fn asked(addr: &str, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The values of a page of metrics by name; each has a type, and is there once.
fn series(text: &str) -> BTreeMap<&str, f64> {
    let mut series = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(kinds.insert(name, kind).is_none(), "{line} is there twice");
        } else if !line.starts_with("# HELP carom_") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let family = name.split('{').next().unwrap();
            let kind = kinds
                .get(family)
                .unwrap_or_else(|| panic!("{line} has no type"));
            assert_eq!(*kind == "counter", family.ends_with("_total"), "{line}");
            let value: f64 = value.parse().unwrap();
            assert!(
                series.insert(name, value).is_none(),
                "{line} is there twice"
            );
        }
    }
    series
}

#[tokio::test]
async fn it_tells_prometheus_how_it_is_doing() {
    let ircd = MockIrcd::start(Script::default()).await;
    let metrics = "\nmetrics = [\"[::1]:0\", \"127.0.0.1:0\"]\n";
    let config =
        config(&network("one", &ircd.url())).replacen("\nlisten", &format!("{metrics}listen"), 1);
    let mut daemon = Daemon::start(&config).await;
    let mut link = ircd.accept().await;
    link.registered().await;
    let mut client = daemon.login(&format!("apw/one:{PASSWORD}")).await;
    let stranger = daemon.connect().await;
    stranger
        .send("PASS apw:wrong\r\nNICK a\r\nUSER a 0 * :a")
        .await;
    daemon.logged("login refused").await;
    link.privmsg("bob", &link.nick(), "hello").await;
    client.expect(":bob!bob@host.test PRIVMSG apw :hello").await;
    for ip in ["[::1]:", "127.0.0.1:"] {
        let told = format!("metrics are told at http://{ip}");
        let told = daemon.logged(&told).await;
        let (_, addr) = told.split_once("http://").unwrap();
        let addr = addr.strip_suffix("/metrics").unwrap();
        let answer = asked(addr, "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
        let series = series(text);
        for queue in [
            "mailbox_messages",
            "client_queue_bytes",
            "store_waiting_rows",
        ] {
            let name = format!("carom_{queue}");
            assert!(series.contains_key(name.as_str()), "{name} in {text}");
        }
        for (name, value) in [
            ("carom_users", 1.0),
            ("carom_clients", 1.0),
            ("carom_networks{state=\"connected\",family=\"IPv6\"}", 1.0),
            ("carom_networks{state=\"waiting\",family=\"\"}", 0.0),
            ("carom_dials_total{outcome=\"ready\"}", 1.0),
            ("carom_refused_total{reason=\"password\"}", 1.0),
            ("carom_dismissed_total{reason=\"stalled\"}", 0.0),
            ("carom_lines_lost", 0.0),
        ] {
            assert_eq!(series.get(name), Some(&value), "{name} in {text}");
        }
        for name in [
            "carom_lines_total{direction=\"from_servers\"}",
            "carom_lines_total{direction=\"to_servers\"}",
            "carom_bytes_total{direction=\"to_clients\"}",
            "carom_store_commits_total",
            "carom_store_commit_seconds_total",
            "carom_start_time_seconds",
        ] {
            assert!(
                series.get(name).is_some_and(|value| *value > 0.0),
                "{name} in {text}"
            );
        }
        let version = format!(
            "carom_build_info{{version=\"{}\"}}",
            env!("CARGO_PKG_VERSION")
        );
        assert!(series.contains_key(version.as_str()), "{text}");
        assert!(
            asked(addr, "GET / HTTP/1.0\r\n\r\n")
                .await
                .contains(" 404 ")
        );
    }
}
