//! Names to addresses, one family at a time, so that a dead answer for one family cannot hold up the other. Which address
//! is tried when is `race`'s.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dns_lookup::{AddrFamily, AddrInfoHints, LookupErrorKind, SockType};
use tokio::sync::watch;
use tokio::time::timeout;

use super::peer::IpVersion;
use super::sys;

/// How long a look-up may take before it counts as failed; the system's resolver may go on behind it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Two threads for each family: a name server that swallows AAAA queries cannot hold up A queries.
const THREADS_PER_VERSION: usize = 2;
/// Look-ups that may wait for a thread, per family.
const QUEUE: usize = 1024;

/// The addresses (port 0) of a name in one family, never empty; or why there are none.
pub type Answer = Result<Vec<SocketAddr>, ResolveError>;
/// An answer to come.
pub type Lookup = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name exists or not, but has no such address.
    #[error("{name} has no {version} address")]
    NoAddress {
        /// The name asked for.
        name: String,
        /// The family asked for.
        version: IpVersion,
    },
    /// The name servers did not answer properly.
    #[error("looking up the {version} address of {name}: {reason}")]
    Failed {
        /// The name asked for.
        name: String,
        /// The family asked for.
        version: IpVersion,
        /// What the system said.
        reason: String,
    },
    /// No answer in time.
    #[error("looking up the {version} address of {name}: no answer within 20 s")]
    TimedOut {
        /// The name asked for.
        name: String,
        /// The family asked for.
        version: IpVersion,
    },
    /// Too many look-ups wait already.
    #[error("looking up the {version} address of {name}: too many look-ups at once")]
    Busy {
        /// The name asked for.
        name: String,
        /// The family asked for.
        version: IpVersion,
    },
}

/// Something that knows the addresses of names.
pub trait Resolve: Send + Sync {
    /// Looks one name up in one family. Literals never get here.
    fn lookup(&self, name: &str, version: IpVersion) -> Lookup;
}

/// The addresses of a host, which may be a literal (with a scope, if need be): those are answered without a look-up.
pub fn addresses(resolver: &dyn Resolve, host: &str, version: IpVersion) -> Lookup {
    let Some(addr) = literal(host) else {
        return resolver.lookup(host, version);
    };
    let answer = if IpVersion::of(addr.ip()) == version {
        Ok(vec![addr])
    } else {
        Err(ResolveError::NoAddress {
            name: host.to_owned(),
            version,
        })
    };
    Box::pin(std::future::ready(answer))
}

/// An address as text, canonical; `fe80::1%eth0` keeps its interface.
pub(super) fn literal(host: &str) -> Option<SocketAddr> {
    let (ip, scope) = match host.split_once('%') {
        Some((ip, scope)) => (ip, interface_index(scope)?),
        None => (host, 0),
    };
    match ip.parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V6(v6) => Some(SocketAddrV6::new(v6, 0, 0, scope).into()),
        IpAddr::V4(v4) => Some(SocketAddr::new(v4.into(), 0)),
    }
}

/// Mixes addresses, so that many users of one name do not gather at one server. `order` sorts what is not equally good.
pub(super) fn shuffled(mut list: Vec<SocketAddr>) -> Vec<SocketAddr> {
    for last in (1..list.len()).rev() {
        let random = getrandom::u32().unwrap_or(0) as usize;
        list.swap(last, random % (last + 1));
    }
    list
}

/// The number of an interface given by name or number.
pub(super) fn interface_index(scope: &str) -> Option<u32> {
    scope.parse().ok().or_else(|| sys::interface_index(scope))
}

/// The system's resolver: `getaddrinfo`, hence `/etc/hosts`, nsswitch and mDNS, on threads of its own.
pub struct System {
    flights: Flights,
    v6: SyncSender<Job>,
    v4: SyncSender<Job>,
}

/// Look-ups under way, so that many users of one server ask once.
type Flights = Arc<Mutex<HashMap<(String, IpVersion), watch::Receiver<Option<Answer>>>>>;

struct Job {
    name: String,
    version: IpVersion,
    done: watch::Sender<Option<Answer>>,
}

