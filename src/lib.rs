//! carom, an IRC bouncer. This page is the map: one line for each module, lowest layer first. A module
//! uses only modules above it in this list; `tests/tidy.rs` holds it to that. `ARCHITECTURE.md` tells the
//! story. The pure part knows IRC and has no socket, file, clock or `async`: `wire`, `state`. The rest is
//! the shell around it.

// The order is the order of the layers: a blank line between two keeps rustfmt from sorting them.

pub mod wire; // the grammar: bytes, lines, tags, names, ISUPPORT, capabilities

pub mod config; // what the file says, checked: it cannot be wrong

pub mod command; // the administrator's words: verbs, parser, help

pub mod history; // the log of each network on disk: append, read, positions
