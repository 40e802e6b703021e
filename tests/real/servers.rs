//! IRC servers of others, on `[::1]`, in clear text and with TLS.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;

use rustix::process::{getgid, getuid};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::program::{Running, command, until};
use crate::support::Client;
use crate::support::tls::Identity;

/// Which program.
#[derive(Clone, Copy)]
pub enum Kind {
    Ngircd,
    Inspircd,
}

impl Kind {
    /// The name of the program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Ngircd => "ngircd",
            Self::Inspircd => "inspircd",
        }
    }

    fn config(self, place: &Place) -> String {
        match self {
            Self::Ngircd => ngircd_config(place),
            Self::Inspircd => inspircd_config(place),
        }
    }

    fn start(self, folder: &Path) -> Running {
        let config = folder.join("server.conf");
        let command = match self {
            Self::Ngircd => {
                let mut command = command("ngircd", folder);
                command.args(["--nodaemon", "--config"]).arg(config);
                command
            }
            Self::Inspircd => {
                let mut command = command("inspircd", folder);
                command
                    .args(["--nofork", "--nopid", "--runasroot", "--config"])
                    .arg(config);
                command
            }
        };
        Running::start(command, folder.join("output"))
    }
}

/// What a configuration tells.
struct Place<'a> {
    folder: &'a Path,
    name: &'a str,
    clear: u16,
    tls: u16,
}

/// A server that welcomes clients.
pub struct Server {
    _running: Running,
    folder: TempDir,
    clear: u16,
    tls: u16,
}

/// So often is another pair of ports tried.
const TRIES: usize = 5;

impl Server {
    /// Starts it and waits until it welcomes a client. Ports are free ones, tried anew should somebody else be faster.
    pub async fn start(kind: Kind) -> Self {
        Self::start_with(kind, str::to_owned).await
    }

    /// The same with another configuration, made of the usual one.
    pub async fn start_with(kind: Kind, change: fn(&str) -> String) -> Self {
        let mut told = String::new();
        for _ in 0..TRIES {
            match Self::try_start(kind, change).await {
                Ok(server) => return server,
                Err(output) => told = output,
            }
        }
        panic!("{} does not start:\n{told}", kind.program());
    }

    /// What it wrote when it did not start.
    async fn try_start(kind: Kind, change: fn(&str) -> String) -> Result<Self, String> {
        let folder = TempDir::new().unwrap();
        let [clear, tls] = free_ports();
        // No other server has this name, so it is this one that answers.
        let name = format!("irc{clear}.{}.test", kind.program());
        let place = Place {
            folder: folder.path(),
            name: &name,
            clear,
            tls,
        };
        let identity = Identity::new(&name);
        fs::write(folder.path().join("cert.pem"), &identity.certificate_pem).unwrap();
        fs::write(folder.path().join("key.pem"), &identity.key_pem).unwrap();
        fs::create_dir(folder.path().join("conf.d")).unwrap();
        let config = change(&kind.config(&place));
        fs::write(folder.path().join("server.conf"), config).unwrap();
        let mut running = kind.start(folder.path());
        let welcomes = until(kind.program(), async || {
            if running.has_ended() {
                return Some(false);
            }
            welcome(clear).await.map(|server| server == name)
        });
        let is_ours = welcomes.await && TcpStream::connect(local(tls)).await.is_ok();
        if !is_ours {
            return Err(running.output());
        }
        Ok(Self {
            _running: running,
            folder,
            clear,
            tls,
        })
    }

    /// Where it takes clients in clear text.
    pub fn addr(&self) -> SocketAddr {
        local(self.clear)
    }

    /// The table of a network that has this server, reached in clear text.
    pub fn network(&self, name: &str) -> String {
        crate::support::daemon::network(name, &format!("irc://[::1]:{}", self.clear))
    }

