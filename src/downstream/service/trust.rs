//! The certificate of a server that was not believed: which one it was and why. To believe it is a change like others
//! (`changes`), for which the options are made here.

use serde_json::json;

use crate::config::Pin;
use crate::config::overlay::Options;
use crate::mailbox::NetworkHandle;
use crate::net::{Attempt, Fault, FaultKind, Outcome};

use super::out::{Out, fields};
use super::scope::Scope;
use super::{Done, Refused, networks, text};

/// The last certificate that was refused since the network was connected.
pub(super) fn refused(scope: &Scope<'_>) -> Result<Option<(Attempt, Fault)>, Refused> {
    let (user, network) = (scope.user()?, scope.network()?);
    let known = networks::known(scope, user, network);
    let since = known.attempts.into_iter().rev();
    let mut since = since.take_while(|attempt| attempt.outcome != Outcome::Won);
    Ok(since.find_map(|attempt| match &attempt.outcome {
        Outcome::Failed(fault) if fault.kind == FaultKind::Certificate => {
            let fault = fault.clone();
            Some((attempt, fault))
        }
        _ => None,
    }))
}

/// Tells of it.
pub(super) async fn show(scope: &Scope<'_>, out: &mut Out) -> Done {
    let name = &scope.network()?.config.name;
    let refused = refused(scope)?;
    let Some((attempt, fault)) = refused else {
        out.say(format!("{name}: no certificate is refused")).await;
        return Ok(());
    };
    let print = fault.certificate.map(|print| print.to_string());
    let values = fields([
        ("network", name.clone().into()),
        ("server", attempt.server.clone().into()),
        ("time", text::exact(attempt.at).into()),
        ("reason", fault.text.clone().into()),
        ("fingerprint", json!(print)),
    ]);
    let at = text::time(attempt.at);
    out.row(format!("{name}: {at} UTC {attempt}"), values).await;
    if let Some(print) = print {
        let word = format!("trust -network {name} {print}");
        out.say(format!("{name}: \"{word}\" takes it from now on"))
            .await;
    }
    Ok(())
}

/// What has a network take this certificate, beside those it takes already.
pub(super) fn pinned(network: &NetworkHandle, pin: Pin) -> Options {
    let mut pins = network.config.trust.pins.clone();
    if !pins.contains(&pin) {
        pins.push(pin);
    }
    let pins: Vec<String> = pins.iter().map(ToString::to_string).collect();
    Options::new()
        .set("tls.verify", "pin")
        .set("tls.pins", pins)
}
