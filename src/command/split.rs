//! Splits a text into words as a shell does. Knows nothing of what the words mean: that is the
//! parser's.

/// Takes a line apart at blanks. In single quotes everything stands for itself; in double quotes a backslash keeps `"` and
/// `\` from meaning anything, outside quotes it keeps any character from it. Channel names are words: `#` begins no
/// comment.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match char {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(char) => word.push(char),
                        None => return Err(unclosed('\'')),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
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
            '\\' => match chars.next() {
                Some(char) => word.get_or_insert_default().push(char),
                None => return Err("nothing follows the backslash at the end".to_owned()),
            },
            char => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    Ok(words)
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
