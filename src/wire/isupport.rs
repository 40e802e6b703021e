//! What a server says about itself in 005, as typed values: case mapping, channel types, modes, member prefixes, limits.
//! Nonsense falls back to what RFC 1459 servers do, numbers saturate, and size is bounded. When to tell clients is `state`'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::latin1;
use super::modes::{MemberModes, ModeKind, Modes, is_sigil};
use super::name::CaseMapping;

/// More tokens than this are not kept.
const TOKENS: usize = 256;
/// Longer tokens are not kept.
const TOKEN: usize = 512;

/// What one server has announced so far. Made anew at each registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isupport {
    tokens: BTreeMap<Box<[u8]>, Box<[u8]>>,
    casemapping: CaseMapping,
    channel_types: Box<[u8]>,
    /// Sigils that may stand before a channel in a target.
    status: Box<[u8]>,
    modes: Modes,
}

impl Default for Isupport {
    fn default() -> Self {
        Self {
            tokens: BTreeMap::new(),
            casemapping: CaseMapping::default(),
            channel_types: channel_types(None),
            status: Box::default(),
            modes: Modes::default(),
        }
    }
}

impl Isupport {
    /// Takes in one token: `KEY=VALUE`, `KEY` or `-KEY`.
    pub fn apply(&mut self, token: &[u8]) {
        if token.len() > TOKEN {
            return;
        }
        if let Some(key) = token.strip_prefix(b"-") {
            self.tokens.remove(key);
            self.derive(key);
            return;
        }
        let (key, value) = split(token);
        self.set(key, &unescape(value));
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        let new = !self.tokens.contains_key(key);
        if key.is_empty()
            || !key.iter().all(u8::is_ascii_graphic)
            || new && self.tokens.len() == TOKENS
        {
            return;
        }
        self.tokens.insert(key.into(), value.into());
        self.derive(key);
    }

    /// Works out again what follows from one token.
    fn derive(&mut self, key: &[u8]) {
        let value = self.tokens.get(key).map(AsRef::as_ref);
        match key {
            b"CASEMAPPING" => self.casemapping = value.map(CaseMapping::parse).unwrap_or_default(),
            b"CHANTYPES" => self.channel_types = channel_types(value),
            b"CHANMODES" => self.modes.set_kinds(value),
            b"PREFIX" => self.modes.set_prefixes(value),
            b"STATUSMSG" => {
                self.status = value
                    .unwrap_or_default()
                    .iter()
                    .copied()
                    .filter(is_sigil)
                    .collect();
            }
            _ => {}
        }
    }

    /// Which letters are equal.
    pub fn casemapping(&self) -> CaseMapping {
        self.casemapping
    }

    /// Whether a name is a channel's (CHANTYPES).
    pub fn is_channel(&self, name: &[u8]) -> bool {
        name.first()
            .is_some_and(|first| self.channel_types.contains(first))
    }

