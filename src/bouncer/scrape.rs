//! Answers whoever asks how carom is doing (`server.metrics`): as much HTTP as that takes, and the numbers, read when they
//! are asked for. What is counted on the way is `metrics`'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::info;

use crate::chatlog::ChatLogs;
use crate::directory::Directory;
use crate::history::History;
use crate::metrics::{CONTENT_TYPE, Counters, Kind, Page};
use crate::net::{Listener, Stream};
use crate::state::LinkStatus;
use crate::wire::Timestamp;

use super::side::Doors;

/// So many are answered at a time.
const MOST: usize = 32;
/// A question may be so long.
const REQUEST: usize = 8 * 1024;
/// Question and answer may take so long.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where the numbers are.
#[derive(Clone)]
pub(super) struct Scrape {
    pub(super) directory: watch::Receiver<Arc<Directory>>,
    pub(super) history: History,
    pub(super) chat_logs: ChatLogs,
    pub(super) counters: Arc<Counters>,
    pub(super) started: Timestamp,
}

impl Scrape {
    /// Answers whoever comes in by these sockets.
    pub(super) fn serve_on(self, sockets: Vec<Listener>, doors: &mut Doors) {
        for socket in &sockets {
            if let Some(addr) = socket.local_addr() {
                info!("metrics are told at http://{addr}/metrics");
            }
        }
        let serve = move |stream, _| self.clone().serve(stream);
        doors.serve(sockets, MOST, serve);
    }

    /// One question and its answer.
    async fn serve(self, mut stream: Stream) {
        // Whoever is too slow, or gone, needs no answer.
        _ = timeout(DEADLINE, async {
            let request = read(&mut stream).await?;
            let answer = answer(&request, || self.text());
            stream.write_all(answer.as_bytes()).await.ok()?;
            stream.flush().await.ok()?;
            stream.shutdown().await.ok()
        })
        .await;
    }

    fn text(&self) -> String {
        let mut page = Page::default();
        let version = env!("CARGO_PKG_VERSION");
        page.family("build_info", Kind::Gauge, "Which carom runs.")
            .sample(&[("version", version)], 1);
        let started = seconds(self.started.millis());
        let help = "When carom was started, in seconds since 1970.";
        page.one("start_time_seconds", Kind::Gauge, help, started);
        self.people(&mut page);
        self.traffic(&mut page);
        self.store(&mut page);
        page.text()
    }

    /// Users, networks and clients.
    fn people(&self, page: &mut Page) {
        let directory = self.directory.borrow().clone();
        let mut networks: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for state in ["disabled", "offline", "connecting", "waiting"] {
            networks.insert((state, ""), 0);
        }
        for family in ["IPv6", "IPv4"] {
            networks.insert(("connected", family), 0);
        }
        let (mut users, mut clients, mut waiting) = (0, 0, 0);
        let (mut early, mut lost) = (0, 0);
        for user in directory.users() {
            users += 1;
            for line in user.board.lines() {
                clients += line.clients.len();
                early += line.storage.early;
                lost += line.storage.lost;
                let place = match (&line.link, line.family.as_str()) {
                    (LinkStatus::Lobby, _) => continue,
                    (LinkStatus::Disabled, _) => ("disabled", ""),
                    (LinkStatus::Offline, _) => ("offline", ""),
                    (LinkStatus::Connecting { .. }, _) => ("connecting", ""),
                    (LinkStatus::Waiting { .. }, _) => ("waiting", ""),
                    (LinkStatus::Connected { .. }, "IPv6") => ("connected", "IPv6"),
                    (LinkStatus::Connected { .. }, "IPv4") => ("connected", "IPv4"),
                    (LinkStatus::Connected { .. }, _) => ("connected", ""),
                };
                *networks.entry(place).or_default() += 1;
            }
            let mailboxes = user.networks.iter().filter_map(|network| network.running());
            waiting += mailboxes
                .map(|running| running.mailbox.max_capacity() - running.mailbox.capacity())
                .sum::<usize>();
        }
        page.one("users", Kind::Gauge, "Users that may log in.", users);
        page.one("clients", Kind::Gauge, "Attached clients.", clients);
        let help = "Networks by the state of their link, and its address family.";
        let mut family = page.family("networks", Kind::Gauge, help);
        for ((state, ip), count) in networks {
            family.sample(&[("state", state), ("family", ip)], count);
        }
        let help = "Messages from clients that wait for a network.";
        page.one("mailbox_messages", Kind::Gauge, help, waiting);
        let help = "Bytes that wait for clients to read what came before.";
        let queued = self.counters.client_queues.get();
        page.one("client_queue_bytes", Kind::Gauge, help, queued);
        let help = "Lines of the networks there are that were shown before they were stored.";
        page.one("lines_early", Kind::Gauge, help, early);
        let help = "Lines of the networks there are that were shown and never stored.";
        page.one("lines_lost", Kind::Gauge, help, lost);
    }

