//! WHO and WHOIS: replies in the form their asker can read, cut to what it negotiated. Who asked is
//! `pending`'s to know.

use bytes::Bytes;

use crate::wire::{Cap, LineBuilder};

use super::Network;
use super::feature::{Feature, NOTHING, Received};
use super::turn::ClientId;

/// Nothing is claimed yet: WHO is the server's, only its replies are cut to size.
pub(super) static WHO: Feature = NOTHING;

impl Network {
    /// A reply as the asker may see it: one prefix for each member without multi-prefix, no hosts in
    /// NAMES without userhost-in-names.
    pub(super) fn reply_form(&self, to: ClientId, received: &Received<'_>) -> Bytes {
        let caps = self
            .clients
            .get(&to)
            .map(|client| client.caps)
            .unwrap_or_default();
        let link_caps = self.caps_of_link();
        let cut_prefixes = link_caps.has(Cap::MultiPrefix) && !caps.has(Cap::MultiPrefix);
        let cut_hosts = link_caps.has(Cap::UserhostInNames) && !caps.has(Cap::UserhostInNames);
        match received.line.numeric() {
            Some(353) if cut_prefixes || cut_hosts => self.rewrite(received, 3, |member| {
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
            _ => received.body(),
        }
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

    /// `H*@+` keeps the first of its prefixes.
    fn cut_flags(&self, flags: &[u8]) -> Vec<u8> {
        let (letters, prefixes): (Vec<u8>, Vec<u8>) = flags
            .iter()
            .partition(|b| self.isupport().split_prefixes(&[**b, b'x']).0.is_empty());
        letters
            .into_iter()
            .chain(prefixes.into_iter().take(1))
            .collect()
    }
}
