//! What proxies say of the clients they speak for: read, believed from those alone who are listed, and judged.

use super::*;

fn header_v1(client: &str) -> String {
    let client: SocketAddr = client.parse().unwrap();
    let (ip, port) = (client.ip(), client.port());
    let (family, here) = match ip {
        IpAddr::V4(_) => ("TCP4", "127.0.0.1"),
        IpAddr::V6(_) => ("TCP6", "::1"),
    };
    format!("PROXY {family} {ip} {here} {port} 6697\r\n")
}

/// The header of version 2 for a client over IPv6.
fn header_v2(client: &str) -> Vec<u8> {
    let client: std::net::SocketAddrV6 = client.parse().unwrap();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    header.extend(client.ip().octets());
    header.extend(Ipv6Addr::LOCALHOST.octets());
    header.extend(client.port().to_be_bytes());
    header.extend(6697u16.to_be_bytes());
    header
}

/// A daemon behind a proxy on this machine, with these limits.
async fn behind_proxy(limits: &str) -> Daemon {
    let server = "proxies = [\"loopback\"]\ndeny = [\"198.51.100.0/24\"]";
    Daemon::start(&format!("{limits}{}", config(ANY, server))).await
}

/// What a client gets to hear for whom a proxy speaks, or that it gets in.
async fn proxied(daemon: &Daemon, client: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(daemon.addr()).await.unwrap();
    stream
        .write_all(header_v1(client).as_bytes())
        .await
        .unwrap();
    // It may be refused before this is read.
    let _ = stream.write_all(b"CAP LS 302\r\n").await;
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n") {
        match in_time("an answer", stream.read_u8()).await {
            Ok(byte) => heard.push(byte),
            Err(_) => break,
        }
    }
    let heard = String::from_utf8(heard).unwrap();
    let heard = if heard.contains("CAP") {
        "in".to_owned()
    } else {
        heard
    };
    (stream, heard)
}

#[tokio::test]
async fn clients_behind_a_proxy_are_counted_by_their_own_address() {
    let limits = "[limits]\nper_address = 2\nconnects_per_address = { burst = 0 }\n";
    let daemon = behind_proxy(limits).await;
    let mut waiting = Vec::new();
    for n in 0..50 {
        for client in [format!("192.0.2.{n}:1"), format!("[2001:db8:{n}::1]:1")] {
            let (stream, heard) = proxied(&daemon, &client).await;
            assert_eq!(heard, "in", "{client}");
            waiting.push(stream);
        }
    }
    // A second one each, a third not; IPv6 by /64 and, four times as many, by /56.
    for (client, expected) in [
        ("192.0.2.7:2", true),
        ("192.0.2.7:3", false),
        ("[::ffff:192.0.2.7]:4", false),
        ("[64:ff9b::192.0.2.7]:5", false),
        ("[2001:db8:7::2]:2", true),
        ("[2001:db8:7::3]:3", false),
        ("[2001:db8:7:1::1]:4", true),
        ("[2001:db8:7:1::2]:4", true),
        ("[2001:db8:7:1::3]:4", false),
        ("[2001:db8:7:2::1]:4", true),
        ("[2001:db8:7:3::1]:4", true),
        ("[2001:db8:7:4::1]:4", true),
        ("[2001:db8:7:5::1]:4", true),
        ("[2001:db8:7:6::1]:4", false),
        ("[2001:db8:7:100::1]:4", true),
    ] {
        let (stream, heard) = proxied(&daemon, client).await;
        assert_eq!(heard == "in", expected, "{client}: {heard}");
        waiting.push(stream);
    }
}

#[tokio::test]
async fn a_reload_changes_limits() {
    let limits =
        |n| format!("[limits]\nper_address = {n}\nconnects_per_address = {{ burst = 0 }}\n");
    let mut daemon = behind_proxy(&limits(1)).await;
    let _first = proxied(&daemon, "192.0.2.1:1").await;
    assert!(
        proxied(&daemon, "192.0.2.1:2")
            .await
            .1
            .contains("too many connections")
    );
    daemon.configure(&format!(
        "{}{}",
        limits(2),
        config(ANY, "proxies = [\"loopback\"]")
    ));
    daemon.reload();
    reloaded(&mut daemon, 1).await;
    assert_eq!(proxied(&daemon, "192.0.2.1:3").await.1, "in");
}

