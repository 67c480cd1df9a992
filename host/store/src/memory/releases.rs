//! Operations on releases in memory. Never decides a state: `model.rs` does.

use isopod_policy::retention::StoredRelease;
use isopod_policy::{AppName, ReleaseEvent, ReleaseNumber};
use jiff::Timestamp;

use super::rows::{Rows, one_more};
use crate::StoreError;
use crate::limits::PAGE_ITEMS_MAX;
use crate::model::{App, ListedRelease, NewActivity, NewRelease, Reason, Release, beyond_bound, listed_number};
use crate::page::{Page, Paged};

impl Rows {
    fn release(&self, app: &AppName, number: ReleaseNumber) -> Result<Release, StoreError> {
        let found = self.releases.get(&(app.clone(), number)).cloned();
        found.ok_or_else(|| StoreError::UnknownRelease { app: app.clone(), number })
    }

    fn keep(&mut self, release: Release) {
        self.releases.insert((release.app.clone(), release.number), release);
    }

    pub(super) fn insert_release(&mut self, release: NewRelease) -> Result<Release, StoreError> {
        let current = self.app(&release.app)?.release;
        let last = self.last_releases.entry(release.app.clone()).or_default();
        let number = last.checked_add(1).and_then(ReleaseNumber::new);
        let number = number.ok_or_else(|| StoreError::NoMoreReleases { app: release.app.clone() })?;
        *last = number.get();
        let made = Release::created(release, number);
        self.keep(made.clone());
        for old in beyond_bound(self.release_stamps(&made.app), current) {
            self.releases.remove(&(made.app.clone(), old));
        }
        Ok(made)
    }

    pub(super) fn list_releases(&self, app: &AppName, page: &Page) -> Result<Paged<ListedRelease>, StoreError> {
        let before = page.number(u64::MAX)?;
        let of_app = self.releases.values().rev().filter(|release| release.app == *app);
        let items = one_more(of_app.filter(|release| u64::from(release.number.get()) < before).cloned().map(Ok), page);
        Ok(Paged::from_one_more(items, page, |listed| listed_number(listed).get().to_string()))
    }

    pub(super) fn step_release(
        &mut self,
        app: &AppName,
        number: ReleaseNumber,
        event: ReleaseEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Release, StoreError> {
        let current = self.app(app)?.release;
        let stepped = self.release(app, number)?.stepped_in_place(event, reason, at, current)?;
        self.keep(stepped.clone());
        Ok(stepped)
    }

    /// Makes a release current, and retires the previous release.
    pub(super) fn put_in_service(
        &mut self,
        app: &AppName,
        number: ReleaseNumber,
        at: Timestamp,
    ) -> Result<Release, StoreError> {
        let before = self.app(app)?.release.filter(|before| *before != number);
        let serving = self.release(app, number)?.put_in_service(at)?;
        if let Some(before) = before {
            let superseded = self.release(app, before)?.superseded(at);
            self.keep(superseded);
        }
        self.keep(serving.clone());
        self.change_app(app, at, |app| app.release = Some(number))?;
        Ok(serving)
    }

    pub(super) fn make_current(
        &mut self,
        app: &AppName,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<App, StoreError> {
        let serving = self.put_in_service(app, number, at)?;
        self.append_activity(activity);
        self.change_app(app, at, |app| app.config = serving.config)
    }

    pub(super) fn return_to(
        &mut self,
        app: &AppName,
        bad: ReleaseNumber,
        good: ReleaseNumber,
        reason: Reason,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<App, StoreError> {
        if self.app(app)?.release != Some(bad) {
            return Err(StoreError::NotCurrent { app: app.clone(), number: bad });
        }
        let rolled_back = self.release(app, bad)?.rolled_back(reason, at)?;
        let serving = self.release(app, good)?.put_in_service(at)?;
        let config = serving.config.clone();
        self.keep(rolled_back);
        self.keep(serving);
        self.append_activity(activity);
        self.change_app(app, at, |app| (app.release, app.config) = (Some(good), config))
    }

    pub(super) fn interrupted_releases(&self) -> Vec<Release> {
        let in_progress = self.releases.values().filter(|release| release.state.is_under_way());
        in_progress.take(PAGE_ITEMS_MAX as usize).cloned().collect()
    }

    pub(super) fn release_stamps(&self, app: &AppName) -> Vec<StoredRelease> {
        let of_app = self.releases.values().filter(|release| release.app == *app);
        of_app.map(Release::stamp).collect()
    }

    pub(super) fn delete_releases(&mut self, app: &AppName, numbers: &[ReleaseNumber]) -> Result<usize, StoreError> {
        let current = self.app(app)?.release;
        if let Some(number) = current.filter(|current| numbers.contains(current)) {
            return Err(StoreError::ReleaseServes { app: app.clone(), number });
        }
        Ok(numbers.iter().filter(|number| self.releases.remove(&(app.clone(), **number)).is_some()).count())
    }
}
