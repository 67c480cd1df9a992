//! Which results of the exports of a signal are worth a line in the host's log. Never logs, and
//! never reads a clock.

use crate::observe::limits;
use std::time::Instant;

/// The state of one signal.
///
/// ```text
///            failed: reported if the last report is old
///  succeeds ───────────────────────────────────────────> fails
///           <───────────────────────────────────────────
///            succeeded: reported if the failure was
/// ```
#[derive(Debug, Default)]
pub(super) struct Health {
    has_reported_failure: bool,
    failure_reported: Option<Instant>,
    rejection_reported: Option<Instant>,
}

impl Health {
    /// Records a failed export. Returns whether to report it.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        let is_new = !self.has_reported_failure && is_due(&mut self.failure_reported, now);
        self.has_reported_failure |= is_new;
        is_new
    }

    /// Records a successful export. Returns whether to report the recovery.
    pub(super) fn succeeded(&mut self) -> bool {
        std::mem::take(&mut self.has_reported_failure)
    }

    /// Records an export of which the collector rejected a part. Returns whether to report it.
    pub(super) fn rejected(&mut self, now: Instant) -> bool {
        is_due(&mut self.rejection_reported, now)
    }
}

/// Returns whether the last report is old enough for another one, which is then the last.
fn is_due(reported: &mut Option<Instant>, now: Instant) -> bool {
    let is_due = reported.is_none_or(|at| now.saturating_duration_since(at) >= limits::TELEMETRY_REPORT_INTERVAL);
    if is_due {
        *reported = Some(now);
    }
    is_due
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_failure_and_its_recovery_are_reported_once() {
        let (mut health, now) = (Health::default(), Instant::now());
        assert!(!health.succeeded());
        assert!(health.failed(now) && !health.failed(now) && !health.failed(now + Duration::from_secs(3600)));
        assert!(health.succeeded() && !health.succeeded());
    }

    #[test]
    fn alternating_results_are_reported_once_per_interval() {
        let (mut health, mut now, mut reports) = (Health::default(), Instant::now(), 0);
        let end = now + limits::TELEMETRY_REPORT_INTERVAL * 10;
        while now < end {
            reports += usize::from(health.failed(now)) + usize::from(health.succeeded());
            now += Duration::from_secs(1);
        }
        assert_eq!(reports, 20);
    }

    #[test]
    fn a_rejection_is_reported_once_per_interval() {
        let (mut health, now) = (Health::default(), Instant::now());
        assert!(health.rejected(now) && !health.rejected(now + Duration::from_secs(1)));
        assert!(health.rejected(now + limits::TELEMETRY_REPORT_INTERVAL));
    }
}
