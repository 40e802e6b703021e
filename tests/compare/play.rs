//! One conversation, played: who is connected how, and what each of them hears at each step.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::normal::normalised;
use super::script::{Conversation, localised};
use super::stage::Stage;
use crate::support::Client;
use crate::support::talk::command_of;

/// What a modern client asks for, each by itself.
const MODERN: &[&str] = &[
    "account-notify",
    "account-tag",
    "away-notify",
    "batch",
    "chghost",
    "echo-message",
    "extended-join",
    "invite-notify",
    "labeled-response",
    "message-tags",
    "multi-prefix",
    "server-time",
    "setname",
    "userhost-in-names",
];

/// How a conversation is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Play {
    direct: bool,
    modern: bool,
    double: bool,
}

const fn way(direct: bool, modern: bool, double: bool) -> Play {
    Play {
        direct,
        modern,
        double,
    }
}

impl Play {
    /// All of them; what the others are compared with comes first.
    pub const ALL: [Self; 6] = [
        way(true, false, false),
        way(true, true, false),
        way(false, false, false),
        way(false, true, false),
        way(false, false, true),
        way(false, true, true),
    ];

    /// The plays of a conversation: all of them where changes are decided about, else half of those through carom, each
    /// conversation the other half than the one before.
    pub fn all(number: usize) -> impl Iterator<Item = Self> {
        let half = move |play: &Self| {
            every() || play.direct || (play.modern == play.double) == number.is_multiple_of(2)
        };
        Self::ALL.into_iter().filter(half)
    }

    /// Words that excuses and titles know.
    pub const WORDS: [&str; 4] = ["plain", "modern", "single", "double"];

    /// Whether nobody stands between clients and server.
    pub fn is_direct(self) -> bool {
        self.direct
    }

    /// Whether one of [`Play::WORDS`] is true for it.
    pub fn is(self, word: &str) -> bool {
        match word {
            "plain" => !self.modern,
            "modern" => self.modern,
            "double" => self.double,
            _ => !self.double,
        }
    }

    /// What it is compared with.
    pub fn model(self) -> Self {
        way(true, self.modern, false)
    }

    fn clients(self) -> usize {
        1 + usize::from(self.double)
    }

    /// For people.
    pub fn title(self) -> String {
        let caps = if self.modern { "modern" } else { "plain" };
        let count = if self.double {
            "two clients each"
        } else {
            "one client each"
        };
        format!("{caps}, {count}")
    }
}

/// Whether every play is played: `EVERY=1`, and where changes are decided about.
pub fn every() -> bool {
    std::env::var_os("EVERY").is_some() || std::env::var("CI").as_deref() == Ok("true")
}

/// What belongs to one play of one conversation alone, at the end of every name.
pub fn suffix(number: usize, play: Play) -> String {
    let way = Play::ALL
        .iter()
        .position(|p| *p == play)
        .unwrap_or_default();
    format!("_{number:03}{way}")
}

/// What was heard at each step: by whom, with which of his clients.
pub type Heard = Vec<BTreeMap<(String, usize), Vec<String>>>;

/// Somebody on the stage.
struct Person {
    name: String,
    clients: Vec<Client>,
    /// How often he spoke: his clients take turns.
    spoke: usize,
}

/// Plays it.
pub async fn play(
    stage: &Arc<Stage>,
    conversation: &Conversation,
    number: usize,
    play: Play,
) -> Heard {
    let suffix = suffix(number, play);
    let mut people = gathered(stage, conversation, &suffix, play).await;
    let mut syncs = 0;
    // Nobody speaks before all have come.
    for client in people.iter_mut().flat_map(|person| &mut person.clients) {
        through(client, &mut syncs).await;
    }
    let mut heard = Vec::new();
    for step in &conversation.steps {
        let speaker = people
            .iter_mut()
            .find(|p| p.name == step.who)
            .expect("somebody on the stage");
        let n = speaker.spoke % speaker.clients.len();
        speaker.spoke += 1;
        speaker.clients[n]
            .send(&localised(&step.line, &suffix))
            .await;
        let mut told = BTreeMap::new();
        let lines = through(&mut speaker.clients[n], &mut syncs).await;
        told.insert((step.who.clone(), n), lines);
        // The server has dealt with it: what comes of it is on its way to the others.
        for person in &mut people {
            for (m, client) in person.clients.iter_mut().enumerate() {
                if (&person.name, m) != (&step.who, n) {
                    let lines = through(client, &mut syncs).await;
                    told.insert((person.name.clone(), m), lines);
                }
            }
        }
        for lines in told.values_mut() {
            *lines = sorted(
                lines
                    .iter()
                    .filter_map(|line| normalised(line, &suffix))
                    .collect(),
            );
        }
        heard.push(told);
    }
    heard
}

