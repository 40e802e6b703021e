//! A configuration in sections, as bip and ZNC write them, taken apart without knowing its keys. Whoever knows a key takes it
//! out; what is left at the end was known to nobody.

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) line: usize,
}

/// A section, its keys and the sections in it, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Section {
    /// What kind of section it is: `user`, `network`.
    pub(super) kind: String,
    /// What it is called, where that stands in its head.
    pub(super) label: String,
    pub(super) line: usize,
    pub(super) entries: Vec<Entry>,
    pub(super) sections: Vec<Self>,
}

impl Section {
    pub(super) fn new(kind: &str, label: &str, line: usize) -> Self {
        Self {
            kind: kind.to_owned(),
            label: label.to_owned(),
            line,
            ..Self::default()
        }
    }

    /// Takes a key out; of several the last counts, as in both programs.
    pub(super) fn take(&mut self, key: &str) -> Option<Entry> {
        self.take_all(key).pop()
    }

    /// Takes the value of a key.
    pub(super) fn value(&mut self, key: &str) -> Option<String> {
        self.take(key).map(|entry| entry.value)
    }

    /// Takes a value that is not empty.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.value(key).filter(|value| !value.is_empty())
    }

    /// Takes a flag. What is not a flag stays, and is reported.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let entry = self.entries.iter().rev().find(|e| e.is(key))?;
        let flag = match entry.value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => return None,
        };
        self.take(key);
        Some(flag)
    }

    /// Takes a number. What is none stays, and is reported.
    pub(super) fn number(&mut self, key: &str) -> Option<i64> {
        let entry = self.entries.iter().rev().find(|e| e.is(key))?;
        let number = entry.value.parse().ok()?;
        self.take(key);
        Some(number)
    }

    /// Takes a key as often as it stands there.
    pub(super) fn take_all(&mut self, key: &str) -> Vec<Entry> {
        self.entries.extract_if(.., |entry| entry.is(key)).collect()
    }

    /// Takes the sections of a kind.
    pub(super) fn sections(&mut self, kind: &str) -> Vec<Self> {
        self.sections
            .extract_if(.., |section| section.kind.eq_ignore_ascii_case(kind))
            .collect()
    }
}

impl Entry {
    fn is(&self, key: &str) -> bool {
        self.key.eq_ignore_ascii_case(key)
    }
}
