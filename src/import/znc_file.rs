//! The files of ZNC: the grammar of znc.conf, and what its modules store. What it means is `znc`'s.
//! Sections are `<Kind label>` to `</Kind>`, keys `Key = value`.

use std::path::Path;

use super::section::{Entry, Section};

/// What a module has stored: a key and a value on each line, both encoded.
pub(super) fn registry(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs
        .map(|(key, value)| (decoded(key), decoded(value)))
        .collect()
}

/// A byte that is no letter or digit stands as `%2a;`.
fn decoded(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut out = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let hex = piece
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let rest = hex.and_then(|_| piece.get(2..)).unwrap_or(piece);
        out.extend(hex);
        out.extend_from_slice(rest.strip_prefix(';').unwrap_or(rest).as_bytes());
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Sections are `<Kind label>` ... `</Kind>`, keys `Key = value`, comments `//`, `#` and `/* */` that take whole lines.
pub(super) fn parse(text: &str) -> Result<Section, (usize, String)> {
    let mut open = vec![Section::new("", "", 1)];
    let mut in_comment = false;
    for (n, raw) in text.lines().enumerate() {
        let (line, text) = (n + 1, raw.trim());
        if in_comment || text.starts_with("/*") {
            in_comment = !text.ends_with("*/");
            continue;
        }
        if text.is_empty() || text.starts_with('#') || text.starts_with("//") {
            continue;
        }
        if let Some(head) = text.strip_prefix('<') {
            let Some(head) = head.strip_suffix('>') else {
                return Err((line, "the head of a section does not end with >".into()));
            };
            match head.strip_prefix('/') {
                Some(kind) => close(kind.trim(), line, &mut open)?,
                None => {
                    let (kind, label) = head.split_once(char::is_whitespace).unwrap_or((head, ""));
                    open.push(Section::new(kind, label.trim(), line));
                }
            }
            continue;
        }
        let Some((key, value)) = text.split_once('=') else {
            return Err((
                line,
                format!("{text:?} is neither a section nor key = value"),
            ));
        };
        if let Some(section) = open.last_mut() {
            section.entries.push(Entry {
                key: key.trim().into(),
                value: value.trim().into(),
                line,
            });
        }
    }
    match (open.pop(), open.is_empty()) {
        (Some(root), true) => Ok(root),
        (Some(section), false) => Err((
            section.line,
            format!(
                "the section <{} {}> that begins here never ends",
                section.kind, section.label
            ),
        )),
        (None, _) => Err((1, "nothing is open".into())),
    }
}

fn close(kind: &str, line: usize, open: &mut Vec<Section>) -> Result<(), (usize, String)> {
    let fits = open.len() > 1
        && open
            .last()
            .is_some_and(|s| s.kind.eq_ignore_ascii_case(kind));
    match (open.pop().filter(|_| fits), open.last_mut()) {
        (Some(section), Some(parent)) => {
            parent.sections.push(section);
            Ok(())
        }
        _ => Err((line, format!("</{kind}> ends no section that is open"))),
    }
}
