//! The listeners: who holds their ports, and whether both families get in, tried from this host. Whether others reach them
//! is `reach`'s.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::DEADLINE;
use super::host::Host;
use super::probe::probe;
use super::proc::{self, Listening};
use super::report::Report;
use crate::config::{
    Config, Listen, ListenHost, Manner, Network, Scheme, ServerAddr, Trust, Verify,
};
use crate::net::plan::Place;
use crate::net::resolve::Resolve;
use crate::net::{Dialer, IpVersion, open};

/// Addresses of this host that are tried on a wildcard, beside loopback.
const MOST: usize = 6;

/// A socket that is to be there, and what is found in its place.
struct Wanted {
    place: Place,
    scheme: Scheme,
    held: Vec<Listening>,
    /// The programs that hold it, where that can be seen.
    holders: Vec<(String, u32)>,
    tried: Vec<(IpAddr, Result<u64, String>)>,
}

pub(super) async fn examine(
    config: &Config,
    host: &Host,
    resolver: &dyn Resolve,
    dialer: &Dialer,
) -> Report {
    let mut report = Report::new("sockets");
    let from_systemd = |listen: &Listen| matches!(listen.host, ListenHost::Systemd(_));
    let (passed, own): (Vec<_>, Vec<_>) =
        config.server.listen.iter().cloned().partition(from_systemd);
    for listen in passed {
        let written = listen.written;
        report.info(format!(
            "{written} is opened by systemd: `systemctl list-sockets` tells where"
        ));
    }
    // An interface or a name server that is not there yet is waited for, longer than we have.
    let planned = match timeout(DEADLINE, open::plan_all(&own, resolver)).await {
        Ok(Ok(planned)) => planned,
        Ok(Err(error)) => {
            report.error(error.to_string(), "");
            return report;
        }
        Err(_) => {
            let remedy = "carom waits for it for 30 s when it starts, and then gives up";
            report.error(
                "a name or an interface in server.listen is not there",
                remedy,
            );
            return report;
        }
    };
    let all = tokio::task::spawn_blocking(listening)
        .await
        .unwrap_or_default();
    for one in planned {
        let Some(addr) = one.place.addr().filter(|addr| addr.port() != 0) else {
            continue;
        };
        let held: Vec<_> = all
            .iter()
            .filter(|held| serves(held.addr, addr))
            .cloned()
            .collect();
        let inodes: Vec<_> = held.iter().map(|held| held.inode).collect();
        let holders = tokio::task::spawn_blocking(move || holders(&inodes))
            .await
            .unwrap_or_default();
        let mut wanted = Wanted {
            place: one.place,
            // Whether there is somebody is asked, not what is spoken: web listeners answer other questions than ours.
            scheme: match one.manner {
                Manner { scheme, web: false } => scheme,
                _ => Scheme::Insecure,
            },
            held,
            holders,
            tried: Vec::new(),
        };
        if !host.has_proc || !wanted.held.is_empty() {
            wanted.tried = try_all(dialer, host, &wanted).await;
        }
        judge(&mut report, &wanted, host.has_proc);
    }
    report
}

/// Everything that listens on this host.
fn listening() -> Vec<Listening> {
    let tables = ["/proc/net/tcp6", "/proc/net/tcp"];
    let texts = tables
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    texts.flat_map(|text| proc::listening(&text)).collect()
}

/// Whether a socket stands where another one is wanted, or takes its place with it.
fn serves(held: SocketAddr, wanted: SocketAddr) -> bool {
    let any = held.ip().is_unspecified();
    held.port() == wanted.port()
        && (held.ip() == wanted.ip()
            // `[::]` may take IPv4 too; that is tried, not guessed.
            || any && (held.is_ipv6() || wanted.is_ipv4())
            || wanted.ip() == Ipv6Addr::UNSPECIFIED)
}

/// Name and number of the processes that have one of these sockets, as far as we may look.
fn holders(inodes: &[u64]) -> Vec<(String, u32)> {
    let wanted: Vec<_> = inodes
        .iter()
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        files
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|link| {
                wanted
                    .iter()
                    .any(|wanted| link.as_os_str() == wanted.as_str())
            })
    };
    let name = |pid: u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        (name.trim().to_owned(), pid)
    };
    numbers.filter(has).map(name).collect()
}

