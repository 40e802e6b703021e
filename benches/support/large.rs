//! A user's log of years: how fast it is searched and read in every way a client may ask, and what its lines take on disk,
//! beside what they would take as plain text. 200,000 lines, or `BENCH_ROWS`; noted lines only, as after a night's rest.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use carom::config::Durability;
use carom::history::{
    Anchor, Entry, EntryId, History, Kind, Log, Only, Search, Selected, Selection, Span, Write,
};
use carom::wire::{CaseMapping, Name, Timestamp};
use rusqlite::Connection;

/// Networks and their parts of the lines, in percent; the last one is small.
const NETWORKS: [(&str, u64); 5] = [
    ("oftc", 50),
    ("libera", 30),
    ("hackint", 15),
    ("ircnet", 4),
    ("small", 1),
];

/// Buffers of a network: channels, and as many private ones.
const CHANNELS: u64 = 40;
const PRIVATE: u64 = 160;
const NICKS: u64 = 3000;
const VOCABULARY: u64 = 60_000;

const START: i64 = 1_640_995_200_000;

/// So many questions of each kind.
const ROUNDS: u64 = 200;

/// xorshift: the same log every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Small numbers often, as words and people come up in talk.
    fn zipf(&mut self, n: u64) -> u64 {
        let part = self.below(1 << 20) as f64 / (1 << 20) as f64;
        ((n as f64).powf(part) - 1.0) as u64
    }
}

/// The word of that rank: short when it is common.
fn word(mut rank: u64) -> String {
    let mut word = String::new();
    loop {
        let syllables = [
            "ka", "ro", "mi", "te", "su", "no", "la", "ve", "di", "po", "gu", "hen", "tor", "sil",
            "bra", "ex",
        ];
        word.push_str(syllables[(rank % 16) as usize]);
        rank /= 16;
        if rank == 0 {
            return word;
        }
    }
}

fn buffer(rank: u64) -> String {
    match rank {
        channel @ 0..CHANNELS => format!("#{}{channel}", word(channel + 300)),
        private => format!("{}{private}", word(private * 7)),
    }
}

fn nick(rank: u64) -> String {
    format!("{}{}", word(rank + 17), rank % 10)
}

struct Maker {
    random: Random,
    /// Of the network, milliseconds between two lines.
    step: i64,
    /// What the same lines would take as text, whole with a time in front, and as other programs write logs.
    raw: u64,
    text: u64,
}

impl Maker {
    fn msgid(network: usize, id: u64) -> Bytes {
        let mut random =
            Random(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (network as u64 + 1) << 60 | 1);
        (0..3).for_each(|_| _ = random.next());
        let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
        (0..22)
            .map(|_| letters[random.below(64) as usize])
            .collect()
    }

    fn entry(&mut self, network: usize, id: u64) -> Entry {
        let random = &mut self.random;
        // Nine of ten lines are in channels.
        let target = match random.below(10) {
            0 => CHANNELS + random.zipf(PRIVATE),
            _ => random.zipf(CHANNELS),
        };
        let (target, nick) = (buffer(target), nick(random.zipf(NICKS)));
        let from = format!("{nick}!~{}@{}.example.org", &nick[..3], nick);
        let event = random.below(10) < 3;
        let (line, told) = if event {
            (
                format!(":{from} JOIN {target}"),
                format!("-!- {nick} has joined"),
            )
        } else {
            let words: Vec<String> = (0..1 + random.below(18))
                .map(|_| word(random.zipf(VOCABULARY)))
                .collect();
            let text = words.join(" ");
            (
                format!(":{from} PRIVMSG {target} :{text}"),
                format!("<{nick}> {text}"),
            )
        };
        self.raw += (line.len() + "2026-01-02T08:00:05.010Z \n".len()) as u64;
        self.text += (told.len() + "2026-01-02 08:00:05 \n".len()) as u64;
        Entry {
            id: EntryId(id),
            target: Name::new(target.as_bytes(), CaseMapping::Rfc1459),
            time: Timestamp::from_millis(START + i64::try_from(id).unwrap() * self.step),
            msgid: Some(Self::msgid(network, id)),
            kind: if event { Kind::Event } else { Kind::Message },
            again: false,
            tags: Bytes::new(),
            line: Bytes::from(line),
        }
    }
}

