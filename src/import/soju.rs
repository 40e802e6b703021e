//! soju's database: users, networks and channels, and the messages where it keeps them itself. How lines become
//! history is `past`'s.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Row};

use crate::history::Kind;
use crate::wire::{Line, Tags, Timestamp};

use super::document::{Keys, Value, put};
use super::lines::Said;
use super::{Error, Found, Logs, Network, User, file_in};
use crate::config::parts::{network_name, server_url, user_name};

pub(super) fn read(path: &Path) -> Result<Found, Error> {
    let file = file_in(path, &["main.db", "soju.db"])?;
    let db = open(&file)?;
    let mut reading = Reading {
        db,
        file: file.clone(),
        found: Found::default(),
    };
    reading.users()?;
    if reading.has("Message", "raw")? {
        reading.found.logs.push(Logs::Soju(file));
    }
    Ok(reading.found)
}

fn open(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |source| Error::Database {
        path: path.to_owned(),
        source,
    };
    let db = Connection::open_with_flags(path, flags).map_err(failed)?;
    // Says at once whether it is a database at all.
    db.query_row("SELECT count(*) FROM User", [], |_| Ok(()))
        .map_err(failed)?;
    Ok(db)
}

struct Reading {
    db: Connection,
    file: PathBuf,
    found: Found,
}

impl Reading {
    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::Database {
            path: self.file.clone(),
            source,
        }
    }

    /// Whether a table has a column: the schema has grown over the years.
    fn has(&self, table: &str, column: &str) -> Result<bool, Error> {
        let sql = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
        let count: i64 = self
            .db
            .query_row(sql, [table, column], |row| row.get(0))
            .map_err(|e| self.failed(e))?;
        Ok(count > 0)
    }

    /// The rows of a table that belong to `parent`, each with the columns it has.
    fn rows(&self, table: &str, parent: Option<(&str, i64)>) -> Result<Vec<Record>, Error> {
        let condition = parent.map_or(String::new(), |(column, id)| {
            format!(" WHERE {column} = {id}")
        });
        let read = || -> rusqlite::Result<Vec<Record>> {
            let mut statement = self
                .db
                .prepare(&format!("SELECT * FROM {table}{condition} ORDER BY id"))?;
            let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
            statement
                .query_map([], |row| Record::read(&names, row))?
                .collect()
        };
        read().map_err(|e| self.failed(e))
    }

    fn note(&mut self, about: impl Into<String>, why: &str) {
        let place = self
            .file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        self.found.note(&place, None, about, why);
    }

    fn users(&mut self) -> Result<(), Error> {
        for user in self.rows("User", None)? {
            let given = user.text("username").unwrap_or_default();
            let name = user_name(&given);
            if name != given {
                self.note(format!("user {given:?}"), &format!("is {name:?} here"));
            }
            let mut keys: Keys = vec![("name", name.into())];
            put(&mut keys, "password", user.text("password"));
            put(
                &mut keys,
                "admin",
                user.flag("admin").filter(|admin| *admin),
            );
            put(&mut keys, "nick", user.text("nick"));
            put(&mut keys, "realname", user.text("realname"));
            let enabled = user.flag("enabled").filter(|enabled| !enabled);
            put(&mut keys, "enabled", enabled);
            self.max_networks(&given, &user, &mut keys);
            let certificates = self.certificates(&given, &user)?;
            put(
                &mut keys,
                "certificates",
                (!certificates.is_empty()).then_some(certificates),
            );
            let mut networks = Vec::new();
            for network in self.rows("Network", Some(("user", user.id())))? {
                networks.push(self.network(&given, &network)?);
            }
            self.found.users.push(User { keys, networks });
        }
        Ok(())
    }

    /// -1 is whatever holds for all; 0 is no limit here.
    fn max_networks(&mut self, name: &str, user: &Record, keys: &mut Keys) {
        match user.number("max_networks") {
            Some(0) => self.note(
                format!("user {name:?}: max_networks"),
                "0 is no limit here: say how many there may be, or disable the user",
            ),
            most => put(keys, "max_networks", most.filter(|most| *most > 0)),
        }
    }

    /// Fingerprints of certificates that may log in.
    fn certificates(&mut self, name: &str, user: &Record) -> Result<Vec<String>, Error> {
        if !self.has("DeviceCertificate", "fingerprint")? {
            return Ok(Vec::new());
        }
        let mut pins = Vec::new();
        for row in self.rows("DeviceCertificate", Some(("user", user.id())))? {
            match row.get("fingerprint") {
                Some(rusqlite::types::Value::Blob(print)) if print.len() == 32 => {
                    let hex = print.iter().map(|byte| format!("{byte:02x}"));
                    pins.push(format!("sha256:{}", hex.collect::<String>()));
                }
                _ => {
                    let label = row.text("label").unwrap_or_default();
                    self.note(
                        format!("user {name:?}: certificate {label:?}"),
                        "its fingerprint is not of SHA-256: say `certificate add` when connected with it",
                    );
                }
            }
        }
        Ok(pins)
    }

    fn network(&mut self, user: &str, network: &Record) -> Result<Network, Error> {
        let name = name_of(network);
        let about = format!("{user}/{name}");
        let mut keys: Keys = vec![("name", name.into())];
        let address = network.text("addr").unwrap_or_default();
        match url(&address) {
            Some(url) => keys.push(("servers", vec![url].into())),
            None => self.note(
                format!("{about}: {address}"),
                "is no address of a server: write `servers` yourself",
            ),
        }
        put(
            &mut keys,
            "enabled",
            network.flag("enabled").filter(|enabled| !enabled),
        );
        put(&mut keys, "nick", network.text("nick"));
        put(&mut keys, "username", network.text("username"));
        put(&mut keys, "realname", network.text("realname"));
        put(&mut keys, "password", network.text("pass"));
        put(
            &mut keys,
            "auto_away",
            network.flag("auto_away").filter(|away| !away),
        );
        if let Some(certfp) = network.text("certfp") {
            self.pin(&certfp, &about, &mut keys);
        }
        self.sasl(network, &about, &mut keys);
        let commands = network.text("connect_commands").unwrap_or_default();
        let commands: Vec<&str> = commands
            .split("\r\n")
            .flat_map(str::lines)
            .filter(|line| !line.is_empty())
            .collect();
        put(
            &mut keys,
            "on_connect",
            (!commands.is_empty()).then_some(commands),
        );
        let rows = self.rows("Channel", Some(("network", network.id())))?;
        Ok(Network {
            keys,
            channels: rows.iter().map(channel).collect(),
        })
    }

    /// A fingerprint with or without the name of its hash; only SHA-256 is known here.
    fn pin(&mut self, certfp: &str, about: &str, keys: &mut Keys) {
        let (kind, digits) = certfp
            .split_once(':')
            .filter(|(kind, _)| kind.len() > 2)
            .unwrap_or(("", certfp));
        let digits: String = digits.chars().filter(char::is_ascii_hexdigit).collect();
        match (kind, digits.len()) {
            ("sha-256" | "sha256" | "", 64) => {
                let pins = vec![format!("sha256:{digits}")];
                keys.push((
                    "tls",
                    Value::Table(vec![("verify", "pin".into()), ("pins", pins.into())]),
                ));
            }
            _ => self.note(
                format!("{about}: certfp"),
                "is not of SHA-256: pin the certificate with `trust`",
            ),
        }
    }

    fn sasl(&mut self, network: &Record, about: &str, keys: &mut Keys) {
        match network.text("sasl_mechanism").as_deref() {
            Some("PLAIN") => {
                let mut sasl: Keys = vec![("mechanism", "plain".into())];
                put(&mut sasl, "account", network.text("sasl_plain_username"));
                put(&mut sasl, "password", network.text("sasl_plain_password"));
                keys.push(("sasl", Value::Table(sasl)));
            }
            Some("EXTERNAL") => self.note(
                format!("{about}: SASL EXTERNAL"),
                "its certificate is in the database: put it into a PEM file, name that in client_certificate, and set sasl",
            ),
            _ => {}
        }
    }
}

