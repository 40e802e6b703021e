//! The client names of a user, over all of his networks: when each was used last, and which has to give way when there
//! are too many. What a name stands for is in the networks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock;
use crate::wire::Timestamp;

/// So many client names a user has; the longest unused gives way.
const MOST: usize = 256;

/// The client names of one user. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct ClientNames(Arc<Mutex<BTreeMap<String, Used>>>);

#[derive(Debug, Clone, Copy, Default)]
struct Used {
    at: Timestamp,
    /// How many clients of this name are attached.
    attached: usize,
}

/// A client of a name, until it is dropped.
#[derive(Debug)]
pub struct Here {
    names: ClientNames,
    name: String,
}

impl ClientNames {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Used>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A network remembers a name, which was used there last at that time.
    pub fn note(&self, name: &str, at: Timestamp) {
        let mut names = self.lock();
        match names.get_mut(name) {
            Some(used) => used.at = used.at.max(at),
            None => _ = names.insert(name.to_owned(), Used { at, attached: 0 }),
        }
    }

    /// A client of this name attaches. Which names all networks have to forget for it.
    pub fn attach(&self, name: &str) -> (Here, Vec<String>) {
        let mut names = self.lock();
        let used = names.entry(name.to_owned()).or_default();
        (used.at, used.attached) = (clock().time, used.attached + 1);
        let mut gone = Vec::new();
        while names.len() > MOST {
            let unused = names.iter().filter(|(_, used)| used.attached == 0);
            let longest = unused.min_by_key(|(_, used)| used.at);
            let Some(name) = longest.map(|(name, _)| name.clone()) else {
                break;
            };
            names.remove(&name);
            gone.push(name);
        }
        let here = Here {
            names: self.clone(),
            name: name.to_owned(),
        };
        (here, gone)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if let Some(used) = self.names.lock().get_mut(&self.name) {
            (used.at, used.attached) = (clock().time, used.attached.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: usize) -> Timestamp {
        Timestamp::from_millis(i64::try_from(n).unwrap())
    }

    #[test]
    fn of_too_many_names_the_longest_unused_gives_way() {
        let names = ClientNames::default();
        for n in 0..MOST {
            names.note(&n.to_string(), at(n));
        }
        // Two networks know of one: the later time counts, in either order.
        names.note("0", at(MOST + 1));
        names.note("0", at(0));
        let (again, gone) = names.attach("2");
        assert_eq!(gone, [""; 0], "it is known already");
        let (_new, gone) = names.attach("laptop");
        assert_eq!(gone, ["1"]);
        // Neither who is here nor who has just gone.
        drop(again);
        let (_phone, gone) = names.attach("phone");
        assert_eq!(gone, ["3"]);
    }

    #[test]
    fn nobody_who_is_here_gives_way() {
        let names = ClientNames::default();
        let attached: Vec<_> = (0..=MOST).map(|n| names.attach(&n.to_string())).collect();
        assert!(attached.iter().all(|(_, gone)| gone.is_empty()));
        names.note("old", at(0));
        let (_here, gone) = names.attach("0");
        assert_eq!(gone, ["old"]);
        drop(attached);
        let (_, gone) = names.attach("new");
        // Both that were too many, by the order in which they went.
        assert_eq!(gone.len(), 2);
    }
}
