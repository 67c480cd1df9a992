//! Shows the output of a local component on a terminal: control characters become escapes, as in
//! every other text of a guest. Never changes output to a pipe or a file.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use isopod_engine::{Screen, Stdio};
use isopod_policy::text::printable;

use super::terminal::unfinished_colour;

/// Returns the standard streams for a component; those on a terminal are escaped.
pub(crate) fn stdio() -> Stdio {
    Stdio {
        stdout: io::stdout().is_terminal().then(|| Arc::new(Cleaned::to(io::stdout())) as Arc<dyn Screen>),
        stderr: io::stderr().is_terminal().then(|| Arc::new(Cleaned::to(io::stderr())) as Arc<dyn Screen>),
    }
}

/// A terminal, and the end of the output that can't be shown before more arrives.
struct Cleaned<W: Write>(Mutex<(W, Pending)>);

impl<W: Write> Cleaned<W> {
    fn to(out: W) -> Self {
        Self(Mutex::new((out, Pending::default())))
    }
}

impl<W: Write + Send> Screen for Cleaned<W> {
    fn write(&self, bytes: &[u8]) {
        let (out, pending) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A closed terminal must not stop the component.
        let _ = out.write_all(pending.shown(bytes).as_bytes()).and_then(|()| out.flush());
    }
}

impl<W: Write> Drop for Cleaned<W> {
    fn drop(&mut self) {
        let (out, pending) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = out.write_all(pending.rest().as_bytes()).and_then(|()| out.flush());
    }
}

/// Bytes at the end of the output whose meaning depends on what follows.
#[derive(Default)]
struct Pending(Vec<u8>);

impl Pending {
    /// Adds bytes and returns the text that can be shown now.
    fn shown(&mut self, bytes: &[u8]) -> String {
        self.0.extend_from_slice(bytes);
        let rest = self.0.split_off(self.0.len() - unfinished(&self.0));
        let shown = std::mem::replace(&mut self.0, rest);
        printable(&String::from_utf8_lossy(&shown)).into_owned()
    }

    /// Returns the remaining text at the end of the output.
    fn rest(&mut self) -> String {
        printable(&String::from_utf8_lossy(&std::mem::take(&mut self.0))).into_owned()
    }
}

/// Returns the length of an incomplete character, colour sequence or line end at the end of the
/// bytes.
fn unfinished(bytes: &[u8]) -> usize {
    let character = bytes.utf8_chunks().last().map_or(0, |chunk| {
        let invalid = chunk.invalid();
        if std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none()) { invalid.len() } else { 0 }
    });
    if character > 0 {
        return character;
    }
    if bytes.ends_with(b"\r") { 1 } else { unfinished_colour(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the text that is shown if the output arrives in pieces of this size.
    fn shown_in_pieces(text: &[u8], size: usize) -> String {
        let mut pending = Pending::default();
        let mut shown: String = text.chunks(size).map(|piece| pending.shown(piece)).collect();
        shown.push_str(&pending.rest());
        shown
    }

    #[test]
    fn output_is_the_same_in_pieces_of_any_size() {
        let text = "name: ü€🦀 \x1b[1;32mgreen\x1b[0m \x1b[2J\x1b]0;t\x07 \u{9b}2J a\r\nb\rc \x1b[3";
        let whole = shown_in_pieces(text.as_bytes(), usize::MAX);
        assert_eq!(whole, "name: ü€🦀 green \\x1b[2J\\x1b]0;t\\x07 \\x9b2J a\nb\\rc \\x1b[3");
        for size in 1..20 {
            assert_eq!(shown_in_pieces(text.as_bytes(), size), whole, "{size}");
        }
    }

    #[test]
    fn a_prompt_without_a_line_end_is_shown_immediately() {
        assert_eq!(Pending::default().shown(b"Name: "), "Name: ");
        assert_eq!(Pending::default().shown(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn at_most_one_sequence_is_held_back() {
        let mut pending = Pending::default();
        pending.shown(b"\x1b[");
        for _ in 0..1000 {
            pending.shown(b"1111111111");
        }
        assert!(pending.0.len() < 100, "{}", pending.0.len());
    }
}
