//! What a line says, as words: the same for every spelling that people take for the same. Text is bytes; what is not UTF-8
//! separates words. `search` decides with this whether a line is meant, `derive` what is noted about it.

use std::borrow::Cow;
use std::mem;

use super::entry::OTHER_LINES;
use crate::wire::{Line, Tags};

/// What a message says, without the framing of an ACTION; nothing for other lines, and for other CTCP.
pub(super) fn text_of<'a>(line: &Line<'a>) -> Option<&'a [u8]> {
    if !line.is(b"PRIVMSG") && !line.is(b"NOTICE") {
        return None;
    }
    let text = line.param(1)?;
    let Some(ctcp) = text.strip_prefix(b"\x01") else {
        return Some(text);
    };
    let ctcp = ctcp.strip_suffix(b"\x01").unwrap_or(ctcp);
    ctcp.strip_prefix(b"ACTION ")
}

/// The same of a message of several lines: all of them, as one text.
pub(super) fn whole_text<'a>(line: &Line<'a>, tags: &[u8]) -> Option<Cow<'a, [u8]>> {
    let first = text_of(line)?;
    let others = match tags.is_empty() {
        true => None,
        false => Tags::new(tags).get(OTHER_LINES),
    };
    let Some(others) = others else {
        return Some(first.into());
    };
    // What goes on where the line before it ended may go on within a word.
    let others = others.iter().filter(|byte| **byte != b'\r');
    Some(first.iter().chain(others).copied().collect())
}

/// Takes a text apart. `word` may be called with the same buffer again and again.
pub(super) fn each_word(text: &[u8], mut word: impl FnMut(&str)) {
    let mut current = String::new();
    let mut end = |current: &mut String| {
        if !current.is_empty() {
            word(current);
            current.clear();
        }
    };
    let mut formatting = Formatting::default();
    for chunk in text.utf8_chunks() {
        for char in chunk.valid().chars() {
            if formatting.covers(char) {
                continue;
            }
            match Class::of(char) {
                Class::Letter => fold(char, &mut current),
                Class::Mark => {}
                Class::Ideograph => {
                    end(&mut current);
                    current.push(char);
                    end(&mut current);
                }
                Class::Other => end(&mut current),
            }
        }
        if !chunk.invalid().is_empty() {
            end(&mut current);
        }
    }
    end(&mut current);
}

/// The words of a text.
pub(super) fn words(text: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    each_word(text, |word| found.push(word.to_owned()));
    found
}

enum Class {
    /// Part of a word.
    Letter,
    /// Changes the letter before it; words are the same with and without.
    Mark,
    /// A word by itself: its script has no spaces.
    Ideograph,
    Other,
}

impl Class {
    fn of(char: char) -> Self {
        match char {
            '0'..='9' | 'A'..='Z' | 'a'..='z' => Self::Letter,
            '\0'..='\x7f' => Self::Other,
            '\u{300}'..='\u{36f}' => Self::Mark,
            // Kana, ideographs, Thai, Lao, Khmer, Burmese.
            '\u{3041}'..='\u{30ff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}'
            | '\u{e01}'..='\u{eff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17ff}' => Self::Ideograph,
            char if char.is_alphanumeric() => Self::Letter,
            _ => Self::Other,
        }
    }
}

/// Adds a letter: small, and without what stands above, below or through it.
fn fold(char: char, word: &mut String) {
    if char.is_ascii() {
        word.push(char.to_ascii_lowercase());
        return;
    }
    for char in char.to_lowercase() {
        match char {
            'ß' => word.push_str("ss"),
            'æ' => word.push_str("ae"),
            'œ' => word.push_str("oe"),
            // What remains when a letter that is one in two was made small.
            '\u{300}'..='\u{36f}' => {}
            _ => word.push(plain(char)),
        }
    }
}

