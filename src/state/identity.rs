//! Who people are: accounts, hosts, real names; ours as well, for everything that carries our
//! mask. Nicks are `nicks`'.

use bytes::Bytes;

use crate::wire::{Cap, LineBuilder};

use super::Network;
use super::clients::Attached;
use super::feature::{Answer, Asked, Feature, Form, Offer, Received, Rule, Source};
use super::turn::{Audience, Turn};

pub(super) static IDENTITY: Feature = Feature {
    offers: &[
        Offer(Cap::AccountNotify, Source::Server),
        Offer(Cap::Chghost, Source::Server),
        Offer(Cap::Setname, Source::Ours),
    ],
    server: &[
        Rule::new(b"ACCOUNT", 1, Network::on_account),
        Rule::new(b"CHGHOST", 2, Network::on_chghost),
        Rule::new(b"SETNAME", 1, Network::on_setname),
        Rule::new(b"396", 2, Network::on_visible_host),
        Rule::new(b"900", 3, Network::on_logged_in),
        Rule::new(b"901", 1, Network::on_logged_out),
    ],
    client: &[Rule::new(b"SETNAME", 1, Network::ask_setname)],
    forms: &[
        Form {
            command: b"ACCOUNT",
            unless: Cap::AccountNotify,
            write: |_, _, _| {},
        },
        Form {
            command: b"CHGHOST",
            unless: Cap::Chghost,
            write: |_, _, _| {},
        },
        Form {
            command: b"SETNAME",
            unless: Cap::Setname,
            write: |_, _, _| {},
        },
    ],
};

/// The longest real name, where the server has not said how long one may be: known servers take 50 to 150 bytes,
/// and SETNAME with so many fits into a line of ours and into one of the server's, whatever our mask.
const MAX_REALNAME: usize = 150;

/// `setname` asks for a limit: ours, where the server tells none.
pub(super) fn namelen_token() -> Vec<u8> {
    format!("NAMELEN={MAX_REALNAME}").into_bytes()
}

/// Whether the token is about that limit.
pub(super) fn is_namelen(token: &[u8]) -> bool {
    let key = token.strip_prefix(b"-").unwrap_or(token);
    key.split(|b| *b == b'=').next() == Some(b"NAMELEN")
}

impl Network {
    /// A line of ours shows how others see us.
    pub(super) fn learn_own_source(&mut self, received: &Received<'_>, _: &mut Turn) {
        if let Some((user, host)) = received.line.user_host() {
            self.face.user = Some(Bytes::copy_from_slice(user));
            self.face.host = Some(Bytes::copy_from_slice(host));
        }
    }

    fn on_account(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if self.is_me(received.line.nick()) {
            let account = received.line.param(0).filter(|account| *account != b"*");
            self.set_account(account.map(Bytes::copy_from_slice));
        }
        self.pass_on_about(received, turn);
    }

    fn set_account(&mut self, account: Option<Bytes>) {
        let told = super::people::kept(account.as_deref().unwrap_or(b"0"));
        self.note_own_change(|person| person.account = told);
        let Some(link) = self.link_mut() else { return };
        link.account = account.clone();
        if link.welcomed {
            self.face.account = account;
        }
    }

    /// Our own is told to who does not know CHGHOST by 396.
    fn on_chghost(&mut self, received: &Received<'_>, turn: &mut Turn) {
        self.pass_on_about(received, turn);
        if !self.is_me(received.line.nick()) {
            return;
        }
        let host = received.line.param(1).map(Bytes::copy_from_slice);
        let is_told = self.face.host == host;
        self.face.user = received.line.param(0).map(Bytes::copy_from_slice);
        self.face.host = host;
        if let Some(line) = self.visible_host_line().filter(|_| !is_told) {
            let to = self.those(|client| !client.caps.has(Cap::Chghost));
            turn.deliver(to, line);
        }
    }

    /// Clients of which this is true.
    fn those(&self, is_meant: impl Fn(&Attached) -> bool) -> Audience {
        let clients = self.clients.iter().filter(|(_, client)| is_meant(client));
        Audience::Only(clients.map(|(id, _)| *id).collect())
    }

    fn on_setname(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if self.is_me(received.line.nick()) {
            let name = received.line.param(0).unwrap_or_default();
            self.save_realname(name, turn);
        }
        self.pass_on_about(received, turn);
    }

    /// Some servers give `user@host`.
    fn on_visible_host(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let mask = received.line.param(1).unwrap_or_default();
        let mut parts = mask.rsplitn(2, |b| *b == b'@');
        let host = parts.next().map(Bytes::copy_from_slice);
        let user = parts.next().map(Bytes::copy_from_slice);
        self.note_own_change(|person| {
            person.host.clone_from(&host);
            person.user = user.clone().or_else(|| person.user.take());
        });
        let Some(link) = self.link_mut() else { return };
        if !link.welcomed {
            (link.user, link.host) = (user, host);
            return;
        }
        // Where the server says it twice, by CHGHOST and by 396, the others have their 396 already.
        let is_told = self.face.host == host && host.is_some();
        self.face.host = host;
        self.face.user = user.or_else(|| self.face.user.take());
        let to = if is_told {
            self.those(|client| client.caps.has(Cap::Chghost))
        } else {
            Audience::All
        };
        self.pass_on(received, to, turn);
    }

    /// Nicks and channels that are for those who have logged in may be had now.
    fn on_logged_in(&mut self, received: &Received<'_>, turn: &mut Turn) {
        self.set_account(received.line.param(2).map(Bytes::copy_from_slice));
        self.learn_from_mask(received.line.param(1).unwrap_or_default());
        self.pass_on_welcomed(received, turn);
        self.nick_after_login(turn);
        self.rejoin_after_login(turn);
    }

    /// `nick!user@host` as the server sees it, where nothing better is known.
    fn learn_from_mask(&mut self, mask: &[u8]) {
        let mask = mask.splitn(2, |b| *b == b'!').nth(1).unwrap_or_default();
        let mut parts = mask.splitn(2, |b| *b == b'@');
        if let (Some(user), Some(host)) = (parts.next(), parts.next())
            && self.face.host.is_none()
            && !matches!(host, b"" | b"*")
        {
            self.face.user = Some(Bytes::copy_from_slice(user));
            self.face.host = Some(Bytes::copy_from_slice(host));
        }
    }

    fn on_logged_out(&mut self, received: &Received<'_>, turn: &mut Turn) {
        self.set_account(None);
        self.pass_on_welcomed(received, turn);
    }

    /// What the server does not take now it is told on the next link.
    fn ask_setname(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let name = asked.line.param(0).unwrap_or_default();
        let most = self.isupport().name_len().unwrap_or(MAX_REALNAME);
        if name.is_empty() || name.len() > most {
            let line = LineBuilder::from(self.settings.server.as_bytes(), b"FAIL")
                .param(b"SETNAME")
                .param(b"INVALID_REALNAME")
                .trailing(b"Realname is not valid");
            return self.answer(asked, line.build(), turn);
        }
        if self.caps_of_link().has(Cap::Setname) {
            return self.forward(asked, turn);
        }
        self.save_realname(name, turn);
        let line = LineBuilder::from(&self.own_source(), b"SETNAME").trailing(name);
        turn.deliver(Audience::All, line.build());
        let line = self.notice("your real name is told to the network at the next connect");
        self.answer(asked, line, turn)
    }
}
