//! Renders all text for a terminal. Owns which escape sequences reach it: Isopod's own styles and
//! the colours of local compilers. Every other control character is printed as an escape. Knows no
//! command.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::LazyLock;

use isopod_policy::text::printable;

/// Begins a style mark: a Unicode noncharacter, which normal text doesn't contain.
const MARK: char = '\u{fdd0}';
/// Ends a style mark.
const MARK_END: char = '\u{fdd1}';
/// The longest parameters of a colour that are passed on.
const PARAMETERS_MAX: usize = 32;

/// A random part of each mark, chosen per process, so that untrusted text can't contain a mark.
static KEY: LazyLock<String> = LazyLock::new(|| format!("{:016x}", RandomState::new().build_hasher().finish()));

/// The style of a part of Isopod's own text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Green,
    Red,
    RedBold,
    Bold,
    Dim,
}

impl Look {
    fn parameters(self) -> &'static str {
        match self {
            Look::Green => "32",
            Look::Red => "31",
            Look::RedBold => "1;31",
            Look::Bold => "1",
            Look::Dim => "2",
        }
    }
}

/// Marks text to be rendered in this style.
pub(crate) fn styled(look: Look, text: &str) -> String {
    format!("{}{text}{}", mark(look.parameters()), mark("0"))
}

/// Keeps the colours in the output of a local program, such as a compiler.
pub(crate) fn with_colours(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let (mut rest, mut coloured) = (text, false);
    while let Some((before, after)) = rest.split_once("\x1b[") {
        kept.push_str(before);
        match after.find(|c: char| !is_parameter(c)) {
            Some(end) if after[end..].starts_with('m') && end <= PARAMETERS_MAX => {
                kept.push_str(&mark(&after[..end]));
                coloured = true;
                rest = &after[end + 1..];
            }
            Some(_) | None => {
                kept.push_str("\x1b[");
                rest = after;
            }
        }
    }
    kept.push_str(rest);
    if coloured { kept + &mark("0") } else { kept }
}

/// Returns the length of a colour sequence at the end of the bytes that may be incomplete.
pub(crate) fn unfinished_colour(bytes: &[u8]) -> usize {
    let Some(start) = bytes.iter().rposition(|&byte| byte == 0x1b) else { return 0 };
    let parameters = match &bytes[start + 1..] {
        [] => return 1,
        [b'[', parameters @ ..] => parameters,
        _ => return 0,
    };
    let is_incomplete =
        parameters.len() <= PARAMETERS_MAX && parameters.iter().all(|&byte| is_parameter(char::from(byte)));
    if is_incomplete { bytes.len() - start } else { 0 }
}

/// Renders text for a terminal: marks become colours, and all other control characters are escaped.
pub(crate) fn rendered(text: &str) -> Cow<'_, str> {
    if !text.contains(MARK) {
        return printable(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(MARK) {
        shown.push_str(&printable(before));
        rest = after;
        let Some(parameters) = parameters(after) else { continue };
        let _ = write!(shown, "\x1b[{parameters}m");
        rest = &after[KEY.len() + parameters.len() + MARK_END.len_utf8()..];
    }
    shown.push_str(&printable(rest));
    Cow::Owned(shown)
}

/// Escapes control characters in JSON text without changing its value.
pub(crate) fn safe_json(text: &str) -> Cow<'_, str> {
    let is_unsafe = |c: char| c != '\n' && printable(c.encode_utf8(&mut [0; 4])).as_ref() != c.encode_utf8(&mut [0; 4]);
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        match is_unsafe(c) {
            true => drop(write!(safe, "\\u{:04x}", u32::from(c))),
            false => safe.push(c),
        }
        safe
    });
    Cow::Owned(escaped)
}

/// Returns the text without styles, for tests and for output without colours.
pub(crate) fn plain(text: &str) -> String {
    anstream::adapter::strip_str(&rendered(text)).to_string()
}

fn mark(parameters: &str) -> String {
    format!("{MARK}{}{parameters}{MARK_END}", *KEY)
}

/// The parameters of the mark whose first character was just read.
fn parameters(after: &str) -> Option<&str> {
    let (parameters, _) = after.strip_prefix(KEY.as_str())?.split_once(MARK_END)?;
    (parameters.len() <= PARAMETERS_MAX && parameters.chars().all(is_parameter)).then_some(parameters)
}

fn is_parameter(c: char) -> bool {
    c.is_ascii_digit() || c == ';' || c == ':'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_styles_reach_the_terminal() {
        let text = format!("{} {}", styled(Look::Red, "a\x1b[2Jb"), "\x1b[8mhidden\x1b]0;t\x07");
        assert_eq!(rendered(&text), "\x1b[31ma\\x1b[2Jb\x1b[0m hidden\\x1b]0;t\\x07");
        let forged = format!("{MARK}0000000000000000{}{MARK_END}x", "8");
        assert!(!rendered(&forged).contains('\x1b'));
        assert_eq!(rendered("unchanged\n"), "unchanged\n");
    }

    #[test]
    fn a_compilers_colours_are_kept_and_its_other_sequences_are_not() {
        let text = with_colours("\x1b[1m\x1b[38;5;9merror\x1b[0m: \x1b[2Kx\x1b]8;;http://a\x07");
        assert_eq!(rendered(&text), "\x1b[1m\x1b[38;5;9merror\x1b[0m: \\x1b[2Kx\\x1b]8;;http://a\\x07\x1b[0m");
        assert_eq!(with_colours("no colours"), "no colours");
        assert_eq!(plain(&text), "error: \\x1b[2Kx\\x1b]8;;http://a\\x07");
    }

    #[test]
    fn json_keeps_its_value() {
        let value = serde_json::json!({"a": "x\u{9b}2J\u{7f}\u{202e}\x1b\n\tü"});
        let text = format!("{value:#}\n");
        let safe = safe_json(&text);
        assert!(!safe.chars().any(|c| c.is_control() && c != '\n'), "{safe:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
