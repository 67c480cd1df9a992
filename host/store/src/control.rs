//! The interface of every backend of the control store. Owns the trait; `tests/contract/control`
//! specifies each method and runs against every backend. A write is durable when its future is
//! ready. Never stores anything.

use async_trait::async_trait;
use isopod_policy::retention::StoredRelease;
use isopod_policy::{
    AppName, AppType, ConfigVars, CoresOverride, ProcessName, PushEvent, PushId, ReleaseEvent, ReleaseNumber,
};
use jiff::Timestamp;

use crate::StoreError;
use crate::model::{
    Activity, App, Idempotency, Inserted, Intended, ListedRelease, LogLine, NewActivity, NewApp, NewPush, NewRelease,
    Push, Reason, Release, ScheduleFired, Token,
};
use crate::page::{Page, Paged};
use crate::usage::{Month, MonthUsage};

/// Durable data: apps, pushes, releases, activity and tokens.
///
/// A future that is dropped before it is ready may still take effect, as with any server after a
/// client disconnects.
#[async_trait]
pub trait Control: Send + Sync {
    /// Creates an app without any records. Refused if the name is taken.
    async fn create_app(&self, app: NewApp) -> Result<App, StoreError>;
    /// Returns the app with this name, if it exists.
    async fn app(&self, name: &AppName) -> Result<Option<App>, StoreError>;
    /// Lists the apps by name.
    async fn apps(&self, page: Page) -> Result<Paged<App>, StoreError>;
    /// Deletes an app with all its records. Its guests' data stays until
    /// [`Store::remove_data`](crate::Store::remove_data).
    async fn delete_app(&self, name: &AppName) -> Result<(), StoreError>;
    /// Changes the type. The caller must ensure that the app is stopped.
    async fn set_app_type(&self, name: &AppName, app_type: AppType, at: Timestamp) -> Result<App, StoreError>;
    /// Records whether the app is intended to run.
    async fn set_intended(&self, name: &AppName, intended: Intended, at: Timestamp) -> Result<App, StoreError>;
    /// Sets the config vars of the next release.
    async fn set_app_config(&self, name: &AppName, config: ConfigVars, at: Timestamp) -> Result<App, StoreError>;
    /// Sets an app's numbers of cores in place of the operator's default.
    async fn set_app_cores(&self, name: &AppName, cores: CoresOverride, at: Timestamp) -> Result<App, StoreError>;