/// Connects to everything that a socket should answer on, all at once.
async fn try_all(
    dialer: &Dialer,
    host: &Host,
    wanted: &Wanted,
) -> Vec<(IpAddr, Result<u64, String>)> {
    let Some(addr) = wanted.place.addr() else {
        return Vec::new();
    };
    let mut tasks = JoinSet::new();
    for (n, ip) in targets(&wanted.place, host).into_iter().enumerate() {
        let server = ServerAddr::Tcp {
            // Clear text to ourselves needs no leave.
            scheme: if wanted.scheme == Scheme::Tls {
                Scheme::Tls
            } else {
                Scheme::Insecure
            },
            host: ip.to_string(),
            port: addr.port(),
        };
        let network = Network {
            // Our own certificate need not be one that this host trusts.
            trust: Trust {
                verify: Verify::None,
                ..Trust::default()
            },
            ..Network::default()
        };
        // A literal with an interface cannot be said by its address alone.
        let pinned = SocketAddr::new(ip, addr.port());
        let dialer = dialer.clone();
        tasks.spawn(async move {
            let probed = probe(&dialer, "", &network, &server, Some(pinned)).await;
            (
                n,
                ip,
                probed
                    .result
                    .map(|_| probed.millis)
                    .map_err(|failed| failed.text),
            )
        });
    }
    let mut done = Vec::new();
    while let Some(one) = tasks.join_next().await {
        done.extend(one.ok());
    }
    done.sort_by_key(|(n, ..)| *n);
    done.into_iter()
        .map(|(_, ip, result)| (ip, result))
        .collect()
}

/// What a listener should answer on.
fn targets(place: &Place, host: &Host) -> Vec<IpAddr> {
    let loopback = [
        IpAddr::from(Ipv6Addr::LOCALHOST),
        Ipv4Addr::LOCALHOST.into(),
    ];
    let (v6, v4) = match place {
        Place::Dual(_) => (true, true),
        Place::Ip(addr) if addr.ip().is_unspecified() => (addr.is_ipv6(), addr.is_ipv4()),
        Place::Ip(SocketAddr::V6(addr)) if addr.ip().is_unicast_link_local() => return Vec::new(),
        Place::Ip(addr) => return vec![addr.ip()],
        _ => return Vec::new(),
    };
    let reachable = host.reachable().into_iter().take(MOST);
    let all = loopback.into_iter().chain(reachable);
    all.filter(|ip| if ip.is_ipv6() { v6 } else { v4 })
        .collect()
}

