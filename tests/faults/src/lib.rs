//! Faults that a test injects into the files and the clock of a host. `isopod-faults-preload` is
//! preloaded into the unchanged program and applies them to its calls of libc, so that they affect
//! SQLite and every other part. This library has the types that both sides share, and applies a
//! power failure after the host was killed. Never tests a host.
//!
//! ```text
//!   test ──Control (shared memory)──▶ preloaded library ──▶ libc
//!     │                                   │ undo records, markers of syncs
//!     └──lose_unsynced ◀────journal───────┘
//! ```
//!
//! The preloaded library adds an undo record of the overwritten bytes to the journal, and then
//! writes to the file immediately. To simulate a power failure, a test kills the host and undoes
//! the writes that no sync followed.
//!
//! Not simulated: the loss of created, renamed and removed names, which a sync of the folder makes
//! durable; writes through `mmap`, which only SQLite's shared index uses, and SQLite rebuilds it;
//! and the times of files, which don't follow a shifted clock.

mod control;
mod journal;
mod random;
mod undo;

pub use control::{Call, Control, DiskError};
pub use journal::{FileKey, Record};
pub use random::next_random;
pub use undo::{Loss, Lost, keep_unsynced, lose_unsynced};

/// The variable with the path of the file of [`Control`].
pub const CONTROL_VARIABLE: &str = "ISOPOD_FAULTS_CONTROL";

/// The variable with the path of the journal.
pub const JOURNAL_VARIABLE: &str = "ISOPOD_FAULTS_JOURNAL";

/// The variable with the path of a file that replaces the system's id of its boot, which changes at
/// a power failure.
pub const BOOT_VARIABLE: &str = "ISOPOD_FAULTS_BOOT";

/// The variable with the absolute path of the folder whose files are affected.
pub const FOLDER_VARIABLE: &str = "ISOPOD_FAULTS_FOLDER";
