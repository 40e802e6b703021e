//! What carom speaks, as rows for people: made from the table of features, the capabilities asked of servers and the
//! families of replies. `contrib/conformance.md` is written from it, and a test holds it to this.

use crate::wire::Cap;

use super::families;
use super::feature::{Source, features};
use super::registration;

/// All of it.
#[derive(Debug)]
pub struct Conformance {
    /// Every capability that we know.
    pub capabilities: Vec<Capability>,
    /// Every command that a feature claims, in either direction.
    pub commands: Vec<Command>,
    /// Numerics of servers that a feature takes in.
    pub numerics: Vec<String>,
    /// Questions whose answers find the asker: the command, its replies, and those that end it.
    pub questions: Vec<Question>,
}

/// A capability.
#[derive(Debug)]
pub struct Capability {
    /// As it stands on the wire.
    pub name: &'static str,
    /// Where it is described.
    pub specification: String,
    /// Whether clients are offered it.
    pub offered: Offered,
    /// Whether it is asked of servers that have it.
    pub used: bool,
}

/// Whether clients are offered a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// Whatever the server can.
    Always,
    /// While the server has it.
    Passed,
    /// Not at all.
    No,
}

/// A command.
#[derive(Debug)]
pub struct Command {
    /// In capitals.
    pub name: String,
    /// Where it is described.
    pub specification: String,
    /// From clients it is dealt with, not just passed on.
    pub asked: bool,
    /// From servers it is understood, not just passed on.
    pub said: bool,
}

/// A question to a server.
#[derive(Debug)]
pub struct Question {
    /// The command.
    pub command: String,
    /// Its replies.
    pub replies: Vec<u16>,
    /// Those that end it.
    pub ends: Vec<u16>,
}

/// What is described where. A command that is not here belongs to the first capability of its feature.
const SPECIFICATIONS: &[(&str, &str)] = &[
    (
        "ACCOUNT",
        "https://ircv3.net/specs/extensions/account-notify",
    ),
    ("AUTHENTICATE", IRCV3_SASL),
    ("AWAY", "RFC 2812 section 4.1"),
    ("BATCH", "https://ircv3.net/specs/extensions/batch"),
    ("BIP", OURS),
    (
        "CAP",
        "https://ircv3.net/specs/extensions/capability-negotiation",
    ),
    ("CAROM", OURS),
    (
        "CHATHISTORY",
        "https://ircv3.net/specs/extensions/chathistory",
    ),
    ("CHGHOST", "https://ircv3.net/specs/extensions/chghost"),
    ("ERROR", "RFC 2812 section 3.7.4"),
    ("INVITE", "RFC 2812 section 3.2.7"),
    ("ISON", "RFC 2812 section 4.9"),
    ("JOIN", "RFC 2812 section 3.2.1"),
    ("KICK", "RFC 2812 section 3.2.8"),
    ("KILL", "RFC 2812 section 3.7.1"),
    ("MODE", "RFC 2812 sections 3.1.5 and 3.2.3"),
    ("MONITOR", "https://ircv3.net/specs/extensions/monitor"),
    ("NAMES", "RFC 2812 section 3.2.5"),
    ("NICK", "RFC 2812 section 3.1.2"),
    ("NOTICE", "RFC 2812 section 3.3.2"),
    (
        "PALAVER",
        "https://github.com/cocodelabs/palaver-irc-capability",
    ),
    ("PART", "RFC 2812 section 3.2.2"),
    ("PASS", "RFC 2812 section 3.1.1"),
    ("PING", "RFC 2812 section 3.7.2"),
    ("PONG", "RFC 2812 section 3.7.3"),
    ("PRIVMSG", "RFC 2812 section 3.3.1"),
    ("PROTOCTL", "https://modern.ircdocs.horse/"),
    ("QUIT", "RFC 2812 section 3.1.7"),
    ("REGISTER", ACCOUNTS),
    ("SETNAME", "https://ircv3.net/specs/extensions/setname"),
    ("SQUIT", "RFC 2812 section 3.1.8"),
    ("STARTTLS", "https://ircv3.net/specs/deprecated/tls"),
    ("TAGMSG", "https://ircv3.net/specs/extensions/message-tags"),
    ("TOPIC", "RFC 2812 section 3.2.4"),
    ("USER", "RFC 2812 section 3.1.3"),
    ("USERHOST", "RFC 2812 section 4.8"),
    ("VERIFY", ACCOUNTS),
    ("VERSION", "RFC 2812 section 3.4.3"),
    ("WEBIRC", "https://ircv3.net/specs/extensions/webirc"),
    (
        "WHO",
        "RFC 2812 section 3.6.1, https://ircv3.net/specs/extensions/whox",
    ),
    ("WHOIS", "RFC 2812 section 3.6.2"),
    ("WHOWAS", "RFC 2812 section 3.6.3"),
    ("ZNC", "https://wiki.znc.in/Playback"),
];