impl System {
    /// Starts the threads.
    pub fn new() -> io::Result<Self> {
        let flights = Flights::default();
        let v6 = start_threads(&flights, "resolve-v6")?;
        let v4 = start_threads(&flights, "resolve-v4")?;
        Ok(Self { flights, v6, v4 })
    }

    /// Joins the look-up under way or starts one; `None` when too many wait.
    fn join(&self, name: &str, version: IpVersion) -> Option<watch::Receiver<Option<Answer>>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.to_owned(), version);
        if let Some(flight) = flights.get(&key) {
            return Some(flight.clone());
        }
        let (done, flight) = watch::channel(None);
        let queue = match version {
            IpVersion::V6 => &self.v6,
            IpVersion::V4 => &self.v4,
        };
        match queue.try_send(Job {
            name: name.to_owned(),
            version,
            done,
        }) {
            Ok(()) => {
                flights.insert(key, flight.clone());
                Some(flight)
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
        }
    }
}

impl Resolve for System {
    fn lookup(&self, name: &str, version: IpVersion) -> Lookup {
        let flight = self.join(name, version);
        let name = name.to_owned();
        Box::pin(async move {
            let Some(mut flight) = flight else {
                return Err(ResolveError::Busy { name, version });
            };
            match timeout(PATIENCE, flight.wait_for(Option::is_some)).await {
                Ok(Ok(answer)) => answer
                    .clone()
                    .unwrap_or_else(|| unreachable_answer(name, version)),
                Ok(Err(_)) => unreachable_answer(name, version),
                Err(_) => Err(ResolveError::TimedOut { name, version }),
            }
        })
    }
}

/// What is said when a resolver thread ended without an answer.
fn unreachable_answer(name: String, version: IpVersion) -> Answer {
    Err(ResolveError::Failed {
        name,
        version,
        reason: "the resolver ended".to_owned(),
    })
}

fn start_threads(flights: &Flights, name: &str) -> io::Result<SyncSender<Job>> {
    let (queue, jobs) = sync_channel(QUEUE);
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..THREADS_PER_VERSION {
        let (jobs, flights) = (Arc::clone(&jobs), Arc::clone(flights));
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&jobs, &flights))?;
    }
    Ok(queue)
}

fn work(jobs: &Mutex<Receiver<Job>>, flights: &Flights) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job {
            name,
            version,
            done,
        }) = job
        else {
            return;
        };
        let answer = ask_system(&name, version);
        // First out of the table: whoever comes now asks anew.
        flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&(name, version));
        done.send_replace(Some(answer));
    }
}

fn ask_system(name: &str, version: IpVersion) -> Answer {
    let family = match version {
        IpVersion::V6 => AddrFamily::Inet6,
        IpVersion::V4 => AddrFamily::Inet,
    };
    // No AI_ADDRCONFIG: it hides addresses on hosts that have only loopback or link-local ones.
    let hints = AddrInfoHints {
        flags: 0,
        address: family.into(),
        socktype: SockType::Stream.into(),
        protocol: 0,
    };
    let none = || ResolveError::NoAddress {
        name: name.to_owned(),
        version,
    };
    let found = match dns_lookup::getaddrinfo(Some(name), None, Some(hints)) {
        Ok(found) => found,
        Err(error) => {
            return Err(match error.kind() {
                LookupErrorKind::NoName | LookupErrorKind::NoData => none(),
                _ => ResolveError::Failed {
                    name: name.to_owned(),
                    version,
                    reason: reason(&io::Error::from(error)),
                },
            });
        }
    };
    let mut list: Vec<SocketAddr> = Vec::new();
    for info in found.flatten() {
        // An AAAA record with a mapped address is no IPv6 address.
        if IpVersion::of(info.sockaddr.ip()) == version && !list.contains(&info.sockaddr) {
            list.push(info.sockaddr);
        }
    }
    if list.is_empty() {
        Err(none())
    } else {
        Ok(list)
    }
}

/// The system's words in our form: lower case.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text);
    text.to_lowercase()
}

