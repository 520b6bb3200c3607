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
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Lines that may wait for a slow reader; further ones are dropped and counted, for progress that is late is worthless.
const QUEUE_MAX_LINES: usize = 256;
/// How often an end looks for room in a full queue.
const LOOK_EVERY: Duration = Duration::from_millis(5);

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
    /// Lines that were dropped and not told of.
    dropped: Arc<AtomicU64>,
}

impl Output {
    /// Starts the writer on stdout. Without a thread to write it stays silent rather than fail the drain.
    pub(crate) fn start(mode: Mode) -> Self {
        let (queue, items) = sync_channel(QUEUE_MAX_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer { mode, dropped: dropped.clone(), broken: false, bar: None };
        // A refused thread drops the receiver, and every send then fails, which is ignored.
        let _ = std::thread::Builder::new().name("output".to_owned()).spawn(move || writer.run(&items));
        Self { mode, queue, dropped }
    }

    /// How it speaks.
    pub(crate) const fn mode(&self) -> Mode {
        self.mode
    }

    /// Something to know on the way: a line, or a `note` object.
    pub(crate) fn note(&self, text: &str) {
        self.raw(note(self.mode, text));
    }

    /// One line as it stands.
    pub(crate) fn raw(&self, line: String) {
        if self.queue.try_send(Item::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
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
        let end = Instant::now() + limit;
        let (done, written) = sync_channel(1);
        let mut close = Item::Close(done);
        // A reader that is slow, but reads, gets the verdict.
        while let Err(TrySendError::Full(again)) = self.queue.try_send(close) {
            if Instant::now() >= end {
                return;
            }
            close = again;
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = written.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

/// Something to know on the way, as this mode says it.
fn note(mode: Mode, text: &str) -> String {
    match mode {
        Mode::Json => json!({ "event": "note", "text": text }).to_string(),
        Mode::Plain | Mode::Terminal => text.to_owned(),
    }
}

/// The thread that writes.
struct Writer {
    mode: Mode,
    dropped: Arc<AtomicU64>,
    broken: bool,
    bar: Option<ProgressBar>,
}

impl Writer {
    /// Lines out, until told to close or the handle is gone.
    fn run(mut self, items: &Receiver<Item>) {
        for item in items {
            match item {
                Item::Line(line) => {
                    self.line(&line);
                    self.tell_dropped();
                }
                Item::Bar(view) if !self.broken => draw(self.bar.get_or_insert_with(new_bar), &view),
                Item::Bar(_) => {}
                Item::NoBar => {
                    if let Some(bar) = self.bar.take() {
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

    fn line(&mut self, line: &str) {
        let mut write = || self.broken = self.broken || writeln!(std::io::stdout(), "{line}").is_err();
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// A reader that reads again is told what it has missed.
    fn tell_dropped(&mut self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let lines = crate::text::count(dropped, "line");
            self.line(&note(self.mode, &format!("({lines} dropped here: nobody read them)")));
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
