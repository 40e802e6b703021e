//! The certificate that the servers of a network are shown: made and put among the network's options, logged in with, and
//! told by its fingerprints. How one is made is `net::certfp`'s.

use std::path::PathBuf;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::command::KeyType;
use crate::config::Sasl;
use crate::config::overlay::{Authority, Change, Options, Outcome, Refusal};
use crate::net::certfp::{self, Prints};
use crate::state::orders::Order;

use super::out::{Out, fields};
use super::scope::Scope;
use super::{Done, Refused, order_of};

/// Keys are made one at a time: one of RSA keeps a processor busy for a second or more.
static MAKING: Semaphore = Semaphore::const_new(1);

const KEY: &str = "client_certificate";
const MECHANISM: &str = "sasl.mechanism";
const EXTERNAL: &str = "external";

/// Makes one, in the place of any other, and has it logged in with, unless there is a password for that.
pub(super) async fn generate(scope: &Scope<'_>, key_type: KeyType, out: &mut Out) -> Done {
    let (user, network) = (scope.user()?.name.clone(), scope.network()?);
    let name = network.config.name.clone();
    // Asked before anything is written: may he, and is the network one that can be changed here?
    may(scope, KEY).await?;
    let folder = certfp::folder(&scope.directory.config.storage.folder);
    let path = certfp::file(&folder, &user, &name, network.id);
    let path = std::path::absolute(path)?;
    let text = path.to_str().ok_or("the data folder's name is not UTF-8")?;
    let mut options = Options::new().set(KEY, text);
    let made = {
        let _making = MAKING.acquire().await?;
        let (path, user) = (path.clone(), user.clone());
        spawn_blocking(move || certfp::make(&path, &user, key_type)).await??
    };
    let account = match &network.config.sasl {
        Some(Sasl::Plain { account, .. } | Sasl::ScramSha256 { account, .. }) => Some(account),
        Some(Sasl::External { .. }) => None,
        None => {
            options = options.set(MECHANISM, EXTERNAL);
            None
        }
    };
    if account.is_none() {
        order_of(network, Order::NewCertificate).await?;
    }
    // Users name no files; this one is not named by the user.
    let outcome = update(scope, &Authority::control(), options).await?;
    let then = match outcome.reconnects {
        true => "it connects anew",
        false => "servers are shown it from the next connection on",
    };
    out.say(format!("{name}: certificate made; {then}")).await;
    tell(&name, &made, out).await;
    out.say(how_to_register(&name, &made)).await;
    out.say(match account {
        Some(account) => format!(
            "{name}: it goes on logging in as {account} with the password; \"sasl set-external\" takes the certificate instead"
        ),
        None => format!("{name}: from then on it logs in by it; \"sasl reset\" ends that"),
    })
    .await;
    Ok(())
}

/// What the user has to do so that the certificate is of use. Some services want the one fingerprint, some the other.
fn how_to_register(network: &str, prints: &Prints) -> String {
    let print = &prints.sha256;
    format!(
        "{network}: logged in to services there, tell them: /msg NickServ CERT ADD {print} (or the sha512 one, where they ask for that)"
    )
}

/// Has the one there is logged in with.
pub(super) async fn use_it(scope: &Scope<'_>, out: &mut Out) -> Done {
    let network = scope.network()?;
    let name = &network.config.name;
    may(scope, "sasl").await?;
    let path = certificate(scope)?;
    let prints = spawn_blocking(move || Prints::read(&path)).await??;
    order_of(network, Order::NewCertificate).await?;
    let options = Options::new().unset("sasl").set(MECHANISM, EXTERNAL);
    let outcome = update(scope, &scope.caller.authority(), options).await?;
    let then = match outcome.reconnects {
        true => "; it connects anew",
        false => "",
    };
    out.say(format!("{name}: logs in by its certificate{then}"))
        .await;
    out.say(how_to_register(name, &prints)).await;
    Ok(())
}

async fn update(scope: &Scope<'_>, by: &Authority, options: Options) -> Result<Outcome, Refusal> {
    let refused = |refused: Refused| Refusal::NotAllowed(refused.0);
    let change = Change::UpdateNetwork {
        user: scope.user().map_err(refused)?.name.clone(),
        name: scope.network().map_err(refused)?.config.name.clone(),
        options,
    };
    scope.shared.bouncer.change(by.clone(), change).await
}

/// Whether the caller may change this key of the network, and whether it is changed here.
async fn may(scope: &Scope<'_>, key: &str) -> Done {
    let asked = update(scope, &scope.caller.authority(), Options::new()).await;
    asked
        .map(drop)
        .map_err(|refusal| about_key(refusal, key).into())
}

/// Where the network's certificate is.
fn certificate(scope: &Scope<'_>) -> Result<PathBuf, Refused> {
    let config = &scope.network()?.config;
    let none = "no certificate; \"certfp generate\" makes one";
    let path = config.client_certificate.clone();
    path.ok_or_else(|| Refused(format!("{}: {none}", config.name)))
}

fn about_key(refusal: Refusal, key: &str) -> Refusal {
    match refusal {
        Refusal::Declared {
            thing, name, file, ..
        } => Refusal::Declared {
            thing,
            name,
            file,
            key: format!("user.network.{key}"),
        },
        other => other,
    }
}

/// Tells the one there is.
pub(super) async fn fingerprint(scope: &Scope<'_>, out: &mut Out) -> Done {
    let path = certificate(scope)?;
    let prints = spawn_blocking(move || Prints::read(&path)).await??;
    tell(&scope.network()?.config.name, &prints, out).await;
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
