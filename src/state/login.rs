//! A client before it is attached: CAP, PASS, SASL, NICK and USER in any order, pipelined or not. Knows no
//! user and checks no password: it says when one is to be checked.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::config::Secret;
use crate::wire::{Cap, CapSet, Line, LineBuilder};

use super::capabilities::{cap_lists, cap_version, offered_at_login, own_value, requested};
use super::login_name::{Claim, LoginName, from_pass, from_sasl};

/// At most so many lines before login.
const MAX_LINES: u32 = 64;
/// At most so many lines are kept for after the login.
const MAX_EARLY: usize = 8;
/// At most so many tries by SASL on one connection.
const MAX_TRIES: u32 = 3;
/// A piece of a SASL payload that is just so long says that more follows.
const CHUNK: usize = 400;
/// A SASL payload is at most so long, in base64.
const MAX_PAYLOAD: usize = 2048;

/// What is to be done about a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Say this to the client.
    Say(Bytes),
    /// Read no further: check the first of these claims whose user (and network) exists, then call
    /// [`Login::checked`].
    Check(Vec<Claim>),
    /// Read no further: look for whom the certificate that the client shows may log in, then call [`Login::checked`].
    Certificate(Named),
    /// The connection is for the network with this number; when there is none, [`Login::unbound`] says so.
    Bind(String),
    /// The client has logged in and said all it has to say.
    Done,
    /// Say ERROR with this reason and close.
    Close(String),
}

/// Whom a client with a certificate says it is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// Whom the certificate has to belong to; `None`: to whomever it belongs.
    pub name: Option<LoginName>,
    /// What USER may add, a network or client.
    pub added: Option<LoginName>,
}

impl Named {
    /// The login, once it is known whose certificate it is. `None`: what was said contradicts itself.
    pub fn of_user(self, user: &str) -> Option<LoginName> {
        let name = self.name.unwrap_or_else(|| LoginName {
            user: user.to_owned(),
            ..LoginName::default()
        });
        match &self.added {
            Some(added) => name.completed_by(added),
            None => Some(name),
        }
    }
}

/// SASL mechanisms we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Plain,
    External,
}

/// How a check was asked for, hence how its outcome is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    Sasl,
    Pass,
}

/// One client before login.
#[derive(Debug)]
pub struct Login {
    server: String,
    lines: u32,
    /// Its CAP version; 0: it has no CAP.
    pub version: u16,
    /// Capabilities it has switched on.
    pub caps: CapSet,
    negotiating: bool,
    /// The nick it registers with.
    pub nick: Option<Bytes>,
    /// What it said by AWAY (pre-away); empty: that its user is there.
    pub away: Option<Bytes>,
    /// What it asked before there was anybody to ask: dealt with once it is attached.
    pub early: Vec<Bytes>,
    username: Option<String>,
    pass: Option<Secret>,
    payload: Option<(Mechanism, String)>,
    /// Whether it has shown a certificate in its TLS handshake.
    has_certificate: bool,
    tries: u32,
    checking: Option<Means>,
    user: Option<String>,
    hinted: bool,
}

