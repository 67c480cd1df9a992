//! The index of all limits, docs/limits.md: reads every `limits.rs` of the product and prints each
//! constant with its value and the effect of reaching it. Never decides a limit.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Finding, SourceFile};

pub(crate) const PATH: &str = "docs/limits.md";

const HEAD: &str = "# Limits

Every bound, queue, cache and timeout of Isopod, with the effect of reaching it. `cargo xtask limits` generates this
page from the `limits.rs` files, and `cargo xtask tidy` fails if a limit is missing or differs. The values are defaults
where [the configuration](configuration.md) or [a manifest](manifest.md) sets another.
";

/// A constant of a `limits.rs`.
struct Limit<'f> {
    name: &'f str,
    kind: &'f str,
    value: String,
    is_public: bool,
    /// The effect of reaching it.
    text: String,
}

/// Names of constants that are bounds, by their end. They belong into a `limits.rs`.
const BOUNDS: [&str; 4] = ["BYTES_MAX", "_QUEUED_MAX", "_INTERVAL", "_TIMEOUT"];

/// Returns a finding for a bound outside a `limits.rs`, for a limit without a comment, and for an
/// index that differs from the constants.
pub(super) fn broken(files: &[SourceFile]) -> Vec<Finding> {
    files.iter().flat_map(misplaced).chain(differing(files)).collect()
}

fn misplaced(file: &SourceFile) -> Vec<Finding> {
    let is_of_host = file.path.starts_with("host/") && file.path.ends_with(".rs") && !file.path.contains("/tests/");
    let finding = |line: usize, rule: &str| Finding { path: file.path.clone(), line, rule: rule.to_owned() };
    if is_listed(&file.path) {
        let silent = limits(&file.text).into_iter().filter(|limit| limit.is_public && limit.text.is_empty());
        return silent.map(|_| finding(1, "each limit has a comment with the effect of reaching it")).collect();
    }
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate().filter(|_| is_of_host) {
        let name = declaration(line).and_then(|(declared, _)| declared.split(':').next()).unwrap_or_default();
        if BOUNDS.iter().any(|end| name.ends_with(end)) {
            findings.push(finding(at + 1, "a bound belongs into the `limits.rs` of its folder, and so into the index"));
        }
    }
    findings
}

fn differing(files: &[SourceFile]) -> Vec<Finding> {
    let present = files.iter().find(|file| file.path == PATH).map_or("", |file| &file.text);
    let wanted = index(files);
    let mut lines = present.lines().zip(wanted.lines()).enumerate();
    if present == wanted {
        return Vec::new();
    }
    let line = lines.find(|(_, (present, wanted))| present != wanted).map_or(1, |(at, _)| at + 1);
    vec![Finding { path: PATH.into(), line, rule: "run `cargo xtask limits`: the index lists every limit".into() }]
}

/// Returns the text of the index.
pub(crate) fn index(files: &[SourceFile]) -> String {
    let files: Vec<&SourceFile> = files.iter().filter(|file| is_listed(&file.path)).collect();
    let all: Vec<Vec<Limit<'_>>> = files.iter().map(|file| limits(&file.text)).collect();
    let values: BTreeMap<&str, &str> = all.iter().flatten().map(|limit| (limit.name, limit.value.as_str())).collect();
    let mut text = HEAD.to_owned();
    for (file, limits) in files.iter().zip(&all) {
        // Constants of the same file precede those of the same name in other files.
        let own: BTreeMap<&str, &str> = limits.iter().map(|limit| (limit.name, limit.value.as_str())).collect();
        let values = |name: &str| own.get(name).or_else(|| values.get(name)).copied();
        let public = limits.iter().filter(|limit| limit.is_public);
        let rows = public.fold(String::new(), |mut rows, limit| {
            let value = shown(limit, &values);
            _ = writeln!(rows, "| `{}` | {value} | {} |", limit.name, limit.text.replace('|', "\\|"));
            rows
        });
        _ = write!(text, "\n## `{}`\n\n| limit | value | effect |\n| --- | --- | --- |\n{rows}", file.path);
    }
    text
}

/// Returns whether a file's constants are listed: those of the product, not of its tests.
fn is_listed(path: &str) -> bool {
    path.ends_with("/limits.rs") && (path.starts_with("host/") || path.starts_with("sdk/"))
}

