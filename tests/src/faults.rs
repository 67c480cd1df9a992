//! Faults that a test injects into a host: disk errors, slow syncs, a shifted clock, and power
//! failures. The host is the unchanged program; a library that is preloaded into it injects them.
//! Never decides what a host must do about a fault.

use crate::program;
use isopod_faults::{
    BOOT_VARIABLE, CONTROL_VARIABLE, Control, DiskError, FOLDER_VARIABLE, JOURNAL_VARIABLE, Loss, Lost, keep_unsynced,
    lose_unsynced,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tempfile::TempDir;

/// The library, which Cargo builds into the folder of the tests.
const LIBRARY: &str = "libisopod_faults_preload.so";

/// The share of all calls, in calls per million.
const ALWAYS: u32 = 1_000_000;

/// The faults of one host; initially none.
pub struct Faults {
    folder: TempDir,
    control: Control,
    /// The number of simulated starts of the machine.
    boots: AtomicU32,
}

impl Faults {
    /// # Panics
    /// If the shared file can't be created.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("isopod-faults-").tempdir().expect("a folder can be made");
        let control = Control::map(&folder.path().join("control")).expect("the file can be mapped");
        let faults = Self { folder, control, boots: AtomicU32::new(0) };
        faults.boot();
        faults
    }

    /// Preloads the library into a host.
    ///
    /// # Panics
    /// If the library is missing.
    pub(crate) fn preload(&self, host: &mut Command, data: &Path) {
        let library = std::env::current_exe().expect("a running test has a file").with_file_name(LIBRARY);
        assert!(library.is_file(), "{} is missing: Cargo builds it before the tests", library.display());
        self.control.release();
        host.env("LD_PRELOAD", library).env(FOLDER_VARIABLE, data);
        host.env(CONTROL_VARIABLE, self.folder.path().join("control")).env(JOURNAL_VARIABLE, self.journal());
        host.env(BOOT_VARIABLE, self.boot_id());
    }

    /// Asserts that this process has loaded the library.
    #[track_caller]
    pub(crate) fn assert_loaded(&self, process: u32) {
        let program = program::path();
        assert_eq!(self.control.process(), process, "{} doesn't load {LIBRARY}", program.display());
    }

    /// Makes every call that the error affects fail.
    pub fn fail(&self, error: DiskError) {
        self.control.set_error(Some(error), ALWAYS, 0);
    }

    /// Makes a share of the calls that the error affects fail. The seed determines which calls.
    pub fn fail_some(&self, error: DiskError, per_million: u32, seed: u64) {
        self.control.set_error(Some(error), per_million, seed);
    }

    /// Ends the errors.
    pub fn end_errors(&self) {
        self.control.set_error(None, 0, 0);
    }

    /// Returns the number of calls that failed so far.
    pub fn failed(&self) -> u64 {
        self.control.failed()
    }

    /// Delays each sync of a file. Also affects syncs that are being delayed.
    pub fn delay_syncs(&self, delay: Duration) {
        self.control.set_sync_delay(Path::new(""), delay);
    }

    /// Delays each sync of an app's files, and no other sync.
    pub fn delay_syncs_of(&self, app: &str, delay: Duration) {
        self.control.set_sync_delay(&Path::new("apps").join(app), delay);
    }

    /// Returns the number of syncs that were delayed so far.
    pub fn delays(&self) -> u64 {
        self.control.delays()
    }

    /// Returns the number of syncs that are being delayed.
    pub fn delayed_syncs(&self) -> u64 {
        self.control.delayed_syncs()
    }

    /// Makes writes of the logs of apps wait until [`Faults::end_hanging_logs`].
    pub fn hang_logs(&self) {
        self.control.set_logs_hang(true);
    }

    /// Ends the wait of the writes of logs.
    pub fn end_hanging_logs(&self) {
        self.control.set_logs_hang(false);
    }

    /// Returns the number of writes of logs that wait.
    pub fn hanging_writes(&self) -> u64 {
        self.control.hanging_writes()
    }

    /// Sets the host's clock to this many hours after the clock of the machine.
    pub fn shift_clock_by_hours(&self, hours: i64) {
        self.control.set_clock_offset_s(hours * 3_600);
    }

    /// Undoes unsynced writes, if there is a loss, except in folders with the `spared` names. The
    /// host must have ended.
    ///
    /// # Panics
    /// If its files can't be written.
    #[track_caller]
    pub(crate) fn lose_unsynced(&self, data: &Path, loss: Option<Loss>, spared: &[&str]) -> Lost {
        let journal = self.journal();
        let lost = match loss {
            Some(loss) => {
                self.boot();
                lose_unsynced(&journal, data, loss, spared)
            }
            None => keep_unsynced(&journal).map(|()| Lost::default()),
        };
        lost.expect("the files of the host can be written")
    }

    /// Simulates a restart of the machine.
    fn boot(&self) {
        let boot = self.boots.fetch_add(1, Ordering::Relaxed);
        std::fs::write(self.boot_id(), format!("boot-{boot}\n")).expect("a file can be written");
    }

    fn boot_id(&self) -> PathBuf {
        self.folder.path().join("boot_id")
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }
}
