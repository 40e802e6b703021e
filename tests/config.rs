//! The configuration file: each file of `config/invalid` is refused with exactly the text beside it, each of
//! `config/valid` loads, and what the files of `valid` say arrives. `BLESS=1` rewrites the texts.

// What fails in a helper fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use carom::config::{
    self, Config, Detaching, Durability, Family, Findings, Level, ListenHost, LogLevel, Pin, Proxy,
    Purpose, Replay, ResetOnTalk, Sasl, Scheme, Secret, Source, SourceKind, Sources, Surroundings,
    TimeStyle, Verify, Which,
};

/// The same on every machine.
fn surroundings() -> Surroundings {
    Surroundings {
        state: Some("/var/lib/carom".into()),
        runtime: None,
        host: "host.example.org".into(),
    }
}

/// A copy of a folder of test files that only its owner can read, whatever the umask of the checkout was.
fn copy(folder: &str) -> tempfile::TempDir {
    fn copy_into(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let (from, to) = (
                entry.as_ref().unwrap().path(),
                to.join(entry.unwrap().file_name()),
            );
            if from.is_dir() {
                fs::create_dir(&to).unwrap();
                copy_into(&from, &to);
            } else {
                fs::write(&to, fs::read(&from).unwrap()).unwrap();
                fs::set_permissions(&to, Permissions::from_mode(0o600)).unwrap();
            }
        }
    }
    let copy = tempfile::tempdir().unwrap();
    copy_into(&source(folder), copy.path());
    copy
}

fn source(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config")
        .join(folder)
}

fn cases(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = paths
        .filter(|path| path.extension() == Some("toml".as_ref()))
        .collect();
    cases.sort();
    cases
}

fn load(path: &Path, purpose: Purpose) -> Result<(Config, Findings), Findings> {
    config::load_in(path, purpose, &surroundings())
}

fn valid(name: &str) -> Config {
    let folder = copy("valid");
    match load(&folder.path().join(name), Purpose::Run) {
        Ok((config, _)) => config,
        Err(findings) => panic!("{findings}"),
    }
}

