//! An open listener: accepts connections, whatever becomes of the host meanwhile, and says which families it serves.
//! How it came to be is `open`'s. TLS begins later, in the connection's own task.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::sleep;

use super::Stream;
use super::peer::Peer;
use super::plan::{Place, Planned};
use super::seldom::Seldom;
use super::sys;
use crate::config::{Manner, Scheme};

/// Connections the kernel may keep for us to accept.
pub(super) const BACKLOG: u16 = 1024;
/// How long accepting pauses when descriptors or memory are used up.
const PAUSE: Duration = Duration::from_millis(100);

/// An open listening socket.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    planned: Planned,
    complaints: Seldom,
}

#[derive(Debug)]
pub(super) enum Kind {
    Tcp { socket: TcpListener, is_dual: bool },
    Unix(UnixSocket),
}

/// A unix socket and, where it is ours, its file, which goes with it.
#[derive(Debug)]
pub(super) struct UnixSocket {
    socket: UnixListener,
    _file: Option<File>,
}

/// The file of a unix socket.
#[derive(Debug)]
struct File {
    path: PathBuf,
    /// Device and inode: another process may have put its own socket there since.
    identity: (u64, u64),
}

impl UnixSocket {
    /// A socket that was bound to a path just now.
    pub(super) fn at(path: &Path, socket: UnixListener) -> io::Result<Self> {
        let file = File {
            path: path.to_owned(),
            identity: identity(path)?,
        };
        Ok(Self {
            socket,
            _file: Some(file),
        })
    }

    /// A socket whose file is somebody else's to remove.
    pub(super) fn passed(socket: UnixListener) -> Self {
        Self {
            socket,
            _file: None,
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if identity(&self.path).ok() == Some(self.identity) {
            // Nothing can be done about a file that stays; the next start finds it stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|status| (status.dev(), status.ino()))
}

impl Listener {
    pub(super) fn new(kind: Kind, planned: &Planned) -> Self {
        Self {
            kind,
            planned: planned.clone(),
            complaints: Seldom::default(),
        }
    }

    /// The next connection. Never fails: when descriptors run out it pauses and goes on.
    pub async fn accept(&self) -> (Stream, Peer) {
        loop {
            let accepted = match &self.kind {
                Kind::Tcp { socket, .. } => socket.accept().await.map(|(tcp, addr)| met(tcp, addr)),
                Kind::Unix(unix) => unix
                    .socket
                    .accept()
                    .await
                    .map(|(stream, _)| met_unix(stream)),
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(error) => self.recover(&error).await,
            }
        }
    }

    /// Those who wait to be accepted right now. Closing the socket would turn them away.
    pub fn waiting(&self) -> Vec<(Stream, Peer)> {
        let next = |_| self.accept_now().ok();
        (0..BACKLOG).map_while(next).collect()
    }

    fn accept_now(&self) -> io::Result<(Stream, Peer)> {
        let socket = match &self.kind {
            Kind::Tcp { socket, .. } => SockRef::from(socket),
            Kind::Unix(unix) => SockRef::from(&unix.socket),
        };
        let (accepted, addr) = socket.accept()?;
        accepted.set_nonblocking(true)?;
        Ok(match addr.as_socket() {
            Some(addr) => met(TcpStream::from_std(accepted.into())?, addr),
            None => met_unix(UnixStream::from_std(accepted.into())?),
        })
    }

    /// Pauses, unless the error was about one connection alone: when descriptors run out, trying again at once would spin.
    async fn recover(&self, error: &io::Error) {
        if is_of_one_connection(error) {
            return;
        }
        if let Some(untold) = self.complaints.may_tell() {
            tracing::error!(
                "cannot accept connections on {}, pausing: {error}{untold}",
                self.planned.place
            );
        }
        sleep(PAUSE).await;
    }

    /// Where it listens, with the port the system chose; `None` for unix sockets.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp { socket, .. } => socket.local_addr().ok(),
            Kind::Unix(_) => None,
        }
    }

    /// What is spoken; the handshakes of TLS and WebSocket are still to be made.
    pub fn manner(&self) -> Manner {
        self.planned.manner
    }

    /// The same socket, on which something else is spoken from now on.
    #[must_use]
    pub fn with_manner(mut self, manner: Manner) -> Self {
        self.planned.manner = manner;
        self
    }

    /// What it was planned as, to tell what a reload changes.
    pub fn planned(&self) -> &Planned {
        &self.planned
    }
}

impl fmt::Display for Listener {
    /// `[::]:6697 (IPv6 and IPv4), TLS`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.local_addr(), &self.kind) {
            (Some(addr), Kind::Tcp { is_dual: true, .. }) => write!(f, "{addr} (IPv6 and IPv4)")?,
            (Some(addr), _) if addr.is_ipv6() => write!(f, "{addr} (IPv6)")?,
            (Some(addr), _) => write!(f, "{addr} (IPv4)")?,
            (None, _) => self.planned.place.fmt(f)?,
        }
        match (&self.kind, self.planned.manner.scheme) {
            (Kind::Unix(_), _) => {}
            (_, Scheme::Tls) => f.write_str(", TLS")?,
            (_, Scheme::Local | Scheme::Insecure) => f.write_str(", clear text")?,
        }
        if self.planned.manner.web {
            f.write_str(", WebSocket")?;
        }
        match (&self.planned.place, &self.kind) {
            (Place::Passed(passed), Kind::Tcp { .. }) => {
                write!(f, ", from systemd as \"{}\"", passed.name)
            }
            _ => Ok(()),
        }
    }
}

