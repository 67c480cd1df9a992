//! Owns the limits of the host program, each with the effect of reaching it. The policy crate owns
//! the limits of guests and bundles. Never holds behaviour.

use std::time::Duration;

/// Concurrent connections to the traffic address, unless configured; fewer if the process's limit
/// of open files is lower. Further connections wait in the kernel's backlog, or are closed if their
/// client already holds its share.
pub(crate) const TRAFFIC_CONNECTIONS_MAX: usize = 20_000;

/// Open files reserved for outbound requests, the API, the store and uploads; clients of apps can't
/// use them. At most half of all files. Half of the reserve is for guests' outbound connections, a
/// quarter for connections to the API.
pub(crate) const FILES_RESERVED: usize = 2_048;

/// The lowest limit of open files with which the host starts. With fewer, the store and a few
/// clients would compete for files.
pub(crate) const FILES_MIN: usize = 256;

/// Connections in the kernel's backlog of the traffic address. The kernel refuses further
/// connections.
pub(crate) const TRAFFIC_BACKLOG: i32 = 4_096;

/// How long after a stop signal the host still accepts connections that the kernel has already
/// completed. Then it closes the traffic address.
pub(crate) const ACCEPT_AFTER_STOP: Duration = Duration::from_millis(20);

/// Accepted connections in the channel to one I/O thread. When it is full, the acceptor waits.
pub(crate) const CONNECTIONS_HANDED_MAX: usize = 1_024;

/// Pause of the acceptor after a failed accept, so that a lack of file descriptors doesn't cause a
/// busy loop.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Idle timeout of a connection between two requests, unless configured. Then it is closed, once
/// nothing is readable. Load balancers keep connections for 60 s and more, and must be the first to
/// close them.
pub(crate) const CONNECTION_IDLE: Duration = Duration::from_secs(75);

/// Timeout of a request's head from its first byte, and of a new connection until its first
/// request, unless configured. Then 408, or the connection is closed if nothing was sent. On a
/// crowded listener this is also the idle timeout.
pub(crate) const CONNECTION_HEAD: Duration = Duration::from_secs(10);

/// The age at which GOAWAY is sent on an HTTP/2 connection, unless configured. Requests in progress
/// are finished.
pub(crate) const CONNECTION_AGE: Duration = Duration::from_secs(3600);

/// How long bytes of a response wait for a client that doesn't read, unless configured. Then the
/// connection is reset. On a crowded listener, the head timeout applies instead.
pub(crate) const CONNECTION_WRITE: Duration = Duration::from_secs(60);

/// Bytes of one request's head. More is refused with 431.
pub(crate) const HEAD_BYTES: usize = 64 * 1024;

/// Fields in one HTTP/1 request head, which is hyper's default. A head with more is refused with
/// 431.
pub(crate) const HEAD_FIELDS: usize = 100;

/// Networks of proxies in the configuration. More are refused at start: each is compared with every
/// new client.
pub(crate) const TRUSTED_PROXIES_MAX: usize = 64;

/// How long a response body without a recipient (HEAD, 204, 304) is read after the head is sent, so
/// that its guest can finish. Then the guest is cancelled as if its client had disconnected.
pub(crate) const UNSENT_BODY_TIME: Duration = Duration::from_secs(1);

/// Concurrent requests on one HTTP/2 connection. Further requests wait at the client.
pub(crate) const STREAMS_MAX: u32 = 128;

/// Interval of HTTP/2 keepalive pings.
pub(crate) const HTTP2_PING: Duration = Duration::from_secs(30);

/// TCP keepalive: idle time before the kernel's first probe, and the interval between probes. After
/// several unanswered probes the connection is closed.
pub(crate) const VANISHED_AFTER: Duration = Duration::from_secs(60);
pub(crate) const VANISHED_PROBE: Duration = Duration::from_secs(15);

/// Delay between the first and second probe of a client that has shut down its write side; it
/// doubles for each later probe. Each probe sends one byte ahead of the response. After the last
/// byte, the response itself shows whether the client has disconnected.
pub(crate) const PROBE_AFTER: Duration = Duration::from_secs(1);

/// Time and bytes of incoming data that are discarded after the host has shut down its side of a
/// connection. Then the socket is closed, and later bytes reset the connection.
pub(crate) const CLOSE_TIME: Duration = Duration::from_secs(1);
pub(crate) const CLOSE_BYTES_MAX: usize = 1 << 20;

