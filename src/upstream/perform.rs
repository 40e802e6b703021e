//! Actions become bytes, rows and queues. What the server, the log and the dialler get happens at once;
//! what clients get waits in `Held` for its lines to be stored.

use tracing::{trace, warn};

use crate::clock;
use crate::history::{Entry, EntryId, Write};
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
        let before = self.traffic;
        for action in turn.actions {
            match action {
                Action::Send(line) => overrun |= !self.send(&line),
                Action::Record(write) => {
                    if let Write::Entry(entry) = &write {
                        last = entry.id;
                        self.write_down(entry);
                    }
                    writes.push(write);
                }
                Action::Credit(id, lines) => self.feeds.credit(id, lines),
                Action::Status(status) => self.publish(*status),
                Action::Unlink(end) => self.end_link(end),
                Action::Dial(dial) => self.begin_dialling(dial),
                Action::Salt {
                    password,
                    salt,
                    iterations,
                } => self.salting = Some(super::link::begin_salting(password, salt, iterations)),
                for_client => for_clients.push(for_client),
            }
        }
        if self.traffic.lines_sent > before.lines_sent {
            let lines = self.traffic.lines_sent - before.lines_sent;
            let bytes = self.traffic.bytes_sent - before.bytes_sent;
            self.counters.to_servers.add(lines, bytes);
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
        let (mut released, mut early) = (false, 0);
        while let Some(turn) = self.held.pop(settled, now) {
            early += turn.unstored;
            self.deliver(turn.actions);
            released = true;
        }
        if released {
            self.feeds.flush();
        }
        if released && early == 0 {
            self.is_early = false;
        }
        if early > 0 {
            if !std::mem::replace(&mut self.is_early, true) {
                warn!(
                    user = self.user,
                    network = self.config.name,
                    "storing takes long: lines are shown before they are stored"
                );
            }
            self.turn(|network, turn| network.shown_early(early, turn));
        }
    }

    fn deliver(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Deliver { to, line, entries } => self.feeds.deliver(&to, &line, entries),
                Action::Reply {
                    to,
                    line,
                    entries,
                    worn,
                } => self.feeds.reply(to, &line, entries, &worn),
                Action::Within {
                    to,
                    line,
                    entries,
                    batch,
                } => self.feeds.within(&to, &line, entries, &batch),
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
                | Action::Dial(_)
                | Action::Salt { .. } => {}
            }
        }
    }

    /// For the text logs, where there are any.
    fn write_down(&mut self, entry: &Entry) {
        if self.chat_logs.is_on() {
            let own = self.network.is_own_line(&entry.line);
            if !self.texts.push(own, entry) {
                self.chat_logs.leave_out();
            }
        }
    }

    /// Lines that are stored, or lost, go into the text logs.
    pub(super) fn write_texts(&mut self, settled: EntryId) {
        let (user, network) = (&self.user, &self.config.name);
        self.texts.write(settled, user, network, &self.chat_logs);
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
        self.traffic.lines_sent += 1;
        self.traffic.bytes_sent += line.len() as u64;
        self.writer.as_mut().is_none_or(|writer| writer.push(line))
    }

    fn end_link(&mut self, end: LinkEnd) {
        (self.reader, self.salting) = (None, None);
        match (end, self.writer.take()) {
            (LinkEnd::Flush, Some(writer)) => super::link::let_go(writer),
            (LinkEnd::Drop | LinkEnd::Flush, _) => {}
        }
    }

    fn begin_dialling(&mut self, dial: Dial) {
        if dial != Dial::Stop {
            self.unlink();
        }
        match (dial, &mut self.cycle) {
            (Dial::NextAddress, Some(cycle)) => cycle.reject("of no use"),
            (Dial::Stop, _) => self.cycle = None,
            (Dial::From(first), _) => self.begin_cycle(first),
            _ => self.begin_cycle(0),
        }
        self.dialling = dial != Dial::Stop;
    }

    /// Over all servers, from the one at this place in the list on.
    fn begin_cycle(&mut self, first: usize) {
        let by = By {
            is_trusted: self.config.trusted,
            ..By::trusted(&self.user)
        };
        let mut config = self.network.to_dial(clock().time);
        let servers = config.servers.len().max(1);
        config.servers.rotate_left(first % servers);
        let cycle = self.dialer.cycle(&config, &by);
        self.board.follow(&self.config.name, cycle.trace());
        (self.cycle, self.logged) = (Some(cycle), 0);
    }
}
