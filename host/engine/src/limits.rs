//! Every bound of the engine that is not part of an app's own limits, with what happens when it is met.

use std::time::Duration;

/// Largest component accepted, in bytes. Larger ones are refused before they are read further.
pub const COMPONENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most functions in one component, over all its core modules. More are refused: compile time grows with them.
pub const FUNCTIONS_MAX: usize = 300_000;

/// Largest single function body, in bytes. Larger ones are refused: the optimiser's time grows faster than the body.
pub const FUNCTION_BYTES_MAX: usize = 1024 * 1024;

/// Deepest nesting of components and modules. Deeper ones are refused.
pub const NESTING_MAX: usize = 32;

/// Longest version that an SDK writes about itself, in bytes. A longer text is taken for one of no SDK.
pub const SDK_VERSION_BYTES_MAX: usize = 64;

/// How long a compilation may take before its caller is told that it failed. The thread finishes by itself.
pub const COMPILE_TIME_MAX: Duration = Duration::from_secs(120);

/// Compilations that may run at once. Others wait their turn.
pub const COMPILATIONS_MAX: usize = 2;

/// Bytes of compiled functions that are kept for components that have them too. Past it those that were not asked for
/// lately go.
pub const FUNCTIONS_KEPT_BYTES: u64 = 64 * 1024 * 1024;

/// About what one of them takes, from which the number of places for them is guessed.
pub const FUNCTION_KEPT_BYTES_USUAL: u64 = 2 * 1024;

/// Code of frozen programs that stays mapped. Past it that of those which were not thawed lately goes.
pub const FROZEN_CODE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// What is counted for one of them besides its code, for what wasmtime knows of it and for the kernel's maps.
pub const FROZEN_CODE_MORE_BYTES: u64 = 1024 * 1024;

/// How long `init` and all warm-up requests together may take before a snapshot is given up.
pub const SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(30);

/// Memory that an instance may have when its snapshot is taken. More is refused: for a moment the host holds several
/// copies of it.
pub const SNAPSHOT_MEMORY_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Snapshots that may be taken at once, so that a slow one leaves a thread to those who compile. Others wait their turn.
pub const SNAPSHOTS_MAX: usize = 1;

/// By how much the monotonic clock of an instance that starts from a snapshot is ahead: more than it can have advanced
/// while the snapshot was prepared, so that for the guest it never runs backwards.
pub const SNAPSHOT_CLOCK_AHEAD: Duration = Duration::from_secs(3600);

/// Length of one epoch: how often running guests are asked whether they should give way.
pub const EPOCH: Duration = Duration::from_millis(1);

/// Live instances over all apps. Past it a start is refused with [`crate::Fault::NoRoom`].
pub const INSTANCES_MAX: u32 = 1_000;

/// The part of the guests' memory, and of the places for instances, that only apps with
/// [`crate::Sandbox::may_use_reserve`] may take, in percent. The others are refused with [`crate::Fault::NoRoom`] before.
pub const RESERVE_PERCENT: u64 = 10;

/// Core instances that one component may be made of, and memories and tables that these may have; more are refused.
/// JavaScript and Python guests have up to 14.
pub const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 40;

/// Linear memories for each slot for an instance. A component of more takes several slots.
pub const MEMORIES_PER_SLOT: u32 = 2;

/// Core instances, and tables, for each slot for an instance. A component of more takes several slots.
pub const CORE_INSTANCES_PER_SLOT: u32 = 4;

/// Linear memory that stays mapped in a free slot, in bytes, so that the next instance need not fault it in again.
pub const MEMORY_KEEP_RESIDENT_BYTES: usize = 1024 * 1024;

/// The same for tables.
pub const TABLE_KEEP_RESIDENT_BYTES: usize = 64 * 1024;

/// A guest's call stack, in bytes. Deeper recursion is a trap.
pub const WASM_STACK_BYTES: usize = 512 * 1024;

