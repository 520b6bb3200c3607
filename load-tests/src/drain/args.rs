//! The command line of `drain`.

use super::swarm::App;
use crate::args::{duration, http_url, rate, rate_or_none, ws_url};
use crate::report::OutputArgs;
use clap::Args;
use http::Uri;
use std::path::PathBuf;
use std::time::Duration;

/// What `--help` says first.
pub(crate) const ABOUT: &str = "Opens --clients sessions on --hub and lets numbered messages flow in both directions. When everybody \
is connected and messages flow, it prints {\"event\":\"ready\",…} on stdout: start the drain then (tidegate-hook does). \
It watches the drain on --private until it has ended, lets messages flow on for --settle, asks the app for its side of \
every account, and compares both sides with each other and with the hub's report.\n\n\
The last line on stdout is the verdict as JSON. Exit 0 only if nothing was lost, doubled or reordered, nobody was reset or \
forced, every account was settled, and the hub's report tells the same story; else 1, with the first ten faults named on stderr.\n\n\
A hub without another one parks its sessions: start its next process within --answer, for what is parked counts as lost \
until its client has heard of it.\n\n\
With --start it does all of this by itself: two hubs, the drain, and beside the account the course of it: sessions \
per hub, releases and arrivals against the plan, and what live sessions on the successor noticed.\n\n\
Two gaps are told. gap_ms_*: the clients' own, from the hello on the second connection (the hub freezes after it) or from \
the loss of the first, until welcome. hub_gap_ms_p99: the hub's, from freeze to welcome.";

/// Options of `drain`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which hubs").required(true).args(["hub", "start"]))]
#[command(after_help = "Examples:\n  \
# in one terminal\n  \
tidegate-load drain --hub ws://127.0.0.1:8080 --private http://127.0.0.1:8081 --clients 500 --rate 2\n  \
# in another, after the ready line\n  \
tidegate-hook drain --hub http://127.0.0.1:8081 --window 20s\n\n  \
# 2,000 clients, an app that echoes, ten messages a second each, give up after three minutes\n  \
tidegate-load drain --hub ws://127.0.0.1:8080/echo --private http://127.0.0.1:8081 --app echo \\\n      \
--clients 2000 --rate 10 --give-up-after 3m\n\n  \
# all by itself: two hubs, 18,000 clients, half of them at work, moved over 30 seconds, a page about it\n  \
tidegate-load drain --start target/release/tidegate --clients 18000 --window 30s --notice 2s --html drain.html")]
pub(crate) struct DrainArgs {
    /// The hub that will be drained, as clients reach it. Without a path: /ledger for the kitchen, else /connect.
    #[arg(long, value_name = "URL", value_parser = ws_url, requires = "private")]
    pub(crate) hub: Option<Uri>,
    /// The private API of the same hub.
    #[arg(long, value_name = "URL", value_parser = http_url, requires = "hub")]
    pub(crate) private: Option<Uri>,
    /// Start this `tidegate` twice for the run, as two hubs without an app, and drain the one into the other.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "app")]
    pub(crate) start: Option<PathBuf>,
    /// One more argument for both; repeatable.
    #[arg(long, value_name = "ARG", requires = "start", allow_hyphen_values = true)]
    pub(crate) start_arg: Vec<String>,
    /// With --start: the drain itself.
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// With --start: so many percent of the clients send messages; the others only receive.
    #[arg(long, default_value_t = 50, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) talking: u32,
    /// With --start: numbered messages from the hub's API to everybody, per second; 0 for none.
    #[arg(long, default_value_t = 0.5, value_name = "PER_S", value_parser = rate_or_none)]
    pub(crate) push_rate: f64,
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
    #[arg(long, default_value = "0s", value_name = "DUR", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long messages flow on after the drain has ended.
    #[arg(long, default_value = "2s", value_name = "DUR", value_parser = duration)]
    pub(crate) settle: Duration,
    /// How long clients and app may take to settle their accounts.
    #[arg(long, default_value = "20s", value_name = "DUR", value_parser = duration)]
    pub(crate) answer: Duration,
    /// At most so many clients are being connected at a time.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) connecting: u32,
    /// Follow a `move` to another host name too.
    #[arg(long)]
    pub(crate) foreign_hosts: bool,
    /// The whole run ends after this, whatever has happened.
    #[arg(long, default_value = "10m", value_name = "DUR", value_parser = duration)]
    pub(crate) give_up_after: Duration,
    /// Where the report goes; without --start it is the account alone.
    #[command(flatten)]
    pub(crate) out: OutputArgs,
}

/// The policy of a drain that this run starts itself; what is not given is the hub's default.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PolicyArgs {
    /// With --start: how long before anyone is moved.
    #[arg(long, value_name = "DUR", value_parser = duration, requires = "start")]
    pub(crate) notice: Option<Duration>,
    /// With --start: over how long the moves are spread; 0s is unpaced.
    #[arg(long, value_name = "DUR", value_parser = duration, requires = "start")]
    pub(crate) window: Option<Duration>,
    /// With --start: how long the drain waits for the last ones.
    #[arg(long, value_name = "DUR", value_parser = duration, requires = "start")]
    pub(crate) drain_settle: Option<Duration>,
    /// With --start: when the drain ends, whatever happens.
    #[arg(long, value_name = "DUR", value_parser = duration, requires = "start")]
    pub(crate) deadline: Option<Duration>,
    /// With --start: bound on moves that are ordered and not yet live.
    #[arg(long, value_name = "N", requires = "start")]
    pub(crate) max_in_flight: Option<u32>,
}
