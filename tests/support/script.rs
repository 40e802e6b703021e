//! What the mock IRC server does by itself on one connection: registration, SASL, channels, echo. It parses with
//! irc-proto, an implementation that is not ours. A test that wants something else says the lines itself.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use irc_proto::{CapSubCommand, Command, Message};

use super::scram::{Answer, Scram};
use super::talk::Reaction;

/// Who may log in by SASL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// PLAIN, with this account and password.
    Plain(&'static str, &'static str),
    /// SCRAM-SHA-256, with this account and password.
    Scram(&'static str, &'static str),
    /// EXTERNAL, as this account, with the certificate of this fingerprint (`sha256:...`).
    External(&'static str, String),
}

/// How a connection begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Greeting {
    /// As it should.
    #[default]
    Welcome,
    /// Nothing is ever said.
    Silence,
    /// The connection is closed at the first line.
    Close,
    /// `ERROR` with this text answers the first line, then the connection is closed.
    Error(String),
}

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct Script {
    /// What it calls itself.
    pub name: &'static str,
    /// How a connection begins.
    pub greeting: Greeting,
    /// What CAP LS lists, values and all. `None`: CAP is an unknown command.
    pub caps: Option<Vec<&'static str>>,
    /// Capabilities on a line of CAP LS; the other lines are continuations.
    pub caps_a_line: usize,
    /// What SASL lets in; `sasl` must be in `caps`.
    pub account: Option<Account>,
    /// The server password.
    pub password: Option<&'static str>,
    /// Nicks in use.
    pub taken: Vec<&'static str>,
    /// Tokens of 005.
    pub isupport: Vec<&'static str>,
    /// user@host of whoever connects.
    pub user_host: &'static str,
    /// The topic of each channel.
    pub topic: Option<&'static str>,
    /// Who else is on each channel, with their prefixes.
    pub members: Vec<&'static str>,
    /// Channels that cannot be joined, and the numeric that says so.
    pub closed: Vec<(&'static str, &'static str)>,
    /// Whether JOIN is answered at all.
    pub answers_join: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            name: "irc.test",
            greeting: Greeting::Welcome,
            caps: Some(vec!["multi-prefix", "server-time"]),
            caps_a_line: 8,
            account: None,
            password: None,
            taken: Vec::new(),
            isupport: vec![
                "CASEMAPPING=rfc1459",
                "CHANTYPES=#",
                "CHANMODES=beI,k,l,imnpst",
                "PREFIX=(ov)@+",
                "NETWORK=TestNet",
                "NICKLEN=16",
            ],
            user_host: "user@host.test",
            topic: None,
            members: vec!["@op", "+voice", "other"],
            closed: Vec::new(),
            answers_join: true,
        }
    }
}

/// What one connection has come to.
#[derive(Debug, Default)]
pub struct Session {
    /// The nick, once it was taken.
    pub nick: Option<String>,
    /// Whether 001 was said.
    pub is_registered: bool,
    /// Capabilities acknowledged.
    pub caps: BTreeSet<String>,
    /// The account logged in to.
    pub account: Option<String>,
    /// Channels joined.
    pub channels: BTreeSet<String>,
    /// The fingerprint of the client's certificate.
    pub fingerprint: Option<String>,
    user: Option<String>,
    password: Option<String>,
    negotiates: bool,
    mechanism: Option<String>,
    payload: String,
    scram: Scram,
}

impl Session {
    /// A connection just made, with this certificate.
    pub fn new(fingerprint: Option<String>) -> Self {
        Self {
            fingerprint,
            ..Self::default()
        }
    }

