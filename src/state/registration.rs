//! Becoming known to a server: CAP, SASL, PASS, NICK and USER, until 001. Servers without CAP are taken
//! as they are.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use irc_proto::{CapSubCommand, Command};
use serde::{Deserialize, Serialize};

use crate::config::address::is_name;
use crate::wire::{Cap, CapSet, LineBuilder, latin1, typed};

use super::capabilities::{Values, heard};
use super::feature::Received;
use super::record::shown;
use super::sasl::{Exchange, is_listed};
use super::sts::PATIENCE;
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
    /// The server password waits until it is clear that it may go out in clear text.
    held: bool,
    /// The server said something: this address is alive.
    pub(super) heard: bool,
    /// What it said before it hung up.
    pub(super) error: Option<String>,
    pub(super) acked: CapSet,
    #[serde(with = "latin1::option")]
    pub(super) account: Option<Bytes>,
    offered: CapSet,
    pub(super) values: Values,
    /// What `sts=` says.
    sts: Option<String>,
    cap_lines: u32,
    /// REQs that are not answered.
    requested: VecDeque<CapSet>,
    pub(super) sasl: Option<Exchange>,
    ended: bool,
    /// SASL came to its good end.
    logged_in: bool,
    nick_tries: u32,
    /// The wanted nick is none for this server (432).
    pub(super) nick_refused: bool,
    #[serde(with = "latin1")]
    pub(super) nick: Bytes,
}

/// What is asked of a server that offers these. echo-message only comes with labels: without them nobody could say
/// whose echo it is.
pub(super) fn wanted(offered: CapSet) -> CapSet {
    let labels = CapSet::of(&[Cap::Batch, Cap::LabeledResponse]);
    let caps = offered.intersection(ALWAYS);
    if labels.difference(caps).is_empty() {
        caps.union(offered.intersection(CapSet::of(&[Cap::EchoMessage])))
    } else {
        caps.difference(CapSet::of(&[Cap::LabeledResponse]))
    }
}

const ALWAYS: CapSet = CapSet::of(&[
    Cap::AccountNotify,
    Cap::AccountRegistration,
    Cap::AccountTag,
    Cap::AwayNotify,
    Cap::Batch,
    Cap::CapNotify,
    Cap::ChannelRename,
    Cap::Chghost,
    Cap::ExtendedJoin,
    Cap::ExtendedMonitor,
    Cap::ExtendedMonitorDraft,
    Cap::InviteNotify,
    Cap::LabeledResponse,
    Cap::MessageRedaction,
    Cap::MessageTags,
    Cap::Metadata,
    Cap::MultiPrefix,
    Cap::Multiline,
    Cap::PreAway,
    Cap::Sasl,
    Cap::ServerTime,
    Cap::Setname,
    Cap::StandardReplies,
    Cap::UserhostInNames,
]);

impl Network {
    /// Everything that can be said at once is said at once. A password for a server that may yet say that it wants TLS
    /// is not.
    pub(super) fn begin_registration(&mut self, facts: Facts, turn: &mut Turn) {
        let network = &self.settings.network;
        say(
            turn,
            &Command::CAP(None, CapSubCommand::LS, Some("302".into()), None),
        );
        let held = network.password.is_some() && !facts.is_tls && is_name(&facts.host);
        if !held {
            self.introduce_ourselves(turn);
        }
        let network = &self.settings.network;
        let now = turn.now.ticks;
        self.timers
            .set(Timer::Silence, now.plus(network.dial.silence));
        let negotiation = if held { PATIENCE } else { NEGOTIATION };
        self.timers.set(Timer::Negotiation, now.plus(negotiation));
        self.timers
            .set(Timer::Registration, now.plus(network.dial.register_timeout));
        self.upstream = Upstream::Registering(Box::new(Registration {
            facts,
            held,
            heard: false,
            error: None,
            acked: CapSet::default(),
            account: None,
            offered: CapSet::default(),
            values: Values::default(),
            sts: None,
            cap_lines: 0,
            requested: VecDeque::new(),
            sasl: None,
            ended: false,
            logged_in: false,
            nick_tries: 0,
            nick_refused: false,
            nick: self.wanted_nick.clone(),
        }));
    }

    /// PASS, NICK and USER.
    fn introduce_ourselves(&self, turn: &mut Turn) {
        let network = &self.settings.network;
        if let Some(password) = &network.password {
            say(turn, &Command::PASS(password.reveal().to_owned()));
        }
        turn.send(LineBuilder::new(b"NICK").param(&self.wanted_nick).build());
        let user = LineBuilder::new(b"USER").param(network.username.as_bytes());
        let user = user.param(b"0").param(b"*").trailing(self.realname());
        turn.send(user.build());
    }

    /// The server has shown what it is, or takes too long for it.
    fn stop_holding(&mut self, turn: &mut Turn) {
        let held = self.registration().map(|r| std::mem::take(&mut r.held));
        if held == Some(true) {
            self.introduce_ourselves(turn);
            let at = turn.now.ticks.plus(NEGOTIATION);
            self.timers.set(Timer::Negotiation, at);
        }
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
            Some(number @ (432 | 433 | 436 | 437)) => self.next_nick(number, turn),
            // A server without CAP says so, and registers us all the same.
            Some(410 | 421 | 451) => self.without_cap(turn),
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
            let code = line.param(1).unwrap_or_default();
            if code.starts_with(b"ACCOUNT_REQUIRED") {
                return self.leave_refused(&text, Verdict::Banned, turn);
            }
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
        for (cap, value) in heard(list) {
            registration.offered.insert(cap);
            if cap == Cap::Sts {
                registration.sts = Some(value);
            } else {
                registration.values.set(cap, value);
            }
        }
        if !more || registration.cap_lines >= MAX_CAP_LINES {
            self.caps_are_listed(turn);
        }
    }