#[test]
fn invalid_files_are_refused_with_everything_that_is_wrong() {
    let folder = copy("invalid");
    let bless = std::env::var_os("BLESS").is_some();
    let cases = cases(folder.path());
    assert!(cases.len() >= 25);
    for case in cases {
        let Err(findings) = load(&case, Purpose::Run) else {
            panic!("{} is not refused", case.display());
        };
        let found = findings
            .to_string()
            .replace(&format!("{}/", folder.path().display()), "");
        let expected = source("invalid").join(case.with_extension("err").file_name().unwrap());
        if bless {
            fs::write(&expected, &found).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(
            found,
            expected,
            "{}: see the difference, then BLESS=1",
            case.display()
        );
    }
}

#[test]
fn every_error_says_what_to_do_and_where() {
    let folder = copy("invalid");
    for case in cases(folder.path()) {
        let findings = load(&case, Purpose::Run).unwrap_err();
        for finding in findings.iter() {
            // What the TOML parser says is a remedy itself: "expected ...".
            let syntax = finding.key.is_none() && finding.line.is_some();
            assert!(!finding.remedy.is_empty() || syntax, "{finding}");
            assert!(
                !finding.message.contains('\n') && !finding.message.ends_with('.'),
                "{finding}"
            );
            assert!(finding.file.is_some(), "{finding}");
            assert!(finding.line.is_some(), "{finding}");
        }
    }
}

#[test]
fn valid_files_load_without_a_word() {
    let folder = copy("valid");
    for case in cases(folder.path()) {
        match load(&case, Purpose::Run) {
            Err(findings) => panic!("{findings}"),
            Ok((_, warnings)) if case.ends_with("empty.toml") => assert_eq!(
                warnings.to_string(),
                format!(
                    "warning: {}: declares no user, so nobody can attach (add a [[user]])\n",
                    case.display()
                )
            ),
            Ok((_, warnings)) => assert_eq!(warnings.to_string(), ""),
        }
    }
}

#[test]
fn a_missing_file_says_what_to_do() {
    let findings = load(Path::new("/nonexistent/carom.toml"), Purpose::Run).unwrap_err();
    assert_eq!(
        findings.to_string(),
        "error: /nonexistent/carom.toml: cannot be read: No such file or directory (os error 2) \
         (name another with --config, or write one as in config.example.toml)\n"
    );
}

#[test]
fn what_a_level_does_not_say_comes_from_above() {
    let config = valid("inheritance.toml");
    let (apw, bob) = (&config.users[0], &config.users[1]);
    let (first, second) = (&apw.networks[0], &apw.networks[1]);

    assert_eq!(
        (&*first.nick, &*first.username, &*first.realname),
        ("nick", "user", "A. P. W.")
    );
    assert_eq!(
        (&*second.nick, &*second.username, &*second.realname),
        ("other", "user", "Other")
    );
    assert_eq!(
        (&*bob.nick, &*bob.username, &*bob.realname),
        ("bob", "bob", "bob")
    );
    assert_eq!(bob.networks[0].nick, "bob");

    assert_eq!(first.dial.family, Family::Ipv4);
    assert_eq!(first.dial.timeout, Duration::from_secs(5));
    assert_eq!(second.dial.family, Family::PreferIpv6);
    assert_eq!(second.dial.timeout, Duration::from_secs(9));
    assert_eq!(second.dial.silence, Duration::from_secs(3));
    assert_eq!(first.max_channels, 7);

    let rules = |rules: &config::HistoryRules| (rules.replay, rules.lines, rules.first_lines);
    assert_eq!(rules(&bob.history), (Replay::Unseen, 10, 20));
    assert_eq!(rules(&apw.history), (Replay::Last, 30, 20));
    assert_eq!(first.channels[0].history, apw.history);
    assert_eq!(rules(&first.channels[1].history), (Replay::Last, 50, 20));
    assert_eq!(
        first.channels[1].history.timestamps,
        TimeStyle::Strftime("%H:%M".into())
    );
    let talk = |rules: &config::HistoryRules| rules.reset_on_talk;
    let all = [&bob.history, &first.history, &first.channels[1].history];
    let expected = [ResetOnTalk::None, ResetOnTalk::Network, ResetOnTalk::Target];
    assert_eq!(all.map(talk), expected);
    assert!(!second.channels[0].history.only_messages);
    assert!(first.history.only_messages);
}

#[test]
fn what_an_inline_table_leaves_out_has_its_default() {
    let config = valid("inheritance.toml");
    let [first, second] = &config.users[0].networks[..] else {
        panic!("two networks")
    };
    assert!(first.keep_nick && first.auto_away && first.away_message.is_empty());
    assert!(!second.keep_nick && !second.auto_away);
    assert_eq!(first.away_nick, None);
    assert_eq!(second.away_nick.as_deref(), Some("other|off"));
    assert_eq!(second.away_message, "Gone fishing");

    assert_eq!(
        (second.flood.burst, second.flood.every),
        (0, Duration::from_secs(2))
    );
}

#[test]
fn history_is_kept_by_age_and_size() {
    let config = valid("keeping.toml");
    let [apw, bob] = &config.users[..] else {
        panic!("two users")
    };
    let kept = |rules: &config::HistoryRules| (rules.retention, rules.max_size);
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    assert_eq!(kept(&bob.history), (days(365), Some(100 << 20)));
    assert_eq!(kept(&apw.history), (days(365), None));
    let oftc = &apw.networks[0];
    assert_eq!(kept(&oftc.history), (days(30), None));
    assert_eq!(kept(&oftc.channels[0].history), (None, None));
    assert_eq!(kept(&oftc.channels[1].history), (days(30), None));
    let nothing = valid("empty.toml");
    assert_eq!(kept(&nothing.history), (None, Some(1 << 30)));
}

#[test]
fn a_user_says_whether_own_messages_are_shown_as_they_stand() {
    let config = valid("own_messages.toml");
    let [apw, bob] = &config.users[..] else {
        panic!("two users")
    };
    assert!(!apw.own_messages && !apw.networks[0].own_messages);
    assert!(bob.own_messages);
}

#[test]
fn channels_say_when_they_are_detached() {
    let config = valid("detaching.toml");
    let apw = &config.users[0];
    assert_eq!(apw.highlights, ["carom", "new release", "żółw"]);
    assert_eq!(apw.networks[0].highlights, apw.highlights);
    let [noisy, usual] = &apw.networks[0].channels[..] else {
        panic!("two channels")
    };
    let expected = Detaching {
        detached: true,
        relay: Which::None,
        reattach: Which::Highlights,
        after: Some(Duration::from_secs(12 * 3600)),
        on: Which::None,
    };
    assert_eq!(noisy.detaching, expected);
    assert_eq!(usual.detaching, Detaching::default());
}

#[test]
fn a_source_replaces_the_one_above() {
    let config = valid("source.toml");
    let source = |text: &str| Source::parse(text).ok();
    let (v6, v4) = (source("2001:db8:bb::/64"), source("192.0.2.7"));
    assert_eq!(config.dial.source, Sources { v6, v4 });
    assert_eq!(config.dial.source_kind, SourceKind::Temporary);
    assert!(config.dial.freebind && config.dial.allow_internal);
    let networks = &config.users[0].networks;
    assert_eq!(networks[0].dial, config.dial);
    let own = source("192.0.2.8");
    assert_eq!(networks[1].dial.source, Sources { v6: None, v4: own });
    assert_eq!(
        networks[1].proxy,
        Proxy::parse("socks5://[2001:db8::1]:1080").ok()
    );
    assert!(networks[2].dial.source.is_empty());
    assert!(networks[2].dial.freebind, "what is not said stays");
}

#[test]
fn zero_is_no_limit() {
    let config = valid("no_limits.toml");
    let limits = &config.limits;
    for count in [
        limits.unauthenticated,
        limits.per_address,
        limits.clients_per_user,
        limits.networks_per_user,
        limits.channels_per_network,
        limits.client_queue,
    ] {
        assert_eq!(count, usize::MAX);
    }
    assert_eq!(limits.register_timeout, Duration::MAX);
    assert_eq!(limits.client_timeout, Duration::MAX);
    assert_eq!(
        (
            limits.connects_per_address.burst,
            limits.login_failures.burst
        ),
        (0, 0)
    );
    assert_eq!(config.dial.resolution_delay, Duration::ZERO);
    assert_eq!(config.dial.ipv6_mss, 0);
}

#[test]
fn secrets_may_stand_in_files_of_their_own() {
    let config = valid("secrets.toml");
    let user = &config.users[0];
    let secret = |text: &str| Secret::new(text.into());
    assert_eq!(
        user.password,
        Some(secret(
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNo"
        ))
    );
    assert_eq!(user.password_line, 3);
    let (oftc, libera) = (&user.networks[0], &user.networks[1]);
    assert_eq!(oftc.password, Some(secret("open-sesame")));
    assert_eq!(
        oftc.sasl,
        Some(Sasl::Plain {
            account: "apw".into(),
            password: secret("open-sesame")
        })
    );
    assert_eq!(
        oftc.on_connect,
        [secret("open-sesame"), secret("MODE apw +x")]
    );
    assert_eq!(oftc.channels[0].key, Some(secret("open-sesame")));
    // Empty is none.
    assert_eq!((&libera.password, &libera.channels[0].key), (&None, &None));
    assert!(!format!("{config:?}").contains("sesame"));
}

#[test]
fn hidden_secrets_are_good_enough_to_be_judged() {
    let folder = copy("invalid");
    let (_, warnings) = load(&folder.path().join("hidden.toml"), Purpose::Check).unwrap();
    assert_eq!(
        (warnings.count(Level::Warning), warnings.count(Level::Error)),
        (5, 0)
    );
}

#[test]
fn secrets_that_everybody_can_read_are_warned_about() {
    let folder = copy("valid");
    let path = folder.path().join("hashes.toml");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let (_, warnings) = load(&path, Purpose::Run).unwrap();
    let shown = path.display();
    assert_eq!(
        warnings.to_string(),
        format!("warning: {shown}: holds secrets, and others can read it (chmod 600 {shown})\n")
    );
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert!(load(&path, Purpose::Run).unwrap().1.is_empty());
}

#[test]
fn who_may_come_in_becomes_a_value() {
    let config = valid("access.toml");
    let server = &config.server;
    let hosts: Vec<_> = server
        .listen
        .iter()
        .map(|one| (one.manner.scheme, &one.host))
        .collect();
    let systemd = |name: &str| ListenHost::Systemd(name.into());
    assert_eq!(hosts[0], (Scheme::Tls, &systemd("irc")));
    assert_eq!(hosts[1], (Scheme::Local, &systemd("local")));
    assert!(config.dial.freebind);
    let manners: Vec<_> = server.listen[2..]
        .iter()
        .map(|one| one.manner.as_str())
        .collect();
    assert_eq!(manners, ["ircs", "wss", "ws", "ws"]);
    assert_eq!(hosts[3].1.port(), Some(443));
    let origins = &server.websocket_origins;
    assert!(origins.admit(Some("https://chat.example.org"), None));
    assert!(!origins.admit(Some("https://example.net"), Some("example.net")));
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert!(server.allow.contains(ip("192.0.2.7")));
    assert!(server.deny.contains(ip("2001:db8::7")));
    assert!(!server.deny.contains(ip("2001:db9::7")));
    assert!(server.proxies.contains(ip("127.0.0.1")));
    assert!(!server.proxies.contains(ip("192.0.2.7")));
    assert!(valid("empty.toml").server.proxies.is_empty());
    let ports: Vec<_> = server.metrics.iter().map(|one| one.host.port()).collect();
    assert_eq!(ports, [Some(9194), Some(9194), None]);
    let ports: Vec<_> = server.ident.iter().map(|one| one.host.port()).collect();
    assert_eq!(ports, [Some(113), Some(1113)]);
    assert_eq!(server.oidentd, [Path::new("/run/oidentd.conf")]);
}

#[test]
fn ranges_that_may_be_meant_otherwise_are_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("carom.toml");
    let text =
        "[server]\nallow = [\"::/0\", \"192.0.2.7/24\", \"::1\"]\n[[user]]\nname = \"apw\"\n";
    fs::write(&path, text).unwrap();
    let (_, warnings) = load(&path, Purpose::Check).unwrap();
    let shown = path.display();
    assert_eq!(
        warnings.to_string(),
        format!(
            "warning: {shown}:2: server.allow: \"::/0\" is IPv6 alone: IPv4 clients are never in it (write \"all\" for \
             both, or add \"0.0.0.0/0\")\nwarning: {shown}:2: server.allow: \"192.0.2.7/24\" has bits behind its \
             prefix and is taken as 192.0.2.0/24 (write \"192.0.2.0/24\")\n"
        )
    );
}

