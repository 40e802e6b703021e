//! The control socket: one line of JSON with words comes in, lines with the answer go out as it is made, for the daemon's
//! own user and for root. What the words mean, whoever serves it supplies.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::state::Plan;

/// What is asked: words, as `command` understands them.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    words: Vec<String>,
    /// Rows are wanted as values, not as text.
    #[serde(default)]
    json: bool,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// For people.
    Line(String),
    /// A row of a table: for people, and for programs.
    Row(String, Fields),
    /// Stored lines that a client wants to be told again.
    Replay(Plan),
}

/// The values of a row, by name.
pub type Fields = serde_json::Map<String, serde_json::Value>;

/// How an answer travels: any number of these with a line or a row, then one with the code.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    line: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    row: Option<Fields>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `Answer::DONE`, `Answer::REFUSED` or `Answer::NOT_UNDERSTOOD`; the exit code of `carom ctl`.
    pub code: u8,
    /// What is to be shown.
    pub lines: Vec<String>,
}

impl Answer {
    /// It was done.
    pub const DONE: u8 = 0;
    /// It was understood and refused.
    pub const REFUSED: u8 = 1;
    /// It was not understood.
    pub const NOT_UNDERSTOOD: u8 = 64;
}

/// Carries out words, telling what comes of it piece by piece. Returns the code.
pub type Handler = Arc<
    dyn Fn(Vec<String>, mpsc::Sender<Piece>) -> Pin<Box<dyn Future<Output = u8> + Send>>
        + Send
        + Sync,
>;

/// So many pieces of an answer may wait.
pub const PIECES: usize = 32;
/// A request is no longer than this.
const LONGEST_REQUEST: u64 = 64 * 1024;
/// A part of an answer is no longer than this.
const LONGEST_PART: u64 = 1024 * 1024;
/// An answer that is kept as a whole has no more lines than this.
const MOST_LINES: usize = 100_000;
/// A request must be here, and an answer be taken, within this time.
const DEADLINE: Duration = Duration::from_secs(5);
/// The daemon may think for so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many are answered at a time; the others wait in the socket's backlog.
const WIDTH: usize = 16;

/// Opens the socket, for its owner alone. One that a daemon left behind is replaced; one that a daemon answers on is not.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    // Until here the umask decided. That is harmless, as `serve` looks at who connects.
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let refused = |what: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, what.to_owned()));
    // To connect to a plain file is refused just as to a socket without a daemon.
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return refused(
            "something that is no socket has this name, remove it or change server.control",
        );
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
        Ok(_) => refused("another daemon answers here, stop it or change server.control"),
    }
}

/// Answers until the future is dropped, which ends what is being answered too.
pub async fn serve(listener: UnixListener, handler: Handler) {
    let mut running = JoinSet::new();
    let width = Arc::new(Semaphore::new(WIDTH));
    loop {
        let Ok(turn) = Arc::clone(&width).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept");
                // Out of descriptors, most likely: to ask again at once would only burn time.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let handler = Arc::clone(&handler);
        running.spawn(async move {
            if let Err(error) = answer(stream, handler).await {
                tracing::debug!(%error, "a control connection failed");
            }
            drop(turn);
        });
        while running.try_join_next().is_some() {}
    }
}

async fn answer(stream: UnixStream, handler: Handler) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it is uid {uid}"),
        ));
    }
    let mut stream = BufReader::new(stream);
    let request = match timeout(DEADLINE, read_line(&mut stream, LONGEST_REQUEST)).await? {
        Ok(request) => serde_json::from_slice::<Request>(&request).map_err(io::Error::from),
        Err(error) => Err(error),
    };
    let Request { words, json } = match request {
        Ok(request) => request,
        Err(error) => {
            tell(&mut stream, Told::line(format!("no request: {error}"))).await?;
            return tell(&mut stream, Told::code(Answer::NOT_UNDERSTOOD)).await;
        }
    };
    let (sender, pieces) = mpsc::channel(PIECES);
    let passed_on = pass_on(&mut stream, pieces, json);
    let (code, told) = tokio::join!(handler(words, sender), passed_on);
    told?;
    tell(&mut stream, Told::code(code)).await
}

/// Tells an answer as it is made. Whoever does not take it is answered no further.
async fn pass_on(
    stream: &mut (impl AsyncWrite + Unpin),
    mut pieces: mpsc::Receiver<Piece>,
    json: bool,
) -> io::Result<()> {
    while let Some(piece) = pieces.recv().await {
        let told = match piece {
            Piece::Line(line) => Told::line(line),
            Piece::Row(_, row) if json => Told::row(row),
            Piece::Row(line, _) => Told::line(line),
            Piece::Replay(_) => continue,
        };
        tell(stream, told).await?;
    }
    Ok(())
}

impl Told {
    fn line(line: String) -> Self {
        Self {
            line: Some(line),
            ..Self::default()
        }
    }

    fn row(row: Fields) -> Self {
        Self {
            row: Some(row),
            ..Self::default()
        }
    }

    fn code(code: u8) -> Self {
        Self {
            code: Some(code),
            ..Self::default()
        }
    }
}

async fn tell(stream: &mut (impl AsyncWrite + Unpin), told: Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(&told)?;
    line.push(b'\n');
    timeout(DEADLINE, stream.write_all(&line)).await?
}

