//! The clients of a network as the shell sees them: a queue each, the form in which they get lines, and
//! what is about to be put into the queue. Lines for all are gathered once for each form, not for each
//! client; one lock and one wake per client and release.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::history::{EntryId, Ids};
use crate::outbox::{self, Outbox};
use crate::state::forms::{self, Dress};
use crate::state::{Audience, ClientId, Item, Shown, View, Worn};

/// Lines for all are handed on when there is so much of them: a client's queue may be that much too long.
const STRETCH: usize = 32 * 1024;

/// All of them.
#[derive(Default)]
pub(super) struct Feeds {
    /// Admitted, or on the way to be.
    feeds: BTreeMap<ClientId, Feed>,
    /// Stored lines for all, one after the other, that are not in any feed yet.
    stretch: Stretch,
    /// The line at hand, once for each view.
    forms: Forms,
}

struct Feed {
    outbox: Arc<Outbox>,
    credit: Arc<Semaphore>,
    admitted: bool,
    view: View,
    /// Lines of this release.
    run: Vec<u8>,
    through: Option<EntryId>,
    /// Whether the client has enough to read: stored lines stay in the log.
    full: bool,
}

/// Stored lines that all admitted clients get, in each form. Empty without `ids`.
#[derive(Default)]
struct Stretch {
    ids: Option<Ids>,
    runs: Vec<(View, Vec<u8>)>,
}

impl Stretch {
    /// Adds a line, if it follows those that are there.
    fn add(&mut self, line: &Shown, ids: Ids) -> bool {
        match &mut self.ids {
            Some(all) if all.last.next() == ids.first => all.last = ids.last,
            _ => return false,
        }
        for (view, run) in &mut self.runs {
            forms::encode(line, *view, Dress::default(), run);
        }
        true
    }

    fn is_long(&self) -> bool {
        self.runs.iter().any(|(_, run)| run.len() >= STRETCH)
    }

    fn of(&self, view: View) -> &[u8] {
        self.runs
            .iter()
            .find(|(v, _)| *v == view)
            .map_or(&[], |(_, run)| run)
    }
}

/// A line in the forms its views need, so that each is made once.
#[derive(Default)]
struct Forms {
    bytes: Vec<u8>,
    views: Vec<(View, std::ops::Range<usize>)>,
}

impl Forms {
    fn clear(&mut self) {
        self.bytes.clear();
        self.views.clear();
    }

    fn of(&mut self, line: &Shown, view: View, batch: Option<&Bytes>) -> &[u8] {
        let dress = Dress {
            batch: batch.map(|batch| &batch[..]),
            ..Dress::default()
        };
        let known = self
            .views
            .iter()
            .find(|(v, _)| *v == view)
            .map(|(_, range)| range.clone());
        let range = known.unwrap_or_else(|| {
            let start = self.bytes.len();
            forms::encode(line, view, dress, &mut self.bytes);
            let range = start..self.bytes.len();
            self.views.push((view, range.clone()));
            range
        });
        &self.bytes[range]
    }
}

impl Feeds {
    /// A client that will be admitted in its turn.
    pub(super) fn expect(&mut self, id: ClientId, outbox: Arc<Outbox>, credit: Arc<Semaphore>) {
        let feed = Feed {
            outbox,
            credit,
            admitted: false,
            view: View::default(),
            run: Vec::new(),
            through: None,
            full: false,
        };
        self.feeds.insert(id, feed);
    }

    pub(super) fn admit(&mut self, id: ClientId) {
        self.end_stretch();
        if let Some(feed) = self.feeds.get_mut(&id) {
            feed.admitted = true;
        }
    }

    pub(super) fn remove(&mut self, id: ClientId) {
        self.end_stretch();
        self.feeds.remove(&id);
    }

    /// The client is told to go, after all that was meant for it.
    pub(super) fn dismiss(&mut self, id: ClientId, reason: String) {
        self.end_stretch();
        if let Some(mut feed) = self.feeds.remove(&id) {
            feed.flush();
            feed.outbox.push(Item::Close(reason));
        }
    }

    pub(super) fn credit(&self, id: ClientId, lines: u32) {
        if let Some(feed) = self.feeds.get(&id) {
            feed.credit.add_permits(lines as usize);
        }
    }

