//! One attempt at one address: the rules it is held to, the socket with every option and its source address, proxy, TLS
//! and certificate. Which attempts are made, and when, is `dial`'s and `race`'s.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::fault::{Address, Fault, FaultKind};
use super::ident::Idents;
use super::nat64::Translator;
use super::peer::is_loopback;
use super::resolve::{Resolve, literal};
use super::source::{Origins, Routes};
use super::tls::Connector;
use super::trace::Phase;
use super::{Stream, reach, socks, sys};
use crate::config::{Proxy, Scheme, ServerAddr};

/// How long unacknowledged data may wait before the connection counts as dead.
const USER_TIMEOUT: Duration = Duration::from_secs(90);

/// All that one attempt needs.
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) server: ServerAddr,
    /// The address is that of this proxy.
    pub(super) proxy: Option<Proxy>,
    pub(super) connector: Option<Result<Connector, Fault>>,
    pub(super) origins: Origins,
    pub(super) mss: u32,
    /// Where it is told whose the connection is, and whose.
    pub(super) ident: Option<(Idents, String)>,
    /// Whoever dials must not reach internal addresses.
    pub(super) guard: Option<Guard>,
}

/// Keeps those who make networks at run time out of internal places.
pub(super) struct Guard {
    pub(super) routes: Arc<dyn Routes>,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) translator: Translator,
}

impl Guard {
    async fn check(&self, addr: SocketAddr) -> Result<(), Fault> {
        let prefix = match addr {
            SocketAddr::V6(_) => self.translator.prefix(&*self.resolver).await,
            SocketAddr::V4(_) => None,
        };
        let translators = prefix.as_slice();
        let why = reach::refusal(addr, translators).or_else(|| {
            // What we reach from the very same address is this host, whatever network it is on.
            (self.routes.source(addr) == Some(addr.ip())).then_some("this host")
        });
        why.map_or(Ok(()), |why| Err(internal(why)))
    }
}

fn internal(why: &str) -> Fault {
    let text = format!("the address is internal ({why}): only administrators may use it");
    Fault::new(FaultKind::Policy, text)
}

impl Target {
    /// Dials; `on_phase` is awaited when a phase begins.
    pub(super) async fn dial(&self, on_phase: &impl OnPhase) -> Result<Stream, Fault> {
        let (scheme, host, port, addr) = match (&self.server, &self.address) {
            (ServerAddr::Tcp { scheme, host, port }, Address::Ip(addr)) => {
                (*scheme, host, *port, *addr)
            }
            (_, Address::Unix(path)) => {
                if self.guard.is_some() {
                    return Err(internal("a socket of this host"));
                }
                let connected = UnixStream::connect(path).await;
                return connected
                    .map(Stream::Unix)
                    .map_err(|error| connect_fault(&error));
            }
            (ServerAddr::Unix(_), Address::Ip(_)) => {
                return Err(Fault::new(
                    FaultKind::Policy,
                    "a unix socket has no address",
                ));
            }
        };
        self.check(scheme, host, port, addr).await?;
        let source = self.origins.check(addr)?;
        let mut tcp = self.connect(addr, source).await?;
        if let Some((idents, username)) = &self.ident {
            idents.add(&tcp, username).await;
        }
        if self.proxy.is_some() {
            on_phase.begins(Phase::Proxy).await;
            socks::connect(&mut tcp, host, port).await?;
        }
        match (scheme, &self.connector) {
            (Scheme::Local | Scheme::Insecure, _) => Ok(Stream::Tcp(tcp)),
            (Scheme::Tls, Some(Ok(connector))) => {
                on_phase.begins(Phase::Tls).await;
                let tls = connector.connect(host, tcp).await?;
                Ok(Stream::TlsClient(Box::new(tls)))
            }
            (Scheme::Tls, Some(Err(fault))) => Err(fault.clone()),
            (Scheme::Tls, None) => Err(Fault::new(FaultKind::Policy, "TLS is not set up")),
        }
    }

    /// Whether the address may be dialled at all; asked again for each address of each cycle.
    async fn check(
        &self,
        scheme: Scheme,
        host: &str,
        port: u16,
        addr: SocketAddr,
    ) -> Result<(), Fault> {
        if scheme == Scheme::Local && (self.proxy.is_some() || !is_loopback(addr.ip())) {
            return Err(Fault::new(
                FaultKind::Policy,
                "irc:// is for this machine alone and the address is not: use ircs://, or say irc+insecure:// if clear \
                 text is meant",
            ));
        }
        let Some(guard) = &self.guard else {
            return Ok(());
        };
        guard.check(addr).await?;
        match literal(host) {
            Some(mut behind) if self.proxy.is_some() => {
                behind.set_port(port);
                guard.check(behind).await
            }
            _ => Ok(()),
        }
    }

