//! What a client missed, against a model that counts.

use proptest::prelude::*;

use super::*;

/// What [`Log::missed`] should say, from the entries themselves.
fn missed_by_counting(entries: &[Entry], ask: &Missed) -> Vec<MissedTarget> {
    let mut found = Vec::new();
    for target in ["#a", "#b", "#c"] {
        let target = name(target);
        let own = ask.overrides.iter().find(|(folded, ..)| target.is(folded));
        let (newest, kinds) = own.map_or((ask.newest, ask.kinds), |&(_, newest, kinds)| {
            (newest, kinds)
        });
        let lines: Vec<&Entry> = entries
            .iter()
            .filter(|entry| entry.target == target && entry.id <= ask.through)
            .filter(|entry| kinds == Only::All || entry.kind == Kind::Message)
            .collect();
        let Some(last) = lines.last().filter(|last| last.id > ask.after) else {
            continue;
        };
        let over = lines
            .len()
            .checked_sub(usize::try_from(newest).unwrap())
            .filter(|&over| over > 0 && newest > 0);
        let spelled = entries
            .iter()
            .rfind(|entry| entry.target == target)
            .unwrap();
        found.push(MissedTarget {
            target: Bytes::copy_from_slice(spelled.target.as_bytes()),
            last: last.id,
            nth: over.map_or(EntryId(0), |over| lines[over].id.before()),
            time: last.time,
        });
    }
    found
}

fn only() -> impl Strategy<Value = Only> {
    prop_oneof![Just(Only::Messages), Just(Only::All)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn missed_is_what_counting_says(
        lines in prop::collection::vec((0..6usize, any::<bool>()), 0..60),
        bounds in (0..70u64, 0..70u64),
        kinds in only(),
        newest in 0..12u64,
        overrides in prop::collection::vec((0..3usize, 0..12u64, only()), 0..3),
    ) {
        let spellings = ["#a", "#A", "#b", "#B", "#c", "#C"];
        let entries: Vec<Entry> = (1..)
            .zip(&lines)
            .map(|(id, &(target, event))| Entry {
                kind: if event { Kind::Event } else { Kind::Message },
                ..entry(id, spellings[target], "x")
            })
            .collect();
        let ask = Missed {
            through: EntryId(bounds.0.max(bounds.1)),
            after: EntryId(bounds.0.min(bounds.1)),
            kinds,
            newest,
            overrides: overrides
                .into_iter()
                .map(|(target, newest, kinds)| (Bytes::from(spellings[target * 2]), newest, kinds))
                .collect(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut found = runtime.block_on(async {
            let (_history, log) = in_memory().await;
            log.append_all(entries.iter().cloned().map(Write::Entry));
            settled(&log, u64::try_from(entries.len()).unwrap()).await;
            log.missed(ask.clone()).await.unwrap()
        });
        found.sort_by_key(|found| Name::new(&found.target, CaseMapping::Rfc1459));
        prop_assert_eq!(found, missed_by_counting(&entries, &ask));
    }
}
