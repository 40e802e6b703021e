//! Opens the sockets of a plan, all of them or none. What it says about them and about failures names the family, so
//! that nobody serves one family without knowing. Accepting is `listen`'s.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::sleep;

use super::listen::{BACKLOG, Kind, Listener, UnixSocket};
use super::listen_error::{ListenError, port};
use super::peer::IpVersion;
use super::plan::{LookedUp, Place, PlanError, Planned, plan, without_ipv4};
use super::resolve::{Resolve, ResolveError, addresses};
use super::sys;
use super::systemd::{Passed, Sockets};
use crate::config::{Dial, Listen, ListenHost};

/// How long an address, an interface or a name may take to appear after boot.
const APPEARANCE: Duration = Duration::from_secs(30);
/// How often it is looked for meanwhile.
const RETRY: Duration = Duration::from_secs(1);

/// How sockets are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Whether addresses that no interface has are bound.
    pub freebind: bool,
    /// MSS of IPv6 sockets; 0: left alone. Clients behind tunnels that lose larger packets get through.
    pub ipv6_mss: u32,
    /// Whether addresses that are not there yet are waited for.
    pub patient: bool,
}

impl Options {
    /// As the configuration has it, waiting for what comes late.
    pub fn new(dial: &Dial) -> Self {
        Self {
            freebind: dial.freebind,
            ipv6_mss: dial.ipv6_mss,
            patient: true,
        }
    }

    /// The same without waiting.
    #[must_use]
    pub fn at_once(self) -> Self {
        Self {
            patient: false,
            ..self
        }
    }
}

/// Plans all listeners, with their names looked up. An interface or a name server that is not there yet is waited for.
pub async fn plan_all(
    listens: &[Listen],
    resolver: &dyn Resolve,
) -> Result<Vec<Planned>, ListenError> {
    let sockets = Sockets::of_process();
    let mut waited = Duration::ZERO;
    loop {
        let (names, unsure) = look_up(listens, resolver).await;
        let errors = match plan(listens, &LookedUp { names, sockets }) {
            Ok(planned) => return Ok(planned),
            Err(errors) => errors,
        };
        let may_come = |error: &PlanError| match error {
            PlanError::NoInterface { .. } => true,
            PlanError::NoAddress { name, .. } => unsure.contains(name),
            _ => false,
        };
        if !errors.iter().all(may_come) || waited >= APPEARANCE {
            return Err(ListenError::Plan(errors));
        }
        if waited.is_zero() {
            let error = ListenError::Plan(errors);
            tracing::warn!("{error}: waiting for it");
        }
        sleep(RETRY).await;
        waited += RETRY;
    }
}

/// What is known of the names in `listens`, and which of them could not be asked for.
async fn look_up(
    listens: &[Listen],
    resolver: &dyn Resolve,
) -> (BTreeMap<String, Vec<IpAddr>>, Vec<String>) {
    let (mut names, mut unsure) = (BTreeMap::new(), Vec::new());
    for listen in listens {
        let ListenHost::Name { name, .. } = &listen.host else {
            continue;
        };
        let (v6, v4) = tokio::join!(
            addresses(resolver, name, IpVersion::V6),
            addresses(resolver, name, IpVersion::V4)
        );
        let mut found: Vec<IpAddr> = Vec::new();
        for answer in [v6, v4] {
            match answer {
                Ok(list) => found.extend(list.iter().map(SocketAddr::ip)),
                Err(ResolveError::NoAddress { .. }) => {}
                Err(_) => unsure.push(name.clone()),
            }
        }
        names.insert(name.clone(), found);
    }
    (names, unsure)
}

/// The listeners on interfaces given by name, each as it would be planned now; `None`: its interface is not there.
pub fn plan_zoned(listens: &[Listen]) -> Vec<(&Listen, Option<Planned>)> {
    let host = LookedUp {
        names: BTreeMap::new(),
        sockets: Sockets::of_process(),
    };
    let zoned = listens.iter().filter(|listen| {
        let ListenHost::Address { scope, .. } = &listen.host else {
            return false;
        };
        // An interface given by number is meant by number.
        scope
            .as_ref()
            .is_some_and(|scope| scope.parse::<u32>().is_err())
    });
    zoned
        .map(|listen| {
            let planned = plan(std::slice::from_ref(listen), &host);
            (listen, planned.ok().and_then(|mut list| list.pop()))
        })
        .collect()
}

