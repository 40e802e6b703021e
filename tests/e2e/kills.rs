//! Each kind of change, and a kill while it is made: the daemon comes back with all of it or with nothing of it.

use super::changes_support::{Administrator, Random};
use super::support::Daemon;
use super::support::daemon::config;

/// What is changed, in an order in which each can be made.
const CHANGES: &[&str] = &[
    "user create -username bob -password hunter2 -nick b",
    "user update bob -nick other -admin true",
    "user run bob network create -name net -addr ircs://nowhere.invalid -enabled false",
    "user run bob network update net -nick n -addr ircs://nowhere.invalid -addr ircs://nowhere2.invalid",
    "user run bob network update net -name renamed",
    "user run bob channel create #a -network renamed -key k",
    "user run bob channel update #a -network renamed -key other -lines 3",
    "user run bob sasl set-plain bob hunter2 -network renamed",
    "user run bob sasl reset -network renamed",
    "user run bob trust -network renamed sha256:abababababababababababababababababababababababababababababababab",
    "user run bob certificate add sha256:abababababababababababababababababababababababababababababababab",
    "user run bob certificate delete sha256:abababababababababababababababababababababababababababababababab",
    "user run bob channel delete #a -network renamed",
    "user run bob network delete renamed",
    "user delete bob",
    "user restore bob",
    "user delete bob -purge",
];

#[tokio::test]
async fn killed_while_it_is_made_each_kind_of_change_is_whole_or_absent() {
    let mut daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    let mut random = Random(11);
    let secrets = ["server", "dump", "-secrets"];
    for change in CHANGES {
        let words: Vec<&str> = change.split(' ').collect();
        let owned: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let before = admin.does(&secrets).await.lines;
        let most = if change.starts_with("user create") {
            300_000
        } else {
            6_000
        };
        admin.begin(&owned, random.below(most)).await;
        daemon.kill().await;
        daemon.restart().await;
        let after = admin.does(&secrets).await.lines;
        // Absent, it can be made; whole, it cannot be made better.
        if after == before {
            admin.does(&words).await;
            assert_ne!(admin.does(&secrets).await.lines, before, "{change}");
            continue;
        }
        admin.says(&words).await;
        let again = admin.does(&secrets).await.lines;
        assert!(again == after, "half of {change}:\n{after:#?}\n{again:#?}");
    }
    // Nothing of it is left.
    let told = admin.does(&["user", "status"]).await;
    assert_eq!(told.lines.len(), 1, "{told:?}");
}
