//! The line through measuring points, and how sure it is. Pure.

use serde::Serialize;

/// One measuring point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Point {
    /// Open sessions.
    pub(crate) sessions: u64,
    /// Proportional set size of the server in bytes.
    pub(crate) pss_bytes: u64,
}

/// A least-squares line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    /// Bytes for each further session.
    pub(crate) slope: f64,
    /// The slope lies within this to both sides with 95 % confidence, if the noise of the points is
    /// like chance. Nothing with two points: they fit any line.
    pub(crate) half_width: Option<f64>,
    /// Bytes without any session.
    pub(crate) start: f64,
}

/// Student's t for 95 % (two-sided) with 1, 2, … degrees of freedom; beyond the end, the normal
/// distribution's.
const T_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
const T_95_NORMAL: f64 = 1.96;

impl Line {
    /// The line through these points. Needs two with different numbers of sessions.
    pub(crate) fn through(points: &[Point]) -> Option<Self> {
        let n = points.len() as f64;
        let mean_x = points.iter().map(|point| point.sessions as f64).sum::<f64>() / n;
        let mean_y = points.iter().map(|point| point.pss_bytes as f64).sum::<f64>() / n;
        let from_mean = |point: &Point| (point.sessions as f64 - mean_x, point.pss_bytes as f64 - mean_y);
        let covariance: f64 = points.iter().map(from_mean).map(|(x, y)| x * y).sum();
        let variance: f64 = points.iter().map(from_mean).map(|(x, _)| x * x).sum();
        if variance <= 0.0 {
            return None;
        }
        // Thousandths are more than the points are worth, and hide the dust of the arithmetic.
        let thousandths = |value: f64| (value * 1000.0).round() / 1000.0;
        let slope = thousandths(covariance / variance);
        let start = mean_y - slope * mean_x;
        let free = points.len() - 2;
        let half_width = (free > 0).then(|| {
            let residuals = points.iter().map(|point| point.pss_bytes as f64 - start - slope * point.sessions as f64);
            let error = (residuals.map(|residual| residual * residual).sum::<f64>() / free as f64 / variance).sqrt();
            thousandths(T_95.get(free - 1).copied().unwrap_or(T_95_NORMAL) * error)
        });
        Some(Self { slope, half_width, start })
    }
}

/// The numbers of sessions at which to measure, evenly spread from the first to the last.
pub(crate) fn steps(from: u64, to: u64, count: u64) -> Vec<u64> {
    (0..count).map(|step| from + (to - from) * step / (count - 1).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(sessions: u64, pss_bytes: u64) -> Point {
        Point { sessions, pss_bytes }
    }

    #[test]
    fn the_slope_of_a_straight_line_is_exact_and_sure_and_its_start_does_not_count() {
        let on_line = |sessions| point(sessions, 50_000_000 + sessions * 1_700);
        let line = Line::through(&[on_line(2_000), on_line(8_000), on_line(15_000)]).unwrap();
        assert_eq!((line.slope, line.half_width), (1_700.0, Some(0.0)));
        assert!((line.start - 50_000_000.0).abs() < 1.0, "{line:?}");
    }

    #[test]
    fn scattered_points_give_the_interval_of_the_textbook() {
        // x 1..5, y 2 4 5 4 5: slope 0.6, residual sum 2.4, standard error sqrt(0.8 / 10) = 0.2828, t(3) 3.182.
        let points: Vec<Point> = [2, 4, 5, 4, 5].into_iter().enumerate().map(|(x, y)| point(x as u64 + 1, y)).collect();
        let line = Line::through(&points).unwrap();
        assert_eq!((line.slope, line.half_width), (0.6, Some(0.9)));
    }

    #[test]
    fn two_points_fit_any_line_and_one_place_fits_none() {
        assert_eq!(Line::through(&[point(1, 10), point(2, 30)]).map(|line| line.half_width), Some(None));
        assert_eq!(Line::through(&[]), None);
        assert_eq!(Line::through(&[point(5, 1), point(5, 1)]), None);
    }

    #[test]
    fn steps_are_even_and_reach_both_ends() {
        assert_eq!(steps(2_000, 15_000, 3), [2_000, 8_500, 15_000]);
        assert_eq!(steps(1, 2, 2), [1, 2]);
    }
}
