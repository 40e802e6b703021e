//! What tests of the whole program stand on: a mock IRC server, a raw client and the daemon itself. Everything waits
//! for something to happen, never for time to pass, and gives up after `DEADLINE` showing what it has seen.

// Each test binary uses its own part of this.
#![allow(dead_code, unused_imports, unreachable_pub)]
// These are tests, although not inside functions marked as such.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

pub mod client;
pub mod daemon;
pub mod mock_ircd;
pub mod scram;
pub mod script;
pub mod talk;
pub mod tls;
pub mod web;

use std::time::Duration;

pub use client::Client;
pub use daemon::Daemon;
pub use mock_ircd::{Link, MockIrcd};
pub use script::{Account, Greeting, Script};

/// So long at most does anything that is waited for take.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Waits for something, and panics when it takes longer than [`DEADLINE`].
pub async fn in_time<T>(what: &str, waited_for: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, waited_for).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}