#[test]
fn addresses_become_values() {
    let folder = copy("valid");
    let (config, _) = load(&folder.path().join("addresses.toml"), Purpose::Run).unwrap();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let listen: Vec<_> = config
        .server
        .listen
        .into_iter()
        .map(|listen| (listen.manner.scheme, listen.host))
        .collect();
    assert_eq!(
        listen,
        [
            (Scheme::Tls, ListenHost::AnyIpv4 { port: 6697 }),
            (
                Scheme::Tls,
                ListenHost::AnyIpv6 {
                    port: 6697,
                    only: false
                }
            ),
            (
                Scheme::Insecure,
                ListenHost::AnyIpv6 {
                    port: 7000,
                    only: true
                }
            ),
            (
                Scheme::Local,
                ListenHost::Name {
                    name: "localhost".into(),
                    port: 6667
                }
            ),
            (
                Scheme::Tls,
                ListenHost::Address {
                    ip: ip("192.0.2.1"),
                    scope: None,
                    port: 7001
                }
            ),
            (
                Scheme::Tls,
                ListenHost::Address {
                    ip: ip("fe80::1"),
                    scope: Some("eth0".into()),
                    port: 7002
                }
            ),
            (
                Scheme::Local,
                ListenHost::Unix(folder.path().join("clients.sock"))
            ),
        ]
    );
    let servers: Vec<_> = config.users[0].networks[0]
        .servers
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        servers,
        [
            "ircs://irc.oftc.net:6697",
            "irc+insecure://irc4.oftc.net:7000",
            "irc://[::1]:6667",
            "irc://127.1.2.3:6667",
            &format!("unix:{}/server.sock", folder.path().display()),
            "ircs://192.0.2.1:6697",
        ]
    );
}

