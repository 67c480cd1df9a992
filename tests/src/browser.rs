//! Owns the headless browser of the dashboard's tests: finds it and its driver, and runs a fact.
//! Never installs them; `cargo xtask setup` does.

use crate::{
    Host,
    guests::repository,
    optional::{on_path, skip},
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The names of the browser's program.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The environment variable that makes a missing browser an error, for machines that must run
/// these tests.
const REQUIRED: &str = "ISOPOD_REQUIRE_BROWSER";

/// One browser test runs at a time, with its host and load: several would compete for the
/// processors, and each step has a timeout.
static RUNNING: Mutex<()> = Mutex::new(());

/// A browser with its driver, for one test.
pub struct Browser {
    _running: MutexGuard<'static, ()>,
    program: PathBuf,
    /// The folder with the packages of the driver.
    modules: PathBuf,
}

impl Browser {
    /// Waits until no other test uses the browser of this machine, and returns it. Prints a note if
    /// a part is missing.
    ///
    /// # Panics
    /// If something is missing, and `ISOPOD_REQUIRE_BROWSER` is set.
    pub fn find() -> Option<Self> {
        let modules = repository().join("target").join("browser");
        let program = PROGRAMS.into_iter().find_map(on_path);
        let missing = match program {
            None => "Chromium",
            Some(_) if on_path("node").is_none() => "Node.js",
            Some(_) if !modules.join("node_modules").is_dir() => "the driver of Chromium",
            Some(program) => {
                let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
                return Some(Self { _running: running, program, modules });
            }
        };
        skip(missing, REQUIRED);
        None
    }

    /// Runs a fact of `tests/browser` against a host.
    ///
    /// # Panics
    /// If the fact doesn't hold.
    #[track_caller]
    pub fn check(&self, fact: &str, host: &Host) {
        self.check_at(fact, host.admin, &host.token);
    }

    /// Runs a fact of `tests/browser` against a host at another address, such as that of a proxy.
    ///
    /// # Panics
    /// If the fact doesn't hold.
    #[track_caller]
    pub fn check_at(&self, fact: &str, admin: SocketAddr, token: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser").join("run.mjs");
        let mut command = Command::new("node");
        command.arg(script).arg(fact).env("BROWSER", &self.program).env("MODULES", &self.modules);
        command.env("ADMIN", format!("http://{admin}")).env("TOKEN", token);
        let output = command.output().expect("Node.js can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{fact}: {said}{}", String::from_utf8_lossy(&output.stdout));
    }
}
