//! Fingerprints of certificates and keys as the file has them: lists of them, and how one is written. What one may look
//! like is in `texts`, what they are held against is `net`'s.

use std::fmt;

use super::check::UserDraft;
use super::reader::{Reader, Value};
use super::{Pin, Trust};

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, hash) = match self {
            Self::Certificate(hash) => ("sha256", hash),
            Self::Key(hash) => ("spki-sha256", hash),
        };
        write!(f, "{kind}:")?;
        hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

pub(super) fn certificates(draft: &mut UserDraft, value: Value<'_>, reader: &mut Reader<'_>) {
    pins_into(&mut draft.user.certificates, value, reader);
}

pub(super) fn pins(trust: &mut Trust, value: Value<'_>, reader: &mut Reader<'_>) {
    pins_into(&mut trust.pins, value, reader);
}

fn pins_into(into: &mut Vec<Pin>, value: Value<'_>, reader: &mut Reader<'_>) {
    let Some(list) = reader.list(value, "[\"sha256:...\"]") else {
        return;
    };
    for item in list {
        let Some(text) = reader.text(item) else {
            continue;
        };
        match Pin::parse(text) {
            Ok(pin) => into.push(pin),
            Err(error) => reader.error(
                item,
                error.to_string(),
                "write sha256: or spki-sha256: and 64 hexadecimal digits",
            ),
        }
    }
}
