//! Progress on stderr: one live line on a terminal, plain lines elsewhere. Never on stdout.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Elsewhere than on a terminal a figure is repeated at most so often.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// What may wait for a terminal that takes nothing (Ctrl-S); more is dropped, for the run goes on.
const WAITING_MAX: usize = 64;
/// How long the end waits for the terminal.
const END_WAIT: Duration = Duration::from_millis(500);

/// Where progress is shown.
pub(crate) struct Progress {
    live: Option<Live>,
    last: Option<Instant>,
}

/// A line on a terminal, drawn by a thread of its own: it alone waits for the terminal.
struct Live {
    items: SyncSender<Item>,
    ended: Receiver<()>,
}

enum Item {
    Step(String),
    Figures(String),
}

impl Progress {
    /// Live on a terminal, plain elsewhere.
    pub(crate) fn new() -> Self {
        Self { live: std::io::stderr().is_terminal().then(Live::begin), last: None }
    }

    /// A new step: always shown, and stays.
    pub(crate) fn step(&mut self, text: &str) {
        match &self.live {
            Some(live) => live.show(Item::Step(text.to_owned())),
            None => plain(text),
        }
        self.last = Some(Instant::now());
    }

    /// Figures: shown live, or now and then.
    pub(crate) fn figures(&mut self, text: &str) {
        match &self.live {
            Some(live) => live.show(Item::Figures(text.to_owned())),
            None if self.last.is_none_or(|last| last.elapsed() >= PLAIN_EVERY) => {
                plain(text);
                self.last = Some(Instant::now());
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(Live { items, ended }) = self.live.take() {
            drop(items);
            // What comes after it on the terminal stands below it, if the terminal takes anything.
            let _ = ended.recv_timeout(END_WAIT);
        }
    }
}

impl Live {
    fn begin() -> Self {
        let (items, shown) = sync_channel(WAITING_MAX);
        let (end, ended) = sync_channel(1);
        // Without a thread there is no progress to see, and a run all the same.
        let _ = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            draw(&shown);
            let _ = end.send(());
        });
        Self { items, ended }
    }

    fn show(&self, item: Item) {
        let _ = self.items.try_send(item);
    }
}

fn draw(items: &Receiver<Item>) {
    let style = ProgressStyle::with_template("{spinner:.cyan} {elapsed:.dim} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(120));
    for item in items {
        match item {
            Item::Step(text) => bar.println(text),
            Item::Figures(text) => bar.set_message(text),
        }
    }
    bar.finish_and_clear();
}

fn plain(text: &str) {
    crate::report::complain(text);
}
