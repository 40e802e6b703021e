//! Words that change something: each is one `Change`, or two, which the bouncer makes or refuses, and its outcome in
//! words.

use crate::command::Command;
use crate::config::Pin;
use crate::config::overlay::{Change, Options, Outcome};
use crate::state::orders::Order;

use super::out::Out;
use super::scope::Scope;
use super::{Done, Refused, order_of, trust};

/// Has the bouncer change what the words say.
pub(super) async fn change(scope: &Scope<'_>, command: Command, out: &mut Out) -> Done {
    let shown = shown(&command);
    for (change, done) in changes(scope, command)? {
        let authority = scope.caller.authority();
        let outcome = scope.shared.bouncer.change(authority, change).await?;
        tell(outcome, &done, out).await;
    }
    if let Some(order) = shown {
        // Also where the configuration said so before, and the user had it otherwise.
        _ = order_of(scope.network()?, order).await;
    }
    Ok(())
}

/// That a channel is to be detached is more than an option: it is what the user wants now.
fn shown(command: &Command) -> Option<Order> {
    let Command::ChannelUpdate(channel, options) = command else {
        return None;
    };
    let detached = options.get("detached")?.as_bool()?;
    let channel = channel.clone().into();
    Some(match detached {
        true => Order::Detach(channel),
        false => Order::Attach(channel),
    })
}

async fn tell(outcome: Outcome, done: &str, out: &mut Out) {
    let reconnects = if outcome.reconnects {
        "; it connects anew"
    } else {
        ""
    };
    out.say(format!("{done}{reconnects}")).await;
    for warning in &outcome.warnings {
        out.say(format!("note: {}", warning.without_level())).await;
    }
    if let Some(password) = &outcome.password {
        // It was made just now, and there is no other way to learn it.
        out.say(format!("password: {}", password.reveal())).await;
    }
}

/// What is to be changed, each with what is said when it is done.
fn changes(scope: &Scope<'_>, command: Command) -> Result<Vec<(Change, String)>, Refused> {
    let one = |change, done: String| Ok(vec![(change, done)]);
    match command {
        Command::NetworkCreate(name, options) => {
            let (user, done) = (scope.user()?.name.clone(), format!("network {name}: made"));
            one(
                Change::CreateNetwork {
                    user,
                    name,
                    options,
                },
                done,
            )
        }
        Command::NetworkUpdate(options) => update_network(scope, options),
        Command::SaslSetPlain(account, password) => {
            let options = Options::new()
                .unset("sasl")
                .set("sasl.mechanism", "plain")
                .set("sasl.account", account)
                .set("sasl.password", password.reveal());
            update_network(scope, options)
        }
        Command::SaslReset => update_network(scope, Options::new().unset("sasl")),
        Command::Trust(Some(pin)) => {
            let options = trust::pinned(scope.network()?, pin);
            update_network(scope, options)
        }
        Command::TrustRefused => {
            let network = scope.network()?;
            let none = || format!("{}: no certificate is refused", network.config.name);
            let print = trust::refused(scope)?.and_then(|(_, fault)| fault.certificate);
            let pin = Pin::Certificate(print.ok_or_else(none)?.certificate);
            update_network(scope, trust::pinned(network, pin))
        }
        Command::NetworkDelete => {
            let (user, name) = network(scope)?;
            let done = format!("network {name}: deleted");
            one(Change::DeleteNetwork { user, name }, done)
        }
        Command::Password { old, new } => {
            let user = scope.user()?.name.clone();
            let done = format!("the password of {user} is changed");
            one(Change::SetPassword { user, old, new }, done)
        }
        Command::CertificateAdd(pin) => {
            let shown = "you show no certificate: say its fingerprint";
            let pin = pin.or(scope.caller.certificate).ok_or(shown)?;
            let (user, done) = (
                scope.user()?.name.clone(),
                format!("{} may log in", written(&pin)),
            );
            one(Change::AddCertificate { user, pin }, done)
        }
        Command::CertificateDelete(pin) => {
            let done = format!("{} may not log in any more", written(&pin));
            let user = scope.user()?.name.clone();
            one(Change::DeleteCertificate { user, pin }, done)
        }
        command => channel_changes(scope, command),
    }
}

fn channel_changes(scope: &Scope<'_>, command: Command) -> Result<Vec<(Change, String)>, Refused> {
    let one = |change, done: String| Ok(vec![(change, done)]);
    match command {
        Command::ChannelCreate(name, options) => {
            let ((user, network), done) = (network(scope)?, format!("{name}: joined"));
            one(
                Change::CreateChannel {
                    user,
                    network,
                    name,
                    options,
                },
                done,
            )
        }
        Command::ChannelUpdate(name, options) => {
            let ((user, network), done) = (network(scope)?, format!("{name}: changed"));
            one(
                Change::UpdateChannel {
                    user,
                    network,
                    name,
                    options,
                },
                done,
            )
        }
        Command::ChannelDelete(name) => {
            let ((user, network), done) = (network(scope)?, format!("{name}: left"));
            one(
                Change::DeleteChannel {
                    user,
                    network,
                    name,
                },
                done,
            )
        }
        command => user_changes(scope, command),
    }
}

fn user_changes(scope: &Scope<'_>, command: Command) -> Result<Vec<(Change, String)>, Refused> {
    let mut changes = Vec::new();
    match command {
        Command::UserCreate(name, password, options) => {
            let done = format!("user {name}: made");
            changes.push((
                Change::CreateUser {
                    name,
                    password,
                    options,
                },
                done,
            ));
        }
        Command::UserUpdate(named, password, options) => {
            let name = match named {
                Some(name) => name,
                None => scope.user()?.name.clone(),
            };
            if let Some(new) = password {
                let (user, old) = (name.clone(), None);
                let done = format!("the password of {name} is changed");
                changes.push((Change::SetPassword { user, old, new }, done));
            }
            if !options.is_empty() {
                let done = format!("user {name}: changed");
                changes.push((Change::UpdateUser { name, options }, done));
            }
        }
        Command::UserDelete { user: name, purge } => {
            let done = match purge {
                true => format!("user {name}: deleted for ever"),
                false => format!("user {name}: deleted; \"user restore {name}\" within 7 days"),
            };
            changes.push((Change::DeleteUser { name, purge }, done));
        }
        Command::UserRestore(name) => {
            let done = format!("user {name}: restored");
            changes.push((Change::RestoreUser { name }, done));
        }
        // Nothing else changes anything.
        _ => return Err(Refused("that cannot be changed".to_owned())),
    }
    Ok(changes)
}

/// Whose network, and its name.
fn network(scope: &Scope<'_>) -> Result<(String, String), Refused> {
    let (user, network) = (scope.user()?, scope.network()?);
    Ok((user.name.clone(), network.config.name.clone()))
}

fn update_network(scope: &Scope<'_>, options: Options) -> Result<Vec<(Change, String)>, Refused> {
    let (user, name) = network(scope)?;
    let done = format!("network {name}: changed");
    Ok(vec![(
        Change::UpdateNetwork {
            user,
            name,
            options,
        },
        done,
    )])
}

/// As the file has it.
pub(super) fn written(pin: &Pin) -> String {
    let hex = |bytes: &[u8; 32]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    match pin {
        Pin::Certificate(print) => format!("sha256:{}", hex(print)),
        Pin::Key(print) => format!("spki-sha256:{}", hex(print)),
    }
}
