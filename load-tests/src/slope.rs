//! Memory of a process, and the line through its points. Pure except for one file read.

use serde::Serialize;

/// One measuring point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Point {
    /// Open sessions.
    pub(crate) sessions: u64,
    /// Proportional set size of the hub in bytes.
    pub(crate) pss_bytes: u64,
}

/// Bytes for each further session: the slope of the least-squares line. Needs two points with
/// different numbers of sessions.
pub(crate) fn bytes_per_session(points: &[Point]) -> Option<f64> {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|point| point.sessions as f64).sum::<f64>() / n;
    let mean_y = points.iter().map(|point| point.pss_bytes as f64).sum::<f64>() / n;
    let covariance: f64 =
        points.iter().map(|point| (point.sessions as f64 - mean_x) * (point.pss_bytes as f64 - mean_y)).sum();
    let variance: f64 = points.iter().map(|point| (point.sessions as f64 - mean_x).powi(2)).sum();
    // Thousandths are more than the points are worth, and hide the dust of the arithmetic.
    (variance > 0.0).then(|| (covariance / variance * 1000.0).round() / 1000.0)
}

/// The numbers of sessions at which to measure, evenly spread from the first to the last.
pub(crate) fn steps(from: u64, to: u64, count: u64) -> Vec<u64> {
    (0..count).map(|step| from + (to - from) * step / (count - 1).max(1)).collect()
}

/// The proportional set size in a text of `/proc/PID/smaps_rollup`, in bytes.
pub(crate) fn pss_in(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The proportional set size of a process now, in bytes.
///
/// # Errors
/// In words: the file, and why it could not be read.
pub(crate) fn pss_bytes(pid: u32) -> Result<u64, String> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    pss_in(&text).ok_or_else(|| format!("{file} has no line \"Pss: … kB\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_a_straight_line_is_exact_and_its_start_does_not_count() {
        let point = |sessions| Point { sessions, pss_bytes: 50_000_000 + sessions * 1_700 };
        assert_eq!(bytes_per_session(&[point(2_000), point(8_000), point(15_000)]), Some(1_700.0));
    }

    #[test]
    fn one_point_or_points_at_one_place_have_no_slope() {
        let point = Point { sessions: 5, pss_bytes: 1 };
        assert_eq!(bytes_per_session(&[]), None);
        assert_eq!(bytes_per_session(&[point, point]), None);
    }

    #[test]
    fn steps_are_even_and_reach_both_ends() {
        assert_eq!(steps(2_000, 15_000, 3), [2_000, 8_500, 15_000]);
        assert_eq!(steps(1, 2, 2), [1, 2]);
    }

    #[test]
    fn the_proportional_set_size_is_read_and_not_one_of_its_parts() {
        let text = "55 ---p 0 00:00 0 [rollup]\nRss:  900 kB\nPss:            812 kB\nPss_Anon:  700 kB\n";
        assert_eq!(pss_in(text), Some(812 * 1024));
        assert_eq!(pss_in("Rss: 900 kB\nPss_Anon: 700 kB\n"), None);
    }

    #[test]
    fn this_very_process_has_a_size() {
        assert!(pss_bytes(std::process::id()).is_ok_and(|bytes| bytes > 100_000));
    }
}
