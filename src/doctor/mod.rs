//! `carom check`: finds out what this host and the paths from it can do, and says it as findings. Each topic is a file; all
//! run side by side, each network operation has a deadline, and nothing is ever changed. What holds of the configuration
//! alone is `config`'s.

mod access;
mod addresses;
mod dns;
mod firewall;
mod host;
mod kernel;
mod limits;
mod names;
mod networks;
mod probe;
mod proc;
mod reach;
mod report;
mod routes;
mod sockets;
mod sources;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Findings};
use crate::net::resolve::System;
use crate::net::{Dialer, SourceKey};

use host::Host;

/// So long may one look-up or one connection take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Looks at everything this system allows, in the order in which a host is brought to both families.
pub async fn examine(config: &Config) -> io::Result<Findings> {
    let host = Host::look();
    let resolver = Arc::new(System::new()?);
    let dialer = Dialer::new(resolver.clone()).with_key(source_key(config));
    let (sockets, firewall, dns, names, networks) = tokio::join!(
        sockets::examine(config, &host, resolver.as_ref(), &dialer),
        firewall::examine(config, &host),
        dns::examine(config, &host, resolver.as_ref()),
        names::examine(&host, resolver.as_ref()),
        networks::examine(config, &host, &dialer),
    );
    let mut findings = Findings::default();
    for report in [
        access::examine(config, &host),
        kernel::examine(&host),
        sockets,
        addresses::examine(&host),
        routes::examine(config, &host),
        sources::examine(config, &host),
        firewall,
        dns,
        names,
        networks,
        limits::examine(config),
        reach::examine(config),
    ] {
        findings.append(report.into());
    }
    Ok(findings)
}

/// The key behind addresses out of prefixes. One that is not there yet, or not ours to read, is not made: any address of the
/// prefix tells as much.
fn source_key(config: &Config) -> SourceKey {
    let folder = &config.storage.folder;
    let there = folder.join("source.key").exists();
    let key = there.then(|| SourceKey::open(folder).ok()).flatten();
    key.unwrap_or_else(|| SourceKey::new([0; 32]))
}
