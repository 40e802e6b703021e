//! The control socket that is served: opened at the start, and opened anew when a reload names another path. What is
//! said over it is the service's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::control;
use crate::downstream::{self, Caller};

use super::door::Door;

/// So long may answers take that were under way when the socket went elsewhere.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What serves the control socket, if anything does.
#[derive(Default)]
pub(super) struct Control {
    path: Option<PathBuf>,
    task: JoinSet<()>,
}

/// What becomes of the control socket.
pub(super) enum Next {
    Same,
    None,
    Other(UnixListener),
}

impl Control {
    /// Opens the socket that a configuration names, unless it is the one that is open.
    pub(super) fn prepare(&self, config: &Config) -> Result<Next, String> {
        if self.path == config.server.control {
            return Ok(Next::Same);
        }
        let Some(path) = &config.server.control else {
            return Ok(Next::None);
        };
        let listener = control::listen(path).map_err(|error| {
            format!(
                "control socket {}: {error}; set server.control to another path",
                path.display()
            )
        })?;
        Ok(Next::Other(listener))
    }

    /// Goes over to what was prepared.
    pub(super) fn take(&mut self, next: Next, config: &Config, door: watch::Receiver<Arc<Door>>) {
        let listener = match next {
            Next::Same => return,
            Next::None => None,
            Next::Other(listener) => Some(listener),
        };
        // What is being answered may be what led here.
        let before = std::mem::take(self);
        before.unlink();
        tokio::spawn(async move {
            tokio::time::sleep(LAST_ANSWERS).await;
            drop(before.task);
        });
        if let Some(listener) = listener {
            self.path.clone_from(&config.server.control);
            self.task.spawn(control::serve(listener, handler(door)));
        }
    }

    /// Closes and removes the socket. What is being answered ends.
    pub(super) fn close(&mut self) {
        self.task.abort_all();
        self.unlink();
    }

    fn unlink(&self) {
        if let Some(path) = &self.path {
            // A file that stays is found stale by the next start.
            _ = std::fs::remove_file(path);
        }
    }
}

/// Whoever reaches the control socket acts as an administrator.
fn handler(door: watch::Receiver<Arc<Door>>) -> control::Handler {
    Arc::new(move |words, pieces| {
        let door = door.borrow().clone();
        Box::pin(async move {
            downstream::run_command(&words, &Caller::control(), door.shared(), pieces).await
        })
    })
}
