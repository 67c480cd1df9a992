//! Every bound of the engine that isn't one of an app's own limits, with the effect of reaching it.

use crate::kind::Flavour;
use std::time::Duration;

/// Largest component accepted, in bytes. Larger components are rejected before they are parsed.
pub const COMPONENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most functions in one component, over all its core modules. A component with more is rejected:
/// compile time grows with them.
pub const FUNCTIONS_MAX: usize = 300_000;

/// Largest single function body, in bytes. Larger bodies are rejected: the optimiser's time grows
/// faster than the body.
pub const FUNCTION_BYTES_MAX: usize = 1024 * 1024;

/// Deepest nesting of components and modules. Deeper nesting is rejected.
pub const NESTING_MAX: usize = 32;

/// Longest SDK version string, in bytes. A longer text is ignored.
pub const SDK_VERSION_BYTES_MAX: usize = 64;

/// Timeout of a compilation. On expiry the caller gets an error, while the thread finishes in the
/// background.
pub const COMPILE_TIME_MAX: Duration = Duration::from_secs(120);

/// Concurrent compilations. Others wait in a queue.
pub const COMPILATIONS_MAX: usize = 2;

/// Bytes of compiled functions cached for components that share them. Beyond it the least recently
/// used functions are evicted.
pub const FUNCTIONS_KEPT_BYTES: u64 = 64 * 1024 * 1024;

/// Usual size of one cached function, from which the cache's initial capacity is estimated.
pub const FUNCTION_KEPT_BYTES_USUAL: u64 = 2 * 1024;

/// Bytes of frozen programs' code that stays mapped. Beyond it the least recently thawed code is
/// evicted.
pub const FROZEN_CODE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Bytes charged per frozen program beside its code, for wasmtime's metadata and the kernel's
/// mappings.
pub const FROZEN_CODE_MORE_BYTES: u64 = 1024 * 1024;

/// Timeout of `init` and all warm-up requests together. On expiry the snapshot is abandoned.
pub const SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(30);

/// Largest memory of an instance for a snapshot. A larger one is refused: for a short time the host
/// holds several copies.
pub const SNAPSHOT_MEMORY_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Snapshots taken concurrently, so that a slow snapshot leaves a thread to compilations. Others
/// wait in a queue.
pub const SNAPSHOTS_MAX: usize = 1;

/// How far ahead the monotonic clock of an instance from a snapshot is set. It is more than the
/// clock can have advanced while the snapshot was prepared, so the guest never sees time run
/// backwards.
pub const SNAPSHOT_CLOCK_AHEAD: Duration = Duration::from_secs(3600);

/// Length of one epoch: how often a running guest checks whether it must yield.
pub const EPOCH: Duration = Duration::from_millis(1);

/// Live instances over all apps. Beyond it a start is refused with [`crate::Fault::NoRoom`].
pub const INSTANCES_MAX: u32 = 1_000;

/// Reserve of guest memory and instance slots, in percent, that only apps with
/// [`crate::Sandbox::may_use_reserve`] may use. Other apps are refused with
/// [`crate::Fault::NoRoom`] earlier.
pub const RESERVE_PERCENT: u64 = 10;

/// Core instances of one component, and likewise its memories and its tables. A component with more
/// is rejected. JavaScript and Python guests have up to 14.
pub const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 40;

/// Linear memories per instance slot. A component with more takes several slots.
pub const MEMORIES_PER_SLOT: u32 = 2;

/// Core instances, and tables, per instance slot. A component with more takes several slots.
pub const CORE_INSTANCES_PER_SLOT: u32 = 4;

/// Stacks per instance slot: one per call, and on a concurrent engine one that wasmtime caches for
/// the next call. A component that needs more takes several slots.
pub(crate) const fn stacks_per_slot(flavour: Flavour) -> u32 {
    match flavour {
        Flavour::Plain => 1,
        Flavour::Concurrent => 2,
    }
}

/// Linear memory that stays resident in a free slot, in bytes, so that the next instance avoids
/// page faults.
pub const MEMORY_KEEP_RESIDENT_BYTES: usize = 1024 * 1024;

/// Table space that stays resident in a free slot, in bytes, so that the next instance avoids page
/// faults.
pub const TABLE_KEEP_RESIDENT_BYTES: usize = 64 * 1024;

