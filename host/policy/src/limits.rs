//! Every bound of names, manifests and bundles, and the range of every limit an app may set. Owns numbers only; each
//! says whether reaching it waits or refuses, and why.

use std::ops::RangeInclusive;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Refuses: a name is one DNS label, and DNS has no longer ones.
pub const APP_NAME_CHARS_MAX: usize = 63;
/// Refuses: `<instance-id>--<app>` must be one DNS label too, so the process name leaves room for the app's.
pub const PROCESS_NAME_CHARS_MAX: usize = 20;

/// Refuses: a manifest is written by people, so a larger one is a mistake or an attack on the parser.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// Refuses: each process type costs pools and a place in every listing.
pub const PROCESSES_MAX: usize = 32;
/// Refuses: each outbound request walks the list of hosts.
pub const HTTP_GRANTS_MAX: usize = 256;
/// Refuses: each granted folder is an open handle in every instance.
pub const FOLDER_GRANTS_MAX: usize = 32;
/// Refuses: config vars are copied into every instance.
pub const CONFIG_VARS_MAX: usize = 256;
/// Refuses: as for the number of config vars.
pub const CONFIG_VALUE_BYTES_MAX: usize = 32 << 10;
/// Refuses: a longer name is a mistake.
pub const CONFIG_KEY_BYTES_MAX: usize = 128;
/// Refuses: keys and values of an app together, since every release keeps a copy of them.
pub const CONFIG_BYTES_MAX: usize = 256 << 10;
/// Refuses: arguments are copied into every instance.
pub const ARGUMENTS_MAX: usize = 64;
/// Refuses: warm-up requests are made one after the other at every push.
pub const WARM_UP_REQUESTS_MAX: usize = 32;
/// Refuses: a key, a path, a command or an argument longer than this is a mistake.
pub const TEXT_BYTES_MAX: usize = 4 << 10;

/// Refuses: an upload is held in memory while it is read, so its size is bounded before it is unpacked.
pub const BUNDLE_BYTES_MAX: usize = 64 << 20;
/// Refuses: compiling a component takes memory in proportion to its size.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;
/// Refuses: an archive that unpacks to more is a bomb; there is room for the largest component and a manifest.
pub const UNPACKED_BYTES_MAX: usize = COMPONENT_BYTES_MAX + (1 << 20);
/// Refuses: a bundle holds a manifest, a component and a few folders around them.
pub const BUNDLE_ENTRIES_MAX: usize = 64;
/// Refuses: no file of a bundle needs a longer path.
pub const BUNDLE_PATH_BYTES_MAX: usize = 512;
/// Refuses: tools that write several gzip members write one for each 64 KiB or more, and each member costs a new
/// decompressor.
pub const BUNDLE_GZIP_MEMBERS_MAX: usize = 4096;

/// Cuts: a name in an error or a log line, be it of an import, a section or a file. The message stays readable.
pub const TEXT_NAME_BYTES_SHOWN: usize = 200;
/// Cuts: a message of a compiler or a library about a bundle.
pub const TEXT_DETAIL_BYTES_SHOWN: usize = 2 << 10;
/// Cuts: one whole line about a push or a release. A bundle determines part of that text.
pub const TEXT_LINE_BYTES_MAX: usize = 8 << 10;
/// Cuts: a longer list in an error or a log line ends with the number of further items.
pub const TEXT_ITEMS_SHOWN: usize = 20;

/// Refuses at the manifest: below, Rust's own start does not fit; above, 32-bit memory cannot address it.
pub const MEMORY_BYTES: RangeInclusive<u64> = MIB..=4 * GIB;
/// Refuses at the manifest: below, no guest could answer; above, a stuck request would hold its instance for hours.
pub const REQUEST_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// Refuses at the manifest: a request's body is streamed, and the range keeps one caller from filling an app's memory.
pub const REQUEST_BODY_BYTES: RangeInclusive<u64> = KIB..=4 * GIB;
/// Refuses at the manifest: a reply's body is streamed, and the range bounds what one request may send.
pub const REPLY_BODY_BYTES: RangeInclusive<u64> = KIB..=16 * GIB;
/// Refuses at the manifest: instances of all apps share one pool.
pub const INSTANCES: RangeInclusive<u32> = 1..=1_000;
/// Refuses at the manifest: every waiting job holds a connection and its headers.
pub const QUEUE: RangeInclusive<u32> = 1..=100_000;
/// Refuses at the manifest: tables of all instances share one pool.
pub const TABLE_ELEMENTS: RangeInclusive<u32> = 100..=1_000_000;
/// Refuses at the manifest: longer lines are cut, so that one line cannot fill the log.
pub const LOG_LINE_BYTES: RangeInclusive<u64> = 256..=64 * KIB;

