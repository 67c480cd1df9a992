//! Runs guests: compiles components, sandboxes them, and calls them. The only crate that names
//! wasmtime.
//!
//! The life of a component: [`inspect()`] reads its properties, [`Engine::load`] compiles it,
//! [`Engine::program`] joins it with a [`Sandbox`], and [`Program::start`] starts an [`Instance`].
//! The instance serves calls until it traps, is stopped, or reaches its limit of calls.
//!
//! Never decides when instances start or stop, which app a request is for, or where anything is
//! stored.

mod account;
mod asked_body;
mod assets;
mod audit;
mod backtrace;
mod bindings;
mod body;
mod body_export;
mod body_handler;
mod bounded;
mod budget;
mod caller;
mod charged;
mod command;
mod compile;
mod config;
mod counter_table;
mod counters;
mod decision;
mod dwarf;
mod emit;
mod engine;
mod error;
mod event;
mod event_export;
mod events;
mod fault;
mod fault_log;
mod flat;
mod flat_call;
mod frozen_code;
mod functions;
mod gate;
mod handles;
mod head;
mod head_sender;
mod host_body;
mod http_abi;
mod http_outcome;
mod inspect;
mod instance;
mod interfaces;
mod key_access;
mod keyvalue;
mod kind;
mod known_lines;
pub mod limits;
mod linked;
mod linker;
mod logging;
mod offered;
mod outbound;
mod output;
mod packed;
mod places;
mod plugin;
mod program;
mod provider;
mod provider_call;
mod provider_link;
mod purity;
mod resource_values;
mod response_body;
mod sandbox;
mod shared_code;
mod slots;
mod snapshot;
mod state;
mod steps;
mod streaming;
mod symbol_queue;
mod symboliser;
mod ticker;
mod transaction;
mod unfinished;
mod unread;
mod waits;
mod wasi02;
mod wasi03;
mod wasi_http;

pub use assets::{content_type, quoted_etag};
pub use backtrace::GuestBacktrace;
pub use body::{BadBody, BodyError, BodyMonitor, RequestBody, StallTimeout, broken_off};
pub use charged::MemoryCharge;
pub use config::EngineConfig;
pub use counter_table::Counters;
pub use decision::{AssetResponse, Decision, HeaderChanges, RequestChanges, ResponseChanges, ResponseDecision};
pub use engine::{Component, Engine};
pub use error::{EngineError, NoSnapshot};
pub use event::{EmittedEvent, Event, EventFailure, Handled, Reply};
pub use events::Committable;
pub use fault::{Fault, Resource, Room};
pub use gate::{GateDecision, GatedRelease};
pub use head::has_no_content;
pub use http_outcome::{HttpOutcome, InstanceState};
pub use inspect::{ComponentInfo, Entries, HttpAbi, Rejected, inspect};
pub use instance::Instance;
pub use interfaces::{Interface, Interfaces};
pub use kind::Speed;
pub use outbound::{OutboundServer, OutboundStream};
pub use plugin::PluginRequest;
pub use program::{FrozenProgram, Program};
pub use provider_call::{Provided, ProviderCall, ProviderError, ProviderErrorKind, ProviderResults, ProviderSession};
pub use response_body::{NotBuffered, ResponseBody, ResponseEnd};
pub use sandbox::{
    EmitError, EventSink, Folder, KeyValue, KvError, Level, Origin, Output, OutputLine, Providers, Sandbox, Screen,
    Stdio, Stream, ValueVersion,
};
pub use snapshot::{Preparation, Snapshot};
pub use transaction::{Effects, EffectsCharge, KeyRead, KeyWrite};
pub use unfinished::Unfinished;
pub use waits::CallWaits;
