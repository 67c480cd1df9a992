//! The rows that the store keeps, as plain structs with the types of the policy. Owns what becomes of a row when
//! something happens to it, so that every backend agrees. Never touches a table.

use std::str::FromStr;

use isopod_policy::retention::StoredRelease;
use isopod_policy::{
    AppName, AppType, ConfigVars, CoresOverride, Manifest, ProcessName, PushId, PushState, Refused, ReleaseEvent,
    ReleaseNumber, ReleaseState, Role, Scope, UnknownWord,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::shown;
use crate::limits::{
    ACTIVITY_TEXT_BYTES_MAX, CAUSE_BYTES_MAX, IDEMPOTENCY_KEPT, IDEMPOTENCY_KEY_BYTES_MAX, NEWEST_RELEASES_KEPT,
    PUSH_LOG_LINE_BYTES_MAX, REASON_BYTES_MAX, RELEASES_KEPT,
};
use crate::{Digest, StoreError};

/// Whether an app is meant to run; what it really does is found out by the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intended {
    /// It is meant to run.
    Running,
    /// A person stopped it.
    Stopped,
}

impl Intended {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

impl FromStr for Intended {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Running, Self::Stopped].into_iter().find(|known| known.as_str() == text).ok_or_else(|| UnknownWord {
            what: "intent",
            given: shown(text),
            expected: "running or stopped",
        })
    }
}

/// An app to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApp {
    pub name: AppName,
    pub app_type: AppType,
    pub intended: Intended,
    pub created_at: Timestamp,
}

/// An app as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct App {
    pub name: AppName,
    /// Distinguishes it from an earlier or later app of the same name.
    pub id: String,
    #[serde(rename = "type")]
    pub app_type: AppType,
    pub intended: Intended,
    /// The release that serves; none before the first push is completed.
    pub release: Option<ReleaseNumber>,
    /// The config vars that the next release gets. Never printed together with the app, since some are secrets.
    #[serde(skip)]
    pub config: ConfigVars,
    /// Where the app's cores differ from what the operator allots to all.
    pub cores: CoresOverride,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A push job to be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPush {
    pub id: PushId,
    pub app: AppName,
    /// The digest of the uploaded bundle among the blobs, once it is there.
    pub bundle: Option<Digest>,
    /// What tells that the same push is sent again, if its sender said so.
    pub idempotency: Option<Idempotency>,
    pub created_by: String,
    pub created_at: Timestamp,
}

/// What makes a push that is sent twice one push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The sender's own word for the push.
    pub key: String,
    /// The digest of what was sent.
    pub upload: Digest,
}

impl Idempotency {
    /// Whether it is within the bounds.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.key.len() {
            1..=IDEMPOTENCY_KEY_BYTES_MAX => Ok(()),
            bytes => Err(StoreError::BadIdempotencyKey { bytes }),
        }
    }
}

/// What became of a push that was to be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// It is queued.
    New(Push),
    /// It was sent before, and this is what became of it.
    Same(Push),
    /// Another push was sent with this key a short while ago.
    Conflict(Push),
}

impl Inserted {
    /// The outcome of a push whose key was used before, given the newest push with that key. `None`
    /// if the key has expired, or if that push failed or was cancelled, so that its sender can
    /// retry.
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
    /// Sentences for people: what happened, why, and what to do.
    pub detail: String,
}

impl Reason {
    /// The reason as it is kept.
    pub(crate) fn kept(mut self) -> Self {
        self.detail.truncate(cut(&self.detail, REASON_BYTES_MAX).len());
        self
    }
}

/// A push job as it is kept; its log is asked for apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Push {
    pub id: PushId,
    pub app: AppName,
    pub state: PushState,
    pub bundle: Option<Digest>,
    /// The release that the push made.
    pub release: Option<ReleaseNumber>,
    pub reason: Option<Reason>,
    pub created_by: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
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
    /// The line as it is kept.
    pub(crate) fn kept(number: u32, at: Timestamp, text: &str) -> Self {
        Self { number, at, text: cut(text, PUSH_LOG_LINE_BYTES_MAX).to_owned() }
    }
}

/// A release to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRelease {
    pub app: AppName,
    /// The digest of the component among the blobs.
    pub bundle: Digest,
    /// The digest of the snapshot that its instances start from, if it has one.
    pub snapshot: Option<Digest>,
    pub manifest: Manifest,
    /// The config vars it is made with.
    pub config: ConfigVars,
    pub size_bytes: u64,
    /// What made it, for people: `push p-…`, `rollback to v1`, `config changed: KEY`.
    pub cause: String,
    pub created_by: String,
    pub created_at: Timestamp,
}

/// A release as it stands in a list: one that is damaged leaves all others readable.
pub type ListedRelease = Result<Release, DamagedRelease>;

/// What can still be told of a release whose row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRelease {
    pub number: ReleaseNumber,
    /// What is damaged about it.
    pub detail: String,
}

/// The number of a release in a list.
pub(crate) fn listed_number(listed: &ListedRelease) -> ReleaseNumber {
    match listed {
        Ok(release) => release.number,
        Err(damaged) => damaged.number,
    }
}