/// Returns the constants of a file. A constant without a comment shares that of the previous line.
fn limits(text: &str) -> Vec<Limit<'_>> {
    let (mut limits, mut comment, mut is_complete) = (Vec::<Limit<'_>>::new(), String::new(), false);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(more) = line.strip_prefix("///") {
            if std::mem::take(&mut is_complete) {
                comment.clear();
            }
            let space = if comment.is_empty() { "" } else { " " };
            comment = format!(
                "{comment}{space}{}",
                more.trim().replace("[`", "`").replace("`]", "`").replace("`crate::", "`")
            );
        } else if let Some((declared, value)) = declaration(line) {
            let mut value = value.to_owned();
            while !value.contains(';') {
                let Some(more) = lines.next() else { break };
                value = format!("{value} {}", more.trim());
            }
            let (name, kind) = declared.split_once(':').unwrap_or((declared, ""));
            let value = value.split(';').next().unwrap_or_default().trim().to_owned();
            limits.push(Limit {
                name: name.trim(),
                kind: kind.trim(),
                value,
                is_public: line.starts_with("pub"),
                text: comment.clone(),
            });
            is_complete = true;
        } else if !line.starts_with("#[") {
            comment.clear();
        }
    }
    limits
}

/// Splits the line `pub const NAME: TYPE = VALUE;` at the equals sign.
fn declaration(line: &str) -> Option<(&str, &str)> {
    let rest = ["pub const ", "pub(crate) const ", "const "].iter().find_map(|start| line.strip_prefix(start))?;
    let (declared, value) = rest.split_once(" =")?;
    Some((declared, value.trim_start()))
}

/// Formats a value with its unit. A value that isn't made of numbers is shown as it is written.
fn shown<'v>(limit: &Limit<'_>, values: &impl Fn(&str) -> Option<&'v str>) -> String {
    let parts: Vec<&str> = limit.value.split("..=").collect();
    let numbers: Option<Vec<u128>> = parts.iter().map(|part| evaluate(part, values)).collect();
    let one = |number: &u128| {
        let has = |word: &str| limit.name.split('_').any(|part| part == word);
        match () {
            () if limit.kind.contains("Duration") => duration(*number),
            () if has("BYTES") => bytes(*number),
            () if has("MS") => format!("{} ms", grouped(*number)),
            () if has("PERCENT") => format!("{number} %"),
            () if has("SECONDS") => format!("{} s", grouped(*number)),
            () => grouped(*number),
        }
    };
    match numbers {
        Some(numbers) => numbers.iter().map(one).collect::<Vec<_>>().join(" to "),
        None => format!("`{}`", limit.value.replace('|', "\\|")),
    }
}

/// Evaluates sums of products of numbers, shifts and other constants; durations in nanoseconds.
fn evaluate<'v>(text: &str, values: &impl Fn(&str) -> Option<&'v str>) -> Option<u128> {
    let text = text.trim();
    let both = |(left, right): (&str, &str), of: fn(u128, u128) -> Option<u128>| {
        of(evaluate(left, values)?, evaluate(right, values)?)
    };
    for (start, nanoseconds) in [
        ("Duration::from_secs(", 1_000_000_000),
        ("Duration::from_millis(", 1_000_000),
        ("Duration::from_micros(", 1_000),
        ("SignedDuration::from_hours(", 3_600_000_000_000),
    ] {
        if let Some(inner) = text.strip_prefix(start).and_then(|rest| rest.strip_suffix(')')) {
            return evaluate(inner, values)?.checked_mul(nanoseconds);
        }
    }
    if let Some(parts) = split_outside(text, "<<") {
        return both(parts, |left, right| left.checked_shl(u32::try_from(right).ok()?));
    }
    if let Some(parts) = split_outside(text, "+") {
        return both(parts, u128::checked_add);
    }
    if let Some(parts) = split_outside(text, "*") {
        return both(parts, u128::checked_mul);
    }
    if let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        return evaluate(inner, values);
    }
    let word = text.split(" as ").next().unwrap_or_default().trim_matches(['(', ')', ' ']);
    let digits = word.replace('_', "");
    match digits.parse() {
        Ok(number) => Some(number),
        Err(_) if word == "Duration::ZERO" => Some(0),
        Err(_) if word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':') => {
            let name = word.rsplit("::").next().unwrap_or_default();
            values(name).filter(|value| *value != text).and_then(|value| evaluate(value, values))
        }
        Err(_) => None,
    }
}

