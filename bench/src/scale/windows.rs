//! Computes from the responses to a step of load the time until latency is steady. Pure.

use crate::statistics;

/// One response, with the time since the load's start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) ended_ms: f64,
    pub(super) took_ms: f64,
}

/// The latency during a step of load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Growth {
    pub(super) first_p99_ms: f64,
    /// The median p99 of the windows in the second half.
    pub(super) steady_p99_ms: f64,
    /// The end of the first window from which latency is steady; `None` if latency never is.
    pub(super) settled_ms: Option<f64>,
}

const WINDOW_MS: f64 = 250.0;

/// The number of consecutive windows that must be good, since a single one may be luck.
const GOOD_WINDOWS: usize = 3;

impl Growth {
    /// Computes the growth. Latencies of at most `ratio` times the steady p99 count as settled.
    pub(super) fn of(samples: &[Sample], ratio: f64) -> Growth {
        let p99s = p99_of_windows(samples);
        let steady = statistics::median(&p99s[p99s.len() / 2..]).unwrap_or(f64::NAN);
        let good = |run: &[f64]| run.iter().all(|p99| *p99 <= steady * ratio);
        Growth {
            first_p99_ms: p99s.first().copied().unwrap_or(f64::NAN),
            steady_p99_ms: steady,
            settled_ms: p99s.windows(GOOD_WINDOWS).position(good).map(|at| (at + 1) as f64 * WINDOW_MS),
        }
    }
}

/// Returns the p99 of every window: infinite for a window without a response. Omits the last
/// window, which is incomplete.
fn p99_of_windows(samples: &[Sample]) -> Vec<f64> {
    let mut windows: Vec<Vec<f64>> = Vec::new();
    for sample in samples {
        let at = (sample.ended_ms / WINDOW_MS) as usize;
        if windows.len() <= at {
            windows.resize(at + 1, Vec::new());
        }
        windows[at].push(sample.took_ms);
    }
    windows.pop();
    windows.iter().map(|window| statistics::percentile(window, 99).unwrap_or(f64::INFINITY)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(p99s: &[f64]) -> Vec<Sample> {
        let sample = |(at, took_ms): (usize, &f64)| Sample { ended_ms: at as f64 * WINDOW_MS + 1.0, took_ms: *took_ms };
        p99s.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn latency_has_settled_once_it_stays_at_its_steady_value() {
        let growth = Growth::of(&windows(&[90.0, 14.0, 40.0, 12.0, 10.0, 10.0, 11.0, 10.0, 10.0, 500.0]), 1.5);
        // The second window is good but the third is not; the last window is incomplete.
        assert_eq!(growth, Growth { first_p99_ms: 90.0, steady_p99_ms: 10.0, settled_ms: Some(1000.0) });
    }

    #[test]
    fn unsteady_latency_has_no_settling_time() {
        let growth = Growth::of(&windows(&[10.0, 90.0, 10.0, 90.0, 10.0, 90.0, 10.0, 90.0, 10.0]), 1.5);
        assert_eq!(growth.settled_ms, None);
        assert!(Growth::of(&[], 1.5).steady_p99_ms.is_nan());
    }

    #[test]
    fn a_window_without_a_response_is_bad() {
        let mut samples = windows(&[10.0, 10.0, 10.0, 10.0, 10.0, 10.0]);
        samples.remove(1);
        assert_eq!(Growth::of(&samples, 1.5).settled_ms, Some(750.0));
    }
}
