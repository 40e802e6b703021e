//! WHO and WHOX: of a channel we are on, asked of the server once, with everything a client may want to
//! know, and answered from then on out of `people`, as long as all that is asked is known to be true. Also
//! the replies of WHO, WHOIS and NAMES in the form their asker can read.

use std::borrow::Cow;

use bytes::Bytes;

use crate::wire::{Cap, CapSet, Line, LineBuilder, MemberModes, Name};

use super::Network;
use super::channels::Channel;
use super::families::Family;
use super::feature::{Answer, Asked, Feature, NOTHING, Received, Rule};
use super::people::{Field, Person, are_kept, kept};
use super::turn::{ClientId, Turn};

pub(super) static WHO: Feature = Feature {
    server: &[
        Rule::new(b"352", 1, Network::on_who_row),
        Rule::new(b"354", 1, Network::on_who_row),
        Rule::new(b"315", 1, Network::on_end_of_who),
    ],
    client: &[Rule::new(b"WHO", 0, Network::ask_who)],
    ..NOTHING
};

/// The fields of WHOX in the order in which they are told, whatever the order of asking.
const ORDER: &[u8] = b"tcuihsnfdlaor";
/// What is asked of the server: everything that can be kept.
const ALL: &[u8] = b"tcuhsnfdar";

/// A WHO that may be answered from what is known.
struct Query<'a> {
    mask: &'a [u8],
    /// The letters of WHOX; `None`: a plain WHO.
    fields: Option<&'a [u8]>,
    token: &'a [u8],
}

impl<'a> Query<'a> {
    fn parse(line: &Line<'a>) -> Option<Self> {
        let mask = line.param(0)?;
        let Some(word) = line.param(1) else {
            return Some(Self {
                mask,
                fields: None,
                token: b"",
            });
        };
        let mut parts = word.strip_prefix(b"%")?.splitn(2, |b| *b == b',');
        let fields = parts.next().filter(|f| !f.is_empty())?;
        let token = parts.next().unwrap_or_default();
        let known = fields.iter().all(|letter| ORDER.contains(letter));
        let fits = known && token.len() <= 3 && line.param_count() == 2;
        fits.then_some(Self {
            mask,
            fields: Some(fields),
            token,
        })
    }

    /// What has to be known for an answer; `None`: what cannot be.
    fn needs(&self) -> Option<Vec<Field>> {
        let fields = Field::ALL.into_iter();
        match self.fields {
            None => Some(fields.filter(|f| *f != Field::Account).collect()),
            Some(letters) if letters.iter().all(|letter| ALL.contains(letter)) => {
                Some(fields.filter(|f| letters.contains(&f.letter())).collect())
            }
            Some(_) => None,
        }
    }

    /// A token of ours, which is not the asker's.
    fn our_token(&self) -> &'static [u8] {
        if self.token == b"415" { b"416" } else { b"415" }
    }
}

/// One line of an answer.
struct Row<'a> {
    channel: &'a [u8],
    nick: &'a [u8],
    user: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    server: Option<&'a [u8]>,
    flags: Option<Cow<'a, [u8]>>,
    hops: Option<&'a [u8]>,
    account: Option<&'a [u8]>,
    realname: Option<&'a [u8]>,
}

impl<'a> Row<'a> {
    /// A 352.
    fn plain(line: &Line<'a>) -> Option<Self> {
        let last = line.param(7)?;
        let space = last.iter().position(|b| *b == b' ');
        let (hops, realname) = last.split_at(space.unwrap_or(last.len()));
        Some(Self {
            channel: line.param(1)?,
            user: line.param(2),
            host: line.param(3),
            server: line.param(4),
            nick: line.param(5)?,
            flags: line.param(6).map(Cow::Borrowed),
            hops: Some(hops),
            account: None,
            realname: Some(realname.strip_prefix(b" ").unwrap_or(realname)),
        })
    }

    /// A 354 with these fields.
    fn extended(line: &Line<'a>, fields: &[u8]) -> Option<Self> {
        let told: Vec<u8> = ORDER
            .iter()
            .copied()
            .filter(|l| fields.contains(l))
            .collect();
        if line.param_count() != told.len() + 1 {
            return None;
        }
        let field = |letter| line.param(told.iter().position(|l| *l == letter)? + 1);
        Some(Self {
            channel: field(b'c').unwrap_or(b"*"),
            nick: field(b'n')?,
            user: field(b'u'),
            host: field(b'h'),
            server: field(b's'),
            flags: field(b'f').map(Cow::Borrowed),
            hops: field(b'd'),
            account: field(b'a'),
            realname: field(b'r'),
        })
    }

