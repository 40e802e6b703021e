//! A line in the form in which it is compared: what belongs to one play, one moment or one server is taken out. Each rule
//! says why.

use std::collections::BTreeMap;

use carom::wire::Line;

/// A line taken apart.
#[derive(Debug, Clone)]
pub struct Heard {
    pub tags: BTreeMap<String, String>,
    pub source: String,
    pub command: String,
    pub params: Vec<String>,
}

impl Heard {
    /// The line as text, with its parameters one by one.
    fn text(&self) -> String {
        let tags: Vec<_> = self
            .tags
            .iter()
            .map(|(key, value)| match value.is_empty() {
                true => key.clone(),
                false => format!("{key}={value}"),
            })
            .collect();
        let tags = if tags.is_empty() {
            String::new()
        } else {
            format!("@{} ", tags.join(";"))
        };
        let params: String = self.params.iter().map(|p| format!(" <{p}>")).collect();
        format!("{tags}{} {}{params}", self.source, self.command)
    }

    fn numeric(&self) -> Option<u16> {
        self.command
            .parse()
            .ok()
            .filter(|_| self.command.len() == 3)
    }

    fn is(&self, commands: &[&str]) -> bool {
        commands.contains(&self.command.as_str())
    }
}

/// A rule: why, and what. False: the line is left out.
struct Rule {
    #[expect(dead_code, reason = "for whoever reads the table")]
    why: &'static str,
    apply: fn(&mut Heard) -> bool,
}

const fn rule(why: &'static str, apply: fn(&mut Heard) -> bool) -> Rule {
    Rule { why, apply }
}

/// In this order.
static RULES: &[Rule] = &[
    rule(
        "a PING asks for proof, or whether somebody is there",
        |line| !line.is(&["PING"]),
    ),
    rule(
        "strangers who are on their way in are another moment's",
        |line| !line.is(&["253"]),
    ),
    rule("the servers have names of their own", |line| {
        let is_server = |name: &str| {
            name == "bnc.test" || name.starts_with("irc") && name.ends_with(".inspircd.test")
        };
        if is_server(&line.source) {
            line.source = "SERVER".to_owned();
        }
        for param in &mut line.params {
            let words: Vec<_> = param
                .split(' ')
                .map(|word| if is_server(word) { "SERVER" } else { word })
                .collect();
            *param = words.join(" ");
        }
        true
    }),
    rule(
        "a batch is told by its lines; what is left is flat",
        |line| {
            line.tags.remove("batch");
            if !line.is(&["BATCH"]) {
                return true;
            }
            line.params
                .iter_mut()
                .take(1)
                .for_each(|reference| reference.truncate(1));
            line.tags.contains_key("label")
        },
    ),
    rule(
        "this server marks its echoes; where carom makes them there is no such mark",
        |line| {
            line.tags.remove("inspircd.org/echo");
            true
        },
    ),
    rule("each message has its own id and time", |line| {
        for key in ["msgid", "time"] {
            line.tags
                .entry(key.to_owned())
                .and_modify(|value| *value = "?".to_owned());
        }
        true
    }),
    rule(
        "a numeric is an answer, so carom does not say when it happened",
        |line| {
            if line.numeric().is_some() || line.is(&["PONG", "CAP", "FAIL"]) {
                line.tags.remove("time");
            }
            true
        },
    ),
    rule("moments: seconds since 1970", |line| {
        for param in &mut line.params {
            let words: Vec<_> = param
                .split(' ')
                .map(|word| if is_moment(word) { "T" } else { word })
                .collect();
            *param = words.join(" ");
        }
        true
    }),
    rule(
        "how many are here, how long and how idle, is another moment's",
        |line| {
            if line.is(&[
                "251", "252", "253", "254", "255", "265", "266", "317", "242", "249", "250",
            ]) {
                for param in &mut line.params {
                    *param = param.chars().filter(|c| !c.is_ascii_digit()).collect();
                }
            }
            true
        },
    ),
    rule("the time of day, and when the server was made", |line| {
        if line.is(&["391", "312", "371", "003"])
            && let Some(last) = line.params.last_mut()
            && last.contains(':')
        {
            *last = "the time".to_owned();
        }
        true
    }),
    rule(
        "names on a channel are a set: their order and how many fit in a line are free",
        |line| {
            if line.is(&["353"])
                && let Some(names) = line.params.last_mut()
            {
                let mut words: Vec<_> = names.split(' ').filter(|w| !w.is_empty()).collect();
                words.sort_unstable();
                *names = words.join(" ");
            }
            true
        },
    ),
    rule(
        "the words of an answer that carom gives from what it knows are its own",
        |line| {
            let own_words = [
                "315", "331", "366", "411", "412", "417", "421", "432", "461", "462", "305", "306",
                "396",
            ];
            if line.is(&own_words) {
                line.params.pop();
            }
            true
        },
    ),
];

fn is_moment(word: &str) -> bool {
    word.len() == 10 && word.starts_with(['1', '2']) && word.bytes().all(|b| b.is_ascii_digit())
}

/// The line as it is compared; nothing when it is not.
pub fn normalised(line: &str, suffix: &str) -> Option<String> {
    let line = Line::parse(line.as_bytes()).expect("a line");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut heard = Heard {
        tags: line
            .tags()
            .map(|(key, value)| (text(key), text(value)))
            .collect(),
        source: text(line.source()),
        command: text(line.command()),
        params: line.params().map(text).collect(),
    };
    // Lists tell of everybody who is there: those of other plays are not of this world.
    let lists = ["322", "352", "354", "353", "314"];
    let is_ours = || {
        heard
            .params
            .iter()
            .skip(1)
            .any(|param| param.contains(suffix))
    };
    if lists.contains(&heard.command.as_str()) && !is_ours() {
        return None;
    }
    // So do words to all who listen.
    if heard.command == "WALLOPS" && !heard.source.contains(suffix) {
        return None;
    }
    RULES
        .iter()
        .all(|rule| (rule.apply)(&mut heard))
        .then(|| heard.text().replace(suffix, ""))
}
