//! The limits of the control plane, each with the effect of reaching it. Never holds behaviour.

use std::{ops::RangeInclusive, time::Duration};

use jiff::SignedDuration;

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
pub(crate) const UPLOADS_MAX: u64 = 16;

/// Concurrent uploads with one token. Further uploads are refused with 429, so that a single token
/// can't take all permits.
pub(crate) const UPLOADS_PER_TOKEN: u64 = UPLOADS_MAX / 2;

/// Concurrent uploads to one app. Further uploads are refused with 429, so that the tokens of a
/// single app can't take all permits.
pub(crate) const UPLOADS_PER_APP: u64 = UPLOADS_MAX / 2;

/// Bundles of new apps and of plugins that are read at the same time, before their push jobs.
/// Further ones wait: reading a bundle takes several times its size.
pub(crate) const NEW_BUNDLES_READ_MAX: usize = 2;

/// `Retry-After` of a refused upload.
pub(crate) const UPLOADS_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Timeout of a push job from its start, unless configured. Then it is `failed` with the reason
/// `time-limit`.
pub(crate) const PUSH_TIME: Duration = Duration::from_secs(30 * 60);

/// Failed health checks after which a new instance counts as unhealthy, once its grace period is
/// over. Then the push fails.
pub(crate) const HEALTH_ATTEMPTS: u32 = 3;

/// Lines of a guest's output in a push's log while the guest is prepared for a snapshot. Further
/// lines are left out, so that the guest can't fill the log.
pub(crate) const PREPARATION_LINES_MAX: usize = 20;

/// Lines that a push writes to its own log. Further lines appear only in the app's log. A typical
/// push writes a dozen lines.
pub(crate) const PUSH_LINES_WRITTEN_MAX: usize = 500;

/// Steps and lines of one push that wait to be stored. When the queue is full, the push waits.
pub(crate) const PUSH_RECORDS_QUEUED_MAX: usize = 64;

/// The period over which alerts count requests, failures and dropped log lines.
pub(crate) const ALERT_WINDOW: Duration = Duration::from_secs(60);

/// Points of a running total that alerts keep for `ALERT_WINDOW`. Further samples are not kept.
pub(crate) const ALERT_WINDOW_POINTS: u32 = 12;

/// The period over which alerts count reports of crash loops. A process type that keeps crashing is
/// reported more often.
pub(crate) const ALERT_CRASH_WINDOW: Duration = Duration::from_secs(3 * 60);

/// Reports of crash loops that alerts count for one app. Further reports replace the oldest.
pub(crate) const ALERT_REPORTS_MAX: usize = 16;

/// Requests of an app within `ALERT_WINDOW` below which its error rate counts as 0: a single
/// failure of few requests says little.
pub(crate) const ALERT_REQUESTS_MIN: u64 = 20;

/// Ready events of an app below which the time to deliver them counts as 0.
pub(crate) const ALERT_DRAIN_EVENTS_MIN: u64 = 100;

/// The longest time to deliver waiting events that an alert states. An app that delivers none has
/// this time.
pub(crate) const ALERT_DRAIN_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// Time for the probe of free disk space, after which the space counts as unknown.
pub(crate) const ALERT_DISK_PROBE_TIME: Duration = Duration::from_secs(1);

/// Time for the check of the certificate files, after which the alert uses the previous check.
pub(crate) const ALERT_CERTIFICATE_PROBE_TIME: Duration = Duration::from_secs(1);

/// Certificate files whose expiry the host watches. Settings with more are refused.
pub(crate) const ALERT_CERTIFICATE_FILES_MAX: usize = 32;

/// The interval at which a certificate file is read again, although it has not changed. A changed
/// file is read at the next sample.
pub(crate) const ALERT_CERTIFICATE_READ_INTERVAL: Duration = Duration::from_secs(3600);

/// How long reading the certificate files may take, after which their expiry counts as a problem.
pub(crate) const ALERT_CERTIFICATE_READ_TIME: Duration = Duration::from_secs(60);