    /// One member of a channel as it is known, if everything needed is.
    fn known(
        network: &'a Network,
        channel: &'a Channel,
        (nick, modes): (&'a Name, &MemberModes),
        needs: &[Field],
    ) -> Option<Self> {
        let nobody = const { &Person::UNKNOWN };
        let person = network.person(nick).unwrap_or(nobody);
        if !needs.iter().all(|field| person.knows(*field)) {
            return None;
        }
        let mut flags = vec![if person.away == Some(true) {
            b'G'
        } else {
            b'H'
        }];
        flags.extend_from_slice(person.marks.as_deref().unwrap_or_default());
        network.isupport().write_prefixes(*modes, true, &mut flags);
        Some(Self {
            channel: channel.name.as_bytes(),
            nick: nick.as_bytes(),
            user: person.user.as_deref(),
            host: person.host.as_deref(),
            server: person.server.as_deref(),
            flags: Some(Cow::Owned(flags)),
            hops: person.hops.as_deref(),
            account: person.account.as_deref(),
            realname: person.realname.as_deref(),
        })
    }

    /// The line in the form of the question.
    fn line(&self, source: &[u8], own: &[u8], query: &Query<'_>, flags: &[u8]) -> Bytes {
        let text = |value: Option<&'a [u8]>| value.unwrap_or(b"*");
        let Some(fields) = query.fields else {
            let line = [(self.channel), text(self.user), text(self.host)]
                .into_iter()
                .chain([text(self.server), self.nick, flags])
                .fold(LineBuilder::from(source, b"352").param(own), |line, p| {
                    line.param(p)
                });
            let realname = self.realname.unwrap_or_default();
            let last = [self.hops.unwrap_or(b"0"), b" ", realname].concat();
            return line.trailing(&last).build();
        };
        let mut line = LineBuilder::from(source, b"354").param(own);
        for letter in ORDER.iter().filter(|letter| fields.contains(letter)) {
            line = match letter {
                b't' if query.token.is_empty() => line.param(b"0"),
                b't' => line.param(query.token),
                b'c' => line.param(self.channel),
                b'u' => line.param(text(self.user)),
                b'h' => line.param(text(self.host)),
                b's' => line.param(text(self.server)),
                b'n' => line.param(self.nick),
                b'f' => line.param(flags),
                b'd' => line.param(self.hops.unwrap_or(b"0")),
                b'a' => line.param(self.account.unwrap_or(b"0")),
                b'r' => line.trailing(self.realname.unwrap_or_default()),
                _ => line.param(b"*"),
            };
        }
        line.build()
    }
}

/// What a row tells, and whether it is in the form in which we asked, not the asker.
fn read<'a>(line: &Line<'a>, query: &Query<'_>) -> Option<(Row<'a>, bool)> {
    let extended = line.numeric() == Some(354);
    let ours = Row::extended(line, ALL);
    match (ours, query.fields) {
        (Some(ours), _) if extended && line.param(1) == Some(query.our_token()) => {
            Some((ours, true))
        }
        (_, Some(fields)) if extended => Some((Row::extended(line, fields)?, false)),
        (_, None) if !extended => Some((Row::plain(line)?, false)),
        _ => None,
    }
}

impl Network {
    fn caps_of(&self, client: ClientId) -> CapSet {
        self.clients
            .get(&client)
            .map(|client| client.caps)
            .unwrap_or_default()
    }

    fn ask_who(&mut self, asked: &Asked<'_>, turn: &mut Turn) -> Answer {
        let known =
            Query::parse(&asked.line).and_then(|query| self.who_known(asked.from, &query, &[]));
        let Some(lines) = known else {
            return self.forward(asked, turn);
        };
        lines
            .into_iter()
            .for_each(|line| turn.tell(asked.from, line));
        Answer::Now
    }

    /// A channel we are on, all of whose members are known.
    fn who_channel(&self, query: &Query<'_>) -> Option<&Channel> {
        let name = self.name(query.mask);
        let channel = self.link()?.channels.get(&name)?;
        channel.complete.then_some(channel)
    }

    /// The whole answer, if all of it is known. `fresh`: what the server has told of all members just now.
    fn who_known(&self, to: ClientId, query: &Query<'_>, fresh: &[Field]) -> Option<Vec<Bytes>> {
        let needs = query.needs()?;
        let old: Vec<Field> = needs
            .iter()
            .copied()
            .filter(|f| !fresh.contains(f))
            .collect();
        if !are_kept(&old, self.caps_of_link()) {
            return None;
        }
        let channel = self.who_channel(query)?;
        let mut lines = Vec::with_capacity(channel.members.len() + 1);
        for member in &channel.members {
            let row = Row::known(self, channel, member, &needs)?;
            lines.push(self.who_line(to, self.settings.server.as_bytes(), &row, query));
        }
        let end = self
            .numeric(315)
            .param(query.mask)
            .trailing(b"End of /WHO list.");
        lines.push(end.build());
        Some(lines)
    }

