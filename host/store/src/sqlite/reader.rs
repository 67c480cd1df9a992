//! The connections that read `control.db`, and their threads. A connection is opened when it is
//! first needed. Reads see every acknowledged commit, and never wait for the writer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::rows::{Sql, connect};
use crate::StoreError;
use crate::limits::{READERS_MAX, READS_WAITING_MAX};
use crate::workers::Workers;

/// A bounded set of connections.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    free: Arc<Mutex<Vec<Connection>>>,
    workers: Workers,
}

impl Readers {
    pub(crate) fn start(path: &Path) -> Result<Self, StoreError> {
        let workers = Workers::start("isopod-read", READERS_MAX, READS_WAITING_MAX, path)?;
        Ok(Self { path: path.to_owned(), free: Arc::default(), workers })
    }

    /// Runs the job on a reader thread, with a connection of its own.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (path, free) = (self.path.clone(), self.free.clone());
        let read = move || {
            let taken = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match taken {
                Some(connection) => connection,
                None => open(&path)?,
            };
            let outcome = job(&connection).map_err(|error| error.explain(&path));
            free.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            outcome
        };
        self.workers.run(read).await
    }
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, None)?;
    connection.pragma_update(None, "query_only", "ON").map_err(|error| StoreError::sqlite(path, &error))?;
    Ok(connection)
}
