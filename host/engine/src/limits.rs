//! Every bound of the engine that is not part of an app's own limits, with what happens when it is met.

use crate::config::Flavour;
use std::time::Duration;

/// Largest component accepted, in bytes. Larger ones are refused before they are read further.
pub const COMPONENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most functions in one component, over all its core modules. More are refused: compile time grows with them.
pub const FUNCTIONS_MAX: usize = 300_000;

/// Largest single function body, in bytes. Larger ones are refused: the optimiser's time grows faster than the body.
pub const FUNCTION_BYTES_MAX: usize = 1024 * 1024;

/// Deepest nesting of components and modules. Deeper ones are refused.
pub const NESTING_MAX: usize = 32;

/// Longest version that an SDK writes about itself, in bytes. A longer text is ignored.
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

/// Core instances of one component, and memories and tables of all of them; more are refused.
/// JavaScript and Python guests have up to 14.
pub const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 40;

/// Linear memories per instance slot. A component with more takes several slots.
pub const MEMORIES_PER_SLOT: u32 = 2;

/// Core instances, and tables, per instance slot. A component with more takes several slots.
pub const CORE_INSTANCES_PER_SLOT: u32 = 4;

/// Stacks per instance slot: one per call, and on a concurrent engine one more, which wasmtime keeps for the next call. A
/// component that needs more takes several slots.
pub(crate) const fn stacks_per_slot(flavour: Flavour) -> u32 {
    match flavour {
        Flavour::Plain => 1,
        Flavour::Concurrent => 2,
    }
}

/// Linear memory that stays mapped in a free slot, in bytes, so that the next instance need not fault it in again.
pub const MEMORY_KEEP_RESIDENT_BYTES: usize = 1024 * 1024;

/// The same for tables.
pub const TABLE_KEEP_RESIDENT_BYTES: usize = 64 * 1024;

/// A guest's call stack, in bytes. Deeper recursion is a trap.
pub const WASM_STACK_BYTES: usize = 512 * 1024;

/// The stack a guest's calls and the host functions they reach run on, in bytes.
pub const ASYNC_STACK_BYTES: usize = 2 * 1024 * 1024;

/// Handles of host resources per instance. The call that creates one more traps. An idle instance
/// with more than half of them is replaced.
pub const HANDLES_MAX: usize = 1_024;

/// Entries in the component model's handle tables of one instance, including resources that the
/// guest defines. Creating one more traps.
pub const COMPONENT_HANDLES_MAX: usize = 10_000;

/// Tasks, streams and futures of one instance on a concurrent engine. Creating one more traps.
pub const CONCURRENT_ENTRIES_MAX: usize = 10_000;

/// Host memory of one instance, beside its linear memory: header fields, unread bodies, buckets,
/// folder lists, and results of the current key-value call. Beyond it the guest traps, or the
/// key-value call fails.
pub const HOST_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bytes that one host call copies out of the guest or into it: about as much as can be copied
/// within a time slice. A call with larger arguments traps; a key-value call with a larger result
/// fails.
pub const HOST_CALL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Host memory that a handle is charged beside its content.
pub const HANDLE_BYTES: u64 = 256;

/// Bytes that a table element is charged.
pub const TABLE_ELEMENT_BYTES: u64 = 8;

/// Header names and values that one audit of an instance's handles measures exactly, since an audit
/// must fit into a time slice. Further fields are charged their maximum size.
pub const AUDITED_HEADERS_MAX: usize = 4_096;

/// Bytes charged for a list of a folder's entries, since only its reader knows its length.
pub const FOLDER_LIST_BYTES: u64 = 1024 * 1024;

/// Instances of one program whose folders are being opened, each on a thread of its own. The starts of
/// further ones wait, within their timeout.
pub const FOLDERS_OPENED_AT_ONCE: usize = 1;

/// Bytes that a guest may write to a body in one call. `check-write` makes the guest split a longer
/// write.
pub const BODY_WRITE_BYTES_MAX: usize = 64 * 1024;

/// Bytes that a guest may write to its standard output or error in one call: each byte may end a line.
pub const OUTPUT_WRITE_BYTES_MAX: usize = 4 * 1024;

/// Random bytes that one call returns. A longer request traps in WASI 0.2 and is shortened to this
/// in WASI 0.3.
pub const RANDOM_BYTES_MAX: u64 = 1024 * 1024;

/// Random bytes that are generated before the age of the time slice is checked.
pub const RANDOM_PIECE_BYTES: usize = 16 * 1024;

/// Bytes of a bucket's name, which the handle keeps. `open` fails for a longer one.
pub const BUCKET_NAME_BYTES_MAX: usize = 128;

/// Keys that one key-value call takes. A call with more fails.
pub const KEYS_PER_CALL_MAX: usize = 1_000;

/// Outbound requests of one app in progress, over all its instances. Beyond it a request fails with
/// `connection-limit-reached`.
pub const OUTBOUND_REQUESTS_MAX: usize = 128;

/// The same per upstream (host and port), so that a slow upstream leaves requests for others. Also
/// the app's open connections to one upstream, idle or in use: beyond it an idle one is closed, or
/// the request waits within its connect timeout.
pub const OUTBOUND_PER_UPSTREAM_MAX: usize = 64;

