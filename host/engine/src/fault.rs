//! Describes guest failures for the app's author, with the names of the guest's functions. Never
//! decides whether a call is retried.

use crate::{
    backtrace::GuestBacktrace,
    limits,
    provider_call::{ProviderError, ProviderErrorKind},
};
use isopod_policy::text::printable;
use std::{fmt, io, time::Duration};
use wasmtime::{Trap, WasmBacktrace, component::ResourceTableError};
use wasmtime_wasi_http::FieldMapError;

/// The text before each function of a backtrace in a report.
const FRAME: &str = "\n    at ";

/// Why a call into a guest has no response. Only the affected instance is lost.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// The guest executed a trap: a panic, an access out of bounds, a stack too deep. `output` is
    /// the end of what it wrote to standard error in this call, such as the message of a panic.
    #[error("the guest trapped: {message}")]
    Trap { message: String, output: String, backtrace: GuestBacktrace },
    /// The guest asked for more memory or table space than its limit, and ended.
    #[error("the guest ran out of {what} (limit: {limit}): {next}")]
    OutOf { what: Resource, limit: String, next: &'static str, backtrace: GuestBacktrace },
    /// The guest called `exit` during a request.
    #[error("the guest exited with status {code} instead of responding")]
    Exited { code: i32 },
    /// The deadline expired.
    #[error("the guest did not respond within {}", humantime(*.limit))]
    Timeout { limit: Duration },
    /// The guest returned without a response.
    #[error("the guest returned without a response")]
    NoResponse,
    /// The guest ended while the body of its response was still open.
    #[error("the guest returned without ending the body of its response")]
    BodyLeftOpen,
    /// The instance was stopped before the guest had ended its response.
    #[error("the instance was stopped in the middle of its response")]
    Stopped,
    /// The guest's response is not valid HTTP.
    #[error("the guest's response is invalid: {detail}")]
    InvalidResponse { detail: String },
    /// A plugin's decision is invalid.
    #[error("the plugin's decision is invalid: {detail}")]
    InvalidDecision { detail: String },
    /// The guest reported an error instead of responding.
    #[error("the guest failed: {message}")]
    Failed { message: String },
    /// The client's request ended early or exceeds a limit.
    #[error("the request could not be read: {detail}")]
    BadRequest { detail: String },
    /// The client disconnected before the response was complete.
    #[error("the client disconnected")]
    ClientGone,
    /// All instance slots, or all guest memory, of this host are in use.
    #[error("no room on this host: {detail}")]
    NoRoom { room: Room, detail: String },
    /// A provider that the guest called failed, or could not be called.
    #[error("the provider `{provider}` failed: {why}")]
    Provider { provider: String, why: String, kind: ProviderErrorKind },
    /// The component has no such entry point.
    #[error("the component does not export {entry}")]
    NoSuchEntry { entry: &'static str },
}

/// A resource that one instance has exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Linear memory.
    Memory,
    TableSpace,
    /// Memory that the host holds on the instance's behalf.
    HostMemory,
    Handles,
    HeaderFields,
    /// The arguments of one host call.
    CallArguments,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::TableSpace => "table space",
            Self::HostMemory => "host memory",
            Self::Handles => "handles",
            Self::HeaderFields => "room in one set of header fields",
            Self::CallArguments => "room for the arguments of one host call",
        })
    }
}

/// The exhausted resource of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Instance slots, over all apps.
    Instance,
    /// Instances of one wasmtime engine's pool.
    Slot,
    /// Guest memory, over all apps.
    Memory,
}

