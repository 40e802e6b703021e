//! `carom init`: a first configuration. It asks for the few things that matter, or takes them as options; what is written has
//! been read by the same rules as any other file; what to type into the client is told by `clients`.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::clients::{self, Account};
use super::{ConfigFile, Exit, complain, passwd, say};
use crate::auth;
use crate::config::toml_text::write_text;
use crate::config::{self, Config, Purpose, ServerAddr};

pub(super) const EXAMPLES: &str = "\
Examples:
  carom init
  carom init --user apw --nick apw --network ircs://irc.oftc.net --channel '#bip'
  carom init --config /etc/carom/carom.toml --network ircs://irc.libera.chat --nick apw --yes";

#[derive(Args)]
pub(super) struct Init {
    #[command(flatten)]
    config: ConfigFile,
    /// Your name here, for clients to log in with
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The first network, as ircs://irc.oftc.net
    #[arg(long, value_name = "URL")]
    network: Option<String>,
    /// What to call the network; default: a part of the server's name
    #[arg(long, value_name = "NAME")]
    network_name: Option<String>,
    /// Your nick on IRC
    #[arg(long, value_name = "NICK")]
    nick: Option<String>,
    /// A channel to be in; may be given several times
    #[arg(long, value_name = "CHANNEL")]
    channel: Vec<String>,
    /// Where clients come in
    #[arg(long, value_name = "URL", default_value = "ircs://[::]:6697")]
    listen: String,
    /// Ask nothing: what is not given has its default
    #[arg(long)]
    yes: bool,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

/// What the file is made of.
struct Answers {
    user: String,
    hash: String,
    /// Printed when it was made up.
    password: Option<String>,
    url: String,
    network: String,
    nick: String,
    channels: Vec<String>,
    listen: String,
}

pub(super) fn init(wanted: Init) -> Exit {
    let path = wanted.config.path.clone().unwrap_or_else(first_path);
    match make(wanted, &path) {
        Ok(exit) => exit,
        Err(error) => {
            complain(format_args!("error: {error:#}"));
            Exit::Failed
        }
    }
}

/// Where a first file goes when nobody says: to the user's own files, root's to the system's.
fn first_path() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return super::SYSTEM_FILE.into();
    }
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    variable("CAROM_CONFIG")
        .or_else(|| variable("XDG_CONFIG_HOME").map(|folder| folder.join("carom/carom.toml")))
        .or_else(|| variable("HOME").map(|home| home.join(".config/carom/carom.toml")))
        .unwrap_or_else(|| super::SYSTEM_FILE.into())
}

fn make(wanted: Init, path: &Path) -> anyhow::Result<Exit> {
    if path.exists() && !wanted.force {
        complain(format_args!(
            "error: {}: is there already; --force writes over it, --config names another",
            path.display()
        ));
        return Ok(Exit::Failed);
    }
    let answers = answers(wanted)?;
    let text = text(&answers);
    let Some(config) = checked(path, &text)? else {
        return Ok(Exit::Refused);
    };
    say(format_args!("{}: written\n", path.display()));
    if let Some(password) = &answers.password {
        say(format_args!("password for {}: {password}\n", answers.user));
    }
    say(format_args!(
        "Start it:\n\n  carom run --config {}\n",
        path.display()
    ));
    say(clients::settings(
        path,
        &config,
        &Account {
            user: &answers.user,
            network: &answers.network,
            nick: &answers.nick,
            password: answers.password.as_deref().unwrap_or("YOUR-PASSWORD"),
        },
    ));
    Ok(Exit::Done)
}

fn answers(wanted: Init) -> anyhow::Result<Answers> {
    let mut asking = Asking { silent: wanted.yes };
    if !wanted.yes {
        complain(
            "A first configuration of carom. What stands in brackets is taken when you only press Enter.\n",
        );
    }
    let login = std::env::var("USER").unwrap_or_default().to_lowercase();
    let login = if is_user(&login) && login != "root" {
        login
    } else {
        "me".into()
    };
    let user = asking.ask(
        wanted.user,
        "Your name, for your clients to log in with",
        &login,
        |name| {
            is_user(name)
                .then_some(())
                .ok_or_else(|| "1 to 32 of a-z 0-9 _ -".into())
        },
    )?;
    let (password, hash) = asking.password()?;
    let nick = asking.ask(wanted.nick, "Your nick on IRC", &user, |nick| {
        let bad = nick.is_empty()
            || nick.contains([' ', ',', '*', '?', '!', '@', ':', '#', '&'])
            || nick.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        (!bad)
            .then_some(())
            .ok_or_else(|| "a nick has no spaces, signs or digits in front".into())
    })?;
    let url = asking.ask(
        wanted.network,
        "The server of your first network",
        "ircs://irc.oftc.net",
        |url| {
            ServerAddr::parse(url)
                .map(drop)
                .map_err(|error| error.to_string())
        },
    )?;
    let network = asking.ask(
        wanted.network_name,
        "What to call that network",
        &name_of(&url),
        |name| {
            let bad = name.is_empty() || name.len() > 64 || name.contains(['/', '@', ':', ' ']);
            (!bad)
                .then_some(())
                .ok_or_else(|| "up to 64 bytes without space, / @ or :".into())
        },
    )?;
    Ok(Answers {
        user,
        hash,
        password,
        url,
        network,
        nick,
        channels: wanted.channel,
        listen: wanted.listen,
    })
}

