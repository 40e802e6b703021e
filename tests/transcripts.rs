//! Runs every conversation in `transcripts/` through `state`. `BLESS=1 cargo test --test transcripts`
//! writes the expectations anew; the difference is then read like code. `ONLY=word` runs those whose name
//! holds the word.

mod transcript_runner;

use std::path::{Path, PathBuf};

fn transcripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let files = std::fs::read_dir(folder).expect("the transcripts are there");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "txt"));
    paths.sort();
    paths
}

#[test]
fn every_transcript_holds() {
    let bless = std::env::var_os("BLESS").is_some();
    let only = std::env::var("ONLY").unwrap_or_default();
    let paths = transcripts();
    let chosen = paths
        .iter()
        .filter(|path| path.to_string_lossy().contains(&only));
    let complaints: Vec<_> = chosen
        .filter_map(|path| transcript_runner::run(path, bless).err())
        .collect();
    assert!(
        complaints.is_empty(),
        "{} transcripts differ\n\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}
