//! The real program in a folder of its own: started, watched through its log, killed, started again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::{Client, DEADLINE, in_time};

/// The password of the user that [`user`] declares.
pub const PASSWORD: &str = "secret";

/// A configuration with one user and these networks, listening in clear text on `[::1]`.
pub fn config(networks: &str) -> String {
    format!(
        "[server]\nname = \"bnc.test\"\nlisten = [\"irc://[::1]:0\"]\n\n{}{networks}",
        user("apw")
    )
}

/// A user's table, with [`PASSWORD`]. Tables of networks may follow.
pub fn user(name: &str) -> String {
    static HASH: OnceLock<String> = OnceLock::new();
    let hash = HASH.get_or_init(|| carom::auth::hash(PASSWORD.as_bytes()));
    format!("[[user]]\nname = \"{name}\"\npassword = \"{hash}\"\n\n")
}

/// A network's table, with one server. It is not told who comes and goes.
pub fn network(name: &str, url: &str) -> String {
    format!("[[user.network]]\nname = \"{name}\"\nservers = [\"{url}\"]\nauto_away = false\n\n")
}

/// A channel's table, for the network before it.
pub fn channel(name: &str) -> String {
    format!("[[user.network.channel]]\nname = \"{name}\"\n\n")
}

/// Where the program is.
fn program() -> &'static str {
    env!("CARGO_BIN_EXE_carom")
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code, if no signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs the program to its end.
pub async fn carom(folder: &Path, words: &[&str]) -> Ended {
    let running = command(folder).args(words).output();
    let output = in_time("carom's end", running).await.unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// In an environment that says nothing of the machine it runs on.
fn command(folder: &Path) -> Command {
    in_folder(Command::new(program()), folder)
}

fn in_folder(mut command: Command, folder: &Path) -> Command {
    command
        .env_clear()
        .env("HOME", folder)
        .env("CAROM_CONFIG", folder.join("carom.toml"))
        .env("TZ", "UTC")
        .env("NO_COLOR", "1")
        .env("RUST_BACKTRACE", "1")
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// The daemon. A test that panics shows its log; dropping it kills it.
pub struct Daemon {
    folder: TempDir,
    /// What the shell is told first.
    words: Option<&'static str>,
    child: Child,
    log: Lines,
    stdout: Lines,
}

impl Daemon {
    /// Starts it with this configuration, in a new folder that holds the database too, and waits until it listens.
    pub async fn start(config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        write_config(folder.path(), config);
        Self::start_in(folder).await
    }

    /// Starts it in a folder that was made ready.
    pub async fn start_in(folder: TempDir) -> Self {
        Self::start_by(folder, None).await
    }

    /// Starts it after words of the shell, such as `umask 000` or `ulimit -n 64`; each restart says them again.
    pub async fn start_after(words: &'static str, config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        write_config(folder.path(), config);
        Self::start_by(folder, Some(words)).await
    }

    /// Starts it as systemd does with these sockets, each under its name.
    pub async fn start_with(sockets: Vec<(&str, OwnedFd)>, config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        write_config(folder.path(), config);
        let (names, fds): (Vec<_>, Vec<_>) = sockets.into_iter().unzip();
        let (count, names) = (fds.len(), names.join(":"));
        // The shell's number is that of the program it becomes.
        let words = format!("export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names}");
        let mut run = run(folder.path(), Some(&words));
        pass_on(&mut run, fds);
        let (child, log, stdout) = watch(&mut run);
        let mut daemon = Self {
            folder,
            words: None,
            child,
            log,
            stdout,
        };
        daemon.listens().await;
        daemon
    }

    async fn start_by(folder: TempDir, words: Option<&'static str>) -> Self {
        let (child, log, stdout) = spawn(folder.path(), words);
        let mut daemon = Self {
            folder,
            words,
            child,
            log,
            stdout,
        };
        daemon.listens().await;
        daemon
    }

    async fn listens(&mut self) {
        let config = std::fs::read_to_string(self.path("carom.toml")).unwrap();
        let wanted = listeners(&config);
        let what = format!("{wanted} listeners");
        self.log
            .wait_until(&what, |lines| listening(lines).len() >= wanted)
            .await;
        self.logged(": ready").await;
    }

    /// A file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the configuration; see [`Daemon::reload`] and [`Daemon::restart`].
    pub fn configure(&self, config: &str) {
        write_config(self.folder.path(), config);
    }

    /// Where the first listener can be reached.
    pub fn addr(&self) -> SocketAddr {
        self.addr_of(0)
    }

    /// Where a listener can be reached, in the order of the log. Wildcards become loopback.
    pub fn addr_of(&self, n: usize) -> SocketAddr {
        let places = listening(&self.log());
        let place = places.get(n).expect("so many listeners");
        let addr: SocketAddr = place.parse().expect("an address and port");
        match addr.ip() {
            IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, addr.port()).into(),
            IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, addr.port()).into(),
            _ => addr,
        }
    }

    /// The first listener's port on `127.0.0.1`.
    pub fn addr_v4(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.addr().port()).into()
    }

    /// Connects in clear text to the first listener.
    pub async fn connect(&self) -> Client {
        Client::connect(self.addr()).await
    }

    /// Connects and logs in with the server password in any of its forms.
    pub async fn login(&self, pass: &str) -> Client {
        let mut client = self.connect().await;
        client.login(pass).await;
        client
    }

    /// The log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.get()
    }

    /// Waits for a line of the log that contains this.
    pub async fn logged(&mut self, part: &str) -> String {
        let what = format!("{part:?} in the log");
        let has = |line: &&String| line.contains(part);
        self.log
            .wait_until(&what, |lines| lines.iter().any(|line| has(&line)))
            .await;
        self.log().iter().find(has).unwrap().clone()
    }

    /// Waits for a line of the log that `wanted` is true for. Each time all lines are looked at, from the first.
    pub async fn logged_where(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let find = |lines: &[String]| lines.iter().find(|line| wanted(line)).cloned();
        self.log
            .wait_until(what, |lines| find(lines).is_some())
            .await;
        find(&self.log()).unwrap()
    }

    /// Waits until so many lines of the log contain this.
    pub async fn logged_times(&mut self, part: &str, times: usize) {
        let count = |lines: &[String]| lines.iter().filter(|line| line.contains(part)).count();
        let what = format!("{part:?} {times} times in the log");
        self.log
            .wait_until(&what, |lines| count(lines) >= times)
            .await;
    }

    /// Standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.get()
    }

    /// Says words with `carom ctl`.
    pub async fn ctl(&self, words: &[&str]) -> Ended {
        carom(self.folder.path(), &[&["ctl"], words].concat()).await
    }

    /// Asks with `carom ctl` until the answer contains this: the daemon may not have got there yet.
    pub async fn tells(&self, words: &[&str], part: &str) -> String {
        let asking = async {
            loop {
                let ended = self.ctl(words).await;
                if ended.stdout.contains(part) {
                    return ended.stdout;
                }
            }
        };
        in_time(&format!("{part:?} in the answer to {words:?}"), asking).await
    }

    /// Its memory, in bytes.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
        kib.unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends SIGHUP: read the configuration again.
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait().await
    }

    /// Ends it as a power cut does, without a chance to say or write anything.
    pub async fn kill(&mut self) {
        self.child.start_kill().unwrap();
        self.wait().await;
    }

    /// Waits for the end, and for the last of its output.
    pub async fn wait(&mut self) -> ExitStatus {
        let status = in_time("the daemon's end", self.child.wait())
            .await
            .unwrap();
        self.log.ended().await;
        self.stdout.ended().await;
        status
    }

    /// Starts it again in the same folder, after it was stopped or killed. Ports and log are new.
    pub async fn restart(&mut self) {
        assert!(self.child.id().is_none(), "it must have ended first");
        (self.child, self.log, self.stdout) = spawn(self.folder.path(), self.words);
        self.listens().await;
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log().join("\n"));
        }
    }
}

