//! A mock IRC server. It takes connections one by one, as the test asks for them; on each it behaves as its script says,
//! and the test may say and break whatever it likes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::in_time;
use super::script::{Script, Session};
use super::talk::{Hook, Reaction, Stream, Talk};
use super::tls::{Identity, fingerprint};

/// The server. Dropping it closes its port, not its links.
pub struct MockIrcd {
    listener: TcpListener,
    script: Mutex<Script>,
    tls: Option<(TlsAcceptor, Identity)>,
}

impl MockIrcd {
    /// In clear text on `[::1]`.
    pub async fn start(script: Script) -> Self {
        Self::start_at((Ipv6Addr::LOCALHOST, 0).into(), script).await
    }

    /// In clear text on `127.0.0.1`.
    pub async fn start_v4(script: Script) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script).await
    }

    /// In clear text on some address.
    pub async fn start_at(addr: SocketAddr, script: Script) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        Self {
            listener,
            script: Mutex::new(script),
            tls: None,
        }
    }

    /// With TLS on `[::1]`, and a certificate of its own.
    pub async fn start_tls(script: Script) -> Self {
        let identity = Identity::new(script.name);
        Self::start_at((Ipv6Addr::LOCALHOST, 0).into(), script)
            .await
            .with_tls(identity)
    }

    /// Speaks TLS with this certificate.
    #[must_use]
    pub fn with_tls(mut self, identity: Identity) -> Self {
        self.tls = Some((TlsAcceptor::from(identity.server()), identity));
        self
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// As `servers` in the configuration has it.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "ircs" } else { "irc" };
        format!("{scheme}://{}", self.addr())
    }

    /// The certificate it shows.
    pub fn identity(&self) -> &Identity {
        &self.tls.as_ref().expect("it speaks TLS").1
    }

    /// Changes how the links to come behave.
    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> Link {
        in_time("a connection to the mock server", self.try_accept())
            .await
            .unwrap()
    }

    /// Waits for the next connection, whose handshake may fail.
    pub async fn try_accept(&self) -> io::Result<Link> {
        let (stream, peer) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        let socket = stream.as_fd().try_clone_to_owned()?;
        let (stream, fingerprint) = self.wrap(stream).await?;
        let session = Session::new(fingerprint);
        Ok(Link::start(
            stream,
            session,
            self.script.lock().unwrap().clone(),
            socket,
            peer,
        ))
    }

    /// Waits for the next connection and closes it at once, without a byte.
    pub async fn accept_and_close(&self) {
        in_time("a connection to the mock server", self.listener.accept())
            .await
            .unwrap();
    }

    async fn wrap(&self, stream: TcpStream) -> io::Result<(Box<dyn Stream>, Option<String>)> {
        let Some((acceptor, _)) = &self.tls else {
            return Ok((Box::new(stream), None));
        };
        let stream = acceptor.accept(stream).await?;
        let shown = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        let fingerprint = shown.map(fingerprint);
        Ok((Box::new(stream), fingerprint))
    }
}

/// An address nobody listens on.
pub fn nowhere(ip: IpAddr) -> SocketAddr {
    std::net::TcpListener::bind((ip, 0))
        .and_then(|listener| listener.local_addr())
        .unwrap()
}

/// One connection to the mock server. See [`Talk`] for what can be said and waited for.
pub struct Link {
    talk: Talk,
    session: Arc<Mutex<Session>>,
    script: Arc<Mutex<Option<Script>>>,
    socket: OwnedFd,
    /// Who connected.
    pub peer: SocketAddr,
}

impl Link {
    fn start(
        stream: Box<dyn Stream>,
        session: Session,
        script: Script,
        socket: OwnedFd,
        peer: SocketAddr,
    ) -> Self {
        let session = Arc::new(Mutex::new(session));
        let script = Arc::new(Mutex::new(Some(script)));
        let hook: Hook = {
            let (session, script) = (Arc::clone(&session), Arc::clone(&script));
            Box::new(move |line| match &*script.lock().unwrap() {
                Some(script) => session.lock().unwrap().hear(script, line),
                None => Reaction::default(),
            })
        };
        Self {
            talk: Talk::start(stream, hook),
            session,
            script,
            socket,
            peer,
        }
    }

    /// Waits until registration is complete.
    #[track_caller]
    pub fn registered(&mut self) -> impl Future<Output = ()> {
        self.talk.has_said("422")
    }

    /// What the connection has come to.
    pub fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap()
    }

    /// The nick the other side has now.
    pub fn nick(&self) -> String {
        self.session().nick.clone().expect("there is a nick")
    }

    /// Changes how this link behaves.
    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        if let Some(script) = &mut *self.script.lock().unwrap() {
            change(script);
        }
    }

    /// From now on nothing is answered by itself, not even PING.
    pub fn fall_silent(&self) {
        *self.script.lock().unwrap() = None;
    }

    /// Somebody says something to a channel or a person.
    pub async fn privmsg(&self, nick: &str, target: &str, text: &str) {
        self.talk
            .send(&format!(
                ":{nick}!{nick}@host.test PRIVMSG {target} :{text}"
            ))
            .await;
    }

    /// Breaks the connection with a reset.
    pub async fn kill_link(mut self) {
        SockRef::from(&self.socket)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        self.talk.abandon().await;
        // The reset goes out when `self.socket`, the last descriptor, is closed.
    }
}

impl std::ops::Deref for Link {
    type Target = Talk;

    fn deref(&self) -> &Talk {
        &self.talk
    }
}

impl std::ops::DerefMut for Link {
    fn deref_mut(&mut self) -> &mut Talk {
        &mut self.talk
    }
}
