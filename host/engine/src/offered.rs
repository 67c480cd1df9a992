//! Lists the interfaces that the host offers to guests, with their versions. Owns the error text
//! about missing imports. Never links anything: the linker decides.

use isopod_policy::{limits::TEXT_NAME_BYTES_SHOWN, text::line_excerpt};

/// A package, its versions, and the interfaces of each. A version of two numbers matches all its
/// patches.
type Package = (&'static str, &'static [(&'static str, &'static [&'static str])]);

const OFFERED: [Package; 12] = [
    ("isopod:app", &[("0.1", &["types", "http", "event-handler", "events", "emit", "health", "init"])]),
    ("isopod:plugin", &[("0.1", &["assets", "bodies", "caller", "counters"])]),
    ("wasi:cli", &[("0.2", CLI), ("0.3", CLI)]),
    (
        "wasi:clocks",
        &[
            ("0.2", &["wall-clock", "monotonic-clock", "timezone"]),
            ("0.3", &["system-clock", "monotonic-clock", "types", "timezone"]),
        ],
    ),
    ("wasi:config", &[("0.2.0-rc.1", &["store"])]),
    ("wasi:filesystem", &[("0.2", &["types", "preopens"]), ("0.3", &["types", "preopens"])]),
    ("wasi:http", &[("0.2", &["types", "outgoing-handler"]), ("0.3", &["types", "client", "handler"])]),
    ("wasi:io", &[("0.2", &["error", "poll", "streams"])]),
    ("wasi:keyvalue", &[("0.2.0-draft2", KEYVALUE), ("0.2.0-draft", KEYVALUE)]),
    ("wasi:logging", &[("0.1.0-draft", &["logging"])]),
    ("wasi:random", &[("0.2", RANDOM), ("0.3", RANDOM)]),
    (
        "wasi:sockets",
        &[
            (
                "0.2",
                &[
                    "network",
                    "instance-network",
                    "tcp",
                    "tcp-create-socket",
                    "udp",
                    "udp-create-socket",
                    "ip-name-lookup",
                ],
            ),
            ("0.3", &["types", "ip-name-lookup"]),
        ],
    ),
];

const CLI: &[&str] = &[
    "environment",
    "exit",
    "stdin",
    "stdout",
    "stderr",
    "types",
    "terminal-input",
    "terminal-output",
    "terminal-stdin",
    "terminal-stdout",
    "terminal-stderr",
];
const KEYVALUE: &[&str] = &["store", "atomics", "batch"];
const RANDOM: &[&str] = &["random", "insecure", "insecure-seed"];

/// Returns whether the host has any interface of the import's package.
pub(crate) fn is_known_package(import: &str) -> bool {
    package(import).is_some()
}

/// Returns whether the host has this interface in this version, judged by its name.
pub(crate) fn is_offered(import: &str) -> bool {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let interface = name.split_once('/').map_or("", |(_, interface)| interface);
    let Some((_, versions)) = package(import) else { return false };
    versions.iter().any(|(offered, interfaces)| fits(offered, version) && interfaces.contains(&interface))
}

/// Describes a missing import, with the versions of the same interface that the host has.
pub(crate) fn named(import: &str) -> String {
    let name = import.split('@').next().unwrap_or(import);
    let interface = name.split_once('/').map_or("", |(_, interface)| interface);
    let versions = package(import).map_or(&[][..], |(_, versions)| versions);
    let versions = versions.iter().filter(|(_, interfaces)| interfaces.contains(&interface));
    let others: Vec<&str> = versions.map(|(version, _)| *version).collect();
    let import = line_excerpt(import, TEXT_NAME_BYTES_SHOWN);
    match others.is_empty() || is_offered(&import) {
        true => format!("`{import}`"),
        false => format!("`{import}` (this host has version {})", others.join(" and ")),
    }
}

fn package(import: &str) -> Option<&'static Package> {
    let package = import.split_once('/').map_or(import, |(package, _)| package);
    OFFERED.iter().find(|(known, _)| *known == package)
}

fn fits(offered: &str, version: &str) -> bool {
    let is_track = offered.split('.').count() == 2;
    version == offered || (is_track && version.strip_prefix(offered).is_some_and(|patch| patch.starts_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_the_host_lacks_is_named_with_those_it_has() {
        assert!(is_offered("wasi:http/types@0.2.4") && is_offered("wasi:keyvalue/store@0.2.0-draft2"));
        assert!(!is_offered("wasi:http/types@0.1.0") && !is_offered("wasi:io/strxams@0.2.6"));
        assert_eq!(named("wasi:http/types@0.9.0"), "`wasi:http/types@0.9.0` (this host has version 0.2 and 0.3)");
        assert_eq!(named("wasi:io/strxams@0.2.6"), "`wasi:io/strxams@0.2.6`");
        assert_eq!(named("acme:rockets/launch"), "`acme:rockets/launch`");
    }

    #[test]
    fn only_packages_of_the_host_are_known() {
        assert!(is_known_package("wasi:io/anything@9.0.0") && is_known_package("isopod:app/types@0.1.0"));
        assert!(!is_known_package("fermyon:spin/key-value@2.0.0") && !is_known_package("env"));
    }
}
