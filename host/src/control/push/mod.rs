//! Pushes: uploads, jobs, and their progress. Never builds or starts a release.

pub(super) mod job;
pub(super) mod progress;
pub(super) mod pushes;
pub(super) mod request;
pub(super) mod upload;
