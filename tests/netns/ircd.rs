//! A server on both families of a host, which behaves as each family is told to, and tells what happened when.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::lab::{Lab, SERVER};

/// What a family does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Well,
    /// No answer to TLS.
    Hang,
    /// TLS, and then not a word.
    Silent,
    Close,
    Reset,
    /// TLS, and then `ERROR`.
    Error,
    /// It talks at once, but has registered nobody before so long.
    Late(Duration),
}

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub at: Instant,
    pub peer: IpAddr,
    /// 001 was sent; else the connection was taken.
    pub registered: bool,
}

/// The server.
pub struct Ircd {
    events: Mutex<Receiver<Event>>,
}

impl Ircd {
    /// Starts it, IPv6 in one mode and IPv4 in the other.
    pub fn start(lab: &Lab, v6: Mode, v4: Mode) -> Self {
        let (tell, events) = channel();
        let (ready, is_ready) = channel();
        lab.spawn_within("s", move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(serve([v6, v4], tell, ready));
        });
        for _ in SERVER {
            is_ready.recv().expect("both listeners are open");
        }
        Self {
            events: Mutex::new(events),
        }
    }

    /// Waits for the next 001, at most so long.
    pub fn registered(&self, within: Duration) -> Option<Event> {
        let until = Instant::now() + within;
        let events = self.events.lock().unwrap();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match events.recv_timeout(left) {
                Ok(event) if event.registered => return Some(event),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

async fn serve(modes: [Mode; 2], tell: Sender<Event>, ready: Sender<()>) {
    let acceptor = TlsAcceptor::from(identity());
    let mut tasks = tokio::task::JoinSet::new();
    for (n, ip) in SERVER.into_iter().enumerate() {
        let addr: SocketAddr = (ip.parse::<IpAddr>().unwrap(), 6697).into();
        let listener = TcpListener::bind(addr).await.unwrap();
        let (tell, acceptor) = (tell.clone(), acceptor.clone());
        ready.send(()).unwrap();
        tasks.spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                let event = Event {
                    at: Instant::now(),
                    peer: peer.ip(),
                    registered: false,
                };
                _ = tell.send(event);
                let mode = modes[n];
                let (tell, acceptor) = (tell.clone(), acceptor.clone());
                tokio::spawn(async move {
                    // A client that went away is no matter.
                    _ = talk(stream, mode, &acceptor, &tell).await;
                });
            }
        });
    }
    tasks.join_next().await;
}

async fn talk(
    stream: TcpStream,
    mode: Mode,
    acceptor: &TlsAcceptor,
    tell: &Sender<Event>,
) -> io::Result<()> {
    let peer = stream.peer_addr()?.ip();
    match mode {
        Mode::Close => return Ok(()),
        Mode::Reset => return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
        Mode::Hang => std::future::pending().await,
        Mode::Well | Mode::Silent | Mode::Error | Mode::Late(_) => {}
    }
    let mut stream = BufReader::new(acceptor.accept(stream).await?);
    if mode == Mode::Error {
        stream
            .write_all(b"ERROR :Closing Link: you are banned\r\n")
            .await?;
        stream.flush().await?;
        return stream.shutdown().await;
    }
    let (mut line, mut nick) = (String::new(), String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let answer = match words[..] {
            _ if mode == Mode::Silent => continue,
            ["CAP", "LS", ..] => "CAP * LS :\r\n".to_owned(),
            ["NICK", name] => {
                nick = name.trim_start_matches(':').to_owned();
                continue;
            }
            ["USER", ..] => {
                if let Mode::Late(wait) = mode {
                    tokio::time::sleep(wait).await;
                }
                format!(":irc.test 001 {nick} :Welcome\r\n:irc.test 422 {nick} :No MOTD\r\n")
            }
            ["PING", token, ..] => format!(":irc.test PONG irc.test {token}\r\n"),
            _ => continue,
        };
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
        if answer.contains(" 001 ") {
            let at = Instant::now();
            _ = tell.send(Event {
                at,
                peer,
                registered: true,
            });
        }
    }
}

/// A certificate of several KiB, as real ones with their chains are: it does not fit into one packet.
fn identity() -> Arc<ServerConfig> {
    let names: Vec<_> = std::iter::once("irc.test".to_owned())
        .chain((0..120).map(|n| format!("another-name-of-the-same-server-{n}.irc.test")))
        .collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    Arc::new(config)
}
