//! The records of the control store: apps, pushes, releases, activity, usage and tokens. Owns the
//! mapping of calls to statements, and the steps that create or delete an app together with its
//! folder. `tests/contract/control` specifies each call. Never contains a statement itself.

use isopod_policy::retention::StoredRelease;
use isopod_policy::{
    AppName, AppType, Ceiling, ConfigVars, CoresOverride, ProcessName, PushEvent, PushId, ReleaseEvent, ReleaseNumber,
};
use jiff::Timestamp;
use rusqlite::Connection;

use crate::files::blocking;
use crate::model::{
    Activity, AlertMessage, AlertRecord, App, Drain, HookBacklog, HookEvent, Idempotency, Inserted, Intended,
    InterfaceUse, ListedRelease, LogLine, NewActivity, NewApp, NewPush, NewRelease, PluginUse, Push, Reason, Release,
    Rotation, ScheduleFired, Token, TokenUse,
};
use crate::page::{Page, Paged};
use crate::sqlite::{activity, alerts, apps, drains, hooks, pushes, releases, schedules, tokens, usage};
use crate::usage::{Month, MonthUsage};
use crate::{Store, StoreError};

/// Durable records. A write is durable when its future is ready. A future that is dropped before
/// may still take effect, as with any server after a client disconnects.
impl Store {
    /// Creates an app without any records. Refused if the name is taken.
    pub async fn create_app(&self, app: NewApp) -> Result<App, StoreError> {
        let folders = self.folders().clone();
        let create = move |connection: &Connection| {
            let app = apps::create(connection, &app)?;
            folders.make(&app.name)?;
            Ok(app)
        };
        self.sqlite().write(create).await
    }

    /// Returns the app with this name, if it exists.
    pub async fn app(&self, name: &AppName) -> Result<Option<App>, StoreError> {
        let name = name.clone();
        self.sqlite().read(move |connection| apps::get(connection, &name)).await
    }

    /// Lists the apps by name.
    pub async fn apps(&self, page: Page) -> Result<Paged<App>, StoreError> {
        self.sqlite().read(move |connection| apps::list(connection, &page)).await
    }

    /// Deletes an app with all its records. Its guests' data stays until
    /// [`Store::remove_data`]. Hooks receive the activity, which isn't stored otherwise.
    pub async fn delete_app(&self, name: &AppName, activity: NewActivity) -> Result<(), StoreError> {
        let (folders, deleted) = (self.folders().clone(), name.clone());
        let delete = move |connection: &Connection| {
            let app = apps::existing(connection, &deleted)?;
            folders.mark_destroyed(&deleted)?;
            // Before the deletion, which removes a hook: hooks don't receive the activity of hooks.
            hooks::record(connection, &activity.clone().into_entry(0))?;
            apps::delete(connection, &deleted)?;
            tokens::forget_app(connection, &deleted, &app.id)
        };
        let outcome = self.write_in_reserve(delete).await;
        if outcome.as_ref().is_err_and(|error| !matches!(error, StoreError::UnknownApp { .. })) {
            let (folders, app) = (self.folders().clone(), name.clone());
            // If the tombstone can't be removed now, the next start removes it.
            let _ = blocking(move || folders.unmark(&app)).await;
        }
        outcome
    }

    /// Changes the type. The caller must ensure that the app is stopped.
    pub async fn set_app_type(&self, name: &AppName, app_type: AppType, at: Timestamp) -> Result<App, StoreError> {
        let name = name.clone();
        self.sqlite().write(move |connection| apps::set_type(connection, &name, app_type, at)).await
    }

    /// Records whether the app is intended to run.
    pub async fn set_intended(&self, name: &AppName, intended: Intended, at: Timestamp) -> Result<App, StoreError> {
        let name = name.clone();
        let set = move |connection: &Connection| apps::set_intended(connection, &name, intended, at);
        match intended {
            // A stop ends harm, so it works on a full disk.
            Intended::Stopped => self.write_in_reserve(set).await,
            Intended::Running => self.sqlite().write(set).await,
        }
    }

    /// Sets the config vars of the next release.
    pub async fn set_app_config(&self, name: &AppName, config: ConfigVars, at: Timestamp) -> Result<App, StoreError> {
        let name = name.clone();
        self.sqlite().write(move |connection| apps::set_config(connection, &name, &config, at)).await
    }

    /// Sets an app's numbers of cores in place of the operator's default.
    pub async fn set_app_cores(&self, name: &AppName, cores: CoresOverride, at: Timestamp) -> Result<App, StoreError> {
        let name = name.clone();
        self.sqlite().write(move |connection| apps::set_cores(connection, &name, cores, at)).await
    }

