//! Real sockets on this host, and hosts that are poorer than it.

use std::net::TcpListener as StdTcpListener;

use std::path::PathBuf;

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::super::resolve::Fixed;
use super::super::{Peer, Stream};
use super::*;
use crate::config::Scheme;

fn options() -> Options {
    Options::new(&Dial::default())
}

async fn open_listens(
    listens: &[Listen],
    resolver: &dyn Resolve,
) -> Result<Vec<Listener>, ListenError> {
    open(&plan_all(listens, resolver).await?, &[], options()).await
}

/// On a host of ours.
async fn open_there(
    host: &dyn Host,
    sockets: &[Planned],
) -> Result<(Vec<Listener>, Vec<String>), ListenError> {
    open_on(host, sockets, &[], options()).await
}

fn listen(host: ListenHost) -> Listen {
    Listen {
        written: "as written".to_owned(),
        manner: Scheme::Insecure.into(),
        host,
    }
}

fn v6(port: u16) -> Listen {
    listen(ListenHost::AnyIpv6 { port, only: false })
}

fn v4(port: u16) -> Listen {
    listen(ListenHost::AnyIpv4 { port })
}

fn planned(place: Place) -> Planned {
    let scheme = Scheme::Insecure;
    let manner = scheme.into();
    Planned { place, manner }
}

async fn open_all(listens: &[Listen]) -> Result<Vec<Listener>, String> {
    let opened = open_listens(listens, &Fixed::default()).await;
    opened.map_err(|error| error.to_string())
}

/// The one listener of one address.
async fn open_single(listen: Listen) -> Listener {
    let mut list = open_all(&[listen]).await.unwrap();
    assert_eq!(list.len(), 1);
    list.remove(0)
}

fn port(listener: &Listener) -> u16 {
    listener.local_addr().unwrap().port()
}

/// A client's address as the listener sees it; the client itself must be alive until then.
async fn seen(listener: &Listener, address: &str) -> (Stream, Peer, TcpStream) {
    let client = TcpStream::connect((address, port(listener))).await.unwrap();
    let (stream, peer) = listener.accept().await;
    (stream, peer, client)
}

#[tokio::test]
async fn one_socket_takes_both_families_and_sees_canonical_addresses() {
    let listener = open_single(v6(0)).await;
    let text = listener.to_string();
    assert_eq!(
        text,
        format!("[::]:{} (IPv6 and IPv4), clear text", port(&listener))
    );
    for address in ["::1", "127.0.0.1"] {
        let (_, peer, _client) = seen(&listener, address).await;
        assert_eq!(peer.ip().unwrap().to_string(), address);
    }
}

#[tokio::test]
async fn accepted_sockets_send_at_once_and_notice_dead_peers() {
    for address in ["::1", "127.0.0.1"] {
        let listener = open_single(v6(0)).await;
        let (stream, _, _client) = seen(&listener, address).await;
        let Stream::Tcp(tcp) = stream else {
            panic!("not TCP")
        };
        assert!(tcp.nodelay().unwrap());
        let socket = SockRef::from(&tcp);
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(300)
        );
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(180))
        );
    }
}

#[tokio::test]
async fn both_wildcards_share_a_port_in_either_order() {
    for turned in [false, true] {
        // The port may be taken by somebody else between its choice and its use.
        let mut tries = 0;
        let list = loop {
            let free = port(&open_single(v6(0)).await);
            let both = if turned {
                [v4(free), v6(free)]
            } else {
                [v6(free), v4(free)]
            };
            match open_all(&both).await {
                Ok(list) => break list,
                Err(_) if tries < 20 => tries += 1,
                Err(error) => panic!("{error}"),
            }
        };
        let [first, second] = &list[..] else {
            panic!("two sockets")
        };
        assert_eq!(port(first), port(second));
        for (listener, wildcard) in [(first, !turned), (second, turned)] {
            let address = if wildcard { "::1" } else { "127.0.0.1" };
            assert_eq!(
                listener.to_string().contains("(IPv6)"),
                wildcard,
                "{listener}"
            );
            let (_, peer, _client) = seen(listener, address).await;
            assert_eq!(peer.ip().unwrap().to_string(), address);
        }
    }
}

#[tokio::test]
async fn ports_chosen_by_the_system_are_reported_also_beside_others() {
    let list = open_all(&[v6(0), v4(0), v6(0)]).await.unwrap();
    let mut ports: Vec<u16> = list.iter().map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() >= 2 && !ports.contains(&0), "{ports:?}");
    assert!(list[0].to_string().contains("(IPv6 and IPv4)"));
}