/// A release. What it is made of never changes; its state does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Release {
    pub app: AppName,
    pub number: ReleaseNumber,
    pub state: ReleaseState,
    /// Why it failed.
    pub reason: Option<Reason>,
    pub cause: String,
    pub bundle: Digest,
    /// The component with the image of a prepared instance in it, among the blobs.
    pub snapshot: Option<Digest>,
    pub manifest: Manifest,
    /// The config vars it was made with. Never printed together with the release, since some are secrets.
    #[serde(skip)]
    pub config: ConfigVars,
    pub size_bytes: u64,
    /// When it stopped being the app's current release; none if it never was, or still is.
    pub last_current_at: Option<Timestamp>,
    pub created_by: String,
    pub created_at: Timestamp,
    /// Since when it has its state.
    pub updated_at: Timestamp,
}

impl Release {
    /// The release as it is made.
    pub(crate) fn made(new: NewRelease, number: ReleaseNumber) -> Self {
        let NewRelease { app, bundle, snapshot, manifest, config, size_bytes, cause, created_by, created_at } = new;
        Self {
            app,
            number,
            state: ReleaseState::Building,
            reason: None,
            cause: cut(&cause, CAUSE_BYTES_MAX).to_owned(),
            bundle,
            snapshot,
            manifest,
            config,
            size_bytes,
            last_current_at: None,
            created_by,
            created_at,
            updated_at: created_at,
        }
    }

    /// The release after an event; a reason belongs to a failure.
    pub(crate) fn stepped(self, event: ReleaseEvent, reason: Option<Reason>, at: Timestamp) -> Result<Self, Refused> {
        let state = self.state.step(event)?;
        Ok(Self { state, reason: reason.map(Reason::kept), updated_at: at, ..self })
    }

    /// The release after an event that leaves the app its current release: only that one is ready or frozen.
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

    /// The release once it is the app's current one.
    pub(crate) fn put_in_service(self, at: Timestamp) -> Result<Self, Refused> {
        Ok(Self { last_current_at: None, ..self.stepped(ReleaseEvent::Serve, None, at)? })
    }

    /// The release once another is the current one. Had it failed while it was, it stays as it failed.
    pub(crate) fn superseded(self, at: Timestamp) -> Self {
        let state = self.state.step(ReleaseEvent::Supersede).unwrap_or(self.state);
        Self { state, last_current_at: Some(at), updated_at: at, ..self }
    }

    /// What decides how long it is kept.
    pub(crate) fn stamp(&self) -> StoredRelease {
        StoredRelease { number: self.number, state: self.state, last_current_at: self.last_current_at }
    }

    /// The release once it is given up for an earlier one.
    pub(crate) fn given_up(self, reason: Reason, at: Timestamp) -> Result<Self, Refused> {
        Ok(Self { last_current_at: Some(at), ..self.stepped(ReleaseEvent::DeployFails, Some(reason), at)? })
    }
}

/// Which releases of an app make room beyond the bound: failed ones first, then those that served the longest ago. The
/// current one never does, nor do the newest, which somebody may be about to look at; one that is under way only if there
/// is no other.
pub(crate) fn beyond_bound(mut releases: Vec<StoredRelease>, current: Option<ReleaseNumber>) -> Vec<ReleaseNumber> {
    let surplus = releases.len().saturating_sub(RELEASES_KEPT as usize);
    releases.sort_by_key(|release| std::cmp::Reverse(release.number));
    releases.drain(..releases.len().min(NEWEST_RELEASES_KEPT));
    releases.retain(|release| Some(release.number) != current);
    releases.sort_by_key(|release| {
        (release.state.is_under_way(), !release.state.is_final(), release.last_current_at, release.number)
    });
    releases.into_iter().take(surplus).map(|release| release.number).collect()
}

/// When a schedule last fired, so that a host that starts knows what it missed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScheduleFired {
    pub app: AppName,
    pub process: ProcessName,
    pub last_fired_at: Timestamp,
}

/// Something that happened, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewActivity {
    /// The app it happened to; none if it concerns the platform.
    pub app: Option<AppName>,
    /// A stable kebab-case word for programs, such as `app-stopped`.
    pub kind: String,
    /// A sentence for people: what happened and why.
    pub text: String,
    /// The numbers behind it.
    pub data: serde_json::Value,
    pub at: Timestamp,
}

impl NewActivity {
    /// The entry as it is kept.
    pub(crate) fn kept_as(self, id: u64) -> Activity {
        let Self { app, kind, mut text, data, at } = self;
        text.truncate(cut(&text, ACTIVITY_TEXT_BYTES_MAX).len());
        Activity { id, app, kind, text, data, at }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Activity {
    /// Grows with every entry, so that a reader can go on where it stopped.
    pub id: u64,
    pub app: Option<AppName>,
    pub kind: String,
    pub text: String,
    pub data: serde_json::Value,
    pub at: Timestamp,
}

/// A token; the token itself is never kept, only its SHA-256 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub name: String,
    pub hash: String,
    pub role: Role,
    pub scope: Scope,
    /// The ids of the apps in the scope: an app of the same name that is created later is another one. The store fills them
    /// in, and removes them with their apps.
    pub app_ids: Vec<String>,
    pub created_at: Timestamp,
}

impl Token {
    /// The token once an app is destroyed; none if it was for no other app.
    pub(crate) fn without(self, name: &AppName, id: &str) -> Option<Self> {
        let Scope::Apps(mut apps) = self.scope else { return Some(self) };
        let mut app_ids = self.app_ids;
        app_ids.retain(|known| known != id);
        apps.retain(|known| known != name);
        (!app_ids.is_empty()).then_some(Self { scope: Scope::Apps(apps), app_ids, ..self })
    }
}

/// The text without what is beyond the bound, cut between characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
