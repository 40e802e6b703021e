//! Modes: of the user (221, MODE) and of channels (MODE, 324, 329), read by what the server said its
//! letters mean.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::history::Kind;
use crate::wire::{Isupport, Line, LineBuilder, ModeKind, Name};

use super::Network;
use super::channels::Channel;
use super::feature::{Answer, Asked, Feature, NOTHING, Received, Rule};
use super::outgoing::Lane;
use super::turn::Turn;
use super::upstream::Link;

pub(super) static MODES: Feature = Feature {
    server: &[
        Rule::new(b"MODE", 2, Network::on_mode),
        Rule::new(b"221", 2, Network::on_user_mode_is),
        Rule::new(b"324", 3, Network::on_channel_mode_is),
        Rule::new(b"329", 3, Network::on_created),
    ],
    client: &[Rule::new(b"MODE", 1, Network::ask_mode)],
    ..NOTHING
};

/// No parameter of a mode is so long; what is beyond would only cost memory.
const MAX_PARAMETER: usize = 512;

/// One letter of a MODE: set or not, and its parameter.
struct Change<'a> {
    set: bool,
    letter: u8,
    kind: ModeKind,
    parameter: Option<&'a [u8]>,
}

/// The letters of a MODE, with parameters handed out as CHANMODES and PREFIX say.
fn changes<'a>(line: &Line<'a>, first: usize, isupport: &Isupport) -> Vec<Change<'a>> {
    let mut parameters = line.params().skip(first + 1);
    let mut set = true;
    let mut changes = Vec::new();
    for &letter in line.param(first).unwrap_or_default() {
        match letter {
            b'+' => set = true,
            b'-' => set = false,
            _ => {
                let kind = isupport.mode_kind(letter);
                let takes = match kind {
                    ModeKind::List | ModeKind::Always | ModeKind::Prefix(_) => true,
                    ModeKind::OnSet => set,
                    ModeKind::Never => false,
                };
                let parameter = if takes { parameters.next() } else { None };
                changes.push(Change {
                    set,
                    letter,
                    kind,
                    parameter,
                });
            }
        }
    }
    changes
}

impl Channel {
    fn change(&mut self, change: &Change<'_>, member: Option<Name>) {
        match (change.kind, member) {
            (ModeKind::List, _) => {}
            (ModeKind::Prefix(index), Some(nick)) => {
                if let Some(modes) = self.members.get_mut(&nick) {
                    if change.set {
                        modes.insert(index);
                    } else {
                        modes.remove(index);
                    }
                }
            }
            (ModeKind::Prefix(_), None) => {}
            _ => {
                let Some(modes) = &mut self.modes else { return };
                if change.set {
                    let parameter = change.parameter.unwrap_or_default();
                    let kept = &parameter[..parameter.len().min(MAX_PARAMETER)];
                    modes.insert(change.letter, kept.to_vec());
                } else {
                    modes.remove(&change.letter);
                }
            }
        }
    }
}

impl Link {
    /// The server's ranks are others now: members keep theirs by letter.
    pub(super) fn rank_anew(&mut self, before: &Isupport) {
        let ranks = |isupport: &Isupport| -> Vec<u8> {
            (0..8).map_while(|n| isupport.prefix_letter(n)).collect()
        };
        let (old, new) = (ranks(before), ranks(&self.isupport));
        if old == new {
            return;
        }
        let members = self
            .channels
            .values_mut()
            .flat_map(|c| c.members.values_mut());
        for modes in members {
            let was = std::mem::take(modes);
            for (index, letter) in (0..).zip(&old) {
                let place = new
                    .iter()
                    .position(|l| l == letter)
                    .filter(|_| was.contains(index));
                if let Some(place) = place.and_then(|n| u8::try_from(n).ok()) {
                    modes.insert(place);
                }
            }
        }
    }
}

