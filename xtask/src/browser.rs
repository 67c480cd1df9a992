//! Installs the headless browser of the dashboard's tests and its driver, if they are missing and
//! no password is needed. Never fails the build: these tests are skipped without them, unless their
//! environment variable is set.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::step;

/// The packages of the driver, and their versions.
const PACKAGES: [&str; 2] = ["package.json", "package-lock.json"];
/// A copy of the lock file, written after the installation.
const STAMP: &str = "installed.json";
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The environment variable that makes a missing browser an error of the tests.
pub const REQUIRED: &str = "ISOPOD_REQUIRE_BROWSER";

/// Installs what is missing. Returns whether the browser tests can run, and prints why not.
pub fn prepare() -> bool {
    let installed = installed();
    if let Err(error) = &installed {
        println!("         -- browser: {error:#}; the browser tests of the dashboard are skipped");
    }
    installed.is_ok()
}

fn installed() -> Result<()> {
    if !CHROMIUM.iter().any(|program| answers(program)) {
        install("chromium", "the headless browser")?;
    }
    if !answers("npm") || !answers("node") {
        install("npm", "Node.js with npm")?;
    }
    let (from, to) = (step::root().join("tests/browser"), step::root().join("target/browser"));
    if is_current(&from, &to) {
        return Ok(());
    }
    step::announce("installing the driver of the browser tests");
    // Its stamp is removed first.
    let _ = fs::remove_file(to.join(STAMP));
    fs::create_dir_all(&to).context("cannot create target/browser")?;
    for file in PACKAGES {
        fs::copy(from.join(file), to.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    // Without a network, one attempt shows it.
    npm.args(["--prefer-offline", "--fetch-retries=0"]).current_dir(&to);
    step::run_quietly(&mut npm, "npm needs its registry once; try again with a network")?;
    fs::copy(from.join(PACKAGES[1]), to.join(STAMP)).map(drop).context("cannot write target/browser")
}

/// Returns whether the installed packages are those of the lock file. An interrupted installation
/// leaves no stamp.
fn is_current(from: &Path, to: &Path) -> bool {
    let read = |file: &Path| fs::read(file).ok();
    read(&to.join(STAMP)).is_some_and(|installed| read(&from.join(PACKAGES[1])) == Some(installed))
}

pub(crate) fn answers(program: &str) -> bool {
    step::succeeds(Command::new(program).arg("--version"))
}

/// Installs a package of Debian as root.
pub(crate) fn install(package: &str, what: &str) -> Result<()> {
    let quick = "-o Acquire::Retries=0 -o Acquire::http::Timeout=10";
    let install = format!("apt-get {quick} update && apt-get {quick} install -y --no-install-recommends {package}");
    let as_root = "[ \"$(id -u)\" = 0 ] && command -v apt-get";
    if !step::succeeds(Command::new("sh").args(["-c", as_root])) {
        let ubuntu = if package == CHROMIUM[0] { "; on Ubuntu, install Google Chrome" } else { "" };
        bail!("{what} is missing\n            Debian: sudo apt-get install {package}{ubuntu}");
    }
    step::announce(&format!("installing {what}"));
    step::run_quietly(Command::new("sh").args(["-c", &install]), "install it by hand and try again")
}
