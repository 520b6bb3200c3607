//! A generator as a process of its own: orders on stdin, figures on stdout.

use super::engine::Engine;
use super::orders::{Order, Setup, Told};
use std::io::{self, BufRead, Write};
use std::sync::mpsc::sync_channel;

/// Live counts are told at most so often.
pub(super) const TELL_EVERY_NS: u64 = 50_000_000;

/// Orders that may wait for the loop.
const ORDERS_MAX: usize = 64;

/// Runs a generator until it is told to quit or its stdin ends.
///
/// # Errors
/// In words: an order that cannot be read, or the system's refusal.
pub(crate) fn run() -> Result<(), String> {
    raise_open_files().map_err(|error| error.to_string())?;
    let mut first = String::new();
    io::stdin().lock().read_line(&mut first).map_err(|error| format!("stdin: {error}"))?;
    let setup: Setup = serde_json::from_str(&first).map_err(|error| format!("not a setup: {error}"))?;
    let (engine, waker) = Engine::new(setup).map_err(|error| error.to_string())?;
    let (give, take) = sync_channel(ORDERS_MAX);
    let reader = move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            // A line that is no order ends the run like the end of all orders.
            let Ok(order) = serde_json::from_str::<Order>(&line) else { break };
            if give.send(order).is_err() || waker.wake().is_err() {
                return;
            }
        }
        drop(give);
        let _ = waker.wake();
    };
    std::thread::spawn(reader);
    engine.run(&take).map_err(|error| error.to_string())
}

/// Takes all the open files that this process may have.
///
/// # Errors
/// The system's refusal.
pub(crate) fn raise_open_files() -> io::Result<()> {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: files.maximum, maximum: files.maximum };
    Ok(rustix::process::setrlimit(rustix::process::Resource::Nofile, all)?)
}

/// Prints one line for the coordinator.
///
/// # Errors
/// Nobody reads it.
pub(super) fn tell(told: &Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}
