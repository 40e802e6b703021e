//! Dialling over loopback. Nothing here depends on how fast the host is: where an address must not be tried by time, the
//! delays are an hour, and where it must, one millisecond.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use super::super::resolve::Fixed;
use super::super::tls::Acceptor;
use super::*;
use crate::config::{Family, Rate, Tls, Verify};

const HOUR: Duration = Duration::from_secs(3600);
const MOMENT: Duration = Duration::from_millis(1);

/// A race in which nothing happens by time alone.
pub(super) const PATIENT: Settings = Settings {
    family: Family::PreferIpv6,
    attempt_delay: HOUR,
    resolution_delay: HOUR,
    attempt_timeout: HOUR,
    tls_grace: (HOUR, HOUR),
    max_parallel: 6,
    spacing: Duration::ZERO,
    cycle: HOUR,
    is_proxied: false,
};
/// A race in which the next address starts almost at once.
pub(super) const HASTY: Settings = Settings {
    attempt_delay: MOMENT,
    resolution_delay: MOMENT,
    tls_grace: (MOMENT, MOMENT),
    ..PATIENT
};

/// Two sockets on one port of both loopback addresses. They refuse connections, and nobody else can have the port.
pub(super) fn bound_pair() -> (Socket, Socket, u16) {
    let bound = |ip: &str, port: u16| {
        let addr = SocketAddr::new(ip.parse().unwrap(), port);
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&addr.into()).map(|()| socket)
    };
    loop {
        let v6 = bound("::1", 0).unwrap();
        let port = v6.local_addr().unwrap().as_socket().unwrap().port();
        // The port may be taken in the other family.
        if let Ok(v4) = bound("127.0.0.1", port) {
            return (v6, v4, port);
        }
    }
}

pub(super) fn open(socket: Socket) -> TcpListener {
    socket.listen(128).unwrap();
    TcpListener::from_std(socket.into()).unwrap()
}

/// Fills the socket's queue with one connection, which is returned: further SYNs are dropped without a word.
pub(super) async fn dig_hole(socket: &Socket) -> TcpStream {
    socket.listen(0).unwrap();
    TcpStream::connect(socket.local_addr().unwrap().as_socket().unwrap())
        .await
        .unwrap()
}

pub(super) fn listen_on_both() -> (TcpListener, TcpListener) {
    let (v6, v4, _) = bound_pair();
    (open(v6), open(v4))
}

pub(super) fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

/// `irc.test` has both loopback addresses.
pub(super) fn names() -> Fixed {
    Fixed::default().with(
        "irc.test",
        &["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()],
    )
}

pub(super) fn server(scheme: Scheme, host: &str, port: u16) -> ServerAddr {
    ServerAddr::Tcp {
        scheme,
        host: host.to_owned(),
        port,
    }
}

pub(super) fn by() -> By {
    By::trusted("apw")
}

pub(super) fn network(servers: Vec<ServerAddr>) -> Network {
    let trust = Trust {
        verify: Verify::None,
        ..Trust::default()
    };
    Network {
        servers,
        trust,
        ..Network::default()
    }
}

/// A cycle to `irc.test` at a port, in clear text.
fn clear(port: u16, settings: Settings) -> Cycle {
    let network = network(vec![server(Scheme::Insecure, "irc.test", port)]);
    Dialer::new(Arc::new(names())).cycle_with(&network, &by(), settings)
}

/// The same over TLS.
fn tls(port: u16, settings: Settings, trust: Trust) -> Cycle {
    let servers = vec![server(Scheme::Tls, "irc.test", port)];
    let network = Network {
        trust,
        ..network(servers)
    };
    Dialer::new(Arc::new(names())).cycle_with(&network, &by(), settings)
}

/// Where a connection goes, without the port.
pub(super) fn ip(dialed: &Dialed) -> String {
    match &dialed.address {
        Address::Ip(addr) => addr.ip().to_string(),
        Address::Unix(path) => path.display().to_string(),
    }
}

/// The attempts in words: `::1 tls Outrun`, `127.0.0.1 tcp Refused`.
pub(super) fn told(attempts: &[Attempt]) -> Vec<String> {
    let words = attempts.iter().map(|attempt| {
        let place = match &attempt.address {
            Some(Address::Ip(addr)) => addr.ip().to_string(),
            Some(Address::Unix(_)) => "unix".to_owned(),
            None => attempt.version.unwrap().to_string(),
        };
        let end = match &attempt.outcome {
            Outcome::Failed(fault) => format!("{:?}", fault.kind),
            other => format!("{other:?}"),
        };
        format!("{place} {} {end}", attempt.phase)
    });
    words.collect()
}

#[tokio::test]
async fn b1_ipv6_is_used_and_ipv4_sees_nothing() {
    let (v6, v4) = listen_on_both();
    let mut cycle = clear(port_of(&v6), PATIENT);
    let dialed = cycle.next().await.unwrap();
    assert_eq!(ip(&dialed), "::1");
    assert_eq!(told(cycle.attempts()), ["::1 ready Won"]);
    v6.accept().await.unwrap();
    let untouched = std::future::poll_fn(|context| {
        std::task::Poll::Ready(v4.poll_accept(context).is_pending())
    });
    assert!(untouched.await);
}

#[tokio::test]
async fn an_established_link_sends_at_once_and_notices_a_dead_peer() {
    for version in [IpVersion::V6, IpVersion::V4] {
        let (v6, v4) = listen_on_both();
        let family = if version == IpVersion::V6 {
            Family::Ipv6
        } else {
            Family::Ipv4
        };
        let dialed = clear(port_of(&v6), Settings { family, ..PATIENT })
            .next()
            .await
            .unwrap();
        let Stream::Tcp(tcp) = &dialed.stream else {
            panic!("not TCP")
        };
        let socket = socket2::SockRef::from(tcp);
        assert!(tcp.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(60)
        );
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(15)
        );
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(90))
        );
        let small = socket.tcp_mss().unwrap() <= 1220;
        assert_eq!(
            small,
            version == IpVersion::V6,
            "loopback's own MSS is far larger"
        );
        drop((v6, v4));
    }
}

