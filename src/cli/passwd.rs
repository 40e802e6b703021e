//! `carom passwd`: a password is read, hidden where it is typed, and its hash printed. How it is hashed is
//! `auth`'s.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::Context;
use rustix::termios;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Exit, complain, say};
use crate::auth;

/// The longest password.
const LONGEST_PASSWORD: usize = 512;

pub(super) fn passwd() -> Exit {
    let password = if io::stdin().is_terminal() {
        ask_twice()
    } else {
        read_line()
    };
    match password.and_then(|password| judge(password.as_bytes()).map(|()| password)) {
        Ok(password) => {
            say(auth::hash::hash(password.as_bytes()));
            Exit::Done
        }
        Err(error) => {
            complain(format_args!("error: {error:#}"));
            Exit::Failed
        }
    }
}

pub(super) fn judge(password: &[u8]) -> anyhow::Result<()> {
    match password.len() {
        0 => anyhow::bail!("the password is empty: write one of 1 to {LONGEST_PASSWORD} bytes"),
        n if n > LONGEST_PASSWORD => {
            anyhow::bail!("the password has {n} bytes: {LONGEST_PASSWORD} is the most")
        }
        _ => Ok(()),
    }
}

/// One line of standard input, without its end.
pub(super) fn read_line() -> anyhow::Result<String> {
    let mut line = Vec::new();
    // Bounded: something endless may be connected by mistake.
    let most = LONGEST_PASSWORD as u64 + 3;
    io::stdin()
        .lock()
        .take(most)
        .read_until(b'\n', &mut line)
        .context("reading the password")?;
    if line.last() == Some(&b'\n') {
        line.pop();
        line.pop_if(|last| *last == b'\r');
    }
    String::from_utf8(line).context("the password is not UTF-8")
}

/// Asks twice, without judging: an empty answer may mean something.
pub(super) fn ask_twice_or_nothing() -> anyhow::Result<String> {
    asked(|_| Ok(()))
}

pub(super) fn ask_twice() -> anyhow::Result<String> {
    asked(judge)
}

fn asked(judge: fn(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let password = runtime.block_on(async {
        // From here on an interrupt is an error like others, so that the terminal is put right before the process ends.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let password = ask("Password: ", &mut interrupt).await?;
        judge(password.as_bytes())?;
        if ask("Once more: ", &mut interrupt).await? != password {
            anyhow::bail!("the two passwords differ: nothing was done");
        }
        Ok(password)
    });
    // A thread that still reads must not be waited for.
    runtime.shutdown_background();
    password
}

/// Asks on the terminal without showing the answer.
async fn ask(prompt: &str, interrupt: &mut Signal) -> anyhow::Result<String> {
    let terminal = io::stdin();
    let shown = termios::tcgetattr(&terminal).context("asking the terminal")?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(termios::LocalModes::ECHO);
    hidden.local_modes.insert(termios::LocalModes::ECHONL);
    // Flush: what was typed before the question, and shown, is not the answer.
    termios::tcsetattr(&terminal, termios::OptionalActions::Flush, &hidden)
        .context("hiding the password")?;
    let _ = write!(io::stderr(), "{prompt}");
    let line = tokio::select! {
        line = tokio::task::spawn_blocking(read_line) => line.context("reading the password"),
        _ = interrupt.recv() => {
            complain("");
            Err(anyhow::anyhow!("interrupted: nothing was done"))
        }
    };
    termios::tcsetattr(&terminal, termios::OptionalActions::Now, &shown)
        .context("showing what is typed again")?;
    line?
}
