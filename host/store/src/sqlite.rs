//! The control store in SQLite. Owns `control.db`: one thread writes, several connections read. The
//! statements are in one file per kind of row. Never opens a file that replaced the database.

pub(crate) mod activity;
pub(crate) mod alerts;
pub(crate) mod apps;
pub(crate) mod drains;
pub(crate) mod hooks;
pub(crate) mod pushes;
mod reader;
pub(crate) mod releases;
pub(crate) mod schedules;
mod schema;
pub(crate) mod tokens;
pub(crate) mod usage;
mod writer;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use isopod_policy::AppName;
use rusqlite::{Connection, OpenFlags};

pub(crate) use self::schema::FORMAT;
use self::{reader::Readers, writer::Writer};
use crate::control_file::ControlFile;
use crate::error::Change;
use crate::files::private_file;
use crate::limits::LOCK_WAIT_MS_MAX;
use crate::sql::{Sql, SqlError, all, connect, first, parsed, save};
use crate::{Digest, StoreError};

/// An open `control.db`.
#[derive(Debug)]
pub(crate) struct Sqlite {
    path: PathBuf,
    readers: Readers,
    /// Its connection is closed last, which moves all changes into the file.
    writer: Writer,
    /// Closed after the connections.
    file: Arc<ControlFile>,
}

impl Sqlite {
    /// Opens or creates the database, and migrates it to the current format.
    pub(crate) fn open(path: &Path, pages_max: Option<u32>) -> Result<Self, StoreError> {
        let explain = |error: SqlError| error.explain(path);
        if !path.exists() {
            drop(private_file(path)?);
        }
        let file = Arc::new(ControlFile::of(path)?);
        let mut connection = connect(path, pages_max)?;
        schema::migrate(&mut connection).map_err(explain)?;
        let writer = Writer::start(path.to_owned(), connection, Arc::clone(&file))?;
        Ok(Self { path: path.to_owned(), writer, readers: Readers::start(path, Arc::clone(&file))?, file })
    }

    /// Writes the number of this start into the header of the file, and moves all changes from the
    /// journal into the file.
    pub(crate) fn begin(&self, start: u32) -> Result<(), StoreError> {
        let write = || -> rusqlite::Result<()> {
            let connection = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.busy_timeout(Duration::from_millis(LOCK_WAIT_MS_MAX.into()))?;
            self.file.expect(start);
            connection.pragma_update(None, "application_id", start)?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            // The header contains it now.
            self.file.expect(start);
            Ok(())
        };
        write().map_err(|error| StoreError::sqlite(&self.path, &error))
    }

    /// Returns how the file has changed since it was opened, if it has.
    pub(crate) fn change(&self) -> Result<Option<Change>, StoreError> {
        self.file.change()
    }

    /// Saves the current content to another file.
    pub(crate) async fn save(&self, to: PathBuf) -> Result<(), StoreError> {
        let save = move |connection: &Connection| {
            // The connection must be writable to write the copy.
            connection.pragma_update(None, "query_only", "OFF")?;
            let saved = save(connection, &to);
            connection.pragma_update(None, "query_only", "ON")?;
            saved
        };
        self.read(save).await
    }

    /// Writes like [`Sqlite::write`], on a thread outside of a runtime.
    pub(crate) fn write_blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write_blocking(job)
    }

    /// Runs the work immediately on a separate connection, while the store is being opened.
    pub(crate) fn at_once<T>(&self, work: impl FnOnce(&mut Connection) -> Sql<T>) -> Result<T, StoreError> {
        let mut connection = connect(&self.path, None)?;
        work(&mut connection).map_err(|error| error.explain(&self.path))
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(job).await
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.read(job).await
    }

    /// Assigns the data folder's id to the database, and records the blobs that it is assumed to
    /// have put. Returns the id.
    pub(crate) fn set_folder_id(&self, id: String, blobs: &[Digest]) -> Result<String, StoreError> {
        self.at_once(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute("INSERT INTO data_folder (id) VALUES (?1)", [&id])?;
            remember_blobs(&transaction, blobs)?;
            transaction.commit()?;
            Ok(id)
        })
    }

    /// Records that this database is about to put these blobs.
    pub(crate) async fn remember_blobs(&self, digests: Vec<Digest>) -> Result<(), StoreError> {
        self.write(move |connection| remember_blobs(connection, &digests)).await
    }

    pub(crate) async fn forget_blobs(&self, digests: Vec<Digest>) -> Result<(), StoreError> {
        let forget = move |connection: &Connection| {
            let mut statement = connection.prepare_cached("DELETE FROM blobs WHERE digest = ?1")?;
            digests.iter().try_for_each(|digest| statement.execute([digest.as_str()]).map(drop))?;
            Ok(())
        };
        self.write(forget).await
    }

    /// Returns the blobs that this database has put and not removed.
    pub(crate) async fn blobs_put(&self) -> Result<HashSet<Digest>, StoreError> {
        let read = |connection: &Connection| {
            all(connection, "SELECT digest FROM blobs", [], |row| parsed::<Digest>(row, "digest"))
        };
        Ok(self.read(read).await?.into_iter().collect())
    }

    /// Returns the digests of all bundles that a release or an unfinished push names.
    pub(crate) async fn bundles_in_use(&self) -> Result<HashSet<Digest>, StoreError> {
        self.read(bundles_in_use).await
    }
}

/// Returns the id of the data folder that the database belongs to; `None` before it is assigned.
pub(crate) fn folder_id(connection: &Connection) -> Sql<Option<String>> {
    first(connection, "SELECT id FROM data_folder", [], |row| Ok(row.get(0)?))
}

/// Returns the names of all apps.
pub(crate) fn app_names(connection: &Connection) -> Sql<Vec<AppName>> {
    apps::names(connection)
}

/// Returns the digests of all bundles that a release or an unfinished push names.
pub(crate) fn bundles_in_use(connection: &Connection) -> Sql<HashSet<Digest>> {
    releases::bundles_in_use(connection)
}

/// Returns the format of a database; 0 for an empty database.
pub(crate) fn format_of(connection: &Connection) -> Sql<i64> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn remember_blobs(connection: &Connection, digests: &[Digest]) -> Sql<()> {
    let mut statement = connection.prepare_cached("INSERT OR IGNORE INTO blobs (digest) VALUES (?1)")?;
    digests.iter().try_for_each(|digest| statement.execute([digest.as_str()]).map(drop))?;
    Ok(())
}
