//! Broken paths, with the real program on hosts in network namespaces: which family carries the session, and how long it
//! takes from the start of carom to 001. The table that it prints stands in `contrib/dual-stack.md`:
//!
//!     cargo test --test netns -- --nocapture
//!
//! It wants root, and says so and passes without (in CI it has to run). The bounds are twice those of a quiet machine and a
//! second more. Paths that are merely slow want a TUN device, too; without one they are left out, in CI as well.

// What fails in a helper fails the test; what is skipped or measured is told.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub
)]

#[path = "netns/bouncer.rs"]
mod bouncer;
#[path = "netns/dns.rs"]
mod dns;
#[path = "netns/ircd.rs"]
mod ircd;
#[path = "netns/lab.rs"]
mod lab;
#[path = "netns/long.rs"]
mod long;
#[path = "support/tun.rs"]
mod tun;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bouncer::Bouncer;
use dns::Reply;
use ircd::{Ircd, Mode};
use lab::{BOUNCER, CLIENT, Lab, OTHER_CLIENT, SERVER, family, why_not};

/// Cases at once; more would measure each other.
const PARALLEL: usize = 2;

/// One fault.
struct Case {
    /// Its row of the matrix, and what it is.
    name: &'static str,
    prepare: fn(&Lab),
    modes: [Mode; 2],
    dial: &'static str,
    /// The family of the session, or `any`.
    expected: &'static str,
    /// On a quiet machine, in seconds.
    bound: f64,
    /// The other family is not even tried.
    alone: bool,
}

impl Case {
    fn new(name: &'static str, expected: &'static str, bound: f64, prepare: fn(&Lab)) -> Self {
        Self {
            name,
            prepare,
            modes: [Mode::Well; 2],
            dial: "",
            expected,
            bound,
            alone: false,
        }
    }

    /// IPv6 is reached and the server behaves like this.
    fn server(name: &'static str, bound: f64, mode: Mode) -> Self {
        Self {
            modes: [mode, Mode::Well],
            ..Self::new(name, "v4", bound, |_| {})
        }
    }

    /// The server's name is asked for at a name server.
    fn names(name: &'static str, expected: &'static str, prepare: fn(&Lab)) -> Self {
        Self::new(name, expected, 0.4, prepare)
    }

    fn alone(self) -> Self {
        Self {
            alone: true,
            ..self
        }
    }

    fn run(&self) -> f64 {
        let lab = Lab::new();
        let ircd = Ircd::start(&lab, self.modes[0], self.modes[1]);
        (self.prepare)(&lab);
        let started = Instant::now();
        let bouncer = Bouncer::start(&lab, "irc+insecure://[::]", self.dial);
        let event = ircd.registered(Duration::from_secs(60));
        let Some(event) = event else {
            panic!("{}: not registered\n{}", self.name, bouncer.log());
        };
        let seconds = event.at.duration_since(started).as_secs_f64();
        let log = || format!("{}: {seconds:.2} s\n{}", self.name, bouncer.log());
        if self.expected != "any" {
            assert_eq!(family(event.peer), self.expected, "{}", log());
        }
        assert!(seconds < 2.0 * self.bound + 1.0, "{}", log());
        if self.alone {
            let other = if self.expected == "v6" { "v4" } else { "v6" };
            assert_eq!(lab.syns(other), 0, "{}", log());
            assert_eq!(lab.syns(self.expected), 1, "{}", log());
        }
        seconds
    }
}

fn drop_v6(lab: &Lab) {
    lab.router("meta nfproto ipv6 drop");
}

/// TCP comes up, and then no data comes through.
fn stall_v6(lab: &Lab) {
    lab.router("meta nfproto ipv6 meta length > 120 drop");
}

fn local_route(lab: &Lab, kind: &str) {
    lab.ip("b", &format!("route add {kind} 2001:db8:2::/64\n"));
}

