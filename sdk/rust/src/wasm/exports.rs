//! What the macros' expansions call.

pub use super::event_export::{done_or_not, handle_event};
#[cfg(not(feature = "wasi-03"))]
pub use super::flat::{Words, handle as handle_flat};
#[cfg(feature = "wasi-03")]
pub use super::handler03::{handle_streaming, handle_whole};
#[cfg(not(feature = "wasi-03"))]
pub use super::incoming::{handle_streaming, handle_whole};
pub use super::worlds;
