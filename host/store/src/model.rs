//! The stored rows, as plain structs with the policy's types. Owns the effect of each event on a
//! row. Never touches a table.

use std::time::Duration;

pub use isopod_policy::Intended;
use isopod_policy::formation::Change;
use isopod_policy::retention::StoredRelease;
use isopod_policy::{
    AppKind, AppName, AppType, Ceiling, ConfigVars, CoresOverride, InterfaceName, Manifest, MiddlewareUse,
    PluginReference, ProcessName, PushId, PushState, Refused, ReleaseEvent, ReleaseNumber, ReleaseState, Role, Scope,
    Sealed,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::limits::{
    ACTIVITY_TEXT_BYTES_MAX, CAUSE_BYTES_MAX, IDEMPOTENCY_KEPT, IDEMPOTENCY_KEY_BYTES_MAX, NEWEST_RELEASES_KEPT,
    PUSH_LOG_LINE_BYTES_MAX, REASON_BYTES_MAX, RELEASES_STORED_MAX,
};
use crate::{Digest, StoreError};

/// An app to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApp {
    pub name: AppName,
    pub kind: AppKind,
    pub app_type: AppType,
    pub intended: Intended,
    pub created_at: Timestamp,
}

/// A stored app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct App {
    pub name: AppName,
    /// Distinguishes the app from an earlier or later app with the same name.
    pub id: String,
    pub kind: AppKind,
    #[serde(rename = "type")]
    pub app_type: AppType,
    pub intended: Intended,
    /// The current release; `None` before the first push completes.
    pub release: Option<ReleaseNumber>,
    /// The config vars of the next release. Never serialised with the app, since some are secrets.
    #[serde(skip)]
    pub config: ConfigVars,
    /// Differences of the app's cores from the operator's default.
    pub cores: CoresOverride,
    /// The settings with which the app overrides the host's ceiling.
    #[serde(skip)]
    pub ceiling: Ceiling,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// An app whose current release uses a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginUse {
    pub app: AppName,
    pub used: MiddlewareUse,
}

/// An app whose current release may call an interface of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceUse {
    pub app: AppName,
    pub interface: InterfaceName,
    pub provider: PluginReference,
}

/// A push job to queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPush {
    pub id: PushId,
    pub app: AppName,
    /// The digest of the uploaded bundle among the blobs, if it is stored.
    pub bundle: Option<Digest>,
    /// The sender's idempotency key, if the push has one.
    pub idempotency: Option<Idempotency>,
    pub created_by: String,
    pub created_at: Timestamp,
}

/// Identifies repeated requests for the same push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key that the sender chose.
    pub key: String,
    /// The digest of the upload.
    pub upload: Digest,
}

impl Idempotency {
    /// Checks the limits.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.key.len() {
            1..=IDEMPOTENCY_KEY_BYTES_MAX => Ok(()),
            bytes => Err(StoreError::BadIdempotencyKey { bytes }),
        }
    }
}

/// The result of inserting a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// The push is queued.
    New(Push),
    /// The same push was sent before; this is its current state.
    Same(Push),
    /// Another push was sent with this key recently.
    Conflict(Push),
}

impl Inserted {
    /// Returns the result for a key that was used before, given the newest push with that key.
    /// `None` if the key has expired, or if that push failed or was cancelled, so that its sender
    /// can retry.
    pub(crate) fn again(earlier: Push, upload: &Digest, sent: &Idempotency, now: Timestamp) -> Option<Self> {
        if matches!(earlier.state, PushState::Failed | PushState::Cancelled) {
            return None;
        }
        if now.duration_since(earlier.created_at).unsigned_abs() >= IDEMPOTENCY_KEPT {
            return None;
        }
        Some(if *upload == sent.upload { Self::Same(earlier) } else { Self::Conflict(earlier) })
    }
}

/// Why a push or a release failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Reason {
    /// A stable kebab-case word for programs.
    pub code: String,
    /// Text for users: what happened, why, and what to do.
    pub detail: String,
}

impl Reason {
    /// Returns the reason as stored, truncated to its limit.
    pub(crate) fn truncated(mut self) -> Self {
        self.detail.truncate(cut(&self.detail, REASON_BYTES_MAX).len());
        self
    }
}

