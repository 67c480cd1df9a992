//! The instances of one process type: their slots, the leases of these slots, and the queues of
//! jobs that wait for one. Never interprets a job.

mod admission;
mod lease;
#[expect(clippy::module_inception, reason = "the folder is named after its main type")]
mod pool;
mod queue;
mod scale_window;
mod slot;
mod state;

pub(crate) use lease::Lease;
pub(crate) use pool::{Pool, PoolContext, PoolCounters};
pub(crate) use scale_window::ScaleChange;
