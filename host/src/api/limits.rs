//! The limits of the API, each with the effect of reaching it. Never holds behaviour.

use std::time::Duration;

/// Connections to the admin address beyond its cap, each for one liveness check. A further
/// connection evicts the oldest.
pub(crate) const ADMIN_RESERVE: usize = 8;

/// Bytes of one label of a host name, by RFC 1035. A URL with a longer label can't be resolved, so
/// it isn't shown.
pub(crate) const DNS_LABEL_BYTES_MAX: usize = 63;

/// Concurrent connections to the admin address, unless configured; fewer if the process's limit of
/// open files is lower. Further connections are refused with 503, except for liveness checks.
pub(crate) const ADMIN_CONNECTIONS_MAX: usize = 512;

/// `Retry-After` of a refused connection: a crowded listener soon closes idle connections.
pub(crate) const CONNECTIONS_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Further host names of the admin address in the host's settings. A longer list is refused at the
/// start, since each request of a browser is compared with the whole list.
pub(crate) const ADMIN_NAMES_MAX: usize = 64;

/// Connections in the kernel's backlog of the admin address. The kernel refuses further
/// connections.
pub(crate) const ADMIN_BACKLOG: u32 = 256;

/// HTTP/2 flow-control window of the API. It is larger than `TRAFFIC_WINDOW_BYTES`, since the API
/// has large uploads and few connections.
pub(crate) const ADMIN_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes of a request body of the API that must arrive within `ADMIN_BODY_PART_TIME`: each such
/// part of the body, and its rest. Otherwise 408: a slow body must not hold its permits.
pub(crate) const ADMIN_BODY_PART_BYTES: u64 = 128 << 10;

/// Timeout of each `ADMIN_BODY_PART_BYTES` of a request body of the API, and of its rest. Then 408.
pub(crate) const ADMIN_BODY_PART_TIME: Duration = Duration::from_secs(15);

/// Timeout of a whole request body of the API. Then 408.
pub(crate) const ADMIN_BODY_TIME: Duration = Duration::from_secs(600);

/// Received bytes of all bodies that the API is reading into memory. A body beyond it is refused
/// with 503.
pub(crate) const API_BODIES_BYTES: u64 = 64 << 20;

/// Received bytes of one token's bodies that the API is reading into memory. A body beyond it is
/// refused with 429, so that a single client can't use up the budget of all.
pub(crate) const API_BODIES_BYTES_PER_TOKEN: u64 = API_BODIES_BYTES / 2;

/// The largest JSON or text body of the API. A larger one is refused with 413: only bundles are
/// large.
pub(crate) const JSON_BODY_BYTES: usize = 1024 * 1024;

/// The largest event in a request. A larger one is refused with 413: an event is a message, not a
/// file.
pub(crate) const EVENT_BODY_BYTES: usize = 1024 * 1024;

/// The largest batch of events in one request, a JSON array. A larger batch is refused with 413.
/// NDJSON is read line by line and needs no such limit.
pub(crate) const EVENT_BATCH_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Events of a broadcast that are stored in one transaction. The host continues to read the body
/// once they are stored.
pub(crate) const BROADCAST_BATCH_EVENTS: usize = 1_000;

/// Bytes of the events of a broadcast that are stored in one transaction, as text. A batch is
/// stored before an event would exceed this. With the store's overhead for each event, this is
/// within the limit of one transaction.
pub(crate) const BROADCAST_BATCH_BYTES: usize = 7 << 20;

/// `Retry-After` of an event for a full queue.
pub(crate) const EVENT_QUEUE_RETRY_AFTER: Duration = Duration::from_secs(10);

/// Bytes of a failed build's output that the build page shows. The rest is cut off: the beginning
/// of a compiler's output matters most.
pub(crate) const BUILD_ERROR_BYTES: usize = 256 * 1024;

/// Concurrent API mutations, including those of disconnected clients. Further mutations are refused
/// with 503.
pub(crate) const CHANGES_MAX: u64 = 512;

/// Concurrent API mutations with one token. Further mutations get 429, so that a single client
/// can't take all permits.
pub(crate) const CHANGES_PER_TOKEN: u64 = CHANGES_MAX / 2;

/// `Retry-After` of a mutation that was refused because of `CHANGES_MAX` or `CHANGES_PER_TOKEN`.
pub(crate) const CHANGES_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Items in one page of a list, unless the caller asks for fewer.
pub(crate) const PAGE_ITEMS_DEFAULT: u32 = 100;

/// The maximum number of items in one page of a list. A larger `limit` is refused with 400, which
/// names the cursor.
pub(crate) const PAGE_ITEMS_MAX: u32 = 1000;

/// Alerts in a response. The response has the number of all, which a failure of a shared resource
/// may multiply by the number of apps.
pub(crate) const ALERTS_SHOWN_MAX: usize = 1000;