/// Connections to the admin address beyond its cap, each for one liveness check. A further
/// connection evicts the oldest.
pub(crate) const ADMIN_RESERVE: usize = 8;

/// Timeout of a reserved connection until its request is read. Then it is closed.
pub(crate) const RESERVE_HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// HTTP/2 flow-control window: unread bytes of one connection or stream. Beyond it the client
/// waits. It is the protocol's initial value, since every connection may fill that much of the
/// host's memory.
pub(crate) const TRAFFIC_WINDOW_BYTES: u32 = 65_535;

/// Bodies up to this size are buffered before an instance is leased; larger bodies stream into it.
pub(crate) const TRAFFIC_BODY_READ_FIRST: u64 = 1024 * 1024;

/// Received bytes of one app's bodies that are being buffered. A body beyond it is refused with
/// 429: slow clients of one app must not use up the budget of all apps.
pub(crate) const TRAFFIC_BODIES_BYTES: u64 = 64 << 20;

/// The same for all apps together. A body beyond it is refused with 503. It bounds the memory that
/// anonymous clients can make the host use.
pub(crate) const TRAFFIC_BODIES_BYTES_ALL: u64 = 512 << 20;

/// `Retry-After` of a body that these limits refused: most bodies arrive within it.
pub(crate) const BODIES_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Timeout of a body that is buffered. Then 408.
pub(crate) const TRAFFIC_BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// Time and bytes for draining an unread body, so that its client sees the response. Beyond them
/// the connection is closed.
pub(crate) const BODY_DRAIN_TIME: Duration = Duration::from_secs(10);
pub(crate) const BODY_DRAIN_BYTES: u64 = 256 * 1024 * 1024;

/// Idle timeout of a streaming body while other requests wait for the guest's slot. Then 408.
/// Without waiting requests it is `TRAFFIC_BODY_TIMEOUT`, or half of the app's `request_timeout` if
/// that is less.
pub(crate) const TRAFFIC_BODY_CROWDED: Duration = Duration::from_secs(2);

/// The same for a client that doesn't read a streamed response; then its connection is closed. It
/// is longer, since the kernel accepts more bytes only after a slow client has read a large part of
/// the send buffer.
pub(crate) const TRAFFIC_RESPONSE_CROWDED: Duration = Duration::from_secs(10);

/// Bytes of one label of a host name, by RFC 1035. A URL with a longer label can't be resolved, so
/// it isn't shown.
pub(crate) const DNS_LABEL_BYTES_MAX: usize = 63;

/// Time after the first stop signal in which further signals are ignored: some programs send the
/// signal to a process and to its group. A later signal ends the host immediately.
pub(crate) const STOP_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long `isopod serve` waits for requests in progress after the first stop signal. Then they
/// are cancelled.
pub(crate) const SERVE_DRAIN: Duration = Duration::from_secs(5);

/// Concurrent connections to the admin address, unless configured; fewer if the process's limit of
/// open files is lower. Further connections are refused with 503, except for liveness checks.
pub(crate) const ADMIN_CONNECTIONS_MAX: usize = 512;

/// `Retry-After` for a client that this limit refused: a crowded listener soon closes idle
/// connections.
pub(crate) const CONNECTIONS_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Connections in the kernel's backlog of the admin address. The kernel refuses further
/// connections.
pub(crate) const ADMIN_BACKLOG: u32 = 256;

/// The same as `TRAFFIC_WINDOW_BYTES` for the API, which has large uploads and few connections.
pub(crate) const ADMIN_WINDOW_BYTES: u32 = 1 << 20;

/// Idle timeout of a request body of the API. Then 408: an incomplete body must not hold a
/// connection forever.
pub(crate) const ADMIN_BODY_IDLE: Duration = Duration::from_secs(15);

/// Timeout of a whole request body of the API. Then 408: the idle timeout doesn't stop a client
/// that sends one byte every few seconds.
pub(crate) const ADMIN_BODY_TIME: Duration = Duration::from_secs(600);

/// Bytes of all bodies that the API is reading into memory. A body beyond it is refused with 503
/// before it is read. A body without a length counts with its limit.
pub(crate) const API_BODIES_BYTES: u64 = 64 << 20;

/// The largest JSON or text body of the API. Larger is refused with 413: only bundles are large.
pub(crate) const JSON_BODY_BYTES: usize = 1024 * 1024;

/// The largest event in a request. Larger is refused with 413: an event is a message, not a file.
pub(crate) const EVENT_BODY_BYTES: usize = 1024 * 1024;