/// Splits an expression at the first operator outside parentheses.
fn split_outside<'t>(text: &'t str, operator: &str) -> Option<(&'t str, &'t str)> {
    let depth = |before: &str| before.matches('(').count() - before.matches(')').count();
    let (at, _) = text.match_indices(operator).find(|(at, _)| depth(&text[..*at]) == 0)?;
    Some((&text[..at], &text[at + operator.len()..]))
}

fn duration(nanoseconds: u128) -> String {
    if nanoseconds == 0 {
        return "0 s".to_owned();
    }
    let units = [("d", 86_400_000_000_000), ("h", 3_600_000_000_000), ("min", 60_000_000_000), ("s", 1_000_000_000)];
    let units = units.into_iter().chain([("ms", 1_000_000), ("µs", 1_000)]);
    in_largest_unit(nanoseconds, units, "ns")
}

fn bytes(bytes: u128) -> String {
    in_largest_unit(bytes, [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)].into_iter(), "bytes")
}

/// Formats a number in the largest unit that divides it.
fn in_largest_unit(number: u128, mut units: impl Iterator<Item = (&'static str, u128)>, smallest: &str) -> String {
    let unit = units.find(|(_, size)| number > 0 && number.is_multiple_of(*size));
    unit.map_or_else(
        || format!("{} {smallest}", grouped(number)),
        |(name, size)| format!("{} {name}", grouped(number / size)),
    )
}

/// Formats a number with a comma after each three digits.
fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = concat!(
        "//! Limits.\n\n/// Bytes of a head. More is\n/// refused.\npub const HEAD_BYTES: usize = 64 * 1024;\n\n",
        "/// Idle time, then closed.\npub(crate) const IDLE: Duration = Duration::from_secs(90 * 60);\n",
        "/// Later is refused.\npub(crate) const AHEAD: SignedDuration = SignedDuration::from_hours(366 * 24);\n",
        "pub const ALL_BYTES: u64 =\n    HEAD_BYTES as u64 + 1;\nconst KIB: u64 = 1 << 10;\n\n",
        "/// Refuses.\npub const COUNT: RangeInclusive<u32> = 1..=20_000;\n",
        "/// Refuses.\npub const OTHER: usize = elsewhere();\n",
    );

    fn rows() -> Vec<String> {
        let files = [SourceFile::new("host/src/limits.rs", SOURCE), SourceFile::new("tests/src/limits.rs", SOURCE)];
        index(&files).lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect()
    }

    #[test]
    fn a_limit_has_its_value_with_a_unit_and_its_effect() {
        assert_eq!(
            rows(),
            [
                "| `HEAD_BYTES` | 64 KiB | Bytes of a head. More is refused. |",
                "| `IDLE` | 90 min | Idle time, then closed. |",
                "| `AHEAD` | 366 d | Later is refused. |",
                "| `ALL_BYTES` | 65,537 bytes | Later is refused. |",
                "| `COUNT` | 1 to 20,000 | Refuses. |",
                "| `OTHER` | `elsewhere()` | Refuses. |",
            ]
        );
    }

    #[test]
    fn a_bound_elsewhere_and_a_limit_without_a_comment_are_found() {
        let found = |path: &str, text: &str| !misplaced(&SourceFile::new(path, text)).is_empty();
        assert!(found("host/src/api/sse.rs", "const LINE_BYTES_MAX: usize = 1;\n"));
        assert!(found("host/src/api/sse.rs", "pub(crate) const POLL_INTERVAL: Duration = Duration::ZERO;\n"));
        assert!(!found("host/src/api/sse.rs", "const COLUMNS: usize = 1;\n"));
        assert!(!found("tests/src/sse.rs", "const LINE_BYTES_MAX: usize = 1;\n"));
        assert!(found("host/src/limits.rs", "//! Limits.\n\npub const LINE_BYTES_MAX: usize = 1;\n"));
        assert!(!found("host/src/limits.rs", SOURCE));
    }

    #[test]
    fn a_limit_that_is_not_in_the_index_is_found() {
        let complete = index(&[SourceFile::new("host/src/limits.rs", SOURCE)]);
        let found = |index: &str| {
            let files = [SourceFile::new("host/src/limits.rs", SOURCE), SourceFile::new(PATH, index)];
            differing(&files).len()
        };
        assert_eq!(found(&complete), 0);
        assert_eq!(found(&complete.replace("| `IDLE` | 90 min |", "| `IDLE` | 75 min |")), 1);
        assert_eq!(found(complete.trim_end()), 1);
        assert_eq!(found(""), 1);
    }
}
