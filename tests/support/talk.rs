//! One end of a connection that speaks lines: a task reads all of them into a transcript, in which tests wait for what
//! they expect. What is answered by itself, `mock_ircd` and `client` supply.

use std::panic::Location;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinHandle;

use super::DEADLINE;

/// Anything a connection can run over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What becomes of a line that was heard.
#[derive(Default)]
pub struct Reaction {
    /// Lines said at once.
    pub say: Vec<String>,
    /// Whether the connection is closed after that.
    pub close: bool,
}

/// Hears each line before the test sees it.
pub type Hook = Box<dyn FnMut(&str) -> Reaction + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Heard,
    Said,
}

#[derive(Debug, Default)]
struct Transcript {
    lines: Vec<(Way, Vec<u8>)>,
    /// Why nothing more comes.
    ended: Option<String>,
}

impl Transcript {
    fn show(&self) -> String {
        let mut text = String::new();
        for (way, line) in &self.lines {
            let arrow = if *way == Way::Heard { "<-" } else { "->" };
            text += &format!(
                "  {arrow} {}\n",
                String::from_utf8_lossy(line).escape_debug()
            );
        }
        match &self.ended {
            Some(why) => text + &format!("  (ended: {why})"),
            None => text + "  (open)",
        }
    }
}

type Writer = Arc<AsyncMutex<Option<WriteHalf<Box<dyn Stream>>>>>;

/// How the writing end behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Chunks {
    /// A line is one write.
    #[default]
    Whole,
    /// Each byte is a write of its own.
    Bytes,
}

/// A connection.
pub struct Talk {
    transcript: watch::Receiver<Transcript>,
    record: Arc<watch::Sender<Transcript>>,
    writer: Writer,
    chunks: Arc<Mutex<Chunks>>,
    reading: watch::Sender<bool>,
    reader: JoinHandle<()>,
    /// Index of the first line that nobody has waited for yet.
    cursor: usize,
}

impl Talk {
    /// Starts to read.
    pub fn start(stream: Box<dyn Stream>, hook: Hook) -> Self {
        let (source, sink) = tokio::io::split(stream);
        let (record, transcript) = watch::channel(Transcript::default());
        let (reading, may_read) = watch::channel(true);
        let record = Arc::new(record);
        let writer: Writer = Arc::new(AsyncMutex::new(Some(sink)));
        let chunks = Arc::new(Mutex::new(Chunks::Whole));
        let mouth = Mouth {
            writer: Arc::clone(&writer),
            record: Arc::clone(&record),
            chunks: Arc::clone(&chunks),
        };
        let reader = tokio::spawn(read(source, mouth, hook, may_read));
        Self {
            transcript,
            record,
            writer,
            chunks,
            reading,
            reader,
            cursor: 0,
        }
    }

    /// Says a line; CRLF is added.
    pub async fn send(&self, line: &str) {
        self.mouth()
            .say(line.as_bytes())
            .await
            .unwrap_or_else(|error| {
                panic!(
                    "cannot send {line:?}: {error}\n{}",
                    self.transcript.borrow().show()
                )
            });
    }

    /// Sends bytes as they are, or tells why not.
    pub async fn send_bytes(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mouth = self.mouth();
        record(&self.record, Way::Said, bytes);
        mouth.write(bytes).await
    }

    /// From now on writes whole lines, or single bytes.
    pub fn set_chunks(&self, chunks: Chunks) {
        *self.chunks.lock().unwrap() = chunks;
    }

    /// Stops to take anything from the socket, or goes on.
    pub fn set_reading(&self, reading: bool) {
        self.reading.send_replace(reading);
    }

    /// Waits for a line and returns it. Lines before it count as seen. A line matches that begins with `start`, or does
    /// so without its tags, or without tags and source.
    #[track_caller]
    pub fn expect(&mut self, start: &str) -> impl Future<Output = String> {
        let until = self.until(start);
        async move { until.await.pop().unwrap() }
    }

