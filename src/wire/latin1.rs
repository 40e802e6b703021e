//! Bytes as serde strings, losslessly: each byte becomes the character of the same number. For state that is written as
//! JSON, where IRC's bytes need not be UTF-8. Used as `#[serde(with = "latin1")]`.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serializer};

/// Bytes as a string of U+0000 to U+00FF.
pub fn to_string(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The inverse of [`to_string`]; `None` when a character is above U+00FF.
pub fn from_str(text: &str) -> Option<Vec<u8>> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect()
}

/// Writes bytes as a string.
pub fn serialize<B: AsRef<[u8]>, S: Serializer>(
    bytes: &B,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&to_string(bytes.as_ref()))
}

/// Reads bytes from a string.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    from_str(&text)
        .map(Bytes::from)
        .ok_or_else(|| serde::de::Error::custom("a character above U+00FF"))
}

/// The same for `Option<Bytes>`: `#[serde(with = "latin1::option")]`.
pub mod option {
    use super::{Bytes, Deserialize, Deserializer, Serializer};

    /// Writes bytes or nothing.
    pub fn serialize<S: Serializer>(
        bytes: &Option<Bytes>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_some(&super::to_string(bytes)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads bytes or nothing.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Bytes>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::from_str(&text).map(Bytes::from))
            .map(|bytes| bytes.ok_or_else(|| serde::de::Error::custom("a character above U+00FF")))
            .transpose()
    }
}