    /// The target without the STATUSMSG sigils in front of a channel: `@#c` is a message to `#c`.
    pub fn strip_status<'a>(&self, target: &'a [u8]) -> &'a [u8] {
        let sigils = target
            .iter()
            .take_while(|sigil| self.status.contains(sigil))
            .count();
        // A sigil may be a channel type as well (`&`, `+`): at least one byte has to remain that makes it a channel.
        (1..=sigils)
            .rev()
            .map(|n| &target[n..])
            .find(|name| self.is_channel(name))
            .unwrap_or(target)
    }

    /// What kind of channel mode a letter is.
    pub fn mode_kind(&self, letter: u8) -> ModeKind {
        self.modes.kind(letter)
    }

    /// The letter of the rank at `index`.
    pub fn prefix_letter(&self, index: u8) -> Option<u8> {
        self.modes.prefix_letter(index)
    }

    /// The ranks in front of a member, and the member: `@+nick`.
    pub fn split_prefixes<'a>(&self, member: &'a [u8]) -> (MemberModes, &'a [u8]) {
        self.modes.split_prefixes(member)
    }

    /// Appends the sigils of a member: all of them, highest first, or only the highest.
    pub fn write_prefixes(&self, modes: MemberModes, all: bool, out: &mut Vec<u8>) {
        self.modes.write_prefixes(modes, all, out);
    }

    /// The longest nick.
    pub fn nick_len(&self) -> Option<usize> {
        number(self.value(b"NICKLEN")?)
    }

    /// The longest real name.
    pub fn name_len(&self) -> Option<usize> {
        number(self.value(b"NAMELEN")?)
    }

    /// How many modes with arguments one MODE may have: 3 unless the server says more; a token without a value is no limit.
    pub fn modes_per_line(&self) -> usize {
        match self.value(b"MODES") {
            Some(b"") => usize::MAX,
            Some(value) => number(value).unwrap_or(3),
            None => 3,
        }
    }

    /// How many targets a command may have; nothing when no limit is announced.
    pub fn max_targets(&self, command: &[u8]) -> Option<usize> {
        let of_command = |item: &&[u8]| {
            item.len() > command.len()
                && item[command.len()] == b':'
                && item[..command.len()].eq_ignore_ascii_case(command)
        };
        let listed = self
            .value(b"TARGMAX")
            .into_iter()
            .flat_map(|value| value.split(|&b| b == b','));
        match listed.filter(|item| !item.is_empty()).find(of_command) {
            Some(item) => number(&item[command.len() + 1..]),
            None if command.eq_ignore_ascii_case(b"JOIN") => None,
            None => self.value(b"MAXTARGETS").and_then(number),
        }
    }

    /// The network's name for itself.
    pub fn network(&self) -> Option<&[u8]> {
        self.value(b"NETWORK").filter(|name| !name.is_empty())
    }

    /// Whether a token is announced.
    pub fn has(&self, key: &[u8]) -> bool {
        self.tokens.contains_key(key)
    }

    /// The value of a token, unescaped; empty when it has none.
    pub fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.tokens.get(key).map(AsRef::as_ref)
    }

    /// What clients are told: only tokens that hold for them too, and those that we act on as we understood them.
    pub fn tokens(&self) -> Vec<Vec<u8>> {
        self.told().map(|(key, value)| join(key, &value)).collect()
    }

    /// What clients have to be told when `to` takes the place of `from`: `-KEY` for what is gone, then what is new.
    pub fn changes(from: &Self, to: &Self) -> Vec<Vec<u8>> {
        let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (from.told().collect(), to.told().collect());
        let gone = old
            .keys()
            .filter(|key| !new.contains_key(*key))
            .map(|key| [b"-", *key].concat());
        let changed = new
            .iter()
            .filter(|&(key, value)| old.get(key) != Some(value));
        gone.chain(changed.map(|(key, value)| join(key, value)))
            .collect()
    }

    fn told(&self) -> impl Iterator<Item = (&[u8], Vec<u8>)> {
        let is_of_use = |key: &[u8], value: &[u8]| match key {
            b"NAMELEN" => self.name_len().is_some(),
            // Clients that came over TLS do not upload in clear text.
            b"soju.im/FILEHOST" => !value.to_ascii_lowercase().starts_with(b"http:"),
            _ => true,
        };
        let told = self.tokens.iter();
        let told = told.filter(move |(key, value)| is_told(key) && is_of_use(key, value));
        told.map(|(key, value)| (key.as_ref(), self.meant(key, value)))
    }

    /// The value of a token as we understood it.
    fn meant(&self, key: &[u8], value: &[u8]) -> Vec<u8> {
        match key {
            b"CASEMAPPING" => match self.casemapping {
                CaseMapping::Ascii => b"ascii".to_vec(),
                CaseMapping::Rfc1459 => b"rfc1459".to_vec(),
                CaseMapping::StrictRfc1459 => b"strict-rfc1459".to_vec(),
            },
            b"CHANTYPES" => self.channel_types.to_vec(),
            b"CHANMODES" => self.modes.kinds_text(),
            b"PREFIX" => self.modes.prefixes_text(),
            b"STATUSMSG" => self.status.to_vec(),
            _ => value.to_vec(),
        }
    }
}

