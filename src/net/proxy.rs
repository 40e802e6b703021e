//! The header of the PROXY protocol, versions 1 and 2, in which a proxy says whom it speaks for before anything else.
//! `parse` is pure; `read` takes exactly the header off a connection. Whom to ask for one is `acl`'s.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// So long may the whole header take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Version 1 with its line end.
const LONGEST_LINE: usize = 107;
/// What begins version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family, length.
const FIXED: usize = 16;
/// Version 2 with everything a proxy may add; its own limit is 64 KiB, which nobody needs.
const LONGEST: usize = 4096;

/// Why a header is none.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// It begins otherwise.
    #[error("what came is no PROXY header")]
    NoHeader,
    /// It begins as one.
    #[error("the PROXY header is wrong: {0}")]
    Malformed(&'static str),
    /// The connection ended or broke before it was whole.
    #[error("the PROXY header did not come: {0}")]
    Lost(#[from] io::Error),
    /// It took too long.
    #[error("the PROXY header did not come within 5 s")]
    TimedOut,
}

/// What the beginning of a connection is.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header: all that is there belongs to it.
    Part,
    /// A whole header.
    Header {
        /// Its bytes.
        length: usize,
        /// The client; `None`: the proxy speaks for itself, or does not know.
        client: Option<SocketAddr>,
    },
}

/// Reads the header, and not a byte of what follows it.
pub async fn read(tcp: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
    let read = timeout(DEADLINE, read_patiently(tcp));
    read.await.unwrap_or(Err(ProxyError::TimedOut))
}

async fn read_patiently(tcp: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
    let mut header = Vec::with_capacity(LONGEST_LINE);
    loop {
        let known = header.len();
        let mut ahead = [0; 512];
        let seen = tcp.peek(&mut ahead).await?;
        if seen == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        header.extend_from_slice(&ahead[..seen]);
        let (end, parsed) = match parse(&header)? {
            Parsed::Part => (header.len(), None),
            Parsed::Header { length, client } => (length, Some(client)),
        };
        // They are there already: this takes them off the socket and does not wait.
        header.truncate(end);
        tcp.read_exact(&mut header[known..]).await?;
        if let Some(client) = parsed {
            return Ok(client);
        }
    }
}

/// Looks at the beginning of a connection.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let begins = |whole: &[u8]| bytes.iter().zip(whole).all(|(a, b)| a == b);
    if begins(SIGNATURE) {
        parse_v2(bytes)
    } else if begins(b"PROXY ") {
        parse_v1(bytes)
    } else {
        Err(ProxyError::NoHeader)
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let head = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        return match head.len() {
            LONGEST_LINE => Err(ProxyError::Malformed("its line has no end")),
            _ => Ok(Parsed::Part),
        };
    };
    let line = str::from_utf8(&head[..end]).map_err(|_| ProxyError::Malformed("not ASCII"))?;
    let mut words = line.split(' ').skip(1);
    let client = match words.next() {
        // Whatever else stands there is to be ignored.
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(endpoints::<Ipv4Addr>(words)?),
        Some("TCP6") => Some(endpoints::<Ipv6Addr>(words)?),
        _ => return Err(ProxyError::Malformed("neither TCP4, TCP6 nor UNKNOWN")),
    };
    Ok(Parsed::Header {
        length: end + 2,
        client,
    })
}

/// The first of the two endpoints of `SOURCE DESTINATION PORT PORT`; all have to be right.
fn endpoints<'a, A>(words: impl Iterator<Item = &'a str>) -> Result<SocketAddr, ProxyError>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let wrong = ProxyError::Malformed;
    let words: Vec<_> = words.take(5).collect();
    let [source, destination, source_port, destination_port] = words[..] else {
        return Err(wrong("not two addresses and two ports"));
    };
    let address = |text: &str| text.parse::<A>().map_err(|_| wrong("not an address"));
    let port = |text: &str| {
        let plain =
            text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        let port = text.parse::<u16>().ok().filter(|_| plain);
        port.ok_or_else(|| wrong("not a port"))
    };
    address(destination)?;
    port(destination_port)?;
    Ok(SocketAddr::new(address(source)?.into(), port(source_port)?))
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let wrong = ProxyError::Malformed;
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(Parsed::Part);
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > LONGEST {
        return Err(wrong("longer than 4096 bytes"));
    }
    if rest.len() < length {
        return Ok(Parsed::Part);
    }
    let addresses = &rest[..length];
    let client = match (command, family) {
        // The proxy itself, to see whether we live; what it says of a family means nothing.
        (0x20, _) | (0x21, 0x00) => None,
        (0x21, 0x11) => {
            let (ip, port) = source::<4>(addresses)?;
            Some(SocketAddr::new(Ipv4Addr::from(ip).into(), port))
        }
        (0x21, 0x21) => {
            let (ip, port) = source::<16>(addresses)?;
            Some(SocketAddr::new(Ipv6Addr::from(ip).into(), port))
        }
        // Somebody on the proxy's machine: there is no address to tell.
        (0x21, 0x31) => None,
        (0x21, _) => return Err(wrong("not TCP")),
        _ => return Err(wrong("neither version 2 nor a known command")),
    };
    Ok(Parsed::Header {
        length: FIXED + length,
        client,
    })
}

/// The first of two addresses of `N` bytes, and the first of the two ports behind them.
fn source<const N: usize>(addresses: &[u8]) -> Result<([u8; N], u16), ProxyError> {
    let missing = ProxyError::Malformed("too short for its addresses");
    match (
        addresses.first_chunk::<N>(),
        addresses.get(2 * N..2 * N + 4),
    ) {
        (Some(ip), Some(&[high, low, ..])) => Ok((*ip, u16::from_be_bytes([high, low]))),
        _ => Err(missing),
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
