//! One line of IRC: a borrowed view for reading, which allocates nothing, and a builder for lines of our own, which
//! nothing can be injected into. A line is bytes: what is not UTF-8 passes through. Line ends are `framing`'s.

use std::fmt;

use bytes::Bytes;
use memchr::{memchr, memchr2, memchr3};

use super::tags::{self, Tags};

/// Why bytes are not a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// There is nothing, or nothing but spaces.
    #[error("the line is empty")]
    Empty,
    /// Tags or a source, but no command after them.
    #[error("the line has no command")]
    NoCommand,
    /// A command that is not made of ASCII letters and digits.
    #[error("the command is not made of letters and digits")]
    BadCommand,
}

/// One line without its line end, as a view on the bytes that came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    raw: &'a [u8],
    tags: &'a [u8],
    body: &'a [u8],
    source: &'a [u8],
    command: &'a [u8],
    params: &'a [u8],
}

impl<'a> Line<'a> {
    /// Finds the parts of a line. Spaces too many are allowed everywhere, except before tags.
    pub fn parse(raw: &'a [u8]) -> Result<Self, LineError> {
        let (tags, body) = match raw {
            [b'@', rest @ ..] => split_word(rest),
            _ => (&raw[..0], skip_spaces(raw)),
        };
        let (source, after) = match body {
            [b':', rest @ ..] => split_word(rest),
            _ => (&raw[..0], body),
        };
        let (command, params) = split_word(after);
        if command.is_empty() {
            let nothing = tags.is_empty() && body.is_empty() && !raw.starts_with(b"@");
            return Err(if nothing {
                LineError::Empty
            } else {
                LineError::NoCommand
            });
        }
        if !command.iter().all(u8::is_ascii_alphanumeric) {
            return Err(LineError::BadCommand);
        }
        Ok(Self {
            raw,
            tags,
            body,
            source,
            command,
            params,
        })
    }

    /// The whole line.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// What stands between `@` and the space; nothing when there are no tags.
    pub fn raw_tags(&self) -> &'a [u8] {
        self.tags
    }

    /// Everything after the tags: what is stored and relayed.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The tags, one by one.
    pub fn tags(&self) -> Tags<'a> {
        Tags::new(self.tags)
    }

    /// Who sent it, without `:`; nothing when the line does not say.
    pub fn source(&self) -> &'a [u8] {
        self.source
    }

    /// The source up to `!` or `@`: a nick or a server's name.
    pub fn nick(&self) -> &'a [u8] {
        &self.source[..memchr2(b'!', b'@', self.source).unwrap_or(self.source.len())]
    }

    /// User and host of the source, when it has both.
    pub fn user_host(&self) -> Option<(&'a [u8], &'a [u8])> {
        let (_, rest) = split_once(self.source, b'!')?;
        split_once(rest, b'@')
    }

    /// The command as it is spelled.
    pub fn command(&self) -> &'a [u8] {
        self.command
    }

    /// Whether this is the command, in whatever case.
    pub fn is(&self, command: &[u8]) -> bool {
        self.command.eq_ignore_ascii_case(command)
    }

    /// The number of a reply: a command of exactly three digits.
    pub fn numeric(&self) -> Option<u16> {
        let [a, b, c] = *self.command else {
            return None;
        };
        let digit = |byte: u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
        Some(digit(a)? * 100 + digit(b)? * 10 + digit(c)?)
    }

    /// The parameters, one by one; the last one without its `:`.
    pub fn params(&self) -> Params<'a> {
        Params { rest: self.params }
    }

    /// The parameter at `n`, counted from 0.
    pub fn param(&self, n: usize) -> Option<&'a [u8]> {
        self.params().nth(n)
    }

    /// How many parameters there are.
    pub fn param_count(&self) -> usize {
        self.params().count()
    }

    /// The last parameter.
    pub fn last(&self) -> Option<&'a [u8]> {
        self.params().last()
    }

    /// The bytes from parameter `n` to the end, `:` included as it stands; nothing when there is no such parameter.
    pub fn rest(&self, n: usize) -> &'a [u8] {
        let mut params = self.params();
        for _ in 0..n {
            params.next();
        }
        params.rest
    }
}

