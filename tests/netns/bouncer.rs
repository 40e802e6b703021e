//! The program itself on the bouncer's host, with a network whose server is `irc.test`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::lab::Lab;

/// The daemon; dropping it kills it.
pub struct Bouncer {
    child: Child,
    log: Arc<(Mutex<Vec<String>>, Condvar)>,
    _folder: TempDir,
}

impl Bouncer {
    /// Starts it with a listener and keys of `[dial]`.
    pub fn start(lab: &Lab, listen: &str, dial: &str) -> Self {
        Self::with_users(lab, 1, listen, dial)
    }

    /// The same with so many users, each with the network.
    pub fn with_users(lab: &Lab, users: usize, listen: &str, dial: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let mut child = command(lab, &folder, "run", &config(users, listen, dial))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (lines, written) = (
            BufReader::new(child.stderr.take().unwrap()).lines(),
            Arc::clone(&log),
        );
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                written.0.lock().unwrap().push(line);
                written.1.notify_all();
            }
        });
        Self {
            child,
            log,
            _folder: folder,
        }
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.0.lock().unwrap().join("\n")
    }

    /// Waits until it listens, and gives the log so far.
    pub fn listening(&self) -> String {
        let lines = self.log.0.lock().unwrap();
        // The attempt to dial comes after all the listeners.
        let later = |line: &String| line.contains("upstream");
        let limit = Duration::from_secs(10);
        let (lines, _) = self
            .log
            .1
            .wait_timeout_while(lines, limit, |lines| !lines.iter().any(later))
            .unwrap();
        lines.join("\n")
    }

    /// Runs `check` with a listener, and gives what it says.
    pub fn check(lab: &Lab, listen: &str) -> String {
        let folder = TempDir::new().unwrap();
        let output = command(lab, &folder, "check", &config(1, listen, ""))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn config(users: usize, listen: &str, dial: &str) -> String {
    static HASH: OnceLock<String> = OnceLock::new();
    let hash = HASH.get_or_init(|| carom::auth::hash(b"secret"));
    let mut config = format!(
        "[server]\nname = \"bnc.test\"\nlisten = \"{listen}\"\n\n[storage]\npath = \"carom.db\"\n\n[dial]\n{dial}\n"
    );
    for n in 0..users {
        config += &format!(
            "\n[[user]]\nname = \"apw{n}\"\npassword = \"{hash}\"\n\n[[user.network]]\nname = \"t\"\n\
             servers = [\"ircs://irc.test\"]\ntls = {{ verify = \"none\" }}\n"
        );
    }
    config
}

fn command(lab: &Lab, folder: &TempDir, verb: &str, config: &str) -> Command {
    let path = folder.path().join("carom.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = lab.command("b", env!("CARGO_BIN_EXE_carom"));
    command
        .arg(verb)
        .arg("--config")
        .arg(path)
        .env("HOME", folder.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}
