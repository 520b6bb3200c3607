//! The command line.

use crate::compare::CompareArgs;
use crate::drain::{self, DrainArgs};
use crate::report::OutputArgs;
use crate::scenario::broadcast::BroadcastArgs;
use crate::scenario::churn::ChurnArgs;
use crate::scenario::connect::ConnectArgs;
use crate::scenario::idle::IdleArgs;
use crate::scenario::publish::PublishArgs;
use crate::scenario::relay::RelayArgs;
use crate::scenario::slow::SlowArgs;
use crate::scenario::storm::StormArgs;
use crate::target::TargetArgs;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use http::Uri;
use std::io::IsTerminal;
use std::time::Duration;
use tidegate_output::{Stream, last_words};

/// How long help, or what is wrong with the command line, may take to be read.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

/// Load and measuring tool for Tidegate hubs: its clients keep accounts of their own and believe no hub.
#[derive(Debug, Parser)]
#[command(name = "tidegate-load", version, max_term_width = 110)]
#[command(after_help = "Progress goes to stderr, results to stdout; the last line there is one JSON object.\n\
A run whose numbers would not be the server's own is refused: when the generator was the bottleneck, the kernel\n\
dropped or resent segments, the host took processor time, or answers are missing.\n\
Exit: 0 all well · 1 a fault was found, the run was refused, or it failed · 2 wrong usage.\n\n\
Examples:\n  \
tidegate-load idle --start target/release/tidegate --max-bytes 2048 --html idle.html\n  \
tidegate-load broadcast --start target/release/tidegate --clients 18000\n  \
tidegate-load drain --hub ws://127.0.0.1:8080 --private http://127.0.0.1:8081 --clients 500\n\n\
`tidegate-load SCENARIO --help` says more.")]
pub(crate) struct Cli {
    /// What to measure.
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

const IDLE_ABOUT: &str = "Opens idle, resumable sessions on a hub in steps, joins each to two channels, lets the hub settle, reads its \
proportional set size from /proc/PID/smaps_rollup, and fits a line: its slope is the user-space memory of one session, \
told with its 95 % confidence. The start of the process does not count, nor does the kernel's part of a socket (about 4 KB).\n\n\
With --after, what is used once and stays taken is measured too; with --idle-for, the processor time of doing nothing.\n\n\
Both processes need an open file for each session: see `ulimit -n`.";

const CONNECT_ABOUT: &str = "Opens sessions (upgrade, hello, welcome) and tells the server's processor time for each, how many a second \
it accepts, and how long a client waits. With --rate each attempt is due at its own time and its wait counts from there, \
so that a slow server cannot hide behind attempts that were never made.";

const BROADCAST_ABOUT: &str = "Publishes one text to all sessions, some rounds, and tells the server's processor time for each delivery, and \
when each client had it: the clients stamp receipts with the clock that stamped the text.";

const STORM_ABOUT: &str = "All clients dial in the same moment, as after a crash. Tells how long it takes until 99 of 100 and until all have a \
session, the busiest second, and how much longer a few live sessions wait for the answer to a WebSocket ping meanwhile.\n\n\
A full listen queue (ListenOverflows) refuses the run: the kernel then makes clients wait a second and more.";

const RELAY_ABOUT: &str = "Without --rate it is a closed loop: each session sends the next message when the last is back, which finds the most that \
can pass and the processor time of one. With --rate it is an open loop: each message is due at its time and its way counts \
from there, so a stall of the hub is seen by every message that was due in it.";

const COMPARE_ABOUT: &str = "Starts Tidegate and the peer anew for each run, in the order ours, theirs, theirs, ours, so that what drifts weighs \
on both alike, and tells the median of the pairs' own ratios with a 95 % interval (bootstrap). Below 1, Tidegate needs less.\n\n\
Peers: baseline (the plain axum hub, load-tests/baseline), ws (Node; `npm ci --prefix load-tests/peers/ws`), nchan; for what is \
relayed haproxy and nginx, before the same echo app. Debian's packages are installed when missing and this runs as root.";

/// A scenario for thin clients: whom, what, and where the report goes.
#[derive(Debug, Args)]
pub(crate) struct Thin<T: Args> {
    /// Whom.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// What.
    #[command(flatten)]
    pub(crate) options: T,
    /// Where the report goes.
    #[command(flatten)]
    pub(crate) out: OutputArgs,
}

/// The scenarios.
#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Open idle sessions in steps; tell the memory of each, what stays, and the cost of doing nothing.
    #[command(long_about = IDLE_ABOUT, after_help = "Examples:\n  \
        tidegate-load idle --start target/release/tidegate --max-bytes 2048\n  \
        tidegate-load idle --start target/release/tidegate --after broadcast,burst,waves --idle-for 60s\n  \
        tidegate-load idle --hub ws://127.0.0.1:8080 --private http://127.0.0.1:8081 --pid \"$(pgrep -nx tidegate)\" --to 5000")]
    Idle(Thin<IdleArgs>),
    /// Open sessions; tell the cost of accepting one and how long a client waits.
    #[command(long_about = CONNECT_ABOUT, after_help = "Examples:\n  \
        tidegate-load connect --start target/release/tidegate --count 18000\n  \
        tidegate-load connect --hub ws://127.0.0.1:8080 --pid \"$(pgrep -nx tidegate)\" --rate 1000")]
    Connect(Thin<ConnectArgs>),
    /// Send one text to everybody, some rounds; tell the cost of a delivery and when it came.
    #[command(long_about = BROADCAST_ABOUT, after_help = "Examples:\n  \
        tidegate-load broadcast --start target/release/tidegate --clients 18000 --html broadcast.html\n  \
        tidegate-load broadcast --start target/release/tidegate --payload 4096 --channel")]
    Broadcast(Thin<BroadcastArgs>),
    /// Send messages to single sessions, of few and of many; tell the cost of one and whether it grows with them.
    #[command(after_help = "Examples:\n  \
        tidegate-load publish --start target/release/tidegate --from 1000 --to 18000 --html publish.html")]
    Publish(Thin<PublishArgs>),
    /// Let everybody come at once while a few are at work; tell the admission and what the few noticed.
    #[command(long_about = STORM_ABOUT, after_help = "Examples:\n  \
        tidegate-load storm --start target/release/tidegate --count 18000 --html storm.html")]
    Storm(Thin<StormArgs>),
    /// Let sessions end and others come all the time; tell the cost of each and whether memory piles up.
    #[command(after_help = "Examples:\n  \
        tidegate-load churn --start target/release/tidegate --sessions 5000 --rate 1000 --time 60s")]
    Churn(Thin<ChurnArgs>),
    /// Let some clients stop reading; tell what the others notice and what the hub keeps for the slow ones.
    #[command(after_help = "Examples:\n  \
        tidegate-load slow --start target/release/tidegate --clients 5000 --stalled 50")]
    Slow(Thin<SlowArgs>),
    /// Send messages through the hub to an app that sends them back; tell cost and time.
    #[command(long_about = RELAY_ABOUT, after_help = "Examples:\n  \
        tidegate-load relay --start target/release/tidegate --echo-app --sessions 64\n  \
        tidegate-load relay --hub ws://127.0.0.1:8080/echo --pid \"$(pgrep -nx tidegate)\" --rate 20000 --html relay.html")]
    Relay(Thin<RelayArgs>),
    /// Send numbered messages both ways through a drain; count every loss, duplicate and reordering.
    #[command(long_about = drain::ABOUT)]
    Drain(DrainArgs),
    /// Play one scenario against Tidegate and a peer in turn; tell the ratio with its spread.
    #[command(long_about = COMPARE_ABOUT, after_help = "Examples:\n  \
        tidegate-load compare broadcast --peer nchan --start target/release/tidegate -- --clients 18000\n  \
        tidegate-load compare idle --peer ws --start target/release/tidegate --pairs 3 -- --from 2000 --to 18000\n  \
        tidegate-load compare relay --peer haproxy --start target/release/tidegate -- --sessions 64 --time 5s")]
    Compare(CompareArgs),
    /// Be an app that sends every message back, on a free port of 127.0.0.1 that the ready line names.
    EchoApp,
    /// Be a generator for another run of this program; orders come on stdin.
    #[command(hide = true)]
    Generator,
}

