//! The rows that the store keeps, as plain structs with the types of the policy. Owns no behaviour but paging.

use std::str::FromStr;

use isopod_policy::{AppName, AppType, Manifest, PushId, PushState, ReleaseNumber, Role, Scope, UnknownWord};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::shown;
use crate::limits::{
    ACTIVITY_TEXT_BYTES_MAX, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX, PUSH_LOG_LINE_BYTES_MAX, REASON_BYTES_MAX,
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
    #[serde(rename = "type")]
    pub app_type: AppType,
    pub intended: Intended,
    /// The release that serves; none before the first push is completed.
    pub release: Option<ReleaseNumber>,
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
    pub created_by: String,
    pub created_at: Timestamp,
}

/// Why a push failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    pub manifest: Manifest,
    pub size_bytes: u64,
    pub created_by: String,
    pub created_at: Timestamp,
}

/// A release, which never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Release {
    pub app: AppName,
    pub number: ReleaseNumber,
    pub bundle: Digest,
    pub manifest: Manifest,
    pub size_bytes: u64,
    pub created_by: String,
    pub created_at: Timestamp,
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
    pub created_at: Timestamp,
}

/// The text without what is beyond the bound, cut between characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The `next` of the page before; none for the first page.
    pub cursor: Option<String>,
    /// How many items at most; none for the usual number.
    pub limit: Option<u32>,
}

impl Page {
    /// The number of items wanted, brought within bounds.
    pub(crate) fn items(&self) -> u32 {
        self.limit.unwrap_or(PAGE_ITEMS_DEFAULT).clamp(1, PAGE_ITEMS_MAX)
    }

    /// The cursor of a list whose cursors are numbers; without one the list begins at `start`.
    pub(crate) fn number<T: FromStr>(&self, start: T) -> Result<T, StoreError> {
        match &self.cursor {
            None => Ok(start),
            Some(text) => text.parse().map_err(|_| StoreError::BadCursor { cursor: shown(text) }),
        }
    }
}

/// One part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paged<T> {
    pub items: Vec<T>,
    /// The cursor of the next part, if there is one.
    pub next: Option<String>,
}

impl<T> Paged<T> {
    /// Makes a page of rows of which one more than wanted was asked for, to know whether any follow.
    pub(crate) fn from_one_more(mut items: Vec<T>, page: &Page, cursor: impl Fn(&T) -> String) -> Self {
        let wanted = page.items() as usize;
        let more = items.len() > wanted;
        items.truncate(wanted);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}
