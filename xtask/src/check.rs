//! `cargo xtask check`: runs every check of a change, the quickest first. Never changes a file.

use std::process::Command;

use anyhow::Result;

use crate::{setup, step, test, tidy};

/// The workspace of the shipped plugins.
const PLUGINS: &str = "plugins/Cargo.toml";
/// The workspaces whose programs and components are shipped.
const WORKSPACES: [&str; 2] = ["Cargo.toml", PLUGINS];
const CLIPPY_ADVICE: &str = "each warning above names what to change";

pub(crate) fn run() -> Result<()> {
    step::announce("format");
    step::run(step::cargo().args(["fmt", "--all", "--check"]), "run `cargo fmt --all`")?;
    for workspace in ["examples/Cargo.toml", "plugins/Cargo.toml"] {
        let mut guests = step::cargo();
        guests.args(["fmt", "--manifest-path", workspace, "--all", "--check"]);
        step::run(&mut guests, &format!("run `cargo fmt --manifest-path {workspace} --all`"))?;
    }
    tidy::run()?;
    setup::run()?;
    step::announce("clippy");
    let mut clippy = step::cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--features", step::FEATURES, "--", "-D", "warnings"]);
    step::run(&mut clippy, CLIPPY_ADVICE)?;
    let mut plugins = step::cargo();
    plugins.args(["clippy", "--manifest-path", PLUGINS, "--workspace", "--all-targets", "--", "-D", "warnings"]);
    step::run(plugins.env_remove("CARGO_TARGET_DIR"), CLIPPY_ADVICE)?;
    licences()?;
    step::announce("documentation");
    let mut doc = step::cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", "-D warnings");
    step::run(&mut doc, "each warning above names the comment to change")?;
    test::run(&[])
}

/// Checks licences, sources, duplicates and known vulnerabilities of the dependencies. The list of
/// vulnerabilities has to be fetched, which is impossible on some machines; the other checks need
/// only the lock file.
fn licences() -> Result<()> {
    let present = || step::succeeds(Command::new("cargo-deny").arg("--version"));
    if !present() {
        step::announce("installing cargo-deny (some minutes, once)");
        let mut install = step::cargo();
        install.args(["install", "cargo-deny", "--locked"]);
        step::run(&mut install, "install cargo-deny by hand: https://embarkstudios.github.io/cargo-deny/")?;
    }
    step::announce("licences, sources and duplicates of dependencies");
    for workspace in WORKSPACES {
        let mut deny = check_of(workspace);
        step::run(deny.args(["bans", "licenses", "sources"]), "deny.toml lists the permitted licences and sources")?;
    }
    step::announce("known vulnerabilities of dependencies");
    if !step::succeeds(step::cargo().args(["deny", "fetch", "db"])) {
        println!("         skipped: cannot fetch the list of vulnerabilities");
        return Ok(());
    }
    for workspace in WORKSPACES {
        step::run(check_of(workspace).arg("advisories"), "update the dependency that the message names")?;
    }
    Ok(())
}

/// Returns `cargo deny check` for a workspace. It finds `deny.toml` in a folder above the manifest.
fn check_of(workspace: &str) -> Command {
    let mut deny = step::cargo();
    deny.args(["deny", "--all-features", "--manifest-path"]).arg(step::root().join(workspace)).arg("check");
    deny
}
