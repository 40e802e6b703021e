//! Which known word did the user mean? For unknown keys and values; whether to suggest it is the
//! caller's.

/// The known word that takes the fewest slips of the finger to reach, if they are few for its length; else one that this
/// is a part of, or that is a part of this.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let known: Vec<_> = known.into_iter().collect();
    let is_part = |candidate: &&&str| {
        let least = word.len().min(candidate.len());
        least >= 4 && (word.starts_with(**candidate) || candidate.starts_with(&*word))
    };
    let part = known.iter().find(is_part).copied();
    known
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
        .or(part)
}

/// Letters inserted, left out, replaced, or swapped with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let known = ["listen", "name", "motd", "on_connect", "alternative_nicks"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("Listen", known), Some("listen"));
        assert_eq!(nearest("nmae", known), Some("name"));
        assert_eq!(nearest("on-conect", known), Some("on_connect"));
        assert_eq!(nearest("alternate_nicks", known), Some("alternative_nicks"));
        assert_eq!(nearest("alternative", known), Some("alternative_nicks"));
        assert_eq!(nearest("name_of_server", known), Some("name"));
        assert_eq!(nearest("proxies", known), None);
    }

    #[test]
    fn distance_counts_slips() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
