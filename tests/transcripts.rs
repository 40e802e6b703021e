//! Runs every conversation in `transcripts/` through `state`. `BLESS=1 cargo test --test transcripts`
//! writes the expectations anew; the difference is then read like code. `ONLY=word` runs those whose name
//! holds the word.

mod transcript_runner;

use std::collections::BTreeSet;
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

/// Rules of the protocol that no test carries yet. One that is carried is not in this list.
const UNTESTED: &[u32] = &[];

/// How many there are.
const RULES: u32 = 70;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The rules that a file carries: `# protocol rule 43: ...` or `# protocol rules 6, 12: ...` in a transcript, `fn rule_43_...`
/// in Rust.
fn carried(path: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let numbers = |list: &str| -> Vec<u32> {
        let list = list.split(':').next().unwrap_or_default();
        list.split(',')
            .filter_map(|n| n.trim().parse().ok())
            .collect()
    };
    match path.extension().and_then(|e| e.to_str()) {
        Some("txt") => {
            let lists = text.lines().filter_map(|line| {
                let rest = line.strip_prefix("# protocol rule")?;
                Some(rest.strip_prefix('s').unwrap_or(rest))
            });
            lists.flat_map(numbers).collect()
        }
        Some("rs") => {
            let names = text.split("fn rule_").skip(1);
            let digits = |name: &str| name.split('_').next().and_then(|n| n.parse().ok());
            names.filter_map(digits).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn every_rule_of_the_protocol_has_a_test() {
    let mut paths = Vec::new();
    for folder in ["src", "tests"] {
        files(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
            &mut paths,
        );
    }
    let carried: BTreeSet<u32> = paths.iter().flat_map(|path| carried(path)).collect();
    let untested: Vec<u32> = (1..=RULES).filter(|n| !carried.contains(n)).collect();
    assert_eq!(
        untested, UNTESTED,
        "left: what no test carries; right: what is known of it"
    );
    assert!(
        carried.iter().all(|n| (1..=RULES).contains(n)),
        "{carried:?}"
    );
}
