//! znc.conf: its grammar, and what each of its keys and modules is here. Keys and modules that need no counterpart, or have
//! none, are listed with the reason.

use std::path::{Path, PathBuf};

use super::document::{Keys, Value, put};
use super::lines::Form;
use super::section::{Entry, Section};
use super::znc_file::{parse, registry};
use super::znc_known::{LEFT, MODULES};
use super::{Error, Found, Logs, Network, User, file_in, text_of};
use crate::config::parts::{network_name, server_url, user_name};

pub(super) fn read(path: &Path) -> Result<Found, Error> {
    let file = file_in(path, &["configs/znc.conf", "znc.conf"])?;
    let root = parse(&text_of(&file)?).map_err(|(line, what)| Error::Syntax {
        path: file.clone(),
        line,
        what,
    })?;
    let parent = file.parent().unwrap_or_else(|| Path::new("."));
    let folder = match parent.file_name() {
        Some(name) if name == "configs" => parent.parent().unwrap_or(parent),
        _ => parent,
    };
    let mut reading = Reading {
        folder: std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
        file: file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        found: Found::default(),
    };
    reading.root(root);
    Ok(reading.found)
}

struct Reading {
    folder: PathBuf,
    file: String,
    found: Found,
}

/// Where a module keeps its things, and what those below it inherit.
struct Scope {
    folder: PathBuf,
    /// The user's and the network's name in the source, as far as known.
    user: Option<String>,
    network: Option<String>,
}

/// What modules and keys of a user say about all its networks.
#[derive(Clone, Default)]
struct Common {
    alternative: Option<String>,
    source: Option<String>,
    keep_nick: bool,
    trust_all: bool,
    rejoin: Option<bool>,
    away: Option<String>,
    on_connect: Vec<String>,
    sasl: Option<Value>,
    certificate: Option<String>,
}

impl Reading {
    fn note(&mut self, line: usize, about: impl Into<String>, why: impl Into<String>) {
        self.found.note(&self.file, Some(line), about, why);
    }

    fn root(&mut self, mut root: Section) {
        let mut server = Keys::new();
        let listeners: Vec<_> = root
            .sections("Listener")
            .into_iter()
            .chain(root.sections("listener"))
            .collect();
        let listen: Vec<String> = listeners.into_iter().map(|l| self.listener(l)).collect();
        put(
            &mut server,
            "listen",
            (!listen.is_empty()).then_some(listen),
        );
        let mut tls = Keys::new();
        let pem = root.text("SSLCertFile").map_or_else(
            || self.folder.join("znc.pem"),
            |file| self.folder.join(file),
        );
        let key = root
            .text("SSLKeyFile")
            .map_or_else(|| pem.clone(), |file| self.folder.join(file));
        if pem.is_file() && key.is_file() {
            tls.push(("certificate", pem.to_string_lossy().into_owned().into()));
            tls.push(("key", key.to_string_lossy().into_owned().into()));
        }
        let mut limits = Keys::new();
        put(
            &mut limits,
            "per_address",
            root.number("AnonIPLimit").filter(|n| *n > 0),
        );
        let mut dial = Keys::new();
        put(
            &mut dial,
            "source",
            root.text("BindHost").map(|host| vec![host]),
        );
        let scope = Scope {
            folder: self.folder.clone(),
            user: None,
            network: None,
        };
        let mut common = Common::default();
        self.modules(&mut root, &scope, &mut common);
        self.found.sections = vec![
            ("server", server),
            ("tls", tls),
            ("limits", limits),
            ("dial", dial),
        ];
        for user in root.sections("User") {
            self.user(user, &common);
        }
        self.leftover(root);
    }

