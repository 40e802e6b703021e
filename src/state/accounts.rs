//! Accounts that clients make on the network (draft/account-registration): REGISTER and VERIFY carry passwords, so they go
//! to the server and nowhere else. What comes of them is told to who asked; an account that was made is kept, so that it is
//! logged in to from then on, where nothing else is configured.

use crate::config::{self, diff};
use crate::config::{Sasl, Secret};
use crate::wire::{Cap, Line};

use super::Network;
use super::feature::{Answer, Asked, Feature, NOTHING, Offer, Received, Rule, Source};
use super::sasl::Applicant;
use super::turn::{Action, Ask, Audience, Item, NewAccount, Turn};

pub(super) static ACCOUNTS: Feature = Feature {
    offers: &[Offer(Cap::AccountRegistration, Source::Server)],
    server: &[
        Rule::new(b"REGISTER", 1, Network::on_account_made),
        Rule::new(b"VERIFY", 1, Network::on_account_made),
    ],
    client: &[
        Rule::new(b"REGISTER", 1, Network::ask_account),
        Rule::new(b"VERIFY", 1, Network::ask_account),
    ],
    ..NOTHING
};

/// An account on its way, as far as this link has seen it.
#[derive(Debug, Clone, Default)]
pub(super) enum Making {
    /// None.
    #[default]
    Nothing,
    /// It was asked for, with this password.
    Asked(NewAccount),
    /// It was made, and we are logged in to it.
    Done(String),
}

impl Network {
    fn ask_account(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let making = self.new_account(&asked.line);
        let since = turn.now.ticks;
        if let Some(link) = self.link_mut() {
            link.applicant = Some(Applicant {
                client: asked.from,
                since,
            });
            if let Some(account) = making {
                link.making = Making::Asked(account);
            }
        }
        self.forward(asked, turn)
    }

    /// `REGISTER account email password`; `*` is an account called as the nick. Nothing where it would not be kept.
    fn new_account(&self, line: &Line<'_>) -> Option<NewAccount> {
        let is_kept = line.is(b"REGISTER") && self.settings.network.sasl.is_none();
        let (Some(name), Some(password)) = (line.param(0), line.param(2).filter(|_| is_kept))
        else {
            return None;
        };
        let name = if name == b"*" { self.nick() } else { name };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        Some(NewAccount {
            name: text(name)?,
            password: Secret::new(text(password)?),
        })
    }

    fn on_account_made(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let applicant = self.link().and_then(|link| link.applicant);
        let to = applicant.map_or(Audience::All, |a| Audience::One(a.client));
        self.pass_on(received, to, turn);
        let line = &received.line;
        if line.param(0) != Some(b"SUCCESS") {
            return;
        }
        let after = self.head();
        let (Some(link), Some(applicant)) = (self.link_mut(), applicant) else {
            return;
        };
        let Making::Asked(account) = std::mem::take(&mut link.making) else {
            return;
        };
        let made = line.param(1).unwrap_or_default();
        if made.eq_ignore_ascii_case(account.name.as_bytes()) {
            link.making = Making::Done(account.name.clone());
            let item = Item::Ask {
                ask: Ask::Account(Box::new(account)),
                label: None,
                after,
            };
            turn.push(Action::Put(applicant.client, item));
        }
    }

    /// The server refused something, perhaps an account.
    pub(super) fn on_fail(&mut self, received: &Received<'_>, turn: &mut Turn) {
        if received.line.param(0) == Some(b"REGISTER")
            && let Some(link) = self.link_mut()
        {
            link.making = Making::Nothing;
        }
        self.route_standard(received, turn);
    }

    /// Whether all that differs is that an account is kept which was made on this link: it is logged in to already.
    pub(super) fn is_made_account(&mut self, old: &config::Network) -> bool {
        let new = &self.settings.network;
        let sasl_alone = diff::needs_new_link(old, new) == ["sasl"] && old.sasl.is_none();
        let account = match &new.sasl {
            Some(Sasl::Plain { account, .. }) if sasl_alone => account.clone(),
            _ => return false,
        };
        let Some(link) = self.link_mut() else {
            return false;
        };
        match std::mem::take(&mut link.making) {
            Making::Done(name) => name == account,
            Making::Asked(_) | Making::Nothing => false,
        }
    }
}
