//! Every limit of the store, with the effect of reaching it: the store waits, refuses, truncates,
//! removes old rows, or continues on another page. Never computes anything.

use std::time::Duration;

/// Writes in the queue. A further writer waits for the disk.
pub const WRITES_WAITING_MAX: usize = 1_024;
/// Writes in one commit. The next commit takes the rest. Bounds how long the first write of a group
/// waits for its commit.
pub const WRITES_PER_COMMIT_MAX: usize = 256;
/// Reads that are queued or running. A further read, and its caller, waits for a permit before it
/// is queued.
pub const READS_WAITING_MAX: usize = 1_024;
/// Connections that read concurrently. Further reads wait: reads are short, and each connection
/// costs a page cache and a thread.
pub const READERS_MAX: usize = 4;
/// Bytes of the page cache of each of these connections. Pages beyond it are read from the file
/// again, which the operating system also caches.
pub const READER_CACHE_BYTES: i64 = 512 << 10;
/// How long a connection waits for another connection's lock, in milliseconds. Then it reports the
/// database as busy.
pub const LOCK_WAIT_MS_MAX: u32 = 10_000;
/// Bytes of the journal after a checkpoint. A journal that grew under load is truncated to this
/// size.
pub const JOURNAL_BYTES_KEPT: u32 = 16 << 20;
/// Pages in the journal of an app's database. After a commit that exceeds this number, the host
/// copies the pages to the database file before the app's next commit.
pub(crate) const JOURNAL_PAGES_MAX: i64 = 1_000;

/// Rows on one page of a list that the store returns. A longer list continues on the next page.
pub const ROWS_PER_PAGE_MAX: u32 = 1_000;
/// Rows on one page of a list for a caller that sets no limit.
pub const ROWS_PER_PAGE_DEFAULT: u32 = 100;
/// Lines of one push's log in `control.db`. Further lines are dropped and counted, so that a noisy
/// build can't fill the disk.
pub const PUSH_LINES_STORED_MAX: u32 = 10_000;
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
/// Releases of one app in the store. Beyond it, the app's failed and oldest releases are removed,
/// never the current release. The policy's own rule removes most releases long before; this limit
/// applies to an app that is deployed all day.
pub const RELEASES_STORED_MAX: u32 = 200;
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
/// Tokens of the host. A further token replaces the token that expired first; if none has expired,
/// it is refused: each token costs a lookup per request.
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
/// Open databases of apps. Beyond it the least recently used database is closed; its next call
/// opens it again.
pub const APPS_OPEN_MAX: usize = 64;
/// Evicted databases that are being closed. Beyond it, opening a database waits until a close
/// completes. It bounds the open files.
pub const APPS_CLOSING_MAX: usize = 64;
/// Threads for the calls of all apps' databases. Further calls are queued.
pub const APP_DATABASE_THREADS: usize = 8;
/// Queued calls of all apps' databases, except those that wait for the replacement of a damaged
/// database. Further calls wait for a permit before they are queued.
pub const APP_DATABASE_CALLS_MAX: usize = 4_096;
/// Reads of one app in a row. The app's further reads are queued behind other apps' calls.
pub const READS_PER_TURN: usize = 32;
/// How long one app's group of writes takes before its commit. The app's further writes are queued
/// behind other apps' calls. Bounds how long the first write of a group waits, and the journal.
pub const WRITE_TURN_MAX: Duration = Duration::from_millis(50);
/// Bytes of an app's database that is checked completely before its first use in a run of the host.
/// A larger database is checked while it is used, since the check would delay the first call.
pub const CHECKED_BYTES_MAX: u64 = 8 << 20;
/// Queued checks of databases. If the queue is full, a check is queued a minute later if the
/// database is still open, or else at its next use.
pub const CHECKS_WAITING_MAX: usize = 1_024;
/// Bytes of free pages that an app's database keeps for later rows. Only free pages beyond it are
/// removed from the file, so that a queue in regular use doesn't shrink and grow repeatedly.
pub const FREE_BYTES_KEPT: u32 = 4 << 20;
/// How long one step that shrinks a database takes. The next step continues.
pub const SHRINK_STEP_MAX: Duration = Duration::from_millis(2);
/// Free pages that a shrinking step removes before it reads the clock again.
pub(crate) const PAGES_FREED_AT_ONCE: i64 = 8;
/// Interval between a failed checkpoint of an app's database and the next one. On a full disk, a
/// checkpoint after each commit would only write the same pages again.
pub(crate) const CHECKPOINT_RETRY_AFTER: Duration = Duration::from_secs(10);
/// Damaged databases of one app in `lost+found/`. A further damaged database stays at its path, and
/// the app's calls fail: a failing disk must not be filled with damaged copies.
pub const DAMAGED_DATABASES_KEPT: usize = 3;
/// Bytes of disk space that remain free while the host copies the rows of a damaged database. If
/// less would remain, the host doesn't begin to copy, so that other apps can write.
pub const RESCUE_SPARE_BYTES: u64 = 16 << 20;
/// Unreadable parts of a damaged table that a rescue skips. Beyond it, the rest of the table isn't
/// copied.
pub const RESCUE_ERRORS_MAX: u32 = 100_000;
/// How long all calls of an app fail after its damaged database could not be replaced, for example
/// on a full disk. Then the next call tries again. Also how long the host ignores further errors
/// that suggest damage after it found the database intact.
pub const RESCUE_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Free bytes below which a disk that refused a write is still reported as full, although a later
/// small write succeeded.
pub const DISK_FULL_BYTES: u64 = 1024 * 1024;
/// Calls of one app's database that are queued or running. Further calls wait for a permit before
/// they are queued.
pub const CALLS_WAITING_MAX: usize = 256;

