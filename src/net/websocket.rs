//! Lines of IRC in the messages of a WebSocket, one in each: seen from inside it is a connection like any other. The frames
//! are tungstenite's, the opening handshake is `upgrade`'s, what the lines say is of no interest here.

use std::fmt;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, FrameHeader, Utf8Bytes};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::Stream;

/// A longer message ends the connection. One that is only longer than a line may be gets the answer of a line that is.
pub(super) const LONGEST_MESSAGE: usize = 16 * 1024;
/// What one read can take, kept for the whole connection.
const READ: usize = 4096;
/// So many bytes of frames wait for the connection below before no further lines are taken.
const FULL: usize = 16 * 1024;
/// A longer line is never written.
const LONGEST_LINE: usize = 64 * 1024;

/// What messages are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, where what is not UTF-8 becomes U+FFFD: a browser ends a connection that sends it anything else.
    Text,
    /// The bytes as they are.
    Binary,
}

/// The connection of a web client after its handshake. Its two halves belong into one task, as those of `Stream`.
pub struct WebSocket {
    inner: Stream,
    context: WebSocketContext,
    kind: Kind,
    /// The rest of a message that was read, with its line end.
    incoming: Bytes,
    /// Frames the connection below has not taken.
    outgoing: BytesMut,
    /// The beginning of a line to write.
    begun: Vec<u8>,
    end: End,
}

/// How the peer's side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has not.
    Open,
    /// By its close frame, when so much was unsent.
    Closed(Option<usize>),
    /// It broke the rules and was told so; what it says further is dropped.
    Failed,
}

impl WebSocket {
    /// After the handshake; `ahead` was read with it.
    pub(super) fn new(inner: Stream, kind: Kind, ahead: Vec<u8>) -> Self {
        let limits = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0)
            .max_write_buffer_size(READ)
            .max_message_size(Some(LONGEST_MESSAGE))
            .max_frame_size(Some(LONGEST_MESSAGE));
        Self {
            inner,
            context: WebSocketContext::from_partially_read(ahead, Role::Server, Some(limits)),
            kind,
            incoming: Bytes::new(),
            outgoing: BytesMut::new(),
            begun: Vec::new(),
            end: End::Open,
        }
    }

    /// The connection below.
    pub(super) fn get_ref(&self) -> &Stream {
        &self.inner
    }

    /// As `Stream::unsent`. After the peer's close frame it is what was unsent when that came: our answer to it tells
    /// nothing, and what the peer took later it may not have looked at.
    pub(super) fn unsent(&self) -> Option<usize> {
        match self.end {
            End::Closed(unsent) => unsent,
            End::Open | End::Failed => {
                Some(self.inner.unsent()? + self.outgoing.len() + self.begun.len())
            }
        }
    }

    /// The library at work on our connection. It may add control frames up to a limit.
    fn with<T>(
        &mut self,
        context: &mut Context<'_>,
        limit: usize,
        call: impl FnOnce(&mut WebSocketContext, &mut Wire<'_, '_>) -> T,
    ) -> T {
        let mut wire = Wire {
            inner: &mut self.inner,
            outgoing: &mut self.outgoing,
            limit,
            context,
        };
        call(&mut self.context, &mut wire)
    }

    /// The next message of the peer; `None`: it has closed.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            match self.end {
                End::Open => {}
                End::Closed(_) => return Poll::Ready(Ok(None)),
                End::Failed => return self.poll_drop(context),
            }
            match self.with(context, FULL, |web, wire| web.read(wire)) {
                Ok(Message::Text(text)) => return Poll::Ready(Ok(Some(text.into()))),
                Ok(Message::Binary(bytes)) => return Poll::Ready(Ok(Some(bytes))),
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed) => {
                    self.end = End::Closed(self.unsent());
                    // That the connection is closed is no news.
                    _ = self.with(context, usize::MAX, |web, wire| web.flush(wire));
                }
                // The library answers a ping at its next turn.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Poll::Pending;
                }
                Err(error) => self.fail(context, &error)?,
            }
        }
    }

    /// Tells the peer what it did wrong. An error: there is nobody to be told.
    fn fail(&mut self, context: &mut Context<'_>, error: &Error) -> io::Result<()> {
        let code = match error {
            Error::Capacity(_) => CloseCode::Size,
            Error::Utf8(_) => CloseCode::Invalid,
            Error::Protocol(_) if self.context.can_write() => CloseCode::Protocol,
            // Without a close frame an end is never an orderly one, not even where TLS has ended.
            _ => return Err(broken(error)),
        };
        self.close(context, code);
        self.end = End::Failed;
        Ok(())
    }

    fn close(&mut self, context: &mut Context<'_>, code: CloseCode) {
        let frame = CloseFrame {
            code,
            reason: Utf8Bytes::default(),
        };
        // It goes into our own memory: that cannot fail.
        _ = self.with(context, usize::MAX, |web, wire| {
            // Pongs that had no place make one.
            _ = web.flush(wire);
            web.close(wire, Some(frame))
        });
    }

    /// Drops what comes until the peer has gone. A connection closed with something unread would be reset, and the peer
    /// would not learn why.
    fn poll_drop(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let mut dropped = [0; READ];
        loop {
            let mut buffer = ReadBuf::new(&mut dropped);
            let read = ready!(Pin::new(&mut self.inner).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
    }

    /// Gives the connection below what it takes. Ready: everything.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let taken = ready!(Pin::new(&mut self.inner).poll_write(context, &self.outgoing))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(taken);
        }
        // Whoever is silent holds no buffer.
        self.outgoing = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// A message of one line; an empty one is none.
    fn put(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return;
        }
        match self.kind {
            Kind::Binary => frame(&mut self.outgoing, Data::Binary, line),
            Kind::Text => {
                let text = String::from_utf8_lossy(line);
                frame(&mut self.outgoing, Data::Text, text.as_bytes());
            }
        }
    }
}

