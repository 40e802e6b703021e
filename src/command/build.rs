//! From a row and what was said with it to a `Command`: every value is judged here, but for those of the configuration's
//! keys, which `config` judges wherever they come from.

use std::time::Duration;

use toml::Value;

use super::parse::{Arguments, ParseError, Said};
use super::table::{Kind, Opt, Verb};
use super::{Back, Command, Export, Find, KeyType, Request, When, bip};
use crate::config::overlay::Options;
use crate::config::{Pin, Secret, units};
use crate::wire::Timestamp;

/// A command in a command in a command.
const DEEPEST: usize = 2;
/// How many lines are told again when nobody says.
const REPLAYED: usize = 50;
/// How many are found.
const FOUND: usize = 50;
/// No search finds more.
const MOST_FOUND: usize = 1000;

/// The whole way. `depth`: inside how many other commands this one stands.
pub(super) fn request(said: &Said, depth: usize) -> Result<Request, ParseError> {
    let mut arguments = Arguments::of(said)?;
    let verb = arguments.row.verb;
    let inner = arguments
        .rest
        .take_if(|_| matches!(verb, Verb::Bip | Verb::UserRun));
    let Some(inner) = inner else {
        return of(arguments);
    };
    if depth == DEEPEST {
        return Err(arguments.usage("commands stand too deep in each other".to_owned()));
    }
    if verb == Verb::Bip {
        return bip::request(&inner, depth + 1);
    }
    let row = arguments.row;
    let inner = Box::new(request(&inner, depth + 1)?);
    Ok(Request {
        row,
        role: row.role,
        network: None,
        command: Command::UserRun(arguments.required("USER"), inner),
    })
}

fn of(mut arguments: Arguments) -> Result<Request, ParseError> {
    let row = arguments.row;
    let used = arguments.options().iter().map(|(option, _)| option.role);
    let role = used.chain([row.role]).max().unwrap_or(row.role);
    let named = arguments.value("NETWORK");
    let network = named.or_else(|| arguments.option("network"));
    let command = command(&mut arguments)?;
    Ok(Request {
        row,
        role,
        network,
        command,
    })
}

fn command(a: &mut Arguments) -> Result<Command, ParseError> {
    Ok(match a.row.verb {
        Verb::Help => Command::Help(Some(a.rest_text()).filter(|words| !words.is_empty())),
        Verb::Status => Command::Status,
        Verb::NetworkCreate => {
            let name = a.option("name").unwrap_or_default();
            Command::NetworkCreate(name, options(a)?)
        }
        Verb::NetworkUpdate => Command::NetworkUpdate(changes(a)?),
        Verb::NetworkDelete => Command::NetworkDelete,
        Verb::NetworkStatus => Command::NetworkStatus {
            everybody: a.has("all"),
        },
        Verb::NetworkConnect => Command::NetworkConnect,
        Verb::NetworkDisconnect => Command::NetworkDisconnect,
        Verb::NetworkJump => Command::NetworkJump,
        Verb::NetworkQuote => Command::NetworkQuote(Secret::new(a.rest_text())),
        Verb::NetworkExplain => Command::NetworkExplain,
        Verb::ClientStatus => Command::ClientStatus,
        Verb::ClientDisconnect => Command::ClientDisconnect(client(a)?),
        Verb::Password => Command::Password {
            old: a.value("OLD").map(Secret::new),
            new: Secret::new(a.required("NEW")),
        },
        Verb::SaslSetPlain => {
            let account = a.required("ACCOUNT");
            Command::SaslSetPlain(account, Secret::new(a.required("PASSWORD")))
        }
        Verb::SaslSetExternal => Command::SaslSetExternal,
        Verb::SaslReset => Command::SaslReset,
        Verb::SaslStatus => Command::SaslStatus,
        _ => return more(a),
    })
}