/// No run is longer: what is more is a mistake in the unit.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reads the command line.
pub(crate) fn read() -> Cli {
    let command = Cli::command();
    let matches = command.try_get_matches().unwrap_or_else(|error| show(&error));
    if let Some(("drain", given)) = matches.subcommand()
        && given.value_source("start") != Some(ValueSource::CommandLine)
    {
        // By themselves the options cannot say it: --app, which conflicts with --start, lifts what they require.
        let only =
            ["notice", "window", "drain_settle", "deadline", "max_in_flight", "talking", "push_rate", "start_arg"];
        if let Some(odd) = only.iter().find(|name| given.value_source(name) == Some(ValueSource::CommandLine)) {
            let option = odd.replace('_', "-");
            let why = format!(
                "--{option} is for drains that this tool starts itself (--start); here whoever starts the drain says it"
            );
            show(&Cli::command().error(ErrorKind::ArgumentConflict, why));
        }
    }
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| show(&error))
}

/// Help and version on stdout, what was mistyped on stderr, and the end.
fn show(error: &clap::Error) -> ! {
    let (stream, is_terminal) = match error.use_stderr() {
        true => (Stream::Stderr, std::io::stderr().is_terminal()),
        false => (Stream::Stdout, std::io::stdout().is_terminal()),
    };
    let text = error.render();
    last_words(stream, &if is_terminal { text.ansi().to_string() } else { text.to_string() }, SHOWN_WITHIN);
    std::process::exit(error.exit_code())
}