fn paths() -> Vec<Case> {
    vec![
        Case::new("C1 none", "v6", 0.3, |_| {}).alone(),
        Case::new("C2 no AAAA", "v4", 0.3, |lab| {
            lab.hosts("b", &format!("{} irc.test\n", SERVER[1]));
        }),
        Case::new("C2 no A", "v6", 0.3, |lab| {
            lab.hosts("b", &format!("{} irc.test\n", SERVER[0]));
        }),
        Case::new("C3 IPv4 black hole", "v6", 0.3, |lab| {
            lab.router("meta nfproto ipv4 drop");
        }),
        Case::new("C4 no IPv6 route", "v4", 0.3, |lab| {
            lab.ip("b", "route del default via 2001:db8:1::1\n");
        }),
        Case::new("C4 IPv6 disabled", "v4", 0.3, |lab| {
            lab.sysctl("b", "ipv6/conf/all/disable_ipv6", "1");
        }),
        Case::new("C4 local prohibit route", "v4", 0.3, |lab| {
            local_route(lab, "prohibit");
        }),
        Case::new("C4 local blackhole route", "v4", 0.3, |lab| {
            local_route(lab, "blackhole");
        }),
        Case::new("C4 local unreachable route", "v4", 0.3, |lab| {
            local_route(lab, "unreachable");
        }),
        Case::new("C5 reset on the way", "v4", 0.3, |lab| {
            lab.router("meta nfproto ipv6 tcp dport 6697 reject with tcp reset");
        }),
        Case::new("C6 unreachable on the way", "v4", 0.3, |lab| {
            lab.router("meta nfproto ipv6 reject with icmpv6 no-route");
        }),
        Case::new("C6 prohibited on the way", "v4", 0.3, |lab| {
            lab.router("meta nfproto ipv6 reject with icmpv6 admin-prohibited");
        }),
        Case::new("C7 black hole", "v4", 0.6, drop_v6),
        Case::new("C8 black hole, three AAAA", "v4", 0.6, |lab| {
            drop_v6(lab);
            let more = "2001:db8:2::3 irc.test\n2001:db8:2::4 irc.test\n";
            lab.hosts(
                "b",
                &format!("{} irc.test\n{more}{} irc.test\n", SERVER[0], SERVER[1]),
            );
        }),
        Case::new("C11 path-MTU hole", "v6", 0.4, Lab::path_mtu_hole).alone(),
        Case {
            dial: "ipv6_mss = 0",
            ..Case::new(
                "C12 path-MTU hole, ipv6_mss = 0",
                "v4",
                1.3,
                Lab::path_mtu_hole,
            )
        },
        Case::new("C13 stall: TCP up, then no data", "v4", 1.3, stall_v6),
        Case::server("C14 server does not answer TLS", 1.3, Mode::Hang),
        Case::server("C15 server silent after TLS", 10.5, Mode::Silent),
        Case::server("C16 server closes at once", 0.5, Mode::Close),
        Case::server("C16 server resets at once", 0.5, Mode::Reset),
        Case::names("C20 AAAA questions dropped", "v4", |lab| {
            dns::start(lab, Reply::Drop, Reply::Well);
        }),
        Case::names("C20 AAAA 1.5 s late", "v4", |lab| {
            dns::start(lab, Reply::Late(Duration::from_millis(1500)), Reply::Well);
        }),
        Case::names("C20 AAAA answered SERVFAIL", "v4", |lab| {
            dns::start(lab, Reply::Failure, Reply::Well);
        }),
        Case::names("C20 AAAA truncated, no DNS over TCP", "v4", |lab| {
            dns::start(lab, Reply::Truncated, Reply::Well);
        }),
        Case::names("C21 A questions dropped", "v6", |lab| {
            dns::start(lab, Reply::Well, Reply::Drop);
        }),
    ]
}

/// A row of the table.
fn row(name: &str, expected: &str, seconds: f64) {
    let family = if expected == "v6" { "IPv6" } else { "IPv4" };
    eprintln!("| {name} | {family} | {seconds:.2} |");
}

#[test]
fn a_broken_path_costs_no_more_than_it_must() {
    if why_not().is_some() {
        return;
    }
    measure(&paths());
}

/// C9 and C10
#[test]
fn a_slow_path_is_waited_for_while_it_is_not_much_slower() {
    if why_not().is_some() {
        return;
    }
    if let Some(reason) = tun::why_not() {
        eprintln!("skipped: {reason}");
        return;
    }
    measure(&[
        Case::new("C9 100 ms slower", "v6", 0.8, |lab| {
            lab.slow(Duration::from_millis(100));
        })
        .alone(),
        Case::new("C10 400 ms slower", "v4", 0.7, |lab| {
            lab.slow(Duration::from_millis(400));
        }),
        Case::new("C10 3 s slower", "v4", 0.7, |lab| {
            lab.slow(Duration::from_secs(3));
        }),
    ]);
}