fn judge(report: &mut Report, wanted: &Wanted, has_proc: bool) {
    let place = &wanted.place;
    if has_proc && wanted.held.is_empty() {
        return report.info(format!(
            "nothing listens on {place} now: carom is not running"
        ));
    }
    // systemd holds what it hands over.
    let strangers: Vec<_> = wanted
        .holders
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "carom" | "systemd"))
        .collect();
    if !strangers.is_empty() && wanted.holders.len() == strangers.len() {
        for (name, pid) in strangers {
            let held: Vec<_> = wanted
                .held
                .iter()
                .map(|held| held.addr.to_string())
                .collect();
            let message = format!(
                "{place} is wanted, and {name} (process {pid}) listens on {}",
                held.join(", ")
            );
            report.error(message, "stop it, or choose another port in server.listen");
        }
        return;
    }
    if wanted.holders.is_empty() && has_proc {
        let uid = wanted.held.first().map_or(0, |held| held.uid);
        report.info(format!("{place} is open, by a process of user {uid}"));
    }
    let good = |version: IpVersion| {
        let mut tried = wanted
            .tried
            .iter()
            .filter(|(ip, _)| IpVersion::of(*ip) == version);
        tried.any(|(_, result)| result.is_ok())
    };
    match (good(IpVersion::V6), good(IpVersion::V4)) {
        (true, true) => report.info(format!("{place} serves IPv6 and IPv4")),
        (true, false) => report.info(format!("{place} serves IPv6")),
        (false, true) => report.info(format!("{place} serves IPv4")),
        (false, false) if wanted.tried.is_empty() => {}
        (false, false) => report.error(
            format!("{place} answers nobody, tried from this host"),
            "look at carom's log",
        ),
    }
    let (well, ill): (Vec<_>, Vec<_>) = wanted.tried.iter().partition(|(_, result)| result.is_ok());
    if !well.is_empty() {
        let texts: Vec<_> = well.iter().map(|(ip, _)| ip.to_string()).collect();
        report.info(format!("{place} from this host: {} ok", texts.join(", ")));
    }
    for (ip, result) in ill {
        let Err(text) = result else { continue };
        let message = format!("{place} does not answer on {ip}: {text}");
        report.warn(
            message,
            "look at carom's log, and at the firewall's rules for that family",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::proc::if_inet6;

    fn held(addr: &str) -> Listening {
        Listening {
            addr: addr.parse().unwrap(),
            uid: 1000,
            inode: 1,
        }
    }

    fn said(
        held: Vec<Listening>,
        holders: &[(&str, u32)],
        tried: &[(&str, Result<u64, &str>)],
    ) -> String {
        let wanted = Wanted {
            place: Place::Dual(6697),
            scheme: Scheme::Tls,
            held,
            holders: holders
                .iter()
                .map(|(name, pid)| ((*name).to_owned(), *pid))
                .collect(),
            tried: tried
                .iter()
                .map(|(ip, result)| (ip.parse().unwrap(), result.map_err(str::to_owned)))
                .collect(),
        };
        let mut report = Report::new("sockets");
        judge(&mut report, &wanted, true);
        report.text()
    }

    #[test]
    fn a_listener_of_ours_serves_both() {
        let text = said(
            vec![held("[::]:6697")],
            &[("carom", 7)],
            &[("::1", Ok(1)), ("127.0.0.1", Ok(1))],
        );
        let expected = "info: sockets: [::]:6697 serves IPv6 and IPv4\n\
                        info: sockets: [::]:6697 from this host: ::1, 127.0.0.1 ok\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_address_that_does_not_answer_is_named() {
        let tried = [("::1", Ok(1)), ("127.0.0.1", Err("no TCP answer"))];
        let text = said(vec![held("[::]:6697")], &[("carom", 7)], &tried);
        assert!(
            text.contains("info: sockets: [::]:6697 serves IPv6\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "warning: sockets: [::]:6697 does not answer on 127.0.0.1: no TCP answer"
            )
        );
    }

    #[test]
    fn nothing_there_and_somebody_else_there() {
        assert!(said(Vec::new(), &[], &[]).contains("nothing listens on [::]:6697 now"));
        let text = said(vec![held("0.0.0.0:6697")], &[("ncat", 9)], &[]);
        assert!(
            text.starts_with(
                "error: sockets: [::]:6697 is wanted, and ncat (process 9) listens on 0.0.0.0:6697"
            ),
            "{text}"
        );
        let text = said(
            vec![held("[::]:6697")],
            &[("systemd", 1)],
            &[("::1", Ok(1))],
        );
        assert!(!text.contains("error"), "{text}");
    }

    #[test]
    fn what_takes_a_place() {
        let serves =
            |held: &str, wanted: &str| serves(held.parse().unwrap(), wanted.parse().unwrap());
        assert!(
            serves("[::]:1", "[::]:1")
                && serves("[::]:1", "[::1]:1")
                && serves("[::]:1", "127.0.0.1:1")
        );
        assert!(serves("0.0.0.0:1", "127.0.0.1:1") && serves("0.0.0.0:1", "[::]:1"));
        assert!(
            serves("127.0.0.1:1", "[::]:1"),
            "it stands in the way of both families on one socket"
        );
        assert!(
            !serves("0.0.0.0:1", "[::1]:1")
                && !serves("[::1]:1", "127.0.0.1:1")
                && !serves("[::]:1", "[::]:2")
        );
    }

    #[test]
    fn wildcards_are_tried_on_all_addresses_of_their_family() {
        let host = Host {
            has_proc: true,
            v6: if_inet6("20010db8000000000000000000000005 02 40 00 80 eth0\n"),
            v4: vec!["192.0.2.5".parse().unwrap()],
            ..Host::default()
        };
        let all = |place: Place| -> Vec<_> {
            targets(&place, &host)
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(
            all(Place::Dual(1)),
            ["::1", "127.0.0.1", "2001:db8::5", "192.0.2.5"]
        );
        assert_eq!(
            all(Place::Ip("0.0.0.0:1".parse().unwrap())),
            ["127.0.0.1", "192.0.2.5"]
        );
        assert_eq!(all(Place::Ip("[::1]:1".parse().unwrap())), ["::1"]);
        assert!(all(Place::Ip("[fe80::1]:1".parse().unwrap())).is_empty());
    }
}
