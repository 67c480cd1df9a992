//! Prints results: JSON on request, otherwise tables and short texts for people. Never knows a
//! command or an address.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use isopod_policy::text::printable_line;
use serde_json::Value;

use super::limits::TABLE_CELL_CHARS_MAX;
use super::terminal::{self, Look};

/// Prints a value as indented JSON: the complete result of a command.
pub(crate) fn json(value: &Value) {
    write(&terminal::safe_json(&format!("{value:#}\n")));
}

/// Prints a value as one line of JSON, for commands that print a stream of values.
pub(crate) fn json_line(value: &Value) {
    write(&terminal::safe_json(&format!("{value}\n")));
}

/// Prints text on standard output, escaped for a terminal.
pub(crate) fn emit(text: &str) {
    write(&terminal::rendered(text));
}

/// Prints a value for a program: unchanged, unless standard output is a terminal.
pub(crate) fn emit_exact(text: &str) {
    if std::io::stdout().is_terminal() {
        return emit(text);
    }
    written(std::io::stdout().lock().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()));
}

/// Prints help or the version. Their colours are the program's own, so they are not escaped.
pub(crate) fn emit_help(help: &clap::builder::StyledStr) {
    write(&help.ansi().to_string());
}

fn write(text: &str) {
    if cfg!(test) {
        // The test runner captures only output that is printed by a macro.
        return anstream::print!("{text}");
    }
    let mut out = anstream::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Ends the program if standard output can't be written, so that the reader doesn't miss part of it
/// unnoticed. A reader that has exited, as in `isopod … | head`, is not an error.
fn written(outcome: std::io::Result<()>) {
    match outcome {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            note(&format!("error: standard output cannot be written: {error}"));
            note("  what the command changed before it printed is still changed");
            std::process::exit(1);
        }
    }
}

/// Prints progress and hints on standard error, so that standard output contains only the result.
pub(crate) fn note(text: &str) {
    note_part(&format!("{text}\n"));
}

/// Prints like [`note`], without a line break at the end.
pub(crate) fn note_part(text: &str) {
    let text = terminal::rendered(text);
    if cfg!(test) {
        return anstream::eprint!("{text}");
    }
    // Without standard error, this can't be reported.
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
}

/// Marks a step that succeeded.
pub(crate) fn done(text: &str) -> String {
    format!("{} {text}", terminal::styled(Look::Green, "✓"))
}

/// Marks a step that failed.
pub(crate) fn failed(text: &str) -> String {
    format!("{} {text}", terminal::styled(Look::Red, "✗"))
}

/// Dims text.
pub(crate) fn dim(text: &str) -> String {
    terminal::styled(Look::Dim, text)
}

/// Returns text for one cell or line: line breaks become `\n`, so that a multi-line value stays on
/// one line.
pub(crate) fn flat(text: &str) -> String {
    text.trim_end().replace('\r', "").replace('\n', "\\n")
}

/// Formats one field like [`field`], on one line and with its control characters escaped, so that a
/// sender's text can't forge a row or a line.
pub(crate) fn value(value: &Value, key: &str) -> String {
    printable_line(&field(value, key)).into_owned()
}

/// Returns the text of one cell: without line breaks, and not longer than the limit.
fn cell(text: &str) -> String {
    let text = text.replace('\r', "\\r").replace('\n', "\\n");
    match text.char_indices().nth(TABLE_CELL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Formats rows below their headings, with aligned columns and no trailing spaces. A long cell is
/// truncated. Returns an empty text without rows.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|text| cell(text)).collect()).collect();
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut headings.iter().copied());
    for row in &rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Formats names and values in two columns, without the empty values.
pub(crate) fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:<width$}  {value}\n"))
        .collect()
}

/// Returns the items of a list response.
pub(crate) fn items(answer: &Value) -> &[Value] {
    answer.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns the hint that a list has more items than shown.
pub(crate) fn more(shown: u16) -> String {
    format!("showing the newest {shown}; show more with -n {}", shown.saturating_mul(5))
}

/// Formats a number of events.
pub(crate) fn events(number: u64) -> String {
    format!("{number} {}", if number == 1 { "event" } else { "events" })
}

/// Returns one field for people: an empty text if it is missing, strings without quotes.
pub(crate) fn field(value: &Value, key: &str) -> String {
    match value.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Returns the first non-empty field of several.
pub(crate) fn first_field(value: &Value, keys: &[&str]) -> String {
    keys.iter().map(|key| field(value, key)).find(|text| !text.is_empty()).unwrap_or_default()
}

/// Returns a release as people write it, `v3`, from a number, an object or a text.
pub(crate) fn release(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::Number(number)) => format!("v{number}"),
        Some(Value::Object(inner)) => inner.get("number").map(|number| format!("v{number}")).unwrap_or_default(),
        _ => field(value, key),
    }
}

