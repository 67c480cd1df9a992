//! The limits of logs, telemetry and liveness checks, each with the effect of reaching it. Never
//! holds behaviour.

use std::time::Duration;

/// Lines in the queue of the log writer, all apps together. Further lines are dropped and counted:
/// no request waits for a log.
pub(crate) const LOG_QUEUE_LINES: usize = 8192;

/// Lines of one app in the queue of the log writer. Further lines are dropped and counted, so that
/// one app's flood doesn't displace the lines of other apps.
pub(crate) const LOG_QUEUE_LINES_PER_APP: usize = 1024;

/// Bytes of the messages of one app in the queue of the log writer. Further lines are dropped and
/// counted.
pub(crate) const LOG_QUEUE_BYTES_PER_APP: usize = 8 * 1024 * 1024;

/// Bytes of the messages in the queue of the log writer, all apps together. Further lines are
/// dropped and counted.
pub(crate) const LOG_QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// How long the log writer gathers lines before it writes them, so that it wakes once for many
/// lines. A reader's request ends the wait.
pub(crate) const LOG_GATHERING_TIME: Duration = Duration::from_millis(5);

/// Queued lines of one app at which the log writer stops gathering and writes, so that a burst
/// doesn't fill the queue.
pub(crate) const LOG_GATHERED_LINES: usize = 64;

/// Bytes of a line of the host in an app's log. The rest is cut off, and the line ends with an
/// ellipsis.
pub(crate) const HOST_LINE_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a line of a guest in an app's log: the longest that `log_line` in a manifest allows,
/// with its mark. The rest, such as a long context, is cut off, and the line ends with an ellipsis.
pub(crate) const GUEST_LINE_BYTES_MAX: usize = 64 * 1024 + 64;

/// Bytes of an event's id in a line of a log. The rest is cut off, and the id ends with an
/// ellipsis.
pub(crate) const LOG_EVENT_ID_BYTES_MAX: usize = 256;

/// Bytes of a `dev` app's standard error for a failed request, as its error page shows it. The rest
/// is cut off.
pub(crate) const FAILURE_OUTPUT_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a request's path in a log line. The rest is cut off.
pub(crate) const LOG_PATH_BYTES: usize = 1024;

/// Bytes of a segment of an app's log, unless configured. Then the next segment is started.
pub(crate) const LOG_SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of all segments of one app's log, unless configured. Then the oldest segment is removed.
pub(crate) const LOG_KEPT_BYTES: u64 = 32 * 1024 * 1024;

/// The age at which a segment of a log is removed, unless configured.
pub(crate) const LOG_KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// Segments into which `kept_for` divides the log of an app that writes little. Lines are kept for
/// at most an eighth longer.
pub(crate) const LOG_SEGMENTS_BY_AGE: u32 = 8;

/// Logs per second that are checked for their age. The other logs are checked later.
pub(crate) const LOG_AGING_CHECKS_PER_SECOND: usize = 16;

/// The longest interval between two checks of all logs for their age.
pub(crate) const LOG_AGING_INTERVAL_MAX: Duration = Duration::from_secs(10 * 60);

/// Log files that the writer has open, for lines and for readers. Beyond it all are closed and
/// opened again as needed.
pub(crate) const LOG_FILES_OPEN: usize = 64;

/// Lines that a subscriber of a log may lag behind. Then it reads the missed lines from the files.
pub(crate) const LOG_FOLLOW_LINES: usize = 1024;

/// Bytes of a message that the log writer passes to subscribers. They read longer lines from the
/// file.
pub(crate) const LOG_FOLLOW_LINE_BYTES_MAX: usize = HOST_LINE_BYTES_MAX;

/// Segments of a log whose first lines are numbered for its subscribers. If more segments are begun
/// while a subscriber doesn't read, it learns that lines were skipped, but not their number.
pub(crate) const LOG_FOLLOW_SEGMENTS: usize = 1024;

/// Bytes of a log that a search for one page of lines reads before it stops. The page then has the
/// cursor at which the next search continues.
pub(crate) const LOG_SEARCH_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes of the lines of one page. Then it has fewer lines than requested, and a next page.
pub(crate) const LOG_PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of a log that a search holds in memory beside the lines that it has found.
pub(crate) const LOG_BLOCK_BYTES: u64 = 64 * 1024;

/// Bytes of a log that a subscriber reads at a time. It reads the rest once these are sent to its
/// client. No line is longer: in JSON, a message has up to six times its bytes.
pub(crate) const LOG_READ_BYTES: usize = 512 * 1024;

/// Bytes that a search by time reads, and counts, to skip a segment of lines that are too new.
pub(crate) const LOG_TIME_BYTES: u64 = 4 * 1024;

/// How far the times of neighbouring lines in a log may be out of order. A search by time skips a
/// segment only if its lines are further outside the range.
pub(crate) const LOG_TIME_SKEW_MAX: Duration = Duration::from_secs(60);

/// Reads of logs that run at a time. Others wait, up to [`LOG_READ_WAIT`]: reads from a hanging
/// disk must not occupy all threads for blocking work.
pub(crate) const LOG_READS_MAX: usize = 4;

/// Reads of one app's log that run at a time, at most half of [`LOG_READS_MAX`]. Others wait, up to
/// [`LOG_READ_WAIT`], without delaying the reads of other logs.
pub(crate) const LOG_READS_PER_APP_MAX: usize = 2;

/// Bytes of unwritten lines of one app at which the log writer writes them.
pub(crate) const LOG_FLUSH_BYTES: usize = 1024 * 1024;

