//! Writes guest output to the app's log. Never blocks.

use std::sync::{Arc, Mutex, PoisonError};

use isopod_engine::{Origin, Output, OutputLine, Stream as GuestStream};
use isopod_policy::{ReleaseNumber, text::excerpt};
use jiff::Timestamp;

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
        // A time that can't be represented is ignored.
        if let Some(Ok(time)) = line.time.map(Timestamp::try_from) {
            written.time = time;
        }
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

#[cfg(test)]
mod tests {
    use isopod_engine::Level;

    use super::{
        super::{Config, LineFilter, Service},
        *,
    };
    use std::time::{Duration, SystemTime};

    #[tokio::test]
    async fn a_line_that_is_written_late_has_the_time_of_its_cause() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let config = Config {
            apps_dir: dir.path().to_owned(),
            segment_bytes: 1 << 20,
            kept_bytes: 1 << 20,
            kept_for: Duration::from_secs(3600),
        };
        let service = Service::start(config, None).expect("starts");
        let (logs, app) = (service.handle(), "hello".parse().expect("is a name"));
        let output = AppOutput::new(logs.app(&app), ReleaseNumber::FIRST);
        let wait = isopod_engine::limits::SYMBOLS_WAIT_MAX;
        let cause = SystemTime::now() - wait;
        let line = OutputLine::new(GuestStream::Log(Level::Error), "isopod", Origin::default(), "it trapped");
        output.line(OutputLine { time: Some(cause), ..line });
        let page = logs.page(&app, LineFilter::default(), 1, None).await.expect("reads");
        assert_eq!(SystemTime::from(page.items[0].time), cause);
        assert!(wait < limits::LOG_TIME_SKEW_MAX, "a search by time finds the line");
        service.stop();
    }
}
