//! Owns every bound of the harness. Never holds behaviour.

use std::time::Duration;

/// How long a test waits for an expected state. Then it fails: the host hangs. Long, since test
/// machines are busy; it measures nothing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a test waits for an action of the next full minute.
pub const MINUTE_PATIENCE: Duration = Duration::from_secs(90);

/// The pause between two polls of a waiting test.
pub const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The bytes of a program's standard error that are kept for the message of a failed test. Older
/// output is dropped.
pub const STDERR_BYTES_MAX: usize = 256 * 1024;

/// The neighbour's pause between two requests: short enough for constant load, long enough to leave
/// the CPU to the apps under test.
pub const NEIGHBOUR_PAUSE: Duration = Duration::from_millis(2);

/// The minimum number of the neighbour's responses after the hostile part.
pub const NEIGHBOUR_ANSWERS_AFTER: u64 = 10;

/// The largest body that a test reads: far more than any sensible response, far less than a flood.
pub const BODY_BYTES_MAX: usize = 512 * 1024 * 1024;

/// A load client's pause between two requests: several clients keep a host busy, and leave the CPU
/// to the code under test.
pub const LOAD_PAUSE: Duration = Duration::from_millis(3);

/// The minimum number of responses per load client after the last change.
pub const LOAD_ANSWERS_AFTER: u64 = 10;

/// The durations that a load client records until the test takes them. Those of further requests
/// are not recorded.
pub const LOAD_DURATIONS_MAX: usize = 100_000;

/// The usual limit of open files, where the system doesn't report its limit.
pub const FILES_USUAL: usize = 1_024;

/// Open files that a test at the limit leaves to the other tests and to the host.
pub const FILES_FOR_THE_REST: usize = 400;

/// The size of a response that is not read: far more than the kernel and the host buffer for a
/// client.
pub const HELD_BYTES: usize = 16 << 20;

/// How long a torture waits for an acknowledgement, and for the next delivery of its backlog. Long,
/// since each kill costs a start of the host.
pub const TORTURE_DRAIN: Duration = Duration::from_secs(600);

/// The values that a torture reads with one request.
pub const TORTURE_READ_STEPS: usize = 500;