#[tokio::test]
async fn b2_a_refusal_is_left_at_once() {
    let (_v6, v4, port) = bound_pair();
    let _v4 = open(v4);
    let mut cycle = clear(port, PATIENT);
    assert_eq!(ip(&cycle.next().await.unwrap()), "127.0.0.1");
    assert_eq!(
        told(cycle.attempts()),
        ["::1 tcp Refused", "127.0.0.1 ready Won"]
    );
}

#[tokio::test]
async fn b3_a_black_hole_is_left_after_the_attempt_delay() {
    let (v6, v4, port) = bound_pair();
    let (_v4, _held) = (open(v4), dig_hole(&v6).await);
    let mut cycle = clear(port, HASTY);
    assert_eq!(ip(&cycle.next().await.unwrap()), "127.0.0.1");
    assert_eq!(
        told(cycle.attempts()),
        ["::1 tcp Outrun", "127.0.0.1 ready Won"]
    );
}

/// Certificate and key for `irc.test`, and an acceptor that shows them.
pub(super) fn identity(folder: &Path, file: &str) -> (Acceptor, Tls) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["irc.test".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let tls = Tls {
        certificate: folder.join(format!("{file}.pem")),
        key: folder.join(format!("{file}.key")),
        made: false,
    };
    std::fs::write(&tls.certificate, certificate.pem()).unwrap();
    std::fs::write(&tls.key, key.serialize_pem()).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&tls.key, mode).unwrap();
    (Acceptor::open(&tls, "irc.test").unwrap(), tls)
}

/// Takes connections and does TLS on each, for as long as the runtime lives.
pub(super) fn serve(listener: TcpListener, acceptor: Acceptor) {
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            kept.push(acceptor.accept(Stream::Tcp(tcp), false).await);
        }
    });
}

pub(super) fn trusting(tls: &Tls) -> Trust {
    Trust {
        ca: Some(tls.certificate.clone()),
        ..Trust::default()
    }
}

#[tokio::test]
async fn b4_a_server_that_never_answers_tls_is_left_after_its_grace() {
    let folder = tempfile::tempdir().unwrap();
    let (acceptor, papers) = identity(folder.path(), "good");
    let (v6, v4) = listen_on_both();
    serve(v4, acceptor);
    // The kernel takes the connection to `v6`; nobody reads it.
    let mut cycle = tls(port_of(&v6), HASTY, trusting(&papers));
    let dialed = cycle.next().await.unwrap();
    assert_eq!(ip(&dialed), "127.0.0.1");
    assert!(dialed.stream.is_tls());
    assert_eq!(
        told(cycle.attempts()),
        ["::1 tls Outrun", "127.0.0.1 ready Won"]
    );
}

