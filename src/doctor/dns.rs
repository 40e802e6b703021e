//! The bouncer's own name: whether A and AAAA lead to this host, and whether the addresses it dials from lead back to
//! names. The names of networks are `networks`'s.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use tokio::time::timeout;

use super::DEADLINE;
use super::host::{Host, is_global_v6, is_inner_v4};
use super::report::Report;
use crate::config::Config;
use crate::net::IpVersion;
use crate::net::resolve::{Resolve, ResolveError};

/// The addresses of one family of a name, or why it cannot be said.
type Found = Result<Vec<IpAddr>, String>;

/// The way back from one address.
#[derive(Debug)]
struct Back {
    ip: IpAddr,
    /// What its PTR record says; `Err`: nobody answered.
    name: Result<Option<String>, ()>,
    confirmed: bool,
}

pub(super) async fn examine(config: &Config, host: &Host, resolver: &dyn Resolve) -> Report {
    let mut report = Report::new("dns");
    let name = config.server.name.as_str();
    if is_public(name) {
        let (v6, v4) = tokio::join!(
            forward(resolver, name, IpVersion::V6),
            forward(resolver, name, IpVersion::V4),
        );
        judge(&mut report, name, host, &v6, &v4);
    } else {
        report.info(format!(
            "server.name is {name}, which is no name on the Internet: its A and AAAA records are not looked for"
        ));
    }
    let v6 = host
        .source_v6
        .filter(|ip| is_global_v6(*ip))
        .map(IpAddr::V6);
    let v4 = host
        .source_v4
        .filter(|ip| !is_inner_v4(*ip))
        .map(IpAddr::V4);
    let (v6, v4) = tokio::join!(back(resolver, v6), back(resolver, v4));
    for way in [v6, v4].into_iter().flatten() {
        judge_back(&mut report, &way);
    }
    report
}

/// Whether a name can be looked up by others. Special names: RFC 6761, RFC 6762, RFC 8375.
fn is_public(name: &str) -> bool {
    let last = name.trim_end_matches('.').rsplit('.').next();
    let special = [
        "local",
        "localhost",
        "localdomain",
        "lan",
        "home",
        "internal",
        "test",
        "invalid",
    ];
    name.trim_end_matches('.').contains('.')
        && !last.is_some_and(|last| special.contains(&last))
        && IpAddr::from_str(name).is_err()
}

async fn forward(resolver: &dyn Resolve, name: &str, version: IpVersion) -> Found {
    let ips = |found: Vec<SocketAddr>| found.iter().map(SocketAddr::ip).collect();
    match timeout(DEADLINE, resolver.lookup(name, version)).await {
        Ok(Ok(found)) => Ok(ips(found)),
        Ok(Err(ResolveError::NoAddress { .. })) => Ok(Vec::new()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!(
            "looking up the {version} address of {name}: no answer within {} s",
            DEADLINE.as_secs()
        )),
    }
}

async fn back(resolver: &dyn Resolve, ip: Option<IpAddr>) -> Option<Back> {
    let ip = ip?;
    // Without a name the system gives the address as text.
    let asked = tokio::task::spawn_blocking(move || {
        let (name, _) = dns_lookup::getnameinfo(&SocketAddr::new(ip, 0), 0).ok()?;
        IpAddr::from_str(&name).is_err().then_some(name)
    });
    let name = match timeout(DEADLINE, asked).await {
        Ok(Ok(name)) => Ok(name),
        _ => Err(()),
    };
    let confirmed = match &name {
        Ok(Some(name)) => forward(resolver, name, IpVersion::of(ip))
            .await
            .is_ok_and(|found| found.contains(&ip)),
        _ => false,
    };
    Some(Back {
        ip,
        name,
        confirmed,
    })
}

fn judge(report: &mut Report, name: &str, host: &Host, v6: &Found, v4: &Found) {
    for problem in [v6, v4]
        .into_iter()
        .filter_map(|found| found.as_ref().err())
    {
        report.warn(
            problem,
            "look at the name servers in /etc/resolv.conf, and at those of the zone",
        );
    }
    if let (Ok(v6), Ok(v4)) = (v6, v4)
        && v6.is_empty()
        && v4.is_empty()
    {
        let remedy =
            "publish AAAA and A for it, or write the name that clients use into server.name";
        report.warn(format!("{name} has no address"), remedy);
        return;
    }
    if let Ok(v6) = v6 {
        judge_v6(report, name, host, v6);
    }
    if let Ok(v4) = v4 {
        judge_v4(report, name, host, v4);
    }
}

fn judge_v6(report: &mut Report, name: &str, host: &Host, found: &[IpAddr]) {
    let own = host.reachable().into_iter().find(|ip| match ip {
        IpAddr::V6(ip) => is_global_v6(*ip),
        IpAddr::V4(_) => false,
    });
    match (found, own) {
        ([], Some(own)) => report.warn(
            format!("{name} has no AAAA record: clients come over IPv4 alone"),
            format!("publish AAAA {own} when carom answers there from outside"),
        ),
        ([], None) => report.info(format!("{name} has no AAAA record")),
        _ => {}
    }
    for ip in found {
        if host.has(*ip) {
            report.info(format!("AAAA {ip} of {name} is this host"));
        } else {
            let remedy = "put the record right, or give the address to this host: clients that try IPv6 first wait for it in vain";
            report.warn(format!("AAAA {ip} of {name} is not on this host"), remedy);
        }
    }
}

