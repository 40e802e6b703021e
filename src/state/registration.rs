//! Becoming known to a server: CAP, SASL, PASS, NICK and USER, until 001. Servers without CAP are taken
//! as they are.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use irc_proto::{CapSubCommand, Command};
use serde::{Deserialize, Serialize};

use crate::wire::{Cap, CapSet, LineBuilder, latin1, typed};

use super::feature::Received;
use super::record::shown;
use super::sasl::Exchange;
use super::turn::{Action, Audience, Turn};
use super::upstream::{Facts, Upstream, Verdict};
use super::{Network, Timer};

/// So long may CAP negotiation take.
const NEGOTIATION: Duration = Duration::from_secs(20);
/// A REQ is kept to so many bytes of names.
const REQ_BYTES: usize = 400;
/// At most so many lines of CAP LS are read.
const MAX_CAP_LINES: u32 = 64;
/// At most so many nicks are tried.
const MAX_NICKS: u32 = 8;
/// Nicks are kept so short when the server has not said how long they may be (RFC 2812 section 1.2.1).
const SAFE_NICK: usize = 9;

/// A connection that is not welcomed yet.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Registration {
    pub(super) facts: Facts,
    /// The server said something: this address is alive.
    pub(super) heard: bool,
    /// What it said before it hung up.
    pub(super) error: Option<String>,
    pub(super) acked: CapSet,
    #[serde(with = "latin1::option")]
    pub(super) account: Option<Bytes>,
    offered: CapSet,
    /// The mechanisms of `sasl=`; `None` while it is not offered.
    mechanisms: Option<String>,
    cap_lines: u32,
    /// REQs that are not answered.
    requested: VecDeque<CapSet>,
    sasl: Option<Exchange>,
    ended: bool,
    /// SASL came to its good end.
    logged_in: bool,
    nick_tries: u32,
    #[serde(with = "latin1")]
    nick: Bytes,
}

/// What is asked of servers where it is offered. echo-message only comes with labels.
pub(super) fn wanted() -> CapSet {
    [
        Cap::AccountNotify,
        Cap::AccountTag,
        Cap::AwayNotify,
        Cap::Batch,
        Cap::CapNotify,
        Cap::Chghost,
        Cap::ExtendedJoin,
        Cap::InviteNotify,
        Cap::MessageTags,
        Cap::MultiPrefix,
        Cap::ServerTime,
        Cap::Setname,
        Cap::UserhostInNames,
    ]
    .into_iter()
    .collect()
}

impl Network {
    /// Everything that can be said at once is said at once.
    pub(super) fn begin_registration(&mut self, facts: Facts, turn: &mut Turn) {
        let network = &self.settings.network;
        say(
            turn,
            &Command::CAP(None, CapSubCommand::LS, Some("302".into()), None),
        );
        if let Some(password) = &network.password {
            say(turn, &Command::PASS(password.reveal().to_owned()));
        }
        let username = network.username.clone();
        turn.send(LineBuilder::new(b"NICK").param(&self.wanted_nick).build());
        let user = Command::USER(username, "0".into(), network.realname.clone());
        say(turn, &user);
        let now = turn.now.ticks;
        self.timers
            .set(Timer::Silence, now.plus(network.dial.silence));
        self.timers.set(Timer::Negotiation, now.plus(NEGOTIATION));
        self.timers
            .set(Timer::Registration, now.plus(network.dial.register_timeout));
        self.upstream = Upstream::Registering(Box::new(Registration {
            facts,
            heard: false,
            error: None,
            acked: CapSet::default(),
            account: None,
            offered: CapSet::default(),
            mechanisms: None,
            cap_lines: 0,
            requested: VecDeque::new(),
            sasl: None,
            ended: false,
            logged_in: false,
            nick_tries: 0,
            nick: self.wanted_nick.clone(),
        }));
    }

    fn registration(&mut self) -> Option<&mut Registration> {
        match &mut self.upstream {
            Upstream::Registering(registration) => Some(registration),
            _ => None,
        }
    }

    /// A line before 001.
    pub(super) fn on_registering(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let line = &received.line;
        match line.numeric() {
            Some(1) => {
                let nick = line.param(0).unwrap_or_default();
                let nick = if nick.is_empty() || nick == b"*" {
                    self.wanted_nick.to_vec()
                } else {
                    nick.to_vec()
                };
                self.welcome_by_server(&nick, line.source(), turn);
            }
            Some(432 | 433 | 436 | 437) => self.next_nick(turn),
            // A server without CAP says so, and registers us all the same.
            Some(410 | 421 | 451) => self.without_cap(),
            Some(463..=466) => {
                let text = text_of(received);
                self.refuse(text, Verdict::Banned, turn);
            }
            Some(900) => self.logged_in(line.param(2)),
            Some(901) => self.logged_in(None),
            Some(902..=908) => self.on_sasl_numeric(received, turn),
            Some(_) => {}
            None => self.on_registering_command(received, turn),
        }
    }

