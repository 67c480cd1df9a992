//! Owns every bound of the host program, each with what happens when it is reached. The bounds on what a guest or a
//! bundle may hold stand in the policy crate. Never holds behaviour.

use std::time::Duration;

/// Connections to the traffic address at one time, unless configured; fewer where the process may
/// not open so many files. Further ones wait in the kernel's backlog, or are closed if their client
/// already holds its share.
pub(crate) const TRAFFIC_CONNECTIONS_MAX: usize = 20_000;

/// Open files reserved for outbound requests, the API, the store and uploads; clients of apps can't
/// use them. At most half of all files. Half of the reserve is for guests' outbound connections, a
/// quarter for connections to the API.
pub(crate) const FILES_RESERVED: usize = 2_048;

/// Refuses to start: with fewer files to open, the store and a few clients would be in each other's way.
pub(crate) const FILES_MIN: usize = 256;

/// Connections waiting in the kernel's backlog of the traffic address. Further ones are refused by the kernel.
pub(crate) const TRAFFIC_BACKLOG: i32 = 4_096;

/// Accepts: once the host is told to stop, it takes in for so long those who are connected already, as far as the kernel
/// knows; then it closes the traffic address.
pub(crate) const ACCEPT_AFTER_STOP: Duration = Duration::from_millis(20);

/// Accepted connections on their way to one I/O thread. The acceptor waits beyond it.
pub(crate) const CONNECTIONS_HANDED_MAX: usize = 1_024;

/// How long the acceptor rests after a failed accept, so that being out of file descriptors does not spin a core.
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

/// Bytes of one request's head. More is refused with 431.
pub(crate) const HEAD_BYTES: usize = 64 * 1024;

/// Fields in one HTTP/1 request head, which is hyper's default. A head with more is answered with 431.
pub(crate) const HEAD_FIELDS: usize = 100;

/// Networks of proxies in the configuration. More are refused at start: each is compared with every
/// new client.
pub(crate) const TRUSTED_PROXIES_MAX: usize = 64;

/// How long a response body without a recipient (HEAD, 204, 304) is read after the head is sent, so
/// that its guest can finish. Then the guest is cancelled as if its client had disconnected.
pub(crate) const UNSENT_BODY_TIME: Duration = Duration::from_secs(1);

/// Requests at one time on one HTTP/2 connection. Further ones wait at the client.
pub(crate) const STREAMS_MAX: u32 = 128;

/// Interval of HTTP/2 keepalive pings.
pub(crate) const HTTP2_PING: Duration = Duration::from_secs(30);

/// TCP keepalive: idle time before the kernel's first probe, and the interval between probes. After
/// several unanswered probes the connection is closed.
pub(crate) const VANISHED_AFTER: Duration = Duration::from_secs(60);
pub(crate) const VANISHED_PROBE: Duration = Duration::from_secs(15);

/// Delay between the first and second probe of a client that has shut down its write side; it
/// doubles for each later probe. There are as many probes as bytes that can be sent ahead of a
/// response: after them, the response itself shows whether the client has disconnected.
pub(crate) const PROBE_AFTER: Duration = Duration::from_secs(1);

/// How long, and how many bytes of, incoming data are discarded after the host has shut down its
/// side of a connection. Then the socket is closed, and later bytes reset the connection.
pub(crate) const CLOSE_TIME: Duration = Duration::from_secs(1);
pub(crate) const CLOSE_BYTES_MAX: usize = 1 << 20;

/// Connections to the admin address beyond its cap, each for one liveness check. The oldest one makes room for the next.
pub(crate) const ADMIN_RESERVE: usize = 8;

/// How long a connection of the reserve may take until its request is read. Then it is closed.
pub(crate) const RESERVE_HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that an HTTP/2 connection, or one of its streams, may send before somebody reads them. Its client waits beyond
/// it. It is what the protocol begins with, since every connection may fill the host's memory by so much.
pub(crate) const TRAFFIC_WINDOW_BYTES: u32 = 65_535;

/// Bodies up to this size are read before they get an instance; larger ones stream into it.
pub(crate) const TRAFFIC_BODY_READ_FIRST: u64 = 1024 * 1024;

