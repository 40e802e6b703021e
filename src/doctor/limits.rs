//! What the system lets one process have, against what the configuration may need. The limits of the file itself are
//! `config`'s.

use rustix::process::{Resource, getrlimit};

use super::report::Report;
use crate::config::Config;

/// Database, its log and readers, control socket, runtime and the like.
const OWN_FILES: u64 = 64;
/// Clients of one user that are likely, whatever the limit allows.
const CLIENTS: u64 = 8;
/// Addresses that one dialling network may try at once.
const PARALLEL: u64 = 6;
/// Which ports outgoing connections take, of both families.
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

pub(super) fn examine(config: &Config) -> Report {
    let users = config.users.len() as u64;
    let networks = config
        .users
        .iter()
        .map(|user| user.networks.len() as u64)
        .sum::<u64>();
    let waiting = u64::try_from(config.limits.unauthenticated)
        .unwrap_or(u64::MAX)
        .min(4096);
    let need = OWN_FILES + waiting + users * CLIENTS + networks * PARALLEL;
    let mut report = judge(need, getrlimit(Resource::Nofile).current);
    let range = std::fs::read_to_string(PORT_RANGE).unwrap_or_default();
    ports(&mut report, networks, &range);
    report
}

/// Each connection to a network takes a port of its source address.
fn ports(report: &mut Report, networks: u64, range: &str) {
    let mut bounds = range.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(first)), Some(Ok(last))) = (bounds.next(), bounds.next()) else {
        return;
    };
    let ports = (last + 1).saturating_sub(first);
    let need = networks * PARALLEL;
    if ports < need {
        report.warn(
            format!(
                "{ports} ports are there for outgoing connections, and {need} may be needed at once"
            ),
            "widen net.ipv4.ip_local_port_range (it is for IPv6 too)",
        );
    }
}

fn judge(need: u64, have: Option<u64>) -> Report {
    let mut report = Report::new("limits");
    match have {
        Some(have) if have < need => {
            let message =
                format!("{have} open files are allowed here, and {need} may be needed at once");
            let remedy = format!("ulimit -n {need}, or LimitNOFILE={need} in the service");
            report.warn(message, remedy);
        }
        Some(have) => report.info(format!(
            "{have} open files are allowed here, {need} may be needed"
        )),
        None => report.info(format!(
            "open files are not limited here, {need} may be needed"
        )),
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_ports_are_a_warning() {
        let said = |networks, range| {
            let mut report = Report::new("limits");
            ports(&mut report, networks, range);
            report.text()
        };
        assert_eq!(said(100, "32768\t60999\n"), "");
        assert!(said(100, "60000 60099").starts_with("warning: limits: 100 ports"));
        assert_eq!(said(100, "nonsense"), "");
    }

    #[test]
    fn too_few_open_files_are_a_warning() {
        assert!(
            judge(700, Some(256))
                .text()
                .starts_with("warning: limits: 256 open files")
        );
        assert!(judge(700, Some(1024)).text().starts_with("info: limits: "));
        assert!(judge(700, None).text().starts_with("info: limits: "));
    }
}
