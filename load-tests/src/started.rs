//! A hub started for one run.

use http::Uri;
use serde::Deserialize;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// How long a hub may take to say that it is ready.
const READY_WAIT: Duration = Duration::from_secs(20);

/// A running hub with a data directory of its own; it ends with this value.
pub(crate) struct StartedHub {
    child: Child,
    /// Kept, so that the hub never writes into a closed pipe.
    _stdout: BufReader<ChildStdout>,
    _data: TempDir,
    /// How clients reach it.
    pub(crate) public: Uri,
    /// Its process.
    pub(crate) pid: u32,
}

/// The line that a hub prints when it is ready.
#[derive(Deserialize)]
struct Ready {
    event: String,
    public: String,
}

impl StartedHub {
    /// Starts `program serve` on free ports of 127.0.0.1 and waits until it is ready.
    ///
    /// # Errors
    /// In words: it could not be started, or did not get ready.
    pub(crate) async fn start(program: &Path) -> Result<Self, String> {
        let shown = program.display();
        let data = tempfile::tempdir().map_err(|error| format!("no directory for the hub's data: {error}"))?;
        let mut child = Command::new(program)
            .args(["serve", "--public", "127.0.0.1:0", "--private", "127.0.0.1:0", "--log-level", "warn", "--data-dir"])
            .arg(data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("--start {shown}: {error}"))?;
        let pid = child.id().ok_or_else(|| format!("{shown} ended at once"))?;
        let stdout = child.stdout.take().ok_or_else(|| format!("{shown} has no stdout"))?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        match timeout(READY_WAIT, stdout.read_line(&mut line)).await {
            Ok(Ok(bytes)) if bytes > 0 => {}
            Ok(_) => return Err(format!("{shown} ended before it was ready; see its message above")),
            Err(_) => return Err(format!("{shown} was not ready within {READY_WAIT:?}")),
        }
        let ready: Ready = serde_json::from_str(&line)
            .ok()
            .filter(|ready: &Ready| ready.event == "ready")
            .ok_or_else(|| format!("{shown} began with \"{}\" instead of its ready line", line.trim()))?;
        let public = format!("ws://{}", ready.public);
        let public = public.parse().map_err(|error| format!("{shown} is ready on {public}: {error}"))?;
        Ok(Self { child, _stdout: stdout, _data: data, public, pid })
    }

    /// Ends the hub; its sessions were only there to be measured.
    pub(crate) async fn end(mut self) {
        // It may have ended by itself; there is nothing to keep either way.
        let _ = self.child.kill().await;
    }
}
