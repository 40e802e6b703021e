//! Whether `allow`, `deny` and `proxies` mean the same host over both families. Whether they are well written is
//! `config`'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::host::Host;
use super::report::Report;
use crate::config::{Config, Ranges};

pub(super) fn examine(config: &Config, host: &Host) -> Report {
    let mut report = Report::new("access");
    let server = &config.server;
    for (name, ranges) in [
        ("allow", &server.allow),
        ("deny", &server.deny),
        ("proxies", &server.proxies),
    ] {
        judge(&mut report, name, ranges, host);
    }
    report
}

fn judge(report: &mut Report, name: &str, ranges: &Ranges, host: &Host) {
    let has = |ip: IpAddr| ranges.contains(ip);
    let loopback = (
        IpAddr::from(Ipv6Addr::LOCALHOST),
        IpAddr::from(Ipv4Addr::LOCALHOST),
    );
    match (has(loopback.0), has(loopback.1)) {
        (true, false) => one_sided(report, name, loopback.0, loopback.1),
        (false, true) => one_sided(report, name, loopback.1, loopback.0),
        _ => {}
    }
    // All of this host over one family and nothing of it over the other: most likely forgotten.
    let (v6, v4): (Vec<_>, Vec<_>) = host.reachable().into_iter().partition(IpAddr::is_ipv6);
    let all = |ips: &[IpAddr]| !ips.is_empty() && ips.iter().all(|ip| has(*ip));
    let none = |ips: &[IpAddr]| !ips.iter().any(|ip| has(*ip));
    for (here, other) in [(&v6, &v4), (&v4, &v6)] {
        if let (Some(inside), Some(outside)) = (here.first(), other.first())
            && all(here)
            && none(other)
        {
            one_sided(report, name, *inside, *outside);
        }
    }
}

fn one_sided(report: &mut Report, name: &str, inside: IpAddr, outside: IpAddr) {
    let message = format!(
        "server.{name} has {inside} in it and not {outside}, the same host over the other family"
    );
    report.warn(
        message,
        format!("add \"{outside}\", or a range or set (loopback, private, all) that has both"),
    );
}

#[cfg(test)]
mod tests {
    use super::super::proc::if_inet6;
    use super::*;
    use crate::config::{Purpose, Surroundings, load_in};

    fn said(allow: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("carom.toml");
        let text = format!(
            "[server]\nallow = {allow}\n[storage]\npath = \"carom.db\"\n[[user]]\nname = \"apw\"\n"
        );
        std::fs::write(&path, text).unwrap();
        let (config, _) = load_in(&path, Purpose::Check, &Surroundings::default()).unwrap();
        let host = Host {
            has_proc: true,
            v6: if_inet6("20010db8000000000000000000000005 02 40 00 80 eth0\n"),
            v4: vec!["192.0.2.5".parse().unwrap()],
            ..Host::default()
        };
        examine(&config, &host).text()
    }

    #[test]
    fn one_family_of_a_host_alone_is_told() {
        let text = said("[\"::1\"]");
        assert!(
            text.starts_with("warning: access: server.allow has ::1 in it and not 127.0.0.1"),
            "{text}"
        );
        assert!(said("[\"127.0.0.0/8\"]").contains("has 127.0.0.1 in it and not ::1"));
        let text = said("[\"loopback\", \"192.0.2.0/24\"]");
        assert!(
            text.contains("has 192.0.2.5 in it and not 2001:db8::5"),
            "{text}"
        );
    }

    #[test]
    fn both_families_are_content() {
        for allow in [
            "[]",
            "[\"all\"]",
            "[\"loopback\"]",
            "[\"127.0.0.0/8\", \"::1\"]",
            "[\"198.51.100.0/24\"]",
        ] {
            assert_eq!(said(allow), "", "{allow}");
        }
    }
}
