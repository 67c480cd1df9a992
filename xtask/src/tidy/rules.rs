//! The rules, each with its reason and exceptions. Pure: reads texts, never the disk.

use super::{Finding, SourceFile};

const LINES_MAX: usize = 600;
const EXAMPLE_LINES_MAX: usize = 60;
const PLUGIN_LINES_MAX: usize = 150;

/// Words that must not occur in the code of some files.
struct Forbidden {
    rule: &'static str,
    words: &'static [&'static str],
    holds_for: fn(&SourceFile) -> bool,
    holds_in_unit_tests: bool,
}

const FORBIDDEN: &[Forbidden] = &[
    Forbidden {
        rule: "only host/engine names wasmtime: the engine can be replaced in one place",
        words: &["wasmtime", "wasmtime_wasi", "wasmtime_wasi_http", "wasmtime_wasi_config", "cranelift", "wiggle"],
        holds_for: |file| !file.is_below("host/engine"),
        holds_in_unit_tests: true,
    },
    Forbidden {
        rule: "host/policy only decides: no clock, randomness, async or I/O; time and randomness are arguments",
        words: &["Instant", "SystemTime", "tokio", "rand", "async", "await", "std::fs", "std::net::Tcp", "std::thread"],
        holds_for: |file| file.is_below("host/policy/src"),
        holds_in_unit_tests: true,
    },
    Forbidden {
        rule: "only host/src/config.rs reads the environment, so that each value can be explained to a user; the \
               toolchain's environment.rs describes the machine",
        words: &["env::var", "env::var_os", "env::vars", "env::vars_os", "from_default_env", "from_env"],
        holds_for: |file| !may_read_environment(file),
        holds_in_unit_tests: true,
    },
    Forbidden {
        rule: "only host/src/platform.rs builds services (and the two commands that run one component without a host)",
        words: &["Engine::new", "Store::open", "KvStore::open", "Directory::new"],
        holds_for: |file| {
            let alone = ["host/src/platform.rs", "host/src/cli/serve.rs", "host/src/cli/run.rs"];
            file.is_below("host/src") && !alone.contains(&file.path.as_str())
        },
        holds_in_unit_tests: false,
    },
    Forbidden {
        rule: "ingress never uses the store: a slow disk must not delay a request",
        words: &["isopod_store", "crate::store", "rusqlite"],
        holds_for: |file| file.is_below("host/src/ingress"),
        holds_in_unit_tests: true,
    },
    Forbidden {
        rule: "the runtime uses neither the store nor axum: it only runs what it is given",
        words: &["isopod_store", "rusqlite", "axum"],
        holds_for: |file| file.is_below("host/src/runtime"),
        holds_in_unit_tests: true,
    },
    Forbidden {
        rule: "every channel is bounded, its bound in limits.rs (use `sync_channel` instead of std's `mpsc::channel`)",
        words: &["unbounded", "unbounded_channel", "mpsc::channel()", "std::sync::mpsc::channel"],
        holds_for: |_| true,
        holds_in_unit_tests: true,
    },
    Forbidden {
        rule: "no unfinished code, and no disabled test",
        words: &["todo!", "unimplemented!", "#[ignore"],
        holds_for: |_| true,
        holds_in_unit_tests: true,
    },
];

/// Returns whether a file may read the environment, and why.
fn may_read_environment(file: &SourceFile) -> bool {
    let files = [
        "host/src/config.rs",                // The host's only reader.
        "host/toolchain/src/environment.rs", // PATH, caches, and what builds pass to their shims.
        "sdk/rust/src/config.rs",            // A guest's config vars are its environment.
    ];
    let folders = [
        "xtask",    // Cargo describes its invocation in variables.
        "tests",    // Cargo describes the tests' programs in variables.
        "examples", // Guests read the environment that the sandbox grants.
    ];
    let by_cargo = file.path.ends_with("/build.rs"); // Build scripts receive their inputs in variables.
    let starts_itself = file.path.contains("/tests/"); // Some tests start themselves as a process that is killed.
    by_cargo
        || starts_itself
        || files.contains(&file.path.as_str())
        || folders.iter().any(|folder| file.is_below(folder))
}

/// Crate families that only the engine may depend on.
const ENGINE_FAMILY: [&str; 3] = ["wasmtime", "cranelift", "wiggle"];

/// Dependencies that host/policy must not have.
const NOT_FOR_POLICY: [&str; 6] = ["tokio", "rand", "axum", "hyper", "futures", "async-trait"];

