//! `cargo xtask setup`: installs missing tools if no password is needed, and prints how to
//! install the others. Never changes a tool that works.

use std::process::Command;

use anyhow::{Result, bail};

use crate::step;

pub fn run() -> Result<()> {
    step::announce("checking the tools of this machine");
    c_compiler()?;
    if let Err(missing) = isopod_toolchain::install(|line| println!("         {line}")) {
        bail!("{missing}");
    }
    for check in isopod_toolchain::checks() {
        let mark = if check.ok { "ok" } else { "--" };
        println!("         {mark} {}: {}", check.name, check.detail);
        if !check.ok {
            println!("            to fix it: {}", check.fix);
        }
    }
    Ok(())
}

/// Installs a C compiler, which SQLite and the allocator need.
fn c_compiler() -> Result<()> {
    let works = || step::succeeds(Command::new("cc").arg("--version"));
    if works() {
        return Ok(());
    }
    let install = "apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev";
    let as_root = "[ \"$(id -u)\" = 0 ] && command -v apt-get";
    if step::succeeds(Command::new("sh").args(["-c", as_root])) {
        step::announce("installing a C compiler");
        step::run(Command::new("sh").args(["-c", install]), "install a C compiler by hand and try again")?;
    }
    if works() {
        return Ok(());
    }
    bail!(
        "the C compiler `cc` is missing; SQLite needs it\n  Debian, Ubuntu: sudo {install}\n  \
         macOS: xcode-select --install"
    )
}
