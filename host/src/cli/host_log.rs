//! Writes the host's own log: one line of bounded length per event, without control characters.
//! Never filters events.

use std::borrow::Cow;
use std::io::{self, Write};

use isopod_policy::text::{excerpt, printable};
use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

use super::terminal;
use crate::cli::limits::{HOST_LOG_LINE_BYTES_MAX, HOST_LOG_VALUE_BYTES_MAX};

/// The format of the events that the writer receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Plain,
    Coloured,
    Json,
}

/// Standard error as a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostLog(pub(crate) Form);

impl<'a> MakeWriter<'a> for HostLog {
    type Writer = HostLog;

    fn make_writer(&'a self) -> HostLog {
        *self
    }
}

impl Write for HostLog {
    /// Receives one whole event from tracing.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let event_text = String::from_utf8_lossy(event);
        let text = event_text.strip_suffix('\n').unwrap_or(&event_text);
        let mut line = self.0.line(text).into_owned();
        line.push('\n');
        io::stderr().lock().write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Form {
    fn line(self, text: &str) -> Cow<'_, str> {
        if self == Form::Json {
            return if text.len() <= HOST_LOG_LINE_BYTES_MAX {
                terminal::safe_json(text)
            } else {
                shortened(text).into()
            };
        }
        let text = excerpt(text, HOST_LOG_LINE_BYTES_MAX);
        // tracing has already escaped values, so the remaining colours are its own.
        let line = match self {
            Form::Coloured => terminal::rendered(&terminal::with_colours(&text)).into_owned(),
            Form::Plain | Form::Json => printable(&text).into_owned(),
        };
        Cow::Owned(line.replace('\n', "\\n"))
    }
}

/// Truncates the texts of a JSON line, so that it stays valid JSON.
fn shortened(text: &str) -> String {
    let Ok(mut event) = serde_json::from_str::<Value>(text) else {
        return excerpt(text, HOST_LOG_LINE_BYTES_MAX).into_owned();
    };
    for value in event.as_object_mut().into_iter().flat_map(|fields| fields.values_mut()) {
        if let Value::String(long) = value {
            *long = excerpt(long, HOST_LOG_VALUE_BYTES_MAX).into_owned();
        }
    }
    terminal::safe_json(&event.to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded_and_stays_one_line() {
        let long = format!("a\nb\x1b[2J{}", "x".repeat(27 << 20));
        for form in [Form::Plain, Form::Coloured] {
            let line = form.line(&long);
            assert!(line.len() <= HOST_LOG_LINE_BYTES_MAX + 64, "{}", line.len());
            assert!(line.starts_with("a\\nb\\x1b[2Jx") && !line.contains(char::is_control));
        }
    }

    #[test]
    fn a_long_json_line_stays_json() {
        let event = serde_json::json!({"message": "x".repeat(27 << 20), "level": "INFO"});
        let line = Form::Json.line(&event.to_string()).into_owned();
        assert!(line.len() <= HOST_LOG_LINE_BYTES_MAX);
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["level"], "INFO");
    }

    #[test]
    fn colours_of_tracing_are_kept() {
        assert_eq!(Form::Coloured.line("\x1b[32m INFO\x1b[0m x"), "\x1b[32m INFO\x1b[0m x\x1b[0m");
        assert_eq!(Form::Plain.line("\x1b[32m INFO\x1b[0m x"), " INFO x");
    }
}
