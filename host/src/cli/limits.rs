//! The limits of the command line, each with what happens when it is met. Never holds the limits of
//! other modules, each of which has its own `limits.rs`.

use std::time::Duration;

/// Timeout for connecting to a host. The command fails then, since a running host accepts
/// immediately.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for a response. The command fails then. The longest wait is for a push job, which is
/// itself limited to 30 minutes.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(31 * 60);
/// The largest response that is read into memory. A larger one is an error, since the host sends
/// none.
pub(crate) const RESPONSE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The longest server-sent event. A longer one is an error, since the host's events are far
/// shorter.
pub(crate) const STREAM_EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The largest event that a command sends. A larger event fails before it is sent, since the host
/// would refuse it.
pub(crate) const SENT_EVENT_BYTES_MAX: usize = crate::api::limits::EVENT_BODY_BYTES;
/// Events that one request of `isopod broadcast` sends. The next request sends further events.
pub(crate) const BROADCAST_REQUEST_EVENTS: usize = 20_000;
/// Bytes of the lines of one request of `isopod broadcast`, unless a single line is longer.
pub(crate) const BROADCAST_REQUEST_BYTES: usize = 8 << 20;
/// Bytes that `isopod broadcast` reads from its file at a time.
pub(crate) const BROADCAST_READ_BYTES: usize = 256 << 10;
/// How long `isopod broadcast` retries while the host stores nothing, for example because it
/// restarts or the queue is full. Then the command fails, and prints how to continue.
pub(crate) const BROADCAST_RETRY_TIME: Duration = Duration::from_secs(120);
/// The pause before a retry of `isopod broadcast`.
pub(crate) const BROADCAST_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Invalid lines that `isopod broadcast --dry-run` shows. Further lines are only counted.
pub(crate) const BROADCAST_ERRORS_SHOWN: u64 = 20;
/// How long `--wait` waits for an app's state. The command fails then, but its request stays in
/// effect.
pub(crate) const APP_STATE_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest component for `isopod serve` and `isopod run`. A larger file is refused before it is
/// read.
pub(crate) const LOCAL_COMPONENT_BYTES_MAX: u64 = 512 << 20;

/// The size of the compiled code that `isopod serve` and `isopod run` cache. Beyond it, the next
/// start removes the least recently used code.
pub(crate) const COMPILED_BYTES_MAX: u64 = 1 << 30;

/// The compile time after which a terminal shows a message. Without a terminal, the time is printed
/// after compiling.
pub(crate) const COMPILE_SILENCE: Duration = Duration::from_secs(1);
/// The most items of a list that a command reads. Further items are omitted; no reader needs more.
pub(crate) const LIST_ITEMS_MAX: usize = 100_000;

/// The most bytes of a build's output to keep. The beginning is dropped, since the end explains a
/// failure.
pub(crate) const BUILD_OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// The longest line of a build's output. A longer one is split.
pub(crate) const BUILD_LINE_BYTES_MAX: u64 = 64 * 1024;

/// Queued events of `isopod dev`. A full queue blocks the sender.
pub(crate) const DEV_EVENTS_WAITING_MAX: usize = 1024;
/// Queued tasks for the host of `isopod dev`. A further task is refused, since the host has stopped
/// responding.
pub(crate) const DEV_TASKS_WAITING_MAX: usize = 16;
/// Timeout for starting the host of `isopod dev`. The command fails then and shows the host's log.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// The most watched folders. Further folders are not watched, and a message says so.
pub(crate) const WATCHED_FOLDERS_MAX: usize = 4_000;
/// The largest file that is compared by content. For a larger one, every event counts as a change.
pub(crate) const COMPARED_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The most lines of `.gitignore` that are read. Further lines are skipped.
pub(crate) const IGNORE_PATTERNS_MAX: usize = 500;
/// The largest log of the host of `isopod dev`. A larger log is replaced at the next start.
pub(crate) const HOST_LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The interval of the samples of `isopod top`, which is the host's own resolution.
pub(crate) const TOP_SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Timeout for one sample. The host then counts as unreachable, and the request is repeated.
pub(crate) const TOP_RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The most apps in `isopod top`: the busiest. A note says that there are more.
pub(crate) const TOP_APPS_MAX: u32 = crate::api::limits::PAGE_ITEMS_MAX;
/// The seconds of history that `isopod top` keeps per app. Older samples are dropped.
pub(crate) const TOP_HISTORY_SECONDS: usize = 300;
/// Queued keys and samples of `isopod top`. A full queue blocks the sender.
pub(crate) const TOP_MESSAGES_WAITING_MAX: usize = 64;
/// The longest text of a host that `isopod top` shows. The rest is cut off, since no name is
/// longer.
pub(crate) const TOP_TEXT_CHARS_MAX: usize = 200;
/// The longest filter: the length of the longest name. Further characters are ignored.
pub(crate) const TOP_FILTER_CHARS_MAX: usize = 63;
/// How long a command tries to reopen a followed stream. The command fails then.
pub(crate) const FOLLOW_RECONNECT_TIME: Duration = Duration::from_secs(30);

/// Time after the first stop signal in which further signals are ignored: some programs send the
/// signal to a process and to its group. A later signal ends the host immediately.
pub(crate) const STOP_SIGNAL_GRACE: Duration = Duration::from_secs(1);

/// How long `isopod serve` waits for requests in progress after the first stop signal. Then they
/// are cancelled.
pub(crate) const SERVE_DRAIN: Duration = Duration::from_secs(5);

/// Bytes of one line of the host's own log. The rest is cut off. Texts from guests and bundles are
/// cut earlier.
pub(crate) const HOST_LOG_LINE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of each text in an overlong JSON line of the host's own log. The rest is cut off, so that
/// the line stays valid JSON.
pub(crate) const HOST_LOG_VALUE_BYTES_MAX: usize = 2 * 1024;

/// Bytes of all keys and values of `isopod serve` and `isopod run`, which are kept in memory.
/// Writes beyond it are refused.
pub(crate) const LOCAL_KEY_VALUE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Keys in one page of a list of keys, in `isopod serve` and `isopod run`. The others follow on the
/// next page.
pub(crate) const LOCAL_KEY_VALUE_PAGE_KEYS: usize = 1_000;

/// Characters of one cell of a table. The rest is replaced by an ellipsis. An event's id always
/// fits, so it can be copied.
pub(crate) const TABLE_CELL_CHARS_MAX: usize = 1_024;
