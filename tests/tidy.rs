//! Holds the source to its rules: sizes, headers, the order of layers, purity of `wire` and `state`, and the words that
//! may stand only in some places. Every complaint says what to do. The rules themselves are tested at the end.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// The longest file and the longest function, in lines.
const FILE: usize = 600;
const FUNCTION: usize = 80;

/// One file below `src/`.
struct Source {
    /// From `src/` on, with `/`.
    path: String,
    text: String,
    /// The text with comments and literals blanked.
    code: String,
    /// The code with tests blanked, too.
    product: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = code_of(text);
        let product = if is_test(path) {
            blank_all(&code)
        } else {
            without_tests(&code)
        };
        Self {
            path: path.into(),
            text: text.into(),
            code,
            product,
        }
    }

    /// The module right below the crate that this file belongs to.
    fn layer(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn is_pure(&self) -> bool {
        matches!(self.layer(), "wire" | "state")
    }

    fn complain(&self, line: usize, advice: &str) -> String {
        format!("src/{}:{line}: {advice}", self.path)
    }

    /// A complaint for each line of `text` that holds one of the words.
    fn forbid(&self, text: &str, words: &[&str], advice: &str) -> Vec<String> {
        let mut complaints = Vec::new();
        for (n, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| holds_word(line, word)) {
                complaints.push(self.complain(n + 1, &format!("`{word}`: {advice}")));
            }
        }
        complaints
    }
}

/// Whether all of a file is tests, set apart because they are long.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("_tests.rs") || path.contains("/tests/")
}

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        "",
        &mut found,
    );
    assert!(
        found.iter().any(|source| source.path == "lib.rs"),
        "src/ was not found"
    );
    found
});

fn walk(folder: &Path, below: &str, found: &mut Vec<Source>) {
    let entries = fs::read_dir(folder).expect("the folder can be listed");
    let mut entries: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for entry in entries {
        let name = entry
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name in UTF-8");
        let path = format!("{below}{name}");
        if entry.is_dir() {
            walk(&entry, &format!("{path}/"), found);
        } else if path.ends_with(".rs") {
            let text = fs::read_to_string(&entry).expect("the file can be read");
            found.push(Source::new(&path, &text));
        }
    }
}

