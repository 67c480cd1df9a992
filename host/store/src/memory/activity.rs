//! Operations on activity in memory. Never touches other rows.

use isopod_policy::AppName;

use super::rows::{Rows, one_more};
use crate::StoreError;
use crate::limits::{ACTIVITY_ENTRIES_MAX, ACTIVITY_TRIM_EVERY, PAGE_ITEMS_MAX};
use crate::model::{Activity, NewActivity};
use crate::page::{Page, Paged};

impl Rows {
    pub(super) fn append_activity(&mut self, new: NewActivity) -> Activity {
        self.last_activity += 1;
        let entry = new.into_entry(self.last_activity);
        self.activity.insert(entry.id, entry.clone());
        let count = self.activity_counts.entry(entry.app.clone()).or_default();
        *count += 1;
        if *count >= ACTIVITY_ENTRIES_MAX + ACTIVITY_TRIM_EVERY {
            let surplus = (*count - ACTIVITY_ENTRIES_MAX) as usize;
            *count = ACTIVITY_ENTRIES_MAX;
            let same_app = self.activity.values().filter(|other| other.app == entry.app);
            for id in same_app.map(|other| other.id).take(surplus).collect::<Vec<_>>() {
                self.activity.remove(&id);
            }
        }
        entry
    }

    pub(super) fn list_activity(&self, app: Option<&AppName>, page: &Page) -> Result<Paged<Activity>, StoreError> {
        let before = page.number(u64::MAX)?;
        let newest_first = self.activity.range(..before).rev().map(|(_, entry)| entry);
        let wanted = newest_first.filter(|entry| app.is_none() || entry.app.as_ref() == app);
        Ok(Paged::from_one_more(one_more(wanted.cloned(), page), page, |entry| entry.id.to_string()))
    }

    pub(super) fn activity_after(&self, app: Option<&AppName>, id: u64) -> Vec<Activity> {
        let later = self.activity.range(id.saturating_add(1)..).map(|(_, entry)| entry);
        let wanted = later.filter(|entry| app.is_none() || entry.app.as_ref() == app);
        wanted.take(PAGE_ITEMS_MAX as usize).cloned().collect()
    }
}
