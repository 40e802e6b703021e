//! Carries out what is said to carom: by `/msg *carom`, `CAROM` or the control socket. Words and their parsing are
//! `command`'s; here is a file for each subject, and `scope` says whom and what a request is about.

mod certfp;
mod changes;
mod clients;
mod history;
mod networks;
mod out;
mod scope;
mod server;
mod text;
mod trust;
mod users;
mod words;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::command::{self, Command, ParseError, Request, Role, help};
use crate::config::Pin;
use crate::config::overlay::Authority;
use crate::control::{Answer, Piece};
use crate::directory::User;
use crate::mailbox::{NetworkHandle, ToNetwork};
use crate::state::orders::{Order, Outcome};

use super::{Shared, explain};
use out::Out;
use scope::Scope;

/// Who says something.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The user he is; `None`: whoever may reach the control socket.
    pub user: Option<Arc<User>>,
    /// The network he is attached to.
    pub network: Option<String>,
    /// Whether he administers carom.
    pub admin: bool,
    /// The certificate he shows.
    pub certificate: Option<Pin>,
}

impl Caller {
    /// Whoever may reach the control socket.
    pub fn control() -> Self {
        Self {
            admin: true,
            ..Self::default()
        }
    }

    fn role(&self) -> Role {
        match (&self.user, self.admin) {
            (None, true) => Role::Control,
            (Some(_), true) => Role::Admin,
            (_, false) => Role::User,
        }
    }

    /// For the bouncer.
    pub(in crate::downstream) fn authority(&self) -> Authority {
        Authority {
            user: self.user.as_ref().map(|user| user.name.clone()),
            admin: self.admin,
        }
    }
}

/// Why something is not done, for people.
#[derive(Debug)]
struct Refused(String);

impl<T: std::fmt::Display> From<T> for Refused {
    fn from(reason: T) -> Self {
        Self(reason.to_string())
    }
}

type Done = Result<(), Refused>;

/// Does what the words say, and tells what comes of it piece by piece. Returns the exit code of `carom ctl`.
pub async fn run(
    words: &[String],
    caller: &Caller,
    shared: &Shared,
    pieces: mpsc::Sender<Piece>,
) -> u8 {
    let request = command::parse(words);
    answer(request, caller, shared, Out::new(pieces, false)).await
}

/// The same of a line as a client says it.
async fn run_line(line: &str, caller: &Caller, shared: &Shared, pieces: mpsc::Sender<Piece>) -> u8 {
    let request = command::parse_line(line);
    answer(request, caller, shared, Out::new(pieces, true)).await
}

/// Every command is answered by at least one line.
async fn answer(
    request: Result<Request, ParseError>,
    caller: &Caller,
    shared: &Shared,
    mut out: Out,
) -> u8 {
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            out.say(error).await;
            return Answer::NOT_UNDERSTOOD;
        }
    };
    match carry_out(request, caller, shared, &mut out).await {
        Ok(()) => {
            if out.is_empty() {
                out.say("done").await;
            }
            Answer::DONE
        }
        Err(Refused(reason)) => {
            out.say(reason).await;
            Answer::REFUSED
        }
    }
}

async fn carry_out(request: Request, caller: &Caller, shared: &Shared, out: &mut Out) -> Done {
    let scope = Scope::of(&request, caller, shared)?;
    match request.command {
        Command::Help(words) => help(words.as_deref(), &scope, out).await,
        Command::Told(text) => {
            out.say(text).await;
            Ok(())
        }
        Command::UserRun(user, inner) => {
            let user = scope.named_user(&user)?;
            // For somebody else, and still by an administrator: what he chooses he answers for.
            let caller = Caller {
                admin: caller.admin,
                user: Some(user),
                ..Caller::default()
            };
            Box::pin(carry_out(*inner, &caller, shared, out)).await
        }
        Command::Status => {
            networks::status(&scope, false, out).await?;
            clients::status(&scope, out).await
        }
        Command::NetworkStatus { .. } => networks::status(&scope, true, out).await,
        Command::NetworkExplain => networks::explain(&scope, out).await,
        Command::NetworkConnect => obey(&scope, Order::Connect, out).await,
        Command::NetworkDisconnect => obey(&scope, Order::Disconnect, out).await,
        Command::NetworkJump => obey(&scope, Order::Jump, out).await,
        Command::NetworkQuote(line) => {
            let line = line.reveal().as_bytes().to_vec();
            obey(&scope, Order::Quote(line.into()), out).await
        }
        Command::ChannelDetach(name) => obey(&scope, Order::Detach(name.into()), out).await,
        Command::ChannelAttach(name) => obey(&scope, Order::Attach(name.into()), out).await,
        Command::ChannelStatus(name) => networks::channels(&scope, name, out).await,
        Command::ClientStatus => clients::status(&scope, out).await,
        Command::ClientDisconnect(id) => clients::dismiss(&scope, id, out).await,
        Command::SaslStatus => networks::sasl(&scope, out).await,
        command => about_certificates(&scope, command, out).await,
    }
}

