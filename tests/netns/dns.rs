//! A name server on the server's IPv4 address that knows one name, and answers for each kind of address as it is told to.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::lab::{Lab, SERVER};

/// How questions of one kind are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Well,
    Drop,
    Late(Duration),
    /// SERVFAIL
    Failure,
    /// Truncated, and nobody listens on TCP.
    Truncated,
}

/// Starts it, and points the bouncer's resolver at it.
pub fn start(lab: &Lab, aaaa: Reply, a: Reply) {
    let (ready, is_ready) = channel();
    lab.hosts("b", "");
    let resolver = format!("nameserver {}\noptions timeout:2 attempts:2\n", SERVER[1]);
    lab.etc("b", "resolv.conf", &resolver);
    lab.spawn_within("s", move || {
        let socket = UdpSocket::bind((SERVER[1], 53)).unwrap();
        ready.send(()).unwrap();
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let query = buffer[..length].to_vec();
            let Some(end) = question_end(&query) else {
                continue;
            };
            let reply = match query[end - 4..end - 2] {
                [0, 28] => aaaa,
                [0, 1] => a,
                _ => Reply::Failure,
            };
            let socket = socket.try_clone().unwrap();
            let answer = move || {
                if let Some(packet) = answer(&query, end, reply) {
                    _ = socket.send_to(&packet, from);
                }
            };
            match reply {
                Reply::Late(delay) => drop(thread::spawn(move || {
                    thread::sleep(delay);
                    answer();
                })),
                _ => answer(),
            }
        }
    });
    is_ready.recv().expect("the port is open");
}

/// Where the first question ends, behind type and class.
fn question_end(query: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        match *query.get(at)? {
            0 => return (query.len() >= at + 5).then_some(at + 5),
            length => at += usize::from(length) + 1,
        }
    }
}

fn answer(query: &[u8], end: usize, reply: Reply) -> Option<Vec<u8>> {
    let (flags, count) = match reply {
        Reply::Drop => return None,
        Reply::Failure => ([0x81, 0x82], 0),
        Reply::Truncated => ([0x83, 0x80], 0),
        Reply::Well | Reply::Late(_) => ([0x81, 0x80], 1),
    };
    let mut packet = query[..2].to_vec();
    packet.extend(flags);
    packet.extend([0, 1, 0, count, 0, 0, 0, 0]);
    packet.extend(&query[12..end]);
    if count == 1 {
        let kind = &query[end - 4..end];
        packet.extend([0xc0, 12]);
        packet.extend(kind);
        packet.extend([0, 0, 0, 60]);
        let address: Vec<u8> = if kind[1] == 28 {
            SERVER[0].parse::<Ipv6Addr>().unwrap().octets().into()
        } else {
            SERVER[1].parse::<Ipv4Addr>().unwrap().octets().into()
        };
        packet.extend([0, u8::try_from(address.len()).unwrap()]);
        packet.extend(address);
    }
    Some(packet)
}