/// Bytes of bodies that are being read first, for one app, as far as they have come. A body that would go beyond it is
/// refused with 429: clients that send slowly must not have all of the bytes below.
pub(crate) const TRAFFIC_BODIES_BYTES: u64 = 64 << 20;

/// The same for all apps together. A body beyond it is refused with 503: anybody may send one, so it bounds what
/// strangers can make the host hold.
pub(crate) const TRAFFIC_BODIES_BYTES_ALL: u64 = 512 << 20;

/// When somebody is to come again whose body was refused by one of these bounds: most bodies are there within it.
pub(crate) const BODIES_RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long a body that is read first may take. Then 408.
pub(crate) const TRAFFIC_BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// How long, and how much of, a body is read and thrown away that nobody wants, so that its client sees the answer. Beyond
/// that the connection is closed.
pub(crate) const BODY_DRAIN_TIME: Duration = Duration::from_secs(10);
pub(crate) const BODY_DRAIN_BYTES: u64 = 256 * 1024 * 1024;

/// How long a streaming body may keep a guest waiting while others wait for the guest's place. Then 408. Without others
/// it is the time above, or half of the app's `request_timeout` if that is less.
pub(crate) const TRAFFIC_BODY_CROWDED: Duration = Duration::from_secs(2);

/// The same for a client that takes nothing of a streamed answer, whose connection is then closed. It is longer, since the
/// system asks for more only once it has got rid of a good part of what it holds for a slow line.
pub(crate) const TRAFFIC_ANSWER_CROWDED: Duration = Duration::from_secs(10);

/// Bytes of one label of a host's name, by RFC 1035. A longer one is resolved by nobody, so it is not shown.
pub(crate) const DNS_LABEL_BYTES_MAX: usize = 63;

/// How long after the first signal to stop another one is taken for the same: some programs send it to a process and to
/// its group. A later one ends the host at once.
pub(crate) const STOP_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long `isopod serve` waits for requests in progress after the first stop signal. Then they
/// are cancelled.
pub(crate) const SERVE_DRAIN: Duration = Duration::from_secs(5);

/// Connections to the admin address at one time, unless configured; fewer where the process may not
/// open so many files. Further ones are answered with 503; liveness checks are still answered.
pub(crate) const ADMIN_CONNECTIONS_MAX: usize = 512;

/// `Retry-After` for a client that this limit refused: a crowded listener soon closes idle
/// connections.
pub(crate) const CONNECTIONS_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Connections waiting in the kernel's backlog of the admin address. Further ones are refused by the kernel.
pub(crate) const ADMIN_BACKLOG: u32 = 256;

/// The same as `TRAFFIC_WINDOW_BYTES` for the API, whose uploads are large and whose connections are few.
pub(crate) const ADMIN_WINDOW_BYTES: u32 = 1 << 20;

/// How long a request body of the API may stand still. Then 408: half a body must not hold a connection for ever.
pub(crate) const ADMIN_BODY_IDLE: Duration = Duration::from_secs(15);

/// How long a whole request body of the API may take. Then 408: one byte every few seconds is no upload.
pub(crate) const ADMIN_BODY_TIME: Duration = Duration::from_secs(600);

/// Bytes of bodies that the API is reading into memory, of all callers together. One beyond it is refused with 503 before
/// anything of it is read. A body that does not say how long it is counts as the longest that it may be.
pub(crate) const API_BODIES_BYTES: u64 = 64 << 20;

/// The largest JSON or text body of the API. Larger is refused with 413: only bundles are large.
pub(crate) const JSON_BODY_BYTES: usize = 1024 * 1024;

/// The largest event in a request. Larger is refused with 413: an event is a message, not a file.
pub(crate) const EVENT_BODY_BYTES: usize = 1024 * 1024;

/// The longest name of an attribute of an event, as CloudEvents recommends. An event with a longer one is refused with 400.
pub(crate) const EVENT_ATTRIBUTE_NAME_CHARS_MAX: usize = 20;

/// The text of a failed build that is kept for showing. The rest is cut off: the end of a compiler's output matters
/// less than its beginning.
pub(crate) const BUILD_ERROR_BYTES: usize = 256 * 1024;

/// Changes that were asked of the API and are under way at one time, whether their clients are still there or not. Further
/// ones are refused with 503.
pub(crate) const CHANGES_MAX: usize = 512;