impl Network {
    fn on_mode(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let target = received.line.param(0).unwrap_or_default();
        if self.is_me(target) {
            self.change_own_modes(received.line.param(1).unwrap_or_default());
            self.note_own_change(|person| person.marks = None);
            return self.pass_on_welcomed(received, turn);
        }
        let name = self.name(target);
        let mapping = self.mapping;
        let mut key = None;
        let mut unveiled = false;
        if let Some(link) = self.link_mut()
            && let Some(channel) = link.channels.get_mut(&name)
        {
            for change in changes(&received.line, 1, &link.isupport) {
                let member = change.parameter.map(|nick| Name::new(nick, mapping));
                if !change.set && matches!(change.kind, ModeKind::Prefix(_)) {
                    unveiled |= member
                        .as_ref()
                        .is_some_and(|nick| channel.veiled.remove(nick));
                }
                channel.change(&change, member);
                // Some servers do not show it.
                if change.letter == b'k' && !(change.set && change.parameter == Some(b"*")) {
                    key = Some(change.parameter.filter(|_| change.set).map(<[u8]>::to_vec));
                }
            }
        }
        if let Some(key) = key {
            self.save_key(&name, key.as_deref(), turn);
        }
        self.record_line(received, &name, Kind::Event, turn);
        if unveiled {
            self.refresh_names(&name, turn);
        }
    }

    /// Somebody lost a rank, behind which the server hid any lower one: it is asked.
    fn refresh_names(&mut self, name: &Name, turn: &mut Turn) {
        let channel = self.channel_mut(name).filter(|c| c.complete);
        if channel.is_some_and(|c| !std::mem::replace(&mut c.refreshing, true)) {
            let line = LineBuilder::new(b"NAMES").param(name.as_bytes());
            self.queue(None, Lane::Bulk, line.build(), turn);
        }
    }

    fn change_own_modes(&mut self, text: &[u8]) {
        let Some(link) = self.link_mut() else { return };
        let mut set = true;
        for &letter in text {
            match letter {
                b'+' => set = true,
                b'-' => set = false,
                _ if set => _ = link.modes.insert(letter),
                _ => _ = link.modes.remove(&letter),
            }
        }
        if link.welcomed {
            self.face.modes = link.modes.clone();
        }
    }

    fn on_user_mode_is(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if let Some(link) = self.link_mut() {
            link.modes.clear();
        }
        self.change_own_modes(received.line.param(1).unwrap_or_default());
        self.on_numeric(received, turn);
    }

    fn on_channel_mode_is(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let name = self.name(received.line.param(1).unwrap_or_default());
        if let Some(link) = self.link_mut()
            && let Some(channel) = link.channels.get_mut(&name)
        {
            let modes = changes(&received.line, 2, &link.isupport)
                .iter()
                .map(|c| (c.letter, c.parameter.unwrap_or_default().to_vec()))
                .collect::<BTreeMap<_, _>>();
            channel.modes = Some(modes);
        }
        self.on_numeric(received, turn);
    }

    fn on_created(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let name = self.name(received.line.param(1).unwrap_or_default());
        if let Some(channel) = self
            .link_mut()
            .and_then(|link| link.channels.get_mut(&name))
        {
            channel.created = received.line.param(2).map(Bytes::copy_from_slice);
        }
        self.on_numeric(received, turn);
    }

    /// What is known is answered from state: the user's own modes, and a channel's once they were asked
    /// for.
    fn ask_mode(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let target = asked.line.param(0).unwrap_or_default();
        let query = asked.line.param_count() == 1;
        if query && self.is_me(target) {
            let line = self.numeric(221).param(&self.face.modes_text()).build();
            return self.answer(asked, line, turn);
        }
        let name = self.name(target);
        let known = self
            .link()
            .and_then(|link| link.channels.get(&name))
            .filter(|_| query);
        let Some((modes, channel)) = known.and_then(|c| Some((c.modes.as_ref()?, c))) else {
            return self.forward(asked, turn);
        };
        let letters: Vec<u8> = std::iter::once(b'+').chain(modes.keys().copied()).collect();
        let line = self
            .numeric(324)
            .param(channel.name.as_bytes())
            .param(&letters);
        let parameters = modes.values().filter(|p| !p.is_empty());
        let line = parameters.fold(line, |line, parameter| line.param(parameter));
        let created = channel.created.as_ref();
        let created = created.map(|at| {
            self.numeric(329)
                .param(channel.name.as_bytes())
                .param(at)
                .build()
        });
        if let Some(created) = created {
            turn.tell(asked.from, line.build());
            return self.answer(asked, created, turn);
        }
        self.answer(asked, line.build(), turn)
    }
}