/// Characters of the name of an event's attribute, as CloudEvents recommends. An event with a
/// longer name is refused with 400.
pub(crate) const EVENT_ATTRIBUTE_NAME_CHARS_MAX: usize = 20;

/// Bytes of a failed build's output that the build page shows. The rest is cut off: the beginning
/// of a compiler's output matters most.
pub(crate) const BUILD_ERROR_BYTES: usize = 256 * 1024;

/// Concurrent API mutations, including those of disconnected clients. Further mutations are refused
/// with 503.
pub(crate) const CHANGES_MAX: usize = 512;

/// `Retry-After` of a mutation that this limit refused.
pub(crate) const CHANGES_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Items in one page of a list, unless the caller asks for fewer.
pub(crate) const PAGE_ITEMS_DEFAULT: u32 = 100;

/// The maximum number of items in one page of a list. More is refused with 400, which names the
/// cursor.
pub(crate) const PAGE_ITEMS_MAX: u32 = 1000;

/// Subscribers of event streams (server-sent events), all apps together. Further streams get 503:
/// each holds a connection.
pub(crate) const SUBSCRIBERS_MAX: usize = 256;

/// Subscribers with one token. Further streams get 429, so that a single client can't take all
/// permits.
pub(crate) const SUBSCRIBERS_PER_TOKEN: usize = 128;

/// Interval at which an idle event stream sends a comment, so that proxies and clients see that the
/// connection is alive.
pub(crate) const FOLLOW_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Threads of the admin runtime. Further work waits; traffic has its own threads.
pub(crate) const ADMIN_THREADS: usize = 2;

/// Threads for blocking work (files, hashing) of the admin runtime. Further work waits.
pub(crate) const ADMIN_BLOCKING_THREADS: usize = 8;

/// Threads that drive the timers and sockets of guests on worker threads, and of guests that the
/// API and push jobs call. Further work waits.
pub(crate) const GUEST_THREADS: usize = 1;

/// Threads for other blocking work of those guests, all apps together; file operations don't use
/// them. Further work waits.
pub(crate) const GUEST_BLOCKING_THREADS: usize = 4;

/// The same for guests that run on an I/O thread, for each of these threads.
pub(crate) const IO_BLOCKING_THREADS: usize = 4;

/// Threads for the file operations of one app. Further operations of this app wait.
pub(crate) const FILE_THREADS_PER_APP: usize = 4;

/// Idle time after which such a thread ends.
pub(crate) const FILE_THREAD_IDLE: Duration = Duration::from_secs(5);

/// Runtimes for the file operations of apps, at most one for each active app with folders. A
/// further app shares the runtime with the fewest apps, so these can delay each other's file
/// operations. Each runtime uses a few of the host's open files.
pub(crate) const FILE_RUNTIMES_MAX: usize = 128;

/// Push jobs that run concurrently, unless configured. Further jobs wait as `queued`: compiling
/// uses much CPU and memory.
pub(crate) const PUSHES_PARALLEL: usize = 2;

/// Waiting and running push jobs, all apps together, unless configured. Further jobs are refused
/// with 429.
pub(crate) const PUSHES_QUEUED_MAX: usize = 64;

/// Waiting and running push jobs of one app. Further jobs are refused with 429, so that a single
/// app can't fill the queue.
pub(crate) const PUSHES_QUEUED_PER_APP: usize = 8;

/// Concurrent uploads. Further uploads are refused with 429: each holds a file of up to the
/// bundle's limit.
pub(crate) const UPLOADS_MAX: usize = 16;

/// Timeout of a push job from its start, unless configured. Then it is `failed` with the reason
/// `time-limit`.
pub(crate) const PUSH_TIME: Duration = Duration::from_secs(30 * 60);

/// Timeout of a new instance to start and to pass its health check. Then the push fails.
pub(crate) const HEALTH_TIME: Duration = Duration::from_secs(15);

/// Failed health checks after which a new instance counts as unhealthy, once its grace period is
/// over. Then the push fails.
pub(crate) const HEALTH_ATTEMPTS: u32 = 3;

/// Lines of a guest's output in a push's log while the guest is prepared for a snapshot. Further
/// lines are left out, so that the guest can't fill the log.
pub(crate) const PREPARATION_LINES_MAX: usize = 20;

/// Lines in a push's log. Further lines are left out: a usual push writes a dozen.
pub(crate) const PUSH_LOG_LINES_MAX: usize = 500;