    /// Waits for the first line that `wanted` is true for.
    #[track_caller]
    pub fn expect_where(
        &mut self,
        what: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> impl Future<Output = String> {
        let through = self.through(what.to_owned(), wanted, Location::caller());
        async move { through.await.pop().unwrap() }
    }

    /// Waits for a line as `expect` does, and returns it with all that came before it and was not seen yet.
    #[track_caller]
    pub fn until(&mut self, start: &str) -> impl Future<Output = Vec<String>> {
        let start = start.to_owned();
        let what = format!("a line like {start:?}");
        self.through(what, move |line| begins(line, &start), Location::caller())
    }

    /// As [`Talk::expect_where`], with all lines before it that were not seen yet.
    #[track_caller]
    pub fn expect_lines(
        &mut self,
        what: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> impl Future<Output = Vec<String>> {
        self.through(what.to_owned(), wanted, Location::caller())
    }

    async fn through(
        &mut self,
        what: String,
        wanted: impl Fn(&str) -> bool,
        place: &'static Location<'static>,
    ) -> Vec<String> {
        let from = self.cursor;
        let is_wanted = |(way, line): &(Way, Vec<u8>)| *way == Way::Heard && wanted(&text(line));
        // The first line not looked at yet, or the one that is wanted.
        let mut at = from;
        let waited = self.transcript.wait_for(|seen| {
            while let Some(line) = seen.lines.get(at) {
                if is_wanted(line) {
                    return true;
                }
                at += 1;
            }
            seen.ended.is_some()
        });
        // Borrowed anew afterwards, as a timeout leaves nothing to look at.
        let _ = tokio::time::timeout(DEADLINE, waited).await;
        let transcript = self.transcript.borrow();
        if !transcript.lines.get(at).is_some_and(is_wanted) {
            panic!("{place}: expected {what}, got:\n{}", transcript.show());
        }
        let lines = heard(&transcript.lines[from..=at]);
        drop(transcript);
        self.cursor = at + 1;
        lines
    }

    /// Waits until the other side closes, and returns the lines that nobody has seen yet.
    #[track_caller]
    pub fn ended(&mut self) -> impl Future<Output = Vec<String>> {
        let place = Location::caller();
        async move {
            let ended = self
                .transcript
                .wait_for(|transcript| transcript.ended.is_some());
            let _ = tokio::time::timeout(DEADLINE, ended).await;
            let transcript = self.transcript.borrow();
            if transcript.ended.is_none() {
                panic!("{place}: expected the end, got:\n{}", transcript.show());
            }
            let lines = heard(&transcript.lines[self.cursor..]);
            let end = transcript.lines.len();
            drop(transcript);
            self.cursor = end;
            lines
        }
    }

    /// Why nothing more comes, once that is so.
    pub fn why_ended(&self) -> Option<String> {
        self.transcript.borrow().ended.clone()
    }

    /// Waits until a line was said that begins with `start`, by the hook or by the test. No line counts as seen.
    #[track_caller]
    pub fn has_said(&mut self, start: &str) -> impl Future<Output = ()> {
        let place = Location::caller();
        let start = start.to_owned();
        async move {
            let said = |transcript: &Transcript| {
                let mut lines = transcript.lines.iter().filter(|(way, _)| *way == Way::Said);
                lines.any(|(_, line)| begins(&text(line), &start))
            };
            let waited = self
                .transcript
                .wait_for(|seen| said(seen) || seen.ended.is_some());
            let _ = tokio::time::timeout(DEADLINE, waited).await;
            let transcript = self.transcript.borrow();
            assert!(
                said(&transcript),
                "{place}: {start:?} was not said:\n{}",
                transcript.show()
            );
        }
    }

    /// Every line heard so far, whether seen or not.
    pub fn heard(&self) -> Vec<String> {
        heard(&self.transcript.borrow().lines)
    }

    /// Every line heard so far, as the bytes that came.
    pub fn heard_bytes(&self) -> Vec<Vec<u8>> {
        let transcript = self.transcript.borrow();
        let heard = transcript
            .lines
            .iter()
            .filter(|(way, _)| *way == Way::Heard);
        heard.map(|(_, line)| line.clone()).collect()
    }

    /// Lets go of the connection on this side; what was written is delivered.
    pub async fn close(&mut self) {
        let writer = self.writer.lock().await.take();
        if let Some(mut writer) = writer {
            // The other side may be gone already.
            let _ = writer.shutdown().await;
        }
        self.drop_reader().await;
    }

    /// Ends the reading, and with it the stream when nobody else holds it.
    async fn drop_reader(&mut self) {
        self.reader.abort();
        let _ = (&mut self.reader).await;
        self.record.send_modify(|transcript| {
            transcript
                .ended
                .get_or_insert_with(|| "closed by the test".to_owned());
        });
    }

    /// Drops the stream as it is.
    pub async fn abandon(&mut self) {
        self.writer.lock().await.take();
        self.drop_reader().await;
    }

    fn mouth(&self) -> Mouth {
        Mouth {
            writer: Arc::clone(&self.writer),
            record: Arc::clone(&self.record),
            chunks: Arc::clone(&self.chunks),
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The writing end, which test and reader share.
struct Mouth {
    writer: Writer,
    record: Arc<watch::Sender<Transcript>>,
    chunks: Arc<Mutex<Chunks>>,
}

impl Mouth {
    async fn say(&self, line: &[u8]) -> std::io::Result<()> {
        record(&self.record, Way::Said, line);
        self.write(&[line, b"\r\n"].concat()).await
    }

    async fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        let chunks = *self.chunks.lock().unwrap();
        let mut writer = self.writer.lock().await;
        let writer = writer.as_mut().ok_or(std::io::ErrorKind::NotConnected)?;
        match chunks {
            Chunks::Whole => writer.write_all(bytes).await?,
            Chunks::Bytes => {
                for byte in bytes {
                    writer.write_all(&[*byte]).await?;
                    writer.flush().await?;
                }
            }
        }
        writer.flush().await
    }
}

async fn read(
    mut source: ReadHalf<Box<dyn Stream>>,
    mouth: Mouth,
    mut hook: Hook,
    mut may_read: watch::Receiver<bool>,
) {
    let mut pending = Vec::new();
    let ended = loop {
        if may_read.wait_for(|may| *may).await.is_err() {
            break "closed by the test".to_owned();
        }
        tokio::select! {
            biased;
            _ = may_read.wait_for(|may| !*may) => continue,
            read = source.read_buf(&mut pending) => match read {
                Ok(0) => break "closed by the other side".to_owned(),
                Ok(_) => {}
                Err(error) => break error.to_string(),
            },
        }
        if react(&mut pending, &mouth, &mut hook).await {
            if let Some(mut writer) = mouth.writer.lock().await.take() {
                let _ = writer.shutdown().await;
            }
            break "closed by the script".to_owned();
        }
    };
    mouth
        .record
        .send_modify(|transcript| transcript.ended = Some(ended));
}

/// Takes whole lines off `pending`; true when the connection is to be closed.
async fn react(pending: &mut Vec<u8>, mouth: &Mouth, hook: &mut Hook) -> bool {
    while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = pending.drain(..=end).collect();
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // The hook comes first: who sees the line may rely on what it changes.
        let reaction = hook(&text(line));
        record(&mouth.record, Way::Heard, line);
        for answer in reaction.say {
            // A broken connection shows at the next read.
            let _ = mouth.say(answer.as_bytes()).await;
        }
        if reaction.close {
            return true;
        }
    }
    false
}

fn record(transcript: &watch::Sender<Transcript>, way: Way, line: &[u8]) {
    transcript.send_modify(|transcript| transcript.lines.push((way, line.to_vec())));
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

fn heard(lines: &[(Way, Vec<u8>)]) -> Vec<String> {
    lines
        .iter()
        .filter(|(way, _)| *way == Way::Heard)
        .map(|(_, line)| text(line))
        .collect()
}

/// A line without its tags.
pub fn untagged(line: &str) -> &str {
    match line.strip_prefix('@') {
        Some(rest) => rest.split_once(' ').map_or("", |(_, line)| line),
        None => line,
    }
}

/// A line without tags and source.
pub fn command_of(line: &str) -> &str {
    let line = untagged(line);
    match line.strip_prefix(':') {
        Some(rest) => rest.split_once(' ').map_or("", |(_, line)| line),
        None => line,
    }
}

fn begins(line: &str, start: &str) -> bool {
    [line, untagged(line), command_of(line)]
        .iter()
        .any(|line| line.starts_with(start))
}
