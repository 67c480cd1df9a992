//! Every bound of the command line's own work, with what happens at it. The host's bounds stand in the crate's `limits.rs`.

use std::time::Duration;

/// Reaching a host: past it the command fails, since a host that is there answers at once.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Waiting for an answer: past it the command fails. A push that is waited for takes longest, and is itself limited to 30
/// minutes.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(31 * 60);
/// The largest answer taken into memory; a larger one is an error, for the host sends none.
pub(crate) const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The longest server-sent event; a longer one is an error, for nothing that the host sends comes near it.
pub(crate) const STREAM_EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The largest event that is sent: past it the command fails, since the host refuses it.
pub(crate) const EVENT_BYTES_MAX: usize = crate::limits::EVENT_BODY_BYTES;
/// The longest that `--wait` waits for an app's state; then the command fails, though what it asked for is done or goes on.
pub(crate) const APP_STATE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a component that `isopod serve` and `isopod run` take. A larger file is refused before it is read.
pub(crate) const LOCAL_COMPONENT_BYTES_MAX: u64 = 512 << 20;

/// Bytes of compiled code that `isopod serve` and `isopod run` keep. Beyond it the least recently
/// used code is removed at the next start.
pub(crate) const COMPILED_BYTES_MAX: u64 = 1 << 30;

/// Compile time after which a terminal shows a message. Without a terminal, the time is printed
/// once the component is compiled.
pub(crate) const COMPILE_SILENCE: Duration = Duration::from_secs(1);
/// Items of a list that a command reads; the rest is left out, for nobody reads so many.
pub(crate) const LIST_ITEMS_MAX: usize = 100_000;

/// What is kept of a build's output; more is cut at its front, since its end says why it failed.
pub(crate) const BUILD_OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// The longest line of a build's output; a longer one is cut into several.
pub(crate) const BUILD_LINE_BYTES_MAX: u64 = 64 * 1024;

/// What has happened in `isopod dev` and was not looked at yet; who reports more waits.
pub(crate) const HAPPENINGS_WAITING_MAX: usize = 1024;
/// What the host of `isopod dev` is still to be told; more is refused, for then it has stopped answering.
pub(crate) const JOBS_WAITING_MAX: usize = 16;
/// Starting the host of `isopod dev`: past it the command fails and shows the host's log.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Folders that are watched; the rest is not, and the person is told.
pub(crate) const WATCHED_FOLDERS_MAX: usize = 4_000;
/// Files compared by content; for a larger one every event counts as a change.
pub(crate) const COMPARED_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Lines of `.gitignore` that are read; the rest is passed over.
pub(crate) const IGNORE_PATTERNS_MAX: usize = 500;
/// The log of the host of `isopod dev`; a longer one is begun anew at the next start.
pub(crate) const HOST_LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How often `isopod top` asks for a sample: the host measures no finer.
pub(crate) const TOP_SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Waiting for one sample: past it the host counts as gone, and is asked again.
pub(crate) const TOP_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Apps that `isopod top` shows, the busiest; that there are more is said.
pub(crate) const TOP_APPS_MAX: u32 = crate::limits::PAGE_ITEMS_MAX;
/// Seconds that `isopod top` remembers of each app; older ones are forgotten.
pub(crate) const TOP_HISTORY_SECONDS: usize = 300;
/// Keys and samples that `isopod top` has not looked at yet; who brings more waits.
pub(crate) const TOP_MESSAGES_WAITING_MAX: usize = 64;
/// The longest text of a host that `isopod top` shows; the rest is cut off, for no name is as long.
pub(crate) const TOP_TEXT_CHARS_MAX: usize = 200;
/// The longest filter: as long as a name can be. Further letters are not taken.
pub(crate) const TOP_FILTER_CHARS_MAX: usize = 63;
/// How long a command tries to reopen a followed stream before it fails.
pub(crate) const FOLLOW_RECONNECT_TIME: Duration = Duration::from_secs(30);