fn more(a: &mut Arguments) -> Result<Command, ParseError> {
    Ok(match a.row.verb {
        Verb::ChannelCreate => Command::ChannelCreate(a.required("CHANNEL"), options(a)?),
        Verb::ChannelUpdate => Command::ChannelUpdate(a.required("CHANNEL"), changes(a)?),
        Verb::ChannelDelete => Command::ChannelDelete(a.required("CHANNEL")),
        Verb::ChannelDetach => Command::ChannelDetach(a.required("CHANNEL")),
        Verb::ChannelAttach => Command::ChannelAttach(a.required("CHANNEL")),
        Verb::ChannelStatus => Command::ChannelStatus(a.value("CHANNEL")),
        Verb::HistorySearch => Command::HistorySearch(find(a)?),
        Verb::HistoryReplay => {
            let target = a.required("TARGET");
            Command::HistoryReplay(Some(target), back(a)?)
        }
        Verb::HistoryReset => Command::HistoryReset {
            target: a.value("TARGET"),
            quiet: false,
        },
        Verb::HistorySize => Command::HistorySize,
        Verb::HistoryExport => Command::HistoryExport(export(a)?),
        Verb::CertificateAdd => {
            let written = a.value("FINGERPRINT");
            Command::CertificateAdd(written.map(|text| pin(a, &text)).transpose()?)
        }
        Verb::CertificateDelete => {
            let written = a.required("FINGERPRINT");
            Command::CertificateDelete(pin(a, &written)?)
        }
        Verb::CertificateStatus => Command::CertificateStatus,
        Verb::CertfpGenerate => Command::CertfpGenerate(key_type(a)?),
        Verb::CertfpFingerprint => Command::CertfpFingerprint,
        Verb::Trust => {
            let written = a.value("FINGERPRINT");
            Command::Trust(written.map(|text| pin(a, &text)).transpose()?)
        }
        _ => return for_admins(a),
    })
}

fn for_admins(a: &mut Arguments) -> Result<Command, ParseError> {
    let password = a.option("password").map(Secret::new);
    Ok(match a.row.verb {
        Verb::UserCreate => {
            let name = a.option("username").unwrap_or_default();
            Command::UserCreate(name, password, options(a)?)
        }
        Verb::UserUpdate if password.is_some() => {
            Command::UserUpdate(a.value("USER"), password, options(a)?)
        }
        Verb::UserUpdate => Command::UserUpdate(a.value("USER"), None, changes(a)?),
        Verb::UserDelete => Command::UserDelete {
            user: a.required("USER"),
            purge: a.has("purge"),
        },
        Verb::UserRestore => Command::UserRestore(a.required("USER")),
        Verb::UserStatus => Command::UserStatus(a.value("USER")),
        Verb::ServerNotice => Command::ServerNotice(a.rest_text()),
        Verb::ServerReload => Command::ServerReload {
            dry: a.has("dry-run"),
        },
        Verb::ServerDebug => {
            let word = a.required("on|off");
            Command::ServerDebug(boolean(a, "on|off", &word)?)
        }
        Verb::ServerDump => Command::ServerDump {
            secrets: a.has("secrets"),
        },
        // The other two are taken apart before they come here.
        _ => Command::ServerStatus,
    })
}

/// The options that stand for keys of the configuration. An empty value gives the default back.
fn options(a: &Arguments) -> Result<Options, ParseError> {
    let mut options = Options::new();
    let mut lists: Vec<(&Opt, Vec<Value>)> = Vec::new();
    for (option, text) in a.options().iter().filter(|(o, _)| !o.key.is_empty()) {
        match option.kind {
            Kind::List => match lists.iter_mut().find(|(o, _)| o.key == option.key) {
                Some((_, list)) => list.push(text.clone().into()),
                None => lists.push((option, vec![text.clone().into()])),
            },
            _ if text.is_empty() => options = options.unset(option.key),
            Kind::Bool => options = options.set(option.key, boolean(a, option.name, text)?),
            Kind::Number => options = options.set(option.key, number(a, option.name, text)?),
            Kind::Text | Kind::Flag => options = options.set(option.key, text.clone()),
        }
    }
    for (option, list) in lists {
        let empty = |value: &Value| value.as_str() == Some("");
        options = match list.iter().all(empty) {
            true => options.unset(option.key),
            false => options.set(option.key, Value::Array(list)),
        };
    }
    Ok(options)
}

