//! SEARCH (soju.im/search): what a client wants to find, understood here and answered by its writer. How it is
//! found is the history's.

use bytes::Bytes;

use crate::history::Search;
use crate::wire::{Cap, Tags, Timestamp, tags};

use super::Network;
use super::feature::{Answer, Asked, Feature, NOTHING, Offer, Rule, Source};
use super::turn::{Action, Ask, Item, Turn};

pub(super) static SEARCH: Feature = Feature {
    offers: &[Offer(Cap::Search, Source::OursWhenBound)],
    client: &[Rule::new(b"SEARCH", 0, Network::ask_search)],
    ..NOTHING
};

/// So many lines are found at most, and when no limit is given.
const LIMIT: usize = 100;

impl Network {
    fn ask_search(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        match understood(asked.line.param(0).unwrap_or_default()) {
            Ok(search) if self.is_bound() => {
                let item = Item::Ask {
                    ask: Ask::Search(Box::new(search)),
                    label: None,
                    after: self.head(),
                };
                turn.push(Action::Put(asked.from, item));
            }
            Ok(_) => {
                let line = self.fail(b"SEARCH", b"INTERNAL_ERROR");
                let line = line.trailing(b"There is no network to search in");
                turn.tell(asked.from, line.build());
            }
            Err(attribute) => {
                let line = self.fail(b"SEARCH", b"INVALID_PARAMS").param(&attribute);
                let line = line.trailing(b"That is not understood");
                turn.tell(asked.from, line.build());
            }
        }
        Answer::Now
    }
}

/// `in=#c;from=nick;text=words`, written as message tags are. `Err`: the attribute that makes no sense.
fn understood(text: &[u8]) -> Result<Search, Vec<u8>> {
    let mut search = Search {
        limit: LIMIT,
        ..Search::default()
    };
    for (key, raw) in Tags::new(text) {
        let value = Bytes::copy_from_slice(&tags::unescape(raw));
        let wrong = || key.to_vec();
        match key {
            b"in" => search.target = Some(value),
            b"from" => search.from = Some(value),
            b"text" => search.words = String::from_utf8_lossy(&value).into_owned(),
            b"after" => search.after = Some(Timestamp::parse(&value).ok_or_else(wrong)?),
            b"before" => search.before = Some(Timestamp::parse(&value).ok_or_else(wrong)?),
            b"limit" => {
                let limit = std::str::from_utf8(&value)
                    .ok()
                    .and_then(|v| v.parse().ok());
                search.limit = limit
                    .filter(|n: &usize| *n > 0)
                    .ok_or_else(wrong)?
                    .min(LIMIT);
            }
            _ => return Err(wrong()),
        }
    }
    if search.words.is_empty() && search.target.is_none() && search.from.is_none() {
        return Err(b"text".to_vec());
    }
    Ok(search)
}
