//! The import `wasi:logging/logging`. Never filters messages.

use crate::logging::Level;

#[link(wasm_import_module = "wasi:logging/logging@0.1.0-draft")]
unsafe extern "C" {
    #[link_name = "log"]
    fn raw_log(level: i32, context: *const u8, context_length: usize, message: *const u8, message_length: usize);
}

/// Writes one message to the app's log.
pub(crate) fn log(level: Level, context: &str, message: &str) {
    super::worlds::link();
    // SAFETY: the host reads both strings only during the call.
    unsafe { raw_log(level as i32, context.as_ptr(), context.len(), message.as_ptr(), message.len()) }
}