/// Steps and lines of one push that wait to be stored. When the queue is full, the push waits.
pub(crate) const PUSH_RECORDS_WAITING: usize = 64;

/// Activities that a subscriber may lag behind. Then the stream skips some, and says so.
pub(crate) const ACTIVITY_FOLLOW_ENTRIES: usize = 256;

/// Apps that are restored concurrently when the host starts. Further apps wait.
pub(crate) const RESTORE_PARALLEL: usize = 4;

/// Pause before the host retries to restore an app that failed for lack of open files.
pub(crate) const BRING_UP_PAUSE: Duration = Duration::from_secs(2);

/// How long the host waits for apps to be restored before it reports that it is ready. The others
/// are restored afterwards and answer 503 until then: one slow app must not delay all others.
pub(crate) const RESTORE_WAIT: Duration = Duration::from_secs(60);

/// Drain time of requests in progress at a stop, unless configured. Then they are cut off.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(20);

/// How long before the end of the drain time jobs that still wait for a slot are refused with 503,
/// so that their clients get the response before connections are cut off.
pub(crate) const LAST_RESPONSES_TIME: Duration = Duration::from_millis(500);

/// `Retry-After` of a request that a stopping host has refused.
pub(crate) const STOPPING_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Drain time of a running push job at a stop. Then it is `failed` with the reason `host-stopped`.
pub(crate) const PUSH_DRAIN_TIME: Duration = Duration::from_secs(5);

/// Timeout for writing the last log lines and for closing the store at a stop. Then the host exits.
pub(crate) const FLUSH_TIME: Duration = Duration::from_secs(5);

/// Lines in the queue of the log writer, all apps together. Further lines are dropped and counted:
/// no request waits for a log.
pub(crate) const LOG_QUEUE_LINES: usize = 8192;

/// Lines of one app in the queue of the log writer. Further lines are dropped and counted, so that
/// one app's flood doesn't displace the lines of other apps.
pub(crate) const LOG_QUEUE_LINES_PER_APP: usize = 1024;

/// Bytes of one log line. The rest is cut off, and the line ends with an ellipsis.
pub(crate) const LOG_LINE_BYTES: usize = 8 * 1024;

/// Bytes of one line of the host's own log. The rest is cut off. Texts from guests and bundles are
/// cut earlier.
pub(crate) const HOST_LOG_LINE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of each text in an overlong JSON line of the host's own log. The rest is cut off, so that
/// the line stays valid JSON.
pub(crate) const HOST_LOG_VALUE_BYTES_MAX: usize = 2 * 1024;

/// Bytes of a `dev` app's standard error for a failed request, as its error page shows it. The rest
/// is cut off.
pub(crate) const LAST_WORDS_BYTES: usize = 4 * 1024;

/// Bytes of a request's path in a log line. The rest is cut off.
pub(crate) const LOG_PATH_BYTES: usize = 1024;

/// Bytes of a segment of an app's log, unless configured. Then the next segment is started.
pub(crate) const LOG_SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of all segments of one app's log, unless configured. Then the oldest segment is removed.
pub(crate) const LOG_KEPT_BYTES: u64 = 32 * 1024 * 1024;

/// The age at which a segment of a log is removed, unless configured.
pub(crate) const LOG_KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// Neither: the number of segments into which `kept_for` divides the log of an app that writes
/// little. Lines are kept for at most an eighth longer.
pub(crate) const LOG_SEGMENTS_BY_AGE: u32 = 8;

/// Neither: the number of logs that are checked for their age per second. The others follow later.
pub(crate) const LOG_AGING_APPS_AT_ONCE: usize = 16;

/// Neither: the longest interval between two checks of all logs for their age.
pub(crate) const LOG_AGING_PAUSE_MAX: Duration = Duration::from_secs(10 * 60);

/// Log files that are open concurrently. Beyond it all are closed and opened again as needed.
pub(crate) const LOG_FILES_OPEN: usize = 64;

/// Lines that a subscriber of a log may lag behind. Then it reads the missed lines from the files.
pub(crate) const LOG_FOLLOW_LINES: usize = 1024;

/// Bytes of a log that a subscriber reads at a time. It reads the rest once these are sent to its
/// client.
pub(crate) const LOG_FOLLOW_READ_BYTES: u64 = 256 * 1024;

/// Apps in a serving thread's cache of logs and counters. Beyond it the cache is cleared.
pub(crate) const ACCESS_APPS_CACHED: usize = 4096;