    /// Sets an app's ceiling in place of the operator's default.
    pub async fn set_app_ceiling(&self, name: &AppName, ceiling: Ceiling, at: Timestamp) -> Result<App, StoreError> {
        let name = name.clone();
        self.sqlite().write(move |connection| apps::set_ceiling(connection, &name, &ceiling, at)).await
    }

    /// Queues a push for an existing app. A push with the key of an earlier push of the app isn't
    /// queued again. A key expires after a day.
    pub async fn insert_push(&self, push: NewPush) -> Result<Inserted, StoreError> {
        self.sqlite().write(move |connection| pushes::insert(connection, &push)).await
    }

    /// Returns the result of sending a push with this key and upload now; `None` if the key is
    /// unknown or has expired.
    pub async fn sent_before(
        &self,
        app: &AppName,
        sent: Idempotency,
        now: Timestamp,
    ) -> Result<Option<Inserted>, StoreError> {
        let app = app.clone();
        self.sqlite().read(move |connection| pushes::sent_before(connection, &app, &sent, now)).await
    }

    /// Returns the push with this id, if it exists.
    pub async fn push(&self, id: &PushId) -> Result<Option<Push>, StoreError> {
        let id = id.clone();
        self.sqlite().read(move |connection| pushes::get(connection, &id)).await
    }

    /// Lists the pushes of an app, newest first.
    pub async fn pushes(&self, app: &AppName, page: Page) -> Result<Paged<Push>, StoreError> {
        let app = app.clone();
        self.sqlite().read(move |connection| pushes::list(connection, &app, &page)).await
    }

    /// Lists all pushes that are not final, oldest first: those that a crash has interrupted.
    pub async fn unfinished_pushes(&self, page: Page) -> Result<Paged<Push>, StoreError> {
        self.sqlite().read(move |connection| pushes::unfinished(connection, &page)).await
    }

