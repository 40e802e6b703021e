//! A web client: the handshake and the frames of a WebSocket, written out by hand, so that what the daemon's library makes
//! of them is checked by another.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, duplex};

use super::in_time;

/// Opcodes.
pub const MORE: u8 = 0;
/// A text message.
pub const TEXT: u8 = 1;
/// A binary message.
pub const BINARY: u8 = 2;
/// The end.
pub const CLOSE: u8 = 8;
/// Are you there?
pub const PING: u8 = 9;
/// Yes.
pub const PONG: u8 = 10;

/// The request of a WebSocket with these headers more.
pub fn request(more: &str) -> String {
    format!(
        "GET /socket HTTP/1.1\r\nHost: bnc.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// Says a request, and waits for the head of the answer.
pub async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    let answered = async {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => answer.push(byte),
                Err(_) => break,
            }
        }
        String::from_utf8(answer).unwrap()
    };
    in_time("an answer in HTTP", answered).await
}

/// A frame as clients send them: masked.
pub fn frame(opcode: u8, last: bool, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![opcode | if last { 0x80 } else { 0 }];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
    bytes
}

/// The next frame of a server, opcode and payload; `None`: there is none.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let first = stream.read_u8().await.ok()?;
    assert_eq!(first & 0x70, 0, "no extension was agreed on");
    assert_eq!(first & 0x80, 0x80, "lines are short enough for one frame");
    let length = match stream.read_u8().await.ok()? {
        126 => usize::from(stream.read_u16().await.ok()?),
        127 => usize::try_from(stream.read_u64().await.ok()?).unwrap(),
        short @ 0..126 => usize::from(short),
        _ => panic!("a server masks nothing"),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    Some((first & 0x0f, payload))
}

/// A WebSocket as a connection of lines, after its handshake: what is said goes into messages of this kind, and what comes
/// has to be of that kind too. At its end it says so, and waits for the answer.
pub fn lines(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    kind: u8,
) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
    let (near, far) = duplex(1 << 20);
    let (mut from, mut to) = tokio::io::split(stream);
    let (said, mut heard) = tokio::io::split(far);
    let (pongs, mut asked) = tokio::sync::mpsc::channel::<Vec<u8>>(16);
    tokio::spawn(async move {
        let mut said = BufReader::new(said);
        loop {
            let mut line = Vec::new();
            let frame = tokio::select! {
                Some(frame) = asked.recv() => frame,
                read = tokio::io::AsyncBufReadExt::read_until(&mut said, b'\n', &mut line) => match read {
                    Ok(1..) => frame(kind, true, line.trim_ascii_end()),
                    _ => frame(CLOSE, true, &1000u16.to_be_bytes()),
                },
            };
            let is_last = frame[0] & 0x0f == CLOSE;
            if to.write_all(&frame).await.is_err() || is_last {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((opcode, mut payload)) = read(&mut from).await {
            match opcode {
                PING => _ = pongs.send(frame(PONG, true, &payload)).await,
                PONG => {}
                CLOSE => {
                    _ = pongs.send(frame(CLOSE, true, &payload)).await;
                    break;
                }
                opcode => {
                    assert_eq!(opcode, kind, "{payload:?}");
                    assert!(!payload.contains(&b'\n') && !payload.contains(&b'\r'));
                    payload.extend(b"\r\n");
                    if heard.write_all(&payload).await.is_err() {
                        return;
                    }
                }
            }
        }
        _ = heard.shutdown().await;
    });
    near
}
