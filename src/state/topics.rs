//! Topics: TOPIC, 332 and 333 into state, answers out of it. Being on the channel is `channels`'.
//! What follows our JOIN waits for the introduction.

use serde::{Deserialize, Serialize};

use crate::history::Kind;
use crate::wire::Name;

use super::Network;
use super::feature::{Answer, Asked, Feature, NOTHING, Received, Rule};
use super::turn::Turn;

pub(super) static TOPICS: Feature = Feature {
    server: &[
        Rule::new(b"TOPIC", 1, Network::on_topic),
        Rule::new(b"331", 2, Network::on_no_topic),
        Rule::new(b"332", 3, Network::on_topic_is),
        Rule::new(b"333", 4, Network::on_topic_by),
    ],
    client: &[Rule::new(b"TOPIC", 1, Network::ask_topic)],
    ..NOTHING
};

/// A channel's topic.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Topic {
    pub(super) text: Vec<u8>,
    /// Who set it and when (333).
    pub(super) set: Option<(Vec<u8>, Vec<u8>)>,
}

impl Network {
    fn on_topic(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let channel = self.name(received.line.param(0).unwrap_or_default());
        let seconds = turn
            .now
            .time
            .millis()
            .div_euclid(1000)
            .to_string()
            .into_bytes();
        let text = received.line.param(1).unwrap_or_default().to_vec();
        let set = Some((received.line.source().to_vec(), seconds));
        if let Some(channel) = self.channel_mut(&channel) {
            channel.topic = (!text.is_empty()).then_some(Topic { text, set });
        }
        self.record_line(received, &channel, Kind::Event, turn);
    }

    fn on_no_topic(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let channel = self.name(received.line.param(1).unwrap_or_default());
        if let Some(known) = self.channel_mut(&channel) {
            known.topic = None;
        }
        self.after_join_or_asked(&channel, received, turn);
    }

    fn on_topic_is(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let channel = self.name(received.line.param(1).unwrap_or_default());
        let text = received.line.param(2).unwrap_or_default().to_vec();
        if let Some(known) = self.channel_mut(&channel) {
            let set = known.topic.take().and_then(|topic| topic.set);
            known.topic = Some(Topic { text, set });
        }
        self.after_join_or_asked(&channel, received, turn);
    }

    fn on_topic_by(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let channel = self.name(received.line.param(1).unwrap_or_default());
        let part = |n| received.line.param(n).unwrap_or_default().to_vec();
        let set = Some((part(2), part(3)));
        if let Some(topic) = self
            .channel_mut(&channel)
            .and_then(|known| known.topic.as_mut())
        {
            topic.set = set;
        }
        self.after_join_or_asked(&channel, received, turn);
    }

    /// What follows our JOIN goes into the introduction; the same as an answer goes to the asker.
    fn after_join_or_asked(&mut self, channel: &Name, received: &Received<'_>, turn: &mut Turn) {
        if self.is_introducible(channel) {
            self.on_numeric(received, turn);
        }
    }

    fn ask_topic(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let name = self.name(asked.line.param(0).unwrap_or_default());
        let known = self
            .link()
            .and_then(|link| link.channels.get(&name))
            .filter(|c| c.complete);
        let (Some(channel), 1) = (known, asked.line.param_count()) else {
            return self.forward(asked, turn);
        };
        let name = channel.name.as_bytes();
        let Some(topic) = &channel.topic else {
            let line = self
                .numeric(331)
                .param(name)
                .trailing(b"No topic is set")
                .build();
            return self.answer(asked, line, turn);
        };
        turn.tell(
            asked.from,
            self.numeric(332).param(name).trailing(&topic.text).build(),
        );
        if let Some((setter, time)) = &topic.set {
            turn.tell(
                asked.from,
                self.numeric(333)
                    .param(name)
                    .param(setter)
                    .param(time)
                    .build(),
            );
        }
        Answer::Now
    }
}
