//! The bridge to `irc-proto`, for lines that are for us or ours: a typed view of a line, and commands of ours as lines.
//! What is relayed or stored never passes here: those types change the bytes, and some commands' meaning.

use bytes::Bytes;
use irc_proto::{CapSubCommand, Command};
use memchr::memchr3;

use super::line::{Line, LineBuilder};

/// A line of ours that would have become more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a line to send holds the control byte 0x{0:02x}, which IRC cannot carry: take it out of the text"
)]
pub struct ControlByte(pub u8);

/// Commands whose type in `irc-proto` loses arguments; they come as [`Command::Raw`]. MODE depends on the network besides.
const LOSSY: [&str; 7] = [
    "MODE", "WHO", "WHOWAS", "ISON", "BATCH", "METADATA", "NICKSERV",
];

/// The command of a line, typed; [`Command::Raw`] when `irc-proto` does not know it or would lose some of it. Nothing
/// when the line is not UTF-8.
pub fn command(line: &Line<'_>) -> Option<Command> {
    let name = str::from_utf8(line.command()).ok()?;
    let params: Vec<&str> = line
        .params()
        .map(|p| str::from_utf8(p).ok())
        .collect::<Option<_>>()?;
    if LOSSY.iter().any(|lossy| name.eq_ignore_ascii_case(lossy)) {
        let params = params.into_iter().map(str::to_owned).collect();
        return Some(Command::Raw(name.to_ascii_uppercase(), params));
    }
    Command::new(name, params).ok()
}

/// A command of ours as one line without a line end. Free text always has its colon: there are programs that lose
/// one-word messages without. A control byte is refused; what else cannot be sent is mended by [`LineBuilder`].
pub fn encode(command: &Command) -> Result<Bytes, ControlByte> {
    let Some(parts) = Parts::of(command) else {
        let line = String::from(command);
        return refuse_control(&line).map(|()| line.into());
    };
    refuse_control(parts.name)?;
    parts
        .middle
        .iter()
        .copied()
        .chain(parts.text)
        .try_for_each(refuse_control)?;
    let line = LineBuilder::new(parts.name.as_bytes()).params(&parts.middle);
    Ok(match parts.text {
        Some(text) => line.trailing(text.as_bytes()).build(),
        None => line.build(),
    })
}

fn refuse_control(text: &str) -> Result<(), ControlByte> {
    match memchr3(0, b'\r', b'\n', text.as_bytes()) {
        Some(at) => Err(ControlByte(text.as_bytes()[at])),
        None => Ok(()),
    }
}