/// Bytes of an app's buffer that the log writer keeps for its next lines. A larger buffer is
/// shrunk.
pub(crate) const LOG_BUFFER_KEPT_BYTES: usize = 64 * 1024;

/// Apps in a serving thread's cache of logs and counters. Beyond it the cache is cleared.
pub(crate) const ACCESS_APPS_CACHED: usize = 4096;

/// How long a reader of a log waits for the writer. Then 503: the API must respond even if the
/// log's disk hangs.
pub(crate) const LOG_READ_WAIT: Duration = Duration::from_secs(5);

/// Lines about requests in one app's log per second. Further requests are counted, and the log
/// writer reports their number: a flood of requests must not become a flood of lines.
pub(crate) const LOG_ACCESS_LINES_PER_SECOND: u32 = 1000;

/// Timeout of a host thread's response to a liveness check. Then `/livez` answers 503 and names the
/// thread. It is far longer than any single step of such a thread.
pub(crate) const LIVENESS_TIME: Duration = Duration::from_secs(5);

/// Interval at which a liveness check polls whether a busy worker thread has started its next
/// slice.
pub(crate) const LIVENESS_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Messages that the log writer handles between two flushes. The others follow after the flush,
/// which makes one write call per app.
pub(crate) const LOG_MESSAGES_PER_FLUSH_MAX: usize = 512;

/// Interval at which the log writer checks its subscribers and the age of some logs, and reports
/// lines that were left out.
pub(crate) const LOG_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest interval between two log lines about disk errors. Further lines are left out.
pub(crate) const DISK_ERROR_LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Spans that wait for the exporter of telemetry, all apps together. Further spans are dropped and
/// counted: no request waits for a collector.
pub(crate) const TELEMETRY_SPANS_QUEUED: usize = 2_048;

/// Spans of one app that wait for the exporter of telemetry. Further spans are dropped and counted,
/// so that one app's failures don't displace the spans of other apps.
pub(crate) const TELEMETRY_SPANS_QUEUED_PER_APP: usize = 512;

/// Lines of logs that wait for the exporter of telemetry, all apps together. Further lines are
/// dropped from the export and counted.
pub(crate) const TELEMETRY_LINES_QUEUED: usize = 2_048;

/// Lines of one app's log that wait for the exporter of telemetry. Further lines are dropped from
/// the export and counted, so that one app's flood doesn't displace the lines of other apps.
pub(crate) const TELEMETRY_LINES_QUEUED_PER_APP: usize = 512;

/// Bytes of the lines that wait for the exporter of telemetry, all apps together. Further lines are
/// dropped from the export and counted.
pub(crate) const TELEMETRY_LINE_BYTES_QUEUED: usize = 8 << 20;

/// Bytes of the lines of one app's log that wait for the exporter of telemetry. Further lines are
/// dropped from the export and counted.
pub(crate) const TELEMETRY_LINE_BYTES_QUEUED_PER_APP: usize = 1 << 20;

/// Spans, or lines of logs, in one request to a collector. The rest is sent in the next request.
pub(crate) const TELEMETRY_BATCH: usize = 512;

/// Bytes of lines at which a request to a collector is sent. Collectors refuse requests above a
/// limit of their own, which is 20 MiB by default.
pub(crate) const TELEMETRY_BATCH_BYTES: usize = 4 << 20;

/// Values of metrics in one request to a collector. The rest is sent in further requests, which
/// keeps a request below a collector's limit.
pub(crate) const TELEMETRY_POINTS: usize = 5_000;

/// Removed series of metrics whose start is remembered, in case that they return, as those of a
/// thawed app do. Beyond it, all are forgotten: a series that returns then restarts.
pub(crate) const TELEMETRY_SERIES_REMEMBERED: usize = 50_000;

/// How long the exporter gathers spans and lines before it sends them.
pub(crate) const TELEMETRY_GATHERING_TIME: Duration = Duration::from_secs(1);

/// Timeout of one export request; a timeout counts as a failed attempt.
pub(crate) const TELEMETRY_REQUEST_TIME: Duration = Duration::from_secs(10);

/// Attempts to send a batch. Then it is dropped and counted.
pub(crate) const TELEMETRY_ATTEMPTS: u32 = 3;

/// The pause before the second attempt to send a batch; twice as long before the third.
pub(crate) const TELEMETRY_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause before an attempt that a collector requests with `Retry-After`. A longer one
/// is shortened: meanwhile the queue fills, and further telemetry is dropped.
pub(crate) const TELEMETRY_RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// The shortest interval between two log lines about failed exports of a signal. Further failures
/// are only counted.
pub(crate) const TELEMETRY_REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Timeout of the last export when the host stops. Unsent spans and lines are then dropped and
/// counted.
pub(crate) const TELEMETRY_STOP_TIME: Duration = Duration::from_secs(3);

/// Bytes of a collector's response that are read. The connection is closed if there are more.
pub(crate) const TELEMETRY_RESPONSE_BYTES: u64 = 64 * 1024;

/// Bytes of a collector's message that the host's log shows. The rest is cut off.
pub(crate) const TELEMETRY_MESSAGE_BYTES: usize = 256;

/// Headers of each request to a collector in the host's settings. More are refused at the start.
pub(crate) const TELEMETRY_HEADERS_MAX: usize = 32;

/// Bytes of an unknown method in a span. The rest is cut off.
pub(crate) const TELEMETRY_METHOD_BYTES: usize = 64;

/// Default sampling ratio of new traces. Other requests are recorded only if they fail.
pub(crate) const TELEMETRY_SAMPLE: f64 = 0.01;

/// The interval at which metrics are exported, unless configured.
pub(crate) const TELEMETRY_INTERVAL: Duration = Duration::from_secs(15);
