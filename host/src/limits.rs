//! The limits of the process (open files, threads, start), each with the effect of reaching it.
//! Never holds behaviour.

use std::time::Duration;

/// Open files reserved for outbound requests, the API, the store and uploads; clients of apps can't
/// use them. At most half of all files. Half of the reserve is for guests' outbound connections, a
/// quarter for connections to the API.
pub(crate) const FILES_RESERVED: usize = 2_048;

/// The lowest limit of open files with which the host starts. With fewer, the store and a few
/// clients would compete for files.
pub(crate) const FILES_MIN: usize = 256;

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

/// How long the host waits for plugins to be restored before it accepts traffic, and then for apps
/// before it reports that it is ready. The others are restored afterwards, and requests to them get
/// 503 until then: one slow app must not delay all others.
pub(crate) const RESTORE_WAIT: Duration = Duration::from_secs(60);

/// Bytes of the configuration file. A larger file is refused.
pub(crate) const CONFIG_BYTES: u64 = 256 * 1024;

/// Bytes of a file with certificates. A larger file of trusted certificates is refused at the
/// start, and a larger watched file causes an alert.
pub(crate) const CERTIFICATES_BYTES_MAX: u64 = 1 << 20;
