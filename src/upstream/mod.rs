//! The task of one network: feeds what happens to `state::Network` and performs what comes out. It waits
//! for nobody: not for a client, not for the disk, not for the bouncer. Dialling is one arm of its loop.

mod feeds;
mod held;
mod link;
mod perform;
mod texts;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::chatlog::ChatLogs;
use crate::clock;
use crate::config;
use crate::directory::Board;
use crate::history::{EntryId, Keep, Log};
use crate::mailbox::{Arrival, ToNetwork};
use crate::metrics::Counters;
use crate::net::{self, Cycle, DialReport, Dialed, Dialer};
use crate::state::orders::{Outcome, Traffic};
use crate::state::{Item, Loss, Network, Salted, Ticks, Turn};
use crate::wire::Framed;

use feeds::Feeds;
use held::Held;
use link::{PerMinute, Reader, Salting, Writer};
use texts::Texts;

/// More unreadable lines a minute than these, and a server is left.
const MAX_UNREADABLE: u32 = 10;
/// So long may clients take to close when the daemon stops.
const PARTING: Duration = Duration::from_secs(2);

/// Lines of a small read find room without asking for any.
const KEPT_LINES: usize = 8;

/// What a network runs with.
pub struct Setup {
    /// Its state.
    pub network: Box<Network>,
    /// What it is run by.
    pub config: Arc<config::Network>,
    /// Its log.
    pub log: Log,
    /// Where it takes messages.
    pub inbox: mpsc::Receiver<ToNetwork>,
    /// Reaches servers.
    pub dialer: Dialer,
    /// The text logs of what is said.
    pub chat_logs: ChatLogs,
    /// Where it tells how it is doing.
    pub board: Board,
    /// What all networks count.
    pub counters: Arc<Counters>,
    /// For log lines: whose it is.
    pub user: String,
}

/// The shell around one `state::Network`.
struct Task {
    network: Box<Network>,
    config: Arc<config::Network>,
    log: Log,
    chat_logs: ChatLogs,
    texts: Texts,
    dialer: Dialer,
    board: Board,
    user: String,
    /// Registering or registered: the two halves of the connection.
    reader: Option<Reader>,
    writer: Option<Writer>,
    /// The cycle over the addresses; kept while its winner may still prove to be of no use.
    cycle: Option<Cycle>,
    dialling: bool,
    /// How many attempts of the cycle the log has.
    logged: usize,
    /// The password of a login under way.
    salting: Option<Salting>,
    feeds: Feeds,
    held: Held,
    /// Lines were shown before they were stored, and the log says so.
    is_early: bool,
    /// Lines of one read, kept for its room.
    lines: Vec<Framed>,
    /// Lines that were too long or held a NUL.
    unreadable: PerMinute,
    traffic: Traffic,
    counters: Arc<Counters>,
}

/// What woke the task.
enum Event {
    Read(io::Result<usize>),
    Flushed(io::Result<()>),
    Dialled(Box<Result<Dialed, DialReport>>),
    Message(ToNetwork),
    Salted(Option<Salted>),
    Settled,
    Lost,
    Due,
}

/// Runs a network until it is told to stop.
pub async fn run(setup: Setup) {
    let mut settled = setup.log.settled();
    let mut losing = setup.log.losing();
    // What an earlier holder of the log was not told.
    losing.mark_changed();
    let mut inbox = setup.inbox;
    let mut task = Task {
        network: setup.network,
        config: setup.config,
        log: setup.log,
        chat_logs: setup.chat_logs,
        texts: Texts::default(),
        dialer: setup.dialer,
        board: setup.board,
        user: setup.user,
        reader: None,
        writer: None,
        cycle: None,
        dialling: false,
        logged: 0,
        salting: None,
        feeds: Feeds::default(),
        held: Held::default(),
        is_early: false,
        lines: Vec::new(),
        unreadable: PerMinute::default(),
        traffic: Traffic::default(),
        counters: setup.counters,
    };
    task.turn(Network::start);
    loop {
        let stored = *settled.borrow_and_update();
        task.release(stored);
        task.write_texts(stored);
        let due = task.due();
        let event = tokio::select! {
            read = link::read(&mut task.reader, &mut task.lines) => Event::Read(read),
            flushed = link::flush(&mut task.writer) => Event::Flushed(flushed),
            dialled = link::dial(&mut task.cycle), if task.dialling => Event::Dialled(Box::new(dialled)),
            message = inbox.recv() => match message {
                Some(message) => Event::Message(message),
                None => return,
            },
            salted = link::salted(&mut task.salting) => Event::Salted(salted),
            _ = settled.changed(), if task.awaits_store() => Event::Settled,
            Ok(()) = losing.changed() => Event::Lost,
            () = at(due) => Event::Due,
        };
        match event {
            Event::Message(ToNetwork::Stop(reason, done)) => {
                task.turn(|network, turn| network.stop(&reason, turn));
                task.release(EntryId::MAX);
                let (reader, writer) = (task.reader.take(), task.writer.take());
                // Boxed, as is what is rare in `link`: every idle network would have its size.
                let farewell = Box::pin(link::farewell(reader, writer));
                tokio::join!(farewell, Box::pin(task.part(&mut inbox)));
                // The last of what is said waits for its commit, as all before it did.
                let last = task.texts.last();
                _ = tokio::time::timeout(PARTING, settled.wait_for(|id| *id >= last)).await;
                task.write_texts(EntryId::MAX);
                _ = done.send(());
                return turn_away(inbox, &reason);
            }
            event => task.on_event(event),
        }
    }
}

