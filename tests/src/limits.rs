//! Owns every bound of the harness. Never holds behaviour.

use std::time::Duration;

/// How long a test waits for something that has to come. Then it fails: the host hangs. Long, since machines that test
/// are busy; nothing is measured by it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a test waits for what comes with the next full minute.
pub const MINUTE_PATIENCE: Duration = Duration::from_secs(90);

/// How long a waiting test rests before it looks again.
pub const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What is kept of a program's standard error for the message of a failed test. The older part is dropped.
pub const STDERR_BYTES_MAX: usize = 256 * 1024;

/// How long the neighbour rests between two requests, so that it is asked all the time and still leaves the CPU to
/// those it is beside of.
pub const NEIGHBOUR_PAUSE: Duration = Duration::from_millis(2);

/// Answers that the neighbour must have given after the hostile part, at the least.
pub const NEIGHBOUR_ANSWERS_AFTER: u64 = 10;

/// Bytes of a body that a test reads at most: far more than any sensible answer, far less than a flood.
pub const BODY_BYTES_MAX: usize = 512 * 1024 * 1024;

/// How long a client of a load rests between two requests: several of them keep a host busy, and leave the CPU to what
/// is tested under that load.
pub const LOAD_PAUSE: Duration = Duration::from_millis(3);

/// Answers that each client of a load must have had after the last change, at the least.
pub const LOAD_ANSWERS_AFTER: u64 = 10;

/// Files that a program may usually open, where the system doesn't say.
pub const FILES_USUAL: usize = 1_024;

/// Files that are left to the other tests and to the host itself by whoever opens as many as there may be.
pub const FILES_FOR_THE_REST: usize = 400;

/// Bytes of an answer that is not read: far more than what the kernel and the host hold for its client.
pub const HELD_BYTES: usize = 16 << 20;
