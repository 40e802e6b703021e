//! Where clients come in: both families on every kind of listener, web clients, who is let in, what proxies say, sockets
//! from systemd, and all of it changed while clients are attached.

// Helpers are parts of tests, although not marked as such.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "listen/proxies.rs"]
mod proxies;
mod support;
#[path = "listen/web.rs"]
mod web;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU16, Ordering};

use socket2::{Domain, SockAddr, Socket, Type};
use support::daemon::{PASSWORD, carom, user, write_config};
use support::{Client, Daemon, in_time};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A configuration with one user, these listeners and more lines of `[server]`.
fn config(listen: &str, server: &str) -> String {
    format!(
        "[server]\nname = \"bnc.test\"\nlisten = {listen}\n{server}\n{}",
        user("apw")
    )
}

const ANY: &str = "[\"irc+insecure://[::]:0\"]";

/// A port that is free in both families, and that the system gives to nobody who asks for any.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 400).unwrap() * 25;
    for _ in 0..1000 {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

fn v6(port: u16) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, port).into()
}

fn v4(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

async fn login(addr: SocketAddr) -> Client {
    let mut client = Client::connect(addr).await;
    client.login(&format!("apw:{PASSWORD}")).await;
    client
}

/// What a connection gets that says nothing but this.
async fn answer(addr: SocketAddr, says: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // It may be closed before it is read: then that is the answer.
    let _ = stream.write_all(says).await;
    let mut answer = Vec::new();
    let read = in_time("the end of the connection", stream.read_to_end(&mut answer));
    let _ = read.await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Whether somebody who comes from there gets in.
async fn gets_in(addr: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let _ = stream.write_all(b"CAP LS 302\r\n").await;
    let mut first = [0; 3];
    match in_time("an answer", stream.read_exact(&mut first)).await {
        Ok(_) => &first == b"CAP" || &first == b":bn",
        Err(_) => false,
    }
}

/// Waits for the next line that tells the end of a reload.
async fn reloaded(daemon: &mut Daemon, times: usize) {
    daemon
        .logged_times("the configuration was read again", times)
        .await;
}

#[tokio::test]
async fn one_listener_serves_both_families_and_names_canonical_addresses() {
    let mut daemon = Daemon::start(&config(ANY, "")).await;
    daemon.logged("(IPv6 and IPv4), clear text").await;
    for addr in [daemon.addr(), daemon.addr_v4()] {
        let _client = login(addr).await;
        daemon.logged(&format!("peer={}", shown(addr.ip()))).await;
    }
    let log = daemon.log().join("\n");
    assert!(!log.contains("::ffff:"), "{log}");
}

/// An address as it stands in front of a port.
fn shown(ip: IpAddr) -> String {
    let text = SocketAddr::new(ip, 0).to_string();
    text.strip_suffix('0').unwrap().to_owned()
}

#[tokio::test]
async fn both_wildcards_on_one_port_are_two_sockets() {
    for listen in [
        "*:P, irc+insecure://[::]:P",
        "[::]:P, irc+insecure://*:P",
        "[::]:P, irc+insecure://127.0.0.1:P",
    ] {
        let port = free_port();
        let listen = format!(
            "\"irc+insecure://{}\"",
            listen.replace('P', &port.to_string())
        );
        let mut daemon = Daemon::start(&config(&listen, "")).await;
        daemon
            .logged(&format!("listening on [::]:{port} (IPv6), clear text"))
            .await;
        daemon.logged(&format!(":{port} (IPv4), clear text")).await;
        for addr in [v6(port), v4(port)] {
            let _client = login(addr).await;
            daemon.logged(&format!("peer={}", shown(addr.ip()))).await;
        }
    }
}

#[tokio::test]
async fn a_port_that_is_half_taken_names_the_half() {
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = TempDir::new().unwrap();
    write_config(
        folder.path(),
        &config(&format!("[\"irc+insecure://[::]:{port}\"]"), ""),
    );
    let ended = carom(folder.path(), &["run"]).await;
    assert_eq!(ended.code, Some(1));
    let text = format!(
        "cannot listen on [::]:{port}: the IPv4 side of the port is in use by another process"
    );
    assert!(ended.stderr.contains(&text), "{}", ended.stderr);
}

#[tokio::test]
async fn lists_of_addresses_are_judged_canonically_and_changed_at_once() {
    let mut daemon = Daemon::start(&config(ANY, "")).await;
    let (six, four) = (daemon.addr(), daemon.addr_v4());
    let mut client = login(four).await;
    // Each row: the lists, and whether ::1 and 127.0.0.1 get in.
    let rows = [
        ("allow = [\"::ffff:127.0.0.0/104\"]", false, true),
        ("allow = [\"127.0.0.0/8\"]", false, true),
        ("allow = [\"::/0\"]", true, false),
        ("allow = [\"0.0.0.0/0\"]", false, true),
        ("allow = [\"loopback\"]", true, true),
        ("deny = [\"127.0.0.0/8\"]", true, false),
        ("allow = [\"all\"]\ndeny = [\"::1\"]", false, true),
        ("", true, true),
    ];
    for (n, (lists, six_gets_in, four_gets_in)) in rows.into_iter().enumerate() {
        daemon.configure(&config(ANY, lists));
        daemon.reload();
        reloaded(&mut daemon, n + 1).await;
        assert_eq!(gets_in(six).await, six_gets_in, "{lists}");
        assert_eq!(gets_in(four).await, four_gets_in, "{lists}");
    }
    daemon.logged("\"::/0\" is IPv6 alone").await;
    daemon
        .logged("may not come in by server.allow and server.deny")
        .await;
    // Whoever is in stays in, and nothing else has changed although lines have moved.
    client.sync().await;
    let log = daemon.log().join("\n");
    assert!(!log.contains("restart to apply"), "{log}");
}

#[tokio::test]
async fn those_who_are_turned_away_are_told_in_clear_text() {
    let daemon = Daemon::start(&config(ANY, "deny = [\"127.0.0.1\"]")).await;
    let told = answer(daemon.addr_v4(), b"").await;
    assert_eq!(
        told,
        "ERROR :Closing link: your address may not connect here\r\n"
    );
    let tls = Daemon::start(&config("[\"ircs://[::]:0\"]", "deny = [\"127.0.0.1\"]")).await;
    assert_eq!(
        answer(tls.addr_v4(), b"").await,
        "",
        "before TLS nothing is said"
    );
}

#[tokio::test]
async fn clients_on_this_machine_are_not_counted_by_address() {
    let limits =
        "[limits]\nper_address = 2\nconnects_per_address = { burst = 2, every = \"1h\" }\n";
    let daemon = Daemon::start(&format!("{limits}{}", config(ANY, ""))).await;
    let mut waiting = Vec::new();
    for n in 0..100 {
        let addr = if n % 2 == 0 {
            daemon.addr()
        } else {
            daemon.addr_v4()
        };
        waiting.push(TcpStream::connect(addr).await.unwrap());
    }
    assert!(gets_in(daemon.addr()).await);
    assert!(gets_in(daemon.addr_v4()).await);
}

fn listening(domain: Domain, addr: SocketAddr, only_v6: bool) -> Socket {
    let socket = Socket::new(domain, Type::STREAM, None).unwrap();
    if domain == Domain::IPV6 {
        socket.set_only_v6(only_v6).unwrap();
    }
    socket.bind(&SockAddr::from(addr)).unwrap();
    socket.listen(16).unwrap();
    socket
}

fn port_of(socket: &Socket) -> u16 {
    socket.local_addr().unwrap().as_socket().unwrap().port()
}

#[tokio::test]
async fn sockets_from_systemd_are_used_as_they_are() {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let dual = listening(Domain::IPV6, any, false);
    let only = listening(Domain::IPV6, any, true);
    let four = listening(Domain::IPV4, v4(0), false);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("irc.sock");
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (dual_port, only_port, four_port) = (port_of(&dual), port_of(&only), port_of(&four));
    let sockets: Vec<(&str, OwnedFd)> = vec![
        ("dual", dual.into()),
        ("six", only.into()),
        ("both", four.into()),
        ("both", unix.into()),
        ("spare", listening(Domain::IPV4, v4(0), false).into()),
    ];
    let listen =
        "[\"irc+insecure://systemd:dual\", \"irc+insecure://systemd:six\", \"irc://systemd:both\"]";
    let mut daemon = Daemon::start_with(sockets, &config(listen, "")).await;
    for text in [
        format!(
            "listening on [::]:{dual_port} (IPv6 and IPv4), clear text, from systemd as \"dual\""
        ),
        format!("listening on [::]:{only_port} (IPv6), clear text, from systemd as \"six\""),
        format!("listening on 127.0.0.1:{four_port} (IPv4), clear text, from systemd as \"both\""),
        "listening on systemd:both".to_owned(),
        format!("systemd:six is [::]:{only_port} for IPv6 alone: no IPv4 client can connect"),
        "systemd passed a socket named \"spare\" that nothing accepts on".to_owned(),
    ] {
        daemon.logged(&text).await;
    }
    let log = daemon.log().join("\n");
    assert!(!log.contains("systemd:dual is"), "{log}");
    for addr in [v6(dual_port), v4(dual_port), v6(only_port), v4(four_port)] {
        login(addr).await;
    }
    let mut client = Client::connect_unix(&path).await;
    client.login(&format!("apw:{PASSWORD}")).await;
    // Left out by a reload and taken in again it is the same socket, and in between systemd's.
    let less = "[\"irc+insecure://systemd:six\", \"irc://systemd:both\"]";
    daemon.configure(&config(less, ""));
    daemon.reload();
    reloaded(&mut daemon, 1).await;
    let waiting = std::net::TcpStream::connect(v4(dual_port)).unwrap();
    daemon.configure(&config(listen, ""));
    daemon.reload();
    reloaded(&mut daemon, 2).await;
    login(v4(dual_port)).await;
    drop(waiting);
    client.sync().await;
    assert_eq!(daemon.stop().await.code(), Some(0));
    assert!(path.exists(), "the file is systemd's");
}

#[tokio::test]
async fn a_socket_that_systemd_did_not_pass_is_said() {
    let folder = TempDir::new().unwrap();
    write_config(folder.path(), &config("[\"systemd:irc\"]", ""));
    let ended = carom(folder.path(), &["run"]).await;
    assert_eq!(ended.code, Some(1));
    let text =
        "cannot listen on systemd:irc: systemd passed no socket named \"irc\", but none at all";
    assert!(ended.stderr.contains(text), "{}", ended.stderr);
}

#[tokio::test]
async fn listeners_change_while_clients_are_attached() {
    let port = free_port();
    let one = format!("[\"irc+insecure://[::]:{port}\"]");
    let pair = format!("\"irc+insecure://0.0.0.0:{port}, irc+insecure://[::]:{port}\"");
    let mut daemon = Daemon::start(&config(&one, "")).await;
    let mut clients = vec![login(v6(port)).await, login(v4(port)).await];
    for n in 1..=4 {
        let listen = if n % 2 == 1 { &pair } else { &one };
        daemon.configure(&config(listen, ""));
        daemon.reload();
        reloaded(&mut daemon, n).await;
        clients.push(login(v6(port)).await);
        clients.push(login(v4(port)).await);
        for client in &mut clients {
            client.sync().await;
        }
    }
    let log = daemon.log().join("\n");
    assert!(!log.contains("in use") && !log.contains("ERROR"), "{log}");
}

#[tokio::test]
async fn a_reload_that_cannot_be_done_changes_nothing() {
    let taken = TcpListener::bind("[::1]:0").unwrap();
    let occupied = taken.local_addr().unwrap();
    let mut daemon = Daemon::start(&config(ANY, "")).await;
    let refused = |listen: &str, server: &str| config(listen, server);
    let both = format!("[\"irc+insecure://[::]:0\", \"irc://{occupied}\"]");
    for (n, (config, texts)) in [
        // Everything that is wrong with the file, as at the start.
        (
            refused("[\"ftp://[::]\"]", "allow = [\"nobody\"]"),
            &[
                "server.listen: \"ftp\" is no known scheme",
                "server.allow: \"nobody\" is neither",
            ][..],
        ),
        (
            refused(&both, "deny = [\"loopback\"]"),
            &["the port is in use by another process"],
        ),
        (
            refused("[\"irc://nowhere.invalid:0\"]", ""),
            &["\"nowhere.invalid:0\" is not this machine"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        daemon.configure(&config);
        daemon.reload();
        daemon
            .logged_times("is not applied: nothing was changed", n + 1)
            .await;
        for text in texts {
            daemon.logged(text).await;
        }
        assert!(gets_in(daemon.addr()).await && gets_in(daemon.addr_v4()).await);
    }
}

#[tokio::test]
async fn a_reload_brings_tls_and_another_name() {
    let mut daemon = Daemon::start(&config(ANY, "")).await;
    let listen = "[\"irc+insecure://[::]:0\", \"ircs://[::1]:0\", \"unix:irc.sock\"]";
    let changed = config(listen, "motd = \"carom.toml\"").replace("bnc.test", "other.test");
    daemon.configure(&format!("{changed}[dial]\nsilence = \"3s\"\n"));
    daemon.reload();
    daemon
        .logged("changes: server.name, server.listen, server.motd, dial.silence")
        .await;
    daemon.logged("read again and applied").await;
    daemon.logged("certificate read again").await;
    let mut client = Client::connect_tls(daemon.addr_of(1), None).await;
    client.login(&format!("apw:{PASSWORD}")).await;
    let mut client = Client::connect_unix(&daemon.path("irc.sock")).await;
    client.login(&format!("apw:{PASSWORD}")).await;
    daemon.logged("peer=unix:uid=").await;
    // Taken away again, its file goes and the client stays.
    daemon.configure(&config(ANY, ""));
    daemon.reload();
    reloaded(&mut daemon, 2).await;
    assert!(!daemon.path("irc.sock").exists());
    client.sync().await;
}

/// Words of the shell that put the daemon into a network of its own, made ready by `ready`; `None`: this system lets
/// nobody have one.
fn alone(ready: &str) -> Option<&'static str> {
    let words =
        format!("exec unshare -Urn /bin/sh -c '{ready} && exec \"$0\" \"$@\"' \"$0\" \"$@\"");
    let mut shell = std::process::Command::new("/bin/sh");
    let tried = shell.args(["-c", &words, "/bin/true"]).output();
    match tried {
        Ok(output) if output.status.success() => Some(Box::leak(words.into_boxed_str())),
        failed => {
            println!("skipped: no network namespace: {failed:?}");
            None
        }
    }
}

/// Says words of the shell in the network of a daemon.
async fn inside(daemon: &Daemon, words: &str) {
    let pid = daemon.pid().to_string();
    let mut enter = tokio::process::Command::new("nsenter");
    enter.args([
        "--preserve-credentials",
        "-t",
        &pid,
        "-U",
        "-n",
        "/bin/sh",
        "-ec",
        words,
    ]);
    let output = in_time(words, enter.output()).await.unwrap();
    assert!(output.status.success(), "{words}: {output:?}");
}

#[tokio::test]
async fn a_listener_comes_back_with_its_interface() {
    let make = "ip link add v0 type veth peer name v1 && ip link set v0 up && ip link set v1 up \
                && ip addr add fe80::aa/64 dev v0 nodad";
    let Some(words) = alone(make) else { return };
    let listen = "[\"irc+insecure://[fe80::aa%v0]:6667\"]";
    let mut daemon = Daemon::start_after(words, &config(listen, "")).await;
    inside(&daemon, "ip link del v0").await;
    daemon.logged("its interface is gone, waiting for it").await;
    // Something else takes its number.
    inside(&daemon, &format!("ip link add other type veth && {make}")).await;
    daemon.logged_times("listening on [fe80::aa%", 3).await;
    daemon.logged("no longer listening on [fe80::aa%").await;
    inside(&daemon, "ss -Hltn | grep -q \"fe80::aa.*%v0\"").await;
}

#[tokio::test]
async fn what_the_host_says_of_ipv6_is_overruled_or_told() {
    let sysctl = |name: &str| format!("ip link set lo up && echo 1 > /proc/sys/net/ipv6/{name}");
    if let Some(words) = alone(&sysctl("bindv6only")) {
        let mut daemon =
            Daemon::start_after(words, &config("[\"irc+insecure://[::]:6667\"]", "")).await;
        daemon
            .logged("listening on [::]:6667 (IPv6 and IPv4)")
            .await;
        inside(&daemon, "ss -Hltn | grep -q \"\\*:6667\"").await;
    }
    if let Some(words) = alone(&sysctl("conf/all/disable_ipv6")) {
        let mut daemon =
            Daemon::start_after(words, &config("[\"irc+insecure://[::]:6667\"]", "")).await;
        daemon
            .logged("IPv6 is disabled on this host (net.ipv6.conf.all.disable_ipv6 = 1): only IPv4")
            .await;
    }
}
