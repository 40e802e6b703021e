//! The addresses that networks are told to be dialled from: whether they are this host's. Whether packets from them come
//! back is `networks`'s.

use std::net::IpAddr;

use super::host::Host;
use super::report::Report;
use crate::config::{Config, Dial, Source};

pub(super) fn examine(config: &Config, host: &Host) -> Report {
    let mut report = Report::new("source");
    let networks = config.users.iter().flat_map(|user| &user.networks);
    let mut seen: Vec<(Source, bool)> = Vec::new();
    for dial in networks.map(|network| &network.dial) {
        for source in [dial.source.v6, dial.source.v4].into_iter().flatten() {
            if !seen.contains(&(source, dial.freebind)) {
                seen.push((source, dial.freebind));
                judge(&mut report, source, dial, host);
            }
        }
    }
    report
}

fn judge(report: &mut Report, source: Source, dial: &Dial, host: &Host) {
    let (ip, written, is_prefix) = match source {
        Source::Address(ip) => (ip, ip.to_string(), false),
        Source::Prefix(ip, length) => (ip, format!("{ip}/{length}"), true),
    };
    let (family, other, sides) = match ip {
        IpAddr::V6(_) => ("IPv6", "IPv4", (dial.source.v6, dial.source.v4)),
        IpAddr::V4(_) => ("IPv4", "IPv6", (dial.source.v4, dial.source.v6)),
    };
    if sides.1.is_none() {
        report.info(format!(
            "{written} is the only source: networks that have it do without {other}"
        ));
    }
    if !host.has_proc {
        return;
    }
    let routed = match ip {
        IpAddr::V6(ip) => host.has_whole(ip),
        // The kernel does not list these for IPv4.
        IpAddr::V4(_) => is_prefix,
    };
    if !is_prefix && host.has(ip) {
        report.info(format!("{written} is an address of this host"));
    } else if !dial.freebind && (is_prefix || routed) {
        let message =
            format!("{written} cannot be bound: no interface has its addresses one by one");
        report.error(message, "write freebind = true in [dial]");
    } else if !routed && dial.freebind {
        let net = if is_prefix {
            written.clone()
        } else {
            format!("{written}/128")
        };
        let message =
            format!("{written} is not routed to this host as a whole: answers do not come back");
        report.warn(
            message,
            format!("ip -6 route add local {net} dev lo, and have the router send it here"),
        );
    } else if !routed {
        let message = format!(
            "{written} is not an address of this host: {family} is out of use for networks that have it"
        );
        report.error(
            message,
            "put it on an interface, or write another address into `source`",
        );
    } else {
        report.info(format!("{written} is this host's as a whole"));
        neighbours(report, ip, &written, host);
    }
}

/// On a link its neighbours ask for the owner of each address, and the kernel answers for those of interfaces alone.
fn neighbours(report: &mut Report, ip: IpAddr, written: &str, host: &Host) {
    let IpAddr::V6(ip) = ip else { return };
    let Some(device) = host.link_of(ip) else {
        return;
    };
    report.warn(
        format!(
            "{written} is on the link of {device}, where the router asks for each of its addresses and nobody answers"
        ),
        format!(
            "have ndppd answer on {device} for {written}, or have the router send it here as a route"
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::super::proc::if_inet6;
    use super::*;
    use crate::config::Sources;

    fn said(source: Source, freebind: bool, other: Option<Source>) -> String {
        let host = Host {
            has_proc: true,
            v6: if_inet6("20010db8000000000000000000000005 02 40 00 80 eth0\n"),
            local_v6: vec![
                ("2001:db8:bb::".parse().unwrap(), 64),
                ("2001:db8::aa:0:0:0".parse().unwrap(), 80),
            ],
            ..Host::default()
        };
        let dial = Dial {
            source: Sources {
                v6: Some(source),
                v4: other,
            },
            freebind,
            ..Dial::default()
        };
        let mut report = Report::new("source");
        judge(&mut report, source, &dial, &host);
        report.text()
    }

    fn address(text: &str) -> Source {
        Source::Address(text.parse().unwrap())
    }

    #[test]
    fn addresses_and_prefixes() {
        let other = Some(address("192.0.2.5"));
        let text = said(address("2001:db8::5"), false, other);
        assert_eq!(
            text,
            "info: source: 2001:db8::5 is an address of this host\n"
        );
        assert!(
            said(address("2001:db8::9"), false, other)
                .starts_with("error: source: 2001:db8::9 is not an address")
        );
        let prefix = Source::Prefix("2001:db8:bb::".parse().unwrap(), 64);
        assert!(said(prefix, false, other).contains("freebind = true"));
        let text = said(prefix, true, other);
        assert_eq!(
            text,
            "info: source: 2001:db8:bb::/64 is this host's as a whole\n"
        );
        let elsewhere = Source::Prefix("2001:db8:cc::".parse().unwrap(), 64);
        assert!(
            said(elsewhere, true, other).contains("ip -6 route add local 2001:db8:cc::/64 dev lo")
        );
    }

    #[test]
    fn a_prefix_on_a_link_wants_somebody_who_answers_for_it() {
        let other = Some(address("192.0.2.5"));
        let part = Source::Prefix("2001:db8::aa:0:0:0".parse().unwrap(), 80);
        let text = said(part, true, other);
        let (well, hint) = text.split_once('\n').unwrap();
        assert_eq!(
            well,
            "info: source: 2001:db8:0:0:aa::/80 is this host's as a whole"
        );
        assert!(
            hint.starts_with("warning: source: 2001:db8:0:0:aa::/80 is on the link of eth0"),
            "{hint}"
        );
        assert!(hint.contains("ndppd answer on eth0"), "{hint}");
    }

    #[test]
    fn one_family_alone_is_told() {
        assert!(said(address("2001:db8::5"), false, None).contains("do without IPv4"));
    }
}
