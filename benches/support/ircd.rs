//! A server that welcomes everybody, lets them join whatever they like, and is silent but for what a bench says.

use std::cell::RefCell;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

/// The server. Links come out as their channels are joined.
pub struct Ircd {
    addr: SocketAddr,
    links: mpsc::Receiver<Link>,
}

/// One connection, which has joined all its channels.
pub struct Link {
    writer: Rc<RefCell<Option<OwnedWriteHalf>>>,
}

impl Link {
    /// Says these lines.
    pub async fn say(&self, text: &[u8]) {
        let mut writer = self.writer.borrow_mut().take().unwrap();
        writer.write_all(text).await.unwrap();
        *self.writer.borrow_mut() = Some(writer);
    }

    /// The same socket, to be written to by another thread: it does not block, so little at a time.
    pub fn share(&self) -> std::net::TcpStream {
        let writer = self.writer.borrow();
        let socket = writer.as_ref().unwrap().as_ref().as_fd();
        socket.try_clone_to_owned().unwrap().into()
    }
}

impl Ircd {
    /// Listens on `[::1]`. Each link is ready once it has joined so many channels, of so many members each.
    pub async fn start(channels: usize, members: usize) -> Self {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (ready, links) = mpsc::channel(1024);
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                spawn_local(serve(stream, channels, members, ready.clone()));
            }
        });
        Self { addr, links }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next link that is ready.
    pub async fn link(&mut self) -> Link {
        self.links.recv().await.unwrap()
    }
}

async fn serve(stream: TcpStream, channels: usize, members: usize, ready: mpsc::Sender<Link>) {
    stream.set_nodelay(true).unwrap();
    let (read, write): (OwnedReadHalf, OwnedWriteHalf) = stream.into_split();
    let writer = Rc::new(RefCell::new(Some(write)));
    let mut lines = BufReader::new(read).split(b'\n');
    let mut session = Session {
        nick: "zed".into(),
        joined: 0,
        members,
    };
    let mut told = channels > 0;
    while let Ok(Some(line)) = lines.next_segment().await {
        let answer = session.hear(String::from_utf8_lossy(&line).trim_end());
        // A bench that took the writer does without answers.
        let taken = writer.borrow_mut().take();
        if let Some(mut half) = taken {
            _ = half.write_all(answer.as_bytes()).await;
            *writer.borrow_mut() = Some(half);
        }
        let done = session.joined >= channels
            && answer.contains(if channels > 0 { " 366 " } else { " 422 " });
        if done && (told || channels == 0) {
            told = false;
            _ = ready
                .send(Link {
                    writer: Rc::clone(&writer),
                })
                .await;
        }
    }
}

struct Session {
    nick: String,
    joined: usize,
    members: usize,
}

impl Session {
    fn hear(&mut self, line: &str) -> String {
        let mut words = line.split(' ');
        let (command, first) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        match command {
            "CAP" if first == "LS" => ":irc.test CAP * LS :message-tags server-time\r\n".into(),
            "CAP" if first == "REQ" => {
                let caps = line.split_once(':').map_or("", |(_, caps)| caps);
                format!(":irc.test CAP * ACK :{caps}\r\n")
            }
            "NICK" => {
                first.trim_start_matches(':').clone_into(&mut self.nick);
                String::new()
            }
            "USER" => self.welcome(),
            "PING" => format!(":irc.test PONG irc.test {first}\r\n"),
            "JOIN" => first.split(',').map(|channel| self.join(channel)).collect(),
            "MODE" => format!(":irc.test 324 {} {first} +nt\r\n", self.nick),
            _ => String::new(),
        }
    }

    fn welcome(&self) -> String {
        let nick = &self.nick;
        format!(
            ":irc.test 001 {nick} :Welcome\r\n:irc.test 004 {nick} irc.test bench i n\r\n\
             :irc.test 005 {nick} CASEMAPPING=rfc1459 CHANTYPES=# PREFIX=(ov)@+ CHANMODES=b,k,l,imnpst NETWORK=Bench \
             CHANLIMIT=#:1000 TOPICLEN=390 NICKLEN=30 :are supported\r\n:irc.test 422 {nick} :No message of the day\r\n"
        )
    }

    fn join(&mut self, channel: &str) -> String {
        let nick = &self.nick;
        let mut text = format!(":{nick}!u@host.test JOIN {channel}\r\n");
        let names: Vec<String> = (0..self.members.saturating_sub(1))
            .map(|n| format!("{}member{n:04}", ["@", "+", "", "", ""][n % 5]))
            .collect();
        for names in [nick.clone()].as_slice().chunks(30).chain(names.chunks(30)) {
            text += &format!(":irc.test 353 {nick} = {channel} :{}\r\n", names.join(" "));
        }
        self.joined += 1;
        text + &format!(":irc.test 366 {nick} {channel} :End\r\n")
    }
}
