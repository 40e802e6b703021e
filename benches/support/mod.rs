//! What the benches of the whole program stand on: the real daemon as a child process whose CPU time and memory are read
//! from /proc, a server that says what a bench wants, and clients that read fast, prove what they have and cost little.

// Each bench uses its own part of this.
#![allow(dead_code, unused_imports, unreachable_pub)]
// A bench that cannot go on has nothing better to do than to say so.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

pub mod client;
pub mod ircd;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use carom::config::Durability;
use carom::history::{Entry, EntryId, History, Kind, Write};
use carom::wire::{CaseMapping, Name, Timestamp};
use tempfile::TempDir;

pub use client::{Client, Gauge};
pub use ircd::{Ircd, Link};

/// The password of every user.
pub const PASSWORD: &str = "secret";

/// Whether this is a measurement; `cargo test --benches` only asks whether the bench works.
pub fn in_earnest() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// The thread that hashes passwords: its work is part of a login, and of nothing that is measured.
const HASHER: &str = "hash";

/// Another build may be measured by the same bench.
pub fn program() -> String {
    std::env::var("BENCH_CAROM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_carom").into())
}

/// Puts so many lines of the past into the database of a daemon that does not run yet.
pub async fn fill(folder: &Path, lines: u64) {
    let database = folder.join("carom.db");
    let history = History::open(Some(&database), Durability::Process).unwrap();
    let (log, _) = history.open_log("apw", "net").await.unwrap();
    for id in 1..=lines {
        let channel = format!("#bench{}", id % 5);
        let line = line(&channel, id, "");
        log.append(Write::Entry(Entry {
            id: EntryId(id),
            target: Name::new(channel.as_bytes(), CaseMapping::Rfc1459),
            time: Timestamp::from_millis(1_700_000_000_000 + i64::try_from(id).unwrap()),
            msgid: None,
            kind: Kind::Message,
            again: false,
            tags: Bytes::new(),
            line: Bytes::copy_from_slice(line.trim_end().as_bytes()),
        }));
        if id % 1000 == 0 || id == lines {
            let mut settled = log.settled();
            settled.wait_for(|settled| settled.0 >= id).await.unwrap();
        }
    }
    while log.size().await.unwrap().noted.0 + 256 < lines {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    history.close().await;
}

/// The daemon in a folder of its own. Dropped, it is killed.
pub struct Daemon {
    child: Child,
    folder: Arc<TempDir>,
    addr: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    /// From `exec` to the log line about the first listener.
    pub listening: Duration,
}

impl Daemon {
    /// Starts it and waits until it listens.
    pub fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("carom.toml"), config).unwrap();
        Self::start_in(Arc::new(folder))
    }

    /// Starts it in a folder that is set up.
    pub fn start_in(folder: Arc<TempDir>) -> Self {
        let started = Instant::now();
        let mut child = Command::new(program())
            .args(["run", "--config"])
            .arg(folder.path().join("carom.toml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (found, place) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(addr) = listening(&line) {
                    // Only the first is waited for.
                    _ = found.send((addr, started.elapsed()));
                }
                lines.lock().unwrap().push(line);
            }
        });
        let (addr, listening) = first(&place, &log);
        Self {
            child,
            folder,
            addr,
            log,
            listening,
        }
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends it and keeps its folder, to start it again.
    pub fn stop(mut self) -> Arc<TempDir> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
        Arc::clone(&self.folder)
    }

    fn proc(&self) -> PathBuf {
        format!("/proc/{}", self.child.id()).into()
    }

    /// CPU time of all its threads but the one that hashes passwords, to the nanosecond.
    pub fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(self.proc().join("task")).unwrap();
        let nanos = tasks.map(|task| {
            let task = task.unwrap().path();
            // A thread may have ended since.
            let read = |name| std::fs::read_to_string(task.join(name)).unwrap_or_default();
            if read("comm").trim() == HASHER {
                return 0;
            }
            let stat = read("schedstat");
            stat.split(' ')
                .next()
                .and_then(|n| n.parse::<u64>().ok())
                .unwrap_or(0)
        });
        Duration::from_nanos(nanos.sum())
    }

    /// CPU time by thread name, in microseconds.
    pub fn cpu_by_thread(&self) -> Vec<(String, f64)> {
        let tasks = std::fs::read_dir(self.proc().join("task")).unwrap();
        let times = tasks.map(|task| {
            let task = task.unwrap().path();
            let read = |name| std::fs::read_to_string(task.join(name)).unwrap_or_default();
            let nanos = read("schedstat")
                .split(' ')
                .next()
                .and_then(|n| n.parse::<f64>().ok());
            (read("comm").trim().to_owned(), nanos.unwrap_or(0.0) / 1e3)
        });
        times.collect()
    }

    /// Waits until it does nothing any more.
    pub fn quiet(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut before = self.cpu();
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let now = self.cpu();
            if now - before < Duration::from_millis(2) || Instant::now() > deadline {
                return;
            }
            before = now;
        }
    }

    /// Memory that is in RAM and nobody else's, in KiB.
    pub fn memory(&self) -> f64 {
        let rollup = std::fs::read_to_string(self.proc().join("smaps_rollup")).unwrap();
        let private = rollup.lines().filter(|line| line.starts_with("Private_"));
        private
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok())
            .sum()
    }

    /// Panics when a line was shown before it was stored, or not stored at all: then the figures mean nothing.
    pub fn has_stored_everything(&self) {
        let log = self.log.lock().unwrap();
        let bad = log
            .iter()
            .find(|line| line.contains("not stored") || line.contains("before it is stored"));
        assert!(bad.is_none(), "{bad:?}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log.lock().unwrap().join("\n"));
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn first(
    place: &Receiver<(SocketAddr, Duration)>,
    log: &Mutex<Vec<String>>,
) -> (SocketAddr, Duration) {
    let place = place.recv_timeout(Duration::from_secs(20));
    place.unwrap_or_else(|_| panic!("it does not listen: {:#?}", log.lock().unwrap()))
}

/// The address in a line of the log that calls it open.
fn listening(line: &str) -> Option<SocketAddr> {
    let (_, place) = line.split_once("listening on ")?;
    let place = place.split_once("://").map_or(place, |(_, place)| place);
    place.split([' ', ',']).next()?.parse().ok()
}

/// The head of a configuration: listeners and limits that do not stand in the way.
pub fn head(listen: &str) -> String {
    format!(
        "[server]\nname = \"bnc.test\"\nlisten = [\"{listen}://[::1]:0\"]\n[storage]\npath = \"carom.db\"\n[limits]\n\
         clients_per_user = 0\nunauthenticated = 0\nper_address = 0\n[log]\nlevel = \"debug\"\n"
    )
}

/// A user with one network and channels.
pub fn user(name: &str, server: Option<SocketAddr>, channels: &[String]) -> String {
    static HASH: OnceLock<String> = OnceLock::new();
    let hash = HASH.get_or_init(|| carom::auth::hash(PASSWORD.as_bytes()));
    let mut text = format!("[[user]]\nname = \"{name}\"\npassword = \"{hash}\"\n");
    if let Some(server) = server {
        text += &format!("[[user.network]]\nname = \"net\"\nservers = [\"irc://{server}\"]\n");
    }
    for channel in channels {
        text += &format!("[[user.network.channel]]\nname = \"{channel}\"\n");
    }
    text
}

/// `#bench0`, `#bench1` ...
pub fn channels(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("#bench{n}")).collect()
}

/// A line of the usual length: 118 bytes with its end.
pub fn line(channel: &str, n: u64, tags: &str) -> String {
    let start = format!("{tags}:nickname!~user@host.example.org PRIVMSG {channel} :{n:08} ");
    let fill = 116_usize.saturating_sub(start.len() - tags.len());
    format!(
        "{start}{}\r\n",
        "the quick brown fox jumps over the lazy dog, and once more"
            .chars()
            .cycle()
            .take(fill)
            .collect::<String>()
    )
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// All of them, for whoever wants to see how much they differ.
pub fn spread(values: &[f64]) -> String {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let first = values.first().copied().unwrap_or_default();
    let last = values.last().copied().unwrap_or_default();
    format!("{first:.2} to {last:.2}")
}

/// Runs a bench on one thread.
pub fn block_on<T>(bench: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, bench)
}
