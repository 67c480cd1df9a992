//! Uses and drops counters of the provider.

use crate::acme::probe::counters::{self, Counter};

/// Uses and drops counters. Returns their sums, and the number of counters in the provider's
/// instance after each step.
pub(crate) fn count(start: u32) -> String {
    let first = Counter::new(start);
    let named = Counter::named("four").expect("the name is not empty");
    let refused = Counter::named("").err().unwrap_or_default();
    let (added, two) = (first.add(1), counters::live());
    let (merged, one) = (counters::merge(&first, named), counters::live());
    let many = counters::many(3);
    let four = counters::live();
    drop(many);
    format!("{added} {merged}; {two} {one} {four} {}; {refused}", counters::live())
}
