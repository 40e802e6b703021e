//! Stands between a client and carom in clear text, and writes down what both say.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A place to connect to, and what was said there.
pub struct Recorder {
    pub addr: SocketAddr,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    /// Takes one connection, and makes it one to `to`.
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let said = Arc::default();
        let record = Arc::clone(&said);
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let carom = TcpStream::connect(to).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_carom, to_carom) = carom.into_split();
            tokio::join!(
                copy(from_client, to_carom, &record),
                copy(from_carom, to_client, &record)
            );
        });
        Self { addr, said }
    }

    /// All of it so far. Lines of both sides come whole, as long as each writes whole ones.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    record: &Mutex<Vec<u8>>,
) {
    let mut bytes = vec![0; 4096];
    while let Ok(n @ 1..) = from.read(&mut bytes).await {
        record.lock().unwrap().extend(&bytes[..n]);
        if to.write_all(&bytes[..n]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