impl Fault {
    /// Returns a stable name for metrics and the API.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "trap",
            Self::OutOf { .. } => "out-of-memory",
            Self::Exited { .. } => "exited",
            Self::Timeout { .. } => "timeout",
            Self::NoResponse => "no-answer",
            Self::BodyLeftOpen => "body-left-open",
            Self::Stopped => "stopped",
            Self::InvalidResponse { .. } => "bad-answer",
            Self::InvalidDecision { .. } => "bad-decision",
            Self::Failed { .. } => "failed",
            Self::BadRequest { .. } => "bad-request",
            Self::ClientGone => "client-gone",
            Self::NoRoom { .. } => "no-room",
            Self::Provider { .. } => "provider",
            Self::NoSuchEntry { .. } => "no-such-entry",
        }
    }

    /// Returns the guest's functions, innermost first, if the fault has a backtrace.
    pub fn backtrace(&self) -> &[String] {
        self.trace().map(GuestBacktrace::lines).unwrap_or_default()
    }

    /// Returns the fault with the guest's last output and its backtrace, as text of several lines.
    pub fn report(&self) -> String {
        let mut text = self.summary();
        for function in self.backtrace() {
            text.push_str(FRAME);
            text.push_str(function);
        }
        text
    }

    /// Returns whether a report is of this fault, at the same functions. Only one may have places
    /// in the source, since their search takes a while and is limited.
    pub fn is_of(&self, report: &str) -> bool {
        let Some(frames) = report.strip_prefix(self.summary().as_str()) else { return false };
        let mut frames = frames.split(FRAME);
        let is_whole = frames.next() == Some("");
        is_whole && self.trace().map_or(frames.clone().next().is_none(), |trace| trace.is_of(frames))
    }

    /// Returns the fault with the guest's last output.
    fn summary(&self) -> String {
        let mut text = self.to_string();
        if let Self::Trap { output, .. } = self {
            // A line about an environment variable that has no effect here.
            for line in printable(output).lines().filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE=")) {
                text.push('\n');
                text.push_str(line);
            }
        }
        text
    }

    /// Waits until the places in the source are in the backtrace, if the host searches for them.
    /// The wait is bounded.
    pub async fn places_found(&self) {
        if let Some(trace) = self.trace() {
            trace.placed().await;
        }
    }

    pub(crate) fn trace(&self) -> Option<&GuestBacktrace> {
        match self {
            Self::Trap { backtrace, .. } | Self::OutOf { backtrace, .. } => Some(backtrace),
            _ => None,
        }
    }

    /// Adds the end of what the guest wrote to standard error in the call.
    pub(crate) fn with_output(mut self, text: String) -> Self {
        if let Self::Trap { output, .. } = &mut self {
            *output = text;
        }
        self
    }

    /// Converts an error of wasmtime. `denied` is the limiter's last refusal in this store.
    pub(crate) fn from_error(error: &wasmtime::Error, denied: Option<Denied>) -> Self {
        if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            return Self::Exited { code: exit.0 };
        }
        if let Some(ProviderError::Failed { provider, why, kind }) = error.downcast_ref::<ProviderError>().cloned() {
            return Self::Provider { provider, why, kind };
        }
        if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            return Self::NoRoom { room: Room::Slot, detail: error.to_string() };
        }
        // Evicting an idle instance frees file descriptors too.
        if let Some(error) = error.downcast_ref::<io::Error>().filter(|error| is_open_file_limit(error)) {
            return Self::NoRoom { room: Room::Instance, detail: error.to_string() };
        }
        let backtrace = error.downcast_ref::<WasmBacktrace>().map(GuestBacktrace::of).unwrap_or_default();
        match denied.or_else(|| Denied::by_wasmtime(error)) {
            Some(Denied::OwnLimit { what, limit, next }) => return Self::OutOf { what, limit, next, backtrace },
            Some(Denied::WholeHost { most }) => {
                let limit = format!("{} MiB", most / (1024 * 1024));
                let next = "this is the host's whole budget; its operator can raise memory_max";
                return Self::OutOf { what: Resource::Memory, limit, next, backtrace };
            }
            Some(Denied::HostMemory { most }) => {
                let mib = most / (1024 * 1024);
                let detail = format!("guests use all {mib} MiB of this host's guest memory");
                return Self::NoRoom { room: Room::Memory, detail };
            }
            None => {}
        }
        let message = match error.downcast_ref::<Trap>() {
            Some(Trap::UnreachableCodeReached) => "it panicked or reached unreachable code".to_owned(),
            Some(Trap::StackOverflow) => "its call stack is exhausted".to_owned(),
            Some(trap) => trap.to_string(),
            None => error.root_cause().to_string(),
        };
        Self::Trap { message, output: String::new(), backtrace }
    }
}

/// Returns whether this process, or the whole machine, has reached its limit of open files.
fn is_open_file_limit(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// The refusal of a store's limiter.
#[derive(Debug, Clone)]
pub(crate) enum Denied {
    /// A limit of one instance, and how to stay within it.
    OwnLimit { what: Resource, limit: String, next: &'static str },
    /// The host-wide memory budget, part of which other guests hold now.
    HostMemory { most: u64 },
    /// The host-wide memory budget, which is too small even if no other guest holds any.
    WholeHost { most: u64 },
}

impl Denied {
    /// Returns the error text of a host call that fails because of the refusal.
    pub(crate) fn call_error(&self) -> String {
        match self {
            Self::OwnLimit { what, limit, next } => format!("out of {what} (limit: {limit}): {next}"),
            Self::HostMemory { .. } | Self::WholeHost { .. } => "this host has no free memory for the call".to_owned(),
        }
    }

    /// Returns which of wasmtime's own limits an error reports.
    fn by_wasmtime(error: &wasmtime::Error) -> Option<Self> {
        // Two of these errors have private types, so they are recognised by their text.
        let words = error.root_cause().to_string();
        let (what, limit) = if let Some(ResourceTableError::Full) = error.downcast_ref() {
            (Resource::Handles, limits::HANDLES_MAX.to_string())
        } else if let Some(FieldMapError::TotalSizeTooBig) = error.downcast_ref() {
            (Resource::HeaderFields, format!("{} KiB", limits::RESPONSE_HEADERS_BYTES_MAX >> 10))
        } else if words.contains("store handle limit exceeded") {
            (Resource::Handles, limits::COMPONENT_HANDLES_MAX.to_string())
        } else if words.contains("fuel allocated for hostcalls") {
            (Resource::CallArguments, format!("{} MiB", limits::HOST_CALL_BYTES_MAX >> 20))
        } else {
            return None;
        };
        Some(Self::OwnLimit { what, limit, next: "drop unused handles, and pass less data in one call" })
    }
}

fn humantime(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}
