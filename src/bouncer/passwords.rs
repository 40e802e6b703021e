//! The users' password hashes: from the file, from the database, or made at first start and told
//! once. Checking a password is `auth`'s.

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

/// The hash of every user.
pub(super) async fn of_users(
    config: &Config,
    history: &History,
    hasher: &Hasher,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut hashes = BTreeMap::new();
    for user in &config.users {
        let hash = match &user.password {
            Some(hash) => hash.reveal().to_owned(),
            None => remembered_or_made(&user.name, history, hasher).await?,
        };
        hashes.insert(user.name.clone(), hash);
    }
    Ok(hashes)
}

async fn remembered_or_made(
    name: &str,
    history: &History,
    hasher: &Hasher,
) -> Result<String, Failure> {
    let failed = |what: &str| Failure::new(format!("user {name}: {what}"));
    let remembered = history
        .password(name)
        .await
        .map_err(|error| failed(&error.to_string()))?;
    if let Some(hash) = remembered {
        return Ok(hash);
    }
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

fn made() -> Option<String> {
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
