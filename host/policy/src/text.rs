//! Truncates untrusted text and escapes it for a terminal: names, error details, compiler messages
//! and log lines. Owns which characters are printed unchanged. Never decides where text is printed.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::limits::TEXT_ITEMS_SHOWN;

/// Truncates text to `bytes_max` bytes at a character boundary; an ellipsis marks the cut.
pub fn excerpt(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(bytes_max)]))
}

/// Makes untrusted text safe on one line of a terminal, and truncates it to `bytes_max` bytes.
pub fn line_excerpt(text: &str, bytes_max: usize) -> String {
    excerpt(&printable_line(text), bytes_max).into_owned()
}

/// Joins names for use in a sentence, each as [`line_excerpt`] with `bytes_max`; a long list names
/// only the first ones.
pub fn list<'n>(names: impl IntoIterator<Item = &'n str>, bytes_max: usize) -> String {
    let mut text = String::new();
    let mut more = 0_usize;
    for (index, name) in names.into_iter().enumerate() {
        if index >= TEXT_ITEMS_SHOWN {
            more += 1;
            continue;
        }
        let separator = if index == 0 { "" } else { ", " };
        let _ = write!(text, "{separator}{}", line_excerpt(name, bytes_max));
    }
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// Makes text safe for a terminal. Removes colour sequences, and escapes every other control
/// character and every character that changes the direction of text, such as `\x1b`. Line breaks
/// and tabs are unchanged.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if let Some(length) = colour_length(rest) {
            rest = &rest[length..];
            continue;
        }
        rest = &rest[next.len_utf8()..];
        match next {
            '\r' if rest.starts_with('\n') => {}
            '\r' => shown.push_str("\\r"),
            _ if is_unsafe(next) => drop(match u32::from(next) {
                code @ 0..=0xff => write!(shown, "\\x{code:02x}"),
                code => write!(shown, "\\u{{{code:x}}}"),
            }),
            _ => shown.push(next),
        }
    }
    Cow::Owned(shown)
}

/// As [`printable`], on one line: line breaks are written as `\n`.
pub fn printable_line(text: &str) -> Cow<'_, str> {
    match printable(text) {
        shown if shown.contains('\n') => Cow::Owned(shown.replace('\n', "\\n")),
        shown => shown,
    }
}

/// Returns the length of the "select graphic rendition" sequence at the start of the text.
fn colour_length(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
    parameters[end..].starts_with('m').then_some(2 + end + 1)
}

fn is_unsafe(c: char) -> bool {
    let turns_text = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    // The joiners U+200C and U+200D are part of words and emoji.
    let is_invisible = matches!(c, '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    let is_control = c.is_control() && c != '\n' && c != '\t';
    is_control || turns_text || is_invisible || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_excerpt_ends_at_a_character_boundary() {
        assert_eq!(excerpt("short", 5), "short");
        assert_eq!(excerpt("äöü", 3), "ä…");
    }

    #[test]
    fn a_long_list_names_the_first_items_and_counts_the_others() {
        let names: Vec<String> = (0..TEXT_ITEMS_SHOWN + 2).map(|number| format!("n{number}")).collect();
        let text = list(names.iter().map(String::as_str), 80);
        assert!(text.starts_with("n0, n1, ") && text.ends_with(" and 2 more"), "{text}");
        assert_eq!(list(["one"], 80), "one");
        assert_eq!(list(["a\x1b[2J", "b\nc"], 80), "a\\x1b[2J, b\\nc");
    }

    #[test]
    fn colours_are_removed_and_other_escapes_are_shown() {
        assert_eq!(printable("\x1b[1;31mred\x1b[0m"), "red");
        assert_eq!(printable("a\x1b]0;title\x07b\x1b[2Jc"), "a\\x1b]0;title\\x07b\\x1b[2Jc");
        assert_eq!(printable("a\u{9b}2Jb\x7f\0"), "a\\x9b2Jb\\x7f\\x00");
        assert_eq!(printable("abc\u{202e}def"), "abc\\u{202e}def");
        assert_eq!(printable("a\u{200b}b\u{e0041}c"), "a\\u{200b}b\\u{e0041}c");
        assert_eq!(printable("hidden\rshown\r\nnext\tend"), "hidden\\rshown\nnext\tend");
        assert_eq!(printable_line("a\nb\x1b"), "a\\nb\\x1b");
        assert!(matches!(printable("grüße 👩‍🚀"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn no_terminal_control_is_left(text in any::<String>()) {
            let shown = printable(&text);
            prop_assert!(!shown.chars().any(is_unsafe), "{shown:?}");
            prop_assert_eq!(printable(&shown), shown.as_ref());
        }
    }
}
