//! Plain text logs of what is said, beside the database: a file for each talk, named by a pattern, with lines as bip writes them.
//! A thread of its own writes them, so that a slow disk costs nobody anything; a name of the network can never lead out of the
//! folder. What is stored, and when, is `history`'s; these files are for people.

use std::collections::{HashMap, VecDeque};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Zoned;
use jiff::tz::TimeZone;
use tracing::warn;

use crate::config::ChatLog;
use crate::history::Entry;
use crate::wire::{Line, SERVICE};

/// So many lines may wait for the disk; what comes then is left out of the files, and counted.
const QUEUE: usize = 8_192;
/// So many files are kept open.
const FILES: usize = 64;
/// So long may the disk take at the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// A name in a path is cut to so many bytes: file systems take 255.
const LONGEST_NAME: usize = 180;

/// Where text logs are written. Clones are the same.
#[derive(Clone)]
pub struct ChatLogs {
    shared: Arc<Shared>,
}

struct Shared {
    sender: SyncSender<Order>,
    /// Whether anything is written: asked for each line.
    on: std::sync::atomic::AtomicBool,
    lost: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Order {
    Write(Box<Said>),
    Configure(ChatLog),
    End,
}

/// A line on its way to a file.
struct Said {
    user: String,
    network: String,
    /// Whether we said it ourselves.
    own: bool,
    entry: Entry,
}

fn is_on(config: &ChatLog) -> bool {
    !config.root.as_os_str().is_empty()
}

impl ChatLogs {
    /// Starts the thread.
    pub fn start(config: &ChatLog) -> io::Result<Self> {
        let (sender, orders) = sync_channel(QUEUE);
        let mut files = Files::new(config.clone());
        let thread = thread::Builder::new()
            .name("chat-logs".into())
            .spawn(move || files.run(&orders))?;
        Ok(Self {
            shared: Arc::new(Shared {
                sender,
                on: is_on(config).into(),
                lost: AtomicU64::default(),
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// From here on it is written elsewhere, or not at all.
    pub fn configure(&self, config: &ChatLog) {
        self.shared.on.store(is_on(config), Ordering::Relaxed);
        // When the queue is full of lines the disk does not take, there is nothing to be gained by waiting.
        _ = self
            .shared
            .sender
            .try_send(Order::Configure(config.clone()));
    }

    /// Whether anything is written.
    pub fn is_on(&self) -> bool {
        self.shared.on.load(Ordering::Relaxed)
    }

    /// Writes a line of a talk. Never waits.
    pub fn write(&self, user: &str, network: &str, own: bool, entry: &Entry) {
        if !self.is_on() {
            return;
        }
        let said = Said {
            user: user.to_owned(),
            network: network.to_owned(),
            own,
            entry: entry.clone(),
        };
        if self
            .shared
            .sender
            .try_send(Order::Write(Box::new(said)))
            .is_err()
        {
            self.leave_out();
        }
    }

    /// Counts a line that is left out of the files.
    pub fn leave_out(&self) {
        let lost = self.shared.lost.fetch_add(1, Ordering::Relaxed) + 1;
        if lost.is_power_of_two() {
            warn!(
                lines = lost,
                "the disk is too slow for the text logs: lines are left out of them"
            );
        }
    }

    /// Lines that were left out of the files.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Writes what waits, and ends the thread; a disk that takes nothing is not waited for for long.
    pub fn end(&self) {
        let thread = self
            .shared
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(thread) = thread else { return };
        let until = Instant::now() + FAREWELL;
        let mut told = false;
        while !thread.is_finished() {
            told = told || self.shared.sender.try_send(Order::End).is_ok();
            if Instant::now() >= until {
                return warn!(
                    "the last lines of the text logs are not written: the disk takes nothing"
                );
            }
            thread::park_timeout(Duration::from_millis(2));
        }
        _ = thread.join();
    }
}

/// The files that are open.
struct Files {
    config: ChatLog,
    zone: TimeZone,
    open: HashMap<PathBuf, BufWriter<File>>,
    /// In which order they were opened.
    order: VecDeque<PathBuf>,
    failing: bool,
}

impl Files {
    fn new(config: ChatLog) -> Self {
        Self {
            config,
            zone: TimeZone::system(),
            open: HashMap::new(),
            order: VecDeque::new(),
            failing: false,
        }
    }

    /// Takes orders; whenever there are none what was written goes to the files.
    fn run(&mut self, orders: &Receiver<Order>) {
        loop {
            let order = match orders.try_recv() {
                Ok(order) => order,
                Err(_) => {
                    self.flush();
                    match orders.recv_timeout(Duration::from_secs(60)) {
                        Ok(order) => order,
                        Err(RecvTimeoutError::Timeout) => {
                            // Whoever rotates or removes files by himself gets them back within a minute.
                            self.close();
                            continue;
                        }
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            };
            match order {
                Order::Write(said) => self.write(&said),
                Order::Configure(config) => {
                    self.close();
                    self.config = config;
                }
                Order::End => return self.flush(),
            }
        }
    }

    fn close(&mut self) {
        self.flush();
        self.open.clear();
        self.order.clear();
    }

    fn flush(&mut self) {
        let failed = self.open.values_mut().find_map(|file| file.flush().err());
        self.judge(failed.map_or(Ok(()), Err));
    }

    /// Trouble is told once, and that it is over.
    fn judge(&mut self, outcome: io::Result<()>) {
        match outcome {
            Err(error) if !self.failing => {
                self.failing = true;
                let root = self.config.root.display();
                warn!(%error, %root, "text logs cannot be written");
            }
            Ok(()) if self.failing && !self.open.is_empty() => self.failing = false,
            _ => {}
        }
    }

    fn write(&mut self, said: &Said) {
        let config = &self.config;
        if !is_on(config) {
            return;
        }
        let entry = &said.entry;
        // What carom tells of a channel stands in that channel's file already.
        if entry.target.is(SERVICE.as_bytes()) {
            return;
        }
        let at = jiff::Timestamp::from_millisecond(entry.time.millis())
            .unwrap_or_default()
            .to_zoned(self.zone.clone());
        let mut line = Vec::with_capacity(entry.line.len() + 32);
        if !write_line(
            &entry.line,
            entry.target.as_bytes(),
            said.own,
            &at,
            &mut line,
        ) {
            return;
        }
        let folded: Vec<u8> = entry.target.folded().collect();
        let path = config.root.join(expand(
            &config.format,
            &said.user,
            &said.network,
            &folded,
            &at,
        ));
        let outcome = self.append(&path, &line);
        self.judge(outcome);
    }

    fn append(&mut self, path: &Path, line: &[u8]) -> io::Result<()> {
        if !self.open.contains_key(path) {
            if self.order.len() >= FILES
                && let Some(oldest) = self.order.pop_front()
                && let Some(mut file) = self.open.remove(&oldest)
            {
                file.flush()?;
            }
            let file = BufWriter::new(open(path)?);
            self.open.insert(path.to_owned(), file);
            self.order.push_back(path.to_owned());
        }
        match self.open.get_mut(path) {
            Some(file) => file.write_all(line),
            None => Ok(()),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let append = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
    };
    match append() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(folder)?;
            }
            append()
        }
        other => other,
    }
}

/// The path of a talk's file: `%u` user, `%n` network, `%c` talk, `%Y %m %d %h` the time; `%%` is a percent sign.
fn expand(format: &str, user: &str, network: &str, target: &[u8], at: &Zoned) -> PathBuf {
    let mut path = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            path.push(letter);
            continue;
        }
        match letters.next() {
            Some('u') => path.push_str(&tame(user.as_bytes())),
            Some('n') => path.push_str(&tame(network.as_bytes())),
            Some('c') => path.push_str(&tame(target)),
            Some('Y') => path.push_str(&format!("{:04}", at.year())),
            Some('m') => path.push_str(&format!("{:02}", at.month())),
            Some('d') => path.push_str(&format!("{:02}", at.day())),
            Some('h') => path.push_str(&format!("{:02}", at.hour())),
            Some(other) => path.push(other),
            None => {}
        }
    }
    // What others may choose has no slash, but may be dots alone where the pattern has nothing beside it.
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            if part.bytes().all(|b| b == b'.') {
                "_".repeat(part.len())
            } else {
                part.to_owned()
            }
        })
        .collect()
}

/// A name as a part of a path: no slash, no control character, not too long.
fn tame(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut out = String::new();
    for c in text
        .chars()
        .map(|c| if c == '/' || c.is_control() { '_' } else { c })
    {
        if out.len() + c.len_utf8() > LONGEST_NAME {
            break;
        }
        out.push(c);
    }
    if out.is_empty() { "_".into() } else { out }
}

/// A line as bip writes it, with its end. False: it is nothing that is logged.
fn write_line(raw: &[u8], target: &[u8], own: bool, at: &Zoned, out: &mut Vec<u8>) -> bool {
    let Ok(line) = Line::parse(raw) else {
        return false;
    };
    let text = |n| line.param(n).unwrap_or_default();
    let (source, nick) = (line.source(), line.nick());
    let reason = |n| match line.param(n).filter(|r| !r.is_empty()) {
        Some(reason) => [b" [", reason, b"]"].concat(),
        None => Vec::new(),
    };
    let body: Vec<u8> = match line.command().to_ascii_uppercase().as_slice() {
        b"PRIVMSG" | b"NOTICE" => {
            let (sign, who): (&[u8], _) = if own { (b"> ", nick) } else { (b"< ", source) };
            match text(1).strip_prefix(b"\x01ACTION ") {
                Some(action) => [
                    sign,
                    b"* ",
                    who,
                    b" ",
                    action.strip_suffix(b"\x01").unwrap_or(action),
                ]
                .concat(),
                None if text(1).starts_with(b"\x01") => return false,
                None => [sign, who, b": ", text(1)].concat(),
            }
        }
        b"JOIN" => [b"-!- ", source, b" has joined ", target].concat(),
        b"PART" => [b"-!- ", source, b" has left ", target, &reason(1)].concat(),
        b"QUIT" => [b"-!- ", source, b" has quit", &reason(0)].concat(),
        b"NICK" => [b"-!- ", nick, b" is now known as ", text(0)].concat(),
        b"KICK" => [
            b"-!- ",
            text(1),
            b" has been kicked by ",
            source,
            &reason(2),
        ]
        .concat(),
        b"TOPIC" => [
            b"-!- ",
            source,
            b" changed topic of ",
            target,
            b" to: ",
            text(1),
        ]
        .concat(),
        b"MODE" => {
            let modes: Vec<&[u8]> = line.params().skip(1).collect();
            [
                b"-!- mode/",
                target,
                b" [",
                &modes.join(&b' '),
                b"] by ",
                source,
            ]
            .concat()
        }
        _ => return false,
    };
    out.extend_from_slice(at.strftime("%d-%m-%Y %H:%M:%S ").to_string().as_bytes());
    out.extend(body.into_iter().filter(|b| !matches!(b, b'\r' | b'\n' | 0)));
    out.push(b'\n');
    true
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::history::{EntryId, Kind};
    use crate::wire::{CaseMapping, Name, Timestamp};

    fn at() -> Zoned {
        jiff::civil::date(2026, 11, 22)
            .at(2, 42, 45, 0)
            .to_zoned(TimeZone::UTC)
            .unwrap()
    }

    proptest! {
        #[test]
        fn no_name_leads_out_of_the_folder(
            user in prop::collection::vec(prop_oneof![Just(b'.'), Just(b'/'), any::<u8>()], 0..40),
            target in prop::collection::vec(prop_oneof![Just(b'.'), Just(b'/'), any::<u8>()], 0..300),
            format in prop_oneof![Just("%c"), Just("%u/%n/%Y-%m/%c.%d.log"), Just("%c/%c"), Just("%u%c/x"), Just("./%c")],
        ) {
            let user = String::from_utf8_lossy(&user).into_owned();
            let path = expand(format, &user, "..", &target, &at());
            let parts = format.split('/').count();
            prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))), "{path:?}");
            prop_assert!(path.components().count() <= parts);
            prop_assert!(path.components().all(|part| part.as_os_str().len() <= 255));
        }
    }

    #[test]
    fn lines_look_as_bip_writes_them() {
        let cases = [
            ("#c", false, ":bob!b@h PRIVMSG #c :a: b", "< bob!b@h: a: b"),
            (
                "#c",
                false,
                ":bob!b@h PRIVMSG #c :\x01ACTION waves\x01",
                "< * bob!b@h waves",
            ),
            ("#c", true, ":apw!a@h NOTICE #c :own", "> apw: own"),
            (
                "#c",
                true,
                ":apw!a@h PRIVMSG #c :\x01ACTION owns\x01",
                "> * apw owns",
            ),
            ("#c", false, ":bob!b@h JOIN #c", "-!- bob!b@h has joined #c"),
            (
                "#c",
                false,
                ":bob!b@h PART #c :bye",
                "-!- bob!b@h has left #c [bye]",
            ),
            (
                "#c",
                false,
                ":bob!b@h QUIT :gone",
                "-!- bob!b@h has quit [gone]",
            ),
            (
                "#c",
                false,
                ":bob!b@h NICK :bobby",
                "-!- bob is now known as bobby",
            ),
            (
                "#c",
                false,
                ":al!a@h KICK #c bob :out",
                "-!- bob has been kicked by al!a@h [out]",
            ),
            (
                "#c",
                false,
                ":al!a@h TOPIC #c :new topic",
                "-!- al!a@h changed topic of #c to: new topic",
            ),
            (
                "#c",
                false,
                ":al!a@h MODE #c +o bob",
                "-!- mode/#c [+o bob] by al!a@h",
            ),
        ];
        for (target, own, raw, written) in cases {
            let mut out = Vec::new();
            assert!(
                write_line(raw.as_bytes(), target.as_bytes(), own, &at(), &mut out),
                "{raw}"
            );
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!("22-11-2026 02:42:45 {written}\n")
            );
        }
        for raw in [
            ":bob!b@h TAGMSG #c",
            ":bob!b@h PRIVMSG #c :\x01VERSION\x01",
            "@@",
        ] {
            assert!(
                !write_line(raw.as_bytes(), b"#c", false, &at(), &mut Vec::new()),
                "{raw}"
            );
        }
    }

    #[test]
    fn files_are_made_named_by_talk_and_day_and_only_ours() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let config = ChatLog {
            root: folder.path().join("logs"),
            format: "%u/%n/%Y/%c.log".into(),
        };
        let logs = ChatLogs::start(&config).unwrap();
        let entry = |target: &str, line: &'static str| Entry {
            id: EntryId(1),
            target: Name::new(target.as_bytes(), CaseMapping::Rfc1459),
            time: Timestamp::from_millis(1_795_315_365_000),
            msgid: None,
            kind: Kind::Message,
            again: false,
            tags: Bytes::new(),
            line: Bytes::from_static(line.as_bytes()),
        };
        for n in 0..3 {
            logs.write(
                "apw",
                "oftc",
                n == 2,
                &entry(["#Rust", "#rust", ".."][n], ":bob!b@h PRIVMSG x :hello"),
            );
        }
        let told = ":*carom!c@h NOTICE apw :highlight in #rust: <bob> hello";
        logs.write("apw", "oftc", false, &entry("*carom", told));
        logs.configure(&ChatLog::default());
        logs.write(
            "apw",
            "oftc",
            false,
            &entry("#rust", ":bob!b@h PRIVMSG x :not written"),
        );
        logs.end();
        let path = config.root.join("apw/oftc/2026/#rust.log");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().all(|line| line.ends_with("< bob!b@h: hello")));
        assert!(config.root.join("apw/oftc/2026/...log").is_file());
        let files = fs::read_dir(config.root.join("apw/oftc/2026")).unwrap();
        assert_eq!(files.count(), 2);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(logs.lost(), 0);
    }
}
