//! The data folder as a whole. Owns the order in which its parts are opened. `control.rs` reads and
//! writes its records. Never works without the folder's lock.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use isopod_policy::AppName;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::mpsc;

use crate::app_database::{AppDatabases, finish_replacement};
use crate::app_folders::{AppFolders, FolderReport, MovedFolder};
use crate::blobs::{BLOBS, missing_blobs};
use crate::control_file::{self, CONTROL};
use crate::data_record::{self, DataRecord};
use crate::files::{blocking, exists, private_folder};
use crate::identity::{self, Evidence};
use crate::lock::FolderLock;
use crate::loss::LostData;
use crate::options::Options;
use crate::rescue::copy_rows;
use crate::reserve::Reserve;
use crate::sql::Sql;
use crate::sqlite::{Sqlite, app_names, bundles_in_use, folder_id};
use crate::{Blobs, Digest, Events, KvStore, Secrets, StoreError, SweptBlobs};

/// The data folder of a host: `control.db`, `control.session`, `data.id`, `blobs/`, `apps/`,
/// `lost+found/`, `secrets.key`, `disk.reserve` and `boot.id`. Cheap to clone.
///
/// Its methods must be called inside a Tokio runtime. Dropping the last clone completes all queued
/// writes first.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// The fields are dropped in this order, so that the lock is released last.
#[derive(Debug)]
struct Inner {
    sqlite: Arc<Sqlite>,
    blobs: Blobs,
    databases: AppDatabases,
    kv: KvStore,
    events: Events,
    record: Arc<DataRecord>,
    losses: tokio::sync::Mutex<mpsc::Receiver<LostData>>,
    /// The copy of the content of a changed `control.db`, if it was saved.
    saved: Mutex<Option<PathBuf>>,
    secrets: Secrets,
    folder: PathBuf,
    folders: AppFolders,
    reserve: Arc<Reserve>,
    report: FolderReport,
    _lock: FolderLock,
}

