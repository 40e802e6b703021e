//! What cannot be known from inside: whether others reach the listeners. The commands that tell are given; nothing is
//! tried.

use super::report::Report;
use crate::config::{Config, ListenHost, Scheme};
use crate::net::peer::is_loopback;

pub(super) fn examine(config: &Config) -> Report {
    let mut report = Report::new("reachability");
    let name = &config.server.name;
    for listen in &config.server.listen {
        let (v6, v4) = match &listen.host {
            ListenHost::AnyIpv6 { only, .. } => (true, !only),
            ListenHost::AnyIpv4 { .. } => (false, true),
            ListenHost::Address { ip, .. } => {
                let open = !is_loopback(*ip);
                (open && ip.is_ipv6(), open && ip.is_ipv4())
            }
            _ => (false, false),
        };
        let Some(port) = listen.host.port().filter(|port| *port != 0) else {
            continue;
        };
        for (_, option) in [(v6, "-6"), (v4, "-4")].iter().filter(|(open, _)| *open) {
            let command = if listen.manner.scheme == Scheme::Tls {
                format!("openssl s_client {option} -connect {name}:{port}")
            } else {
                format!("nc {option} -vz {name} {port}")
            };
            report.info(format!("from another host say:  {command}"));
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Listen, Server};

    #[test]
    fn each_family_of_each_open_listener_has_its_command() {
        let listen = [
            "[::]",
            "irc+insecure://[::]:6667?v6only",
            "irc://[::1]:6668",
            "192.0.2.1:7000",
        ];
        let config = Config {
            server: Server {
                name: "bnc.test".into(),
                listen: listen.map(|text| Listen::parse(text).unwrap()).into(),
                ..Server::default()
            },
            ..Config::default()
        };
        let expected = "\
info: reachability: from another host say:  openssl s_client -6 -connect bnc.test:6697
info: reachability: from another host say:  openssl s_client -4 -connect bnc.test:6697
info: reachability: from another host say:  nc -6 -vz bnc.test 6667
info: reachability: from another host say:  openssl s_client -4 -connect bnc.test:7000
";
        assert_eq!(examine(&config).text(), expected);
    }
}
