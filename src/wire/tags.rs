//! Message tags (IRCv3 message-tags): iteration over `key=value;key`, and the escapes of values. Keys are opaque and
//! case-sensitive; a missing value is an empty one. Which tags mean what is `state`'s.

use std::borrow::Cow;

use memchr::memchr;

/// The tags of a line, from what stands between `@` and the space: keys and values as they stand on the wire.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tags<'a> {
    rest: &'a [u8],
}

impl<'a> Tags<'a> {
    /// The tags in `raw`, which is without `@`.
    pub fn new(raw: &'a [u8]) -> Self {
        Self { rest: raw }
    }

    /// The value of a tag, unescaped; empty when it has none. The last one wins.
    pub fn get(&self, key: &[u8]) -> Option<Cow<'a, [u8]>> {
        self.filter(|&(k, _)| k == key)
            .last()
            .map(|(_, value)| unescape(value))
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let end = memchr(b';', self.rest).unwrap_or(self.rest.len());
            let (item, rest) = self.rest.split_at(end);
            self.rest = rest.get(1..).unwrap_or_default();
            let at = memchr(b'=', item).unwrap_or(item.len());
            if at > 0 {
                return Some((&item[..at], item.get(at + 1..).unwrap_or_default()));
            }
        }
        None
    }
}

/// Appends a value as it stands on the wire.
pub fn escape(value: &[u8], out: &mut Vec<u8>) {
    out.reserve(value.len());
    for &byte in value {
        match byte {
            b';' => out.extend_from_slice(b"\\:"),
            b' ' => out.extend_from_slice(b"\\s"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
}

/// The inverse of [`escape`]. The backslash of an unknown escape is dropped, and so is one at the end.
pub fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr(b'\\', raw) else {
        return Cow::Borrowed(raw);
    };
    let mut value = raw[..first].to_vec();
    let mut bytes = raw[first..].iter().copied();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'\\' => match bytes.next() {
                Some(b':') => b';',
                Some(b's') => b' ',
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(other) => other,
                None => break,
            },
            other => other,
        };
        value.push(byte);
    }
    Cow::Owned(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_are_told_one_by_one() {
        let all: Vec<_> = Tags::new(b"a=1;b=;c;;=x;d=e=f;+v.x/y=\\s").collect();
        let expected: [(&[u8], &[u8]); 5] = [
            (b"a", b"1"),
            (b"b", b""),
            (b"c", b""),
            (b"d", b"e=f"),
            (b"+v.x/y", b"\\s"),
        ];
        assert_eq!(all, expected);
        assert_eq!(Tags::new(b"").count(), 0);
    }

    #[test]
    fn the_last_of_equal_keys_wins_and_case_matters() {
        let tags = Tags::new(b"k=1;K=2;k=3\\:;e");
        let get = |key: &[u8]| tags.get(key).map(Cow::into_owned);
        assert_eq!(get(b"k"), Some(b"3;".to_vec()));
        assert_eq!(get(b"K"), Some(b"2".to_vec()));
        assert_eq!(get(b"e"), Some(Vec::new()));
        assert_eq!(get(b"x"), None);
    }

    #[test]
    fn unknown_escapes_lose_their_backslash() {
        for (raw, value) in [
            ("a\\:b\\sc\\\\d\\r\\n", "a;b c\\d\r\n"),
            ("\\b\\=", "b="),
            ("end\\", "end"),
            ("\\\\s", "\\s"),
            ("plain", "plain"),
        ] {
            assert_eq!(unescape(raw.as_bytes()), value.as_bytes(), "{raw}");
        }
        assert!(matches!(unescape(b"plain"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn escape_then_unescape_is_the_identity(value in any::<Vec<u8>>()) {
            let mut raw = Vec::new();
            escape(&value, &mut raw);
            prop_assert!(!raw.iter().any(|b| b"; \r\n".contains(b)));
            prop_assert_eq!(unescape(&raw).into_owned(), value);
        }

        #[test]
        fn any_bytes_are_tags(raw in "[a;=\\\\ ]{0,30}") {
            for (key, value) in Tags::new(raw.as_bytes()) {
                prop_assert!(!key.is_empty() && !key.contains(&b'='));
                prop_assert!(unescape(value).len() <= value.len());
                prop_assert!(Tags::new(raw.as_bytes()).get(key).is_some());
            }
        }
    }
}
