//! What is made at run time comes back as it was made, all of it or nothing.

use proptest::prelude::*;

use super::*;
use crate::config::change::Present;
use crate::config::made::Made;
use crate::config::overlay::{Authority, Change, Options};
use crate::config::{Config, Durability, Secret, User};
use crate::history::{EntryId, Kind, Write};

fn network(user: &str, name: &str, options: &str) -> Edit {
    Edit::Network {
        user: user.into(),
        name: name.into(),
        options: options.into(),
        trusted: true,
    }
}

fn pair(user: &str, name: &str) -> (String, String) {
    (user.into(), name.into())
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Forgets everything that was deleted before a moment; in how many steps.
async fn purge(history: &History, before: Timestamp) -> usize {
    let mut steps = 0;
    while let Some(network) = history.retired(before).await.unwrap() {
        steps += 1;
        while history.purge_some(network).await.unwrap() {
            steps += 1;
        }
    }
    steps
}

#[tokio::test]
async fn numbers_of_networks_stay_and_are_never_given_out_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let history = History::open(Some(&path), Durability::Process).unwrap();
    let asked = vec![pair("apw", "a"), pair("apw", "b")];
    let numbers = history.numbers(asked.clone()).await.unwrap();
    assert_ne!(numbers[0], numbers[1]);
    assert_eq!(history.numbers(asked.clone()).await.unwrap(), numbers);
    let rename = Edit::Rename {
        user: "apw".into(),
        from: "a".into(),
        to: "c".into(),
    };
    let renamed = history
        .edit(vec![rename], vec![pair("apw", "c")])
        .await
        .unwrap();
    assert_eq!(renamed, numbers[..1]);
    let retire = Edit::Retire {
        user: "apw".into(),
        name: "b".into(),
        now: at(5),
    };
    let anew = history
        .edit(vec![retire], vec![pair("apw", "b")])
        .await
        .unwrap();
    assert!(!numbers.contains(&anew[0]));
    purge(&history, at(6)).await;
    history.close().await;
    let history = History::open(Some(&path), Durability::Process).unwrap();
    let last = history.numbers(vec![pair("apw", "new")]).await.unwrap();
    assert!(last[0] > anew[0]);
}

#[tokio::test]
async fn a_name_that_was_left_over_goes_to_the_network_that_takes_it() {
    let history = History::open(None, Durability::Process).unwrap();
    let numbers = history
        .numbers(vec![pair("apw", "old"), pair("apw", "mine")])
        .await
        .unwrap();
    let rename = Edit::Rename {
        user: "apw".into(),
        from: "mine".into(),
        to: "old".into(),
    };
    let renamed = history
        .edit(vec![rename], vec![pair("apw", "old")])
        .await
        .unwrap();
    assert_eq!(renamed, numbers[1..]);
}

#[tokio::test]
async fn edits_are_all_made_or_none() {
    let history = History::open(None, Durability::Process).unwrap();
    let broken =
        "CREATE TRIGGER no BEFORE INSERT ON made_channel BEGIN SELECT RAISE(ABORT, 'no'); END";
    let desk = &history.shared.desk;
    desk.change(|db| db.execute_batch(broken)).await.unwrap();
    let channel = Edit::Channel {
        user: "apw".into(),
        network: "a".into(),
        name: "#a".into(),
        options: String::new(),
    };
    let edits = vec![network("apw", "a", ""), channel];
    history.edit(edits, vec![]).await.unwrap_err();
    assert_eq!(history.stored().await.unwrap(), Stored::default());
    let mode: i64 = desk
        .change(|db| db.query_row("PRAGMA synchronous", [], |row| row.get(0)))
        .await
        .unwrap();
    assert_eq!(mode, 1, "storing lines does not sync each commit");
    history
        .edit(vec![network("apw", "a", "")], vec![])
        .await
        .unwrap();
}

#[tokio::test]
async fn the_log_of_a_deleted_network_goes_after_a_while_and_no_other() {
    let history = History::open(None, Durability::Process).unwrap();
    let mut last = None;
    for name in ["gone", "kept"] {
        history
            .edit(vec![network("apw", name, "")], vec![])
            .await
            .unwrap();
        let (log, remembered) = history.open_log("apw", name).await.unwrap();
        let first = remembered.head.0;
        for id in first + 1..=first + 5_000 {
            log.append(Write::Entry(crate::history::Entry {
                id: EntryId(id),
                target: crate::wire::Name::new(b"#c", crate::wire::CaseMapping::Ascii),
                time: at(i64::try_from(id).unwrap()),
                msgid: None,
                kind: Kind::Message,
                again: false,
                tags: bytes::Bytes::new(),
                line: bytes::Bytes::from_static(b":a!b@c PRIVMSG #c :hi"),
            }));
            if (id - first) % 1_000 == 0 {
                log.settled()
                    .wait_for(|settled| settled.0 >= id)
                    .await
                    .unwrap();
            }
        }
        last = Some(log);
    }
    let retire = Edit::Retire {
        user: "apw".into(),
        name: "gone".into(),
        now: at(100),
    };
    history.edit(vec![retire], vec![]).await.unwrap();
    assert_eq!(history.retired(at(100)).await.unwrap(), None, "not yet");
    let slices = purge(&history, at(101)).await;
    assert!(slices >= 2, "{slices}: a little at a time");
    let count = |sql: &'static str| {
        let desk = history.shared.desk.clone();
        async move {
            desk.ask(move |db| db.query_row(sql, [], |row| row.get::<_, i64>(0)))
                .await
                .unwrap()
        }
    };
    assert_eq!(count("SELECT count(*) FROM entry").await, 5_000);
    assert_eq!(count("SELECT count(*) FROM network").await, 1);
    assert_eq!(count("SELECT count(*) FROM retired").await, 0);
    let log = last.unwrap();
    let found = log
        .by_id(
            crate::history::Ids {
                first: EntryId(1),
                last: EntryId::MAX,
            },
            9,
        )
        .await;
    assert_eq!(found.unwrap().len(), 9);
}