/// Everybody who takes part. They come at the same time: the server takes its time to welcome somebody.
async fn gathered(
    stage: &Arc<Stage>,
    conversation: &Conversation,
    suffix: &str,
    play: Play,
) -> Vec<Person> {
    let mut coming = Vec::new();
    for name in conversation.people() {
        let nick = format!("{name}{suffix}");
        let clients: Vec<_> = (0..play.clients())
            .map(|n| {
                let (stage, name, nick) = (Arc::clone(stage), name.to_owned(), nick.clone());
                tokio::spawn(async move {
                    let client = if play.direct {
                        stage.direct().await
                    } else {
                        stage.attached(&nick, n).await
                    };
                    registered(client, &name, &nick, n, play).await
                })
            })
            .collect();
        coming.push((name.to_owned(), clients));
    }
    let mut people = Vec::new();
    for (name, coming) in coming {
        let mut clients = Vec::new();
        for client in coming {
            clients.push(client.await.unwrap());
        }
        people.push(Person {
            name,
            clients,
            spoke: 0,
        });
    }
    people
}

/// With the lines of lists in one order: a server tells them in the order of its tables.
fn sorted(mut lines: Vec<String>) -> Vec<String> {
    let list = |line: &String| {
        ["322", "352", "354"]
            .into_iter()
            .find(|n| line.starts_with(&format!("SERVER {n} ")))
    };
    for run in lines.chunk_by_mut(|a, b| list(a).is_some() && list(a) == list(b)) {
        run.sort();
    }
    lines
}

/// Somebody who is there. Only when the server answers does a modern client ask for what it can: carom may still be on
/// its way there, and would have to take back what the server has.
async fn registered(
    mut client: Client,
    name: &str,
    nick: &str,
    number: usize,
    play: Play,
) -> Client {
    client.send(&format!("NICK {nick}")).await;
    client.send(&format!("USER {name} 0 * :Real {name}")).await;
    client.welcomed().await;
    reached(&mut client, number).await;
    if play.modern {
        client.send("CAP LS 302").await;
        for cap in MODERN {
            client.send(&format!("CAP REQ :{cap}")).await;
        }
        for _ in MODERN {
            let answer = |line: &str| line.contains(" ACK ") || line.contains(" NAK ");
            client.expect_where("an answer to CAP REQ", answer).await;
        }
    }
    client
}

/// Waits until the client is answered by the server.
async fn reached(client: &mut Client, number: usize) {
    for n in 0.. {
        let command = format!("REACH{n}BY{number}");
        let answer = asked(client, &command, |line| line.starts_with(":*carom!")).await;
        if answer
            .last()
            .is_some_and(|line| command_of(line).starts_with("421 "))
        {
            return;
        }
    }
}

/// Everything up to the answer to a command that no server knows: a question that goes all the way there and back.
async fn through(client: &mut Client, syncs: &mut usize) -> Vec<String> {
    *syncs += 1;
    let mut lines = asked(client, &format!("SYNC{syncs}"), |_| false).await;
    lines.pop();
    lines
}

async fn asked(client: &mut Client, command: &str, or: impl Fn(&str) -> bool) -> Vec<String> {
    client.send(command).await;
    let word = format!(" {command} ");
    let answer = client.expect_lines("the answer of the server", move |line| {
        line.contains(&word) && command_of(line).starts_with("421 ") || or(line)
    });
    answer.await
}
