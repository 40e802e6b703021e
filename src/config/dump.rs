//! The effective configuration as a file would say it: whole, with defaults filled in. `check` accepts what is written
//! here and reads the same out of it. What differs between two configurations is told by the same entries (`diff`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

use super::reader::HIDDEN;
use super::side::OIDENTD;
use super::{
    Channel, Config, Dial, Durability, Family, HistoryRules, Limits, Listen, ListenHost, Log,
    LogLevel, Network, Ranges, Rate, Replay, ResetOnTalk, Sasl, Secret, Server, SourceKind,
    Storage, TimeStyle, Tls, Trust, User, Verify, toml_text,
};

/// Keys of a table and their values, in the order of the manual.
pub(super) type Entries = Vec<(&'static str, Value)>;

/// What is told of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// That there is one.
    Hidden,
    /// The secret itself.
    Told,
}

impl Secrets {
    fn text(self, secret: &Secret) -> Value {
        match self {
            Self::Hidden => HIDDEN.into(),
            Self::Told => secret.reveal().into(),
        }
    }

    fn text_or_none(self, secret: Option<&Secret>) -> Value {
        secret.map_or_else(|| "".into(), |secret| self.text(secret))
    }
}

/// The whole configuration. `hashes`: of passwords that the database holds, by user.
pub fn dump(config: &Config, hashes: &BTreeMap<String, String>, secrets: Secrets) -> String {
    let mut out = String::new();
    _ = writeln!(
        out,
        "# What carom runs by: {} and what was made at run time.",
        config.path.display()
    );
    let tables = [
        ("server", server(&config.server)),
        ("tls", tls(&config.tls)),
        ("storage", storage(&config.storage)),
        ("history", history(&config.history)),
        ("log", log(&config.log)),
        ("limits", limits(&config.limits)),
        ("dial", dial(&config.dial)),
    ];
    for (name, entries) in tables {
        if !entries.is_empty() {
            table(&format!("[{name}]"), &entries, &mut out);
        }
    }
    for one in &config.users {
        aside(one.declared, &mut out);
        let mut entries = user(one, secrets);
        if let (None, Some(hash)) = (&one.password, hashes.get(&one.name)) {
            let hash = Secret::new(hash.clone());
            entries.insert(1, ("password", secrets.text(&hash)));
        }
        table("[[user]]", &entries, &mut out);
        for one in &one.networks {
            aside(one.declared, &mut out);
            table("[[user.network]]", &network(one, secrets), &mut out);
            for one in &one.channels {
                table("[[user.network.channel]]", &channel(one, secrets), &mut out);
            }
        }
    }
    out
}

/// TOML has no place for what the file does not declare but a comment.
fn aside(declared: bool, out: &mut String) {
    if !declared {
        out.push_str("\n# made at run time:");
    }
}

fn table(header: &str, entries: &Entries, out: &mut String) {
    _ = writeln!(out, "\n{header}");
    for (key, value) in entries {
        toml_text::line(key, value, out);
    }
}

pub(super) fn server(server: &Server) -> Entries {
    vec![
        ("name", text(&server.name)),
        ("listen", listens(&server.listen)),
        ("motd", path(server.motd.as_ref())),
        ("control", path(server.control.as_ref())),
        ("allow", ranges(&server.allow)),
        ("deny", ranges(&server.deny)),
        ("proxies", ranges(&server.proxies)),
        ("websocket_origins", list(server.websocket_origins.iter())),
        ("admin_contact", text(&server.admin_contact)),
        ("metrics", listens(&server.metrics)),
        ("ident", ident(server)),
    ]
}

fn listens(listens: &[Listen]) -> Value {
    list(listens.iter().map(|listen| match &listen.host {
        // Relative to the file, it would be another one elsewhere.
        ListenHost::Unix(path) => {
            let web = if listen.manner.web { "ws+" } else { "" };
            format!("{web}unix:{}", path.display())
        }
        _ => listen.written.clone(),
    }))
}

fn ident(server: &Server) -> Value {
    let files = server.oidentd.iter();
    let files = list(files.map(|path| format!("{OIDENTD}{}", path.display())));
    match (listens(&server.ident), files) {
        (Value::Array(listens), Value::Array(files)) => [listens, files].concat().into(),
        (listens, _) => listens,
    }
}

/// Nothing when carom makes the certificate itself.
pub(super) fn tls(tls: &Tls) -> Entries {
    if tls.made {
        return Vec::new();
    }
    let certificate = path(Some(&tls.certificate));
    vec![("certificate", certificate), ("key", path(Some(&tls.key)))]
}

