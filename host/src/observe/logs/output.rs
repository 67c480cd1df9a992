//! Writes guest output to the app's log. Never blocks.

use std::sync::{Arc, Mutex, PoisonError};

use isopod_engine::{Origin, Output, OutputLine, Stream as GuestStream};
use isopod_policy::{ReleaseNumber, text::excerpt};

use super::{AppLog, LogLine, Stream};
use crate::observe::limits;

/// The output of one release of an app.
pub(crate) struct AppOutput {
    log: Arc<AppLog>,
    release: ReleaseNumber,
    last_output: Mutex<LastOutput>,
}

/// The standard error of one request's guest, which includes a panic's message.
#[derive(Default)]
struct LastOutput {
    request_id: String,
    text: String,
}

impl LastOutput {
    fn add(&mut self, request_id: &str, text: &str) {
        if self.request_id != request_id {
            self.request_id.clear();
            self.request_id.push_str(request_id);
            self.text.clear();
        }
        // The last output is the most useful.
        if self.text.len() + text.len() > limits::FAILURE_OUTPUT_BYTES_MAX {
            self.text.clear();
        }
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&excerpt(text, limits::FAILURE_OUTPUT_BYTES_MAX));
    }
}

impl AppOutput {
    pub(crate) fn new(log: Arc<AppLog>, release: ReleaseNumber) -> Self {
        Self { log, release, last_output: Mutex::default() }
    }
}

impl Output for AppOutput {
    fn line(&self, line: OutputLine<'_>) {
        let (stream, level) = match line.stream {
            GuestStream::Stdout => (Stream::Stdout, None),
            GuestStream::Stderr => (Stream::Stderr, None),
            GuestStream::Log(level) => (Stream::Log, Some(level.to_string())),
        };
        let text =
            if line.context.is_empty() { line.text.to_owned() } else { format!("{}: {}", line.context, line.text) };
        let Origin { instance, request_id, event_id, trace } = line.origin;
        let present = |id: &str| (!id.is_empty()).then(|| id.to_owned());
        let mut written = LogLine::of_guest(self.log.app(), stream, text).about_event(event_id);
        written.release = Some(self.release);
        written.instance = present(instance);
        written.level = level;
        written.request_id = present(request_id);
        written.trace = trace;
        self.log.write(written);
        if line.stream == GuestStream::Stderr && !request_id.is_empty() {
            let mut last = self.last_output.lock().unwrap_or_else(PoisonError::into_inner);
            last.add(request_id, line.text);
        }
    }

    fn last_output(&self, request_id: &str) -> Option<String> {
        let last = self.last_output.lock().unwrap_or_else(PoisonError::into_inner);
        (last.request_id == request_id && !last.text.is_empty()).then(|| last.text.clone())
    }
}
