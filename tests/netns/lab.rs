//! Hosts in network namespaces: a bouncer, a router, a server and a client, joined by veth, and the faults that can be
//! put between them. Threads enter a namespace to open sockets there; programs are started by `ip netns exec`.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::tun::Tun;

/// Addresses of the hosts, IPv6 and IPv4.
pub const BOUNCER: [&str; 2] = ["2001:db8:1::2", "198.51.100.2"];
pub const SERVER: [&str; 2] = ["2001:db8:2::2", "203.0.113.2"];
pub const CLIENT: [&str; 2] = ["2001:db8:3::2", "192.0.2.2"];
/// A second one of the client's.
pub const OTHER_CLIENT: [&str; 2] = ["2001:db8:3::3", "192.0.2.3"];

/// Why it cannot be done here; `None`: it can. In CI it has to. Tried once for all tests.
pub fn why_not() -> Option<String> {
    static REASON: LazyLock<Option<String>> = LazyLock::new(try_it);
    REASON.clone()
}

fn try_it() -> Option<String> {
    let missing = |program: &str| {
        let tried = Command::new(program).arg("-V").output();
        let tried = tried.is_ok_and(|output| output.status.success());
        (!tried).then(|| format!("{program} is not installed"))
    };
    let root = rustix::process::geteuid().is_root();
    let reason = (!root)
        .then(|| "only root may make network namespaces".to_owned())
        .or_else(|| {
            ["ip", "nft", "iptables", "ip6tables"]
                .into_iter()
                .find_map(missing)
        })
        .or_else(|| {
            let name = format!("carom-{}-try", std::process::id());
            let made = try_run(&["ip", "netns", "add", &name], "");
            _ = try_run(&["ip", "netns", "del", &name], "");
            made.err()
        });
    assert!(
        reason.is_none() || std::env::var("CI").as_deref() != Ok("true"),
        "in CI these tests have to run: {reason:?}"
    );
    if let Some(reason) = &reason {
        eprintln!("skipped: {reason}");
    }
    reason
}

/// Four hosts: `b`ouncer, `r`outer, `s`erver, `c`lient.
pub struct Lab {
    prefix: String,
}