/// When somebody is to come again whose change was refused by this bound.
pub(crate) const CHANGES_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Items in one page of a list, unless the caller asks for fewer.
pub(crate) const PAGE_ITEMS_DEFAULT: u32 = 100;

/// Items in one page of a list at most. More is refused with 400, which names the cursor.
pub(crate) const PAGE_ITEMS_MAX: u32 = 1000;

/// Followers (server-sent events) at one time, all apps together. Further ones get 503: each holds a connection.
pub(crate) const SUBSCRIBERS_MAX: usize = 256;

/// Followers with one token at one time. Further ones get 429, so that one client leaves room for all others.
pub(crate) const SUBSCRIBERS_PER_TOKEN: usize = 128;

/// How often a follower without news is sent a comment, so that proxies and clients see that it is alive.
pub(crate) const FOLLOW_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Threads of the admin runtime. Work beyond them waits; traffic has threads of its own and does not.
pub(crate) const ADMIN_THREADS: usize = 2;

/// Threads for blocking work (files, hashing) of the admin runtime. Work beyond them waits.
pub(crate) const ADMIN_BLOCKING_THREADS: usize = 8;

/// Threads that drive the timers and sockets of guests on fair threads, and of guests that the API
/// and push jobs call. More work waits for them.
pub(crate) const GUEST_THREADS: usize = 1;

/// Threads for other blocking work of those guests, all apps together; file operations don't use them. Work beyond them
/// waits.
pub(crate) const GUEST_BLOCKING_THREADS: usize = 4;

/// The same for guests that run on an I/O thread, for each of these threads.
pub(crate) const IO_BLOCKING_THREADS: usize = 4;

/// Threads for the file operations of one app. Further operations of this app wait.
pub(crate) const FILE_THREADS_PER_APP: usize = 4;

/// Idle time after which such a thread ends.
pub(crate) const FILE_THREAD_IDLE: Duration = Duration::from_secs(5);

/// Runtimes for the file operations of apps, at most one per app with folders that is active. Further apps share one with
/// the fewest others, so they can delay each other's file operations. Each takes a few of the host's open files.
pub(crate) const FILE_RUNTIMES_MAX: usize = 128;

/// Push jobs that run at one time unless configured. Further ones wait as `queued`: compiling is heavy.
pub(crate) const PUSHES_PARALLEL: usize = 2;

/// Push jobs that may wait or run, all apps together, unless configured. Further ones are refused with 429.
pub(crate) const PUSHES_QUEUED_MAX: usize = 64;

/// Push jobs of one app that may wait or run. Further ones are refused with 429, so that one app can't fill the queue.
pub(crate) const PUSHES_QUEUED_PER_APP: usize = 8;

/// Uploads being received at one time. Further ones are refused with 429: each holds a file of up to the bundle's limit.
pub(crate) const UPLOADS_MAX: usize = 16;

/// How long a push job may take from its start, unless configured. Then it is `failed` with the reason `time-limit`.
pub(crate) const PUSH_TIME: Duration = Duration::from_secs(30 * 60);

/// How long a new instance may take to start and to answer its health check. Then the push fails.
pub(crate) const HEALTH_TIME: Duration = Duration::from_secs(15);

/// How often a failing health check over HTTP is asked again within `HEALTH_TIME`.
pub(crate) const HEALTH_ATTEMPTS: u32 = 3;

/// Lines of a guest's output that a push's log shows while the guest is prepared for a snapshot. Further ones are left
/// out, so that the guest can't fill the log.
pub(crate) const PREPARATION_LINES_MAX: usize = 20;

/// Lines in a push's log. Further ones are left out: a push says a dozen.
pub(crate) const PUSH_LOG_LINES_MAX: usize = 500;

/// Steps and lines of one push that wait to be stored. Further ones make the push wait.
pub(crate) const PUSH_RECORDS_WAITING: usize = 64;

/// Entries of activity that a follower may be behind. Then it skips, and is told so.
pub(crate) const ACTIVITY_FOLLOW_ENTRIES: usize = 256;

/// Apps that are brought back at one time when the host starts. Further ones wait.
pub(crate) const RESTORE_PARALLEL: usize = 4;