/// A number of sessions.
pub(crate) fn sessions() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=200_000)
}

/// Reads a duration.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text);
    let time = time.map_err(|error| format!("{error}; expected something like 30s or 1m30s"))?;
    if time > DURATION_MAX { Err("expected at most 7 days".to_owned()) } else { Ok(time) }
}

/// Reads a part in percent.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.0..=10_000.0).contains(&percent) => Ok(percent),
        _ => Err("expected a number from 0 to 10000".to_owned()),
    }
}

/// Reads a rate per second that may be none at all.
pub(crate) fn rate_or_none(text: &str) -> Result<f64, String> {
    if text == "0" { Ok(0.0) } else { rate(text).map_err(|why| format!("{why}, or 0")) }
}

fn url(text: &str, scheme: &str) -> Result<Uri, String> {
    let example = if scheme == "ws" { "ws://127.0.0.1:8080" } else { "http://127.0.0.1:8081" };
    let url: Uri = text.parse().map_err(|error| format!("{error}; expected something like {example}"))?;
    if url.scheme_str() == Some(scheme) && url.host().is_some_and(|host| !host.is_empty()) {
        return Ok(url);
    }
    Err(format!("expected {scheme}:// and a host, something like {example} (this tool does not speak TLS)"))
}

/// Reads a `ws://` URL.
pub(crate) fn ws_url(text: &str) -> Result<Uri, String> {
    url(text, "ws")
}

/// Reads an `http://` URL.
pub(crate) fn http_url(text: &str) -> Result<Uri, String> {
    url(text, "http")
}

/// Reads a rate per second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.01..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected a number from 0.01 to 1000000".to_owned()),
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
            ("tidegate-load connect --help", ["counts from there", "--rate 1000"]),
            ("tidegate-load broadcast --help", ["stamp receipts", "--clients 18000"]),
            ("tidegate-load publish --help", ["whether it grows", "--to 18000"]),
            ("tidegate-load storm --help", ["listen queue", "--count 18000"]),
            ("tidegate-load churn --help", ["as many come", "--rate 1000"]),
            ("tidegate-load slow --help", ["stop reading", "--stalled 50"]),
            ("tidegate-load compare --help", ["ours, theirs, theirs, ours", "--peer nchan"]),
            ("tidegate-load relay --help", ["closed loop", "--echo-app"]),
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
        assert!(error("tidegate-load connect --start x --count 0").contains("1..=200000"));
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
