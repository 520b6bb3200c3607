//! `tidegate-hook`: asks a hub to drain, watches it, and turns the result into an exit code.
//!
//! ```text
//!   args (as typed) ─┐
//!   TIDEGATE_* ──────┼─► settings ─► run ─► drain ─ watch (decides) ─► summary ─► exit
//!   hook.toml ───────┘      ▲               query (plan, status, report, cancel)
//!   LIFECYCLE_EVENT ─► task ┘               client (private API) · output (the one writer)
//! ```
//!
//! The drain lives in the hub. This process only asks, waits and tells; it may die at any moment.

mod args;
mod client;
mod drain;
mod evidence;
mod exit;
mod failure;
mod file;
mod lifecycle;
mod output;
mod parent;
mod progress;
mod query;
mod run;
mod settings;
mod summary;
mod text;
mod watch;

use clap::{CommandFactory, Parser};
use exit::Exit;
use lifecycle::{Deployment, Task};
use output::{Mode, Output};
use parent::Parent;
use run::{Ending, Run};
use settings::{BadSetting, Settings, Sources};
use std::cell::{Cell, RefCell};
use std::process;
use std::time::Duration;
use tidegate_output::{Stream, last_words};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the last lines may take to be written; a reader that is stuck gets no more.
const LAST_WORDS_MAX: Duration = Duration::from_millis(300);

fn main() {
    let parent = Parent::now();
    let exit = story(parent);
    // Not a plain return: a writer that is stuck in a full pipe must not keep the process.
    process::exit(i32::from(exit.code()));
}

/// From what was typed to the exit.
fn story(parent: Parent) -> Exit {
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(shown) => return show_help_or_error(&shown),
    };
    let deployment = Deployment::read(env);
    let Some(task) = args.task().or_else(|| deployment.task()) else {
        complain(&args::Args::command().render_help().to_string());
        complain("no command, and no LIFECYCLE_EVENT that says what to do");
        return Exit::Usage;
    };
    let settings = match resolve(&args, &task, &deployment) {
        Ok(settings) => settings,
        Err(bad) => return refuse(&bad),
    };
    let output = Output::start(Mode::choose(settings.json));
    if let Task::Nothing(event) = &task {
        output.note(&text::fit(&format!("{event}: nothing to do for tidegate-hook")));
        output.close(LAST_WORDS_MAX);
        return Exit::Done;
    }
    match prepare(settings, deployment, output) {
        Ok(run) => perform(&run, &task, parent),
        Err(bad) => refuse(&bad),
    }
}

/// Everything that is known before the hub is asked.
fn resolve(args: &args::Args, task: &Task, deployment: &Deployment) -> Result<Settings, BadSetting> {
    let (file_path, named) = settings::file_path(args.config(), env);
    let file = file::read_settings(&file_path, named)?;
    Sources { flags: args.given(), env: settings::from_env(env), file, file_path }.resolve(task, deployment)
}

fn prepare(settings: Settings, deployment: Deployment, output: Output) -> Result<Run, BadSetting> {
    let token = settings.token_file.as_deref().map(file::read_token).transpose()?;
    let api = client::Api::new(&settings, &deployment, token.as_deref())?;
    Ok(Run {
        settings,
        deployment,
        api,
        output,
        asked: Cell::new(false),
        reached: Cell::new(false),
        last: RefCell::new(None),
    })
}

/// Does the task, whatever ends first: the task, our patience, or a signal.
fn perform(run: &Run, task: &Task, parent: Parent) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return refuse(&BadSetting(format!("this process cannot wait for anything: {error}")));
        }
    };
    let ending = runtime.block_on(async {
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => return Ending::say(Exit::Unanswered, &format!("signals cannot be received: {error}")),
        };
        let mut ending = tokio::select! {
            biased;
            exit = signals.next() => run.stopped(exit),
            () = parent.died(), if run.deployment.is_codedeploy() => run.agent_died(),
            done = tokio::time::timeout(run.settings.give_up_after, work(run, task)) => done.unwrap_or_else(|_| run.gave_up()),
        };
        let by_signal = matches!(ending.exit, Exit::Terminated | Exit::Interrupted);
        let mut undone = ending.clone();
        tokio::select! {
            biased;
            exit = signals.next(), if !by_signal => ending.exit = exit,
            () = run.undo(&mut undone) => ending = undone,
        }
        ending
    });
    if ending.exit == Exit::Done && run.reached.get() {
        evidence::remember(&run.settings);
    }
    run.close(&ending, !matches!(task, Task::Drain | Task::Rest));
    run.output.close(LAST_WORDS_MAX);
    // Its threads may be stuck in a name lookup.
    runtime.shutdown_background();
    ending.exit
}

async fn work(run: &Run, task: &Task) -> Ending {
    match task {
        Task::Drain | Task::Rest => drain::drain(run, task).await,
        Task::Plan | Task::Status | Task::Report | Task::Cancel | Task::Continue | Task::Serve | Task::Nothing(_) => {
            query::ask(run, task).await
        }
    }
}

/// The two signals that end a run.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> Exit {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Exit::Terminated,
            _ = self.interrupt.recv() => Exit::Interrupted,
        }
    }
}

/// One variable by its name; the environment as a whole is never read, and never shown.
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `--help` and `--version` go to stdout, a mistyped command line to stderr.
fn show_help_or_error(shown: &clap::Error) -> Exit {
    let text = shown.render().to_string();
    if shown.use_stderr() {
        complain(&text);
        return Exit::Usage;
    }
    last_words(Stream::Stdout, &text, LAST_WORDS_MAX);
    Exit::Done
}

/// A setting that cannot be used: said before anything was begun.
fn refuse(bad: &BadSetting) -> Exit {
    complain(&format!("tidegate-hook: {bad}"));
    Exit::Usage
}

/// A line on stderr. A broken pipe there is nobody's business, and a full one is not waited for.
fn complain(text: &str) {
    last_words(Stream::Stderr, text.trim_end(), LAST_WORDS_MAX);
}
