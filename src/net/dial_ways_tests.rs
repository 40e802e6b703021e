//! Dialling over loopback: from where, through what, and what is learned for the next time. The helpers are those of
//! `dial_tests`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::tests::{
    HASTY, PATIENT, bound_pair, by, dig_hole, identity, ip, listen_on_both, names, network, open,
    port_of, serve, server, told, trusting,
};
use super::*;
use crate::config::{Family, Rate, Source, Sources};
use crate::net::resolve::Fixed;
use crate::net::source::{Routes, SourceKey};

/// A network with these sources, at `irc.test` in clear text.
fn from(sources: &[&str], port: u16) -> Network {
    let mut network = network(vec![server(Scheme::Insecure, "irc.test", port)]);
    for text in sources {
        let source = Source::parse(text).ok();
        match text.contains(':') {
            true => network.dial.source.v6 = source,
            false => network.dial.source.v4 = source,
        }
    }
    network
}

fn dialer() -> Dialer {
    Dialer::new(Arc::new(names()))
}

#[tokio::test]
async fn b18_a_source_is_what_the_server_sees_and_its_family_alone_is_used() {
    let (_v6, v4) = listen_on_both();
    let network = from(&["127.0.0.9"], port_of(&v4));
    let mut cycle = dialer().cycle_with(&network, &by(), restricted(&network));
    assert_eq!(ip(&cycle.next().await.unwrap()), "127.0.0.1");
    let (_, peer) = v4.accept().await.unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.9");
    assert_eq!(told(cycle.attempts()), ["127.0.0.1 ready Won"]);
    let line = cycle.attempts()[0].to_string();
    assert!(line.contains(" IPv4 from 127.0.0.9 ready "), "{line}");
}

/// The patient race, with the families that the configuration leaves.
fn restricted(network: &Network) -> Settings {
    Settings {
        family: Settings::from(&network.dial).family,
        ..PATIENT
    }
}

#[tokio::test]
async fn many_connections_from_one_address_share_their_ports() {
    let (_v6, v4) = listen_on_both();
    let network = from(&["127.0.0.9"], port_of(&v4));
    let dialed = dialer()
        .cycle_with(&network, &by(), restricted(&network))
        .next()
        .await;
    let Stream::Tcp(tcp) = dialed.unwrap().stream else {
        panic!("not TCP")
    };
    // The port was chosen by `connect`: the socket could be bound to the address before any was known.
    assert_eq!(tcp.local_addr().unwrap().ip().to_string(), "127.0.0.9");
    assert_ne!(tcp.local_addr().unwrap().port(), 0);
}