    fn listener(&mut self, mut section: Section) -> String {
        let port = section.number("Port").unwrap_or(6667);
        let tls = section.flag("SSL").unwrap_or(false);
        let (v4, v6) = (
            section.flag("IPv4").unwrap_or(true),
            section.flag("IPv6").unwrap_or(true),
        );
        section.take("AllowIRC");
        let host = section.text("Host").or_else(|| section.text("BindHost"));
        let (host, only) = match host {
            Some(host) if host.contains(':') => {
                (format!("[{}]", host.trim_matches(['[', ']'])), "")
            }
            Some(host) => (host, ""),
            None if v4 && v6 => ("[::]".into(), ""),
            None if v6 => ("[::]".into(), "?v6only"),
            None => ("*".into(), ""),
        };
        let local = host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|a| a.is_loopback());
        let scheme = match (tls, local) {
            (true, _) => "ircs",
            (false, true) => "irc",
            (false, false) => "irc+insecure",
        };
        self.leftover(section);
        format!("{scheme}://{host}:{port}{only}")
    }

    fn user(&mut self, mut section: Section, common: &Common) {
        let given = section.label.clone();
        let name = user_name(&given);
        if name != given {
            self.note(
                section.line,
                format!("user {given:?}"),
                format!("is {name:?} here"),
            );
        }
        let mut keys: Keys = vec![("name", name.into())];
        let password = self.password(&mut section);
        put(&mut keys, "password", password);
        let admin = section.flag("Admin");
        put(&mut keys, "admin", admin);
        put(&mut keys, "nick", section.text("Nick"));
        put(&mut keys, "username", section.text("Ident"));
        put(&mut keys, "realname", section.text("RealName"));
        // Administrators are held to none there.
        let most = section.number("MaxNetworks");
        let most = most.filter(|most| *most > 0 && admin != Some(true));
        put(&mut keys, "max_networks", most);
        put(&mut keys, "history", history(&mut section));
        let mut common = common.clone();
        common.alternative = section.text("AltNick");
        common.source = section.text("BindHost").or_else(|| section.text("VHost"));
        common.trust_all = section.flag("TrustAllCerts") == Some(true);
        let scope = Scope {
            folder: self.folder.join("users").join(&given),
            user: Some(given.clone()),
            network: None,
        };
        self.modules(&mut section, &scope, &mut common);
        let networks: Vec<_> = section.sections("Network");
        if networks.is_empty()
            && section
                .entries
                .iter()
                .any(|e| e.key.eq_ignore_ascii_case("Server"))
        {
            self.note(section.line, "Server", "stands in the user, as before ZNC 1.0: let a newer ZNC start once, it writes the networks");
        }
        let networks = networks
            .into_iter()
            .map(|n| self.network(n, &given, &common))
            .collect();
        self.leftover(section);
        self.found.users.push(User { keys, networks });
    }

    fn network(&mut self, mut section: Section, user: &str, common: &Common) -> Network {
        let given = section.label.clone();
        let name = network_name(&given);
        if name != given {
            self.note(
                section.line,
                format!("network {given:?}"),
                format!("is {name:?} here"),
            );
        }
        let mut common = common.clone();
        let folder = self
            .folder
            .join("users")
            .join(user)
            .join("networks")
            .join(&given);
        let scope = Scope {
            folder,
            user: Some(user.to_owned()),
            network: Some(given),
        };
        self.modules(&mut section, &scope, &mut common);
        let mut keys: Keys = vec![("name", name.into())];
        let (urls, password) = self.servers(&mut section);
        keys.push(("servers", urls.into()));
        put(
            &mut keys,
            "enabled",
            section
                .flag("IRCConnectEnabled")
                .filter(|enabled| !enabled)
                .map(Value::from),
        );
        put(
            &mut keys,
            "source",
            section
                .text("BindHost")
                .or(common.source)
                .map(|host| vec![host]),
        );
        put(&mut keys, "nick", section.text("Nick"));
        let alternative = section.text("AltNick").or(common.alternative);
        put(
            &mut keys,
            "alternative_nicks",
            alternative.map(|nick| vec![nick]),
        );
        put(&mut keys, "keep_nick", common.keep_nick.then_some(true));
        put(&mut keys, "username", section.text("Ident"));
        put(&mut keys, "realname", section.text("RealName"));
        put(&mut keys, "password", password);
        put(&mut keys, "sasl", common.sasl);
        put(&mut keys, "client_certificate", common.certificate);
        put(&mut keys, "tls", trust(&mut section, common.trust_all));
        put(
            &mut keys,
            "on_connect",
            (!common.on_connect.is_empty()).then_some(common.on_connect),
        );
        put(&mut keys, "away_message", common.away);
        put(&mut keys, "rejoin_on_kick", common.rejoin);
        put(&mut keys, "flood", flood(&mut section));
        let channels = section
            .sections("Chan")
            .into_iter()
            .filter_map(|c| self.channel(c))
            .collect();
        self.leftover(section);
        Network { keys, channels }
    }

    /// `Server = host [+]port [password]`.
    fn servers(&mut self, section: &mut Section) -> (Vec<String>, Option<String>) {
        let mut urls = Vec::new();
        let mut password = None;
        for entry in section.take_all("Server") {
            let mut words = entry.value.split_whitespace();
            let (Some(host), port) = (words.next(), words.next().unwrap_or("6667")) else {
                self.note(entry.line, "Server", "has no host");
                continue;
            };
            let (tls, port) = port
                .strip_prefix('+')
                .map_or((false, port), |port| (true, port));
            match port.parse::<u16>() {
                Ok(port) => urls.push(server_url(tls, host, Some(&port.to_string()))),
                Err(_) => self.note(
                    entry.line,
                    format!("Server = {}", entry.value),
                    "has no port that is a number",
                ),
            }
            password = password.or_else(|| words.next().map(str::to_owned));
        }
        (urls, password)
    }

    fn channel(&mut self, mut section: Section) -> Option<Keys> {
        let mut keys: Keys = vec![("name", section.label.as_str().into())];
        put(&mut keys, "key", section.text("Key"));
        put(&mut keys, "history", history(&mut section));
        let detached = section.flag("Detached").filter(|detached| *detached);
        put(&mut keys, "detached", detached);
        let disabled = section.flag("Disabled") == Some(true);
        if disabled {
            self.note(
                section.line,
                format!("channel {}", section.label),
                "is disabled, so it is not declared",
            );
        }
        self.leftover(section);
        (!disabled).then_some(keys)
    }

    /// A section `<Pass password>`, or a key `Pass` as older versions wrote it.
    fn password(&mut self, section: &mut Section) -> Option<String> {
        let line = section.line;
        let form = section.sections("Pass").into_iter().next_back();
        let (method, hash, salt) = match form {
            Some(mut pass) => (
                pass.text("Method").unwrap_or_default(),
                pass.text("Hash").unwrap_or_default(),
                pass.text("Salt").unwrap_or_default(),
            ),
            None => {
                let text = section.text("Pass")?;
                let mut parts = text.splitn(3, '#').map(str::to_owned);
                let mut part = || parts.next().unwrap_or_default();
                let (method, hash, salt) = (part(), part(), part());
                (method, hash, salt.trim_end_matches('#').to_owned())
            }
        };
        match method.to_ascii_lowercase().as_str() {
            "sha256" => Some(format!("sha256#{hash}#{salt}#")),
            "argon2id" => Some(hash),
            "plain" => Some(crate::auth::hash::hash(hash.as_bytes())),
            _ => {
                self.note(line, format!("the password of {}", section.label), format!("is hashed by {method:?}, which carom does not know: one is made at first start"));
                None
            }
        }
    }

    fn modules(&mut self, section: &mut Section, scope: &Scope, common: &mut Common) {
        for entry in section.take_all("LoadModule") {
            self.module(&entry, scope, common);
        }
    }

    fn module(&mut self, entry: &Entry, scope: &Scope, common: &mut Common) {
        let (name, arguments) = entry.value.split_once(' ').unwrap_or((&entry.value, ""));
        let arguments = arguments.trim();
        let data = scope.folder.join("moddata").join(name);
        let registry = registry(&data.join(".registry"));
        let stored = |key: &str| {
            registry
                .iter()
                .find(|(k, _)| k.eq_ignore_ascii_case(key))
                .map(|(_, v)| v.clone())
                .filter(|v| !v.is_empty())
        };
        match name {
            "log" => self.log(&data, arguments, scope, entry),
            "keepnick" => common.keep_nick = true,
            "kickrejoin" | "rejoin" => common.rejoin = Some(true),
            "simple_away" | "awaystore" => {
                common.away = stored("reason").or_else(|| Some("Away".into()));
            }
            "perform" => {
                let commands = stored("Perform").unwrap_or_default();
                let lines = commands
                    .lines()
                    .map(|line| line.trim().trim_start_matches('/').to_owned());
                common
                    .on_connect
                    .extend(lines.filter(|line| !line.is_empty()));
            }
            "nickserv" => match stored("Password") {
                Some(password) => common
                    .on_connect
                    .push(format!("PRIVMSG NickServ :IDENTIFY {password}")),
                None => self.note(entry.line, "module nickserv", "has no password stored"),
            },
            "sasl" => common.sasl = sasl(&stored),
            "cert" => {
                let pem = data.join("user.pem");
                match pem.is_file() {
                    true => common.certificate = Some(pem.to_string_lossy().into_owned()),
                    false => self.note(
                        entry.line,
                        "module cert",
                        format!("{} is not there", pem.display()),
                    ),
                }
            }
            _ => {
                let why = MODULES
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map_or("there is nothing like it here", |(_, why)| *why);
                self.note(entry.line, format!("module {name}"), why);
            }
        }
    }

    fn log(&mut self, data: &Path, arguments: &str, scope: &Scope, entry: &Entry) {
        let format = match (&scope.user, &scope.network) {
            (_, Some(_)) => "%c/%Y-%m-%d.log",
            (Some(_), None) => "%n/%c/%Y-%m-%d.log",
            (None, None) => "%u/%n/%c/%Y-%m-%d.log",
        };
        let path = arguments
            .split_whitespace()
            .find(|word| !word.starts_with('-'));
        if let Some(path) = path {
            return self.note(
                entry.line,
                "module log",
                format!("writes to {path}: its lines are not imported"),
            );
        }
        self.found.logs.push(Logs::Text {
            root: data.to_owned(),
            format: format.into(),
            form: Form::Znc,
            user: scope.user.clone(),
            network: scope.network.clone(),
        });
    }

    /// What nobody took.
    fn leftover(&mut self, section: Section) {
        for entry in section.entries {
            let known = LEFT
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(&entry.key));
            self.note(
                entry.line,
                entry.key,
                known.map_or("is not known, or its value is not", |(_, why)| *why),
            );
        }
        for section in section.sections {
            self.note(
                section.line,
                format!("<{}>", section.kind),
                "is not known here",
            );
        }
    }
}

