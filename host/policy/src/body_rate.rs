//! The minimum rate of a request body: each part of a fixed size must arrive within a fixed time.
//! Never reads a clock.

use std::time::Duration;

/// Measures how fast a client sends a body. Counts only the time that the host waits for bytes, so
/// that a slow disk of the host is never the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyRate {
    part_bytes: u64,
    part_time: Duration,
    /// Bytes of the current part that have arrived.
    bytes: u64,
    /// How long the host has waited for the current part.
    waited: Duration,
}

impl BodyRate {
    /// Requires that each `part_bytes` bytes of the body, or its rest, arrive within `part_time`.
    pub const fn new(part_bytes: u64, part_time: Duration) -> Self {
        Self { part_bytes, part_time, bytes: 0, waited: Duration::ZERO }
    }

    /// Returns how long the host still waits for the next bytes. Zero if the body is too slow.
    pub fn left(&self) -> Duration {
        self.part_time.saturating_sub(self.waited)
    }

    /// Records that `bytes` bytes arrived after the host had waited for `waited`.
    pub fn received(&mut self, bytes: u64, waited: Duration) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.waited = self.waited.saturating_add(waited);
        if self.bytes >= self.part_bytes {
            (self.bytes, self.waited) = (0, Duration::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PART: u64 = 1_000;
    const TIME: Duration = Duration::from_secs(10);

    #[test]
    fn bytes_that_arrive_now_and_then_do_not_extend_the_time_of_a_part() {
        let mut rate = BodyRate::new(PART, TIME);
        (0..9).for_each(|_| rate.received(1, Duration::from_secs(1)));
        assert_eq!(rate.left(), Duration::from_secs(1));
        rate.received(1, Duration::from_secs(1));
        assert_eq!(rate.left(), Duration::ZERO);
    }

    #[test]
    fn a_complete_part_starts_the_time_of_the_next() {
        let mut rate = BodyRate::new(PART, TIME);
        rate.received(PART - 1, Duration::from_secs(9));
        assert_eq!(rate.left(), Duration::from_secs(1));
        rate.received(1, Duration::ZERO);
        assert_eq!(rate.left(), TIME);
    }

    proptest! {
        /// Whatever a client sends, it is refused before it has held the host for longer than its
        /// complete parts and one more part allow.
        #[test]
        fn the_time_of_a_body_is_bounded_by_its_bytes(
            sent in prop::collection::vec((0_u64..1_500, 0_u64..5_000), 0..50),
        ) {
            let (mut rate, mut bytes, mut waited) = (BodyRate::new(PART, TIME), 0, Duration::ZERO);
            for (more, millis) in sent {
                let wait = Duration::from_millis(millis).min(rate.left());
                rate.received(more, wait);
                (bytes, waited) = (bytes + more, waited + wait);
                prop_assert!(waited <= TIME * (u32::try_from(bytes / PART).unwrap_or(u32::MAX) + 1));
            }
        }
    }
}
