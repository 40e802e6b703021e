//! SCRAM-SHA-256 as a client (RFC 5802, RFC 7677), without channel binding. Pure: the nonce and the salted password, which
//! takes its time, come from outside. What stays between two messages is no secret.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use serde::{Deserialize, Serialize};

/// A server that wants more rounds wants us to be busy. So many take a second or some.
const MAX_ITERATIONS: u32 = 1_000_000;
/// Longer salts and nonces are nobody's.
const MAX_LENGTH: usize = 1024;
/// No channel binding, and nobody to act for; and its base64.
const HEADER: (&str, &str) = ("n,,", "biws");

/// A password that went through so many rounds with a salt.
pub type Salted = [u8; 32];

/// Why an exchange goes no further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("the server's answer is no SCRAM message")]
    Message,
    #[error("the server's nonce does not begin with ours")]
    Nonce,
    #[error("the server wants {0} rounds of hashing, and at most {MAX_ITERATIONS} are done")]
    Iterations(u64),
    #[error("the server wants an extension of SCRAM that is not known here")]
    Extension,
    #[error("{0}")]
    Refused(String),
    #[error("the server did not prove that it knows the password")]
    Signature,
}

/// What the salted password is made of, beside the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

/// An exchange under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Scram {
    nonce: String,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// The server's challenge is to come.
    Begun,
    /// The salted password is to come.
    Challenged { both_nonces: String, said: String },
    /// The server's proof is to come: it has to be this.
    Proved([u8; 32]),
    /// Both have proved what they know.
    Done,
}

/// Hashes a password. For a thread of its own: this takes its time.
pub fn salt(password: &str, salt: &[u8], iterations: u32) -> Salted {
    let mut salted = Salted::default();
    let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    let prepared = prepare(password);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        prepared.as_bytes(),
        &mut salted,
    );
    salted
}

/// SASLprep (RFC 4013); what it forbids is taken as it is.
fn prepare(text: &str) -> std::borrow::Cow<'_, str> {
    stringprep::saslprep(text).unwrap_or_else(|_| text.into())
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    tag.as_ref().try_into().unwrap_or_default()
}

impl Scram {
    pub(super) fn new(nonce: String) -> Self {
        Self {
            nonce,
            stage: Stage::Begun,
        }
    }

    /// The first message.
    pub(super) fn first(&self, account: &str) -> String {
        format!("{}{}", HEADER.0, self.first_bare(account))
    }

    fn first_bare(&self, account: &str) -> String {
        let name = prepare(account).replace('=', "=3D").replace(',', "=2C");
        format!("n={name},r={}", self.nonce)
    }

