//! The limits of names, manifests and bundles, and the range of every limit that an app can set.
//! Owns numbers only; each says what happens when it is reached, and why.

use std::ops::RangeInclusive;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A longer app name is rejected: it is one DNS label, and this is DNS's maximum.
pub const APP_NAME_CHARS_MAX: usize = 63;
/// A longer process name is rejected. `<instance-id>--<app>` must be one DNS label too, so the
/// process name leaves room for the app's.
pub const PROCESS_NAME_CHARS_MAX: usize = 20;

/// A larger manifest is rejected. People write manifests, so a larger one is a mistake or an attack
/// on the parser.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// A manifest with more process types is rejected: each costs pools and an entry in every listing.
pub const PROCESSES_MAX: usize = 32;
/// A manifest with more granted hosts is rejected: each outbound request scans the list.
pub const HTTP_GRANTS_MAX: usize = 256;
/// A manifest with more granted folders is rejected: each is an open handle in every instance.
pub const FOLDER_GRANTS_MAX: usize = 32;
/// A manifest that grants events to more apps is rejected: each event scans the list.
pub const EVENT_GRANTS_MAX: usize = 64;
/// A manifest that grants more interfaces is rejected: each is compared with its provider at every
/// deploy.
pub const INTERFACE_GRANTS_MAX: usize = 32;
/// A longer name of an interface in a manifest is rejected: it is a mistake.
pub const INTERFACE_NAME_BYTES_MAX: usize = 200;
/// A ceiling with more hosts, apps or types is rejected: each grant of a release is compared with
/// all of them.
pub const CEILING_ITEMS_MAX: usize = 256;
/// More config vars are rejected, since they are copied into every instance.
pub const CONFIG_VARS_MAX: usize = 256;
/// A longer config value is rejected, since it is copied into every instance.
pub const CONFIG_VALUE_BYTES_MAX: usize = 32 << 10;
/// A longer config key is rejected: it is a mistake.
pub const CONFIG_KEY_BYTES_MAX: usize = 128;
/// A change is rejected if an app's keys and values would exceed this in total, since every release
/// stores a copy.
pub const CONFIG_BYTES_MAX: usize = 256 << 10;
/// A manifest with more arguments is rejected, since they are copied into every instance.
pub const ARGUMENTS_MAX: usize = 64;
/// A manifest with more middleware is rejected: each adds a plugin call to every request.
pub const MIDDLEWARE_MAX: usize = 16;
/// A middleware with more path patterns is rejected: each request scans the list.
pub const MIDDLEWARE_PATHS_MAX: usize = 64;
/// A middleware with a longer config, as JSON, is rejected, because the plugin receives a copy in
/// every call.
pub const MIDDLEWARE_CONFIG_BYTES_MAX: usize = 64 << 10;
/// A hook's subscription with more types or more apps is rejected: each event is compared with all
/// of them.
pub const SUBSCRIPTION_ITEMS_MAX: usize = 64;
/// Host settings with more gates are rejected: each adds a plugin call to every release.
pub const GATES_MAX: usize = 16;
/// A gate with more patterns of apps is rejected: each release scans the list.
pub const GATE_APPS_MAX: usize = 256;
/// A plugin's manifest with a time limit outside this range is rejected. A call delays a request to
/// an app, so the limit is short.
pub const PLUGIN_TIME_LIMIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);
/// Default time limit of a plugin's calls. A longer call fails.
pub const PLUGIN_TIME_LIMIT_USUAL: Duration = Duration::from_secs(1);
/// A manifest with more warm-up requests is rejected: they run one after the other at every push.
pub const WARM_UP_REQUESTS_MAX: usize = 32;
/// A longer key, path, command or argument in a manifest is rejected: it is a mistake.
pub const TEXT_BYTES_MAX: usize = 4 << 10;

