//! Progress on stderr: one live line on a terminal, plain lines elsewhere. Never on stdout.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Elsewhere than on a terminal a figure is repeated at most so often.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Where progress is shown.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last: Option<Instant>,
}

impl Progress {
    /// Live on a terminal, plain elsewhere.
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(120));
            bar.set_style(
                ProgressStyle::with_template("{spinner:.cyan} {elapsed:.dim} {wide_msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar
        });
        Self { bar, last: None }
    }

    /// A new step: always shown, and stays.
    pub(crate) fn step(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => plain(text),
        }
        self.last = Some(Instant::now());
    }

    /// Figures: shown live, or now and then.
    pub(crate) fn figures(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
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
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A closed stderr is no reason to stop measuring.
fn plain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