/// How long a reader of a log waits for the writer. Then 503: the API must respond even if the
/// log's disk hangs.
pub(crate) const LOG_READ_WAIT: Duration = Duration::from_secs(5);

/// Bytes of the configuration file. Larger is refused.
pub(crate) const CONFIG_BYTES: u64 = 256 * 1024;

/// Lines about requests in one app's log per second. Further requests are only counted: a flood of
/// requests must not become a flood of lines.
pub(crate) const LOG_ACCESS_LINES_PER_SECOND: u32 = 1000;

/// Loaded previews of one app. A further preview evicts the least recently visited one.
pub(crate) const PREVIEWS_MAX: usize = 3;

/// Timeout of a host thread's response to a liveness check. Then `/livez` answers 503 and names the
/// thread. It is far longer than any single step of such a thread.
pub(crate) const LIVENESS_TIME: Duration = Duration::from_secs(5);

/// Interval at which a liveness check polls whether a busy worker thread has started its next
/// slice.
pub(crate) const LIVENESS_LOOK: Duration = Duration::from_millis(10);

/// Releases that are loaded concurrently for previews, all apps together. Further releases wait.
/// The limit is low because anonymous requests can name any release.
pub(crate) const PREVIEWS_LOADING_MAX: usize = 2;

/// Releases of cold apps that are loaded concurrently. Further releases wait.
pub(crate) const COLD_RELEASES_LOADING_MAX: usize = 8;

/// Pause after a failed load for a preview before the release is loaded again. Previews get 503
/// meanwhile.
pub(crate) const PREVIEW_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Releases that wait to be loaded for previews, all apps together. Previews of further releases
/// get 503.
pub(crate) const PREVIEWS_QUEUED_MAX: usize = 64;

/// How long the first request of a cold app waits until its release starts to load. Then 503: after
/// a start of the host thousands may arrive at once, and a request's own timeout is known only once
/// its release is loaded.
pub(crate) const COLD_LOAD_WAIT: Duration = Duration::from_secs(20);

/// Commands in the queue of an app's task. When it is full, further callers wait.
pub(crate) const APP_COMMANDS_WAITING: usize = 32;

/// Crash reports in the queue to the control plane. When it is full, the supervisor waits.
pub(crate) const TROUBLES_WAITING: usize = 64;

/// Connections of one app that an I/O thread admits in one round. Further connections are enqueued
/// for the next round, which starts within milliseconds.
pub(crate) const ADMISSIONS_PER_APP: usize = 32;

/// Connections that an I/O thread admits in a round with empty queues. Then the next round starts.
pub(crate) const ADMISSIONS_PER_ROUND: usize = 256;

/// New connections that an I/O thread receives before it polls other tasks. Further connections
/// wait in the channel.
pub(crate) const CONNECTIONS_PER_ROUND: usize = 16;

/// Activities in the queue to the store, all apps together. A further activity is dropped, and the
/// host's own log says so.
pub(crate) const RECORDS_WAITING: usize = 4_096;

/// Activities in one write to the store. Further activities follow in the next write.
pub(crate) const RECORDS_AT_ONCE: usize = 64;

/// How long an action waits until its activity is stored, which takes longer only on a slow or full
/// disk. Then the activity is stored later.
pub(crate) const RECORD_WAIT: Duration = Duration::from_secs(2);

/// Pause before a write that failed on a full disk is retried.
pub(crate) const STORED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Idle time before an app with `min = 0` is frozen, unless configured.
pub(crate) const FREEZE_AFTER: Duration = Duration::from_secs(60);

/// The longest interval between two checks for idle apps; half of the idle time if that is shorter.
pub(crate) const FREEZE_LOOK: Duration = Duration::from_secs(5);

/// Standby releases of one app while the rollout watch observes a newer release. Beyond it the
/// second oldest is dropped.
pub(crate) const EARLIER_RELEASES_MAX: usize = 4;

/// How long after its first swap a crash loop takes a release out of service. Later crash loops
/// don't: a release that was healthy for this time mostly fails for an external cause.
pub(crate) const RELEASE_FRESH: Duration = Duration::from_secs(60);

/// Pause before the supervisor retries to start a warm instance that found no free slot or memory.
pub(crate) const NO_ROOM_PAUSE: Duration = Duration::from_secs(1);

/// Pause before the supervisor restarts a process type that crashes in a loop.
pub(crate) const CRASH_LOOP_PAUSE: Duration = Duration::from_secs(60);

