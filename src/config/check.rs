//! What the keys of the file mean: each function takes the value of one key into its place and holds it against the
//! others. The rules of single texts (nicks, names, hashes) are in `texts`, the rows that lead here in `keys`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::address::AddressError;
use super::keys::{CHANNEL, NETWORK, SASL, TLS, TRUST, USER};
use super::reader::{HIDDEN, Reader, Value};
use super::texts::TextError;
use super::{
    Channel, Config, Dial, Level, Limits, Listen, Network, Sasl, Secret, ServerAddr, Storage,
    TimeStyle, Tls, Trust, User, Verify, source, texts,
};

/// The longest path of a unix socket that the system takes.
pub(super) const LONGEST_SOCKET: usize = 107;

/// The most `on_connect` lines, and the most bytes in each.
const ON_CONNECT: (usize, usize) = (16, 400);

// -- [server], [tls], [storage]

pub(super) fn server_name(value: Value<'_>, reader: &mut Reader<'_>, into: &mut String) {
    let remedy = "write a name as \"bnc.example.org\"";
    if let Some(name) = checked(value, reader, texts::server_name, remedy) {
        *into = name;
    }
}

pub(super) fn listen(value: Value<'_>, reader: &mut Reader<'_>, into: &mut Vec<Listen>) {
    let mut listeners: Vec<Listen> = Vec::new();
    let mut take = |text: &str, value: Value<'_>, reader: &mut Reader<'_>| match Listen::parse(text)
    {
        Ok(listen) => {
            let listen = listen.under(reader.folder());
            let fixed = listen.host.port() != Some(0);
            let same = listeners
                .iter()
                .find(|other| fixed && other.host == listen.host);
            if let Some(other) = same {
                let message = format!("\"{text}\" is the same place as \"{}\"", other.written);
                return reader.error(value, message, "leave one of them out");
            }
            listeners.push(listen);
        }
        Err(error) => wrong_address(&error, value, reader),
    };
    if value.0.get_ref().is_str() {
        let Some(text) = reader.text(value) else {
            return;
        };
        text.split(',')
            .map(str::trim)
            .for_each(|part| take(part, value, reader));
    } else {
        let Some(list) = reader.list(value, "[\"ircs://[::]:6697\"]") else {
            return;
        };
        if list.is_empty() {
            return reader.error(
                value,
                "leaves nowhere to attach",
                "write [\"ircs://[::]:6697\"]",
            );
        }
        for item in list {
            if let Some(text) = reader.text(item) {
                take(text, item, reader);
            }
        }
    }
    *into = listeners;
}

fn wrong_address(error: &AddressError, value: Value<'_>, reader: &mut Reader<'_>) {
    reader.error(value, error.to_string(), error.remedy());
}

pub(super) fn control(value: Value<'_>, reader: &mut Reader<'_>, into: &mut Option<PathBuf>) {
    let Some(path) = reader.path(value) else {
        return;
    };
    let length = path.as_ref().map_or(0, |path| path.as_os_str().len());
    if length > LONGEST_SOCKET {
        let message = format!("the path of the socket has {length} bytes");
        let remedy =
            format!("put it somewhere with at most {LONGEST_SOCKET}, or write \"\" for none");
        return reader.error(value, message, remedy);
    }
    *into = path;
}

pub(super) fn pem(value: Value<'_>, reader: &mut Reader<'_>, into: &mut PathBuf) {
    let mut path = None;
    reader.readable(value, Level::Error, &mut path);
    if let Some(path) = path {
        *into = path;
    }
}

pub(super) fn tls(config: &mut Config, value: Value<'_>, reader: &mut Reader<'_>) {
    let mut tls = Tls::default();
    reader.table(value, TLS, &mut tls);
    for (name, other) in [("certificate", "key"), ("key", "certificate")] {
        let given = |name| {
            value
                .get(name)
                .filter(|value| value.0.get_ref().as_str() != Some(""))
        };
        if let (Some(there), None) = (given(name), given(other)) {
            let remedy = "give both, or none of them to have carom make its own";
            reader.under(name, |reader| {
                reader.error(there, format!("stands without {other}"), remedy);
            });
        }
    }
    config.tls = tls;
}