impl Lab {
    /// Makes them, with everything well.
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let lab = Self {
            prefix: format!("carom-{}-{n}", std::process::id()),
        };
        let mut batch = String::new();
        for host in ["b", "r", "s", "c"] {
            batch += &format!("netns add {}\n", lab.ns(host));
        }
        run(&["ip", "-batch", "-"], &batch);
        for host in ["b", "r", "s", "c"] {
            lab.within(host, || {
                // Addresses are there at once, without duplicate address detection.
                for which in ["all", "default"] {
                    _ = fs::write(format!("/proc/sys/net/ipv6/conf/{which}/accept_dad"), "0");
                }
            });
            lab.ip(host, "link set lo up\n");
        }
        lab.within("r", || {
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            // Errors in answer to every packet: cases repeat.
            fs::write("/proc/sys/net/ipv6/icmp/ratelimit", "0").unwrap();
            fs::write("/proc/sys/net/ipv4/icmp_ratelimit", "0").unwrap();
        });
        for (host, [v6, v4]) in [("b", BOUNCER), ("s", SERVER), ("c", CLIENT)] {
            let gateway = |ip: &str| format!("{}1", ip.strip_suffix('2').unwrap());
            let router = lab.ns("r");
            let here = lab.ns(host);
            let link =
                format!("link add eth0 netns {here} type veth peer name {host}0 netns {router}\n");
            run(&["ip", "-batch", "-"], &link);
            lab.ip(
                "r",
                &format!(
                    "address add {}/64 dev {host}0 nodad\naddress add {}/24 dev {host}0\nlink set {host}0 up\n",
                    gateway(v6),
                    gateway(v4)
                ),
            );
            lab.ip(
                host,
                &format!(
                    "address add {v6}/64 dev eth0 nodad\naddress add {v4}/24 dev eth0\nlink set eth0 up\n\
                     route add default via {}\nroute add default via {}\n",
                    gateway(v6),
                    gateway(v4)
                ),
            );
        }
        lab.router("");
        lab.hosts(
            "b",
            &format!("{} irc.test\n{} irc.test\n", SERVER[0], SERVER[1]),
        );
        lab
    }

    /// The name of a host's namespace.
    pub fn ns(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// Runs in a host's namespace, on a thread of its own.
    pub fn within<T: Send>(&self, host: &str, call: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.ns(host));
        thread::scope(|scope| {
            let entered = move || {
                enter(&path);
                call()
            };
            scope.spawn(entered).join().unwrap()
        })
    }

    /// Starts a thread that stays in a host's namespace.
    pub fn spawn_within(&self, host: &str, call: impl FnOnce() + Send + 'static) {
        let path = format!("/run/netns/{}", self.ns(host));
        thread::spawn(move || {
            enter(&path);
            call();
        });
    }

    /// Says lines to `ip` on a host.
    pub fn ip(&self, host: &str, lines: &str) {
        run(&["ip", "-n", &self.ns(host), "-batch", "-"], lines);
    }

    /// Writes a switch of a host's kernel.
    pub fn sysctl(&self, host: &str, path: &str, value: &str) {
        self.within(host, || {
            fs::write(format!("/proc/sys/net/{path}"), value).unwrap();
        });
    }

    /// Runs a program on a host to its end, and gives what it printed.
    pub fn exec(&self, host: &str, words: &[&str], input: &str) -> String {
        run(
            &[&["ip", "netns", "exec", &self.ns(host)], words].concat(),
            input,
        )
    }

    /// A program about to be started on a host.
    pub fn command(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ns(host), program]);
        command
    }

    /// Counts SYNs towards the server at the router, and puts these rules behind.
    pub fn router(&self, rules: &str) {
        let rules = format!(
            "add table inet lab\ndelete table inet lab\ntable inet lab {{\n counter v6 {{ }}\n counter v4 {{ }}\n \
             chain out {{ type filter hook output priority 0; policy accept; }}\n \
             chain forward {{\n  type filter hook forward priority 0; policy accept;\n  \
             iifname b0 tcp dport 6697 tcp flags & (syn | ack) == syn meta nfproto ipv6 counter name v6\n  \
             iifname b0 tcp dport 6697 tcp flags & (syn | ack) == syn meta nfproto ipv4 counter name v4\n  {rules}\n }}\n}}\n"
        );
        self.exec("r", &["nft", "-f", "-"], &rules);
    }

    /// How many SYNs went towards the server over a family, `v6` or `v4`.
    pub fn syns(&self, family: &str) -> u64 {
        let text = self.exec("r", &["nft", "list", "counter", "inet", "lab", family], "");
        let (_, rest) = text.split_once("packets ").unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// A hole for packets over 1280 bytes on the IPv6 path, without a word to the sender.
    pub fn path_mtu_hole(&self) {
        self.sysctl("r", "ipv6/conf/b0/mtu", "1280");
        self.exec(
            "r",
            &[
                "nft",
                "add",
                "rule",
                "inet",
                "lab",
                "out",
                "icmpv6",
                "type",
                "packet-too-big",
                "drop",
            ],
            "",
        );
    }

    /// Makes the IPv6 path between bouncer and server so much longer, there and back together.
    pub fn slow(&self, rtt: Duration) {
        let line = self.within("r", || Tun::new("slow").unwrap());
        // What comes out of the line comes from neither side, and goes on by the usual route.
        run(
            &["ip", "-6", "-n", &self.ns("r"), "-batch", "-"],
            "link set slow up\nroute add default dev slow table 100\n\
             rule add iif b0 to 2001:db8:2::/64 lookup 100\nrule add iif s0 to 2001:db8:1::/64 lookup 100\n",
        );
        line.give_back(rtt / 2);
    }

    /// The `/etc/hosts` of a host.
    pub fn hosts(&self, host: &str, names: &str) {
        let lines = format!("127.0.0.1 localhost\n::1 localhost\n{names}");
        self.etc(host, "hosts", &lines);
        self.etc(
            host,
            "resolv.conf",
            "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        );
    }

    /// A file in the `/etc` of a host.
    pub fn etc(&self, host: &str, name: &str, text: &str) {
        let folder = self.etc_folder(host);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), text).unwrap();
    }

    fn etc_folder(&self, host: &str) -> PathBuf {
        PathBuf::from("/etc/netns").join(self.ns(host))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in ["b", "r", "s", "c"] {
            _ = try_run(&["ip", "netns", "del", &self.ns(host)], "");
            _ = fs::remove_dir_all(self.etc_folder(host));
        }
        // Only when no other lab has anything in it.
        _ = fs::remove_dir("/etc/netns");
    }
}

fn enter(path: &str) {
    let namespace = fs::File::open(path).unwrap();
    move_into_link_name_space(
        std::os::fd::AsFd::as_fd(&namespace),
        Some(LinkNameSpaceType::Network),
    )
    .unwrap();
}

/// Whether an address is of which family: `v6` or `v4`.
pub fn family(ip: IpAddr) -> &'static str {
    if ip.to_canonical().is_ipv6() {
        "v6"
    } else {
        "v4"
    }
}

fn run(words: &[&str], input: &str) -> String {
    try_run(words, input).unwrap_or_else(|error| panic!("{words:?}: {error}\n{input}"))
}

fn try_run(words: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    // A program that does not read its input may be gone already.
    _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
