//! Decides how many events of an app are claimed in advance. Never uses a clock, and never claims.

use std::time::{Duration, Instant};

use crate::control::limits;

/// The recent rate of an app's deliveries. It determines how many events are claimed in advance: as
/// many as the app completes during a claim and the commit of an outcome. An event whose handler is
/// slow is claimed only when a core is free, since a claim counts as an attempt.
pub(super) struct Pace {
    since: Instant,
    ended: u32,
    per_second: f64,
    /// The smoothed duration of a claim. It grows if claims wait behind synced writes on a slow
    /// disk.
    claim_time: Duration,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, ended: 0, per_second: 0.0, claim_time: Duration::ZERO }
    }

    /// Records the end of a delivery.
    pub(super) fn note_end(&mut self, now: Instant) {
        self.ended = self.ended.saturating_add(1);
        let measured = now.duration_since(self.since);
        if measured >= limits::DELIVERY_PACE_WINDOW {
            self.per_second = f64::from(self.ended) / measured.as_secs_f64();
            (self.since, self.ended) = (now, 0);
        }
    }

    /// Records the duration of a claim.
    pub(super) fn note_claim(&mut self, took: Duration) {
        self.claim_time = (self.claim_time + took.min(limits::DELIVERY_CLAIM_TIME_MAX)) / 2;
    }

    /// Returns the number of events to claim beyond those that have a core.
    pub(super) fn ahead(&self, now: Instant) -> usize {
        // The outcome of a delivery and the next claim take as long to store as a claim.
        let waits = (3 * self.claim_time).max(limits::DELIVERY_CLAIM_TIME);
        // If no delivery ended recently, the rate of the last window is outdated.
        let is_recent = now.duration_since(self.since) < waits + 2 * limits::DELIVERY_PACE_WINDOW;
        let ahead = self.per_second * waits.as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from a float saturates")]
        if is_recent { ahead as usize } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORES: usize = 4;

    /// Returns the rate, in events per second, that handlers reach whose claims and outcomes each
    /// take this long to store.
    fn rate(stored_in: Duration, handled_in: Duration) -> f64 {
        let began = Instant::now();
        let (mut pace, mut now, mut rate) = (Pace::new(began), began, 0.0);
        for _ in 0..100 {
            let claimed = (CORES + pace.ahead(now)).min(limits::DELIVERIES_PER_APP_MAX);
            pace.note_claim(stored_in);
            let rounds = u32::try_from(claimed.div_ceil(CORES)).expect("a small number");
            let took = 2 * stored_in + handled_in * rounds;
            now += took;
            (0..claimed).for_each(|_| pace.note_end(now));
            rate = claimed as f64 / took.as_secs_f64();
        }
        rate
    }

    #[test]
    fn short_events_are_delivered_quickly_on_a_slow_disk() {
        let quick = Duration::from_micros(100);
        for sync_ms in [1, 20, 100, 200] {
            let rate = rate(Duration::from_millis(sync_ms), quick);
            assert!(rate > 500.0, "{rate} events per second with {sync_ms} ms per sync");
        }
    }

    #[test]
    fn long_events_are_hardly_claimed_ahead() {
        let began = Instant::now();
        let (mut pace, mut now) = (Pace::new(began), began);
        for _ in 0..20 {
            now += Duration::from_secs(5);
            pace.note_claim(Duration::from_millis(100));
            (0..CORES).for_each(|_| pace.note_end(now));
            assert_eq!(pace.ahead(now), 0);
        }
    }

    #[test]
    fn nothing_is_claimed_ahead_without_a_recent_end() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        let end = began + limits::DELIVERY_PACE_WINDOW;
        (0..1_000).for_each(|_| pace.note_end(end));
        (0..1_000).for_each(|_| pace.note_end(end + limits::DELIVERY_PACE_WINDOW));
        assert!(pace.ahead(end + limits::DELIVERY_PACE_WINDOW) > 0);
        assert_eq!(pace.ahead(end + Duration::from_secs(1)), 0);
    }
}
