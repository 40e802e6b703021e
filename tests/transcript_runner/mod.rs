//! Golden transcripts: conversations as text, run through `state` without a socket. A transcript holds
//! inputs and, behind each, everything that the network then says. What is said must be expected, all of
//! it and in this order; `BLESS=1` writes the expectations anew.
//!
//! ```text
//! # A comment.            config KEY=VALUE ...   settings, before anything else (see `config`)
//! < LINE                  from the server        > LINE       to the server
//! a< LINE                 from client a          a> LINE      to client a
//! attach a [name=phone] [caps=batch,...] [version=302] [nick=zed] [away=*] [quiet] [slow]   (its writer does nothing until `hurry a`)
//! detach a [proved]       a connection ends; proved: in order, with nothing left unread
//! prove a                 the client has all that it was given
//! link [clear | address]   a connection to the server is made: over TLS, in clear text, or to no name
//! up [caps=a,b=x;y,...] [isupport=...] [nick=...] [shown]   link, registration and welcome, their lines left
//!                         out; shown: what follows the welcome is not
//! joined #c @alice bob    our own JOIN and the names, clients' lines told as ever
//! drop [WHY]              the connection is lost            unreachable [WHY]   none is made
//! configure KEY=VALUE ... another configuration; channel=#c and -channel=#c too     leave #c   as the user has it
//! +5s                     time passes (ms, s, m, h)         restart   the process is killed and starts
//! ! WHAT                  what else is done: dial, unlink   a! WHY    client a is told to go
//! a? WORDS                words for the service
//! order connect|disconnect|jump|quote LINE|reset [TARGET]|detach #c|attach #c|lag|certificate     what the user tells the network
//! = TEXT                  done             =! TEXT    refused
//! ```
// Three test programs use it, each another part; a wrong transcript ends a test.
#![allow(dead_code, unreachable_pub, clippy::panic)]

pub mod asks;
pub mod config;
pub mod escape;
pub mod late;
pub mod store;
pub mod world;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use carom::config::units;
use carom::state::orders::{Order, Outcome};
use carom::state::{Facts, Loss, Network};
use carom::wire::{Cap, CapSet};

use escape::unescape;
use world::World;

/// An input and what stands behind it.
#[derive(Debug, Default)]
struct Block {
    input: String,
    /// Where it stands, from 1.
    line: usize,
    after: Vec<After>,
}

#[derive(Debug)]
enum After {
    Expected(String),
    /// A comment or an empty line.
    Aside(String),
}

impl Block {
    fn expected(&self) -> Vec<&str> {
        let expected = self.after.iter().filter_map(|after| match after {
            After::Expected(text) => Some(text.as_str()),
            After::Aside(_) => None,
        });
        expected.collect()
    }

    /// The block with other expectations; asides stay where they were, those behind all at the end.
    fn write(&self, told: &[String], out: &mut String) {
        if !self.input.is_empty() {
            _ = writeln!(out, "{}", self.input);
        }
        let expected = self.expected().len();
        let (mut seen, mut written) = (0, 0);
        for after in &self.after {
            match after {
                After::Expected(_) => seen += 1,
                After::Aside(text) => {
                    let upto = if seen == expected {
                        told.len()
                    } else {
                        seen.min(told.len())
                    };
                    told[written..upto]
                        .iter()
                        .for_each(|line| _ = writeln!(out, "{line}"));
                    written = upto.max(written);
                    _ = writeln!(out, "{text}");
                }
            }
        }
        told[written..]
            .iter()
            .for_each(|line| _ = writeln!(out, "{line}"));
    }
}

