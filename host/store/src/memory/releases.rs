//! What is done with releases.

use isopod_policy::{AppName, ReleaseNumber};

use super::{Rows, one_more};
use crate::StoreError;
use crate::limits::RELEASES_KEPT;
use crate::model::{NewRelease, Page, Paged, Release};

impl Rows {
    pub(super) fn must_have_release(&self, app: &AppName, number: ReleaseNumber) -> Result<(), StoreError> {
        if self.releases.contains_key(&(app.clone(), number)) {
            return Ok(());
        }
        Err(StoreError::UnknownRelease { app: app.clone(), number })
    }

    pub(super) fn insert_release(&mut self, release: NewRelease) -> Result<Release, StoreError> {
        self.app(&release.app)?;
        let last = self.last_releases.entry(release.app.clone()).or_default();
        let number = last.checked_add(1).and_then(ReleaseNumber::new);
        let number = number.ok_or_else(|| StoreError::NoMoreReleases { app: release.app.clone() })?;
        *last = number.get();
        let NewRelease { app, bundle, manifest, size_bytes, created_by, created_at } = release;
        let release = Release { app, number, bundle, manifest, size_bytes, created_by, created_at };
        self.releases.insert((release.app.clone(), number), release.clone());
        let current = self.app(&release.app)?.release;
        let of_app = self.releases.keys().rev().filter(|(app, _)| *app == release.app);
        let surplus = of_app.skip(RELEASES_KEPT as usize).filter(|(_, number)| Some(*number) != current);
        for key in surplus.cloned().collect::<Vec<_>>() {
            self.releases.remove(&key);
        }
        Ok(release)
    }

    pub(super) fn list_releases(&self, app: &AppName, page: &Page) -> Result<Paged<Release>, StoreError> {
        let before = page.number(u64::MAX)?;
        let of_app = self.releases.values().rev().filter(|release| release.app == *app);
        let items = one_more(of_app.filter(|release| u64::from(release.number.get()) < before).cloned(), page);
        Ok(Paged::from_one_more(items, page, |release| release.number.get().to_string()))
    }
}