const OURS: &str = "carom-commands(7)";
const ACCOUNTS: &str = "https://ircv3.net/specs/extensions/account-registration";
const IRCV3_SASL: &str = "https://ircv3.net/specs/extensions/sasl-3.2";

/// What is spoken.
pub fn conformance() -> Conformance {
    let mut commands: Vec<Command> = Vec::new();
    let mut numerics = Vec::new();
    for feature in features() {
        let first = feature.offers.first().map(|offer| offer.0.specification());
        let asked = feature.client.iter().map(|rule| (rule.name, true));
        let said = feature.server.iter().map(|rule| (rule.name, false));
        for (name, by_client) in asked.chain(said) {
            let name = String::from_utf8_lossy(name).into_owned();
            if name.bytes().all(|b| b.is_ascii_digit()) {
                numerics.push(name);
                continue;
            }
            let known = commands.iter().position(|command| command.name == name);
            let at = known.unwrap_or_else(|| {
                let listed = SPECIFICATIONS.iter().find(|(command, _)| *command == name);
                let listed = listed.map(|(_, specification)| (*specification).to_owned());
                commands.push(Command {
                    specification: listed.or_else(|| first.clone()).unwrap_or_default(),
                    name,
                    asked: false,
                    said: false,
                });
                commands.len() - 1
            });
            let command = &mut commands[at];
            command.asked |= by_client;
            command.said |= !by_client;
        }
    }
    commands.sort_by(|a, b| a.name.cmp(&b.name));
    numerics.sort();
    Conformance {
        capabilities: Cap::ALL.iter().map(|cap| capability(*cap)).collect(),
        commands,
        numerics,
        questions: questions(),
    }
}

fn capability(cap: Cap) -> Capability {
    let offers = features().iter().flat_map(|feature| feature.offers);
    let mut source = offers.filter(|offer| offer.0 == cap).map(|offer| offer.1);
    let offered = match source.next() {
        // Before there is a network it is the login's own.
        _ if cap == Cap::Sasl => Offered::Always,
        Some(Source::Server) => Offered::Passed,
        Some(_) => Offered::Always,
        None => Offered::No,
    };
    Capability {
        name: cap.name(),
        specification: cap.specification(),
        offered,
        // It is heeded, not asked for.
        used: registration::wanted(Cap::ALL.iter().copied().collect()).has(cap) || cap == Cap::Sts,
    }
}

fn questions() -> Vec<Question> {
    let all = families::all().iter().map(|family| Question {
        command: String::from_utf8_lossy(family.command).into_owned(),
        replies: [family.numerics, family.after].concat(),
        ends: family.ends.to_vec(),
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_says_where_it_is_described() {
        let conformance = conformance();
        assert!(
            conformance
                .commands
                .iter()
                .all(|c| !c.specification.is_empty()),
            "{conformance:?}"
        );
        assert!(
            conformance
                .capabilities
                .iter()
                .any(|c| c.offered == Offered::Passed && c.used)
        );
        assert!(SPECIFICATIONS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
