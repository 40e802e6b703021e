//! The answer to `network explain`: every address that was tried lately, how far it got, what went wrong and how long it
//! took, and what is tried next and when. Pure; what is told comes from the board.

use crate::config::{Family, Network};
use crate::directory::Explain;
use crate::net::{Attempt, Outcome};
use crate::state::{LinkStatus, NetworkStatus, Now};
use crate::wire::Timestamp;

/// The lines about one network, without its name and state.
pub(super) fn lines(
    config: &Network,
    status: &NetworkStatus,
    explain: &Explain,
    now: Now,
) -> Vec<String> {
    let mut lines: Vec<String> = explain
        .attempts
        .iter()
        .map(|attempt| attempt_line(attempt, now.time))
        .collect();
    if lines.is_empty() {
        lines.push("nothing was tried yet".to_owned());
    }
    lines.push(next(config, status, explain, now));
    lines
}

fn attempt_line(attempt: &Attempt, now: Timestamp) -> String {
    let mut shown = attempt.clone();
    if shown.outcome == Outcome::Pending {
        let since = now.millis() - shown.at.millis();
        shown.millis = u64::try_from(since).unwrap_or(0);
    }
    let mut at = Vec::new();
    attempt.at.write(&mut at);
    format!("{} {shown}", String::from_utf8_lossy(&at))
}

/// What is tried next, and when.
pub(super) fn next(
    config: &Network,
    status: &NetworkStatus,
    explain: &Explain,
    now: Now,
) -> String {
    match &status.link {
        LinkStatus::Lobby | LinkStatus::Disabled | LinkStatus::Offline => {
            "next: nothing".to_owned()
        }
        LinkStatus::Connected { .. } => {
            let all = all(config);
            format!("next: if the connection is lost, after 2 to 7 s, {all}")
        }
        LinkStatus::Waiting { until, .. } => {
            let wait = until.since(now.ticks).as_secs();
            format!("next: in {wait} s, {}", all(config))
        }
        LinkStatus::Connecting { .. } => match (&*explain.next, explain.at) {
            ([], _) if explain.attempts.iter().any(is_won) => {
                "next: the server has to welcome us".to_owned()
            }
            ([], _) => "next: what is under way, then a wait".to_owned(),
            (next, Some(at)) => {
                let wait = (at.millis() - now.time.millis()).max(0);
                format!("next: in {wait} ms, {}", next.join(", then "))
            }
            (next, None) => {
                format!("next: after what is under way, {}", next.join(", then "))
            }
        },
    }
}

fn is_won(attempt: &Attempt) -> bool {
    attempt.outcome == Outcome::Won
}

/// A whole cycle in words.
fn all(config: &Network) -> String {
    let servers: Vec<String> = config.servers.iter().map(ToString::to_string).collect();
    let dial = &config.dial;
    let family = match dial.source.leave(dial.family).unwrap_or(dial.family) {
        Family::PreferIpv6 => "IPv6 first",
        Family::PreferIpv4 => "IPv4 first",
        Family::Ipv6 => "IPv6 alone",
        Family::Ipv4 => "IPv4 alone",
    };
    let proxy = config.proxy.as_ref();
    let proxy = proxy.map_or_else(String::new, |proxy| format!(" through {proxy}"));
    format!("{}{proxy}, {family}", servers.join(", then "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{ServerAddr, Source};
    use crate::net::{Address, Fault, FaultKind, IpVersion, Phase};
    use crate::state::Ticks;

    fn now() -> Now {
        Now {
            ticks: Ticks(10_000),
            time: Timestamp::from_millis(1_800_000_001_500),
        }
    }

    fn attempt(outcome: Outcome) -> Attempt {
        Attempt {
            at: Timestamp::from_millis(1_800_000_000_000),
            server: "irc.test:6697".to_owned(),
            address: Some(Address::Ip("[2001:db8::1]:6697".parse().unwrap())),
            version: Some(IpVersion::V6),
            source: None,
            phase: Phase::Tls,
            outcome,
            millis: 0,
            tcp_millis: Some(20),
            why: String::new(),
        }
    }

    fn network() -> Network {
        let urls = ["ircs://irc.test", "ircs://irc2.test"];
        Network {
            servers: urls.map(|url| ServerAddr::parse(url).unwrap()).to_vec(),
            ..Network::default()
        }
    }

    fn told(link: LinkStatus, explain: &Explain) -> Vec<String> {
        let status = NetworkStatus {
            link,
            ..NetworkStatus::default()
        };
        lines(&network(), &status, explain, now())
    }

    #[test]
    fn attempts_under_way_and_what_follows_are_told() {
        let explain = Explain {
            attempts: vec![attempt(Outcome::Pending)],
            next: vec![
                "irc.test:6697 192.0.2.1:6697".to_owned(),
                "irc2.test:6697".to_owned(),
            ],
            at: Some(now().time.plus_millis(120)),
        };
        let connecting = LinkStatus::Connecting {
            last: String::new(),
        };
        assert_eq!(
            told(connecting, &explain),
            [
                "2027-01-15T08:00:00.000Z irc.test:6697 [2001:db8::1]:6697 IPv6 tls 1500 ms (tcp 20 ms): under way",
                "next: in 120 ms, irc.test:6697 192.0.2.1:6697, then irc2.test:6697",
            ]
        );
    }

    #[test]
    fn failures_and_the_wait_are_told() {
        let fault = Fault::new(FaultKind::Tls, "TLS failed");
        let explain = Explain {
            attempts: vec![attempt(Outcome::Failed(fault))],
            ..Explain::default()
        };
        let waiting = LinkStatus::Waiting {
            reason: "TLS failed".to_owned(),
            until: now().ticks.plus(Duration::from_secs(12)),
        };
        let lines = told(waiting, &explain);
        assert!(lines[0].ends_with(": TLS failed"), "{lines:?}");
        let next = "next: in 12 s, ircs://irc.test:6697, then ircs://irc2.test:6697, IPv6 first";
        assert_eq!(lines[1], next);
    }

    #[test]
    fn a_cycle_says_which_families_it_has() {
        let mut network = network();
        network.servers.truncate(1);
        network.dial.source.v4 = Source::parse("192.0.2.7").ok();
        assert_eq!(all(&network), "ircs://irc.test:6697, IPv4 alone");
    }

    #[test]
    fn there_is_always_something_to_say() {
        for link in [
            LinkStatus::Lobby,
            LinkStatus::Disabled,
            LinkStatus::Connecting {
                last: String::new(),
            },
            LinkStatus::Connected {
                via: String::new(),
                since: now().time,
            },
        ] {
            let lines = told(link, &Explain::default());
            assert_eq!(lines[0], "nothing was tried yet");
            assert!(lines[1].starts_with("next: "), "{lines:?}");
        }
    }
}
