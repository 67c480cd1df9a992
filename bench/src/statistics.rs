//! Statistics: median, percentile and ratio. Pure.

/// Returns the middle value, or the mean of the two middle values. `None` if there are no values.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Returns the smallest value that is at least as large as this share (0 to 100) of all values.
pub(super) fn percentile(values: &[f64], share: u32) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (sorted.len() * share as usize).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Returns the median of the ratios of figures from the same rounds, so that a temporary slowdown
/// of the machine affects both sides of a ratio.
pub(super) fn ratio(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    median(&ratios)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&hundred, 95), Some(95.0));
        assert_eq!(percentile(&hundred, 100), Some(100.0));
        assert_eq!(percentile(&[7.0], 95), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_ratio_compares_within_rounds() {
        // The machine was half as fast in the second round: the ratio is the same, but the medians
        // are not.
        assert_eq!(ratio(&[80.0, 40.0], &[100.0, 50.0]), Some(0.8));
        assert_eq!(ratio(&[], &[]), None);
    }
}
