//! Actions become bytes, rows and queues. What the server, the log and the dialler get happens at once;
//! what clients get waits in `Held` for its lines to be stored.

use tracing::{debug, trace};

use crate::clock;
use crate::history::{EntryId, Write};
use crate::net::By;
use crate::state::{Action, Dial, LinkEnd, LinkStatus, NetworkStatus, Turn};

use super::Task;

impl Task {
    /// Performs a turn.
    pub(super) fn perform(&mut self, turn: Turn) {
        let mut writes = Vec::new();
        let mut last = EntryId::default();
        let mut for_clients = Vec::new();
        let mut overrun = false;
        for action in turn.actions {
            match action {
                Action::Send(line) => overrun |= !self.send(&line),
                Action::Record(write) => {
                    if let Write::Entry(entry) = &write {
                        last = entry.id;
                    }
                    writes.push(write);
                }
                Action::Credit(id, lines) => self.feeds.credit(id, lines),
                Action::Status(status) => self.publish(*status),
                Action::Unlink(end) => self.end_link(end),
                Action::Dial(dial) => self.begin_dialling(dial),
                for_client => for_clients.push(for_client),
            }
        }
        if !writes.is_empty() {
            self.log.append_all(writes);
        }
        if !for_clients.is_empty() {
            self.hold(for_clients, last, turn.now);
        }
        if overrun {
            self.lost("the server takes nothing any more");
        }
    }

    /// A turn that stores nothing, with nothing in front, leaves at once.
    fn hold(&mut self, actions: Vec<Action>, last: EntryId, now: crate::state::Now) {
        if last == EntryId::default() && self.held.is_empty() {
            self.deliver(actions);
            self.feeds.flush();
        } else {
            self.held.push(actions, last, now);
        }
    }

    /// Delivers whatever is stored or due.
    pub(super) fn release(&mut self, settled: EntryId) {
        if self.held.is_empty() {
            return;
        }
        let now = clock().ticks;
        let mut released = false;
        while let Some(turn) = self.held.pop(settled, now) {
            if turn.unstored {
                debug!(
                    user = self.user,
                    network = self.config.name,
                    "shown before it is stored"
                );
            }
            self.deliver(turn.actions);
            released = true;
        }
        if released {
            self.feeds.flush();
        }
    }

    fn deliver(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Deliver { to, line, entries } => self.feeds.deliver(&to, &line, entries),
                Action::Put(id, item) => self.feeds.put(id, item),
                Action::Admit(id) => self.feeds.admit(id),
                Action::View(id, view) => self.feeds.view(id, view),
                Action::Dismiss(id, reason) => self.feeds.dismiss(id, reason),
                // Done at once, in `perform`.
                Action::Send(_)
                | Action::Record(_)
                | Action::Credit(..)
                | Action::Status(_)
                | Action::Unlink(_)
                | Action::Dial(_) => {}
            }
        }
    }

    fn publish(&mut self, status: NetworkStatus) {
        // The winner proved to be of use: what is left of the race is not needed.
        if matches!(status.link, LinkStatus::Connected { .. })
            && let Some(cycle) = self.cycle.take()
        {
            cycle.confirm();
        }
        self.board.write(status);
    }

    fn send(&mut self, line: &[u8]) -> bool {
        trace!(
            user = self.user,
            network = self.config.name,
            bytes = line.len(),
            "to the server"
        );
        self.writer.as_mut().is_none_or(|writer| writer.push(line))
    }

    fn end_link(&mut self, end: LinkEnd) {
        self.reader = None;
        match (end, self.writer.take()) {
            (LinkEnd::Flush, Some(writer)) => super::link::let_go(writer),
            (LinkEnd::Drop | LinkEnd::Flush, _) => {}
        }
    }

    fn begin_dialling(&mut self, dial: Dial) {
        self.unlink();
        match (dial, &mut self.cycle) {
            (Dial::NextAddress, Some(cycle)) => cycle.reject("of no use"),
            _ => {
                let cycle = self.dialer.cycle(&self.config, &By::trusted(&self.user));
                self.board.follow(&self.config.name, cycle.trace());
                (self.cycle, self.logged) = (Some(cycle), 0);
            }
        }
        self.dialling = true;
    }
}
