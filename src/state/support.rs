//! ISUPPORT (005) and the rest of a server's welcome: what it says it can do, and what of it clients
//! are told, written anew from what was understood.

use bytes::Bytes;

use crate::config::Rate;
use crate::wire::{Isupport, LineBuilder};

use super::feature::{Answer, Asked, Feature, NOTHING, Received, Rule};
use super::turn::{Audience, ClientId, Turn};
use super::{Network, identity};

pub(super) static SUPPORT: Feature = Feature {
    server: &[
        Rule::new(b"001", 1, ignore),
        Rule::new(b"002", 0, ignore),
        Rule::new(b"003", 0, ignore),
        Rule::new(b"004", 4, Network::on_myinfo),
        Rule::new(b"005", 2, Network::on_isupport),
        Rule::new(b"375", 0, Network::on_motd),
        Rule::new(b"372", 0, Network::on_motd),
        Rule::new(b"376", 0, Network::on_end_of_motd),
        Rule::new(b"422", 0, Network::on_end_of_motd),
    ],
    client: &[Rule::new(b"VERSION", 0, Network::ask_version)],
    ..NOTHING
};

/// At most so many tokens a line, so that with the nick and the text there are no more than 15
/// parameters (RFC 1459 section 2.3).
const TOKENS_PER_LINE: usize = 13;
/// At most so many bytes of tokens a line.
const BYTES_PER_LINE: usize = 400;

/// No client is put off for sending too fast: what cannot leave yet waits, and is not read.
const SAFERATE: &[u8] = b"soju.im/SAFERATE";

fn ignore(_: &mut Network, _: &Received<'_>, _: &mut Turn) {}

impl Network {
    fn on_myinfo(&mut self, received: &Received<'_>, _: &mut Turn) {
        let Some(link) = self.link_mut() else { return };
        for (n, modes) in link.server_modes.iter_mut().enumerate() {
            *modes = received.line.param(3 + n).unwrap_or_default().to_vec();
        }
    }

    /// Before the end of the welcome it is gathered; later (a rehash) the difference is told at once.
    fn on_isupport(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let Some(link) = self.link_mut() else { return };
        let before = link.welcomed.then(|| link.isupport.clone());
        let tokens = received.line.param_count().saturating_sub(1);
        for token in received
            .line
            .params()
            .skip(1)
            .take(tokens.saturating_sub(1))
        {
            link.isupport.apply(token);
        }
        if let Some(before) = before {
            link.rank_anew(&before);
        }
        let (mapping, welcomed) = (link.isupport.casemapping(), link.welcomed);
        self.refold(mapping, turn);
        if welcomed {
            self.pace();
            self.face_link(turn);
        }
    }

    /// A server that says it bears anything is sent what there is.
    pub(super) fn pace(&mut self) {
        let bears_all = self
            .link()
            .is_some_and(|link| link.isupport.has(b"soju.im/SAFERATE"));
        self.outgoing.set_rate(match bears_all {
            true => Rate {
                burst: 0,
                ..self.settings.network.flood
            },
            false => self.settings.network.flood,
        });
    }

    /// The message of the day that follows the welcome is nobody's; one that was asked for is the asker's.
    fn on_motd(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if self.link().is_some_and(|link| link.welcomed) {
            self.on_numeric(received, turn);
        }
    }

    fn on_end_of_motd(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if self.link().is_some_and(|link| link.welcomed) {
            return self.on_numeric(received, turn);
        }
        self.welcomed(turn);
    }

    fn ask_version(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        if asked.line.param_count() > 0 {
            return self.forward(asked, turn);
        }
        let version = concat!("carom-", env!("CARGO_PKG_VERSION"));
        let line = self
            .numeric(351)
            .param(version.as_bytes())
            .param(self.settings.server.as_bytes());
        turn.tell(asked.from, line.trailing(b"IRC bouncer").build());
        self.tell_support(asked.from, turn);
        Answer::Now
    }

    /// A network that takes UTF-8 alone is sent nothing else.
    pub(super) fn refuse_bytes(&self, asked: &Asked<'_>, turn: &mut Turn) -> Option<Answer> {
        let link = self.link()?;
        if !link.isupport.has(b"UTF8ONLY") || std::str::from_utf8(asked.line.body()).is_ok() {
            return None;
        }
        let text = "This network takes UTF-8 alone, and this was something else; it was not sent";
        let line = LineBuilder::from(self.settings.server.as_bytes(), b"FAIL")
            .param(asked.line.command())
            .param(b"INVALID_UTF8");
        Some(self.answer(asked, line.trailing(text.as_bytes()).build(), turn))
    }

    /// All of 005.
    pub(super) fn tell_support(&self, to: ClientId, turn: &mut Turn) {
        let mut tokens = self.face.isupport.tokens();
        if !self.face.takes_tags {
            tokens.retain(|token| !super::face::is_tags_denied(token));
            tokens.push(super::face::TAGS_DENIED.to_vec());
        }
        if !tokens.iter().any(|token| identity::is_namelen(token)) {
            tokens.push(identity::namelen_token());
        }
        tokens.push(SAFERATE.to_vec());
        for line in self.support_lines(&tokens) {
            turn.tell(to, line);
        }
    }

    /// Tokens, packed into lines of 005.
    pub(super) fn support_lines(&self, tokens: &[Vec<u8>]) -> Vec<Bytes> {
        let mut lines = Vec::new();
        let mut rest = tokens;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take(TOKENS_PER_LINE).take_while(|token| {
                bytes += token.len() + 1;
                bytes <= BYTES_PER_LINE
            });
            let (line, after) = rest.split_at(fits.count().max(1));
            let numeric = line.iter().fold(self.numeric(5), |l, token| l.param(token));
            lines.push(numeric.trailing(b"are supported by this server").build());
            rest = after;
        }
        lines
    }

    /// A line with a numeric that no feature knows: an answer for whoever asked, else for all.
    pub(super) fn on_numeric(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if !self.link().is_some_and(|link| link.welcomed) && !is_error(received) {
            return;
        }
        if !self.route(received, turn) {
            self.pass_on(received, Audience::All, turn);
        }
    }

    /// What the server said of itself, for `face`.
    pub(super) fn isupport(&self) -> &Isupport {
        self.link()
            .map_or(&self.face.isupport, |link| &link.isupport)
    }
}

fn is_error(received: &Received<'_>) -> bool {
    received
        .line
        .numeric()
        .is_some_and(|n| (400..600).contains(&n))
}