/// The stack a guest's calls and the host functions they reach run on, in bytes.
pub const ASYNC_STACK_BYTES: usize = 2 * 1024 * 1024;

/// Handles of host resources that an instance may hold. The call that makes one more traps. An idle instance with more
/// than half of them is replaced.
pub const HANDLES_MAX: usize = 1_024;

/// Entries in the component model's own handle tables of one instance, for resources of the guest's own too. Making one
/// more traps.
pub const COMPONENT_HANDLES_MAX: usize = 10_000;

/// Tasks, streams and futures of one instance on a concurrent engine. Making one more traps.
pub const CONCURRENT_ENTRIES_MAX: usize = 10_000;

/// Host memory that one instance may use, beside its linear memory: header fields, bodies that wait to be read, buckets,
/// folder lists, and what a key-value call under way has read. Past it the guest traps, or the key-value call fails.
pub const HOST_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bytes that one host call copies out of the guest or into it: about as much as is copied within a slice. A call with
/// larger arguments traps; a key-value call with a larger result fails.
pub const HOST_CALL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Host memory that a handle is charged beside its content.
pub const HANDLE_BYTES: u64 = 256;

/// Bytes that a table element is charged.
pub const TABLE_ELEMENT_BYTES: u64 = 8;

/// Header names and values that one audit of an instance's handles measures exactly, since an audit takes place within
/// a slice. Further fields are charged the most that they can hold.
pub const AUDITED_HEADERS_MAX: usize = 4_096;

/// Bytes that a list of a folder's entries is charged, since its length is known to its reader only.
pub const FOLDER_LIST_BYTES: u64 = 1024 * 1024;

/// Bytes that a guest may write to a body in one call. A longer write is split by the guest, as `check-write` says.
pub const BODY_WRITE_BYTES_MAX: usize = 64 * 1024;

/// Bytes that a guest may write to its standard output or error in one call: each byte may end a line.
pub const OUTPUT_WRITE_BYTES_MAX: usize = 4 * 1024;

/// Random bytes that one call returns. A longer request traps by WASI 0.2 and is answered with so many by WASI 0.3.
pub const RANDOM_BYTES_MAX: u64 = 1024 * 1024;

/// Random bytes that are made before the slice's age is looked at.
pub const RANDOM_PIECE_BYTES: usize = 16 * 1024;

/// Bytes of a bucket's name. A longer one fails when the bucket is opened: it is kept with the handle.
pub const BUCKET_NAME_BYTES_MAX: usize = 128;

/// Keys that one key-value call takes. More fail.
pub const KEYS_PER_CALL_MAX: usize = 1_000;

/// Outbound requests that one app may have under way at once, over all its instances. Past it a request is refused to the
/// guest with `connection-limit-reached`.
pub const OUTBOUND_REQUESTS_MAX: usize = 128;

/// The same to one upstream (host and port), so that a slow one leaves the app requests for others. Also the connections
/// that are open to it, with and without a request: past it an idle one is closed, or the request waits within its time
/// to connect.
pub const OUTBOUND_PER_UPSTREAM_MAX: usize = 64;

/// Outbound connections that one app may have open, with and without a request. Past it its idle one that waits longest is
/// closed, or the request waits within its time to connect.
pub const OUTBOUND_CONNECTIONS_PER_APP_MAX: usize = 128;

/// The same over all apps. Past it the app's own idle connections are closed first, then any app's.
pub const OUTBOUND_CONNECTIONS_MAX: usize = 1_024;

/// How long a connection is kept for the next request. Then it is closed.
pub const OUTBOUND_IDLE_TIME: Duration = Duration::from_secs(20);

/// How long an outbound connection may take to be made, with the lookup of its name and with TLS, if the guest asks for no
/// less. Past it the guest gets `connection-timeout`.
pub const OUTBOUND_CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How long an outbound response's head or the next part of its body may take, if the guest asks for no less. Past it the
/// guest gets `HTTP-response-timeout` or `connection-read-timeout`.
pub const OUTBOUND_WAIT_MAX: Duration = Duration::from_secs(120);

