//! Where each family leaves the host: default routes, the source address it would use, and tunnels with their MTU. Whether
//! anything is reached that way is `networks`'s.

use std::net::IpAddr;

use super::host::{Host, switch};
use super::proc::Route;
use super::report::Report;
use crate::config::{Config, Family};

/// The interface of a default route.
struct Link {
    name: String,
    mtu: Option<u32>,
    tunnel: Option<&'static str>,
}

pub(super) fn examine(config: &Config, host: &Host) -> Report {
    let mut report = Report::new("routes");
    if !host.has_proc {
        report.info("not available on this system");
        return report;
    }
    let networks = || config.users.iter().flat_map(|user| &user.networks);
    let wants_v6 = networks().all(|network| network.dial.family != Family::Ipv4);
    let wants_v4 = networks().all(|network| network.dial.family != Family::Ipv6);
    let v6 = (host.default_v6.as_ref(), host.source_v6.map(IpAddr::V6));
    let v4 = (host.default_v4.as_ref(), host.source_v4.map(IpAddr::V4));
    family(&mut report, "IPv6", v6, wants_v6);
    family(&mut report, "IPv4", v4, wants_v4);
    if let Some(route) = &host.default_v6 {
        report.append(tunnel(&link(&route.device), mss(config)));
    }
    report
}

/// The clamp that networks have; the largest, which is the one that may not fit.
fn mss(config: &Config) -> u32 {
    let networks = config.users.iter().flat_map(|user| &user.networks);
    let all = networks.map(|network| network.dial.ipv6_mss);
    if all.clone().any(|mss| mss == 0) {
        return 0;
    }
    all.max().unwrap_or(config.dial.ipv6_mss)
}

fn family(
    report: &mut Report,
    name: &str,
    (route, source): (Option<&Route>, Option<IpAddr>),
    wanted: bool,
) {
    match (route, source) {
        (Some(route), Some(source)) => {
            let via = route
                .gateway
                .map(|gateway| format!(" via {gateway}"))
                .unwrap_or_default();
            let device = &route.device;
            report.info(format!("{name} leaves by {device}{via}, from {source}"));
        }
        (Some(route), None) => {
            let message = format!(
                "there is an {name} default route by {}, but no address to use it from",
                route.device
            );
            let remedy = format!(
                "give {} an address that is valid beyond the link",
                route.device
            );
            report.warn(message, remedy);
        }
        // A route that is no default one, or one that rules choose.
        (None, Some(source)) => report.info(format!(
            "{name} leaves from {source}, without a default route in the main table"
        )),
        (None, None) => {
            let message = format!("no {name} default route: the other family carries everything");
            if wanted {
                let remedy = match name {
                    "IPv6" => {
                        "ask your provider for IPv6, or set up a tunnel (contrib/ifupdown/6in4)"
                    }
                    _ => "servers that have IPv4 alone are out of reach, unless there is NAT64",
                };
                report.warn(message, remedy);
            } else {
                report.info(message);
            }
        }
    }
}

/// What kind of interface it is, and its MTU.
fn link(device: &str) -> Link {
    let read = |what: &str| switch(&format!("/sys/class/net/{device}/{what}"));
    let kind = read("type").and_then(|number| number.parse().ok());
    Link {
        name: device.to_owned(),
        mtu: read("mtu").and_then(|number| number.parse().ok()),
        tunnel: kind.and_then(|kind| tunnel_kind(kind, device)),
    }
}

/// The name of a kind of tunnel (`if_arp.h`), or what the interface's own name tells.
fn tunnel_kind(kind: u32, device: &str) -> Option<&'static str> {
    match kind {
        768 => Some("IP in IP"),
        769 => Some("IPv6 in IPv6"),
        776 => Some("6in4"),
        778 | 823 => Some("GRE"),
        512 => Some("PPP"),
        65534 if device.starts_with("wg") => Some("WireGuard"),
        65534 => Some("tun"),
        _ if device.starts_with("he-") => Some("by its name a tunnel broker's"),
        _ => None,
    }
}

