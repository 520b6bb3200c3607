//! What the CodeDeploy agent does with a script.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// No run of these tests takes this long unless the trigger hangs.
const HUNG_AFTER: Duration = Duration::from_secs(20);

/// The trigger about to be run: with the agent's environment and a settings file of its own.
pub(crate) struct Agent {
    command: Command,
    home: TempDir,
    /// Text of the settings file; `None` leaves it to the trigger where to look.
    settings: Option<String>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A run that is under way.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    started: Instant,
    _home: TempDir,
}

impl Agent {
    /// As the agent runs a script for this event; the empty event is no event.
    pub(crate) fn event(event: &str, hub_url: &str) -> Self {
        let mut agent = Self::shell(&[], hub_url);
        if !event.is_empty() {
            agent.command.env("LIFECYCLE_EVENT", event);
        }
        agent.command.envs([
            ("DEPLOYMENT_ID", "d-TEST12345"),
            ("APPLICATION_NAME", "shop"),
            ("DEPLOYMENT_GROUP_NAME", "blue"),
            ("DEPLOYMENT_GROUP_ID", "11111111-2222-3333-4444-555555555555"),
            ("BUNDLE_BUCKET", "bundles"),
        ]);
        agent
    }

    /// As a person or a unit file runs it, with these arguments and no CodeDeploy variables.
    pub(crate) fn shell(args: &[&str], hub_url: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory can be made");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-hook"));
        command
            .args(args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in ["PATH", "HOME", "USER"] {
            command.env(name, std::env::var(name).unwrap_or_default());
        }
        // The hub that is meant keeps its data here, so that those of other tests are none of its business.
        let own = home.path().display();
        let settings = format!(
            "hub = \"{hub_url}\"\nanswer_timeout = \"400ms\"\nconnect_timeout = \"400ms\"\n\
             data_dir = \"{own}\"\nstate_file = \"{own}/last-hub\"\n"
        );
        Self { command, home, settings: Some(settings) }
    }

    /// With one more line in the settings file.
    pub(crate) fn setting(mut self, line: &str) -> Self {
        let settings = self.settings.get_or_insert_default();
        settings.push_str(line);
        settings.push('\n');
        self
    }

    /// Without naming a settings file on the command line.
    pub(crate) fn without_settings(mut self) -> Self {
        self.settings = None;
        self
    }

    /// With one more argument.
    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.command.arg(arg);
        self
    }

    /// With one more variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// With this as its stdout; what is written there is not in `Run`.
    pub(crate) fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    /// A file beside the settings file, with this text.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).expect("the temporary directory can be written");
        path
    }

    fn spawn(&mut self) -> Child {
        if let Some(settings) = &self.settings {
            let path = self.file("hook.toml", settings);
            self.command.arg("--config").arg(path);
        }
        self.command.spawn().expect("the trigger was built and starts")
    }

    pub(crate) fn start(mut self) -> Running {
        let mut child = self.spawn();
        let stdout = child.stdout.take().map(|pipe| std::thread::spawn(move || read_all(pipe)));
        let stderr = child.stderr.take().map(|pipe| std::thread::spawn(move || read_all(pipe)));
        Running { child, stdout, stderr, started: Instant::now(), _home: self.home }
    }

    /// Starts it, and leaves its stdout to the caller.
    pub(crate) fn start_with_own_pipe(mut self) -> (Running, std::process::ChildStdout) {
        let mut child = self.spawn();
        let pipe = child.stdout.take().expect("stdout was asked for as a pipe");
        let stderr = child.stderr.take().map(|pipe| std::thread::spawn(move || read_all(pipe)));
        (Running { child, stdout: None, stderr, started: Instant::now(), _home: self.home }, pipe)
    }

    pub(crate) fn run(self) -> Run {
        self.start().wait()
    }
}

fn read_all(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8(bytes).expect("the trigger writes UTF-8")
}

impl Running {
    /// Sends a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill can be run").success(), "the trigger was already gone when {name} was sent");
    }

    /// Waits for the end; a trigger that hangs fails the test.
    pub(crate) fn wait(mut self) -> Run {
        let status = self.status();
        let text = |reader: Option<JoinHandle<String>>| {
            reader.map(|reader| reader.join().expect("the trigger writes UTF-8")).unwrap_or_default()
        };
        Run { code: status.code(), stdout: text(self.stdout.take()), stderr: text(self.stderr.take()) }
    }

    fn status(&mut self) -> ExitStatus {
        while self.started.elapsed() < HUNG_AFTER {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        panic!("the trigger was still running after {HUNG_AFTER:?}");
    }
}

impl Run {
    /// The run, if it ended with this code and wrote as the agent needs it.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code of {self:#?}");
        for line in self.stdout.lines() {
            assert!(line.chars().count() < 120, "a line of {} characters: {line}", line.chars().count());
        }
        assert!(!self.stdout.contains(['\r', '\u{1b}']), "no carriage return and no colour off a terminal: {self:#?}");
        self
    }

    /// Fails unless all of this stands in the output.
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stdout.contains(part), "expected {part:?} in the output of {self:#?}");
        }
        self
    }

    /// The last line of the output.
    pub(crate) fn last_line(&self) -> &str {
        self.stdout.lines().last().unwrap_or_default()
    }
}
