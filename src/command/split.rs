//! Splits a text into words as a shell does. Knows nothing of what the words mean: that is the
//! parser's.

/// Words of a line, and where each begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scan {
    /// The words; the last one may break off.
    pub(super) words: Vec<(usize, String)>,
    /// What is wrong with the last one, if it breaks off.
    pub(super) broken: Option<String>,
}

/// Takes a line apart at blanks. In single quotes everything stands for itself; in double quotes a backslash keeps `"` and
/// `\` from meaning anything, outside quotes it keeps any character from it. Channel names are words: `#` begins no
/// comment.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let Scan { words, broken } = scan(line);
    match broken {
        Some(problem) => Err(problem),
        None => Ok(words.into_iter().map(|(_, word)| word).collect()),
    }
}

/// The same for a line whose end may be taken as it stands.
pub(super) fn scan(line: &str) -> Scan {
    let mut found = Scan::default();
    let blank = [' ', '\t'];
    let mut rest = line.trim_start_matches(blank);
    while !rest.is_empty() {
        let (word, length, broken) = word(rest);
        found.words.push((line.len() - rest.len(), word));
        found.broken = broken;
        rest = rest[length..].trim_start_matches(blank);
    }
    found
}

/// The word at the beginning, how long it is in the text, and what is wrong if it breaks off.
fn word(text: &str) -> (String, usize, Option<String>) {
    let mut word = String::new();
    let mut chars = text.chars();
    loop {
        let before = chars.as_str();
        let broken = match chars.next() {
            None | Some(' ' | '\t') => return (word, text.len() - before.len(), None),
            Some('\'') => match chars.as_str().split_once('\'') {
                Some((quoted, rest)) => {
                    word.push_str(quoted);
                    chars = rest.chars();
                    None
                }
                None => Some(unclosed('\'')),
            },
            Some('"') => quoted(&mut chars, &mut word).err(),
            Some('\\') => match chars.next() {
                Some(char) => {
                    word.push(char);
                    None
                }
                None => Some("nothing follows the backslash at the end".to_owned()),
            },
            Some(char) => {
                word.push(char);
                None
            }
        };
        if broken.is_some() {
            return (word, text.len(), broken);
        }
    }
}

/// To the end of the double quotes.
fn quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    loop {
        match chars.next() {
            Some('"') => return Ok(()),
            Some('\\') => match chars.next() {
                Some(char @ ('"' | '\\')) => word.push(char),
                Some(char) => word.extend(['\\', char]),
                None => return Err(unclosed('"')),
            },
            Some(char) => word.push(char),
            None => return Err(unclosed('"')),
        }
    }
}

fn unclosed(quote: char) -> String {
    format!("a {quote} is opened and never closed; \\{quote} stands for itself")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_become_words() {
        for (line, words) in [
            ("", &[][..]),
            ("  \t ", &[]),
            ("network  status oftc ", &["network", "status", "oftc"]),
            ("a 'b c' d", &["a", "b c", "d"]),
            (r#"a "b \"c\" \d" e"#, &["a", r#"b "c" \d"#, "e"]),
            (r"a\ b \'c \#d #e", &["a b", "'c", "#d", "#e"]),
            (r"'\' ''", &[r"\", ""]),
            (r#"-name"x y"'z'"#, &["-namex yz"]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
    }

    #[test]
    fn what_is_opened_must_be_closed() {
        assert_eq!(
            split("say don't").unwrap_err(),
            "a ' is opened and never closed; \\' stands for itself"
        );
        assert!(split(r#"say "x\""#).is_err());
        assert!(split(r#"say "x\"#).is_err());
        assert_eq!(
            split(r"say \").unwrap_err(),
            "nothing follows the backslash at the end"
        );
    }

    fn quoted(word: &str) -> String {
        format!("'{}'", word.replace('\'', r"'\''"))
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in prop::collection::vec("[^\0]{0,9}", 0..6)) {
            let line: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            prop_assert_eq!(split(&line.join(" ")).unwrap(), words);
        }

        #[test]
        fn any_line_is_taken_apart_or_refused(line in ".{0,60}") {
            let words = split(&line).unwrap_or_default();
            prop_assert!(words.iter().map(String::len).sum::<usize>() <= line.len());
        }
    }
}
