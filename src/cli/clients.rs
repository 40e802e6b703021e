//! What to type into WeeChat, irssi, HexChat and Halloy so that they attach: the end of `carom init`. Whether the client has to be
//! told which certificate to trust is decided here; `contrib/clients` has the same settings with explanations.

use std::path::Path;

use crate::bouncer;
use crate::config::{Config, ListenHost, Scheme};
use crate::net::{Acceptor, Fingerprint};

/// Who attaches to what.
pub(super) struct Account<'a> {
    pub(super) user: &'a str,
    pub(super) network: &'a str,
    pub(super) nick: &'a str,
    /// The password, or what stands for it.
    pub(super) password: &'a str,
}

/// How a client finds out that it talks to us.
enum Trust {
    /// Not at all: clear text.
    Clear,
    /// By an authority that its system trusts.
    Authority,
    /// By the fingerprint of the certificate that carom makes. `None`: it will be made where we cannot look.
    Own(Option<Fingerprint>),
}

/// Where the daemon comes from, when it is not started by whoever asks: its data folder is not ours.
const OF_THE_SYSTEM: &str = super::SYSTEM_FILE;

/// All of the settings, for the first listener of the file at `path` that is not for web clients.
pub(super) fn settings(path: &Path, config: &Config, account: &Account<'_>) -> String {
    let mut listens = config.server.listen.iter();
    let listen = listens.find(|listen| !listen.manner.web);
    let tls = listen.is_none_or(|listen| listen.manner.scheme == Scheme::Tls);
    let own = (config.server.name.clone(), 6697);
    let (host, port) = match listen.map(|listen| &listen.host) {
        Some(ListenHost::AnyIpv6 { port, .. } | ListenHost::AnyIpv4 { port }) => (own.0, *port),
        Some(ListenHost::Address { ip, port, .. }) => (ip.to_string(), *port),
        Some(ListenHost::Name { name, port }) => (name.clone(), *port),
        Some(ListenHost::Unix(_) | ListenHost::Systemd(_)) | None => own,
    };
    let trust = match (tls, config.tls.made) {
        (false, _) => Trust::Clear,
        (true, false) => Trust::Authority,
        (true, true) => Trust::Own(certificate(path, config)),
    };
    let certificate = config.tls.certificate.display().to_string();
    format!(
        "{word}Attach with a name of its own for each device behind the @.

{weechat}
{irssi}
{hexchat}
{halloy}
Any other client, as server password: {user}/{network}@device:{password}
Once attached, `/msg *carom help` says what else there is.",
        word = trust.word(&certificate),
        weechat = trust.weechat(&host, port, account),
        irssi = trust.irssi(&host, port, account),
        hexchat = trust.hexchat(&host, port, account),
        halloy = trust.halloy(&host, port, &certificate, account),
        user = account.user,
        network = account.network,
        password = account.password,
    )
}

/// The certificate that the first start would make is made now, so that its fingerprint can be told.
fn certificate(path: &Path, config: &Config) -> Option<Fingerprint> {
    if path == Path::new(OF_THE_SYSTEM) {
        return None;
    }
    let opened = if config.tls.certificate.exists() {
        Acceptor::open(&config.tls, &config.server.name).map_err(|error| error.to_string())
    } else {
        let lock = bouncer::lock_folder(&config.storage.folder);
        lock.map_err(|failure| failure.message).and_then(|_held| {
            Acceptor::open(&config.tls, &config.server.name).map_err(|error| error.to_string())
        })
    };
    match opened {
        Ok(acceptor) => Some(acceptor.fingerprint()),
        Err(error) => {
            super::complain(format_args!("warning: no certificate yet: {error}"));
            None
        }
    }
}

impl Trust {
    fn word(&self, certificate: &str) -> String {
        match self {
            Self::Own(Some(fingerprint)) => format!(
                "The certificate is {certificate}, made for this host, with the fingerprint\n  {fingerprint}\n\n"
            ),
            Self::Own(None) => "The first start makes a certificate, and its log tells the fingerprint (\"certificate made\"): it belongs where \
                                FINGERPRINT stands.\n\n"
                .into(),
            Self::Clear | Self::Authority => String::new(),
        }
    }