pub(super) fn storage_path(storage: &mut Storage, value: Value<'_>, reader: &mut Reader<'_>) {
    let Some(text) = reader.text(value) else {
        return;
    };
    if text == ":memory:" {
        storage.database = None;
        return;
    }
    let path = reader.resolve(text);
    if text.is_empty() || text.ends_with('/') || path.is_dir() {
        let message = format!("\"{text}\" is not the path of a file");
        return reader.error(
            value,
            message,
            "write a path as \"carom.db\", or \":memory:\"",
        );
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    storage.folder = folder.unwrap_or_else(|| Path::new(".")).into();
    storage.database = Some(path);
}

pub(super) fn mss(value: Value<'_>, reader: &mut Reader<'_>, into: &mut u32) {
    let Some(number) = reader.number(value) else {
        return;
    };
    match u32::try_from(number) {
        Ok(number @ (0 | 536..=32_767)) => *into = number,
        _ => reader.error(
            value,
            format!("{number} is out of range"),
            "write 1220, or another number from 536 to 32767, or 0 to leave it alone",
        ),
    }
}

pub(super) fn timestamps(value: Value<'_>, reader: &mut Reader<'_>, into: &mut TimeStyle) {
    let Some(text) = reader.text(value) else {
        return;
    };
    *into = match text {
        "none" => TimeStyle::None,
        "time" => TimeStyle::Time,
        "datetime" => TimeStyle::DateTime,
        format if format.contains('%') => match texts::strftime(format) {
            Ok(()) => TimeStyle::Strftime(format.into()),
            Err(error) => {
                return reader.error(value, error.to_string(), "write it as \"[%H:%M:%S]\"");
            }
        },
        other => {
            let words = ["none", "time", "datetime", "[%H:%M]"];
            return reader.unknown_word(value, other, words.into_iter());
        }
    };
}

// -- [[user]]

/// A user being read, with what the networks inherit from above.
#[derive(Default)]
pub(super) struct UserDraft {
    pub(super) user: User,
    dial: Dial,
    limits: Limits,
}

pub(super) fn users(config: &mut Config, value: Value<'_>, reader: &mut Reader<'_>) {
    let mut names = Names::default();
    for table in reader.tables(value) {
        let user = user(config, table, reader);
        names.once(&user.name, table, reader);
        config.users.push(user);
    }
}

/// One user of a configuration.
pub(super) fn user(config: &Config, table: Value<'_>, reader: &mut Reader<'_>) -> User {
    let mut draft = UserDraft {
        user: User {
            history: config.history.clone(),
            ..User::default()
        },
        dial: config.dial.clone(),
        limits: config.limits.clone(),
    };
    reader.table(table, USER, &mut draft);
    settle_names(&mut draft.user);
    if let Err(error) = texts::nick(&draft.user.nick)
        && !draft.user.name.is_empty()
    {
        reader.under("nick", |reader| {
            let message = format!("is missing, and the user's name does not do: it {error}");
            reader.error(table, message, "write nick = \"...\"");
        });
    }
    draft.user
}

/// What a user does not say of itself is as its name.
fn settle_names(user: &mut User) {
    for field in [&mut user.nick, &mut user.username, &mut user.realname] {
        if field.is_empty() {
            field.clone_from(&user.name);
        }
    }
}

pub(super) fn user_name(draft: &mut UserDraft, value: Value<'_>, reader: &mut Reader<'_>) {
    let remedy = "write a name as \"apw\"";
    draft.user.name = checked(value, reader, texts::user_name, remedy).unwrap_or_default();
}

pub(super) fn user_password(draft: &mut UserDraft, value: Value<'_>, reader: &mut Reader<'_>) {
    let Some(secret) = reader.secret(value) else {
        return;
    };
    if secret.reveal() != HIDDEN
        && let Err(error) = texts::password_hash(secret.reveal())
    {
        let remedy = "run `carom passwd` and put what it prints here";
        return reader.error(value, error.to_string(), remedy);
    }
    draft.user.password = Some(secret);
    draft.user.password_line = reader.line(value);
}

/// Reads a text by one of the rules of `texts`.
fn checked(
    value: Value<'_>,
    reader: &mut Reader<'_>,
    rule: fn(&str) -> Result<(), TextError>,
    remedy: &str,
) -> Option<String> {
    let text = reader.text(value)?;
    match rule(text) {
        Ok(()) => Some(text.into()),
        Err(error) => {
            reader.error(value, format!("\"{text}\" {error}"), remedy);
            None
        }
    }
}

pub(super) fn nick(value: Value<'_>, reader: &mut Reader<'_>, into: &mut String) {
    if let Some(nick) = checked(value, reader, texts::nick, "write a nick as \"apw\"") {
        *into = nick;
    }
}

pub(super) fn username(value: Value<'_>, reader: &mut Reader<'_>, into: &mut String) {
    if let Some(name) = checked(value, reader, texts::username, "write a name as \"apw\"") {
        *into = name;
    }
}

/// A text for people, of at most so many bytes.
pub(super) fn free_text(value: Value<'_>, reader: &mut Reader<'_>, most: usize, into: &mut String) {
    match reader.text(value) {
        Some(text) if text.len() > most => {
            let message = format!("has {} bytes", text.len());
            reader.error(value, message, format!("write at most {most}"));
        }
        Some(text) => *into = text.into(),
        None => {}
    }
}

/// A password for elsewhere; an empty one is none.
pub(super) fn password(value: Value<'_>, reader: &mut Reader<'_>, into: &mut Option<Secret>) {
    match reader.secret(value) {
        Some(secret) if secret.reveal().len() > 400 => {
            reader.error(
                value,
                "is longer than a line of IRC",
                "write at most 400 bytes",
            );
        }
        Some(secret) => *into = (!secret.reveal().is_empty()).then_some(secret),
        None => {}
    }
}

// -- [[user.network]]

pub(super) fn networks(draft: &mut UserDraft, value: Value<'_>, reader: &mut Reader<'_>) {
    settle_names(&mut draft.user);
    let mut names = Names::default();
    let tables = reader.tables(value);
    too_many(
        tables.len(),
        draft.user.most_networks(&draft.limits),
        "networks_per_user",
        value,
        reader,
    );
    for table in tables {
        let network = network(&draft.user, &draft.dial, &draft.limits, table, reader);
        names.once(&network.name, table, reader);
        draft.user.networks.push(network);
    }
}

/// One network of a user.
pub(super) fn network(
    user: &User,
    dial: &Dial,
    limits: &Limits,
    table: Value<'_>,
    reader: &mut Reader<'_>,
) -> Network {
    let mut network = Network {
        dial: dial.clone(),
        nick: user.nick.clone(),
        username: user.username.clone(),
        realname: user.realname.clone(),
        history: user.history.clone(),
        highlights: user.highlights.clone(),
        own_messages: user.own_messages,
        max_channels: limits.channels_per_network,
        ..Network::default()
    };
    reader.table(table, NETWORK, &mut network);
    if network.realname.is_empty() {
        // Servers refuse USER without one.
        network.realname.clone_from(&user.realname);
    }
    source::can_be_reached(&network, table, reader);
    network
}

fn too_many(count: usize, most: usize, limit: &str, value: Value<'_>, reader: &mut Reader<'_>) {
    if count > most {
        let message = format!("there are {count}, and limits.{limit} is {most}");
        reader.error(value, message, "raise the limit or leave some out");
    }
}

/// Names that may stand only once, and where they stand.
#[derive(Default)]
struct Names(BTreeMap<String, usize>);

impl Names {
    /// Notes a name that was there before; one that is missing or wrong has been noted already and is empty.
    fn once(&mut self, name: &str, table: Value<'_>, reader: &mut Reader<'_>) {
        let value = table.get("name").unwrap_or(table);
        if name.is_empty() {
            return;
        }
        let folded = name.to_ascii_lowercase();
        if let Some(line) = self.0.get(&folded) {
            let message = format!("\"{name}\" stands on line {line} already");
            reader.under("name", |reader| {
                reader.error(value, message, "choose another name");
            });
        }
        self.0.entry(folded).or_insert_with(|| reader.line(value));
    }
}

pub(super) fn network_name(network: &mut Network, value: Value<'_>, reader: &mut Reader<'_>) {
    let remedy = "write a name as \"oftc\"";
    network.name = checked(value, reader, texts::network_name, remedy).unwrap_or_default();
}

pub(super) fn servers(network: &mut Network, value: Value<'_>, reader: &mut Reader<'_>) {
    let Some(list) = reader.list(value, "[\"ircs://irc.example.org\"]") else {
        return;
    };
    if list.is_empty() {
        return reader.error(
            value,
            "names no server",
            "write [\"ircs://irc.example.org\"]",
        );
    }
    for item in list {
        let Some(text) = reader.text(item) else {
            continue;
        };
        match ServerAddr::parse(text) {
            Ok(address) => network.servers.push(address.under(reader.folder())),
            Err(error) => wrong_address(&error, item, reader),
        }
    }
}

pub(super) fn alternative_nicks(network: &mut Network, value: Value<'_>, reader: &mut Reader<'_>) {
    let Some(list) = reader.list(value, "[\"apw_\", \"apw__\"]") else {
        return;
    };
    network.alternative_nicks = list
        .into_iter()
        .filter_map(|item| checked(item, reader, texts::nick, "write a nick as \"apw_\""))
        .collect();
}

/// An empty one is none.
pub(super) fn away_nick(network: &mut Network, value: Value<'_>, reader: &mut Reader<'_>) {
    if value.0.get_ref().as_str() == Some("") {
        network.away_nick = None;
    } else {
        network.away_nick = checked(value, reader, texts::nick, "write a nick as \"apw|away\"");
    }
}

pub(super) fn on_connect(network: &mut Network, value: Value<'_>, reader: &mut Reader<'_>) {
    let Some(list) = reader.list(value, "[\"MODE apw +x\"]") else {
        return;
    };
    let (most_lines, most_bytes) = ON_CONNECT;
    if list.len() > most_lines {
        let message = format!("has {} lines", list.len());
        reader.error(value, message, format!("write at most {most_lines}"));
    }
    for item in list {
        let Some(line) = reader.secret(item) else {
            continue;
        };
        match line.reveal().trim().len() {
            0 => reader.error(item, "is an empty line", "leave it out"),
            length if length > most_bytes => reader.error(
                item,
                format!("has {length} bytes"),
                format!("write at most {most_bytes} on a line"),
            ),
            _ => network.on_connect.push(line),
        }
    }
}

/// How to log in to services.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mechanism {
    #[default]
    Plain,
    External,
    ScramSha256,
}