#[tokio::test]
async fn a_port_that_is_taken_names_the_side() {
    let taken = StdTcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = format!(
        "cannot listen on [::]:{port}: the IPv4 side of the port is in use by another process (the IPv6 side is \
         free); stop it, choose another port, or listen on one family: [::]:{port}?v6only"
    );
    assert_eq!(open_all(&[v6(port)]).await.unwrap_err(), text);

    let dual = open_single(v6(0)).await;
    let port = dual.local_addr().unwrap().port();
    let text = format!(
        "cannot listen on [::]:{port}: the port is in use by another process; stop it, or choose another port"
    );
    assert_eq!(open_all(&[v6(port)]).await.unwrap_err(), text);

    let only = open_single(listen(ListenHost::AnyIpv6 {
        port: 0,
        only: true,
    }))
    .await;
    let port = only.local_addr().unwrap().port();
    let error = open_all(&[v6(port)]).await.unwrap_err();
    assert!(
        error.contains("the IPv6 side of the port is in use"),
        "{error}"
    );
    assert!(error.ends_with(&format!("*:{port}")), "{error}");
}

#[tokio::test]
async fn a_name_listens_on_every_address_it_has() {
    let addresses = ["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    let names = Fixed::default().with("here.test", &addresses);
    let name = listen(ListenHost::Name {
        name: "here.test".to_owned(),
        port: 0,
    });
    let list = open_listens(&[name], &names).await.unwrap();
    let found: Vec<_> = list
        .iter()
        .map(|one| one.local_addr().unwrap().ip())
        .collect();
    assert_eq!(found, addresses);
}

fn system() -> System {
    System(Sockets::of_process())
}

/// A host without IPv6, as after `ipv6.disable=1`.
struct NoIpv6;

impl Host for NoIpv6 {
    fn socket(&self, domain: Domain) -> io::Result<Socket> {
        if domain == Domain::IPV6 {
            return Err(rustix::io::Errno::AFNOSUPPORT.into());
        }
        system().socket(domain)
    }

    fn make_dual(&self, socket: &Socket) -> bool {
        system().make_dual(socket)
    }

    fn ipv6_is_disabled(&self) -> bool {
        false
    }

    fn passed(&self) -> &Sockets {
        Sockets::of_process()
    }
}

#[tokio::test]
async fn without_ipv6_the_wildcard_serves_ipv4_and_says_so() {
    let (list, warnings) = open_there(&NoIpv6, &[planned(Place::Dual(0))])
        .await
        .unwrap();
    assert!(list[0].local_addr().unwrap().is_ipv4());
    let text = format!(
        "listening on 0.0.0.0:{} only: this system has no IPv6 (address family not supported)",
        port(&list[0])
    );
    assert_eq!(warnings, [text]);
    let (_, peer, _client) = seen(&list[0], "127.0.0.1").await;
    assert!(peer.is_local());
}

#[tokio::test]
async fn without_ipv6_a_pair_goes_on_and_one_address_fails() {
    let pair = [
        planned(Place::Ip("[::]:0".parse().unwrap())),
        planned(Place::Ip("0.0.0.0:0".parse().unwrap())),
    ];
    let (list, warnings) = open_there(&NoIpv6, &pair).await.unwrap();
    assert_eq!((list.len(), warnings.len()), (1, 1));
    let one = [planned(Place::Ip("[::1]:0".parse().unwrap()))];
    let error = open_there(&NoIpv6, &one).await.unwrap_err().to_string();
    let text = "cannot listen on [::1]:0: this system has no IPv6 (address family not supported)";
    assert_eq!(error, text);
}

/// A host whose IPv6 sockets never take IPv4, as OpenBSD's.
struct NeverDual;

impl Host for NeverDual {
    fn socket(&self, domain: Domain) -> io::Result<Socket> {
        system().socket(domain)
    }

    fn make_dual(&self, _: &Socket) -> bool {
        false
    }

    fn ipv6_is_disabled(&self) -> bool {
        false
    }

    fn passed(&self) -> &Sockets {
        Sockets::of_process()
    }
}

#[tokio::test]
async fn where_no_socket_takes_both_families_there_are_two_on_one_port() {
    let (list, warnings) = open_there(&NeverDual, &[planned(Place::Dual(0))])
        .await
        .unwrap();
    assert_eq!((list.len(), warnings.len()), (2, 0));
    assert_eq!(port(&list[0]), port(&list[1]));
    for (listener, address) in list.iter().zip(["::1", "127.0.0.1"]) {
        let (_, peer, _client) = seen(listener, address).await;
        assert_eq!(peer.ip().unwrap().to_string(), address);
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_not_ours_is_awaited_for_half_a_minute() {
    let begun = Instant::now();
    let host = ListenHost::Address {
        ip: "2001:db8::5".parse().unwrap(),
        scope: None,
        port: 6697,
    };
    let error = open_all(&[listen(host)]).await.unwrap_err();
    let text = "cannot listen on [2001:db8::5]:6697: the address is not configured on any interface (yet); set \
                dial.freebind = true to bind it beforehand";
    assert_eq!(error, text);
    assert_eq!(begun.elapsed(), APPEARANCE);
}

#[tokio::test(start_paused = true)]
async fn those_that_can_be_opened_do_not_wait_for_the_others() {
    let late = Place::Ip("[2001:db8::5]:0".parse().unwrap());
    let sockets = [
        planned(late),
        planned(Place::Ip("[::1]:0".parse().unwrap())),
    ];
    let begun = Instant::now();
    let error = open_there(&system(), &sockets).await.unwrap_err();
    assert!(matches!(error, ListenError::NotOurs { .. }), "{error}");
    assert_eq!(begun.elapsed(), APPEARANCE);
    // At a reload an address that is not there must not hold up what is open.
    let begun = Instant::now();
    let opened = open_on(&system(), &sockets, &[], options().at_once()).await;
    assert!(opened.is_err());
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn freebind_takes_addresses_that_are_not_there_yet() {
    let mut options = options();
    options.freebind = true;
    for address in ["[2001:db8::5]:0", "192.0.2.5:0"] {
        let place = Place::Ip(address.parse().unwrap());
        let (list, _) = open_on(&system(), &[planned(place)], &[], options)
            .await
            .unwrap();
        assert_eq!(
            list[0].local_addr().unwrap().ip(),
            address.parse::<SocketAddr>().unwrap().ip()
        );
    }
}

#[tokio::test]
async fn the_segment_size_of_ipv6_is_as_configured() {
    let mss = async |ipv6_mss: u32| {
        let options = Options {
            ipv6_mss,
            ..options()
        };
        let one = planned(Place::Ip("[::1]:0".parse().unwrap()));
        let (list, _) = open_on(&system(), &[one], &[], options).await.unwrap();
        let (stream, _, _client) = seen(&list[0], "::1").await;
        let Stream::Tcp(tcp) = stream else {
            panic!("not TCP")
        };
        SockRef::from(&tcp).tcp_mss().unwrap()
    };
    assert!(mss(1220).await <= 1220);
    assert!(mss(0).await > 1220);
}

#[tokio::test(start_paused = true)]
async fn an_interface_is_awaited_for_half_a_minute() {
    let host = ListenHost::Address {
        ip: "fe80::1".parse().unwrap(),
        scope: Some("no-such-if".to_owned()),
        port: 6697,
    };
    let begun = Instant::now();
    let error = open_all(&[listen(host)]).await.unwrap_err();
    assert_eq!(
        error,
        "cannot listen on as written: no interface named \"no-such-if\""
    );
    assert_eq!(begun.elapsed(), APPEARANCE);
}

#[tokio::test(start_paused = true)]
async fn a_name_without_address_is_an_error_at_once() {
    let name = listen(ListenHost::Name {
        name: "nowhere.test".to_owned(),
        port: 0,
    });
    let begun = Instant::now();
    let error = open_all(&[name]).await.unwrap_err();
    assert_eq!(
        error,
        "cannot listen on as written: nowhere.test has no address"
    );
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

/// A host whose interfaces go without IPv6.
struct Disabled;

impl Host for Disabled {
    fn socket(&self, domain: Domain) -> io::Result<Socket> {
        system().socket(domain)
    }

    fn make_dual(&self, socket: &Socket) -> bool {
        system().make_dual(socket)
    }

    fn ipv6_is_disabled(&self) -> bool {
        true
    }

    fn passed(&self) -> &Sockets {
        Sockets::of_process()
    }
}

#[tokio::test]
async fn where_ipv6_is_disabled_that_is_said() {
    let (list, warnings) = open_there(&Disabled, &[planned(Place::Dual(0))])
        .await
        .unwrap();
    assert_eq!(list.len(), 1);
    let text = "listening on [::]:0, but IPv6 is disabled on this host (net.ipv6.conf.all.disable_ipv6 = 1): only IPv4 \
                clients can connect";
    assert_eq!(warnings, [text]);
    let only = planned(Place::Ip("[::]:0".parse().unwrap()));
    let (_, warnings) = open_there(&Disabled, &[only]).await.unwrap();
    assert!(warnings[0].ends_with("nobody can connect"), "{warnings:?}");
    let (_, warnings) = open_there(
        &Disabled,
        &[planned(Place::Ip("127.0.0.1:0".parse().unwrap()))],
    )
    .await
    .unwrap();
    assert!(warnings.is_empty());
    let one = planned(Place::Ip("[2001:db8::5]:6697".parse().unwrap()));
    let error = open_there(&Disabled, &[one]).await.unwrap_err().to_string();
    let text = "cannot listen on [2001:db8::5]:6697: IPv6 is disabled on this host (net.ipv6.conf.all.disable_ipv6 = 1)";
    assert_eq!(error, text);
}

/// A host that passed sockets to us.
struct Passing(Sockets);

impl Host for Passing {
    fn socket(&self, domain: Domain) -> io::Result<Socket> {
        system().socket(domain)
    }

    fn make_dual(&self, socket: &Socket) -> bool {
        system().make_dual(socket)
    }

    fn ipv6_is_disabled(&self) -> bool {
        false
    }

    fn passed(&self) -> &Sockets {
        &self.0
    }
}

/// A listening IPv6 wildcard, as systemd makes it.
fn wildcard(only_v6: bool) -> std::os::fd::OwnedFd {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_only_v6(only_v6).unwrap();
    let addr: SocketAddr = "[::]:0".parse().unwrap();
    socket.bind(&SockAddr::from(addr)).unwrap();
    socket.listen(16).unwrap();
    socket.into()
}

fn passing(sockets: Vec<(&str, std::os::fd::OwnedFd)>) -> (Passing, Vec<Planned>) {
    let sockets = sockets.into_iter().map(|(name, fd)| (name.to_owned(), fd));
    let sockets = Sockets::new(sockets);
    let plan = sockets
        .all()
        .map(|one| planned(Place::Passed(one.clone())))
        .collect();
    (Passing(sockets), plan)
}

#[tokio::test]
async fn sockets_from_systemd_are_used_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passed.sock");
    let unix = StdUnixListener::bind(&path).unwrap();
    let (host, plan) = passing(vec![("irc", wildcard(false)), ("local", unix.into())]);
    let (list, warnings) = open_there(&host, &plan).await.unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let port = port(&list[0]);
    let text = format!("[::]:{port} (IPv6 and IPv4), clear text, from systemd as \"irc\"");
    assert_eq!(list[0].to_string(), text);
    for address in ["::1", "127.0.0.1"] {
        let (_, peer, _client) = seen(&list[0], address).await;
        assert_eq!(peer.ip().unwrap().to_string(), address);
    }
    assert_eq!(list[1].to_string(), "systemd:local");
    let _client = UnixStream::connect(&path).await.unwrap();
    let (stream, _) = list[1].accept().await;
    assert!(matches!(stream, Stream::Unix(_)));
    drop(list);
    assert!(path.exists(), "the file is systemd's");
    // A reload takes them again.
    let (list, _) = open_there(&host, &plan).await.unwrap();
    let (_, peer, _client) = seen(&list[0], "127.0.0.1").await;
    assert!(peer.is_local());
}

#[tokio::test]
async fn a_socket_from_systemd_for_ipv6_alone_is_warned_about() {
    let (host, plan) = passing(vec![("irc", wildcard(true))]);
    let (list, warnings) = open_there(&host, &plan).await.unwrap();
    let port = port(&list[0]);
    let text = format!(
        "systemd:irc is [::]:{port} for IPv6 alone: no IPv4 client can connect; write BindIPv6Only=both in the socket \
         unit, or listen on *:{port} too"
    );
    assert_eq!(warnings, [text]);
    // A sibling on the same port serves the others, wherever it came from.
    let v4 = Planned {
        place: Place::Ip((Ipv4Addr::UNSPECIFIED, port).into()),
        manner: Scheme::Insecure.into(),
    };
    let (_, warnings) = open_on(&host, &plan, &[v4], options()).await.unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
}

fn unix(folder: &tempfile::TempDir) -> (PathBuf, Listen) {
    let path = folder.path().join("irc.sock");
    (path.clone(), listen(ListenHost::Unix(path)))
}

#[tokio::test]
async fn a_unix_socket_is_for_owner_and_group_and_knows_its_peer() {
    let folder = tempfile::tempdir().unwrap();
    let (path, listen) = unix(&folder);
    let listener = open_single(listen).await;
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(listener.to_string(), format!("unix:{}", path.display()));
    let _client = UnixStream::connect(&path).await.unwrap();
    let (stream, peer) = listener.accept().await;
    assert!(matches!(stream, Stream::Unix(_)));
    let uid = Some(rustix::process::getuid().as_raw());
    assert_eq!(peer, Peer::Unix { uid });
    drop(listener);
    assert!(!path.exists(), "the file goes with the listener");
}

#[tokio::test]
async fn only_a_stale_unix_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (path, listen) = unix(&folder);
    // What a killed process leaves behind: nobody listens.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let alive = open_single(listen.clone()).await;
    let error = open_all(std::slice::from_ref(&listen)).await.unwrap_err();
    assert!(error.ends_with("another process listens there"), "{error}");

    // Somebody else's socket took the place: ours leaves it alone.
    fs::remove_file(&path).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(alive);
    assert!(path.exists());

    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    let error = open_all(&[listen]).await.unwrap_err();
    assert!(
        error.ends_with("there is a file that is not a socket; move it away"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}