/// How long an app that could not be brought up for want of the host's files waits until that is tried again.
pub(crate) const BRING_UP_PAUSE: Duration = Duration::from_secs(2);

/// How long the host waits for apps to be brought back before it says that it is ready. The rest follow behind it and
/// answer 503 until then: one slow app must not keep all others from serving.
pub(crate) const RESTORE_WAIT: Duration = Duration::from_secs(60);

/// How long a stop lets requests in flight finish, unless configured. Then they are cut off.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(20);

/// How long before the end of the drain time jobs that still wait for an instance are refused with 503, so that their
/// clients get the response before connections are cut off.
pub(crate) const LAST_RESPONSES_TIME: Duration = Duration::from_millis(500);

/// After how long a client may retry a request that a stopping host has refused.
pub(crate) const STOPPING_RETRY_AFTER: Duration = Duration::from_secs(5);

/// How long a stop lets a running push job finish. Then it is `failed` with the reason `host-stopped`.
pub(crate) const PUSH_DRAIN_TIME: Duration = Duration::from_secs(5);

/// How long writing out the last log lines and closing the store may take at a stop.
pub(crate) const FLUSH_TIME: Duration = Duration::from_secs(5);

/// Lines that wait for the log writer, all apps together. Further ones are dropped and counted: nothing waits for a log.
pub(crate) const LOG_QUEUE_LINES: usize = 8192;

/// Lines of one app that wait for the log writer. Further ones are dropped and counted, so that one app's flood does
/// not cost another app its lines.
pub(crate) const LOG_QUEUE_LINES_PER_APP: usize = 1024;

/// One log line. The rest is cut off, and the line ends with an ellipsis.
pub(crate) const LOG_LINE_BYTES: usize = 8 * 1024;

/// Cuts: one line of the host's own log. What guests and bundles contribute to it is cut before.
pub(crate) const HOST_LOG_LINE_BYTES_MAX: usize = 16 * 1024;

/// Cuts: one text in a JSON line of the host's own log that is over its bound, so that the line stays JSON.
pub(crate) const HOST_LOG_VALUE_BYTES_MAX: usize = 2 * 1024;

/// Cuts: what a guest of a `dev` app wrote to standard error for the request that failed, as its page shows it.
pub(crate) const LAST_WORDS_BYTES: usize = 4 * 1024;

/// A request's path in a log line. The rest is cut off.
pub(crate) const LOG_PATH_BYTES: usize = 1024;

/// A segment of an app's log, unless configured. Then the next one is begun.
pub(crate) const LOG_SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// All segments of one app's log together, unless configured. Then the oldest one is removed.
pub(crate) const LOG_KEPT_BYTES: u64 = 32 * 1024 * 1024;

/// The age at which a segment of a log is removed, unless configured.
pub(crate) const LOG_KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// Neither: the number of segments into which `kept_for` divides the log of an app that writes
/// little. Lines are kept for at most an eighth longer.
pub(crate) const LOG_SEGMENTS_BY_AGE: u32 = 8;

/// Neither: the number of apps whose logs are checked for their age per second. The others follow
/// later.
pub(crate) const LOG_AGING_APPS_AT_ONCE: usize = 16;

/// Neither: the longest interval between two checks of all logs for their age.
pub(crate) const LOG_AGING_PAUSE_MAX: Duration = Duration::from_secs(10 * 60);

/// Log files that are open at one time. Beyond it all are closed and opened again as needed.
pub(crate) const LOG_FILES_OPEN: usize = 64;

/// Lines that a follower of a log may be behind. Then it reads the lines that it missed from the files.
pub(crate) const LOG_FOLLOW_LINES: usize = 1024;

/// Bytes of a log that a follower reads at a time. It reads the rest once these are sent to its
/// client.
pub(crate) const LOG_FOLLOW_READ_BYTES: u64 = 256 * 1024;

/// Apps whose log and counters a serving thread keeps at hand. Beyond it all are looked up again.
pub(crate) const ACCESS_APPS_CACHED: usize = 4096;

/// How long a reader of a log waits for the writer. Then 503: the log's disk may hang, and the API must not.
pub(crate) const LOG_READ_WAIT: Duration = Duration::from_secs(5);