fn is_output(line: &str) -> bool {
    let word = line.split(' ').next().unwrap_or_default();
    let sign = word.trim_start_matches(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    matches!(sign, ">" | "!" | "?" | "=" | "=!")
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = vec![Block::default()];
    for (n, line) in text.lines().enumerate() {
        let Some(last) = blocks.last_mut() else { break };
        if line.trim().is_empty() || line.starts_with('#') {
            last.after.push(After::Aside(line.to_owned()));
        } else if is_output(line) {
            last.after.push(After::Expected(line.to_owned()));
        } else {
            blocks.push(Block {
                input: line.to_owned(),
                line: n + 1,
                after: Vec::new(),
            });
        }
    }
    blocks
}

/// Runs one transcript. `Err`: what is not as it says, for people.
pub fn run(path: &Path, bless: bool) -> Result<(), String> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let mut run = Run::new(&text);
    let mut blessed = String::new();
    let mut complaints = String::new();
    for block in blocks(&text) {
        let told = match catch_unwind(AssertUnwindSafe(|| run.input(&block.input))) {
            Ok(Ok(told)) => told,
            Ok(Err(why)) => return Err(format!("{name}:{}: {why}", block.line)),
            Err(panic) => {
                return Err(format!(
                    "{name}:{}: {}: {}",
                    block.line,
                    block.input,
                    reason(&*panic)
                ));
            }
        };
        let expected = block.expected();
        if expected != told.iter().map(String::as_str).collect::<Vec<_>>() {
            _ = write!(
                complaints,
                "{name}:{}: {}\n{}",
                block.line,
                block.input,
                diff(&expected, &told)
            );
        }
        block.write(&told, &mut blessed);
    }
    if bless && blessed != text {
        std::fs::write(path, blessed).map_err(|error| format!("{name}: {error}"))?;
    } else if !bless && !complaints.is_empty() {
        return Err(complaints);
    }
    run.end()
        .map_err(|why| format!("{name}: at the end: {why}"))
}

fn reason(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()))
        .unwrap_or_default()
}

