//! A client whose writer does not go on for a while: what is put into its queue waits there. What becomes of batches.

use bytes::Bytes;
use carom::history::Ids;
use carom::state::forms::Dress;
use carom::state::{ClientId, Item, Shown, Worn};

use super::escape::escape;
use super::world::World;

/// Something in its queue.
#[derive(Debug)]
pub enum Late {
    Line(Shown, Option<Ids>, Worn),
    Item(Item),
}

impl Late {
    pub fn line(line: &Shown, entries: Option<Ids>, dress: Dress<'_>) -> Self {
        let worn = Worn {
            label: dress.label.map(Bytes::copy_from_slice),
            batch: dress.batch.map(Bytes::copy_from_slice),
        };
        Self::Line(line.clone(), entries, worn)
    }
}

impl World {
    /// No client is told of a batch that it does not know, or twice of the same.
    pub fn batched(&mut self, label: &str, line: &[u8]) {
        let client = self.clients.values_mut().find(|c| c.label == label);
        let (Some(client), Ok(parsed)) = (client, carom::wire::Line::parse(line)) else {
            return;
        };
        let text = escape(line);
        if let Some(batch) = parsed.tags().get(b"batch") {
            assert!(client.batches.contains(&batch[..]), "not open: {text}");
        }
        let reference = parsed.param(0).unwrap_or_default();
        match reference.split_first().filter(|_| parsed.is(b"BATCH")) {
            Some((b'+', name)) => {
                assert!(client.batches.insert(name.to_vec()), "open already: {text}");
            }
            Some((_, name)) => assert!(client.batches.remove(name), "not open: {text}"),
            None => {}
        }
    }

    /// Whether something waits in the client's queue.
    pub fn is_late(&mut self, id: ClientId, what: impl FnOnce() -> Late) -> bool {
        let client = self.clients.get_mut(&id);
        let waiting = client.and_then(|client| client.waiting.as_mut());
        waiting.is_some_and(|waiting| {
            waiting.push_back(what());
            true
        })
    }

    /// The client's writer goes on.
    pub fn hurry(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let waiting = client.waiting.take();
        for late in waiting.into_iter().flatten() {
            match late {
                Late::Line(line, entries, worn) => {
                    let dress = Dress {
                        label: worn.label.as_deref(),
                        batch: worn.batch.as_deref(),
                        ..Dress::default()
                    };
                    self.give(id, &line, entries, dress);
                }
                Late::Item(item) => self.put(id, item),
            }
        }
        self.turn(|_, _| {});
    }
}
