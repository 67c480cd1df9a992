//! Isopod's durable data: apps, pushes, releases, activity, usage and tokens in one database,
//! bundles as content-addressed files, a database per app for its key-value entries and events, and
//! the key that seals secrets. Owns the data folder and its lock. Never decides anything, and never
//! delays a request except for a guest's own key-value calls.

mod app_database;
mod app_folders;
mod blobs;
mod boot;
mod control;
mod control_file;
mod data_record;
mod error;
mod events;
mod examine;
mod failed_reads;
mod files;
mod group;
mod identity;
mod kv;
pub mod limits;
mod lock;
mod loss;
mod model;
mod options;
mod page;
mod probe;
mod rescue;
mod reserve;
mod row_copy;
mod secrets;
mod sql;
mod sqlite;
mod store;
mod usage;
mod workers;

pub use app_folders::{FolderReport, MovedFolder};
pub use blobs::{Blobs, Digest, SweptBlobs};
pub use error::{Change, StoreError};
pub use events::{
    Accepted, AppQueue, CancelReason, Cancelled, Claim, Claimed, DeadChange, Effects, Event, EventFilter, EventPayload,
    EventQueue, EventSeq, EventState, Events, KeyRead, KeyWrite, LastError, Lease, NewEvent, Outcome, QueueStats,
    Settled, StoredEvent, Swept,
};
pub use examine::{Examined, examine};
pub use files::remove_unused_files;
pub use kv::{KvStore, ValueVersion};
pub use loss::{Loss, LostData, Rescued};
pub use model::{
    Activity, AlertMessage, AlertRecord, App, CALLS_REFUSED, DamagedRelease, Drain, FormerSecret, HookBacklog,
    HookEvent, Idempotency, Inserted, Intended, InterfaceUse, ListedRelease, LogLine, NewActivity, NewApp, NewPush,
    NewRelease, PluginUse, Push, PushStep, Reason, Release, Rotation, ScheduleFired, StoredAssets, Token, TokenUse,
};
pub use options::Options;
pub use page::{Page, Paged};
pub use probe::free_bytes;
pub use secrets::Secrets;
pub use store::Store;
pub use usage::{Month, MonthUsage};