/// Folders of one machine. Assembled with `concat!`, so that this file follows the rule itself.
const MACHINE_FOLDERS: [&str; 4] =
    [concat!("/", "root/"), concat!("/", "home/"), concat!("/", "Users/"), concat!("/", "work/")];

/// The home folder of a fictional person, for tests and docs.
const MADE_UP_FOLDER: &str = concat!("/", "home/ada");

pub(super) fn broken(files: &[SourceFile]) -> Vec<Finding> {
    files.iter().flat_map(of_file).collect()
}

fn of_file(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |line: usize, rule: &'static str| {
        findings.push(Finding { path: file.path.clone(), line, rule: rule.to_owned() })
    };
    let unit_tests = numbered(&file.code).find(|(_, code)| *code == "mod tests {").map_or(usize::MAX, |(line, _)| line);
    for forbidden in FORBIDDEN.iter().filter(|forbidden| (forbidden.holds_for)(file)) {
        for (line, code) in numbered(&file.code) {
            let holds = forbidden.holds_in_unit_tests || line < unit_tests;
            if holds && forbidden.words.iter().any(|word| contains_word(code, word)) {
                found(line, forbidden.rule);
            }
        }
    }
    let lines = file.text.lines().count();
    if file.is_rust() && lines > LINES_MAX {
        found(LINES_MAX + 1, "no file is longer than 600 lines: split it by topic");
    }
    // Test guests, and the bot, which shows a whole app.
    let is_large_example = ["bot/", "greedy/", "hoarder/", "outbox/", "probe-"]
        .iter()
        .any(|guest| file.path.starts_with(&format!("examples/{guest}")));
    let is_small_example = file.is_below("examples") && file.is_rust() && !is_large_example;
    if is_small_example && lines >= EXAMPLE_LINES_MAX {
        found(EXAMPLE_LINES_MAX, "an example is short: under 60 lines");
    }
    if file.is_below("plugins") && file.path.ends_with("/src/lib.rs") && lines >= PLUGIN_LINES_MAX {
        found(PLUGIN_LINES_MAX, "a shipped plugin is short: under 150 lines");
    }
    if file.is_rust() && !file.text.starts_with("//!") {
        found(1, "each file begins with `//!` and describes its responsibility and what it never does");
    }
    for (line, text) in numbered(&file.text.replace(MADE_UP_FOLDER, "")) {
        if MACHINE_FOLDERS.iter().any(|folder| text.contains(folder) && !is_part_of_longer_path(text, folder)) {
            found(line, "no path of one machine: the source builds everywhere");
        }
    }
    if file.path.ends_with("Cargo.toml") {
        for (line, rule) in dependencies(file) {
            found(line, rule);
        }
    }
    findings
}

/// Returns forbidden dependencies. Identifies a dependency by the first word of its line, which is
/// how all manifests write it.
fn dependencies(file: &SourceFile) -> Vec<(usize, &'static str)> {
    let mut findings = Vec::new();
    for (line, text) in numbered(&file.text) {
        let name = text.split([' ', '.', '=']).next().unwrap_or_default();
        let of_engine = ENGINE_FAMILY.iter().any(|family| name == *family || name.starts_with(&format!("{family}-")));
        // The root manifest only defines versions.
        if of_engine && file.path != "Cargo.toml" && !file.is_below("host/engine") {
            findings.push((line, "only host/engine depends on wasmtime"));
        }
        if name == "clap" && text.contains("\"env\"") {
            findings.push((line, "clap reads no variables: host/src/config.rs does"));
        }
        if file.path == "host/policy/Cargo.toml" && NOT_FOR_POLICY.contains(&name) {
            findings.push((line, "host/policy depends on no async, random or network crate"));
        }
    }
    findings
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line))
}

/// Returns whether `word` occurs in `code` outside a longer name.
fn contains_word(code: &str, word: &str) -> bool {
    let of_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(of_name) && word.starts_with(of_name);
        let after = code[at + word.len()..].chars().next().is_some_and(of_name) && word.ends_with(of_name);
        !before && !after
    })
}

