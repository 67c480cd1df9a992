//! Shares the CPU: runs the work of guests so that none slows another. Knows nothing of what a guest is; a guest's engine
//! asks [`slice::expired`] at every tick and gives way by [`slice::yield_now`].
//!
//! ```text
//!   I/O thread, one for each core                          fair threads, one for each core, niced
//!  ┌────────────────────────────────────────┐             ┌───────────────────────────────────────────────┐
//!  │ account.run(class, work).await         │             │  turn: pull before push (which keeps a floor), │
//!  │   polled here for its first slice ─────┼─ yielded ──>│  then the account with the least CPU used      │
//!  │   waits for I/O: stays here            │             │    │ a slice       ^                           │
//!  │   its account's calls are long, or     │             │    v               │ yielded, or woken         │
//!  │   it is clearly ahead of others ───────┼─ at once ──>│  polled ───────────┘                           │
//!  │                                        │             │    │                                           │
//!  │   ends here <──────────────────────────┼─────────────┼────┘ ended: output, CPU time                    │
//!  └────────────────────────────────────────┘             └───────────────────────────────────────────────┘
//!                 charges by atomics                        charges ahead, and settles by the thread's clock
//! ```
//!
//! A short call never leaves its thread and takes no lock: it reads what the fair threads post on a board, and adds to
//! its account. A long one takes a lock at each slice. The kernel, not a yield, takes a core from a guest when I/O wakes.
//!
//! What it never does: end a call at a deadline, bound how many there are, or start one. Whoever awaits a [`Run`] drops it
//! when it has lasted long enough; admission and queues stand before it.

mod account;
mod call;
mod class;
mod clock;
mod cpu_counter;
mod fair;
mod ledger;
pub mod limits;
mod minimum_share;
mod placement;
mod pool;
mod published;
mod pulse;
mod run;
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
