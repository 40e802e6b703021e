//! carom, an IRC bouncer. This page is the map: one line for each module, lowest layer first. A module
//! uses only modules above it in this list; `tests/tidy.rs` holds it to that. `ARCHITECTURE.md` tells the
//! story. The pure part knows IRC and has no socket, file, clock or `async`: `wire`, `state`. The rest is
//! the shell around it.

// The order is the order of the layers: a blank line between two keeps rustfmt from sorting them.

pub mod wire; // the grammar: bytes, lines, tags, names, ISUPPORT, capabilities

pub mod config; // what the file says, checked: it cannot be wrong

pub mod metrics; // what is counted, and the text in which it is told

pub mod command; // the administrator's words: verbs, parser, help

pub mod history; // the log of each network on disk: append, read, positions

pub mod chatlog; // plain text logs beside it

pub mod net; // sockets: listen, dial, TLS, names; knows no IRC

pub mod state; // everything known about one network and its clients: pure

pub mod outbox; // the queue of one client

pub mod auth; // who is this? passwords, limits on attempts

pub mod mailbox; // every message and handle that crosses a task boundary

pub mod directory; // what all tasks may read: users, networks, their status

pub mod upstream; // the task of one network

pub mod control; // the control socket

pub mod downstream; // the task of one client

pub mod doctor; // `carom check`: what this host and its paths can do; changes nothing

pub mod bouncer; // starts, supervises and stops the others

pub mod import; // moving in from another bouncer

pub mod cli; // the command line

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use state::{Now, Ticks};
use wire::Timestamp;

/// Reads both clocks. The only place in the program that does.
pub fn clock() -> Now {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // One of the two readings has to be the wall clock's; this is where it is allowed.
    #[allow(clippy::disallowed_methods)]
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let ticks = u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX);
    let time = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX);
    Now {
        ticks: Ticks(ticks),
        time: Timestamp::from_millis(time),
    }
}