/// A larger upload is rejected. It is held in memory while it is received, so its size is limited
/// before it is unpacked.
pub const BUNDLE_BYTES_MAX: usize = 64 << 20;
/// A bundle with a larger component is rejected: compiling it takes memory in proportion to its
/// size.
pub const BUNDLE_COMPONENT_BYTES_MAX: usize = 64 << 20;
/// A bundle with more bytes besides its assets is rejected. The limit fits the largest component
/// and a manifest.
pub const BUNDLE_REST_BYTES_MAX: usize = BUNDLE_COMPONENT_BYTES_MAX + (1 << 20);
/// A bundle whose assets have more bytes is rejected: every release stores a copy of its assets.
pub const ASSET_BYTES_MAX: usize = 64 << 20;
/// An archive that unpacks to more bytes is rejected as an archive bomb.
pub const UNPACKED_BYTES_MAX: usize = BUNDLE_REST_BYTES_MAX + ASSET_BYTES_MAX;
/// A bundle with more entries besides its assets is rejected: valid bundles contain a manifest, a
/// component and a few folders.
pub const BUNDLE_ENTRIES_MAX: usize = 64;
/// A bundle with more files and folders below `static/` is rejected. Their paths are in memory
/// while the release serves them.
pub const ASSET_ENTRIES_MAX: usize = 10_000;
/// A bundle whose assets have longer paths in total is rejected, for the same reason.
pub const ASSET_PATHS_BYTES_MAX: usize = 1 << 20;
/// A pack of assets with a larger index counts as damaged: no valid bundle produces one.
pub const ASSET_INDEX_BYTES_MAX: usize = 2 * ASSET_PATHS_BYTES_MAX + 128 * ASSET_ENTRIES_MAX;
/// A bundle with a longer path is rejected: no file of a bundle needs one.
pub const BUNDLE_PATH_BYTES_MAX: usize = 512;
/// A bundle with more gzip members is rejected. Tools that write several members use one per 64 KiB
/// or more, and each costs a new decompressor.
pub const BUNDLE_GZIP_MEMBERS_MAX: usize = 4096;

/// A longer name in an error or a log line, such as that of an import, a section or a file, is
/// truncated so that the message stays readable.
pub const TEXT_NAME_BYTES_SHOWN: usize = 200;
/// A longer message of a compiler or a library about a bundle is truncated.
pub const TEXT_DETAIL_BYTES_SHOWN: usize = 2 << 10;
/// A longer line about a push or a release is truncated, since a bundle determines part of its
/// text.
pub const TEXT_LINE_BYTES_MAX: usize = 8 << 10;
/// A longer list in an error or a log line ends with the number of further items.
pub const TEXT_ITEMS_SHOWN: usize = 20;

/// A manifest with a memory limit outside this range is rejected. With less, Rust's start-up
/// doesn't fit; more can't be addressed by 32-bit memory.
pub const MEMORY_BYTES: RangeInclusive<u64> = MIB..=4 * GIB;
/// A manifest with a request timeout outside this range is rejected. With less, no guest could
/// respond; with more, a stuck request would occupy its instance for hours.
pub const REQUEST_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// A manifest with a limit of request bodies outside this range is rejected. They are streamed, and
/// the range keeps a caller from filling an app's memory.
pub const REQUEST_BODY_BYTES: RangeInclusive<u64> = KIB..=4 * GIB;
/// A manifest with a limit of response bodies outside this range is rejected. They are streamed,
/// and the range bounds what one request can send.
pub const REPLY_BODY_BYTES: RangeInclusive<u64> = KIB..=16 * GIB;
/// A manifest with a number of instances outside this range is rejected: instances of all apps
/// share one pool.
pub const INSTANCES: RangeInclusive<u32> = 1..=1_000;
/// A manifest with a queue length outside this range is rejected: every waiting job holds a
/// connection and its headers.
pub const QUEUE: RangeInclusive<u32> = 1..=100_000;
/// A manifest with a number of table elements outside this range is rejected: tables of all
/// instances share one pool.
pub const TABLE_ELEMENTS: RangeInclusive<u32> = 100..=1_000_000;
/// A manifest with a length of log lines outside this range is rejected. Longer lines are
/// truncated, so that one line can't fill the log.
pub const LOG_LINE_BYTES: RangeInclusive<u64> = 256..=64 * KIB;

/// A manifest with a grace period outside this range is rejected: an instance that is unhealthy for
/// longer after its start won't recover.
pub const HEALTH_GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);
/// A manifest with a health check interval outside this range is rejected. With less, checks would
/// be a considerable load; with more, failures would be detected too late.
pub const HEALTH_INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
/// A manifest with a health check timeout outside this range is rejected: a check occupies an
/// instance as a request does.
pub const HEALTH_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// A manifest with a health check threshold outside this range is rejected. Zero would disable the
/// check, and a higher threshold would never be reached in time.
pub const HEALTH_THRESHOLD: RangeInclusive<u32> = 1..=100;
/// The default grace of a health check.
pub const HEALTH_GRACE_USUAL: Duration = Duration::from_secs(5);
/// The default interval of a health check.
pub const HEALTH_INTERVAL_USUAL: Duration = Duration::from_secs(10);
/// The default timeout of a health check.
pub const HEALTH_TIMEOUT_USUAL: Duration = Duration::from_secs(2);
/// The default threshold of a health check.
pub const HEALTH_THRESHOLD_USUAL: u32 = 3;

