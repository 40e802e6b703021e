//! The certificate that the servers of a network are shown: made and put among the network's options, and told by its
//! fingerprints. How one is made is `net::certfp`'s.

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::command::KeyType;
use crate::config::overlay::{Authority, Change, Options, Refusal};
use crate::net::certfp::{self, Prints};

use super::out::{Out, fields};
use super::scope::Scope;
use super::{Done, Refused};

/// Keys are made one at a time: one of RSA keeps a processor busy for a second or more.
static MAKING: Semaphore = Semaphore::const_new(1);

const KEY: &str = "client_certificate";

/// Makes one, in the place of any other.
pub(super) async fn generate(scope: &Scope<'_>, key_type: KeyType, out: &mut Out) -> Done {
    let (user, network) = (scope.user()?.name.clone(), scope.network()?);
    let name = network.config.name.clone();
    let update = |options| Change::UpdateNetwork {
        user: user.clone(),
        name: name.clone(),
        options,
    };
    // Asked before anything is written: may he, and is the network one that can be changed here?
    let bouncer = &scope.shared.bouncer;
    let asked = bouncer
        .change(scope.caller.authority(), update(Options::new()))
        .await;
    asked.map_err(about_key)?;
    let folder = scope.directory.config.storage.folder.join("certificates");
    // With the number, which stays when the network is renamed and is never another one's.
    let path = folder
        .join(&user)
        .join(format!("{name}-{}.pem", network.id));
    let path = std::path::absolute(path)?;
    let text = path.to_str().ok_or("the data folder's name is not UTF-8")?;
    let options = Options::new().set(KEY, text);
    let made = {
        let _making = MAKING.acquire().await?;
        let (path, user) = (path.clone(), user.clone());
        spawn_blocking(move || certfp::make(&path, &user, key_type)).await??
    };
    // Users name no files; this one is not named by the user.
    let outcome = bouncer
        .change(Authority::control(), update(options))
        .await?;
    let then = match outcome.reconnects {
        true => "it connects anew",
        false => "servers are shown it from the next connection on",
    };
    out.say(format!("{name}: certificate made; {then}")).await;
    tell(&name, &made, out).await;
    Ok(())
}

fn about_key(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Declared {
            thing, name, file, ..
        } => Refusal::Declared {
            thing,
            name,
            file,
            key: format!("user.network.{KEY}"),
        },
        other => other,
    }
}

/// Tells the one there is.
pub(super) async fn fingerprint(scope: &Scope<'_>, out: &mut Out) -> Done {
    let config = &scope.network()?.config;
    let Some(path) = config.client_certificate.clone() else {
        let none = "no certificate; \"certfp generate\" makes one";
        return Err(Refused(format!("{}: {none}", config.name)));
    };
    let prints = spawn_blocking(move || Prints::read(&path)).await??;
    tell(&config.name, &prints, out).await;
    Ok(())
}

async fn tell(network: &str, prints: &Prints, out: &mut Out) {
    for (kind, print) in [("sha256", &prints.sha256), ("sha512", &prints.sha512)] {
        let values = fields([
            ("network", network.into()),
            ("kind", kind.into()),
            ("fingerprint", print.clone().into()),
        ]);
        out.row(format!("{network}: {kind} {print}"), values).await;
    }
}