#[tokio::test]
async fn b5_a_silent_server_is_left_for_the_other_family_in_the_same_cycle() {
    let (v6, v4) = listen_on_both();
    let mut cycle = clear(port_of(&v6), PATIENT);
    assert_eq!(ip(&cycle.next().await.unwrap()), "::1");
    cycle.reject("said nothing for 10 s");
    assert_eq!(ip(&cycle.next().await.unwrap()), "127.0.0.1");
    let report = cycle.next().await.unwrap_err();
    assert_eq!(
        told(&report.attempts),
        ["::1 ready Silent", "127.0.0.1 ready Silent"]
    );
    let port = port_of(&v4);
    assert_eq!(
        report.to_string(),
        format!("irc.test:{port} [::1]:{port}: said nothing for 10 s")
    );
    assert_eq!(
        cycle.next().await.unwrap_err(),
        report,
        "the end is the end"
    );
}

#[tokio::test]
async fn b6_a_server_that_closes_during_tls_is_left_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (acceptor, papers) = identity(folder.path(), "good");
    let (v6, v4) = listen_on_both();
    let port = port_of(&v6);
    serve(v4, acceptor);
    tokio::spawn(async move { while v6.accept().await.is_ok() {} });
    let mut cycle = tls(port, PATIENT, trusting(&papers));
    assert_eq!(ip(&cycle.next().await.unwrap()), "127.0.0.1");
    assert_eq!(
        told(cycle.attempts()),
        ["::1 tls Tls", "127.0.0.1 ready Won"]
    );
}

#[tokio::test]
async fn b7_a_wrong_certificate_is_left_at_once_and_reported_when_all_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (good, papers) = identity(folder.path(), "good");
    let (bad, _) = identity(folder.path(), "bad");
    let (v6, v4) = listen_on_both();
    let port = port_of(&v6);
    serve(v6, bad);
    let hold = v4.local_addr().unwrap();
    serve(v4, good);
    let mut cycle = tls(port, PATIENT, trusting(&papers));
    assert_eq!(ip(&cycle.next().await.unwrap()), "127.0.0.1");
    assert_eq!(
        told(cycle.attempts()),
        ["::1 tls Certificate", "127.0.0.1 ready Won"]
    );

    let settings = Settings {
        family: Family::Ipv6,
        ..PATIENT
    };
    let report = tls(hold.port(), settings, trusting(&papers))
        .next()
        .await
        .unwrap_err();
    let begin = format!("irc.test:{port} [::1]:{port}: certificate is of an unknown authority");
    assert!(report.to_string().starts_with(&begin), "{report}");
}

#[tokio::test]
async fn b8_what_a_server_says_at_once_is_not_lost() {
    let (v6, _v4) = listen_on_both();
    let mut cycle = clear(port_of(&v6), PATIENT);
    let (dialed, accepted) = tokio::join!(cycle.next(), v6.accept());
    let (mut server, _) = accepted.unwrap();
    server.write_all(b"NOTICE * :hello\r\n").await.unwrap();
    drop(server);
    let mut said = String::new();
    dialed
        .unwrap()
        .stream
        .read_to_string(&mut said)
        .await
        .unwrap();
    assert_eq!(said, "NOTICE * :hello\r\n");
}

#[tokio::test]
async fn b9_when_all_is_silent_the_report_names_every_address() {
    let (v6, v4, port) = bound_pair();
    let _held = (dig_hole(&v6).await, dig_hole(&v4).await);
    let settings = Settings {
        attempt_timeout: Duration::from_millis(20),
        ..HASTY
    };
    let report = clear(port, settings).next().await.unwrap_err();
    assert_eq!(
        told(&report.attempts),
        ["::1 tcp TimedOut", "127.0.0.1 tcp TimedOut"]
    );
    assert_eq!(
        report.to_string(),
        format!("[::1]:{port}: no TCP answer within 20ms")
    );
}

#[tokio::test]
async fn b10_a_late_answer_for_ipv6_does_not_hold_up_ipv4() {
    let (v6, _v4) = listen_on_both();
    let names = names().late("irc.test", IpVersion::V6, HOUR);
    let network = network(vec![server(Scheme::Insecure, "irc.test", port_of(&v6))]);
    let mut cycle = Dialer::new(Arc::new(names)).cycle_with(&network, &by(), HASTY);
    assert_eq!(ip(&cycle.next().await.unwrap()), "127.0.0.1");
}

#[tokio::test]
async fn the_next_server_is_tried_when_the_first_has_no_address() {
    let (v6, _v4) = listen_on_both();
    let servers = vec![
        server(Scheme::Insecure, "gone.test", 1),
        server(Scheme::Insecure, "irc.test", port_of(&v6)),
    ];
    let mut cycle =
        Dialer::new(Arc::new(names())).cycle_with(&network(servers.clone()), &by(), PATIENT);
    let dialed = cycle.next().await.unwrap();
    assert_eq!((ip(&dialed).as_str(), &dialed.server), ("::1", &servers[1]));
    let mut words = told(cycle.attempts());
    words[..2].sort();
    assert_eq!(
        words,
        [
            "IPv4 resolve NoAddress",
            "IPv6 resolve NoAddress",
            "::1 ready Won"
        ]
    );
}

