//! Statistics of repeated measurements.

use serde::Serialize;

/// The distribution of a duration over repeats, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Number of measurements.
    pub repeats: usize,
    /// The median; for an even number the mean of the two middle values.
    pub median: u64,
    /// The mean.
    pub mean: u64,
    /// The sample standard deviation; 0 for a single measurement. Its square is the variance.
    pub deviation: u64,
    /// The shortest duration.
    pub min: u64,
    /// The longest duration.
    pub max: u64,
}

impl Summary {
    /// Summarises durations in microseconds; `None` if there are none.
    #[must_use]
    pub fn of(durations: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut sorted: Vec<u64> = durations.into_iter().collect();
        sorted.sort_unstable();
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let repeats = sorted.len();
        let middle = repeats / 2;
        let median = match repeats % 2 {
            0 => u64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        let mean = sorted.iter().sum::<u64>() as f64 / repeats as f64;
        let squares: f64 = sorted.iter().map(|&value| (value as f64 - mean).powi(2)).sum();
        let deviation = if repeats > 1 { (squares / (repeats - 1) as f64).sqrt() } else { 0.0 };
        Some(Self {
            repeats,
            median,
            mean: mean.round() as u64,
            deviation: deviation.round() as u64,
            min,
            max,
        })
    }

    /// Returns the standard deviation in percent of the mean.
    #[must_use]
    pub fn spread(&self) -> f64 {
        if self.mean == 0 { 0.0 } else { self.deviation as f64 * 100.0 / self.mean as f64 }
    }
}

/// Returns `part` divided by `whole`; `None` if `whole` is 0.
#[must_use]
pub fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_summarised() {
        let summary = Summary::of([40, 10, 20, 30]).unwrap();
        assert_eq!((summary.repeats, summary.min, summary.max), (4, 10, 40));
        assert_eq!((summary.median, summary.mean), (25, 25));
        // √(500 / 3)
        assert_eq!(summary.deviation, 13);
        assert!((summary.spread() - 52.0).abs() < 1e-9);
    }

    #[test]
    fn one_measurement_has_no_spread_and_none_no_summary() {
        let summary = Summary::of([7]).unwrap();
        assert_eq!((summary.median, summary.deviation), (7, 0));
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn an_outlier_moves_the_mean_but_not_the_median() {
        let summary = Summary::of([10, 11, 12, 13, 1000]).unwrap();
        assert_eq!(summary.median, 12);
        assert!(summary.mean > 200);
    }

    #[test]
    fn nothing_is_no_whole() {
        assert_eq!(ratio(1, 0), None);
        assert_eq!(ratio(1, 4), Some(0.25));
    }
}
