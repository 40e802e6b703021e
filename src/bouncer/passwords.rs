//! Passwords that carom makes: for users of the file who have none, at first start and told once, and for users that
//! are made without one. Checking a password is `auth`'s.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::auth::Hasher;
use crate::config::Config;
use crate::history::History;

use super::Failure;

/// Letters that are not mistaken for one another.
const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// A made password has so many: more than 100 bits.
const LENGTH: usize = 20;

/// Makes a password for each declared user who has none yet, and tells it.
pub(super) async fn make_missing(
    config: &Config,
    history: &History,
    hasher: &Hasher,
    hashes: &mut BTreeMap<String, String>,
) -> Result<(), Failure> {
    let declared = config.users.iter().filter(|user| user.declared);
    for user in declared.filter(|user| user.password.is_none()) {
        if !hashes.contains_key(&user.name) {
            let hash = make(&user.name, history, hasher).await?;
            hashes.insert(user.name.clone(), hash);
        }
    }
    Ok(())
}

async fn make(name: &str, history: &History, hasher: &Hasher) -> Result<String, Failure> {
    let failed = |what: &str| Failure::new(format!("user {name}: {what}"));
    let password = made().ok_or_else(|| failed("the system gives no random numbers"))?;
    let hash = hasher.hash(password.as_bytes()).await;
    let hash = hash.ok_or_else(|| failed("the password could not be hashed"))?;
    history
        .set_password(name, &hash)
        .await
        .map_err(|error| failed(&error.to_string()))?;
    // The one line of standard output: everything else is the log, on standard error.
    let told = writeln!(io::stdout(), "password for {name}: {password}");
    told.map_err(|error| failed(&format!("its new password could not be told: {error}")))?;
    Ok(hash)
}

/// A password that nobody can guess; `None`: the system gives no random numbers.
pub fn made() -> Option<String> {
    let mut password = String::with_capacity(LENGTH);
    while password.len() < LENGTH {
        let mut bytes = [0; LENGTH];
        getrandom::fill(&mut bytes).ok()?;
        // Bytes beyond a multiple of the number of letters would favour the first ones.
        let even = bytes
            .iter()
            .filter(|b| usize::from(**b) < 256 / LETTERS.len() * LETTERS.len());
        let letters = even.map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()]));
        password.extend(letters.take(LENGTH - password.len()));
    }
    Some(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_passwords_are_long_and_never_the_same() {
        let (a, b) = (made().unwrap(), made().unwrap());
        assert_eq!(a.len(), LENGTH);
        assert_ne!(a, b);
        assert!(a.bytes().all(|letter| LETTERS.contains(&letter)));
    }
}