#[tokio::test]
async fn whom_a_proxy_speaks_for_is_known_by_his_canonical_address() {
    let mut daemon = behind_proxy("").await;
    for (header, shown) in [
        (header_v1("192.0.2.1:4001").into_bytes(), "192.0.2.1:4001"),
        (
            header_v1("[2001:db8::1]:4002").into_bytes(),
            "[2001:db8::1]:4002",
        ),
        (header_v2("[::ffff:192.0.2.3]:4003"), "192.0.2.3:4003"),
        (header_v2("[2001:db8::4]:4004"), "[2001:db8::4]:4004"),
    ] {
        for addr in [daemon.addr(), daemon.addr_v4()] {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let login = format!("PASS apw:{PASSWORD}\r\nNICK zed\r\nUSER zed 0 * :Zed\r\n");
            let all = [&header[..], login.as_bytes()].concat();
            stream.write_all(&all).await.unwrap();
            let mut heard = String::new();
            while !heard.contains(" 001 ") {
                let mut some = [0; 512];
                let n = in_time("the welcome", stream.read(&mut some))
                    .await
                    .unwrap();
                assert!(n > 0, "{heard}");
                heard.push_str(&String::from_utf8_lossy(&some[..n]));
            }
        }
        daemon.logged_times(&format!("peer={shown}"), 2).await;
    }
    assert!(!daemon.log().join("\n").contains("::ffff:"));
}

#[tokio::test]
async fn a_header_comes_before_tls() {
    let server = "proxies = [\"loopback\"]";
    let mut daemon = Daemon::start(&config("[\"ircs://[::]:0\"]", server)).await;
    let mut stream = TcpStream::connect(daemon.addr()).await.unwrap();
    stream
        .write_all(&header_v2("[::ffff:192.0.2.9]:4009"))
        .await
        .unwrap();
    let name = rustls::pki_types::ServerName::from(daemon.addr().ip());
    let tls = tokio_rustls::TlsConnector::from(support::tls::client(None));
    let mut stream = in_time("TLS", tls.connect(name, stream)).await.unwrap();
    let login = format!("PASS apw:{PASSWORD}\r\nNICK zed\r\nUSER zed 0 * :Zed\r\n");
    stream.write_all(login.as_bytes()).await.unwrap();
    daemon.logged("peer=192.0.2.9:4009").await;
}

#[tokio::test]
async fn what_a_proxy_says_is_believed_only_when_it_is_right() {
    let mut daemon = behind_proxy("").await;
    for wrong in [
        &b"CAP LS 302\r\n"[..],
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP9 192.0.2.1 192.0.2.2 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04abcd",
        b"\x16\x03\x01\x02\0",
    ] {
        assert_eq!(answer(daemon.addr(), wrong).await, "", "{wrong:?}");
    }
    daemon
        .logged("which is in server.proxies: what came is no PROXY header")
        .await;
    // Whom it speaks for is judged by the same lists, and it itself when it speaks for nobody.
    let refused = "ERROR :Closing link: your address may not connect here\r\n";
    assert_eq!(proxied(&daemon, "198.51.100.7:1").await.1, refused);
    assert_eq!(proxied(&daemon, "[::ffff:198.51.100.7]:1").await.1, refused);
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0CAP LS 302\r\n";
    for own in [&local[..], b"PROXY UNKNOWN\r\nCAP LS 302\r\n"] {
        let mut stream = TcpStream::connect(daemon.addr()).await.unwrap();
        stream.write_all(own).await.unwrap();
        let answer = in_time("an answer", stream.read_u8()).await;
        assert!(answer.is_ok(), "{own:?}");
    }
}

#[tokio::test]
async fn nobody_but_a_proxy_can_say_that_he_is_another() {
    let server = "proxies = [\"192.0.2.1\"]";
    let mut daemon = Daemon::start(&config(ANY, server)).await;
    for addr in [daemon.addr(), daemon.addr_v4()] {
        let mut client = Client::connect(addr).await;
        client.send("PROXY TCP4 198.51.100.77 192.0.2.2 1 2").await;
        client.login(&format!("apw:{PASSWORD}")).await;
        daemon.logged(&format!("peer={}", shown(addr.ip()))).await;
    }
    assert!(!daemon.log().join("\n").contains("198.51.100.77"));
}
