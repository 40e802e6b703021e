//! Capabilities (IRCv3 capability negotiation): the ones we know, sets of them, and the text of LS, REQ and their kind.
//! Who is offered what, and what a capability changes, is `state`'s.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! caps {
    ($($variant:ident = $name:literal,)*) => {
        /// A capability that we know.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Cap {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Cap {
            /// All of them, in the order of their names.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it stands on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

caps! {
    AccountNotify = "account-notify",
    AccountTag = "account-tag",
    AwayNotify = "away-notify",
    Batch = "batch",
    CapNotify = "cap-notify",
    Consumer = "causal.agency/consumer",
    Chghost = "chghost",
    AccountRegistration = "draft/account-registration",
    ChannelRename = "draft/channel-rename",
    Chathistory = "draft/chathistory",
    EventPlayback = "draft/event-playback",
    ExtendedIsupport = "draft/extended-isupport",
    ExtendedMonitorDraft = "draft/extended-monitor",
    MessageRedaction = "draft/message-redaction",
    Metadata = "draft/metadata-2",
    Multiline = "draft/multiline",
    NoImplicitNamesDraft = "draft/no-implicit-names",
    PreAway = "draft/pre-away",
    ReadMarker = "draft/read-marker",
    WebpushDraft = "draft/webpush",
    EchoMessage = "echo-message",
    ExtendedJoin = "extended-join",
    ExtendedMonitor = "extended-monitor",
    InviteNotify = "invite-notify",
    LabeledResponse = "labeled-response",
    MessageTags = "message-tags",
    MultiPrefix = "multi-prefix",
    NoImplicitNames = "no-implicit-names",
    Palaver = "palaverapp.com",
    Sasl = "sasl",
    ServerTime = "server-time",
    Setname = "setname",
    AccountRequired = "soju.im/account-required",
    BouncerNetworks = "soju.im/bouncer-networks",
    BouncerNetworksNotify = "soju.im/bouncer-networks-notify",
    ClientCert = "soju.im/client-cert",
    NoImplicitNamesSoju = "soju.im/no-implicit-names",
    Read = "soju.im/read",
    Search = "soju.im/search",
    Webpush = "soju.im/webpush",
    StandardReplies = "standard-replies",
    Sts = "sts",
    UserhostInNames = "userhost-in-names",
    ZncBatch = "znc.in/batch",
    Playback = "znc.in/playback",
    SelfMessage = "znc.in/self-message",
    ServerTimeIso = "znc.in/server-time-iso",
}

/// Where soju keeps what it thought of.
const SOJU: &str = "https://codeberg.org/emersion/soju/src/branch/master/doc/ext";

const _: () = assert!(Cap::ALL.len() <= 64, "a CapSet is 64 bits");

impl Cap {
    /// The capability of a name, which is without value and case-sensitive.
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|cap| cap.name().as_bytes() == name)
    }

    /// Where it is described: by IRCv3, or by those who thought of it.
    pub fn specification(self) -> String {
        let extension = |name: &str| format!("https://ircv3.net/specs/extensions/{name}");
        let (vendor, name) = self
            .name()
            .split_once('/')
            .unwrap_or_else(|| ("", self.name()));
        match (self, vendor) {
            (Self::CapNotify, _) => extension("capability-negotiation"),
            (Self::EventPlayback, _) => extension("chathistory"),
            (Self::Metadata, _) => extension("metadata"),
            (Self::Sasl, _) => extension("sasl-3.2"),
            (Self::Consumer, _) => "https://git.causal.agency/pounce/about/pounce.1".to_owned(),
            (Self::Palaver, _) => "https://github.com/cocodelabs/palaver-irc-capability".to_owned(),
            (Self::Playback, _) => "https://wiki.znc.in/Playback".to_owned(),
            (Self::NoImplicitNamesSoju, _) => extension("no-implicit-names"),
            (Self::BouncerNetworksNotify, _) => format!("{SOJU}/bouncer-networks.md"),
            (Self::Webpush | Self::WebpushDraft, _) => format!("{SOJU}/webpush.md"),
            (Self::ExtendedMonitorDraft, _) => extension("extended-monitor"),
            (_, "soju.im") => format!("{SOJU}/{name}.md"),
            (_, "znc.in") => "https://wiki.znc.in".to_owned(),
            (_, "" | "draft") => extension(name),
            _ => String::new(),
        }
    }

    const fn bit(self) -> u64 {
        1 << self as u8
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of capabilities: 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CapSet(u64);

impl CapSet {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// The set of these.
    pub const fn of(caps: &[Cap]) -> Self {
        let mut set = 0;
        let mut i = 0;
        while i < caps.len() {
            set |= caps[i].bit();
            i += 1;
        }
        Self(set)
    }

    /// Adds one; says whether it was new.
    pub fn insert(&mut self, cap: Cap) -> bool {
        let new = !self.has(cap);
        self.0 |= cap.bit();
        new
    }

    /// Removes one; says whether it was there.
    pub fn remove(&mut self, cap: Cap) -> bool {
        let old = self.has(cap);
        self.0 &= !cap.bit();
        old
    }

    /// Whether it is in the set.
    pub const fn has(self, cap: Cap) -> bool {
        self.0 & cap.bit() != 0
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this one alone.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many are in it.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// All that are in it, in the order of [`Cap::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Cap> {
        Cap::ALL.iter().copied().filter(move |&cap| self.has(cap))
    }
}

impl BitOr for CapSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl BitOrAssign for CapSet {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.union(other);
    }
}

impl BitAnd for CapSet {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        self.intersection(other)
    }
}

impl Sub for CapSet {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.difference(other)
    }
}