/// `sasl` being read.
#[derive(Default)]
pub(super) struct SaslDraft {
    pub(super) mechanism: Mechanism,
    pub(super) account: String,
    pub(super) password: Option<Secret>,
}

pub(super) fn sasl(network: &mut Network, value: Value<'_>, reader: &mut Reader<'_>) {
    let before = reader.findings.count(Level::Error);
    let mut draft = SaslDraft::default();
    reader.table(value, SASL, &mut draft);
    if reader.findings.count(Level::Error) > before {
        return;
    }
    match (draft.mechanism, draft.password) {
        (Mechanism::Plain, Some(password)) if !draft.account.is_empty() => {
            network.sasl = Some(Sasl::Plain {
                account: draft.account,
                password,
            });
        }
        (Mechanism::ScramSha256, Some(password)) if !draft.account.is_empty() => {
            network.sasl = Some(Sasl::ScramSha256 {
                account: draft.account,
                password,
            });
        }
        (Mechanism::Plain, _) => reader.error(
            value,
            "plain wants an account and a password",
            "write { mechanism = \"plain\", account = \"...\", password = \"...\" }",
        ),
        (Mechanism::ScramSha256, _) => reader.error(
            value,
            "scram-sha-256 wants an account and a password",
            "write { mechanism = \"scram-sha-256\", account = \"...\", password = \"...\" }",
        ),
        (Mechanism::External, Some(_)) => {
            reader.error(value, "external uses no password", "leave the password out");
        }
        (Mechanism::External, None) if network.client_certificate.is_none() => reader.error(
            value,
            "external wants a client certificate",
            "write client_certificate = \"path\" beside it",
        ),
        (Mechanism::External, None) => {
            network.sasl = Some(Sasl::External {
                account: draft.account,
            });
        }
    }
}

