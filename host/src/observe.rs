//! Observability of the host and its apps: logs, metrics and machine usage. Never influences a
//! decision, and never blocks: observations may be lost.

pub(crate) mod access_log;
pub(crate) mod access_recorder;
mod durations;
pub(crate) mod exposition;
mod labels;
pub(crate) mod limits;
pub(crate) mod liveness;
mod load;
pub(crate) mod logs;
pub(crate) mod machine;
pub(crate) mod metrics;
pub(crate) mod telemetry;