/// Tokens that mean the same to a client behind us. Not among them: what promises a command that cannot be shared
/// (WATCH), what other means replace (NAMESX, UHNAMES), what is ours to say (CHATHISTORY, MSGREFTYPES,
/// BOUNCER_NETID), and LINELEN, since our own lines stay at 512.
const TOLD: &str = "ACCEPT ACCOUNTEXTBAN AWAYLEN BOT CALLERID CASEMAPPING CHANLIMIT CHANMODES CHANNELLEN \
    CHANTYPES CLIENTTAGDENY CNOTICE CPRIVMSG DEAF ELIST ETRACE EXCEPTS EXTBAN HOSTLEN INVEX \
    KEYLEN KICKLEN KNOCK MAXBANS MAXCHANNELS MAXLIST MAXNICKLEN MAXTARGETS MODES MONITOR NAMELEN NETWORK \
    NICKLEN PREFIX SAFELIST SECURELIST SILENCE STATUSMSG TARGMAX TOPICLEN USERIP USERLEN \
    USERMODES UTF8ONLY WALLCHOPS WALLVOICES WHOX draft/ICON soju.im/FILEHOST";

fn is_told(key: &[u8]) -> bool {
    TOLD.split(' ').any(|told| told.as_bytes() == key)
}

fn channel_types(value: Option<&[u8]>) -> Box<[u8]> {
    let Some(value) = value else {
        return b"#&".as_slice().into();
    };
    let types: Box<[u8]> = value.iter().copied().filter(is_sigil).collect();
    if types.is_empty() && !value.is_empty() {
        channel_types(None)
    } else {
        types
    }
}

/// A limit. Digits only, saturating; 0 is no limit that anybody could mean.
fn number(value: &[u8]) -> Option<usize> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let value = value.iter().fold(0_u32, |n, d| {
        n.saturating_mul(10)
            .saturating_add(u32::from(d.wrapping_sub(b'0')))
    });
    usize::try_from(value).ok().filter(|&n| digits && n > 0)
}

fn split(token: &[u8]) -> (&[u8], &[u8]) {
    let at = token.iter().position(|&b| b == b'=').unwrap_or(token.len());
    (&token[..at], token.get(at + 1..).unwrap_or_default())
}

fn join(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut token = key.to_vec();
    if !value.is_empty() {
        token.push(b'=');
        escape(value, &mut token);
    }
    token
}

/// `\xHH` for what cannot stand in a parameter. `=` may: a token is split at its first.
fn escape(value: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in value {
        match byte {
            b'\\' | 0..=b' ' | 0x7f => {
                out.extend([
                    b'\\',
                    b'x',
                    HEX[usize::from(byte >> 4)],
                    HEX[usize::from(byte & 15)],
                ]);
            }
            _ => out.push(byte),
        }
    }
}

fn unescape(value: &[u8]) -> Vec<u8> {
    let hex = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, after @ ..] = rest {
        rest = after;
        plain.push(*first);
        if *first == b'\\'
            && let [b'x', high, low, after @ ..] = after
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            plain.pop();
            plain.push(high << 4 | low);
            rest = after;
        }
    }
    plain
}

/// As the tokens on the wire; everything else follows from them.
impl Serialize for Isupport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tokens = self
            .tokens
            .iter()
            .map(|(key, value)| latin1::to_string(&join(key, value)));
        serializer.collect_seq(tokens)
    }
}

