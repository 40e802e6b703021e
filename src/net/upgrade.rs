//! The opening handshake of a WebSocket: an HTTP request is read, judged and answered. Nothing else of HTTP is spoken. Whose
//! pages may talk to us is `config::origin`'s, the messages that follow are `websocket`'s.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tungstenite::Error;
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, Response, create_response, write_response};
use tungstenite::http::HeaderValue;
use tungstenite::http::header::{HOST, ORIGIN, SEC_WEBSOCKET_PROTOCOL};

use super::Stream;
use super::websocket::{Kind, WebSocket};
use crate::config::Origins;

/// A longer request is not read to its end. Browsers send all cookies of the host.
const LONGEST: usize = 16 * 1024;
/// So long may it take to tell somebody that he is turned away.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// So much more of a request is read and dropped then.
const MOST_DROPPED: u64 = 256 * 1024;
/// So much of what a stranger said is repeated.
const REPEATED: usize = 100;

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The request is answered with this.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The client is gone.
    #[error("the connection ended: {0}")]
    Lost(#[from] io::Error),
}

/// What is answered to who gets no WebSocket. The text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Lines of IRC, TLS, anything.
    #[error("this is a listener for web clients, and what came is no HTTP/1.1")]
    NoHttp,
    /// Not `GET`.
    #[error("a WebSocket begins with GET")]
    Method,
    /// Endless headers.
    #[error("the request is longer than 16 KiB, or has too many headers")]
    TooLong,
    /// A browser that was sent here, for one.
    #[error("there is nothing here but a WebSocket for IRC clients")]
    NoUpgrade,
    /// Not version 13.
    #[error("only version 13 of WebSocket is spoken here")]
    Version,
    /// Not 16 bytes in base64.
    #[error("Sec-WebSocket-Key is missing or wrong")]
    Key,
    /// The page of a stranger.
    #[error("pages from {0:?} may not connect here: see server.websocket_origins")]
    Origin(String),
    /// Not from there.
    #[error("your address may not connect here")]
    Address,
    /// Not now.
    #[error("{0}")]
    NotNow(String),
}

impl Refusal {
    /// Status, and headers that belong to it.
    fn status(&self) -> (&'static str, &'static str) {
        match self {
            Self::NoHttp | Self::Key => ("400 Bad Request", ""),
            Self::Method => ("405 Method Not Allowed", "Allow: GET\r\n"),
            Self::TooLong => ("431 Request Header Fields Too Large", ""),
            Self::NoUpgrade | Self::Version => (
                "426 Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            ),
            Self::Origin(_) | Self::Address => ("403 Forbidden", ""),
            Self::NotNow(_) => ("503 Service Unavailable", "Retry-After: 10\r\n"),
        }
    }

    /// The whole answer.
    pub fn answer(&self) -> Vec<u8> {
        let (status, headers) = self.status();
        let connection = match self {
            Self::NoUpgrade | Self::Version => "Upgrade, close",
            _ => "close",
        };
        let text = format!("{self}\n");
        let length = text.len();
        format!(
            "HTTP/1.1 {status}\r\nConnection: {connection}\r\n{headers}\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{text}"
        )
        .into_bytes()
    }
}

/// A WebSocket, and whom a proxy in front of it says it speaks for: for those alone who believe it.
#[derive(Debug)]
pub struct Upgraded {
    /// The WebSocket.
    pub stream: Stream,
    /// The addresses of `X-Forwarded-For`, the last one nearest to us; empty where one cannot be read.
    pub forwarded: Vec<IpAddr>,
}

/// Reads and answers the request, whatever path it names: there is only one thing here. No time limit of its own.
pub async fn accept(mut stream: Stream, origins: &Origins) -> Result<Upgraded, UpgradeError> {
    let (request, ahead) = match read(&mut stream).await {
        Err(UpgradeError::Refused(refusal)) => {
            send_off(&mut stream, &refusal).await;
            return Err(refusal.into());
        }
        read => read?,
    };
    match judge(&request, origins) {
        Ok((response, kind)) => {
            let mut answer = Vec::new();
            write_response(&mut answer, &response).map_err(|_| Refusal::NoHttp)?;
            stream.write_all(&answer).await?;
            stream.flush().await?;
            Ok(Upgraded {
                stream: Stream::Web(Box::new(WebSocket::new(stream, kind, ahead))),
                forwarded: forwarded(&request),
            })
        }
        Err(refusal) => {
            send_off(&mut stream, &refusal).await;
            Err(refusal.into())
        }
    }
}

/// Tells somebody why he gets nothing. What he has still to say is read, or he might not hear it.
pub async fn send_off(stream: &mut Stream, refusal: &Refusal) {
    let told = async {
        stream.write_all(&refusal.answer()).await?;
        stream.flush().await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MOST_DROPPED), &mut tokio::io::sink()).await
    };
    _ = timeout(LAST_WORDS, told).await;
}

