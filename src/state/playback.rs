//! znc.in/playback: a client says from when on it wants what was said, to `*playback` or by `ZNC *playback`. Its
//! writer answers. Nothing of it ever goes to the server.

use bytes::Bytes;

use crate::history::{EntryId, Only, Write};
use crate::wire::{Cap, Name, Timestamp};

use super::Network;
use super::chathistory::LIMIT;
use super::feature::{Answer, Asked, Feature, NOTHING, Offer, Rule, Source};
use super::turn::{Action, Ask, Item, Play, Turn};

pub(super) static PLAYBACK: Feature = Feature {
    offers: &[Offer(Cap::Playback, Source::OursWhenBound)],
    client: &[Rule::new(b"ZNC", 0, Network::ask_znc)],
    ..NOTHING
};

/// Whom playback is asked of.
pub(super) const NAME: &[u8] = b"*playback";

impl Network {
    /// `ZNC *playback PLAY ...`; what else ZNC's users say is for a program that is not here.
    fn ask_znc(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let whom = asked.line.param(0).unwrap_or_default();
        if whom.eq_ignore_ascii_case(NAME) {
            let words = asked.line.rest(1);
            self.ask_playback(words.strip_prefix(b":").unwrap_or(words), asked, turn);
        } else {
            turn.tell(asked.from, self.notice("only *playback is known here"));
        }
        Answer::Now
    }

    /// What was said to `*playback`.
    pub(super) fn ask_playback(&mut self, text: &[u8], asked: &Asked<'_>, turn: &mut Turn) {
        let mut words = text.split(|b| *b == b' ').filter(|word| !word.is_empty());
        let verb = words.next().unwrap_or_default().to_ascii_uppercase();
        let list = words.next().unwrap_or(b"*");
        let targets = list
            .split(|b| *b == b',')
            .filter(|target| !target.is_empty());
        let targets: Vec<Name> = match list == b"*" {
            true => Vec::new(),
            false => targets.take(LIMIT).map(|t| self.canonical(t)).collect(),
        };
        match verb.as_slice() {
            b"PLAY" => {
                let (from, to) = (words.next(), words.next());
                let from = from.and_then(seconds).unwrap_or_default();
                let play = self.play(targets, from, to.and_then(seconds), asked);
                self.put_ask(asked, Ask::Play(Box::new(play)), turn);
            }
            b"LIST" => {
                let play = self.play(targets, Timestamp::default(), None, asked);
                self.put_ask(asked, Ask::List(Box::new(play)), turn);
            }
            b"CLEAR" => self.clear_playback(targets, turn),
            _ => turn.tell(
                asked.from,
                self.notice("*playback knows PLAY, LIST and CLEAR"),
            ),
        }
    }

    fn put_ask(&self, asked: &Asked<'_>, ask: Ask, turn: &mut Turn) {
        let item = Item::Ask {
            ask,
            label: None,
            after: self.head(),
        };
        turn.push(Action::Put(asked.from, item));
    }

    fn play(
        &self,
        targets: Vec<Name>,
        from: Timestamp,
        to: Option<Timestamp>,
        asked: &Asked<'_>,
    ) -> Play {
        let caps = self.clients.get(&asked.from).map(|client| client.caps);
        let events = caps.is_some_and(|caps| caps.has(Cap::EventPlayback));
        Play {
            targets,
            from,
            to,
            kinds: if events { Only::All } else { Only::Messages },
            floors: self.positions.floors(),
            timestamps: self.settings.network.history.timestamps.clone(),
            mapping: self.mapping,
            channels: Bytes::copy_from_slice(self.channel_sigils()),
            nick: Bytes::copy_from_slice(self.nick()),
        }
    }

    /// What begins the name of a channel.
    fn channel_sigils(&self) -> &[u8] {
        self.isupport().value(b"CHANTYPES").unwrap_or(b"#&")
    }

    /// Nothing up to now is played, or replayed, any more. It stays in the log.
    fn clear_playback(&mut self, targets: Vec<Name>, turn: &mut Turn) {
        let head = self.head();
        let targets = match targets.is_empty() {
            true => {
                let all = self.recent.after(EntryId::default(), |_| false);
                all.map(|(name, _)| name.clone()).collect()
            }
            false => targets,
        };
        for target in targets {
            self.positions.restore_floor(target.clone(), head);
            self.remember(Write::Floor { target, id: head }, turn);
        }
    }
}

/// Unix seconds, with or without decimals; 0 is the beginning.
fn seconds(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok().filter(|s| (0..1 << 40).contains(s))?;
    if !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let millis: i64 = format!("{decimals:0<3}").get(..3)?.parse().ok()?;
    Some(Timestamp::from_millis(seconds * 1000 + millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_with_or_without_decimals() {
        for (text, millis) in [
            ("0", Some(0)),
            ("1767340800", Some(1_767_340_800_000)),
            ("1767340800.5", Some(1_767_340_800_500)),
            ("1767340800.123456", Some(1_767_340_800_123)),
            ("1767340800.", Some(1_767_340_800_000)),
            ("-1", None),
            ("1.x", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            let time = seconds(text.as_bytes());
            assert_eq!(time.map(Timestamp::millis), millis, "{text}");
        }
    }
}