/// Both sides, line by line: ` ` as expected, `-` expected and not said, `+` said and not expected.
fn diff(expected: &[&str], told: &[String]) -> String {
    let (rows, columns) = (expected.len(), told.len());
    // Longest common subsequence, from the end.
    let mut common = vec![vec![0usize; columns + 1]; rows + 1];
    for i in (0..rows).rev() {
        for j in (0..columns).rev() {
            common[i][j] = match expected[i] == told[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    while i < rows || j < columns {
        if i < rows && j < columns && expected[i] == told[j] {
            _ = writeln!(out, "    {}", told[j]);
            (i, j) = (i + 1, j + 1);
        } else if j < columns && (i == rows || common[i][j + 1] >= common[i + 1][j]) {
            _ = writeln!(out, "  + {}", told[j]);
            j += 1;
        } else {
            _ = writeln!(out, "  - {}", expected[i]);
            i += 1;
        }
    }
    out
}

/// A transcript under way.
struct Run {
    world: World,
    started: bool,
}

impl Run {
    fn new(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.strip_prefix("config "));
        Self {
            world: World::new(config::settings(lines)),
            started: false,
        }
    }

    /// Does what one line says; what the network then said.
    fn input(&mut self, input: &str) -> Result<Vec<String>, String> {
        let (word, rest) = input.split_once(' ').unwrap_or((input, ""));
        if word.is_empty() || word == "config" {
            return Ok(Vec::new());
        }
        if !std::mem::replace(&mut self.started, true) {
            self.world.turn(Network::start);
            // The first attempt is in every transcript.
            self.world.told.retain(|told| told.text() != "! dial");
        }
        self.act(word, rest)?;
        let told = std::mem::take(&mut self.world.told);
        Ok(told.iter().map(world::Told::text).collect())
    }

    fn act(&mut self, word: &str, rest: &str) -> Result<(), String> {
        let world = &mut self.world;
        match word {
            "<" => self.receive(&unescape(rest)),
            "attach" => self.attach(rest)?,
            "detach" => {
                let (label, proved) = rest.split_once(' ').unwrap_or((rest, ""));
                let id = world
                    .id_of(label)
                    .ok_or("nobody of this name is attached")?;
                world.detach(id, proved == "proved");
            }
            "hurry" => {
                let id = world.id_of(rest).ok_or("nobody of this name is attached")?;
                world.hurry(id);
            }
            "prove" => {
                let id = world.id_of(rest).ok_or("nobody of this name is attached")?;
                world.prove(id, usize::MAX);
            }
            "link" => {
                let mut facts = facts();
                if rest == "clear" {
                    facts.is_tls = false;
                } else if rest == "address" {
                    "192.0.2.1".clone_into(&mut facts.host);
                }
                world.turn(|network, turn| network.linked(facts, turn));
            }
            "up" => self.up(rest)?,
            "joined" => self.joined(rest),
            "drop" => {
                let why = if rest.is_empty() {
                    "connection reset"
                } else {
                    rest
                };
                world.turn(|network, turn| network.unlinked(Loss::Closed(why.to_owned()), turn));
            }
            "unreachable" => {
                let why = if rest.is_empty() {
                    "connection refused"
                } else {
                    rest
                };
                world
                    .turn(|network, turn| network.unlinked(Loss::NotReached(why.to_owned()), turn));
            }
            "configure" => {
                config::apply(&mut world.settings, rest);
                let settings = world.settings.clone();
                world.turn(|network, turn| network.configure(settings, turn));
            }
            "leave" => world.turn(|network, turn| network.leave(rest, turn)),
            "order" => self.order(order(rest)?),
            "stop" => world.turn(|network, turn| network.stop(rest, turn)),
            "restart" => world.restart(),
            _ => match (word.strip_prefix('+'), word.strip_suffix('<')) {
                (Some(span), _) => {
                    world.pass(units::duration(span).map_err(|error| error.to_string())?);
                }
                (_, Some(label)) => {
                    let id = world
                        .id_of(label)
                        .ok_or("nobody of this name is attached")?;
                    world.say(id, &unescape(rest));
                }
                _ => return Err(format!("\"{word}\" is no word of a transcript")),
            },
        }
        Ok(())
    }

    /// What came of it is told as `= TEXT`, that of a refusal as `=! TEXT`.
    fn order(&mut self, order: Order) {
        let mut outcome = None;
        self.world
            .turn(|network, turn| outcome = Some(network.order(order, turn)));
        let (to, text) = match outcome {
            Some(Outcome::Done(text)) => ("=", text),
            Some(Outcome::Refused(text)) => ("=!", text),
            outcome => ("=", format!("{outcome:?}")),
        };
        let line = text.into_bytes();
        let to = to.to_owned();
        self.world.told.push(world::Told { to, line });
    }

    fn receive(&mut self, line: &[u8]) {
        let raw = Bytes::copy_from_slice(line);
        self.world.turn(|network, turn| network.receive(&raw, turn));
    }

    fn attach(&mut self, rest: &str) -> Result<(), String> {
        let mut words = rest.split(' ');
        let label = words
            .next()
            .filter(|l| !l.is_empty())
            .ok_or("who attaches?")?;
        if self.world.id_of(label).is_some() {
            return Err(format!("{label} is attached already"));
        }
        let (mut name, mut nick) = (label, label);
        let (mut caps, mut version, mut quiet) = (CapSet::default(), 0, false);
        for word in words {
            match word.split_once('=') {
                Some(("name", value)) => name = value,
                Some(("nick", value)) => nick = value,
                Some(("away", value)) => {
                    self.world.away = Some(Bytes::copy_from_slice(value.as_bytes()));
                }
                Some(("caps", value)) => caps = capabilities(value)?,
                Some(("version", value)) => version = value.parse().map_err(|_| "what version?")?,
                None if word == "quiet" => quiet = true,
                None if word == "slow" => self.world.slow = true,
                _ => return Err(format!("what is {word}?")),
            }
        }
        self.world
            .attach(label, name, caps, version, nick.as_bytes());
        if quiet {
            let own = format!("{label}>");
            self.world.told.retain(|told| told.to != own);
        }
        Ok(())
    }

    /// A link and its welcome. Only what clients are told is kept.
    fn up(&mut self, rest: &str) -> Result<(), String> {
        let mut nick = self.world.settings.network.nick.clone();
        let (mut caps, mut isupport, mut shown) = ("", String::new(), false);
        for word in rest.split(' ').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some(("nick", value)) => nick = value.to_owned(),
                Some(("caps", value)) => caps = value,
                None if word == "shown" => shown = true,
                Some(("isupport", value)) => isupport = value.replace(';', " ") + " ",
                _ => return Err(format!("what is {word}?")),
            }
        }
        self.world
            .turn(|network, turn| network.linked(facts(), turn));
        if caps.is_empty() {
            self.receive(b":irc.test 421 * CAP :Unknown command");
        } else {
            let list = caps.replace(',', " ").replace(';', ",");
            self.receive(format!(":irc.test CAP * LS :{list}").as_bytes());
            let names = caps
                .split(',')
                .map(|cap| cap.split('=').next().unwrap_or(cap));
            let names = names.collect::<Vec<_>>().join(" ");
            self.receive(format!(":irc.test CAP * ACK :{names}").as_bytes());
        }
        let support = "CASEMAPPING=rfc1459 CHANTYPES=# PREFIX=(ov)@+ CHANMODES=beI,k,l,imnpst \
                       NETWORK=TestNet NICKLEN=16 STATUSMSG=@+";
        for line in [
            format!(":irc.test 001 {nick} :Welcome"),
            format!(":irc.test 004 {nick} irc.test ircd-1 iw bklmnt bklv"),
            format!(":irc.test 005 {nick} {support} {isupport}:are supported by this server"),
            format!(":irc.test 422 {nick} :No MOTD"),
        ] {
            self.receive(line.as_bytes());
        }
        // `NICK` alone stands for the whole registration; what follows the welcome is of interest.
        let own = |told: &world::Told| told.to == ">" || told.to == "!";
        let before = self
            .world
            .told
            .iter()
            .rposition(|t| t.line.starts_with(b"CAP END") || t.line.starts_with(b"USER "));
        let mut n = 0;
        self.world.told.retain(|told| {
            n += 1;
            !own(told) || (shown && before.is_none_or(|last| n > last + 1))
        });
        Ok(())
    }

    fn joined(&mut self, rest: &str) {
        let (channel, members) = rest.split_once(' ').unwrap_or((rest, ""));
        let nick = self.world.network.status().nick;
        for line in [
            format!(":{nick}!al@host.example JOIN {channel}"),
            format!(":irc.test 353 {nick} = {channel} :{members}"),
            format!(":irc.test 366 {nick} {channel} :End of /NAMES list"),
        ] {
            self.receive(&unescape(&line));
        }
    }

    /// Every line of a client has returned its credit once nothing is under way any more.
    fn end(mut self) -> Result<(), String> {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            self.world.pass(Duration::from_secs(3600));
            self.world
                .turn(|network, turn| network.stop("the end", turn));
        }));
        ended.map_err(|panic| reason(&*panic))?;
        let clients = self.world.clients.values().filter(|c| !c.dismissed);
        let unanswered = clients.flat_map(|c| c.labels.iter().filter(|(_, owed)| **owed > 0));
        if let Some((label, _)) = unanswered.into_iter().next() {
            return Err(format!("label {} was not answered", escape::escape(label)));
        }
        let owed = self
            .world
            .clients
            .values()
            .find(|c| c.owed > 0 && !c.dismissed);
        owed.map_or(Ok(()), |c| {
            Err(format!(
                "{} lines of {} returned no credit",
                c.owed, c.label
            ))
        })
    }
}

