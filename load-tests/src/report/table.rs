//! The report as people at a terminal read it. Pure.

use super::model::{Distribution, Figure, Report, Verdict};
use std::fmt::Write;

/// The whole report in lines.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a text cannot fail.
    let _ = writeln!(out, "\n{} · {}\n{}\n", report.scenario, report.server, report.how);
    let widest = |of: fn(&Figure) -> usize| report.figures.iter().map(of).max().unwrap_or(0);
    let (names, values) =
        (widest(|figure| figure.name.chars().count()), widest(|figure| shown(figure).chars().count()));
    for figure in &report.figures {
        let _ = writeln!(out, "  {:<names$}  {:>values$}  {}", figure.name, shown(figure), figure.what);
    }
    for distribution in &report.distributions {
        let _ =
            writeln!(out, "\n  {} (ms, {} times)\n    {}", distribution.name, distribution.count, line(distribution));
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "\n  {warning}");
    }
    for fault in &report.faults {
        let _ = writeln!(out, "\n  fault: {fault}");
    }
    if report.verdict == Verdict::Refused {
        let _ = writeln!(out, "\n  refused, for these numbers would not be the server's own:");
        for why in &report.refused {
            let _ = writeln!(out, "    {why}");
        }
    }
    out
}

/// A number with its unit, and its interval if it has one.
pub(super) fn shown(figure: &Figure) -> String {
    let Some(value) = figure.value else { return "–".to_owned() };
    let unit = if figure.unit.is_empty() { String::new() } else { format!(" {}", figure.unit) };
    match (figure.low, figure.high) {
        (Some(low), Some(high)) => format!("{} ({} – {}){unit}", number(value), number(low), number(high)),
        _ => format!("{}{unit}", number(value)),
    }
}

/// Three digits that matter, and thousands apart.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, part) = text.split_once('.').map_or((text.as_str(), ""), |(whole, part)| (whole, part));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if part.is_empty() { format!("{sign}{grouped}") } else { format!("{sign}{grouped}.{part}") }
}

fn line(distribution: &Distribution) -> String {
    let named = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max")];
    let at = |part: f64| distribution.points.iter().find(|(at, _)| (at - part).abs() < 1e-9).map(|(_, ms)| *ms);
    let words = named.iter().filter_map(|(part, name)| at(*part).map(|ms| format!("{name} {}", number(ms))));
    words.collect::<Vec<_>>().join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Findings;

    #[test]
    fn numbers_show_the_digits_that_matter() {
        let shown = [0.0, 0.0421, 1.234, 12.34, 123.4, 1_234.5, -1_234_567.0].map(number);
        assert_eq!(shown, ["0", "0.042", "1.23", "12.3", "123", "1,234", "-1,234,567"]);
    }

    #[test]
    fn a_figure_stands_with_unit_interval_and_meaning_and_one_that_is_missing_with_a_dash() {
        let sure = Figure::new("bytes", 2_000.0, "B", "per session").within(1_990.0, 2_010.0);
        assert_eq!(shown(&sure), "2,000 (1,990 – 2,010) B");
        let findings =
            Findings { figures: vec![sure, Figure::new("cpu", None, "us", "unknown")], ..Findings::default() };
        let text = text(&Report::of("idle", findings, String::new(), false));
        assert!(text.contains("per session") && text.contains("–  unknown"), "{text}");
    }

    #[test]
    fn a_refused_run_says_why_instead_of_numbers() {
        let mut findings = Findings { figures: vec![Figure::new("secret", 1.0, "", "")], ..Findings::default() };
        findings.gates.listen_overflows = 3;
        let text = text(&Report::of("storm", findings, String::new(), false));
        assert!(!text.contains("secret") && text.contains("refused") && text.contains("3 connections"), "{text}");
    }
}
