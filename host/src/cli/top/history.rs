//! The last minutes of each app: the figures of its queues for each second, for the charts of the
//! detail screen. Never reads a clock: each sample has its time, and missed seconds stay empty.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::super::limits;
use super::sample::{AppSample, QueueSample, Sample};

/// The figures of an app for one second.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) pull: Measure,
    pub(super) push: Measure,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measure {
    pub(super) per_s: f64,
    pub(super) p99_ms: Option<f64>,
    pub(super) buffered: u64,
}

/// The history of all apps, newest second first. An app without any figures is removed.
#[derive(Debug, Default)]
pub(super) struct History {
    apps: BTreeMap<String, VecDeque<Option<Point>>>,
    last: Option<Duration>,
    /// The seconds since the first sample, so that a column of a chart always covers the same
    /// seconds.
    seconds: usize,
}

impl History {
    /// Adds a sample.
    pub(super) fn add(&mut self, now: Duration, sample: &Sample) {
        let passed = self.last.map_or(1, |last| periods(now.saturating_sub(last)));
        self.last = Some(now);
        self.seconds += passed;
        for series in self.apps.values_mut() {
            for _ in 0..passed.min(limits::TOP_HISTORY_SECONDS) {
                series.push_front(None);
            }
        }
        for app in sample.all() {
            let series = self.apps.entry(app.name.clone()).or_insert_with(|| VecDeque::from([None]));
            series[0] = Some(Point::of(app));
        }
        self.apps.retain(|_, series| {
            series.truncate(limits::TOP_HISTORY_SECONDS);
            series.iter().any(Option::is_some)
        });
    }

    /// Returns the time that the history covers, which all charts show.
    pub(super) fn span(&self) -> Duration {
        limits::TOP_SAMPLE_EVERY.saturating_mul(u32::try_from(self.kept()).unwrap_or(u32::MAX))
    }

    fn kept(&self) -> usize {
        self.seconds.min(limits::TOP_HISTORY_SECONDS)
    }

    /// Returns one figure of an app in at most `width` columns, newest first. Each column covers
    /// the same number of seconds, so that all fit, and has their largest figure, since peaks
    /// matter most.
    pub(super) fn columns(&self, name: &str, width: usize, figure: impl Fn(&Point) -> Option<f64>) -> Vec<Option<f64>> {
        let Some(series) = self.apps.get(name) else { return Vec::new() };
        if width == 0 {
            return Vec::new();
        }
        // One column less, since the newest column is rarely complete.
        let seconds = self.kept().div_ceil((width - 1).max(1));
        let newest = self.seconds / seconds;
        let mut columns: Vec<Option<f64>> = Vec::new();
        for (age, point) in series.iter().enumerate() {
            // A series is never longer than the number of seconds.
            let column = newest - (self.seconds - age) / seconds;
            if column >= width {
                break;
            }
            columns.resize(columns.len().max(column + 1), None);
            let value = point.as_ref().and_then(&figure);
            columns[column] = [columns[column], value].into_iter().flatten().reduce(f64::max);
        }
        columns
    }
}

/// Returns the number of seconds between two samples, rounded, since neither clock nor network is
/// exact.
fn periods(passed: Duration) -> usize {
    let every = limits::TOP_SAMPLE_EVERY;
    let rounded = (passed + every / 2).as_millis() / every.as_millis();
    usize::try_from(rounded).unwrap_or(usize::MAX).clamp(1, limits::TOP_HISTORY_SECONDS)
}

impl Point {
    fn of(app: &AppSample) -> Point {
        Point { pull: Measure::of(&app.pull), push: Measure::of(&app.push) }
    }
}

impl Measure {
    fn of(queue: &QueueSample) -> Measure {
        Measure { per_s: queue.throughput_per_s, p99_ms: queue.latency_ms.p99, buffered: queue.buffered }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::fixtures;
    use super::*;

    const ALL: usize = limits::TOP_HISTORY_SECONDS + 1;

    fn taken(samples: &[(f64, &[(&str, u32)])]) -> History {
        let mut history = History::default();
        for (seconds, apps) in samples {
            history.add(Duration::from_secs_f64(*seconds), &fixtures::list(apps));
        }
        history
    }

    fn requests(history: &History, name: &str, width: usize) -> Vec<Option<f64>> {
        history.columns(name, width, |point| Some(point.pull.per_s))
    }

    #[test]
    fn the_newest_second_comes_first() {
        let history = taken(&[(0.0, &[("a", 1)]), (1.02, &[("a", 2)]), (1.98, &[("a", 3)])]);
        assert_eq!(requests(&history, "a", ALL), [Some(60.0), Some(40.0), Some(20.0)]);
        assert_eq!(requests(&history, "b", ALL), []);
        assert_eq!(requests(&history, "a", 0), []);
    }

    #[test]
    fn seconds_without_a_sample_stay_empty() {
        let history = taken(&[(0.0, &[("a", 1)]), (3.0, &[("a", 2)]), (4.0, &[])]);
        assert_eq!(requests(&history, "a", ALL), [None, Some(40.0), None, None, Some(20.0)]);
        assert_eq!(history.span(), Duration::from_secs(5));
    }

    #[test]
    fn an_app_without_recent_figures_is_removed() {
        let mut history = taken(&[(0.0, &[("a", 1)])]);
        history.add(Duration::from_secs(1_000_000), &fixtures::list(&[("b", 1)]));
        assert_eq!(history.apps.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn the_history_is_bounded() {
        let mut history = History::default();
        for second in 0..2 * limits::TOP_HISTORY_SECONDS as u64 {
            history.add(Duration::from_secs(second), &fixtures::list(&[("a", 1)]));
        }
        assert_eq!(history.apps["a"].len(), limits::TOP_HISTORY_SECONDS);
        assert_eq!(requests(&history, "a", ALL).len(), limits::TOP_HISTORY_SECONDS);
    }

    #[test]
    fn a_narrow_chart_shows_the_peaks_of_the_whole_history() {
        let mut history = History::default();
        let width = 31;
        for second in 0..limits::TOP_HISTORY_SECONDS as u64 {
            let busy = if second == 0 { 5 } else { 1 };
            history.add(Duration::from_secs(second), &fixtures::list(&[("a", busy)]));
        }
        let columns = requests(&history, "a", width);
        assert!(columns.len() <= width, "{}", columns.len());
        assert_eq!(columns.last(), Some(&Some(100.0)));
        assert_eq!(columns.iter().flatten().filter(|value| **value == 20.0).count(), columns.len() - 1);
    }

    #[test]
    fn a_peak_does_not_change_its_neighbours_as_it_moves() {
        let mut history = History::default();
        let mut seen = Vec::new();
        for second in 0..60 {
            let busy = if second == 10 { 5 } else { 1 };
            history.add(Duration::from_secs(second), &fixtures::list(&[("a", busy)]));
            let columns = requests(&history, "a", 31);
            seen.push(columns.iter().filter(|value| **value == Some(100.0)).count());
        }
        assert!(seen[10..].iter().all(|peaks| *peaks == 1), "{seen:?}");
    }
}