    /// Answers a line as `script` has it.
    pub fn hear(&mut self, script: &Script, line: &str) -> Reaction {
        match &script.greeting {
            Greeting::Silence => return Reaction::default(),
            Greeting::Close => {
                return Reaction {
                    say: Vec::new(),
                    close: true,
                };
            }
            Greeting::Error(text) => {
                return Reaction {
                    say: vec![format!("ERROR :{text}")],
                    close: true,
                };
            }
            Greeting::Welcome => {}
        }
        let Ok(message) = format!("{line}\r\n").parse::<Message>() else {
            return Reaction::default();
        };
        let tags = message.tags.unwrap_or_default();
        let label = tags
            .into_iter()
            .find(|tag| tag.0 == "label")
            .and_then(|tag| tag.1);
        let mut reply = Reply {
            script,
            session: self,
            say: Vec::new(),
            close: false,
        };
        reply.answer(message.command);
        let (say, close) = (reply.say, reply.close);
        let label = label.filter(|_| self.caps.contains("labeled-response"));
        Reaction {
            say: label.map_or_else(|| say.clone(), |label| labelled(script, &label, &say)),
            close,
        }
    }
}

/// The answer to a labelled line: bare, alone, or a batch.
fn labelled(script: &Script, label: &str, say: &[String]) -> Vec<String> {
    let server = script.name;
    let tag = |tag: &str, line: &str| match line.strip_prefix('@') {
        Some(rest) => format!("@{tag};{rest}"),
        None => format!("@{tag} {line}"),
    };
    match say {
        [] => vec![format!("@label={label} :{server} ACK")],
        [line] => vec![tag(&format!("label={label}"), line)],
        lines => {
            let mut batch = vec![format!(
                "@label={label} :{server} BATCH +l labeled-response"
            )];
            batch.extend(lines.iter().map(|line| tag("batch=l", line)));
            batch.push(format!(":{server} BATCH -l"));
            batch
        }
    }
}

struct Reply<'a> {
    script: &'a Script,
    session: &'a mut Session,
    say: Vec<String>,
    close: bool,
}

