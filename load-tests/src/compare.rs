//! `compare`: the same scenario against Tidegate and a peer, in turn, and the ratio with its spread.
//!
//! Pairs go ours, theirs, theirs, ours, …: what drifts over the run then weighs on both alike. Each run has
//! a fresh server. A pair with a run that must not be told is left out, and said to be.

use crate::measure::paired;
use crate::peers::Peer;
use crate::progress::Progress;
use crate::report::{Chart, Figure, Findings, OutputArgs, Series};
use crate::scenario::{broadcast, connect, idle, relay};
use crate::target::{Server, echo_app};
use clap::{Args, Parser};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Compared {
    /// Memory of an idle session; of a relayed one where the peer is a relay.
    Idle,
    /// Cost of accepting a session.
    Connect,
    /// Cost of a broadcast.
    Broadcast,
    /// Cost of a message there and back through a relay.
    Relay,
}

/// Options of `compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// The scenario.
    #[arg(value_enum)]
    scenario: Compared,
    /// Against whom.
    #[arg(long, value_enum)]
    peer: Peer,
    /// The `tidegate` to start for each of our runs.
    #[arg(long, value_name = "PROGRAM")]
    start: PathBuf,
    /// One more argument for it; repeatable.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    start_arg: Vec<String>,
    /// So many pairs.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: u32,
    /// Where the peers' own files are.
    #[arg(long, value_name = "DIR", default_value = "load-tests/peers")]
    peers_dir: PathBuf,
    /// Where the report goes.
    #[command(flatten)]
    pub(crate) out: OutputArgs,
    /// Options of the scenario, after `--`.
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<String>,
}

/// The figures of a scenario that are worth a ratio: the less the better.
const RATIOS: [&str; 8] = [
    "bytes_per_session",
    "cpu_us_per_session",
    "open_ms_p99",
    "cpu_us_per_delivery",
    "last_ms",
    "cpu_us_per_echo",
    "echo_ms_p50",
    "echo_ms_p99",
];

/// Plays all pairs.
///
/// # Errors
/// In words: wrong options of the scenario, or what made a run impossible.
pub(crate) async fn measure(args: &CompareArgs, progress: &mut Progress) -> Result<Findings, String> {
    let relayed = args.peer.relays() || args.scenario == Compared::Relay;
    if relayed && !args.peer.relays() {
        return Err(format!("--peer {} has no app behind it: compare relay with haproxy or nginx", args.peer.name()));
    }
    understood(args)?;
    // Whatever is missing for it is better told before the first of many runs.
    args.peer.start(&args.peers_dir).await?.end().await;
    let (mut pairs, mut dropped) = (Vec::new(), Vec::new());
    for nth in 0..args.pairs {
        progress.step(&format!("pair {} of {}", nth + 1, args.pairs));
        let ours_first = nth % 2 == 0;
        let mut both = BTreeMap::new();
        for ours in [ours_first, !ours_first] {
            let server =
                if ours { ours_started(args, relayed).await? } else { args.peer.start(&args.peers_dir).await? };
            let findings = play(args, &server, progress).await;
            server.end().await;
            both.insert(ours, findings?);
        }
        let (Some(ours), Some(theirs)) = (both.remove(&true), both.remove(&false)) else { continue };
        let why: Vec<String> = [&ours, &theirs].iter().flat_map(|run| run.gates.refusals()).collect();
        if why.is_empty() || args.out.report_anyway {
            pairs.push((ours, theirs));
        } else {
            progress.step(&format!("pair {} is left out: {}", nth + 1, why.join("; ")));
            dropped.push(why);
        }
    }
    if pairs.len() * 2 < args.pairs as usize {
        let why = dropped.last().map(|why| why.join("; ")).unwrap_or_default();
        return Err(format!(
            "only {} of {} pairs may be told; the last was left out for: {why}",
            pairs.len(),
            args.pairs
        ));
    }
    Ok(told(args, &pairs, dropped.len()))
}

async fn ours_started(args: &CompareArgs, relayed: bool) -> Result<Server, String> {
    let mut more = args.start_arg.clone();
    let app = if relayed { Some(echo_app().await?) } else { None };
    if let Some(app) = &app {
        more.extend(["--app".to_owned(), app.ready.public_url()?.to_string()]);
    }
    let server = Server::start(&args.start, &more, None).await?;
    Ok(Server { apps: app.into_iter().collect(), ..server })
}

async fn play(args: &CompareArgs, server: &Server, progress: &mut Progress) -> Result<Findings, String> {
    match args.scenario {
        Compared::Idle => idle::measure(&options(&args.options)?, server, progress).await,
        Compared::Connect => connect::measure(&options(&args.options)?, server, progress).await,
        Compared::Broadcast => broadcast::measure(&options(&args.options)?, server, progress).await,
        Compared::Relay => relay::measure(&options(&args.options)?, server, progress).await,
    }
}

