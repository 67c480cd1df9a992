//! What every backend of the control store can do. Owns the trait; `tests/contract/control` says what each method means
//! and is run against every backend. A write has happened for good when its future is ready.

use async_trait::async_trait;
use isopod_policy::{AppName, AppType, PushEvent, PushId, ReleaseNumber};
use jiff::Timestamp;

use crate::StoreError;
use crate::model::{
    Activity, App, Intended, LogLine, NewActivity, NewApp, NewPush, NewRelease, Page, Paged, Push, Reason, Release,
    Token,
};

/// What lasts: apps, pushes, releases, activity and tokens.
///
/// A future that is dropped before it is ready may still have its effect, as with any server that lost its client.
#[async_trait]
pub trait Control: Send + Sync {
    /// Creates an app; refused if the name is taken.
    async fn create_app(&self, app: NewApp) -> Result<App, StoreError>;
    /// The app of this name, if there is one.
    async fn app(&self, name: &AppName) -> Result<Option<App>, StoreError>;
    /// The apps by name.
    async fn apps(&self, page: Page) -> Result<Paged<App>, StoreError>;
    /// Deletes an app with all that belongs to it.
    async fn delete_app(&self, name: &AppName) -> Result<(), StoreError>;
    /// Changes the type; that the app is stopped is for the caller to see to, who knows what it does.
    async fn set_app_type(&self, name: &AppName, app_type: AppType, at: Timestamp) -> Result<App, StoreError>;
    /// Records whether the app is meant to run.
    async fn set_intended(&self, name: &AppName, intended: Intended, at: Timestamp) -> Result<App, StoreError>;
    /// Makes a release the one that serves, as a roll-back does; the release must exist.
    async fn set_current_release(
        &self,
        name: &AppName,
        number: ReleaseNumber,
        at: Timestamp,
    ) -> Result<App, StoreError>;

    /// Queues a push for an app that exists.
    async fn insert_push(&self, push: NewPush) -> Result<Push, StoreError>;
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
    /// Completes a push, makes its release the current one and records it, all or nothing.
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

    /// Makes a release with the app's next number. It serves only once it is the current one.
    async fn insert_release(&self, release: NewRelease) -> Result<Release, StoreError>;
    /// One release of an app, if there is one of this number.
    async fn release(&self, app: &AppName, number: ReleaseNumber) -> Result<Option<Release>, StoreError>;
    /// The releases of an app, newest first.
    async fn releases(&self, app: &AppName, page: Page) -> Result<Paged<Release>, StoreError>;

    /// Records what happened; the oldest entries of the same app make room beyond the bound.
    async fn append_activity(&self, activity: NewActivity) -> Result<Activity, StoreError>;
    /// The activity of an app, or of everything, newest first.
    async fn activity(&self, app: Option<&AppName>, page: Page) -> Result<Paged<Activity>, StoreError>;
    /// The activity after the entry of this id, oldest first, at most a page of it: for those who follow.
    async fn activity_after(&self, app: Option<&AppName>, id: u64) -> Result<Vec<Activity>, StoreError>;

    /// Keeps a token's hash; refused if the name is taken.
    async fn insert_token(&self, token: Token) -> Result<(), StoreError>;
    /// The token with this hash, if there is one.
    async fn token(&self, hash: &str) -> Result<Option<Token>, StoreError>;
    /// All tokens by name; there are never many.
    async fn tokens(&self) -> Result<Vec<Token>, StoreError>;
    /// Removes a token; it is refused from now on.
    async fn delete_token(&self, name: &str) -> Result<(), StoreError>;
}
