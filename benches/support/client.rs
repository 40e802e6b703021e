//! A client that looks at as little as it can: it counts lines and answers the PINGs that ask for proof.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use memchr::{memchr_iter, memmem, memrchr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};

use super::PASSWORD;

/// Counts what clients have read, all of them together.
#[derive(Clone, Default)]
pub struct Gauge(Rc<Inner>);

#[derive(Default)]
struct Inner {
    lines: Cell<u64>,
    wanted: Cell<u64>,
    reached: Notify,
}

impl Gauge {
    /// So many lines of a channel.
    pub fn lines(&self) -> u64 {
        self.0.lines.get()
    }

    fn add(&self, lines: u64) {
        let lines = self.0.lines.get() + lines;
        self.0.lines.set(lines);
        if lines >= self.0.wanted.get() {
            self.0.reached.notify_one();
        }
    }

    /// Waits until so many lines have been read since the beginning.
    pub async fn reach(&self, lines: u64) {
        self.0.wanted.set(lines);
        let reached = async {
            while self.lines() < lines {
                self.0.reached.notified().await;
            }
        };
        let limit = std::time::Duration::from_secs(120);
        let in_time = tokio::time::timeout(limit, reached).await;
        assert!(in_time.is_ok(), "{} of {lines} lines came", self.lines());
    }
}

/// An attached client. Dropped, its connection is closed.
pub struct Client {
    task: JoinHandle<()>,
    quit: Rc<Notify>,
    over: bool,
}

impl Client {
    /// Connects and logs in as `user/net@name`; from then on a task reads.
    pub async fn attach(addr: SocketAddr, login: &str, caps: &str, gauge: &Gauge) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::attach_on(stream, login, caps, gauge).await
    }

    /// The same on a connection of any kind.
    pub async fn attach_on<S>(mut stream: S, login: &str, caps: &str, gauge: &Gauge) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let caps = match caps {
            "" => String::new(),
            caps => format!("CAP REQ :{caps}\r\n"),
        };
        let hello = format!(
            "{caps}PASS {login}:{PASSWORD}\r\nNICK zed\r\nUSER zed 0 * :Zed\r\n{}",
            if caps.is_empty() { "" } else { "CAP END\r\n" }
        );
        stream.write_all(hello.as_bytes()).await.unwrap();
        let quit = Rc::new(Notify::new());
        let welcomed = Rc::new(Notify::new());
        let reading = Reading {
            gauge: gauge.clone(),
            rest: Vec::new(),
            welcomed: Some(Rc::clone(&welcomed)),
        };
        let task = spawn_local(read(stream, reading, Rc::clone(&quit)));
        welcomed.notified().await;
        Self {
            task,
            quit,
            over: false,
        }
    }

    /// Says QUIT, reads to the end and closes: an orderly end.
    pub async fn quit(mut self) {
        self.over = true;
        self.quit.notify_one();
        (&mut self.task).await.unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.over {
            self.task.abort();
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 * 1024]);
}

struct Reading {
    gauge: Gauge,
    /// A line that is not complete.
    rest: Vec<u8>,
    welcomed: Option<Rc<Notify>>,
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    mut reading: Reading,
    quit: Rc<Notify>,
) {
    loop {
        let read = async {
            std::future::poll_fn(|cx| {
                SCRATCH.with_borrow_mut(|scratch| {
                    let mut buffer = tokio::io::ReadBuf::new(scratch);
                    std::task::ready!(std::pin::Pin::new(&mut stream).poll_read(cx, &mut buffer))?;
                    let answer = reading.take(buffer.filled());
                    std::task::Poll::Ready(io::Result::Ok((buffer.filled().len(), answer)))
                })
            })
            .await
        };
        let read = tokio::select! {
            read = read => read,
            () = quit.notified() => {
                _ = stream.write_all(b"QUIT\r\n").await;
                let mut rest = Vec::new();
                _ = stream.read_to_end(&mut rest).await;
                return;
            }
        };
        match read {
            Ok((0, _)) | Err(_) => return,
            Ok((_, Some(answer))) => {
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Ok((_, None)) => {}
        }
    }
}

impl Reading {
    /// Counts, and looks for a PING.
    fn take(&mut self, chunk: &[u8]) -> Option<String> {
        let joined;
        let whole = if self.rest.is_empty() {
            chunk
        } else {
            self.rest.extend_from_slice(chunk);
            joined = std::mem::take(&mut self.rest);
            &joined[..]
        };
        let end = memrchr(b'\n', whole).map_or(0, |at| at + 1);
        let (lines, rest) = whole.split_at(end);
        self.rest = rest.to_vec();
        self.count(lines);
        let at = memmem::rfind(lines, b"PING :carom")?;
        let token = lines[at..]
            .split(|b| *b == b'\r')
            .next()?
            .strip_prefix(b"PING ")?;
        Some(format!("PONG {}\r\n", String::from_utf8_lossy(token)))
    }

    fn count(&mut self, lines: &[u8]) {
        if let Some(welcomed) = &self.welcomed {
            let over = memmem::find(lines, b" 422 ").or_else(|| memmem::find(lines, b" 376 "));
            if over.is_some() {
                welcomed.notify_one();
                self.welcomed = None;
            }
        }
        // Everything but what people say is rare: most chunks need no second look.
        let all = memchr_iter(b'\n', lines).count();
        let said = if all < 64 || self.welcomed.is_some() || memmem::find(lines, b" 353 ").is_some()
        {
            memmem::find_iter(lines, b" PRIVMSG ").count()
        } else {
            all - memmem::find_iter(lines, b"PING :carom").count()
                - memmem::find_iter(lines, b" BATCH ").count()
        };
        if said > 0 {
            self.gauge.add(said as u64);
        }
    }
}
