//! The resources that apps share: cores, CPU time, room for instances, and bytes of bodies, with
//! the limits of each app and of the host. Never queues or runs a job, and accesses pools only
//! through traits.

mod app;
mod assets;
mod bodies;
mod cores;
mod cpu;
mod file_runtimes;
mod guest_runtime;
mod host;
mod instances;
mod pools;
mod stats;
mod stored_events;
mod waits;

pub(crate) use app::AppResources;
pub(crate) use assets::{AppAssets, AssetBudgetExceeded, AssetBytes};
pub(crate) use bodies::{BodyBudgetExceeded, IncomingBody};
pub(crate) use guest_runtime::GuestRuntimes;
pub(crate) use host::HostResources;
pub(crate) use pools::{Admit, Evict};
pub(crate) use stats::Latency;
pub(crate) use stored_events::StoredEvents;
pub(crate) use waits::{NeverFree, Occupied, SlotId, Waits};
