//! Bytes to lines, however the bytes are cut into chunks, with memory bounded by the limits. A line ends at LF; a CR in
//! front of it belongs to the line end. What a line says is `line`'s; where bytes come from is `net`'s.

use std::mem;

use bytes::{Buf, Bytes};
use memchr::{memchr, memchr2};

/// How long a line may be. Tags and the rest are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From `@` to the space after the tags, both included.
    pub tags: usize,
    /// The rest, without the line end.
    pub body: usize,
}

impl Limits {
    /// For a client that has not logged in: handshakes carry tags too (labels).
    pub const UNREGISTERED: Self = Self {
        tags: 4096,
        body: 510,
    };
    /// For a client (IRCv3 message-tags: 4,094 bytes of tag data).
    pub const CLIENT: Self = Self {
        tags: 4096,
        body: 510,
    };
    /// For a server: all of its tags, and bodies longer than the 510 bytes that some servers exceed.
    pub const SERVER: Self = Self {
        tags: 8191,
        body: 16 * 1024,
    };

    /// Whether a line of which this is the beginning, or all, is too long. Never takes back a yes as bytes are added.
    fn exceeded(self, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() <= self.tags.min(self.body) {
            return false;
        }
        if !line.starts_with(b"@") {
            return line.len() > self.body;
        }
        match memchr(b' ', line) {
            Some(space) => space + 1 > self.tags || line.len() - space - 1 > self.body,
            None => line.len() > self.tags,
        }
    }

    /// No line is longer, with CR.
    fn most(self) -> usize {
        self.tags + self.body + 1
    }
}

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framed {
    /// A line without its line end; never empty.
    Line(Bytes),
    /// A line over the limit. It is said once, as soon as it is known, and what follows up to the LF is dropped.
    TooLong,
    /// A line with NUL or CR inside; dropped.
    Refused,
}

/// Cuts bytes into lines. Lines are slices of the pushed chunk; only one that spans chunks is copied together. Between
/// lines it holds no buffer.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    /// The beginning of a line whose end has not come; without LF.
    partial: Vec<u8>,
    /// What has been pushed and not been looked at.
    chunk: Bytes,
    /// The rest of an over-long line is being dropped.
    discarding: bool,
}

