//! Selections, targets, searches and look-ups by msgid, against a model that looks at every line. Some lines are noted
//! when the questions come, some are not, some are gone.

use proptest::prelude::*;

use super::*;

const TARGETS: [&str; 4] = ["#a", "#B", "carol", "#nobody"];
const NICKS: [&str; 3] = ["ann", "Bob", "c[d]"];
const WORDS: [&str; 6] = ["tea", "teapot", "Milk", "no", "sugar", "te"];

/// A line to be made.
#[derive(Debug, Clone)]
struct Plan {
    target: usize,
    event: bool,
    /// Filed under the next target too.
    twice: bool,
    /// Milliseconds since the line before it.
    later: i64,
    /// Its clock is so far back.
    back: i64,
    msgid: bool,
    nick: usize,
    words: Vec<usize>,
    /// Words from here on stand in lines of their own.
    folded: usize,
}

fn plan() -> impl Strategy<Value = Plan> {
    let time = (0..3i64, prop_oneof![4 => Just(0), 1 => 0..20i64]);
    let words = prop::collection::vec(0..WORDS.len(), 1..5);
    (
        0..3usize,
        any::<[bool; 2]>(),
        prop::bool::weighted(0.1),
        time,
        0..NICKS.len(),
        (words, prop_oneof![4 => Just(9usize), 1 => 1..4usize]),
    )
        .prop_map(
            |(target, [event, msgid], twice, (later, back), nick, (words, folded))| Plan {
                target,
                event,
                twice,
                later,
                back,
                msgid,
                nick,
                words,
                folded,
            },
        )
}

/// What happens to the log.
#[derive(Debug, Clone)]
enum Step {
    Store(Vec<Plan>),
    /// Notes so many lines.
    Note(usize),
    /// Takes back a line among the newest.
    Withdraw(u64),
    /// Deletes the oldest lines up to that one.
    Erase(u64),
    StartAgain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(plan(), 1..20).prop_map(Step::Store),
        4 => (1..30usize).prop_map(Step::Note),
        1 => (0..10u64).prop_map(Step::Withdraw),
        1 => (0..40u64).prop_map(|id| Step::Erase(BASE + id)),
        1 => Just(Step::StartAgain),
    ]
}

fn only() -> impl Strategy<Value = Only> {
    prop_oneof![Just(Only::Messages), Just(Only::All)]
}

/// The ids of a test lie on both sides of where a network's own ones begin.
const BASE: u64 = past::FIRST_OWN - 30;

const START: i64 = 1_700_000_000_000;

/// A time about when lines happened.
fn time() -> impl Strategy<Value = Timestamp> {
    (-3..90i64).prop_map(|at| Timestamp::from_millis(START + at))
}

fn anchor() -> impl Strategy<Value = Anchor> {
    prop_oneof![
        time().prop_map(Anchor::Time),
        (0..70u64).prop_map(|id| Anchor::Msgid(msgid(BASE + id))),
    ]
}

fn span() -> impl Strategy<Value = Span> {
    prop_oneof![
        Just(Span::Latest(None)),
        anchor().prop_map(|anchor| Span::Latest(Some(anchor))),
        anchor().prop_map(Span::Before),
        anchor().prop_map(Span::After),
        (anchor(), anchor()).prop_map(|(from, to)| Span::Between(from, to)),
        anchor().prop_map(Span::Around),
    ]
}

fn selection() -> impl Strategy<Value = Selection> {
    let target = (0..TARGETS.len()).prop_map(|n| Bytes::from(TARGETS[n].to_lowercase()));
    (target, span(), 0..12usize, only()).prop_map(|(target, span, limit, kinds)| Selection {
        target,
        span,
        limit,
        kinds,
    })
}

