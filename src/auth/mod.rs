//! Who is this? One answer for every way of asking: is this the password of that user, and may it be tried at all.
//! `gate` counts connections and tries, `hash` does the work. Which user is meant, and their hash, the caller knows.

mod bucket;
pub mod gate;
pub mod hash;
mod prefix;
mod tally;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Limits;

pub use gate::{Attempt, Gate, Ticket, TooManyFailures};
pub use hash::{Hasher, hash, is_current, verify};
pub use tally::Refusal;

/// What became of a password that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is the user's.
    Right,
    /// It is not, or there is no such user.
    Wrong,
    /// It was not looked at: too many were wrong before.
    NotNow {
        /// When the next try is welcome.
        retry_in: Duration,
    },
}

/// The gate and the hashing threads of one daemon. Clones are the same.
#[derive(Clone)]
pub struct Auth {
    /// Connections and tries per address.
    pub gate: Arc<Gate>,
    /// The threads that know passwords from hashes.
    pub hasher: Hasher,
}

impl Auth {
    /// Starts the hashing threads.
    pub fn start(limits: &Limits) -> io::Result<Self> {
        Ok(Self {
            gate: Gate::new(limits),
            hasher: Hasher::start()?,
        })
    }

    /// Tries a password against a hash; `None` when nobody has that name, which takes as long. The answer to a wrong
    /// one comes later and later. Dropping the future takes the try back.
    pub async fn check(
        &self,
        from: Option<IpAddr>,
        password: &[u8],
        hash: Option<&str>,
    ) -> Outcome {
        let attempt = match self.gate.attempt(from).await {
            Ok(attempt) => attempt,
            Err(TooManyFailures { retry_in }) => return Outcome::NotNow { retry_in },
        };
        if self.hasher.verify(password, hash).await {
            return Outcome::Right;
        }
        attempt.failed(crate::clock().ticks);
        Outcome::Wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;

    #[tokio::test(start_paused = true)]
    async fn a_password_is_right_wrong_or_not_looked_at() {
        let auth = Auth::start(&Limits {
            unauthenticated: 1,
            per_address: 1,
            connects_per_address: Rate::default(),
            login_failures: Rate {
                burst: 4,
                every: Duration::from_secs(60),
            },
            register_timeout: Duration::MAX,
            clients_per_user: 0,
            networks_per_user: 0,
            channels_per_network: 0,
            client_queue: 0,
            client_timeout: Duration::MAX,
        })
        .unwrap();
        let hash = auth.hasher.hash(b"secret").await;
        for _ in 0..10 {
            let answer = auth.check(None, b"secret", hash.as_deref()).await;
            assert_eq!(answer, Outcome::Right, "right ones cost nothing");
        }
        assert_eq!(
            auth.check(None, b"guess", hash.as_deref()).await,
            Outcome::Wrong
        );
        for _ in 0..3 {
            assert_eq!(
                auth.check(None, b"secret", None).await,
                Outcome::Wrong,
                "nobody there"
            );
        }
        for _ in 0..4 {
            let attempt = auth.gate.attempt(None).await.unwrap();
            attempt.failed(crate::clock().ticks);
        }
        let answer = auth.check(None, b"secret", hash.as_deref()).await;
        assert!(matches!(answer, Outcome::NotNow { .. }), "{answer:?}");
    }
}
