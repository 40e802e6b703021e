//! Logging in to a network's services (IRCv3 SASL 3.1 and 3.2): the mechanisms; our own login, on a new link or when
//! services come back; a client's login, which is between the client and the network.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use irc_proto::Command;
use serde::{Deserialize, Serialize};

use crate::config::Sasl;
use crate::history::{Fact, Write};
use crate::wire::Cap;

use super::feature::{Answer, Asked, Feature, NOTHING, Offer, Received, Rule, Source};
use super::registration::say;
use super::scram::{Recipe, Salted, Scram};
use super::turn::{Action, Audience, ClientId, Ticks, Turn};
use super::upstream::{Upstream, Verdict};
use super::{Network, REPLY_TIMEOUT, Timer};

pub(super) static SASL: Feature = Feature {
    offers: &[Offer(Cap::Sasl, Source::Server)],
    server: &[
        Rule::new(b"AUTHENTICATE", 1, Network::on_authenticate),
        Rule::new(b"902", 1, Network::on_login_ended),
        Rule::new(b"903", 1, Network::on_login_ended),
        Rule::new(b"904", 1, Network::on_login_ended),
        Rule::new(b"905", 1, Network::on_login_ended),
        Rule::new(b"906", 1, Network::on_login_ended),
        Rule::new(b"907", 1, Network::on_login_ended),
        Rule::new(b"908", 1, Network::on_mechanisms),
    ],
    client: &[Rule::new(b"AUTHENTICATE", 1, Network::ask_authenticate)],
    ..NOTHING
};

/// A payload goes out in pieces of so many bytes; a piece of just this length says that more follows.
const CHUNK: usize = 400;
/// A challenge may have so many bytes of base64.
const MAX_CHALLENGE: usize = 10 * 1024;

/// A login under way. It holds no secret: those stay in the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exchange {
    mechanism: Mechanism,
    /// Pieces of a challenge of which more follow.
    gathered: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Mechanism {
    Plain,
    External,
    ScramSha256(Scram),
}

/// What comes of a challenge.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Say(Vec<String>),
    /// The password is to be hashed first.
    Salt(Recipe),
    Fail(String),
}

/// Which client talks to the network's services about its account, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Applicant {
    pub(super) client: ClientId,
    pub(super) since: Ticks,
}

impl Exchange {
    pub(super) fn new(sasl: &Sasl, nonce: String) -> Self {
        let mechanism = match sasl {
            Sasl::Plain { .. } => Mechanism::Plain,
            Sasl::External { .. } => Mechanism::External,
            Sasl::ScramSha256 { .. } => Mechanism::ScramSha256(Scram::new(nonce)),
        };
        Self {
            mechanism,
            gathered: String::new(),
        }
    }

