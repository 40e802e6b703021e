//! Says whose a connection is that we made (RFC 1413): to the server at its other end, and to nobody else. Connections are
//! noted when TCP comes up, before a byte is sent, because servers ask then. Where an oidentd answers for the whole host, it
//! is told in a file instead.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::Stream;
use super::peer::Peer;
use super::seldom::Seldom;

/// A connection is answered for so long: servers ask when it is made.
const LIFE: Duration = Duration::from_secs(300);
/// So many are answered for; the oldest give way.
const MOST: usize = 4096;
/// A question may be so long.
const QUESTION: usize = 512;
/// Question and answer may take so long.
const DEADLINE: Duration = Duration::from_secs(10);
/// A server may ask before we know that the connection is up.
const PATIENCE: Duration = Duration::from_millis(500);

/// The connections that were made lately. Clones are the same.
#[derive(Clone)]
pub struct Idents(Arc<Inner>);

struct Inner {
    entries: Mutex<VecDeque<Entry>>,
    /// There is one more.
    added: Notify,
    files: Vec<PathBuf>,
    /// Held while the files are written, so that the last one written is the newest.
    writing: Mutex<()>,
    complaints: Seldom,
}

#[derive(Debug, Clone)]
struct Entry {
    local: SocketAddr,
    remote: SocketAddr,
    username: String,
    until: Instant,
}

/// Which connection is meant: our port, and theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports(u16, u16);

impl Idents {
    /// Nobody yet. `files` are configurations of oidentd, which are ours to write.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            entries: Mutex::default(),
            added: Notify::new(),
            files,
            writing: Mutex::default(),
            complaints: Seldom::default(),
        }))
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        let entries = self.0.entries.lock();
        entries.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose this new connection is. Returns when all who answer know.
    pub(super) async fn add(&self, tcp: &TcpStream, username: &str) {
        let (Ok(local), Ok(remote)) = (tcp.local_addr(), tcp.peer_addr()) else {
            // It is gone already.
            return;
        };
        self.note(local, remote, username);
        self.write_files().await;
    }

    fn note(&self, local: SocketAddr, remote: SocketAddr, username: &str) {
        let (local, remote) = (canonical(local), canonical(remote));
        let now = Instant::now();
        let mut entries = self.entries();
        entries.retain(|one| one.until > now && (one.local, one.remote) != (local, remote));
        if entries.len() >= MOST {
            entries.pop_front();
        }
        entries.push_back(Entry {
            local,
            remote,
            username: plain(username),
            until: now + LIFE,
        });
        drop(entries);
        self.0.added.notify_waiters();
    }

    /// Whose the connection between these ports is, asked from `peer` at our address `here`. That only tells connections
    /// apart: behind a translator it may be another one than that of the connection.
    fn find(&self, ports: Ports, here: IpAddr, peer: IpAddr) -> Option<String> {
        let now = Instant::now();
        let entries = self.entries();
        let meant = entries.iter().filter(|one| {
            let between = Ports(one.local.port(), one.remote.port());
            one.until > now && between == ports && one.remote.ip() == peer
        });
        let meant: Vec<&Entry> = meant.collect();
        let found = meant.iter().find(|one| one.local.ip() == here);
        let only = (meant.len() == 1).then(|| meant.first()).flatten();
        found.or(only).map(|one| one.username.clone())
    }

    /// The same, with some patience.
    async fn wait_for(&self, ports: Ports, here: IpAddr, peer: IpAddr) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut added = std::pin::pin!(self.0.added.notified());
            // Before looking, so that nothing falls between the two.
            added.as_mut().enable();
            if let Some(username) = self.find(ports, here, peer) {
                return Some(username);
            }
            timeout_at(deadline, added).await.ok()?;
        }
    }

    /// Answers one question on a connection.
    pub async fn serve(self, stream: Stream, peer: Peer) {
        let (Stream::Tcp(mut tcp), Some(peer)) = (stream, peer.ip()) else {
            return;
        };
        // Whoever is too slow, or gone, needs no answer.
        _ = timeout(DEADLINE, async {
            let here = canonical(tcp.local_addr().ok()?).ip();
            let question = read(&mut tcp).await?;
            let answer = self.answer(&question, here, peer).await;
            tcp.write_all(answer.as_bytes()).await.ok()?;
            tcp.shutdown().await.ok()
        })
        .await;
    }

    async fn answer(&self, question: &[u8], here: IpAddr, peer: IpAddr) -> String {
        let (ours, theirs) = numbers(question).unwrap_or_default();
        let said = match (u16::try_from(ours), u16::try_from(theirs)) {
            (Ok(ours @ 1..), Ok(theirs @ 1..)) => {
                match self.wait_for(Ports(ours, theirs), here, peer).await {
                    Some(username) => format!("USERID : UNIX : {username}"),
                    None => "ERROR : NO-USER".to_owned(),
                }
            }
            _ => "ERROR : INVALID-PORT".to_owned(),
        };
        format!("{ours}, {theirs} : {said}\r\n")
    }

    /// Tells oidentd of the connections there are.
    pub async fn write_files(&self) {
        if self.0.files.is_empty() {
            return;
        }
        let idents = self.clone();
        // A task that is gone has told why.
        _ = tokio::task::spawn_blocking(move || idents.write_now()).await;
    }

    fn write_now(&self) {
        let writing = self.0.writing.lock();
        let _writing = writing.unwrap_or_else(PoisonError::into_inner);
        let text = self.oidentd();
        for path in &self.0.files {
            if let Err(error) = replace(path, &text)
                && let Some(untold) = self.0.complaints.may_tell()
            {
                tracing::warn!(
                    "oidentd is not told of connections: {}: {error}{untold}",
                    path.display()
                );
            }
        }
    }

    /// In the order of its manual, which older ones insist on.
    fn oidentd(&self) -> String {
        let mut text = String::from("# Written by carom; changes are lost.\n");
        let now = Instant::now();
        for one in self.entries().iter().filter(|one| one.until > now) {
            _ = writeln!(
                text,
                "to {} fport {} from {} lport {} {{ reply \"{}\" }}",
                one.remote.ip(),
                one.remote.port(),
                one.local.ip(),
                one.local.port(),
                one.username
            );
        }
        text
    }
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// A name that can stand in an answer and in quotes.
fn plain(username: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | ':');
    username.chars().filter(is_plain).collect()
}

