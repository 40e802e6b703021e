//! Who may do what, and what has to be there for it. The only place that decides it; whoever carries a command out asks
//! here first.

use super::table::Subject;
use super::{Command, Request, Role};

/// The user that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// There is one: who says it, or the only one there is.
    One,
    /// There are none at all.
    None,
    /// It may be any of them.
    Several,
    /// Somebody is named who does not say it himself.
    Other,
}

/// The network that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// None was named, and none is current.
    None,
    /// One that is not connected.
    Down,
    /// One that is.
    Up,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The role is not enough.
    #[error("only administrators may say \"{0}\"")]
    Admins(String),
    /// Others are administrators' business.
    #[error("only administrators may say \"{0}\" of others; without a name it is about you")]
    Others(String),
    /// There are no users.
    #[error("there are no users: add one with [[user]] to the configuration, or \"user create\"")]
    NoUsers,
    /// It is not clear which user is meant.
    #[error("there are several users: say \"user run USER {0}\"")]
    WhichUser(String),
    /// It is not clear which network is meant.
    #[error("which network? {0}")]
    WhichNetwork(String),
    /// The network is not connected.
    #[error("the network is not connected: \"network explain\" says why")]
    Down,
}

/// Whether a request may be carried out.
pub fn permit(request: &Request, role: Role, whose: Whose, which: Which) -> Result<(), Denied> {
    let words = || request.row.words.join(" ");
    if request.role > role {
        return Err(Denied::Admins(words()));
    }
    match (request.row.subject, whose) {
        (Subject::Nobody, _) | (Subject::Everybody, Whose::One | Whose::Several) => return Ok(()),
        (_, Whose::Other) if role < Role::Admin => return Err(Denied::Others(words())),
        (_, Whose::Other) => return Ok(()),
        (_, Whose::None) => return Err(Denied::NoUsers),
        (_, Whose::Several) => return Err(Denied::WhichUser(words())),
        (_, Whose::One) => {}
    }
    // A replay of everything may be said of each network, too.
    let needed = matches!(request.row.subject, Subject::Network | Subject::Link)
        && !matches!(request.command, Command::Told(_));
    match (needed, which) {
        (true, Which::None) => Err(Denied::WhichNetwork(how_to_name(request))),
        (true, Which::Down) if request.row.subject == Subject::Link => Err(Denied::Down),
        _ => Ok(()),
    }
}

/// How the network of this request is named.
fn how_to_name(request: &Request) -> String {
    let row = request.row;
    match row.option("network") {
        Some(option) => format!("add {}", option.usage()),
        None => format!(
            "it is said like this: {}",
            row.usage().replace(['[', ']'], "")
        ),
    }
}
