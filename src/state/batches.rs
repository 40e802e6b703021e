//! Lines in batches of the server are shown one by one, in order, as they come, so that a batch that never ends holds
//! nothing back. Those that answer a labelled line are followed here, and those within them: their lines are the
//! asker's. Others are `relayed`'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::Cap;

use super::Network;
use super::feature::{Feature, Form, NOTHING, Offer, Rule, Source};
use super::pending::RequestId;

pub(super) static BATCHES: Feature = Feature {
    offers: &[
        Offer(Cap::Batch, Source::Ours),
        Offer(Cap::ZncBatch, Source::Ours),
    ],
    server: &[
        Rule::new(b"BATCH", 1, Network::on_batch),
        Rule::new(b"ACK", 0, |_, _, _| {}),
    ],
    forms: &[Form {
        command: b"BATCH",
        unless: Cap::Batch,
        write: |_, _, _| {},
    }],
    ..NOTHING
};

/// At most so many batches are followed at a time.
const MAX_BATCHES: usize = 256;
/// No reference is so long.
const MAX_REFERENCE: usize = 256;

/// The batches that are followed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Batches(BTreeMap<String, Batch>);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Batch {
    /// What it answers; `None`: a request that was given up.
    request: Option<RequestId>,
    /// Whether it is the answer, and not a part of it.
    outermost: bool,
}

fn key(reference: &[u8]) -> String {
    crate::wire::latin1::to_string(reference)
}

impl Batches {
    /// What the lines of this batch answer. The outer `None`: it is not followed.
    pub(super) fn of(&self, reference: &[u8]) -> Option<Option<RequestId>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&key(reference)).map(|batch| batch.request)
    }

    pub(super) fn open(&mut self, reference: &[u8], request: Option<RequestId>, outermost: bool) {
        if self.0.len() < MAX_BATCHES && reference.len() <= MAX_REFERENCE {
            let batch = Batch { request, outermost };
            self.0.insert(key(reference), batch);
        }
    }

    /// What the batch answered, and whether with it the answer ends.
    pub(super) fn close(&mut self, reference: &[u8]) -> Option<(Option<RequestId>, bool)> {
        if self.0.is_empty() {
            return None;
        }
        let batch = self.0.remove(&key(reference))?;
        Some((batch.request, batch.outermost))
    }
}
