//! The one writer. Everything the trigger says goes through it, and nothing it says can hurt it:
//! a broken pipe makes it quiet, a full pipe that nobody reads makes it drop lines, and neither
//! delays the work or the exit.
//!
//! A thread of its own does the writing, because a write to a pipe that nobody reads never
//! returns, and the trigger must end within a second of SIGTERM all the same.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that may wait for a slow reader; further ones are dropped, for progress that is late is worthless.
const QUEUE_MAX_LINES: usize = 256;

/// How the trigger speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Plain lines, for a log.
    Plain,
    /// One JSON object per line.
    Json,
    /// Plain lines above a progress bar.
    Terminal,
}

impl Mode {
    /// JSON if asked for; a bar only where there is a terminal that can draw one.
    pub(crate) fn choose(json: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        match json {
            true => Self::Json,
            false if !dumb && std::io::stdout().is_terminal() => Self::Terminal,
            false => Self::Plain,
        }
    }
}

/// Where the bar stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BarView {
    /// Sessions that are no longer here.
    pub(crate) done: u64,
    /// Sessions at the start, and arrivals.
    pub(crate) total: u64,
    /// What stands beside it.
    pub(crate) text: String,
}

enum Item {
    Line(String),
    Bar(BarView),
    NoBar,
    Close(SyncSender<()>),
}

/// Handle of the writer.
#[derive(Debug)]
pub(crate) struct Output {
    mode: Mode,
    queue: SyncSender<Item>,
}

impl Output {
    /// Starts the writer on stdout. Without a thread to write it stays silent rather than fail the drain.
    pub(crate) fn start(mode: Mode) -> Self {
        let (queue, items) = sync_channel(QUEUE_MAX_LINES);
        // A refused thread drops the receiver, and every send then fails, which is ignored.
        let _ = std::thread::Builder::new().name("output".to_owned()).spawn(move || write_all(&items));
        Self { mode, queue }
    }

    /// How it speaks.
    pub(crate) const fn mode(&self) -> Mode {
        self.mode
    }

    /// Something to know on the way: a line, or a `note` object.
    pub(crate) fn note(&self, text: &str) {
        match self.mode {
            Mode::Json => self.object(&json!({ "event": "note", "text": text })),
            Mode::Plain | Mode::Terminal => self.raw(text.to_owned()),
        }
    }

    /// One line as it stands.
    pub(crate) fn raw(&self, line: String) {
        let _ = self.queue.try_send(Item::Line(line));
    }

    /// One JSON object on a line.
    pub(crate) fn object(&self, value: &impl Serialize) {
        if let Ok(line) = serde_json::to_string(value) {
            self.raw(line);
        }
    }

    /// Moves the bar; nothing where there is none.
    pub(crate) fn bar(&self, view: BarView) {
        if self.mode == Mode::Terminal {
            let _ = self.queue.try_send(Item::Bar(view));
        }
    }

    /// Takes the bar away, so that the last lines stand alone.
    pub(crate) fn end_bar(&self) {
        let _ = self.queue.try_send(Item::NoBar);
    }

    /// Waits until everything is written, at most `limit`.
    pub(crate) fn close(&self, limit: Duration) {
        let (done, written) = sync_channel(1);
        if self.queue.try_send(Item::Close(done)).is_ok() {
            let _ = written.recv_timeout(limit);
        }
    }
}

/// The writer's life: lines out, until told to close or the handle is gone.
fn write_all(items: &Receiver<Item>) {
    let mut broken = false;
    let mut bar: Option<ProgressBar> = None;
    for item in items {
        match item {
            Item::Line(line) => {
                let mut write = || broken = broken || writeln!(std::io::stdout(), "{line}").is_err();
                match &bar {
                    Some(bar) => bar.suspend(write),
                    None => write(),
                }
            }
            Item::Bar(view) if !broken => draw(bar.get_or_insert_with(new_bar), &view),
            Item::Bar(_) => {}
            Item::NoBar => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
            }
            Item::Close(done) => {
                let _ = std::io::stdout().flush();
                let _ = done.send(());
            }
        }
    }
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:32.cyan/blue} {pos}/{len} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stdout()).with_style(style)
}

fn draw(bar: &ProgressBar, view: &BarView) {
    bar.set_length(view.total);
    bar.set_position(view.done);
    bar.set_message(view.text.clone());
}