/// The search for a schedule's next time ends after this many years. The longest possible gap is 40
/// years, from one 29 February on a given weekday to the next.
pub const SCHEDULE_SEARCH_YEARS: i64 = 48;
/// If a clock went back by less, as in an adjustment, a schedule fires nothing until the clock has
/// caught up. If it went back by more, it was wrong before, and the new time is used.
pub const CLOCK_BACK_MAX: Duration = Duration::from_secs(3 * 3600);
/// A scheduled time counts as missed once this much has passed since. Until then its run starts
/// late, as on a busy host.
pub const SCHEDULE_LATE: Duration = Duration::from_secs(60);
/// The missed runs that a schedule with `missed = "all"` makes up for, latest first. Earlier ones
/// are only recorded, since a long downtime would start thousands of runs.
pub const MISSED_RUNS_MAX: usize = 100;
/// Missed runs that are counted after a downtime of the host. Beyond it the record says "at least".
pub const MISSED_RUNS_COUNTED: usize = 10_000;

/// A sentence about a release names at most this many changes, and counts the rest.
pub const CHANGES_NAMED_MAX: usize = 4;
/// A longer value in a sentence about a release is truncated; the release has the whole value.
pub const CHANGE_VALUE_CHARS_MAX: usize = 60;

/// The back-off before a restart doubles from the minimum after the first crash to the maximum. The
/// minimum is hardly noticeable, and the maximum bounds the load of an instance that can't start.
pub const RESTART_AFTER: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);
/// An instance that ends sooner than this after its start counts as a quick crash.
pub const RESTART_QUICK: Duration = Duration::from_secs(5);
/// An instance that ran for at least this long was stable: its back-off is reset.
pub const RESTART_WELL: Duration = Duration::from_secs(10);
/// Consecutive quick crashes after which a process type counts as crashing in a loop. Its release
/// is replaced if it is new; otherwise, the next restart follows after a long pause.
pub const CRASH_LOOP_ENDS: u32 = 5;

/// A manifest with a number of attempts outside this range is rejected. One attempt means no retry;
/// with more, a failing event would occupy the queue for months.
pub const RETRY_ATTEMPTS: RangeInclusive<u32> = 1..=100;
/// Default number of attempts to deliver an event, including the first. Then it is a dead letter.
pub const RETRY_ATTEMPTS_DEFAULT: u32 = 10;
/// A manifest with a retry delay outside this range is rejected. With less, a failing event would
/// be retried in a tight loop; with more, a week would pass before the next attempt.
pub const RETRY_DELAY: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(7 * 24 * 3600);
/// Default delay after the first failed attempt. It doubles with each further one.
pub const RETRY_FIRST_DEFAULT: Duration = Duration::from_secs(1);
/// Default of the longest delay between two attempts. A longer computed delay is shortened to it.
pub const RETRY_MAX_DEFAULT: Duration = Duration::from_secs(3600);

/// A client that reads nothing of a response on an HTTP/2 connection has this many times
/// `connections.write` until the connection is reset. GOAWAY is sent after one such time: the other
/// responses of the connection can complete meanwhile.
pub const UNREAD_STREAM_RESET: u32 = 5;

/// The rollout watch ends after this time. A bad release shows in a few seconds of traffic, and a
/// longer watch keeps the old release in memory.
pub const SWAP_WATCH: Duration = Duration::from_secs(10);
/// After this many calls by the first apps, all apps use the new release of a plugin. Enough for a
/// verdict about a release that fails often.
pub const CANARY_CALLS: u64 = 50;
/// All apps use the new release of a plugin after this time, even if the first apps called it
/// rarely. If only one app has called the release and its calls fail, the rollout watch waits for
/// this time for the calls of a second app.
pub const CANARY_WATCH: Duration = Duration::from_secs(5);
/// Fewer failures than this are not significant, for any number of requests.
pub const SWAP_FAILURES_MIN: u64 = 5;
/// A release is worse only if its failure rate is more than this many times that of the release
/// before. `SWAP_WORSE_MORE` must be exceeded too.
pub const SWAP_WORSE_FACTOR: f64 = 3.0;
/// A release is worse only if its failure rate exceeds that of the release before by more than this
/// fraction of all requests. `SWAP_WORSE_FACTOR` must be exceeded too.
pub const SWAP_WORSE_MORE: f64 = 0.10;
/// The failure rate that makes a release worse if the release before has no requests to compare
/// with.
pub const SWAP_WORSE_UNKNOWN: f64 = 0.50;