impl Reply<'_> {
    fn answer(&mut self, command: Command) {
        match command {
            Command::CAP(_, what, one, two) => self.cap(&what, two.or(one)),
            Command::PASS(password) => self.session.password = Some(password),
            Command::NICK(nick) => self.nick(nick),
            Command::USER(user, ..) => {
                self.session.user = Some(user);
                self.welcome();
            }
            Command::AUTHENTICATE(data) => self.authenticate(&data),
            Command::PING(token, _) => {
                let server = self.script.name;
                self.line(&format!(":{server} PONG {server} :{token}"));
            }
            Command::PONG(..) => {}
            Command::QUIT(_) => {
                self.line("ERROR :Closing link");
                self.close = true;
            }
            _ if !self.session.is_registered => self.numeric("451", ":You have not registered"),
            command => self.answer_registered(command),
        }
    }

    fn answer_registered(&mut self, command: Command) {
        match command {
            Command::JOIN(channels, ..) => {
                channels.split(',').for_each(|channel| self.join(channel));
            }
            Command::PART(channels, _) => {
                for channel in channels.split(',') {
                    if self.session.channels.remove(channel) {
                        self.say_as_user(&format!("PART {channel}"));
                    } else {
                        self.numeric("442", &format!("{channel} :You're not on that channel"));
                    }
                }
            }
            Command::PRIVMSG(target, text) => self.echo(&format!("PRIVMSG {target} :{text}")),
            Command::NOTICE(target, text) => self.echo(&format!("NOTICE {target} :{text}")),
            Command::TOPIC(channel, Some(topic)) => {
                self.say_as_user(&format!("TOPIC {channel} :{topic}"));
            }
            Command::NAMES(Some(channel), _) => self.names(&channel),
            Command::ChannelMODE(channel, modes) if modes.is_empty() => {
                self.numeric("324", &format!("{channel} +nt"));
            }
            Command::UserMODE(..) => self.numeric("221", "+i"),
            Command::WHO(Some(mask), _) => {
                self.numeric("315", &format!("{mask} :End of /WHO list"));
            }
            Command::WHOIS(_, nick) => {
                self.numeric("311", &format!("{nick} u host.test * :Real Name"));
                self.numeric("318", &format!("{nick} :End of /WHOIS list"));
            }
            Command::AWAY(Some(_)) => self.numeric("306", ":You have been marked as being away"),
            Command::AWAY(None) => self.numeric("305", ":You are no longer marked as being away"),
            command => {
                let line = String::from(&command);
                let word = line.split(' ').next().unwrap_or_default().to_owned();
                self.numeric("421", &format!("{word} :Unknown command"));
            }
        }
    }

    fn cap(&mut self, what: &CapSubCommand, list: Option<String>) {
        let Some(offered) = &self.script.caps else {
            return self.numeric("421", "CAP :Unknown command");
        };
        match what {
            CapSubCommand::LS => {
                self.session.negotiates = !self.session.is_registered;
                let lines: Vec<_> = offered.chunks(self.script.caps_a_line.max(1)).collect();
                for (n, caps) in lines.iter().enumerate() {
                    let more = if n + 1 < lines.len() { "* " } else { "" };
                    self.cap_line(&format!("LS {more}:{}", caps.join(" ")));
                }
                if lines.is_empty() {
                    self.cap_line("LS :");
                }
            }
            CapSubCommand::REQ => {
                self.session.negotiates = !self.session.is_registered;
                let list = list.unwrap_or_default();
                let has = |cap: &str| {
                    let names = offered
                        .iter()
                        .map(|cap| cap.split('=').next().unwrap_or(cap));
                    names
                        .into_iter()
                        .any(|name| name == cap.trim_start_matches('-'))
                };
                if !list.split_whitespace().all(has) {
                    return self.cap_line(&format!("NAK :{list}"));
                }
                for cap in list.split_whitespace() {
                    match cap.strip_prefix('-') {
                        Some(cap) => self.session.caps.remove(cap),
                        None => self.session.caps.insert(cap.to_owned()),
                    };
                }
                self.cap_line(&format!("ACK :{list}"));
            }
            CapSubCommand::END => {
                self.session.negotiates = false;
                self.welcome();
            }
            CapSubCommand::LIST => {
                let caps: Vec<_> = self.session.caps.iter().cloned().collect();
                self.cap_line(&format!("LIST :{}", caps.join(" ")));
            }
            _ => {}
        }
    }

    fn authenticate(&mut self, data: &str) {
        if !self.session.caps.contains("sasl") {
            return self.numeric("421", "AUTHENTICATE :Unknown command");
        }
        if data == "*" {
            self.session.mechanism = None;
            return self.numeric("906", ":SASL authentication aborted");
        }
        let Some(mechanism) = self.session.mechanism.clone() else {
            if matches!(data, "PLAIN" | "EXTERNAL" | "SCRAM-SHA-256") {
                self.session.mechanism = Some(data.to_owned());
                return self.line("AUTHENTICATE +");
            }
            self.numeric("908", "PLAIN,EXTERNAL :are available SASL mechanisms");
            return self.numeric("904", ":SASL authentication failed");
        };
        if data != "+" {
            self.session.payload += data;
        }
        // A chunk of 400 is followed by another one, an empty one if need be.
        if data.len() == 400 {
            return;
        }
        let payload = BASE64
            .decode(std::mem::take(&mut self.session.payload))
            .unwrap_or_default();
        if let (Some(Account::Scram(account, password)), "SCRAM-SHA-256") =
            (&self.script.account, mechanism.as_str())
        {
            match self.session.scram.answer(account, password, &payload) {
                Answer::Say(text) => {
                    return self.line(&format!("AUTHENTICATE {}", BASE64.encode(text)));
                }
                Answer::Done => return self.log_in(Some(account)),
                Answer::Refuse => return self.log_in(None),
            }
        }
        let accepted = match (&self.script.account, mechanism.as_str()) {
            (Some(Account::Plain(account, password)), "PLAIN") => {
                let mut parts = payload.split(|byte| *byte == 0).skip(1);
                let right = parts.next() == Some(account.as_bytes())
                    && parts.next() == Some(password.as_bytes());
                right.then_some(*account)
            }
            (Some(Account::External(account, fingerprint)), "EXTERNAL") => {
                (self.session.fingerprint.as_ref() == Some(fingerprint)).then_some(*account)
            }
            _ => None,
        };
        self.log_in(accepted);
    }

    fn log_in(&mut self, account: Option<&str>) {
        self.session.mechanism = None;
        match account {
            Some(account) => {
                self.session.account = Some(account.to_owned());
                let mask = self.mask();
                self.numeric("900", &format!("{mask} {account} :You are now logged in"));
                self.numeric("903", ":SASL authentication successful");
            }
            None => self.numeric("904", ":SASL authentication failed"),
        }
    }

    fn nick(&mut self, nick: String) {
        if self
            .script
            .taken
            .iter()
            .any(|taken| taken.eq_ignore_ascii_case(&nick))
        {
            return self.numeric("433", &format!("{nick} :Nickname is already in use"));
        }
        if self.session.is_registered {
            self.say_as_user(&format!("NICK :{nick}"));
        }
        self.session.nick = Some(nick);
        self.welcome();
    }

    fn welcome(&mut self) {
        let session = &*self.session;
        let is_ready = session.nick.is_some() && session.user.is_some() && !session.negotiates;
        if session.is_registered || !is_ready {
            return;
        }
        if self.script.password.is_some() && session.password.as_deref() != self.script.password {
            self.numeric("464", ":Password incorrect");
            self.line("ERROR :Bad password");
            self.close = true;
            return;
        }
        self.session.is_registered = true;
        let (server, mask) = (self.script.name, self.mask());
        self.numeric("001", &format!(":Welcome to TestNet {mask}"));
        self.numeric("002", &format!(":Your host is {server}"));
        self.numeric("003", ":This server was created today");
        self.numeric("004", &format!("{server} mock-1 iow beIklimnopstv bklov"));
        for tokens in self.script.isupport.chunks(13) {
            self.numeric(
                "005",
                &format!("{} :are supported by this server", tokens.join(" ")),
            );
        }
        self.numeric("422", ":MOTD File is missing");
    }

    fn join(&mut self, channel: &str) {
        let closed = self.script.closed.iter().find(|(name, _)| *name == channel);
        if let Some((_, numeric)) = closed {
            return self.numeric(numeric, &format!("{channel} :Cannot join channel"));
        }
        if !self.script.answers_join || !self.session.channels.insert(channel.to_owned()) {
            return;
        }
        if self.session.caps.contains("extended-join") {
            let account = self
                .session
                .account
                .clone()
                .unwrap_or_else(|| "*".to_owned());
            self.say_as_user(&format!("JOIN {channel} {account} :Real Name"));
        } else {
            self.say_as_user(&format!("JOIN {channel}"));
        }
        if let Some(topic) = self.script.topic {
            self.numeric("332", &format!("{channel} :{topic}"));
            self.numeric("333", &format!("{channel} op!u@host.test 1767200000"));
        }
        self.names(channel);
    }

    fn names(&mut self, channel: &str) {
        let mut members = self.script.members.join(" ");
        if self.session.channels.contains(channel) {
            members = format!("{} {members}", self.session.nick.as_deref().unwrap_or("*"));
        }
        self.numeric("353", &format!("= {channel} :{}", members.trim_end()));
        self.numeric("366", &format!("{channel} :End of /NAMES list"));
    }

    fn echo(&mut self, line: &str) {
        if self.session.caps.contains("echo-message") {
            self.say_as_user(line);
        }
    }

    fn mask(&self) -> String {
        format!(
            "{}!{}",
            self.session.nick.as_deref().unwrap_or("*"),
            self.script.user_host
        )
    }

    fn say_as_user(&mut self, line: &str) {
        let line = format!(":{} {line}", self.mask());
        self.line(&line);
    }

    fn numeric(&mut self, numeric: &str, rest: &str) {
        let nick = self.session.nick.as_deref().unwrap_or("*");
        let line = format!(":{} {numeric} {nick} {rest}", self.script.name);
        self.line(&line);
    }

    fn cap_line(&mut self, rest: &str) {
        let nick = self.session.nick.as_deref().unwrap_or("*");
        let line = format!(":{} CAP {nick} {rest}", self.script.name);
        self.line(&line);
    }

    fn line(&mut self, line: &str) {
        self.say.push(line.to_owned());
    }
}
