//! Faults that a test injects into the files and the clock of a host. `isopod-faults-preload` is
//! preloaded into the unchanged program and applies them to its calls of libc, so that they affect
//! SQLite and every other part. This library has what both sides share, and applies a power
//! failure after the host was killed. It never runs in a host itself, and contains no test of one.
//!
//! ```text
//!   test ──Control (shared memory)──▶ preloaded library ──▶ libc
//!     │                                   │ undo records, markers of syncs
//!     └──lose_unsynced ◀────journal───────┘
//! ```
//!
//! A write goes to the file at once, after an undo record of the bytes that it overwrites was added
//! to the journal. To simulate a power failure, a test kills the host and takes back the writes
//! that no sync followed.
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
