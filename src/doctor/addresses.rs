//! The host's own addresses: which there are, and which of them are not to be relied on. Where they come from is `host`'s,
//! the way out of the host `routes`'s.

use std::net::IpAddr;

use super::host::{Host, is_global_v6, is_inner_v4, is_routed_v6, switch};
use super::report::Report;

pub(super) fn examine(host: &Host) -> Report {
    let device = host.default_v6.as_ref().map(|route| route.device.as_str());
    let prefers_temporary = device.is_some_and(|device| {
        let path = format!("/proc/sys/net/ipv6/conf/{device}/use_tempaddr");
        switch(&path).as_deref() == Some("2")
    });
    judge(host, prefers_temporary)
}

fn judge(host: &Host, prefers_temporary: bool) -> Report {
    let mut report = Report::new("addresses");
    if !host.has_proc {
        report.info("not available on this system");
        return report;
    }
    let reachable = host.reachable();
    let list = |wanted: fn(&&IpAddr) -> bool| {
        let texts: Vec<_> = reachable
            .iter()
            .filter(wanted)
            .map(ToString::to_string)
            .collect();
        if texts.is_empty() {
            "none".to_owned()
        } else {
            texts.join(", ")
        }
    };
    report.info(format!("IPv6: {}", list(|ip| ip.is_ipv6())));
    report.info(format!("IPv4: {}", list(|ip| ip.is_ipv4())));
    for own in host.v6.iter().filter(|own| !own.ip.is_unspecified()) {
        let place = format!("{} on {}", own.ip, own.device);
        if own.is_duplicate() {
            let remedy =
                "give one of the two another address, then `ip -6 address del` and `add` it here";
            report.warn(
                format!("{place} is in use by another host (duplicate address)"),
                remedy,
            );
        } else if own.is_tentative() {
            let remedy = "look again in a few seconds; if it stays, the interface has no link";
            report.warn(format!("{place} is not ready yet (tentative)"), remedy);
        } else if own.is_deprecated() && is_routed_v6(own.ip) {
            report.info(format!(
                "{place} is deprecated: new connections do not come from it"
            ));
        }
    }
    let has_global = host.v6.iter().any(|own| is_global_v6(own.ip));
    let has_ula = host.v6.iter().any(|own| own.ip.is_unique_local());
    if has_ula && !has_global {
        report.info("IPv6 has unique local addresses alone: others reach this host, and it them, only through a translator");
    }
    let v4: Vec<_> = host.v4.iter().filter(|ip| !ip.is_loopback()).collect();
    if !v4.is_empty() && v4.iter().all(|ip| is_inner_v4(**ip)) {
        report.info("IPv4 has private addresses alone: clients from outside need a port forwarded by the router, over IPv6 they do not");
    }
    let temporary = |own: &super::proc::Inet6| own.is_temporary() && is_global_v6(own.ip);
    if prefers_temporary && host.v6.iter().any(temporary) {
        report.info("the system prefers temporary IPv6 addresses (use_tempaddr = 2): they go away within days; a stable one is better for sessions");
    }
    report
}

#[cfg(test)]
mod tests {
    use super::super::proc::if_inet6;
    use super::*;

    fn host(v6: &str, v4: &[&str]) -> Host {
        Host {
            has_proc: true,
            v6: if_inet6(v6),
            v4: v4.iter().map(|ip| ip.parse().unwrap()).collect(),
            ..Host::default()
        }
    }

    #[test]
    fn addresses_are_listed_by_family() {
        let text = judge(
            &host(
                "20010db8000000000000000000000005 02 40 00 80 eth0\n\
                 00000000000000000000000000000001 01 80 10 80 lo\n",
                &["127.0.0.1", "192.0.2.2"],
            ),
            false,
        )
        .text();
        let expected = "info: addresses: IPv6: 2001:db8::5\ninfo: addresses: IPv4: 192.0.2.2\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn addresses_in_trouble_are_named() {
        let text = judge(
            &host(
                "20010db8000000000000000000000005 02 40 00 c8 eth0\n\
                 20010db8000000000000000000000006 02 40 00 c0 eth0\n\
                 20010db8000000000000000000000007 02 40 00 21 eth0\n",
                &[],
            ),
            true,
        )
        .text();
        assert!(text.contains("warning: addresses: 2001:db8::5 on eth0 is in use by another host"));
        assert!(text.contains("warning: addresses: 2001:db8::6 on eth0 is not ready yet"));
        assert!(text.contains("info: addresses: 2001:db8::7 on eth0 is deprecated"));
        assert!(text.contains("use_tempaddr = 2"));
        assert!(text.contains("IPv4: none"));
    }

    #[test]
    fn addresses_of_the_inside_are_told() {
        let text = judge(
            &host(
                "fd000000000000000000000000000002 04 40 00 82 eth0\n",
                &["127.0.0.1", "10.0.0.2"],
            ),
            false,
        )
        .text();
        assert!(
            text.contains("IPv6 has unique local addresses alone"),
            "{text}"
        );
        assert!(text.contains("IPv4 has private addresses alone"), "{text}");
    }
}
