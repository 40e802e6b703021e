//! Lines through messages, both ways, in any pieces, and what peers that break the rules get.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::Control;

use super::super::LineReader;
use super::*;
use crate::wire::Framed;
use crate::wire::framing::Limits;

const TEXT: OpCode = OpCode::Data(Data::Text);
const BINARY: OpCode = OpCode::Data(Data::Binary);
const MORE: OpCode = OpCode::Data(Data::Continue);
const CLOSE: OpCode = OpCode::Control(Control::Close);
const PING: OpCode = OpCode::Control(Control::Ping);
const PONG: OpCode = OpCode::Control(Control::Pong);

/// Our side, and the peer's as bytes.
fn pair(kind: Kind) -> (WebSocket, UnixStream) {
    let (here, peer) = UnixStream::pair().unwrap();
    (WebSocket::new(Stream::Unix(here), kind, Vec::new()), peer)
}

/// As a client sends it.
fn sent(opcode: OpCode, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = Frame::message(payload.to_vec(), OpCode::Data(Data::Binary), last);
    frame.header_mut().opcode = opcode;
    frame.header_mut().mask = Some([1, 2, 3, 250]);
    let mut bytes = Vec::new();
    frame.format(&mut bytes).unwrap();
    bytes
}

fn message(line: &str) -> Vec<u8> {
    sent(TEXT, true, line.as_bytes())
}

/// All frames that a server sent.
fn frames(bytes: &[u8]) -> Vec<(OpCode, Vec<u8>)> {
    let mut cursor = io::Cursor::new(bytes);
    let mut frames = Vec::new();
    while let Some((header, length)) = FrameHeader::parse(&mut cursor).unwrap() {
        assert!(header.is_final && header.mask.is_none(), "{header:?}");
        let from = usize::try_from(cursor.position()).unwrap();
        let end = from + usize::try_from(length).unwrap();
        frames.push((header.opcode, bytes[from..end].to_vec()));
        cursor.set_position(end as u64);
    }
    assert_eq!(cursor.position(), bytes.len() as u64, "a whole frame");
    frames
}

async fn all_frames(mut peer: UnixStream) -> Vec<(OpCode, Vec<u8>)> {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).await.unwrap();
    frames(&bytes)
}

fn closed(code: u16) -> (OpCode, Vec<u8>) {
    (CLOSE, code.to_be_bytes().to_vec())
}

fn line(text: &[u8]) -> Framed {
    Framed::Line(Bytes::copy_from_slice(text))
}

/// Everything up to the end, and how it ended.
async fn read_all(web: WebSocket) -> (Vec<Framed>, io::Result<usize>, WebSocket) {
    let mut reader = LineReader::new(web, Limits::CLIENT);
    let mut lines = Vec::new();
    loop {
        match reader.read(&mut lines).await {
            Ok(0) => return (lines, Ok(0), reader.into_inner()),
            Ok(_) => {}
            Err(error) => return (lines, Err(error), reader.into_inner()),
        }
    }
}

/// What our side reads of these bytes, after which the peer is gone.
async fn hear(bytes: &[u8]) -> (Vec<Framed>, io::Result<usize>) {
    let (web, mut peer) = pair(Kind::Text);
    let say = async {
        // Our side may have gone.
        _ = peer.write_all(bytes).await;
        drop(peer);
    };
    let ((lines, end, _), ()) = tokio::join!(read_all(web), say);
    (lines, end)
}

#[tokio::test]
async fn each_message_is_a_line() {
    let bytes = [
        message("NICK a"),
        sent(BINARY, true, b"USER \xff 0 * :b"),
        message(""),
        message("PING 1\r\n"),
        message("PING 2\n"),
        sent(TEXT, false, b"PRIVMSG #a "),
        sent(PING, true, b""),
        sent(MORE, false, b":in thr"),
        sent(MORE, true, "\u{e9}e".as_bytes()),
        sent(CLOSE, true, b""),
    ];
    let (lines, end) = hear(&bytes.concat()).await;
    let expected: [&[u8]; 5] = [
        b"NICK a",
        b"USER \xff 0 * :b",
        b"PING 1",
        b"PING 2",
        "PRIVMSG #a :in thr\u{e9}e".as_bytes(),
    ];
    assert_eq!(lines, expected.map(line));
    assert_eq!(end.unwrap(), 0);
}

