//! The findings of one topic, while they are gathered. What they look like to people and programs is
//! `config::finding`'s.

use crate::config::{Finding, Findings, Level};

/// What was found out about one topic.
#[derive(Debug)]
pub(super) struct Report {
    topic: &'static str,
    findings: Findings,
}

impl Report {
    pub(super) fn new(topic: &'static str) -> Self {
        Self {
            topic,
            findings: Findings::default(),
        }
    }

    /// A fact.
    pub(super) fn info(&mut self, message: impl Into<String>) {
        self.push(Level::Info, message.into(), String::new());
    }

    /// Something that works, or works for some.
    pub(super) fn warn(&mut self, message: impl Into<String>, remedy: impl Into<String>) {
        self.push(Level::Warning, message.into(), remedy.into());
    }

    /// Something that does not work.
    pub(super) fn error(&mut self, message: impl Into<String>, remedy: impl Into<String>) {
        self.push(Level::Error, message.into(), remedy.into());
    }

    fn push(&mut self, level: Level, message: String, remedy: String) {
        self.findings.push(Finding {
            level,
            topic: self.topic,
            message,
            remedy,
            file: None,
            line: None,
            key: None,
        });
    }

    /// What others found on the same topic.
    pub(super) fn append(&mut self, other: Self) {
        self.findings.append(other.findings);
    }

    /// All of it as text, for tests.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        self.findings.to_string()
    }
}

impl From<Report> for Findings {
    fn from(report: Report) -> Self {
        report.findings
    }
}
