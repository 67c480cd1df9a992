//! Limits how often the host logs that an app's queue can't be read or written: on a full disk each
//! of hundreds of deliveries fails every second. Never logs.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use crate::control::limits;

/// The time of an app's last warning.
#[derive(Default)]
pub(super) struct Warnings(Mutex<Option<Instant>>);

impl Warnings {
    /// Returns whether a warning may be logged now, and then counts it as logged.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= limits::QUEUE_WARNING_INTERVAL);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_one_warning_per_interval() {
        let (warnings, start) = (Warnings::default(), Instant::now());
        let due =
            [0, 1, 9, 10, 11, 20].map(|tenths| warnings.is_due(start + limits::QUEUE_WARNING_INTERVAL / 10 * tenths));
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
