//! Shares the CPU fairly between apps: polls guests for one slice at a time and charges each slice
//! to the app's account. Knows nothing about guests as such: a guest's engine checks
//! [`slice::expired`] at every tick and yields with [`slice::yield_now`].
//!
//! ```text
//!  I/O threads, one per core                     worker threads, one per core, niced
//! ┌───────────────────────────────────┐         ┌─────────────────────────────────────────┐
//! │ account.run(class, work).await    │         │ next: pull before push (with a minimum  │
//! │   polled inline for its 1st slice ┼ yielded>│ share), then the account with the least │
//! │   waits for I/O: stays here       │         │ CPU used                                │
//! │   its account's calls are long,   │         │   │ a slice       ^                     │
//! │   or it is ahead of others ───────┼ direct─>│   v               │ yielded, or woken   │
//! │                                   │         │ polled ───────────┘                     │
//! │ completes here <──────────────────┼─────────┼───┘ completed: output, CPU time         │
//! └───────────────────────────────────┘         └─────────────────────────────────────────┘
//!   charges by atomics                            charges a slice ahead, then settles it
//! ```
//!
//! A short call never leaves its thread and takes no lock: it reads the statistics that the worker
//! threads publish, and charges its account with atomics. A long call takes a lock once per slice.
//! When I/O becomes ready, the kernel preempts the guest; the I/O thread doesn't depend on a yield.
//!
//! The executor never ends a call at a deadline, limits the number of calls or starts one by
//! itself. The caller enforces deadlines by dropping the [`Run`]; queues and admission come before
//! the executor.

mod account;
mod call;
mod class;
mod clock;
mod cpu_counter;
mod ledger;
pub mod limits;
mod minimum_share;
mod placement;
mod pool;
mod published;
mod pulse;
mod run;
mod scheduler;
pub mod slice;
mod sync;
mod task;
mod threads;

#[cfg(all(test, feature = "loom"))]
mod model;
#[cfg(all(test, not(feature = "loom")))]
mod simulation;

pub use account::Account;
pub use class::{Class, Weight};
pub use cpu_counter::CpuCounter;
pub use pulse::Pulse;
pub use run::Run;
pub use threads::{AroundThread, Config, Error, Executor, Load};
