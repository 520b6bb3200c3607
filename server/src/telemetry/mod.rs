//! What the hub tells about itself: log lines on stderr, and metrics for Prometheus.

mod labels;
mod metrics;

pub use labels::{DialResult, Direction, Label, Outcome, PeerResult, PeerTrouble, Rejected, SessionPhase};
pub use metrics::{ByLabel, DRAIN_PHASES, Described, METRICS, Metrics, PeerMessages, UPKEEP_EVERY_MS};

use crate::config::{LogFormat, SettingError};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::SubscriberBuilder;

/// Sends log lines to stderr from here on, for the whole process. `level` as in `--log-level`.
/// Where a logger is installed already (tests with several hubs in one process) that one stays.
///
/// Errors: `level` cannot be read; the error names `--log-level`.
pub fn init_logs(format: LogFormat, level: &str) -> Result<(), SettingError> {
    let filter = EnvFilter::try_new(level).map_err(|error| {
        SettingError::new("--log-level", level, format!("expected a level such as info, but {error}"))
    })?;
    let builder = SubscriberBuilder::default().with_env_filter(filter).with_writer(std::io::stderr);
    // A second logger is refused; the first one is as good.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logging_may_be_asked_for_twice_and_a_bad_level_is_named() {
        assert_eq!(init_logs(LogFormat::Text, "warn"), Ok(()));
        assert_eq!(init_logs(LogFormat::Json, "warn,tidegate=debug"), Ok(()));
        let told = init_logs(LogFormat::Json, "tidegate=loud").unwrap_err().to_string();
        assert!(told.starts_with("--log-level = \"tidegate=loud\": expected a level"), "{told}");
    }
}
