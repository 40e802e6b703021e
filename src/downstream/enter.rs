//! From an accepted connection to a client that has logged in: TLS, lines before login, the password,
//! and which network is meant.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::auth::{self, Outcome, TooManyFailures};
use crate::config::overlay::{Authority, Change};
use crate::config::{Manner, Pin, Scheme};
use crate::directory::User;
use crate::mailbox::{NetworkHandle, Running};
use crate::net::upgrade::{self, Refusal, UpgradeError, Upgraded};
use crate::net::{Fingerprint, LineReader, Peer, ReadHalf, Stream, WriteHalf};
use crate::state::View;
use crate::state::login::{Login, Named, Step};
use crate::state::login_name::{Claim, LoginName};
use crate::wire::framing::Limits;
use crate::wire::{Cap, CapSet, Framed, Line, LineBuilder};

use super::labelled::write_own;
use super::{Entered, Shared};

/// So long may the last words to somebody take who is turned away.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// So many lines that cannot be read are borne with.
const MAX_REFUSED: u32 = 3;

/// A connection and what was read from it already.
pub(super) struct Connection {
    pub(super) reader: LineReader<ReadHalf>,
    pub(super) writer: WriteHalf,
    pub(super) lines: VecDeque<Framed>,
}

impl Connection {
    fn new(stream: Stream) -> Self {
        let (read, writer) = stream.split();
        let reader = LineReader::new(read, Limits::UNREGISTERED);
        Self {
            reader,
            writer,
            lines: VecDeque::new(),
        }
    }

    /// Lines that are to be read once more, before all others.
    pub(super) fn put_back(&mut self, lines: Vec<bytes::Bytes>) {
        let lines = lines.into_iter().rev();
        lines.for_each(|line| self.lines.push_front(Framed::Line(line)));
    }

    /// The next line; `None`: the client is gone.
    async fn line(&mut self) -> Option<Framed> {
        if self.lines.is_empty() {
            let mut lines = Vec::new();
            self.reader.read(&mut lines).await.ok()?;
            self.lines.extend(lines);
        }
        self.lines.pop_front()
    }

    async fn say(&mut self, text: &[u8]) -> Option<()> {
        self.writer.write_all(text).await.ok()?;
        self.writer.flush().await.ok()
    }

    pub(super) async fn close(&mut self, reason: &str, caps: CapSet) {
        let why = format!("Closing link: {reason}");
        let line = LineBuilder::new(b"ERROR").trailing(why.as_bytes()).build();
        let mut said = Vec::new();
        write_own(&line, View::of(caps), crate::clock().time, &mut said);
        _ = timeout(LAST_WORDS, async {
            self.say(&said).await;
            _ = self.writer.shutdown().await;
        })
        .await;
    }
}

/// Turns somebody away before anything was read. In TLS nobody would understand a word.
pub async fn refuse(mut stream: Stream, manner: Manner, reason: &str) {
    match (manner.scheme, manner.web) {
        _ if matches!(stream, Stream::Web(_)) => {
            Connection::new(stream)
                .close(reason, CapSet::default())
                .await;
        }
        (Scheme::Tls, _) => {}
        (_, true) => upgrade::send_off(&mut stream, &Refusal::NotNow(reason.into())).await,
        (_, false) => {
            Connection::new(stream)
                .close(reason, CapSet::default())
                .await;
        }
    }
}

/// Makes the handshakes that come before lines of IRC; they may have been made before.
pub async fn handshakes(
    stream: Stream,
    peer: &Peer,
    manner: Manner,
    shared: &Shared,
) -> Option<Upgraded> {
    let stream = match (&shared.acceptor, manner.scheme) {
        (Some(acceptor), Scheme::Tls) => match acceptor.accept(stream, manner.web).await {
            Ok(stream) => stream,
            Err(error) => {
                debug!(%peer, %error, "no TLS");
                shared.counters.refused.add("tls");
                return None;
            }
        },
        _ => stream,
    };
    if !manner.web || matches!(stream, Stream::Web(_)) {
        let forwarded = Vec::new();
        return Some(Upgraded { stream, forwarded });
    }
    // On the heap, for the sake of all that are no web clients.
    match Box::pin(upgrade::accept(stream, &shared.origins)).await {
        Ok(upgraded) => Some(upgraded),
        Err(error) => {
            if let UpgradeError::Refused(refusal @ Refusal::Origin(_)) = &error
                && let Some(untold) = shared.complaints.may_tell()
            {
                warn!("{peer}: {refusal}{untold}");
            }
            debug!(%peer, %error, "no WebSocket");
            shared.counters.refused.add("websocket");
            None
        }
    }
}

