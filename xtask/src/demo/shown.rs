//! Owns which examples the demo shows, in which order, and what it says of each. Never asks them anything.

use crate::guests::Example;

/// Those worth opening first come first. What is not here was made for tests and benchmarks, and would tell a newcomer
/// nothing; `examples/README.md` has all.
const SHOWN: [(&str, &str); 9] = [
    ("guestbook", "a page with a form, and key-value storage"),
    ("search", "a large index that lies in a snapshot, so that instances start with it"),
    ("hello", "HTTP with the SDK, in a few lines"),
    ("bot", "events: a conversation that remembers each user"),
    ("hello-js", "JavaScript"),
    ("hello-py", "Python"),
    ("hello-wasi02", "a standard component of wasi:http 0.2, without the SDK"),
    ("hello-wasi03", "a standard component of wasi:http 0.3, without the SDK"),
    ("command", "a tool for the command line, in the same sandbox"),
];

/// What is shown of these examples, each with what it is.
pub(super) fn of(examples: &[Example]) -> Vec<(&Example, &'static str)> {
    let built = |name: &str| examples.iter().find(|example| example.name == name);
    SHOWN.into_iter().filter_map(|(name, what)| Some((built(name)?, what))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{guests, step};

    #[test]
    fn every_example_is_shown_but_those_for_tests_and_benchmarks() {
        let all = guests::find(&step::root().join("examples")).expect("the examples");
        let shown: Vec<&str> = of(&all).iter().map(|(example, _)| example.name.as_str()).collect();
        assert_eq!(shown, SHOWN.map(|(name, _)| name));
        let left_out = all.iter().map(|example| example.name.as_str()).filter(|name| !shown.contains(name));
        let for_tests = [
            "busy",
            "countdown",
            "greedy",
            "greedy-flat",
            "hoarder",
            "probe-flat",
            "probe-js",
            "probe-wasi02",
            "probe-wasi03",
            "relay-wasi03",
            "shapes",
        ];
        assert_eq!(left_out.collect::<Vec<_>>(), for_tests);
    }
}
