//! What a client's writer does with a question about the log, as plainly as it can be done: all of the answer at
//! once.

use bytes::Bytes;
use carom::history::{Anchor, Entry, EntryId, Kind, Only, Search, Selection, Span};
use carom::state::forms::Dress;
use carom::state::{Ask, ClientId, Play, Shown, Wish};
use carom::wire::{Cap, Line, Name, Timestamp};

use super::store::{Store, is_wanted};
use super::world::{World, shown};

impl Store {
    fn lines(&self, target: &[u8], kinds: Only) -> Vec<&Entry> {
        let of = |e: &&Entry| e.target.folded().collect::<Vec<u8>>() == target;
        let all = self.entries.values().filter(of);
        all.filter(|e| is_wanted(e, kinds)).collect()
    }

    /// The lines that are asked for; `None`: they are counted from one that is not there.
    pub fn select(&self, asked: &Selection) -> Option<Vec<&Entry>> {
        let lines = self.lines(&asked.target, asked.kinds);
        // Lines before an anchor, and the first after it.
        let place = |anchor: &Anchor| match anchor {
            Anchor::Time(time) => Some((
                lines.iter().filter(|e| e.time < *time).count(),
                lines.iter().filter(|e| e.time <= *time).count(),
            )),
            Anchor::Msgid(id) => {
                let all = self.lines(&asked.target, Only::All);
                let line = all.into_iter().find(|e| e.msgid.as_ref() == Some(id))?;
                Some((
                    lines.iter().filter(|e| e.id < line.id).count(),
                    lines.iter().filter(|e| e.id <= line.id).count(),
                ))
            }
        };
        let (from, to, newest) = match &asked.span {
            Span::Latest(None) => (0, lines.len(), true),
            Span::Latest(Some(anchor)) => (place(anchor)?.1, lines.len(), true),
            Span::Before(anchor) => (0, place(anchor)?.0, true),
            Span::After(anchor) => (place(anchor)?.1, lines.len(), false),
            Span::Between(from, to) => {
                let (from, to) = (place(from)?, place(to)?);
                match from.0 <= to.0 {
                    true => (from.1, to.0, false),
                    false => (to.1, from.0, true),
                }
            }
            Span::Around(anchor) => {
                let middle = place(anchor)?.0;
                let from = middle.saturating_sub(asked.limit / 2);
                let to = middle + (asked.limit - asked.limit / 2);
                (from, to.min(lines.len()), false)
            }
        };
        let chosen = lines.get(from..to).unwrap_or_default();
        let more = chosen.len().saturating_sub(asked.limit);
        Some(match newest {
            true => chosen[more..].to_vec(),
            false => chosen[..chosen.len() - more].to_vec(),
        })
    }

    fn targets(&self, from: Timestamp, to: Timestamp, limit: usize) -> Vec<(Name, Timestamp)> {
        let mut newest: Vec<(Name, Timestamp)> = Vec::new();
        for entry in self.entries.values().filter(|e| e.kind == Kind::Message) {
            newest.retain(|(name, _)| *name != entry.target);
            newest.push((entry.target.clone(), entry.time));
        }
        let (low, high) = (from.min(to), from.max(to));
        newest.retain(|(_, time)| low < *time && *time < high);
        newest.sort_by_key(|(_, time)| *time);
        if from > to {
            newest.reverse();
        }
        newest.truncate(limit);
        newest
    }

    fn search(&self, search: &Search) -> Vec<&Entry> {
        let meant = |e: &&Entry| {
            let line = Line::parse(&e.line).expect("a stored line");
            let text = String::from_utf8_lossy(line.last().unwrap_or_default()).into_owned();
            let from = search.from.as_ref();
            e.kind == Kind::Message
                && search
                    .target
                    .as_ref()
                    .is_none_or(|target| e.target.is(target))
                && from.is_none_or(|nick| line.nick().eq_ignore_ascii_case(nick))
                && search.after.is_none_or(|after| e.time > after)
                && search.before.is_none_or(|before| e.time < before)
                && text.to_lowercase().contains(&search.words.to_lowercase())
        };
        let found: Vec<_> = self.entries.values().filter(meant).collect();
        let more = found.len().saturating_sub(search.limit);
        found[more..].to_vec()
    }
}