/// Returns whether the match is part of a longer path or URL, such as `/srv/home/x`, which names no
/// folder of a machine.
fn is_part_of_longer_path(text: &str, folder: &str) -> bool {
    let within = |c: char| c.is_alphanumeric() || ['.', '-', '_', '}', '*'].contains(&c);
    text.match_indices(folder).all(|(at, _)| text[..at].chars().next_back().is_some_and(within))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_broken_by(path: &str, text: &str) -> Vec<String> {
        broken(&[SourceFile::new(path, text)]).into_iter().map(|finding| finding.rule).collect()
    }

    fn breaks(path: &str, line: &str) -> bool {
        !rules_broken_by(path, &format!("//! A file.\n{line}\n")).is_empty()
    }

    #[test]
    fn only_the_engine_names_wasmtime() {
        assert!(breaks("host/src/main.rs", "use wasmtime::Engine;"));
        assert!(!breaks("host/engine/src/lib.rs", "use wasmtime::Engine;"));
        assert!(!breaks("bench/src/peers.rs", "Command::new(\"wasmtime\") // wasmtime serve"));
        assert!(breaks("host/Cargo.toml", "wasmtime-wasi.workspace = true"));
        assert!(!breaks("Cargo.toml", "wasmtime-wasi = \"48\""));
    }

    #[test]
    fn policy_has_no_clock_and_no_randomness() {
        assert!(breaks("host/policy/src/lib.rs", "let now = Instant::now();"));
        assert!(breaks("host/policy/src/lib.rs", "pub async fn decide() {}"));
        assert!(breaks("host/policy/Cargo.toml", "rand.workspace = true"));
        assert!(!breaks("host/policy/src/lib.rs", "fn decide(now: Duration, brand: u64, instance: u32) {}"));
    }

    #[test]
    fn only_config_reads_the_environment() {
        assert!(breaks("host/src/cli/up.rs", "std::env::var(NAME)"));
        assert!(breaks("host/store/src/lib.rs", "std::env::var_os(NAME)"));
        assert!(!breaks("host/src/config.rs", "std::env::var(NAME)"));
        assert!(breaks("host/toolchain/src/machine.rs", "std::env::var_os(NAME)"));
        assert!(!breaks("host/toolchain/src/environment.rs", "std::env::var_os(NAME)"));
        assert!(breaks("Cargo.toml", "clap = { version = \"4\", features = [\"derive\", \"env\"] }"));
        assert!(!breaks("Cargo.toml", "clap = { version = \"4\", features = [\"derive\"] }"));
        assert!(!breaks("host/src/cli/up.rs", "std::env::current_dir()"));
    }

    #[test]
    fn only_the_platform_builds_services_and_ingress_uses_no_store() {
        assert!(breaks("host/src/api/apps.rs", "Store::open(folder)"));
        assert!(!breaks("host/src/platform.rs", "Store::open(folder)"));
        assert!(breaks("host/src/ingress/route.rs", "use isopod_store::Store;"));
        assert!(breaks("host/src/ingress.rs", "use isopod_store::Store;"));
        assert!(!breaks("host/src/ingress_pages.rs", "use isopod_store::Store;"));
        assert!(!breaks("host/src/runtime/pool.rs", "mod tests {\n    let engine = Engine::new(config)?;\n}"));
        assert!(breaks("host/src/runtime/pool.rs", "let engine = Engine::new(config)?;\nmod tests {\n}"));
    }

    #[test]
    fn channels_are_bounded() {
        assert!(breaks("host/src/api/logs.rs", "let (a, b) = mpsc::unbounded_channel();"));
        assert!(breaks("host/src/api/logs.rs", "let (a, b) = mpsc::channel();"));
        assert!(!breaks("host/src/api/logs.rs", "let (a, b) = mpsc::channel(limits::LINES_MAX);"));
    }

    #[test]
    fn unfinished_code_and_disabled_tests_are_found() {
        assert!(breaks("host/src/main.rs", "fn later() { todo!() }"));
        assert!(breaks("tests/src/lib.rs", "#[ignore = \"slow\"]"));
    }

    #[test]
    fn files_are_short_and_begin_with_their_responsibility() {
        assert!(!rules_broken_by("host/src/main.rs", "fn main() {}\n").is_empty());
        assert!(breaks("host/src/main.rs", &"\n".repeat(600)));
        assert!(breaks("examples/hello/src/lib.rs", &"\n".repeat(59)));
        assert!(!breaks("examples/greedy/src/lib.rs", &"\n".repeat(59)));
        assert!(breaks("plugins/cors/src/lib.rs", &"\n".repeat(149)));
        assert!(!breaks("plugins/cors/src/tests.rs", &"\n".repeat(149)));
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let home = MACHINE_FOLDERS[1];
        assert!(breaks("docs/start.md", &format!("cd {home}me/isopod")));
        assert!(!breaks("docs/start.md", &format!("cd {home}ada/isopod")));
        assert!(!breaks("docs/start.md", &format!("GET https://example.org{home}page")));
    }
}
