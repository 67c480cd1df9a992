//! Pushes: uploads, permits, and the progress of jobs. Never runs a job.

pub(super) mod progress;
pub(super) mod pushes;
pub(super) mod request;
pub(super) mod upload;