/// Names from a table, for tests: each family answers on its own, after a delay if told so.
#[derive(Debug, Clone, Default)]
pub struct Fixed {
    answers: HashMap<(String, IpVersion), (Duration, Vec<SocketAddr>)>,
}

impl Fixed {
    /// Adds addresses of a name.
    #[must_use]
    pub fn with(mut self, name: &str, addresses: &[IpAddr]) -> Self {
        for ip in addresses {
            let key = (name.to_owned(), IpVersion::of(*ip));
            self.answers
                .entry(key)
                .or_default()
                .1
                .push(SocketAddr::new(*ip, 0));
        }
        self
    }

    /// Makes one family's answer for a name come late.
    #[must_use]
    pub fn late(mut self, name: &str, version: IpVersion, delay: Duration) -> Self {
        self.answers
            .entry((name.to_owned(), version))
            .or_default()
            .0 = delay;
        self
    }
}

impl Resolve for Fixed {
    fn lookup(&self, name: &str, version: IpVersion) -> Lookup {
        let name = name.to_owned();
        let (delay, list) = self
            .answers
            .get(&(name.clone(), version))
            .cloned()
            .unwrap_or_default();
        Box::pin(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            if list.is_empty() {
                return Err(ResolveError::NoAddress { name, version });
            }
            Ok(list)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_canonical_and_keep_their_interface() {
        assert_eq!(
            literal("::ffff:192.0.2.1"),
            Some("192.0.2.1:0".parse().unwrap())
        );
        assert_eq!(literal("fe80::1%3"), Some("[fe80::1%3]:0".parse().unwrap()));
        assert_eq!(literal("fe80::1%no-such-if"), None);
        assert_eq!(literal("irc.example.org"), None);
    }

    #[test]
    fn shuffling_keeps_all_addresses_and_puts_each_first() {
        let list: Vec<SocketAddr> = (1..=3)
            .map(|n| SocketAddr::new([192, 0, 2, n].into(), 0))
            .collect();
        let mut first = std::collections::BTreeSet::new();
        // The chance that one of three never comes first in 200 shuffles is less than 2^-100.
        for _ in 0..200 {
            let mut mixed = shuffled(list.clone());
            first.insert(mixed[0]);
            mixed.sort();
            assert_eq!(mixed, list);
        }
        assert_eq!(first.len(), 3);
    }

    #[tokio::test]
    async fn a_literal_has_no_address_in_the_other_family() {
        let nothing = Fixed::default();
        let v6 = addresses(&nothing, "::1", IpVersion::V6).await;
        assert_eq!(v6, Ok(vec!["[::1]:0".parse().unwrap()]));
        let v4 = addresses(&nothing, "::1", IpVersion::V4).await;
        assert_eq!(v4.unwrap_err().to_string(), "::1 has no IPv4 address");
    }

    #[tokio::test]
    async fn the_system_knows_localhost() {
        let system = System::new().unwrap();
        let v4 = system.lookup("localhost", IpVersion::V4).await.unwrap();
        assert_eq!(v4, ["127.0.0.1:0".parse::<SocketAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn a_second_look_up_of_the_same_name_joins_the_first() {
        let system = System::new().unwrap();
        let (done, flight) = watch::channel(None);
        let key = ("irc.test".to_owned(), IpVersion::V6);
        system.flights.lock().unwrap().insert(key, flight);
        let first = system.lookup("irc.test", IpVersion::V6);
        let second = system.lookup("irc.test", IpVersion::V6);
        let addr: SocketAddr = "[2001:db8::1]:0".parse().unwrap();
        done.send_replace(Some(Ok(vec![addr])));
        assert_eq!(
            (first.await, second.await),
            (Ok(vec![addr]), Ok(vec![addr]))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_after_twenty_seconds() {
        let system = System::new().unwrap();
        let (_done, flight) = watch::channel(None);
        system
            .flights
            .lock()
            .unwrap()
            .insert(("irc.test".to_owned(), IpVersion::V6), flight);
        let answer = system.lookup("irc.test", IpVersion::V6).await;
        let text = "looking up the IPv6 address of irc.test: no answer within 20 s";
        assert_eq!(answer.unwrap_err().to_string(), text);
    }
}
