//! IRC clients of others, without a screen or in one that nobody looks at. What they show stands in their logs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::program::{Running, command, until};
use crate::support::daemon::PASSWORD;

/// Where a client attaches, and how it says who it is.
#[derive(Clone, Copy)]
pub enum Door {
    /// In clear text, with the server password.
    Clear(SocketAddr),
    /// With TLS, by SASL.
    Tls(SocketAddr),
    /// With TLS and the server password, for those that do not speak in clear.
    TlsPassword(SocketAddr),
}

impl Door {
    fn addr(self) -> SocketAddr {
        match self {
            Self::Clear(addr) | Self::Tls(addr) | Self::TlsPassword(addr) => addr,
        }
    }
}

/// A message as a client shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// In seconds since 1970.
    pub time: i64,
    /// Who said it, without the sign of a channel operator.
    pub nick: String,
    pub text: String,
}

/// A client with a home of its own, which is kept while it does not run.
pub trait Program: Sized {
    /// What must be installed.
    const NEEDS: &[&str];

    /// What it says of somebody who comes to a channel.
    const JOINS: &str = "has joined";

    /// Its first door, when the daemon listens in clear at the one address and with TLS at the other.
    fn first_door(clear: SocketAddr, _: SocketAddr) -> Door {
        Door::Clear(clear)
    }

    /// One that never ran.
    fn new(login: &str) -> Self;

    /// Starts it; it attaches by itself.
    fn start(&mut self, door: Door);

    /// Types a command, in the words that all IRC clients understand.
    async fn type_in(&mut self, command: &str);

    /// Whether it does not run any more.
    fn has_ended(&mut self) -> bool;

    /// Ends it without a chance to say anything.
    fn kill(&mut self);

    /// The log of a channel or private talk.
    fn log(&self, buffer: &str) -> PathBuf;

    /// What a line of the log tells, if it is a message.
    fn parse(line: &str) -> Option<Said>;

    /// The messages in a channel or private talk, in the order in which they were shown.
    fn shown(&self, buffer: &str) -> Vec<Said> {
        self.lines(buffer)
            .iter()
            .filter_map(|line| Self::parse(line))
            .collect()
    }

