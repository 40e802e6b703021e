//! Logging in to a network's services (IRCv3 SASL 3.1): the mechanisms, pure. When to log in is
//! `registration`'s.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::config::Sasl;

/// A payload goes out in pieces of so many bytes; a piece of just this length says that more follows.
const CHUNK: usize = 400;

/// An exchange under way. It holds no secret: those stay in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Exchange {
    Plain,
    External,
}

impl Exchange {
    pub(super) fn new(sasl: &Sasl) -> Self {
        match sasl {
            Sasl::Plain { .. } => Self::Plain,
            Sasl::External { .. } => Self::External,
        }
    }

    /// The mechanism's name.
    pub(super) fn mechanism(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::External => "EXTERNAL",
        }
    }

    /// What is said to the server's challenge.
    pub(super) fn answer(self, sasl: &Sasl, challenge: &[u8]) -> Vec<String> {
        match sasl {
            _ if challenge != b"+" => vec!["*".to_owned()],
            Sasl::Plain { account, password } => {
                chunks(format!("\0{account}\0{}", password.reveal()).as_bytes())
            }
            Sasl::External { account } => chunks(account.as_bytes()),
        }
    }
}

/// A payload as AUTHENTICATE parameters; nothing, or a last piece that is full, is followed by `+`.
fn chunks(payload: &[u8]) -> Vec<String> {
    let encoded = STANDARD.encode(payload);
    let mut chunks: Vec<String> = encoded
        .as_bytes()
        .chunks(CHUNK)
        .map(|chunk| String::from_utf8_lossy(chunk).into_owned())
        .collect();
    if encoded.len().is_multiple_of(CHUNK) {
        chunks.push("+".to_owned());
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn plain_is_rfc_4616() {
        let sasl = Sasl::Plain {
            account: "tim".into(),
            password: Secret::new("tanstaaf".into()),
        };
        assert_eq!(
            Exchange::new(&sasl).answer(&sasl, b"+"),
            ["AHRpbQB0YW5zdGFhZg=="]
        );
        assert_eq!(Exchange::new(&sasl).answer(&sasl, b"eA=="), ["*"]);
    }

    #[test]
    fn a_full_piece_says_that_more_follows() {
        assert_eq!(chunks(b""), ["+"]);
        let pieces = chunks(&[b'x'; 300]);
        assert_eq!(pieces.iter().map(String::len).collect::<Vec<_>>(), [400, 1]);
        let pieces = chunks(&[b'x'; 301]);
        assert_eq!(pieces.iter().map(String::len).collect::<Vec<_>>(), [400, 4]);
    }
}