    /// What was counted on the way.
    fn traffic(&self, page: &mut Page) {
        let counters = &self.counters;
        let flows = [
            ("from_servers", counters.from_servers.get()),
            ("to_servers", counters.to_servers.get()),
            ("to_clients", counters.to_clients.get()),
        ];
        let mut family = page.family("lines_total", Kind::Counter, "Lines by direction.");
        for (direction, (lines, _)) in flows {
            family.sample(&[("direction", direction)], lines);
        }
        let help = "Bytes of these lines.";
        let mut family = page.family("bytes_total", Kind::Counter, help);
        for (direction, (_, bytes)) in flows {
            family.sample(&[("direction", direction)], bytes);
        }
        let tallies = [
            (
                "dials_total",
                "Addresses of servers tried, and failed look-ups, by what came of them.",
                "outcome",
                &counters.dials,
            ),
            (
                "refused_total",
                "Connections that were turned away before they were clients, by reason.",
                "reason",
                &counters.refused,
            ),
            (
                "dismissed_total",
                "Attached clients that were sent away, by reason.",
                "reason",
                &counters.dismissed,
            ),
        ];
        for (name, help, label, tally) in tallies {
            let mut family = page.family(name, Kind::Counter, help);
            for (word, count) in tally.get() {
                family.sample(&[(label, word)], count);
            }
        }
    }

    fn store(&self, page: &mut Page) {
        let figures = self.history.figures();
        let help = "Rows that wait to be stored.";
        page.one("store_waiting_rows", Kind::Gauge, help, figures.waiting);
        let help = "Bytes of lines that wait or are being stored.";
        page.one("store_waiting_bytes", Kind::Gauge, help, figures.bytes);
        // Named as the parts of a summary are.
        let help = "Commits of the store.";
        page.one("store_commits_total", Kind::Counter, help, figures.commits);
        let help = "Commits that failed; they are tried again.";
        page.one("store_failures_total", Kind::Counter, help, figures.failed);
        let help = "How long all commits took together.";
        let spent = figures.spent.as_secs_f64();
        page.one("store_commit_seconds_total", Kind::Counter, help, spent);
        let help = "How long the last commit took.";
        let last = figures.last.as_secs_f64();
        page.one("store_last_commit_seconds", Kind::Gauge, help, last);
        let help = "Lines that are missing from the text logs because the disk was too slow.";
        let lost = self.chat_logs.lost();
        page.one("text_log_lost_lines_total", Kind::Counter, help, lost);
    }
}

/// Milliseconds as seconds, exactly.
fn seconds(millis: i64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

/// The head of a request; `None`: nobody is there any more.
async fn read(stream: &mut Stream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let taken = stream.read(&mut chunk).await.ok()?;
        request.extend_from_slice(&chunk[..taken]);
        let is_over = |end: &[u8]| request.windows(end.len()).any(|part| part == end);
        if taken == 0 || request.len() >= REQUEST || is_over(b"\r\n\r\n") || is_over(b"\n\n") {
            return Some(request).filter(|request| !request.is_empty());
        }
    }
}

/// What is answered to a request.
fn answer(request: &[u8], text: impl FnOnce() -> String) -> String {
    let line = request.split(|byte| *byte == b'\n').next();
    let line = std::str::from_utf8(line.unwrap_or_default()).unwrap_or_default();
    let words: Vec<&str> = line.trim_end_matches('\r').split(' ').collect();
    let [method, target, version] = words[..] else {
        return refusal("400 Bad Request", "");
    };
    if request.len() >= REQUEST {
        return refusal("431 Request Header Fields Too Large", "");
    }
    let path = target.split('?').next().unwrap_or_default();
    match (version.starts_with("HTTP/1."), path, method) {
        (false, _, _) => refusal("505 HTTP Version Not Supported", ""),
        (true, "/metrics", "GET") => response("200 OK", CONTENT_TYPE, "", &text()),
        (true, "/metrics", _) => refusal("405 Method Not Allowed", "Allow: GET\r\n"),
        (true, ..) => refusal("404 Not Found", ""),
    }
}

fn refusal(status: &str, headers: &str) -> String {
    let text = format!("{status}\n");
    response(status, "text/plain; charset=utf-8", headers, &text)
}

fn response(status: &str, kind: &str, headers: &str, text: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{text}",
        text.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str) -> String {
        let answer = answer(request.as_bytes(), || "carom_up 1\n".to_owned());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        head.lines().next().unwrap().to_owned()
    }

    #[test]
    fn one_page_is_there_for_those_who_get_it() {
        for (request, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK"),
            ("GET /metrics HTTP/1.0\n\n", "200 OK"),
            ("GET /metrics?a=b HTTP/1.1\r\n\r\n", "200 OK"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            (
                "GET /metrics HTTP/2.0\r\n\r\n",
                "505 HTTP Version Not Supported",
            ),
            ("GET\r\n\r\n", "400 Bad Request"),
            ("\r\n\r\n", "400 Bad Request"),
        ] {
            assert_eq!(
                status(request),
                format!("HTTP/1.1 {expected}"),
                "{request:?}"
            );
        }
        let long = format!("GET /metrics HTTP/1.1\r\nA: {}", "a".repeat(REQUEST));
        assert!(status(&long).contains("431"));
    }

    #[test]
    fn milliseconds_are_told_exactly() {
        assert_eq!(seconds(1_767_340_805_010), "1767340805.010");
    }
}
