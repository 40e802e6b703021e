//! The grammar from outside: lines and their parts as a table, and `Line` beside `irc-proto`, an independent reading of
//! the same rules. Where the two are known to differ, what `irc-proto` does is written down, so that an update of it
//! that changes something is noticed.

use carom::wire::{Framed, Framer, Isupport, Line, LineBuilder, Timestamp, framing, tags, typed};
use irc_proto::{Command, Message, Prefix};
use proptest::prelude::*;

/// A line, and what it is made of: tags (unescaped), source, command, parameters.
type Vector<'a> = (
    &'a str,
    &'a [(&'a str, &'a str)],
    &'a str,
    &'a str,
    &'a [&'a str],
);

const VECTORS: &[Vector<'_>] = &[
    // Parameters and the trailing one.
    ("LIST", &[], "", "LIST", &[]),
    ("LIST ", &[], "", "LIST", &[]),
    ("kick #tea bob", &[], "", "kick", &["#tea", "bob"]),
    ("KICK #tea bob :", &[], "", "KICK", &["#tea", "bob", ""]),
    (
        "KICK #tea bob :out",
        &[],
        "",
        "KICK",
        &["#tea", "bob", "out"],
    ),
    (
        "KICK #tea bob ::out: now",
        &[],
        "",
        "KICK",
        &["#tea", "bob", ":out: now"],
    ),
    (
        "KICK #tea bob : out  now ",
        &[],
        "",
        "KICK",
        &["#tea", "bob", " out  now "],
    ),
    (
        "KICK #tea b:ob o:ut",
        &[],
        "",
        "KICK",
        &["#tea", "b:ob", "o:ut"],
    ),
    (
        "KICK   #tea   bob   :x",
        &[],
        "",
        "KICK",
        &["#tea", "bob", "x"],
    ),
    ("KICK #tea bob   ", &[], "", "KICK", &["#tea", "bob"]),
    ("PING :", &[], "", "PING", &[""]),
    ("PING :a :b", &[], "", "PING", &["a :b"]),
    ("X \tY \u{b}", &[], "", "X", &["\tY", "\u{b}"]),
    // More than fifteen parameters: others limit what they send, nobody what we read.
    (
        "X 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 :17 18",
        &[],
        "",
        "X",
        &[
            "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
            "17 18",
        ],
    ),
    // The source.
    (":ana PART #tea", &[], "ana", "PART", &["#tea"]),
    (
        ":irc.example.org 001 ana :Hi",
        &[],
        "irc.example.org",
        "001",
        &["ana", "Hi"],
    ),
    (
        ":ana!~a@2001:db8::7 PART #tea",
        &[],
        "ana!~a@2001:db8::7",
        "PART",
        &["#tea"],
    ),
    (":::1 NOTICE * :x", &[], "::1", "NOTICE", &["*", "x"]),
    (
        ":ana\u{2}3!a@b\u{3}4 QUIT",
        &[],
        "ana\u{2}3!a@b\u{3}4",
        "QUIT",
        &[],
    ),
    (":ana   QUIT   :late", &[], "ana", "QUIT", &["late"]),
    ("   QUIT :late", &[], "", "QUIT", &["late"]),
    // Tags.
    ("@k=v PING x", &[("k", "v")], "", "PING", &["x"]),
    (
        "@k;l=;m=1=2 PING x",
        &[("k", ""), ("l", ""), ("m", "1=2")],
        "",
        "PING",
        &["x"],
    ),
    (
        "@k=a\\sb\\:c\\\\d\\re\\nf PING",
        &[("k", "a b;c\\d\re\nf")],
        "",
        "PING",
        &[],
    ),
    ("@k=\\a\\b\\ PING", &[("k", "ab")], "", "PING", &[]),
    ("@k=\\\\\\:\\\\s PING", &[("k", "\\;\\s")], "", "PING", &[]),
    ("@;;k=1;; PING", &[("k", "1")], "", "PING", &[]),
    (
        "@+draft/reply=x;a.b/c PING",
        &[("+draft/reply", "x"), ("a.b/c", "")],
        "",
        "PING",
        &[],
    ),
    (
        "@k=1    :ana   PING   x",
        &[("k", "1")],
        "ana",
        "PING",
        &["x"],
    ),
    (
        "@k=:x :ana PING :@y",
        &[("k", ":x")],
        "ana",
        "PING",
        &["@y"],
    ),
    ("@ PING x", &[], "", "PING", &["x"]),
    // As servers say it.
    (
        ":irc.example.org 353 ana = #tea :@ana +bob ",
        &[],
        "irc.example.org",
        "353",
        &["ana", "=", "#tea", "@ana +bob "],
    ),
    (
        ":irc.example.org 324 ana #tea +nt ",
        &[],
        "irc.example.org",
        "324",
        &["ana", "#tea", "+nt"],
    ),
    (
        ":ana MODE #tea +ov-k bob cyd :key",
        &[],
        "ana",
        "MODE",
        &["#tea", "+ov-k", "bob", "cyd", "key"],
    ),
    (
        ":ana PRIVMSG #tea :\u{1}ACTION sips\u{1}",
        &[],
        "ana",
        "PRIVMSG",
        &["#tea", "\u{1}ACTION sips\u{1}"],
    ),
    (
        ":ana PRIVMSG #th\u{e9} :\u{e7}a va",
        &[],
        "ana",
        "PRIVMSG",
        &["#th\u{e9}", "\u{e7}a va"],
    ),
];

