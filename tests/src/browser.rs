//! Owns the headless browser of the dashboard's tests: finds it and its driver, and runs a fact.
//! Never installs them; `cargo xtask setup` does.

use crate::{Host, guests::repository};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

/// The names of the browser's program.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// One browser runs at a time: several would compete for the processors, and each step has a
/// timeout.
static RUNNING: Mutex<()> = Mutex::new(());

/// A browser with its driver.
pub struct Browser {
    program: PathBuf,
    /// The folder with the packages of the driver.
    modules: PathBuf,
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

impl Browser {
    /// Returns the browser of this machine. Prints a note if it, Node.js or the driver is missing.
    pub fn find() -> Option<Self> {
        let modules = repository().join("target").join("browser");
        let program = PROGRAMS.into_iter().find_map(on_path);
        let missing = match &program {
            None => "Chromium is",
            Some(_) if on_path("node").is_none() => "Node.js is",
            Some(_) if !modules.join("node_modules").is_dir() => "its driver is",
            Some(_) => return program.map(|program| Self { program, modules }),
        };
        println!("note: skipped, since {missing} missing: `cargo xtask setup` installs it, or prints why it can't");
        None
    }

    /// Runs a fact of `tests/browser/facts.mjs` against a host.
    ///
    /// # Panics
    /// If the fact doesn't hold.
    #[track_caller]
    pub fn check(&self, fact: &str, host: &Host) {
        self.check_at(fact, host.admin, &host.token);
    }

    /// Runs a fact of `tests/browser/facts.mjs` against a host at another address, such as that of
    /// a proxy.
    ///
    /// # Panics
    /// If the fact doesn't hold.
    #[track_caller]
    pub fn check_at(&self, fact: &str, admin: SocketAddr, token: &str) {
        let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser").join("run.mjs");
        let mut command = Command::new("node");
        command.arg(script).arg(fact).env("BROWSER", &self.program).env("MODULES", &self.modules);
        command.env("ADMIN", format!("http://{admin}")).env("TOKEN", token);
        let output = command.output().expect("Node.js can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{fact}: {said}{}", String::from_utf8_lossy(&output.stdout));
    }
}