/// Subscribers of event streams (server-sent events), all apps together. Further streams get 503:
/// each holds one of `ADMIN_CONNECTIONS_MAX` connections, and other requests need the rest.
pub(crate) const SUBSCRIBERS_MAX: u64 = 384;

/// Subscribers with one token. Further streams get 429, so that a single client can't take all
/// permits. A dashboard uses one stream for each open page.
pub(crate) const SUBSCRIBERS_PER_TOKEN: u64 = 256;

/// Interval at which an idle event stream sends a comment, so that proxies and clients see that the
/// connection is alive.
pub(crate) const FOLLOW_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Characters of an `Idempotency-Key`. A longer key is refused with 400.
pub(crate) const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;

/// Interval of the metrics in an event stream.
pub(crate) const METRICS_INTERVAL: Duration = Duration::from_secs(1);

/// Interval of the metrics of all active apps in an event stream. The streams of a token, and those
/// of all tokens for all apps, share each measurement.
pub(crate) const ALL_METRICS_INTERVAL: Duration = Duration::from_secs(2);

/// Bytes of the log lines that wait for the client of a page's event stream. Beyond it the oldest
/// lines are dropped, and the client receives their number: a page shows the newest lines. Lines
/// that were stored before the client connected wait for it instead.
pub(crate) const STREAM_UNSENT_LOG_BYTES: usize = 256 << 10;

/// The first pause before a page's event stream reads a topic again that could not be read. The
/// pauses double.
pub(crate) const STREAM_RETRY_FIRST: Duration = Duration::from_secs(1);

/// The longest pause before a page's event stream reads a topic again that could not be read.
pub(crate) const STREAM_RETRY_MAX: Duration = Duration::from_secs(30);

/// How long a request for the metrics of one app waits for the numbers of its stored events. Then
/// the response has the last known numbers.
pub(crate) const METRICS_QUEUE_TIME: Duration = Duration::from_millis(500);

/// Bytes of the file with the administrator's token. The rest is not read.
pub(crate) const TOKEN_FILE_BYTES_MAX: u64 = 4096;

/// Interval at which the last uses of tokens are stored, in one transaction. A crash loses the uses
/// since then.
pub(crate) const TOKEN_USES_INTERVAL: Duration = Duration::from_secs(60);

/// How long a stop waits until the last uses of tokens and the refused calls are stored. Those that
/// are not stored by then are lost.
pub(crate) const TOKEN_USES_STOP_TIME: Duration = Duration::from_secs(2);

/// The longest interval between two checks for expired tokens. Each check also detects a changed
/// clock.
pub(crate) const TOKEN_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The grace period of a rotation. A longer one is refused with 422: the former secret may be known
/// to others.
pub(crate) const TOKEN_GRACE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Interval at which the refused calls are stored, as one entry of the audit trail per token. A
/// crash loses the calls since then.
pub(crate) const REFUSED_CALLS_INTERVAL: Duration = Duration::from_secs(60);

/// Tokens whose refused calls are counted at a time. The calls of further tokens are left out of
/// the audit trail: a host has fewer tokens.
pub(crate) const REFUSED_TOKENS_MAX: usize = 2_000;

/// Addresses that an entry about refused calls shows. Further ones are left out.
pub(crate) const REFUSED_ADDRESSES_SHOWN: usize = 5;

/// Bytes of the path that an entry about refused calls shows. The rest is cut off.
pub(crate) const REFUSED_PATH_SHOWN_BYTES: usize = 200;

/// Failed requests (5xx) in the host's own log per `FAILURES_LOGGED_WINDOW`. Further ones are left
/// out, after a line that says so.
pub(crate) const FAILURES_LOGGED_PER_WINDOW: u32 = 20;
/// The window of `FAILURES_LOGGED_PER_WINDOW`.
pub(crate) const FAILURES_LOGGED_WINDOW: Duration = Duration::from_secs(10);
/// Dead letters that one transaction of a redrive or a deletion changes.
pub(crate) const DEAD_LETTERS_PER_STEP: usize = 1_000;

/// Interval after which the public status page is rendered again. Clients get the last page until
/// then: anyone may read it.
pub(crate) const STATUS_PAGE_INTERVAL: Duration = Duration::from_secs(2);

/// Apps on the public status page. Further apps are only counted; those that are down come first.
pub(crate) const STATUS_PAGE_APPS_MAX: usize = 200;

/// Patterns of apps on the public status page. Settings with more are refused.
pub(crate) const STATUS_PATTERNS_MAX: usize = 256;

/// Characters of the title of the public status page. Settings with a longer one are refused.
pub(crate) const STATUS_TITLE_CHARS_MAX: usize = 100;

/// Bytes of a text to search for in a log. A longer text is refused.
pub(crate) const LOG_SEARCH_TEXT_BYTES_MAX: usize = 1024;

/// Bytes of the token in `x-isopod-timing`. A longer one is ignored.
pub(crate) const TIMING_TOKEN_BYTES_MAX: usize = 256;