/// A command taken apart for sending.
struct Parts<'a> {
    name: &'a str,
    middle: Vec<&'a str>,
    text: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// The parts of what a bouncer says; nothing for what `irc-proto` writes as well as we could.
    fn of(command: &'a Command) -> Option<Self> {
        let (name, middle, text): (_, &[&str], _) = match command {
            Command::PASS(password) => ("PASS", &[], Some(password)),
            Command::NICK(nick) => ("NICK", &[nick], None),
            Command::USER(user, mode, name) => ("USER", &[user, mode, "*"], Some(name)),
            Command::QUIT(reason) => ("QUIT", &[], reason.as_ref()),
            Command::AWAY(reason) => ("AWAY", &[], reason.as_ref()),
            Command::PART(channels, reason) => ("PART", &[channels], reason.as_ref()),
            Command::TOPIC(channel, topic) => ("TOPIC", &[channel], topic.as_ref()),
            Command::KICK(channel, nick, reason) => ("KICK", &[channel, nick], reason.as_ref()),
            Command::PRIVMSG(to, text) => ("PRIVMSG", &[to], Some(text)),
            Command::NOTICE(to, text) => ("NOTICE", &[to], Some(text)),
            Command::PING(token, None) => ("PING", &[], Some(token)),
            Command::PING(from, token) => ("PING", &[from], token.as_ref()),
            Command::PONG(token, None) => ("PONG", &[], Some(token)),
            Command::PONG(from, token) => ("PONG", &[from], token.as_ref()),
            Command::ERROR(reason) => ("ERROR", &[], Some(reason)),
            Command::AUTHENTICATE(data) => ("AUTHENTICATE", &[data], None),
            Command::UserMODE(target, modes) if modes.is_empty() => ("MODE", &[target], None),
            Command::ChannelMODE(target, modes) if modes.is_empty() => ("MODE", &[target], None),
            _ => return Self::of_list(command),
        };
        Some(Self {
            name,
            middle: middle.to_vec(),
            text: text.map(String::as_str),
        })
    }

    /// The same for commands whose number of parameters varies.
    fn of_list(command: &'a Command) -> Option<Self> {
        match command {
            Command::JOIN(channels, keys, _) => {
                let middle = [Some(channels), keys.as_ref()].into_iter().flatten();
                Some(Self {
                    name: "JOIN",
                    middle: middle.map(String::as_str).collect(),
                    text: None,
                })
            }
            Command::CAP(to, sub, first, second) => {
                let mut middle: Vec<&str> = to.as_deref().into_iter().collect();
                middle.push(sub.to_str());
                let version = *sub == CapSubCommand::LS && to.is_none();
                let (word, text) = match (first, second) {
                    (Some(_), Some(_)) => (first, second),
                    (Some(_), None) if version => (first, &None),
                    _ => (&None, if first.is_some() { first } else { second }),
                };
                middle.extend(word.as_deref());
                Some(Self {
                    name: "CAP",
                    middle,
                    text: text.as_deref(),
                })
            }
            Command::Raw(name, params) => {
                let mut middle: Vec<&str> = params.iter().map(String::as_str).collect();
                let text = middle
                    .pop_if(|last| last.is_empty() || last.starts_with(':') || last.contains(' '));
                Some(Self { name, middle, text })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(raw: &str) -> Option<Command> {
        command(&Line::parse(raw.as_bytes()).unwrap())
    }

    #[test]
    fn lines_for_us_are_typed() {
        assert_eq!(typed(":x nick :new"), Some(Command::NICK("new".into())));
        assert_eq!(
            typed("cap REQ :sasl batch"),
            Some(Command::CAP(
                None,
                CapSubCommand::REQ,
                Some("sasl batch".into()),
                None
            ))
        );
        assert_eq!(
            typed(":s CAP * LS * :a b"),
            Some(Command::CAP(
                Some("*".into()),
                CapSubCommand::LS,
                Some("*".into()),
                Some("a b".into())
            ))
        );
        let line = Line::parse(b"PRIVMSG #c :\xe9t\xe9").unwrap();
        assert_eq!(command(&line), None, "not UTF-8");
    }

    #[test]
    fn what_a_type_would_lose_comes_raw() {
        for (raw, name, params) in [
            (
                "mode #c +fo 5:10 nick",
                "MODE",
                vec!["#c", "+fo", "5:10", "nick"],
            ),
            ("WHO #c %tcuhnfar,152", "WHO", vec!["#c", "%tcuhnfar,152"]),
            ("ISON a b", "ISON", vec!["a", "b"]),
            ("NICKSERV :identify pw", "NICKSERV", vec!["identify pw"]),
            (
                "BATCH +r draft/multiline #c",
                "BATCH",
                vec!["+r", "draft/multiline", "#c"],
            ),
            ("TAGMSG #c", "TAGMSG", vec!["#c"]),
        ] {
            let params = params.into_iter().map(str::to_owned).collect();
            assert_eq!(typed(raw), Some(Command::Raw(name.into(), params)), "{raw}");
        }
    }

    fn sent(command: &Command) -> String {
        String::from_utf8(encode(command).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn free_text_has_its_colon() {
        let s = str::to_owned;
        for (command, line) in [
            (Command::PASS(s(":x y")), "PASS ::x y"),
            (Command::NICK(s("me")), "NICK me"),
            (Command::USER(s("u"), s("0"), s("me")), "USER u 0 * :me"),
            (Command::QUIT(None), "QUIT"),
            (Command::QUIT(Some(s("bye"))), "QUIT :bye"),
            (Command::AWAY(None), "AWAY"),
            (Command::AWAY(Some(s("food"))), "AWAY :food"),
            (Command::JOIN(s("#a,#b"), None, None), "JOIN #a,#b"),
            (
                Command::JOIN(s("#a,#b"), Some(s("key")), None),
                "JOIN #a,#b key",
            ),
            (Command::PART(s("#a"), Some(s("bye"))), "PART #a :bye"),
            (Command::TOPIC(s("#a"), None), "TOPIC #a"),
            (Command::TOPIC(s("#a"), Some(s(""))), "TOPIC #a :"),
            (Command::PRIVMSG(s("#a"), s("hi")), "PRIVMSG #a :hi"),
            (Command::NOTICE(s("x"), s(":)")), "NOTICE x ::)"),
            (Command::PING(s("a b"), None), "PING :a b"),
            (Command::PONG(s("srv"), Some(s("tok"))), "PONG srv :tok"),
            (Command::AUTHENTICATE(s("+")), "AUTHENTICATE +"),
        ] {
            assert_eq!(sent(&command), line);
        }
    }

    #[test]
    fn lists_and_questions_are_written() {
        let s = str::to_owned;
        let cap = |to: Option<&str>, sub, first: Option<&str>, second: Option<&str>| {
            Command::CAP(to.map(s), sub, first.map(s), second.map(s))
        };
        for (command, line) in [
            (
                cap(None, CapSubCommand::LS, Some("302"), None),
                "CAP LS 302",
            ),
            (cap(None, CapSubCommand::END, None, None), "CAP END"),
            (
                cap(None, CapSubCommand::REQ, Some("sasl"), None),
                "CAP REQ :sasl",
            ),
            (
                cap(None, CapSubCommand::REQ, None, Some("a b")),
                "CAP REQ :a b",
            ),
            (
                cap(Some("me"), CapSubCommand::LS, Some("*"), Some("a")),
                "CAP me LS * :a",
            ),
            (
                cap(Some("*"), CapSubCommand::LS, Some("a"), None),
                "CAP * LS :a",
            ),
            (Command::WHO(Some(s("#c")), None), "WHO #c"),
            (Command::ChannelMODE(s("#c"), vec![]), "MODE #c"),
            (Command::UserMODE(s("me"), vec![]), "MODE me"),
            (
                Command::Raw(s("MODE"), vec![s("#c"), s("+ov"), s("a"), s("b")]),
                "MODE #c +ov a b",
            ),
            (Command::Raw(s("SETNAME"), vec![s("A B")]), "SETNAME :A B"),
            (Command::Raw(s("X"), vec![s("::1"), s("")]), "X 0::1 :"),
            (
                Command::KICK(s("#c"), s("n"), Some(s("out"))),
                "KICK #c n :out",
            ),
        ] {
            assert_eq!(sent(&command), line);
        }
    }

    #[test]
    fn control_bytes_are_refused() {
        let s = str::to_owned;
        for (command, byte) in [
            (Command::PRIVMSG(s("#c"), s("x\r\nQUIT :y")), b'\r'),
            (Command::PRIVMSG(s("#c\n"), s("x")), b'\n'),
            (Command::NICK(s("\0")), 0),
            (Command::Raw(s("X\nQUIT"), vec![]), b'\n'),
            (Command::WHOIS(None, s("x\nQUIT")), b'\n'),
        ] {
            assert_eq!(encode(&command), Err(ControlByte(byte)), "{command:?}");
        }
    }

    #[test]
    fn what_is_sent_is_understood_as_it_was_meant() {
        for raw in [
            "NICK me",
            "JOIN #a key",
            "PING :x",
            "PRIVMSG #c :a b",
            "CAP REQ :a",
            "KILL n :x y",
        ] {
            let command = typed(raw).unwrap();
            assert_eq!(sent(&command), raw);
        }
    }
}