impl fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(self.raw), f)
    }
}

/// The parameters of a line.
#[derive(Debug, Clone, Copy)]
pub struct Params<'a> {
    /// What has not been given out yet; never begins with a space.
    rest: &'a [u8],
}

impl<'a> Iterator for Params<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self.rest {
            [] => None,
            [b':', text @ ..] => {
                self.rest = &[];
                Some(text)
            }
            rest => {
                let (param, rest) = split_word(rest);
                self.rest = rest;
                Some(param)
            }
        }
    }
}

/// The bytes up to the first space, and what follows the spaces.
fn split_word(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b' ', bytes) {
        Some(end) => (&bytes[..end], skip_spaces(&bytes[end..])),
        None => (bytes, &[]),
    }
}

fn skip_spaces(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|&&b| b == b' ').count()..]
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let i = memchr(at, bytes)?;
    Some((&bytes[..i], &bytes[i + 1..]))
}

/// Builds one line. Whatever it is given it stays one line with the parameters it was given: a value is cut at CR, LF or
/// NUL, and what cannot be a middle parameter is changed until it can.
#[derive(Debug, Clone)]
#[must_use]
pub struct LineBuilder {
    tags: Vec<u8>,
    body: Vec<u8>,
    ended: bool,
}

impl LineBuilder {
    /// A line without a source.
    pub fn new(command: &[u8]) -> Self {
        Self::from(b"", command)
    }

    /// A line from somebody; an empty source is left out.
    pub fn from(source: &[u8], command: &[u8]) -> Self {
        let mut body = Vec::with_capacity(128);
        let source = first_word(source);
        if !source.is_empty() {
            body.push(b':');
            body.extend_from_slice(source);
            body.push(b' ');
        }
        let start = body.len();
        body.extend(command.iter().copied().filter(u8::is_ascii_alphanumeric));
        if body.len() == start {
            body.push(b'*'); // Else the first parameter would become the command.
        }
        Self {
            tags: Vec::new(),
            body,
            ended: false,
        }
    }

    /// A reply of the server to somebody; `to` is `*` as long as nobody is known.
    pub fn numeric(server: &[u8], n: u16, to: &[u8]) -> Self {
        let digits = [n / 100 % 10, n / 10 % 10, n % 10].map(|d| b"0123456789"[usize::from(d)]);
        Self::from(server, &digits).param(to)
    }

    /// A tag; its value is escaped and may be empty. A key is cut where it cannot go on, and left out when nothing is left.
    pub fn tag(mut self, key: &[u8], value: &[u8]) -> Self {
        let end = key
            .iter()
            .position(|b| matches!(b, 0 | b'\r' | b'\n' | b' ' | b';' | b'='));
        let key = &key[..end.unwrap_or(key.len())];
        if key.is_empty() {
            return self;
        }
        self.tags
            .push(if self.tags.is_empty() { b'@' } else { b';' });
        self.tags.extend_from_slice(key);
        let value = &value[..memchr(0, value).unwrap_or(value.len())];
        if !value.is_empty() {
            self.tags.push(b'=');
            tags::escape(value, &mut self.tags);
        }
        self
    }

    /// A middle parameter: cut at a space, `*` when it is empty, with a `0` in front when it begins with `:` (RFC 4291
    /// allows that for addresses). Nothing can follow a trailing one.
    pub fn param(mut self, param: &[u8]) -> Self {
        if self.ended {
            return self;
        }
        self.body.push(b' ');
        match first_word(param) {
            [] => self.body.push(b'*'),
            word => {
                if word.starts_with(b":") {
                    self.body.push(b'0');
                }
                self.body.extend_from_slice(word);
            }
        }
        self
    }

