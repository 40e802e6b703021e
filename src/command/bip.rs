//! bip's own verbs, for those who are used to them: each says one of our commands. Words that both know, HELP among them,
//! mean ours; TRUST takes an OK beside.

use std::time::Duration;

use super::parse::{ParseError, Said};
use super::{Back, Command, Request, Role, Verb, build};
use crate::config::overlay::Options;

/// bip's words, with what help says of them.
static USAGES: &[&str] = &[
    "RELOAD",
    "LIST networks|users|connections|all_links|all_connections",
    "INFO USER NAME",
    "ADD_CONN NAME URL",
    "DEL_CONN NAME",
    "JUMP",
    "BLRESET [-q] [TARGET]",
    "BACKLOG [HOURS]",
    "FOLLOW_NICK true|false",
    "IGNORE_FIRST_NICK true|false",
    "ON_CONNECT_SEND [LINE]",
    "AWAY_NICK [NICK]",
    "TRUST [OK]",
];

/// When nobody says how many hours.
const BACKLOG: Duration = Duration::from_secs(24 * 3600);

/// Understands words that may be bip's.
pub(super) fn request(said: &Said, depth: usize) -> Result<Request, ParseError> {
    let words = said.list();
    let Some(first) = words.first() else {
        return Err(ParseError::Empty);
    };
    let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    let first = first.to_ascii_uppercase();
    let usage = |at: usize| ParseError::Usage {
        problem: format!("{first} does not fit so"),
        usage: format!("BIP {}", USAGES[at]),
    };
    let done = match (first.as_str(), &arguments[..]) {
        ("RELOAD", []) => of(Verb::ServerReload, Command::ServerReload { dry: false }),
        ("RELOAD", _) => return Err(usage(0)),
        ("LIST", [what]) => list(what).ok_or_else(|| usage(1))?,
        ("LIST", _) => return Err(usage(1)),
        ("INFO", [user, name]) if user.eq_ignore_ascii_case("user") => {
            of(Verb::UserStatus, Command::UserStatus(Some((*name).into())))
        }
        ("INFO", _) => return Err(usage(2)),
        ("ADD_CONN", [name, url]) if url.contains(['.', ':']) => {
            let options = Options::new().set("servers", vec![*url]);
            of(
                Verb::NetworkCreate,
                Command::NetworkCreate((*name).into(), options),
            )
        }
        ("ADD_CONN", _) => return Err(usage(3)),
        ("DEL_CONN", [name]) => Request {
            network: Some((*name).to_owned()),
            ..of(Verb::NetworkDelete, Command::NetworkDelete)
        },
        ("DEL_CONN", _) => return Err(usage(4)),
        ("JUMP", []) => of(Verb::NetworkJump, Command::NetworkJump),
        ("JUMP", _) => return Err(usage(5)),
        ("BLRESET", rest) => reset(rest).ok_or_else(|| usage(6))?,
        ("BACKLOG", rest) => backlog(rest).ok_or_else(|| usage(7))?,
        ("FOLLOW_NICK", [word]) => follow_nick(word).ok_or_else(|| usage(8))?,
        ("FOLLOW_NICK", _) => return Err(usage(8)),
        ("IGNORE_FIRST_NICK", _) => of(
            Verb::Bip,
            Command::Told("it is always so: the nick a client comes with is not the network's"),
        ),
        ("ON_CONNECT_SEND", _) => on_connect(&said.from(1).text()),
        ("AWAY_NICK", rest) => away_nick(rest).ok_or_else(|| usage(11))?,
        ("TRUST", [word]) if word.eq_ignore_ascii_case("ok") => {
            of(Verb::Trust, Command::TrustRefused)
        }
        _ => return build::request(said, depth),
    };
    Ok(done)
}

fn of(verb: Verb, command: Command) -> Request {
    let row = verb.row();
    Request {
        row,
        role: row.role,
        network: None,
        command,
    }
}

fn list(what: &str) -> Option<Request> {
    let networks = |everybody| of(Verb::NetworkStatus, Command::NetworkStatus { everybody });
    match what.to_ascii_lowercase().as_str() {
        "networks" | "connections" => Some(networks(false)),
        "all_links" | "all_connections" => Some(Request {
            role: Role::Admin,
            ..networks(true)
        }),
        "users" => Some(of(Verb::UserStatus, Command::UserStatus(None))),
        _ => None,
    }
}

fn reset(rest: &[&str]) -> Option<Request> {
    let (quiet, rest) = match rest {
        ["-q", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let target = match rest {
        [] => None,
        [target] => Some((*target).to_owned()),
        _ => return None,
    };
    let command = Command::HistoryReset { target, quiet };
    Some(of(Verb::HistoryReset, command))
}

fn backlog(rest: &[&str]) -> Option<Request> {
    let span = match rest {
        [] => BACKLOG,
        [hours] => {
            let hours = hours.parse::<u32>().ok().filter(|hours| *hours > 0)?;
            Duration::from_secs(u64::from(hours) * 3600)
        }
        _ => return None,
    };
    let command = Command::HistoryReplay(None, Back::For(span));
    Some(of(Verb::HistoryReplay, command))
}

fn update(options: Options) -> Request {
    of(Verb::NetworkUpdate, Command::NetworkUpdate(options))
}

fn follow_nick(word: &str) -> Option<Request> {
    let follow = match word.to_ascii_lowercase().as_str() {
        "true" => true,
        "false" => false,
        _ => return None,
    };
    Some(update(Options::new().set("follow_nick", follow)))
}

fn on_connect(line: &str) -> Request {
    update(match line {
        "" => Options::new().unset("on_connect"),
        line => Options::new().set("on_connect", vec![line]),
    })
}

fn away_nick(rest: &[&str]) -> Option<Request> {
    let options = match rest {
        [] | [""] => Options::new().unset("away_nick"),
        [nick] => Options::new().set("away_nick", *nick),
        _ => return None,
    };
    Some(update(options))
}
