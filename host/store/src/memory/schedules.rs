//! Operations on schedules in memory. Never fires a schedule.

use isopod_policy::{AppName, ProcessName};
use jiff::Timestamp;

use super::rows::Rows;
use crate::StoreError;
use crate::limits::SCHEDULES_PER_APP_MAX;
use crate::model::ScheduleFired;

impl Rows {
    pub(super) fn schedule_fired(
        &mut self,
        app: &AppName,
        process: &ProcessName,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.app(app)?;
        let fired = ScheduleFired { app: app.clone(), process: process.clone(), last_fired_at: at };
        self.schedules.insert((app.clone(), process.clone()), fired);
        let of_app = self.schedules.iter().filter(|((of, _), _)| of == app);
        if of_app.clone().count() > SCHEDULES_PER_APP_MAX as usize {
            let oldest = of_app.min_by_key(|(_, schedule)| schedule.last_fired_at).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.schedules.remove(&key));
        }
        Ok(())
    }
}
