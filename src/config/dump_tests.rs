//! What is dumped is read again, and nothing is missing in it.

use proptest::prelude::*;

use super::*;
use crate::config::{
    Detaching, Findings, Level, Purpose, ServerAddr, Surroundings, Which, keys, load_in,
};

fn load(text: &str, purpose: Purpose) -> Result<(Config, Findings), Findings> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("carom.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let surroundings = Surroundings {
        state: Some("/state".into()),
        runtime: None,
        host: "host.test".into(),
    };
    let (mut config, findings) = load_in(&path, purpose, &surroundings)?;
    config.path = "carom.toml".into();
    Ok((config, findings))
}

/// The file and line are not told, nor what was made.
fn plain(mut config: Config) -> Config {
    for user in &mut config.users {
        (user.password_line, user.declared) = (0, true);
        for network in &mut user.networks {
            (network.declared, network.trusted) = (true, true);
        }
    }
    config
}

fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn again(config: &Config) -> Config {
    let text = dump(config, &none(), Secrets::Told);
    match load(&text, Purpose::Run) {
        Ok((config, _)) => plain(config),
        Err(findings) => panic!("{findings}\n{text}"),
    }
}

/// Says everything that can be said; `CERTIFICATE` is a file.
const EVERYTHING: &str = r##"
[server]
listen = ["irc://[::1]:7000", "unix:/run/carom.sock"]
[tls]
certificate = "CERTIFICATE"
key = "CERTIFICATE"
[[user]]
name = "apw"
password = "356a192b7913b04c54574d18c28d46e6395428ab"
max_networks = 3
certificates = ["sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"]
[[user.network]]
name = "one"
servers = ["ircs://irc.test"]
password = "p"
client_certificate = "CERTIFICATE"
sasl = { account = "a", password = "b" }
[[user.network.channel]]
name = "#a"
key = "k"
[[user.network]]
name = "two"
servers = ["ircs://irc.test"]
client_certificate = "CERTIFICATE"
sasl = { mechanism = "external" }
"##;

/// The file, which has to be there as long as the text is used, and the text.
fn everything() -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = EVERYTHING.replace("CERTIFICATE", file.path().to_str().unwrap());
    (file, text)
}

#[test]
fn every_key_is_dumped() {
    let (_file, text) = everything();
    let (config, _) = load(&text, Purpose::Run).unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(again(&config), plain(config.clone()));
    let text = dump(&config, &none(), Secrets::Told);
    let dumped: Table = toml::from_str(&text).unwrap();
    let first = |table: &Table, key: &str| {
        let list = table.get(key).and_then(Value::as_array).unwrap();
        list[0].as_table().unwrap().clone()
    };
    let user = first(&dumped, "user");
    let network = first(&user, "network");
    let channel = first(&network, "channel");
    let inner =
        |table: &Table, key: &str| table.get(key).and_then(Value::as_table).cloned().unwrap();
    for (name, keys) in keys::tables() {
        let table = match name {
            "" => dumped.clone(),
            "user" => user.clone(),
            "user.network" => network.clone(),
            "user.network.channel" => channel.clone(),
            // `{ file = "path" }`: the secret itself is told.
            "user.network.password" => continue,
            name => match name.strip_prefix("user.network.") {
                Some(key) => inner(&network, key),
                None => inner(&dumped, name),
            },
        };
        for key in keys {
            assert!(table.contains_key(key), "{name}.{key} is not dumped");
        }
    }
}

#[test]
fn hidden_secrets_are_accepted_by_check_with_a_warning_and_refused_by_run() {
    let (_file, text) = everything();
    let (config, _) = load(&text, Purpose::Run).unwrap_or_else(|f| panic!("{f}"));
    let hashes = BTreeMap::from([("apw".to_owned(), "$unused".to_owned())]);
    let text = dump(&config, &hashes, Secrets::Hidden);
    for secret in ["\"p\"", "\"b\"", "\"k\"", "356a192", "$unused"] {
        assert!(!text.contains(secret), "{secret} is told in\n{text}");
    }
    let (_, warnings) = load(&text, Purpose::Check).unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(warnings.count(Level::Warning), 4, "{warnings}");
    let errors = load(&text, Purpose::Run).unwrap_err();
    assert_eq!(errors.count(Level::Error), 4, "{errors}");
}

#[test]
fn hashes_of_the_database_are_told_too() {
    let (config, _) = load("[[user]]\nname = \"apw\"\n", Purpose::Run).unwrap();
    let hash = "356a192b7913b04c54574d18c28d46e6395428ab".to_owned();
    let text = dump(
        &config,
        &BTreeMap::from([("apw".to_owned(), hash.clone())]),
        Secrets::Told,
    );
    let (config, _) = load(&text, Purpose::Run).unwrap();
    assert_eq!(config.users[0].password, Some(Secret::new(hash)));
}

// -- any configuration

fn texts() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 \"\\\\'#=\\[\\]{},.żółw€-]{1,20}"
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (1u64..100_000).prop_map(Duration::from_millis),
        (1u64..1_000_000).prop_map(Duration::from_secs),
    ]
}

fn counts() -> impl Strategy<Value = usize> {
    prop_oneof![Just(usize::MAX), 1usize..100_000]
}

fn rates() -> impl Strategy<Value = Rate> {
    (0u32..1_000_000, durations()).prop_map(|(burst, every)| Rate { burst, every })
}