fn frame(outgoing: &mut BytesMut, kind: Data, payload: &[u8]) {
    let header = FrameHeader {
        opcode: OpCode::Data(kind),
        ..FrameHeader::default()
    };
    outgoing.reserve(16 + payload.len());
    header
        .format(payload.len() as u64, &mut outgoing.writer())
        .expect("memory takes everything");
    outgoing.extend_from_slice(payload);
}

fn broken(error: &Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error.to_string())
}

/// The line in a message, with a line end. A line end that the client put there itself is none of ours; one inside
/// becomes a NUL, for which the line is refused: two lines in one message are a mistake, or a trick.
fn line_of(message: &[u8]) -> Bytes {
    let line = message.strip_suffix(b"\n").unwrap_or(message);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut bytes = BytesMut::with_capacity(line.len() + 2);
    bytes.extend_from_slice(line);
    if memchr(b'\n', &bytes).is_some() {
        let ends = bytes.iter_mut().filter(|byte| **byte == b'\n');
        ends.for_each(|byte| *byte = 0);
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.freeze()
}

impl AsyncRead for WebSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = loop {
            let fits = this.incoming.len().min(buffer.remaining());
            buffer.put_slice(&this.incoming.split_to(fits));
            if buffer.remaining() == 0 {
                break Poll::Ready(Ok(()));
            }
            match this.poll_message(context) {
                Poll::Ready(Ok(Some(message))) => this.incoming = line_of(&message),
                Poll::Ready(Ok(None)) => break Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        // Answers to control frames. What goes wrong with them is seen when something else is written.
        if this.poll_drain(context).is_ready() {
            _ = Pin::new(&mut this.inner).poll_flush(context);
        }
        // What came goes first; how it ended is found again.
        if buffer.filled().len() > before {
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl AsyncWrite for WebSocket {
    /// Once the peer has said its last word, nothing is taken any more, and nothing fails: who reads has perhaps more of the
    /// peer's lines to work on, and then comes to the end.
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if matches!(this.end, End::Closed(_)) {
            return Poll::Pending;
        }
        if !this.context.can_write() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        this.outgoing.reserve(bytes.len().min(FULL));
        if this.outgoing.len() >= FULL
            && let Poll::Ready(Err(error)) = this.poll_drain(context)
        {
            return Poll::Ready(Err(error));
        }
        let mut taken = 0;
        while taken < bytes.len() && this.outgoing.len() < FULL {
            let rest = &bytes[taken..];
            let Some(end) = memchr(b'\n', rest) else {
                if this.begun.len() + rest.len() > LONGEST_LINE {
                    return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
                }
                this.begun.extend_from_slice(rest);
                taken = bytes.len();
                break;
            };
            if this.begun.is_empty() {
                this.put(&rest[..end]);
            } else {
                let mut line = std::mem::take(&mut this.begun);
                line.extend_from_slice(&rest[..end]);
                this.put(&line);
            }
            taken += end + 1;
        }
        match this.poll_drain(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if taken == 0 && !bytes.is_empty() => Poll::Pending,
            _ => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(context))?;
        Pin::new(&mut this.inner).poll_flush(context)
    }

    /// Says that we are done. The connection below stays open for the peer's answer: it shows that everything came.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.context.can_write() {
            this.close(context, CloseCode::Normal);
        }
        Pin::new(this).poll_flush(context)
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocket({:?}, {:?})", self.kind, self.inner)
    }
}

/// A connection as the library wants it. What it writes goes behind our frames, whole frames at a time.
struct Wire<'a, 'c> {
    inner: &'a mut Stream,
    outgoing: &'a mut BytesMut,
    limit: usize,
    context: &'a mut Context<'c>,
}

impl Read for Wire<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.inner).poll_read(self.context, &mut buffer) {
            Poll::Ready(read) => read.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Wire<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.outgoing.len() >= self.limit {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;
