//! The command line.

use crate::swarm::App;
use clap::{Args, Parser, Subcommand};
use http::Uri;
use std::path::PathBuf;
use std::time::Duration;

/// Load and measuring tool for Tidegate hubs: its clients keep accounts of their own and believe no hub.
#[derive(Debug, Parser)]
#[command(name = "tidegate-load", version, max_term_width = 110)]
#[command(after_help = "Progress goes to stderr, results to stdout; the last line there is one JSON object.\n\
Exit: 0 all well · 1 a fault was found, or the run failed · 2 wrong usage.\n\n\
Examples:\n  \
tidegate-load drain --hub ws://127.0.0.1:8080 --private http://127.0.0.1:8081 --clients 500\n  \
tidegate-load idle --start target/release/tidegate --max-bytes 4096\n\n\
`tidegate-load drain --help` and `tidegate-load idle --help` say more.")]
pub(crate) struct Cli {
    /// What to measure.
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

const DRAIN_ABOUT: &str = "Opens --clients sessions on --hub and lets numbered messages flow in both directions. When everybody \
is connected and messages flow, it prints {\"event\":\"ready\",…} on stdout: start the drain then (tidegate-hook does). \
It watches the drain on --private until it has ended, lets messages flow on for --settle, asks the app for its side of \
every account, and compares both sides with each other and with the hub's report.\n\n\
The last line on stdout is the verdict as JSON. Exit 0 only if nothing was lost, doubled or reordered, every account was \
settled, and the hub's report tells the same story; else 1, with the first ten faults named on stderr.\n\n\
Two gaps are told. gap_ms_*: the clients' own, from the hello on the second connection (the hub freezes after it) or from \
the loss of the first, until welcome. hub_gap_ms_p99: the hub's, from freeze to welcome.";

const IDLE_ABOUT: &str = "Opens idle, resumable WebSocket sessions on a hub in steps, lets it settle after each, reads the \
hub's proportional set size from /proc/PID/smaps_rollup, and fits a line: its slope is the user-space memory of one session. \
The start of the process does not count, nor does the kernel's part of a socket (about 4 KB).\n\n\
The hub may run already (--hub and --pid) or be started for the run (--start). Both processes need an open file for each \
session: see `ulimit -n`.";

/// The scenarios.
#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Send numbered messages both ways through a drain; count every loss, duplicate and reordering.
    #[command(long_about = DRAIN_ABOUT)]
    Drain(DrainArgs),
    /// Open idle sessions in steps; print the hub's memory for each session.
    #[command(long_about = IDLE_ABOUT)]
    Idle(IdleArgs),
}

/// Options of `drain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
# in one terminal\n  \
tidegate-load drain --hub ws://127.0.0.1:8080 --private http://127.0.0.1:8081 --clients 500 --rate 2\n  \
# in another, after the ready line\n  \
tidegate-hook drain --hub http://127.0.0.1:8081 --window 20s\n\n  \
# 2,000 clients, an app that echoes, ten messages a second each, give up after three minutes\n  \
tidegate-load drain --hub ws://127.0.0.1:8080/echo --private http://127.0.0.1:8081 --app echo \\\n      \
--clients 2000 --rate 10 --give-up-after 3m")]
pub(crate) struct DrainArgs {
    /// The hub that will be drained, as clients reach it. Without a path: /ledger for the kitchen, else /connect.
    #[arg(long, value_name = "URL", value_parser = ws_url)]
    pub(crate) hub: Uri,
    /// The private API of the same hub.
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub(crate) private: Uri,
    /// File with the bearer token of the private API.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_PRIVATE_TOKEN_FILE")]
    pub(crate) private_token_file: Option<PathBuf>,
    /// How many clients.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub(crate) clients: u32,
    /// Messages per second from each client; the app answers each one.
    #[arg(long, default_value_t = 2.0, value_name = "PER_S", value_parser = rate)]
    pub(crate) rate: f64,
    /// What stands behind the hub and keeps the other side of the account.
    #[arg(long, value_enum, default_value_t = App::Kitchen)]
    pub(crate) app: App,
    /// Messages flow at least so long after the ready line, however short the drain.
    #[arg(long, default_value = "0s", value_name = "DUR", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// How long messages flow on after the drain has ended.
    #[arg(long, default_value = "2s", value_name = "DUR", value_parser = humantime::parse_duration)]
    pub(crate) settle: Duration,
    /// How long clients and app may take to settle their accounts.
    #[arg(long, default_value = "20s", value_name = "DUR", value_parser = humantime::parse_duration)]
    pub(crate) answer: Duration,
    /// At most so many clients are being connected at a time.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) connecting: u32,
    /// Follow a `move` to another host name too.
    #[arg(long)]
    pub(crate) foreign_hosts: bool,
    /// The whole run ends after this, whatever has happened.
    #[arg(long, default_value = "10m", value_name = "DUR", value_parser = humantime::parse_duration)]
    pub(crate) give_up_after: Duration,
}

