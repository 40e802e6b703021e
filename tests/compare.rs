//! A client attached to carom should not be able to tell. Each conversation in `compare/*.txt` is played against a real
//! server several times: by clients that are connected to it, and by clients that are attached to carom, alone and two
//! for each person, plain ones and modern ones. What each of them hears at each step must be the same. Differences
//! that are meant stand in the conversations (`~`) and in `compare::normal`, each with its reason.
//!
//! `ONLY=word cargo test --test compare` plays the conversations whose name holds the word.

// What fails in a helper fails the test.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub
)]

mod support;

#[path = "real/mod.rs"]
mod real;

#[path = "compare/mod.rs"]
mod compare;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;

use compare::diff::compare;
use compare::play::{Play, play};
use compare::script::Conversation;
use compare::stage::Stage;
use real::program::are_installed;

/// So many plays at a time.
const AT_A_TIME: usize = 8;

fn conversations() -> Vec<Conversation> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compare");
    let files = std::fs::read_dir(folder).expect("the conversations are there");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "txt"));
    paths.sort();
    paths
        .iter()
        .flat_map(|path| Conversation::read(path))
        .collect()
}

#[test]
fn conversations_have_names_of_their_own() {
    let mut names: Vec<_> = conversations().into_iter().map(|c| c.name).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "two conversations have one name");
    assert!(all >= 60, "{all} conversations");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_can_tell() {
    if !are_installed(&["inspircd"]) {
        return;
    }
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut conversations = conversations();
    conversations.retain(|conversation| conversation.name.contains(&only));
    let stage = Arc::new(Stage::set(&conversations).await);
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    let mut under_way = Vec::new();
    for (number, conversation) in conversations.into_iter().enumerate() {
        let conversation = Arc::new(conversation);
        let mut plays = Vec::new();
        for one in Play::all(number).filter(|p| conversation.is_played(*p)) {
            let (stage, turns) = (Arc::clone(&stage), Arc::clone(&turns));
            let conversation = Arc::clone(&conversation);
            plays.push(tokio::spawn(async move {
                let _turn = turns.acquire().await.unwrap();
                (one, play(&stage, &conversation, number, one).await)
            }));
        }
        under_way.push((conversation, plays));
    }
    let mut complaints = Vec::new();
    for (conversation, plays) in under_way {
        let mut heard = Vec::new();
        for one in plays {
            heard.push(one.await.unwrap());
        }
        let complaint = compare(&conversation, &heard);
        if !complaint.is_empty() {
            complaints.push(format!("{}\n{complaint}", conversation.title()));
        }
    }
    assert!(
        complaints.is_empty(),
        "{} conversations differ\n\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}
