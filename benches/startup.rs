//! From `exec` to listening, and to the first answer to a client, with 1 and 1,000 users of one network each; at the first
//! start, which makes the database, and at a later one. `cargo bench --bench startup`.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use tempfile::TempDir;

use support::{Daemon, channels, head, median, spread, user};

/// Milliseconds to listening and to the first answer.
fn start(folder: &Arc<TempDir>) -> (f64, f64) {
    let started = Instant::now();
    let daemon = Daemon::start_in(Arc::clone(folder));
    let mut stream = TcpStream::connect(daemon.addr()).unwrap();
    stream.write_all(b"CAP LS 302\r\n").unwrap();
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).unwrap();
    assert!(answer.contains(" LS "), "{answer}");
    let answered = started.elapsed();
    let listening = daemon.listening;
    drop(stream);
    daemon.stop();
    (listening.as_secs_f64() * 1e3, answered.as_secs_f64() * 1e3)
}

fn measure(users: usize, server: SocketAddr) {
    let (mut listening, mut answered) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let runs = if support::in_earnest() { 7 } else { 1 };
    let users_text: String = (0..users)
        .map(|n| user(&format!("user{n}"), Some(server), &channels(5)))
        .collect();
    for _ in 0..runs {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        std::fs::write(
            folder.path().join("carom.toml"),
            format!("{}{users_text}", head("irc")),
        )
        .unwrap();
        for again in 0..2 {
            let (listens, answers) = start(&folder);
            listening[again].push(listens);
            answered[again].push(answers);
        }
    }
    let names = ["first", "later"];
    for ((name, listening), answered) in names.into_iter().zip(listening).zip(answered) {
        let range = spread(&listening);
        println!(
            "start-up, {users:>4} users, {name} start: {:.1} ms to listening ({range}), {:.1} ms to the first answer",
            median(listening),
            median(answered)
        );
    }
}

fn main() {
    // Takes connections and says nothing.
    let server = TcpListener::bind("[::1]:0").unwrap();
    let addr = server.local_addr().unwrap();
    let counts: &[usize] = if support::in_earnest() {
        &[1, 1000]
    } else {
        &[1]
    };
    counts.iter().for_each(|&users| measure(users, addr));
}