    /// Something that is not a line, in its place among the lines.
    pub(super) fn put(&mut self, id: ClientId, item: Item) {
        self.end_stretch();
        let Some(feed) = self.feeds.get_mut(&id) else {
            return;
        };
        feed.flush();
        if !feed.outbox.push(item) {
            self.dismiss(id, outbox::ASKS_TOO_FAST.to_owned());
        }
    }

    pub(super) fn view(&mut self, id: ClientId, view: View) {
        self.end_stretch();
        if let Some(feed) = self.feeds.get_mut(&id) {
            feed.view = view;
        }
        self.put(id, Item::View(view));
    }

    /// A line to those who get it.
    pub(super) fn deliver(&mut self, to: &Audience, line: &Shown, entries: Option<Ids>) {
        if let (Audience::All, Some(ids)) = (to, entries) {
            return self.deliver_to_all(line, ids);
        }
        self.end_stretch();
        self.forms.clear();
        let forms = &mut self.forms;
        let mut give = |feed: &mut Feed| feed.give(line, entries, None, forms);
        match to {
            Audience::All => self
                .feeds
                .values_mut()
                .filter(|f| f.admitted)
                .for_each(give),
            Audience::Except(id) => {
                let others = self
                    .feeds
                    .iter_mut()
                    .filter(|(other, f)| *other != id && f.admitted);
                others.for_each(|(_, feed)| give(feed));
            }
            Audience::One(id) => _ = self.feeds.get_mut(id).map(give),
            Audience::Only(ids) => {
                for id in ids {
                    _ = self.feeds.get_mut(id).map(&mut give);
                }
            }
        }
    }

    /// A line to some clients, in a batch that is open for them.
    pub(super) fn within(
        &mut self,
        to: &[ClientId],
        line: &Shown,
        entries: Option<Ids>,
        batch: &Bytes,
    ) {
        self.end_stretch();
        self.forms.clear();
        for id in to {
            if let Some(feed) = self.feeds.get_mut(id) {
                feed.give(line, entries, Some(batch), &mut self.forms);
            }
        }
    }

    /// A line that answers what the client asked. It stays bytes, also when the client has enough to read: the
    /// log knows no labels.
    pub(super) fn reply(&mut self, to: ClientId, line: &Shown, entries: Option<Ids>, worn: &Worn) {
        self.end_stretch();
        let Some(feed) = self.feeds.get_mut(&to) else {
            return;
        };
        let dress = Dress {
            label: worn.label.as_deref(),
            batch: worn.batch.as_deref(),
            ..Dress::default()
        };
        forms::encode(line, feed.view, dress, &mut feed.run);
        feed.through = entries.map(|ids| ids.last).or(feed.through);
    }

    /// What people say is nearly always of this kind.
    fn deliver_to_all(&mut self, line: &Shown, ids: Ids) {
        if !self.stretch.add(line, ids) {
            self.end_stretch();
            self.begin_stretch(ids);
            self.stretch.add(line, ids);
        }
        if self.stretch.is_long() {
            self.end_stretch();
        }
    }

    /// The clients that are admitted now, in their views of now, get what comes.
    fn begin_stretch(&mut self, ids: Ids) {
        self.stretch.ids = Some(Ids {
            first: ids.first,
            last: ids.first.before(),
        });
        let runs = &mut self.stretch.runs;
        for feed in self.feeds.values().filter(|feed| feed.admitted) {
            if !runs.iter().any(|(view, _)| *view == feed.view) {
                runs.push((feed.view, Vec::new()));
            }
        }
    }

    /// Hands on what was gathered.
    fn end_stretch(&mut self) {
        let Some(ids) = self.stretch.ids.take() else {
            return;
        };
        for feed in self.feeds.values_mut().filter(|feed| feed.admitted) {
            feed.give_stretch(self.stretch.of(feed.view), ids);
        }
        // Room that a burst needed is given back.
        self.stretch.runs.clear();
    }

