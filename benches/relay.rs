//! One network to 1, 10 and 100 clients: CPU microseconds of the daemon for each delivered line, in bursts, and how late
//! lines are at 1,000 a second. Every line is stored before it is delivered. `cargo bench --bench relay [-- WHAT...]`,
//! where WHAT is a number of clients, `tags`, `latency`, or `export`: how late lines are while the database is copied.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use support::{Client, Daemon, Gauge, Ircd, Link, channels, head, line, median, spread, user};

/// Lines of one burst: they fit into a client's queue.
const BURST: u64 = 1000;

struct World {
    daemon: Daemon,
    link: Link,
    gauge: Gauge,
    _clients: Vec<Client>,
    _ircd: Ircd,
}

impl World {
    async fn new(clients: usize, caps: &str) -> Self {
        let mut ircd = Ircd::start(5, 20).await;
        let daemon = Daemon::start(&format!(
            "{}{}",
            head("irc"),
            user("apw", Some(ircd.addr()), &channels(5))
        ));
        let link = ircd.link().await;
        let gauge = Gauge::default();
        let mut attached = Vec::new();
        for n in 0..clients {
            attached
                .push(Client::attach(daemon.addr(), &format!("apw/net@c{n}"), caps, &gauge).await);
        }
        daemon.quiet();
        Self {
            daemon,
            link,
            gauge,
            _clients: attached,
            _ircd: ircd,
        }
    }
}

/// CPU microseconds for each delivered line.
async fn burst(clients: usize, caps: &str, tags: &str) {
    let world = World::new(clients, caps).await;
    let lines: String = (0..BURST)
        .map(|n| line(&format!("#bench{}", n % 5), n, tags))
        .collect();
    let per_run = match (support::in_earnest(), clients) {
        (false, _) => 1,
        (true, 1) => 100,
        (true, 10) => 60,
        (true, _) => 20,
    };
    let mut costs = Vec::new();
    let runs = if support::in_earnest() { 5 } else { 1 };
    // The first run warms everything up.
    for run in 0..=runs {
        let (cpu, before) = (world.daemon.cpu(), world.gauge.lines());
        for _ in 0..per_run {
            let wanted = world.gauge.lines() + BURST * clients as u64;
            world.link.say(lines.as_bytes()).await;
            world.gauge.reach(wanted).await;
        }
        let delivered = (world.gauge.lines() - before) as f64;
        if run > 0 {
            costs.push((world.daemon.cpu() - cpu).as_secs_f64() * 1e6 / delivered);
        }
    }
    world.daemon.has_stored_everything();
    let spread = spread(&costs);
    let what = if tags.is_empty() { "" } else { ", tags" };
    println!(
        "burst, {clients:>3} clients{what}: {:.3} us CPU a delivered line ({spread})",
        median(costs)
    );
    if std::env::var_os("BENCH_THREADS").is_some() {
        let mut threads = world.daemon.cpu_by_thread();
        threads.retain(|(_, micros)| *micros > 1000.0);
        println!("  {threads:.0?}");
    }
}

/// Microseconds from `write` to `read`, `SAMPLES` of them.
fn tell(what: &str, mut late: Vec<f64>, direct: f64) -> f64 {
    late.sort_by(f64::total_cmp);
    let at = |part: f64| late[((late.len() - 1) as f64 * part) as usize];
    let over = if direct > 0.0 {
        format!(" (+{:.0})", at(0.5) - direct)
    } else {
        String::new()
    };
    println!(
        "latency, {what}: median {:.0} us{over}, 90 % {:.0} us, 99 % {:.2} ms, worst {:.1} ms",
        at(0.5),
        at(0.9),
        at(0.99) / 1000.0,
        at(1.0) / 1000.0
    );
    at(0.5)
}

/// Says a line each millisecond, on a thread of its own.
fn say_slowly(
    mut socket: std::net::TcpStream,
    start: Instant,
    lines: u64,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut due = Instant::now();
        for _ in 0..lines {
            due += Duration::from_millis(1);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = start.elapsed().as_nanos();
            let text = format!(
                ":nickname!~user@host.example.org PRIVMSG #bench0 :at {sent:018} the quick brown fox jumps over the la\r\n"
            );
            socket.write_all(text.as_bytes()).unwrap();
        }
    })
}

/// Reads lines and notes how late each is.
async fn note(stream: &mut TcpStream, start: Instant, lines: u64) -> Vec<f64> {
    let mut late = Vec::new();
    let (mut buffer, mut kept) = (vec![0; 64 * 1024], Vec::new());
    while (late.len() as u64) < lines {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "closed");
        let now = start.elapsed().as_nanos() as f64;
        kept.extend_from_slice(&buffer[..read]);
        let end = memchr::memrchr(b'\n', &kept).map_or(0, |at| at + 1);
        for line in kept[..end].split(|b| *b == b'\n') {
            if let Some(at) = memchr::memmem::find(line, b" :at ") {
                let sent: f64 = std::str::from_utf8(&line[at + 5..at + 23])
                    .unwrap()
                    .parse()
                    .unwrap();
                late.push((now - sent) / 1000.0);
            } else if line.starts_with(b"PING") {
                let pong = [b"PONG", &line[4..], b"\n"].concat();
                assert_eq!(stream.try_write(&pong).unwrap(), pong.len());
            }
        }
        kept.drain(..end);
    }
    late
}

