//! The report as one page that needs nothing else: no script, no font, no picture from elsewhere.

use super::model::{Distribution, Report, Verdict};
use super::svg::{self, escaped};
use super::table::{number, shown};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

/// The page.
pub(super) fn page(report: &Report) -> String {
    let mut body = String::new();
    // Writing to a text cannot fail.
    let (class, word) = match report.verdict {
        Verdict::Ok => ("ok", "ok"),
        Verdict::Failed => ("failed", "failed"),
        Verdict::Refused => ("refused", "refused"),
    };
    let _ = writeln!(body, "<header><p class=\"tool\">tidegate-load {}</p>", report.version);
    let _ = writeln!(body, "<h1>{} <span class=\"verdict {class}\">{word}</span></h1>", escaped(report.scenario));
    let _ =
        writeln!(body, "<p class=\"how\"><b>{}</b> · {}</p></header>", escaped(&report.server), escaped(&report.how));
    notes(&mut body, "refused", "Refused: these numbers would not be the server's own", &report.refused);
    notes(&mut body, "failed", "Faults", &report.faults);
    notes(&mut body, "warning", "Less sure than it could be", &report.warnings);
    tiles(&mut body, report);
    if !report.distributions.is_empty() {
        let _ = writeln!(body, "<section><h2>Times</h2>{}", svg::distributions(&report.distributions));
        quantiles(&mut body, &report.distributions);
        body.push_str("</section>\n");
    }
    for chart in &report.charts {
        let _ = writeln!(body, "<section><h2>{}</h2>{}</section>", escaped(&chart.title), svg::chart(chart));
    }
    conditions(&mut body, report);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{} · {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escaped(report.scenario),
        escaped(&report.server),
    )
}

fn notes(body: &mut String, class: &str, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let items: String = lines.iter().map(|line| format!("<li>{}</li>", escaped(line.trim()))).collect();
    let _ = writeln!(body, "<aside class=\"{class}\"><b>{title}</b><ul>{items}</ul></aside>");
}

fn tiles(body: &mut String, report: &Report) {
    if report.figures.is_empty() {
        return;
    }
    body.push_str("<div class=\"tiles\">\n");
    for figure in &report.figures {
        let value = figure.value.map_or_else(|| "–".to_owned(), number);
        let range = match (figure.low, figure.high) {
            (Some(low), Some(high)) => format!("<span class=\"range\">{} – {}</span>", number(low), number(high)),
            _ => String::new(),
        };
        let _ = writeln!(
            body,
            "<div class=\"tile\" title=\"{}\"><p class=\"name\">{}</p><p class=\"value\">{value} <small>{}</small></p>\
             {range}<p class=\"what\">{}</p></div>",
            escaped(&shown(figure)),
            escaped(&figure.name).replace('_', "_<wbr>"),
            escaped(figure.unit),
            escaped(&figure.what),
        );
    }
    body.push_str("</div>\n");
}

fn quantiles(body: &mut String, distributions: &[Distribution]) {
    let parts = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max")];
    let heads: String = parts.iter().map(|(_, name)| format!("<th>{name}</th>")).collect();
    let _ = writeln!(body, "<table><thead><tr><th>ms</th><th>times</th>{heads}</tr></thead><tbody>");
    for one in distributions {
        let at = |part: f64| one.points.iter().find(|(at, _)| (at - part).abs() < 1e-9).map(|(_, ms)| *ms);
        let cells: String =
            parts.iter().map(|(part, _)| format!("<td>{}</td>", at(*part).map_or_else(String::new, number))).collect();
        let _ = writeln!(body, "<tr><th>{}</th><td>{}</td>{cells}</tr>", escaped(&one.name), number(one.count as f64));
    }
    body.push_str("</tbody></table>\n");
}

fn conditions(body: &mut String, report: &Report) {
    let gates = &report.gates;
    let rows = [
        ("began", report.began.clone()),
        ("command", format!("tidegate-load {}", report.command.join(" "))),
        (
            "machine",
            format!(
                "{} processors, Linux {}, {} open files per process",
                report.machine.processors, report.machine.kernel, report.machine.open_files
            ),
        ),
        (
            "busiest generator",
            format!(
                "{:.1} % of a core; p99 of a turn of its loop {:.2} ms, of its own lateness {:.2} ms",
                gates.generator_busy_percent, gates.generator_turn_ms_p99, gates.generator_late_ms_p99
            ),
        ),
        (
            "kernel",
            format!(
                "{} ListenOverflows, {} ListenDrops, {} RetransSegs, {} TCPRcvQDrop",
                gates.listen_overflows, gates.listen_drops, gates.retransmits, gates.receive_drops
            ),
        ),
        (
            "processors",
            format!(
                "{:.1} % used by other programs, {:.1} % taken by the host",
                gates.others_percent, gates.steal_percent
            ),
        ),
        ("missing", gates.missing.to_string()),
    ];
    body.push_str("<section><h2>Conditions</h2><table class=\"conditions\"><tbody>\n");
    for (name, value) in rows {
        let _ = writeln!(body, "<tr><th>{name}</th><td>{}</td></tr>", escaped(&value));
    }
    body.push_str("</tbody></table></section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Chart, Figure, Findings, Series};
    use crate::thin::Times;

    fn report() -> Report {
        let mut times = Times::default();
        (1..500_u64).for_each(|n| times.note(n * 100_000));
        let findings = Findings {
            server: "a <hub>".to_owned(),
            figures: vec![Figure::new("bytes", 2_048.0, "B", "memory & more").within(2_000.0, 2_100.0)],
            distributions: Distribution::of("echo", &times).into_iter().collect(),
            charts: vec![Chart {
                title: "Memory".to_owned(),
                x: "sessions",
                y: "MiB",
                scattered: true,
                series: vec![Series { name: "measured".to_owned(), points: vec![(1.0, 2.0), (3.0, 4.0)] }],
            }],
            ..Findings::default()
        };
        Report::of("idle", findings, "2026-01-01T00:00:00Z".to_owned(), false)
    }

    #[test]
    fn the_page_holds_everything_and_asks_nobody_for_more() {
        let page = page(&report());
        for expected in
            ["2,048", "2,000 – 2,100", "p99.9", "<circle", "a &lt;hub&gt;", "memory &amp; more", "RetransSegs"]
        {
            assert!(page.contains(expected), "{expected} in:\n{page}");
        }
        for foreign in ["http:", "https:", "src=", "@import", "url(", "<script"] {
            assert!(!page.contains(foreign), "{foreign} in:\n{page}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn a_refused_run_shows_why_and_no_tile() {
        let mut findings = Findings { figures: vec![Figure::new("bytes", 1.0, "", "")], ..Findings::default() };
        findings.gates.steal_percent = 17.0;
        let page = page(&Report::of("idle", findings, String::new(), false));
        assert!(
            page.contains("verdict refused") && page.contains("steal") && !page.contains("class=\"tile\""),
            "{page}"
        );
    }
}
