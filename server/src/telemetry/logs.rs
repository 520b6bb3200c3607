//! Log lines on stderr. Saying one never blocks, fails or ends anything: lines wait in a bounded queue for a
//! writer thread, and what is too much is dropped and counted (`tidegate_log_lines_dropped_total`).

use super::repeats::{self, Repeats};
use crate::config::{LogFormat, SettingError};
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;
use tidegate_output::{Outlet, Stream};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How long the end of the process waits for its last lines; who does not read them by then does not get them.
const LAST_LINES_MAX: Duration = Duration::from_secs(1);

/// One for the process, as stderr is.
static STDERR: OnceLock<Outlet> = OnceLock::new();

fn stderr() -> &'static Outlet {
    STDERR.get_or_init(|| {
        let outlet = Outlet::open(Stream::Stderr);
        outlet.on_flowing_again(|lines| tracing::warn!(lines, "log lines were dropped: stderr did not take them"));
        outlet
    })
}

/// Log lines that nobody will see, so far.
pub(crate) fn lines_dropped() -> u64 {
    STDERR.get().map_or(0, Outlet::dropped)
}

/// The logs of this process; what waits is written when it is dropped, within a second.
#[derive(Debug)]
pub struct Logs(());

impl Drop for Logs {
    fn drop(&mut self) {
        repeats::tell_all();
        if let Some(outlet) = STDERR.get() {
            outlet.flush(LAST_LINES_MAX);
        }
    }
}

/// Sends log lines to stderr from here on, for the whole process. `level` as in `--log-level`.
/// Where a logger is installed already (tests with several hubs in one process) that one stays.
///
/// Errors: `level` cannot be read; the error names `--log-level`.
pub fn init_logs(format: LogFormat, level: &str) -> Result<Logs, SettingError> {
    let filter = EnvFilter::try_new(level).map_err(|error| {
        SettingError::new("--log-level", level, format!("expected a level such as info, but {error}"))
    })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(Lines).with_ansi(io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(filter).with(Repeats);
    // A second logger is refused; the first one is as good.
    let _ = match format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    Ok(Logs(()))
}

/// Makes panics log lines. The default writes to stderr itself, and a thread that panics behind a full pipe
/// would never come back.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let thread = std::thread::current();
        let place = panic.location().map(ToString::to_string);
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(thread = thread.name(), place, %backtrace, "a task panicked: {message}");
    }));
}

/// Summed up repeats are told when their time is over.
pub(crate) async fn rounds() {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        repeats::tell_due();
    }
}

/// Each line is handed over whole.
#[derive(Clone, Copy, Debug)]
struct Lines;

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        stderr().write(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logging_may_be_asked_for_twice_and_a_bad_level_is_named() {
        assert!(init_logs(LogFormat::Text, "warn").is_ok());
        assert!(init_logs(LogFormat::Json, "warn,tidegate=debug").is_ok());
        let told = init_logs(LogFormat::Json, "tidegate=loud").expect_err("there is no such level").to_string();
        assert!(told.starts_with("--log-level = \"tidegate=loud\": expected a level"), "{told}");
    }
}