#[tokio::test]
async fn c27_a_source_that_no_interface_has_is_never_replaced_by_another() {
    let (_v6, v4) = listen_on_both();
    for sources in [
        &["2001:db8::7", "127.0.0.9"][..],
        &["2001:db8::7"],
        &["203.0.113.7"],
    ] {
        let network = from(sources, port_of(&v4));
        let mut cycle = dialer().cycle_with(&network, &by(), restricted(&network));
        let result = cycle.next().await;
        let attempts = told(cycle.attempts());
        match sources {
            [_, _] => {
                assert_eq!(ip(&result.unwrap()), "127.0.0.1");
                assert_eq!(attempts, ["::1 tcp Source", "127.0.0.1 ready Won"]);
            }
            [only] => {
                let report = result.unwrap_err();
                let said = format!("the source address {only} is on no interface of this host");
                assert!(report.to_string().contains(&said), "{report}");
                assert_eq!(attempts.len(), 1);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_contradiction_leads_nowhere_rather_than_to_the_default_address() {
    let (_v6, v4) = listen_on_both();
    // IPv4 alone is wanted, and there is no IPv4 source.
    let network = from(&["::1"], port_of(&v4));
    let settings = Settings {
        family: Family::Ipv4,
        ..PATIENT
    };
    let report = dialer()
        .cycle_with(&network, &by(), settings)
        .next()
        .await
        .unwrap_err();
    assert_eq!(told(&report.attempts), ["127.0.0.1 tcp Source"]);
}

#[tokio::test]
async fn each_user_comes_from_an_address_of_his_own() {
    let (_v6, v4) = listen_on_both();
    // On Linux all of 127.0.0.0/8 is this host's.
    let network = from(&["127.8.0.0/16"], port_of(&v4));
    let dialer = dialer().with_key(SourceKey::new([1; 32]));
    let mut seen = Vec::new();
    for user in ["apw", "bob", "apw"] {
        let mut cycle = dialer.cycle_with(&network, &By::trusted(user), restricted(&network));
        let (dialed, accepted) = tokio::join!(cycle.next(), v4.accept());
        dialed.unwrap();
        seen.push(accepted.unwrap().1.ip());
    }
    assert_eq!(seen[0], seen[2]);
    assert_ne!(seen[0], seen[1]);
    assert!(seen.iter().all(|ip| ip.to_string().starts_with("127.8.")));
    let report = Dialer::new(Arc::new(names()))
        .cycle_with(&network, &by(), restricted(&network))
        .next()
        .await
        .unwrap_err();
    assert!(report.to_string().contains("no key"), "{report}");
}

/// A SOCKS5 proxy for one connection, which goes to `to` whatever it is asked for; returns what it was asked.
async fn proxy(listener: TcpListener, to: SocketAddr) -> Vec<u8> {
    let (mut client, _) = listener.accept().await.unwrap();
    let mut hello = [0; 3];
    client.read_exact(&mut hello).await.unwrap();
    client.write_all(&[5, 0]).await.unwrap();
    let mut head = [0; 5];
    client.read_exact(&mut head).await.unwrap();
    let mut asked = vec![0; usize::from(head[4]) + 2];
    client.read_exact(&mut asked).await.unwrap();
    let mut server = TcpStream::connect(to).await.unwrap();
    client
        .write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
    asked
}

fn through(proxy: &TcpListener, servers: Vec<ServerAddr>) -> Network {
    let proxy = format!("socks5://{}", proxy.local_addr().unwrap());
    Network {
        proxy: Proxy::parse(&proxy).ok(),
        ..network(servers)
    }
}

#[tokio::test]
async fn through_a_proxy_names_are_not_looked_up_here() {
    let (v6, _v4) = listen_on_both();
    let socks = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let network = through(&socks, vec![server(Scheme::Insecure, "hidden.onion", 6667)]);
    let mut cycle = Dialer::new(Arc::new(Fixed::default())).cycle_with(&network, &by(), PATIENT);
    let proxying = tokio::spawn(proxy(socks, v6.local_addr().unwrap()));
    let (dialed, accepted) = tokio::join!(cycle.next(), v6.accept());
    let asked = proxying.await.unwrap();
    assert_eq!(asked, b"hidden.onion\x1a\x0b");
    let (mut peer, _) = accepted.unwrap();
    peer.write_all(b"NOTICE * :hello\r\n").await.unwrap();
    drop(peer);
    let mut said = String::new();
    let mut stream = dialed.unwrap().stream;
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "NOTICE * :hello\r\n");
    let line = cycle.attempts()[0].to_string();
    assert!(
        line.starts_with("hidden.onion:6667 via socks5://127.0.0.1:"),
        "{line}"
    );
}

#[tokio::test]
async fn tls_is_with_the_server_behind_the_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let (acceptor, papers) = identity(folder.path(), "good");
    let (v6, _v4) = listen_on_both();
    let to = v6.local_addr().unwrap();
    serve(v6, acceptor);
    let socks = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut network = through(&socks, vec![server(Scheme::Tls, "irc.test", 6697)]);
    network.trust = trusting(&papers);
    tokio::spawn(proxy(socks, to));
    let mut cycle = Dialer::new(Arc::new(Fixed::default())).cycle_with(&network, &by(), PATIENT);
    assert!(cycle.next().await.unwrap().stream.is_tls());
}

#[tokio::test]
async fn a_proxy_that_refuses_is_the_report() {
    let socks = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let servers = vec![
        server(Scheme::Insecure, "hidden.onion", 6667),
        server(Scheme::Local, "localhost", 6667),
    ];
    let network = through(&socks, servers);
    tokio::spawn(async move {
        let (mut client, _) = socks.accept().await.unwrap();
        client.write_all(&[5, 0, 5, 4, 0, 1]).await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
    });
    let mut cycle = Dialer::new(Arc::new(Fixed::default())).cycle_with(&network, &by(), PATIENT);
    let report = cycle.next().await.unwrap_err();
    let told = told(&report.attempts);
    assert_eq!(told[0], "127.0.0.1 proxy NoRoute");
    // What is for this machine alone does not go through a proxy.
    assert_eq!(told[1], "127.0.0.1 tcp Policy");
}

#[tokio::test]
async fn b8_what_a_server_says_at_once_over_tls_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (acceptor, papers) = identity(folder.path(), "good");
    let (v6, _v4) = listen_on_both();
    let port = port_of(&v6);
    tokio::spawn(async move {
        let (tcp, _) = v6.accept().await.unwrap();
        let mut stream = acceptor.accept(Stream::Tcp(tcp), false).await.unwrap();
        stream.write_all(b"NOTICE * :hello\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // Kept open until the other end is done.
        let _ = stream.read_to_end(&mut rest).await;
    });
    let mut network = network(vec![server(Scheme::Tls, "irc.test", port)]);
    network.trust = trusting(&papers);
    let mut cycle = dialer().cycle_with(&network, &by(), PATIENT);
    let mut stream = cycle.next().await.unwrap().stream;
    let mut said = [0; 17];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"NOTICE * :hello\r\n");
}

fn stranger() -> By {
    By {
        user: "mallory".to_owned(),
        is_trusted: false,
    }
}

#[tokio::test]
async fn who_is_not_trusted_reaches_nothing_internal_and_is_not_told_why() {
    let (v6, v4) = listen_on_both();
    let servers = vec![
        server(Scheme::Insecure, "irc.test", port_of(&v6)),
        server(Scheme::Insecure, "2130706433", port_of(&v4)),
        ServerAddr::Unix("/run/secret.sock".into()),
    ];
    // What other resolvers make of such a name.
    let names = names().with("2130706433", &["127.0.0.1".parse().unwrap()]);
    let mut network = network(servers);
    let dialer = Dialer::new(Arc::new(names));
    let mut cycle = dialer.cycle_with(&network, &stranger(), HASTY);
    let report = cycle.next().await.unwrap_err();
    assert!(
        told(&report.attempts)
            .iter()
            .all(|told| told.ends_with("Policy") || told.ends_with("NoAddress")),
        "{:?}",
        report.attempts
    );
    assert_eq!(
        report.to_string(),
        "not allowed: an administrator can see why"
    );
    for listener in [&v6, &v4] {
        let untouched = std::future::poll_fn(|context| {
            std::task::Poll::Ready(listener.poll_accept(context).is_pending())
        });
        assert!(untouched.await);
    }
    network.dial.allow_internal = true;
    let mut cycle = dialer.cycle_with(&network, &stranger(), PATIENT);
    assert_eq!(ip(&cycle.next().await.unwrap()), "::1");
}

/// A host of which every address is its own.
struct Own;

impl Routes for Own {
    fn source(&self, to: SocketAddr) -> Option<IpAddr> {
        Some(to.ip())
    }
}

#[tokio::test]
async fn this_hosts_own_public_addresses_are_internal_too() {
    let names = Fixed::default().with("irc.test", &["2a00:1450::1".parse().unwrap()]);
    let network = network(vec![server(Scheme::Insecure, "irc.test", 6667)]);
    let dialer = Dialer::new(Arc::new(names)).with_routes(Arc::new(Own));
    let mut cycle = dialer.cycle_with(&network, &stranger(), HASTY);
    let report = cycle.next().await.unwrap_err();
    let said = report
        .attempts
        .iter()
        .any(|a| a.to_string().contains("this host"));
    assert!(said, "{:?}", report.attempts);
}

#[tokio::test]
async fn the_translator_of_this_network_leads_to_nothing_internal() {
    let names = Fixed::default()
        .with("irc.test", &["2a00:64::10.0.0.1".parse().unwrap()])
        .with("ipv4only.arpa", &["2a00:64::192.0.0.170".parse().unwrap()]);
    let network = network(vec![server(Scheme::Insecure, "irc.test", 6667)]);
    let mut cycle = Dialer::new(Arc::new(names)).cycle_with(&network, &stranger(), HASTY);
    let report = cycle.next().await.unwrap_err();
    let said = |a: &Attempt| a.to_string().contains("is internal (private)");
    assert!(report.attempts.iter().any(said), "{:?}", report.attempts);
}

#[tokio::test]
async fn a15_after_a_stall_the_other_family_goes_first() {
    let (v6, _v4) = listen_on_both();
    let network = from(&[], port_of(&v6));
    let dialer = dialer();
    let mut cycle = dialer.cycle_with(&network, &by(), PATIENT);
    assert_eq!(ip(&cycle.next().await.unwrap()), "::1");
    cycle.reject("said nothing for 10 s");
    assert_eq!(ip(&cycle.next().await.unwrap()), "127.0.0.1");
    cycle.confirm();
    let mut cycle = dialer.cycle_with(&network, &by(), PATIENT);
    assert_eq!(ip(&cycle.next().await.unwrap()), "127.0.0.1");
    assert_eq!(told(cycle.attempts()), ["127.0.0.1 ready Won"]);
}

#[tokio::test]
async fn a14_a_refusal_in_words_does_not_turn_the_families_round() {
    let (v6, _v4) = listen_on_both();
    let network = from(&[], port_of(&v6));
    let dialer = dialer();
    let mut cycle = dialer.cycle_with(&network, &by(), PATIENT);
    assert_eq!(ip(&cycle.next().await.unwrap()), "::1");
    // The server said ERROR and closed: the cycle is dropped, and after the wait there is a new one.
    cycle.reject("the server closed the connection");
    drop(cycle);
    let mut cycle = dialer.cycle_with(&network, &by(), PATIENT);
    assert_eq!(ip(&cycle.next().await.unwrap()), "::1");
}

#[tokio::test]
async fn a_syn_that_was_lost_turns_the_order_for_those_who_come_at_once() {
    let (v6, v4, port) = bound_pair();
    let (_v4, _held) = (open(v4), dig_hole(&v6).await);
    let network = from(&[], port);
    let dialer = dialer();
    for expected in [
        &["::1 tcp Outrun", "127.0.0.1 ready Won"][..],
        &["127.0.0.1 ready Won"],
    ] {
        let mut cycle = dialer.cycle_with(&network, &by(), HASTY);
        assert_eq!(ip(&cycle.next().await.unwrap()), "127.0.0.1");
        let attempts = told(cycle.attempts());
        // The second cycle may have begun a probe, too.
        assert_eq!(attempts[..expected.len().min(1)], expected[..1]);
    }
}

#[tokio::test]
async fn a16_many_users_learn_from_the_first() {
    let (v6, v4, port) = bound_pair();
    let (_v4, _held) = (open(v4), dig_hole(&v6).await);
    let network = from(&[], port);
    let dialer = dialer();
    let mut cycles: Vec<Cycle> = (0..20)
        .map(|_| dialer.cycle_with(&network, &by(), SLOW))
        .collect();
    let mut tasks = JoinSet::new();
    for mut cycle in cycles.drain(..) {
        tasks.spawn(async move {
            assert_eq!(ip(&cycle.next().await.unwrap()), "127.0.0.1");
            told(cycle.attempts())
        });
    }
    let all = tasks.join_all().await;
    let doomed = all
        .iter()
        .filter(|told| told[0] == "::1 tcp Outrun")
        .count();
    assert_eq!(doomed, 1, "{all:?}");
}

/// Time enough for followers to be there before the first one knows.
const SLOW: Settings = Settings {
    attempt_delay: Duration::from_millis(100),
    ..PATIENT
};

#[tokio::test]
async fn a_turn_that_is_waited_for_is_taken_by_what_works_by_then() {
    let (v6, _v4) = listen_on_both();
    let mut network = from(&[], port_of(&v6));
    // Through 0.0.0.0 and ::, which are no loopback, and lead there.
    network.servers = vec![server(Scheme::Insecure, "any.test", port_of(&v6))];
    let every = Duration::from_millis(300);
    network.dial.pace = Rate { burst: 1, every };
    let names = Fixed::default().with(
        "any.test",
        &["::".parse().unwrap(), "0.0.0.0".parse().unwrap()],
    );
    let dialer = Dialer::new(Arc::new(names));
    let settings = Settings {
        family: Family::PreferIpv4,
        ..PATIENT
    };
    let mut first = dialer.cycle_with(&network, &by(), settings);
    assert_eq!(ip(&first.next().await.unwrap()), "0.0.0.0");
    let mut second = dialer.cycle_with(&network, &by(), settings);
    let (dialed, _) = tokio::join!(second.next(), async {
        // The first one is silent; the second waits for its turn meanwhile.
        first.reject("silent");
        first.next().await
    });
    assert_eq!(ip(&dialed.unwrap()), "::");
}

#[tokio::test]
async fn others_see_how_far_a_cycle_is() {
    let (_v6, v4, port) = bound_pair();
    let mut network = from(&[], port);
    network
        .servers
        .push(server(Scheme::Insecure, "other.test", 6667));
    let _held = dig_hole(&v4).await;
    let mut cycle = dialer().cycle_with(&network, &by(), PATIENT);
    let trace = cycle.trace();
    assert!(trace.progress().attempts.is_empty());
    tokio::select! {
        biased;
        _ = cycle.next() => panic!("IPv4 swallows everything"),
        () = async {
            while trace.progress().attempts.len() < 2 {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    let progress = trace.progress();
    assert_eq!(
        told(&progress.attempts),
        ["::1 tcp Refused", "127.0.0.1 tcp Pending"]
    );
    assert_eq!(progress.next, ["other.test:6667"]);
    drop(cycle);
    assert_eq!(trace.progress(), progress, "the last one is kept");
}

#[tokio::test]
async fn a_winner_says_why_it_won() {
    let (_v6, v4, port) = bound_pair();
    let _v4 = open(v4);
    let mut cycle = dialer().cycle_with(&from(&[], port), &by(), PATIENT);
    cycle.next().await.unwrap();
    let line = cycle.attempts()[1].to_string();
    assert!(
        line.ends_with(": connected, after 1 address failed"),
        "{line}"
    );
}

#[test]
fn sources_of_both_families_leave_both() {
    let network = from(&["::1", "127.0.0.9"], 1);
    let both = Sources {
        v6: Source::parse("::1").ok(),
        v4: Source::parse("127.0.0.9").ok(),
    };
    assert_eq!(network.dial.source, both);
    assert_eq!(Settings::from(&network.dial).family, Family::PreferIpv6);
}