/// An answer on its way to a client.
struct Answer {
    to: ClientId,
    batch: Option<String>,
}

impl World {
    /// Answers a question that is not for the service.
    pub fn answer(&mut self, to: ClientId, ask: Ask, label: Option<&Bytes>, head: EntryId) {
        match ask {
            Ask::History(wish) => self.history(to, &wish, label),
            Ask::Targets {
                from,
                to: until,
                limit,
            } => {
                let found = self.store.targets(from, until, limit);
                let answer = self.begin(to, "draft/chathistory-targets", label);
                for (target, time) in found {
                    let mut at = Vec::new();
                    time.write(&mut at);
                    let line = [b"CHATHISTORY TARGETS ", target.as_bytes(), b" ", &at[..]];
                    self.own(&answer, &line.concat());
                }
                self.end(&answer);
            }
            // The bouncer is not here.
            Ask::Networks(_) | Ask::Account(_) => {}
            Ask::Search(search) => {
                let found: Vec<Shown> = self
                    .store
                    .search(&search)
                    .into_iter()
                    .map(|e| shown(e).1)
                    .collect();
                let answer = self.begin(to, "soju.im/search", label);
                found.iter().for_each(|line| self.in_batch(&answer, line));
                self.end(&answer);
            }
            Ask::Play(_) | Ask::List(_) if label.is_some() => {
                let outer = self.begin(to, "labeled-response", label);
                self.answer(to, ask, None, head);
                self.end(&outer);
            }
            Ask::Play(play) => self.play(to, &play, head),
            Ask::List(play) => {
                for (target, lines) in self.played(&play, head) {
                    let at = |line: Option<&Shown>| {
                        let millis = line.map_or(0, |line| line.time.millis());
                        format!(" {}.{:03}", millis / 1000, millis % 1000).into_bytes()
                    };
                    let head = b":*playback!playback@znc.in PRIVMSG ";
                    let (first, last) = (at(lines.first()), at(lines.last()));
                    let parts = [
                        &head[..],
                        &play.nick,
                        b" :",
                        target.as_bytes(),
                        &first,
                        &last,
                    ];
                    let answer = Answer { to, batch: None };
                    self.line(&answer, &parts.concat(), Dress::default());
                }
            }
            Ask::Replay(plan) => self.replay(to, &plan),
            Ask::Command(_) => unreachable!("it is the service's"),
        }
    }

    fn history(&mut self, to: ClientId, wish: &Wish, label: Option<&Bytes>) {
        let found = self.store.select(&wish.selection);
        let found = found.map(|lines| lines.into_iter().map(|e| shown(e).1).collect::<Vec<_>>());
        let target = wish.target.as_bytes();
        let Some(lines) = found else {
            let head = b":carom.test FAIL CHATHISTORY MESSAGE_ERROR ";
            let text = b" :No line with that msgid is kept there";
            let dress = Dress {
                label: label.map(|label| &label[..]),
                ..Dress::default()
            };
            let line = [&head[..], &wish.word, b" ", target, text].concat();
            return self.line(&Answer { to, batch: None }, &line, dress);
        };
        let kind = format!("chathistory {}", String::from_utf8_lossy(target));
        let answer = self.begin(to, &kind, label);
        for mut line in lines {
            as_now(&mut line, &wish.target, wish.own.as_deref());
            self.in_batch(&answer, &line);
        }
        self.end(&answer);
    }

