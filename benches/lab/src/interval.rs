//! Intervals of time in a build's progress.

/// From a start to an end, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Interval {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Interval {
    pub(crate) fn micros(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Returns the shortest interval that contains both.
    pub(crate) fn hull(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// Returns the time during which at least one interval lasted, in microseconds: overlaps count once.
pub(crate) fn covered(intervals: impl IntoIterator<Item = Interval>) -> u64 {
    let mut intervals: Vec<_> = intervals.into_iter().collect();
    intervals.sort_unstable();
    let mut total = 0;
    let mut reached = 0;
    for interval in intervals {
        let start = interval.start.max(reached);
        total += interval.end.saturating_sub(start);
        reached = reached.max(interval.end);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(intervals: &[(u64, u64)]) -> u64 {
        covered(intervals.iter().map(|&(start, end)| Interval { start, end }))
    }

    #[test]
    fn time_that_two_share_counts_once() {
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[(10, 20), (30, 35)]), 15);
        assert_eq!(of(&[(15, 30), (10, 20)]), 20);
        assert_eq!(of(&[(10, 40), (15, 20), (40, 41)]), 31);
    }

    #[test]
    fn clocks_that_go_back_take_no_time() {
        assert_eq!(of(&[(20, 10)]), 0);
        assert_eq!(Interval { start: 20, end: 10 }.micros(), 0);
    }
}
