//! Standard replies in the form a client knows: who does not know them is told of WARN and NOTE by NOTICE. A FAIL
//! goes to everybody as it is, as the specifications that define one do not ask for the capability. Whom they
//! reach is `routing`'s.

use bytes::Bytes;

use crate::wire::{Cap, LineBuilder};

use super::Network;
use super::feature::{Feature, NOTHING, Offer, Received, Rule, Source};

pub(super) static REPLIES: Feature = Feature {
    offers: &[Offer(Cap::StandardReplies, Source::Ours)],
    server: &[
        Rule::new(b"FAIL", 1, Network::on_fail),
        Rule::new(b"WARN", 1, Network::route_standard),
        Rule::new(b"NOTE", 1, Network::route_standard),
    ],
    ..NOTHING
};

impl Network {
    /// `WARN REHASH CERTS_EXPIRED :text` as a NOTICE: `REHASH: text`.
    pub(super) fn standard_notice(&self, received: &Received<'_>) -> Bytes {
        let line = &received.line;
        let text = line.last().unwrap_or_default();
        let text = match line.param(0) {
            Some(b"*") | None => text.to_vec(),
            Some(command) => [command, b": ", text].concat(),
        };
        let source = if line.source().is_empty() {
            self.settings.server.as_bytes()
        } else {
            line.source()
        };
        LineBuilder::from(source, b"NOTICE")
            .param(self.nick())
            .trailing(&text)
            .build()
    }
}
