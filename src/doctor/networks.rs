//! The servers of all networks: what their names lead to, each family asked by itself, and for each address TCP, TLS and
//! the certificate. Nothing is registered.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::DEADLINE;
use super::host::Host;
use super::probe::{Failed, Probed, probe};
use super::report::Report;
use crate::config::{Config, Family, Network, Scheme, ServerAddr};
use crate::net::resolve::{self, Resolve, ResolveError, System};
use crate::net::{Dialer, IpVersion, Stream};

/// Connections at once.
const PARALLEL: usize = 8;
/// Addresses of one name that are tried, per family.
const MOST: usize = 8;
/// What links carry that are nothing special.
const ETHERNET: u32 = 1500;
/// A look-up that takes longer is worth a word.
const SLOW: u64 = 1000;

/// One server, and whose it is.
#[derive(Clone)]
struct Target {
    user: String,
    network: Network,
    server: ServerAddr,
    others: usize,
}

/// What one family of a name looks like.
#[derive(Debug, Clone, Default)]
struct Side {
    /// Not asked when the network does without the family.
    asked: bool,
    found: usize,
    problem: Option<String>,
    millis: u64,
    /// The narrowest path that was met, for IPv6.
    mtu: Option<u32>,
    tried: Vec<(SocketAddr, Result<u64, Failed>)>,
}

/// What one server looks like.
#[derive(Debug, Clone, Default)]
struct Seen {
    network: String,
    others: usize,
    server: String,
    is_name: bool,
    v6: Side,
    v4: Side,
    /// A unix socket or a proxy: nothing to choose between.
    direct: Option<Result<u64, Failed>>,
    /// The first IPv6 address that worked, without the clamp of the MSS.
    unclamped: Option<Result<u64, Failed>>,
    mss: u32,
}

pub(super) async fn examine(config: &Config, host: &Host, dialer: &Dialer) -> Report {
    let turns = Arc::new(Semaphore::new(PARALLEL));
    let mut tasks = JoinSet::new();
    // Look-ups of names that are not answered hold threads: each has a share of its own.
    let resolvers: Vec<_> = (0..PARALLEL)
        .filter_map(|_| System::new().ok())
        .map(Arc::new)
        .collect();
    for (n, target) in targets(config).into_iter().enumerate() {
        let (turns, dialer) = (Arc::clone(&turns), dialer.clone());
        let Some(resolver) = resolvers.get(n % resolvers.len().max(1)).cloned() else {
            continue;
        };
        tasks.spawn(async move { (n, look(target, &dialer, resolver.as_ref(), &turns).await) });
    }
    let mut seen = Vec::new();
    while let Some(done) = tasks.join_next().await {
        seen.extend(done.ok());
    }
    seen.sort_by_key(|(n, _)| *n);
    let mut report = Report::new("networks");
    for (_, seen) in &seen {
        judge(&mut report, seen, host.source_v6.is_some());
    }
    report
}

/// Each server once for all who use it in the same way.
fn targets(config: &Config) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    let networks = config
        .users
        .iter()
        .flat_map(|user| user.networks.iter().map(move |network| (user, network)));
    for (user, network) in networks.filter(|(_, network)| network.enabled) {
        for server in &network.servers {
            let same = targets.iter_mut().find(|known| {
                known.server == *server
                    && known.network.dial == network.dial
                    && known.network.trust == network.trust
                    && known.network.client_certificate == network.client_certificate
                    && known.network.proxy == network.proxy
            });
            match same {
                Some(known) => known.others += usize::from(known.network.name != network.name),
                None => targets.push(Target {
                    user: user.name.clone(),
                    network: network.clone(),
                    server: server.clone(),
                    others: 0,
                }),
            }
        }
    }
    targets
}

