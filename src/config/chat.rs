//! `log.chat_root` and `log.chat_format`: where text logs go, and which patterns can be used. How they are written
//! is `chatlog`'s.

use std::path::PathBuf;

use super::reader::{Reader, Value};

/// A folder that is made when it is needed; an empty text is none.
pub(super) fn root(root: &mut PathBuf, value: Value<'_>, reader: &mut Reader<'_>) {
    if let Some(path) = reader.path(value) {
        *root = path.unwrap_or_default();
    }
}

pub(super) fn format(format: &mut String, value: Value<'_>, reader: &mut Reader<'_>) {
    let Some(text) = reader.text(value) else {
        return;
    };
    if is_format(text) {
        text.clone_into(format);
        return;
    }
    let message = format!("\"{text}\" cannot name files in log.chat_root");
    let remedy = "write a relative path with %u (user), %n (network), %c (channel or nick), %Y %m %d %h, as \"%u/%n/%c.%Y-%m-%d.log\"";
    reader.error(value, message, remedy);
}

/// Whether a pattern can be used: every `%` is followed by what it can stand for, and no part of it leads out of the folder.
fn is_format(format: &str) -> bool {
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter == '%' && !letters.next().is_some_and(|l| "uncYmdh%".contains(l)) {
            return false;
        }
    }
    !format.is_empty()
        && !format.starts_with('/')
        && !format.ends_with('/')
        && !format.split('/').any(|part| part == ".." || part == ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_cannot_be_used_is_known() {
        for good in ["%u/%n/%Y-%m/%c.%d.log", "%c", "a/%h%%"] {
            assert!(is_format(good), "{good}");
        }
        for bad in ["", "%", "%q", "/%c", "../%c", "a/./%c", "%c/"] {
            assert!(!is_format(bad), "{bad}");
        }
    }
}
