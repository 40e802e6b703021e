//! The firewall's rules for what comes in, as far as they may be read (root alone): IPv4 and IPv6 are two sets, and this
//! looks at whether they agree. It reads texts and guesses no further; what packets really meet, only packets show.

use std::process::{Command, Stdio};

use rustix::process::geteuid;
use tokio::time::timeout;

use super::DEADLINE;
use super::host::{Host, switch};
use super::report::Report;
use crate::config::{Config, ListenHost};
use crate::net::peer::is_loopback;

/// What the programs that list rules say; `None`: not there, or refused.
#[derive(Default)]
struct Listed {
    nft: Option<String>,
    iptables: Option<String>,
    ip6tables: Option<String>,
}

/// The rules for one family.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    /// What no rule lets in is dropped.
    drops: bool,
    lines: Vec<String>,
}

pub(super) async fn examine(config: &Config, host: &Host) -> Report {
    let mut report = Report::new("firewall");
    if !geteuid().is_root() {
        report.info("its rules can be read by root alone: `sudo carom check` looks at them too");
        return report;
    }
    let list = || Listed {
        nft: output("nft", &["list", "ruleset"]),
        // Unlike `-S` these never load a module.
        iptables: output("iptables-save", &[]),
        ip6tables: output("ip6tables-save", &[]),
    };
    let Ok(Ok(listed)) = timeout(DEADLINE, tokio::task::spawn_blocking(list)).await else {
        report.info("its rules could not be read in time");
        return report;
    };
    let tunnel = host.default_v6.as_ref().is_some_and(|route| {
        switch(&format!("/sys/class/net/{}/type", route.device)).as_deref() == Some("776")
    });
    judge(&mut report, &listed, &ports(config), tunnel);
    report
}

/// What a program prints, if it can be run and is content.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    let command = command
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let output = command.output().ok()?;
    (output.status.success()).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The ports that others are to reach.
fn ports(config: &Config) -> Vec<u16> {
    let open = config
        .server
        .listen
        .iter()
        .filter(|listen| match &listen.host {
            ListenHost::Address { ip, .. } => !is_loopback(*ip),
            ListenHost::Name { name, .. } => name != "localhost",
            _ => true,
        });
    let mut ports: Vec<_> = open
        .filter_map(|listen| listen.host.port())
        .filter(|port| *port != 0)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn judge(report: &mut Report, listed: &Listed, ports: &[u16], tunnel: bool) {
    if listed.nft.is_none() && listed.iptables.is_none() && listed.ip6tables.is_none() {
        report.info("neither nft nor iptables is here");
        return;
    }
    let v6 = rules(listed.nft.as_deref(), listed.ip6tables.as_deref(), "ip6");
    let v4 = rules(listed.nft.as_deref(), listed.iptables.as_deref(), "ip");
    for (name, rules) in [("IPv6", &v6), ("IPv4", &v4)] {
        let what = if rules.drops {
            "what no rule lets in is dropped"
        } else {
            "lets everything in by default"
        };
        report.info(format!("{name}: {what}"));
    }
    if v6.drops && !lets_icmpv6_in(&v6) {
        let remedy = "accept types 1 to 4 and 133 to 136, as contrib/firewall does";
        report.error("ICMPv6 is not let in: without neighbour discovery and packet-too-big IPv6 does not work", remedy);
    }
    for port in ports {
        match (v6.lets_in(*port), v4.lets_in(*port)) {
            (true, true) => {}
            (false, true) => report.warn(
                format!("IPv4 has a rule that lets tcp/{port} in, IPv6 has none: the two are separate"),
                format!("ip6tables -A INPUT -p tcp --dport {port} -j ACCEPT, or one rule in an nftables table of type inet"),
            ),
            (true, false) => report.warn(
                format!("IPv6 has a rule that lets tcp/{port} in, IPv4 has none: the two are separate"),
                format!("iptables -A INPUT -p tcp --dport {port} -j ACCEPT, or one rule in an nftables table of type inet"),
            ),
            (false, false) => report.warn(
                format!("no rule lets tcp/{port} in, over neither family"),
                "see contrib/firewall for rules of both families",
            ),
        }
    }
    if tunnel && v4.drops && !v4.lines.iter().any(|line| is_protocol_41(line)) {
        let remedy = "accept it from the tunnel's far end and to it, as contrib/firewall does";
        report.warn(
            "IPv6 comes through a tunnel, and IPv4 has no rule that lets protocol 41 in",
            remedy,
        );
    }
}

/// The rules of a family out of both kinds of lists. What iptables keeps in nftables shows in both; its own list is clearer.
fn rules(nft: Option<&str>, saved: Option<&str>, family: &str) -> Rules {
    let mut rules = saved.map(from_saved).unwrap_or_default();
    let has_saved = rules.drops || !rules.lines.is_empty();
    let other = from_nft(nft.unwrap_or_default(), family, has_saved);
    rules.drops |= other.drops;
    rules.lines.extend(other.lines);
    rules
}

/// The filter table of what `iptables-save` prints.
fn from_saved(text: &str) -> Rules {
    let mut rules = Rules::default();
    let mut table = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if table == "filter" {
            rules.drops |= line.starts_with(":INPUT DROP");
            let is_output = line.starts_with("-A OUTPUT") || line.starts_with("-A FORWARD");
            if line.starts_with("-A ") && !is_output {
                // A chain that ends in dropping everything is as a policy.
                rules.drops |= matches!(line.trim(), "-A INPUT -j DROP" | "-A INPUT -j REJECT")
                    || line.starts_with("-A INPUT -j REJECT --reject-with");
                rules.lines.push(line.to_owned());
            }
        }
    }
    rules
}

