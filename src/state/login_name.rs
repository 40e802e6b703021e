//! What a client may give as its login: `user`, `user/network@client`, `user@client/network`, and the
//! forms that carry the password with it.

use crate::config::Secret;

/// Who wants to attach, where, and as which client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoginName {
    /// The account here.
    pub user: String,
    /// The network; `None`: the only one, or none.
    pub network: Option<String>,
    /// The client name; empty: the shared one.
    pub client: String,
}

/// Longest client name.
const MAX_CLIENT: usize = 32;

impl LoginName {
    /// Reads `user[/network][@client]`, the two in either order. `None`: nobody can be called so.
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.find(['/', '@']).unwrap_or(text.len());
        let (user, mut rest) = text.split_at(end);
        let mut name = Self {
            user: user.to_ascii_lowercase(),
            ..Self::default()
        };
        let mut client = None;
        while let Some(sign) = rest.chars().next() {
            let end = rest[1..].find(['/', '@']).map_or(rest.len(), |n| n + 1);
            let (part, after) = rest[1..].split_at(end - 1);
            let slot = if sign == '/' {
                &mut name.network
            } else {
                &mut client
            };
            if slot.replace(part.to_owned()).is_some() {
                return None;
            }
            rest = after;
        }
        name.network = name.network.filter(|network| !network.is_empty());
        name.client = client.unwrap_or_default();
        let valid =
            !name.user.is_empty() && (name.client.is_empty() || is_client_name(&name.client));
        valid.then_some(name)
    }

    /// What another part of the login adds: a network or client this one does not name. `None` when the
    /// two contradict each other.
    #[must_use]
    pub fn completed_by(mut self, other: &Self) -> Option<Self> {
        if self.user != other.user {
            return Some(self);
        }
        match (&self.network, &other.network) {
            (Some(a), Some(b)) if a != b => return None,
            (None, Some(b)) => self.network = Some(b.clone()),
            _ => {}
        }
        match (self.client.is_empty(), other.client.is_empty()) {
            (false, false) if self.client != other.client => None,
            (true, false) => Some(Self {
                client: other.client.clone(),
                ..self
            }),
            _ => Some(self),
        }
    }
}

fn is_client_name(name: &str) -> bool {
    name.len() <= MAX_CLIENT
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// A login and the password that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who.
    pub name: LoginName,
    /// The password.
    pub password: Secret,
    /// bip's form: it counts only when the network is one of that user's.
    pub needs_network: bool,
}

/// What SASL PLAIN claims. USER may add network and client.
pub fn from_sasl(account: &str, password: &str, username: &str) -> Vec<Claim> {
    let Some(name) = LoginName::parse(account) else {
        return Vec::new();
    };
    let added = LoginName::parse(username);
    let name = match added {
        Some(added) => name.completed_by(&added),
        None => Some(name),
    };
    name.map(|name| claim(name, password)).into_iter().collect()
}

/// What PASS may claim, most telling first: `user:password:network` (as bip), `user/network@client:password`,
/// or a password alone, the login being in USER. A colon may stand in a password, so whoever can see which
/// users and networks there are takes the first that exists.
pub fn from_pass(pass: &str, username: &str) -> Vec<Claim> {
    let added = LoginName::parse(username);
    let complete = |name: LoginName| match &added {
        Some(added) => name.completed_by(added),
        None => Some(name),
    };
    let mut claims = Vec::new();
    if let Some((login, rest)) = pass.split_once(':')
        && let Some(name) = LoginName::parse(login)
    {
        if let Some((password, network)) = rest.rsplit_once(':')
            && name.network.is_none()
            && !network.is_empty()
        {
            let named = LoginName {
                network: Some(network.to_owned()),
                ..name.clone()
            };
            let bip = complete(named).map(|name| claim(name, password));
            claims.extend(bip.map(|claim| Claim {
                needs_network: true,
                ..claim
            }));
        }
        claims.extend(complete(name).map(|name| claim(name, rest)));
    }
    claims.extend(added.clone().map(|name| claim(name, pass)));
    claims
}

fn claim(name: LoginName, password: &str) -> Claim {
    Claim {
        name,
        password: Secret::new(password.to_owned()),
        needs_network: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(user: &str, network: &str, client: &str) -> LoginName {
        LoginName {
            user: user.into(),
            network: (!network.is_empty()).then(|| network.into()),
            client: client.into(),
        }
    }

    #[test]
    fn rule_1_every_form_of_a_login_is_read() {
        for (text, expected) in [
            ("alice", Some(name("alice", "", ""))),
            ("alice/net", Some(name("alice", "net", ""))),
            ("alice/net@c", Some(name("alice", "net", "c"))),
            ("alice@c/net", Some(name("alice", "net", "c"))),
            ("alice@c", Some(name("alice", "", "c"))),
            ("Alice/net", Some(name("alice", "net", ""))),
            ("alice@host.tld/net", Some(name("alice", "net", "host.tld"))),
            ("alice/", Some(name("alice", "", ""))),
            ("alice/net@", Some(name("alice", "net", ""))),
            ("alice@/net", Some(name("alice", "net", ""))),
            ("alice/a/b", None),
            ("alice@a@b", None),
            ("", None),
            ("/net", None),
            ("@c", None),
            ("alice@c d", None),
            ("alice@c!", None),
        ] {
            assert_eq!(LoginName::parse(text), expected, "{text}");
        }
        assert_eq!(LoginName::parse(&format!("a@{}", "x".repeat(33))), None);
        assert!(LoginName::parse(&format!("a@{}", "x".repeat(32))).is_some());
    }

    fn claims(pass: &str, user: &str) -> Vec<(LoginName, String, bool)> {
        let claims = from_pass(pass, user).into_iter();
        claims
            .map(|c| (c.name, c.password.reveal().to_owned(), c.needs_network))
            .collect()
    }

    #[test]
    fn a_server_password_may_carry_the_login() {
        assert_eq!(
            claims("alice/net@c:secret", "zed"),
            [
                (name("alice", "net", "c"), "secret".into(), false),
                (name("zed", "", ""), "alice/net@c:secret".into(), false)
            ]
        );
        assert_eq!(
            claims("alice:pa:ss", "zed")[..2],
            [
                (name("alice", "ss", ""), "pa".into(), true),
                (name("alice", "", ""), "pa:ss".into(), false)
            ]
        );
        assert_eq!(
            claims("secret", "alice/net@c"),
            [(name("alice", "net", "c"), "secret".into(), false)]
        );
    }

    #[test]
    fn user_adds_what_the_login_leaves_out_and_never_contradicts_it() {
        let claims = from_sasl("alice", "x", "alice/net@c");
        assert_eq!(claims[0].name, name("alice", "net", "c"));
        assert_eq!(
            from_sasl("alice", "x", "root")[0].name,
            name("alice", "", "")
        );
        assert!(from_sasl("alice/a", "x", "alice/b").is_empty());
    }
}