    fn who_line(&self, to: ClientId, source: &[u8], row: &Row<'_>, query: &Query<'_>) -> Bytes {
        let all = self.caps_of(to).has(Cap::MultiPrefix);
        let flags = row.flags.as_deref().unwrap_or(b"H");
        let cut = if all {
            flags.to_vec()
        } else {
            self.cut_flags(flags)
        };
        row.line(source, self.nick(), query, &cut)
    }

    /// What is sent for a client's WHO: of a channel we are on everything is asked that can be kept.
    pub(super) fn who_for_server(&self, line: &Bytes) -> Bytes {
        let parsed = Line::parse(line).ok();
        let query = parsed.as_ref().and_then(Query::parse).filter(|query| {
            self.isupport().has(b"WHOX")
                && query.needs().is_some()
                && self.who_channel(query).is_some()
        });
        let Some(query) = query else {
            return line.clone();
        };
        let word = [b"%", ALL, b",", query.our_token()].concat();
        let whox = LineBuilder::new(b"WHO").param(query.mask).param(&word);
        whox.build()
    }

    /// A row for whoever asked. Whatever it tells of somebody we see is known from now on.
    fn on_who_row(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let question = self.question_at_hand(Family::Who, turn);
        let question = question.map(|(id, request)| (id, request.asker, request.line.clone()));
        let Some((id, asker, asked)) = question else {
            return self.on_numeric(received, turn);
        };
        let asked = Line::parse(&asked).ok();
        let query = asked.as_ref().and_then(Query::parse);
        let row = query.as_ref().and_then(|query| read(&received.line, query));
        let (Some(query), Some((row, is_ours))) = (query, row) else {
            return self.on_numeric(received, turn);
        };
        let person = self.person_of(&row);
        if is_ours {
            if let Some(asker) = asker {
                let line = self.who_line(asker, received.line.source(), &row, &query);
                turn.tell(asker, line);
            }
            self.on_reply_in_our_form(id, turn);
        } else {
            self.on_numeric(received, turn);
        }
        self.learn(row.nick, person);
    }

    fn person_of(&self, row: &Row<'_>) -> Person {
        let text = |value: Option<&[u8]>| value.and_then(kept);
        let marks = row.flags.as_deref().map(|flags| {
            let (marks, _) = self.split_flags(flags);
            marks.get(1..).unwrap_or_default().to_vec()
        });
        Person {
            user: text(row.user),
            host: text(row.host),
            server: text(row.server),
            hops: text(row.hops),
            account: text(row.account),
            realname: text(row.realname),
            away: row
                .flags
                .as_deref()
                .map(|flags| flags.first() == Some(&b'G')),
            marks: marks.as_deref().and_then(kept),
        }
    }

    /// The answer is complete: whoever waits to ask about the same channel has it with that.
    fn on_end_of_who(&mut self, received: &Received<'_>, turn: &mut Turn) {
        let question = self.question_at_hand(Family::Who, turn);
        let asked = question.map(|(_, request)| request.line.clone());
        let asked = asked.as_ref().and_then(|line| Line::parse(line).ok());
        if let Some(query) = asked.as_ref().and_then(Query::parse) {
            let whole = self.isupport().has(b"WHOX") && self.who_channel(&query).is_some();
            let fresh = match query.needs() {
                Some(_) if whole => Field::ALL.to_vec(),
                needs => needs.unwrap_or_default(),
            };
            self.answer_followers(query.mask, &fresh, turn);
        }
        self.on_numeric(received, turn);
    }

    fn answer_followers(&mut self, channel: &[u8], fresh: &[Field], turn: &mut Turn) {
        for id in self.followers_of(channel) {
            let request = self.pending.requests.get(&id);
            let Some((asker, line)) = request.and_then(|r| Some((r.asker?, r.line.clone()))) else {
                continue;
            };
            let line = Line::parse(&line).ok();
            let query = line.as_ref().and_then(Query::parse);
            let lines = query.and_then(|query| self.who_known(asker, &query, fresh));
            if let Some(lines) = lines {
                self.answer_follower(id, lines, turn);
            }
        }
    }

