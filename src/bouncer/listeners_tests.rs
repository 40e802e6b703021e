//! Changing listeners of real sockets: what lives on, what collides, what is taken back.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdTcpListener};

use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;
use crate::config::{Dial, ListenHost, Scheme};

/// Listeners, and whoever comes in by them.
struct Here {
    listeners: Listeners,
    met: mpsc::Receiver<(Peer, Scheme)>,
}

fn options() -> Options {
    Options::new(&Dial::default()).at_once()
}

fn planned(place: Place) -> Planned {
    Planned {
        place,
        manner: Scheme::Insecure.into(),
    }
}

fn dual(port: u16) -> Planned {
    planned(Place::Dual(port))
}

fn v6(port: u16) -> Planned {
    planned(Place::Ip((Ipv6Addr::UNSPECIFIED, port).into()))
}

fn v4(port: u16) -> Planned {
    planned(Place::Ip((Ipv4Addr::UNSPECIFIED, port).into()))
}

fn at(addr: &str) -> Planned {
    planned(Place::Ip(addr.parse().unwrap()))
}

impl Here {
    async fn open(plan: Vec<Planned>) -> Result<Self, ListenError> {
        let sockets = open::open(&plan, &[], options()).await?;
        let (tell, met) = mpsc::channel(256);
        let welcome: Welcome = Arc::new(move |stream, peer, manner| {
            // Nobody asks at the end of a test.
            let _ = tell.try_send((peer, manner.scheme));
            drop(stream);
        });
        let mut listeners = Listeners::closed(welcome);
        listeners.accept_on(plan, sockets);
        Ok(Self { listeners, met })
    }

    /// With a port of its own: what `plan` makes of one that is free in both families.
    async fn on_free_port(plan: impl Fn(u16) -> Vec<Planned>) -> (Self, u16) {
        for _ in 0..20 {
            let port = free_port();
            if let Ok(here) = Self::open(plan(port)).await {
                return (here, port);
            }
        }
        panic!("no port is free");
    }

    async fn change(&mut self, plan: Vec<Planned>) -> Result<(), String> {
        let changed = self.listeners.change(plan, options(), || {}).await;
        changed.map_err(|error| error.to_string())
    }

    /// Connects, and says as whom and how it was met.
    async fn meets(&mut self, addr: SocketAddr) -> Option<(String, Scheme)> {
        let client = TcpStream::connect(addr).await.ok()?;
        let (peer, scheme) = self.met.recv().await.unwrap();
        assert_eq!(peer.to_string(), client.local_addr().unwrap().to_string());
        Some((peer.ip().unwrap().to_string(), scheme))
    }

    async fn serves(&mut self, port: u16) -> [bool; 2] {
        let v6 = self.meets((Ipv6Addr::LOCALHOST, port).into()).await;
        let v4 = self.meets((Ipv4Addr::LOCALHOST, port).into()).await;
        [v6.is_some(), v4.is_some()]
    }
}

