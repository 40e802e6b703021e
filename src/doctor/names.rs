//! How this host looks names up: rules of its own for the order of addresses, and whether a translator (NAT64) stands in
//! for the IPv4 that is missing. What the names of servers lead to is `networks`'.

use std::net::{IpAddr, Ipv6Addr};

use tokio::time::timeout;

use super::DEADLINE;
use super::host::Host;
use super::report::Report;
use crate::net::IpVersion;
use crate::net::nat64::Prefix;
use crate::net::resolve::Resolve;

/// The name by which a translator shows itself (RFC 7050).
const TRANSLATOR: &str = "ipv4only.arpa";
/// glibc's own order of addresses.
const GAI: &str = "/etc/gai.conf";

pub(super) async fn examine(host: &Host, resolver: &dyn Resolve) -> Report {
    let mut report = Report::new("names");
    let rules = std::fs::read_to_string(GAI).unwrap_or_default();
    if has_rules(&rules) {
        report.info(format!(
            "{GAI} orders addresses in its own way: no matter to carom, which follows dial.family; other programs go by it"
        ));
    }
    if host.default_v4.is_none() && host.default_v6.is_some() {
        let asked = resolver.lookup(TRANSLATOR, IpVersion::V6);
        let answer = timeout(DEADLINE, asked).await.ok().and_then(Result::ok);
        let addresses: Vec<_> = answer.unwrap_or_default().iter().map(|a| a.ip()).collect();
        translator(&mut report, &addresses);
    }
    report
}

/// Whether any rule is in force; Debian ships the file with comments alone.
fn has_rules(text: &str) -> bool {
    text.lines().map(str::trim).any(|line| {
        ["precedence", "label", "scopev4"]
            .iter()
            .any(|rule| line.starts_with(rule))
    })
}

fn translator(report: &mut Report, answers: &[IpAddr]) {
    let v6: Vec<Ipv6Addr> = answers
        .iter()
        .filter_map(|ip| match ip {
            IpAddr::V6(ip) => Some(*ip),
            IpAddr::V4(_) => None,
        })
        .collect();
    match Prefix::find(&v6) {
        Some(_) => report.info("no IPv4 route, but a translator (NAT64): servers with IPv4 alone are reached through it"),
        None => report.warn(
            "no IPv4 route, and no translator (NAT64) is known here: servers with IPv4 alone are out of reach",
            "give the networks servers with IPv6, or the host IPv4 or a resolver with DNS64",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_rules() {
        assert!(!has_rules(
            "# precedence ::ffff:0:0/96  100\n\n#label ::1/128 0\n"
        ));
        assert!(has_rules("#x\n precedence ::ffff:0:0/96  100\n"));
    }

    #[test]
    fn a_translator_is_known_by_its_answer() {
        let said = |answers: &[&str]| {
            let answers: Vec<IpAddr> = answers.iter().map(|a| a.parse().unwrap()).collect();
            let mut report = Report::new("names");
            translator(&mut report, &answers);
            report.text()
        };
        assert!(said(&["64:ff9b::c000:aa"]).starts_with("info: names: "));
        assert!(said(&["2001:db8::1", "192.0.0.170"]).starts_with("warning: names: "));
        assert!(said(&[]).starts_with("warning: names: "));
    }
}