/// Everything up to a login. `must_go` says when and why there is no more time for it. `None`: the client is gone, and
/// was told why if that was possible.
pub(super) async fn enter(
    stream: Stream,
    peer: Peer,
    manner: Manner,
    shared: &Shared,
    must_go: impl Future<Output = &'static str>,
) -> Option<(Connection, Entered)> {
    let mut must_go = std::pin::pin!(must_go);
    let stream = tokio::select! {
        upgraded = handshakes(stream, &peer, manner, shared) => upgraded?.stream,
        _ = &mut must_go => return None,
    };
    let certificate = stream.peer_fingerprint();
    let mut connection = Connection::new(stream);
    let mut visit = Visit {
        shared,
        peer,
        login: Login::new(&shared.server).with_certificate(certificate.is_some()),
        certificate,
        found: None,
    };
    let entered = tokio::select! {
        entered = visit.run(&mut connection) => entered,
        reason = &mut must_go => Err(Some(reason.to_owned())),
    };
    match entered {
        Ok(entered) => Some((connection, entered)),
        Err(reason) => {
            if let Some(reason) = reason {
                connection.close(&reason, visit.login.caps).await;
            }
            None
        }
    }
}

/// A client on its way in.
struct Visit<'a> {
    shared: &'a Shared,
    peer: Peer,
    login: Login,
    /// What it showed in its TLS handshake; that it holds the key was checked there.
    certificate: Option<Fingerprint>,
    /// Who proved to be whom.
    found: Option<(Arc<User>, LoginName)>,
}

/// Why somebody is turned away; `None`: he went himself.
type Turned = Option<String>;