impl FromIterator<Cap> for CapSet {
    fn from_iter<I: IntoIterator<Item = Cap>>(caps: I) -> Self {
        caps.into_iter()
            .fold(Self::EMPTY, |set, cap| Self(set.0 | cap.bit()))
    }
}

impl Extend<Cap> for CapSet {
    fn extend<I: IntoIterator<Item = Cap>>(&mut self, caps: I) {
        *self |= caps.into_iter().collect();
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The names, not the bits: the bits change with the table above, and state outlives a version.
impl Serialize for CapSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Cap::name))
    }
}

impl<'de> Deserialize<'de> for CapSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Ok(names
            .iter()
            .filter_map(|name| Cap::parse(name.as_bytes()))
            .collect())
    }
}

/// One word of the text of LS, REQ, ACK, NAK, NEW, DEL or LIST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapItem<'a> {
    /// Whether `-` stands in front: it is to be turned off.
    pub off: bool,
    /// The capability, known or not.
    pub name: &'a [u8],
    /// What follows `=`.
    pub value: Option<&'a [u8]>,
}

/// The words of a list of capabilities.
pub fn items(text: &[u8]) -> impl Iterator<Item = CapItem<'_>> {
    text.split(|&b| b == b' ')
        .filter(|word| !word.is_empty())
        .map(|word| {
            let (off, word) = word
                .strip_prefix(b"-")
                .map_or((false, word), |word| (true, word));
            let at = word.iter().position(|&b| b == b'=');
            let name = &word[..at.unwrap_or(word.len())];
            CapItem {
                off,
                name,
                value: at.map(|at| &word[at + 1..]),
            }
        })
}

/// Joins words with spaces into as few texts of at most `room` bytes as their order allows. A longer word stands alone.
/// There is always one text, be it empty: a list of nothing is answered too.
pub fn pack<W: AsRef<[u8]>>(words: impl IntoIterator<Item = W>, room: usize) -> Vec<Vec<u8>> {
    let mut texts = vec![Vec::new()];
    for word in words {
        let word = word.as_ref();
        let len = texts.last().map_or(0, Vec::len);
        if len > 0 && len + 1 + word.len() > room {
            texts.push(Vec::new());
        }
        if let Some(text) = texts.last_mut() {
            if !text.is_empty() {
                text.push(b' ');
            }
            text.extend_from_slice(word);
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_sorted_and_found_again() {
        assert!(Cap::ALL.is_sorted_by(|a, b| a.name() < b.name()));
        for &cap in Cap::ALL {
            assert_eq!(Cap::parse(cap.name().as_bytes()), Some(cap));
        }
        assert_eq!(Cap::parse(b"SASL"), None);
        assert_eq!(Cap::parse(b"draft/unheard-of"), None);
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set = CapSet::of(&[Cap::Batch, Cap::ServerTimeIso]);
        assert!(set.insert(Cap::Sasl) && !set.insert(Cap::Sasl));
        assert!(set.remove(Cap::Batch) && !set.remove(Cap::Batch));
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            [Cap::Sasl, Cap::ServerTimeIso]
        );
        assert_eq!(
            (set.len(), set.is_empty(), CapSet::default().is_empty()),
            (2, false, true)
        );
        assert_eq!(format!("{set:?}"), "{Sasl, ServerTimeIso}");
    }

    #[test]
    fn a_set_is_saved_by_name() {
        let set = CapSet::of(&[Cap::Batch, Cap::Sasl]);
        assert_eq!(serde_json::to_string(&set).unwrap(), r#"["batch","sasl"]"#);
        let back: CapSet = serde_json::from_str(r#"["sasl","gone","batch"]"#).unwrap();
        assert_eq!(back, set);
    }

    #[test]
    fn words_of_a_list_are_read() {
        let all: Vec<_> = items(b" sasl=PLAIN,EXTERNAL  -batch sts= x/y=a=b ").collect();
        let item = |off, name: &'static [u8], value| CapItem { off, name, value };
        assert_eq!(
            all,
            [
                item(false, b"sasl", Some(&b"PLAIN,EXTERNAL"[..])),
                item(true, b"batch", None),
                item(false, b"sts", Some(b"")),
                item(false, b"x/y", Some(b"a=b")),
            ]
        );
    }

    #[test]
    fn a_list_of_nothing_is_one_empty_text() {
        assert_eq!(pack([""; 0], 10), [b""]);
    }

    fn caps() -> impl Strategy<Value = CapSet> {
        any::<u64>().prop_map(|bits| {
            Cap::ALL
                .iter()
                .copied()
                .filter(|c| bits & c.bit() != 0)
                .collect()
        })
    }

    proptest! {
        #[test]
        fn sets_are_sets(a in caps(), b in caps()) {
            for &cap in Cap::ALL {
                prop_assert_eq!((a | b).has(cap), a.has(cap) || b.has(cap));
                prop_assert_eq!((a & b).has(cap), a.has(cap) && b.has(cap));
                prop_assert_eq!((a - b).has(cap), a.has(cap) && !b.has(cap));
            }
            prop_assert_eq!(a.iter().collect::<CapSet>(), a);
            let json = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(serde_json::from_str::<CapSet>(&json).unwrap(), a);
        }

        #[test]
        fn packed_words_fit_and_are_all_there(words in prop::collection::vec("[a-z]{1,12}", 0..30)) {
            let texts = pack(&words, 20);
            let back: Vec<_> = texts.iter().flat_map(|text| items(text)).map(|i| i.name).collect();
            prop_assert!(back.iter().eq(&words.iter().map(String::as_bytes).collect::<Vec<_>>()));
            prop_assert!(texts.iter().all(|text| text.len() <= 20));
        }
    }
}
