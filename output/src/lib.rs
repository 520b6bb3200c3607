//! Lines on stdout and stderr that can never hurt the program that says them: whatever is behind the
//! descriptor (a pipe that is full and unread, one whose reader is gone, a full disk), saying a line neither
//! blocks, nor fails, nor panics.
//!
//! ```text
//!   any thread ── write ──► waiting (bounded; beyond it lines are dropped and counted)
//!                              │
//!                           writer thread ── write(2) ──► descriptor; it alone may block, for ever
//! ```
//!
//! The writer uses a descriptor of its own and takes none of std's locks: `std::io::stderr` is locked while it
//! is written to, and a panic message behind a full pipe would then block its thread, too.

mod writer;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Bytes that may wait for the writer; what the writer has taken is at most as much again.
pub const WAITING_BYTES_MAX: usize = 256 * 1024;

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes lines for one descriptor and has a thread write them.
#[derive(Debug)]
pub struct Outlet(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something waits, or nothing will come any more.
    work: Condvar,
    /// Everything was written, or dropped.
    idle: Condvar,
    dropped: AtomicU64,
    flowing: OnceLock<Box<dyn Fn(u64) + Send + Sync>>,
}

/// What the writer is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    Waiting,
    Writing,
    /// There is none: its thread or its descriptor could not be had, or nobody has lines for it any more.
    Gone,
}

struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    writer: Writer,
    /// Lines that were dropped since that was last told.
    untold: u64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

impl Outlet {
    /// Lines for stdout or stderr.
    pub fn open(stream: Stream) -> Self {
        Self::begin(match stream {
            Stream::Stdout => io::stdout().as_fd().try_clone_to_owned(),
            Stream::Stderr => io::stderr().as_fd().try_clone_to_owned(),
        })
    }

    /// Lines for any descriptor.
    pub fn to(descriptor: OwnedFd) -> Self {
        Self::begin(Ok(descriptor))
    }

    fn begin(descriptor: io::Result<OwnedFd>) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { waiting: Vec::new(), writer: Writer::Waiting, untold: 0 }),
            work: Condvar::new(),
            idle: Condvar::new(),
            dropped: AtomicU64::new(0),
            flowing: OnceLock::new(),
        });
        let started = descriptor.and_then(|descriptor| {
            let shared = shared.clone();
            std::thread::Builder::new().name("output".to_owned()).spawn(move || writer::run(&shared, &descriptor))
        });
        if started.is_err() {
            // Nothing can be said any more, and that is no reason to stop.
            shared.lock().writer = Writer::Gone;
        }
        Self(shared)
    }

    /// Calls `tell` with the number of lines that were dropped, once lines are taken again. `tell` is called by
    /// the writer, and may write.
    pub fn on_flowing_again(&self, tell: impl Fn(u64) + Send + Sync + 'static) {
        // The first one stays.
        drop(self.0.flowing.set(Box::new(tell)));
    }

    /// Takes whole lines, each with its line end, or drops them all. Never blocks on what is behind the descriptor.
    pub fn write(&self, lines: &[u8]) {
        let mut state = self.0.lock();
        if state.writer == Writer::Gone || state.waiting.len() + lines.len() > WAITING_BYTES_MAX {
            drop(state);
            return self.0.drop_lines(lines);
        }
        state.waiting.extend_from_slice(lines);
        drop(state);
        self.0.work.notify_one();
    }

    /// Takes one line without its line end.
    pub fn line(&self, line: &str) {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.write(&bytes);
    }

    /// How many lines were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, at most so long. True: it is.
    pub fn flush(&self, within: Duration) -> bool {
        let busy = |state: &mut State| match state.writer {
            Writer::Waiting => !state.waiting.is_empty(),
            Writer::Writing => true,
            Writer::Gone => false,
        };
        let (state, timeout) =
            self.0.idle.wait_timeout_while(self.0.lock(), within, busy).unwrap_or_else(PoisonError::into_inner);
        drop(state);
        !timeout.timed_out()
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.0.lock().writer = Writer::Gone;
        self.0.work.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_lines(&self, lines: &[u8]) {
        let count = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.dropped.fetch_add(count, Ordering::Relaxed);
        self.lock().untold += count;
    }
}

/// Says something once, before the end or before there is anything else, and waits at most so long for it to
/// be taken.
pub fn last_words(stream: Stream, text: &str, within: Duration) {
    let outlet = Outlet::open(stream);
    outlet.line(text.trim_end_matches('\n'));
    outlet.flush(within);
}
