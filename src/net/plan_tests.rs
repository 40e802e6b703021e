//! What becomes of listeners on a host that is made up.

use super::*;

struct Host;

impl Names for Host {
    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        match name {
            "localhost" => vec!["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()],
            "outside.test" => vec!["192.0.2.1".parse().unwrap()],
            _ => Vec::new(),
        }
    }

    fn interface(&self, scope: &str) -> Option<u32> {
        (scope == "eth0").then_some(2)
    }

    fn passed(&self) -> Vec<Passed> {
        let one = |number, name: &str, addr: Option<&str>, is_dual| Passed {
            number,
            name: name.to_owned(),
            addr: addr.map(|addr| addr.parse().unwrap()),
            is_dual,
        };
        vec![
            one(0, "six", Some("[::]:6697"), false),
            one(1, "two", Some("[::]:6667"), true),
            one(2, "two", Some("127.0.0.1:7000"), false),
            one(3, "carom.socket", None, false),
        ]
    }
}

fn listen(written: &str, scheme: Scheme, host: ListenHost) -> Listen {
    Listen {
        written: written.to_owned(),
        manner: scheme.into(),
        host,
    }
}

fn v6(port: u16) -> Listen {
    listen(
        "[::]",
        Scheme::Tls,
        ListenHost::AnyIpv6 { port, only: false },
    )
}

fn v4(port: u16) -> Listen {
    listen("*", Scheme::Tls, ListenHost::AnyIpv4 { port })
}

fn at(ip: &str, port: u16, scheme: Scheme) -> Listen {
    let (ip, scope) = match ip.split_once('%') {
        Some((ip, scope)) => (ip, Some(scope.to_owned())),
        None => (ip, None),
    };
    listen(
        ip,
        scheme,
        ListenHost::Address {
            ip: ip.parse().unwrap(),
            scope,
            port,
        },
    )
}

fn name(name: &str, scheme: Scheme) -> Listen {
    listen(
        name,
        scheme,
        ListenHost::Name {
            name: name.to_owned(),
            port: 6667,
        },
    )
}

/// The plan in words, `dual [::]:6697` for a socket of both families.
fn planned(listens: &[Listen]) -> Vec<String> {
    match plan(listens, &Host) {
        Ok(sockets) => sockets
            .iter()
            .map(|socket| match socket.place {
                Place::Dual(_) => format!("dual {}", socket.place),
                _ => socket.place.to_string(),
            })
            .collect(),
        Err(errors) => errors
            .iter()
            .map(|error| format!("error: {error}"))
            .collect(),
    }
}

#[test]
fn the_ipv6_wildcard_alone_is_dual() {
    assert_eq!(planned(&[v6(6697)]), ["dual [::]:6697"]);
    let only = listen(
        "[::]?v6only",
        Scheme::Tls,
        ListenHost::AnyIpv6 {
            port: 6697,
            only: true,
        },
    );
    assert_eq!(planned(&[only]), ["[::]:6697"]);
}

#[test]
fn beside_ipv4_on_one_port_it_is_ipv6_alone() {
    assert_eq!(
        planned(&[v4(6697), v6(6697)]),
        ["0.0.0.0:6697", "[::]:6697"]
    );
    assert_eq!(
        planned(&[v6(6697), v4(6697)]),
        ["[::]:6697", "0.0.0.0:6697"]
    );
    let one = at("192.0.2.1", 6697, Scheme::Tls);
    assert_eq!(planned(&[v6(6697), one]), ["[::]:6697", "192.0.2.1:6697"]);
    assert_eq!(
        planned(&[v6(6697), v4(6698)]),
        ["dual [::]:6697", "0.0.0.0:6698"]
    );
}

#[test]
fn ports_still_to_be_chosen_never_collide() {
    let all = [v6(0), v4(0), v6(0), at("::1", 0, Scheme::Tls)];
    assert_eq!(
        planned(&all),
        ["dual [::]:0", "0.0.0.0:0", "dual [::]:0", "[::1]:0"]
    );
}

#[test]
fn an_address_under_its_wildcard_is_an_error() {
    let text =
        "error: ::1 is covered by [::] on the same port: remove one of them, or use another port";
    assert_eq!(planned(&[v6(6697), at("::1", 6697, Scheme::Tls)]), [text]);
    let text = "error: 127.0.0.1 is covered by * on the same port: remove one of them, or use another port";
    assert_eq!(
        planned(&[at("127.0.0.1", 6697, Scheme::Tls), v4(6697)]),
        [text]
    );
}

#[test]
fn the_same_socket_twice_is_one_unless_they_differ() {
    assert_eq!(planned(&[v6(6697), v6(6697)]), ["dual [::]:6697"]);
    let mapped = at("::ffff:127.0.0.1", 6667, Scheme::Local);
    assert_eq!(
        planned(&[mapped, at("127.0.0.1", 6667, Scheme::Local)]),
        ["127.0.0.1:6667"]
    );
    let differ = [
        at("127.0.0.1", 6667, Scheme::Local),
        at("127.0.0.1", 6667, Scheme::Tls),
    ];
    let text = "error: 127.0.0.1 and 127.0.0.1 are the same socket: keep one of them";
    assert_eq!(planned(&differ), [text]);
}

