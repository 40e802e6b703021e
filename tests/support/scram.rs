//! The server's side of SCRAM-SHA-256 (RFC 7677), for the mock server.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

const SALT: &[u8] = b"a grain of salt";
const ITERATIONS: u32 = 4096;
const NONCE: &str = "mock";

/// An exchange under way: what was said so far.
#[derive(Debug, Default)]
pub struct Scram {
    client_first: String,
    server_first: String,
    is_proved: bool,
}

/// What the server does about a message.
pub enum Answer {
    Say(String),
    Done,
    Refuse,
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
        .as_ref()
        .to_vec()
}

impl Scram {
    /// Answers a message of the client.
    pub fn answer(&mut self, account: &str, password: &str, payload: &[u8]) -> Answer {
        let Ok(text) = std::str::from_utf8(payload) else {
            return Answer::Refuse;
        };
        if self.is_proved {
            return Answer::Done;
        }
        if let Some(first) = text.strip_prefix("n,,") {
            let Some(nonce) = first.strip_prefix(&format!("n={account},r=")) else {
                return Answer::Refuse;
            };
            let salt = BASE64.encode(SALT);
            self.server_first = format!("r={nonce}{NONCE},s={salt},i={ITERATIONS}");
            first.clone_into(&mut self.client_first);
            return Answer::Say(self.server_first.clone());
        }
        let Some((without_proof, proof)) = text.split_once(",p=") else {
            return Answer::Refuse;
        };
        let said = format!(
            "{},{},{without_proof}",
            self.client_first, self.server_first
        );
        let mut salted = [0; 32];
        let iterations = ITERATIONS.try_into().unwrap();
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(
            algorithm,
            iterations,
            SALT,
            password.as_bytes(),
            &mut salted,
        );
        let stored = digest::digest(&digest::SHA256, &hmac(&salted, b"Client Key"));
        let signature = hmac(stored.as_ref(), said.as_bytes());
        let proof = BASE64.decode(proof).unwrap_or_default();
        let key: Vec<u8> = proof.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        if digest::digest(&digest::SHA256, &key).as_ref() != stored.as_ref() {
            return Answer::Refuse;
        }
        self.is_proved = true;
        let proof = hmac(&hmac(&salted, b"Server Key"), said.as_bytes());
        Answer::Say(format!("v={}", BASE64.encode(proof)))
    }
}