impl Framer {
    /// A framer for one connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            partial: Vec::new(),
            chunk: Bytes::new(),
            discarding: false,
        }
    }

    /// Changes the limits, from the line on that is being received.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes in what was read. Call [`Framer::next`] until it gives nothing before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.chunk.is_empty() {
            self.chunk = Bytes::copy_from_slice(bytes);
        } else {
            self.chunk = [&self.chunk[..], bytes].concat().into();
        }
    }

    /// The next line, or nothing until more is pushed.
    #[expect(clippy::should_implement_trait, reason = "the end of it is not final")]
    pub fn next(&mut self) -> Option<Framed> {
        while !self.chunk.is_empty() {
            let Some(end) = memchr(b'\n', &self.chunk) else {
                return self.keep();
            };
            let piece = self.chunk.split_to(end);
            self.chunk.advance(1);
            if mem::take(&mut self.discarding) {
                continue;
            }
            if let Some(framed) = self.finish(piece) {
                return Some(framed);
            }
        }
        self.chunk = Bytes::new(); // An empty slice would keep its chunk alive.
        None
    }

    /// How many bytes wait for their line end, or to be looked at.
    pub fn pending(&self) -> usize {
        self.partial.len() + self.chunk.len()
    }

    /// A line of which `piece` is the end.
    fn finish(&mut self, piece: Bytes) -> Option<Framed> {
        let line = if self.partial.is_empty() {
            piece
        } else {
            let mut line = mem::take(&mut self.partial);
            if line.len() + piece.len() > self.limits.most() {
                return Some(Framed::TooLong);
            }
            line.extend_from_slice(&piece);
            line.into()
        };
        if self.limits.exceeded(&line) {
            return Some(Framed::TooLong);
        }
        let len = line.strip_suffix(b"\r").map_or(line.len(), <[u8]>::len);
        if len == 0 {
            return None;
        }
        if memchr2(0, b'\r', &line[..len]).is_some() {
            return Some(Framed::Refused);
        }
        let mut line = line;
        line.truncate(len);
        Some(Framed::Line(line))
    }

    /// Keeps the beginning of a line, or begins to drop it when it is too long already.
    fn keep(&mut self) -> Option<Framed> {
        let chunk = mem::take(&mut self.chunk);
        if self.discarding {
            return None;
        }
        let room = (self.limits.most() + 1).saturating_sub(self.partial.len());
        self.partial
            .extend_from_slice(&chunk[..chunk.len().min(room)]);
        if !self.limits.exceeded(&self.partial) {
            return None;
        }
        self.partial = Vec::new();
        self.discarding = true;
        Some(Framed::TooLong)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: Limits = Limits { tags: 8, body: 12 };

    /// All that comes out of chunks; memory stays within the limits whenever the framer has given all it can.
    fn frame(limits: Limits, chunks: &[&[u8]]) -> Vec<Framed> {
        let mut framer = Framer::new(limits);
        let mut all = Vec::new();
        for chunk in chunks {
            framer.push(chunk);
            while let Some(framed) = framer.next() {
                all.push(framed);
            }
            assert!(
                framer.pending() <= limits.tags + limits.body + 1,
                "{}",
                framer.pending()
            );
            assert!(framer.partial.capacity() <= 2 * (limits.tags + limits.body + 2));
        }
        all
    }

    fn line(text: &'static str) -> Framed {
        Framed::Line(Bytes::from(text))
    }

    #[test]
    fn lf_ends_a_line_with_or_without_cr() {
        let all = frame(Limits::CLIENT, &[b"a\r\nb\n\r\n\n  \nc\r", b"\nd"]);
        assert_eq!(all, [line("a"), line("b"), line("  "), line("c")]);
    }

    #[test]
    fn nul_and_a_cr_inside_are_refused() {
        let all = frame(Limits::CLIENT, &[b"a\0b\r\na\rb\r\nc\r\r\nd\r\n"]);
        assert_eq!(
            all,
            [Framed::Refused, Framed::Refused, Framed::Refused, line("d")]
        );
    }

    #[test]
    fn tags_and_body_have_limits_of_their_own() {
        for (text, fits) in [
            ("123456789012", true),
            ("1234567890123", false),
            ("@123456 123456789012", true),
            ("@1234567 1", false),
            ("@123456 1234567890123", false),
            ("@1234567", true),
            ("@12345678", false),
        ] {
            let all = frame(SMALL, &[text.as_bytes(), b"\r\nnext\n"]);
            let first = if fits {
                Framed::Line(Bytes::from(text))
            } else {
                Framed::TooLong
            };
            assert_eq!(all, [first, line("next")], "{text}");
        }
    }

    #[test]
    fn tags_without_an_end_are_counted_as_tags() {
        let limits = Limits { tags: 12, body: 8 };
        for (text, fits) in [("@12345678901", true), ("@123456789012", false)] {
            let too_long = frame(limits, &[text.as_bytes(), b"\n"]) == [Framed::TooLong];
            assert_eq!(too_long, !fits, "{text}");
        }
    }

    #[test]
    fn rule_47_the_limits_of_the_protocol_are_met_exactly() {
        for (limits, tags, body) in [(Limits::CLIENT, 4094, 510), (Limits::SERVER, 8189, 16_384)] {
            for (tags_over, body_over) in [(0, 0), (1, 0), (0, 1)] {
                let tags = "t".repeat(tags + tags_over);
                let text = format!("@{tags} {}\r\n", "b".repeat(body + body_over));
                let too_long = frame(limits, &[text.as_bytes()]) == [Framed::TooLong];
                assert_eq!(
                    too_long,
                    tags_over + body_over > 0,
                    "{limits:?} {tags_over} {body_over}"
                );
            }
        }
    }

    #[test]
    fn an_endless_line_is_said_once_and_takes_no_memory() {
        let mut framer = Framer::new(SMALL);
        let mut said = 0;
        for _ in 0..10_000 {
            framer.push(b"no end in sight, ");
            said += usize::from(framer.next() == Some(Framed::TooLong));
            assert_eq!((framer.pending(), framer.partial.capacity()), (0, 0));
        }
        assert_eq!(said, 1);
        framer.push(b"the end\r\nnext\r\n");
        assert_eq!(framer.next(), Some(line("next")));
    }

    #[test]
    fn lines_of_one_chunk_are_slices_of_it_and_an_idle_framer_holds_nothing() {
        let mut framer = Framer::new(Limits::CLIENT);
        framer.push(b"one\r\ntwo\r\n");
        let (Some(Framed::Line(one)), Some(Framed::Line(two))) = (framer.next(), framer.next())
        else {
            panic!("two lines")
        };
        assert_eq!(two.as_ptr() as usize - one.as_ptr() as usize, 5);
        assert_eq!(framer.next(), None);
        drop(one);
        assert!(two.is_unique(), "the framer lets go of the chunk");
    }

    #[test]
    fn limits_may_change_between_lines() {
        let mut framer = Framer::new(SMALL);
        framer.push(b"a line that is too long\n");
        assert_eq!(framer.next(), Some(Framed::TooLong));
        framer.set_limits(Limits::CLIENT);
        framer.push(b"a line that is too long\n");
        assert_eq!(framer.next(), Some(line("a line that is too long")));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(
            text in prop_oneof![
                "[ab@ \r\n\0]{0,120}",
                "(@[a]{0,9} )?[b]{0,14}\r?\n(@[a]{0,9} ?)?[b]{0,14}\r?\n[b]{0,50}\n?",
            ],
            cuts in prop::collection::vec(0..120_usize, 0..30),
        ) {
            let text = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let whole = frame(SMALL, &[text]);
            prop_assert_eq!(&frame(SMALL, &chunks), &whole);
            let bytes: Vec<_> = text.chunks(1).collect();
            prop_assert_eq!(&frame(SMALL, &bytes), &whole);
            prop_assert_eq!(whole, naive(text));
        }

        #[test]
        fn any_bytes_pass(chunks in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
            let chunks: Vec<_> = chunks.iter().map(Vec::as_slice).collect();
            for framed in frame(SMALL, &chunks) {
                if let Framed::Line(line) = framed {
                    prop_assert!(!line.is_empty());
                    prop_assert!(!line.iter().any(|b| b"\0\r\n".contains(b)));
                }
            }
        }
    }

    /// What the lines of `text` are, said as plainly as possible.
    fn naive(text: &[u8]) -> Vec<Framed> {
        let mut lines: Vec<_> = text.split(|&b| b == b'\n').collect();
        let unfinished = lines.pop().unwrap();
        let judge = |line: &[u8]| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let space = line
                .iter()
                .position(|&b| b == b' ')
                .map_or(line.len(), |at| at + 1);
            let (tags, body) = line.split_at(if line.starts_with(b"@") { space } else { 0 });
            match () {
                () if tags.len() > SMALL.tags || body.len() > SMALL.body => Some(Framed::TooLong),
                () if line.is_empty() => None,
                () if line.contains(&0) || line.contains(&b'\r') => Some(Framed::Refused),
                () => Some(Framed::Line(line.to_vec().into())),
            }
        };
        let ended = lines.into_iter().filter_map(judge);
        ended
            .chain(judge(unfinished).filter(|framed| *framed == Framed::TooLong))
            .collect()
    }
}
