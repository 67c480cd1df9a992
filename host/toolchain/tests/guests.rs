//! Tests that build small real guests with each toolchain of this machine. Never builds the
//! repository's examples.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::path::Path;
use std::process::Command;

use isopod_toolchain::{FORCE_VARIABLE, Toolchain};

const BUILD: &str = "cargo build --release --target wasm32-wasip2";

/// A component's first eight bytes; a core module has 1 where this has 13.
const COMPONENT_HEADER: [u8; 8] = [0, b'a', b's', b'm', 13, 0, 1, 0];

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("the folder can be created");
        fs::write(file, text).expect("the file can be written");
    }
}

fn toolchain() -> Toolchain {
    Toolchain::detect_with(|| Ok(env!("CARGO_BIN_EXE_isopod-linker").into()))
        .unwrap_or_else(|missing| panic!("{missing}\n`cargo xtask setup` installs it"))
}

fn build(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let result = toolchain().build(folder, BUILD, |line| lines.push(line.to_owned()));
    result.unwrap_or_else(|failed| panic!("{failed}\n{}", failed.output));
    lines
}

fn component(folder: &Path, name: &str) -> Vec<u8> {
    let file = folder.join("target/wasm32-wasip2/release").join(name);
    let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert_eq!(bytes[..8], COMPONENT_HEADER, "{name} is not a component");
    bytes
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Writes a library with a macro and a build script, since those are compiled for this machine
/// instead of the guest's target.
fn write_library(folder: &Path) {
    write(
        folder,
        &[
            (
                "Cargo.toml",
                "[package]\nname = \"library\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\n\
                 crate-type = [\"cdylib\"]\n[dependencies]\nanswer = { path = \"answer\" }\n\
                 [profile.release]\nlto = true\n[workspace]\n",
            ),
            ("build.rs", "fn main() { println!(\"cargo::rustc-env=GREETING=hello\"); }\n"),
            (
                "src/lib.rs",
                "#[unsafe(no_mangle)]\npub extern \"C\" fn answer() -> i32 {\n    println!(\"{}\", \
                 env!(\"GREETING\"));\n    answer::answer!()\n}\n",
            ),
            (
                "answer/Cargo.toml",
                "[package]\nname = \"answer\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\nproc-macro = true\n",
            ),
            (
                "answer/src/lib.rs",
                "use proc_macro::TokenStream;\n#[proc_macro]\npub fn answer(_: TokenStream) -> TokenStream {\n    \
                 \"42\".parse().unwrap()\n}\n",
            ),
        ],
    );
}

fn write_program(folder: &Path) {
    write(
        folder,
        &[
            ("Cargo.toml", "[package]\nname = \"program\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n"),
            ("src/main.rs", "fn main() {\n    println!(\"hello\");\n}\n#[test]\nfn passes() {}\n"),
        ],
    );
}

#[test]
fn a_library_becomes_a_component() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_library(folder.path());
    let lines = build(folder.path());
    assert!(lines.iter().any(|line| line.contains("Compiling library")), "{lines:?}");
    component(folder.path(), "library.wasm");
}

#[test]
fn a_program_becomes_a_command() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_program(folder.path());
    build(folder.path());
    assert!(contains(&component(folder.path(), "program.wasm"), "wasi:cli/run@0.2."));
}

#[test]
fn a_broken_guest_fails_with_the_compilers_output() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_program(folder.path());
    write(folder.path(), &[("src/main.rs", "fn main() { not_there(); }\n")]);
    let failed = toolchain().build(folder.path(), BUILD, |_| ()).expect_err("it cannot compile");
    assert!(failed.output.contains("cannot find function `not_there`"), "{}", failed.output);
    assert_eq!(failed.reason, "exited with 101");
}

#[test]
fn a_guests_native_tests_run_with_the_users_own_rust() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_program(folder.path());
    let mut lines = Vec::new();
    let result = toolchain().build(folder.path(), "cargo test && cargo --version", |line| lines.push(line.to_owned()));
    result.unwrap_or_else(|failed| panic!("{failed}\n{}", failed.output));
    assert!(lines.iter().any(|line| line.contains("test passes ... ok")), "{lines:?}");
    let own = Command::new("cargo").arg("--version").output().expect("cargo runs");
    assert_eq!(lines.last().map(String::as_str), Some(String::from_utf8_lossy(&own.stdout).trim()));
}

/// On a machine with both toolchains, the tests above use the user's own Rust. This test runs them
/// again with the other one, in a separate process, since the choice is read from the environment.
#[test]
fn the_same_guests_build_with_debians_packages() {
    let needed =
        ["/usr/bin/cargo", "/usr/lib/wasm32-wasi/crt1-reactor.o", "/usr/lib/rustlib/src/rust/library/Cargo.lock"];
    if std::env::var_os(FORCE_VARIABLE).is_some() || !needed.iter().all(|file| Path::new(file).exists()) {
        eprintln!("skipped: this is the forced run, or Debian's packages for guests are not installed here");
        return;
    }
    let mut again = Command::new(std::env::current_exe().expect("this test"));
    let output = again.env(FORCE_VARIABLE, "debian").output().expect("this test can be started again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