    /// The mechanism's name.
    pub(super) fn name(&self) -> &'static str {
        match self.mechanism {
            Mechanism::Plain => "PLAIN",
            Mechanism::External => "EXTERNAL",
            Mechanism::ScramSha256(_) => "SCRAM-SHA-256",
        }
    }

    /// Whether the server has proved what it has to, so that its success counts.
    pub(super) fn is_convinced(&self) -> bool {
        match &self.mechanism {
            Mechanism::Plain | Mechanism::External => true,
            Mechanism::ScramSha256(scram) => scram.is_done(),
        }
    }

    /// One line of the server.
    fn hear(&mut self, sasl: &Sasl, piece: &[u8]) -> Step {
        if piece != b"+" {
            self.gathered.push_str(&String::from_utf8_lossy(piece));
        }
        if self.gathered.len() > MAX_CHALLENGE {
            return Step::Fail("the server's challenge is too long".to_owned());
        }
        if piece.len() == CHUNK {
            return Step::Say(Vec::new());
        }
        match STANDARD.decode(std::mem::take(&mut self.gathered)) {
            Ok(challenge) => self.answer(sasl, &challenge),
            Err(_) => Step::Fail("the server's challenge is no base64".to_owned()),
        }
    }

    fn answer(&mut self, sasl: &Sasl, challenge: &[u8]) -> Step {
        match (&mut self.mechanism, sasl) {
            (Mechanism::ScramSha256(scram), Sasl::ScramSha256 { account, .. }) => {
                if challenge.is_empty() && scram.is_new() {
                    return Step::Say(chunks(scram.first(account).as_bytes()));
                }
                let step = match scram.is_new() {
                    true => scram.challenged(account, challenge).map(Step::Salt),
                    false => scram.check(challenge).map(|()| Step::Say(chunks(b""))),
                };
                step.unwrap_or_else(|wrong| Step::Fail(wrong.to_string()))
            }
            _ if !challenge.is_empty() => {
                Step::Fail("the server asks what the mechanism does not know".to_owned())
            }
            (_, Sasl::Plain { account, password }) => {
                let payload = format!("\0{account}\0{}", password.reveal());
                Step::Say(chunks(payload.as_bytes()))
            }
            (_, Sasl::External { account }) => Step::Say(chunks(account.as_bytes())),
            (_, Sasl::ScramSha256 { .. }) => Step::Fail("the configuration has changed".to_owned()),
        }
    }

    /// The password is hashed. Nothing is said when nobody asked for it.
    fn salted(&mut self, salted: &Salted) -> Vec<String> {
        match &mut self.mechanism {
            Mechanism::ScramSha256(scram) => scram
                .prove(salted)
                .map(|proof| chunks(proof.as_bytes()))
                .unwrap_or_default(),
            Mechanism::Plain | Mechanism::External => Vec::new(),
        }
    }
}

/// Whether a mechanism is on the list of `sasl=`; an empty list says nothing.
pub(super) fn is_listed(mechanism: &str, list: &str) -> bool {
    list.is_empty() || list.split(',').any(|m| m.eq_ignore_ascii_case(mechanism))
}

/// A payload as AUTHENTICATE parameters; nothing, or a last piece that is full, is followed by `+`.
fn chunks(payload: &[u8]) -> Vec<String> {
    let encoded = STANDARD.encode(payload);
    let mut chunks: Vec<String> = encoded
        .as_bytes()
        .chunks(CHUNK)
        .map(|chunk| String::from_utf8_lossy(chunk).into_owned())
        .collect();
    if encoded.len().is_multiple_of(CHUNK) {
        chunks.push("+".to_owned());
    }
    chunks
}

/// Our own login.
impl Network {
    fn exchange(&mut self) -> Option<&mut Exchange> {
        match &mut self.upstream {
            Upstream::Down(_) => None,
            Upstream::Registering(registration) => registration.sasl.as_mut(),
            Upstream::Up(link) => link.sasl.as_mut(),
        }
    }

    /// The server goes on with a login: ours, or a client's.
    pub(super) fn on_authenticate(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if let Some(client) = self.authenticating(turn.now.ticks) {
            return self.pass_on(received, Audience::One(client), turn);
        }
        let Some(sasl) = self.settings.network.sasl.clone() else {
            return;
        };
        let piece = received.line.param(0).unwrap_or_default();
        let Some(exchange) = self.exchange() else {
            return;
        };
        match exchange.hear(&sasl, piece) {
            Step::Say(chunks) => authenticate(&chunks, turn),
            Step::Salt(Recipe { salt, iterations }) => {
                if let Sasl::ScramSha256 { password, .. } = sasl {
                    turn.push(Action::Salt {
                        password,
                        salt: salt.into(),
                        iterations,
                    });
                }
            }
            Step::Fail(why) => {
                authenticate(&["*".to_owned()], turn);
                self.own_login_failed(&why, turn);
            }
        }
    }

    /// The password is hashed, as [`Action::Salt`] asked.
    pub fn salted(&mut self, salted: &Salted, turn: &mut Turn) {
        let chunks = self.exchange().map(|exchange| exchange.salted(salted));
        authenticate(&chunks.unwrap_or_default(), turn);
    }

