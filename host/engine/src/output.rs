//! Passes on a guest's standard output and error, cut into lines or unchanged. Never blocks: the
//! sink drops lines that it has no room for.

use crate::{
    limits,
    sandbox::{Origin, Output, OutputLine, Screen, Stream},
};
use bytes::Bytes;
use http::HeaderValue;
use isopod_policy::{TraceParent, text::excerpt};
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

/// The end of a line that exceeds the limit.
pub(crate) const CUT_MARK: &str = " … (line cut)";

/// One output stream of one instance.
#[derive(Clone)]
pub(crate) struct LineSink {
    stream: Stream,
    sink: Arc<dyn Output>,
    line_bytes_max: usize,
    shared: Arc<Mutex<Buffer>>,
    call: CurrentCall,
}

/// The origin of an instance's output, shared with its output streams: the instance's id, and the
/// request or event that it is serving.
#[derive(Clone, Default)]
pub(crate) struct CurrentCall(Arc<Mutex<Ids>>);

#[derive(Default)]
struct Ids {
    instance: String,
    request: String,
    event: String,
    /// The value of `traceparent`, which is parsed only for a line.
    trace: Option<HeaderValue>,
    /// The last lines of standard error in the current call.
    errors: String,
}

impl CurrentCall {
    /// Sets the id of the instance.
    pub(crate) fn set_instance(&self, id: &str) {
        id.clone_into(&mut self.lock().instance);
    }

    /// Begins a call for a request. An empty id ends the call.
    pub(crate) fn set_request(&self, id: &str) {
        let mut ids = self.lock();
        id.clone_into(&mut ids.request);
        ids.event.clear();
        ids.errors.clear();
        if id.is_empty() {
            ids.trace = None;
        }
    }

    /// Sets the trace of the next call, which begins with its request.
    pub(crate) fn set_trace(&self, parent: Option<HeaderValue>) {
        self.lock().trace = parent;
    }

    /// Sets the event that the current call delivers.
    pub(crate) fn set_event(&self, id: &str) {
        id.clone_into(&mut self.lock().event);
    }

    /// Returns the end of what the current call wrote to standard error: the message of a panic if
    /// there is one, or else its last lines.
    pub(crate) fn take_errors(&self) -> String {
        let errors = std::mem::take(&mut self.lock().errors);
        let panic = errors.find(" panicked at ").map(|at| errors[..at].rfind('\n').map_or(0, |end| end + 1));
        panic.map_or(errors.clone(), |start| errors[start..].to_owned())
    }

    fn note_error(&self, line: &str) {
        let errors = &mut self.lock().errors;
        errors.push_str(&excerpt(line, limits::TRAP_OUTPUT_BYTES_MAX));
        errors.push('\n');
        while errors.len() > limits::TRAP_OUTPUT_BYTES_MAX
            && let Some(end) = errors.find('\n').filter(|end| end + 1 < errors.len())
        {
            errors.drain(..=end);
        }
    }

    pub(crate) fn with<R>(&self, read: impl FnOnce(Origin<'_>) -> R) -> R {
        let ids = self.lock();
        let trace = ids.trace.as_ref().and_then(|parent| TraceParent::parse(parent.as_bytes()));
        read(Origin { instance: &ids.instance, request_id: &ids.request, event_id: &ids.event, trace })
    }

    fn lock(&self) -> MutexGuard<'_, Ids> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Buffer {
    line: Vec<u8>,
    /// Whether the line exceeds the limit, so that its rest is skipped.
    cut: bool,
}

impl LineSink {
    pub(crate) fn new(stream: Stream, sink: Arc<dyn Output>, line_bytes_max: usize, call: CurrentCall) -> Self {
        Self { stream, sink, line_bytes_max, shared: Arc::default(), call }
    }

    fn write(&self, mut bytes: &[u8]) {
        let mut buffer = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.extend(&mut buffer, &bytes[..end]);
            self.emit(&mut buffer);
            bytes = &bytes[end + 1..];
        }
        self.extend(&mut buffer, bytes);
    }

    fn extend(&self, buffer: &mut Buffer, part: &[u8]) {
        let room = self.line_bytes_max.saturating_sub(buffer.line.len());
        buffer.line.extend_from_slice(&part[..part.len().min(room)]);
        buffer.cut |= part.len() > room;
    }