/// Certificate files that the text of an alert describes. It states the number of the others.
pub(crate) const ALERT_CERTIFICATES_SHOWN: usize = 3;

/// Changes of alerts that wait to be stored, for example while the disk is full. Further changes
/// are dropped.
pub(crate) const ALERT_RECORDS_QUEUED_MAX: usize = 4096;

/// Time for one request to the webhook of alerts, after which it is repeated.
pub(crate) const ALERT_POST_TIME: Duration = Duration::from_secs(10);

/// The range of the back-off after a failed request to the webhook of alerts.
pub(crate) const ALERT_RETRY_AFTER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// The longest pause that the webhook of alerts may request with `Retry-After`. A longer one is
/// shortened.
pub(crate) const ALERT_RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// The age at which a message that the webhook has not accepted is dropped and counted, after a
/// failed request.
pub(crate) const ALERT_MESSAGE_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The interval between two samples of alerts, unless configured.
pub(crate) const ALERT_INTERVAL: Duration = Duration::from_secs(10);

/// Log drains of one app. A further drain is refused with 409.
pub(crate) const DRAINS_PER_APP_MAX: usize = 5;

/// Log drains of all apps. A further drain is refused with 409: each has a connection and a buffer.
pub(crate) const DRAINS_MAX: usize = 256;

/// Log drains that one token below the role `admin` has added. A further drain is refused with 409,
/// so that a tenant can't take all drains.
pub(crate) const DRAINS_PER_TOKEN_MAX: usize = DRAINS_MAX / 4;

/// Bytes of the URL of a drain. A longer URL is refused.
pub(crate) const DRAIN_URL_BYTES_MAX: usize = 2048;

/// Lines in the buffer of a drain. Further lines are dropped and counted.
pub(crate) const DRAIN_LINES_MAX: usize = 10_000;

/// Bytes of the lines in the buffer of a drain. Further lines are dropped and counted.
pub(crate) const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of the lines in the buffer of a drain that it may always hold. It shares
/// `DRAIN_SHARED_BYTES_MAX` with other drains for more.
pub(crate) const DRAIN_OWN_BYTES: usize = 256 * 1024;

/// Bytes that the buffers of all drains hold together beyond their `DRAIN_OWN_BYTES`. Further lines
/// are dropped and counted.
pub(crate) const DRAIN_SHARED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes that a buffered line is charged beside its message.
pub(crate) const DRAIN_LINE_OVERHEAD_BYTES: usize = 256;

/// Lines that a drain sends at a time. The others follow.
pub(crate) const DRAIN_BATCH_LINES_MAX: usize = 500;

/// Bytes of the lines that a drain sends at a time. The others follow.
pub(crate) const DRAIN_BATCH_BYTES_MAX: usize = 512 * 1024;

/// Bytes of a syslog message in a datagram. The rest is cut off.
pub(crate) const DRAIN_DATAGRAM_BYTES_MAX: usize = 8 * 1024;

/// Bytes that are read of the response of a drain's endpoint. After a longer response, the
/// connection is closed.
pub(crate) const DRAIN_RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// How long a drain gathers lines before it sends them, so that it sends many at a time.
pub(crate) const DRAIN_GATHERING_TIME: Duration = Duration::from_millis(200);

/// Time for a connection of a drain to its endpoint, after which the attempt has failed.
pub(crate) const DRAIN_CONNECT_TIME: Duration = Duration::from_secs(10);

/// Time for sending a batch of a drain, after which the attempt has failed.
pub(crate) const DRAIN_SEND_TIME: Duration = Duration::from_secs(10);

/// Time for the body of a response of a drain's endpoint. Then the connection is closed.
pub(crate) const DRAIN_RESPONSE_TIME: Duration = Duration::from_secs(1);