fn search() -> impl Strategy<Value = Search> {
    let words = prop::collection::vec((0..WORDS.len(), 0..3usize), 0..3).prop_map(|words| {
        words
            .iter()
            .map(|&(word, form)| match form {
                0 => WORDS[word].to_uppercase(),
                1 => format!("{}*", WORDS[word]),
                _ => format!("\"{} {}\"", WORDS[word], WORDS[(word + 1) % 2]),
            })
            .collect::<Vec<_>>()
            .join(" ")
    });
    let name = |names: &'static [&str]| {
        prop::option::of((0..names.len()).prop_map(|n| Bytes::from(names[n].to_uppercase())))
    };
    let times = (prop::option::of(time()), prop::option::of(time()));
    (words, name(&TARGETS), name(&NICKS), times, 0..12usize).prop_map(
        |(words, target, from, (after, before), limit)| Search {
            words,
            target,
            from,
            after,
            before,
            limit,
        },
    )
}

fn msgid(id: u64) -> Bytes {
    Bytes::from(format!("m{id}"))
}

fn newest(mut lines: Vec<&Entry>, most: usize) -> Vec<&Entry> {
    lines.split_off(lines.len().saturating_sub(most))
}

fn oldest(mut lines: Vec<&Entry>, most: usize) -> Vec<&Entry> {
    lines.truncate(most);
    lines
}

/// The log as it should be.
#[derive(Default)]
struct Model {
    lines: Vec<Entry>,
    next: u64,
    now: i64,
}

impl Model {
    /// The entries of a plan, which become part of the model.
    fn store(&mut self, plan: &Plan) -> Vec<Entry> {
        self.now += plan.later;
        let mut made = Vec::new();
        let (command, kind) = if plan.event {
            ("PART", Kind::Event)
        } else {
            ("PRIVMSG", Kind::Message)
        };
        let mut text: Vec<&str> = plan.words.iter().map(|&word| WORDS[word]).collect();
        let others = text.split_off(plan.folded.min(text.len()));
        let tags = match others.is_empty() {
            true => String::new(),
            false => format!("account=tea;carom/lines=\\n{}", others.join("\\n")),
        };
        let first = self.next + 1;
        for again in [false, true].into_iter().take(1 + usize::from(plan.twice)) {
            let target = TARGETS[(plan.target + usize::from(again)) % 3];
            self.next += 1;
            // Within a target times do not go back.
            let last = self
                .lines
                .iter()
                .rfind(|line| line.target.is(target.as_bytes()));
            let time =
                (START + self.now - plan.back).max(last.map_or(0, |last| last.time.millis()));
            made.push(Entry {
                kind,
                again,
                time: Timestamp::from_millis(time),
                msgid: plan.msgid.then(|| msgid(first)),
                tags: Bytes::from(tags.clone()),
                line: Bytes::from(format!(
                    ":{}!u@h {command} {target} :{}",
                    NICKS[plan.nick],
                    text.join(" ")
                )),
                ..entry(self.next, target, "")
            });
        }
        self.lines.extend(made.iter().cloned());
        made
    }

    fn of(&self, target: &[u8], kinds: Only) -> Vec<&Entry> {
        let counts = |line: &&Entry| {
            line.target.is(target) && (kinds == Only::All || line.kind == Kind::Message)
        };
        self.lines.iter().filter(counts).collect()
    }

    /// Whether a line is before, at or after an anchor; nothing when there is no such line.
    fn compare(
        &self,
        anchor: &Anchor,
        target: &[u8],
    ) -> Option<impl Fn(&Entry) -> std::cmp::Ordering + use<>> {
        let (time, id) = match anchor {
            Anchor::Time(time) => (*time, None),
            Anchor::Msgid(msgid) => {
                let all = self.of(target, Only::All);
                let line = all.iter().find(|line| line.msgid.as_ref() == Some(msgid))?;
                (line.time, Some(line.id))
            }
        };
        Some(move |line: &Entry| id.map_or_else(|| line.time.cmp(&time), |id| line.id.cmp(&id)))
    }

