//! Tracks the health of the apps' databases in this run of the host: whether a database was
//! checked, may be damaged, could not be replaced, or fails. Never reads a file.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use isopod_policy::AppName;

use crate::StoreError;
use crate::limits::{DISK_FULL_BYTES, RESCUE_RETRY_AFTER};
use crate::probe::free_bytes;

/// The finding about a database that may be damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspicion {
    pub(super) detail: String,
    /// Whether changes in the journal are lost. The database itself doesn't show this.
    pub(super) is_of_journal: bool,
}

/// The kinds of calls. Each can fail while the other succeeds: a full disk refuses only writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Call {
    Read,
    Write,
}

/// The health of all databases. An app without an entry has had no call yet.
#[derive(Debug, Default)]
pub(crate) struct Health {
    apps: Mutex<Known>,
    /// Whether any database may be damaged. While it is false, calls skip the lock. Changed only
    /// under the lock.
    has_suspects: AtomicBool,
    /// Whether calls of any database fail. While it is false, successful calls skip the lock.
    /// Changed only under the lock.
    has_failing: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    /// Apps whose journal was checked: the host may have written it since.
    journals_checked: HashSet<AppName>,
    /// Apps whose database was checked completely.
    checked: HashSet<AppName>,
    /// Apps whose database may be damaged.
    suspects: HashMap<AppName, Suspicion>,
    /// Apps whose damaged database could not be replaced, with the time of the attempt.
    refused: HashMap<AppName, (StoreError, Instant)>,
    /// Apps whose suspected file was intact, with the time at which that was found.
    intact: HashMap<AppName, Instant>,
    /// Apps whose database can't be used, with the last error and its time.
    unusable: HashMap<AppName, (StoreError, Instant)>,
    /// Apps whose last call of a kind failed because of the disk or the file, with the error and
    /// its time.
    failing: HashMap<(AppName, Call), (StoreError, Instant)>,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_journal_checked(&self, app: &AppName) -> bool {
        self.lock().journals_checked.contains(app)
    }

    pub(super) fn set_journal_checked(&self, app: &AppName) {
        self.lock().journals_checked.insert(app.clone());
    }

    pub(super) fn is_checked(&self, app: &AppName) -> bool {
        self.lock().checked.contains(app)
    }

    pub(super) fn set_checked(&self, app: &AppName) {
        self.lock().checked.insert(app.clone());
    }

    /// Records that a database may be damaged.
    pub(super) fn suspect(&self, app: &AppName, detail: &str) {
        let mut known = self.lock();
        let is_intact = known.intact.get(app).is_some_and(|at| at.elapsed() < RESCUE_RETRY_AFTER);
        if !is_intact {
            let suspicion = Suspicion { detail: detail.to_owned(), is_of_journal: false };
            known.suspects.entry(app.clone()).or_insert(suspicion);
            self.has_suspects.store(true, Ordering::SeqCst);
        }
    }

    /// Records that changes in the journal of a database are lost.
    pub(super) fn suspect_journal(&self, app: &AppName, detail: &str) {
        let suspicion = Suspicion { detail: detail.to_owned(), is_of_journal: true };
        let mut known = self.lock();
        known.suspects.insert(app.clone(), suspicion);
        self.has_suspects.store(true, Ordering::SeqCst);
    }

    /// Returns the finding about a database that may be damaged. `None` while its replacement is
    /// refused.
    pub(super) fn suspicion(&self, app: &AppName) -> Option<Suspicion> {
        if !self.has_suspects.load(Ordering::SeqCst) {
            return None;
        }
        let known = self.lock();
        let is_refused = known.refused.get(app).is_some_and(|(_, at)| at.elapsed() < RESCUE_RETRY_AFTER);
        if is_refused { None } else { known.suspects.get(app).cloned() }
    }

    /// Returns the error of all calls of an app whose damaged database could not be replaced.
    pub(super) fn refusal(&self, app: &AppName) -> Option<StoreError> {
        let known = self.lock();
        known.refused.get(app).filter(|_| known.suspects.contains_key(app)).map(|(error, _)| error.clone())
    }

    /// Records whether an app's database could be opened. Ignores damage, after which the host
    /// first tries to replace the file.
    pub(super) fn note_opened(&self, app: &AppName, opened: Result<(), &StoreError>) {
        match opened {
            Ok(()) => drop(self.lock().unusable.remove(app)),
            Err(StoreError::Damaged { .. }) => {}
            Err(error) => self.note_unusable(app, error),
        }
    }

    /// Records that an app's database can't be used, unless the error affects the whole disk or the
    /// store is being closed.
    fn note_unusable(&self, app: &AppName, error: &StoreError) {
        if !error.is_of_unwritable_disk() && *error != StoreError::Closed {
            self.lock().unusable.insert(app.clone(), (error.clone(), Instant::now()));
        }
    }