/// The letter of the alphabet below a Latin letter with a mark.
const fn plain(char: char) -> char {
    match char {
        'à'..='å' | 'ā' | 'ă' | 'ą' | 'ǎ' | 'ạ'..='ặ' => 'a',
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => 'c',
        'ď' | 'đ' => 'd',
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' | 'ẹ'..='ệ' => 'e',
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => 'g',
        'ĥ' | 'ħ' => 'h',
        'ì'..='ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' | 'ǐ' | 'ỉ' | 'ị' => 'i',
        'ĵ' => 'j',
        'ķ' => 'k',
        'ĺ' | 'ļ' | 'ľ' | 'ŀ' | 'ł' => 'l',
        'ñ' | 'ń' | 'ņ' | 'ň' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ŏ' | 'ő' | 'ơ' | 'ǒ' | 'ọ'..='ợ' => 'o',
        'ŕ' | 'ŗ' | 'ř' => 'r',
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => 's',
        'ţ' | 'ť' | 'ŧ' | 'ț' => 't',
        'ù'..='ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' | 'ư' | 'ǔ' | 'ụ'..='ự' => 'u',
        'ŵ' => 'w',
        'ý' | 'ÿ' | 'ŷ' | 'ỳ'..='ỹ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        'ё' => 'е',
        'ς' => 'σ',
        'ά' => 'α',
        'έ' => 'ε',
        'ή' => 'η',
        'ί' | 'ϊ' | 'ΐ' => 'ι',
        'ό' => 'ο',
        'ύ' | 'ϋ' | 'ΰ' => 'υ',
        'ώ' => 'ω',
        _ => char,
    }
}

/// Where in a formatting code we are: its characters stand inside words and belong to none.
#[derive(Default)]
enum Formatting {
    #[default]
    None,
    /// In a colour: digits of the first number; whether its comma was seen; digits of the second.
    Colour(u8, bool, u8),
    /// In a colour given in six hexadecimal digits: so many are left.
    Hex(u8),
}

impl Formatting {
    fn covers(&mut self, char: char) -> bool {
        let digit = char.is_ascii_digit();
        let (next, covered) = match (mem::take(self), char) {
            (_, '\x03') => (Self::Colour(0, false, 0), true),
            (_, '\x04') => (Self::Hex(6), true),
            (Self::Colour(n @ 0..=1, false, _), _) if digit => {
                (Self::Colour(n + 1, false, 0), true)
            }
            (Self::Colour(n, false, _), ',') if n > 0 => (Self::Colour(n, true, 0), true),
            (Self::Colour(a, true, n @ 0..=1), _) if digit => (Self::Colour(a, true, n + 1), true),
            (Self::Hex(n @ 1..), char) if char.is_ascii_hexdigit() => (Self::Hex(n - 1), true),
            (_, '\x02' | '\x0f' | '\x11' | '\x16' | '\x1d'..='\x1f') => (Self::None, true),
            _ => (Self::None, false),
        };
        *self = next;
        covered
    }
}

/// What is looked for: phrases that must all be there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) phrases: Vec<Phrase>,
}

/// Words in a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Phrase {
    pub(super) words: Vec<String>,
    /// Whether the last word may go on.
    pub(super) open: bool,
}

impl Wanted {
    /// Reads what somebody typed: words, "words in a row", and `beginnings*`.
    pub(super) fn parse(typed: &str) -> Self {
        let mut wanted = Self::default();
        // Every other part stands between quotes.
        for (n, part) in typed.split('"').enumerate() {
            if n % 2 == 1 {
                wanted.add(part);
            } else {
                part.split_whitespace().for_each(|word| wanted.add(word));
            }
        }
        wanted
    }

    fn add(&mut self, text: &str) {
        let words = words(text.as_bytes());
        if !words.is_empty() {
            let open = text.ends_with('*');
            self.phrases.push(Phrase { words, open });
        }
    }

