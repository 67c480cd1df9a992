//! The record of app data: each app's key-value database and granted folders, recorded in
//! `control.db` once they exist, so that a loss is detected. Reports each loss once. Never deletes
//! anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use isopod_policy::AppName;
use rusqlite::{Connection, params};
use tokio::sync::mpsc;

use crate::StoreError;
use crate::app_folders::AppFolders;
use crate::files::{names, private_folder};
use crate::limits::LOSSES_WAITING_MAX;
use crate::loss::{KEY_VALUE, Loss, LostData, Rescued};
use crate::sql::{Sql, all};
use crate::sqlite::Sqlite;

/// The folder of an app's granted folders, in the app's folder.
const FILES: &str = "files";

/// The recorded data by app: paths relative to the app's folder.
pub(crate) type Recorded = BTreeMap<AppName, BTreeSet<String>>;

/// The record of app data. Shared by the store and the key-value databases.
#[derive(Debug)]
pub(crate) struct DataRecord {
    folders: AppFolders,
    known: Mutex<Recorded>,
    /// Apps for which a damaged database was reported.
    damaged: Mutex<BTreeSet<AppName>>,
    /// Closed before the key-value databases; data that isn't recorded by then is recorded by the
    /// next start.
    control: Weak<Sqlite>,
    losses: mpsc::Sender<LostData>,
}

impl DataRecord {
    /// Creates the record with the content of `control.db`, and returns the channel that receives
    /// losses.
    pub(crate) fn new(folders: AppFolders, known: Recorded, control: Weak<Sqlite>) -> (Self, mpsc::Receiver<LostData>) {
        let (losses, waiting) = mpsc::channel(LOSSES_WAITING_MAX);
        let (known, damaged) = (Mutex::new(known), Mutex::default());
        (Self { folders, known, damaged, control, losses }, waiting)
    }

    fn known(&self) -> MutexGuard<'_, Recorded> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damaged(&self) -> MutexGuard<'_, BTreeSet<AppName>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the app's key-value database is recorded.
    pub(crate) fn has_database(&self, app: &AppName) -> bool {
        self.known().get(app).is_some_and(|paths| paths.contains(KEY_VALUE))
    }

    /// Records existing data of the app. Blocks.
    pub(crate) fn note(&self, app: &AppName, path: &str) {
        if !self.known().entry(app.clone()).or_default().insert(path.to_owned()) {
            return;
        }
        let (app, path) = (app.clone(), path.to_owned());
        self.write(move |connection| note(connection, &app, &path));
    }

    /// Reports the loss of the app's key-value database if it was recorded and is missing or empty,
    /// and removes it from the record: the app is about to get a new database. Blocks.
    pub(crate) fn report_lost_database(&self, app: &AppName, saved: Option<PathBuf>) {
        let path = self.folders.folder(app).join(KEY_VALUE);
        let Some(loss) = loss_of(&path) else { return };
        if self.known().get_mut(app).is_some_and(|paths| paths.remove(KEY_VALUE)) {
            self.forget_database(app);
            self.report(LostData { app: app.clone(), path, loss, saved });
        }
    }

    /// Reports that another file has replaced the app's key-value database.
    pub(crate) fn report_replaced_database(&self, app: &AppName, saved: Option<PathBuf>) {
        let path = self.folders.folder(app).join(KEY_VALUE);
        self.report(LostData { app: app.clone(), path, loss: Loss::Replaced, saved });
    }

    /// Reports that the app's key-value database is damaged, once per run of the host.
    pub(crate) fn report_damaged_database(&self, app: &AppName, detail: &str) {
        if self.damaged().insert(app.clone()) {
            let path = self.folders.folder(app).join(KEY_VALUE);
            let loss = Loss::Damaged { detail: detail.to_owned(), rescued: None };
            self.report(LostData { app: app.clone(), path, loss, saved: None });
        }
    }

    /// Reports that a new database has replaced the app's damaged one, which was moved to `saved`.
    pub(crate) fn report_rescued_database(&self, app: &AppName, detail: &str, saved: PathBuf, rescued: Rescued) {
        let path = self.folders.folder(app).join(KEY_VALUE);
        let loss = Loss::Damaged { detail: detail.to_owned(), rescued: Some(rescued) };
        self.report(LostData { app: app.clone(), path, loss, saved: Some(saved) });
        self.note_repaired(app);
    }

    /// Records that the app's key-value database is not damaged: later damage is reported again.
    pub(crate) fn note_repaired(&self, app: &AppName) {
        self.damaged().remove(app);
    }

    fn forget_database(&self, app: &AppName) {
        let app = app.clone();
        self.write(move |connection| {
            let mut statement = connection.prepare_cached("DELETE FROM kept WHERE app = ?1 AND path = ?2")?;
            statement.execute([app.as_str(), KEY_VALUE])?;
            Ok(())
        });
    }

    /// Removes a destroyed app from the record in memory. Its rows were deleted with the app's.
    pub(crate) fn forget(&self, app: &AppName) {
        self.known().remove(app);
        self.damaged().remove(app);
    }

    /// Reports losses since the last check. Lost granted folders are created again. Blocks.
    pub(crate) fn look(&self) {
        let apps: Vec<AppName> = self.known().keys().cloned().collect();
        for app in apps {
            self.report_lost_database(&app, None);
            self.make_lost_folders(&app);
        }
    }