/// The tables of a family, and those of both, of what `nft list ruleset` prints.
fn from_nft(text: &str, family: &str, has_saved: bool) -> Rules {
    let mut rules = Rules::default();
    let (mut ours, mut hook) = (false, "");
    for line in text.lines().map(str::trim) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["table", kind, name, "{"] => {
                let from_iptables = has_saved && name == "filter" && kind != "inet";
                ours = (kind == family || kind == "inet") && !from_iptables;
            }
            ["chain", _, "{"] => hook = "",
            ["type", _, "hook", which, ..] => {
                hook = if which == "input" { "input" } else { "other" };
                rules.drops |= ours && hook == "input" && line.contains("policy drop");
            }
            ["drop" | "reject", ..] if ours && hook == "input" => rules.drops = true,
            // Chains without a hook are jumped to from those that have one.
            _ if ours && hook != "other" => rules.lines.push(line.to_owned()),
            _ => {}
        }
    }
    rules
}

impl Rules {
    /// Whether a new connection to the port is let in, as far as can be told.
    fn lets_in(&self, port: u16) -> bool {
        !self.drops || self.lines.iter().any(|line| opens(line, port))
    }
}

/// Whether a rule of either kind accepts connections to the port.
fn opens(line: &str, port: u16) -> bool {
    if !accepts(line) {
        return false;
    }
    if matches!(line.trim(), "accept" | "-A INPUT -j ACCEPT") {
        return true;
    }
    let Some((_, ports)) = line.split_once("dport") else {
        return false;
    };
    let ports = ports.strip_prefix('s').unwrap_or(ports);
    // A named set is taken to have it.
    ports.trim_start().starts_with('@')
        || ports
            .split([' ', ',', '{', '}'])
            .take_while(|word| !matches!(*word, "accept" | "-j" | "vmap"))
            .any(|word| has_port(word, port))
}

/// `6697`, `6690-6700` or `6690:6700`.
fn has_port(word: &str, port: u16) -> bool {
    let (least, most) = word.split_once(['-', ':']).unwrap_or((word, word));
    match (least.parse::<u16>(), most.parse::<u16>()) {
        (Ok(least), Ok(most)) => (least..=most).contains(&port),
        _ => false,
    }
}

fn accepts(line: &str) -> bool {
    line.contains("accept") || line.contains("-j ACCEPT")
}

/// Whether neighbour discovery and packet-too-big come in: by a rule for all types, or by one for each of the two.
fn lets_icmpv6_in(rules: &Rules) -> bool {
    let icmp = |line: &&String| {
        let about = ["icmpv6", "ipv6-icmp", "l4proto 58", "-p 58"]
            .iter()
            .any(|word| line.contains(word));
        accepts(line) && about
    };
    let lines: Vec<_> = rules.lines.iter().filter(icmp).collect();
    let has = |name: &str, number: &str| {
        lines.iter().any(|line| {
            let typed = line.contains("icmpv6 type") || line.contains("icmpv6-type");
            !typed
                || line.contains(name)
                || line
                    .split([' ', ',', '{', '}', '/'])
                    .any(|word| word == number)
        })
    };
    has("packet-too-big", "2")
        && (has("nd-neighbor-solicit", "135") || has("neighbour-solicitation", "135"))
}