/// Whether the scenario understands its options.
fn understood(args: &CompareArgs) -> Result<(), String> {
    let read = match args.scenario {
        Compared::Idle => options::<idle::IdleArgs>(&args.options).map(drop),
        Compared::Connect => options::<connect::ConnectArgs>(&args.options).map(drop),
        Compared::Broadcast => options::<broadcast::BroadcastArgs>(&args.options).map(drop),
        Compared::Relay => options::<relay::RelayArgs>(&args.options).map(drop),
    };
    read.map_err(|why| {
        format!("{why}\nBehind -- stand options of the scenario; --json, --html and the like stand before it.")
    })
}

/// The options of a scenario, read as its own command line would.
fn options<T: Args>(given: &[String]) -> Result<T, String> {
    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Alone<T: Args> {
        #[command(flatten)]
        options: T,
    }
    Alone::try_parse_from(given).map(|alone| alone.options).map_err(|error| error.to_string())
}

fn told(args: &CompareArgs, pairs: &[(Findings, Findings)], dropped: usize) -> Findings {
    let (mut figures, mut series) = (Vec::new(), Vec::new());
    let peer = args.peer.name();
    let (Some((first, _)), mut gates) = (pairs.first(), crate::measure::Gates::default()) else {
        return Findings::default();
    };
    for figure in first.figures.iter().filter(|figure| RATIOS.contains(&figure.name.as_str())) {
        let values: Vec<(f64, f64)> = pairs
            .iter()
            .filter_map(|(ours, theirs)| ours.value(&figure.name).zip(theirs.value(&figure.name)))
            .filter(|(_, theirs)| *theirs > 0.0)
            .collect();
        let Some(ratio) = paired(&values) else { continue };
        let what = format!(
            "{} over {peer}, {}: median of {} pairs, 95 % by bootstrap",
            first.server,
            figure.name,
            values.len()
        );
        let name = format!("ratio_{}", figure.name);
        figures.push(Figure::new(&name, ratio.median, "", &what).within(ratio.low, ratio.high));
        for (whose, pick) in [("tidegate", 0), (peer, 1)] {
            let mine: Vec<f64> = values.iter().map(|pair| if pick == 0 { pair.0 } else { pair.1 }).collect();
            let name = format!("{whose}_{}", figure.name);
            figures.push(Figure::new(&name, crate::measure::median(&mine), figure.unit, &figure.what));
        }
        let points = values.iter().enumerate().map(|(nth, (ours, theirs))| (nth as f64 + 1.0, ours / theirs)).collect();
        series.push(Series { name: figure.name.clone(), points });
    }
    if !series.is_empty() {
        series.push(Series { name: "as much as".to_owned(), points: vec![(0.0, 1.0), (pairs.len() as f64, 1.0)] });
    }
    for (ours, theirs) in pairs {
        gates = gates.worst(&ours.gates).worst(&theirs.gates);
        gates.about = ours.gates.about;
    }
    figures.push(Figure::new("pairs_left_out", dropped as f64, "", "pairs with a run that must not be told"));
    Findings {
        server: format!("{} and {peer}", first.server),
        how: format!("{} pairs in turn (ours, theirs, theirs, ours, …); each run: {}", pairs.len(), first.how),
        figures,
        charts: vec![Chart {
            title: format!("Ratio of each pair: Tidegate over {peer}"),
            x: "pair",
            y: "ratio",
            scattered: true,
            series,
        }],
        gates,
        faults: pairs.iter().flat_map(|(ours, theirs)| ours.faults.iter().chain(&theirs.faults).cloned()).collect(),
        ..Findings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> CompareArgs {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        options(&words).expect("a right line")
    }

    fn run(us: f64) -> Findings {
        let figures = vec![Figure::new("cpu_us_per_session", us, "us", "cost"), Figure::new("retried", 0.0, "", "")];
        Findings { server: "tidegate".to_owned(), figures, ..Findings::default() }
    }

    #[test]
    fn the_ratio_is_told_with_both_sides_and_only_for_what_has_one() {
        let pairs = [(run(20.0), run(40.0)), (run(30.0), run(60.0)), (run(25.0), run(50.0))];
        let told = told(&args("connect --peer ws --start x"), &pairs, 1);
        assert_eq!(told.value("ratio_cpu_us_per_session"), Some(0.5));
        assert_eq!(
            (told.value("tidegate_cpu_us_per_session"), told.value("ws_cpu_us_per_session")),
            (Some(25.0), Some(50.0))
        );
        assert_eq!((told.value("ratio_retried"), told.value("pairs_left_out")), (None, Some(1.0)));
    }

    #[test]
    fn options_after_the_dashes_are_the_scenarios_own_and_a_wrong_one_is_named() {
        let given = args("idle --peer nchan --start x --pairs 3 -- --from 10 --to 20");
        let idle: idle::IdleArgs = options(&given.options).unwrap();
        assert_eq!((given.pairs, idle.from, idle.to), (3, 10, 20));
        let wrong = options::<idle::IdleArgs>(&["--form".to_owned()]).map(|_| ());
        assert!(wrong.is_err_and(|why| why.contains("--form")));
    }
}