    /// The end of a release: everything goes into the queues.
    pub(super) fn flush(&mut self) {
        self.end_stretch();
        let mut lost = Vec::new();
        for (id, feed) in &mut self.feeds {
            if !feed.flush() {
                lost.push(*id);
            }
            feed.full = false;
        }
        for id in lost {
            self.dismiss(id, outbox::READS_TOO_SLOWLY.to_owned());
        }
    }
}

impl Feed {
    /// Stored lines, all at once.
    fn give_stretch(&mut self, run: &[u8], ids: Ids) {
        self.full = self.full || self.outbox.is_full(self.run.len());
        if self.full {
            self.flush();
            return self.outbox.push_stored(ids);
        }
        self.through = Some(ids.last);
        self.run.extend_from_slice(run);
    }

    fn give(
        &mut self,
        line: &Shown,
        entries: Option<Ids>,
        batch: Option<&Bytes>,
        forms: &mut Forms,
    ) {
        if let Some(ids) = entries {
            self.full = self.full || self.outbox.is_full(self.run.len());
            if self.full {
                self.flush();
                return match batch {
                    Some(batch) => self.outbox.push_stored_within(ids, batch),
                    None => self.outbox.push_stored(ids),
                };
            }
            self.through = Some(ids.last);
        }
        self.run.extend_from_slice(forms.of(line, self.view, batch));
    }

    /// False: the client cannot be served any more.
    fn flush(&mut self) -> bool {
        if self.run.is_empty() && self.through.is_none() {
            return true;
        }
        self.outbox
            .push_run(std::mem::take(&mut self.run), self.through.take())
    }
}

