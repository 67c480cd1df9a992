//! The control store in SQLite. Owns `control.db`: one thread writes, several connections read. What is asked of it
//! stands in `control.rs`, the statements in one file per kind of row.

mod activity;
mod apps;
mod control;
mod pushes;
mod reader;
mod releases;
mod rows;
mod schedules;
mod schema;
mod tokens;
mod usage;
mod writer;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use isopod_policy::AppName;
use rusqlite::Connection;

pub(crate) use self::rows::{Sql, SqlError, all, connect, first};
use self::{reader::Readers, writer::Writer};
use crate::{Digest, StoreError};

/// An open `control.db`.
#[derive(Debug)]
pub(crate) struct Sqlite {
    path: PathBuf,
    writer: Writer,
    readers: Readers,
}

impl Sqlite {
    /// Opens or makes the database and brings it to the present format.
    pub(crate) fn open(path: &Path, pages_max: Option<u32>) -> Result<Self, StoreError> {
        let explain = |error: SqlError| error.explain(path);
        let mut connection = connect(path, pages_max)?;
        schema::migrate(&mut connection).map_err(explain)?;
        let writer = Writer::start(path.to_owned(), connection)?;
        Ok(Self { path: path.to_owned(), writer, readers: Readers::start(path)? })
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(job).await
    }

    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.read(job).await
    }

    /// The names of all apps, read at once while the store is being opened.
    pub(crate) fn app_names(&self) -> Result<Vec<AppName>, StoreError> {
        let connection = connect(&self.path, None)?;
        apps::names(&connection).map_err(|error| error.explain(&self.path))
    }

    /// The id of the data folder that the database belongs to; `None` before one is assigned.
    pub(crate) fn folder_id(&self) -> Result<Option<String>, StoreError> {
        let connection = connect(&self.path, None)?;
        first(&connection, "SELECT id FROM data_folder", [], |row| Ok(row.get(0)?)).map_err(|e| e.explain(&self.path))
    }

    /// Gives the database the id of its data folder and the blobs that it is taken to have put, and returns the id.
    pub(crate) fn set_folder_id(&self, id: String, blobs: &[Digest]) -> Result<String, StoreError> {
        let mut connection = connect(&self.path, None)?;
        let store = |connection: &mut Connection| -> Sql<()> {
            let transaction = connection.transaction()?;
            transaction.execute("INSERT INTO data_folder (id) VALUES (?1)", [&id])?;
            remember_blobs(&transaction, blobs)?;
            Ok(transaction.commit()?)
        };
        store(&mut connection).map_err(|error| error.explain(&self.path))?;
        Ok(id)
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

    /// The blobs that this database has put and not removed.
    pub(crate) async fn blobs_put(&self) -> Result<HashSet<Digest>, StoreError> {
        let read = |connection: &Connection| {
            all(connection, "SELECT digest FROM blobs", [], |row| rows::parsed::<Digest>(row, "digest"))
        };
        Ok(self.read(read).await?.into_iter().collect())
    }

    /// The digests of all bundles that a release, or a push that is not done, names.
    pub(crate) async fn bundles_in_use(&self) -> Result<HashSet<Digest>, StoreError> {
        self.read(releases::bundles_in_use).await
    }
}

fn remember_blobs(connection: &Connection, digests: &[Digest]) -> Sql<()> {
    let mut statement = connection.prepare_cached("INSERT OR IGNORE INTO blobs (digest) VALUES (?1)")?;
    digests.iter().try_for_each(|digest| statement.execute([digest.as_str()]).map(drop))?;
    Ok(())
}
