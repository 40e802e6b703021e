//! What single texts may look like: names, nicks, hashes, pins. Only what could never work or would break a line is
//! refused; a network has the last word on the rest.

use argon2::password_hash::phc::PasswordHash;

use super::Pin;

/// Why a text cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing in it.
    #[error("is empty")]
    Empty,
    /// Too many bytes.
    #[error("has {0} bytes, and {1} is the most")]
    TooLong(usize, usize),
    /// A character that cannot be there.
    #[error("has {0:?} in it")]
    Has(char),
    /// A character that cannot come first.
    #[error("begins with {0:?}")]
    Begins(char),
    /// Not a name of a channel.
    #[error("is a nick, not a channel")]
    NoSign,
    /// A password instead of its hash.
    #[error("is not the hash of a password")]
    NoHash,
    /// A hash that lost something.
    #[error("is a damaged {0} hash")]
    Damaged(&'static str),
    /// Not a fingerprint.
    #[error("{0:?} is no fingerprint")]
    Pin(String),
    /// A format that cannot be used.
    #[error("{0}")]
    Format(String),
}

type Checked = Result<(), TextError>;

fn length(text: &str, most: usize) -> Checked {
    match text.len() {
        0 => Err(TextError::Empty),
        length if length > most => Err(TextError::TooLong(length, most)),
        _ => Ok(()),
    }
}

fn none_of(text: &str, unwanted: impl Fn(char) -> bool) -> Checked {
    text.chars()
        .find(|&c| c.is_control() || unwanted(c))
        .map_or(Ok(()), |c| Err(TextError::Has(c)))
}

fn begins_without(text: &str, unwanted: impl Fn(char) -> bool) -> Checked {
    text.chars()
        .next()
        .filter(|&c| unwanted(c))
        .map_or(Ok(()), |c| Err(TextError::Begins(c)))
}

/// `[a-z0-9_-]{1,32}`
pub(super) fn user_name(text: &str) -> Checked {
    length(text, 32)?;
    none_of(text, |c| !matches!(c, 'a'..='z' | '0'..='9' | '_' | '-'))
}

/// What stands behind the `/` of a login.
pub(super) fn network_name(text: &str) -> Checked {
    length(text, 64)?;
    none_of(text, |c| matches!(c, ' ' | '/' | '@' | ':'))
}

/// What clients see as the source of our lines.
pub(super) fn server_name(text: &str) -> Checked {
    length(text, 63)?;
    begins_without(text, |c| !c.is_ascii_alphanumeric())?;
    none_of(text, |c| {
        !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'))
    })
}

/// RFC 2812 section 2.3.1, with the letters of other scripts that some networks take.
pub(super) fn nick(text: &str) -> Checked {
    length(text, 64)?;
    begins_without(text, |c| {
        c.is_ascii_digit() || matches!(c, '-' | '#' | '&' | '+' | '~' | '%' | '$' | '=')
    })?;
    none_of(text, |c| {
        matches!(c, ' ' | ',' | '*' | '?' | '!' | '@' | ':' | '.')
    })
}

/// USER's first parameter.
pub(super) fn username(text: &str) -> Checked {
    length(text, 64)?;
    begins_without(text, |c| c == ':')?;
    none_of(text, |c| matches!(c, ' ' | '@' | '!'))
}

/// RFC 2812 section 1.3; which signs there are is the network's, so only what would be a nick is refused.
pub(super) fn channel_name(text: &str) -> Checked {
    length(text, 200)?;
    if text.starts_with(char::is_alphanumeric) {
        return Err(TextError::NoSign);
    }
    begins_without(text, |c| c == ':')?;
    none_of(text, |c| matches!(c, ' ' | ','))
}

/// JOIN's second parameter; empty is none.
pub(super) fn channel_key(text: &str) -> Checked {
    if text.is_empty() {
        return Ok(());
    }
    length(text, 200)?;
    begins_without(text, |c| c == ':')?;
    none_of(text, |c| matches!(c, ' ' | ','))
}

/// The hashes of carom, ZNC, soju and bip. What they are made of is judged by `auth`; here, whether they are whole.
pub(super) fn password_hash(text: &str) -> Checked {
    let hex =
        |text: &str, digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    let whole = |whole: bool, form| {
        if whole {
            Ok(())
        } else {
            Err(TextError::Damaged(form))
        }
    };
    if text.starts_with("$argon2id$") {
        let whole_phc =
            PasswordHash::new(text).is_ok_and(|parts| parts.salt.is_some() && parts.hash.is_some());
        return whole(whole_phc, "argon2id");
    }
    if let Some(rest) = text.strip_prefix("sha256#") {
        let parts: Vec<_> = rest.split('#').collect();
        return whole(
            matches!(parts.as_slice(), [hash, _] | [hash, _, ""] if hex(hash, 64)),
            "sha256",
        );
    }
    if text
        .get(..4)
        .is_some_and(|start| matches!(start, "$2a$" | "$2b$" | "$2y$"))
    {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/');
        let (cost, rest) = text.as_bytes()[4..].split_at((text.len() - 4).min(2));
        return whole(
            text.len() == 60
                && cost.iter().all(u8::is_ascii_digit)
                && rest.starts_with(b"$")
                && rest[1..].iter().copied().all(allowed),
            "bcrypt",
        );
    }
    if hex(text, 40) {
        Ok(())
    } else {
        Err(TextError::NoHash)
    }
}

