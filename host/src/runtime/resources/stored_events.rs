//! The last known numbers of an app's stored events. Never reads a queue.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// The stored events of an app, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StoredEvents {
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    pub(crate) leased: u64,
    pub(crate) dead: u64,
    /// When the oldest ready or leased event was accepted.
    pub(crate) oldest_accepted_at: Option<Timestamp>,
}

impl StoredEvents {
    /// Returns the age of the oldest event in milliseconds. A clock that was set back makes it 0.
    pub(crate) fn oldest_ms(&self, now: Timestamp) -> Option<u64> {
        let age = now.duration_since(self.oldest_accepted_at?);
        Some(u64::try_from(age.as_millis()).unwrap_or(0))
    }
}

/// The last read counts. A new app has no events, so its counts start at 0. For an app from an
/// earlier run of the host, `None` until the host has read the counts.
#[derive(Debug)]
pub(super) struct LastRead(Mutex<Option<StoredEvents>>);

impl Default for LastRead {
    fn default() -> Self {
        Self(Mutex::new(Some(StoredEvents::default())))
    }
}

impl LastRead {
    pub(super) fn get(&self) -> Option<StoredEvents> {
        *self.lock()
    }

    /// Records that the app may have events that the host has not counted yet.
    pub(super) fn set_unknown(&self) {
        *self.lock() = None;
    }

    pub(super) fn set(&self, events: StoredEvents) {
        *self.lock() = Some(events);
    }

    /// Sets the numbers that were read at the host's start, unless later numbers were set.
    pub(super) fn set_first(&self, events: StoredEvents) {
        self.lock().get_or_insert(events);
    }

    fn lock(&self) -> MutexGuard<'_, Option<StoredEvents>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
