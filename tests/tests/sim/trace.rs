//! What happened in a run, in order: a hash over all of it, and the lines for whoever replays a seed.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Lines that are kept for a failure.
const KEPT: usize = 400;

#[derive(Debug, Default)]
struct Lines {
    now_ms: u64,
    hash: u64,
    count: u64,
    last: VecDeque<String>,
    faults: Vec<String>,
}

/// Shared by all parts of a run.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    lines: Arc<Mutex<Lines>>,
    /// Print each line as it comes.
    loud: bool,
}

impl Trace {
    pub(crate) fn new(loud: bool) -> Self {
        let lines = Lines { hash: 0xcbf2_9ce4_8422_2325, ..Lines::default() };
        Self { lines: Arc::new(Mutex::new(lines)), loud }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Simulated time goes on.
    pub(crate) fn set_now(&self, now_ms: u64) {
        self.lines().now_ms = now_ms;
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.lines().now_ms
    }

    /// Notes what happened.
    pub(crate) fn note(&self, who: impl fmt::Display, what: impl fmt::Display) {
        let mut lines = self.lines();
        let line = format!("{:>8} {who}: {what}", lines.now_ms);
        for byte in line.bytes().chain([b'\n']) {
            lines.hash = (lines.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        lines.count += 1;
        if self.loud {
            println!("{line}");
        }
        if lines.last.len() == KEPT {
            lines.last.pop_front();
        }
        lines.last.push_back(line);
    }

    /// Notes that something must never happen and did.
    pub(crate) fn fault(&self, what: impl fmt::Display) {
        self.note("FAULT", &what);
        let mut lines = self.lines();
        let now_ms = lines.now_ms;
        lines.faults.push(format!("at {now_ms} ms: {what}"));
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.lines().faults.clone()
    }

    /// A number for the whole run, and how many lines it stands for.
    pub(crate) fn hash(&self) -> (u64, u64) {
        let lines = self.lines();
        (lines.hash, lines.count)
    }
}