/// Sockets that systemd passed and that no listener takes.
pub fn untaken(plan: &[Planned]) -> impl Iterator<Item = &'static Passed> {
    let taken = |passed: &Passed| {
        plan.iter()
            .any(|one| one.place == Place::Passed(passed.clone()))
    };
    Sockets::of_process()
        .all()
        .filter(move |passed| !taken(passed))
}

/// Opens the sockets of a plan, all or none, and logs a line for each. Those of `beside` are open already.
pub async fn open(
    sockets: &[Planned],
    beside: &[Planned],
    options: Options,
) -> Result<Vec<Listener>, ListenError> {
    let host = System(Sockets::of_process());
    let (listeners, warnings) = open_on(&host, sockets, beside, options).await?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    for listener in &listeners {
        tracing::info!("listening on {listener}");
    }
    Ok(listeners)
}

/// Whether the addresses of these sockets can be bound, whatever their ports; waits for those that cannot yet.
pub async fn probe(sockets: &[Planned], options: Options) -> Result<(), ListenError> {
    let bound = sockets.iter().filter_map(|planned| match planned.place {
        Place::Ip(mut addr) if !addr.ip().is_unspecified() => {
            addr.set_port(0);
            Some(Planned {
                place: Place::Ip(addr),
                manner: planned.manner,
            })
        }
        _ => None,
    });
    let bound: Vec<_> = bound.collect();
    let host = System(Sockets::of_process());
    open_on(&host, &bound, &[], options).await.map(drop)
}

/// What opening needs of the system; tests have poorer ones.
trait Host: Sync {
    fn socket(&self, domain: Domain) -> io::Result<Socket>;
    /// Makes an IPv6 socket take IPv4 too, and reads back whether it will.
    fn make_dual(&self, socket: &Socket) -> bool;
    /// Whether all interfaces go without IPv6 although the system has it.
    fn ipv6_is_disabled(&self) -> bool;
    /// What systemd passed.
    fn passed(&self) -> &Sockets;
}

struct System(&'static Sockets);

impl Host for System {
    fn socket(&self, domain: Domain) -> io::Result<Socket> {
        Socket::new(domain, Type::STREAM, None)
    }

    fn make_dual(&self, socket: &Socket) -> bool {
        socket.set_only_v6(false).is_ok() && socket.only_v6().is_ok_and(|only| !only)
    }

    fn ipv6_is_disabled(&self) -> bool {
        fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6")
            .is_ok_and(|text| text.trim() == "1")
    }

    fn passed(&self) -> &Sockets {
        self.0
    }
}

type Opened = (Vec<Listener>, Option<String>);

/// An address may still be on its way after boot (duplicate address detection, a tunnel). The others do not wait for it.
async fn open_on(
    host: &dyn Host,
    sockets: &[Planned],
    beside: &[Planned],
    options: Options,
) -> Result<(Vec<Listener>, Vec<String>), ListenError> {
    let mut slots: Vec<Option<Opened>> = sockets.iter().map(|_| None).collect();
    let mut waited = Duration::ZERO;
    loop {
        let mut late = Vec::new();
        for (slot, planned) in slots.iter_mut().zip(sockets) {
            if slot.is_some() {
                continue;
            }
            let opener = Opener {
                host,
                planned,
                options,
            };
            *slot = match (opener.open(), ipv4_twin(planned, sockets, beside)) {
                (Err(ListenError::NoIpv6 { .. }), Some(twin)) => {
                    Some((Vec::new(), Some(without_ipv6(twin))))
                }
                (Err(error), _) if error.may_pass() && options.patient && waited < APPEARANCE => {
                    late.push(error);
                    None
                }
                (opened, _) => Some(opened?),
            };
        }
        if late.is_empty() {
            break;
        }
        if waited.is_zero() {
            for error in late {
                tracing::warn!("{error}: waiting for it");
            }
        }
        sleep(RETRY).await;
        waited += RETRY;
    }
    let (listeners, warnings): (Vec<_>, Vec<_>) = slots.into_iter().flatten().unzip();
    let alone = without_ipv4(&[sockets, beside].concat())
        .filter(|one| sockets.contains(one))
        .map(only_ipv6)
        .collect::<Vec<_>>();
    let warnings = warnings.into_iter().flatten().chain(alone).collect();
    Ok((listeners.into_iter().flatten().collect(), warnings))
}

/// The IPv4 wildcard on the port of an IPv6 wildcard, if it is to be opened too.
fn ipv4_twin(planned: &Planned, sockets: &[Planned], beside: &[Planned]) -> Option<SocketAddr> {
    let addr = planned
        .place
        .addr()
        .filter(|addr| addr.ip() == Ipv6Addr::UNSPECIFIED)?;
    let twin: SocketAddr = (Ipv4Addr::UNSPECIFIED, addr.port()).into();
    let mut all = sockets.iter().chain(beside);
    all.any(|other| other.place.addr() == Some(twin))
        .then_some(twin)
}

fn without_ipv6(addr: SocketAddr) -> String {
    format!("listening on {addr} only: this system has no IPv6 (address family not supported)")
}

fn only_ipv6(planned: &Planned) -> String {
    let port = port(&planned.place);
    format!(
        "{} is [::]:{port} for IPv6 alone: no IPv4 client can connect; write BindIPv6Only=both in the socket unit, or \
         listen on *:{port} too",
        planned.place
    )
}

/// Opens what one entry of the plan says.
struct Opener<'a> {
    host: &'a dyn Host,
    planned: &'a Planned,
    options: Options,
}

