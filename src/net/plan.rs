//! Which sockets the listeners of the configuration become, decided before the first system call, so that no two of them
//! collide whatever the host's `net.ipv6.bindv6only` says. Opening them is `listen`'s.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use super::peer::is_loopback;
use super::systemd::{Passed, Sockets};
use crate::config::{Listen, ListenHost, Manner, Scheme};

/// One socket to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What it is bound to.
    pub place: Place,
    /// What is spoken on it.
    pub manner: Manner,
}

/// What a socket is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `[::]` with IPv4 too.
    Dual(u16),
    /// One address or wildcard of one family.
    Ip(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
    /// A socket from systemd: it is bound already.
    Passed(Passed),
}

impl Place {
    /// The address of the socket; `None` for unix sockets.
    pub fn addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Dual(port) => Some((Ipv6Addr::UNSPECIFIED, *port).into()),
            Self::Ip(addr) => Some(*addr),
            Self::Unix(_) => None,
            Self::Passed(passed) => passed.addr,
        }
    }

    /// Whether IPv4 clients come in here.
    fn takes_ipv4(&self) -> bool {
        match self {
            Self::Dual(_) => true,
            Self::Ip(addr) => addr.is_ipv4(),
            Self::Passed(passed) => {
                passed.is_dual || passed.addr.is_some_and(|addr| addr.is_ipv4())
            }
            Self::Unix(_) => false,
        }
    }

    /// Whether one of the two has to be closed before the other can be opened.
    pub fn collides(&self, other: &Self) -> bool {
        let (Some(a), Some(b)) = (self.addr(), other.addr()) else {
            return self == other;
        };
        let both = |place: &Self| matches!(place, Self::Dual(_));
        let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
        let same_family = a.is_ipv6() == b.is_ipv6();
        a.port() == b.port()
            && a.port() != 0
            && (same_family && overlap || both(self) || both(other))
    }
}

/// IPv6 wildcards from systemd that IPv4 clients do not reach, on ports where nothing else serves these.
pub fn without_ipv4(sockets: &[Planned]) -> impl Iterator<Item = &Planned> {
    sockets.iter().filter(|one| {
        let Place::Passed(Passed {
            addr: Some(addr),
            is_dual: false,
            ..
        }) = &one.place
        else {
            return false;
        };
        let serves = |other: &Planned| {
            let port = other.place.addr().map(|addr| addr.port());
            other.place.takes_ipv4() && port == Some(addr.port())
        };
        addr.is_ipv6() && addr.ip().is_unspecified() && !sockets.iter().any(serves)
    })
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dual(port) => write!(f, "[::]:{port}"),
            Self::Ip(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Passed(passed) => write!(f, "systemd:{}", passed.name),
        }
    }
}

/// Why listeners cannot be planned together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Two listeners want one socket, differently.
    #[error("{first} and {second} are the same socket: keep one of them")]
    Duplicate {
        /// As written.
        first: String,
        /// As written.
        second: String,
    },
    /// A wildcard takes the address already.
    #[error(
        "{covered} is covered by {by} on the same port: remove one of them, or use another port"
    )]
    Covered {
        /// As written.
        covered: String,
        /// As written.
        by: String,
    },
    /// A name has no address.
    #[error("cannot listen on {listen}: {name} has no address")]
    NoAddress {
        /// As written.
        listen: String,
        /// The name.
        name: String,
    },
    /// A link-local address without interface.
    #[error("cannot listen on {listen}: {ip} needs an interface: write [{ip}%eth0]")]
    NoScope {
        /// As written.
        listen: String,
        /// The address.
        ip: IpAddr,
    },
    /// An interface that is not there.
    #[error("cannot listen on {listen}: no interface named \"{scope}\"")]
    NoInterface {
        /// As written.
        listen: String,
        /// The interface.
        scope: String,
    },
    /// No socket of that name came from systemd.
    #[error(
        "cannot listen on {listen}: systemd passed no socket named \"{name}\", but {there}; start carom by its socket \
         unit, with FileDescriptorName={name} in it"
    )]
    NotPassed {
        /// As written.
        listen: String,
        /// The name.
        name: String,
        /// What was passed.
        there: String,
    },
    /// Clear text where others can read it.
    #[error(
        "cannot listen on {listen}: irc:// is for loopback and unix sockets, and this is {ip}; use ircs://, or say \
         irc+insecure:// if clear text is meant"
    )]
    ClearText {
        /// As written.
        listen: String,
        /// The address.
        ip: IpAddr,
    },
    /// The same for `ws://`.
    #[error(
        "cannot listen on {listen}: ws:// is for loopback and unix sockets, and this is {ip}; use wss://, or say \
         ws+insecure:// if clear text is meant"
    )]
    ClearWeb {
        /// As written.
        listen: String,
        /// The address.
        ip: IpAddr,
    },
}

