//! Lines that are taken back, and targets that go by another name.

use super::*;

fn said(id: u64, target: &str, msgid: &str) -> Write {
    Write::Entry(Entry {
        msgid: Some(Bytes::copy_from_slice(msgid.as_bytes())),
        ..entry(id, target, "x")
    })
}

async fn of(log: &Log, target: &str) -> Vec<u64> {
    let lines = log.by_target(&name(target), ALL, Only::All, 9).await;
    numbers(&lines.unwrap())
}

#[tokio::test]
async fn what_is_redacted_is_gone_and_nothing_else() {
    for (_place, _history, log) in everywhere().await {
        log.append(said(1, "#a", "m1"));
        log.append(said(2, "#b", "m1"));
        log.append(said(3, "#a", "m3"));
        for (target, msgid) in [("#A", "m1"), ("#a", "unheard"), ("#none", "m3")] {
            log.append(Write::Redact {
                target: name(target),
                msgid: Bytes::copy_from_slice(msgid.as_bytes()),
            });
        }
        log.append(Write::Entry(entry(4, "#a", "x")));
        settled(&log, 4).await;
        assert_eq!(of(&log, "#a").await, [3, 4]);
        assert_eq!(of(&log, "#b").await, [2]);
    }
}

#[tokio::test]
async fn a_target_takes_its_lines_along() {
    for (_place, _history, log) in everywhere().await {
        let rename = |old, new| Write::Rename(name(old), name(new));
        log.append(Write::Entry(entry(1, "#old", "x")));
        log.append(rename("#old", "#new"));
        log.append(Write::Entry(entry(2, "#new", "x")));
        // The old name may be used by others, and taken up again.
        log.append(Write::Entry(entry(3, "#old", "x")));
        log.append(rename("#none", "#nothing"));
        settled(&log, 3).await;
        assert_eq!(of(&log, "#new").await, [1, 2]);
        assert_eq!(of(&log, "#old").await, [3]);
        log.append(rename("#new", "#old"));
        log.append(Write::Entry(entry(4, "#old", "x")));
        settled(&log, 4).await;
        assert_eq!(of(&log, "#old").await, [1, 2, 3, 4]);
        assert_eq!(of(&log, "#new").await, [0; 0]);
    }
}