/// A guest's call stack, in bytes. Deeper recursion is a trap.
pub const WASM_STACK_BYTES: usize = 512 * 1024;

/// The stack for a guest's calls and the host functions that they call, in bytes.
pub const ASYNC_STACK_BYTES: usize = 2 * 1024 * 1024;

/// Handles of host resources per instance. The call that creates one more traps. An idle instance
/// with more than half as many is replaced.
pub const HANDLES_MAX: usize = 1_024;

/// Entries in the component model's handle tables of one instance, including resources that the
/// guest defines. Creating one more traps.
pub const COMPONENT_HANDLES_MAX: usize = 10_000;

/// Tasks, streams and futures of one instance on a concurrent engine. Creating one more traps.
pub const CONCURRENT_ENTRIES_MAX: usize = 10_000;

/// Host memory of one instance, beside its linear memory: header fields, unread bodies, buckets,
/// folder lists, the changes of an event delivery, and results of the current key-value call.
/// Beyond it the guest traps, or the call fails.
pub const HOST_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bytes of the names and written-out signatures of all interfaces that a component imports from
/// providers, or exports as a provider. A deploy with larger interfaces is refused.
pub const INTERFACES_BYTES_MAX: usize = 256 * 1024;

/// Resources of providers that one call of an app holds at one time. A call of a provider that
/// returns more ends the app's request, event or command.
pub const PROVIDER_HANDLES_MAX: usize = 1_000;

/// Bytes that a host call copies out of the guest or into it: about as much as can be copied
/// within a time slice. A call with larger arguments traps; a key-value call with a larger result
/// fails.
pub const HOST_CALL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Host memory that a handle is charged beside its content.
pub const HANDLE_BYTES: u64 = 256;

/// Bytes that a table element is charged.
pub const TABLE_ELEMENT_BYTES: u64 = 8;

/// Header names and values that an audit of an instance's handles measures exactly, since an audit
/// must fit into a time slice. Further fields are charged their maximum size.
pub const AUDITED_HEADERS_MAX: usize = 4_096;

/// Bytes charged for a list of a folder's entries, since only its reader knows its length.
pub const FOLDER_LIST_BYTES: u64 = 1024 * 1024;

/// Instances of one program that open their folders concurrently, each on its own thread. The
/// starts of further instances wait, within their timeout.
pub const FOLDERS_OPENED_AT_ONCE: usize = 1;

/// Bytes that a guest may write to a body in one call. `check-write` makes the guest split a longer
/// write.
pub const BODY_WRITE_BYTES_MAX: usize = 64 * 1024;

/// Bytes that a guest may write to its standard output or error in one call: each byte may end a
/// line.
pub const OUTPUT_WRITE_BYTES_MAX: usize = 4 * 1024;

/// Random bytes that a call returns. A longer request traps in WASI 0.2 and is shortened to this
/// in WASI 0.3.
pub const RANDOM_BYTES_MAX: u64 = 1024 * 1024;

/// Random bytes that are generated before the age of the time slice is checked.
pub const RANDOM_PIECE_BYTES: usize = 16 * 1024;

/// Bytes of a bucket's name, which the handle keeps. `open` fails for a longer one.
pub const BUCKET_NAME_BYTES_MAX: usize = 128;

/// Keys that a key-value call takes. A call with more fails.
pub const KEYS_PER_CALL_MAX: usize = 1_000;

/// Bytes of a guest's error text, such as that of an event handler. A longer text is truncated.
pub const GUEST_ERROR_BYTES_MAX: usize = 8 * 1024;

/// Bytes of an event that a guest sends. The call fails for a larger event.
pub const EMITTED_EVENT_BYTES_MAX: u64 = 1024 * 1024;

/// Events that a handler sends during one delivery. The call that sends a further event fails.
pub const EMITTED_EVENTS_MAX: usize = 1_000;

/// Bytes of the values and events that an event handler changes during one delivery: they are held
/// in memory until their commit. The call that exceeds it fails.
pub const TRANSACTION_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Keys that an event handler reads and writes during one delivery: one commit checks and writes
/// all of them. The call that exceeds it fails.
pub const TRANSACTION_KEYS_MAX: usize = 10_000;

/// Host memory that is charged for a buffered key in addition to its content.
pub const TRANSACTION_ENTRY_BYTES: u64 = 128;