#[test]
fn a_name_is_every_address_it_has() {
    assert_eq!(
        planned(&[name("localhost", Scheme::Local)]),
        ["[::1]:6667", "127.0.0.1:6667"]
    );
    let text = "error: cannot listen on nowhere.test: nowhere.test has no address";
    assert_eq!(planned(&[name("nowhere.test", Scheme::Tls)]), [text]);
}

#[test]
fn clear_text_is_for_loopback_also_behind_a_name() {
    let errors = planned(&[
        name("outside.test", Scheme::Local),
        at("192.0.2.1", 1, Scheme::Local),
    ]);
    assert!(errors.iter().all(|e| e.contains("irc:// is for loopback")) && errors.len() == 2);
    let insecure = at("192.0.2.1", 1, Scheme::Insecure);
    assert_eq!(planned(&[insecure]), ["192.0.2.1:1"]);
}

#[test]
fn link_local_addresses_need_an_interface_that_exists() {
    assert_eq!(
        planned(&[at("fe80::1%eth0", 1, Scheme::Tls)]),
        ["[fe80::1%2]:1"]
    );
    let text = "error: cannot listen on fe80::1: fe80::1 needs an interface: write [fe80::1%eth0]";
    assert_eq!(planned(&[at("fe80::1", 1, Scheme::Tls)]), [text]);
    let text = "error: cannot listen on fe80::1: no interface named \"eth9\"";
    assert_eq!(planned(&[at("fe80::1%eth9", 1, Scheme::Tls)]), [text]);
}

fn systemd(name: &str, scheme: Scheme) -> Listen {
    listen("as written", scheme, ListenHost::Systemd(name.to_owned()))
}

#[test]
fn sockets_from_systemd_are_taken_by_name() {
    assert_eq!(planned(&[systemd("six", Scheme::Tls)]), ["systemd:six"]);
    let two = plan(&[systemd("two", Scheme::Insecure)], &Host).unwrap();
    let addrs: Vec<_> = two
        .iter()
        .map(|one| one.place.addr().unwrap().to_string())
        .collect();
    assert_eq!(addrs, ["[::]:6667", "127.0.0.1:7000"]);
    let unix = plan(&[systemd("carom", Scheme::Tls)], &Host).unwrap();
    assert_eq!(
        unix[0].manner.scheme,
        Scheme::Local,
        "a unix socket has no TLS"
    );
    let text = "error: cannot listen on as written: systemd passed no socket named \"irc\", but \"six\", \"two\", \
                \"two\", \"carom.socket\"; start carom by its socket unit, with FileDescriptorName=irc in it";
    assert_eq!(planned(&[systemd("irc", Scheme::Tls)]), [text]);
}

#[test]
fn clear_text_from_systemd_is_for_loopback_too() {
    let errors = planned(&[systemd("six", Scheme::Local)]);
    assert!(errors[0].contains("irc:// is for loopback"), "{errors:?}");
}

#[test]
fn beside_ipv4_from_systemd_the_wildcard_is_ipv6_alone() {
    assert_eq!(
        planned(&[systemd("two", Scheme::Insecure), v6(7000)]),
        ["systemd:two", "systemd:two", "[::]:7000"]
    );
    let text = "error: ::1 is covered by as written on the same port: remove one of them, or use another port";
    let one = at("::1", 6697, Scheme::Tls);
    assert_eq!(planned(&[systemd("six", Scheme::Tls), one]), [text]);
}

#[test]
fn ipv6_from_systemd_without_ipv4_on_its_port_is_found() {
    let alone = |listens: &[Listen]| {
        let plan = plan(listens, &Host).unwrap();
        without_ipv4(&plan)
            .map(|one| one.place.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(alone(&[systemd("six", Scheme::Tls)]), ["systemd:six"]);
    assert_eq!(
        alone(&[systemd("six", Scheme::Tls), v4(7000)]),
        ["systemd:six"]
    );
    assert!(alone(&[systemd("six", Scheme::Tls), v4(6697)]).is_empty());
    assert!(alone(&[systemd("two", Scheme::Tls), v6(6697)]).is_empty());
}

#[test]
fn sockets_that_cannot_stand_side_by_side_collide() {
    let dual = Place::Dual(1);
    let ip = |addr: &str| Place::Ip(addr.parse().unwrap());
    let unix = |path: &str| Place::Unix(path.into());
    let rows = [
        (dual.clone(), ip("[::]:1"), true),
        (dual.clone(), ip("0.0.0.0:1"), true),
        (dual.clone(), ip("127.0.0.1:1"), true),
        (dual.clone(), ip("[::1]:1"), true),
        (dual.clone(), ip("[::]:2"), false),
        (dual, unix("/a"), false),
        (ip("[::]:1"), ip("0.0.0.0:1"), false),
        (ip("[::]:1"), ip("127.0.0.1:1"), false),
        (ip("[::]:1"), ip("[::1]:1"), true),
        (ip("0.0.0.0:1"), ip("127.0.0.1:1"), true),
        (ip("127.0.0.2:1"), ip("127.0.0.1:1"), false),
        (ip("127.0.0.1:1"), ip("127.0.0.1:1"), true),
        (ip("127.0.0.1:0"), ip("127.0.0.1:0"), false),
        (Place::Dual(0), Place::Dual(0), false),
        (unix("/a"), unix("/a"), true),
        (unix("/a"), unix("/b"), false),
    ];
    for (a, b, expected) in rows {
        assert_eq!(a.collides(&b), expected, "{a} {b}");
        assert_eq!(b.collides(&a), expected, "{b} {a}");
    }
}