    /// The same with TLS, and with the certificate checked.
    pub fn network_with_tls(&self, name: &str) -> String {
        let network = crate::support::daemon::network(name, &format!("ircs://[::1]:{}", self.tls));
        let ca = self.folder.path().join("cert.pem");
        format!("{}\ntls = {{ ca = {ca:?} }}\n\n", network.trim_end())
    }

    /// Somebody else who is on it, in these channels.
    pub async fn guest(&self, nick: &str, channels: &[&str]) -> Client {
        let mut guest = Client::connect(local(self.clear)).await;
        guest.send(&format!("NICK {nick}")).await;
        guest.send(&format!("USER {nick} 0 * :{nick}")).await;
        guest.welcomed().await;
        for channel in channels {
            guest.send(&format!("JOIN {channel}")).await;
            guest.expect("366").await;
        }
        guest
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, port).into()
}

/// Two ports that nobody has at this moment.
fn free_ports() -> [u16; 2] {
    // Both are held before one is let go, so that they differ.
    let held = [(); 2].map(|()| TcpListener::bind(local(0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// The name of the server that welcomes us at a port, if one does.
async fn welcome(port: u16) -> Option<String> {
    let stream = TcpStream::connect(local(port)).await.ok()?;
    let (source, mut sink) = stream.into_split();
    sink.write_all(b"NICK probe\r\nUSER probe 0 * :probe\r\n")
        .await
        .ok()?;
    let mut lines = BufReader::new(source).lines();
    while let Some(line) = lines.next_line().await.ok()? {
        let mut words = line.split(' ');
        let source = words.next()?.trim_start_matches(':');
        match words.next() {
            Some("001") => return Some(source.to_owned()),
            Some(token) if source == "PING" => {
                sink.write_all(format!("PONG {token}\r\n").as_bytes())
                    .await
                    .ok()?;
            }
            _ => {}
        }
    }
    None
}

fn ngircd_config(place: &Place) -> String {
    let Place {
        folder,
        name,
        clear,
        tls,
    } = place;
    let folder = folder.display();
    // It stays who we are, unless that is root.
    let (user, group) = (getuid(), getgid());
    format!(
        "\
[Global]
Name = {name}
Info = a real server
AdminEMail = nobody@{name}
Listen = ::1
Ports = {clear}
MotdPhrase = hello
ServerUID = {user}
ServerGID = {group}
[Limits]
MaxConnectionsIP = 0
[Options]
DNS = no
Ident = no
PAM = no
IncludeDir = {folder}/conf.d
[SSL]
Ports = {tls}
CertFile = {folder}/cert.pem
KeyFile = {folder}/key.pem
"
    )
}

fn inspircd_config(place: &Place) -> String {
    let Place {
        folder,
        name,
        clear,
        tls,
    } = place;
    let folder = folder.display();
    let mut config = format!(
        r#"
<server name="{name}" description="a real server" network="Real">
<admin name="nobody" nick="nobody" email="nobody@{name}">
<path configdir="{folder}" datadir="{folder}" logdir="{folder}" runtimedir="{folder}">
<bind address="::1" port="{clear}" type="clients">
<bind address="::1" port="{tls}" type="clients" sslprofile="own">
<sslprofile name="own" provider="gnutls" certfile="{folder}/cert.pem" keyfile="{folder}/key.pem">
<connect allow="*" resolvehostnames="no" localmax="100" globalmax="100">
<log method="file" type="* -USERINPUT -USEROUTPUT" level="default" target="log">
"#
    );
    // What a network of today has.
    let modules = [
        "ssl_gnutls",
        "cap",
        "ircv3",
        "ircv3_accounttag",
        "ircv3_batch",
        "ircv3_capnotify",
        "ircv3_chghost",
        "ircv3_ctctags",
        "ircv3_echomessage",
        "ircv3_invitenotify",
        "ircv3_labeledresponse",
        "ircv3_msgid",
        "ircv3_servertime",
        "namesx",
        "services_account",
        "setname",
    ];
    for module in modules {
        config += &format!("<module name=\"{module}\">\n");
    }
    config
}