async fn look(target: Target, dialer: &Dialer, resolver: &dyn Resolve, turns: &Semaphore) -> Seen {
    let Target {
        user,
        network,
        server,
        others,
    } = &target;
    let mut seen = Seen {
        network: network.name.clone(),
        others: *others,
        mss: network.dial.ipv6_mss,
        ..Seen::default()
    };
    let ServerAddr::Tcp { host, port, scheme } = server else {
        return direct(seen, server.to_string(), &target, dialer).await;
    };
    if let Some(proxy) = &network.proxy {
        // The proxy looks names up, and takes whichever family it likes.
        let written = format!(
            "{host}:{port} through the proxy {}:{}",
            proxy.host, proxy.port
        );
        return direct(seen, written, &target, dialer).await;
    }
    seen.server = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let (v6, v4) = tokio::join!(
        addresses(resolver, host, IpVersion::V6, network.dial.family),
        addresses(resolver, host, IpVersion::V4, network.dial.family),
    );
    let literal =
        v6.0.iter()
            .chain(&v4.0)
            .any(|addr| addr.ip().to_string() == *host);
    seen.is_name = !literal;
    (seen.v6, seen.v4) = tokio::join!(
        connect(dialer, &target, v6, turns),
        connect(dialer, &target, v4, turns),
    );
    let worked = seen.v6.tried.iter().find(|(_, result)| result.is_ok());
    if let (Some((addr, _)), Scheme::Tls, true) = (worked, scheme, seen.mss != 0) {
        let mut bare = network.clone();
        bare.dial.ipv6_mss = 0;
        let _turn = turns.acquire().await;
        let probed = probe(dialer, user, &bare, server, Some(*addr)).await;
        seen.unclamped = Some(probed.result.map(|_| probed.millis));
    }
    seen
}

/// Where there is nothing to choose between.
async fn direct(seen: Seen, server: String, target: &Target, dialer: &Dialer) -> Seen {
    let probed = probe(dialer, &target.user, &target.network, &target.server, None).await;
    Seen {
        server,
        direct: Some(probed.result.map(|_| probed.millis)),
        ..seen
    }
}

/// The addresses of one family, with what is to be told of the look-up.
async fn addresses(
    resolver: &dyn Resolve,
    host: &str,
    version: IpVersion,
    family: Family,
) -> (Vec<SocketAddr>, Side) {
    let asked = !matches!(
        (family, version),
        (Family::Ipv6, IpVersion::V4) | (Family::Ipv4, IpVersion::V6)
    );
    let mut side = Side {
        asked,
        ..Side::default()
    };
    if !side.asked {
        return (Vec::new(), side);
    }
    let started = Instant::now();
    let answer = timeout(DEADLINE, resolve::addresses(resolver, host, version)).await;
    side.millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match answer {
        Ok(Ok(mut found)) => {
            found.dedup();
            side.found = found.len();
            (found, side)
        }
        Ok(Err(ResolveError::NoAddress { .. })) => (Vec::new(), side),
        Ok(Err(error)) => {
            side.problem = Some(error.to_string());
            (Vec::new(), side)
        }
        Err(_) => {
            side.problem = Some(format!(
                "looking up the {version} address of {host}: no answer within {} s",
                DEADLINE.as_secs()
            ));
            (Vec::new(), side)
        }
    }
}

impl Side {
    fn note_path(&mut self, probed: &Probed) {
        let mtu = probed.result.as_ref().ok().and_then(Stream::path_mtu);
        self.mtu = self.mtu.into_iter().chain(mtu).min();
    }
}

async fn connect(
    dialer: &Dialer,
    target: &Target,
    (found, mut side): (Vec<SocketAddr>, Side),
    turns: &Semaphore,
) -> Side {
    for addr in found.into_iter().take(MOST) {
        let _turn = turns.acquire().await;
        let probed = probe(
            dialer,
            &target.user,
            &target.network,
            &target.server,
            Some(addr),
        )
        .await;
        side.note_path(&probed);
        side.tried
            .push((addr, probed.result.map(|_| probed.millis)));
        // One address without a route speaks for all of its family.
        if let Some((_, Err(Failed { no_route: true, .. }))) = side.tried.last() {
            break;
        }
    }
    side
}