/// The range of the back-off after a failed attempt of a drain.
pub(crate) const DRAIN_RETRY_AFTER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// The longest pause that the endpoint of a drain may request with `Retry-After`. A longer one is
/// shortened.
pub(crate) const DRAIN_RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// Interval at which a drain looks up the name of an endpoint for datagrams again, since no
/// connection ends when its address changes.
pub(crate) const DRAIN_LOOKUP_INTERVAL: Duration = Duration::from_secs(60);

/// Interval at which a drain tries to follow a log that it can't read.
pub(crate) const DRAIN_LOG_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Activities that a subscriber may lag behind. Then the stream skips some of them and reports
/// their number.
pub(crate) const ACTIVITY_FOLLOW_ENTRIES: usize = 256;

/// Apps that are restored concurrently when the host starts. Further apps wait.
pub(crate) const RESTORE_PARALLEL: usize = 4;

/// Pause before the host retries to restore an app that failed for lack of open files.
pub(crate) const RESTORE_RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// Default drain time of requests and handlers of stored events when the host stops. After it, the
/// host cancels them.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(20);

/// Drain time of a running push job at a stop. Then it is `failed` with the reason `host-stopped`.
pub(crate) const PUSH_DRAIN_TIME: Duration = Duration::from_secs(5);

/// Timeout for writing the last log lines and for closing the store at a stop. Then the host exits.
pub(crate) const FLUSH_TIME: Duration = Duration::from_secs(5);

/// Commands in the queue of an app's task. When it is full, further callers wait.
pub(crate) const APP_COMMANDS_QUEUED_MAX: usize = 32;

/// Crash reports in the queue to the control plane. When it is full, the supervisor waits.
pub(crate) const CRASH_REPORTS_QUEUED_MAX: usize = 64;

/// Reports of dead letters in the queue to the activity log. When it is full, further dead letters
/// appear only in the app's log and in the list of dead letters.
pub(crate) const DEAD_LETTERS_QUEUED_MAX: usize = 256;

/// The time for which the dead letters of one app are combined in one activity. The first one is
/// recorded immediately.
pub(crate) const DEAD_LETTERS_COMBINED: Duration = Duration::from_secs(60);

/// Activities that one step passes to a hook. The next step follows immediately.
pub(crate) const HOOK_EVENTS_PER_STEP: usize = 32;

/// Bytes of an activity's details, as JSON, in the event for hooks. Larger details are left out.
pub(crate) const HOOK_EVENT_DETAILS_BYTES_MAX: usize = 64 << 10;

/// The longest interval between two checks for events that a hook has not received. An activity
/// causes a check immediately.
pub(crate) const HOOK_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Pause before the host passes events again to a hook that can't receive them: it is stopped, or
/// its queue is full.
pub(crate) const HOOK_RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// Activities in the queue to the store, all apps together. A further activity is dropped, with a
/// warning in the host's own log.
pub(crate) const ACTIVITIES_QUEUED_MAX: usize = 4_096;

/// Activities in one write to the store. Further activities follow in the next write.
pub(crate) const ACTIVITIES_PER_WRITE_MAX: usize = 64;

/// How long an action waits until its activity is stored, which takes longer only on a slow or full
/// disk. Then the activity is stored later.
pub(crate) const ACTIVITY_STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before a write that failed on a full disk is retried.
pub(crate) const ACTIVITY_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Idle time before an app with `min = 0` is frozen, unless configured.
pub(crate) const FREEZE_AFTER: Duration = Duration::from_secs(60);

/// The longest interval between two checks for idle apps; half of the idle time if that is shorter.
pub(crate) const FREEZE_CHECK_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// Standby releases of one app while the rollout watch observes a newer release. Beyond it the
/// second oldest is dropped, or the third if apps use the second in a canary phase.
pub(crate) const STANDBY_RELEASES_MAX: usize = 4;

/// Pause before a failing health check of a new instance is retried.
pub(crate) const HEALTH_RETRY_DELAY: Duration = Duration::from_millis(250);

