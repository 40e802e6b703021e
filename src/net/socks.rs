//! Through a SOCKS5 proxy (RFC 1928) without login. The server's name goes to the proxy as a name. Exactly the proxy's
//! answers are read: what the server says right behind them is left for whoever reads next.

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::fault::{Fault, FaultKind};

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const CONNECT: u8 = 1;

/// Asks the proxy at the other end of `stream` for a connection to a server.
pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    host: &str,
    port: u16,
) -> Result<(), Fault> {
    stream
        .write_all(&[VERSION, 1, NO_LOGIN])
        .await
        .map_err(|error| broken(&error))?;
    let mut chosen = [0; 2];
    stream
        .read_exact(&mut chosen)
        .await
        .map_err(|error| broken(&error))?;
    match chosen {
        [VERSION, NO_LOGIN] => {}
        [VERSION, _] => return Err(refused("the proxy wants a login")),
        _ => return Err(refused("the proxy does not speak SOCKS5")),
    }
    stream
        .write_all(&request(host, port)?)
        .await
        .map_err(|error| broken(&error))?;
    let mut reply = [0; 4];
    stream
        .read_exact(&mut reply)
        .await
        .map_err(|error| broken(&error))?;
    let [version, code, _, kind] = reply;
    if version != VERSION {
        return Err(refused("the proxy does not speak SOCKS5"));
    }
    if code != 0 {
        return Err(fault(code));
    }
    // The address the proxy comes from, and a port.
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await.map_err(|error| broken(&error))?),
        _ => return Err(refused("the proxy does not speak SOCKS5")),
    };
    let mut rest = vec![0; length + 2];
    stream
        .read_exact(&mut rest)
        .await
        .map_err(|error| broken(&error))?;
    Ok(())
}

fn request(host: &str, port: u16) -> Result<Vec<u8>, Fault> {
    let mut bytes = vec![VERSION, CONNECT, 0];
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            bytes.push(1);
            bytes.extend(ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            bytes.push(4);
            bytes.extend(ip.octets());
        }
        Err(_) => {
            let too_long = |_| Fault::new(FaultKind::Policy, "the name is too long for a proxy");
            bytes.extend([3, u8::try_from(host.len()).map_err(too_long)?]);
            bytes.extend(host.as_bytes());
        }
    }
    bytes.extend(port.to_be_bytes());
    Ok(bytes)
}

fn fault(code: u8) -> Fault {
    let (kind, text) = match code {
        2 => (FaultKind::Refused, "the proxy does not allow it"),
        3 => (FaultKind::NoRoute, "the proxy has no route"),
        4 => (FaultKind::NoRoute, "the proxy cannot reach the host"),
        5 => (FaultKind::Refused, "connection refused, the proxy says"),
        6 => (FaultKind::TimedOut, "no answer in time, the proxy says"),
        _ => (FaultKind::Refused, "the proxy could not connect"),
    };
    Fault::new(kind, text)
}

fn refused(text: &str) -> Fault {
    Fault::new(FaultKind::Refused, text)
}

fn broken(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            refused("the proxy closed the connection")
        }
        _ => refused(&format!("the proxy failed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::duplex;

    use super::*;

    /// What happens when the proxy says all this whatever it is asked, what is left to read, and what it was asked.
    fn talk(host: &str, answers: &[u8]) -> (Result<(), Fault>, Vec<u8>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut here, mut proxy) = duplex(4096);
            proxy.write_all(answers).await.unwrap();
            proxy.shutdown().await.unwrap();
            let result = connect(&mut here, host, 6697).await;
            let mut left = Vec::new();
            here.read_to_end(&mut left).await.unwrap();
            drop(here);
            let mut asked = Vec::new();
            proxy.read_to_end(&mut asked).await.unwrap();
            (result, left, asked)
        })
    }

    #[test]
    fn names_go_to_the_proxy_as_names() {
        let yes = [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let (result, _, asked) = talk("irc.test", &yes);
        assert_eq!(result, Ok(()));
        assert_eq!(asked, b"\x05\x01\x00\x05\x01\x00\x03\x08irc.test\x1a\x29");
        let (_, _, asked) = talk("192.0.2.1", &yes);
        assert_eq!(asked[3..], [5, 1, 0, 1, 192, 0, 2, 1, 26, 41]);
        let (_, _, asked) = talk("2001:db8::1", &yes);
        assert_eq!((asked[6], asked.len()), (4, 25));
    }

    #[test]
    fn what_the_server_says_behind_the_answer_is_left_there() {
        for bound in [
            &b"\x01\xc0\x00\x02\x01\x04\x38"[..],
            b"\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x04\x38",
            b"\x03\x05proxy\x04\x38",
        ] {
            let answers = [b"\x05\x00\x05\x00\x00", bound, b"NOTICE * :hello\r\n"].concat();
            let (result, left, _) = talk("irc.test", &answers);
            assert_eq!((result, &*left), (Ok(()), &b"NOTICE * :hello\r\n"[..]));
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        let text = |answers: &[u8]| talk("irc.test", answers).0.unwrap_err().text;
        assert_eq!(text(&[5, 255]), "the proxy wants a login");
        assert_eq!(text(b"HTTP/1.1 400"), "the proxy does not speak SOCKS5");
        assert_eq!(text(&[5]), "the proxy closed the connection");
        assert_eq!(text(&[5, 0, 5, 4, 0, 1]), "the proxy cannot reach the host");
        let kind = |code| talk("irc.test", &[5, 0, 5, code, 0, 1]).0.unwrap_err().kind;
        assert_eq!(
            (kind(5), kind(6)),
            (FaultKind::Refused, FaultKind::TimedOut)
        );
        let name = "a".repeat(256);
        assert_eq!(talk(&name, &[5, 0]).0.unwrap_err().kind, FaultKind::Policy);
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(answers: Vec<u8>) {
            let _ = talk("irc.test", &answers);
        }
    }
}
