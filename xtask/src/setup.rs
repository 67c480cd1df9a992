//! `cargo xtask setup`: installs what is missing and can be installed without asking; says how to get the rest.

use std::process::Command;

use anyhow::{Result, bail};

use crate::step;

pub fn run() -> Result<()> {
    step::announce("looking at what this machine has");
    c_compiler()?;
    if let Err(missing) = isopod_toolchain::install(|line| println!("         {line}")) {
        bail!("{missing}");
    }
    for check in isopod_toolchain::checks() {
        let mark = if check.ok { "ok" } else { "--" };
        println!("         {mark} {}: {}", check.name, check.detail);
        if !check.ok {
            println!("            to mend it: {}", check.fix);
        }
    }
    Ok(())
}

/// SQLite and the allocator are C.
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
        "there is no C compiler `cc`, which SQLite is compiled with\n  Debian, Ubuntu: sudo {install}\n  macOS: xcode-select --install"
    )
}