impl Visit<'_> {
    async fn run(&mut self, connection: &mut Connection) -> Result<Entered, Turned> {
        let mut refused = 0;
        loop {
            // What answers a line has the form of before it.
            let view = View::of(self.login.caps);
            let steps = match connection.line().await.ok_or(None)? {
                Framed::Line(raw) => match Line::parse(&raw) {
                    Ok(line) => Some(self.login.receive(&line)),
                    Err(_) => None,
                },
                Framed::TooLong => Some(self.login.too_long()),
                Framed::Refused => None,
            };
            let Some(steps) = steps else {
                refused += 1;
                if refused >= MAX_REFUSED {
                    return Err(Some("Your lines cannot be read".into()));
                }
                continue;
            };
            if self.work(steps, view, connection).await? {
                return self.attachable().await;
            }
        }
    }

    /// Does what a line led to, checks included. True: the client has logged in.
    async fn work(
        &mut self,
        steps: Vec<Step>,
        view: View,
        connection: &mut Connection,
    ) -> Result<bool, Turned> {
        let mut steps = VecDeque::from(steps);
        let mut said = Vec::new();
        let mut done = false;
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Say(line) => write_own(&line, view, crate::clock().time, &mut said),
                Step::Check(claims) => {
                    let user = self.check(&claims).await?;
                    steps.extend(self.login.checked(user));
                }
                Step::Certificate(named) => {
                    let user = self.certified(named).await?;
                    steps.extend(self.login.checked(user));
                }
                Step::Bind(netid) => {
                    if !self.bind(&netid) {
                        steps.push_front(self.login.unbound(&netid));
                    }
                }
                Step::Done => done = true,
                Step::Close(reason) => {
                    connection.say(&said).await.ok_or(None)?;
                    return Err(Some(reason));
                }
            }
        }
        connection.say(&said).await.ok_or(None)?;
        Ok(done)
    }

    /// Which of the user's networks the connection is for. False: none has that number.
    fn bind(&mut self, netid: &str) -> bool {
        let Some((user, name)) = &mut self.found else {
            return false;
        };
        let id = netid.parse::<u64>().ok();
        let bound = user.networks.iter().find(|network| Some(network.id) == id);
        if let Some(network) = bound {
            name.network = Some(network.config.name.clone());
        }
        bound.is_some()
    }

    /// The first claim that can be meant is checked, and costs the same when there is none.
    async fn check(&mut self, claims: &[Claim]) -> Result<Option<String>, Turned> {
        let directory = self.shared.directory.borrow().clone();
        let meant = claims.iter().find_map(|claim| {
            let user = directory.user(&claim.name.user)?;
            let network = claim.name.network.as_deref();
            let exists = network.is_some_and(|network| user.network(network).is_some());
            (!claim.needs_network || exists).then(|| (claim, Arc::clone(user)))
        });
        let claim = meant
            .as_ref()
            .map(|(claim, _)| *claim)
            .or_else(|| claims.last());
        let password = claim
            .map(|claim| claim.password.reveal().as_bytes())
            .unwrap_or_default();
        let hash = meant.as_ref().map(|(_, user)| user.hash.as_str());
        let outcome = self.shared.auth.check(self.peer.ip(), password, hash).await;
        match (outcome, meant) {
            (Outcome::Right, Some((claim, user))) => {
                self.renew(&user, claim);
                let name = user.name.clone();
                self.found = Some((user, claim.name.clone()));
                Ok(Some(name))
            }
            (Outcome::NotNow { retry_in }, _) => {
                self.shared.counters.refused.add("too_many_failures");
                Err(Some(not_now(retry_in)))
            }
            _ => {
                info!(peer = %self.peer, "login refused");
                self.shared.counters.refused.add("password");
                Ok(None)
            }
        }
    }

    /// Whose certificate the client shows. One that nobody knows counts like a wrong password.
    async fn certified(&mut self, named: Named) -> Result<Option<String>, Turned> {
        let attempt = match self.shared.auth.gate.attempt(self.peer.ip()).await {
            Ok(attempt) => attempt,
            Err(TooManyFailures { retry_in }) => return Err(Some(not_now(retry_in))),
        };
        let user = self.owner(named.name.as_ref());
        let found = user.and_then(|user| {
            let name = named.of_user(&user.name)?;
            Some((user, name))
        });
        if found.is_none() {
            attempt.failed(crate::clock().ticks);
            info!(peer = %self.peer, "login by certificate refused");
        }
        let user = found.as_ref().map(|(user, _)| user.name.clone());
        self.found = found;
        Ok(user)
    }

    /// The user the certificate belongs to: the one that is named, or the only one.
    fn owner(&self, name: Option<&LoginName>) -> Option<Arc<User>> {
        let shown = self.certificate?;
        let directory = self.shared.directory.borrow().clone();
        let mut owners = directory.users().filter(|user| {
            let meant = name.is_none_or(|name| name.user == user.name);
            meant && user.certificates.iter().any(|pin| shown.matches(pin))
        });
        let owner = owners.next()?;
        owners.next().is_none().then(|| Arc::clone(owner))
    }

    /// A hash of another bouncer's has served: one that the database holds is replaced, for one of the file it is told
    /// what to put there.
    fn renew(&self, user: &Arc<User>, claim: &Claim) {
        if auth::is_current(&user.hash) {
            return;
        }
        let Some(line) = user.hash_line else {
            return self.replace(user, claim);
        };
        let (hasher, password) = (self.shared.auth.hasher.clone(), claim.password.clone());
        let name = user.name.clone();
        tokio::spawn(async move {
            if let Some(hash) = hasher.hash(password.reveal().as_bytes()).await {
                warn!(
                    user = name,
                    "the password's hash is of an older kind; put in line {line}: password = \"{hash}\""
                );
            }
        });
    }

    fn replace(&self, user: &Arc<User>, claim: &Claim) {
        let change = Change::SetPassword {
            user: user.name.clone(),
            old: None,
            new: claim.password.clone(),
        };
        let bouncer = self.shared.bouncer.clone();
        // Told in the log; until it works, the old one serves.
        tokio::spawn(async move { _ = bouncer.change(Authority::control(), change).await });
    }

    /// Which network is meant, and whether one more client may attach to it.
    async fn attachable(&mut self) -> Result<Entered, Turned> {
        let (user, name) = self.found.take().ok_or(None)?;
        let counted = user
            .count_client(self.shared.limits.clients_per_user)
            .ok_or_else(|| Some("You have too many clients attached".to_owned()))?;
        let (network, running) = self.network(&user, name.network.as_deref()).await?;
        let login = std::mem::replace(&mut self.login, Login::new(""));
        Ok(Entered {
            user,
            network,
            running,
            client: name.client,
            login,
            counted,
            certificate: self
                .certificate
                .map(|shown| Pin::Certificate(shown.certificate)),
        })
    }

    async fn network(
        &self,
        user: &Arc<User>,
        named: Option<&str>,
    ) -> Result<(NetworkHandle, Running), Turned> {
        let network = match (named, user.networks.as_slice()) {
            (Some(name), _) => {
                let network = user.network(name);
                Some(network.ok_or_else(|| Some(no_such_network(user, name)))?)
            }
            // Who knows of several networks and names none means none.
            (None, [only]) if !self.login.caps.has(Cap::BouncerNetworks) => Some(only),
            (None, _) => None,
        };
        let stopped = || Some("The network is not running; the log says why".to_owned());
        match network {
            Some(network) => {
                let running = network.running().ok_or_else(stopped)?;
                Ok((network.clone(), running))
            }
            None => {
                let running = (self.shared.lobbies)(Arc::clone(user))
                    .await
                    .ok_or_else(stopped)?;
                Ok((user.lobby.clone(), running))
            }
        }
    }
}

fn not_now(retry_in: Duration) -> String {
    let seconds = retry_in.as_secs().max(1);
    format!("Too many failed logins, try again in {seconds} s")
}

/// Said after the password was right: it tells nobody else anything.
fn no_such_network(user: &User, name: &str) -> String {
    let names: Vec<&str> = user
        .networks
        .iter()
        .map(|n| n.config.name.as_str())
        .collect();
    match names.is_empty() {
        true => format!("You have no network \"{name}\", and no other"),
        false => format!(
            "You have no network \"{name}\"; there is {}",
            names.join(", ")
        ),
    }
}