/// Returns one line of a push job's log, from a plain text or a record with a time.
pub(crate) fn log_text(line: &Value) -> String {
    match line {
        Value::String(text) => text.clone(),
        record => first_field(record, &["text", "message", "line"]),
    }
}

/// Formats a time for people: the date and time of RFC 3339, cut to the second.
pub(crate) fn time(text: &str) -> String {
    text.get(..19).map(|head| head.replacen('T', " ", 1)).unwrap_or_else(|| text.to_owned())
}

/// Returns the clock time of an RFC 3339 time, for streams of lines.
pub(crate) fn clock(text: &str) -> &str {
    text.get(11..19).unwrap_or(text)
}

/// Formats a duration for people with its two largest units, so that columns stay narrow.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match (seconds, seconds / 60, seconds / 3600) {
        (0, _, _) => format!("{ms}ms"),
        (1..10, _, _) => format!("{seconds}.{}s", ms % 1000 / 100),
        (_, 0, _) => format!("{seconds}s"),
        (_, minutes, 0) => format!("{minutes}m{}s", seconds % 60),
        (_, minutes, hours @ 1..24) => format!("{hours}h{}m", minutes % 60),
        (_, _, hours) => format!("{}d{}h", hours / 24, hours % 24),
    }
}

/// Formats a field that counts milliseconds; empty if it is missing.
pub(crate) fn duration_of(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_u64).map(duration).unwrap_or_default()
}

/// Formats a field that counts bytes; empty if it is missing.
pub(crate) fn size_of(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_u64).map(size).unwrap_or_default()
}

/// Formats the value of a config var or of another setting. A secret, which the host never shows,
/// becomes `(secret)`.
pub(crate) fn setting(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Object(object) if is_secret(object) => "(secret)".to_owned(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn is_secret(object: &serde_json::Map<String, Value>) -> bool {
    object.len() == 1 && object.get("secret").and_then(Value::as_bool) == Some(true)
}

/// Formats a size in binary units.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" || value >= 100.0 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_aligns_its_columns_and_has_no_trailing_spaces() {
        let rows = vec![vec!["hello".into(), "dev".into()], vec!["a".into(), String::new()]];
        assert_eq!(table(&["NAME", "TYPE"], &rows), "NAME   TYPE\nhello  dev\na\n");
    }

    #[test]
    fn a_cell_is_one_line_of_bounded_length() {
        let rows = vec![vec!["x".repeat(100_000), "a\r\nfake".into()], vec!["b".into(), "c".into()]];
        let text = table(&["ID", "SUBJECT"], &rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[1]), (3, &*format!("{}…  a\\r\\nfake", "x".repeat(TABLE_CELL_CHARS_MAX))));
        let event = serde_json::json!({ "subject": "a\u{1b}[2J\n\u{7}" });
        assert_eq!(value(&event, "subject"), "a\\x1b[2J\\n\\x07");
    }

    #[test]
    fn an_empty_table_has_no_headings() {
        assert_eq!(table(&["NAME", "TYPE"], &[]), "");
    }

    #[test]
    fn pairs_omit_empty_values() {
        assert_eq!(pairs(&[("name", "x".into()), ("error", String::new())]), "name   x\n");
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(300 * 1024 * 1024), "300 MiB");
    }

    #[test]
    fn durations_are_short() {
        let shown = [0, 999, 1_500, 59_999, 61_000, 3_599_000, 7_260_000, 90_000_000].map(duration);
        assert_eq!(shown, ["0ms", "999ms", "1.5s", "59s", "1m1s", "59m59s", "2h1m", "1d1h"]);
    }

    #[test]
    fn a_setting_is_shown_as_people_write_it_and_a_secret_as_a_placeholder() {
        let settings = serde_json::json!([null, "a b", {"secret": true}, ["x", "y"], true, 3, {"secret": "no"}]);
        let shown: Vec<String> = settings.as_array().unwrap().iter().map(setting).collect();
        assert_eq!(shown, ["", "a b", "(secret)", "x, y", "yes", "3", r#"{"secret":"no"}"#]);
    }

    #[test]
    fn a_release_is_formatted_alike_from_every_form() {
        let value = serde_json::json!({"a": 3, "b": "v3", "c": {"number": 3}, "d": null});
        assert_eq!(["a", "b", "c", "d"].map(|key| release(&value, key)), ["v3", "v3", "v3", ""]);
    }

    #[test]
    fn times_are_cut_to_the_second() {
        assert_eq!(time("2026-01-02T03:04:05.678Z"), "2026-01-02 03:04:05");
        assert_eq!(clock("2026-01-02T03:04:05.678Z"), "03:04:05");
        assert_eq!(clock("now"), "now");
    }
}