/// TCP and IPv6 headers.
const HEADERS: u32 = 60;

fn tunnel(link: &Link, mss: u32) -> Report {
    let mut report = Report::new("tunnel");
    let narrow = link.mtu.is_some_and(|mtu| mtu < 1500);
    if link.tunnel.is_none() && !narrow {
        return report;
    }
    let name = &link.name;
    let kind = link
        .tunnel
        .map(|kind| format!(" ({kind})"))
        .unwrap_or_default();
    let mtu = link
        .mtu
        .map_or_else(|| "unknown".to_owned(), |mtu| mtu.to_string());
    if link.mtu.is_some_and(|mtu| mtu < 1280) {
        let message =
            format!("IPv6 goes through {name}{kind}, MTU {mtu}: IPv6 wants at least 1280");
        report.error(message, format!("ip link set {name} mtu 1280"));
        return report;
    }
    let fits = mss != 0 && link.mtu.is_none_or(|mtu| mss + HEADERS <= mtu);
    if fits {
        report.info(format!("IPv6 goes through {name}{kind}, MTU {mtu}: dial.ipv6_mss = {mss} keeps connections below it"));
    } else {
        let message = format!(
            "IPv6 goes through {name}{kind}, MTU {mtu}, and dial.ipv6_mss = {mss} does not keep connections below it"
        );
        report.warn(
            message,
            "write ipv6_mss = 1220 in [dial]: path MTU discovery often fails behind tunnels",
        );
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, mtu: u32, tunnel_kind: Option<&'static str>, mss: u32) -> String {
        let link = Link {
            name: name.into(),
            mtu: Some(mtu),
            tunnel: tunnel_kind,
        };
        tunnel(&link, mss).text()
    }

    #[test]
    fn tunnels_are_named_with_their_mtu() {
        assert_eq!(said("eth0", 1500, None, 1220), "");
        let text = said("he-ipv6", 1480, Some("6in4"), 1220);
        assert_eq!(
            text,
            "info: tunnel: IPv6 goes through he-ipv6 (6in4), MTU 1480: dial.ipv6_mss = 1220 keeps connections below it\n"
        );
        assert!(said("eth0", 1492, None, 0).starts_with("warning: tunnel: "));
        assert!(said("eth0", 1492, None, 1440).starts_with("warning: tunnel: "));
        assert!(said("eth0", 1492, None, 1432).starts_with("info: tunnel: "));
        assert!(said("wg0", 1200, Some("WireGuard"), 1220).starts_with("error: tunnel: "));
    }

    #[test]
    fn kinds_of_interfaces() {
        assert_eq!(tunnel_kind(776, "sit1"), Some("6in4"));
        assert_eq!(tunnel_kind(65534, "wg0"), Some("WireGuard"));
        assert_eq!(tunnel_kind(1, "eth0"), None);
        assert!(tunnel_kind(1, "he-ipv6").is_some());
    }

    #[test]
    fn a_family_without_a_route_is_a_warning_only_if_it_is_wanted() {
        for (wanted, level) in [(true, "warning"), (false, "info")] {
            let mut report = Report::new("routes");
            family(&mut report, "IPv6", (None, None), wanted);
            let expected = format!("{level}: routes: no IPv6 default route");
            assert!(report.text().starts_with(&expected));
        }
    }

    #[test]
    fn a_route_is_told_with_gateway_and_source() {
        let mut report = Report::new("routes");
        let text = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                    fe800000000000000000000000000001 00000400 00000002 00000000 00000003 eth0\n";
        let route = super::super::proc::default_ipv6(text).unwrap();
        let source = Some("2001:db8::5".parse().unwrap());
        family(&mut report, "IPv6", (Some(&route), source), true);
        assert_eq!(
            report.text(),
            "info: routes: IPv6 leaves by eth0 via fe80::1, from 2001:db8::5\n"
        );
    }
}