    /// Queues a push for an existing app. A push with the key of an earlier push of the app isn't
    /// queued again. A key expires after a day.
    async fn insert_push(&self, push: NewPush) -> Result<Inserted, StoreError>;
    /// Returns the result of sending a push with this key and upload now; `None` if the key is
    /// unknown or has expired.
    async fn sent_before(
        &self,
        app: &AppName,
        sent: Idempotency,
        now: Timestamp,
    ) -> Result<Option<Inserted>, StoreError>;
    /// Returns the push with this id, if it exists.
    async fn push(&self, id: &PushId) -> Result<Option<Push>, StoreError>;
    /// Lists the pushes of an app, newest first.
    async fn pushes(&self, app: &AppName, page: Page) -> Result<Paged<Push>, StoreError>;
    /// Lists all pushes that are not final, oldest first: those that a crash has interrupted.
    async fn unfinished_pushes(&self, page: Page) -> Result<Paged<Push>, StoreError>;
    /// Advances a push. Refused if the state machine has no such step. A reason belongs to a
    /// failure.
    async fn advance_push(
        &self,
        id: &PushId,
        event: PushEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Push, StoreError>;
    /// Atomically completes a push, makes its release current like [`Control::make_current`], and
    /// records the activity. The app's config vars stay: values set since the push began are for
    /// the next release.
    async fn complete_push(
        &self,
        id: &PushId,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<Push, StoreError>;
    /// Appends a line to a push's log. Lines beyond the limit are dropped, and the result is
    /// `false`.
    async fn append_push_log(&self, id: &PushId, text: &str, at: Timestamp) -> Result<bool, StoreError>;
    /// Returns the lines of a push's log after the given number, at most a page.
    async fn push_log(&self, id: &PushId, after: u32) -> Result<Vec<LogLine>, StoreError>;

    /// Creates a release with the app's next number, in the state `building`. It serves only once
    /// it is current.
    async fn insert_release(&self, release: NewRelease) -> Result<Release, StoreError>;
    /// Returns a release of an app, if it exists.
    async fn release(&self, app: &AppName, number: ReleaseNumber) -> Result<Option<Release>, StoreError>;
    /// Lists the releases of an app, newest first.
    async fn releases(&self, app: &AppName, page: Page) -> Result<Paged<ListedRelease>, StoreError>;
    /// Advances a release. Refused if the state machine has no such step, or if the step would
    /// require a change of the current release. A reason belongs to a failure.
    async fn step_release(
        &self,
        app: &AppName,
        number: ReleaseNumber,
        event: ReleaseEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Release, StoreError>;
    /// Atomically makes a release current and ready, retires the previous release, gives the app
    /// the release's config vars, and records the activity.
    async fn make_current(
        &self,
        app: &AppName,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<App, StoreError>;
    /// Atomically rolls back from the current release `bad` to `good`: `bad` ends in a deployment
    /// error with the reason, `good` serves with its config vars, and the activity is recorded.
    /// Refused if `bad` is not current.
    async fn return_to(
        &self,
        app: &AppName,
        bad: ReleaseNumber,
        good: ReleaseNumber,
        reason: Reason,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<App, StoreError>;
    /// Returns the releases that are being built or deployed, at most a page: after a crash, the
    /// interrupted releases. Call again after ending these.
    async fn interrupted_releases(&self) -> Result<Vec<Release>, StoreError>;
    /// Returns the data for deciding which releases of an app are kept, oldest first, without the
    /// releases themselves.
    async fn release_stamps(&self, app: &AppName) -> Result<Vec<StoredRelease>, StoreError>;
    /// Removes releases and returns their number. If the current release is among them, none is
    /// removed.
    async fn delete_releases(&self, app: &AppName, numbers: &[ReleaseNumber]) -> Result<usize, StoreError>;

    /// Records that a process's schedule has fired.
    async fn schedule_fired(&self, app: &AppName, process: &ProcessName, at: Timestamp) -> Result<(), StoreError>;
    /// Returns when each schedule of every app last fired.
    async fn schedules(&self) -> Result<Vec<ScheduleFired>, StoreError>;

    /// Returns an app's usage in a month, if it was recorded.
    async fn usage(&self, app: &AppName, month: Month) -> Result<Option<MonthUsage>, StoreError>;
    /// Replaces the record of an app's usage in a month. Old months are removed.
    async fn put_usage(&self, app: &AppName, month: Month, usage: MonthUsage) -> Result<(), StoreError>;

    /// Appends an activity entry. The oldest entries of the same app are removed beyond the limit.
    async fn append_activity(&self, activity: NewActivity) -> Result<Activity, StoreError>;
    /// Lists the activity of an app, or of all apps and the platform, newest first.
    async fn activity(&self, app: Option<&AppName>, page: Page) -> Result<Paged<Activity>, StoreError>;
    /// Returns the activity after the entry with this id, oldest first, at most a page: for
    /// subscribers.
    async fn activity_after(&self, app: Option<&AppName>, id: u64) -> Result<Vec<Activity>, StoreError>;

    /// Stores a token's hash, bound to the existing apps, and returns the token. Fails if the name
    /// is taken or an app of its scope doesn't exist.
    async fn insert_token(&self, token: Token) -> Result<Token, StoreError>;
    /// Returns the token with this hash, if it exists.
    async fn token(&self, hash: &str) -> Result<Option<Token>, StoreError>;
    /// Lists all tokens by name. Their number is small.
    async fn tokens(&self) -> Result<Vec<Token>, StoreError>;
    /// Removes a token. It is rejected from then on.
    async fn delete_token(&self, name: &str) -> Result<(), StoreError>;
}
