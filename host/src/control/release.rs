//! Releases, from a verified bundle to the rollout watch. Never receives an upload.

pub(super) mod boot;
mod gates;
pub(super) mod last_good;
pub(super) mod load;
pub(super) mod loader;
pub(super) mod pipeline;
pub(super) mod releases;
mod snapshot;
pub(super) mod verify;
pub(super) mod watch;
