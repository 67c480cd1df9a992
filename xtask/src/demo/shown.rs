//! The examples and plugins that the demo shows, their order and descriptions. Never sends them
//! requests.

use crate::guests::Example;

/// The most interesting examples come first. Examples for tests and benchmarks are omitted;
/// `examples/README.md` lists all.
const EXAMPLES: [(&str, &str); 10] = [
    ("guestbook", "a page with a form, and key-value storage"),
    ("search", "a large index in a snapshot, so that instances start with it in memory"),
    ("hello", "HTTP with the SDK, in a few lines"),
    ("bot", "events: a conversation that remembers each user"),
    ("hello-js", "JavaScript"),
    ("hello-py", "Python"),
    ("hello-wasi02", "a standard wasi:http 0.2 component, without the SDK"),
    ("hello-wasi03", "a standard wasi:http 0.3 component, without the SDK"),
    ("flagged", "a page behind a feature flag, which the plugin feature-flags offers"),
    ("command", "a command-line tool in the same sandbox"),
];

/// All shipped plugins. `notify` is last, since it reports what the others have caused.
const PLUGINS: [(&str, &str); 7] = [
    ("static-files", "a middleware that sends the files of the app's bundle"),
    ("cors", "a middleware that lets the pages of some other origins call the app"),
    ("require-jwt", "a middleware that refuses requests without a valid token"),
    ("rate-limit", "a middleware that limits the requests of each client, here of each token's subject"),
    ("feature-flags", "a provider of an interface that apps call"),
    ("deploy-window", "a gate that allows releases only at certain times; here it decides about the app payroll"),
    ("notify", "a hook that posts the activity of apps to a webhook"),
];

/// Returns whether the demo shows an example or plugin of this name.
pub(super) fn is_shown(name: &str) -> bool {
    EXAMPLES.iter().chain(&PLUGINS).any(|(shown, _)| *shown == name)
}

/// Returns the examples to show, with their descriptions.
pub(super) fn examples(built: &[Example]) -> Vec<(&Example, &'static str)> {
    of(built, &EXAMPLES)
}

/// Returns the plugins to show, with their descriptions.
pub(super) fn plugins(built: &[Example]) -> Vec<(&Example, &'static str)> {
    of(built, &PLUGINS)
}

fn of<'e>(built: &'e [Example], shown: &[(&str, &'static str)]) -> Vec<(&'e Example, &'static str)> {
    let built = |name: &str| built.iter().find(|example| example.name == name);
    shown.iter().filter_map(|(name, what)| Some((built(name)?, *what))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{guests, step};

    fn names(folder: &str) -> Vec<String> {
        let found = guests::find(&step::root().join(folder)).expect("the folder can be read");
        found.into_iter().map(|example| example.name).collect()
    }

    #[test]
    fn every_shipped_plugin_is_shown() {
        let mut shown = PLUGINS.map(|(name, _)| name);
        shown.sort_unstable();
        assert_eq!(names("plugins"), shown);
    }

    #[test]
    fn every_example_except_those_for_tests_and_benchmarks_is_shown() {
        let all = names("examples");
        assert!(EXAMPLES.iter().all(|(shown, _)| all.iter().any(|name| name == shown)));
        let omitted: Vec<&String> = all.iter().filter(|name| !is_shown(name)).collect();
        let for_tests = [
            "busy",
            "countdown",
            "greedy",
            "greedy-flat",
            "hoarder",
            "middleware-wasi03",
            "outbox",
            "probe-caller",
            "probe-events",
            "probe-flat",
            "probe-gate",
            "probe-holder",
            "probe-holder-wasi03",
            "probe-js",
            "probe-plugin",
            "probe-provider",
            "probe-wasi02",
            "probe-wasi03",
            "relay-wasi03",
            "shapes",
        ];
        assert_eq!(omitted, for_tests);
    }
}