/// Clients that found the network before it stopped, and came too late.
fn turn_away(mut inbox: mpsc::Receiver<ToNetwork>, reason: &str) {
    inbox.close();
    while let Ok(message) = inbox.try_recv() {
        if let ToNetwork::Attach(arrival) = message {
            arrival.outbox.push(Item::Close(reason.to_owned()));
        }
    }
}

/// Waits for a moment of [`clock`]; for ever when there is none.
async fn at(due: Option<Ticks>) {
    match due {
        Some(due) => tokio::time::sleep(due.since(clock().ticks)).await,
        None => std::future::pending().await,
    }
}

impl Task {
    fn on_event(&mut self, event: Event) {
        match event {
            Event::Read(Ok(0)) => self.lost("the server closed the connection"),
            Event::Read(Err(error)) => self.lost(&link::text(&error)),
            Event::Read(Ok(_)) => self.on_lines(),
            Event::Flushed(Ok(())) => {}
            Event::Flushed(Err(error)) => self.lost(&link::text(&error)),
            Event::Dialled(dialled) => self.on_dialled(*dialled),
            Event::Message(message) => self.on_message(message),
            Event::Salted(Some(salted)) => {
                self.turn(|network, turn| network.salted(&salted, turn));
            }
            Event::Salted(None) | Event::Settled => {}
            Event::Lost => {
                if let Some(lost) = self.log.take_lost() {
                    self.turn(|network, turn| network.lost(lost, turn));
                }
            }
            Event::Due => self.turn(Network::tick),
        }
    }

    /// Waits for what the clients that were sent away prove by closing in order.
    async fn part(&mut self, inbox: &mut mpsc::Receiver<ToNetwork>) {
        let gone = async {
            while self.network.has_clients() {
                let Some(message) = inbox.recv().await else {
                    return;
                };
                self.on_message(message);
            }
        };
        // Whoever does not close is told again what was said to him last.
        _ = tokio::time::timeout(PARTING, gone).await;
    }

    /// One input, and everything that follows from it.
    fn turn(&mut self, input: impl FnOnce(&mut Network, &mut Turn)) {
        let mut turn = Turn::new(clock());
        input(&mut self.network, &mut turn);
        self.perform(turn);
    }

    /// All that one read brought is one turn, hence one append and one write to each client.
    fn on_lines(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        let (mut unreadable, mut traffic) = (0, self.traffic);
        self.turn(|network, turn| {
            for line in lines.drain(..) {
                // What was too long or held a NUL is left out; the next line is read as usual.
                match line {
                    Framed::Line(line) => {
                        traffic.lines_received += 1;
                        traffic.bytes_received += line.len() as u64;
                        network.receive(&line, turn);
                    }
                    Framed::TooLong | Framed::Refused => unreadable += 1,
                }
            }
        });
        self.counters.from_servers.add(
            traffic.lines_received - self.traffic.lines_received,
            traffic.bytes_received - self.traffic.bytes_received,
        );
        self.traffic.lines_received = traffic.lines_received;
        self.traffic.bytes_received = traffic.bytes_received;
        // Room for a burst would be kept by every idle network.
        if lines.capacity() <= KEPT_LINES {
            self.lines = lines;
        }
        if self.unreadable.count(unreadable, clock().ticks) > MAX_UNREADABLE {
            self.lost("the server sends what cannot be read");
        }
    }

