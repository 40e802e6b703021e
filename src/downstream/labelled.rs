//! Answers that a client's own task makes, under the label of their question: one line, a batch, or ACK. What
//! the network answers is labelled by `state`.

use bytes::Bytes;

use crate::clock;
use crate::state::forms::{self, Dress};
use crate::state::{Shown, View};
use crate::wire::{Cap, Line, LineBuilder, Timestamp};

/// Appends the lines of an answer, each with its line end, under a label.
pub(super) fn write(
    answer: &[u8],
    label: &Bytes,
    batch: &str,
    server: &str,
    view: View,
    out: &mut Vec<u8>,
) {
    let dress = Dress {
        label: Some(label),
        ..Dress::default()
    };
    let own = |command: &[u8]| LineBuilder::from(server.as_bytes(), command);
    let mut lines = answer.split_inclusive(|b| *b == b'\n');
    match (lines.next(), lines.next()) {
        (None, _) => encode(own(b"ACK"), view, dress, out),
        (Some(line), None) => write_line(b"label=", label, line, out),
        (Some(_), Some(_)) => {
            let opening = own(b"BATCH").param(format!("+{batch}").as_bytes());
            encode(opening.param(b"labeled-response"), view, dress, out);
            for line in answer.split_inclusive(|b| *b == b'\n') {
                write_line(b"batch=", batch.as_bytes(), line, out);
            }
            let closing = own(b"BATCH").param(format!("-{batch}").as_bytes());
            encode(closing, view, Dress::default(), out);
        }
    }
}

/// A line of ours, in the form the client gets lines.
pub(super) fn encode(line: LineBuilder, view: View, dress: Dress<'_>, out: &mut Vec<u8>) {
    let shown = Shown {
        time: clock().time,
        msgid: None,
        tags: Bytes::new(),
        line: line.build(),
    };
    forms::encode(&shown, view, dress, out);
}

/// A line of ours that has one form for all, with its time for who wants to know it: numerics are answers, and have none.
pub(super) fn write_own(line: &[u8], view: View, now: Timestamp, out: &mut Vec<u8>) {
    let is_numeric = Line::parse(line).is_ok_and(|line| line.numeric().is_some());
    if view.caps.has(Cap::ServerTime) && !is_numeric {
        out.extend_from_slice(b"@time=");
        now.write(out);
        out.push(b' ');
    }
    out.extend_from_slice(line);
    out.extend_from_slice(b"\r\n");
}

/// A line with one tag more.
pub(super) fn write_line(key: &[u8], value: &[u8], line: &[u8], out: &mut Vec<u8>) {
    out.push(b'@');
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    match line.strip_prefix(b"@") {
        Some(rest) => {
            out.push(b';');
            out.extend_from_slice(rest);
        }
        None => {
            out.push(b' ');
            out.extend_from_slice(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::CapSet;

    fn labelled(answer: &str) -> String {
        let caps = [Cap::Batch, Cap::LabeledResponse];
        let view = View::of(caps.into_iter().collect::<CapSet>());
        let mut out = Vec::new();
        let label = Bytes::from_static(b"x");
        write(answer.as_bytes(), &label, "a1", "bnc", view, &mut out);
        String::from_utf8(out).unwrap().replace("\r\n", "|")
    }

    #[test]
    fn a_label_is_answered_by_one_line_a_batch_or_ack() {
        assert_eq!(labelled(""), "@label=x :bnc ACK|");
        assert_eq!(labelled(":a NOTICE b c\r\n"), "@label=x :a NOTICE b c|");
        assert_eq!(
            labelled("@time=1 :a NOTICE b c\r\n:a NOTICE b d\r\n"),
            "@label=x :bnc BATCH +a1 labeled-response|@batch=a1;time=1 :a NOTICE b c|\
             @batch=a1 :a NOTICE b d|:bnc BATCH -a1|"
        );
    }
}
