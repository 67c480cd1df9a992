//! The events of a session of `isopod dev`: what its threads report to it. Never handles one.

use super::push::Pushed;
use crate::cli::guest::{BuildFailed, Built};

/// An event that the session handles.
pub(crate) enum SessionEvent {
    FileChanged(notify::Event),
    BuildEnded {
        number: u32,
        result: Result<Built, BuildFailed>,
    },
    Pushed(Pushed),
    /// Text to print.
    Print(String),
    Stop,
}
