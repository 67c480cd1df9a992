//! Displays the progress of a command: a bar or a spinner on a terminal, plain lines elsewhere.
//! Never writes to standard output, which is for the command's result.

use std::io::{IsTerminal as _, Read};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{output, terminal};

/// A step with a progress display.
pub(crate) struct Step {
    bar: Option<ProgressBar>,
}

impl Step {
    /// Starts a step of unknown length.
    pub(crate) fn spinner(text: &str) -> Step {
        if !is_interactive() {
            output::note(text);
            return Step { bar: None };
        }
        let bar = ProgressBar::new_spinner();
        bar.set_style(style("{spinner} {prefix} {wide_msg:.dim}"));
        bar.set_prefix(terminal::plain(text));
        bar.enable_steady_tick(Duration::from_millis(100));
        Step { bar: Some(bar) }
    }

    /// Starts an upload of known size.
    pub(crate) fn upload(text: &str, bytes: u64) -> Step {
        if !is_interactive() {
            output::note(&format!("{text} ({})", output::size(bytes)));
            return Step { bar: None };
        }
        let bar = ProgressBar::new(bytes);
        bar.set_style(style("{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}"));
        bar.set_prefix(terminal::plain(text));
        Step { bar: Some(bar) }
    }

    /// Starts to send lines: of a file of this size, or of a stream of unknown length.
    pub(crate) fn lines(text: &str, bytes: Option<u64>) -> Step {
        let Some(bytes) = bytes.filter(|_| is_interactive()) else { return Step::spinner(text) };
        let bar = ProgressBar::new(bytes);
        bar.set_style(style("{prefix} {bar:30} {percent}% {msg}"));
        bar.set_prefix(terminal::plain(text));
        Step { bar: Some(bar) }
    }

    /// Shows how many bytes are done, and a text. Shows nothing without a terminal.
    pub(crate) fn reach(&self, bytes: u64, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
            bar.set_message(terminal::plain(text));
        }
    }

    /// Prints a line without garbling the display.
    pub(crate) fn line(&self, text: &str) {
        self.suspend(|| output::note(text));
    }

    /// Runs `print` without garbling the display.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Returns a handle with which another thread shows details; it doesn't end the step.
    pub(crate) fn handle(&self) -> Detail {
        Detail { bar: self.bar.clone() }
    }

    /// Wraps a reader; the display counts the bytes read.
    pub(crate) fn reader<R: Read>(&self, inner: R) -> Counted<R> {
        Counted { inner, bar: self.bar.clone() }
    }

    /// Returns whether the display is interactive and shows only the newest detail.
    pub(crate) fn is_interactive(&self) -> bool {
        self.bar.is_some()
    }

    /// Ends the step and clears its display.
    pub(crate) fn finish(self) {
        drop(self);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Shows the newest detail beside a spinner. Without a terminal, it prints each detail on a line.
pub(crate) struct Detail {
    bar: Option<ProgressBar>,
}

impl Detail {
    pub(crate) fn detail(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(terminal::plain(text)),
            None => output::note(&terminal::with_colours(text)),
        }
    }
}

/// A reader that advances a bar.
pub(crate) struct Counted<R> {
    inner: R,
    bar: Option<ProgressBar>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(bar) = &self.bar {
            bar.inc(read as u64);
        }
        Ok(read)
    }
}

/// Returns whether a progress bar is shown; never in tests.
fn is_interactive() -> bool {
    !cfg!(test) && std::io::stderr().is_terminal()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