impl<'de> Deserialize<'de> for Isupport {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut isupport = Self::default();
        for token in Vec::<String>::deserialize(deserializer)? {
            let token = latin1::from_str(&token)
                .ok_or_else(|| serde::de::Error::custom("a token with a character above U+00FF"))?;
            let (key, value) = split(&token);
            isupport.set(key, &unescape(value));
        }
        Ok(isupport)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn isupport(tokens: &str) -> Isupport {
        let mut isupport = Isupport::default();
        tokens
            .split_whitespace()
            .for_each(|token| isupport.apply(token.as_bytes()));
        isupport
    }

    fn text(tokens: &[Vec<u8>]) -> String {
        String::from_utf8(tokens.join(&b' ')).unwrap()
    }

    #[test]
    fn uploads_in_clear_text_are_not_told() {
        let mut isupport = Isupport::default();
        isupport.apply(b"soju.im/FILEHOST=HTTP://up.example.org");
        assert_eq!(isupport.tokens(), [b""; 0]);
        isupport.apply(b"soju.im/FILEHOST=https://up.example.org");
        let told = b"soju.im/FILEHOST=https://up.example.org";
        assert_eq!(isupport.tokens(), [told]);
    }

    #[test]
    fn nonsense_falls_back_to_the_defaults() {
        for tokens in [
            "PREFIX=( CHANMODES=,,, CHANTYPES=abc NICKLEN=0 MODES=x",
            "PREFIX=(ov)@ CHANMODES=1,2 CHANTYPES=:: NICKLEN=-1 MODES=0",
            "PREFIX=ov@+ CHANMODES= CHANTYPES=, NICKLEN=9x MODES=-",
            "PREFIX=(ov)ab CHANMODES CHANTYPES=\\x20 NICKLEN= MODES=1e9",
        ] {
            let isupport = isupport(tokens);
            assert_eq!(isupport.mode_kind(b'o'), ModeKind::Prefix(0), "{tokens}");
            assert_eq!(isupport.mode_kind(b'b'), ModeKind::List, "{tokens}");
            assert!(
                isupport.is_channel(b"#c") && !isupport.is_channel(b"abc"),
                "{tokens}"
            );
            assert_eq!(
                (isupport.nick_len(), isupport.modes_per_line()),
                (None, 3),
                "{tokens}"
            );
        }
        assert!(isupport("NICKLEN=99999999999999999999").nick_len() > Some(1_000_000));
        assert_eq!(
            isupport("CASEMAPPING=rfc8265").casemapping(),
            CaseMapping::Ascii
        );
    }

    #[test]
    fn channels_and_messages_to_ranks_are_told_apart() {
        let plain = isupport("CHANTYPES=#+& STATUSMSG=@+&");
        for (target, name) in [
            ("#c", "#c"),
            ("@#c", "#c"),
            ("@+#c", "#c"),
            ("+c", "+c"),
            ("@+c", "+c"),
            ("&c", "&c"),
            ("@nick", "@nick"),
            ("@", "@"),
            ("", ""),
        ] {
            assert_eq!(
                plain.strip_status(target.as_bytes()),
                name.as_bytes(),
                "{target}"
            );
        }
        assert_eq!(Isupport::default().strip_status(b"@#c"), b"@#c");
        assert!(
            !isupport("CHANTYPES=").is_channel(b"#c"),
            "a network without channels"
        );
    }

    #[test]
    fn limits_are_read() {
        let isupport = isupport(
            "NICKLEN=30 MODES TARGMAX=PRIVMSG:4,notice:,WHOIS:x MAXTARGETS=20 NETWORK=A\\x20B",
        );
        assert_eq!(
            (isupport.nick_len(), isupport.modes_per_line()),
            (Some(30), usize::MAX)
        );
        for (command, most) in [
            ("privmsg", Some(4)),
            ("NOTICE", None),
            ("WHOIS", None),
            ("KICK", Some(20)),
            ("JOIN", None),
        ] {
            assert_eq!(isupport.max_targets(command.as_bytes()), most, "{command}");
        }
        assert_eq!(isupport.network(), Some(&b"A B"[..]));
        assert!(isupport.has(b"MODES") && !isupport.has(b"modes"));
        assert_eq!(
            (isupport.value(b"MODES"), isupport.value(b"X")),
            (Some(&b""[..]), None)
        );
    }