/// New instances of one process type that start concurrently beside the old instances; further
/// starts wait. Also the number of instances beyond its minimum that a new release has before its
/// first request.
pub(crate) const SURGE_INSTANCES: usize = 4;

/// Interval at which the rollout watch checks a new release after a swap.
pub(crate) const ROLLOUT_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Earlier releases that an automatic rollback tries, latest first. Then the app is in error.
pub(crate) const ROLLBACK_CANDIDATES_MAX: usize = 3;

/// The longest pause before an automatic rollback tries again to load a release that the host could
/// not read. The first pause is `RESTORE_RETRY_INTERVAL`, and each further one is twice as long.
pub(crate) const ROLLBACK_RETRY_MAX: Duration = Duration::from_secs(60);

/// Time for which an automatic rollback waits for a release that the host can't read. Then it tries
/// an earlier release.
pub(crate) const ROLLBACK_READS_TIMEOUT: Duration = Duration::from_secs(600);

/// Rounds of checks before the commit of a release. A further round follows if a plugin of the app,
/// or an app that uses the plugin, changed during the round before. Beyond it, the change fails,
/// and can be repeated.
pub(crate) const COMMIT_CHECKS_MAX: usize = 8;

/// The longest interval between two checks of the clock for schedules: a jump of the clock is
/// detected within it.
pub(crate) const SCHEDULE_CHECK_INTERVAL_MAX: Duration = Duration::from_secs(20);

/// The shortest interval between two checks of the schedules.
pub(crate) const SCHEDULE_CHECK_INTERVAL_MIN: Duration = Duration::from_millis(20);

/// Consecutive missed runs of a schedule that are recorded one by one. Further runs are counted,
/// and recorded together when the process type runs again.
pub(crate) const MISSED_RUNS_RECORDED: u32 = 10;

/// Interval at which the host cancels expired events that no delivery claims, and deletes events
/// that ended before the deduplication window. Until then, both occupy space on the disk.
pub(crate) const EVENT_PRUNE_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Events that one step deletes. The next step follows after a pause, so that an app's own changes
/// of its database don't wait for long.
pub(crate) const EVENTS_PRUNED_PER_STEP: usize = 200;

/// Pause between two steps that delete the events of one app.
pub(crate) const EVENT_PRUNE_PAUSE: Duration = Duration::from_millis(100);

/// Steps in a row that shrink the database of one app after its events were deleted. Then the other
/// apps follow; the next interval continues.
pub(crate) const SHRINK_STEPS_MAX: usize = 10_000;

/// Pause between two steps that shrink the database of one app.
pub(crate) const SHRINK_PAUSE: Duration = Duration::from_millis(10);

/// Runs of a command with `overlap = "queue"` that wait for the previous one. Further runs are
/// skipped, and recorded.
pub(crate) const SCHEDULED_RUNS_WAITING_MAX: usize = 100;

/// Runs in the history of a schedule. Earlier runs are not shown.
pub(crate) const SCHEDULE_HISTORY_RUNS: usize = 20;

/// How long a change of config, formation or grants waits for a running push. Then it is refused
/// with 409.
pub(crate) const CHANGE_WAIT: Duration = Duration::from_secs(20);

/// Interval at which gc looks for old releases, unused bundles and unused compiled code after the
/// start.
pub(crate) const GC_INTERVAL: Duration = Duration::from_secs(3600);

/// How long gc keeps an unused bundle or unused compiled code after the last write, so that a
/// running push doesn't lose the files that it has just stored.
pub(crate) const UNUSED_FILE_RETENTION: Duration = Duration::from_secs(6 * 3600);

/// How often the host checks that `control.db` is still the file that it opened. The check takes a
/// few system calls.
pub(crate) const CONTROL_FILE_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Interval at which the host checks whether data of apps was removed. Data in use is checked at
/// each use.
pub(crate) const DATA_LOSS_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Interval at which the counters of the apps' usage are added to the store.
pub(crate) const USAGE_INTERVAL: Duration = Duration::from_secs(60);