#[test]
fn lines_are_read() {
    for &(raw, tags, source, command, params) in VECTORS {
        let line = Line::parse(raw.as_bytes()).expect(raw);
        let read: Vec<_> = line
            .tags()
            .map(|(key, value)| (key.to_vec(), tags::unescape(value).into_owned()))
            .collect();
        let expected: Vec<_> = tags
            .iter()
            .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        assert_eq!(read, expected, "{raw}");
        assert_eq!(line.source(), source.as_bytes(), "{raw}");
        assert_eq!(line.command(), command.as_bytes(), "{raw}");
        assert!(
            line.params()
                .eq(params.iter().map(|param| param.as_bytes())),
            "{raw}: {params:?}"
        );
    }
}

#[test]
fn lines_are_built_so_that_they_are_read_the_same() {
    for &(raw, tags, source, command, params) in VECTORS {
        let mut line = LineBuilder::from(source.as_bytes(), command.as_bytes());
        for (key, value) in tags {
            line = line.tag(key.as_bytes(), value.as_bytes());
        }
        let line = match params.split_last() {
            Some((last, middle)) => line.params(middle).trailing(last.as_bytes()),
            None => line,
        };
        let built = line.build();
        let (built, read) = (
            Line::parse(&built).unwrap(),
            Line::parse(raw.as_bytes()).unwrap(),
        );
        assert!(built.params().eq(read.params()), "{raw}");
        assert_eq!(
            (built.source(), built.command()),
            (read.source(), read.command()),
            "{raw}"
        );
        for (key, value) in tags {
            assert_eq!(
                built.tags().get(key.as_bytes()).as_deref(),
                Some(value.as_bytes()),
                "{raw}"
            );
        }
    }
}

#[test]
fn sources_are_split() {
    for (source, nick, user_host) in [
        ("ana", "ana", None),
        ("ana!user@host", "ana", Some(("user", "host"))),
        ("ana!~u@2001:db8::1", "ana", Some(("~u", "2001:db8::1"))),
        ("ana!user@a@b", "ana", Some(("user", "a@b"))),
        ("ana!us!er@host", "ana", Some(("us!er", "host"))),
        ("ana!@", "ana", Some(("", ""))),
        ("ana@host", "ana", None),
        ("irc.example.org", "irc.example.org", None),
    ] {
        let raw = format!(":{source} QUIT");
        let line = Line::parse(raw.as_bytes()).unwrap();
        assert_eq!(line.nick(), nick.as_bytes(), "{source}");
        let expected =
            user_host.map(|(user, host): (&str, &str)| (user.as_bytes(), host.as_bytes()));
        assert_eq!(line.user_host(), expected, "{source}");
    }
}

