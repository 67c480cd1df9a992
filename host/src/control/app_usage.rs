//! Counts the use of one app in memory since the last update of the store. Never stores subjects: a
//! sketch allows only an estimate of their number.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cardinality_estimator::CardinalityEstimator;

/// The distinct subjects of events.
pub(in crate::control) type Sketch = CardinalityEstimator<str>;

/// The use of one app since the last update of the store.
#[derive(Default)]
pub(crate) struct Usage(Mutex<Counted>);

/// The counters of an app's use.
#[derive(Default)]
pub(in crate::control) struct Counted {
    pub(in crate::control) users: Sketch,
    pub(in crate::control) events: u64,
}

impl Usage {
    /// Counts an event and its subject.
    pub(crate) fn count(&self, subject: Option<&str>) {
        let mut counted = self.lock();
        counted.events += 1;
        if let Some(subject) = subject {
            counted.users.insert(subject);
        }
    }

    pub(in crate::control) fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