pub(super) fn storage(storage: &Storage) -> Entries {
    let database = storage.database.as_deref();
    let durability = match storage.durability {
        Durability::Process => "process",
        Durability::Power => "power",
    };
    vec![
        (
            "path",
            text(&database.map_or_else(|| ":memory:".into(), Path::to_string_lossy)),
        ),
        ("durability", durability.into()),
    ]
}

pub(super) fn history(rules: &HistoryRules) -> Entries {
    let mut entries = part_of_history(rules);
    let size = rules
        .max_size
        .map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    entries.push(("max_size", self::size(size.unwrap_or(usize::MAX))));
    entries
}

/// Of a network or channel: a size is a matter of the whole user.
fn part_of_history(rules: &HistoryRules) -> Entries {
    let replay = match rules.replay {
        Replay::Unseen => "unseen",
        Replay::Last => "last",
        Replay::None => "none",
    };
    let timestamps = match &rules.timestamps {
        TimeStyle::None => "none",
        TimeStyle::Time => "time",
        TimeStyle::DateTime => "datetime",
        TimeStyle::Strftime(format) => format,
    };
    let reset_on_talk = match rules.reset_on_talk {
        ResetOnTalk::None => "none",
        ResetOnTalk::Target => "target",
        ResetOnTalk::Network => "network",
    };
    vec![
        ("replay", replay.into()),
        ("lines", number(rules.lines)),
        ("first_lines", number(rules.first_lines)),
        ("only_messages", rules.only_messages.into()),
        ("timestamps", timestamps.into()),
        ("reset_on_talk", reset_on_talk.into()),
        (
            "retention",
            duration(rules.retention.unwrap_or(Duration::MAX)),
        ),
    ]
}

pub(super) fn log(log: &Log) -> Entries {
    let level = match log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let format = if log.json { "json" } else { "text" };
    vec![
        ("level", level.into()),
        ("format", format.into()),
        ("chat_root", text(&log.chat.root.to_string_lossy())),
        ("chat_format", text(&log.chat.format)),
    ]
}

pub(super) fn limits(limits: &Limits) -> Entries {
    vec![
        ("unauthenticated", count(limits.unauthenticated)),
        ("per_address", count(limits.per_address)),
        ("connects_per_address", rate(limits.connects_per_address)),
        ("login_failures", rate(limits.login_failures)),
        ("register_timeout", duration(limits.register_timeout)),
        ("clients_per_user", count(limits.clients_per_user)),
        ("networks_per_user", count(limits.networks_per_user)),
        ("channels_per_network", count(limits.channels_per_network)),
        ("client_queue", size(limits.client_queue)),
        ("client_timeout", duration(limits.client_timeout)),
    ]
}

pub(super) fn dial(dial: &Dial) -> Entries {
    let kind = match dial.source_kind {
        SourceKind::Stable => "stable",
        SourceKind::Temporary => "temporary",
        SourceKind::System => "system",
    };
    vec![
        ("family", family(dial.family)),
        ("attempt_delay", duration(dial.attempt_delay)),
        ("resolution_delay", duration(dial.resolution_delay)),
        ("timeout", duration(dial.timeout)),
        ("silence", duration(dial.silence)),
        ("register_timeout", duration(dial.register_timeout)),
        ("source", sources(dial)),
        ("source_kind", kind.into()),
        ("allow_internal", dial.allow_internal.into()),
        ("freebind", dial.freebind.into()),
        ("ipv6_mss", i64::from(dial.ipv6_mss).into()),
        ("reconnect", duration(dial.reconnect)),
        ("pace", rate(dial.pace)),
    ]
}

/// Without the networks.
pub(super) fn user(user: &User, secrets: Secrets) -> Entries {
    let mut entries = vec![("name", text(&user.name))];
    if let Some(hash) = &user.password {
        entries.push(("password", secrets.text(hash)));
    }
    entries.push(("admin", user.admin.into()));
    entries.push(("enabled", user.enabled.into()));
    if let Some(most) = user.max_networks {
        entries.push(("max_networks", count(most)));
    }
    entries.extend([
        ("certificates", list(&user.certificates)),
        ("nick", text(&user.nick)),
        ("username", text(&user.username)),
        ("realname", text(&user.realname)),
        ("highlights", list(&user.highlights)),
        ("own_messages", user.own_messages.into()),
        ("history", inline(history(&user.history))),
    ]);
    entries
}

