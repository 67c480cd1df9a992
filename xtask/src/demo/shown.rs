//! The examples that the demo shows, their order and descriptions. Never sends them requests.

use crate::guests::Example;

/// The most interesting examples come first. Examples for tests and benchmarks are omitted;
/// `examples/README.md` lists all.
const SHOWN: [(&str, &str); 9] = [
    ("guestbook", "a page with a form, and key-value storage"),
    ("search", "a large index in a snapshot, so that instances start with it in memory"),
    ("hello", "HTTP with the SDK, in a few lines"),
    ("bot", "events: a conversation that remembers each user"),
    ("hello-js", "JavaScript"),
    ("hello-py", "Python"),
    ("hello-wasi02", "a standard wasi:http 0.2 component, without the SDK"),
    ("hello-wasi03", "a standard wasi:http 0.3 component, without the SDK"),
    ("command", "a command-line tool in the same sandbox"),
];

/// Returns the examples to show, with their descriptions.
pub(super) fn of(examples: &[Example]) -> Vec<(&Example, &'static str)> {
    let built = |name: &str| examples.iter().find(|example| example.name == name);
    SHOWN.into_iter().filter_map(|(name, what)| Some((built(name)?, what))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{guests, step};

    #[test]
    fn every_example_except_those_for_tests_and_benchmarks_is_shown() {
        let all = guests::find(&step::root().join("examples")).expect("the examples");
        let shown: Vec<&str> = of(&all).iter().map(|(example, _)| example.name.as_str()).collect();
        assert_eq!(shown, SHOWN.map(|(name, _)| name));
        let omitted = all.iter().map(|example| example.name.as_str()).filter(|name| !shown.contains(name));
        let for_tests = [
            "busy",
            "countdown",
            "flagged",
            "greedy",
            "greedy-flat",
            "hoarder",
            "outbox",
            "probe-caller",
            "probe-events",
            "probe-flat",
            "probe-gate",
            "probe-js",
            "probe-plugin",
            "probe-provider",
            "probe-wasi02",
            "probe-wasi03",
            "relay-wasi03",
            "shapes",
        ];
        assert_eq!(omitted.collect::<Vec<_>>(), for_tests);
    }
}