/// A stored push job. Its log is read separately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Push {
    pub id: PushId,
    pub app: AppName,
    pub state: PushState,
    pub bundle: Option<Digest>,
    /// The release that the push created.
    pub release: Option<ReleaseNumber>,
    pub reason: Option<Reason>,
    /// The states since the push was accepted. Empty if an earlier version stored the push.
    pub steps: Vec<PushStep>,
    pub created_by: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A state of a push, and the length of the log before it. A reader of the log can thereby
/// interleave states and lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushStep {
    pub state: PushState,
    pub log_lines: u32,
}

/// One line of a push's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Counted from 1 within the push.
    pub number: u32,
    pub at: Timestamp,
    pub text: String,
}

impl LogLine {
    /// Creates a line as stored, truncated to its limit.
    pub(crate) fn truncated(number: u32, at: Timestamp, text: &str) -> Self {
        Self { number, at, text: cut(text, PUSH_LOG_LINE_BYTES_MAX).to_owned() }
    }
}

/// A release to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRelease {
    pub app: AppName,
    /// The digest of the component among the blobs.
    pub bundle: Digest,
    /// The digest of the snapshot that its instances start from, if it has one.
    pub snapshot: Option<Digest>,
    /// Its assets, if it has any.
    pub assets: Option<StoredAssets>,
    pub manifest: Manifest,
    /// The release's config vars.
    pub config: ConfigVars,
    pub size_bytes: u64,
    /// The cause of the release, as shown to users: `push p-…`, `rollback to v1`,
    /// `config changed: KEY`.
    pub cause: String,
    pub created_by: String,
    pub created_at: Timestamp,
}

/// The assets of a release: the files below `static/` of its bundle, packed into one blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StoredAssets {
    /// The digest of the pack.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The number of files.
    pub files: u32,
    /// The total size of the files.
    pub bytes: u64,
}

/// A release in a list. A damaged release doesn't prevent reading the others.
pub type ListedRelease = Result<Release, DamagedRelease>;

/// The readable part of a release with an unreadable row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRelease {
    pub number: ReleaseNumber,
    /// Describes the damage.
    pub detail: String,
}

/// Returns the number of a listed release.
pub(crate) fn listed_number(listed: &ListedRelease) -> ReleaseNumber {
    match listed {
        Ok(release) => release.number,
        Err(damaged) => damaged.number,
    }
}

/// A release. Its content never changes; its state does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Release {
    pub app: AppName,
    pub number: ReleaseNumber,
    pub state: ReleaseState,
    /// Why the release failed.
    pub reason: Option<Reason>,
    pub cause: String,
    pub bundle: Digest,
    /// The digest of the component with its snapshot, among the blobs.
    pub snapshot: Option<Digest>,
    /// The pack of its assets, among the blobs.
    pub assets: Option<StoredAssets>,
    pub manifest: Manifest,
    /// The release's config vars. Never serialised with the release, since some are secrets.
    #[serde(skip)]
    pub config: ConfigVars,
    pub size_bytes: u64,
    /// When the release stopped being current; `None` if it never was current, or still is.
    pub last_current_at: Option<Timestamp>,
    pub created_by: String,
    pub created_at: Timestamp,
    /// When the release entered its state.
    pub updated_at: Timestamp,
}

impl Release {
    /// Creates a release in its first state.
    pub(crate) fn created(new: NewRelease, number: ReleaseNumber) -> Self {
        let NewRelease { app, bundle, snapshot, assets, manifest, config, size_bytes, cause, created_by, created_at } =
            new;
        Self {
            app,
            number,
            state: ReleaseState::Building,
            reason: None,
            cause: cut(&cause, CAUSE_BYTES_MAX).to_owned(),
            bundle,
            snapshot,
            assets,
            manifest,
            config,
            size_bytes,
            last_current_at: None,
            created_by,
            created_at,
            updated_at: created_at,
        }
    }

    /// Returns the release after an event. A reason belongs to a failure.
    pub(crate) fn stepped(self, event: ReleaseEvent, reason: Option<Reason>, at: Timestamp) -> Result<Self, Refused> {
        let state = self.state.step(event)?;
        Ok(Self { state, reason: reason.map(Reason::truncated), updated_at: at, ..self })
    }

