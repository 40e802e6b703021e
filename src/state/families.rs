//! Which replies belong to which command: one table, for routing answers to whoever asked when the
//! server cannot say.

use serde::{Deserialize, Serialize};

use crate::wire::{Isupport, Line, ModeKind};

/// Commands whose replies cannot be told apart: one of a family is under way at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Family {
    Admin,
    Bans,
    Excepts,
    Help,
    Info,
    Invex,
    Ison,
    Links,
    List,
    Lusers,
    Map,
    Metadata,
    Modes,
    Motd,
    Names,
    Quiets,
    Stats,
    Time,
    Trace,
    Userhost,
    Version,
    Who,
    Whois,
    Whowas,
}

impl Family {
    /// Families of one slot have replies in common: one question of them is under way at a time.
    pub(super) fn slot(self) -> Self {
        match self {
            Self::Whowas => Self::Whois,
            family => family,
        }
    }
}

/// The replies of a family.
pub(super) struct Replies {
    pub(super) family: Family,
    pub(super) command: &'static [u8],
    /// Replies on the way.
    pub(super) numerics: &'static [u16],
    /// The last one.
    pub(super) ends: &'static [u16],
    /// Replies that may still come after the last one.
    pub(super) after: &'static [u16],
}

const fn replies(
    family: Family,
    command: &'static [u8],
    numerics: &'static [u16],
    ends: &'static [u16],
    after: &'static [u16],
) -> Replies {
    Replies {
        family,
        command,
        numerics,
        ends,
        after,
    }
}

const WHOIS: &[u16] = &[
    276, 301, 307, 308, 309, 310, 311, 312, 313, 316, 317, 319, 320, 330, 335, 337, 338, 339, 343,
    350, 378, 379, 401, 402, 569, 617, 671, 673, 690, 726, 727,
];

static FAMILIES: &[Replies] = &[
    replies(Family::Admin, b"ADMIN", &[256, 257, 258], &[259, 423], &[]),
    replies(Family::Bans, b"MODE", &[367], &[368], &[]),
    replies(Family::Excepts, b"MODE", &[348], &[349], &[]),
    replies(Family::Help, b"HELP", &[704, 705], &[706, 524], &[]),
    replies(Family::Info, b"INFO", &[371, 373], &[374], &[]),
    replies(Family::Invex, b"MODE", &[346], &[347], &[]),
    replies(Family::Ison, b"ISON", &[], &[303], &[]),
    replies(Family::Links, b"LINKS", &[364], &[365], &[]),
    replies(Family::List, b"LIST", &[321, 322], &[323], &[]),
    replies(
        Family::Lusers,
        b"LUSERS",
        &[251, 252, 253, 254],
        &[255],
        &[250, 265, 266],
    ),
    replies(Family::Map, b"MAP", &[6, 15, 16, 18, 270], &[7, 17], &[]),
    replies(
        Family::Metadata,
        b"METADATA",
        &[760, 761, 766, 768, 769, 770, 771, 772, 774],
        &[762],
        &[],
    ),
    replies(Family::Modes, b"MODE", &[], &[324], &[329]),
    replies(Family::Motd, b"MOTD", &[372, 375], &[376, 422], &[]),
    replies(Family::Names, b"NAMES", &[353], &[366], &[]),
    replies(Family::Quiets, b"MODE", &[728], &[729], &[]),
    replies(
        Family::Stats,
        b"STATS",
        &[
            211, 212, 213, 214, 215, 216, 217, 218, 220, 240, 241, 242, 243, 244, 245, 246, 247,
            249,
        ],
        &[219],
        &[],
    ),
    replies(Family::Time, b"TIME", &[], &[391], &[]),
    replies(
        Family::Trace,
        b"TRACE",
        &[200, 201, 202, 203, 204, 205, 206, 208, 261],
        &[262],
        &[],
    ),
    replies(Family::Userhost, b"USERHOST", &[], &[302], &[]),
    replies(Family::Version, b"VERSION", &[], &[351], &[]),
    replies(Family::Who, b"WHO", &[352, 354], &[315], &[]),
    replies(Family::Whois, b"WHOIS", WHOIS, &[318], &[]),
    replies(
        Family::Whowas,
        b"WHOWAS",
        &[312, 314, 330, 338, 406],
        &[369],
        &[],
    ),
];

/// All of them.
pub(super) fn all() -> &'static [Replies] {
    FAMILIES
}

/// The replies of a family.
pub(super) fn of(family: Family) -> &'static Replies {
    // The table holds every family: there is a test for it.
    FAMILIES
        .iter()
        .find(|r| r.family == family)
        .unwrap_or(&FAMILIES[0])
}

/// The families a numeric may belong to.
pub(super) fn with(numeric: u16) -> impl Iterator<Item = &'static Replies> {
    FAMILIES.iter().filter(move |r| {
        r.numerics.contains(&numeric) || r.ends.contains(&numeric) || r.after.contains(&numeric)
    })
}

/// The family a client's line asks for, if its command has replies of its own.
pub(super) fn asked(line: &Line<'_>, isupport: &Isupport) -> Option<Family> {
    if line.is(b"MODE") {
        return asked_mode(line, isupport);
    }
    FAMILIES
        .iter()
        .find(|r| line.is(r.command))
        .map(|r| r.family)
}

/// `MODE #channel` asks for the modes, `MODE #channel b` for a list; all else is a change.
fn asked_mode(line: &Line<'_>, isupport: &Isupport) -> Option<Family> {
    if !isupport.is_channel(line.param(0)?) {
        return None;
    }
    let Some(letters) = line.param(1) else {
        return Some(Family::Modes);
    };
    match letters.strip_prefix(b"+").unwrap_or(letters) {
        [letter] if line.param_count() == 2 && isupport.mode_kind(*letter) == ModeKind::List => {
            match letter {
                b'b' => Some(Family::Bans),
                b'e' => Some(Family::Excepts),
                b'I' => Some(Family::Invex),
                b'q' => Some(Family::Quiets),
                _ => None,
            }
        }
        _ => None,
    }
}

/// What a family's question was about, to tell its errors from others'.
pub(super) fn key<'a>(line: &Line<'a>) -> &'a [u8] {
    // WHOIS server nick: the nick is what is asked for.
    let n = usize::from(line.is(b"WHOIS") && line.param_count() > 1);
    line.param(n).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_every_family_once() {
        let mut families: Vec<_> = FAMILIES.iter().map(|r| r.family).collect();
        families.dedup();
        assert_eq!(families.len(), FAMILIES.len());
        assert!(families.is_sorted());
        assert_eq!(of(Family::Whowas).ends, [369]);
    }
}
