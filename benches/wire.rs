//! What a relayed line costs: nanoseconds and allocations to read it and write it on into a reused buffer, borrowed
//! (`Line`) and typed (`irc-proto`), and to cut it out of what a server sent. Run with `cargo bench --bench wire`. It
//! fails when a borrowed line allocates; the goal beside that is 100 ns.
#![expect(unsafe_code, reason = "an allocator that counts")]
#![expect(clippy::print_stdout, reason = "a table for whoever runs it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use carom::wire::framing::Limits;
use carom::wire::{Framed, Framer, Line, typed};
use irc_proto::Message;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const LINES: [(&str, &str); 5] = [
    (
        "PRIVMSG with tags",
        "@time=2026-01-02T08:00:05.010Z;msgid=Yq3xVb8sT0;account=ana :ana!~ana@host.example.org PRIVMSG \
         #tea :a line of some forty characters, as said",
    ),
    (
        "PRIVMSG",
        ":ana!~ana@host.example.org PRIVMSG #tea :a line of some forty characters, as they are said",
    ),
    (
        "353",
        ":irc.example.org 353 ana = #tea :@ana +bob cyd dan eve fay gus hal ida jon kim lea mia ned",
    ),
    (
        "MODE",
        ":ana!~ana@host.example.org MODE #tea +ov-k bob cyd key",
    ),
    ("PING", "PING :irc.example.org"),
];

/// Nanoseconds (the best of five) and allocations of one call.
fn measure(rounds: u32, mut work: impl FnMut()) -> (f64, f64) {
    work();
    let mut best = f64::INFINITY;
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..rounds {
            work();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds));
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    (best, allocations as f64 / f64::from(5 * rounds))
}

/// What is done with one line; the buffer is reused.
type Work = fn(&[u8], &mut Vec<u8>);

/// Reads a line and writes it on without its tags, as for a client that has not asked for any.
fn relay(raw: &[u8], out: &mut Vec<u8>) {
    let line = Line::parse(black_box(raw)).expect("a line");
    out.extend_from_slice(line.body());
    out.extend_from_slice(b"\r\n");
}

/// The same for a client with tags: each is looked at, and so is each parameter.
fn walk_and_relay(raw: &[u8], out: &mut Vec<u8>) {
    let line = Line::parse(black_box(raw)).expect("a line");
    line.params().for_each(|param| {
        black_box(param);
    });
    for (key, value) in line.tags().filter(|(key, _)| *key != b"label") {
        out.push(if out.is_empty() { b'@' } else { b';' });
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value);
    }
    out.push(b' ');
    out.extend_from_slice(line.body());
    out.extend_from_slice(b"\r\n");
}

/// The typed view of a line that is for us.
fn view(raw: &[u8], _: &mut Vec<u8>) {
    black_box(
        Line::parse(black_box(raw))
            .ok()
            .and_then(|line| typed::command(&line)),
    );
}

/// Reads a line with `irc-proto` and writes it on.
fn proto(raw: &[u8], out: &mut Vec<u8>) {
    use std::io::Write;
    let text = str::from_utf8(black_box(raw)).expect("text");
    let message: Message = text.parse().expect("a message");
    write!(out, "{message}").expect("a vector takes everything");
}

/// Cuts 64 KiB, as one read brings them, into lines.
fn frame(rounds: u32) {
    let mut chunk = Vec::new();
    for (_, line) in LINES.iter().cycle() {
        if chunk.len() + line.len() > 64 * 1024 {
            break;
        }
        chunk.extend_from_slice(line.as_bytes());
        chunk.extend_from_slice(b"\r\n");
    }
    let lines = chunk.iter().filter(|&&b| b == b'\n').count() as f64;
    let mut framer = Framer::new(Limits::SERVER);
    let (nanos, allocations) = measure(rounds, || {
        framer.push(black_box(&chunk));
        while let Some(framed) = framer.next() {
            assert!(
                matches!(black_box(framed), Framed::Line(_)),
                "only lines were sent"
            );
        }
    });
    println!(
        "framing, per line: {:.1} ns, {:.4} allocations",
        nanos / lines,
        allocations / lines
    );
}

fn main() {
    // `cargo test --benches` runs this too, to see that it works: there it is short.
    let rounds = if std::env::args().any(|arg| arg == "--bench") {
        200_000
    } else {
        100
    };
    let ways: [(&str, Work); 4] = [
        ("relay", relay),
        ("walk and relay", walk_and_relay),
        ("typed view", view),
        ("irc-proto", proto),
    ];
    print!("{:24}", "");
    ways.iter().for_each(|(way, _)| print!("{way:>24}"));
    println!();
    for (name, raw) in LINES {
        print!("{:24}", format!("{name}, {} B", raw.len()));
        for (way, work) in ways {
            let mut out = Vec::with_capacity(1024);
            let (nanos, allocations) = measure(rounds, || {
                out.clear();
                work(raw.as_bytes(), &mut out);
                black_box(&out);
            });
            print!("{:>24}", format!("{nanos:.0} ns, {allocations:.0} allocs"));
            assert!(
                !way.ends_with("relay") || allocations == 0.0,
                "{way} of {name} allocates"
            );
        }
        println!();
    }
    frame(rounds / 100);
}