/// Somebody who came over TCP. A socket that refuses the options is on its way out already.
fn met(tcp: TcpStream, addr: SocketAddr) -> (Stream, Peer) {
    let _ = tcp.set_nodelay(true);
    let socket = SockRef::from(&tcp);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(300))
        .with_interval(Duration::from_secs(30))
        .with_retries(4);
    let _ = socket.set_tcp_keepalive(&keepalive);
    sys::set_user_timeout(&socket, Duration::from_secs(180));
    (Stream::Tcp(tcp), Peer::from_accept(addr))
}

fn met_unix(stream: UnixStream) -> (Stream, Peer) {
    let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
    (Stream::Unix(stream), Peer::Unix { uid })
}

/// The connection went away before it was accepted; the listener is well.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    ) || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::PROTO)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn running_out_of_descriptors_pauses() {
        let socket = TcpListener::bind("[::1]:0").await.unwrap();
        let planned = Planned {
            place: Place::Ip(socket.local_addr().unwrap()),
            manner: Scheme::Local.into(),
        };
        let kind = Kind::Tcp {
            socket,
            is_dual: false,
        };
        let listener = Listener::new(kind, &planned);
        let begun = Instant::now();
        listener.recover(&rustix::io::Errno::MFILE.into()).await;
        assert_eq!(begun.elapsed(), PAUSE);
        assert_eq!(listener.complaints.may_tell(), None, "it has told just now");

        let begun = Instant::now();
        listener
            .recover(&rustix::io::Errno::CONNABORTED.into())
            .await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn whoever_waits_can_be_taken_before_the_socket_is_closed() {
        for address in ["[::1]:0", "127.0.0.1:0"] {
            let socket = TcpListener::bind(address).await.unwrap();
            let addr = socket.local_addr().unwrap();
            let planned = Planned {
                place: Place::Ip(addr),
                manner: Scheme::Local.into(),
            };
            let kind = Kind::Tcp {
                socket,
                is_dual: false,
            };
            let listener = Listener::new(kind, &planned);
            assert!(listener.waiting().is_empty());
            let clients = [
                TcpStream::connect(addr).await.unwrap(),
                TcpStream::connect(addr).await.unwrap(),
            ];
            let waiting = listener.waiting();
            let ports: Vec<_> = waiting.iter().map(|(_, peer)| peer.to_string()).collect();
            let expected = clients.map(|client| client.local_addr().unwrap().to_string());
            assert_eq!(ports, expected);
            assert!(listener.waiting().is_empty());
        }
    }
}