/// The two numbers of a question.
fn numbers(question: &[u8]) -> Option<(u32, u32)> {
    let (ours, theirs) = std::str::from_utf8(question).ok()?.split_once(',')?;
    let number = |text: &str| {
        let text = text.trim();
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_number)
    };
    Some((number(ours)?, number(theirs)?))
}

/// The first line, without its end.
async fn read(tcp: &mut TcpStream) -> Option<Vec<u8>> {
    let mut question = Vec::new();
    let mut chunk = [0; 128];
    loop {
        let taken = tcp.read(&mut chunk).await.ok().filter(|taken| *taken > 0)?;
        question.extend_from_slice(&chunk[..taken]);
        if let Some(end) = question.iter().position(|byte| *byte == b'\n') {
            question.truncate(end);
            return Some(question);
        }
        if question.len() >= QUESTION {
            return Some(Vec::new());
        }
    }
}

/// Puts a file in the place of another, whole. Everybody may read it: oidentd runs as somebody else.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".carom");
    let new = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(0o644);
    let mut file = options.open(&new)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    drop(file);
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V6: (&str, &str) = ("[2001:db8::7]:40001", "[2001:db8::1]:6697");
    const V4: (&str, &str) = ("192.0.2.7:40002", "[::ffff:198.51.100.1]:6667");

    fn idents(files: Vec<PathBuf>) -> Idents {
        let idents = Idents::new(files);
        for ((local, remote), name) in [(V6, "apw"), (V4, "b:o\"b\r\n")] {
            idents.note(local.parse().unwrap(), remote.parse().unwrap(), name);
        }
        idents
    }

    async fn answer(idents: &Idents, question: &str, here: &str, peer: &str) -> String {
        let (here, peer) = (here.parse().unwrap(), peer.parse().unwrap());
        idents.answer(question.as_bytes(), here, peer).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_other_end_alone_is_told_whose_a_connection_is() {
        let idents = idents(Vec::new());
        let (v6, v4) = (
            ("2001:db8::7", "2001:db8::1"),
            ("192.0.2.7", "198.51.100.1"),
        );
        for (question, (here, peer), expected) in [
            ("40001, 6697\r", v6, "40001, 6697 : USERID : UNIX : apw\r\n"),
            ("40001,6697", v6, "40001, 6697 : USERID : UNIX : apw\r\n"),
            (
                " 40002 , 6667 ",
                v4,
                "40002, 6667 : USERID : UNIX : bob\r\n",
            ),
            // Behind a translator.
            (
                "40002,6667",
                ("10.0.0.7", v4.1),
                "40002, 6667 : USERID : UNIX : bob\r\n",
            ),
            ("40001, 6697", v4, "40001, 6697 : ERROR : NO-USER\r\n"),
            (
                "40001, 6697",
                (v6.0, "2001:db8::2"),
                "40001, 6697 : ERROR : NO-USER\r\n",
            ),
            ("6697, 40001", v6, "6697, 40001 : ERROR : NO-USER\r\n"),
            ("0, 6697", v6, "0, 6697 : ERROR : INVALID-PORT\r\n"),
            (
                "40001, 65536",
                v6,
                "40001, 65536 : ERROR : INVALID-PORT\r\n",
            ),
            ("40001 6697", v6, "0, 0 : ERROR : INVALID-PORT\r\n"),
            ("+40001, 6697", v6, "0, 0 : ERROR : INVALID-PORT\r\n"),
            ("", v6, "0, 0 : ERROR : INVALID-PORT\r\n"),
            ("\u{fc}, 1, 2", v6, "0, 0 : ERROR : INVALID-PORT\r\n"),
        ] {
            let told = answer(&idents, question, here, peer).await;
            assert_eq!(told, expected, "{question:?} from {peer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_differ_in_our_address_alone_are_told_apart() {
        let idents = idents(Vec::new());
        let other = "[2001:db8::8]:40001".parse().unwrap();
        idents.note(other, V6.1.parse().unwrap(), "bob");
        for (here, expected) in [
            ("2001:db8::7", "USERID : UNIX : apw"),
            ("2001:db8::8", "USERID : UNIX : bob"),
            ("2001:db8::9", "ERROR : NO-USER"),
        ] {
            let told = answer(&idents, "40001, 6697", here, "2001:db8::1").await;
            assert!(told.contains(expected), "{here}: {told}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_comes_too_early_waits_and_one_that_comes_late_is_in_vain() {
        let idents = idents(Vec::new());
        let asks = answer(&idents, "40003, 6697", "2001:db8::7", "2001:db8::1");
        let (told, ()) = tokio::join!(asks, async {
            tokio::task::yield_now().await;
            let local = "[2001:db8::7]:40003".parse().unwrap();
            idents.note(local, V6.1.parse().unwrap(), "late");
        });
        assert!(told.contains(": late"), "{told}");
        tokio::time::advance(LIFE).await;
        let told = answer(&idents, "40003, 6697", "2001:db8::7", "2001:db8::1").await;
        assert!(told.contains("NO-USER"), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_give_way() {
        let idents = idents(Vec::new());
        for port in 0..MOST {
            let local = SocketAddr::new("192.0.2.7".parse().unwrap(), port as u16);
            idents.note(local, V6.1.parse().unwrap(), "apw");
        }
        assert_eq!(idents.entries().len(), MOST);
        assert_eq!(idents.entries()[0].local.port(), 0);
    }

    #[tokio::test]
    async fn oidentd_reads_who_is_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".oidentd.conf");
        fs::write(&path, "old").unwrap();
        let idents = idents(vec![path.clone(), folder.path().join("no/such/folder")]);
        idents.write_files().await;
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "# Written by carom; changes are lost.\n\
             to 2001:db8::1 fport 6697 from 2001:db8::7 lport 40001 { reply \"apw\" }\n\
             to 198.51.100.1 fport 6667 from 192.0.2.7 lport 40002 { reply \"bob\" }\n"
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