impl Store {
    /// Opens or creates the data folder. Blocks briefly; intended for the start of a host.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(folder, &Options::default())
    }

    /// Opens or creates the data folder like [`Store::open`], with options.
    pub fn open_with(folder: impl AsRef<Path>, options: &Options) -> Result<Self, StoreError> {
        let folder = folder.as_ref();
        private_folder(folder)?;
        let lock = FolderLock::take(folder)?;
        let folders = AppFolders::of(folder);
        let database = folder.join(CONTROL);
        // Checked before a database is created or opened, so that a refusal changes nothing.
        let leaves_journal = control_file::must_leave_journal(folder, options.adopt)?;
        let journal = if leaves_journal { leave_journal(folder, &folders)? } else { Vec::new() };
        if control_file::is_new(folder)? && !options.adopt {
            check(folder, &folders, None, &[])?;
        }
        let start = control_file::next_start(folder)?;
        let sqlite = Arc::new(Sqlite::open(&database, options.pages_max)?);
        let blobs = Blobs::open(&folder.join(BLOBS))?;
        let mut report = settle(folder, &folders, &sqlite, &blobs, options)?;
        report.journal = journal;
        finish_replacements(&folders)?;
        let (record, losses) = settle_record(&folders, &sqlite, &mut report)?;
        let named = sqlite.at_once(|connection| bundles_in_use(connection))?;
        report.missing_bundles = missing_blobs(folder, &named);
        begin(folder, &sqlite, start)?;
        let databases = AppDatabases::open_recording(folder, options, folders.clone(), Arc::clone(&record), copy_rows)?;
        let (kv, events) = (KvStore::of(databases.clone()), Events::of(databases.clone()));
        let secrets = Secrets::open(folder)?;
        let reserve = Arc::new(Reserve::open(folder));
        let (folder, losses, saved) = (folder.to_owned(), tokio::sync::Mutex::new(losses), Mutex::default());
        let inner = Inner {
            sqlite,
            blobs,
            databases,
            kv,
            events,
            record,
            losses,
            saved,
            secrets,
            folder,
            folders,
            reserve,
            report,
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits for the next loss of data that is detected while the host runs. Only one caller at a
    /// time.
    pub async fn next_loss(&self) -> Option<LostData> {
        self.inner.losses.lock().await.recv().await
    }

    /// Checks for app data that was removed while the host runs. [`Store::next_loss`] returns each
    /// loss. Closes the databases of apps without a call since the last check.
    pub async fn look_for_losses(&self) -> Result<(), StoreError> {
        let databases = self.inner.databases.clone();
        blocking(move || {
            databases.look_for_losses();
            Ok(())
        })
        .await
    }

    /// Creates an app's granted folder unless it exists, and records it. If it was recorded and is
    /// missing, the loss is reported first. Blocks; must not be called on a thread of a runtime.
    pub fn make_granted_folder(&self, app: &AppName, name: &str) -> Result<PathBuf, StoreError> {
        self.inner.record.make_granted_folder(app, name)
    }

    /// Returns the path of an app's granted folder.
    pub fn granted_folder(&self, app: &AppName, name: &str) -> PathBuf {
        self.app_folder(app).join(data_record::granted_folder(name))
    }

    /// Returns why an app's database can't be used, if the reason is known: a newer version has
    /// written it, it is damaged and can't be replaced, or the disk has made its last calls fail.
    pub fn app_data_error(&self, app: &AppName) -> Option<StoreError> {
        self.inner.databases.unusable(app)
    }

    /// Returns the error if `control.db` is not the file that was opened, or can't be read. Takes a
    /// few system calls.
    pub fn control_problem(&self) -> Option<StoreError> {
        let change = match self.sqlite().change() {
            Ok(change) => change?,
            Err(error) => return Some(error),
        };
        let saved = self.inner.saved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(StoreError::ControlChanged { path: self.folder().join(CONTROL), change, saved })
    }

    /// Saves the content of the open `control.db`, after its file was changed, to `lost+found/`.
    /// Saves it only once.
    pub async fn save_control(&self) -> Result<(), StoreError> {
        if self.inner.saved.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let folders = self.inner.folders.clone();
        let to = blocking(move || folders.lost_path(CONTROL)).await?;
        self.sqlite().save(to.clone()).await?;
        *self.inner.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
        Ok(())
    }

    /// Returns the result of checking the app folders when the data folder was opened.
    pub fn folder_report(&self) -> &FolderReport {
        &self.inner.report
    }

    pub(crate) fn folders(&self) -> &AppFolders {
        &self.inner.folders
    }

    pub(crate) fn sqlite(&self) -> &Sqlite {
        &self.inner.sqlite
    }

    /// Returns the content-addressed files.
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// Returns the digests of all bundles that a release or an unfinished push names. Neither these
    /// bundles nor files derived from them may be removed.
    pub async fn bundles_in_use(&self) -> Result<HashSet<Digest>, StoreError> {
        self.inner.sqlite.bundles_in_use().await
    }

    /// Stores the bytes as a blob, and records that this database put it.
    pub async fn put_blob(&self, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<Digest, StoreError> {
        let (bytes, digest) = blocking(move || {
            let digest = Digest::of(bytes.as_ref());
            Ok((bytes, digest))
        })
        .await?;
        // Recorded first, so that a crash leaves no blob that would seem to belong to another
        // database.
        self.inner.sqlite.remember_blobs(vec![digest]).await?;
        self.inner.blobs.put(bytes).await
    }

    /// Removes blobs that this database put, that are unused and that were not put again within
    /// `idle`. Unused blobs that it did not put are moved to `lost+found/`. Intended to be called
    /// regularly; `idle` must be longer than it takes to put a blob and record its use.
    pub async fn sweep_blobs(&self, idle: Duration) -> Result<SweptBlobs, StoreError> {
        let (put, in_use) = (self.inner.sqlite.blobs_put().await?, self.bundles_in_use().await?);
        let swept = self.inner.blobs.sweep(in_use, put, idle, self.inner.folders.lost_blobs()).await?;
        if !swept.removed.is_empty() {
            self.inner.sqlite.forget_blobs(swept.removed.clone()).await?;
        }
        Ok(swept)
    }

    /// Returns the key-value stores of apps.
    pub fn kv(&self) -> &KvStore {
        &self.inner.kv
    }

    /// Returns the event queues of apps.
    pub fn events(&self) -> &Events {
        &self.inner.events
    }

    /// Returns the key for sealing secrets among config vars.
    pub fn secrets(&self) -> &Secrets {
        &self.inner.secrets
    }

    /// Removes the folder of a deleted app with all data of its guests. Its key-value data must not
    /// be used afterwards. If the host ends before this completes, the next start completes it.
    pub async fn remove_data(&self, app: &AppName) -> Result<(), StoreError> {
        let (databases, reserve, app) = (self.inner.databases.clone(), Arc::clone(&self.inner.reserve), app.clone());
        blocking(move || {
            databases.remove_app(&app)?;
            reserve.restore();
            Ok(())
        })
        .await
    }

    /// Restores the disk space that is held in reserve, as far as the disk has space. Intended to
    /// be called regularly.
    pub async fn restore_reserve(&self) -> Result<(), StoreError> {
        let reserve = Arc::clone(&self.inner.reserve);
        blocking(move || {
            reserve.restore();
            Ok(())
        })
        .await
    }

    /// Writes to `control.db`, also on a full disk: for operations that free space or stop harm. A
    /// write that finds no space is repeated in the space that is held in reserve.
    pub(crate) async fn write_in_reserve<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Sql<T> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        let first = self.sqlite().write(work.clone()).await;
        if !first.as_ref().is_err_and(StoreError::is_of_full_disk) {
            return first;
        }
        let reserve = Arc::clone(&self.inner.reserve);
        blocking(move || reserve.release()).await?;
        let second = self.sqlite().write(work).await;
        self.restore_reserve().await?;
        second
    }

    /// Returns the path of the data folder.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Returns the folder of all of an app's data, which is removed together with the app. It may
    /// not exist yet.
    pub fn app_folder(&self, app: &AppName) -> PathBuf {
        self.inner.folders.folder(app)
    }
}

/// Refuses a database that doesn't match the folder.
pub(crate) fn check(
    folder: &Path,
    folders: &AppFolders,
    id: Option<&str>,
    listed: &[AppName],
) -> Result<(), StoreError> {
    let survey = folders.survey(listed, id.is_none())?;
    let in_file = identity::read(folder)?;
    let listed = listed.len();
    Evidence { folder, in_database: id, in_file: in_file.as_deref(), listed, survey: &survey }.check()
}

/// Checks that the database matches the folder, assigns both an id if they have none, and
/// reconciles the app folders with the database.
fn settle(
    folder: &Path,
    folders: &AppFolders,
    sqlite: &Sqlite,
    blobs: &Blobs,
    options: &Options,
) -> Result<FolderReport, StoreError> {
    let (id, listed) = sqlite.at_once(|connection| Ok((folder_id(connection)?, app_names(connection)?)))?;
    if !options.adopt {
        check(folder, folders, id.as_deref(), &listed)?;
    }
    let without_id = id.is_none();
    let in_file = identity::read(folder).or_else(|error| if options.adopt { Ok(None) } else { Err(error) })?;
    let id = match id {
        Some(id) => id,
        // The database first: a crash between the two leaves an id without a file, never a file
        // without an id. A version without ids recorded no blobs either. Blobs of a folder with an
        // id belong to another database.
        None => {
            let blobs = if in_file.is_none() { blobs.all()? } else { Vec::new() };
            sqlite.set_folder_id(in_file.clone().unwrap_or_else(identity::new_id), &blobs)?
        }
    };
    if in_file.as_ref() != Some(&id) {
        identity::write(folder, &id)?;
    }
    let survey = folders.survey(&listed, without_id)?;
    let mut report = folders.settle(survey, Timestamp::now())?;
    if without_id {
        // In an earlier version, apps may not have had a folder.
        report.missing.clear();
    }
    Ok(report)
}

/// Completes the replacement of damaged databases that the end of the host interrupted.
fn finish_replacements(folders: &AppFolders) -> Result<(), StoreError> {
    for app in folders.apps()? {
        match finish_replacement(folders, &app) {
            Ok(false) => {}
            Ok(true) => tracing::warn!(%app, "a damaged database was replaced; the damaged one is in lost+found"),
            Err(error) => tracing::warn!(%app, %error, "the replacement of a damaged database can't be completed"),
        }
    }
    Ok(())
}

/// Compares the record of app data with the app folders, and replaces it by the existing data. Each
/// loss is reported once.
fn settle_record(
    folders: &AppFolders,
    sqlite: &Arc<Sqlite>,
    report: &mut FolderReport,
) -> Result<(Arc<DataRecord>, mpsc::Receiver<LostData>), StoreError> {
    let (recorded, listed) =
        sqlite.at_once(|connection| Ok((data_record::recorded(connection)?, app_names(connection)?)))?;
    report.lost = data_record::lost(folders, &recorded, &report.missing);
    let present = data_record::present(folders, &listed);
    if present != recorded {
        recorded_unless_full(sqlite.at_once(|connection| data_record::replace(connection, &present)))?;
    }
    let (record, losses) = DataRecord::new(folders.clone(), present, Arc::downgrade(sqlite));
    Ok((Arc::new(record), losses))
}

/// Ties `control.db` and its journal together by the number of this start.
fn begin(folder: &Path, sqlite: &Sqlite, start: u32) -> Result<(), StoreError> {
    recorded_unless_full(sqlite.begin(start).and_then(|()| control_file::note_start(folder, start)))
}

/// Ignores a full disk, which must not prevent a start: the next start records it.
fn recorded_unless_full(outcome: Result<(), StoreError>) -> Result<(), StoreError> {
    outcome.or_else(|error| if error.is_of_full_disk() { Ok(()) } else { Err(error) })
}

/// Moves the journal of another `control.db` to `lost+found/`.
fn leave_journal(folder: &Path, folders: &AppFolders) -> Result<Vec<MovedFolder>, StoreError> {
    let mut moved = Vec::new();
    for from in control_file::journal(folder) {
        if !exists(&from)? {
            continue;
        }
        let name = from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let to = folders.move_aside(&from, &name, Timestamp::now())?;
        moved.push(MovedFolder { from, to });
    }
    Ok(moved)
}
