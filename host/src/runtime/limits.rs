//! The limits of instances, queues and bodies, each with the effect of reaching it. Never holds
//! behaviour.

use std::time::Duration;

/// Bytes of one app's request bodies that are being buffered, or that its middlewares hold. A body
/// beyond it is refused with 429: slow clients of one app must not use up the budget of all apps.
pub(crate) const TRAFFIC_BODIES_BYTES: u64 = 64 << 20;

/// Bytes of one client's request bodies that are being buffered for one app, or that its
/// middlewares hold. A body beyond it is refused with 429: a single slow client must not use up the
/// budget of an app.
pub(crate) const TRAFFIC_BODIES_BYTES_PER_CLIENT: u64 = TRAFFIC_BODIES_BYTES / 2;

/// Bytes of all apps' request bodies that are being buffered, or that middlewares hold. A body
/// beyond it is refused with 503. The limit bounds the memory that anonymous clients can make the
/// host use.
pub(crate) const TRAFFIC_BODIES_BYTES_ALL: u64 = 512 << 20;

/// Timeout of a body that is buffered. Then 408.
pub(crate) const TRAFFIC_BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// A client has `TRAFFIC_BODY_TIMEOUT` for each part of this many bytes of a body that a middleware
/// asks for. Then 408.
pub(crate) const TRAFFIC_BODY_PART_BYTES: u64 = 1 << 20;

/// Timeout for reading a response's body that a middleware asks for. After it, the middleware's
/// call fails.
pub(crate) const MIDDLEWARE_RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// Idle timeout of a streaming body while other requests wait for the guest's slot. Then 408.
/// Without waiting requests it is `TRAFFIC_BODY_TIMEOUT`, or half of the app's `request_timeout` if
/// that is less.
pub(crate) const TRAFFIC_BODY_CROWDED: Duration = Duration::from_secs(2);

/// How long a client may leave a streamed response unread while other requests wait for the guest's
/// slot. Then its connection is closed. It is longer than the timeout of a request's body, since
/// the kernel accepts more bytes only after a slow client has read a large part of the send buffer.
pub(crate) const TRAFFIC_RESPONSE_CROWDED: Duration = Duration::from_secs(10);

/// Threads for the file operations of one app. Further operations of this app wait.
pub(crate) const FILE_THREADS_PER_APP: usize = 4;

/// Idle time after which a thread for file operations ends.
pub(crate) const FILE_THREAD_IDLE: Duration = Duration::from_secs(5);

/// Runtimes for the file operations of apps, at most one for each active app with folders. A
/// further app shares the runtime that has the fewest apps; apps that share a runtime can delay
/// each other's file operations. Each runtime uses a few of the host's open files.
pub(crate) const FILE_RUNTIMES_MAX: usize = 128;

/// How long a call of an app may leave an instance of a provider idle while it holds resources of
/// it, if other calls wait for an instance or the provider's release drains. Then the host replaces
/// the instance, and a later use of its resources ends the app's call.
pub(crate) const PROVIDER_HELD_CROWDED: Duration = Duration::from_secs(2);

/// How long a call of an app may hold resources of a provider's instance in total, if other calls
/// wait for an instance or the provider's release drains. Then the host replaces the instance
/// between two calls: an app must not keep it by using it all the time.
pub(crate) const PROVIDER_HELD_CROWDED_MAX: Duration = Duration::from_secs(20);

/// Interval in which the host checks whether an instance of a provider is held too long. It is less
/// than the shortest usual time for which a call waits for an instance.
pub(crate) const PROVIDER_HELD_CHECKED: Duration = Duration::from_millis(100);

/// Size of the chunks in which an asset is read. A response holds at most one chunk in memory.
pub(crate) const ASSET_CHUNK_BYTES: usize = 128 << 10;

/// Bytes of one app's assets that are being sent, at most one chunk for each response. A response
/// beyond it is refused with 503: slow clients of one app must not use up the budget of all apps.
/// Of what other clients leave, a client may use the same part as in `ASSET_BYTES_PER_CLIENT`.
/// Beyond it also 503: a few clients that read nothing must not use up the budget.
pub(crate) const ASSET_BYTES_PER_APP: u64 = 128 << 20;