async fn read_line(stream: &mut (impl AsyncBufRead + Unpin), longest: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.take(longest).read_until(b'\n', &mut line).await?;
    if line.pop() != Some(b'\n') {
        let problem = "the line is too long or breaks off";
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(line)
}

/// Says words to the daemon that answers at `socket`.
pub async fn say(socket: &Path, words: &[String]) -> io::Result<Answer> {
    let mut lines = Vec::new();
    let code = converse(socket, words, false, |part| {
        if let Part::Line(line) = part
            && lines.len() < MOST_LINES
        {
            lines.push(line);
        }
    });
    let code = code.await?;
    Ok(Answer { code, lines })
}

/// A part of an answer as `carom ctl` gets it.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// For people.
    Line(String),
    /// For programs, if they asked for it.
    Row(Fields),
}

/// The same, part by part as the answer comes. Returns the code.
pub async fn converse(
    socket: &Path,
    words: &[String],
    json: bool,
    mut each: impl FnMut(Part),
) -> io::Result<u8> {
    let mut stream = BufReader::new(UnixStream::connect(socket).await?);
    let mut request = serde_json::to_vec(&Request {
        words: words.to_vec(),
        json,
    })?;
    request.push(b'\n');
    if request.len() as u64 > LONGEST_REQUEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many words at once",
        ));
    }
    timeout(DEADLINE, stream.write_all(&request)).await??;
    loop {
        let line = timeout(PATIENCE, read_line(&mut stream, LONGEST_PART)).await??;
        let told: Told = serde_json::from_slice(&line)?;
        if let Some(code) = told.code {
            return Ok(code);
        }
        let line = told.line.map(Part::Line);
        line.or_else(|| told.row.map(Part::Row))
            .into_iter()
            .for_each(&mut each);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    /// Answers with the words themselves, in a task that ends with the runtime.
    fn served() -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("control.sock");
        let handler: Handler = Arc::new(|words, sender| {
            Box::pin(async move {
                for word in words {
                    let fields = [("word".to_owned(), word.clone().into())];
                    let row = Piece::Row(word, fields.into_iter().collect());
                    if sender.send(row).await.is_err() {
                        break;
                    }
                }
                Answer::DONE
            })
        });
        tokio::spawn(serve(listen(&path).unwrap(), handler));
        (folder, path)
    }

    async fn said_raw(path: &Path, request: &[u8]) -> Answer {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(request).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let told = answer.split_inclusive(|b| *b == b'\n');
        let told: Vec<Told> = told.map(|l| serde_json::from_slice(l).unwrap()).collect();
        Answer {
            code: told.iter().find_map(|told| told.code).unwrap(),
            lines: told.into_iter().filter_map(|told| told.line).collect(),
        }
    }

    #[tokio::test]
    async fn words_go_in_and_an_answer_comes_out() {
        let (_folder, path) = served();
        let words = ["user", "run", "äpw\n", "two words", ""].map(str::to_owned);
        for _ in 0..40 {
            let answer = say(&path, &words).await.unwrap();
            assert_eq!(
                answer,
                Answer {
                    code: 0,
                    lines: words.to_vec()
                }
            );
        }
    }

    #[tokio::test]
    async fn many_are_answered_at_once() {
        let (_folder, path) = served();
        let calls: Vec<_> = (0..100)
            .map(|n| {
                let path = path.clone();
                tokio::spawn(async move { say(&path, &[n.to_string()]).await })
            })
            .collect();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap().unwrap().lines, [n.to_string()]);
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_answered() {
        let (_folder, path) = served();
        for request in [&b"status\n"[..], b"{}\n", b"\xff\n", b"{\"words\":[]}", b""] {
            let answer = said_raw(&path, request).await;
            assert_eq!(answer.code, Answer::NOT_UNDERSTOOD, "{request:?}");
            assert!(answer.lines[0].starts_with("no request: "), "{answer:?}");
        }
        let endless = vec![b'x'; LONGEST_REQUEST as usize];
        assert_eq!(said_raw(&path, &endless).await.code, Answer::NOT_UNDERSTOOD);
        assert!(
            say(&path, &["x".repeat(LONGEST_REQUEST as usize)])
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_not_waited_for() {
        let (_folder, path) = served();
        let mut silent = Vec::new();
        for _ in 0..WIDTH {
            silent.push(UnixStream::connect(&path).await.unwrap());
        }
        let began = tokio::time::Instant::now();
        let mut answer = String::new();
        silent[0].read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "");
        assert_eq!(began.elapsed(), DEADLINE);
        assert_eq!(say(&path, &[]).await.unwrap().code, Answer::DONE);
    }

    #[tokio::test]
    async fn the_socket_is_its_owners() {
        let (_folder, path) = served();
        let mode = std::fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn what_a_daemon_left_behind_is_replaced() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("control.sock");
        drop(listen(&path).unwrap());
        assert!(path.exists());
        let _listener = listen(&path).unwrap();
        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn neither_a_daemon_nor_a_file_is_pushed_aside() {
        let (folder, path) = served();
        let error = listen(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(
            error.to_string().starts_with("another daemon answers"),
            "{error}"
        );
        say(&path, &[]).await.unwrap();
        let file = folder.path().join("precious");
        std::fs::write(&file, "text").unwrap();
        assert!(listen(&file).unwrap_err().to_string().contains("no socket"));
        assert_eq!(std::fs::read(&file).unwrap(), b"text");
        assert!(listen(&folder.path().join("no/folder")).is_err());
    }
}