/// Runs cases and prints their table.
fn measure(cases: &[Case]) {
    let next = AtomicUsize::new(0);
    let measured = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(n) else { break };
                    let seconds = case.run();
                    measured.lock().unwrap().insert(n, seconds);
                }
            });
        }
    });
    eprintln!("| fault | session over | seconds to 001 |\n|---|---|---|");
    for (n, seconds) in measured.lock().unwrap().iter() {
        row(cases[*n].name, cases[*n].expected, *seconds);
    }
}

/// Where the server sees a session come from; nothing when there is none within a few seconds.
fn seen_from(lab: &Lab, dial: &str) -> Option<IpAddr> {
    let ircd = Ircd::start(lab, Mode::Well, Mode::Well);
    let _bouncer = Bouncer::start(lab, "irc+insecure://[::]", dial);
    let event = ircd.registered(Duration::from_secs(5));
    event.map(|event| event.peer)
}

/// C26
#[test]
fn sessions_come_from_the_source_they_are_given() {
    if why_not().is_some() {
        return;
    }
    let lab = Lab::new();
    lab.ip("b", "address add 2001:db8:1::aa/64 dev eth0 nodad\n");
    let from = seen_from(&lab, "source = [\"2001:db8:1::aa\"]");
    assert_eq!(from, Some("2001:db8:1::aa".parse().unwrap()));

    let lab = Lab::new();
    lab.ip("b", "route add local 2001:db8:bb::/64 dev lo\n");
    lab.ip(
        "r",
        &format!("route add 2001:db8:bb::/64 via {}\n", BOUNCER[0]),
    );
    let dial = "source = [\"2001:db8:bb::/64\"]\nfreebind = true";
    let from = seen_from(&lab, dial).map(|ip| ip.to_string());
    let is_inside =
        |ip: &String| ip.starts_with("2001:db8:bb:0:") || ip.starts_with("2001:db8:bb::");
    assert!(from.as_ref().is_some_and(is_inside), "{from:?}");
}

/// C27
#[test]
fn a_source_that_is_not_here_leaks_no_other_address() {
    if why_not().is_some() {
        return;
    }
    let lab = Lab::new();
    let dial = format!("source = [\"2001:db8:1::bb\", \"{}\"]", BOUNCER[1]);
    assert_eq!(seen_from(&lab, &dial), Some(BOUNCER[1].parse().unwrap()));
    assert_eq!(lab.syns("v6"), 0);

    let lab = Lab::new();
    assert_eq!(seen_from(&lab, "source = [\"2001:db8:1::bb\"]"), None);
    assert_eq!((lab.syns("v6"), lab.syns("v4")), (0, 0));
}

/// What a client gets from a listener over each family.
fn attach(lab: &Lab) -> [bool; 2] {
    BOUNCER.map(|ip| {
        let ip: IpAddr = ip.parse().unwrap();
        lab.within("c", || {
            greet(ip, 6667).is_ok_and(|said| said.contains("CAP * LS"))
        })
    })
}

/// Connects and asks for capabilities; the first line of the answer.
fn greet(ip: IpAddr, port: u16) -> std::io::Result<String> {
    let limit = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&(ip, port).into(), limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"CAP LS 302\r\n")?;
    let mut buffer = [0; 512];
    let length = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[test]