    fn select(&self, asked: &Selection) -> Option<Vec<Entry>> {
        let lines = self.of(&asked.target, asked.kinds);
        let side = |anchor: &Anchor, want: &[std::cmp::Ordering]| -> Option<Vec<&Entry>> {
            let compare = self.compare(anchor, &asked.target)?;
            let here = |line: &&&Entry| want.contains(&compare(line));
            Some(lines.iter().filter(here).copied().collect())
        };
        use std::cmp::Ordering::{Equal, Greater, Less};
        let found = match &asked.span {
            Span::Latest(None) => newest(lines.clone(), asked.limit),
            Span::Latest(Some(anchor)) => newest(side(anchor, &[Greater])?, asked.limit),
            Span::Before(anchor) => newest(side(anchor, &[Less])?, asked.limit),
            Span::After(anchor) => oldest(side(anchor, &[Greater])?, asked.limit),
            Span::Between(from, to) => {
                let both = |low: &Anchor, high: &Anchor| -> Option<Vec<&Entry>> {
                    let (above, below) = (side(low, &[Greater])?, side(high, &[Less])?);
                    Some(
                        above
                            .into_iter()
                            .filter(|line| below.contains(line))
                            .collect(),
                    )
                };
                // At most one of the two holds any line.
                let (forward, backward) = (both(from, to)?, both(to, from)?);
                assert!(forward.is_empty() || backward.is_empty());
                if backward.is_empty() {
                    oldest(forward, asked.limit)
                } else {
                    newest(backward, asked.limit)
                }
            }
            Span::Around(anchor) => {
                let half = asked.limit / 2;
                let mut found = newest(side(anchor, &[Less])?, half);
                found.extend(oldest(side(anchor, &[Equal, Greater])?, asked.limit - half));
                found
            }
        };
        Some(found.into_iter().cloned().collect())
    }

    fn targets(
        &self,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
        kinds: Only,
    ) -> Vec<(Bytes, Timestamp)> {
        let (low, high) = (from.min(to), from.max(to));
        let mut found: Vec<&Entry> = TARGETS
            .iter()
            .filter_map(|target| self.of(target.as_bytes(), kinds).last().copied())
            .filter(|line| line.time > low && line.time < high)
            .collect();
        found.sort_by_key(|line| (line.time, line.id));
        if from > to {
            found.reverse();
        }
        let told = |line: &Entry| (Bytes::copy_from_slice(line.target.as_bytes()), line.time);
        found.into_iter().take(limit).map(told).collect()
    }

    fn search(&self, search: &Search) -> Vec<Entry> {
        let meant = |line: &&Entry| {
            let raw = String::from_utf8(line.line.to_vec())
                .unwrap()
                .to_lowercase();
            let (head, text) = raw[1..].split_once(" :").unwrap();
            let tags = String::from_utf8(line.tags.to_vec())
                .unwrap()
                .to_lowercase();
            let others = tags
                .split_once("carom/lines=")
                .map_or("", |(_, others)| others);
            let padded = format!(" {text}{} ", others.replace("\\n", " "));
            let has = |part: &str| match part.strip_suffix('*') {
                Some(beginning) => padded.contains(&format!(" {beginning}")),
                None => padded.contains(&format!(" {part} ")),
            };
            let words = search.words.to_lowercase();
            let mut parts = words
                .split('"')
                .enumerate()
                .flat_map(|(n, part)| match n % 2 {
                    0 => part.split_whitespace().collect::<Vec<_>>(),
                    _ => vec![part],
                });
            let from = search.from.as_ref().map(|nick| nick.to_ascii_lowercase());
            let nick = head.split('!').next().unwrap().as_bytes();
            line.kind == Kind::Message
                && search
                    .target
                    .as_ref()
                    .is_none_or(|target| line.target.is(target))
                && (search.target.is_some() || !line.again)
                && from.is_none_or(|from| from == nick)
                && search.after.is_none_or(|after| line.time > after)
                && search.before.is_none_or(|before| line.time < before)
                && parts.all(has)
        };
        let mut found: Vec<Entry> = self
            .lines
            .iter()
            .rev()
            .filter(meant)
            .take(search.limit)
            .cloned()
            .collect();
        found.reverse();
        found
    }
}