/// Applies one rule to every file and shows all complaints at once.
fn hold(rule: impl Fn(&Source) -> Vec<String>) {
    let complaints: Vec<_> = SOURCES.iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

// The rules.

fn short_file(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let advice = format!("{lines} lines, at most {FILE}: split it by subject");
    if lines > FILE {
        vec![source.complain(lines, &advice)]
    } else {
        Vec::new()
    }
}

fn short_functions(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for (at, _) in source.code.match_indices("fn ") {
        if source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let Some(body) = body_of(&source.code, at) else {
            continue;
        };
        let lines = source.code[at..body].lines().count();
        if lines > FUNCTION {
            let advice =
                format!("a function of {lines} lines, at most {FUNCTION}: give its parts names");
            complaints.push(source.complain(line_of(&source.code, at), &advice));
        }
    }
    complaints
}

fn header(source: &Source) -> Vec<String> {
    let lines = source
        .text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .count();
    let least = if source.path == "main.rs" || is_test(&source.path) {
        1
    } else {
        2
    };
    if (least..=6).contains(&lines) {
        return Vec::new();
    }
    let advice = "open it with 2 to 6 lines of `//!`: what it owns, and what it leaves to others";
    vec![source.complain(1, &format!("{lines} lines of header: {advice}"))]
}

/// The layers in the order of `src/lib.rs`, lowest first.
fn layers(lib: &str) -> Vec<String> {
    let code = code_of(lib);
    let modules = code.lines().filter_map(|line| {
        let line = line.trim();
        line.strip_prefix("pub mod ")
            .or_else(|| line.strip_prefix("mod "))?
            .strip_suffix(';')
    });
    modules.map(str::to_owned).collect()
}

fn layer_order(layers: &[String], source: &Source) -> Vec<String> {
    if matches!(source.path.as_str(), "lib.rs" | "main.rs") {
        return Vec::new();
    }
    let rank = |name: &str| layers.iter().position(|layer| layer == name);
    let Some(own) = rank(source.layer()) else {
        return vec![source.complain(
            1,
            "not a module of src/lib.rs: give it its place in the list there",
        )];
    };
    let mut complaints = Vec::new();
    for (at, used) in crate_paths(&source.code) {
        if rank(used).is_some_and(|used| used > own) {
            let advice = format!(
                "`{}` uses `crate::{used}`, which stands above it: move what both need down, or hand it in",
                source.layer()
            );
            complaints.push(source.complain(line_of(&source.code, at), &advice));
        }
    }
    complaints
}

fn purity(source: &Source) -> Vec<String> {
    if !source.is_pure() {
        return Vec::new();
    }
    let words = [
        "tokio",
        "std::net",
        "std::fs",
        "SystemTime",
        "Instant",
        "async",
        "crate::clock",
    ];
    let advice =
        "wire and state have no I/O, clock or waiting: take time as a value, return an `Action`";
    source.forbid(&source.product, &words, advice)
}

fn unsafe_in_one_place(source: &Source) -> Vec<String> {
    if source.path == "net/sys.rs" {
        return Vec::new();
    }
    source.forbid(
        &source.code,
        &["unsafe"],
        "only net/sys.rs may; wrap what you need there",
    )
}

fn no_unwrap(source: &Source) -> Vec<String> {
    let advice = "return an error, or `expect` the invariant that the lines above prove";
    source.forbid(&source.product, &[".unwrap()"], advice)
}

fn no_leftovers(source: &Source) -> Vec<String> {
    source.forbid(
        &source.text,
        &["TODO", "FIXME", "XXX"],
        "do it now, or leave the note out",
    )
}

/// A network waits for nobody: what its task awaits stands in the loop's `select!` or in the dial future.
fn networks_do_not_wait(source: &Source) -> Vec<String> {
    let may_wait = ["upstream/mod.rs", "upstream/link.rs"].contains(&source.path.as_str());
    if source.layer() != "upstream" || may_wait {
        return Vec::new();
    }
    let advice =
        "a network waits for nobody: move it into the loop's `select!` or into the client's task";
    source.forbid(&source.product, &[".await"], advice)
}

#[test]
fn files_are_short() {
    hold(short_file);
}

#[test]
fn functions_are_short() {
    hold(short_functions);
}

#[test]
fn files_say_what_they_own() {
    hold(header);
}

#[test]
fn modules_use_only_those_below_them() {
    let lib = SOURCES
        .iter()
        .find(|source| source.path == "lib.rs")
        .unwrap();
    let layers = layers(&lib.text);
    assert!(
        layers.len() > 5,
        "the list of modules in src/lib.rs was not understood"
    );
    hold(|source| layer_order(&layers, source));
}

#[test]
fn wire_and_state_are_pure() {
    hold(purity);
}

#[test]
fn unsafe_code_is_in_one_place() {
    hold(unsafe_in_one_place);
}

#[test]
fn nothing_is_unwrapped() {
    hold(no_unwrap);
}

#[test]
fn nothing_is_left_for_later() {
    hold(no_leftovers);
}

#[test]
fn networks_wait_for_nobody() {
    hold(networks_do_not_wait);
}

// Reading Rust, as far as the rules need it.

/// The text with comments, strings and characters blanked, every line where it was.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let in_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skip = skipped(rest, in_word);
        let take = if skip == 0 { first.len_utf8() } else { skip };
        if skip == 0 {
            code.push(first);
        } else {
            code.push_str(&blank_all(&rest[..skip]));
        }
        rest = &rest[take..];
    }
    code
}