    #[test]
    fn clients_are_told_what_holds_for_them() {
        let told = isupport(
            "WHOX NETWORK=A\\x20B PREFIX=( CASEMAPPING=precis NAMESX UHNAMES WATCH=9 MONITOR=9 CHATHISTORY=9 \
             MSGREFTYPES=msgid BOUNCER_NETID=3 LINELEN=2048 UNHEARD=1 CHANTYPES=# CHANMODES=b,k draft/ICON=u?a=b",
        );
        assert_eq!(
            text(&told.tokens()),
            "CASEMAPPING=ascii CHANMODES=b,k,, CHANTYPES=# MONITOR=9 NETWORK=A\\x20B PREFIX=(ov)@+ WHOX draft/ICON=u?a=b"
        );
        assert!(Isupport::default().tokens().is_empty());
    }

    #[test]
    fn changes_are_told_and_lead_there() {
        let from = isupport("NICKLEN=9 WHOX NETWORK=a SAFELIST WATCH=1");
        let to = isupport("NICKLEN=30 WHOX CHANTYPES=# WATCH=2");
        assert_eq!(
            text(&Isupport::changes(&from, &to)),
            "-NETWORK -SAFELIST CHANTYPES=# NICKLEN=30"
        );
        assert!(Isupport::changes(&to, &to).is_empty());
    }

    #[test]
    fn size_is_bounded() {
        let mut isupport = Isupport::default();
        isupport.apply(&[b"LONG=", &[b'x'; TOKEN][..]].concat());
        assert!(!isupport.has(b"LONG"));
        (0..2 * TOKENS).for_each(|n| isupport.apply(format!("KEY{n}").as_bytes()));
        assert_eq!(isupport.tokens.len(), TOKENS);
        isupport.apply(b"KEY0=new");
        assert_eq!(
            isupport.value(b"KEY0"),
            Some(&b"new"[..]),
            "known keys still change"
        );
    }

    fn token() -> impl Strategy<Value = Vec<u8>> {
        let known =
            "-?(PREFIX|CHANMODES|CHANTYPES|CASEMAPPING|STATUSMSG|NICKLEN|TARGMAX|MODES|NETWORK|A)";
        let value = "=[(),:@+ovbk#9\\\\x2F]{0,12}";
        prop_oneof![
            (known, prop::option::of(value))
                .prop_map(|(key, value)| (key + &value.unwrap_or_default()).into_bytes()),
            prop::collection::vec(any::<u8>(), 0..20),
        ]
    }

    proptest! {
        #[test]
        fn any_tokens_can_be_saved_told_and_taken_back(tokens in prop::collection::vec(token(), 0..20)) {
            let mut isupport = Isupport::default();
            tokens.iter().for_each(|token| isupport.apply(token));
            let json = serde_json::to_string(&isupport).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Isupport>(&json).unwrap(), &isupport);

            let mut client = Isupport::default();
            isupport.tokens().iter().for_each(|token| client.apply(token));
            prop_assert_eq!(client.casemapping(), isupport.casemapping());
            prop_assert!((0..=255).all(|l| client.mode_kind(l) == isupport.mode_kind(l)));
            prop_assert_eq!(client.tokens(), isupport.tokens());
            Isupport::changes(&isupport, &Isupport::default()).iter().for_each(|token| client.apply(token));
            prop_assert_eq!(client, Isupport::default());
        }

        #[test]
        fn escape_then_unescape_is_the_identity(value in any::<Vec<u8>>()) {
            let mut raw = Vec::new();
            escape(&value, &mut raw);
            prop_assert!(raw.iter().all(|&b| b > b' '));
            prop_assert_eq!(unescape(&raw), value);
        }
    }
}
