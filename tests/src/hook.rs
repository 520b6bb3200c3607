//! The trigger as a child process.

use crate::hub::Hub;
use crate::program::{Program, Signal};

/// A call of `tidegate-hook`, not yet started.
#[derive(Clone, Debug)]
pub struct Hook {
    args: Vec<String>,
    env: Vec<(String, String)>,
}

/// How a call of the trigger ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookEnd {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// A call of `tidegate-hook` with these arguments and an environment without settings.
pub fn hook(args: &[&str]) -> Hook {
    Hook { args: args.iter().map(|arg| (*arg).to_owned()).collect(), env: Vec::new() }
}

impl Hook {
    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Talks to this hub.
    #[must_use]
    pub fn to(mut self, hub: &Hub) -> Self {
        self.args.extend(["--hub".to_owned(), format!("http://{}", hub.private)]);
        // That one is meant, and none of those that other tests run.
        let (data, state) = (hub.setup().data_dir(), hub.setup().path("last-hub"));
        self.args.extend(["--data-dir".to_owned(), data.display().to_string()]);
        self.args.extend(["--state-file".to_owned(), state.display().to_string()]);
        self
    }

    /// Starts it and leaves it running.
    pub fn start(&self) -> RunningHook {
        RunningHook(Program::start("tidegate-hook", "tidegate-hook", &self.args, &self.env))
    }

    /// Runs it to its end.
    pub async fn run(&self) -> HookEnd {
        self.start().end().await
    }
}

/// A trigger at work.
#[derive(Debug)]
pub struct RunningHook(Program);

impl RunningHook {
    /// Waits for its end.
    pub async fn end(&self) -> HookEnd {
        let exit = self.0.exit().await;
        HookEnd { code: exit.code, stdout: exit.stdout.join("\n"), stderr: exit.stderr.join("\n") }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.0.signal(signal);
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> Vec<String> {
        self.0.stdout()
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.0.over().is_some()
    }
}