    async fn connect(&self, addr: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, Fault> {
        let socket = self.socket(addr).map_err(|error| connect_fault(&error))?;
        if let Some(ip) = source {
            self.bind(&socket, ip)
                .map_err(|error| source_fault(&error, ip))?;
        } else if addr.is_ipv6() {
            sys::prefer_source(&SockRef::from(&socket), self.origins.kind);
        }
        let connecting = TcpSocket::from_std_stream(socket.into()).connect(addr);
        let tcp = connecting.await.map_err(|error| match source {
            Some(ip) if error.kind() == io::ErrorKind::AddrNotAvailable => source_fault(&error, ip),
            _ => connect_fault(&error),
        })?;
        // Not before: the option would cut short the repetitions of the SYN, too.
        sys::set_user_timeout(&SockRef::from(&tcp), USER_TIMEOUT);
        Ok(tcp)
    }

    fn socket(&self, addr: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(15))
            .with_retries(4);
        socket.set_tcp_keepalive(&keepalive)?;
        if addr.is_ipv6() && self.mss > 0 {
            // Only a cure for broken paths: a system without the option connects all the same.
            let _ = socket.set_tcp_mss(self.mss);
        }
        Ok(socket)
    }

    fn bind(&self, socket: &Socket, ip: IpAddr) -> io::Result<()> {
        let reference = SockRef::from(socket);
        if self.origins.freebind {
            sys::set_freebind(&reference, ip.is_ipv6())?;
        }
        sys::bind_address_no_port(&reference);
        socket.bind(&SocketAddr::new(ip, 0).into())
    }
}

/// Is told when a phase begins.
pub(super) trait OnPhase {
    fn begins(&self, phase: Phase) -> impl Future<Output = ()> + Send;
}

/// A source address that cannot be used; nothing else is used in its place.
fn source_fault(error: &io::Error, ip: IpAddr) -> Fault {
    use io::ErrorKind as Kind;
    let text = match error.kind() {
        Kind::AddrNotAvailable => {
            format!(
                "the source address {ip} is on no interface of this host (dial.freebind binds it all the same)"
            )
        }
        Kind::PermissionDenied => format!("the source address {ip} may not be used"),
        _ => format!("the source address {ip} cannot be used: {error}"),
    };
    Fault::new(FaultKind::Source, text)
}

/// A failed `connect`, sorted and in words.
fn connect_fault(error: &io::Error) -> Fault {
    use io::ErrorKind as Kind;
    let (kind, text) = match error.kind() {
        Kind::ConnectionRefused => (FaultKind::Refused, "connection refused"),
        Kind::ConnectionReset => (FaultKind::Refused, "connection reset"),
        Kind::NetworkUnreachable | Kind::HostUnreachable => (FaultKind::NoRoute, "no route"),
        // What connect says for addresses behind `blackhole` and `prohibit` routes, and where the family is disabled.
        Kind::AddrNotAvailable | Kind::InvalidInput => {
            (FaultKind::NoRoute, "no route from any address of this host")
        }
        Kind::PermissionDenied => (FaultKind::NoRoute, "forbidden by a firewall or a route"),
        Kind::TimedOut => (FaultKind::TimedOut, "no TCP answer"),
        Kind::NotFound => (FaultKind::Refused, "no such socket"),
        _ => return Fault::new(FaultKind::NoRoute, format!("cannot connect: {error}")),
    };
    Fault::new(kind, text)
}

/// `irc.example.org:6697`, `[::1]:6697` or `unix:/path`.
pub(super) fn written(server: &ServerAddr) -> String {
    match server {
        ServerAddr::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
        ServerAddr::Tcp { host, port, .. } => format!("{host}:{port}"),
        ServerAddr::Unix(path) => format!("unix:{}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::super::source::Origins;
    use super::*;
    use crate::config::Dial;

    #[cfg(target_os = "linux")]
    #[test]
    fn an_address_that_no_interface_has_is_bound_if_that_is_wanted() {
        for ip in ["2001:db8::7", "203.0.113.7"] {
            let ip: IpAddr = ip.parse().unwrap();
            let addr = SocketAddr::new(ip, 6697);
            for freebind in [false, true] {
                let dial = Dial {
                    freebind,
                    ..Dial::default()
                };
                let target = Target {
                    address: Address::Ip(addr),
                    server: ServerAddr::Unix("unused".into()),
                    proxy: None,
                    connector: None,
                    origins: Origins::of(&dial, "apw", None),
                    mss: 1220,
                    ident: None,
                    guard: None,
                };
                let Ok(socket) = target.socket(addr) else {
                    continue; // A host without the family.
                };
                let bound = target.bind(&socket, ip).map_err(|error| error.kind());
                let expected = freebind
                    .then_some(())
                    .ok_or(io::ErrorKind::AddrNotAvailable);
                assert_eq!(bound, expected, "{ip}");
            }
        }
    }

    #[test]
    fn every_way_a_path_can_fail_has_its_kind() {
        for (errno, kind) in [
            (Errno::CONNREFUSED, FaultKind::Refused),
            (Errno::CONNRESET, FaultKind::Refused),
            (Errno::NETUNREACH, FaultKind::NoRoute),
            (Errno::HOSTUNREACH, FaultKind::NoRoute),
            (Errno::ADDRNOTAVAIL, FaultKind::NoRoute),
            (Errno::INVAL, FaultKind::NoRoute), // A `blackhole` route.
            (Errno::ACCESS, FaultKind::NoRoute), // A `prohibit` route.
            (Errno::AFNOSUPPORT, FaultKind::NoRoute),
            (Errno::TIMEDOUT, FaultKind::TimedOut),
        ] {
            assert_eq!(connect_fault(&errno.into()).kind, kind, "{errno:?}");
        }
    }
}