    fn played(&self, play: &Play, head: EntryId) -> Vec<(Name, Vec<Shown>)> {
        let mut targets = play.targets.clone();
        if targets.is_empty() {
            let all = self
                .store
                .targets(Timestamp::default(), Timestamp::from_millis(1 << 50), 99);
            targets.extend(all.into_iter().map(|(name, _)| name));
        }
        let mut played = Vec::new();
        for target in targets {
            let floor = play.floors.iter().find(|(name, _)| *name == target);
            let floor = floor.map_or(EntryId(0), |(_, id)| *id);
            let lines = self
                .store
                .lines(&target.folded().collect::<Vec<u8>>(), play.kinds);
            let meant = |e: &&Entry| {
                let late = play.to.is_some_and(|to| e.time >= to);
                e.time > play.from && !late && e.id > floor && e.id <= head
            };
            let lines: Vec<Shown> = lines
                .into_iter()
                .filter(meant)
                .map(|e| shown(e).1)
                .collect();
            if !lines.is_empty() {
                played.push((target, lines));
            }
        }
        played
    }

    fn play(&mut self, to: ClientId, play: &Play, head: EntryId) {
        for (target, lines) in self.played(play, head) {
            let kind = format!("znc.in/playback {target}");
            let answer = self.begin(to, &kind, None);
            lines.iter().for_each(|line| self.in_batch(&answer, line));
            self.end(&answer);
        }
    }

    fn begin(&mut self, to: ClientId, kind: &str, label: Option<&Bytes>) -> Answer {
        if !self.view(to).caps.has(Cap::Batch) {
            return Answer { to, batch: None };
        }
        let batch = self.next_batch();
        let answer = Answer {
            to,
            batch: Some(batch.clone()),
        };
        let dress = Dress {
            label: label.map(|label| &label[..]),
            ..Dress::default()
        };
        let line = format!(":{} BATCH +{batch} {kind}", self.settings.server);
        self.line(&answer, line.as_bytes(), dress);
        answer
    }

    fn end(&mut self, answer: &Answer) {
        if let Some(batch) = &answer.batch {
            let line = format!(":{} BATCH -{batch}", self.settings.server);
            self.line(answer, line.as_bytes(), Dress::default());
        }
    }

    fn own(&mut self, answer: &Answer, line: &[u8]) {
        let line = [b":", self.settings.server.as_bytes(), b" ", line].concat();
        let line = Shown {
            time: self.now.time,
            msgid: None,
            tags: Bytes::new(),
            line: line.into(),
        };
        self.in_batch(answer, &line);
    }

    fn in_batch(&mut self, answer: &Answer, line: &Shown) {
        let dress = Dress {
            batch: answer.batch.as_deref().map(str::as_bytes),
            ..Dress::default()
        };
        self.write(answer.to, line, dress);
    }

    /// A line of ours, without a time: when it was said is nobody's business.
    fn line(&mut self, answer: &Answer, line: &[u8], dress: Dress<'_>) {
        self.own_line(answer.to, line, dress);
    }

    /// A line of the client's writer.
    pub fn own_line(&mut self, to: ClientId, line: &[u8], dress: Dress<'_>) {
        let line = Shown {
            time: self.now.time,
            msgid: None,
            tags: Bytes::new(),
            line: Bytes::copy_from_slice(line),
        };
        self.write(to, &line, dress);
    }
}

/// In a private talk our nick of then is our nick of now.
pub fn as_now(shown: &mut Shown, target: &Name, own: Option<&[u8]>) {
    let Some(own) = own.filter(|own| !target.is(own)) else {
        return;
    };
    let text = String::from_utf8_lossy(&shown.line).into_owned();
    let own = String::from_utf8_lossy(own);
    let (source, rest) = text.split_once(' ').expect("a source");
    let (nick, mask) = source[1..].split_once('!').expect("a mask");
    let text = match target.is(nick.as_bytes()) {
        true => {
            let mut words = rest.splitn(3, ' ');
            let mut word = || words.next().unwrap_or_default();
            let (command, _, text) = (word(), word(), word());
            format!("{source} {command} {own} {text}")
        }
        false => format!(":{own}!{mask} {rest}"),
    };
    shown.line = text.into();
}