/// Whether a rule is about IPv6 in IPv4, which both programs also call by its name.
fn is_protocol_41(line: &str) -> bool {
    accepts(line)
        && [
            "protocol 41",
            "protocol ipv6",
            "-p 41",
            "-p ipv6 ",
            "l4proto 41",
            "l4proto ipv6 ",
        ]
        .iter()
        .any(|word| format!("{line} ").contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../contrib/firewall/nftables.conf");

    fn said(nft: Option<&str>, v4: Option<&str>, v6: Option<&str>, tunnel: bool) -> String {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let listed = Listed {
            nft: own(nft),
            iptables: own(v4),
            ip6tables: own(v6),
        };
        let mut report = Report::new("firewall");
        judge(&mut report, &listed, &[6697], tunnel);
        report.text()
    }

    const OPEN: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m tcp --dport 6697 -j ACCEPT
COMMIT
";
    const ICMPV6: &str = "-A INPUT -p ipv6-icmp -j ACCEPT\n";

    #[test]
    fn the_ruleset_we_ship_is_content() {
        // nft lists the values in the place of their names.
        let listed = SHIPPED.replace("$irc_clients", "6697");
        let text = said(Some(&listed), None, None, true);
        assert!(
            !text.contains("warning") && !text.contains("error"),
            "{text}"
        );
        assert!(
            text.contains("IPv6: what no rule lets in is dropped"),
            "{text}"
        );
    }

    #[test]
    fn no_rules_are_open() {
        let text = said(Some(""), Some(""), Some(""), false);
        assert!(
            text.contains("IPv6: lets everything in by default"),
            "{text}"
        );
        assert!(!text.contains("warning"), "{text}");
        assert!(said(None, None, None, false).contains("neither nft nor iptables"));
    }

    #[test]
    fn a_port_open_in_one_family_alone_is_told() {
        let v6 = OPEN.replace("6697", "22") + ICMPV6;
        let v6 = v6.replace("COMMIT\n", "") + "COMMIT\n";
        let text = said(None, Some(OPEN), Some(&v6), false);
        assert!(
            text.contains("IPv4 has a rule that lets tcp/6697 in, IPv6 has none"),
            "{text}"
        );
        let text = said(
            None,
            Some(&OPEN.replace("6697", "22")),
            Some(&OPEN.replace("6697", "22")),
            false,
        );
        assert!(text.contains("over neither family"), "{text}");
    }

    #[test]
    fn icmpv6_is_wanted() {
        let text = said(None, Some(OPEN), Some(OPEN), false);
        assert!(
            text.contains("error: firewall: ICMPv6 is not let in"),
            "{text}"
        );
        let v6 = OPEN.replace("COMMIT\n", ICMPV6);
        assert!(!said(None, Some(OPEN), Some(&v6), false).contains("error"));
        let only_echo = OPEN.replace(
            "COMMIT\n",
            "-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT\n",
        );
        assert!(said(None, Some(OPEN), Some(&only_echo), false).contains("error"));
    }

    #[test]
    fn a_tunnel_wants_protocol_41() {
        let v6 = OPEN.replace("COMMIT\n", ICMPV6);
        assert!(said(None, Some(OPEN), Some(&v6), true).contains("protocol 41"));
        let v4 = OPEN.replace("COMMIT\n", "-A INPUT -s 192.0.2.1/32 -p ipv6 -j ACCEPT\n");
        assert!(!said(None, Some(&v4), Some(&v6), true).contains("protocol 41"));
    }

    #[test]
    fn ports_in_every_notation() {
        for line in [
            "tcp dport 6697 accept",
            "tcp dport { 22, 6697 } accept",
            "tcp dport 6690-6700 counter packets 0 bytes 0 accept",
            "tcp dport @services accept",
            "-A INPUT -p tcp -m multiport --dports 22,6690:6700 -j ACCEPT",
            "accept",
        ] {
            assert!(opens(line, 6697), "{line}");
        }
        for line in [
            "tcp dport 6667 accept",
            "tcp dport 6697 drop",
            "tcp sport 6697 accept",
            "iifname \"lo\" accept",
            "-A INPUT -p tcp -m tcp --dport 113 -j ACCEPT",
        ] {
            assert!(!opens(line, 6697), "{line}");
        }
    }

    #[test]
    fn tables_of_one_family_are_only_its_own() {
        let nft = "table ip6 mine {\n chain in {\n  type filter hook input priority filter; policy drop;\n  \
                   tcp dport 6697 accept\n  icmpv6 type { packet-too-big, nd-neighbor-solicit } accept\n }\n}\n";
        let text = said(Some(nft), None, None, false);
        assert!(
            text.contains("IPv6: what no rule lets in is dropped"),
            "{text}"
        );
        assert!(
            text.contains("IPv4: lets everything in by default"),
            "{text}"
        );
        assert!(
            !text.contains("warning") && !text.contains("error"),
            "{text}"
        );
    }
}
