//! Another configuration for a running network. Decides between a NICK, a JOIN, a SETNAME, nothing, and a new link, so
//! that nobody is disturbed by more than what changed.

use crate::config::{self, Channel};
use crate::wire::{Cap, LineBuilder, Name};

use super::outgoing::Lane;
use super::turn::{Action, Audience, Dial, Turn};
use super::upstream::Upstream;
use super::{Network, Settings};

impl Network {
    /// From here on the network is run by other settings.
    pub fn configure(&mut self, settings: Settings, turn: &mut Turn) {
        let old = std::mem::replace(&mut self.settings, settings).network;
        self.pace();
        self.configure_own_talks(turn);
        self.configure_nick(&old, turn);
        self.configure_channels(&old, turn);
        self.configure_link(&old, turn);
        if old.realname != self.settings.network.realname {
            self.realname = None;
        }
        self.presence_changed(turn);
        self.publish(turn);
    }

    /// Another nick in the configuration is wanted at once, whatever was wanted before.
    fn configure_nick(&mut self, old: &config::Network, turn: &mut Turn) {
        let new = &self.settings.network;
        let only_away = old.nick == new.nick;
        if only_away && old.away_nick == new.away_nick {
            return;
        }
        if !only_away {
            self.forget_nick(turn);
        }
        match self.upstream {
            Upstream::Down(_) => self.show_wanted_nick(turn),
            // The server answers what was asked; the rest is asked when it has welcomed us.
            Upstream::Registering(_) => {}
            Upstream::Up(_) => self.want_nick_anew(turn),
        }
    }

    /// While there is no link clients are known by the nick that is wanted.
    fn show_wanted_nick(&mut self, turn: &mut Turn) {
        if self.face.nick == self.wanted_nick {
            return;
        }
        let line = LineBuilder::from(&self.own_source(), b"NICK").trailing(&self.wanted_nick);
        turn.deliver(Audience::All, line.build());
        self.face.nick = self.wanted_nick.clone();
    }

    fn configure_channels(&mut self, old: &config::Network, turn: &mut Turn) {
        let before: Vec<Name> = self.names_of(&old.channels);
        let after: Vec<Name> = self.names_of(&self.settings.network.channels);
        for channel in after.iter().filter(|name| !before.contains(name)) {
            self.forget_parting(channel, turn);
        }
        self.configure_detached(old, turn);
        if !self.link().is_some_and(|link| link.welcomed) {
            return;
        }
        for channel in &after {
            self.rejoin(channel, turn);
        }
        for channel in before.iter().filter(|name| !after.contains(name)) {
            if !self.is_wanted(channel) {
                self.part(channel, turn);
            }
        }
    }

    fn names_of(&self, channels: &[Channel]) -> Vec<Name> {
        let names = channels.iter().map(|c| self.name(c.name.as_bytes()));
        names.collect()
    }

    /// A channel is left, and not joined again.
    pub fn leave(&mut self, channel: &str, turn: &mut Turn) {
        let channel = self.name(channel.as_bytes());
        self.save_parted(&channel, turn);
        self.part(&channel, turn);
        self.publish(turn);
    }

    fn part(&mut self, channel: &Name, turn: &mut Turn) {
        if self.is_member(channel) {
            let line = LineBuilder::new(b"PART").param(channel.as_bytes()).build();
            self.queue(None, Lane::Interactive, line, turn);
        } else if self.face.channels.contains(channel) {
            self.show_parted(channel, b"", turn);
        }
    }

    fn configure_link(&mut self, old: &config::Network, turn: &mut Turn) {
        let new = &self.settings.network;
        if old.servers != new.servers {
            // The server that was jumped to has no such place any more.
            self.jumped_to = 0;
        }
        let new_link = !self.settings.network.reached_as(old) && !self.is_made_account(old);
        let new = &self.settings.network;
        let (was_on, is_on) = (self.is_on(old), self.is_on(new));
        let name = new.name.clone();
        if was_on && !is_on {
            self.hang_up("Disabled", turn);
            turn.push(Action::Dial(Dial::Stop));
            self.announce(&format!("{name}: disconnected"), turn);
        } else if is_on && !was_on {
            self.dial_afresh(turn);
        } else if is_on && new_link {
            self.hang_up("Changing servers", turn);
            let text = format!("{name}: connecting anew, its configuration has changed");
            self.announce(&text, turn);
            // What failed before says nothing about what is configured now.
            self.backoff.failures = 0;
            self.dial_afresh(turn);
        } else if old.realname != new.realname && self.caps_of_link().has(Cap::Setname) {
            let line = LineBuilder::new(b"SETNAME").trailing(new.realname.as_bytes());
            let line = line.build();
            self.queue(None, Lane::Bulk, line, turn);
        }
    }

    /// Whether there is something to be connected to, and the user wants to be.
    fn is_on(&self, network: &config::Network) -> bool {
        network.enabled && !network.servers.is_empty() && !self.offline
    }
}