/// How many bytes at the start of `rest` are no code: a comment or a literal.
fn skipped(rest: &str, in_word: bool) -> usize {
    let bytes = rest.as_bytes();
    match bytes {
        [b'/', b'/', ..] => rest.find('\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => comment_end(rest),
        [b'"', ..] => quoted_end(rest, '"'),
        [b'r', b'"' | b'#', ..] | [b'b', b'r', b'"' | b'#', ..] if !in_word => raw_end(rest),
        [b'\'', b'\\', ..] => quoted_end(rest, '\''),
        // A character, not a lifetime: the quote after the next character closes it.
        [b'\'', ..] => {
            let mut chars = rest[1..].chars();
            let inside = chars.next().map_or(0, char::len_utf8);
            if chars.next() == Some('\'') {
                inside + 2
            } else {
                0
            }
        }
        _ => 0,
    }
}

fn comment_end(rest: &str) -> usize {
    let mut depth = 0;
    for (at, pair) in rest.as_bytes().windows(2).enumerate() {
        depth += i32::from(pair == b"/*") - i32::from(pair == b"*/");
        if depth == 0 && pair == b"*/" {
            return at + 2;
        }
    }
    rest.len()
}

fn quoted_end(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}

fn raw_end(rest: &str) -> usize {
    let start = rest.find(['"', '#']).unwrap_or(0);
    let hashes = rest[start..].bytes().take_while(|&b| b == b'#').count();
    if !rest[start + hashes..].starts_with('"') {
        return 0; // A raw identifier.
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let text = start + hashes + 1;
    rest[text..]
        .find(&close)
        .map_or(rest.len(), |at| text + at + close.len())
}

fn blank_all(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\n' { '\n' } else { ' ' })
        .collect()
}

/// The code with every item behind `#[cfg(test)]` blanked.
fn without_tests(code: &str) -> String {
    let mut product = code.to_owned();
    while let Some(at) = product.find("#[cfg(test)]") {
        let end = body_of(&product, at).unwrap_or_else(|| {
            product[at..]
                .find(';')
                .map_or(product.len(), |semicolon| at + semicolon + 1)
        });
        let blank = blank_all(&product[at..end]);
        product.replace_range(at..end, &blank);
    }
    product
}

/// Where the braces end that the item at `at` opens; nothing when a `;` ends it first.
fn body_of(code: &str, at: usize) -> Option<usize> {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (offset, c) in code[at..].char_indices() {
        match c {
            '{' => braces += 1,
            '}' if braces <= 1 => return (braces == 1).then_some(at + offset + 1),
            '}' => braces -= 1,
            '(' | '[' => others += 1,
            ')' | ']' => others = others.saturating_sub(1),
            ';' if braces == 0 && others == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Each `crate::name` with its place; of `crate::{a, b::{c}}` that is `a` and `b`.
fn crate_paths(code: &str) -> Vec<(usize, &str)> {
    let mut paths = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        if !rest.starts_with('{') {
            paths.push((at, first_word(rest)));
            continue;
        }
        let mut depth = 0;
        let mut expected = false;
        for (offset, c) in rest.char_indices() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            match c {
                _ if depth == 0 => break,
                '{' | ',' => expected = depth == 1,
                c if expected && !c.is_whitespace() => {
                    expected = false;
                    paths.push((at, first_word(&rest[offset..])));
                }
                _ => {}
            }
        }
    }
    paths
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

fn holds_word(line: &str, word: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].ends_with(inner) && word.starts_with(inner);
        let after = line[at + word.len()..].starts_with(inner) && word.ends_with(inner);
        !before && !after
    })
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

// The rules find what they look for, and nothing else.

#[test]
fn comments_and_literals_are_no_code() {
    for (text, code) in [
        ("a // b\nc", "a ~~~~\nc"),
        ("a /* b /* c */ d */ e", "a ~~~~~~~~~~~~~~~~~ e"),
        ("a \"b\\\" c\" d", "a ~~~~~~~ d"),
        ("a r#\"b\" c\"# d", "a ~~~~~~~~~ d"),
        ("a br\"\\\" d", "a ~~~~~ d"),
        ("r#type x", "r#type x"),
        (
            "f('{', '\\'', b'\"', &'a str)",
            "f(~~~, ~~~~, b~~~, &'a str)",
        ),
    ] {
        assert_eq!(code_of(text), code.replace('~', " "), "{text}");
    }
}

#[test]
fn tests_are_no_product() {
    let text = "a\n#[cfg(test)]\nmod tests {\n  fn f() { x }\n}\nb\n#[cfg(test)]\nuse y;\nc";
    let product: String = without_tests(text).split_whitespace().collect();
    assert_eq!(product, "abc");
}

#[test]
fn sizes_are_counted() {
    let body = "    x();\n".repeat(FUNCTION - 2);
    let fits = format!("pub fn f(a: [u8; 2]) -> u8 {{\n{body}}}\ntrait T {{\n    fn g();\n}}\n");
    assert!(short_functions(&Source::new("a.rs", &fits)).is_empty());
    let long = fits.replacen("x();", "if x {\n}\n", 1);
    let complaints = short_functions(&Source::new("a.rs", &long));
    assert_eq!(
        complaints,
        ["src/a.rs:1: a function of 82 lines, at most 80: give its parts names"]
    );
    assert!(short_file(&Source::new("a.rs", &"\n".repeat(FILE))).is_empty());
    assert_eq!(
        short_file(&Source::new("a.rs", &"\n".repeat(FILE + 1))).len(),
        1
    );
}

#[test]
fn headers_are_counted() {
    for (path, lines, good) in [
        ("a.rs", 1, false),
        ("a.rs", 2, true),
        ("a.rs", 6, true),
        ("a.rs", 7, false),
        ("main.rs", 1, true),
        ("a/b_tests.rs", 1, true),
        ("a/b_tests.rs", 0, false),
    ] {
        let source = Source::new(path, &format!("{}use x;\n", "//! Text.\n".repeat(lines)));
        assert_eq!(header(&source).is_empty(), good, "{path} {lines}");
    }
}

#[test]
fn paths_upwards_are_found() {
    let layers = layers("//! x\npub mod low; // text\npub mod middle;\nmod high;\n");
    assert_eq!(layers, ["low", "middle", "high"]);
    for (path, code, complaints) in [
        ("middle.rs", "use crate::low::X;", 0),
        ("middle/a.rs", "use crate::middle::b; use crate::clock;", 0),
        ("middle/a.rs", "use crate::high::X;", 1),
        ("middle/a.rs", "fn f() { crate::high::f() }", 1),
        ("middle/a.rs", "use crate::{low::{high, X}, high::Y};", 1),
        ("middle/a.rs", "// crate::high\nlet x = \"crate::high\";", 0),
        ("low.rs", "use crate::{\n    high, middle::{X, Y},\n};", 2),
        ("new.rs", "", 1),
        ("lib.rs", "use crate::high;", 0),
    ] {
        assert_eq!(
            layer_order(&layers, &Source::new(path, code)).len(),
            complaints,
            "{path}: {code}"
        );
    }
}

#[test]
fn words_are_found_where_they_may_not_stand() {
    let all = |source: &Source| {
        let rules = [
            purity,
            unsafe_in_one_place,
            no_unwrap,
            no_leftovers,
            networks_do_not_wait,
        ];
        rules.iter().flat_map(|rule| rule(source)).count()
    };
    for (path, text, complaints) in [
        ("wire/a.rs", "use std::net::IpAddr;", 1),
        ("state/a.rs", "use std::time::{Duration, Instant};", 1),
        ("state/a.rs", "async fn f() { tokio::spawn(x) }", 1 + 1),
        (
            "state/a.rs",
            "// async Instant\nlet instant = \"tokio\"; Instantly;",
            0,
        ),
        ("state/a.rs", "let now = crate::clock();", 1),
        (
            "state/a.rs",
            "#[cfg(test)]\nmod tests { fn f() { x.unwrap(); Instant::now(); } }",
            0,
        ),
        ("state/a/tests.rs", "fn f() { x.unwrap() }", 0),
        ("state/a_tests.rs", "fn f() { x.unwrap() }", 0),
        (
            "state/a.rs",
            "#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;\nx.unwrap()",
            1,
        ),
        ("net/a.rs", "async fn f() { tokio::spawn(x) }", 0),
        ("net/a.rs", "unsafe { x }", 1),
        ("net/sys.rs", "unsafe { x }", 0),
        ("net/a.rs", "#![allow(unsafe_code)] x.unwrap_or(y)", 0),
        ("net/a.rs", "x.unwrap()", 1),
        ("net/a.rs", "// TODO: later", 1),
        ("net/a.rs", "let name = \"mkXXXX TODOS\";", 0),
        ("upstream/held.rs", "x.await;", 1),
        ("upstream/mod.rs", "x.await;", 0),
        ("upstream/link.rs", "x.await;", 0),
        ("downstream/a.rs", "x.await;", 0),
    ] {
        assert_eq!(all(&Source::new(path, text)), complaints, "{path}: {text}");
    }
}