    /// The server's first message: what is to be hashed now.
    pub(super) fn challenged(&mut self, account: &str, message: &[u8]) -> Result<Recipe, Wrong> {
        let message = std::str::from_utf8(message).map_err(|_| Wrong::Message)?;
        let mut parts = message.split(',');
        let mut part = |name| value(parts.next(), name);
        if message.starts_with("m=") {
            return Err(Wrong::Extension);
        }
        let (nonce, salt, iterations) = (part("r=")?, part("s=")?, part("i=")?);
        let salt = STANDARD.decode(salt).map_err(|_| Wrong::Message)?;
        let iterations: u64 = iterations.parse().map_err(|_| Wrong::Message)?;
        if iterations == 0 || salt.is_empty() || salt.len().max(nonce.len()) > MAX_LENGTH {
            return Err(Wrong::Message);
        }
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(Wrong::Nonce);
        }
        let few = u32::try_from(iterations)
            .ok()
            .filter(|n| *n <= MAX_ITERATIONS);
        let iterations = few.ok_or(Wrong::Iterations(iterations))?;
        self.stage = Stage::Challenged {
            both_nonces: nonce.to_owned(),
            said: format!("{},{message}", self.first_bare(account)),
        };
        Ok(Recipe { salt, iterations })
    }

    /// The password is hashed: the last message. `None`: nobody asked for it.
    pub(super) fn prove(&mut self, salted: &Salted) -> Option<String> {
        let Stage::Challenged { both_nonces, said } = &self.stage else {
            return None;
        };
        let without_proof = format!("c={},r={both_nonces}", HEADER.1);
        let said = format!("{said},{without_proof}");
        let client_key = hmac(salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let mut proof = hmac(stored_key.as_ref(), said.as_bytes());
        proof
            .iter_mut()
            .zip(client_key)
            .for_each(|(byte, key)| *byte ^= key);
        let server_key = hmac(salted, b"Server Key");
        self.stage = Stage::Proved(hmac(&server_key, said.as_bytes()));
        Some(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// The server's last message: its own proof.
    pub(super) fn check(&mut self, message: &[u8]) -> Result<(), Wrong> {
        let Stage::Proved(expected) = &self.stage else {
            return Err(Wrong::Message);
        };
        let message = std::str::from_utf8(message).map_err(|_| Wrong::Message)?;
        let first = message.split(',').next();
        if let Ok(error) = value(first, "e=") {
            return Err(Wrong::Refused(error.chars().take(100).collect()));
        }
        let signature = STANDARD.decode(value(first, "v=")?);
        if signature.map_err(|_| Wrong::Message)? != expected {
            return Err(Wrong::Signature);
        }
        self.stage = Stage::Done;
        Ok(())
    }

    /// Whether the server's challenge is to come.
    pub(super) fn is_new(&self) -> bool {
        self.stage == Stage::Begun
    }

    /// Whether the server has proved that it knows the password.
    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }
}

fn value<'a>(part: Option<&'a str>, name: &str) -> Result<&'a str, Wrong> {
    let value = part.and_then(|part| part.strip_prefix(name));
    value.ok_or(Wrong::Message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const PROOF: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    /// The exchange of RFC 7677 section 3, up to the client's proof.
    fn proved() -> (Scram, String) {
        let mut scram = Scram::new(NONCE.to_owned());
        let recipe = scram.challenged("user", CHALLENGE).unwrap();
        let salted = salt("pencil", &recipe.salt, recipe.iterations);
        let last = scram.prove(&salted).unwrap();
        (scram, last)
    }

    #[test]
    fn the_exchange_is_that_of_rfc_7677() {
        let scram = Scram::new(NONCE.to_owned());
        assert_eq!(scram.first("user"), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (mut scram, last) = proved();
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(!scram.is_done());
        assert_eq!(scram.check(PROOF), Ok(()));
        assert!(scram.is_done());
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        let wrong = b"v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(proved().0.check(wrong), Err(Wrong::Signature));
        assert_eq!(proved().0.check(b"v=AAAA"), Err(Wrong::Signature));
        assert_eq!(proved().0.check(b"v=%"), Err(Wrong::Message));
        let refused = Wrong::Refused("invalid-proof".into());
        assert_eq!(proved().0.check(b"e=invalid-proof"), Err(refused));
        let mut early = Scram::new(NONCE.to_owned());
        assert_eq!(early.check(PROOF), Err(Wrong::Message));
        assert_eq!(early.prove(&[0; 32]), None);
    }

    #[test]
    fn challenges_are_held_against_the_rules() {
        for (message, expected) in [
            ("r=abcdef,s=AA==,i=4096", None),
            ("r=abcdef,s=AA==,i=4096,x=later", None),
            ("r=abcdef,s=AA==,i=1000000", None),
            ("r=abc,s=AA==,i=4096", Some(Wrong::Nonce)),
            ("r=xyz,s=AA==,i=4096", Some(Wrong::Nonce)),
            (
                "r=abcdef,s=AA==,i=1000001",
                Some(Wrong::Iterations(1_000_001)),
            ),
            (
                "r=abcdef,s=AA==,i=99999999999",
                Some(Wrong::Iterations(99_999_999_999)),
            ),
            ("r=abcdef,s=AA==,i=0", Some(Wrong::Message)),
            ("r=abcdef,s=AA==,i=-1", Some(Wrong::Message)),
            ("r=abcdef,s=,i=4096", Some(Wrong::Message)),
            ("r=abcdef,s=%,i=4096", Some(Wrong::Message)),
            ("r=abcdef,i=4096", Some(Wrong::Message)),
            ("m=x,r=abcdef,s=AA==,i=4096", Some(Wrong::Extension)),
            ("", Some(Wrong::Message)),
        ] {
            let mut scram = Scram::new("abc".to_owned());
            let result = scram.challenged("user", message.as_bytes());
            assert_eq!(result.err(), expected, "{message}");
        }
    }

    #[test]
    fn names_and_passwords_are_prepared() {
        let scram = Scram::new("abc".to_owned());
        assert_eq!(scram.first("a=b,c"), "n,,n=a=3Db=2Cc,r=abc");
        // RFC 4013 section 3: a soft hyphen vanishes, a feminine ordinal becomes a letter.
        assert_eq!(prepare("I\u{AD}X"), "IX");
        assert_eq!(prepare("\u{AA}"), "a");
        assert_eq!(salt("\u{AA}", b"s", 1), salt("a", b"s", 1));
        assert_eq!(prepare("a\u{7}"), "a\u{7}", "forbidden, so as it is");
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange(messages in prop::collection::vec(any::<Vec<u8>>(), 0..5)) {
            let mut scram = Scram::new("abc".to_owned());
            for message in messages {
                _ = scram.challenged("user", &message);
                _ = scram.check(&message);
            }
            prop_assert!(!scram.is_done());
        }
    }
}
