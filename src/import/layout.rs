//! Where text logs are: a pattern with bip's `%u %n %c %Y %m %d %h`, read backwards, from the path of a file to what it is of.
//! What stands in the file is `lines`'s.

use std::fs;
use std::path::{Path, PathBuf};

/// What a path says.
#[derive(Debug, Clone, PartialEq, Eq, Default, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) user: Option<String>,
    pub(super) network: Option<String>,
    pub(super) target: Option<String>,
    /// Year, month and day, as far as they stand in the path; 0 where not.
    pub(super) day: (i16, i8, i8),
}

/// All files under a folder whose paths have the form of `format`, by user, network, talk and day.
pub(super) fn files(root: &Path, format: &str) -> Vec<(Place, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < 16 => folders.push((path, depth + 1)),
                Ok(kind) if kind.is_file() => {
                    let relative = path
                        .strip_prefix(root)
                        .unwrap_or(&path)
                        .to_string_lossy()
                        .into_owned();
                    if let Some(place) = capture(format, &relative, Place::default()) {
                        found.push((place, path));
                    }
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Matches a path against the pattern from here on, the shortest name first.
fn capture(format: &str, path: &str, place: Place) -> Option<Place> {
    let Some(first) = format.chars().next() else {
        return path.is_empty().then_some(place);
    };
    let (Some(letter), true) = (format.chars().nth(1), first == '%') else {
        return capture(
            &format[first.len_utf8()..],
            path.strip_prefix(first)?,
            place,
        );
    };
    let rest = &format[1 + letter.len_utf8()..];
    let digits = |n: usize| {
        path.get(..n)
            .filter(|t| t.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut next = place.clone();
    match letter {
        'Y' => next.day.0 = digits(4)?.parse().ok()?,
        'm' => next.day.1 = digits(2)?.parse().ok()?,
        'd' => next.day.2 = digits(2)?.parse().ok()?,
        'h' => {
            digits(2)?;
        }
        'u' | 'n' | 'c' => {
            let ends = path
                .char_indices()
                .map(|(i, c)| i + c.len_utf8())
                .take_while(|end| !path[..*end].contains('/'));
            return ends.into_iter().find_map(|end| {
                let mut next = place.clone();
                let (name, tail) = path.split_at(end);
                let slot = match letter {
                    'u' => &mut next.user,
                    'n' => &mut next.network,
                    _ => &mut next.target,
                };
                match slot {
                    Some(known) if known != name => return None,
                    slot => *slot = Some(name.to_owned()),
                }
                capture(rest, tail, next)
            });
        }
        _ => return None,
    }
    let taken = if letter == 'Y' { 4 } else { 2 };
    capture(rest, &path[taken..], next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_whose_talk_of_which_day_it_is() {
        let place = |format, path| capture(format, path, Place::default());
        let found = place("%u/%n/%Y-%m/%c.%d.log", "apw/oftc/2026-11/#a.b.22.log").unwrap();
        assert_eq!(found.user.as_deref(), Some("apw"));
        assert_eq!(found.network.as_deref(), Some("oftc"));
        assert_eq!(found.target.as_deref(), Some("#a.b"));
        assert_eq!(found.day, (2026, 11, 22));
        assert_eq!(
            place("%c/%Y-%m-%d.log", "bob/2026-01-02.log").unwrap().day,
            (2026, 1, 2)
        );
        assert_eq!(place("%c/%Y-%m-%d.log", "bob/deep/2026-01-02.log"), None);
        assert_eq!(place("%u/%n/%u.log", "a/b/c.log"), None);
        assert_eq!(place("%u/%n/%c.log", "a/b/c.txt"), None);
    }
}
