//! What is counted while carom runs, and the text in which it is told: the exposition format of Prometheus, version 0.0.4.
//! Counters are handed down to whoever counts; what else is told is read when somebody asks (`bouncer`).

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

/// What the text is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whatever has no word of its own.
const OTHER: &str = "other";

/// What became of attempts to reach a server.
static DIALS: &[&str] = &[
    "ready",
    "outrun",
    "no_address",
    "lookup",
    "no_route",
    "source",
    "timed_out",
    "refused",
    "silent",
    "tls",
    "certificate",
    "policy",
    OTHER,
];

/// Why somebody who connected was turned away.
static REFUSED: &[&str] = &[
    "address",
    "proxy_header",
    "too_many",
    "too_fast",
    "tls",
    "websocket",
    "password",
    "too_many_failures",
    "too_slow",
    "gave_way",
    OTHER,
];

/// Why an attached client was sent away.
static DISMISSED: &[&str] = &["reads_too_slowly", "asks_too_fast", "stalled", OTHER];

/// All counters of a process.
#[derive(Debug)]
pub struct Counters {
    /// Lines that servers sent.
    pub from_servers: Flow,
    /// Lines for servers.
    pub to_servers: Flow,
    /// Lines that clients were sent.
    pub to_clients: Flow,
    /// Attempts to reach a server.
    pub dials: Tally,
    /// Connections that were turned away before they were clients.
    pub refused: Tally,
    /// Clients that were sent away.
    pub dismissed: Tally,
    /// Bytes that wait in the queues of clients.
    pub client_queues: Depth,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            from_servers: Flow::default(),
            to_servers: Flow::default(),
            to_clients: Flow::default(),
            dials: Tally::of(DIALS),
            refused: Tally::of(REFUSED),
            dismissed: Tally::of(DISMISSED),
            client_queues: Depth::default(),
        }
    }
}

/// How much waits in several queues together.
#[derive(Debug, Default)]
pub struct Depth(AtomicU64);

impl Depth {
    /// One queue held so much, and holds so much now.
    pub fn moved(&self, before: usize, now: usize) {
        if now >= before {
            self.0.fetch_add((now - before) as u64, Ordering::Relaxed);
        } else {
            self.0.fetch_sub((before - now) as u64, Ordering::Relaxed);
        }
    }

    /// All of it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Lines in one direction.
#[derive(Debug, Default)]
pub struct Flow {
    lines: AtomicU64,
    bytes: AtomicU64,
}

impl Flow {
    /// So many more, of all that was read or written at once.
    pub fn add(&self, lines: u64, bytes: u64) {
        self.lines.fetch_add(lines, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The same of bytes whose lines have ends.
    pub fn add_text(&self, text: &[u8]) {
        let ends = memchr::memchr_iter(b'\n', text).count();
        self.add(ends as u64, text.len() as u64);
    }

    /// Lines and bytes until now.
    pub fn get(&self) -> (u64, u64) {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (get(&self.lines), get(&self.bytes))
    }
}

/// Counts what has one of a few words. All are told from the beginning, so that a first time is seen as one.
#[derive(Debug)]
pub struct Tally {
    counts: Vec<(&'static str, AtomicU64)>,
}

impl Tally {
    fn of(words: &[&'static str]) -> Self {
        let counts = words.iter().map(|word| (*word, AtomicU64::default()));
        Self {
            counts: counts.collect(),
        }
    }

    /// One more; a word that is not known counts as the last one, `other`.
    pub fn add(&self, word: &str) {
        let known = self.counts.iter().find(|(known, _)| *known == word);
        if let Some((_, count)) = known.or_else(|| self.counts.last()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All words with how often they came.
    pub fn get(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.counts.iter();
        counts.map(|(word, count)| (*word, count.load(Ordering::Relaxed)))
    }
}

/// What a family of series is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until carom is started again.
    Counter,
    /// It is as it is.
    Gauge,
}

/// Names and values of labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// The text, family by family.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    names: BTreeSet<String>,
    series: BTreeSet<String>,
}

impl Page {
    /// Begins a family, once; its samples follow.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) -> Family<'_> {
        let name = format!("carom_{name}");
        if self.names.insert(name.clone()) {
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
        Family { page: self, name }
    }

    /// A family of one series without labels.
    pub fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// The whole text.
    pub fn text(self) -> String {
        self.text
    }
}

/// A family that is being written.
pub struct Family<'a> {
    page: &'a mut Page,
    name: String,
}

impl Family<'_> {
    /// One series and its value; a second one with the same labels is left out.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        let mut series = self.name.clone();
        for (at, (name, value)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            _ = write!(series, "{before}{name}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            series.push('}');
        }
        if self.page.series.insert(series.clone()) {
            _ = writeln!(self.page.text, "{series} {value}");
        }
    }
}

fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_family_has_its_head_once_and_a_series_its_value_once() {
        let mut page = Page::default();
        let mut family = page.family("lines_total", Kind::Counter, "Lines.");
        family.sample(&[("to", "a")], 1);
        family.sample(&[("to", "b"), ("by", "c")], 2);
        family.sample(&[("to", "a")], 3);
        page.one("users", Kind::Gauge, "Users\nof \\ all.", 0.5);
        page.family("lines_total", Kind::Counter, "Lines.")
            .sample(&[("to", "d")], 4);
        assert_eq!(
            page.text(),
            "# HELP carom_lines_total Lines.\n# TYPE carom_lines_total counter\ncarom_lines_total{to=\"a\"} 1\n\
             carom_lines_total{to=\"b\",by=\"c\"} 2\n# HELP carom_users Users\\nof \\\\ all.\n# TYPE carom_users gauge\n\
             carom_users 0.5\ncarom_lines_total{to=\"d\"} 4\n"
        );
    }

    #[test]
    fn what_is_counted_is_told() {
        let counters = Counters::default();
        counters.to_clients.add_text(b"PING :a\r\nPING :b\r\n");
        counters.to_clients.add(1, 10);
        assert_eq!(counters.to_clients.get(), (3, 28));
        counters.refused.add("password");
        counters.refused.add("a word that nobody knows");
        let told: Vec<_> = counters.refused.get().filter(|(_, n)| *n > 0).collect();
        assert_eq!(told, [("password", 1), ("other", 1)]);
        assert_eq!(counters.dials.get().count(), DIALS.len());
    }

    proptest! {
        #[test]
        fn whatever_a_label_holds_stays_one_line_in_quotes(value in "\\PC*|[\\\\\"\n]{0,9}") {
            let mut page = Page::default();
            page.family("a", Kind::Gauge, "A.").sample(&[("b", &value)], 1);
            let text = page.text();
            let line = text.lines().nth(2).unwrap_or_default();
            prop_assert_eq!(text.split('\n').count(), 4, "{:?}", text);
            let inner = line.strip_prefix("carom_a{b=\"").and_then(|rest| rest.strip_suffix("\"} 1"));
            let mut back = String::new();
            let mut chars = inner.unwrap().chars();
            while let Some(c) = chars.next() {
                match (c, c == '\\') {
                    (_, true) => back.push(match chars.next().unwrap() { 'n' => '\n', other => other }),
                    ('"', _) => prop_assert!(false, "a bare quote"),
                    _ => back.push(c),
                }
            }
            prop_assert_eq!(back, value);
        }
    }
}