/// Bytes that are charged for a buffered event in addition to its texts and data. At least the
/// overhead of the embedder's store, so that the store never refuses effects within the limits
/// above.
pub const EMITTED_EVENT_ENTRY_BYTES: u64 = 640;

/// Outbound requests of one app in progress, over all its instances. Beyond it a request fails with
/// `connection-limit-reached`.
pub const OUTBOUND_REQUESTS_MAX: usize = 128;

/// Outbound requests of one app in progress to one upstream (host and port), so that a slow
/// upstream leaves requests for other upstreams. Also limits the app's open connections to one
/// upstream, idle or in use: beyond it an idle connection is closed, or the request waits within
/// its connect timeout.
pub const OUTBOUND_PER_UPSTREAM_MAX: usize = 64;

/// Open outbound connections of one app, idle or in use. Beyond it the app's oldest idle connection
/// is closed, or the request waits within its connect timeout.
pub const OUTBOUND_CONNECTIONS_PER_APP_MAX: usize = 128;

/// Open outbound connections of all apps, idle or in use. Beyond it the app's own idle connections
/// are closed first, then those of any app.
pub const OUTBOUND_CONNECTIONS_MAX: usize = 1_024;

/// Idle time after which an outbound connection is closed.
pub const OUTBOUND_IDLE_TIME: Duration = Duration::from_secs(20);

/// Longest connect timeout of an outbound request, including name lookup and TLS. On expiry the
/// guest gets `connection-timeout`.
pub const OUTBOUND_CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest timeout for an outbound response's head, and for each next part of its body. On expiry
/// the guest gets `HTTP-response-timeout` or `connection-read-timeout`.
pub const OUTBOUND_WAIT_MAX: Duration = Duration::from_secs(120);

/// Shortest timeout of an outbound request. A guest that sets less gets this.
pub const OUTBOUND_WAIT_MIN: Duration = Duration::from_millis(1);

/// Bytes of a request's body that are kept for a retry until its response begins. A longer body is
/// not retried.
pub const OUTBOUND_REPLAY_BYTES_MAX: usize = 64 * 1024;

/// TLS sessions that a release keeps for its next connection to a server. Beyond it the
/// oldest session is dropped, and its server gets a full handshake.
pub const OUTBOUND_TLS_SESSIONS_MAX: usize = 256;

/// Name lookups of one app in progress. More wait, within their connect timeout.
pub const LOOKUPS_PER_APP_MAX: usize = 16;

/// Name lookups of all apps in progress. Further lookups wait, within their connect timeout.
pub const LOOKUPS_MAX: usize = 256;

/// Timeout of one lookup. On expiry the guest gets `DNS-timeout`.
pub const LOOKUP_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest timeout of one attempt at one name server; `/etc/resolv.conf` may set less. On expiry
/// the next server is queried.
pub const LOOKUP_ATTEMPT_TIME_MAX: Duration = Duration::from_secs(2);

/// Most retries of a name lookup after the first attempt; `/etc/resolv.conf` may set less.
pub const LOOKUP_ATTEMPTS_MAX: usize = 2;

/// Entries of the cache of name lookups. Beyond it the least recently used entries are evicted.
pub const LOOKUPS_KEPT: u64 = 1_024;

/// Longest time that the result of a name lookup is cached, even if its time to live is longer.
pub const LOOKUP_KEPT_FOR_MAX: Duration = Duration::from_secs(300);

/// Longest time that a negative answer of a name lookup is cached: the name does not exist.
pub const LOOKUP_FAILURE_KEPT_FOR_MAX: Duration = Duration::from_secs(10);

/// Shortest interval at which lookups check `/etc/resolv.conf` and `/etc/hosts` for changes.
pub const RESOLVER_FILES_LOOK: Duration = Duration::from_secs(5);

/// Largest request body, in bytes, that is passed to a guest in one flat call. Larger bodies are
/// streamed.
pub const FLAT_BODY_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes that are reserved for the head of a flat request. A larger head grows its buffer.
pub const FLAT_HEAD_BYTES_USUAL: usize = 512;

/// Bytes of a body that are copied into or out of the guest before the age of the time slice is
/// checked.
pub const FLAT_PIECE_BYTES: usize = 256 * 1024;