#[test]
fn every_byte_but_three_passes_through() {
    let text: Vec<u8> = (0..=255).filter(|b| !b"\0\r\n".contains(b)).collect();
    assert_eq!(text.len(), 253);
    let built = LineBuilder::from(b"n!u@h", b"PRIVMSG")
        .param(b"#c")
        .trailing(&text)
        .build();
    let mut framer = Framer::new(framing::Limits::CLIENT);
    framer.push(&[&built[..], b"\r\n"].concat());
    let Some(Framed::Line(line)) = framer.next() else {
        panic!("a line")
    };
    assert_eq!(Line::parse(&line).unwrap().last(), Some(&text[..]));
}

#[test]
fn a_server_introduces_itself() {
    let mut isupport = Isupport::default();
    for raw in [
        ":irc.test 005 ana CHANTYPES=# PREFIX=(ov)@+ CHANMODES=b,k,l,imnst NICKLEN=16 :are supported",
        ":irc.test 005 ana NICKLEN=30 WHOX -CHANTYPES :are supported by this server",
    ] {
        let line = Line::parse(raw.as_bytes()).unwrap();
        assert_eq!(line.numeric(), Some(5));
        line.params()
            .take(line.param_count() - 1)
            .skip(1)
            .for_each(|token| isupport.apply(token));
    }
    assert_eq!(isupport.nick_len(), Some(30));
    assert!(isupport.has(b"WHOX") && !isupport.has(b"CHANTYPES") && isupport.is_channel(b"&c"));
}

#[test]
fn a_stamp_is_read_from_a_line() {
    let line = Line::parse(b"@time=2026-01-02T08:00:05.010Z;msgid=x :a PRIVMSG b :c").unwrap();
    let time = line
        .tags()
        .get(b"time")
        .and_then(|time| Timestamp::parse(&time));
    assert_eq!(time.map(Timestamp::millis), Some(1_767_340_805_010));
}

/// The parameters of a command as `irc-proto` took it, of those that the property below makes.
fn proto_params(command: &Command) -> (String, Vec<String>) {
    let list = |name: &str, params: &[Option<&String>]| {
        (
            name.to_owned(),
            params.iter().copied().flatten().cloned().collect(),
        )
    };
    match command {
        Command::NICK(nick) => list("NICK", &[Some(nick)]),
        Command::QUIT(text) => list("QUIT", &[text.as_ref()]),
        Command::JOIN(channel, key, name) => {
            list("JOIN", &[Some(channel), key.as_ref(), name.as_ref()])
        }
        Command::PART(channel, text) => list("PART", &[Some(channel), text.as_ref()]),
        Command::TOPIC(channel, text) => list("TOPIC", &[Some(channel), text.as_ref()]),
        Command::KICK(channel, nick, text) => {
            list("KICK", &[Some(channel), Some(nick), text.as_ref()])
        }
        Command::INVITE(nick, channel) => list("INVITE", &[Some(nick), Some(channel)]),
        Command::PRIVMSG(to, text) => list("PRIVMSG", &[Some(to), Some(text)]),
        Command::NOTICE(to, text) => list("NOTICE", &[Some(to), Some(text)]),
        Command::PING(a, b) => list("PING", &[Some(a), b.as_ref()]),
        Command::PONG(a, b) => list("PONG", &[Some(a), b.as_ref()]),
        Command::AWAY(text) => list("AWAY", &[text.as_ref()]),
        Command::ACCOUNT(account) => list("ACCOUNT", &[Some(account)]),
        Command::CHGHOST(user, host) => list("CHGHOST", &[Some(user), Some(host)]),
        Command::Response(response, params) => (format!("{:03}", *response as u16), params.clone()),
        Command::Raw(name, params) => (name.clone(), params.clone()),
        other => (
            format!("{other:?} is not among the commands of this test"),
            Vec::new(),
        ),
    }
}

