//! The backtrace of a trap as text: the functions of the guest and, once the symboliser has found
//! them, their places in the source. Never reads a component.

use crate::limits;
use isopod_policy::text::printable_line;
use std::{
    fmt::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::SetOnce;
use wasmtime::WasmBacktrace;

/// The last line of a backtrace with more bytes than the limit.
const OMITTED: &str = "… (the outer frames are omitted)";

/// Functions with which Rust's runtime panics, without their generics. They are omitted above the
/// function that panicked.
const PANIC_FUNCTIONS: [&str; 9] = [
    "__rust_abort",
    "__rust_end_short_backtrace",
    "__rust_start_panic",
    "abort",
    "begin_panic",
    "begin_panic_handler",
    "rust_begin_unwind",
    "rust_panic",
    "rust_panic_with_hook",
];

/// Prefixes of further such functions, by their modules.
const PANIC_MODULES: [&str; 10] = [
    "__rustc::",
    "core::option::expect_failed",
    "core::option::unwrap_failed",
    "core::panicking::",
    "core::result::unwrap_failed",
    "panic_abort::",
    "std::alloc::",
    "std::panicking::",
    "std::process::abort",
    "std::sys::",
];

/// The innermost frames of a guest at a trap. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct GuestBacktrace(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    frames: Vec<Frame>,
    /// The frames as text, without places in the source.
    functions: Vec<String>,
    /// The frames as text, once the symboliser has searched for their places.
    placed: SetOnce<Vec<String>>,
    /// Whether the symboliser sets `placed`.
    is_awaited: AtomicBool,
}

/// A frame of a backtrace.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// The function's name, or its number and module.
    pub(crate) function: String,
    /// The function's index in its core module.
    pub(crate) index: u32,
    /// The offset of the instruction in the component, if it is known.
    pub(crate) offset: Option<usize>,
}

/// A place in the source of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The function, as the debug information names it.
    pub(crate) function: Option<String>,
    pub(crate) file: String,
    /// The line from 1, or 0 if it is unknown.
    pub(crate) line: u64,
    /// The column from 1, or 0 if it is unknown.
    pub(crate) column: u64,
}

impl Place {
    /// Returns the place as `FILE:LINE:COLUMN`.
    pub(crate) fn text(&self) -> String {
        match (self.line, self.column) {
            (0, _) => self.file.clone(),
            (line, 0) => format!("{}:{line}", self.file),
            (line, column) => format!("{}:{line}:{column}", self.file),
        }
    }
}

impl GuestBacktrace {
    pub(crate) fn new(frames: Vec<Frame>) -> Self {
        let functions = rendered(frames.iter().map(|frame| (frame.function.clone(), None)), frames.len());
        Self(Arc::new(Inner { frames, functions, ..Inner::default() }))
    }

    pub(crate) fn of(trace: &WasmBacktrace) -> Self {
        let frames = trace.frames().iter().take(limits::BACKTRACE_FRAMES_MAX);
        Self::new(frames.map(Frame::of).collect())
    }

    /// Returns one line per function, innermost first.
    pub fn lines(&self) -> &[String] {
        self.0.placed.get().unwrap_or(&self.0.functions)
    }

    /// Returns whether these lines, with or without places, are those of the same frames. A search
    /// for places adds inlined functions.
    pub(crate) fn is_of<'a>(&self, mut lines: impl Iterator<Item = &'a str>) -> bool {
        if self.0.functions.is_empty() {
            return lines.next().is_none();
        }
        for function in &self.0.functions {
            let is_place = |end: &str| end.is_empty() || (end.starts_with(" (") && end.ends_with(')'));
            let is_equal = |line: &str| line.strip_prefix(function.as_str()).is_some_and(is_place);
            match lines.find(|line| *line == OMITTED || is_equal(line)) {
                // With places, fewer frames are within the limit.
                Some(OMITTED) => return true,
                Some(_) => {}
                None => return function == OMITTED,
            }
        }
        true
    }

    pub(crate) fn frames(&self) -> &[Frame] {
        &self.0.frames
    }

    /// Returns whether the search for the places has ended.
    pub(crate) fn is_placed(&self) -> bool {
        self.0.placed.initialized()
    }

    /// Announces a later call of `set_lines`.
    pub(crate) fn announce(&self) {
        self.0.is_awaited.store(true, Ordering::Release);
    }

    /// Sets the lines. Does nothing if they are set.
    pub(crate) fn set_lines(&self, lines: Vec<String>) {
        // Two searches for the same backtrace have the same result.
        drop(self.0.placed.set(lines));
    }

    /// Returns one line per function, with the given places of each frame, innermost first.
    pub(crate) fn with_places(&self, places: &[Vec<Place>]) -> Vec<String> {
        let mut shown = Vec::new();
        for (index, frame) in self.0.frames.iter().enumerate() {
            let places = places.get(index).map(Vec::as_slice).unwrap_or_default();
            let Some((outermost, inlined)) = places.split_last() else {
                shown.push((frame.function.clone(), None));
                continue;
            };
            for place in inlined {
                let function = place.function.as_deref().map_or_else(|| "an inlined function".to_owned(), demangled);
                shown.push((function, Some(place)));
            }
            shown.push((frame.function.clone(), Some(outermost)));
        }
        rendered(shown.into_iter(), self.0.frames.len())
    }

    /// Waits for the places in the source, for a bounded time and only if the symboliser searches
    /// for them.
    pub(crate) async fn placed(&self) {
        if self.0.is_awaited.load(Ordering::Acquire) {
            // After the timeout, the backtrace has no places.
            drop(tokio::time::timeout(limits::SYMBOLS_WAIT_MAX, self.0.placed.wait()).await);
        }
    }
}

