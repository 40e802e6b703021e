//! Is the other side there? PING and PONG are local in both directions; ERROR and QUIT end one side
//! without the other.

use std::time::Duration;

use crate::wire::LineBuilder;

use super::feature::{Answer, Asked, Feature, NOTHING, Received, Rule};
use super::turn::{Action, Turn};
use super::upstream::Loss;
use super::{Network, Timer};

pub(super) static LIVENESS: Feature = Feature {
    server: &[
        Rule::new(b"PING", 0, Network::on_ping),
        Rule::new(b"PONG", 0, Network::on_pong),
        Rule::new(b"ERROR", 0, Network::on_error),
    ],
    client: &[
        Rule::new(b"PING", 1, Network::ask_ping),
        Rule::new(b"PONG", 0, |_, _, _| Answer::Now),
        Rule::new(b"QUIT", 0, Network::ask_quit),
        Rule::new(b"ERROR", 0, Network::never_passed_on),
        Rule::new(b"SQUIT", 0, Network::on_squit),
        // Of a client for its own bouncer: no server is asked to keep a device's name.
        Rule::new(b"PALAVER", 0, |_, _, _| Answer::Now),
    ],
    ..NOTHING
};

/// So long may a server be silent before it is asked.
const SILENCE: Duration = Duration::from_secs(90);
/// So many PINGs a second are answered.
const MAX_PINGS: u32 = 10;
/// So long may it take to answer.
const ANSWER: Duration = Duration::from_secs(60);

impl Network {
    /// Answered at once, ahead of everything, with all its parameters.
    pub(super) fn on_ping(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let now = turn.now.ticks;
        if let Some(link) = self.link_mut() {
            let (since, count) = &mut link.pings;
            if now.since(*since) >= Duration::from_secs(1) {
                (*since, *count) = (now, 0);
            }
            *count += 1;
            // A server that asks more often is not asking whether we are there.
            if *count > MAX_PINGS {
                return;
            }
        }
        let mut pong = b"PONG ".to_vec();
        pong.extend_from_slice(received.line.rest(0));
        turn.send(pong.into());
    }

    pub(super) fn on_error(&mut self, received: &Received<'_>, _: &mut Turn) {
        let text = String::from_utf8_lossy(received.line.last().unwrap_or_default()).into_owned();
        if let Some(link) = self.link_mut() {
            link.error = Some(text);
        }
    }

    fn ask_ping(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let server = self.settings.server.as_bytes();
        let token = asked.line.param(0).unwrap_or_default();
        // The second parameter is the server that is meant (RFC 2812 section 3.7.2): whoever that is, we answer.
        let meant = asked.line.param(1).unwrap_or(server);
        let pong = LineBuilder::from(server, b"PONG")
            .param(meant)
            .trailing(token)
            .build();
        self.answer(asked, pong, turn)
    }

    /// QUIT only detaches.
    fn ask_quit(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        turn.push(Action::Dismiss(
            asked.from,
            "Goodbye: you stay on the network".to_owned(),
        ));
        Answer::Now
    }

    pub(super) fn watch_liveness(&mut self, turn: &Turn) {
        self.timers
            .set(Timer::Liveness, turn.now.ticks.plus(SILENCE));
    }

    /// Silence is answered by a PING, silence after that by a new link.
    pub(super) fn check_liveness(&mut self, turn: &mut Turn) {
        let now = turn.now.ticks;
        let Some(link) = self.link_mut() else { return };
        let quiet = now.since(link.heard_at);
        let due = link.heard_at.plus(SILENCE);
        if quiet < SILENCE {
            return self.timers.set(Timer::Liveness, due);
        }
        if link.pinged {
            let silence = (SILENCE + ANSWER).as_secs();
            turn.push(Action::Unlink(super::LinkEnd::Drop));
            return self.unlinked(Loss::Closed(format!("no answer for {silence} s")), turn);
        }
        link.pinged = true;
        turn.send(
            LineBuilder::new(b"PING")
                .trailing(self.settings.server.as_bytes())
                .build(),
        );
        self.timers.set(Timer::Liveness, now.plus(ANSWER));
    }
}