#[tokio::test]
async fn two_lines_in_a_message_are_refused() {
    for text in [
        "PING 1\r\nQUIT",
        "PING 1\nQUIT\n",
        "\nPING",
        "PING 1\rQUIT",
        "PING\0",
    ] {
        let bytes = [message(text), message("PING 2"), sent(CLOSE, true, b"")].concat();
        let (lines, _) = hear(&bytes).await;
        assert_eq!(lines, [Framed::Refused, line(b"PING 2")], "{text:?}");
    }
}

#[tokio::test]
async fn a_message_longer_than_a_line_is_one_that_is_too_long() {
    let long = "x".repeat(LONGEST_MESSAGE);
    let bytes = [message(&long), message("PING 2"), sent(CLOSE, true, b"")].concat();
    let (lines, end) = hear(&bytes).await;
    assert_eq!(lines, [Framed::TooLong, line(b"PING 2")]);
    assert_eq!(end.unwrap(), 0);
}

#[tokio::test]
async fn who_breaks_the_rules_is_told_how_and_proves_nothing() {
    let mut reserved = message("PING 1");
    reserved[0] |= 0x40;
    let mut unmasked = message("PING 1");
    unmasked[1] &= 0x7f;
    let long = vec![b'x'; LONGEST_MESSAGE + 1];
    let half = vec![b'x'; LONGEST_MESSAGE / 2 + 1];
    let parts = [sent(TEXT, false, &half), sent(MORE, true, &half)].concat();
    let rows: [(&str, Vec<u8>, u16); 9] = [
        ("a long message", sent(TEXT, true, &long), 1009),
        ("a long message in parts", parts, 1009),
        (
            "a claim",
            vec![
                0x81, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4,
            ],
            1009,
        ),
        ("no UTF-8", sent(TEXT, true, b"PING \xff"), 1007),
        ("not masked", unmasked, 1002),
        ("a bit that means nothing", reserved, 1002),
        ("no beginning", sent(MORE, true, b"x"), 1002),
        ("a long ping", sent(PING, true, &[b'x'; 126]), 1002),
        (
            "no frame",
            sent(OpCode::Data(Data::Reserved(5)), true, b"x"),
            1002,
        ),
    ];
    for (what, bytes, code) in rows {
        let (mut web, mut peer) = pair(Kind::Text);
        let said = async {
            let more = [bytes, b"\x81\xffand more of it".repeat(100)].concat();
            peer.write_all(&more).await.unwrap();
            peer.shutdown().await.unwrap();
            all_frames(peer).await
        };
        let heard = async {
            let mut read = Vec::new();
            let error = web.read_to_end(&mut read).await.unwrap_err();
            // Neither an end nor, as TLS has it, half an end.
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "{what}");
            let error = web.write_all(b"PING 1\r\n").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{what}");
            drop(web);
        };
        let (said, ()) = tokio::join!(said, heard);
        assert_eq!(said, [closed(code)], "{what}");
    }
}

