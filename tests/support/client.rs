//! A raw IRC client: says lines, and shows those that come. It answers PING unless told not to.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::in_time;
use super::talk::{Chunks, Hook, Reaction, Stream, Talk, command_of};
use super::tls::{self, Identity};
use super::web;

/// A client. See [`Talk`] for what can be said and waited for.
pub struct Client {
    talk: Talk,
    /// For [`Client::reset`].
    socket: Option<OwnedFd>,
    pongs: Arc<AtomicBool>,
    syncs: usize,
}

impl Client {
    /// Connects in clear text.
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = in_time("connecting", TcpStream::connect(addr))
            .await
            .unwrap();
        Self::over(stream)
    }

    /// Connects in clear text from an address of its own: all of `127.0.0.0/8` may be had.
    pub async fn connect_from(from: IpAddr, addr: SocketAddr) -> Self {
        let socket = match from {
            IpAddr::V4(_) => TcpSocket::new_v4(),
            IpAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.unwrap();
        socket.bind((from, 0).into()).unwrap();
        let stream = in_time("connecting", socket.connect(addr)).await.unwrap();
        Self::over(stream)
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        let socket = stream.as_fd().try_clone_to_owned().unwrap();
        let mut client = Self::start(Box::new(stream));
        client.socket = Some(socket);
        client
    }

    /// Breaks the connection with a reset. Only for clear text over TCP.
    pub async fn reset(mut self) {
        let socket = self.socket.take().unwrap();
        SockRef::from(&socket)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        // The reset goes out when the last descriptor is closed.
        self.talk.abandon().await;
    }

    /// Connects with TLS, whatever certificate there is; shows `identity` when asked for one.
    pub async fn connect_tls(addr: SocketAddr, identity: Option<&Identity>) -> Self {
        let stream = in_time("connecting", TcpStream::connect(addr))
            .await
            .unwrap();
        stream.set_nodelay(true).unwrap();
        let connector = TlsConnector::from(tls::client(identity));
        let name = ServerName::from(addr.ip());
        let stream = in_time("the TLS handshake", connector.connect(name, stream))
            .await
            .unwrap();
        Self::start(Box::new(stream))
    }

    /// Connects as a web client that wants `protocol`, in clear text or, given a configuration, with TLS.
    pub async fn connect_web(
        addr: SocketAddr,
        protocol: &str,
        tls: Option<Arc<ClientConfig>>,
    ) -> Self {
        let stream = in_time("connecting", TcpStream::connect(addr))
            .await
            .unwrap();
        stream.set_nodelay(true).unwrap();
        let Some(config) = tls else {
            return Self::over_web(Box::new(stream), protocol, "").await;
        };
        let name = ServerName::from(addr.ip());
        let connecting = TlsConnector::from(config).connect(name, stream);
        let stream = in_time("the TLS handshake", connecting).await.unwrap();
        Self::over_web(Box::new(stream), protocol, "").await
    }

    /// A web client on a connection, with these headers more in its request.
    pub async fn over_web(mut stream: Box<dyn Stream>, protocol: &str, more: &str) -> Self {
        let asked = web::request(&format!("Sec-WebSocket-Protocol: {protocol}\r\n{more}"));
        let answer = web::ask(&mut stream, &asked).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(
            answer.contains("\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
            "{answer}"
        );
        let kind = match protocol {
            "binary.ircv3.net" => web::BINARY,
            _ => web::TEXT,
        };
        Self::start(Box::new(web::lines(stream, kind)))
    }

    /// Connects to a unix socket.
    pub async fn connect_unix(path: &Path) -> Self {
        let stream = in_time("connecting", UnixStream::connect(path))
            .await
            .unwrap();
        Self::start(Box::new(stream))
    }

    fn start(stream: Box<dyn Stream>) -> Self {
        let pongs = Arc::new(AtomicBool::new(true));
        let hook: Hook = {
            let pongs = Arc::clone(&pongs);
            Box::new(move |line| {
                let token = command_of(line).strip_prefix("PING ");
                let token = token.filter(|_| pongs.load(Ordering::SeqCst));
                let say = token
                    .map(|token| format!("PONG {token}"))
                    .into_iter()
                    .collect();
                Reaction { say, close: false }
            })
        };
        Self {
            talk: Talk::start(stream, hook),
            socket: None,
            pongs,
            syncs: 0,
        }
    }

    /// Whether PING is answered, from now on.
    pub fn set_pongs(&self, pongs: bool) {
        self.pongs.store(pongs, Ordering::SeqCst);
    }

    /// Writes single bytes from now on.
    #[must_use]
    pub fn in_bytes(self) -> Self {
        self.talk.set_chunks(Chunks::Bytes);
        self
    }

    /// Registers with the server password in any of its forms, as in `apw/oftc@laptop:secret`.
    pub async fn register(&self, pass: &str) {
        self.send(&format!("PASS {pass}")).await;
        self.send("NICK zed").await;
        self.send("USER zed 0 * :Zed").await;
    }

    /// Logs in with the server password, through to the end of the welcome.
    pub async fn login(&mut self, pass: &str) {
        self.register(pass).await;
        self.welcomed().await;
    }

    /// Logs in with SASL PLAIN, asking for `caps` too, through to the end of the welcome.
    pub async fn login_sasl(&mut self, name: &str, password: &str, caps: &[&str]) {
        self.send("CAP LS 302").await;
        self.send("NICK zed").await;
        self.send("USER zed 0 * :Zed").await;
        self.send(&format!(
            "CAP REQ :{}",
            [&["sasl"], caps].concat().join(" ")
        ))
        .await;
        self.expect_where("CAP ACK", |line| line.contains(" ACK "))
            .await;
        self.authenticate(name, password).await;
        self.expect("903").await;
        self.send("CAP END").await;
        self.welcomed().await;
    }

    /// Says who it is by SASL PLAIN, without waiting for the answer.
    pub async fn authenticate(&mut self, name: &str, password: &str) {
        self.send("AUTHENTICATE PLAIN").await;
        self.expect("AUTHENTICATE +").await;
        let payload = BASE64.encode(format!("\0{name}\0{password}"));
        for chunk in payload.as_bytes().chunks(400) {
            self.send(&format!("AUTHENTICATE {}", str::from_utf8(chunk).unwrap()))
                .await;
        }
        if payload.len() % 400 == 0 {
            self.send("AUTHENTICATE +").await;
        }
    }

    /// Waits for the end of the welcome: the end of the message of the day, or that there is none.
    pub async fn welcomed(&mut self) {
        self.expect("001").await;
        self.expect_where("376 or 422", |line| {
            command_of(line).starts_with("376 ") || command_of(line).starts_with("422 ")
        })
        .await;
    }

    /// Everything that comes before the answer to a PING said now. Nothing said before can still be on its way then.
    pub async fn sync(&mut self) -> Vec<String> {
        self.syncs += 1;
        let token = format!("sync-{}", self.syncs);
        self.send(&format!("PING :{token}")).await;
        let through = self.expect_lines("the PONG", move |line| {
            command_of(line).starts_with("PONG ") && line.ends_with(&token)
        });
        let mut lines = through.await;
        lines.pop();
        lines.retain(|line| !command_of(line).starts_with("PING "));
        lines
    }

    /// The texts of all PRIVMSGs up to and without the one that is `marker`.
    pub async fn texts_until(&mut self, marker: &str) -> Vec<String> {
        let what = format!("a message {marker:?}");
        let lines = self
            .expect_lines(&what, |line| text_of(line) == Some(marker))
            .await;
        let mut texts: Vec<String> = lines
            .iter()
            .filter_map(|line| text_of(line))
            .map(str::to_owned)
            .collect();
        texts.pop();
        texts
    }
}

/// The text of a PRIVMSG.
pub fn text_of(line: &str) -> Option<&str> {
    let rest = command_of(line).strip_prefix("PRIVMSG ")?;
    let (_, text) = rest.split_once(' ')?;
    Some(text.strip_prefix(':').unwrap_or(text))
}

impl std::ops::Deref for Client {
    type Target = Talk;

    fn deref(&self) -> &Talk {
        &self.talk
    }
}

impl std::ops::DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Talk {
        &mut self.talk
    }
}