    fn lines(&self, buffer: &str) -> Vec<String> {
        let log = fs::read(self.log(buffer)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        // The last line may be half written.
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(str::to_owned).collect()
    }

    /// Starts it and waits until it shows that it is in a channel where it was not before.
    async fn attach(&mut self, door: Door, channel: &str) {
        let joins = |program: &Self| {
            let lines = program.lines(channel);
            lines
                .iter()
                .filter(|line| line.contains(Self::JOINS))
                .count()
        };
        until("the end of the last run", async || {
            self.has_ended().then_some(())
        })
        .await;
        let before = joins(self);
        self.start(door);
        until("the channel", async || {
            assert!(!self.has_ended(), "{} has ended", Self::NEEDS[0]);
            (joins(self) > before).then_some(())
        })
        .await;
    }

    /// Waits until it shows a message.
    async fn sees(&self, buffer: &str, nick: &str, text: &str) -> Said {
        let is_it = |said: &Said| said.nick == nick && said.text == text;
        let what = format!("{} shows {text:?}", Self::NEEDS[0]);
        until(&what, async || self.shown(buffer).into_iter().find(is_it)).await
    }

    /// Has it leave as its user would.
    async fn quit(&mut self) {
        self.type_in("/quit").await;
        until("the end of the client", async || {
            self.has_ended().then_some(())
        })
        .await;
    }
}

/// Reads `2026-01-02 08:00:05`, which is UTC.
fn seconds(time: &str) -> Option<i64> {
    let time = DateTime::strptime("%Y-%m-%d %H:%M:%S", time).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

fn said(time: &str, nick: &str, text: &str) -> Option<Said> {
    Some(Said {
        time: seconds(time)?,
        nick: nick
            .trim_start_matches(['~', '&', '@', '%', '+', ' '])
            .to_owned(),
        text: text.to_owned(),
    })
}

// -- WeeChat

/// WeeChat without a screen. It has no input then: a signal makes it read its aliases anew, and do one of them.
pub struct Weechat {
    home: TempDir,
    login: String,
    typed: usize,
    running: Option<Running>,
}

impl Weechat {
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn config(&self, door: Door) -> String {
        let way = match door {
            Door::Clear(_) => format!(
                "bnc.password = \"{}:{PASSWORD}\"\nbnc.ssl = off",
                self.login
            ),
            Door::TlsPassword(_) => format!(
                "bnc.password = \"{}:{PASSWORD}\"\nbnc.ssl = on\nbnc.ssl_verify = off",
                self.login
            ),
            Door::Tls(_) => format!(
                "bnc.ssl = on\nbnc.ssl_verify = off\nbnc.sasl_mechanism = plain\n\
                 bnc.sasl_username = \"{}\"\nbnc.sasl_password = \"{PASSWORD}\"",
                self.login
            ),
        };
        let addr = door.addr();
        format!(
            "[server]\nbnc.addresses = \"{}/{}\"\nbnc.autoconnect = on\nbnc.nicks = \"zed\"\n\
             bnc.anti_flood_prio_high = 0\n{way}\n",
            addr.ip(),
            addr.port()
        )
    }

    fn signal(&self) {
        let running = self.running.as_ref().expect("it was started");
        running.signal(Signal::USR1);
    }
}

impl Program for Weechat {
    const NEEDS: &[&str] = &["weechat-headless"];

    fn new(login: &str) -> Self {
        Self {
            home: TempDir::new().unwrap(),
            login: login.to_owned(),
            typed: 0,
            running: None,
        }
    }

    fn start(&mut self, door: Door) {
        // It writes all of its files anew when it ends.
        fs::write(self.path("irc.conf"), self.config(door)).unwrap();
        let main = "[signal]\nsigusr1 = \"/reload alias;/todo\"\n";
        fs::write(self.path("weechat.conf"), main).unwrap();
        fs::write(self.path("logger.conf"), "[file]\nflush_delay = 0\n").unwrap();
        let mut command = command("weechat-headless", self.home.path());
        command.arg("--dir").arg(self.home.path());
        self.running = Some(Running::start(command, self.path("output")));
    }

    async fn type_in(&mut self, command: &str) {
        self.typed += 1;
        let done = format!("typed {}", self.typed);
        let command = command.trim_start_matches('/').replace(';', "\\;");
        let todo = format!(
            "/command -buffer irc.server.bnc * /{command};/print -buffer core.weechat {done}"
        );
        let aliases = format!("[cmd]\ntodo = \"{todo}\"\n");
        fs::write(self.path("alias.conf"), aliases).unwrap();
        self.signal();
        let core = self.path("logs/core.weechat.weechatlog");
        until(&command, async || {
            let log = fs::read_to_string(&core).unwrap_or_default();
            (log.lines().any(|line| line.ends_with(&done)) || self.has_ended()).then_some(())
        })
        .await;
    }

    fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_none_or(Running::has_ended)
    }

    fn kill(&mut self) {
        self.running = None;
    }

    fn log(&self, buffer: &str) -> PathBuf {
        self.path(&format!("logs/irc.bnc.{buffer}.weechatlog"))
    }

    fn parse(line: &str) -> Option<Said> {
        let mut parts = line.splitn(3, '\t');
        let (time, nick, text) = (parts.next()?, parts.next()?, parts.next()?);
        // Its own words stand beside these.
        let signs = ["", "--", "-->", "<--", "=!=", " *"];
        said(time, nick, text).filter(|_| !signs.contains(&nick))
    }
}

impl Drop for Weechat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in fs::read_dir(self.path("logs"))
                .into_iter()
                .flatten()
                .flatten()
            {
                let text = fs::read(log.path()).unwrap_or_default();
                eprintln!("{:?}:\n{}", log.file_name(), String::from_utf8_lossy(&text));
            }
        }
    }
}

// -- in a terminal

/// A terminal of tmux that nobody looks at, in a home of its own.
struct Terminal {
    home: TempDir,
}

impl Terminal {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        Self { home }
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    /// The terminal's words; those of a terminal that is gone are no success.
    fn tmux(&self, words: &[&str]) -> Option<String> {
        let mut command = command("tmux", self.path());
        command.arg("-S").arg(self.path().join("tmux"));
        let output = command
            .args(["-f", "/dev/null"])
            .args(words)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(told)
    }

    fn run(&self, words: &[&str]) {
        let new = ["new-session", "-d", "-x", "160", "-y", "50"];
        let started = self.tmux(&[&new, words].concat());
        assert!(started.is_some(), "tmux does not start");
    }

    fn type_in(&self, command: &str) {
        // Literally, and the key after it.
        let typed = self.tmux(&["send-keys", "-l", command, ";", "send-keys", "Enter"]);
        assert!(typed.is_some(), "tmux has ended");
    }

    fn has_ended(&self) -> bool {
        self.tmux(&["has-session"]).is_none()
    }

    fn kill(&self) {
        let pid = self.tmux(&["list-panes", "-a", "-F", "#{pane_pid}"]);
        let pid = pid.and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?));
        if let Some(pid) = pid {
            // It may have ended by itself by now.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(screen) = self.tmux(&["capture-pane", "-p"])
        {
            eprintln!("the terminal shows:\n{screen}");
        }
        self.kill();
        // The server ends with its last terminal; should it not have begun to, this does it.
        self.tmux(&["kill-server"]);
    }
}

// -- irssi

/// irssi in a terminal of tmux.
pub struct Irssi {
    terminal: Terminal,
    login: String,
}

