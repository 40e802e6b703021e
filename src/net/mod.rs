//! Sockets: listening, dialling, TLS and names, for both families alike. Knows no IRC beyond where a line ends.
//!
//! This file has what everybody else holds: `Stream`, one connection of any kind, its two halves, and `LineReader`.

pub mod acl;
mod attempt;
pub mod certfp;
mod clock;
pub mod dial;
mod dialer;
mod fault;
pub mod health;
pub mod ident;
pub mod listen;
mod listen_error;
mod lookup;
pub mod nat64;
pub mod open;
pub mod order;
pub mod pace;
pub mod peer;
mod pem;
pub mod plan;
pub mod proxy;
pub mod race;
pub mod reach;
pub mod resolve;
pub mod seldom;
pub mod settings;
mod socks;
pub mod source;
mod sys;
pub mod systemd;
pub mod tls;
pub mod trace;
mod trust;
pub mod upgrade;
mod websocket;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

pub use acl::Access;
pub use dial::{Cycle, DialReport, Dialed};
pub use dialer::{By, Dialer};
pub use ident::Idents;
pub use listen::Listener;
pub use listen_error::ListenError;
pub use pace::Pace;
pub use peer::{IpVersion, LimitKey, Peer};
pub use pem::PemError;
pub use race::{Address, Fault, FaultKind};
pub use resolve::Resolve;
pub use source::SourceKey;
pub use tls::{Acceptor, TlsError};
pub use trace::{Attempt, Outcome, Phase, Trace};
pub use trust::Fingerprint;

use crate::wire::Framed;
use crate::wire::framing::{Framer, Limits};

/// Lines given out by one read at most.
const LINES: usize = 256;
/// What one read can take, in a buffer that all connections of a thread share.
const SCRATCH: usize = 64 * 1024;

/// One connection, to a server or from a client. Flush after writing: TLS may hold back what the socket did not take.
#[derive(Debug)]
pub enum Stream {
    /// TCP in clear text, either way.
    Tcp(TcpStream),
    /// TLS from a client.
    TlsServer(Box<tls::ServerStream>),
    /// TLS to a server.
    TlsClient(Box<tls::ClientStream>),
    /// A unix socket, either way.
    Unix(UnixStream),
    /// From a web client: lines in messages, over one of the others.
    Web(Box<websocket::WebSocket>),
}

impl Stream {
    /// Bytes in the kernel's send queue (for TCP: not acknowledged by the peer), counting what TLS still holds as one;
    /// `None` where the system does not tell.
    pub fn unsent(&self) -> Option<usize> {
        let (socket, held) = match self {
            Self::Tcp(tcp) => (tcp.as_fd(), false),
            Self::TlsServer(tls) => (tls.get_ref().0.as_fd(), tls.get_ref().1.wants_write()),
            Self::TlsClient(tls) => (tls.get_ref().0.as_fd(), tls.get_ref().1.wants_write()),
            Self::Unix(unix) => (unix.as_fd(), false),
            Self::Web(web) => return web.unsent(),
        };
        Some(sys::unsent(socket)? + usize::from(held))
    }

    /// The largest packet that is known to fit the path, for IPv6.
    pub fn path_mtu(&self) -> Option<u32> {
        let tcp = match self {
            Self::Tcp(tcp) => tcp,
            Self::TlsServer(tls) => tls.get_ref().0,
            Self::TlsClient(tls) => tls.get_ref().0,
            Self::Unix(_) => return None,
            Self::Web(web) => return web.get_ref().path_mtu(),
        };
        let is_ipv6 = tcp.peer_addr().ok()?.ip().to_canonical().is_ipv6();
        sys::path_mtu(tcp.as_fd()).filter(|_| is_ipv6)
    }