/// Whether a time can be written in a format.
pub(super) fn strftime(format: &str) -> Checked {
    let sample = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
    match jiff::fmt::strtime::format(format, &sample) {
        Ok(text) if text.chars().any(char::is_control) => Err(TextError::Format(
            "writes line ends or control characters".into(),
        )),
        Ok(text) if text.len() > 100 => Err(TextError::TooLong(text.len(), 100)),
        Ok(_) => Ok(()),
        Err(error) => Err(TextError::Format(error.to_string())),
    }
}

impl Pin {
    /// Reads `sha256:HEX` or `spki-sha256:HEX`, in any case, with colons between the bytes or without.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let wrong = || TextError::Pin(text.into());
        let (kind, digits) = text.split_once(':').ok_or_else(wrong)?;
        let digits: Vec<u8> = digits
            .chars()
            .filter(|c| *c != ':')
            .map(|c| {
                c.to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
                    .ok_or_else(wrong)
            })
            .collect::<Result<_, _>>()?;
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |n, d| n << 4 | d))
            .collect();
        let hash = match <[u8; 32]>::try_from(bytes) {
            Ok(hash) if digits.len() == 64 => hash,
            _ => return Err(wrong()),
        };
        match kind.to_ascii_lowercase().as_str() {
            "sha256" => Ok(Self::Certificate(hash)),
            "spki-sha256" => Ok(Self::Key(hash)),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_work_are_refused() {
        assert_eq!(user_name("apw"), Ok(()));
        assert_eq!(user_name("Apw"), Err(TextError::Has('A')));
        assert_eq!(user_name(&"a".repeat(33)), Err(TextError::TooLong(33, 32)));
        assert_eq!(network_name("Libera Chat"), Err(TextError::Has(' ')));
        assert_eq!(nick("[apw]"), Ok(()));
        assert_eq!(nick("żółw"), Ok(()));
        assert_eq!(nick("1apw"), Err(TextError::Begins('1')));
        assert_eq!(nick("a!b"), Err(TextError::Has('!')));
        assert_eq!(channel_name("#bip"), Ok(()));
        assert_eq!(channel_name("bip"), Err(TextError::NoSign));
        assert_eq!(channel_name("#a,#b"), Err(TextError::Has(',')));
        assert_eq!(channel_name("#\u{7}"), Err(TextError::Has('\u{7}')));
        assert_eq!(channel_key(""), Ok(()));
        assert_eq!(channel_key("two words"), Err(TextError::Has(' ')));
    }

    #[test]
    fn hashes_of_four_programs() {
        let good = [
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNo",
            "356a192b7913b04c54574d18c28d46e6395428ab",
            "sha256#9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0#k?f!,*Bt2lrk#",
            "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
        ];
        for hash in good {
            assert_eq!(password_hash(hash), Ok(()), "{hash}");
        }
        assert_eq!(password_hash("tubbly"), Err(TextError::NoHash));
        assert_eq!(password_hash(""), Err(TextError::NoHash));
        assert_eq!(
            password_hash("$argon2id$v=19$m=1$abc"),
            Err(TextError::Damaged("argon2id"))
        );
        assert_eq!(
            password_hash("sha256#12#salt#"),
            Err(TextError::Damaged("sha256"))
        );
        assert_eq!(password_hash("$2a$"), Err(TextError::Damaged("bcrypt")));
        assert_eq!(
            password_hash("$2a$10$short"),
            Err(TextError::Damaged("bcrypt"))
        );
    }

    #[test]
    fn pins() {
        let hex = "AB".repeat(32);
        let colons = ["ab"; 32].join(":");
        assert_eq!(
            Pin::parse(&format!("sha256:{hex}")),
            Ok(Pin::Certificate([0xab; 32]))
        );
        assert_eq!(
            Pin::parse(&format!("SPKI-SHA256:{colons}")),
            Ok(Pin::Key([0xab; 32]))
        );
        for wrong in [
            hex.clone(),
            "sha256:abcd".into(),
            format!("sha1:{hex}"),
            format!("sha256:{hex}0"),
        ] {
            assert_eq!(Pin::parse(&wrong), Err(TextError::Pin(wrong.clone())));
        }
    }

    #[test]
    fn formats_are_tried() {
        assert_eq!(strftime("[%H:%M]"), Ok(()));
        assert!(matches!(strftime("%H:%"), Err(TextError::Format(_))));
        assert!(matches!(strftime("%n"), Err(TextError::Format(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,80}") {
            let _ = (password_hash(&text), Pin::parse(&text), nick(&text), channel_name(&text));
            let _ = strftime(&text);
        }
    }
}