/// A daemon, with a large database if that is to be copied.
async fn daemon(ircd: &Ircd, copied: bool) -> (Arc<TempDir>, Daemon) {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let config = format!(
        "{}{}",
        head("irc"),
        user("apw", Some(ircd.addr()), &channels(5))
    );
    std::fs::write(folder.path().join("carom.toml"), config).unwrap();
    if copied {
        let lines = if support::in_earnest() {
            1_000_000
        } else {
            100
        };
        support::fill(folder.path(), lines).await;
    }
    let daemon = Daemon::start_in(Arc::clone(&folder));
    (folder, daemon)
}

/// Ten attached clients.
async fn clients(daemon: &Daemon) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for n in 0..10 {
        let mut stream = TcpStream::connect(daemon.addr()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let hello = format!(
            "PASS apw/net@c{n}:{}\r\nNICK zed\r\nUSER zed 0 * :Zed\r\n",
            support::PASSWORD
        );
        stream.write_all(hello.as_bytes()).await.unwrap();
        // What it is shown on the way in holds nothing that is noted.
        let mut shown = Vec::new();
        while memchr::memmem::find(&shown, b" 422 ").is_none() {
            assert!(stream.read_buf(&mut shown).await.unwrap() > 0, "closed");
        }
        clients.push(stream);
    }
    clients
}

/// `copied`: whether a large database is copied all the time.
async fn latency(copied: bool) {
    let lines = if support::in_earnest() { 10_000 } else { 100 };
    let start = Instant::now();
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let server = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut client, _) = listener.accept().await.unwrap();
    let sender = say_slowly(server, start, lines);
    let direct = tell("direct", note(&mut client, start, lines).await, 0.0);
    sender.join().unwrap();

    let mut ircd = Ircd::start(5, 20).await;
    let (folder, daemon) = daemon(&ircd, copied).await;
    let link = ircd.link().await;
    let mut clients = clients(&daemon).await;
    daemon.quiet();
    let copying = copied.then(|| Copying::begin(&folder));
    for _ in 0..if support::in_earnest() { 3 } else { 1 } {
        let cpu = daemon.cpu();
        let sender = say_slowly(link.share(), start, lines);
        let mut late = Vec::new();
        let note = |mut stream: TcpStream| async move {
            let late = note(&mut stream, start, lines).await;
            (stream, late)
        };
        let tasks: Vec<_> = clients
            .drain(..)
            .map(|stream| spawn_local(note(stream)))
            .collect();
        for task in tasks {
            let (stream, more) = task.await.unwrap();
            late.extend(more);
            clients.push(stream);
        }
        sender.join().unwrap();
        tell("10 clients", late, direct);
        let used = (daemon.cpu() - cpu).as_secs_f64() * 1e6 / (lines as f64 * 10.0);
        println!("  {used:.1} us CPU a delivered line");
    }
    if let Some(copying) = copying {
        copying.end();
    }
    daemon.has_stored_everything();
}

/// One `carom export` after the other.
struct Copying {
    enough: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Duration>>,
}

impl Copying {
    fn begin(folder: &Arc<TempDir>) -> Self {
        let enough = Arc::<AtomicBool>::default();
        let (folder, told) = (Arc::clone(folder), Arc::clone(&enough));
        let thread = std::thread::spawn(move || {
            let mut took = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let (begun, copy) = (Instant::now(), folder.path().join("copy.db"));
                let mut export = std::process::Command::new(support::program());
                export
                    .args(["export", "--config"])
                    .arg(folder.path().join("carom.toml"));
                let ended = export.arg("--output").arg(&copy).output().unwrap();
                assert!(ended.status.success(), "{ended:?}");
                took.push(begun.elapsed());
                std::fs::remove_file(copy).unwrap();
            }
            took
        });
        Self { enough, thread }
    }

    fn end(self) {
        self.enough.store(true, Ordering::Relaxed);
        let took = self.thread.join().unwrap();
        let seconds = took.iter().map(Duration::as_secs_f64).collect();
        println!(
            "  meanwhile {} copies, {:.1} s each",
            took.len(),
            median(seconds)
        );
    }
}

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wanted = |what: &str| words.is_empty() || words.iter().any(|word| word == what);
    for clients in [1, 10, 100] {
        if wanted(&clients.to_string()) {
            support::block_on(burst(clients, "", ""));
        }
    }
    if wanted("tags") {
        let tags = "@time=2026-01-02T08:00:05.010Z;msgid=Yq3xVb8sT0;account=ana ";
        support::block_on(burst(
            10,
            "server-time message-tags account-tag batch",
            tags,
        ));
    }
    if wanted("latency") {
        support::block_on(latency(false));
    }
    if wanted("export") {
        support::block_on(latency(true));
    }
}
