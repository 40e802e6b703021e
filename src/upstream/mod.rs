//! The task of one network: feeds what happens to `state::Network` and performs what comes out. It waits
//! for nobody: not for a client, not for the disk, not for the bouncer. Dialling is one arm of its loop.

mod feeds;
mod held;
mod link;
mod perform;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::clock;
use crate::config;
use crate::directory::Board;
use crate::history::{EntryId, Log};
use crate::mailbox::{Arrival, ToNetwork};
use crate::net::{Cycle, DialReport, Dialed, Dialer};
use crate::state::{Loss, Network, Ticks, Turn};
use crate::wire::Framed;

use feeds::Feeds;
use held::Held;
use link::{PerMinute, Reader, Writer};

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
    /// Where it tells how it is doing.
    pub board: Board,
    /// For log lines: whose it is.
    pub user: String,
}

/// The shell around one `state::Network`.
struct Task {
    network: Box<Network>,
    config: Arc<config::Network>,
    log: Log,
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
    feeds: Feeds,
    held: Held,
    /// Lines of one read, kept for its room.
    lines: Vec<Framed>,
    /// Lines that were too long or held a NUL.
    unreadable: PerMinute,
}

/// What woke the task.
enum Event {
    Read(io::Result<usize>),
    Flushed(io::Result<()>),
    Dialled(Box<Result<Dialed, DialReport>>),
    Message(ToNetwork),
    Settled,
    Due,
}

/// Runs a network until it is told to stop.
pub async fn run(setup: Setup) {
    let mut settled = setup.log.settled();
    let mut inbox = setup.inbox;
    let mut task = Task {
        network: setup.network,
        config: setup.config,
        log: setup.log,
        dialer: setup.dialer,
        board: setup.board,
        user: setup.user,
        reader: None,
        writer: None,
        cycle: None,
        dialling: false,
        logged: 0,
        feeds: Feeds::default(),
        held: Held::default(),
        lines: Vec::new(),
        unreadable: PerMinute::default(),
    };
    task.turn(Network::start);
    loop {
        task.release(*settled.borrow_and_update());
        let due = task.due();
        let event = tokio::select! {
            read = link::read(&mut task.reader, &mut task.lines) => Event::Read(read),
            flushed = link::flush(&mut task.writer) => Event::Flushed(flushed),
            dialled = link::dial(&mut task.cycle), if task.dialling => Event::Dialled(Box::new(dialled)),
            message = inbox.recv() => match message {
                Some(message) => Event::Message(message),
                None => return,
            },
            _ = settled.changed(), if !task.held.is_empty() => Event::Settled,
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
                _ = done.send(());
                return;
            }
            event => task.on_event(event),
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
            Event::Settled => {}
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
        let mut unreadable = 0;
        self.turn(|network, turn| {
            for line in lines.drain(..) {
                // What was too long or held a NUL is left out; the next line is read as usual.
                match line {
                    Framed::Line(line) => network.receive(&line, turn),
                    Framed::TooLong | Framed::Refused => unreadable += 1,
                }
            }
        });
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
        (self.reader, self.writer) = (None, None);
    }

    fn due(&self) -> Option<Ticks> {
        [self.network.deadline(), self.held.due()]
            .into_iter()
            .flatten()
            .min()
    }
}
