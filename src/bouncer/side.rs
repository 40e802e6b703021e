//! Doors beside the one for clients: those where it is asked how carom is doing, or who holds a connection. Open from the
//! start to the end; who comes in gets one answer in a task of its own.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::info;

use crate::config::{Config, Listen};
use crate::net::open::{self, Options};
use crate::net::plan::Planned;
use crate::net::resolve::System;
use crate::net::{Idents, ListenError, Listener, Peer, Stream};

/// So many servers are told at a time whose a connection is.
const ASKING: usize = 64;

/// Opens the sockets of such a door, and adds them to the whole plan.
pub(super) async fn open(
    config: &Config,
    listens: &[Listen],
    resolver: &System,
    whole: &mut Vec<Planned>,
) -> Result<Vec<Listener>, ListenError> {
    let plan = open::plan_all(listens, resolver).await?;
    let sockets = open::open(&plan, &[], Options::new(&config.dial)).await;
    whole.extend(plan);
    sockets
}

/// The doors; dropped, they are closed.
#[derive(Default)]
pub(super) struct Doors(JoinSet<()>);

impl Doors {
    /// Has servers told whose connections are.
    pub(super) fn identify(&mut self, sockets: Vec<Listener>, idents: Idents) {
        for socket in &sockets {
            if let Some(addr) = socket.local_addr() {
                info!("servers are told at {addr} whose connections are");
            }
        }
        let serve = move |stream, peer| idents.clone().serve(stream, peer);
        self.serve(sockets, ASKING, serve);
    }

    /// Has whoever comes in by these sockets served, so many at a time. Others wait to be accepted.
    pub(super) fn serve<Served>(
        &mut self,
        sockets: Vec<Listener>,
        most: usize,
        serve: impl Fn(Stream, Peer) -> Served + Clone + Send + 'static,
    ) where
        Served: Future<Output = ()> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(most));
        for socket in sockets {
            let (places, serve) = (Arc::clone(&places), serve.clone());
            self.0.spawn(async move {
                while let Ok(place) = Arc::clone(&places).acquire_owned().await {
                    let (stream, peer) = socket.accept().await;
                    let served = serve(stream, peer);
                    tokio::spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
            });
        }
    }
}