    /// Advances a push. Refused if the state machine has no such step. A reason belongs to a
    /// failure.
    pub async fn advance_push(
        &self,
        id: &PushId,
        event: PushEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Push, StoreError> {
        let id = id.clone();
        self.sqlite().write(move |connection| pushes::advance(connection, &id, event, reason, at)).await
    }

    /// Atomically completes a push, makes its release current like [`Store::make_current`], and
    /// records the activity. The app's config vars stay: values set since the push began are for
    /// the next release.
    pub async fn complete_push(
        &self,
        id: &PushId,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<Push, StoreError> {
        let id = id.clone();
        self.sqlite()
            .write(move |connection| {
                let push = pushes::complete(connection, &id, number, at)?;
                activity::append(connection, activity)?;
                Ok(push)
            })
            .await
    }

    /// Appends a line to a push's log. Lines beyond the limit are dropped, and the result is
    /// `false`.
    pub async fn append_push_log(&self, id: &PushId, text: &str, at: Timestamp) -> Result<bool, StoreError> {
        let (id, text) = (id.clone(), text.to_owned());
        self.sqlite().write(move |connection| pushes::append_log(connection, &id, &text, at)).await
    }

    /// Returns the lines of a push's log after the given number, at most a page.
    pub async fn push_log(&self, id: &PushId, after: u32) -> Result<Vec<LogLine>, StoreError> {
        let id = id.clone();
        self.sqlite().read(move |connection| pushes::log(connection, &id, after)).await
    }

    /// Creates a release with the app's next number, in the state `building`. It serves only once
    /// it is current.
    pub async fn insert_release(&self, release: NewRelease) -> Result<Release, StoreError> {
        self.sqlite().write(move |connection| releases::insert(connection, release)).await
    }

    /// Returns a release of an app, if it exists.
    pub async fn release(&self, app: &AppName, number: ReleaseNumber) -> Result<Option<Release>, StoreError> {
        let app = app.clone();
        self.sqlite().read(move |connection| releases::get(connection, &app, number)).await
    }

    /// Lists the releases of an app, newest first.
    pub async fn releases(&self, app: &AppName, page: Page) -> Result<Paged<ListedRelease>, StoreError> {
        let app = app.clone();
        self.sqlite().read(move |connection| releases::list(connection, &app, &page)).await
    }

    /// Advances a release. Refused if the state machine has no such step, or if the step would
    /// require a change of the current release. A reason belongs to a failure.
    pub async fn step_release(
        &self,
        app: &AppName,
        number: ReleaseNumber,
        event: ReleaseEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Release, StoreError> {
        let app = app.clone();
        self.sqlite().write(move |connection| releases::step(connection, &app, number, event, reason, at)).await
    }

    /// Atomically makes a release current and ready, retires the previous release, gives the app
    /// the release's config vars, and records the activity.
    pub async fn make_current(
        &self,
        app: &AppName,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<App, StoreError> {
        let app = app.clone();
        self.sqlite()
            .write(move |connection| {
                let app = releases::make_current(connection, &app, number, at)?;
                activity::append(connection, activity)?;
                Ok(app)
            })
            .await
    }

    /// Atomically rolls back from the current release `bad` to `good`: `bad` ends in a deployment
    /// error with the reason, `good` serves with its config vars, and the activity is recorded.
    /// Refused if `bad` is not current.
    pub async fn return_to(
        &self,
        app: &AppName,
        bad: ReleaseNumber,
        good: ReleaseNumber,
        reason: Reason,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<App, StoreError> {
        let app = app.clone();
        self.sqlite()
            .write(move |connection| {
                let app = releases::return_to(connection, &app, bad, good, reason, at)?;
                activity::append(connection, activity)?;
                Ok(app)
            })
            .await
    }

    /// Returns the releases that are being built or deployed, at most a page: after a crash, the
    /// interrupted releases. Call again after ending these.
    pub async fn interrupted_releases(&self) -> Result<Vec<Release>, StoreError> {
        self.sqlite().read(releases::interrupted).await
    }

    /// Returns the middleware of all apps' current releases, or only the uses of one plugin, sorted
    /// by app. Reads the manifest of every current release.
    pub async fn plugin_uses(&self, plugin: Option<&AppName>) -> Result<Vec<PluginUse>, StoreError> {
        let plugin = plugin.cloned();
        self.sqlite().read(move |connection| releases::plugin_uses(connection, plugin.as_ref())).await
    }

    /// Returns the granted interfaces of all apps' current releases, or only those of one provider,
    /// sorted by app. Reads the manifest of every current release.
    pub async fn interface_uses(&self, provider: Option<&AppName>) -> Result<Vec<InterfaceUse>, StoreError> {
        let provider = provider.cloned();
        self.sqlite().read(move |connection| releases::interface_uses(connection, provider.as_ref())).await
    }

    /// Returns the data for deciding which releases of an app are kept, oldest first, without the
    /// releases themselves.
    pub async fn release_stamps(&self, app: &AppName) -> Result<Vec<StoredRelease>, StoreError> {
        let app = app.clone();
        self.sqlite().read(move |connection| releases::stamps(connection, &app)).await
    }

    /// Removes releases and returns their number. If the current release is among them, none is
    /// removed.
    pub async fn delete_releases(&self, app: &AppName, numbers: &[ReleaseNumber]) -> Result<usize, StoreError> {
        let (app, numbers) = (app.clone(), numbers.to_owned());
        self.sqlite().write(move |connection| releases::delete(connection, &app, &numbers)).await
    }

    /// Records that a process's schedule has fired.
    pub async fn schedule_fired(&self, app: &AppName, process: &ProcessName, at: Timestamp) -> Result<(), StoreError> {
        let (app, process) = (app.clone(), process.clone());
        self.sqlite().write(move |connection| schedules::fired(connection, &app, &process, at)).await
    }

    /// Returns when each schedule of every app last fired.
    pub async fn schedules(&self) -> Result<Vec<ScheduleFired>, StoreError> {
        self.sqlite().read(schedules::list).await
    }

    /// Returns an app's usage in a month, if it was recorded.
    pub async fn usage(&self, app: &AppName, month: Month) -> Result<Option<MonthUsage>, StoreError> {
        let app = app.clone();
        self.sqlite().read(move |connection| usage::get(connection, &app, month)).await
    }

    /// Replaces the record of an app's usage in a month. Old months are removed.
    pub async fn put_usage(&self, app: &AppName, month: Month, usage: MonthUsage) -> Result<(), StoreError> {
        let app = app.clone();
        self.sqlite().write(move |connection| usage::put(connection, &app, month, &usage)).await
    }

    /// Appends an activity entry. The oldest entries of the same app are removed beyond the limit.
    pub async fn append_activity(&self, activity: NewActivity) -> Result<Activity, StoreError> {
        self.sqlite().write(move |connection| activity::append(connection, activity)).await
    }

    /// Records activities: all of them, or none.
    pub async fn append_activities(&self, activities: Vec<NewActivity>) -> Result<(), StoreError> {
        let append = move |connection: &Connection| {
            activities.into_iter().try_for_each(|new| activity::append(connection, new).map(drop))
        };
        self.sqlite().write(append).await
    }

    /// Lists the activity of an app, or of all apps and the platform, newest first.
    pub async fn activity(&self, app: Option<&AppName>, page: Page) -> Result<Paged<Activity>, StoreError> {
        let app = app.cloned();
        self.sqlite().read(move |connection| activity::list(connection, app.as_ref(), &page)).await
    }

    /// Lists the entries of the activity with an actor, newest first: the audit trail of an app, or
    /// of the whole host.
    pub async fn audit(&self, app: Option<&AppName>, page: Page) -> Result<Paged<Activity>, StoreError> {
        let app = app.cloned();
        self.sqlite().read(move |connection| activity::audit(connection, app.as_ref(), &page)).await
    }

    /// Returns the activity after the entry with this id, oldest first, at most a page: for
    /// subscribers.
    pub async fn activity_after(&self, app: Option<&AppName>, id: u64) -> Result<Vec<Activity>, StoreError> {
        let app = app.cloned();
        self.sqlite().read(move |connection| activity::after(connection, app.as_ref(), id)).await
    }

    /// Stores a change of an alert.
    pub async fn put_alert(&self, change: AlertRecord) -> Result<(), StoreError> {
        self.sqlite().write(move |connection| alerts::put(connection, &change)).await
    }

    /// Returns the alerts that fire.
    pub async fn alerts(&self) -> Result<Vec<serde_json::Value>, StoreError> {
        self.sqlite().read(alerts::firing).await
    }

    /// Returns the messages about alerts that no webhook has accepted yet, oldest first.
    pub async fn alert_messages(&self) -> Result<Vec<AlertMessage>, StoreError> {
        self.sqlite().read(alerts::messages).await
    }

    /// Removes a message about an alert.
    pub async fn remove_alert_message(&self, id: String) -> Result<(), StoreError> {
        self.sqlite().write(move |connection| alerts::remove_message(connection, &id)).await
    }

    /// Stores a log drain of an app that exists.
    pub async fn insert_drain(&self, drain: Drain) -> Result<(), StoreError> {
        self.sqlite().write(move |connection| drains::insert(connection, &drain)).await
    }

    /// Removes a log drain.
    pub async fn delete_drain(&self, app: &AppName, id: &str) -> Result<(), StoreError> {
        let (app, id) = (app.clone(), id.to_owned());
        self.sqlite().write(move |connection| drains::delete(connection, &app, &id)).await
    }

    /// Lists the log drains of all apps. Their number is small.
    pub async fn drains(&self) -> Result<Vec<Drain>, StoreError> {
        self.sqlite().read(drains::list).await
    }

    /// Returns the hooks that have not received all events.
    pub async fn hook_backlogs(&self) -> Result<Vec<HookBacklog>, StoreError> {
        self.sqlite().read(hooks::backlogs).await
    }

    /// Returns the events for hooks after the one with this number, oldest first.
    pub async fn hook_events(&self, received: u64, most: usize) -> Result<Vec<HookEvent>, StoreError> {
        self.sqlite().read(move |connection| hooks::after(connection, received, most)).await
    }

    /// Records that a hook has received the events up to this number. Events that all hooks have
    /// received are removed.
    pub async fn advance_hook(&self, plugin: &AppName, received: u64) -> Result<(), StoreError> {
        let plugin = plugin.clone();
        self.sqlite().write(move |connection| hooks::advance(connection, &plugin, received)).await
    }

    /// Stores a token's hash, bound to the existing apps, and returns all tokens after the change.
    /// Fails if the name is taken or an app of its scope doesn't exist.
    pub async fn insert_token(&self, token: Token) -> Result<Vec<Token>, StoreError> {
        let change = move |connection: &Connection| {
            tokens::insert(connection, token)?;
            tokens::list(connection)
        };
        self.sqlite().write(change).await
    }

    /// Returns the token with this hash, if it exists.
    pub async fn token(&self, hash: &str) -> Result<Option<Token>, StoreError> {
        let hash = hash.to_owned();
        self.sqlite().read(move |connection| tokens::by_hash(connection, &hash)).await
    }

    /// Lists all tokens by name. Their number is small.
    pub async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        self.sqlite().read(tokens::list).await
    }

    /// Replaces the secret of a token, and returns all tokens after the change.
    pub async fn rotate_token(&self, name: &str, rotation: Rotation) -> Result<Vec<Token>, StoreError> {
        let name = name.to_owned();
        let change = move |connection: &Connection| {
            tokens::rotate(connection, &name, rotation.clone())?;
            tokens::list(connection)
        };
        self.write_in_reserve(change).await
    }

    /// Restores the secret and the expiry of a token after a rotation that could not be completed.
    pub async fn restore_token(&self, before: Token) -> Result<(), StoreError> {
        self.write_in_reserve(move |connection| tokens::replace_secret(connection, &before)).await
    }

    /// Records the last uses of tokens in one transaction.
    pub async fn record_token_uses(&self, uses: Vec<TokenUse>) -> Result<(), StoreError> {
        self.sqlite().write(move |connection| tokens::record_uses(connection, &uses)).await
    }

    /// Removes a token, and returns all tokens after the change.
    pub async fn delete_token(&self, name: &str) -> Result<Vec<Token>, StoreError> {
        let name = name.to_owned();
        let change = move |connection: &Connection| {
            tokens::delete(connection, &name)?;
            tokens::list(connection)
        };
        self.write_in_reserve(change).await
    }
}
