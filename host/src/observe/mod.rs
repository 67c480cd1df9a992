//! Owns what can be seen of the host and its apps: logs, metrics and the machine. Never decides anything: what is observed may be
//! lost, and nothing waits for it.

pub(crate) mod access;
pub(crate) mod exposition;
pub(crate) mod liveness;
mod load;
pub(crate) mod logs;
pub(crate) mod machine;
pub(crate) mod metrics;