/// Without the channels.
pub(super) fn network(network: &Network, secrets: Secrets) -> Entries {
    let mut entries = vec![
        ("name", text(&network.name)),
        ("servers", list(&network.servers)),
        ("enabled", network.enabled.into()),
        ("family", family(network.dial.family)),
        ("source", sources(&network.dial)),
        ("timeout", duration(network.dial.timeout)),
        ("nick", text(&network.nick)),
        ("username", text(&network.username)),
        ("realname", text(&network.realname)),
        ("alternative_nicks", list(&network.alternative_nicks)),
        ("password", secrets.text_or_none(network.password.as_ref())),
        (
            "client_certificate",
            path(network.client_certificate.as_ref()),
        ),
    ];
    if let Some(login) = &network.sasl {
        entries.push(("sasl", inline(sasl(login, secrets))));
    }
    let lines = network.on_connect.iter().map(|line| secrets.text(line));
    let proxy = network.proxy.as_ref();
    entries.extend([
        ("tls", inline(trust(&network.trust))),
        ("on_connect", Value::Array(lines.collect())),
        ("follow_nick", network.follow_nick.into()),
        ("keep_nick", network.keep_nick.into()),
        (
            "away_nick",
            text(network.away_nick.as_deref().unwrap_or_default()),
        ),
        ("away_message", text(&network.away_message)),
        ("auto_away", network.auto_away.into()),
        ("rejoin_on_kick", network.rejoin_on_kick.into()),
        ("history", inline(part_of_history(&network.history))),
        (
            "proxy",
            text(&proxy.map(ToString::to_string).unwrap_or_default()),
        ),
        ("flood", rate(network.flood)),
    ]);
    entries
}

fn sasl(sasl: &Sasl, secrets: Secrets) -> Entries {
    match sasl {
        Sasl::Plain { account, password } => vec![
            ("mechanism", "plain".into()),
            ("account", text(account)),
            ("password", secrets.text(password)),
        ],
        Sasl::ScramSha256 { account, password } => vec![
            ("mechanism", "scram-sha-256".into()),
            ("account", text(account)),
            ("password", secrets.text(password)),
        ],
        Sasl::External { account } => {
            vec![("mechanism", "external".into()), ("account", text(account))]
        }
    }
}

fn trust(trust: &Trust) -> Entries {
    let verify = match trust.verify {
        Verify::Ca => "ca",
        Verify::Pin => "pin",
        Verify::None => "none",
    };
    vec![
        ("verify", verify.into()),
        ("pins", list(&trust.pins)),
        ("ca", path(trust.ca.as_ref())),
    ]
}

pub(super) fn channel(channel: &Channel, secrets: Secrets) -> Entries {
    let detaching = channel.detaching;
    vec![
        ("name", text(&channel.name)),
        ("key", secrets.text_or_none(channel.key.as_ref())),
        ("history", inline(part_of_history(&channel.history))),
        ("detached", detaching.detached.into()),
        ("relay_detached", detaching.relay.word().into()),
        ("reattach_on", detaching.reattach.word().into()),
        (
            "detach_after",
            duration(detaching.after.unwrap_or(Duration::MAX)),
        ),
        ("detach_on", detaching.on.word().into()),
    ]
}

// -- values

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> Value {
    let items = items
        .into_iter()
        .map(|item| Value::String(item.to_string()));
    Value::Array(items.collect())
}

fn path(path: Option<&PathBuf>) -> Value {
    text(&path.map(|path| path.to_string_lossy()).unwrap_or_default())
}

fn ranges(ranges: &Ranges) -> Value {
    list(ranges.iter())
}

fn number(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// `usize::MAX` is no limit, which is written as 0.
fn count(count: usize) -> Value {
    match count {
        usize::MAX => number(0),
        count => number(count as u64),
    }
}

fn size(size: usize) -> Value {
    match size {
        usize::MAX => text("0B"),
        size if size.is_multiple_of(1 << 20) => text(&format!("{}MiB", size >> 20)),
        size if size.is_multiple_of(1 << 10) => text(&format!("{}KiB", size >> 10)),
        size => text(&format!("{size}B")),
    }
}

/// `Duration::MAX` is no limit, which is written as 0.
fn duration(duration: Duration) -> Value {
    match duration {
        Duration::MAX => text("0s"),
        duration if duration.subsec_nanos() == 0 => text(&format!("{}s", duration.as_secs())),
        duration => text(&format!("{}ms", duration.as_millis())),
    }
}

fn rate(rate: Rate) -> Value {
    inline(vec![
        ("burst", i64::from(rate.burst).into()),
        ("every", duration(rate.every)),
    ])
}

fn family(family: Family) -> Value {
    text(match family {
        Family::PreferIpv6 => "prefer-ipv6",
        Family::PreferIpv4 => "prefer-ipv4",
        Family::Ipv6 => "ipv6",
        Family::Ipv4 => "ipv4",
    })
}

fn sources(dial: &Dial) -> Value {
    list([dial.source.v6, dial.source.v4].into_iter().flatten())
}

fn inline(entries: Entries) -> Value {
    let entries = entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    Value::Table(entries.collect::<Table>())
}

#[cfg(test)]
#[path = "dump_tests.rs"]
mod tests;