    /// Several middle parameters.
    pub fn params<P: AsRef<[u8]>>(self, params: impl IntoIterator<Item = P>) -> Self {
        params
            .into_iter()
            .fold(self, |line, param| line.param(param.as_ref()))
    }

    /// The last parameter, always with `:`, whatever it holds.
    pub fn trailing(mut self, text: &[u8]) -> Self {
        if self.ended {
            return self;
        }
        self.ended = true;
        self.body.extend_from_slice(b" :");
        self.body.extend_from_slice(until_control(text));
        self
    }

    /// The line without a line end.
    pub fn build(self) -> Bytes {
        if self.tags.is_empty() {
            return self.body.into();
        }
        let mut line = self.tags;
        line.reserve_exact(self.body.len() + 1);
        line.push(b' ');
        line.extend_from_slice(&self.body);
        line.into()
    }
}

fn until_control(value: &[u8]) -> &[u8] {
    &value[..memchr3(0, b'\r', b'\n', value).unwrap_or(value.len())]
}

fn first_word(value: &[u8]) -> &[u8] {
    let value = until_control(value);
    &value[..memchr(b' ', value).unwrap_or(value.len())]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(raw: &str) -> Line<'_> {
        Line::parse(raw.as_bytes()).unwrap()
    }

    #[test]
    fn the_parts_of_a_line_are_found() {
        let line = parse("@a=b;c :nick!user@host PRIVMSG #c x :a text  ");
        assert_eq!(line.raw_tags(), b"a=b;c");
        assert_eq!(line.body(), b":nick!user@host PRIVMSG #c x :a text  ");
        assert_eq!(line.source(), b"nick!user@host");
        assert_eq!(line.nick(), b"nick");
        assert_eq!(line.user_host(), Some((&b"user"[..], &b"host"[..])));
        assert!(line.is(b"privmsg") && !line.is(b"PRIV"));
        assert_eq!(
            line.params().collect::<Vec<_>>(),
            [&b"#c"[..], b"x", b"a text  "]
        );
        assert_eq!((line.param(1), line.param(3)), (Some(&b"x"[..]), None));
        assert_eq!(
            (line.param_count(), line.last()),
            (3, Some(&b"a text  "[..]))
        );
    }

    #[test]
    fn the_rest_is_as_it_stands() {
        let line = parse("PRIVMSG  #c   :a  text ");
        for (n, rest) in [(0, "#c   :a  text "), (1, ":a  text "), (2, ""), (9, "")] {
            assert_eq!(line.rest(n), rest.as_bytes(), "from {n}");
        }
        assert_eq!(parse("CAROM network create :x").rest(1), b"create :x");
    }

    #[test]
    fn a_source_without_user_or_host_has_none() {
        for (source, nick) in [
            ("irc.test", "irc.test"),
            ("n@h", "n"),
            ("n!u", "n"),
            ("n", "n"),
        ] {
            let raw = format!(":{source} PING x");
            let line = parse(&raw);
            assert_eq!(
                (line.nick(), line.user_host()),
                (nick.as_bytes(), None),
                "{source}"
            );
        }
    }

    #[test]
    fn a_numeric_has_three_digits() {
        for (command, numeric) in [
            ("001", Some(1)),
            ("999", Some(999)),
            ("0005", None),
            ("01", None),
            ("1a2", None),
        ] {
            assert_eq!(parse(command).numeric(), numeric, "{command}");
        }
    }

    #[test]
    fn what_is_not_a_line_says_why() {
        use LineError::{BadCommand, Empty, NoCommand};
        for (raw, error) in [
            ("", Empty),
            ("   ", Empty),
            ("@", NoCommand),
            ("@a=b", NoCommand),
            ("@a ", NoCommand),
            (":", NoCommand),
            (":source  ", NoCommand),
            ("P\u{e9}NG x", BadCommand),
            ("PRIV-MSG #c", BadCommand),
            (" @a PING x", BadCommand),
        ] {
            assert_eq!(Line::parse(raw.as_bytes()), Err(error), "{raw:?}");
        }
        assert_eq!(parse(": PING x").source(), b"", "an empty source is none");
    }

    #[test]
    fn a_built_line_stays_one_line_with_its_parameters() {
        let line = LineBuilder::from(b"n!u@h x", b"PRIV MSG")
            .tag(b"label", b"a;b c\r\n")
            .tag(b"empty", b"")
            .tag(b"ke=y", b"v")
            .tag(b"=", b"left out")
            .param(b"::1")
            .param(b"")
            .param(b"two words")
            .trailing(b"text\r\nQUIT")
            .param(b"too late")
            .trailing(b"too late")
            .build();
        assert_eq!(
            line,
            "@label=a\\:b\\sc\\r\\n;empty;ke=v :n!u@h PRIVMSG 0::1 * two :text".as_bytes()
        );
        assert_eq!(
            LineBuilder::numeric(b"irc.test", 5, b"").build(),
            ":irc.test 005 *".as_bytes()
        );
        let nameless = LineBuilder::new(b"\r\n").params(["QUIT", "x"]).build();
        assert_eq!(Line::parse(&nameless), Err(LineError::BadCommand));
    }

    /// Bytes that can be a middle parameter, a source or a tag's key.
    fn word() -> impl Strategy<Value = Vec<u8>> {
        let byte = any::<u8>().prop_filter("separator", |b| !b"\0\r\n :;=@!".contains(b));
        prop::collection::vec(byte, 1..20)
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let byte = any::<u8>().prop_filter("control", |b| !b"\0\r\n".contains(b));
        prop::collection::vec(byte, 0..60)
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(
            raw in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..80),
                "[@: ]{0,3}[@:a;= ]{0,20}".prop_map(String::into_bytes),
            ]
        ) {
            let Ok(line) = Line::parse(&raw) else { return Ok(()) };
            prop_assert!(raw.ends_with(line.body()));
            prop_assert!(line.body().ends_with(line.rest(0)));
            prop_assert_eq!(line.param_count(), line.params().count());
            prop_assert_eq!(line.last(), line.param(line.param_count().wrapping_sub(1)));
            let again = Line::parse(line.body()).unwrap();
            prop_assert_eq!(again.command(), line.command());
            prop_assert!(line.params().eq(again.params()));
        }

        #[test]
        fn build_then_parse_is_the_identity(
            tags in prop::collection::vec((word(), prop::collection::vec(1..=255_u8, 0..20)), 0..4),
            source in prop::option::of(word()),
            command in "[A-Z0-9]{1,10}",
            params in prop::collection::vec(word(), 0..6),
            text in prop::option::of(text()),
        ) {
            let source = source.unwrap_or_default();
            let mut builder = LineBuilder::from(&source, command.as_bytes()).params(&params);
            for (key, value) in &tags {
                builder = builder.tag(key, value);
            }
            if let Some(text) = &text {
                builder = builder.trailing(text);
            }
            let raw = builder.build();
            let line = Line::parse(&raw).unwrap();
            let read: Vec<_> =
                line.tags().map(|(k, v)| (k.to_vec(), tags::unescape(v).into_owned())).collect();
            prop_assert_eq!(read, tags);
            prop_assert_eq!(line.source(), source);
            prop_assert_eq!(line.command(), command.as_bytes());
            prop_assert!(line.params().eq(params.iter().chain(&text).map(Vec::as_slice)));
        }

        #[test]
        fn nothing_can_be_injected(parts in prop::collection::vec(any::<Vec<u8>>(), 5)) {
            let raw = LineBuilder::from(&parts[0], b"NOTICE")
                .tag(&parts[1], &parts[2]).param(&parts[3]).trailing(&parts[4]).build();
            prop_assert!(!raw.iter().any(|b| b"\0\r\n".contains(b)));
            let line = Line::parse(&raw).unwrap();
            prop_assert_eq!((line.command(), line.param_count()), (&b"NOTICE"[..], 2));
        }
    }
}