impl Login {
    /// A client that has said nothing yet.
    pub fn new(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            lines: 0,
            version: 0,
            caps: CapSet::default(),
            negotiating: false,
            nick: None,
            away: None,
            early: Vec::new(),
            username: None,
            pass: None,
            payload: None,
            has_certificate: false,
            tries: 0,
            checking: None,
            user: None,
            hinted: false,
        }
    }

    /// The same client, which has shown a certificate in its TLS handshake, or has not.
    #[must_use]
    pub fn with_certificate(mut self, has_certificate: bool) -> Self {
        self.has_certificate = has_certificate;
        self
    }

    /// What it may log in by, as SASL names it.
    fn mechanisms(&self) -> &'static str {
        match self.has_certificate {
            true => "PLAIN,EXTERNAL",
            false => "PLAIN",
        }
    }

    /// A line was too long to be read.
    pub fn too_long(&mut self) -> Vec<Step> {
        if let Some(close) = self.count_line() {
            return vec![close];
        }
        let line = self.numeric(417).trailing(b"Input line was too long");
        vec![Step::Say(line.build())]
    }

    fn count_line(&mut self) -> Option<Step> {
        self.lines += 1;
        let enough = self.lines > MAX_LINES;
        enough.then(|| Step::Close("Too many lines before login".into()))
    }

    /// Takes one line.
    pub fn receive(&mut self, line: &Line<'_>) -> Vec<Step> {
        if let Some(close) = self.count_line() {
            return vec![close];
        }
        let mut steps = self.on_line(line);
        if self.checking.is_none() && !steps.iter().any(|s| matches!(s, Step::Close(_))) {
            steps.extend(self.progress());
        }
        steps
    }

    fn on_line(&mut self, line: &Line<'_>) -> Vec<Step> {
        let mut command = line.command().to_ascii_uppercase();
        command.truncate(16);
        match command.as_slice() {
            b"CAP" => self.on_cap(line),
            b"PASS" => self.on_pass(line),
            b"NICK" => self.on_nick(line),
            b"USER" => self.on_user(line),
            b"AUTHENTICATE" => self.on_authenticate(line),
            b"BOUNCER"
                if line
                    .param(0)
                    .is_some_and(|word| word.eq_ignore_ascii_case(b"BIND")) =>
            {
                self.on_bind(line.param(1).unwrap_or_default())
            }
            b"AWAY" if self.caps.has(Cap::PreAway) => {
                let text = line.param(0).unwrap_or_default();
                self.away = Some(Bytes::copy_from_slice(text));
                let (number, told) = match text {
                    b"" => (305, "You are no longer marked as being away"),
                    _ => (306, "You have been marked as being away"),
                };
                vec![Step::Say(
                    self.numeric(number).trailing(told.as_bytes()).build(),
                )]
            }
            b"METADATA" if self.caps.has(Cap::Metadata) && self.early.len() < MAX_EARLY => {
                self.early.push(Bytes::copy_from_slice(line.raw()));
                Vec::new()
            }
            b"PING" => {
                let server = self.server.as_bytes();
                let pong = LineBuilder::from(server, b"PONG").param(server);
                vec![Step::Say(
                    pong.trailing(line.param(0).unwrap_or_default()).build(),
                )]
            }
            b"PONG" => Vec::new(),
            b"QUIT" => vec![Step::Close("Goodbye".into())],
            // Another protocol on our port: whoever speaks it reads no answer of ours.
            b"GET" | b"POST" | b"PUT" | b"HEAD" | b"OPTIONS" | b"CONNECT" | b"DELETE" => {
                vec![Step::Close("This is an IRC server".into())]
            }
            _ => {
                let line = self.numeric(451).param(line.command());
                vec![Step::Say(line.trailing(b"You have not registered").build())]
            }
        }
    }

    fn numeric(&self, number: u16) -> LineBuilder {
        let nick = self.nick.as_deref().unwrap_or(b"*");
        LineBuilder::numeric(self.server.as_bytes(), number, nick)
    }

    fn need_more_params(&self, command: &[u8]) -> Vec<Step> {
        let line = self
            .numeric(461)
            .param(command)
            .trailing(b"Not enough parameters");
        vec![Step::Say(line.build())]
    }

    /// soju.im/bouncer-networks: which of the user's networks this connection is for.
    fn on_bind(&self, netid: &[u8]) -> Vec<Step> {
        if self.user.is_some() {
            return vec![Step::Bind(String::from_utf8_lossy(netid).into_owned())];
        }
        vec![self.bind_refused(
            b"ACCOUNT_REQUIRED",
            b"",
            "Log in before you bind to a network",
        )]
    }

    fn bind_refused(&self, code: &[u8], netid: &[u8], text: &str) -> Step {
        let line = LineBuilder::from(self.server.as_bytes(), b"FAIL")
            .param(b"BOUNCER")
            .param(code)
            .param(b"BIND");
        let line = if netid.is_empty() {
            line
        } else {
            line.param(netid)
        };
        Step::Say(line.trailing(text.as_bytes()).build())
    }

    /// The user has no such network.
    pub fn unbound(&self, netid: &str) -> Step {
        self.bind_refused(
            b"INVALID_NETID",
            netid.as_bytes(),
            "You have no such network",
        )
    }

    fn on_cap(&mut self, line: &Line<'_>) -> Vec<Step> {
        let Some(word) = line.param(0) else {
            return self.need_more_params(b"CAP");
        };
        let list = line.param(1).unwrap_or_default();
        let word = word.to_ascii_uppercase();
        if matches!(word.as_slice(), b"LS" | b"REQ") {
            self.negotiating = true;
        }
        match word.as_slice() {
            b"LS" => self.on_ls(list),
            b"LIST" => self.cap_lines(b"LIST", self.caps.iter().map(Cap::name), self.version),
            b"REQ" => self.on_req(list),
            b"END" => {
                self.negotiating = false;
                Vec::new()
            }
            _ => {
                let line = self
                    .numeric(410)
                    .param(&word)
                    .trailing(b"Invalid CAP subcommand");
                vec![Step::Say(line.build())]
            }
        }
    }

    fn on_ls(&mut self, version: &[u8]) -> Vec<Step> {
        let version = cap_version(version).max(1);
        self.version = self.version.max(version);
        if self.version >= 302 {
            self.caps.insert(Cap::CapNotify);
        }
        let mut offered = offered_at_login(version);
        offered.insert(Cap::Sasl);
        let names = offered.iter().map(|cap| match cap {
            Cap::Sasl if version >= 302 => format!("{cap}={}", self.mechanisms()),
            cap => match own_value(cap) {
                Some(value) if version >= 302 => format!("{cap}={value}"),
                _ => cap.name().to_owned(),
            },
        });
        self.cap_lines(b"LS", names, version)
    }

    fn offered(&self) -> CapSet {
        let mut offered = offered_at_login(self.version);
        offered.insert(Cap::Sasl);
        offered
    }

    fn on_req(&mut self, list: &[u8]) -> Vec<Step> {
        // A client that asks before it lists is told no less than one that speaks 302: it knows what it asks.
        let offered = self.offered().union(offered_at_login(302));
        let offered = if self.version == 0 {
            offered
        } else {
            self.offered()
        };
        let granted = requested(list, self.caps, offered, self.version);
        let word: &[u8] = if granted.is_some() { b"ACK" } else { b"NAK" };
        self.caps = granted.unwrap_or(self.caps);
        let nick = self.nick.as_deref().unwrap_or(b"*");
        let line = LineBuilder::from(self.server.as_bytes(), b"CAP")
            .param(nick)
            .param(word);
        vec![Step::Say(line.trailing(list.trim_ascii_end()).build())]
    }

    /// A list, in several lines for who can put them together.
    fn cap_lines(
        &self,
        word: &[u8],
        names: impl Iterator<Item = impl AsRef<[u8]>>,
        version: u16,
    ) -> Vec<Step> {
        let nick = self.nick.as_deref().unwrap_or(b"*");
        let head = LineBuilder::from(self.server.as_bytes(), b"CAP").param(nick);
        let lines = cap_lists(&head.param(word), names, version >= 302, true);
        lines.into_iter().map(Step::Say).collect()
    }

    fn on_pass(&mut self, line: &Line<'_>) -> Vec<Step> {
        let Some(pass) = line.param(0) else {
            return self.need_more_params(b"PASS");
        };
        self.pass = Some(Secret::new(String::from_utf8_lossy(pass).into_owned()));
        Vec::new()
    }

    fn on_nick(&mut self, line: &Line<'_>) -> Vec<Step> {
        match line.param(0).filter(|nick| !nick.is_empty()) {
            Some(nick) => {
                self.nick = Some(Bytes::copy_from_slice(nick));
                Vec::new()
            }
            None => vec![Step::Say(
                self.numeric(431).trailing(b"No nickname given").build(),
            )],
        }
    }

    /// The second and third parameters are noise.
    fn on_user(&mut self, line: &Line<'_>) -> Vec<Step> {
        let Some(username) = line.param(0) else {
            return self.need_more_params(b"USER");
        };
        self.username = Some(String::from_utf8_lossy(username).into_owned());
        Vec::new()
    }

    fn on_authenticate(&mut self, line: &Line<'_>) -> Vec<Step> {
        let Some(word) = line.param(0) else {
            return self.need_more_params(b"AUTHENTICATE");
        };
        if self.user.is_some() {
            let line = self
                .numeric(907)
                .trailing(b"You have already authenticated");
            return vec![Step::Say(line.build())];
        }
        if word == b"*" {
            self.payload = None;
            return vec![Step::Say(
                self.numeric(906)
                    .trailing(b"SASL authentication aborted")
                    .build(),
            )];
        }
        match self.payload.take() {
            None => self.on_mechanism(word),
            Some((mechanism, payload)) => self.on_payload(mechanism, payload, word),
        }
    }

    fn on_mechanism(&mut self, mechanism: &[u8]) -> Vec<Step> {
        let known = match mechanism.to_ascii_uppercase().as_slice() {
            b"PLAIN" => Some(Mechanism::Plain),
            b"EXTERNAL" if self.has_certificate => Some(Mechanism::External),
            _ => None,
        };
        if let Some(known) = known {
            self.payload = Some((known, String::new()));
            return vec![Step::Say(
                LineBuilder::new(b"AUTHENTICATE").param(b"+").build(),
            )];
        }
        let known = self
            .numeric(908)
            .param(self.mechanisms().as_bytes())
            .trailing(b"are available SASL mechanisms");
        let mut steps = vec![Step::Say(known.build())];
        steps.extend(self.sasl_failed());
        steps
    }

    fn on_payload(&mut self, mechanism: Mechanism, mut payload: String, piece: &[u8]) -> Vec<Step> {
        if piece.len() > CHUNK || payload.len() + piece.len() > MAX_PAYLOAD {
            return vec![Step::Say(
                self.numeric(905).trailing(b"SASL message too long").build(),
            )];
        }
        if piece != b"+" {
            payload.push_str(&String::from_utf8_lossy(piece));
        }
        if piece.len() == CHUNK {
            self.payload = Some((mechanism, payload));
            return Vec::new();
        }
        let username = self.username.as_deref().unwrap_or_default();
        let check = match mechanism {
            Mechanism::Plain => read_plain(&payload)
                .map(|(account, password)| Step::Check(from_sasl(&account, &password, username))),
            Mechanism::External => read_external(&payload).map(|name| {
                let added = LoginName::parse(username);
                Step::Certificate(Named { name, added })
            }),
        };
        match check {
            Some(check) => {
                self.checking = Some(Means::Sasl);
                vec![check]
            }
            None => self.sasl_failed(),
        }
    }

    fn sasl_failed(&mut self) -> Vec<Step> {
        self.tries += 1;
        let mut steps = vec![Step::Say(
            self.numeric(904)
                .trailing(b"SASL authentication failed")
                .build(),
        )];
        if self.tries >= MAX_TRIES {
            steps.push(Step::Close("Too many failed logins".into()));
        }
        steps
    }

    /// The outcome of a check: the user who proved to be, or `None`.
    pub fn checked(&mut self, user: Option<String>) -> Vec<Step> {
        match (self.checking.take(), user) {
            (None, _) => Vec::new(),
            (Some(Means::Sasl), None) => self.sasl_failed(),
            (Some(Means::Pass), None) => {
                let line = self.numeric(464).trailing(b"Password incorrect").build();
                vec![Step::Say(line), Step::Close("Password incorrect".into())]
            }
            (Some(means), Some(user)) => {
                let mut steps = Vec::new();
                if means == Means::Sasl {
                    steps.extend(self.welcome_by_sasl(&user));
                }
                self.user = Some(user);
                steps.extend(self.progress());
                steps
            }
        }
    }

    /// Some clients wait for 900, others for 903.
    fn welcome_by_sasl(&self, user: &str) -> [Step; 2] {
        let nick = String::from_utf8_lossy(self.nick.as_deref().unwrap_or(b"*")).into_owned();
        let mask = format!("{nick}!{user}@{}", self.server);
        let text = format!("You are now logged in as {user}");
        let logged_in = self
            .numeric(900)
            .param(mask.as_bytes())
            .param(user.as_bytes());
        [
            Step::Say(logged_in.trailing(text.as_bytes()).build()),
            Step::Say(
                self.numeric(903)
                    .trailing(b"SASL authentication successful")
                    .build(),
            ),
        ]
    }

    /// What comes next, once NICK and USER were seen and CAP is not open.
    fn progress(&mut self) -> Vec<Step> {
        let (Some(_), Some(username)) = (&self.nick, &self.username) else {
            return Vec::new();
        };
        if self.negotiating || self.payload.is_some() {
            return Vec::new();
        }
        if self.user.is_some() {
            return vec![Step::Done];
        }
        if let Some(pass) = self.pass.take() {
            let claims = from_pass(pass.reveal(), username);
            self.checking = Some(Means::Pass);
            return vec![Step::Check(claims)];
        }
        self.hint()
    }

    /// No password yet: it may still be typed.
    fn hint(&mut self) -> Vec<Step> {
        if std::mem::replace(&mut self.hinted, true) {
            return Vec::new();
        }
        let text = "Send a password: /quote PASS user/network@client:password";
        let notice = LineBuilder::from(self.server.as_bytes(), b"NOTICE");
        let notice = notice
            .param(self.nick.as_deref().unwrap_or(b"*"))
            .trailing(text.as_bytes());
        vec![
            Step::Say(self.numeric(464).trailing(b"Password required").build()),
            Step::Say(notice.build()),
        ]
    }
}

/// RFC 4616: authorization identity, authentication identity, password. Acting as somebody else is not to
/// be had.
fn read_plain(payload: &str) -> Option<(String, String)> {
    let decoded = STANDARD.decode(payload).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let mut parts = text.splitn(3, '\0');
    let (authorization, account, password) = (parts.next()?, parts.next()?, parts.next()?);
    let own = authorization.is_empty() || authorization == account;
    (own && !account.is_empty()).then(|| (account.to_owned(), password.to_owned()))
}

/// RFC 4422 appendix A: the authorization identity, or nothing. `None`: nobody can be called so.
fn read_external(payload: &str) -> Option<Option<LoginName>> {
    let text = String::from_utf8(STANDARD.decode(payload).ok()?).ok()?;
    match text.as_str() {
        "" => Some(None),
        name => LoginName::parse(name).map(Some),
    }
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
