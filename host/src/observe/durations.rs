//! Histograms of durations, which requests fill without a lock. A scrape reads them as classic and
//! as native buckets, which contain the same durations. Never resets a count.

use std::{
    fmt,
    ops::RangeInclusive,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use isopod_policy::{DurationBucket, DurationCounts};
use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NativeHistogram, NativeHistogramBuckets, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Some of the buckets, allocated when the first duration falls into one of them.
type Part = [AtomicU64; PART];

const PART: usize = 8;
const PARTS: usize = DurationBucket::COUNT.div_ceil(PART);

/// A histogram of durations. The bounds of its classic buckets are the powers of two whose
/// exponents are from `SHORTEST` to `LONGEST`, in seconds. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Durations<const SHORTEST: i32, const LONGEST: i32>(Arc<Histogram>);

/// From 61 µs to 32 s.
pub(super) type RequestDurations = Durations<-14, 5>;
/// From 61 µs to 256 s.
pub(super) type QueueLatencies = Durations<-14, 8>;
/// From 31 ms to 512 s.
pub(super) type PushDurations = Durations<-5, 9>;

#[derive(Debug, Default)]
struct Histogram {
    parts: [OnceLock<Box<Part>>; PARTS],
    nanoseconds: AtomicU64,
}

impl<const SHORTEST: i32, const LONGEST: i32> Durations<SHORTEST, LONGEST> {
    /// Counts a duration.
    pub(super) fn observe(&self, duration: Duration) {
        self.add(DurationBucket::of(duration.as_secs_f64()), 1);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Adds the counts of another histogram.
    pub(super) fn add_all(&self, counts: &DurationCounts) {
        counts.buckets().for_each(|(bucket, count)| self.add(bucket, count));
        self.0.nanoseconds.fetch_add((counts.seconds() * 1e9) as u64, Ordering::Relaxed);
    }

    fn add(&self, bucket: DurationBucket, count: u64) {
        let position = bucket.position();
        let part = self.0.parts[position / PART].get_or_init(Box::default);
        part[position % PART].fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the counts. The sum may lack durations that are being counted.
    fn counts(&self) -> DurationCounts {
        let mut counts = DurationCounts::default();
        let seconds = self.0.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        counts.add_to(DurationBucket::at(0), 0, seconds);
        for (number, part) in self.0.parts.iter().enumerate() {
            for (within, count) in part.get().into_iter().flat_map(|part| part.iter().enumerate()) {
                let bucket = DurationBucket::at(number * PART + within);
                counts.add_to(bucket, count.load(Ordering::Relaxed), 0.0);
            }
        }
        counts
    }
}

impl<const SHORTEST: i32, const LONGEST: i32> TypedMetric for Durations<SHORTEST, LONGEST> {
    const TYPE: MetricType = MetricType::Histogram;
}

impl<const SHORTEST: i32, const LONGEST: i32> EncodeMetric for Durations<SHORTEST, LONGEST> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self.counts();
        let (classic, native) = (classic(&counts, SHORTEST..=LONGEST), Native::of(&counts));
        encoder.encode_histogram_with_native::<NoLabelSet>(
            counts.seconds(),
            counts.count(),
            &classic,
            None,
            NativeHistogram {
                schema: DurationBucket::SCHEMA,
                zero_threshold: 2_f64.powi(DurationBucket::SHORTEST),
                zero_count: native.zero,
                negative: NativeHistogramBuckets { spans: &[], deltas: &[] },
                positive: NativeHistogramBuckets { spans: &native.spans, deltas: &native.deltas },
                created: None,
            },
        )
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Returns the classic buckets: the bound of each, and its count without the lower buckets.
fn classic(counts: &DurationCounts, exponents: RangeInclusive<i32>) -> Vec<(f64, u64)> {
    let bounds = exponents.clone().map(|exponent| 2_f64.powi(exponent));
    let mut classic: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).map(|bound| (bound, 0)).collect();
    let last = classic.len() - 1;
    for (bucket, count) in counts.buckets() {
        let position = exponents.clone().position(|exponent| bucket.is_within(exponent));
        classic[position.unwrap_or(last)].1 += count;
    }
    classic
}

/// The buckets of a native histogram: runs of consecutive used buckets, and the difference of each
/// count to the one before it.
#[derive(Debug, Default, PartialEq)]
struct Native {
    zero: u64,
    /// The distance to the run before it, and its length.
    spans: Vec<(i32, u32)>,
    deltas: Vec<i64>,
}

impl Native {
    fn of(counts: &DurationCounts) -> Self {
        let mut native = Self::default();
        let (mut next, mut former) = (0, 0);
        for (bucket, count) in counts.buckets() {
            let Some(index) = bucket.index() else {
                native.zero = count;
                continue;
            };
            match native.spans.last_mut() {
                Some((_, length)) if index == next => *length += 1,
                _ => native.spans.push((index - next, 1)),
            }
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            native.deltas.push(count - former);
            (next, former) = (index + 1, count);
        }
        native
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(milliseconds: &[u64]) -> Durations<-3, 1> {
        let durations = Durations::default();
        milliseconds.iter().for_each(|&ms| durations.observe(Duration::from_millis(ms)));
        durations
    }

    #[test]
    fn classic_and_native_buckets_have_the_same_durations() {
        let counts = durations(&[0, 1, 125, 126, 1000, 1000, 1001, 60_000]).counts();
        assert_eq!((counts.count(), counts.seconds()), (8, 63.253));
        let classic = classic(&counts, -3..=1);
        assert_eq!(classic, [(0.125, 3), (0.25, 1), (0.5, 0), (1.0, 2), (2.0, 1), (f64::INFINITY, 1)]);
        let native = Native::of(&counts);
        assert_eq!(native.zero, 1);
        // 1 ms, 125 and 126 ms, 1 s twice and 1.001 s, 60 s.
        assert_eq!(native.spans, [(-79, 1), (54, 2), (22, 2), (46, 1)]);
        assert_eq!(native.deltas, [1, 0, 0, 1, -1, 0]);
    }

    #[test]
    fn the_counts_of_another_histogram_are_added() {
        let (sum, more) = (durations(&[5, 2000]), durations(&[5, 70]));
        sum.add_all(&more.counts());
        assert_eq!(sum.counts(), durations(&[5, 5, 70, 2000]).counts());
    }

    #[test]
    fn an_unused_histogram_is_empty() {
        let counts = durations(&[]).counts();
        assert_eq!((counts.count(), counts.seconds(), Native::of(&counts)), (0, 0.0, Native::default()));
    }
}
