//! The middle of many numbers, and how far it can be trusted. Pure.

/// The median; the mean of the two in the middle if their number is even.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// How often the pairs are drawn anew.
const DRAWS: usize = 2_000;

/// The median of many ratios, and where it lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    /// The median.
    pub(crate) median: f64,
    /// Lower end of the interval.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
}

/// The ratio of paired values, first over second: the median of the pairs' own ratios, with the
/// interval that a bootstrap over the pairs gives. Pairs without a ratio are left out.
pub(crate) fn paired(pairs: &[(f64, f64)]) -> Option<Ratio> {
    let ratios: Vec<f64> =
        pairs.iter().map(|(ours, theirs)| ours / theirs).filter(|ratio| ratio.is_finite() && *ratio > 0.0).collect();
    let middle = median(&ratios)?;
    // A fixed beginning: the same pairs give the same interval.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut medians: Vec<f64> = (0..DRAWS)
        .filter_map(|_| median(&(0..ratios.len()).map(|_| ratios[next(ratios.len())]).collect::<Vec<_>>()))
        .collect();
    medians.sort_by(f64::total_cmp);
    let at = |part: f64| medians[((medians.len() - 1) as f64 * part).round() as usize];
    Some(Ratio { median: middle, low: at(0.025), high: at(0.975) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two_in_the_middle() {
        assert_eq!((median(&[]), median(&[3.0]), median(&[9.0, 1.0, 2.0])), (None, Some(3.0), Some(2.0)));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }

    #[test]
    fn pairs_of_one_ratio_leave_no_doubt() {
        let ratio = paired(&[(1.0, 2.0), (3.0, 6.0), (50.0, 100.0)]).unwrap();
        assert_eq!((ratio.median, ratio.low, ratio.high), (0.5, 0.5, 0.5));
    }

    #[test]
    fn one_bad_pair_moves_the_interval_and_not_the_middle() {
        let mut pairs = vec![(1.0, 1.0); 8];
        pairs.push((9.0, 1.0));
        let ratio = paired(&pairs).unwrap();
        assert!((ratio.median - 1.0).abs() < 1e-9 && ratio.high < 9.0 && ratio.low <= ratio.high, "{ratio:?}");
        assert_eq!(paired(&pairs), Some(ratio), "the same pairs, the same interval");
    }

    #[test]
    fn scattered_pairs_have_a_wide_interval_around_their_middle_and_none_has_no_ratio() {
        let pairs: Vec<(f64, f64)> = (1..=21).map(|n| (f64::from(n), 10.0)).collect();
        let ratio = paired(&pairs).unwrap();
        assert!((ratio.median - 1.1).abs() < 1e-9 && ratio.low < 0.9 && ratio.high > 1.3, "{ratio:?}");
        assert_eq!((paired(&[]), paired(&[(1.0, 0.0)])), (None, None));
    }
}