/// Interval at which the scaler checks the sizes of pools and records changes.
pub(crate) const SCALE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Concurrent deliveries of stored events of one app, running or queued for a core. Further events
/// wait in the queue on disk.
pub(crate) const DELIVERIES_PER_APP_MAX: usize = 256;

/// Runs in a row of one event's handler that end in a conflict with other handlers. Then the event
/// is postponed.
pub(crate) const CONFLICTS_MAX: u32 = 10;

/// Attempts in a row that end with the same trap, after which an event is a dead letter.
pub(crate) const SAME_TRAPS_MAX: u32 = 3;

/// The time until the next attempt if the handler could not be called.
pub(crate) const DELIVERY_POSTPONED: Duration = Duration::from_secs(1);

/// The longest delay before an event is forwarded again to an app that was stopped, had no release
/// or had a full queue, or delivered again after its provider was unavailable. Below it, the delay
/// is about as long as the event has waited so far.
pub(crate) const OUTAGE_POSTPONED_MAX: Duration = Duration::from_secs(60);

/// The shortest time for which a handler can postpone an event. A shorter time is extended.
pub(crate) const DELIVERY_POSTPONED_MIN: Duration = Duration::from_millis(100);

/// The longest delay of an event, and the latest expiry. An event with a later time is refused (by
/// the API with 400), since such a time is probably in the wrong unit.
pub(crate) const EVENT_TIME_AHEAD_MAX: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Characters in the name of an event's attribute, as CloudEvents recommends. An event with a
/// longer name is refused (by the API with 400).
pub(crate) const EVENT_ATTRIBUTE_NAME_CHARS_MAX: usize = 20;

/// Bytes in each of an event's id, source, type and subject. An event with a longer one is refused
/// (by the API with 400): an id is part of a URL, and lists contain all four.
pub(crate) const EVENT_ATTRIBUTE_BYTES_MAX: usize = 1_024;

/// The longest time until the next attempt. A longer time is shortened.
pub(crate) const DELIVERY_DELAY_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// The interval between attempts to use an app's queue after a disk error.
pub(crate) const QUEUE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest interval between two checks of a queue because of new events. It applies while a
/// process type of the app has its maximum of deliveries, or if all new events are delayed. Until
/// the next check, `buffered` and the counts of stored events may be inexact.
pub(crate) const QUEUE_CHECK_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The longest interval between two checks of a queue with delayed events: a jump of the clock is
/// detected within it.
pub(crate) const QUEUE_CHECK_INTERVAL_MAX: Duration = Duration::from_secs(20);

/// The shortest interval between two warnings that an app's queue can't be read or written.
pub(crate) const QUEUE_WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// How long the outcome of a delivery waits for the outcomes of the app's other deliveries, to
/// share a commit with them. It doesn't wait if no other delivery runs.
pub(crate) const OUTCOME_WAIT: Duration = Duration::from_millis(2);

/// Outcomes of deliveries that are gathered for a commit. Once there are this many, they are
/// committed without waiting for others.
pub(crate) const OUTCOMES_PER_COMMIT_ENOUGH: usize = 64;

/// Bytes of values and events in the outcomes that are gathered for a commit. Once there are this
/// many, the outcomes are committed without waiting for others.
pub(crate) const OUTCOME_BYTES_PER_COMMIT: usize = 1024 * 1024;

/// The time over which the rate of an app's deliveries is measured.
pub(crate) const DELIVERY_PACE_WINDOW: Duration = Duration::from_millis(50);

/// The shortest duration that is assumed for a claim of events. As many events are claimed in
/// advance as the app completes during a claim and the commit of an outcome.
pub(crate) const DELIVERY_CLAIM_TIME: Duration = Duration::from_millis(20);

/// The longest duration that is assumed for a claim of events. On a slower disk, no further events
/// are claimed in advance.
pub(crate) const DELIVERY_CLAIM_TIME_MAX: Duration = Duration::from_millis(500);