async fn about_certificates(scope: &Scope<'_>, command: Command, out: &mut Out) -> Done {
    match command {
        Command::CertificateStatus => users::certificates(scope, out).await,
        Command::CertfpGenerate(key_type) => certfp::generate(scope, key_type, out).await,
        Command::SaslSetExternal => certfp::use_it(scope, out).await,
        Command::CertfpFingerprint => certfp::fingerprint(scope, out).await,
        Command::Trust(None) => trust::show(scope, out).await,
        command => about_history(scope, command, out).await,
    }
}

async fn about_history(scope: &Scope<'_>, command: Command, out: &mut Out) -> Done {
    match command {
        Command::HistorySearch(find) => history::search(scope, find, out).await,
        Command::HistoryReplay(target, back) => history::replay(scope, target, back, out).await,
        Command::HistoryReset { target, quiet } => {
            let order = Order::ResetHistory(target.map(Into::into));
            if quiet {
                out.forget();
                return order_of(scope.network()?, order).await.map(|_| ());
            }
            obey(scope, order, out).await
        }
        Command::HistorySize => history::size(scope, out).await,
        Command::HistoryExport(export) => history::export(scope, export, out).await,
        command => about_server(scope, command, out).await,
    }
}

async fn about_server(scope: &Scope<'_>, command: Command, out: &mut Out) -> Done {
    match command {
        Command::UserStatus(user) => users::status(scope, user, out).await,
        Command::ServerStatus => server::status(scope, out).await,
        Command::ServerNotice(text) => server::notice(scope, &text, out).await,
        Command::ServerReload { dry } => server::reload(scope, dry, out).await,
        Command::ServerDebug(on) => server::debug(scope, on, out).await,
        Command::ServerDump { secrets } => server::dump(scope, secrets, out).await,
        command => changes::change(scope, command, out).await,
    }
}

async fn help(words: Option<&str>, scope: &Scope<'_>, out: &mut Out) -> Done {
    let role = scope.caller.role();
    let lines = match words {
        Some(words) => help::about(words, role)?,
        None => help::list(role),
    };
    out.say_all(lines).await;
    let contact = &scope.shared.admin_contact;
    if words.is_none() && !contact.is_empty() {
        out.say(format!("your administrator: {contact}")).await;
    }
    Ok(())
}

/// Tells the network that is meant what to do.
async fn obey(scope: &Scope<'_>, order: Order, out: &mut Out) -> Done {
    match order_of(scope.network()?, order).await? {
        Outcome::Done(text) => out.say(text).await,
        Outcome::Refused(text) => return Err(Refused(text)),
        // Only questions are answered so.
        Outcome::Status(_) | Outcome::Channels(_) | Outcome::Target(_) => {}
    }
    Ok(())
}

/// Asks a network something.
async fn order_of(network: &NetworkHandle, order: Order) -> Result<Outcome, Refused> {
    let not_running = || {
        let name = &network.config.name;
        Refused(format!("{name}: not running; the log says why"))
    };
    let running = network.running().ok_or_else(not_running)?;
    let (answer, answered) = oneshot::channel();
    let order = ToNetwork::Order(order, answer);
    if running.mailbox.send(order).await.is_err() {
        return Err(not_running());
    }
    answered.await.map_err(|_| not_running())
}