    fn on_message(&mut self, message: ToNetwork) {
        match message {
            // Whoever asked and is gone needs no answer.
            ToNetwork::Question(client, answer) => {
                _ = answer.send(self.network.question(&client));
            }
            ToNetwork::Attach(arrival) => {
                let Arrival {
                    newcomer,
                    outbox,
                    credit,
                } = *arrival;
                self.feeds.expect(newcomer.id, outbox, credit);
                self.turn(|network, turn| network.attach(newcomer, turn));
            }
            ToNetwork::Line(from, line) => {
                self.turn(|network, turn| network.relay(from, &line, turn));
            }
            ToNetwork::TooLong(from) => self.turn(|network, turn| network.too_long(from, turn)),
            ToNetwork::Proved(from, proof) => {
                self.turn(|network, turn| network.proved(from, &proof, turn));
            }
            ToNetwork::More(from) => self.turn(|network, turn| network.more(from, turn)),
            ToNetwork::Detach(from, proof) => {
                self.feeds.remove(from);
                self.turn(|network, turn| network.detach(from, &proof, turn));
            }
            ToNetwork::Forget(name) => self.turn(|network, turn| network.forget_name(&name, turn)),
            ToNetwork::Order(order, answer) => {
                let mut outcome = None;
                self.turn(|network, turn| outcome = Some(network.order(order, turn)));
                if let Some(Outcome::Status(details)) = &mut outcome {
                    details.traffic = self.traffic;
                }
                // Whoever asked and is gone needs no answer.
                if let Some(outcome) = outcome {
                    _ = answer.send(outcome);
                }
            }
            ToNetwork::Configure(settings) => {
                if self.config.name != settings.network.name {
                    self.board
                        .renamed(&self.config.name, &settings.network.name);
                }
                self.config = Arc::new(settings.network.clone());
                self.log.keep(Keep::from(&*self.config));
                self.turn(|network, turn| network.configure(*settings, turn));
            }
            ToNetwork::Leave(channel) => {
                self.turn(|network, turn| network.leave(&channel, turn));
            }
            // The loop takes it.
            ToNetwork::Stop(..) => {}
        }
    }

    fn on_dialled(&mut self, dialled: Result<Dialed, DialReport>) {
        self.dialling = false;
        self.log_attempts();
        match dialled {
            Ok(dialed) => {
                let facts = link::facts(&dialed);
                info!(
                    user = self.user,
                    network = self.config.name,
                    "connected to {}",
                    facts.via
                );
                let (reader, writer) = link::open(dialed.stream);
                (self.reader, self.writer) = (Some(reader), Some(writer));
                self.turn(|network, turn| network.linked(facts, turn));
            }
            Err(report) => {
                warn!(
                    user = self.user,
                    network = self.config.name,
                    "not reached: {report}"
                );
                self.cycle = None;
                self.turn(|network, turn| {
                    network.unlinked(Loss::NotReached(report.to_string()), turn);
                });
            }
        }
    }

    /// What came of each address since the last time.
    fn log_attempts(&mut self) {
        let attempts = self.cycle.as_ref().map_or(&[][..], Cycle::attempts);
        for attempt in attempts.iter().skip(self.logged) {
            info!(user = self.user, network = self.config.name, "{attempt}");
            match &attempt.outcome {
                net::Outcome::Failed(fault) => self.counters.dials.add(fault.kind.word()),
                net::Outcome::Won => self.counters.dials.add("ready"),
                net::Outcome::Outrun | net::Outcome::Pending => self.counters.dials.add("outrun"),
            }
        }
        self.logged = attempts.len();
    }

    /// The connection ended without our doing.
    fn lost(&mut self, why: &str) {
        warn!(user = self.user, network = self.config.name, "{why}");
        self.unlink();
        if let Some(cycle) = &mut self.cycle {
            cycle.reject(why);
        }
        self.turn(|network, turn| network.unlinked(Loss::Closed(why.to_owned()), turn));
    }

    fn unlink(&mut self) {
        (self.reader, self.writer, self.salting) = (None, None, None);
    }

    /// Whether something is to be done when lines are stored.
    fn awaits_store(&self) -> bool {
        !self.held.is_empty() || !self.texts.is_empty()
    }

    fn due(&self) -> Option<Ticks> {
        [self.network.deadline(), self.held.due()]
            .into_iter()
            .flatten()
            .min()
    }
}
