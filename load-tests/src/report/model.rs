//! The report as data. `schema.json` beside the sources describes it to others.

use crate::measure::Gates;
use crate::thin::Times;
use serde::Serialize;

/// The version of the form; it rises when a field changes its meaning or goes.
const FORM: u32 = 1;

/// Half of an interval above this part of its number makes it an unsure one.
const UNSURE_PART: f64 = 0.2;

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// Its name for scripts.
    pub(crate) name: String,
    /// The number; null if it could not be measured.
    pub(crate) value: Option<f64>,
    /// Its unit; empty for counts and ratios.
    pub(crate) unit: &'static str,
    /// What it is, for people.
    pub(crate) what: String,
    /// Lower end of its range, where one is known: what range, `what` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) low: Option<f64>,
    /// Upper end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) high: Option<f64>,
}

impl Figure {
    /// A number, if it could be measured.
    pub(crate) fn new(name: &str, value: impl Into<Option<f64>>, unit: &'static str, what: &str) -> Self {
        Self { name: name.to_owned(), value: value.into(), unit, what: what.to_owned(), low: None, high: None }
    }

    /// The same with its interval.
    pub(crate) fn within(mut self, low: f64, high: f64) -> Self {
        (self.low, self.high) = (Some(low), Some(high));
        self
    }
}

/// A distribution of times, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Distribution {
    /// What was timed.
    pub(crate) name: String,
    /// How often.
    pub(crate) count: u64,
    /// Pairs of a part (0 to 1) and the time that it does not exceed.
    pub(crate) points: Vec<(f64, f64)>,
}

/// The parts at which a distribution is told: dense where it matters.
const PARTS: [f64; 15] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 1.0];

impl Distribution {
    /// Of these times; nothing if there are none.
    pub(crate) fn of(name: &str, times: &Times) -> Option<Self> {
        let points: Vec<(f64, f64)> =
            PARTS.iter().filter_map(|part| times.ms(*part).map(|ms| (*part, thousandths(ms)))).collect();
        (!points.is_empty()).then(|| Self { name: name.to_owned(), count: times.count(), points })
    }
}

/// One line of a chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Series {
    /// What it shows.
    pub(crate) name: String,
    /// Its points, by rising x.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Chart {
    /// What it is about.
    pub(crate) title: String,
    /// What its x axis counts.
    pub(crate) x: &'static str,
    /// What its y axis counts.
    pub(crate) y: &'static str,
    /// Points alone, instead of lines through them; the last of several series is a line all the same.
    pub(crate) scattered: bool,
    /// Its lines.
    pub(crate) series: Vec<Series>,
}

/// What a scenario found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// Whom it measured.
    pub(crate) server: String,
    /// In what way, as a sentence.
    pub(crate) how: String,
    /// Numbers, the most important first.
    pub(crate) figures: Vec<Figure>,
    /// Distributions of times.
    pub(crate) distributions: Vec<Distribution>,
    /// Charts.
    pub(crate) charts: Vec<Chart>,
    /// What decides whether this may be told.
    pub(crate) gates: Gates,
    /// What the server did wrong: the run is told, and fails.
    pub(crate) faults: Vec<String>,
    /// What makes the numbers less sure, beside what the gates saw.
    pub(crate) warnings: Vec<String>,
}

impl Findings {
    /// The same with more warnings.
    pub(crate) fn warned(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    /// Intervals so wide that the number in them says little.
    fn unsure(&self) -> impl Iterator<Item = String> {
        self.figures.iter().filter_map(|figure| {
            let (value, half) = (figure.value?, (figure.high? - figure.low?) / 2.0);
            (half > value.abs() * UNSURE_PART).then(|| {
                let within = format!("{} {}", super::table::number(half), figure.unit);
                format!(
                    "{} is sure to within {} only: measure with more, or at more points",
                    figure.name,
                    within.trim_end()
                )
            })
        })
    }

    /// The value of a figure.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name)?.value
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// All well.
    Ok,
    /// A limit was passed, or the server did wrong.
    Failed,
    /// The numbers are not the server's, so none is told.
    Refused,
}

/// The machine of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Processors.
    pub(crate) processors: usize,
    /// Kernel release.
    pub(crate) kernel: String,
    /// Open files that a process may have.
    pub(crate) open_files: u64,
}

