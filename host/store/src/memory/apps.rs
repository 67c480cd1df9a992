//! Operations on apps in memory. Never touches the data of an app's guests.

use isopod_policy::{AppName, ConfigVars, CoresOverride};
use jiff::Timestamp;

use super::rows::{Rows, one_more};
use crate::model::{App, NewApp};
use crate::page::{Page, Paged};
use crate::{StoreError, identity};

impl Rows {
    pub(super) fn app(&mut self, name: &AppName) -> Result<&mut App, StoreError> {
        self.apps.get_mut(name).ok_or_else(|| StoreError::UnknownApp { name: name.clone() })
    }

    pub(super) fn change_app(
        &mut self,
        name: &AppName,
        at: Timestamp,
        change: impl FnOnce(&mut App),
    ) -> Result<App, StoreError> {
        let app = self.app(name)?;
        change(app);
        app.updated_at = at;
        Ok(app.clone())
    }

    pub(super) fn create_app(&mut self, app: NewApp) -> Result<App, StoreError> {
        if self.apps.contains_key(&app.name) {
            return Err(StoreError::AppExists { name: app.name });
        }
        self.forget_activity(&app.name);
        let NewApp { name, app_type, intended, created_at } = app;
        let (release, config, cores) = (None, ConfigVars::default(), CoresOverride::default());
        let id = identity::new_id();
        let app = App { name, id, app_type, intended, release, config, cores, created_at, updated_at: created_at };
        self.apps.insert(app.name.clone(), app.clone());
        Ok(app)
    }

    pub(super) fn list_apps(&self, page: &Page) -> Paged<App> {
        let after = page.cursor.as_deref().unwrap_or("");
        let items = one_more(self.apps.values().filter(|app| app.name.as_str() > after).cloned(), page);
        Paged::from_one_more(items, page, |app| app.name.to_string())
    }

    pub(super) fn delete_app(&mut self, name: &AppName) -> Result<(), StoreError> {
        let app = self.apps.remove(name).ok_or_else(|| StoreError::UnknownApp { name: name.clone() })?;
        self.forget_app_of_tokens(name, &app.id);
        self.last_releases.remove(name);
        self.pushes.retain(|_, row| row.push.app != *name);
        self.releases.retain(|(app, _), _| app != name);
        self.schedules.retain(|(app, _), _| app != name);
        self.usage.retain(|(app, _), _| app != name);
        self.forget_activity(name);
        Ok(())
    }

    /// Removes all activity of a name, including entries recorded after its app was deleted.
    fn forget_activity(&mut self, name: &AppName) {
        self.activity.retain(|_, entry| entry.app.as_ref() != Some(name));
        self.activity_counts.remove(&Some(name.clone()));
    }
}
