//! Every bound of the store. Owns numbers only; each says whether reaching it waits or refuses, and why.

use std::time::Duration;

/// Waits: whoever wants to write while this many writes are ahead is slowed down to the speed of the disk.
pub const WRITES_WAITING_MAX: usize = 1_024;
/// Neither: the next commit takes the rest; it bounds how long the first of a group waits for its commit.
pub const WRITES_PER_COMMIT_MAX: usize = 256;
/// Waits: a read beyond this many waits to be queued, and its caller with it.
pub const READS_WAITING_MAX: usize = 1_024;
/// Waits: reads are short, and each connection costs a page cache and a thread.
pub const READERS_MAX: usize = 4;
/// Waits: how long a connection waits for another one's lock before it reports the database as busy.
pub const LOCK_WAIT_MS_MAX: u32 = 10_000;
/// Neither: a journal that grew larger under load is cut back to this size.
pub const JOURNAL_BYTES_KEPT: u32 = 16 << 20;

/// Neither: a longer list continues on the next page.
pub const PAGE_ITEMS_MAX: u32 = 1_000;
/// Neither: how many items a page has if nobody says.
pub const PAGE_ITEMS_DEFAULT: u32 = 100;
/// Neither: further lines of one push's log are dropped and counted, so that a noisy build cannot fill the disk.
pub const PUSH_LOG_LINES_MAX: u32 = 10_000;
/// Neither: the rest of a longer line is cut off.
pub const PUSH_LOG_LINE_BYTES_MAX: usize = 8 << 10;
/// Neither: the rest of a longer explanation is cut off; compilers can be talkative.
pub const REASON_BYTES_MAX: usize = 64 << 10;
/// Neither: an app's oldest pushes that are done make room for new ones, and their logs go with them.
pub const PUSHES_KEPT: u32 = 500;
/// Refuses: a key that tells a push from another is a word, not data.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Neither: after this a key is forgotten, and the same key makes another push.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Neither: the rest of a longer cause is cut off.
pub const CAUSE_BYTES_MAX: usize = 8 << 10;
/// Neither: an app's failed and oldest releases make room for new ones; the one that serves is always kept. The
/// policy's own rule removes most of them long before; this bound holds for whoever deploys all day.
pub const RELEASES_KEPT: u32 = 200;
/// Neither: so many of an app's newest releases make no room, whatever became of them.
pub const NEWEST_RELEASES_KEPT: usize = 20;
/// Neither: the rest of a longer sentence is cut off.
pub const ACTIVITY_TEXT_BYTES_MAX: usize = 8 << 10;
/// Neither: the rest of a longer text is left out where an error shows what was given.
pub const GIVEN_CHARS_SHOWN: usize = 80;
/// Neither: an error names so many apps, and says how many more there are.
pub const NAMES_SHOWN: usize = 5;
/// Neither: the oldest entries of an app's activity make room for new ones.
pub const ACTIVITY_ENTRIES_MAX: u32 = 10_000;
/// Neither: how many entries may be over before the oldest are removed, so that not every append has to count.
pub const ACTIVITY_TRIM_EVERY: u32 = 256;
/// Neither: the schedule that fired the longest ago is forgotten; an app has no more process types at a time.
pub const SCHEDULES_PER_APP_MAX: u32 = isopod_policy::limits::PROCESSES_MAX as u32;
/// Neither: older months of an app's usage are removed; a year and the present month can be compared.
pub const USAGE_MONTHS_KEPT: u32 = 13;
/// Refuses: a sketch of users has a fixed size, which is far smaller.
pub const USAGE_SKETCH_BYTES_MAX: usize = 64 << 10;
/// Refuses: a token costs a look-up per request, and nobody needs more.
pub const TOKENS_MAX: u32 = 1_000;

/// Refuses: keys are names, not data.
pub const KEY_BYTES_MAX: usize = 1 << 10;
/// Refuses: buckets are named by the app's author.
pub const BUCKET_BYTES_MAX: usize = 128;
/// Refuses: a value is read and written whole, in memory.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Refuses: no app may fill the disk that all share.
pub const APP_BYTES_MAX: u64 = 256 << 20;
/// Counted for every key beside its own bytes, so that a flood of tiny keys is bounded as well.
pub const ENTRY_OVERHEAD_BYTES: u64 = 64;
/// Neither: a longer list of keys continues after the cursor.
pub const KEYS_PER_PAGE: usize = 1_000;
/// Neither: the app that was quiet for longest is closed and opened again when it needs it.
pub const APPS_OPEN_MAX: usize = 64;
/// Waits: evicted databases that are being closed. Beyond it, opening a database waits for one of
/// them. It bounds the open files.
pub const APPS_CLOSING_MAX: usize = 64;
/// Waits: key-value calls beyond what these threads do are queued. They serve the key-value data of all apps.
pub const KEY_VALUE_THREADS: usize = 8;
/// Waits: key-value calls of all apps beyond this many wait before they are queued.
pub const KEY_VALUE_CALLS_MAX: usize = 4_096;
/// Neither: after this many reads an app's further ones go behind those of other apps.
pub const READS_PER_TURN: usize = 32;
/// Waits: one app's calls beyond this many wait before they are queued.
pub const CALLS_WAITING_MAX: usize = 256;

/// Neither: a further loss of data is written to the host's log only, not to the app's activity.
pub const LOSSES_WAITING_MAX: usize = 256;

/// Neither: a longer list of blobs continues after the last digest.
pub const BLOBS_PER_PAGE: usize = 10_000;