    fn emit(&self, buffer: &mut Buffer) {
        let mut text = String::from_utf8_lossy(&buffer.line).into_owned();
        if buffer.cut {
            text.push_str(CUT_MARK);
        }
        let line = text.trim_end_matches('\r');
        if self.stream == Stream::Stderr {
            self.call.note_error(line);
        }
        self.call.with(|origin| {
            self.sink.line(OutputLine::new(self.stream, "", origin, line));
        });
        buffer.line.clear();
        buffer.cut = false;
    }

    /// Emits an unterminated line: at the end of a call, its rest will not follow.
    pub(crate) fn flush_partial(&self) {
        let mut buffer = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if !buffer.line.is_empty() {
            self.emit(&mut buffer);
        }
    }
}

/// A sink for the bytes that a guest writes. Never blocks.
pub(crate) trait OutputSink: Clone + Send + Sync + 'static {
    fn write(&self, bytes: &[u8]);
}

impl OutputSink for LineSink {
    fn write(&self, bytes: &[u8]) {
        self.write(bytes);
    }
}

/// Writes to the terminal of this process.
#[derive(Clone)]
pub(crate) struct TerminalSink(pub(crate) Arc<dyn Screen>);

impl OutputSink for TerminalSink {
    fn write(&self, bytes: &[u8]) {
        self.0.write(bytes);
    }
}

/// A guest's standard output or error, which writes to a sink.
#[derive(Clone)]
pub(crate) struct SinkStream<T>(pub(crate) T);

/// Always reports no terminal, so that guests don't write escape sequences: lines are logged
/// without them.
impl<T> IsTerminal for SinkStream<T> {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl<T: OutputSink + Unpin> StdoutStream for SinkStream<T> {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl<T: OutputSink> AsyncWrite for SinkStream<T> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let piece = &bytes[..bytes.len().min(limits::OUTPUT_WRITE_BYTES_MAX)];
        self.0.write(piece);
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait::async_trait]
impl<T: OutputSink> Pollable for SinkStream<T> {
    async fn ready(&mut self) {}
}

impl<T: OutputSink> OutputStream for SinkStream<T> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(limits::OUTPUT_WRITE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Output for Kept {
        fn line(&self, line: OutputLine<'_>) {
            self.0.lock().unwrap().push(line.text.to_owned());
        }
    }

    fn written(parts: &[&str]) -> Vec<String> {
        let sink = Arc::new(Kept::default());
        let lines = LineSink::new(Stream::Stdout, Arc::clone(&sink) as Arc<dyn Output>, 8, CurrentCall::default());
        parts.iter().for_each(|part| lines.write(part.as_bytes()));
        lines.flush_partial();
        std::mem::take(&mut *sink.0.lock().unwrap())
    }

    #[test]
    fn writes_are_joined_and_cut_into_lines() {
        assert_eq!(written(&["he", "llo\nwor", "ld\r\n"]), ["hello", "world"]);
    }

    #[test]
    fn a_line_without_an_end_is_written_at_the_end_of_the_call() {
        assert_eq!(written(&["tail"]), ["tail"]);
    }

    #[test]
    fn the_last_lines_of_standard_error_are_kept_until_the_next_call() {
        let call = CurrentCall::default();
        let sink = |stream| LineSink::new(stream, Arc::new(Kept::default()), 4096, call.clone());
        let (stdout, stderr) = (sink(Stream::Stdout), sink(Stream::Stderr));
        stdout.write(b"no error\n");
        let lines: String = (0..2000).map(|number| format!("{number}\n")).collect();
        stderr.write(lines.as_bytes());
        let kept = call.take_errors();
        assert!(kept.len() <= limits::TRAP_OUTPUT_BYTES_MAX && lines.ends_with(&kept) && !kept.is_empty(), "{kept}");
        stderr.write("x".repeat(4000).as_bytes());
        stderr.flush_partial();
        assert!(call.take_errors().len() <= limits::TRAP_OUTPUT_BYTES_MAX + '…'.len_utf8() + 1);
        stderr.write(b"before\nthread 'main' panicked at src/lib.rs:1:2:\nout of luck\n");
        assert_eq!(call.take_errors(), "thread 'main' panicked at src/lib.rs:1:2:\nout of luck\n");
        stderr.write(b"of the previous call\n");
        call.set_request("next");
        assert_eq!(call.take_errors(), "");
    }

    #[test]
    fn a_long_line_is_cut_and_marked() {
        assert_eq!(written(&["0123456789", "abc\nnext\n"]), ["01234567 … (line cut)", "next"]);
    }
}