/// The shortest such time. A guest that asks for less gets this.
pub const OUTBOUND_WAIT_MIN: Duration = Duration::from_millis(1);

/// Bytes of a request's body that are kept until its response begins, so that it can be sent a second time. A longer body
/// is sent once.
pub const OUTBOUND_REPLAY_BYTES_MAX: usize = 64 * 1024;

/// Name lookups that one app may have under way. More wait, within their time to connect.
pub const LOOKUPS_PER_APP_MAX: usize = 16;

/// The same over all apps.
pub const LOOKUPS_MAX: usize = 256;

/// How long one lookup may take. Past it the guest gets `DNS-timeout`.
pub const LOOKUP_TIME_MAX: Duration = Duration::from_secs(5);

/// How long one name server has for one attempt, if `/etc/resolv.conf` says no less. Then the next one is asked.
pub const LOOKUP_ATTEMPT_TIME_MAX: Duration = Duration::from_secs(2);

/// Attempts after the first one, if `/etc/resolv.conf` says no less.
pub const LOOKUP_ATTEMPTS_MAX: usize = 2;

/// Answers of name servers that are kept. Past it those not asked for lately go.
pub const LOOKUPS_KEPT: u64 = 1_024;

/// How long an answer is kept at the most, whatever its own time to live.
pub const LOOKUP_KEPT_FOR_MAX: Duration = Duration::from_secs(300);

/// The same for the answer that there is no such name.
pub const LOOKUP_FAILURE_KEPT_FOR_MAX: Duration = Duration::from_secs(10);

/// How often a lookup sees whether `/etc/resolv.conf` or `/etc/hosts` has changed.
pub const RESOLVER_FILES_LOOK: Duration = Duration::from_secs(5);

/// Largest request body, in bytes, that is given to a guest in one flat call. Larger ones take the streaming road.
pub const FLAT_BODY_BYTES_MAX: u64 = 1024 * 1024;

/// Frames of a guest's backtrace that are kept.
pub const BACKTRACE_FRAMES_MAX: usize = 32;

/// Requests after which an instance is replaced, at the least; up to half as many more are added by chance, so that
/// the instances of a pool are not replaced all at once.
pub const REQUESTS_PER_INSTANCE: u32 = 20_000;

/// Cursors that one key-value bucket handle remembers while a guest lists its keys. Past it listing fails.
pub const LIST_CURSORS_MAX: usize = 1_024;

/// The longest key that a guest's handle for a compare-and-swap keeps. A longer one is an error of the call.
pub const CAS_KEY_BYTES_MAX: usize = 1_024;

/// Headers that a guest's flat answer may have. More make it a bad answer; `wasi:http` has a bound of its own in bytes.
pub const REPLY_HEADERS_MAX: usize = 256;

/// Bytes of all names and values of a flat answer's headers. More make it a bad answer.
pub const REPLY_HEADERS_BYTES_MAX: usize = 128 * 1024;

/// Bytes of a flat answer's body that aren't charged to the memory budget while its client reads it: as much as a
/// connection may buffer anyway. A larger body is charged; where there is no room for it, the request is answered 503.
pub const ANSWER_BYTES_UNCHARGED: usize = 64 * 1024;

/// Bytes of an answer's body that are taken from a guest before anything is sent. Past it the rest is streamed.
pub const ANSWER_TAKEN_AT_ONCE_BYTES: u64 = 64 * 1024;

/// Bytes of a response's body that are taken from a guest which has returned, to find out whether it ended the body. More
/// than wasmtime's channel holds for it, so a body with more isn't the guest's but one of the host's that it passes on,
/// and is streamed.
pub const ANSWER_LEFT_BYTES_MAX: usize = 4 * 1024 * 1024;