#[tokio::test]
async fn users_go_with_all_they_had() {
    let history = History::open(None, Durability::Process).unwrap();
    let hash = "$".to_owned();
    let edits = vec![
        Edit::User {
            name: "bob".into(),
            options: "nick = \"b\"\n".into(),
            deleted: Some(at(7)),
        },
        Edit::Password {
            user: "bob".into(),
            hash,
        },
        network("bob", "a", "x = 1\n"),
    ];
    history.edit(edits, vec![pair("bob", "")]).await.unwrap();
    history
        .note_seen(vec![("bob".into(), at(9))])
        .await
        .unwrap();
    let stored = history.stored().await.unwrap();
    assert_eq!(
        stored.users,
        [("bob".to_owned(), "nick = \"b\"\n".to_owned(), Some(at(7)))]
    );
    assert_eq!(stored.seen.get("bob"), Some(&at(9)));
    history
        .edit(vec![Edit::PurgeUser { name: "bob".into() }], vec![])
        .await
        .unwrap();
    assert_eq!(history.stored().await.unwrap(), Stored::default());
    purge(&history, at(1)).await;
    let left = history.shared.desk.ask(|db| {
        db.query_row("SELECT count(*) FROM network", [], |row| {
            row.get::<_, i64>(0)
        })
    });
    assert_eq!(left.await.unwrap(), 0);
}

// -- any changes

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let user = || {
        prop_oneof![
            Just("apw".to_owned()),
            Just("bob".to_owned()),
            Just("eve".to_owned())
        ]
    };
    let name = || {
        prop_oneof![
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just("Declared".to_owned())
        ]
    };
    let channel = || prop_oneof![Just("#a".to_owned()), Just("#b".to_owned())];
    let options = || {
        prop_oneof![
            Just(Options::new().set("servers", vec!["ircs://irc.test"])),
            Just(
                Options::new()
                    .set("servers", vec!["ircs://irc.test"])
                    .set("nick", "x")
            ),
            Just(Options::new().set("history.lines", 5)),
            Just(Options::new().unset("nick")),
            Just(Options::new().set("name", "b")),
            Just(Options::new().set("enabled", false)),
        ]
    };
    let plain = || {
        prop_oneof![
            Just(Options::new()),
            Just(Options::new().set("history.lines", 5))
        ]
    };
    let password = || Some(Secret::new("x".into()));
    let one = prop_oneof![
        2 => (user(), plain()).prop_map(move |(name, options)| Change::CreateUser { name, password: password(), options }),
        1 => (user(), plain()).prop_map(|(name, options)| Change::UpdateUser { name, options }),
        1 => (user(), any::<bool>()).prop_map(|(name, purge)| Change::DeleteUser { name, purge }),
        1 => user().prop_map(|name| Change::RestoreUser { name }),
        4 => (user(), name(), options()).prop_map(|(user, name, options)| Change::CreateNetwork { user, name, options }),
        3 => (user(), name(), options()).prop_map(|(user, name, options)| Change::UpdateNetwork { user, name, options }),
        2 => (user(), name()).prop_map(|(user, name)| Change::DeleteNetwork { user, name }),
        3 => (user(), name(), channel(), plain())
            .prop_map(|(user, network, name, options)| Change::CreateChannel { user, network, name, options }),
        1 => (user(), name(), channel(), plain())
            .prop_map(|(user, network, name, options)| Change::UpdateChannel { user, network, name, options }),
        1 => (user(), name(), channel())
            .prop_map(|(user, network, name)| Change::DeleteChannel { user, network, name }),
    ];
    prop::collection::vec(one, 1..30)
}

fn declared() -> Config {
    let mut config = Config::default();
    let network = crate::config::Network {
        name: "Declared".into(),
        ..crate::config::Network::default()
    };
    config.users.push(User {
        name: "apw".into(),
        nick: "apw".into(),
        username: "apw".into(),
        realname: "apw".into(),
        networks: vec![network],
        ..User::default()
    });
    config
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_stored_is_what_was_made(changes in changes()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let history = History::open(None, Durability::Process).unwrap();
            let declared = declared();
            let mut made = Made::default();
            for (n, change) in changes.into_iter().enumerate() {
                let (effective, _) = made.merge(&declared);
                let present = Present {
                    declared: &declared,
                    effective: &effective,
                    now: at(i64::try_from(n).unwrap()),
                };
                let hash = change.password().map(|_| "$".to_owned());
                let Ok(step) = made.after(&present, &Authority::control(), &change, hash) else {
                    continue;
                };
                made = step.made;
                history.edit(step.edits, vec![]).await.unwrap();
                let (read, problems) = Made::read(&history.stored().await.unwrap());
                assert!(problems.is_empty(), "{problems:?}");
                // In the order of their numbers, which a network that was renamed keeps.
                assert!(read == made, "{change:?}");
            }
        });
    }
}