/// Bytes of a response's body that are copied out of the guest while the response is lifted, which
/// can't be interrupted. A larger body is copied in pieces afterwards.
pub const FLAT_COPIED_AT_ONCE_BYTES: usize = 1024 * 1024;

/// The bodies of a flat call count as large if they take at least 1/N of the instance's memory
/// limit; this value is N. After such a call, the instance is replaced if its memory exceeds the
/// part that `FLAT_FILLED_MEMORY_PART` sets.
pub const FLAT_LARGE_BODIES_PART: u64 = 8;
/// After a flat call with large bodies, an instance is replaced if its memory exceeds 1/N of its
/// limit; this value is N. The guest's heap is then fragmented, so another call of that size may
/// not fit.
pub const FLAT_FILLED_MEMORY_PART: u64 = 2;

/// Parts of a request's body below this size are joined, so that a body in many small parts takes
/// little more memory than its bytes.
pub const FLAT_JOINED_BYTES: usize = 16 * 1024;

/// Frames of a guest's backtrace that are reported. The outer frames are dropped.
pub const BACKTRACE_FRAMES_MAX: usize = 32;

/// Bytes of a guest's backtrace as text. The outer frames are omitted.
pub const BACKTRACE_BYTES_MAX: usize = 6 * 1024;

/// Bytes of a function's name in a backtrace. The rest is cut off.
pub const BACKTRACE_NAME_BYTES_MAX: usize = 256;

/// Bytes of a source file's path in a backtrace. The start is cut off.
pub const BACKTRACE_PATH_BYTES_MAX: usize = 128;

/// Bytes of a guest's last output to standard error in the report of its trap. Earlier lines are
/// omitted.
pub const TRAP_OUTPUT_BYTES_MAX: usize = 1024;

/// Functions inlined into one frame that a backtrace shows, innermost first. The outer ones are
/// omitted.
pub const INLINED_FRAMES_MAX: usize = 16;

/// Bytes of a core module's `.debug_line` section. A larger one is not read, so that backtraces
/// have neither files nor lines.
pub const DEBUG_LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of the header of one table in `.debug_line`. The table is skipped if it has more: its
/// lists of files take many times as much memory.
pub const DEBUG_LINE_HEADER_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a core module's `.debug_abbrev` section. A larger one is not read, so that backtraces
/// have neither files nor lines: while it is read, it takes up to 25 times as much memory.
pub const DEBUG_ABBREV_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a name in a component or in its debug information that are read. The rest is ignored.
pub const DEBUG_TEXT_BYTES_MAX: usize = 4 * 1024;

/// Entries through which the name of an inlined function is searched for in debug information.
/// Beyond it the function has no name.
pub const ORIGINS_MAX: usize = 4;

/// Time to find the places of one backtrace in the source. Afterwards, the backtrace has those that
/// were found.
pub const SYMBOLS_TIME_MAX: Duration = Duration::from_secs(1);

/// Steps to find the places of one backtrace in the source, such as the read of a number.
/// Afterwards, the backtrace has those that were found.
pub const SYMBOLS_STEPS_MAX: u64 = 100_000_000;

/// Steps of the search for places in the source between two checks of its time.
pub const SYMBOLS_STEPS_PER_CHECK: u64 = 1024;

/// Backtraces that wait until their places in the source are found. Further ones are reported
/// immediately, without files and lines.
pub const SYMBOLS_QUEUE: usize = 32;

/// Backtraces of one app in that queue. Further ones are reported immediately, so that one app's
/// traps don't fill the queue.
pub const SYMBOLS_QUEUE_PER_APP: usize = 4;

/// Backtraces of one app whose places are kept, so that a trap which occurs again needs no search.
/// Beyond it the least recently used one is dropped.
pub const SYMBOLS_KEPT_PER_APP: usize = 8;

/// Apps for which places are kept. Beyond it those of the least recently used one are dropped.
pub const SYMBOLS_KEPT_APPS_MAX: usize = 32;

/// After a search, the searches of its app pause for this many times as long as it took, so that
/// searches for one app use at most a quarter of one processor on average.
pub const SYMBOLS_PAUSE_FACTOR: u32 = 3;

/// How long the line of a trap, and the delivery of an event, wait for the places of the trap's
/// backtrace. Then they have no files and lines.
pub const SYMBOLS_WAIT_MAX: Duration = Duration::from_secs(5);

