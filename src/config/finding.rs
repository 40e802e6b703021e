//! What is wrong, where, and what to do about it: one `Finding` each, for people (`Display`) and programs (`to_json`).
//! `check` uses the same form for what it finds out about the host.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know, nothing to do.
    Info,
    /// Works, but should be looked at.
    Warning,
    /// Must be put right.
    Error,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is about: `configuration`, `routes`, ...; shown to people when it is not about a file.
    pub topic: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty when the message says it.
    pub remedy: String,
    /// The file it is in.
    pub file: Option<PathBuf>,
    /// The line in it, from 1.
    pub line: Option<usize>,
    /// The key, as `user.network.flood`.
    pub key: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.level {
            Level::Info => "info: ",
            Level::Warning => "warning: ",
            Level::Error => "error: ",
        })?;
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        } else {
            write!(f, "{}: ", self.topic)?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)?;
        if !self.remedy.is_empty() {
            write!(f, " ({})", self.remedy)?;
        }
        Ok(())
    }
}

impl Finding {
    /// As `Display`, for where the level is shown already.
    pub fn without_level(&self) -> String {
        let text = self.to_string();
        text.split_once(": ")
            .map_or_else(|| text.clone(), |(_, rest)| rest.to_owned())
    }
}

/// Everything that was found, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Findings {
    findings: Vec<Finding>,
}

impl Findings {
    /// Adds one.
    pub fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Adds others behind.
    pub fn append(&mut self, mut others: Self) {
        self.findings.append(&mut others.findings);
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter()
    }

    /// The level of the worst; `None` when nothing was found.
    pub fn worst(&self) -> Option<Level> {
        self.findings.iter().map(|finding| finding.level).max()
    }

    /// How many of a level there are.
    pub fn count(&self, level: Level) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    }

    /// For programs: `{"findings": [...]}`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a finding is plain text")
    }

    /// Into the order of the file, what concerns the whole of it first.
    pub(super) fn sort(&mut self) {
        self.findings.sort_by_key(|finding| finding.line);
    }

    /// Leaves out what `unwanted` names.
    pub(super) fn remove(&mut self, unwanted: impl Fn(&Finding) -> bool) {
        self.findings.retain(|finding| !unwanted(finding));
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings
            .iter()
            .try_for_each(|finding| writeln!(f, "{finding}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_where_and_what_to_do() {
        let mut finding = Finding {
            level: Level::Error,
            topic: "configuration",
            message: "wants a table".into(),
            remedy: "write { burst = 10 }".into(),
            file: Some("carom.toml".into()),
            line: Some(12),
            key: Some("user.network.flood".into()),
        };
        assert_eq!(
            finding.to_string(),
            "error: carom.toml:12: user.network.flood: wants a table (write { burst = 10 })"
        );
        finding.line = None;
        finding.key = None;
        finding.remedy.clear();
        assert_eq!(finding.to_string(), "error: carom.toml: wants a table");
        finding.file = None;
        finding.level = Level::Info;
        assert_eq!(finding.to_string(), "info: configuration: wants a table");
    }
}
