//! Whom and what a request is about: the user, the networks, the one network. Whether it is allowed is `permit`'s, asked
//! here and nowhere else.

use std::sync::Arc;

use crate::command::permit::{Which, Whose, permit};
use crate::command::{Command, Request, Subject};
use crate::directory::{Directory, User};
use crate::mailbox::NetworkHandle;
use crate::state::LinkStatus;

use super::{Caller, Refused, Shared};

/// Everything a request is about, as it is now.
pub(super) struct Scope<'a> {
    pub(super) caller: &'a Caller,
    pub(super) shared: &'a Shared,
    pub(super) directory: Arc<Directory>,
    /// Whose networks are meant where several may be.
    pub(super) users: Vec<Arc<User>>,
    /// The one that is meant where it has to be one.
    user: Option<Arc<User>>,
    network: Option<NetworkHandle>,
    /// The network that was named, if one was.
    pub(super) named: Option<String>,
}

impl<'a> Scope<'a> {
    /// Finds out, and asks whether it is allowed.
    pub(super) fn of(
        request: &Request,
        caller: &'a Caller,
        shared: &'a Shared,
    ) -> Result<Self, Refused> {
        let directory = Arc::clone(&shared.directory.borrow());
        let own = caller.user.as_ref().map(|user| {
            // As it is now: it may have changed since the client attached.
            let known = directory.user(&user.name);
            Arc::clone(known.unwrap_or(user))
        });
        let all = || directory.users().cloned().collect::<Vec<_>>();
        let everybody = matches!(request.command, Command::NetworkStatus { everybody: true });
        let users = match &own {
            Some(own) if !everybody => vec![Arc::clone(own)],
            _ => all(),
        };
        let user = match &own {
            Some(own) => Some(Arc::clone(own)),
            None => Some(all())
                .filter(|all| all.len() == 1)
                .and_then(|mut all| all.pop()),
        };
        let mut scope = Self {
            caller,
            shared,
            users,
            user,
            network: None,
            named: request.network.clone(),
            directory,
        };
        scope.network = scope.find_network(request)?;
        let (whose, which) = (scope.whose(request), scope.which());
        permit(request, caller.role(), whose, which)?;
        if request.row.subject == Subject::Everybody {
            scope.check_named()?;
        }
        Ok(scope)
    }

    /// The network that is named, or current, or the only one.
    fn find_network(&self, request: &Request) -> Result<Option<NetworkHandle>, Refused> {
        let Some(user) = &self.user else {
            return Ok(None);
        };
        let needed = matches!(request.row.subject, Subject::Network | Subject::Link);
        match (&request.network, needed) {
            (_, false) => Ok(None),
            (Some(name), true) => match user.network(name) {
                Some(network) => Ok(Some(network.clone())),
                None => Err(unknown(name, user)),
            },
            (None, true) => {
                let current = self.caller.network.as_deref().unwrap_or_default();
                let only = || match &user.networks[..] {
                    [only] => Some(only),
                    _ => None,
                };
                Ok(user.network(current).or_else(only).cloned())
            }
        }
    }

    fn check_named(&self) -> Result<(), Refused> {
        let Some(name) = &self.named else {
            return Ok(());
        };
        match &self.users[..] {
            users if users.iter().any(|user| user.network(name).is_some()) => Ok(()),
            [user] => Err(unknown(name, user)),
            _ => Err(Refused(format!("there is no network \"{name}\""))),
        }
    }

    fn whose(&self, request: &Request) -> Whose {
        if let Command::UserUpdate(Some(named), ..) = &request.command {
            let own = self.caller.user.as_ref();
            return match own.is_some_and(|own| own.name == *named) {
                true => Whose::One,
                false => Whose::Other,
            };
        }
        match (&self.user, self.directory.users().next()) {
            (Some(_), _) => Whose::One,
            (None, None) => Whose::None,
            (None, Some(_)) => Whose::Several,
        }
    }

    fn which(&self) -> Which {
        let (Some(user), Some(network)) = (&self.user, &self.network) else {
            return Which::None;
        };
        let status = user.board.line(&network.config.name);
        match status.map(|status| status.link) {
            Some(LinkStatus::Connected { .. }) => Which::Up,
            _ => Which::Down,
        }
    }

    /// The user that is meant.
    pub(super) fn user(&self) -> Result<&Arc<User>, Refused> {
        self.user
            .as_ref()
            .ok_or_else(|| Refused("which user?".to_owned()))
    }

    /// The network that is meant.
    pub(super) fn network(&self) -> Result<&NetworkHandle, Refused> {
        let network = self.network.as_ref();
        network.ok_or_else(|| Refused("which network?".to_owned()))
    }

    /// Another user.
    pub(super) fn named_user(&self, name: &str) -> Result<Arc<User>, Refused> {
        if let Some(user) = self.directory.user(name) {
            return Ok(Arc::clone(user));
        }
        let mut disabled = self.directory.config.users.iter();
        let mut deleted = self.directory.deleted.iter();
        Err(Refused(match () {
            () if disabled.any(|user| user.name == name) => {
                format!("user \"{name}\" is disabled: \"user update {name} -enabled true\"")
            }
            () if deleted.any(|(user, _)| user == name) => {
                format!("user \"{name}\" was deleted: \"user restore {name}\"")
            }
            () => format!("there is no user \"{name}\"; \"user status\" lists them"),
        }))
    }

    /// What a line begins with when several users are told of.
    pub(super) fn whose_is(&self, user: &User) -> String {
        match self.users.len() {
            0 | 1 => String::new(),
            _ => format!("{}: ", user.name),
        }
    }
}

fn unknown(name: &str, user: &User) -> Refused {
    let names: Vec<&str> = user
        .networks
        .iter()
        .map(|n| n.config.name.as_str())
        .collect();
    match names[..] {
        [] => Refused(format!(
            "there is no network \"{name}\"; \"network create\" makes one"
        )),
        _ => Refused(format!(
            "there is no network \"{name}\", only {}",
            names.join(", ")
        )),
    }
}
