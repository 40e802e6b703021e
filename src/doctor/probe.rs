//! One connection to one address, made as the daemon makes it (source address, MSS, TLS, certificate), and closed without a
//! word of IRC. Which ones are made, and what they mean, is the topics'.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::DEADLINE;
use crate::config::{Family, Network, ServerAddr};
use crate::net::race::Settings;
use crate::net::resolve::{Lookup, Resolve, ResolveError};
use crate::net::{By, Dialer, FaultKind, IpVersion, Stream};

/// How it went.
pub(super) struct Probed {
    pub(super) millis: u64,
    pub(super) result: Result<Stream, Failed>,
}

/// Why it did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) text: String,
    /// It never left this host.
    pub(super) no_route: bool,
}

/// Knows one address for every name.
struct Only(Option<SocketAddr>);

impl Resolve for Only {
    fn lookup(&self, name: &str, version: IpVersion) -> Lookup {
        let found = self.0.filter(|addr| IpVersion::of(addr.ip()) == version);
        let none = || ResolveError::NoAddress {
            name: name.to_owned(),
            version,
        };
        Box::pin(ready(found.map(|addr| vec![addr]).ok_or_else(none)))
    }
}

/// Connects to `addr` as one of the addresses of `server`; without it to what the
/// server's address says itself, or its proxy finds.
pub(super) async fn probe(
    dialer: &Dialer,
    user: &str,
    network: &Network,
    server: &ServerAddr,
    addr: Option<SocketAddr>,
) -> Probed {
    let mut one = Network {
        servers: vec![server.clone()],
        dial: network.dial.clone(),
        trust: network.trust.clone(),
        client_certificate: network.client_certificate.clone(),
        proxy: network.proxy.clone(),
        ..Network::default()
    };
    one.dial.family = Family::PreferIpv6;
    let settings = Settings {
        attempt_timeout: DEADLINE,
        cycle: DEADLINE + Duration::from_secs(1),
        ..Settings::from(&one.dial)
    };
    let started = Instant::now();
    let dialer = dialer.asking(Arc::new(Only(addr)));
    let mut cycle = dialer.cycle_with(&one, &By::trusted(user), settings);
    let result = match timeout(DEADLINE + Duration::from_secs(2), cycle.next()).await {
        Ok(Ok(dialed)) => Ok(dialed.stream),
        Ok(Err(report)) => {
            // The report's own text names the address, which the topics do themselves.
            let attempt = report
                .attempts
                .iter()
                .rev()
                .find_map(|attempt| match &attempt.outcome {
                    crate::net::Outcome::Failed(fault) if attempt.address.is_some() => {
                        Some(fault.clone())
                    }
                    _ => None,
                });
            let fault = attempt.unwrap_or(report.fault);
            Err(Failed {
                no_route: fault.kind == FaultKind::NoRoute,
                text: fault.text,
            })
        }
        Err(_) => Err(Failed {
            no_route: false,
            text: format!("no answer within {} s", DEADLINE.as_secs()),
        }),
    };
    Probed {
        millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        result,
    }
}