    /// A reply as the asker may see it: one prefix for each member without multi-prefix, no hosts in
    /// NAMES without userhost-in-names.
    pub(super) fn reply_form(&self, to: ClientId, received: &Received<'_>, turn: &Turn) -> Bytes {
        let caps = self.caps_of(to);
        let link_caps = self.caps_of_link();
        let cut_prefixes = link_caps.has(Cap::MultiPrefix) && !caps.has(Cap::MultiPrefix);
        let cut_hosts = link_caps.has(Cap::UserhostInNames) && !caps.has(Cap::UserhostInNames);
        let is = |command| received.line.is(command);
        if !caps.has(Cap::StandardReplies) && (is(b"WARN") || is(b"NOTE")) {
            return self.standard_notice(received);
        }
        match received.line.numeric() {
            Some(353) if cut_prefixes || cut_hosts || received.line.param_count() < 4 => self
                .names_form(received, |member| {
                    self.cut_member(member, cut_prefixes, cut_hosts)
                }),
            Some(319) if cut_prefixes => self.rewrite(received, 2, |channel| {
                let name = channel
                    .iter()
                    .position(|b| self.isupport().is_channel(&[*b]));
                let (prefixes, name) = channel.split_at(name.unwrap_or(0));
                [&prefixes[..prefixes.len().min(1)], name].concat()
            }),
            Some(352) if cut_prefixes => self.rewrite(received, 6, |flags| self.cut_flags(flags)),
            Some(354) if cut_prefixes => match self.flags_of_whox(turn) {
                Some(n) => self.rewrite(received, n, |flags| self.cut_flags(flags)),
                None => received.body(),
            },
            _ => received.body(),
        }
    }

    /// 353 with all of its parameters, and each member in another form.
    fn names_form(&self, received: &Received<'_>, member: impl Fn(&[u8]) -> Vec<u8>) -> Bytes {
        let Some((symbol, channel, _)) = self.parts_of_names(received) else {
            return received.body();
        };
        if received.line.param_count() >= 4 {
            return self.rewrite(received, 3, member);
        }
        let line = LineBuilder::from(received.line.source(), b"353")
            .param(received.line.param(0).unwrap_or_default())
            .param(&[symbol])
            .param(channel)
            .trailing(received.line.last().unwrap_or_default())
            .build();
        let whole = Line::parse(&line).map(|whole| Received {
            line: whole,
            raw: &line,
            lines: None,
        });
        whole.map_or_else(|_| line.clone(), |whole| self.rewrite(&whole, 3, member))
    }

    /// Which parameter of a 354 has the flags, by what was asked.
    fn flags_of_whox(&self, turn: &Turn) -> Option<usize> {
        let (_, question) = self.question_at_hand(Family::Who, turn)?;
        let line = Line::parse(&question.line).ok()?;
        let fields = Query::parse(&line)?.fields?;
        let mut told = ORDER.iter().filter(|letter| fields.contains(letter));
        told.position(|letter| *letter == b'f').map(|n| n + 1)
    }

    /// The line with the words of one parameter replaced.
    fn rewrite(&self, received: &Received<'_>, n: usize, word: impl Fn(&[u8]) -> Vec<u8>) -> Bytes {
        let line = &received.line;
        let last = line.param_count().saturating_sub(1);
        let mut builder = LineBuilder::from(line.source(), line.command());
        for (i, parameter) in line.params().enumerate() {
            let words: Vec<_> = parameter
                .split(|b| *b == b' ')
                .filter(|w| !w.is_empty())
                .collect();
            let parameter = match i == n {
                true => words.into_iter().map(&word).collect::<Vec<_>>().join(&b' '),
                false => parameter.to_vec(),
            };
            builder = if i == last {
                builder.trailing(&parameter)
            } else {
                builder.param(&parameter)
            };
        }
        builder.build()
    }

    fn cut_member(&self, member: &[u8], cut_prefixes: bool, cut_hosts: bool) -> Vec<u8> {
        let (modes, mask) = self.isupport().split_prefixes(member);
        let nick = mask.split(|b| *b == b'!').next().unwrap_or_default();
        let mut out = Vec::with_capacity(member.len());
        self.isupport()
            .write_prefixes(modes, !cut_prefixes, &mut out);
        out.extend_from_slice(if cut_hosts { nick } else { mask });
        out
    }

    /// `H*@+`: what is the person's, and what is the channel's.
    fn split_flags(&self, flags: &[u8]) -> (Vec<u8>, Vec<u8>) {
        flags
            .iter()
            .partition(|b| self.isupport().split_prefixes(&[**b, b'x']).0.is_empty())
    }

    /// `H*@+` keeps the first of its prefixes.
    fn cut_flags(&self, flags: &[u8]) -> Vec<u8> {
        let (letters, prefixes) = self.split_flags(flags);
        letters
            .into_iter()
            .chain(prefixes.into_iter().take(1))
            .collect()
    }
}
