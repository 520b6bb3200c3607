//! From what was seen of a drain to figures and charts. Pure.

use super::args::DrainArgs;
use super::client::Outcome;
use super::swarm::Pulse;
use super::verdict::Verdict;
use crate::measure::{Gates, Used, Watch};
use crate::report::{Chart, Distribution, Figure, Findings, Series};
use crate::scenario::live::compared;
use crate::thin::{Figures, Times};
use http::Uri;
use tidegate_protocol::control::{DrainReport, PlanAnswer};

/// What was seen of a drain.
pub(super) struct Seen {
    /// When it began, in seconds after the clients' start.
    pub(super) began_s: f64,
    /// What the hub planned.
    pub(super) plan: PlanAnswer,
    /// What it reports.
    pub(super) report: DrainReport,
    /// Live sessions on the successor before it.
    pub(super) quiet: Figures,
    /// The same during it.
    pub(super) during: Figures,
    /// Processor time of both hubs.
    pub(super) hubs_cpu: Used,
    /// Processor time of the clients.
    pub(super) clients_cpu: Used,
    /// The machine since it began.
    pub(super) watch: Watch,
    /// Whether it may be told.
    pub(super) gates: Gates,
}

/// Everything that is told of it.
pub(super) fn told(
    args: &DrainArgs,
    seen: &Seen,
    outcomes: &[Outcome],
    pulse: &Pulse,
    verdict: &Verdict,
    faults: Vec<String>,
    hubs: usize,
) -> Findings {
    let gaps = gaps(outcomes);
    let planned = planned_peak_per_s(&seen.plan);
    let mut figures = account(verdict);
    figures.extend(pace(pulse, planned, seen));
    let per_session = |used: Used| used.us_each(verdict.moved);
    figures.push(Figure::new(
        "hubs_cpu_us_per_session",
        per_session(seen.hubs_cpu),
        "us",
        "processor time of all hubs from the start of the drain to its end, for each moved session",
    ));
    figures.push(Figure::new(
        "clients_cpu_us_per_session",
        per_session(seen.clients_cpu),
        "us",
        "of the clients in the same time",
    ));
    figures.extend(compared(&seen.quiet.echo, &seen.during.echo));
    let distributions = [
        Distribution::of("gap of a moved client", &gaps),
        Distribution::of("live on the successor, quiet", &seen.quiet.echo),
        Distribution::of("live on the successor, during", &seen.during.echo),
    ];
    let window =
        args.policy.window.map_or_else(|| "the default window".to_owned(), |window| format!("window {window:?}"));
    Findings {
        server: format!("{hubs} hubs"),
        how: format!(
            "{} sessions moved from one hub to another, {window}; {} % of them send {} messages a second each, and {} numbered \
             messages a second go to all",
            args.clients, args.talking, args.rate, args.push_rate
        ),
        figures,
        distributions: distributions.into_iter().flatten().collect(),
        charts: charts(pulse, u64::from(args.clients), seen),
        gates: seen.gates.clone(),
        faults,
        warnings: Vec::new(),
    }
}

/// What is told of a drain of hubs that somebody else has started: the account.
pub(super) fn account_alone(
    args: &DrainArgs,
    hub: &Uri,
    outcomes: &[Outcome],
    verdict: &Verdict,
    faults: Vec<String>,
) -> Findings {
    Findings {
        server: hub.to_string(),
        how: format!("{} clients through a drain, {} messages a second from each", args.clients, args.rate),
        figures: account(verdict),
        distributions: Distribution::of("gap of a moved client", &gaps(outcomes)).into_iter().collect(),
        faults,
        ..Findings::default()
    }
}

fn gaps(outcomes: &[Outcome]) -> Times {
    let mut gaps = Times::default();
    outcomes.iter().filter_map(|outcome| outcome.gap_us).for_each(|us| gaps.note(us * 1_000));
    gaps
}

/// The fastest stage of the plan; nothing where moves are not paced.
fn planned_peak_per_s(plan: &PlanAnswer) -> Option<f64> {
    let paced = plan.stages.iter().filter(|stage| stage.span_ms > 0);
    paced.map(|stage| stage.count as f64 * 1_000.0 / stage.span_ms as f64).reduce(f64::max)
}