prop_compose! {
    fn rules()(
        replay in prop_oneof![Just(Replay::Unseen), Just(Replay::Last), Just(Replay::None)],
        lines in 0u64..1_000_000, first_lines in 0u64..1_000_000, only_messages: bool,
        retention in prop::option::of(durations()),
        timestamps in prop_oneof![
            Just(TimeStyle::None), Just(TimeStyle::Time), Just(TimeStyle::DateTime),
            Just(TimeStyle::Strftime("[%H:%M] \"x\"".into())),
        ],
        reset_on_talk in prop_oneof![
            Just(ResetOnTalk::None), Just(ResetOnTalk::Target), Just(ResetOnTalk::Network),
        ],
    ) -> HistoryRules {
        HistoryRules { replay, lines, first_lines, only_messages, timestamps, reset_on_talk, retention, ..HistoryRules::default() }
    }
}

prop_compose! {
    fn any_limits()(
        (unauthenticated, per_address) in (counts(), counts()),
        (connects_per_address, login_failures) in (rates(), rates()),
        register_timeout in prop_oneof![durations(), Just(Duration::MAX)],
        client_timeout in prop_oneof![durations(), Just(Duration::MAX)],
        (clients_per_user, client_queue) in (counts(), counts()),
    ) -> Limits {
        Limits {
            unauthenticated, per_address, connects_per_address, login_failures, register_timeout, clients_per_user,
            client_queue, client_timeout, ..Limits::default()
        }
    }
}

prop_compose! {
    fn any_dial()(
        family in prop_oneof![Just(Family::PreferIpv6), Just(Family::PreferIpv4), Just(Family::Ipv6), Just(Family::Ipv4)],
        (attempt_delay, timeout, silence, reconnect) in (durations(), durations(), durations(), durations()),
        resolution_delay in prop_oneof![durations(), Just(Duration::ZERO)],
        source_kind in prop_oneof![Just(SourceKind::Stable), Just(SourceKind::Temporary), Just(SourceKind::System)],
        (allow_internal, freebind) in any::<(bool, bool)>(),
        ipv6_mss in prop_oneof![Just(0u32), 536u32..32_767],
        pace in rates(),
    ) -> Dial {
        Dial {
            family, attempt_delay, timeout, silence, reconnect, resolution_delay, source_kind, allow_internal, freebind,
            ipv6_mss, pace, ..Dial::default()
        }
    }
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        Just(Which::Messages),
        Just(Which::Highlights),
        Just(Which::None)
    ]
}

prop_compose! {
    fn detaching()(
        detached: bool,
        (relay, reattach, on) in (which(), which(), which()),
        after in prop::option::of(durations()),
    ) -> Detaching {
        Detaching { detached, relay, reattach, after, on }
    }
}

prop_compose! {
    fn channels()(
        key in prop::option::of("[a-z0-9]{1,9}"),
        history in rules(),
        detaching in detaching(),
    ) -> Channel {
        Channel { name: "#c".into(), key: key.map(Secret::new), history, detaching }
    }
}

prop_compose! {
    fn networks(dial: Dial, limits: Limits)(
        (realname, username, secret) in (texts(), "[a-z]{1,9}", texts()),
        sasl in prop::option::of(texts()), proxied: bool,
        (enabled, follow_nick, rejoin_on_kick) in any::<(bool, bool, bool)>(),
        alternatives in prop::collection::vec("[a-z]{1,9}", 0..3),
        pins in prop::collection::vec(any::<[u8; 32]>(), 0..3),
        on_connect in prop::collection::vec("[A-Z]{1,5} [\"'x]{1,5}", 0..3),
        flood in rates(), history in rules(), channels in prop::collection::vec(channels(), 0..2),
        timeout in durations(),
    ) -> Network {
        Network {
            name: "net".into(),
            servers: vec![
                ServerAddr::parse("ircs://[2001:db8::1%eth0]:7000").unwrap(),
                ServerAddr::parse("unix:/run/ircd.sock").unwrap(),
            ],
            enabled, follow_nick, rejoin_on_kick, username, realname, flood, history, channels,
            nick: "nick".into(),
            alternative_nicks: alternatives,
            sasl: sasl.map(|account| Sasl::Plain { account, password: Secret::new(secret.clone()) }),
            password: Some(Secret::new(secret)),
            proxy: proxied.then(|| crate::config::Proxy::parse("socks5://[::1]:9050").unwrap()),
            trust: Trust {
                verify: if pins.is_empty() { Verify::None } else { Verify::Pin },
                pins: pins.into_iter().map(crate::config::Pin::Key).collect(),
                ca: None,
            },
            on_connect: on_connect.into_iter().map(Secret::new).collect(),
            dial: Dial { timeout, ..dial.clone() },
            max_channels: limits.channels_per_network,
            ..Network::default()
        }
    }
}

fn configs() -> impl Strategy<Value = Config> {
    let top = (any_limits(), any_dial(), rules(), texts());
    top.prop_flat_map(|(limits, dial, history, contact)| {
        let networks = networks(dial.clone(), limits.clone());
        let users = (
            rules(),
            any::<bool>(),
            any::<bool>(),
            texts(),
            prop::option::of(counts()),
            prop::collection::vec("[a-zż]{1,9}", 0..3),
            networks,
        );
        users.prop_map(
            move |(rules, admin, enabled, realname, max_networks, highlights, network)| {
                let (mut config, _) = load("", Purpose::Check).unwrap();
                config.server.admin_contact.clone_from(&contact);
                (config.limits, config.dial, config.history) =
                    (limits.clone(), dial.clone(), history.clone());
                config.users.push(User {
                    name: "apw".into(),
                    nick: "apw".into(),
                    username: "apw".into(),
                    history: rules,
                    own_messages: !admin,
                    networks: vec![Network {
                        highlights: highlights.clone(),
                        own_messages: !admin,
                        ..network
                    }],
                    highlights,
                    admin,
                    enabled,
                    realname,
                    max_networks,
                    ..User::default()
                });
                config
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_dumped_is_read_again(config in configs()) {
        prop_assert_eq!(again(&config), config);
    }
}