#[tokio::test]
async fn an_end_without_a_close_frame_is_a_broken_connection() {
    let (lines, end) = hear(&message("PING 1")).await;
    assert_eq!(lines, [line(b"PING 1")]);
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    let (_, end) = hear(&message("PING 1")[..5]).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn pings_are_answered_while_nothing_is_written() {
    let (web, mut peer) = pair(Kind::Text);
    let reading = read_all(web);
    let asking = async {
        peer.write_all(&sent(PING, true, b"are you there?"))
            .await
            .unwrap();
        let mut pong = [0; 16];
        peer.read_exact(&mut pong).await.unwrap();
        assert_eq!(frames(&pong), [(PONG, b"are you there?".to_vec())]);
        // A pong that nobody asked for is nothing.
        let bytes = [sent(PONG, true, b"1"), sent(CLOSE, true, b"")].concat();
        peer.write_all(&bytes).await.unwrap();
    };
    let ((lines, end, _), ()) = tokio::join!(reading, asking);
    assert_eq!((lines, end.unwrap()), (vec![], 0));
}

#[tokio::test]
async fn a_close_is_an_end_and_is_answered() {
    let (web, mut peer) = pair(Kind::Text);
    let code = 1001u16.to_be_bytes();
    peer.write_all(&[message("QUIT"), sent(CLOSE, true, &code), message("PING")].concat())
        .await
        .unwrap();
    let (lines, end, web) = read_all(web).await;
    assert_eq!((lines, end.unwrap()), (vec![line(b"QUIT")], 0));
    // Our answer to it tells nothing.
    assert_eq!(web.unsent(), Some(0));
    // Nothing more is taken; that is no reason to stop reading.
    let mut web = web;
    let written = std::future::poll_fn(|context| {
        Poll::Ready(Pin::new(&mut web).poll_write(context, b"PING 1\r\n"))
    });
    assert!(written.await.is_pending());
    web.flush().await.unwrap();
    drop(web);
    let mut bytes = Vec::new();
    // What it said after its close frame was never read.
    _ = peer.read_to_end(&mut bytes).await;
    assert_eq!(frames(&bytes), [closed(1001)]);
}

#[tokio::test]
async fn a_close_before_everything_was_taken_proves_nothing() {
    let (mut web, mut peer) = pair(Kind::Binary);
    web.write_all(b"PING 1\r\n").await.unwrap();
    web.flush().await.unwrap();
    peer.write_all(&sent(CLOSE, true, b"")).await.unwrap();
    let (_, end, web) = read_all(web).await;
    assert_eq!(end.unwrap(), 0);
    let at_close = web.unsent().unwrap();
    assert!(at_close > 0);
    // Whatever it takes from now on.
    let mut bytes = [0; 8];
    peer.read_exact(&mut bytes).await.unwrap();
    assert_eq!(web.unsent(), Some(at_close));
    assert_eq!(frames(&bytes), [(BINARY, b"PING 1".to_vec())]);
}

#[tokio::test]
async fn a_shutdown_waits_for_the_answer() {
    let (mut web, mut peer) = pair(Kind::Text);
    web.write_all(b"ERROR :Bye\r\nunfini").await.unwrap();
    web.shutdown().await.unwrap();
    web.shutdown().await.unwrap();
    let mut bytes = [0; 12 + 4];
    peer.read_exact(&mut bytes).await.unwrap();
    assert_eq!(
        frames(&bytes),
        [(TEXT, b"ERROR :Bye".to_vec()), closed(1000)]
    );
    assert!(web.write_all(b"more").await.is_err());
    // It may have said something before it heard.
    let answer = [message("PING 1"), sent(CLOSE, true, &1000u16.to_be_bytes())];
    peer.write_all(&answer.concat()).await.unwrap();
    let (lines, end, web) = read_all(web).await;
    assert_eq!((lines, end.unwrap()), (vec![line(b"PING 1")], 0));
    drop(web);
    assert_eq!(all_frames(peer).await, []);
}

#[tokio::test]
async fn a_peer_that_takes_nothing_costs_little_and_gets_all_in_the_end() {
    let (mut web, mut peer) = pair(Kind::Binary);
    let line = [&b"x".repeat(500)[..], b"\r\n"].concat();
    let lines = line.repeat(2000);
    // It asks for pongs all the time, too.
    let pings = sent(PING, true, &[b'?'; 125]).repeat(500);
    peer.write_all(&pings).await.unwrap();
    let Stream::Unix(below) = web.get_ref() else {
        panic!("not a unix socket")
    };
    below.readable().await.unwrap();
    let mut written = 0;
    let full = std::future::poll_fn(|context| {
        let mut scratch = [0; 65_536];
        loop {
            let read = Pin::new(&mut web).poll_read(context, &mut ReadBuf::new(&mut scratch));
            assert!(read.is_pending());
            let held = web.outgoing.len();
            assert!(held <= FULL + 1024, "{held}");
            // The library keeps few of the pongs, too.
            assert!(format!("{:?}", web.context).len() < 64 * 1024);
            match Pin::new(&mut web).poll_write(context, &lines[written..]) {
                Poll::Ready(taken) => written += taken.unwrap(),
                Poll::Pending => return Poll::Ready(()),
            }
        }
    });
    // All pings are read, however many there are.
    tokio::task::unconstrained(full).await;
    assert!(written < lines.len() && web.unsent().unwrap() > 0);
    let write = async {
        web.write_all(&lines[written..]).await.unwrap();
        web.flush().await.unwrap();
        drop(web);
    };
    let ((), frames) = tokio::join!(write, all_frames(peer));
    let told = frames.iter().filter(|(opcode, _)| *opcode == BINARY);
    assert_eq!(told.count(), 2000);
}

#[tokio::test]
async fn text_is_made_utf_8_and_binary_is_left_alone() {
    let said = b"PRIVMSG #a :caf\xe9 \xff\xfe \xe2\x82\r\nPRIVMSG #a :\xc3\xa9\n";
    for (kind, opcode, expected) in [
        (
            Kind::Text,
            TEXT,
            "PRIVMSG #a :caf\u{fffd} \u{fffd}\u{fffd} \u{fffd}".as_bytes(),
        ),
        (
            Kind::Binary,
            BINARY,
            &b"PRIVMSG #a :caf\xe9 \xff\xfe \xe2\x82"[..],
        ),
    ] {
        let (mut web, peer) = pair(kind);
        web.write_all(said).await.unwrap();
        web.flush().await.unwrap();
        drop(web);
        let second = "PRIVMSG #a :\u{e9}".as_bytes().to_vec();
        assert_eq!(
            all_frames(peer).await,
            [(opcode, expected.to_vec()), (opcode, second)]
        );
    }
}

#[tokio::test]
async fn a_line_without_end_is_not_kept_for_ever() {
    let (mut web, _peer) = pair(Kind::Text);
    let error = web
        .write_all(&vec![b'x'; 2 * LONGEST_LINE])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

/// Hands over bytes in pieces of these sizes, over and over.
async fn write_in_pieces(mut to: impl AsyncWrite + Unpin, mut bytes: &[u8], sizes: &[usize]) {
    for size in sizes.iter().cycle() {
        let (piece, rest) = bytes.split_at((*size).min(bytes.len()));
        if to.write_all(piece).await.is_err() || rest.is_empty() {
            break;
        }
        // The other side reads what there is.
        tokio::task::yield_now().await;
        bytes = rest;
    }
    _ = to.flush().await;
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_io().build().unwrap().block_on(future)
}

/// Lines of any bytes that a line may have.
fn lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let byte = any::<u8>().prop_filter("ends a line", |byte| !b"\r\n\0".contains(byte));
    let short = prop::collection::vec(byte, 1..40);
    let lengths = prop::collection::vec((short, 1usize..13), 0..30);
    lengths.prop_map(|lines| {
        let long = lines.into_iter().map(|(line, times)| line.repeat(times));
        // Tags have limits of their own.
        long.filter(|line| line[0] != b'@').collect()
    })
}

proptest! {
    #[test]
    fn lines_said_in_any_pieces_arrive(lines in lines(), sizes in prop::collection::vec(1usize..300, 1..5), cuts in prop::collection::vec(1usize..50, 1..5)) {
        let mut bytes = Vec::new();
        for (line, cut) in lines.iter().zip(cuts.iter().cycle()) {
            let mut opcode = if str::from_utf8(line).is_ok() { TEXT } else { BINARY };
            let mut parts = line.chunks(*cut).peekable();
            while let Some(part) = parts.next() {
                bytes.extend(sent(opcode, parts.peek().is_none(), part));
                opcode = MORE;
            }
        }
        bytes.extend(sent(CLOSE, true, b""));
        let (heard, end) = block_on(async {
            let (web, peer) = pair(Kind::Text);
            let ((heard, end, _), ()) = tokio::join!(read_all(web), write_in_pieces(peer, &bytes, &sizes));
            (heard, end)
        });
        prop_assert_eq!(heard, lines.iter().map(|one| line(one)).collect::<Vec<_>>());
        prop_assert_eq!(end.unwrap(), 0);
    }

    #[test]
    fn lines_told_in_any_pieces_arrive(lines in lines(), sizes in prop::collection::vec(1usize..2000, 1..5)) {
        let bytes: Vec<u8> = lines.iter().flat_map(|line| [&line[..], b"\r\n"].concat()).collect();
        for (kind, opcode) in [(Kind::Text, TEXT), (Kind::Binary, BINARY)] {
            let ((), heard) = block_on(async {
                let (web, peer) = pair(kind);
                tokio::join!(write_in_pieces(web, &bytes, &sizes), all_frames(peer))
            });
            let expected: Vec<_> = lines.iter().map(|line| match kind {
                Kind::Binary => (opcode, line.clone()),
                Kind::Text => (opcode, String::from_utf8_lossy(line).into_owned().into_bytes()),
            }).collect();
            prop_assert_eq!(heard, expected);
        }
    }

    #[test]
    fn any_bytes_come_to_an_end_without_harm(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..10), first in 0x80u8..0x8b, length in 0x80u8..0xff) {
        let mut bytes = vec![first, length];
        bytes.extend(chunks.concat());
        let (lines, _) = block_on(hear(&bytes));
        prop_assert!(lines.len() <= bytes.len());
    }
}