impl Opener<'_> {
    fn open(&self) -> Result<Opened, ListenError> {
        match &self.planned.place {
            Place::Dual(port) => self.open_dual(*port),
            Place::Ip(addr) => {
                let listener = self.open_one(*addr)?;
                let wildcard = addr.ip() == Ipv6Addr::UNSPECIFIED;
                let disabled = wildcard && self.host.ipv6_is_disabled();
                let warning = disabled.then(|| self.disabled("nobody can connect"));
                Ok((vec![listener], warning))
            }
            Place::Unix(path) => Ok((vec![self.open_unix(path)?], None)),
            Place::Passed(passed) => Ok((vec![self.take_passed(passed)?], None)),
        }
    }

    fn place(&self) -> Place {
        self.planned.place.clone()
    }

    fn other(&self, source: io::Error) -> ListenError {
        ListenError::Other {
            place: self.place(),
            source,
        }
    }

    fn disabled(&self, who: &str) -> String {
        format!(
            "listening on {}, but IPv6 is disabled on this host (net.ipv6.conf.all.disable_ipv6 = 1): {who}",
            self.planned.place
        )
    }

    fn open_dual(&self, port: u16) -> Result<Opened, ListenError> {
        let v4: SocketAddr = (Ipv4Addr::UNSPECIFIED, port).into();
        let socket = match self.host.socket(Domain::IPV6) {
            Ok(socket) => socket,
            Err(error) if is_unsupported(&error) => {
                let listener = self.open_one(v4)?;
                let warning = without_ipv6(listener.local_addr().unwrap_or(v4));
                return Ok((vec![listener], Some(warning)));
            }
            Err(source) => return Err(self.other(source)),
        };
        if !self.host.make_dual(&socket) {
            return self.open_pair(port).map(|pair| (pair, None));
        }
        let v6: SocketAddr = (Ipv6Addr::UNSPECIFIED, port).into();
        match self.bind(&socket, v6) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(self.which_side(port));
            }
            Err(error) => return Err(self.sorted(self.place(), error)),
        }
        let listener = self.listening(socket, true)?;
        let disabled = self.host.ipv6_is_disabled();
        let warning = disabled.then(|| self.disabled("only IPv4 clients can connect"));
        Ok((vec![listener], warning))
    }

    /// The same port twice, on systems whose IPv6 sockets never take IPv4.
    fn open_pair(&self, port: u16) -> Result<Vec<Listener>, ListenError> {
        const TRIES: u32 = 16;
        let mut tries = 0;
        loop {
            let v6 = self.open_one((Ipv6Addr::UNSPECIFIED, port).into())?;
            let chosen = v6.local_addr().map_or(port, |addr| addr.port());
            match self.open_one((Ipv4Addr::UNSPECIFIED, chosen).into()) {
                // The kernel chose a port that is free in IPv6 alone.
                Err(ListenError::InUse { .. }) if port == 0 && tries < TRIES => tries += 1,
                v4 => return Ok(vec![v6, v4?]),
            }
        }
    }

    fn open_one(&self, addr: SocketAddr) -> Result<Listener, ListenError> {
        let place = || match self.planned.place {
            Place::Dual(_) => Place::Ip(addr),
            _ => self.place(),
        };
        let open = || {
            let socket = self.host.socket(Domain::for_address(addr))?;
            if addr.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            self.bind(&socket, addr)?;
            Ok(socket)
        };
        let socket = open().map_err(|error| self.sorted(place(), error))?;
        self.listening(socket, false)
    }

    fn bind(&self, socket: &Socket, addr: SocketAddr) -> io::Result<()> {
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        let mss = self.options.ipv6_mss;
        if addr.is_ipv6() && mss != 0 {
            // Only a cure for broken paths: a system without the option serves the others.
            let _ = socket.set_tcp_mss(mss);
        }
        if self.options.freebind {
            sys::set_freebind(&SockRef::from(socket), addr.is_ipv6())?;
        }
        socket.bind(&SockAddr::from(addr))?;
        socket.listen(BACKLOG.into())
    }

    fn listening(&self, socket: Socket, is_dual: bool) -> Result<Listener, ListenError> {
        let socket = TcpListener::from_std(socket.into()).map_err(|error| self.other(error))?;
        Ok(Listener::new(Kind::Tcp { socket, is_dual }, self.planned))
    }

    /// Says which side of a dual socket's port is taken.
    fn which_side(&self, port: u16) -> ListenError {
        let place = self.place();
        let is_free = |addr: SocketAddr| self.open_one(addr).is_ok();
        let v6_is_free = is_free((Ipv6Addr::UNSPECIFIED, port).into());
        let v4_is_free = is_free((Ipv4Addr::UNSPECIFIED, port).into());
        let taken = match (v6_is_free, v4_is_free) {
            (true, false) => IpVersion::V4,
            (false, true) => IpVersion::V6,
            _ => return ListenError::InUse { place },
        };
        ListenError::SideInUse { place, taken }
    }

    fn sorted(&self, place: Place, error: io::Error) -> ListenError {
        let is_ipv6 = place.addr().is_some_and(|addr| addr.is_ipv6());
        match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse { place },
            io::ErrorKind::AddrNotAvailable if is_ipv6 && self.host.ipv6_is_disabled() => {
                ListenError::Disabled { place }
            }
            io::ErrorKind::AddrNotAvailable => ListenError::NotOurs { place },
            io::ErrorKind::PermissionDenied => ListenError::Privileged { place },
            _ if is_unsupported(&error) => ListenError::NoIpv6 { place },
            _ => ListenError::Other {
                place,
                source: error,
            },
        }
    }

    fn open_unix(&self, path: &Path) -> Result<Listener, ListenError> {
        clear_stale(path, &self.planned.place)?;
        let open = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            socket.bind(&SockAddr::unix(path)?)?;
            // Nobody can connect before `listen`, so the mode is never wrong for a moment.
            fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
            socket.listen(BACKLOG.into())?;
            UnixSocket::at(path, UnixListener::from_std(socket.into())?)
        };
        let socket = open().map_err(|error| self.other(error))?;
        Ok(Listener::new(Kind::Unix(socket), self.planned))
    }

    /// It is bound and listening, and its options are as the unit wants them: only waiting on it must not block.
    fn take_passed(&self, passed: &Passed) -> Result<Listener, ListenError> {
        let take = || {
            let fd = self.host.passed().take(passed.number)?;
            if passed.addr.is_none() {
                let socket = StdUnixListener::from(fd);
                socket.set_nonblocking(true)?;
                return Ok(Kind::Unix(UnixSocket::passed(UnixListener::from_std(
                    socket,
                )?)));
            }
            let socket = std::net::TcpListener::from(fd);
            socket.set_nonblocking(true)?;
            Ok(Kind::Tcp {
                socket: TcpListener::from_std(socket)?,
                is_dual: passed.is_dual,
            })
        };
        let kind = take().map_err(|error| self.other(error))?;
        Ok(Listener::new(kind, self.planned))
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::AFNOSUPPORT)
}

/// Removes a socket that nobody listens on any more.
fn clear_stale(path: &Path, place: &Place) -> Result<(), ListenError> {
    let place = place.clone();
    let Ok(status) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !status.file_type().is_socket() {
        return Err(ListenError::NotASocket { place });
    }
    match StdUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|source| ListenError::Other { place, source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(ListenError::Alive { place }),
    }
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