/// The request, and what came behind it.
async fn read(stream: &mut Stream) -> Result<(Request, Vec<u8>), UpgradeError> {
    let mut head = Vec::new();
    loop {
        let known = head.len();
        head.reserve(1024);
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        // Nothing new can be known before a line ends; but that it is no HTTP can, from the beginning.
        if known > 0 && !head[known..].contains(&b'\n') {
            if head.len() > LONGEST {
                return Err(Refusal::TooLong.into());
            }
            continue;
        }
        match Request::try_parse(&head) {
            Ok(Some((length, request))) => return Ok((request, head.split_off(length))),
            Ok(None) if head.len() > LONGEST => return Err(Refusal::TooLong.into()),
            Ok(None) => {}
            Err(error) => return Err(refusal(&error).into()),
        }
    }
}

fn refusal(error: &Error) -> Refusal {
    let error = match error {
        Error::Protocol(error) => error,
        Error::Capacity(CapacityError::TooManyHeaders) => return Refusal::TooLong,
        _ => return Refusal::NoHttp,
    };
    match error {
        ProtocolError::WrongHttpMethod => Refusal::Method,
        ProtocolError::MissingConnectionUpgradeHeader
        | ProtocolError::MissingUpgradeWebSocketHeader => Refusal::NoUpgrade,
        ProtocolError::MissingSecWebSocketVersionHeader => Refusal::Version,
        ProtocolError::MissingSecWebSocketKey | ProtocolError::InvalidSecWebSocketKey => {
            Refusal::Key
        }
        _ => Refusal::NoHttp,
    }
}

fn judge(request: &Request, origins: &Origins) -> Result<(Response, Kind), Refusal> {
    let mut response = create_response(request).map_err(|error| refusal(&error))?;
    // What is not ASCII is no origin and no host that anybody has.
    let text = |value: &HeaderValue| value.to_str().unwrap_or("?").to_owned();
    let origin = request.headers().get(ORIGIN).map(text);
    let host = request.headers().get(HOST).map(text);
    if !origins.admit(origin.as_deref(), host.as_deref()) {
        let origin = origin.unwrap_or_default();
        return Err(Refusal::Origin(origin.chars().take(REPEATED).collect()));
    }
    let Some((name, kind)) = protocol(request) else {
        return Ok((response, Kind::Text));
    };
    let name = HeaderValue::from_static(name);
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
    Ok((response, kind))
}

/// The first of the client's sub-protocols that is one of ours. A client that asks for none, or for others alone, is sent
/// text and told of none.
fn protocol(request: &Request) -> Option<(&'static str, Kind)> {
    let values = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    let words = values.iter().filter_map(|value| value.to_str().ok());
    words.flat_map(|list| list.split(',')).find_map(|word| {
        let ours = [
            ("text.ircv3.net", Kind::Text),
            ("binary.ircv3.net", Kind::Binary),
        ];
        ours.into_iter().find(|(name, _)| *name == word.trim())
    })
}

/// The addresses of `X-Forwarded-For`, canonical.
fn forwarded(request: &Request) -> Vec<IpAddr> {
    let values = request.headers().get_all("x-forwarded-for");
    let words = values
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("?").split(','));
    let addresses: Option<Vec<_>> = words.map(|word| address(word.trim())).collect();
    addresses.unwrap_or_default()
}

/// `192.0.2.1`, `2001:db8::1`, and with brackets or a port as some proxies have them.
fn address(text: &str) -> Option<IpAddr> {
    let ip = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<std::net::SocketAddr>().map(|addr| addr.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    ip.ok()
        .or_else(bracketed)
        .map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;
