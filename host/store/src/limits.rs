//! Every limit of the store, with the effect of reaching it: the store waits, refuses, truncates,
//! removes old rows, or continues on another page. Never computes anything.

use std::time::Duration;

/// Writes in the queue. A further writer waits for the disk.
pub const WRITES_WAITING_MAX: usize = 1_024;
/// Writes in one commit. The next commit takes the rest. Bounds how long the first job of a group
/// waits for its commit.
pub const WRITES_PER_COMMIT_MAX: usize = 256;
/// Reads that are queued or running. A further read, and its caller, waits for a permit before it
/// is queued.
pub const READS_WAITING_MAX: usize = 1_024;
/// Connections that read concurrently. Further reads wait: reads are short, and each connection
/// costs a page cache and a thread.
pub const READERS_MAX: usize = 4;
/// How long a connection waits for another connection's lock, in milliseconds. Then it reports the
/// database as busy.
pub const LOCK_WAIT_MS_MAX: u32 = 10_000;
/// Bytes of the journal after a checkpoint. A journal that grew under load is truncated to this
/// size.
pub const JOURNAL_BYTES_KEPT: u32 = 16 << 20;

/// Items on one page of a list. A longer list continues on the next page.
pub const PAGE_ITEMS_MAX: u32 = 1_000;
/// Items on one page of a list for a request without a limit.
pub const PAGE_ITEMS_DEFAULT: u32 = 100;
/// Lines of one push's log. Further lines are dropped and counted, so that a noisy build can't fill
/// the disk.
pub const PUSH_LOG_LINES_MAX: u32 = 10_000;
/// Bytes of one line of a push's log. A longer line is truncated.
pub const PUSH_LOG_LINE_BYTES_MAX: usize = 8 << 10;
/// Bytes of the reason of a failure. A longer reason is truncated; compilers can be verbose.
pub const REASON_BYTES_MAX: usize = 64 << 10;
/// Push jobs of one app. Beyond it the app's oldest ended push jobs are removed, with their logs.
pub const PUSHES_KEPT: u32 = 500;
/// Bytes of an idempotency key. A longer key is refused: a key is a short identifier, not data.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// How long an idempotency key is valid. Then it expires, and its next use creates another push.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Bytes of the cause of a release. A longer cause is truncated.
pub const CAUSE_BYTES_MAX: usize = 8 << 10;
/// Releases of one app. Beyond it the app's failed and oldest releases are removed, never the
/// current release. The policy's own rule removes most releases long before; this limit applies to
/// an app that is deployed all day.
pub const RELEASES_KEPT: u32 = 200;
/// Newest releases of an app that are never removed, in any state.
pub const NEWEST_RELEASES_KEPT: usize = 20;
/// Bytes of the text of an activity entry. A longer text is truncated.
pub const ACTIVITY_TEXT_BYTES_MAX: usize = 8 << 10;
/// Characters of a user's input in an error. A longer input is truncated.
pub const GIVEN_CHARS_SHOWN: usize = 80;
/// Apps that an error names. It gives the number of the other apps.
pub const NAMES_SHOWN: usize = 5;
/// Activity entries of one app. Beyond it the oldest entries are removed.
pub const ACTIVITY_ENTRIES_MAX: u32 = 10_000;
/// Surplus activity entries of one app. Once there are this many, the oldest are removed, so that
/// not every append deletes.
pub const ACTIVITY_TRIM_EVERY: u32 = 256;
/// Schedules of one app, as many as it can have process types. Beyond it the schedule that fired
/// the longest ago is removed.
pub const SCHEDULES_PER_APP_MAX: u32 = isopod_policy::limits::PROCESSES_MAX as u32;
/// Months of an app's usage. Older months are removed. Enough to compare the current month with the
/// year before.
pub const USAGE_MONTHS_KEPT: u32 = 13;
/// Bytes of a sketch of users. A larger sketch is refused: sketches have a fixed size, which is far
/// smaller.
pub const USAGE_SKETCH_BYTES_MAX: usize = 64 << 10;
/// Tokens of the host. A further token is refused: each token costs a lookup per request.
pub const TOKENS_MAX: u32 = 1_000;

/// Bytes of a key. A longer key is refused: keys are names, not data.
pub const KEY_BYTES_MAX: usize = 1 << 10;
/// Bytes of a bucket's name. A longer name is refused: bucket names are identifiers, not data.
pub const BUCKET_BYTES_MAX: usize = 128;
/// Bytes of a value. A larger value is refused: a value is read and written whole, in memory.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Bytes of an app's key-value data. Beyond it writes are refused: no app may fill the disk that
/// all apps share.
pub const APP_BYTES_MAX: u64 = 256 << 20;
/// Bytes that are counted for every key in addition to its own bytes, so that a flood of tiny keys
/// is bounded too.
pub const ENTRY_OVERHEAD_BYTES: u64 = 64;
/// Keys on one page of a list. A longer list continues after the cursor.
pub const KEYS_PER_PAGE: usize = 1_000;
/// Open key-value databases. Beyond it the least recently used database is closed; its next call
/// opens it again.
pub const APPS_OPEN_MAX: usize = 64;
/// Evicted databases that are being closed. Beyond it, opening a database waits until a close
/// completes. It bounds the open files.
pub const APPS_CLOSING_MAX: usize = 64;
/// Threads for the key-value calls of all apps. Further calls are queued.
pub const KEY_VALUE_THREADS: usize = 8;
/// Key-value calls of all apps that are queued or running. Further calls wait for a permit before
/// they are queued.
pub const KEY_VALUE_CALLS_MAX: usize = 4_096;
/// Reads of one app in a row. The app's further reads are queued behind other apps' calls.
pub const READS_PER_TURN: usize = 32;
/// Key-value calls of one app that are queued or running. Further calls wait for a permit before
/// they are queued.
pub const CALLS_WAITING_MAX: usize = 256;

/// Reports of lost data in the queue. A further loss is written to the host's log only, not to the
/// app's activity.
pub const LOSSES_WAITING_MAX: usize = 256;

/// Blobs on one page of a list. A longer list continues after the last digest.
pub const BLOBS_PER_PAGE: usize = 10_000;

/// Bytes of the key that seals secrets. A key file of another length is refused at the start.
pub(crate) const KEY_FILE_BYTES: usize = 32;