/// Bytes of one app's assets that are being sent to one client. A response beyond it is refused
/// with 429: a client that reads nothing must not use up the budget of an app.
pub(crate) const ASSET_BYTES_PER_CLIENT: u64 = ASSET_BYTES_PER_APP / 4;

/// Bytes of all apps' assets that are being sent. A response beyond it is refused with 503. The
/// limit bounds the memory that anonymous clients can make the host use. Of what other clients
/// leave, a client may use the same part as in `ASSET_BYTES_PER_CLIENT_ALL`. Beyond it also 503.
pub(crate) const ASSET_BYTES_ALL: u64 = 512 << 20;

/// Bytes of all apps' assets that are being sent to one client. A response beyond it is refused
/// with 429: a client that reads nothing must not use up the budget of the host.
pub(crate) const ASSET_BYTES_PER_CLIENT_ALL: u64 = ASSET_BYTES_ALL / 8;

/// Reads of one app's assets that are in progress. Further reads of this app wait.
pub(crate) const ASSET_READS_PER_APP: usize = 4;

/// Reads of all apps' assets that are in progress, each on its own thread. Further reads wait.
pub(crate) const ASSET_READS_ALL: usize = 32;

/// Bytes of the indexes of assets in memory, all apps together. Beyond it, the least recently used
/// index is dropped, and read again when a request needs it.
pub(crate) const ASSET_INDEX_BYTES_ALL: u64 = 64 << 20;

/// Indexes of assets for which the cache reserves space when the host starts. The cache grows
/// beyond it.
pub(crate) const ASSET_INDEXES_EXPECTED: usize = 256;

/// Size of the pieces in which a pack of assets is read to verify it.
pub(crate) const ASSET_VERIFIED_BYTES: usize = 1 << 20;

/// Interval between two logged failures to read a pack of assets. Access lines show every failure.
pub(crate) const ASSET_FAILURES_LOGGED: Duration = Duration::from_secs(10);

/// Timeout of one read of an asset, including its wait for a thread. Then the response fails.
pub(crate) const ASSET_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout of a new instance to start and to pass its health check. Then the push fails.
pub(crate) const HEALTH_TIME: Duration = Duration::from_secs(15);

/// How long before the end of the drain time jobs that still wait for a slot are refused with 503,
/// so that their clients get the response before connections are cut off.
pub(crate) const LAST_RESPONSES_TIME: Duration = Duration::from_millis(500);

/// Loaded previews of one app. A further preview evicts the least recently requested preview.
pub(crate) const PREVIEWS_MAX: usize = 3;

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
/// a start of the host thousands may arrive simultaneously, and a request's own timeout is known
/// only once its release is loaded.
pub(crate) const COLD_LOAD_WAIT: Duration = Duration::from_secs(20);

/// How long after its first swap a crash loop takes a release out of service. Later crash loops
/// don't: the failure of a release that was healthy for this time usually has an external cause.
pub(crate) const RELEASE_FRESH: Duration = Duration::from_secs(60);

/// Pause before the supervisor retries to start a warm instance that found no free slot or memory.
pub(crate) const NO_ROOM_PAUSE: Duration = Duration::from_secs(1);

/// Pause before the supervisor restarts a process type that crashes in a loop.
pub(crate) const CRASH_LOOP_PAUSE: Duration = Duration::from_secs(60);

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

/// Time in which changes of a pool's size are combined into one activity.
pub(crate) const SCALE_RECORD_INTERVAL: Duration = Duration::from_secs(10);

/// Calls of guests in a chain, each waiting for the reply of the next: an event handler that is
/// asked can ask another one. A further call fails.
pub(crate) const ASK_DEPTH_MAX: u32 = 16;

/// Apps whose calls of a plugin's new release are counted separately for its rollout watch. The
/// calls of a further app count only in the total.
pub(crate) const WATCHED_CALLERS_MAX: usize = 256;

/// Runs of a scheduled command with `overlap = "allow"` that are in progress at the same time.
/// A further run is skipped, and recorded.
pub(crate) const SCHEDULED_RUNS_PARALLEL_MAX: u32 = 4;
