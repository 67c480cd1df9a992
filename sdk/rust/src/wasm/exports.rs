//! The functions that the macros' expansions call. Contains no logic of its own.

pub use super::event_export::{done_or_not, handle_event};
#[cfg(not(feature = "wasi-03"))]
pub use super::flat::handle as handle_flat;
pub use super::gate_export::{before_activate, validate_gate_config};
#[cfg(feature = "wasi-03")]
pub use super::handler03::{handle_streaming, handle_whole};
#[cfg(not(feature = "wasi-03"))]
pub use super::incoming::{handle_streaming, handle_whole};
pub use super::plugin_export::{on_request, on_request_body, on_response, validate_config};
pub use super::worlds;

/// Runs the constructors: statics in `.init_array`, of Rust crates or of C. The bindings of
/// `wasip2` call the same function before each of their exports, so the constructors run once.
pub use wit_bindgen::rt::run_ctors_once as run_constructors;
