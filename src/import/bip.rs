//! bip.conf: its grammar, and what each of its keys is here. Keys that need no counterpart are listed with the
//! reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::document::{Keys, Value, put};
use super::lines::Form;
use super::section::{Entry, Section};
use super::{Error, Found, Logs, Network, User, file_in, text_of};
use crate::config::parts::{network_name, server_url, user_name};

/// What is said of keys that are left behind.
const LEFT: &[(&str, &str)] = &[
    (
        "client_side_ciphers",
        "TLS 1.2 and 1.3 choose among sound ciphers only",
    ),
    (
        "client_side_dh_param",
        "no Diffie-Hellman parameters are needed",
    ),
    (
        "ssl_default_ciphers",
        "TLS 1.2 and 1.3 choose among sound ciphers only",
    ),
    (
        "ssl_ciphers",
        "TLS 1.2 and 1.3 choose among sound ciphers only",
    ),
    ("ciphers", "TLS 1.2 and 1.3 choose among sound ciphers only"),
    ("log_system", "carom's own log goes to standard error"),
    (
        "log_sync_interval",
        "every line is stored before it is shown",
    ),
    (
        "pid_file",
        "carom runs in the foreground; its data folder has a lock",
    ),
    ("bip_use_notice", "carom always answers with notices"),
    (
        "ignore_first_nick",
        "always so: the nick a client logs in with is never sent on",
    ),
    ("ignore_server_capab", "always so"),
    ("source_port", "the system chooses the port"),
];

/// bip's log levels, 0 (fatal) to 6, as ours.
const LEVELS: [&str; 7] = ["error", "error", "warn", "info", "debug", "debug", "trace"];

pub(super) fn read(path: &Path) -> Result<Found, Error> {
    let file = file_in(path, &["bip.conf"])?;
    let root = parse(&text_of(&file)?).map_err(|(line, what)| Error::Syntax {
        path: file.clone(),
        line,
        what,
    })?;
    let folder = file.parent().unwrap_or_else(|| Path::new(".")).to_owned();
    let mut reading = Reading {
        folder: std::path::absolute(&folder).unwrap_or(folder),
        file: file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        found: Found::default(),
        networks: BTreeMap::new(),
    };
    reading.root(root);
    Ok(reading.found)
}

/// A network section: servers and whether they speak TLS.
struct Servers {
    urls: Vec<String>,
}

struct Reading {
    folder: PathBuf,
    file: String,
    found: Found,
    networks: BTreeMap<String, Servers>,
}

impl Reading {
    fn note(&mut self, line: usize, about: impl Into<String>, why: impl Into<String>) {
        self.found.note(&self.file, Some(line), about, why);
    }

    fn path(&self, text: &str) -> String {
        self.folder.join(text).to_string_lossy().into_owned()
    }

    fn root(&mut self, mut root: Section) {
        let mut server = Keys::new();
        let tls = root.flag("client_side_ssl").unwrap_or(false);
        server.push(("listen", vec![self.listener(&mut root, tls)].into()));
        put(&mut server, "ident", self.oidentd(&mut root));
        let certificate = root.text("client_side_ssl_pem");
        let pem = self.path(certificate.as_deref().unwrap_or("bip.pem"));
        let mut keys = Keys::new();
        if tls && Path::new(&pem).is_file() {
            keys = vec![
                ("certificate", pem.as_str().into()),
                ("key", pem.as_str().into()),
            ];
        } else if tls {
            self.note(
                1,
                "client_side_ssl",
                format!("{pem} is not there: carom makes a certificate of its own"),
            );
        }
        let log = self.log(&mut root);
        let mut dial = Keys::new();
        put(
            &mut dial,
            "reconnect",
            root.number("reconn_timer")
                .filter(|s| *s > 0)
                .map(|s| format!("{s}s")),
        );
        let history = self.history(&mut root);
        self.found.sections = vec![
            ("server", server),
            ("tls", keys),
            ("log", log),
            ("dial", dial),
            ("history", history),
        ];
        for network in root.sections("network") {
            self.network(network);
        }
        for user in root.sections("user") {
            self.user(user);
        }
        self.leftover(root);
    }

