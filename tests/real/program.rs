//! Programs that others wrote, each run in a folder of its own: found, started, watched, and ended with all that it
//! started itself.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// So long at most does anything take that is waited for. Real servers slow their clients down, and real clients
/// themselves.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How often is looked for something that gives no sign when it happens, as a line in a file.
const INTERVAL: Duration = Duration::from_millis(25);

/// Looks again and again until there is what is looked for; panics when there is none within [`PATIENCE`].
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut looks = tokio::time::interval(INTERVAL);
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            looks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    });
    match found.await {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Whether all these programs are here. If not, says so; where tests decide about a change it is a failure.
pub fn are_installed(names: &[&str]) -> bool {
    let missing: Vec<_> = names.iter().filter(|name| find(name).is_none()).collect();
    for name in &missing {
        // Not by a macro, whose output is shown for failed tests only.
        let _ = writeln!(std::io::stderr(), "skipped: {name} is not installed");
    }
    assert!(
        missing.is_empty() || std::env::var("CI").as_deref() != Ok("true"),
        "with CI=true nothing is skipped: {missing:?} must be installed (.ci/run does it)"
    );
    missing.is_empty()
}

/// Where a program is. Servers stand in folders that only the administrator's PATH has.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A command for a program that [`are_installed`] found, in an environment that says nothing of the machine.
pub fn command(name: &str, home: &Path) -> Command {
    let mut command = Command::new(find(name).expect("it is installed"));
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("TERM", "xterm")
        .env("TZ", "UTC")
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

/// A running program. Dropping it kills it and its children; a test that panics shows what it wrote.
pub struct Running {
    child: Child,
    output: PathBuf,
}

impl Running {
    /// Starts a command, with its output in a file.
    pub fn start(mut command: Command, output: PathBuf) -> Self {
        let file = File::create(&output).unwrap();
        let child = command
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            // A group of its own, so that it can be ended with its children.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, output }
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What it wrote so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.output.display(), self.output());
        }
        // What has ended already was waited for, and its number may belong to another by now.
        if !self.has_ended() {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
