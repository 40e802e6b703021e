//! Channel modes as a network has them: which letters take an argument (CHANMODES), and the ranks of members with their
//! sigils (PREFIX). What is announced arrives through `isupport`; what a MODE line changes is `state`'s.

use serde::{Deserialize, Serialize};

/// Whether a mode takes an argument, and what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeKind {
    /// A list of masks (CHANMODES A): an argument always; without one a question.
    List,
    /// An argument when set and when removed (B).
    Always,
    /// An argument only when set (C).
    OnSet,
    /// No argument (D), and what nobody announced.
    Never,
    /// A member's rank, an argument always. 0 is the highest.
    Prefix(u8),
}

/// Which ranks a member has: a set of indices into PREFIX, 0 being the highest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MemberModes(u8);

impl MemberModes {
    /// Gives a rank. There is room for eight; lower ones are not kept.
    pub fn insert(&mut self, index: u8) {
        self.0 |= bit(index);
    }

    /// Takes a rank.
    pub fn remove(&mut self, index: u8) {
        self.0 &= !bit(index);
    }

    /// Whether the member has this rank.
    pub fn contains(self, index: u8) -> bool {
        self.0 & bit(index) != 0
    }

    /// Whether the member has no rank.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The index of the highest rank.
    pub fn highest(self) -> Option<u8> {
        u8::try_from(self.0.trailing_zeros())
            .ok()
            .filter(|_| self.0 != 0)
    }
}

fn bit(index: u8) -> u8 {
    1_u8.checked_shl(u32::from(index)).unwrap_or(0)
}

/// The modes of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Modes {
    /// The letters of CHANMODES A, B, C and D.
    kinds: [Box<[u8]>; 4],
    /// The letters of PREFIX, highest first, each with its sigil.
    prefixes: Box<[(u8, u8)]>,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            kinds: kinds(None),
            prefixes: prefixes(None),
        }
    }
}

impl Modes {
    /// Takes in the value of CHANMODES, or that there is none.
    pub(super) fn set_kinds(&mut self, value: Option<&[u8]>) {
        self.kinds = kinds(value);
    }

    /// Takes in the value of PREFIX, or that there is none.
    pub(super) fn set_prefixes(&mut self, value: Option<&[u8]>) {
        self.prefixes = prefixes(value);
    }

    /// The value of CHANMODES as it was understood.
    pub(super) fn kinds_text(&self) -> Vec<u8> {
        self.kinds.join(&b',')
    }

    /// The value of PREFIX as it was understood.
    pub(super) fn prefixes_text(&self) -> Vec<u8> {
        if self.prefixes.is_empty() {
            return Vec::new();
        }
        let (letters, sigils): (Vec<u8>, Vec<u8>) = self.prefixes.iter().copied().unzip();
        [b"(", &letters[..], b")", &sigils].concat()
    }

    /// What kind of channel mode a letter is.
    pub(super) fn kind(&self, letter: u8) -> ModeKind {
        if let Some(index) = self.prefixes.iter().position(|&(mode, _)| mode == letter) {
            return u8::try_from(index).map_or(ModeKind::Always, ModeKind::Prefix);
        }
        let kinds = [
            ModeKind::List,
            ModeKind::Always,
            ModeKind::OnSet,
            ModeKind::Never,
        ];
        let group = self
            .kinds
            .iter()
            .position(|letters| letters.contains(&letter));
        group.map_or(ModeKind::Never, |group| kinds[group])
    }

    /// The letter of the rank at `index`.
    pub(super) fn prefix_letter(&self, index: u8) -> Option<u8> {
        self.prefixes
            .get(usize::from(index))
            .map(|&(letter, _)| letter)
    }

    /// The ranks in front of a member, and the member: `@+nick`.
    pub(super) fn split_prefixes<'a>(&self, member: &'a [u8]) -> (MemberModes, &'a [u8]) {
        let mut modes = MemberModes::default();
        let mut rest = member;
        while let [first, after @ ..] = rest
            && let Some(index) = self.prefixes.iter().position(|(_, sigil)| sigil == first)
        {
            modes.insert(u8::try_from(index).unwrap_or(u8::MAX));
            rest = after;
        }
        (modes, rest)
    }

    /// Appends the sigils of a member: all of them, highest first, or only the highest.
    pub(super) fn write_prefixes(&self, modes: MemberModes, all: bool, out: &mut Vec<u8>) {
        let held = (0..)
            .zip(&self.prefixes)
            .filter(|&(index, _)| modes.contains(index));
        let most = if all { usize::MAX } else { 1 };
        out.extend(held.take(most).map(|(_, &(_, sigil))| sigil));
    }
}

fn kinds(value: Option<&[u8]>) -> [Box<[u8]>; 4] {
    let value = value.filter(|value| value.iter().any(u8::is_ascii_alphabetic));
    let mut groups = value.unwrap_or(b"beI,k,l,imnpst").split(|&b| b == b',');
    [(); 4].map(|()| {
        let letters = groups.next().unwrap_or_default().iter().copied();
        letters.filter(u8::is_ascii_alphabetic).collect()
    })
}