    /// Returns the release after an event that doesn't change the app's current release: only the
    /// current release is ready or frozen.
    pub(crate) fn stepped_in_place(
        self,
        event: ReleaseEvent,
        reason: Option<Reason>,
        at: Timestamp,
        current: Option<ReleaseNumber>,
    ) -> Result<Self, StoreError> {
        let stepped = self.stepped(event, reason, at)?;
        let is_current = current == Some(stepped.number);
        match event {
            ReleaseEvent::Serve if !is_current => {
                Err(StoreError::NotCurrent { app: stepped.app, number: stepped.number })
            }
            ReleaseEvent::Supersede if is_current => {
                Err(StoreError::ReleaseServes { app: stepped.app, number: stepped.number })
            }
            ReleaseEvent::Built
            | ReleaseEvent::Booted
            | ReleaseEvent::Serve
            | ReleaseEvent::Freeze
            | ReleaseEvent::Supersede
            | ReleaseEvent::BuildFails
            | ReleaseEvent::DeployFails => Ok(stepped),
        }
    }

    /// Returns the release as current.
    pub(crate) fn put_in_service(self, at: Timestamp) -> Result<Self, Refused> {
        Ok(Self { last_current_at: None, ..self.stepped(ReleaseEvent::Serve, None, at)? })
    }

    /// Returns the release after another became current. A failed release keeps its failure.
    pub(crate) fn superseded(self, at: Timestamp) -> Self {
        let state = self.state.step(ReleaseEvent::Supersede).unwrap_or(self.state);
        Self { state, last_current_at: Some(at), updated_at: at, ..self }
    }

    /// Returns the release after a rollback from it.
    pub(crate) fn rolled_back(self, reason: Reason, at: Timestamp) -> Result<Self, Refused> {
        Ok(Self { last_current_at: Some(at), ..self.stepped(ReleaseEvent::DeployFails, Some(reason), at)? })
    }
}

/// Returns the releases of an app to remove beyond the limit: failed releases first, then those
/// that served the longest ago. The current release and the newest are never removed, since users
/// may be about to inspect them. A release in progress is removed only if there is no other.
pub(crate) fn beyond_bound(mut releases: Vec<StoredRelease>, current: Option<ReleaseNumber>) -> Vec<ReleaseNumber> {
    let surplus = releases.len().saturating_sub(RELEASES_STORED_MAX as usize);
    releases.sort_by_key(|release| std::cmp::Reverse(release.number));
    releases.drain(..releases.len().min(NEWEST_RELEASES_KEPT));
    releases.retain(|release| Some(release.number) != current);
    releases.sort_by_key(|release| {
        (release.state.is_under_way(), !release.state.is_final(), release.last_current_at, release.number)
    });
    releases.into_iter().take(surplus).map(|release| release.number).collect()
}

/// When a schedule last fired, so that a starting host can compute missed runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScheduleFired {
    pub app: AppName,
    pub process: ProcessName,
    pub last_fired_at: Timestamp,
}

/// The kind of entries about refused calls. They have a separate limit, so that they never evict
/// other entries.
pub const CALLS_REFUSED: &str = "calls-refused";

/// An activity entry to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewActivity {
    /// The app concerned; `None` for the platform.
    pub app: Option<AppName>,
    /// A stable kebab-case word for programs, such as `app-stopped`.
    pub kind: String,
    /// A sentence for users: what happened and why.
    pub text: String,
    /// The figures behind the text.
    pub data: serde_json::Value,
    pub at: Timestamp,
}

impl NewActivity {
    /// Returns the entry as stored, truncated to its limit.
    pub(crate) fn into_entry(self, id: u64) -> Activity {
        let Self { app, kind, mut text, data, at } = self;
        text.truncate(cut(&text, ACTIVITY_TEXT_BYTES_MAX).len());
        Activity { id, app, kind, text, data, at }
    }
}

/// An activity entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Activity {
    /// Increases with every entry, so that a reader can continue after the last entry it has read.
    pub id: u64,
    pub app: Option<AppName>,
    pub kind: String,
    pub text: String,
    pub data: serde_json::Value,
    pub at: Timestamp,
}

/// A change of an alert to store.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertRecord {
    /// Identifies the alert: the rule, and the app if there is one.
    pub key: String,
    /// The alert, if it fires; `None` if it is resolved.
    pub data: Option<serde_json::Value>,
    /// The message about the change, if a webhook receives it.
    pub message: Option<AlertMessage>,
}