    /// The certificate the peer showed, as a fingerprint.
    pub fn peer_fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Self::TlsServer(tls) => tls::fingerprint_of(tls.get_ref().1.peer_certificates()),
            Self::TlsClient(tls) => tls::fingerprint_of(tls.get_ref().1.peer_certificates()),
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Web(web) => web.get_ref().peer_fingerprint(),
        }
    }

    /// The version of TLS in use, `TLS 1.3`.
    pub fn tls_version(&self) -> Option<&'static str> {
        let version = match self {
            Self::TlsServer(tls) => tls.get_ref().1.protocol_version(),
            Self::TlsClient(tls) => tls.get_ref().1.protocol_version(),
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Web(web) => return web.get_ref().tls_version(),
        };
        version.map(tls::version_name)
    }

    /// Whether what is said here can be read by whoever is on the way.
    pub fn is_tls(&self) -> bool {
        match self {
            Self::TlsServer(_) | Self::TlsClient(_) => true,
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Web(web) => web.get_ref().is_tls(),
        }
    }

    /// Two halves for one task; a half is never held while waiting.
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        let shared = Arc::new(Mutex::new(self));
        (ReadHalf(Arc::clone(&shared)), WriteHalf(shared))
    }
}

/// Runs the same call on whichever connection it is.
macro_rules! forward {
    ($stream:expr, $call:ident, $context:expr $(, $argument:expr)?) => {
        match $stream {
            Stream::Tcp(inner) => Pin::new(inner).$call($context $(, $argument)?),
            Stream::TlsServer(inner) => Pin::new(inner.as_mut()).$call($context $(, $argument)?),
            Stream::TlsClient(inner) => Pin::new(inner.as_mut()).$call($context $(, $argument)?),
            Stream::Unix(inner) => Pin::new(inner).$call($context $(, $argument)?),
            Stream::Web(inner) => Pin::new(inner.as_mut()).$call($context $(, $argument)?),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        forward!(self.get_mut(), poll_read, context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        forward!(self.get_mut(), poll_write, context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self.get_mut(), poll_flush, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self.get_mut(), poll_shutdown, context)
    }
}

/// The half of a `Stream` that reads.
#[derive(Debug)]
pub struct ReadHalf(Arc<Mutex<Stream>>);

/// The half of a `Stream` that writes.
#[derive(Debug)]
pub struct WriteHalf(Arc<Mutex<Stream>>);

fn with<T>(shared: &Mutex<Stream>, call: impl FnOnce(Pin<&mut Stream>) -> T) -> T {
    call(Pin::new(
        &mut shared.lock().unwrap_or_else(PoisonError::into_inner),
    ))
}

impl ReadHalf {
    /// As `Stream::unsent`.
    pub fn unsent(&self) -> Option<usize> {
        with(&self.0, |stream| stream.unsent())
    }
}

impl WriteHalf {
    /// As `Stream::unsent`.
    pub fn unsent(&self) -> Option<usize> {
        with(&self.0, |stream| stream.unsent())
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        with(&self.0, |stream| stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        with(&self.0, |stream| stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with(&self.0, |stream| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with(&self.0, |stream| stream.poll_shutdown(context))
    }
}

/// Reads lines off a connection. An idle one holds no buffer.
#[derive(Debug)]
pub struct LineReader<R> {
    inner: R,
    framer: Framer,
}

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// A reader with these limits.
    pub fn new(inner: R, limits: Limits) -> Self {
        Self {
            inner,
            framer: Framer::new(limits),
        }
    }

    /// Appends what one read brought, at most 256 lines, and says how many; waits until there is one. 0: the peer has
    /// closed. Given up half way, nothing is lost.
    pub async fn read(&mut self, lines: &mut Vec<Framed>) -> io::Result<usize> {
        poll_fn(|context| self.poll_read(context, lines)).await
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        lines: &mut Vec<Framed>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let before = lines.len();
            lines.extend(std::iter::from_fn(|| self.framer.next()).take(LINES));
            if lines.len() > before {
                return Poll::Ready(Ok(lines.len() - before));
            }
            let taken = SHARED.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(&mut self.inner).poll_read(context, &mut buffer))?;
                self.framer.push(buffer.filled());
                Poll::Ready(io::Result::Ok(buffer.filled().len()))
            });
            if ready!(taken)? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
    }

    /// Changes the limits from the next line on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.framer.set_limits(limits);
    }

    /// The connection below.
    pub fn get_ref(&self) -> &R {
        &self.inner
    }

    /// Gives the connection back; bytes of an unfinished line are dropped.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio::net::TcpListener;

    use super::*;

    fn line(text: &[u8]) -> Framed {
        Framed::Line(Bytes::copy_from_slice(text))
    }

    async fn read_all(mut reader: LineReader<DuplexStream>) -> Vec<Framed> {
        let mut lines = Vec::new();
        while reader.read(&mut lines).await.unwrap() > 0 {}
        lines
    }

    #[tokio::test]
    async fn lines_come_as_they_are_and_the_end_is_zero() {
        let (mut peer, here) = duplex(1024);
        peer.write_all(b"NICK a\r\n\r\nUSER a\nUNFINI")
            .await
            .unwrap();
        drop(peer);
        let lines = read_all(LineReader::new(here, Limits::CLIENT)).await;
        assert_eq!(lines, [line(b"NICK a"), line(b"USER a")]);
    }

    #[tokio::test]
    async fn one_read_gives_256_lines_at_most_and_none_is_lost() {
        let (mut peer, here) = duplex(64 * 1024);
        peer.write_all(&b"PING 1\r\n".repeat(600)).await.unwrap();
        let mut reader = LineReader::new(here, Limits::CLIENT);
        let mut lines = Vec::new();
        for expected in [256, 256, 88] {
            assert_eq!(reader.read(&mut lines).await.unwrap(), expected);
        }
        assert!(lines.iter().all(|one| *one == line(b"PING 1")));
    }

    #[tokio::test]
    async fn a_read_given_up_half_way_loses_nothing() {
        let (mut peer, here) = duplex(1024);
        let mut reader = LineReader::new(here, Limits::CLIENT);
        let mut lines = Vec::new();
        peer.write_all(b"PRIVMSG #a :ha").await.unwrap();
        let given_up = poll_fn(|context| {
            let read = std::pin::pin!(reader.read(&mut lines));
            Poll::Ready(read.poll(context).is_pending())
        });
        assert!(given_up.await);
        peer.write_all(b"lf\r\n").await.unwrap();
        assert_eq!(reader.read(&mut lines).await.unwrap(), 1);
        assert_eq!(lines, [line(b"PRIVMSG #a :half")]);
    }

    async fn tcp_pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        (Stream::Tcp(listener.accept().await.unwrap().0), client)
    }

    #[tokio::test]
    async fn halves_work_side_by_side() {
        let (here, mut peer) = tcp_pair().await;
        let (reader, mut writer) = here.split();
        let mut reader = LineReader::new(reader, Limits::CLIENT);
        let mut lines = Vec::new();
        let write = async {
            writer.write_all(b"PING 1\r\n").await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let answer = async {
            let mut got = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut peer, &mut got)
                .await
                .unwrap();
            peer.write_all(
                &got.iter()
                    .map(|b| if *b == b'I' { b'O' } else { *b })
                    .collect::<Vec<_>>(),
            )
            .await
            .unwrap();
        };
        let (read, (), ()) = tokio::join!(reader.read(&mut lines), write, answer);
        assert_eq!((read.unwrap(), lines), (1, vec![line(b"PONG 1")]));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_path_over_ipv6_has_an_mtu() {
        // Every link of IPv6 carries so much.
        assert!(tcp_pair().await.0.path_mtu().unwrap() >= 1280);
        assert_eq!(Stream::Unix(UnixStream::pair().unwrap().0).path_mtu(), None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        assert_eq!(Stream::Tcp(client.await.unwrap()).path_mtu(), None);
    }

    #[tokio::test]
    async fn what_the_peer_does_not_take_is_unsent() {
        let (here, peer) = tcp_pair().await;
        let Stream::Tcp(tcp) = &here else {
            panic!("not TCP")
        };
        assert_eq!(here.unsent(), Some(0));
        // The peer reads nothing: its receive buffer fills, then our send queue.
        while tcp.try_write(&[0; 65_536]).is_ok() {}
        assert!(here.unsent().unwrap() > 0);
        drop(peer);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks_are_read_without_harm(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let whole = chunks.concat();
            let (cut, one) = runtime.block_on(async {
                let (mut peer, here) = duplex(1 << 16);
                for chunk in &chunks {
                    peer.write_all(chunk).await.unwrap();
                }
                drop(peer);
                let (mut other, there) = duplex(1 << 16);
                other.write_all(&whole).await.unwrap();
                drop(other);
                (read_all(LineReader::new(here, Limits::CLIENT)).await, read_all(LineReader::new(there, Limits::CLIENT)).await)
            });
            prop_assert_eq!(cut, one);
        }
    }
}