    fn listener(&mut self, root: &mut Section, tls: bool) -> String {
        let ip = root.take("ip");
        let port = root.number("port").unwrap_or(7778);
        let address = ip.as_ref().map_or("0.0.0.0", |ip| ip.value.as_str());
        let host = match address {
            "0.0.0.0" | "::" | "*" => "[::]".to_owned(),
            ip if ip.contains(':') => format!("[{ip}]"),
            ip => ip.to_owned(),
        };
        if address == "0.0.0.0" {
            let line = ip.as_ref().map_or(1, |ip| ip.line);
            self.note(
                line,
                "ip = \"0.0.0.0\"",
                "became [::], which takes IPv4 and IPv6 clients",
            );
        }
        let local = address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|a| a.is_loopback())
            || address == "localhost";
        let scheme = match (tls, local) {
            (true, _) => "ircs",
            (false, true) => "irc",
            (false, false) => "irc+insecure",
        };
        format!("{scheme}://{host}:{port}")
    }

    /// Where an oidentd answers, it is told in the same file.
    fn oidentd(&mut self, root: &mut Section) -> Option<Vec<String>> {
        let file = root.take("oidentd_file");
        let wanted = root.take("write_oidentd").filter(|e| e.value == "true")?;
        let Some(file) = file else {
            let why = "add \"oidentd:FILE\" to server.ident, with the .oidentd.conf in the home that carom runs with";
            self.note(wanted.line, "write_oidentd", why);
            return None;
        };
        let why = "all of the file is carom's: what else stands in it is lost";
        self.note(file.line, "oidentd_file", why);
        Some(vec![format!("oidentd:{}", self.path(&file.value))])
    }

    fn log(&mut self, root: &mut Section) -> Keys {
        let mut keys = Keys::new();
        let level = root
            .number("log_level")
            .and_then(|n| usize::try_from(n).ok());
        put(&mut keys, "level", level.map(|n| LEVELS[n.min(6)]));
        let logging = root.flag("log").unwrap_or(true);
        let folder = root.text("log_root");
        let folder = self.path(folder.as_deref().unwrap_or("logs"));
        let format = root
            .text("log_format")
            .unwrap_or_else(|| "%u/%n/%Y-%m/%c.%d.log".into());
        if logging {
            keys.push(("chat_root", folder.as_str().into()));
            keys.push(("chat_format", format.as_str().into()));
            self.found.logs.push(Logs::Text {
                root: folder.into(),
                format,
                form: Form::Bip,
                user: None,
                network: None,
            });
        }
        keys
    }

    /// `backlog*` of the whole file or of a user.
    fn history(&mut self, section: &mut Section) -> Keys {
        let mut keys = Keys::new();
        let always = section
            .flag("backlog_always")
            .or_else(|| section.flag("always_backlog"));
        let replay = match (section.flag("backlog"), always) {
            (Some(false), _) => Some("none"),
            (_, Some(true)) => Some("last"),
            (_, Some(false)) => Some("unseen"),
            (_, None) => None,
        };
        put(&mut keys, "replay", replay);
        put(&mut keys, "lines", section.number("backlog_lines"));
        let only = section
            .flag("backlog_msg_only")
            .or_else(|| section.flag("bl_msg_only"));
        put(&mut keys, "only_messages", only);
        let none = section.flag("backlog_no_timestamp").unwrap_or(false);
        let style = section
            .text("backlog_timestamp")
            .or_else(|| none.then(|| "none".into()));
        put(&mut keys, "timestamps", style);
        let talk = section
            .flag("backlog_reset_on_talk")
            .or_else(|| section.flag("blreset_on_talk"));
        let whole = section.flag("backlog_reset_connection").unwrap_or(false);
        let reset = talk.map(|talk| match (talk, whole) {
            (false, _) => "none",
            (true, false) => "target",
            (true, true) => "network",
        });
        put(&mut keys, "reset_on_talk", reset);
        keys
    }

    fn network(&mut self, mut network: Section) {
        let name = network.text("name").unwrap_or_default();
        let tls = network.flag("ssl").unwrap_or(false);
        let mut urls = Vec::new();
        for mut server in network.sections("server") {
            let line = server.line;
            let port = server
                .number("port")
                .and_then(|p| u16::try_from(p).ok())
                .unwrap_or(6667);
            match server.text("host") {
                Some(host) => urls.push(server_url(tls, &host, Some(&port.to_string()))),
                None => self.note(line, "server", "has no host"),
            }
            self.leftover(server);
        }
        self.leftover(network);
        self.networks.insert(name, Servers { urls });
    }

    fn user(&mut self, mut section: Section) {
        let line = section.line;
        let given = section.text("name").unwrap_or_default();
        let name = user_name(&given);
        if name != given {
            self.note(line, format!("user {given:?}"), format!("is {name:?} here"));
        }
        let mut keys: Keys = vec![("name", name.into())];
        put(&mut keys, "password", section.text("password"));
        put(&mut keys, "admin", section.flag("admin"));
        put(&mut keys, "nick", section.text("default_nick"));
        put(
            &mut keys,
            "username",
            section
                .text("default_user")
                .or_else(|| section.text("default_username")),
        );
        put(&mut keys, "realname", section.text("default_realname"));
        let history = self.history(&mut section);
        put(
            &mut keys,
            "history",
            (!history.is_empty()).then_some(Value::Table(history)),
        );
        let common = Common {
            mode: section.take("ssl_check_mode"),
            store: section.text("ssl_check_store"),
            certificate: section.text("ssl_client_certfile"),
        };
        let connections = section.sections("connection");
        let networks = connections
            .into_iter()
            .map(|c| self.connection(c, &common))
            .collect();
        self.leftover(section);
        self.found.users.push(User { keys, networks });
    }

    fn connection(&mut self, mut section: Section, common: &Common) -> Network {
        let line = section.line;
        let given = section.text("name").unwrap_or_default();
        let name = network_name(&given);
        if name != given {
            self.note(
                line,
                format!("connection {given:?}"),
                format!("is {name:?} here"),
            );
        }
        let mut keys: Keys = vec![("name", name.into())];
        let network = section.text("network").unwrap_or_default();
        match self.networks.get(&network) {
            Some(servers) => keys.push(("servers", servers.urls.clone().into())),
            None => self.note(
                line,
                format!("network {network:?}"),
                "is declared nowhere: write `servers` yourself",
            ),
        }
        put(
            &mut keys,
            "source",
            section.text("vhost").map(|vhost| vec![vhost]),
        );
        put(&mut keys, "nick", section.text("nick"));
        put(&mut keys, "username", section.text("user"));
        put(&mut keys, "realname", section.text("realname"));
        put(&mut keys, "password", section.text("password"));
        put(&mut keys, "sasl", sasl(&mut section));
        put(
            &mut keys,
            "client_certificate",
            common.certificate.as_deref().map(|pem| self.path(pem)),
        );
        let mode = section
            .take("ssl_check_mode")
            .or_else(|| common.mode.clone());
        put(
            &mut keys,
            "tls",
            self.trust(mode.as_ref(), common.store.as_deref()),
        );
        let said: Vec<String> = section
            .take_all("on_connect_send")
            .into_iter()
            .map(|e| e.value)
            .collect();
        put(&mut keys, "on_connect", (!said.is_empty()).then_some(said));
        put(&mut keys, "away_nick", section.text("away_nick"));
        put(
            &mut keys,
            "away_message",
            section.text("no_client_away_msg"),
        );
        put(&mut keys, "follow_nick", section.flag("follow_nick"));
        put(
            &mut keys,
            "rejoin_on_kick",
            section.flag("autojoin_on_kick"),
        );
        if let Some(log) = section.take("log") {
            self.note(log.line, "log", "is for all networks here: log.chat_root");
        }
        let channels = section
            .sections("channel")
            .into_iter()
            .map(|c| self.channel(c))
            .collect();
        self.leftover(section);
        Network { keys, channels }
    }

    fn channel(&mut self, mut section: Section) -> Keys {
        let mut keys = Keys::new();
        put(&mut keys, "name", section.text("name"));
        put(&mut keys, "key", section.text("key"));
        let silent = section.flag("backlog") == Some(false);
        put(
            &mut keys,
            "history",
            silent.then(|| Value::Table(vec![("replay", "none".into())])),
        );
        self.leftover(section);
        keys
    }

    fn trust(&mut self, mode: Option<&Entry>, store: Option<&str>) -> Option<Value> {
        let mode = mode?;
        let store = store
            .map(|store| self.path(store))
            .filter(|path| Path::new(path).is_file());
        match (mode.value.as_str(), store) {
            ("none", _) => {
                self.note(
                    mode.line,
                    "ssl_check_mode = \"none\"",
                    "became tls = { verify = \"none\" }: take it out to have certificates checked",
                );
                Some(Value::Table(vec![("verify", "none".into())]))
            }
            (_, Some(store)) => Some(Value::Table(vec![("ca", store.into())])),
            ("basic", None) => {
                self.note(mode.line, "ssl_check_mode = \"basic\"", "there is no file of certificates: the system's authorities are trusted; pin others with `trust`");
                None
            }
            (_, None) => None,
        }
    }

    /// What nobody took.
    fn leftover(&mut self, section: Section) {
        for entry in section.entries {
            let why = LEFT
                .iter()
                .find(|(key, _)| *key == entry.key)
                .map_or("is not known, or its value is not", |(_, why)| *why);
            self.note(entry.line, entry.key, why);
        }
        for section in section.sections {
            self.note(section.line, section.kind, "is not known here");
        }
    }
}

