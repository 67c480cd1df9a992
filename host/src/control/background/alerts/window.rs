//! The increase of a running total during the last minute. Never reads a clock: the time is an
//! argument.

use std::collections::VecDeque;
use std::time::Duration;

use crate::control::limits;

/// The increase of running totals during the last minute. Keeps a few points of it.
#[derive(Debug, Default)]
pub(super) struct Window<const N: usize>(VecDeque<(Duration, [u64; N])>);

impl<const N: usize> Window<N> {
    /// Adds the totals at `now`, and returns their increase. For the first totals, it is 0.
    pub(super) fn increase(&mut self, now: Duration, totals: [u64; N]) -> [u64; N] {
        let points = &mut self.0;
        let is_within = |at: Duration| now.saturating_sub(at) <= limits::ALERT_WINDOW;
        // The newest point outside of the window is the state at its start.
        while points.get(1).is_some_and(|(at, _)| !is_within(*at)) {
            points.pop_front();
        }
        let spacing = limits::ALERT_WINDOW / limits::ALERT_WINDOW_POINTS;
        if points.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= spacing) {
            if points.back().is_some_and(|(_, last)| *last == totals) && points.len() == 1 {
                // Without an increase, one point is enough.
                points.clear();
            }
            points.push_back((now, totals));
        }
        let first = points.front().map_or(totals, |(_, first)| *first);
        std::array::from_fn(|index| totals[index].saturating_sub(first[index]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_window_counts_the_increase_of_the_last_minute() {
        let mut window = Window::default();
        assert_eq!(window.increase(seconds(0), [100]), [0]);
        assert_eq!(window.increase(seconds(10), [130]), [30]);
        assert_eq!(window.increase(seconds(60), [130]), [30]);
        assert_eq!(window.increase(seconds(75), [140]), [10], "the first 30 are older than a minute");
        assert_eq!(window.increase(seconds(200), [140]), [0]);
    }

    #[test]
    fn a_window_keeps_few_points() {
        let mut window = Window::default();
        for tenth in 0..10_000 {
            window.increase(Duration::from_millis(100 * tenth), [tenth]);
        }
        assert!(window.0.len() <= limits::ALERT_WINDOW_POINTS as usize + 2, "{}", window.0.len());
        let mut quiet = Window::default();
        for second in 0..100 {
            quiet.increase(seconds(second), [7]);
        }
        assert_eq!(quiet.0.len(), 1);
    }
}
