//! Background loops of the control plane. Each runs on one task until the host shuts down.

pub(super) mod activity_log;
mod data_watch;
mod freezer;
mod gc;
mod scaler;
pub(super) mod scheduler;
pub(super) mod usage;