/// Bytes of the configuration file. Larger is refused.
pub(crate) const CONFIG_BYTES: u64 = 256 * 1024;

/// Lines about requests in one app's log in one second. Further requests are counted and not listed: a flood of requests
/// must not become a flood of lines.
pub(crate) const LOG_ACCESS_LINES_PER_SECOND: u32 = 1000;

/// Releases of one app that are kept ready because somebody visits them by their own URLs. The one that was visited
/// longest ago makes room.
pub(crate) const RELEASES_VISITED_MAX: usize = 3;

/// How long a thread of the host may take to answer a liveness check. Then `/livez` answers 503 and names it. Far longer
/// than anything that such a thread does at one time.
pub(crate) const LIVENESS_TIME: Duration = Duration::from_secs(5);

/// Interval at which a liveness check polls whether a busy worker thread has begun its next turn.
pub(crate) const LIVENESS_LOOK: Duration = Duration::from_millis(10);

/// Releases loaded at one time for visitors, all apps together. Further ones wait. The limit is low
/// because anonymous requests can name any release.
pub(crate) const VISITS_LOADING_MAX: usize = 2;

/// Cold apps whose releases are loaded at one time. Further ones wait.
pub(crate) const WAKES_LOADING_MAX: usize = 8;

/// How long after a failed load for a visitor the release is not loaded again. Visitors get 503
/// meanwhile.
pub(crate) const VISIT_FAILED_FOR: Duration = Duration::from_secs(1);

/// Releases that wait to be loaded for visitors, all apps together. Visitors of further ones get 503.
pub(crate) const VISITS_WAITING: usize = 64;

/// How long the first request of a cold app waits until its release begins to be fetched. Then 503: after a start of the
/// host thousands may come at once, and its own time is known only once the release is there.
pub(crate) const WAKE_WAIT: Duration = Duration::from_secs(20);

/// Reports of process types that can't be kept going. Beyond it, who reports waits.
pub(crate) const TROUBLES_WAITING: usize = 64;

/// Connections of one app that an I/O thread goes on with before it has looked at all others that are ready: further ones
/// wait for the next round, which is there within milliseconds.
pub(crate) const TURNS_OF_AN_APP: usize = 32;

/// Connections that an I/O thread goes on with in a round in which nobody waits. The next one begins then.
pub(crate) const TURNS_PER_ROUND: usize = 256;

/// New connections that an I/O thread takes in before it has looked for other work; further ones wait for a moment.
pub(crate) const CONNECTIONS_PER_ROUND: usize = 16;

/// Activities that wait to be recorded, all apps together. Beyond it one is left out, which the host's own log says.
pub(crate) const RECORDS_WAITING: usize = 4_096;

/// Activities that are stored at once. Further ones come next.
pub(crate) const RECORDS_AT_ONCE: usize = 64;

/// How long whoever did something waits until that is recorded, which takes longer only on a slow or full disk. Then it is
/// recorded later.
pub(crate) const RECORD_WAIT: Duration = Duration::from_secs(2);

/// How long what a full disk had no room for rests until that is tried again.
pub(crate) const STORED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long an app whose minimum is 0 goes unasked before it is frozen, unless configured.
pub(crate) const FREEZE_AFTER: Duration = Duration::from_secs(60);

/// How often it is looked for apps to freeze at most; half the time after which they are, where that is shorter.
pub(crate) const FREEZE_LOOK: Duration = Duration::from_secs(5);

/// Releases of one app that wait to serve again while a newer one is watched. Beyond it the second oldest is let go.
pub(crate) const EARLIER_RELEASES_MAX: usize = 4;

/// How long after its first swap a release's crash loops take it out of service. Later ones do not: what ran well for so
/// long mostly fails for a cause outside of it.
pub(crate) const RELEASE_FRESH: Duration = Duration::from_secs(60);

/// How long a warm instance for which the host has no room is waited with before it is tried again.
pub(crate) const NO_ROOM_PAUSE: Duration = Duration::from_secs(1);

/// How long a process type that can't be kept going rests before it is tried again.
pub(crate) const CRASH_LOOP_PAUSE: Duration = Duration::from_secs(60);

