//! Latencies in milliseconds and their percentiles. Pure.

use serde_json::{Value, json};

use super::statistics;

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Times(pub(super) Vec<f64>);

impl Times {
    pub(super) fn p50(&self) -> f64 {
        self.share(50)
    }

    pub(super) fn p99(&self) -> f64 {
        self.share(99)
    }

    pub(super) fn slowest(&self) -> f64 {
        self.share(100)
    }

    pub(super) fn json(&self) -> Value {
        json!({ "requests": self.0.len(), "p50_ms": self.p50(), "p99_ms": self.p99(), "max_ms": self.slowest() })
    }

    /// Returns cells of a table: count, p50, p99, slowest.
    pub(super) fn cells(&self) -> String {
        format!("{:>6} | {:>8.2} | {:>8.2} | {:>8.2}", self.0.len(), self.p50(), self.p99(), self.slowest())
    }

    fn share(&self, share: u32) -> f64 {
        statistics::percentile(&self.0, share).unwrap_or(f64::NAN)
    }
}

impl FromIterator<f64> for Times {
    fn from_iter<T: IntoIterator<Item = f64>>(milliseconds: T) -> Times {
        Times(milliseconds.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_a_measurement_have_no_percentiles() {
        assert!(Times::default().p50().is_nan());
        assert_eq!(Times::default().json()["p99_ms"], Value::Null);
        let three: Times = [3.0, 1.0, 2.0].into_iter().collect();
        assert_eq!((three.p50(), three.slowest()), (2.0, 3.0));
    }
}