fn well_formed() -> impl Strategy<Value = String> {
    let value = "[!-:<-~]([!-:<-~]|\\\\[:s\\\\rn]){0,12}";
    let tag = ("[+]?[a-z./]{1,8}", prop::option::of(value));
    let tag = tag.prop_map(|(key, value)| match value {
        Some(value) => format!("{key}={value}"),
        None => key,
    });
    let tags = prop::collection::vec(tag, 1..5).prop_map(|tags| format!("@{} ", tags.join(";")));
    let source = prop_oneof![
        "[a-z]{1,9}![~a-z]{1,9}@[a-z0-9.:]{1,20}",
        "[a-z]{1,5}\\.[a-z.]{1,9}"
    ];
    let command = prop_oneof![
        "(NICK|QUIT|JOIN|PART|TOPIC|KICK|INVITE|PRIVMSG|NOTICE|PING|PONG|AWAY|ACCOUNT|CHGHOST|TAGMSG)",
        "[0-9]{3}",
        "Z[A-Z]{1,7}",
    ];
    let middle = prop::collection::vec("[!-9;-~][!-~]{0,9}", 0..13);
    let trailing = prop::option::of("[ -~]{0,40}");
    (
        prop::option::of(tags),
        prop::option::of(source.prop_map(|source| format!(":{source} "))),
        command,
        middle.prop_map(|words| {
            words
                .into_iter()
                .map(|word| format!(" {word}"))
                .collect::<String>()
        }),
        trailing.prop_map(|text| text.map_or_else(String::new, |text| format!(" :{text}"))),
    )
        .prop_map(|(tags, source, command, middle, trailing)| {
            [
                tags.unwrap_or_default(),
                source.unwrap_or_default(),
                command,
                middle,
                trailing,
            ]
            .concat()
        })
}

proptest! {
    #[test]
    fn well_formed_lines_are_read_as_irc_proto_reads_them(raw in well_formed()) {
        let line = Line::parse(raw.as_bytes()).unwrap();
        let message: Message = raw.parse().unwrap();

        let tags: Vec<_> = message.tags.unwrap_or_default().into_iter()
            .map(|tag| (tag.0.into_bytes(), tag.1.unwrap_or_default().into_bytes())).collect();
        let ours: Vec<_> = line.tags()
            .map(|(key, value)| (key.to_vec(), tags::unescape(value).into_owned())).collect();
        prop_assert_eq!(ours, tags);

        match message.prefix {
            None => prop_assert!(line.source().is_empty()),
            Some(Prefix::ServerName(name)) => prop_assert_eq!(line.source(), name.as_bytes()),
            Some(Prefix::Nickname(nick, user, host)) => {
                prop_assert_eq!(line.nick(), nick.as_bytes());
                prop_assert_eq!(line.user_host(), Some((user.as_bytes(), host.as_bytes())));
            }
        }

        let (command, params) = proto_params(&message.command);
        prop_assert_eq!(line.command(), command.as_bytes());
        prop_assert!(line.params().eq(params.iter().map(String::as_bytes)), "{:?}", params);
    }

    #[test]
    fn what_we_build_irc_proto_reads(
        to in "[a-z#]{1,10}",
        text in "[ -~]{0,40}",
        value in "[ -~\r\n]{1,20}",
    ) {
        let built = LineBuilder::from(b"a!b@c", b"PRIVMSG")
            .tag(b"k", value.as_bytes()).param(to.as_bytes()).trailing(text.as_bytes()).build();
        let message: Message = str::from_utf8(&built).unwrap().parse().unwrap();
        prop_assert_eq!(message.tags, Some(vec![irc_proto::message::Tag("k".into(), Some(value))]));
        prop_assert_eq!(message.command, Command::PRIVMSG(to, text));
    }

    #[test]
    fn any_line_is_typed_or_left(raw in "[A-Z]{1,12}( [!-~]{1,5}){0,5}( :[ -~]{0,9})?") {
        let line = Line::parse(raw.as_bytes()).unwrap();
        if let Some(command) = typed::command(&line) {
            let encoded = typed::encode(&command);
            prop_assert!(encoded.is_ok_and(|line| !line.is_empty()), "{:?}", command);
        }
    }
}