/// What a plan needs to know about the host.
pub trait Names {
    /// All addresses of a name.
    fn addresses(&self, name: &str) -> Vec<IpAddr>;
    /// The number of an interface.
    fn interface(&self, scope: &str) -> Option<u32>;
    /// All sockets that systemd passed.
    fn passed(&self) -> Vec<Passed>;
}

/// Names looked up beforehand, the host's interfaces, and what systemd passed.
pub(super) struct LookedUp<'a> {
    pub(super) names: BTreeMap<String, Vec<IpAddr>>,
    pub(super) sockets: &'a Sockets,
}

impl Names for LookedUp<'_> {
    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        self.names.get(name).cloned().unwrap_or_default()
    }

    fn passed(&self) -> Vec<Passed> {
        self.sockets.all().cloned().collect()
    }

    fn interface(&self, scope: &str) -> Option<u32> {
        super::resolve::interface_index(scope)
    }
}

/// One socket, with what the file wrote.
struct Wanted<'a> {
    place: Place,
    manner: Manner,
    written: &'a str,
    v6only: bool,
}

/// Plans all sockets at once, or says everything that is wrong.
pub fn plan(listens: &[Listen], names: &dyn Names) -> Result<Vec<Planned>, Vec<PlanError>> {
    let mut errors = Vec::new();
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    for listen in listens {
        match expand(listen, names) {
            Ok(list) => wanted.extend(list),
            Err(error) => errors.push(error),
        }
    }
    let mut kept: Vec<Wanted<'_>> = Vec::new();
    for new in wanted {
        match kept
            .iter()
            .find(|old| old.place == new.place && !is_any_port(&new.place))
        {
            None => kept.push(new),
            Some(old) if old.manner == new.manner && old.v6only == new.v6only => {}
            Some(old) => errors.push(PlanError::Duplicate {
                first: old.written.to_owned(),
                second: new.written.to_owned(),
            }),
        }
    }
    for one in &kept {
        let wide = kept.iter().filter(|wide| covers(&wide.place, &one.place));
        errors.extend(wide.map(|wide| PlanError::Covered {
            covered: one.written.to_owned(),
            by: wide.written.to_owned(),
        }));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let narrow: Vec<bool> = kept
        .iter()
        .map(|one| one.v6only || has_ipv4_sibling(one, &kept))
        .collect();
    let sockets = kept.into_iter().zip(narrow).map(|(one, narrow)| {
        let place = match one.place {
            Place::Dual(port) if narrow => Place::Ip((Ipv6Addr::UNSPECIFIED, port).into()),
            place => place,
        };
        Planned {
            place,
            manner: one.manner,
        }
    });
    Ok(sockets.collect())
}

/// The sockets of one listener: one, or one for each address of a name.
fn expand<'a>(listen: &'a Listen, names: &dyn Names) -> Result<Vec<Wanted<'a>>, PlanError> {
    let written = listen.written.as_str();
    let mut v6only = false;
    let places = match &listen.host {
        ListenHost::AnyIpv6 { port, only } => {
            v6only = *only;
            vec![Place::Dual(*port)]
        }
        ListenHost::AnyIpv4 { port } => vec![Place::Ip((Ipv4Addr::UNSPECIFIED, *port).into())],
        ListenHost::Address { ip, scope, port } => {
            vec![Place::Ip(scoped(
                written,
                *ip,
                scope.as_deref(),
                *port,
                names,
            )?)]
        }
        ListenHost::Name { name, port } => {
            let mut list = names.addresses(name);
            list.iter_mut().for_each(|ip| *ip = ip.to_canonical());
            if list.is_empty() {
                return Err(PlanError::NoAddress {
                    listen: written.to_owned(),
                    name: name.clone(),
                });
            }
            list.into_iter()
                .map(|ip| Place::Ip((ip, *port).into()))
                .collect()
        }
        ListenHost::Unix(path) => vec![Place::Unix(path.clone())],
        ListenHost::Systemd(name) => passed(written, name, names)?,
    };
    let exposed = places
        .iter()
        .filter_map(Place::addr)
        .find(|addr| !is_loopback(addr.ip()));
    if let (Scheme::Local, Some(addr)) = (listen.manner.scheme, exposed) {
        let (web, ip) = (listen.manner.web, addr.ip());
        let listen = written.to_owned();
        return Err(match web {
            true => PlanError::ClearWeb { listen, ip },
            false => PlanError::ClearText { listen, ip },
        });
    }
    let manner = listen.manner;
    Ok(places
        .into_iter()
        .map(|place| Wanted {
            // Who reaches a unix socket is on this machine.
            manner: Manner {
                scheme: match place.addr() {
                    Some(_) => manner.scheme,
                    None => Scheme::Local,
                },
                ..manner
            },
            place,
            written,
            v6only,
        })
        .collect())
}

