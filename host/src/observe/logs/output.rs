//! Owns the way of a guest's output into its app's log. Never waits.

use std::sync::Arc;

use isopod_engine::{Output, OutputLine, Stream as GuestStream};
use isopod_policy::ReleaseNumber;

use super::{AppLog, LogLine, Stream};

/// The output of one release of an app.
pub(crate) struct AppOutput {
    log: Arc<AppLog>,
    release: ReleaseNumber,
}

impl AppOutput {
    pub(crate) fn new(log: Arc<AppLog>, release: ReleaseNumber) -> Self {
        Self { log, release }
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
        let mut written = LogLine::new(self.log.app(), stream, text);
        written.release = Some(self.release);
        written.level = level;
        written.request_id = (!line.request_id.is_empty()).then(|| line.request_id.to_owned());
        self.log.write(written);
    }
}