/// The task ends, by order or by a fault: nobody waits for lines that do not come.
impl Drop for Feeds {
    fn drop(&mut self) {
        for feed in self.feeds.values_mut() {
            feed.flush();
            feed.outbox
                .push(Item::Close("The network was stopped".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Cap, Timestamp};

    const LIMIT: usize = 40 * 1024;

    fn line(text: &str) -> Shown {
        Shown {
            time: Timestamp::from_millis(1_767_340_805_010),
            msgid: None,
            tags: Bytes::new(),
            line: Bytes::copy_from_slice(text.as_bytes()),
        }
    }

    fn ids(first: u64, last: u64) -> Ids {
        Ids {
            first: EntryId(first),
            last: EntryId(last),
        }
    }

    fn feeds(clients: u64) -> (Feeds, Vec<Arc<Outbox>>) {
        let mut feeds = Feeds::default();
        let outboxes = (1..=clients).map(|id| {
            let outbox = Arc::new(Outbox::new(LIMIT, Arc::default()));
            feeds.expect(
                ClientId(id),
                Arc::clone(&outbox),
                Arc::new(Semaphore::new(1)),
            );
            feeds.admit(ClientId(id));
            outbox
        });
        let outboxes = outboxes.collect();
        (feeds, outboxes)
    }

    /// Items as text: `bytes through`, `first-last`, or what else it is.
    fn taken(outbox: &Outbox) -> Vec<String> {
        let items = outbox.take_now().into_iter().map(|item| match item {
            Item::Bytes { run, through } => {
                let run = String::from_utf8(run).unwrap().replace("\r\n", "|");
                format!("{run} {}", through.unwrap_or_default().0)
            }
            Item::Stored(ids) => format!("{}-{}", ids.first.0, ids.last.0),
            Item::StoredWithin(ids, batch) => {
                let batch = String::from_utf8_lossy(&batch).into_owned();
                format!("{}-{} in {batch}", ids.first.0, ids.last.0)
            }
            other => format!("{other:?}"),
        });
        items.collect()
    }

    #[test]
    fn lines_for_all_keep_their_place_among_other_things() {
        let (mut feeds, outboxes) = feeds(3);
        feeds.deliver(&Audience::All, &line("A"), Some(ids(1, 1)));
        feeds.deliver(&Audience::All, &line("B"), Some(ids(2, 3)));
        feeds.deliver(&Audience::One(ClientId(1)), &line("C"), None);
        feeds.deliver(&Audience::All, &line("D"), Some(ids(4, 4)));
        feeds.deliver(&Audience::Except(ClientId(2)), &line("E"), Some(ids(5, 5)));
        feeds.put(ClientId(3), Item::More);
        feeds.deliver(&Audience::All, &line("F"), Some(ids(6, 6)));
        feeds.flush();
        assert_eq!(taken(&outboxes[0]), ["A|B|C|D|E|F| 6"]);
        assert_eq!(taken(&outboxes[1]), ["A|B|D|F| 6"]);
        assert_eq!(taken(&outboxes[2]), ["A|B|D|E| 5", "More", "F| 6"]);
    }

    #[test]
    fn each_client_has_its_own_form_from_its_change_on() {
        let (mut feeds, outboxes) = feeds(2);
        feeds.deliver(&Audience::All, &line("A"), Some(ids(1, 1)));
        let view = View::of([Cap::ServerTime].into_iter().collect());
        feeds.view(ClientId(2), view);
        feeds.deliver(&Audience::All, &line("B"), Some(ids(2, 2)));
        feeds.flush();
        assert_eq!(taken(&outboxes[0]), ["A|B| 2"]);
        let second = taken(&outboxes[1]);
        assert_eq!(
            (second[0].as_str(), second[2].as_str()),
            ("A| 1", "@time=2026-01-02T08:00:05.010Z B| 2")
        );
    }

    #[test]
    fn a_client_with_enough_to_read_finds_the_rest_in_the_log() {
        let (mut feeds, outboxes) = feeds(1);
        let long = "X".repeat(1022);
        for id in 1..=200 {
            feeds.deliver(&Audience::All, &line(&long), Some(ids(id, id)));
        }
        feeds.flush();
        let items = taken(&outboxes[0]);
        assert_eq!(items.len(), 2, "bytes, then a range");
        let through: u64 = items[0].rsplit(' ').next().unwrap().parse().unwrap();
        assert!(items[0].len() <= LIMIT + STRETCH + 1024);
        assert_eq!(items[1], format!("{}-200", through + 1));
    }

    #[test]
    fn lines_of_a_batch_keep_it_when_they_are_found_in_the_log() {
        let (mut feeds, outboxes) = feeds(2);
        let view = View::of([Cap::Batch].into_iter().collect());
        feeds.view(ClientId(1), view);
        let both = [ClientId(1), ClientId(2)];
        let (one, two) = (Bytes::from_static(b"up1"), Bytes::from_static(b"up2"));
        feeds.within(&both, &line("A"), Some(ids(1, 2)), &one);
        feeds.within(&both, &line(&"X".repeat(LIMIT)), Some(ids(3, 3)), &one);
        feeds.within(&both, &line("B"), Some(ids(4, 4)), &one);
        feeds.within(&both, &line("C"), Some(ids(5, 6)), &one);
        feeds.within(&both, &line("D"), Some(ids(7, 7)), &two);
        feeds.within(&both, &line("E"), None, &two);
        feeds.deliver(&Audience::All, &line("F"), Some(ids(8, 8)));
        feeds.flush();
        let first = taken(&outboxes[0]);
        assert!(
            first[1].starts_with("@batch=up1 A|@batch=up1 XX"),
            "{}",
            &first[1][..30]
        );
        let rest = ["4-6 in up1", "7-7 in up2", "@batch=up2 E| 0", "8-8"];
        assert_eq!(first[2..], rest);
        let second = taken(&outboxes[1]);
        assert!(second[0].starts_with("A|XX"), "{}", &second[0][..30]);
    }

    #[test]
    fn a_client_that_comes_or_goes_changes_nothing_for_the_others() {
        let (mut feeds, outboxes) = feeds(2);
        feeds.deliver(&Audience::All, &line("A"), Some(ids(1, 1)));
        feeds.remove(ClientId(2));
        let late = Arc::new(Outbox::new(LIMIT, Arc::default()));
        feeds.expect(ClientId(3), Arc::clone(&late), Arc::new(Semaphore::new(1)));
        feeds.deliver(&Audience::All, &line("B"), Some(ids(2, 2)));
        feeds.admit(ClientId(3));
        feeds.deliver(&Audience::All, &line("C"), Some(ids(3, 3)));
        feeds.flush();
        assert_eq!(taken(&outboxes[0]), ["A|B|C| 3"]);
        assert_eq!(taken(&late), ["C| 3"]);
    }
}
