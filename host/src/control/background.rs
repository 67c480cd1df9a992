//! Background loops of the control plane. Each runs on one task until the host shuts down.

pub(super) mod activity_log;
pub(crate) mod alerts;
pub(super) mod crash_reports;
pub(super) mod data_watch;
pub(super) mod dead_letters;
pub(crate) mod drains;
pub(super) mod event_pruner;
pub(super) mod freezer;
pub(super) mod gc;
pub(super) mod hooks;
pub(super) mod scaler;
pub(crate) mod scheduler;
pub(super) mod usage;
