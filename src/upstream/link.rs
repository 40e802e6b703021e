//! The connection to a server: read in batches, written as the socket takes it, closed with a
//! word. When, is `state`'s to say.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::{Scheme, Secret, ServerAddr};
use crate::net::{Address, Cycle, DialReport, Dialed, LineReader, ReadHalf, Stream, WriteHalf};
use crate::state::{self, Facts, Salted, Ticks};
use crate::wire::Framed;
use crate::wire::framing::Limits;

/// So long may the farewell to a server take.
const FAREWELL: Duration = Duration::from_secs(2);
/// A server that takes nothing while so much is to be sent is gone.
const MAX_UNSENT: usize = 1024 * 1024;

/// A password being hashed.
pub(super) type Salting = JoinHandle<Option<Salted>>;

/// Lines from the server.
pub(super) type Reader = LineReader<ReadHalf>;

/// Lines to the server: a buffer that is written as the socket takes it.
pub(super) struct Writer {
    half: WriteHalf,
    buffer: Vec<u8>,
    written: usize,
    /// TLS may hold back what the socket did not take.
    dirty: bool,
}

/// Counts what should be rare.
#[derive(Default)]
pub(super) struct PerMinute {
    since: Ticks,
    count: u32,
}

impl PerMinute {
    /// Counts so many more. Returns how many there were in this minute.
    pub(super) fn count(&mut self, more: u32, now: Ticks) -> u32 {
        if now.since(self.since) >= Duration::from_secs(60) {
            (self.since, self.count) = (now, 0);
        }
        self.count += more;
        self.count
    }
}

pub(super) fn open(stream: Stream) -> (Reader, Writer) {
    let (read, write) = stream.split();
    let writer = Writer {
        half: write,
        buffer: Vec::new(),
        written: 0,
        dirty: false,
    };
    (LineReader::new(read, Limits::SERVER), writer)
}

impl Writer {
    /// Adds a line. False: the server has taken nothing for far too long.
    pub(super) fn push(&mut self, line: &[u8]) -> bool {
        self.buffer.extend_from_slice(line);
        self.buffer.extend_from_slice(b"\r\n");
        self.buffer.len() <= MAX_UNSENT
    }

    /// Writes what is there. Cancel safe: what the socket took is counted at once.
    async fn flush(&mut self) -> io::Result<()> {
        while self.written < self.buffer.len() {
            let taken = self.half.write(&self.buffer[self.written..]).await?;
            if taken == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.written += taken;
            self.dirty = true;
        }
        // A buffer that grew for a burst is given back.
        self.buffer = Vec::new();
        self.written = 0;
        if self.dirty {
            self.half.flush().await?;
            self.dirty = false;
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.buffer.is_empty() && !self.dirty
    }
}

/// The next lines; never without a link.
pub(super) async fn read(
    reader: &mut Option<Reader>,
    lines: &mut Vec<Framed>,
) -> io::Result<usize> {
    match reader {
        Some(reader) => reader.read(lines).await,
        None => std::future::pending().await,
    }
}

/// Sends what is to be sent; never with nothing to send.
pub(super) async fn flush(writer: &mut Option<Writer>) -> io::Result<()> {
    match writer {
        Some(writer) if !writer.is_idle() => writer.flush().await,
        _ => std::future::pending().await,
    }
}

/// The next winner of the cycle.
pub(super) async fn dial(cycle: &mut Option<Cycle>) -> Result<Dialed, DialReport> {
    match cycle {
        Some(cycle) => Box::pin(cycle.next()).await,
        None => std::future::pending().await,
    }
}

/// Sends the last words and waits for the server to close.
pub(super) async fn farewell(reader: Option<Reader>, writer: Option<Writer>) {
    let (Some(mut reader), Some(mut writer)) = (reader, writer) else {
        return;
    };
    let said = async {
        writer.flush().await?;
        writer.half.shutdown().await?;
        let mut lines = Vec::new();
        while reader.read(&mut lines).await? > 0 {
            lines.clear();
        }
        io::Result::Ok(())
    };
    // A server that does not answer has been told all the same.
    _ = timeout(FAREWELL, said).await;
}

/// Sends the last words of a link that is given up, beside everything else.
pub(super) fn let_go(mut writer: Writer) {
    tokio::spawn(timeout(FAREWELL, async move {
        // Whether they arrive is all the same.
        _ = writer.flush().await;
        _ = writer.half.shutdown().await;
    }));
}

/// For people: server, address and protection.
pub(super) fn facts(dialed: &Dialed) -> Facts {
    let protection = dialed.stream.tls_version().unwrap_or("clear text");
    let (server, address) = (dialed.server.to_string(), dialed.address.to_string());
    let (host, port) = match &dialed.server {
        // What goes to this machine goes over no wire.
        ServerAddr::Unix(_)
        | ServerAddr::Tcp {
            scheme: Scheme::Local,
            ..
        } => (String::new(), 0),
        ServerAddr::Tcp { host, port, .. } => (host.clone(), *port),
    };
    let mut seed = [0; 16];
    getrandom::fill(&mut seed).expect("the system gives random bytes");
    Facts {
        via: format!("{server} ({address}), {protection}"),
        server,
        address,
        family: version(&dialed.address),
        protection: protection.to_owned(),
        host,
        port,
        is_tls: dialed.stream.tls_version().is_some(),
        seed,
    }
}

fn version(address: &Address) -> String {
    let version = address.version();
    version.map_or_else(String::new, |version| version.to_string())
}

/// Hashes a password for a login, on a thread of its own: that may take a second or some.
pub(super) fn begin_salting(password: Secret, salt: Bytes, iterations: u32) -> Salting {
    /// However many networks log in, something is left for everything else.
    static TURNS: Semaphore = Semaphore::const_new(2);
    tokio::spawn(async move {
        let _turn = TURNS.acquire().await.ok()?;
        let hash = move || state::salt(password.reveal(), &salt, iterations);
        tokio::task::spawn_blocking(hash).await.ok()
    })
}

/// The hash, when it is there; never without one under way.
pub(super) async fn salted(salting: &mut Option<Salting>) -> Option<Salted> {
    match salting {
        Some(running) => {
            let salted = running.await.ok().flatten();
            *salting = None;
            salted
        }
        None => std::future::pending().await,
    }
}

/// Why a connection failed, in few words.
pub(super) fn text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "the server reset the connection".to_owned(),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        io::ErrorKind::TimedOut => "the server is unreachable".to_owned(),
        _ => error.to_string(),
    }
}