fn prefixes(value: Option<&[u8]>) -> Box<[(u8, u8)]> {
    let value = value.unwrap_or(b"(ov)@+");
    if value.is_empty() {
        return Box::default();
    }
    let end = value.iter().position(|&b| b == b')');
    let letters = end.and_then(|end| value[..end].strip_prefix(b"("));
    let sigils = end.map_or(&value[..0], |end| &value[end + 1..]);
    match letters {
        Some(letters)
            if letters.len() == sigils.len()
                && letters.iter().all(u8::is_ascii_alphabetic)
                && sigils.iter().all(is_sigil) =>
        {
            letters
                .iter()
                .copied()
                .zip(sigils.iter().copied())
                .collect()
        }
        _ => prefixes(None),
    }
}

/// Whether a byte can stand before a name and be told from it.
pub(super) fn is_sigil(byte: &u8) -> bool {
    byte.is_ascii_punctuation() && !matches!(byte, b',' | b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modes(tokens: &str) -> Modes {
        let mut modes = Modes::default();
        for token in tokens.split_whitespace() {
            let (key, value) = token.split_once('=').unwrap_or((token, ""));
            match key {
                "PREFIX" => modes.set_prefixes(Some(value.as_bytes())),
                _ => modes.set_kinds(Some(value.as_bytes())),
            }
        }
        modes
    }

    #[test]
    fn modes_are_what_the_server_says() {
        use ModeKind::{Always, List, Never, OnSet, Prefix};
        for (tokens, letters, kinds) in [
            (
                "",
                "bklnovq",
                [List, Always, OnSet, Never, Prefix(0), Prefix(1), Never],
            ),
            (
                "CHANMODES=beIq,k,flj,imnt PREFIX=(qaohv)~&@%+",
                "bkfnqvX",
                [List, Always, OnSet, Never, Prefix(0), Prefix(4), Never],
            ),
            (
                "CHANMODES=,kl PREFIX=",
                "bklnovq",
                [Never, Always, Always, Never, Never, Never, Never],
            ),
            (
                "CHANMODES=a,b,c,d,e PREFIX",
                "abcdeov",
                [List, Always, OnSet, Never, Never, Never, Never],
            ),
        ] {
            let modes = modes(tokens);
            assert_eq!(
                letters.bytes().map(|l| modes.kind(l)).collect::<Vec<_>>(),
                kinds,
                "{tokens}"
            );
        }
    }

    /// What a MODE line does, letter by letter, as one who knows the kinds reads it.
    fn read(tokens: &str, changes: &str, arguments: &str) -> String {
        let (modes, mut arguments) = (modes(tokens), arguments.split(' '));
        let mut set = true;
        let mut out = Vec::new();
        for letter in changes.bytes() {
            let argument = match (letter, modes.kind(letter)) {
                (b'+' | b'-', _) => {
                    set = letter == b'+';
                    continue;
                }
                (_, ModeKind::Never) => None,
                (_, ModeKind::OnSet) if !set => None,
                _ => arguments.next(),
            };
            let sign = if set { '+' } else { '-' };
            out.push(format!(
                "{sign}{}{}",
                char::from(letter),
                argument.unwrap_or_default()
            ));
        }
        out.join(" ")
    }

    #[test]
    fn rule_38_a_mode_line_is_read_as_the_network_means_it() {
        for (tokens, expected) in [
            ("", "+oa +vb +kkey -l +b*!*@x"),
            ("CHANMODES=b,,kl,o PREFIX=(v)+", "+o +va +kb -l +bkey"),
            ("CHANMODES=o,v,k,l PREFIX=", "+oa +vb +kkey -l +b"),
        ] {
            assert_eq!(
                read(tokens, "+ovk-l+b", "a b key *!*@x"),
                expected,
                "{tokens}"
            );
        }
    }

    #[test]
    fn prefixes_are_split_and_written() {
        let network = modes("PREFIX=(qaohv)~&@%+");
        let (modes, nick) = network.split_prefixes(b"@+nick");
        assert_eq!((nick, modes.highest()), (&b"nick"[..], Some(2)));
        assert!(modes.contains(4) && !modes.contains(0));
        for (all, expected) in [(true, "@+"), (false, "@")] {
            let mut out = Vec::new();
            network.write_prefixes(modes, all, &mut out);
            assert_eq!(out, expected.as_bytes());
        }
        assert_eq!(
            network.split_prefixes(b"nick"),
            (MemberModes::default(), &b"nick"[..])
        );
        assert_eq!(
            (network.prefix_letter(2), network.prefix_letter(5)),
            (Some(b'o'), None)
        );
    }

    #[test]
    fn ranks_are_a_set() {
        let mut modes = MemberModes::default();
        assert_eq!((modes.highest(), modes.is_empty()), (None, true));
        modes.insert(7);
        modes.insert(1);
        modes.insert(8);
        assert_eq!(
            (modes.highest(), modes.contains(7), modes.contains(8)),
            (Some(1), true, false)
        );
        modes.remove(1);
        assert_eq!(modes.highest(), Some(7));
    }
}