    fn own_login_failed(&mut self, why: &str, turn: &mut Turn) {
        match &mut self.upstream {
            Upstream::Down(_) => {}
            Upstream::Registering(_) => self.login_failed(why, Verdict::Banned, turn),
            Upstream::Up(link) => {
                link.sasl = None;
                let name = &self.settings.network.name;
                self.announce(&format!("{name}: login refused: {why}"), turn);
            }
        }
    }

    /// Services are there (again): whoever is not logged in and should be, logs in.
    pub(super) fn log_in_late(&mut self, turn: &mut Turn) {
        let Some(sasl) = self.settings.network.sasl.clone() else {
            return;
        };
        let Some(link) = self.link_mut() else { return };
        if link.account.is_some() || link.sasl.is_some() || !link.caps.has(Cap::Sasl) {
            return;
        }
        let list = link.values.get(Cap::Sasl).unwrap_or_default();
        let exchange = Exchange::new(&sasl, link.facts.nonce(1));
        if is_listed(exchange.name(), list) {
            authenticate(&[exchange.name().to_owned()], turn);
            link.sasl = Some(exchange);
            let at = turn.now.ticks.plus(REPLY_TIMEOUT);
            self.timers.set(Timer::Login, at);
        }
    }

    pub(super) fn login_timed_out(&mut self, turn: &mut Turn) {
        if self.link().is_some_and(|link| link.sasl.is_some()) {
            self.own_login_failed("the server does not answer", turn);
        }
    }

    /// 902 to 907 on a link that is up: whose login it was learns it.
    fn on_login_ended(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if let Some(client) = self.authenticating(turn.now.ticks) {
            if let Some(link) = self.link_mut() {
                link.authenticating = None;
            }
            return self.pass_on(received, Audience::One(client), turn);
        }
        let Some(exchange) = self.link_mut().and_then(|link| link.sasl.take()) else {
            return;
        };
        match received.line.numeric() {
            Some(903) if !exchange.is_convinced() => {
                self.own_login_failed("the server did not prove that it knows the password", turn);
            }
            Some(903 | 907) => self.certificate_has_served(turn),
            _ => {
                let why = received.line.last().unwrap_or_default();
                self.own_login_failed(&String::from_utf8_lossy(why), turn);
            }
        }
    }

    /// Whether we log in with a certificate that services may not know yet.
    pub(super) fn has_new_certificate(&self) -> bool {
        let sasl = &self.settings.network.sasl;
        self.new_certificate && matches!(sasl, Some(Sasl::External { .. }))
    }

    pub(super) fn set_new_certificate(&mut self, is_new: bool, turn: &mut Turn) {
        if std::mem::replace(&mut self.new_certificate, is_new) != is_new {
            let value = is_new.then(|| Bytes::from_static(b"true"));
            let (fact, name) = (Fact::NewCertificate, Bytes::new());
            self.remember(Write::Fact { fact, name, value }, turn);
        }
    }

    /// A login has worked.
    pub(super) fn certificate_has_served(&mut self, turn: &mut Turn) {
        if self.has_new_certificate() {
            self.set_new_certificate(false, turn);
        }
    }

    fn on_mechanisms(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if let Some(client) = self.authenticating(turn.now.ticks) {
            self.pass_on(received, Audience::One(client), turn);
        }
    }
}

/// Clients' accounts.
impl Network {
    /// The client whose login is under way.
    fn authenticating(&self, now: Ticks) -> Option<ClientId> {
        let applicant = self.link()?.authenticating?;
        (now.since(applicant.since) < REPLY_TIMEOUT).then_some(applicant.client)
    }

