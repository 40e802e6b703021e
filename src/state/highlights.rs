//! Which messages name the user: by our nick, or by one of the words he has configured. Formatting does not hide them,
//! and they have to stand by themselves.

use crate::wire::CaseMapping;

use super::Network;

/// A text as it is compared: without formatting, in small letters, under the network's mapping of names. What is not
/// UTF-8 is replaced.
fn folded(text: &[u8], mapping: CaseMapping) -> String {
    let plain = String::from_utf8_lossy(&plain(text)).to_lowercase();
    let fold = |c: char| match u8::try_from(c) {
        Ok(byte) if byte.is_ascii() => char::from(mapping.fold(byte)),
        _ => c,
    };
    plain.chars().map(fold).collect()
}

/// Without the codes of bold, colours and the like.
fn plain(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            0x03 => rest = past_colours(rest, 2, u8::is_ascii_digit),
            0x04 => rest = past_colours(rest, 6, u8::is_ascii_hexdigit),
            0x02 | 0x0f | 0x11 | 0x16 | 0x1d | 0x1e | 0x1f => {}
            byte => out.push(byte),
        }
    }
    out
}

/// Behind a colour and, after a comma, the colour of the background, of so many digits each at most.
fn past_colours(text: &[u8], most: usize, is_digit: fn(&u8) -> bool) -> &[u8] {
    let digits = |text: &[u8]| text.iter().take(most).take_while(|b| is_digit(b)).count();
    let first = digits(text);
    let rest = &text[first..];
    match rest.strip_prefix(b",").map(digits) {
        Some(second) if first > 0 && second > 0 => &rest[1 + second..],
        _ => rest,
    }
}

/// Whether a word may end before or begin behind this.
fn is_boundary(c: Option<char>) -> bool {
    c.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '|')))
}

/// Whether a word stands in a text by itself; both folded.
fn names(text: &str, word: &str) -> bool {
    if word.is_empty() {
        return false;
    }
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        is_boundary(before.chars().next_back()) && is_boundary(after.chars().next())
    })
}

impl Network {
    /// Whether a text names the user.
    pub(super) fn is_highlight(&self, text: &[u8]) -> bool {
        let mapping = self.mapping;
        let text = folded(text, mapping);
        let words = &self.settings.network.highlights;
        let words = words.iter().map(|word| folded(word.as_bytes(), mapping));
        std::iter::once(folded(self.nick(), mapping))
            .chain(words)
            .any(|word| names(&text, &word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Remembered;
    use crate::state::Settings;
    use proptest::prelude::*;

    fn network(nick: &str, words: &[&str]) -> Network {
        let mut settings = Settings::default();
        settings.network.nick = nick.to_owned();
        settings.network.highlights = words.iter().map(|w| (*w).to_owned()).collect();
        Network::new(settings, Remembered::default(), 1)
    }

    #[test]
    fn a_nick_counts_where_it_stands_by_itself() {
        let network = network("apw[m]", &[]);
        for (text, is_one) in [
            (&b"apw[m]: hi"[..], true),
            (b"hi APW{M}", true),
            (b"(apw[m])", true),
            (b"@apw[m],", true),
            (b"xapw[m]", false),
            (b"apw[m]2", false),
            (b"apw[m]|away", false),
            (b"apw[m]_ apw[m]", true),
            (b"apw", false),
            (b"", false),
            (b"\x01ACTION pokes apw[m]\x01", true),
            (b"\x02\x0304,12ap\x0fw[m]\x03", true),
            (b"\x03apw[m]", true),
            (b"\x0399apw[m]", true),
            (b"\x04ff00ccapw[m]", true),
            (b"\xff apw[m] \xfe", true),
        ] {
            assert_eq!(network.is_highlight(text), is_one, "{text:?}");
        }
    }

    #[test]
    fn words_count_in_any_case_of_any_script() {
        let network = network("apw", &["Carom", "żółw", "new release"]);
        for (text, is_one) in [
            ("is carom down?", true),
            ("caroms", false),
            ("ŻÓŁW!", true),
            ("żółwie", false),
            ("a New Release is out", true),
            ("anew release", false),
            ("nothing", false),
        ] {
            assert_eq!(network.is_highlight(text.as_bytes()), is_one, "{text}");
        }
    }

    const CODES: &[&[u8]] = &[
        b"\x02",
        b"\x1d",
        b"\x0312",
        b"\x0304,08",
        b"\x04ff00aa",
        b"\x0f",
    ];

    proptest! {
        #[test]
        fn any_bytes_are_looked_at(
            text in prop::collection::vec(any::<u8>(), 0..200),
            nick in "[a-zA-Z\\[\\]\\\\^{}|~_0-9-]{1,9}",
            word in "\\PC{0,5}",
        ) {
            network(&nick, &[&word]).is_highlight(&text);
            // Whatever stands around it, by itself it is found.
            let around = [&text[..], b"\x0f ", nick.as_bytes(), b" ", &text[..]].concat();
            prop_assert!(network(&nick, &[]).is_highlight(&around));
        }

        #[test]
        fn formatting_hides_nothing(codes in prop::collection::vec(prop::sample::select(CODES), 4)) {
            let text = [codes[0], b"a", codes[1], b"p", codes[2], b"w", codes[3]].concat();
            prop_assert!(network("apw", &[]).is_highlight(&text));
        }
    }
}
