//! The `config` lines of a transcript. A line that begins with `channel=` declares a channel, the rest of
//! it is the channel's; any other word is the network's.

use std::time::Duration;

use carom::config::{
    Channel, Detaching, Family, HistoryRules, Network, Proxy, Rate, Replay, ResetOnTalk, Sasl,
    Secret, ServerAddr, Source, TimeStyle, Verify, Which, units,
};
use carom::state::Settings;

/// What a network is run by.
pub fn settings<'a>(lines: impl Iterator<Item = &'a str>) -> Settings {
    let mut settings = Settings {
        network: Network {
            name: "testnet".to_owned(),
            servers: vec![ServerAddr::parse("ircs://irc.test").expect("an address")],
            nick: "alice".to_owned(),
            username: "al".to_owned(),
            realname: "Alice".to_owned(),
            flood: Rate {
                burst: 0,
                every: Duration::ZERO,
            },
            // It would stand in every transcript.
            auto_away: false,
            ..Network::default()
        },
        server: "carom.test".to_owned(),
        motd: Vec::new(),
        id: 1,
        netid: 1,
    };
    for line in lines {
        apply(&mut settings, line);
    }
    settings
}

/// One line more. `-channel=#NAME` takes a declared channel back; one of a name that is there replaces it.
pub fn apply(settings: &mut Settings, line: &str) {
    let channels = &mut settings.network.channels;
    if let Some(gone) = line.strip_prefix("-channel=") {
        return channels.retain(|channel| channel.name != gone);
    }
    if let Some(declared) = line.strip_prefix("channel=") {
        let channel = channel(declared, settings.network.history.clone());
        match channels.iter_mut().find(|known| known.name == channel.name) {
            Some(known) => *known = channel,
            None => channels.push(channel),
        }
        return;
    }
    for word in line.split(' ').filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=').expect("config KEY=VALUE");
        set(settings, key, value);
    }
}

fn set(settings: &mut Settings, key: &str, value: &str) {
    // A value is one word; `_` stands for a space.
    let text = value.replace('_', " ");
    let network = &mut settings.network;
    match key {
        "nick" => value.clone_into(&mut network.nick),
        "alternatives" => {
            network.alternative_nicks = value.split(',').map(str::to_owned).collect();
        }
        "realname" => network.realname = text,
        "username" => value.clone_into(&mut network.username),
        "password" => network.password = Some(Secret::new(value.to_owned())),
        "sasl" => network.sasl = Some(sasl(value)),
        "flood" => network.flood = rate(value),
        "follow_nick" => network.follow_nick = value == "true",
        "keep_nick" => network.keep_nick = value == "true",
        "auto_away" => network.auto_away = value == "true",
        "away_nick" => network.away_nick = Some(value.to_owned()),
        "away_message" => network.away_message = text,
        "server" => network.servers = vec![ServerAddr::parse(value).expect("an address")],
        "rejoin_on_kick" => network.rejoin_on_kick = value == "true",
        "on_connect" => network.on_connect.push(Secret::new(text)),
        "max_channels" => network.max_channels = value.parse().expect("a number"),
        "servers" if value == "none" => network.servers.clear(),
        "servers" => {
            let servers = value.split(',').map(ServerAddr::parse);
            network.servers = servers.map(|server| server.expect("an address")).collect();
        }
        "name" => value.clone_into(&mut network.name),
        "family" if value == "ipv6" => network.dial.family = Family::Ipv6,
        "source" => network.dial.source.v6 = Source::parse(value).ok(),
        "proxy" => network.proxy = Proxy::parse(value).ok(),
        "verify" if value == "none" => network.trust.verify = Verify::None,
        "client_certificate" => network.client_certificate = Some(value.into()),
        "reconnect" => network.dial.reconnect = units::duration(value).expect("a duration"),
        "enabled" => network.enabled = value == "true",
        "own_messages" => network.own_messages = value == "true",
        "highlights" => network.highlights = text.split(',').map(str::to_owned).collect(),
        "motd" => settings.motd.push(text),
        _ => rule(&mut network.history, key, value),
    }
}

fn rule(rules: &mut HistoryRules, key: &str, value: &str) {
    let number = || value.parse().expect("a number");
    match key {
        "replay" => {
            rules.replay = match value {
                "none" => Replay::None,
                "last" => Replay::Last,
                _ => Replay::Unseen,
            }
        }
        "lines" => rules.lines = number(),
        "first_lines" => rules.first_lines = number(),
        "only_messages" => rules.only_messages = value == "true",
        "timestamps" => {
            rules.timestamps = match value {
                "none" => TimeStyle::None,
                "datetime" => TimeStyle::DateTime,
                _ => TimeStyle::Time,
            }
        }
        "reset_on_talk" => {
            rules.reset_on_talk = match value {
                "target" => ResetOnTalk::Target,
                "network" => ResetOnTalk::Network,
                _ => ResetOnTalk::None,
            }
        }
        _ => panic!("{key} is no key of a transcript's config"),
    }
}

fn channel(text: &str, history: HistoryRules) -> Channel {
    let mut words = text.split(' ');
    let name = words.next().unwrap_or_default().to_owned();
    let mut channel = Channel {
        name,
        key: None,
        history,
        detaching: Detaching::default(),
    };
    for word in words.filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            Some(("key", key)) => channel.key = Some(Secret::new(key.to_owned())),
            Some((key, value)) if detaching(&mut channel.detaching, key, value) => {}
            Some((key, value)) => rule(&mut channel.history, key, value),
            None => panic!("config channel=#NAME KEY=VALUE"),
        }
    }
    channel
}

/// False: the key is about something else.
fn detaching(options: &mut Detaching, key: &str, value: &str) -> bool {
    let which = || match value {
        "message" => Which::Messages,
        "highlight" => Which::Highlights,
        _ => Which::None,
    };
    match key {
        "detached" => options.detached = value == "true",
        "relay_detached" => options.relay = which(),
        "reattach_on" => options.reattach = which(),
        "detach_after" => {
            let after = units::duration(value).expect("a duration");
            options.after = Some(after).filter(|after| !after.is_zero());
        }
        "detach_on" => options.on = which(),
        _ => return false,
    }
    true
}

fn sasl(value: &str) -> Sasl {
    let mut parts = value.splitn(3, ':');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    match part().as_str() {
        "plain" => Sasl::Plain {
            account: part(),
            password: Secret::new(part()),
        },
        "scram-sha-256" => Sasl::ScramSha256 {
            account: part(),
            password: Secret::new(part()),
        },
        _ => Sasl::External { account: part() },
    }
}

fn rate(value: &str) -> Rate {
    let (burst, every) = value.split_once('/').expect("flood=BURST/EVERY");
    let every = units::duration(every).expect("a duration");
    Rate {
        burst: burst.parse().expect("a number"),
        every,
    }
}
