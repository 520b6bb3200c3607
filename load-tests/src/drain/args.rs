//! The command line of `drain`.

use super::swarm::App;
use crate::args::{http_url, rate, ws_url};
use clap::Args;
use http::Uri;
use std::path::PathBuf;
use std::time::Duration;

/// What `--help` says first.
pub(crate) const ABOUT: &str = "Opens --clients sessions on --hub and lets numbered messages flow in both directions. When everybody \
is connected and messages flow, it prints {\"event\":\"ready\",…} on stdout: start the drain then (tidegate-hook does). \
It watches the drain on --private until it has ended, lets messages flow on for --settle, asks the app for its side of \
every account, and compares both sides with each other and with the hub's report.\n\n\
The last line on stdout is the verdict as JSON. Exit 0 only if nothing was lost, doubled or reordered, every account was \
settled, and the hub's report tells the same story; else 1, with the first ten faults named on stderr.\n\n\
Two gaps are told. gap_ms_*: the clients' own, from the hello on the second connection (the hub freezes after it) or from \
the loss of the first, until welcome. hub_gap_ms_p99: the hub's, from freeze to welcome.";

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
