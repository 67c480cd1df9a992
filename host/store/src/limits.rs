//! Every limit of the store, with the effect of reaching it: "waits", "refuses", or "neither"
//! (truncates, removes old rows, or continues on another page). Never computes anything.

use std::time::Duration;

/// Waits: with this many writes queued, a further writer waits for the disk.
pub const WRITES_WAITING_MAX: usize = 1_024;
/// Neither: the next commit takes the rest. Bounds how long the first job of a group waits for its
/// commit.
pub const WRITES_PER_COMMIT_MAX: usize = 256;
/// Waits: a read beyond this number waits for a permit before it is queued, and so does its caller.
pub const READS_WAITING_MAX: usize = 1_024;
/// Waits: reads are short, and each connection costs a page cache and a thread.
pub const READERS_MAX: usize = 4;
/// Waits: how long a connection waits for another connection's lock before it reports the database
/// as busy.
pub const LOCK_WAIT_MS_MAX: u32 = 10_000;
/// Neither: a journal that grew under load is truncated to this size.
pub const JOURNAL_BYTES_KEPT: u32 = 16 << 20;

/// Neither: a longer list continues on the next page.
pub const PAGE_ITEMS_MAX: u32 = 1_000;
/// Neither: the items of a page without an explicit limit.
pub const PAGE_ITEMS_DEFAULT: u32 = 100;
/// Neither: further lines of a push's log are dropped and counted, so that a noisy build can't fill
/// the disk.
pub const PUSH_LOG_LINES_MAX: u32 = 10_000;
/// Neither: a longer line is truncated.
pub const PUSH_LOG_LINE_BYTES_MAX: usize = 8 << 10;
/// Neither: a longer explanation is truncated; compilers can be verbose.
pub const REASON_BYTES_MAX: usize = 64 << 10;
/// Neither: an app's oldest final pushes are removed beyond it, with their logs.
pub const PUSHES_KEPT: u32 = 500;
/// Refuses: an idempotency key is a short identifier, not data.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Neither: the key then expires, and using it again creates another push.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Neither: a longer cause is truncated.
pub const CAUSE_BYTES_MAX: usize = 8 << 10;
/// Neither: beyond it an app's failed and oldest releases are removed, never the current release.
/// The policy's own rule removes most releases long before; this limit holds for an app that is
/// deployed all day.
pub const RELEASES_KEPT: u32 = 200;
/// Neither: this many of an app's newest releases are never removed, in any state.
pub const NEWEST_RELEASES_KEPT: usize = 20;
/// Neither: a longer text is truncated.
pub const ACTIVITY_TEXT_BYTES_MAX: usize = 8 << 10;
/// Neither: a longer input is truncated where an error shows it.
pub const GIVEN_CHARS_SHOWN: usize = 80;
/// Neither: an error names this many apps, and the number of the others.
pub const NAMES_SHOWN: usize = 5;
/// Neither: an app's oldest activity entries are removed beyond it.
pub const ACTIVITY_ENTRIES_MAX: u32 = 10_000;
/// Neither: surplus entries before the oldest are removed, so that not every append deletes.
pub const ACTIVITY_TRIM_EVERY: u32 = 256;
/// Neither: the schedule that fired the longest ago is removed beyond it. An app can't have more
/// process types.
pub const SCHEDULES_PER_APP_MAX: u32 = isopod_policy::limits::PROCESSES_MAX as u32;
/// Neither: older months of an app's usage are removed. Enough to compare the current month with
/// the year before.
pub const USAGE_MONTHS_KEPT: u32 = 13;
/// Refuses: a sketch of users has a fixed size, which is far smaller.
pub const USAGE_SKETCH_BYTES_MAX: usize = 64 << 10;
/// Refuses: each token costs a lookup per request.
pub const TOKENS_MAX: u32 = 1_000;

/// Refuses: keys are names, not data.
pub const KEY_BYTES_MAX: usize = 1 << 10;
/// Refuses: bucket names are identifiers, not data.
pub const BUCKET_BYTES_MAX: usize = 128;
/// Refuses: a value is read and written whole, in memory.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Refuses: no app may fill the disk that all apps share.
pub const APP_BYTES_MAX: u64 = 256 << 20;
/// Counted for every key in addition to its bytes, so that a flood of tiny keys is bounded too.
pub const ENTRY_OVERHEAD_BYTES: u64 = 64;
/// Neither: a longer list of keys continues after the cursor.
pub const KEYS_PER_PAGE: usize = 1_000;
/// Neither: the least recently used database is closed beyond it, and opened again when needed.
pub const APPS_OPEN_MAX: usize = 64;
/// Waits: evicted databases that are being closed. Beyond it, opening a database waits until a
/// close completes. It bounds the open files.
pub const APPS_CLOSING_MAX: usize = 64;
/// Waits: further key-value calls are queued. The threads serve the key-value data of all apps.
pub const KEY_VALUE_THREADS: usize = 8;
/// Waits: key-value calls of all apps beyond this number wait for a permit before they are queued.
pub const KEY_VALUE_CALLS_MAX: usize = 4_096;
/// Neither: after this many reads, an app's further reads are queued behind other apps' calls.
pub const READS_PER_TURN: usize = 32;
/// Waits: an app's calls beyond this number wait for a permit before they are queued.
pub const CALLS_WAITING_MAX: usize = 256;

/// Neither: a further loss of data is written to the host's log only, not to the app's activity.
pub const LOSSES_WAITING_MAX: usize = 256;

/// Neither: a longer list of blobs continues after the last digest.
pub const BLOBS_PER_PAGE: usize = 10_000;

/// Bytes of the key that seals secrets. A key file of another length is refused at the start.
pub(crate) const KEY_FILE_BYTES: usize = 32;
