//! Counts of durations in exponential buckets: eight for each power of two, which are the buckets
//! of schema 3 of Prometheus' native histograms. Never reads a clock.

use std::collections::BTreeMap;

/// The buckets for each power of two. A bucket is 9 % wider than the one before it.
const PER_OCTAVE: i32 = 8;

/// The upper bounds of the buckets between two powers of two, from 0.5 to 1.
const FRACTIONS: [f64; PER_OCTAVE as usize] = [
    0.5,
    0.545_253_866_332_628_8,
    0.594_603_557_501_360_5,
    0.648_419_777_325_504_8,
    0.707_106_781_186_547_5,
    0.771_105_412_703_970_4,
    0.840_896_415_253_714_4,
    0.917_004_043_204_671_1,
];

/// A bucket: the durations beyond the bound of the bucket before it, up to its own bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationBucket(u8);

impl DurationBucket {
    /// The schema of native histograms that has these buckets.
    pub const SCHEMA: i32 = 3;
    /// The first bucket has all durations up to 2 to the power of this, in seconds: 7.6 µs.
    pub const SHORTEST: i32 = -17;
    /// The last bucket also has all durations beyond 2 to the power of this, in seconds: 2.3 h.
    pub const LONGEST: i32 = 13;
    /// The number of buckets.
    pub const COUNT: usize = ((Self::LONGEST - Self::SHORTEST) * PER_OCTAVE) as usize + 1;

    /// Returns the bucket of a duration.
    pub fn of(seconds: f64) -> Self {
        if seconds.is_nan() || seconds <= bound(Self::SHORTEST) {
            return Self(0);
        }
        // Splits the float: its exponent, and its mantissa as a fraction from 0.5 to 1.
        let bits = seconds.min(bound(Self::LONGEST)).to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as i32 - 1022;
        let fraction = f64::from_bits((bits & ((1 << 52) - 1)) | (1022 << 52));
        let within = FRACTIONS.partition_point(|bound| *bound < fraction) as i32;
        Self(((exponent - 1 - Self::SHORTEST) * PER_OCTAVE + within) as u8)
    }

    /// Returns the bucket at a position, the shortest durations first. Positions beyond the last
    /// bucket are those of the last.
    pub fn at(position: usize) -> Self {
        Self(position.min(Self::COUNT - 1) as u8)
    }

    pub fn position(self) -> usize {
        self.0.into()
    }

    /// Returns the index of the bucket in a native histogram. The first bucket has none: it is the
    /// zero bucket, whose threshold is its bound.
    pub fn index(self) -> Option<i32> {
        (self.0 > 0).then(|| i32::from(self.0) + Self::SHORTEST * PER_OCTAVE)
    }

    /// Returns whether the bound of the bucket is at most 2 to the power of `exponent`, in seconds.
    pub fn is_within(self, exponent: i32) -> bool {
        i32::from(self.0) <= (exponent - Self::SHORTEST) * PER_OCTAVE
    }
}

/// Returns 2 to the power of `exponent`.
fn bound(exponent: i32) -> f64 {
    2_f64.powi(exponent)
}

/// A histogram of durations. Its size depends on its used buckets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DurationCounts {
    buckets: BTreeMap<DurationBucket, u64>,
    seconds: f64,
}

impl DurationCounts {
    /// Counts durations of `seconds`.
    pub fn add(&mut self, seconds: f64, durations: u64) {
        self.add_to(DurationBucket::of(seconds), durations, seconds * durations as f64);
    }

    /// Counts durations of a bucket. `seconds` is their sum.
    pub fn add_to(&mut self, bucket: DurationBucket, durations: u64, seconds: f64) {
        if durations > 0 {
            *self.buckets.entry(bucket).or_default() += durations;
        }
        self.seconds += seconds;
    }

    /// Returns the used buckets and their counts, the shortest durations first.
    pub fn buckets(&self) -> impl Iterator<Item = (DurationBucket, u64)> {
        self.buckets.iter().map(|(bucket, count)| (*bucket, *count))
    }

    /// Returns the number of counted durations.
    pub fn count(&self) -> u64 {
        self.buckets.values().sum()
    }

    /// Returns the sum of the counted durations.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_the_durations_up_to_its_bound() {
        for position in 0..DurationBucket::COUNT {
            let bucket = DurationBucket::at(position);
            let index = bucket.index().unwrap_or(DurationBucket::SHORTEST * PER_OCTAVE);
            let bound = 2_f64.powf(f64::from(index) / f64::from(PER_OCTAVE));
            // Half of the bounds are irrational, so that their floats are not exact.
            let (inside, outside) = (bound * (1.0 - 1e-12), bound * (1.0 + 1e-12));
            assert_eq!(DurationBucket::of(inside), bucket, "{bound}");
            assert_eq!(DurationBucket::of(outside), DurationBucket::at(position + 1), "{bound}");
            assert_eq!(bucket.position(), position);
        }
    }

    #[test]
    fn a_power_of_two_is_the_bound_of_a_bucket() {
        for exponent in DurationBucket::SHORTEST..=DurationBucket::LONGEST {
            let bucket = DurationBucket::of(bound(exponent));
            assert!(bucket.is_within(exponent) && !bucket.is_within(exponent - 1), "{exponent}");
            assert!(!DurationBucket::at(bucket.position() + 1).is_within(exponent) || exponent == 13, "{exponent}");
        }
        assert_eq!(DurationBucket::of(1.0).index(), Some(0));
    }

    #[test]
    fn durations_outside_the_range_are_in_the_outer_buckets() {
        let last = DurationBucket::at(DurationBucket::COUNT - 1);
        for (seconds, bucket) in [
            (0.0, DurationBucket::at(0)),
            (-1.0, DurationBucket::at(0)),
            (f64::NAN, DurationBucket::at(0)),
            (1e9, last),
            (f64::INFINITY, last),
        ] {
            assert_eq!(DurationBucket::of(seconds), bucket, "{seconds}");
        }
        assert_eq!((last.index(), DurationBucket::at(0).index()), (Some(104), None));
    }

    #[test]
    fn counts_are_summed() {
        let mut counts = DurationCounts::default();
        counts.add(0.25, 2);
        counts.add(0.26, 1);
        counts.add(4.0, 0);
        assert_eq!((counts.count(), counts.seconds()), (3, 0.76));
        let buckets: Vec<_> = counts.buckets().map(|(bucket, count)| (bucket.index(), count)).collect();
        assert_eq!(buckets, [(Some(-16), 2), (Some(-15), 1)]);
    }
}
