//! Compares a figure with its target: reached, not reached, or not measured. Pure.

use std::fmt;

use serde_json::{Value, json};

/// The least width of the first column of a table.
const WIDTH_MIN: usize = 58;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// A target and the measured figure; NaN if it could not be measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    what: String,
    bound: Bound,
    measured: f64,
}

impl Verdict {
    pub(super) fn new(what: impl Into<String>, bound: Bound, measured: f64) -> Verdict {
        Verdict { what: what.into(), bound, measured }
    }

    fn reached(&self) -> Option<bool> {
        if self.measured.is_nan() {
            return None;
        }
        Some(match self.bound {
            Bound::AtMost(limit) => self.measured <= limit,
            Bound::AtLeast(limit) => self.measured >= limit,
        })
    }

    fn json(&self) -> Value {
        let (bound, limit) = match self.bound {
            Bound::AtMost(limit) => ("at_most", limit),
            Bound::AtLeast(limit) => ("at_least", limit),
        };
        json!({ "target": self.what, bound: limit, "measured": self.measured, "reached": self.reached() })
    }
}

/// A row of the table that `show` prints. The width is that of its first column.
impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = out.width().unwrap_or(WIDTH_MIN);
        let (bound, limit) = match self.bound {
            Bound::AtMost(limit) => ("at most", limit),
            Bound::AtLeast(limit) => ("at least", limit),
        };
        let (measured, reached) = match self.reached() {
            None => ("-".to_owned(), "-"),
            Some(reached) => (format!("{:.2}", self.measured), if reached { "yes" } else { "no" }),
        };
        write!(out, "| {:<width$} | {bound:<8} {limit:>6.2} | {measured:>8} | {reached:<7} |", self.what)
    }
}

/// Prints a table that reads the same in a terminal and in docs/benchmarks.md.
pub(super) fn show(verdicts: &[Verdict]) {
    let mut table = String::new();
    // Writing to memory succeeds.
    let _ = write(&mut table, verdicts);
    print!("{table}");
}

/// Writes the table that `show` prints.
pub(super) fn write(out: &mut impl fmt::Write, verdicts: &[Verdict]) -> fmt::Result {
    let width = verdicts.iter().map(|verdict| verdict.what.chars().count()).max().unwrap_or(0).max(WIDTH_MIN);
    writeln!(out, "\n| {:<width$} | {:<15} | measured | reached |", "target", "goal")?;
    writeln!(out, "| {:-<width$} | {:-<15} | -------: | ------- |", "", "")?;
    verdicts.iter().try_for_each(|verdict| writeln!(out, "{verdict:<width$}"))
}

pub(super) fn json(verdicts: &[Verdict]) -> Value {
    verdicts.iter().map(Verdict::json).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_reached_missed_or_not_measured() {
        let p50 = |measured| Verdict::new("p50", Bound::AtMost(0.5), measured);
        assert_eq!([p50(0.5), p50(0.6), p50(f64::NAN)].map(|p50| p50.reached()), [Some(true), Some(false), None]);
        assert_eq!(Verdict::new("share", Bound::AtLeast(0.95), 0.9).reached(), Some(false));
        assert!(p50(f64::NAN).to_string().ends_with("|        - | -       |"));
        assert_eq!(json(&[p50(0.25)])[0]["at_most"], 0.5);
        assert_eq!(json(&[p50(0.25)])[0]["reached"], true);
    }
}