fn is_user(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

/// `oftc` of `ircs://irc.oftc.net`.
fn name_of(url: &str) -> String {
    let host = url.split("://").nth(1).unwrap_or(url);
    if host.starts_with('[') {
        return "irc".into();
    }
    let host = host.split([':', '/']).next().unwrap_or_default();
    let mut labels: Vec<&str> = host.split('.').collect();
    if labels.len() > 1 {
        labels.pop();
    }
    let name = labels.last().copied().unwrap_or_default();
    if name.is_empty() || name.bytes().all(|b| b.is_ascii_digit()) {
        "irc".into()
    } else {
        name.to_owned()
    }
}

struct Asking {
    silent: bool,
}

impl Asking {
    /// What was given, else what is answered. What is refused is asked again, unless nobody could answer.
    fn ask(
        &mut self,
        given: Option<String>,
        question: &str,
        default: &str,
        judge: impl Fn(&str) -> Result<(), String>,
    ) -> anyhow::Result<String> {
        let mut given = given;
        loop {
            let asked = given.is_none() && !self.silent;
            let answer = match given.take() {
                Some(answer) => answer,
                None if self.silent => default.to_owned(),
                None => line(&format!("{question} [{default}]: "))?.unwrap_or_default(),
            };
            let answer = if answer.trim().is_empty() {
                default
            } else {
                answer.trim()
            };
            match judge(answer) {
                Ok(()) => return Ok(answer.to_owned()),
                Err(why) if asked && io::stdin().is_terminal() => {
                    complain(format_args!("\"{answer}\": {why}"));
                }
                Err(why) => anyhow::bail!("{question}: \"{answer}\": {why}"),
            }
        }
    }

    /// The password, when it was made up here, and its hash.
    fn password(&mut self) -> anyhow::Result<(Option<String>, String)> {
        let made = || -> anyhow::Result<(Option<String>, String)> {
            let password =
                crate::bouncer::first_password().context("the system gives no random numbers")?;
            let hash = auth::hash::hash(password.as_bytes());
            Ok((Some(password), hash))
        };
        if self.silent {
            return made();
        }
        let typed = if io::stdin().is_terminal() {
            complain(
                "A password for your clients, typed twice; press Enter twice, and one is made up.",
            );
            passwd::ask_twice_or_nothing()?
        } else {
            line("Password [made up]: ")?.unwrap_or_default()
        };
        if typed.is_empty() {
            return made();
        }
        passwd::judge(typed.as_bytes())?;
        Ok((None, auth::hash::hash(typed.as_bytes())))
    }
}

/// One line of standard input; `None`: it has ended.
fn line(prompt: &str) -> anyhow::Result<Option<String>> {
    let _ = write!(io::stderr(), "{prompt}");
    let mut line = String::new();
    let read = io::stdin()
        .lock()
        .read_line(&mut line)
        .context("reading the answer")?;
    Ok((read > 0).then_some(line))
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    write_text(text, &mut out);
    out
}

/// The file, with a word on what else there is.
fn text(answers: &Answers) -> String {
    let Answers {
        user,
        hash,
        url,
        network,
        nick,
        channels,
        listen,
        ..
    } = answers;
    let (listen, user, hash, nick) = (quoted(listen), quoted(user), quoted(hash), quoted(nick));
    let (network, url) = (quoted(network), quoted(url));
    let mut text = format!(
        "# The configuration of carom. Every key is explained in carom.toml(5); `carom check` judges what stands here.

[server]
listen = [{listen}]         # [::] takes IPv6 and IPv4 clients
#name = \"bnc.example.org\"             # what clients see as the server; default: the host's name

[tls]                                 # without these carom makes a certificate of its own
#certificate = \"fullchain.pem\"
#key = \"privkey.pem\"

[history]                             # what a client gets when it attaches
#replay = \"unseen\"                    # unseen | last | none
#first_lines = 50                     # for a client that was never here before

[[user]]
name = {user}
password = {hash}
admin = true
nick = {nick}

[[user.network]]
name = {network}
servers = [{url}]           # in order, then again
#family = \"prefer-ipv6\"               # prefer-ipv6 | prefer-ipv4 | ipv6 | ipv4
#sasl = {{ mechanism = \"plain\", account = \"you\", password = {{ file = \"sasl.txt\" }} }}
#on_connect = [\"PRIVMSG NickServ :IDENTIFY ...\"]
"
    );
    for channel in channels {
        text.push_str(&format!(
            "\n[[user.network.channel]]\nname = {}\n",
            quoted(channel)
        ));
    }
    if channels.is_empty() {
        text.push_str("\n# Channels that you join are remembered; those that stand here are joined in any case.\n#[[user.network.channel]]\n#name = \"#channel\"\n");
    }
    text
}

/// Reads the file as the daemon will, beside its place, and only then puts it there.
fn checked(path: &Path, text: &str) -> anyhow::Result<Option<Config>> {
    let name = path
        .file_name()
        .context("the path of the configuration has no file name")?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let draft = folder.join(format!(".{}.new", name.to_string_lossy()));
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .with_context(|| format!("writing {}", draft.display()))?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    let outcome = written.map_err(anyhow::Error::from).and_then(|()| {
        match config::load(&draft, Purpose::Check) {
            Ok((config, findings)) => {
                let _ = write!(io::stderr(), "{findings}");
                fs::rename(&draft, path).with_context(|| format!("writing {}", path.display()))?;
                Ok(Some(config))
            }
            Err(findings) => {
                let _ = write!(io::stderr(), "{findings}");
                Ok(None)
            }
        }
    });
    if !matches!(outcome, Ok(Some(_))) {
        let _ = fs::remove_file(&draft);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_called_after_its_server() {
        for (url, name) in [
            ("ircs://irc.oftc.net", "oftc"),
            ("ircs://irc.libera.chat:6697", "libera"),
            ("irc://localhost", "localhost"),
            ("ircs://[2001:db8::1]:6697", "irc"),
            ("irc://127.0.0.1:6667", "irc"),
        ] {
            assert_eq!(name_of(url), name, "{url}");
        }
    }
}