fn listeners_serve_the_families_they_say_whatever_the_kernel_prefers() {
    if why_not().is_some() {
        return;
    }
    for bindv6only in ["0", "1"] {
        let lab = Lab::new();
        lab.sysctl("b", "ipv6/bindv6only", bindv6only);
        for (listen, expected) in [
            ("irc+insecure://[::]", [true, true]),
            ("irc+insecure://*, irc+insecure://[::]", [true, true]),
            ("irc+insecure://[::], irc+insecure://*", [true, true]),
            ("irc+insecure://[::]:6667?v6only", [true, false]),
            ("irc+insecure://*", [false, true]),
        ] {
            let bouncer = Bouncer::start(&lab, listen, "");
            let log = bouncer.listening();
            assert_eq!(
                attach(&lab),
                expected,
                "{listen}, bindv6only = {bindv6only}\n{log}"
            );
            // Nobody is ever seen under a mapped address.
            assert!(!bouncer.log().contains("::ffff:"), "{}", bouncer.log());
        }
        lab.sysctl("b", "ipv6/conf/all/disable_ipv6", "1");
        let bouncer = Bouncer::start(&lab, "irc+insecure://[::]", "");
        let log = bouncer.listening();
        assert_eq!(attach(&lab), [false, true], "{log}");
        assert!(log.contains("disable_ipv6"), "{log}");
    }
}

/// Puts a listener on a port of the bouncer's, on both families, for as long as the lab is used.
fn listen(lab: &Lab, port: u16) {
    for ip in BOUNCER {
        let ip: IpAddr = ip.parse().unwrap();
        let listener = lab.within("b", || TcpListener::bind((ip, port)).unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                _ = stream.map(|mut stream| stream.write_all(b"CAP * LS :\r\n"));
            }
        });
    }
}

/// Whether a packet of protocol 41 from an address of the client's comes in.
fn protocol_41(lab: &Lab, from: &str) -> bool {
    use socket2::{Domain, Protocol, SockAddr, Socket, Type};
    let raw = |ip: &str| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(41))).unwrap();
        let addr: IpAddr = ip.parse().unwrap();
        socket
            .bind(&SockAddr::from(std::net::SocketAddr::from((addr, 0))))
            .unwrap();
        socket
    };
    let receiver = lab.within("b", || raw(BOUNCER[1]));
    receiver
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    lab.within("c", || {
        let addr: IpAddr = BOUNCER[1].parse().unwrap();
        let to = SockAddr::from(std::net::SocketAddr::from((addr, 0)));
        raw(from).send_to(&[0x60; 40], &to).unwrap();
    });
    let mut buffer = [0; 128];
    (&receiver).read(&mut buffer).is_ok()
}

/// What both firewalls have to do, with the client as the far end of the tunnel.
fn judge_firewall(lab: &Lab) {
    for ip in BOUNCER {
        let ip: IpAddr = ip.parse().unwrap();
        let tried = |port| lab.within("c", || greet(ip, port).map_err(|error| error.kind()));
        use std::io::ErrorKind::{ConnectionRefused, TimedOut};
        assert!(tried(6697).is_ok(), "{ip}: carom's port is open");
        assert_eq!(
            tried(113),
            Err(ConnectionRefused),
            "{ip}: ident is refused at once"
        );
        assert_eq!(tried(8080), Err(TimedOut), "{ip}: other ports are closed");
    }
    assert!(protocol_41(lab, CLIENT[1]), "the tunnel's far end gets in");
    assert!(
        !protocol_41(lab, OTHER_CLIENT[1]),
        "nobody else does with protocol 41"
    );
    let pinged = lab.exec("c", &["ip", "neigh"], "");
    assert!(!pinged.contains("FAILED"), "neighbours are found: {pinged}");
}

fn firewalled() -> Lab {
    let lab = Lab::new();
    lab.ip(
        "c",
        &format!("address add {}/24 dev eth0\n", OTHER_CLIENT[1]),
    );
    listen(&lab, 6697);
    listen(&lab, 8080);
    listen(&lab, 113);
    lab
}

const FIREWALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/firewall");

#[test]
fn the_nftables_ruleset_lets_in_what_it_says() {
    if why_not().is_some() {
        return;
    }
    let rules = std::fs::read_to_string(format!("{FIREWALL}/nftables.conf")).unwrap();
    let lab = firewalled();
    lab.exec("b", &["nft", "-c", "-f", "-"], &rules);
    let ours = rules.replace(
        "tunnel_endpoint = 192.0.2.1",
        &format!("tunnel_endpoint = {}", CLIENT[1]),
    );
    assert_ne!(rules, ours);
    lab.exec("b", &["nft", "-f", "-"], &ours);
    judge_firewall(&lab);
}

