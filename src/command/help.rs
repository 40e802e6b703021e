//! The text of `help`, made from the table of verbs. A verb explains itself in its row; nothing
//! is written here twice.

use super::{Authority, ParseError, ROWS, Row, narrow, split};

/// Everything that may be said by those of `authority`, a line each.
pub fn list(authority: Authority) -> Vec<String> {
    lines(&ROWS.iter().collect::<Vec<_>>(), authority)
}

/// What the commands are for that begin with these words.
pub fn about(words: &str, authority: Authority) -> Result<Vec<String>, ParseError> {
    let usage = |problem| ParseError::Usage {
        problem,
        usage: "help [WORDS]".to_owned(),
    };
    let (rows, _) = narrow(&split(words).map_err(usage)?)?;
    let lines = lines(&rows, authority);
    if lines.is_empty() {
        // As if it did not exist: what administrators may do is theirs to know.
        return Err(ParseError::Unknown {
            said: words.to_owned(),
            nearest: None,
        });
    }
    Ok(lines)
}

fn lines(rows: &[&Row], authority: Authority) -> Vec<String> {
    let rows: Vec<_> = rows
        .iter()
        .filter(|row| row.authority <= authority)
        .collect();
    let width = rows.iter().map(|row| row.usage().len()).max().unwrap_or(0);
    rows.iter()
        .map(|row| format!("{:width$}  {}", row.usage(), row.summary))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_what_one_may_say() {
        let all = list(Authority::Admin);
        assert_eq!(all.len(), ROWS.len());
        assert!(list(Authority::User).iter().all(|line| {
            all.iter()
                .any(|other| other.split_whitespace().eq(line.split_whitespace()))
        }));
        let words: Vec<_> = all[0].split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "help [WORDS] lists the commands, or explains one"
        );
        let columns: Vec<_> = all.iter().map(|line| line.rfind("  ").unwrap()).collect();
        assert!(
            columns.windows(2).all(|pair| pair[0] == pair[1]),
            "{all:#?}"
        );
    }

    #[test]
    fn help_explains_one_command_or_a_group() {
        let status = "network status [NAME]  shows the state of your networks, or of one";
        let all = about("network", Authority::User).unwrap();
        assert!(all.len() > 1 && all[0].starts_with("network status [NAME] "));
        for words in ["network status", "net s", "network status oftc"] {
            assert_eq!(
                about(words, Authority::User),
                Ok(vec![status.to_owned()]),
                "{words}"
            );
        }
        let answer = about("sttaus", Authority::User).unwrap_err().to_string();
        assert!(answer.contains("did you mean \"status\""), "{answer}");
        assert!(about("'", Authority::User).is_err());
    }
}
