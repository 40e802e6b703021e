//! Batches of the server are flattened: their lines are shown one by one, in order, as they come, so that
//! a batch that never ends holds nothing back.

use crate::wire::Cap;

use super::feature::{Feature, NOTHING, Offer, Rule, Source};

pub(super) static BATCHES: Feature = Feature {
    offers: &[Offer(Cap::Batch, Source::Ours)],
    server: &[Rule::new(b"BATCH", 0, |_, _, _| {})],
    ..NOTHING
};
