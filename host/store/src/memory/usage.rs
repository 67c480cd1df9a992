//! Operations on usage in memory. Never interprets a sketch.

use isopod_policy::AppName;

use super::rows::Rows;
use crate::StoreError;
use crate::limits::USAGE_MONTHS_KEPT;
use crate::usage::{Month, MonthUsage};

impl Rows {
    pub(super) fn put_usage(&mut self, app: &AppName, month: Month, usage: MonthUsage) -> Result<(), StoreError> {
        usage.check()?;
        self.app(app)?;
        self.usage.insert((app.clone(), month), usage);
        let newest_first = self.usage.keys().rev().filter(|(of, _)| of == app);
        for old in newest_first.skip(USAGE_MONTHS_KEPT as usize).cloned().collect::<Vec<_>>() {
            self.usage.remove(&old);
        }
        Ok(())
    }
}