fn history(section: &mut Section) -> Option<Value> {
    let mut keys = Keys::new();
    let clear = section.flag("AutoClearChanBuffer");
    put(
        &mut keys,
        "replay",
        (clear == Some(false)).then_some("last"),
    );
    if clear == Some(false) {
        let lines = section
            .number("ChanBufferSize")
            .or_else(|| section.number("Buffer"));
        put(&mut keys, "lines", lines.filter(|n| *n > 0));
    }
    let style = section.text("TimestampFormat");
    let none = section.flag("PrependTimestamp") == Some(false);
    put(
        &mut keys,
        "timestamps",
        if none { Some("none".into()) } else { style },
    );
    (!keys.is_empty()).then_some(Value::Table(keys))
}

fn flood(section: &mut Section) -> Option<Value> {
    let burst = section.number("FloodBurst").filter(|burst| *burst > 0)?;
    let seconds: f64 = section.value("FloodRate")?.parse().ok()?;
    let every = format!("{}ms", (seconds * 1000.0).round());
    let rate = vec![("burst", burst.into()), ("every", every.into())];
    (seconds > 0.0).then_some(Value::Table(rate))
}

fn trust(section: &mut Section, all: bool) -> Option<Value> {
    let pins: Vec<String> = section
        .take_all("TrustedServerFingerprint")
        .into_iter()
        .map(|e| format!("sha256:{}", e.value))
        .collect();
    let all = section.flag("TrustAllCerts").unwrap_or(all);
    match (all, pins.is_empty()) {
        (true, _) => Some(Value::Table(vec![("verify", "none".into())])),
        (false, false) => Some(Value::Table(vec![
            ("verify", "pin".into()),
            ("pins", pins.into()),
        ])),
        (false, true) => None,
    }
}

fn sasl(stored: &dyn Fn(&str) -> Option<String>) -> Option<Value> {
    let (account, password) = (stored("username"), stored("password"));
    let mechanisms = stored("mechanisms").unwrap_or_else(|| "PLAIN".into());
    let mut keys: Keys = Vec::new();
    match (account, password) {
        (Some(account), Some(password)) => {
            keys.push(("mechanism", "plain".into()));
            keys.push(("account", account.into()));
            keys.push(("password", password.into()));
        }
        (account, _) if mechanisms.to_ascii_uppercase().contains("EXTERNAL") => {
            keys.push(("mechanism", "external".into()));
            put(&mut keys, "account", account);
        }
        _ => return None,
    }
    Some(Value::Table(keys))
}