/// Interval of an instance's health check, unless the process type sets an interval.
pub(crate) const HEALTH_INTERVAL: Duration = Duration::from_secs(10);

/// Consecutive failed health checks after which an instance is replaced, unless the process type
/// sets a number.
pub(crate) const HEALTH_THRESHOLD: u32 = 3;

/// Pause before a failing health check of a new instance is retried.
pub(crate) const HEALTH_PAUSE: Duration = Duration::from_millis(250);

/// New instances of one process type that start concurrently beside the old instances; further
/// starts wait. Also the number of instances beyond its minimum that a new release has before its
/// first request.
pub(crate) const SURGE_INSTANCES: usize = 4;

/// Interval at which the rollout watch checks a new release after a swap.
pub(crate) const SWAP_LOOK: Duration = Duration::from_millis(100);

/// Earlier releases that an automatic rollback tries, latest first. Then the app is in error.
pub(crate) const RETURN_CANDIDATES: usize = 3;

/// The longest interval between two checks of the clock for schedules: a jump of the clock is
/// detected within it.
pub(crate) const SCHEDULE_LOOK: Duration = Duration::from_secs(20);

/// The shortest interval between two checks of the schedules.
pub(crate) const SCHEDULE_PAUSE: Duration = Duration::from_millis(20);

/// Neither: consecutive missed runs of a schedule that are recorded one by one. Further runs are
/// counted, and recorded together when the process type runs again.
pub(crate) const MISSED_RUNS_RECORDED: u32 = 10;

/// Neither: missed runs that are counted after a downtime of the host. Beyond it the record says
/// "at least".
pub(crate) const MISSED_RUNS_COUNTED: u32 = 10_000;

/// How long a change of config, formation or grants waits for a running push. Then it is refused
/// with 409.
pub(crate) const CHANGE_WAIT: Duration = Duration::from_secs(20);

/// Characters of an `Idempotency-Key`. Longer is refused with 400.
pub(crate) const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;

/// Interval at which gc looks for old releases, unused bundles and unused compiled code after the
/// start.
pub(crate) const TIDY_INTERVAL: Duration = Duration::from_secs(3600);

/// How long gc keeps an unused bundle or unused compiled code after the last write, so that a
/// running push doesn't lose the files that it has just stored.
pub(crate) const UNUSED_KEPT_FOR: Duration = Duration::from_secs(6 * 3600);

/// How often the host checks that `control.db` is still the file that it opened. The check takes a
/// few system calls.
pub(crate) const CONTROL_CHECK: Duration = Duration::from_secs(2);

/// Interval at which the host checks whether data of apps was removed. Data in use is checked at
/// each use.
pub(crate) const LOSS_CHECK: Duration = Duration::from_secs(60);

/// Interval at which the counters of the apps' usage are added to the store.
pub(crate) const USAGE_INTERVAL: Duration = Duration::from_secs(60);

/// Attempts to evict an instance for a new instance while other jobs take the freed slots. Then
/// 503.
pub(crate) const EVICTION_ATTEMPTS: usize = 4;

/// Weight of a dev or staging app when the CPU is contended.
pub(crate) const WEIGHT_DEFAULT: u32 = 100;

/// Weight of a production app when the CPU is contended.
pub(crate) const WEIGHT_PRODUCTION: u32 = 400;

/// Seconds over which the throughput of a queue is measured.
pub(crate) const THROUGHPUT_SECONDS: usize = 10;

/// Half of the time over which latencies are kept: percentiles cover between one and two windows.
pub(crate) const LATENCY_WINDOW: Duration = Duration::from_secs(30);

/// Bytes of the bodies of one queue's waiting jobs. A job beyond it is refused with 429.
pub(crate) const QUEUED_BYTES: u64 = 64 << 20;

/// Bytes of the bodies of all apps' waiting jobs. A job beyond it is refused with 429.
pub(crate) const QUEUED_BYTES_ALL: u64 = 512 << 20;

/// Interval at which the scaler checks the sizes of pools and records changes.
pub(crate) const SCALE_LOOK: Duration = Duration::from_secs(1);

/// Time in which changes of a pool's size are combined into one activity.
pub(crate) const SCALE_RECORD_INTERVAL: Duration = Duration::from_secs(10);

/// Interval of the metrics in an event stream.
pub(crate) const METRICS_INTERVAL: Duration = Duration::from_secs(1);