#[test]
fn what_the_file_says_arrives() {
    let folder = copy("valid");
    let (config, _) = load(&folder.path().join("files.toml"), Purpose::Run).unwrap();
    let path = |name: &str| folder.path().join(name);
    assert_eq!(config.server.name, "bnc.example.org");
    assert_eq!(config.server.motd, Some(path("files/motd.txt")));
    assert_eq!(config.server.control, None);
    assert_eq!(config.server.admin_contact, "root@example.org");
    assert_eq!(config.tls.certificate, path("files/certificate.pem"));
    assert!(!config.tls.made);
    assert_eq!(config.storage.database, Some(path("state/carom.db")));
    assert_eq!(config.storage.folder, path("state"));
    assert_eq!(config.storage.durability, Durability::Power);
    assert_eq!((config.log.level, config.log.json), (LogLevel::Debug, true));
    assert!(config.users[0].admin);
    let network = &config.users[0].networks[0];
    assert!(!network.enabled && !network.follow_nick && !network.rejoin_on_kick);
    assert_eq!(
        network.sasl,
        Some(Sasl::External {
            account: String::new()
        })
    );
    assert_eq!(
        network.client_certificate,
        Some(path("files/certificate.pem"))
    );
    assert_eq!(network.trust.verify, Verify::Pin);
    assert!(matches!(
        &*network.trust.pins,
        [Pin::Certificate([0, 0x11, .., 0xff])]
    ));
    assert_eq!(network.alternative_nicks, ["apw_", "apw__"]);
}