/// The name of a network, which it has from its address when it was given none.
fn name_of(network: &Record) -> String {
    let name = network.text("name").unwrap_or_else(|| {
        let address = network.text("addr").unwrap_or_default();
        let host = address
            .split_once("://")
            .map_or(address.as_str(), |(_, host)| host)
            .to_owned();
        host.split('/').next().unwrap_or_default().to_owned()
    });
    network_name(&name)
}

/// `[scheme://]host[:port]`, where TLS is what no scheme means.
fn url(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://").unwrap_or(("ircs", address));
    let rest = rest.split('/').next()?;
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, tail) = rest.split_once(']')?;
            (host, tail.strip_prefix(':'))
        }
        None => rest
            .rsplit_once(':')
            .map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let tls = match scheme {
        "ircs" => true,
        "irc" | "irc+insecure" => false,
        _ => return None,
    };
    let port = port.map_or(Some(if tls { 6697 } else { 6667 }), |port| {
        port.parse().ok()
    })?;
    (!host.is_empty()).then(|| server_url(tls, host, Some(&port.to_string())))
}

/// A row with the names of its columns.
struct Record(Vec<(String, rusqlite::types::Value)>);

impl Record {
    fn read(names: &[String], row: &Row<'_>) -> rusqlite::Result<Self> {
        let value = |(n, name): (usize, &String)| Ok((name.clone(), row.get(n)?));
        names
            .iter()
            .enumerate()
            .map(value)
            .collect::<rusqlite::Result<_>>()
            .map(Self)
    }