fn judge(report: &mut Report, seen: &Seen, has_v6: bool) {
    let who = match seen.others {
        0 => format!("{}: {}", seen.network, seen.server),
        n => format!("{} (and {n} more): {}", seen.network, seen.server),
    };
    match &seen.direct {
        Some(Ok(_)) => return report.info(format!("{who}: ok")),
        Some(Err(failed)) => {
            return report.error(
                format!("{who}: {}", failed.text),
                "start the server, or mend the path",
            );
        }
        None => {}
    }
    let sides = [(&seen.v6, "IPv6"), (&seen.v4, "IPv4")];
    for (side, name) in sides {
        look_up(report, &who, side, name);
    }
    let tried = || sides.iter().flat_map(|(side, _)| &side.tried);
    let anything = tried().any(|(_, result)| result.is_ok());
    if tried().next().is_none() {
        let remedy = "look at the name in `servers`, and at the name servers in /etc/resolv.conf";
        return report.error(format!("{who}: the name leads to no address"), remedy);
    }
    for (addr, failed) in tried().filter_map(|(addr, result)| Some((addr, result.as_ref().err()?)))
    {
        let message = format!("{who}: {}: {}", addr.ip(), failed.text);
        if failed.no_route && anything && (addr.is_ipv4() || !has_v6) {
            // Told once, among the routes.
            continue;
        }
        if anything {
            report.warn(message, "carom uses the other addresses");
        } else {
            report.error(
                message,
                "nothing else is left: look at route, firewall, server and certificate",
            );
        }
    }
    for (side, name) in sides {
        if side.asked && side.found == 0 && side.problem.is_none() && seen.is_name {
            report.info(format!("{who}: has no {name} address"));
        }
    }
    if anything {
        let facts: Vec<_> = sides
            .iter()
            .filter_map(|(side, name)| summary(side, name))
            .collect();
        report.info(format!("{who}: {}", facts.join(", ")));
    }
    if let Some(Err(failed)) = &seen.unclamped {
        let message = format!(
            "{who}: without dial.ipv6_mss = {} the handshake fails ({}): a path-MTU hole",
            seen.mss, failed.text
        );
        report.warn(
            message,
            "keep ipv6_mss as it is; other programs on this host want packet-too-big let through",
        );
    }
}

/// What is to be told of asking for one family.
fn look_up(report: &mut Report, who: &str, side: &Side, name: &str) {
    let record = if name == "IPv6" { "AAAA" } else { "A" };
    if let Some(problem) = &side.problem {
        let remedy = format!(
            "look at the name servers in /etc/resolv.conf: they should answer {record} questions at once"
        );
        report.warn(format!("{who}: {problem}"), remedy);
    } else if side.millis > SLOW {
        let seconds = side.millis / 1000;
        let tenths = side.millis % 1000 / 100;
        let message = format!(
            "{who}: {record} took {seconds}.{tenths} s: a name server drops or delays such questions"
        );
        report.warn(
            message,
            "carom asks for each family by itself and does not wait; other programs do",
        );
    }
}