pub(super) fn trust(network: &mut Network, value: Value<'_>, reader: &mut Reader<'_>) {
    let before = reader.findings.count(Level::Error);
    reader.table(value, TRUST, &mut network.trust);
    if reader.findings.count(Level::Error) > before {
        return;
    }
    let Trust { verify, pins, ca } = &network.trust;
    match verify {
        Verify::Pin if pins.is_empty() => {
            let remedy = "write pins = [\"sha256:...\"] beside it";
            reader.error(value, "verify = \"pin\" without pins trusts nobody", remedy);
        }
        Verify::None if !pins.is_empty() => {
            let remedy = "write verify = \"pin\", or leave the pins out";
            reader.error(value, "verify = \"none\" does not look at the pins", remedy);
        }
        Verify::None | Verify::Pin if ca.is_some() => {
            let remedy = "write verify = \"ca\", or leave ca out";
            reader.error(value, "ca is used with verify = \"ca\" alone", remedy);
        }
        _ => {}
    }
}

// -- [[user.network.channel]]

pub(super) fn channels(network: &mut Network, value: Value<'_>, reader: &mut Reader<'_>) {
    let mut names = Names::default();
    let tables = reader.tables(value);
    too_many(
        tables.len(),
        network.max_channels,
        "channels_per_network",
        value,
        reader,
    );
    for table in tables {
        let channel = channel(network, table, reader);
        names.once(&channel.name, table, reader);
        network.channels.push(channel);
    }
    network.channels.shrink_to_fit();
}

/// One channel of a network.
pub(super) fn channel(network: &Network, table: Value<'_>, reader: &mut Reader<'_>) -> Channel {
    let mut channel = Channel {
        history: network.history.clone(),
        ..Channel::default()
    };
    reader.table(table, CHANNEL, &mut channel);
    channel
}

pub(super) fn channel_name(channel: &mut Channel, value: Value<'_>, reader: &mut Reader<'_>) {
    let remedy = "write a name as \"#carom\"";
    channel.name = checked(value, reader, texts::channel_name, remedy).unwrap_or_default();
}

pub(super) fn channel_key(channel: &mut Channel, value: Value<'_>, reader: &mut Reader<'_>) {
    let Some(key) = reader.secret(value) else {
        return;
    };
    match texts::channel_key(key.reveal()) {
        Ok(()) => channel.key = (!key.reveal().is_empty()).then_some(key),
        Err(error) => reader.error(value, error.to_string(), "write the key alone"),
    }
}