    /// Whether nothing is looked for.
    pub(super) fn is_empty(&self) -> bool {
        self.phrases.is_empty()
    }

    /// Whether a text has it all.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        if self.is_empty() {
            return true;
        }
        let words = words(text);
        self.phrases.iter().all(|phrase| phrase.is_in(&words))
    }
}

impl Phrase {
    fn is_in(&self, words: &[String]) -> bool {
        let Some((last, first)) = self.words.split_last() else {
            return true;
        };
        words.windows(self.words.len()).any(|found| {
            let (end, start) = (&found[first.len()], &found[..first.len()]);
            start == first && (end == last || self.open && end.starts_with(last.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_people_take_for_the_same() {
        let cases: &[(&[u8], &str)] = &[
            (b"Hello, World! it's 42", "hello world it s 42"),
            (
                "Größe ÉLAN e\u{301}lan naïve Łódź Đặng İstanbul".as_bytes(),
                "grosse elan elan naive lodz dang istanbul",
            ),
            ("Ёж Σίσυφος ΣΙΣΥΦΟΣ".as_bytes(), "еж σισυφοσ σισυφοσ"),
            (
                b"\x02bo\x02ld \x0304,12re\x03d\x0f \x04ff00aagreen \x03,5",
                "bold red green 5",
            ),
            ("東京タワー tower".as_bytes(), "東 京 タ ワ ー tower"),
            (b"caf\xe9 abc\xff\xfedef", "caf abc def"),
            (b"http://example.org/a_b?c=d", "http example org a b c d"),
            (b"", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(
                words(text).join(" "),
                *expected,
                "{:?}",
                text.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn only_what_is_said_has_a_text() {
        let cases: &[(&[u8], Option<&[u8]>)] = &[
            (b":a!b@c PRIVMSG #a :some text", Some(b"some text")),
            (b":a!b@c notice #a text", Some(b"text")),
            (b":a!b@c PRIVMSG #a :\x01ACTION waves\x01", Some(b"waves")),
            (b":a!b@c PRIVMSG #a :\x01VERSION\x01", None),
            (b":a!b@c TOPIC #a :text", None),
            (b":a!b@c TAGMSG #a", None),
            (b":a!b@c PRIVMSG #a", None),
        ];
        for (line, expected) in cases {
            assert_eq!(text_of(&Line::parse(line).unwrap()), *expected);
        }
    }

    #[test]
    fn a_message_of_several_lines_is_one_text() {
        let line = Line::parse(b":a!b@c PRIVMSG #a :one").unwrap();
        let text = |tags: &[u8]| whole_text(&line, tags).unwrap().into_owned();
        assert_eq!(text(b""), b"one");
        assert_eq!(text(b"account=bob"), b"one");
        assert_eq!(
            text(b"account=bob;carom/lines=\\ntwo\\sthr\\ree\\nfour;x"),
            b"one\ntwo three\nfour"
        );
        let other = Line::parse(b":a!b@c TOPIC #a :one").unwrap();
        assert!(whole_text(&other, b"carom/lines=\\ntwo").is_none());
    }

    #[test]
    fn what_is_typed_is_words_rows_of_words_and_beginnings() {
        let found = |typed: &str, text: &str| Wanted::parse(typed).is_in(text.as_bytes());
        let text = "The quick brown fox jumps over foo-bar";
        for typed in [
            "",
            "fox",
            "FOX quick",
            "\"quick brown\"",
            "jum*",
            "foo-bar",
            "\"brown fo*\" the",
            "qu* \"bar",
        ] {
            assert!(found(typed, text), "{typed}");
        }
        for typed in [
            "fo",
            "fox cat",
            "\"brown quick\"",
            "ump*",
            "bar-foo",
            "\"over bar\"",
        ] {
            assert!(!found(typed, text), "{typed}");
        }
        assert!(found("京タ", "東京タワー"));
        assert!(!found("東タ", "東京タワー"));
    }
}