/// Makes the log, unless `kept` says that it is there from an earlier run, asks it, and tells what it takes.
pub(crate) async fn large(path: &Path, rows: u64, kept: bool) {
    let history = History::open(Some(path), Durability::Process).unwrap();
    let mut maker = Maker {
        random: Random(42),
        step: 0,
        raw: 0,
        text: 0,
    };
    let mut logs = Vec::new();
    for (network, percent) in NETWORKS {
        let (log, _) = history.open_log("user", network).await.unwrap();
        let lines = rows * percent / 100;
        logs.push((
            log,
            lines,
            4 * 365 * 86_400_000 / i64::try_from(lines).unwrap(),
        ));
    }
    if kept {
        noted(&logs).await;
        println!("large: {rows} lines of an earlier run");
    } else {
        make(&logs, &mut maker, rows).await;
    }
    ask(&logs).await;
    history.close().await;
    sizes(path, rows, &maker);
}

async fn make(logs: &[Made], maker: &mut Maker, rows: u64) {
    let started = Instant::now();
    for (n, (log, lines, step)) in logs.iter().enumerate() {
        maker.step = *step;
        let mut noted = 0;
        for id in 1..=*lines {
            log.append(Write::Entry(maker.entry(n, id)));
            if id.is_multiple_of(2000) || id == *lines {
                log.settled()
                    .wait_for(|settled| settled.0 >= id)
                    .await
                    .unwrap();
                // As much as it is behind, it would still have to note at the end.
                while id > noted + 20_000 {
                    noted = log.size().await.unwrap().noted.0;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    }
    noted(logs).await;
    println!(
        "large: {rows} lines made, stored and noted in {:.0} s",
        started.elapsed().as_secs_f64()
    );
}

/// Waits until nearly everything is noted.
async fn noted(logs: &[Made]) {
    for (log, lines, _) in logs {
        while log.size().await.unwrap().noted.0 + 256 < *lines {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A network's log, its lines, and milliseconds from one to the next.
type Made = (Log, u64, i64);

async fn ask(logs: &[Made]) {
    let (large, small) = (&logs[0], &logs[4]);
    for (name, log) in [("", large), (", small network", small)] {
        selections(name, log).await;
        for (what, days) in [("a day", 1), ("all", 1461)] {
            let to = START + 4 * 365 * 86_400_000 + 1;
            measure(&format!("targets of {what}{name}"), async |_| {
                let (from, to) = (
                    Timestamp::from_millis(to - days * 86_400_000),
                    Timestamp::from_millis(to),
                );
                log.0
                    .targets(to, from, 200, Only::Messages)
                    .await
                    .unwrap()
                    .len()
            })
            .await;
        }
        searches(name, log).await;
        measure(&format!("by msgid{name}"), async |round| {
            let id = round * 7919 % log.1 + 1;
            let network = if name.is_empty() { 0 } else { 4 };
            usize::from(
                log.0
                    .by_msgid(Maker::msgid(network, id))
                    .await
                    .unwrap()
                    .is_some(),
            )
        })
        .await;
    }
}

/// A part of a target's history from one or two anchors, and a search from the number of the round.
type MakeSpan = fn(Anchor, Anchor) -> Span;
type MakeSearch<'a> = Box<dyn Fn(u64) -> Search + 'a>;

/// Chathistory in all its forms: the window, and its hundred lines.
async fn selections(name: &str, (log, lines, step): &Made) {
    let mut random = Random(7);
    let mut places = Vec::new();
    for _ in 0..ROUNDS {
        // A line's target, as it must be named together with its msgid.
        let id = EntryId(1 + random.below(lines - 1));
        let page = log
            .by_id(
                carom::history::Ids {
                    first: id,
                    last: EntryId::MAX,
                },
                1,
            )
            .await
            .unwrap();
        places.push(page[0].clone());
    }
    let forms: [(&str, MakeSpan); 6] = [
        ("latest", |_, _| Span::Latest(None)),
        ("latest after", |a, _| Span::Latest(Some(a))),
        ("before", |a, _| Span::Before(a)),
        ("after", |a, _| Span::After(a)),
        ("between", Span::Between),
        ("around", |a, _| Span::Around(a)),
    ];
    for (form, span) in forms {
        for by_msgid in [false, true] {
            if form == "latest" && by_msgid {
                continue;
            }
            let kind = if by_msgid { "msgid" } else { "time" };
            measure(&format!("{form} {kind}{name}"), async |round| {
                let place = &places[round as usize];
                let end = Anchor::Time(place.time.plus_millis(step * 100_000));
                let anchor = match &place.msgid {
                    Some(msgid) if by_msgid => Anchor::Msgid(msgid.clone()),
                    _ => Anchor::Time(place.time),
                };
                let selection = Selection {
                    target: place.target.folded().collect::<Vec<u8>>().into(),
                    span: span(anchor, end),
                    limit: 100,
                    kinds: Only::Messages,
                };
                match log.select(selection).await.unwrap() {
                    Selected::Window(ids) => log
                        .by_target(&place.target, ids, Only::Messages, 100)
                        .await
                        .unwrap()
                        .len(),
                    _ => 0,
                }
            })
            .await;
        }
    }
}

async fn searches(name: &str, (log, _, step): &Made) {
    let of = |words: String| Search {
        words,
        limit: 50,
        ..Search::default()
    };
    let middle = Timestamp::from_millis(START + 2 * 365 * 86_400_000);
    let day = Some(middle.plus_millis(step * 20_000));
    let forms: [(&str, MakeSearch<'_>); 10] = [
        ("a common word", Box::new(|round| of(word(round % 20)))),
        (
            "a rare word",
            Box::new(|round| of(word(40_000 + round * 97))),
        ),
        (
            "no such word",
            Box::new(|round| of(format!("nothing{round}"))),
        ),
        (
            "two common words",
            Box::new(|round| of(format!("{} {}", word(20 + round), word(40 + round)))),
        ),
        (
            "a common and a rare word",
            Box::new(|round| of(format!("{} {}", word(1), word(20_000 + round * 50)))),
        ),
        (
            "words in a row",
            Box::new(|round| of(format!("\"{} {}\"", word(round), word(round + 1)))),
        ),
        (
            "a beginning",
            Box::new(|round| of(format!("{}*", word(3000 + round)))),
        ),
        (
            "a word in a channel",
            Box::new(|round| Search {
                target: Some(buffer(round % CHANNELS).into()),
                ..of(word(50 + round))
            }),
        ),
        (
            "a word from a nick",
            Box::new(|round| Search {
                from: Some(nick(round).into()),
                ..of(word(50 + round))
            }),
        ),
        (
            "a word in a span of time",
            Box::new(|round| Search {
                after: Some(middle),
                before: day,
                ..of(word(round))
            }),
        ),
    ];
    for (form, search) in forms {
        measure(&format!("search {form}{name}"), async |round| {
            log.search(search(round)).await.unwrap().len()
        })
        .await;
    }
}

/// Asks again and again; times are milliseconds.
async fn measure(name: &str, mut ask: impl AsyncFnMut(u64) -> usize) {
    let wanted = std::env::var("BENCH_FORMS").unwrap_or_default();
    if !wanted.split(',').any(|form| name.starts_with(form)) {
        return;
    }
    let (mut took, mut lines) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        let started = Instant::now();
        lines += ask(round).await;
        took.push(started.elapsed());
    }
    let first = took[0];
    took.sort();
    let at = |percent: usize| took[took.len() * percent / 100].as_secs_f64() * 1e3;
    println!(
        "{name}: {:.2} median, {:.2} at 99 %, {:.2} the first, {:.1} lines",
        at(50),
        at(99),
        first.as_secs_f64() * 1e3,
        lines as f64 / ROUNDS as f64
    );
}

/// Bytes a line, of each table and index.
fn sizes(path: &Path, rows: u64, maker: &Maker) {
    let db = Connection::open(path).unwrap();
    let mut parts: HashMap<String, u64> = HashMap::new();
    let mut statement = db
        .prepare("SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE")
        .unwrap();
    let mut found = statement.query([]).unwrap();
    while let Some(row) = found.next().unwrap() {
        let size = u64::try_from(row.get::<_, i64>(1).unwrap()).unwrap();
        parts.insert(row.get(0).unwrap(), size);
    }
    let mut parts: Vec<_> = parts.into_iter().collect();
    parts.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    for (name, size) in parts.iter().filter(|(_, size)| size / rows > 0) {
        println!("{name}: {:.1} bytes a line", *size as f64 / rows as f64);
    }
    let file = std::fs::metadata(path).unwrap().len() as f64 / rows as f64;
    if maker.raw == 0 {
        println!("the file: {file:.1} bytes a line");
        return;
    }
    println!(
        "the file: {file:.1} bytes a line; lines as they came, with a time: {:.1}; as text logs: {:.1}",
        maker.raw as f64 / rows as f64,
        maker.text as f64 / rows as f64
    );
}
