//! Where a report goes.

use super::model::{Findings, Report, Verdict};
use super::{html, table};
use clap::Args;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tidegate_output::{Outlet, Stream};

/// How long an end waits for its reader.
const LAST_WORDS_MAX: Duration = Duration::from_secs(5);

/// A reader that is closed or stuck is no reason to fail, or to hold up what is measured.
static STDOUT: LazyLock<Outlet> = LazyLock::new(|| Outlet::open(Stream::Stdout));
static STDERR: LazyLock<Outlet> = LazyLock::new(|| {
    let outlet = Outlet::open(Stream::Stderr);
    outlet.on_flowing_again(|lines| complain(&format!("({lines} lines dropped: nobody read them)")));
    outlet
});

/// Options that say where the report goes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "The report")]
pub(crate) struct OutputArgs {
    /// Write the whole report as JSON (load-tests/schema.json).
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the whole report as one page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Tell the numbers of a run that should be refused, with the reasons; the exit is 1 all the same.
    #[arg(long)]
    pub(crate) report_anyway: bool,
}

impl OutputArgs {
    /// Whether the files can be written: better told before a long run than after it. What is in them stays.
    ///
    /// # Errors
    /// In words: the option, the file, and why not.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (option, file) in [("--json", &self.json), ("--html", &self.html)] {
            if let Some(file) = file {
                let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
                opened.map_err(|error| format!("{option} {}: {error}", file.display()))?;
            }
        }
        Ok(())
    }
}

/// Judges what was found and tells it. True if all is well.
///
/// # Errors
/// A file could not be written.
pub(crate) fn finish(
    scenario: &'static str,
    findings: Findings,
    out: &OutputArgs,
    began: &str,
) -> Result<bool, String> {
    let report = Report::of(scenario, findings, began.to_owned(), out.report_anyway);
    STDOUT.write(table::text(&report).as_bytes());
    let saved = save(&report, out);
    for why in report.refused.iter().chain(&report.faults) {
        complain(&format!("fault: {why}"));
    }
    say(&last_line(&report));
    saved.map(|()| report.verdict == Verdict::Ok)
}

/// Writes a report to its files alone, where something else is the last line.
///
/// # Errors
/// A file could not be written.
pub(crate) fn keep(scenario: &'static str, findings: Findings, out: &OutputArgs, began: &str) -> Result<(), String> {
    save(&Report::of(scenario, findings, began.to_owned(), out.report_anyway), out)
}

fn save(report: &Report, out: &OutputArgs) -> Result<(), String> {
    if let Some(file) = &out.json {
        let text = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
        write("--json", file, &text)?;
    }
    if let Some(file) = &out.html {
        write("--html", file, &html::page(report))?;
    }
    Ok(())
}

/// Says something on stderr, if anybody listens there.
pub(crate) fn complain(text: &str) {
    STDERR.line(text);
}

/// Waits until everything that was said is taken, for a moment: who does not read has the report in its files.
pub(crate) fn last_words() {
    let end = Instant::now() + LAST_WORDS_MAX;
    for stream in [&STDOUT, &STDERR] {
        stream.flush(end.saturating_duration_since(Instant::now()));
    }
}

fn write(option: &str, file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("{option} {}: {error}", file.display()))
}

/// The last line on stdout: the scenario with its verdict, then every figure by its name.
fn last_line(report: &Report) -> Value {
    let mut line = Map::new();
    line.insert(report.scenario.to_owned(), json!(report.verdict));
    for figure in &report.figures {
        line.insert(figure.name.clone(), figure.value.map_or(Value::Null, whole));
    }
    if !report.refused.is_empty() {
        line.insert("refused".to_owned(), json!(report.refused));
    }
    if !report.warnings.is_empty() {
        line.insert("warnings".to_owned(), json!(report.warnings));
    }
    Value::Object(line)
}

/// A number without a part behind the point stands as a whole one.
fn whole(value: f64) -> Value {
    let value = super::model::thousandths(value);
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

/// Prints one line of JSON.
pub(crate) fn say(line: &impl serde::Serialize) {
    let text = serde_json::to_string(line).expect("plain structs with string keys");
    STDOUT.line(&text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Figure;

    #[test]
    fn the_last_line_has_the_verdict_under_the_scenario_and_each_figure_under_its_name() {
        let figures = vec![
            Figure::new("bytes", 1_700.0, "B", ""),
            Figure::new("us", 5.4321, "us", ""),
            Figure::new("no", None, "", ""),
        ];
        let report = Report::of("idle", Findings { figures, ..Findings::default() }, String::new(), false);
        assert_eq!(last_line(&report).to_string(), r#"{"bytes":1700,"idle":"ok","no":null,"us":5.432}"#);
    }

    #[test]
    fn the_last_line_of_a_refused_run_has_the_reasons_and_no_figure() {
        let mut findings = Findings { figures: vec![Figure::new("bytes", 1.0, "", "")], ..Findings::default() };
        findings.gates.missing = 2;
        let line = last_line(&Report::of("idle", findings, String::new(), false));
        assert_eq!((&line["idle"], &line["bytes"]), (&json!("refused"), &Value::Null));
        assert!(line["refused"][0].as_str().is_some_and(|why| why.contains("missing")));
    }
}
