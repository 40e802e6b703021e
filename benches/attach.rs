//! Attaching with 1,000, 10,000 and 100,000 missed lines of one channel and of many: CPU microseconds of the daemon for
//! each line, from the connection to the last line, without the password's hash. `cargo bench --bench attach`.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

mod support;

use std::time::Instant;

use support::{Client, Daemon, Gauge, Ircd, channels, head, line, median, spread, user};

/// Lines that are said at a time: one that is attached reads them, so they are stored.
const BURST: usize = 2000;
const RUNS: usize = 5;

async fn attach(lines: usize, many: usize, caps: &str) {
    let mut ircd = Ircd::start(many, 5).await;
    let daemon = Daemon::start(&format!(
        "{}{}",
        head("irc"),
        user("apw", Some(ircd.addr()), &channels(many))
    ));
    let link = ircd.link().await;
    let watching = Gauge::default();
    let _watcher = Client::attach(daemon.addr(), "apw/net@watcher", "", &watching).await;
    for run in 0..RUNS {
        // Known from now on, so that everything is missed and not the newest lines only.
        let known = Client::attach(
            daemon.addr(),
            &format!("apw/net@c{run}"),
            caps,
            &Gauge::default(),
        )
        .await;
        daemon.quiet();
        known.quit().await;
    }
    let all: Vec<String> = (0..lines)
        .map(|n| line(&format!("#bench{}", n * 7 % many), n as u64, ""))
        .collect();
    for burst in all.chunks(BURST) {
        let wanted = watching.lines() + burst.len() as u64;
        link.say(burst.concat().as_bytes()).await;
        watching.reach(wanted).await;
    }
    daemon.quiet();
    daemon.has_stored_everything();
    let (mut costs, mut took) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let gauge = Gauge::default();
        let (cpu, started) = (daemon.cpu(), Instant::now());
        let client = Client::attach(daemon.addr(), &format!("apw/net@c{run}"), caps, &gauge).await;
        gauge.reach(lines as u64).await;
        costs.push((daemon.cpu() - cpu).as_secs_f64() * 1e6 / lines as f64);
        took.push(started.elapsed().as_secs_f64() * 1e3);
        daemon.quiet();
        drop(client);
    }
    let form = if caps.is_empty() {
        "text timestamps"
    } else {
        "batch"
    };
    let spread = spread(&costs);
    println!(
        "attach, {lines:>6} lines of {many:>3} channels, {form}: {:.2} us CPU a line ({spread}), {:.0} ms in all",
        median(costs),
        median(took)
    );
}

fn main() {
    let sizes: &[usize] = if support::in_earnest() {
        &[1000, 10_000, 100_000]
    } else {
        &[1000]
    };
    for &lines in sizes {
        for many in [1, 100] {
            for caps in ["", "server-time batch"] {
                support::block_on(attach(lines, many, caps));
            }
        }
    }
}