impl Irssi {
    fn config(&self, door: Door) -> String {
        let (addr, login, home) = (door.addr(), &self.login, self.terminal.path().display());
        let (server, chatnet) = match door {
            // The name stands in USER.
            Door::Clear(_) => (
                format!("use_tls = \"no\"; password = \"{PASSWORD}\";"),
                format!("username = \"{login}\";"),
            ),
            Door::TlsPassword(_) => (
                format!("use_tls = \"yes\"; tls_verify = \"no\"; password = \"{PASSWORD}\";"),
                format!("username = \"{login}\";"),
            ),
            Door::Tls(_) => (
                "use_tls = \"yes\"; tls_verify = \"no\";".to_owned(),
                format!(
                    "sasl_mechanism = \"PLAIN\"; sasl_username = \"{login}\"; sasl_password = \"{PASSWORD}\";"
                ),
            ),
        };
        format!(
            r#"
servers = ( {{ address = "{}"; port = "{}"; family = "inet6"; chatnet = "bnc"; autoconnect = "yes"; {server} }} );
chatnets = {{ bnc = {{ type = "IRC"; nick = "zed"; {chatnet} }}; }};
settings = {{
  core = {{ real_name = "Zed"; user_name = "zed"; nick = "zed"; log_timestamp = "%Y-%m-%d %H:%M:%S "; }};
  # Else what it asks of its own accord delays what is typed by eight seconds.
  "irc/core" = {{ cmd_queue_speed = "50msec"; }};
  "fe-common/core" = {{ autolog = "yes"; autolog_path = "{home}/log/$tag.$0"; }};
}};
"#,
            addr.ip(),
            addr.port()
        )
    }
}

impl Program for Irssi {
    const NEEDS: &[&str] = &["irssi", "tmux"];

    fn new(login: &str) -> Self {
        Self {
            terminal: Terminal::new(),
            login: login.to_owned(),
        }
    }

    fn start(&mut self, door: Door) {
        let home = self.terminal.path();
        fs::write(home.join("config"), self.config(door)).unwrap();
        let irssi = super::program::find("irssi").expect("it is installed");
        let folder = |option: &str, path: &Path| format!("--{option}={}", path.display());
        self.terminal.run(&[
            &irssi.display().to_string(),
            &folder("home", home),
            &folder("config", &home.join("config")),
        ]);
    }

    async fn type_in(&mut self, command: &str) {
        self.terminal.type_in(command);
    }

    fn has_ended(&mut self) -> bool {
        self.terminal.has_ended()
    }

    fn kill(&mut self) {
        self.terminal.kill();
    }

    fn log(&self, buffer: &str) -> PathBuf {
        self.terminal.path().join(format!("log/bnc.{buffer}"))
    }

    fn parse(line: &str) -> Option<Said> {
        let (time, rest) = line.split_at_checked("2026-01-02 08:00:05".len())?;
        let (nick, text) = rest.strip_prefix(" <")?.split_once("> ")?;
        said(time, nick, text)
    }
}

// -- catgirl

/// catgirl in a terminal of tmux. It speaks TLS alone.
pub struct Catgirl {
    terminal: Terminal,
    login: String,
}

impl Catgirl {
    /// The only folder in this one, or the last of several.
    fn within(folder: &Path) -> Option<PathBuf> {
        let entries = fs::read_dir(folder).ok()?.flatten();
        entries.map(|entry| entry.path()).max()
    }

    /// What it said and heard, with the lines of the protocol.
    pub fn spoken(&self) -> String {
        fs::read_to_string(self.terminal.path().join("spoken")).unwrap_or_default()
    }
}

impl Program for Catgirl {
    const NEEDS: &[&str] = &["catgirl", "tmux"];
    const JOINS: &str = "arrives in";

    fn first_door(_: SocketAddr, tls: SocketAddr) -> Door {
        Door::TlsPassword(tls)
    }

    fn new(login: &str) -> Self {
        Self {
            terminal: Terminal::new(),
            login: login.to_owned(),
        }
    }

    fn start(&mut self, door: Door) {
        let home = self.terminal.path();
        fs::create_dir_all(home.join(".local/share")).unwrap();
        let (addr, login) = (door.addr(), &self.login);
        let way = match door {
            Door::Tls(_) => format!("-u zed -a {login}:{PASSWORD}"),
            _ => format!("-u {login} -w {PASSWORD}"),
        };
        let catgirl = super::program::find("catgirl").expect("it is installed");
        let run = format!(
            "exec {} -! -l -v -h {} -p {} -n zed {way} 2>>spoken",
            catgirl.display(),
            addr.ip(),
            addr.port()
        );
        self.terminal.run(&[&run]);
    }

    async fn type_in(&mut self, command: &str) {
        self.terminal.type_in(command);
    }

    fn has_ended(&mut self) -> bool {
        self.terminal.has_ended()
    }

    fn kill(&mut self) {
        self.terminal.kill();
    }

    fn log(&self, buffer: &str) -> PathBuf {
        let logs = self.terminal.path().join(".local/share/catgirl/log");
        let network = Self::within(&logs).unwrap_or_default();
        Self::within(&network.join(buffer)).unwrap_or_default()
    }

    fn parse(line: &str) -> Option<Said> {
        let (time, rest) = line.strip_prefix('[')?.split_once("+0000] ")?;
        let (nick, text) = rest.strip_prefix('<')?.split_once("> ")?;
        said(&time.replace('T', " "), nick, text)
    }
}
