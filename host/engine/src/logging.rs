//! Implements `wasi:logging` for guests: each message becomes a line of the app's log, with its
//! level. Never stores a line.

use crate::{
    output::CUT_MARK,
    sandbox::{Level, OutputLine, Stream},
    state::HostState,
};
use std::borrow::Cow;
use wasmtime::component::{HasSelf, Linker};

mod generated {
    wasmtime::component::bindgen!({ path: "wit/current", world: "isopod:host/log" });
}

use generated::wasi::logging::logging;

/// Offers `wasi:logging` to guests.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    logging::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)
}

impl logging::Host for HostState {
    fn log(&mut self, level: logging::Level, context: String, message: String) {
        let level = match level {
            logging::Level::Trace => Level::Trace,
            logging::Level::Debug => Level::Debug,
            logging::Level::Info => Level::Info,
            logging::Level::Warn => Level::Warn,
            logging::Level::Error => Level::Error,
            logging::Level::Critical => Level::Critical,
        };
        let longest = usize::try_from(self.sandbox.limits.log_line_bytes).unwrap_or(usize::MAX);
        let text = cut(&message, longest);
        let context = &context[..context.floor_char_boundary(longest)];
        self.call.with(|origin| {
            self.sandbox.output.line(OutputLine::new(Stream::Log(level), context, origin, &text));
        });
    }
}

/// Truncates a message at a character boundary, and marks the cut.
fn cut(message: &str, bytes_max: usize) -> Cow<'_, str> {
    match message.get(..message.floor_char_boundary(bytes_max)) {
        Some(kept) if kept.len() < message.len() => Cow::Owned(format!("{kept}{CUT_MARK}")),
        Some(_) | None => Cow::Borrowed(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_and_marked() {
        assert_eq!(cut("äöü", 6), "äöü");
        assert_eq!(cut("äöü", 5), "äö … (line cut)");
    }
}