/// The same where at least one has to be there.
fn changes(a: &Arguments) -> Result<Options, ParseError> {
    let options = options(a)?;
    if options.is_empty() {
        let of = a.row.words.join(" ");
        return Err(a.usage(format!(
            "nothing is to be changed; \"help {of}\" lists the options"
        )));
    }
    Ok(options)
}

fn boolean(a: &Arguments, name: &str, text: &str) -> Result<bool, ParseError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ if name == "on|off" => Err(a.usage(format!("\"{text}\" is neither on nor off"))),
        _ => Err(a.usage(format!("-{name}: \"{text}\" is neither true nor false"))),
    }
}

fn number(a: &Arguments, name: &str, text: &str) -> Result<i64, ParseError> {
    let number = text.parse().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| a.usage(format!("-{name}: \"{text}\" is no number")))
}

fn client(a: &mut Arguments) -> Result<u64, ParseError> {
    let text = a.required("ID");
    let problem = || {
        a.usage(format!(
            "\"{text}\" is no number; \"client status\" has them"
        ))
    };
    text.parse().map_err(|_| problem())
}

fn pin(a: &Arguments, text: &str) -> Result<Pin, ParseError> {
    Pin::parse(text).map_err(|error| a.usage(format!("the fingerprint {error}")))
}

fn key_type(a: &mut Arguments) -> Result<KeyType, ParseError> {
    match a.option("key-type").as_deref() {
        None | Some("ecdsa") => Ok(KeyType::Ecdsa),
        Some("ed25519") => Ok(KeyType::Ed25519),
        Some("rsa") => Ok(KeyType::Rsa),
        Some(other) => Err(a.usage(format!(
            "-key-type: \"{other}\" is none of ecdsa, ed25519 and rsa"
        ))),
    }
}

fn find(a: &mut Arguments) -> Result<Find, ParseError> {
    let limit = a.option("limit").unwrap_or_else(|| FOUND.to_string());
    let limit = usize::try_from(number(a, "limit", &limit)?).unwrap_or(MOST_FOUND);
    Ok(Find {
        text: a.rest_text(),
        target: a.option("in"),
        from: a.option("from"),
        after: when(a, "after")?,
        before: when(a, "before")?,
        limit: limit.clamp(1, MOST_FOUND),
    })
}

fn export(a: &mut Arguments) -> Result<Export, ParseError> {
    let json = match a.option("format").as_deref() {
        None | Some("text") => false,
        Some("jsonl" | "json") => true,
        Some(other) => {
            return Err(a.usage(format!("-format: \"{other}\" is neither text nor jsonl")));
        }
    };
    Ok(Export {
        target: a.required("TARGET"),
        json,
        after: when(a, "after")?,
        before: when(a, "before")?,
    })
}

fn when(a: &mut Arguments, name: &str) -> Result<Option<When>, ParseError> {
    let Some(text) = a.option(name) else {
        return Ok(None);
    };
    match time(&text) {
        Some(when) => Ok(Some(when)),
        None => Err(a.usage(format!(
            "-{name}: \"{text}\" is no time: 2026-11-22, 2026-11-22T08:00:00Z, or 2h for two hours ago"
        ))),
    }
}

/// A day, a time of day, or how long ago.
fn time(text: &str) -> Option<When> {
    let forms = ["", "Z", ":00Z", "T00:00:00Z"];
    let mut written = forms.iter().map(|end| format!("{text}{end}"));
    let at = written.find_map(|text| Timestamp::parse(text.as_bytes()));
    at.map(When::At).or_else(|| span(text).map(When::Ago))
}

/// A span that is not zero.
fn span(text: &str) -> Option<Duration> {
    units::duration(text).ok().filter(|span| !span.is_zero())
}

fn back(a: &mut Arguments) -> Result<Back, ParseError> {
    let Some(text) = a.value("N|TIME") else {
        return Ok(Back::Lines(REPLAYED));
    };
    let lines = text.parse().ok().filter(|lines| *lines > 0);
    let back = lines
        .map(Back::Lines)
        .or_else(|| span(&text).map(Back::For));
    back.ok_or_else(|| {
        a.usage(format!(
            "\"{text}\" is neither a number of lines nor a time: 100, or 2h"
        ))
    })
}