    /// The hexadecimal digits, in `pairs` with colons or without.
    fn pin(&self, pairs: bool) -> Option<String> {
        match self {
            Self::Own(Some(fingerprint)) => {
                let pair = |byte: &u8| {
                    if pairs {
                        format!("{byte:02X}")
                    } else {
                        format!("{byte:02x}")
                    }
                };
                let digits: Vec<String> = fingerprint.certificate.iter().map(pair).collect();
                Some(digits.join(if pairs { ":" } else { "" }))
            }
            Self::Own(None) => Some("FINGERPRINT".into()),
            Self::Clear | Self::Authority => None,
        }
    }

    fn is_clear(&self) -> bool {
        matches!(self, Self::Clear)
    }

    fn weechat(&self, host: &str, port: u16, account: &Account<'_>) -> String {
        let Account {
            user,
            network,
            password,
            ..
        } = account;
        let (older, tls) = if self.is_clear() {
            ("", "-notls")
        } else {
            (" (before 4.0 write ssl in the place of tls)", "-tls")
        };
        let pin = self.pin(false).map_or_else(String::new, |pin| {
            format!("  /set irc.server.bnc.tls_fingerprint {pin}\n")
        });
        format!(
            "WeeChat{older}:
  /server add bnc {host}/{port} {tls}
{pin}  /set irc.server.bnc.sasl_mechanism plain
  /set irc.server.bnc.sasl_username {user}/{network}@weechat
  /set irc.server.bnc.sasl_password {password}
  /connect bnc
"
        )
    }

    fn irssi(&self, host: &str, port: u16, account: &Account<'_>) -> String {
        let Account {
            user,
            network,
            nick,
            password,
        } = account;
        let tls = match self.pin(true) {
            Some(pin) => format!(" -tls -notls_verify -tls_pinned_cert {pin}"),
            None if self.is_clear() => String::new(),
            None => " -tls -tls_verify".into(),
        };
        format!(
            "irssi:
  /network add -nick {nick} -sasl_mechanism PLAIN -sasl_username {user}/{network}@irssi -sasl_password {password} bnc
  /server add -auto{tls} -network bnc {host} {port}
  /connect bnc
"
        )
    }

    fn hexchat(&self, host: &str, port: u16, account: &Account<'_>) -> String {
        let Account {
            user,
            network,
            password,
            ..
        } = account;
        let (plus, tls) = match self {
            Self::Clear => ("", "no"),
            Self::Authority => ("+", "yes"),
            Self::Own(_) => (
                "+",
                "yes · Accept invalid SSL certificates: yes (it cannot pin one)",
            ),
        };
        format!(
            "HexChat, in Network List > Add > Edit:
  Servers {host}/{plus}{port} · Use SSL: {tls}
  Login method SASL (username + password) · User name {user}/{network}@hexchat · Password {password}
"
        )
    }

    fn halloy(&self, host: &str, port: u16, certificate: &str, account: &Account<'_>) -> String {
        let Account {
            user,
            network,
            nick,
            password,
        } = account;
        let tls = !self.is_clear();
        let root = match self {
            Self::Own(Some(_)) => {
                format!("  root_cert_path = \"{certificate}\"   # or a copy of it\n")
            }
            Self::Own(None) => "  root_cert_path = \"/path/to/a/copy/of/certificate.pem\"\n".into(),
            Self::Clear | Self::Authority => String::new(),
        };
        format!(
            "Halloy, in config.toml:
  [servers.{network}]
  nickname = \"{nick}\"
  server = \"{host}\"
  port = {port}
  use_tls = {tls}
{root}  [servers.{network}.sasl.plain]
  username = \"{user}/{network}@halloy\"
  password = \"{password}\"
"
        )
    }
}