#[tokio::test]
async fn clear_text_without_insecure_stays_on_this_machine_whatever_the_name_says() {
    let far = "192.0.2.1".parse::<IpAddr>().unwrap();
    let names = Fixed::default().with("localhost", &[far]);
    let network = network(vec![server(Scheme::Local, "localhost", 6667)]);
    let mut cycle = Dialer::new(Arc::new(names)).cycle_with(&network, &by(), PATIENT);
    let report = cycle.next().await.unwrap_err();
    assert_eq!(report.fault.kind, FaultKind::Policy);
    assert!(
        report
            .to_string()
            .contains("192.0.2.1:6667: irc:// is for this machine alone"),
        "{report}"
    );

    let (v6, _v4) = listen_on_both();
    let servers = vec![server(Scheme::Local, "::1", port_of(&v6))];
    let network = Network { servers, ..network };
    let mut cycle = Dialer::new(Arc::new(Fixed::default())).cycle_with(&network, &by(), PATIENT);
    assert_eq!(ip(&cycle.next().await.unwrap()), "::1");
}

#[tokio::test]
async fn a_unix_socket_is_dialled_in_whatever_family_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ircd.sock");
    for family in [Family::PreferIpv6, Family::PreferIpv4, Family::Ipv4] {
        let listener = UnixListener::bind(&path).unwrap();
        let network = network(vec![ServerAddr::Unix(path.clone())]);
        let settings = Settings { family, ..PATIENT };
        let mut cycle =
            Dialer::new(Arc::new(Fixed::default())).cycle_with(&network, &by(), settings);
        let dialed = cycle.next().await.unwrap();
        assert!(matches!(dialed.stream, Stream::Unix(_)));
        assert_eq!(told(cycle.attempts()), ["unix ready Won"]);
        drop(listener);
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn a_trust_that_cannot_be_read_is_the_report() {
    let (v6, _v4) = listen_on_both();
    let trust = Trust {
        ca: Some("/nonexistent/ca.pem".into()),
        ..Trust::default()
    };
    let report = tls(port_of(&v6), PATIENT, trust).next().await.unwrap_err();
    assert_eq!(report.fault.kind, FaultKind::Policy);
    assert!(
        report
            .to_string()
            .contains("cannot read /nonexistent/ca.pem"),
        "{report}"
    );
}

#[tokio::test]
async fn dialling_survives_being_interrupted_at_every_step() {
    let folder = tempfile::tempdir().unwrap();
    let (acceptor, papers) = identity(folder.path(), "good");
    let (_v6, v4, port) = bound_pair();
    serve(open(v4), acceptor);
    let mut cycle = tls(port, PATIENT, trusting(&papers));
    let dialed = loop {
        tokio::select! {
            biased;
            dialed = cycle.next() => break dialed,
            () = tokio::task::yield_now() => {}
        }
    };
    assert_eq!(ip(&dialed.unwrap()), "127.0.0.1");
    assert_eq!(
        told(cycle.attempts()),
        ["::1 tcp Refused", "127.0.0.1 ready Won"]
    );
}

#[tokio::test]
async fn a_dropped_cycle_closes_what_is_under_way() {
    let (v6, _v4) = listen_on_both();
    let none = Trust {
        verify: Verify::None,
        ..Trust::default()
    };
    let mut cycle = tls(port_of(&v6), PATIENT, none);
    let mut taken = tokio::select! {
        taken = v6.accept() => taken.unwrap().0,
        _ = cycle.next() => panic!("nobody answers TLS"),
    };
    drop(cycle);
    let mut hello = Vec::new();
    // The TLS greeting may have come or not; what counts is the end.
    taken.read_to_end(&mut hello).await.unwrap();
}

#[tokio::test]
async fn turns_at_one_host_are_shared_by_all_cycles() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // This address leads to loopback, but is none: the only one of that kind on every host.
    let mut network = network(vec![server(
        Scheme::Insecure,
        "0.0.0.0",
        port_of(&listener),
    )]);
    let every = Duration::from_millis(30);
    network.dial.pace = Rate { burst: 1, every };
    let dialer = Dialer::new(Arc::new(Fixed::default()));
    let begun = Instant::now();
    for _ in 0..2 {
        let mut cycle = dialer.cycle_with(&network, &by(), PATIENT);
        assert_eq!(ip(&cycle.next().await.unwrap()), "0.0.0.0");
    }
    assert!(begun.elapsed() >= every);
}