fn account(verdict: &Verdict) -> Vec<Figure> {
    let count = |name, value: u64, what| Figure::new(name, value as f64, "", what);
    vec![
        count("users", verdict.users, "clients"),
        count("moved", verdict.moved, "live on another hub than at first, by their own account"),
        count("forced", verdict.forced, "could neither be pushed nor parked, by the hub's report"),
        count("lost", verdict.lost, "messages that never came, both ways"),
        count("duplicated", verdict.duplicated, "messages that came twice"),
        count("reordered", verdict.reordered, "messages that came after a later one"),
        count("declared_gaps", verdict.declared_gaps, "gaps that hubs declared"),
        count("resets", verdict.resets, "sessions that lost continuity and were told"),
        count("unsettled", verdict.unsettled, "clients that could not settle their account"),
        count("messages_up", verdict.messages_up, "sent by clients"),
        count("messages_down", verdict.messages_down, "received by clients"),
        Figure::new(
            "drain_ms",
            verdict.drain_ms.map(|ms| ms as f64),
            "ms",
            "from the start of the drain to its report",
        ),
        Figure::new("gap_ms_p50", verdict.gap_ms_p50, "ms", "without a usable connection, half of the clients"),
        Figure::new("gap_ms_p99", verdict.gap_ms_p99, "ms", "99 of 100"),
        Figure::new("gap_ms_max", verdict.gap_ms_max, "ms", "the longest"),
        Figure::new(
            "hub_gap_ms_p99",
            verdict.hub_gap_ms_p99.map(|ms| ms as f64),
            "ms",
            "the hubs' own: freeze to welcome, 99 of 100",
        ),
    ]
}

fn pace(pulse: &Pulse, planned: Option<f64>, seen: &Seen) -> Vec<Figure> {
    let (released, arrived) = (pulse.released.peak_per_s() as f64, pulse.arrived.peak_per_s() as f64);
    let over = |peak: f64| planned.map(|planned| peak / planned);
    let last = pulse.welcomed.span_s().map(|(_, last)| (last - seen.began_s) * 1_000.0);
    vec![
        Figure::new("planned_peak_per_s", planned, "/s", "the fastest stage of the hub's plan"),
        Figure::new("released_peak_per_s", released, "/s", "`move` received, in the busiest second"),
        Figure::new("released_over_plan", over(released), "", "the one over the other"),
        Figure::new("arrived_peak_per_s", arrived, "/s", "hello said to the successor, in the busiest second"),
        Figure::new("arrived_over_plan", over(arrived), "", "that over the plan"),
        Figure::new(
            "last_welcome_ms",
            last,
            "ms",
            "from the start of the drain until the last client was welcome elsewhere",
        ),
    ]
}

fn charts(pulse: &Pulse, clients: u64, seen: &Seen) -> Vec<Chart> {
    let begin = seen.began_s;
    let end = pulse.welcomed.span_s().map_or(begin, |(_, last)| last).max(begin) + 1.0;
    let there: Vec<(f64, f64)> = pulse.welcomed.so_far(begin, end);
    let here = there.iter().map(|(at, moved)| (*at, clients as f64 - moved)).collect();
    let line = |name: &str, points| Series { name: name.to_owned(), points };
    vec![
        Chart {
            title: "Sessions per hub".to_owned(),
            x: "seconds",
            y: "sessions",
            scattered: false,
            series: vec![line("the hub that is drained", here), line("its successor", there)],
        },
        Chart {
            title: "Releases and arrivals".to_owned(),
            x: "seconds",
            y: "per second",
            scattered: false,
            series: vec![
                line("move received", pulse.released.per_second(begin, end)),
                line("hello to the successor", pulse.arrived.per_second(begin, end)),
            ],
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(stages: &serde_json::Value) -> PlanAnswer {
        let plan = json!({ "sessions": 100, "stages": stages, "total_ms": 1, "deadline_ms": 1, "push_reserve_ms": 1,
            "successors": [], "fits": true, "blockers": [] });
        serde_json::from_value(plan).expect("a plan as the contract has it")
    }

    #[test]
    fn the_planned_rate_is_that_of_the_fastest_stage_and_unpaced_moves_have_none() {
        let stages =
            json!([{ "begin_ms": 0, "span_ms": 300, "count": 1 }, { "begin_ms": 300, "span_ms": 3_000, "count": 99 }]);
        assert_eq!(planned_peak_per_s(&plan(&stages)), Some(33.0));
        assert_eq!(planned_peak_per_s(&plan(&json!([{ "begin_ms": 0, "span_ms": 0, "count": 100 }]))), None);
    }

    #[test]
    fn gaps_are_those_of_clients_that_had_one() {
        let outcome = |gap_us| Outcome { gap_us, ..Outcome::default() };
        let gaps = gaps(&[outcome(Some(2_000)), outcome(None), outcome(Some(9_000))]);
        assert_eq!(gaps.count(), 2);
        assert!(gaps.ms(1.0).is_some_and(|ms| (9.0..9.02).contains(&ms)), "{:?}", gaps.ms(1.0));
    }
}
