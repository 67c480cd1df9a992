//! Installs the headless browser of the dashboard's tests and its driver, if they are missing and
//! that needs no permission. Never fails: the tests of the dashboard are skipped without them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::step;

/// The packages of the driver, and their versions.
const PACKAGES: [&str; 2] = ["package.json", "package-lock.json"];
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Installs what is missing, or prints why the browser tests are skipped.
pub fn prepare() {
    if let Err(error) = installed() {
        println!("         -- browser: {error:#}; the browser tests of the dashboard are skipped");
    }
}

fn installed() -> Result<()> {
    if !CHROMIUM.iter().any(|program| answers(program)) {
        install("chromium", "the headless browser")?;
    }
    if !answers("npm") {
        install("npm", "Node.js with npm")?;
    }
    let (from, to) = (step::root().join("tests/browser"), step::root().join("target/browser"));
    if is_current(&from, &to) {
        return Ok(());
    }
    step::announce("installing the driver of the browser tests");
    fs::create_dir_all(&to).context("cannot create target/browser")?;
    for file in PACKAGES {
        fs::copy(from.join(file), to.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&to);
    if let Err(error) = step::run_quietly(&mut npm, "npm needs its registry once; try again with a network") {
        // Otherwise the next call would take the copied files for an installation.
        fs::remove_dir_all(&to).context("cannot remove target/browser")?;
        return Err(error);
    }
    Ok(())
}

/// Returns whether the installed packages are those of the lock file.
fn is_current(from: &Path, to: &Path) -> bool {
    let same = |file: &&str| matches!((fs::read(from.join(file)), fs::read(to.join(file))), (Ok(a), Ok(b)) if a == b);
    to.join("node_modules").is_dir() && PACKAGES.iter().all(|file| same(&file))
}

fn answers(program: &str) -> bool {
    step::succeeds(Command::new(program).arg("--version"))
}

/// Installs a package of Debian as root.
fn install(package: &str, what: &str) -> Result<()> {
    let install = format!("apt-get update && apt-get install -y --no-install-recommends {package}");
    let as_root = "[ \"$(id -u)\" = 0 ] && command -v apt-get";
    if !step::succeeds(Command::new("sh").args(["-c", as_root])) {
        bail!("{what} is missing\n            Debian, Ubuntu: sudo sh -c '{install}'");
    }
    step::announce(&format!("installing {what}"));
    step::run_quietly(Command::new("sh").args(["-c", &install]), "install it by hand and try again")
}
