//! A program started for one run: a hub, a peer, or an app behind one.

use http::Uri;
use serde::Deserialize;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// How long a program may take to say that it is ready.
const READY_WAIT: Duration = Duration::from_secs(20);

/// How long a program may take to end by itself.
const END_WAIT: Duration = Duration::from_millis(500);

/// A running program that ends with this value. Dropping it kills it.
pub(crate) struct Started {
    child: Child,
    /// Kept, so that the program never writes into a closed pipe.
    _stdout: Option<BufReader<ChildStdout>>,
    /// Directories that it uses.
    _data: Vec<TempDir>,
    /// Whether it leads a process group of its own, which ends with it.
    leads: bool,
    /// Its process.
    pub(crate) pid: u32,
    /// What it said when it was ready.
    pub(crate) ready: Ready,
}

/// The line that a program of ours prints when it is ready.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Ready {
    event: String,
    /// Where clients reach it, `address:port`.
    #[serde(default)]
    pub(crate) public: String,
    /// Where its private API is, `address:port`; empty if it has none.
    #[serde(default)]
    pub(crate) private: String,
}

impl Ready {
    /// Where clients reach it.
    ///
    /// # Errors
    /// It said no address.
    pub(crate) fn public_url(&self) -> Result<Uri, String> {
        format!("ws://{}", self.public).parse().map_err(|error| format!("ready on \"{}\": {error}", self.public))
    }

    /// Where its private API is.
    ///
    /// # Errors
    /// It said no address.
    pub(crate) fn private_url(&self) -> Result<Uri, String> {
        format!("http://{}", self.private).parse().map_err(|error| format!("ready on \"{}\": {error}", self.private))
    }
}

impl Started {
    /// Starts `program serve` on free ports of 127.0.0.1, with a data directory of its own.
    ///
    /// # Errors
    /// In words: it could not be started, or did not get ready.
    pub(crate) async fn hub(program: &Path, more: &[String]) -> Result<Self, String> {
        // A hub's directory is nobody else's business; it would say so.
        let data = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o700)).tempdir();
        let data = data.map_err(|error| format!("no directory for the hub's data: {error}"))?;
        let given = |flag: &str| more.iter().any(|arg| arg == flag);
        let mut args: Vec<OsString> = vec!["serve".into()];
        for (flag, value) in [("--public", "127.0.0.1:0"), ("--private", "127.0.0.1:0"), ("--log-level", "warn")] {
            if !given(flag) {
                args.extend([flag.into(), value.into()]);
            }
        }
        args.extend(["--data-dir".into(), data.path().into()]);
        args.extend(more.iter().map(Into::into));
        Self::program(program, args, vec![data]).await
    }

    /// Starts a program that says on stdout when it is ready, and waits for that.
    ///
    /// # Errors
    /// As [`Started::hub`].
    pub(crate) async fn program(
        program: &Path,
        args: impl IntoIterator<Item = OsString>,
        data: Vec<TempDir>,
    ) -> Result<Self, String> {
        let shown = program.display();
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{shown}: {error}"))?;
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
        Ok(Self { child, _stdout: Some(stdout), _data: data, leads: false, pid, ready })
    }

    /// Starts a program that says nothing when it is ready.
    ///
    /// # Errors
    /// In words: it could not be started.
    pub(crate) fn silent(program: &Path, args: Vec<String>, data: TempDir) -> Result<Self, String> {
        let shown = program.display();
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{shown}: {error}"))?;
        let pid = child.id().ok_or_else(|| format!("{shown} ended at once"))?;
        Ok(Self { child, _stdout: None, _data: vec![data], leads: true, pid, ready: Ready::default() })
    }

    /// Ends it; what it held was only there to be measured.
    pub(crate) async fn end(mut self) {
        // An order to end first: nginx ends its workers then. It may have ended by itself, too.
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if timeout(END_WAIT, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // A master that is killed leaves its workers behind.
        if self.leads
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}
