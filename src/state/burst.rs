//! What a client is told when it attaches: who it is, what the network can do, then one target after
//! the other: JOIN, topic, names, and what it missed there. Portions of 64 KiB, so that a large burst
//! never meets the limit of the client's queue.

use bytes::Bytes;

use crate::wire::{CapSet, LineBuilder, Name};

use super::turn::{Action, Ask, ClientId, Item, Plan, Renamed, Turn};
use super::{Network, feature};

/// So much is introduced at a time.
const PORTION: usize = 64 * 1024;

impl Network {
    /// Everything a new client is told.
    pub(super) fn burst(&mut self, to: ClientId, turn: &mut Turn) {
        self.withdraw_caps(to, turn);
        self.tell_values(to, turn);
        self.welcome(to, turn);
        self.follow_networks(to, turn);
        let Some(client) = self.clients.get_mut(&to) else {
            return;
        };
        if let super::Upstream::Up(link) = &self.upstream {
            let shown = link.channels.values().filter(|c| c.complete);
            let shown = shown.filter(|c| !self.detached.hides(&c.name));
            shown.for_each(|channel| client.arriving.push(channel.name.clone()));
        }
        let name = client.name.clone();
        for target in self.positions.behind(&name) {
            // A channel is introduced when we are on it and know its names.
            if !self.face.isupport.is_channel(target.as_bytes()) {
                client.arriving.push(target.clone());
            }
        }
        self.introduce(to, turn);
        if self.link().is_none() && !self.settings.network.servers.is_empty() {
            turn.tell(to, self.notice(&self.outage_text(turn.now.ticks)));
        }
        self.tell_missing(to, turn);
    }

    /// 001 to 005, the user's modes and host, and the message of the day.
    fn welcome(&self, to: ClientId, turn: &mut Turn) {
        let server = self.settings.server.as_bytes();
        let nick = self.nick();
        let text = |n, text: &str| self.numeric(n).trailing(text.as_bytes()).build();
        let network = self.settings.network.name.as_str();
        let greeting = if network.is_empty() {
            "carom".to_owned()
        } else {
            format!("{network}, through carom")
        };
        turn.tell(
            to,
            text(
                1,
                &format!("Welcome to {greeting}, {}", String::from_utf8_lossy(nick)),
            ),
        );
        turn.tell(
            to,
            text(
                2,
                &format!("Your host is {}, running carom", self.settings.server),
            ),
        );
        turn.tell(to, text(3, "This server stays when you go"));
        let [user_modes, modes, modes_with_parameter] = &self.face.server_modes;
        let mut myinfo = self
            .numeric(4)
            .param(server)
            .param(b"carom")
            .param(user_modes)
            .param(modes);
        if !modes_with_parameter.is_empty() {
            myinfo = myinfo.param(modes_with_parameter);
        }
        turn.tell(to, myinfo.build());
        self.tell_support(to, turn);
        self.tell_history_limits(to, turn);
        if let Some(line) = self.netid_line(to) {
            turn.tell(to, line);
        }
        if !self.face.modes.is_empty() {
            turn.tell(to, self.numeric(221).param(&self.face.modes_text()).build());
        }
        if let Some(line) = self.visible_host_line() {
            turn.tell(to, line);
        }
        if let Some(line) = self.logged_in_line() {
            turn.tell(to, line);
        }
        self.tell_own_away(to, turn);
        self.tell_own_metadata(to, turn);
        self.tell_motd(to, turn);
    }

    /// The message of the day of carom itself.
    fn tell_motd(&self, to: ClientId, turn: &mut Turn) {
        if self.settings.motd.is_empty() {
            let line = self
                .numeric(422)
                .trailing(b"No message of the day here; /motd asks the network");
            return turn.tell(to, line.build());
        }
        let start = format!("- {} Message of the day -", self.settings.server);
        turn.tell(to, self.numeric(375).trailing(start.as_bytes()).build());
        for line in &self.settings.motd {
            turn.tell(
                to,
                self.numeric(372)
                    .trailing(format!("- {line}").as_bytes())
                    .build(),
            );
        }
        turn.tell(
            to,
            self.numeric(376).trailing(b"End of /MOTD command").build(),
        );
    }

    /// The client's writer has come to the end of a portion.
    pub fn more(&mut self, from: ClientId, turn: &mut Turn) {
        self.introduce(from, turn);
    }

    /// Introduces what is arriving, a portion at a time.
    pub(super) fn introduce(&mut self, to: ClientId, turn: &mut Turn) {
        let mut told = 0;
        while let Some(client) = self.clients.get_mut(&to) {
            if told >= PORTION {
                return turn.push(Action::Put(to, Item::More));
            }
            let Some(target) = client.arriving.pop() else {
                return;
            };
            told += self.introduce_one(to, &target, turn);
            if !client_has_more(self, to) {
                return;
            }
        }
    }