    fn caps_are_listed(&mut self, turn: &mut Turn) {
        match self.registration().and_then(|r| r.sts.take()) {
            Some(value) if self.heed_sts(&value, turn) => return,
            Some(_) => {}
            None => self.heed_no_sts(),
        }
        self.stop_holding(turn);
        self.request_caps(turn);
    }

    fn request_caps(&mut self, turn: &mut Turn) {
        let Some(registration) = self.registration() else {
            return;
        };
        for group in groups(wanted(registration.offered)) {
            require(turn, group);
            registration.requested.push_back(group);
        }
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
        let mechanisms = registration.values.get(Cap::Sasl).unwrap_or_default();
        if !registration.acked.has(Cap::Sasl) {
            return self.login_failed("the server offers no SASL now", Verdict::Ordinary, turn);
        }
        let exchange = Exchange::new(&sasl, registration.facts.nonce(0));
        if !is_listed(exchange.name(), mechanisms) {
            let text = format!("{name} takes {mechanisms}, not {}", exchange.name());
            return self.login_failed(&text, Verdict::Banned, turn);
        }
        say(turn, &Command::AUTHENTICATE(exchange.name().to_owned()));
        registration.sasl = Some(exchange);
        self.timers.cancel(&Timer::Negotiation);
    }

    fn on_sasl_numeric(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let exchange = self
            .registration()
            .filter(|r| !r.ended)
            .and_then(|r| r.sasl.as_ref());
        let Some(convinced) = exchange.map(Exchange::is_convinced) else {
            return;
        };
        match received.line.numeric() {
            Some(903) if !convinced => {
                let why = "the server did not prove that it knows the password";
                self.login_failed(why, Verdict::Banned, turn);
            }
            Some(903 | 907) => {
                self.certificate_has_served(turn);
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

    /// Without its account the user is not who the network knows: better not there than unmasked. But a certificate that
    /// is new can be made known to services by somebody who is there alone.
    pub(super) fn login_failed(&mut self, why: &str, least: Verdict, turn: &mut Turn) {
        if !self.has_new_certificate() {
            return self.leave_refused(why, least, turn);
        }
        let name = &self.settings.network.name;
        let text = format!(
            "{name}: login by certificate refused: {why}; \"certfp fingerprint\" shows what services have to know"
        );
        self.announce(&text, turn);
        self.end_negotiation(turn);
    }

    fn leave_refused(&mut self, why: &str, least: Verdict, turn: &mut Turn) {
        say(turn, &Command::QUIT(None));
        self.refuse(format!("login refused: {why}"), least, turn);
    }

    fn logged_in(&mut self, account: Option<&[u8]>) {
        if let Some(registration) = self.registration() {
            registration.account = account.map(Bytes::copy_from_slice);
        }
    }

    /// Once it has listed its capabilities, such an error is about something else.
    fn without_cap(&mut self, turn: &mut Turn) {
        if let Some(registration) = self.registration()
            && registration.cap_lines == 0
        {
            registration.ended = true;
            self.stop_holding(turn);
            self.timers.cancel(&Timer::Negotiation);
        }
    }

    /// 001. Without the login that is configured it is refused.
    fn welcome_by_server(&mut self, nick: &[u8], server: &[u8], turn: &mut Turn) {
        let logged_in = self.registration().is_some_and(|r| r.logged_in);
        let needed = self.settings.network.sasl.is_some() && !self.has_new_certificate();
        if needed && !logged_in {
            return self.leave_refused("the server has no SASL", Verdict::Ordinary, turn);
        }
        self.up(nick, server, turn);
    }

    pub(super) fn negotiation_timed_out(&mut self, turn: &mut Turn) {
        match self.registration() {
            Some(registration) if registration.held => self.stop_holding(turn),
            _ => self.end_negotiation(turn),
        }
    }

    /// CAP END, once.
    fn end_negotiation(&mut self, turn: &mut Turn) {
        self.timers.cancel(&Timer::Negotiation);
        let Some(registration) = self.registration() else {
            return;
        };
        if !std::mem::replace(&mut registration.ended, true) {
            say(turn, &Command::CAP(None, CapSubCommand::END, None, None));
        }
    }

    /// The nick is taken or refused: alternatives, then the wanted one with something behind it.
    fn next_nick(&mut self, why: u16, turn: &mut Turn) {
        let alternatives = self.settings.network.alternative_nicks.clone();
        let wanted = self.wanted_nick.clone();
        let Some(registration) = self.registration() else {
            return;
        };
        registration.nick_refused |= why == 432 && registration.nick == wanted;
        let tried = registration.nick_tries as usize;
        registration.nick_tries += 1;
        let nick = match alternatives.get(tried) {
            Some(nick) => nick.clone().into_bytes(),
            None => varied(&wanted, tried - alternatives.len()),
        };
        if registration.nick_tries > MAX_NICKS + u32::try_from(alternatives.len()).unwrap_or(0) {
            let (text, verdict) = match why {
                432 => ("the server takes none of the nicks", Verdict::Banned),
                _ => ("no nick is free", Verdict::Ordinary),
            };
            return self.refuse(text.to_owned(), verdict, turn);
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

/// Capabilities in groups that fit into a line.
pub(super) fn groups(caps: CapSet) -> Vec<CapSet> {
    let mut groups = Vec::new();
    let mut group = CapSet::default();
    let mut bytes = 0;
    for cap in caps.iter() {
        bytes += cap.name().len() + 1;
        if bytes > REQ_BYTES {
            groups.push(std::mem::take(&mut group));
            bytes = cap.name().len() + 1;
        }
        group.insert(cap);
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

pub(super) fn require(turn: &mut Turn, caps: CapSet) {
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
