//! The connections that read `control.db`, and their threads. Reads see every acknowledged commit,
//! and never wait for the writer. Never opens a file that replaced the database.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use crate::StoreError;
use crate::control_file::ControlFile;
use crate::limits::{READER_CACHE_BYTES, READERS_MAX, READS_WAITING_MAX};
use crate::sql::{Sql, connect};
use crate::workers::Workers;

/// A bounded set of connections.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    file: Arc<ControlFile>,
    free: Arc<Mutex<Vec<Connection>>>,
    workers: Workers,
}

impl Readers {
    /// Opens all connections immediately, so that reads continue if the file is removed.
    pub(crate) fn start(path: &Path, file: Arc<ControlFile>) -> Result<Self, StoreError> {
        let workers = Workers::start("isopod-read", READERS_MAX, READS_WAITING_MAX, path)?;
        let free = (0..READERS_MAX).map(|_| open(path)).collect::<Result<_, _>>()?;
        Ok(Self { path: path.to_owned(), file, free: Arc::new(Mutex::new(free)), workers })
    }

    /// Runs the job on a reader thread, with exclusive use of a connection.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (path, file, free) = (self.path.clone(), Arc::clone(&self.file), self.free.clone());
        let read = move || {
            let taken = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match taken {
                Some(connection) => connection,
                // A panic has closed a connection.
                None => reopen(&path, &file)?,
            };
            let outcome = job(&connection).map_err(|error| error.explain(&path));
            free.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            outcome
        };
        self.workers.run(read).await
    }
}

fn reopen(path: &Path, file: &ControlFile) -> Result<Connection, StoreError> {
    match file.change()? {
        None => open(path),
        Some(change) => Err(StoreError::ControlChanged { path: path.to_owned(), change, saved: None }),
    }
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, None)?;
    let set_up = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "query_only", "ON")?;
        // A negative size is in KiB.
        connection.pragma_update(None, "cache_size", -(READER_CACHE_BYTES >> 10))
    };
    set_up().map_err(|error| StoreError::sqlite(path, &error))?;
    Ok(connection)
}