    fn on_registering_command(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let line = &received.line;
        if line.is(b"PING") {
            self.on_ping(received, turn);
        } else if line.is(b"CAP") {
            self.on_cap_registering(received, turn);
        } else if line.is(b"AUTHENTICATE") {
            self.on_authenticate(received, turn);
        } else if line.is(b"ERROR") {
            let text = text_of(received);
            if let Some(registration) = self.registration() {
                registration.error = Some(text);
            }
        } else if line.is(b"NOTICE") {
            let line = shown(received, turn.now);
            turn.push(Action::Deliver {
                to: Audience::All,
                line,
                entries: None,
            });
        } else if line.is(b"FAIL") {
            let text = text_of(received);
            self.announce(&format!("{}: {text}", self.settings.network.name), turn);
        }
    }

    fn on_cap_registering(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let Some(word) = received.line.param(1) else {
            return;
        };
        if word.eq_ignore_ascii_case(b"LS") {
            self.on_ls(received, turn);
        } else if word.eq_ignore_ascii_case(b"ACK") {
            self.on_ack(received.line.last().unwrap_or_default(), turn);
        } else if word.eq_ignore_ascii_case(b"NAK") {
            self.on_nak(turn);
        }
    }

    /// One line of CAP LS; `*` as the last but one parameter says that more follows.
    fn on_ls(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let more = received.line.param_count() > 3 && received.line.param(2) == Some(b"*");
        let Some(registration) = self.registration() else {
            return;
        };
        if registration.ended || !registration.requested.is_empty() {
            return;
        }
        registration.cap_lines += 1;
        let list = received.line.last().unwrap_or_default();
        for token in list.split(|b| *b == b' ').filter(|t| !t.is_empty()) {
            let mut parts = token.splitn(2, |b| *b == b'=');
            let Some(cap) = parts.next().and_then(Cap::parse) else {
                continue;
            };
            registration.offered.insert(cap);
            if cap == Cap::Sasl {
                let value = parts.next().unwrap_or_default();
                registration.mechanisms = Some(String::from_utf8_lossy(value).into_owned());
            }
        }
        if !more || registration.cap_lines >= MAX_CAP_LINES {
            self.request_caps(turn);
        }
    }

    fn request_caps(&mut self, turn: &mut Turn) {
        let wants_sasl = self.settings.network.sasl.is_some();
        let Some(registration) = self.registration() else {
            return;
        };
        let mut caps = registration.offered.intersection(wanted());
        if wants_sasl && registration.offered.has(Cap::Sasl) {
            caps.insert(Cap::Sasl);
        }
        let mut group = CapSet::default();
        let mut bytes = 0;
        for cap in caps.iter() {
            bytes += cap.name().len() + 1;
            if bytes > REQ_BYTES {
                registration.requested.push_back(std::mem::take(&mut group));
                bytes = cap.name().len() + 1;
            }
            group.insert(cap);
        }
        if !group.is_empty() {
            registration.requested.push_back(group);
        }
        registration
            .requested
            .iter()
            .for_each(|group| require(turn, *group));
        if registration.requested.is_empty() {
            self.negotiated(turn);
        }
    }

    fn on_ack(&mut self, list: &[u8], turn: &mut Turn) {
        let Some(registration) = self.registration() else {
            return;
        };
        for cap in list.split(|b| *b == b' ').filter_map(Cap::parse) {
            registration.acked.insert(cap);
        }
        registration.requested.pop_front();
        if registration.requested.is_empty() {
            self.negotiated(turn);
        }
    }

    /// A group that is refused is asked for again one by one; one alone is left out.
    fn on_nak(&mut self, turn: &mut Turn) {
        let Some(registration) = self.registration() else {
            return;
        };
        let group = registration.requested.pop_front().unwrap_or_default();
        if group.iter().count() > 1 {
            for cap in group.iter() {
                let alone: CapSet = [cap].into_iter().collect();
                require(turn, alone);
                registration.requested.push_back(alone);
            }
        }
        if registration.requested.is_empty() {
            self.negotiated(turn);
        }
    }

    /// The capabilities are settled: log in, or end.
    fn negotiated(&mut self, turn: &mut Turn) {
        let Some(sasl) = self.settings.network.sasl.clone() else {
            return self.end_negotiation(turn);
        };
        let name = self.settings.network.name.clone();
        let Some(registration) = self.registration() else {
            return;
        };
        if registration.sasl.is_some() || registration.ended {
            return;
        }
        let mechanisms = registration.mechanisms.clone().unwrap_or_default();
        if !registration.acked.has(Cap::Sasl) {
            return self.login_failed("the server offers no SASL now", Verdict::Ordinary, turn);
        }
        let exchange = Exchange::new(&sasl);
        let known = mechanisms.is_empty()
            || mechanisms
                .split(',')
                .any(|m| m.eq_ignore_ascii_case(exchange.mechanism()));
        if !known {
            let text = format!("{name} takes {mechanisms}, not {}", exchange.mechanism());
            return self.login_failed(&text, Verdict::Banned, turn);
        }
        say(
            turn,
            &Command::AUTHENTICATE(exchange.mechanism().to_owned()),
        );
        registration.sasl = Some(exchange);
        self.timers.cancel(&Timer::Negotiation);
    }