/// `6 of 6 IPv6 ok (21-35 ms)`
fn summary(side: &Side, name: &str) -> Option<String> {
    if side.tried.is_empty() {
        return None;
    }
    let times: Vec<_> = side
        .tried
        .iter()
        .filter_map(|(_, result)| result.as_ref().ok())
        .collect();
    let range = match (times.iter().min(), times.iter().max()) {
        (Some(least), Some(most)) if least == most => format!(" ({least} ms)"),
        (Some(least), Some(most)) => format!(" ({least}-{most} ms)"),
        _ => String::new(),
    };
    let narrow = match side.mtu {
        Some(mtu) if mtu < ETHERNET => format!(", path MTU {mtu}"),
        _ => String::new(),
    };
    Some(format!(
        "{} of {} {name} ok{range}{narrow}",
        times.len(),
        side.found.max(side.tried.len())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(text: &str, no_route: bool) -> Result<u64, Failed> {
        Err(Failed {
            text: text.into(),
            no_route,
        })
    }

    fn side(tried: &[(&str, Result<u64, Failed>)]) -> Side {
        Side {
            asked: true,
            found: tried.len(),
            tried: tried
                .iter()
                .map(|(addr, result)| (addr.parse().unwrap(), result.clone()))
                .collect(),
            ..Side::default()
        }
    }

    fn seen(v6: Side, v4: Side) -> Seen {
        Seen {
            network: "oftc".into(),
            server: "irc.test:6697".into(),
            is_name: true,
            v6,
            v4,
            mss: 1220,
            ..Seen::default()
        }
    }

    fn said(seen: &Seen, has_v6: bool) -> String {
        let mut report = Report::new("networks");
        judge(&mut report, seen, has_v6);
        report.text()
    }

    const V6: [&str; 2] = ["[2001:db8::1]:6697", "[2001:db8::2]:6697"];
    const V4: &str = "192.0.2.1:6697";

    #[test]
    fn what_works_is_one_line() {
        let seen = seen(
            side(&[(V6[0], Ok(21)), (V6[1], Ok(35))]),
            side(&[(V4, Ok(20))]),
        );
        assert_eq!(
            said(&seen, true),
            "info: networks: oftc: irc.test:6697: 2 of 2 IPv6 ok (21-35 ms), 1 of 1 IPv4 ok (20 ms)\n"
        );
    }

    #[test]
    fn an_address_that_fails_beside_others_is_a_warning() {
        let seen = seen(
            side(&[(V6[0], failed("connection refused", false))]),
            side(&[(V4, Ok(20))]),
        );
        let text = said(&seen, true);
        assert!(
            text.contains(
                "warning: networks: oftc: irc.test:6697: 2001:db8::1: connection refused"
            ),
            "{text}"
        );
        assert!(
            text.contains("0 of 1 IPv6 ok, 1 of 1 IPv4 ok (20 ms)"),
            "{text}"
        );
    }

    #[test]
    fn a_host_without_ipv6_is_not_told_so_for_each_network() {
        let seen = seen(
            side(&[(V6[0], failed("no route", true))]),
            side(&[(V4, Ok(20))]),
        );
        assert!(!said(&seen, false).contains("warning"));
        assert!(said(&seen, true).contains("warning"));
    }

    #[test]
    fn a_server_out_of_reach_is_an_error() {
        let seen = seen(side(&[(V6[0], failed("no TCP answer", false))]), side(&[]));
        let text = said(&seen, true);
        let expected =
            "error: networks: oftc: irc.test:6697: 2001:db8::1: no TCP answer (nothing else";
        assert!(text.contains(expected), "{text}");
        let nowhere = tests::seen(side(&[]), side(&[]));
        let expected = "error: networks: oftc: irc.test:6697: the name leads to no address";
        assert!(said(&nowhere, true).starts_with(expected));
    }

    #[test]
    fn slow_and_dead_look_ups_are_told() {
        let mut slow = side(&[(V6[0], Ok(9))]);
        slow.millis = 4012;
        let mut dead = side(&[]);
        dead.problem = Some("looking up the IPv4 address of irc.test: no answer within 5 s".into());
        let text = said(&seen(slow, dead), true);
        assert!(text.contains("AAAA took 4.0 s"), "{text}");
        assert!(text.contains("answer A questions at once"), "{text}");
    }

    #[test]
    fn a_narrow_path_is_told() {
        let mut narrow = side(&[(V6[0], Ok(9))]);
        for (mtu, expected) in [
            (1480, "1 of 1 IPv6 ok (9 ms), path MTU 1480"),
            (1500, "ok (9 ms)\n"),
        ] {
            narrow.mtu = Some(mtu);
            let text = said(&seen(narrow.clone(), Side::default()), true);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_path_mtu_hole_is_found() {
        let mut seen = seen(side(&[(V6[0], Ok(9))]), side(&[]));
        seen.unclamped = Some(failed("no TLS answer within 5s", false));
        assert!(said(&seen, true).contains("a path-MTU hole"));
    }

    #[test]
    fn one_server_of_many_users_is_asked_once() {
        let network = |name: &str| Network {
            name: name.into(),
            servers: vec![ServerAddr::parse("ircs://irc.test").unwrap()],
            ..Network::default()
        };
        let user = |networks| crate::config::User {
            networks,
            ..crate::config::User::default()
        };
        let off = Network {
            enabled: false,
            servers: vec![ServerAddr::parse("ircs://off.test").unwrap()],
            ..network("off")
        };
        let config = Config {
            users: vec![
                user(vec![network("oftc")]),
                user(vec![network("oftc"), network("o"), off]),
            ],
            ..Config::default()
        };
        let targets = targets(&config);
        assert_eq!(targets.len(), 1);
        assert_eq!(targets[0].others, 1);
    }
}