/// An out-of-memory fault on a request of at least 1/N of the guest's memory doesn't count against
/// its release; this value is N.
pub const SWAP_SIZE_PART: u64 = 16;

/// After a guest has read more than this of a request's body, running out of handles, or of another
/// fixed allowance for host calls, doesn't count against its release. Its client gets a 413.
pub const SWAP_SIZE_BYTES: u64 = 1024 * 1024;

/// If the guest holds bodies whole, a request's body larger than 1/N of its instance's memory is
/// rejected; this value is N. While its buffer grows, the guest holds up to three times the body,
/// and a handler may copy it.
pub const WHOLE_BODY_MEMORY_PART: u64 = 4;

/// An app's newest releases that are kept in any state. Older ones are deleted.
pub const RELEASES_KEPT: usize = 20;
/// How long a formerly current release is kept for a rollback. Then it is deleted.
pub const RELEASES_KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// The recommended type of an app with more monthly users is `production`.
pub const LOW_MONTHLY_USERS_MAX: u64 = 5_000;
/// The recommended type of an app with more monthly events per user is `production`.
pub const LOW_EVENTS_PER_USER_MAX: u64 = 200;

/// A number of cores for an app's queue outside this range is rejected.
pub const CORES: RangeInclusive<u32> = 1..=1_000;
/// Default number of pull jobs of an app that run concurrently. Further jobs wait in the queue.
pub const CORES_PULL_USUAL: u32 = 10;
/// Default number of push jobs of an app that run concurrently. Further jobs wait in the queue.
pub const CORES_PUSH_USUAL: u32 = 4;
/// Number of parts of the window for a process type's peak; a peak is forgotten after the last
/// part.
pub const SCALE_WINDOW_PARTS: usize = 12;
/// Default length of the window for a process type's peak load: the same as Knative's stable
/// window.
pub const SCALE_WINDOW: Duration = Duration::from_secs(60);
/// The range of `Retry-After` for a job that finds its queue full.
pub const RETRY_AFTER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// Number of recent jobs of a process type that are remembered with their durations.
pub const ADMISSION_JOBS_SEEN: usize = 16;
/// While fewer jobs than this have completed, their durations predict nothing: a job is started if
/// it has at least the time of `ADMISSION_PART_MIN` left.
pub const ADMISSION_JOBS_ENOUGH: usize = 4;
/// A job that gets a slot is not started if it has less than 1/N of its `request_timeout` left;
/// this value is N.
pub const ADMISSION_PART_MIN: u32 = 20;
/// A job that gets a slot is always started if it has at least 1/N of its `request_timeout` left,
/// however long other jobs take; this value is N. A job that was started with less and timed out
/// doesn't count against its release.
pub const ADMISSION_PART_MAX: u32 = 2;

/// A rate with more tokens per period, or a larger burst, is rejected: it would limit nothing.
pub const BUCKET_TOKENS_MAX: u32 = 1_000_000;
/// A rate with a longer period is rejected: buckets don't survive a restart of the host.
pub const BUCKET_PERIOD_MAX: Duration = Duration::from_secs(24 * 3600);
/// A rate whose empty buckets take longer to fill is rejected.
pub const BUCKET_FILL_TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// The default `clear` of an alert that fires above its threshold, as a part of the threshold. The
/// alert is resolved at or below it.
pub const ALERT_CLEAR_ABOVE: f64 = 0.8;
/// The default `clear` of an alert that fires below its threshold, as a multiple of the threshold.
/// The alert is resolved at or above it.
pub const ALERT_CLEAR_BELOW: f64 = 1.25;
/// Longest minimum duration of an alert. Host settings with a longer one are refused.
pub const ALERT_LASTING_MAX: Duration = Duration::from_secs(24 * 3600);
/// Total bytes of the `tracestate` fields of a request. Longer fields are dropped, and the
/// request is passed on without them. The specification asks for at least 512.
pub const TRACE_STATE_BYTES_MAX: usize = 1_024;
/// Members of `tracestate`, the maximum of the specification. A longer list is dropped.
pub const TRACE_STATE_MEMBERS_MAX: usize = 32;