impl FromIterator<String> for GuestBacktrace {
    fn from_iter<T: IntoIterator<Item = String>>(functions: T) -> Self {
        Self::new(functions.into_iter().map(|function| Frame { function, index: 0, offset: None }).collect())
    }
}

impl Frame {
    fn of(frame: &wasmtime::FrameInfo) -> Self {
        let function = match frame.func_name() {
            Some(name) => demangled(name),
            None => {
                format!("function {} of {}", frame.func_index(), shown(frame.module().name().unwrap_or("a module")))
            }
        };
        Self { function, index: frame.func_index(), offset: frame.module_offset() }
    }
}

/// Returns whether Rust's runtime panics with a function.
fn is_panic(function: &str) -> bool {
    let plain = function.split_once('<').map_or(function, |(plain, _)| plain);
    PANIC_FUNCTIONS.contains(&plain) || PANIC_MODULES.iter().any(|prefix| function.starts_with(prefix))
}

/// Returns the lines of a backtrace with `frames` frames, within the limits.
fn rendered<'a>(shown: impl Iterator<Item = (String, Option<&'a Place>)>, frames: usize) -> Vec<String> {
    let all: Vec<_> = shown.collect();
    let first = all.iter().position(|(function, _)| !is_panic(function)).unwrap_or_default();
    let (mut lines, mut bytes) = (Vec::new(), 0);
    for (function, place) in all.into_iter().skip(first) {
        let line = match place {
            Some(place) => format!("{function} ({})", place.text()),
            None => function,
        };
        bytes += line.len();
        if bytes > limits::BACKTRACE_BYTES_MAX {
            lines.push(OMITTED.to_owned());
            return lines;
        }
        lines.push(line);
    }
    if frames >= limits::BACKTRACE_FRAMES_MAX {
        lines.push(format!("… (only the innermost {frames} frames are recorded)"));
    }
    lines
}

/// Returns the name of a function in its language, if that is Rust, within the limit.
fn demangled(name: &str) -> String {
    let mut text = Limited(String::new());
    // The alternate form omits the hashes. Ends with an error at the limit.
    let _ = write!(text, "{:#}", rustc_demangle::demangle(start_of(name)));
    shown(&text.0)
}

/// Returns the part of a name from a component that is read.
fn start_of(name: &str) -> &str {
    &name[..name.floor_char_boundary(limits::DEBUG_TEXT_BYTES_MAX)]
}

/// Returns a name from a component as safe text within the limit.
fn shown(name: &str) -> String {
    isopod_policy::text::excerpt(&printable_line(start_of(name)), limits::BACKTRACE_NAME_BYTES_MAX).into_owned()
}

/// Text that refuses further text beyond the limit of a name, since the demangled form of a short
/// name can be long.
struct Limited(String);

impl Write for Limited {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() > limits::BACKTRACE_NAME_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(&text[..text.floor_char_boundary(limits::BACKTRACE_NAME_BYTES_MAX + 1)]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str) -> Frame {
        Frame { function: demangled(function), index: 0, offset: None }
    }

    fn place(function: Option<&str>, line: u64) -> Place {
        Place { function: function.map(str::to_owned), file: "src/lib.rs".to_owned(), line, column: 5 }
    }