/// Options of `idle`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which hub").required(true).args(["hub", "start"]))]
#[command(after_help = "Examples:\n  \
tidegate-load idle --start target/release/tidegate --max-bytes 4096\n  \
tidegate-load idle --hub ws://127.0.0.1:8080 --pid \"$(pidof tidegate)\" --from 1000 --to 5000 --steps 5")]
pub(crate) struct IdleArgs {
    /// A running hub, as clients reach it. Without a path: /connect.
    #[arg(long, value_name = "URL", value_parser = ws_url, requires = "pid")]
    pub(crate) hub: Option<Uri>,
    /// The process of that hub.
    #[arg(long, value_name = "PID", requires = "hub")]
    pub(crate) pid: Option<u32>,
    /// Start this `tidegate` for the run, on free ports of 127.0.0.1, and end it afterwards.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "pid")]
    pub(crate) start: Option<PathBuf>,
    /// Sessions at the first measuring point.
    #[arg(long, default_value_t = 2_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub(crate) from: u32,
    /// Sessions at the last one.
    #[arg(long, default_value_t = 15_000, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=19_000))]
    pub(crate) to: u32,
    /// Measuring points, the first and the last included.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100))]
    pub(crate) steps: u32,
    /// Fail with exit 1 above so many bytes for each session.
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_bytes: Option<u64>,
    /// At most so many sessions are being opened at a time.
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) connecting: u32,
    /// The whole run ends after this, whatever has happened.
    #[arg(long, default_value = "5m", value_name = "DUR", value_parser = humantime::parse_duration)]
    pub(crate) give_up_after: Duration,
}

fn url(text: &str, scheme: &str) -> Result<Uri, String> {
    let example = if scheme == "ws" { "ws://127.0.0.1:8080" } else { "http://127.0.0.1:8081" };
    let url: Uri = text.parse().map_err(|error| format!("{error}; expected something like {example}"))?;
    if url.scheme_str() == Some(scheme) && url.host().is_some_and(|host| !host.is_empty()) {
        return Ok(url);
    }
    Err(format!("expected {scheme}:// and a host, something like {example} (this tool does not speak TLS)"))
}

fn ws_url(text: &str) -> Result<Uri, String> {
    url(text, "ws")
}

fn http_url(text: &str) -> Result<Uri, String> {
    url(text, "http")
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.01..=1_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected a number from 0.01 to 1000".to_owned()),
    }
}

/// The URL with this path, if it has none of its own.
pub(crate) fn with_path(url: &Uri, path: &'static str) -> Uri {
    if url.path() != "/" || url.query().is_some() {
        return url.clone();
    }
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static(path));
    Uri::from_parts(parts).unwrap_or_else(|_| url.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn error(line: &str) -> String {
        Cli::try_parse_from(line.split(' ')).expect_err("this line must be refused").to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_each_scenario_teaches_what_it_does_and_shows_examples() {
        for (line, expected) in [
            ("tidegate-load drain --help", ["start the drain then", "tidegate-hook drain --hub"]),
            ("tidegate-load idle --help", ["proportional set size", "tidegate-load idle --start"]),
        ] {
            let help = error(line);
            expected.iter().for_each(|words| assert!(help.contains(words), "\"{words}\" in:\n{help}"));
        }
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_would_be_right() {
        let drain = "tidegate-load drain --private http://h:1 --hub";
        assert!(error(&format!("{drain} http://h:1")).contains("something like ws://127.0.0.1:8080"));
        assert!(error(&format!("{drain} wss://h")).contains("does not speak TLS"));
        assert!(error(&format!("{drain} ws://h --rate 0")).contains("from 0.01 to 1000"));
        assert!(error(&format!("{drain} ws://h --clients 20000")).contains("19000"));
        assert!(error("tidegate-load idle").contains("--start"), "a hub, or one to start, is needed");
    }

    #[test]
    fn a_path_is_added_only_where_there_is_none() {
        let uri = |text: &'static str| Uri::from_static(text);
        assert_eq!(with_path(&uri("ws://h:1"), "/ledger"), "ws://h:1/ledger");
        assert_eq!(with_path(&uri("ws://h:1/"), "/ledger"), "ws://h:1/ledger");
        assert_eq!(with_path(&uri("ws://h:1/chat?room=1"), "/ledger"), "ws://h:1/chat?room=1");
    }
}