fn spawn(folder: &Path, words: Option<&str>) -> (Child, Lines, Lines) {
    watch(&mut run(folder, words))
}

fn run(folder: &Path, words: Option<&str>) -> Command {
    let mut run = match words {
        None => command(folder),
        Some(words) => {
            let mut shell = in_folder(Command::new("/bin/sh"), folder);
            shell.args(["-c", &format!("{words}; exec \"$0\" \"$@\""), program()]);
            shell
        }
    };
    run.arg("run");
    run
}

fn watch(run: &mut Command) -> (Child, Lines, Lines) {
    let mut child = run
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = Lines::read(child.stdout.take().unwrap());
    let log = Lines::read(child.stderr.take().unwrap());
    (child, log, stdout)
}

/// Has a program find these as its descriptors from 3 on.
#[allow(unsafe_code)]
fn pass_on(command: &mut Command, fds: Vec<OwnedFd>) {
    use std::os::fd::FromRawFd;
    // Out of the way of the numbers they are to have.
    let far = |fd| rustix::io::fcntl_dupfd_cloexec(&fd, 100).unwrap();
    let fds: Vec<OwnedFd> = fds.into_iter().map(far).collect();
    let place = move || {
        for (number, fd) in (3..).zip(&fds) {
            // SAFETY: the new program owns the number from here on; this one forgets it at once.
            let mut target = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
            rustix::io::dup2(fd, &mut target)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls alone, and allocates nothing.
    unsafe { command.pre_exec(place) };
}

/// The database is put beside the configuration, unless that says where it is.
pub fn write_config(folder: &Path, config: &str) {
    let storage = if config.contains("[storage]") {
        ""
    } else {
        "\n[storage]\npath = \"carom.db\"\n"
    };
    std::fs::write(folder.join("carom.toml"), format!("{config}{storage}")).unwrap();
}

/// How many listeners a configuration asks for.
fn listeners(config: &str) -> usize {
    let table: toml::Table = config.parse().unwrap();
    match table.get("server").and_then(|server| server.get("listen")) {
        Some(toml::Value::Array(listen)) => listen.len(),
        Some(toml::Value::String(listen)) => listen.split(',').count(),
        _ => 1,
    }
}

/// The places that the log calls open: `listening on [::1]:40123 (IPv6), clear text`.
fn listening(log: &[String]) -> Vec<String> {
    let lines = log.iter().filter(|line| !line.contains("WARN"));
    let places = lines.filter_map(|line| line.split_once("listening on ").map(|(_, rest)| rest));
    places
        .map(|place| {
            let place = place.split_once("://").map_or(place, |(_, place)| place);
            place
                .split([' ', ','])
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

/// The lines of a pipe, as they come.
struct Lines(watch::Receiver<Output>);

#[derive(Default)]
struct Output {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn read(pipe: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let (sender, receiver) = watch::channel(Output::default());
        tokio::spawn(async move {
            let mut pipe = BufReader::new(pipe).split(b'\n');
            while let Ok(Some(line)) = pipe.next_segment().await {
                let line = String::from_utf8_lossy(&line).into_owned();
                sender.send_modify(|output| output.lines.push(line));
            }
            sender.send_modify(|output| output.ended = true);
        });
        Self(receiver)
    }

    fn get(&self) -> Vec<String> {
        self.0.borrow().lines.clone()
    }

    async fn wait_until(&mut self, what: &str, is_there: impl Fn(&[String]) -> bool) {
        let waited = self
            .0
            .wait_for(|output| is_there(&output.lines) || output.ended);
        let _ = tokio::time::timeout(DEADLINE, waited).await;
        // The log itself is shown when the daemon is dropped.
        assert!(is_there(&self.get()), "expected {what}");
    }

    async fn ended(&mut self) {
        let waited = self.0.wait_for(|output| output.ended);
        in_time("the end of the output", waited).await.unwrap();
    }
}