    #[test]
    fn names_of_functions_are_demangled_and_safe_to_print() {
        let trace = GuestBacktrace::new(vec![frame("_ZN4shop4cart3add17h0123456789abcdefE"), frame("a\x1b[31m\nb")]);
        assert_eq!(trace.lines(), ["shop::cart::add", "a\\nb"]);
    }

    #[test]
    fn a_long_name_is_truncated() {
        for name in ["x".repeat(1 << 20), format!("_RNvC{}{}", 1 << 20, "y".repeat(1 << 20))] {
            let trace = GuestBacktrace::new(vec![frame(&name)]);
            let line = &trace.lines()[0];
            assert!(line.len() <= limits::BACKTRACE_NAME_BYTES_MAX + '…'.len_utf8(), "{}", line.len());
        }
    }

    #[test]
    fn the_frames_of_the_panic_itself_are_omitted() {
        let trace =
            ["std::panicking::begin_panic_handler", "core::panicking::panic_fmt", "shop::pay", "core::ops::call"];
        let trace: GuestBacktrace = trace.map(str::to_owned).into_iter().collect();
        assert_eq!(trace.lines(), ["shop::pay", "core::ops::call"]);
        let only: GuestBacktrace = [String::from("abort")].into_iter().collect();
        assert_eq!(only.lines(), ["abort"]);
    }

    #[test]
    fn functions_whose_names_only_begin_like_those_of_a_panic_are_shown() {
        for shown in ["abortable::run", "abort_order", "rust_panicking_shop::pay", "begin_panic_sale"] {
            let trace: GuestBacktrace = [shown, "outer"].map(str::to_owned).into_iter().collect();
            assert_eq!(trace.lines(), [shown, "outer"]);
        }
        let trace: GuestBacktrace = ["begin_panic<&str>", "outer"].map(str::to_owned).into_iter().collect();
        assert_eq!(trace.lines(), ["outer"]);
    }

    #[test]
    fn lines_are_those_of_a_trace_with_and_without_places() {
        let trace = GuestBacktrace::new(vec![frame("shop::pay"), frame("shop::pay_all"), frame("start")]);
        let placed = trace.with_places(&[vec![place(Some("shop::add"), 7), place(None, 40)], vec![place(None, 9)]]);
        let is_of = |lines: &[String]| trace.is_of(lines.iter().map(String::as_str));
        assert!(is_of(&placed) && is_of(trace.lines()));
        assert!(!is_of(&placed[..3]) && !is_of(&placed[2..]) && !is_of(&[]));
        let other = GuestBacktrace::new(vec![frame("shop::pay"), frame("start"), frame("shop::pay_all")]);
        assert!(!is_of(other.lines()));
        let long: Vec<String> = vec![placed[0].clone(), placed[1].clone(), OMITTED.to_owned()];
        assert!(is_of(&long), "the others were beyond the limit");
    }

    #[test]
    fn the_bytes_and_frames_of_a_backtrace_are_bounded() {
        let trace = GuestBacktrace::new(vec![frame(&"x".repeat(1000)); limits::BACKTRACE_FRAMES_MAX]);
        let bytes: usize = trace.lines().iter().map(String::len).sum();
        assert!(bytes <= limits::BACKTRACE_BYTES_MAX + 64, "{bytes}");
        assert_eq!(trace.lines().last().map(String::as_str), Some("… (the outer frames are omitted)"));
        let trace = GuestBacktrace::new(vec![frame("recurse"); limits::BACKTRACE_FRAMES_MAX]);
        assert_eq!(trace.lines().last().map(String::as_str), Some("… (only the innermost 32 frames are recorded)"));
    }

    #[test]
    fn a_frame_shows_its_places_and_the_functions_inlined_into_it() {
        let trace = GuestBacktrace::new(vec![frame("shop::pay"), frame("start")]);
        let places = [vec![place(Some("_ZN4shop3add17h0123456789abcdefE"), 7), place(None, 40)], Vec::new()];
        let lines = ["shop::add (src/lib.rs:7:5)", "shop::pay (src/lib.rs:40:5)", "start"];
        assert_eq!(trace.with_places(&places), lines);
    }

    #[tokio::test]
    async fn a_backtrace_that_is_not_symbolised_is_not_awaited() {
        let trace = GuestBacktrace::new(vec![frame("a")]);
        trace.placed().await;
        trace.announce();
        trace.set_lines(vec!["a (b.rs:1)".to_owned()]);
        trace.placed().await;
        assert_eq!(trace.lines(), ["a (b.rs:1)"]);
    }
}