/// What a user says for all its connections.
struct Common {
    mode: Option<Entry>,
    store: Option<String>,
    certificate: Option<String>,
}

fn sasl(section: &mut Section) -> Option<Value> {
    let account = section.text("sasl_username");
    let password = section.text("sasl_password");
    let mechanism = section
        .text("sasl_mechanism")
        .map(|m| m.to_ascii_lowercase());
    let mechanism = mechanism.or_else(|| account.is_some().then(|| "plain".into()))?;
    let mut keys: Keys = vec![("mechanism", mechanism.into())];
    put(&mut keys, "account", account);
    put(&mut keys, "password", password);
    Some(Value::Table(keys))
}

/// A piece of the file.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, (usize, String)> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => line += 1,
            c if c.is_whitespace() => {}
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' => {
                let begun = line;
                let mut value = String::new();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some(c) => {
                            line += usize::from(c == '\n');
                            value.push(c);
                        }
                        None => return Err((begun, "a string that begins here never ends".into())),
                    }
                }
                tokens.push((begun, Token::Text(value)));
            }
            '{' | '}' | '=' | ';' => tokens.push((line, Token::Sign(c))),
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| !c.is_whitespace() && !"{}=;\"#".contains(*c))
                {
                    word.push(c);
                }
                tokens.push((line, Token::Word(word)));
            }
        }
    }
    Ok(tokens)
}