/// A message about an alert that no webhook has accepted yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertMessage {
    pub id: String,
    pub body: String,
    pub at: Timestamp,
}

/// A log drain of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    pub app: AppName,
    pub id: String,
    /// The URL of the endpoint, which may contain secrets.
    pub url: Sealed,
    pub created_by: String,
    pub created_at: Timestamp,
}

/// A hook that has not received all events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookBacklog {
    pub plugin: AppName,
    /// The number of the last event that it has received.
    pub received: u64,
}

/// An activity of an app or of the host that hooks receive as an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookEvent {
    /// Increases by one with every event, so that a gap shows dropped events.
    pub number: u64,
    /// Unique, also after the database was restored from a backup.
    pub id: String,
    /// `None` for the host.
    pub app: Option<AppName>,
    pub kind: String,
    pub text: String,
    pub data: serde_json::Value,
    pub at: Timestamp,
}

/// A token. Only the SHA-256 of the token is stored, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub name: String,
    pub hash: String,
    pub role: Role,
    pub scope: Scope,
    /// The ids of the apps in the scope: a later app with the same name is a different app. The
    /// store fills them in, and removes them with their apps.
    pub app_ids: Vec<String>,
    pub created_at: Timestamp,
    /// The ceiling on what is requested with the token, in addition to the ceiling of the app.
    pub ceiling: Ceiling,
    /// When the token expires, if ever.
    pub expires_at: Option<Timestamp>,
    /// The last stored use of the token.
    pub last_used_at: Option<Timestamp>,
    /// The secret before the last rotation, during its grace period.
    pub former: Option<FormerSecret>,
}

/// The secret that a rotation replaced, until its grace period ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerSecret {
    pub hash: String,
    pub until: Timestamp,
}

/// A rotation of a token's secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The hash of the new secret.
    pub hash: String,
    /// How long the former secret remains valid; if zero, it ends immediately.
    pub grace: Duration,
    /// The change of the token's expiry.
    pub expires_at: Change<Timestamp>,
    pub at: Timestamp,
}

/// The last use of a token, identified by its name and its creation: a later token may have the
/// same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUse {
    pub name: String,
    pub created_at: Timestamp,
    pub at: Timestamp,
}

impl Token {
    /// Returns a token that never expires and was never used. The store fills in the ids of apps.
    pub fn new(name: &str, hash: String, role: Role, scope: Scope, created_at: Timestamp) -> Self {
        let (ceiling, expires_at, last_used_at, former) = (Ceiling::default(), None, None, None);
        Self {
            name: name.to_owned(),
            hash,
            role,
            scope,
            app_ids: Vec::new(),
            created_at,
            ceiling,
            expires_at,
            last_used_at,
            former,
        }
    }

    /// Returns whether the token has expired at this time.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// Returns the token after a rotation. A secret that has expired gets no grace period.
    pub(crate) fn rotated(self, rotation: Rotation) -> Result<Self, StoreError> {
        let Rotation { hash, grace, expires_at, at } = rotation;
        let was_expired = self.is_expired(at);
        let has_grace = !grace.is_zero() && !was_expired;
        let until = has_grace.then(|| at.checked_add(grace).unwrap_or(Timestamp::MAX));
        let former = until.map(|until| FormerSecret { hash: self.hash, until });
        let expires_at = match expires_at {
            Change::Keep => self.expires_at,
            Change::Clear => None,
            Change::Set(at) => Some(at),
        };
        match expires_at {
            Some(expired_at) if expired_at <= at => Err(StoreError::TokenExpired { name: self.name, expired_at }),
            _ => Ok(Self { hash, expires_at, former, ..self }),
        }
    }

    /// Returns the token without a destroyed app; `None` if no app remains.
    pub(crate) fn without(self, name: &AppName, id: &str) -> Option<Self> {
        let Scope::Apps(mut apps) = self.scope else { return Some(self) };
        let mut app_ids = self.app_ids;
        app_ids.retain(|known| known != id);
        apps.retain(|known| known != name);
        (!app_ids.is_empty()).then_some(Self { scope: Scope::Apps(apps), app_ids, ..self })
    }
}

/// Returns the text truncated to the limit, at a character boundary.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