#[test]
fn the_script_for_both_tables_lets_in_what_it_says() {
    if why_not().is_some() {
        return;
    }
    let lab = firewalled();
    let tunnel = format!("TUNNEL={}", CLIENT[1]);
    let script = format!("{FIREWALL}/both-tables.sh");
    lab.exec("b", &["env", &tunnel, "sh", &script], "");
    judge_firewall(&lab);
    // Twice is as once.
    let saved =
        || lab.exec("b", &["iptables", "-S"], "") + &lab.exec("b", &["ip6tables", "-S"], "");
    let once = saved();
    lab.exec("b", &["env", &tunnel, "sh", &script], "");
    assert_eq!(saved(), once);
    let dry = lab.exec("b", &["env", "DRY=1", "sh", &script], "");
    for family in ["iptables", "ip6tables"] {
        let line = format!("{family} -w -A INPUT -p tcp --dport 6697 -j ACCEPT\n");
        assert!(dry.contains(&line), "{dry}");
    }
}

/// What `carom check` says on the bouncer.
fn checked(lab: &Lab, listen: &str) -> String {
    Bouncer::check(lab, listen)
}

#[test]
fn check_finds_broken_paths() {
    if why_not().is_some() {
        return;
    }
    let lab = Lab::new();
    let _ircd = Ircd::start(&lab, Mode::Well, Mode::Well);
    let said = checked(&lab, "ircs://[::]");
    assert!(
        said.contains("1 of 1 IPv6 ok (") && said.contains("1 of 1 IPv4 ok ("),
        "{said}"
    );
    assert!(
        said.contains("info: routes: IPv6 leaves by eth0 via 2001:db8:1::1, from 2001:db8:1::2\n"),
        "{said}"
    );
    assert!(
        said.contains("info: sockets: nothing listens on [::]:6697 now"),
        "{said}"
    );

    lab.ip("b", "route change default via 2001:db8:1::1 mtu 1400\n");
    let said = checked(&lab, "ircs://[::]");
    assert!(said.contains(", path MTU 1400, "), "{said}");
    lab.ip("b", "route change default via 2001:db8:1::1\n");

    lab.path_mtu_hole();
    assert!(checked(&lab, "ircs://[::]").contains("a path-MTU hole"));

    drop_v6(&lab);
    let said = checked(&lab, "ircs://[::]");
    assert!(
        said.contains("warning: networks: t: irc.test:6697: 2001:db8:2::2: no TCP answer"),
        "{said}"
    );

    lab.ip("b", "route del default via 2001:db8:1::1\n");
    let said = checked(&lab, "ircs://[::]");
    assert!(
        said.contains("warning: routes: no IPv6 default route"),
        "{said}"
    );
    assert!(
        !said.contains("2001:db8:2::2: no route"),
        "told once: {said}"
    );

    dns::start(&lab, Reply::Late(Duration::from_millis(1500)), Reply::Well);
    let said = checked(&lab, "ircs://[::]");
    assert!(said.contains("AAAA took 1."), "{said}");
}

#[test]
fn check_tells_what_a_running_daemon_serves() {
    if why_not().is_some() {
        return;
    }
    let lab = Lab::new();
    let listen = "irc+insecure://[::]";
    let _bouncer = {
        let bouncer = Bouncer::start(&lab, listen, "");
        bouncer.listening();
        bouncer
    };
    let said = checked(&lab, listen);
    assert!(
        said.contains("info: sockets: [::]:6667 serves IPv6 and IPv4\n"),
        "{said}"
    );
    let all = "::1, 127.0.0.1, 2001:db8:1::2, 198.51.100.2 ok\n";
    assert!(said.contains(all), "{said}");
    // A firewall that was made for IPv4 alone.
    lab.exec(
        "b",
        &[
            "iptables", "-A", "INPUT", "-p", "tcp", "--dport", "6667", "-j", "ACCEPT",
        ],
        "",
    );
    lab.exec("b", &["ip6tables", "-P", "INPUT", "DROP"], "");
    let said = checked(&lab, listen);
    assert!(
        said.contains("error: firewall: ICMPv6 is not let in"),
        "{said}"
    );
    assert!(
        said.contains("warning: firewall: IPv4 has a rule that lets tcp/6667 in, IPv6 has none"),
        "{said}"
    );
    assert!(said.contains("does not answer on ::1"), "{said}");
}