/// Plays the steps on a log.
async fn play(history: &History, log: &Log, steps: &[Step]) -> Model {
    let mut model = Model {
        next: BASE,
        ..Model::default()
    };
    let network = log.state.network;
    for step in steps {
        match step {
            Step::Store(plans) => {
                let entries = plans
                    .iter()
                    .flat_map(|plan| model.store(plan))
                    .collect::<Vec<_>>();
                log.append_all(entries.into_iter().map(Write::Entry));
            }
            Step::Note(lines) => {
                let lines = *lines;
                log.desk
                    .change(move |db| derive::note(db, network, lines, DEADLINE))
                    .await
                    .unwrap();
            }
            Step::Withdraw(back) => {
                let id = model.next.saturating_sub(*back);
                log.append(Write::Withdraw(EntryId(id)));
                model.lines.retain(|line| line.id.0 != id);
            }
            Step::Erase(last) => {
                let keys: Vec<i64> = (BASE..=*last)
                    .map(|id| query::key(network, EntryId(id)))
                    .collect();
                let erase = move |db: &Connection| {
                    let within = db.unchecked_transaction()?;
                    for key in keys {
                        derive::forget(db, key)?;
                        db.execute("DELETE FROM entry WHERE key = ?1", [key])?;
                    }
                    within.commit()
                };
                log.desk.change(erase).await.unwrap();
                model.lines.retain(|line| line.id.0 > *last);
            }
            Step::StartAgain => log.desk.change(derive::start_again).await.unwrap(),
        }
        // Stores what waits.
        history.open_log("apw", "oftc").await.unwrap();
    }
    model
}

/// A second network, whose lines must never show.
async fn neighbour(history: &History) {
    let (other, _) = history.open_log("apw", "other").await.unwrap();
    let line = |id| Entry {
        msgid: Some(msgid(BASE + id)),
        time: Timestamp::from_millis(START + 10),
        line: Bytes::from_static(b":ann!u@h PRIVMSG #a :tea milk no sugar"),
        ..entry(BASE + id, "#a", "")
    };
    other.append_all((1..=70).map(|id| Write::Entry(line(id))));
    settled(&other, BASE + 70).await;
    let network = other.state.network;
    other
        .desk
        .change(move |db| derive::note(db, network, 50, DEADLINE))
        .await
        .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn readings_are_what_a_look_at_every_line_says(
        steps in prop::collection::vec(step(), 1..10),
        selections in prop::collection::vec(selection(), 12),
        searches in prop::collection::vec(search(), 12),
        targets in prop::collection::vec((time(), time(), 0..5usize, only()), 6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (history, log) = in_memory().await;
            neighbour(&history).await;
            let model = play(&history, &log, &steps).await;
            for asked in selections {
                let found = match log.select(asked.clone()).await.unwrap() {
                    Selected::Window(ids) => {
                        let target = Name::new(&asked.target, CaseMapping::Rfc1459);
                        Some(log.by_target(&target, ids, asked.kinds, 99).await.unwrap())
                    }
                    Selected::Nothing => Some(Vec::new()),
                    Selected::UnknownMsgid => None,
                };
                prop_assert_eq!(found, model.select(&asked), "{:?}", asked);
            }
            for asked in searches {
                let found = log.search(asked.clone()).await.unwrap();
                prop_assert_eq!(found, model.search(&asked), "{:?}", asked);
            }
            for (from, to, limit, kinds) in targets {
                let found = log.targets(from, to, limit, kinds).await.unwrap();
                prop_assert_eq!(found, model.targets(from, to, limit, kinds));
            }
            for id in BASE..=model.next {
                let found = log.by_msgid(msgid(id)).await.unwrap();
                let wanted = model.lines.iter().find(|line| line.msgid == Some(msgid(id)));
                prop_assert_eq!(found.as_ref(), wanted);
            }
            let size = log.size().await.unwrap();
            let time = |line: &Entry| line.time;
            prop_assert_eq!(size.entries, model.lines.len() as u64);
            prop_assert_eq!((size.oldest, size.newest), (model.lines.first().map(time), model.lines.last().map(time)));
            Ok(())
        })?;
    }
}
