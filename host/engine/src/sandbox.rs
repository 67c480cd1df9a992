//! One app's permissions, as set by the embedder. Never enforces them: the capability files beside
//! this file do.

use crate::{
    event::{EmittedEvent, Reply},
    provider_call::{Provided, ProviderCall, ProviderError},
};
use async_trait::async_trait;
use isopod_policy::{Grants, Limits, TraceParent};
use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Everything that a program is given besides its code. A capability that isn't here is denied.
#[derive(Clone)]
pub struct Sandbox {
    /// The app's name, for messages.
    pub app: String,
    /// Arguments of a command.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// Variables readable through `wasi:config`.
    pub config: Vec<(String, String)>,
    /// Outbound hosts, folders, key-value data and other apps.
    pub grants: Grants,
    /// Whether sockets and every address are allowed: only for `isopod run --inherit-network`.
    pub inherit_network: bool,
    /// The granted folders, resolved on this machine.
    pub folders: Vec<Folder>,
    /// Size limits and timeouts.
    pub limits: Limits,
    /// The app's key-value data, if it was granted.
    pub keyvalue: Option<Arc<dyn KeyValue>>,
    /// The receiver of the events that the app sends, if this host takes any.
    pub events: Option<Arc<dyn EventSink>>,
    /// The providers of the granted interfaces, if this host has any.
    pub providers: Option<Arc<dyn Providers>>,
    /// The sink of the app's output.
    pub output: Arc<dyn Output>,
    /// Whether the app may use the reserve of memory and instance slots when the host is full.
    pub may_use_reserve: bool,
    /// Passes the standard streams of this process to the guest: only for `isopod run`.
    pub stdio: Option<Stdio>,
}

impl Sandbox {
    /// Returns a sandbox without configuration, grants and data, with the default limits.
    pub fn without_rights(app: String, output: Arc<dyn Output>) -> Self {
        Self {
            app,
            args: Vec::new(),
            env: Vec::new(),
            config: Vec::new(),
            grants: Grants::default(),
            inherit_network: false,
            folders: Vec::new(),
            limits: Limits::default(),
            keyvalue: None,
            events: None,
            providers: None,
            output,
            may_use_reserve: false,
            stdio: None,
        }
    }
}

/// The standard streams of this process, as the guest's. Standard input is passed on unchanged.
#[derive(Clone, Default)]
pub struct Stdio {
    /// Receives standard output; `None` passes it on unchanged.
    pub stdout: Option<Arc<dyn Screen>>,
    /// Receives standard error; `None` passes it on unchanged.
    pub stderr: Option<Arc<dyn Screen>>,
}

/// Receives the bytes that a guest writes to a standard stream, unchanged.
pub trait Screen: Send + Sync {
    fn write(&self, bytes: &[u8]);
}

/// A folder of the host that the guest sees under its own name. The guest can't reach anything
/// outside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    pub host: PathBuf,
    pub guest: String,
    pub writable: bool,
}

/// Receives lines of output. Called on I/O and worker threads, so it must never block.
pub trait Output: Send + Sync {
    fn line(&self, line: OutputLine<'_>);

    /// Returns the guest's last output to standard error for this request, if it is available.
    fn last_output(&self, _request_id: &str) -> Option<String> {
        None
    }
}

/// One line that a guest wrote, or that the host wrote about it.
#[derive(Debug, Clone, Copy)]
pub struct OutputLine<'a> {
    pub stream: Stream,
    /// The logging context that the guest named; empty if none.
    pub context: &'a str,
    pub origin: Origin<'a>,
    pub text: &'a str,
    /// When its cause occurred, if the line is written later.
    pub time: Option<SystemTime>,
}

impl<'a> OutputLine<'a> {
    /// Creates a line of the current time.
    pub fn new(stream: Stream, context: &'a str, origin: Origin<'a>, text: &'a str) -> Self {
        Self { stream, context, origin, text, time: None }
    }
}

/// Which instance wrote a line, and for which request or event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin<'a> {
    /// Empty while the instance starts, since it has no id yet.
    pub instance: &'a str,
    /// The id of the request or of the event's delivery; empty outside a call.
    pub request_id: &'a str,
    /// The id of the event that the guest was handling; empty outside a delivery.
    pub event_id: &'a str,
    /// The position in the trace of the request or event, if it has one.
    pub trace: Option<TraceParent>,
}

/// How a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
    Log(Level),
}

/// Levels of `wasi:logging`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        })
    }
}

/// An app's key-value data, by bucket and key.
#[async_trait]
pub trait KeyValue: Send + Sync {
    async fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, KvError>;
    async fn set(&self, bucket: &str, key: &str, value: Vec<u8>) -> Result<(), KvError>;
    async fn delete(&self, bucket: &str, key: &str) -> Result<(), KvError>;
    async fn exists(&self, bucket: &str, key: &str) -> Result<bool, KvError>;
    /// Returns the keys after the cursor in order and, if there are more, the last of them as the
    /// cursor for the next page.
    async fn list_keys(&self, bucket: &str, cursor: Option<&str>) -> Result<(Vec<String>, Option<String>), KvError>;
    /// Adds to a number, atomically; an absent key counts as 0.
    async fn increment(&self, bucket: &str, key: &str, delta: i64) -> Result<i64, KvError>;
    /// Returns the value of a key, and the version to pass to `set_if`.
    async fn get_versioned(&self, bucket: &str, key: &str) -> Result<(Option<Vec<u8>>, ValueVersion), KvError>;
    /// Atomically sets a key if its value has this version; otherwise returns the current version
    /// and sets nothing.
    async fn set_if(
        &self,
        bucket: &str,
        key: &str,
        seen: ValueVersion,
        value: Vec<u8>,
    ) -> Result<Result<(), ValueVersion>, KvError>;
    /// Checks whether the store accepts an entry, before it is buffered.
    fn check_entry(&self, bucket: &str, key: &str, value: &[u8]) -> Result<(), KvError>;
}

/// Identifies a value of a key: a digest of its bytes, or `None` for a key without a value. A
/// guest's handle stores this instead of the value, so it costs the host only a few bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueVersion(pub Option<[u8; 32]>);

/// Why a key-value call failed; the text reaches the guest.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KvError {
    #[error("no such bucket")]
    NoSuchBucket,
    #[error("{0}")]
    Other(String),
}

/// Receives the events that an app sends.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Checks whether an event is valid and would be accepted now. Called before an event handler's
    /// event is buffered, so that the handler learns about a fault of the event.
    async fn check(&self, event: &EmittedEvent) -> Result<(), EmitError>;
    /// Stores an event durably. An event that is stored already is a success.
    async fn emit(&self, event: EmittedEvent) -> Result<(), EmitError>;
    /// Delivers an event to an event handler immediately, and returns its reply. Dropping the
    /// future ends the delivery; the engine drops it at the timeout.
    async fn ask(&self, event: EmittedEvent, timeout: Duration) -> Result<Option<Reply>, EmitError>;
}

/// Passes the calls of an app to the providers of its granted interfaces.
#[async_trait]
pub trait Providers: Send + Sync {
    /// Returns the name of an interface's provider.
    fn provider(&self, interface: &str) -> Option<&str>;
    /// Calls the provider of the call's interface. Dropping the future ends the call.
    async fn call(&self, call: ProviderCall, request_id: &str) -> Result<Provided, ProviderError>;
}

/// Why an event was not sent, or an asked handler has no reply; the text reaches the guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Full(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Other(String),
}