    /// A client logs in to the network: line by line, one client at a time.
    fn ask_authenticate(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let now = turn.now.ticks;
        let refusal = match self.link() {
            Some(link) if link.caps.has(Cap::Sasl) => {
                let other = self.authenticating(now).is_some_and(|id| id != asked.from);
                let piece = asked.line.param(0).unwrap_or_default();
                if other || link.sasl.is_some() {
                    Some((904, "Another login is under way"))
                } else if piece.eq_ignore_ascii_case(b"EXTERNAL") {
                    Some((904, "The certificate would be carom's, not yours"))
                } else {
                    (piece.len() > CHUNK).then_some((905, "SASL message too long"))
                }
            }
            _ => Some((462, "You may not reregister")),
        };
        if let Some((number, text)) = refusal {
            let line = self.numeric(number).trailing(text.as_bytes()).build();
            return self.answer(asked, line, turn);
        }
        if let Some(link) = self.link_mut() {
            link.authenticating = Some(Applicant {
                client: asked.from,
                since: now,
            });
        }
        turn.send(Bytes::copy_from_slice(asked.line.body()));
        Answer::Now
    }

    /// Whoever was logging in is gone.
    pub(super) fn forget_applicant(&mut self, client: ClientId, turn: &mut Turn) {
        let Some(link) = self.link_mut() else { return };
        if link
            .authenticating
            .take_if(|a| a.client == client)
            .is_some()
        {
            authenticate(&["*".to_owned()], turn);
        }
        link.applicant.take_if(|a| a.client == client);
    }
}

fn authenticate(chunks: &[String], turn: &mut Turn) {
    for chunk in chunks {
        say(turn, &Command::AUTHENTICATE(chunk.clone()));
    }
}

/// The words of `sasl=` and the like as clients are told them.
pub(super) fn for_clients(cap: Cap, value: &str) -> String {
    let kept = value.split(',').filter(|word| match cap {
        // The certificate would be ours, and the client is registered already.
        Cap::Sasl => !word.eq_ignore_ascii_case("EXTERNAL"),
        Cap::AccountRegistration | Cap::Metadata => *word != "before-connect",
        _ => true,
    });
    kept.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn say(texts: &[&str]) -> Step {
        Step::Say(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn plain_is_rfc_4616() {
        let sasl = Sasl::Plain {
            account: "tim".into(),
            password: Secret::new("tanstaaf".into()),
        };
        let mut exchange = Exchange::new(&sasl, String::new());
        assert_eq!(exchange.hear(&sasl, b"+"), say(&["AHRpbQB0YW5zdGFhZg=="]));
        assert!(matches!(exchange.hear(&sasl, b"eA=="), Step::Fail(_)));
        assert!(matches!(exchange.hear(&sasl, b"%"), Step::Fail(_)));
    }

    #[test]
    fn a_challenge_may_come_in_pieces_but_not_without_end() {
        let sasl = Sasl::External {
            account: String::new(),
        };
        let mut exchange = Exchange::new(&sasl, String::new());
        let piece = [b'A'; CHUNK];
        for _ in 0..MAX_CHALLENGE / CHUNK {
            assert_eq!(exchange.hear(&sasl, &piece), say(&[]));
        }
        assert!(matches!(exchange.hear(&sasl, &piece), Step::Fail(_)));
    }

    #[test]
    fn a_full_piece_says_that_more_follows() {
        assert_eq!(chunks(b""), ["+"]);
        let pieces = chunks(&[b'x'; 300]);
        assert_eq!(pieces.iter().map(String::len).collect::<Vec<_>>(), [400, 1]);
        let pieces = chunks(&[b'x'; 301]);
        assert_eq!(pieces.iter().map(String::len).collect::<Vec<_>>(), [400, 4]);
    }

    #[test]
    fn clients_are_told_what_they_can_use() {
        let sasl = for_clients(Cap::Sasl, "PLAIN,EXTERNAL,SCRAM-SHA-256");
        assert_eq!(sasl, "PLAIN,SCRAM-SHA-256");
        let account = for_clients(Cap::AccountRegistration, "before-connect,email-required");
        assert_eq!(account, "email-required");
    }
}
