//! Which traces are recorded, decided at their beginning. The decision follows from the id of the
//! trace, so that all systems with the same ratio make the same decision. Never decides about a
//! failure, which is always recorded.

use crate::{TraceId, TraceParent};

/// The share of traces that are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// The ids below this one are recorded. Only the lower 56 bits of an id count, since the
    /// specification requires only these to be random.
    threshold: u64,
    trusts_parent: bool,
}

const IDS: u64 = 1 << 56;

impl Sampling {
    /// Records this share of all new traces, from 0 to 1, and the traces that their sender records.
    /// `None` if the share is outside of this range.
    pub fn new(ratio: f64) -> Option<Self> {
        let threshold = (ratio * IDS as f64) as u64;
        (0.0..=1.0).contains(&ratio).then_some(Self { threshold, trusts_parent: true })
    }

    /// Sets whether the sender of a request decides about its trace.
    #[must_use]
    pub fn trusting_parent(self, trusts_parent: bool) -> Self {
        Self { trusts_parent, ..self }
    }

    /// Returns whether the sender of a request decides about its trace.
    pub fn trusts_parent(&self) -> bool {
        self.trusts_parent
    }

    /// Returns whether a request is recorded: as its trusted sender decided, otherwise by `id`. The
    /// host has chosen `id`, which is the id of the trace if the request begins one.
    pub fn records(self, received: Option<&TraceParent>, id: TraceId) -> bool {
        match received.filter(|_| self.trusts_parent) {
            Some(parent) => parent.is_sampled,
            None => (id.get() as u64) & (IDS - 1) < self.threshold,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SpanId;

    fn sampled(sampling: Sampling, lower: u64) -> bool {
        sampling.records(None, TraceId::from_random(u128::from(lower) | (0xabc << 64)))
    }

    #[test]
    fn the_ratio_decides_about_a_new_trace() {
        let [none, half, all] = [0.0, 0.5, 1.0].map(|ratio| Sampling::new(ratio).expect("it is in range"));
        for lower in [1, IDS / 4, IDS - 1, u64::MAX] {
            assert!(!sampled(none, lower) && sampled(all, lower), "{lower}");
        }
        assert!(sampled(half, IDS / 2 - 1) && !sampled(half, IDS / 2));
        assert!(sampled(half, (0xff << 56) | 7), "the upper bits don't count");
    }

    #[test]
    fn the_sender_of_a_request_decides_about_its_trace() {
        let none = Sampling::new(0.0).expect("it is in range");
        let parent = |is_sampled| TraceParent {
            trace: TraceId::from_random(7),
            span: SpanId::from_random(7),
            is_sampled,
            is_random: false,
        };
        assert!(none.records(Some(&parent(true)), TraceId::from_random(7)));
        let all = Sampling::new(1.0).expect("it is in range");
        assert!(!all.records(Some(&parent(false)), TraceId::from_random(7)));
        assert!(!none.trusting_parent(false).records(Some(&parent(true)), TraceId::from_random(7)));
        assert!(all.trusting_parent(false).records(Some(&parent(false)), TraceId::from_random(7)));
    }

    #[test]
    fn a_ratio_outside_of_its_range_is_refused() {
        for ratio in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Sampling::new(ratio), None, "{ratio}");
        }
    }
}