/// Refuses at the manifest: an instance that is not well for longer than this after its start is not well.
pub const HEALTH_GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);
/// Refuses at the manifest: below, checks would be a load of their own; above, they would notice nothing in time.
pub const HEALTH_INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
/// Refuses at the manifest: a check holds an instance as a request does.
pub const HEALTH_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// Refuses at the manifest: none would be no check at all, and more would never be reached in time.
pub const HEALTH_THRESHOLD: RangeInclusive<u32> = 1..=100;
/// The grace of a health check that names none.
pub const HEALTH_GRACE_USUAL: Duration = Duration::from_secs(5);
/// The interval of a health check that names none.
pub const HEALTH_INTERVAL_USUAL: Duration = Duration::from_secs(10);
/// The timeout of a health check that names none.
pub const HEALTH_TIMEOUT_USUAL: Duration = Duration::from_secs(2);
/// The threshold of a health check that names none.
pub const HEALTH_THRESHOLD_USUAL: u32 = 3;

/// Ends the search for the next time of a schedule: the longest that one which comes at all can take is 40 years,
/// from one 29 February on a certain weekday to the next.
pub const SCHEDULE_SEARCH_YEARS: i64 = 48;
/// Waits: a clock that went back by less, as it does when it is adjusted, fires nothing until it has caught up. One that
/// went back by more was wrong before, and is believed from then on.
pub const CLOCK_BACK_MAX: Duration = Duration::from_secs(3 * 3600);

/// Counts the rest: a sentence about a release names so many of the things that changed.
pub const CHANGES_NAMED_MAX: usize = 4;
/// Cuts: a value in such a sentence has so many characters; the whole of it stands in the release.
pub const CHANGE_VALUE_CHARS_MAX: usize = 60;

/// Waits: from the least after the first end to the most after many, each twice as long as the one before. The least is
/// hardly noticed, and the most keeps an instance that cannot start from being a load.
pub const RESTART_AFTER: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);
/// An instance that ends sooner after its start than this has crashed quickly.
pub const RESTART_QUICK: Duration = Duration::from_secs(5);
/// An instance that ran for so long ran well: its back-off starts anew.
pub const RESTART_WELL: Duration = Duration::from_secs(10);
/// Refuses: after so many quick ends in a row an instance is not started again, since that wouldn't help.
pub const CRASH_LOOP_ENDS: u32 = 5;

/// Ends the watch after a swap: what is bad shows in a few seconds of traffic, and a longer watch keeps the old
/// release.
pub const SWAP_WATCH: Duration = Duration::from_secs(10);
/// Fewer failures than this say nothing, however few requests there were.
pub const SWAP_FAILURES_MIN: u64 = 5;
/// A release is worse only if it fails more than so many times as often as the one before …
pub const SWAP_WORSE_FACTOR: f64 = 3.0;
/// … and by more than this part of all requests.
pub const SWAP_WORSE_MORE: f64 = 0.10;
/// The part of requests that must fail where the release before had none to compare with.
pub const SWAP_WORSE_UNKNOWN: f64 = 0.50;

/// An out-of-memory fault on a request of at least this fraction of the guest's memory doesn't
/// count against its release.
pub const SWAP_SIZE_PART: u64 = 16;

/// Refuses: the fraction of an instance's memory that a request's body may take if the guest holds
/// bodies whole. While its buffer grows, the guest holds up to three times the body, and a handler
/// may copy it.
pub const WHOLE_BODY_MEMORY_PART: u64 = 4;

/// Deletes: so many of an app's releases are kept whatever became of them.
pub const RELEASES_KEPT: usize = 20;
/// Deletes: a release that was current is kept for so long after, to be rolled back to.
pub const RELEASES_KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// Advises: an app with more monthly users than this is one for production.
pub const LOW_MONTHLY_USERS_MAX: u64 = 5_000;
/// Advises: an app with more events a month for each user than this is one for production.
pub const LOW_EVENTS_PER_USER_MAX: u64 = 200;

/// Refuses: how many cores each of an app's queues may have.
pub const CORES: RangeInclusive<u32> = 1..=1_000;
/// Waits: jobs of an app that somebody waits for and that run at one time, where the operator says nothing.
pub const CORES_PULL_USUAL: u32 = 10;
/// Waits: jobs of an app that nobody waits for and that run at one time, where the operator says nothing.
pub const CORES_PUSH_USUAL: u32 = 4;
/// Parts of the window over which the peak of a process type is kept: after the last of them it is forgotten.
pub const SCALE_WINDOW_PARTS: usize = 12;
/// How long that window is where the operator says nothing: as long as Knative's stable window.
pub const SCALE_WINDOW: Duration = Duration::from_secs(60);
/// What a client is told whose job finds the queue full: never to come back sooner or later than this.
pub const RETRY_AFTER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// How many of a process type's last jobs say how long its jobs take.
pub const ADMISSION_JOBS_SEEN: usize = 16;
/// Begins: as long as fewer than this of them have ended, what they took says nothing of those to come.
pub const ADMISSION_JOBS_ENOUGH: usize = 4;
/// Refuses: a job that has less than this part of its `request_timeout` left when its turn comes is not begun …
pub const ADMISSION_PART_LEAST: u32 = 20;
/// … and one that has this part left always is, however long others take. A job that had less of its time for its work
/// and did not end in it is not held against its release.
pub const ADMISSION_PART_MOST: u32 = 2;
