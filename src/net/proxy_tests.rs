//! Headers of both versions, whole, in pieces, wrong, and any bytes at all.

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

/// A header of version 2 with these addresses and additions.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

fn endpoints_of(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    for addr in [source, destination] {
        match addr.ip() {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(destination.port().to_be_bytes());
    bytes
}

fn client_of(bytes: &[u8]) -> Result<Option<SocketAddr>, String> {
    match parse(bytes) {
        Ok(Parsed::Header { length, client }) => {
            assert_eq!(length, bytes.len());
            Ok(client)
        }
        Ok(Parsed::Part) => Err("a part".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn version_1_tells_the_client() {
    let rows = [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 6697",
            Some("192.0.2.1:56324"),
        ),
        (
            "PROXY TCP6 2001:db8::1 2001:db8::2 0 65535",
            Some("[2001:db8::1]:0"),
        ),
        (
            "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2",
            Some("[::ffff:192.0.2.1]:1"),
        ),
        ("PROXY UNKNOWN", None),
        ("PROXY UNKNOWN ffff::1 what ever 1 2", None),
    ];
    for (line, client) in rows {
        let found = client_of(format!("{line}\r\n").as_bytes());
        assert_eq!(found, Ok(client.map(addr)), "{line}");
    }
}

#[test]
fn version_1_is_taken_by_the_letter() {
    for line in [
        "PROXY ",
        "PROXY TCP5 ::1 ::1 1 2",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1 2",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 ",
        "PROXY TCP4 192.0.2.1  192.0.2.2 1 2",
        "PROXY TCP4 ::1 ::1 1 2",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 -2",
        "PROXY TCP4 192.0.2.1 localhost 1 2",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2",
        "PROXY TCP6 [::1] ::1 1 2",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
    ] {
        let error = client_of(format!("{line}\r\n").as_bytes()).unwrap_err();
        assert!(
            error.starts_with("the PROXY header is wrong: "),
            "{line}: {error}"
        );
    }
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    let error = client_of(endless.as_bytes()).unwrap_err();
    assert_eq!(error, "the PROXY header is wrong: its line has no end");
}

#[test]
fn version_2_tells_the_client() {
    let rows = [
        (0x11, "192.0.2.1:56324", "198.51.100.1:6697"),
        (0x21, "[2001:db8::1]:1", "[2001:db8::2]:2"),
        (0x21, "[::ffff:192.0.2.1]:7", "[::1]:6697"),
    ];
    for (family, source, destination) in rows {
        let mut bytes = endpoints_of(addr(source), addr(destination));
        assert_eq!(client_of(&v2(0x21, family, &bytes)), Ok(Some(addr(source))));
        // What stands behind the addresses is more about the connection, and skipped.
        bytes.extend([0x20, 0, 3, 1, 2, 3]);
        assert_eq!(client_of(&v2(0x21, family, &bytes)), Ok(Some(addr(source))));
    }
    for (command, family) in [
        (0x20, 0x00),
        (0x20, 0x11),
        (0x20, 0xff),
        (0x21, 0x00),
        (0x21, 0x31),
    ] {
        assert_eq!(client_of(&v2(command, family, b"")), Ok(None));
        assert_eq!(client_of(&v2(command, family, &[7; 300])), Ok(None));
    }
}

#[test]
fn version_2_is_refused_when_it_makes_no_sense() {
    let bytes = endpoints_of(addr("192.0.2.1:1"), addr("192.0.2.2:2"));
    let rows = [
        (v2(0x21, 0x11, &bytes[..11]), "too short for its addresses"),
        (v2(0x21, 0x21, &bytes), "too short for its addresses"),
        (v2(0x21, 0x12, &bytes), "not TCP"),
        (v2(0x21, 0x41, &bytes), "not TCP"),
        (
            v2(0x22, 0x11, &bytes),
            "neither version 2 nor a known command",
        ),
        (
            v2(0x11, 0x11, &bytes),
            "neither version 2 nor a known command",
        ),
        (v2(0x21, 0x11, &[0; 5000]), "longer than 4096 bytes"),
    ];
    for (header, reason) in rows {
        let error = client_of(&header).unwrap_err();
        assert_eq!(error, format!("the PROXY header is wrong: {reason}"));
    }
}

#[test]
fn what_is_no_header_is_known_by_its_first_wrong_byte() {
    for bytes in [
        &b"CAP LS 302\r\n"[..],
        b"\x16\x03\x01",
        b"proxy TCP4",
        b"PROXYTCP4",
        b"\r\n\r\n\r\n",
        b"\n",
    ] {
        assert!(
            matches!(parse(bytes), Err(ProxyError::NoHeader)),
            "{bytes:?}"
        );
    }
    for bytes in [&b""[..], b"P", b"\r", b"PROXY", b"\r\n\r\n\0\r\nQUIT\n"] {
        assert!(matches!(parse(bytes), Ok(Parsed::Part)), "{bytes:?}");
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    client.set_nodelay(true).unwrap();
    (client, listener.accept().await.unwrap().0)
}

/// Both versions, each with the client it tells.
fn samples() -> [(Vec<u8>, SocketAddr); 2] {
    let (source, destination) = (addr("[2001:db8::7]:4000"), addr("[::1]:6697"));
    let mut bytes = endpoints_of(source, destination);
    bytes.extend([4, 3, 0xe8].iter().chain(&[0; 1000]));
    [
        (
            b"PROXY TCP4 192.0.2.7 192.0.2.8 4000 6697\r\n".to_vec(),
            addr("192.0.2.7:4000"),
        ),
        (v2(0x21, 0x21, &bytes), source),
    ]
}

#[tokio::test]
async fn not_a_byte_is_taken_beyond_the_header() {
    for (header, expected) in samples() {
        let (mut proxy, mut here) = pair().await;
        proxy
            .write_all(&[&header[..], b"NICK a\r\n"].concat())
            .await
            .unwrap();
        assert_eq!(read(&mut here).await.unwrap(), Some(expected));
        let mut rest = [0; 8];
        here.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"NICK a\r\n");
    }
}

#[tokio::test]
async fn a_header_may_come_byte_by_byte() {
    for (header, expected) in samples() {
        let (mut proxy, mut here) = pair().await;
        let send = async {
            for byte in &header {
                proxy.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            proxy.write_all(b"x").await.unwrap();
        };
        let (read, ()) = tokio::join!(read(&mut here), send);
        assert_eq!(read.unwrap(), Some(expected));
        assert_eq!(here.read_u8().await.unwrap(), b'x');
    }
}

#[tokio::test]
async fn a_header_that_ends_too_early_is_an_error() {
    for (header, _) in samples() {
        let (mut proxy, mut here) = pair().await;
        proxy.write_all(&header[..header.len() - 1]).await.unwrap();
        drop(proxy);
        let error = read(&mut here).await.unwrap_err();
        assert!(matches!(error, ProxyError::Lost(_)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_come_is_waited_for_five_seconds() {
    let (mut proxy, mut here) = pair().await;
    proxy.write_all(b"PROXY TCP4 ").await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = read(&mut here).await.unwrap_err();
    assert!(matches!(error, ProxyError::TimedOut), "{error}");
    assert_eq!(begun.elapsed(), DEADLINE);
}

fn any_header() -> impl Strategy<Value = (Vec<u8>, Option<SocketAddr>)> {
    let v1 = (any::<IpAddr>(), any::<[u16; 2]>()).prop_map(|(ip, [a, b])| {
        let family = if ip.is_ipv4() { "TCP4" } else { "TCP6" };
        let line = format!("PROXY {family} {ip} {ip} {a} {b}\r\n");
        (line.into_bytes(), Some(SocketAddr::new(ip, a)))
    });
    let more = prop::collection::vec(any::<u8>(), 0..600);
    let version_2 = (any::<IpAddr>(), any::<u16>(), more, any::<bool>()).prop_map(
        |(ip, port, more, is_local)| {
            let family = if ip.is_ipv4() { 0x11 } else { 0x21 };
            let client = SocketAddr::new(ip, port);
            let rest = [endpoints_of(client, client), more].concat();
            let command = if is_local { 0x20 } else { 0x21 };
            (v2(command, family, &rest), (!is_local).then_some(client))
        },
    );
    prop_oneof![v1, version_2]
}

proptest! {
    #[test]
    fn headers_are_read_whole_whatever_follows((header, client) in any_header(), after in prop::collection::vec(any::<u8>(), 0..50)) {
        let length = header.len();
        let all = [header, after].concat();
        prop_assert_eq!(parse(&all).unwrap(), Parsed::Header { length, client });
        for end in 0..length {
            prop_assert_eq!(parse(&all[..end]).unwrap(), Parsed::Part);
        }
    }

    #[test]
    fn any_bytes_are_a_header_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200), begin in 0usize..4) {
        let begin: &[u8] = [&b""[..], b"PROXY ", b"PROXY TCP6 ", SIGNATURE][begin];
        let all = [begin, &bytes].concat();
        if let Ok(Parsed::Header { length, .. }) = parse(&all) {
            prop_assert!(length <= all.len() && length <= LONGEST);
        }
    }
}