    /// Reports the app's missing granted folders, and creates them again.
    fn make_lost_folders(&self, app: &AppName) {
        // Locked until then, so that a folder of a destroyed app isn't created again.
        let mut known = self.known();
        let lost = lost_folders(&self.folders, app, known.get(app));
        // If a folder can't be created, the next instance that needs it reports the reason.
        if lost.iter().any(|found| private_folder(&found.path).is_err()) {
            known.remove(app);
        }
        drop(known);
        lost.into_iter().for_each(|found| self.report(found));
    }

    /// Creates a granted folder unless it exists, and records it. If it was recorded and is
    /// missing, the loss is reported first. Blocks.
    pub(crate) fn make_granted_folder(&self, app: &AppName, name: &str) -> Result<PathBuf, StoreError> {
        self.make_lost_folders(app);
        let (path, name) = (self.folders.folder(app).join(granted_folder(name)), granted_folder(name));
        if is_no_folder(&path) {
            private_folder(&path)?;
        }
        self.note(app, &name);
        Ok(path)
    }

    fn report(&self, lost: LostData) {
        if let Err(error) = self.losses.try_send(lost) {
            let lost = error.into_inner();
            tracing::error!(app = %lost.app, path = %lost.path.display(), loss = ?lost.loss, "data of an app was lost");
        }
    }

    /// Writes to `control.db`. Ignores a failure: the next start records the existing data.
    fn write(&self, work: impl FnOnce(&Connection) -> Sql<()> + Send + 'static) {
        if let Some(control) = self.control.upgrade() {
            let _ = control.write_blocking(work);
        }
    }
}

fn note(connection: &Connection, app: &AppName, path: &str) -> Sql<()> {
    let sql = "INSERT OR IGNORE INTO kept (app, path) SELECT name, ?2 FROM apps WHERE name = ?1";
    connection.prepare_cached(sql)?.execute(params![app.as_str(), path])?;
    Ok(())
}

/// Returns the record in `control.db`.
pub(crate) fn recorded(connection: &Connection) -> Sql<Recorded> {
    let row = |row: &rusqlite::Row<'_>| {
        let app: String = row.get("app")?;
        Ok((app.parse::<AppName>().map_err(StoreError::damaged)?, row.get("path")?))
    };
    let mut paths = Recorded::new();
    for (app, path) in all(connection, "SELECT app, path FROM kept", [], row)? {
        paths.entry(app).or_default().insert(path);
    }
    Ok(paths)
}

/// Returns the data that the listed apps have in their folders now.
pub(crate) fn present(folders: &AppFolders, listed: &[AppName]) -> Recorded {
    let mut paths = Recorded::new();
    for app in listed {
        let folder = folders.folder(app);
        let granted = names(&folder.join(FILES)).unwrap_or_default();
        let granted = granted.iter().map(|name| granted_folder(name));
        let mut found: BTreeSet<String> = granted.filter(|path| !is_no_folder(&folder.join(path))).collect();
        if loss_of(&folder.join(KEY_VALUE)).is_none() {
            found.insert(KEY_VALUE.to_owned());
        }
        if !found.is_empty() {
            paths.insert(app.clone(), found);
        }
    }
    paths
}

/// Returns recorded data that is missing. Apps without a folder are reported separately.
pub(crate) fn lost(folders: &AppFolders, recorded: &Recorded, without_folder: &[AppName]) -> Vec<LostData> {
    let mut lost = Vec::new();
    for (app, paths) in recorded.iter().filter(|(app, _)| !without_folder.contains(app)) {
        let path = folders.folder(app).join(KEY_VALUE);
        if let Some(loss) = loss_of(&path).filter(|_| paths.contains(KEY_VALUE)) {
            lost.push(LostData { app: app.clone(), path, loss, saved: None });
        }
        lost.extend(lost_folders(folders, app, Some(paths)));
    }
    lost
}

/// Replaces the record in `control.db` by the existing data.
pub(crate) fn replace(connection: &mut Connection, present: &Recorded) -> Sql<()> {
    let transaction = connection.transaction()?;
    transaction.execute("DELETE FROM kept", [])?;
    for (app, paths) in present {
        paths.iter().try_for_each(|path| note(&transaction, app, path))?;
    }
    Ok(transaction.commit()?)
}

fn lost_folders(folders: &AppFolders, app: &AppName, paths: Option<&BTreeSet<String>>) -> Vec<LostData> {
    let granted = paths.into_iter().flatten().filter(|path| path.as_str() != KEY_VALUE);
    let paths = granted.map(|path| folders.folder(app).join(path)).filter(|path| is_no_folder(path));
    let lost = |path| LostData { app: app.clone(), path, loss: Loss::Missing, saved: None };
    paths.map(lost).take(LOSSES_WAITING_MAX).collect()
}

/// Returns a granted folder's path, relative to its app's folder.
pub(crate) fn granted_folder(name: &str) -> String {
    format!("{FILES}/{name}")
}

/// Returns whether the path is not a folder. A path that can't be inspected counts as a folder.
fn is_no_folder(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(found) => !found.is_dir(),
        Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// Returns how a database file was lost; `None` for a file with content, or one that can't be
/// inspected.
pub(crate) fn loss_of(path: &Path) -> Option<Loss> {
    match fs::metadata(path) {
        Ok(found) => (found.len() == 0).then_some(Loss::Emptied),
        Err(error) => (error.kind() == ErrorKind::NotFound).then_some(Loss::Missing),
    }
}