/// Open outbound connections of one app, idle or in use. Beyond it the app's oldest idle one is
/// closed, or the request waits within its connect timeout.
pub const OUTBOUND_CONNECTIONS_PER_APP_MAX: usize = 128;

/// The same over all apps. Beyond it the app's own idle connections are closed first, then any
/// app's.
pub const OUTBOUND_CONNECTIONS_MAX: usize = 1_024;

/// How long a connection is kept for the next request. Then it is closed.
pub const OUTBOUND_IDLE_TIME: Duration = Duration::from_secs(20);

/// Longest connect timeout of an outbound request, including name lookup and TLS. On expiry the
/// guest gets `connection-timeout`.
pub const OUTBOUND_CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest timeout for an outbound response's head, and for each next part of its body. On expiry
/// the guest gets `HTTP-response-timeout` or `connection-read-timeout`.
pub const OUTBOUND_WAIT_MAX: Duration = Duration::from_secs(120);

/// Shortest of these timeouts. A guest that sets less gets this.
pub const OUTBOUND_WAIT_MIN: Duration = Duration::from_millis(1);

/// Bytes of a request's body that are kept for a retry until its response begins. A longer body is
/// not retried.
pub const OUTBOUND_REPLAY_BYTES_MAX: usize = 64 * 1024;

/// Name lookups of one app in progress. More wait, within their connect timeout.
pub const LOOKUPS_PER_APP_MAX: usize = 16;

/// The same over all apps.
pub const LOOKUPS_MAX: usize = 256;

/// Timeout of one lookup. On expiry the guest gets `DNS-timeout`.
pub const LOOKUP_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest timeout of one attempt at one name server; `/etc/resolv.conf` may set less. Then the
/// next one is asked.
pub const LOOKUP_ATTEMPT_TIME_MAX: Duration = Duration::from_secs(2);

/// Most retries after the first attempt; `/etc/resolv.conf` may set less.
pub const LOOKUP_ATTEMPTS_MAX: usize = 2;

/// Entries of the cache of name lookups. Beyond it the least recently used ones are evicted.
pub const LOOKUPS_KEPT: u64 = 1_024;

/// Longest time that an answer is cached, whatever its own time to live.
pub const LOOKUP_KEPT_FOR_MAX: Duration = Duration::from_secs(300);

/// The same for a negative answer: the name does not exist.
pub const LOOKUP_FAILURE_KEPT_FOR_MAX: Duration = Duration::from_secs(10);

/// Shortest interval at which lookups check `/etc/resolv.conf` and `/etc/hosts` for changes.
pub const RESOLVER_FILES_LOOK: Duration = Duration::from_secs(5);

/// Largest request body, in bytes, that is given to a guest in one flat call. Larger ones take the streaming road.
pub const FLAT_BODY_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes of a body that are copied into the guest, or out of it, before the age of the time slice is
/// checked.
pub const FLAT_PIECE_BYTES: usize = 256 * 1024;

/// Bytes of a response's body that are copied out of the guest while the response is lifted, which can't be
/// interrupted. A larger body is copied in pieces afterwards.
pub const FLAT_COPIED_AT_ONCE_BYTES: usize = 1024 * 1024;

/// Parts of a request's body below this size are joined, so that a body in many small parts takes
/// little more memory than its bytes.
pub const FLAT_JOINED_BYTES: usize = 16 * 1024;

/// Frames of a guest's backtrace that are kept.
pub const BACKTRACE_FRAMES_MAX: usize = 32;

/// Requests after which an instance is replaced, at the least; up to half as many more are added by chance, so that
/// the instances of a pool are not replaced all at once.
pub const REQUESTS_PER_INSTANCE: u32 = 20_000;

/// Cursors that one key-value bucket handle remembers while a guest lists its keys. Past it listing fails.
pub const LIST_CURSORS_MAX: usize = 1_024;

/// Bytes of the key in a compare-and-swap handle. The call fails for a longer one.
pub const CAS_KEY_BYTES_MAX: usize = 1_024;

/// Headers that a guest's flat answer may have. More make it a bad answer; `wasi:http` has a bound of its own in bytes.
pub const REPLY_HEADERS_MAX: usize = 256;

/// Bytes of all names and values of a flat answer's headers. More make it a bad answer.
pub const REPLY_HEADERS_BYTES_MAX: usize = 128 * 1024;

/// Bytes of a flat answer's body that aren't charged to the memory budget while its client reads it: as much as a
/// connection may buffer anyway. A larger body is charged; if the budget has no room for it, the response is 503.
pub const ANSWER_BYTES_UNCHARGED: usize = 64 * 1024;

/// Bytes of an answer's body that are taken from a guest before anything is sent. Past it the rest is streamed.
pub const ANSWER_TAKEN_AT_ONCE_BYTES: u64 = 64 * 1024;

/// Bytes of a response's body that are taken after its guest has returned, to find out whether the
/// guest ended it. It is more than wasmtime's channel holds. A longer body is therefore one that
/// the guest passes on from the host, and is streamed.
pub const ANSWER_LEFT_BYTES_MAX: usize = 4 * 1024 * 1024;
