//! Measures the use of apps by month: the number of events and of distinct subjects. Adds the
//! counters of each app to the store at an interval, so that counting needs no disk access. Never
//! counts an event.

use isopod_policy::{
    AppName,
    advise::{Advice, Usage as Measured, advise},
};
use isopod_store::{Month, MonthUsage, Store, StoreError};
use jiff::Timestamp;

use crate::control::limits;
use crate::control::{
    DeployError,
    app_table::AppTable,
    app_usage::{Counted, Sketch},
};

/// Stores the measured use, and recommends types by it. Cheap to clone.
#[derive(Clone)]
pub(in crate::control) struct Service {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) store: Store,
}

impl Service {
    /// Recommends a type for an app by its use in the current month, which is also returned.
    pub(in crate::control) async fn advise(&self, name: &AppName) -> Result<(Month, Advice), DeployError> {
        let app = self.app_table.app(name)?;
        let month = Month::of(Timestamp::now());
        let (mut users, mut events) = self.stored_usage(name, month).await?;
        {
            let counted = app.usage.lock();
            users.merge(&counted.users);
            events += counted.events;
        }
        let measured = (events > 0).then(|| Measured { monthly_users: users.estimate() as u64, events });
        let present = app.fields().app_type;
        Ok((month, advise(present, measured)))
    }

    /// Updates the store at an interval until the host shuts down.
    pub(in crate::control) async fn run(self) {
        loop {
            tokio::time::sleep(limits::USAGE_INTERVAL).await;
            self.store_usage().await;
        }
    }

    pub(in crate::control) async fn store_usage(&self) {
        let month = Month::of(Timestamp::now());
        for app in self.app_table.all() {
            let counted = std::mem::take(&mut *app.usage.lock());
            if counted.events == 0 {
                continue;
            }
            if let Err(error) = self.add_usage(&app.name, month, &counted).await {
                tracing::warn!(app = %app.name, %error, "the measured use of an app could not be stored");
                let mut usage = app.usage.lock();
                usage.events += counted.events;
                usage.users.merge(&counted.users);
            }
        }
    }

    async fn add_usage(&self, name: &AppName, month: Month, counted: &Counted) -> Result<(), StoreError> {
        let (mut users, events) = self.stored_usage(name, month).await?;
        users.merge(&counted.users);
        let users = serde_json::to_vec(&users).unwrap_or_default();
        self.store.put_usage(name, month, MonthUsage { users, events: events + counted.events }).await
    }

    async fn stored_usage(&self, name: &AppName, month: Month) -> Result<(Sketch, u64), StoreError> {
        let stored = self.store.usage(name, month).await?;
        Ok(match stored {
            // An unreadable sketch, such as one of another version, counts as empty: it is a
            // measurement, not a record.
            Some(usage) => (serde_json::from_slice(&usage.users).unwrap_or_default(), usage.events),
            None => (Sketch::default(), 0),
        })
    }
}