/// A port that is free in both families for now.
fn free_port() -> u16 {
    let both = StdTcpListener::bind("[::]:0").unwrap();
    both.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_dual_listener_becomes_a_pair_and_back_on_the_same_port() {
    let (mut here, port) = Here::on_free_port(|port| vec![dual(port)]).await;
    assert_eq!(here.serves(port).await, [true, true]);
    for _ in 0..3 {
        here.change(vec![v6(port), v4(port)]).await.unwrap();
        assert_eq!(here.listeners.running.len(), 2);
        assert_eq!(here.serves(port).await, [true, true]);
        here.change(vec![dual(port)]).await.unwrap();
        assert_eq!(here.listeners.running.len(), 1);
        assert_eq!(here.serves(port).await, [true, true]);
    }
}

#[tokio::test]
async fn a_family_can_be_left_out_and_taken_in_again() {
    let (mut here, port) = Here::on_free_port(|port| vec![dual(port)]).await;
    here.change(vec![v6(port)]).await.unwrap();
    assert_eq!(here.serves(port).await, [true, false]);
    here.change(vec![v4(port)]).await.unwrap();
    assert_eq!(here.serves(port).await, [false, true]);
    here.change(vec![v4(port), v6(port)]).await.unwrap();
    assert_eq!(here.serves(port).await, [true, true]);
    let narrow = format!("127.0.0.1:{port}");
    here.change(vec![at(&narrow)]).await.unwrap();
    assert_eq!(here.serves(port).await, [false, true]);
    here.change(vec![dual(port)]).await.unwrap();
    assert_eq!(here.serves(port).await, [true, true]);
}

#[tokio::test]
async fn what_stays_is_the_same_socket() {
    let mut here = Here::open(vec![at("[::1]:0"), at("127.0.0.1:0")])
        .await
        .unwrap();
    let (mut other, port) = Here::on_free_port(|port| vec![dual(port)]).await;
    here.change(vec![at("127.0.0.1:0"), at("[::1]:0"), at("[::1]:0")])
        .await
        .unwrap();
    assert_eq!(here.listeners.running.len(), 3);
    here.change(vec![at("127.0.0.1:0")]).await.unwrap();
    assert_eq!(here.listeners.running.len(), 1);
    // Nothing is opened again for a plan that is the same.
    let id = other.listeners.running[0].task.id();
    other.change(vec![dual(port)]).await.unwrap();
    assert_eq!(other.listeners.running[0].task.id(), id);
}

#[tokio::test]
async fn whoever_waits_is_let_in_before_the_socket_is_closed() {
    let (mut here, port) = Here::on_free_port(|port| vec![dual(port)]).await;
    // The accepting task cannot run while this test does not wait: all of these are in the kernel's queue.
    let addrs: [SocketAddr; 2] = [
        (Ipv6Addr::LOCALHOST, port).into(),
        (Ipv4Addr::LOCALHOST, port).into(),
    ];
    let clients: Vec<_> = (0..20)
        .map(|n| std::net::TcpStream::connect(addrs[n % 2]).unwrap())
        .collect();
    here.change(vec![v4(port), v6(port)]).await.unwrap();
    let mut ports = Vec::new();
    for _ in &clients {
        let (peer, _) = here.met.recv().await.unwrap();
        ports.push(peer.to_string());
    }
    ports.sort();
    let mut expected: Vec<_> = clients
        .iter()
        .map(|client| client.local_addr().unwrap().to_string())
        .collect();
    expected.sort();
    assert_eq!(ports, expected);
}

#[tokio::test]
async fn when_the_new_cannot_be_opened_the_old_stays() {
    let (mut here, port) = Here::on_free_port(|port| vec![dual(port)]).await;
    // Beside the old one: nothing is closed before it fails.
    let taken = StdTcpListener::bind("[::]:0").unwrap();
    let other = taken.local_addr().unwrap().port();
    let id = here.listeners.running[0].task.id();
    let error = here.change(vec![v4(port), v6(port), dual(other)]).await;
    assert!(error.unwrap_err().contains("in use by another process"));
    assert_eq!(here.listeners.running[0].task.id(), id);
    assert_eq!(here.listeners.plan, [dual(port)]);
    assert_eq!(here.serves(port).await, [true, true]);
}

#[tokio::test]
async fn when_a_swap_fails_the_old_is_opened_again() {
    let (mut here, port, _taken) = 'found: {
        for _ in 0..20 {
            let taken = StdTcpListener::bind("[::1]:0").unwrap();
            let port = taken.local_addr().unwrap().port();
            if let Ok(here) = Here::open(vec![at(&format!("127.0.0.1:{port}"))]).await {
                break 'found (here, port, taken);
            }
        }
        panic!("no port is free");
    };
    let error = here.change(vec![dual(port)]).await.unwrap_err();
    assert!(
        error.contains("the IPv6 side of the port is in use"),
        "{error}"
    );
    let local = (Ipv4Addr::LOCALHOST, port).into();
    assert!(here.meets(local).await.is_some());
    // And an address that is not ours is found out before anything is closed.
    let id = here.listeners.running[0].task.id();
    let wrong = format!("192.0.2.77:{port}");
    let error = here.change(vec![at(&wrong), v4(port)]).await;
    assert!(
        error
            .unwrap_err()
            .contains("not configured on any interface")
    );
    assert_eq!(here.listeners.running[0].task.id(), id);
    assert!(here.meets(local).await.is_some());
}