/// Requests after which an instance is replaced. Up to half as many more are added per instance, so
/// that a pool's instances aren't replaced simultaneously.
pub const REQUESTS_PER_INSTANCE: u32 = 20_000;

/// Cursors that a key-value bucket handle holds while a guest lists its keys. Beyond it listing
/// fails.
pub const LIST_CURSORS_MAX: usize = 1_024;

/// Bytes of the key in a compare-and-swap handle. The call fails for a longer one.
pub const CAS_KEY_BYTES_MAX: usize = 1_024;

/// Headers of a guest's flat response. More make the response invalid; `wasi:http` has its own
/// bound in bytes.
pub const RESPONSE_HEADERS_MAX: usize = 256;

/// Bytes of all header names and values of a flat response. More make the response invalid.
pub const RESPONSE_HEADERS_BYTES_MAX: usize = 128 * 1024;

/// Header changes of one decision of a middleware. More make the decision invalid.
pub const DECISION_CHANGES_MAX: usize = 128;

/// Header fields of a head after the changes of a middleware. A decision that leads to more is
/// invalid. The total size of the fields has the same limit as in a flat response.
pub const HEAD_FIELDS_MAX: usize = 512;

/// Bytes of the context that a middleware returns for the response. More make its decision invalid.
pub const RESPONSE_CONTEXT_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the longest body that a middleware can ask for. A decision that asks for more is
/// invalid. Bodies of this size are copied into the guest within a time slice.
pub const MIDDLEWARE_BODY_BYTES_MAX: u64 = HOST_CALL_BYTES_MAX as u64;

/// Bytes of a gate's reason for a refusal. A longer reason is truncated: it is stored with the
/// release, and people read it.
pub const GATE_REASON_BYTES_MAX: usize = 2 * 1024;

/// Bytes of the key of a plugin's token bucket. A call with a longer key fails, since each call
/// hashes its key.
pub const COUNTER_KEY_BYTES_MAX: usize = 256;

/// Token buckets of one plugin for one app. A new key beyond it, or in a full part of their table,
/// evicts the bucket that will be full soonest. Keys that take few tokens therefore don't unblock a
/// client that has used up its tokens. Together, the buckets take 256 KiB.
pub const COUNTERS_MAX: usize = 16 * 1024;

/// Bytes of the token buckets of one plugin for one app that aren't charged to the memory budget. A
/// larger table is charged; if the budget has no room, it doesn't grow.
pub const COUNTERS_BYTES_UNCHARGED: usize = 4 * 1024;

/// Bytes of a flat response's body that aren't charged to the memory budget while the client reads
/// it: as much as a connection may buffer in any case. A larger body is charged; if the budget has
/// no room, the response is 503.
pub const RESPONSE_BYTES_UNCHARGED: usize = 64 * 1024;

/// Bytes of a response's body that are buffered from a guest before anything is sent. The rest is
/// streamed.
pub const RESPONSE_TAKEN_AT_ONCE_BYTES: u64 = 64 * 1024;

/// Frames of a response that are taken before its head is sent. A response with more is streamed: a
/// frame uses about a hundred bytes of the host's memory besides its content.
pub const RESPONSE_TAKEN_AT_ONCE_FRAMES: usize = 1_024;

/// Empty frames of a body that are skipped in one poll, so that a guest that writes only empty
/// frames doesn't occupy the thread of its reader.
pub const EMPTY_FRAMES_SKIPPED_AT_ONCE: usize = 64;

/// Time slices that a guest may use after the head of its response before the host sends the head
/// and the part of the body that is available. If the guest waits within a slice, its response
/// begins then.
pub const RESPONSE_BEGIN_SLICES_MAX: u32 = 8;

/// How long the head of a response waits for the guest to read a body that the client sends only
/// then (`Expect: 100-continue`), at most half of the app's `request_timeout`. Then the response
/// begins, and the body can no longer be read.
pub const UNREAD_BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of a response's body that are read after its guest has returned, to find out whether the
/// guest ended the body. It is more than wasmtime's channel holds. A longer body therefore comes
/// from the host, not from the guest, and is streamed.
pub const RESPONSE_LEFT_BYTES_MAX: usize = 4 * 1024 * 1024;
