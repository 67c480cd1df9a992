//! What every backend of the control store can do. Owns the trait; `tests/contract/control` says what each method means
//! and is run against every backend. A write has happened for good when its future is ready.

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

/// What lasts: apps, pushes, releases, activity and tokens.
///
/// A future that is dropped before it is ready may still have its effect, as with any server that lost its client.
#[async_trait]
pub trait Control: Send + Sync {
    /// Creates an app, of which nothing is recorded yet; refused if the name is taken.
    async fn create_app(&self, app: NewApp) -> Result<App, StoreError>;
    /// The app of this name, if there is one.
    async fn app(&self, name: &AppName) -> Result<Option<App>, StoreError>;
    /// The apps by name.
    async fn apps(&self, page: Page) -> Result<Paged<App>, StoreError>;
    /// Deletes an app with all that is remembered of it. What its guests keep stays until
    /// [`Store::remove_data`](crate::Store::remove_data).
    async fn delete_app(&self, name: &AppName) -> Result<(), StoreError>;
    /// Changes the type; that the app is stopped is for the caller to see to, who knows what it does.
    async fn set_app_type(&self, name: &AppName, app_type: AppType, at: Timestamp) -> Result<App, StoreError>;
    /// Records whether the app is meant to run.
    async fn set_intended(&self, name: &AppName, intended: Intended, at: Timestamp) -> Result<App, StoreError>;
    /// Sets the config vars that the next release gets.
    async fn set_app_config(&self, name: &AppName, config: ConfigVars, at: Timestamp) -> Result<App, StoreError>;
    /// Says how many cores an app has in place of what the operator allots to all.
    async fn set_app_cores(&self, name: &AppName, cores: CoresOverride, at: Timestamp) -> Result<App, StoreError>;

    /// Queues a push for an app that exists. One with the key of an earlier push of the app is not queued a second
    /// time; a key is forgotten after a day.
    async fn insert_push(&self, push: NewPush) -> Result<Inserted, StoreError>;
    /// What would become of a push with this key and upload, sent now: none if the key is not known, or is forgotten.
    async fn sent_before(
        &self,
        app: &AppName,
        sent: Idempotency,
        now: Timestamp,
    ) -> Result<Option<Inserted>, StoreError>;
    /// The push of this id, if there is one.
    async fn push(&self, id: &PushId) -> Result<Option<Push>, StoreError>;
    /// The pushes of an app, newest first.
    async fn pushes(&self, app: &AppName, page: Page) -> Result<Paged<Push>, StoreError>;
    /// All pushes that are not final, oldest first: what a crash has interrupted.
    async fn unfinished_pushes(&self, page: Page) -> Result<Paged<Push>, StoreError>;
    /// Moves a push on; refused where the state machine has no such step. A reason belongs to a failure.
    async fn advance_push(
        &self,
        id: &PushId,
        event: PushEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Push, StoreError>;
    /// Completes a push, puts its release in service as [`Control::make_current`] does, and records it, all or nothing.
    /// The config vars of the app stay: what was set since the push began is for the next release.
    async fn complete_push(
        &self,
        id: &PushId,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<Push, StoreError>;
    /// Appends a line to a push's log; beyond the bound lines are dropped, and `false` says so.
    async fn append_push_log(&self, id: &PushId, text: &str, at: Timestamp) -> Result<bool, StoreError>;
    /// The lines of a push's log after the given number, at most a page of them.
    async fn push_log(&self, id: &PushId, after: u32) -> Result<Vec<LogLine>, StoreError>;

    /// Makes a release with the app's next number, which is to be built. It serves only once it is the current one.
    async fn insert_release(&self, release: NewRelease) -> Result<Release, StoreError>;
    /// One release of an app, if there is one of this number.
    async fn release(&self, app: &AppName, number: ReleaseNumber) -> Result<Option<Release>, StoreError>;
    /// The releases of an app, newest first.
    async fn releases(&self, app: &AppName, page: Page) -> Result<Paged<ListedRelease>, StoreError>;
    /// Moves a release on; refused where the state machine has no such step, or where another release would have to be
    /// the current one after it. A reason belongs to a failure.
    async fn step_release(
        &self,
        app: &AppName,
        number: ReleaseNumber,
        event: ReleaseEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Release, StoreError>;
    /// Puts a release in service: it is the app's current one and ready, the one before is retired, the app has the
    /// release's config vars, and it is recorded; all or nothing.
    async fn make_current(
        &self,
        app: &AppName,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<App, StoreError>;
    /// Gives up the current release, `bad`, for an earlier one: `bad` ends in a deployment error with the reason,
    /// `good` is put in service with its config vars, and it is recorded; all or nothing. Refused if `bad` no longer
    /// serves.
    async fn return_to(
        &self,
        app: &AppName,
        bad: ReleaseNumber,
        good: ReleaseNumber,
        reason: Reason,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<App, StoreError>;
    /// The releases on their way into service, at most a page of them: after a crash, what it has interrupted. Ask
    /// again once these are ended.
    async fn interrupted_releases(&self) -> Result<Vec<Release>, StoreError>;
    /// What decides which releases of an app are still kept, oldest first, without the releases themselves.
    async fn release_stamps(&self, app: &AppName) -> Result<Vec<StoredRelease>, StoreError>;
    /// Removes releases, and returns how many there were. If the one that serves is among them, none is removed.
    async fn delete_releases(&self, app: &AppName, numbers: &[ReleaseNumber]) -> Result<usize, StoreError>;

    /// Records that a process's schedule has fired.
    async fn schedule_fired(&self, app: &AppName, process: &ProcessName, at: Timestamp) -> Result<(), StoreError>;
    /// When each schedule of every app last fired.
    async fn schedules(&self) -> Result<Vec<ScheduleFired>, StoreError>;

    /// How much an app was used in a month, if that was recorded.
    async fn usage(&self, app: &AppName, month: Month) -> Result<Option<MonthUsage>, StoreError>;
    /// Records how much an app was used in a month, in place of what was recorded; old months are removed.
    async fn put_usage(&self, app: &AppName, month: Month, usage: MonthUsage) -> Result<(), StoreError>;

    /// Records what happened; the oldest entries of the same app make room beyond the bound.
    async fn append_activity(&self, activity: NewActivity) -> Result<Activity, StoreError>;
    /// The activity of an app, or of everything, newest first.
    async fn activity(&self, app: Option<&AppName>, page: Page) -> Result<Paged<Activity>, StoreError>;
    /// The activity after the entry of this id, oldest first, at most a page of it: for those who follow.
    async fn activity_after(&self, app: Option<&AppName>, id: u64) -> Result<Vec<Activity>, StoreError>;

    /// Stores a token's hash, bound to the existing apps, and returns it. Fails if the name is
    /// taken or an app of its scope doesn't exist.
    async fn insert_token(&self, token: Token) -> Result<Token, StoreError>;
    /// The token with this hash, if there is one.
    async fn token(&self, hash: &str) -> Result<Option<Token>, StoreError>;
    /// All tokens by name; there are never many.
    async fn tokens(&self) -> Result<Vec<Token>, StoreError>;
    /// Removes a token; it is refused from now on.
    async fn delete_token(&self, name: &str) -> Result<(), StoreError>;
}
