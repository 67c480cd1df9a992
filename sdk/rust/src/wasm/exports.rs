//! What the macros' expansions call.

pub use super::event_export::{check_health, handle_event};
pub use super::flat::{Words, handle as handle_flat};
pub use super::incoming::{handle_streaming, handle_whole};
pub use super::worlds;
