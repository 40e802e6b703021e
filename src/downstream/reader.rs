//! The half that reads: lines go to the network against credit, PONGs become proofs. Without credit it does
//! not read, so a paste waits in its own socket.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::mailbox::ToNetwork;
use crate::net::{LineReader, ReadHalf};
use crate::outbox::Outbox;
use crate::state::ClientId;
use crate::wire::framing::Limits;
use crate::wire::{Framed, Line};

use super::enter::Connection;
use super::ledger::Ledger;
use super::{End, FAREWELL};

/// So many lines with NUL or a bare CR, and the client is sent away.
const MAX_REFUSED: u32 = 3;

pub(super) struct Reader<'a> {
    lines: LineReader<ReadHalf>,
    waiting: VecDeque<Framed>,
    id: ClientId,
    mailbox: &'a mpsc::Sender<ToNetwork>,
    outbox: &'a Outbox,
    credit: &'a Semaphore,
    ledger: &'a Ledger,
    patience: Duration,
    refused: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        connection: (LineReader<ReadHalf>, VecDeque<Framed>),
        id: ClientId,
        mailbox: &'a mpsc::Sender<ToNetwork>,
        outbox: &'a Outbox,
        credit: &'a Semaphore,
        ledger: &'a Ledger,
        patience: Duration,
    ) -> Self {
        let (mut lines, waiting) = connection;
        lines.set_limits(Limits::CLIENT);
        Self {
            lines,
            waiting,
            id,
            mailbox,
            outbox,
            credit,
            ledger,
            patience,
            refused: 0,
        }
    }

    /// Reads until the client is gone.
    pub(super) async fn run(&mut self) -> End {
        loop {
            while let Some(framed) = self.waiting.pop_front() {
                if self.take(framed).await.is_none() {
                    return End::Broken;
                }
            }
            if let Some(end) = self.read().await {
                return end;
            }
        }
    }

    /// Reads something, asking for a sign of life half way to losing patience.
    async fn read(&mut self) -> Option<End> {
        let mut lines = Vec::new();
        let half = self.patience / 2;
        let read = match timeout(half, self.lines.read(&mut lines)).await {
            Ok(read) => Ok(read),
            Err(_) => {
                self.outbox.push(crate::state::Item::Ping);
                timeout(half, self.lines.read(&mut lines)).await
            }
        };
        self.waiting.extend(lines);
        match read {
            Ok(Ok(0)) => Some(End::Orderly),
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(end_of(&error)),
            Err(_) => Some(End::Broken),
        }
    }

    /// One line. `None`: it was the last one.
    async fn take(&mut self, framed: Framed) -> Option<()> {
        match framed {
            Framed::Line(line) => self.pass_on(line).await,
            Framed::TooLong => self.mailbox.send(ToNetwork::TooLong(self.id)).await.ok(),
            Framed::Refused => {
                self.refused += 1;
                if self.refused >= MAX_REFUSED {
                    self.outbox.push(crate::state::Item::Close(
                        "Your lines cannot be read".into(),
                    ));
                }
                Some(())
            }
        }
    }

    async fn pass_on(&mut self, line: Bytes) -> Option<()> {
        if let Some(token) = pong(&line) {
            if let Some(proof) = self.ledger.answered(&token) {
                self.mailbox
                    .send(ToNetwork::Proved(self.id, proof))
                    .await
                    .ok()?;
            }
            // A label is answered, whatever stands under it.
            if !line.starts_with(b"@") {
                return Some(());
            }
        }
        self.credit.acquire().await.ok()?.forget();
        self.mailbox.send(ToNetwork::Line(self.id, line)).await.ok()
    }

    /// After our last words: did the client close, having read them?
    pub(super) async fn drain(&mut self) -> End {
        let closed = timeout(FAREWELL, async {
            let mut lines = Vec::new();
            loop {
                lines.clear();
                match self.lines.read(&mut lines).await {
                    Ok(0) => return End::Orderly,
                    Ok(_) => {}
                    Err(error) => return end_of(&error),
                }
            }
        });
        closed.await.unwrap_or(End::Broken)
    }
}

/// Many clients end TLS without a word, by FIN alone: that is as orderly as FIN is without TLS.
fn end_of(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => End::Orderly,
        _ => End::Broken,
    }
}

/// The token of a PONG. It may stand first or last, behind a server's name.
fn pong(line: &[u8]) -> Option<Bytes> {
    let line = Line::parse(line).ok().filter(|line| line.is(b"PONG"))?;
    Some(Bytes::copy_from_slice(line.last().unwrap_or_default()))
}

impl Connection {
    /// What the two halves need.
    pub(super) fn into_halves(
        self,
    ) -> (
        (LineReader<ReadHalf>, VecDeque<Framed>),
        crate::net::WriteHalf,
    ) {
        ((self.reader, self.lines), self.writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pong_is_known_in_every_spelling() {
        for line in [
            "PONG :carom-1",
            "pong carom-1",
            "@label=6 PONG carom-1",
            "PONG bnc :carom-1",
        ] {
            assert_eq!(
                pong(line.as_bytes()).as_deref(),
                Some(&b"carom-1"[..]),
                "{line}"
            );
        }
        assert_eq!(pong(b"PING :carom-1"), None);
    }
}