    fn introduce_one(&mut self, to: ClientId, target: &Name, turn: &mut Turn) -> usize {
        let head = self.head();
        let before = turn.actions.len();
        self.tell_channel(to, target, turn);
        let told = turn.actions[before..].iter().map(size).sum();
        let Some(client) = self.clients.get_mut(&to) else {
            return told;
        };
        let behind = self.positions.is_behind(&client.name, target);
        let position = behind.then(|| self.positions.get(&client.name, target));
        let again = client.attached_again.remove(target);
        let name = client.name.clone();
        // What was counted as seen meanwhile is nobody's to replay.
        let floor = self.positions.floor(target);
        let after = client.introduce(target, position, head);
        let after = after.map(|after| after.max(floor));
        if let Some(after) = after.filter(|after| *after < head) {
            let rules = self.rules(target);
            let plan = Plan {
                target: target.clone(),
                after,
                through: head,
                newest: if again { rules.lines } else { 0 },
                only_messages: rules.only_messages,
                timestamps: rules.timestamps.clone(),
                own: self.nick_within(target),
                not_by: Some(name),
                renamed: None,
            };
            put_replay(to, plan, turn);
        }
        told
    }

    /// A target has another name: what the client lacks of it, which may have been on its way under the old one.
    pub(super) fn replay_renamed(
        &mut self,
        to: ClientId,
        new: &Name,
        renamed: Renamed,
        turn: &mut Turn,
    ) {
        let head = self.head();
        let Some(client) = self.clients.get_mut(&to) else {
            return;
        };
        let late = renamed.late.iter().map(|(after, _)| *after);
        let Some(after) = late.chain(renamed.own_after).min() else {
            return;
        };
        let from = after.min(self.positions.get(&client.name, new));
        client.replay_anew(new, from, (after, head));
        let name = client.name.clone();
        let rules = self.rules(new);
        let plan = Plan {
            target: new.clone(),
            after,
            through: head,
            newest: 0,
            only_messages: rules.only_messages,
            timestamps: rules.timestamps.clone(),
            own: None,
            not_by: Some(name),
            renamed: Some(renamed),
        };
        put_replay(to, plan, turn);
    }

    /// JOIN, topic and names of a channel we are on; nothing of another target.
    pub(super) fn tell_channel(&self, to: ClientId, target: &Name, turn: &mut Turn) {
        let Some(channel) = self.link().and_then(|link| link.channels.get(target)) else {
            return;
        };
        let name = channel.name.as_bytes();
        turn.tell(to, self.own_join(name));
        if let Some(topic) = &channel.topic {
            turn.tell(
                to,
                self.numeric(332).param(name).trailing(&topic.text).build(),
            );
            if let Some((setter, time)) = &topic.set {
                turn.tell(
                    to,
                    self.numeric(333)
                        .param(name)
                        .param(setter)
                        .param(time)
                        .build(),
                );
            }
        }
        self.tell_marker(to, &channel.name, turn);
        if self.wants_names(to) {
            self.tell_names(to, channel, turn);
        }
    }

    /// Our own JOIN, in its longest form.
    fn own_join(&self, channel: &[u8]) -> Bytes {
        let account = self.face.account.as_deref().unwrap_or(b"*");
        let realname = self.realname();
        LineBuilder::from(&self.own_source(), b"JOIN")
            .param(channel)
            .param(account)
            .trailing(realname)
            .build()
    }

    /// `nick!user@host` as far as it is known.
    pub(super) fn own_source(&self) -> Vec<u8> {
        let mut source = self.nick().to_vec();
        source.push(b'!');
        let user = self.face.user.as_deref();
        source.extend_from_slice(user.unwrap_or(self.settings.network.username.as_bytes()));
        source.push(b'@');
        source.extend_from_slice(
            self.face
                .host
                .as_deref()
                .unwrap_or(self.settings.server.as_bytes()),
        );
        source
    }

    /// The login offered our own way to log in; from here on it is the network's.
    fn tell_values(&self, to: ClientId, turn: &mut Turn) {
        let client = self.clients.get(&to).filter(|c| c.version >= 302);
        let told = client
            .map(|client| client.follows(self.face.caps))
            .unwrap_or_default();
        let with_value: CapSet = told
            .iter()
            .filter(|cap| self.face.values.get(*cap).is_some())
            .collect();
        if !with_value.is_empty() {
            self.tell_caps(to, b"NEW", with_value, turn);
        }
    }

    /// Tells a client that capabilities it was offered are not to be had on this network.
    fn withdraw_caps(&mut self, to: ClientId, turn: &mut Turn) {
        let mut lacking = feature::offered(feature::Source::Server).difference(self.face.caps);
        if !self.is_bound() {
            lacking |= feature::offered(feature::Source::OursWhenBound);
        }
        let Some(client) = self.clients.get_mut(&to) else {
            return;
        };
        let lacking = client.follows(lacking);
        // Who speaks no CAP 302 was offered only what is always there.
        if client.version < 302 || lacking.is_empty() {
            return;
        }
        client.caps = client.caps.difference(lacking);
        let view = client.view();
        self.tell_caps(to, b"DEL", lacking, turn);
        turn.push(Action::View(to, view));
    }
}

fn put_replay(to: ClientId, plan: Plan, turn: &mut Turn) {
    let item = Item::Ask {
        after: plan.through,
        ask: Ask::Replay(plan),
        label: None,
    };
    turn.push(Action::Put(to, item));
}

fn client_has_more(network: &Network, to: ClientId) -> bool {
    network
        .clients
        .get(&to)
        .is_some_and(|client| !client.arriving.is_empty())
}

fn size(action: &Action) -> usize {
    match action {
        Action::Deliver { line, .. } => line.line.len() + 2,
        _ => 0,
    }
}
