//! Names of people and channels, which compare under their network's case mapping, so that nobody can forget to fold.
//! Which mapping a network has, and what a channel's name begins with, is `isupport`'s.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::latin1;

/// What carom is called where it is talked to. On a network nobody has such a nick.
pub const SERVICE: &str = "*carom";

/// Which letters a network takes for equal (ISUPPORT `CASEMAPPING`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CaseMapping {
    /// `a-z` are `A-Z`. Also stands in for mappings we do not know.
    Ascii,
    /// In addition `{}|~` are `[]\^` (RFC 1459 section 2.2). What a network means until it says otherwise.
    #[default]
    Rfc1459,
    /// As [`CaseMapping::Rfc1459`], without `~^`.
    StrictRfc1459,
}

impl CaseMapping {
    /// The mapping of an ISUPPORT value; what is unknown is taken for `ascii`.
    pub fn parse(value: &[u8]) -> Self {
        match value {
            b"rfc1459" => Self::Rfc1459,
            b"strict-rfc1459" | b"rfc1459-strict" => Self::StrictRfc1459,
            _ => Self::Ascii,
        }
    }

    /// The byte that stands for all bytes equal to this one.
    pub fn fold(self, byte: u8) -> u8 {
        match (self, byte) {
            (_, b'A'..=b'Z') => byte + 32,
            (Self::Rfc1459, b'[' | b']' | b'\\' | b'^') => byte + 32,
            (Self::StrictRfc1459, b'[' | b']' | b'\\') => byte + 32,
            _ => byte,
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Ascii => 'a',
            Self::Rfc1459 => 'r',
            Self::StrictRfc1459 => 's',
        }
    }
}

/// Longest name that is kept inline.
const INLINE: usize = 21;

/// A nickname or channel name: the bytes as they were spelled, equal to every other spelling. 24 bytes, without a heap
/// block up to 21 bytes of name.
#[derive(Clone)]
pub struct Name(Repr);

#[derive(Clone)]
enum Repr {
    Inline {
        mapping: CaseMapping,
        len: u8,
        bytes: [u8; INLINE],
    },
    Heap {
        mapping: CaseMapping,
        bytes: Box<[u8]>,
    },
}

impl Name {
    /// A name as spelled, comparing under `mapping`.
    pub fn new(name: &[u8], mapping: CaseMapping) -> Self {
        match u8::try_from(name.len()) {
            Ok(len) if name.len() <= INLINE => {
                let mut bytes = [0; INLINE];
                bytes[..name.len()].copy_from_slice(name);
                Self(Repr::Inline {
                    mapping,
                    len,
                    bytes,
                })
            }
            _ => Self(Repr::Heap {
                mapping,
                bytes: name.into(),
            }),
        }
    }

    /// The name as it was spelled.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes, .. } => &bytes[..usize::from(*len)],
            Repr::Heap { bytes, .. } => bytes,
        }
    }

    /// The mapping it compares under.
    pub fn mapping(&self) -> CaseMapping {
        match self.0 {
            Repr::Inline { mapping, .. } | Repr::Heap { mapping, .. } => mapping,
        }
    }

    /// The same spelling under another mapping.
    #[must_use]
    pub fn refold(&self, mapping: CaseMapping) -> Self {
        Self::new(self.as_bytes(), mapping)
    }

    /// Whether `other`, as bytes, is this name.
    pub fn is(&self, other: &[u8]) -> bool {
        let mapping = self.mapping();
        self.as_bytes().len() == other.len()
            && self.folded().eq(other.iter().map(|&b| mapping.fold(b)))
    }

    /// The bytes that are the same for every spelling: the key under which a name is stored.
    pub fn folded(&self) -> impl Iterator<Item = u8> + '_ {
        let mapping = self.mapping();
        self.as_bytes().iter().map(move |&b| mapping.fold(b))
    }

    /// For logs and answers to people: what is not UTF-8 is replaced.
    pub fn to_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes().len() == other.as_bytes().len() && self.folded().eq(other.folded())
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.folded().cmp(other.folded())
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.folded().for_each(|b| state.write_u8(b));
        state.write_u8(0xff);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_text(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// One string, so that a name can be the key of a JSON object: the mapping's letter, then the bytes as characters.
impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::from(self.mapping().letter());
        text.push_str(&latin1::to_string(self.as_bytes()));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut rest = text.chars();
        let mapping = match rest.next() {
            Some('a') => CaseMapping::Ascii,
            Some('s') => CaseMapping::StrictRfc1459,
            _ => CaseMapping::Rfc1459,
        };
        latin1::from_str(rest.as_str())
            .map(|bytes| Self::new(&bytes, mapping))
            .ok_or_else(|| serde::de::Error::custom("a name with a character above U+00FF"))
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_24_bytes() {
        assert_eq!(size_of::<Name>(), 24);
        assert_eq!(size_of::<Option<Name>>(), 24);
    }

    #[test]
    fn rule_37_spellings_are_equal_as_the_network_means_them() {
        for (a, b, ascii, rfc1459, strict) in [
            ("#Foo", "#fOO", true, true, true),
            ("#Foo{", "#foo[", false, true, true),
            ("a~", "A^", false, true, false),
        ] {
            for (mapping, equal) in [
                (CaseMapping::Ascii, ascii),
                (CaseMapping::Rfc1459, rfc1459),
                (CaseMapping::StrictRfc1459, strict),
            ] {
                let name = Name::new(a.as_bytes(), mapping);
                assert_eq!(
                    name == Name::new(b.as_bytes(), mapping),
                    equal,
                    "{a} {b} {mapping:?}"
                );
                assert_eq!(name.is(b.as_bytes()), equal, "{a} {b} {mapping:?}");
            }
        }
    }

    #[test]
    fn a_name_of_any_bytes_and_length_survives_json() {
        for bytes in [
            &b""[..],
            b"#\xff\xe9",
            b"a name that is longer than twenty-one bytes",
        ] {
            let name = Name::new(bytes, CaseMapping::Ascii);
            let back: Name = serde_json::from_str(&serde_json::to_string(&name).unwrap()).unwrap();
            assert_eq!(back.as_bytes(), bytes);
            assert_eq!(back.mapping(), CaseMapping::Ascii);
        }
    }
    fn mapping() -> impl Strategy<Value = CaseMapping> {
        prop::sample::select(vec![
            CaseMapping::Ascii,
            CaseMapping::Rfc1459,
            CaseMapping::StrictRfc1459,
        ])
    }

    fn hash(name: &Name) -> u64 {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        hasher.finish()
    }

    proptest! {
        #[test]
        fn folding_is_idempotent(bytes in any::<Vec<u8>>(), mapping in mapping()) {
            let folded: Vec<u8> = Name::new(&bytes, mapping).folded().collect();
            prop_assert_eq!(Name::new(&folded, mapping).folded().collect::<Vec<_>>(), &folded[..]);
            prop_assert_eq!(folded.len(), bytes.len());
        }

        #[test]
        fn equality_order_and_hash_agree(a in "[aAbB{^~\\[]{0,3}", b in "[aAbB{^~\\[]{0,3}", mapping in mapping()) {
            let (left, right) = (Name::new(a.as_bytes(), mapping), Name::new(b.as_bytes(), mapping));
            let folded_equal = left.folded().eq(right.folded());
            prop_assert_eq!(left == right, folded_equal);
            prop_assert_eq!(left.cmp(&right).is_eq(), folded_equal);
            prop_assert_eq!(left.is(b.as_bytes()), folded_equal);
            if folded_equal {
                prop_assert_eq!(hash(&left), hash(&right));
            }
        }
    }
}