/// How often an instance with a check of its own is asked whether it is well, where the process type doesn't say.
pub(crate) const HEALTH_INTERVAL: Duration = Duration::from_secs(10);

/// Failed checks in a row after which an instance is replaced, where the process type doesn't say.
pub(crate) const HEALTH_THRESHOLD: u32 = 3;

/// How long a failing health check of a new instance rests before it is asked again.
pub(crate) const HEALTH_PAUSE: Duration = Duration::from_millis(250);

/// New instances of one process type that are started at one time beside the old ones, further ones wait; and that a new
/// release has beyond its minimum before anybody asks it.
pub(crate) const SURGE_INSTANCES: usize = 4;

/// How often a new release is looked at after a swap.
pub(crate) const SWAP_LOOK: Duration = Duration::from_millis(100);

/// Earlier releases that are tried, latest first, when an app has to go back. Then it is in error.
pub(crate) const RETURN_CANDIDATES: usize = 3;

/// How often the clock is looked at for schedules even if none is near: a clock that jumped is noticed within it.
pub(crate) const SCHEDULE_LOOK: Duration = Duration::from_secs(20);

/// How long the schedules rest between two looks at least.
pub(crate) const SCHEDULE_PAUSE: Duration = Duration::from_millis(20);

/// Neither: missed runs of a schedule in a row that are recorded one by one. Further ones are counted, and recorded together
/// when the process type runs again.
pub(crate) const MISSED_RUNS_RECORDED: u32 = 10;

/// Neither: missed runs that are counted after a downtime of the host. Beyond it the record says
/// "at least".
pub(crate) const MISSED_RUNS_COUNTED: u32 = 10_000;

/// How long a change of config, formation or grants waits for a push under way. Then it is refused with 409.
pub(crate) const CHANGE_WAIT: Duration = Duration::from_secs(20);

/// Characters of an `Idempotency-Key`. Longer is refused with 400.
pub(crate) const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;

/// How often old releases, unused bundles and unused compiled code are looked for after the start.
pub(crate) const TIDY_INTERVAL: Duration = Duration::from_secs(3600);

/// How long a bundle or compiled code that nothing needs is kept since it was last written, so that a push under way
/// does not lose what it has just stored.
pub(crate) const UNUSED_KEPT_FOR: Duration = Duration::from_secs(6 * 3600);

/// How often the host checks that `control.db` is still the file that it opened. The check takes a few system calls.
pub(crate) const CONTROL_CHECK: Duration = Duration::from_secs(2);

/// How often the host looks for data of apps that was removed. Data in use is checked at each use.
pub(crate) const LOSS_CHECK: Duration = Duration::from_secs(60);

/// How often what was counted of the apps' use is added to the store.
pub(crate) const USAGE_INTERVAL: Duration = Duration::from_secs(60);

/// How often room is made for an instance, where others take it meanwhile. Then 503.
pub(crate) const ROOM_ATTEMPTS: usize = 4;

/// What a dev or staging app weighs where the CPU is short.
pub(crate) const WEIGHT_USUAL: u32 = 100;

/// What a production app weighs: it gets so much more than others where the CPU is short.
pub(crate) const WEIGHT_PRODUCTION: u32 = 400;

/// Seconds over which the throughput of a queue is taken.
pub(crate) const THROUGHPUT_SECONDS: usize = 10;

/// Half of the time over which latencies are kept: between one and two of these are shown.
pub(crate) const LATENCY_WINDOW: Duration = Duration::from_secs(30);

/// Bytes of the bodies of one queue's waiting jobs. A job beyond it is refused with 429.
pub(crate) const QUEUED_BYTES: u64 = 64 << 20;

/// Bytes of the bodies of all apps' waiting jobs. A job beyond it is refused with 429.
pub(crate) const QUEUED_BYTES_ALL: u64 = 512 << 20;

/// How often the sizes of pools are looked at, and what changed is recorded.
pub(crate) const SCALE_LOOK: Duration = Duration::from_secs(1);

/// How long changes of a pool's size are gathered into one record of the app's activity.
pub(crate) const SCALE_TOLD_EVERY: Duration = Duration::from_secs(10);

/// How often the metrics of an app are told to those who follow them.
pub(crate) const METRICS_EVERY: Duration = Duration::from_secs(1);
