//! Owns how many people use an app and how much: distinct subjects of its events and the events, by month. Counted in
//! memory and added to the store now and then, so that counting costs no disk. Never keeps who the people are: a sketch
//! of their subjects is kept, of which only a number can be read.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cardinality_estimator::CardinalityEstimator;
use isopod_policy::{
    AppName,
    advise::{Advice, Usage as Measured, advise},
};
use isopod_store::{Control, Month, MonthUsage, StoreError};
use jiff::Timestamp;

use crate::control::{DeployError, Deployer};
use crate::limits;

type Sketch = CardinalityEstimator<str>;

/// What was counted of one app since it was last added to the store.
#[derive(Default)]
pub(crate) struct Usage(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    users: Sketch,
    events: u64,
}

impl Usage {
    /// Counts an event, and whoever it is about.
    pub(crate) fn count(&self, subject: Option<&str>) {
        let mut counted = self.lock();
        counted.events += 1;
        if let Some(subject) = subject {
            counted.users.insert(subject);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deployer {
    /// Says which type fits an app, by its use in the month that is also named.
    pub(crate) async fn advise(&self, name: &AppName) -> Result<(Month, Advice), DeployError> {
        let entry = self.app(name)?;
        let month = Month::of(Timestamp::now());
        let (mut users, mut events) = self.stored_usage(name, month).await?;
        {
            let counted = entry.usage.lock();
            users.merge(&counted.users);
            events += counted.events;
        }
        let measured = (events > 0).then(|| Measured { monthly_users: users.estimate() as u64, events });
        let present = entry.fields().app_type;
        Ok((month, advise(present, measured)))
    }

    /// Adds what was counted to the store, until the host stops.
    pub(in crate::control) async fn run_usage(self) {
        loop {
            tokio::time::sleep(limits::USAGE_INTERVAL).await;
            self.store_usage().await;
        }
    }

    pub(in crate::control) async fn store_usage(&self) {
        let month = Month::of(Timestamp::now());
        for entry in self.apps(None, usize::MAX) {
            let counted = std::mem::take(&mut *entry.usage.lock());
            if counted.events == 0 {
                continue;
            }
            if let Err(error) = self.add_usage(&entry.name, month, &counted).await {
                tracing::warn!(app = %entry.name, %error, "what was counted of an app's use could not be stored");
                let mut kept = entry.usage.lock();
                kept.events += counted.events;
                kept.users.merge(&counted.users);
            }
        }
    }

    async fn add_usage(&self, name: &AppName, month: Month, counted: &Counted) -> Result<(), StoreError> {
        let (mut users, events) = self.stored_usage(name, month).await?;
        users.merge(&counted.users);
        let users = serde_json::to_vec(&users).unwrap_or_default();
        self.0.parts.store.put_usage(name, month, MonthUsage { users, events: events + counted.events }).await
    }

    async fn stored_usage(&self, name: &AppName, month: Month) -> Result<(Sketch, u64), StoreError> {
        let stored = self.0.parts.store.usage(name, month).await?;
        Ok(match stored {
            // A sketch of another version counts as none: it is a measurement, not a record.
            Some(usage) => (serde_json::from_slice(&usage.users).unwrap_or_default(), usage.events),
            None => (Sketch::default(), 0),
        })
    }
}