/// A run as it is told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Version of this form.
    pub(crate) form: u32,
    /// Version of this program.
    pub(crate) version: &'static str,
    /// The scenario.
    pub(crate) scenario: &'static str,
    /// How it ended.
    pub(crate) verdict: Verdict,
    /// Why no number is told.
    pub(crate) refused: Vec<String>,
    /// What the server did wrong, or which limit was passed.
    pub(crate) faults: Vec<String>,
    /// What makes the numbers less sure.
    pub(crate) warnings: Vec<String>,
    /// The command line, without the path of the program.
    pub(crate) command: Vec<String>,
    /// When it began, UTC.
    pub(crate) began: String,
    /// Whom it measured.
    pub(crate) server: String,
    /// In what way.
    pub(crate) how: String,
    /// Where.
    pub(crate) machine: Machine,
    /// Numbers.
    pub(crate) figures: Vec<Figure>,
    /// Distributions.
    pub(crate) distributions: Vec<Distribution>,
    /// Charts.
    pub(crate) charts: Vec<Chart>,
    /// What decided whether it may be told.
    pub(crate) gates: Gates,
}

impl Report {
    /// Judges what was found. With `anyway`, numbers that should be refused are told with the reasons.
    pub(crate) fn of(scenario: &'static str, findings: Findings, began: String, anyway: bool) -> Self {
        let refused = findings.gates.refusals();
        let told = refused.is_empty() || anyway;
        let verdict = match (refused.is_empty(), findings.faults.is_empty()) {
            (false, _) => Verdict::Refused,
            (true, false) => Verdict::Failed,
            (true, true) => Verdict::Ok,
        };
        Self {
            form: FORM,
            version: env!("CARGO_PKG_VERSION"),
            scenario,
            verdict,
            refused,
            faults: findings.faults.clone(),
            warnings: findings.unsure().chain(findings.warnings.clone()).chain(findings.gates.warnings()).collect(),
            command: std::env::args().skip(1).collect(),
            began,
            server: findings.server,
            how: findings.how,
            machine: machine(),
            figures: if told { findings.figures } else { Vec::new() },
            distributions: if told { findings.distributions } else { Vec::new() },
            charts: if told { findings.charts } else { Vec::new() },
            gates: findings.gates,
        }
    }
}

fn machine() -> Machine {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    Machine {
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: kernel.trim().to_owned(),
        open_files: files.maximum.unwrap_or(u64::MAX),
    }
}

/// More digits than these are dust.
pub(super) fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        Findings { figures: vec![Figure::new("x", 1.5, "us", "an x")], ..Findings::default() }
    }

    #[test]
    fn a_run_that_must_not_be_told_keeps_its_numbers_to_itself() {
        let mut refused = findings();
        refused.gates.retransmits = 4;
        let report = Report::of("idle", refused.clone(), String::new(), false);
        assert_eq!((report.verdict, report.figures.len(), report.refused.len()), (Verdict::Refused, 0, 1));
        let anyway = Report::of("idle", refused, String::new(), true);
        assert_eq!((anyway.verdict, anyway.figures.len()), (Verdict::Refused, 1), "told, and still refused");
    }

    #[test]
    fn a_fault_of_the_server_fails_the_run_and_its_numbers_are_told() {
        let faulty = Findings { faults: vec!["2 sessions were lost".to_owned()], ..findings() };
        let report = Report::of("idle", faulty, String::new(), false);
        assert_eq!((report.verdict, report.figures.len()), (Verdict::Failed, 1));
        assert_eq!(Report::of("idle", findings(), String::new(), false).verdict, Verdict::Ok);
    }

    #[test]
    fn a_distribution_is_told_in_milliseconds_from_its_least_to_its_greatest() {
        let mut times = Times::default();
        (1..=1_000_u64).for_each(|n| times.note(n * 1_000_000));
        let told = Distribution::of("echo", &times).unwrap();
        let at = |part: f64| told.points.iter().find(|(at, _)| (at - part).abs() < 1e-9).unwrap().1;
        assert!((at(0.5) - 500.0).abs() < 1.0 && (at(0.99) - 990.0).abs() < 2.0 && at(0.0) < 1.1, "{told:?}");
        assert_eq!((told.count, Distribution::of("none", &Times::default())), (1_000, None));
    }
}