fn passed(written: &str, name: &str, names: &dyn Names) -> Result<Vec<Place>, PlanError> {
    let all = names.passed();
    let (called, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.is_called(name));
    if !called.is_empty() {
        return Ok(called.into_iter().map(Place::Passed).collect());
    }
    let others: Vec<_> = others
        .iter()
        .map(|one| format!("\"{}\"", one.name))
        .collect();
    Err(PlanError::NotPassed {
        listen: written.to_owned(),
        name: name.to_owned(),
        there: match others.len() {
            0 => "none at all".to_owned(),
            _ => others.join(", "),
        },
    })
}

fn scoped(
    written: &str,
    ip: IpAddr,
    scope: Option<&str>,
    port: u16,
    names: &dyn Names,
) -> Result<SocketAddr, PlanError> {
    let listen = || written.to_owned();
    let index = match scope {
        None => 0,
        Some(scope) => names
            .interface(scope)
            .ok_or_else(|| PlanError::NoInterface {
                listen: listen(),
                scope: scope.to_owned(),
            })?,
    };
    match ip.to_canonical() {
        IpAddr::V6(v6) if v6.is_unicast_link_local() && index == 0 => Err(PlanError::NoScope {
            listen: listen(),
            ip,
        }),
        IpAddr::V6(v6) => Ok(SocketAddrV6::new(v6, port, 0, index).into()),
        IpAddr::V4(v4) => Ok((v4, port).into()),
    }
}

/// Port 0 is another port for every socket.
fn is_any_port(place: &Place) -> bool {
    place.addr().is_some_and(|addr| addr.port() == 0)
}

/// Whether `wide` is the wildcard of the family and port of `one`, another socket.
fn covers(wide: &Place, one: &Place) -> bool {
    let (Some(wide_addr), Some(addr)) = (wide.addr(), one.addr()) else {
        return false;
    };
    wide_addr.ip().is_unspecified()
        && !addr.ip().is_unspecified()
        && !is_any_port(one)
        && wide_addr.port() == addr.port()
        && wide_addr.is_ipv6() == addr.is_ipv6()
}

fn has_ipv4_sibling(one: &Wanted<'_>, all: &[Wanted<'_>]) -> bool {
    let Place::Dual(port) = one.place else {
        return false;
    };
    port != 0
        && all
            .iter()
            .filter_map(|other| other.place.addr())
            .any(|addr| addr.is_ipv4() && addr.port() == port)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