#[test]
fn state_without_a_path_goes_to_the_folder_for_state() {
    let config = valid("empty.toml");
    assert_eq!(
        config.storage.database,
        Some("/var/lib/carom/carom.db".into())
    );
    assert_eq!(
        config.server.control,
        Some("/var/lib/carom/control.sock".into())
    );
    assert_eq!(config.tls.key, Path::new("/var/lib/carom/key.pem"));
    assert!(config.tls.made);
    assert_eq!(config.server.name, "host.example.org");

    let config = valid("memory.toml");
    assert_eq!(config.storage.database, None);
    assert_eq!(config.storage.folder, Path::new("/var/lib/carom"));

    let folder = copy("valid");
    let nowhere = Surroundings {
        state: None,
        ..surroundings()
    };
    let findings = config::load_in(&folder.path().join("memory.toml"), Purpose::Run, &nowhere);
    assert_eq!(
        findings
            .unwrap_err()
            .to_string()
            .replace(&format!("{}/", folder.path().display()), ""),
        "error: memory.toml: storage.path: is missing, and none of STATE_DIRECTORY, XDG_STATE_HOME \
         and HOME is set (write path = \"/path/to/carom.db\")\n"
    );
}

#[test]
fn the_control_socket_is_found_in_a_file_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("carom.toml");
    fs::write(&path, "[server]\ncontrol = \"x.sock\"\nlisten = 1\n").unwrap();
    let socket = config::control_socket(&path).unwrap();
    assert_eq!(socket, Some(folder.path().join("x.sock")));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    /// Pieces of files, put together in any way: refused or not, never a panic, and an error says where it is.
    #[test]
    fn no_file_is_too_strange(
        pieces in proptest::collection::vec("\\[{0,2}[a-z.]{0,8}\\]{0,2}|(name|listen|user|password|history|servers|limits|tls) ?=? ?|[\"'{}#=,\n\\[\\]\\\\]|\"ircs://[\\[\\]:a-z]{0,6}\"|\\PC{0,5}", 0..40),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("carom.toml");
        let text = pieces.concat();
        fs::write(&path, &text).unwrap();
        if let Err(findings) = load(&path, Purpose::Run) {
            assert_eq!(findings.worst(), Some(Level::Error), "{text}");
            assert!(findings.iter().all(|finding| finding.line.is_some()), "{text}\n{findings}");
        }
    }
}
