//! Who people are: accounts, hosts, real names; ours as well, for everything that carries our
//! mask. Nicks are `nicks`'.

use bytes::Bytes;

use crate::wire::Cap;

use super::Network;
use super::feature::{Asked, Feature, Form, Offer, Received, Rule, Source};
use super::turn::{Audience, Turn};

pub(super) static IDENTITY: Feature = Feature {
    offers: &[
        Offer(Cap::AccountNotify, Source::Server),
        Offer(Cap::Chghost, Source::Server),
        Offer(Cap::Setname, Source::Server),
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
        self.pass_on(received, Audience::All, turn);
    }

    fn set_account(&mut self, account: Option<Bytes>) {
        let Some(link) = self.link_mut() else { return };
        link.account = account.clone();
        if link.welcomed {
            self.face.account = account;
        }
    }

    fn on_chghost(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if self.is_me(received.line.nick()) {
            self.face.user = received.line.param(0).map(Bytes::copy_from_slice);
            self.face.host = received.line.param(1).map(Bytes::copy_from_slice);
        }
        self.pass_on(received, Audience::All, turn);
    }

    fn on_setname(&mut self, received: &Received<'_>, turn: &mut Turn) {
        self.pass_on(received, Audience::All, turn);
    }

    /// Some servers give `user@host`.
    fn on_visible_host(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let mask = received.line.param(1).unwrap_or_default();
        let mut parts = mask.rsplitn(2, |b| *b == b'@');
        let host = parts.next().map(Bytes::copy_from_slice);
        let user = parts.next().map(Bytes::copy_from_slice);
        let Some(link) = self.link_mut() else { return };
        if !link.welcomed {
            (link.user, link.host) = (user, host);
            return;
        }
        self.face.host = host;
        self.face.user = user.or_else(|| self.face.user.take());
        self.pass_on(received, Audience::All, turn);
    }

    fn on_logged_in(&mut self, received: &Received<'_>, turn: &mut Turn) {
        self.set_account(received.line.param(2).map(Bytes::copy_from_slice));
        self.pass_on_welcomed(received, turn);
    }

    fn on_logged_out(&mut self, received: &Received<'_>, turn: &mut Turn) {
        self.set_account(None);
        self.pass_on_welcomed(received, turn);
    }

    fn ask_setname(&mut self, asked: &Asked<'_>, turn: &mut Turn) {
        if self.caps_of_link().has(Cap::Setname) {
            return self.forward(asked, turn);
        }
        let line = crate::wire::LineBuilder::from(self.settings.server.as_bytes(), b"FAIL")
            .param(b"SETNAME")
            .param(b"CANNOT_CHANGE_REALNAME")
            .trailing(b"The network cannot change it while you are connected");
        self.answer(asked, line.build(), turn);
    }
}
