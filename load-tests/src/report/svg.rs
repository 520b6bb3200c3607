//! Charts as inline SVG, drawn with the colours of the page around them. Pure.

use super::model::{Chart, Distribution, Series};
use super::table::number;
use std::fmt::Write;

/// Size of a chart and of its margins, in the units of its view box.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;

/// Lines have as many colours as the style sheet of the page; more lines begin anew.
const COLOURS: usize = 5;

/// The parts that are marked on the axis of a distribution.
const NINES: [(f64, &str); 6] =
    [(0.0, "0 %"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")];

/// An axis: where values lie, and which are marked.
struct Axis {
    low: f64,
    high: f64,
    marks: Vec<(f64, String)>,
}

/// A chart with straight axes.
pub(super) fn chart(chart: &Chart) -> String {
    let points = || chart.series.iter().flat_map(|series| series.points.iter());
    let x = Axis::even(points().map(|point| point.0).fold(0.0, f64::max));
    let y = Axis::even(points().map(|point| point.1).fold(0.0, f64::max));
    drawn(&chart.title, &x, &y, chart.x, chart.y, &chart.series, chart.scattered)
}

/// Distributions over one another: how long the slowest of so many were.
pub(super) fn distributions(distributions: &[Distribution]) -> String {
    let deepest = distributions.iter().map(|one| one.count).max().unwrap_or(1).max(10) as f64;
    let series: Vec<Series> = distributions
        .iter()
        .map(|one| Series {
            name: format!("{} ({} times)", one.name, number(one.count as f64)),
            points: one.points.iter().map(|(part, ms)| (depth(*part, deepest), *ms)).collect(),
        })
        .collect();
    let marks: Vec<(f64, String)> = NINES
        .iter()
        .map(|(part, name)| (depth(*part, deepest), (*name).to_owned()))
        .filter(|(at, _)| *at < deepest.log10())
        .collect();
    let x = Axis { low: 0.0, high: deepest.log10(), marks };
    let highest = series.iter().flat_map(|series| series.points.iter().map(|point| point.1)).fold(0.0, f64::max);
    drawn("Times", &x, &Axis::even(highest), "percentile", "ms", &series, false)
}

/// How deep in the tail a part lies: 1 for 90 %, 2 for 99 %; the very last at the depth of them all.
fn depth(part: f64, count: f64) -> f64 {
    (1.0 / (1.0 - part).max(1.0 / count)).log10()
}

impl Axis {
    /// From zero to a round number at or above the highest value, marked at round distances.
    fn even(highest: f64) -> Self {
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let rough = highest / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].iter().map(|round| round * power).find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(power * 10.0);
        let count = (highest / step * 0.999).ceil();
        let marks = (0..=count as u32).map(|nth| (f64::from(nth) * step, mark(f64::from(nth) * step))).collect();
        Self { low: 0.0, high: count * step, marks }
    }

    fn place(&self, value: f64, from: f64, to: f64) -> f64 {
        from + (value - self.low) / (self.high - self.low) * (to - from)
    }
}

fn drawn(title: &str, x: &Axis, y: &Axis, x_name: &str, y_name: &str, series: &[Series], scattered: bool) -> String {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n", escaped(title));
    // Writing to a text cannot fail.
    for (value, name) in &y.marks {
        let at = y.place(*value, bottom, TOP);
        let _ = writeln!(svg, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
        let _ = writeln!(
            svg,
            "<text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            LEFT - 8.0,
            at + 4.0
        );
    }
    for (value, name) in &x.marks {
        let at = x.place(*value, LEFT, right);
        let _ = writeln!(
            svg,
            "<line class=\"tick\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>",
            bottom + 5.0
        );
        let _ = writeln!(
            svg,
            "<text class=\"mark\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
            bottom + 18.0
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"axis\" x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        HEIGHT - 6.0,
        escaped(x_name)
    );
    let _ = writeln!(
        svg,
        "<text class=\"axis\" transform=\"translate(12 {TOP}) rotate(-90)\" text-anchor=\"end\">{}</text>",
        escaped(y_name)
    );
    for (nth, one) in series.iter().enumerate() {
        let places: Vec<(f64, f64)> =
            one.points.iter().map(|(at, value)| (x.place(*at, LEFT, right), y.place(*value, bottom, TOP))).collect();
        let colour = format!("c{}", nth % COLOURS);
        let is_line = !scattered || (nth > 0 && nth == series.len() - 1);
        svg.push_str(&if is_line { path(&colour, one, &places) } else { dots(&colour, one, &places) });
    }
    svg.push_str("</svg>\n");
    svg.push_str(&legend(series));
    svg
}

/// A round number without zeros behind its point.
fn mark(value: f64) -> String {
    let text = number(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn path(colour: &str, series: &Series, places: &[(f64, f64)]) -> String {
    let mut line = String::new();
    for (nth, (x, y)) in places.iter().enumerate() {
        let _ = write!(line, "{}{x:.1} {y:.1}", if nth == 0 { "M" } else { " L" });
    }
    format!("<path class=\"line {colour}\" d=\"{line}\"><title>{}</title></path>\n", escaped(&series.name))
}

fn dots(colour: &str, series: &Series, places: &[(f64, f64)]) -> String {
    let mut svg = String::new();
    for ((x, y), (at, value)) in places.iter().zip(&series.points) {
        let told = format!("{}: {}", number(*at), number(*value));
        let _ = writeln!(
            svg,
            "<circle class=\"dot {colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{told}</title></circle>"
        );
    }
    svg
}

fn legend(series: &[Series]) -> String {
    let names = series
        .iter()
        .enumerate()
        .map(|(nth, one)| format!("<span><i class=\"c{}\"></i>{}</span>", nth % COLOURS, escaped(&one.name)));
    format!("<p class=\"legend\">{}</p>\n", names.collect::<String>())
}

/// A text that may stand in HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_that_holds_everything() {
        for (highest, end) in [(0.0, 1.0), (1.0, 1.0), (7.3, 8.0), (101.0, 125.0), (18_000.0, 20_000.0), (0.031, 0.04)]
        {
            let axis = Axis::even(highest);
            assert!((axis.high - end).abs() < 1e-9, "{highest} ends at {}", axis.high);
            assert!(axis.marks.len() <= 7 && axis.high >= highest, "{:?}", axis.marks);
        }
    }

    #[test]
    fn a_chart_draws_each_series_once_inside_its_box_and_names_it() {
        let series = |name: &str, points| Series { name: name.to_owned(), points };
        let drawn = chart(&Chart {
            title: "a < b".to_owned(),
            x: "s",
            y: "ms",
            scattered: false,
            series: vec![series("one", vec![(0.0, 0.0), (10.0, 4.0)]), series("two", vec![(0.0, 1.0)])],
        });
        assert_eq!((drawn.matches("<path").count(), drawn.matches("<span>").count()), (2, 2));
        assert!(drawn.contains("M64.0 236.0 L700.0 14.0"), "{drawn}");
        assert!(drawn.contains("a &lt; b") && !drawn.contains("NaN"), "{drawn}");
    }

    #[test]
    fn marks_have_no_idle_zeros() {
        assert_eq!([0.0, 0.5, 2.0, 12.5, 20.0, 18_000.0].map(mark), ["0", "0.5", "2", "12.5", "20", "18,000"]);
    }

    #[test]
    fn the_tail_of_a_distribution_is_spread_out_and_its_last_one_is_at_the_end() {
        assert!((depth(0.9, 1e6) - 1.0).abs() < 1e-9 && (depth(0.99, 1e6) - 2.0).abs() < 1e-9);
        assert!((depth(1.0, 1e4) - 4.0).abs() < 1e-9);
    }
}
