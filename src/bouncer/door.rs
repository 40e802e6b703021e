//! What stands between an accepted connection and the task of a client: who may come in by address, and the word of
//! proxies about whom they speak for. How many come how fast is the gate's, who they are the login's.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::config::{Manner, Scheme};
use crate::downstream::{self, Shared};
use crate::net::acl::Entry;
use crate::net::proxy::{self, ProxyError};
use crate::net::seldom::Seldom;
use crate::net::upgrade::Refusal;
use crate::net::{Access, Peer, Stream};

/// What is said to those who are turned away, where they can read it.
const NOT_YOU: &str = "your address may not connect here";

/// What connections that come in now are met with. A reload puts another one in its place.
pub(super) struct Door {
    access: Access,
    shared: Arc<Shared>,
    complaints: Arc<Complaints>,
}

/// Lines that strangers could fill the log with.
#[derive(Default)]
struct Complaints {
    refused: Seldom,
    proxies: Seldom,
}

impl Door {
    pub(super) fn new(access: Access, shared: Shared) -> Self {
        Self {
            access,
            shared: Arc::new(shared),
            complaints: Arc::default(),
        }
    }

    /// Another one that shares what is not configured.
    pub(super) fn replaced(&self, access: Access, shared: Shared) -> Self {
        Self {
            access,
            shared: Arc::new(shared),
            complaints: Arc::clone(&self.complaints),
        }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Serves a connection to its end, if it may come in.
    pub(super) async fn welcome(self: Arc<Self>, stream: Stream, peer: Peer, manner: Manner) {
        let admitted = match self.access.entry(&peer) {
            Entry::Direct => Some((stream, peer)),
            Entry::Refused => self.turn_away(&stream, &peer, manner),
            // On the heap: few connections have a proxy, and all would be larger by what this takes.
            Entry::Proxied => Box::pin(self.introduced(stream, peer, manner)).await,
        };
        let shared = Arc::clone(&self.shared);
        drop(self);
        if let Some((stream, peer)) = admitted {
            downstream::serve(stream, peer, manner, shared).await;
        }
    }

    /// Asks a proxy whom it speaks for. Its own address counts for nothing from then on, unless it speaks for itself.
    async fn introduced(
        &self,
        mut stream: Stream,
        proxy: Peer,
        manner: Manner,
    ) -> Option<(Stream, Peer)> {
        let Stream::Tcp(tcp) = &mut stream else {
            return Some((stream, proxy));
        };
        let client = match self.header(tcp).await? {
            Ok(client) => client.map(Peer::from_accept),
            // Proxies of web clients may say it in HTTP.
            Err(ProxyError::NoHeader) if manner.web => {
                return self.forwarded(stream, proxy, manner).await;
            }
            Err(error) => {
                self.shared.counters.refused.add("proxy_header");
                if let Some(untold) = self.complaints.proxies.may_tell() {
                    warn!("closing {proxy}, which is in server.proxies: {error}{untold}");
                }
                return None;
            }
        };
        if let Some(client) = &client {
            debug!("{proxy} speaks for {client}");
        }
        let peer = client.unwrap_or(proxy);
        if self.access.admits(&peer) {
            Some((stream, peer))
        } else {
            self.turn_away(&stream, &peer, manner)
        }
    }

    /// Reads a web client's request, in which its proxy says whom it speaks for.
    async fn forwarded(
        &self,
        stream: Stream,
        proxy: Peer,
        manner: Manner,
    ) -> Option<(Stream, Peer)> {
        let shared = &self.shared;
        let ticket = shared.auth.gate.admit(None, crate::clock().ticks).ok()?;
        let handshakes = downstream::handshakes(stream, &proxy, manner, shared);
        let upgraded = tokio::select! {
            upgraded = timeout(shared.limits.register_timeout, handshakes) => upgraded.ok()??,
            () = ticket.ousted() => return None,
        };
        let client = self.access.client_of(&upgraded.forwarded);
        let client = client.map(|ip| Peer::from_accept((ip, 0).into()));
        if let Some(client) = &client {
            debug!("{proxy} speaks for {client}");
        }
        let peer = client.unwrap_or(proxy);
        if self.access.admits(&peer) {
            return Some((upgraded.stream, peer));
        }
        self.turn_away(&upgraded.stream, &peer, manner);
        downstream::refuse(upgraded.stream, manner, NOT_YOU).await;
        None
    }

    /// The header counts among all that have not logged in, but not against the proxy's address. `None`: this connection
    /// has to give way to another one.
    async fn header(
        &self,
        tcp: &mut TcpStream,
    ) -> Option<Result<Option<std::net::SocketAddr>, ProxyError>> {
        let gate = &self.shared.auth.gate;
        let ticket = gate.admit(None, crate::clock().ticks).ok()?;
        tokio::select! {
            header = proxy::read(tcp) => Some(header),
            () = ticket.ousted() => None,
        }
    }

    fn turn_away(&self, stream: &Stream, peer: &Peer, manner: Manner) -> Option<(Stream, Peer)> {
        if let (Stream::Tcp(tcp), false) = (stream, manner.scheme == Scheme::Tls) {
            // Whoever does not take it at once goes without.
            let _ = match manner.web {
                true => tcp.try_write(&Refusal::Address.answer()),
                false => tcp.try_write(format!("ERROR :Closing link: {NOT_YOU}\r\n").as_bytes()),
            };
        }
        self.shared.counters.refused.add("address");
        if let Some(untold) = self.complaints.refused.may_tell() {
            info!("{peer} may not come in by server.allow and server.deny{untold}");
        }
        None
    }
}