/// Alerts that fire and are stored. Further alerts are not stored: after a restart, they fire
/// again.
pub const ALERTS_MAX: i64 = 10_000;

/// Messages about alerts that wait for the webhook. Beyond it, the oldest are removed: the newest
/// describe the present state.
pub const ALERT_MESSAGES_MAX: i64 = 1_000;

/// Events that the host keeps for hooks that can't receive them, such as a stopped hook. Beyond it,
/// the oldest are dropped and reported: activity never waits for a hook.
pub const HOOK_EVENTS_MAX: i64 = 10_000;

/// Events of an app that have not ended, and dead letters. Beyond it further events are refused:
/// an accepted event is never removed to make room.
pub const EVENTS_PER_APP_MAX: i64 = 2_000_000;
/// Bytes of an app's events that have not ended, and of its dead letters. Beyond it further events
/// are refused.
pub const EVENT_BYTES_PER_APP_MAX: i64 = 2 << 30;
/// Bytes that are counted for every event in addition to its own bytes, so that a flood of tiny
/// events is bounded too.
pub const EVENT_OVERHEAD_BYTES: u64 = 256;
/// Bytes of one event. A larger event is refused: an event is a message, not a file.
pub const EVENT_BYTES_MAX: u64 = 2 << 20;
/// Events in one call. A larger batch is refused: one transaction must not delay others for long.
pub const EVENTS_PER_BATCH_MAX: usize = 1_000;
/// Bytes of the events in one call. A larger batch is refused: one transaction must not delay
/// others for long.
pub const EVENT_BATCH_BYTES_MAX: u64 = 8 << 20;
/// How long after the acceptance of an event a later one with its source and id is a duplicate,
/// even if the first one has ended.
pub const DEDUPLICATION_WINDOW: Duration = Duration::from_secs(24 * 3_600);
/// Done and cancelled events of an app. Beyond it the oldest are removed, and the host no longer
/// recognises their duplicates.
pub const ENDED_EVENTS_MAX: i64 = 1_000_000;
/// Bytes of an event's error. A longer error is truncated.
pub const EVENT_ERROR_BYTES_MAX: usize = 16 << 10;
/// Events in one claim. A claim for more returns this many.
pub const CLAIMS_MAX: usize = 1_000;
/// Bytes of the events in one claim. The next claim returns the rest.
pub const CLAIM_BYTES_MAX: i64 = 8 << 20;
/// Delayed events that one claim makes ready. The next claim continues.
pub const EVENTS_MADE_READY_MAX: usize = 1_000;
/// Events that one page of a list, or one step over dead letters, reads. The next page continues.
pub const EVENTS_SCANNED_MAX: usize = 10_000;
/// Bytes of the texts of the events on one page of a list, such as their ids and errors. The next
/// page continues: a page is held in memory as a whole.
pub const EVENT_PAGE_BYTES_MAX: usize = 4 << 20;
/// Events that one call prunes, redrives or drops. The next call continues.
pub const EVENTS_SWEPT_MAX: usize = 1_000;
/// Delayed events that one step shifts after the clock was set back. The next step continues.
pub const EVENTS_SHIFTED_MAX: u32 = 1_000;
/// The difference between two clocks, in milliseconds, that counts as a change of the clock. A
/// smaller change delays events only by its own length.
pub const CLOCK_STEP_MS: i64 = 1_000;

/// Reports of lost data in the queue. A further loss is written to the host's log only, not to the
/// app's activity.
pub const LOSSES_WAITING_MAX: usize = 256;

/// Blobs on one page of a list. A longer list continues after the last digest.
pub const BLOBS_PER_PAGE: usize = 10_000;

/// Bytes of the key that seals secrets. A key file of another length is refused at the start.
pub(crate) const KEY_FILE_BYTES: usize = 32;

/// Bytes of the file that holds disk space in reserve. On a full disk, stops and destroys of apps
/// and revocations of tokens use its space; one that needs more is refused as all other writes are.
pub(crate) const RESERVE_BYTES: u64 = 2 << 20;