fn judge_v4(report: &mut Report, name: &str, host: &Host, found: &[IpAddr]) {
    let behind_nat = host.v4.iter().all(|ip| is_inner_v4(*ip));
    if found.is_empty() {
        let remedy = "publish an A record too, if clients without IPv6 are to come";
        report.warn(
            format!("{name} has no A record: clients come over IPv6 alone"),
            remedy,
        );
    }
    for ip in found {
        if host.has(*ip) {
            report.info(format!("A {ip} of {name} is this host"));
        } else if behind_nat {
            report.info(format!(
                "A {ip} of {name} is not on this host, which has private IPv4 addresses alone: the router has to forward the port"
            ));
        } else {
            let remedy = "put the record right, or give the address to this host";
            report.warn(format!("A {ip} of {name} is not on this host"), remedy);
        }
    }
}

fn judge_back(report: &mut Report, way: &Back) {
    let ip = way.ip;
    match &way.name {
        Err(()) => report.warn(
            format!(
                "looking up the name of {ip}: no answer within {} s",
                DEADLINE.as_secs()
            ),
            "look at the name servers in /etc/resolv.conf",
        ),
        Ok(None) => report.info(format!(
            "no name is known for {ip} (PTR record): networks show the address"
        )),
        Ok(Some(name)) if way.confirmed => report.info(format!("{ip} is {name}, and back")),
        Ok(Some(name)) => report.warn(
            format!(
                "{ip} is {name}, but {name} does not lead back to it: networks do not show the name"
            ),
            format!("publish {ip} for {name}, or another PTR record"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::proc::if_inet6;

    fn host() -> Host {
        Host {
            has_proc: true,
            v6: if_inet6("20010db8000000000000000000000005 02 40 00 80 eth0\n"),
            v4: vec!["127.0.0.1".parse().unwrap(), "192.0.2.5".parse().unwrap()],
            ..Host::default()
        }
    }

    fn said(host: &Host, v6: &[&str], v4: &[&str]) -> String {
        let ips = |texts: &[&str]| Ok(texts.iter().map(|text| text.parse().unwrap()).collect());
        let mut report = Report::new("dns");
        judge(&mut report, "bnc.example.org", host, &ips(v6), &ips(v4));
        report.text()
    }

    #[test]
    fn records_that_lead_here() {
        let text = said(&host(), &["2001:db8::5"], &["192.0.2.5"]);
        let expected = "info: dns: AAAA 2001:db8::5 of bnc.example.org is this host\n\
                        info: dns: A 192.0.2.5 of bnc.example.org is this host\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn records_that_lead_elsewhere_or_are_missing() {
        let text = said(&host(), &["2001:db8::9"], &["192.0.2.9"]);
        assert!(
            text.contains("warning: dns: AAAA 2001:db8::9 of bnc.example.org is not on this host")
        );
        assert!(text.contains("warning: dns: A 192.0.2.9"));
        let text = said(&host(), &[], &["192.0.2.5"]);
        assert!(text.contains("publish AAAA 2001:db8::5"), "{text}");
        assert!(said(&host(), &["2001:db8::5"], &[]).contains("has no A record"));
        let text = said(&host(), &[], &[]);
        assert!(text.starts_with("warning: dns: bnc.example.org has no address"));
    }

    #[test]
    fn behind_a_router_the_a_record_is_the_routers() {
        let mut host = host();
        host.v4 = vec!["127.0.0.1".parse().unwrap(), "10.0.0.5".parse().unwrap()];
        let text = said(&host, &["2001:db8::5"], &["192.0.2.5"]);
        assert!(
            text.contains("the router has to forward the port"),
            "{text}"
        );
        assert!(!text.contains("warning"), "{text}");
    }

    #[test]
    fn the_way_back_is_confirmed_or_not() {
        let back = |name: Result<Option<&str>, ()>, confirmed| {
            let mut report = Report::new("dns");
            let name = name.map(|name| name.map(str::to_owned));
            let ip = "2001:db8::5".parse().unwrap();
            judge_back(
                &mut report,
                &Back {
                    ip,
                    name,
                    confirmed,
                },
            );
            report.text()
        };
        assert_eq!(
            back(Ok(Some("a.example")), true),
            "info: dns: 2001:db8::5 is a.example, and back\n"
        );
        assert!(back(Ok(Some("a.example")), false).starts_with("warning: "));
        assert!(back(Ok(None), false).starts_with("info: "));
        assert!(back(Err(()), false).starts_with("warning: "));
    }

    #[test]
    fn names_that_others_can_look_up() {
        assert!(is_public("bnc.example.org") && is_public("bnc.example.org."));
        for name in [
            "bnc",
            "bnc.local",
            "host.localdomain",
            "192.0.2.1",
            "2001:db8::1",
            "",
        ] {
            assert!(!is_public(name), "{name}");
        }
    }
}