    fn on_authenticate(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let Some(sasl) = self.settings.network.sasl.clone() else {
            return;
        };
        let Some(registration) = self.registration() else {
            return;
        };
        let Some(exchange) = &mut registration.sasl else {
            return;
        };
        for chunk in exchange.answer(&sasl, received.line.param(0).unwrap_or_default()) {
            say(turn, &Command::AUTHENTICATE(chunk));
        }
    }

    fn on_sasl_numeric(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let expected = self
            .registration()
            .is_some_and(|r| r.sasl.is_some() && !r.ended);
        match received.line.numeric() {
            _ if !expected => {}
            Some(903 | 907) => {
                if let Some(registration) = self.registration() {
                    registration.logged_in = true;
                }
                self.end_negotiation(turn);
            }
            // 908 lists the mechanisms; 904 follows it.
            Some(908) => {}
            _ => {
                let text = text_of(received);
                self.login_failed(&text, Verdict::Banned, turn);
            }
        }
    }

    /// Without its account the user is not who the network knows: better not there than unmasked.
    fn login_failed(&mut self, why: &str, least: Verdict, turn: &mut Turn) {
        say(turn, &Command::QUIT(None));
        self.refuse(format!("login refused: {why}"), least, turn);
    }

    fn logged_in(&mut self, account: Option<&[u8]>) {
        if let Some(registration) = self.registration() {
            registration.account = account.map(Bytes::copy_from_slice);
        }
    }

    /// Once it has listed its capabilities, such an error is about something else.
    fn without_cap(&mut self) {
        if let Some(registration) = self.registration()
            && registration.cap_lines == 0
        {
            registration.ended = true;
            self.timers.cancel(&Timer::Negotiation);
        }
    }

    /// 001. Without the login that is configured it is refused.
    fn welcome_by_server(&mut self, nick: &[u8], server: &[u8], turn: &mut Turn) {
        let logged_in = self.registration().is_some_and(|r| r.logged_in);
        if self.settings.network.sasl.is_some() && !logged_in {
            return self.login_failed("the server has no SASL", Verdict::Ordinary, turn);
        }
        self.up(nick, server, turn);
    }

    /// CAP END, once.
    pub(super) fn end_negotiation(&mut self, turn: &mut Turn) {
        self.timers.cancel(&Timer::Negotiation);
        let Some(registration) = self.registration() else {
            return;
        };
        if !std::mem::replace(&mut registration.ended, true) {
            say(turn, &Command::CAP(None, CapSubCommand::END, None, None));
        }
    }

    /// The nick is taken or refused: alternatives, then the wanted one with something behind it.
    fn next_nick(&mut self, turn: &mut Turn) {
        let alternatives = self.settings.network.alternative_nicks.clone();
        let wanted = self.wanted_nick.clone();
        let Some(registration) = self.registration() else {
            return;
        };
        let tried = registration.nick_tries as usize;
        registration.nick_tries += 1;
        let nick = match alternatives.get(tried) {
            Some(nick) => nick.clone().into_bytes(),
            None => varied(&wanted, tried - alternatives.len()),
        };
        if registration.nick_tries > MAX_NICKS + u32::try_from(alternatives.len()).unwrap_or(0) {
            return self.refuse("no nick is free".to_owned(), Verdict::Ordinary, turn);
        }
        registration.nick = nick.into();
        turn.send(LineBuilder::new(b"NICK").param(&registration.nick).build());
    }
}

/// The n-th nick made of a taken one: `nick_`, `nick__`, then digits in its last places.
fn varied(wanted: &[u8], n: usize) -> Vec<u8> {
    let mut nick = wanted.to_vec();
    if n < 2 && nick.len() + n < SAFE_NICK {
        nick.extend(std::iter::repeat_n(b'_', n + 1));
        return nick;
    }
    nick.truncate(SAFE_NICK - 1);
    nick.push(b'0' + u8::try_from(n % 10).unwrap_or(0));
    nick
}

fn require(turn: &mut Turn, caps: CapSet) {
    let list = caps.iter().map(Cap::name).collect::<Vec<_>>().join(" ");
    turn.send(
        LineBuilder::new(b"CAP")
            .param(b"REQ")
            .trailing(list.as_bytes())
            .build(),
    );
}

/// A line of ours; one that would hold a control byte is not said.
pub(super) fn say(turn: &mut Turn, command: &Command) {
    if let Ok(line) = typed::encode(command) {
        turn.send(line);
    }
}

fn text_of(received: &Received<'_>) -> String {
    String::from_utf8_lossy(received.line.last().unwrap_or_default()).into_owned()
}