fn parse(text: &str) -> Result<Section, (usize, String)> {
    let mut open = vec![Section::new("", "", 1)];
    let mut tokens = tokens(text)?.into_iter().peekable();
    let mut last = 1;
    while let Some((line, token)) = tokens.next() {
        last = line;
        match token {
            Token::Sign(';') => {}
            Token::Sign('}') => {
                let closed = open.pop().filter(|_| !open.is_empty());
                let Some((closed, parent)) = closed.zip(open.last_mut()) else {
                    return Err((line, "there is no section that this } could end".into()));
                };
                parent.sections.push(closed);
            }
            Token::Word(word) => match tokens.next() {
                Some((_, Token::Sign('{'))) => open.push(Section::new(&word, "", line)),
                Some((_, Token::Sign('='))) => {
                    let Some((_, Token::Text(value) | Token::Word(value))) = tokens.next() else {
                        return Err((line, format!("{word} has no value")));
                    };
                    let Some(section) = open.last_mut() else {
                        continue;
                    };
                    section.entries.push(Entry {
                        key: word,
                        value,
                        line,
                    });
                }
                _ => return Err((line, format!("after {word} there should be = or {{"))),
            },
            Token::Text(text) => {
                return Err((line, format!("the string {text:?} belongs to no key")));
            }
            Token::Sign(sign) => return Err((line, format!("{sign} does not belong here"))),
        }
    }
    match (open.pop(), open.pop()) {
        (Some(root), None) => Ok(root),
        (Some(section), _) => Err((
            section.line,
            format!("the section {} that begins here never ends", section.kind),
        )),
        (None, _) => Err((last, "nothing is open".into())),
    }
}