#[tokio::test]
async fn another_scheme_is_the_same_socket() {
    let (mut here, port) = Here::on_free_port(|port| vec![dual(port)]).await;
    let tls = Planned {
        manner: Scheme::Tls.into(),
        ..dual(port)
    };
    let v6: SocketAddr = (Ipv6Addr::LOCALHOST, port).into();
    let scheme = |met: Option<(String, Scheme)>| met.unwrap().1;
    assert_eq!(scheme(here.meets(v6).await), Scheme::Insecure);
    here.change(vec![tls.clone()]).await.unwrap();
    assert_eq!(scheme(here.meets(v6).await), Scheme::Tls);
    assert_eq!(here.listeners.plan, [tls]);
    here.change(vec![dual(port)]).await.unwrap();
    assert_eq!(scheme(here.meets(v6).await), Scheme::Insecure);
}

#[tokio::test]
async fn what_comes_before_accepting_runs_only_when_nothing_can_fail() {
    let mut here = Here::open(vec![at("[::1]:0")]).await.unwrap();
    let mut ran = false;
    let taken = StdTcpListener::bind("[::1]:0").unwrap();
    let occupied = at(&taken.local_addr().unwrap().to_string());
    let changed = here
        .listeners
        .change(vec![occupied], options(), || ran = true);
    assert!(changed.await.is_err());
    assert!(!ran);
    let changed = here
        .listeners
        .change(vec![at("127.0.0.1:0")], options(), || ran = true);
    assert!(changed.await.is_ok());
    assert!(ran);
}

#[tokio::test]
async fn dropping_them_closes_their_sockets() {
    let (here, port) = Here::on_free_port(|port| vec![dual(port)]).await;
    let Here { listeners, mut met } = here;
    drop(listeners);
    // The task ends and drops what would tell.
    assert!(met.recv().await.is_none());
    let refused = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await;
    assert_eq!(
        refused.unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
}

/// A listener on the loopback interface, given by name.
fn zoned() -> Listen {
    Listen {
        written: "[fe80::1%lo]:0".to_owned(),
        manner: Scheme::Insecure.into(),
        host: ListenHost::Address {
            ip: "fe80::1".parse().unwrap(),
            scope: Some("lo".to_owned()),
            port: 0,
        },
    }
}

#[tokio::test]
async fn a_listener_follows_its_interface_to_another_number() {
    // What was bound when the interface had the number 4711.
    let mut here = Here::open(vec![at("[::1]:0")]).await.unwrap();
    let stale = at("[fe80::1%4711]:0");
    here.listeners.plan = vec![stale.clone()];
    here.listeners.running[0].planned = stale.clone();
    let mut options = options();
    here.listeners.follow_zones(&[zoned()], options).await;
    assert_eq!(here.listeners.plan, [stale], "it has no such address yet");
    options.freebind = true;
    here.listeners.follow_zones(&[zoned()], options).await;
    let [
        Planned {
            place: Place::Ip(SocketAddr::V6(addr)),
            ..
        },
    ] = &here.listeners.plan[..]
    else {
        panic!("{:?}", here.listeners.plan);
    };
    assert!(addr.scope_id() != 4711 && addr.scope_id() != 0);
    assert_eq!(here.listeners.running.len(), 1);
    let id = here.listeners.running[0].task.id();
    here.listeners.follow_zones(&[zoned()], options).await;
    assert_eq!(here.listeners.running[0].task.id(), id, "nothing changed");
}

#[tokio::test(start_paused = true)]
async fn interfaces_are_looked_at_only_where_a_listener_names_one() {
    let due = Listeners::zones_are_due(&[]);
    assert!(tokio::time::timeout(ZONES * 10, due).await.is_err());
    let zoned = [zoned()];
    let due = Listeners::zones_are_due(&zoned);
    assert!(tokio::time::timeout(ZONES * 2, due).await.is_ok());
}