fn order(words: &str) -> Result<Order, String> {
    let (word, rest) = words.split_once(' ').unwrap_or((words, ""));
    let rest = Bytes::from(unescape(rest));
    Ok(match word {
        "connect" => Order::Connect,
        "disconnect" => Order::Disconnect,
        "jump" => Order::Jump,
        "quote" => Order::Quote(rest),
        "detach" => Order::Detach(rest),
        "attach" => Order::Attach(rest),
        "reset" => Order::ResetHistory(Some(rest).filter(|target| !target.is_empty())),
        "lag" => Order::MeasureLag,
        "certificate" => Order::NewCertificate,
        _ => return Err(format!("\"{word}\" is no order")),
    })
}

fn facts() -> Facts {
    Facts {
        via: "irc.test [2001:db8::1]:6697".to_owned(),
        host: "irc.test".to_owned(),
        port: 6697,
        is_tls: true,
        seed: [7; 16],
        server: "ircs://irc.test:6697".to_owned(),
        ..Facts::default()
    }
}

/// A list of capabilities, by name.
pub fn capabilities(list: &str) -> Result<CapSet, String> {
    let names = list.split(',').filter(|name| !name.is_empty());
    let caps =
        names.map(|n| Cap::parse(n.as_bytes()).ok_or_else(|| format!("{n} is no capability")));
    caps.collect()
}