    fn get(&self, name: &str) -> Option<&rusqlite::types::Value> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            rusqlite::types::Value::Text(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.number(name).map(|number| number != 0)
    }

    fn number(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            rusqlite::types::Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    fn id(&self) -> i64 {
        self.number("id").unwrap_or_default()
    }
}

/// A talk of which there are messages.
pub(super) struct Talk {
    pub(super) id: i64,
    pub(super) user: String,
    pub(super) network: String,
    pub(super) target: String,
}

/// The messages in the database.
pub(super) struct Messages {
    db: Connection,
    path: PathBuf,
}

impl Messages {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            db: open(path)?,
            path: path.to_owned(),
        })
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::Database {
            path: self.path.clone(),
            source,
        }
    }

    pub(super) fn count(&self) -> Result<u64, Error> {
        let count = self
            .db
            .query_row("SELECT count(*) FROM Message", [], |row| {
                row.get::<_, i64>(0)
            });
        Ok(u64::try_from(count.map_err(|e| self.failed(e))?).unwrap_or(0))
    }

    pub(super) fn talks(&mut self) -> Result<Vec<Talk>, Error> {
        const SQL: &str = "SELECT t.id, u.username, n.name, n.addr, t.target FROM MessageTarget t
            JOIN Network n ON n.id = t.network JOIN User u ON u.id = n.user ORDER BY t.id";
        let read = || -> rusqlite::Result<Vec<Talk>> {
            let mut statement = self.db.prepare(SQL)?;
            let talk = |row: &Row<'_>| {
                let names = ["id", "username", "name", "addr", "target"].map(str::to_owned);
                let record = Record::read(&names, row)?;
                Ok(Talk {
                    id: record.id(),
                    user: user_name(&record.text("username").unwrap_or_default()),
                    network: name_of(&record),
                    target: record.text("target").unwrap_or_default(),
                })
            };
            statement.query_map([], talk)?.collect()
        };
        read().map_err(|e| self.failed(e))
    }

    /// Tells each message of a talk in the order of time, until `told` has had enough.
    pub(super) fn each(
        &self,
        talk: i64,
        told: &mut dyn FnMut(Option<Said>, Option<Vec<u8>>) -> bool,
    ) -> Result<(), Error> {
        let mut read = || -> rusqlite::Result<()> {
            let mut statement = self
                .db
                .prepare("SELECT raw, time FROM Message WHERE target = ?1 ORDER BY time, id")?;
            let mut rows = statement.query([talk])?;
            while let Some(row) = rows.next()? {
                let (raw, time) = (
                    row.get_ref(0)?.as_bytes().unwrap_or_default(),
                    row.get_ref(1)?.as_bytes().unwrap_or_default(),
                );
                let (said, msgid) =
                    message(raw, time).map_or((None, None), |(said, msgid)| (Some(said), msgid));
                if !told(said, msgid) {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|e| self.failed(e))
    }
}

fn channel(row: &Record) -> Keys {
    let mut keys = Keys::new();
    put(&mut keys, "name", row.text("name"));
    put(&mut keys, "key", row.text("key"));
    let detached = row.flag("detached").filter(|detached| *detached);
    put(&mut keys, "detached", detached);
    for key in ["relay_detached", "reattach_on", "detach_on"] {
        put(&mut keys, key, row.number(key).and_then(which));
    }
    let after = row.number("detach_after").filter(|seconds| *seconds > 0);
    let after = after.map(|seconds| format!("{seconds}s"));
    put(&mut keys, "detach_after", after);
    keys
}

/// A filter of messages as soju numbers it; 0 is the default.
fn which(number: i64) -> Option<&'static str> {
    match number {
        1 => Some("none"),
        2 => Some("highlight"),
        3 => Some("message"),
        _ => None,
    }
}

fn message(raw: &[u8], time: &[u8]) -> Option<(Said, Option<Vec<u8>>)> {
    let line = Line::parse(raw).ok()?;
    let tags: Tags<'_> = line.tags();
    let time = tags
        .get(b"time")
        .and_then(|t| Timestamp::parse(&t))
        .or_else(|| Timestamp::parse(time))?;
    let kind = if line.is(b"PRIVMSG") || line.is(b"NOTICE") {
        Kind::Message
    } else {
        Kind::Event
    };
    let msgid = tags
        .get(b"msgid")
        .filter(|id| !id.is_empty())
        .map(|id| id.into_owned());
    Some((
        Said {
            time,
            kind,
            line: line.body().to_vec(),
        },
        msgid,
    ))
}
