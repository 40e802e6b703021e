//! Words of a client: carried out in its own task, in the place where they stand in its queue, and answered by NOTICEs
//! as it takes them. Under a label all of the answer is one.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::control::{PIECES, Piece};
use crate::state::View;
use crate::state::forms::Dress;
use crate::state::service::mask;
use crate::wire::LineBuilder;

use super::super::labelled;
use super::super::writer::{Gone, Writer};

/// A NOTICE has no more text than this, so that it is never cut.
const LONGEST: usize = 400;

impl Writer<'_> {
    /// Does what the words say.
    pub(in super::super) async fn command(
        &mut self,
        words: &str,
        label: Option<&Bytes>,
    ) -> Result<(), Gone> {
        let (sender, mut pieces) = mpsc::channel(PIECES);
        let (caller, shared) = (self.caller.clone(), self.shared);
        let mut run =
            Box::pin(async move { super::run_line(words, &caller, shared, sender).await });
        let mut answer = Answer::new(self, label);
        let mut is_done = false;
        loop {
            let piece = tokio::select! {
                piece = pieces.recv() => piece,
                _ = &mut run, if !is_done => {
                    is_done = true;
                    continue;
                }
            };
            match piece {
                None => break,
                Some(Piece::Line(line) | Piece::Row(line, _)) => {
                    for part in parts(&line) {
                        answer.say(part, self.view, &mut self.buffer);
                    }
                }
                Some(Piece::Replay(plan)) => {
                    // It is a batch of its own.
                    answer.end(self.view, &mut self.buffer);
                    self.replay(plan).await?;
                }
            }
            self.write_if_full().await?;
        }
        answer.end(self.view, &mut self.buffer);
        Ok(())
    }

    /// Says something that nobody asked for.
    pub(in super::super) fn notice(&mut self, text: &str) {
        let mut answer = Answer::new(self, None);
        for part in parts(text) {
            answer.say(part, self.view, &mut self.buffer);
        }
    }
}

/// An answer under way: nothing said yet, one line kept back, or a batch that is open.
struct Answer {
    source: String,
    nick: String,
    server: String,
    label: Option<Bytes>,
    batch: String,
    first: Option<LineBuilder>,
    is_open: bool,
}

impl Answer {
    fn new(writer: &mut Writer<'_>, label: Option<&Bytes>) -> Self {
        writer.batches += 1;
        let caller = &writer.caller;
        let network = caller.network.as_deref().unwrap_or_default();
        let user = caller.user.as_ref();
        let status = user.and_then(|user| user.board.line(network));
        let server = writer.shared.server.clone();
        Self {
            source: mask(&server),
            nick: status.map_or_else(|| "*".to_owned(), |status| status.nick),
            server,
            label: label.cloned(),
            batch: format!("answer{}", writer.batches),
            first: None,
            is_open: false,
        }
    }

    fn own(&self, command: &[u8]) -> LineBuilder {
        LineBuilder::from(self.server.as_bytes(), command)
    }

    fn say(&mut self, text: &str, view: View, out: &mut Vec<u8>) {
        let line = LineBuilder::from(self.source.as_bytes(), b"NOTICE")
            .param(self.nick.as_bytes())
            .trailing(text.as_bytes());
        if self.label.is_none() {
            return labelled::encode(line, view, Dress::default(), out);
        }
        if self.is_open {
            return self.batched(line, view, out);
        }
        let Some(first) = self.first.replace(line) else {
            return;
        };
        let opening = self
            .own(b"BATCH")
            .param(format!("+{}", self.batch).as_bytes());
        let dress = Dress {
            label: self.label.as_deref(),
            ..Dress::default()
        };
        labelled::encode(opening.param(b"labeled-response"), view, dress, out);
        self.is_open = true;
        self.batched(first, view, out);
        if let Some(line) = self.first.take() {
            self.batched(line, view, out);
        }
    }

    fn batched(&self, line: LineBuilder, view: View, out: &mut Vec<u8>) {
        let dress = Dress {
            batch: Some(self.batch.as_bytes()),
            ..Dress::default()
        };
        labelled::encode(line, view, dress, out);
    }

    /// The label is answered once.
    fn end(&mut self, view: View, out: &mut Vec<u8>) {
        let Some(label) = self.label.take() else {
            return;
        };
        if self.is_open {
            let closing = self
                .own(b"BATCH")
                .param(format!("-{}", self.batch).as_bytes());
            return labelled::encode(closing, view, Dress::default(), out);
        }
        let line = self.first.take().unwrap_or_else(|| self.own(b"ACK"));
        let dress = Dress {
            label: Some(&label),
            ..Dress::default()
        };
        labelled::encode(line, view, dress, out);
    }
}

/// A line in parts that fit, cut at blanks where there are some.
fn parts(line: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = line;
    while rest.len() > LONGEST {
        let mut fits = LONGEST;
        while !rest.is_char_boundary(fits) {
            fits -= 1;
        }
        let at = rest[..fits].rfind(' ').filter(|at| *at > LONGEST / 2);
        let (part, more) = rest.split_at(at.unwrap_or(fits));
        parts.push(part);
        rest = more;
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_come_in_parts_and_nothing_is_lost() {
        assert_eq!(parts("short"), ["short"]);
        assert_eq!(parts(""), [""]);
        for line in ["word ".repeat(300), "ä".repeat(700)] {
            let parts = parts(&line);
            assert!(parts.len() > 2 && parts.iter().all(|part| part.len() <= LONGEST));
            assert_eq!(parts.concat(), line);
        }
    }
}