    /// Records that a call of an app's database failed. Ignores errors that say nothing about the
    /// disk or the file.
    pub(super) fn note_failed(&self, app: &AppName, call: Call, error: &StoreError) {
        if error.is_of_unwritable_disk() || matches!(error, StoreError::File { .. }) {
            let mut known = self.lock();
            known.failing.insert((app.clone(), call), (error.clone(), Instant::now()));
            self.has_failing.store(true, Ordering::SeqCst);
        }
    }

    /// Records that a call of an app's database succeeded. On a full disk, such a call may have
    /// needed no space, so the error remains.
    pub(super) fn note_succeeded(&self, app: &AppName, call: Call) {
        if self.has_failing.load(Ordering::SeqCst) {
            let mut known = self.lock();
            let key = (app.clone(), call);
            if known.failing.get(&key).is_some_and(|(error, _)| !is_of_full_disk_now(error)) {
                known.failing.remove(&key);
                self.has_failing.store(!known.failing.is_empty(), Ordering::SeqCst);
            }
        }
    }

    /// Returns why an app's database can't be used. A transient error is returned only for a
    /// limited time or while the disk is full, since only the next call shows whether it persists.
    pub(crate) fn unusable(&self, app: &AppName) -> Option<StoreError> {
        let known = self.lock();
        let of_calls = [Call::Write, Call::Read].map(|call| known.failing.get(&(app.clone(), call)));
        let mut found = known.unusable.get(app).into_iter().chain(of_calls.into_iter().flatten());
        let is_present = |(error, at): &&(StoreError, Instant)| {
            !error.is_passing() || at.elapsed() < RESCUE_RETRY_AFTER || is_of_full_disk_now(error)
        };
        found.find(is_present).map(|(error, _)| error.clone())
    }

    pub(super) fn refuse(&self, app: &AppName, error: StoreError) {
        self.note_unusable(app, &error);
        self.lock().refused.insert(app.clone(), (error, Instant::now()));
    }

    /// Records that a suspected file is intact. Further errors make it suspect again only after
    /// [`RESCUE_RETRY_AFTER`], since each suspicion reads the whole file.
    pub(super) fn set_intact(&self, app: &AppName) {
        let mut known = self.lock();
        self.clear(&mut known, app);
        known.intact.insert(app.clone(), Instant::now());
        known.checked.insert(app.clone());
    }

    /// Records that a new database has replaced the damaged one.
    pub(super) fn set_replaced(&self, app: &AppName) {
        let mut known = self.lock();
        self.clear(&mut known, app);
        known.journals_checked.insert(app.clone());
        known.checked.insert(app.clone());
    }

    /// Removes a destroyed app.
    pub(super) fn forget(&self, app: &AppName) {
        let mut known = self.lock();
        self.clear(&mut known, app);
        known.journals_checked.remove(app);
        known.checked.remove(app);
        known.intact.remove(app);
    }

    /// Removes the suspicion that an app's database is damaged, and the error of a failed
    /// replacement.
    fn clear(&self, known: &mut Known, app: &AppName) {
        known.suspects.remove(app);
        known.refused.remove(app);
        known.unusable.remove(app);
        known.failing.retain(|(of, _), _| of != app);
        self.has_failing.store(!known.failing.is_empty(), Ordering::SeqCst);
        self.has_suspects.store(!known.suspects.is_empty(), Ordering::SeqCst);
    }
}

/// Returns whether the error reports a full disk that still has hardly any space.
fn is_of_full_disk_now(error: &StoreError) -> bool {
    let StoreError::DiskFull { folder } = error else { return false };
    free_bytes(folder).is_some_and(|free| free < DISK_FULL_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_unusable_while_its_last_call_of_a_kind_failed_because_of_the_disk() {
        let health = Health::default();
        let app: AppName = "one".parse().expect("the name is valid");
        let error = StoreError::DiskFailed { detail: "kv.db".to_owned() };
        health.note_failed(&app, Call::Write, &error);
        health.note_succeeded(&app, Call::Read);
        assert_eq!(health.unusable(&app), Some(error.clone()), "a read shows nothing about writes");
        health.note_succeeded(&app, Call::Write);
        assert_eq!(health.unusable(&app), None);
        health.note_failed(&app, Call::Read, &StoreError::EventQueueFull);
        assert_eq!(health.unusable(&app), None, "the disk did not fail");
        health.note_failed(&app, Call::Read, &error);
        health.forget(&app);
        assert_eq!(health.unusable(&app), None);
        assert!(!health.has_failing.load(Ordering::SeqCst), "calls skip the lock again");
    }

    #[test]
    fn calls_skip_the_lock_while_no_database_is_suspect() {
        let health = Health::default();
        let has_suspects = || health.has_suspects.load(Ordering::SeqCst);
        let [one, other] = ["one", "other"].map(|name| name.parse::<AppName>().expect("the name is valid"));
        assert!(!has_suspects());
        health.suspect(&one, "a page");
        health.suspect_journal(&other, "a journal");
        health.set_intact(&one);
        assert!(has_suspects(), "the other one is suspect");
        health.set_replaced(&other);
        assert!(!has_suspects());
        health.suspect(&other, "a page");
        health.forget(&other);
        assert!(!has_suspects());
    }
}