/// What `irc-proto` makes of lines that it does not keep: why they are never relayed through it, and why `typed` gives
/// them as [`Command::Raw`]. If one of these fails after an update, look whether `typed` still needs its exception.
#[test]
fn known_differences_of_irc_proto() {
    for (raw, comes_out) in [
        // Loses or moves arguments.
        ("ISON a b c", "USERHOST a b c"),
        ("NICKSERV :identify pw", "NICKSERV"),
        ("WHO #c %tcuhnfar,152", "WHO #c"),
        ("WHO #c x", "WHO #c"),
        ("WHOWAS nick 5", "WHOWAS nick"),
        ("MODE #c +f 5:10", "MODE #c +f"),
        ("MODE #c +H 10:1d", "MODE #c +H"),
        ("MODE #c +fo 5:10 nick", "MODE #c +f+o 5:10"),
        ("MODE #c +jl 3:5 20", "MODE #c +j+l 3:5"),
        ("MODE #c -lk key", "MODE #c -l-k key"),
        ("MODE me +s +cC", "MODE me +s"),
        ("USER me host serv :Real", "USER me host * Real"),
        (":n!@h QUIT", ":n@h QUIT"),
        (":n!u@ QUIT", ":n!u QUIT"),
        ("0005 x", "005 x"),
        // Means the same, in other bytes.
        ("MODE #c +ov a b", "MODE #c +o+v a b"),
        ("MODE me +iwx", "MODE me +i+w+x"),
        ("MODE #c", "MODE #c "),
        ("BATCH +r chathistory #c", "BATCH +r CHATHISTORY #c"),
        ("PRIVMSG #c :hello", "PRIVMSG #c hello"),
        ("JOIN :#c", "JOIN #c"),
        ("privmsg  #c   :a b", "PRIVMSG #c :a b"),
        ("@k=\\a PING x", "@k=a PING x"),
        // Is no line at all.
        (" ", ""),
        ("@a", ""),
        (":a", ""),
    ] {
        let message: Message = raw.parse().expect(raw);
        assert_eq!(message.to_string(), format!("{comes_out}\r\n"), "{raw}");
    }
    let more = "X 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"
        .parse::<Message>()
        .unwrap();
    let Command::Raw(_, params) = more.command else {
        panic!("{:?}", more.command)
    };
    assert_eq!(
        params.last().map(String::as_str),
        Some("14 15"),
        "the rest is folded into one"
    );
    let two = Message::new(None, "PRIVMSG", vec!["#c", "x\r\nQUIT :y"]).unwrap();
    assert_eq!(
        two.to_string(),
        "PRIVMSG #c :x\r\nQUIT :y\r\n",
        "nothing stops an injection"
    );
}

#[test]
fn typed_keeps_what_irc_proto_would_lose() {
    for raw in [
        "ISON a b c",
        "NICKSERV :identify pw",
        "WHO #c %tcuhnfar,152",
        "WHOWAS nick 5",
        "MODE #c +fo 5:10 nick",
        "MODE #c -lk key",
        "BATCH +r chathistory #c",
        "PRIVMSG #c :hello",
    ] {
        let command = typed::command(&Line::parse(raw.as_bytes()).unwrap()).unwrap();
        assert_eq!(typed::encode(&command).unwrap(), raw.as_bytes(), "{raw}");
    }
}
